//! The paths of ACR's own API, and the permissions for each request.

use axum::http::Method;

use super::super::api_request;
use super::permission::{Permission, RequiredPermission};
use crate::domain::RepositoryName;

/// The target of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    Catalog,
    Repository { name: String },
    Tags { name: String },
    Tag { name: String, tag: String },
    Manifests { name: String },
    Manifest { name: String, digest: String },
    DeletedCatalog,
    DeletedTags { name: String },
    DeletedManifests { name: String },
    DeletedManifest { name: String, digest: String },
    Distribution(api_request::Route),
}

impl Route {
    /// Parses a decoded path.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let Some(rest) = path.strip_prefix("/acr/v1/") else {
            return api_request::Route::parse(path).map(Self::Distribution);
        };
        match rest {
            "_catalog" => return Some(Self::Catalog),
            "_deleted/_catalog" => return Some(Self::DeletedCatalog),
            _ => {}
        }
        // No part of a repository's name starts with `_`, so it ends before the first part that does.
        let (deleted, rest) = rest.strip_prefix("_deleted/").map_or((false, rest), |rest| (true, rest));
        let (name, kind, last) = split_path(rest);
        let owned = name.to_owned();
        let route = match (deleted, kind, last) {
            (false, "", None) => Self::Repository { name: owned },
            (false, "_tags", None) => Self::Tags { name: owned },
            (false, "_tags", Some(tag)) => Self::Tag { name: owned, tag },
            (false, "_manifests", None) => Self::Manifests { name: owned },
            (false, "_manifests", Some(digest)) => Self::Manifest { name: owned, digest },
            (true, "_tags", None) => Self::DeletedTags { name: owned },
            (true, "_manifests", None) => Self::DeletedManifests { name: owned },
            (true, "_manifests", Some(digest)) => Self::DeletedManifest { name: owned, digest },
            _ => return None,
        };
        name.parse::<RepositoryName>().is_ok().then_some(route)
    }

    /// Returns the required permissions: any of the inner lists is enough, and the challenge names the first.
    pub(super) fn required_permissions(&self, method: &Method, from: Option<&str>) -> Vec<Vec<RequiredPermission>> {
        use Permission::{
            Catalog, Delete, DeletedCatalog, DeletedRead, DeletedRestore, MetadataRead, MetadataWrite, Pull, Push,
        };
        let all = |name: &str, needed: &[Permission]| {
            vec![needed.iter().map(|permission| RequiredPermission::repository(name, *permission)).collect::<Vec<_>>()]
        };
        match self {
            Self::Distribution(api_request::Route::Ping) => vec![Vec::new()],
            Self::Catalog | Self::Distribution(api_request::Route::Catalog) => {
                vec![vec![RequiredPermission::registry(Catalog)]]
            }
            Self::DeletedCatalog => vec![vec![RequiredPermission::registry(DeletedCatalog)]],
            Self::Repository { name }
            | Self::Tags { name }
            | Self::Tag { name, .. }
            | Self::Manifests { name }
            | Self::Manifest { name, .. } => match *method {
                Method::DELETE => all(name, &[Delete]),
                Method::GET | Method::HEAD => all(name, &[MetadataRead]),
                _ => all(name, &[MetadataWrite]),
            },
            Self::DeletedTags { name } | Self::DeletedManifests { name } => all(name, &[DeletedRead]),
            Self::DeletedManifest { name, .. } => all(name, &[DeletedRead, DeletedRestore]),
            Self::Distribution(api_request::Route::Tags { name }) => {
                [all(name, &[MetadataRead]), all(name, &[Pull])].concat()
            }
            Self::Distribution(route) => {
                let name = route.name().unwrap_or_default();
                match *method {
                    Method::GET | Method::HEAD => all(name, &[Pull]),
                    Method::DELETE => all(name, &[Delete]),
                    _ => {
                        let mut needed = all(name, &[Pull, Push]);
                        needed[0].extend(from.map(|from| RequiredPermission::repository(from, Pull)));
                        needed
                    }
                }
            }
        }
    }
}

/// Splits a name, the `_tags` or `_manifests` after it, and the rest.
fn split_path(rest: &str) -> (&str, &str, Option<String>) {
    match rest.split_once("/_") {
        None => (rest, "", None),
        Some((name, after)) => {
            let start = name.len() + 1;
            match after.split_once('/') {
                None => (name, &rest[start..], None),
                Some((kind, last)) => (name, &rest[start..=start + kind.len()], Some(last.to_owned())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_whatever_a_repository_is_called() {
        let name = || "shop/api".to_owned();
        for (path, route) in [
            ("/acr/v1/_catalog", Some(Route::Catalog)),
            ("/acr/v1/shop/api", Some(Route::Repository { name: name() })),
            ("/acr/v1/shop/api/_tags", Some(Route::Tags { name: name() })),
            ("/acr/v1/shop/api/_tags/v1", Some(Route::Tag { name: name(), tag: "v1".into() })),
            ("/acr/v1/shop/api/_tags/_manifests", Some(Route::Tag { name: name(), tag: "_manifests".into() })),
            ("/acr/v1/shop/api/_manifests", Some(Route::Manifests { name: name() })),
            ("/acr/v1/shop/api/_manifests/x:y", Some(Route::Manifest { name: name(), digest: "x:y".into() })),
            ("/acr/v1/_deleted/_catalog", Some(Route::DeletedCatalog)),
            ("/acr/v1/_deleted/shop/api/_tags", Some(Route::DeletedTags { name: name() })),
            ("/acr/v1/shop/api/_what", None),
            ("/acr/v1/_what", None),
            ("/acr/v1/", None),
            ("/acr/v2/shop", None),
            ("/v2/", Some(Route::Distribution(api_request::Route::Ping))),
        ] {
            assert_eq!(Route::parse(path), route, "{path}");
        }
    }
}
