//! The pages of runs: their list, and one run with its tags and its journal.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use serde::Deserialize;

use super::{Card, Frame, ROWS_PER_PAGE, SourceRow, cards, render_page, source_row, tag_list};
use crate::report::{
    AttentionKind, AttentionView, EntryView, RunView, format_age, format_bytes, format_count, sanitize,
};
use crate::state::JournalScope;
use crate::web::AppState;
use crate::web::api::{self, QueryParams, TagQuery};
use crate::web::dto;
use crate::web::plan_index::OpenPlan;
use crate::web::problem::Problem;
use crate::web::rows::{EntryRow, RunRow, TagList};
use crate::workflow;

#[derive(Template)]
#[template(path = "site/runs.html")]
struct RunsPage {
    frame: Frame,
    rows: Vec<RunRow>,
    next: Option<String>,
    first: bool,
}

/// The position in the list of runs.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::web) struct RunsQuery {
    before: Option<String>,
}

pub(in crate::web) async fn runs(State(app): State<AppState>, QueryParams(query): QueryParams<RunsQuery>) -> Response {
    render_page(&app, "Runs", runs_page(&app, &query).await)
}

async fn runs_page(app: &AppState, query: &RunsQuery) -> Result<RunsPage, Problem> {
    let now = &app.now();
    let before = query.before.as_deref().map(api::parse_run_id).transpose()?;
    let records = app.context.store.runs_before(before, ROWS_PER_PAGE).await?;
    Ok(RunsPage {
        frame: Frame::new(app, "Runs"),
        first: before.is_none(),
        next: records
            .last()
            .filter(|_| records.len() == ROWS_PER_PAGE as usize)
            .map(|record| record.run.id.to_string()),
        rows: workflow::run_views(&app.context.store, &records)
            .await?
            .iter()
            .map(|run| RunRow::new(run, now))
            .collect(),
    })
}

#[derive(Template)]
#[template(path = "site/run.html")]
struct RunPage {
    frame: Frame,
    row: RunRow,
    facts: Vec<(&'static str, String)>,
    cards: Vec<Card>,
    /// The attention items, before everything else.
    attention: Vec<String>,
    unread: Vec<String>,
    sources: Vec<SourceRow>,
    policies: Vec<(String, String, String, String)>,
    journal: Vec<String>,
    history: Vec<EntryRow>,
    more_history: Option<String>,
    has_plan: bool,
    list: Option<TagList>,
}

pub(in crate::web) async fn run(
    State(app): State<AppState>,
    Path(id): Path<String>,
    QueryParams(query): QueryParams<TagQuery>,
) -> Response {
    render_page(&app, "Run", run_page(&app, &id, &query).await)
}

async fn run_page(app: &AppState, id: &str, query: &TagQuery) -> Result<RunPage, Problem> {
    let now = &app.now();
    let record = api::find_run(app, id).await?;
    let store = &app.context.store;
    let view = dto::load_run(store, &record).await?;
    let entries = store.journal_page(&JournalScope::Run(record.run.id), query.before, ROWS_PER_PAGE).await?;
    let more_history =
        entries.last().filter(|_| entries.len() == ROWS_PER_PAGE as usize).map(|entry| entry.id.to_string());
    let (mut unread, mut policies, mut list) = (Vec::new(), Vec::new(), None);
    if let Some(plan) = OpenPlan::open(store, record.run.id).await? {
        for registry in &plan.document.registries {
            unread.extend(registry.gaps.iter().map(|gap| {
                let repository = gap.repository.as_ref().map(|name| format!("/{name}")).unwrap_or_default();
                sanitize(&format!("{}{repository}: {} ({}): {}", registry.name, gap.at, gap.kind, gap.message))
            }));
        }
        policies = plan
            .document
            .policies
            .iter()
            .map(|policy| {
                let what = policy.description.clone().unwrap_or_default();
                (policy.name.clone(), policy.mode.clone(), format_count(policy.expired), what)
            })
            .collect();
        list = Some(tag_list(app, &plan, query, None).await?);
    }
    Ok(RunPage {
        frame: Frame::new(app, "Run"),
        facts: facts(&view),
        cards: view.summary.plan.as_ref().map(|summary| cards(summary, "")).unwrap_or_default(),
        // The page shows the error that ended the run separately.
        attention: view
            .attention
            .iter()
            .filter(|found| !found.is_one_of(&[AttentionKind::RunFailed, AttentionKind::RunInterrupted]))
            .map(AttentionView::sentence)
            .collect(),
        unread,
        sources: view.summary.sources.iter().map(|source| source_row(source, now)).collect(),
        policies,
        journal: view
            .journal_counts
            .iter()
            .flatten()
            .map(|found| {
                let outcome = found.outcome.as_deref().unwrap_or("pending");
                let skip = found.skip.as_ref().map(|skip| format!(" ({skip})")).unwrap_or_default();
                format!("{}: {} {outcome}{skip}", found.action, format_count(found.count))
            })
            .collect(),
        history: entries.iter().map(|entry| EntryRow::new(EntryView::new(entry, None), now)).collect(),
        more_history,
        has_plan: list.is_some(),
        list,
        row: RunRow::new(&view, now),
    })
}

fn facts(run: &RunView) -> Vec<(&'static str, String)> {
    let mut facts = vec![("Mode", run.mode.clone()), ("Started by", run.by.clone()), ("Version", run.version.clone())];
    let optional = [
        ("Took", run.seconds.map(format_age)),
        ("Approved by", run.describe_approval()),
        ("Ticket", run.ticket.clone()),
        ("Plan", run.plan_id.clone()),
        ("Fingerprint", run.summary.fingerprint.clone()),
        ("Reclaimed, as the registries say", run.reclaimed_bytes.map(format_bytes)),
    ];
    facts.extend(optional.into_iter().filter_map(|(label, value)| Some((label, sanitize(&value?)))));
    facts
}
