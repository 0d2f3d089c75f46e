//! Inert Markdown: escaped texts, and the tables and sections that contain them.

use crate::report::humanize::{format_count, sanitize, truncate};

/// Most bytes of the whole text, so that it fits within the 65,536 characters of a comment on GitHub.
pub(super) const MAX_BYTES: usize = 59_900;
/// Most bytes of one piece of text from outside, before it is escaped.
pub(super) const MAX_TEXT_BYTES: usize = 600;

/// Formats text from outside as inert text: one line, truncated, without a meaning in Markdown or HTML. An `@` or `#`
/// gets a zero-width space after it, since mentions and references are resolved after rendering.
pub(in crate::report) fn escape(text: &str) -> String {
    let text = truncate(&sanitize(text), MAX_TEXT_BYTES);
    let mut out = String::with_capacity(text.len() + 8);
    let mut before = ' ';
    let mut rest = text.as_str();
    while let Some(found) = rest.chars().next() {
        if let Some(quoted) = quoted(rest) {
            out.push_str(quoted);
            (rest, before) = (&rest[quoted.len()..], '`');
            continue;
        }
        rest = &rest[found.len_utf8()..];
        match found {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '@' if before.is_ascii_alphanumeric() => out.push('@'),
            '@' => out.push_str("@&#8203;"),
            '#' => out.push_str("\\#&#8203;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '!' | '$' => out.extend(['\\', found]),
            found => out.push(found),
        }
        before = found;
    }
    out
}

/// Returns the quotation in backticks at the start of a text, backticks included, if it is harmless as code.
fn quoted(text: &str) -> Option<&str> {
    let end = text.strip_prefix('`')?.find('`')?;
    let inner = &text[1..=end];
    (!inner.is_empty() && inner.trim() == inner && inner.chars().all(is_inert)).then(|| &text[..end + 2])
}

/// Returns true for a character without a meaning in code, not even in a table.
fn is_inert(found: char) -> bool {
    found.is_ascii_alphanumeric() || "._-/:@+ ,=*\"".contains(found)
}

/// Formats a name as code if it can only be a name, and otherwise as inert text.
pub(in crate::report) fn code(name: &str) -> String {
    if !name.is_empty() && name.trim() == name && name.len() <= MAX_TEXT_BYTES && name.chars().all(is_inert) {
        format!("`{name}`")
    } else {
        escape(name)
    }
}

/// Joins lines up to a number of bytes, and counts the rest.
pub(in crate::report) fn lines(most: usize, total: usize, rows: impl Iterator<Item = String>) -> String {
    let mut out = String::new();
    let mut shown = 0;
    for row in rows {
        if out.len() + row.len() + 1 > most {
            break;
        }
        out.push_str(&row);
        out.push('\n');
        shown += 1;
    }
    if total > shown {
        out.extend(["\n… and ", &format_count((total - shown) as u64), " more in the JSON.\n"]);
    }
    out
}

/// Formats a row of a table.
pub(super) fn row<const N: usize>(cells: &[String; N]) -> String {
    format!("| {} |", cells.join(" | "))
}

/// Formats a block that is folded below its title.
pub(in crate::report) fn folded(title: &str, content: &str) -> String {
    format!("<details><summary>{title}</summary>\n\n{content}\n</details>\n")
}

/// Formats a section with its heading.
pub(super) fn section(title: &str, content: &str) -> String {
    format!("\n### {title}\n\n{content}")
}
