//! The policies and settings of one daemon among those of others with the same state: which of them are newer.
//!
//! A daemon removes only by the rules in force, and rules that are newer than those take their place. The commit of the
//! files decides where both are in a git checkout. Where no commit tells, the revision that the state saw last counts,
//! and one that was superseded does not come back by itself: a daemon that lags behind comes with exactly such a
//! revision.

use std::fmt;
use std::path::PathBuf;

use crate::config::Settings;
use crate::policy::{self, CommitOrder, PolicySet};
use crate::state::{KnownRevision, RulePart, RuleRevision, Sighting, StateError, StateStore};

/// Digits of a commit in messages.
const COMMIT_DIGITS: usize = 10;
/// Most comparisons of a revision, of which each but the last met a faster daemon.
const MAX_ATTEMPTS: usize = 5;

/// Policies and settings as they were loaded, and their files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedRules {
    parts: [LoadedPart; 2],
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct LoadedPart {
    part: RulePart,
    path: PathBuf,
    revision: String,
    commit: Option<String>,
}

/// A loaded part with its place in the history of its files, as far as these tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedRevision {
    /// The revision.
    pub revision: RuleRevision,
    /// Its order compared with the revision in force, by their commits.
    order: Option<CommitOrder>,
}

/// The standing of a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is in force.
    InForce,
    /// It is to take the place of the one in force.
    Newer,
    /// It is not to be removed by.
    Outdated(Box<OutdatedRules>),
}

/// A revision that is older than the one in force, or may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutdatedRules {
    own: RuleRevision,
    in_force: KnownRevision,
    /// True if the commits say so; otherwise it was superseded before.
    is_older_commit: bool,
}

impl LoadedRules {
    /// Creates the description of loaded policies and settings. `settings_commit` is that of the checkout around the
    /// settings when they were loaded.
    #[must_use]
    pub fn new(settings: &Settings, policies: &PolicySet, settings_commit: Option<String>) -> Self {
        let of_policies = LoadedPart {
            part: RulePart::Policies,
            path: settings.policies.clone(),
            revision: policies.revision(),
            commit: policies.commit.clone(),
        };
        let of_settings = LoadedPart {
            part: RulePart::Settings,
            path: settings.file.clone(),
            revision: settings.removal_revision(),
            commit: settings_commit,
        };
        Self { parts: [of_policies, of_settings] }
    }

    /// Reads the places of both parts in the history of their files, compared with the revisions in force. This reads
    /// files.
    #[must_use]
    pub fn place(&self, known: &[KnownRevision]) -> [PlacedRevision; 2] {
        self.parts.each_ref().map(|loaded| {
            let LoadedPart { part, path, revision, commit } = loaded;
            let in_force = in_force(known, *part).and_then(|found| found.revision.commit.as_deref());
            let other = in_force.filter(|other| commit.as_deref() != Some(*other));
            PlacedRevision {
                revision: RuleRevision {
                    part: *part,
                    revision: revision.clone(),
                    commit: commit.clone(),
                    committed_at: commit.as_deref().and_then(|commit| policy::commit_time(path, commit)),
                },
                order: commit.as_deref().zip(other).and_then(|(own, other)| policy::compare_commits(path, own, other)),
            }
        })
    }
}

/// Returns the revision of a part that is in force.
#[must_use]
pub fn in_force(known: &[KnownRevision], part: RulePart) -> Option<&KnownRevision> {
    known.iter().find(|found| found.revision.part == part && found.superseded_at.is_none())
}

impl PlacedRevision {
    /// Judges the revision by those that the state knows. `was_in_force` is true if the same process went by the
    /// revision in force until its files were changed: a daemon that lags behind never did.
    #[must_use]
    pub fn judge(&self, known: &[KnownRevision], was_in_force: bool) -> Standing {
        let own = &self.revision;
        let Some(current) = in_force(known, own.part) else { return Standing::Newer };
        if own.revision == current.revision.revision {
            return if self.is_later_commit(current) == Some(true) { Standing::Newer } else { Standing::InForce };
        }
        let before =
            known.iter().find(|found| found.revision.part == own.part && found.revision.revision == own.revision);
        let outdated = |is_older_commit| {
            let outdated = OutdatedRules { own: own.clone(), in_force: current.clone(), is_older_commit };
            Standing::Outdated(Box::new(outdated))
        };
        match self.is_later_commit(current) {
            // The very files that were replaced: going back to them is for a person to accept.
            Some(later) if before.is_some_and(|before| before.revision.commit == own.commit) => outdated(!later),
            Some(true) => Standing::Newer,
            Some(false) => outdated(true),
            None if was_in_force || before.is_none() => Standing::Newer,
            None => outdated(false),
        }
    }

    /// Returns true if its commit is later than that of the revision in force, and false if it is earlier; `None` if
    /// they are the same, or one of them is not known.
    fn is_later_commit(&self, current: &KnownRevision) -> Option<bool> {
        let (own, other) = (&self.revision, &current.revision);
        if own.commit.as_ref()? == other.commit.as_ref()? {
            return None;
        }
        match self.order {
            Some(order) => Some(order == CommitOrder::Newer),
            // A clone without history, or a branch that was rewritten.
            None => Some(own.committed_at? > other.committed_at?),
        }
    }
}

/// Compares loaded rules with those that other daemons came with, and puts newer ones in force. Returns the parts that
/// are outdated. `was_in_force` tells of a part whether the same process went by the revision in force until now.
///
/// # Errors
/// Returns an error if the state cannot be read or written.
pub async fn settle_standing(
    store: &StateStore,
    known: &mut Vec<KnownRevision>,
    placed: &[PlacedRevision; 2],
    was_in_force: impl Fn(RulePart) -> bool,
    sighting: Sighting<'_>,
) -> Result<Vec<OutdatedRules>, StateError> {
    let mut outdated = Vec::new();
    for own in placed {
        let revision = &own.revision;
        for attempt in 1.. {
            match own.judge(known, was_in_force(revision.part)) {
                Standing::InForce => break,
                Standing::Outdated(found) => {
                    if !known.iter().any(|known| {
                        known.revision.part == revision.part && known.revision.revision == revision.revision
                    }) {
                        store.record_rule_sighting(revision, sighting).await?;
                    }
                    outdated.push(*found);
                    break;
                }
                Standing::Newer if attempt > MAX_ATTEMPTS => break,
                Standing::Newer => {
                    let replaced = in_force(known, revision.part).map(|found| found.revision.revision.clone());
                    let is_changed = replaced.as_deref() != Some(&*revision.revision);
                    if store.put_rules_in_force(revision, replaced.as_deref(), sighting, None).await? && is_changed {
                        tracing::info!(
                            part = revision.part.label(),
                            revision = revision.revision,
                            commit = revision.commit.as_deref().unwrap_or("none"),
                            replaced = replaced.as_deref().unwrap_or("none"),
                            "these rules are in force from now on for all daemons with this state"
                        );
                    }
                    *known = store.rule_revisions().await?;
                }
            }
        }
    }
    Ok(outdated)
}

/// Puts loaded rules in force although newer ones are known, because a person wants it. Returns the revisions that they
/// replace.
///
/// # Errors
/// Returns an error if the state cannot be read or written.
pub async fn accept_rules(
    store: &StateStore,
    loaded: &LoadedRules,
    sighting: Sighting<'_>,
    reason: &str,
) -> Result<Vec<(RuleRevision, Option<KnownRevision>)>, StateError> {
    let mut accepted = Vec::new();
    for _ in 0..MAX_ATTEMPTS {
        let known = store.rule_revisions().await?;
        let mut is_complete = true;
        for PlacedRevision { revision, .. } in loaded.place(&known) {
            let replaced = in_force(&known, revision.part).cloned();
            let hash = replaced.as_ref().map(|found| found.revision.revision.as_str());
            if replaced.as_ref().is_some_and(|found| found.revision == revision) {
                continue;
            }
            is_complete &= store.put_rules_in_force(&revision, hash, sighting, Some(reason)).await?;
            accepted.push((revision, replaced));
        }
        if is_complete {
            break;
        }
        accepted.clear();
    }
    Ok(accepted)
}

impl OutdatedRules {
    /// Returns the part.
    #[must_use]
    pub fn part(&self) -> RulePart {
        self.own.part
    }
}

impl fmt::Display for OutdatedRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { own, in_force, is_older_commit } = self;
        let part = own.part.label();
        let by = &in_force.first_seen_by;
        if *is_older_commit {
            write!(
                f,
                "the {part} here are of {}, which is older than {}, by which {by} goes",
                describe_revision(own),
                describe_revision(&in_force.revision)
            )
        } else {
            write!(
                f,
                "the {part} here ({}) were superseded by {}, by which {by} goes",
                describe_revision(own),
                describe_revision(&in_force.revision)
            )
        }
    }
}

/// Describes a revision by its commit, or by its hash.
#[must_use]
pub fn describe_revision(revision: &RuleRevision) -> String {
    let short = |text: &str| text.get(..COMMIT_DIGITS).unwrap_or(text).to_owned();
    match (&revision.commit, revision.committed_at) {
        (Some(commit), Some(at)) => format!("commit {} of {}", short(commit), at.strftime("%Y-%m-%d %H:%M UTC")),
        (Some(commit), None) => format!("commit {}", short(commit)),
        (None, _) => {
            let hash = revision.revision.strip_prefix("sha256:").unwrap_or(&revision.revision);
            format!("revision {}", short(hash))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(content: &str, commit: Option<(&str, &str)>) -> RuleRevision {
        RuleRevision {
            part: RulePart::Policies,
            revision: content.to_owned(),
            commit: commit.map(|(commit, _)| commit.to_owned()),
            committed_at: commit.and_then(|(_, at)| at.parse().ok()),
        }
    }

    fn known(revision: RuleRevision, superseded: bool) -> KnownRevision {
        let at = "2026-11-20T00:00:00Z".parse().unwrap();
        KnownRevision {
            revision,
            first_seen_at: at,
            first_seen_by: "serve by ada@one".to_owned(),
            seen_at: at,
            seen_by: "serve by ada@one".to_owned(),
            superseded_at: superseded.then_some(at),
            accepted_by: None,
        }
    }

    const EARLY: Option<(&str, &str)> = Some(("1111111111", "2026-11-01T00:00:00Z"));
    const LATE: Option<(&str, &str)> = Some(("2222222222", "2026-11-02T00:00:00Z"));
    const LATER: Option<(&str, &str)> = Some(("3333333333", "2026-11-03T00:00:00Z"));
    const UNDATED: Option<(&str, &str)> = Some(("4444444444", ""));

    /// In force, superseded before, own, the order by history, whether it was edited here; and the standing.
    #[test]
    fn only_rules_that_are_surely_not_older_take_the_place_of_others() {
        use CommitOrder::{Newer, Older};
        let rows = [
            ("the first of all", None, None, ("a", None), None, false, "newer"),
            ("the same", Some(("a", None)), None, ("a", None), None, false, "in force"),
            ("the same at a later commit", Some(("a", EARLY)), None, ("a", LATE), None, false, "newer"),
            ("the same at an earlier commit", Some(("a", LATE)), None, ("a", EARLY), None, false, "in force"),
            ("by the history", Some(("a", LATE)), None, ("b", EARLY), Some(Newer), false, "newer"),
            ("by the history, back", Some(("a", EARLY)), None, ("b", LATE), Some(Older), false, "older"),
            ("by the time", Some(("a", EARLY)), None, ("b", LATE), None, false, "newer"),
            ("by the time, back", Some(("a", LATE)), None, ("b", EARLY), None, false, "older"),
            ("also where it is edited", Some(("a", LATE)), None, ("b", EARLY), None, true, "older"),
            ("of one time", Some(("a", LATE)), None, ("b", Some(("5", LATE.unwrap().1))), None, false, "older"),
            ("a revert", Some(("b", LATE)), Some(("a", EARLY)), ("a", LATER), Some(Newer), false, "newer"),
            ("a rollback", Some(("b", LATE)), Some(("a", EARLY)), ("a", EARLY), Some(Older), true, "older"),
            (
                "after a rollback that was accepted",
                Some(("a", EARLY)),
                Some(("b", LATE)),
                ("b", LATE),
                Some(Newer),
                false,
                "superseded",
            ),
            ("a new one after that", Some(("a", EARLY)), Some(("b", LATE)), ("c", LATER), Some(Newer), false, "newer"),
            ("an edit beside git", Some(("a", LATE)), None, ("b", LATE), None, true, "newer"),
            ("an edit beside git, unseen", Some(("a", LATE)), None, ("b", LATE), None, false, "newer"),
            ("a time that is not known", Some(("a", LATE)), None, ("b", UNDATED), None, false, "newer"),
            ("without git", Some(("a", None)), None, ("b", None), None, false, "newer"),
            ("a replica that lags", Some(("b", None)), Some(("a", None)), ("a", None), None, false, "superseded"),
            ("an edit that is undone", Some(("b", None)), Some(("a", None)), ("a", None), None, true, "newer"),
            ("from git to a folder", Some(("a", LATE)), None, ("b", None), None, false, "newer"),
        ];
        for (what, current, before, own, order, was_in_force, expected) in rows {
            let mut all = Vec::new();
            all.extend(current.map(|(content, commit)| known(revision(content, commit), false)));
            all.extend(before.map(|(content, commit)| known(revision(content, commit), true)));
            let placed = PlacedRevision { revision: revision(own.0, own.1), order };
            let standing = placed.judge(&all, was_in_force);
            let found = match &standing {
                Standing::InForce => "in force",
                Standing::Newer => "newer",
                Standing::Outdated(found) if found.is_older_commit => "older",
                Standing::Outdated(_) => "superseded",
            };
            assert_eq!(found, expected, "{what}");
        }
    }

    #[test]
    fn an_outdated_revision_says_what_took_its_place() {
        let late = known(revision("b", LATE), false);
        let placed = PlacedRevision { revision: revision("a", EARLY), order: None };
        let Standing::Outdated(found) = placed.judge(std::slice::from_ref(&late), false) else { panic!() };
        let words = "the policies here are of commit 1111111111 of 2026-11-01 00:00 UTC, which is older than commit \
                     2222222222 of 2026-11-02 00:00 UTC, by which serve by ada@one goes";
        assert_eq!(found.to_string(), words);
    }
}
