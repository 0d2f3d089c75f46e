//! The repositories that policies select by `idle`, or may select.

use jiff::{SignedDuration, Timestamp};

use super::repository_use::{Idleness, RepositoryUse, repository_use};
use super::select::applies_to;
use crate::domain::{Policy, PolicyName, Registry, Repository, Rules, UnknownFact};

/// A repository that a policy with `idle` selects, or may select for all that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdleRepository {
    /// The policy.
    pub policy: PolicyName,
    /// The time for which nothing may have been pushed or pulled, as written.
    pub idle: String,
    /// The unknown fact for which its tags are retained; `None` if it was certainly idle.
    pub unknown: Option<UnknownFact>,
    /// Its last use.
    pub usage: RepositoryUse,
}

/// Returns the policies with `idle` for which a repository is idle, or may be; by name. An empty repository is neither.
#[must_use]
pub fn idle_for(rules: &Rules, registry: &Registry, repository: &Repository, now: Timestamp) -> Vec<IdleRepository> {
    let applies = |policy: &&Policy| policy.select.facts.idle.is_some() && applies_to(policy, registry, repository);
    let mut policies: Vec<&Policy> = rules.policies.iter().filter(applies).collect();
    if policies.is_empty() || repository.tags.is_empty() {
        return Vec::new();
    }
    policies.sort_by(|a, b| a.name.cmp(&b.name));
    let usage = repository_use(repository, now);
    let found = policies.into_iter().filter_map(|policy| {
        let idle = policy.select.facts.idle.as_ref()?;
        let unknown = match usage.idleness(idle.duration, now) {
            Idleness::Used => return None,
            Idleness::Idle => None,
            Idleness::Unknown(fact) => Some(fact),
        };
        Some(IdleRepository { policy: policy.name.clone(), idle: idle.written.to_string(), unknown, usage })
    });
    found.collect()
}

/// Returns the longest time that a policy with `idle` asks for in a repository, or `None` if there is none.
#[must_use]
pub fn longest_idle(rules: &Rules, registry: &Registry, repository: &Repository) -> Option<SignedDuration> {
    let applies = |policy: &&Policy| applies_to(policy, registry, repository);
    let spans = rules.policies.iter().filter(applies).filter_map(|policy| policy.select.facts.idle.as_ref());
    spans.map(|span| span.duration).max()
}
