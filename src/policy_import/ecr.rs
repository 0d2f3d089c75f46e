//! Lifecycle policies of Amazon ECR.
//!
//! Semantics: AWS's user guide, "Lifecycle policy evaluation rules" and "Lifecycle policy properties". Rules speak of images:
//! an image that matches the tags of a rule cannot be expired by a rule of lower priority, and goes with all its tags.

use serde::Deserialize;
use serde_json::Value;

use super::json::{self, UnknownKeys, key_list};
use super::translation::{ImportedPolicy, ImportedRule, Remark, RemarkKind, TagSelection, Translation, overlap};
use super::{ImportError, ImportErrorKind, ImportOptions, unreadable};
use crate::domain::Failure;

const HELP: &str =
    "give the lifecycle policy as JSON, `{\"rules\": [...]}`, or what `aws ecr get-lifecycle-policy` prints";

/// The repository in policies where neither file nor option names it.
const NO_REPOSITORY: &str = "name-of-the-repository";

/// One rule.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(rename = "rulePriority")]
    priority: u64,
    #[serde(default)]
    description: Option<String>,
    selection: Selection,
    action: Action,
    #[serde(flatten)]
    unknown: UnknownKeys,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Selection {
    tag_status: TagStatus,
    #[serde(default)]
    tag_prefix_list: Vec<String>,
    #[serde(default)]
    tag_pattern_list: Vec<String>,
    #[serde(default)]
    storage_class: Option<String>,
    count_type: String,
    #[serde(default)]
    count_unit: Option<String>,
    count_number: u32,
    #[serde(flatten)]
    unknown: UnknownKeys,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum TagStatus {
    Tagged,
    Untagged,
    Any,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Action {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    target_storage_class: Option<String>,
    #[serde(flatten)]
    unknown: UnknownKeys,
}

/// Translates a lifecycle policy.
pub(super) fn translate(text: &str, options: &ImportOptions) -> Result<Translation, ImportError> {
    let mut translation = Translation::default();
    for document in json::documents(text, options, HELP)? {
        translate_document(&document, options, &mut translation)?;
    }
    Ok(translation)
}

fn translate_document(document: &Value, options: &ImportOptions, found: &mut Translation) -> Result<(), ImportError> {
    let repository = document.get("repositoryName").and_then(Value::as_str);
    let nested = document.get("lifecyclePolicyText").and_then(Value::as_str);
    let policy = match nested {
        Some(text) => json::documents(text, options, HELP)?.remove(0),
        None => document.clone(),
    };
    let Some(listed) = policy.get("rules").and_then(Value::as_array) else {
        return Err(unreadable(options, "", "no `rules` in it").with_help(HELP));
    };
    if listed.is_empty() {
        return Err(Failure::new(ImportErrorKind::Empty, format!("{}: `rules` is an empty list", options.file))
            .with_help("without rules nothing expires, so no policy is needed"));
    }
    let mut rules = Vec::new();
    for (at, value) in listed.iter().enumerate() {
        let rule: Rule = json::shaped(value, &format!("rules[{at}]"), options, HELP)?;
        rules.push((rule, value));
    }
    rules.sort_by_key(|(rule, _)| rule.priority);
    let repositories: Vec<String> = match (repository, options.scopes.is_empty()) {
        (_, false) => options.scopes.clone(),
        (Some(repository), true) => vec![repository.to_owned()],
        (None, true) => vec![NO_REPOSITORY.to_owned()],
    };
    if repository.is_none() && options.scopes.is_empty() {
        let text = format!("the file does not name its repository: replace `{NO_REPOSITORY}`, or give `--scope`");
        found.remarks.push(Remark::new(RemarkKind::Scope, text));
    }
    let number = found.policies.len();
    for at in 0..rules.len() {
        found.policies.extend(translate_rule(&rules, at, &repositories, number));
    }
    Ok(())
}

/// The globs on tags that an image must have one of each, without those that another implies.
fn required_globs(selection: &Selection) -> Vec<String> {
    let prefixes = selection.tag_prefix_list.iter().map(|prefix| format!("{}*", glob_text(prefix)));
    let patterns = selection.tag_pattern_list.iter().map(|pattern| glob_text(pattern));
    let globs: Vec<String> = prefixes.chain(patterns).collect();
    let implied = |glob: &String| {
        let prefix = glob.strip_suffix('*').filter(|prefix| !prefix.contains('*'));
        prefix.is_some_and(|prefix| globs.iter().any(|other| other != glob && other.starts_with(prefix)))
    };
    let mut required: Vec<String> = globs.iter().filter(|glob| !implied(glob)).cloned().collect();
    required.dedup();
    required
}

/// Signs of globs that AWS does not know stand in brackets. No tag has them.
fn glob_text(text: &str) -> String {
    text.chars()
        .map(|c| if matches!(c, '?' | '[' | ']' | '{' | '}' | '!' | '\\') { format!("[{c}]") } else { c.to_string() })
        .collect()
}

#[expect(
    clippy::too_many_lines,
    reason = "one rule from its first key to its last, in the order of ECR's documentation"
)]
fn translate_rule(rules: &[(Rule, &Value)], at: usize, repositories: &[String], before: usize) -> Vec<ImportedPolicy> {
    let (rule, value) = &rules[at];
    let Rule { selection, action, .. } = rule;
    let name = format!("ecr-{}-rule-{}", before + 1, rule.priority);
    let mut policy = ImportedPolicy::new(name, json::original(value), repositories.to_vec());
    policy.description = rule
        .description
        .clone()
        .filter(|text| !text.trim().is_empty())
        .unwrap_or_else(|| format!("Rule {} of the lifecycle policy.", rule.priority));
    for (keys, place) in [(&rule.unknown, "rule"), (&selection.unknown, "selection"), (&action.unknown, "action")] {
        if !keys.is_empty() {
            policy.leave_out(format!("the {place} has keys that are not understood: {}", key_list(keys)));
        }
    }
    if action.kind != "expire" {
        let target = action.target_storage_class.as_deref().unwrap_or("another storage class");
        policy.leave_out(format!("its action is `{}` (to {target}): policies remove, or keep", action.kind));
    }
    if selection.storage_class.as_deref().is_some_and(|class| class != "standard") {
        policy.leave_out("it selects archived images, of which policies know nothing");
    }
    let names_tags = !selection.tag_prefix_list.is_empty() || !selection.tag_pattern_list.is_empty();
    if names_tags && selection.tag_status != TagStatus::Tagged {
        policy.leave_out("lists of tags go with `tagStatus: tagged` alone, and ECR refuses them here");
    }
    // Priority: an image that a rule before matches is that rule's alone.
    let mut claimed: Vec<String> = Vec::new();
    for (earlier, _) in &rules[..at] {
        match earlier.selection.tag_status {
            TagStatus::Untagged => {}
            TagStatus::Any => policy.leave_out("a rule before it speaks of every image"),
            TagStatus::Tagged => claimed.extend(required_globs(&earlier.selection).into_iter().next()),
        }
    }
    claimed.sort();
    claimed.dedup();
    if selection.tag_status != TagStatus::Untagged && !claimed.is_empty() {
        policy.keep_rule(ImportedRule::ImageWith { tags: claimed.clone(), within: None });
        policy.remark(
            RemarkKind::Priority,
            "ECR gives each image to the first rule that its tags match; so tags that a rule before matches are not \
             selected, and other tags of their images stay",
        );
    }
    match selection.tag_status {
        TagStatus::Untagged => return vec![untagged(policy, selection)],
        TagStatus::Any => {}
        TagStatus::Tagged => {
            let mut required = required_globs(selection);
            if required.is_empty() {
                policy.leave_out("it names no tags");
            } else if required.len() > 1 {
                policy.leave_out(
                    "ECR selects only images that have a tag for every entry of the list, and a policy selects tags one \
                     by one",
                );
            }
            if let [glob] = required.as_slice()
                && glob.trim_matches('*').is_empty()
            {
                required = vec!["*".to_owned()];
            }
            policy.tags = Some(TagSelection::Globs(required));
            policy.remark(
                RemarkKind::Image,
                "ECR expires an image with all its tags; the policy removes those that it selects, and others stay",
            );
        }
    }
    // Tags of a rule before are that rule's, so they are not selected: else this policy would keep what that one expires.
    if let Some(TagSelection::Globs(globs)) = &mut policy.tags {
        let taken: Vec<String> =
            claimed.iter().filter(|glob| overlap(globs, glob)).map(|glob| format!("!{glob}")).collect();
        globs.extend(taken);
    }
    let days = count_as_seconds(selection);
    match (selection.count_type.as_str(), days) {
        ("imageCountMoreThan", _) => {
            if selection.count_number > 0 {
                policy.keep_rule(ImportedRule::Newest(selection.count_number));
            }
            policy.remark(
                RemarkKind::Count,
                "ECR counts images without tags as well where the rule says `any`; `newest` counts images that have a \
                 selected tag, so it never keeps fewer",
            );
            policy.remark(RemarkKind::Time, super::RANK_OF_LATE_TAGS);
        }
        ("sinceImagePushed", Some(seconds)) => policy.keep_rule(ImportedRule::Within(seconds)),
        ("sinceImagePulled", Some(seconds)) => {
            policy.keep_rule(ImportedRule::PulledWithin(seconds));
            policy.remark(RemarkKind::Time, "an image that was never pulled counts from its push");
        }
        (kind, _) => policy.leave_out(format!("its `countType` is `{kind}`, which no keep rule says")),
    }
    policy.remark(
        RemarkKind::Time,
        "ECR knows when an image was pushed, not when a tag was; Tagwarden goes by the later of that and its own first \
         sight of the tag",
    );
    let mut policies = vec![policy];
    if selection.tag_status == TagStatus::Any {
        let mut second = ImportedPolicy::new(
            format!("{}-untagged", policies[0].name),
            policies[0].original.clone(),
            repositories.to_vec(),
        );
        second.description = format!("Rule {} for images without a tag.", rule.priority);
        if let Some(reason) = &policies[0].left_out {
            second.leave_out(reason.clone());
        }
        if rules[..at].iter().any(|(earlier, _)| earlier.selection.tag_status == TagStatus::Untagged) {
            policies[0].remark(RemarkKind::Untagged, "images without a tag belong to a rule before");
        } else {
            policies.push(untagged(second, selection));
        }
    }
    policies
}

/// The part of a rule that speaks of images without tags.
fn untagged(mut policy: ImportedPolicy, selection: &Selection) -> ImportedPolicy {
    policy.tags = None;
    match (selection.count_type.as_str(), count_as_seconds(selection)) {
        ("sinceImagePushed", Some(seconds)) => {
            policy.untagged_after = Some(seconds);
            policy.remark(
                RemarkKind::Untagged,
                "ECR counts from the push; Tagwarden from the later of the manifest's last change and the first run \
                 that found it free",
            );
        }
        (kind, _) => {
            policy.untagged_after = Some(86_400);
            policy.leave_out(format!("`{kind}` on images without a tag: `untagged` knows a time and no other measure"));
        }
    }
    policy
}

/// The number of the rule as a time, where its unit is days.
fn count_as_seconds(selection: &Selection) -> Option<u64> {
    let days = selection.count_unit.as_deref() == Some("days");
    days.then(|| u64::from(selection.count_number) * 86_400)
}
