//! Restores: selection of removals, preview, and execution.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use tracing::field::Empty;
use uuid::Uuid;

use super::heartbeat::Phase;
use super::lookup::LAST_RUN;
use super::{App, Approval, RestoreRunResult, RunError, audit, unknown_name, was_removed};
use crate::apply::{self, RestoreHold, RestorePreview};
use crate::domain::{Failure, RegistryName, RepositoryName, TagName, chain};
use crate::policy::fields::nearest;
use crate::registry;
use crate::report::{self, RunSummary};
use crate::state::{JournalEntry, JournalId, LeaseToken, RunContext, RunKind, RunRecord};

/// Most runs among which the last one that removed a tag is looked for.
const MOST_RUNS: u32 = super::lookup::RECENT_RUNS;

/// The removals to be undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestoreSelection {
    /// All tags that a run removed; its id or the beginning of it.
    Run(String),
    /// All tags that were removed from a repository and do not exist again.
    Repository {
        /// `REGISTRY/REPOSITORY`, or with the registry's host.
        name: String,
        /// Only tags removed since then.
        since: Option<Timestamp>,
    },
    /// One tag, as its last removal found it.
    Image(String),
}

/// A removal, the preview of its restore, and the time until which it can certainly be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreCandidate {
    /// The removal and its preview.
    pub preview: RestorePreview,
    /// The time until which it can certainly be restored, if known.
    pub undo_until: Option<Timestamp>,
}

impl App {
    /// Restores the tags that a run removed.
    ///
    /// # Errors
    /// Returns an error if there is no such run, or the state cannot be used.
    pub async fn restore_run(&self, id: &str) -> Result<RestoreRunResult, RunError> {
        self.restore(&RestoreSelection::Run(id.to_owned())).await
    }

    /// Restores one tag as its last removal found it.
    ///
    /// # Errors
    /// Returns an error if Tagwarden never removed it, or the state cannot be used.
    pub async fn restore_image(&self, image: &str) -> Result<RestoreRunResult, RunError> {
        self.restore(&RestoreSelection::Image(image.to_owned())).await
    }

    /// Restores tags, and holds them for the undo window of the settings.
    ///
    /// # Errors
    /// Returns an error if nothing of the kind was removed, or the state cannot be used.
    pub async fn restore(&self, what: &RestoreSelection) -> Result<RestoreRunResult, RunError> {
        self.restore_with_hold(what, Some(self.settings.undo_window)).await
    }

    /// Restores tags with another hold, or none. A running enforcement is asked to stop before its next removal.
    ///
    /// # Errors
    /// Fails as [`App::restore`] does.
    #[tracing::instrument(name = "restore", skip_all, fields(run = Empty, outcome = Empty, error = Empty, otel.status_code = Empty))]
    pub async fn restore_with_hold(
        &self,
        what: &RestoreSelection,
        hold: Option<Duration>,
    ) -> Result<RestoreRunResult, RunError> {
        let lease = self.lease_after_stop("restore").await?;
        // A restore does not wait for manifests of other removals.
        let token = self.settle(&lease, None).await?;
        let entries = self.select_removals(what).await?;
        let hold = hold.map(|duration| RestoreHold { by: self.by.clone(), duration });
        self.restore_entries(token, entries, hold.as_ref()).await
    }

    /// Previews a restore. Changes nothing and leaves no record.
    ///
    /// # Errors
    /// Returns an error if nothing of the kind was removed, or the state cannot be read.
    pub async fn preview_restore(&self, what: &RestoreSelection) -> Result<Vec<RestoreCandidate>, RunError> {
        let entries = self.select_removals(what).await?;
        let ids: BTreeSet<Uuid> = entries.iter().map(|entry| entry.run).collect();
        let mut runs = BTreeMap::new();
        for id in ids {
            runs.insert(id, self.store.run(&id.to_string()).await?);
        }
        let impossible = self.entries_of_other_registries(&entries).await?;
        let foreseen = apply::preview_restore(&self.store, &self.readers, entries, &impossible).await?;
        let restorable = |foreseen: RestorePreview| {
            let record = runs.get(&foreseen.entry.run).and_then(Option::as_ref);
            let undo_until = record.and_then(|record| report::undo_until(record, &foreseen.entry));
            RestoreCandidate { preview: foreseen, undo_until }
        };
        Ok(foreseen.into_iter().map(restorable).collect())
    }

    /// Returns the last run that removed a tag: what somebody means who undoes the last one, whatever ran since.
    async fn last_removing_run(&self) -> Result<RunRecord, RunError> {
        let records = self.store.runs(MOST_RUNS).await?;
        let ids: Vec<Uuid> = records.iter().map(|record| record.run.id).collect();
        let totals = self.store.journal_totals(&ids).await?;
        let has_removed = |record: &RunRecord| totals.get(&record.run.id).is_some_and(|totals| totals.removed > 0);
        let none = || {
            let failure = Failure::new((), "no recent run removed a tag");
            RunError::Usage(failure.with_help("name the run with `--run ID`; `tagwarden runs` lists them"))
        };
        records.into_iter().find(has_removed).ok_or_else(none)
    }

    /// Returns the one recent run that removed something and whose id begins so: what one may mean by an id that others,
    /// such as the plan before it, begin with as well.
    async fn only_removing_run(&self, id: &str) -> Result<Option<RunRecord>, RunError> {
        let id = id.trim().to_ascii_lowercase();
        let recent = self.store.runs(MOST_RUNS).await?.into_iter();
        let records: Vec<RunRecord> = recent.filter(|record| record.run.id.to_string().starts_with(&id)).collect();
        let ids: Vec<Uuid> = records.iter().map(|record| record.run.id).collect();
        let totals = self.store.journal_totals(&ids).await?;
        let has_removed = |record: &RunRecord| totals.get(&record.run.id).is_some_and(|totals| totals.removed > 0);
        let mut removing = records.into_iter().filter(has_removed);
        Ok(removing.next().filter(|_| removing.next().is_none()))
    }

    /// Returns the selected removals, the last one first, so that dependencies come first.
    async fn select_removals(&self, what: &RestoreSelection) -> Result<Vec<JournalEntry>, RunError> {
        match what {
            RestoreSelection::Run(id) => {
                let record = match id.as_str() {
                    LAST_RUN => self.last_removing_run().await?,
                    id => match self.only_removing_run(id).await? {
                        Some(record) => record,
                        None => self.run_record(id).await?,
                    },
                };
                let journal = self.store.journal(record.run.id).await?;
                let removed: Vec<JournalEntry> = journal.into_iter().filter(was_removed).rev().collect();
                if removed.is_empty() && matches!(record.run.kind, RunKind::Plan | RunKind::Restore) {
                    let (run, kind) = (record.run.id, record.run.kind.label());
                    let failure = Failure::new((), format!("run {run} ({kind}) removed nothing"));
                    let help = "`tagwarden runs` shows what each run removed; `--run last` means the last one that did";
                    return Err(RunError::Usage(failure.with_help(help)));
                }
                Ok(removed)
            }
            RestoreSelection::Repository { name, since } => {
                let (registry, repository) = self.find_repository(name)?;
                let mut removed = self.store.removals_in(&registry, &repository, *since).await?;
                let elsewhere = self.entries_of_other_registries(&removed).await?;
                removed.retain(|entry| !elsewhere.contains_key(&entry.id));
                if removed.is_empty() {
                    let since = since.map_or_else(String::new, |since| format!(" since {since}"));
                    return Err(RunError::usage(format!(
                        "tagwarden has removed nothing from {registry}/{repository}{since} that is not back, as far as \
                         this state knows"
                    )));
                }
                Ok(removed)
            }
            RestoreSelection::Image(image) => {
                let (registry, repository, tag) = match self.find_image(image) {
                    Ok(found) => found,
                    Err(error) => return Err(self.explain_bare_word(image, error).await?),
                };
                if let Some(entry) = self.last_removal(&registry, &repository, &tag).await? {
                    return Ok(vec![entry]);
                }
                let words =
                    format!("tagwarden has not removed {registry}/{repository}:{tag}, as far as this state knows");
                let meant = self.propose_removed(&registry, &repository, &tag).await?;
                Err(RunError::Usage(Failure::new((), words).with_help(meant)))
            }
        }
    }

    /// Returns the last removal of a tag from the registry at its current address; if there is none, the last from
    /// another address.
    pub(super) async fn last_removal(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        tag: &TagName,
    ) -> Result<Option<JournalEntry>, RunError> {
        let mut removals = self.store.removals_of(registry, repository, tag).await?;
        let elsewhere = self.entries_of_other_registries(&removals).await?;
        let here = removals.iter().position(|entry| !elsewhere.contains_key(&entry.id)).unwrap_or_default();
        Ok((!removals.is_empty()).then(|| removals.swap_remove(here)))
    }

    /// Returns why entries belong to another registry although the settings contain its name: its address has changed.
    /// Entries of older versions contain no address; they count as made at the address that the state knew then.
    pub(super) async fn entries_of_other_registries(
        &self,
        entries: &[JournalEntry],
    ) -> Result<BTreeMap<JournalId, String>, RunError> {
        let mut since: BTreeMap<&RegistryName, Option<Timestamp>> = BTreeMap::new();
        let mut found = BTreeMap::new();
        for entry in entries {
            let registry = &entry.intent.registry;
            let Some(reader) = self.readers.get(registry) else { continue };
            let address = reader.settings().address();
            let was = match entry.intent.endpoint.as_deref() {
                Some(was) if was == address => continue,
                Some(was) => format!("at {was}"),
                None => {
                    if !since.contains_key(registry) {
                        let endpoint = reader.settings().endpoint.as_str();
                        since
                            .insert(registry, self.store.registry_address_since(registry, endpoint, self.now()).await?);
                    }
                    match since.get(registry).copied().flatten() {
                        Some(since) if entry.intended_at < since => "at another address".to_owned(),
                        _ => continue,
                    }
                }
            };
            let why = format!(
                "the tag was removed when registry {registry} was {was}, and it is {address} now; name the registry of \
                 then in the settings to put it back there"
            );
            found.insert(entry.id, why);
        }
        Ok(found)
    }

    /// Returns the registry and repository that `REGISTRY/REPOSITORY` names, or `HOST/REPOSITORY`.
    fn find_repository(&self, name: &str) -> Result<(RegistryName, RepositoryName), RunError> {
        let here = self.settings.registries.iter().find_map(|settings| {
            let hosts = registry::hosts(settings);
            let mut names = std::iter::once(settings.name.as_str()).chain(hosts.iter().map(String::as_str));
            let path = names.find_map(|own| name.strip_prefix(own)?.strip_prefix('/'))?;
            Some((settings.name.clone(), path.parse().ok()?))
        });
        let first = name.split('/').next().unwrap_or_default();
        let only = || match self.settings.registries.as_slice() {
            // What begins nearly like the registry's name is a slip in that.
            [only]
                if name.contains('/')
                    && !first.contains(['.', ':'])
                    && nearest(first, &[only.name.as_str()]).is_none() =>
            {
                Some((only.name.clone(), name.parse().ok()?))
            }
            _ => None,
        };
        here.or_else(only).ok_or_else(|| {
            let known: Vec<&str> = self.settings.registries.iter().map(|settings| settings.name.as_str()).collect();
            if name.contains('/') {
                return unknown_name("registry", first, &known);
            }
            let failure = Failure::new((), format!("`{name}`: not a repository; write REGISTRY/REPOSITORY"));
            RunError::Usage(failure.with_help(format!("registries: {}", known.join(", "))))
        })
    }

    async fn restore_entries(
        &self,
        lease: LeaseToken,
        entries: Vec<JournalEntry>,
        hold: Option<&RestoreHold>,
    ) -> Result<RestoreRunResult, RunError> {
        let impossible = self.entries_of_other_registries(&entries).await?;
        let run = self.begin_run(RunKind::Restore, &Approval::default(), &RunContext::default()).await?;
        let _beat = self.start_heartbeat(Some(run));
        self.heartbeat.start_tasks(Phase::Restoring, entries.len() as u64);
        let context = self.apply_context(run, lease);
        let restored = apply::restore(&context, entries, hold, &impossible).await.map_err(RunError::from);
        let restored = restored.map(|restored| RestoreRunResult { run, restored });
        let (label, code, error) = match &restored {
            Ok(result) => (result.outcome().label(), result.outcome().exit_code(), None),
            Err(error) => ("error", error.exit_code(), Some(chain(error))),
        };
        let summary = match &restored {
            Ok(result) => audit::restore_summary(&result.restored),
            Err(_) => RunSummary::default(),
        };
        self.record_end(run, label, code, &summary, error).await?;
        restored
    }
}
