//! What an edit of policies changes: the same facts, decided about by the old policies and by the new ones.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::evidence::Remember;
use super::recorded;
use super::{House, RunError};
use crate::domain::{Claims, CoverageBasis, Inventory, Limits, Policy, RuleHistory, Rules};
use crate::engine;
use crate::registry::{self, LookFor, Progress, Scope};
use crate::report::{self, DifferenceView, Side};

/// What was read at one time: all that a decision about tags needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
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
    pub recorded: bool,
}

impl House {
    /// Reads registries and sources, and decides nothing. `at` is another time than now to ask the sources for.
    ///
    /// # Errors
    /// When the state could not be used.
    pub async fn facts(&self, at: Option<Timestamp>, progress: &dyn Progress) -> Result<Facts, RunError> {
        let start = self.reading();
        let now = start.wall;
        let readers: Vec<_> = self.readers.values().cloned().collect();
        let mut inventory = registry::collect(&readers, &Scope::All, &LookFor::new(), &self.store, progress).await;
        let clock = self.check_clock(start, None, &mut inventory).await?;
        Self::tell_clock(&clock, &inventory);
        self.doubt_catalogues(&mut inventory, &Scope::All, now).await?;
        self.observe(&mut inventory, &Scope::All, &clock).await?;
        let claims = self.gather((&inventory, &[]), (now, at.unwrap_or(now)), Remember::No).await?;
        // For what the policies of the settings would decide; by others some tags may stay undecided that need not.
        self.evaluate(&self.rules(), &mut inventory, &claims, at.unwrap_or(now)).await;
        Ok(Facts {
            inventory,
            claims,
            read_at: now,
            timezone: self.settings.schedule.timezone.clone(),
            limits: self.settings.limits,
            history: self.store.rule_history().await?,
            recorded: false,
        })
    }
}

impl Facts {
    /// As the text of a file, `tagwarden.inventory/1`.
    ///
    /// # Errors
    /// Never, but for memory.
    pub fn to_json(&self) -> Result<String, RunError> {
        recorded::write(self).map_err(|error| RunError::Output(error.to_string()))
    }

    /// Reads the text of such a file.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn from_json(text: &str) -> Result<Self, String> {
        recorded::read(text)
    }

    /// What becomes of the tags by new policies that did not by old ones. `at` is another time to decide for than that of
    /// the reading.
    #[must_use]
    pub fn compare(&self, old: Vec<Policy>, new: Vec<Policy>, at: Option<Timestamp>) -> DifferenceView {
        let now = at.unwrap_or(self.read_at);
        let (old, new) = (self.rules(old), self.rules(new));
        let decide = |rules| {
            let verdicts = engine::evaluate(rules, &self.inventory, &self.claims, now);
            let plan = engine::plan(rules, &self.inventory, &verdicts, now);
            let coverage = engine::coverage(rules, &self.inventory, self.history.clone(), CoverageBasis::Whole);
            let plan = engine::hold_unmatched(rules, &self.inventory, &verdicts, plan, coverage);
            Side { rules, verdicts, plan }
        };
        let recorded_at = self.recorded.then_some(self.read_at);
        report::difference(&self.inventory, &self.claims, &decide(&old), &decide(&new), now, recorded_at)
    }

    fn rules(&self, policies: Vec<Policy>) -> Rules {
        Rules { policies, limits: self.limits, timezone: self.timezone.clone(), undo_window: Duration::ZERO }
    }
}
