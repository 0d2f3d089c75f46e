//! Policies with `untagged` over Azure Container Registry, over many days: manifests without a tag, whoever left them, go once
//! every run has found them free for long enough.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use tagwarden::demo::image::{self, Platform};
use tagwarden::demo::registry::{Content, Fault, FaultKind, Reference};
use tagwarden::report::{DeletionsView, Format};

use super::*;

const STALE: &str = r#"policies:
  - name: stale
    select: { repositories: ["**"] }
    untagged: { delete: after 30d }
    mode: enforce
  - name: all
    select: { tags: ["*"] }
    keep: all
"#;

const RECORDS: &str = "[sources.releases]\nkind = \"release-records\"\npaths = [\"releases/*.json\"]";

const REPOSITORY: &str = "shop/api";

/// An Azure registry with a tagged index and, without a tag, an image and a signed index.
struct Stale {
    walk: WorkflowFixture,
    image: Image,
    index: Image,
    signature: Image,
    tagged: Image,
}

impl Stale {
    async fn new(mode: &str) -> Self {
        let walk = WorkflowFixture::azure(|options| options).await;
        walk.policies(STALE);
        fs::create_dir(walk.path("releases")).unwrap();
        let layers = |platform: &Platform| vec![Blob::layer(&format!("old {platform:?}"), 300)];
        let (image, index) = (image("left", 90), image::multi_arch(noon(), layers));
        let signature = image::artifact("signature", ("sig", Blob::layer("sig", 10)), Some(&index), &[]);
        let layers = |platform: &Platform| vec![Blob::layer(&format!("new {platform:?}"), 300)];
        let tagged = image::multi_arch(noon(), layers);
        walk.registry.content(|content| {
            for one in [&image, &index, &signature] {
                content.put_image(REPOSITORY, None, one);
            }
            content.put_image(REPOSITORY, Some("v1"), &tagged);
        });
        walk.snapshot_tags();
        let found = Self { walk, image, index, signature, tagged };
        found.claim("v1");
        found.walk.settings(mode, "", RECORDS);
        found
    }

    /// Puts the only release record, which claims an image of the repository.
    fn claim(&self, tag_or_digest: &str) {
        let joint = if tag_or_digest.contains(':') { "@" } else { ":" };
        let host = self.walk.registry.host();
        let text = format!("{{\"image\": \"{host}/{REPOSITORY}{joint}{tag_or_digest}\"}}");
        fs::write(self.walk.path("releases/a.json"), text).unwrap();
    }

    /// What was left without a tag.
    fn left(&self) -> BTreeSet<Digest> {
        let children = self.index.children.iter().map(|child| &child.digest);
        [&self.image.digest, &self.index.digest, &self.signature.digest].into_iter().chain(children).cloned().collect()
    }

    fn manifests(&self) -> BTreeSet<Digest> {
        self.walk.registry.content(|content| content.manifests(REPOSITORY).map(|(digest, _)| digest.clone()).collect())
    }

    /// Days pass, and a run goes by. Returns what it says of manifests without a tag, and its exit code.
    async fn days_later(&self, days: i64) -> (DeletionsView, StepResult) {
        self.walk.advance_clock(days * 24);
        let came = self.walk.run().await;
        let document = &came.result.as_ref().unwrap_or_else(|| panic!("{}", came.text)).document;
        (document.deletions.clone(), came)
    }
}

/// Puts a manifest by its digest, and of what it lists only what is new.
fn put_by_digest(content: &mut Content, image: &Image) {
    let reference = Reference::Digest(image.digest.clone());
    content.put_manifest(REPOSITORY, &reference, image.media_type, image.bytes.clone()).unwrap();
}

#[tokio::test]
async fn what_others_left_goes_after_its_time() {
    let stale = Stale::new("enforce").await;
    let before = stale.manifests();
    let (first, came) = stale.days_later(0).await;
    assert_eq!((came.code, first.eligible.len(), first.pending), (0, 0, stale.left().len() as u64), "{first:?}");
    let children = stale.tagged.children.len() as u64;
    assert_eq!(first.kept, BTreeMap::from([("listed-by-retained".to_owned(), children)]));
    let forecast = first.forecast.clone().unwrap();
    assert_eq!(forecast.manifests, first.pending);
    assert!(
        forecast.bytes > 0
            && first.sentences().iter().any(|words| words.contains("would be removed once the time is over"))
    );
    let (early, _) = stale.days_later(29).await;
    assert_eq!((early.eligible.len(), early.pending, stale.manifests()), (0, first.pending, before.clone()));
    assert_eq!(early.next_eligible_at, Some(noon() + SignedDuration::from_hours(30 * 24)));

    stale.walk.advance_clock(25);
    let dry = stale.walk.plan().await;
    assert_eq!(
        (dry.deletions.manifest_count(), stale.manifests()),
        (first.pending, before.clone()),
        "nothing by a plan"
    );
    assert!(dry.deletions.deletable().all(|one| one.free_since == Some(noon()) && one.tag.is_empty()));
    let text = report::render(&dry, Format::Text);
    assert!(text.contains("left by others, found free since 2026-11-20 12:00 UTC"), "{text}");
    assert!(text.contains("`tagwarden restore` does not bring them back"), "{text}");

    let (_, came) = stale.days_later(0).await;
    assert_eq!(
        (came.code, stale.manifests()),
        (0, before.difference(&stale.left()).cloned().collect()),
        "{}",
        came.text
    );
    // The index went before its images, and each with its bytes in the journal.
    let journal = stale.walk.journal().await;
    let place = |digest: &Digest| journal.iter().position(|entry| entry.intent.digest == *digest).unwrap();
    assert!(stale.index.children.iter().all(|child| place(&child.digest) > place(&stale.index.digest)));
    let app = stale.walk.open().await.unwrap();
    for entry in &journal {
        assert!(matches!(entry.outcome, Some((Outcome::Done(_), _))) && entry.intent.tag.is_none(), "{entry:?}");
        assert_eq!(entry.intent.policy.as_deref(), Some("stale"));
        assert_eq!(app.store.manifest_of(entry).await.unwrap().digest, entry.intent.digest);
    }
    app.close().await;
    let (last, _) = stale.days_later(1).await;
    assert_eq!((last.eligible.len(), last.pending, last.forecast), (0, 0, None));
}

/// What happens on the tenth day, and whether the image goes thirty days after the first. Then a new waiting period begins.
#[tokio::test]
async fn a_series_of_runs_that_is_broken_begins_anew() {
    type Row = (&'static str, fn(&Stale), fn(&Stale), u8, bool);
    let rows: Vec<Row> = vec![
        ("nothing", |_| (), |_| (), 0, true),
        (
            "a claim on its digest",
            |stale| stale.claim(&stale.image.digest.to_string()),
            |stale| stale.claim("v1"),
            0,
            false,
        ),
        (
            "a source that fails",
            |stale| fs::write(stale.walk.path("releases/a.json"), "{").unwrap(),
            |stale| stale.claim("v1"),
            5,
            false,
        ),
        (
            "a list that cannot be read",
            |stale| {
                let broken = FaultKind::Status { status: 500, headers: Vec::new(), body: String::new() };
                stale.walk.registry.inject(Fault::on("/shop/api/_manifests", broken));
            },
            |stale| stale.walk.registry.clear_faults(),
            5,
            false,
        ),
        (
            "policies without it",
            |stale| stale.walk.policies("policies: [{ name: all, select: { tags: ['*'] }, keep: all }]"),
            |stale| stale.walk.policies(STALE),
            0,
            false,
        ),
        (
            "a tag on it",
            |stale| {
                let digest = stale.image.digest.clone();
                stale.walk.registry.content(|content| assert!(content.move_tag(REPOSITORY, "for-a-day", &digest)));
                stale.walk.snapshot_tags();
            },
            |stale| {
                stale.walk.registry.content(|content| assert!(content.delete_tag(REPOSITORY, "for-a-day")));
                stale.walk.snapshot_tags();
            },
            0,
            false,
        ),
    ];
    for (what, change, back, code, goes) in rows {
        let stale = Stale::new("enforce").await;
        stale.days_later(0).await;
        change(&stale);
        let (_, came) = stale.days_later(10).await;
        assert_eq!(came.code, code, "{what}: {}", came.text);
        back(&stale);
        stale.days_later(21).await;
        let there = stale.manifests().contains(&stale.image.digest);
        assert_eq!(there, !goes, "{what}: thirty-one days after the first run");
        stale.days_later(31).await;
        assert!(!stale.manifests().contains(&stale.image.digest), "{what}: thirty-one days after that");
    }
}

/// What happens between an approved plan and its application, what the image is skipped for, and whether the index goes.
#[tokio::test]
async fn what_changed_since_the_approval_stays() {
    type Row = (&'static str, fn(&Stale), &'static str);
    let rows: Vec<Row> = vec![
        (
            "a tag",
            |stale| {
                let digest = stale.image.digest.clone();
                stale.walk.registry.content(|content| assert!(content.move_tag(REPOSITORY, "wanted", &digest)));
            },
            "kept",
        ),
        (
            "a push by digest",
            |stale| stale.walk.registry.content(|content| put_by_digest(content, &stale.image)),
            "kept",
        ),
        (
            "an index around it",
            |stale| {
                let around = image::index(image::Format::Oci, &[stale.image.clone(), image("x", 1)]);
                stale.walk.registry.content(|content| {
                    content.put_image(REPOSITORY, None, &image("x", 1));
                    put_by_digest(content, &around);
                });
            },
            "kept",
        ),
        ("a claim", |stale| stale.claim(&stale.image.digest.to_string()), "kept"),
        ("nothing", |_| (), "done"),
    ];
    for (what, change, expected) in rows {
        let stale = Stale::new("approved").await;
        stale.days_later(0).await;
        stale.walk.advance_clock(31 * 24);
        let plan = stale.walk.plan().await;
        assert_eq!(plan.deletions.manifest_count(), stale.left().len() as u64, "{what}");
        stale.walk.advance_clock(1);
        change(&stale);
        let came = stale.walk.apply_text(&report::render(&plan, Format::Json)).await;
        let result = came.result.as_ref().unwrap_or_else(|| panic!("{what}: {}", came.text));
        let outcome = |digest: &Digest| {
            let found = result.deleted.iter().find(|one| one.digest == *digest).unwrap();
            match &found.outcome {
                Outcome::Skipped(skip) => skip.label(),
                other => other.label(),
            }
        };
        assert_eq!(outcome(&stale.image.digest), expected, "{what}");
        assert_eq!(outcome(&stale.index.digest), "done", "{what}");
        assert_eq!(stale.manifests().contains(&stale.image.digest), expected == "kept", "{what}");
    }
}
