//! Harbor's own cleanup: garbage collection that deletes untagged artifacts, and the tag retention of projects.

use std::sync::Arc;

use http::StatusCode;
use serde_json::Value;

use super::API;
use super::api::HarborReader;
use super::keyset_list::PAGE_SIZE;
use super::wire::{
    self, RetentionTrigger, Right, WireGarbageCollection, WireProject, WireQuota, WireRetention, WireRetentionRule,
    WireSelector,
};
use crate::domain::{RegistryInfo, RetentionDays};
use crate::http_client::one_line;
use crate::registry::client::auth::TokenScope;
use crate::registry::{RegistryError, RegistryErrorKind};

/// Most pages of quotas.
const MAX_PAGES: usize = 10_000;

/// The time after which Harbor itself deletes untagged artifacts, and the rules in words.
type CleanupRule = (RetentionDays, Vec<String>);

impl HarborReader {
    /// Reads the time after which Harbor deletes untagged artifacts, its rules in words, and the bytes that it stores.
    ///
    /// # Errors
    /// When the projects could not be read.
    pub(super) async fn read_registry_info(&self) -> Result<RegistryInfo, RegistryError> {
        let named = self.named_projects();
        let projects = self.projects(named.as_ref()).await?;
        let (mut retention, mut rules) = self.garbage_collection().await;
        // Nothing is removed from a proxy cache, so what happens to its artifacts does not matter.
        for project in projects.iter().filter(|project| !project.is_proxy_cache()) {
            let (own, words) = match project.retention_id() {
                Ok(None) => continue,
                Ok(Some(id)) => self.tag_retention(project, id).await,
                Err(shown) => unknown_retention(project, &format!("`{}` is not an id of one", one_line(&shown))),
            };
            retention = sooner(retention, own);
            rules.extend(words);
        }
        Ok(RegistryInfo {
            untagged_retention: retention,
            stored_bytes: self.stored_bytes(&projects).await,
            cleanup_rules: rules.into_iter().map(Arc::from).collect(),
            ..RegistryInfo::that_keeps_untagged()
        })
    }

    /// Garbage collection, which only system administrators and accounts with that permission may look at.
    async fn garbage_collection(&self) -> CleanupRule {
        let read = async {
            let response = self.get(&TokenScope::Catalogue, &format!("{API}/system/gc/schedule"), &[]).await?;
            match response.status {
                // Where nothing was ever scheduled, the answer is empty.
                StatusCode::OK if response.body.trim_ascii().is_empty() => Ok(None),
                StatusCode::OK => match response.parse_json::<Value>()? {
                    Value::Null => Ok(None),
                    // Otherwise an empty list would be read as a collection without a schedule.
                    found @ Value::Object(_) => {
                        serde_json::from_value(found).map(Some).map_err(|why| response.unparsable(why))
                    }
                    _ => Err(response.malformed("it is not a schedule")),
                },
                _ => Err(wire::refusal(&response, Right::GarbageCollection)),
            }
        };
        let found: Result<Option<WireGarbageCollection>, RegistryError> = read.await;
        match found {
            Ok(found) => found.map_or((RetentionDays::Off, Vec::new()), |found| describe_collection(&found)),
            Err(error) => {
                let words =
                    format!("whether garbage collection deletes untagged artifacts is not known: {}", error.chain());
                (RetentionDays::Unknown, vec![words])
            }
        }
    }

    /// The tag retention policy of a project.
    async fn tag_retention(&self, project: &WireProject, id: u64) -> CleanupRule {
        let read = async {
            let response = self.get(&TokenScope::Catalogue, &format!("{API}/retentions/{id}"), &[]).await?;
            match response.status {
                StatusCode::OK => response.parse_json::<WireRetention>(),
                _ => Err(wire::refusal(&response, Right::Retention)),
            }
        };
        let error = match read.await {
            Ok(policy) => return describe_retention(&project.name, &policy),
            Err(error) => error,
        };
        // Where the account removes nothing, it need not know.
        if error.kind == RegistryErrorKind::Denied
            && self.permissions(project).await.is_ok_and(|permissions| !permissions.allow("tag", "delete"))
        {
            return (RetentionDays::Off, Vec::new());
        }
        unknown_retention(project, &error.chain())
    }

    /// Bytes that the projects store by their quotas; `None` where the account may not see them.
    async fn stored_bytes(&self, projects: &[WireProject]) -> Option<u64> {
        let (path, size) = (format!("{API}/quotas"), PAGE_SIZE.to_string());
        let (mut stored, mut read) = (0_u64, 0);
        for page in 1..=MAX_PAGES {
            let page = page.to_string();
            let query = [("reference", "project"), ("page", &*page), ("page_size", &*size)];
            let response = self.get(&TokenScope::Catalogue, &path, &query).await.ok()?;
            if response.status != StatusCode::OK {
                tracing::debug!(error = %wire::refusal(&response, Right::Quota).chain(), "what projects store is not known");
                return None;
            }
            let quotas: Vec<WireQuota> = response.parse_json::<Option<_>>().ok()?.unwrap_or_default();
            let total: usize = response.header("x-total-count")?.trim().parse().ok()?;
            read += quotas.len();
            let ours = |quota: &&WireQuota| projects.iter().any(|project| quota.project() == Some(&*project.name));
            for quota in quotas.iter().filter(ours) {
                stored = stored.checked_add(quota.used_bytes()?)?;
            }
            if read >= total || quotas.is_empty() {
                return Some(stored);
            }
        }
        None
    }
}

fn unknown_retention(project: &WireProject, why: &str) -> CleanupRule {
    let words = format!("whether tag retention of project {} deletes by itself is not known: {why}", project.name);
    (RetentionDays::Unknown, vec![words])
}

/// Returns the soonest deletion. Nobody knows when an unknown rule does, but one that is known to delete at once is the worst.
fn sooner(a: RetentionDays, b: RetentionDays) -> RetentionDays {
    match (a, b) {
        (RetentionDays::Days(a), RetentionDays::Days(b)) => RetentionDays::Days(a.min(b)),
        (known @ RetentionDays::Days(_), _) | (_, known @ RetentionDays::Days(_)) => known,
        (RetentionDays::Unknown, _) | (_, RetentionDays::Unknown) => RetentionDays::Unknown,
        (RetentionDays::Off, RetentionDays::Off) => RetentionDays::Off,
    }
}

/// A run of it deletes every artifact that has no tag then, however short that is: what is untagged a minute before goes at
/// once (Harbor's `garbage_collection.go`: its time window is for blobs).
fn describe_collection(found: &WireGarbageCollection) -> CleanupRule {
    let is_active = match &found.schedule {
        // Where something is to be done, there has to be a time for it.
        None => found.job_parameters.is_none().then_some(false),
        Some(schedule) => schedule.is_active(),
    };
    if is_active == Some(false) {
        return (RetentionDays::Off, Vec::new());
    }
    let schedule = found.schedule.as_ref();
    let kind = one_line(schedule.and_then(|found| found.kind.as_deref()).unwrap_or_default()).to_lowercase();
    let cron = one_line(schedule.and_then(|found| found.cron.as_deref()).unwrap_or_default());
    let parameters: Option<Value> = found.job_parameters.as_deref().and_then(|text| serde_json::from_str(text).ok());
    let Some(parameters) = parameters else {
        let words = format!("garbage collection ({kind}, `{cron}`) does not say whether it deletes untagged artifacts");
        return (RetentionDays::Unknown, vec![words]);
    };
    // Harbor takes what is missing for true, and a dry run deletes nothing.
    if parameters["delete_untagged"] == Value::Bool(false) || parameters["dry_run"] == Value::Bool(true) {
        return (RetentionDays::Off, Vec::new());
    }
    if is_active.is_none() {
        let words = format!(
            "whether garbage collection, which deletes all untagged artifacts with each of its runs, runs by itself is not \
             known: its schedule has no `type` (`{cron}`)"
        );
        return (RetentionDays::Unknown, vec![words]);
    }
    let words = format!("garbage collection deletes all untagged artifacts with each of its runs ({kind}, `{cron}`)");
    (RetentionDays::Days(0), vec![words])
}

/// A run of it deletes what none of its rules retains, untagged artifacts as well.
fn describe_retention(project: &str, policy: &WireRetention) -> CleanupRule {
    let rules: Vec<&WireRetentionRule> = policy.rules.iter().filter(|rule| !rule.disabled).collect();
    if rules.is_empty() {
        return (RetentionDays::Off, Vec::new());
    }
    let retained: Vec<String> = rules.iter().map(|rule| describe_rule(rule)).collect();
    let retained = retained.join("; ");
    let (deletes, when) = match policy.trigger() {
        RetentionTrigger::Person => (RetentionDays::Off, ", where a person starts it,".to_owned()),
        RetentionTrigger::Cron(cron) => (RetentionDays::Days(0), format!(" (cron `{}`)", one_line(cron))),
        RetentionTrigger::Unknown => (RetentionDays::Unknown, ", of which it is not known when it runs,".to_owned()),
    };
    let words = format!("tag retention of project {project}{when} deletes all but {retained}");
    let keeps = rules.iter().any(|rule| retains_all_untagged(rule));
    (if keeps { RetentionDays::Off } else { deletes }, vec![words])
}

/// Returns true for a rule that retains every untagged artifact of its project for good.
fn retains_all_untagged(rule: &WireRetentionRule) -> bool {
    let everywhere = |selectors: &[WireSelector]| {
        selectors
            .iter()
            .all(|one| one.decoration.as_deref() == Some("repoMatches") && one.pattern.as_deref() == Some("**"))
    };
    let scopes = rule.scope_selectors.iter().flatten().all(|(_, selectors)| everywhere(selectors));
    rule.template.as_deref() == Some("always") && scopes && rule.tag_selectors.iter().all(selects_untagged)
}

/// Returns true if a selector of tags takes artifacts without one (Harbor's `doublestar/selector.go`).
fn selects_untagged(selector: &WireSelector) -> bool {
    let extras: Option<Value> = selector.extras.as_deref().and_then(|text| serde_json::from_str(text).ok());
    let switch = extras.map(|extras| extras["untagged"].as_bool().unwrap_or(false));
    match selector.decoration.as_deref() {
        Some("matches") => switch.unwrap_or(true),
        Some("excludes") => !switch.unwrap_or(false),
        _ => false,
    }
}

fn describe_rule(rule: &WireRetentionRule) -> String {
    let template = rule.template.as_deref().unwrap_or_default();
    let number = one_line(&rule.params[template].to_string());
    let mut words = match template {
        "always" => "everything".to_owned(),
        "latestPushedK" => format!("the {number} artifacts pushed last"),
        "latestPulledN" => format!("the {number} artifacts pulled last"),
        "nDaysSinceLastPush" => format!("what was pushed in the last {number} days"),
        "nDaysSinceLastPull" => format!("what was pulled in the last {number} days"),
        other => format!("what a rule that is not understood retains (`{}`)", one_line(other)),
    };
    for selector in &rule.tag_selectors {
        let what = if selector.decoration.as_deref() == Some("excludes") { "not matching" } else { "matching" };
        let pattern = one_line(selector.pattern.as_deref().unwrap_or_default());
        words.extend([" with tags ", what, " `", &pattern, "`"]);
        words.push_str(if selects_untagged(selector) { ", or without tags" } else { "" });
    }
    for selector in rule.scope_selectors.iter().flatten().flat_map(|(_, selectors)| selectors) {
        let what = if selector.decoration.as_deref() == Some("repoExcludes") { "not matching" } else { "matching" };
        let pattern = one_line(selector.pattern.as_deref().unwrap_or_default());
        words.extend([" in repositories ", what, " `", &pattern, "`"]);
    }
    words
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_soonest_deletion_counts_and_doubt_is_none() {
        use RetentionDays::{Days, Off, Unknown};
        for (a, b, expected) in [
            (Off, Off, Off),
            (Off, Unknown, Unknown),
            (Unknown, Days(0), Days(0)),
            (Days(0), Off, Days(0)),
            (Days(3), Days(1), Days(1)),
        ] {
            assert_eq!((sooner(a, b), sooner(b, a)), (expected, expected));
        }
    }

    #[test]
    fn garbage_collection_matters_where_it_runs_by_itself_and_deletes_untagged_artifacts() {
        use RetentionDays::{Days, Off, Unknown};
        let found = |kind: &str, parameters: &str| -> WireGarbageCollection {
            let schedule = json!({ "type": kind, "cron": "0 0 0 * * *" });
            serde_json::from_value(json!({ "schedule": schedule, "job_parameters": parameters })).unwrap()
        };
        for (kind, parameters, expected) in [
            ("Daily", r#"{"delete_untagged":true,"dry_run":false,"workers":1}"#, Days(0)),
            ("Custom", r#"{"delete_untagged":true}"#, Days(0)),
            ("Hourly", "{}", Days(0)),
            ("Weekly", r#"{"delete_untagged":false}"#, Off),
            ("Weekly", r#"{"delete_untagged":true,"dry_run":true}"#, Off),
            ("None", r#"{"delete_untagged":true}"#, Off),
            ("Manual", r#"{"delete_untagged":true}"#, Off),
            ("Daily", "", Unknown),
        ] {
            let (days, words) = describe_collection(&found(kind, parameters));
            assert_eq!(days, expected, "{kind} {parameters}");
            assert_eq!(words.is_empty(), expected == Off, "{kind} {parameters}");
        }
        let deletes = r#"{"delete_untagged":true}"#;
        for (schedule, parameters, expected) in [
            (json!(null), json!(null), Off),
            (json!(null), json!(deletes), Unknown),
            (json!({ "cron": "0 0 0 * * *" }), json!(deletes), Unknown),
            (json!({ "type": null, "cron": "0 0 0 * * *" }), json!(deletes), Unknown),
            (json!({ "type": "", "cron": "" }), json!(deletes), Unknown),
            (json!({ "type": 7 }), json!(deletes), Unknown),
            (json!({ "type": "" }), json!(null), Unknown),
            (json!({ "type": "" }), json!(r#"{"delete_untagged":false}"#), Off),
            (json!({ "type": "By moon" }), json!(deletes), Days(0)),
        ] {
            let found = json!({ "schedule": schedule, "job_parameters": parameters });
            let (days, words) = describe_collection(&serde_json::from_value(found.clone()).unwrap());
            assert_eq!(days, expected, "{found}");
            assert_eq!(words.is_empty(), expected == Off, "{found}");
        }
    }

    /// A rule of a policy that runs nightly, and what becomes of untagged artifacts.
    #[test]
    fn tag_retention_deletes_untagged_artifacts_unless_a_rule_retains_all_of_them() {
        use RetentionDays::{Days, Off};
        let all = json!({ "repository": [{ "kind": "doublestar", "decoration": "repoMatches", "pattern": "**" }] });
        let some = json!({ "repository": [{ "kind": "doublestar", "decoration": "repoMatches", "pattern": "api" }] });
        let tags = |decoration: &str, extras: &str| json!([{ "kind": "doublestar", "decoration": decoration, "pattern": "**", "extras": extras }]);
        let rule = |template: &str, tags, scope| json!({ "template": template, "params": { template: 10 }, "tag_selectors": tags, "scope_selectors": scope });
        let untagged = r#"{"untagged":true}"#;
        for (rules, expected) in [
            (vec![], Off),
            (vec![rule("always", tags("matches", untagged), all.clone())], Off),
            (vec![rule("always", tags("matches", ""), all.clone())], Off),
            (vec![rule("always", tags("matches", r#"{"untagged":false}"#), all.clone())], Days(0)),
            (vec![rule("always", tags("excludes", untagged), all.clone())], Days(0)),
            (vec![rule("always", tags("matches", untagged), some)], Days(0)),
            (vec![rule("latestPushedK", tags("matches", untagged), all.clone())], Days(0)),
            (
                vec![rule("latestPushedK", tags("matches", ""), all.clone()), rule("always", tags("matches", ""), all)],
                Off,
            ),
        ] {
            let trigger = json!({ "kind": "Schedule", "settings": { "cron": "0 0 0 * * *" } });
            let mut policy = json!({ "rules": rules, "trigger": trigger });
            let parsed: WireRetention = serde_json::from_value(policy.clone()).unwrap();
            assert_eq!(describe_retention("shop", &parsed).0, expected, "{policy}");
            policy["trigger"]["settings"]["cron"] = json!("");
            let parsed: WireRetention = serde_json::from_value(policy.clone()).unwrap();
            assert_eq!(describe_retention("shop", &parsed).0, Off, "nobody starts it: {policy}");
        }
    }

    #[test]
    fn a_tag_retention_that_is_started_by_something_unknown_is_unknown() {
        use RetentionDays::{Off, Unknown};
        let cron = json!({ "cron": "0 0 0 * * *" });
        for (trigger, expected) in [
            (json!(null), Unknown),
            (json!({ "settings": cron }), Unknown),
            (json!({ "kind": "schedule", "settings": cron }), Unknown),
            (json!({ "kind": "Event", "settings": cron }), Unknown),
            (json!({ "kind": "Schedule", "settings": { "cron": 7 } }), Unknown),
            (json!({ "kind": "Schedule", "settings": { "cron": null } }), Off),
            (json!({ "kind": "Schedule" }), Off),
        ] {
            let policy = json!({ "rules": [{ "template": "latestPushedK", "params": {} }], "trigger": trigger });
            let (days, words) = describe_retention("shop", &serde_json::from_value(policy.clone()).unwrap());
            assert_eq!((days, words.len()), (expected, 1), "{policy}");
        }
        for odd in [json!({}), json!([]), json!({ "rules": {} }), json!({ "rules": [{ "disabled": "yes" }] })] {
            assert!(serde_json::from_value::<WireRetention>(odd.clone()).is_err(), "{odd}");
        }
    }

    #[test]
    fn the_id_of_a_tag_retention_is_a_number_or_unknown() {
        for (id, expected) in [
            (json!(null), Ok(None)),
            (json!(""), Ok(None)),
            (json!("7"), Ok(Some(7))),
            (json!(7), Ok(Some(7))),
            (json!("seven"), Err("seven".to_owned())),
            (json!(true), Err("true".to_owned())),
            (json!(["7"]), Err("[\"7\"]".to_owned())),
        ] {
            let project = json!({ "project_id": 1, "name": "shop", "metadata": { "retention_id": id } });
            let project: WireProject = serde_json::from_value(project).unwrap();
            assert_eq!(project.retention_id(), expected, "{id}");
        }
    }

    #[test]
    fn rules_are_told_as_they_are() {
        let policy = json!({
            "trigger": { "kind": "Schedule", "settings": { "cron": "0 0 3 * * *" } },
            "rules": [
                {
                    "template": "latestPushedK", "params": { "latestPushedK": 10 },
                    "tag_selectors": [{ "decoration": "matches", "pattern": "v*", "extras": "{\"untagged\":false}" }],
                    "scope_selectors": { "repository": [{ "decoration": "repoExcludes", "pattern": "legacy/**" }] },
                },
                { "template": "by_moon", "params": {} },
                { "disabled": true, "template": "always" },
            ],
        });
        let (_, words) = describe_retention("shop", &serde_json::from_value(policy).unwrap());
        assert_eq!(
            words,
            [
                "tag retention of project shop (cron `0 0 3 * * *`) deletes all but the 10 artifacts pushed last with tags \
              matching `v*` in repositories not matching `legacy/**`; what a rule that is not understood retains (`by_moon`)"
            ]
        );
    }
}
