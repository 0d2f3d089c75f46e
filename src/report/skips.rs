//! Skipped actions, folded: many of one reason are one line.

use std::collections::BTreeMap;

use super::humanize::format_count;
use crate::domain::SkipReason;

/// Most skips of one reason that are listed one by one.
const MOST_LISTED: usize = 3;

/// One skipped action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedAction {
    /// The label of its reason.
    pub label: String,
    /// `registry/repository:tag`.
    pub name: String,
    /// The reason in words.
    pub why: String,
}

/// Skipped actions of one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkipGroup {
    /// The label of the reason.
    pub label: String,
    /// The number of actions.
    pub count: u64,
    /// The name of the first.
    pub example: String,
    /// The reason for the first, in words.
    pub why: String,
    /// True if all have the same words.
    pub is_uniform: bool,
}

impl SkipGroup {
    /// Returns the group in one line, such as `60 (moved), such as contoso/shop/api:v1: the tag has moved to …`.
    #[must_use]
    pub fn sentence(&self) -> String {
        let Self { label, count, example, why, is_uniform } = self;
        let count = format_count(*count);
        if *is_uniform {
            format!("{count} ({label}): {why}")
        } else {
            format!("{count} ({label}), such as {example}: {why}")
        }
    }
}

/// Divides actions into those that are listed and groups of skips. `skipped` describes an action if it was skipped. Skips
/// that say something about the registry or a person's hold are listed in any case.
#[must_use]
pub fn fold_skips<T>(actions: &[T], skipped: impl Fn(&T) -> Option<SkippedAction>) -> (Vec<&T>, Vec<SkipGroup>) {
    let mut groups: BTreeMap<String, Vec<(usize, SkippedAction)>> = BTreeMap::new();
    for (position, action) in actions.iter().enumerate() {
        if let Some(skip) = skipped(action).filter(|skip| is_foldable(&skip.label)) {
            groups.entry(skip.label.clone()).or_default().push((position, skip));
        }
    }
    groups.retain(|_, found| found.len() > MOST_LISTED);
    let mut is_folded = vec![false; actions.len()];
    let mut folded = Vec::new();
    for (label, found) in groups {
        let count = found.len() as u64;
        let is_uniform = found.iter().all(|(_, skip)| found.first().is_some_and(|(_, first)| first.why == skip.why));
        for (position, _) in &found {
            is_folded[*position] = true;
        }
        if let Some((_, SkippedAction { name, why, .. })) = found.into_iter().next() {
            folded.push(SkipGroup { label, count, example: name, why, is_uniform });
        }
    }
    let listed = actions.iter().zip(is_folded).filter(|(_, folded)| !folded).map(|(action, _)| action);
    (listed.collect(), folded)
}

/// Returns false for the skips of [`SkipReason::is_notable`].
fn is_foldable(label: &str) -> bool {
    !["held", "reverted", "recovered"].contains(&SkipReason::current_label(label))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_skips_of_one_reason_are_one_line() {
        let actions: Vec<(&str, String)> = ["done"; 2]
            .into_iter()
            .chain(["moved"; 4])
            .chain(["missing"; 5])
            .chain(["kept"; 3])
            .chain(["held"; 9])
            .enumerate()
            .map(|(number, label)| (label, format!("contoso/shop/api:v{number}")))
            .collect();
        let (listed, folded) = fold_skips(&actions, |(label, name)| {
            let why = if *label == "missing" { "gone".to_owned() } else { format!("{label} {name}") };
            (*label != "done").then(|| SkippedAction { label: (*label).to_owned(), name: name.clone(), why })
        });
        assert_eq!(listed.len(), 2 + 3 + 9);
        let sentences: Vec<String> = folded.iter().map(SkipGroup::sentence).collect();
        assert_eq!(
            sentences,
            ["5 (missing): gone", "4 (moved), such as contoso/shop/api:v2: moved contoso/shop/api:v2"]
        );
    }
}
