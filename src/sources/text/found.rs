//! Everything that is found in one text, before the rest of the source is known.

use std::collections::{BTreeSet, HashSet};

use super::occurrences::{Cut, Left, Meaning, Seen, meaning};
use super::placeholder;
use super::usage::Usage;
use crate::domain::{ImageReference, PathPattern, TextIndexBuilder, is_everyday};
use crate::sources::document::Node;

/// The images and the open references of one text.
#[derive(Debug, Default)]
pub(in crate::sources) struct Found {
    /// Those that are named by tag or digest, with their lines.
    pub(in crate::sources) images: BTreeSet<(ImageReference, u32)>,
    /// The same, of references that are invalid as they are written.
    pub(in crate::sources) corrected: BTreeSet<(ImageReference, u32)>,
    /// References that are judged when all of the source was read.
    pub(in crate::sources) pending: Vec<Pending>,
    /// The repositories of mappings that say no tag, with their lines.
    pub(in crate::sources) repositories: Vec<(ImageReference, u32)>,
    /// The scalars and texts of references that other fields of their mapping complete.
    pub(in crate::sources) completed: HashSet<(ScalarId, String)>,
    /// Remarks for a person, with their lines.
    pub(in crate::sources) notes: BTreeSet<(u32, String)>,
}

/// A reference that leaves something open.
#[derive(Debug)]
pub(in crate::sources) struct Pending {
    /// The reference as it is written.
    pub(in crate::sources) text: Box<str>,
    pub(in crate::sources) line: u32,
    /// The scalar that it stands in.
    pub(in crate::sources) scalar: ScalarId,
    pub(in crate::sources) usage: Usage,
    pub(in crate::sources) what: What,
    /// The words in the same line or mapping, one of which may be the tag.
    pub(in crate::sources) beside: Vec<Box<str>>,
    /// The variable whose value it is.
    pub(in crate::sources) defines: Option<Box<str>>,
}

/// The part of a reference that is open.
#[derive(Debug)]
pub(in crate::sources) enum What {
    /// Placeholders stand in it. Where it names no host of ours, `is_image` says that it is an image's reference anyway.
    Placeholders { is_image: bool },
    /// Neither a tag nor a digest is written.
    Untagged(ImageReference),
    /// A tag is written and not understood.
    Tag(Option<String>, PathPattern),
}

/// A scalar of the documents of one text, which a line of JSON may have many of; the default is none.
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
    /// An image is expected there.
    pub(in crate::sources) is_image: bool,
    pub(in crate::sources) defines: Option<&'t str>,
}

/// The content of a table's column behind a repository.
enum Column {
    /// A tag, with an image's id behind it.
    Tag(ImageReference),
    /// The word for no tag.
    Nothing,
    /// Anything else.
    Other,
}

impl Found {
    /// Adds what a reference without placeholders names, and returns what it leaves open. `behind` is the rest of its line.
    pub(in crate::sources) fn literal(&mut self, text: &str, cut: Cut, line: u32, behind: &str) -> Left {
        let Meaning { images, mut left, corrected, note } = meaning(text, cut, behind);
        let into = if corrected { &mut self.corrected } else { &mut self.images };
        into.extend(images.into_iter().map(|image| (image, line)));
        if let Left::Untagged(image) = &left {
            match column(image, behind) {
                Column::Tag(image) => {
                    into.insert((image, line));
                    left = Left::Nothing;
                }
                Column::Nothing => left = no_tag(image),
                Column::Other => {
                    let by_digest: Vec<ImageReference> = digests(image, behind).collect();
                    if !by_digest.is_empty() {
                        into.extend(by_digest.into_iter().map(|image| (image, line)));
                        left = Left::Nothing;
                    }
                }
            }
        }
        self.notes.extend(note.map(|note| (line, note)));
        left
    }

    /// Adds what a complete reference names, and nothing of others.
    pub(in crate::sources) fn complete(&mut self, seen: &Seen<'_>, line: u32) {
        if !placeholder::is_open(seen.text) {
            let Meaning { images, corrected, .. } = meaning(seen.text, seen.cut, "");
            let into = if corrected { &mut self.corrected } else { &mut self.images };
            into.extend(images.into_iter().map(|image| (image, line)));
        }
    }

    /// Adds what a reference leaves open. `beside` gives the words that may be its tag.
    pub(in crate::sources) fn open(
        &mut self,
        text: &str,
        left: Left,
        place: Place<'_>,
        beside: impl FnOnce(&ImageReference) -> Vec<Box<str>>,
    ) {
        let (what, beside) = match left {
            Left::Nothing => return,
            Left::Untagged(image) => {
                let beside = if place.usage == Usage::Named { beside(&image) } else { Vec::new() };
                (What::Untagged(image), beside)
            }
            Left::Open(host, path, words) => (What::Tag(host, path), words),
        };
        self.pend(text, what, beside, place);
    }

    /// Adds a reference with placeholders.
    pub(in crate::sources) fn placeholders(&mut self, text: &str, place: Place<'_>) {
        // A tag before an open digest is one that was written.
        if let Some((before, _)) = text.split_once('@')
            && !placeholder::is_open(before)
        {
            self.images.extend(meaning(before, Cut::No, "").images.into_iter().map(|image| (image, place.line)));
        }
        self.pend(text, What::Placeholders { is_image: place.is_image }, Vec::new(), place);
    }

    fn pend(&mut self, text: &str, what: What, beside: Vec<Box<str>>, place: Place<'_>) {
        let Place { line, scalar, usage, defines, .. } = place;
        let (text, defines) = (text.into(), defines.map(Into::into));
        self.pending.push(Pending { text, line, scalar, usage, what, beside, defines });
    }
}

impl Pending {
    /// Adds the everyday words beside it, one of which may settle it, as standing beside its repository.
    pub(in crate::sources) fn add_words(&self, index: &mut TextIndexBuilder, place: u32) {
        let What::Untagged(image) = &self.what else { return };
        let Some(name) = image.repository.as_ref().and_then(|path| path.as_str().rsplit('/').next()) else { return };
        let everyday: Vec<(u32, &str)> =
            self.beside.iter().filter(|word| is_everyday(word)).map(|word| (self.line, &**word)).collect();
        for words in everyday.chunks(32) {
            index.together(place, &[&[(self.line, name)][..], words].concat());
        }
    }
}

fn no_tag(image: &ImageReference) -> Left {
    match &image.repository {
        Some(path) => Left::Open(image.host.clone(), PathPattern::of(&[path.as_str()]), Vec::new()),
        None => Left::Nothing,
    }
}

/// The images of a repository whose whole digests stand behind it.
fn digests<'t>(image: &'t ImageReference, behind: &'t str) -> impl Iterator<Item = ImageReference> {
    let words = behind.split(|c: char| !c.is_ascii_alphanumeric() && c != ':');
    let found = words.filter(|word| word.starts_with("sha256:")).filter_map(|word| word.parse().ok());
    found.map(move |digest| ImageReference { digest: Some(digest), ..image.clone() })
}

/// Reads the columns behind a repository as `docker images` and `crictl images` print them.
fn column(image: &ImageReference, behind: &str) -> Column {
    let mut columns = behind.split(|c: char| c.is_whitespace() || c == '|').filter(|column| !column.is_empty());
    // One space is that of a sentence.
    let is_apart = ["  ", "\t", "|", " |"].iter().any(|mark| behind.starts_with(mark));
    let (Some(tag), Some(id), true) = (columns.next(), columns.next(), is_apart) else { return Column::Other };
    if tag == "<none>" {
        // Beside a whole digest nothing is missing.
        return if digests(image, behind).next().is_some() { Column::Other } else { Column::Nothing };
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
            let mut found = Found::default();
            let left = found.literal("contoso.azurecr.io/shop/api", Cut::No, 1, behind);
            let shown = match (found.images.first(), left) {
                (Some((image, _)), Left::Nothing) if image.digest.is_some() => "by digest".to_owned(),
                (Some((image, _)), Left::Nothing) => image.to_string(),
                (None, Left::Open(_, _, words)) if words.is_empty() => "open".to_owned(),
                (None, Left::Untagged(_)) => "untagged".to_owned(),
                other => format!("{other:?}"),
            };
            assert_eq!(shown, expected, "{behind}");
        }
    }
}
