//! The formats of a report.

use super::{PlanDocument, csv, html, markdown, text};

/// How a plan can be written.
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
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Text, Self::Json, Self::Markdown, Self::Html, Self::Csv];

    /// The name used on the command line.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Markdown => "markdown",
            Self::Html => "html",
            Self::Csv => "csv",
        }
    }

    /// The format that a file name's extension asks for, without its dot and in any case.
    #[must_use]
    pub fn of_extension(extension: &str) -> Option<Self> {
        match extension.to_ascii_lowercase().as_str() {
            "txt" | "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            "md" | "markdown" => Some(Self::Markdown),
            "html" | "htm" => Some(Self::Html),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }
}

/// The document in a format, ending in a line break.
#[must_use]
pub fn render(document: &PlanDocument, format: Format) -> String {
    match format {
        Format::Text => text(document),
        Format::Json => json(document),
        Format::Markdown => markdown(document),
        Format::Html => html(document),
        Format::Csv => csv(document),
    }
}

fn json(document: &PlanDocument) -> String {
    match serde_json::to_string_pretty(document) {
        Ok(json) => json + "\n",
        // Cannot be: the shape has string keys only. Text that is no plan is what `apply` then refuses.
        Err(error) => format!("the plan could not be written as JSON: {error}\n"),
    }
}
