//! Owners of packages, organizations and users, and the packages that they have.

use http::StatusCode;
use http::header::LINK;
use serde_json::Value;

use super::api::GhcrApi;
use super::versions::PAGE;
use super::wire::{Right, WireOwner, WirePackage};
use crate::domain::{GapTarget, InvalidName, RepositoryName};
use crate::registry::client::list_gaps;
use crate::registry::client::pagination::{next_page_link, next_page_url};
use crate::registry::{Catalogue, RegistryError, RegistryErrorKind};

/// Most pages of a list: GitHub gives no more than ten thousand rows of packages, and versions are not as many.
const MAX_PAGES: usize = 20_000;

impl GhcrApi {
    /// Returns the path of an owner: `/orgs/NAME`, `/users/NAME`, or `/user` where the token is that user's own, who sees
    /// more than others.
    ///
    /// # Errors
    /// When GitHub does not say what the owner is.
    pub(super) async fn owner_path(&self, owner: &str) -> Result<String, RegistryError> {
        // Held meanwhile, so that an owner is asked for once.
        let mut known = self.shared.owners.lock().await;
        if let Some(path) = known.get(owner) {
            return Ok(path.clone());
        }
        let found: WireOwner = self.get_json(&format!("/users/{owner}"), Right::List).await?;
        let path = match found.kind.as_str() {
            "Organization" => format!("/orgs/{owner}"),
            _ if self.is_own(owner).await? => "/user".to_owned(),
            _ => format!("/users/{owner}"),
        };
        known.insert(owner.to_owned(), path.clone());
        Ok(path)
    }

    /// Returns true if the token is that user's. A workflow's token is nobody's, which GitHub answers with 403.
    async fn is_own(&self, owner: &str) -> Result<bool, RegistryError> {
        let response = self.fetch("/user", &[]).await?;
        match response.status {
            StatusCode::OK => Ok(response.parse_json::<WireOwner>()?.login.eq_ignore_ascii_case(owner)),
            StatusCode::FORBIDDEN | StatusCode::NOT_FOUND if !response.hits_github_limit() => Ok(false),
            _ => Err(super::wire::refusal(&response, Right::List)),
        }
    }

    /// Returns the packages of the settings, or else those of their owners.
    ///
    /// # Errors
    /// When none could be listed. What is missing of the list is a gap of it.
    pub(super) async fn list_repositories(&self) -> Result<Catalogue, RegistryError> {
        let settings = &self.settings;
        let mut catalogue = Catalogue { repositories: settings.repositories.clone(), gaps: Vec::new() };
        if !catalogue.repositories.is_empty() {
            return Ok(catalogue);
        }
        let mut errors = Vec::new();
        for owner in &settings.namespaces {
            if let Err(error) = self.list_packages(&owner.to_ascii_lowercase(), &mut catalogue).await {
                errors.push(error);
            }
        }
        if let (true, Some(first)) = (catalogue.repositories.is_empty(), errors.first()) {
            return Err(first.clone());
        }
        catalogue.gaps.extend(errors.into_iter().map(|error| error.into_gap(GapTarget::Catalogue)));
        catalogue.repositories.sort();
        catalogue.repositories.dedup();
        Ok(catalogue)
    }

    async fn list_packages(&self, owner: &str, catalogue: &mut Catalogue) -> Result<(), RegistryError> {
        let path = format!("{}/packages", self.owner_path(owner).await?);
        for row in self.list(&path, &[("package_type", "container")], Right::List).await? {
            let shown = row["name"].as_str().map_or_else(|| row.to_string(), str::to_owned);
            let named = serde_json::from_value::<WirePackage>(row).map_err(|why| why.to_string()).and_then(|row| {
                let name = format!("{owner}/{}", row.name).parse::<RepositoryName>();
                name.map(|name| (name, row.version_count)).map_err(|why: InvalidName| why.to_string())
            });
            match named {
                Ok((name, count)) => {
                    self.shared.versions.note_count(&name, count);
                    catalogue.repositories.push(name);
                }
                Err(why) => catalogue.gaps.push(list_gaps::invalid_repository(&shown, &why)),
            }
        }
        Ok(())
    }

    /// Reads all pages of a list, one after the other. After a full page without any link, the next one is asked for: a
    /// proxy may have dropped them.
    ///
    /// # Errors
    /// When one of them could not be read, or the list does not end.
    pub(super) async fn list(
        &self,
        path: &str,
        query: &[(&str, &str)],
        right: Right,
    ) -> Result<Vec<Value>, RegistryError> {
        let size = PAGE.to_string();
        let query: Vec<(&str, &str)> = query.iter().copied().chain([("per_page", size.as_str())]).collect();
        let start = self.request(path, &query).url;
        let (mut response, mut at) = (self.get(path, &query, right).await?, start.clone());
        let mut rows: Vec<Value> = Vec::new();
        for number in 1..=MAX_PAGES {
            let page = response.parse_json::<Vec<Value>>()?;
            let may_have_lost_links = page.len() as u64 == PAGE && !response.headers.contains_key(LINK);
            if may_have_lost_links && rows.ends_with(&page) {
                return Err(response.malformed("page after page is the same"));
            }
            rows.extend(page);
            let next = match next_page_link(&response.headers).map_err(|why| response.malformed(why))? {
                Some(link) => next_page_url(&start, &link).map_err(|why| response.malformed(why))?,
                None if may_have_lost_links => {
                    let mut next = start.clone();
                    next.query_pairs_mut().append_pair("page", &(number + 1).to_string());
                    next
                }
                None => return Ok(rows),
            };
            if next == at {
                return Err(response.malformed("its `Link` leads in a circle"));
            }
            let pairs: Vec<(String, String)> = next.query_pairs().into_owned().collect();
            let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (&**name, &**value)).collect();
            response = self.get(path, &pairs, right).await?;
            at = next;
        }
        let message = format!("GET {start}: the list has no end");
        Err(RegistryError::new(RegistryErrorKind::Malformed, message))
    }
}
