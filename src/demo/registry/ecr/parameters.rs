//! The parameters of operations, with their limits. A parameter that is not published is refused.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::access::Problem;
use crate::domain::{Digest, RepositoryName};

/// `ImageIdentifier`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ImageId {
    pub(super) image_digest: Option<String>,
    pub(super) image_tag: Option<String>,
}

/// Where a page begins, and how long it may be.
#[derive(Debug, Default)]
pub(super) struct PageOf {
    pub(super) after: Option<String>,
    pub(super) most: usize,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct DescribeRepositories {
    pub(super) registry_id: Option<String>,
    pub(super) repository_names: Option<Vec<String>>,
    next_token: Option<String>,
    max_results: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct DescribeImages {
    pub(super) registry_id: Option<String>,
    pub(super) repository_name: String,
    pub(super) image_ids: Option<Vec<ImageId>>,
    next_token: Option<String>,
    max_results: Option<usize>,
    #[serde(default)]
    pub(super) filter: ImagesFilter,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ImagesFilter {
    tag_status: Option<String>,
    image_status: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct BatchGetImage {
    pub(super) registry_id: Option<String>,
    pub(super) repository_name: String,
    pub(super) image_ids: Vec<ImageId>,
    pub(super) accepted_media_types: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct BatchDeleteImage {
    pub(super) registry_id: Option<String>,
    pub(super) repository_name: String,
    pub(super) image_ids: Vec<ImageId>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PutImage {
    pub(super) registry_id: Option<String>,
    pub(super) repository_name: String,
    pub(super) image_manifest: String,
    pub(super) image_manifest_media_type: Option<String>,
    pub(super) image_tag: Option<String>,
    pub(super) image_digest: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct GetLifecyclePolicy {
    pub(super) registry_id: Option<String>,
    pub(super) repository_name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ListImageReferrers {
    pub(super) registry_id: Option<String>,
    pub(super) repository_name: String,
    pub(super) subject_id: SubjectId,
    #[serde(default)]
    pub(super) filter: ReferrersFilter,
    next_token: Option<String>,
    max_results: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SubjectId {
    pub(super) image_digest: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ReferrersFilter {
    pub(super) artifact_types: Option<Vec<String>>,
    artifact_status: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct DescribePullThroughCacheRules {
    pub(super) registry_id: Option<String>,
    ecr_repository_prefixes: Option<Vec<String>>,
    next_token: Option<String>,
    max_results: Option<usize>,
}

impl DescribeRepositories {
    pub(super) fn page(&self) -> Result<PageOf, Problem> {
        page(self.next_token.as_deref(), self.max_results, 1000, self.repository_names.is_some())
    }
}

impl DescribeImages {
    pub(super) fn page(&self) -> Result<PageOf, Problem> {
        page(self.next_token.as_deref(), self.max_results, 1000, self.image_ids.is_some())
    }
}

impl ListImageReferrers {
    pub(super) fn page(&self) -> Result<PageOf, Problem> {
        page(self.next_token.as_deref(), self.max_results, 50, false)
    }
}

impl DescribePullThroughCacheRules {
    pub(super) fn page(&self) -> Result<PageOf, Problem> {
        page(self.next_token.as_deref(), self.max_results, 1000, self.ecr_repository_prefixes.is_some())
    }
}

impl ImagesFilter {
    pub(super) fn shows(&self, is_tagged: bool, is_archived: bool) -> Result<bool, Problem> {
        let by_tag = match self.tag_status.as_deref() {
            None | Some("ANY") => true,
            Some("TAGGED") => is_tagged,
            Some("UNTAGGED") => !is_tagged,
            Some(_) => return Err(invalid("'filter.tagStatus' must be one of TAGGED, UNTAGGED, ANY")),
        };
        Ok(by_tag && shows_status(self.image_status.as_deref(), is_archived)?)
    }
}

impl ReferrersFilter {
    pub(super) fn shows(&self, is_archived: bool) -> Result<bool, Problem> {
        shows_status(self.artifact_status.as_deref(), is_archived)
    }
}

/// Without a filter only active images are shown.
fn shows_status(status: Option<&str>, is_archived: bool) -> Result<bool, Problem> {
    match status {
        None | Some("ACTIVE") => Ok(!is_archived),
        Some("ARCHIVED") => Ok(is_archived),
        Some("ACTIVATING") => Ok(false),
        Some("ANY") => Ok(true),
        Some(_) => Err(invalid("a status must be one of ACTIVE, ARCHIVED, ACTIVATING, ANY")),
    }
}

/// Parses the parameters of an operation.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::new("SerializationException", &error.to_string()))
}

/// Returns the repository of an operation if its name is valid.
pub(super) fn check_repository(name: &str) -> Result<(), Problem> {
    let valid = (2..=256).contains(&name.len()) && name.parse::<RepositoryName>().is_ok();
    if valid { Ok(()) } else { Err(invalid("'repositoryName' failed to satisfy constraint")) }
}

/// Checks that a list of images has one to a hundred.
pub(super) fn check_ids(ids: &[ImageId]) -> Result<(), Problem> {
    if (1..=100).contains(&ids.len()) {
        return Ok(());
    }
    Err(invalid("'imageIds' must have length less than or equal to 100 and greater than or equal to 1"))
}

pub(super) fn parse_digest(text: &str) -> Result<Digest, Problem> {
    text.parse().map_err(|_| invalid("'imageDigest' is not a digest"))
}

pub(super) fn invalid(why: &str) -> Problem {
    Problem::new("InvalidParameterException", &format!("Invalid parameter at {why}"))
}

fn page(token: Option<&str>, most: Option<usize>, limit: usize, is_named: bool) -> Result<PageOf, Problem> {
    if is_named && (token.is_some() || most.is_some()) {
        return Err(invalid("'maxResults' and 'nextToken' cannot be used with names"));
    }
    let most = most.unwrap_or(100.min(limit));
    if !(1..=limit).contains(&most) {
        return Err(invalid(&format!("'maxResults' must be between 1 and {limit}")));
    }
    let after = match token {
        None => None,
        Some(token) => Some(token.strip_prefix("after:").ok_or_else(|| invalid("'nextToken'"))?.to_owned()),
    };
    Ok(PageOf { after, most })
}
