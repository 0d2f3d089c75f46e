//! The part of a registry's settings that depends on its product.

use secrecy::SecretString;
use url::Url;

use crate::domain::{RemovalMethod, RepositoryName};
use crate::registry::{Auth, CanUntag};

/// The settings of a registry that its product may refuse, as far as they could be read.
#[derive(Debug, Clone, Copy, Default)]
pub struct SettingsDraft<'a> {
    /// `endpoint`; `None` if it is missing or invalid.
    pub endpoint: Option<&'a Url>,
    /// `aliases`, empty if it is not written; `None` if it is invalid.
    pub aliases: Option<&'a [String]>,
    /// `auth`; `None` if it is invalid.
    pub auth: Option<&'a Auth>,
    /// `removal`; `None` if it is invalid.
    pub removal: Option<RemovalMethod>,
    /// `can_untag`; unknown if it is not written or invalid.
    pub can_untag: CanUntag,
    /// `accept` has `untagged-retention`.
    pub accepts_retention: bool,
    /// `bytes`; `None` if it is not written or invalid.
    pub exact_bytes: Option<bool>,
    /// The first of `subscription` and `resource_group` that is written.
    pub azure_key: Option<&'static str>,
    /// `namespaces`, empty if it is not written; `None` if it is invalid.
    pub namespaces: Option<&'a [String]>,
    /// `repositories`, empty if it is not written; `None` if it is invalid.
    pub repositories: Option<&'a [RepositoryName]>,
    /// `api` is written.
    pub has_api: bool,
}

/// The address and the token of a product's API that is not the registry's own: the setting `api`.
#[derive(Debug, Clone)]
pub struct ProductApi {
    /// Its address, with a path where the product is served below one.
    pub endpoint: Url,
    /// The token to read it with.
    pub token: SecretString,
}

/// Returns the refusals of what only products have that are more than a registry: `namespaces` and `api`.
pub(super) fn refuse_product_settings(draft: &SettingsDraft<'_>) -> impl Iterator<Item = SettingProblem> {
    refuse_namespaces(draft).into_iter().chain(refuse_api(draft))
}

/// Returns the refusal of `api`, for every product that has no other API than the registry's.
pub(super) fn refuse_api(draft: &SettingsDraft<'_>) -> Option<SettingProblem> {
    draft.has_api.then(|| {
        SettingProblem::new(
            "api",
            "only Artifactory, GitLab, GitHub and Nexus have an API besides that of their registry",
            "leave `api` out",
        )
    })
}

/// Returns the refusal of `namespaces`, for every product that lists its repositories without them.
fn refuse_namespaces(draft: &SettingsDraft<'_>) -> Option<SettingProblem> {
    draft.namespaces.is_some_and(|names| !names.is_empty()).then(|| {
        SettingProblem::new(
            "namespaces",
            "only Artifact Registry, Artifactory, Docker Hub, GitHub, GitLab, Harbor, Nexus and Quay list their repositories by \
             namespace",
            "leave `namespaces` out; policies select repositories, and `repositories` names single ones",
        )
    })
}

/// Returns the refusals of names that no registry with namespaces has: a repository without one, or repositories beside the
/// namespaces that list them.
pub(super) fn check_namespaced_names(draft: &SettingsDraft<'_>) -> Vec<SettingProblem> {
    let mut problems = Vec::new();
    if let (Some([_, ..]), Some([_, ..])) = (draft.namespaces, draft.repositories) {
        problems.push(SettingProblem::new(
            "namespaces",
            "`namespaces` lists repositories, and `repositories` names them",
            "leave one of the two out",
        ));
    }
    let names = draft.repositories.unwrap_or_default().iter().map(RepositoryName::as_str);
    problems.extend(names.filter(|name| !name.contains('/')).take(1).map(|name| {
        SettingProblem::new(
            "repositories",
            format!("`{name}` has no namespace"),
            format!("write it as in image references, such as \"contoso/{name}\""),
        )
    }));
    problems
}

/// A setting that a product refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingProblem {
    /// The key of the setting.
    pub key: &'static str,
    /// The problem.
    pub message: String,
    /// The way out.
    pub help: Option<String>,
}

impl SettingProblem {
    /// A problem and the way out of it.
    #[must_use]
    pub fn new(key: &'static str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { key, message: message.into(), help: Some(help.into()) }
    }
}
