//! Decoding of texts before they are searched: escapes that a program wrote around or instead of the visible
//! characters.
//!
//! Line numbers are preserved: a line end inside an escaped text becomes a [`SOFT_BREAK`], which is not counted as a
//! line.

use std::borrow::Cow;

/// The end of a line inside an escaped text.
pub(super) const SOFT_BREAK: char = '\u{b}';

/// Maximum depth of nested escapes: JSON in JSON in a log.
const MOST_PASSES: usize = 3;

/// Longest text that a terminal escape hides, such as the target of a link.
const LONGEST_HIDDEN: usize = 2048;

/// Names of characters in HTML.
const ENTITIES: [(&str, char); 14] = [
    ("amp", '&'),
    ("apos", '\''),
    ("colon", ':'),
    ("commat", '@'),
    ("dash", '-'),
    ("equals", '='),
    ("gt", '>'),
    ("hyphen", '-'),
    ("lowbar", '_'),
    ("lt", '<'),
    ("nbsp", ' '),
    ("period", '.'),
    ("quot", '"'),
    ("sol", '/'),
];

/// Returns a text without terminal escapes, and with the escapes of JSON, URLs and HTML decoded.
pub(super) fn decode(text: &str) -> Cow<'_, str> {
    let mut decoded = Cow::Borrowed(text);
    for _ in 0..MOST_PASSES {
        match pass(&decoded) {
            Some(next) => decoded = Cow::Owned(next),
            None => break,
        }
    }
    decoded
}

/// Decodes each escape once; `None` if there is none.
fn pass(text: &str) -> Option<String> {
    let mut at = text.bytes().position(is_special)?;
    let mut out: Option<String> = None;
    let mut kept = 0;
    while at < text.len() {
        if let Some((length, replacement)) = escape(&text[at..]) {
            let out = out.get_or_insert_with(|| String::with_capacity(text.len()));
            out.push_str(&text[kept..at]);
            // An escaped line end must not start a line.
            out.extend(replacement.map(|c| if matches!(c, '\n' | '\r') { SOFT_BREAK } else { c }));
            at += length;
            kept = at;
        } else {
            at += 1;
        }
        at += text.as_bytes()[at..].iter().position(|&byte| is_special(byte)).unwrap_or(text.len() - at);
    }
    let mut out = out?;
    out.push_str(&text[kept..]);
    Some(out)
}

/// Returns true for the first bytes of escapes. All of them are characters by themselves or begin one.
fn is_special(byte: u8) -> bool {
    matches!(byte, b'\\' | b'%' | b'&' | 0x1b | 0xc2 | 0xe2)
}

/// Returns the length of the escape at the beginning of a text, and the character that it stands for.
fn escape(text: &str) -> Option<(usize, Option<char>)> {
    match text.as_bytes() {
        [b'\\', ..] => backslash(text).map(|(length, c)| (length, Some(c))),
        [b'%', high, low, ..] => Some((3, Some(percent(*high, *low)?))),
        [b'&', ..] => entity(text).map(|(length, c)| (length, Some(c))),
        [0x1b, ..] => Some((terminal(text), None)),
        // The same in one character, and zero-width characters, which copied texts have inside names.
        [0xc2, 0x9b, ..] => Some((2 + control_sequence(&text[2..]), None)),
        [0xc2, 0xad, ..] => Some((2, None)),
        [0xe2, 0x80, 0x8b..=0x8d, ..] | [0xe2, 0x81, 0xa0, ..] => Some((3, None)),
        _ => None,
    }
}

/// Decodes an escape of JSON, of shells, of properties files or of Markdown.
fn backslash(text: &str) -> Option<(usize, char)> {
    let next = text[1..].chars().next()?;
    match next {
        'n' => Some((2, '\n')),
        'r' => Some((2, '\r')),
        't' => Some((2, '\t')),
        'u' => unicode(text),
        'x' => Some((4, char::from(u8::from_str_radix(text.get(2..4)?, 16).ok()?))),
        'e' if text[2..].starts_with('[') => Some((2, '\u{1b}')),
        '0' if text.starts_with("\\033") => Some((4, '\u{1b}')),
        c if c.is_ascii_punctuation() => Some((2, c)),
        _ => None,
    }
}

/// Decodes `\u002f`, also as a surrogate pair.
fn unicode(text: &str) -> Option<(usize, char)> {
    let unit = |at: usize| {
        let digits = text.get(at..)?.strip_prefix("\\u")?.get(..4)?;
        u16::from_str_radix(digits, 16).ok()
    };
    let first = unit(0)?;
    let alone = || char::decode_utf16([first]).next()?.ok().map(|c| (6, c));
    alone().or_else(|| char::decode_utf16([first, unit(6)?]).next()?.ok().map(|c| (12, c)))
}

/// Decodes the characters of references that URLs escape; others are irrelevant here.
fn percent(high: u8, low: u8) -> Option<char> {
    match (high, low.to_ascii_uppercase()) {
        (b'2', b'F') => Some('/'),
        (b'3', b'A') => Some(':'),
        (b'4', b'0') => Some('@'),
        (b'2', b'B') => Some('+'),
        (b'2', b'5') => Some('%'),
        _ => None,
    }
}

/// Decodes an entity of HTML, by its name or number.
fn entity(text: &str) -> Option<(usize, char)> {
    let end = text.as_bytes().iter().take(10).position(|byte| *byte == b';')?;
    let name = &text[1..end];
    let c = match name.strip_prefix('#') {
        Some(number) => {
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            let c = char::from_u32(code.ok()?)?;
            if c == '\u{a0}' { ' ' } else { c }
        }
        None => ENTITIES.iter().find(|(known, _)| *known == name)?.1,
    };
    Some((end + 1, c))
}

/// Returns the bytes of an escape sequence of terminals (ECMA-48).
fn terminal(text: &str) -> usize {
    match text.as_bytes() {
        [_, b'[', ..] => 2 + control_sequence(&text[2..]),
        [_, b']' | b'P' | b'X' | b'^' | b'_', ..] => 2 + control_string(&text[2..]),
        [_, b'(' | b')', after, ..] if after.is_ascii_graphic() => 3,
        [_, b'0'..=b'~', ..] => 2,
        _ => 1,
    }
}

/// Returns the length of parameters and the one character that ends them.
fn control_sequence(text: &str) -> usize {
    let parameters = text.bytes().take_while(|byte| (0x20..=0x3f).contains(byte)).count();
    let ended = text.as_bytes().get(parameters).is_some_and(|byte| (0x40..=0x7e).contains(byte));
    parameters + usize::from(ended)
}

/// Returns the length of a hidden text; 0 if it does not end on its line.
fn control_string(text: &str) -> usize {
    let bytes = text.as_bytes();
    let bytes = &bytes[..bytes.len().min(LONGEST_HIDDEN)];
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'\n' => return 0,
            0x07 => return at + 1,
            0x1b if bytes.get(at + 1) == Some(&b'\\') => return at + 2,
            0xc2 if bytes.get(at + 1) == Some(&0x9c) => return at + 2,
            _ => {}
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_escape_is_read() {
        for (text, expected) in [
            ("plain", "plain"),
            ("100% of C:\\Program Files & more", "100% of C:\\Program Files & more"),
            // JSON, also inside JSON.
            (r#"{"m":"a\nb:v1\tc\"d\/e\u002ff"}"#, "{\"m\":\"a\u{b}b:v1\tc\"d/e/f\"}"),
            (r#"\\\"x\\n\\u002f"#, "\"x\u{b}/"),
            (r"a\x0ab\u000dc", "a\u{b}b\u{b}c"),
            (r"\ud83d\ude00 \ud83d \uzzzz", "😀 \\ud83d \\uzzzz"),
            // Shells, properties and Markdown.
            (r"a\:b\=c\_d \$e", "a:b=c_d $e"),
            ("docker build \\\n  .", "docker build \\\n  ."),
            // Addresses and HTML.
            ("shop%2fapi%3Av1%40x%2525", "shop/api:v1@x%"),
            ("a%20b", "a%20b"),
            ("shop&#x2F;api&#58;v1&nbsp;&lt;b&gt;&amp;&quot;&bull;", "shop/api:v1 <b>&\"&bull;"),
            ("&amp;lt;x", "<x"),
            ("a & b; c", "a & b; c"),
            // Terminals.
            ("\u{1b}[32mapi:v1\u{1b}[0m", "api:v1"),
            ("api:\u{1b}[1;31mv1\u{1b}[K!", "api:v1!"),
            ("\u{9b}32mapi", "api"),
            ("\u{1b}]8;;http://x\u{1b}\\api\u{1b}]8;;\u{7}", "api"),
            ("\u{1b}]open\napi", "open\napi"),
            ("\u{1b}(Bapi\u{1b}", "api"),
            (r"\u001b[32mapi\033[0m\e[1m\x1b[0m", "api"),
            // Characters without width.
            ("contoso\u{200b}.azurecr.io\u{ad}/é", "contoso.azurecr.io/é"),
        ] {
            assert_eq!(decode(text), expected, "{text:?}");
            assert_eq!(decode(text).matches('\n').count(), text.matches('\n').count(), "{text:?}");
        }
        assert!(matches!(decode("nothing at all"), Cow::Borrowed(_)));
    }
}
