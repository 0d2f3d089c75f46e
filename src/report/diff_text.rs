//! Differences between policies, for the terminal and for a pull request.

use std::fmt::Write as _;

use super::humanize::{counted, format_age, format_count};
use super::markdown::{code, escape, folded, lines};
use super::text::{heading, line};
use super::{DiffView, RefusalView, TagDiff};

/// Most tags of one list that the terminal shows.
const MOST_TAGS: usize = 100;
/// Most bytes of one list in a comment: three of them fit within the limits of forges.
const MAX_LIST_BYTES: usize = 18_000;
/// Most bytes of a comment's reasons for one tag.
const MAX_REASON_BYTES: usize = 240;

/// Renders the view for the terminal.
#[must_use]
pub fn diff_text(view: &DiffView) -> String {
    let mut out = String::new();
    line(&mut out, 0, &view.headline());
    line(&mut out, 0, &basis(view));
    line(&mut out, 0, &describe_summary(view));
    heading(&mut out, "Policies");
    let widest = view.policies.iter().map(|policy| policy.policy.len()).max().unwrap_or_default();
    for policy in &view.policies {
        let (goes, back) = (format_count(policy.newly_expired), format_count(policy.no_longer_expired));
        line(
            &mut out,
            1,
            &format!("{:<widest$}  {:<8} {goes} newly expired, {back} no longer expired", policy.policy, policy.change),
        );
    }
    for (title, tags) in lists(view) {
        if tags.is_empty() {
            continue;
        }
        heading(&mut out, title);
        for tag in tags.iter().take(MOST_TAGS) {
            line(&mut out, 1, &format!("{} ({} → {}, {})", tag.name(), tag.before, tag.after, old_verdict(tag)));
            line(&mut out, 2, &tag.reason());
        }
        if tags.len() > MOST_TAGS {
            let left = format_count((tags.len() - MOST_TAGS) as u64);
            line(&mut out, 1, &format!("and {left} more: `--format json` lists all"));
        }
    }
    for refusal in new_refusals(view) {
        heading(&mut out, "Newly refused");
        line(&mut out, 1, &refusal.message);
    }
    out
}

/// Renders the view for a pull request: short, with the lists folded.
#[must_use]
pub fn diff_markdown(view: &DiffView) -> String {
    let mut out = format!(
        "### Tagwarden: {}\n\n{}\n{}\n",
        view.headline(),
        escape(&basis(view)),
        escape(&describe_summary(view))
    );
    out.push_str("\n| policy | change | newly expired | no longer expired |\n| --- | --- | ---: | ---: |\n");
    for policy in &view.policies {
        let (goes, back) = (format_count(policy.newly_expired), format_count(policy.no_longer_expired));
        let _ = writeln!(out, "| {} | {} | {goes} | {back} |", code(&policy.policy), policy.change);
    }
    for refusal in new_refusals(view) {
        let _ = write!(out, "\n**Newly refused:** {}\n", escape(&refusal.message));
    }
    for (title, tags) in lists(view) {
        if tags.is_empty() {
            continue;
        }
        let rows = tags.iter().map(|tag| {
            let why = escape(&super::humanize::truncate(&tag.reason(), MAX_REASON_BYTES));
            format!("| {} | {} | {} → {} | {why} |", code(&tag.name()), old_verdict(tag), tag.before, tag.after)
        });
        let rows = lines(MAX_LIST_BYTES, tags.len(), rows);
        let table = format!("| tag | age | | why |\n| --- | --- | --- | --- |\n{rows}");
        let title = format!("{title} ({})", format_count(tags.len() as u64));
        let _ = write!(out, "\n{}", folded(&title, &table));
    }
    out
}

fn lists(view: &DiffView) -> [(&'static str, &[TagDiff]); 3] {
    [
        ("Newly expired", &view.newly_expired),
        ("No longer expired", &view.no_longer_expired),
        ("Expired before, would now be removed", &view.newly_enforced),
    ]
}

fn basis(view: &DiffView) -> String {
    let time = |time: jiff::Timestamp| time.strftime("%Y-%m-%d %H:%M UTC").to_string();
    let read = match view.recorded_at {
        Some(at) => format!("an inventory recorded on {}", time(at)),
        None => "the inventory as it is now".to_owned(),
    };
    let missing =
        if view.evidence_missing { "; evidence is missing, so some tags are undecided by either" } else { "" };
    let against = view.against.as_ref().map_or_else(String::new, |old| {
        format!(" Old policies: `{}` ({}).", old.revision, old.commit.get(..10).unwrap_or(&old.commit))
    });
    let tags = counted(view.summary.tags, "tag");
    format!("{tags} of {read}, decided for {}{missing}.{against}", time(view.evaluated_at))
}

fn describe_summary(view: &DiffView) -> String {
    let sums = &view.summary;
    let mut text = format!(
        "Expired: {} before, {} after; to be removed: {} before, {} after.",
        format_count(sums.expired_before),
        format_count(sums.expired_after),
        format_count(sums.enforced_before),
        format_count(sums.enforced_after)
    );
    if sums.kept_with_other_verdict > 0 {
        let _ = write!(text, " {} for another reason than before.", describe_retained(sums.kept_with_other_verdict));
    }
    text
}

fn describe_retained(number: u64) -> String {
    if number == 1 { "1 tag stays".to_owned() } else { format!("{} tags stay", format_count(number)) }
}

fn old_verdict(tag: &TagDiff) -> String {
    tag.age_seconds.map_or_else(|| "no time".to_owned(), format_age)
}

pub(super) fn new_refusals(view: &DiffView) -> impl Iterator<Item = &RefusalView> {
    let known = |refusal: &RefusalView| {
        let same = |old: &RefusalView| {
            (&old.kind, &old.policy, &old.registry, &old.repository)
                == (&refusal.kind, &refusal.policy, &refusal.registry, &refusal.repository)
        };
        view.refusals_before.iter().any(same)
    };
    view.refusals_after.iter().filter(move |refusal| !known(refusal))
}
