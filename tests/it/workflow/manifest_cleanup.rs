//! The second step over Azure Container Registry: manifests that were untagged long enough ago are deleted, with what
//! depends on them, or stay for a reason.

mod approval;
mod crash;
mod evidence;
mod faults;
mod races;
mod restore;

use std::collections::BTreeSet;

use jiff::SignedDuration;
use tagwarden::demo::image::{self, Platform, companion_tag};
use tagwarden::demo::registry::{Attributes, Content, Fault, FaultKind, Reference, Target};
use tagwarden::report::DeletionsView;

use super::*;

const THEN: &str = r#"policies:
  - name: candidates
    select: { tags: ["candidate-*"] }
    keep: [{ newest: 2 }]
    then: { delete_manifest: after 8d }
    mode: enforce
  - name: releases
    select: { tags: ["release-*"] }
    keep: all
"#;

/// The repository of everything here.
const REPOSITORY: &str = "shop/api";

/// An index and what depends on it.
struct ManifestTree {
    index: Image,
    sbom: Image,
    /// Of the SBOM.
    signature: Image,
    /// A signature of the first image in it.
    of_child: Image,
    /// By the name of its tag.
    cosign: Image,
}

impl ManifestTree {
    /// Their names for [`Walk::deleted`].
    fn names(&self) -> Vec<(&'static str, &Digest)> {
        let children = ["amd64", "arm64", "attest-amd64", "attest-arm64"];
        let others = [("sbom", &self.sbom), ("sbom-sig", &self.signature), ("child-sig", &self.of_child)];
        let children = children.into_iter().zip(self.index.children.iter().map(|child| &child.digest));
        let mut names: Vec<_> = others.into_iter().map(|(name, image)| (name, &image.digest)).chain(children).collect();
        names.extend([("index", &self.index.digest), ("cosign", &self.cosign.digest)]);
        names
    }
}

/// Pushes an index and of the images in it only those that are new: the others are not touched.
fn put_index(content: &mut Content, index: &Image) {
    for child in &index.children {
        if content.manifest(REPOSITORY, &child.digest).is_none() {
            content.put_image(REPOSITORY, None, child);
        }
    }
    let reference = Reference::Digest(index.digest.clone());
    content.put_manifest(REPOSITORY, &reference, index.media_type, index.bytes.clone()).unwrap();
}

/// Those outcomes, or `done`, of [`GOING`] and a family.
fn outcomes(family: Option<&ManifestTree>, others: &[(&str, &str)]) -> Vec<String> {
    let names: Vec<&str> = family.iter().flat_map(|family| family.names()).map(|(name, _)| name).collect();
    let label = |name: &&str| others.iter().find(|(other, _)| other == name).map_or("done", |(_, label)| label);
    let mut told: Vec<String> =
        EXPIRED_TAGS.iter().chain(&names).map(|name| format!("{name} {}", label(name))).collect();
    told.sort();
    told
}

impl WorkflowFixture {
    /// An enforcing Azure registry in which [`GOING`] were untagged, nine days ago.
    async fn untagged() -> Self {
        let walk = Self::azure(|options| options).await;
        walk.policies(THEN);
        walk.settings("enforce", "", "");
        let came = walk.enforce().await;
        assert_eq!((came.code, came.labels()), (0, vec!["done"; 4]), "{}", came.text);
        assert_eq!(WorkflowFixture::manifest_cleanup(&came).pending, 0, "nothing was untagged before");
        walk.advance_clock(9 * 24);
        walk
    }

    /// One run, and then the books: several runs make up what is missing.
    async fn enforce(&self) -> StepResult {
        let app = self.open().await.unwrap();
        let ended = app.run(&()).await;
        app.close().await;
        self.audit(None).await;
        StepResult::from_result(ended)
    }

    fn manifest_cleanup(came: &StepResult) -> DeletionsView {
        came.result.as_ref().unwrap_or_else(|| panic!("{}", came.text)).document.deletions.clone()
    }

    /// The same with candidate-0, an index with all that can depend on it.
    async fn with_family() -> (Self, ManifestTree) {
        let walk = Self::azure(|options| options).await;
        walk.policies(THEN);
        let family = walk.family("candidate-0");
        walk.settings("enforce", "", "");
        let came = walk.enforce().await;
        assert_eq!((came.code, came.labels()), (0, vec!["done"; 4]), "{}", came.text);
        walk.advance_clock(9 * 24);
        (walk, family)
    }

    /// Pushes an index with all that can depend on it, two hundred days ago.
    fn family(&self, tag: &str) -> ManifestTree {
        let layers = |platform: &Platform| vec![Blob::layer(&format!("{tag} {platform:?}"), 300)];
        let index = image::multi_arch(noon(), layers);
        let blob = || Blob::layer(tag, 10);
        let sbom = image::artifact("sbom", ("sbom.json", blob()), Some(&index), &[]);
        let signature = image::artifact("signature", ("sig", blob()), Some(&sbom), &[]);
        let of_child = image::artifact("signature", ("sig", blob()), Some(&index.children[0]), &[]);
        let cosign = image::signature(&index.digest, "contoso/shop/api");
        self.registry.content(|content| {
            content.put_image(REPOSITORY, Some(tag), &index);
            for artifact in [&sbom, &signature, &of_child] {
                content.put_image(REPOSITORY, None, artifact);
            }
            content.put_image(REPOSITORY, Some(&companion_tag(&index.digest, ".sig")), &cosign);
            let then = content.now() - SignedDuration::from_hours(24 * 200);
            assert!(content.date_tag(REPOSITORY, tag, then, then));
        });
        self.snapshot_tags();
        ManifestTree { index, sbom, signature, of_child, cosign }
    }

    /// Takes up tags that are new, and forgets none.
    fn snapshot_new_tags(&self) {
        let tags = self.tags();
        self.before.lock().unwrap().extend(tags);
    }

    fn manifests(&self) -> BTreeSet<Digest> {
        self.registry.content(|content| content.manifests(REPOSITORY).map(|(digest, _)| digest.clone()).collect())
    }

    /// What came of each manifest in a run, by the image's name and by the journal: both must say the same, and what is
    /// done must be missing.
    async fn deleted(&self, came: &StepResult, names: &[(&str, &Digest)]) -> Vec<String> {
        let ended = came.result.as_ref().unwrap_or_else(|| panic!("{}", came.text));
        let name = |digest: &Digest| {
            let tags = self.before.lock().unwrap();
            let tag = tags.iter().find(|(_, at)| *at == digest).map(|((_, tag), _)| tag.clone());
            let given = names.iter().find(|(_, known)| *known == digest).map(|(name, _)| (*name).to_owned());
            given.or(tag).unwrap_or_else(|| digest.to_string())
        };
        let label = |outcome: &Outcome| match outcome {
            Outcome::Skipped(skip) => skip.label().to_owned(),
            other => other.label().to_owned(),
        };
        let mut told: Vec<String> =
            ended.deleted.iter().map(|one| format!("{} {}", name(&one.digest), label(&one.outcome))).collect();
        told.sort();
        let there = self.manifests();
        let mut journaled = Vec::new();
        for entry in self.journal().await.iter().filter(|entry| entry.run == ended.run) {
            if entry.intent.action == Action::DeleteUntagged {
                // What is not known yet is told as failed.
                let open = Outcome::Failed(String::new());
                let outcome = entry.outcome.as_ref().map_or(&open, |(outcome, _)| outcome);
                journaled.push(format!("{} {}", name(&entry.intent.digest), label(outcome)));
                if matches!(outcome, Outcome::Done(_)) {
                    assert!(!there.contains(&entry.intent.digest), "journaled as deleted, and still there");
                }
            }
        }
        journaled.sort();
        assert_eq!(told, journaled);
        told
    }
}

#[tokio::test]
async fn what_was_untagged_goes_when_its_time_is_over() {
    let walk = WorkflowFixture::azure(|options| options).await;
    walk.policies(THEN);
    walk.settings("enforce", "", "");
    walk.enforce().await;
    let before = walk.manifests();
    walk.advance_clock(7 * 24);
    let early = walk.enforce().await;
    let waiting = WorkflowFixture::manifest_cleanup(&early);
    assert_eq!((early.code, waiting.pending, waiting.eligible.len()), (0, 4, 0), "{waiting:?}");
    assert_eq!(waiting.next_eligible_at, Some(noon() + SignedDuration::from_hours(8 * 24)));
    assert_eq!(walk.manifests(), before);

    walk.advance_clock(25);
    let dry = walk.plan().await;
    assert_eq!((dry.deletions.manifest_count(), walk.manifests()), (4, before.clone()), "a plan deletes nothing");
    let came = walk.enforce().await;
    let done: Vec<String> = EXPIRED_TAGS.iter().map(|tag| format!("{tag} done")).collect();
    assert_eq!((came.code, walk.deleted(&came, &[]).await), (0, done), "{}", came.text);
    let left: BTreeSet<Digest> = walk.tags().into_values().collect();
    assert_eq!(walk.manifests(), left, "what has a tag is what is left");

    let again = walk.enforce().await;
    assert!(WorkflowFixture::manifest_cleanup(&again).is_empty(), "{:?}", WorkflowFixture::manifest_cleanup(&again));
    walk.audit(None).await;
}

#[tokio::test]
async fn an_index_goes_with_its_images_and_what_refers_to_it() {
    let walk = WorkflowFixture::azure(|options| options).await;
    walk.policies(THEN);
    let layers = |platform: &Platform| vec![Blob::layer(&format!("{platform:?}"), 300)];
    let index = image::multi_arch(noon(), layers);
    let sbom = image::artifact("sbom", ("sbom.json", Blob::layer("sbom", 10)), Some(&index), &[]);
    let signature = image::artifact("signature", ("sig", Blob::layer("sig", 10)), Some(&sbom), &[]);
    let cosign = image::signature(&index.digest, "contoso/shop/api");
    walk.registry.content(|content| {
        content.put_image(REPOSITORY, Some("candidate-0"), &index);
        content.put_image(REPOSITORY, None, &sbom);
        content.put_image(REPOSITORY, None, &signature);
        content.put_image(REPOSITORY, Some(&companion_tag(&index.digest, ".sig")), &cosign);
        let then = content.now() - SignedDuration::from_hours(24 * 200);
        assert!(content.date_tag(REPOSITORY, "candidate-0", then, then));
    });
    walk.snapshot_tags();
    walk.settings("enforce", "", "");
    walk.enforce().await;
    let before = walk.manifests().len();
    walk.advance_clock(9 * 24);
    let came = walk.enforce().await;
    let children = index.children.len();
    let deleted = walk.deleted(&came, &[("sbom", &sbom.digest), ("sbom-signature", &signature.digest)]).await;
    assert_eq!(deleted.len(), 4 + 1 + children + 3, "{deleted:?}");
    assert!(deleted.iter().all(|one| one.ends_with(" done")), "{deleted:?}");
    assert_eq!(walk.manifests().len(), before - deleted.len());
    let again = walk.enforce().await;
    assert!(WorkflowFixture::manifest_cleanup(&again).is_empty(), "{:?}", WorkflowFixture::manifest_cleanup(&again));
    walk.audit(None).await;
}

/// What `explain` says of a tag that was removed, from its removal to the deletion of its manifest.
#[tokio::test]
async fn a_tag_that_was_removed_is_explained() {
    let walk = WorkflowFixture::azure(|options| options).await;
    walk.policies(THEN);
    walk.settings("enforce", "", "");
    let explained = async |tag: &str| {
        let app = walk.open().await.unwrap();
        let named = app.find_tag_ref(&format!("main/{REPOSITORY}:{tag}")).unwrap();
        let decision = app.decide_repository(&named.registry, &named.repository, None).await.unwrap();
        let gone = app.removed_tag(&decision, &named).await.unwrap();
        app.close().await;
        gone.map(|gone| gone.text())
    };
    assert_eq!(explained("candidate-1").await, None, "never removed");
    let first = walk.enforce().await;
    let words = explained("candidate-1").await.unwrap();
    assert!(words.contains(&first.run_id()) && words.contains("stays until 2026-11-28 12:00 UTC at least"), "{words}");
    assert!(words.contains("newest: 2") || words.contains("candidates"), "{words}");
    walk.advance_clock(9 * 24);
    assert!(explained("candidate-1").await.unwrap().contains("may be deleted since 2026-11-28"), "{words}");
    let second = walk.enforce().await;
    let words = explained("candidate-1").await.unwrap();
    assert!(words.contains(&format!("was deleted 2026-11-29 12:00 UTC, in run {}", second.run_id())), "{words}");
}
