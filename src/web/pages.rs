//! The pages, rendered on the server: they need no script.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse, Response};
use http::StatusCode;
use jiff::Zoned;

use super::AppState;
use super::api::{self, QueryParams, TagQuery};
use super::assets::ASSETS_PATH;
use super::dto::TagDto;
use super::plan_index::{OpenPlan, RepositoryCounts, VERDICTS, VerdictCounts};
use super::problem::Problem;
use super::rows::{EntryRow, TagList, escape_path, image_link, page_link, repository_link};
use super::time::DisplayTime;
use crate::domain::{Hold, chain};
use crate::report::{
    EntryView, PlanDocument, SourceView, SummaryView, counted, format_bytes, format_count, sanitize, short_digest,
    truncate,
};

mod home;
mod image;
mod runs;

pub(super) use home::home;
pub(super) use image::image;
pub(super) use runs::{run, runs};

/// Rows of a table on one page.
const ROWS_PER_PAGE: u32 = 100;

/// The frame of all pages.
pub(super) struct Frame {
    title: String,
    assets: &'static str,
    version: &'static str,
    mode: &'static str,
    now: DisplayTime,
    /// The problem of an invalid policy edit, with its time.
    policy_problem: Option<(DisplayTime, String)>,
    blocked_by: Option<String>,
    /// The classes of that reason: the mode of the settings is normal, and does not warn.
    blocked_class: &'static str,
}

impl Frame {
    fn new(app: &AppState, title: &str) -> Self {
        let (status, now) = (app.context.status.snapshot(), &app.now());
        Self {
            title: title.to_owned(),
            assets: &ASSETS_PATH,
            version: env!("CARGO_PKG_VERSION"),
            mode: app.context.settings().mode.label(),
            now: DisplayTime::new(now.timestamp(), now),
            policy_problem: status.policies.problem.map(|problem| (DisplayTime::new(problem.since, now), problem.text)),
            blocked_class: match &status.blocked_by {
                Some(why) if why.starts_with("mode `") => "loud",
                _ => "loud warn",
            },
            blocked_by: status.blocked_by,
        }
    }
}

/// One number, large.
struct Card {
    number: String,
    label: String,
    link: Option<String>,
}

/// A hold in a table.
struct HoldRow {
    name: String,
    /// The page of the tag; `None` while no run has made any.
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

fn hold_row(hold: &Hold, has_page: bool, now: &Zoned) -> HoldRow {
    HoldRow {
        name: sanitize(&hold.name()),
        link: has_page.then(|| image_link(hold.registry.as_str(), hold.repository.as_str(), hold.tag.as_str())),
        digest: hold.digest.as_ref().map_or_else(|| "none".to_owned(), |digest| short_digest(&digest.to_string())),
        until: DisplayTime::new(hold.until, now),
        by: sanitize(&hold.by),
        since: DisplayTime::new(hold.since, now),
        reason: truncate(&sanitize(&hold.reason), 400),
    }
}

fn source_row(source: &SourceView, now: &Zoned) -> SourceRow {
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

/// Describes the number of removals whose bytes are unknown.
fn unknown_size_note(removals: u64) -> String {
    if removals == 0 { String::new() } else { format!(" and {} of unknown size", format_count(removals)) }
}

/// The numbers of a plan: the tags by verdict, linked to their list at `run`, and the bytes of those that expired.
fn cards(summary: &SummaryView, run: &str) -> Vec<Card> {
    let label = if summary.tags == 1 { "tag" } else { "tags" };
    let tags = Card { number: format_count(summary.tags), label: label.to_owned(), link: Some(format!("{run}#tags")) };
    std::iter::once(tags).chain(kept_cards(summary, run)).chain(expired_cards(summary, run)).collect()
}

fn verdict_card(verdict: &str, label: &str, number: u64, run: &str) -> Card {
    let link = Some(format!("{run}?verdict={verdict}#tags"));
    Card { number: format_count(number), label: label.to_owned(), link }
}

fn kept_cards(summary: &SummaryView, run: &str) -> [Card; 4] {
    let kept = [summary.protected, summary.retained, summary.undecided, summary.out_of_scope];
    let labels = ["protected", "retained", "undecided", "out-of-scope"];
    std::array::from_fn(|place| verdict_card(labels[place], labels[place], kept[place], run))
}

fn expired_cards(summary: &SummaryView, run: &str) -> [Card; 3] {
    let label = match summary.unknown_bytes_removals {
        0 => "reclaimable".to_owned(),
        removals => format!("reclaimable, without {} of unknown size", counted(removals, "removal")),
    };
    [
        verdict_card(VERDICTS[0], "expired", summary.expired, run),
        Card { number: reclaimable(summary), label, link: None },
        Card { number: format_bytes(summary.shared_bytes), label: "shared with kept images".to_owned(), link: None },
    ]
}

async fn tag_list(
    app: &AppState,
    plan: &OpenPlan,
    query: &TagQuery,
    repository: Option<(String, String)>,
) -> Result<TagList, Problem> {
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
    Ok(TagList { show_place, kept_pruned, ..TagList::new(tags, found.total, (query, limit), &counts, &app.now()) })
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
        when: DisplayTime::new(record.run.started_at, &app.now()),
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

/// Returns the bytes that a repository could free, and the shared bytes that remain; empty without removals.
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
async fn is_held(app: &AppState, (registry, repository): &(String, String), now: &Zoned) -> Result<bool, Problem> {
    let holds = app.context.store.holds(now.timestamp()).await?;
    Ok(holds.iter().any(|hold| hold.registry.as_str() == registry && hold.repository.as_str() == repository))
}

async fn repository_page(
    app: &AppState,
    registry: String,
    repository: String,
    query: &TagQuery,
) -> Result<RepositoryPage, Problem> {
    let now = &app.now();
    let of = api::repository_journal(&registry, &repository)?;
    let (record, plan) = api::current_plan(app).await?;
    let name = (registry, repository);
    let found = plan.repositories.get(&name).cloned();
    let entries = app.context.store.journal_page(&of, query.before, ROWS_PER_PAGE).await?;
    if found.is_none() && entries.is_empty() && !is_held(app, &name, now).await? {
        return Err(Problem::not_found(format!("the last run saw no repository {}/{} with tags", name.0, name.1)));
    }
    let [reclaimable, shared] = sizes(&plan.document, &name.0, &found.unwrap_or_default());
    let list = tag_list(app, &plan, query, Some(name.clone())).await?;
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
    render_page::<ErrorPage>(&app, "Not found", Err(Problem::not_found("this page does not exist")))
}

/// Renders a page, or the problem as a page.
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
        // Writing to a string cannot fail.
        Err(error) => {
            let message = format!("the page could not be written: {}", chain(&error));
            Problem { status: StatusCode::INTERNAL_SERVER_ERROR, kind: "page", message }.into_response()
        }
    }
}
