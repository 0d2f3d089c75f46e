//! Compilation of a policy file's tree into policies.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use jiff::SignedDuration;

use super::diagnostic::Problems;
use super::fields::{self, Fields};
use super::rule_places::{RulePlace, allow_unmatched, rule_places};
use super::selection;
use super::yaml::{Entry, Node, Place, Value};
use crate::domain::{
    AllowUnmatched, Keep, KeepRule, Period, Policy, PolicyLimits, PolicyMode, PolicyName, RegistryName, RuleKey,
    Selector, TagSelector, VersionPart, WrittenDuration,
};

const MODES: [(&str, PolicyMode); 2] = [("dry-run", PolicyMode::DryRun), ("enforce", PolicyMode::Enforce)];
const VERSIONS: [(&str, VersionPart); 3] =
    [("major", VersionPart::Major), ("minor", VersionPart::Minor), ("patch", VersionPart::Patch)];
const RULES: [&str; 9] =
    ["newest", "within", "daily", "weekly", "monthly", "yearly", "newest_per", "matching", "image_with"];
const SELECT_HELP: &str = "to select every tag write `select: { tags: [\"*\"] }`";
const SELECT_REPOSITORIES_HELP: &str = "to select every repository write `select: { repositories: [\"**\"] }`";
const RULE_HELP: &str = "write it as `- newest: 5`";
const THEN_HELP: &str = "write `then: { delete_manifest: after 14d }`, or leave it out: nothing is deleted then";
const UNTAGGED_HELP: &str = "write `untagged: { delete: after 30d }`";
const KEEP_HELP: &str = "write `keep: all`, `keep: none`, or a list of rules such as `- newest: 5`";

/// The file of a policy, for its record.
pub(super) struct Origin {
    pub(super) file: Arc<str>,
    pub(super) revision: Arc<str>,
}

/// A policy with the places of values that are checked against other files.
pub(super) struct LocatedPolicy {
    pub(super) policy: Policy,
    /// The place of its name.
    pub(super) name: Place,
    /// The place of each registry that it names.
    pub(super) registries: Vec<(RegistryName, Place)>,
    /// The place of each of its keep rules, in order.
    pub(super) rules: Vec<Place>,
    /// Its names, globs and patterns with their places.
    pub(super) rule_texts: Vec<RulePlace>,
    /// The place of its `then`, if it has one.
    pub(super) then: Option<Place>,
    /// Where it says what becomes of manifests without a tag, if it does.
    pub(super) untagged: Option<Place>,
}

/// What a policy speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Tags,
    /// Manifests that no tag references.
    Untagged,
}

impl Subject {
    /// A misspelt `untagged` counts where there is no `keep`: to propose one would be wrong advice.
    fn of(fields: &mut Fields<'_>, untagged: Option<&Node>) -> Self {
        let misspelled = fields.is_misspelled("untagged") && fields.get("keep").is_none();
        if untagged.is_some() || misspelled { Self::Untagged } else { Self::Tags }
    }

    fn select_help(self) -> &'static str {
        match self {
            Self::Tags => SELECT_HELP,
            Self::Untagged => SELECT_REPOSITORIES_HELP,
        }
    }
}

/// What a policy says of tags besides `keep`.
struct TagFields<'a> {
    group_by: Option<Vec<String>>,
    /// `None` if it is not written, `Some(None)` if it is invalid.
    #[expect(clippy::option_option, reason = "the readers of all keys tell invalid from missing so")]
    then: Option<Option<WrittenDuration>>,
    then_at: Option<&'a Place>,
    limits: Option<PolicyLimits>,
}

impl<'a> TagFields<'a> {
    fn read(fields: &mut Fields<'a>, subject: Subject, select: Option<&Selector>, problems: &mut Problems) -> Self {
        if subject == Subject::Untagged {
            for key in ["group_by", "then", "limits"] {
                refuse_beside_untagged(fields, key, problems);
            }
            return Self {
                group_by: Some(Vec::new()),
                then: None,
                then_at: None,
                limits: Some(PolicyLimits::default()),
            };
        }
        let tags = select.map(|selector| &selector.tags);
        let group_by = fields.get("group_by").map_or(Some(Vec::new()), |node| groups(node, tags, problems));
        let then_node = fields.get("then");
        let limits = fields.get("limits").map_or(Some(PolicyLimits::default()), |node| limits(node, problems));
        Self {
            group_by,
            then: then_node.map(|node| then(node, problems)),
            then_at: then_node.map(|node| &node.at),
            limits,
        }
    }
}

/// Notes a key that has no meaning in a policy on manifests.
fn refuse_beside_untagged(fields: &mut Fields<'_>, key: &'static str, problems: &mut Problems) {
    if fields.get(key).is_none() {
        return;
    }
    let help = match key {
        "limits" => "leave it out; `limits.delete` in the settings bounds the deletions of a run",
        _ => "leave it out: a policy with `untagged` speaks of manifests, and of no tag",
    };
    problems.add(fields.key_at(key), format!("`{key}` beside `untagged`")).help(help);
}

/// Compiles all valid policies of a file; the rest is in the problems.
pub(super) fn compile_policies(root: &Node, origin: &Origin, problems: &mut Problems) -> Vec<LocatedPolicy> {
    let help = "a policy file is `policies:` and below it a list, each policy with `- name: …`";
    match &root.value {
        Value::Null => {
            problems.add(&root.at, "no policies in this file").help(help);
            return Vec::new();
        }
        Value::List(_) => {
            problems.add(&root.at, "the list of policies must stand under `policies:`").help(help);
            return Vec::new();
        }
        _ => {}
    }
    let Some(mut fields) = Fields::of(root, "policy file", problems) else { return Vec::new() };
    let listed = fields.get("policies");
    fields.finish(|_| None, problems);
    let Some(node) = listed else {
        problems.add(&root.at, "no `policies:` in this file").help(help);
        return Vec::new();
    };
    let nodes = match &node.value {
        Value::List(nodes) if !nodes.is_empty() => nodes,
        Value::List(_) | Value::Null => {
            problems.add(&node.at, "no policies in this file").help(help);
            return Vec::new();
        }
        value => {
            problems.add(&node.at, format!("`policies` must be a list, not {}", value.describe())).help(help);
            return Vec::new();
        }
    };
    let mut names = BTreeMap::new();
    let mut placed = Vec::new();
    for node in nodes {
        let noted = problems.count();
        match compile_policy(node, origin, &mut names, problems) {
            Some(policy) => placed.push(policy),
            // A policy must never be dropped silently.
            None if problems.count() == noted => {
                problems.add(&node.at, "this policy could not be understood").help("please report this file");
            }
            None => {}
        }
    }
    placed
}

fn compile_policy<'a>(
    node: &'a Node,
    origin: &Origin,
    names: &mut BTreeMap<&'a str, &'a Place>,
    problems: &mut Problems,
) -> Option<LocatedPolicy> {
    let mut fields = Fields::of(node, "policy", problems)?;
    let name = required(&mut fields, "name", "every policy has a name of its own", problems)
        .and_then(|node| Some((fields::text("name", node, problems)?, &node.at)));
    if let Some((text, at)) = name
        && let Some(first) = names.insert(text, at)
    {
        let first = problems.diagnostic(first, "first used here");
        problems
            .add(at, format!("two policies are named `{text}`"))
            .help("give each its own name")
            .add_secondary(first);
    }
    let name_at = name.map(|(_, at)| at);
    let name: Option<PolicyName> = name.and_then(|(text, at)| fields::name(text, at, problems));
    let description = optional_text(&mut fields, "description", problems);
    let owner = optional_text(&mut fields, "owner", problems);
    let untagged_node = fields.get("untagged");
    let subject = Subject::of(&mut fields, untagged_node);
    let select_node = required(&mut fields, "select", subject.select_help(), problems);
    let select = select_node.and_then(|node| select(node, subject, problems));
    let select = match untagged_node {
        Some(node) => {
            untagged(node, problems).and_then(|after| Some(Selector { tags: TagSelector::Untagged(after), ..select? }))
        }
        None => select,
    };
    // Without `keep`, a policy that speaks of tags is one whose author has forgotten something. No message proposes `keep`
    // for one that speaks of manifests: it would let every tag go.
    let keep_node = match subject {
        Subject::Tags => required(&mut fields, "keep", "to keep nothing write `keep: none`", problems),
        Subject::Untagged => {
            refuse_beside_untagged(&mut fields, "keep", problems);
            None
        }
    };
    let keep = match subject {
        Subject::Tags => keep_node.and_then(|node| keep(node, problems)),
        Subject::Untagged => Some(Keep::None),
    };
    let of_tags = TagFields::read(&mut fields, subject, select.as_ref(), problems);
    let mode = fields.get("mode").map_or(Some(PolicyMode::default()), |node| mode(node, problems));
    let schedule = fields.get("schedule").map(|node| fields::cron("schedule", node, problems));
    let written = rule_places(select_node, keep_node);
    let allow = fields.get("allow_unmatched");
    let allow = allow.map_or(Some(AllowUnmatched::None), |node| allow_unmatched(node, &written, problems));
    fields.finish(foreign_policy_key_hint, problems);
    let line = |rule: &RulePlace| {
        let line = u32::try_from(problems.diagnostic(&rule.at, "").line).ok().filter(|line| *line > 0)?;
        Some(((rule.key, rule.written.clone()), line))
    };
    let own_line = u32::try_from(problems.diagnostic(name_at.unwrap_or(&node.at), "").line).unwrap_or_default();
    let own_line = ((RuleKey::Select, String::new()), own_line);
    let policy = Policy {
        name: name?,
        description,
        owner,
        select: select?,
        group_by: of_tags.group_by?,
        keep: keep?,
        delete_manifest_after: flat(of_tags.then)?,
        mode: mode?,
        limits: of_tags.limits?,
        schedule: flat(schedule)?,
        allow_unmatched: allow?,
        lines: written.iter().filter_map(line).chain([own_line]).collect(),
        file: Arc::clone(&origin.file),
        revision: Arc::clone(&origin.revision),
    };
    let at = name_at.unwrap_or(&node.at).clone();
    let registries = named_registries(&policy, select_node);
    let rules = match keep_node.map(|node| &node.value) {
        Some(Value::List(rules)) => rules.iter().map(|rule| rule.at.clone()).collect(),
        _ => Vec::new(),
    };
    let then = of_tags.then_at.cloned();
    let untagged = untagged_node.map(|node| node.at.clone());
    Some(LocatedPolicy { policy, name: at, registries, rules, rule_texts: written, then, untagged })
}

/// Returns the registries of a policy, each with its place in the list.
fn named_registries(policy: &Policy, select: Option<&Node>) -> Vec<(RegistryName, Place)> {
    let Some(Value::Map(entries)) = select.map(|node| &node.value) else { return Vec::new() };
    let listed = entries.iter().find(|entry| entry.key == "registries").map(|entry| &entry.node.value);
    let Some(Value::List(nodes)) = listed else { return Vec::new() };
    policy.select.registries.iter().flatten().cloned().zip(nodes.iter().map(|node| node.at.clone())).collect()
}

fn required<'a>(fields: &mut Fields<'a>, key: &'static str, help: &str, problems: &mut Problems) -> Option<&'a Node> {
    let node = fields.get(key);
    // A misspelt key is reported as such.
    if node.is_none() && !fields.is_misspelled(key) {
        problems.add(fields.at(), format!("a policy without `{key}`")).help(help);
    }
    node
}

fn optional_text(fields: &mut Fields<'_>, key: &'static str, problems: &mut Problems) -> Option<String> {
    fields.get(key).and_then(|node| fields::text(key, node, problems)).map(str::to_owned)
}

/// Returns a hint for keys of other tools.
fn foreign_policy_key_hint(key: &str) -> Option<&'static str> {
    match key {
        "dry_run" | "dryRun" | "dry-run" => Some("write `mode: dry-run`, which is also the default"),
        "enabled" | "enforce" | "enforced" | "dryrun" => Some("write `mode: enforce` or `mode: dry-run`"),
        "tags" | "pattern" | "repositories" | "registries" | "repository" | "registry" => {
            Some("it belongs under `select:`")
        }
        _ if RULES.contains(&key) => Some("it belongs under `keep:`, as `- ` and the rule"),
        "untag" | "percent" => Some("it belongs under `limits:`"),
        "delete_manifest" => Some("manifests go by `then: { delete_manifest: after 14d }`"),
        "delete" | "purge" => Some(
            "`then: { delete_manifest: after 14d }` deletes what was untagged here, `untagged: { delete: after 30d }` all that no tag references",
        ),
        "cron" => Some("a policy's own times are `schedule: \"0 3 * * 0\"`"),
        _ => None,
    }
}

fn mode(node: &Node, problems: &mut Problems) -> Option<PolicyMode> {
    fields::choice("mode", node, &MODES, problems)
}

fn limits(node: &Node, problems: &mut Problems) -> Option<PolicyLimits> {
    let mut fields = Fields::of(node, "policy's limits", problems)?;
    let untag = fields.get("untag").map(|node| fields::integer("untag", node, 1..=u32::MAX, problems));
    let percent = fields.get("percent").map(|node| fields::integer("percent", node, 1..=100, problems));
    if untag.is_none() && percent.is_none() {
        problems.add(&node.at, "`limits` is empty").help("leave it out, or write `untag:` or `percent:`");
    }
    let hint = |key: &str| (key == "leave").then_some("`leave` is a limit of the settings, for all policies");
    fields.finish(hint, problems);
    Some(PolicyLimits { untag: flat(untag)?, percent: flat(percent)? })
}

/// Flattens a value; `None` if it could not be read.
#[expect(clippy::option_option, reason = "the outer nothing is `wrong`, the inner one `not written`")]
fn flat<T>(value: Option<Option<T>>) -> Option<Option<T>> {
    match value {
        None => Some(None),
        Some(None) => None,
        read => read.map(Some)?,
    }
}

fn select(node: &Node, subject: Subject, problems: &mut Problems) -> Option<Selector> {
    let empty = match &node.value {
        Value::Null => true,
        Value::Map(entries) => entries.is_empty(),
        _ => false,
    };
    if empty {
        problems.add(&node.at, "`select` is empty").help(subject.select_help());
        return None;
    }
    let mut fields = Fields::of(node, "selector", problems)?;
    let registries = fields.get("registries").map(|node| fields::names("registries", node, problems));
    let repositories = fields.get("repositories").map(|node| selection::repositories(node, problems));
    let (tags, pattern) = match subject {
        Subject::Tags => (fields.get("tags"), fields.get("pattern")),
        Subject::Untagged => {
            refuse_beside_untagged(&mut fields, "tags", problems);
            refuse_beside_untagged(&mut fields, "pattern", problems);
            (None, None)
        }
    };
    let selector = match (tags, pattern) {
        (Some(_), Some(pattern)) => {
            let tags_at = problems.diagnostic(fields.key_at("tags"), "the globs are here");
            problems
                .add(fields.key_at("pattern"), "both `tags` and `pattern` in one selector")
                .help("choose one: globs (`tags`) or a regular expression on the whole tag (`pattern`)")
                .add_secondary(tags_at);
            selection::pattern(pattern, problems).and(None)
        }
        (Some(node), None) => selection::tags(node, problems).map(TagSelector::Globs),
        (None, Some(node)) => selection::pattern(node, problems).map(TagSelector::Pattern),
        (None, None) => Some(TagSelector::All),
    };
    let hint = |key: &str| match key {
        "exclude" | "ignore" | "except" => Some("write what is not meant into the list itself, as `\"!glob\"`"),
        "regex" | "regexp" => Some("a regular expression is called `pattern`"),
        _ => None,
    };
    fields.finish(hint, problems);
    Some(Selector { registries: flat(registries)?, repositories: flat(repositories)?, tags: selector? })
}

fn groups(node: &Node, tags: Option<&TagSelector>, problems: &mut Problems) -> Option<Vec<String>> {
    let (texts, sound) = fields::texts("group_by", node, problems)?;
    let pattern = match tags {
        Some(TagSelector::Pattern(pattern)) => pattern,
        // The pattern itself is invalid, which is reported already.
        None => return None,
        Some(_) => {
            problems
                .add(&node.at, "`group_by` without a `pattern`")
                .help("groups are named in the pattern: `pattern: '(?<branch>.+)-\\d+'`");
            return None;
        }
    };
    let known: Vec<&str> = pattern.capture_names().flatten().collect();
    let mut groups: Vec<String> = Vec::new();
    for (text, at) in &texts {
        if !known.contains(&&**text) {
            let (message, help) = fields::unknown_word("group", text, " of the pattern", &known);
            let named = format!("name one in the pattern, such as `(?<{text}>…)`");
            problems.add(at, message).help(if known.is_empty() { named } else { help });
        } else if groups.contains(text) {
            problems.add(at, format!("`{text}` is written twice")).help("keep one of the two");
        } else {
            groups.push(text.clone());
        }
    }
    (sound && groups.len() == texts.len()).then_some(groups)
}

fn keep(node: &Node, problems: &mut Problems) -> Option<Keep> {
    match &node.value {
        Value::Text(word) if word == "all" => Some(Keep::All),
        Value::Text(word) if word == "none" => Some(Keep::None),
        Value::Text(word) => {
            let (message, _) = fields::unknown_word("word", word, " for `keep`", &["all", "none"]);
            problems.add(&node.at, message).help(KEEP_HELP);
            None
        }
        Value::List(nodes) if nodes.is_empty() => {
            problems.add(&node.at, "`keep` is an empty list").help("to keep nothing write `keep: none`");
            None
        }
        Value::List(nodes) => {
            let rules: Vec<Option<KeepRule>> = nodes.iter().map(|node| rule(node, problems)).collect();
            rules.into_iter().collect::<Option<_>>().map(Keep::Rules)
        }
        Value::Null => {
            problems.add(&node.at, "`keep` is empty").help(KEEP_HELP);
            None
        }
        Value::Map(entries) => {
            problems
                .add(&node.at, "`keep` must be a list of rules, not a map")
                .help("put `- ` before each rule: a tag stays if any of them keeps it");
            for entry in entries {
                keep_rule(entry, problems);
            }
            None
        }
        value => {
            problems.add(&node.at, format!("`keep` must be a list of rules, not {}", value.describe())).help(KEEP_HELP);
            None
        }
    }
}

fn rule(node: &Node, problems: &mut Problems) -> Option<KeepRule> {
    let Value::Map(entries) = &node.value else {
        let problem =
            problems.add(&node.at, format!("a keep rule must be a rule and its value, not {}", node.value.describe()));
        match &node.value {
            Value::Text(word) if word == "all" || word == "none" => {
                problem.help(format!("it stands alone, not in a list: `keep: {word}`"));
            }
            _ => {
                problem.help(RULE_HELP);
            }
        }
        return None;
    };
    let mut rules = entries.iter().map(|entry| (keep_rule(entry, problems), &entry.at)).collect::<Vec<_>>().into_iter();
    match (rules.next(), rules.next()) {
        (None, _) => {
            problems.add(&node.at, "an empty keep rule").help(RULE_HELP);
            None
        }
        (Some(_), Some((_, second))) => {
            problems
                .add(second, format!("a keep rule with {} keys", entries.len()))
                .help("start each rule with its own `- `: a tag stays if any of them keeps it");
            None
        }
        (Some((rule, _)), None) => rule,
    }
}

fn keep_rule(entry: &Entry, problems: &mut Problems) -> Option<KeepRule> {
    let node = &entry.node;
    let bucketed = |period: Period, problems: &mut Problems| {
        count(period.rule_name(), node, problems).map(|count| KeepRule::Bucketed { period, count })
    };
    match &*entry.key {
        "newest" => count("newest", node, problems).map(KeepRule::Newest),
        "within" => span("within", node, problems).map(KeepRule::Within),
        "daily" => bucketed(Period::Day, problems),
        "weekly" => bucketed(Period::Week, problems),
        "monthly" => bucketed(Period::Month, problems),
        "yearly" => bucketed(Period::Year, problems),
        "newest_per" => newest_per(node, problems),
        "matching" => selection::matching(node, problems).map(KeepRule::Matching),
        "image_with" => image_with(node, problems),
        other => {
            let (message, list) = fields::unknown_word("rule", other, "", &RULES);
            problems.add(&entry.at, message).help(foreign_rule_hint(other).map_or(list, str::to_owned));
            None
        }
    }
}

/// Returns a hint for rules of other tools.
fn foreign_rule_hint(rule: &str) -> Option<&'static str> {
    match rule {
        "keep_last" | "last" | "count" | "keep_n" | "latest" => Some("the newest so many are `newest: 5`"),
        "max_age" | "age" | "days" | "older_than" | "ago" | "duration" => {
            Some("a time since the push is `within: 14d`")
        }
        "hourly" => Some("the finest period is `daily`; for hours write `within: 36h`"),
        "all" | "none" => Some("it stands alone, not in a list: `keep: all` or `keep: none`"),
        _ => None,
    }
}

fn count(rule: &str, node: &Node, problems: &mut Problems) -> Option<NonZeroU32> {
    fields::integer(rule, node, 1..=u32::MAX, problems).and_then(NonZeroU32::new)
}

fn span(key: &str, node: &Node, problems: &mut Problems) -> Option<WrittenDuration> {
    let duration = fields::duration(key, node, problems)?;
    let written = fields::text(key, node, problems)?;
    Some(WrittenDuration { duration: SignedDuration::try_from(duration).ok()?, written: written.trim().into() })
}

/// Parses the grace period of a manifest after its last untag.
fn then(node: &Node, problems: &mut Problems) -> Option<WrittenDuration> {
    if !is_filled_map(node) {
        problems
            .add(&node.at, format!("`then` must say what comes after an untag, not {}", node.value.describe()))
            .help(THEN_HELP);
        return None;
    }
    let fields = Fields::of(node, "policy's `then`", problems)?;
    waiting_period(fields, ("then", "delete_manifest", THEN_HELP), problems)
}

/// How long a manifest is found free before it is deleted.
fn untagged(node: &Node, problems: &mut Problems) -> Option<WrittenDuration> {
    if !is_filled_map(node) {
        let shown = node.value.describe();
        let message = format!("`untagged` must say what becomes of manifests without a tag, not {shown}");
        problems.add(&node.at, message).help(UNTAGGED_HELP);
        return None;
    }
    let fields = Fields::of(node, "policy's `untagged`", problems)?;
    waiting_period(fields, ("untagged", "delete", UNTAGGED_HELP), problems)
}

fn is_filled_map(node: &Node) -> bool {
    matches!(&node.value, Value::Map(entries) if !entries.is_empty())
}

/// The only key of a map: `after` and a time.
fn waiting_period(
    mut fields: Fields<'_>,
    (map, key, help): (&str, &'static str, &str),
    problems: &mut Problems,
) -> Option<WrittenDuration> {
    let after = fields.get(key);
    if after.is_none() && !fields.is_misspelled(key) {
        problems.add(fields.at(), format!("`{map}` without `{key}`")).help(help);
    }
    fields.finish(|_| None, problems);
    let after = after?;
    let written = match &after.value {
        Value::Text(text) => text.trim().strip_prefix("after ").map(|rest| Value::Text(rest.to_owned())),
        _ => None,
    };
    let Some(value) = written else {
        let message = format!("`{key}` must be `after` and a time, not {}", after.value.describe());
        problems.add(&after.at, message).help(help);
        return None;
    };
    span(key, &Node { at: after.at.clone(), value }, problems)
}

fn newest_per(node: &Node, problems: &mut Problems) -> Option<KeepRule> {
    const HELP: &str = "write `newest_per: { version: minor, count: 2 }`";
    if !matches!(node.value, Value::Map(_)) {
        problems.add(&node.at, format!("`newest_per` must be a map, not {}", node.value.describe())).help(HELP);
        return None;
    }
    let mut fields = Fields::of(node, "rule `newest_per`", problems)?;
    let mut part = |key, problems: &mut Problems| {
        let node = fields.get(key);
        if node.is_none() {
            problems.add(fields.at(), format!("`newest_per` without `{key}`")).help(HELP);
        }
        node
    };
    let (version, number) = (part("version", problems), part("count", problems));
    fields.finish(|_| None, problems);
    let version = version.and_then(|node| fields::choice("version", node, &VERSIONS, problems));
    let number = number.and_then(|node| count("count", node, problems));
    Some(KeepRule::NewestPer { version: version?, count: number? })
}

fn image_with(node: &Node, problems: &mut Problems) -> Option<KeepRule> {
    const HELP: &str = "write `image_with: { tags: [\"release-*\"] }`, with `within: 30d`, or with both";
    if !matches!(node.value, Value::Map(_)) {
        problems.add(&node.at, format!("`image_with` must be a map, not {}", node.value.describe())).help(HELP);
        return None;
    }
    let mut fields = Fields::of(node, "rule `image_with`", problems)?;
    let (tags, within) = (fields.get("tags"), fields.get("within"));
    if tags.is_none() && within.is_none() && !fields.is_misspelled("tags") && !fields.is_misspelled("within") {
        problems.add(fields.at(), "`image_with` without `tags` and `within`").help(HELP);
    }
    fields.finish(|_| None, problems);
    tags.or(within)?;
    let tags = tags.map(|node| selection::tags(node, problems));
    let within = within.map(|node| span("within", node, problems));
    let sound = |missing: bool| (!missing).then_some(());
    sound(matches!(tags, Some(None)) || matches!(within, Some(None)))?;
    Some(KeepRule::ImageWith { tags: tags.flatten(), within: within.flatten() })
}
