//! Patterns of tags that a registry protects, in Go's regular expressions (RE2).

use regex::Regex;
use serde_json::Value;

use crate::domain::TagName;

/// A pattern of tags, which matches anywhere in a name.
#[derive(Debug)]
pub(in crate::registry) enum TagPattern {
    /// This one.
    Known(Regex),
    /// It may match any tag.
    Unknown(String),
}

impl TagPattern {
    /// Reads a pattern. One that is not understood as Go does covers every tag.
    pub(in crate::registry) fn read(value: &Value) -> Self {
        let Some(text) = value.as_str() else { return Self::unknown(value) };
        match Regex::new(text) {
            Ok(pattern) if !differs_in_go(text) => Self::Known(pattern),
            _ => Self::Unknown(text.to_owned()),
        }
    }

    /// Makes the pattern that covers every tag, for what is not understood.
    pub(in crate::registry) fn unknown(value: &Value) -> Self {
        Self::Unknown(value.to_string())
    }

    /// Returns the text of a pattern that is not understood.
    pub(in crate::registry) fn unknown_text(&self) -> Option<&str> {
        match self {
            Self::Known(_) => None,
            Self::Unknown(text) => Some(text),
        }
    }

    /// Returns true if the pattern matches a tag, or may match it.
    pub(in crate::registry) fn covers(&self, tag: &TagName) -> bool {
        match self {
            Self::Known(pattern) => pattern.is_match(tag.as_str()),
            Self::Unknown(_) => true,
        }
    }
}

/// Returns true for a pattern that Go's regular expressions, by which registries match, may understand otherwise: classes
/// have operations and nesting here alone, quoting and open repetitions are there alone.
fn differs_in_go(pattern: &str) -> bool {
    let mut rest = pattern;
    let mut in_class = false;
    while let Some(first) = rest.chars().next() {
        let is_operation = ["&&", "--", "~~"].iter().any(|operation| rest.starts_with(operation));
        let is_nested = rest.starts_with('[') && !rest.starts_with("[:");
        if in_class && (is_operation || is_nested)
            || [r"\Q", r"\C"].iter().any(|escape| rest.starts_with(escape))
            || !in_class && rest.starts_with("{,")
        {
            return true;
        }
        let length = match first {
            '\\' => first.len_utf8() + rest[1..].chars().next().map_or(0, char::len_utf8),
            '[' if in_class => rest.find(":]").map_or(1, |end| end + 2),
            _ => first.len_utf8(),
        };
        in_class = match first {
            '[' => true,
            ']' => false,
            _ => in_class,
        };
        rest = &rest[length..];
    }
    false
}

/// The patterns of a list; any other value is a pattern that is not understood.
pub(in crate::registry) fn patterns(value: &Value) -> Vec<TagPattern> {
    match value {
        Value::Null => Vec::new(),
        Value::Array(patterns) => patterns.iter().map(TagPattern::read).collect(),
        other => vec![TagPattern::unknown(other)],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pattern_that_go_may_understand_otherwise_covers_every_tag() {
        let tag: TagName = "latest".parse().unwrap();
        for known in ["release--.*", "[[:alpha:]]-&&", r"v\d{1,3}", r"\[\]--", "[a-z]--[0-9]", r"[\]]~~"] {
            let found = TagPattern::read(&json!(known));
            assert_eq!((found.unknown_text(), found.covers(&tag)), (None, false), "{known}");
        }
        for unknown in [json!("("), json!("[a--z]"), json!(r"\Qv1\E"), json!("[[a]"), json!("a{,2}"), json!(7)] {
            let found = TagPattern::read(&unknown);
            assert!(found.unknown_text().is_some() && found.covers(&tag), "{unknown}");
        }
        assert!(TagPattern::read(&json!("t.s")).covers(&tag), "a pattern matches anywhere");
        assert!(matches!(&*patterns(&json!(true)), [pattern] if pattern.covers(&tag)));
        assert!(patterns(&Value::Null).is_empty());
    }
}
