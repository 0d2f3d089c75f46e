//! Regular expressions and globs of other tools, as expressions on whole names.
//!
//! Most tools search: `v1` matches `dev10`. A policy's pattern must match the whole tag. And most know constructs that
//! mean something else in another dialect; those are refused here, so that nothing is translated by resemblance.

use regex::Regex;

/// An expression that has to match a whole name, without anchors of its own around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WholeExpression(String);

/// What an expression does with a negative lookahead at its start: `^(?!release-).*` and `^((?!release-).)*$`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SearchExpression {
    /// What has to match.
    pub(super) matches: WholeExpression,
    /// What must not match, where a lookahead says so.
    pub(super) excludes: Option<WholeExpression>,
}

impl WholeExpression {
    /// The text of the expression.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Every name.
    pub(super) fn every() -> Self {
        Self(".*".to_owned())
    }

    /// One name.
    pub(super) fn literal(name: &str) -> Self {
        Self(escape(name))
    }

    /// The names in which a search for the expression finds something.
    ///
    /// # Errors
    /// The construct that has no equal here.
    pub(super) fn of_search(search: &str) -> Result<Self, String> {
        check_classes(search)?;
        check_dialect(search)?;
        Regex::new(search).map_err(|error| describe(&error))?;
        let mut alternatives: Vec<String> = Vec::new();
        // A flag holds for all that follows it, so the same text may mean something else behind it.
        let has_flags = search.contains("(?");
        for alternative in top_level_alternatives(search) {
            let whole = whole_of(alternative);
            if has_flags || !alternatives.contains(&whole) {
                alternatives.push(whole);
            }
        }
        let whole = if alternatives.iter().any(|one| one == ".*") { ".*".to_owned() } else { alternatives.join("|") };
        Regex::new(&format!("^(?:{whole})$")).map_err(|error| describe(&error))?;
        Ok(Self(whole))
    }
}

impl SearchExpression {
    /// Reads an expression that searches, in which a negative lookahead at the start may stand.
    ///
    /// # Errors
    /// The construct that has no equal here.
    pub(super) fn of(search: &str) -> Result<Self, String> {
        check_classes(search)?;
        if let Some((excluded, rest)) = leading_lookahead(search) {
            let matches = WholeExpression::of_search(&at_start(rest))?;
            let excludes = WholeExpression::of_search(&at_start(excluded))?;
            return Ok(Self { matches, excludes: Some(excludes) });
        }
        if let Some(excluded) = repeated_lookahead(search) {
            let excludes = WholeExpression::of_search(&format!("(?:{excluded})"))?;
            return Ok(Self { matches: WholeExpression::every(), excludes: Some(excludes) });
        }
        Ok(Self { matches: WholeExpression::of_search(search)?, excludes: None })
    }
}

/// The same alternatives, each at the start of the name.
fn at_start(text: &str) -> String {
    let anchored = top_level_alternatives(text).into_iter().map(|one| format!("^{one}"));
    anchored.collect::<Vec<_>>().join("|")
}

/// `^(?!X)REST`, with `X` and `REST`.
fn leading_lookahead(search: &str) -> Option<(&str, &str)> {
    let inner = search.strip_prefix("^(?!")?;
    let end = closing(inner)?;
    let (excluded, rest) = (&inner[..end], &inner[end + 1..]);
    (top_level_alternatives(search).len() == 1).then_some((excluded, rest))
}

/// `^((?!X).)*$` and `^(?:(?!X).)*$`, with `X`.
fn repeated_lookahead(search: &str) -> Option<&str> {
    let inner = ["^((?!", "^(?:(?!"].iter().find_map(|start| search.strip_prefix(start))?;
    let end = closing(inner)?;
    matches!(&inner[end..], ").)*$" | ").)+$").then_some(&inner[..end])
}

/// The position of the bracket that closes what is open before the text.
pub(super) fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, part) in parts(text) {
        match part {
            "(" => depth += 1,
            ")" if depth == 0 => return Some(at),
            ")" => depth -= 1,
            _ => {}
        }
    }
    None
}

/// The characters of an expression: an escaped one with its backslash, a class as a whole.
fn parts(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut chars = text.char_indices().peekable();
    while let Some((start, first)) = chars.next() {
        match first {
            '\\' => {
                chars.next();
            }
            '[' => {
                let length = class_length(&text[start..]).unwrap_or(text.len() - start);
                while chars.next_if(|(at, _)| *at < start + length).is_some() {}
            }
            _ => {}
        }
        let end = chars.peek().map_or(text.len(), |(end, _)| *end);
        found.push((start, &text[start..end]));
    }
    found
}

/// The names of classes that every dialect here knows, as in `[[:alpha:]_]`.
const NAMED_CLASSES: [&str; 13] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper",
    "xdigit",
];

/// The length of the class that the text begins with, its brackets included. `None` if it does not end.
fn class_length(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = if bytes.get(1) == Some(&b'^') { 2 } else { 1 };
    let first = at;
    loop {
        match *bytes.get(at)? {
            b'\\' => at += 2,
            b'[' => at += named_class(&text[at..]).map_or(1, |(_, length)| length),
            b']' if at > first => return Some(at + 1),
            _ => at += 1,
        }
    }
}

/// The name in `[:alpha:]` and `[:^alpha:]` at the start of the text, and the length of the whole.
fn named_class(text: &str) -> Option<(&str, usize)> {
    let inner = text.strip_prefix("[:")?;
    let end = inner.find(":]")?;
    let name = inner[..end].strip_prefix('^').unwrap_or(&inner[..end]);
    name.bytes().all(|byte| byte.is_ascii_alphabetic()).then_some((name, end + 4))
}

/// Refuses classes whose end or meaning depends on the dialect: `[]a]`, `[a[bc]]`, `[a-z&&[^b]]`.
fn check_classes(search: &str) -> Result<(), String> {
    for (at, part) in parts(search).into_iter().filter(|(_, part)| part.starts_with('[')) {
        let differs = || format!("the class `{part}` is not read the same way everywhere");
        if class_length(&search[at..]) != Some(part.len()) {
            return Err(format!("the class `{part}` does not end"));
        }
        let mut inner = part[1..part.len() - 1].trim_start_matches('^');
        if inner.is_empty()
            || inner.starts_with(']')
            || ["&&", "--", "~~", "||"].iter().any(|sign| inner.contains(sign))
        {
            return Err(differs());
        }
        while let Some(c) = inner.chars().next() {
            let length = match c {
                '[' => named_class(inner).filter(|(name, _)| NAMED_CLASSES.contains(name)).ok_or_else(differs)?.1,
                '\\' => {
                    let escaped = inner[1..].chars().next().ok_or_else(differs)?;
                    if escaped.is_ascii_alphanumeric() && !"dDwWsStnrfv".contains(escaped) {
                        return Err(differs());
                    }
                    1 + escaped.len_utf8()
                }
                other => other.len_utf8(),
            };
            inner = &inner[length..];
        }
    }
    Ok(())
}

/// The alternatives that no bracket encloses.
pub(super) fn top_level_alternatives(search: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0_usize, 0, Vec::new());
    for (at, part) in parts(search) {
        match part {
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            "|" if depth == 0 => {
                found.push(&search[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(&search[start..]);
    found
}

/// One alternative of a search as an expression on the whole name.
fn whole_of(alternative: &str) -> String {
    // Flags in front hold for the rest; behind another text they would not stand at the start any more.
    let (flags, rest) = leading_flags(alternative);
    let mut body = rest;
    while let Some(bare) = ["^", "\\A"].iter().find_map(|anchor| body.strip_prefix(anchor)) {
        body = bare;
    }
    let before = if body.len() < rest.len() { "" } else { ".*" };
    let mut after = ".*";
    while let Some((at, _)) = parts(body).last().filter(|(_, last)| matches!(*last, "$" | "\\z")) {
        (body, after) = (&body[..*at], "");
    }
    let before = if body.starts_with(".*") || body.is_empty() && !after.is_empty() { "" } else { before };
    let after = if body.ends_with(".*") && !body.ends_with("\\.*") { "" } else { after };
    format!("{flags}{before}{body}{after}")
}

fn leading_flags(text: &str) -> (&str, &str) {
    let end = text.strip_prefix("(?").and_then(|rest| rest.find(')')).map(|end| end + 3);
    match end {
        Some(end) if text[2..end - 1].bytes().all(|byte| matches!(byte, b'i' | b's' | b'm')) => text.split_at(end),
        _ => ("", text),
    }
}

/// Refuses what compiles here and means something else there, or the other way round.
fn check_dialect(search: &str) -> Result<(), String> {
    let refuse = |what: &str| Err(what.to_owned());
    let mut before = "";
    for (at, part) in parts(search) {
        if matches!(before, "*" | "+" | "?" | "}") && matches!(part, "*" | "+" | "{") {
            return refuse("a repetition of a repetition");
        }
        before = part;
        if let Some(escaped) = part.strip_prefix('\\') {
            let common = "dDwWsSbBAztnrfv";
            let letter = escaped.chars().next().is_none_or(|c| c.is_ascii_alphanumeric());
            let edge = matches!(escaped, "<" | ">") || escaped == "b" && search[at + 2..].starts_with('{');
            if letter && !common.contains(escaped) || edge {
                return Err(format!("`{part}` is not read the same way everywhere"));
            }
        } else if part == "(" && search[at..].starts_with("(?") {
            let rest = &search[at + 2..];
            if rest.starts_with(['=', '!']) || rest.starts_with("<=") || rest.starts_with("<!") {
                return refuse("a lookaround, which patterns do not have");
            }
            let named = rest.starts_with("P<") || rest.starts_with('<');
            let flags = rest.split([')', ':']).next().unwrap_or_default();
            if !named && !flags.bytes().all(|byte| matches!(byte, b'i' | b's' | b'm' | b'-')) {
                return Err(format!("`(?{flags}` is not read the same way everywhere"));
            }
        } else if part == "{" && search[at..].starts_with("{,") {
            return refuse("`{,` is not read the same way everywhere");
        } else if !part.is_ascii() && !part.starts_with('[') {
            return refuse("a character that no name has");
        }
    }
    Ok(())
}

fn describe(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
    format!("not a regular expression that patterns know: {last}")
}

/// A text with a backslash before what expressions read as a sign of theirs. A dash needs none.
fn escape(text: &str) -> String {
    regex::escape(text).replace("\\-", "-")
}
