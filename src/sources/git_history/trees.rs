//! The versions of files in the trees of some commits.

use std::collections::{HashMap, HashSet};

use super::super::SourceError;
use super::commits::Commit;
use super::repository::Repository;
use super::{glob_set, unused};

/// A version of a file.
#[derive(Debug)]
pub(super) struct FileVersion {
    /// The file, from the top of the repository.
    pub(super) path: Box<str>,
    /// The id of its content.
    pub(super) blob: Box<str>,
    /// The position of the newest commit that has it.
    pub(super) commit: usize,
}

/// A pair of trees, the first of which is read before the second.
#[derive(Debug)]
struct TreeDiff<'c> {
    from: &'c str,
    to: &'c str,
    /// The position of the commit of the second tree.
    commit: usize,
}

/// Finds all versions of the files that globs match, in the commits' trees: each once, those of newer commits first.
pub(super) async fn versions(
    repository: &Repository,
    commits: &[Commit],
    globs: &[String],
) -> Result<Vec<FileVersion>, SourceError> {
    let paths = glob_set("paths", globs)?;
    let mut used = vec![false; globs.len()];
    let empty = repository.lines(&["hash-object", "-t", "tree", "--stdin"], String::new()).await?;
    let steps = diff_order(empty.first().map_or("", String::as_str), commits);
    let input = steps.iter().flat_map(|step| [step.from, " ", step.to, "\n"]).collect();
    let arguments = ["diff-tree", "--stdin", "-r", "-z", "--raw", "--no-renames", "--no-abbrev"];
    let mut running = repository.spawn(&arguments, input)?;
    let mut steps = steps.iter();
    let mut commit = None;
    let mut found: HashMap<(Box<str>, Box<str>), usize> = HashMap::new();
    while let Some(first) = running.peek().await? {
        if first != b':' {
            // The line before the differences of the next two trees.
            running.read_until(b'\n').await?;
            commit = steps.next().map(|step| step.commit);
            continue;
        }
        let entry = running.read_until(0).await?.unwrap_or_default();
        let path = running.read_until(0).await?;
        let (Some(commit), Some((mode, blob)), Some(path)) = (commit, parse_entry(&entry), path) else {
            return Err(repository.unexpected_output("diff-tree"));
        };
        // Links and submodules have no text, and a deleted file is in the other tree.
        if !mode.starts_with("100") {
            continue;
        }
        let mut is_named = globs.is_empty();
        for glob in paths.matches(&path) {
            used[glob] = true;
            is_named = true;
        }
        if is_named {
            found.entry((path.into(), blob.into())).or_insert(commit);
        }
    }
    running.finish().await?;
    if steps.next().is_some() {
        return Err(repository.unexpected_output("diff-tree"));
    }
    if let Some(glob) = unused(globs, &used) {
        let message = format!("no file of these commits matches `{glob}`; correct `paths`, or name other branches");
        return Err(SourceError::new("missing", message));
    }
    let version = |((path, blob), commit)| FileVersion { path, blob, commit };
    let mut versions: Vec<FileVersion> = found.into_iter().map(version).collect();
    versions.sort_by(|a, b| (a.commit, &a.path, &a.blob).cmp(&(b.commit, &b.path, &b.blob)));
    Ok(versions)
}

/// Returns the order in which all trees are read by their differences: each from one that was read before, so that
/// nothing is missed, and from that of a child if there is one, so that there is little to read.
fn diff_order<'c>(empty: &'c str, commits: &'c [Commit]) -> Vec<TreeDiff<'c>> {
    let mut read: HashSet<&str> = HashSet::new();
    let mut children: HashMap<&str, &str> = HashMap::new();
    let mut last = empty;
    let mut steps = Vec::new();
    for (commit, Commit { id, tree, parents, .. }) in commits.iter().enumerate() {
        for parent in parents {
            children.entry(parent).or_insert(tree);
        }
        if read.insert(tree) {
            let from = children.get(&**id).copied().unwrap_or(last);
            steps.push(TreeDiff { from, to: tree, commit });
            last = tree;
        }
    }
    steps
}

/// Parses the mode and the id of the second content in `:mode mode id id status`.
fn parse_entry(entry: &str) -> Option<(&str, &str)> {
    let mut fields = entry.split(' ').skip(1);
    let mode = fields.next()?;
    Some((mode, fields.nth(1)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tree_is_read_once_and_from_one_that_was_read_before() {
        let commit = |line: &str| Commit::read(line).expect("a commit");
        // A merge of a branch, a revert to an earlier tree, and a tag that no branch reaches.
        let commits = [
            commit("m T5 50 b a"),
            commit("b T4 40 r"),
            commit("a T3 30 r"),
            commit("r T2 20 o"),
            commit("o T3 10"),
            commit("t T1 5 gone"),
        ];
        let steps: Vec<(&str, &str, usize)> =
            diff_order("E", &commits).iter().map(|step| (step.from, step.to, step.commit)).collect();
        assert_eq!(steps, [("E", "T5", 0), ("T5", "T4", 1), ("T5", "T3", 2), ("T4", "T2", 3), ("T2", "T1", 5)]);
    }

    #[test]
    fn the_second_content_of_an_entry_counts() {
        assert_eq!(parse_entry(":100644 100755 aaa bbb M"), Some(("100755", "bbb")));
        assert_eq!(parse_entry(":100644"), None);
    }
}
