//! Texts as evidence: claims, what is left open, and the words in which tags may be mentioned.
//!
//! Whatever a source reads as text goes through a [`TextReader`]: files, web addresses, what was committed to a repository,
//! objects of a cluster. It is given one document after another and keeps none of them.

mod assignments;
mod beside;
mod decode;
mod finish;
pub(super) mod found;
mod free;
mod made;
mod objects;
pub(super) mod occurrences;
mod own;
pub(super) mod placeholder;
mod structure;
mod templates;
mod units;
pub(super) mod usage;
mod variables;
mod words;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use self::decode::decode;
use self::finish::{Judge, TextRead, without_offered};
use self::found::{Found, Pending, What};
use self::free::{Around, UseIndex};
use self::occurrences::scan_hosts;
use self::structure::Walk;
use self::templates::{Parsed, documents};
use self::units::Lines;
use self::usage::Usage;
use self::variables::Definitions;
use super::document::{Format, Node, Problem};
use super::forms::{FormFindings, Forms, OpenRepository};
use super::git_history::file_of;
use super::reference_scan::KnownHosts;
use crate::domain::{
    Claim, Globs, Holder, ImageReference, Naming, Ranges, TextIndex, TextIndexBuilder, TextPlace, TextScope,
    UnresolvedReference,
};

pub(super) use objects::{ObjectFindings, is_own, read_object};
pub(super) use words::add_lines;

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
    /// The versions that a range such as `~1.2` claims.
    pub ranges: Ranges,
    /// Exceptions, of which the last that covers a text counts.
    pub exceptions: Vec<TextException>,
}

/// Other settings for some of the texts.
#[derive(Debug, Clone)]
pub struct TextException {
    /// The paths that it covers; any where it names none.
    pub paths: Option<Globs>,
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
    /// Unreadable parts, each with its place: they fail the source.
    pub(super) problems: Vec<String>,
}

/// Reads the texts of one source.
pub(super) struct TextReader<'h> {
    hosts: &'h KnownHosts,
    settings: &'h TextSettings,
    findings: TextFindings,
    words: TextIndexBuilder,
    reported: TextIndexBuilder,
    forms: Forms,
    definitions: Definitions,
    read: Vec<TextRead>,
    /// References that are judged at the end, each with the number of its text.
    pending: Vec<(usize, Pending)>,
    /// Repositories in mappings without a tag, which a form may say.
    open: Vec<OpenRepository>,
}

/// The documents in a text: what takes the most time, and needs nothing of other texts.
pub(super) struct ParsedText(Result<Parsed, Problem>);

impl Document<'_> {
    /// Reads the documents in the text.
    pub(super) fn parse(&self) -> ParsedText {
        ParsedText(documents(file_of(self.name), self.text, self.format))
    }
}

impl<'h> TextReader<'h> {
    pub(super) fn new(hosts: &'h KnownHosts, settings: &'h TextSettings, scope: TextScope) -> Self {
        Self {
            hosts,
            settings,
            findings: TextFindings::default(),
            words: TextIndexBuilder::new(scope),
            reported: TextIndexBuilder::new(scope),
            forms: Forms::default(),
            definitions: Definitions::default(),
            read: Vec::new(),
            pending: Vec::new(),
            open: Vec::new(),
        }
    }

    /// Reads one text.
    pub(super) fn read(&mut self, document: Document<'_>) {
        self.read_parsed(document, document.parse());
    }

    /// Reads one text whose documents are known.
    pub(super) fn read_parsed(&mut self, document: Document<'_>, ParsedText(parsed): ParsedText) {
        let (name, decoded) = (document.name, decode(document.text));
        let (nodes, is_running) = match parsed {
            Ok(Parsed::Documents(nodes)) => (nodes, false),
            Ok(Parsed::Running(nodes)) => (nodes, true),
            Ok(Parsed::Templates(Problem { line, message })) => {
                let note = "templates keep it from being read as YAML";
                self.findings.notes.push(format!("{name}:{line}: {note} ({message}); it is read as running text"));
                (Vec::new(), true)
            }
            Err(Problem { line, message }) => {
                self.findings.problems.push(format!("{name}:{line}: {message}"));
                // Whoever takes that for a note, as for what once stood in a history, still has its references and words.
                (Vec::new(), true)
            }
        };
        // A pipeline may print the heading of a report.
        if own::is_document(&nodes) || is_running && own::is_report(&decoded) {
            self.findings.notes.push(format!("{name}: a document of Tagwarden itself, which does not count"));
            return;
        }
        let (mentions, unresolved) = self.settings.of(name, document.kind);
        let file = self.definitions.file(name);
        if is_running {
            structure::define_lines(&decoded, 1, file, &mut self.definitions);
        } else {
            structure::define(&nodes, file_of(name), file, &mut self.definitions);
        }
        let found = find(name, &decoded, &nodes, is_running, self.hosts);
        self.forms.read(name, &nodes, document.text);
        let index = match mentions {
            Mentions::Protect => Some(&mut self.words),
            Mentions::Report => Some(&mut self.reported),
            Mentions::Off => None,
        };
        if let Some(index) = index {
            let place = index.place(TextPlace::File(name.into()));
            words::add_decoded(index, place, document.text, &decoded);
            for node in &nodes {
                words::add_mappings(index, place, node);
            }
            found.pending.iter().for_each(|one| one.add_words(index, place));
        }
        self.add(name, found);
        self.read.push(TextRead { name: name.into(), file, mentions, unresolved });
    }

    /// Adds what was found in a text that is the next to be counted as read.
    fn add(&mut self, name: &str, found: Found) {
        let Found { images, corrected, pending, repositories, notes, .. } = found;
        let claim = |(image, line): (ImageReference, u32), naming: Naming| {
            let holder = Arc::new(Holder::File { path: name.to_owned(), line });
            Claim { naming, ..Claim::new(image, holder) }
        };
        self.findings.claims.extend(images.into_iter().map(|one| claim(one, Naming::Written)));
        self.findings.claims.extend(corrected.into_iter().map(|one| claim(one, Naming::Corrected)));
        self.findings.notes.extend(notes.into_iter().map(|(line, what)| format!("{name}:{line}: {what}")));
        let number = self.read.len();
        self.pending.extend(pending.into_iter().map(|one| (number, one)));
        self.open.extend(repositories.into_iter().filter_map(|(image, line)| {
            let path = image.repository.as_ref()?.as_str().to_owned();
            let text = image.to_string();
            Some(OpenRepository { name: name.to_owned(), line, host: image.host, path, text })
        }));
    }

    /// Returns what was found in all of them together.
    pub(super) fn finish(self) -> TextFindings {
        let Self { hosts, settings, mut findings, words, reported, forms, definitions, read, pending, open } = self;
        let forms = forms.finish(open.clone(), hosts, settings.ranges);
        let judge = Judge { hosts, texts: &read, definitions: &definitions, forms: &forms, offered: &open };
        judge.judge(&pending, &mut findings);
        let FormFindings { claims, unresolved, notes, .. } = forms;
        findings.claims.extend(claims);
        findings.notes.extend(notes);
        let noted = read.iter().filter(|text| text.unresolved == OpenReferences::Note).map(|text| &*text.name);
        let noted: HashSet<&str> = noted.collect();
        for one in without_offered(unresolved, &open) {
            match &*one.holder {
                Holder::File { path, line } if noted.contains(path.as_str()) => {
                    findings.notes.push(format!("{path}:{line}: `{}` leaves open which image it means", one.text));
                }
                _ => findings.unresolved.push(one),
            }
        }
        findings.claims.sort();
        findings.claims.dedup();
        findings.texts = words.finish();
        findings.reported = reported.finish();
        findings
    }
}

/// Everything that one text names and leaves open by itself.
fn find(name: &str, decoded: &str, nodes: &[Node], is_running: bool, hosts: &KnownHosts) -> Found {
    let mut found = Found::default();
    if is_running {
        free::read(decoded, name, hosts, &Around::default(), &mut found);
        Walk::new(name, hosts, &mut found).read_parts(nodes);
    } else {
        // Comments say what they say whole.
        let seen = scan_hosts(decoded, hosts);
        if !seen.is_empty() {
            let lines = Lines::of(decoded);
            for one in &seen {
                found.complete(one, lines.number(lines.at(one.span.start)));
            }
        }
        let whole: BTreeSet<ImageReference> = found.images.iter().map(|(image, _)| image.clone()).collect();
        let raw = std::mem::take(&mut found.images);
        Walk::new(name, hosts, &mut found).read(nodes);
        // A scalar over several lines knows less of its lines.
        found.images.retain(|(image, _)| !whole.contains(image));
        found.images.extend(raw);
    }
    let completed = std::mem::take(&mut found.completed);
    found.pending.retain(|one| !completed.contains(&(one.scalar, one.text.to_string())));
    if found.pending.iter().any(|one| one.defines.is_some() && one.usage == Usage::Named) {
        let mut others = Found::default();
        let uses = if is_running {
            let mut uses = UseIndex::default();
            uses.read(decoded, &Around::default());
            uses
        } else {
            Walk::new(name, hosts, &mut others).uses(nodes)
        };
        for one in found.pending.iter_mut().filter(|one| one.usage == Usage::Named) {
            if one.defines.as_ref().is_some_and(|name| uses.is_made(name)) {
                one.usage = Usage::Made;
            }
        }
    }
    found
}

/// Returns the references in a text, with their lines; one without a tag means `latest`.
pub(super) fn references(text: &str, format: Option<Format>, hosts: &KnownHosts) -> BTreeSet<(ImageReference, u32)> {
    let (nodes, is_running) = match documents("", text, format) {
        Ok(Parsed::Documents(nodes)) => (nodes, false),
        Ok(Parsed::Running(nodes)) => (nodes, true),
        Ok(Parsed::Templates(_)) | Err(_) => (Vec::new(), true),
    };
    let Found { mut images, corrected, pending, .. } = find("", &decode(text), &nodes, is_running, hosts);
    images.extend(corrected);
    images.extend(pending.into_iter().filter_map(|one| match one.what {
        What::Untagged(image) => Some((ImageReference { tag: "latest".parse().ok(), ..image }, one.line)),
        What::Placeholders { .. } | What::Tag(..) => None,
    }));
    images
}

impl Mentions {
    /// The word in the settings.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Protect => "protect",
            Self::Report => "report",
            Self::Off => "off",
        }
    }
}

impl OpenReferences {
    /// The word in the settings.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Note => "note",
        }
    }
}

impl TextSettings {
    /// The settings for a text of that name and kind.
    pub(super) fn of(&self, name: &str, kind: Option<&str>) -> (Mentions, OpenReferences) {
        let covers = |exception: &&TextException| {
            let path = exception.paths.as_ref().is_none_or(|paths| paths.matches(file_of(name)));
            let of_kind =
                exception.kinds.is_empty() || kind.is_some_and(|kind| exception.kinds.iter().any(|k| k == kind));
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
