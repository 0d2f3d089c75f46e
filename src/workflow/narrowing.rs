//! A plan narrowed to some registries, repositories or policies.
//!
//! Everything is read and decided as for a whole plan: what keeps a tag may stand in any repository and any policy, and limits
//! count all removals. Only then is left out what was not asked for. So a narrowed plan never removes a tag that the whole
//! plan would not remove. Reading less would be faster, and would have to prove the same of every rule to come.

use std::collections::BTreeSet;

use super::{RunError, unknown_name};
use crate::domain::{Deletion, Failure, Globs, PolicyName, RefusalScope, RegistryName, RepositoryName};
use crate::engine::RepositoryDecision;
use crate::registry::RegistryHead;
use crate::report::NarrowingView;

/// What a plan is narrowed to. Empty parts mean all.
#[derive(Debug, Clone, Default)]
pub struct Narrowing {
    /// The registries.
    pub registries: BTreeSet<RegistryName>,
    /// The repositories.
    pub repositories: Option<Globs>,
    /// The policies. A removal belongs to the plan if all policies that expire it are among them.
    pub policies: BTreeSet<PolicyName>,
}

impl Narrowing {
    /// Returns true if nothing is left out.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.registries.is_empty() && self.repositories.is_none() && self.policies.is_empty()
    }

    /// Returns true if a repository belongs to the plan.
    pub(super) fn includes(&self, registry: &RegistryName, repository: &RepositoryName) -> bool {
        self.includes_registry(registry)
            && self.repositories.as_ref().is_none_or(|globs| globs.matches(repository.as_str()))
    }

    fn includes_registry(&self, registry: &RegistryName) -> bool {
        self.registries.is_empty() || self.registries.contains(registry)
    }

    fn includes_policies(&self, policies: &[PolicyName]) -> bool {
        self.policies.is_empty() || policies.iter().all(|policy| self.policies.contains(policy))
    }

    /// Returns true if a refusal may cover something in the plan. That of a run always does: it counts all removals.
    pub(super) fn covers(&self, scope: &RefusalScope) -> bool {
        let includes_policy = |policy: &PolicyName| self.policies.is_empty() || self.policies.contains(policy);
        match scope {
            RefusalScope::Run => true,
            RefusalScope::Registry(registry) => self.includes_registry(registry),
            RefusalScope::Policy(policy) => includes_policy(policy),
            RefusalScope::Repository(registry, repository) => self.includes(registry, repository),
            RefusalScope::PolicyInRepository(policy, registry, repository) => {
                includes_policy(policy) && self.includes(registry, repository)
            }
        }
    }

    /// The decision without what other policies let go, and without what depends on that: it is only reported. Returns the
    /// positions of the removals that were enforced before; `None` where all policies are meant.
    pub(super) fn restrict(&self, decision: &RepositoryDecision) -> Option<(RepositoryDecision, Vec<u32>)> {
        if self.policies.is_empty() {
            return None;
        }
        let mut narrowed = decision.clone();
        for removal in &mut narrowed.removals.removals {
            if removal.enforce && !self.includes_policies(&removal.policies) {
                removal.enforce = false;
            }
        }
        narrowed.removals.unenforce_dependents(&[]);
        let left_out = |deletion: &Deletion| deletion.is_deletable() && !self.includes_policies(&deletion.policies);
        let stays: Vec<bool> = narrowed.deletions.eligible.iter().map(left_out).collect();
        let held = decision.deletion_dependencies.held_by(&stays);
        for (deletion, stays) in narrowed.deletions.eligible.iter_mut().zip(stays.iter().zip(held)) {
            deletion.enforce &= !(*stays.0 || stays.1);
        }
        let pairs = decision.removals.removals.iter().zip(&narrowed.removals.removals);
        let changed = (0..).zip(pairs).filter(|(_, (before, after))| before.enforce && !after.enforce);
        let positions = changed.map(|(position, _)| position).collect();
        Some((narrowed, positions))
    }

    /// Makes sure that it names repositories that exist.
    ///
    /// # Errors
    /// [`RunError::Usage`] where the globs, or one of them, match none.
    pub(super) fn verify(&self, heads: &[RegistryHead]) -> Result<(), RunError> {
        let Some(globs) = &self.repositories else { return Ok(()) };
        let heads = || heads.iter().filter(|head| self.includes_registry(&head.registry.name));
        // Where a list could not be read, it may well be there.
        if heads().any(|head| !head.registry.is_complete()) {
            return Ok(());
        }
        let names: Vec<&str> = heads().flat_map(|head| &head.names).map(RepositoryName::as_str).collect();
        let is_empty = |glob: &String| {
            let glob = Globs::new(std::slice::from_ref(glob));
            glob.is_ok_and(|glob| !names.iter().any(|name| glob.matches(name)))
        };
        let inclusions = || globs.written().iter().filter(|glob| !glob.starts_with('!'));
        let written = match inclusions().find(|glob| is_empty(glob)) {
            Some(glob) => glob.clone(),
            None if names.iter().any(|name| globs.matches(name)) => return Ok(()),
            None => globs.written().join(", "),
        };
        match unknown_name("repository", &written, &names) {
            error if names.len() <= 20 => Err(error),
            _ => Err(RunError::Usage(
                Failure::new((), format!("--repository {written}: no repository matches it"))
                    .with_help("`*` stays inside one path segment, `**` does not"),
            )),
        }
    }

    /// It as plans show it; `None` where nothing is left out.
    pub(super) fn view(&self) -> Option<NarrowingView> {
        let globs = self.repositories.as_ref().map(Globs::written).unwrap_or_default();
        (!self.is_whole()).then(|| NarrowingView {
            registries: self.registries.iter().map(ToString::to_string).collect(),
            repositories: globs.to_vec(),
            policies: self.policies.iter().map(ToString::to_string).collect(),
        })
    }
}
