//! The end of a text that may be cut off: a reference that nothing follows, not even a line break.
//!
//! The beginning of a tag is a tag as well: `1.2` of `1.2.3`. Nothing in the text tells them apart, so what is written
//! is a claim, and the rest is unresolved unless the repository has that very tag.

use super::occurrences::{Ending, Meaning, OpenPart, meaning, scan_hosts};
use crate::domain::PathPattern;
use crate::sources::known_hosts::KnownHosts;

/// A reference at the very end of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CutReference {
    pub(super) text: String,
    pub(super) line: u32,
    pub(super) host: Option<String>,
    pub(super) path: PathPattern,
    /// The tag as far as it is written.
    pub(super) tag: Box<str>,
}

/// Returns the reference with a tag that ends together with the text; `None` if a line break or anything else follows.
pub(super) fn cut_reference(text: &str, hosts: &KnownHosts) -> Option<CutReference> {
    let start = text.rfind('\n').map_or(0, |at| at + 1);
    let last = &text[start..];
    let found = scan_hosts(last, hosts).pop().filter(|one| one.span.end == last.len())?;
    // Markdown's emphasis surrounds it, so it is complete.
    if found.text.ends_with('_') && last[..found.span.start].ends_with('_') {
        return None;
    }
    let Meaning { images, open_part: OpenPart::None, .. } = meaning(found.text, Ending::Complete, "") else {
        return None;
    };
    let image = images.first().filter(|image| image.digest.is_none())?;
    Some(CutReference {
        text: found.text.to_owned(),
        line: u32::try_from(text[..start].matches('\n').count()).unwrap_or(u32::MAX).saturating_add(1),
        host: image.host.clone(),
        path: PathPattern::of(&[image.repository.as_ref()?.as_str()]),
        tag: image.tag.as_ref()?.as_str().into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_reference_that_nothing_follows_may_be_cut() {
        let hosts = KnownHosts::new(&["contoso.azurecr.io".to_owned()]);
        for (text, expected) in [
            ("a\nimage: contoso.azurecr.io/shop/api:1.2", Some("2 shop/api 1.2")),
            ("contoso.azurecr.io/web:v1, contoso.azurecr.io/api:v1", Some("1 api v1")),
            ("contoso.azurecr.io/api:1.", Some("1 api 1.")),
            ("contoso.azurecr.io/api:1.2\n", None),
            ("contoso.azurecr.io/api:1.2\r\n", None),
            ("contoso.azurecr.io/api:1.2 ", None),
            ("{\"image\": \"contoso.azurecr.io/api:1.2\"", None),
            ("_contoso.azurecr.io/api:1.2_", None),
            ("contoso.azurecr.io/api", None),
            ("contoso.azurecr.io/api:${TAG}", None),
            ("other.example/api:1.2", None),
            ("", None),
        ] {
            let found = cut_reference(text, &hosts);
            let found = found.map(|cut| {
                let path: Vec<&str> = cut.path.parts().collect();
                format!("{} {} {}", cut.line, path.join("*"), cut.tag)
            });
            assert_eq!(found.as_deref(), expected, "{text:?}");
        }
    }
}
