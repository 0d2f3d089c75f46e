//! `[sources.<name>]` of the kind `git-history`.

use std::path::PathBuf;

use globset::GlobBuilder;

use super::reader::SettingsReader;
use crate::policy::{Entry, Fields, Node, fields};
use crate::sources::{GitHistorySettings, SourceKind};

/// Most commits of a branch: `since` is the better setting for more.
const MOST_COMMITS: u32 = 1_000_000;

/// Parses the history of a repository by its keys.
pub(super) fn git_history<'a>(
    fields: &mut Fields<'a>,
    entry: &'a Entry,
    reader: &mut SettingsReader,
) -> Option<SourceKind> {
    let path = fields.get("path").map(|node| folder(node, reader));
    // Reported beside a `paths` as well, which would look like a misspelling.
    if path.is_none() {
        reader
            .problems
            .add(&entry.at, "a source without `path`")
            .help("name the checkout or the bare repository: path = \"…\"; `paths` are the files in it");
    }
    let mut globs = |key: &'static str| fields.get(key).map_or(Some(Vec::new()), |node| globs(key, node, reader));
    let (paths, branches, tags) = (globs("paths"), globs("branches"), globs("tags"));
    let commits =
        fields.get("commits").map(|node| fields::integer("commits", node, 1..=MOST_COMMITS, &mut reader.problems));
    let since = fields.get("since").map(|node| fields::duration("since", node, &mut reader.problems));
    if commits.is_none() && since.is_none() {
        reader
            .problems
            .add(&entry.at, "a source without `commits` or `since`")
            .help("write commits = 50, since = \"30d\", or both: the one that reaches further back counts");
        return None;
    }
    Some(SourceKind::GitHistory(GitHistorySettings {
        path: path??,
        paths: paths?,
        branches: branches?,
        tags: tags?,
        commits: commits.map_or(Some(None), |number| number.map(Some))?,
        since: since.map_or(Some(None), |time| time.map(Some))?,
    }))
}

fn folder(node: &Node, reader: &mut SettingsReader) -> Option<PathBuf> {
    let written = fields::text("path", node, &mut reader.problems)?;
    if written.contains("://") || written.starts_with("git@") {
        // The text is not shown: it may contain a password.
        reader
            .problems
            .add(&node.at, "`path` must be a folder on this machine, not an address")
            .help("clone the repository, and fetch into the clone before each run");
        return None;
    }
    Some(reader.folder.join(written))
}

/// Parses globs of files, branches or tags, unchanged.
fn globs(key: &str, node: &Node, reader: &mut SettingsReader) -> Option<Vec<String>> {
    let (texts, mut sound) = fields::texts(key, node, &mut reader.problems)?;
    let mut globs = Vec::new();
    for (text, at) in texts {
        if let Err(error) = GlobBuilder::new(&text).literal_separator(true).build() {
            reader.problems.add(&at, format!("invalid glob `{text}`: {}", error.kind()));
            sound = false;
        }
        globs.push(text);
    }
    sound.then_some(globs)
}
