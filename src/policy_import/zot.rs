//! The retention settings of zot.
//!
//! Semantics: `pkg/retention` of project-zot/zot. The first policy whose globs match a repository governs it. A tag belongs to
//! the first entry of `keepTags` with a pattern that finds something in it; of these, the entry's rules keep some. Tags of no
//! entry go. Without `keepTags`, all tags stay.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::expression::WholeExpression;
use super::json::{self, UnknownKeys, key_list};
use super::path_globs::path_globs;
use super::translation::{
    ImportedKeep, ImportedPolicy, ImportedRule, Remark, RemarkKind, TagSelection, Translation, are_disjoint,
};
use super::{ImportError, ImportErrorKind, ImportOptions, unreadable};
use crate::domain::Failure;

const HELP: &str = "give zot's configuration, or the part under `storage.retention`, as JSON or YAML";

/// The least time that a policy waits with a manifest without a tag.
const LEAST_WAIT: u64 = 86_400;

/// Keys are in lower case: zot does not look at their case.
#[derive(Debug, Deserialize)]
struct Policy {
    #[serde(default)]
    repositories: Vec<String>,
    #[serde(default, rename = "deletereferrers")]
    delete_referrers: bool,
    #[serde(default = "yes", rename = "deleteuntagged")]
    delete_untagged: bool,
    #[serde(default, rename = "keeptags", deserialize_with = "one_or_many")]
    keep_tags: Vec<KeepTags>,
    #[serde(default, rename = "keepuntagged")]
    keep_untagged: Option<KeepTags>,
    #[serde(flatten)]
    unknown: UnknownKeys,
}

#[derive(Debug, Deserialize)]
struct KeepTags {
    #[serde(default)]
    patterns: Vec<String>,
    #[serde(default, rename = "pulledwithin")]
    pulled_within: Option<String>,
    #[serde(default, rename = "pushedwithin")]
    pushed_within: Option<String>,
    #[serde(default, rename = "mostrecentlypushedcount")]
    pushed_count: u32,
    #[serde(default, rename = "mostrecentlypulledcount")]
    pulled_count: u32,
    #[serde(flatten)]
    unknown: UnknownKeys,
}

/// zot reads one entry without the list around it as well.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<KeepTags>, D::Error> {
    let entries = match Value::deserialize(deserializer)? {
        Value::Null => Vec::new(),
        Value::Array(entries) => entries,
        entry => vec![entry],
    };
    entries.into_iter().map(|entry| KeepTags::deserialize(entry).map_err(D::Error::custom)).collect()
}

fn yes() -> bool {
    true
}

/// Translates the retention policies of a configuration.
pub(super) fn translate(text: &str, options: &ImportOptions) -> Result<Translation, ImportError> {
    let document = read(text, options)?;
    let storage = find(&document, "storage").unwrap_or(&document);
    let retention = find(storage, "retention").unwrap_or(storage);
    let Some(listed) = find(retention, "policies").and_then(Value::as_array) else {
        return Err(unreadable(options, "", "no `storage.retention.policies` in it").with_help(HELP));
    };
    let mut found = Translation::default();
    if listed.is_empty() {
        return Err(Failure::new(ImportErrorKind::Empty, format!("{}: `policies` is an empty list", options.file))
            .with_help("without policies zot keeps all tags, so no policy is needed"));
    }
    if find(retention, "dryRun") == Some(&Value::Bool(true)) {
        found.remarks.push(Remark::new(RemarkKind::Schedule, "the original only reports: `dryRun` is set"));
    }
    if matches!(find(storage, "gc"), Some(Value::Bool(false))) {
        let text = "the original removes nothing: `gc` is `false`, and retention is a part of garbage collection";
        found.remarks.push(Remark::new(RemarkKind::Schedule, text));
    }
    found.remarks.push(Remark::new(
        RemarkKind::Scope,
        "zot takes the first policy whose globs match a repository; here each excludes what those before it take",
    ));
    let mut elsewhere = Vec::new();
    if let Some(paths) = find(storage, "subPaths").and_then(Value::as_object).filter(|paths| !paths.is_empty()) {
        elsewhere =
            paths.keys().map(|path| path.trim_matches('/').to_owned()).filter(|path| !path.is_empty()).collect();
        let names: Vec<String> = elsewhere.iter().map(|path| format!("`{}`", path.escape_debug())).collect();
        found.remarks.push(Remark::new(
            RemarkKind::KeepsMore,
            format!(
                "the storage below {} has retention of its own, which is left out; nothing is removed there",
                names.join(", ")
            ),
        ));
    }
    let delay =
        find(retention, "delay").or_else(|| find(storage, "gcDelay")).and_then(Value::as_str).and_then(json::seconds);
    let mut before: Vec<String> =
        elsewhere.iter().flat_map(|path| [format!("!{path}"), format!("!{path}/**")]).collect();
    let mut unsure = false;
    for (at, value) in listed.iter().enumerate() {
        let policy: Policy = json::shaped(&lower_case(value), &format!("policies[{at}]"), options, HELP)?;
        let globs = repository_globs(&policy);
        let translated = translate_policy((at + 1, &policy, value), globs.as_deref(), &before, delay);
        for mut one in translated {
            if unsure {
                one.leave_out("the repositories of a policy before it cannot be said here");
            }
            found.policies.push(one);
        }
        match globs {
            Some(globs) => before.extend(globs.iter().map(|glob| format!("!{glob}"))),
            None => unsure = true,
        }
    }
    Ok(found)
}

fn read(text: &str, options: &ImportOptions) -> Result<Value, ImportError> {
    if text.trim_start().starts_with(['{', '[']) {
        return Ok(json::documents(text, options, HELP)?.remove(0));
    }
    let yaml = serde_saphyr::options! { emit_comments: false };
    serde_saphyr::from_str_with_options(text, yaml).map_err(|error| {
        let cause = Failure::new((), error.to_string().lines().next().unwrap_or_default().to_owned());
        unreadable(options, "", "neither JSON nor YAML").caused_by(cause).with_help(HELP)
    })
}

/// The value of a key, whose case does not matter.
fn find<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    let entries = value.as_object()?;
    entries.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value)
}

/// The same value with all keys in lower case.
fn lower_case(value: &Value) -> Value {
    match value {
        Value::Object(entries) => {
            let entries = entries.iter().map(|(key, value)| (key.to_lowercase(), lower_case(value)));
            Value::Object(entries.collect::<Map<_, _>>())
        }
        Value::Array(values) => Value::Array(values.iter().map(lower_case).collect()),
        other => other.clone(),
    }
}

/// The repositories of a policy as globs. `None` if they cannot be said.
fn repository_globs(policy: &Policy) -> Option<Vec<String>> {
    let mut globs = Vec::new();
    for pattern in &policy.repositories {
        let found = path_globs(pattern)?;
        // Version 4 of doublestar, which zot has, matches the folder as well.
        globs.extend(found.folders);
        globs.extend(found.inside);
    }
    if globs.iter().any(|glob| glob == "**") {
        return Some(vec!["**".to_owned()]);
    }
    globs.dedup();
    Some(globs)
}

fn translate_policy(
    (number, rule, value): (usize, &Policy, &Value),
    globs: Option<&[String]>,
    before: &[String],
    delay: Option<u64>,
) -> Vec<ImportedPolicy> {
    let name = format!("zot-{number}");
    let repositories: Vec<String> = globs.unwrap_or_default().iter().cloned().chain(before.iter().cloned()).collect();
    let mut base = ImportedPolicy::new(name.clone(), json::original(value), repositories);
    base.description = format!("Retention policy {number}.");
    base.holds_others = true;
    if globs.is_none_or(<[String]>::is_empty) {
        base.repositories = vec!["**".to_owned()];
        base.leave_out("its repositories cannot be said here");
    }
    if !rule.unknown.is_empty() {
        base.leave_out(format!("it has keys that are not understood: {}", key_list(&rule.unknown)));
    }
    if rule.delete_referrers {
        base.remark(
            RemarkKind::Untagged,
            "`deleteReferrers` is not needed: signatures and the like go with the last tag of their image",
        );
    }
    let mut found = Vec::new();
    if rule.keep_tags.is_empty() {
        let mut policy = base.clone();
        policy.leave_out("without `keepTags` every tag stays, and what no policy selects stays");
        found.push(policy);
    } else if base.left_out.is_some() {
        found.push(base.clone());
    } else {
        found.extend(translate_tags(rule, &base));
    }
    if rule.delete_untagged {
        found.push(untagged(rule, base, delay));
    }
    found
}

/// The policies for the entries of `keepTags`, and for the tags of none.
fn translate_tags(rule: &Policy, base: &ImportedPolicy) -> Vec<ImportedPolicy> {
    let entries: Vec<Result<Vec<WholeExpression>, String>> = rule.keep_tags.iter().map(patterns).collect();
    if let Some(why) = entries.iter().find_map(|entry| entry.as_ref().err()) {
        let mut policy = base.clone();
        policy.leave_out(format!("a pattern of `keepTags` may keep any tag: {why}"));
        return vec![policy];
    }
    let entries: Vec<Vec<WholeExpression>> = entries.into_iter().flatten().collect();
    let mut found = Vec::new();
    for (at, (entry, expressions)) in rule.keep_tags.iter().zip(&entries).enumerate() {
        let mut policy = ImportedPolicy { name: format!("{}-tags-{}", base.name, at + 1), ..base.clone() };
        policy.description = format!("{} Tags of entry {} of `keepTags`.", base.description, at + 1);
        if at > 0 {
            policy.original = vec![format!("the policy of {}, entry {} of `keepTags`", base.name, at + 1)];
        }
        add_rules(entry, &mut policy);
        let earlier: Vec<WholeExpression> = entries[..at].iter().flatten().cloned().collect();
        select_entry(&mut policy, expressions, &earlier);
        policy.remark(
            RemarkKind::Matching,
            "patterns of zot find their text anywhere in a tag; the policy matches the same tags",
        );
        found.push(policy);
    }
    let all: Vec<WholeExpression> = entries.iter().flatten().cloned().collect();
    let mut rest = ImportedPolicy { name: format!("{}-other-tags", base.name), ..base.clone() };
    rest.description = format!("{} Tags that no entry of `keepTags` matches.", base.description);
    rest.holds_others = false;
    rest.original = vec![format!("the policy of {}, for tags that no entry matches", base.name)];
    rest.remark(RemarkKind::Unmatched, "zot removes tags that no entry of `keepTags` matches");
    match TagSelection::without(&[WholeExpression::every()], &all) {
        None => return found,
        Some(Ok(selection)) => rest.tags = Some(selection),
        Some(Err(_)) => rest.leave_out("globs cannot say which tags no entry matches, so they stay"),
    }
    if rule.keep_tags.iter().any(|entry| !entry.unknown.is_empty()) {
        rest.leave_out("an entry of `keepTags` has keys that are not understood, and may match these tags");
    }
    found.push(rest);
    found
}

/// Selects the tags of an entry that are of no entry before it.
fn select_entry(policy: &mut ImportedPolicy, expressions: &[WholeExpression], earlier: &[WholeExpression]) {
    let counts = policy.counts();
    let keeps_all = policy.keep == ImportedKeep::All;
    let overlaps = !earlier.is_empty() && !are_disjoint(expressions, earlier);
    match TagSelection::without(expressions, earlier) {
        None => policy.leave_out("no tag is left for this entry"),
        Some(Ok(selection)) => policy.tags = Some(selection),
        Some(Err(apart)) if counts => {
            policy.tags = Some(apart);
            policy.remark(
                RemarkKind::KeepsMore,
                "tags that an entry before matches as well are a group of their own each, and stay by this policy",
            );
        }
        Some(Err(_)) => policy.tags = TagSelection::of(expressions),
    }
    if policy.left_out.is_some() {
        policy.holds_others = false;
    }
    if overlaps && !keeps_all {
        policy.remark(RemarkKind::Priority, "a tag belongs to the first entry that matches it");
    }
}

/// The expressions of an entry: a search each. None means every tag.
fn patterns(entry: &KeepTags) -> Result<Vec<WholeExpression>, String> {
    if entry.patterns.is_empty() {
        return Ok(vec![WholeExpression::every()]);
    }
    entry.patterns.iter().map(|pattern| WholeExpression::of_search(pattern)).collect()
}

/// The rules of an entry: a tag stays if any of them keeps it, or if there are none.
fn add_rules(entry: &KeepTags, policy: &mut ImportedPolicy) {
    let pushed = entry.pushed_within.as_deref().map(json::seconds);
    let unknown = !entry.unknown.is_empty() || pushed == Some(None);
    if unknown {
        let time = (pushed == Some(None)).then(|| "`pushedWithin`".to_owned());
        let keys = Some(key_list(&entry.unknown)).filter(|keys| !keys.is_empty());
        let list: Vec<String> = keys.into_iter().chain(time).collect();
        policy.remark(
            RemarkKind::Unknown,
            format!("the entry has keys or times that are not understood, so its tags stay: {}", list.join(", ")),
        );
    }
    let pulls = entry.pulled_within.is_some() || entry.pulled_count > 0;
    if pulls {
        let within = entry.pulled_within.as_deref().and_then(json::seconds).map(super::writer::duration);
        let later = within.map(|within| format!(" (`pulled_within: {within}`)")).unwrap_or_default();
        policy.remark(
            RemarkKind::KeepsMore,
            format!("it keeps by the last pull{later}, which is not read from zot; so its tags stay"),
        );
    }
    let no_rules = pushed.is_none() && entry.pushed_count == 0 && !pulls;
    if unknown || pulls || no_rules {
        policy.keep = ImportedKeep::All;
        return;
    }
    if entry.pushed_count > 0 {
        policy.keep_rule(ImportedRule::Newest(entry.pushed_count));
        policy.remark(
            RemarkKind::Count,
            "`mostRecentlyPushedCount` counts tags; `newest` counts images, and keeps all their selected tags",
        );
        policy.remark(RemarkKind::Time, super::RANK_OF_LATE_TAGS);
    }
    if let Some(Some(seconds)) = pushed {
        policy.keep_rule(ImportedRule::Within(seconds.max(1)));
    }
    policy.remark(
        RemarkKind::Time,
        "zot goes by the push of the manifest; Tagwarden by that of the tag, which is never earlier",
    );
}

/// The part on manifests without a tag.
fn untagged(rule: &Policy, mut policy: ImportedPolicy, delay: Option<u64>) -> ImportedPolicy {
    policy.original = vec![format!("the policy of {}, for manifests without a tag", policy.name)];
    policy.name = format!("{}-untagged", policy.name);
    policy.description = format!("{} Manifests without a tag.", policy.description);
    policy.tags = None;
    policy.holds_others = false;
    let mut wait = delay.unwrap_or(0).max(LEAST_WAIT);
    if let Some(keep) = &rule.keep_untagged {
        match keep.pushed_within.as_deref().map(json::seconds) {
            Some(Some(seconds)) if keep.unknown.is_empty() => wait = wait.max(seconds),
            _ => policy.leave_out("`keepUntagged` goes by what `untagged` does not know"),
        }
        if keep.pulled_within.is_some() || keep.pulled_count > 0 || keep.pushed_count > 0 {
            policy.leave_out("`keepUntagged` counts, or goes by pulls, which `untagged` does not know");
        }
    }
    policy.untagged_after = Some(wait);
    policy.remark(
        RemarkKind::Untagged,
        "zot waits for its `delay`; Tagwarden waits from the later of the manifest's last change and the first run that \
         found it free",
    );
    policy
}
