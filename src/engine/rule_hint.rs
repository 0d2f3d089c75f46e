//! The probable meaning of a rule that matches nothing: mistakes are of few kinds, and each can be tried.

use regex::Regex;

use super::companion::companion_subject;
use super::rule_syntax::regex_syntax_in;
use crate::domain::{Globs, Inventory, Policy, Registry, RuleHint, RuleKey, RuleMistake};

/// The names in registries, searched for the probable target of a rule. Names are sorted within each registry.
pub trait InventoryNames {
    /// Returns the first repository for which `is_meant` is true, in the registries that a policy covers.
    fn find_repository(&self, policy: &Policy, is_meant: &mut dyn FnMut(&str) -> bool) -> Option<String>;

    /// Returns the first tag for which `is_meant` is true, in the registries that a policy covers. Signatures and the like
    /// are not among them.
    fn find_tag(&self, policy: &Policy, is_meant: &mut dyn FnMut(&str) -> bool) -> Option<String>;
}

impl InventoryNames for Inventory {
    fn find_repository(&self, policy: &Policy, is_meant: &mut dyn FnMut(&str) -> bool) -> Option<String> {
        let registries = self.registries.iter().filter(|registry| policy.covers(&registry.name));
        let mut names = registries.flat_map(|registry| &registry.repositories).map(|found| found.name.as_str());
        names.find(|name| is_meant(name)).map(ToOwned::to_owned)
    }

    fn find_tag(&self, policy: &Policy, is_meant: &mut dyn FnMut(&str) -> bool) -> Option<String> {
        let registries = self.registries.iter().filter(|registry| policy.covers(&registry.name));
        let tags = registries.flat_map(|registry| &registry.repositories).flat_map(|repository| &repository.tags);
        let mut names = tags.filter(|tag| companion_subject(&tag.name).is_none()).map(|tag| tag.name.as_str());
        names.find(|name| is_meant(name)).map(ToOwned::to_owned)
    }
}

/// Finds the first name for which a test is true.
type FindName<'n> = &'n dyn Fn(&mut dyn FnMut(&str) -> bool) -> Option<String>;

/// Returns the mistake in a rule, with a name that it would match without it; `None` if no known mistake explains it.
pub(super) fn find_hint(
    (key, written): (RuleKey, &str),
    policy: &Policy,
    registries: &[Registry],
    names: &dyn InventoryNames,
) -> Option<RuleHint> {
    let registries: Vec<&Registry> = registries.iter().filter(|registry| policy.covers(&registry.name)).collect();
    let tags: FindName<'_> = &|is_meant| names.find_tag(policy, is_meant);
    let paths: FindName<'_> = &|is_meant| names.find_repository(policy, is_meant);
    match key {
        RuleKey::Select | RuleKey::Registries => None,
        RuleKey::Pattern => in_pattern(written, tags),
        RuleKey::Tags | RuleKey::Matching => in_glob(written, tags),
        RuleKey::Repositories => in_path(written, &registries, paths).or_else(|| in_glob(written, paths)),
    }
}

/// Splits the text of a glob from the `!` of an exclusion.
fn parts(written: &str) -> (&'static str, &str) {
    written.strip_prefix('!').map_or(("", written), |rest| ("!", rest))
}

fn first_match(glob: &str, find: FindName<'_>) -> Option<String> {
    let globs = Globs::new(&[glob]).ok()?;
    find(&mut |name| globs.matches(name))
}

fn is_match(glob: &str, name: &str) -> bool {
    Globs::new(&[glob]).is_ok_and(|globs| globs.matches(name))
}

fn in_path(written: &str, registries: &[&Registry], find: FindName<'_>) -> Option<RuleHint> {
    let (sign, glob) = parts(written);
    let hint = |slip, example: String, better: String| {
        Some(RuleHint { mistake: slip, example, suggestion: Some(format!("{sign}{better}")) })
    };
    if let Some((first, rest)) = glob.split_once('/') {
        let ours =
            |registry: &&Registry| first == registry.name.as_str() || registry.hosts.iter().any(|host| host == first);
        let host = first.contains(['.', ':']) || registries.iter().any(ours);
        if let Some(example) = first_match(rest, find).filter(|_| host) {
            return hint(RuleMistake::HostPrefix, example, rest.to_owned());
        }
    }
    let below = format!("{}/**", glob.trim_end_matches("/*").trim_end_matches('/'));
    let example = first_match(&below, find)?;
    hint(RuleMistake::ParentPath, example, below)
}

fn in_glob(written: &str, find: FindName<'_>) -> Option<RuleHint> {
    let (sign, glob) = parts(written);
    let lower = glob.to_lowercase();
    let ignoring_case = Globs::new(&[&lower]).ok();
    let matches = |name: &str| ignoring_case.as_ref().is_some_and(|globs| globs.matches(&name.to_lowercase()));
    if let Some(example) = find(&mut |name| matches(name)) {
        let better = is_match(&lower, &example).then(|| format!("{sign}{lower}"));
        return Some(RuleHint { mistake: RuleMistake::CaseMismatch, example, suggestion: better });
    }
    regex_syntax_in(glob)?;
    let expression = Regex::new(glob).ok()?;
    let example = find(&mut |name| expression.is_match(name))?;
    let better = glob_of(glob).filter(|better| is_match(better, &example));
    let better = better.map(|better| format!("{sign}{better}"));
    Some(RuleHint { mistake: RuleMistake::RegexSyntax, example, suggestion: better })
}

/// Returns the glob that is equivalent to a plain regular expression.
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

fn in_pattern(written: &str, find: FindName<'_>) -> Option<RuleHint> {
    let bare = written.strip_prefix('^').unwrap_or(written);
    let bare = bare.strip_suffix('$').unwrap_or(bare);
    let search = Regex::new(written).ok()?;
    if let Some(example) = find(&mut |name| search.is_match(name)) {
        let whole = |better: &String| Regex::new(&format!("^(?:{better})$")).is_ok_and(|one| one.is_match(&example));
        let better = [format!("{bare}.*"), format!(".*{bare}"), format!(".*{bare}.*")].into_iter().find(whole);
        return Some(RuleHint { mistake: RuleMistake::PartialMatch, example, suggestion: better });
    }
    let any_case = Regex::new(&format!("(?i)^(?:{written})$")).ok()?;
    let example = find(&mut |name| any_case.is_match(name))?;
    Some(RuleHint { mistake: RuleMistake::CaseMismatch, example, suggestion: None })
}
