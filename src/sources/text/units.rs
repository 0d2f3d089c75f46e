//! Units of running text: lines that belong together, so that a tag in one of them is the tag of a repository in another.

use std::ops::Range;

use super::decoder::SOFT_BREAK;

/// Most lines of one command or block.
const MOST_LINES: usize = 60;

/// Most bytes of a table's row, and of the blocks with a name and a value.
const MOST_BYTES: usize = 4096;

/// Most bytes that are examined before and after a place in a line: more distant text is unrelated.
pub(super) const MOST_AROUND: usize = 4096;

/// The lines of a text.
pub(super) struct Lines<'t> {
    text: &'t str,
    lines: Vec<Line>,
}

#[derive(Debug, Clone, Copy)]
struct Line {
    start: usize,
    end: usize,
    number: u32,
}

/// A line that assigns a value to a name.
struct Assignment {
    /// The column of the name.
    indent: usize,
    /// True if an item of a list begins with it.
    begins_item: bool,
    /// The column of the value.
    value: usize,
}

impl<'t> Lines<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        let mut lines = Vec::new();
        let (mut start, mut number) = (0, 1);
        for (at, mark) in text.match_indices(['\n', SOFT_BREAK]) {
            lines.push(Line { start, end: at, number });
            start = at + 1;
            number += u32::from(mark == "\n");
        }
        lines.push(Line { start, end: text.len(), number });
        Self { text, lines }
    }

    /// Returns the line of a byte.
    pub(super) fn at(&self, place: usize) -> usize {
        self.lines.partition_point(|line| line.start <= place).saturating_sub(1)
    }

    /// Returns the number of a line, from 1.
    pub(super) fn number(&self, line: usize) -> u32 {
        self.lines[line].number
    }

    pub(super) fn start(&self, line: usize) -> usize {
        self.lines[line].start
    }

    pub(super) fn end(&self, line: usize) -> usize {
        self.lines[line].end
    }

    pub(super) fn line(&self, line: usize) -> &'t str {
        let Line { start, end, .. } = self.lines[line];
        &self.text[start..end]
    }

    /// Returns the line before; empty if there is none.
    pub(super) fn before(&self, line: usize) -> &'t str {
        line.checked_sub(1).map_or("", |line| self.line(line))
    }

    /// Returns the bytes of a command: a line with its continuations in both directions.
    pub(super) fn command(&self, line: usize) -> Range<usize> {
        let (mut first, mut last) = (line, line);
        while first > 0 && line - first < MOST_LINES && is_continued(self.line(first - 1)) {
            first -= 1;
        }
        while last + 1 < self.lines.len() && last - line < MOST_LINES && is_continued(self.line(last)) {
            last += 1;
        }
        self.lines[first].start..self.lines[last].end
    }

    /// Returns the bytes that belong to a line: its command or row of a table, and the values of the names beside its
    /// own.
    pub(super) fn unit(&self, line: usize) -> Vec<Range<usize>> {
        let own = self.row(line).unwrap_or_else(|| self.command(line));
        let mut unit = vec![own];
        unit.extend(self.siblings(line));
        let pair = self.pair(&unit);
        unit.extend(pair);
        unit
    }

    /// Returns a row of an HTML table.
    fn row(&self, line: usize) -> Option<Range<usize>> {
        let Line { start, end, .. } = self.lines[line];
        let first = floor(self.text, start.saturating_sub(MOST_BYTES));
        let begin = first + self.text[first..end].rfind("<tr")?;
        let last = floor(self.text, self.text.len().min(begin + MOST_BYTES));
        let row = &self.text[begin..last];
        let length = row.find("</tr").unwrap_or(row.len());
        (begin + length > start).then_some(begin..begin + length)
    }

    /// Returns the values in the surrounding lines with the same indentation, as in a block of settings.
    fn siblings(&self, line: usize) -> Vec<Range<usize>> {
        let Some(own) = assignment(self.line(line)) else { return Vec::new() };
        let mut found = Vec::new();
        if !own.begins_item {
            for at in (line.saturating_sub(MOST_LINES)..line).rev() {
                match self.sibling(at, own.indent) {
                    Sibling::Value(range, begins_item) => {
                        found.push(range);
                        if begins_item {
                            break;
                        }
                    }
                    Sibling::Skipped => {}
                    Sibling::End => break,
                }
            }
        }
        for at in line + 1..self.lines.len().min(line + MOST_LINES) {
            match self.sibling(at, own.indent) {
                Sibling::Value(range, false) => found.push(range),
                Sibling::Skipped => {}
                Sibling::Value(_, true) | Sibling::End => break,
            }
        }
        found
    }

    fn sibling(&self, line: usize, indent: usize) -> Sibling {
        let (Line { start, end, .. }, text) = (self.lines[line], self.line(line));
        let trimmed = text.trim_start();
        let is_comment = ["#", "//", ";", "--", "<!--"].iter().any(|mark| trimmed.starts_with(mark));
        if trimmed.is_empty() || is_comment {
            return Sibling::Skipped;
        }
        let Some(Assignment { indent: own, begins_item, value }) = assignment(text) else {
            let own = text.len() - trimmed.len();
            let is_bracket = trimmed.ends_with(['{', '[', '(']) || trimmed.bytes().all(|byte| b"}]), ".contains(&byte));
            return if own > indent || own == indent && is_bracket { Sibling::Skipped } else { Sibling::End };
        };
        match own.cmp(&indent) {
            std::cmp::Ordering::Less => Sibling::End,
            std::cmp::Ordering::Equal => Sibling::Value(start + value..end, begins_item),
            std::cmp::Ordering::Greater => Sibling::Skipped,
        }
    }

    /// Returns the block or object with a tag by name, if this one has the repository in the same way: Terraform's
    /// `set`, with `name = "image.repository"` here and `name = "image.tag"` there.
    fn pair(&self, unit: &[Range<usize>]) -> Option<Range<usize>> {
        let (prefix, quote) = unit.iter().find_map(|range| part_name(self.line(self.at(range.start))))?;
        let around = unit.first()?;
        let start = floor(self.text, around.start.saturating_sub(MOST_BYTES));
        let end = floor(self.text, self.text.len().min(around.end + MOST_BYTES));
        let (before, after) = (&self.text[start..around.start], &self.text[around.end..end]);
        let names: Vec<String> =
            ["tag", "digest", "version"].iter().map(|part| format!("{quote}{prefix}{part}{quote}")).collect();
        let next = names.iter().filter_map(|name| after.find(name.as_str())).min().map(|at| around.end + at);
        let last = || names.iter().filter_map(|name| before.rfind(name.as_str())).max().map(|at| start + at);
        let at = next.or_else(last)?;
        let end = (self.at(at) + 2).min(self.lines.len() - 1);
        Some(at..self.lines[end].end)
    }
}

/// The role of a line beside an assignment.
enum Sibling {
    /// The value of another assignment, with true if an item of a list begins with it.
    Value(Range<usize>, bool),
    /// A line to be skipped.
    Skipped,
    /// The block ends.
    End,
}

/// Returns the largest character boundary up to `at`.
fn floor(text: &str, at: usize) -> usize {
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// Returns the end of a text, up to a limit.
pub(super) fn end_of(text: &str) -> &str {
    &text[floor(text, text.len().saturating_sub(MOST_AROUND))..]
}

/// Returns the beginning of a text, up to a limit.
pub(super) fn beginning_of(text: &str) -> &str {
    &text[..floor(text, text.len().min(MOST_AROUND))]
}

/// Returns true for a continued line: shells end it with `\`, PowerShell with a backtick, cmd with `^`.
fn is_continued(line: &str) -> bool {
    let line = line.trim_end();
    line.ends_with('\\') || line.ends_with(" `") || line.ends_with(" ^")
}

/// Parses a line such as `key: value`, `KEY=value`, `"key": "value",` or `<key>value</key>`.
fn assignment(line: &str) -> Option<Assignment> {
    let trimmed = line.trim_start();
    let item = trimmed.strip_prefix("- ");
    let rest = item.map_or(trimmed, str::trim_start);
    let indent = line.len() - rest.len();
    let found = |value: usize| Assignment { indent, begins_item: item.is_some(), value: indent + value };
    if rest.starts_with('<') {
        let inner = rest.find('>')? + 1;
        return rest[inner..].contains("</").then(|| found(inner));
    }
    let operator = rest.find([':', '='])?;
    let (key, value) = (&rest[..operator], &rest[operator + 1..]);
    let is_key = |c: char| c.is_ascii_alphanumeric() || "_.-/[]\"' $".contains(c);
    if key.trim().is_empty() || !key.chars().all(is_key) || key.split_whitespace().count() > 3 {
        return None;
    }
    // `:=` assigns, too.
    let (operator, value) = match value.strip_prefix('=') {
        Some(value) if rest[operator..].starts_with(':') => (operator + 1, value),
        Some(_) => return None,
        None if rest[operator..].starts_with(':')
            && !value.is_empty()
            && !value.starts_with([' ', '\t', '"', '\'']) =>
        {
            return None;
        }
        None => (operator, value),
    };
    let given = value.trim().trim_end_matches(',');
    let is_one = !rest[operator..].starts_with('=') || given.starts_with(['"', '\'']) || !given.contains([' ', '\t']);
    let opens = given.is_empty() || given.ends_with(['{', '[', '(']);
    (is_one && !opens).then(|| found(operator + 1))
}

/// Returns the beginning of a part's name in `name = "image.repository"`, and its quote.
fn part_name(text: &str) -> Option<(&str, char)> {
    text.match_indices("name").find_map(|(at, _)| {
        let rest = text[at + 4..].trim_start_matches(['"', '\'', ' ', '\t']).strip_prefix(['=', ':'])?.trim_start();
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let (name, _) = rest[1..].split_once(quote)?;
        let prefix = ["repository", "repo", "image"].iter().find_map(|part| name.strip_suffix(part))?;
        Some((prefix, quote))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines that belong to the one with `HERE` in it, without that line.
    fn beside(text: &str) -> Vec<String> {
        let lines = Lines::of(text);
        let at = lines.at(text.find("HERE").unwrap());
        let own = lines.line(at);
        let unit = lines.unit(at).into_iter().map(|range| text[range].trim().replace(own.trim(), "HERE"));
        unit.skip(usize::from(lines.command(at).len() == own.len() && lines.row(at).is_none())).collect()
    }

    #[test]
    fn lines_keep_their_numbers() {
        let lines = Lines::of("a\nb\u{b}c\nd");
        let found: Vec<(u32, &str)> = (0..4).map(|at| (lines.number(at), lines.line(at))).collect();
        assert_eq!(found, [(1, "a"), (2, "b"), (2, "c"), (3, "d")]);
        assert_eq!([0, 1, 2, 4, 6, 7].map(|at| lines.at(at)), [0, 0, 1, 2, 3, 3]);
    }

    #[test]
    fn only_so_much_of_a_text_is_looked_at() {
        let text = format!("a{}z", "\u{fc}".repeat(MOST_AROUND));
        assert!(end_of(&text).ends_with('z') && (MOST_AROUND..MOST_AROUND + 4).contains(&end_of(&text).len()));
        assert!(beginning_of(&text).starts_with('a') && beginning_of(&text).len() == MOST_AROUND - 1);
        assert_eq!((end_of("a b"), beginning_of("a b")), ("a b", "a b"));
    }

    #[test]
    fn lines_that_belong_together_are_one_unit() {
        let cases: &[(&str, &[&str])] = &[
            ("one HERE two\nthree v1\n", &[]),
            ("helm upgrade \\\n  --set HERE \\\n  --set tag=v1\nnext", &["helm upgrade \\\n  HERE\n  --set tag=v1"]),
            ("a `\n HERE\nb", &["a `\n HERE"]),
            // Settings.
            ("A=HERE\n# note\n\nB=v1\nC='v2 x'\ndone\nD=v3\n", &["v1", "'v2 x'"]),
            ("time=1 image=HERE tag=v1\ntime=2 image=x tag=v2\n", &[]),
            (
                "image = {\n  repository = \"HERE\"\n  deep = {\n    tag = \"no\"\n  }\n  tag = \"v1\"\n}\ntag = \"v2\"\n",
                &["\"v1\""],
            ),
            ("- name: HERE\n  newTag: v1\n- name: x\n  newTag: v2\n", &["v1"]),
            ("- name: x\n  newTag: v2\n- newTag: v1\n  name: HERE\n", &["v1"]),
            ("  \"image\": \"HERE\",\n  \"tag\": \"v1\",\n}\n", &["\"v1\","]),
            ("<image>HERE</image>\n<tag>v1</tag>\n</x>\n", &["v1</tag>"]),
            ("We now run HERE: fine\nversion: v1\n", &[]),
            ("[a]\nimage=HERE\ntag=v1\n[b]\ntag=v2\n", &["v1"]),
            // Tables.
            (
                "<tr><td>x</td></tr>\n<tr>\n<td>HERE</td>\n<td>v1</td>\n</tr>\n<tr><td>v2</td></tr>\n",
                &["<tr>\nHERE\n<td>v1</td>", "v1</td>"],
            ),
            // Names and values.
            (
                "set {\n  name = \"image.repository\"\n  value = \"HERE\"\n}\nset {\n  name = \"image.tag\"\n  value = \"v1\"\n}\n",
                &["\"image.repository\"", "\"image.tag\"\n  value = \"v1\"\n}"],
            ),
            (
                "{ name = \"image.tag\", value = \"v1\" },\n{ name = \"image.repository\", value = \"HERE\" },\n",
                &["\"image.tag\", value = \"v1\" },\nHERE"],
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(beside(text), *expected, "{text}");
        }
    }
}
