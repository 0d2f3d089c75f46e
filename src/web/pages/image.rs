//! The page of one tag: its verdict and why, who holds it, and what was done to it.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;

use super::{Frame, HoldRow, ROWS_PER_PAGE, hold_row, render_page};
use crate::domain::{RegistryName, RepositoryName, TagName};
use crate::report::EntryView;
use crate::web::AppState;
use crate::web::api;
use crate::web::dto::TagDto;
use crate::web::plan_index::TagFilter;
use crate::web::problem::Problem;
use crate::web::rows::{EntryRow, TagRow, escape_path, repository_link};
use crate::web::time::DisplayTime;

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
    /// The journal of the tag, the latest entry first.
    history: Vec<EntryRow>,
    /// True if the latest entry is a removal that was done, so that a restore would bring the tag back.
    is_removed: bool,
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
    let entries = store.journal_of_tag(&name.0, &name.1, &name.2).await?;
    let holds = store.holds(now.timestamp()).await?;
    let holds: Vec<HoldRow> = holds
        .iter()
        .filter(|hold| (&hold.registry, &hold.repository, &hold.tag) == (&name.0, &name.1, &name.2))
        .map(|hold| hold_row(hold, false, now))
        .collect();
    if found.is_none() && entries.is_empty() && holds.is_empty() {
        return Err(unknown());
    }
    let views: Vec<EntryView> =
        entries.iter().rev().take(ROWS_PER_PAGE as usize).map(|entry| EntryView::new(entry, None)).collect();
    let is_removed = found.is_none()
        && views.first().is_some_and(|last| {
            ["untag", "delete-manifest"].contains(&last.action.as_str()) && last.outcome.as_deref() == Some("done")
        });
    Ok(ImagePage {
        frame: Frame::new(app, image),
        registry_link: format!("/registries/{}", escape_path(registry)),
        registry: registry.to_owned(),
        repository_link: repository_link(registry, repository),
        repository: repository.to_owned(),
        tag: tag.to_owned(),
        run: record.run.id.to_string(),
        when: DisplayTime::new(record.run.started_at, now),
        row: found.map(|tag| TagRow::new(TagDto::new(tag, &plan.document), now)),
        holds,
        is_removed,
        history: views.into_iter().map(|view| EntryRow::new(view, now)).collect(),
    })
}
