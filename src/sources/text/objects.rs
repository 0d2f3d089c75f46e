//! Objects that an API answers, which were never text: what their strings name and leave open.

use super::decode::decode;
use super::finish::{Judge, TextRead};
use super::found::{Found, Pending};
use super::structure::{define, define_lines};
use super::templates::{Parsed, documents};
use super::variables::Definitions;
use super::{FormFindings, Mentions, OpenReferences, TextFindings, find, own};
use crate::domain::{Holder, ImageReference, Naming, UnresolvedReference};
use crate::sources::document::Node;
use crate::sources::reference_scan::KnownHosts;

/// The images and the open references in the strings of one object, each with the line of its node.
#[derive(Debug, Default)]
pub(in crate::sources) struct ObjectFindings {
    pub(in crate::sources) images: Vec<(u32, ImageReference, Naming)>,
    pub(in crate::sources) unresolved: Vec<(u32, UnresolvedReference)>,
    pub(in crate::sources) notes: Vec<(u32, String)>,
}

/// Reads one object. `long` are the strings of several lines that stood in it, each with the line of its node.
pub(in crate::sources) fn read_object(object: &Node, long: &[(u32, String)], hosts: &KnownHosts) -> ObjectFindings {
    let mut reading = Reading::default();
    let file = reading.begin(0);
    let nodes = std::slice::from_ref(object);
    define(nodes, "", file, &mut reading.definitions);
    reading.add(find("", "", nodes, false, hosts), 0);
    for (line, text) in long {
        reading.long(*line, text, hosts);
    }
    reading.finish(hosts)
}

/// Returns true for a report of Tagwarden itself, which does not count as evidence.
pub(in crate::sources) fn is_own(text: &str) -> bool {
    own::is_report(text)
}

/// The strings of an object while they are read. Those of several lines count as texts of their own.
#[derive(Default)]
struct Reading {
    findings: ObjectFindings,
    /// The texts, named by how many lines are before them.
    texts: Vec<TextRead>,
    pending: Vec<(usize, Pending)>,
    definitions: Definitions,
}

impl Reading {
    /// Begins a text before which there are so many lines, and returns its number for definitions.
    fn begin(&mut self, lines: u32) -> u32 {
        let file = self.definitions.file("");
        let (mentions, unresolved) = (Mentions::Protect, OpenReferences::Keep);
        self.texts.push(TextRead { name: lines.to_string().into(), file, mentions, unresolved });
        file
    }

    fn long(&mut self, line: u32, text: &str, hosts: &KnownHosts) {
        let decoded = decode(text);
        let (nodes, is_running) = match documents("", text, None) {
            Ok(Parsed::Documents(nodes)) => (nodes, false),
            Ok(Parsed::Running(nodes)) => (nodes, true),
            Ok(Parsed::Templates(_)) | Err(_) => (Vec::new(), true),
        };
        if own::is_document(&nodes) {
            return;
        }
        let lines = line.saturating_sub(1);
        let file = self.begin(lines);
        if is_running {
            define_lines(&decoded, 1, file, &mut self.definitions);
        } else {
            define(&nodes, "", file, &mut self.definitions);
        }
        self.add(find("", &decoded, &nodes, is_running, hosts), lines);
    }

    /// Adds what was found in the text that was begun last.
    fn add(&mut self, found: Found, lines: u32) {
        let Found { images, corrected, pending, notes, .. } = found;
        let written = images.into_iter().map(|(image, line)| (lines + line, image, Naming::Written));
        let corrected = corrected.into_iter().map(|(image, line)| (lines + line, image, Naming::Corrected));
        self.findings.images.extend(written.chain(corrected));
        self.findings.notes.extend(notes.into_iter().map(|(line, what)| (lines + line, what)));
        let number = self.texts.len().saturating_sub(1);
        self.pending.extend(pending.into_iter().map(|one| (number, one)));
    }

    /// Judges what is open, by the object alone.
    fn finish(self, hosts: &KnownHosts) -> ObjectFindings {
        let Self { findings: mut found, texts, pending, definitions } = self;
        let forms = FormFindings::default();
        let mut findings = TextFindings::default();
        let judge = Judge { hosts, texts: &texts, definitions: &definitions, forms: &forms, offered: &[] };
        judge.judge(&pending, &mut findings);
        found.images.extend(findings.claims.into_iter().map(|claim| (line(&claim.holder), claim.image, claim.naming)));
        found.unresolved.extend(findings.unresolved.into_iter().map(|open| (line(&open.holder), open)));
        found
    }
}

/// The line of a place in the object, by its text and the line there.
fn line(holder: &Holder) -> u32 {
    match holder {
        Holder::File { path, line } => path.parse::<u32>().unwrap_or(0) + line,
        Holder::Release(_) | Holder::Workload { .. } | Holder::Hold { .. } => 0,
    }
}
