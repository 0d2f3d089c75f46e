//! The git commit of a folder, read from its files: no process is started, and the repository's own configuration is
//! ignored.

use std::fs;
use std::path::{Path, PathBuf};

/// Maximum depth of symbolic references.
const MAX_REFERENCE_DEPTH: usize = 5;

/// Returns the commit of the checkout around a path; `None` if there is no checkout, or the commit is unknown. Later
/// edits are not detected.
pub(super) fn find_commit(path: &Path) -> Option<String> {
    let path = fs::canonicalize(path).ok()?;
    let git = path.ancestors().map(|folder| folder.join(".git")).find(|git| git.exists())?;
    let git = if git.is_dir() { git } else { linked_git_dir(&git)? };
    // The files that the worktrees of a repository share.
    let common = fs::read_to_string(git.join("commondir")).map_or_else(|_| git.clone(), |text| git.join(text.trim()));
    let mut found = fs::read_to_string(git.join("HEAD")).ok()?;
    for _ in 0..MAX_REFERENCE_DEPTH {
        let Some(name) = found.strip_prefix("ref:") else { break };
        found = resolve_reference(&git, &common, name.trim())?;
    }
    let commit = found.trim();
    let is_hash = matches!(commit.len(), 40 | 64) && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then(|| commit.to_ascii_lowercase())
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
