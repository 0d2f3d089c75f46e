//! The traits of the audit record: runs, their journal, and the holds and policies in force.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::{
    JournalCount, JournalEntry, JournalId, JournalScope, JournalTotals, LeaseToken, NewRun, RecordedPolicy,
    RestoreRecord, RunContext, RunEnd, RunRecord, StateError, UntagRecord,
};
use crate::domain::{
    Coverage, Digest, EndedHold, Hold, Intent, JournaledIntent, Outcome, RegistryName, RepositoryName, RuleHistory,
    TagName,
};
use crate::registry::RawManifest;

/// The audit record of runs.
#[async_trait]
pub trait Runs: Send + Sync {
    /// Records the start of a run. Durable when it returns.
    ///
    /// # Errors
    /// Returns an error if it cannot be recorded; the run must not continue then.
    async fn begin_run(&self, run: &NewRun) -> Result<(), StateError>;

    /// Does what [`Self::begin_run`] does, and records the run's context besides its settings.
    ///
    /// # Errors
    /// Fails as [`Self::begin_run`] does.
    async fn begin_run_with_context(&self, run: &NewRun, run_context: &RunContext) -> Result<(), StateError>;

    /// Records the end of a run. Durable when it returns.
    ///
    /// # Errors
    /// Returns an error if it cannot be written, or there is no such run.
    async fn finish_run(&self, run: Uuid, end: &RunEnd) -> Result<(), StateError>;

    /// Returns the last runs, the latest first: in the order in which they were recorded, whatever the clock showed.
    ///
    /// # Errors
    /// Returns an error if they cannot be read.
    async fn runs(&self, limit: u32) -> Result<Vec<RunRecord>, StateError>;

    /// Returns the runs before one, or the last of all; newest first.
    ///
    /// # Errors
    /// Returns an error if they cannot be read.
    async fn runs_before(&self, before: Option<Uuid>, limit: u32) -> Result<Vec<RunRecord>, StateError>;

    /// Returns the run whose id begins with `id_prefix`, or `None`.
    ///
    /// # Errors
    /// Returns an error if several match, or the runs cannot be read.
    async fn run(&self, id_prefix: &str) -> Result<Option<RunRecord>, StateError>;

    /// Returns the context of a run besides its settings; empty for runs from before it was recorded.
    ///
    /// # Errors
    /// Returns an error if it cannot be read.
    async fn run_context(&self, run: Uuid) -> Result<RunContext, StateError>;

    /// Counts the outcomes of each of these runs, by their journals; runs without resolved entries are omitted.
    ///
    /// # Errors
    /// Returns an error if a journal cannot be read.
    async fn journal_totals(&self, runs: &[Uuid]) -> Result<BTreeMap<Uuid, JournalTotals>, StateError>;

    /// Returns the runs that applied the plan with that id or began to, in order. A run that was refused before it
    /// began does not count.
    ///
    /// # Errors
    /// Returns an error if they cannot be read. The plan must not be applied then.
    async fn runs_applying(&self, plan_id: &str) -> Result<Vec<RunRecord>, StateError>;

    /// Returns true if a plan with that ticket was refused before with exactly this error.
    ///
    /// # Errors
    /// Returns an error if the runs cannot be read.
    async fn was_refused(&self, ticket: &str, error: &str) -> Result<bool, StateError>;
}

/// The journal: intents for tags, and their outcomes.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Journals an intent, with the manifest that undoes it. Durable when it returns; only then may it be carried out,
    /// and the returned value is the proof that removals need.
    ///
    /// # Errors
    /// Returns an error if the manifest does not match the intent, the lease was taken again since
    /// ([`LeaseLost`](super::StateErrorKind::LeaseLost)), or it cannot be written. A removal also fails if a hold covers it
    /// ([`Held`](super::StateErrorKind::Held)) or a stop was requested
    /// ([`Interrupted`](super::StateErrorKind::Interrupted)). It must not be carried out then.
    async fn intend(
        &self,
        lease: &LeaseToken,
        run: Uuid,
        intent: &Intent,
        manifest: &RawManifest,
        now: Timestamp,
    ) -> Result<JournaledIntent, StateError>;

    /// Does what [`Self::intend`] does for an untag that leaves its manifest in the registry, without the manifest's
    /// content, which can be added later.
    ///
    /// # Errors
    /// Fails as [`Self::intend`] does; returns [`Missing`](super::StateErrorKind::Missing) if a hold may cover
    /// something in the manifest, which only its content shows.
    async fn intend_without_manifest(
        &self,
        lease: &LeaseToken,
        run: Uuid,
        intent: &Intent,
        now: Timestamp,
    ) -> Result<JournaledIntent, StateError>;

    /// Records the outcome of an intent. Durable when it returns.
    ///
    /// # Errors
    /// Returns an error if it cannot be written, there is no such entry, or it is resolved already.
    async fn record_outcome(&self, id: JournalId, outcome: &Outcome, now: Timestamp) -> Result<(), StateError>;

    /// Journals a planned action that was never begun, with the reason. Durable when it returns.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    async fn record_not_attempted(
        &self,
        lease: &LeaseToken,
        run: Uuid,
        intent: &Intent,
        outcome: &Outcome,
        now: Timestamp,
    ) -> Result<JournalId, StateError>;

    /// Does what [`Self::record_not_attempted`] does for many at once, in one write.
    ///
    /// # Errors
    /// Returns an error if they cannot be written; none is then.
    async fn record_all_not_attempted(
        &self,
        lease: &LeaseToken,
        run: Uuid,
        notes: &[(&Intent, &Outcome)],
        now: Timestamp,
    ) -> Result<Vec<JournalId>, StateError>;

    /// Returns all entries of all runs without an outcome, in order.
    ///
    /// # Errors
    /// Returns an error if they cannot be read. Nothing new may be removed then.
    async fn pending_entries(&self) -> Result<Vec<JournalEntry>, StateError>;

    /// Returns the entries that a takeover closed as superseded since then and that no later entry of the same tag, or for
    /// a deletion of the same manifest, explains: none was done. In order.
    ///
    /// # Errors
    /// Returns an error if they cannot be read. Nothing new may be removed then.
    async fn superseded_entries(&self, since: Timestamp) -> Result<Vec<JournalEntry>, StateError>;

    /// Returns the entries of a run, in order.
    ///
    /// # Errors
    /// Returns an error if they cannot be read.
    async fn journal(&self, run: Uuid) -> Result<Vec<JournalEntry>, StateError>;

    /// Returns all actions on a tag, done or skipped, in order.
    ///
    /// # Errors
    /// Returns an error if they cannot be read.
    async fn journal_of_tag(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        tag: &TagName,
    ) -> Result<Vec<JournalEntry>, StateError>;

    /// Returns a page of entries, the latest first: those before `before`, or the last of all.
    ///
    /// # Errors
    /// Returns an error if they cannot be read.
    async fn journal_page(
        &self,
        of: &JournalScope,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<JournalEntry>, StateError>;

    /// Returns the numbers of a run's entries, by action and outcome.
    ///
    /// # Errors
    /// Returns an error if they cannot be read.
    async fn journal_counts(&self, run: Uuid) -> Result<Vec<JournalCount>, StateError>;

    /// Returns one entry by its number.
    ///
    /// # Errors
    /// Returns an error if it cannot be read, or does not exist.
    async fn journal_entry(&self, id: JournalId) -> Result<JournalEntry, StateError>;

    /// Returns the last completed deletion of a manifest in a repository, if any.
    ///
    /// # Errors
    /// Returns an error if it cannot be read.
    async fn last_deletion(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<JournalEntry>, StateError>;

    /// Returns the completed deletions of manifests under a tag since an entry, in order: those of the manifest that
    /// lost it and of its dependents.
    ///
    /// # Errors
    /// Returns an error if they cannot be read.
    async fn deletions_of_tag(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        tag: &TagName,
        since: JournalId,
    ) -> Result<Vec<JournalEntry>, StateError>;

    /// Returns the last completed removal of a tag.
    ///
    /// # Errors
    /// Returns an error if it cannot be read.
    async fn last_removal(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        tag: &TagName,
    ) -> Result<Option<JournalEntry>, StateError>;

    /// Returns the completed removals of a tag, the last one first: at most fifty.
    ///
    /// # Errors
    /// Returns an error if they cannot be read.
    async fn removals_of(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        tag: &TagName,
    ) -> Result<Vec<JournalEntry>, StateError>;

    /// Returns the last removals of a repository's tags that were not restored since; `since` excludes earlier ones.
    /// The last one first.
    ///
    /// # Errors
    /// Returns an error if they cannot be read.
    async fn removals_in(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        since: Option<Timestamp>,
    ) -> Result<Vec<JournalEntry>, StateError>;

    /// Returns the exact manifest behind a journaled tag, with the media type that the tag had.
    ///
    /// # Errors
    /// Returns an error if it is damaged, was never stored (as for skipped actions), or cannot be read.
    async fn manifest_of(&self, entry: &JournalEntry) -> Result<RawManifest, StateError>;
}

/// The original dates of restored tags, recorded with the journal entries of the restore and filled in by
/// [`Observations::observe_at`](super::Observations::observe_at).
#[async_trait]
pub trait RestoredTags: Send + Sync {
    /// Does what [`Journal::intend`] does before a tag is restored, and records in the same write the tag's original
    /// date and the hold on it.
    ///
    /// # Errors
    /// Returns an error if the manifest does not match the intent, the lease was taken again since, or it cannot be
    /// written. The tag must not be put then.
    async fn intend_restore(
        &self,
        lease: &LeaseToken,
        run: Uuid,
        intent: &Intent,
        manifest: &RawManifest,
        restoring: RestoreRecord,
        now: Timestamp,
    ) -> Result<JournaledIntent, StateError>;

    /// Does what [`Journal::record_outcome`] does for a restored tag. `registry_time` is the registry's current time of
    /// it, if reported: as long as it is unchanged, the tag was not pushed again.
    ///
    /// # Errors
    /// Fails as [`Journal::record_outcome`] does.
    async fn record_restore_outcome(
        &self,
        id: JournalId,
        outcome: &Outcome,
        registry_time: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), StateError>;
}

/// The manifests from which tags were removed, by the journal.
#[async_trait]
pub trait UntaggedManifests: Send + Sync {
    /// Visits the manifests of a registry from which Tagwarden removed tags and that it did not delete, by repository
    /// and digest.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be read.
    async fn visit_untagged(
        &self,
        registry: &RegistryName,
        visit: &mut (dyn FnMut(UntagRecord) + Send),
    ) -> Result<(), StateError>;
}

/// Holds: tags that a person or a restore protects until a given time. The journal refuses intents that they cover.
#[async_trait]
pub trait Holds: Send + Sync {
    /// Sets a hold, or extends the one of the same origin on the same tag and digest. A hold is never shortened: if the
    /// existing one lasts longer, it is unchanged. Returns true if the given one is in force.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    async fn hold(&self, hold: &Hold) -> Result<bool, StateError>;

    /// Returns the holds that end after `at`, by endpoint, repository and tag.
    ///
    /// # Errors
    /// Returns an error if they cannot be read. Nothing may be decided then.
    async fn holds(&self, at: Timestamp) -> Result<Vec<Hold>, StateError>;

    /// Returns the holds that were over at `at`, the last ended first, as long as the state keeps them.
    ///
    /// # Errors
    /// Returns an error if they cannot be read.
    async fn ended_holds(&self, at: Timestamp) -> Result<Vec<EndedHold>, StateError>;

    /// Ends the holds on a tag, of any origin, and returns the number that was in force.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    async fn end_holds(
        &self,
        endpoint: &str,
        repository: &RepositoryName,
        tag: &TagName,
        by: &str,
        now: Timestamp,
    ) -> Result<u64, StateError>;
}

/// The policies of runs.
#[async_trait]
pub trait PolicyRecords: Send + Sync {
    /// Stores the policies of a revision with the texts of their files, by hash, unless already stored. Durable when it
    /// returns.
    ///
    /// # Errors
    /// Returns an error if they cannot be written.
    async fn record_policies(
        &self,
        revision: &str,
        policies: &[RecordedPolicy],
        texts: &BTreeMap<String, String>,
    ) -> Result<(), StateError>;

    /// Returns the policies of a run, by name; empty for runs from before they were recorded.
    ///
    /// # Errors
    /// Returns an error if they cannot be read.
    async fn policies_of(&self, run: Uuid) -> Result<Vec<RecordedPolicy>, StateError>;

    /// Returns the text of the policy file with that hash, if a recorded run used it.
    ///
    /// # Errors
    /// Returns an error if it cannot be read.
    async fn policy_text(&self, revision: &str) -> Result<Option<String>, StateError>;
}

/// The matches of policies' rules: which rules ever matched something, and where.
#[async_trait]
pub trait RuleMatches: Send + Sync {
    /// Returns the findings of earlier full plans about the rules of policies.
    ///
    /// # Errors
    /// Returns an error if they cannot be read. No rule can be checked then.
    async fn rule_history(&self) -> Result<RuleHistory, StateError>;

    /// Records the findings of a full plan: the rules that match, and those that never did. Rules that it could not
    /// check are unchanged.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    async fn record_rules(&self, coverage: &Coverage, now: Timestamp) -> Result<(), StateError>;
}
