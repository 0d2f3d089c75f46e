//! The context of reading settings, with the findings.

use std::path::PathBuf;

use secrecy::SecretString;

use super::layers::normalize_key;
use crate::policy::{Entry, Fields, Node, Place, Problems, Value, fields};
use crate::registry::Provider;

/// The settings while they are read.
pub(super) struct SettingsReader<'e> {
    /// The folder of the settings file: relative paths start here.
    pub(super) folder: PathBuf,
    pub(super) environment: &'e [(String, String)],
    pub(super) problems: Problems,
    /// The registry products that a `kind` may name.
    pub(super) providers: &'static [&'static dyn Provider],
    /// Remarks for people although nothing is wrong.
    pub(super) warnings: Vec<String>,
    /// The secrets and credential files that were left out; `None` if all of them are read.
    pub(super) unread_secrets: Option<Vec<String>>,
}

/// The value of a secret that is not read. No request is sent with it.
const UNREAD_SECRET: &str = "not-read";

impl SettingsReader<'_> {
    /// Returns true if secrets are left out.
    pub(super) fn skips_secrets(&self) -> bool {
        self.unread_secrets.is_some()
    }

    /// Leaves a secret out: returns a stand-in if secrets are not read, and `None` if they are.
    pub(super) fn skip_secret(&mut self, what: impl FnOnce() -> String) -> Option<SecretString> {
        let unread = self.unread_secrets.as_mut()?;
        unread.push(what());
        Some(UNREAD_SECRET.into())
    }

    /// Returns a non-empty variable of the environment.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        let found = self.environment.iter().find(|(key, value)| key == name && !value.is_empty());
        found.map(|(_, value)| value.as_str())
    }

    /// Returns an owned copy of it.
    pub(super) fn variable_text(&self, name: &str) -> Option<String> {
        self.variable(name).map(str::to_owned)
    }

    /// Returns the `kind` of a table, which determines its other keys; `at` is the place of a missing one. A misspelt
    /// one is reported here, because without it the other keys are not read.
    pub(super) fn kind<'a>(&mut self, fields: &mut Fields<'a>, at: &Place) -> Option<&'a Node> {
        const KEY: &str = "kind";
        let node = fields.get(KEY);
        if node.is_none() {
            let what = fields.map_name();
            match fields.misspelled_entry(KEY) {
                Some(entry) => {
                    let (message, _) = fields::unknown_word("key", &entry.key, &format!(" in a {what}"), &[KEY]);
                    let help = format!("write {}", self.problems.format_entry(KEY, "\"…\""));
                    self.problems.add(&entry.at, message).help(help);
                }
                None => {
                    self.problems.add(at, format!("a {what} without `{KEY}`"));
                }
            }
        }
        node
    }

    /// Returns the value of a required key; `at` is the place of a missing one. Only for tables whose unknown keys are
    /// reported in any case, which covers misspellings.
    pub(super) fn required<'a>(&mut self, fields: &mut Fields<'a>, key: &'static str, at: &Place) -> Option<&'a Node> {
        let node = fields.get(key);
        // A misspelt key is reported as such.
        if node.is_none() && !fields.is_misspelled(key) {
            self.problems.add(at, format!("a {} without `{key}`", fields.map_name()));
        }
        node
    }

    /// Reads a named table. An unreadable one must never be dropped silently.
    pub(super) fn entry<T>(&mut self, entry: &Entry, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let noted = self.problems.count();
        let found = read(self);
        if found.is_none() && self.problems.count() == noted {
            let message = format!("`{}` could not be understood", entry.key);
            self.problems.add(&entry.at, message).help("please report these settings");
        }
        found
    }

    /// Reports tables that stand in the environment alone and lack a `kind`, if the file has others.
    fn report_misspelled_variables(&mut self, key: &str, entries: &[Entry]) {
        let in_file = entries.iter().filter(|entry| matches!(entry.at, Place::Text(_)));
        let known: Vec<&str> = in_file.map(|entry| entry.key.as_str()).collect();
        for entry in entries.iter().filter(|entry| matches!(entry.at, Place::Variable(_))) {
            let has_kind = match &entry.node.value {
                Value::Map(keys) => keys.iter().any(|one| one.key == "kind"),
                _ => false,
            };
            if has_kind || known.is_empty() {
                continue;
            }
            let meant = fields::nearest(&entry.key, &known);
            let meant = meant.map(|meant| format!(", did you mean `{meant}`?")).unwrap_or_default();
            let message = format!("the file has no `[{key}.{}]`{meant}", entry.key);
            let help = format!("correct the name of the variable; known: {}", fields::quoted_list(&known));
            self.problems.add(&entry.at, message).help(help);
        }
    }

    /// Returns the named tables below `[registries]` or `[sources]`, which must be distinguishable.
    pub(super) fn tables<'a>(&mut self, key: &str, node: &'a Node) -> Option<&'a [Entry]> {
        let Value::Map(entries) = &node.value else {
            let message = format!("`{key}` must be a table, not {}", self.problems.describe(&node.value));
            self.problems.add(&node.at, message).help(format!("write `[{key}.NAME]` and its keys below it"));
            return None;
        };
        self.report_misspelled_variables(key, entries);
        for (index, entry) in entries.iter().enumerate() {
            if let Some(other) =
                entries[..index].iter().find(|other| normalize_key(&other.key) == normalize_key(&entry.key))
            {
                let other_place = self.problems.diagnostic(&other.at, "the other is here");
                self.problems
                    .add(&entry.at, format!("`{}` and `{}` are too much alike", other.key, entry.key))
                    .help("names that differ only by case, `-`, `_` or `.` are the same in the environment")
                    .add_secondary(other_place);
            }
        }
        Some(entries)
    }
}
