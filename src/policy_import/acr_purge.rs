//! `acr purge` in command lines, scripts and ACR tasks.
//!
//! Semantics: `cmd/acr/purge.go` and `cmd/repository/image_functions.go` of Azure/acr-cli. The part of a filter before the
//! colon must match a whole repository name (`^…$`), the part behind it searches: `v1` finds `dev10`. A tag goes if it was
//! last updated before `--ago`; `--keep` then spares the newest of those that would be removed.

use super::expression::{SearchExpression, WholeExpression};
use super::globs::repository_globs;
use super::json;
use super::shell_texts::Texts;
use super::shell_words::{Command, Word, commands, has_placeholder};
use super::translation::{ImportedKeep, ImportedPolicy, ImportedRule, Remark, RemarkKind, TagSelection, Translation};
use super::{ImportError, ImportErrorKind, ImportOptions};
use crate::domain::Failure;

const HELP: &str =
    "give command lines with `acr purge`, a script with `az acr task create --cmd`, or the YAML of an ACR task";

/// Commands inside quotes inside commands: more levels than this are no script.
const MOST_LEVELS: usize = 4;

/// A manifest without a tag goes at once there; policies wait a day at least.
const LEAST_WAIT: u64 = 86_400;

/// Flags with a value, and their short forms.
const VALUES: [(&str, &str); 14] = [
    ("filter", "f"),
    ("ago", ""),
    ("keep", ""),
    ("min-tags", ""),
    ("max-tags", ""),
    ("min-untagged-manifests", ""),
    ("max-untagged-manifests", ""),
    ("registry", "r"),
    ("username", "u"),
    ("password", "p"),
    ("config", "c"),
    ("filter-timeout-seconds", ""),
    ("concurrency", ""),
    ("repository-page-size", ""),
];

/// Flags without one.
const SWITCHES: [&str; 5] = ["untagged", "untagged-only", "dry-run", "include-locked", "verbose"];

/// Words before a command that is not run: it is printed, or a comment of some language.
const NOT_RUN: [&str; 11] =
    ["echo", "printf", "print", "cat", "Write-Host", "Write-Output", ":", "//", "REM", "::", "<#"];

/// The end of the reason for a filter that the tool itself refuses: then it removes nothing at all.
const REFUSED: &str = "the tool refuses it";

/// Flags by which a piece of a command shows that it belonged to a purge.
const OWN: [&str; 11] = [
    "filter",
    "ago",
    "keep",
    "min-tags",
    "max-tags",
    "min-untagged-manifests",
    "max-untagged-manifests",
    "untagged",
    "untagged-only",
    "dry-run",
    "include-locked",
];

/// Flags that spare tags: where one stands apart from the commands, a script may add it to one of them.
const SPARING: [&str; 6] =
    ["keep", "min-tags", "max-tags", "min-untagged-manifests", "max-untagged-manifests", "dry-run"];

/// One call of `acr purge`.
#[derive(Debug, Default)]
struct Purge {
    filters: Vec<Word>,
    values: Vec<(&'static str, Word)>,
    switches: Vec<&'static str>,
    unknown: Vec<String>,
    /// A flag behind the end of the command, which may belong to it.
    behind: Option<String>,
    /// A flag that stands somewhere else in the file, which a script may add to it.
    elsewhere: Option<&'static str>,
    /// The word before it by which it is not run.
    not_run_by: Option<&'static str>,
    /// The command without what is secret in it.
    original: String,
}

impl Purge {
    fn value(&self, flag: &str) -> Option<&Word> {
        self.values.iter().rev().find(|(name, _)| *name == flag).map(|(_, word)| word)
    }

    fn has(&self, switch: &str) -> bool {
        self.switches.contains(&switch)
    }

    /// The number of a flag. `Err` if it is there and not a number.
    fn number(&self, flag: &str) -> Result<u32, String> {
        match self.value(flag) {
            None => Ok(0),
            Some(word) if !word.is_open => word.text.parse().map_err(|_| format!("`--{flag}` is not a number")),
            Some(_) => Err(format!("the value of `--{flag}` is not known here")),
        }
    }
}

/// Translates every call of `acr purge` in a text.
pub(super) fn translate(text: &str, options: &ImportOptions) -> Result<Translation, ImportError> {
    let mut found = Translation::default();
    let mut purges = Vec::new();
    let mut schedules = Vec::new();
    let mut texts = Texts::default();
    texts.read(text);
    for script in &texts.scripts {
        find_purges(script, 0, &mut purges, &mut schedules);
    }
    if let Some(flag) = SPARING.into_iter().find(|flag| is_elsewhere(flag, &texts.scripts, &purges)) {
        for purge in &mut purges {
            purge.elsewhere = Some(flag);
        }
    }
    if purges.is_empty() {
        return Err(
            Failure::new(ImportErrorKind::Empty, format!("{}: no `acr purge` in it", options.file)).with_help(HELP)
        );
    }
    schedules.dedup();
    for schedule in schedules {
        let text = format!(
            "the task runs at `{schedule}` in UTC; here the schedule of the settings decides, or `schedule` of the policy"
        );
        found.remarks.push(Remark::new(RemarkKind::Schedule, text));
    }
    if texts.is_disabled {
        let text = "the original is switched off: the task or its timer has the status `Disabled`";
        found.remarks.push(Remark::new(RemarkKind::Schedule, text));
    }
    let mut purge_of = Vec::new();
    for (at, purge) in purges.iter().enumerate() {
        found.policies.extend(translate_purge(purge, found.policies.len()));
        purge_of.resize(found.policies.len(), at);
    }
    leave_out_shared_counts(&mut found.policies, &purge_of);
    Ok(found)
}

/// Returns true if a flag stands in a file more often than in its commands: a script may add it by a variable or a function.
/// `--dry-run` is a flag of many tools, and counts only beside a variable.
fn is_elsewhere(flag: &str, scripts: &[String], purges: &[Purge]) -> bool {
    let written = format!("--{flag}");
    let count = |text: &str| {
        let ends = text.match_indices(&written).map(|(at, found)| &text[at + found.len()..]);
        ends.filter(|rest| !rest.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '-')).count()
    };
    let words = scripts.iter().flat_map(|script| commands(script)).flat_map(|command| command.words);
    let counted = words.filter(|word| flag != "dry-run" || word.text.contains('$'));
    let all: usize = counted.map(|word| count(&word.text)).sum();
    let own = |purge: &Purge| {
        let values = purge.values.iter().filter(|(name, _)| *name == flag).count();
        values + purge.switches.iter().filter(|name| **name == flag).count()
    };
    all > purges.iter().map(own).sum()
}

/// Leaves out counts of tags that another command may remove: it does so before, and then fewer are left to count.
fn leave_out_shared_counts(policies: &mut [ImportedPolicy], purge_of: &[usize]) {
    let removes = |policy: &ImportedPolicy| policy.keep != ImportedKeep::All;
    let counted: Vec<Option<String>> = policies
        .iter()
        .zip(purge_of)
        .map(|(policy, purge)| {
            let mut others = policies.iter().zip(purge_of).filter(|(other, of)| *of != purge && removes(other));
            let other = others.find(|(other, _)| policy.counts() && policy.shares_tags_with(other))?;
            Some(other.0.name.clone())
        })
        .collect();
    for (policy, other) in policies.iter_mut().zip(counted) {
        if let Some(other) = other {
            policy.leave_out(format!(
                "it counts tags of which another command ({other}) may remove some, and the tool counts those that are \
                 left. `newest` counts them all, and would remove others in their place"
            ));
        }
    }
}

fn find_purges(script: &str, level: usize, found: &mut Vec<Purge>, schedules: &mut Vec<String>) {
    let mut all = commands(script).into_iter().peekable();
    while let Some(Command { words, .. }) = all.next() {
        let before = found.len();
        let schedule = words.iter().position(|word| word.text == "--schedule").and_then(|at| words.get(at + 1));
        schedules.extend(schedule.map(|word| word.text.replace(|c: char| c.is_control(), " ")));
        if let Some(mut call) = purge_call(&words) {
            let mut behind = None;
            while let Some(next) = all.next_if(|next| is_flag(&next.words[0])) {
                behind.get_or_insert_with(|| flag_name(&next.words[0].text));
                call.extend(next.words);
            }
            found.push(Purge { behind, ..read_call(&call) });
        } else if level < MOST_LEVELS {
            for word in words.iter().filter(|word| is_nested(word)) {
                let inner = word.text.split_once("acr").map_or(word.text.as_str(), |_| inner_command(&word.text));
                find_purges(inner, level + 1, found, schedules);
            }
        }
        if let Some(word) = NOT_RUN.into_iter().find(|name| words[0].text.eq_ignore_ascii_case(name)) {
            found[before..].iter_mut().for_each(|purge| purge.not_run_by = Some(word));
        }
        if let Some(flag) = all.peek().and_then(flag_of_purge) {
            for purge in &mut found[before..] {
                purge.behind.get_or_insert_with(|| flag.clone());
            }
        }
    }
}

/// Returns true for a text that may have a command in it.
fn is_nested(word: &Word) -> bool {
    word.text.contains("purge") && word.text.contains(char::is_whitespace)
}

/// The arguments of a call of the tool, also where flags stand before the subcommand.
fn purge_call(words: &[Word]) -> Option<Vec<Word>> {
    let is_tool = |word: &Word| word.text == "acr" || word.text.ends_with("/acr") || word.text.contains("acr-cli");
    let tools = words.iter().enumerate().filter(|(_, word)| is_tool(word)).map(|(at, _)| at + 1);
    tools.into_iter().find_map(|start| {
        let flags = words[start..].iter().position(|word| word.text == "purge")?;
        let between = &words[start..start + flags];
        between.first().is_none_or(is_flag).then(|| [between, &words[start + flags + 1..]].concat())
    })
}

fn is_flag(word: &Word) -> bool {
    let name = word.text.strip_prefix("--").or_else(|| word.text.strip_prefix('-'));
    name.is_some_and(|name| name.starts_with(|c: char| c.is_ascii_alphanumeric()))
}

/// The flag without its value, which may be a secret.
fn flag_name(text: &str) -> String {
    let length = if text.starts_with("--") { text.find('=').unwrap_or(text.len()) } else { 2 };
    text.chars().take(length).collect()
}

/// The flag of a purge in a piece behind the end of a command: quotes or lines were not read as they were meant.
fn flag_of_purge(next: &Command) -> Option<String> {
    if next.words.iter().any(|word| word.text.contains("purge")) || next.starts_line && !is_flag(&next.words[0]) {
        return None;
    }
    let mut texts = next.words.iter().flat_map(|word| word.text.split_whitespace());
    let flag = texts.find(|text| {
        let name = text.strip_prefix("--").map(|name| name.split('=').next().unwrap_or_default());
        name.is_some_and(|name| OWN.contains(&name))
    })?;
    Some(flag_name(flag))
}

/// The command of an assignment: `PURGE_CMD=acr purge …`, whose quotes are gone already.
fn inner_command(text: &str) -> &str {
    let name =
        text.find('=').filter(|end| text[..*end].chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')));
    name.map_or(text, |end| &text[end + 1..])
}

fn read_call(words: &[Word]) -> Purge {
    let mut purge = Purge { original: "acr purge".to_owned(), ..Purge::default() };
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        let Some(flag) = word.text.strip_prefix('-').filter(|_| word.text.len() > 1) else {
            purge.unknown.push(word.text.clone());
            add_original(&mut purge, &word.text, None);
            continue;
        };
        let (long, flag) = flag.strip_prefix('-').map_or((false, flag), |flag| (true, flag));
        let (name, attached) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None if !long && flag.len() > 1 => (&flag[..1], Some(&flag[1..])),
            None => (flag, None),
        };
        let valued = VALUES.iter().find(|(known, short)| if long { *known == name } else { *short == name });
        let switch = SWITCHES.iter().find(|known| long && **known == name);
        match (valued, switch) {
            (Some((known, _)), _) => {
                let value = attached.map(|text| Word { text: text.to_owned(), ..word.clone() });
                let Some(value) = value.or_else(|| words.next().cloned()) else {
                    purge.unknown.push(word.text.clone());
                    continue;
                };
                add_original(&mut purge, &format!("--{known}"), Some((*known, &value.text)));
                if *known == "filter" {
                    purge.filters.push(value);
                } else {
                    purge.values.push((*known, value));
                }
            }
            (None, Some(known)) => {
                add_original(&mut purge, &word.text, None);
                if attached.is_none_or(|value| value.eq_ignore_ascii_case("true")) {
                    purge.switches.push(*known);
                } else if !attached.is_some_and(|value| value.eq_ignore_ascii_case("false")) {
                    purge.unknown.push(word.text.clone());
                }
            }
            (None, None) => {
                purge.unknown.push(word.text.clone());
                add_original(&mut purge, &word.text, None);
            }
        }
    }
    purge
}

fn add_original(purge: &mut Purge, flag: &str, value: Option<(&str, &str)>) {
    let mut add = |text: &str| {
        let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:=".contains(c));
        purge.original.push(' ');
        let quoted = if plain { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) };
        purge.original.push_str(&quoted.replace(|c: char| c.is_control(), " "));
    };
    add(flag);
    match value {
        Some(("password" | "username", _)) => add("…"),
        Some((_, value)) => add(value),
        None => {}
    }
}

/// The policies for one call: one for each filter, and one for manifests without a tag.
fn translate_purge(purge: &Purge, before: usize) -> Vec<ImportedPolicy> {
    let mut found = Vec::new();
    let every = Word { text: ".*:.*".to_owned(), ..Word::default() };
    let only_untagged = purge.has("untagged-only");
    let filters: Vec<&Word> =
        if purge.filters.is_empty() && only_untagged { vec![&every] } else { purge.filters.iter().collect() };
    if filters.is_empty() {
        let mut policy = named(purge, before + 1, vec!["**".to_owned()]);
        policy.leave_out("it has no `--filter`, which the tool refuses");
        return vec![policy];
    }
    for filter in filters {
        let number = before + found.len() + 1;
        let (repositories, tags) = match split_filter(filter) {
            Ok(parts) => parts,
            Err(why) => {
                let mut policy = named(purge, number, vec!["**".to_owned()]);
                policy.leave_out(why);
                found.push(policy);
                continue;
            }
        };
        let globs = WholeExpression::of_search(&format!("^{repositories}$"))
            .and_then(|one| repository_globs(&[one]).ok_or_else(|| "no globs match the same repositories".to_owned()));
        let mut policy = named(purge, number, globs.clone().unwrap_or_else(|_| vec!["**".to_owned()]));
        if let Err(why) = &globs {
            policy.leave_out(format!("the repositories `{repositories}` cannot be said here: {why}"));
        }
        if !only_untagged {
            found.extend(translate_filter(purge, policy.clone(), &tags));
        }
        if only_untagged || purge.has("untagged") {
            policy.name = format!("{}-untagged", policy.name);
            found.push(untagged(purge, policy));
        }
    }
    let refused = purge.filters.iter().filter_map(|filter| split_filter(filter).err());
    if let Some(why) = refused.into_iter().find(|why| why.ends_with(REFUSED)) {
        for policy in &mut found {
            policy.leave_out(format!("of the whole command: {why}"));
        }
    }
    found
}

fn named(purge: &Purge, number: usize, repositories: Vec<String>) -> ImportedPolicy {
    let mut policy = ImportedPolicy::new(format!("acr-purge-{number}"), vec![purge.original.clone()], repositories);
    "Tags that a purge task removed.".clone_into(&mut policy.description);
    if let Some(flag) = &purge.behind {
        policy.leave_out(format!(
            "the command ends before `{flag}` with its line or at a sign such as `|`, and it is not sure whether this flag \
             belongs to it. Write the command on one line, or end each line but the last with `\\`, and import it again"
        ));
    }
    if let Some(flag) = purge.elsewhere {
        policy.leave_out(format!(
            "`--{flag}` stands somewhere else in the file, and it is not sure whether a script adds it to this command. Import \
             the whole command by itself"
        ));
    }
    if let Some(word) = purge.not_run_by {
        policy.leave_out(format!(
            "`{word}` stands before the command, so nothing shows that it runs. If it does, import the command by itself"
        ));
    }
    if !purge.unknown.is_empty() {
        let words: Vec<String> = purge.unknown.iter().map(|word| format!("`{word}`")).collect();
        policy.leave_out(format!("parts of the command are not understood: {}", words.join(", ")));
    }
    if purge.has("dry-run") {
        policy.remark(RemarkKind::Schedule, "the original only reports: it has `--dry-run`");
    }
    if purge.has("include-locked") {
        policy.remark(RemarkKind::Locks, "`--include-locked` unlocks and removes; Tagwarden never unlocks anything");
    }
    policy
}

fn translate_filter(purge: &Purge, mut policy: ImportedPolicy, tags: &str) -> Vec<ImportedPolicy> {
    add_rules(purge, &mut policy);
    let expression = match SearchExpression::of(tags) {
        Ok(expression) => expression,
        Err(why) => {
            policy.leave_out(format!("the tags `{tags}` cannot be said here: {why}"));
            return vec![policy];
        }
    };
    let is_anchored = tags.starts_with('^') && tags.ends_with('$');
    if !is_anchored && !matches!(tags, ".*" | ".+") {
        let text = format!(
            "the filter `{tags}` finds its text anywhere in a tag where it has no `^` and `$`; the policy matches the same tags"
        );
        policy.remark(RemarkKind::Matching, text);
    }
    let include = std::slice::from_ref(&expression.matches);
    let excludes: Vec<WholeExpression> = expression.excludes.into_iter().collect();
    match TagSelection::without(include, &excludes) {
        None => policy.leave_out("it matches no tag"),
        Some(Ok(selection)) => policy.tags = Some(selection),
        Some(Err(apart)) if policy.counts() => policy.tags = Some(apart),
        Some(Err(_)) => {
            policy.tags = TagSelection::of(include);
            let mut stays = ImportedPolicy {
                name: format!("{}-stays", policy.name),
                remarks: Vec::new(),
                keep: ImportedKeep::All,
                tags: TagSelection::of(&excludes),
                ..policy.clone()
            };
            stays.original = vec![format!("what `(?!…)` in the filter `{}` leaves out", tags)];
            "Tags that the purge task left out.".clone_into(&mut stays.description);
            stays.remark(
                RemarkKind::KeepsMore,
                "while this policy stands, other filters and commands do not remove these tags either",
            );
            return vec![policy, stays];
        }
    }
    vec![policy]
}

/// The keep rules of the flags.
fn add_rules(purge: &Purge, policy: &mut ImportedPolicy) {
    let numbers = ["keep", "min-tags", "max-tags"].map(|flag| purge.number(flag));
    let [Ok(keep), Ok(least), Ok(most)] = numbers else {
        let why = numbers.into_iter().find_map(Result::err).unwrap_or_default();
        return policy.leave_out(why);
    };
    let ago = match purge.value("ago") {
        None => None,
        Some(word) => match ago(word) {
            Some(seconds) => Some(seconds),
            None => return policy.leave_out(format!("its `--ago {}` is not a duration", word.text)),
        },
    };
    match (ago, purge.value("max-tags").is_some()) {
        (Some(seconds), _) => policy.keep_rule(ImportedRule::Within(seconds.max(1))),
        (None, true) if most > 0 => policy.keep_rule(ImportedRule::Newest(most.max(least))),
        (None, true) => return policy.leave_out("`--max-tags 0` is not a count of tags that stay"),
        (None, false) => return policy.leave_out("it has no `--ago`, which the tool refuses"),
    }
    if ago.is_some() && purge.value("max-tags").is_some() {
        let text = "`--max-tags` also removes tags that are younger than `--ago`; here these stay";
        policy.remark(RemarkKind::KeepsMore, text);
    }
    if least > 0 && ago.is_some() {
        policy.keep_rule(ImportedRule::Newest(least));
        let text = "`--min-tags` counts tags of all filters; `newest` counts the images of this policy, and keeps all their selected tags";
        policy.remark(RemarkKind::Count, text);
    }
    if keep > 0 {
        policy.keep_rule(ImportedRule::Newest(keep));
        policy.leave_out(format!(
            "`--keep {keep}` spares the newest of the tags that are old enough to go, and no keep rule counts among these \
             alone. The nearest, below, counts all tags that match, young ones included, as `--min-tags` does: where {keep} \
             or more are young it removes all old ones"
        ));
    }
    policy.remark(
        RemarkKind::Time,
        "ages count from the last update of the tag, which a changed lock or attribute renews as well",
    );
}

/// The part on manifests without a tag.
fn untagged(purge: &Purge, mut policy: ImportedPolicy) -> ImportedPolicy {
    "Manifests without a tag.".clone_into(&mut policy.description);
    policy.tags = None;
    let limited = ["keep", "min-untagged-manifests", "max-untagged-manifests"]
        .iter()
        .find(|flag| purge.value(flag).is_some_and(|word| word.text != "0"));
    if let Some(flag) = limited {
        policy
            .leave_out(format!("`--{flag}` counts manifests without a tag, and `untagged` knows a time and no count"));
    }
    let wait = match purge.value("ago") {
        None => 0,
        Some(word) => ago(word).unwrap_or_else(|| {
            policy.leave_out(format!("its `--ago {}` is not a duration", word.text));
            0
        }),
    };
    policy.untagged_after = Some(wait.max(LEAST_WAIT));
    policy.remark(
        RemarkKind::Untagged,
        "purge goes by the last update of the manifest; Tagwarden waits from the later of that and the first run that found \
         it free",
    );
    policy
}

/// The two parts of a filter, divided as the tool does it: at the one colon that no class and no group has.
fn split_filter(filter: &Word) -> Result<(String, String), String> {
    if filter.is_open || has_placeholder(&filter.text) {
        return Err(format!("the filter `{}` has a variable in it, whose value is not known here", filter.text));
    }
    if filter.lost_backslash {
        return Err(format!(
            "the filter `{}` had a backslash outside quotes, which a shell drops: put it in single quotes",
            filter.text
        ));
    }
    let text = filter.text.as_str();
    let colons: Vec<usize> = text.match_indices(':').map(|(at, _)| at).filter(|at| divides(text, *at)).collect();
    let [colon] = colons.as_slice() else {
        return Err(format!("the filter `{text}` is not `repository:tag`, and {REFUSED}"));
    };
    let (repositories, tags) = (&text[..*colon], &text[colon + 1..]);
    if repositories.is_empty() || tags.is_empty() {
        return Err(format!("the filter `{text}` lacks a part, and {REFUSED}"));
    }
    Ok((repositories.to_owned(), tags.to_owned()))
}

/// Returns false for the colon of `(?i:…)` and of `[[:alpha:]]`.
fn divides(text: &str, at: usize) -> bool {
    let before = &text[..at];
    let flags = before.trim_end_matches(|c| "imsU-".contains(c));
    let in_group = flags.ends_with("(?") && before.len() - flags.len() <= 5;
    let in_class = before.trim_end_matches('^').ends_with('[');
    !in_group && !in_class && !text[at + 1..].starts_with(']')
}

/// A duration as the tool reads it: days, then what Go calls a duration. In seconds.
fn ago(word: &Word) -> Option<u64> {
    if word.is_open {
        return None;
    }
    let (days, rest) = match word.text.split_once('d') {
        Some((days, rest)) => (days.parse::<u64>().ok()?, rest),
        None => (0, word.text.as_str()),
    };
    let known = rest.chars().all(|c| c.is_ascii_digit() || ".hmsnuµ".contains(c));
    let rest = if rest.is_empty() {
        (word.text.contains('d')).then_some(0)?
    } else if rest == "0" {
        0
    } else {
        json::seconds(rest).filter(|_| known)?
    };
    days.checked_mul(86_400)?.checked_add(rest)
}
