//! Image references in any text files: Helm values, Kustomize, compose files, the output of pipelines.
//!
//! Every reference to a known host counts, whole or split over keys. To claim too much keeps too much, which is cheap;
//! so a repository without a tag claims `latest`, as tooling would read it. What begins like a reference and does not
//! read fails the source, unless it is a placeholder that is filled in elsewhere: that is noted.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use super::document::{Format, Node, Problem, Value, parse};
use super::reference_scan::{KnownHosts, Sighting};
use super::settled::{Reading, read_settled};
use super::split_references::split_references;
use super::text::{Document, TextFindings, TextReader, TextSettings};
use super::{Answer, FileSet, Source, SourceError, encoding, told};
use crate::domain::{ImageReference, TextScope};

/// References to known hosts in the files of a file set.
#[derive(Debug, Clone)]
pub struct ImageReferences {
    files: FileSet,
    hosts: Vec<String>,
    texts: TextSettings,
}

impl ImageReferences {
    /// Reads those files, anew each time it is asked, for references to `hosts`: those of the registries, aliases
    /// included.
    #[must_use]
    pub fn new(files: FileSet, hosts: Vec<String>, texts: TextSettings) -> Self {
        Self { files, hosts, texts }
    }
}

#[async_trait]
impl Source for ImageReferences {
    /// The time of the evidence is that of the newest file, since a file is written when what it says changes.
    async fn ask(&self, now: Timestamp) -> Result<Answer, SourceError> {
        let (hosts, texts) = (Arc::new(KnownHosts::new(&self.hosts)), Arc::new(self.texts.clone()));
        read_settled(&self.files, now, move |reading| read_all(reading, &hosts, &texts)).await
    }
}

/// What was found, by line.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) references: BTreeSet<(ImageReference, u32)>,
    /// What begins like a reference and does not read.
    pub(super) problems: BTreeSet<(u32, String)>,
    /// What is filled in elsewhere.
    pub(super) notes: BTreeSet<(u32, String)>,
}

impl Findings {
    pub(super) fn add(&mut self, line: u32, sighting: Sighting) {
        match sighting {
            Sighting::Reference(reference) => drop(self.references.insert((reference, line))),
            Sighting::Problem(what) => drop(self.problems.insert((line, what))),
            Sighting::Note(what) => drop(self.notes.insert((line, what))),
        }
    }

    /// Whole references inside scalars: those that the raw text hides behind escapes or folded lines.
    fn add_scalars(&mut self, node: &Node, hosts: &KnownHosts) {
        match &node.value {
            Value::Text(text) => {
                for (line, seen) in hosts.scan(text) {
                    self.add(node.line + line - 1, seen);
                }
            }
            Value::List(nodes) => nodes.iter().for_each(|node| self.add_scalars(node, hosts)),
            Value::Map(entries) => entries.iter().for_each(|(_, _, node)| self.add_scalars(node, hosts)),
            Value::Null | Value::Literal(_) => {}
        }
    }
}

fn read_all(reading: &mut Reading, hosts: &KnownHosts, settings: &TextSettings) -> Result<Answer, SourceError> {
    let mut answer = Answer::default();
    let mut problems = Vec::new();
    let mut texts = TextReader::new(hosts, settings, TextScope::Source);
    for found in reading.expand()? {
        let content = reading.read(&found)?;
        answer.as_of = answer.as_of.max(content.modified);
        match encoding::utf8(&content.bytes) {
            Ok(text) => texts.read(Document {
                name: &found.shown,
                kind: None,
                format: Format::of(&found.path),
                text: &String::from_utf8_lossy(&text),
            }),
            Err(what) => problems.push(format!("{}: {what}", found.shown)),
        }
    }
    let found = texts.finish();
    problems.extend(found.problems);
    if !problems.is_empty() {
        return Err(SourceError { kind: "malformed", message: told(problems).join("\n") });
    }
    let TextFindings { claims, unresolved, texts, reported, notes, .. } = found;
    Ok(Answer { claims, unresolved, texts, reported, notes: told(notes), ..answer })
}

/// Everything in one text: whole references anywhere, and split ones where it reads as JSON or YAML.
pub(super) fn read_text(text: &str, format: Option<Format>, hosts: &KnownHosts) -> Findings {
    let mut findings = Findings::default();
    for (line, sighting) in hosts.scan(text) {
        findings.add(line, sighting);
    }
    match documents(text, format) {
        Ok(documents) => {
            let whole: BTreeSet<ImageReference> =
                findings.references.iter().map(|(reference, _)| reference.clone()).collect();
            let mut inside = Findings::default();
            for document in &documents {
                inside.add_scalars(document, hosts);
            }
            split_references(&documents, hosts, &mut inside);
            inside.references.retain(|(reference, _)| !whole.contains(reference));
            findings.references.append(&mut inside.references);
            findings.problems.append(&mut inside.problems);
            findings.notes.append(&mut inside.notes);
        }
        Err(Problem { line, message }) if text.contains("{{") => {
            let note =
                format!("templates keep it from being read as YAML ({message}); only whole references count in it");
            findings.notes.insert((line, note));
        }
        Err(Problem { line, message }) => {
            findings.problems.insert((line, message));
        }
    }
    findings
}

/// The documents in a text. One that is not meant to be JSON or YAML has none unless it happens to read.
fn documents(text: &str, format: Option<Format>) -> Result<Vec<Node>, Problem> {
    let parsed = parse(text, format.unwrap_or(Format::Yaml));
    match (parsed, format) {
        (Err(_), None | Some(Format::Yaml)) if text.contains("{{") => {
            let filled = parse(&without_templates(text), Format::Yaml);
            if format.is_none() { Ok(filled.unwrap_or_default()) } else { filled }
        }
        (Err(_), None) => Ok(Vec::new()),
        (parsed, _) => parsed,
    }
}

/// Stands where a template would put something; nothing that YAML or a reference could mean.
const PLACEHOLDER: &str = "$TEMPLATE";

/// The text with lines that are only templates left empty and other templates replaced, line for line.
fn without_templates(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for line in text.split_inclusive('\n') {
        let (mut kept, mut rest, mut had_template) = (String::new(), line, inside);
        loop {
            if inside {
                let Some((_, after)) = rest.split_once("}}") else { break };
                (inside, rest) = (false, after);
            }
            let Some((before, after)) = rest.split_once("{{") else {
                kept.push_str(rest);
                break;
            };
            kept.push_str(before);
            kept.push_str(PLACEHOLDER);
            (inside, rest, had_template) = (true, after, true);
        }
        if had_template && kept.replace(PLACEHOLDER, "").trim().is_empty() {
            kept.clear();
        }
        out.push_str(kept.trim_end_matches('\n'));
        if line.ends_with('\n') {
            out.push('\n');
        }
    }
    out
}
