//! Tables of text: as wide as they need to be or, in a narrower terminal, with wrapped cells or as lists. Words stay whole.

use std::cell::Cell;

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, Width, presets};

thread_local! {
    /// The width of the terminal that tables are made for. A command sets it right before it prints; files and other
    /// threads never see it.
    static WIDTH: Cell<Option<u16>> = const { Cell::new(None) };
}

/// Columns of space around each cell.
const PADDING: usize = 2;

/// Lines that a row may have on average. With more, a list is easier to read.
const MOST_LINES: usize = 3;

/// Makes the tables of this thread so wide from now on; `None` as wide as they need to be.
pub fn set_table_width(width: Option<u16>) {
    WIDTH.set(width);
}

/// Rows below headings, without rules between them.
#[derive(Debug)]
pub struct TextTable {
    headings: Vec<String>,
    right: Vec<usize>,
    rows: Vec<Vec<String>>,
}

impl TextTable {
    /// Creates a table without rows.
    pub fn new<H: Into<String>>(headings: impl IntoIterator<Item = H>) -> Self {
        Self { headings: headings.into_iter().map(Into::into).collect(), right: Vec::new(), rows: Vec::new() }
    }

    /// Aligns these columns right.
    #[must_use]
    pub fn align_right(self, columns: &[usize]) -> Self {
        Self { right: columns.to_owned(), ..self }
    }

    /// Adds a row.
    pub fn add_row<C: Into<String>>(&mut self, cells: impl IntoIterator<Item = C>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// Returns true if nothing has to be wrapped in it.
    #[must_use]
    pub fn fits(&self) -> bool {
        WIDTH.get().is_none_or(|width| widest(&self.natural_lines()) <= usize::from(width))
    }

    /// Renders the table, each line behind so many spaces.
    #[must_use]
    pub fn text(&self, indent: usize) -> String {
        let indent = " ".repeat(indent);
        let lines = self.lines(WIDTH.get().map(|width| usize::from(width).saturating_sub(indent.len())));
        lines.iter().flat_map(|line| [&*indent, line.trim_end(), "\n"]).collect()
    }

    fn lines(&self, room: Option<usize>) -> Vec<String> {
        let natural = self.natural_lines();
        match room {
            Some(room) if widest(&natural) > room => self.wrapped_lines(room).unwrap_or_else(|| self.list_lines(room)),
            _ => natural,
        }
    }

    fn natural_lines(&self) -> Vec<String> {
        let mut table = self.table();
        table.set_content_arrangement(ContentArrangement::Disabled);
        table.lines().collect()
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(&self.headings);
        table.add_rows(&self.rows);
        for &column in &self.right {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }

    /// Renders it with cells that are wrapped between words; `None` if it would be too narrow or too high for that.
    fn wrapped_lines(&self, room: usize) -> Option<Vec<String>> {
        let mut widths = self.column_widths(str::split_whitespace);
        let natural = self.column_widths(str::lines);
        let mut left = room.checked_sub(widths.iter().map(|width| width + PADDING).sum())?;
        // Those that lack least come first, so that as many columns as possible stay as they are.
        let mut narrow: Vec<usize> = (0..widths.len()).collect();
        narrow.sort_by_key(|column| natural[*column] - widths[*column]);
        for (done, column) in narrow.iter().enumerate() {
            let more = (natural[*column] - widths[*column]).min(left / (narrow.len() - done));
            widths[*column] += more;
            left -= more;
        }
        let mut table = self.table();
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(u16::try_from(room).ok()?);
        let fixed =
            |width: &usize| u16::try_from(width + PADDING).map(|width| ColumnConstraint::Absolute(Width::Fixed(width)));
        table.set_constraints(widths.iter().map(fixed).collect::<Result<Vec<_>, _>>().ok()?);
        let lines: Vec<String> = table.lines().collect();
        (lines.len() <= MOST_LINES * (self.rows.len() + 1)).then_some(lines)
    }

    /// Returns the width of each column: that of the longest part of its cells.
    fn column_widths<'t, P: Iterator<Item = &'t str>>(&'t self, parts: fn(&'t str) -> P) -> Vec<usize> {
        let cells = |column: usize| {
            let cells = self.rows.iter().filter_map(move |row| row.get(column));
            cells.chain(&self.headings[column..=column])
        };
        let width = |column| cells(column).flat_map(|cell| parts(cell)).map(char_count).max().unwrap_or_default();
        (0..self.headings.len()).map(width).collect()
    }

    /// Renders a list: the first cell of a row with a heading, and below it a line for each other one.
    fn list_lines(&self, room: usize) -> Vec<String> {
        let title = 1 + self.headings.iter().take_while(|heading| heading.is_empty()).count();
        let mut lines = Vec::new();
        for row in &self.rows {
            let (head, rest) = row.split_at(title.min(row.len()));
            let head: Vec<&str> = head.iter().map(String::as_str).filter(|cell| !cell.is_empty()).collect();
            wrap(&mut lines, room, 1, &head.join(" "));
            for (heading, cell) in self.headings.iter().skip(title).zip(rest).filter(|(_, cell)| !cell.is_empty()) {
                wrap(&mut lines, room, 3, &format!("{}: {cell}", heading.to_lowercase()));
            }
        }
        lines
    }
}

/// Wraps a text between words. All of its lines but the first are indented by two columns more.
fn wrap(lines: &mut Vec<String>, room: usize, indent: usize, text: &str) {
    let mut line = " ".repeat(indent);
    let mut is_empty = true;
    for word in text.split_whitespace() {
        if !is_empty && char_count(&line) + 1 + char_count(word) > room {
            lines.push(std::mem::replace(&mut line, " ".repeat(indent + 2)));
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    lines.push(line);
}

fn widest(lines: &[String]) -> usize {
    lines.iter().map(|line| char_count(line.trim_end())).max().unwrap_or_default()
}

fn char_count(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs() -> TextTable {
        let mut table = TextTable::new(["RUN", "MODE", "BY", "WHY"]);
        table.add_row(["01a22a06-1234-7000-8000-000000000001", "dry-run", "anna@build-7.contoso.example", ""]);
        table.add_row(["01a22a06-1234-7000-8000-000000000002", "enforce", "bo@build-7", "the candidate-builds expire"]);
        table
    }

    /// However narrow the terminal is, each word is on one line, and no line is wider than the terminal but for a word
    /// that is.
    #[test]
    fn no_width_breaks_a_word() {
        let table = runs();
        for width in 10..130 {
            let lines = table.lines(Some(width));
            let text = lines.join("\n");
            let words = table.rows.iter().flatten().flat_map(|cell| cell.split_whitespace());
            for word in words {
                assert!(text.contains(word), "{word} at {width}:\n{text}");
            }
            for line in &lines {
                let longest = line.split_whitespace().map(char_count).max().unwrap_or_default();
                let least = longest + "    ".len() + "mode: ".len();
                assert!(char_count(line.trim_end()) <= width.max(least), "{line:?} at {width}");
            }
        }
    }

    #[test]
    fn a_narrow_terminal_gets_a_list() {
        let expected = " 01a22a06-1234-7000-8000-000000000001
   mode: dry-run
   by: anna@build-7.contoso.example
 01a22a06-1234-7000-8000-000000000002
   mode: enforce
   by: bo@build-7
   why: the candidate-builds expire";
        assert_eq!(runs().lines(Some(40)).join("\n"), expected);
        let wide = runs().lines(None);
        assert_eq!((wide.len(), wide[0].split_whitespace().count()), (3, 4), "{wide:?}");
        assert_eq!(runs().lines(Some(widest(&wide))), wide);
        let wrapped = runs().lines(Some(widest(&wide) - 3));
        assert_eq!(wrapped.len(), 4, "one cell has two lines: {wrapped:?}");
    }
}
