//! The rules by which GitLab itself deletes: its garbage collection, and the cleanup policies of projects.

use std::sync::Arc;

use futures::{StreamExt, stream};

use super::expiration_policy::unknown;
use super::reader::GitlabReader;
use super::rest::GitlabRest;
use super::token::ProjectName;
use crate::domain::{RegistryInfo, RepositoryName, RetentionDays};
use crate::registry::RegistryError;
use crate::registry::client::auth::TokenScope;

/// The days after which GitLab's online garbage collection deletes a manifest that nothing refers to any more (the default
/// of `gc.reviewafter`, and what GitLab documents).
const COLLECTED_AFTER_DAYS: u32 = 1;

const NOT_ASKED: &str = "whether GitLab's cleanup policies remove tags by themselves is not known: add `api` to the \
                         registry's settings";

impl GitlabReader {
    /// The garbage collection, and the cleanup policies of all projects that repositories are read of.
    ///
    /// # Errors
    /// When the repositories could not be listed.
    pub(super) async fn read_cleanup_rules(&self) -> Result<RegistryInfo, RegistryError> {
        let cleanup_rules = match &self.rest {
            None => vec![NOT_ASKED.into()],
            Some(rest) => self.read_policies(rest).await?,
        };
        Ok(RegistryInfo {
            untagged_retention: RetentionDays::Days(COLLECTED_AFTER_DAYS),
            cleanup_rules,
            ..RegistryInfo::that_keeps_untagged()
        })
    }

    async fn read_policies(&self, rest: &GitlabRest) -> Result<Vec<Arc<str>>, RegistryError> {
        let (projects, unplaced) = self.projects(&self.list_for_policies().await?).await;
        let asked = projects.iter().map(|project| async move {
            match rest.cleanup_policy(project).await {
                Ok(Some(policy)) => policy.describe(&project.path),
                Ok(None) => Some(unknown(&format!("project {}", project.path), "GitLab shows its user none")),
                Err(error) => Some(unknown(&format!("project {}", project.path), &error.chain())),
            }
        });
        let concurrency = self.http.settings.concurrency.max(1);
        let told: Vec<Option<String>> = stream::iter(asked.collect::<Vec<_>>()).buffered(concurrency).collect().await;
        let unplaced = unplaced.iter().map(|(name, why)| unknown(&format!("the project of {name}"), why));
        Ok(told.into_iter().flatten().chain(unplaced).map(Arc::from).collect())
    }

    /// The projects that repositories are in, by their tokens, sorted; and the repositories of which no token says so.
    async fn projects(&self, repositories: &[RepositoryName]) -> (Vec<ProjectName>, Vec<(RepositoryName, String)>) {
        let (mut projects, mut unplaced) = (Vec::<ProjectName>::new(), Vec::new());
        let mut sorted: Vec<&RepositoryName> = repositories.iter().collect();
        sorted.sort();
        for name in sorted {
            if projects.iter().any(|project| project.holds(name)) {
                continue;
            }
            match self.access(name, TokenScope::Pull(name.clone())).await {
                Ok(Some(access)) if access.project.is_some() => projects.extend(access.project),
                Ok(_) => unplaced.push((name.clone(), "its token does not name it".to_owned())),
                Err(error) => unplaced.push((name.clone(), error.chain())),
            }
        }
        (projects, unplaced)
    }
}
