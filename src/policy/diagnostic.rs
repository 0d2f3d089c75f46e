//! Diagnostics: problems of a file with their places and remedies.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::{self, Write as _};
use std::ops::Range;
use std::sync::Arc;

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};
use textwrap::core::Word;
use textwrap::{WordSeparator, WordSplitter};

use super::redact;
use super::yaml::{Place, Value};
use crate::domain::{Cause, Failure};

/// One problem with its place.
///
/// Displayed on one line, for logs: `policies/a.yaml:3:7: unknown rule …`. The cause is in `{:#}` only. [`render`]
/// shows it with the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file as named in messages, or the environment variable.
    pub file: String,
    /// The line, from 1; 0 without a place in a text.
    pub line: usize,
    /// The character in the line, from 1; 0 without a place in a text.
    pub column: usize,
    /// The offending bytes of the text.
    pub span: Range<usize>,
    /// The problem.
    pub message: String,
    /// The remedy.
    pub help: Option<String>,
    text: Option<Arc<str>>,
    secondary: Option<Box<Diagnostic>>,
    cause: Option<Cause>,
    /// The line and the column by which it is sorted, if not its own.
    sorted_at: Option<(usize, usize)>,
}

impl Diagnostic {
    /// Creates a problem of a whole file, or of a missing one.
    #[must_use]
    pub fn new(file: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            line: 0,
            column: 0,
            span: 0..0,
            message: redact::redact_message(&message.into()),
            help: None,
            text: None,
            secondary: None,
            cause: None,
            sorted_at: None,
        }
    }

    /// Converts a failure into a problem of a whole file.
    pub(crate) fn of_failure(file: impl Into<String>, failure: Failure<()>) -> Self {
        let (message, cause) = failure.into_parts();
        Self { cause, ..Self::new(file, message) }
    }

    /// Creates a problem at `span` of a text whose lines start there. An empty span means the rest of its line.
    fn at(
        file: &str,
        (text, line_starts): (&Arc<str>, &[usize]),
        span: &Range<usize>,
        message: impl Into<String>,
    ) -> Self {
        let span = visible_span(text, span);
        let line = line_starts.partition_point(|start| *start <= span.start);
        let line_start = line.checked_sub(1).and_then(|at| line_starts.get(at)).copied().unwrap_or_default();
        Self {
            line,
            column: text[line_start..span.start].chars().count() + 1,
            span,
            text: Some(Arc::clone(text)),
            ..Self::new(file, message)
        }
    }

    /// Creates a problem at the same place.
    pub(crate) fn with_message(&self, message: impl Into<String>) -> Self {
        Self { message: redact::redact_message(&message.into()), ..self.clone() }
    }

    /// Creates a problem at the same place, with its remedy.
    pub(crate) fn with_message_and_help(&self, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { help: Some(redact::redact_message(&help.into())), ..self.with_message(message) }
    }

    /// Adds the remedy.
    pub(crate) fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(redact::redact_message(&help.into()));
        self
    }

    /// Sorts it as if it stood at the place of another problem: after those that were added there before.
    pub(crate) fn sort_at(&mut self, line: usize, column: usize) -> &mut Self {
        self.sorted_at = Some((line, column));
        self
    }

    /// Sets the cause.
    pub(crate) fn caused_by(&mut self, cause: impl Into<Cause>) -> &mut Self {
        self.cause = Some(cause.into());
        self
    }

    /// Returns the message with the cause.
    fn words(&self) -> Cow<'_, str> {
        self.cause.as_ref().map_or(Cow::Borrowed(&self.message), |cause| {
            Cow::Owned(format!("{}: {}", self.message, redact::redact_message(&cause.chain())))
        })
    }

    /// Returns the message with the cause and the second place, without its own place and the remedy.
    #[must_use]
    pub fn full_message(&self) -> String {
        let words = self.words();
        self.secondary
            .as_ref()
            .map_or_else(|| words.clone().into_owned(), |also| format!("{words}; {}: {}", also.place(), also.message))
    }

    /// Adds a second place that belongs to it.
    pub(crate) fn add_secondary(&mut self, other: Diagnostic) -> &mut Self {
        self.secondary = Some(Box::new(other));
        self
    }

    /// Returns the place as `file:line:column`, as far as known.
    #[must_use]
    pub fn place(&self) -> String {
        if self.line == 0 { self.file.clone() } else { format!("{}:{}:{}", self.file, self.line, self.column) }
    }
}

/// Returns the part of a span that can be underlined: whole characters, on one line if it was empty.
fn visible_span(text: &str, span: &Range<usize>) -> Range<usize> {
    let floor = |at: usize| (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    let (start, end) = (floor(span.start), floor(span.end));
    if start < end {
        let (whole, trimmed) = (&text[start..end], text[start..end].trim_end());
        let first = whole.chars().next().map_or(0, char::len_utf8);
        return start..start + trimmed.len().max(first);
    }
    let line = text[start..].lines().next().unwrap_or_default();
    start..start + line.trim_end().len()
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = if f.alternate() { self.words() } else { Cow::Borrowed(&*self.message) };
        write!(f, "{}: {words}", self.place())?;
        if let Some(also) = &self.secondary {
            write!(f, "; {}: {}", also.place(), also.message)?;
        }
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

impl Error for Diagnostic {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&**self.cause.as_ref()?)
    }
}

/// Collects the problems of one file.
#[derive(Debug)]
pub(crate) struct Problems {
    file: Arc<str>,
    text: Arc<str>,
    /// The positions at which its lines start: a large file has thousands of places.
    line_starts: Vec<usize>,
    /// The separator between a key and its value in the format of the file.
    separator: &'static str,
    /// The keys that stand above the first table of the settings.
    top_keys: &'static [&'static str],
    found: Vec<Diagnostic>,
    count: usize,
    /// Receives the remedies of problems beyond the last one that is shown.
    overflow: Diagnostic,
}

/// The separator between key and value in TOML.
const TOML_SEPARATOR: &str = " = ";

/// Most problems of one file that are shown; more usually have a common cause.
const MAX_SHOWN: usize = 100;

impl Problems {
    /// Creates a collector for a YAML file.
    pub(crate) fn of_yaml(file: &str, text: &str) -> Self {
        Self::with_visible_text(file, redact::redact_file(text))
    }

    fn with_visible_text(file: &str, text: String) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let line_starts = std::iter::once(0).chain(ends.map(|(end, _)| end + 1)).collect();
        Self {
            file: file.into(),
            text: text.into(),
            line_starts,
            separator: ": ",
            top_keys: &[],
            found: Vec::new(),
            count: 0,
            overflow: Diagnostic::new(file, ""),
        }
    }

    /// Creates a collector for the settings, in TOML, with the keys above their first table. Only values under known keys
    /// are shown.
    pub(crate) fn of_toml(file: &str, text: &str, top_keys: &'static [&'static str]) -> Self {
        Self { separator: TOML_SEPARATOR, top_keys, ..Self::with_visible_text(file, redact::redact_settings(text)) }
    }

    /// Formats a key with its value, as the file would write it.
    pub(crate) fn format_entry(&self, key: &str, value: impl fmt::Display) -> String {
        format!("{key}{}{value}", self.separator)
    }

    /// Describes a value. For a text of the settings only the type: it may be a misplaced secret.
    pub(crate) fn describe(&self, value: &Value) -> String {
        match value {
            Value::Text(_) if self.is_toml() => value.kind().to_owned(),
            _ => value.describe(),
        }
    }

    /// Returns true for a key that stands above the first table of the settings.
    pub(crate) fn is_top_key(&self, key: &str) -> bool {
        self.top_keys.contains(&key)
    }

    /// Returns true for a settings file.
    pub(crate) fn is_toml(&self) -> bool {
        self.separator == TOML_SEPARATOR
    }

    /// Adds a problem and returns it for further details.
    pub(crate) fn add(&mut self, at: &Place, message: impl Into<String>) -> &mut Diagnostic {
        self.count += 1;
        if self.count > MAX_SHOWN {
            return &mut self.overflow;
        }
        let problem = self.diagnostic(at, message);
        self.found.push(problem);
        self.found.last_mut().expect("one was just pushed")
    }

    /// Creates a problem without adding it.
    pub(crate) fn diagnostic(&self, at: &Place, message: impl Into<String>) -> Diagnostic {
        match at {
            Place::Text(_) if self.count > MAX_SHOWN => Diagnostic::new(&*self.file, message),
            Place::Text(span) => Diagnostic::at(&self.file, (&self.text, &self.line_starts), span, message),
            Place::Variable(name) => Diagnostic::new(&**name, message),
            Place::File => Diagnostic::new(&*self.file, message),
        }
    }

    /// Returns all problems, in the order of their places.
    pub(crate) fn into_diagnostics(mut self) -> Vec<Diagnostic> {
        let place = |one: &Diagnostic| one.sorted_at.unwrap_or((one.line, one.column));
        self.found.sort_by(|a, b| (place(a), &a.file).cmp(&(place(b), &b.file)));
        if self.count > MAX_SHOWN {
            let more = format!("and {} more problems in this file", self.count - MAX_SHOWN);
            self.found.push(Diagnostic::new(&*self.file, more));
        }
        self.found
    }

    /// Returns the number of problems so far.
    pub(crate) fn count(&self) -> usize {
        self.count
    }
}

/// Renders all problems with their lines, the offending text underlined and the remedy below.
#[must_use]
pub fn render(diagnostics: &[Diagnostic], color: bool) -> String {
    let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(120)
        .with_links(false)
        .with_break_words(false)
        .with_word_separator(WordSeparator::Custom(split_words))
        .with_word_splitter(WordSplitter::NoHyphenation);
    let mut out = String::new();
    for (index, diagnostic) in diagnostics.iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        let shown = RenderedDiagnostic::from(diagnostic);
        if handler.render_report(&mut out, &shown).is_err() {
            // Writing to a string cannot fail; an unreadable source must not hide the problem.
            let _ = writeln!(out, "{diagnostic:#}");
        }
    }
    out
}

/// Splits a line at its blanks, but not within backticks, because people copy what stands there.
fn split_words(line: &str) -> Box<dyn Iterator<Item = Word<'_>> + '_> {
    let (mut words, mut start) = (Vec::new(), 0);
    let (mut is_quoted, mut is_after_blank) = (false, false);
    for (at, found) in line.char_indices() {
        if is_after_blank && found != ' ' {
            words.push(Word::from(&line[start..at]));
            start = at;
        }
        if found == '`' {
            is_quoted = !is_quoted && line[at + 1..].contains('`');
        }
        is_after_blank = found == ' ' && !is_quoted;
    }
    words.push(Word::from(&line[start..]));
    Box::new(words.into_iter())
}

/// A diagnostic for the renderer: the place is in the frame, not in the message.
#[derive(Debug)]
struct RenderedDiagnostic<'a> {
    diagnostic: &'a Diagnostic,
    source: Option<NamedSource<Arc<str>>>,
    /// A second place in the same file.
    secondary: Option<&'a Diagnostic>,
    /// A second place in another file, in words: a block shows one file.
    elsewhere: Option<String>,
}

impl<'a> From<&'a Diagnostic> for RenderedDiagnostic<'a> {
    fn from(diagnostic: &'a Diagnostic) -> Self {
        let source = diagnostic.text.as_ref().map(|text| {
            NamedSource::new(without_control_characters(&diagnostic.file), without_control_characters(text).into())
        });
        let (second, elsewhere) = match diagnostic.secondary.as_deref() {
            Some(also) if also.file == diagnostic.file => (Some(also), None),
            Some(also) => {
                let place = also.place();
                let words = match also.message.strip_suffix(" here") {
                    Some(what) => format!("{what} at {place}"),
                    None => format!("{}: {place}", also.message),
                };
                (None, Some(without_control_characters(&words)))
            }
            None => (None, None),
        };
        Self { diagnostic, source, secondary: second, elsewhere }
    }
}

impl fmt::Display for RenderedDiagnostic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = without_control_characters(&self.diagnostic.words());
        match self.source {
            Some(_) => f.write_str(&message),
            None => write!(f, "{}: {message}", without_control_characters(&self.diagnostic.place())),
        }
    }
}

/// Replaces control characters in a file's text by others of the same length, so that positions are unchanged.
fn without_control_characters(text: &str) -> String {
    let replaced = |found: char| match (found, found.len_utf8()) {
        ('\n' | '\t' | '\r', _) => found,
        (_, 1) if found.is_control() => '?',
        (_, 2) if found.is_control() => '\u{bf}',
        ('\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}', _) => '\u{fffd}',
        _ => found,
    };
    text.chars().map(replaced).collect()
}

impl std::error::Error for RenderedDiagnostic<'_> {}

impl miette::Diagnostic for RenderedDiagnostic<'_> {
    fn help<'b>(&'b self) -> Option<Box<dyn fmt::Display + 'b>> {
        self.diagnostic.help.as_ref().map(|help| Box::new(help) as _)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as _)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.source.as_ref()?;
        let label = |text: Option<&str>, span| LabeledSpan::new_with_span(text.map(str::to_owned), span);
        let words = self.secondary.map(|_| "and here").or(self.elsewhere.as_deref());
        let here = label(words, self.diagnostic.span.clone());
        let second = self.secondary.map(|second| label(Some(&second.message), second.span.clone()));
        Some(Box::new(std::iter::once(here).chain(second)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_copied_is_not_broken() {
        let command = "`tagwarden check --skip-secrets`";
        for words in 18..24 {
            let mut problem = Diagnostic::new("tagwarden.toml", "invalid");
            problem.help(format!("{}{command} and the like", "word ".repeat(words)));
            let shown = render(&[problem], false);
            assert!(shown.contains(command), "{shown}");
            assert!(shown.lines().all(|line| line.chars().count() <= 120), "{shown}");
        }
    }
}
