//! The way back: which removals are meant, what putting them back would come to, and putting them back.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use uuid::Uuid;

use super::{Approval, House, RestoreEnded, RunError, record, was_removed};
use crate::apply::{self, Foreseen};
use crate::domain::{Inventory, RegistryName, RepositoryName};
use crate::registry;
use crate::report;
use crate::store::{Circumstances, JournalEntry, RunKind};

/// What is to be put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToRestore {
    /// All tags that a run removed; its id or the beginning of it.
    Run(String),
    /// All tags that were removed from a repository and are not back.
    Repository {
        /// `REGISTRY/REPOSITORY`, or with the registry's host.
        name: String,
        /// Only those removed since then.
        since: Option<Timestamp>,
    },
    /// One tag, as its last removal found it.
    Image(String),
}

/// A removal, what putting it back would come to, and until when it surely can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restorable {
    /// The removal and its outlook.
    pub foreseen: Foreseen,
    /// Until when it can surely be put back, where that was known.
    pub undo_until: Option<Timestamp>,
}

impl House {
    /// Puts back the tags that a run removed.
    ///
    /// # Errors
    /// When there is no such run, or the state cannot be used.
    pub async fn restore_run(&self, id: &str) -> Result<RestoreEnded, RunError> {
        self.restore(&ToRestore::Run(id.to_owned())).await
    }

    /// Puts back one tag as its last removal found it.
    ///
    /// # Errors
    /// When Tagwarden never removed it, or the state cannot be used.
    pub async fn restore_image(&self, image: &str) -> Result<RestoreEnded, RunError> {
        self.restore(&ToRestore::Image(image.to_owned())).await
    }

    /// Puts tags back.
    ///
    /// # Errors
    /// When nothing of the kind was removed, or the state cannot be used.
    pub async fn restore(&self, what: &ToRestore) -> Result<RestoreEnded, RunError> {
        let lease = self.lease("restore")?;
        self.settle(&lease).await?;
        let entries = self.removals(what).await?;
        self.put_back(entries).await
    }

    /// What putting tags back would come to. Changes nothing and leaves no record.
    ///
    /// # Errors
    /// When nothing of the kind was removed, or the state cannot be read.
    pub async fn foresee_restore(&self, what: &ToRestore) -> Result<Vec<Restorable>, RunError> {
        let entries = self.removals(what).await?;
        let ids: BTreeSet<Uuid> = entries.iter().map(|entry| entry.run).collect();
        let mut runs = BTreeMap::new();
        for id in ids {
            runs.insert(id, self.store.run(&id.to_string()).await?);
        }
        let foreseen = apply::foresee(&self.store, &self.readers, entries).await?;
        let restorable = |foreseen: Foreseen| {
            let record = runs.get(&foreseen.entry.run).and_then(Option::as_ref);
            let undo_until = record.and_then(|record| report::undo_until(record, &foreseen.entry));
            Restorable { foreseen, undo_until }
        };
        Ok(foreseen.into_iter().map(restorable).collect())
    }

    /// The removals that are meant. Last removed, first back: what others hang on comes first.
    async fn removals(&self, what: &ToRestore) -> Result<Vec<JournalEntry>, RunError> {
        match what {
            ToRestore::Run(id) => {
                let record = self.run_record(id).await?;
                let journal = self.store.journal(record.run.id).await?;
                Ok(journal.into_iter().filter(was_removed).rev().collect())
            }
            ToRestore::Repository { name, since } => {
                let (registry, repository) = self.find_repository(name)?;
                let removed = self.store.removals_from(&registry, &repository, *since).await?;
                if removed.is_empty() {
                    let since = since.map_or_else(String::new, |since| format!(" since {since}"));
                    return Err(RunError::Usage(format!(
                        "tagwarden has removed nothing from {registry}/{repository}{since} that is not back, as far as \
                         this state knows"
                    )));
                }
                Ok(removed)
            }
            ToRestore::Image(image) => {
                let (registry, repository, tag) = self.find_image(image)?;
                let entry = self.store.last_removal(&registry, &repository, &tag).await?;
                let unknown = || {
                    RunError::Usage(format!(
                        "tagwarden has not removed {registry}/{repository}:{tag}, as far as this state knows"
                    ))
                };
                Ok(vec![entry.ok_or_else(unknown)?])
            }
        }
    }

    /// The registry and repository that `REGISTRY/REPOSITORY` names, or `HOST/REPOSITORY`.
    fn find_repository(&self, name: &str) -> Result<(RegistryName, RepositoryName), RunError> {
        let here = self.settings.registries.iter().find_map(|settings| {
            let hosts = registry::hosts(settings);
            let mut names = std::iter::once(settings.name.as_str()).chain(hosts.iter().map(String::as_str));
            let path = names.find_map(|own| name.strip_prefix(own)?.strip_prefix('/'))?;
            Some((settings.name.clone(), path.parse().ok()?))
        });
        here.ok_or_else(|| {
            let known: Vec<&str> = self.settings.registries.iter().map(|settings| settings.name.as_str()).collect();
            RunError::Usage(format!(
                "`{name}` is no repository of a configured registry; write REGISTRY/REPOSITORY, with one of: {}",
                known.join(", ")
            ))
        })
    }

    async fn put_back(&self, entries: Vec<JournalEntry>) -> Result<RestoreEnded, RunError> {
        let run = self.begin(RunKind::Restore, &Approval::default(), &Circumstances::default()).await?;
        let restored = match self.hands(run, &Inventory::default()) {
            Ok(hands) => apply::restore(&hands, entries).await.map_err(RunError::from),
            Err(error) => Err(error),
        };
        let restored = restored.map(|restored| RestoreEnded { run, restored });
        let (label, code, error) = match &restored {
            Ok(ended) => (ended.outcome().label(), ended.outcome().exit_code(), None),
            Err(error) => ("error", error.exit_code(), Some(error.to_string())),
        };
        let summary = match &restored {
            Ok(ended) => record::restore_counts(&ended.restored),
            Err(_) => "{}".to_owned(),
        };
        self.end(run, label, code, summary, error).await?;
        restored
    }
}
