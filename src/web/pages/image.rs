//! The page of one tag: its verdict and why, who holds it, and what was done to it.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;

use jiff::Zoned;

use super::{Frame, HoldRow, ROWS_PER_PAGE, hold_row, render_page};
use crate::domain::{RegistryName, RepositoryName, TagName};
use crate::report::{HistoryEvent, format_count, sanitize, truncate};
use crate::web::AppState;
use crate::web::api;
use crate::web::dto::TagDto;
use crate::web::plan_index::TagFilter;
use crate::web::problem::Problem;
use crate::web::rows::{TagRow, escape_path, repository_link};
use crate::web::time::DisplayTime;
use crate::workflow::{self, RecordLimits};

/// The limits of what a page reads: `explain --history` has no limit.
const LIMITS: RecordLimits = RecordLimits { plans: 200, entries: ROWS_PER_PAGE as usize };

#[derive(Template)]
#[template(path = "site/image.html")]
struct ImagePage {
    frame: Frame,
    registry: String,
    registry_link: String,
    repository: String,
    repository_link: String,
    tag: String,
    run: String,
    when: DisplayTime,
    /// Its row in the latest plan; `None` where the registry did not have the tag then.
    row: Option<TagRow>,
    holds: Vec<HoldRow>,
    /// Decisions, holds and actions, the latest first.
    events: Vec<EventRow>,
    /// The number of older events that the page leaves out.
    more_events: Option<String>,
    /// The plans whose decisions are among the events.
    coverage: String,
    /// True if the last completed action is a removal, so that a restore would bring the tag back.
    is_removed: bool,
}

/// An event in the history of the tag.
struct EventRow {
    at: DisplayTime,
    /// The run that decided or acted.
    run: Option<String>,
    subject: String,
    outcome: String,
    /// The class of style of the outcome.
    css_class: String,
    effect: Option<&'static str>,
    facts: Vec<(&'static str, String)>,
}

impl EventRow {
    fn new(event: HistoryEvent, now: &Zoned) -> Self {
        let css_class = match (&*event.subject, &*event.outcome) {
            ("decided", verdict) => verdict,
            ("hold", _) => "dim",
            (_, "done") => "good",
            (_, "failed") => "bad",
            _ => "warn",
        };
        Self {
            at: DisplayTime::new(event.at, now),
            run: event.run,
            css_class: css_class.to_owned(),
            outcome: event.outcome,
            subject: event.subject,
            effect: event.effect,
            facts: event.facts.into_iter().map(|(label, words)| (label, truncate(&sanitize(&words), 400))).collect(),
        }
    }
}

pub(in crate::web) async fn image(
    State(app): State<AppState>,
    Path((registry, image)): Path<(String, String)>,
) -> Response {
    render_page(&app, &image, image_page(&app, &registry, &image).await)
}

async fn image_page(app: &AppState, registry: &str, image: &str) -> Result<ImagePage, Problem> {
    let now = &app.now();
    let unknown = || Problem::not_found(format!("no run has seen the tag {registry}/{image}"));
    let (repository, tag) = image.rsplit_once(':').ok_or_else(unknown)?;
    let name: (RegistryName, RepositoryName, TagName) = (
        registry.parse().map_err(|_| unknown())?,
        repository.parse().map_err(|_| unknown())?,
        tag.parse().map_err(|_| unknown())?,
    );
    let store = &app.context.store;
    let (record, plan) = api::current_plan(app).await?;
    let wanted = TagFilter {
        repository: Some((registry.to_owned(), repository.to_owned())),
        tag: Some(tag.to_owned()),
        ..TagFilter::default()
    };
    let found = plan.tags(&wanted, 0, 1).await?.tags.pop();
    let history = workflow::tag_record(store, (&name.0, &name.1, &name.2), now.timestamp(), LIMITS).await?;
    let mut events = history.view.events();
    if found.is_none() && events.is_empty() {
        return Err(unknown());
    }
    events.reverse();
    let more = events.len().saturating_sub(ROWS_PER_PAGE as usize) as u64 + history.omitted_entries;
    let holds = store.holds(now.timestamp()).await?;
    let holds: Vec<HoldRow> = holds
        .iter()
        .filter(|hold| (&hold.registry, &hold.repository, &hold.tag) == (&name.0, &name.1, &name.2))
        .map(|hold| hold_row(hold, false, now))
        .collect();
    Ok(ImagePage {
        frame: Frame::new(app, image),
        registry_link: format!("/registries/{}", escape_path(registry)),
        registry: registry.to_owned(),
        repository_link: repository_link(registry, repository),
        repository: repository.to_owned(),
        tag: tag.to_owned(),
        run: record.run.id.to_string(),
        when: DisplayTime::new(record.run.started_at, now),
        is_removed: found.is_none() && history.is_removed,
        row: found.map(|tag| TagRow::new(TagDto::new(tag, &plan.document), now)),
        holds,
        more_events: Some(more).filter(|more| *more > 0).map(format_count),
        coverage: history.view.plans.describe(),
        events: events.into_iter().take(ROWS_PER_PAGE as usize).map(|event| EventRow::new(event, now)).collect(),
    })
}
