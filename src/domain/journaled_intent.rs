//! Journaled intents: the proof, needed for every removal, that it is in the journal.

use std::fmt;

use super::{Action, Digest, Intent, RegistryName, RemovalMethod, RepositoryName, TagName};

/// The number of a journal entry; later entries have higher ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JournalId(pub(crate) i64);

/// An intent that is durably in the journal.
///
/// Writers of registries take one for each removal, and only the state creates them, for the holder of the lease. So
/// code that removes during a dry run, or before the intent is journaled, does not compile.
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
    /// Creates the proof that the entry with that number contains the intent. For the state alone:
    /// `tests/it/source_rules.rs` allows no other caller.
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

    /// Returns the number of the journal entry.
    #[must_use]
    pub fn id(&self) -> JournalId {
        self.id
    }

    /// Returns the registry.
    #[must_use]
    pub fn registry(&self) -> &RegistryName {
        &self.registry
    }

    /// Returns the repository.
    #[must_use]
    pub fn repository(&self) -> &RepositoryName {
        &self.repository
    }

    /// The tag; for the deletion of an untagged manifest, the last tag that Tagwarden took from it, if any.
    #[must_use]
    pub fn tag(&self) -> &TagName {
        &self.tag
    }

    /// Returns the digest of the tag, or of the manifest that is deleted.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Returns the kind of removal that was journaled, or `None` for a restore, which allows no removal.
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
    /// Returns the number itself, the cursor for pages of the journal.
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
