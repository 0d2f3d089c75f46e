//! Cleanup policies of the GitLab container registry.
//!
//! Semantics: `Projects::ContainerRepository::CleanupTagsBaseService` of gitlabhq/gitlabhq. For each image repository of the
//! project: leave out `latest`; take what `\A{delete}\z` finds and `\A{keep}\z` does not; skip the newest `keep_n` of these;
//! delete those of the rest that are older than `older_than`.

use serde::Deserialize;
use serde_json::Value;

use super::expression::WholeExpression;
use super::json::{self, UnknownKeys, key_list};
use super::translation::{ImportedKeep, ImportedPolicy, ImportedRule, Remark, RemarkKind, TagSelection, Translation};
use super::{ImportError, ImportErrorKind, ImportOptions, unreadable};
use crate::domain::Failure;

const HELP: &str = "give what the API answers for the project, or its `container_expiration_policy` alone, as JSON";

/// The project in policies where neither file nor option names it.
const NO_PROJECT: &str = "name-of-the-group/name-of-the-project";

#[derive(Debug, Deserialize)]
struct ExpirationPolicy {
    #[serde(default)]
    enabled: Option<bool>,
    #[serde(default)]
    cadence: Option<String>,
    #[serde(default)]
    keep_n: Option<u32>,
    #[serde(default)]
    older_than: Option<String>,
    #[serde(default)]
    name_regex: Option<String>,
    #[serde(default)]
    name_regex_delete: Option<String>,
    #[serde(default)]
    name_regex_keep: Option<String>,
    #[serde(default, rename = "next_run_at")]
    _next_run_at: Option<Value>,
    #[serde(flatten)]
    unknown: UnknownKeys,
}

/// Translates the policies of one project or several.
pub(super) fn translate(text: &str, options: &ImportOptions) -> Result<Translation, ImportError> {
    let mut found = Translation::default();
    for document in json::documents(text, options, HELP)? {
        let projects = match document {
            Value::Array(projects) => projects,
            project => vec![project],
        };
        for project in &projects {
            translate_project(project, options, &mut found)?;
        }
    }
    if found.policies.is_empty() {
        return Err(
            Failure::new(ImportErrorKind::Empty, format!("{}: no cleanup policy", options.file)).with_help(HELP)
        );
    }
    Ok(found)
}

fn translate_project(project: &Value, options: &ImportOptions, found: &mut Translation) -> Result<(), ImportError> {
    let nested = ["container_expiration_policy", "container_expiration_policy_attributes"]
        .iter()
        .find_map(|key| project.get(key));
    if nested.is_some_and(Value::is_null) {
        let path = project.get("path_with_namespace").and_then(Value::as_str).unwrap_or("a project").escape_debug();
        let text = format!("{path} has no cleanup policy, so GitLab removes nothing there");
        found.remarks.push(Remark::new(RemarkKind::Scope, text));
        return Ok(());
    }
    let value = nested.unwrap_or(project);
    let known = ["keep_n", "older_than", "name_regex", "name_regex_delete", "name_regex_keep", "enabled", "cadence"];
    if !value.as_object().is_some_and(|object| known.iter().any(|key| object.contains_key(*key))) {
        return Err(unreadable(options, "", "no `container_expiration_policy` in it").with_help(HELP));
    }
    let rule: ExpirationPolicy = json::shaped(value, "container_expiration_policy", options, HELP)?;
    let path = project.get("path_with_namespace").and_then(Value::as_str);
    let scopes: Vec<String> = match (path, options.scopes.as_slice()) {
        (Some(path), []) => vec![path.to_owned()],
        (None, []) => vec![NO_PROJECT.to_owned()],
        (_, scopes) => scopes.to_vec(),
    };
    if path.is_none() && options.scopes.is_empty() {
        let text = format!("the file does not name its project: replace `{NO_PROJECT}`, or give `--scope`");
        found.remarks.push(Remark::new(RemarkKind::Scope, text));
    }
    let number = found.policies.len() + 1;
    found.policies.extend(translate_rule(&rule, value, &scopes, number));
    Ok(())
}

fn translate_rule(rule: &ExpirationPolicy, value: &Value, scopes: &[String], number: usize) -> Vec<ImportedPolicy> {
    let repositories: Vec<String> =
        scopes.iter().flat_map(|scope| [scope.to_lowercase(), format!("{}/**", scope.to_lowercase())]).collect();
    let mut policy = ImportedPolicy::new(format!("gitlab-{number}"), json::original(value), repositories.clone());
    "Cleanup policy of the project.".clone_into(&mut policy.description);
    if !rule.unknown.is_empty() {
        policy.leave_out(format!("it has keys that are not understood: {}", key_list(&rule.unknown)));
    }
    if rule.enabled == Some(false) {
        policy.remark(RemarkKind::Schedule, "the original is switched off");
    }
    if let Some(cadence) = &rule.cadence {
        let text = format!(
            "GitLab runs it every {cadence}; here the schedule of the settings decides, or `schedule` of the policy"
        );
        policy.remark(RemarkKind::Schedule, text);
    }
    if let Some(count) = rule.keep_n.filter(|count| *count > 0) {
        policy.keep_rule(ImportedRule::Newest(count));
        policy.remark(
            RemarkKind::Count,
            "`keep_n` counts tags, for each page of a thousand, so GitLab keeps more where there are more tags than that; \
             `newest` counts images of the whole repository, and keeps all their tags",
        );
    }
    match rule.older_than.as_deref().map(json::seconds) {
        Some(None) => policy.leave_out("its `older_than` is not a duration"),
        Some(Some(seconds)) => policy.keep_rule(ImportedRule::Within(seconds)),
        None => {}
    }
    policy.remark(
        RemarkKind::Time,
        "without the metadata database GitLab goes by the time at which an image was built; Tagwarden by the push",
    );
    let mut excludes = vec![WholeExpression::literal("latest")];
    policy.remark(
        RemarkKind::Unmatched,
        "the tag `latest` always stays, and so do tags that `name_regex` does not match",
    );
    let mut protection = Vec::new();
    if let Some(keep) = rule.name_regex_keep.as_deref().filter(|text| !text.is_empty()) {
        match anchored(keep) {
            Ok(expression) => {
                protection.push(expression.clone());
                excludes.push(expression);
            }
            Err(why) => policy.leave_out(format!("its `name_regex_keep` may keep anything: {why}")),
        }
    }
    let delete = rule.name_regex_delete.as_ref().or(rule.name_regex.as_ref()).filter(|text| !text.is_empty());
    match delete.map(|text| (text, anchored(text))) {
        None => policy.leave_out("without `name_regex` it matches no tag, and removes nothing"),
        Some((_, Err(why))) => policy.leave_out(format!("its `name_regex` cannot be said here: {why}")),
        Some((text, Ok(expression))) => {
            if text.contains('|') {
                policy.remark(
                    RemarkKind::Matching,
                    "GitLab anchors the first alternative at the start alone, and the last at the end alone; the policy \
                     matches the same tags",
                );
            }
            if !select(&mut policy, &expression, &excludes) {
                protection = excludes;
            }
        }
    }
    let mut policies = vec![policy];
    if let Some(selection) = TagSelection::of(&protection).filter(|_| !protection.is_empty()) {
        let mut keeps = ImportedPolicy::new(
            format!("gitlab-{number}-stays"),
            vec![format!("name_regex_keep: {}", rule.name_regex_keep.as_deref().unwrap_or_default())],
            repositories,
        );
        "Tags that the cleanup policy of the project keeps.".clone_into(&mut keeps.description);
        keeps.tags = Some(selection);
        keeps.keep = ImportedKeep::All;
        policies.push(keeps);
    }
    policies
}

/// Selects what goes, so that what stays by name takes no place among the newest. Returns false where it is selected as
/// well, and another policy has to keep it.
fn select(policy: &mut ImportedPolicy, expression: &WholeExpression, excludes: &[WholeExpression]) -> bool {
    let include = std::slice::from_ref(expression);
    match TagSelection::without(include, excludes) {
        None => policy.leave_out("it matches no tag but those that stay, and removes nothing"),
        Some(Ok(selection)) => policy.tags = Some(selection),
        // Each tag that stays is alone in its group, so any count keeps it, and it takes no place among the others.
        Some(Err(apart)) if policy.counts() => {
            policy.tags = Some(apart);
        }
        Some(Err(_)) => {
            policy.tags = TagSelection::of(include);
            return false;
        }
    }
    true
}

/// GitLab puts `\A` before and `\z` behind the text, without brackets around it.
fn anchored(text: &str) -> Result<WholeExpression, String> {
    WholeExpression::of_search(&format!("\\A{text}\\z"))
}
