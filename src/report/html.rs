//! A plan or a run as one page for a browser, with nothing outside itself.

use std::collections::HashMap;

use askama::Template as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::particulars::facts;
use super::reason::{minute, short};
use super::storage::{cells, largest, storage_words};
use super::tally::{
    Standing, UNDO, by_age, by_hand, dated, freed, kept_as, next_steps, occasion, size, undo_periods, validity,
    why_it_goes,
};
use super::words::{age, bytes, clip, count, plain};
use super::{
    AttentionView, DeletionView, EntryView, FindingView, KeptView, PlanDocument, PolicyView, ReasonView, RegistryView,
    RemovalView, RepositoryStorageView, RunView, SourceView, StorageView,
};

/// The rows of the long tables; a browser opens these many without effort.
const MOST_REMOVALS: usize = 100_000;
const MOST_KEPT: usize = 20_000;
const MOST_FINDINGS: usize = 5_000;
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
    ran: Option<Ran>,
    plan: Option<Planned<'a>>,
    /// What needs attention, before everything else.
    attention: Vec<String>,
}

/// A run and what it did.
struct Ran {
    title: String,
    id: String,
    cards: Vec<(&'static str, String)>,
    facts: Vec<(String, String)>,
    rows: Vec<Done>,
    more: usize,
    undo: String,
}

/// One entry of the journal.
struct Done {
    time: String,
    action: String,
    outcome: String,
    name: String,
    digest: String,
    policy: String,
    detail: String,
    until: String,
}

struct Planned<'a> {
    document: &'a PlanDocument,
    validity: String,
    occasion: String,
    freed: String,
    cards: Vec<(&'static str, String)>,
    steps: Vec<String>,
    charts: Vec<Chart>,
    /// Each with whether it is a warning.
    findings: Vec<(&'a FindingView, bool)>,
    more_findings: usize,
    facts: Vec<(String, String)>,
    /// Each with the time and age of its evidence.
    sources: Vec<(&'a SourceView, String)>,
    /// Each with its revision in short.
    policies: Vec<(&'a PolicyView, String)>,
    by_hand: Vec<String>,
    /// What each registry could free.
    storage: Vec<(String, String)>,
    /// What there is to say of the second step.
    deletions: Vec<String>,
    deleting: Vec<Deleting>,
    more_deleting: usize,
    repositories: Vec<Freeing>,
    more_repositories: usize,
    removals: Vec<Going>,
    more_removals: usize,
    /// Each as the cells of its row.
    holds: Vec<[String; 6]>,
    more_holds: usize,
    kept: Vec<Staying>,
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

/// One bar: its words, and where it is drawn.
struct Bar {
    label: String,
    number: String,
    top: usize,
    text: usize,
    width: u64,
    end: u64,
}

struct Going {
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
    standing: &'static str,
    why: String,
}

/// What a repository could free: words, and the numbers to sort them by.
struct Freeing {
    name: String,
    removals: (u64, String),
    exclusive: (u64, String),
    shared: (u64, String),
    unknown: (u64, String),
}

/// An untagged manifest whose grace is over.
struct Deleting {
    name: String,
    tag: String,
    untagged: String,
    along: String,
    bytes: i128,
    size: String,
    policies: String,
    standing: String,
}

struct Staying {
    name: String,
    digest: String,
    verdict: String,
    age_seconds: i64,
    age: String,
    why: String,
}

/// The plan as one self-contained page: summary, charts, and tables that sort and filter where scripts may run. Its
/// content policy allows its own style and script by their hashes and nothing else.
#[must_use]
pub fn html(document: &PlanDocument) -> String {
    page(format!("Tagwarden plan {}", minute(document.created_at)), None, &document.attention, Some(document))
}

/// A run as such a page, with its plan where that is still kept.
pub(super) fn run_html(run: &RunView, plan: Option<&PlanDocument>) -> String {
    page(format!("Tagwarden run {}", minute(run.started_at)), Some(ran(run)), &run.attention, plan)
}

fn page(title: String, ran: Option<Ran>, attention: &[AttentionView], plan: Option<&PlanDocument>) -> String {
    let page = Page {
        title,
        attention: attention.iter().map(AttentionView::sentence).collect(),
        style: STYLE,
        style_hash: hash(STYLE),
        script: SCRIPT,
        script_hash: hash(SCRIPT),
        ran,
        plan: plan.map(planned),
    };
    // Writing into a string cannot fail; should it ever, the page says so instead of being half a page.
    let page =
        page.render().unwrap_or_else(|error| format!("<!doctype html><p>The report could not be written: {error}"));
    page + "\n"
}

fn planned(document: &PlanDocument) -> Planned<'_> {
    let order = ["protected", "undecided", "retained", "out-of-scope"];
    let kept = order.into_iter().flat_map(|verdict| kept_as(document, verdict));
    let findings = document.findings.iter().take(MOST_FINDINGS);
    let repositories = largest(document);
    Planned {
        document,
        validity: validity(document),
        occasion: occasion(document),
        freed: freed(document),
        cards: cards(document),
        steps: next_steps(document),
        charts: charts(document),
        findings: findings.map(|found| (found, found.severity == "warning")).collect(),
        more_findings: document.findings.len().saturating_sub(MOST_FINDINGS),
        facts: document.registries.iter().flat_map(of_registry).collect(),
        sources: document.sources.iter().map(|source| (source, evidence(document, source))).collect(),
        policies: document.policies.iter().map(|policy| (policy, short(&policy.revision))).collect(),
        storage: document.storage.iter().map(|found| (plain(&found.registry), storage_words(found))).collect(),
        deletions: document.deletions.sentences().iter().map(|words| plain(words)).collect(),
        deleting: document.deletions.shown().take(MOST_REMOVALS).map(deleting).collect(),
        more_deleting: document.deletions.due.len().saturating_sub(MOST_REMOVALS),
        more_repositories: repositories.len().saturating_sub(MOST_REPOSITORIES),
        repositories: repositories.into_iter().take(MOST_REPOSITORIES).map(freeing).collect(),
        by_hand: by_hand(document).iter().map(|command| plain(command)).collect(),
        removals: document.removals.iter().take(MOST_REMOVALS).map(|removal| going(document, &removal)).collect(),
        more_removals: document.removals.len().saturating_sub(MOST_REMOVALS),
        holds: document.holds.iter().take(MOST_KEPT).map(|hold| hold.cells().map(|cell| plain(&cell))).collect(),
        more_holds: document.holds.len().saturating_sub(MOST_KEPT),
        kept: kept.take(MOST_KEPT).map(|kept| staying(document, &kept)).collect(),
        more_kept: document.kept.len().saturating_sub(MOST_KEPT),
        undo: UNDO,
        undo_periods: undo_periods(document),
    }
}

fn ran(run: &RunView) -> Ran {
    let restored = run.command == "restore";
    let mut cards = vec![
        (if restored { "restored" } else { "removed" }, count(run.number("done"))),
        ("skipped", count(run.number("skipped"))),
        ("failed", count(run.number("failed"))),
    ];
    cards.extend((run.deleted() > 0).then(|| ("manifests deleted", count(run.deleted()))));
    Ran {
        title: plain(&run.headline()),
        id: run.id.clone(),
        cards,
        facts: run.facts().into_iter().map(|(what, value)| (what.to_owned(), plain(&value))).collect(),
        rows: run.journal.iter().take(MOST_REMOVALS).map(done).collect(),
        more: run.journal.len().saturating_sub(MOST_REMOVALS),
        undo: run.undo(),
    }
}

fn done(entry: &EntryView) -> Done {
    Done {
        time: entry.intended_at.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        action: entry.action.clone(),
        outcome: entry.outcome_label().to_owned(),
        name: plain(&entry.name()),
        digest: short(&entry.digest),
        policy: plain(&entry.policy_words()),
        detail: clip(&plain(entry.detail.as_deref().unwrap_or_default()), 1_000),
        until: entry.undo_until.map(minute).unwrap_or_default(),
    }
}

/// How a content policy names an inline style or script.
fn hash(content: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(content.as_bytes())))
}

fn cards(document: &PlanDocument) -> Vec<(&'static str, String)> {
    let summary = &document.summary;
    vec![
        ("tags", count(summary.tags)),
        ("would go", count(summary.expired)),
        ("protected", count(summary.protected)),
        ("retained", count(summary.retained)),
        ("undecided", count(summary.undecided)),
        ("out of scope", count(summary.out_of_scope)),
        (
            if summary.estimated() { "reclaimable at most, estimated" } else { "reclaimable" },
            bytes(summary.reclaimable_bytes),
        ),
        ("shared, stays", bytes(summary.shared_bytes)),
    ]
}

/// A registry's name with each thing to know of it.
fn of_registry(registry: &RegistryView) -> impl Iterator<Item = (String, String)> {
    let denied = registry
        .obstacles
        .iter()
        .map(|obstacle| format!("nothing can be removed from {}: {}", obstacle.repository, obstacle.message));
    facts(registry).into_iter().chain(denied).map(|fact| (plain(&registry.name), plain(&fact)))
}

fn charts(document: &PlanDocument) -> Vec<Chart> {
    let repositories = document.removals.iter().map(|removal| format!("{}/{}", removal.registry, removal.repository));
    let policies = document.removals.iter().flat_map(|r| r.policies().map(str::to_owned).collect::<Vec<_>>());
    let ages = by_age(document).into_iter().map(|(name, number)| (name.to_owned(), number));
    vec![
        chart("Removals by repository", &most_first(repositories)),
        chart("Removals by policy", &most_first(policies)),
        chart("Removals by age", &ages.collect::<Vec<_>>()),
    ]
}

fn most_first(labels: impl Iterator<Item = String>) -> Vec<(String, u64)> {
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
            let number = count(*number);
            Bar { label: clip(&plain(label), 36), number, top, text: top + 11, width, end: 230 + width + 6 }
        })
        .collect();
    Chart { title, height: bars.len() * 22 + 4, more: numbers.len() - bars.len(), bars }
}

/// The time of a source's evidence, and how old it is.
fn evidence(document: &PlanDocument, source: &SourceView) -> String {
    source.as_of.map_or_else(String::new, |time| {
        format!("{} ({} old)", minute(time), age(document.created_at.duration_since(time).as_secs()))
    })
}

fn going(document: &PlanDocument, removal: &RemovalView) -> Going {
    Going {
        name: plain(&removal.name()),
        digest: short(&removal.digest),
        time: plain(&dated(removal)),
        age_seconds: removal.age_seconds.unwrap_or(-1),
        age: removal.age_seconds.map_or_else(|| "unknown".to_owned(), age),
        bytes: removal.reclaimable_bytes.map_or(-1, i128::from),
        size: size(removal),
        shared_bytes: removal.shared_bytes.map_or(-1, i128::from),
        shared: removal.shared_bytes.map_or_else(|| "unknown".to_owned(), bytes),
        policy: plain(&removal.policy),
        standing: Standing::of(document, removal).label(),
        why: plain(&why_it_goes(removal)),
    }
}

fn freeing(found: (&StorageView, &RepositoryStorageView)) -> Freeing {
    let [name, removals, exclusive, shared, unknown] = cells(found);
    let (_, found) = found;
    Freeing {
        name: plain(&name),
        removals: (found.removals, removals),
        exclusive: (found.exclusive_bytes, exclusive),
        shared: (found.shared_bytes, shared),
        unknown: (found.unknown_removals, unknown),
    }
}

fn deleting(found: &DeletionView) -> Deleting {
    let about = if found.bytes_are == "estimated" { "about " } else { "" };
    Deleting {
        name: plain(&found.name()),
        tag: plain(&found.tag),
        untagged: minute(found.untagged_at),
        along: found.along_words(),
        bytes: found.bytes.map_or(-1, i128::from),
        size: found.bytes.map_or_else(String::new, |number| format!("{about}{}", bytes(number))),
        policies: plain(&found.policies.join(", ")),
        standing: clip(&plain(&found.words()), 1_000),
    }
}

fn staying(document: &PlanDocument, kept: &KeptView) -> Staying {
    let seconds = kept.dated_at.map(|time| document.evaluated_at.duration_since(time).as_secs());
    let sentences: Vec<String> = kept.reasons.iter().map(ReasonView::sentence).collect();
    Staying {
        name: plain(&kept.name()),
        digest: kept.digest.as_deref().map_or_else(|| "unread".to_owned(), short),
        verdict: kept.verdict.clone(),
        age_seconds: seconds.unwrap_or(-1),
        age: seconds.map_or_else(|| "unknown".to_owned(), age),
        why: clip(&plain(&sentences.join("; ")), 1_000),
    }
}
