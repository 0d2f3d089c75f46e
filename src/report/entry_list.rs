//! A list of tags with their outcomes: in the order in which people read names, and words that many have in common only
//! once.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use jiff::Timestamp;

use super::humanize::{format_count, sanitize};
use super::journal_entry::without_correlation_id;
use super::natural_order::natural_order;
use super::notation::format_minute;

/// Most lines that repeat the same words.
const MOST_REPEATED: usize = 3;

/// The label, the words and the policy that lines of a group have in common.
type Common<'l> = (&'l str, String, &'l str);

/// A line of such a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntryLine {
    /// The outcome, and the action where a list has several.
    pub label: String,
    /// `registry/repository:tag`.
    pub name: String,
    /// The short digest.
    pub digest: String,
    /// The details.
    pub words: String,
    /// The policy with its file, in brackets; may be empty.
    pub policy: String,
    /// The time until which it can be undone or restored, if known.
    pub until: Option<Timestamp>,
}

impl EntryLine {
    /// Returns the parts that lines of a group have in common. The id of a request differs from line to line.
    fn common(&self) -> Common<'_> {
        (&self.label, without_correlation_id(&self.words), &self.policy)
    }

    fn is_bare(&self) -> bool {
        self.words.is_empty() && self.policy.is_empty() && self.until.is_none()
    }
}

/// Renders lines in the natural order of their names. Where more than three have the same words, these stand once,
/// above the names. `until` introduces the time until which something is possible.
#[must_use]
pub fn entry_list(mut lines: Vec<EntryLine>, until: &str) -> String {
    lines.sort_by(|a, b| natural_order(&a.name, &b.name));
    let mut groups: Vec<(Common, Vec<&EntryLine>)> = Vec::new();
    let mut places = HashMap::new();
    for line in &lines {
        let common = line.common();
        let place = *places.entry(common.clone()).or_insert(groups.len());
        match groups.get_mut(place) {
            Some((_, found)) => found.push(line),
            None => groups.push((common, vec![line])),
        }
    }
    let repeats = |found: &[&EntryLine]| found.len() > MOST_REPEATED && !found.iter().all(|line| line.is_bare());
    let any_folded = groups.iter().any(|(_, found)| repeats(found));
    // Beside folded ones, a few lines that differ in their policy only look like these.
    let is_folded = |words: &str, found: &[&EntryLine]| {
        repeats(found) || any_folded && words.is_empty() && !found.iter().all(|line| line.is_bare())
    };
    let folded: HashSet<Common> = groups
        .iter()
        .filter(|((_, words, _), found)| is_folded(words, found))
        .map(|(common, _)| common.clone())
        .collect();
    let mut out = String::new();
    for line in lines.iter().filter(|line| !folded.contains(&line.common())) {
        let words = [&*line.words, &format_until(until, [line.until]), &line.policy];
        write_line(&mut out, "", [&line.label, &line.name, &line.digest].into_iter().map(String::as_str).chain(words));
    }
    for ((label, words, policy), found) in groups.iter().filter(|(common, _)| folded.contains(common)) {
        let count = match found.len() as u64 {
            1 => "1 entry".to_owned(),
            count => format!("{} entries", format_count(count)),
        };
        let until = format_until(until, found.iter().map(|line| line.until));
        let heading: Vec<&str> =
            [*label, &*count, &*until, *policy].into_iter().filter(|part| !part.is_empty()).collect();
        let words = if words.is_empty() { String::new() } else { format!(" {words}") };
        write_line(&mut out, "", [&*format!("{}:{words}", heading.join(" "))]);
        for line in found {
            write_line(&mut out, "  ", [&*line.name, &*line.digest]);
        }
    }
    out
}

/// Formats the time until which something is possible: for several lines the first, of those for which it is known.
fn format_until(words: &str, times: impl IntoIterator<Item = Option<Timestamp>>) -> String {
    let mut known: Vec<String> = times.into_iter().flatten().map(format_minute).collect();
    known.sort();
    known.dedup();
    match known.as_slice() {
        [] => String::new(),
        [only] => format!("({words} {only})"),
        [first, ..] => format!("({words} {first} or later)"),
    }
}

fn write_line<'p>(out: &mut String, indent: &str, parts: impl IntoIterator<Item = &'p str>) {
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.trim().is_empty()).collect();
    // Writing to a `String` cannot fail.
    let _ = writeln!(out, "{indent}{}", sanitize(&parts.join(" ")));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, words: &str) -> EntryLine {
        EntryLine {
            label: "failed  ".into(),
            name: format!("contoso/shop/api:{name}"),
            digest: "sha256:ab".into(),
            words: words.into(),
            ..EntryLine::default()
        }
    }

    #[test]
    fn names_are_in_natural_order_and_equal_words_stand_once() {
        let id = |number: u32| format!("the registry refused it (x-ms-correlation-request-id: {number}, gave up)");
        let lines: Vec<EntryLine> = (1..=11)
            .rev()
            .map(|number| line(&format!("v{number}"), &id(number)))
            .chain([line("v2-rc", "locked")])
            .collect();
        let text = entry_list(lines, "until");
        let names: Vec<&str> = text.lines().filter_map(|line| line.split("api:").nth(1)?.split(' ').next()).collect();
        assert_eq!(names, ["v2-rc", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11"]);
        assert_eq!(text.matches("the registry refused it").count(), 1, "{text}");
        assert!(text.contains("failed   11 entries: the registry refused it (gave up)\n"), "{text}");
        assert!(text.lines().all(|line| line == line.trim_end()), "{text:?}");
        // The words of a few stand beside their names; policies alone never do where others are folded.
        assert!(text.starts_with("failed   contoso/shop/api:v2-rc sha256:ab locked\n"), "{text}");
    }

    #[test]
    fn the_only_tag_of_a_policy_looks_like_those_of_others() {
        let of = |policy: &str, name: u32| EntryLine { policy: policy.into(), ..line(&format!("v{name}"), "") };
        let few: Vec<EntryLine> = (1..=3).map(|number| of("[policy a]", number)).collect();
        assert!(entry_list(few.clone(), "until").starts_with("failed   contoso/shop/api:v1 sha256:ab [policy a]\n"));
        let text = entry_list(few.into_iter().chain([of("[policy a]", 4), of("[policy b]", 5)]).collect(), "until");
        assert!(text.contains("failed   1 entry [policy b]:\n  contoso/shop/api:v5 sha256:ab\n"), "{text}");
    }

    #[test]
    fn lines_without_words_are_not_folded() {
        let text = entry_list((1..=9).map(|number| line(&format!("v{number}"), "")).collect(), "until");
        assert_eq!(text.lines().filter(|line| line.starts_with("failed   contoso/shop/api:v")).count(), 9, "{text}");
    }
}
