//! The routes of GitHub's REST API for packages, with the parameters that its published description has for each.

use axum::http::Method;

use super::access::Problem;
use crate::demo::registry::response::Query;

/// The path in front of the REST API, as a GitHub Enterprise has it.
pub(super) const PREFIX: &str = "/api/v3";

/// A request to the REST API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// The user of the token.
    Own,
    /// A user or an organization.
    User { login: String },
    /// Something of an owner's packages.
    Packages { owner: OwnerPath, route: PackageRoute },
}

/// An owner as the path names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OwnerPath {
    /// `/orgs/{org}`.
    Organization(String),
    /// `/organizations/{id}`, to which only links lead.
    OrganizationId(usize),
    /// `/users/{username}`.
    User(String),
    /// `/user`.
    Own,
}

/// The rest of the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PackageRoute {
    /// All packages.
    List,
    /// One package.
    Package { name: String },
    /// Its versions.
    Versions { name: String },
    /// One of them.
    Version { name: String, id: u64 },
    /// The way back for one.
    Restore { name: String, id: u64 },
}

impl Route {
    /// Parses a path below [`PREFIX`] as it was sent: the name of a package is one segment of it.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        let (owner, rest) = match segments.as_slice() {
            ["user"] => return Some(Self::Own),
            ["users", login] => return Some(Self::User { login: (*login).to_owned() }),
            ["user", "packages", rest @ ..] => (OwnerPath::Own, rest),
            ["users", login, "packages", rest @ ..] => (OwnerPath::User((*login).to_owned()), rest),
            ["orgs", name, "packages", rest @ ..] => (OwnerPath::Organization((*name).to_owned()), rest),
            ["organizations", id, "packages", rest @ ..] => (OwnerPath::OrganizationId(id.parse().ok()?), rest),
            _ => return None,
        };
        let name = |text: &str| text.replace("%2F", "/").replace("%2f", "/");
        let route = match rest {
            [] => PackageRoute::List,
            ["container", package] => PackageRoute::Package { name: name(package) },
            ["container", package, "versions"] => PackageRoute::Versions { name: name(package) },
            ["container", package, "versions", id] => {
                PackageRoute::Version { name: name(package), id: id.parse().ok()? }
            }
            ["container", package, "versions", id, "restore"] => {
                PackageRoute::Restore { name: name(package), id: id.parse().ok()? }
            }
            _ => return None,
        };
        Some(Self::Packages { owner, route })
    }

    /// Refuses methods, parameters and bodies that the description does not have. Pages of a user's versions are not in
    /// it, but GitHub has them and everybody uses them.
    pub(super) fn check(&self, method: &Method, query: &Query, body: &[u8]) -> Result<(), Problem> {
        let (methods, parameters): (&[Method], &[&str]) = match self {
            Self::Own | Self::User { .. } => (&[Method::GET], &[]),
            Self::Packages { route, .. } => match route {
                PackageRoute::List => (&[Method::GET], &["package_type", "visibility", "page", "per_page"]),
                PackageRoute::Package { .. } => (&[Method::GET], &[]),
                PackageRoute::Versions { .. } => (&[Method::GET], &["page", "per_page", "state"]),
                PackageRoute::Version { .. } => (&[Method::GET, Method::DELETE], &[]),
                PackageRoute::Restore { .. } => (&[Method::POST], &[]),
            },
        };
        if !methods.contains(method) {
            return Err(Problem::not_found("Not Found"));
        }
        if let Some(unknown) = query.names().find(|name| !parameters.contains(name)) {
            return Err(Problem::undescribed(&format!("parameter `{unknown}`")));
        }
        if !body.is_empty() {
            return Err(Problem::undescribed("a body"));
        }
        let allowed = |name: &str, values: &[&str]| query.get(name).is_none_or(|value| values.contains(&value));
        if !allowed("state", &["active", "deleted"]) || !allowed("visibility", &["public", "private", "internal"]) {
            return Err(Problem::undescribed("a value of `state` or `visibility`"));
        }
        let is_list = matches!(self, Self::Packages { route: PackageRoute::List, .. });
        if is_list && query.get("package_type").is_none_or(|kind| kind != "container") {
            return Err(Problem::undescribed("`package_type` is required, and only `container` is known here"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_package_is_one_segment() {
        let versions = |owner, name: &str| {
            Some(Route::Packages { owner, route: PackageRoute::Versions { name: name.to_owned() } })
        };
        for (path, expected) in [
            (
                "/orgs/contoso/packages/container/shop%2Fapi/versions",
                versions(OwnerPath::Organization("contoso".into()), "shop/api"),
            ),
            ("/user/packages/container/api/versions", versions(OwnerPath::Own, "api")),
            ("/organizations/3/packages/container/api/versions", versions(OwnerPath::OrganizationId(3), "api")),
            ("/orgs/contoso/packages/container/shop/api/versions", None),
            ("/orgs/contoso/packages/npm/api/versions", None),
            ("/orgs/contoso/packages/container/api/versions/latest", None),
            ("/user", Some(Route::Own)),
        ] {
            assert_eq!(Route::parse(path), expected, "{path}");
        }
    }
}
