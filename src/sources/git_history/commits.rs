//! Selection of the commits whose files count: the last ones of branches, and those with release tags.

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;

use super::super::SourceError;
use super::repository::{GitProcess, Repository};
use super::{GitHistorySettings, glob_set, unused};

/// The relevant parts of a commit.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) id: String,
    /// The id of its tree.
    pub(super) tree: String,
    /// The ids of its parents; empty if they were not fetched.
    pub(super) parents: Vec<String>,
    /// The committer's time, in seconds.
    time: i64,
}

/// The selected commits.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// Newest first, each once.
    pub(super) commits: Vec<Commit>,
    /// The full names of the branches that led to them.
    pub(super) refs: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// A branch or tag.
#[derive(Debug)]
struct Ref {
    /// Its full name, such as `refs/heads/main`.
    name: String,
    /// The id of the object that it names.
    id: String,
    /// False if it names something other than a commit.
    is_commit: bool,
}

/// The output format of `git rev-list` that [`Commit::read`] parses.
const FORMAT: &str = "--format=%H %T %ct %P";

impl Commit {
    /// Parses the output of [`FORMAT`].
    pub(super) fn read(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace().map(str::to_owned);
        let (id, tree, time) = (words.next()?, words.next()?, words.next()?);
        Some(Self { id, tree, time: time.parse().ok()?, parents: words.collect() })
    }
}

impl Ref {
    fn read(line: &str) -> Option<Self> {
        let mut words = line.splitn(5, ' ');
        let (id, kind, tagged, symref) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let name = words.next()?;
        // `origin/HEAD` is another name of one of the other branches.
        if name.starts_with("refs/remotes/") && !symref.is_empty() {
            return None;
        }
        // A tag may name another tag; git follows all of them.
        let is_commit = kind == "commit" || matches!(tagged, "commit" | "tag");
        Some(Self { name: name.to_owned(), id: id.to_owned(), is_commit })
    }

    /// Returns the names that globs are matched against.
    fn names(&self) -> Vec<&str> {
        let name = &*self.name;
        let mut names = vec![name];
        if let Some(short) = name.strip_prefix("refs/heads/").or_else(|| name.strip_prefix("refs/tags/")) {
            names.push(short);
        }
        if let Some(remote) = name.strip_prefix("refs/remotes/") {
            names.push(remote);
            names.extend(remote.split_once('/').map(|(_, branch)| branch));
        }
        names
    }
}

/// Selects the commits that the settings name.
pub(super) async fn select(
    repository: &Repository,
    settings: &GitHistorySettings,
    now: Timestamp,
) -> Result<Selection, SourceError> {
    let branches = if settings.branches.is_empty() {
        vec![head(repository).await?]
    } else {
        refs("branches", "branch", &["refs/heads", "refs/remotes"], &settings.branches, repository).await?
    };
    let cut_off: HashSet<String> = repository.shallow_commits().await?.into_iter().collect();
    let mut selection = Selection::default();
    if let Some(count) = settings.commits {
        for branch in &branches {
            selection.commits.extend(last_commits(repository, branch, count, &cut_off).await?);
        }
    }
    if let Some(since) = settings.since {
        selection.commits.extend(recent_commits(repository, &branches, since, now, &cut_off).await?);
    }
    selection.refs = branches.into_iter().map(|branch| branch.name).collect();
    if !settings.tags.is_empty() {
        let tags = refs("tags", "tag", &["refs/tags"], &settings.tags, repository).await?;
        let (commits, others): (Vec<Ref>, Vec<Ref>) = tags.into_iter().partition(|tag| tag.is_commit);
        selection
            .notes
            .extend(others.iter().map(|tag| format!("{} names no commit, so nothing was read from it", tag.name)));
        if !commits.is_empty() {
            let input = commits.iter().flat_map(|tag| [&*tag.id, "^{commit}\n"]).collect();
            selection.commits.extend(list(repository, &["--no-walk", "--stdin"], input).await?);
        }
    }
    let mut seen = HashSet::new();
    selection.commits.retain(|commit| seen.insert(commit.id.clone()));
    selection.commits.sort_by_key(|commit| std::cmp::Reverse(commit.time));
    Ok(selection)
}

async fn head(repository: &Repository) -> Result<Ref, SourceError> {
    let lines = repository.lines(&["rev-parse", "--verify", "HEAD^{commit}"], String::new()).await;
    let id = lines.ok().and_then(|lines| lines.into_iter().next()).ok_or_else(|| {
        let message = "nothing is checked out: `HEAD` names no commit; name branches with `branches`".to_owned();
        SourceError::new("missing", message)
    })?;
    Ok(Ref { name: "HEAD".to_owned(), id, is_commit: true })
}

/// Returns the branches or tags below `folders` that globs match. A branch counts both locally and as fetched from each
/// remote: either may be behind.
async fn refs(
    key: &str,
    what: &str,
    folders: &[&str],
    globs: &[String],
    repository: &Repository,
) -> Result<Vec<Ref>, SourceError> {
    let set = glob_set(key, globs)?;
    let mut arguments =
        vec!["for-each-ref", "--format=%(objectname) %(objecttype) %(*objecttype) %(symref) %(refname)"];
    arguments.extend(folders);
    let mut found: Vec<Ref> =
        repository.lines(&arguments, String::new()).await?.iter().filter_map(|line| Ref::read(line)).collect();
    let mut used = vec![false; globs.len()];
    found.retain(|one| {
        let mut is_named = false;
        for glob in one.names().into_iter().flat_map(|name| set.matches(name)) {
            used[glob] = true;
            is_named = true;
        }
        is_named
    });
    if let Some(glob) = unused(globs, &used) {
        let message = format!("no {what} matches `{glob}`; fetch it, or correct `{key}`");
        return Err(SourceError::new("missing", message));
    }
    Ok(found)
}

/// Returns the last commits of a branch, by the committer's time and along all parents.
async fn last_commits(
    repository: &Repository,
    branch: &Ref,
    count: u32,
    cut_off: &HashSet<String>,
) -> Result<Vec<Commit>, SourceError> {
    let commits = list(repository, &[&format!("--max-count={count}"), &branch.id], String::new()).await?;
    // In a shallow clone, a requested commit may be missing behind any of them except the last.
    let all_but_last = usize::try_from(count).unwrap_or(usize::MAX).saturating_sub(1);
    if commits.iter().take(all_but_last).any(|commit| cut_off.contains(&commit.id)) {
        let name = branch.names().pop().unwrap_or_default();
        return Err(shallow_error(&format!("the last {count} commits of {name} (it has {})", commits.len())));
    }
    Ok(commits)
}

/// Returns the commits of some branches since a time, and for each the one that was current at that time.
async fn recent_commits(
    repository: &Repository,
    branches: &[Ref],
    since: Duration,
    now: Timestamp,
    cut_off: &HashSet<String>,
) -> Result<Vec<Commit>, SourceError> {
    let start = now.checked_sub(since).map_or(i64::MIN, Timestamp::as_second);
    let input = branches.iter().flat_map(|branch| [&*branch.id, "\n"]).collect();
    let mut commits = Vec::new();
    // `--since` would end the walk at a commit whose time is wrong.
    let mut running = repository.spawn(&["rev-list", "--stdin", FORMAT], input)?;
    while let Some(commit) = next_commit(&mut running, repository).await? {
        if commit.time < start {
            continue;
        }
        if cut_off.contains(&commit.id) {
            let since = humantime::format_duration(since);
            return Err(shallow_error(&format!("the last {since} (its oldest commit is younger)")));
        }
        commits.push(commit);
    }
    running.finish().await?;
    // No commit is older than the epoch.
    if start > 0 {
        let before = format!("--min-age={}", start - 1);
        for branch in branches {
            let arguments: [&str; 4] = ["--first-parent", "--max-count=1", &before, &branch.id];
            commits.extend(list(repository, &arguments, String::new()).await?);
        }
    }
    Ok(commits)
}

async fn list(repository: &Repository, arguments: &[&str], input: String) -> Result<Vec<Commit>, SourceError> {
    let arguments = [&["rev-list", FORMAT][..], arguments].concat();
    let mut running = repository.spawn(&arguments, input)?;
    let mut commits = Vec::new();
    while let Some(commit) = next_commit(&mut running, repository).await? {
        commits.push(commit);
    }
    running.finish().await?;
    Ok(commits)
}

/// Returns the next commit of `git rev-list`, or `None` after the last.
async fn next_commit(running: &mut GitProcess<'_>, repository: &Repository) -> Result<Option<Commit>, SourceError> {
    while let Some(line) = running.read_until(b'\n').await? {
        // Each commit is preceded by this line.
        if line.starts_with("commit ") {
            continue;
        }
        return Commit::read(&line).map(Some).ok_or_else(|| repository.unexpected_output("rev-list"));
    }
    Ok(None)
}

/// Returns an error for a clone whose history ends too early; `asked` is the missing part.
fn shallow_error(asked: &str) -> SourceError {
    let message = format!(
        "the clone is shallow and does not reach {asked}; run `git fetch --unshallow` in it, or let whoever clones it \
         fetch more (`--depth`, in pipelines `fetch-depth: 0` or `fetchDepth: 0`)"
    );
    SourceError::new("shallow", message)
}
