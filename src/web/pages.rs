//! The pages, made here whole: they need no script.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse, Response};
use http::StatusCode;
use jiff::Timestamp;

use super::AppState;
use super::api::{self, QueryParams, TagQuery};
use super::assets::ASSETS_PATH;
use super::attention::attention;
use super::chart::{Chart, Point, build_chart};
use super::dto::{TagDto, is_complete, latest_complete_run, load_recent_runs};
use super::plan_index::{OpenPlan, RepositoryCounts, VERDICTS, VerdictCounts};
use super::problem::Problem;
use super::rows::{DisplayTime, EntryRow, RunRow, TagList, escape_path, page_link, repository_link};
use super::status::Activity;
use crate::domain::{Hold, chain};
use crate::report::{
    AttentionKind, AttentionView, EntryView, PlanDocument, RunSummary, RunView, SourceView, SummaryView, counted,
    format_bytes, format_count, sanitize, short_digest, truncate,
};
use crate::state::RunRecord;

mod runs;

pub(super) use runs::{run, runs};

/// How many rows a page of a table has.
const ROWS_PER_PAGE: u32 = 100;

/// What all pages have around them.
pub(super) struct Frame {
    title: String,
    assets: &'static str,
    version: &'static str,
    mode: &'static str,
    now: DisplayTime,
    /// What is wrong with an edit of the policies, since when.
    policy_problem: Option<(DisplayTime, String)>,
    blocked_by: Option<String>,
}

impl Frame {
    fn new(app: &AppState, title: &str) -> Self {
        let (status, now) = (app.context.status.snapshot(), (app.context.clock)());
        Self {
            title: title.to_owned(),
            assets: &ASSETS_PATH,
            version: env!("CARGO_PKG_VERSION"),
            mode: app.context.settings.mode.label(),
            now: DisplayTime::new(now, now),
            policy_problem: status.policies.problem.map(|problem| (DisplayTime::new(problem.since, now), problem.text)),
            blocked_by: status.blocked_by,
        }
    }
}

#[derive(Template)]
#[template(path = "site/home.html")]
struct HomePage {
    frame: Frame,
    /// What needs attention, before everything else.
    attention: Vec<String>,
    activity: String,
    progress: Option<ProgressBar>,
    next: Vec<(DisplayTime, String, Option<String>)>,
    policies: String,
    policies_loaded: DisplayTime,
    rows: Vec<RunRow>,
    latest: Option<LatestRun>,
    holds: Vec<HoldRow>,
    more_holds: Option<String>,
    chart: Option<Chart>,
    points: Vec<[String; 4]>,
}

/// The progress of the run that is under way.
struct ProgressBar {
    description: String,
    /// Completed and total steps of the phase, where the total is known.
    steps: Option<(u64, u64)>,
}

/// How things stand, by the last run that looked at everything.
struct LatestRun {
    run: String,
    when: DisplayTime,
    cards: Vec<Card>,
    registries: Vec<RegistryRow>,
    sources: Vec<SourceRow>,
}

/// One number, large.
struct Card {
    number: String,
    label: String,
    link: Option<String>,
}

struct RegistryRow {
    name: String,
    link: String,
    endpoint: String,
    /// Tags, those that go, protected, undecided, retained, out of scope; nothing where it was not read.
    found: Option<[String; 6]>,
    reported_only: String,
    reclaimable: String,
    shared: String,
}

struct HoldRow {
    name: String,
    /// The page of its repository; `None` while no run has made any.
    link: Option<String>,
    digest: String,
    until: DisplayTime,
    by: String,
    since: DisplayTime,
    reason: String,
}

struct SourceRow {
    name: String,
    kind: String,
    answered: bool,
    claims: String,
    mentions: String,
    unresolved: String,
    protects: String,
    as_of: Option<DisplayTime>,
    notes: String,
}

pub(super) async fn home(State(app): State<AppState>) -> Response {
    render_page(&app, "Tagwarden", home_page(&app).await)
}

async fn home_page(app: &AppState) -> Result<HomePage, Problem> {
    let now = (app.context.clock)();
    let status = app.context.status.snapshot();
    let recent = load_recent_runs(&app.context.store).await?;
    let holds = app.context.store.holds(now).await?;
    let points: Vec<Point> = recent
        .iter()
        .rev()
        .filter(|(record, counts)| is_complete(record, counts) || counts.reclaimed_bytes().is_some())
        .filter_map(|(record, counts)| {
            let summary = counts.plan.as_ref()?;
            Some(Point {
                at: record.run.started_at,
                reclaimable: summary.reclaimable_bytes,
                shared: summary.shared_bytes,
                reclaimed: counts.reclaimed_bytes(),
            })
        })
        .collect();
    let doing = match &status.activity {
        Activity::Idle if status.ready => "Waiting for the next run.".to_owned(),
        Activity::Idle => "Not ready yet.".to_owned(),
        Activity::Run { kind, since, description: what } => {
            format!("A {} over {what} is under way, begun {}.", kind.label(), DisplayTime::new(*since, now).relative)
        }
        Activity::Stopping => "Stopping: what was begun is finished first.".to_owned(),
    };
    let is_running = matches!(status.activity, Activity::Run { .. });
    let progress = app.context.status.progress().filter(|_| is_running);
    let mut urgent = attention(&status, &recent, now);
    // All pages show an invalid edit, with its lines.
    urgent.retain(|found| !found.is_one_of(&[AttentionKind::InvalidEdit]));
    let stands = latest_complete_run(&recent).map(|(record, counts)| latest_run(app, record, counts, now));
    let policies = &status.policies;
    let commit =
        policies.commit.as_ref().map(|commit| format!(", commit {}", truncate(commit, 15))).unwrap_or_default();
    Ok(HomePage {
        frame: Frame::new(app, "Tagwarden"),
        attention: urgent.iter().map(AttentionView::sentence).collect(),
        activity: doing,
        progress: progress.map(|found| ProgressBar { description: found.describe(), steps: found.steps() }),
        next: status
            .next
            .iter()
            .map(|run| (DisplayTime::new(run.at, now), run.description.clone(), run.blocked_by.clone()))
            .collect(),
        policies: format!(
            "{}, revision {}{commit}",
            format_count(policies.count as u64),
            short_digest(&policies.revision)
        ),
        policies_loaded: DisplayTime::new(policies.loaded_at, now),
        rows: recent
            .iter()
            .take(10)
            .map(|(record, summary)| RunRow::new(&RunView::new(record, summary.clone()), now))
            .collect(),
        holds: holds.iter().take(ROWS_PER_PAGE as usize).map(|hold| hold_row(hold, stands.is_some(), now)).collect(),
        latest: stands,
        more_holds: Some(holds.len().saturating_sub(ROWS_PER_PAGE as usize) as u64)
            .filter(|more| *more > 0)
            .map(format_count),
        chart: build_chart(&points),
        points: points.iter().rev().take(30).map(point_cells).collect(),
    })
}

fn point_cells(point: &Point) -> [String; 4] {
    let measured = point.reclaimed.map_or_else(|| "not measured".to_owned(), format_bytes);
    [crate::report::format_minute(point.at), format_bytes(point.reclaimable), format_bytes(point.shared), measured]
}

fn latest_run(app: &AppState, record: &RunRecord, counts: &RunSummary, now: Timestamp) -> LatestRun {
    let configured = app.context.settings.registries.iter().map(|settings| RegistryRow {
        name: settings.name.to_string(),
        link: format!("/registries/{}", escape_path(settings.name.as_str())),
        endpoint: settings.endpoint.to_string().trim_end_matches('/').to_owned(),
        found: counts.by_registry.get(settings.name.as_str()).map(|found| {
            let found = &found.summary;
            [found.tags, found.expired, found.protected, found.undecided, found.retained, found.out_of_scope]
                .map(format_count)
        }),
        reported_only: counts
            .by_registry
            .get(settings.name.as_str())
            .map_or_else(String::new, |found| format_count(found.reported_only)),
        reclaimable: counts.by_registry.get(settings.name.as_str()).map_or_else(String::new, |counts| {
            reclaimable(&counts.summary) + &unknown_size_note(counts.summary.unknown_bytes_removals)
        }),
        shared: counts
            .by_registry
            .get(settings.name.as_str())
            .map_or_else(String::new, |counts| format_bytes(counts.summary.shared_bytes)),
    });
    let id = record.run.id.to_string();
    LatestRun {
        cards: counts.plan.as_ref().map(|summary| cards(summary, &format!("/runs/{id}"))).unwrap_or_default(),
        run: id,
        when: DisplayTime::new(record.run.started_at, now),
        registries: configured.collect(),
        sources: counts.sources.iter().map(|source| source_row(source, now)).collect(),
    }
}

fn hold_row(hold: &Hold, has_page: bool, now: Timestamp) -> HoldRow {
    HoldRow {
        name: sanitize(&hold.name()),
        link: has_page.then(|| repository_link(hold.registry.as_str(), hold.repository.as_str())),
        digest: hold.digest.as_ref().map_or_else(|| "none".to_owned(), |digest| short_digest(&digest.to_string())),
        until: DisplayTime::new(hold.until, now),
        by: sanitize(&hold.by),
        since: DisplayTime::new(hold.since, now),
        reason: truncate(&sanitize(&hold.reason), 400),
    }
}

fn source_row(source: &SourceView, now: Timestamp) -> SourceRow {
    let words = source.error.iter().chain(&source.notes).map(|words| sanitize(words)).collect::<Vec<_>>().join("; ");
    SourceRow {
        name: source.name.clone(),
        kind: source.kind.clone(),
        answered: source.state == "answered",
        claims: format_count(source.claims),
        mentions: source.mentions.map(format_count).unwrap_or_default(),
        unresolved: source.unresolved.map(format_count).unwrap_or_default(),
        protects: format_count(source.protects),
        as_of: source.as_of.map(|at| DisplayTime::new(at, now)),
        notes: words,
    }
}

fn reclaimable(summary: &SummaryView) -> String {
    let about = if summary.is_estimated() && summary.reclaimable_bytes > 0 { "about " } else { "" };
    format!("{about}{}", format_bytes(summary.reclaimable_bytes))
}

/// How many removals the bytes do not tell of.
fn unknown_size_note(removals: u64) -> String {
    if removals == 0 { String::new() } else { format!(" and {} of unknown size", format_count(removals)) }
}

fn cards(summary: &SummaryView, run: &str) -> Vec<Card> {
    let by_verdict = [summary.expired, summary.protected, summary.undecided, summary.retained, summary.out_of_scope];
    let all = Card { number: format_count(summary.tags), label: "tags".to_owned(), link: Some(format!("{run}#tags")) };
    let verdicts = VERDICTS.iter().zip(by_verdict).map(|(verdict, number)| Card {
        number: format_count(number),
        label: if *verdict == "expired" { "would go" } else { verdict }.to_owned(),
        link: Some(format!("{run}?verdict={verdict}#tags")),
    });
    let label = match summary.unknown_bytes_removals {
        0 => "reclaimable".to_owned(),
        removals => format!("reclaimable, without {} of unknown size", counted(removals, "removal")),
    };
    let reclaimable = Card { number: reclaimable(summary), label, link: None };
    let shared = Card { number: format_bytes(summary.shared_bytes), label: "shared, stays".to_owned(), link: None };
    std::iter::once(all).chain(verdicts).chain([reclaimable, shared]).collect()
}

async fn tag_list(plan: &OpenPlan, query: &TagQuery, repository: Option<(String, String)>) -> Result<TagList, Problem> {
    let counts: VerdictCounts = match &repository {
        Some(name) => plan.repositories.get(name).map(|found| found.counts).unwrap_or_default(),
        None => plan.counts,
    };
    let show_place = repository.is_none();
    let (wanted, limit) = (query.filter(repository)?, query.limit(ROWS_PER_PAGE)?);
    let skip = (query.page_number() - 1).saturating_mul(limit.into());
    let found = plan.tags(&wanted, skip, limit as usize).await?;
    let tags: Vec<TagDto> = found.tags.into_iter().map(|tag| TagDto::new(tag, &plan.document)).collect();
    let kept_pruned = !plan.keeps_kept();
    Ok(TagList { show_place, kept_pruned, ..TagList::new(tags, found.total, query, limit, &counts) })
}

#[derive(Template)]
#[template(path = "site/registry.html")]
struct RegistryPage {
    frame: Frame,
    name: String,
    endpoint: String,
    run: String,
    when: DisplayTime,
    /// Name, link, counts by verdict, reclaimable and shared bytes.
    repositories: Vec<(String, String, [String; 5], [String; 2])>,
    range: String,
    search: String,
    previous: Option<String>,
    next: Option<String>,
}

pub(super) async fn registry(
    State(app): State<AppState>,
    Path(name): Path<String>,
    QueryParams(query): QueryParams<TagQuery>,
) -> Response {
    render_page(&app, &name, registry_page(&app, &name, &query).await)
}

async fn registry_page(app: &AppState, name: &str, query: &TagQuery) -> Result<RegistryPage, Problem> {
    let (record, plan) = api::current_plan(app).await?;
    api::ensure_registry(app, &plan, name)?;
    let search = query.search.clone().unwrap_or_default();
    let fits = |repository: &str| search.to_ascii_lowercase().split_whitespace().all(|word| repository.contains(word));
    let all: Vec<_> =
        plan.repositories.iter().filter(|((registry, repository), _)| *registry == name && fits(repository)).collect();
    let (rows, number) = (ROWS_PER_PAGE as usize, query.page_number());
    let first = usize::try_from((number - 1).saturating_mul(u64::from(ROWS_PER_PAGE))).unwrap_or(usize::MAX);
    let repositories: Vec<_> = all
        .iter()
        .skip(first)
        .take(rows)
        .map(|((registry, repository), found)| {
            let sizes = sizes(&plan.document, registry, found);
            (sanitize(repository), repository_link(registry, repository), found.counts.map(format_count), sizes)
        })
        .collect();
    let last = first.saturating_add(repositories.len());
    let endpoint = plan.document.registries.iter().find(|view| view.name == name).map(|view| view.endpoint.clone());
    Ok(RegistryPage {
        frame: Frame::new(app, name),
        endpoint: endpoint.unwrap_or_default(),
        name: name.to_owned(),
        run: record.run.id.to_string(),
        when: DisplayTime::new(record.run.started_at, (app.context.clock)()),
        range: match repositories.len() {
            0 => "none".to_owned(),
            _ => format!(
                "{} to {} of {}",
                format_count(first as u64 + 1),
                format_count(last as u64),
                format_count(all.len() as u64)
            ),
        },
        previous: (number > 1).then(|| page_link(query, None, number - 1)),
        next: (last < all.len() && !repositories.is_empty()).then(|| page_link(query, None, number + 1)),
        repositories,
        search,
    })
}

/// What a repository could free, and what of it stays because something kept uses it; nothing where nothing goes.
fn sizes(document: &PlanDocument, registry: &str, found: &RepositoryCounts) -> [String; 2] {
    if found.counts[0] == 0 {
        return [String::new(), String::new()];
    }
    let about = if document.bytes_label(registry) == "estimated" { "about " } else { "" };
    let unknown = unknown_size_note(found.unknown_removals);
    [
        format!("{about}{}{unknown}", format_bytes(found.reclaimable_bytes)),
        format!("{about}{}", format_bytes(found.shared_bytes)),
    ]
}

#[derive(Template)]
#[template(path = "site/repository.html")]
struct RepositoryPage {
    frame: Frame,
    name: String,
    registry: String,
    registry_link: String,
    run: String,
    when: DisplayTime,
    reclaimable: String,
    shared: String,
    list: TagList,
    history: Vec<EntryRow>,
    more_history: Option<String>,
}

pub(super) async fn repository(
    State(app): State<AppState>,
    Path((registry, repository)): Path<(String, String)>,
    QueryParams(query): QueryParams<TagQuery>,
) -> Response {
    render_page(&app, &repository, repository_page(&app, registry, repository.clone(), &query).await)
}

/// Returns true if a tag of a repository is held, whether or not the registry has it.
async fn is_held(app: &AppState, (registry, repository): &(String, String), now: Timestamp) -> Result<bool, Problem> {
    let holds = app.context.store.holds(now).await?;
    Ok(holds.iter().any(|hold| hold.registry.as_str() == registry && hold.repository.as_str() == repository))
}

async fn repository_page(
    app: &AppState,
    registry: String,
    repository: String,
    query: &TagQuery,
) -> Result<RepositoryPage, Problem> {
    let now = (app.context.clock)();
    let of = api::repository_journal(&registry, &repository)?;
    let (record, plan) = api::current_plan(app).await?;
    let name = (registry, repository);
    let found = plan.repositories.get(&name).cloned();
    let entries = app.context.store.journal_page(&of, query.before, ROWS_PER_PAGE).await?;
    if found.is_none() && entries.is_empty() && !is_held(app, &name, now).await? {
        return Err(Problem::not_found(format!("the last run saw no repository {}/{} with tags", name.0, name.1)));
    }
    let [reclaimable, shared] = sizes(&plan.document, &name.0, &found.unwrap_or_default());
    let list = tag_list(&plan, query, Some(name.clone())).await?;
    Ok(RepositoryPage {
        frame: Frame::new(app, &name.1),
        registry_link: format!("/registries/{}", escape_path(&name.0)),
        registry: name.0,
        name: name.1,
        run: record.run.id.to_string(),
        when: DisplayTime::new(record.run.started_at, now),
        reclaimable,
        shared,
        list,
        more_history: entries
            .last()
            .filter(|_| entries.len() == ROWS_PER_PAGE as usize)
            .map(|entry| entry.id.to_string()),
        history: entries.iter().map(|entry| EntryRow::new(EntryView::new(entry, None), now)).collect(),
    })
}

#[derive(Template)]
#[template(path = "site/problem.html")]
struct ErrorPage {
    frame: Frame,
    status: &'static str,
    message: String,
}

pub(super) async fn not_found(State(app): State<AppState>) -> Response {
    render_page::<ErrorPage>(&app, "Not there", Err(Problem::not_found("there is no such page")))
}

/// A page, or why there is none, as a page.
fn render_page<T: Template>(app: &AppState, title: &str, made: Result<T, Problem>) -> Response {
    let (status, page) = match made {
        Ok(page) => (StatusCode::OK, page.render()),
        Err(Problem { status, message, .. }) => {
            let words = status.canonical_reason().unwrap_or("It did not work");
            (status, ErrorPage { frame: Frame::new(app, title), status: words, message }.render())
        }
    };
    match page {
        Ok(page) => (status, Html(page)).into_response(),
        // Writing into a string does not fail.
        Err(error) => {
            let message = format!("the page could not be written: {}", chain(&error));
            Problem { status: StatusCode::INTERNAL_SERVER_ERROR, kind: "page", message }.into_response()
        }
    }
}
