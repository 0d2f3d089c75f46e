//! Runs `git` in a repository, so that neither the environment nor the repository's own configuration can start a
//! program, replace objects, or reach a network.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::SystemTime;

use jiff::Timestamp;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;

use super::super::SourceError;

/// The folders in which `git` is searched, instead of those of the environment.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The whole environment of `git`.
const ENVIRONMENT: [(&str, &str); 9] = [
    ("PATH", PATH),
    // Its messages are compared with those in this language.
    ("LC_ALL", "C"),
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    // A partial clone would fetch missing objects, by a command from its own configuration.
    ("GIT_NO_LAZY_FETCH", "1"),
    ("GIT_ALLOW_PROTOCOL", "none"),
    // A replacement object is not the one that was deployed.
    ("GIT_NO_REPLACE_OBJECTS", "1"),
    ("GIT_OPTIONAL_LOCKS", "0"),
    ("GIT_TERMINAL_PROMPT", "0"),
];

/// Settings that take precedence over the repository's own.
const CONFIGURATION: [&str; 3] = ["core.fsmonitor=false", "core.hooksPath=/dev/null", "protocol.allow=never"];

/// Messages of `git` beyond this many bytes are not read.
const MOST_MESSAGES: u64 = 64 << 10;

/// A repository on this machine: a checkout, or a bare one.
#[derive(Debug)]
pub(super) struct Repository {
    /// The folder that the settings name, without links.
    folder: PathBuf,
    /// The folder of the files that belong to this checkout alone, such as `HEAD`.
    git_dir: PathBuf,
    /// The folder of the files that all checkouts of the repository share, such as its branches.
    common_dir: PathBuf,
    /// True if the history is truncated because no more of it was fetched.
    is_shallow: bool,
}

/// A running `git` process, which is killed on drop.
pub(super) struct GitProcess<'r> {
    repository: &'r Repository,
    child: Child,
    output: BufReader<ChildStdout>,
    stderr: JoinHandle<Vec<u8>>,
    subcommand: String,
}

impl Repository {
    /// Finds the repository in a folder, which is the top of a checkout or a bare repository.
    pub(super) async fn open(path: &Path) -> Result<Self, SourceError> {
        let folder = tokio::fs::canonicalize(path).await.map_err(|error| {
            SourceError::new("missing", format!("{} cannot be read", path.display()))
                .caused_by(error)
                .with_help("clone the repository there, or correct `path`")
        })?;
        let mut repository = Self { git_dir: folder.clone(), common_dir: folder.clone(), folder, is_shallow: false };
        let arguments = ["rev-parse", "--is-shallow-repository", "--absolute-git-dir", "--git-common-dir"];
        let lines = repository.lines(&arguments, String::new()).await?;
        let [is_shallow, own, common] = &lines[..] else { return Err(repository.unexpected_output("rev-parse")) };
        repository.is_shallow = is_shallow == "true";
        repository.git_dir = own.into();
        repository.common_dir = repository.folder.join(common);
        Ok(repository)
    }

    /// Returns true if older commits were not fetched.
    pub(super) fn is_shallow(&self) -> bool {
        self.is_shallow
    }

    /// Starts `git` with those arguments and that input.
    pub(super) fn spawn(&self, arguments: &[&str], input: String) -> Result<GitProcess<'_>, SourceError> {
        let mut command = Command::new("git");
        command.env_clear().envs(ENVIRONMENT);
        // A repository in a parent folder is not the configured one.
        if let Some(above) = self.folder.parent() {
            command.env("GIT_CEILING_DIRECTORIES", above);
        }
        // The settings name this repository, so another owner is acceptable.
        let mut safe = OsString::from("safe.directory=");
        safe.push(&self.folder);
        command.arg("--no-pager").arg("-C").arg(&self.folder).arg("-c").arg(safe);
        for setting in CONFIGURATION {
            command.arg("-c").arg(setting);
        }
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(spawn_error)?;
        let mut stdin = child.stdin.take().expect("its input is a pipe");
        let stdout = child.stdout.take().expect("its output is a pipe");
        let stderr = child.stderr.take().expect("its messages are a pipe");
        // Both run concurrently with reading the output: a full pipe would block `git` forever.
        drop(tokio::spawn(async move {
            // A failing `git` reads no further, and its messages explain why.
            let _ = stdin.write_all(input.as_bytes()).await;
        }));
        let messages = tokio::spawn(async move {
            let mut messages = Vec::new();
            // The part read so far is enough.
            let _ = stderr.take(MOST_MESSAGES).read_to_end(&mut messages).await;
            messages
        });
        let subcommand = arguments.first().copied().unwrap_or_default().to_owned();
        Ok(GitProcess { repository: self, child, output: BufReader::new(stdout), stderr: messages, subcommand })
    }

    /// Runs `git` to its end, and returns the lines of its output.
    pub(super) async fn lines(&self, arguments: &[&str], input: String) -> Result<Vec<String>, SourceError> {
        let mut running = self.spawn(arguments, input)?;
        let mut lines = Vec::new();
        while let Some(line) = running.read_until(b'\n').await? {
            lines.push(line);
        }
        running.finish().await?;
        Ok(lines)
    }

    /// Returns the ids of the commits whose parents were not fetched.
    pub(super) async fn shallow_commits(&self) -> Result<Vec<String>, SourceError> {
        if !self.is_shallow {
            return Ok(Vec::new());
        }
        let path = self.common_dir.join("shallow");
        let text = tokio::fs::read_to_string(&path).await.map_err(|error| {
            SourceError::new("unreadable", format!("{} cannot be read", path.display()))
                .caused_by(error)
                .with_help("give this user the right to read it")
        })?;
        Ok(text.lines().map(|line| line.trim().to_owned()).collect())
    }

    /// Returns the time of the last fetch. Without any fetch, returns that of the last change of `refs`, given by their
    /// full names, or of the checked-out commit.
    pub(super) async fn fetched_at(&self, refs: &[String]) -> Option<Timestamp> {
        let fetched = newest_modified(&[self.git_dir.join("FETCH_HEAD"), self.common_dir.join("FETCH_HEAD")]).await;
        if fetched.is_some() {
            return fetched;
        }
        // `packed-refs` does not count, since housekeeping rewrites it.
        let mut files = vec![
            self.git_dir.join("HEAD"),
            self.git_dir.join("logs/HEAD"),
            self.common_dir.join("reftable/tables.list"),
        ];
        files.extend(refs.iter().map(|name| self.common_dir.join(name)));
        newest_modified(&files).await
    }

    /// Returns an error for output in an unknown form.
    pub(super) fn unexpected_output(&self, subcommand: &str) -> SourceError {
        let message = format!(
            "{}: `git {subcommand}` answered in a form that is not understood; install a current git",
            self.folder.display()
        );
        SourceError::new("malformed", message)
    }

    /// Returns an error for objects that a partial clone, or a damaged repository, does not have.
    pub(super) fn missing_object(&self, object: &str) -> SourceError {
        let message = format!(
            "{}: {object} is missing in the repository; clone without `--filter` if it is a partial clone, else look \
             with `git fsck` whether it is damaged",
            self.folder.display()
        );
        SourceError::new("unreadable", message)
    }

    fn exit_error(&self, subcommand: &str, status: ExitStatus, said: &str) -> SourceError {
        let folder = self.folder.display();
        let fault = said.lines().find(|line| is_fault(line)).or_else(|| said.lines().next());
        let fault = fault.map_or_else(|| status.to_string(), str::to_owned);
        if said.contains("dubious ownership") || said.contains("unsafe repository") {
            let message = format!(
                "{folder} belongs to another user, and this version of git refuses to read it; install git 2.38 or \
                 later, or let the repository belong to the user of Tagwarden"
            );
            return SourceError::new("unreadable", message);
        }
        if said.contains("not a git repository") {
            let message = format!(
                "{folder} is not a git repository that this user may read; name the top folder of a checkout, or a \
                 bare repository, with `path`"
            );
            return SourceError::new("missing", message);
        }
        if said.contains("promisor remote") {
            return self.missing_object("an object");
        }
        let message = format!(
            "{folder}: `git {subcommand}` failed: {fault}; give this user the right to read all of it, and look with \
             `git fsck` whether it is damaged"
        );
        SourceError::new("unreadable", message)
    }
}

impl GitProcess<'_> {
    /// Returns the next byte of the output without reading it, or `None` at its end.
    pub(super) async fn peek(&mut self) -> Result<Option<u8>, SourceError> {
        let buffer = self.output.fill_buf().await;
        let next = buffer.map(|bytes| bytes.first().copied());
        next.map_err(|error| self.io_error(error))
    }

    /// Returns the output up to a byte, which is read and left out, or `None` at its end.
    pub(super) async fn read_until(&mut self, end: u8) -> Result<Option<String>, SourceError> {
        let mut bytes = Vec::new();
        let read = self.output.read_until(end, &mut bytes).await;
        read.map_err(|error| self.io_error(error))?;
        if bytes.is_empty() {
            return Ok(None);
        }
        if bytes.last() == Some(&end) {
            bytes.pop();
        }
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Returns that many bytes of the output.
    pub(super) async fn read_bytes(&mut self, length: usize) -> Result<Vec<u8>, SourceError> {
        let mut bytes = vec![0; length];
        let read = self.output.read_exact(&mut bytes).await;
        read.map_err(|error| self.io_error(error))?;
        Ok(bytes)
    }

    /// Skips that many bytes of the output.
    pub(super) async fn skip(&mut self, length: u64) -> Result<(), SourceError> {
        let mut part = (&mut self.output).take(length);
        let skipped = tokio::io::copy(&mut part, &mut tokio::io::sink()).await;
        skipped.map(|_| ()).map_err(|error| self.io_error(error))
    }

    /// Waits for its exit, once its output was read.
    pub(super) async fn finish(mut self) -> Result<(), SourceError> {
        let status = self.child.wait().await.map_err(|error| self.io_error(error))?;
        let said = (&mut self.stderr).await.unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        // Some subcommands skip what they cannot read, and succeed.
        if status.success() && !said.lines().any(is_fault) {
            return Ok(());
        }
        Err(self.repository.exit_error(&self.subcommand, status, &said))
    }

    fn io_error(&self, error: io::Error) -> SourceError {
        let (folder, subcommand) = (self.repository.folder.display(), &self.subcommand);
        SourceError::new("unreadable", format!("{folder}: `git {subcommand}` broke off"))
            .caused_by(error)
            .with_help("look with `git fsck` whether the repository is damaged")
    }
}

/// Returns true for a message about something that was not read.
fn is_fault(line: &str) -> bool {
    ["fatal:", "error:", "warning: ignoring"].iter().any(|start| line.starts_with(start))
}

fn spawn_error(error: io::Error) -> SourceError {
    if error.kind() == io::ErrorKind::NotFound {
        return SourceError::new("unreadable", format!("no command `git` in {PATH}"))
            .with_help("install git, which is needed for this");
    }
    SourceError::new("unreadable", "the command `git` cannot be started")
        .caused_by(error)
        .with_help("let this user run it")
}

/// Returns the time of the newest existing file among those.
async fn newest_modified(files: &[PathBuf]) -> Option<Timestamp> {
    let mut newest: Option<SystemTime> = None;
    for file in files {
        if let Ok(modified) = tokio::fs::metadata(file).await.and_then(|data| data.modified()) {
            newest = newest.max(Some(modified));
        }
    }
    newest.and_then(|time| Timestamp::try_from(time).ok())
}
