//! Texts as evidence: claims, what is left open, and the words in which tags may be mentioned.
//!
//! Whatever a source reads as text goes through a [`TextReader`]: files, web addresses, what was committed to a repository,
//! objects of a cluster. It is given one document after another and keeps none of them.

mod words;

use std::sync::Arc;

use globset::GlobSet;

use super::document::Format;
use super::image_references::{Findings, read_text};
use super::reference_scan::KnownHosts;
use crate::domain::{Claim, Holder, TextIndex, TextIndexBuilder, TextPlace, TextScope, UnresolvedReference};

/// The effect of a text that mentions a tag.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mentions {
    /// The tag stays.
    #[default]
    Protect,
    /// The source's notes list it.
    Report,
    /// None: texts are searched for references alone.
    Off,
}

/// The effect of a reference that leaves open which tag of a repository it means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OpenReferences {
    /// The repository's tags that would go are undecided.
    #[default]
    Keep,
    /// The source's notes list it.
    Note,
}

/// The reading of the texts of one source.
#[derive(Debug, Clone, Default)]
pub struct TextSettings {
    /// The effect of mentions.
    pub mentions: Mentions,
    /// The effect of references without a tag.
    pub unresolved: OpenReferences,
    /// Exceptions, of which the last that covers a text counts.
    pub exceptions: Vec<TextException>,
}

/// Other settings for some of the texts.
#[derive(Debug, Clone)]
pub struct TextException {
    /// The paths that it covers; any where it names none.
    pub paths: Option<GlobSet>,
    /// The kinds of objects that it covers, such as `WorkflowTemplate`; any where it names none.
    pub kinds: Vec<String>,
    /// The effect of mentions, where it differs.
    pub mentions: Option<Mentions>,
    /// The effect of references without a tag, where it differs.
    pub unresolved: Option<OpenReferences>,
}

/// A text to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Document<'t> {
    /// The file or address, as people know it.
    pub(super) name: &'t str,
    /// The kind of the object, where it is one.
    pub(super) kind: Option<&'t str>,
    /// The format that its name or sender says.
    pub(super) format: Option<Format>,
    pub(super) text: &'t str,
}

/// Everything that was found in the texts of a source.
#[derive(Debug, Default)]
pub(super) struct TextFindings {
    pub(super) claims: Vec<Claim>,
    pub(super) unresolved: Vec<UnresolvedReference>,
    /// The words that protect the tags they name.
    pub(super) texts: TextIndex,
    /// The words by which mentions are only reported.
    pub(super) reported: TextIndex,
    pub(super) notes: Vec<String>,
    /// What cannot be read, each with its place: it fails the source.
    pub(super) problems: Vec<String>,
}

/// Reads the texts of one source.
pub(super) struct TextReader<'h> {
    hosts: &'h KnownHosts,
    settings: &'h TextSettings,
    findings: TextFindings,
    texts: TextIndexBuilder,
    reported: TextIndexBuilder,
}

impl<'h> TextReader<'h> {
    pub(super) fn new(hosts: &'h KnownHosts, settings: &'h TextSettings, scope: TextScope) -> Self {
        Self {
            hosts,
            settings,
            findings: TextFindings::default(),
            texts: TextIndexBuilder::new(scope),
            reported: TextIndexBuilder::new(scope),
        }
    }

    /// Reads one text.
    pub(super) fn read(&mut self, document: Document<'_>) {
        let (mentions, unresolved) = self.settings.of(document.name, document.kind);
        let found = read_text(document.text, document.format, self.hosts);
        self.add(document, found, unresolved);
        let index = match mentions {
            Mentions::Protect => &mut self.texts,
            Mentions::Report => &mut self.reported,
            Mentions::Off => return,
        };
        let place = index.place(TextPlace::File(document.name.into()));
        words::add_lines(index, place, document.text);
    }

    fn add(&mut self, document: Document<'_>, found: Findings, _unresolved: OpenReferences) {
        let place = |(line, what): (u32, String)| format!("{}:{line}: {what}", document.name);
        self.findings.problems.extend(found.problems.into_iter().map(place));
        self.findings.notes.extend(found.notes.into_iter().map(place));
        self.findings.claims.extend(found.references.into_iter().map(|(image, line)| {
            let holder = Arc::new(Holder::File { path: document.name.to_owned(), line });
            Claim::new(image, holder)
        }));
    }

    /// Returns what was found in all of them together.
    pub(super) fn finish(self) -> TextFindings {
        let mut findings = self.findings;
        findings.texts = self.texts.finish();
        findings.reported = self.reported.finish();
        findings
    }
}

impl TextSettings {
    /// The settings for a text of that name and kind.
    fn of(&self, name: &str, kind: Option<&str>) -> (Mentions, OpenReferences) {
        let covers = |exception: &&TextException| {
            let path = exception.paths.as_ref().is_none_or(|paths| paths.is_match(name));
            let of_kind = exception.kinds.is_empty() || kind.is_some_and(|kind| exception.kinds.iter().any(|k| k == kind));
            path && of_kind
        };
        let (mut mentions, mut unresolved) = (self.mentions, self.unresolved);
        for exception in self.exceptions.iter().filter(covers) {
            mentions = exception.mentions.unwrap_or(mentions);
            unresolved = exception.unresolved.unwrap_or(unresolved);
        }
        (mentions, unresolved)
    }
}
