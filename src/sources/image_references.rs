//! Image references in any text files: Helm values, Kustomize, compose files, the output of pipelines.
//!
//! Every reference to a known host counts, whole or split over keys. Claiming too much retains too much, which is
//! cheap; so a repository without a tag claims `latest`, as tools would read it. A text that is not understood retains
//! its possible meanings: see [`super::text`].

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use async_trait::async_trait;
use jiff::Timestamp;

use super::document::Format;
use super::glob_files::{Expansion, GlobFile};
use super::known_hosts::KnownHosts;
use super::stable_read::{ReadPass, read_stable};
use super::text::{Document, ParsedText, TextEvidence, TextReader, TextSettings};
use super::{FileSet, Source, SourceError, SourceEvidence, encoding, truncate_messages};
use crate::domain::TextScope;

/// Files that wait for the search while the next ones are parsed.
const MAX_QUEUED_FILES: usize = 4;

/// References to known hosts in the files of a file set.
#[derive(Debug, Clone)]
pub struct ImageReferences {
    files: FileSet,
    hosts: Vec<String>,
    texts: TextSettings,
}

impl ImageReferences {
    /// Creates a source for those files. It reads anew on each call, for references to `hosts`: those of the
    /// registries, aliases included.
    #[must_use]
    pub fn new(files: FileSet, hosts: Vec<String>, texts: TextSettings) -> Self {
        Self { files, hosts, texts }
    }
}

#[async_trait]
impl Source for ImageReferences {
    /// Dates the evidence by the newest file, since a file is written when its content changes.
    async fn query(&self, now: Timestamp) -> Result<SourceEvidence, SourceError> {
        let (hosts, texts) = (Arc::new(KnownHosts::new(&self.hosts)), Arc::new(self.texts.clone()));
        let named: Arc<[String]> = self.files.globs.clone().into();
        read_stable(&self.files, now, move |reading| read_all(reading, &named, &hosts, &texts)).await
    }
}

/// A parsed file.
struct File {
    name: String,
    format: Option<Format>,
    text: String,
    parsed: ParsedText,
}

/// Facts about the files beside their texts.
#[derive(Default)]
struct ReadSummary {
    as_of: Option<Timestamp>,
    notes: Vec<String>,
    problems: Vec<String>,
}

/// Reads all files: they are read and parsed here, and searched in another thread concurrently.
fn read_all(
    reading: &mut ReadPass,
    named: &[String],
    hosts: &KnownHosts,
    settings: &TextSettings,
) -> Result<SourceEvidence, SourceError> {
    let Expansion { files: found, notes: of_globs } = reading.expand()?;
    let (sender, receiver) = sync_channel::<File>(MAX_QUEUED_FILES);
    let (read, findings) = thread::scope(|scope| {
        let searching = scope.spawn(move || {
            let mut texts = TextReader::new(hosts, settings, TextScope::Source).doubting_ends();
            for File { name, format, text, parsed } in receiver {
                texts.read_parsed(Document { name: &name, kind: None, format, text: &text }, parsed);
            }
            texts.finish()
        });
        let read = send(reading, &found, named, &sender);
        drop(sender);
        (read, searching.join())
    });
    let ReadSummary { as_of, notes: of_files, problems: unread } = read?;
    let found = findings.map_err(|_| SourceError::panicked())?;
    let TextEvidence { claims, unresolved, texts, report_only_texts: reported, notes, problems } = found;
    let problems = [unread, problems].concat();
    if !problems.is_empty() {
        return Err(SourceError::new("malformed", truncate_messages(problems).join("\n")));
    }
    Ok(SourceEvidence {
        claims,
        unresolved,
        texts,
        report_only_texts: reported,
        notes: truncate_messages([of_globs, of_files, notes].concat()),
        as_of,
        ended: Vec::new(),
    })
}

/// Reads the files one after another and sends their texts. `named` are the files that the settings name themselves,
/// which must be texts.
fn send(
    reading: &mut ReadPass,
    found: &[GlobFile],
    named: &[String],
    sender: &SyncSender<File>,
) -> Result<ReadSummary, SourceError> {
    let mut read = ReadSummary::default();
    for one in found {
        let content = reading.read(one)?;
        read.as_of = read.as_of.max(content.modified);
        if let Some(format) = encoding::binary_format(&content.bytes).filter(|_| !named.contains(&one.display_path)) {
            read.notes.push(format!("{}: not text ({format}), so it does not count", one.display_path));
            continue;
        }
        match encoding::utf8(&content.bytes) {
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let (name, format) = (one.display_path.clone(), Format::of(&one.path));
                let parsed = Document { name: &name, kind: None, format, text: &text }.parse();
                let file = File { name, format, text, parsed };
                // The search ends early only by a panic, which is reported when it is joined.
                if sender.send(file).is_err() {
                    break;
                }
            }
            Err(what) => read.problems.push(format!("{}: {what}", one.display_path)),
        }
    }
    Ok(read)
}
