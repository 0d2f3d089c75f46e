//! Numbers and refusals in words.

use std::time::Duration;

use super::unmatched::describe_unmatched;
use crate::domain::{AcceptanceScope, ClockIssue, Policy, Refusal, RefusalReason, RefusalScope, RemovalObstacle};

/// Formats seconds as the largest one or two units: `20 days`, `5 hours`, `1 year 30 days`.
#[must_use]
pub fn format_age(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600, seconds / 60);
    if days >= 365 {
        let (years, rest) = (days / 365, days % 365);
        return if rest == 0 { plural(years, "year") } else { plural(years, "year") + " " + &plural(rest, "day") };
    }
    match (days, hours, minutes) {
        (1.., _, _) => plural(days, "day"),
        (_, 1.., _) => plural(hours, "hour"),
        (_, _, 1..) => plural(minutes, "minute"),
        _ => plural(seconds, "second"),
    }
}

fn plural(count: i64, unit: &str) -> String {
    if count == 1 { format!("1 {unit}") } else { format!("{count} {unit}s") }
}

/// Formats bytes in binary units: `41.2 GiB`.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "three significant digits are shown")]
pub fn format_bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// Formats a number with commas between thousands: `12,430`.
#[must_use]
pub fn format_count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Formats a count with its noun: `1 tag`, `12,430 tags`.
#[must_use]
pub fn counted(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{} {what}s", format_count(number)) }
}

/// Formats a count of repositories: `1 repository`, `12,430 repositories`.
pub(super) fn counted_repositories(number: u64) -> String {
    if number == 1 { "1 repository".to_owned() } else { format!("{} repositories", format_count(number)) }
}

/// Returns text from outside as one line that cannot steer a terminal or reverse the reading direction: line breaks
/// become spaces, other control and direction characters become U+FFFD.
#[must_use]
pub fn sanitize(text: &str) -> String {
    text.trim()
        .chars()
        .map(|found| match found {
            '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' => ' ',
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => '\u{fffd}',
            found if found.is_control() => '\u{fffd}',
            found => found,
        })
        .collect()
}

/// Truncates a text to that many bytes, with an ellipsis if something is left out.
#[must_use]
pub fn truncate(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most.saturating_sub('…'.len_utf8())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    format!("{}…", &text[..end])
}

/// Formats an ordinal number: `1st`, `2nd`, `3rd`, `11th`.
pub(super) fn ordinal(number: u32) -> String {
    let suffix = match (number % 10, number % 100) {
        (1, hundred) if hundred != 11 => "st",
        (2, hundred) if hundred != 12 => "nd",
        (3, hundred) if hundred != 13 => "rd",
        _ => "th",
    };
    format!("{number}{suffix}")
}

/// Describes why a registry cannot remove tags, and the remedy.
#[must_use]
pub fn describe_obstacle(obstacle: &RemovalObstacle) -> String {
    match obstacle {
        RemovalObstacle::NoUntag => "this registry cannot delete a tag alone (distribution before 3.0 and alike); \
            upgrade it, or set `removal = \"manifest\"` for it, which deletes a manifest when all its tags expire together"
            .to_owned(),
        RemovalObstacle::DeletesDisabled => "this registry refuses deletions; enable them there \
            (distribution: `storage.delete.enabled: true`), then plan again"
            .to_owned(),
        RemovalObstacle::Setting => "the settings say that no tag can be deleted alone there (`can_untag = \"no\"`); change \
            that, or set `removal = \"manifest\"` for it, which deletes a manifest when all its tags expire together"
            .to_owned(),
        RemovalObstacle::Product(product) => {
            let version = product.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
            format!(
                "this registry was recognised as {}{version} by {}: {}; set `removal = \"manifest\"` for it, which deletes a \
                 manifest when all its tags expire together, or `can_untag = \"yes\"` if it is otherwise there",
                product.name, product.recognized_by, product.consequence
            )
        }
        RemovalObstacle::Kind { message } | RemovalObstacle::Denied { message } => message.clone(),
        RemovalObstacle::DestroysManifest { since } => format!(
            "an untag on {} destroyed the manifest in this registry, so nothing more is untagged there; \
            look at `tagwarden runs`, and, where its kind has that, set `removal = \"manifest\"` if that is what you \
            want; \
            `tagwarden registries forget` has it tried again, once the registry is mended",
            since.strftime("%Y-%m-%d %H:%M UTC")
        ),
        RemovalObstacle::CheckFailed { message } => {
            format!("it could not be found out whether this registry can remove tags: {message}")
        }
    }
}

fn describe_retention(days: Option<u32>, undo_window: Duration) -> String {
    let does = match days {
        None => "it did not say whether it deletes untagged manifests by itself".to_owned(),
        Some(0) => "it deletes untagged manifests by itself at once".to_owned(),
        Some(days) => format!("it deletes untagged manifests by itself after {}", plural(days.into(), "day")),
    };
    let window = format_age(i64::try_from(undo_window.as_secs()).unwrap_or(i64::MAX));
    let remedy = match days {
        None => "have it keep them that long, and write",
        Some(_) => "have it keep them longer, lower `undo_window`, or write",
    };
    format!(
        "{does}, and an untag is to be undoable for {window}; {remedy} `accept = [\"untagged-retention\"]` in the \
         registry's settings"
    )
}

/// Describes a clock that is ahead by that many seconds, and what to do next.
#[must_use]
pub fn describe_clock_difference(ahead_seconds: i64) -> String {
    let side = if ahead_seconds < 0 { "behind" } else { "ahead of" };
    format!(
        "its clock is {} {side} this machine's, so no tag's age can be trusted; correct the one that is wrong, then plan \
         again",
        format_age(ahead_seconds.saturating_abs())
    )
}

/// Describes why a time cannot be trusted, and what to do next.
#[must_use]
pub fn describe_clock_doubt(doubt: &ClockIssue) -> String {
    match doubt {
        ClockIssue::BehindState { newest, seconds } => format!(
            "this machine's clock is {} behind {newest}, which the state recorded in an earlier run, so no tag's age can be \
             trusted; set the clock, or, if the recorded time was wrong, run `tagwarden state accept-clock`",
            format_age(*seconds)
        ),
        ClockIssue::Stepped { seconds } => format!(
            "this machine's clock was set {} by {} while the run was under way, so no tag's age can be trusted; run again",
            if *seconds < 0 { "back" } else { "forward" },
            format_age(seconds.saturating_abs())
        ),
        ClockIssue::Unconfirmed => "it sends no `Date` header, so nothing confirms this machine's clock; have it, or the proxy \
             in front of it, send `Date` (RFC 9110, section 6.6.1), or write `accept = [\"no-date\"]` in the registry's \
             settings"
            .to_owned(),
        ClockIssue::InvalidHeader { header } => format!(
            "it sends an invalid `{header}` header, so nothing confirms this machine's clock; have it, or the proxy in \
             front of it, send a valid one ({}), or write `accept = [\"no-date\"]` in the registry's settings",
            if *header == "Age" { "RFC 9111, section 5.1" } else { "RFC 9110, section 6.6.1" }
        ),
    }
}

/// Describes a refusal, and what to do next.
#[must_use]
pub fn describe_refusal(refusal: &Refusal) -> String {
    describe_refusal_in(refusal, &[])
}

/// The same with the names of the files in which the limits of these policies stand.
pub(super) fn describe_refusal_in(refusal: &Refusal, policies: &[Policy]) -> String {
    let (what, remedy) = describe_refusal_of(refusal, policies);
    let remedy = remedy.map(|remedy| format!("; {remedy}")).unwrap_or_default();
    let note = if refusal.binding { "" } else { " (would apply once all policies enforce)" };
    format!("{}: {what}{remedy}{note}", refusal_place(&refusal.scope))
}

/// The place that a refusal covers.
pub(super) fn refusal_place(scope: &RefusalScope) -> String {
    match scope {
        RefusalScope::Run => "this run".to_owned(),
        RefusalScope::Registry(registry) => format!("registry {registry}"),
        RefusalScope::Policy(policy) => format!("policy {policy}"),
        RefusalScope::PolicyInRepository(policy, registry, repository) => {
            format!("policy {policy} in {registry}/{repository}")
        }
        RefusalScope::Repository(registry, repository) => format!("{registry}/{repository}"),
    }
}

/// The way to accept a refusal for one plan.
fn accept_once(refusal: &Refusal) -> String {
    let scope = AcceptanceScope::Exact(refusal.scope.clone());
    format!("accept it for one plan with `tagwarden plan --accept {}@{scope} --reason TEXT`", refusal.reason.label())
}

/// Where a limit stands: its key and file.
fn limit_place(scope: &RefusalScope, key: &str, policies: &[Policy]) -> String {
    let (RefusalScope::Policy(name) | RefusalScope::PolicyInRepository(name, ..)) = scope else {
        return format!("`limits.{key}` in tagwarden.toml");
    };
    match policies.iter().find(|policy| policy.name == *name) {
        Some(policy) => format!("`limits.{key}` of policy {name} in {}", policy.file),
        None => format!("`limits.{key}` of policy {name}"),
    }
}

/// What a refusal is, and what to do next where that is known.
pub(super) fn describe_refusal_of(refusal: &Refusal, policies: &[Policy]) -> (String, Option<String>) {
    let place = |key: &str| limit_place(&refusal.scope, key, policies);
    let once = || accept_once(refusal);
    let what = match &refusal.reason {
        RefusalReason::Untag { found, allowed } => {
            let what = format!("{found} removals; limit is {allowed} ({})", place("untag"));
            return (what, Some(format!("raise it to {found}, or {}", once())));
        }
        RefusalReason::Percent { found, tags, allowed } => {
            let percent = (u64::from(*found) * 100).div_ceil(u64::from(*tags).max(1));
            let most = u64::from(*tags) * u64::from(*allowed) / 100;
            let keep = u64::from(*found).saturating_sub(most);
            let what =
                format!("{found} of {tags} tags would be removed; limit is {allowed}% ({})", place("percent"));
            return (what, Some(format!("keep {keep} more, raise it to {percent}, or {}", once())));
        }
        RefusalReason::Leave { left, allowed } => {
            let tags = counted(u64::from(*left), "tag");
            let what = format!("{tags} would be left; limit is {allowed} ({})", place("leave"));
            let keep = allowed.saturating_sub(*left);
            return (what, Some(format!("keep {keep} more, lower it to {left}, or {}", once())));
        }
        RefusalReason::Delete { found, allowed } => {
            let what = format!("{found} manifests would be deleted; limit is {allowed} ({})", place("delete"));
            return (what, Some(format!("raise it to {found}, or {}", once())));
        }
        RefusalReason::UnmatchedRule(unmatched) => {
            let what = format!("a rule that might have protected it matches nothing: {}", describe_unmatched(unmatched));
            return (what, Some(format!("or {}", once())));
        }
        RefusalReason::Impossible(why) => describe_obstacle(why),
        RefusalReason::Retention { days, undo_window } => describe_retention(*days, *undo_window),
        RefusalReason::RegistryInfoUnread => {
            "its own settings could not be read, so whether it deletes untagged manifests by itself is not known; \
             look at what could not be read of it, and give the identity that asks the right to (in Azure: the role Reader \
             on it)"
                .to_owned()
        }
        RefusalReason::SameContent { other, same, common } => {
            let repositories = match (same, common) {
                (1, 1) => "the common repository has".to_owned(),
                (same, common) => format!("{same} of {common} common repositories have"),
            };
            let what = format!(
                "it may be registry {other} under another name: {repositories} the same tags at the same digests, and \
                 evidence for one name does not protect the other"
            );
            let help = format!(
                "keep one of the two and add the other's host to its `aliases`; if {other} is a copy, write \
                 `accept = [\"same-content\"]` into the settings of this registry"
            );
            return (what, Some(help));
        }
        RefusalReason::ClockSkew { ahead_seconds } => describe_clock_difference(*ahead_seconds),
        RefusalReason::ClockIssue(doubt) => describe_clock_doubt(doubt),
    };
    (what, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(format_count(0), "0");
        assert_eq!(format_count(12_430), "12,430");
        assert_eq!(format_count(1_000_000), "1,000,000");
        assert_eq!(format_bytes(512), "512 B");
        assert_eq!(format_bytes(1024 * 1024 - 1), "1.0 MiB");
        assert_eq!(format_bytes(44_238_000_000), "41.2 GiB");
        assert_eq!(format_age(59), "59 seconds");
        assert_eq!(format_age(20 * 86_400 + 5), "20 days");
        assert_eq!(format_age(366 * 86_400), "1 year 1 day");
        assert_eq!(
            ["1st", "2nd", "3rd", "4th", "11th", "22nd"],
            [1, 2, 3, 4, 11, 22].map(ordinal).each_ref().map(String::as_str)
        );
    }
}
