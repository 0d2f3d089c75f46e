//! Previews of restores, made without putting anything.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::restore_dependents::{self, ChildLookupError, KnownManifests};
use crate::domain::{Action, Digest, RegistryName, RemovalMethod};
use crate::registry::RegistryReader;
use crate::state::{JournalEntry, JournalId, StateError, StateErrorKind, StateStore};

/// A removal, with the expected result of its restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorePreview {
    /// The removal.
    pub entry: JournalEntry,
    /// The expected result.
    pub expected: ExpectedRestore,
}

/// The expected result of restoring a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpectedRestore {
    /// It can be restored: the manifest is still in the registry.
    Returns,
    /// It can be restored as long as the registry keeps the manifest: the journal does not have its content.
    OnlyInRegistry,
    /// It exists already, at that digest.
    AlreadyThere,
    /// The tag was pushed again: it is left alone.
    Moved {
        /// The current digest.
        to: Digest,
    },
    /// The manifest is missing and would be put again, which requires its parts to exist.
    Doubtful(String),
    /// It can be restored at most without images of its index, if the registry takes it so; the text names them.
    Incomplete(String),
    /// It cannot be restored; the text says why.
    Impossible(String),
    /// The registry did not answer; the text says why.
    Unknown(String),
}

impl ExpectedRestore {
    /// Returns the label used in the JSON.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Returns => "returns",
            Self::OnlyInRegistry => "only-in-registry",
            Self::AlreadyThere => "already-present",
            Self::Moved { .. } => "moved",
            Self::Doubtful(_) => "uncertain",
            Self::Incomplete(_) => "incomplete",
            Self::Impossible(_) => "impossible",
            Self::Unknown(_) => "unknown",
        }
    }

    /// Describes the expected result.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Returns => "would come back".to_owned(),
            Self::OnlyInRegistry => {
                "would come back as long as the registry keeps its manifest, which is not in the journal yet".to_owned()
            }
            Self::AlreadyThere => "is there already, at that digest".to_owned(),
            Self::Moved { to } => format!("would be left alone: somebody has pushed it again, it is at {to}"),
            Self::Doubtful(why) => format!("may come back: {why}"),
            Self::Incomplete(lost) => format!("comes back incomplete, if the registry takes it so: {lost}"),
            Self::Impossible(why) => format!("cannot come back: {why}"),
            Self::Unknown(why) => format!("not known: {why}"),
        }
    }
}

/// Returns the expected result of each restore. Read-only. `impossible` names removals that cannot be restored, with
/// the reason.
///
/// # Errors
/// Returns an error if the state cannot be read.
pub async fn preview_restore(
    store: &StateStore,
    readers: &BTreeMap<RegistryName, Arc<dyn RegistryReader>>,
    entries: Vec<JournalEntry>,
    impossible: &BTreeMap<JournalId, String>,
) -> Result<Vec<RestorePreview>, StateError> {
    let mut known: BTreeMap<RegistryName, KnownManifests> = BTreeMap::new();
    let mut foreseen = Vec::with_capacity(entries.len());
    for entry in entries {
        let outlook = if let Some(why) = impossible.get(&entry.id) {
            ExpectedRestore::Impossible(why.clone())
        } else {
            let known = known.entry(entry.intent.registry.clone()).or_default();
            expected_restore(store, readers, &entry, known).await?
        };
        foreseen.push(RestorePreview { entry, expected: outlook });
    }
    Ok(foreseen)
}

async fn expected_restore(
    store: &StateStore,
    readers: &BTreeMap<RegistryName, Arc<dyn RegistryReader>>,
    entry: &JournalEntry,
    known: &KnownManifests,
) -> Result<ExpectedRestore, StateError> {
    let removed = &entry.intent;
    let Some(reader) = readers.get(&removed.registry) else {
        return Ok(ExpectedRestore::Impossible(format!("registry {} is not in the settings", removed.registry)));
    };
    match reader.resolve(&removed.repository, &removed.tag).await {
        Ok(Some(now)) if now.digest == removed.digest => return Ok(ExpectedRestore::AlreadyThere),
        Ok(Some(now)) => return Ok(ExpectedRestore::Moved { to: now.digest }),
        Ok(None) => {}
        Err(error) => return Ok(ExpectedRestore::Unknown(error.chain())),
    }
    let manifest = match store.manifest_of(entry).await {
        Ok(manifest) => manifest,
        Err(error) if error.kind == StateErrorKind::Corrupt => {
            return Ok(ExpectedRestore::Impossible(error.chain()));
        }
        Err(error) if error.kind == StateErrorKind::Missing => {
            return Ok(match reader.keeps_removed(&removed.repository, &removed.tag, &removed.digest).await {
                Ok(true) => ExpectedRestore::OnlyInRegistry,
                Ok(false) => {
                    ExpectedRestore::Impossible(format!("{}, and the registry no longer has it", error.chain()))
                }
                Err(error) => ExpectedRestore::Unknown(error.chain()),
            });
        }
        Err(error) => return Err(error),
    };
    let is_kept = match reader.keeps_removed(&removed.repository, &removed.tag, &removed.digest).await {
        Ok(is_kept) => is_kept,
        Err(error) => return Ok(ExpectedRestore::Unknown(error.chain())),
    };
    let within = restore_dependents::missing_children(store, &**reader, removed, &manifest.bytes, known).await;
    let within = match within {
        Ok(within) => within,
        Err(ChildLookupError::Registry(error)) => return Ok(ExpectedRestore::Unknown(error.chain())),
        Err(ChildLookupError::Store(error)) => return Err(error),
    };
    if let Some(lost) = restore_dependents::describe_lost(&within.lost) {
        return Ok(ExpectedRestore::Incomplete(lost));
    }
    if is_kept && within.restorable.is_empty() {
        return Ok(ExpectedRestore::Returns);
    }
    let why = match restore_dependents::deletion_since(store, entry).await? {
        Some(deletion) => {
            let also = restore_dependents::deleted_referrers(store, entry, &manifest.bytes).await?.len()
                + within.restorable.len();
            let also = if also > 0 { format!(", with {also} more that went along") } else { String::new() };
            format!("{}; it is put again from the journal{also}", restore_dependents::describe_deletion(&deletion))
        }
        None if removed.action == Action::Remove(RemovalMethod::DeleteManifest) => {
            "the removal deleted its manifest, which is put again from the journal".to_owned()
        }
        None if is_kept => match within.restorable.len() {
            1 => "an image in its index is gone, and is put again from the journal".to_owned(),
            many => format!("{many} images in its index are gone, and are put again from the journal"),
        },
        None => "the registry has collected its manifest, which is put again from the journal".to_owned(),
    };
    Ok(ExpectedRestore::Doubtful(format!("{why}; that works only while its layers and configuration are there")))
}
