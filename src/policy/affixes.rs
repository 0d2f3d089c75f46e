//! The literal prefixes and suffixes of the texts that an expression matches.

/// The literal prefix and suffix of every matched text; empty if unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Affixes {
    start: String,
    end: String,
}

impl Affixes {
    /// Returns the prefix of every matched text.
    pub(super) fn start(&self) -> &str {
        &self.start
    }

    /// Returns the suffix of every matched text.
    pub(super) fn end(&self) -> &str {
        &self.end
    }

    /// Returns true if no text has the prefixes and suffixes of both.
    pub(super) fn is_disjoint(&self, other: &Self) -> bool {
        let begins = |a: &str, b: &str| a.starts_with(b) || b.starts_with(a);
        let ends = |a: &str, b: &str| a.ends_with(b) || b.ends_with(a);
        !begins(&self.start, &other.start) || !ends(&self.end, &other.end)
    }
}

/// A part of an expression: one character, or anything else.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Character(char),
    Other,
}

/// Returns the prefix and suffix of an expression on a whole text; empty if it is not simple enough.
pub(super) fn affixes(expression: &str) -> Affixes {
    parts(expression).map_or_else(Affixes::default, |parts| {
        let character = |part: &Part| match part {
            Part::Character(found) => Some(*found),
            Part::Other => None,
        };
        let end: Vec<char> = parts.iter().rev().map_while(character).collect();
        Affixes { start: parts.iter().map_while(character).collect(), end: end.into_iter().rev().collect() }
    })
}

fn parts(expression: &str) -> Option<Vec<Part>> {
    let mut rest = expression.strip_prefix("(?-u)").unwrap_or(expression).strip_prefix('^')?.strip_suffix('$')?;
    // As patterns are written to match whole tags.
    if let Some(inner) = rest.strip_prefix("(?:")
        && group(&rest[1..]) == Some(rest.len() - 1)
    {
        rest = inner.strip_suffix(')')?;
    }
    let mut parts = Vec::new();
    while let Some(found) = rest.chars().next() {
        let (part, length) = match found {
            // An alternative may have another prefix, and so may a case-insensitive part.
            '|' => return None,
            '(' if rest.starts_with("(?")
                && !rest.starts_with("(?:")
                && !rest.starts_with("(?<")
                && !rest.starts_with("(?P<") =>
            {
                return None;
            }
            '(' => (Part::Other, group(&rest[1..])? + 1),
            '[' => (Part::Other, class(rest)?),
            '\\' => {
                let escaped = rest[1..].chars().next()?;
                let plain = escaped.is_ascii_punctuation();
                // `\x41`, `\p{Lu}` and the like continue after the letter.
                if matches!(escaped, 'x' | 'u' | 'U' | 'p' | 'P') {
                    return None;
                }
                (if plain { Part::Character(escaped) } else { Part::Other }, 1 + escaped.len_utf8())
            }
            '*' | '+' | '?' | '{' => {
                // A repeated part is not a single character.
                *parts.last_mut()? = Part::Other;
                let length = if found == '{' { rest.find('}')? + 1 } else { 1 };
                (Part::Other, length)
            }
            '.' | '^' | '$' => (Part::Other, 1),
            found => (Part::Character(found), found.len_utf8()),
        };
        parts.push(part);
        rest = &rest[length..];
    }
    Some(parts)
}

/// Returns the length of a group after its opening bracket, closing bracket included.
fn group(text: &str) -> Option<usize> {
    let (mut depth, mut at) = (1, 0);
    while depth > 0 {
        let found = text[at..].chars().next()?;
        at += match found {
            '\\' => 1 + text[at + 1..].chars().next()?.len_utf8(),
            '[' => class(&text[at..])?,
            _ => found.len_utf8(),
        };
        depth += i32::from(found == '(') - i32::from(found == ')');
    }
    Some(at)
}

/// Returns the length of a class of characters from its opening bracket on.
fn class(text: &str) -> Option<usize> {
    let mut at = 1;
    if text[at..].starts_with('^') {
        at += 1;
    }
    // A closing bracket right after the opening one is a literal.
    if text[at..].starts_with(']') {
        at += 1;
    }
    loop {
        let found = text[at..].chars().next()?;
        at += match found {
            ']' => return Some(at + 1),
            '\\' => 1 + text[at + 1..].chars().next()?.len_utf8(),
            '[' => class(&text[at..])?,
            _ => found.len_utf8(),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_texts_begin_and_end_with() {
        for (expression, start, end) in [
            ("(?-u)^shop/api$", "shop/api", "shop/api"),
            ("(?-u)^shop/[^/]*$", "shop/", ""),
            ("(?-u)^(?:/?|.*/)api$", "", "api"),
            ("(?-u)^team\\-1/.*$", "team-1/", ""),
            ("^(?:v\\d+)$", "v", ""),
            ("^(?:rc-?x)$", "rc", "x"),
            ("^(?:a|b)$", "", ""),
            ("^(?:(?i)v1)$", "", ""),
            ("^(?:(?<branch>.+)-final)$", "", "-final"),
            ("^(?:ab{2})$", "a", ""),
            ("^(?:[)]v)$", "", "v"),
            ("^(?:\\x41b)$", "", ""),
            ("^(?:a)|(?:b)$", "", ""),
        ] {
            let Affixes { start: begins, end: ends } = affixes(expression);
            assert_eq!((&*begins, &*ends), (start, end), "{expression}");
        }
    }
}
