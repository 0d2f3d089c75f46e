//! Files as of a revision, read from the objects of a repository: nothing is checked out, and nothing is fetched.

use std::path::Path;

use super::super::SourceError;
use super::repository::Repository;

/// Larger than any file that is read this way.
const MAX_FILE_SIZE: usize = 1 << 20;
/// More than any folder that is read this way has.
const MOST_FILES: usize = 10_000;
/// Digits of a commit in names of files.
const SHOWN_DIGITS: usize = 10;

/// The files of a folder as of a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevisionFiles {
    /// The revision as it was named.
    pub revision: String,
    /// Its commit.
    pub commit: String,
    /// The file or folder, from the top of the repository; empty for all of it.
    pub path: String,
    /// Each file below it, from the top of the repository, with its content.
    pub files: Vec<(String, Vec<u8>)>,
}

impl RevisionFiles {
    /// Returns the name of one of its files in messages.
    #[must_use]
    pub fn name_of(&self, file: &str) -> String {
        format!("{}:{file}", self.revision)
    }

    /// Returns the first digits of the commit.
    #[must_use]
    pub fn short_commit(&self) -> &str {
        self.commit.get(..SHOWN_DIGITS).unwrap_or(&self.commit)
    }
}

/// Reads the wanted files of a file or folder as of a revision of the repository around it. `REVISION:PATH` names another
/// path in the repository.
///
/// # Errors
/// Returns an error if there is no repository, the revision or the path in it is unknown, or objects are missing.
pub async fn read_revision(
    path: &Path,
    revision: &str,
    is_wanted: fn(&str) -> bool,
) -> Result<RevisionFiles, SourceError> {
    let real = std::fs::canonicalize(path).map_err(|error| {
        SourceError::new("missing", format!("{} cannot be read", path.display()))
            .caused_by(error)
            .with_help("correct the path")
    })?;
    let top = real.ancestors().find(|folder| folder.join(".git").exists()).ok_or_else(|| {
        SourceError::new("missing", format!("{} is not in a git repository", path.display()))
            .with_help("run it in a checkout, or name a file or folder with the old policies")
    })?;
    let repository = Repository::open(top).await?;
    let below = real.strip_prefix(top).map(Path::to_owned).unwrap_or_default();
    let (revision, path) = match revision.split_once(':') {
        Some((revision, path)) if path.starts_with("./") || path.starts_with("../") => {
            (revision, from_working_folder(top, path))
        }
        Some((revision, path)) => (revision, path.trim_matches('/').to_owned()),
        None => (revision, slashed(&below)),
    };
    let commit = find_commit(&repository, top, revision).await?;
    let mut found = RevisionFiles { revision: revision.to_owned(), commit, path, files: Vec::new() };
    let blobs = list(&repository, &found, is_wanted, &slashed(&below)).await?;
    found.files = read(&repository, &found, blobs).await?;
    Ok(found)
}

/// Returns a path from the top of the repository for one from the working folder, as git takes `./` and `../`.
fn from_working_folder(top: &Path, path: &str) -> String {
    let folder = std::fs::canonicalize(".").unwrap_or_default();
    let mut below = folder.strip_prefix(top).map(Path::to_owned).unwrap_or_default();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(below.pop()),
            part => below.push(part),
        }
    }
    slashed(&below)
}

fn slashed(path: &Path) -> String {
    path.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}

/// Returns the commit of a revision.
async fn find_commit(repository: &Repository, top: &Path, revision: &str) -> Result<String, SourceError> {
    if let Some(commit) = parse_revision(repository, revision).await {
        return Ok(commit);
    }
    let remote = format!("origin/{revision}");
    let meant = match parse_revision(repository, &remote).await {
        Some(_) => format!(", did you mean `{remote}`?"),
        None => String::new(),
    };
    let branch = revision.strip_prefix("origin/").unwrap_or(revision);
    let help = if repository.is_shallow() {
        // What counts from another commit is not a name that could be fetched.
        let fetch = if branch.starts_with(['@', '-']) || branch.contains(['~', '^', '@']) || branch == "HEAD" {
            "run `git fetch --deepen=50`".to_owned()
        } else {
            format!("run `git fetch origin {branch}` and name `FETCH_HEAD`")
        };
        format!(
            "this is a shallow clone: {fetch}, or fetch the whole history (`fetch-depth: 0` in GitHub Actions, \
             `GIT_DEPTH: 0` in GitLab CI, `fetchDepth: 0` in Azure Pipelines)"
        )
    } else {
        "name a commit, a tag, or a branch such as `origin/main`; what is not here must be fetched first".to_owned()
    };
    let message = format!("unknown revision `{revision}` in {}{meant}", top.display());
    Err(SourceError::new("missing", message).with_help(help))
}

/// Returns the commit of a revision, or `None` if it is unknown.
async fn parse_revision(repository: &Repository, revision: &str) -> Option<String> {
    // It would be an option.
    if revision.is_empty() || revision.starts_with('-') {
        return None;
    }
    let commit = format!("{revision}^{{commit}}");
    let lines = repository.lines(&["rev-parse", "--verify", "--quiet", &commit], String::new()).await.ok()?;
    let id = lines.into_iter().next()?;
    id.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(id)
}

/// Lists the wanted files with the ids of their contents. `present` is the path of the new files.
async fn list(
    repository: &Repository,
    revision: &RevisionFiles,
    is_wanted: fn(&str) -> bool,
    present: &str,
) -> Result<Vec<(String, String)>, SourceError> {
    let mut arguments = vec!["ls-tree", "-r", "-z", "--", &revision.commit];
    if !revision.path.is_empty() {
        arguments.push(&revision.path);
    }
    let mut running = repository.spawn(&arguments, String::new())?;
    let (mut blobs, mut is_known) = (Vec::new(), false);
    while let Some(entry) = running.read_until(0).await? {
        is_known = true;
        let parts = entry.split_once('\t').and_then(|(head, path)| {
            let mut words = head.split(' ');
            Some((words.next()?, words.next()?, words.next()?, path))
        });
        let Some((mode, kind, blob, path)) = parts else { return Err(repository.unexpected_output("ls-tree")) };
        let below = path.strip_prefix(&revision.path).unwrap_or(path);
        // A file that was named itself is wanted.
        let wanted = below.is_empty() || is_wanted(below.trim_start_matches('/'));
        match (kind, mode) {
            ("blob", "120000") if wanted => return Err(not_readable(revision, path, "a symbolic link")),
            ("commit", _) => return Err(not_readable(revision, path, "a submodule")),
            ("blob", _) if wanted => blobs.push((path.to_owned(), blob.to_owned())),
            _ => {}
        }
        if blobs.len() > MOST_FILES {
            let message = format!("{} has more than {MOST_FILES} files", revision.name_of(&revision.path));
            return Err(SourceError::new("too-large", message).with_help("name the folder of the policies"));
        }
    }
    running.finish().await?;
    if is_known {
        return Ok(blobs);
    }
    let message =
        format!("`{}` does not exist in `{}` ({})", revision.path, revision.revision, revision.short_commit());
    let help = if present != revision.path && present.ends_with(&format!("/{}", revision.path)) {
        format!("paths are from the top of the repository: write `{}:{present}`", revision.revision)
    } else {
        let here = &revision.revision;
        format!("paths are from the top of the repository; where it had another name, write `{here}:OTHER/PATH`")
    };
    Err(SourceError::new("missing", message).with_help(help))
}

fn not_readable(revision: &RevisionFiles, path: &str, what: &str) -> SourceError {
    SourceError::new("unreadable", format!("{} is {what}, which is not followed", revision.name_of(path)))
        .with_help("compare with a folder: `git worktree add ../old REVISION`")
}

/// Reads the contents of files.
async fn read(
    repository: &Repository,
    revision: &RevisionFiles,
    blobs: Vec<(String, String)>,
) -> Result<Vec<(String, Vec<u8>)>, SourceError> {
    if blobs.is_empty() {
        return Ok(Vec::new());
    }
    let input = blobs.iter().flat_map(|(_, blob)| [blob.as_str(), "\n"]).collect();
    let mut running = repository.spawn(&["cat-file", "--batch"], input)?;
    let mut files = Vec::new();
    for (path, blob) in blobs {
        let name = revision.name_of(&path);
        let Some(header) = running.read_until(b'\n').await? else {
            running.finish().await?;
            return Err(repository.unexpected_output("cat-file"));
        };
        let size = header.strip_prefix(&blob).and_then(|rest| rest.strip_prefix(" blob ")?.parse::<usize>().ok());
        let size = size.ok_or_else(|| repository.missing_object(&name))?;
        if size > MAX_FILE_SIZE {
            let message = format!("{name} is larger than {} KiB", MAX_FILE_SIZE >> 10);
            return Err(SourceError::new("too-large", message).with_help("name the folder of the policies"));
        }
        let bytes = running.read_bytes(size).await?;
        running.skip(1).await?;
        files.push((path, bytes));
    }
    running.finish().await?;
    Ok(files)
}
