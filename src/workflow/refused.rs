//! Causes for which a command is refused.

use std::path::PathBuf;

use jiff::Timestamp;
use uuid::Uuid;

use super::signature::SignatureError;
use crate::config::RemovalBlock;
use crate::domain::{ClockIssue, Digest, PolicyName};
use crate::report::{self, PlanReadError};

/// Why a plan is not applied, a run does not remove, or a hold is too late.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The text is not a trustworthy plan.
    #[error(transparent)]
    InvalidPlan(#[from] PlanReadError),
    /// The plan's signature is missing, or not a known signer's signature of this plan.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// A plan of the folder of approved plans is refused.
    #[error("{file}")]
    InFile {
        /// The name of its file.
        file: String,
        /// The cause.
        #[source]
        cause: Box<Refused>,
    },
    /// The settings say `dry-run`.
    #[error(
        "{} says `mode = \"dry-run\"`, in which nothing is ever removed; set `approved` or `enforce`", .file.display()
    )]
    ModeIsDryRun {
        /// The settings file.
        file: PathBuf,
    },
    /// The settings said `dry-run` when the plan was made.
    #[error("the plan was made in mode `dry-run`, in which nothing is removed: it is a report; make a new one")]
    PlanOfDryRun,
    /// The plan was evaluated for a time given by hand.
    #[error("the plan was made for {at} by `--at`, to look at only")]
    Hypothetical {
        /// The time of the evaluation.
        at: Timestamp,
    },
    /// The plan has expired.
    #[error("the plan expired at {at}; make a new one")]
    Expired {
        /// The end of its validity.
        at: Timestamp,
    },
    /// The plan is from the future.
    #[error(
        "the plan was made at {at}, which is in the future by the clock of this machine; set it, or that of the machine that \
         planned"
    )]
    FromFuture {
        /// The time at which it was made.
        at: Timestamp,
    },
    /// The plan removes from a registry that the settings do not have, or not at that address.
    #[error("the plan is for registry {registry} at {endpoint}, which is not in the settings")]
    OtherRegistry {
        /// The registry's name in the plan.
        registry: String,
        /// Its address in the plan.
        endpoint: String,
    },
    /// Settings that affect decisions have changed since the plan was made.
    #[error(
        "registries, sources, limits or time zone in {} have changed since the plan was made; make a new one",
        .file.display()
    )]
    SettingsChanged {
        /// The settings file.
        file: PathBuf,
    },
    /// A file of policies was added, removed or changed since the plan was made.
    #[error("the file {file}, which has policy {policy}, has changed since the plan was made; make a new one")]
    PolicyChanged {
        /// The policy.
        policy: String,
        /// Its file.
        file: String,
    },
    /// A window or a freeze blocks removals.
    #[error(
        "removals are held back, {0}; wait, or give a reason to apply it all the same with `--override-freeze REASON`"
    )]
    Blocked(RemovalBlock),
    /// A run has applied the plan completely.
    #[error(
        "plan {plan} was applied already, by run {run} on {}; what it skipped stays, and what was put back since stays; \
         make a new one", .ended_at.strftime("%Y-%m-%d %H:%M UTC")
    )]
    AppliedAlready {
        /// The plan's id.
        plan: String,
        /// The run.
        run: Uuid,
        /// The end of that run.
        ended_at: Timestamp,
    },
    /// The plan names a tag that cannot exist.
    #[error("the plan names {name}, which is not a valid image")]
    InvalidImage {
        /// Its name in the plan.
        name: String,
    },
    /// The plan names an untagged manifest that cannot exist.
    #[error("the plan names {name}, which is not a valid manifest")]
    InvalidManifest {
        /// Its name in the plan.
        name: String,
    },
    /// The plan requests more removals than a run, or one policy in a run, may make.
    #[error(
        "the plan asks for {found} removals, and the limit of {} is {allowed}; no plan made here does that; make a new \
         one", limited(.policy.as_ref())
    )]
    OverLimit {
        /// The requested removals.
        found: u64,
        /// The policy whose limit it is; `None` for that of a run.
        policy: Option<PolicyName>,
        /// The limit.
        allowed: u32,
    },
    /// The plan requests more deletions of untagged manifests than a run may make.
    #[error(
        "the plan asks for {found} manifests to be deleted, and the limit of one run is {allowed}; no plan made here does \
         that; make a new one"
    )]
    OverDeletionLimit {
        /// The manifests, dependents included.
        found: usize,
        /// The limit.
        allowed: u32,
    },
    /// The time cannot be trusted.
    #[error("{}", report::describe_clock_doubt(.0))]
    Clock(ClockIssue),
    /// The settings or a policy file changed while the run decided.
    #[error("{} has changed since this run loaded it; nothing was removed; look at it, and run again", .file.display())]
    FileChanged {
        /// The file.
        file: PathBuf,
    },
    /// A tag was removed or moved while the hold was being set.
    #[error(
        "{image}: the tag was {} while it was being held; its name and {} are held from now on\n  help: `tagwarden restore \
         {image}` puts back what Tagwarden removed", moved(.after.as_deref()), .before.short()
    )]
    HeldTooLate {
        /// The tag, as `registry/repository:tag`.
        image: String,
        /// Its digest before, which is held.
        before: Box<Digest>,
        /// Its digest now; `None` if it no longer exists.
        after: Option<Box<Digest>>,
    },
}

fn limited(policy: Option<&PolicyName>) -> String {
    policy.map_or_else(|| "one run".to_owned(), |policy| format!("policy {policy}"))
}

fn moved(after: Option<&Digest>) -> String {
    after.map_or_else(|| "removed".to_owned(), |after| format!("moved to {}", after.short()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::chain;
    use crate::workflow::RunError;

    /// Audit records contain these texts, and later ones are compared with them, so that a refused plan is recorded
    /// once.
    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn each_cause_has_its_words() {
        let at: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let file = || PathBuf::from("tagwarden.toml");
        let digest = |text: &str| Digest::of(text.as_bytes());
        let over = |policy: Option<&str>| Refused::OverLimit {
            found: 3,
            policy: policy.map(|name| name.parse().unwrap()),
            allowed: 2,
        };
        let late = |after: Option<Digest>| Refused::HeldTooLate {
            image: "a/b:c".into(),
            before: Box::new(digest("x")),
            after: after.map(Box::new),
        };
        let (x, y) = (digest("x").short(), digest("y").short());
        for (refused, words) in [
            (
                Refused::ModeIsDryRun { file: file() },
                "tagwarden.toml says `mode = \"dry-run\"`, in which nothing is ever removed; set `approved` or `enforce`"
                    .to_owned(),
            ),
            (
                Refused::PlanOfDryRun,
                "the plan was made in mode `dry-run`, in which nothing is removed: it is a report; make a new one".into(),
            ),
            (
                Refused::Hypothetical { at },
                "the plan was made for 2026-11-23T12:00:00Z by `--at`, to look at only".into(),
            ),
            (Refused::Expired { at }, "the plan expired at 2026-11-23T12:00:00Z; make a new one".into()),
            (
                Refused::FromFuture { at },
                "the plan was made at 2026-11-23T12:00:00Z, which is in the future by the clock of this machine; set it, or that of \
                 the machine that planned".into(),
            ),
            (
                Refused::OtherRegistry { registry: "main".into(), endpoint: "https://r.example".into() },
                "the plan is for registry main at https://r.example, which is not in the settings".into(),
            ),
            (
                Refused::SettingsChanged { file: file() },
                "registries, sources, limits or time zone in tagwarden.toml have changed since the plan was made; make a \
                 new one"
                    .into(),
            ),
            (
                Refused::PolicyChanged { policy: "old".into(), file: "old.yaml".into() },
                "the file old.yaml, which has policy old, has changed since the plan was made; make a new one".into(),
            ),
            (
                Refused::Blocked(RemovalBlock::Freeze {
                    reason: "sale".into(),
                    last_day: jiff::civil::date(2026, 11, 30),
                }),
                "removals are held back, frozen until the end of 2026-11-30: sale; wait, or give a reason to apply it all \
                 the same with `--override-freeze REASON`"
                    .into(),
            ),
            (
                Refused::AppliedAlready { plan: "sha256:1".into(), run: Uuid::nil(), ended_at: at },
                "plan sha256:1 was applied already, by run 00000000-0000-0000-0000-000000000000 on 2026-11-23 12:00 UTC; \
                 what it skipped stays, and what was put back since stays; make a new one"
                    .into(),
            ),
            (Refused::InvalidImage { name: "a/B:c".into() }, "the plan names a/B:c, which is not a valid image".into()),
            (Refused::InvalidManifest { name: "a/B@c".into() }, "the plan names a/B@c, which is not a valid manifest".into()),
            (
                over(None),
                "the plan asks for 3 removals, and the limit of one run is 2; no plan made here does that; make a new one"
                    .into(),
            ),
            (
                over(Some("old")),
                "the plan asks for 3 removals, and the limit of policy old is 2; no plan made here does that; make a new \
                 one"
                    .into(),
            ),
            (
                Refused::OverDeletionLimit { found: 3, allowed: 2 },
                "the plan asks for 3 manifests to be deleted, and the limit of one run is 2; no plan made here does that; \
                 make a new one"
                    .into(),
            ),
            (
                Refused::FileChanged { file: file() },
                "tagwarden.toml has changed since this run loaded it; nothing was removed; look at it, and run again"
                    .into(),
            ),
            (
                late(None),
                format!(
                    "a/b:c: the tag was removed while it was being held; its name and {x} are held from now on\n  help: \
                     `tagwarden restore a/b:c` puts back what Tagwarden removed"
                ),
            ),
            (
                late(Some(digest("y"))),
                format!(
                    "a/b:c: the tag was moved to {y} while it was being held; its name and {x} are held from now on\n  \
                     help: `tagwarden restore a/b:c` puts back what Tagwarden removed"
                ),
            ),
        ] {
            assert_eq!(refused.to_string(), words);
            assert_eq!(chain(&RunError::from(refused)), format!("refused: {words}"));
        }
    }
}
