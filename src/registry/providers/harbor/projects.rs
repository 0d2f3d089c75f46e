//! Projects: which there are, and what the account may do in them.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};
use http::StatusCode;

use super::api::HarborReader;
use super::keyset_list::KeysetList;
use super::wire::{self, Right, WirePermission, WireProject, WireSystemInfo};
use super::{API, project_and_rest};
use crate::domain::{RemovalObstacle, RepositoryName};
use crate::registry::client::auth::TokenScope;
use crate::registry::{RegistryError, RegistryErrorKind};

/// Most names of projects in one question, so that its address stays short.
const MAX_NAMES: usize = 50;

/// The permissions of an account in a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Permissions(BTreeSet<(String, String)>);

impl Permissions {
    pub(super) fn allow(&self, resource: &str, action: &str) -> bool {
        self.0.contains(&(resource.to_owned(), action.to_owned()))
    }

    /// Returns the first right that a removal needs and the account does not have: to remove the tag, and to read the
    /// manifest that undoes it.
    fn missing_for_removal(&self) -> Option<&'static str> {
        let needed = [("tag", "delete", "`Delete` of `Tag`"), ("repository", "pull", "`Pull` of `Repository`")];
        needed.into_iter().find(|(resource, action, _)| !self.allow(resource, action)).map(|(_, _, words)| words)
    }
}

impl HarborReader {
    /// The projects of those names, or all that the account may see.
    ///
    /// # Errors
    /// When they could not be read.
    pub(super) async fn projects(&self, names: Option<&BTreeSet<&str>>) -> Result<Vec<WireProject>, RegistryError> {
        let conditions: Vec<Option<String>> = match names {
            None => vec![None],
            Some(names) => {
                let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
                names.chunks(MAX_NAMES).map(|names| Some(format!("name={{{}}}", names.join(" ")))).collect()
            }
        };
        let mut found = Vec::new();
        for condition in conditions {
            let (path, key) = (format!("{API}/projects"), ("project_id", "project_id"));
            let list = KeysetList { path, key, condition, parameters: &[("with_detail", "true")], repository: None };
            for row in self.read_list(&list).await?.unwrap_or_default() {
                let project = serde_json::from_value::<WireProject>(row).map_err(|error| {
                    let message = "the list of projects has one that cannot be understood".to_owned();
                    RegistryError::new(RegistryErrorKind::Malformed, message)
                        .caused_by(crate::domain::Cause::foreign(error))
                })?;
                found.push(project);
            }
        }
        Ok(found)
    }

    /// The projects that the settings name; `None` if they name none.
    pub(super) fn named_projects(&self) -> Option<BTreeSet<&str>> {
        let settings = &self.http.settings;
        let named = settings.namespaces.iter().map(String::as_str);
        let of_repositories = settings.repositories.iter().map(|name| project_and_rest(name).0);
        let named: BTreeSet<&str> = named.chain(of_repositories).collect();
        (!named.is_empty()).then_some(named)
    }

    /// Reads the permissions of the account in a project.
    ///
    /// # Errors
    /// When Harbor did not say.
    pub(super) async fn permissions(&self, project: &WireProject) -> Result<Permissions, RegistryError> {
        let (path, scope) = (format!("{API}/users/current/permissions"), format!("/project/{}", project.project_id));
        let response = self.get(&TokenScope::Catalogue, &path, &[("scope", &scope), ("relative", "true")]).await?;
        if response.status != StatusCode::OK {
            return Err(wire::refusal(&response, Right::Read));
        }
        let listed: Vec<WirePermission> = response.parse_json::<Option<_>>()?.unwrap_or_default();
        Ok(Permissions(listed.into_iter().map(|one| (one.resource, one.action)).collect()))
    }

    /// Asks whether Harbor knows the account. A stranger, as which it takes an account that expired, is shown the public
    /// repositories as if they were all.
    ///
    /// # Errors
    /// When it does not, or did not say.
    pub(super) async fn require_account(&self) -> Result<(), RegistryError> {
        let path = format!("{API}/users/current/permissions");
        let response = self.get(&TokenScope::Catalogue, &path, &[]).await?;
        if response.status == StatusCode::OK { Ok(()) } else { Err(wire::refusal(&response, Right::Read)) }
    }

    /// Returns true if the whole system is read-only, as far as Harbor says.
    async fn is_read_only(&self) -> bool {
        let Ok(response) = self.get(&TokenScope::Catalogue, &format!("{API}/systeminfo"), &[]).await else {
            return false;
        };
        let info = response.status.is_success().then(|| response.parse_json::<WireSystemInfo>().ok()).flatten();
        info.is_some_and(|info| info.read_only == Some(true))
    }

    /// Returns what keeps this account from removing tags, for each of the repositories in which something does.
    pub(super) async fn find_obstacles(
        &self,
        repositories: &[RepositoryName],
    ) -> BTreeMap<RepositoryName, RemovalObstacle> {
        let mut by_project: BTreeMap<&str, Vec<&RepositoryName>> = BTreeMap::new();
        for name in repositories {
            by_project.entry(project_and_rest(name).0).or_default().push(name);
        }
        if by_project.is_empty() {
            return BTreeMap::new();
        }
        let everywhere = |obstacle: RemovalObstacle| {
            repositories.iter().map(|name| (name.clone(), obstacle.clone())).collect::<BTreeMap<_, _>>()
        };
        if self.is_read_only().await {
            let message =
                "Harbor is in read-only mode (Configuration, System Settings); nothing can be removed meanwhile";
            return everywhere(RemovalObstacle::Denied { message: message.to_owned() });
        }
        let projects = match self.projects(Some(&by_project.keys().copied().collect())).await {
            Ok(projects) => projects,
            Err(error) => return everywhere(RemovalObstacle::CheckFailed { message: error.chain() }),
        };
        let asked = by_project.into_iter().map(|(name, within)| {
            let project = projects.iter().find(|project| project.name == name);
            async move { (self.obstacle(name, project).await, within) }
        });
        let asked: Vec<_> = asked.collect();
        let found: Vec<_> = stream::iter(asked).buffer_unordered(self.http.settings.concurrency.max(1)).collect().await;
        let each = found.into_iter().filter_map(|(obstacle, within)| Some((obstacle?, within)));
        each.flat_map(|(obstacle, within)| within.into_iter().map(move |name| (name.clone(), obstacle.clone())))
            .collect()
    }

    /// Returns what keeps this account from removing tags of a project.
    async fn obstacle(&self, name: &str, project: Option<&WireProject>) -> Option<RemovalObstacle> {
        let Some(project) = project else {
            let message = format!("Harbor shows no project {name} to this account, so nothing is removed from it");
            return Some(RemovalObstacle::Denied { message });
        };
        if project.is_proxy_cache() {
            let message = format!(
                "project {name} is a proxy cache: what is pulled through it comes back with the next pull, and Harbor puts no \
                 tag back there by hand (405), so a removal could not be undone"
            );
            return Some(RemovalObstacle::Denied { message });
        }
        match self.permissions(project).await {
            Ok(permissions) => permissions.missing_for_removal().map(|missing| RemovalObstacle::Denied {
                message: format!("the account may not remove tags from project {name}: it needs {missing} there"),
            }),
            Err(error) if error.kind == RegistryErrorKind::Denied => {
                Some(RemovalObstacle::Denied { message: error.chain() })
            }
            Err(error) => Some(RemovalObstacle::CheckFailed { message: error.chain() }),
        }
    }
}
