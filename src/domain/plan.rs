//! The removals of a run, and the refusals that block them.

use super::{
    ClockIssue, Coverage, Date, Deletion, Deletions, Digest, Holder, ImageReference, PolicyName, RegistryName,
    RemovalMethod, RemovalObstacle, RepositoryName, SourceName, TagName, TagPosition, UnmatchedRule,
};
use std::sync::Arc;
use std::time::Duration;

/// The removals that follow from the verdicts, and the refusals that block them. Sorted; leaves no choice to whoever
/// applies it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// One for each expired tag, by registry, repository and tag.
    pub removals: Vec<Removal>,
    /// The refusals that block them.
    pub refusals: Vec<Refusal>,
    /// The refusals that a person accepted for this plan: they block nothing.
    pub accepted: Vec<AcceptedRefusal>,
    /// The deletions of manifests that no tag references.
    pub deletions: Deletions,
    /// The rules that match nothing.
    pub coverage: Coverage,
}

/// One tag to be removed, at the digest it must still have then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// Its position in the inventory that it was decided on.
    pub position: TagPosition,
    /// The registry.
    pub registry: RegistryName,
    /// The repository.
    pub repository: RepositoryName,
    /// The tag.
    pub tag: TagName,
    /// The digest it must still name.
    pub digest: Digest,
    /// The first of `policies`.
    pub policy: PolicyName,
    /// All policies that select the tag and do not keep it, sorted. Removals with the same policies share one list.
    pub policies: Arc<[PolicyName]>,
    /// The method of removal.
    pub method: RemovalMethod,
    /// True if all policies that expire it say `enforce`; for a removal by manifest, those of all its tags.
    pub enforce: bool,
    /// The date by which it was decided.
    pub date: Date,
    /// The image that it accompanies, if it is a signature or the like: it may only be removed after that image's tags.
    pub companion_of: Option<Box<Digest>>,
}

/// Why an enforcing run would not carry out what the plan lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The covered removals: none of them is made.
    pub scope: RefusalScope,
    /// The violated limit or condition, with its numbers.
    pub reason: RefusalReason,
    /// True if the removals that would really be enforced violate it by themselves. If false, it only applies once all
    /// policies enforce.
    pub binding: bool,
}

/// A refusal that a person accepted, so that it holds nothing back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedRefusal {
    /// The refusal.
    pub refusal: Refusal,
    /// The person's reason.
    pub reason: String,
}

/// The removals that a refusal covers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefusalScope {
    /// The whole run.
    Run,
    /// Everything in one registry.
    Registry(RegistryName),
    /// Everything that one policy expires.
    Policy(PolicyName),
    /// Everything that one policy expires in one repository.
    PolicyInRepository(PolicyName, RegistryName, RepositoryName),
    /// Everything in one repository.
    Repository(RegistryName, RepositoryName),
}

/// The violated limit or condition, with its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefusalReason {
    /// More removals than `untag` allows.
    Untag {
        /// Removals found.
        found: u32,
        /// Removals allowed.
        allowed: u32,
    },
    /// More of a repository's tags than `percent` allows.
    Percent {
        /// Removals found in the repository.
        found: u32,
        /// Tags in it.
        tags: u32,
        /// Percent allowed.
        allowed: u32,
    },
    /// Fewer tags left than `leave` requires.
    Leave {
        /// Tags that would be left.
        left: u32,
        /// Fewest allowed.
        allowed: u32,
    },
    /// More manifests than `delete` allows.
    Delete {
        /// Manifests found, dependents included.
        found: u32,
        /// Manifests allowed.
        allowed: u32,
    },
    /// The registry cannot remove tags.
    Impossible(RemovalObstacle),
    /// The registry itself deletes untagged manifests before the undo window ends.
    Retention {
        /// Days after which it deletes them; `None` if it was queried and did not report them.
        days: Option<u32>,
        /// The period for which an untag must remain undoable.
        undo_window: Duration,
    },
    /// The registry's handling of untagged manifests could not be read.
    RegistryInfoUnread,
    /// Another registry has the same tags at the same digests, so that both may be one under two names.
    SameContent {
        /// The other registry.
        other: RegistryName,
        /// Repositories with the same content.
        same: u32,
        /// Repositories that both have.
        common: u32,
    },
    /// The registry's clock and the local one differ too much for ages to be trusted.
    ClockSkew {
        /// Seconds by which the registry's is ahead; negative if it is behind.
        ahead_seconds: i64,
    },
    /// A rule that might have protected it matches nothing.
    UnmatchedRule(Box<UnmatchedRule>),
    /// The time by which the run decides cannot be trusted.
    ClockIssue(ClockIssue),
}

/// A record with a tag and a digest that the tag no longer has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// The source that recorded it.
    pub source: SourceName,
    /// The holder of the claim.
    pub holder: Arc<Holder>,
    /// The reference with tag and digest.
    pub reference: ImageReference,
    /// The registry.
    pub registry: RegistryName,
    /// The repository.
    pub repository: RepositoryName,
    /// The tag's current digest; `None` if the tag does not exist or was not read.
    pub actual: Option<Digest>,
}

impl RefusalScope {
    /// Returns true if it covers a removal.
    #[must_use]
    pub fn covers(&self, removal: &Removal) -> bool {
        match self {
            Self::Run => true,
            Self::Registry(registry) => *registry == removal.registry,
            Self::Policy(policy) => removal.policies.contains(policy),
            Self::PolicyInRepository(policy, registry, repository) => {
                removal.policies.contains(policy) && *registry == removal.registry && *repository == removal.repository
            }
            Self::Repository(registry, repository) => {
                *registry == removal.registry && *repository == removal.repository
            }
        }
    }

    /// Returns true if it covers the deletion of an untagged manifest.
    #[must_use]
    pub fn covers_deletion(&self, deletion: &Deletion) -> bool {
        let there = |registry: &RegistryName, repository: &RepositoryName| {
            *registry == deletion.registry && *repository == deletion.repository
        };
        match self {
            Self::Run => true,
            Self::Registry(registry) => *registry == deletion.registry,
            Self::Policy(policy) => deletion.policies.contains(policy),
            Self::PolicyInRepository(policy, registry, repository) => {
                deletion.policies.contains(policy) && there(registry, repository)
            }
            Self::Repository(registry, repository) => there(registry, repository),
        }
    }
}

impl Plan {
    /// Returns the first binding refusal that covers a removal, or `None` if an enforcing run may do it.
    #[must_use]
    pub fn refusal_for(&self, removal: &Removal) -> Option<&Refusal> {
        self.refusals.iter().find(|refusal| refusal.binding && refusal.scope.covers(removal))
    }

    /// Returns the refusal that blocks a deletion: a binding refusal of deletions, or one of removals that covers its
    /// place or policies.
    #[must_use]
    pub fn refusal_for_deletion(&self, deletion: &Deletion) -> Option<&Refusal> {
        self.deletions.refusal_for(deletion, &self.refusals)
    }
}

impl RefusalReason {
    /// Returns the label used in reports and metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Untag { .. } => "untag-limit",
            Self::Percent { .. } => "percent-limit",
            Self::Leave { .. } => "leave-limit",
            Self::Delete { .. } => "delete-limit",
            Self::Impossible(_) => "removal-impossible",
            Self::Retention { .. } => "untagged-retention",
            Self::RegistryInfoUnread => "registry-settings-unread",
            Self::SameContent { .. } => "same-content",
            Self::ClockSkew { .. } | Self::ClockIssue(_) => "clock",
            Self::UnmatchedRule(_) => "protects-nothing",
        }
    }

    /// Returns true for a limit on the number of removals or deletions of a run or a policy. An approved plan met such
    /// limits when it was made; every other reason depends on the current registry and rules.
    #[must_use]
    pub fn is_count_limit(&self) -> bool {
        match self {
            Self::Untag { .. } | Self::Delete { .. } => true,
            Self::Percent { .. }
            | Self::Leave { .. }
            | Self::Impossible(_)
            | Self::Retention { .. }
            | Self::RegistryInfoUnread
            | Self::SameContent { .. }
            | Self::ClockSkew { .. }
            | Self::UnmatchedRule(_)
            | Self::ClockIssue(_) => false,
        }
    }

    /// Returns true if the reason is a clock: the run's own, or the registry's.
    #[must_use]
    pub fn is_clock(&self) -> bool {
        matches!(self, Self::ClockSkew { .. } | Self::ClockIssue(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::UndatedCause;

    fn removal() -> Removal {
        Removal {
            position: TagPosition { registry: 0, repository: 0, tag: 0 },
            registry: "contoso".parse().unwrap(),
            repository: "shop/api".parse().unwrap(),
            tag: "v1".parse().unwrap(),
            digest: Digest::of(b"image"),
            policy: "candidates".parse().unwrap(),
            policies: ["candidates".parse().unwrap(), "nightlies".parse().unwrap()].into(),
            method: RemovalMethod::Untag,
            enforce: true,
            date: Date::Unknown(UndatedCause::Missing),
            companion_of: None,
        }
    }

    /// Coverage is checked for each policy of the removal, and only binding refusals block.
    #[test]
    fn a_binding_refusal_holds_back_what_it_covers() {
        use RefusalScope::{Policy, PolicyInRepository, Registry, Repository, Run};
        let registry = |name: &str| -> RegistryName { name.parse().unwrap() };
        let repository = |name: &str| -> RepositoryName { name.parse().unwrap() };
        let policy = |name: &str| -> PolicyName { name.parse().unwrap() };
        let within =
            |name: &str, host: &str, place: &str| PolicyInRepository(policy(name), registry(host), repository(place));
        for (scope, covers) in [
            (Run, true),
            (Registry(registry("contoso")), true),
            (Registry(registry("fabrikam")), false),
            (Policy(policy("candidates")), true),
            (Policy(policy("nightlies")), true),
            (Policy(policy("releases")), false),
            (within("candidates", "contoso", "shop/api"), true),
            (within("nightlies", "contoso", "shop/api"), true),
            (within("releases", "contoso", "shop/api"), false),
            (within("candidates", "fabrikam", "shop/api"), false),
            (within("candidates", "contoso", "shop/web"), false),
            (Repository(registry("contoso"), repository("shop/api")), true),
            (Repository(registry("contoso"), repository("shop/web")), false),
            (Repository(registry("fabrikam"), repository("shop/api")), false),
        ] {
            for binding in [true, false] {
                let reason = RefusalReason::Untag { found: 2, allowed: 1 };
                let refusal = Refusal { scope: scope.clone(), reason, binding };
                let plan = Plan { refusals: vec![refusal.clone()], ..Plan::default() };
                let expected = (covers && binding).then_some(&refusal);
                assert_eq!(plan.refusal_for(&removal()), expected, "{refusal:?}");
            }
        }
    }

    /// A refusal that is not binding, or covers something else, does not hide a later one.
    #[test]
    fn the_first_binding_refusal_that_covers_is_the_one() {
        let refusal =
            |scope, allowed, binding| Refusal { scope, reason: RefusalReason::Untag { found: 9, allowed }, binding };
        let plan = Plan {
            refusals: vec![
                refusal(RefusalScope::Run, 1, false),
                refusal(RefusalScope::Policy("releases".parse().unwrap()), 2, true),
                refusal(RefusalScope::Policy("nightlies".parse().unwrap()), 3, true),
                refusal(RefusalScope::Registry("contoso".parse().unwrap()), 4, true),
            ],
            ..Plan::default()
        };
        assert_eq!(plan.refusal_for(&removal()), plan.refusals.get(2));
        assert_eq!(Plan::default().refusal_for(&removal()), None);
    }
}
