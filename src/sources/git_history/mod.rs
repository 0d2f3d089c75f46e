//! The history of a git repository: images that its recent commits name, and so those that a rollback to one of them
//! would restore.
//!
//! The files are read from the repository's objects, not from the working tree. Nothing is fetched, and nothing is
//! written.

mod commits;
mod contents;
mod repository;
mod revision;
mod trees;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use jiff::Timestamp;

use super::file_version::{COMMIT_DIGITS, file_of, version_of};
use super::text::{MentionEffect, TextEvidence, TextSettings};
use super::{Source, SourceError, SourceEvidence, truncate_messages};
use crate::domain::{Claim, Holder, UnresolvedReference};
use commits::Commit;
use repository::Repository;
pub use revision::{RevisionFiles, read_revision};

/// The part of a history that counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GitHistorySettings {
    /// The top folder of a checkout, or a bare repository.
    pub path: PathBuf,
    /// Globs of the files in it, from its root; empty means all text files.
    pub paths: Vec<String>,
    /// Globs of branches; empty means the commit that is checked out.
    pub branches: Vec<String>,
    /// Globs of tags whose commits count, however old; empty means none.
    pub tags: Vec<String>,
    /// The number of recent commits that count on each branch.
    pub commits: Option<u32>,
    /// The period whose commits count, with the commit before it, which was current when the period began.
    pub since: Option<Duration>,
}

/// References to known hosts in the history of a repository.
#[derive(Debug, Clone)]
pub struct GitHistory {
    settings: GitHistorySettings,
    hosts: Vec<String>,
    texts: TextSettings,
}

/// Files that a note names, before it counts the others.
const MOST_FILES: usize = 5;

impl GitHistory {
    /// Creates a source for that history. It reads anew on each call, for references to `hosts`: those of the
    /// registries, aliases included.
    #[must_use]
    pub fn new(settings: GitHistorySettings, hosts: Vec<String>, texts: TextSettings) -> Self {
        Self { settings, hosts, texts }
    }
}

#[async_trait]
impl Source for GitHistory {
    /// Dates the evidence by the last fetch, since an abandoned clone has recent commits for a while. Without any
    /// fetch, it is the time at which a branch last changed.
    async fn query(&self, now: Timestamp) -> Result<SourceEvidence, SourceError> {
        let repository = Repository::open(&self.settings.path).await?;
        let selection = commits::select(&repository, &self.settings, now).await?;
        let versions = trees::versions(&repository, &selection.commits, &self.settings.paths).await?;
        let contents = contents::ContentReader::new(self.hosts.clone(), self.texts.clone());
        let read = contents.read(&repository, &selection.commits, &versions).await?;
        let TextEvidence { claims, unresolved, texts, report_only_texts: reported, notes, problems, .. } =
            read.evidence;
        // Commits cannot be corrected afterwards, and their words protect the tags that they may name. Without that
        // protection the unreadable file would be ignored.
        if !problems.is_empty() && self.texts.mentions != MentionEffect::Protect {
            let mut message = truncate_messages(problems).join("\n");
            message += "\nkeep these files out of `paths`, or leave out `mentions`, so that their words protect tags";
            return Err(SourceError::new("malformed", message));
        }
        let mut all = selection.notes;
        all.extend(files_note("not text, so nothing was read in them", &read.binaries));
        all.extend(files_note("kept in Git LFS, so their content is not in the repository", &read.pointers));
        all.extend(truncate_messages(newest_notes(problems.into_iter().chain(notes))));
        let ages = ages(&selection.commits);
        Ok(SourceEvidence {
            claims: newest_claims(claims, &ages),
            unresolved: newest_unresolved(unresolved, &ages),
            texts,
            report_only_texts: reported,
            as_of: repository.fetched_at(&selection.refs).await,
            notes: all,
            ended: Vec::new(),
        })
    }
}

/// Returns the name of a version of a file.
fn name_of(file: &str, commit: &Commit) -> String {
    format!("{file}@{}", short(commit))
}

fn short(commit: &Commit) -> &str {
    commit.id.get(..COMMIT_DIGITS).unwrap_or(&commit.id)
}

/// Returns the positions of commits, newest first, by the digits in the names of texts.
fn ages(commits: &[Commit]) -> HashMap<&str, usize> {
    commits.iter().enumerate().rev().map(|(age, commit)| (short(commit), age)).collect()
}

/// Drops the claims that a newer version of the same file makes, too, to avoid repetition.
fn newest_claims(mut claims: Vec<Claim>, ages: &HashMap<&str, usize>) -> Vec<Claim> {
    claims.sort_by_key(|claim| age(&claim.holder, ages));
    let mut seen = BTreeSet::new();
    claims.retain(|claim| seen.insert(Claim { holder: file(&claim.holder), ..claim.clone() }));
    claims
}

/// Does the same for unresolved references.
fn newest_unresolved(mut open: Vec<UnresolvedReference>, ages: &HashMap<&str, usize>) -> Vec<UnresolvedReference> {
    open.sort_by_key(|one| age(&one.holder, ages));
    let mut seen = BTreeSet::new();
    open.retain(|one| seen.insert(UnresolvedReference { holder: file(&one.holder), ..one.clone() }));
    open
}

fn age(holder: &Holder, ages: &HashMap<&str, usize>) -> usize {
    let Holder::File { path, .. } = holder else { return 0 };
    version_of(path).and_then(|(_, commit)| ages.get(commit).copied()).unwrap_or_default()
}

/// Returns a place without its version.
fn file(holder: &Arc<Holder>) -> Arc<Holder> {
    match &**holder {
        Holder::File { path, .. } => Arc::new(Holder::File { path: file_of(path).to_owned(), line: 0 }),
        _ => Arc::clone(holder),
    }
}

/// Drops the notes on a version of a file that repeat those on a newer one.
fn newest_notes(notes: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    notes.filter(|note| seen.insert(without_version(note))).collect()
}

/// Returns a note without commit and line: `a.yaml@1a2b3c4d5e:7: what` is `a.yaml` and `what`.
fn without_version(note: &str) -> (String, String) {
    let split = note.match_indices(':').find_map(|(at, _)| {
        let (file, _) = version_of(&note[..at])?;
        Some((file, note[at + 1..].trim_start_matches(|c: char| c.is_ascii_digit())))
    });
    let (file, what) = split.unwrap_or(("", note));
    (file.to_owned(), what.to_owned())
}

/// Returns a note about some files, or `None`.
fn files_note(what: &str, files: &BTreeSet<String>) -> Option<String> {
    let shown: Vec<&str> = files.iter().take(MOST_FILES).map(String::as_str).collect();
    let more = files.len().saturating_sub(shown.len());
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    (!files.is_empty()).then(|| format!("{what}: {}{more}", shown.join(", ")))
}

/// Compiles globs of files, branches or tags, in which `*` does not cross a `/`.
fn glob_set(key: &str, globs: &[String]) -> Result<GlobSet, SourceError> {
    let invalid = |error: globset::Error| {
        SourceError::new("settings", format!("`{key}`: invalid glob"))
            .caused_by(error)
            .with_help("correct it in the settings")
    };
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        let plain = glob.strip_prefix("./").unwrap_or(glob);
        set.add(GlobBuilder::new(plain).literal_separator(true).build().map_err(invalid)?);
    }
    set.build().map_err(invalid)
}

/// Returns the first glob without a match.
fn unused<'g>(globs: &'g [String], used: &[bool]) -> Option<&'g String> {
    globs.iter().zip(used).find(|(_, used)| !**used).map(|(glob, _)| glob)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_told_of_the_newest_version() {
        let notes = [
            "a.yaml@1a2b3c4d5e:7: not YAML: at 3",
            "a.yaml@2a2b3c4d5e:9: not YAML: at 3",
            "b.yaml@2a2b3c4d5e:9: not YAML: at 3",
            "a.yaml@2a2b3c4d5e:9: not YAML: at 4",
            "no place",
            "no place",
        ];
        let told = newest_notes(notes.into_iter().map(str::to_owned));
        assert_eq!(told, [notes[0], notes[2], notes[3], notes[4]]);
    }

    #[test]
    fn a_note_about_files_names_some_of_them() {
        let files = |count: u8| (0..count).map(|number| format!("{number}.png")).collect::<BTreeSet<_>>();
        assert_eq!(files_note("x", &files(0)), None);
        assert_eq!(files_note("x", &files(2)).as_deref(), Some("x: 0.png, 1.png"));
        assert_eq!(files_note("x", &files(7)).as_deref(), Some("x: 0.png, 1.png, 2.png, 3.png, 4.png and 2 more"));
    }
}
