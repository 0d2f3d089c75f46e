//! The git commit of a folder, read from its files: no process is started, and the repository's own configuration is
//! ignored.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::git_objects::{CommitOrder, GitObjects};

/// Maximum depth of symbolic references.
const MAX_REFERENCE_DEPTH: usize = 5;

/// Returns the commit of the checkout around a path; `None` if there is no checkout, or the commit is unknown. Later
/// edits are not detected.
#[must_use]
pub fn find_commit(path: &Path) -> Option<String> {
    let (git, common) = git_folders(path)?;
    let mut found = fs::read_to_string(git.join("HEAD")).ok()?;
    for _ in 0..MAX_REFERENCE_DEPTH {
        let Some(name) = found.strip_prefix("ref:") else { break };
        found = resolve_reference(&git, &common, name.trim())?;
    }
    let commit = found.trim();
    let is_hash = matches!(commit.len(), 40 | 64) && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then(|| commit.to_ascii_lowercase())
}

/// Returns the committer's time of a commit of the checkout around a path; `None` if it cannot be read.
#[must_use]
pub fn commit_time(path: &Path, commit: &str) -> Option<Timestamp> {
    let (_, common) = git_folders(path)?;
    Some(GitObjects::new(&common).commit(commit)?.time)
}

/// Compares two commits by the history in the checkout around a path; `None` if neither is known to follow the other:
/// one of them was not fetched, or they are of different branches.
#[must_use]
pub fn compare_commits(path: &Path, first: &str, second: &str) -> Option<CommitOrder> {
    let (_, common) = git_folders(path)?;
    GitObjects::new(&common).compare(first, second)
}

/// Returns the git folder of the checkout around a path, and the one that the worktrees of its repository share.
fn git_folders(path: &Path) -> Option<(PathBuf, PathBuf)> {
    let path = fs::canonicalize(path).ok()?;
    let git = path.ancestors().map(|folder| folder.join(".git")).find(|git| git.exists())?;
    let git = if git.is_dir() { git } else { linked_git_dir(&git)? };
    let common = fs::read_to_string(git.join("commondir")).map_or_else(|_| git.clone(), |text| git.join(text.trim()));
    Some((git, common))
}

/// Returns the folder that the `.git` file of a worktree or submodule refers to.
fn linked_git_dir(file: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(file).ok()?;
    Some(file.parent()?.join(text.strip_prefix("gitdir:")?.trim()))
}

/// Resolves a reference: its own file, else its line in the packed ones.
fn resolve_reference(git: &Path, common: &Path, name: &str) -> Option<String> {
    if !name.starts_with("refs/") || name.contains("..") {
        return None;
    }
    if let Some(loose) = [git, common].iter().find_map(|folder| fs::read_to_string(folder.join(name)).ok()) {
        return Some(loose);
    }
    let packed = fs::read_to_string(common.join("packed-refs")).ok()?;
    packed.lines().find_map(|line| line.split_once(' ').filter(|(_, of)| *of == name).map(|(hash, _)| hash.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "1111111111111111111111111111111111111111";
    const SECOND: &str = "2222222222222222222222222222222222222222";

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    fn git(folder: &Path, time: &str, words: &[&str]) -> String {
        let mut command = std::process::Command::new("git");
        command.arg("-C").arg(folder).args(["-c", "user.name=ada", "-c", "user.email=ada@example.org"]).args(words);
        command.env("GIT_COMMITTER_DATE", time).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Loose or packed, whole or in a clone without history.
    #[test]
    fn commits_are_dated_and_compared_however_git_holds_them() {
        for format in ["sha1", "sha256"] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("policies");
            fs::create_dir(&path).unwrap();
            git(&path, "", &["init", "--quiet", "--object-format", format, "--initial-branch=main"]);
            let time = |number: usize| format!("2026-11-{:02}T08:00:00Z", number + 1);
            let long = "a reason that deltas have in common\n".repeat(20);
            let commit = |number: usize| {
                fs::write(path.join("a.yaml"), format!("# {number}\n")).unwrap();
                git(&path, "", &["add", "."]);
                git(&path, &time(number), &["commit", "--quiet", "-m", &format!("{long}{number}")]);
                git(&path, "", &["rev-parse", "HEAD"])
            };
            let line: Vec<String> = (0..6).map(commit).collect();
            git(&path, "", &["checkout", "--quiet", "-b", "other", &line[2]]);
            let other = commit(9);
            let shallow = folder.path().join("shallow");
            let from = format!("file://{}", path.display());
            git(folder.path(), "", &["clone", "--quiet", "--depth=1", "--branch=main", &from, "shallow"]);
            for packed in [false, true] {
                if packed {
                    git(&path, "", &["repack", "-adfq", "--depth=20", "--window=20"]);
                }
                for (number, commit) in line.iter().enumerate() {
                    assert_eq!(commit_time(&path, commit), Some(time(number).parse().unwrap()), "{packed} {number}");
                }
                let rows = [
                    (&line[5], &line[0], Some(CommitOrder::Newer)),
                    (&line[0], &line[5], Some(CommitOrder::Older)),
                    (&other, &line[1], Some(CommitOrder::Newer)),
                    (&other, &line[5], None),
                    (&line[3], &line[3], None),
                ];
                for (first, second, expected) in rows {
                    assert_eq!(compare_commits(&path, first, second), expected, "{packed} {first} {second}");
                }
            }
            assert_eq!(commit_time(&shallow, &line[5]), Some(time(5).parse().unwrap()));
            assert_eq!(commit_time(&shallow, &line[4]), None);
            assert_eq!(compare_commits(&shallow, &line[5], &line[4]), Some(CommitOrder::Newer), "its parent is named");
            assert_eq!(compare_commits(&shallow, &line[5], &line[3]), None);
        }
    }

    #[test]
    fn the_commit_of_a_checkout_is_found_however_git_holds_it() {
        let hash = |text: &str| format!("{text}\n");
        let packed = format!("# pack-refs with: peeled\n{FIRST} refs/heads/main\n^{SECOND}\n{SECOND} refs/tags/v1\n");
        let long = "ab".repeat(32);
        for (files, expected) in [
            (vec![(".git/HEAD", hash(FIRST))], Some(FIRST)),
            (vec![(".git/HEAD", hash(&long))], Some(&*long)),
            (vec![(".git/HEAD", hash("ref: refs/heads/main")), (".git/refs/heads/main", hash(SECOND))], Some(SECOND)),
            (vec![(".git/HEAD", hash("ref: refs/heads/main")), (".git/packed-refs", packed.clone())], Some(FIRST)),
            // Loose references are newer than packed ones.
            (
                vec![
                    (".git/HEAD", hash("ref: refs/heads/main")),
                    (".git/refs/heads/main", hash(SECOND)),
                    (".git/packed-refs", packed.clone()),
                ],
                Some(SECOND),
            ),
            (
                vec![
                    (".git/HEAD", hash("ref: refs/heads/a")),
                    (".git/refs/heads/a", hash("ref: refs/heads/main")),
                    (".git/packed-refs", packed.clone()),
                ],
                Some(FIRST),
            ),
            // A worktree: its own HEAD, the references of the repository.
            (
                vec![
                    (".git", hash("gitdir: main/.git/worktrees/w")),
                    ("main/.git/worktrees/w/HEAD", hash("ref: refs/heads/main")),
                    ("main/.git/worktrees/w/commondir", hash("../..")),
                    ("main/.git/refs/heads/main", hash(SECOND)),
                ],
                Some(SECOND),
            ),
            (vec![(".git/HEAD", hash("ref: refs/heads/unborn"))], None),
            (vec![(".git/HEAD", hash("ref: refs/../../secret")), ("secret", hash(FIRST))], None),
            (vec![(".git/HEAD", hash("ref: refs/heads/a")), (".git/refs/heads/a", hash("ref: refs/heads/a"))], None),
            (vec![(".git/HEAD", hash("no hash"))], None),
            (vec![(".git", hash("nothing that git writes"))], None),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
            write(folder.path(), &files);
            write(folder.path(), &[("deploy/policies/a.yaml", "")]);
            for path in ["deploy/policies", "deploy/policies/a.yaml"] {
                assert_eq!(find_commit(&folder.path().join(path)).as_deref(), expected, "{files:?}");
            }
        }
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(find_commit(folder.path()), None, "unless the folder of temporary files is a checkout");
    }
}
