//! An imitation of Artifactory on loopback: repositories of files, searches in AQL, its API for Docker, a user with some rights.
//! It refuses what the real one refuses, and each query that is not exactly of the published form.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use jiff::Timestamp;
use serde_json::{Value, json};
use tagwarden::domain::Digest;
use tokio::net::TcpListener;

pub(super) const TOKEN: &str = "access-token-of-the-tests";
pub(super) const USER: (&str, &str) = ("reader", "open sesame");
/// Fields that a query of a user without administration has to include.
const OWN_FIELDS: [&str; 3] = ["repo", "path", "name"];
const FIELDS: [&str; 8] =
    ["repo", "path", "name", "created", "modified", "sha256", "stat.downloads", "stat.downloaded"];

/// A file.
#[derive(Debug, Clone)]
pub(super) struct File {
    pub(super) created: Timestamp,
    pub(super) modified: Timestamp,
    pub(super) downloads: Vec<Timestamp>,
    pub(super) has_sha256: bool,
    pub(super) bytes: Vec<u8>,
}

/// The place of a file: the key of its repository, its folder, its name.
type Place = (String, String, String);

/// What the server holds, and was asked.
pub(super) struct Content {
    pub(super) now: Timestamp,
    pub(super) kinds: BTreeMap<String, &'static str>,
    pub(super) files: BTreeMap<Place, File>,
    /// Repositories that the user may not read: searches leave their files out without a word.
    pub(super) hidden: BTreeSet<String>,
    /// Most results of a search.
    pub(super) search_limit: usize,
    /// Answers instead of the true ones: status, headers.
    pub(super) instead: VecDeque<(u16, Vec<(&'static str, String)>)>,
    /// Files that are deleted after the next search.
    pub(super) deleted_meanwhile: VecDeque<Place>,
    pub(super) accepts_token: bool,
    /// The last search.
    pub(super) query: String,
    pub(super) asked: Vec<String>,
}

impl Content {
    /// Puts a file into the folder of a tag, or of a digest.
    pub(super) fn put(&mut self, key: &str, folder: &str, name: &str, bytes: &[u8], at: Timestamp) -> Digest {
        let place = (key.to_owned(), folder.to_owned(), name.to_owned());
        let created = self.files.get(&place).map_or(at, |file| file.created);
        let file = File { created, modified: at, downloads: Vec::new(), has_sha256: true, bytes: bytes.to_vec() };
        self.files.insert(place, file);
        Digest::of(bytes)
    }

    pub(super) fn file(&mut self, key: &str, folder: &str, name: &str) -> &mut File {
        self.files.get_mut(&(key.to_owned(), folder.to_owned(), name.to_owned())).unwrap()
    }

    /// The images of a repository: folders of tags, without the tag.
    fn images(&self, key: &str) -> BTreeSet<String> {
        let own = self.files.keys().filter(|(repo, _, _)| repo == key);
        own.filter_map(|(_, path, _)| Some(path.rsplit_once('/')?.0.to_owned())).collect()
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
        let kinds = [("docker-local", "LOCAL"), ("docker-remote", "REMOTE"), ("docker", "VIRTUAL")];
        let content = Content {
            now,
            kinds: kinds.map(|(key, kind)| (key.to_owned(), kind)).into(),
            files: BTreeMap::new(),
            hidden: BTreeSet::new(),
            search_limit: 500_000,
            instead: VecDeque::new(),
            deleted_meanwhile: VecDeque::new(),
            accepts_token: true,
            query: String::new(),
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

fn respond(now: Timestamp, status: u16, kind: &str, body: impl Into<Body>) -> Response {
    let mut response = (StatusCode::from_u16(status).unwrap(), body.into()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(kind).unwrap());
    headers.insert("x-jfrog-version", HeaderValue::from_static("Artifactory/7.111.4 81104900"));
    let date = now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    headers.insert(header::DATE, HeaderValue::from_str(&date).unwrap());
    response
}

fn refusal(now: Timestamp, status: u16, message: &str) -> Response {
    let body = json!({ "errors": [{ "status": status, "message": message }] }).to_string();
    let mut response = respond(now, status, "application/json", body);
    if status == 401 {
        let realm = HeaderValue::from_static("Basic realm=\"Artifactory Realm\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, realm);
    }
    response
}

fn is_signed_in(content: &Content, value: Option<&str>) -> bool {
    use base64::Engine as _;
    let password = base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", USER.0, USER.1));
    value.is_some_and(|value| {
        value == format!("Basic {password}") || content.accepts_token && value == format!("Bearer {TOKEN}")
    })
}

async fn answer(State(content): State<Arc<Mutex<Content>>>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let mut content = content.lock().unwrap();
    let (now, path) = (content.now, head.uri.path().to_owned());
    let counted = path.split_once("/manifests/").map_or(path.clone(), |(image, _)| format!("{image}/manifests/"));
    content.asked.push(format!("{} {counted}", head.method));
    if let Some((status, headers)) = content.instead.pop_front() {
        let mut response = refusal(now, status, "not now");
        for (name, value) in headers {
            response.headers_mut().insert(name, HeaderValue::from_str(&value).unwrap());
        }
        return response;
    }
    let signature = head.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if !is_signed_in(&content, signature) {
        return refusal(now, 401, "Bad credentials");
    }
    let query: BTreeMap<String, String> =
        url::form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    let api = path.strip_prefix("/artifactory/api/").unwrap_or_default();
    match (head.method.as_str(), api) {
        ("POST", "search/aql") => {
            // Many clients leave the type out.
            if head.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind != "text/plain") || body.len() > 6_000 {
                return refusal(now, 400, "Bad Request");
            }
            content.query = String::from_utf8_lossy(&body).into_owned();
            let found = search(&content, &content.query);
            if let Some(place) = content.deleted_meanwhile.pop_front() {
                content.files.remove(&place);
            }
            match found {
                Ok(found) => respond(now, 200, "application/json", found.to_string()),
                Err(why) => refusal(now, 400, &format!("Failed to parse query: {why}")),
            }
        }
        ("GET", "repositories") if query.get("packageType").is_some_and(|kind| kind == "docker") => {
            let all: Vec<Value> = content
                .kinds
                .iter()
                .map(|(key, kind)| json!({ "key": key, "type": kind, "packageType": "Docker", "url": "http://x" }))
                .collect();
            respond(now, 200, "application/json", json!(all).to_string())
        }
        ("GET", _) if api.starts_with("docker/") => docker(&mut content, &api["docker/".len()..], &query),
        _ => refusal(now, 404, "Not Found"),
    }
}

/// The API for Docker of one repository: its images, and manifests by digest.
fn docker(content: &mut Content, path: &str, query: &BTreeMap<String, String>) -> Response {
    let now = content.now;
    let unknown = |code: &str| {
        respond(now, 404, "application/json", json!({ "errors": [{ "code": code, "message": "unknown" }] }).to_string())
    };
    let Some((key, rest)) = path.split_once("/v2/") else { return refusal(now, 404, "Not Found") };
    if !content.kinds.contains_key(key) {
        return unknown("NAME_UNKNOWN");
    }
    if content.hidden.contains(key) {
        return refusal(now, 403, "The user: 'reader' is not permitted");
    }
    if rest == "_catalog" {
        let count: usize = query["n"].parse().unwrap();
        let last = query.get("last").cloned().unwrap_or_default();
        let images: Vec<String> = content.images(key).into_iter().filter(|image| *image > last).collect();
        let page = &images[..images.len().min(count)];
        let mut response = respond(now, 200, "application/json", json!({ "repositories": page }).to_string());
        if page.len() < images.len() {
            let link = format!(
                "</artifactory/api/docker/{key}/v2/_catalog?n={count}&last={}>; rel=\"next\"",
                page[page.len() - 1]
            );
            response.headers_mut().insert(header::LINK, HeaderValue::from_str(&link).unwrap());
        }
        return response;
    }
    let Some((image, digest)) = rest.split_once("/manifests/") else { return refusal(now, 404, "Not Found") };
    let digest: Digest = digest.parse().expect("manifests are read by digest");
    let own = content.files.iter_mut().find(|((repo, folder, _), file)| {
        repo == key && folder.starts_with(&format!("{image}/")) && Digest::of(&file.bytes) == digest
    });
    let Some((_, file)) = own else { return unknown("MANIFEST_UNKNOWN") };
    file.downloads.push(now);
    let kind: Value = serde_json::from_slice(&file.bytes).unwrap();
    respond(now, 200, kind["mediaType"].as_str().unwrap(), file.bytes.clone())
}

/// The answer to a search of the one form that is understood.
fn search(content: &Content, query: &str) -> Result<Value, String> {
    let form = regex::Regex::new(
        r"^items\.find\((\{.*\})\)\.include\(([^)]*)\)\.sort\((\{.*\})\)\.offset\((\d+)\)\.limit\((\d+)\)$",
    );
    let parts = form.unwrap().captures(query).ok_or("it is not of the published form")?;
    let json = |part: &str| serde_json::from_str::<Value>(part).map_err(|error| error.to_string());
    let (criteria, fields, sort) = (json(&parts[1])?, json(&format!("[{}]", &parts[2]))?, json(&parts[3])?);
    let (offset, limit): (usize, usize) = (parts[4].parse().unwrap(), parts[5].parse().unwrap());
    let fields: Vec<&str> = fields.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    if !OWN_FIELDS.iter().all(|field| fields.contains(field)) {
        return Err("only administrators may leave out repo, path or name".into());
    }
    if let Some(field) = fields.iter().find(|field| !FIELDS.contains(field)) {
        return Err(format!("unknown field {field}"));
    }
    if sort != json!({ "$asc": ["path", "name"] }) {
        return Err("a page without an order".into());
    }
    let mut criteria = criteria.as_object().unwrap().clone();
    let repo = criteria.remove("repo").and_then(|repo| Some(repo.as_str()?.to_owned())).ok_or("repo")?;
    let path = criteria.remove("path").ok_or("path")?;
    let names: Vec<Value> = criteria.remove("$or").and_then(|names| names.as_array().cloned()).ok_or("$or")?;
    if !criteria.is_empty() {
        return Err(format!("unknown criteria {criteria:?}"));
    }
    let matches = |folder: &str| match (&path, path.get("$match").and_then(Value::as_str)) {
        (Value::String(exact), _) => folder == exact,
        (_, Some(pattern)) => pattern.strip_suffix('*').is_some_and(|start| folder.starts_with(start)),
        _ => false,
    };
    let is_named = |name: &str| names.iter().any(|one| one["name"] == name);
    let all: Vec<Value> = content
        .files
        .iter()
        .filter(|((key, folder, name), _)| {
            *key == repo && !content.hidden.contains(key) && matches(folder) && is_named(name)
        })
        .map(|((key, folder, name), file)| {
            let mut found = json!({
                "repo": key, "path": folder, "name": name, "created": file.created.to_string(),
                "modified": file.modified.to_string(), "stats": [],
            });
            if file.has_sha256 {
                found["sha256"] = Digest::of(&file.bytes).hex().into();
            }
            if let Some(last) = file.downloads.iter().max() {
                found["stats"] = json!([{ "downloads": file.downloads.len(), "downloaded": last.to_string() }]);
            }
            found
        })
        .collect();
    let end = all.len().min(offset + limit.min(content.search_limit));
    let page = all.get(offset..end).unwrap_or_default();
    let mut range = json!({ "start_pos": offset, "end_pos": end, "total": page.len(), "limit": limit });
    if limit > content.search_limit && page.len() == content.search_limit {
        range["notification"] = "AQL query reached the search hard limit, results are trimmed.".into();
    }
    Ok(json!({ "results": page, "range": range }))
}
