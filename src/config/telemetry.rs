//! `[telemetry]`: the collector that gets traces and metrics by OTLP. Without the table nothing is sent.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::ExposeSecret as _;
use url::Url;

use super::net::ca_file;
use super::reader::SettingsReader;
use super::secrets::secret_at;
use crate::policy::{Fields, Node, Value, fields};

/// Shorter intervals load a collector for nothing: most metrics change once in a run.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(5);

/// An OTLP collector, and the data that it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TelemetrySettings {
    /// The address without `/v1/traces` and `/v1/metrics`, which are appended. OTLP over HTTP, in Protobuf.
    pub endpoint: Url,
    /// True if spans of runs, registries and sources are sent.
    pub traces: bool,
    /// True if the daemon sends its metrics.
    pub metrics: bool,
    /// The interval between two exports of metrics.
    pub interval: Duration,
    /// The timeout of one request.
    pub timeout: Duration,
    /// Headers of each request. They may be secrets, and are marked as such.
    pub headers: HeaderMap,
    /// A PEM file with further certificate authorities to trust.
    pub ca_file: Option<PathBuf>,
    /// Attributes of the resource, `service.name` included.
    pub attributes: BTreeMap<String, String>,
}

/// Parses `[telemetry]`. Returns `None` if anything in it is invalid.
pub(super) fn telemetry(node: &Node, reader: &mut SettingsReader) -> Option<TelemetrySettings> {
    let mut fields = Fields::of(node, "telemetry table", &mut reader.problems)?;
    let endpoint = reader.required(&mut fields, "endpoint", &node.at).and_then(|node| endpoint(node, reader));
    let traces = fields.get("traces").map_or(Some(true), |node| fields::boolean("traces", node, &mut reader.problems));
    let metrics =
        fields.get("metrics").map_or(Some(true), |node| fields::boolean("metrics", node, &mut reader.problems));
    let interval = fields.get("interval").map_or(Some(Duration::from_mins(1)), |node| interval(node, reader));
    let timeout = fields
        .get("timeout")
        .map_or(Some(Duration::from_secs(10)), |node| fields::duration("timeout", node, &mut reader.problems));
    let has_headers = ["headers", "headers_file"].into_iter().any(|key| fields.get(key).is_some());
    let headers = if has_headers { headers(&mut fields, reader) } else { Some(HeaderMap::new()) };
    let ca_file = fields.get("ca_file").map(|node| ca_file(node, reader));
    let attributes = fields.get("attributes").map_or(Some(BTreeMap::new()), |node| attributes(node, reader));
    fields.finish(hint, &mut reader.problems);
    let mut attributes = attributes?;
    attributes.entry("service.name".to_owned()).or_insert_with(|| "tagwarden".to_owned());
    attributes.entry("service.version".to_owned()).or_insert_with(|| env!("CARGO_PKG_VERSION").to_owned());
    Some(TelemetrySettings {
        endpoint: endpoint?,
        traces: traces?,
        metrics: metrics?,
        interval: interval?,
        timeout: timeout?,
        headers: headers?,
        ca_file: ca_file.map_or(Some(None), |file| file.map(Some))?,
        attributes,
    })
}

fn hint(key: &str) -> Option<&'static str> {
    match key {
        "url" | "address" | "host" => Some("the collector is `endpoint = \"http://collector:4318\"`"),
        "token" | "token_file" | "authorization" => {
            Some("name a file of headers, headers_file = \"…\", with a line such as `Authorization: Bearer …`")
        }
        "protocol" => Some("the protocol is OTLP over HTTP in Protobuf, usually on port 4318"),
        "service_name" => Some("write attributes = { \"service.name\" = \"…\" }"),
        _ => None,
    }
}

fn endpoint(node: &Node, reader: &mut SettingsReader) -> Option<Url> {
    let written = fields::text("endpoint", node, &mut reader.problems)?;
    let url = Url::parse(written).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let problem = match url {
        Some(url) if !url.username().is_empty() || url.password().is_some() => {
            "`endpoint` holds a user or a password; give it as a header by `headers_file`".to_owned()
        }
        Some(url) if url.query().is_some() || url.fragment().is_some() => {
            "`endpoint` must be an address without a query, since `/v1/traces` is appended".to_owned()
        }
        Some(url) if url.path().ends_with("/v1/traces") || url.path().ends_with("/v1/metrics") => {
            "`endpoint` must be the address before `/v1/…`, which is appended".to_owned()
        }
        Some(url) => return Some(url),
        None => "`endpoint` must be an http or https address".to_owned(),
    };
    reader.problems.add(&node.at, problem).help("write endpoint = \"http://collector:4318\"");
    None
}

fn interval(node: &Node, reader: &mut SettingsReader) -> Option<Duration> {
    let interval = fields::duration("interval", node, &mut reader.problems)?;
    if interval < SHORTEST_INTERVAL {
        let shortest = humantime::format_duration(SHORTEST_INTERVAL);
        reader.problems.add(&node.at, format!("`interval` must be at least {shortest}"));
        return None;
    }
    Some(interval)
}

/// Reads headers, one on each line, as `Name: value`. No message shows a value.
fn headers(fields: &mut Fields<'_>, reader: &mut SettingsReader) -> Option<HeaderMap> {
    let at = fields.at();
    let text = secret_at("TELEMETRY", fields, "headers", "headers_file", reader)?;
    let mut headers = HeaderMap::new();
    if reader.skips_secrets() {
        return Some(headers);
    }
    for (number, line) in text.expose_secret().lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let parsed = line.split_once(':').and_then(|(name, value)| {
            let name: HeaderName = name.trim().parse().ok()?;
            Some((name, HeaderValue::from_str(value.trim()).ok()?))
        });
        let Some((name, mut value)) = parsed else {
            let message = format!("line {} of the headers is not `Name: value`", number + 1);
            reader.problems.add(at, message).help("write one header on each line, such as `Authorization: Bearer …`");
            return None;
        };
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Some(headers)
}

fn attributes(node: &Node, reader: &mut SettingsReader) -> Option<BTreeMap<String, String>> {
    let Value::Map(entries) = &node.value else {
        let help = "write attributes = { \"deployment.environment.name\" = \"production\" }";
        reader.problems.add(&node.at, "`attributes` must be a table of texts").help(help);
        return None;
    };
    let read = entries.iter().map(|entry| {
        let value = fields::text("attributes", &entry.node, &mut reader.problems)?;
        Some((entry.key.clone(), value.to_owned()))
    });
    // Each invalid entry is reported, not only the first.
    read.collect::<Vec<_>>().into_iter().collect()
}
