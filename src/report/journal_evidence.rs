//! Policies in the evidence of journal entries. The journal stores evidence as the JSON of report views; here it is
//! parsed into names, so that nothing else decides by that JSON.

use serde_json::Value;

use super::renamed_keys::rename_keys;
use super::{DeletionView, ReasonView};
use crate::domain::{Action, Intent, PolicyName};

/// Returns the policies by which a removal or deletion was decided, sorted. Returns an empty list if the evidence
/// cannot be parsed: an unreadable policy could be one that keeps.
#[must_use]
pub fn journaled_policies(intent: &Intent) -> Vec<PolicyName> {
    let found: Option<Vec<String>> = if intent.action == Action::DeleteUntagged {
        serde_json::from_str::<DeletionView>(&intent.evidence).map(|view| view.policies).ok()
    } else {
        serde_json::from_str::<Vec<ReasonView>>(&intent.evidence).map(expiring_policies).ok()
    };
    let names = found.unwrap_or_default().into_iter().map(|name| name.parse().ok());
    let mut policies = names.collect::<Option<Vec<PolicyName>>>().unwrap_or_default();
    policies.sort();
    policies.dedup();
    policies
}

/// Returns the evidence of a journal entry as JSON with the keys of this version; null if it has none.
#[must_use]
pub fn journaled_evidence(intent: &Intent) -> Value {
    serde_json::from_str(&intent.evidence).map(rename_keys).unwrap_or_default()
}

fn expiring_policies(reasons: Vec<ReasonView>) -> Vec<String> {
    let policy = |reason| match reason {
        ReasonView::NotKept { policy, .. } | ReasonView::CompanionOfExpired { policy, .. } => Some(policy),
        _ => None,
    };
    reasons.into_iter().filter_map(policy).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Digest, RemovalMethod};
    use crate::report::ShortfallView;

    #[test]
    fn reasons_of_the_version_before_are_read() {
        for (old, kind) in [
            (r#"{"kind":"let-go","policy":"p","misses":[{"rule":"matching"}]}"#, "not-kept"),
            (r#"{"kind":"maybe-claimed","source":"s","digest":"d","doubt":"other-algorithm"}"#, "maybe-claimed"),
        ] {
            let reason: ReasonView = serde_json::from_str(old).unwrap();
            assert_eq!(reason.kind(), kind);
            match reason {
                ReasonView::NotKept { shortfalls, .. } => assert_eq!(shortfalls, [ShortfallView::Matching {}]),
                ReasonView::MaybeClaimed { uncertainty, .. } => assert_eq!(uncertainty, "other-algorithm"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn policies_are_read_off_what_is_understood_whole() {
        let untag = Action::Remove(RemovalMethod::Untag);
        // In the format of the version before, which journals contain.
        let old = |policy: &str| format!(r#"{{"kind":"let-go","policy":"{policy}","misses":[]}}"#);
        let companion = r#"{"kind":"companion-of-expired","subject":"sha256:0","policy":"c"}"#;
        let kept = r#"{"kind":"kept-all","policy":"k"}"#;
        let list = |reasons: &[&str]| format!("[{}]", reasons.join(","));
        let deletion = |policies: &str| {
            format!(
                r#"{{"registry":"r","repository":"a","digest":"d","tag":"t","untagged_at":"2026-11-01T00:00:00Z",
                    "due_at":"2026-11-08T00:00:00Z","policies":{policies},"enforce":true,"goes":true,"along":[],
                    "bytes":null,"bytes_are":"exact","refused":null,"stays":[]}}"#
            )
        };
        for (action, evidence, expected) in [
            (untag, list(&[&old("b"), &old("a"), &old("b")]), &["a", "b"][..]),
            (untag, list(&[companion]), &["c"]),
            (untag, list(&[r#"{"kind":"not-kept","policy":"n","shortfalls":[]}"#]), &["n"]),
            (untag, list(&[kept, &old("a")]), &["a"]),
            (untag, list(&[&old("a"), &old("not a name")]), &[]),
            (untag, list(&[&old("a"), r#"{"kind":"of-a-later-version"}"#]), &[]),
            (untag, String::new(), &[]),
            (untag, deletion(r#"["a"]"#), &[]),
            (Action::DeleteUntagged, deletion(r#"["b","a"]"#), &["a", "b"]),
            (Action::DeleteUntagged, deletion(r#"["a","not a name"]"#), &[]),
            (Action::DeleteUntagged, list(&[&old("a")]), &[]),
        ] {
            let intent = Intent {
                action,
                registry: "contoso".parse().unwrap(),
                endpoint: None,
                repository: "app".parse().unwrap(),
                tag: "v1".parse().unwrap(),
                digest: Digest::of(b"image"),
                media_type: "".into(),
                policy: None,
                evidence: evidence.clone(),
                date: None,
            };
            let current = journaled_evidence(&intent).to_string();
            assert!(!current.contains("let-go") && !current.contains("\"stays\""), "{current}");
            let found: Vec<String> = journaled_policies(&intent).iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{evidence}");
        }
    }
}
