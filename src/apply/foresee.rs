//! What putting tags back would come to, found out without putting anything.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::again::{self, Unread};
use crate::domain::{Digest, RegistryName};
use crate::registry::RegistryReader;
use crate::store::{JournalEntry, JournalId, Store, StoreError, StoreErrorKind};

/// A removal, and what putting its tag back would come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreseen {
    /// The removal.
    pub entry: JournalEntry,
    /// What would come of it.
    pub outlook: Outlook,
}

/// What would come of putting a tag back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outlook {
    /// It comes back: the manifest is still in the registry.
    Returns,
    /// It is there already, at that digest.
    AlreadyThere,
    /// Somebody has pushed the tag again: it is left alone.
    Moved {
        /// Where it is now.
        to: Digest,
    },
    /// The manifest is gone and would be put again, which works only while what it is made of is there.
    Doubtful(String),
    /// It cannot come back; the text says why.
    Impossible(String),
    /// The registry did not say; the text says why.
    Unknown(String),
}

impl Outlook {
    /// The label used in the JSON.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Returns => "returns",
            Self::AlreadyThere => "already-there",
            Self::Moved { .. } => "moved",
            Self::Doubtful(_) => "doubtful",
            Self::Impossible(_) => "impossible",
            Self::Unknown(_) => "unknown",
        }
    }

    /// The same in words.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Returns => "would come back".to_owned(),
            Self::AlreadyThere => "is there already, at that digest".to_owned(),
            Self::Moved { to } => format!("would be left alone: somebody has pushed it again, it is at {to}"),
            Self::Doubtful(why) => format!("may come back: {why}"),
            Self::Impossible(why) => format!("cannot come back: {why}"),
            Self::Unknown(why) => format!("not known: {why}"),
        }
    }
}

/// Says of each removal what putting its tag back would come to. Only reads. `impossible` names those that cannot be put
/// back, with the reason.
///
/// # Errors
/// When the state could not be read.
pub async fn foresee(
    store: &Store,
    readers: &BTreeMap<RegistryName, Arc<dyn RegistryReader>>,
    entries: Vec<JournalEntry>,
    impossible: &BTreeMap<JournalId, String>,
) -> Result<Vec<Foreseen>, StoreError> {
    let mut foreseen = Vec::with_capacity(entries.len());
    for entry in entries {
        let outlook = match impossible.get(&entry.id) {
            Some(why) => Outlook::Impossible(why.clone()),
            None => outlook(store, readers, &entry).await?,
        };
        foreseen.push(Foreseen { entry, outlook });
    }
    Ok(foreseen)
}

async fn outlook(
    store: &Store,
    readers: &BTreeMap<RegistryName, Arc<dyn RegistryReader>>,
    entry: &JournalEntry,
) -> Result<Outlook, StoreError> {
    let removed = &entry.intent;
    let Some(reader) = readers.get(&removed.registry) else {
        return Ok(Outlook::Impossible(format!("registry {} is not in the settings", removed.registry)));
    };
    match reader.resolve(&removed.repository, &removed.tag).await {
        Ok(Some(now)) if now.digest == removed.digest => return Ok(Outlook::AlreadyThere),
        Ok(Some(now)) => return Ok(Outlook::Moved { to: now.digest }),
        Ok(None) => {}
        Err(error) => return Ok(Outlook::Unknown(error.message)),
    }
    let manifest = match store.manifest_of(entry).await {
        Ok(manifest) => manifest,
        Err(error) if matches!(error.kind, StoreErrorKind::Missing | StoreErrorKind::Corrupt) => {
            return Ok(Outlook::Impossible(error.message));
        }
        Err(error) => return Err(error),
    };
    match reader.has_manifest(&removed.repository, &removed.digest).await {
        Ok(true) => return Ok(Outlook::Returns),
        Ok(false) => {}
        Err(error) => return Ok(Outlook::Unknown(error.message)),
    }
    let within = match again::within(store, &**reader, removed, &manifest.bytes).await {
        Ok(within) => within,
        Err(Unread::Registry(error)) => return Ok(Outlook::Unknown(error.message)),
        Err(Unread::Store(error)) => return Err(error),
    };
    if let Some(child) = within.lost {
        return Ok(Outlook::Impossible(again::without(&child)));
    }
    let why = match again::deletion_since(store, entry).await? {
        Some(deletion) => {
            let also = again::referrers(store, entry, &manifest.bytes).await?.len() + within.kept.len();
            let also = if also > 0 { format!(", with {also} more that went along") } else { String::new() };
            format!("{}; it is put again from the journal{also}", again::deleted(&deletion))
        }
        None => "the registry has collected its manifest, which is put again from the journal".to_owned(),
    };
    Ok(Outlook::Doubtful(format!("{why}; that works only while its layers and configuration are there")))
}
