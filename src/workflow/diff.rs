//! What an edit of policies changes: the same facts, decided about by the old policies and by the new ones.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::evidence::Recording;
use super::{App, RunError};
use crate::domain::{Claims, CoverageBasis, Inventory, Limits, Policy, RuleHistory, Rules};
use crate::engine;
use crate::registry::{self, CollectScope, ExtraManifests, Progress};
use crate::report::{self, DiffView, PolicyDecision};

/// What was read at one time: all that a decision about tags needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecisionInput {
    /// What the registries hold.
    pub inventory: Inventory,
    /// What the sources say.
    pub claims: Claims,
    /// When that was read.
    pub read_at: Timestamp,
    /// Where days begin.
    pub timezone: TimeZone,
    /// The limits of the settings.
    pub limits: Limits,
    /// What earlier plans found of the rules; nothing where it comes from a file.
    pub history: RuleHistory,
    /// Whether it comes from a file.
    pub from_file: bool,
}

impl App {
    /// Reads registries and sources, and decides nothing. `at` is another time than now to ask the sources for.
    ///
    /// # Errors
    /// When the state could not be used.
    pub async fn read_decision_input(
        &self,
        at: Option<Timestamp>,
        progress: &dyn Progress,
    ) -> Result<DecisionInput, RunError> {
        let start = self.read_clocks();
        let now = start.wall;
        let readers: Vec<_> = self.readers.values().cloned().collect();
        let mut inventory =
            registry::collect(&readers, &CollectScope::All, &ExtraManifests::new(), &self.store, progress).await;
        let clock = self.check_clock(start, None, &mut inventory).await?;
        Self::log_clock(&clock, &inventory);
        self.verify_catalogues(&mut inventory, &CollectScope::All, now).await?;
        self.record_observations(&mut inventory, &CollectScope::All, &clock).await?;
        let claims = self.gather((&inventory, &[]), (now, at.unwrap_or(now)), Recording::Disabled).await?;
        // For what the policies of the settings would decide; by others some tags may stay undecided that need not.
        self.evaluate(&self.rules(), &mut inventory, &claims, at.unwrap_or(now)).await;
        Ok(DecisionInput {
            inventory,
            claims,
            read_at: now,
            timezone: self.settings.schedule.timezone.clone(),
            limits: self.settings.limits,
            history: self.store.rule_history().await?,
            from_file: false,
        })
    }
}

impl DecisionInput {
    /// What becomes of the tags by new policies that did not by old ones. `at` is another time to decide for than that of
    /// the reading.
    #[must_use]
    pub fn diff(&self, old: Vec<Policy>, new: Vec<Policy>, at: Option<Timestamp>) -> DiffView {
        let now = at.unwrap_or(self.read_at);
        let (old, new) = (self.rules(old), self.rules(new));
        let decide = |rules| {
            let verdicts = engine::evaluate(rules, &self.inventory, &self.claims, now);
            let plan = engine::plan(rules, &self.inventory, &verdicts, now);
            let coverage =
                engine::rule_coverage(rules, &self.inventory, self.history.clone(), CoverageBasis::FullInventory);
            let plan = engine::refuse_unmatched(rules, &self.inventory, &verdicts, plan, coverage);
            PolicyDecision { rules, verdicts, plan }
        };
        let recorded_at = self.from_file.then_some(self.read_at);
        report::diff(&self.inventory, &self.claims, &decide(&old), &decide(&new), now, recorded_at)
    }

    fn rules(&self, policies: Vec<Policy>) -> Rules {
        Rules { policies, limits: self.limits, timezone: self.timezone.clone(), undo_window: Duration::ZERO }
    }
}
