//! Annotations and labels that policies ask for, read where they decide.
//!
//! Only the asked keys are kept. What cannot be read stays unknown, and keeps its tags.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};

use super::App;
use crate::domain::{
    Digest, Gap, GapTarget, IndexReads, KnownTexts, Repository, RepositoryName, Rules, SharedText, TextKind,
    UnreadCause, is_index_type,
};
use crate::registry::{
    self, ContentCache as _, InvalidContent, ParsedManifest, RawManifest, RegistryError, RegistryErrorKind,
    RegistryReader,
};

/// Failures after which the rest of a repository is left unread.
const MAX_FAILURES: usize = 5;
/// The most levels of indexes in indexes.
const MAX_DEPTH: usize = 4;
/// The media type under which configurations are cached.
const CONFIGURATION: &str = "application/vnd.oci.image.config.v1+json";

/// One search for annotations or labels in a repository.
struct TextReader<'a> {
    app: &'a App,
    reader: &'a dyn RegistryReader,
    repository: &'a RepositoryName,
    kind: TextKind,
    keys: &'a BTreeSet<SharedText>,
}

impl App {
    /// Reads annotations and labels of images in a repository into its facts.
    pub(super) async fn read_texts(
        &self,
        reader: &Arc<dyn RegistryReader>,
        repository: &mut Repository,
        needed: Vec<(Digest, TextKind)>,
        rules: &Rules,
        reads: &mut IndexReads,
    ) {
        let name = &repository.name.clone();
        for kind in TextKind::ALL {
            let keys = &rules.asked_keys(kind);
            let search = &TextReader { app: self, reader: &**reader, repository: name, kind, keys };
            let digests: Vec<Digest> =
                needed.iter().filter(|(_, other)| *other == kind).map(|(digest, _)| digest.clone()).collect();
            let asked = digests.into_iter().map(|digest| async move {
                let found = search.texts(&digest, MAX_DEPTH).await;
                (digest, found)
            });
            let concurrency = reader.settings().concurrency.max(1);
            let mut answers = stream::iter(asked.collect::<Vec<_>>()).buffered(concurrency);
            let mut failures = 0;
            while let Some((digest, found)) = answers.next().await {
                match found {
                    Ok(texts) => {
                        reads.add(match kind {
                            TextKind::Annotation => UnreadCause::Annotations,
                            TextKind::Label => UnreadCause::Labels,
                        });
                        repository.known_texts_mut(kind).entry(digest).or_default().extend(texts);
                    }
                    // None of the others can be read, either.
                    Err(error) if error.kind == RegistryErrorKind::Unsupported => break,
                    Err(error) => {
                        repository.gaps.push(gap(&error, digest));
                        failures += 1;
                        if failures >= MAX_FAILURES {
                            break;
                        }
                    }
                }
            }
        }
        repository.gaps.sort();
    }
}

impl TextReader<'_> {
    /// Returns what an image says under the asked keys. An index speaks for itself where it has a key; else its images do,
    /// as far as they agree.
    fn texts<'f>(&'f self, digest: &'f Digest, depth: usize) -> BoxFuture<'f, Result<KnownTexts, RegistryError>> {
        async move {
            let raw = self.manifest(digest).await?;
            let parsed = registry::parse_manifest(&raw).map_err(|why| malformed(digest, why))?;
            let own = match self.kind {
                TextKind::Annotation => registry::annotations(&raw.bytes).map_err(|why| malformed(digest, why))?,
                TextKind::Label => self.labels(&parsed).await?,
            };
            let mut known = KnownTexts::new();
            for key in self.keys {
                match own.get(&**key) {
                    None => drop(known.insert(key.clone(), None)),
                    Some(Some(value)) => drop(known.insert(key.clone(), Some(value.as_str().into()))),
                    // Nobody can say what a number or the like means there.
                    Some(None) => {}
                }
            }
            let is_index = is_index_type(&raw.media_type) || !parsed.children.is_empty();
            let untyped = parsed.image_config.is_none() && parsed.artifact_type.is_empty();
            if self.kind == TextKind::Label && !is_index && untyped {
                // Docker's first format has its labels elsewhere, and a configuration without a type may be an image's.
                return Ok(KnownTexts::new());
            }
            if is_index && known.values().any(Option::is_none) {
                self.add_from_images(&parsed, depth, &mut known).await?;
            }
            Ok(known)
        }
        .boxed()
    }

    /// Fills in what the images of an index agree upon, and drops the keys under which they differ.
    async fn add_from_images(
        &self,
        index: &ParsedManifest,
        depth: usize,
        known: &mut KnownTexts,
    ) -> Result<(), RegistryError> {
        let mut images = Vec::new();
        for child in index.children.iter().filter(|child| child.is_image) {
            if depth == 0 {
                known.retain(|_, value| value.is_some());
                return Ok(());
            }
            match self.texts(&child.digest, depth - 1).await {
                Ok(texts) => images.push(texts),
                // Indexes may list platforms that were never copied.
                Err(error) if error.kind == RegistryErrorKind::NotFound => images.push(KnownTexts::new()),
                Err(error) => return Err(error),
            }
        }
        let Some((first, others)) = images.split_first() else { return Ok(()) };
        known.retain(|key, value| {
            if value.is_some() {
                return true;
            }
            let agreed = first.get(key).filter(|agreed| others.iter().all(|other| other.get(key) == Some(*agreed)));
            match agreed {
                Some(agreed) => value.clone_from(agreed),
                None => return false,
            }
            true
        });
        Ok(())
    }

    /// Returns the labels of an image; empty for what has no configuration of an image.
    async fn labels(&self, parsed: &ParsedManifest) -> Result<BTreeMap<String, Option<String>>, RegistryError> {
        let Some(digest) = &parsed.image_config else { return Ok(BTreeMap::new()) };
        let bytes: Arc<[u8]> = if let Some(cached) = self.app.store.manifest(digest).await {
            cached.bytes
        } else {
            let bytes: Arc<[u8]> = self.reader.configuration(self.repository, digest).await?.into();
            // Immutable content by its digest, as manifests are.
            let raw = RawManifest { digest: digest.clone(), media_type: CONFIGURATION.into(), bytes: bytes.clone() };
            self.app.store.store_manifest(&raw).await;
            bytes
        };
        registry::labels(&bytes).map_err(|why| malformed(digest, why))
    }

    async fn manifest(&self, digest: &Digest) -> Result<RawManifest, RegistryError> {
        if let Some(cached) = self.app.store.manifest(digest).await {
            return Ok(cached);
        }
        let gone = || {
            let message = format!("{}: {digest} is listed, but there is no such manifest", self.repository);
            RegistryError::new(RegistryErrorKind::NotFound, message)
        };
        let raw = self.reader.manifest(self.repository, digest).await?.ok_or_else(gone)?;
        self.app.store.store_manifest(&raw).await;
        Ok(raw)
    }
}

fn malformed(digest: &Digest, why: InvalidContent) -> RegistryError {
    RegistryError::new(RegistryErrorKind::Malformed, format!("{digest} is not understood")).caused_by(why)
}

/// Returns the gap of an image that could not be read. It keeps no other tag: all that others need of it was read, or is
/// a gap of its own.
fn gap(error: &RegistryError, digest: Digest) -> Gap {
    Gap {
        target: GapTarget::Configuration(digest),
        kind: error.kind.label(),
        has_help: error.has_help(),
        message: error.chain().into(),
    }
}
