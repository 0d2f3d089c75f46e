//! Paths of the API, with the permission and the parameters of each request. What is not published is refused.

use axum::http::Method;

use super::access::Problem;
use crate::demo::registry::response::Query;

/// A repository of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RepositoryId {
    pub(super) project: String,
    pub(super) location: String,
    pub(super) name: String,
}

impl RepositoryId {
    /// Returns its name in image references.
    pub(super) fn in_references(&self) -> String {
        format!("{}/{}", self.project.replace(':', "/"), self.name)
    }

    pub(super) fn resource(&self) -> String {
        format!("projects/{}/locations/{}/repositories/{}", self.project, self.location, self.name)
    }
}

/// The target of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    Repositories { project: String, location: String },
    Repository(RepositoryId),
    Permissions(RepositoryId),
    Images(RepositoryId),
    Attachments(RepositoryId),
    Packages(RepositoryId),
    Tags(RepositoryId, String),
    Tag(RepositoryId, String, String),
    Versions(RepositoryId, String),
    Version(RepositoryId, String, String),
    Operation { location: String, id: String },
}

/// A request that is published: its permission, and its parameters besides those of all requests.
pub(super) struct Rule {
    pub(super) permission: &'static str,
    parameters: &'static [&'static str],
}

/// Parameters of all requests.
const COMMON: [&str; 4] = ["alt", "$alt", "prettyPrint", "fields"];
const PAGES: [&str; 2] = ["pageSize", "pageToken"];

impl Route {
    /// Parses a path as it was sent.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let (path, action) = match path.rsplit_once(':') {
            Some((path, "testIamPermissions")) => (path, true),
            _ => (path, false),
        };
        let parts: Vec<String> = path
            .strip_prefix("/v1/")?
            .split('/')
            .map(crate::demo::registry::percent_encoding::percent_decode)
            .collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        if parts.iter().any(|part| part.is_empty()) {
            return None;
        }
        let ["projects", project, "locations", location, rest @ ..] = &parts[..] else { return None };
        let (project, location) = ((*project).to_owned(), (*location).to_owned());
        let id =
            |name: &str| RepositoryId { project: project.clone(), location: location.clone(), name: name.to_owned() };
        let text = |part: &str| part.to_owned();
        Some(match rest {
            ["repositories", name] if action => Self::Permissions(id(name)),
            _ if action => return None,
            ["repositories"] => Self::Repositories { project, location },
            ["operations", operation] => Self::Operation { location, id: text(operation) },
            ["repositories", name] => Self::Repository(id(name)),
            ["repositories", name, "dockerImages"] => Self::Images(id(name)),
            ["repositories", name, "attachments"] => Self::Attachments(id(name)),
            ["repositories", name, "packages"] => Self::Packages(id(name)),
            ["repositories", name, "packages", package, "tags"] => Self::Tags(id(name), text(package)),
            ["repositories", name, "packages", package, "tags", tag] => Self::Tag(id(name), text(package), text(tag)),
            ["repositories", name, "packages", package, "versions"] => Self::Versions(id(name), text(package)),
            ["repositories", name, "packages", package, "versions", version] => {
                Self::Version(id(name), text(package), text(version))
            }
            _ => return None,
        })
    }

    /// Returns the repository that it is about.
    pub(super) fn repository(&self) -> Option<&RepositoryId> {
        match self {
            Self::Repositories { .. } | Self::Operation { .. } => None,
            Self::Repository(id)
            | Self::Permissions(id)
            | Self::Images(id)
            | Self::Attachments(id)
            | Self::Packages(id)
            | Self::Tags(id, _)
            | Self::Tag(id, ..)
            | Self::Versions(id, _)
            | Self::Version(id, ..) => Some(id),
        }
    }

    /// Returns the rule of a request; `None` if no such request is published.
    fn rule(&self, method: &Method) -> Option<Rule> {
        let (permission, parameters): (_, &'static [&'static str]) = match (self, method) {
            (Self::Repositories { .. }, &Method::GET) => {
                ("artifactregistry.repositories.list", &["filter", "orderBy", "pageSize", "pageToken"])
            }
            (Self::Repository(_), &Method::GET) => ("artifactregistry.repositories.get", &[]),
            (Self::Permissions(_), &Method::POST) | (Self::Operation { .. }, &Method::GET) => ("", &[]),
            (Self::Images(_), &Method::GET) => {
                ("artifactregistry.dockerimages.list", &["orderBy", "pageSize", "pageToken"])
            }
            (Self::Attachments(_), &Method::GET) => {
                ("artifactregistry.attachments.list", &["filter", "pageSize", "pageToken"])
            }
            (Self::Packages(_), &Method::GET) => {
                ("artifactregistry.packages.list", &["filter", "orderBy", "pageSize", "pageToken"])
            }
            (Self::Tags(..), &Method::GET) => ("artifactregistry.tags.list", &["filter", "pageSize", "pageToken"]),
            (Self::Tags(..), &Method::POST) => ("artifactregistry.tags.create", &["tagId"]),
            (Self::Tag(..), &Method::GET) => ("artifactregistry.tags.get", &[]),
            (Self::Tag(..), &Method::DELETE) => ("artifactregistry.tags.delete", &[]),
            (Self::Versions(..), &Method::GET) => {
                ("artifactregistry.versions.list", &["filter", "orderBy", "view", "pageSize", "pageToken"])
            }
            (Self::Version(..), &Method::GET) => ("artifactregistry.versions.get", &["view"]),
            (Self::Version(..), &Method::DELETE) => ("artifactregistry.versions.delete", &["force"]),
            _ => return None,
        };
        Some(Rule { permission, parameters })
    }

    /// Returns the rule of a request after checking its parameters.
    pub(super) fn check(&self, method: &Method, query: &Query) -> Result<Rule, Problem> {
        let Some(rule) = self.rule(method) else {
            return Err(Problem::new(404, "NOT_FOUND", "The method is not found."));
        };
        let known = |name: &str| COMMON.contains(&name) || rule.parameters.contains(&name);
        if let Some(name) = query.names().find(|name| !known(name)) {
            let message =
                format!("Invalid JSON payload received. Unknown name \"{name}\": Cannot bind query parameter.");
            return Err(Problem::invalid(message));
        }
        // An order or a condition that is not known here would be passed over.
        let unsupported = ["orderBy", "fields"].into_iter().find(|name| query.get(name).is_some());
        if let Some(name) = unsupported {
            return Err(Problem::invalid(format!("`{name}` is not supported here")));
        }
        let is_list = rule.permission.rsplit('.').next() == Some("list");
        debug_assert!(!is_list || PAGES.iter().all(|page| rule.parameters.contains(page)));
        Ok(rule)
    }
}

/// The beginning of a page, and its size.
#[derive(Debug)]
pub(super) struct PageOf {
    after: Option<String>,
    size: usize,
}

impl PageOf {
    /// The size where none is asked for.
    const DEFAULT: usize = 20;
    /// Larger ones are cut.
    const MAX: usize = 1000;

    pub(super) fn parse(query: &Query) -> Result<Self, Problem> {
        let size = match query.get("pageSize") {
            None => 0,
            Some(text) => text.parse::<usize>().map_err(|_| Problem::invalid("invalid page size"))?,
        };
        let after = match query.get("pageToken").filter(|token| !token.is_empty()) {
            None => None,
            Some(token) => {
                Some(token.strip_prefix("after:").ok_or_else(|| Problem::invalid("invalid page token"))?.to_owned())
            }
        };
        Ok(Self { after, size: if size == 0 { Self::DEFAULT } else { size.min(Self::MAX) } })
    }

    /// Returns the rows of the page, and the token of the next one. Rows are in the order of their keys.
    pub(super) fn cut<T>(&self, rows: impl Iterator<Item = (String, T)>) -> (Vec<T>, Option<String>) {
        let mut rest = rows.skip_while(|(key, _)| self.after.as_ref().is_some_and(|after| key <= after));
        let (mut last, mut found) = (None, Vec::new());
        for (key, row) in rest.by_ref().take(self.size) {
            found.push(row);
            last = Some(key);
        }
        let next = rest.next().and(last);
        (found, next.map(|last| format!("after:{last}")))
    }
}
