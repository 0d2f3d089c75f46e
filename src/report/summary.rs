//! Counts and groups shared by all renderings.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::attention::unread_headline;
use super::humanize::{counted, format_bytes, format_count};
use super::notation::{format_minute, short_digest};
use super::registry_info::{can_untag, period};
use super::{AttentionView, KeptView, PlanDocument, ReasonView, RemovalView};

/// The effect of an enforcing run on a planned removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RemovalStatus {
    /// All of its policies say `enforce`, and nothing refuses it.
    Enforced,
    /// A policy of it, or of a manifest that it depends on, does not say `enforce`.
    DryRun,
    /// A limit or the registry forbids it.
    Refused,
}

impl RemovalStatus {
    pub(super) fn of(document: &PlanDocument, removal: &RemovalView) -> Self {
        match (removal.enforce, document.refusal_of(removal)) {
            (_, Some(_)) => Self::Refused,
            (true, None) => Self::Enforced,
            (false, None) => Self::DryRun,
        }
    }

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Enforced => "enforced",
            Self::DryRun => "reported only",
            Self::Refused => "refused",
        }
    }
}

/// The number of removals by status.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct StatusCounts {
    pub(super) enforced: u64,
    pub(super) dry_run: u64,
    pub(super) refused: u64,
}

pub(super) fn count_statuses(document: &PlanDocument) -> StatusCounts {
    let mut found = StatusCounts::default();
    for (removal, count) in document.removals.groups() {
        match RemovalStatus::of(document, &removal) {
            RemovalStatus::Enforced => found.enforced += count,
            RemovalStatus::DryRun => found.dry_run += count,
            RemovalStatus::Refused => found.refused += count,
        }
    }
    found
}

/// Counts the removals and deletions that a run would enforce if nothing refused them.
#[must_use]
pub fn count_refused(document: &PlanDocument) -> u64 {
    let removals = document.removals.groups();
    let removals = removals.filter(|(removal, _)| removal.enforce && document.refusal_of(removal).is_some());
    let deletions = document.deletions.deletable().filter(|one| one.enforce && one.refused.is_some());
    let deletions = deletions.map(|one| 1 + one.dependents.len() as u64);
    removals.map(|(_, count)| count).sum::<u64>() + deletions.sum::<u64>()
}

/// Describes the mode and time: `Dry run: nothing is removed; as of 2026-11-23 03:00 UTC`.
pub(super) fn describe_mode(document: &PlanDocument) -> String {
    let what = match document.mode.as_str() {
        "dry-run" => "Dry run: nothing is removed",
        "approved" => "Plan for approval: only `tagwarden apply` of it removes",
        "enforce" if document.is_applied => "Run in mode enforce: it removed what it could of this plan",
        "enforce" => "Plan in mode enforce: `run` and `serve` remove what their own plans list",
        other => other,
    };
    let what = match &document.blocked_by {
        Some(why) => format!("{what}; HELD BACK now: {why}"),
        None => what.to_owned(),
    };
    let time = format_minute(document.evaluated_at);
    let narrowed = document.narrowed.as_ref().map_or_else(String::new, |narrowed| {
        format!("; NARROWED to {} (everything was read and decided; limits count the whole plan)", narrowed.describe())
    });
    if document.hypothetical {
        let away = describe_distance(document.evaluated_at.duration_since(document.created_at).as_hours() / 24);
        format!("Simulation: it cannot be applied; as of {time}{away}{narrowed}")
    } else {
        format!("{what}; as of {time}{narrowed}")
    }
}

/// Describes so many days from now: a time that was meant in the future may be in the past.
fn describe_distance(days: i64) -> String {
    match (days, counted(days.unsigned_abs(), "day")) {
        (0, _) => String::new(),
        (1.., days) => format!(", {days} from now"),
        (_, days) => format!(", {days} ago"),
    }
}

/// Returns the attention items without the refusals, which have a section of their own right before.
pub(super) fn beside_refusals(document: &PlanDocument) -> Vec<AttentionView> {
    let is_refusal = |found: &&AttentionView| matches!(found.kind.as_str(), "refused" | "would-be-refused");
    document.attention.iter().filter(|found| !is_refusal(found)).cloned().collect()
}

/// Returns the plan in one line.
pub(super) fn headline(document: &PlanDocument) -> String {
    let unread = unread_headline(document);
    if let Some(unread) = unread.as_ref().filter(|_| document.summary.tags == 0) {
        return format!("NOTHING WAS READ: {unread}");
    }
    let unread = unread.map(|unread| format!("; NOT READ: {unread}")).unwrap_or_default();
    let mut binding = document.refusals.iter().filter(|refusal| refusal.binding);
    let refused = binding.next().map(|first| {
        let more = binding.count();
        let more = if more == 0 { String::new() } else { format!(" (and {} more)", format_count(more as u64)) };
        format!("; REFUSED: {}{more}", first.message)
    });
    let refused = refused.unwrap_or_default();
    let summary = &document.summary;
    let unknown = match summary.unknown_bytes_removals {
        0 => String::new(),
        number => format!(", {} of unknown size", format_count(number)),
    };
    format!(
        "{}: {} would be removed ({}{} reclaimable{unknown}), {} protected, {} retained, {} undecided, {} out of scope{unread}{refused}",
        counted(summary.tags, "tag"),
        format_count(summary.expired),
        if summary.is_estimated() { "about " } else { "" },
        format_bytes(summary.reclaimable_bytes),
        format_count(summary.protected),
        format_count(summary.retained),
        format_count(summary.undecided),
        format_count(summary.out_of_scope),
    )
}

/// Describes the bytes that the removals free, and the bytes that remain shared.
pub(super) fn describe_reclaimable(document: &PlanDocument) -> String {
    let summary = &document.summary;
    let (reclaimable, shared) = (format_bytes(summary.reclaimable_bytes), format_bytes(summary.shared_bytes));
    // Where manifests are deleted, the registry may free their bytes at once.
    let untags = document.registries.iter().any(|registry| registry.removal == "untag" && can_untag(&registry.kind));
    let frees = if untags { "Untagging frees nothing by itself. " } else { "" };
    let mut words = if summary.is_estimated() {
        format!(
            "{frees}About {reclaimable} by the registry's own sizes, shared layers counted \
             more than once, is the most that can be reclaimed once the registry collects what goes.{}",
            match summary.shared_bytes {
                0 => String::new(),
                _ => format!(" {shared} of images that stay, because something kept uses them, are not counted."),
            }
        )
    } else {
        format!(
            "{frees}{reclaimable} are used only by what is removed and can be reclaimed once the \
             registry collects them; {shared} are shared with what stays."
        )
    };
    if summary.unknown_bytes_removals > 0 {
        let removals = counted(summary.unknown_bytes_removals, "removal");
        words.extend([" The bytes of ", &removals, " cannot be known and are not counted."]);
    }
    words
}

/// Describes what can be done with the plan now, or why nothing can.
pub(super) fn next_steps(document: &PlanDocument) -> Vec<String> {
    let found = count_statuses(document);
    let mut steps = Vec::new();
    if document.evidence_missing() {
        steps.push(
            "Evidence is missing: a source failed or something could not be read, so some tags are undecided and stay. \
             Put right what is named above and plan again."
                .to_owned(),
        );
    }
    if found.refused > 0 {
        steps.push(format!(
            "{} refused: none of what a refusal covers is removed, not even a part of it.",
            counted_with_verb(found.refused, "removal")
        ));
    }
    if found.dry_run > 0 {
        let narrowed = document.narrowed.as_ref().is_some_and(|narrowed| !narrowed.policies.is_empty());
        steps.push(format!(
            "{} only reported: not every policy concerned says `mode: enforce`{}.",
            counted_with_verb(found.dry_run, "removal"),
            if narrowed { ", or the plan is narrowed to others" } else { "" }
        ));
    }
    if let Some(why) = &document.blocked_by {
        steps.push(format!("Nothing is removed now: {why}."));
    }
    steps.push(if document.is_applied {
        "This run has removed what it could of this; `tagwarden runs show last` has the outcome of each tag.".to_owned()
    } else {
        describe_application(document, found)
    });
    steps.extend(accept_all(document));
    steps
}

/// Most refusals that the command names one by one; beyond that, it names their kinds.
const MOST_ACCEPTANCES: usize = 8;

/// Returns the command that accepts all binding refusals of a plan that can be accepted, and what the plan accepted
/// already; `None` where a single refusal says it all.
fn accept_all(document: &PlanDocument) -> Option<String> {
    if document.mode == "dry-run" || document.hypothetical || document.narrowed.is_some() {
        return None;
    }
    let refused: BTreeSet<String> = super::acceptable_refusals(document, true).collect();
    let earlier = document.accepted.iter().map(super::AcceptedView::flag);
    let mut flags: BTreeSet<String> = refused.iter().cloned().chain(earlier).collect();
    if refused.is_empty() || flags.len() < 2 {
        return None;
    }
    let every = if flags.len() > MOST_ACCEPTANCES {
        let kind = |flag: &String| flag.split('@').next().unwrap_or_default().to_owned();
        flags = flags.iter().map(kind).collect();
        "every refusal of a kind"
    } else {
        "all of them"
    };
    let flags: Vec<String> = flags.iter().map(|flag| format!("--accept {flag}")).collect();
    Some(format!(
        "If you looked at each refusal that can be accepted, and accept {every} for one plan: `tagwarden plan {} --reason TEXT --out \
         plan.json`",
        flags.join(" ")
    ))
}

fn describe_application(document: &PlanDocument, found: StatusCounts) -> String {
    if document.hypothetical {
        return "This plan cannot be applied: its time was given by hand. Plan again without `--at`.".to_owned();
    }
    let deletions = document
        .deletions
        .deletable()
        .filter(|one| one.is_enforceable())
        .map(|one| 1 + one.dependents.len() as u64)
        .sum();
    if document.removals.is_empty() && document.deletions.deletable().next().is_none() {
        return "Nothing would be removed, so there is nothing to apply.".to_owned();
    }
    if found.enforced == 0 && deletions == 0 {
        return "This plan cannot be applied: nothing in it is both enforced and allowed.".to_owned();
    }
    if document.mode == "dry-run" {
        return format!(
            "This plan cannot be applied: the mode is dry-run. With `mode = \"approved\"` in the settings, a new plan \
             like this one would remove {}.",
            describe_removals(found.enforced, deletions)
        );
    }
    let removing = describe_removals(found.enforced, deletions);
    let held_back = document.blocked_by.is_some();
    // The document does not show whether `run` prints it; its results follow then.
    let intro = if document.mode == "enforce" {
        format!(
            "`tagwarden run` removes what its own plan lists, {removing} of this one{}. To remove them by approval instead",
            if held_back { ", once nothing holds it back" } else { "" }
        )
    } else {
        format!("To remove {removing}, exactly these or fewer")
    };
    let command = match &document.written_to {
        Some(file) => format!("`tagwarden apply {file}`"),
        None => "`tagwarden apply plan.json` on the file that `--out plan.json` wrote".to_owned(),
    };
    format!(
        "{intro}: have plan {} approved, and until {} run {command}.",
        document.id,
        format_minute(document.expires_at)
    )
}

/// Describes the effect of an enforcing run.
fn describe_removals(tags: u64, manifests: u64) -> String {
    match (tags, manifests) {
        (tags, 0) => counted(tags, "tag"),
        (0, manifests) => counted(manifests, "untagged manifest"),
        (tags, manifests) => format!("{} and {}", counted(tags, "tag"), counted(manifests, "untagged manifest")),
    }
}

fn counted_with_verb(number: u64, what: &str) -> String {
    counted(number, what) + if number == 1 { " is" } else { " are" }
}

/// Describes the rules that expire a tag, without the policy's name if there is only one.
#[must_use]
pub fn removal_reasons(removal: &RemovalView) -> String {
    let several = removal.policies().nth(1).is_some();
    let parts: Vec<String> = removal
        .reasons
        .iter()
        .map(|reason| match reason {
            ReasonView::NotKept { shortfalls, .. } if !several => match shortfalls.as_slice() {
                [] => "the policy keeps none".to_owned(),
                shortfalls => shortfalls.iter().map(super::ShortfallView::describe).collect::<Vec<_>>().join("; "),
            },
            ReasonView::CompanionOfExpired { subject, .. } => {
                format!("removed with the image {}", short_digest(subject))
            }
            reason => reason.sentence(),
        })
        .chain(removal.refused_by_registry.iter().map(|refused| refused.text.clone()))
        .collect();
    parts.join("; ")
}

/// Most repositories for which [`verify_commands`] returns commands.
const MAX_VERIFY_REPOSITORIES: usize = 20;

/// Returns the commands to verify a removal by hand, for the first removal of each repository.
pub(super) fn verify_commands(document: &PlanDocument) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let removals = document.removals.iter().take(1_000);
    let first = removals.filter(|removal| seen.insert((removal.registry.clone(), removal.repository.clone())));
    first.take(MAX_VERIFY_REPOSITORIES).flat_map(|removal| removal.verify.clone()).collect()
}

/// Describes the bytes that a removal makes reclaimable.
pub(super) fn describe_size(removal: &RemovalView) -> String {
    removal.reclaimable_bytes.map_or_else(|| "unknown".to_owned(), format_bytes)
}

/// Formats the date of a removal and its origin: `2026-10-01 (pushed)`.
pub(super) fn describe_date(removal: &RemovalView) -> String {
    let time = removal.dated_at.map(|time| format!("{} ({})", time.strftime("%Y-%m-%d"), removal.dated_by));
    time.unwrap_or_else(|| "unknown".to_owned())
}

/// Describes the identity and the validity of the plan.
pub(super) fn describe_validity(document: &PlanDocument) -> String {
    format!(
        "Plan {}, made {}, valid until {}; fingerprint {} (a later plan with the same fingerprint would do the same)",
        document.id,
        format_minute(document.created_at),
        format_minute(document.expires_at),
        document.fingerprint
    )
}

/// Instructions to restore everything.
pub(super) const RESTORE_INSTRUCTIONS: &str = "`tagwarden runs` shows what each run did; `tagwarden restore --run ID` puts all of its \
    tags back at their digests, `tagwarden restore --repository REGISTRY/REPOSITORY` those of a repository, and \
    `tagwarden restore IMAGE` one. `--dry-run` says what would come back. That works as long as the registry has not \
    collected the manifests.";

/// Returns the period for which each registry lets removals be undone, if known.
pub(super) fn undo_periods(document: &PlanDocument) -> Vec<(&str, String)> {
    let known = document.registries.iter().filter_map(|registry| {
        let period = match registry.undo_seconds? {
            0 => "not at all for sure after each removal".to_owned(),
            seconds => format!("for {} after each removal", period(seconds)),
        };
        Some((registry.name.as_str(), period))
    });
    known.collect()
}

/// The bounds of the classes of age, in days, and their names.
const AGE_CLASSES: [(i64, &str); 6] = [
    (7, "under 7 days"),
    (30, "7 to 30 days"),
    (90, "30 to 90 days"),
    (180, "90 to 180 days"),
    (365, "180 to 365 days"),
    (i64::MAX, "a year and more"),
];

/// Counts removals by class of age, the youngest first. Empty classes are left out.
pub(super) fn count_by_age(document: &PlanDocument) -> Vec<(&'static str, u64)> {
    let mut numbers = [0_u64; AGE_CLASSES.len()];
    let mut unknown = 0;
    for removal in document.removals.iter() {
        match removal.age_seconds {
            None => unknown += 1,
            Some(seconds) => {
                let class =
                    AGE_CLASSES.iter().position(|(days, _)| seconds / 86_400 < *days).unwrap_or(AGE_CLASSES.len() - 1);
                numbers[class] += 1;
            }
        }
    }
    let classes = AGE_CLASSES.iter().map(|(_, name)| *name).zip(numbers).chain([("of unknown age", unknown)]);
    classes.filter(|(_, number)| *number > 0).collect()
}

/// Returns the retained tags with one verdict.
pub(super) fn kept_with_verdict<'a>(
    document: &'a PlanDocument,
    verdict: &'a str,
) -> impl Iterator<Item = Cow<'a, KeptView>> {
    document.kept.iter().filter(move |kept| kept.verdict == verdict)
}

/// Counts retained tags by kind of reason, the most frequent first. A tag counts once for each kind.
pub(super) fn count_by_reason(document: &PlanDocument) -> Vec<(&'static str, u64)> {
    let mut kinds: BTreeMap<&'static str, u64> = BTreeMap::new();
    for kept in document.kept.iter() {
        let mut found: Vec<&'static str> = kept.reasons.iter().filter_map(retain_label).collect();
        found.sort_unstable();
        found.dedup();
        for kind in found {
            *kinds.entry(kind).or_default() += 1;
        }
    }
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort_by_key(|&(kind, number)| (std::cmp::Reverse(number), kind));
    kinds
}

/// Returns the words for a kind of reason that retains; `None` for reasons that expire.
fn retain_label(reason: &ReasonView) -> Option<&'static str> {
    Some(match reason {
        ReasonView::NotSelected {} => "no policy selects it",
        ReasonView::Held { .. } => "held",
        ReasonView::Claimed { .. } => "a source claims it",
        ReasonView::Mentioned { .. } => "a text of a source mentions it",
        ReasonView::Locked { .. } => "the registry has locked it",
        ReasonView::ChildOfKept { .. } => "part of an index that stays",
        ReasonView::CompanionOfKept { .. } => "signature or the like of an image that stays",
        ReasonView::CompanionOfUnknown { .. } => "signature or the like of an image that is not to be seen",
        ReasonView::SubjectOfKept { .. } => "subject of a referrer that stays",
        ReasonView::SharesManifest { .. } => "shares its manifest with a tag that stays",
        ReasonView::LastTag {} => "the registry would delete its image with its last tag",
        ReasonView::KeptAll { .. } => "policy keeps all",
        ReasonView::KeptNewest { .. } => "among the newest",
        ReasonView::KeptWithin { .. } => "young enough",
        ReasonView::KeptBucket { .. } => "newest of its day, week, month or year",
        ReasonView::KeptVersion { .. } => "among the highest of its version line",
        ReasonView::KeptPulled { .. } => "pulled lately",
        ReasonView::PullTimeUnknown { .. } => "pulls may not be recorded",
        ReasonView::KeptMatching { .. } => "name is kept",
        ReasonView::KeptImageWith { .. } => "another tag of its image is kept",
        ReasonView::Undated { .. } => "has no time that can be trusted",
        ReasonView::NotAVersion { .. } => "is not a version",
        ReasonView::SelectionUnknown { .. } => "a policy selects by a fact that is not known",
        ReasonView::SourceFailed { .. } => "a source failed",
        ReasonView::Gap { .. } => "something could not be read",
        ReasonView::MaybeClaimed { .. } => "a source claims a digest that may be this image's",
        ReasonView::UnresolvedReference { .. } => "a source names its repository and leaves the tag open",
        ReasonView::IndexUnread { .. } => "an index that may hold it was not read",
        ReasonView::NotKept { .. } | ReasonView::CompanionOfExpired { .. } => return None,
    })
}

/// Returns the holder of a protected tag, as a heading for a list of such tags.
fn protection_heading(reason: &ReasonView) -> Option<String> {
    match reason {
        ReasonView::Claimed { source, holder, .. } => {
            let group = holder.group();
            Some(if group.starts_with(source.as_str()) { group } else { format!("{source}: {group}") })
        }
        ReasonView::Held { held_by, .. } => Some(format!("hold of {held_by}")),
        ReasonView::Mentioned { source, holder, .. } => Some(format!("{source}: mentioned in {}", holder.group())),
        ReasonView::Locked { .. }
        | ReasonView::ChildOfKept { .. }
        | ReasonView::CompanionOfKept { .. }
        | ReasonView::CompanionOfUnknown { .. }
        | ReasonView::SubjectOfKept { .. }
        | ReasonView::SharesManifest { .. }
        | ReasonView::LastTag {} => retain_label(reason).map(str::to_owned),
        _ => None,
    }
}

/// A protected tag, with the number of protecting reasons beyond the first.
pub(super) struct ProtectedTag<'a> {
    pub(super) kept: Cow<'a, KeptView>,
    first_reason: Option<usize>,
    pub(super) more_reasons: usize,
}

impl ProtectedTag<'_> {
    /// Returns the first reason that protects it.
    pub(super) fn reason(&self) -> Option<&ReasonView> {
        self.kept.reasons.get(self.first_reason?)
    }
}

/// Groups the protected tags, each once, under its first holder: up to the number that a report may show for each
/// holder, with the total.
pub(super) fn group_by_holder(
    document: &PlanDocument,
    most: usize,
) -> (BTreeMap<String, Vec<ProtectedTag<'_>>>, usize) {
    let mut groups: BTreeMap<String, Vec<_>> = BTreeMap::new();
    let mut total = 0;
    for kept in kept_with_verdict(document, "protected") {
        let mut holds = (0..).zip(&kept.reasons).filter_map(|(at, reason)| Some((at, protection_heading(reason)?)));
        let (first, group) = holds.next().unzip();
        let others = holds.count();
        total += 1;
        let group = groups.entry(group.unwrap_or_default()).or_default();
        if group.len() < most {
            group.push(ProtectedTag { kept, first_reason: first, more_reasons: others });
        }
    }
    (groups, total)
}

/// Describes the missing information about an undecided tag.
pub(super) fn describe_missing(kept: &KeptView) -> String {
    let is_missing = |reason: &&ReasonView| {
        matches!(
            reason,
            ReasonView::SourceFailed { .. }
                | ReasonView::Gap { .. }
                | ReasonView::MaybeClaimed { .. }
                | ReasonView::UnresolvedReference { .. }
                | ReasonView::IndexUnread { .. }
        )
    };
    let gaps = kept.reasons.iter().filter(is_missing);
    gaps.map(ReasonView::sentence).collect::<Vec<_>>().join("; ")
}
