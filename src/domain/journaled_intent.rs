//! Journaled intents: the proof, needed for every removal, that the journal knows of it.

use std::fmt;

use super::{Action, Digest, Intent, RegistryName, RemovalMethod, RepositoryName, TagName};

/// The number of a journal entry; later entries have higher ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JournalId(pub(crate) i64);

/// An intent that is durably in the journal.
///
/// Writers of registries take one for each removal, and only the state makes them, for the holder of the lease. So code
/// that removes during a dry run, or before the journal has the intent, does not compile.
#[derive(Debug, PartialEq, Eq)]
pub struct JournaledIntent {
    id: JournalId,
    action: Action,
    registry: RegistryName,
    repository: RepositoryName,
    tag: TagName,
    digest: Digest,
}

impl JournaledIntent {
    /// The proof that an entry with that number has the intent. For the state alone: `tests/it/source_rules.rs` allows no
    /// other caller.
    pub(crate) fn recorded(id: JournalId, intent: &Intent) -> Self {
        Self {
            id,
            action: intent.action,
            registry: intent.registry.clone(),
            repository: intent.repository.clone(),
            tag: intent.tag.clone(),
            digest: intent.digest.clone(),
        }
    }

    /// The number of the journal entry.
    #[must_use]
    pub fn id(&self) -> JournalId {
        self.id
    }

    /// The registry.
    #[must_use]
    pub fn registry(&self) -> &RegistryName {
        &self.registry
    }

    /// The repository.
    #[must_use]
    pub fn repository(&self) -> &RepositoryName {
        &self.repository
    }

    /// The tag; for the deletion of an untagged manifest, the last tag that Tagwarden took from it, if any.
    #[must_use]
    pub fn tag(&self) -> &TagName {
        &self.tag
    }

    /// The digest that the tag has, or the manifest that is deleted.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The kind of removal that was journaled, or `None` for a restore, which allows no removal.
    #[must_use]
    pub fn method(&self) -> Option<RemovalMethod> {
        match self.action {
            Action::Remove(method) => Some(method),
            Action::DeleteUntagged => Some(RemovalMethod::DeleteManifest),
            Action::Restore | Action::RestoreManifest => None,
        }
    }
}

impl JournalId {
    /// The number itself, by which pages of the journal go on.
    #[must_use]
    pub fn number(self) -> i64 {
        self.0
    }
}

impl fmt::Display for JournalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
