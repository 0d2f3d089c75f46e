//! The status page, health, metrics and the API, over HTTP. Nothing here changes anything.

mod board;

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::apply::Clock;
use crate::config::Settings;
use crate::store::Store;

pub use board::{Board, Doing, NextRun, PolicyProblem, PolicyState, Status};

/// What the pages are made from.
#[derive(Clone)]
pub struct Site {
    /// What the daemon shows of itself.
    pub board: Arc<Board>,
    /// The record.
    pub store: Store,
    /// The settings that the daemon started with.
    pub settings: Arc<Settings>,
    /// The time.
    pub clock: Clock,
}

/// Answers requests until `stop` becomes true, and those that were begun even then.
///
/// # Errors
/// When nothing can be accepted any more.
pub async fn serve(listener: TcpListener, site: Site, mut stop: watch::Receiver<bool>) -> std::io::Result<()> {
    let stopped = async move {
        // A sender that is gone stops nothing less.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    axum::serve(listener, routes(site)).with_graceful_shutdown(stopped).await
}

fn routes(site: Site) -> Router {
    Router::new().route("/healthz", get(|| async { "ok\n" })).with_state(site)
}
