//! Objects from an API, which are not texts themselves: the references in their strings.

use super::decoder::decode;
use super::reference_collector::{PendingReference, ReferenceCollector};
use super::resolver::{Resolver, TextInfo};
use super::structure::{define, define_lines};
use super::templates::{Parsed, parse_documents};
use super::variables::Definitions;
use super::{FormEvidence, MentionEffect, TextEvidence, UnresolvedEffect, collect_references, own_documents};
use crate::domain::{Holder, ImageReference, Naming, UnresolvedReference};
use crate::sources::document::Node;
use crate::sources::known_hosts::KnownHosts;

/// The images and the unresolved references in the strings of one object, each with the line of its node.
#[derive(Debug, Default)]
pub(in crate::sources) struct ObjectReferences {
    pub(in crate::sources) images: Vec<(u32, ImageReference, Naming)>,
    pub(in crate::sources) unresolved: Vec<(u32, UnresolvedReference)>,
    pub(in crate::sources) notes: Vec<(u32, String)>,
}

/// Reads one object. `long` are its strings of several lines, each with the line of its node.
pub(in crate::sources) fn read_object(object: &Node, long: &[(u32, String)], hosts: &KnownHosts) -> ObjectReferences {
    let mut reading = ObjectTextReader::default();
    let file = reading.begin_text(0);
    let nodes = std::slice::from_ref(object);
    define(nodes, "", file, &mut reading.definitions);
    reading.add(collect_references("", "", nodes, false, hosts), 0);
    for (line, text) in long {
        reading.read_multiline(*line, text, hosts);
    }
    reading.finish(hosts)
}

/// Returns true for a report of Tagwarden itself, which does not count as evidence.
pub(in crate::sources) fn is_own_document(text: &str) -> bool {
    own_documents::is_report(text)
}

/// The strings of an object while they are read. Those of several lines count as separate texts.
#[derive(Default)]
struct ObjectTextReader {
    references: ObjectReferences,
    /// The texts, named by the number of lines before them.
    texts: Vec<TextInfo>,
    pending: Vec<(usize, PendingReference)>,
    definitions: Definitions,
}

impl ObjectTextReader {
    /// Begins a text after that many lines, and returns its number for definitions.
    fn begin_text(&mut self, lines: u32) -> u32 {
        let file = self.definitions.file("");
        let (mentions, unresolved) = (MentionEffect::Protect, UnresolvedEffect::Keep);
        self.texts.push(TextInfo { name: lines.to_string().into(), file, mentions, unresolved });
        file
    }

    fn read_multiline(&mut self, line: u32, text: &str, hosts: &KnownHosts) {
        let decoded = decode(text);
        let (nodes, is_running) = match parse_documents("", text, None) {
            Ok(Parsed::Documents(nodes)) => (nodes, false),
            Ok(Parsed::RunningText(nodes)) => (nodes, true),
            Ok(Parsed::Templates(_)) | Err(_) => (Vec::new(), true),
        };
        if own_documents::is_document(&nodes) {
            return;
        }
        let lines = line.saturating_sub(1);
        let file = self.begin_text(lines);
        if is_running {
            define_lines(&decoded, 1, file, &mut self.definitions);
        } else {
            define(&nodes, "", file, &mut self.definitions);
        }
        self.add(collect_references("", &decoded, &nodes, is_running, hosts), lines);
    }

    /// Adds the findings in the current text.
    fn add(&mut self, found: ReferenceCollector, lines: u32) {
        let ReferenceCollector { images, corrected, pending, notes, .. } = found;
        let written = images.into_iter().map(|(image, line)| (lines + line, image, Naming::Written));
        let corrected = corrected.into_iter().map(|(image, line)| (lines + line, image, Naming::Corrected));
        self.references.images.extend(written.chain(corrected));
        self.references.notes.extend(notes.into_iter().map(|(line, what)| (lines + line, what)));
        let number = self.texts.len().saturating_sub(1);
        self.pending.extend(pending.into_iter().map(|one| (number, one)));
    }

    /// Resolves open references within the object.
    fn finish(self, hosts: &KnownHosts) -> ObjectReferences {
        let Self { references: mut found, texts, pending, definitions } = self;
        let forms = FormEvidence::default();
        let mut findings = TextEvidence::default();
        let judge = Resolver { hosts, texts: &texts, definitions: &definitions, forms: &forms, tagless: &[] };
        judge.resolve(&pending, &mut findings);
        found
            .images
            .extend(findings.claims.into_iter().map(|claim| (holder_line(&claim.holder), claim.image, claim.naming)));
        found.unresolved.extend(findings.unresolved.into_iter().map(|open| (holder_line(&open.holder), open)));
        found
    }
}

/// Returns the line of a place in the object, by its text and the line there.
fn holder_line(holder: &Holder) -> u32 {
    match holder {
        Holder::File { path, line } => path.parse::<u32>().unwrap_or(0) + line,
        Holder::Release(_) | Holder::Workload { .. } | Holder::Pull { .. } | Holder::Hold { .. } => 0,
    }
}
