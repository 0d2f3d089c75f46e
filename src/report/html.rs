//! A plan or a run as one HTML page without external resources.

use std::collections::HashMap;

use askama::Template as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::humanize::{format_age, format_bytes, format_count, sanitize, truncate};
use super::idle::{self, describe_idle};
use super::notation::{format_minute, short_digest};
use super::registry_info::describe_registry;
use super::storage::{cells, describe_storage, largest};
use super::summary::{
    RESTORE_INSTRUCTIONS, RemovalStatus, count_by_age, describe_date, describe_mode, describe_reclaimable,
    describe_size, describe_validity, kept_with_verdict, next_steps, removal_reasons, undo_periods, verify_commands,
};
use super::{
    AttentionView, DeletionView, DriftView, EntryView, KeptView, PlanDocument, PolicyView, ReasonView, RegistryView,
    RemovalView, RepositoryStorageView, RunView, SourceView, StorageView,
};
use crate::domain::chain;

/// Most rows of the long tables, which browsers still open without effort.
const MOST_REMOVALS: usize = 100_000;
const MOST_KEPT: usize = 20_000;
const MOST_FINDINGS: usize = 5_000;
const MOST_IDLE: usize = 20_000;
const MOST_REPOSITORIES: usize = 20_000;
const MOST_BARS: usize = 15;

const STYLE: &str = include_str!("../../templates/report.css");
const SCRIPT: &str = include_str!("../../templates/report.js");

/// The page of a plan, of a run, or of a run with its plan.
#[derive(askama::Template)]
#[template(path = "report.html")]
struct Page<'a> {
    title: String,
    style: &'static str,
    style_hash: String,
    script: &'static str,
    script_hash: String,
    ran: Option<RunSection>,
    plan: Option<PlanSection<'a>>,
    /// The attention items, before everything else.
    attention: Vec<String>,
}

/// A run and its actions.
struct RunSection {
    title: String,
    id: String,
    cards: Vec<(&'static str, String)>,
    facts: Vec<(String, String)>,
    rows: Vec<JournalRow>,
    more: usize,
    undo: String,
}

/// One entry of the journal.
struct JournalRow {
    time: String,
    action: String,
    outcome: String,
    name: String,
    digest: String,
    policy: String,
    detail: String,
    until: String,
}

struct PlanSection<'a> {
    document: &'a PlanDocument,
    validity: String,
    occasion: String,
    freed: String,
    cards: Vec<(&'static str, String)>,
    steps: Vec<String>,
    charts: Vec<Chart>,
    /// Each with true if it is a warning.
    findings: Vec<(&'a DriftView, bool)>,
    more_findings: usize,
    facts: Vec<(String, String)>,
    /// Each with the time and age of its evidence.
    sources: Vec<(&'a SourceView, String)>,
    /// Each with its revision in short.
    policies: Vec<(&'a PolicyView, String)>,
    by_hand: Vec<String>,
    /// Sentences about idle repositories, and each as the cells of its row.
    idle: (Vec<String>, Vec<[String; 7]>),
    more_idle: usize,
    /// The bytes that each registry could free.
    storage: Vec<(String, String)>,
    /// Sentences about manifest cleanup.
    deletions: Vec<String>,
    deleting: Vec<DeletionRow>,
    more_deleting: usize,
    repositories: Vec<StorageRow>,
    more_repositories: usize,
    removals: Vec<RemovalRow>,
    more_removals: usize,
    /// Each as the cells of its row.
    holds: Vec<[String; 6]>,
    more_holds: usize,
    kept: Vec<KeptRow>,
    more_kept: usize,
    undo: &'static str,
    undo_periods: Vec<(&'a str, String)>,
}

struct Chart {
    title: &'static str,
    height: usize,
    bars: Vec<Bar>,
    more: usize,
}

/// One bar: its label and its position.
struct Bar {
    label: String,
    number: String,
    top: usize,
    text: usize,
    width: u64,
    end: u64,
}

struct RemovalRow {
    name: String,
    digest: String,
    time: String,
    age_seconds: i64,
    age: String,
    bytes: i128,
    size: String,
    shared_bytes: i128,
    shared: String,
    policy: String,
    enforcement: &'static str,
    why: String,
}

/// The bytes that a repository could free: as text, and as numbers for sorting.
struct StorageRow {
    name: String,
    removals: (u64, String),
    exclusive: (u64, String),
    shared: (u64, String),
    unknown: (u64, String),
}

/// An untagged manifest whose grace period is over.
struct DeletionRow {
    name: String,
    tag: String,
    untagged: String,
    dependents: String,
    bytes: i128,
    size: String,
    policies: String,
    result: String,
}

struct KeptRow {
    name: String,
    digest: String,
    verdict: String,
    age_seconds: i64,
    age: String,
    why: String,
}

/// Renders the plan as one self-contained page: summary, charts, and tables that sort and filter if scripts are
/// allowed. Its content policy allows its own style and script by their hashes and nothing else.
#[must_use]
pub fn html(document: &PlanDocument) -> String {
    page(format!("Tagwarden plan {}", format_minute(document.created_at)), None, &document.attention, Some(document))
}

/// Renders a run as such a page, with its plan if that is still stored.
pub(super) fn run_html(run: &RunView, plan: Option<&PlanDocument>) -> String {
    page(format!("Tagwarden run {}", format_minute(run.started_at)), Some(run_section(run)), &run.attention, plan)
}

fn page(title: String, ran: Option<RunSection>, attention: &[AttentionView], plan: Option<&PlanDocument>) -> String {
    let page = Page {
        title,
        attention: attention.iter().map(AttentionView::sentence).collect(),
        style: STYLE,
        style_hash: hash(STYLE),
        script: SCRIPT,
        script_hash: hash(SCRIPT),
        ran,
        plan: plan.map(plan_section),
    };
    // Writing to a string cannot fail; should it ever, the page contains the error instead of ending halfway.
    let page = page
        .render()
        .unwrap_or_else(|error| format!("<!doctype html><p>The report could not be written: {}", chain(&error)));
    page + "\n"
}

fn plan_section(document: &PlanDocument) -> PlanSection<'_> {
    let order = ["protected", "undecided", "retained", "out-of-scope"];
    let kept = order.into_iter().flat_map(|verdict| kept_with_verdict(document, verdict));
    let findings = document.findings.iter().take(MOST_FINDINGS);
    let repositories = largest(document);
    PlanSection {
        document,
        validity: describe_validity(document),
        occasion: describe_mode(document),
        freed: describe_reclaimable(document),
        cards: cards(document),
        steps: next_steps(document),
        charts: charts(document),
        findings: findings.map(|found| (found, found.severity == "warning")).collect(),
        more_findings: document.findings.len().saturating_sub(MOST_FINDINGS),
        facts: document.registries.iter().flat_map(registry_facts).collect(),
        sources: document.sources.iter().map(|source| (source, evidence_age(document, source))).collect(),
        policies: document.policies.iter().map(|policy| (policy, short_digest(&policy.revision))).collect(),
        idle: (
            describe_idle(document),
            document.idle.iter().take(MOST_IDLE).map(|found| idle::cells(found).map(|cell| sanitize(&cell))).collect(),
        ),
        more_idle: document.idle.len().saturating_sub(MOST_IDLE),
        storage: document.storage.iter().map(|found| (sanitize(&found.registry), describe_storage(found))).collect(),
        deletions: document.deletions.sentences().iter().map(|words| sanitize(words)).collect(),
        deleting: document.deletions.sorted().take(MOST_REMOVALS).map(deletion_row).collect(),
        more_deleting: document.deletions.eligible.len().saturating_sub(MOST_REMOVALS),
        more_repositories: repositories.len().saturating_sub(MOST_REPOSITORIES),
        repositories: repositories.into_iter().take(MOST_REPOSITORIES).map(storage_row).collect(),
        by_hand: verify_commands(document).iter().map(|command| sanitize(command)).collect(),
        removals: document.removals.iter().take(MOST_REMOVALS).map(|removal| removal_row(document, &removal)).collect(),
        more_removals: document.removals.len().saturating_sub(MOST_REMOVALS),
        holds: document.holds.iter().take(MOST_KEPT).map(|hold| hold.cells().map(|cell| sanitize(&cell))).collect(),
        more_holds: document.holds.len().saturating_sub(MOST_KEPT),
        kept: kept.take(MOST_KEPT).map(|kept| kept_row(document, &kept)).collect(),
        more_kept: document.kept.len().saturating_sub(MOST_KEPT),
        undo: RESTORE_INSTRUCTIONS,
        undo_periods: undo_periods(document),
    }
}

fn run_section(run: &RunView) -> RunSection {
    let restored = run.kind == "restore";
    let mut cards = vec![
        (if restored { "restored" } else { "removed" }, format_count(run.count_outcome("done"))),
        ("skipped", format_count(run.count_outcome("skipped"))),
        ("failed", format_count(run.count_outcome("failed"))),
    ];
    cards.extend((run.deleted_count() > 0).then(|| ("manifests deleted", format_count(run.deleted_count()))));
    RunSection {
        title: sanitize(&run.headline()),
        id: run.id.clone(),
        cards,
        facts: run.facts().into_iter().map(|(what, value)| (what.to_owned(), sanitize(&value))).collect(),
        rows: run.entries_by_name().into_iter().take(MOST_REMOVALS).map(journal_row).collect(),
        more: run.entries().len().saturating_sub(MOST_REMOVALS),
        undo: run.restore_instructions(),
    }
}

fn journal_row(entry: &EntryView) -> JournalRow {
    JournalRow {
        time: entry.intended_at.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        action: entry.action.clone(),
        outcome: entry.outcome_label().to_owned(),
        name: sanitize(&entry.name()),
        digest: short_digest(&entry.digest),
        policy: sanitize(&entry.describe_policy()),
        detail: truncate(&sanitize(entry.detail.as_deref().unwrap_or_default()), 1_000),
        until: entry.undo_until.map(format_minute).unwrap_or_default(),
    }
}

/// Returns the source expression of an inline style or script for a content policy.
fn hash(content: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(content.as_bytes())))
}

fn cards(document: &PlanDocument) -> Vec<(&'static str, String)> {
    let summary = &document.summary;
    vec![
        ("tags", format_count(summary.tags)),
        ("would be removed", format_count(summary.expired)),
        ("protected", format_count(summary.protected)),
        ("retained", format_count(summary.retained)),
        ("undecided", format_count(summary.undecided)),
        ("out of scope", format_count(summary.out_of_scope)),
        (
            if summary.is_estimated() { "reclaimable at most, estimated" } else { "reclaimable" },
            format_bytes(summary.reclaimable_bytes),
        ),
        ("shared, stays", format_bytes(summary.shared_bytes)),
    ]
}

/// Returns a registry's name with each fact about it.
fn registry_facts(registry: &RegistryView) -> impl Iterator<Item = (String, String)> {
    let denied = registry
        .obstacles
        .iter()
        .map(|obstacle| format!("nothing can be removed from {}: {}", obstacle.repository, obstacle.message));
    describe_registry(registry).into_iter().chain(denied).map(|fact| (sanitize(&registry.name), sanitize(&fact)))
}

fn charts(document: &PlanDocument) -> Vec<Chart> {
    let repositories = document.removals.iter().map(|removal| format!("{}/{}", removal.registry, removal.repository));
    let policies = document.removals.iter().flat_map(|r| r.policies().map(str::to_owned).collect::<Vec<_>>());
    let ages = count_by_age(document).into_iter().map(|(name, number)| (name.to_owned(), number));
    vec![
        chart("Removals by repository", &count_labels(repositories)),
        chart("Removals by policy", &count_labels(policies)),
        chart("Removals by age", &ages.collect::<Vec<_>>()),
    ]
}

fn count_labels(labels: impl Iterator<Item = String>) -> Vec<(String, u64)> {
    let mut numbers: HashMap<String, u64> = HashMap::new();
    for label in labels {
        *numbers.entry(label).or_default() += 1;
    }
    let mut numbers: Vec<(String, u64)> = numbers.into_iter().collect();
    numbers.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    numbers
}

fn chart(title: &'static str, numbers: &[(String, u64)]) -> Chart {
    const WIDEST: u64 = 170;
    let most = numbers.iter().map(|(_, number)| *number).max().unwrap_or(1).max(1);
    let bars: Vec<Bar> = numbers
        .iter()
        .take(MOST_BARS)
        .enumerate()
        .map(|(place, (label, number))| {
            let width = (number * WIDEST / most).max(1);
            let top = place * 22 + 4;
            let number = format_count(*number);
            Bar { label: truncate(&sanitize(label), 36), number, top, text: top + 11, width, end: 230 + width + 6 }
        })
        .collect();
    Chart { title, height: bars.len() * 22 + 4, more: numbers.len() - bars.len(), bars }
}

/// Returns the time and the age of a source's evidence.
fn evidence_age(document: &PlanDocument, source: &SourceView) -> String {
    source.as_of.map_or_else(String::new, |time| {
        format!("{} ({} old)", format_minute(time), format_age(document.created_at.duration_since(time).as_secs()))
    })
}

fn removal_row(document: &PlanDocument, removal: &RemovalView) -> RemovalRow {
    RemovalRow {
        name: sanitize(&removal.name()),
        digest: short_digest(&removal.digest),
        time: sanitize(&describe_date(removal)),
        age_seconds: removal.age_seconds.unwrap_or(-1),
        age: removal.age_seconds.map_or_else(|| "unknown".to_owned(), format_age),
        bytes: removal.reclaimable_bytes.map_or(-1, i128::from),
        size: describe_size(removal),
        shared_bytes: removal.shared_bytes.map_or(-1, i128::from),
        shared: removal.shared_bytes.map_or_else(|| "unknown".to_owned(), format_bytes),
        policy: sanitize(&removal.policy),
        enforcement: RemovalStatus::of(document, removal).label(),
        why: sanitize(&removal_reasons(removal)),
    }
}

fn storage_row(found: (&StorageView, &RepositoryStorageView)) -> StorageRow {
    let [name, removals, exclusive, shared, unknown] = cells(found);
    let (_, found) = found;
    StorageRow {
        name: sanitize(&name),
        removals: (found.removals, removals),
        exclusive: (found.exclusive_bytes, exclusive),
        shared: (found.shared_bytes, shared),
        unknown: (found.unknown_removals, unknown),
    }
}

fn deletion_row(found: &DeletionView) -> DeletionRow {
    let about = if found.bytes_are == "estimated" { "about " } else { "" };
    DeletionRow {
        name: sanitize(&found.name()),
        tag: sanitize(&found.tag),
        untagged: format_minute(found.untagged_at),
        dependents: found.describe_dependents(),
        bytes: found.bytes.map_or(-1, i128::from),
        size: found.bytes.map_or_else(String::new, |number| format!("{about}{}", format_bytes(number))),
        policies: sanitize(&found.policies.join(", ")),
        result: truncate(&sanitize(&found.describe()), 1_000),
    }
}

fn kept_row(document: &PlanDocument, kept: &KeptView) -> KeptRow {
    let seconds = kept.dated_at.map(|time| document.evaluated_at.duration_since(time).as_secs());
    let sentences: Vec<String> = kept.reasons.iter().map(ReasonView::sentence).collect();
    KeptRow {
        name: sanitize(&kept.name()),
        digest: kept.digest.as_deref().map_or_else(|| "unread".to_owned(), short_digest),
        verdict: kept.verdict.clone(),
        age_seconds: seconds.unwrap_or(-1),
        age: seconds.map_or_else(|| "unknown".to_owned(), format_age),
        why: truncate(&sanitize(&sentences.join("; ")), 1_000),
    }
}
