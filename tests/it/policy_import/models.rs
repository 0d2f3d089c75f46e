//! The other tools' algorithms, as short as they can be said. They share nothing with the importer.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

use super::Case;
use super::world::{World, WorldTag};

const DAY: i64 = 86_400;

/// One call of `acr purge`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AcrCall {
    filters: Vec<AcrFilter>,
    /// In days.
    #[serde(default)]
    ago: Option<f64>,
    #[serde(default)]
    keep: usize,
    #[serde(default)]
    min_tags: usize,
    #[serde(default)]
    max_tags: Option<usize>,
    #[serde(default)]
    include_locked: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct AcrFilter {
    repository: String,
    tag: String,
    /// What a lookahead excludes.
    #[serde(default)]
    not: Option<String>,
}

fn finds(expression: &str, text: &str) -> bool {
    Regex::new(expression).unwrap().is_match(text)
}

fn globbed(glob: &str, text: &str) -> bool {
    globset::GlobBuilder::new(glob).literal_separator(true).build().unwrap().compile_matcher().is_match(text)
}

fn names<'a>(tags: impl IntoIterator<Item = &'a WorldTag>) -> BTreeSet<String> {
    tags.into_iter().map(|tag| tag.name.clone()).collect()
}

pub(crate) fn acr(calls: &[AcrCall], world: &World) -> BTreeSet<String> {
    let mut gone = BTreeSet::new();
    for call in calls {
        let filters: Vec<&AcrFilter> = call
            .filters
            .iter()
            .filter(|filter| finds(&format!("^{}$", filter.repository), &world.repository))
            .collect();
        let matches = |tag: &&WorldTag| {
            filters.iter().any(|filter| {
                finds(&filter.tag, &tag.name) && !filter.not.as_ref().is_some_and(|not| finds(not, &tag.name))
            })
        };
        let mut eligible: Vec<&WorldTag> = world.tags.iter().filter(matches).collect();
        let ages: Vec<i64> = eligible.iter().map(|tag| tag.age).collect();
        #[expect(clippy::cast_possible_truncation, reason = "test data")]
        let ago = call.ago.map(|days| (days * 86_400.0) as i64);
        eligible.retain(|tag| {
            let newest = |count: usize| among_newest(&ages, tag.age, count);
            let by_age = ago.is_some_and(|ago| tag.age > ago) && !newest(call.min_tags);
            (by_age || call.max_tags.is_some_and(|most| !newest(most))) && (call.include_locked || !tag.locked)
        });
        let ages: Vec<i64> = eligible.iter().map(|tag| tag.age).collect();
        gone.extend(names(eligible.into_iter().filter(|tag| !among_newest(&ages, tag.age, call.keep))));
    }
    gone
}

/// The images of a world: tags, age, newest first. Images without tags come last in a tie.
fn images(world: &World) -> Vec<(Vec<&WorldTag>, i64)> {
    let mut tagged: BTreeMap<u8, Vec<&WorldTag>> = BTreeMap::new();
    for tag in &world.tags {
        tagged.entry(tag.image).or_default().push(tag);
    }
    let age = |tags: &Vec<&WorldTag>| tags.iter().map(|tag| tag.age).min().unwrap_or_default();
    let mut images: Vec<_> = tagged
        .into_values()
        .map(|tags| {
            let age = age(&tags);
            (tags, age)
        })
        .collect();
    images.extend(world.untagged.iter().map(|age| (Vec::new(), *age)));
    images.sort_by_key(|image| image.1);
    images
}

/// Returns true if fewer than so many of the others are surely newer: in a tie, the tool may take either.
fn among_newest(ages: &[i64], age: i64, count: usize) -> bool {
    ages.iter().filter(|other| **other < age).count() < count
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}

fn texts(value: &Value, key: &str) -> Vec<String> {
    value
        .get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

fn number(value: &Value, key: &str) -> Option<usize> {
    value.get(key).and_then(Value::as_u64).and_then(|number| usize::try_from(number).ok())
}

pub(crate) fn ecr(case: &Case, world: &World) -> BTreeSet<String> {
    let document = case.documents().remove(0);
    let policy =
        text(&document, "lifecyclePolicyText").map_or(document.clone(), |text| serde_json::from_str(text).unwrap());
    let scope = text(&document, "repositoryName").map_or(case.scope.clone(), |name| vec![name.to_owned()]);
    if !scope.contains(&world.repository) {
        return BTreeSet::new();
    }
    let mut rules = policy["rules"].as_array().unwrap().clone();
    rules.sort_by_key(|rule| rule["rulePriority"].as_u64());
    let matches = |rule: &Value, tags: &[&WorldTag]| {
        let selection = &rule["selection"];
        match text(selection, "tagStatus").unwrap() {
            "any" => true,
            "untagged" => tags.is_empty(),
            _ => {
                let prefixes = texts(selection, "tagPrefixList").into_iter().map(|prefix| format!("{prefix}*"));
                let globs: Vec<String> = prefixes.chain(texts(selection, "tagPatternList")).collect();
                globs.iter().all(|glob| tags.iter().any(|tag| globbed(glob, &tag.name)))
            }
        }
    };
    let images = images(world);
    let mut gone = BTreeSet::new();
    for (tags, age) in &images {
        let Some(rule) = rules.iter().find(|rule| matches(rule, tags)) else { continue };
        let selection = &rule["selection"];
        let count = number(selection, "countNumber").unwrap();
        let known = text(&rule["action"], "type") == Some("expire")
            && !case.ignore_rules.contains(&rule["rulePriority"].as_u64().unwrap());
        let expired = match text(selection, "countType").unwrap() {
            "imageCountMoreThan" => {
                let ages: Vec<i64> =
                    images.iter().filter(|(tags, _)| matches(rule, tags)).map(|image| image.1).collect();
                !among_newest(&ages, *age, count)
            }
            "sinceImagePushed" => *age > i64::try_from(count).unwrap() * DAY,
            _ => false,
        };
        if known && expired {
            gone.extend(names(tags.iter().copied()));
        }
    }
    gone
}

fn duration(text: &str) -> i64 {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap());
    let number: i64 = digits.parse().unwrap();
    match unit.trim() {
        "s" => number,
        "h" => number * 3600,
        "d" | "day" => number * DAY,
        other => panic!("{other}"),
    }
}

pub(crate) fn artifact_registry(case: &Case, world: &World) -> BTreeSet<String> {
    let document = case.documents().remove(0);
    let policies: Vec<Value> = match &document {
        Value::Array(policies) => policies.clone(),
        other => other["cleanupPolicies"].as_object().unwrap().values().cloned().collect(),
    };
    let Some(package) = world.repository.strip_prefix("contoso/images/") else { return BTreeSet::new() };
    let images = images(world);
    let ages: Vec<i64> = images.iter().map(|image| image.1).collect();
    let in_package = |part: &Value| {
        let prefixes = texts(part, "packageNamePrefixes");
        prefixes.is_empty() || prefixes.iter().any(|prefix| package.starts_with(prefix.as_str()))
    };
    let matches = |policy: &Value, tags: &[&WorldTag], age: i64| {
        if let Some(recent) = policy.get("mostRecentVersions") {
            return in_package(recent) && among_newest(&ages, age, number(recent, "keepCount").unwrap());
        }
        let condition = &policy["condition"];
        let state = text(condition, "tagState").unwrap_or("any").to_uppercase();
        let prefixes = texts(condition, "tagPrefixes");
        in_package(condition)
            && (state != "TAGGED" || !tags.is_empty())
            && (state != "UNTAGGED" || tags.is_empty())
            && (prefixes.is_empty()
                || tags.iter().any(|tag| prefixes.iter().any(|prefix| tag.name.starts_with(prefix.as_str()))))
            && text(condition, "olderThan").is_none_or(|older| age > duration(older))
            && text(condition, "newerThan").is_none_or(|newer| age <= duration(newer))
            // Digests here begin with none of the prefixes that the rules name, or with all of them.
            && (texts(condition, "versionNamePrefixes").is_empty() || !is_delete(policy))
    };
    let gone = images.iter().filter(|(tags, age)| {
        let any =
            |delete: bool| policies.iter().any(|policy| is_delete(policy) == delete && matches(policy, tags, *age));
        any(true) && !any(false)
    });
    gone.flat_map(|(tags, _)| names(tags.iter().copied())).collect()
}

fn is_delete(policy: &Value) -> bool {
    let word = policy["action"].as_str().or(policy["action"]["type"].as_str()).unwrap();
    word.eq_ignore_ascii_case("delete")
}

pub(crate) fn gitlab(case: &Case, world: &World) -> BTreeSet<String> {
    let projects = match case.documents().remove(0) {
        Value::Array(projects) => projects,
        project => vec![project],
    };
    let mut gone = BTreeSet::new();
    for project in projects {
        let named = text(&project, "path_with_namespace").map(str::to_lowercase);
        let path = named.unwrap_or_else(|| case.scope[0].clone());
        if world.repository != path && !world.repository.starts_with(&format!("{path}/")) {
            continue;
        }
        let rule = project.get("container_expiration_policy").unwrap_or(&project);
        let delete = text(rule, "name_regex_delete").or(text(rule, "name_regex")).unwrap_or_default();
        let keep = text(rule, "name_regex_keep").unwrap_or_default();
        let mut left: Vec<&WorldTag> = world
            .tags
            .iter()
            .filter(|tag| tag.name != "latest")
            .filter(|tag| finds(&format!("\\A{delete}\\z"), &tag.name) && !finds(&format!("\\A{keep}\\z"), &tag.name))
            .collect();
        let ages: Vec<i64> = left.iter().map(|tag| tag.age).collect();
        if let Some(count) = number(rule, "keep_n") {
            left.retain(|tag| !among_newest(&ages, tag.age, count));
        }
        if let Some(older) = text(rule, "older_than") {
            left.retain(|tag| tag.age > duration(older));
        }
        gone.extend(names(left));
    }
    gone
}

pub(crate) fn harbor(case: &Case, world: &World) -> BTreeSet<String> {
    let (mut rules, mut immutable) = (Vec::new(), Vec::new());
    for document in case.documents() {
        match document {
            Value::Array(fixed) => immutable.extend(fixed),
            policy => rules.extend(policy["rules"].as_array().unwrap().clone()),
        }
    }
    let Some(repository) = world.repository.strip_prefix("shop/") else { return BTreeSet::new() };
    let glob = |pattern: &str, text: &str| pattern.is_empty() || globbed(pattern, text);
    let in_scope = |rule: &Value| {
        rule["scope_selectors"]["repository"].as_array().unwrap().iter().all(|selector| {
            glob(text(selector, "pattern").unwrap(), repository)
                == (text(selector, "decoration") == Some("repoMatches"))
        })
    };
    let takes = |rule: &Value, tags: &[&WorldTag]| {
        rule["tag_selectors"].as_array().unwrap().iter().all(|selector| {
            let pattern = text(selector, "pattern").unwrap();
            let extras: Value =
                text(selector, "extras").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
            let decoration = text(selector, "decoration").unwrap();
            let untagged = extras["untagged"].as_bool().unwrap_or(decoration != "excludes");
            match decoration {
                "matches" if tags.is_empty() => untagged,
                "excludes" if tags.is_empty() => !untagged,
                "matches" => tags.iter().any(|tag| glob(pattern, &tag.name)),
                "excludes" => tags.iter().any(|tag| !glob(pattern, &tag.name)),
                _ => false,
            }
        })
    };
    let active: Vec<Value> =
        rules.into_iter().filter(|rule| rule["disabled"] != Value::Bool(true) && in_scope(rule)).collect();
    if active.is_empty() {
        return BTreeSet::new();
    }
    let images = images(world);
    let retained = |rule: &Value, tags: &[&WorldTag], age: i64| {
        let template = text(rule, "template").unwrap();
        let count = number(&rule["params"], template).unwrap_or(10);
        takes(rule, tags)
            && match template {
                "latestPushedK" => {
                    let ages: Vec<i64> =
                        images.iter().filter(|(tags, _)| takes(rule, tags)).map(|image| image.1).collect();
                    among_newest(&ages, age, count)
                }
                "nDaysSinceLastPush" => age <= i64::try_from(count).unwrap() * DAY,
                // Pulls are not known here: any artifact may have been pulled.
                _ => true,
            }
    };
    let is_fixed = |tags: &[&WorldTag]| immutable.iter().any(|rule| !tags.is_empty() && takes(rule, tags));
    let gone =
        images.iter().filter(|(tags, age)| !active.iter().any(|rule| retained(rule, tags, *age)) && !is_fixed(tags));
    gone.flat_map(|(tags, _)| names(tags.iter().copied())).collect()
}

pub(crate) fn zot(case: &Case, world: &World) -> BTreeSet<String> {
    if case.ignore_policies {
        return BTreeSet::new();
    }
    let document = case.documents().remove(0);
    let storage = &document["storage"];
    let is_below = |path: &String| world.repository.starts_with(&format!("{}/", path.trim_matches('/')));
    if storage["subPaths"].as_object().is_some_and(|paths| paths.keys().any(is_below)) {
        return BTreeSet::new();
    }
    let governs = |policy: &&Value| {
        texts(policy, "repositories").iter().any(|pattern| {
            let folder = pattern.strip_suffix("/**").is_some_and(|folder| globbed(folder, &world.repository));
            folder || globbed(pattern, &world.repository)
        })
    };
    let Some(policy) = storage["retention"]["policies"].as_array().unwrap().iter().find(governs) else {
        return BTreeSet::new();
    };
    let entries: Vec<Value> = match policy.get("keepTags").or(policy.get("KeepTags")) {
        None => return BTreeSet::new(),
        Some(Value::Array(entries)) => entries.clone(),
        Some(entry) => vec![entry.clone()],
    };
    let entry_of = |tag: &WorldTag| {
        entries.iter().position(|entry| {
            let patterns = texts(entry, "patterns");
            patterns.is_empty() || patterns.iter().any(|pattern| finds(pattern, &tag.name))
        })
    };
    let gone = world.tags.iter().filter(|tag| {
        let Some(at) = entry_of(tag) else { return true };
        let entry = &entries[at];
        if entry.get("pulledWithin").is_some() || entry.get("mostRecentlyPulledCount").is_some() {
            return false;
        }
        let count = number(entry, "mostRecentlyPushedCount");
        let within = text(entry, "pushedWithin").map(duration);
        let ages: Vec<i64> = world.tags.iter().filter(|tag| entry_of(tag) == Some(at)).map(|tag| tag.age).collect();
        let kept = count.is_some_and(|count| among_newest(&ages, tag.age, count))
            || within.is_some_and(|within| tag.age <= within)
            || count.is_none() && within.is_none();
        !kept
    });
    names(gone)
}
