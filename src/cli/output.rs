//! Output to stdout, stderr and the log.

use std::io::{self, IsTerminal as _, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use super::paint::PaintingWriter;
use super::sanitize::{OutputKind, SanitizingWriter, sanitize};
use crate::domain::chain;
use crate::report::{self, Format};

/// True if something could not be printed. Stdout belongs to the process, and so does this.
static STDOUT_FAILED: AtomicBool = AtomicBool::new(false);

/// The color choice of this process, as its number.
static COLOR: AtomicU8 = AtomicU8::new(0);

/// Whether notes are printed, and how much is logged.
static VERBOSITY: AtomicU8 = AtomicU8::new(1);

/// When colors are used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ColorChoice {
    /// On a terminal, unless the environment says otherwise.
    #[default]
    Auto,
    Always,
    Never,
}

/// How much a command says besides its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verbosity {
    Quiet,
    Normal,
    Verbose,
    Trace,
}

impl Verbosity {
    /// That of the flags.
    pub(super) fn of(quiet: bool, verbose: u8) -> Self {
        match (quiet, verbose) {
            (true, _) => Self::Quiet,
            (false, 0) => Self::Normal,
            (false, 1) => Self::Verbose,
            (false, 2..) => Self::Trace,
        }
    }
}

pub(super) fn set_verbosity(verbosity: Verbosity) {
    VERBOSITY.store(verbosity as u8, Ordering::Relaxed);
}

pub(super) fn verbosity() -> Verbosity {
    let all = [Verbosity::Quiet, Verbosity::Normal, Verbosity::Verbose, Verbosity::Trace];
    all.get(usize::from(VERBOSITY.load(Ordering::Relaxed))).copied().unwrap_or(Verbosity::Normal)
}

/// Whether only errors and results are wanted.
pub(super) fn is_quiet() -> bool {
    verbosity() == Verbosity::Quiet
}

pub(super) fn set_color(choice: ColorChoice) {
    COLOR.store(choice as u8, Ordering::Relaxed);
}

/// The value of `--color`, read before the arguments are parsed: the help of a wrong argument heeds it, too.
pub(super) fn requested_color() -> ColorChoice {
    let mut arguments = std::env::args_os().skip(1);
    let mut found = ColorChoice::Auto;
    while let Some(argument) = arguments.next() {
        let Some(argument) = argument.to_str() else { continue };
        let value = match argument.strip_prefix("--color") {
            Some("") => arguments.next().and_then(|value| value.into_string().ok()),
            Some(value) => value.strip_prefix('=').map(ToOwned::to_owned),
            None => None,
        };
        found = match value.as_deref() {
            Some("always") => ColorChoice::Always,
            Some("never") => ColorChoice::Never,
            _ => found,
        };
    }
    found
}

/// The same for clap's own texts.
pub(super) fn clap_color() -> clap::ColorChoice {
    match COLOR.load(Ordering::Relaxed) {
        1 => clap::ColorChoice::Always,
        2 => clap::ColorChoice::Never,
        _ => clap::ColorChoice::Auto,
    }
}

/// Whether colors are used where output goes to a terminal or not: the flag first, then `NO_COLOR`, then
/// `CLICOLOR_FORCE` (<https://bixense.com/clicolors/>).
#[expect(clippy::disallowed_methods, reason = "a way in: the terminal user's word on colors")]
fn uses_color(is_terminal: bool) -> bool {
    match COLOR.load(Ordering::Relaxed) {
        1 => return true,
        2 => return false,
        _ => {}
    }
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if set("NO_COLOR").is_some() {
        return false;
    }
    if set("CLICOLOR_FORCE").is_some_and(|value| value != "0") {
        return true;
    }
    is_terminal && set("TERM").is_none_or(|value| value != "dumb")
}

/// Prints text to stdout, or JSON that is inert already. A reader that has seen enough (`| head`) causes no failure.
pub(super) fn print(data: &str) {
    print_to(OutputKind::Plain, true, |out| out.write_all(data.as_bytes()));
}

/// Prints a report: colored and as wide as the terminal where it is text for one.
pub(super) fn print_report_as(format: Format, data: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
    if format == Format::Text {
        fit_terminal();
    }
    print_to(format.into(), format == Format::Text, data);
}

/// Makes tables as wide as the terminal from now on. Elsewhere, and in files, they are as wide as they need to be.
pub(super) fn fit_terminal() {
    report::set_table_width(comfy_table::Table::new().width().filter(|_| io::stdout().is_terminal()));
}

/// Prints streamed data of a kind. A failure stops no work: [`final_exit_code`] reports it.
pub(super) fn print_as(output: OutputKind, data: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
    print_to(output, false, data);
}

fn print_to(output: OutputKind, is_text: bool, data: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
    let stdout = io::BufWriter::new(io::stdout().lock());
    let stdout: Box<dyn Write> = if is_text && uses_color(io::stdout().is_terminal()) {
        Box::new(PaintingWriter::new(stdout))
    } else {
        Box::new(stdout)
    };
    let mut stdout = SanitizingWriter::new(stdout, output);
    if let Err(error) = data(&mut stdout).and_then(|()| stdout.finish())
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        STDOUT_FAILED.store(true, Ordering::Relaxed);
        print_stderr(&format!("error: cannot write to standard output: {}", chain(&error)));
    }
}

/// Returns the exit code of a command that ended with `code`: 1 if something could not be printed, unless a usage error
/// (2) takes precedence.
pub(super) fn final_exit_code(code: u8) -> u8 {
    if code != 2 && STDOUT_FAILED.load(Ordering::Relaxed) { 1 } else { code }
}

/// Prints the help, the version or the usage error that clap made of the arguments, and returns the exit code.
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

/// Says on stderr what a person may like to know, unless `--quiet` is given.
pub(super) fn print_note(words: &str) {
    if !is_quiet() {
        print_stderr(words);
    }
}

/// Says something on stderr.
pub(super) fn print_stderr(words: &str) {
    print_stderr_as(OutputKind::Plain, words);
}

/// Prints a message of a kind to stderr.
pub(super) fn print_stderr_as(output: OutputKind, words: &str) {
    // Nowhere is left to report to if stderr is closed or its disk is full.
    let _ = io::stderr().lock().write_all(sanitize(output, &format!("{words}\n")).as_bytes());
}

/// Whether colours can be shown on stderr.
pub(super) fn is_color_enabled() -> bool {
    uses_color(io::stderr().is_terminal())
}

/// Creates what [`write_file`] would create first, and removes it.
///
/// # Errors
/// Returns the error that writing the file would return.
pub(super) fn try_writing(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    temporary_file(path).map(drop)
}

fn temporary_file(path: &Path) -> io::Result<tempfile::NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // The error of a missing folder would name the temporary file, which nobody asked for.
    std::fs::metadata(folder)?;
    tempfile::Builder::new().prefix(".tagwarden-").tempfile_in(folder)
}

/// Writes a file completely or not at all.
///
/// # Errors
/// Returns an error if the folder cannot be written to.
pub(super) fn write_file(path: &Path, data: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut file = temporary_file(path)?;
    let mut buffered = io::BufWriter::new(&mut file);
    data(&mut buffered)?;
    buffered.flush()?;
    drop(buffered);
    file.as_file().sync_all()?;
    share(file.as_file())?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Makes a report as readable as other files, unlike the temporary file that it was.
#[cfg(unix)]
fn share(file: &std::fs::File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn share(_file: &std::fs::File) -> io::Result<()> {
    Ok(())
}
