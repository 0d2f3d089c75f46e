//! Traces and metrics for a collector: what it gets, and that nothing depends on it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Stdio;
use std::time::Duration;

use jiff::Timestamp;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message as _;
use tagwarden::demo::blob::Blob;
use tagwarden::demo::image::ImageSpec;
use tagwarden::demo::registry::{EmbeddedRegistry, Options};
use tempfile::TempDir;
use tokio::process::Command;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

const POLICIES: &str =
    "policies:\n  - { name: old, select: { tags: ['candidate-*'] }, keep: [{ newest: 1 }], mode: enforce }\n";

/// A registry with two candidates, of which one expires, and a folder with settings that name a collector.
async fn world(collector: &str, telemetry: &str) -> (EmbeddedRegistry, TempDir) {
    let registry = EmbeddedRegistry::start(Options::default()).await.unwrap();
    for day in 1..=2 {
        let created: Timestamp = format!("2024-01-0{day}T12:00:00Z").parse().unwrap();
        let tag = format!("candidate-{day}");
        registry.put_image("shop/api", &tag, &ImageSpec::new(created, &[Blob::layer(&tag, 100)]).build());
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("policies.yaml"), POLICIES).unwrap();
    fs::write(folder.path().join("headers"), "Authorization: Bearer hunter2\nX-Team: platform\n").unwrap();
    let address = registry.url();
    let image = format!("{}/shop/api:candidate-2\n", address.trim_start_matches("http://").trim_end_matches('/'));
    fs::write(folder.path().join("images.txt"), image).unwrap();
    let settings = format!(
        "mode = \"enforce\"\npolicies = \"policies.yaml\"\nlisten = \"127.0.0.1:0\"\n\
         [registries.main]\nkind = \"distribution\"\nendpoint = \"{}\"\n\
         [sources.used]\nkind = \"image-references\"\npaths = [\"images.txt\"]\n\
         [telemetry]\nendpoint = \"{collector}\"\n{telemetry}\n",
        registry.url()
    );
    fs::write(folder.path().join("tagwarden.toml"), settings).unwrap();
    (registry, folder)
}

async fn tagwarden(folder: &TempDir, words: &str) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tagwarden"));
    command.args(words.split_whitespace()).current_dir(folder.path()).env_clear();
    let output = command.output().await.unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

async fn collector() -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(200)).mount(&server).await;
    server
}

async fn spans(server: &MockServer) -> Vec<Span> {
    let requests = server.received_requests().await.unwrap();
    let batches = requests.iter().filter(|request| request.url.path() == "/otlp/v1/traces").inspect(|request| {
        assert_eq!(request.headers["authorization"], "Bearer hunter2");
        assert_eq!(request.headers["x-team"], "platform");
        assert_eq!(request.headers["content-type"], "application/x-protobuf");
    });
    let batches = batches.map(|request| ExportTraceServiceRequest::decode(&*request.body).unwrap());
    let resources = batches.flat_map(|batch| batch.resource_spans).inspect(|one| {
        let resource = texts(&one.resource.as_ref().unwrap().attributes);
        assert_eq!(resource["service.name"], "tagwarden");
        assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(resource["team"], "platform");
    });
    resources.flat_map(|one| one.scope_spans).flat_map(|one| one.spans).collect()
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<&str, String> {
    let text = |one: &KeyValue| match one.value.as_ref().and_then(|value| value.value.clone()) {
        Some(any_value::Value::StringValue(text)) => text,
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    attributes.iter().map(|one| (&*one.key, text(one))).collect()
}

/// The span of that name, of which there is one.
fn only<'s>(spans: &'s [Span], name: &str) -> &'s Span {
    let mut found = spans.iter().filter(|span| span.name == name);
    let (first, second) = (found.next(), found.next());
    assert!(first.is_some() && second.is_none(), "one span `{name}` of {spans:#?}");
    first.unwrap()
}

const HEADERS: &str = "headers_file = \"headers\"\nattributes = { team = \"platform\" }\n";

#[tokio::test]
async fn a_run_is_one_trace_with_its_registries_and_sources() {
    let server = collector().await;
    let (registry, folder) = world(&format!("{}/otlp/", server.uri()), HEADERS).await;
    let (code, err) = tagwarden(&folder, "plan").await;
    assert_eq!(code, 0, "{err}");
    let planned = spans(&server).await;
    let root = only(&planned, "plan");
    assert!(root.parent_span_id.is_empty());
    let said = texts(&root.attributes);
    assert_eq!(said["outcome"], "done");
    assert!(said["run"].parse::<uuid::Uuid>().is_ok(), "{said:?}");
    for (name, key, value) in
        [("catalogue", "registry", "main"), ("registry", "registry", "main"), ("source", "source", "used")]
    {
        let span = only(&planned, name);
        assert_eq!((&span.trace_id, &span.parent_span_id), (&root.trace_id, &root.span_id), "{name}");
        assert_eq!(texts(&span.attributes)[key], value);
        assert!(span.start_time_unix_nano >= root.start_time_unix_nano, "{name}");
        assert!(span.end_time_unix_nano <= root.end_time_unix_nano, "{name}");
    }
    assert_eq!(texts(&only(&planned, "registry").attributes)["repositories"], "1");
    let sent = format!("{planned:?}");
    assert!(!sent.contains("hunter2") && !sent.contains("gathered"), "{sent}");

    let (code, err) = tagwarden(&folder, "run").await;
    assert_eq!((code, registry.tags("shop/api").len()), (0, 1), "{err}");
    let all = spans(&server).await;
    let run = only(&all, "run");
    assert_ne!(run.trace_id, root.trace_id, "each run is a trace");
    let removals = only(&all, "removals");
    assert_eq!((&removals.trace_id, &removals.parent_span_id), (&run.trace_id, &run.span_id));
    assert_eq!(texts(&removals.attributes)["tags"], "1");
    assert!(!err.contains("removals{"), "spans are not in the log: {err}");
}

#[tokio::test]
async fn a_failed_source_and_a_failed_run_are_marked() {
    let server = collector().await;
    let (_registry, folder) = world(&format!("{}/otlp", server.uri()), HEADERS).await;
    fs::remove_file(folder.path().join("images.txt")).unwrap();
    let (code, _) = tagwarden(&folder, "plan --out plan.json").await;
    assert_eq!(code, 5);
    assert!(texts(&only(&spans(&server).await, "source").attributes).contains_key("error"));

    let plan = fs::read_to_string(folder.path().join("plan.json")).unwrap();
    let mut plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    plan["summary"]["undecided"] = 0.into();
    fs::write(folder.path().join("plan.json"), plan.to_string()).unwrap();
    let (code, _) = tagwarden(&folder, "apply plan.json").await;
    assert_eq!(code, 3);
    let all = spans(&server).await;
    let apply = only(&all, "apply");
    assert_eq!(apply.status.as_ref().unwrap().code, StatusCode::Error as i32);
    let said = texts(&apply.attributes);
    assert_eq!(said["outcome"], "refused");
    assert!(!said["error"].is_empty(), "{said:?}");
}

#[tokio::test]
async fn nothing_depends_on_the_collector() {
    let refusing = MockServer::start().await;
    Mock::given(path("/v1/traces")).respond_with(ResponseTemplate::new(401)).mount(&refusing).await;
    // Nothing listens on the port of a server that is gone.
    let gone = MockServer::start().await.uri();
    for (collector, words) in [(refusing.uri(), "answered 401"), (gone, "traces were not sent")] {
        let (registry, folder) = world(&collector, "").await;
        let (code, err) = tagwarden(&folder, "run").await;
        assert_eq!((code, registry.tags("shop/api").len()), (0, 1), "{err}");
        assert!(err.contains(words), "{err}");
    }
    let silent = collector().await;
    let (_registry, folder) = world(&silent.uri(), "traces = false").await;
    assert_eq!(tagwarden(&folder, "plan").await.0, 0);
    assert_eq!(silent.received_requests().await.unwrap().len(), 0);
}

#[tokio::test]
async fn the_daemon_sends_its_metrics() {
    let server = collector().await;
    let (_registry, folder) = world(&server.uri(), &format!("interval = \"5s\"\n{HEADERS}")).await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_tagwarden"));
    command.arg("serve").current_dir(folder.path()).env_clear().kill_on_drop(true);
    let _daemon = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_mins(1);
    let request = loop {
        let requests = server.received_requests().await.unwrap();
        if let Some(found) = requests.into_iter().find(|request| request.url.path() == "/v1/metrics") {
            break ExportMetricsServiceRequest::decode(&*found.body).unwrap();
        }
        assert!(tokio::time::Instant::now() < deadline, "no metrics were sent");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let all = &request.resource_metrics[0];
    assert_eq!(texts(&all.resource.as_ref().unwrap().attributes)["team"], "platform");
    let names: BTreeSet<&str> = all.scope_metrics[0].metrics.iter().map(|metric| &*metric.name).collect();
    for name in ["tagwarden_build", "tagwarden_ready", "tagwarden_policies", "process_open_fds"] {
        assert!(names.contains(name), "{name} of {names:?}");
    }
}
