//! Where words and data go.

use std::io::{self, IsTerminal as _, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::sanitize::{OutputKind, SanitizingWriter, sanitize};
use crate::domain::chain;
use crate::workflow::PROGRESS;

/// Whether something that was to be printed was not. Stdout is the process's own, and so is this.
static STDOUT_FAILED: AtomicBool = AtomicBool::new(false);

/// Prints text to stdout, or JSON that is inert already. A reader that has seen enough (`| head`) is no failure.
pub(super) fn print(data: &str) {
    print_as(OutputKind::Plain, |out| out.write_all(data.as_bytes()));
}

/// The same for data of a kind that is written piece by piece. A failure ends no work: [`final_exit_code`] tells of it.
pub(super) fn print_as(output: OutputKind, data: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
    let mut stdout = SanitizingWriter::new(io::BufWriter::new(io::stdout().lock()), output);
    if let Err(error) = data(&mut stdout).and_then(|()| stdout.finish())
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        STDOUT_FAILED.store(true, Ordering::Relaxed);
        print_stderr(&format!("error: cannot write to standard output: {}", chain(&error)));
    }
}

/// The exit code of a command that ended with `code`: 1 where something could not be printed, unless a usage error (2)
/// comes first.
pub(super) fn final_exit_code(code: u8) -> u8 {
    if code != 2 && STDOUT_FAILED.load(Ordering::Relaxed) { 1 } else { code }
}

/// Prints the help, the version or the usage error that clap made of the arguments, and gives the exit code.
pub(super) fn print_help(asked: &clap::Error) -> u8 {
    let code = u8::try_from(asked.exit_code()).unwrap_or(2);
    match asked.print() {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe && code == 0 => {
            print_stderr(&format!("error: cannot write to standard output: {}", chain(&error)));
            1
        }
        _ => code,
    }
}

/// Says something on stderr.
pub(super) fn print_stderr(words: &str) {
    print_stderr_as(OutputKind::Plain, words);
}

/// The same for words of a kind.
pub(super) fn print_stderr_as(output: OutputKind, words: &str) {
    // Nowhere is left to report to if stderr is closed or its disk is full.
    let _ = io::stderr().lock().write_all(sanitize(output, &format!("{words}\n")).as_bytes());
}

/// Where logs go: stderr, whether or not that can be written. A run must not end in the middle of its removals for want
/// of a place to tell of them; the journal has them.
#[derive(Debug, Clone, Copy)]
struct LogWriter(OutputKind);

/// One event of the log.
struct LogEventWriter(OutputKind);

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = LogEventWriter;

    fn make_writer(&'a self) -> LogEventWriter {
        LogEventWriter(self.0)
    }
}

impl Write for LogEventWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        // A line break within an event begins no line that could be taken for one of its own.
        let (event, end) = text.strip_suffix('\n').map_or((&*text, ""), |event| (event, "\n"));
        let event = sanitize(self.0, event).replace('\n', "\n  | ");
        let _ = io::stderr().lock().write_all(format!("{event}{end}").as_bytes());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether colours can be shown on stderr.
#[expect(clippy::disallowed_methods, reason = "a way in: NO_COLOR is the terminal user's word")]
pub(super) fn is_color_enabled() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The logs of a command, where the environment says nothing about them.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogDefaults {
    /// The events that are logged, as in `TAGWARDEN_LOG`.
    pub(super) filter: &'static str,
    /// The command shows its progress as a bar where there is a terminal.
    pub(super) has_progress_bar: bool,
}

/// Sends logs to stderr: warnings by default, and what is done one by one where something is done. Lines for people,
/// or objects where `TAGWARDEN_LOG_FORMAT` says `json`; the journal of systemd has the time already.
#[expect(clippy::disallowed_methods, reason = "a way in: how logs are written is read here and nowhere else")]
pub(super) fn init_logging(LogDefaults { filter, has_progress_bar }: LogDefaults) {
    // On a terminal the bar shows the same.
    let progress = if has_progress_bar && io::stderr().is_terminal() { "off" } else { "info" };
    let default = format!("{filter},{PROGRESS}={progress}");
    let wanted = std::env::var("TAGWARDEN_LOG").unwrap_or_default();
    let filter = EnvFilter::try_new(if wanted.is_empty() { &default } else { &wanted });
    let filter = filter.unwrap_or_else(|error| {
        print_stderr(&format!("invalid log filter in TAGWARDEN_LOG ({}); using `{default}`", chain(&error)));
        EnvFilter::new(&default)
    });
    let format = std::env::var("TAGWARDEN_LOG_FORMAT").unwrap_or_default();
    if !["", "text", "json"].contains(&&*format) {
        print_stderr(&format!("TAGWARDEN_LOG_FORMAT is `text` or `json`, not `{format}`; using `text`"));
    }
    // <https://www.freedesktop.org/software/systemd/man/systemd.exec.html>, `$JOURNAL_STREAM`.
    let journal = std::env::var_os("JOURNAL_STREAM").is_some() && !io::stderr().is_terminal();
    let output = match (&*format, journal) {
        ("json", _) => OutputKind::Json,
        (_, false) if is_color_enabled() => OutputKind::Colored,
        _ => OutputKind::Plain,
    };
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(LogWriter(output)).with_target(false);
    // Otherwise it tells on stderr that stderr cannot be written, and panics.
    let logs = logs.log_internal_errors(false).with_ansi(output == OutputKind::Colored);
    match (output, journal) {
        (OutputKind::Json, _) => logs.json().flatten_event(true).init(),
        (_, true) => logs.without_time().init(),
        (_, false) => logs.init(),
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
