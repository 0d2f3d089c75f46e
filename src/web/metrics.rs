//! Metrics for Prometheus, in OpenMetrics. docs/metrics.md documents each of them.

use std::collections::BTreeMap;
use std::fs;

use jiff::Timestamp;
use prometheus_client::encoding::EncodeMetric as _;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::dto::is_complete;
use super::status::{Activity, Role, StatusSnapshot};
use crate::registry::RequestCounts;
use crate::report::{RegistryCounts, RunSummary, SourceView};
use crate::state::{LeaseRecord, RunKind, RunRecord, StateFigures};
use crate::workflow::{RunError, RunResult};

/// The content type of [`Metrics::render`].
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Buckets for the durations of runs: from a small registry to one with millions of tags.
const DURATION_BUCKETS: [f64; 12] = [1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 21600.0];

type Labels<const N: usize> = [(&'static str, String); N];
type Gauges<const N: usize> = Family<Labels<N>, Gauge>;
type Counters<const N: usize> = Family<Labels<N>, Counter>;

/// All metrics. None is global: each [`DaemonStatus`](super::DaemonStatus) has its own.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    runs: Counters<2>,
    durations: Family<Labels<1>, Histogram, fn() -> Histogram>,
    last_run: Gauges<1>,
    last_successful_run: Gauges<1>,
    tags: Gauges<2>,
    reclaimable: Gauges<1>,
    shared: Gauges<1>,
    unknown_bytes: Gauges<1>,
    gaps: Gauges<1>,
    refusals: Gauge,
    removals: Counters<2>,
    deletions: Counters<2>,
    reclaimed: Counters<1>,
    requests: Counters<2>,
    retries: Counters<1>,
    throttled: Counters<1>,
    source_up: Gauges<1>,
    source_claims: Gauges<1>,
    source_protected_tags: Gauges<1>,
    source_evidence: Gauges<1>,
    policies: Gauge,
    policies_loaded: Gauge,
    policies_problem: Gauge,
    policy_failures: Counter,
    next_run: Gauges<1>,
    blocked_by: Gauge,
    ready: Gauge,
    leader: Gauge,
    outdated: Gauge,
    running: Gauge,
    lease_held: Gauges<1>,
    lease_epoch: Gauges<1>,
    lease_taken: Gauges<1>,
    lease_holder: Gauges<2>,
    registry_lease_held: Gauges<1>,
    registry_lease_epoch: Gauges<1>,
    registry_lease_taken: Gauges<1>,
    holds: Gauge,
    restores: Gauge,
    last_removal: Gauges<1>,
    start: Gauge,
    memory: Gauge,
    open_files: Gauge,
}

impl Metrics {
    #[expect(clippy::too_many_lines, reason = "each metric is listed once, with its help")]
    pub(super) fn new() -> Self {
        let mut registry = Registry::default();
        let ours = registry.sub_registry_with_prefix("tagwarden");
        ours.register("build", "The version of Tagwarden", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        macro_rules! register {
            ($registry:expr, $name:literal, $help:literal, $metric:expr) => {{
                let metric = $metric;
                $registry.register($name, $help, metric.clone());
                metric
            }};
        }
        let durations = Family::new_with_constructor((|| Histogram::new(DURATION_BUCKETS)) as fn() -> Histogram);
        Self {
            runs: register!(ours, "runs", "Runs that ended, by kind and outcome", Family::default()),
            durations: register!(ours, "run_duration_seconds", "Duration of runs", durations),
            last_run: register!(ours, "last_run_timestamp_seconds", "When a run last ended", Family::default()),
            last_successful_run: register!(
                ours,
                "last_successful_run_timestamp_seconds",
                "When a run last ended with exit code 0",
                Family::default()
            ),
            tags: register!(ours, "tags", "Tags by verdict, as of the last run", Family::default()),
            reclaimable: register!(
                ours,
                "reclaimable_bytes",
                "Bytes used only by expired tags, as of the last run",
                Family::default()
            ),
            shared: register!(
                ours,
                "shared_bytes",
                "Bytes shared between expired and retained images, as of the last run",
                Family::default()
            ),
            unknown_bytes: register!(
                ours,
                "unknown_bytes_removals",
                "Expired tags of unknown size, as of the last run",
                Family::default()
            ),
            gaps: register!(
                ours,
                "registry_gaps",
                "Places that could not be read, as of the last run",
                Family::default()
            ),
            refusals: register!(
                ours,
                "refusals",
                "Refusals that blocked removals, as of the last run",
                Gauge::default()
            ),
            removals: register!(ours, "removals", "Tag removals, by outcome", Family::default()),
            deletions: register!(
                ours,
                "manifest_deletions",
                "Deletions of untagged manifests, by outcome",
                Family::default()
            ),
            reclaimed: register!(
                ours,
                "reclaimed_bytes",
                "Decrease in stored bytes after removals, as measured by registries",
                Family::default()
            ),
            requests: register!(ours, "registry_requests", "Registry requests, by status class", Family::default()),
            retries: register!(ours, "registry_retries", "Retried registry requests", Family::default()),
            throttled: register!(
                ours,
                "registry_throttled",
                "Registry responses that asked to slow down",
                Family::default()
            ),
            source_up: register!(
                ours,
                "source_up",
                "1 if the source answered at the last run, 0 if it failed",
                Family::default()
            ),
            source_claims: register!(
                ours,
                "source_claims",
                "Claims of the source, as of the last run",
                Family::default()
            ),
            source_protected_tags: register!(
                ours,
                "source_protected_tags",
                "Tags protected by the source, as of the last run",
                Family::default()
            ),
            source_evidence: register!(
                ours,
                "source_evidence_timestamp_seconds",
                "Time of the evidence of the source, as of the last run",
                Family::default()
            ),
            policies: register!(ours, "policies", "Active policies", Gauge::default()),
            policies_loaded: register!(
                ours,
                "policies_loaded_timestamp_seconds",
                "When the active policies were loaded",
                Gauge::default()
            ),
            policies_problem: register!(
                ours,
                "policies_problem",
                "1 if the edited policy files are invalid and the previous ones stay in force",
                Gauge::default()
            ),
            policy_failures: register!(
                ours,
                "policy_load_failures",
                "Policy edits that could not be loaded",
                Counter::default()
            ),
            next_run: register!(ours, "next_run_timestamp_seconds", "When the next run starts", Family::default()),
            blocked_by: register!(ours, "runs_blocked", "1 if runs remove nothing right now", Gauge::default()),
            ready: register!(ours, "ready", "1 if scheduled runs are active", Gauge::default()),
            outdated: register!(
                ours,
                "rules_outdated",
                "1 if this daemon removes nothing because its policies or settings are older than those of another daemon",
                Gauge::default()
            ),
            leader: register!(ours, "leader", "1 if this daemon follows the schedule, 0 on stand-by", Gauge::default()),
            running: register!(ours, "running", "1 while a run is in progress", Gauge::default()),
            lease_held: register!(ours, "lease_held", "1 while the lease is held", Family::default()),
            lease_epoch: register!(ours, "lease_epoch", "How often the lease was taken", Family::default()),
            lease_taken: register!(
                ours,
                "lease_taken_timestamp_seconds",
                "When the lease was last taken",
                Family::default()
            ),
            lease_holder: register!(ours, "lease_holder", "1 for the process that holds the lease", Family::default()),
            registry_lease_held: register!(
                ours,
                "registry_lease_held",
                "1 while a run may change the registry",
                Family::default()
            ),
            registry_lease_epoch: register!(
                ours,
                "registry_lease_epoch",
                "How often the lease of the registry was taken",
                Family::default()
            ),
            registry_lease_taken: register!(
                ours,
                "registry_lease_taken_timestamp_seconds",
                "When the lease of the registry was last taken",
                Family::default()
            ),
            holds: register!(ours, "holds", "Holds in force", Gauge::default()),
            restores: register!(ours, "restores", "Restored tags and manifests on record", Gauge::default()),
            last_removal: register!(
                ours,
                "last_removal_timestamp_seconds",
                "When something was last removed from the registry",
                Family::default()
            ),
            start: register!(registry, "process_start_time_seconds", "When the process started", Gauge::default()),
            memory: register!(registry, "process_resident_memory_bytes", "Memory in use", Gauge::default()),
            open_files: register!(registry, "process_open_fds", "Open files and connections", Gauge::default()),
            registry,
        }
    }

    /// Counts a run by its result.
    pub(super) fn record_run(&self, kind: RunKind, took: f64, ended_at: Timestamp, came: &Result<RunResult, RunError>) {
        let label = match came {
            Ok(ended) => ended.outcome.label(),
            Err(error) if error.exit_code() == 3 => "refused",
            Err(_) => "error",
        };
        let of_kind = [("kind", kind.label().to_owned())];
        self.runs.get_or_create(&[("kind", kind.label().to_owned()), ("outcome", label.to_owned())]).inc();
        self.durations.get_or_create(&of_kind).observe(took);
        self.last_run.get_or_create(&of_kind).set(ended_at.as_second());
        let Ok(ended) = came else { return };
        if ended.outcome.exit_code() == 0 {
            self.last_successful_run.get_or_create(&of_kind).set(ended_at.as_second());
        }
        for (registry, counts) in &ended.by_registry {
            self.count_requests(registry, &counts.requests);
        }
        for applied in &ended.applied {
            let registry = applied.removal.registry.to_string();
            let labels = [("registry", registry), ("outcome", applied.outcome.label().to_owned())];
            self.removals.get_or_create(&labels).inc();
        }
        for one in &ended.deleted {
            let registry = one.deletion.registry.to_string();
            let labels = [("registry", registry), ("outcome", one.outcome.label().to_owned())];
            self.deletions.get_or_create(&labels).inc();
        }
        for after in &ended.storage_changes {
            if let Some(bytes) = after.reclaimed() {
                self.reclaimed.get_or_create(&[("registry", after.registry.to_string())]).inc_by(bytes);
            }
        }
        let is_whole = !ended.document.hypothetical && ended.document.narrowed.is_none();
        if matches!(kind, RunKind::Plan | RunKind::Run) && is_whole {
            self.set_inventory_gauges(&ended.by_registry, &ended.document.sources);
            let refusals = ended.document.refusals.iter().chain(&ended.document.deletions.refusals);
            self.refusals.set(gauge_value(refusals.filter(|refusal| refusal.binding).count()));
            for registry in &ended.document.registries {
                self.gaps.get_or_create(&[("registry", registry.name.clone())]).set(gauge_value(registry.gaps.len()));
            }
        }
    }

    /// Loads the recorded runs of earlier processes, the newest first.
    pub(super) fn load_history(&self, recent: &[(RunRecord, RunSummary)]) {
        for (record, _) in recent {
            let Some(end) = &record.end else { continue };
            let of_kind = [("kind", record.run.kind.label().to_owned())];
            for (gauges, applies) in [(&self.last_run, true), (&self.last_successful_run, end.exit_code == 0)] {
                if applies && gauges.get(&of_kind).is_none() {
                    gauges.get_or_create(&of_kind).set(end.ended_at.as_second());
                }
            }
        }
        let last = recent.iter().find(|(record, counts)| is_complete(record, counts));
        if let Some((_, counts)) = last.filter(|_| self.tags.is_empty()) {
            self.set_inventory_gauges(&counts.by_registry, &counts.sources);
            self.refusals.set(gauge_value(counts.refusals.iter().filter(|refusal| refusal.binding).count()));
        }
    }

    /// Counts a policy edit that could not be loaded.
    pub(super) fn count_policy_failure(&self) {
        self.policy_failures.inc();
    }

    /// Sets the figures of the state. What it no longer has is no longer reported.
    pub(super) fn record_figures(&self, figures: &StateFigures) {
        let own = (&self.lease_held, &self.lease_epoch, &self.lease_taken);
        let of_registries = (&self.registry_lease_held, &self.registry_lease_epoch, &self.registry_lease_taken);
        set_leases("lease", own, &figures.leases);
        set_leases("endpoint", of_registries, &figures.registry_leases);
        self.lease_holder.clear();
        for lease in figures.leases.iter().filter(|lease| lease.is_held) {
            let labels = [("lease", lease.name.clone()), ("holder", lease.holder.clone())];
            self.lease_holder.get_or_create(&labels).set(1);
        }
        self.holds.set(gauge_value(figures.holds));
        self.restores.set(gauge_value(figures.restores));
        for (registry, at) in &figures.last_removals {
            self.last_removal.get_or_create(&[("registry", registry.clone())]).set(at.as_second());
        }
    }

    /// Renders all metrics as of now.
    pub(super) fn render(&self, status: &StatusSnapshot) -> String {
        self.policies.set(gauge_value(status.policies.count));
        self.policies_loaded.set(status.policies.loaded_at.as_second());
        self.policies_problem.set(status.policies.problem.is_some().into());
        self.next_run.clear();
        // The earliest first: of several runs of the same policies only the first counts.
        for next in status.next.iter().rev() {
            self.next_run.get_or_create(&[("policies", next.description.clone())]).set(next.at.as_second());
        }
        self.blocked_by.set(status.blocked_by.is_some().into());
        self.ready.set((status.ready && status.activity != Activity::Stopping).into());
        self.outdated.set(status.outdated.is_some().into());
        self.leader.set((!matches!(status.role, Role::StandBy { .. })).into());
        self.running.set(matches!(status.activity, Activity::Run { .. }).into());
        self.start.set(status.started_at.as_second());
        self.memory.set(resident_bytes().unwrap_or_default());
        self.open_files.set(open_files().unwrap_or_default());
        let mut text = String::new();
        // Writing to a string cannot fail; a scrape without its end mark is rejected as a whole.
        if encode(&mut text, &self.registry).is_err() {
            text.clear();
        }
        text
    }

    fn set_inventory_gauges(&self, by_registry: &BTreeMap<String, RegistryCounts>, sources: &[SourceView]) {
        // Registries and sources that are no longer in the settings are no longer reported.
        let by_name = [&self.reclaimable, &self.shared, &self.unknown_bytes, &self.gaps, &self.source_up];
        for gauges in by_name.into_iter().chain([&self.source_claims]) {
            gauges.clear();
        }
        self.source_protected_tags.clear();
        self.source_evidence.clear();
        self.tags.clear();
        for (registry, counts) in by_registry {
            let found = &counts.summary;
            let by_verdict = [
                ("expired", found.expired),
                ("protected", found.protected),
                ("undecided", found.undecided),
                ("retained", found.retained),
                ("out-of-scope", found.out_of_scope),
            ];
            for (verdict, count) in by_verdict {
                let labels = [("registry", registry.clone()), ("verdict", verdict.to_owned())];
                self.tags.get_or_create(&labels).set(gauge_value(count));
            }
            let bytes = [
                (&self.reclaimable, found.reclaimable_bytes),
                (&self.shared, found.shared_bytes),
                (&self.unknown_bytes, found.unknown_bytes_removals),
            ];
            for (gauges, found) in bytes {
                gauges.get_or_create(&[("registry", registry.clone())]).set(gauge_value(found));
            }
        }
        for source in sources {
            let labels = [("source", source.name.clone())];
            self.source_up.get_or_create(&labels).set((source.state == "answered").into());
            self.source_claims.get_or_create(&labels).set(gauge_value(source.claims));
            self.source_protected_tags.get_or_create(&labels).set(gauge_value(source.protects));
            if let Some(as_of) = source.as_of {
                self.source_evidence.get_or_create(&labels).set(as_of.as_second());
            }
        }
    }

    fn count_requests(&self, registry: &str, requests: &RequestCounts) {
        for (class, count) in RequestCounts::STATUSES.iter().zip(requests.statuses) {
            let labels = [("registry", registry.to_owned()), ("status", (*class).to_owned())];
            self.requests.get_or_create(&labels).inc_by(count);
        }
        let labels = [("registry", registry.to_owned())];
        self.retries.get_or_create(&labels).inc_by(requests.retries);
        self.throttled.get_or_create(&labels).inc_by(requests.throttled);
    }
}

fn gauge_value(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

/// Sets the gauges of leases, with their name as `label`.
fn set_leases(label: &'static str, (held, epoch, taken): (&Gauges<1>, &Gauges<1>, &Gauges<1>), leases: &[LeaseRecord]) {
    for gauges in [held, epoch, taken] {
        gauges.clear();
    }
    for lease in leases {
        let labels = [(label, lease.name.clone())];
        held.get_or_create(&labels).set(lease.is_held.into());
        epoch.get_or_create(&labels).set(lease.epoch);
        taken.get_or_create(&labels).set(lease.taken_at.as_second());
    }
}

/// Returns the resident memory, on Linux only (proc(5)).
fn resident_bytes() -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<i64>().ok().map(|kilobytes| kilobytes * 1024)
}

fn open_files() -> Option<i64> {
    // One of them is the directory handle of this read.
    Some(gauge_value(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1)))
}
