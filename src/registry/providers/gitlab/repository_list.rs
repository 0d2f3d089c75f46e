//! The list of repositories: those of the settings, of a group or project, or all of the registry.

use std::collections::BTreeSet;

use http::StatusCode;
use serde_json::Value;

use super::reader::GitlabReader;
use super::rest::GitlabRest;
use super::wire::{self, Right, WireRepository};
use crate::domain::{Gap, GapTarget, InvalidName, RepositoryName};
use crate::registry::client::auth::TokenScope;
use crate::registry::client::pagination::next_page_link;
use crate::registry::client::{list_gaps, pull};
use crate::registry::{Catalogue, RegistryError, RegistryErrorKind};

/// The most that the registry gives on a page.
const PAGE: usize = 1000;
/// Most pages: a longer list is a loop.
const MAX_PAGES: usize = 20_000;

const ADMINISTRATORS_ONLY: &str = "GitLab's registry lists all repositories to administrators only: write `namespaces` with \
                                   `api`, or name the `repositories`";

impl GitlabReader {
    /// The repositories as the settings have them listed.
    ///
    /// # Errors
    /// When none could be listed. What is missing of the list is a gap of it.
    pub(super) async fn list_repositories(&self) -> Result<Catalogue, RegistryError> {
        let settings = &self.http.settings;
        if !settings.repositories.is_empty() {
            return Ok(Catalogue { repositories: settings.repositories.clone(), gaps: Vec::new() });
        }
        if settings.namespaces.is_empty() {
            return pull::catalogue(&self.http, ADMINISTRATORS_ONLY).await;
        }
        let (mut catalogue, mut errors) = (Catalogue::default(), Vec::new());
        for namespace in &settings.namespaces {
            let paths = match &self.rest {
                Some(rest) => list_by_rest(rest, namespace).await,
                None => self.list_below(namespace).await,
            };
            match paths {
                Ok(paths) => add_paths(namespace, paths, &mut catalogue),
                Err(error) => errors.push(error),
            }
        }
        if let (true, Some(first)) = (catalogue.repositories.is_empty(), errors.first()) {
            return Err(first.clone());
        }
        catalogue.gaps.extend(errors.into_iter().map(|error| error.into_gap(GapTarget::Catalogue)));
        Ok(catalogue)
    }

    /// The paths of the repositories with tags at a path and below it, by the registry's own list. That needs a token for
    /// everything below the path, which GitLab's own token service gives to GitLab alone.
    async fn list_below(&self, namespace: &str) -> Result<Vec<String>, RegistryError> {
        let name: RepositoryName = namespace.parse().map_err(|error: InvalidName| {
            let message = format!("invalid namespace `{namespace}`");
            RegistryError::new(RegistryErrorKind::InvalidSettings, message).caused_by(error)
        })?;
        let path = format!("/gitlab/v1/repository-paths/{name}/repositories/list/");
        let (mut paths, mut last) = (Vec::new(), None::<String>);
        for _ in 0..MAX_PAGES {
            let size = PAGE.to_string();
            let mut query = vec![("n", &*size)];
            query.extend(last.as_deref().map(|last| ("last", last)));
            let response = self.get(TokenScope::Pull(name.clone()), &path, &query).await?;
            match response.status {
                StatusCode::OK => {}
                _ => return Err(wire::refusal(&response, Right::List)),
            }
            let page: Vec<Value> = response.parse_json()?;
            let linked = next_page_link(&response.headers).map_err(|why| response.malformed(why))?.is_some();
            let rows = page.into_iter().map(serde_json::from_value).collect::<Result<Vec<WireRepository>, _>>();
            let rows = rows.map_err(|error| response.unparsable(error))?;
            let next = rows.last().map(|row| row.path.clone());
            paths.extend(rows.into_iter().map(|row| row.path));
            if !linked {
                return Ok(paths);
            }
            if next.is_none() || next <= last {
                return Err(response.malformed("its pages lead in a circle"));
            }
            last = next;
        }
        let message = format!("the list of repositories below {namespace} has no end");
        Err(RegistryError::new(RegistryErrorKind::Malformed, message))
    }
}

/// Those that GitLab is about to delete are left out.
async fn list_by_rest(rest: &GitlabRest, namespace: &str) -> Result<Vec<String>, RegistryError> {
    let rows = rest.repositories(namespace).await?;
    let is_kept = |status: Option<&str>| !matches!(status, Some("delete_scheduled" | "delete_ongoing"));
    Ok(rows.into_iter().filter(|row| is_kept(row.status.as_deref())).map(|row| row.path).collect())
}

fn add_paths(namespace: &str, paths: Vec<String>, catalogue: &mut Catalogue) {
    // Pages by number may show a row twice.
    for path in BTreeSet::from_iter(paths) {
        let is_below = path.strip_prefix(namespace).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        match path.parse::<RepositoryName>() {
            Ok(name) if is_below => catalogue.repositories.push(name),
            Ok(name) => catalogue.gaps.push(foreign_repository(namespace, &name)),
            Err(error) => catalogue.gaps.push(list_gaps::invalid_repository(&path, &error)),
        }
    }
}

fn foreign_repository(namespace: &str, name: &RepositoryName) -> Gap {
    let message = format!("the list of {namespace} names {name}, which is not below it");
    RegistryError::new(RegistryErrorKind::Malformed, message).into_gap(GapTarget::Catalogue)
}
