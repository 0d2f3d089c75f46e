//! The routes of Harbor's API with the parameters that each has, and its query language.

use super::access::Problem;
use crate::demo::registry::percent_decode;
use crate::demo::registry::response::Query;
use crate::domain::RepositoryName;

/// The thing that a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    Ping,
    SystemInfo,
    GarbageCollection,
    Quotas,
    CurrentPermissions,
    Retention { id: String },
    Projects,
    AllRepositories,
    Repositories { project: String },
    ImmutableRules { project: String },
    Repository { name: String },
    Artifacts { name: String },
    Artifact { name: String, reference: String },
    Tags { name: String, reference: String },
    Tag { name: String, reference: String, tag: String },
    Accessories { name: String, reference: String },
}

impl Route {
    /// The route of a path as it was sent. A repository's name is one segment, in which slashes are encoded twice.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let segments: Vec<&str> = path.strip_prefix("/api/v2.0/")?.split('/').collect();
        let decoded = |segment: &str| percent_decode(segment);
        let (project, rest) = match segments.as_slice() {
            ["ping"] => return Some(Self::Ping),
            ["systeminfo"] => return Some(Self::SystemInfo),
            ["system", "gc", "schedule"] => return Some(Self::GarbageCollection),
            ["quotas"] => return Some(Self::Quotas),
            ["users", "current", "permissions"] => return Some(Self::CurrentPermissions),
            ["retentions", id] => return Some(Self::Retention { id: decoded(id) }),
            ["projects"] => return Some(Self::Projects),
            ["repositories"] => return Some(Self::AllRepositories),
            ["projects", project, rest @ ..] => (decoded(project), rest),
            _ => return None,
        };
        let (repository, rest) = match rest {
            ["repositories"] => return Some(Self::Repositories { project }),
            ["immutabletagrules"] => return Some(Self::ImmutableRules { project }),
            ["repositories", repository, rest @ ..] => (percent_decode(&decoded(repository)), rest),
            _ => return None,
        };
        let name = format!("{project}/{repository}");
        name.parse::<RepositoryName>().ok()?;
        Some(match rest {
            [] => Self::Repository { name },
            ["artifacts"] => Self::Artifacts { name },
            ["artifacts", reference] => Self::Artifact { name, reference: decoded(reference) },
            ["artifacts", reference, "tags"] => Self::Tags { name, reference: decoded(reference) },
            ["artifacts", reference, "tags", tag] => {
                Self::Tag { name, reference: decoded(reference), tag: decoded(tag) }
            }
            ["artifacts", reference, "accessories"] => Self::Accessories { name, reference: decoded(reference) },
            _ => return None,
        })
    }

    /// Refuses parameters that `swagger.yaml` does not have for the route, and sizes of pages that it does not allow.
    pub(super) fn check_parameters(&self, query: &Query) -> Result<(), Problem> {
        const PAGED: [&str; 4] = ["q", "sort", "page", "page_size"];
        const ARTIFACT: [&str; 8] = [
            "with_tag",
            "with_label",
            "with_scan_overview",
            "with_sbom_overview",
            "with_immutable_status",
            "with_accessory",
            "with_inherited_accessory",
            // Of lists only in older descriptions, by which clients are made.
            "with_signature",
        ];
        let known: Vec<&str> = match self {
            Self::Projects => [&PAGED[..], &["name", "public", "owner", "with_detail"]].concat(),
            Self::AllRepositories
            | Self::Repositories { .. }
            | Self::ImmutableRules { .. }
            | Self::Accessories { .. } => PAGED.to_vec(),
            Self::Tags { .. } => [&PAGED[..], &["with_immutable_status"]].concat(),
            Self::Artifacts { .. } => [&PAGED[..], &ARTIFACT[..]].concat(),
            Self::Artifact { .. } => [&["page", "page_size"], &ARTIFACT[..]].concat(),
            Self::Quotas => vec!["page", "page_size", "sort", "reference", "reference_id"],
            Self::CurrentPermissions => vec!["scope", "relative"],
            Self::Ping
            | Self::SystemInfo
            | Self::GarbageCollection
            | Self::Retention { .. }
            | Self::Repository { .. }
            | Self::Tag { .. } => Vec::new(),
        };
        if let Some(name) = query.names().find(|name| !known.contains(name)) {
            return Err(Problem::bad_request(&format!("unknown parameter {name}")));
        }
        let booleans = ARTIFACT.iter().chain(&["relative", "public", "with_detail"]);
        for name in booleans {
            let is_boolean = |text: &str| ["true", "false"].iter().any(|one| one.eq_ignore_ascii_case(text));
            if query.get(name).is_some_and(|text| !is_boolean(text)) {
                return Err(Problem::invalid(&format!("{name} in query must be of type boolean")));
            }
        }
        Ok(())
    }
}

/// The part of a list that was asked for.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// The smallest id.
    from: i64,
    /// The names, where only some are asked for.
    names: Option<Vec<String>>,
    /// True for rows with tags, false for rows without.
    pub(super) tagged: Option<bool>,
    /// Rows that other rows hold as well.
    pub(super) all: bool,
    /// In the order of ids; by default the newest comes first.
    ascending: bool,
    page: usize,
    page_size: usize,
}

/// A page of rows, with their number on all pages.
pub(super) struct PageOf<T> {
    pub(super) rows: Vec<T>,
    pub(super) total: usize,
    pub(super) has_next: bool,
}

impl Selection {
    /// Reads the parameters, where `key` is the column of the ids.
    pub(super) fn of(query: &Query, key: &str) -> Result<Self, Problem> {
        let number = |name: &str, default: usize| match query.get(name).map(str::parse) {
            None => Ok(default),
            Some(Ok(number)) => Ok(number),
            Some(Err(_)) => Err(Problem::invalid(&format!("{name} in query must be of type int64"))),
        };
        let (page, page_size) = (number("page", 1)?, number("page_size", 10)?);
        if page_size > 100 {
            return Err(Problem::invalid("page_size in query should be less than or equal to 100"));
        }
        let mut found = Self { page, page_size, ..Self::default() };
        found.ascending = match query.get("sort") {
            None => false,
            Some(column) if column == key => true,
            Some(other) => return Err(Problem::bad_request(&format!("no such order: {other}"))),
        };
        for condition in query.get("q").into_iter().flat_map(|text| text.split(',')) {
            match condition.split_once('=') {
                Some(("base", "*")) => found.all = true,
                Some(("tags", "*")) => found.tagged = Some(true),
                Some(("tags", "nil")) => found.tagged = Some(false),
                Some(("name", list)) => found.names = Some(names(list)?),
                Some((column, range)) if column == key => found.from = minimum(range)?,
                _ => return Err(Problem::bad_request(&format!("invalid query string value: {condition}"))),
            }
        }
        Ok(found)
    }

    pub(super) fn names(&self, name: &str) -> bool {
        self.names.as_ref().is_none_or(|names| names.iter().any(|other| other == name))
    }

    /// The page of rows, each with its id and with what it is sorted by otherwise.
    pub(super) fn page<T, K: Ord>(&self, mut rows: Vec<(i64, K, T)>) -> PageOf<T> {
        rows.retain(|(id, ..)| *id >= self.from);
        if self.ascending {
            rows.sort_by_key(|(id, ..)| *id);
        } else {
            rows.sort_by(|a, b| (&b.1, b.0).cmp(&(&a.1, a.0)));
        }
        let total = rows.len();
        let begins = self.page_size * self.page.saturating_sub(1);
        let rows: Vec<T> = rows.into_iter().skip(begins).take(self.page_size).map(|(_, _, row)| row).collect();
        PageOf { has_next: begins + rows.len() < total, rows, total }
    }

    /// The query of the next page.
    pub(super) fn next_page(&self, query: &Query) -> String {
        let mut next = url::form_urlencoded::Serializer::new(String::new());
        for name in query.names().filter(|name| !matches!(*name, "page" | "page_size")) {
            next.append_pair(name, query.get(name).unwrap_or_default());
        }
        next.append_pair("page", &(self.page + 1).to_string()).append_pair("page_size", &self.page_size.to_string());
        next.finish()
    }
}

/// `[5~]`
fn minimum(range: &str) -> Result<i64, Problem> {
    let inner = range.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let (from, to) = inner.and_then(|inner| inner.split_once('~')).unwrap_or_default();
    let from = from.parse().ok().filter(|_| to.is_empty());
    from.ok_or_else(|| Problem::bad_request(&format!("invalid query string value: {range}")))
}

/// `{"a" "b"}`, or one name.
fn names(list: &str) -> Result<Vec<String>, Problem> {
    let Some(inner) = list.strip_prefix('{') else { return Ok(vec![list.to_owned()]) };
    let inner = inner.strip_suffix('}').ok_or_else(|| Problem::bad_request("or list must end with \"}\""))?;
    Ok(inner.split_whitespace().map(|name| name.trim_matches(['"', '\'']).to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_as_harbor_does() {
        let name = || "shop/a/b".to_owned();
        for (path, expected) in [
            ("/api/v2.0/projects/shop/repositories/a%252Fb", Some(Route::Repository { name: name() })),
            ("/api/v2.0/projects/shop/repositories/a%252Fb/artifacts", Some(Route::Artifacts { name: name() })),
            ("/api/v2.0/projects/shop/repositories/a/b/artifacts", None),
            (
                "/api/v2.0/projects/shop/repositories/a%252Fb/artifacts/sha256:0/tags/v1",
                Some(Route::Tag { name: name(), reference: "sha256:0".into(), tag: "v1".into() }),
            ),
            ("/api/v2.0/projects/shop/artifacts", None),
            ("/api/v1/projects", None),
        ] {
            assert_eq!(Route::parse(path), expected, "{path}");
        }
    }
}
