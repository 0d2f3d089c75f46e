//! Tables of text: as wide as they need to be, or as wide as a terminal.

use std::cell::Cell;

use comfy_table::{ContentArrangement, Table, presets};

thread_local! {
    /// The width of the terminal that tables are made for. A command sets it right before it prints; files and other
    /// threads never see it.
    static WIDTH: Cell<Option<u16>> = const { Cell::new(None) };
}

/// Makes the tables of this thread so wide from now on; `None` as wide as they need to be.
pub fn set_table_width(width: Option<u16>) {
    WIDTH.set(width);
}

/// An empty table without lines.
#[must_use]
pub fn table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    match WIDTH.get() {
        Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    table
}
