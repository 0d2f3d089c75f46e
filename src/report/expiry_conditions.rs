//! The conditions under which a retained tag would expire, as far as they are known.

use super::humanize::counted;
use super::idle::selection_condition;
use super::notation::{format_minute, short_digest};
use super::shortfall::periods;
use super::{HolderView, KeptView, ReasonView};

/// Returns, for each reason to retain the tag, the condition that ends it. All must be met before the tag expires.
pub(super) fn expiry_conditions(kept: &KeptView) -> Vec<String> {
    let mut endings = Vec::new();
    for reason in &kept.reasons {
        if let Some(ending) = expiry_condition(reason)
            && !endings.contains(&ending)
        {
            endings.push(ending);
        }
    }
    endings
}

fn expiry_condition(reason: &ReasonView) -> Option<String> {
    Some(match reason {
        ReasonView::NotSelected {} => "a policy selects it".to_owned(),
        ReasonView::Held { tag, until, .. } => {
            format!("the hold on tag {tag} ends: on {}, or by `tagwarden unhold`", format_minute(*until))
        }
        ReasonView::Claimed { source, holder, .. } => describe_release(source, holder),
        ReasonView::Locked { on, .. } => format!("somebody unlocks the {on} in the registry; Tagwarden never does"),
        ReasonView::ChildOfKept { index } => {
            format!("the index {} is removed or no longer contains it", short_digest(index))
        }
        ReasonView::CompanionOfKept { subject } => {
            format!(
                "the last tag and claim of the image {} are removed; it is then removed with them",
                short_digest(subject)
            )
        }
        ReasonView::CompanionOfUnknown { subject } => format!(
            "the image {} appears here under a tag and that tag is removed; or somebody removes it by hand",
            short_digest(subject)
        ),
        ReasonView::SubjectOfKept { referrer } => format!("the referrer {} is removed", short_digest(referrer)),
        ReasonView::SharesManifest { tag } => format!("tag {tag} is removed in the same plan"),
        ReasonView::LastTag {} => {
            "another tag of its image stays; or the registry's settings say removal = \"manifest\"".to_owned()
        }
        ReasonView::KeptAll { policy } => format!("policy {policy} is changed: it keeps all"),
        ReasonView::KeptNewest { policy, rank, count } => {
            let newer = u64::from(count.saturating_sub(*rank)) + 1;
            format!(
                "{} of what policy {policy} groups with it",
                counted(newer, "newer image") + &describe_new_tags(newer)
            )
        }
        ReasonView::KeptWithin { policy, until, .. } => {
            format!("it is past {} (policy {policy})", format_minute(*until))
        }
        ReasonView::KeptPulled { policy, until, .. } => {
            format!("nobody pulls it before {} (policy {policy})", format_minute(*until))
        }
        ReasonView::PullTimeUnknown { policy } => {
            format!("its registry records when it was pulled last; or policy {policy} no longer goes by pulls")
        }
        ReasonView::KeptBucket { policy, rule, bucket, count } => format!(
            "a newer image falls into {bucket}, or at the latest {count} later {} (policy {policy})",
            periods(rule)
        ),
        ReasonView::KeptVersion { policy, line, rank, count, .. } => {
            let higher = u64::from(count.saturating_sub(*rank)) + 1;
            format!(
                "{} in the line {line} (policy {policy})",
                counted(higher, "higher version") + &describe_new_tags(higher)
            )
        }
        ReasonView::KeptMatching { policy, glob } => format!("policy {policy} no longer keeps `{glob}`"),
        ReasonView::KeptImageWith { policy, tag } => {
            format!("its image is no longer kept for the tag `{tag}` (policy {policy})")
        }
        ReasonView::Undated { policy, why, time: Some(time) } if why == "future" => {
            format!("its time, {}, has come; policy {policy} then goes by it", format_minute(*time))
        }
        ReasonView::Undated { policy, why, .. } if why == "other-tag" => format!(
            "each tag of its image gets a time that can be trusted, by a new push; or policy {policy} no longer goes by time"
        ),
        ReasonView::Undated { policy, .. } => {
            format!("it gets a time that can be trusted, by a new push; or policy {policy} no longer goes by time")
        }
        ReasonView::NotAVersion { policy } => format!("policy {policy} no longer selects it, or not by version"),
        ReasonView::SelectionUnknown { .. } => return selection_condition(reason),
        ReasonView::SourceFailed { source } => format!("source {source} answers and does not claim it"),
        ReasonView::Gap { at, .. } => format!("{at} can be read, and then shows no reason to stay"),
        ReasonView::MaybeClaimed { source, digest, uncertainty, .. } if uncertainty == "other-algorithm" => format!(
            "source {source} no longer claims {}, or names it by the algorithm that the registry uses",
            short_digest(digest)
        ),
        ReasonView::MaybeClaimed { source, digest, .. } => format!(
            "this image's configuration is read and is not {}, or source {source} no longer reports that id; the \
             registry's setting `bytes = \"exact\"` reads every configuration",
            short_digest(digest)
        ),
        ReasonView::UnresolvedReference { source, text, holder } => format!(
            "{} names a tag instead of `{text}`, or source {source} only notes it (`unresolved = \"note\"`)",
            holder.describe()
        ),
        ReasonView::Mentioned { source, text, holder } => format!(
            "the word `{text}` is gone from {}, or source {source} only reports it (`mentions = \"report\"`)",
            holder.describe()
        ),
        ReasonView::IndexUnread { index, .. } => {
            format!("the index {} is read, which a plan does, and does not hold it", short_digest(index))
        }
        ReasonView::NotKept { .. } | ReasonView::CompanionOfExpired { .. } => return None,
    })
}

fn describe_new_tags(number: u64) -> String {
    if number == 1 { " arrives".to_owned() } else { " arrive".to_owned() }
}

fn describe_release(source: &str, holder: &HolderView) -> String {
    match holder {
        HolderView::Release { keep_until: Some(until), .. } => {
            format!("{} is past, or the record is retired or gone (source {source})", format_minute(*until))
        }
        HolderView::Release { .. } => format!("the record is retired or gone: {} (source {source})", holder.describe()),
        HolderView::Hold { .. } => format!("the hold ends: {}", holder.describe()),
        HolderView::File { .. } => format!("{} no longer names it (source {source})", holder.describe()),
        HolderView::Pull { .. } => {
            format!("nobody pulls it for the time that source {source} covers: {}", holder.describe())
        }
        HolderView::Workload { .. } => format!("{} no longer uses it (source {source})", holder.describe()),
    }
}
