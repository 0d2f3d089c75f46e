//! Colors by meaning, put on lines that were made inert before: red for what failed or is refused, yellow for what needs a
//! look, green for what is done.

use std::borrow::Cow;
use std::io::{self, Write};

const RED: &str = "\u{1b}[31m";
const YELLOW: &str = "\u{1b}[33m";
const GREEN: &str = "\u{1b}[32m";
const BOLD: &str = "\u{1b}[1m";
const RESET: &str = "\u{1b}[0m";

/// Beginnings of lines, without their indent, and the color of the whole line.
const LINES: [(&str, &str); 12] = [
    ("!! ", RED),
    ("REFUSED", RED),
    ("UNREAD: ", RED),
    ("NOTHING ", RED),
    ("FAILED", RED),
    ("error: ", RED),
    ("failed ", RED),
    ("warning: ", YELLOW),
    ("ACCEPTED", YELLOW),
    ("Needs attention", YELLOW),
    ("Undecided", YELLOW),
    ("narrowed to ", YELLOW),
];

/// First words of lines that say what became of a tag, and the color of the word.
const OUTCOMES: [(&str, &str); 8] = [
    ("done", GREEN),
    ("removed", GREEN),
    ("deleted", GREEN),
    ("restored", GREEN),
    ("passed", GREEN),
    ("skipped", YELLOW),
    ("failed", RED),
    ("would", YELLOW),
];

/// The line with its color.
pub(super) fn paint(line: &str) -> Cow<'_, str> {
    let (text, end) = line.strip_suffix('\n').map_or((line, ""), |text| (text, "\n"));
    let start = text.trim_start();
    if start.is_empty() || start.starts_with(['{', '}', '[', ']', '"']) {
        return Cow::Borrowed(line);
    }
    let indent = &text[..text.len() - start.len()];
    if let Some((_, color)) = LINES.iter().find(|(beginning, _)| start.starts_with(beginning)) {
        return Cow::Owned(format!("{indent}{color}{start}{RESET}{end}"));
    }
    if start.contains(": FAILED: ") {
        return Cow::Owned(format!("{indent}{RED}{start}{RESET}{end}"));
    }
    let word = start.split(' ').next().unwrap_or_default();
    // Outcomes stand in a column of their own.
    if let Some((_, color)) = OUTCOMES.iter().find(|(outcome, _)| *outcome == word)
        && start.contains('/')
    {
        return Cow::Owned(format!("{indent}{color}{word}{RESET}{}{end}", &start[word.len()..]));
    }
    // A heading: nothing before it, and it begins like a sentence.
    let is_heading = indent.is_empty() && start.len() < 90 && start.starts_with(char::is_uppercase);
    if is_heading && !start.ends_with('.') && !start.contains(": ") {
        return Cow::Owned(format!("{BOLD}{start}{RESET}{end}"));
    }
    Cow::Borrowed(line)
}

/// A writer that takes whole lines and puts colors on them.
pub(super) struct PaintingWriter<W: Write> {
    out: W,
    line: Vec<u8>,
}

impl<W: Write> PaintingWriter<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, line: Vec::new() }
    }
}

impl<W: Write> Write for PaintingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if self.line.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                self.out.write_all(paint(&String::from_utf8_lossy(&line)).as_bytes())?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let line = std::mem::take(&mut self.line);
        self.out.write_all(paint(&String::from_utf8_lossy(&line)).as_bytes())?;
        self.out.flush()
    }
}
