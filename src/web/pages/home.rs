//! The first page: health and what needs attention, the last and the next run, numbers, trend, and the details below.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use jiff::{SignedDuration, Timestamp, Zoned};

use super::{
    Card, Frame, HoldRow, ROWS_PER_PAGE, SourceRow, expired_cards, hold_row, kept_cards, reclaimable, render_page,
    source_row, unknown_size_note,
};
use crate::config::Mode;
use crate::report::{
    AttentionKind, AttentionView, RunSummary, RunView, counted, format_bytes, format_count, short_digest, truncate,
};
use crate::state::RunRecord;
use crate::web::AppState;
use crate::web::attention::{attention, state_failure};
use crate::web::chart::{Chart, Point, build_chart};
use crate::web::dto::{RECENT_RUNS, is_complete, latest_complete_run, load_recent_runs};
use crate::web::problem::Problem;
use crate::web::rows::{RunRow, escape_path};
use crate::web::status::{Activity, Role, StatusSnapshot};
use crate::web::time::DisplayTime;

/// The period whose removals are added up.
const PERIOD: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The kinds of what has gone wrong; the others are warnings.
const ERRORS: [AttentionKind; 9] = [
    AttentionKind::StateUnusable,
    AttentionKind::RunFailed,
    AttentionKind::Stale,
    AttentionKind::InvalidEdit,
    AttentionKind::PlanRefused,
    AttentionKind::RegistryUnread,
    AttentionKind::SourceFailed,
    AttentionKind::RemovalsFailed,
    AttentionKind::ManifestsMissing,
];

#[derive(Template)]
#[template(path = "site/home.html")]
struct HomePage {
    frame: Frame,
    health: Health,
    attention: Vec<AttentionRow>,
    activity: String,
    progress: Option<ProgressBar>,
    last: Option<RunRow>,
    next: Option<NextRow>,
    later: Vec<NextRow>,
    policies: String,
    policies_loaded: DisplayTime,
    approval: Option<Approval>,
    /// The start of the period that `changes` covers.
    changes_since: DisplayTime,
    /// What runs changed since then.
    changes: Vec<Card>,
    latest: Option<LatestRun>,
    chart: Option<Chart>,
    /// The runs of the chart in numbers: time; reclaimable, shared and reclaimed bytes.
    points: Vec<(DisplayTime, [String; 3])>,
    /// The number of runs that are not in the chart, because they could not read a registry.
    left_out: Option<String>,
    holds: Vec<HoldRow>,
    more_holds: Option<String>,
    rows: Vec<RunRow>,
}

/// The state of the daemon in a few words.
struct Health {
    css_class: &'static str,
    words: String,
}

/// One thing that needs attention.
struct AttentionRow {
    css_class: &'static str,
    /// The severity for people who do not see colours.
    severity: &'static str,
    sentence: String,
}

/// The progress of the run that is under way.
struct ProgressBar {
    description: String,
    /// Completed and total steps of the phase, where the total is known.
    steps: Option<(u64, u64)>,
}

/// A run of the schedule.
struct NextRow {
    at: DisplayTime,
    description: String,
    /// The reason why it will remove nothing, where that differs from the one that holds for all runs now.
    blocked_by: Option<String>,
}

/// A plan that removes something once somebody applies it.
struct Approval {
    run: String,
    when: DisplayTime,
    expires: DisplayTime,
    removals: String,
}

/// The registries as the last run saw them that read everything.
struct LatestRun {
    run: String,
    when: DisplayTime,
    expired: Vec<Card>,
    kept: Vec<Card>,
    registries: Vec<RegistryRow>,
    sources: Vec<SourceRow>,
}

struct RegistryRow {
    name: String,
    link: String,
    endpoint: String,
    /// Tags, expired, only reported, protected, retained, undecided, out of scope, reclaimable, shared; `None` where the
    /// run did not read it.
    found: Option<[String; 9]>,
}

pub(in crate::web) async fn home(State(app): State<AppState>) -> Response {
    render_page(&app, "Tagwarden", home_page(&app).await)
}

async fn home_page(app: &AppState) -> Result<HomePage, Problem> {
    let now = &app.now();
    let status = app.context.status.snapshot();
    let failure = state_failure(&status, &app.context.store);
    // What is wrong with the state is shown, rather than that it cannot be read.
    let recent = match load_recent_runs(&app.context.store).await {
        Err(_) if failure.is_some() => Vec::new(),
        read => read?,
    };
    let holds = match app.context.store.holds(now.timestamp()).await {
        Err(_) if failure.is_some() => Vec::new(),
        read => read?,
    };
    let all = attention(&status, &recent, failure.as_ref(), now.timestamp());
    let is_running = matches!(status.activity, Activity::Run { .. });
    let progress = app.context.status.progress().filter(|_| is_running);
    let latest = latest_complete_run(&recent).map(|(record, counts)| latest_run(app, record, counts, now));
    let approval = match latest_complete_run(&recent) {
        Some((record, counts)) => pending_approval(app, record, counts, now).await?,
        None => None,
    };
    let (points, left_out) = chart_points(&recent);
    let since = period_start(&recent, now);
    let mut next = status.next.iter().map(|run| NextRow {
        at: DisplayTime::new(run.at, now),
        description: run.description.clone(),
        blocked_by: run.blocked_by.clone().filter(|why| Some(why) != status.blocked_by.as_ref()),
    });
    let policies = &status.policies;
    let commit =
        policies.commit.as_ref().map(|commit| format!(", commit {}", truncate(commit, 15))).unwrap_or_default();
    let row = |(record, summary): &(RunRecord, RunSummary)| RunRow::new(&RunView::new(record, summary.clone()), now);
    Ok(HomePage {
        frame: Frame::new(app, "Tagwarden"),
        health: health(status.ready && failure.is_none(), &all),
        // Every page shows an invalid edit, with its lines.
        attention: all
            .iter()
            .filter(|found| !found.is_one_of(&[AttentionKind::InvalidEdit]))
            .map(attention_row)
            .collect(),
        activity: activity(&status, now),
        progress: progress.map(|found| ProgressBar { description: found.describe(), steps: found.steps() }),
        next: next.next(),
        later: next.collect(),
        policies: format!(
            "{}, revision {}{commit}",
            format_count(policies.count as u64),
            short_digest(&policies.revision)
        ),
        policies_loaded: DisplayTime::new(policies.loaded_at, now),
        approval,
        changes_since: DisplayTime::new(since, now),
        changes: changes(&recent, since),
        chart: build_chart(&points),
        left_out: (left_out > 0)
            .then(|| format!("{} that could not read a registry left out.", counted(left_out, "run"))),
        points: points.iter().rev().take(30).map(|point| point_row(point, now)).collect(),
        holds: holds.iter().take(ROWS_PER_PAGE as usize).map(|hold| hold_row(hold, latest.is_some(), now)).collect(),
        latest,
        more_holds: Some(holds.len().saturating_sub(ROWS_PER_PAGE as usize) as u64)
            .filter(|more| *more > 0)
            .map(format_count),
        last: recent.first().map(row),
        rows: recent.iter().take(10).map(row).collect(),
    })
}

fn health(ready: bool, attention: &[AttentionView]) -> Health {
    let (errors, warnings): (Vec<_>, Vec<_>) = attention.iter().partition(|found| found.is_one_of(&ERRORS));
    let (errors, warnings) = (errors.len() as u64, warnings.len() as u64);
    let (css_class, words) = match (ready, errors, warnings) {
        (false, ..) => ("bad", "Not ready".to_owned()),
        (true, 0, 0) => ("good", "Healthy".to_owned()),
        (true, 0, warnings) => ("warn", counted(warnings, "warning")),
        (true, errors, 0) => ("bad", counted(errors, "problem")),
        (true, errors, warnings) => {
            ("bad", format!("{}, {}", counted(errors, "problem"), counted(warnings, "warning")))
        }
    };
    Health { css_class, words }
}

fn attention_row(found: &AttentionView) -> AttentionRow {
    let (css_class, severity) = if found.is_one_of(&ERRORS) { ("bad", "problem") } else { ("warn", "warning") };
    AttentionRow { css_class, severity, sentence: found.sentence() }
}

fn activity(status: &StatusSnapshot, now: &Zoned) -> String {
    if let (Activity::Idle, Role::StandBy { leader }) = (&status.activity, &status.role) {
        let leader = leader.as_deref().unwrap_or("another daemon");
        return format!("standing by: {leader} follows the schedule");
    }
    match &status.activity {
        Activity::Idle if status.ready => "waiting for the next run".to_owned(),
        Activity::Idle => "waiting for valid settings and policies".to_owned(),
        Activity::Run { kind, since, description } => {
            format!("{} over {description}, started {}", kind.label(), DisplayTime::new(*since, now).relative)
        }
        Activity::Stopping => "stopping: removals in progress are finished first".to_owned(),
    }
}

/// Returns the points of the chart, and the number of runs that it leaves out: what could not be read has no bytes, and
/// would look like success.
fn chart_points(recent: &[(RunRecord, RunSummary)]) -> (Vec<Point>, u64) {
    let (mut points, mut left_out) = (Vec::new(), 0);
    for (record, counts) in recent.iter().rev() {
        let Some(summary) = &counts.plan else { continue };
        if !is_complete(record, counts) && counts.reclaimed_bytes().is_none() {
            continue;
        }
        let unread = |found: &AttentionView| found.is_one_of(&[AttentionKind::RegistryUnread]);
        if counts.attention.iter().flatten().any(unread) {
            left_out += 1;
            continue;
        }
        points.push(Point {
            at: record.run.started_at,
            reclaimable: summary.reclaimable_bytes,
            shared: summary.shared_bytes,
            reclaimed: counts.reclaimed_bytes(),
        });
    }
    (points, left_out)
}

fn point_row(point: &Point, now: &Zoned) -> (DisplayTime, [String; 3]) {
    let reclaimed = point.reclaimed.map_or_else(|| "not measured".to_owned(), format_bytes);
    (DisplayTime::new(point.at, now), [format_bytes(point.reclaimable), format_bytes(point.shared), reclaimed])
}

/// The start of the last 30 days, or a later run if the record has more runs in that time than are read.
fn period_start(recent: &[(RunRecord, RunSummary)], now: &Zoned) -> Timestamp {
    let start = now.timestamp() - PERIOD;
    let oldest = recent.last().filter(|_| recent.len() == RECENT_RUNS as usize);
    oldest.map_or(start, |(record, _)| record.run.started_at.max(start))
}

/// The changes by all runs of the period.
fn changes(recent: &[(RunRecord, RunSummary)], since: Timestamp) -> Vec<Card> {
    let within: Vec<&RunSummary> =
        recent.iter().filter(|(record, _)| record.run.started_at >= since).map(|(_, counts)| counts).collect();
    let sum = |pick: fn(&RunSummary) -> Option<u64>| within.iter().filter_map(|counts| pick(counts)).sum::<u64>();
    let card = |number: u64, one: &str, many: &str| {
        let label = if number == 1 { one } else { many };
        Card { number: format_count(number), label: label.to_owned(), link: None }
    };
    let mut cards = vec![
        card(sum(|counts| counts.removed), "tag removed", "tags removed"),
        card(sum(|counts| counts.deleted), "manifest deleted", "manifests deleted"),
        card(sum(|counts| counts.restored), "restored", "restored"),
        card(sum(|counts| counts.failed), "failed", "failed"),
    ];
    if within.iter().any(|counts| counts.reclaimed_bytes().is_some()) {
        let number = format_bytes(sum(RunSummary::reclaimed_bytes));
        cards.push(Card { number, label: "reclaimed, as measured".to_owned(), link: None });
    }
    cards
}

/// The plan of the latest run that read everything, if it has removals that only `tagwarden apply` carries out, and nobody
/// has applied it.
async fn pending_approval(
    app: &AppState,
    record: &RunRecord,
    counts: &RunSummary,
    now: &Zoned,
) -> Result<Option<Approval>, Problem> {
    let (Some(plan), Some(summary)) = (&record.plan_id, &counts.plan) else { return Ok(None) };
    let reported_only: u64 = counts.by_registry.values().map(|found| found.reported_only).sum();
    let removals = summary.expired.saturating_sub(reported_only);
    let settings = app.context.settings();
    let expires = record.run.started_at + settings.plan_ttl;
    if settings.mode != Mode::Approved || removals == 0 || expires <= now.timestamp() {
        return Ok(None);
    }
    if !app.context.store.runs_applying(plan).await?.is_empty() {
        return Ok(None);
    }
    Ok(Some(Approval {
        run: record.run.id.to_string(),
        when: DisplayTime::new(record.run.started_at, now),
        expires: DisplayTime::new(expires, now),
        removals: counted(removals, "removal"),
    }))
}

fn latest_run(app: &AppState, record: &RunRecord, counts: &RunSummary, now: &Zoned) -> LatestRun {
    let id = record.run.id.to_string();
    let link = format!("/runs/{id}");
    let settings = app.context.settings();
    let registries = settings.registries.iter().map(|settings| RegistryRow {
        name: settings.name.to_string(),
        link: format!("/registries/{}", escape_path(settings.name.as_str())),
        endpoint: settings.endpoint.to_string().trim_end_matches('/').to_owned(),
        found: counts.by_registry.get(settings.name.as_str()).map(|found| {
            let summary = &found.summary;
            [
                format_count(summary.tags),
                format_count(summary.expired),
                format_count(found.reported_only),
                format_count(summary.protected),
                format_count(summary.retained),
                format_count(summary.undecided),
                format_count(summary.out_of_scope),
                reclaimable(summary) + &unknown_size_note(summary.unknown_bytes_removals),
                format_bytes(summary.shared_bytes),
            ]
        }),
    });
    LatestRun {
        expired: counts.plan.as_ref().map(|summary| expired_cards(summary, &link).into()).unwrap_or_default(),
        kept: counts.plan.as_ref().map(|summary| kept_cards(summary, &link).into()).unwrap_or_default(),
        when: DisplayTime::new(record.run.started_at, now),
        registries: registries.collect(),
        sources: counts.sources.iter().map(|source| source_row(source, now)).collect(),
        run: id,
    }
}
