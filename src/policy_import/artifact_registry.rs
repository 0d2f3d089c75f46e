//! Cleanup policies of Google Artifact Registry.
//!
//! Semantics: `google.devtools.artifactregistry.v1.CleanupPolicy` and the product's page on cleanup policies. They speak of
//! versions, which are manifests: a version that some `Delete` matches goes with all its tags, unless a `Keep` matches it.

use serde::Deserialize;
use serde_json::Value;

use super::json::{self, UnknownKeys, key_list};
use super::translation::{ImportedPolicy, ImportedRule, Remark, RemarkKind, TagSelection, Translation};
use super::{ImportError, ImportErrorKind, ImportOptions, unreadable};
use crate::domain::Failure;

const HELP: &str = "give the list of cleanup policies as JSON, or what `gcloud artifacts repositories describe --format json` \
    prints";

/// The repository in policies where neither file nor option names it.
const NO_REPOSITORY: &str = "name-of-the-project/name-of-the-repository";

/// A manifest without a tag goes at once there; policies wait a day at least.
const LEAST_WAIT: u64 = 86_400;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CleanupPolicy {
    #[serde(default, alias = "id")]
    name: Option<String>,
    action: Action,
    #[serde(default)]
    condition: Option<Condition>,
    #[serde(default)]
    most_recent_versions: Option<MostRecentVersions>,
    #[serde(flatten)]
    unknown: UnknownKeys,
}

/// `{"type": "Delete"}` as `gcloud` reads it, or `"DELETE"` as the API answers.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Action {
    Word(String),
    Object {
        #[serde(rename = "type")]
        kind: String,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(default)]
    tag_state: Option<String>,
    #[serde(default)]
    tag_prefixes: Vec<String>,
    #[serde(default)]
    version_name_prefixes: Vec<String>,
    #[serde(default)]
    package_name_prefixes: Vec<String>,
    #[serde(default)]
    older_than: Option<String>,
    #[serde(default)]
    newer_than: Option<String>,
    #[serde(flatten)]
    unknown: UnknownKeys,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct MostRecentVersions {
    #[serde(default)]
    keep_count: Option<u32>,
    #[serde(default)]
    package_name_prefixes: Vec<String>,
    #[serde(flatten)]
    unknown: UnknownKeys,
}

/// Which versions a condition speaks of, by their tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TagState {
    Tagged,
    Untagged,
    Any,
}

impl Action {
    fn word(&self) -> &str {
        match self {
            Self::Word(word) | Self::Object { kind: word } => word,
        }
    }
}

impl Condition {
    /// `None` where the word is unknown.
    fn state(&self) -> Option<TagState> {
        match self.tag_state.as_deref().map(str::to_ascii_uppercase).as_deref() {
            None if self.tag_prefixes.is_empty() => Some(TagState::Any),
            Some("ANY" | "TAG_STATE_UNSPECIFIED") => Some(TagState::Any),
            Some("TAGGED") | None => Some(TagState::Tagged),
            Some("UNTAGGED") => Some(TagState::Untagged),
            Some(_) => None,
        }
    }

    fn tag_globs(&self) -> Vec<String> {
        self.tag_prefixes.iter().map(|prefix| format!("{}*", glob_text(prefix))).collect()
    }
}

/// Translates cleanup policies.
pub(super) fn translate(text: &str, options: &ImportOptions) -> Result<Translation, ImportError> {
    let mut found = Translation::default();
    for document in json::documents(text, options, HELP)? {
        translate_document(&document, options, &mut found)?;
    }
    Ok(found)
}

fn translate_document(document: &Value, options: &ImportOptions, found: &mut Translation) -> Result<(), ImportError> {
    let listed: Vec<&Value> = match document {
        Value::Array(policies) => policies.iter().collect(),
        Value::Object(repository) => match repository.get("cleanupPolicies") {
            Some(Value::Object(policies)) => policies.values().collect(),
            Some(Value::Array(policies)) => policies.iter().collect(),
            _ => {
                return Err(
                    unreadable(options, "", "neither a list nor a repository with `cleanupPolicies`").with_help(HELP)
                );
            }
        },
        _ => {
            return Err(
                unreadable(options, "", "neither a list nor a repository with `cleanupPolicies`").with_help(HELP)
            );
        }
    };
    if listed.is_empty() {
        return Err(Failure::new(ImportErrorKind::Empty, format!("{}: no cleanup policies", options.file))
            .with_help("without them nothing is deleted, so no policy is needed"));
    }
    let mut policies = Vec::new();
    for (at, value) in listed.into_iter().enumerate() {
        let policy: CleanupPolicy = json::shaped(value, &format!("policy {}", at + 1), options, HELP)?;
        policies.push((policy, value));
    }
    if document.get("cleanupPolicyDryRun") == Some(&Value::Bool(true)) {
        found
            .remarks
            .push(Remark::new(RemarkKind::Schedule, "the original only reports: `cleanupPolicyDryRun` is set"));
    }
    let named = document.get("name").and_then(Value::as_str).and_then(repository_path);
    let scopes = match (named, options.scopes.as_slice()) {
        (Some(path), []) => vec![path],
        (None, []) => {
            let text = format!("the file does not name its repository: replace `{NO_REPOSITORY}`, or give `--scope`");
            found.remarks.push(Remark::new(RemarkKind::Scope, text));
            vec![NO_REPOSITORY.to_owned()]
        }
        (_, scopes) => scopes.to_vec(),
    };
    let deletes: Vec<&(CleanupPolicy, &Value)> =
        policies.iter().filter(|(policy, _)| policy.action.word().eq_ignore_ascii_case("delete")).collect();
    if deletes.is_empty() {
        found
            .remarks
            .push(Remark::new(RemarkKind::Unmatched, "there is no `Delete` policy, so the original deletes nothing"));
    }
    let keeps: Vec<&(CleanupPolicy, &Value)> =
        policies.iter().filter(|(policy, _)| !policy.action.word().eq_ignore_ascii_case("delete")).collect();
    if deletes.is_empty() {
        let (_, value) = &policies[0];
        let mut policy =
            ImportedPolicy::new("artifact-registry-keeps".to_owned(), json::original(value), below(&scopes));
        "Cleanup policies that only keep.".clone_into(&mut policy.description);
        policy.leave_out("without a `Delete` policy nothing goes, and what no policy selects stays");
        found.policies.push(policy);
    }
    for (at, (policy, value)) in deletes.into_iter().enumerate() {
        found.policies.extend(translate_delete((at + 1, policy, *value), &keeps, &scopes));
    }
    Ok(())
}

/// `projects/P/locations/L/repositories/R` as the beginning of image paths, `P/R`.
fn repository_path(name: &str) -> Option<String> {
    match name.split('/').collect::<Vec<_>>().as_slice() {
        ["projects", project, "locations", _, "repositories", repository] => Some(format!("{project}/{repository}")),
        _ => None,
    }
}

fn below(scopes: &[String]) -> Vec<String> {
    scopes.iter().map(|scope| format!("{scope}/**")).collect()
}

fn translate_delete(
    (number, delete, value): (usize, &CleanupPolicy, &Value),
    keeps: &[&(CleanupPolicy, &Value)],
    scopes: &[String],
) -> Vec<ImportedPolicy> {
    let none = Condition::default();
    let condition = delete.condition.as_ref().unwrap_or(&none);
    let mut original = json::original(value);
    original.extend(keeps.iter().flat_map(|(_, value)| json::original(value)));
    let name = format!("artifact-registry-{number}");
    let mut policy = ImportedPolicy::new(name.clone(), original, repositories(condition, scopes));
    let called = delete.name.clone().unwrap_or_else(|| format!("number {number}"));
    policy.description = format!("Cleanup policy {called}.");
    if !delete.unknown.is_empty() || !condition.unknown.is_empty() {
        let keys = [key_list(&delete.unknown), key_list(&condition.unknown)].join(" ");
        policy.leave_out(format!("it has keys that are not understood: {}", keys.trim()));
    }
    if delete.condition.is_none() {
        policy.leave_out("it has no `condition`");
    }
    if delete.most_recent_versions.is_some() {
        policy.leave_out("`mostRecentVersions` is for `Keep` alone, and the product refuses it in a `Delete`");
    }
    if !condition.tag_prefixes.is_empty() && condition.state() != Some(TagState::Tagged) {
        policy.leave_out("`tagPrefixes` go with `tagState: tagged` alone");
    }
    if !condition.version_name_prefixes.is_empty() {
        policy.leave_out("it selects versions by their digest, and policies select tags");
    }
    if condition.package_name_prefixes.iter().any(|prefix| prefix.contains(['/', '%'])) {
        policy.leave_out("a package prefix with a slash: the product writes it as `%2F` in some places, so it is not sure which it matches");
    }
    let older = condition.older_than.as_deref().map(json::seconds);
    if condition.newer_than.is_some() {
        policy.leave_out("`newerThan` deletes what is young, which no keep rule says");
    }
    match older {
        Some(None) => policy.leave_out("its `olderThan` is not a duration"),
        Some(Some(seconds)) if seconds > 0 => policy.keep_rule(ImportedRule::Within(seconds)),
        Some(Some(_)) | None => {}
    }
    for (keep, _) in keeps {
        add_keep(keep, &mut policy);
    }
    policy
        .remark(RemarkKind::Priority, "`Keep` wins over `Delete` there; here all of them are keep rules of one policy");
    policy.remark(
        RemarkKind::Image,
        "a version goes with all its tags there; the policy removes the tags that it selects, and others stay",
    );
    policy.remark(
        RemarkKind::Time,
        "ages count from the upload of the version; Tagwarden goes by the later of that and its own first sight of the tag",
    );
    let Some(state) = condition.state() else {
        policy.leave_out("its `tagState` is not understood");
        return vec![policy];
    };
    let untagged = (state != TagState::Tagged).then(|| untagged(&policy, &name, keeps, older.flatten()));
    if !condition.tag_prefixes.is_empty() {
        policy.tags = Some(TagSelection::Globs(condition.tag_globs()));
    }
    let tagged = (state != TagState::Untagged).then_some(policy);
    tagged.into_iter().chain(untagged).collect()
}

/// The image paths that a condition speaks of: packages stand below the repository, and their names begin so.
fn repositories(condition: &Condition, scopes: &[String]) -> Vec<String> {
    if condition.package_name_prefixes.is_empty() {
        return below(scopes);
    }
    let prefixes = || condition.package_name_prefixes.iter().map(|prefix| glob_text(prefix));
    scopes
        .iter()
        .flat_map(|scope| {
            prefixes().flat_map(move |prefix| [format!("{scope}/{prefix}*"), format!("{scope}/{prefix}*/**")])
        })
        .collect()
}

/// What a `Keep` policy keeps, or more, as rules of the policy that deletes.
fn add_keep(keep: &CleanupPolicy, policy: &mut ImportedPolicy) {
    let called = keep.name.as_deref().unwrap_or("without a name");
    let unknown = !keep.unknown.is_empty()
        || keep.condition.as_ref().is_some_and(|condition| !condition.unknown.is_empty())
        || keep.most_recent_versions.as_ref().is_some_and(|recent| !recent.unknown.is_empty());
    if unknown || !keep.action.word().eq_ignore_ascii_case("keep") {
        return policy.leave_out(format!("the policy {called}, which may keep anything, is not understood"));
    }
    let narrowed = |policy: &mut ImportedPolicy, prefixes: &[String]| {
        if !prefixes.is_empty() {
            let text = format!(
                "{called} keeps only in packages of certain names; here it keeps in all that the policy selects"
            );
            policy.remark(RemarkKind::KeepsMore, text);
        }
    };
    if keep.most_recent_versions.is_some() && keep.condition.is_some() {
        return policy.leave_out(format!("{called} has `condition` and `mostRecentVersions`, of which one is allowed"));
    }
    if let Some(recent) = &keep.most_recent_versions {
        match recent.keep_count {
            Some(count) if count > 0 => policy.keep_rule(ImportedRule::Newest(count)),
            Some(_) => {}
            None => {
                return policy.leave_out(format!("{called} keeps the most recent versions, and does not say how many"));
            }
        }
        policy.remark(
            RemarkKind::Count,
            "versions without tags count as well there, parts of indexes included; `newest` counts images that have a \
             selected tag, so it never keeps fewer",
        );
        policy.remark(RemarkKind::Time, super::RANK_OF_LATE_TAGS);
        return narrowed(policy, &recent.package_name_prefixes);
    }
    let Some(condition) = &keep.condition else {
        return policy.leave_out(format!("{called} keeps without a condition"));
    };
    let Some(state) = condition.state() else {
        return policy.leave_out(format!("the `tagState` of {called} is not understood"));
    };
    if state == TagState::Untagged {
        return;
    }
    narrowed(policy, &condition.package_name_prefixes);
    let newer = condition.newer_than.as_deref().map(json::seconds);
    if condition.older_than.is_some() || !condition.version_name_prefixes.is_empty() {
        let text =
            format!("{called} keeps only what is old, or by digest; here it keeps all that its other conditions name");
        policy.remark(RemarkKind::KeepsMore, text);
    }
    match (condition.tag_prefixes.is_empty(), newer) {
        (false, newer) => {
            if newer.is_some() {
                let text = format!("{called} keeps these tags only while they are young; here they stay");
                policy.remark(RemarkKind::KeepsMore, text);
            }
            policy.keep_rule(ImportedRule::ImageWith { tags: condition.tag_globs(), within: None });
        }
        (true, Some(Some(seconds))) => policy.keep_rule(ImportedRule::Within(seconds)),
        (true, Some(None)) => policy.leave_out(format!("the `newerThan` of {called} is not a duration")),
        (true, None) => policy.leave_out(format!("{called} keeps every tagged version")),
    }
}

/// The part of a `Delete` policy that speaks of versions without tags.
fn untagged(
    tagged: &ImportedPolicy,
    name: &str,
    keeps: &[&(CleanupPolicy, &Value)],
    older: Option<u64>,
) -> ImportedPolicy {
    let mut policy =
        ImportedPolicy::new(format!("{name}-untagged"), tagged.original.clone(), tagged.repositories.clone());
    policy.description = tagged.description.replace('.', ", versions without a tag.");
    policy.tags = None;
    let mut wait = older.unwrap_or(0).max(LEAST_WAIT);
    for (keep, _) in keeps {
        let called = keep.name.as_deref().unwrap_or("a policy without a name");
        let condition = keep.condition.as_ref();
        let only_tagged = condition.is_some_and(|condition| condition.state() == Some(TagState::Tagged));
        let newer = condition.and_then(|condition| condition.newer_than.as_deref()).and_then(json::seconds);
        match (only_tagged, newer) {
            (true, _) => {}
            (false, Some(newer)) if condition.is_some_and(|c| c.older_than.is_none()) => wait = wait.max(newer),
            (false, _) => {
                policy.leave_out(format!("{called} keeps versions without tags by what `untagged` does not know"));
            }
        }
    }
    if let Some(reason) = tagged.left_out.as_ref().filter(|reason| !reason.contains("keeps every tagged version")) {
        policy.leave_out(reason.clone());
    }
    policy.untagged_after = Some(wait);
    policy.remark(
        RemarkKind::Untagged,
        "there the age counts from the upload; Tagwarden waits from the later of the manifest's last change and the \
         first run that found it free",
    );
    policy
}

/// Signs of globs that prefixes do not know stand in brackets. No name has them.
fn glob_text(text: &str) -> String {
    text.chars()
        .map(
            |c| {
                if matches!(c, '*' | '?' | '[' | ']' | '{' | '}' | '!' | '\\') {
                    format!("[{c}]")
                } else {
                    c.to_string()
                }
            },
        )
        .collect()
}
