//! Gaps: those due to failures, and single odd names in lists, each of which is in doubt by itself.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::Arc;

use futures::{StreamExt as _, stream};

use crate::domain::{Digest, Gap, GapTarget, Repository, RepositoryName, TagName};
use crate::http_client::one_line;
use crate::registry::{RegistryError, RegistryErrorKind, RegistryReader};

/// The label of a name that the distribution specification does not allow.
const INVALID_NAME: &str = "invalid-name";
/// The label of a tag that was removed while its repository was read.
pub(crate) const VANISHED: &str = "vanished";
/// The label of a listed tag without a manifest.
const NO_MANIFEST: &str = "no-manifest";
/// The label of an entry of a tag list that is a digest.
const NOT_A_TAG: &str = "not-a-tag";

/// Most characters of a displayed name.
const MAX_SHOWN_CHARACTERS: usize = 80;

impl RegistryError {
    /// Converts the failure into its gap.
    pub(in crate::registry) fn into_gap(self, at: GapTarget) -> Gap {
        Gap { target: at, kind: self.kind.label(), has_help: self.has_help(), message: Arc::from(self.chain()) }
    }
}

/// Returns the gap of an entry in a tag list that is not a tag: a digest, which some registries list beside the tags,
/// or an invalid name.
pub(in crate::registry) fn invalid_tag(text: &str, why: &dyn Display) -> Gap {
    let why = one_line(&why.to_string());
    match text.parse::<Digest>() {
        Ok(digest) => Gap {
            target: GapTarget::ListedDigest(digest),
            kind: NOT_A_TAG,
            has_help: false,
            message: "the registry lists it among the tags; it is not one, and is passed over".into(),
        },
        Err(_) => invalid_name(
            text,
            format!(
                "the list of tags names something that is not a valid tag ({why}); it stays, and so does every manifest that \
                 would be deleted with its tags"
            ),
        ),
    }
}

/// Returns the gap of an entry in a catalogue that is not a valid repository name.
pub(in crate::registry) fn invalid_repository(text: &str, why: &dyn Display) -> Gap {
    let why = one_line(&why.to_string());
    let message = format!(
        "the catalogue names something that is not a valid repository ({why}); it is not read, and stays as it is"
    );
    invalid_name(text, message)
}

fn invalid_name(text: &str, message: String) -> Gap {
    let shown: String = one_line(text).chars().take(MAX_SHOWN_CHARACTERS).collect();
    Gap { target: GapTarget::InvalidName(shown.into()), kind: INVALID_NAME, has_help: false, message: message.into() }
}

/// Returns the error of a listed tag without a digest, or with an invalid one.
pub(in crate::registry) fn missing_digest(repository: &RepositoryName, tag: &TagName) -> RegistryError {
    let message = format!("{repository}:{tag} is listed without a digest that can be understood");
    RegistryError::new(RegistryErrorKind::Malformed, message)
}

/// Returns the gap of a listed tag that the registry no longer has.
pub(in crate::registry) fn vanished_tag(repository: &RepositoryName, tag: &TagName) -> Gap {
    let message = format!("{repository}:{tag} was removed while its repository was read");
    Gap { target: GapTarget::VanishedTag(tag.clone()), kind: VANISHED, has_help: false, message: message.into() }
}

/// Returns the gap of a tag that the registry lists repeatedly without having its manifest.
pub(in crate::registry) fn missing_manifest(repository: &RepositoryName, tag: &TagName) -> Gap {
    let message = format!(
        "{repository}:{tag} is listed, but the registry has no manifest for it; pull it to make sure, then push it again, \
         or remove the tag by hand"
    );
    Gap { target: GapTarget::VanishedTag(tag.clone()), kind: NO_MANIFEST, has_help: true, message: message.into() }
}

/// Returns the gap of a repository in which most manifests are missing: rather a fault on the way or in the storage than
/// so many damaged images.
fn mostly_missing_manifests(repository: &RepositoryName, missing: usize, tags: usize) -> Gap {
    let share = if missing == tags {
        format!("none of the {tags} tags of {repository} has")
    } else {
        format!("{missing} of the {tags} tags of {repository} do not have")
    };
    let message = format!(
        "{share} a manifest at the digest that the registry gives for the tag: a proxy or a broken storage; look there \
         before anything is removed"
    );
    Gap { target: GapTarget::ManifestList, kind: NO_MANIFEST, has_help: true, message: message.into() }
}

/// Drops manifests that the registry does not give, and records the tags that name them, after another read of each: it
/// may have been moved meanwhile. If that are most tags of the repository, its manifests count as unread. One that the
/// registry still has or lists, but does not give, stays unread: it may list and refer to anything.
pub(in crate::registry) async fn drop_missing_manifests(
    reader: &dyn RegistryReader,
    repository: &mut Repository,
    mut missing: BTreeSet<Digest>,
) {
    let mut gaps = Vec::new();
    let withheld = withheld_manifests(reader, &repository.name, &missing).await;
    for digest in withheld {
        missing.remove(&digest);
        let message = format!(
            "{}: the registry lists {digest}, and answers that it does not exist when it is read: what it contains is not known, \
             and it stays with whatever may be in it; the next plan reads it again",
            repository.name
        );
        let error = RegistryError::new(RegistryErrorKind::NotFound, message);
        gaps.push(error.into_gap(GapTarget::Manifest(digest)));
    }
    let at_missing = |digest: &Option<Digest>| digest.as_ref().filter(|digest| missing.contains(*digest)).cloned();
    let tags: Vec<(TagName, Digest)> =
        repository.tags.iter().filter_map(|tag| Some((tag.name.clone(), at_missing(&tag.digest)?))).collect();
    let mut damaged = 0;
    for (tag, digest) in tags {
        let gap = match reader.resolve(&repository.name, &tag).await {
            Ok(Some(now)) if now.digest == digest => {
                damaged += 1;
                missing_manifest(&repository.name, &tag)
            }
            Ok(_) => vanished_tag(&repository.name, &tag),
            Err(error) => error.into_gap(GapTarget::Tag(tag)),
        };
        gaps.push(gap);
    }
    if damaged > 1 && 2 * damaged > repository.tags.len() {
        gaps.retain(|gap| gap.kind != NO_MANIFEST);
        gaps.push(mostly_missing_manifests(&repository.name, damaged, repository.tags.len()));
    }
    // What is not there lists nothing and refers to nothing.
    repository.manifests.retain(|digest, _| !missing.contains(digest));
    repository.gaps.extend(gaps);
    repository.gaps.sort();
}

/// Returns the manifests that the registry still has or lists although it did not give them, or of which it does not say.
async fn withheld_manifests(
    reader: &dyn RegistryReader,
    repository: &RepositoryName,
    missing: &BTreeSet<Digest>,
) -> BTreeSet<Digest> {
    let at_once = reader.settings().concurrency.max(1);
    let looks = stream::iter(missing.iter().cloned().collect::<Vec<_>>()).map(|digest| async move {
        let is_listed = reader.lists_manifest(repository, &digest).await.unwrap_or(true);
        is_listed.then_some(digest)
    });
    looks.buffer_unordered(at_once).filter_map(|found| async move { found }).collect().await
}
