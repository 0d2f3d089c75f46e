//! What was probably meant by a rule that matches nothing: slips are few, and each can be tried.

use regex::Regex;

use super::companion::companion_subject;
use super::rule_syntax::regex_syntax_in;
use crate::domain::{Globs, Inventory, Policy, Registry, RuleHint, RuleKey, RuleMistake};

/// The slip in a rule, with a name that it would match without it; `None` where no known slip explains it.
pub(super) fn find_hint(key: RuleKey, written: &str, policy: &Policy, inventory: &Inventory) -> Option<RuleHint> {
    let registries: Vec<&Registry> =
        inventory.registries.iter().filter(|registry| policy.covers(&registry.name)).collect();
    let repositories = registries.iter().flat_map(|registry| &registry.repositories);
    let tags = || repositories.clone().flat_map(|repository| &repository.tags);
    let tags = || tags().filter(|tag| companion_subject(&tag.name).is_none()).map(|tag| tag.name.as_str());
    let paths = || repositories.clone().map(|repository| repository.name.as_str());
    match key {
        RuleKey::Select | RuleKey::Registries => None,
        RuleKey::Pattern => in_pattern(written, tags),
        RuleKey::Tags | RuleKey::Matching => in_glob(written, tags),
        RuleKey::Repositories => in_path(written, &registries, paths).or_else(|| in_glob(written, paths)),
    }
}

/// The text of a glob, and what stands before it where it excludes.
fn parts(written: &str) -> (&'static str, &str) {
    written.strip_prefix('!').map_or(("", written), |rest| ("!", rest))
}

fn first_match<'a>(glob: &str, mut names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let globs = Globs::new(&[glob]).ok()?;
    names.find(|name| globs.matches(name))
}

fn in_path<'a, N: Iterator<Item = &'a str>>(
    written: &str,
    registries: &[&Registry],
    names: impl Fn() -> N,
) -> Option<RuleHint> {
    let (sign, glob) = parts(written);
    let hint = |slip, example: &str, better: String| {
        Some(RuleHint { mistake: slip, example: example.to_owned(), suggestion: Some(format!("{sign}{better}")) })
    };
    if let Some((first, rest)) = glob.split_once('/') {
        let ours =
            |registry: &&Registry| first == registry.name.as_str() || registry.hosts.iter().any(|host| host == first);
        let host = first.contains(['.', ':']) || registries.iter().any(ours);
        if let Some(example) = first_match(rest, names()).filter(|_| host) {
            return hint(RuleMistake::HostPrefix, example, rest.to_owned());
        }
    }
    let below = format!("{}/**", glob.trim_end_matches("/*").trim_end_matches('/'));
    let example = first_match(&below, names())?;
    hint(RuleMistake::ParentPath, example, below)
}

fn in_glob<'a, N: Iterator<Item = &'a str>>(written: &str, names: impl Fn() -> N) -> Option<RuleHint> {
    let (sign, glob) = parts(written);
    let lower = glob.to_lowercase();
    let ignoring_case = Globs::new(&[&lower]).ok();
    let matches = |name: &str| ignoring_case.as_ref().is_some_and(|globs| globs.matches(&name.to_lowercase()));
    if let Some(example) = names().find(|name| matches(name)) {
        let better = first_match(&lower, std::iter::once(example)).map(|_| format!("{sign}{lower}"));
        return Some(RuleHint { mistake: RuleMistake::CaseMismatch, example: example.to_owned(), suggestion: better });
    }
    regex_syntax_in(glob)?;
    let expression = Regex::new(glob).ok()?;
    let example = names().find(|name| expression.is_match(name))?;
    let better = glob_of(glob).filter(|better| first_match(better, std::iter::once(example)).is_some());
    let better = better.map(|better| format!("{sign}{better}"));
    Some(RuleHint { mistake: RuleMistake::RegexSyntax, example: example.to_owned(), suggestion: better })
}

/// The glob that means the same as a plain regular expression.
fn glob_of(expression: &str) -> Option<String> {
    let bare = expression.strip_prefix('^').unwrap_or(expression);
    let (bare, ends) = bare.strip_suffix('$').map_or((bare, false), |bare| (bare, true));
    let mut glob = bare.to_owned();
    for (sign, plain) in [("\\d+", "*"), ("\\d*", "*"), (".*", "*"), (".+", "*"), ("\\.", "."), ("\\-", "-")] {
        glob = glob.replace(sign, plain);
    }
    if glob.contains(['\\', '(', ')', '|', '+', '^', '$', '[', '{', '?']) {
        return None;
    }
    if !ends && !glob.ends_with('*') {
        glob.push('*');
    }
    while glob.contains("**") {
        glob = glob.replace("**", "*");
    }
    Some(glob)
}

fn in_pattern<'a, N: Iterator<Item = &'a str>>(written: &str, names: impl Fn() -> N) -> Option<RuleHint> {
    let bare = written.strip_prefix('^').unwrap_or(written);
    let bare = bare.strip_suffix('$').unwrap_or(bare);
    let search = Regex::new(written).ok()?;
    if let Some(example) = names().find(|name| search.is_match(name)) {
        let whole = |better: &String| Regex::new(&format!("^(?:{better})$")).is_ok_and(|one| one.is_match(example));
        let better = [format!("{bare}.*"), format!(".*{bare}"), format!(".*{bare}.*")].into_iter().find(whole);
        return Some(RuleHint { mistake: RuleMistake::PartialMatch, example: example.to_owned(), suggestion: better });
    }
    let any_case = Regex::new(&format!("(?i)^(?:{written})$")).ok()?;
    let example = names().find(|name| any_case.is_match(name))?;
    Some(RuleHint { mistake: RuleMistake::CaseMismatch, example: example.to_owned(), suggestion: None })
}
