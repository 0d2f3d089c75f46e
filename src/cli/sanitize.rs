//! Inert output, which controls neither a terminal nor the system that reads a build log.
//!
//! Names and texts from outside end up in the output. Control characters would control a terminal. GitHub Actions takes
//! a line that begins with `::` for a command, with or without leading spaces; Azure Pipelines takes `##vso[` for one
//! anywhere in a line, GitHub `##[`, `TeamCity` `##teamcity[`. Line breaks within foreign texts are replaced where
//! these are put into a line (`report::plain`), because here they can no longer be distinguished.
//!
//! <https://github.com/actions/runner/blob/main/src/Runner.Common/ActionCommand.cs>,
//! <https://github.com/microsoft/azure-pipelines-agent/blob/master/src/Agent.Sdk/Util/Command.cs>

use std::fmt::Write as _;
use std::io::{self, Write};

/// The kinds of output, by the way to write a character inertly without changing its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OutputKind {
    /// Text, Markdown and CSV.
    Plain,
    /// Text with Tagwarden's own colour sequences.
    Colored,
    /// JSON, in which each of these characters is inside a string.
    Json,
    /// An HTML page, or another text with elements.
    Html,
    /// Commands of Tagwarden's own to the system that reads the log: texts from outside are escaped in them already.
    Commands,
}

impl From<crate::report::Format> for OutputKind {
    fn from(format: crate::report::Format) -> Self {
        use crate::report::Format;
        match format {
            Format::Text | Format::Markdown | Format::Csv | Format::Ticket(_) => Self::Plain,
            Format::Json => Self::Json,
            Format::Html => Self::Html,
        }
    }
}

/// The prefix of a line that would be a command.
const LINE_PREFIX: &str = "| ";

/// Makes a text inert. JSON and HTML keep their meaning.
pub(super) fn sanitize(output: OutputKind, text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for line in text.split_inclusive('\n') {
        write_line(output, line, &mut out);
    }
    out
}

fn write_line(output: OutputKind, line: &str, out: &mut String) {
    // Nearly all lines are of this kind, and there may be millions.
    let harmless = |byte: u8| matches!(byte, b' '..=b'~' | b'\n');
    if line.bytes().all(harmless) && !line.contains("##") && !line.contains("::") {
        out.push_str(line);
        return;
    }
    let is_command = line.trim_start().starts_with("::");
    match output {
        OutputKind::Plain | OutputKind::Colored if is_command => out.push_str(LINE_PREFIX),
        // An empty comment, which is invisible.
        OutputKind::Html if is_command => out.push_str("<!---->"),
        _ => {}
    }
    let mut rest = line.char_indices();
    while let Some((at, found)) = rest.next() {
        let after = rest.as_str();
        match found {
            '#' if begins_command(after) => {
                out.push_str(match output {
                    OutputKind::Commands => "#",
                    OutputKind::Plain | OutputKind::Colored => "# ",
                    OutputKind::Json => "\\u0023",
                    OutputKind::Html => "&#35;",
                });
            }
            '\n' | '\t' => out.push(found),
            // The end of a line as CSV writes it.
            '\r' if after == "\n" => out.push(found),
            '\u{1b}' if output == OutputKind::Colored && is_color(&line[at..]) => out.push(found),
            found if controls_terminal(found) => match output {
                OutputKind::Json => escape_json(found, out),
                _ => out.push('\u{fffd}'),
            },
            found => out.push(found),
        }
    }
}

/// Returns true if the text after a `#` makes it the beginning of a command: `#[` or `#` with a name.
fn begins_command(after: &str) -> bool {
    let mut following = after.chars();
    following.next() == Some('#') && following.next().is_some_and(|next| next == '[' || next.is_ascii_alphabetic())
}

/// Returns true for control characters, and those that reverse the reading direction.
fn controls_terminal(found: char) -> bool {
    found.is_control() || matches!(found, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

/// Returns true if a text begins with a sequence that only sets colours.
fn is_color(text: &str) -> bool {
    let inner =
        text.strip_prefix("\u{1b}[").map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';'));
    inner.is_some_and(|rest| rest.starts_with('m'))
}

fn escape_json(found: char, out: &mut String) {
    let mut units = [0; 2];
    for unit in found.encode_utf16(&mut units) {
        // Writing to a string cannot fail.
        let _ = write!(out, "\\u{unit:04x}");
    }
}

/// A writer that makes lines inert before it forwards them. The rest of the last line is written by
/// [`SanitizingWriter::finish`].
pub(super) struct SanitizingWriter<W: Write> {
    out: W,
    output: OutputKind,
    line: Vec<u8>,
}

impl<W: Write> SanitizingWriter<W> {
    pub(super) fn new(out: W, output: OutputKind) -> Self {
        Self { out, output, line: Vec::new() }
    }

    fn write_sanitized(&mut self) -> io::Result<()> {
        let text = sanitize(self.output, &String::from_utf8_lossy(&self.line));
        self.line.clear();
        self.out.write_all(text.as_bytes())
    }

    /// Writes the last line, even without an end.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.write_sanitized()?;
        self.out.flush()
    }
}

impl<W: Write> Write for SanitizingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let end = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
        self.line.extend_from_slice(&bytes[..end]);
        if self.line.last() == Some(&b'\n') {
            self.write_sanitized()?;
        }
        Ok(end)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: [&str; 8] = [
        "::set-output name=x::y",
        "   ::error file=a::b",
        "\t::stop-commands::z",
        "a ##vso[task.setvariable variable=x]y",
        "##[command]",
        "###vso[task.complete]",
        "##teamcity[buildStatus]",
        "\u{1b}[2J\u{9b}31m\u{8}\u{7f}\u{202e}",
    ];

    #[test]
    fn nothing_is_a_command_and_nothing_steers_a_terminal() {
        for text in HOSTILE {
            for output in [OutputKind::Plain, OutputKind::Colored] {
                let line = sanitize(output, text);
                assert!(!line.trim_start().starts_with("::"), "{line:?}");
                assert!(!["##vso[", "##[", "##teamcity["].iter().any(|command| line.contains(command)), "{line:?}");
                assert!(!line.chars().any(|found| found.is_control() && found != '\t'), "{line:?}");
            }
        }
    }

    #[test]
    fn json_keeps_its_meaning() {
        for text in HOSTILE {
            let json = serde_json::to_string_pretty(&serde_json::json!({ "text": text, "list": [text] })).unwrap();
            let written = sanitize(OutputKind::Json, &json);
            let back: serde_json::Value = serde_json::from_str(&written).unwrap();
            assert_eq!(back["text"], text);
            assert_eq!(back["list"][0], text);
            assert!(!written.contains("##") && !written.contains('\u{9b}'), "{written}");
        }
    }

    #[test]
    fn our_own_words_and_colors_are_left_alone() {
        let text = "## Tagwarden plan\n### Registries\na #1 b\n\u{1b}[1;31merror\u{1b}[0m\tx\r\n";
        assert_eq!(sanitize(OutputKind::Colored, text), text);
        assert_eq!(sanitize(OutputKind::Plain, "a,b\r\n\"c\rd\"\r\n"), "a,b\r\n\"c\u{fffd}d\"\r\n");
    }

    #[test]
    fn a_command_in_pieces_is_one_all_the_same() {
        let mut out = Vec::new();
        let mut inert = SanitizingWriter::new(&mut out, OutputKind::Plain);
        for piece in ["a #", "#vs", "o[x]\n:", ":set"] {
            inert.write_all(piece.as_bytes()).unwrap();
        }
        inert.finish().unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a # #vso[x]\n| ::set");
    }
}
