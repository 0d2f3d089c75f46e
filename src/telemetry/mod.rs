//! Traces and metrics for an OTLP collector.
//!
//! Nothing waits for the collector, and nothing fails because of it: data that it does not take is dropped, with a
//! warning in the log.

mod collector;
mod metrics;
mod openmetrics;
mod traces;

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SdkTracer, SdkTracerProvider};

use crate::apply::Clock;
use crate::config::TelemetrySettings;
use crate::domain::chain;
use crate::http_client::RequestError;
use collector::Collector;
use traces::SpanSender;

/// The name of the instrumentation, as collectors show it.
const SCOPE: &str = "tagwarden";

/// The longest wait at the end of a process for the last spans.
const FINISH_TIMEOUT: Duration = Duration::from_secs(5);

/// The connection to a collector. Dropping it sends nothing: end with [`Telemetry::finish`].
#[derive(Debug)]
pub struct Telemetry {
    collector: Arc<Collector>,
    resource: Resource,
    provider: Option<SdkTracerProvider>,
    /// `None` if no metrics are sent.
    metrics_interval: Option<Duration>,
}

impl Telemetry {
    /// Prepares the connection, without sending a request. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// Returns an error if no HTTP client can be made with these settings, as with an unreadable `ca_file`.
    pub fn start(settings: &TelemetrySettings) -> Result<Self, RequestError> {
        let collector = Arc::new(Collector::new(settings)?);
        let attributes = settings.attributes.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
        let resource = Resource::builder_empty().with_attributes(attributes).build();
        let provider = settings.traces.then(|| {
            let sender = SpanSender::new(Arc::clone(&collector), &resource);
            let processor = BatchSpanProcessor::builder(sender).build();
            SdkTracerProvider::builder().with_span_processor(processor).with_resource(resource.clone()).build()
        });
        let metrics_interval = settings.metrics.then_some(settings.interval);
        Ok(Self { collector, resource, provider, metrics_interval })
    }

    /// Returns the tracer that spans are reported to; `None` if no traces are sent.
    #[must_use]
    pub fn tracer(&self) -> Option<SdkTracer> {
        let scope = InstrumentationScope::builder(SCOPE).with_version(env!("CARGO_PKG_VERSION")).build();
        self.provider.as_ref().map(|provider| provider.tracer_with_scope(scope))
    }

    /// Sends metrics again and again, until the future is dropped. `render` returns them in the OpenMetrics text format.
    /// Returns at once if no metrics are sent.
    pub async fn export_metrics(&self, clock: Clock, render: impl Fn() -> String) {
        let Some(interval) = self.metrics_interval else { return };
        let exporter = metrics::MetricExporter::new(&self.resource, clock());
        loop {
            tokio::time::sleep(interval).await;
            let request = exporter.request(&render(), clock());
            if let Err(error) = self.collector.send("metrics", &request).await {
                tracing::warn!("metrics were not sent: {}", chain(&error));
            }
        }
    }

    /// Sends the last spans, for at most five seconds.
    pub async fn finish(&self) {
        let Some(provider) = self.provider.clone() else { return };
        let ended = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FINISH_TIMEOUT)).await;
        if let Ok(Err(error)) = ended {
            tracing::warn!("the last traces were not sent: {}", chain(&error));
        }
    }
}
