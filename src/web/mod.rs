//! The status page, health, metrics and the API, over HTTP. Read-only.
//!
//! Pages are made from the record, the daemon's status and the plan of a run, of which `plan_index` reads the needed
//! parts. They need no script and no external resource; `guard` tells the browser so, and controls access.

mod api;
mod assets;
mod attention;
mod chart;
mod connections;
mod daemon_status;
mod dto;
mod guard;
mod metrics;
mod pages;
mod plan_index;
mod plan_json;
mod problem;
mod prose;
mod rows;
mod status;
mod time;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode, Uri};
use jiff::Zoned;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tower_http::compression::CompressionLayer;

use crate::apply::Clock;
use crate::config::Settings;
use crate::state::{StateError, StateErrorKind, StateFigures, StateStore};
use connections::{BoundedListener, Bounds};

pub use daemon_status::DaemonStatus;
pub use status::{Activity, NextRun, PolicyProblem, PolicyState, Role, StatusSnapshot};

/// The interval at which the figures of the state are read.
const FIGURES_INTERVAL: Duration = Duration::from_secs(15);

/// The inputs of the pages.
#[derive(Clone)]
pub struct WebContext {
    /// The daemon's published status.
    pub status: Arc<DaemonStatus>,
    /// The record.
    pub store: StateStore,
    /// The settings in force, which a reload replaces. The address and the token are those of the start.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// The time.
    pub clock: Clock,
}

impl WebContext {
    /// Returns the settings in force.
    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.borrow())
    }
}

/// The shared state of the handlers.
#[derive(Clone)]
struct AppState {
    context: WebContext,
}

impl AppState {
    /// Returns the time, in the zone of the schedule.
    fn now(&self) -> Zoned {
        (self.context.clock)().to_zoned(self.context.settings().schedule.timezone.clone())
    }
}

/// Answers requests until `stop` becomes true, and those that were begun even then.
///
/// # Errors
/// Returns an error if no more connections can be accepted.
pub async fn serve(listener: TcpListener, context: WebContext, mut stop: watch::Receiver<bool>) -> std::io::Result<()> {
    match dto::load_recent_runs(&context.store).await {
        Ok(recent) => context.status.load_history(&recent),
        Err(problem) => tracing::warn!(error = problem.message, "what earlier runs left on record could not be read"),
    }
    let figures = tokio::spawn(refresh_figures(context.clone()));
    let router = routes(AppState { context });
    let stopped = async move {
        // A dropped sender means stop as well.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let listener = BoundedListener::new(listener, Bounds::default());
    let served = axum::serve(listener, router).with_graceful_shutdown(stopped).await;
    figures.abort();
    served
}

/// Reads the figures of the state again and again, for the metrics. A scrape must not wait for a database.
async fn refresh_figures(context: WebContext) {
    let mut figures = StateFigures::default();
    loop {
        match context.store.figures(&figures, (context.clock)()).await {
            Ok(found) => {
                context.status.record_figures(&found);
                figures = found;
            }
            Err(error) => tracing::debug!(kind = error.kind.label(), "no figures of the state: {}", error.chain()),
        }
        tokio::time::sleep(FIGURES_INTERVAL).await;
    }
}

fn routes(app: AppState) -> Router {
    let api = Router::new()
        .route("/openapi.json", get(api::openapi))
        .route("/status", get(api::status))
        .route("/runs", get(api::runs))
        .route("/runs/{id}", get(api::run))
        .route("/runs/{id}/plan", get(api::plan))
        .route("/runs/{id}/tags", get(api::tags))
        .route("/runs/{id}/removals", get(api::removals_of_run))
        .route("/removals", get(api::removals))
        .route("/holds", get(api::holds))
        .route("/sources", get(api::sources))
        .route("/registries", get(api::registries))
        .route("/registries/{registry}", get(api::registry))
        .route("/registries/{registry}/{*repository}", get(api::repository))
        .fallback(|| async { problem::Problem::not_found("there is no such address; /api/v1/openapi.json lists all") });
    Router::new()
        .route("/", get(pages::home))
        .route("/runs", get(pages::runs))
        .route("/runs/{id}", get(pages::run))
        .route("/registries/{registry}", get(pages::registry))
        .route("/registries/{registry}/{*repository}", get(pages::repository))
        .route("/images/{registry}/{*image}", get(pages::image))
        .route("/assets/{hash}/{name}", get(assets::asset))
        .route("/metrics", get(metrics_text))
        .route("/readyz", get(ready))
        .nest("/api/v1", api)
        .fallback(pages::not_found)
        .layer(CompressionLayer::new())
        .route("/healthz", get(|| async { "ok\n" }))
        .layer(axum::middleware::from_fn_with_state(app.clone(), guard::guard))
        .with_state(app)
}

async fn metrics_text(State(app): State<AppState>) -> Response {
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], app.context.status.metrics()).into_response()
}

/// The line of a daemon that removes nothing because of its rules.
const OUTDATED: &str = "removes nothing: its policies or settings are older than those in force: the log says which\n";

/// Responds with readiness. Anybody may ask, so only those who may see the pages are told names and paths.
async fn ready(State(app): State<AppState>, uri: Uri, headers: HeaderMap) -> Response {
    let status = app.context.status.snapshot();
    let is_authorized = guard::authorize(app.context.settings().listen_token.as_ref(), &uri, &headers).is_ok();
    let not_ready = |why: &str| (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response();
    let failed = |what: &str, error: &StateError| {
        let words = format!("{what} ({}): the log says more", error.kind.label());
        not_ready(&if is_authorized { error.chain() } else { words })
    };
    if status.activity == Activity::Stopping {
        return not_ready("stopping");
    }
    if let Some(error) = &status.write_error {
        return failed("the state cannot be written", error);
    }
    if !status.ready {
        let starting = status.policies.problem.is_none();
        return not_ready(if starting { "starting" } else { "no valid policies: the log says what is wrong" });
    }
    if let Err(error) = app.context.store.verify_file() {
        tracing::warn!(error = %error.chain(), "not ready");
        return failed(
            match error.kind {
                StateErrorKind::Replaced => "the state file was deleted or replaced",
                _ => "the state does not answer",
            },
            &error,
        );
    }
    match app.context.store.runs(1).await {
        Ok(_) => {
            let role = match status.role {
                Role::Single => "ready\n",
                Role::Leader => "ready\nleader\n",
                Role::StandBy { .. } => "ready\nstand-by\n",
            };
            (role.to_owned() + status.outdated.as_ref().map_or("", |_| OUTDATED)).into_response()
        }
        Err(error) => {
            tracing::warn!(error = %error.chain(), "not ready");
            failed("the state cannot be read", &error)
        }
    }
}
