//! Globs and patterns, with a check of their extent: by accident of syntax that can be everything, or nothing.

use globset::GlobBuilder;
use regex::Regex;

use super::diagnostic::Problems;
use super::fields;
use super::pattern_coverage::{Extent, NameKind, extent};
use super::relation::Language;
use super::yaml::{Entry, Node, Value, shorten};
use crate::domain::{Globs, TextCondition};
use crate::engine::regex_syntax_in;

const TAG_GRAMMAR: &str = "a tag is made of letters, digits, `_`, `.` and `-`, and does not start with `.` or `-`";
const REPOSITORY_GRAMMAR: &str =
    "a repository is made of lower-case letters, digits, `.`, `_`, `-` and `/`, and stands without its host";

/// Parses globs on repositories.
pub(super) fn repositories(node: &Node, problems: &mut Problems) -> Option<Globs> {
    globs("repositories", node, NameKind::Repositories, problems)
}

/// Parses globs on tags.
pub(super) fn tags(node: &Node, problems: &mut Problems) -> Option<Globs> {
    globs("tags", node, NameKind::Tags, problems)
}

/// Parses globs on tags to keep.
pub(super) fn matching(node: &Node, problems: &mut Problems) -> Option<Globs> {
    globs("matching", node, NameKind::Tags, problems)
}

fn globs(key: &str, node: &Node, names: NameKind, problems: &mut Problems) -> Option<Globs> {
    let (every, grammar, one) = match names {
        NameKind::Tags => ("*", TAG_GRAMMAR, "tag"),
        NameKind::Repositories => ("**", REPOSITORY_GRAMMAR, "repository"),
    };
    let (written, mut sound) = fields::texts(key, node, problems)?;
    let (mut include, mut exclude) = (Vec::new(), Vec::new());
    let mut impossible = false;
    for (text, at) in &written {
        let (bare, list) = match text.strip_prefix('!') {
            Some(rest) => (rest, &mut exclude),
            None => (&**text, &mut include),
        };
        match expression(bare) {
            Err(why) => {
                problems.add(at, format!("`{}` is not a valid glob: {why}", shorten(text)));
                sound = false;
            }
            // An exclusion that excludes nothing leaves tags unprotected that its author meant to keep. In another
            // tool's dialect it is accepted all the same, so that `check` and every plan can report it: everything it
            // might have protected is retained.
            Ok(glob) if extent(names, std::slice::from_ref(&glob), &[]) == Extent::None => {
                if regex_syntax_in(bare).is_some() {
                    impossible |= !text.starts_with('!');
                    list.push(glob);
                    continue;
                }
                problems.add(at, format!("`{}` matches no {one}", shorten(text))).help(grammar);
                sound = false;
            }
            Ok(glob) => list.push(glob),
        }
    }
    if !sound {
        return None;
    }
    let texts: Vec<&str> = written.iter().map(|(text, _)| &**text).collect();
    if include.is_empty() {
        let excluded = texts.iter().map(|glob| format!("\"{glob}\"")).collect::<Vec<_>>().join(", ");
        problems
            .add(&node.at, format!("`{key}` has only exclusions, so it matches nothing"))
            .help(format!("say what they are taken from: [\"{every}\", {excluded}]"));
        return None;
    }
    let says_everything = texts.iter().any(|glob| matches!(*glob, "*" | "**"));
    match extent(names, &include, &exclude) {
        Extent::None if !impossible => {
            problems.add(&node.at, format!("`{key}` excludes everything that it includes"));
            None
        }
        Extent::Every if !says_everything => {
            problems
                .add(&node.at, format!("`{key}` matches everything, though it does not say so"))
                .help(format!("to mean everything write [\"{every}\"]"));
            None
        }
        Extent::Every | Extent::Some | Extent::None => Globs::new(&texts).ok(),
    }
}

/// Parses conditions on annotations or labels: a map of keys, each with one value or a list of values.
pub(super) fn texts(key: &str, node: &Node, problems: &mut Problems) -> Option<Vec<TextCondition>> {
    let example = format!("write {key}: {{ team: checkout }}, or \"*\" for any value");
    let entries = match &node.value {
        Value::Map(entries) if !entries.is_empty() => entries,
        Value::Map(_) | Value::Null => {
            problems.add(&node.at, format!("`{key}` is empty")).help(example);
            return None;
        }
        other => {
            let message = format!("`{key}` must be a map of keys and values, not {}", problems.describe(other));
            problems.add(&node.at, message).help(example);
            return None;
        }
    };
    let mut conditions: Vec<TextCondition> = Vec::with_capacity(entries.len());
    let mut sound = true;
    for Entry { key: name, at, node } in entries {
        if conditions.iter().any(|known| *known.key == **name) {
            problems.add(at, format!("`{}` is written twice", shorten(name))).help("keep one of the two");
            sound = false;
        } else if name.trim().is_empty() {
            problems.add(at, format!("a key of `{key}` is empty"));
            sound = false;
        } else if let Some(condition) = text_condition(name, node, problems) {
            conditions.push(condition);
        } else {
            sound = false;
        }
    }
    sound.then_some(conditions)
}

fn text_condition(name: &str, node: &Node, problems: &mut Problems) -> Option<TextCondition> {
    let (written, mut sound) = match &node.value {
        Value::Text(text) if !text.trim().is_empty() => (vec![(text.clone(), node.at.clone())], true),
        Value::List(_) => fields::texts(name, node, problems)?,
        _ => {
            fields::text(name, node, problems);
            return None;
        }
    };
    for (text, at) in &written {
        let bare = text.strip_prefix('!');
        if let Err(why) = expression(bare.unwrap_or(text)) {
            problems.add(at, format!("`{}` is not a valid glob: {why}", shorten(text)));
            sound = false;
        } else if bare.is_some_and(|bare| matches!(bare, "*" | "**")) {
            problems
                .add(at, format!("`{}` excludes every value", shorten(text)))
                .help("images without a key cannot be selected");
            sound = false;
        }
    }
    let values: Vec<&str> = written.iter().map(|(text, _)| &**text).collect();
    if values.iter().all(|value| value.starts_with('!')) {
        let excluded = values.iter().map(|glob| format!("\"{glob}\"")).collect::<Vec<_>>().join(", ");
        problems
            .add(&node.at, format!("`{}` has only exclusions, so it matches nothing", shorten(name)))
            .help(format!("say what they are taken from: [\"*\", {excluded}]"));
        return None;
    }
    if sound { TextCondition::new(name, &values).ok() } else { None }
}

/// Returns the language of globs, to compare it with others; `None` if one does not compile.
pub(super) fn language(globs: &Globs) -> Option<Language> {
    let (exclude, include): (Vec<&String>, _) = globs.written().iter().partition(|glob| glob.starts_with('!'));
    let expressions = |globs: &[&String]| -> Option<Vec<String>> {
        globs.iter().map(|glob| expression(glob.strip_prefix('!').unwrap_or(glob)).ok()).collect()
    };
    Some(Language { include: expressions(&include)?, exclude: expressions(&exclude)? })
}

/// The regular expression that a glob stands for, compiled as [`Globs`] does.
pub(super) fn expression(glob: &str) -> Result<String, String> {
    if glob.is_empty() {
        return Err("it is empty".into());
    }
    let glob = GlobBuilder::new(glob).literal_separator(true).build().map_err(|error| error.kind().to_string())?;
    Ok(glob.regex().to_owned())
}

/// Parses a regular expression on the whole tag.
pub(super) fn pattern(node: &Node, problems: &mut Problems) -> Option<Regex> {
    const EVERY: &str = "to mean every tag write `pattern: '.*'`";
    let written = fields::text("pattern", node, problems)?;
    if is_glob(written) {
        problems
            .add(&node.at, format!("`{}` is a glob, not a regular expression", shorten(written)))
            .help(format!("write tags: [\"{written}\"], or `.*` in the pattern for any characters"));
        return None;
    }
    let whole = format!("^(?:{written})$");
    // Alone first: the brackets around it must not close brackets of the pattern.
    let regex = match Regex::new(written).and_then(|_| Regex::new(&whole)) {
        Ok(regex) => regex,
        Err(error) => {
            let reason = reason(&error);
            let is_look_around = reason.starts_with("look-around");
            let problem = problems.add(&node.at, format!("`pattern` is not a valid regular expression: {reason}"));
            if is_look_around {
                problem.help(
                    "say what is not meant in globs, as `tags: [\"*\", \"!release-*\"]`, or keep it by `- matching: [\"release-*\"]`",
                );
            }
            return None;
        }
    };
    if matches!(written, ".*" | ".+") {
        return Some(regex);
    }
    match extent(NameKind::Tags, &[whole], &[]) {
        // Behind a named group it says so as well: tags of the group are told apart from all others.
        Extent::Every if written.starts_with("(?<") && written.ends_with(")|.*") => Some(regex),
        Extent::Every => {
            problems.add(&node.at, "`pattern` matches every tag, though it does not say so").help(EVERY);
            None
        }
        Extent::None => {
            problems.add(&node.at, "`pattern` matches no tag").help(TAG_GRAMMAR);
            None
        }
        Extent::Some if regex.is_match("") => {
            problems
                .add(&node.at, "`pattern` matches the empty text, which is not a valid tag")
                .help(format!("an alternative of it is empty, or all of it is optional; {EVERY}"));
            None
        }
        Extent::Some => Some(regex),
    }
}

/// Returns the error of a regular expression, without its drawing.
fn reason(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => "it is too large".into(),
        error => {
            let text = error.to_string();
            text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
        }
    }
}

/// Returns true if a pattern is written like a glob: a star at the start or after a plain character, and no other
/// syntax of regular expressions.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The extent of globs by their automata agrees with their matches: nothing matches one that matches no tag,
        /// and everything one that matches every tag.
        #[test]
        fn globs_match_as_their_automata_say(
            globs in prop::collection::vec("!?[a-c*?\\[\\]{},v1.-]{1,6}", 1..4),
            tag in "[A-Za-z0-9_][A-Za-z0-9_.-]{0,8}",
        ) {
            let Ok(compiled) = Globs::new(&globs) else { return Ok(()) };
            let (exclude, include): (Vec<&String>, Vec<&String>) = globs.iter().partition(|glob| glob.starts_with('!'));
            let expressions = |globs: &[&String]| -> Vec<String> {
                globs.iter().map(|glob| expression(glob.trim_start_matches('!')).unwrap_or_default()).collect()
            };
            match extent(NameKind::Tags, &expressions(&include), &expressions(&exclude)) {
                Extent::Every => prop_assert!(compiled.matches(&tag)),
                Extent::None => prop_assert!(!compiled.matches(&tag)),
                Extent::Some => {}
            }
        }
    }
}
