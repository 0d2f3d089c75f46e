//! Messages as pages show them: text, in which commands and keys stand in backticks.

use std::fmt;

use askama::filters::HtmlSafe;

/// A message whose parts in backticks are shown as code. Its `Display` is HTML: everything else in it is text.
pub(super) struct Prose<'t>(&'t str);

/// Shows a message; templates call it.
pub(super) fn prose(text: &str) -> Prose<'_> {
    Prose(text)
}

impl fmt::Display for Prose<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        // A backtick without a second one is a character like others.
        while let Some((before, (code, after))) =
            rest.split_once('`').and_then(|(before, rest)| Some((before, rest.split_once('`')?)))
        {
            write_text(f, before)?;
            if code.is_empty() {
                f.write_str("``")?;
            } else {
                f.write_str("<code>")?;
                write_text(f, code)?;
                f.write_str("</code>")?;
            }
            rest = after;
        }
        write_text(f, rest)
    }
}

/// Writes text with the characters escaped that mean something in HTML.
fn write_text(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    for part in text.split_inclusive(['&', '<', '>', '"', '\'']) {
        let (plain, escaped) = match part.as_bytes().last() {
            Some(b'&') => (&part[..part.len() - 1], "&#38;"),
            Some(b'<') => (&part[..part.len() - 1], "&#60;"),
            Some(b'>') => (&part[..part.len() - 1], "&#62;"),
            Some(b'"') => (&part[..part.len() - 1], "&#34;"),
            Some(b'\'') => (&part[..part.len() - 1], "&#39;"),
            _ => (part, ""),
        };
        f.write_str(plain)?;
        f.write_str(escaped)?;
    }
    Ok(())
}

// Text is escaped, and the only elements are those written above.
impl HtmlSafe for Prose<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_backticks_in_pairs_are_code() {
        for (text, html) in [
            ("", ""),
            ("run `tagwarden check`; or not", "run <code>tagwarden check</code>; or not"),
            ("`a`` b`", "<code>a</code><code> b</code>"),
            ("a ` b", "a ` b"),
            ("`a` and ` b", "<code>a</code> and ` b"),
            ("it is ``", "it is ``"),
            ("`</code><script>` & \"'é>", "<code>&#60;/code&#62;&#60;script&#62;</code> &#38; &#34;&#39;é&#62;"),
        ] {
            assert_eq!(prose(text).to_string(), html, "{text}");
        }
    }
}
