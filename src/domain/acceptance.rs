//! Refusals that a person accepts for one plan, each with a reason.
//!
//! Only what a person can judge by looking at the plan can be accepted: how much is removed, and that a rule protects nothing.
//! A clock that is wrong, missing rights, a registry's own retention and missing evidence make the plan itself doubtful.

use std::fmt;

use super::{
    AcceptedRefusal, PolicyName, Refusal, RefusalReason, RefusalScope, RegistryName, RepositoryName, RuleId,
    UnmatchedRule,
};

/// The labels of the refusals that can be accepted (see [`RefusalReason::label`]).
pub const ACCEPTABLE: [&str; 5] = ["untag-limit", "percent-limit", "leave-limit", "delete-limit", "protects-nothing"];

/// What a person accepts in a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acceptance {
    /// The label of the refusals, one of [`ACCEPTABLE`].
    pub kind: &'static str,
    /// The refusals of that kind.
    pub scope: AcceptanceScope,
    /// The person's reason.
    pub reason: String,
    /// The most that is accepted, where it was seen in a plan already; `None` while the plan is being made.
    pub bound: Option<AcceptedBound>,
}

/// The refusals that are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AcceptanceScope {
    /// All.
    Any,
    /// That of the whole run.
    Run,
    /// All in one registry.
    Registry(RegistryName),
    /// All in one repository.
    Repository(RegistryName, RepositoryName),
    /// All of one policy.
    Policy(PolicyName),
    /// Exactly those of this scope.
    Exact(RefusalScope),
}

/// The extent of a refusal that was accepted. What would be worse now was never accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AcceptedBound {
    /// At most so many removals or deletions.
    Count(u32),
    /// At most so many removals of so many tags.
    Share {
        /// The removals.
        found: u32,
        /// The tags.
        tags: u32,
    },
    /// At least so many tags left.
    Left(u32),
    /// This rule matches nothing.
    Rule(String),
}

impl AcceptanceScope {
    /// Returns true if everything that `other` accepts exactly is accepted by this, too.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        matches!(other, Self::Exact(scope) if self.covers(scope))
    }

    fn covers(&self, scope: &RefusalScope) -> bool {
        use RefusalScope::{PolicyInRepository, Registry, Repository};
        match self {
            Self::Any => true,
            Self::Run => *scope == RefusalScope::Run,
            Self::Exact(exact) => exact == scope,
            Self::Policy(policy) => match scope {
                RefusalScope::Policy(other) | PolicyInRepository(other, ..) => policy == other,
                RefusalScope::Run | Registry(_) | Repository(..) => false,
            },
            Self::Registry(registry) => match scope {
                Registry(other) | Repository(other, _) | PolicyInRepository(_, other, _) => registry == other,
                RefusalScope::Run | RefusalScope::Policy(_) => false,
            },
            Self::Repository(registry, repository) => match scope {
                Repository(other, name) | PolicyInRepository(_, other, name) => (registry, repository) == (other, name),
                RefusalScope::Run | Registry(_) | RefusalScope::Policy(_) => false,
            },
        }
    }
}

impl fmt::Display for AcceptanceScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("everything"),
            Self::Run | Self::Exact(RefusalScope::Run) => f.write_str("run"),
            Self::Registry(registry) | Self::Exact(RefusalScope::Registry(registry)) => write!(f, "{registry}"),
            Self::Repository(registry, repository)
            | Self::Exact(
                RefusalScope::Repository(registry, repository)
                | RefusalScope::PolicyInRepository(_, registry, repository),
            ) => write!(f, "{registry}/{repository}"),
            Self::Policy(policy) | Self::Exact(RefusalScope::Policy(policy)) => write!(f, "policy:{policy}"),
        }
    }
}

impl AcceptedBound {
    /// The extent of a refusal; `None` where it cannot be accepted.
    #[must_use]
    pub fn of(reason: &RefusalReason) -> Option<Self> {
        match reason {
            RefusalReason::Untag { found, .. } | RefusalReason::Delete { found, .. } => Some(Self::Count(*found)),
            RefusalReason::Percent { found, tags, .. } => Some(Self::Share { found: *found, tags: *tags }),
            RefusalReason::Leave { left, .. } => Some(Self::Left(*left)),
            RefusalReason::UnmatchedRule(unmatched) => Some(Self::Rule(rule_text(unmatched))),
            RefusalReason::Impossible(_)
            | RefusalReason::Retention { .. }
            | RefusalReason::RegistryInfoUnread
            | RefusalReason::SameContent { .. }
            | RefusalReason::ClockSkew { .. }
            | RefusalReason::ClockIssue(_) => None,
        }
    }

    /// Returns true if this covers `now`: nothing in it has grown.
    fn allows(&self, now: &Self) -> bool {
        match (self, now) {
            (Self::Count(then), Self::Count(now)) => now <= then,
            (Self::Share { found: then, tags: of_then }, Self::Share { found: now, tags: of_now }) => {
                u64::from(*now) * u64::from(*of_then) <= u64::from(*then) * u64::from(*of_now)
            }
            (Self::Left(then), Self::Left(now)) => now >= then,
            (Self::Rule(then), Self::Rule(now)) => then == now,
            _ => false,
        }
    }
}

fn rule_text(unmatched: &UnmatchedRule) -> String {
    let RuleId { policy, key, written } = &unmatched.rule;
    format!("{policy}: {}: {}", key.label(), &**written)
}

impl Acceptance {
    /// Returns true if it accepts this refusal.
    #[must_use]
    pub fn accepts(&self, refusal: &Refusal) -> bool {
        let Some(now) = AcceptedBound::of(&refusal.reason) else { return false };
        self.kind == refusal.reason.label()
            && self.scope.covers(&refusal.scope)
            && self.bound.as_ref().is_none_or(|bound| bound.allows(&now))
    }

    /// Takes the refusals out of a list that some acceptance covers.
    #[must_use]
    pub fn take(acceptances: &[Self], refusals: &mut Vec<Refusal>) -> Vec<AcceptedRefusal> {
        let mut accepted = Vec::new();
        refusals.retain(|refusal| {
            let found = acceptances.iter().find(|one| one.accepts(refusal));
            accepted.extend(found.map(|one| AcceptedRefusal { refusal: refusal.clone(), reason: one.reason.clone() }));
            found.is_none()
        });
        accepted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(reason: RefusalReason) -> Refusal {
        let scope = RefusalScope::Repository("contoso".parse().unwrap(), "shop/api".parse().unwrap());
        Refusal { scope, reason, binding: true }
    }

    /// What is worse than what a person saw was never accepted.
    #[test]
    fn a_bound_allows_the_same_and_less() {
        let percent = |found, tags| RefusalReason::Percent { found, tags, allowed: 50 };
        let leave = |left| RefusalReason::Leave { left, allowed: 2 };
        let untag = |found| RefusalReason::Untag { found, allowed: 1 };
        for (then, now, accepted) in [
            (percent(8, 10), percent(8, 10), true),
            (percent(8, 10), percent(7, 10), true),
            (percent(8, 10), percent(8, 11), true),
            (percent(8, 10), percent(8, 9), false),
            (percent(8, 10), percent(9, 10), false),
            (percent(u32::MAX, u32::MAX), percent(u32::MAX, u32::MAX), true),
            (leave(1), leave(1), true),
            (leave(1), leave(0), false),
            (untag(9), untag(9), true),
            (untag(9), untag(10), false),
            (untag(9), RefusalReason::Delete { found: 9, allowed: 1 }, false),
            (untag(9), RefusalReason::RegistryInfoUnread, false),
        ] {
            let acceptance = Acceptance {
                kind: ACCEPTABLE.into_iter().find(|kind| *kind == then.label()).unwrap(),
                scope: AcceptanceScope::Any,
                reason: "first cleaning".into(),
                bound: AcceptedBound::of(&then),
            };
            assert_eq!(acceptance.accepts(&refusal(now.clone())), accepted, "{then:?} {now:?}");
        }
    }

    #[test]
    fn a_scope_covers_what_stands_below_it() {
        let registry: RegistryName = "contoso".parse().unwrap();
        let repository: RepositoryName = "shop/api".parse().unwrap();
        let policy: PolicyName = "old".parse().unwrap();
        let all = [
            RefusalScope::Run,
            RefusalScope::Registry(registry.clone()),
            RefusalScope::Policy(policy.clone()),
            RefusalScope::PolicyInRepository(policy.clone(), registry.clone(), repository.clone()),
            RefusalScope::Repository(registry.clone(), repository.clone()),
        ];
        for (scope, covered) in [
            (AcceptanceScope::Any, [true; 5]),
            (AcceptanceScope::Run, [true, false, false, false, false]),
            (AcceptanceScope::Registry(registry.clone()), [false, true, false, true, true]),
            (AcceptanceScope::Registry("other".parse().unwrap()), [false; 5]),
            (AcceptanceScope::Policy(policy), [false, false, true, true, false]),
            (AcceptanceScope::Repository(registry, repository), [false, false, false, true, true]),
            (AcceptanceScope::Exact(all[3].clone()), [false, false, false, true, false]),
        ] {
            assert_eq!(all.each_ref().map(|one| scope.covers(one)), covered, "{scope}");
        }
    }
}
