//! So much of GitLab's REST API as tells which repositories there are and what cleans them up.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

use super::access::{GitlabProject, GitlabRole, GitlabScope, GitlabUser, is_at_or_below};
use super::{GitlabOptions, ok};
use crate::demo::registry::api_request::ApiRequest;
use crate::demo::registry::content::Content;
use crate::demo::registry::percent_decode;
use crate::demo::registry::response::json_response;

/// The sizes of a page: the default and the largest.
const PAGE: (usize, usize) = (20, 100);

fn problem(status: u16, body: &Value) -> Response {
    json_response(StatusCode::from_u16(status).expect("an HTTP status"), "application/json", body)
}

fn message(status: u16, text: &str) -> Response {
    problem(status, &json!({ "message": format!("{status} {text}") }))
}

/// Answers a request below `/api/v4`.
pub(super) fn respond(call: &ApiRequest<'_>, url: &str, options: &GitlabOptions, content: &Content) -> Response {
    let user = match user(call, options) {
        Ok(user) => user,
        Err(response) => return *response,
    };
    let path: Vec<String> = call.path.split('/').skip(3).map(percent_decode).collect();
    let parts: Vec<&str> = path.iter().map(String::as_str).collect();
    let seen = |project: &str| user.admin || user.role(project) >= Some(GitlabRole::Reporter);
    let find = |id: &str| {
        let is_it = |(path, project): &(&String, &GitlabProject)| *path == id || project.id.to_string() == id;
        options.projects.iter().find(is_it).filter(|(path, _)| seen(path))
    };
    if *call.method != axum::http::Method::GET {
        return message(405, "Method Not Allowed");
    }
    match parts.as_slice() {
        ["user"] => ok(&json!({ "id": 1, "username": user.name, "name": user.name, "is_admin": user.admin })),
        ["projects", id] => match find(id) {
            None => message(404, "Project Not Found"),
            Some((path, project)) => ok(&json!({
                "id": project.id, "name": path.rsplit('/').next(), "path_with_namespace": path,
                "container_registry_access_level": "enabled", "container_expiration_policy": project.cleanup_policy,
            })),
        },
        ["projects", id, "registry", "repositories"] => match find(id) {
            None => message(404, "Project Not Found"),
            Some((path, _)) => repositories(call, url, options, content, &|name| is_at_or_below(name, path)),
        },
        ["projects", id, "registry", "repositories", number, "tags"] => match (find(id), number.parse::<usize>()) {
            (Some(_), Ok(number)) if number > 0 => match content.repositories().nth(number - 1) {
                None => message(404, "Container Repository Not Found"),
                Some(name) => {
                    let row = |tag: &String| json!({ "name": tag, "path": format!("{name}:{tag}") });
                    page(call, url, content.tags(name).keys().map(row).collect())
                }
            },
            _ => message(404, "Project Not Found"),
        },
        ["groups", id, "registry", "repositories"] => {
            let is_below = |path: &&String| path.strip_prefix(id).is_some_and(|rest| rest.starts_with('/'));
            if !options.projects.keys().filter(is_below).any(|path| seen(path)) {
                return message(404, "Group Not Found");
            }
            let holds =
                |name: &str| options.project(name).is_some_and(|(path, _)| is_below(&&path.to_owned()) && seen(path));
            repositories(call, url, options, content, &holds)
        }
        _ => problem(404, &json!({ "error": "404 Not Found" })),
    }
}

fn user<'a>(call: &ApiRequest<'_>, options: &'a GitlabOptions) -> Result<&'a GitlabUser, Box<Response>> {
    let header = |name: &str| call.headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = header(header::AUTHORIZATION.as_str()).and_then(|value| value.strip_prefix("Bearer "));
    let token = header("private-token").or(bearer);
    let found = token.and_then(|token| options.users.iter().find(|user| user.token == token));
    let Some(user) = found else { return Err(Box::new(message(401, "Unauthorized"))) };
    if user.scopes.iter().any(|scope| matches!(scope, GitlabScope::Api | GitlabScope::ReadApi)) {
        return Ok(user);
    }
    Err(Box::new(problem(403, &json!({ "error": "insufficient_scope", "scope": "api read_api" }))))
}

fn repositories(
    call: &ApiRequest<'_>,
    url: &str,
    options: &GitlabOptions,
    content: &Content,
    holds: &dyn Fn(&str) -> bool,
) -> Response {
    let rows = content.repositories().enumerate().filter(|(_, name)| holds(name)).filter_map(|(number, name)| {
        let (path, project) = options.project(name)?;
        let own = name.strip_prefix(path).unwrap_or_default().trim_start_matches('/');
        Some(json!({
            "id": number + 1, "name": own, "path": name, "project_id": project.id, "location": format!("{url}/{name}"),
            "created_at": "2019-01-10T13:38:57.391Z", "cleanup_policy_started_at": null,
            "status": options.deleting.contains(name).then_some("delete_scheduled"),
        }))
    });
    page(call, url, rows.collect())
}

/// One page by its number, with the headers that tell of the others.
fn page(call: &ApiRequest<'_>, url: &str, rows: Vec<Value>) -> Response {
    let number = |key: &str, default: usize| match call.query.get(key).map(str::parse::<usize>) {
        None => Some(default),
        Some(Ok(number)) if number > 0 => Some(number),
        Some(_) => None,
    };
    let (default, most) = PAGE;
    let (Some(size), Some(page)) = (number("per_page", default), number("page", 1)) else {
        return problem(400, &json!({ "error": "page is invalid" }));
    };
    let (size, total) = (size.min(most), rows.len());
    let shown: Vec<Value> = rows.into_iter().skip(size * (page - 1)).take(size).collect();
    let mut response = ok(&json!(shown));
    let next = (size * page < total).then(|| page + 1);
    let headers = response.headers_mut();
    let mut add = |name: &'static str, value: String| {
        let value = HeaderValue::try_from(value).expect("numbers and paths are plain text");
        headers.insert(HeaderName::from_static(name), value);
    };
    add("x-page", page.to_string());
    add("x-per-page", size.to_string());
    add("x-total", total.to_string());
    add("x-total-pages", total.div_ceil(size).to_string());
    add("x-next-page", next.map(|next| next.to_string()).unwrap_or_default());
    let one =
        |page: usize, relation: &str| format!("<{url}{}?page={page}&per_page={size}>; rel=\"{relation}\"", call.path);
    let links: Vec<String> = next.map(|next| one(next, "next")).into_iter().chain([one(1, "first")]).collect();
    add("link", links.join(", "));
    response
}
