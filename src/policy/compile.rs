//! Compilation of a policy file's tree into policies.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::diagnostic::Problems;
use super::fields::{self, Fields};
use super::keep_rules::{RULES, keep, span};
use super::rule_places::{RulePlace, allow_unmatched, rule_places};
use super::selection;
use super::yaml::{Node, Place, Value};
use crate::domain::{
    AllowUnmatched, ArtifactKind, ArtifactType, FactSelector, Keep, Policy, PolicyLimits, PolicyMode, PolicyName,
    RegistryName, RuleKey, Selector, TagSelector, WrittenDuration,
};

const MODES: [(&str, PolicyMode); 2] = [("dry-run", PolicyMode::DryRun), ("enforce", PolicyMode::Enforce)];
/// Proposes rules, and not `keep: none`: followed without thought, that would expire every selected tag.
const KEEP_HELP: &str = "say what stays: `keep: [{ newest: 5 }, { within: 30d }]`";
const SELECT_HELP: &str = "to select every tag write `select: { tags: [\"*\"] }`";
const SELECT_REPOSITORIES_HELP: &str = "to select every repository write `select: { repositories: [\"**\"] }`";
const THEN_HELP: &str = "write `then: { delete_manifest: after 14d }`, or leave it out: nothing is deleted then";
const UNTAGGED_HELP: &str = "write `untagged: { delete: after 30d }`";

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
    let mut missing = Vec::new();
    let name = required(&mut fields, "name", "every policy has a name of its own", &mut missing)
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
    let select_node = required(&mut fields, "select", subject.select_help(), &mut missing);
    let select = select_node.and_then(|node| select(node, subject, problems));
    let select = match untagged_node {
        Some(node) => {
            untagged(node, problems).and_then(|after| Some(Selector { tags: TagSelector::Untagged(after), ..select? }))
        }
        None => select,
    };
    // Without `keep`, a policy that speaks of tags is one whose author has forgotten something. No message proposes `keep`
    // for one that speaks of manifests: it would expire every tag.
    let keep_node = match subject {
        Subject::Tags => required(&mut fields, "keep", KEEP_HELP, &mut missing),
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
    let unknown = fields.report_unknown(foreign_policy_key_hint, problems);
    report_missing(&node.at, unknown, &missing, problems);
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

/// Returns the value of a required key; a missing one is added to `missing`, with its remedy.
fn required<'a>(
    fields: &mut Fields<'a>,
    key: &'static str,
    help: &'static str,
    missing: &mut Vec<(&'static str, &'static str)>,
) -> Option<&'a Node> {
    let node = fields.get(key);
    // A misspelt key is reported as such.
    if node.is_none() && !fields.is_misspelled(key) {
        missing.push((key, help));
    }
    node
}

/// Reports missing keys of a policy, after the key that is unknown there: it is probably what stands for them.
fn report_missing(at: &Place, unknown: Option<&Place>, missing: &[(&str, &str)], problems: &mut Problems) {
    let unknown = unknown.map(|at| problems.diagnostic(at, ""));
    for (key, help) in missing {
        let problem = problems.add(at, format!("a policy without `{key}`")).help(*help);
        if let Some(unknown) = &unknown {
            problem.sort_at(unknown.line, unknown.column);
        }
    }
}

fn optional_text(fields: &mut Fields<'_>, key: &'static str, problems: &mut Problems) -> Option<String> {
    fields.get(key).and_then(|node| fields::text(key, node, problems)).map(str::to_owned)
}

/// Returns a hint for keys of other tools.
fn foreign_policy_key_hint(key: &str) -> Option<&'static str> {
    match key {
        "dry_run" | "dryRun" | "dry-run" => Some("write `mode: dry-run`, which is also the default"),
        "enabled" | "enforce" | "enforced" | "dryrun" => Some("write `mode: enforce` or `mode: dry-run`"),
        "tags" | "pattern" | "repositories" | "registries" | "repository" | "registry" | "idle" | "types"
        | "annotations" | "labels" => Some("it belongs under `select:`"),
        _ if RULES.contains(&key) => Some("it belongs under `keep:`, as `- ` and the rule"),
        "untag" | "percent" => Some("it belongs under `limits:`"),
        "delete_manifest" => Some("manifests go by `then: { delete_manifest: after 14d }`"),
        "delete" | "purge" => Some(
            "`then: { delete_manifest: after 14d }` deletes what was untagged here, `untagged: { delete: after 30d }` all that no tag references",
        ),
        "expire" | "expires" | "expiry" | "remove" | "retention" | "retain" | "rules" | "older_than" | "max_age" => {
            Some("a policy says what stays, and the rest expires: `keep: [{ newest: 5 }, { within: 30d }]`")
        }
        "cron" => Some("a policy's own times are `schedule: \"0 3 * * 0\"`"),
        _ => None,
    }
}

fn mode(node: &Node, problems: &mut Problems) -> Option<PolicyMode> {
    if matches!(&node.value, Value::Text(written) if written == "approved") {
        problems.add(&node.at, "unknown mode `approved`").help(
            "known: `dry-run`, `enforce`; `approved` is a mode of the settings: then plans are removed once somebody \
             approved them",
        );
        return None;
    }
    fields::choice("mode", node, &MODES, problems)
}

fn limits(node: &Node, problems: &mut Problems) -> Option<PolicyLimits> {
    let mut fields = Fields::of(node, "policy's limits", problems)?;
    let untag = fields.get("untag").map(|node| fields::integer("untag", node, 1..=u32::MAX, problems));
    let percent = fields.get("percent").map(|node| fields::integer("percent", node, 1..=100, problems));
    let hint = |key: &str| (key == "leave").then_some("`leave` is a limit of the settings, for all policies");
    let unknown = fields.report_unknown(hint, problems);
    if untag.is_none() && percent.is_none() && unknown.is_none() {
        problems.add(&node.at, "`limits` is empty").help("leave it out, or write `untag:` or `percent:`");
    }
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
            for key in ["tags", "pattern", "types", "idle", "annotations", "labels"] {
                refuse_beside_untagged(&mut fields, key, problems);
            }
            (None, None)
        }
    };
    let facts = match subject {
        Subject::Tags => facts(&mut fields, problems),
        Subject::Untagged => Some(FactSelector::default()),
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
        "type" | "artifact_type" | "artifact_types" | "kinds" | "media_types" => {
            Some("types of artifacts are a list: `types: [image, index]`")
        }
        "annotation" => Some("annotations are a map: `annotations: { team: checkout }`"),
        "label" => Some("labels are a map: `labels: { team: checkout }`"),
        "unused" | "inactive" | "stale" | "not_used" => {
            Some("repositories that nothing was pushed to or pulled from are `idle: 180d`")
        }
        _ => None,
    };
    fields.finish(hint, problems);
    Some(Selector { registries: flat(registries)?, repositories: flat(repositories)?, tags: selector?, facts: facts? })
}

/// Parses the conditions of a selector on facts.
fn facts(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<FactSelector> {
    let types = fields.get("types").map(|node| types(node, problems));
    let idle = fields.get("idle").map(|node| span("idle", node, problems));
    let annotations = fields.get("annotations").map(|node| selection::texts("annotations", node, problems));
    let labels = fields.get("labels").map(|node| selection::texts("labels", node, problems));
    Some(FactSelector {
        types: flat(types)?,
        idle: flat(idle)?,
        annotations: flat(annotations)?.unwrap_or_default(),
        labels: flat(labels)?.unwrap_or_default(),
    })
}

/// Parses words for kinds of artifacts, and media types.
fn types(node: &Node, problems: &mut Problems) -> Option<Vec<ArtifactType>> {
    let (texts, mut sound) = fields::texts("types", node, problems)?;
    let mut types = Vec::with_capacity(texts.len());
    for (text, at) in &texts {
        let kind = ArtifactKind::ALL.into_iter().find(|kind| kind.label() == text);
        let found = match kind {
            Some(kind) => ArtifactType::Kind(kind),
            None if text.contains('/') && !text.contains(['*', '!', ' ']) => {
                ArtifactType::MediaType(text.as_str().into())
            }
            None => {
                let (message, list) =
                    fields::unknown_word("type", text, " of artifact", &ArtifactKind::ALL.map(ArtifactKind::label));
                problems.add(at, message).help(format!("{list}; or write a media type"));
                sound = false;
                continue;
            }
        };
        if types.contains(&found) {
            problems.add(at, format!("`{text}` is written twice")).help("keep one of the two");
            sound = false;
        }
        types.push(found);
    }
    sound.then_some(types)
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
