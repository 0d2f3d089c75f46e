//! The traits of the audit record: runs, the journal of what they did, and the holds and policies that they went by.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::{
    JournalCount, JournalEntry, JournalId, JournalScope, JournalTotals, LeaseToken, NewRun, RecordedPolicy,
    RestoreRecord, RunContext, RunEnd, RunRecord, StateError, UntagRecord,
};
use crate::domain::{
    Coverage, Digest, Hold, Intent, JournaledIntent, Outcome, RegistryName, RepositoryName, RuleHistory, TagName,
};
use crate::registry::RawManifest;

/// The audit record of runs.
#[async_trait]
pub trait Runs: Send + Sync {
    /// Records that a run begins. Durable when it returns.
    ///
    /// # Errors
    /// When it could not be recorded; the run must not go on then.
    async fn begin_run(&self, run: &NewRun) -> Result<(), StateError>;

    /// Does what [`Self::begin_run`] does, and records what the run goes by besides its settings.
    ///
    /// # Errors
    /// As [`Self::begin_run`].
    async fn begin_run_with_context(&self, run: &NewRun, run_context: &RunContext) -> Result<(), StateError>;

    /// Records how a run ended. Durable when it returns.
    ///
    /// # Errors
    /// When it could not be written, or there is no such run.
    async fn finish_run(&self, run: Uuid, end: &RunEnd) -> Result<(), StateError>;

    /// The last runs, the latest first: in the order in which they were recorded, whatever the clock said.
    ///
    /// # Errors
    /// When they could not be read.
    async fn runs(&self, limit: u32) -> Result<Vec<RunRecord>, StateError>;

    /// The runs before one, or the last of all; newest first.
    ///
    /// # Errors
    /// When they could not be read.
    async fn runs_before(&self, before: Option<Uuid>, limit: u32) -> Result<Vec<RunRecord>, StateError>;

    /// The run whose id begins with `id_prefix`, or `None`.
    ///
    /// # Errors
    /// When several do, or the runs could not be read.
    async fn run(&self, id_prefix: &str) -> Result<Option<RunRecord>, StateError>;

    /// The context of a run, which is what it went by besides its settings; empty for one of before that was recorded.
    ///
    /// # Errors
    /// When they could not be read.
    async fn run_context(&self, run: Uuid) -> Result<RunContext, StateError>;

    /// Counts what came of each of these runs, by their journals; runs without settled entries are left out.
    ///
    /// # Errors
    /// When it could not be read.
    async fn journal_totals(&self, runs: &[Uuid]) -> Result<BTreeMap<Uuid, JournalTotals>, StateError>;

    /// The runs that applied the plan of that id or began to, in order. One that was refused before it began is none.
    ///
    /// # Errors
    /// When they could not be read. The plan must not be applied then.
    async fn runs_applying(&self, plan_id: &str) -> Result<Vec<RunRecord>, StateError>;

    /// Returns whether a plan with that ticket was refused before in these very words.
    ///
    /// # Errors
    /// When it could not be read.
    async fn was_refused(&self, ticket: &str, error: &str) -> Result<bool, StateError>;
}

/// The journal: what was about to be done to a tag, and what came of it.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Writes down what is about to be done, with the manifest that undoes it. Durable when it returns; only then may
    /// it be done, and what is returned is the proof that removals need.
    ///
    /// # Errors
    /// When the manifest is not the one that the intent names, the lease was taken again since
    /// ([`Leased`](super::StateErrorKind::Leased)), or it could not be written; for a removal also where a hold covers
    /// it ([`Held`](super::StateErrorKind::Held)) or somebody asks for no more removals
    /// ([`Interrupted`](super::StateErrorKind::Interrupted)). It must not be done then.
    async fn intend(
        &self,
        lease: &LeaseToken,
        run: Uuid,
        intent: &Intent,
        manifest: &RawManifest,
        now: Timestamp,
    ) -> Result<JournaledIntent, StateError>;

    /// Does what [`Self::intend`] does for an untag that leaves its manifest in the registry, without the bytes of
    /// that: they can be added later.
    ///
    /// # Errors
    /// As [`Self::intend`]; [`Missing`](super::StateErrorKind::Missing) where a hold may cover something in the
    /// manifest, which only its bytes tell.
    async fn intend_without_manifest(
        &self,
        lease: &LeaseToken,
        run: Uuid,
        intent: &Intent,
        now: Timestamp,
    ) -> Result<JournaledIntent, StateError>;

    /// Writes down what came of an intent. Durable when it returns.
    ///
    /// # Errors
    /// When it could not be written, there is no such entry, or it is settled already.
    async fn record_outcome(&self, id: JournalId, outcome: &Outcome, now: Timestamp) -> Result<(), StateError>;

    /// Writes down something planned that was never begun, with why. Durable when it returns.
    ///
    /// # Errors
    /// When it could not be written.
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
    /// When they could not be written; none is then.
    async fn record_all_not_attempted(
        &self,
        lease: &LeaseToken,
        run: Uuid,
        notes: &[(&Intent, &Outcome)],
        now: Timestamp,
    ) -> Result<Vec<JournalId>, StateError>;

    /// All entries of all runs that have no outcome yet, in order.
    ///
    /// # Errors
    /// When they could not be read. Nothing new may be removed then.
    async fn pending_entries(&self) -> Result<Vec<JournalEntry>, StateError>;

    /// The entries of a run, in order.
    ///
    /// # Errors
    /// When they could not be read.
    async fn journal(&self, run: Uuid) -> Result<Vec<JournalEntry>, StateError>;

    /// Everything that was done to a tag or left undone, in order.
    ///
    /// # Errors
    /// When it could not be read.
    async fn journal_of_tag(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        tag: &TagName,
    ) -> Result<Vec<JournalEntry>, StateError>;

    /// A page of entries, the latest first: those before `before`, or the last of all.
    ///
    /// # Errors
    /// When they could not be read.
    async fn journal_page(
        &self,
        of: &JournalScope,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<JournalEntry>, StateError>;

    /// The numbers of a run's entries, by action and outcome.
    ///
    /// # Errors
    /// When they could not be read.
    async fn journal_counts(&self, run: Uuid) -> Result<Vec<JournalCount>, StateError>;

    /// One entry by its number.
    ///
    /// # Errors
    /// When it could not be read, or there is none.
    async fn journal_entry(&self, id: JournalId) -> Result<JournalEntry, StateError>;

    /// The last deletion of a manifest in a repository that was done, if any.
    ///
    /// # Errors
    /// When it could not be read.
    async fn last_deletion(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<JournalEntry>, StateError>;

    /// The deletions of manifests that were done under a tag since an entry, in order: those of the manifest that lost
    /// it and of what went along.
    ///
    /// # Errors
    /// When they could not be read.
    async fn deletions_of_tag(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        tag: &TagName,
        since: JournalId,
    ) -> Result<Vec<JournalEntry>, StateError>;

    /// The last removal of a tag that was done.
    ///
    /// # Errors
    /// When it could not be read.
    async fn last_removal(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        tag: &TagName,
    ) -> Result<Option<JournalEntry>, StateError>;

    /// The removals of a tag that were done, the last one first: at most fifty.
    ///
    /// # Errors
    /// When they could not be read.
    async fn removals_of(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        tag: &TagName,
    ) -> Result<Vec<JournalEntry>, StateError>;

    /// The last removals of a repository's tags, of those that were not put back since; `since` leaves out earlier
    /// ones. The last one first.
    ///
    /// # Errors
    /// When they could not be read.
    async fn removals_in(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        since: Option<Timestamp>,
    ) -> Result<Vec<JournalEntry>, StateError>;

    /// The exact manifest behind a journaled tag, with the media type that the tag had.
    ///
    /// # Errors
    /// When it is damaged, was never kept (the entry only notes what was not done), or could not be read.
    async fn manifest_of(&self, entry: &JournalEntry) -> Result<RawManifest, StateError>;
}

/// The times by which restored tags count, recorded with the journal entries of the restore and filled in by
/// [`Observations::observe_at`](super::Observations::observe_at).
#[async_trait]
pub trait RestoredTags: Send + Sync {
    /// Does what [`Journal::intend`] does before a tag is put back, and writes down in the same write what the tag is
    /// to count by and the hold on it.
    ///
    /// # Errors
    /// When the manifest is not the one that the intent names, the lease was taken again since, or it could not be
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

    /// Does what [`Journal::record_outcome`] does for a tag that was put back. `registry_time` is the registry's own time of
    /// it now, where it tells one: as long as the tag keeps it, nobody pushed it again.
    ///
    /// # Errors
    /// As [`Journal::record_outcome`].
    async fn record_restore_outcome(
        &self,
        id: JournalId,
        outcome: &Outcome,
        registry_time: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), StateError>;
}

/// The manifests that tags were taken from, by the journal.
#[async_trait]
pub trait UntaggedManifests: Send + Sync {
    /// Goes through the manifests of a registry that Tagwarden took tags from and did not delete, by repository and
    /// digest, and tells `visit` of each.
    ///
    /// # Errors
    /// When the journal could not be read.
    async fn visit_untagged(
        &self,
        registry: &RegistryName,
        visit: &mut (dyn FnMut(UntagRecord) + Send),
    ) -> Result<(), StateError>;
}

/// Holds: tags that a person or a restore protects until a time. The journal refuses intents that they cover.
#[async_trait]
pub trait Holds: Send + Sync {
    /// Sets a hold, or prolongs the one of the same origin on the same tag and digest. A hold is never shortened: where
    /// the present one lasts longer, it stays as it is. Returns whether the given one is in force.
    ///
    /// # Errors
    /// When it could not be written.
    async fn hold(&self, hold: &Hold) -> Result<bool, StateError>;

    /// The holds that end after `at`, by endpoint, repository and tag.
    ///
    /// # Errors
    /// When they could not be read. Nothing may be decided then.
    async fn holds(&self, at: Timestamp) -> Result<Vec<Hold>, StateError>;

    /// Ends the holds on a tag, whoever set them, and returns how many were in force.
    ///
    /// # Errors
    /// When it could not be written.
    async fn end_holds(
        &self,
        endpoint: &str,
        repository: &RepositoryName,
        tag: &TagName,
        by: &str,
        now: Timestamp,
    ) -> Result<u64, StateError>;
}

/// The policies that runs went by.
#[async_trait]
pub trait PolicyRecords: Send + Sync {
    /// Keeps the policies of a revision with the texts of their files, by hash, where they are not kept yet. Durable
    /// when it returns.
    ///
    /// # Errors
    /// When they could not be written.
    async fn record_policies(
        &self,
        revision: &str,
        policies: &[RecordedPolicy],
        texts: &BTreeMap<String, String>,
    ) -> Result<(), StateError>;

    /// The policies that a run went by, by name; empty for one of before they were recorded.
    ///
    /// # Errors
    /// When they could not be read.
    async fn policies_of(&self, run: Uuid) -> Result<Vec<RecordedPolicy>, StateError>;

    /// The text of the policy file with that hash, where a run on record went by it.
    ///
    /// # Errors
    /// When it could not be read.
    async fn policy_text(&self, revision: &str) -> Result<Option<String>, StateError>;
}

/// Rules of policies: which of them ever matched something, and where.
#[async_trait]
pub trait RuleMatches: Send + Sync {
    /// Reads what earlier plans of everything found of the rules of policies.
    ///
    /// # Errors
    /// When it could not be read. No rule can be judged then.
    async fn rule_history(&self) -> Result<RuleHistory, StateError>;

    /// Records what a plan of everything found: the rules that match, and those that never did. What it could not judge
    /// stays as it was.
    ///
    /// # Errors
    /// When it could not be written.
    async fn record_rules(&self, coverage: &Coverage, now: Timestamp) -> Result<(), StateError>;
}
