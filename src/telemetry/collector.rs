//! Requests to the collector: OTLP over HTTP, in Protobuf (<https://opentelemetry.io/docs/specs/otlp/#otlphttp>).

use std::time::Duration;

use http::{HeaderMap, Method};
use prost::Message;
use url::Url;

use crate::config::TelemetrySettings;
use crate::http_client::{
    ClientConfig, HttpClient, MAX_ERROR_BYTES, Request, RequestError, RequestErrorKind, RetryMode, RetryPolicy,
};

/// Retries for as long as a batch is worth: more data is waiting.
const RETRY_POLICY: RetryPolicy = RetryPolicy {
    max_retries: 2,
    initial_delay: Duration::from_millis(500),
    max_delay: Duration::from_secs(5),
    max_total_delay: Duration::from_secs(10),
};

/// A collector.
#[derive(Debug)]
pub(super) struct Collector {
    client: HttpClient,
    endpoint: Url,
    headers: HeaderMap,
}

impl Collector {
    pub(super) fn new(settings: &TelemetrySettings) -> Result<Self, RequestError> {
        let config =
            ClientConfig { name: "telemetry".to_owned(), ca_file: settings.ca_file.clone(), timeout: settings.timeout };
        let client = HttpClient::new(&config, RETRY_POLICY)?.allow_writes();
        Ok(Self { client, endpoint: settings.endpoint.clone(), headers: settings.headers.clone() })
    }

    /// Sends one batch of `traces` or `metrics`.
    ///
    /// # Errors
    /// Returns an error if the collector did not take it, also after retries.
    pub(super) async fn send(&self, signal: &str, batch: &impl Message) -> Result<(), RequestError> {
        let mut url = self.endpoint.clone();
        url.set_path(&format!("{}/v1/{signal}", url.path().trim_end_matches('/')));
        let request = Request {
            method: Method::POST,
            content: Some(("application/x-protobuf".into(), batch.encode_to_vec().into())),
            // A duplicate is better than a gap; spans and points are identified by their ids and times.
            retry_mode: RetryMode::Always,
            ..Request::get(url, "application/x-protobuf", MAX_ERROR_BYTES)
        };
        let response = self.client.send_with_headers(&request, &self.headers).await?;
        if response.status.is_success() {
            return Ok(());
        }
        let message = format!("{} answered {}", response.request, response.status);
        Err(RequestError::new(RequestErrorKind::InvalidSettings, message)
            .with_help("check `endpoint` and `headers_file` below `[telemetry]`, and the collector's log"))
    }
}
