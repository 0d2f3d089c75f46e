//! Registries that misbehave, as a table: `oddities.txt`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use miniz_oxide::deflate::compress_to_vec;
use tagwarden::domain::{Gap, GapTarget, Inventory};
use tagwarden::registry::{
    CollectScope, DistributionReader, ExtraManifests, RegistryReader, RegistrySettings, RetryPolicy, collect,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::settings;
use crate::support::content::{Content, config, image};
use crate::support::memory::MemoryCache;

/// Little enough that one that throttles for ever is over soon.
const SHORT: RetryPolicy = RetryPolicy {
    max_retries: 2,
    initial_delay: Duration::from_millis(1),
    max_delay: Duration::from_millis(2),
    max_total_delay: Duration::from_millis(60),
};

/// A registry that answers byte by byte what it is told to.
struct Registry {
    answers: BTreeMap<String, Vec<u8>>,
    /// Every request line that it saw.
    seen: Mutex<Vec<String>>,
}

/// One line of the table with those that belong to it.
struct MalformedResponse<'a> {
    what: &'a str,
    answers: Vec<(&'a str, &'a str)>,
    expected: &'a str,
}

fn table() -> Vec<MalformedResponse<'static>> {
    let mut table: Vec<MalformedResponse<'_>> = Vec::new();
    let lines = include_str!("oddities.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    for line in lines {
        if let Some(more) = line.strip_prefix("+ ") {
            let (request, answer) = more.split_once(" | ").unwrap_or_else(|| panic!("{line}"));
            table.last_mut().unwrap().answers.push((request, answer));
            continue;
        }
        let mut columns = line.splitn(3, " | ");
        let (what, request, rest) = (columns.next().unwrap(), columns.next().unwrap(), columns.next().unwrap());
        let (answer, expected) = rest.rsplit_once(" |").unwrap_or_else(|| panic!("{line}"));
        table.push(MalformedResponse { what, answers: vec![(request, answer)], expected: expected.trim() });
    }
    table
}

/// Text with its escapes undone.
fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut letters = text.bytes();
    while let Some(byte) = letters.next() {
        match (byte, byte == b'\\') {
            (_, true) => match letters.next().unwrap() {
                b'r' => out.push(b'\r'),
                b'n' => out.push(b'\n'),
                b't' => out.push(b'\t'),
                b'x' => {
                    let digits = [letters.next().unwrap(), letters.next().unwrap()];
                    out.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
                }
                other => out.push(other),
            },
            (byte, false) => out.push(byte),
        }
    }
    out
}

/// The whole answer that a line describes.
fn answer(text: &str, image: &Content) -> Vec<u8> {
    if let Some(raw) = text.strip_prefix("raw:") {
        return bytes(raw.trim_end());
    }
    let (status, mut rest) = text.split_at(3);
    let mut whole = format!("HTTP/1.1 {status} Odd\r\nconnection: close\r\n").into_bytes();
    rest = rest.trim();
    while let Some((header, after)) =
        rest.strip_prefix('[').and_then(|inner| inner.split_once("] ").or(inner.split_once(']')))
    {
        whole.extend(bytes(header));
        whole.extend(b"\r\n");
        rest = after.trim();
    }
    let body = match (rest, rest.strip_prefix("gzip:")) {
        ("$IMAGE", _) => image.bytes.clone(),
        (_, Some(text)) => {
            let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
            packed.extend(compress_to_vec(&bytes(text), 6));
            packed.extend([0; 8]);
            packed
        }
        (text, None) => bytes(text),
    };
    if status != "204" && status != "304" {
        whole.extend(format!("content-length: {}\r\n", body.len()).into_bytes());
    }
    whole.extend(b"\r\n");
    whole.extend(body);
    whole
}

impl Registry {
    /// Serves until the test ends, and gives the endpoint.
    async fn serve(oddity: &MalformedResponse<'_>) -> (String, Arc<Self>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let configuration = config("2024-05-01T10:00:00Z", "x");
        let image = image(&configuration, &[]);
        let long = "x".repeat(16_000);
        let filled = |text: &str| {
            text.replace("$HOST", &host)
                .replace("$LONG", &long)
                .replace("$A", &image.digest.to_string())
                .replace("$C", &configuration.digest.to_string())
        };
        let mut answers = BTreeMap::new();
        let mut add = |request: &str, text: &str| answers.insert(filled(request), answer(&filled(text), &image));
        add("GET /v2/", "200 {}");
        add("GET /v2/_catalog", r#"200 {"repositories":["app"]}"#);
        add("GET /v2/app/tags/list", r#"200 {"name":"app","tags":["a","b"]}"#);
        for tag in ["a", "b"] {
            add(&format!("HEAD /v2/app/manifests/{tag}"), "200 [docker-content-digest: $A]");
        }
        add("GET /v2/app/manifests/$A", "200 [content-type: application/vnd.oci.image.manifest.v1+json] $IMAGE");
        answers.insert(
            format!("GET /v2/app/blobs/{}", configuration.digest),
            [&b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"[..], &configuration.bytes].concat(),
        );
        let mut add = |request: &str, text: &str| answers.insert(filled(request), answer(&filled(text), &image));
        for (request, text) in &oddity.answers {
            add(request, text);
        }
        let registry = Arc::new(Self { answers, seen: Mutex::default() });
        let serving = registry.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let serving = serving.clone();
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = stream.read_u8().await else { return };
                        head.push(byte);
                    }
                    let head = String::from_utf8(head).unwrap();
                    let answer = serving.answer_to(head.lines().next().unwrap());
                    let _ = stream.write_all(&answer).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        (format!("http://{host}"), registry)
    }

    fn answer_to(&self, line: &str) -> Vec<u8> {
        let request = line.rsplit_once(' ').unwrap().0;
        self.seen.lock().unwrap().push(request.to_owned());
        let path = request.split('?').next().unwrap();
        let found = self.answers.get(request).or_else(|| self.answers.get(path));
        found.cloned().unwrap_or_else(|| {
            b"HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 19\r\n\r\n404 page not found\n".to_vec()
        })
    }
}

/// What was read, on one line.
fn read_of(inventory: &Inventory) -> String {
    let registry = &inventory.registries[0];
    let mut out = String::new();
    for repository in &registry.repositories {
        let tags: Vec<String> = repository.tags.iter().map(|tag| format!(" {}", tag.name)).collect();
        let _ = write!(out, "{}{}:{}", if out.is_empty() { "" } else { "; " }, repository.name, tags.concat());
    }
    let gaps = registry.gaps.iter().chain(registry.repositories.iter().flat_map(|repository| &repository.gaps));
    for gap in gaps {
        let _ = write!(out, " {}", label(gap));
    }
    out.trim().to_owned()
}

fn label(gap: &Gap) -> String {
    let at = match &gap.target {
        GapTarget::Catalogue => "catalogue".to_owned(),
        GapTarget::TagList => "tags".to_owned(),
        GapTarget::VanishedTag(tag) => format!("vanished {tag}"),
        GapTarget::Tag(tag) => format!("tag {tag}"),
        GapTarget::InvalidName(_) => "name".to_owned(),
        GapTarget::ListedDigest(_) => "digest".to_owned(),
        GapTarget::Manifest(_) => "manifest".to_owned(),
        GapTarget::CreationTime(_) => "created".to_owned(),
        GapTarget::Referrers(_) => "referrers".to_owned(),
        other => format!("{other}"),
    };
    format!("{}{at}({})", if gap.is_note() { '~' } else { '!' }, gap.kind)
}

#[tokio::test]
async fn each_oddity_is_read_as_far_as_it_can_be() {
    let table = table();
    let names: BTreeSet<&str> = table.iter().map(|oddity| oddity.what).collect();
    assert!(table.len() >= 40 && names.len() == table.len(), "each has a name of its own");
    let mut wrong = String::new();
    for oddity in table {
        let (endpoint, registry) = Registry::serve(&oddity).await;
        let settings = RegistrySettings { timeout: Duration::from_secs(10), ..settings(&endpoint) };
        let reader: Arc<dyn RegistryReader> = Arc::new(DistributionReader::with_retry_policy(settings, SHORT).unwrap());
        let read = collect(&[reader], &CollectScope::All, &ExtraManifests::new(), &MemoryCache::default(), &()).await;
        let found = read_of(&read);
        let requests = registry.seen.lock().unwrap().clone();
        let gaps = read
            .registries
            .iter()
            .flat_map(|one| one.gaps.iter().chain(one.repositories.iter().flat_map(|it| &it.gaps)));
        let messages: Vec<&str> = gaps.map(|gap| &*gap.message).collect();
        if found != oddity.expected {
            let _ = writeln!(
                wrong,
                "{}\n  expected: {}\n  found:    {found}\n  requests: {requests:?}\n  gaps: {messages:?}",
                oddity.what, oddity.expected
            );
        }
        assert!(requests.len() < 120, "{}: {requests:?}", oddity.what);
        assert!(messages.iter().all(|message| !message.contains(['\u{1b}', '\n'])), "{messages:?}");
    }
    assert!(wrong.is_empty(), "{wrong}");
}
