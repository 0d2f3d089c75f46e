//! The routes of Quay's API, with the parameters of each.

use super::access::Problem;
use crate::demo::registry::response::Query;
use crate::domain::RepositoryName;

/// The target of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    Repositories,
    Repository { name: String },
    Tags { name: String },
    Tag { name: String, tag: String },
    Restore { name: String, tag: String },
    Manifest { name: String, digest: String },
    AutoPrune { organization: String },
}

impl Route {
    /// Parses a decoded path, if it is a route.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let path = path.strip_prefix("/api/v1/")?;
        if path == "repository" {
            return Some(Self::Repositories);
        }
        if let Some(rest) = path.strip_prefix("organization/") {
            let organization = rest.trim_end_matches('/').strip_suffix("/autoprunepolicy")?;
            return (!organization.contains('/')).then(|| Self::AutoPrune { organization: organization.to_owned() });
        }
        let rest = path.strip_prefix("repository/")?;
        let (name, route) = if let Some(name) = rest.trim_end_matches('/').strip_suffix("/tag") {
            (name, Self::Tags { name: name.to_owned() })
        } else if let Some((name, tag)) = rest.rsplit_once("/tag/") {
            let (name_owned, parts) = (name.to_owned(), tag.split_once('/'));
            match parts {
                None => (name, Self::Tag { name: name_owned, tag: tag.to_owned() }),
                Some((tag, "restore")) => (name, Self::Restore { name: name_owned, tag: tag.to_owned() }),
                Some(_) => return None,
            }
        } else if let Some((name, digest)) = rest.rsplit_once("/manifest/") {
            (name, Self::Manifest { name: name.to_owned(), digest: digest.to_owned() })
        } else {
            (rest, Self::Repository { name: rest.to_owned() })
        };
        (name.contains('/') && name.parse::<RepositoryName>().is_ok()).then_some(route)
    }

    /// Refuses parameters that are not published for the route.
    pub(super) fn check_parameters(&self, query: &Query) -> Result<(), Problem> {
        let known: &[&str] = match self {
            Self::Repositories => {
                &["namespace", "starred", "public", "last_modified", "popularity", "repo_kind", "next_page"]
            }
            Self::Repository { .. } => &["includeStats", "includeTags"],
            Self::Tags { .. } => &["specificTag", "filter_tag_name", "limit", "page", "onlyActiveTags"],
            Self::Manifest { .. } => &["include_modelcard"],
            Self::Tag { .. } | Self::Restore { .. } | Self::AutoPrune { .. } => &[],
        };
        match query.names().find(|name| !known.contains(name)) {
            Some(name) => Err(Problem::invalid(&format!("Unknown parameter {name}"))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_whatever_a_repository_is_called() {
        let (name, tag) = (|| "a/tag".to_owned(), || "v1".to_owned());
        for (path, expected) in [
            ("/api/v1/repository", Some(Route::Repositories)),
            ("/api/v1/repository/a/tag", None),
            ("/api/v1/repository/a/tag/tag/", Some(Route::Tags { name: name() })),
            ("/api/v1/repository/a/tag/tag/v1", Some(Route::Tag { name: name(), tag: tag() })),
            ("/api/v1/repository/a/tag/tag/v1/restore", Some(Route::Restore { name: name(), tag: tag() })),
            ("/api/v1/repository/a/tag/tag/v1/expire", None),
            ("/api/v1/repository/a/b", Some(Route::Repository { name: "a/b".into() })),
            ("/api/v1/repository/a/b/manifest/x", Some(Route::Manifest { name: "a/b".into(), digest: "x".into() })),
            ("/api/v1/organization/a/autoprunepolicy/", Some(Route::AutoPrune { organization: "a".into() })),
            ("/api/v2/repository", None),
        ] {
            assert_eq!(Route::parse(path), expected, "{path}");
        }
    }
}
