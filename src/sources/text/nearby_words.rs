//! The words beside a reference without a tag, one of which may be its tag.

use std::collections::BTreeSet;

use super::occurrences::{meaning, scan_hosts};
use super::placeholder;
use super::words::words;
use crate::domain::ImageReference;
use crate::sources::known_hosts::KnownHosts;

/// Most words of one unit. Larger units are data, in which adjacency means nothing.
const MOST_WORDS: usize = 400;

/// Most texts and bytes of one unit, for the same reason: they are read for each reference in it.
pub(super) const MOST_TEXTS: usize = 4096;
const MOST_BYTES: usize = 32 << 10;

/// Words in the names of variables with a tag.
const TAG_NAMES: [&str; 6] = ["build", "commit", "digest", "sha", "tag", "version"];

/// Bytes before a placeholder that may name it.
const MAX_NAME_BYTES: usize = 24;

/// Returns the words of adjacent texts, in the forms in which they may be a tag; empty if the tag itself is a
/// placeholder. The words of references to other repositories do not count.
pub(super) fn nearby_words<'t>(
    texts: impl Iterator<Item = &'t str>,
    own: &ImageReference,
    hosts: &KnownHosts,
) -> Vec<Box<str>> {
    let mut found: BTreeSet<Box<str>> = BTreeSet::new();
    let last = own.repository.as_ref().and_then(|path| path.as_str().rsplit('/').next()).unwrap_or_default();
    let mut bytes = 0;
    for (number, text) in texts.enumerate() {
        bytes += text.len();
        if number >= MOST_TEXTS || bytes > MOST_BYTES || has_open_tag(text) {
            return Vec::new();
        }
        let mut at = 0;
        for seen in scan_hosts(text, hosts) {
            if seen.span.start < at {
                continue;
            }
            add(&text[at..seen.span.start], last, &mut found);
            at = seen.span.end;
            if !placeholder::has_placeholder(seen.text) {
                let images = meaning(seen.text, seen.ending, "").images.into_iter();
                let tags = images.filter(|image| image.repository == own.repository).filter_map(|image| image.tag);
                found.extend(tags.map(|tag| tag.as_str().into()));
            }
        }
        add(&text[at..], last, &mut found);
        if found.len() > MOST_WORDS {
            return Vec::new();
        }
    }
    found.into_iter().collect()
}

fn add(text: &str, own: &str, found: &mut BTreeSet<Box<str>>) {
    for word in words(text) {
        for form in [word, word.trim_matches(['.', '-', '_'])] {
            if form.is_empty() || form.len() > 128 || form.eq_ignore_ascii_case(own) {
                continue;
            }
            let form = form.replace('+', "_");
            let other = match form.strip_prefix('v') {
                Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit()) => Some(rest.to_owned()),
                None if form.starts_with(|c: char| c.is_ascii_digit()) => Some(format!("v{form}")),
                _ => None,
            };
            found.extend(other.map(Into::into));
            found.insert(form.into());
        }
    }
}

/// Returns true if a placeholder is in the place of a tag, by its name or by the text before it.
fn has_open_tag(text: &str) -> bool {
    let mut at = 0;
    while let Some(open) = placeholder::find(text, at) {
        let mut start = open.start.saturating_sub(MAX_NAME_BYTES);
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let around = text[start..open.end].to_ascii_lowercase();
        if TAG_NAMES.iter().any(|name| around.contains(name)) {
            return true;
        }
        at = open.end;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_other_references_do_not_count() {
        let hosts = KnownHosts::new(&["contoso.azurecr.io".to_owned()]);
        let own = ImageReference::parse_verbatim("contoso.azurecr.io/shop/api").unwrap();
        for (text, expected) in [
            ("contoso.azurecr.io/shop/api is at v1.2.", "1.2 1.2. at is v1.2 v1.2."),
            ("api contoso.azurecr.io/shop/api,2.0+b", "2.0_b v2.0_b"),
            ("contoso.azurecr.io/shop/api contoso.azurecr.io/shop/web:v3 x", "x"),
            ("contoso.azurecr.io/shop/api=contoso.azurecr.io/shop/api:v3", "v3"),
            ("--set image=contoso.azurecr.io/shop/api --set tag=$TAG x", ""),
            ("run contoso.azurecr.io/shop/api x in $NAMESPACE", "NAMESPACE in run x"),
        ] {
            assert_eq!(nearby_words(std::iter::once(text), &own, &hosts).join(" "), expected, "{text}");
        }
    }

    #[test]
    fn nothing_stands_beside_anything_in_data() {
        let hosts = KnownHosts::new(&["contoso.azurecr.io".to_owned()]);
        let own = ImageReference::parse_verbatim("contoso.azurecr.io/shop/api").unwrap();
        let of = |text: &str, times: usize| nearby_words(std::iter::repeat_n(text, times), &own, &hosts).join(" ");
        assert_eq!(of("x", MOST_TEXTS), "x");
        assert_eq!(of("x", MOST_TEXTS + 1), "");
        assert_eq!(of(&"x ".repeat(MOST_BYTES / 2), 1), "x");
        assert_eq!(of(&"x ".repeat(MOST_BYTES / 2), 2), "");
    }
}
