//! Removals after which the use of a repository is unknown: with a tag goes the record of its pushes and pulls.

use jiff::Timestamp;

use super::{App, RunError};
use crate::domain::{Policy, Registry, Repository, Rules};
use crate::engine;
use crate::report::journaled_policies;

impl App {
    /// Fills in when Tagwarden last removed tags from a repository whose use is unknown since. What a policy with `idle`
    /// removed does not count: the repository was idle then, and is judged by the same facts afterwards. Reads nothing
    /// where no such policy asks.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be read.
    pub(super) async fn fill_removal_time(
        &self,
        rules: &Rules,
        registry: &Registry,
        repository: &mut Repository,
        now: Timestamp,
    ) -> Result<(), RunError> {
        let Some(idle) = engine::longest_idle(rules, registry, repository) else { return Ok(()) };
        let since = now.checked_sub(idle).ok();
        let removals = self.store.removals_in(&registry.name, &repository.name, since).await?;
        let is_idle = |policy: &&Policy| policy.select.facts.idle.is_some();
        let idle: Vec<_> = rules.policies.iter().filter(is_idle).map(|policy| &policy.name).collect();
        let counts = removals.iter().filter(|entry| {
            // A signature or the like goes with its image.
            engine::companion_subject(&entry.intent.tag).is_none()
                && !journaled_policies(&entry.intent).iter().any(|policy| idle.contains(&policy))
        });
        let times = counts.filter_map(|entry| entry.outcome.as_ref().map(|(_, at)| *at));
        repository.removed_at = times.max().map(Into::into);
        Ok(())
    }
}
