//! A manifest as scenarios write it.

use std::collections::BTreeMap;

use serde::Deserialize;
use tagwarden::domain::{Digest, KnownTexts, Policy, Repository, TextKind};

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ManifestShape {
    pub(super) created: Option<String>,
    /// Its own type, or `none`. Without it, the type is unknown.
    pub(super) r#type: Option<String>,
    /// Its media type, instead of that of an image or an index.
    pub(super) media_type: Option<String>,
    pub(super) children: Vec<String>,
    pub(super) subject: Option<String>,
    pub(super) config: Option<String>,
    pub(super) lock: Option<String>,
    pub(super) size: u64,
    /// `layer 100`: its name and its bytes.
    pub(super) blobs: Vec<String>,
    /// Only listed, not read: the image's bytes by the registry's account, or `unknown`.
    pub(super) listed: Option<String>,
    /// All its annotations; null for one that is unknown. Without it, all are.
    annotations: Option<BTreeMap<String, Option<String>>>,
    /// The same for its labels.
    labels: Option<BTreeMap<String, Option<String>>>,
}

impl ManifestShape {
    /// Puts what it says of itself into a repository: its own type, and annotations and labels by the keys that policies
    /// ask for.
    pub(super) fn record(&self, digest: &Digest, policies: &[Policy], repository: &mut Repository) {
        if let Some(own) = &self.r#type {
            let own = if own == "none" { "" } else { own };
            repository.artifact_types.insert(digest.clone(), own.into());
        }
        for (kind, texts) in [(TextKind::Annotation, &self.annotations), (TextKind::Label, &self.labels)] {
            let Some(texts) = texts else { continue };
            let mut known = KnownTexts::new();
            for condition in policies.iter().flat_map(|policy| policy.select.facts.texts(kind)) {
                match texts.get(&*condition.key) {
                    Some(None) => {}
                    Some(Some(value)) => drop(known.insert(condition.key.clone(), Some(value.as_str().into()))),
                    None => drop(known.insert(condition.key.clone(), None)),
                }
            }
            repository.known_texts_mut(kind).insert(digest.clone(), known);
        }
    }
}
