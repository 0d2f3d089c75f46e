//! Where words and data go.

use std::io::{self, IsTerminal as _, Write};
use std::path::Path;

use tracing_subscriber::EnvFilter;

use super::Command;

/// Prints data to stdout. A reader that has seen enough (`| head`) is no failure.
pub(super) fn print(data: &str) {
    print_as(|out| out.write_all(data.as_bytes()));
}

/// The same for data that is written piece by piece.
pub(super) fn print_as(data: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
    let mut stdout = io::BufWriter::new(io::stdout().lock());
    if let Err(error) = data(&mut stdout).and_then(|()| stdout.flush())
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        say(&format!("cannot print: {error}"));
    }
}

/// Says something on stderr.
pub(super) fn say(words: &str) {
    // Nowhere is left to report to if stderr is closed.
    let _ = writeln!(io::stderr().lock(), "{words}");
}

/// Whether colours can be shown on stderr.
#[expect(clippy::disallowed_methods, reason = "a way in: NO_COLOR is the terminal user's word")]
pub(super) fn color() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Sends logs to stderr: warnings by default, and what is done one by one where something is done. Lines for people,
/// or objects where `TAGWARDEN_LOG_FORMAT` says `json`; the journal of systemd has the time already.
#[expect(clippy::disallowed_methods, reason = "a way in: how logs are written is read here and nowhere else")]
pub(super) fn start_logs(command: &Command) {
    let default = match command {
        Command::Run(_) | Command::Serve => "warn,tagwarden=info",
        _ => "warn",
    };
    let wanted = std::env::var("TAGWARDEN_LOG").unwrap_or_default();
    let filter = EnvFilter::try_new(if wanted.is_empty() { default } else { &wanted });
    let filter = filter.unwrap_or_else(|error| {
        say(&format!("TAGWARDEN_LOG is no log filter ({error}); using `{default}`"));
        EnvFilter::new(default)
    });
    let format = std::env::var("TAGWARDEN_LOG_FORMAT").unwrap_or_default();
    if !["", "text", "json"].contains(&&*format) {
        say(&format!("TAGWARDEN_LOG_FORMAT is `text` or `json`, not `{format}`; using `text`"));
    }
    // <https://www.freedesktop.org/software/systemd/man/systemd.exec.html>, `$JOURNAL_STREAM`.
    let journal = std::env::var_os("JOURNAL_STREAM").is_some() && !io::stderr().is_terminal();
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_target(false);
    match (&*format, journal) {
        ("json", _) => logs.json().flatten_event(true).init(),
        (_, true) => logs.with_ansi(false).without_time().init(),
        (_, false) => logs.with_ansi(color()).init(),
    }
}

/// Writes a file whole or not at all.
///
/// # Errors
/// When the folder cannot be written to.
pub(super) fn write_file(path: &Path, data: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".tagwarden-").tempfile_in(folder)?;
    let mut buffered = io::BufWriter::new(&mut file);
    data(&mut buffered)?;
    buffered.flush()?;
    drop(buffered);
    file.as_file().sync_all()?;
    share(file.as_file())?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// A report is for colleagues: readable as other files are, unlike the temporary file that it was.
#[cfg(unix)]
fn share(file: &std::fs::File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn share(_file: &std::fs::File) -> io::Result<()> {
    Ok(())
}
