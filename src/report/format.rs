//! The formats of a report.

use std::io;

use super::csv::write_csv;
use super::ticket::{TicketDialect, plan_ticket};
use super::{PlanDocument, html, markdown, text};
use crate::domain::chain;

/// The formats of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// For the terminal.
    Text,
    /// The document itself; the one format that `apply` reads.
    Json,
    /// For a change ticket or a comment.
    Markdown,
    /// One page for a browser.
    Html,
    /// One row for each tag.
    Csv,
    /// The decision, for a ticket of a system that does not render Markdown.
    Ticket(TicketDialect),
}

impl Format {
    /// All formats of a whole report; tickets have only the decision.
    pub const ALL: [Self; 5] = [Self::Text, Self::Json, Self::Markdown, Self::Html, Self::Csv];

    /// Returns the name used on the command line.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Markdown => "markdown",
            Self::Html => "html",
            Self::Csv => "csv",
            Self::Ticket(TicketDialect::Jira) => "jira",
            Self::Ticket(TicketDialect::ServiceNow) => "servicenow",
        }
    }

    /// Returns the format for a file name's extension, without its dot and in any case.
    #[must_use]
    pub fn from_extension(extension: &str) -> Option<Self> {
        match extension.to_ascii_lowercase().as_str() {
            "txt" | "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            "md" | "markdown" => Some(Self::Markdown),
            "html" | "htm" => Some(Self::Html),
            "csv" => Some(Self::Csv),
            "jira" => Some(Self::Ticket(TicketDialect::Jira)),
            "servicenow" => Some(Self::Ticket(TicketDialect::ServiceNow)),
            _ => None,
        }
    }
}

/// Renders the document in a format, ending in a line break.
#[must_use]
pub fn render(document: &PlanDocument, format: Format) -> String {
    let mut out = Vec::new();
    match write(document, format, &mut out) {
        Ok(()) => String::from_utf8_lossy(&out).into_owned(),
        // Unreachable: writing to memory cannot fail, and the document has string keys only. `apply` would refuse such
        // a text.
        Err(error) => format!("the plan could not be written as {}: {}\n", format.label(), chain(&error)),
    }
}

/// Writes the document in a format, ending in a line break. The formats that list every tag are streamed.
///
/// # Errors
/// Returns an error if writing fails.
pub fn write(document: &PlanDocument, format: Format, out: &mut dyn io::Write) -> io::Result<()> {
    match format {
        Format::Text => out.write_all(text(document).as_bytes()),
        Format::Json => {
            serde_json::to_writer_pretty(&mut *out, document)?;
            out.write_all(b"\n")
        }
        Format::Markdown => out.write_all(markdown(document).as_bytes()),
        Format::Html => out.write_all(html(document).as_bytes()),
        Format::Csv => write_csv(document, out),
        Format::Ticket(dialect) => out.write_all(plan_ticket(document, dialect).as_bytes()),
    }
}
