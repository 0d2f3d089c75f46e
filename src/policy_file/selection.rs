//! Globs and patterns, with a look at what they select: by accident of syntax that can be everything, or nothing.

use regex::Regex;

use super::diagnostic::Problems;
use super::read;
use super::tree::{Node, Place, shorten};
use crate::domain::Globs;

/// Tags that have nothing in common: what matches all of them matches every tag.
const ANY_TAGS: [&str; 6] = ["Zq7_x-9.Kw", "0", "a", "_", "latest", "v1.2.3-rc.1"];
/// Repositories that have nothing in common, as deep as people nest them.
const ANY_REPOSITORIES: [&str; 5] = ["zq7", "a/k_9", "0/x/y-1", "m.n/o/p/q", "b/c/d/e/f/g/h"];

/// Globs on repositories.
pub(super) fn repositories(node: &Node, problems: &mut Problems) -> Option<Globs> {
    globs("repositories", node, "**", &ANY_REPOSITORIES, problems)
}

/// Globs on tags.
pub(super) fn tags(node: &Node, problems: &mut Problems) -> Option<Globs> {
    globs("tags", node, "*", &ANY_TAGS, problems)
}

/// Globs on tags that stay.
pub(super) fn matching(node: &Node, problems: &mut Problems) -> Option<Globs> {
    globs("matching", node, "*", &ANY_TAGS, problems)
}

fn globs(key: &str, node: &Node, every: &str, probes: &[&str], problems: &mut Problems) -> Option<Globs> {
    let written = read::texts(key, node, problems)?;
    let before = written.len();
    let written: Vec<(String, Place)> = written
        .into_iter()
        .filter(|(glob, at)| {
            let problem = match glob.as_str() {
                "!" => Some("an exclusion without a glob"),
                glob if glob.trim() != glob => Some("a glob with space around it"),
                _ => None,
            };
            if let Some(problem) = problem {
                problems.add(at, problem);
            }
            problem.is_none()
        })
        .collect();
    let texts: Vec<&str> = written.iter().map(|(glob, _)| &**glob).collect();
    let globs = match Globs::new(&texts) {
        Ok(globs) => globs,
        Err((index, error)) => {
            let (glob, at) = &written[index];
            problems.add(at, format!("`{}` is no glob: {}", shorten(glob), error.kind()));
            return None;
        }
    };
    if texts.iter().all(|glob| glob.starts_with('!')) {
        problems
            .add(&node.at, format!("`{key}` has only exclusions, so it selects nothing"))
            .help(format!("say what they are taken from: [\"{every}\", {}]", quoted(&texts)));
        return None;
    }
    let everything = texts.iter().any(|glob| matches!(*glob, "*" | "**"));
    let excluding = texts.iter().any(|glob| glob.starts_with('!'));
    if !everything && !excluding && probes.iter().all(|probe| globs.matches(probe)) {
        problems
            .add(&node.at, format!("`{key}` matches everything, though it does not say so"))
            .help(format!("to mean everything write [\"{every}\"]"));
        return None;
    }
    (written.len() == before).then_some(globs)
}

fn quoted(globs: &[&str]) -> String {
    globs.iter().map(|glob| format!("\"{glob}\"")).collect::<Vec<_>>().join(", ")
}

/// A regular expression on the whole tag.
pub(super) fn pattern(node: &Node, problems: &mut Problems) -> Option<Regex> {
    let written = read::text("pattern", node, problems)?;
    if is_glob(written) {
        problems
            .add(&node.at, format!("`{}` is a glob, not a regular expression", shorten(written)))
            .help(format!("write tags: [\"{written}\"], or `.*` for any characters"));
        return None;
    }
    // Alone first: the brackets of the anchored form must not close brackets of the pattern.
    let regex = match Regex::new(written).and_then(|_| Regex::new(&format!("^(?:{written})$"))) {
        Ok(regex) => regex,
        Err(error) => {
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            problems.add(&node.at, format!("`pattern` is no regular expression: {reason}"));
            return None;
        }
    };
    if matches!(written, ".*" | ".+") {
        return Some(regex);
    }
    if regex.is_match("") {
        problems
            .add(&node.at, "`pattern` matches the empty text, which is no tag")
            .help("an alternative is empty, or everything in it is optional; to mean every tag write `pattern: '.*'`");
        return None;
    }
    if ANY_TAGS.iter().all(|probe| regex.is_match(probe)) {
        problems
            .add(&node.at, "`pattern` matches every tag, though it does not say so")
            .help("to mean every tag write `pattern: '.*'`");
        return None;
    }
    Some(regex)
}

/// Whether a pattern is written as globs are: a star at the start or after a plain character, and nothing else that
/// only regular expressions have.
fn is_glob(written: &str) -> bool {
    if written.contains(['\\', '(', ')', '[', ']', '{', '}', '+', '|', '^', '$']) {
        return false;
    }
    let mut before = None;
    written.chars().any(|c| {
        let glob = c == '*' && before.is_none_or(|b: char| b.is_ascii_alphanumeric() || matches!(b, '-' | '_'));
        before = Some(c);
        glob
    })
}
