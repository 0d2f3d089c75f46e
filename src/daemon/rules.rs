//! The rules of this daemon among those of the others with the same state: it removes by the ones in force alone.
//!
//! Where git-sync or a rollout lags, daemons have different policies or settings for a while. One whose rules are older
//! says so, gives up the schedule to a daemon with the ones in force, and removes nothing meanwhile. With a file as
//! state there is one daemon, and nothing is compared.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::event_loop::EventLoop;
use super::file_access::Unresponsive;
use super::is_shared;
use crate::config::Mode;
use crate::state::{KnownRevision, RulePart, Sighting};
use crate::workflow::{LoadedRules, OutdatedRules, PlacedRevision, in_force, settle_standing};

/// The interval at which a daemon with the rules in force says that it goes by them.
const SIGHTING_INTERVAL: Duration = Duration::from_secs(30);
/// A daemon that said so that recently is alive: one with older rules leaves the schedule to it.
const ALIVE_FOR: SignedDuration = SignedDuration::from_secs(90);

/// The standing of this daemon's rules.
#[derive(Debug, Default)]
pub(super) struct RuleStanding {
    /// The rules and the commits in force that were last compared, and the places of the former.
    placed: Option<(LoadedRules, Vec<Option<String>>, [PlacedRevision; 2])>,
    /// The revision of each part that this process went by last while it was in force.
    went_by: [Option<String>; 2],
    /// The parts that are older than those in force.
    outdated: Vec<OutdatedRules>,
    /// True if a daemon with newer rules was seen a moment ago.
    is_led_elsewhere: bool,
    /// Time at which this daemon last said that it goes by the rules in force.
    sighted_at: Option<Instant>,
    /// The logged error about rules that could not be compared.
    logged_error: Option<String>,
}

impl RuleStanding {
    /// Returns why this daemon removes nothing, if its rules are outdated.
    pub(super) fn outdated(&self) -> Option<String> {
        let parts: Vec<String> = self.outdated.iter().map(ToString::to_string).collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    /// Returns true unless the last comparison failed.
    pub(super) fn is_compared(&self) -> bool {
        self.logged_error.is_none()
    }

    /// Returns true if the schedule is to be left to a daemon with newer rules.
    pub(super) fn yields(&self) -> bool {
        !self.outdated.is_empty() && self.is_led_elsewhere
    }

    fn is_outdated(&self, part: RulePart) -> bool {
        self.outdated.iter().any(|outdated| outdated.part() == part)
    }
}

/// Returns the position of a part in arrays with one element for each.
fn position(part: RulePart) -> usize {
    RulePart::ALL.iter().position(|one| *one == part).unwrap_or_default()
}

fn commits_in_force(known: &[KnownRevision]) -> Vec<Option<String>> {
    let commit = |part: RulePart| in_force(known, part).and_then(|found| found.revision.commit.clone());
    RulePart::ALL.into_iter().map(commit).collect()
}

impl EventLoop {
    /// Returns true if a run that begins now may remove. One that may not takes no lease, so it reports also while another
    /// process removes.
    pub(super) fn may_remove(&self, now: Timestamp) -> bool {
        let settings = &self.config.settings;
        settings.mode == Mode::Enforce && settings.schedule.blocked_by(now).is_none() && self.rules.outdated.is_empty()
    }

    /// Compares the rules of this daemon with those of the others. Newer ones are in force from now on; with older ones
    /// it ends a run before its next removal, and stands by if a daemon with newer ones is alive. Returns false if they
    /// cannot be compared: no run must begin then.
    pub(super) async fn check_rules(&mut self) -> bool {
        if !is_shared(&self.store) {
            return true;
        }
        let was_outdated = self.rules.outdated();
        if let Err(words) = self.compare_rules().await {
            if self.rules.logged_error.as_ref() != Some(&words) {
                tracing::warn!("cannot compare the policies and settings with those of other daemons: {words}");
                self.rules.logged_error = Some(words);
            }
            return false;
        }
        self.rules.logged_error = None;
        let outdated = self.rules.outdated();
        match &outdated {
            Some(words) if was_outdated != outdated => {
                tracing::warn!(
                    "this daemon removes nothing: {words}; update its files, or, to go back on purpose, run `tagwarden state \
                     accept-rules` with them"
                );
            }
            None if was_outdated.is_some() => tracing::info!("the policies and settings are those in force again"),
            _ => {}
        }
        if was_outdated.is_none()
            && let Some(words) = &outdated
            && let Some(running) = &mut self.running
        {
            running.stop_for_good(Some(&format!("newer rules: {words}")));
        }
        if self.rules.yields() && self.leadership.lease.is_some() {
            self.step_down("a daemon with newer policies or settings is to follow the schedule: this one stands by");
        }
        true
    }

    async fn compare_rules(&mut self) -> Result<(), String> {
        let (now, me) = (self.now(), format!("serve by {}, process {}", self.options.by, std::process::id()));
        let sighting = Sighting { by: &me, at: now };
        let config = &self.config;
        let loaded = LoadedRules::new(&config.settings, &config.policies, config.settings_commit.clone());
        let mut known = self.store.rule_revisions().await.map_err(|error| error.chain())?;
        let commits = commits_in_force(&known);
        let placed = match &self.rules.placed {
            Some((rules, others, placed)) if *rules == loaded && *others == commits => placed.clone(),
            _ => {
                let (rules, others) = (loaded.clone(), known.clone());
                let placed = self.file_reads.rules.run(&self.stop, move || rules.place(&others)).await;
                let placed = placed.map_err(|Unresponsive| "their files do not answer".to_owned())?;
                self.rules.placed = Some((loaded, commits, placed.clone()));
                placed
            }
        };
        let went_by = &self.rules.went_by;
        let current = RulePart::ALL.map(|part| in_force(&known, part).map(|found| found.revision.revision.clone()));
        // Another daemon may be faster, and then this one no longer goes by what is in force.
        let was_in_force =
            |part| went_by[position(part)].is_some() && went_by[position(part)] == current[position(part)];
        let settled = settle_standing(&self.store, &mut known, &placed, was_in_force, sighting).await;
        self.rules.outdated = settled.map_err(|error| error.chain())?;
        for PlacedRevision { revision, .. } in &placed {
            if !self.rules.is_outdated(revision.part) {
                self.rules.went_by[position(revision.part)] = Some(revision.revision.clone());
            }
        }
        let alive = |found: &KnownRevision| found.seen_by != me && now.duration_since(found.seen_at) < ALIVE_FOR;
        self.rules.is_led_elsewhere =
            self.rules.outdated.iter().any(|outdated| in_force(&known, outdated.part()).is_some_and(alive));
        let is_due = self.rules.sighted_at.is_none_or(|at| at.elapsed() >= SIGHTING_INTERVAL);
        if self.rules.outdated.is_empty() && is_due {
            for PlacedRevision { revision, .. } in &placed {
                self.store.record_rule_sighting(revision, sighting).await.map_err(|error| error.chain())?;
            }
            self.rules.sighted_at = Some(Instant::now());
        }
        Ok(())
    }
}
