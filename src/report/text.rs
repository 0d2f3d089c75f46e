//! The plan for the terminal.

use super::holds::HEADINGS;
use super::humanize::{counted, format_age, format_count, sanitize};
use super::idle::{self, describe_idle};
use super::natural_order::natural_order;
use super::notation::{format_minute, short_digest};
use super::reason::describe_match;
use super::registry_info::describe_registry;
use super::storage::{cells, describe_storage, largest};
use super::summary::{
    RESTORE_INSTRUCTIONS, RemovalStatus, beside_refusals, count_by_reason, describe_date, describe_missing,
    describe_mode, describe_reclaimable, describe_size, describe_validity, group_by_holder, headline,
    kept_with_verdict, next_steps, removal_reasons, undo_periods, verify_commands,
};
use super::table::TextTable;
use super::{AttentionView, HolderView, PlanDocument, ReasonView, RegistryView, SourceView};

const MOST_GAPS: usize = 20;
const MANY_POLICIES: usize = 8;
const MOST_POLICIES: usize = 50;
const MOST_REMOVALS: usize = 200;
const MOST_PROTECTED: usize = 100;
const MOST_UNDECIDED: usize = 50;
const MOST_FINDINGS: usize = 50;
const MOST_REFUSALS: usize = 50;
const MOST_UNMATCHED: usize = 50;
const MOST_IDLE: usize = 50;
const MOST_REPOSITORIES: usize = 20;
const MOST_DELETIONS: usize = 100;
const MOST_HOLDS: usize = 100;
const MOST_ATTENTION: usize = 30;

/// Renders the plan from top to bottom: the decision and what to do next, then the details and what it is based on.
#[must_use]
pub fn text(document: &PlanDocument) -> String {
    let mut out = String::new();
    line(&mut out, 0, &describe_mode(document));
    line(&mut out, 0, &headline(document));
    line(&mut out, 0, &describe_reclaimable(document));
    line(&mut out, 0, &describe_validity(document));
    refusals(&mut out, document);
    accepted(&mut out, document);
    needs_attention(&mut out, &beside_refusals(document));
    removals(&mut out, document);
    deletions(&mut out, document);
    heading(&mut out, "What next");
    for step in next_steps(document) {
        line(&mut out, 1, &step);
    }
    undecided(&mut out, document);
    protected(&mut out, document);
    kept_tags(&mut out, document);
    holds(&mut out, document);
    storage(&mut out, document);
    registries(&mut out, document);
    sources(&mut out, document);
    policies(&mut out, document);
    unmatched(&mut out, document);
    idle(&mut out, document);
    findings(&mut out, document);
    verification(&mut out, document);
    restore_instructions(&mut out, document);
    out
}

/// Renders the attention items, before everything else.
pub(super) fn needs_attention(out: &mut String, attention: &[AttentionView]) {
    if attention.is_empty() {
        return;
    }
    heading(out, "Needs attention");
    for found in attention.iter().take(MOST_ATTENTION) {
        line(out, 1, &format!("!! {}", found.sentence()));
    }
    if attention.len() > MOST_ATTENTION {
        line(out, 1, &format!("and {} more in the JSON", format_count((attention.len() - MOST_ATTENTION) as u64)));
    }
}

/// Appends one line of words that cannot steer a terminal.
pub(super) fn line(out: &mut String, indent: usize, words: &str) {
    out.push_str(&"  ".repeat(indent));
    out.push_str(&sanitize(words));
    out.push('\n');
}

pub(super) fn heading(out: &mut String, words: &str) {
    out.push('\n');
    line(out, 0, words);
}

fn more(out: &mut String, total: usize, shown: usize) {
    if total > shown {
        let left = format_count((total - shown) as u64);
        line(out, 1, &format!("and {left} more: `--out plan.csv` lists all"));
    }
}

/// Appends columns without rules between them, numbers aligned right.
fn columns(out: &mut String, header: &[&str], right: &[usize], rows: impl Iterator<Item = Vec<String>>) {
    let mut table = TextTable::new(header.iter().copied()).align_right(right);
    for row in rows {
        table.add_row(row.iter().map(|cell| sanitize(cell)));
    }
    // The cell's own padding is the other half of the indent.
    out.push_str(&table.text(1));
}

fn registries(out: &mut String, document: &PlanDocument) {
    heading(out, "Registries");
    for registry in &document.registries {
        registry_lines(out, registry);
    }
}

fn registry_lines(out: &mut String, registry: &RegistryView) {
    let RegistryView { name, kind, endpoint, identity, .. } = registry;
    let tags = counted(registry.tags, "tag");
    let repositories = if registry.repositories == 1 { "repository" } else { "repositories" };
    let held = format!("{tags} in {} {repositories}", format_count(registry.repositories));
    line(out, 1, &format!("{name} ({kind}, {endpoint}), read as {identity}: {held}"));
    for fact in describe_registry(registry) {
        line(out, 2, &fact);
    }
    if registry.removal == "manifest" {
        line(out, 2, "removal = \"manifest\": a manifest is deleted when all its tags go together");
    }
    if let Some(obstacle) = &registry.obstacle {
        line(out, 2, &format!("NOTHING CAN BE REMOVED: {obstacle}"));
    }
    for obstacle in registry.obstacles.iter().take(MOST_GAPS) {
        line(out, 2, &format!("NOTHING CAN BE REMOVED from {}: {}", obstacle.repository, obstacle.message));
    }
    more(out, registry.obstacles.len(), MOST_GAPS);
    for gap in registry.gaps.iter().take(MOST_GAPS) {
        let place = gap.repository.as_ref().map(|repository| format!("{repository}: ")).unwrap_or_default();
        line(out, 2, &format!("UNREAD: {place}{} ({}): {}", gap.at, gap.kind, gap.message));
    }
    more(out, registry.gaps.len(), MOST_GAPS);
    for note in registry.invalid_names.iter().take(MOST_GAPS) {
        let place = note.repository.as_ref().map(|repository| format!("{repository}: ")).unwrap_or_default();
        line(out, 2, &format!("note: {place}{} ({}): {}", note.at, note.kind, note.message));
    }
    more(out, registry.invalid_names.len(), MOST_GAPS);
}

/// Renders the sources of a plan, each with its state, its counts and the tags that it protects.
#[must_use]
pub fn sources_text(document: &PlanDocument) -> String {
    let mut out = String::new();
    sources(&mut out, document);
    out.trim_start().to_owned()
}

fn sources(out: &mut String, document: &PlanDocument) {
    heading(out, "Sources");
    if document.sources.is_empty() {
        line(out, 1, "none: nothing says which images are released or running");
    }
    for source in &document.sources {
        line(out, 1, &describe_source(document, source));
        for note in &source.notes {
            line(out, 2, &format!("note: {note}"));
        }
    }
}

/// Describes a source's state in one line.
fn describe_source(document: &PlanDocument, source: &SourceView) -> String {
    let SourceView { name, kind, state, .. } = source;
    if let Some(failure) = &source.error {
        return format!("{name} ({kind}): FAILED: {failure}");
    }
    let says = source.describe_counts();
    let evidence = source.as_of.map_or_else(String::new, |time| {
        let seconds = document.created_at.duration_since(time).as_secs();
        format!(", as of {} ({} old)", format_minute(time), format_age(seconds))
    });
    let is_unread = document.registries.iter().any(|registry| !registry.gaps.is_empty());
    let protects = match source.protects {
        0 if is_unread => "not known what it protects, because not all was read".to_owned(),
        tags if is_unread => format!("protects {} of what was read", counted(tags, "tag")),
        tags => format!("protects {}", counted(tags, "tag")),
    };
    format!("{name} ({kind}): {state}, {says}, {protects}{evidence}")
}

fn policies(out: &mut String, document: &PlanDocument) {
    heading(out, "Policies");
    // Of a long list, those that do something in this plan.
    let is_long = document.policies.len() > MANY_POLICIES;
    let listed = document.policies.iter().filter(|policy| !is_long || policy.expired > 0).take(MOST_POLICIES);
    let rows: Vec<Vec<String>> = listed
        .map(|policy| {
            vec![
                policy.name.clone(),
                policy.mode.clone(),
                policy.selected.map_or_else(|| "?".to_owned(), format_count),
                format_count(policy.expired),
                policy.owner.clone().unwrap_or_default(),
                policy.file.clone(),
                short_digest(&policy.revision),
            ]
        })
        .collect();
    let left = document.policies.len() - rows.len();
    let effective = document.policies.iter().filter(|policy| policy.expired > 0).count();
    if !rows.is_empty() {
        let header = ["policy", "mode", "selects", "expires", "owner", "file", "revision"];
        columns(out, &header, &[2, 3], rows.into_iter());
    }
    if left > 0 {
        let (left, what) =
            (format_count(left as u64), if effective > MOST_POLICIES { "" } else { ", which expire nothing" });
        line(out, 1, &format!("and {left} more{what}: `--out plan.json` lists all"));
    }
}

fn unmatched(out: &mut String, document: &PlanDocument) {
    if document.unmatched.is_empty() {
        return;
    }
    heading(out, "Rules that match nothing");
    for rule in document.unmatched.iter().take(MOST_UNMATCHED) {
        line(out, 1, &format!("{}{}", if rule.refuses() { "!! " } else { "" }, rule.message));
    }
    more(out, document.unmatched.len(), MOST_UNMATCHED);
}

fn idle(out: &mut String, document: &PlanDocument) {
    if document.idle.is_empty() {
        return;
    }
    heading(out, "Idle repositories");
    for sentence in describe_idle(document) {
        line(out, 1, &sentence);
    }
    let rows = document.idle.iter().take(MOST_IDLE).map(|found| idle::cells(found).to_vec());
    columns(out, &idle::HEADINGS, &[3, 4, 5], rows);
    if document.idle.len() > MOST_IDLE {
        line(out, 1, &format!("and {} more in the JSON", format_count((document.idle.len() - MOST_IDLE) as u64)));
    }
}

fn refusals(out: &mut String, document: &PlanDocument) {
    if document.refusals.is_empty() {
        return;
    }
    heading(out, "REFUSED: nothing that these cover will be removed");
    for refusal in document.refusals.iter().take(MOST_REFUSALS) {
        line(out, 1, &format!("{}{}", if refusal.binding { "!! " } else { "" }, refusal.message));
    }
    more(out, document.refusals.len(), MOST_REFUSALS);
}

fn accepted(out: &mut String, document: &PlanDocument) {
    if document.accepted.is_empty() {
        return;
    }
    heading(out, "ACCEPTED for this plan only: these limits and rules hold nothing back");
    for accepted in document.accepted.iter().take(MOST_REFUSALS) {
        line(out, 1, &format!("{}: {}", accepted.kind, accepted.sentence()));
    }
    more(out, document.accepted.len(), MOST_REFUSALS);
}

fn deletions(out: &mut String, document: &PlanDocument) {
    let found = &document.deletions;
    if found.is_empty() {
        return;
    }
    heading(out, "Manifests without a tag");
    for words in found.sentences() {
        line(out, 1, &words);
    }
    for refusal in &found.refusals {
        line(out, 1, &format!("{}{}", if refusal.binding { "!! " } else { "" }, refusal.message));
    }
    for one in found.sorted().take(MOST_DELETIONS) {
        let along = one.describe_dependents();
        let along = if along.is_empty() { along } else { format!(", with {along}") };
        line(out, 1, &format!("{} ({}{along}): {}", one.name(), one.describe_origin(), one.describe()));
    }
    more(out, found.eligible.len(), MOST_DELETIONS);
}

fn findings(out: &mut String, document: &PlanDocument) {
    if document.findings.is_empty() {
        return;
    }
    heading(out, "Drift and orphans (to be looked at; nothing is removed or refused because of them)");
    for found in document.findings.iter().take(MOST_FINDINGS) {
        line(out, 1, &format!("{}: {}", found.severity, found.message));
    }
    more(out, document.findings.len(), MOST_FINDINGS);
}

/// Describes a record that differs from the registry.
pub(super) fn describe_record_drift(drift: &super::RecordDriftView) -> String {
    let now = drift
        .actual
        .as_deref()
        .map_or_else(|| "gone or unread".to_owned(), |digest| format!("at {}", short_digest(digest)));
    format!(
        "{}/{}:{} is now {now}; {} recorded {}: {}",
        drift.registry,
        drift.repository,
        drift.tag,
        drift.source,
        short_digest(&drift.recorded),
        drift.holder
    )
}

fn removals(out: &mut String, document: &PlanDocument) {
    heading(out, "What would be removed");
    if document.removals.is_empty() {
        line(out, 1, "nothing");
        return;
    }
    let mut shown: Vec<_> = document.removals.iter().take(MOST_REMOVALS).collect();
    shown.sort_by(|a, b| {
        let places = (&a.registry, &a.repository).cmp(&(&b.registry, &b.repository));
        places.then_with(|| natural_order(&a.tag, &b.tag))
    });
    let rows = shown.iter().map(|removal| {
        vec![
            removal.name(),
            short_digest(&removal.digest),
            describe_date(removal),
            removal.age_seconds.map_or_else(|| "unknown".to_owned(), format_age),
            describe_size(removal),
            removal.policy.clone(),
            RemovalStatus::of(document, removal).label().to_owned(),
            removal_reasons(removal),
        ]
    });
    columns(out, &["tag", "digest", "time", "age", "size", "policy", "enforcement", "why"], &[4], rows);
    more(out, document.removals.len(), MOST_REMOVALS);
}

fn storage(out: &mut String, document: &PlanDocument) {
    if document.storage.is_empty() {
        return;
    }
    heading(out, "What that frees once the registry collects it");
    for found in &document.storage {
        line(out, 1, &format!("{}: {}", found.registry, describe_storage(found)));
    }
    let largest = largest(document);
    let rows = largest.iter().take(MOST_REPOSITORIES).map(|found| cells(*found).to_vec());
    columns(out, &["repository", "removals", "reclaimable", "shared", "of unknown size"], &[1, 2, 3, 4], rows);
    let left = largest.len().saturating_sub(MOST_REPOSITORIES);
    if left > 0 {
        line(out, 1, &format!("and {} more with less: `--out plan.html` lists all", format_count(left as u64)));
    }
}

fn verification(out: &mut String, document: &PlanDocument) {
    let commands = verify_commands(document);
    if commands.is_empty() {
        return;
    }
    heading(out, "To see it by hand: the first of each repository, the others in the JSON (these only read)");
    for command in commands {
        line(out, 1, &command);
    }
}

fn kept_tags(out: &mut String, document: &PlanDocument) {
    if document.kept.is_empty() {
        return;
    }
    heading(out, "Why the others stay (a tag counts once for each kind of reason)");
    let rows = count_by_reason(document).into_iter().map(|(kind, number)| vec![format_count(number), kind.to_owned()]);
    columns(out, &["tags", "reason"], &[0], rows);
}

fn protected(out: &mut String, document: &PlanDocument) {
    let (groups, total) = group_by_holder(document, MOST_PROTECTED);
    if total == 0 {
        return;
    }
    heading(out, "Protected, by who holds it");
    let mut shown = 0;
    for (holder, tags) in &groups {
        if shown == MOST_PROTECTED {
            break;
        }
        line(out, 1, holder);
        for held in tags.iter().take(MOST_PROTECTED - shown) {
            let others =
                if held.more_reasons == 0 { String::new() } else { format!(" (and {} more)", held.more_reasons) };
            let how = held.reason().map(describe_protection).unwrap_or_default();
            line(out, 2, &format!("{}: {how}{others}", held.kept.name()));
            shown += 1;
        }
    }
    more(out, total, shown);
}

fn holds(out: &mut String, document: &PlanDocument) {
    if document.holds.is_empty() {
        return;
    }
    heading(out, "Holds: these stay whatever the policies say");
    let rows = document.holds.iter().take(MOST_HOLDS).map(|hold| hold.cells().to_vec());
    columns(out, &HEADINGS, &[], rows);
    let left = document.holds.len().saturating_sub(MOST_HOLDS);
    if left > 0 {
        line(out, 1, &format!("and {} more: `tagwarden holds` lists all", format_count(left as u64)));
    }
}

fn restore_instructions(out: &mut String, document: &PlanDocument) {
    heading(out, "To undo");
    line(out, 1, RESTORE_INSTRUCTIONS);
    for (registry, period) in undo_periods(document) {
        line(out, 1, &format!("{registry}: {period}"));
    }
}

/// Describes how a reason protects a tag, below a heading that names the holder.
fn describe_protection(reason: &ReasonView) -> String {
    let (what, holder) = match reason {
        ReasonView::Claimed { by, digest, holder, .. } => (describe_match(by, digest.as_deref()), holder),
        ReasonView::Mentioned { text, holder, .. } => (format!("by the word `{text}`"), holder),
        _ => return reason.sentence(),
    };
    match &**holder {
        HolderView::Release { file, line, .. } | HolderView::File { file, line } => format!("{what}, {file}:{line}"),
        HolderView::Workload { container, .. } if !container.is_empty() => format!("{what}, container {container}"),
        HolderView::Workload { .. } | HolderView::Pull { .. } | HolderView::Hold { .. } => what,
    }
}

fn undecided(out: &mut String, document: &PlanDocument) {
    let total = kept_with_verdict(document, "undecided").count();
    if total == 0 {
        return;
    }
    heading(out, "Undecided: something is missing, so they stay");
    let mut shown: Vec<_> = kept_with_verdict(document, "undecided").take(MOST_UNDECIDED).collect();
    shown.sort_by(|a, b| natural_order(&a.name(), &b.name()));
    for kept in shown {
        line(out, 1, &format!("{}: {}", kept.name(), describe_missing(&kept)));
    }
    more(out, total, MOST_UNDECIDED);
}
