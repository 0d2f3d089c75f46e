//! Everything behind the tags of a repository: manifests, the children of indexes to any depth, referrers, creation
//! times.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use futures::{StreamExt, future, stream};
use jiff::Timestamp;
use tokio::sync::OnceCell;

use super::connection::HttpConnection;
use super::pull::{self, ReferrersResponse};
use super::wire::{self, ParsedManifest};
use crate::domain::{Digest, Gap, GapTarget, Manifest, RepositoryName};
use crate::registry::{ContentCache, RawManifest, ReferrersSupport, RegistryError, RegistryErrorKind};

/// The manifests behind the tags of a repository, and the gaps.
#[derive(Debug, Default)]
pub(in crate::registry) struct ManifestGraph {
    pub(in crate::registry) manifests: BTreeMap<Digest, Manifest>,
    /// Their own types.
    pub(in crate::registry) artifact_types: BTreeMap<Digest, Arc<str>>,
    /// Manifests that tags name and the registry does not have, requested twice.
    pub(in crate::registry) missing: BTreeSet<Digest>,
    pub(in crate::registry) gaps: Vec<Gap>,
}

/// The presence of the referrers API in a registry, determined by the first request and cached.
#[derive(Debug, Default)]
pub(in crate::registry) struct ReferrersApi(OnceCell<bool>);

/// The reason for reading a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Tagged,
    Child,
    Referrer,
}

#[derive(Debug, Clone, Copy)]
struct Visit {
    role: Role,
    /// True if its creation time matters: a tag's image, or one that dates an index.
    needs_created_at: bool,
}

struct VisitedManifest {
    digest: Digest,
    visit: Visit,
    manifest: Option<ParsedManifest>,
    referrers: Vec<Digest>,
    missing: bool,
    gaps: Vec<Gap>,
}

/// Reads a repository through one registry, with cached content.
pub(in crate::registry) struct ManifestReader<'a> {
    pub(in crate::registry) http: &'a HttpConnection,
    pub(in crate::registry) referrers: &'a ReferrersApi,
    pub(in crate::registry) repository: &'a RepositoryName,
    pub(in crate::registry) cache: &'a dyn ContentCache,
}

impl ManifestReader<'_> {
    /// Reads the tagged manifests and everything below, level by level, each digest once.
    pub(in crate::registry) async fn read_graph(&self, tagged: BTreeSet<Digest>) -> ManifestGraph {
        let mut contents = ManifestGraph::default();
        let mut known: HashMap<Digest, bool> = HashMap::new();
        let mut level: BTreeMap<Digest, Visit> =
            tagged.into_iter().map(|digest| (digest, Visit { role: Role::Tagged, needs_created_at: true })).collect();
        while !level.is_empty() {
            known.extend(level.iter().map(|(digest, look)| (digest.clone(), look.needs_created_at)));
            let seen: Vec<VisitedManifest> = stream::iter(level)
                .map(|(digest, look)| self.visit(digest, look))
                .buffer_unordered(self.http.settings.concurrency.max(1))
                .collect()
                .await;
            level = BTreeMap::new();
            for VisitedManifest { digest, visit: look, manifest, referrers, missing, gaps } in seen {
                contents.gaps.extend(gaps);
                if missing {
                    contents.missing.insert(digest.clone());
                }
                let mut want = |digest: Digest, role, dated| {
                    // Once is enough, unless it was read without its creation time, which is needed now.
                    if known.get(&digest).is_none_or(|&was_dated| dated && !was_dated) {
                        level.entry(digest).or_insert(Visit { role, needs_created_at: false }).needs_created_at |=
                            dated;
                    }
                };
                if let Some(parsed) = manifest {
                    for child in parsed.children {
                        want(child.digest, Role::Child, look.needs_created_at && child.is_image);
                    }
                    contents.artifact_types.insert(digest.clone(), parsed.artifact_type);
                    contents.manifests.insert(digest, parsed.manifest);
                }
                for referrer in referrers {
                    want(referrer, Role::Referrer, false);
                }
            }
        }
        contents.propagate_missing_times();
        contents
    }

    async fn visit(&self, digest: Digest, look: Visit) -> VisitedManifest {
        let (manifest, referrers) = future::join(self.read_manifest(&digest), async {
            match look.role {
                Role::Child => (Vec::new(), None),
                Role::Tagged | Role::Referrer => self.referrers.referrers_of(self.http, self.repository, &digest).await,
            }
        })
        .await;
        let (mut gaps, mut missing) = (Vec::new(), false);
        let (referrers, trouble) = referrers;
        gaps.extend(trouble.map(|error| error.into_gap(GapTarget::Referrers(digest.clone()))));
        let manifest = match manifest {
            // A registry with stale replicas may briefly miss its own content.
            Ok(None) if look.role == Role::Tagged => self.read_manifest(&digest).await,
            other => other,
        };
        let manifest = match manifest {
            Ok(Some(mut parsed)) => {
                if let Some(config) = parsed.image_config.as_ref().filter(|_| look.needs_created_at) {
                    match self.read_created_at(config).await {
                        Ok(created_at) => {
                            let own = parsed.manifest.created_at;
                            parsed.manifest.created_at = own.max(created_at.map(Into::into));
                        }
                        Err(error) => {
                            // The unread one may be the latest.
                            parsed.manifest.created_at = None;
                            gaps.push(error.into_gap(GapTarget::CreationTime(digest.clone())));
                        }
                    }
                }
                Some(parsed)
            }
            Ok(None) => {
                // Indexes may list platforms that were never copied, and lists of referrers may be stale.
                missing = look.role == Role::Tagged;
                None
            }
            Err(error) => {
                gaps.push(error.into_gap(GapTarget::Manifest(digest.clone())));
                None
            }
        };
        VisitedManifest { digest, visit: look, manifest, referrers, missing, gaps }
    }

    /// Returns a manifest by its digest, from the cache or the registry; `None` if the registry does not have it.
    pub(in crate::registry) async fn read_manifest(
        &self,
        digest: &Digest,
    ) -> Result<Option<ParsedManifest>, RegistryError> {
        let fetch = pull::manifest(self.http, self.repository, digest);
        read_cached_manifest(self.cache, (self.repository, digest), fetch).await
    }

    async fn read_created_at(&self, config: &Digest) -> Result<Option<Timestamp>, RegistryError> {
        if let Some(known) = self.cache.created_at(config).await {
            return Ok(known);
        }
        let created_at = pull::config_created_at(self.http, self.repository, config).await?;
        self.cache.store_created_at(config, created_at).await;
        Ok(created_at)
    }
}

/// Returns a manifest by its digest from the cache, or else by `fetch`, and caches it; `None` if the registry does not
/// have it.
///
/// # Errors
/// Returns an error if it cannot be fetched or parsed.
pub(in crate::registry) async fn read_cached_manifest(
    cache: &dyn ContentCache,
    (repository, digest): (&RepositoryName, &Digest),
    fetch: impl Future<Output = Result<Option<RawManifest>, RegistryError>>,
) -> Result<Option<ParsedManifest>, RegistryError> {
    let raw = if let Some(raw) = cache.manifest(digest).await {
        raw
    } else {
        let Some(raw) = fetch.await? else { return Ok(None) };
        cache.store_manifest(&raw).await;
        raw
    };
    wire::parse_manifest(&raw).map(Some).map_err(|why| {
        let message = format!("manifest {digest} of {repository} is not understood");
        RegistryError::new(RegistryErrorKind::Malformed, message).caused_by(why)
    })
}

impl ReferrersApi {
    /// Returns the support found by the first request; unknown before it.
    pub(in crate::registry) fn support(&self) -> ReferrersSupport {
        match self.0.get() {
            Some(true) => ReferrersSupport::Api,
            Some(false) => ReferrersSupport::FallbackTag,
            None => ReferrersSupport::Unknown,
        }
    }

    /// Returns the referrers of a manifest, as far as the registry lists them. Without that API they are in fallback
    /// tags, which are read as indexes.
    async fn referrers_of(
        &self,
        http: &HttpConnection,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> (Vec<Digest>, Option<RegistryError>) {
        let mut first = None;
        let supported = self
            .0
            .get_or_try_init(|| async {
                let response = pull::referrers(http, repository, digest).await?;
                let supported = matches!(response, ReferrersResponse::Listed(..));
                first = Some(response);
                Ok(supported)
            })
            .await;
        let response = match (supported, first) {
            (Err(error), _) => Err(error),
            (Ok(false), _) => return (Vec::new(), None),
            (Ok(true), Some(response)) => Ok(response),
            (Ok(true), None) => pull::referrers(http, repository, digest).await,
        };
        match response {
            Ok(ReferrersResponse::Listed(digests, trouble)) => (digests, trouble),
            Ok(ReferrersResponse::Unsupported) => {
                let error = RegistryError::new(
                    RegistryErrorKind::NotFound,
                    format!(
                        "{repository}: the registry listed referrers of other manifests, but does not know the question \
                         for {digest}"
                    ),
                );
                (Vec::new(), Some(error))
            }
            Err(error) => (Vec::new(), Some(error)),
        }
    }
}

impl ManifestGraph {
    /// Removes the dates of indexes with unread times. An index is dated by itself and by its images; if one of their
    /// times could not be read, it might be the latest.
    fn propagate_missing_times(&mut self) {
        let mut missing: BTreeMap<Digest, Gap> = BTreeMap::new();
        for gap in &self.gaps {
            if let GapTarget::CreationTime(digest) = &gap.target {
                missing.insert(digest.clone(), gap.clone());
            }
        }
        loop {
            let mut more = Vec::new();
            for (index, manifest) in &self.manifests {
                if missing.contains_key(index) {
                    continue;
                }
                if let Some(gap) = manifest.children.iter().find_map(|child| missing.get(child)) {
                    more.push(Gap { target: GapTarget::CreationTime(index.clone()), ..gap.clone() });
                }
            }
            if more.is_empty() {
                return;
            }
            for gap in more {
                if let GapTarget::CreationTime(digest) = &gap.target {
                    missing.insert(digest.clone(), gap.clone());
                    if let Some(index) = self.manifests.get_mut(digest) {
                        index.created_at = None;
                    }
                }
                self.gaps.push(gap);
            }
        }
    }
}
