//! Retention and immutability rules of Harbor.
//!
//! Semantics: `src/pkg/retention` and `src/lib/selector/selectors/doublestar` of goharbor/harbor. Rules speak of artifacts: a
//! rule takes those of which any tag matches, and retains some; what no rule retains goes, with all its tags. So each rule
//! becomes policies that select every tag of its repositories: a tag goes only if none of them keeps it.

use serde::Deserialize;
use serde_json::Value;

use super::json::{self, UnknownKeys, key_list};
use super::path_globs::{alternatives, path_globs};
use super::translation::{ImportedKeep, ImportedPolicy, ImportedRule, Remark, RemarkKind, TagSelection, Translation};
use super::{ImportError, ImportErrorKind, ImportOptions, unreadable};
use crate::domain::Failure;

const HELP: &str =
    "give what `GET /api/v2.0/retentions/{id}` or `GET /api/v2.0/projects/{name}/immutabletagrules` answers";

/// The templates that Harbor registers. With any other one, the job of a repository fails and removes nothing.
const TEMPLATES: [&str; 7] = [
    "latestPushedK",
    "latestPulledN",
    "latestActiveK",
    "lastXDays",
    "always",
    "nDaysSinceLastPull",
    "nDaysSinceLastPush",
];

/// The project in policies where no option names it.
const NO_PROJECT: &str = "name-of-the-project";

#[derive(Debug, Deserialize)]
struct Rule {
    #[serde(default)]
    id: Option<u64>,
    #[serde(default)]
    disabled: bool,
    #[serde(default)]
    action: String,
    #[serde(default)]
    template: String,
    #[serde(default)]
    params: UnknownKeys,
    #[serde(default)]
    tag_selectors: Vec<Selector>,
    #[serde(default)]
    scope_selectors: Scopes,
    #[serde(default, rename = "priority")]
    _priority: Option<i64>,
    #[serde(default, rename = "project_id")]
    _project_id: Option<i64>,
    #[serde(flatten)]
    unknown: UnknownKeys,
}

#[derive(Debug, Default, Deserialize)]
struct Scopes {
    #[serde(default)]
    repository: Vec<Selector>,
    #[serde(flatten)]
    unknown: UnknownKeys,
}

#[derive(Debug, Deserialize)]
struct Selector {
    #[serde(default)]
    kind: String,
    decoration: String,
    pattern: String,
    #[serde(default)]
    extras: String,
    #[serde(flatten)]
    unknown: UnknownKeys,
}

/// The repositories of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
struct RuleScope {
    /// Globs for those that it surely speaks of.
    repositories: Vec<String>,
    /// Those of which it is not sure: `a/**` may mean `a` as well.
    unsure: Vec<String>,
}

/// The tags by which a rule takes an artifact: any of them is enough.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TagTest {
    /// The globs of tags that take it.
    takes: Vec<String>,
    /// The globs of the other tags; empty where there are none.
    others: Vec<String>,
}

/// Translates one retention policy or several, and immutability rules.
pub(super) fn translate(text: &str, options: &ImportOptions) -> Result<Translation, ImportError> {
    let mut found = Translation::default();
    let (mut retention, mut immutable) = (Vec::new(), Vec::new());
    for document in json::documents(text, options, HELP)? {
        if let Some(rules) = document.get("rules").and_then(Value::as_array) {
            let algorithm = document.get("algorithm").and_then(Value::as_str).unwrap_or("or");
            if algorithm != "or" {
                return Err(unreadable(options, "algorithm", "only `or` is known").with_help(HELP));
            }
            if let Some(cron) =
                document.pointer("/trigger/settings/cron").and_then(Value::as_str).filter(|cron| !cron.is_empty())
            {
                let text = format!("Harbor runs it by `{cron}`; here the schedule of the settings decides");
                found.remarks.push(Remark::new(RemarkKind::Schedule, text.replace(|c: char| c.is_control(), " ")));
            }
            retention.extend(rules.iter().cloned());
        } else if let Value::Array(rules) = &document {
            immutable.extend(rules.iter().cloned());
        } else {
            return Err(
                unreadable(options, "", "neither a retention policy nor a list of immutability rules").with_help(HELP)
            );
        }
    }
    if retention.is_empty() && immutable.is_empty() {
        return Err(Failure::new(ImportErrorKind::Empty, format!("{}: no rules", options.file))
            .with_help("without rules Harbor removes nothing, so no policy is needed"));
    }
    let projects = if options.scopes.is_empty() {
        let text = format!("the file does not name its project: replace `{NO_PROJECT}`, or give `--scope`");
        found.remarks.push(Remark::new(RemarkKind::Scope, text));
        vec![NO_PROJECT.to_owned()]
    } else {
        options.scopes.clone()
    };
    let fixed = read(&immutable, "immutability rule", options)?;
    let rules = read(&retention, "rules", options)?;
    if !rules.is_empty() {
        found.remarks.push(Remark::new(
            RemarkKind::Unmatched,
            "Harbor keeps an artifact if any rule retains it, and removes all others; here each rule is policies on the \
             tags of its repositories, and a tag goes only if none of them keeps it",
        ));
        found.remarks.push(Remark::new(
            RemarkKind::Image,
            "an artifact stays or goes with all its tags there; the policies keep every tag of an image that a rule \
             retains, and may remove the tags of one image in different runs",
        ));
    }
    let active = rules.iter().filter(|(rule, _)| !rule.disabled).count();
    for (at, (rule, value)) in rules.iter().enumerate() {
        found.policies.extend(translate_rule((at + 1, rule, *value), &projects, &fixed));
    }
    if active > 0 {
        found.policies.push(untagged(&rules, &projects));
    }
    for (at, (rule, value)) in fixed.iter().enumerate() {
        found.policies.push(translate_immutable((at + 1, rule, *value), &projects, !rules.is_empty()));
    }
    Ok(found)
}

fn read<'a>(values: &'a [Value], place: &str, options: &ImportOptions) -> Result<Vec<(Rule, &'a Value)>, ImportError> {
    let shaped = |(at, value): (usize, &'a Value)| {
        Ok((json::shaped::<Rule>(value, &format!("{place} {}", at + 1), options, HELP)?, value))
    };
    values.iter().enumerate().map(shaped).collect()
}

/// The policies for one rule: of the tags by which it takes an artifact, and of the others.
fn translate_rule(
    (number, rule, value): (usize, &Rule, &Value),
    projects: &[String],
    fixed: &[(Rule, &Value)],
) -> Vec<ImportedPolicy> {
    let name = format!("harbor-{number}");
    let mut policy = ImportedPolicy::new(name.clone(), json::original(value), Vec::new());
    policy.description = format!("Retention rule {}: {}.", rule.id.unwrap_or(number as u64), rule.template);
    policy.holds_others = true;
    if rule.disabled {
        policy.repositories = below(projects);
        policy.holds_others = false;
        policy.leave_out("it is disabled");
        return vec![policy];
    }
    let Some(scope) = rule_scope(&rule.scope_selectors, projects) else {
        policy.repositories = below(projects);
        let text = "the selector of repositories cannot be said here, so the rule keeps in the whole project";
        policy.remark(RemarkKind::KeepsMore, text);
        return vec![keep_all(policy)];
    };
    policy.repositories = scope.repositories;
    let unsure = (!scope.unsure.is_empty()).then(|| {
        let mut itself =
            ImportedPolicy { name: format!("{name}-folders"), repositories: scope.unsure, ..policy.clone() };
        "Repositories of which it is not sure that the rule speaks of them.".clone_into(&mut itself.description);
        itself.original = vec![format!("the rule of {name}: its pattern may also mean the folder itself")];
        keep_all(itself)
    });
    translate_tags((number, rule), policy, fixed).into_iter().chain(unsure).collect()
}

/// The same for the tags of the rule's repositories.
fn translate_tags(
    (number, rule): (usize, &Rule),
    mut policy: ImportedPolicy,
    fixed: &[(Rule, &Value)],
) -> Vec<ImportedPolicy> {
    let name = policy.name.clone();
    let tests: Vec<Option<TagTest>> = rule.tag_selectors.iter().map(tag_test).collect();
    let unknown = rule.unknown.keys().chain(rule.scope_selectors.unknown.keys());
    let unknown: Vec<String> = unknown.map(|key| format!("`{}`", key.escape_debug())).collect();
    if !unknown.is_empty() || !matches!(rule.action.as_str(), "" | "retain") {
        policy.remark(
            RemarkKind::Unknown,
            format!(
                "the rule has keys or an action that are not understood, and may keep anything: {}",
                unknown.join(", ")
            ),
        );
        return vec![keep_all(policy)];
    }
    if let Some(why) = failure(rule) {
        policy
            .remark(RemarkKind::KeepsMore, format!("{why}, so Harbor's job fails in these repositories and all stays"));
        return vec![keep_all(policy)];
    }
    let Some(Some(test)) = tests.first().cloned() else {
        policy.remark(RemarkKind::KeepsMore, "its selector of tags cannot be said here, so the rule keeps everything");
        return vec![keep_all(policy)];
    };
    let retained = if tests.len() > 1 {
        policy.remark(
            RemarkKind::KeepsMore,
            "it has several selectors of tags; the policy keeps all that the first one takes",
        );
        None
    } else {
        retained(rule, &mut policy)
    };
    for (immutable, _) in fixed.iter().filter(|(rule, _)| !rule.disabled) {
        let Some(Some(test)) = immutable.tag_selectors.first().map(tag_test) else {
            let why = "the tags of an immutability rule cannot be said here, so everything stays";
            policy.remark(RemarkKind::KeepsMore, why);
            return vec![keep_all(policy)];
        };
        policy.keep_rule(ImportedRule::ImageWith { tags: test.takes, within: None });
        policy.remark(RemarkKind::Locks, "an artifact with an immutable tag stays, with all its tags");
    }
    let others = (!test.others.is_empty()).then(|| {
        let mut others = ImportedPolicy { name: format!("{name}-other-tags"), ..policy.clone() };
        others.description = format!("Tags that retention rule {} does not match.", rule.id.unwrap_or(number as u64));
        others.original = vec![format!("the rule of {name}, for the tags that it does not match")];
        others.remarks.clear();
        others.tags = Some(TagSelection::Globs(test.others.clone()));
        let within = retained.as_ref().and_then(|rules| recent(rules));
        if retained.as_ref().is_none_or(|rules| !rules.is_empty()) {
            others.keep_rule(ImportedRule::ImageWith { tags: test.takes.clone(), within });
        }
        others.remark(RemarkKind::Unmatched, "they stay while their image has a tag by which the rule takes it");
        others
    });
    policy.tags = Some(TagSelection::Globs(test.takes.clone()));
    let Some(rules) = retained else {
        return [keep_all(policy)].into_iter().chain(others).collect();
    };
    let counts = rules.iter().any(|rule| matches!(rule, ImportedRule::Newest(_)));
    for rule in rules {
        policy.keep_rule(rule);
    }
    if counts && !test.others.is_empty() {
        policy.keep_rule(ImportedRule::ImageWith { tags: test.others, within: None });
        policy.remark(
            RemarkKind::KeepsMore,
            "Harbor ranks an artifact by the newest of all its tags, and the policy by those that it selects; so images that \
             have other tags as well stay",
        );
    }
    [policy].into_iter().chain(others).collect()
}

/// The time of a rule that goes by time alone.
fn recent(rules: &[ImportedRule]) -> Option<u64> {
    match rules {
        [ImportedRule::ImageWith { within, .. }] => *within,
        _ => None,
    }
}

fn keep_all(mut policy: ImportedPolicy) -> ImportedPolicy {
    policy.keep = ImportedKeep::All;
    policy
}

/// The keep rules that keep what the rule retains of the artifacts that it takes. `None` if that is all of them.
fn retained(rule: &Rule, policy: &mut ImportedPolicy) -> Option<Vec<ImportedRule>> {
    let number = match rule.params.get(rule.template.as_str()) {
        Some(Value::Number(number)) => number.as_u64(),
        Some(Value::String(text)) => text.parse::<u64>().ok().map(|number| {
            let used = if rule.template == "nDaysSinceLastPush" { 30 } else { 10 };
            policy.remark(
                RemarkKind::KeepsMore,
                format!("its number is a text, instead of which Harbor uses {used}; the larger of the two holds here"),
            );
            number.max(used)
        }),
        _ => None,
    };
    let days = number.and_then(|days| days.checked_mul(86_400));
    let times = "Harbor goes by the newest push of the artifact and its tags";
    match (rule.template.as_str(), number) {
        ("latestPushedK", Some(0)) => Some(Vec::new()),
        ("latestPushedK", Some(count)) => {
            policy.remark(RemarkKind::Time, times);
            policy.remark(
                RemarkKind::Count,
                "artifacts without tags count as well where the rule takes them; `newest` counts images that have a \
                 selected tag, so it never keeps fewer",
            );
            Some(vec![ImportedRule::Newest(u32::try_from(count).unwrap_or(u32::MAX))])
        }
        ("nDaysSinceLastPush" | "lastXDays", Some(_)) => {
            policy.remark(RemarkKind::Time, times);
            Some(vec![ImportedRule::ImageWith { tags: Vec::new(), within: Some(days?.max(1)) }])
        }
        ("nDaysSinceLastPull", Some(_)) => {
            policy.remark(
                RemarkKind::Time,
                "it goes by the last pull of the artifact; one that was never pulled is not retained",
            );
            policy.remark(
                RemarkKind::KeepsMore,
                format!("until `pulled_within` can be used for whole images, what the rule takes stays; then write `pulled_within: {}d`", number?),
            );
            None
        }
        ("latestPulledN" | "latestActiveK", _) => {
            policy.remark(
                RemarkKind::KeepsMore,
                "it counts by the last pull, which no keep rule does; what the rule takes stays",
            );
            None
        }
        ("always", _) => None,
        (template, _) => {
            policy.remark(
                RemarkKind::KeepsMore,
                format!("the number of `{template}` is not understood; what the rule takes stays"),
            );
            None
        }
    }
}

/// The reason for which Harbor cannot evaluate the rule.
fn failure(rule: &Rule) -> Option<String> {
    let template = rule.template.escape_debug();
    if !TEMPLATES.contains(&rule.template.as_str()) {
        return Some(format!("the template `{template}` is not known to Harbor"));
    }
    let has_number = rule.template == "always" || rule.params.contains_key(&rule.template);
    (!has_number).then(|| format!("the rule lacks the number of `{template}`"))
}

/// The part on artifacts without tags, of all rules together.
fn untagged(rules: &[(Rule, &Value)], projects: &[String]) -> ImportedPolicy {
    let original = vec!["all retention rules, for artifacts without tags".to_owned()];
    let mut policy = ImportedPolicy::new("harbor-untagged".to_owned(), original, below(projects));
    "Artifacts without a tag.".clone_into(&mut policy.description);
    policy.tags = None;
    let mut wait = 86_400;
    for (rule, _) in rules.iter().filter(|(rule, _)| !rule.disabled) {
        if rule_scope(&rule.scope_selectors, projects).map(|scope| scope.repositories) != Some(below(projects)) {
            policy.leave_out("not every rule speaks of the whole project");
        }
        if let Some(why) = failure(rule) {
            policy.leave_out(format!("{why}, so Harbor removes nothing in its repositories"));
        }
        let takes = rule.tag_selectors.iter().all(takes_untagged);
        let days = rule.params.get("nDaysSinceLastPush").and_then(Value::as_u64);
        match (takes, rule.template.as_str(), days) {
            (false, _, _) => {}
            (true, "nDaysSinceLastPush", Some(days)) => wait = wait.max(days.saturating_mul(86_400)),
            (true, _, _) => policy.leave_out("a rule retains artifacts without tags by what `untagged` does not know"),
        }
    }
    policy.untagged_after = Some(wait);
    policy.remark(
        RemarkKind::Untagged,
        "Harbor removes what no rule retains at its next execution; Tagwarden waits from the later of the manifest's last \
         change and the first run that found it free",
    );
    policy
}

/// Harbor's default for a selector that says nothing: taken where it matches, not where it excludes.
fn takes_untagged(selector: &Selector) -> bool {
    let extras: Value = serde_json::from_str(&selector.extras).unwrap_or_default();
    let said = extras.get("untagged").and_then(Value::as_bool).unwrap_or(selector.decoration != "excludes");
    if selector.decoration == "excludes" { !said } else { said }
}

fn translate_immutable(
    (number, rule, value): (usize, &Rule, &Value),
    projects: &[String],
    with_retention: bool,
) -> ImportedPolicy {
    let scope = rule_scope(&rule.scope_selectors, projects).filter(|scope| scope.unsure.is_empty());
    let mut policy = ImportedPolicy::new(
        format!("harbor-immutable-{number}"),
        json::original(value),
        scope.map_or_else(|| below(projects), |scope| scope.repositories),
    );
    policy.description = format!("Immutable tags, rule {}.", rule.id.unwrap_or(number as u64));
    policy.keep = ImportedKeep::All;
    if rule.disabled {
        policy.leave_out("it is disabled");
    }
    match rule.tag_selectors.first().map(tag_test) {
        Some(Some(test)) => policy.tags = Some(TagSelection::Globs(test.takes)),
        _ => policy.remark(RemarkKind::KeepsMore, "its selector of tags cannot be said here, so all tags stay"),
    }
    if !rule.unknown.is_empty() || !rule.scope_selectors.unknown.is_empty() {
        policy.remark(RemarkKind::Unknown, format!("it has keys that are not understood: {}", key_list(&rule.unknown)));
    }
    if !with_retention {
        policy.remark(
            RemarkKind::Image,
            "Harbor keeps the whole artifact of an immutable tag; policies that expire its other tags need an `image_with` \
             rule, which is written for you where both kinds of rules are given together",
        );
    }
    policy.remark(RemarkKind::Locks, "where Harbor itself still holds the rule, the tags are locked as well");
    policy
}

fn below(projects: &[String]) -> Vec<String> {
    projects.iter().map(|project| format!("{project}/**")).collect()
}

/// The repositories of a rule, below the projects. `None` if globs cannot say which.
fn rule_scope(scopes: &Scopes, projects: &[String]) -> Option<RuleScope> {
    let (mut include, mut exclude, mut unsure) = (None, Vec::new(), Vec::new());
    for selector in &scopes.repository {
        if is_read_oddly(&selector.pattern) {
            return None;
        }
        let globs = path_globs(&selector.pattern)?;
        let written = |globs: &[String]| -> Vec<String> {
            projects.iter().flat_map(|project| globs.iter().map(move |glob| format!("{project}/{glob}"))).collect()
        };
        unsure.extend(written(&globs.folders));
        match selector.decoration.as_str() {
            "repoMatches" if selector.unknown.is_empty() && include.is_none() => include = Some(written(&globs.inside)),
            "repoExcludes" if selector.unknown.is_empty() => exclude.extend(written(&globs.inside)),
            _ => return None,
        }
    }
    let mut repositories = include.unwrap_or_else(|| below(projects));
    exclude.extend(unsure.iter().cloned());
    repositories.extend(exclude.iter().map(|glob| format!("!{glob}")));
    Some(RuleScope { repositories, unsure })
}

/// Returns true for what doublestar 1.3, which Harbor has, does not match as its text says: nothing of `*{,-dev}` matches the
/// empty option, an option with a slash spoils the others, and `v**` does not match `v`.
fn is_read_oddly(pattern: &str) -> bool {
    let mut rest = pattern;
    while let Some((_, behind)) = rest.split_once('{') {
        let Some((options, after)) = behind.split_once('}') else { return true };
        let is_odd = |option: &str| option.trim_matches('*').is_empty();
        if options.contains(['/', '{']) || options.split(',').any(is_odd) {
            return true;
        }
        rest = after;
    }
    let is_mixed = |glob: &String| glob.split('/').any(|part| part.contains("**") && part != "**");
    alternatives(pattern).is_none_or(|globs| globs.iter().any(is_mixed))
}

/// The tags of a selector. `None` if globs cannot say which.
fn tag_test(selector: &Selector) -> Option<TagTest> {
    if !selector.unknown.is_empty() || !matches!(selector.kind.as_str(), "" | "doublestar") {
        return None;
    }
    if selector.pattern.contains(['\\', '!', '^', '[', ']', '/']) || is_read_oddly(&selector.pattern) {
        return None;
    }
    let mut globs = alternatives(&selector.pattern)?;
    for glob in globs.iter_mut().filter(|glob| *glob == "**") {
        "*".clone_into(glob);
    }
    globs.sort();
    globs.dedup();
    // No tag is empty.
    globs.retain(|glob| !glob.is_empty());
    if globs.is_empty() {
        return None;
    }
    let every = globs.iter().any(|glob| glob == "*");
    let matching = if every { vec!["*".to_owned()] } else { globs.clone() };
    let rest: Vec<String> = if every {
        Vec::new()
    } else {
        ["*".to_owned()].into_iter().chain(globs.iter().map(|glob| format!("!{glob}"))).collect()
    };
    match selector.decoration.as_str() {
        "matches" => Some(TagTest { takes: matching, others: rest }),
        // An artifact is taken as soon as one of its tags does not match.
        "excludes" if rest.is_empty() => None,
        "excludes" => Some(TagTest { takes: rest, others: matching }),
        _ => None,
    }
}
