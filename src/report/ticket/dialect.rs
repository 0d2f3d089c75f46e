//! The markup of ticket systems, and how text from outside is written in it without a meaning.

use crate::report::humanize::{sanitize, truncate};

/// A ticket system with a markup of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TicketDialect {
    /// The wiki markup of Jira:
    /// <https://jira.atlassian.com/secure/WikiRendererHelpAction.jspa?section=all>.
    Jira,
    /// HTML in a `[code]` block, as journal fields of ServiceNow render it.
    ServiceNow,
}

impl TicketDialect {
    /// Returns the most bytes of a text: of a comment in Jira (32,767 characters), and of a journal field in ServiceNow
    /// (4,000 by default).
    pub(super) fn max_bytes(self) -> usize {
        match self {
            Self::Jira => 32_000,
            Self::ServiceNow => 3_900,
        }
    }

    /// Returns the most bytes of one piece of text, before it is escaped.
    fn max_piece(self) -> usize {
        match self {
            Self::Jira => 600,
            Self::ServiceNow => 240,
        }
    }

    /// Formats text from outside as inert text in one line.
    pub(super) fn escape(self, text: &str) -> String {
        self.escape_within(text, self.max_piece())
    }

    fn escape_within(self, text: &str, max: usize) -> String {
        let text = truncate(&sanitize(text), max);
        match self {
            Self::Jira => format_jira(&text),
            Self::ServiceNow => escape_html(&text),
        }
    }

    /// Formats what to do next as a paragraph. It may be twice as long as other text: a command that is cut is of no use.
    pub(super) fn advice(self, text: &str) -> String {
        self.escaped_paragraph(&self.escape_within(text, 2 * self.max_piece()))
    }

    /// Formats what to do next as an item of a list.
    pub(super) fn advice_bullet(self, text: &str) -> String {
        self.escaped_bullet(&self.escape_within(text, 2 * self.max_piece()))
    }

    pub(super) fn heading(self, text: &str) -> String {
        let text = self.escape(text);
        match self {
            Self::Jira => format!("h3. {text}"),
            Self::ServiceNow => format!("<h3>{text}</h3>"),
        }
    }

    pub(super) fn strong(self, text: &str) -> String {
        let text = self.escape(text);
        match self {
            Self::Jira => format!("*{text}*"),
            Self::ServiceNow => format!("<p><b>{text}</b></p>"),
        }
    }

    pub(super) fn paragraph(self, text: &str) -> String {
        self.escaped_paragraph(&self.escape(text))
    }

    fn escaped_paragraph(self, text: &str) -> String {
        match self {
            Self::Jira => text.to_owned(),
            Self::ServiceNow => format!("<p>{text}</p>"),
        }
    }

    pub(super) fn bullet(self, text: &str) -> String {
        self.escaped_bullet(&self.escape(text))
    }

    fn escaped_bullet(self, text: &str) -> String {
        match self {
            Self::Jira => format!("* {text}"),
            Self::ServiceNow => format!("<li>{text}</li>"),
        }
    }

    /// Joins bullets.
    pub(super) fn list(self, bullets: &[String]) -> String {
        match self {
            Self::Jira => bullets.join("\n"),
            Self::ServiceNow => format!("<ul>{}</ul>", bullets.concat()),
        }
    }

    /// Joins the parts of a document. ServiceNow turns each line break into one of the text, so there are none.
    pub(super) fn document(self, parts: &[String]) -> String {
        match self {
            Self::Jira => parts.join("\n\n") + "\n",
            Self::ServiceNow => format!("[code]{}[/code]\n", parts.concat()),
        }
    }
}

/// Formats text as wiki markup: commands and names between backticks are monospaced, and nothing else has a meaning.
fn format_jira(text: &str) -> String {
    let parts: Vec<&str> = text.split('`').collect();
    // An odd number of backticks leaves open which of them belong together.
    if parts.len().is_multiple_of(2)
        || parts.iter().skip(1).step_by(2).any(|code| code.trim() != *code || code.is_empty())
    {
        return escape_jira(text);
    }
    let format = |(place, part): (usize, &&str)| {
        let part = escape_jira(part);
        if place % 2 == 1 { format!("{{{{{part}}}}}") } else { part }
    };
    parts.iter().enumerate().map(format).collect()
}

/// Escapes what wiki markup gives a meaning anywhere in a line. A hyphen within a word has none.
fn escape_jira(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut before = ' ';
    let mut rest = text.chars();
    while let Some(found) = rest.next() {
        let next = rest.as_str().chars().next().unwrap_or(' ');
        let is_markup = match found {
            '\\' | '{' | '}' | '[' | ']' | '|' | '*' | '_' | '+' | '^' | '~' | '!' | '?' => true,
            '-' => !before.is_alphanumeric() || !next.is_alphanumeric(),
            // Emoticons: `(/)`, `(x)`, `:)`, `;-)`.
            '(' => rest.as_str().chars().nth(1) == Some(')') || rest.as_str().starts_with("off)"),
            ':' | ';' => matches!(next, ')' | '(' | 'D' | 'P' | 'p' | '-'),
            _ => false,
        };
        if is_markup {
            out.push('\\');
        }
        out.push(found);
        before = found;
    }
    // At the beginning of a line: headings, quotations and numbered lists.
    let begins = text.starts_with('#')
        || text.starts_with("bq.")
        || text.starts_with('h')
            && text.chars().nth(1).is_some_and(|c| c.is_ascii_digit())
            && text.chars().nth(2) == Some('.');
    if begins { format!("\\{out}") } else { out }
}

/// Escapes for HTML within `[code]`, whose end must not be in it.
fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for found in text.chars() {
        match found {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '[' => out.push_str("&#91;"),
            ']' => out.push_str("&#93;"),
            found => out.push(found),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_has_no_meaning_in_any_dialect() {
        for (text, jira, servicenow) in [
            ("contoso/shop/api:v1-rc.2", "contoso/shop/api:v1-rc.2", "contoso/shop/api:v1-rc.2"),
            ("{code}x{code}", "\\{code\\}x\\{code\\}", "{code}x{code}"),
            (
                "[~admin] [x|http://evil]",
                "\\[\\~admin\\] \\[x\\|http://evil\\]",
                "&#91;~admin&#93; &#91;x|http://evil&#93;",
            ),
            ("[/code]<script>", "\\[/code\\]<script>", "&#91;/code&#93;&lt;script&gt;"),
            (
                "*b* _i_ -s- +u+ ??c?? ^x^ ~y~",
                "\\*b\\* \\_i\\_ \\-s\\- \\+u\\+ \\?\\?c\\?\\? \\^x\\^ \\~y\\~",
                "*b* _i_ -s- +u+ ??c?? ^x^ ~y~",
            ),
            ("!image.png! a\\b", "\\!image.png\\! a\\\\b", "!image.png! a\\b"),
            ("||head|| (/) (x) :) ;-)", "\\|\\|head\\|\\| \\(/) \\(x) \\:) \\;\\-)", "||head|| (/) (x) :) ;-)"),
            ("run `plan --x` {y}", "run {{plan \\-\\-x}} \\{y\\}", "run `plan --x` {y}"),
            ("an odd ` stays", "an odd ` stays", "an odd ` stays"),
            ("h1. big", "\\h1. big", "h1. big"),
            ("# one\n* two", "\\# one \\* two", "# one * two"),
            ("a & b \"c\" 'd'", "a & b \"c\" 'd'", "a &amp; b &quot;c&quot; &#39;d&#39;"),
        ] {
            assert_eq!(TicketDialect::Jira.escape(text), jira, "{text}");
            assert_eq!(TicketDialect::ServiceNow.escape(text), servicenow, "{text}");
        }
    }
}
