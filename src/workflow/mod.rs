//! The use cases, one file each: the work of the commands and the daemon with settings, policies, registries and
//! sources.
//!
//! [`App::open`] prepares, [`App::decide`] reads and decides, [`App::plan`], [`App::run`] and [`App::apply`] implement
//! the commands, [`App::restore_run`] undoes a run. All of them leave an audit record.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use uuid::Uuid;

use crate::apply::{Clock, DeletionResult, RemovalResult, RemovalRetryPolicy};
use crate::config::Settings;
use crate::domain::{Outcome, RegistryName, Rules};
use crate::policy::PolicySet;
use crate::registry::{self, RegistryConnection, RegistryReader, RetryPolicy};
use crate::report::{AttentionView, PlanDocument, RegistryCounts};
use crate::state::{PruneCounts, RunContext, StateStore};

mod ability;
mod admission;
mod apply;
mod apply_context;
mod approvals_folder;
mod audit;
mod blob_spool;
mod catalogue_check;
mod clock;
mod conclusion;
mod config_files;
mod decide;
mod decision;
mod decision_history;
mod diff;
mod drift;
mod enforce;
mod enforcement;
mod evidence;
mod evidence_age;
mod evidence_files;
mod evidence_refresh;
mod explain;
mod heartbeat;
mod history;
mod holds;
mod image_texts;
mod interruption;
mod intersection;
mod inventory_file;
mod lint;
mod lookup;
mod lost_state;
mod manifest_cleanup;
mod narrowing;
mod needed_manifests;
mod outcome;
mod part_removals;
mod period;
mod plan;
mod policy_tests;
mod progress_tracker;
mod read_ahead;
mod recognition;
mod recovery;
mod refused;
mod registries;
mod removal_size;
mod repository_use;
mod restore;
mod result;
mod rule_revision;
mod run_record;
mod signature;
mod sorted_runs;
mod source_detail;
mod storage_change;
mod suggestion;
mod unfinished_plan;
mod untagged_history;
mod walk;

use ability::Purpose;
use apply::was_removed;
pub use approvals_folder::ApprovalsFolder;
pub use blob_spool::{BlobSpool, SettledBlobs};
pub use catalogue_check::describe_repository_count;
pub use clock::{ClockCheck, MonotonicClock};
pub use config_files::{ConfigFiles, load, load_without_secrets};
pub use decision::Decision;
pub use diff::DecisionInput;
pub use enforce::{PolicyFilter, RunOptions};
pub use evidence_files::{EvidenceCheck, EvidenceProblem, EvidenceState, check_evidence_files};
pub use explain::PastRun;
pub use heartbeat::LOG_TARGET as PROGRESS;
pub use history::{RecordLimits, TagRecord, tag_record};
pub use holds::{HoldRequest, HoldResult, HoldUntil};
pub use interruption::{StopReason, StopResult};
pub use lint::{lint_with_last_plan, lint_with_plan};
pub use lookup::{ManifestRef, RunQuery, TagRef, run_summaries, run_views, unknown_name};
pub use narrowing::Narrowing;
pub use outcome::{RestoreRunResult, RunError, RunOutcome};
pub use plan::PlanOptions;
pub use policy_tests::test_policies;
pub use recognition::{
    KindFinding, KindState, ask_registry, check_kinds, describe_recognition, recognize_address, recognize_registry,
};
pub use refused::Refused;
pub use registries::ProbeResult;
pub use restore::{RestoreCandidate, RestoreSelection};
use result::{PlanIssues, run_result};
pub use rule_revision::{
    LoadedRules, OutdatedRules, PlacedRevision, Standing, accept_rules, describe_revision, in_force, settle_standing,
};
pub use signature::{SignatureError, find_signature_file};
pub use storage_change::StorageChange;
pub use suggestion::propose;

/// The prepared environment of a run.
pub struct App {
    /// The settings.
    pub settings: Settings,
    /// The policies.
    pub policies: PolicySet,
    /// The state.
    pub store: StateStore,
    /// The user that runs it: `user@host`.
    pub by: String,
    /// The time.
    pub clock: Clock,
    /// Becomes true when no further removal may begin.
    pub stop: watch::Receiver<bool>,
    stop_reason: StopReason,
    /// The time that `restore` and `hold` wait for a running enforcement to stop.
    pub stop_timeout: Duration,
    /// One for each registry, which its reader and its writers share.
    connections: BTreeMap<RegistryName, RegistryConnection>,
    readers: BTreeMap<RegistryName, Arc<dyn RegistryReader>>,
    removal_retry_policy: RemovalRetryPolicy,
    monotonic_clock: Option<MonotonicClock>,
    config_files: Option<ConfigFiles>,
    request_counter: Mutex<audit::RequestCounter>,
    heartbeat: Arc<heartbeat::Heartbeat>,
    state_need: Mutex<lost_state::StateNeed>,
    /// True if the state was made for this app, so that nobody has to be told that it is new.
    has_own_state: bool,
}

/// A completed run and its results.
#[derive(Debug)]
pub struct RunResult {
    /// The run's id.
    pub run: Uuid,
    /// The plan that it made or applied.
    pub document: PlanDocument,
    /// The removals done or skipped; empty for a dry run.
    pub applied: Vec<RemovalResult>,
    /// What was deleted of manifests without a tag, or not; empty for a dry run.
    pub deleted: Vec<DeletionResult>,
    /// The registries from which something was removed.
    pub storage_changes: Vec<StorageChange>,
    /// The counts and requests by registry.
    pub by_registry: BTreeMap<String, RegistryCounts>,
    /// Its context besides the settings.
    pub context: RunContext,
    /// The number of removals that wait for a policy's own schedule.
    pub pending_schedule: u64,
    /// The pruned records of old runs; `None` if not requested or not possible.
    pub forgotten: Option<PruneCounts>,
    /// The outcome.
    pub outcome: RunOutcome,
    /// What interrupted it, unless it was a signal to its process.
    pub interrupted_by: Option<String>,
    /// Removals that can be undone only while the registry keeps their manifests: these are not in the journal yet.
    pub missing_manifests: u64,
    /// The sources that failed while it removed.
    pub failed_sources: Vec<AttentionView>,
}

impl RunResult {
    /// Returns the outcomes of all removals and deletions.
    pub fn outcomes(&self) -> impl Iterator<Item = &Outcome> {
        self.applied.iter().map(|one| &one.outcome).chain(self.deleted.iter().map(|one| &one.outcome))
    }
}

/// The approval of a plan, for the audit record.
#[derive(Debug, Clone, Default)]
pub struct Approval {
    /// The approver.
    pub approved_by: Option<String>,
    /// The change ticket.
    pub ticket: Option<String>,
    /// The reason to apply it in spite of a window or a freeze.
    pub override_reason: Option<String>,
    /// The text of a signature of the plan's file, by minisign or SSH.
    pub signature: Option<String>,
}

impl Approval {
    /// Sets the approver to the signer, who takes precedence over a stated name.
    fn with_signer(&self, signer: &Result<Option<String>, RunError>) -> Self {
        let mut approval = self.clone();
        if let Ok(Some(signer)) = signer {
            approval.approved_by = Some(match &self.approved_by {
                Some(said) if said != signer => format!("{said} (signed by {signer})"),
                _ => signer.clone(),
            });
        }
        approval
    }
}

impl App {
    /// Opens the state and the connections to the registries, without sending a request.
    ///
    /// # Errors
    /// Returns an error if the state cannot be opened or a registry's settings are invalid.
    pub async fn open(
        (settings, policies): (Settings, PolicySet),
        by: String,
        clock: Clock,
        stop: watch::Receiver<bool>,
    ) -> Result<Self, RunError> {
        Self::open_with((settings, policies), by, clock, stop, RetryPolicy::default()).await
    }

    /// Opens an app with another retry policy for registries.
    ///
    /// # Errors
    /// Fails as [`App::open`] does.
    pub async fn open_with(
        (settings, policies): (Settings, PolicySet),
        by: String,
        clock: Clock,
        stop: watch::Receiver<bool>,
        patience: RetryPolicy,
    ) -> Result<Self, RunError> {
        let store = StateStore::open(&settings.state).await?;
        Self::with_store((settings, policies), store, by, clock, stop, patience)
    }

    /// Creates an app with a state that is already open.
    ///
    /// # Errors
    /// Returns an error if a registry's settings are invalid.
    pub fn with_store(
        (settings, policies): (Settings, PolicySet),
        store: StateStore,
        by: String,
        clock: Clock,
        stop: watch::Receiver<bool>,
        patience: RetryPolicy,
    ) -> Result<Self, RunError> {
        let mut connections = BTreeMap::new();
        for settings in &settings.registries {
            connections.insert(settings.name.clone(), registry::connect(settings.clone(), patience)?);
        }
        let readers = connections.iter().map(|(name, connection)| (name.clone(), connection.reader())).collect();
        Ok(Self {
            settings,
            policies,
            store,
            by,
            clock,
            stop,
            stop_reason: StopReason::default(),
            stop_timeout: interruption::STOP_TIMEOUT,
            connections,
            readers,
            removal_retry_policy: patience.into(),
            monotonic_clock: None,
            config_files: None,
            request_counter: Mutex::default(),
            heartbeat: Arc::default(),
            state_need: Mutex::default(),
            has_own_state: false,
        })
    }

    /// Sets the retry policy for removals.
    #[must_use]
    pub fn with_removal_retry_policy(self, waiting: RemovalRetryPolicy) -> Self {
        Self { removal_retry_policy: waiting, ..self }
    }

    /// Takes a new state for what is expected: nothing is known from before.
    #[must_use]
    pub fn with_own_state(self) -> Self {
        Self { has_own_state: true, ..self }
    }

    /// Leaves the registries unasked, for questions that the state answers.
    #[must_use]
    pub fn without_registries(self) -> Self {
        Self { readers: BTreeMap::new(), ..self }
    }

    /// Closes the state.
    pub async fn close(self) {
        self.store.close().await;
    }

    fn now(&self) -> Timestamp {
        (self.clock)()
    }

    fn rules(&self) -> Rules {
        Rules {
            policies: self.policies.policies.clone(),
            limits: self.settings.limits,
            timezone: self.settings.schedule.timezone.clone(),
            undo_window: self.settings.undo_window,
        }
    }
}
