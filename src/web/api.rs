//! The API: `/api/v1`, JSON, read-only. `schema/openapi.json` describes it.

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;
use http::header::CONTENT_TYPE;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::AppState;
use super::attention::{attention, state_failure};
use super::dto::{self, TagDto, latest_complete_run, load_recent_runs};
use super::plan_index::{OpenPlan, TagFilter, VERDICTS};
use super::plan_json::plan_json;
use super::problem::Problem;
use super::status::{Activity, Role, StatusSnapshot};
use crate::domain::{RegistryName, RepositoryName};
use crate::report::{HoldView, RunView, sanitize, truncate};
use crate::state::{JournalScope, RunRecord};
use crate::workflow;

type ApiResult<T> = Result<T, Problem>;

/// The description of the API.
const OPENAPI: &str = include_str!("../../schema/openapi.json");

/// Most items that one response lists.
const MAX_LIMIT: u32 = 1000;

/// The query of a URL.
pub(super) struct QueryParams<T>(pub(super) T);

impl<T: serde::de::DeserializeOwned> FromRequestParts<AppState> for QueryParams<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut http::request::Parts, app: &AppState) -> ApiResult<Self> {
        let query = Query::from_request_parts(parts, app).await;
        query.map(|Query(query)| Self(query)).map_err(|_| Problem::bad_request(describe_query_problem(&parts.uri)))
    }
}

/// Says why the query of an address cannot be read.
fn describe_query_problem(uri: &http::Uri) -> String {
    let pairs: Vec<(String, String)> = Query::try_from_uri(uri).map(|Query(pairs)| pairs).unwrap_or_default();
    for name in ["limit", "page", "before"] {
        let values: Vec<&str> = pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect();
        match *values {
            [value] if value.parse::<u32>().is_err() => {
                let value = truncate(&sanitize(value), 100);
                return format!("`{name}` must be a whole number below 4294967296, not `{value}`");
            }
            [_, _, ..] => return format!("`{name}` is given more than once"),
            _ => {}
        }
    }
    "the query of this address cannot be read: each parameter may be there once".to_owned()
}

/// The requested page of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PageParams {
    limit: Option<u32>,
    before: Option<String>,
}

/// The requested tags of a plan.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub(super) struct TagQuery {
    pub(super) verdict: Option<String>,
    pub(super) search: Option<String>,
    /// Counted from 1.
    pub(super) page: Option<u64>,
    pub(super) limit: Option<u32>,
    /// For pages: the journal entry before which to list.
    pub(super) before: Option<i64>,
}

impl TagQuery {
    /// Returns the filter, for one repository or for all.
    pub(super) fn filter(&self, repository: Option<(String, String)>) -> ApiResult<TagFilter> {
        let verdict = match self.verdict.as_deref().filter(|verdict| !verdict.is_empty()) {
            None => None,
            Some(label) => {
                let known = VERDICTS.iter().position(|verdict| *verdict == label);
                let unknown =
                    || Problem::bad_request(format!("no verdict `{label}`; there are {}", VERDICTS.join(", ")));
                Some(known.ok_or_else(unknown)?)
            }
        };
        let search = self.search.as_deref().unwrap_or_default().to_ascii_lowercase();
        Ok(TagFilter { verdict, repository, tag: None, words: search.split_whitespace().map(str::to_owned).collect() })
    }

    pub(super) fn limit(&self, default: u32) -> ApiResult<u32> {
        limit(self.limit, default)
    }

    /// Returns the number of the page, from 1.
    pub(super) fn page_number(&self) -> u64 {
        self.page.unwrap_or(1).max(1)
    }
}

fn limit(wanted: Option<u32>, default: u32) -> ApiResult<u32> {
    match wanted.unwrap_or(default) {
        limit @ 1..=MAX_LIMIT => Ok(limit),
        other => Err(Problem::bad_request(format!("`limit` is {other}, and must be 1 to {MAX_LIMIT}"))),
    }
}

pub(super) async fn openapi() -> Response {
    ([(CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

pub(super) async fn status(State(app): State<AppState>) -> Json<Value> {
    let status = app.context.status.snapshot();
    let now = (app.context.clock)();
    // An unreadable state must not hide the daemon's status.
    let recent = load_recent_runs(&app.context.store).await.unwrap_or_default();
    let mut json = status_json(&status, app.context.settings().mode.label(), now);
    let failure = state_failure(&status, &app.context.store);
    json["ready"] = json!(status.ready && failure.is_none());
    json["attention"] = json!(attention(&status, &recent, failure.as_ref(), now));
    if matches!(status.activity, Activity::Run { .. })
        && let Some(progress) = app.context.status.progress()
    {
        json["activity"]["progress"] = json!(progress);
    }
    Json(json)
}

fn status_json(status: &StatusSnapshot, mode: &str, now: Timestamp) -> Value {
    let activity = match &status.activity {
        Activity::Idle => json!({ "state": "waiting" }),
        Activity::Run { kind, since, description: what } => {
            json!({ "state": "running", "kind": kind.label(), "since": since, "description": what })
        }
        Activity::Stopping => json!({ "state": "stopping" }),
    };
    let (role, leader) = match &status.role {
        Role::Single => ("single", None),
        Role::Leader => ("leader", None),
        Role::StandBy { leader } => ("stand-by", leader.as_deref()),
    };
    let next = status
        .next
        .iter()
        .map(|run| json!({ "at": run.at, "description": run.description, "blocked_by": run.blocked_by }));
    let problem = status.policies.problem.as_ref();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "mode": mode,
        "now": now,
        "started_at": status.started_at,
        "ready": status.ready,
        "role": role,
        "leader": leader,
        "outdated": status.outdated,
        "activity": activity,
        "next": next.collect::<Vec<_>>(),
        "blocked_by": status.blocked_by,
        "policies": {
            "revision": status.policies.revision,
            "commit": status.policies.commit,
            "loaded_at": status.policies.loaded_at,
            "count": status.policies.count,
            "problem": problem.map(|problem| json!({ "since": problem.since, "text": problem.text })),
        },
    })
}

pub(super) async fn runs(
    State(app): State<AppState>,
    QueryParams(paging): QueryParams<PageParams>,
) -> ApiResult<Json<Value>> {
    let limit = limit(paging.limit, 50)?;
    let before = paging.before.as_deref().map(parse_run_id).transpose()?;
    let records = app.context.store.runs_before(before, limit).await?;
    let next = records.last().filter(|_| records.len() == limit as usize).map(|record| record.run.id.to_string());
    let runs = workflow::run_views(&app.context.store, &records).await?;
    Ok(Json(json!({ "runs": runs, "next": next })))
}

pub(super) async fn run(State(app): State<AppState>, Path(id): Path<String>) -> ApiResult<Json<RunView>> {
    let record = find_run(&app, &id).await?;
    Ok(Json(dto::load_run(&app.context.store, &record).await?))
}

/// Streams the plan of a run as it was made, except for retained tags that are no longer stored.
pub(super) async fn plan(State(app): State<AppState>, Path(id): Path<String>) -> ApiResult<Response> {
    let record = find_run(&app, &id).await?;
    let receive = plan_json(&app.context.store, record.run.id).await?.ok_or_else(|| no_plan(&record))?;
    let pieces = futures::stream::unfold(receive, |mut receive| async {
        let piece = receive.recv().await?;
        Some((piece, receive))
    });
    // Compression polls once more after the end.
    let pieces = pieces.fuse();
    Ok(([(CONTENT_TYPE, "application/json")], Body::from_stream(pieces)).into_response())
}

pub(super) async fn tags(
    State(app): State<AppState>,
    Path(id): Path<String>,
    QueryParams(query): QueryParams<TagQuery>,
) -> ApiResult<Json<Value>> {
    let record = find_run(&app, &id).await?;
    let plan = OpenPlan::open(&app.context.store, record.run.id).await?.ok_or_else(|| no_plan(&record))?;
    tags_json(&plan, &query, None).await.map(Json)
}

async fn tags_json(plan: &OpenPlan, query: &TagQuery, repository: Option<(String, String)>) -> ApiResult<Value> {
    let (wanted, limit, number) = (query.filter(repository)?, query.limit(100)?, query.page_number());
    if query.page == Some(0) {
        return Err(Problem::bad_request("`page` is 0, and must be at least 1".to_owned()));
    }
    let skip = (number - 1).saturating_mul(limit.into());
    let found = plan.tags(&wanted, skip, limit as usize).await?;
    let tags: Vec<TagDto> = found.tags.into_iter().map(|tag| TagDto::new(tag, &plan.document)).collect();
    let total = found.total;
    Ok(json!({ "tags": tags, "total": total, "page": number, "limit": limit, "kept_pruned": !plan.keeps_kept() }))
}

pub(super) async fn removals_of_run(
    State(app): State<AppState>,
    Path(id): Path<String>,
    QueryParams(paging): QueryParams<PageParams>,
) -> ApiResult<Json<Value>> {
    let record = find_run(&app, &id).await?;
    journal_entries(&app, &JournalScope::Run(record.run.id), &paging).await
}

pub(super) async fn removals(
    State(app): State<AppState>,
    QueryParams(paging): QueryParams<PageParams>,
) -> ApiResult<Json<Value>> {
    journal_entries(&app, &JournalScope::Everything, &paging).await
}

async fn journal_entries(app: &AppState, of: &JournalScope, paging: &PageParams) -> ApiResult<Json<Value>> {
    let limit = limit(paging.limit, 100)?;
    let number = |text: &str| {
        let number = text.parse().ok().filter(|number: &i64| *number >= 0);
        number.ok_or_else(|| Problem::bad_request(format!("`before` must be the number of an entry, not `{text}`")))
    };
    let before = paging.before.as_deref().map(number).transpose()?;
    let found = app.context.store.journal_page(of, before, limit).await?;
    let next = found.last().filter(|_| found.len() == limit as usize).map(|entry| entry.id.number());
    let entries = dto::load_entries(&app.context.store, &found).await?;
    Ok(Json(json!({ "entries": entries, "next": next })))
}

pub(super) async fn holds(State(app): State<AppState>) -> ApiResult<Json<Value>> {
    let holds = app.context.store.holds((app.context.clock)()).await?;
    let holds: Vec<HoldView> = holds.iter().map(HoldView::from).collect();
    Ok(Json(json!({ "holds": holds })))
}

pub(super) async fn sources(State(app): State<AppState>) -> ApiResult<Json<Value>> {
    let recent = load_recent_runs(&app.context.store).await?;
    let latest = latest_complete_run(&recent);
    let sources = latest.map(|(_, counts)| counts.sources.clone()).unwrap_or_default();
    Ok(Json(json!({ "run": latest.map(|(record, _)| record.run.id.to_string()), "sources": sources })))
}

pub(super) async fn registries(State(app): State<AppState>) -> ApiResult<Json<Value>> {
    let recent = load_recent_runs(&app.context.store).await?;
    let latest = latest_complete_run(&recent);
    let settings = app.context.settings();
    let registries: Vec<Value> = settings
        .registries
        .iter()
        .map(|settings| {
            let summary = latest.and_then(|(_, counts)| counts.by_registry.get(settings.name.as_str()));
            json!({
                "name": settings.name.as_str(),
                "endpoint": settings.endpoint.as_str(),
                "removal": settings.removal.label(),
                "summary": summary,
            })
        })
        .collect();
    Ok(Json(json!({ "run": latest.map(|(record, _)| record.run.id.to_string()), "registries": registries })))
}

pub(super) async fn registry(State(app): State<AppState>, Path(registry): Path<String>) -> ApiResult<Json<Value>> {
    let (record, plan) = current_plan(&app).await?;
    ensure_registry(&app, &plan, &registry)?;
    let repositories: Vec<Value> = plan
        .repositories
        .iter()
        .filter(|((of, _), _)| *of == registry)
        .map(|((_, repository), found)| {
            let counts: serde_json::Map<_, _> = VERDICTS
                .iter()
                .zip(found.counts)
                .map(|(verdict, count)| ((*verdict).to_owned(), count.into()))
                .collect();
            json!({
                "repository": repository,
                "tags": counts,
                "reclaimable_bytes": found.reclaimable_bytes,
                "shared_bytes": found.shared_bytes,
                "unknown_bytes_removals": found.unknown_removals,
                "bytes": plan.document.bytes_label(&registry),
            })
        })
        .collect();
    Ok(Json(json!({ "run": record.run.id.to_string(), "registry": registry, "repositories": repositories })))
}

pub(super) async fn repository(
    State(app): State<AppState>,
    Path((registry, repository)): Path<(String, String)>,
    QueryParams(query): QueryParams<TagQuery>,
) -> ApiResult<Json<Value>> {
    let of = repository_journal(&registry, &repository)?;
    let (record, plan) = current_plan(&app).await?;
    let mut found = tags_json(&plan, &query, Some((registry.clone(), repository.clone()))).await?;
    let history = app.context.store.journal_page(&of, None, 100).await?;
    if found["total"] == 0 && query.verdict.is_none() && query.search.is_none() && history.is_empty() {
        return Err(Problem::not_found(format!("the last run saw no repository {registry}/{repository} with tags")));
    }
    found["run"] = json!(record.run.id.to_string());
    found["history"] = json!(dto::load_entries(&app.context.store, &history).await?);
    Ok(Json(found))
}

/// Returns the journal scope of a repository, if the names are valid.
pub(super) fn repository_journal(registry: &str, repository: &str) -> ApiResult<JournalScope> {
    let wrong = |what: &str, name: &str| Problem::not_found(format!("invalid name of a {what}: `{name}`"));
    let registry: RegistryName = registry.parse().map_err(|_| wrong("registry", registry))?;
    let repository: RepositoryName = repository.parse().map_err(|_| wrong("repository", repository))?;
    Ok(JournalScope::Repository(registry, repository))
}

/// Checks that the settings or the last run contain a registry.
pub(super) fn ensure_registry(app: &AppState, plan: &OpenPlan, registry: &str) -> ApiResult<()> {
    let configured = app.context.settings().registries.iter().any(|settings| settings.name.as_str() == registry);
    let read = plan.document.registries.iter().any(|view| view.name == registry);
    if configured || read { Ok(()) } else { Err(Problem::not_found(format!("no registry `{registry}`"))) }
}

/// Returns the run that shows the current situation, and its plan.
pub(super) async fn current_plan(app: &AppState) -> ApiResult<(RunRecord, OpenPlan)> {
    let recent = load_recent_runs(&app.context.store).await?;
    let none = || Problem::not_found("no run has looked at everything yet; `tagwarden run` does, or the schedule will");
    let (record, _) = latest_complete_run(&recent).ok_or_else(none)?;
    let store = &app.context.store;
    let plan = OpenPlan::open(store, record.run.id).await?.ok_or_else(none)?;
    // During a run its plan is already the last full one, and the only one with all tags.
    if !plan.keeps_kept()
        && let Some(run) = store.last_whole_plan().await?
        && let Some(record) = store.run(&run.to_string()).await?
        && let Some(plan) = OpenPlan::open(store, run).await?
    {
        return Ok((record, plan));
    }
    Ok((record.clone(), plan))
}

/// Returns the record of the run whose id starts with `id`.
pub(super) async fn find_run(app: &AppState, id: &str) -> ApiResult<RunRecord> {
    if id == "last" {
        let none = || Problem::not_found("there are no runs yet");
        return app.context.store.runs(1).await?.pop().ok_or_else(none);
    }
    let is_id = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
    let found = if !id.is_empty() && id.bytes().all(is_id) { app.context.store.run(id).await? } else { None };
    found.ok_or_else(|| Problem::not_found(format!("no run `{id}`; /runs lists them")))
}

fn no_plan(record: &RunRecord) -> Problem {
    Problem::not_found(format!("run {} made no plan, or it is not kept any more", record.run.id))
}

pub(super) fn parse_run_id(text: &str) -> ApiResult<Uuid> {
    text.parse().map_err(|_| Problem::bad_request(format!("`before` must be the id of a run, not `{text}`")))
}
