//! Policies in the evidence of journal entries. The journal keeps evidence as the JSON of report views; here it is read
//! back into names, so that nothing else decides by that JSON.

use super::{DeletionView, ReasonView};
use crate::domain::{Action, Intent, PolicyName};

/// Returns the policies by which a removal or deletion was decided, sorted, or an empty list if its evidence is not
/// understood: a policy that cannot be read could be one that keeps.
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

fn expiring_policies(reasons: Vec<ReasonView>) -> Vec<String> {
    let policy = |reason| match reason {
        ReasonView::LetGo { policy, .. } | ReasonView::CompanionOfExpired { policy, .. } => Some(policy),
        _ => None,
    };
    reasons.into_iter().filter_map(policy).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Digest, RemovalMethod};

    #[test]
    fn policies_are_read_off_what_is_understood_whole() {
        let untag = Action::Remove(RemovalMethod::Untag);
        let let_go = |policy: &str| format!(r#"{{"kind":"let-go","policy":"{policy}","misses":[]}}"#);
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
            (untag, list(&[&let_go("b"), &let_go("a"), &let_go("b")]), &["a", "b"][..]),
            (untag, list(&[companion]), &["c"]),
            (untag, list(&[kept, &let_go("a")]), &["a"]),
            (untag, list(&[&let_go("a"), &let_go("not a name")]), &[]),
            (untag, list(&[&let_go("a"), r#"{"kind":"of-a-later-version"}"#]), &[]),
            (untag, String::new(), &[]),
            (untag, deletion(r#"["a"]"#), &[]),
            (Action::DeleteUntagged, deletion(r#"["b","a"]"#), &["a", "b"]),
            (Action::DeleteUntagged, deletion(r#"["a","not a name"]"#), &[]),
            (Action::DeleteUntagged, list(&[&let_go("a")]), &[]),
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
            let found: Vec<String> = journaled_policies(&intent).iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{evidence}");
        }
    }
}
