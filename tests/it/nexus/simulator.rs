//! An imitation of Nexus on loopback: repositories of components, searches in pages of fifty, its API for Docker, a user with
//! some rights. It refuses parameters that the real one does not have.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use jiff::Timestamp;
use serde_json::{Value, json};
use tagwarden::domain::Digest;
use tokio::net::TcpListener;

pub(super) const USER: (&str, &str) = ("reader", "open sesame");
/// The components of a page.
const PAGE: usize = 50;
pub(super) const PARAMETERS: [&str; 5] = ["repository", "format", "name", "version", "continuationToken"];

/// The manifest of a component.
#[derive(Debug, Clone)]
pub(super) struct Component {
    pub(super) id: String,
    pub(super) created: Timestamp,
    pub(super) downloaded: Option<Timestamp>,
    pub(super) has_checksum: bool,
    pub(super) kind: String,
    pub(super) bytes: Vec<u8>,
}

/// Repository, image, tag or digest.
type Place = (String, String, String);

/// What the server holds, and was asked.
pub(super) struct Content {
    pub(super) now: Timestamp,
    /// Repositories with their types.
    pub(super) kinds: BTreeMap<String, &'static str>,
    pub(super) components: BTreeMap<Place, Component>,
    /// The number of components that were ever put.
    count: usize,
    /// Repositories that the user may not read.
    pub(super) hidden: BTreeSet<String>,
    /// Seconds to wait after a 429.
    pub(super) retry_after: &'static str,
    /// Statuses instead of the true answers.
    pub(super) instead: VecDeque<u16>,
    /// Components that are deleted after the next page.
    pub(super) deleted_meanwhile: VecDeque<Place>,
    /// True if each page continues with itself.
    pub(super) is_endless: bool,
    pub(super) accepts_password: bool,
    pub(super) asked: Vec<String>,
}

impl Content {
    /// Puts a manifest under a tag, and under its digest as Nexus does.
    pub(super) fn put(&mut self, key: &str, image: &str, tag: &str, bytes: &[u8], at: Timestamp) -> Digest {
        let digest = Digest::of(bytes);
        let kind = serde_json::from_slice::<Value>(bytes).ok();
        let kind = kind.and_then(|kind| Some(kind["mediaType"].as_str()?.to_owned())).unwrap_or_default();
        for version in [tag.to_owned(), digest.to_string()] {
            self.count += 1;
            let id = format!("id-{:06}", self.count);
            let component = Component {
                id,
                created: at,
                downloaded: None,
                has_checksum: true,
                kind: kind.clone(),
                bytes: bytes.to_vec(),
            };
            self.components.insert((key.to_owned(), image.to_owned(), version), component);
        }
        digest
    }

    pub(super) fn component(&mut self, image: &str, version: &str) -> &mut Component {
        self.components.get_mut(&(super::KEY.to_owned(), image.to_owned(), version.to_owned())).unwrap()
    }
}

/// The server.
pub(super) struct Simulator {
    pub(super) url: String,
    pub(super) content: Arc<Mutex<Content>>,
}

impl Simulator {
    pub(super) async fn start(now: Timestamp) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let kinds = [(super::KEY, "hosted"), ("docker-proxy", "proxy"), ("docker-group", "group")];
        let content = Content {
            now,
            kinds: kinds.map(|(key, kind)| (key.to_owned(), kind)).into(),
            components: BTreeMap::new(),
            count: 0,
            hidden: BTreeSet::new(),
            retry_after: "0",
            instead: VecDeque::new(),
            deleted_meanwhile: VecDeque::new(),
            is_endless: false,
            accepts_password: true,
            asked: Vec::new(),
        };
        let content = Arc::new(Mutex::new(content));
        let router = Router::new().fallback(answer).with_state(content.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, content }
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Content) -> T) -> T {
        change(&mut self.content.lock().unwrap())
    }

    /// The requests since the last call, each with its number.
    pub(super) fn requests(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for request in std::mem::take(&mut self.content.lock().unwrap().asked) {
            *counts.entry(request).or_default() += 1;
        }
        counts
    }
}

fn respond(now: Timestamp, status: u16, body: impl Into<Body>) -> Response {
    let mut response = (StatusCode::from_u16(status).unwrap(), body.into()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::SERVER, HeaderValue::from_static("Nexus/3.85.0-03 (COMMUNITY)"));
    let date = now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    headers.insert(header::DATE, HeaderValue::from_str(&date).unwrap());
    response
}

async fn answer(State(content): State<Arc<Mutex<Content>>>, request: Request<Body>) -> Response {
    let head = request.into_parts().0;
    let mut content = content.lock().unwrap();
    let (now, path) = (content.now, head.uri.path().to_owned());
    let counted = path.split_once("/manifests/").map_or(path.clone(), |(image, _)| format!("{image}/manifests/"));
    content.asked.push(format!("{} {counted}", head.method));
    if let Some(status) = content.instead.pop_front() {
        let mut response = respond(now, status, "");
        if status == 429 {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(content.retry_after));
        }
        return response;
    }
    let password = base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", USER.0, USER.1));
    let signature = head.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if !content.accepts_password || signature != Some(&format!("Basic {password}")) {
        let mut response = respond(now, 401, "");
        let realm = HeaderValue::from_static("BASIC realm=\"Sonatype Nexus Repository Manager\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, realm);
        return response;
    }
    if head.method != "GET" {
        return respond(now, 405, "");
    }
    let query: BTreeMap<String, String> =
        url::form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    match path.strip_prefix("/service/rest/v1/") {
        Some("repositories") => {
            let all: Vec<Value> = content
                .kinds
                .iter()
                .map(|(name, kind)| json!({ "name": name, "format": "docker", "type": kind, "url": "http://x", "attributes": {} }))
                .chain([json!({ "name": "maven", "format": "maven2", "type": "hosted", "url": "http://x" })])
                .collect();
            respond(now, 200, json!(all).to_string())
        }
        Some("search") => search(&mut content, &query),
        Some(_) => respond(now, 404, ""),
        None => docker(&mut content, path.strip_prefix("/repository/").unwrap_or_default()),
    }
}

/// A page of the components that a search finds.
fn search(content: &mut Content, query: &BTreeMap<String, String>) -> Response {
    let now = content.now;
    if query.keys().any(|key| !PARAMETERS.contains(&key.as_str()))
        || query.get("format").is_none_or(|it| it != "docker")
    {
        return respond(now, 400, "");
    }
    if content.hidden.contains(&query["repository"]) {
        // It shows nothing of what the user may not browse.
        return respond(now, 200, json!({ "items": [], "continuationToken": null }).to_string());
    }
    let wanted = |key: &str, value: &str| query.get(key).is_none_or(|it| it == value);
    let mut found: Vec<(&Place, &Component)> = content
        .components
        .iter()
        .filter(|((key, image, version), _)| {
            wanted("repository", key) && wanted("name", image) && wanted("version", version)
        })
        .collect();
    found.sort_by(|a, b| a.1.id.cmp(&b.1.id));
    // A token names the last component that was given.
    let after = query.get("continuationToken").map(String::as_str).unwrap_or_default();
    let rest: Vec<&(&Place, &Component)> =
        found.iter().filter(|(_, component)| content.is_endless || component.id.as_str() > after).collect();
    let page = &rest[..rest.len().min(PAGE)];
    let items: Vec<Value> = page.iter().map(|(place, component)| item(place, component)).collect();
    let more = content.is_endless || page.len() < rest.len();
    let token = page.last().filter(|_| more).map(|(_, component)| component.id.clone());
    let body = json!({ "items": items, "continuationToken": token }).to_string();
    if let Some(place) = content.deleted_meanwhile.pop_front() {
        content.components.remove(&place);
    }
    respond(now, 200, body)
}

fn item((key, image, version): &Place, component: &Component) -> Value {
    let mut checksum = json!({ "sha1": "0" });
    if component.has_checksum {
        checksum["sha256"] = Digest::of(&component.bytes).hex().into();
    }
    let asset = json!({
        "downloadUrl": "http://x", "path": format!("v2/{image}/manifests/{version}"), "id": "asset", "repository": key,
        "format": "docker", "checksum": checksum, "contentType": component.kind, "fileSize": component.bytes.len(),
        "lastModified": component.created.to_string(), "blobCreated": component.created.to_string(),
        "lastDownloaded": component.downloaded.map(|at| at.to_string()),
    });
    json!({
        "id": component.id, "repository": key, "format": "docker", "group": null, "name": image, "version": version,
        "assets": [asset],
    })
}

/// The API for Docker of one repository: its images, and manifests by digest.
fn docker(content: &mut Content, path: &str) -> Response {
    let now = content.now;
    let unknown =
        |code: &str| respond(now, 404, json!({ "errors": [{ "code": code, "message": "unknown" }] }).to_string());
    let Some((key, rest)) = path.split_once("/v2/") else { return respond(now, 404, "") };
    if !content.kinds.contains_key(key) {
        return unknown("NAME_UNKNOWN");
    }
    if content.hidden.contains(key) {
        return respond(now, 403, "");
    }
    if rest == "_catalog" {
        let own = content.components.keys().filter(|(repository, _, _)| repository == key);
        let images: BTreeSet<&String> = own.map(|(_, image, _)| image).collect();
        return respond(now, 200, json!({ "repositories": images }).to_string());
    }
    let Some((image, version)) = rest.split_once("/manifests/") else { return respond(now, 404, "") };
    let place = (key.to_owned(), image.to_owned(), version.to_owned());
    let Some(component) = content.components.get_mut(&place) else { return unknown("MANIFEST_UNKNOWN") };
    component.downloaded = Some(now);
    let (kind, bytes) = (component.kind.clone(), component.bytes.clone());
    let mut response = respond(now, 200, bytes);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_str(&kind).unwrap());
    response
}
