//! The policies of a past run, with their texts.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Serialize;

use super::humanize::sanitize;
use super::notation::format_minute;

/// The policies of a past run, as it used them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunPoliciesView {
    /// Always `tagwarden.run-policies/1`.
    pub schema: &'static str,
    /// The id of the run.
    pub run: String,
    /// Its command.
    pub command: String,
    /// The time at which it began.
    pub started_at: Timestamp,
    /// The hash over all policy files; `None` if the run did not record it.
    pub revision: Option<String>,
    /// The git commit of their folder, if it was a checkout.
    pub commit: Option<String>,
    /// The files, by name.
    pub files: Vec<PolicyFileView>,
}

/// A policy file of a past run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyFileView {
    /// Its name, relative to the policies folder.
    pub file: String,
    /// The hash of its content.
    pub revision: String,
    /// The policies in it, as `name (mode)`.
    pub policies: Vec<String>,
    /// Its text; `None` if it is not stored.
    pub text: Option<String>,
}

impl RunPoliciesView {
    /// Renders the texts as one YAML document for each file, below a comment about it.
    #[must_use]
    pub fn text(&self) -> String {
        let commit = self.commit.as_ref().map_or_else(String::new, |commit| format!(", git commit {commit}"));
        let mut out = format!(
            "# Policies of run {} ({}) of {}{commit}\n",
            self.run,
            self.command,
            format_minute(self.started_at)
        );
        if self.files.is_empty() {
            out.push_str("# none on record: a restore needs none, and old versions did not record them\n");
        }
        for file in &self.files {
            let _ = writeln!(out, "---\n# {} ({})", sanitize(&file.file), sanitize(&file.policies.join(", ")));
            let _ = writeln!(out, "# {}", file.revision);
            if let Some(text) = &file.text {
                out.push_str(&with_line_end(text));
            } else {
                let commit = self.commit.as_deref().unwrap_or("COMMIT");
                let _ = writeln!(out, "# its text is not stored; look at `git show {commit}:PATH`");
            }
        }
        out
    }
}

fn with_line_end(text: &str) -> String {
    if text.is_empty() || text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stand_below_their_files_and_what_is_missing_says_so() {
        let file = |file: &str, text: Option<&str>| PolicyFileView {
            file: file.to_owned(),
            revision: "sha256:ab".to_owned(),
            policies: vec!["builds (enforce)".to_owned()],
            text: text.map(str::to_owned),
        };
        let view = RunPoliciesView {
            schema: "tagwarden.run-policies/1",
            run: "0193".to_owned(),
            command: "apply".to_owned(),
            started_at: "2026-11-23T03:00:00Z".parse().unwrap(),
            revision: Some("sha256:cd".to_owned()),
            commit: Some("cafe".to_owned()),
            files: vec![file("a.yaml", Some("policies: []")), file("b.yaml", None)],
        };
        let expected = "# Policies of run 0193 (apply) of 2026-11-23 03:00 UTC, git commit cafe\n\
                        ---\n# a.yaml (builds (enforce))\n# sha256:ab\npolicies: []\n\
                        ---\n# b.yaml (builds (enforce))\n# sha256:ab\n# its text is not stored; look at `git show cafe:PATH`\n";
        assert_eq!(view.text(), expected);
        let none = RunPoliciesView { files: Vec::new(), commit: None, ..view };
        assert!(none.text().contains("# none on record"), "{}", none.text());
    }
}
