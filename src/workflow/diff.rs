//! Effects of an edit of policies: the same facts, decided by the old policies and by the new ones.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::evidence::Recording;
use super::{App, RunError};
use crate::domain::{Claims, CoverageBasis, Inventory, Limits, Policy, RuleHistory, Rules};
use crate::engine;
use crate::registry::{self, CollectScope, ExtraManifests, Progress};
use crate::report::{self, DiffView, PolicyDecision};
use crate::sources;

/// The facts read at one time, complete for decisions on tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecisionInput {
    /// The contents of the registries.
    pub inventory: Inventory,
    /// The claims of the sources.
    pub claims: Claims,
    /// Time of the reading.
    pub read_at: Timestamp,
    /// The time zone of calendar periods.
    pub timezone: TimeZone,
    /// The limits of the settings.
    pub limits: Limits,
    /// The findings of earlier plans about the rules; empty if it comes from a file.
    pub history: RuleHistory,
    /// True if it comes from a file.
    pub from_file: bool,
}

impl App {
    /// Reads registries and sources without deciding: all that a decision by the policies of the settings and by `others`
    /// needs. `at` is the time to query the sources for, if not now.
    ///
    /// # Errors
    /// Returns an error if the state cannot be used.
    pub async fn read_decision_input(
        &self,
        at: Option<Timestamp>,
        others: &[&[Policy]],
        progress: &dyn Progress,
    ) -> Result<DecisionInput, RunError> {
        let start = self.read_clocks();
        let now = start.wall;
        let readers: Vec<_> = self.readers.values().cloned().collect();
        let mut heads = registry::read_heads(&readers, &CollectScope::All, progress).await;
        let registries = heads.iter_mut().map(|head| &mut head.registry).collect();
        let clock = self.check_clock(start, None, registries).await?;
        self.log_clock(&clock, &heads);
        self.verify_catalogues(&mut heads, &CollectScope::All, now).await?;
        let look = Self::observation_context(&heads, &CollectScope::All, &clock);
        let nothing = ExtraManifests::new();
        let mut inventory = registry::collect_repositories(&readers, heads, &nothing, &self.store, progress).await;
        self.store.observe_at(&mut inventory, &look).await?;
        let mut claims = self.gather((now, at.unwrap_or(now)), Recording::Disabled, None).await?;
        sources::record_mentions(&mut claims, &inventory, &[]);
        let own = self.rules();
        for policies in std::iter::once(&*own.policies).chain(others.iter().copied()) {
            let rules = Rules { policies: policies.to_vec(), timezone: own.timezone.clone(), ..own };
            self.read_needed(&mut inventory, &claims, &rules, now).await;
        }
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
    /// Compares the effects of old and new policies on the tags. `at` is the time to decide for, if not that of the
    /// reading.
    #[must_use]
    pub fn diff(&self, old: Vec<Policy>, new: Vec<Policy>, at: Option<Timestamp>) -> DiffView {
        let now = at.unwrap_or(self.read_at);
        let (old, new) = (self.rules(old), self.rules(new));
        let decide = |rules| {
            let basis = (self.history.clone(), CoverageBasis::FullInventory);
            let engine::InventoryDecision { verdicts, plan, .. } =
                engine::decide_inventory(rules, &self.inventory, &self.claims, now, basis);
            PolicyDecision { rules, verdicts, plan }
        };
        let recorded_at = self.from_file.then_some(self.read_at);
        report::diff(&self.inventory, &self.claims, &decide(&old), &decide(&new), now, recorded_at)
    }

    fn rules(&self, policies: Vec<Policy>) -> Rules {
        Rules { policies, limits: self.limits, timezone: self.timezone.clone(), undo_window: Duration::ZERO }
    }
}
