//! Texts as evidence: claims, unresolved references, and the words in which tags may be mentioned.
//!
//! Every text of a source goes through a [`TextReader`]: files, web addresses, commits of a repository, objects of a
//! cluster. It is given one document after another and stores none of them.

mod assignments;
mod cut_end;
mod decoder;
mod image_outputs;
mod mapping;
mod nearby_words;
mod objects;
mod occurrences;
mod own_documents;
pub(super) mod placeholder;
mod reference_collector;
mod resolver;
mod running_text;
mod split_references;
mod structure;
mod templates;
mod units;
mod usage;
mod variables;
mod words;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use self::cut_end::{CutReference, cut_reference};
use self::decoder::decode;
use self::occurrences::scan_hosts;
use self::reference_collector::{PendingKind, PendingReference, ReferenceCollector};
use self::resolver::{Resolver, TextInfo, remove_tagless};
use self::running_text::{TextContext, VariableUses};
use self::structure::Walk;
use self::templates::{Parsed, parse_documents};
use self::units::Lines;
use self::usage::Usage;
use self::variables::Definitions;
use super::document::{Format, Node, Problem};
use super::file_version::file_of;
use super::forms::{FormEvidence, Forms, TaglessRepository};
use super::known_hosts::KnownHosts;
use crate::domain::{
    Claim, Globs, Holder, ImageReference, Naming, RangeSelection, TextIndex, TextIndexBuilder, TextPlace, TextScope,
    UnresolvedReference,
};

pub(super) use objects::{ObjectReferences, is_own_document, read_object};
pub(super) use words::add_lines;

/// The effect of a text that mentions a tag.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MentionEffect {
    /// The tag is protected.
    #[default]
    Protect,
    /// The source's notes list it.
    Report,
    /// None: texts are searched for references only.
    Off,
}

/// The effect of a reference that does not identify a tag of its repository.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UnresolvedEffect {
    /// The repository's tags that would be removed are undecided.
    #[default]
    Keep,
    /// The source's notes list it.
    Note,
}

/// The options for reading the texts of one source.
#[derive(Debug, Clone, Default)]
pub struct TextSettings {
    /// The effect of mentions.
    pub mentions: MentionEffect,
    /// The effect of references without a tag.
    pub unresolved: UnresolvedEffect,
    /// The versions that a range such as `~1.2` claims.
    pub ranges: RangeSelection,
    /// Exceptions; the last one that covers a text wins.
    pub exceptions: Vec<TextException>,
}

/// Other settings for some of the texts.
#[derive(Debug, Clone)]
pub struct TextException {
    /// The paths that it covers; `None` means any.
    pub paths: Option<Globs>,
    /// The kinds of objects that it covers, such as `WorkflowTemplate`; empty means any.
    pub kinds: Vec<String>,
    /// The effect of mentions, if different.
    pub mentions: Option<MentionEffect>,
    /// The effect of references without a tag, if different.
    pub unresolved: Option<UnresolvedEffect>,
}

/// A text to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Document<'t> {
    /// The file or address, as people know it.
    pub(super) name: &'t str,
    /// The kind of the object, if it is one.
    pub(super) kind: Option<&'t str>,
    /// The format by its name or content type.
    pub(super) format: Option<Format>,
    pub(super) text: &'t str,
}

/// All findings in the texts of a source.
#[derive(Debug, Default)]
pub(super) struct TextEvidence {
    pub(super) claims: Vec<Claim>,
    pub(super) unresolved: Vec<UnresolvedReference>,
    /// The words that protect the tags they name.
    pub(super) texts: TextIndex,
    /// The words whose mentions are only reported.
    pub(super) report_only_texts: TextIndex,
    pub(super) notes: Vec<String>,
    /// Unreadable parts, each with its place: they fail the source.
    pub(super) problems: Vec<String>,
}

/// Reads the texts of one source.
pub(super) struct TextReader<'h> {
    hosts: &'h KnownHosts,
    settings: &'h TextSettings,
    evidence: TextEvidence,
    words: TextIndexBuilder,
    report_only_words: TextIndexBuilder,
    forms: Forms,
    definitions: Definitions,
    read_texts: Vec<TextInfo>,
    /// References that are resolved at the end, each with the number of its text.
    pending: Vec<(usize, PendingReference)>,
    /// Repositories in mappings without a tag, which a form may state.
    tagless: Vec<TaglessRepository>,
    /// True if the ends of texts may be missing, which their transport does not show.
    may_be_cut: bool,
}

/// The documents in a text: parsing takes the most time, and is independent of other texts.
pub(super) struct ParsedText(Result<Parsed, Problem>);

impl Document<'_> {
    /// Parses the documents in the text.
    pub(super) fn parse(&self) -> ParsedText {
        ParsedText(parse_documents(file_of(self.name), self.text, self.format))
    }
}

impl<'h> TextReader<'h> {
    pub(super) fn new(hosts: &'h KnownHosts, settings: &'h TextSettings, scope: TextScope) -> Self {
        Self {
            hosts,
            settings,
            evidence: TextEvidence::default(),
            words: TextIndexBuilder::new(scope),
            report_only_words: TextIndexBuilder::new(scope),
            forms: Forms::default(),
            definitions: Definitions::default(),
            read_texts: Vec::new(),
            pending: Vec::new(),
            tagless: Vec::new(),
            may_be_cut: false,
        }
    }

    /// Doubts references at the very end of a text.
    pub(super) fn doubting_ends(self) -> Self {
        Self { may_be_cut: true, ..self }
    }

    /// Reads one text.
    pub(super) fn read(&mut self, document: Document<'_>) {
        self.read_parsed(document, document.parse());
    }

    /// Reads one text whose documents are parsed already.
    pub(super) fn read_parsed(&mut self, document: Document<'_>, ParsedText(parsed): ParsedText) {
        let (name, decoded) = (document.name, decode(document.text));
        let (nodes, is_running) = match parsed {
            Ok(Parsed::Documents(nodes)) => (nodes, false),
            Ok(Parsed::RunningText(nodes)) => (nodes, true),
            Ok(Parsed::Templates(Problem { line, message })) => {
                let note = "templates keep it from being read as YAML";
                self.evidence.notes.push(format!("{name}:{line}: {note} ({message}); it is read as running text"));
                (Vec::new(), true)
            }
            Err(Problem { line, message }) => {
                self.evidence.problems.push(format!("{name}:{line}: {message}"));
                // Its references and words still count for callers that demote the problem to a note, such as the git history.
                (Vec::new(), true)
            }
        };
        // The output of a pipeline may contain the heading of a report.
        if own_documents::is_document(&nodes) || is_running && own_documents::is_report(&decoded) {
            self.evidence.notes.push(format!("{name}: a document of Tagwarden itself, which does not count"));
            return;
        }
        let (mentions, unresolved) = self.settings.effects(name, document.kind);
        let file = self.definitions.file(name);
        if is_running {
            structure::define_lines(&decoded, 1, file, &mut self.definitions);
        } else {
            structure::define(&nodes, file_of(name), file, &mut self.definitions);
        }
        let found = collect_references(name, &decoded, &nodes, is_running, self.hosts);
        if self.may_be_cut && unresolved == UnresolvedEffect::Keep {
            self.add_cut_end(name, &decoded);
        }
        self.forms.read(name, &nodes, document.text);
        let index = match mentions {
            MentionEffect::Protect => Some(&mut self.words),
            MentionEffect::Report => Some(&mut self.report_only_words),
            MentionEffect::Off => None,
        };
        if let Some(index) = index {
            let place = index.add_place(TextPlace::File(name.into()));
            words::add_decoded(index, place, document.text, &decoded);
            for node in &nodes {
                words::add_mappings(index, place, node);
            }
            found.pending.iter().for_each(|one| one.add_words(index, place));
        }
        self.add(name, found);
        self.read_texts.push(TextInfo { name: name.into(), file, mentions, unresolved });
    }

    /// Adds the reference at the end of a text that may be cut off.
    fn add_cut_end(&mut self, name: &str, decoded: &str) {
        let Some(CutReference { text, line, host, path, tag }) = cut_reference(decoded, self.hosts) else { return };
        self.evidence.unresolved.push(UnresolvedReference {
            text: format!("{text} (the text ends here, without a line break)").into(),
            host,
            path,
            adjacent_words: [tag].into(),
            holder: Arc::new(Holder::File { path: name.to_owned(), line }),
        });
    }

    /// Adds the findings in the text that is counted next.
    fn add(&mut self, name: &str, found: ReferenceCollector) {
        let ReferenceCollector { images, corrected, pending, repositories, notes, .. } = found;
        let claim = |(image, line): (ImageReference, u32), naming: Naming| {
            let holder = Arc::new(Holder::File { path: name.to_owned(), line });
            Claim { naming, ..Claim::new(image, holder) }
        };
        self.evidence.claims.extend(images.into_iter().map(|one| claim(one, Naming::Written)));
        self.evidence.claims.extend(corrected.into_iter().map(|one| claim(one, Naming::Corrected)));
        self.evidence.notes.extend(notes.into_iter().map(|(line, what)| format!("{name}:{line}: {what}")));
        let number = self.read_texts.len();
        self.pending.extend(pending.into_iter().map(|one| (number, one)));
        self.tagless.extend(repositories.into_iter().filter_map(|(image, line)| {
            let path = image.repository.as_ref()?.as_str().to_owned();
            let text = image.to_string();
            Some(TaglessRepository { name: name.to_owned(), line, host: image.host, path, text })
        }));
    }

    /// Returns all findings.
    pub(super) fn finish(self) -> TextEvidence {
        let Self {
            hosts,
            settings,
            evidence: mut findings,
            words,
            report_only_words: reported,
            forms,
            definitions,
            read_texts: read,
            pending,
            tagless: open,
            may_be_cut: _,
        } = self;
        let forms = forms.finish(open.clone(), hosts, settings.ranges);
        let judge = Resolver { hosts, texts: &read, definitions: &definitions, forms: &forms, tagless: &open };
        judge.resolve(&pending, &mut findings);
        let FormEvidence { claims, unresolved, notes, .. } = forms;
        findings.claims.extend(claims);
        findings.notes.extend(notes);
        let noted = read.iter().filter(|text| text.unresolved == UnresolvedEffect::Note).map(|text| &*text.name);
        let noted: HashSet<&str> = noted.collect();
        for one in remove_tagless(unresolved, &open) {
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
        findings.report_only_texts = reported.finish();
        findings
    }
}

/// Collects everything that one text names and leaves open by itself.
fn collect_references(
    name: &str,
    decoded: &str,
    nodes: &[Node],
    is_running: bool,
    hosts: &KnownHosts,
) -> ReferenceCollector {
    let mut found = ReferenceCollector::default();
    if is_running {
        running_text::collect_references(decoded, name, hosts, &TextContext::default(), &mut found);
        Walk::new(name, hosts, &mut found).read_parts(nodes);
    } else {
        // Comments contain complete references.
        let seen = scan_hosts(decoded, hosts);
        if !seen.is_empty() {
            let lines = Lines::of(decoded);
            for one in &seen {
                found.add_complete(one, lines.number(lines.at(one.span.start)));
            }
        }
        let whole: BTreeSet<ImageReference> = found.images.iter().map(|(image, _)| image.clone()).collect();
        let raw = std::mem::take(&mut found.images);
        Walk::new(name, hosts, &mut found).read(nodes);
        // A scalar over several lines has less accurate line numbers.
        found.images.retain(|(image, _)| !whole.contains(image));
        found.images.extend(raw);
    }
    let completed = std::mem::take(&mut found.completed);
    found.pending.retain(|one| !completed.contains(&(one.scalar, one.text.to_string())));
    if found.pending.iter().any(|one| one.defines.is_some() && one.usage == Usage::Named) {
        let mut others = ReferenceCollector::default();
        let uses = if is_running {
            let mut uses = VariableUses::default();
            uses.read(decoded, &TextContext::default());
            uses
        } else {
            Walk::new(name, hosts, &mut others).uses(nodes)
        };
        for one in found.pending.iter_mut().filter(|one| one.usage == Usage::Named) {
            if one.defines.as_ref().is_some_and(|name| uses.is_output_only(name)) {
                one.usage = Usage::Output;
            }
        }
    }
    found
}

/// Returns the references in a text, with their lines; one without a tag means `latest`.
pub(super) fn references(text: &str, format: Option<Format>, hosts: &KnownHosts) -> BTreeSet<(ImageReference, u32)> {
    let (nodes, is_running) = match parse_documents("", text, format) {
        Ok(Parsed::Documents(nodes)) => (nodes, false),
        Ok(Parsed::RunningText(nodes)) => (nodes, true),
        Ok(Parsed::Templates(_)) | Err(_) => (Vec::new(), true),
    };
    let ReferenceCollector { mut images, corrected, pending, .. } =
        collect_references("", &decode(text), &nodes, is_running, hosts);
    images.extend(corrected);
    images.extend(pending.into_iter().filter_map(|one| match one.kind {
        PendingKind::Untagged(image) => Some((ImageReference { tag: "latest".parse().ok(), ..image }, one.line)),
        PendingKind::Placeholders { .. } | PendingKind::Tag(..) => None,
    }));
    images
}

impl MentionEffect {
    /// Returns the word in the settings.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Protect => "protect",
            Self::Report => "report",
            Self::Off => "off",
        }
    }
}

impl UnresolvedEffect {
    /// Returns the word in the settings.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Note => "note",
        }
    }
}

impl TextSettings {
    /// Returns the effects for a text of that name and kind.
    pub(super) fn effects(&self, name: &str, kind: Option<&str>) -> (MentionEffect, UnresolvedEffect) {
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
