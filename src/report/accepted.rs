//! Refusals that a person accepted, as plans and records show them.

use serde::{Deserialize, Serialize};

use super::{PlanDocument, RefusalView};
use crate::domain::{ACCEPTABLE, Acceptance, AcceptanceScope, AcceptedBound, PolicyName, RefusalScope};

/// A refusal that a person accepted for one plan, under its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptedView {
    /// The kind of the refusal, such as `percent-limit`.
    pub kind: String,
    /// The policy, if it is a policy's.
    pub policy: Option<String>,
    /// The registry, if it is a registry's or a repository's.
    pub registry: Option<String>,
    /// The repository, if it is a repository's.
    pub repository: Option<String>,
    /// The refusal in words.
    pub message: String,
    /// The reason for which it was accepted.
    pub reason: String,
    /// Who made the plan.
    pub by: String,
    /// The extent of what was accepted: `apply` accepts no more.
    pub extent: ExtentView,
}

/// The extent of a refusal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtentView {
    /// The removals or deletions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<u32>,
    /// The tags of the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<u32>,
    /// The tags that would be left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<u32>,
    /// The rule that matches nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}

impl AcceptedView {
    /// What a person accepted, for the decision right before the removals; `None` where it is none that can be accepted.
    #[must_use]
    pub fn acceptance(&self) -> Option<Acceptance> {
        let kind = ACCEPTABLE.into_iter().find(|kind| *kind == self.kind)?;
        let policy = match &self.policy {
            Some(policy) => Some(policy.parse::<PolicyName>().ok()?),
            None => None,
        };
        let scope = match (policy, &self.registry, &self.repository) {
            (None, None, None) => RefusalScope::Run,
            (Some(policy), None, None) => RefusalScope::Policy(policy),
            (Some(policy), Some(registry), Some(repository)) => {
                RefusalScope::PolicyInRepository(policy, registry.parse().ok()?, repository.parse().ok()?)
            }
            (None, Some(registry), None) => RefusalScope::Registry(registry.parse().ok()?),
            (None, Some(registry), Some(repository)) => {
                RefusalScope::Repository(registry.parse().ok()?, repository.parse().ok()?)
            }
            _ => return None,
        };
        let ExtentView { found, tags, left, rule } = &self.extent;
        let bound = match (found, tags, left, rule) {
            (Some(found), None, None, None) => AcceptedBound::Count(*found),
            (Some(found), Some(tags), None, None) => AcceptedBound::Share { found: *found, tags: *tags },
            (None, None, Some(left), None) => AcceptedBound::Left(*left),
            (None, None, None, Some(rule)) => AcceptedBound::Rule(rule.clone()),
            _ => return None,
        };
        Some(Acceptance { kind, scope: AcceptanceScope::Exact(scope), reason: self.reason.clone(), bound: Some(bound) })
    }

    /// Returns the value of `--accept` for it, such as `percent-limit@contoso/shop/api`.
    #[must_use]
    pub fn flag(&self) -> String {
        accept_flag(&self.kind, [&self.policy, &self.registry, &self.repository])
    }

    /// Returns it in one line.
    #[must_use]
    pub fn sentence(&self) -> String {
        format!("{}; accepted by {}: {}", self.message, self.by, self.reason)
    }
}

/// Returns the values of `--accept` for the refusals of a plan that can be accepted: of all, or of the binding ones.
pub fn acceptable_refusals(document: &PlanDocument, only_binding: bool) -> impl Iterator<Item = String> + '_ {
    let refusals = document.refusals.iter().chain(&document.deletions.refusals);
    let acceptable = |refusal: &&RefusalView| ACCEPTABLE.contains(&refusal.kind.as_str());
    let refusals = refusals.filter(acceptable).filter(move |refusal| refusal.binding || !only_binding);
    refusals.map(|one| accept_flag(&one.kind, [&one.policy, &one.registry, &one.repository]))
}

fn accept_flag(kind: &str, place: [&Option<String>; 3]) -> String {
    let scope = match place {
        [_, Some(registry), Some(repository)] => format!("{registry}/{repository}"),
        [Some(policy), ..] => format!("policy:{policy}"),
        [None, Some(registry), None] => registry.clone(),
        [None, None, _] => "run".to_owned(),
    };
    format!("{kind}@{scope}")
}
