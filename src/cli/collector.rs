//! The collector of this process's traces and metrics.

use std::sync::{Arc, OnceLock};

use super::logging::report_spans;
use crate::config::TelemetrySettings;
use crate::domain::chain;
use crate::telemetry::Telemetry;

/// The connection by the first settings that were loaded. Spans belong to the process, and so does this.
static TELEMETRY: OnceLock<Option<Arc<Telemetry>>> = OnceLock::new();

/// Begins to report, if the settings name a collector. Later calls change nothing.
pub(super) fn start(settings: Option<&TelemetrySettings>) -> Option<Arc<Telemetry>> {
    let start = || {
        let telemetry = Telemetry::start(settings?);
        let telemetry =
            telemetry.inspect_err(|error| tracing::error!("no traces and metrics are sent: {}", chain(error))).ok()?;
        if let Some(tracer) = telemetry.tracer() {
            report_spans(tracer);
        }
        Some(Arc::new(telemetry))
    };
    TELEMETRY.get_or_init(start).clone()
}

/// Sends what was not sent yet, before the process ends.
pub(super) async fn finish() {
    if let Some(Some(telemetry)) = TELEMETRY.get() {
        telemetry.finish().await;
    }
}
