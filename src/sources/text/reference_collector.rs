//! The findings in one text, before the rest of the source is known.

use std::collections::{BTreeSet, HashSet};

use super::occurrences::{Ending, Meaning, Occurrence, OpenPart, meaning};
use super::placeholder;
use super::usage::Usage;
use crate::domain::{ImageReference, PathPattern, TextIndexBuilder, is_common_word};
use crate::sources::document::Node;

/// The images and the unresolved references of one text.
#[derive(Debug, Default)]
pub(in crate::sources) struct ReferenceCollector {
    /// The images that are named by tag or digest, with their lines.
    pub(in crate::sources) images: BTreeSet<(ImageReference, u32)>,
    /// The same for references that are invalid as written.
    pub(in crate::sources) corrected: BTreeSet<(ImageReference, u32)>,
    /// References that are resolved when the whole source was read.
    pub(in crate::sources) pending: Vec<PendingReference>,
    /// The repositories of mappings without a tag, with their lines.
    pub(in crate::sources) repositories: Vec<(ImageReference, u32)>,
    /// The scalars and texts of references that other fields of their mapping complete.
    pub(in crate::sources) completed: HashSet<(ScalarId, String)>,
    /// Remarks for people, with their lines.
    pub(in crate::sources) notes: BTreeSet<(u32, String)>,
}

/// A reference with an open part.
#[derive(Debug)]
pub(in crate::sources) struct PendingReference {
    /// The reference as written.
    pub(in crate::sources) text: Box<str>,
    pub(in crate::sources) line: u32,
    /// The scalar that contains it.
    pub(in crate::sources) scalar: ScalarId,
    pub(in crate::sources) usage: Usage,
    pub(in crate::sources) kind: PendingKind,
    /// The words in the same line or mapping, one of which may be the tag.
    pub(in crate::sources) nearby_words: Vec<Box<str>>,
    /// The variable whose value it is.
    pub(in crate::sources) defines: Option<Box<str>>,
}

/// The open part of a reference.
#[derive(Debug)]
pub(in crate::sources) enum PendingKind {
    /// It contains placeholders. If it names no known host, `is_image` is true if it is an image's reference anyway.
    Placeholders { is_image: bool },
    /// Neither a tag nor a digest is written.
    Untagged(ImageReference),
    /// A tag is written but not understood.
    Tag(Option<String>, PathPattern),
}

/// A scalar of the documents of one text, of which a line of JSON may have many; the default is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(in crate::sources) struct ScalarId(usize);

impl ScalarId {
    pub(in crate::sources) fn of(node: &Node) -> Self {
        Self(std::ptr::from_ref(node).addr())
    }
}

/// The place of a reference.
#[derive(Debug, Clone, Copy)]
pub(in crate::sources) struct Place<'t> {
    pub(in crate::sources) line: u32,
    pub(in crate::sources) scalar: ScalarId,
    pub(in crate::sources) usage: Usage,
    /// True if an image is expected there.
    pub(in crate::sources) is_image: bool,
    pub(in crate::sources) defines: Option<&'t str>,
}

/// The content of a table's column after a repository.
enum Column {
    /// A tag, followed by an image's id.
    Tag(ImageReference),
    /// The word for a missing tag.
    NoTag,
    /// Anything else.
    Other,
}

impl ReferenceCollector {
    /// Adds the images of a reference without placeholders, and returns its open part. `behind` is the rest of its
    /// line.
    pub(in crate::sources) fn add_literal(&mut self, text: &str, cut: Ending, line: u32, behind: &str) -> OpenPart {
        let Meaning { images, open_part: mut left, corrected, note } = meaning(text, cut, behind);
        let into = if corrected { &mut self.corrected } else { &mut self.images };
        into.extend(images.into_iter().map(|image| (image, line)));
        if let OpenPart::Untagged(image) = &left {
            match read_column(image, behind) {
                Column::Tag(image) => {
                    into.insert((image, line));
                    left = OpenPart::None;
                }
                Column::NoTag => left = no_tag(image),
                Column::Other => {
                    let by_digest: Vec<ImageReference> = digests(image, behind).collect();
                    if !by_digest.is_empty() {
                        into.extend(by_digest.into_iter().map(|image| (image, line)));
                        left = OpenPart::None;
                    }
                }
            }
        }
        self.notes.extend(note.map(|note| (line, note)));
        left
    }

    /// Adds the images of a complete reference; ignores others.
    pub(in crate::sources) fn add_complete(&mut self, seen: &Occurrence<'_>, line: u32) {
        if !placeholder::has_placeholder(seen.text) {
            let Meaning { images, corrected, .. } = meaning(seen.text, seen.ending, "");
            let into = if corrected { &mut self.corrected } else { &mut self.images };
            into.extend(images.into_iter().map(|image| (image, line)));
        }
    }

    /// Adds the open part of a reference. `beside` returns the words that may be its tag.
    pub(in crate::sources) fn add_open(
        &mut self,
        text: &str,
        left: OpenPart,
        place: Place<'_>,
        beside: impl FnOnce(&ImageReference) -> Vec<Box<str>>,
    ) {
        let (what, beside) = match left {
            OpenPart::None => return,
            OpenPart::Untagged(image) => {
                let beside = if place.usage == Usage::Named { beside(&image) } else { Vec::new() };
                (PendingKind::Untagged(image), beside)
            }
            OpenPart::Unresolved(host, path, words) => (PendingKind::Tag(host, path), words),
        };
        self.add_pending(text, what, beside, place);
    }

    /// Adds a reference with placeholders.
    pub(in crate::sources) fn add_placeholders(&mut self, text: &str, place: Place<'_>) {
        // A tag before an open digest is a written one.
        if let Some((before, _)) = text.split_once('@')
            && !placeholder::has_placeholder(before)
        {
            self.images
                .extend(meaning(before, Ending::Complete, "").images.into_iter().map(|image| (image, place.line)));
        }
        self.add_pending(text, PendingKind::Placeholders { is_image: place.is_image }, Vec::new(), place);
    }

    fn add_pending(&mut self, text: &str, what: PendingKind, beside: Vec<Box<str>>, place: Place<'_>) {
        let Place { line, scalar, usage, defines, .. } = place;
        let (text, defines) = (text.into(), defines.map(Into::into));
        self.pending.push(PendingReference { text, line, scalar, usage, kind: what, nearby_words: beside, defines });
    }
}

impl PendingReference {
    /// Adds the everyday words beside it, one of which may resolve it, as adjacent to its repository.
    pub(in crate::sources) fn add_words(&self, index: &mut TextIndexBuilder, place: u32) {
        let PendingKind::Untagged(image) = &self.kind else { return };
        let Some(name) = image.repository.as_ref().and_then(|path| path.as_str().rsplit('/').next()) else { return };
        let everyday: Vec<(u32, &str)> =
            self.nearby_words.iter().filter(|word| is_common_word(word)).map(|word| (self.line, &**word)).collect();
        for words in everyday.chunks(32) {
            index.add_adjacent(place, &[&[(self.line, name)][..], words].concat());
        }
    }
}

fn no_tag(image: &ImageReference) -> OpenPart {
    match &image.repository {
        Some(path) => OpenPart::Unresolved(image.host.clone(), PathPattern::of(&[path.as_str()]), Vec::new()),
        None => OpenPart::None,
    }
}

/// Returns the images of a repository whose full digests follow it.
fn digests<'t>(image: &'t ImageReference, behind: &'t str) -> impl Iterator<Item = ImageReference> {
    let words = behind.split(|c: char| !c.is_ascii_alphanumeric() && c != ':');
    let found = words.filter(|word| word.starts_with("sha256:")).filter_map(|word| word.parse().ok());
    found.map(move |digest| ImageReference { digest: Some(digest), ..image.clone() })
}

/// Parses the columns after a repository as `docker images` and `crictl images` print them.
fn read_column(image: &ImageReference, behind: &str) -> Column {
    let mut columns = behind.split(|c: char| c.is_whitespace() || c == '|').filter(|column| !column.is_empty());
    // A single space belongs to a sentence.
    let is_apart = ["  ", "\t", "|", " |"].iter().any(|mark| behind.starts_with(mark));
    let (Some(tag), Some(id), true) = (columns.next(), columns.next(), is_apart) else { return Column::Other };
    if tag == "<none>" {
        // Beside a full digest nothing is missing.
        return if digests(image, behind).next().is_some() { Column::Other } else { Column::NoTag };
    }
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    let is_id = id == "<none>" || hex.len() >= 12 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    match tag.parse() {
        Ok(tag) if is_id => Column::Tag(ImageReference { tag: Some(tag), ..image.clone() }),
        _ => Column::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_images_are_read_by_their_columns() {
        for (behind, expected) in [
            ("    v1    0123456789ab   2 weeks ago   120MB", "contoso.azurecr.io/shop/api:v1"),
            ("\tv1\tsha256:0123456789abcdef\t0123456789ab", "contoso.azurecr.io/shop/api:v1"),
            (" | v1 | 0123456789ab |", "contoso.azurecr.io/shop/api:v1"),
            ("    v1    <none>    0123456789ab", "contoso.azurecr.io/shop/api:v1"),
            ("    <none>    0123456789ab   2 weeks ago", "open"),
            (
                "    <none>    sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855   0123456789ab",
                "by digest",
            ),
            ("    v1    production", "untagged"),
            (" was 0123456789ab", "untagged"),
            (",v1,0123456789ab", "untagged"),
            (" at sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855.", "by digest"),
            ("", "untagged"),
        ] {
            let mut found = ReferenceCollector::default();
            let left = found.add_literal("contoso.azurecr.io/shop/api", Ending::Complete, 1, behind);
            let shown = match (found.images.first(), left) {
                (Some((image, _)), OpenPart::None) if image.digest.is_some() => "by digest".to_owned(),
                (Some((image, _)), OpenPart::None) => image.to_string(),
                (None, OpenPart::Unresolved(_, _, words)) if words.is_empty() => "open".to_owned(),
                (None, OpenPart::Untagged(_)) => "untagged".to_owned(),
                other => format!("{other:?}"),
            };
            assert_eq!(shown, expected, "{behind}");
        }
    }
}
