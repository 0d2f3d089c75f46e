//! What is behind the tags: mostly what the registry lists, and a manifest's own bytes only where something needs them.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt, stream};
use jiff::Timestamp;

use super::wire::{WireManifest, WireOneManifest};
use super::{lists, manifest_path, metadata};
use crate::domain::{
    ArtifactKind, Digest, GapTarget, InvalidDigest, ListedKind, ListedManifest, Manifest, Repository, RepositoryName,
    Tag, UnreadKind, is_index_type,
};
use crate::registry::client::connection::HttpConnection;
use crate::registry::client::manifest_graph::{ManifestReader, ReferrersApi};
use crate::registry::{ContentCache, ParsedManifest, RegistryError, RegistryErrorKind};

impl lists::Row for ListedManifest {
    type Key = Digest;

    fn key(&self) -> &Digest {
        &self.digest
    }
}

/// Manifests that are looked for by their digest, with when those that were met last changed: aside, because a list may
/// have a hundred thousand rows, and these are few.
#[derive(Debug)]
pub(super) struct WantedManifests<'a> {
    digests: &'a BTreeSet<Digest>,
    /// Whether it is noted of every manifest when it changed.
    notes_all: bool,
    found: Mutex<BTreeMap<Digest, Option<Timestamp>>>,
    /// The types of configurations that are listed.
    types: Mutex<BTreeMap<Digest, Arc<str>>>,
}

impl<'a> WantedManifests<'a> {
    pub(super) fn new(digests: &'a BTreeSet<Digest>) -> Self {
        Self { digests, notes_all: false, found: Mutex::default(), types: Mutex::default() }
    }

    /// Notes of every manifest that is listed when it changed.
    pub(super) fn with_all_changes(self) -> Self {
        Self { notes_all: true, ..self }
    }

    /// Notes when a manifest last changed, if it is one of these.
    pub(super) fn record(&self, row: &ListedManifest, changed_at: impl FnOnce() -> Option<Timestamp>) {
        if self.notes_all || self.digests.contains(&row.digest) {
            let mut met = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            met.insert(row.digest.clone(), changed_at());
        }
    }

    /// Notes the type of a manifest's configuration. An empty one says nothing of the artifact, and an index has none. What
    /// the registry found a platform in is an image, where it does not list the type.
    pub(super) fn record_type(&self, row: &ListedManifest, wire: &WireManifest) {
        let image = ArtifactKind::Image.example();
        let own = wire.config_media_type.as_deref().or_else(|| wire.has_platform().then_some(image));
        let own = own.filter(|own| !matches!(*own, "" | EMPTY_CONFIG));
        if let Some(own) = own.filter(|_| row.kind != ListedKind::Index) {
            let mut types = self.types.lock().unwrap_or_else(PoisonError::into_inner);
            let known = types.values().next().filter(|known| ***known == *own).cloned();
            types.insert(row.digest.clone(), known.unwrap_or_else(|| own.into()));
        }
    }

    /// Returns the types of configurations of these manifests.
    fn types_of(&self, digests: &BTreeSet<Digest>) -> BTreeMap<Digest, Arc<str>> {
        let mut types = std::mem::take(&mut *self.types.lock().unwrap_or_else(PoisonError::into_inner));
        types.retain(|digest, _| digests.contains(digest));
        types
    }

    /// Those that are looked for and among these manifests.
    fn found_in(&self, manifests: &BTreeMap<Digest, Manifest>) -> BTreeMap<Digest, Option<Timestamp>> {
        let met = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = met.iter().filter(|(digest, _)| self.digests.contains(digest) && manifests.contains_key(digest));
        wanted.map(|(digest, changed_at)| (digest.clone(), *changed_at)).collect()
    }

    /// The last changes of the manifests that none of these tags names, where all changes were noted.
    pub(super) fn changes_without(self, tags: &[Tag]) -> BTreeMap<Digest, Timestamp> {
        let tagged: BTreeSet<&Digest> = tags.iter().filter_map(|tag| tag.digest.as_ref()).collect();
        let met = self.found.into_inner().unwrap_or_else(PoisonError::into_inner);
        let without = met.into_iter().filter(|(digest, _)| !tagged.contains(digest));
        without.filter_map(|(digest, changed_at)| Some((digest, changed_at?))).collect()
    }
}

/// The type of a configuration that is there for want of another.
const EMPTY_CONFIG: &str = "application/vnd.oci.empty.v1+json";

/// Nothing is sought.
static NONE: BTreeSet<Digest> = BTreeSet::new();

/// What was read of some manifests of a repository.
#[derive(Default)]
struct ReadManifests {
    manifests: Vec<(Digest, Manifest)>,
    artifact_types: Vec<(Digest, Arc<str>)>,
    /// The images that they list, and the indexes.
    children: BTreeSet<Digest>,
    /// What they list beside images and for no platform.
    attached: BTreeSet<Digest>,
    /// What they refer to.
    subjects: BTreeSet<Digest>,
    /// Those that are not there.
    gone: Vec<Digest>,
}

impl ReadManifests {
    fn add(&mut self, digest: Digest, parsed: ParsedManifest) {
        for child in parsed.children {
            let set = if child.is_image { &mut self.children } else { &mut self.attached };
            set.insert(child.digest);
        }
        self.subjects.extend(parsed.manifest.subject.as_deref().cloned());
        self.artifact_types.push((digest.clone(), parsed.artifact_type));
        self.manifests.push((digest, Manifest { created_at: None, ..parsed.manifest }));
    }

    /// Puts all that into the repository, and returns the artifacts among what is referred to that have to be read as well.
    fn store_in(mut self, repository: &mut Repository) -> BTreeSet<Digest> {
        // What one index lists as an image is one, whatever another lists it as.
        let known = repository.manifests.values().flat_map(|manifest| &manifest.children);
        let images = known.filter(|child| self.attached.contains(*child) && !repository.attached.contains(*child));
        let images: BTreeSet<Digest> = images.cloned().collect();
        self.attached.retain(|digest| !images.contains(digest) && !self.children.contains(digest));
        for tagged in repository.tags.iter().filter_map(|tag| tag.digest.as_ref()) {
            self.attached.remove(tagged);
        }
        repository.attached.retain(|digest| !self.children.contains(digest));
        for digests in [&self.children, &self.attached, &self.subjects] {
            repository.include_listed(digests);
        }
        repository.attached.append(&mut self.attached);
        for digest in self.gone {
            repository.manifests.remove(&digest);
        }
        repository.artifact_types.extend(self.artifact_types);
        for (digest, manifest) in self.manifests {
            let lock = repository.manifests.get(&digest).and_then(|listed| listed.lock);
            repository.manifests.insert(digest, Manifest { lock, ..manifest });
        }
        let is_artifact = |digest: &Digest| {
            let manifest = repository.manifests.get(digest);
            manifest.is_some_and(|manifest| manifest.unread_kind() == Some(UnreadKind::Artifact))
        };
        self.subjects.retain(is_artifact);
        self.subjects
    }
}

/// Reads what is behind the tags of repositories of one registry.
pub(super) struct ManifestCollector<'a> {
    pub(super) http: &'a HttpConnection,
    pub(super) referrers: &'a ReferrersApi,
    pub(super) cache: &'a dyn ContentCache,
}

impl ManifestCollector<'_> {
    /// Adds what is behind the tags of a repository and what is sought, mostly as it is listed. Read is only what cannot be
    /// told from the list and may matter to any tag: what tagged artifacts refer to, upward to the image. Where exact bytes
    /// are wanted, everything is.
    ///
    /// Returns the manifests that tags name and the registry does not have.
    pub(super) async fn add_all(
        &self,
        repository: &mut Repository,
        mut rows: Vec<ListedManifest>,
        sought: &WantedManifests<'_>,
    ) -> BTreeSet<Digest> {
        let tags = repository.tags.iter().filter_map(|tag| tag.digest.as_ref());
        let tagged: BTreeSet<Digest> = tags.cloned().collect();
        rows.sort_unstable_by(compare_digests);
        // Pushed between the two lists, or hidden from one of them.
        let unlisted = find_unlisted(&tagged, &rows);
        let (name, wanted) = (repository.name.clone(), sought);
        let name = &name;
        let found: Vec<_> = stream::iter(unlisted)
            .map(|digest| async move {
                let row = self.fetch_row(name, &digest, wanted).await;
                (digest, row)
            })
            .buffer_unordered(self.http.settings.concurrency.max(1))
            .collect()
            .await;
        let mut missing = BTreeSet::new();
        for (digest, found) in found {
            match found {
                Ok(Some(row)) => rows.push(row),
                Ok(None) => drop(missing.insert(digest)),
                Err(error) => repository.gaps.push(error.into_gap(GapTarget::Manifest(digest))),
            }
        }
        rows.sort_unstable_by(compare_digests);
        let exact = self.http.settings.exact_bytes;
        let needed = rows.iter().filter(|row| match row.kind {
            _ if exact => true,
            ListedKind::Image => false,
            // An index matters only where a decision asks for it, see `read_manifests`. What is of no known type may be one,
            // or anything else.
            ListedKind::Index => !is_index_type(&row.media_type) && tagged.contains(&row.digest),
            ListedKind::Artifact => tagged.contains(&row.digest),
        });
        let needed: BTreeSet<Digest> = needed.map(|row| row.digest.clone()).collect();
        repository.listed = rows;
        repository.artifact_types = sought.types_of(&tagged);
        repository.include_listed(&tagged);
        repository.include_listed(sought.digests);
        missing.extend(self.read(repository, needed).await);
        repository.untagged = sought.found_in(&repository.manifests);
        missing
    }

    /// Reads manifests of a repository, and what those refer to, upward to the image. What they list is no longer among
    /// what nothing leads to. Returns those that tags name and the registry does not have.
    pub(super) async fn read(&self, repository: &mut Repository, mut wanted: BTreeSet<Digest>) -> BTreeSet<Digest> {
        let (mut requested, mut missing) = (BTreeSet::new(), BTreeSet::new());
        repository.include_listed(&wanted);
        wanted.retain(|digest| repository.manifests.contains_key(digest));
        while !wanted.is_empty() {
            let name = repository.name.clone();
            let reading =
                ManifestReader { http: self.http, referrers: self.referrers, repository: &name, cache: self.cache };
            let reading = &reading;
            let read: Vec<_> = stream::iter(wanted.iter().cloned().collect::<Vec<_>>())
                .map(|digest| async move {
                    let parsed = reading.read_manifest(&digest).await;
                    (digest, parsed)
                })
                .buffer_unordered(self.http.settings.concurrency.max(1))
                .collect()
                .await;
            let mut found = ReadManifests::default();
            for (digest, parsed) in read {
                let is_tagged = || repository.tags.iter().any(|tag| tag.digest.as_ref() == Some(&digest));
                match parsed {
                    Ok(Some(parsed)) => found.add(digest, parsed),
                    // Deleted since it was listed. What tags still name it say so themselves.
                    Ok(None) if !is_tagged() => found.gone.push(digest),
                    Ok(None) => match self.fetch_row(&name, &digest, &WantedManifests::new(&NONE)).await {
                        Ok(None) => {
                            found.gone.push(digest.clone());
                            missing.insert(digest);
                        }
                        Ok(Some(_)) => {
                            let gap = withheld_error(&name, &digest).into_gap(GapTarget::Manifest(digest));
                            repository.gaps.push(gap);
                        }
                        Err(error) => repository.gaps.push(error.into_gap(GapTarget::Manifest(digest))),
                    },
                    Err(error) => repository.gaps.push(error.into_gap(GapTarget::Manifest(digest))),
                }
            }
            requested.append(&mut wanted);
            wanted = found.store_in(repository);
            wanted.retain(|digest| !requested.contains(digest));
        }
        missing
    }

    /// Returns what the registry says of one manifest, or `None` if it does not have it.
    async fn fetch_row(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        sought: &WantedManifests<'_>,
    ) -> Result<Option<ListedManifest>, RegistryError> {
        let Some(response) = metadata::fetch(self.http, name, &manifest_path(name, digest)).await? else {
            return Ok(None);
        };
        let wire: WireOneManifest<WireManifest> = response.parse_json()?;
        let row = listed_manifest(&wire.manifest, &mut Vec::new()).map_err(|why| response.unparsable(why))?;
        sought.record(&row, || wire.manifest.changed_at());
        sought.record_type(&row, &wire.manifest);
        Ok(Some(row))
    }
}

fn compare_digests(a: &ListedManifest, b: &ListedManifest) -> Ordering {
    a.digest.cmp(&b.digest)
}

/// Returns the digests without a row among rows in the order of digests.
fn find_unlisted(digests: &BTreeSet<Digest>, rows: &[ListedManifest]) -> Vec<Digest> {
    let mut listed = rows.iter().peekable();
    let is_unlisted = |digest: &&Digest| {
        while listed.next_if(|row| row.digest < **digest).is_some() {}
        listed.peek().is_none_or(|row| row.digest != **digest)
    };
    digests.iter().filter(is_unlisted).cloned().collect()
}

/// A listed manifest in the domain's words. `types` holds the media types met so far, each once.
pub(super) fn listed_manifest(wire: &WireManifest, types: &mut Vec<Arc<str>>) -> Result<ListedManifest, InvalidDigest> {
    let digest = wire.digest.parse()?;
    let media_type = wire.media_type.as_deref().map(|text| {
        types.iter().find(|known| ***known == *text).cloned().unwrap_or_else(|| {
            let new: Arc<str> = text.into();
            types.push(Arc::clone(&new));
            new
        })
    });
    let nature = manifest_kind(wire.media_type.as_deref(), wire.config_media_type.as_deref(), wire.has_platform());
    let media_type = media_type.unwrap_or_else(|| "".into());
    Ok(ListedManifest { digest, media_type, image_size: wire.image_size, lock: wire.lock(), kind: nature })
}

/// What a manifest is by the types that the registry lists. A type that is not known may be anything, and an OCI image
/// manifest carries all kinds of things: it is an image if its configuration is one, or the registry found a platform in
/// it (not every version of the service lists both).
fn manifest_kind(media_type: Option<&str>, config: Option<&str>, platform: bool) -> ListedKind {
    let image = match config {
        Some(config) => matches!(
            config,
            "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json"
        ),
        None => platform,
    };
    match media_type {
        Some(
            "application/vnd.docker.distribution.manifest.v2+json"
            | "application/vnd.docker.distribution.manifest.v1+prettyjws"
            | "application/vnd.docker.distribution.manifest.v1+json",
        ) => ListedKind::Image,
        Some("application/vnd.oci.image.manifest.v1+json") if image => ListedKind::Image,
        Some(
            "application/vnd.oci.image.manifest.v1+json"
            | "application/vnd.oci.artifact.manifest.v1+json"
            | "application/vnd.cncf.oras.artifact.manifest.v1+json",
        ) => ListedKind::Artifact,
        _ => ListedKind::Index,
    }
}

/// The registry has it and does not give it, as it does with images in quarantine. It may be an index.
fn withheld_error(repository: &RepositoryName, digest: &Digest) -> RegistryError {
    RegistryError::new(
        RegistryErrorKind::NotFound,
        format!(
            "{repository}: the registry lists {digest} and answers that there is no such manifest; is it in quarantine?"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_tell_what_need_not_be_pulled() {
        const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";
        const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
        const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
        for (media_type, config, platform, expected) in [
            (Some(DOCKER), None, false, ListedKind::Image),
            (Some("application/vnd.docker.distribution.manifest.v1+prettyjws"), None, false, ListedKind::Image),
            (Some(OCI), Some(CONFIG), false, ListedKind::Image),
            (Some(OCI), None, true, ListedKind::Image),
            (Some(OCI), None, false, ListedKind::Artifact),
            (Some(OCI), Some("application/vnd.oci.empty.v1+json"), true, ListedKind::Artifact),
            (Some(OCI), Some("application/vnd.cncf.helm.config.v1+json"), false, ListedKind::Artifact),
            (Some("application/vnd.cncf.oras.artifact.manifest.v1+json"), None, false, ListedKind::Artifact),
            (Some("application/vnd.oci.image.index.v1+json"), None, false, ListedKind::Index),
            (Some("application/vnd.docker.distribution.manifest.list.v2+json"), None, false, ListedKind::Index),
            (Some("application/vnd.example.v9+json"), Some(CONFIG), true, ListedKind::Index),
            (None, None, true, ListedKind::Index),
        ] {
            assert_eq!(manifest_kind(media_type, config, platform), expected, "{media_type:?} {config:?} {platform}");
        }
    }
}
