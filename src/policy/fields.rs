//! Parsing of values from a tree, with a problem for every invalid one.
//!
//! Every function here returns `None` if it added a problem, so that its caller can continue with the next key.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::diagnostic::Problems;
use super::yaml::{Entry, Node, Place, Value, shorten};
use crate::domain::{Cron, InvalidName, chain};

/// The keys of a map during parsing. Keys that were not read are unknown.
pub(crate) struct Fields<'a> {
    /// The kind of map, such as `policy`, for messages.
    map_name: &'static str,
    at: &'a Place,
    entries: &'a [Entry],
    requested: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// Returns the keys of a map.
    pub(crate) fn of(node: &'a Node, what: &'static str, problems: &mut Problems) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            let message = format!("a {what} must be a map of keys and values, not {}", problems.describe(&node.value));
            problems.add(&node.at, message);
            return None;
        };
        Some(Self { map_name: what, at: &node.at, entries, requested: Vec::new() })
    }

    /// Returns the value of a key, if present.
    pub(crate) fn get(&mut self, key: &'static str) -> Option<&'a Node> {
        if !self.requested.contains(&key) {
            self.requested.push(key);
        }
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node)
    }

    /// Returns the kind of map.
    pub(crate) fn map_name(&self) -> &'static str {
        self.map_name
    }

    /// Returns the place of the map.
    pub(crate) fn at(&self) -> &'a Place {
        self.at
    }

    /// Returns true if a key is present in a misspelt form.
    pub(crate) fn is_misspelled(&self, key: &str) -> bool {
        self.misspelled_entry(key).is_some()
    }

    /// Returns the entry that is probably a misspelt form of a key.
    pub(crate) fn misspelled_entry(&self, key: &str) -> Option<&'a Entry> {
        let is_known = |entry: &Entry| self.requested.contains(&&*entry.key);
        self.entries.iter().find(|entry| entry.key != key && !is_known(entry) && nearest(&entry.key, &[key]).is_some())
    }

    /// Returns the place of a key, else of the map.
    pub(crate) fn key_at(&self, key: &str) -> &'a Place {
        self.entries.iter().find(|entry| entry.key == key).map_or(self.at, |entry| &entry.at)
    }

    /// Reports unknown and duplicate keys. `hint` returns better messages for some.
    pub(crate) fn finish(self, hint: impl Fn(&str) -> Option<&'static str>, problems: &mut Problems) {
        self.report_unknown(hint, problems);
    }

    /// Does what [`Self::finish`] does, and returns the place of the last unknown key: a missing key is reported after
    /// it, because it may be what was meant.
    pub(crate) fn report_unknown(
        self,
        hint: impl Fn(&str) -> Option<&'static str>,
        problems: &mut Problems,
    ) -> Option<&'a Place> {
        let (mut seen, mut last) = (BTreeMap::new(), None);
        for entry in self.entries {
            if let Some(first) = seen.insert(&*entry.key, &entry.at) {
                let first = problems.diagnostic(first, "first written here");
                problems
                    .add(&entry.at, format!("`{}` is written twice", shorten(&entry.key)))
                    .help("keep one of the two")
                    .add_secondary(first);
                continue;
            }
            if self.requested.contains(&&*entry.key) {
                continue;
            }
            let (message, known) =
                unknown_word("key", &entry.key, &format!(" in a {}", self.map_name), &self.requested);
            let top = || problems.is_top_key(&entry.key).then(|| TOP_KEY_HELP.to_owned());
            let help = hint(&entry.key).map(str::to_owned).or_else(top).unwrap_or(known);
            problems.add(&entry.at, message).help(help);
            last = Some(&entry.at);
        }
        last
    }
}

/// The remedy for a key of the whole settings file in a table of it.
const TOP_KEY_HELP: &str = "it belongs at the top of the file, above the first `[table]`";

/// Returns the message and the remedy for an unknown word.
pub(crate) fn unknown_word(what: &str, word: &str, of: &str, known: &[&str]) -> (String, String) {
    let word = shorten(word);
    let message = match nearest(&word, known) {
        Some(meant) => format!("unknown {what} `{word}`{of}, did you mean `{meant}`?"),
        None => format!("unknown {what} `{word}`{of}"),
    };
    (message, format!("known: {}", quoted_list(known)))
}

/// Returns the known word that was probably intended.
pub(crate) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let word = word.to_lowercase().replace('_', "-");
    known
        .iter()
        .map(|candidate| {
            let plain = candidate.to_lowercase().replace('_', "-");
            let prefix = word.len() >= 3 && (plain.starts_with(&word) || word.starts_with(&plain));
            let distance = if prefix { 1 } else { strsim::osa_distance(&word, &plain) };
            (distance, *candidate)
        })
        .filter(|(distance, candidate)| *distance <= 1 + candidate.chars().count().min(word.chars().count()) / 4)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Formats words as `a`, `b`, `c`, each in backticks.
pub(crate) fn quoted_list(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// Parses a non-empty text.
pub(crate) fn text<'a>(key: &str, node: &'a Node, problems: &mut Problems) -> Option<&'a str> {
    text_of(&format!("`{key}`"), node, problems)
}

fn text_of<'a>(what: &str, node: &'a Node, problems: &mut Problems) -> Option<&'a str> {
    match &node.value {
        Value::Text(text) if !text.trim().is_empty() => return Some(text),
        Value::Text(_) | Value::Null => problems.add(&node.at, format!("{what} is empty")),
        value => {
            // A number in place of a text may be a password.
            let shown = if problems.is_toml() { value.kind().to_owned() } else { value.describe() };
            let problem = problems.add(&node.at, format!("{what} must be a text, not {shown}"));
            match value {
                Value::List(_) | Value::Map(_) => problem,
                _ => problem.help("put it in quotes"),
            }
        }
    };
    None
}

/// Parses a whole number in a range; from the environment, as text.
pub(crate) fn integer(key: &str, node: &Node, range: RangeInclusive<u32>, problems: &mut Problems) -> Option<u32> {
    let number = match (&node.value, &node.at) {
        (Value::Integer(number), _) => Some(*number),
        (Value::Text(text), Place::Variable(_)) => text.parse().ok(),
        _ => None,
    };
    if let Some(fit) = number.and_then(|number| u32::try_from(number).ok()).filter(|fit| range.contains(fit)) {
        return Some(fit);
    }
    let wanted = match (range.start(), range.end()) {
        (start, &u32::MAX) => format!("a whole number from {start}"),
        (start, end) => format!("a whole number from {start} to {end}"),
    };
    let shown = problems.describe(&node.value);
    let problem = problems.add(&node.at, format!("`{key}` must be {wanted}, not {shown}"));
    if let (Value::Text(text), Place::Text(_)) = (&node.value, &node.at)
        && text.parse::<u32>().is_ok_and(|fit| range.contains(&fit))
    {
        match text.trim_start_matches('0') {
            number if number.len() < text.len() && !number.is_empty() => {
                problem.help(format!("write {number}, without a zero before it"))
            }
            _ => problem.help(format!("write it without quotes: {text}")),
        };
    }
    None
}

/// Parses `true` or `false`; from the environment, as text.
pub(crate) fn boolean(key: &str, node: &Node, problems: &mut Problems) -> Option<bool> {
    let value = match (&node.value, &node.at) {
        (Value::Bool(value), _) => Some(*value),
        (Value::Text(text), Place::Variable(_)) => text.parse().ok(),
        _ => None,
    };
    if value.is_none() {
        let shown = problems.describe(&node.value);
        problems.add(&node.at, format!("`{key}` must be `true` or `false`, not {shown}"));
    }
    value
}

/// Parses one of a closed set of words.
pub(crate) fn choice<T: Copy>(key: &str, node: &Node, known: &[(&str, T)], problems: &mut Problems) -> Option<T> {
    let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
    let Value::Text(written) = &node.value else {
        let shown = problems.describe(&node.value);
        problems.add(&node.at, format!("`{key}` must be one of {}, not {shown}", quoted_list(&words)));
        return None;
    };
    let found = known.iter().find(|(word, _)| word == written).map(|(_, value)| *value);
    if found.is_none() {
        let (message, help) = unknown_word(key, written, "", &words);
        problems.add(&node.at, message).help(help);
    }
    found
}

/// Parses one of a closed set of words beside secrets: another word is quoted only if it resembles a known one or is
/// one of `others`, which are known elsewhere, because it may be a secret in the wrong place.
pub(crate) fn choice_beside_secrets<T: Copy>(
    key: &str,
    node: &Node,
    known: &[(&str, T)],
    others: &[&str],
    problems: &mut Problems,
) -> Option<T> {
    let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
    if let Value::Text(written) = &node.value
        && nearest(written, &words).is_none()
        && !others.contains(&written.as_str())
    {
        let help = format!("known: {}", quoted_list(&words));
        problems.add(&node.at, format!("unknown {key}, not shown because it may be a secret")).help(help);
        return None;
    }
    choice(key, node, known, problems)
}

/// Parses a non-empty list; from the environment, as words separated by commas, or as a JSON list.
pub(crate) fn list<'a>(key: &str, node: &'a Node, problems: &mut Problems) -> Option<Cow<'a, [Node]>> {
    let nodes = match (&node.value, &node.at) {
        (Value::List(nodes), _) => Cow::Borrowed(&**nodes),
        (Value::Text(text), Place::Variable(_)) => Cow::Owned(split(text, &node.at)),
        (Value::Text(text), _) => {
            let only = if problems.is_toml() { "…".to_owned() } else { shorten(text) };
            let help = format!("write {}", problems.format_entry(key, format!("[\"{only}\"]")));
            let shown = problems.describe(&node.value);
            problems.add(&node.at, format!("`{key}` must be a list, not {shown}")).help(help);
            return None;
        }
        (value, _) => {
            let shown = problems.describe(value);
            problems.add(&node.at, format!("`{key}` must be a list, not {shown}"));
            return None;
        }
    };
    if nodes.is_empty() {
        problems.add(&node.at, format!("`{key}` is an empty list")).help("leave the key out, or name something");
        return None;
    }
    Some(nodes)
}

fn split(text: &str, at: &Place) -> Vec<Node> {
    let words: Vec<String> = serde_json::from_str(text).unwrap_or_else(|_| {
        text.split(',').map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect()
    });
    words.into_iter().map(|word| Node { at: at.clone(), value: Value::Text(word) }).collect()
}

/// Parses the texts of a list, and returns true if it contained nothing else.
pub(crate) fn texts(key: &str, node: &Node, problems: &mut Problems) -> Option<(Vec<(String, Place)>, bool)> {
    let nodes = list(key, node, problems)?;
    let what = format!("an entry of `{key}`");
    let read: Vec<(String, Place)> =
        nodes.iter().filter_map(|node| Some((text_of(&what, node, problems)?.to_owned(), node.at.clone()))).collect();
    let sound = read.len() == nodes.len();
    Some((read, sound))
}

/// Parses the names in a list; `None` if any of them is invalid.
pub(crate) fn names<T: FromStr<Err = InvalidName>>(key: &str, node: &Node, problems: &mut Problems) -> Option<Vec<T>> {
    let (texts, sound) = texts(key, node, problems)?;
    let names: Vec<Option<T>> = texts.iter().map(|(text, at)| name(text, at, problems)).collect();
    names.into_iter().collect::<Option<Vec<T>>>().filter(|_| sound)
}

/// Parses a name.
pub(crate) fn name<T: FromStr<Err = InvalidName>>(text: &str, at: &Place, problems: &mut Problems) -> Option<T> {
    let parsed = text.parse::<T>();
    if let Err(error) = &parsed {
        problems.add(at, error.to_string());
    }
    parsed.ok()
}

/// The longest plausible duration.
const MAX_DURATION: Duration = Duration::from_hours(24 * 36525);

/// Parses a duration of at least a second, with a unit. Months are refused, so that `30M` cannot be mistaken for thirty
/// minutes.
pub(crate) fn duration(key: &str, node: &Node, problems: &mut Problems) -> Option<Duration> {
    if let Value::Integer(number) = node.value {
        let message = format!("`{}` has no unit", problems.format_entry(key, number));
        let help = format!("write {} for days, or `h`, `m`, `s`", problems.format_entry(key, format!("\"{number}d\"")));
        problems.add(&node.at, message).help(help);
        return None;
    }
    let written = text(key, node, problems)?;
    parse_duration(written)
        .map_err(|(message, help)| {
            let message = format!("`{}` {message}", problems.format_entry(key, shorten(written)));
            problems.add(&node.at, message).help(help);
        })
        .ok()
}

fn parse_duration(written: &str) -> Result<Duration, (&'static str, &'static str)> {
    const HELP: &str = "write a number and a unit, such as `14d`, `36h` or `1d 12h`";
    const TOO_LONG: (&str, &str) = ("is more than a hundred years", HELP);
    if written.trim().bytes().all(|b| b.is_ascii_digit()) {
        return Err(("has no unit", HELP));
    }
    let mut units = written.split(|c: char| !c.is_ascii_alphabetic());
    if units.any(|unit| matches!(unit, "M" | "month" | "months")) {
        let help = "write days, such as `30d`; minutes are a small `m`";
        return Err(("is in months, which differ in length", help));
    }
    match humantime::parse_duration(written) {
        Ok(duration) if duration < Duration::from_secs(1) => Err(("is less than a second", HELP)),
        Ok(duration) if duration > MAX_DURATION => Err(TOO_LONG),
        Ok(duration) => Ok(duration),
        Err(humantime::DurationError::NumberOverflow) => Err(TOO_LONG),
        Err(_) => Err(("is not a valid duration", HELP)),
    }
}

/// Parses a cron expression.
pub(crate) fn cron(key: &str, node: &Node, problems: &mut Problems) -> Option<Cron> {
    const HELP: &str = "five fields: minute, hour, day, month, weekday, such as `0 3 * * *`; or `@daily`";
    const NICKNAMES: [&str; 7] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];
    let written = text(key, node, problems)?;
    let cron: Result<Cron, _> = written.parse();
    if cron.is_err() && written.starts_with('@') {
        let (message, help) = unknown_word(key, written, "", &NICKNAMES);
        problems.add(&node.at, message).help(format!("{help}; or five fields, such as `0 3 * * *`"));
    } else if let Err(error) = &cron {
        problems.add(&node.at, format!("`{key}` {}", chain(error))).help(HELP);
    }
    cron.ok()
}
