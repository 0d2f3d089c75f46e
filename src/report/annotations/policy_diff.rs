//! Annotations of an edit of policies, beside the policies that it concerns.

use std::collections::BTreeMap;

use super::{Annotation, AnnotationLevel};
use crate::domain::PolicyName;
use crate::policy::PolicyPlaces;
use crate::report::diff_text::new_refusals;
use crate::report::humanize::counted;
use crate::report::{DiffView, TagDiff};

/// Most tags that one annotation names.
const MOST_TAGS: usize = 3;

/// Returns an annotation for each policy and each effect of the edit, at the policy's name. `places` are those of the new
/// policies.
#[must_use]
pub fn diff_annotations(view: &DiffView, places: &BTreeMap<PolicyName, PolicyPlaces>) -> Vec<Annotation> {
    let mut found = Vec::new();
    if view.evidence_missing {
        let message = "a source or a registry could not be read, so some tags are undecided by either version";
        found.push(Annotation::new(AnnotationLevel::Warning, "evidence-missing", message));
    }
    for (level, rule, what, tags) in [
        (AnnotationLevel::Warning, "newly-expired", "would expire and did not before", &view.newly_expired),
        (
            AnnotationLevel::Warning,
            "newly-enforced",
            "would be removed and was only reported before",
            &view.newly_enforced,
        ),
        (AnnotationLevel::Note, "no-longer-expired", "would be kept and expired before", &view.no_longer_expired),
    ] {
        let mut by_policy: BTreeMap<&str, Vec<&TagDiff>> = BTreeMap::new();
        for tag in tags {
            by_policy.entry(tag.policy.as_deref().unwrap_or_default()).or_default().push(tag);
        }
        found.extend(by_policy.into_iter().map(|(policy, tags)| {
            let names: Vec<String> = tags.iter().take(MOST_TAGS).map(|tag| tag.name()).collect();
            let more = if tags.len() > MOST_TAGS { ", …" } else { "" };
            let number = counted(tags.len() as u64, "tag");
            let message = format!("policy `{policy}`: {number} {what}: {}{more}", names.join(", "));
            at_policy(Annotation::new(level, rule, message), policy, places)
        }));
    }
    found.extend(new_refusals(view).map(|refusal| {
        let annotation = Annotation::new(AnnotationLevel::Warning, "newly-refused", refusal.message.as_str());
        at_policy(annotation, refusal.policy.as_deref().unwrap_or_default(), places)
    }));
    found
}

fn at_policy(annotation: Annotation, policy: &str, places: &BTreeMap<PolicyName, PolicyPlaces>) -> Annotation {
    match places.iter().find(|(name, _)| name.as_str() == policy) {
        Some((_, PolicyPlaces { name, .. })) => annotation.at(name.file.as_str(), name.line, name.column),
        None => annotation,
    }
}
