//! The log on stderr, and the spans for a collector.

use std::io::{self, IsTerminal as _, Write};
use std::sync::OnceLock;

use opentelemetry_sdk::trace::SdkTracer;
use tracing::Metadata;
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

use super::output::{Verbosity, is_color_enabled, print_stderr, verbosity};
use super::sanitize::{OutputKind, sanitize};
use crate::domain::chain;
use crate::http_client::REQUEST_LOG as REQUESTS;
use crate::workflow::PROGRESS;

/// Sends spans to a collector, once one is known.
type SpanLayer = OpenTelemetryLayer<Registry, SdkTracer>;

/// The place of the layer for spans. The subscriber belongs to the process, and so does this.
static SPANS: OnceLock<reload::Handle<Option<SpanLayer>, Registry>> = OnceLock::new();

/// The writer of logs: stderr, whether or not it can be written. A run must not end in the middle of its removals
/// because logging fails; the journal has them.
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
        // A line break within an event must not start a line that looks like an event.
        let (event, end) = text.strip_suffix('\n').map_or((&*text, ""), |event| (event, "\n"));
        let event = sanitize(self.0, event).replace('\n', "\n  | ");
        let _ = io::stderr().lock().write_all(format!("{event}{end}").as_bytes());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The default log settings of a command, without environment variables.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogDefaults {
    /// The events that are logged, as in `TAGWARDEN_LOG`.
    pub(super) filter: &'static str,
    /// True if the command shows a progress bar on a terminal.
    pub(super) has_progress_bar: bool,
}

/// Sends logs to stderr: warnings by default, and single steps for commands that change something. The format is text,
/// or JSON if `TAGWARDEN_LOG_FORMAT` says `json`; the systemd journal adds the time itself.
#[expect(clippy::disallowed_methods, reason = "a way in: how logs are written is read here and nowhere else")]
pub(super) fn init_logging(LogDefaults { filter, has_progress_bar }: LogDefaults) {
    // On a terminal the bar shows the same.
    let progress = if has_progress_bar && io::stderr().is_terminal() { "off" } else { "info" };
    let (default, flag) = match verbosity() {
        Verbosity::Quiet => ("error".to_owned(), true),
        Verbosity::Normal => (format!("{filter},{PROGRESS}={progress}"), false),
        Verbosity::Verbose => (format!("warn,tagwarden=debug,{REQUESTS}=off,{PROGRESS}={progress}"), true),
        Verbosity::Trace => ("info,tagwarden=trace".to_owned(), true),
    };
    // A flag of this call says more than a variable that was set some day.
    let wanted = std::env::var("TAGWARDEN_LOG").ok().filter(|_| !flag).unwrap_or_default();
    let filter = EnvFilter::try_new(if wanted.is_empty() { &default } else { &wanted });
    let filter = filter.unwrap_or_else(|error| {
        print_stderr(&format!("invalid log filter in TAGWARDEN_LOG ({}); using `{default}`", chain(&error)));
        EnvFilter::new(&default)
    });
    // Each statement of SQL is a line at `debug`, which hides all others; who names them gets them.
    let statements = if wanted.contains("sqlx") { None } else { "sqlx::query=error".parse().ok() };
    let filter = statements.into_iter().fold(filter, EnvFilter::add_directive);
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
    let logs = fmt::layer().with_writer(LogWriter(output)).with_target(false);
    // Otherwise an unwritable stderr is reported on stderr, with a panic.
    let logs = logs.log_internal_errors(false).with_ansi(output == OutputKind::Colored);
    let logs = match (output, journal) {
        (OutputKind::Json, _) => logs.json().flatten_event(true).boxed(),
        (_, true) => logs.without_time().boxed(),
        (_, false) => logs.boxed(),
    };
    let logs = logs.with_filter(filter.and(filter_fn(is_event)));
    let (spans, handle) = reload::Layer::new(None::<SpanLayer>);
    tracing_subscriber::registry().with(spans.with_filter(filter_fn(is_own_span))).with(logs).init();
    let _ = SPANS.set(handle);
}

/// True for what is logged. Spans are not: lines themselves name what they are about.
fn is_event(metadata: &Metadata<'_>) -> bool {
    metadata.is_event()
}

/// True for what is traced. Libraries have spans, too.
fn is_own_span(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target().starts_with("tagwarden")
}

/// Reports the spans that begin from now on to a collector.
pub(super) fn report_spans(tracer: SdkTracer) {
    if let Some(handle) = SPANS.get() {
        // It fails only if the subscriber is gone.
        let _ = handle.modify(|layer| *layer = Some(tracing_opentelemetry::layer().with_tracer(tracer)));
    }
}
