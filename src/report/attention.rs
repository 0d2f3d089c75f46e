//! Items that need a person's attention: one list, made once, which every report, page and message shows first.

use serde::{Deserialize, Serialize};

use super::humanize::{self, counted, format_count, sanitize, truncate};
use super::{
    DriftKind, DriftView, GapView, PlanDocument, RefusalView, RegistryView, RunSummary, SourceView, UndecidedView,
};
use crate::domain::GapTarget;
use crate::state::RunRecord;

/// Most bytes of a message.
const MAX_MESSAGE_BYTES: usize = 1_000;

/// The recorded outcome of a run that was interrupted.
const INTERRUPTED: &str = "interrupted";

/// The kinds of attention items, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AttentionKind {
    /// The state cannot be written, or is not the one that was opened.
    StateUnusable,
    /// A run failed before it was complete.
    RunFailed,
    /// A run was interrupted before it was complete.
    RunInterrupted,
    /// The last complete run is older than the schedule allows.
    Stale,
    /// Edited settings or policies are invalid, so the previous ones stay in force.
    InvalidEdit,
    /// A plan in the folder of approved plans is refused or cannot be read.
    PlanRefused,
    /// A registry could not be read at all.
    RegistryUnread,
    /// A source failed.
    SourceFailed,
    /// A part of a registry could not be read.
    RegistryPartlyUnread,
    /// A refusal blocks removals.
    Refused,
    /// Removals were tried and failed.
    RemovalsFailed,
    /// Removals were done whose manifests could not be read into the journal yet.
    ManifestsMissing,
    /// A refusal would block removals if every policy enforced.
    WouldBeRefused,
    /// An image in use differs from its record, or is missing.
    Drift,
    /// References of a source do not identify a tag, so tags stay undecided.
    Unresolved,
}

impl AttentionKind {
    /// Returns the label used in JSON and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::StateUnusable => "state-unusable",
            Self::RunFailed => "run-failed",
            Self::RunInterrupted => "run-interrupted",
            Self::Stale => "stale",
            Self::InvalidEdit => "invalid-edit",
            Self::PlanRefused => "plan-refused",
            Self::RegistryUnread => "registry-unread",
            Self::SourceFailed => "source-failed",
            Self::RegistryPartlyUnread => "registry-partly-unread",
            Self::Refused => "refused",
            Self::RemovalsFailed => "removals-failed",
            Self::ManifestsMissing => "manifests-missing",
            Self::WouldBeRefused => "would-be-refused",
            Self::Drift => "drift",
            Self::Unresolved => "unresolved",
        }
    }
}

impl AttentionKind {
    const ALL: [Self; 15] = [
        Self::StateUnusable,
        Self::RunFailed,
        Self::RunInterrupted,
        Self::Stale,
        Self::InvalidEdit,
        Self::PlanRefused,
        Self::RegistryUnread,
        Self::SourceFailed,
        Self::RegistryPartlyUnread,
        Self::Refused,
        Self::RemovalsFailed,
        Self::ManifestsMissing,
        Self::WouldBeRefused,
        Self::Drift,
        Self::Unresolved,
    ];

    /// Returns the remedy where the message of an item says more precisely what to do. Sentences leave it out.
    fn general_remedy(self) -> &'static str {
        match self {
            Self::StateUnusable => "make the state writable again; nothing is removed until then",
            Self::RunFailed => "correct the cause that the message names; the next run tries again",
            Self::RunInterrupted => "nothing is to be done: the next run decides again",
            Self::Stale => "look into the log of the daemon",
            Self::InvalidEdit => "`tagwarden check` lists the problems; correct the file",
            Self::PlanRefused => "correct the cause, or take the file out of the folder",
            Self::RegistryUnread | Self::SourceFailed | Self::RegistryPartlyUnread => {
                "correct the cause that the message names; the next run reads again"
            }
            Self::Refused => "correct the rules or raise the limit as the message says, or accept it for one plan",
            Self::WouldBeRefused => "correct the rules or raise the limit as the message says, before you enforce",
            Self::RemovalsFailed => "`tagwarden runs show last` lists them; the next run tries again",
            Self::ManifestsMissing => "the next run reads the manifests again",
            Self::Drift => "correct the image, or what uses it",
            Self::Unresolved => "write the tag; `tagwarden sources show NAME` lists the places",
        }
    }
}

/// An item that needs attention.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttentionView {
    /// The label of its [`AttentionKind`].
    pub kind: String,
    /// The registry, source, policy or run concerned.
    pub about: String,
    /// The problem and its cause, on one line.
    pub message: String,
    /// The remedy; where the message contains it, in general. `None` only in records of an older version.
    pub remedy: Option<String>,
}

impl AttentionView {
    /// Creates an item. Without a remedy, its message contains it.
    #[must_use]
    pub fn new(kind: AttentionKind, about: &str, message: &str, remedy: Option<String>) -> Self {
        Self {
            kind: kind.label().to_owned(),
            about: sanitize(about),
            message: truncate(&sanitize(message), MAX_MESSAGE_BYTES),
            remedy: Some(remedy.map_or_else(|| kind.general_remedy().to_owned(), |remedy| sanitize(&remedy))),
        }
    }

    /// Returns true if it is of one of these kinds.
    #[must_use]
    pub fn is_one_of(&self, kinds: &[AttentionKind]) -> bool {
        kinds.iter().any(|kind| kind.label() == self.kind)
    }

    /// Returns message and remedy on one line.
    #[must_use]
    pub fn sentence(&self) -> String {
        let is_general = |remedy: &str| {
            AttentionKind::ALL.iter().any(|kind| kind.label() == self.kind && kind.general_remedy() == remedy)
        };
        match &self.remedy {
            Some(remedy) if !is_general(remedy) => format!("{}; {remedy}", self.message),
            _ => self.message.clone(),
        }
    }
}

/// Returns the attention items of a plan.
#[must_use]
pub fn plan_attention(document: &PlanDocument) -> Vec<AttentionView> {
    let (unread, partly): (Vec<_>, Vec<_>) = document
        .registries
        .iter()
        .filter(|registry| !registry.gaps.is_empty())
        .partition(|registry| is_unread(registry));
    let mut found: Vec<AttentionView> = unread.into_iter().map(registry_unread).collect();
    found.extend(document.sources.iter().filter_map(|source| {
        let failure = source.error.as_ref()?;
        Some(source_failed(&source.name, &format!("source {} failed: {failure}", source.name)))
    }));
    found.extend(partly.into_iter().map(registry_partly_unread));
    for binding in [true, false] {
        let refusals = document.refusals.iter().chain(&document.deletions.refusals);
        found.extend(refusals.filter(|refusal| refusal.binding == binding).map(refused));
    }
    found.extend(drift(&document.findings));
    found.extend(document.sources.iter().filter_map(unresolved));
    found
}

/// Creates the item for a failed source.
#[must_use]
pub fn source_failed(source: &str, message: &str) -> AttentionView {
    let remedy = format!("`tagwarden sources` asks {source} again");
    AttentionView::new(AttentionKind::SourceFailed, source, message, Some(remedy))
}

/// Returns the attention items of a run: those of its record, and the error that ended it.
#[must_use]
pub fn run_attention(record: &RunRecord, summary: &RunSummary) -> Vec<AttentionView> {
    let failed = record.end.as_ref().and_then(|end| {
        let failure = end.error.as_deref()?;
        let name = format!("{} {}", record.run.kind.label(), record.run.id);
        let (kind, message) = if end.outcome == INTERRUPTED {
            // A lost lease or database is told by its own message.
            let how = if failure.starts_with(INTERRUPTED) { "was" } else { "was interrupted:" };
            (AttentionKind::RunInterrupted, format!("{name} {how} {failure}"))
        } else {
            (AttentionKind::RunFailed, format!("{name} failed: {failure}"))
        };
        Some(AttentionView::new(kind, &record.run.id.to_string(), &message, None))
    });
    let noted = summary.attention.clone().unwrap_or_else(|| attention_from_old_summary(summary));
    failed.into_iter().chain(noted).collect()
}

/// Returns the items for a record of an older version without such a list: it has the refusals, and the number of gaps.
fn attention_from_old_summary(summary: &RunSummary) -> Vec<AttentionView> {
    let gaps = Some(summary.gaps).filter(|gaps| *gaps > 0).map(|gaps| {
        let message = format!("registries could be read only in part: {}", counted(gaps, "gap"));
        AttentionView::new(AttentionKind::RegistryPartlyUnread, "run", &message, None)
    });
    gaps.into_iter().chain(summary.refusals.iter().map(refused)).collect()
}

fn refused(refusal: &RefusalView) -> AttentionView {
    let kind = if refusal.binding { AttentionKind::Refused } else { AttentionKind::WouldBeRefused };
    let about = refusal.policy.as_ref().or(refusal.registry.as_ref()).map_or("run", String::as_str);
    AttentionView::new(kind, about, &format!("refused: {}", refusal.message), None)
}

/// Returns true if a registry could not be read at all.
pub(super) fn is_unread(registry: &RegistryView) -> bool {
    let at = |place: &GapTarget| registry.gaps.iter().filter(|gap| gap.at == place.to_string()).count() as u64;
    if registry.repositories == 0 {
        return at(&GapTarget::Catalogue) > 0;
    }
    registry.tags == 0 && at(&GapTarget::TagList) >= registry.repositories
}

/// Returns the cause if a registry could not be read at all.
pub(super) fn cause(registry: &RegistryView) -> String {
    let place = if registry.repositories == 0 { GapTarget::Catalogue } else { GapTarget::TagList }.to_string();
    let gap = registry.gaps.iter().find(|gap| gap.at == place);
    gap.map(|gap| gap.message.clone()).unwrap_or_default()
}

fn registry_unread(registry: &RegistryView) -> AttentionView {
    let message = format!("registry {} could not be read: {}", registry.name, cause(registry));
    let remedy = registry.gaps.first().and_then(|gap| remedy(gap, registry));
    AttentionView::new(AttentionKind::RegistryUnread, &registry.name, &message, remedy)
}

fn registry_partly_unread(registry: &RegistryView) -> AttentionView {
    let gap = &registry.gaps[0];
    let place = gap.repository.as_ref().map(|repository| format!("{repository}: ")).unwrap_or_default();
    let first = format!("{place}{}: {}", gap.at, gap.message);
    let message = match registry.gaps.len() {
        1 => format!("registry {} could be read only in part: {first}", registry.name),
        gaps => format!(
            "registry {} could be read only in part: {} gaps, the first: {first}",
            registry.name,
            format_count(gaps as u64)
        ),
    };
    let kind = AttentionKind::RegistryPartlyUnread;
    AttentionView::new(kind, &registry.name, &message, remedy(gap, registry))
}

/// Returns the remedy for a failure by its label; `None` if its message contains one.
fn remedy(gap: &GapView, registry: &RegistryView) -> Option<String> {
    if gap.has_help {
        return None;
    }
    let RegistryView { name, endpoint, identity, .. } = registry;
    Some(match gap.kind.as_str() {
        "denied" => format!("let `{identity}` read there, or correct `auth` of registry {name}"),
        "connection" => format!("check that {endpoint} is right, up and reachable from this machine"),
        "not-found" => format!("check that {endpoint} is right and is a registry"),
        "throttled" => "run at a quieter time, or lower `concurrency` of the registry".to_owned(),
        "status" | "malformed" | "digest-mismatch" => format!("look into the log of {endpoint}"),
        _ => return None,
    })
}

/// Returns one item for each kind of warning among the findings.
fn drift(findings: &[DriftView]) -> Vec<AttentionView> {
    let kinds = [DriftKind::ImageMissing, DriftKind::Untagged, DriftKind::DigestChanged];
    let of_kind = |kind: DriftKind| {
        let mut found = findings.iter().filter(|found| found.kind == kind.label());
        let first = found.next()?;
        let more = found.count() as u64;
        let message = match more {
            0 => first.message.clone(),
            more => format!("{}; and {} like it", first.message, format_count(more)),
        };
        let remedy = match kind {
            DriftKind::ImageMissing => "push the image again, or correct what uses it",
            DriftKind::Untagged => "tag the image again before the registry collects it",
            _ => "record the release again, or point the tag back",
        };
        Some(AttentionView::new(AttentionKind::Drift, &first.source, &message, Some(remedy.to_owned())))
    };
    kinds.into_iter().filter_map(of_kind).collect()
}

/// Returns the item for references of a source that keep tags undecided.
fn unresolved(source: &SourceView) -> Option<AttentionView> {
    let UndecidedView { tags, repositories, text, place } = source.undecided.as_ref()?;
    let (tags, in_all) = (counted(*tags, "tag"), humanize::counted_repositories(*repositories));
    let more = source.unresolved.unwrap_or_default().saturating_sub(1);
    let more = if more == 0 { String::new() } else { format!(", and {} like it", format_count(more)) };
    let name = &source.name;
    let message = format!("source {name} keeps {tags} of {in_all} undecided: {place}: `{text}` names no tag{more}");
    let remedy = format!("write the tag; see `tagwarden sources show {name}`");
    Some(AttentionView::new(AttentionKind::Unresolved, name, &message, Some(remedy)))
}

/// Describes, for a plan's headline, the registries that could not be read at all; `None` if all were read.
pub(super) fn unread_headline(document: &PlanDocument) -> Option<String> {
    let unread: Vec<&RegistryView> = document.registries.iter().filter(|registry| is_unread(registry)).collect();
    let first = unread.first()?;
    let more = match unread.len() - 1 {
        0 => String::new(),
        1 => " (and one other registry)".to_owned(),
        more => format!(" (and {} other registries)", format_count(more as u64)),
    };
    Some(format!("registry {} could not be read: {}{more}", first.name, sanitize(&cause(first))))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::registry::{RegistryError, RegistryErrorKind};
    use crate::state::{NewRun, RunEnd, RunKind};

    #[test]
    fn an_interruption_is_no_failure() {
        let id = Uuid::nil();
        for (outcome, error, expected) in [
            ("done", None, None),
            ("interrupted", None, None),
            (
                "interrupted",
                Some("interrupted by `tagwarden hold` of ada@here"),
                Some(("run-interrupted", "was interrupted by `tagwarden hold` of ada@here")),
            ),
            (
                "interrupted",
                Some("interrupted; nothing was removed"),
                Some(("run-interrupted", "was interrupted; nothing was removed")),
            ),
            (
                "interrupted",
                Some("the state: the lease was lost"),
                Some(("run-interrupted", "was interrupted: the state: the lease was lost")),
            ),
            ("error", Some("no such plan"), Some(("run-failed", "failed: no such plan"))),
            ("refused", Some("refused: it expired"), Some(("run-failed", "failed: refused: it expired"))),
        ] {
            let at = jiff::Timestamp::UNIX_EPOCH;
            let run = NewRun {
                id,
                kind: RunKind::Run,
                mode: "enforce".into(),
                started_at: at,
                started_by: "ada@here".into(),
                version: "0.1.0".into(),
                approved_by: None,
                ticket: None,
            };
            let error = error.map(str::to_owned);
            let end = RunEnd { ended_at: at, outcome: outcome.into(), exit_code: 1, summary: "{}".into(), error };
            let found = run_attention(
                &RunRecord { run, plan_id: None, signed_by: None, end: Some(end) },
                &RunSummary::default(),
            );
            let found: Vec<_> = found.into_iter().map(|found| (found.kind, found.message)).collect();
            let expected: Vec<_> =
                expected.map(|(kind, words)| (kind.to_owned(), format!("run {id} {words}"))).into_iter().collect();
            assert_eq!(found, expected, "{outcome}");
        }
    }

    /// A registry with a gap of that failure in one of its two repositories.
    fn registry(error: &RegistryError) -> RegistryView {
        serde_json::from_value(serde_json::json!({
            "name": "main", "kind": "ghcr", "endpoint": "https://ghcr.io", "identity": "cleaner", "removal": "untag",
            "obstacle": null, "obstacles": [], "ability": null, "notes": [], "info": null, "accepted": [],
            "clock_ahead_seconds": null, "clock": null, "undo_seconds": null, "repositories": 2, "tags": 1,
            "indexes_read": null, "invalid_names": [],
            "gaps": [{
                "repository": "shop/api", "at": "list of tags", "kind": error.kind.label(), "message": error.chain(),
                "has_help": error.has_help(),
            }],
        }))
        .unwrap()
    }

    #[test]
    fn a_failure_that_says_what_to_do_gets_no_other_advice() {
        use RegistryErrorKind::{Connection, Denied};
        let denied = || RegistryError::new(Denied, "GitHub refuses");
        for (error, expected) in [
            (denied(), Some("let `cleaner` read there, or correct `auth` of registry main")),
            (denied().with_help("the token needs the scope `read:packages`"), None),
            (denied().with_help("the token needs the scope `read:packages`").within("the list failed"), None),
            (denied().within("the list failed"), Some("let `cleaner` read there, or correct `auth` of registry main")),
            (
                RegistryError::new(Connection, "no answer"),
                Some("check that https://ghcr.io is right, up and reachable from this machine"),
            ),
            (RegistryError::new(Connection, "no answer").with_help("start the proxy"), None),
        ] {
            let found = registry_partly_unread(&registry(&error));
            assert!(found.remedy.is_some(), "each item has a remedy: {found:?}");
            let sentence = expected.map_or(found.message.clone(), |remedy| format!("{}; {remedy}", found.message));
            assert_eq!(found.sentence(), sentence, "{}", error.chain());
            assert!(found.message.ends_with(&error.chain()), "{}", found.message);
        }
    }

    #[test]
    fn gaps_of_older_plans_get_the_usual_advice() {
        let mut old = serde_json::to_value(registry(&RegistryError::new(RegistryErrorKind::Denied, "no"))).unwrap();
        old["gaps"][0].as_object_mut().unwrap().remove("has_help");
        let old: RegistryView = serde_json::from_value(old).unwrap();
        assert!(registry_partly_unread(&old).sentence().ends_with("correct `auth` of registry main"));
    }
}
