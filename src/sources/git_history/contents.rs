//! Reading the contents of versions of files: one at a time, concurrently with the requests for the others.

use std::collections::BTreeSet;
use std::path::Path;

use tokio::sync::mpsc;

use super::super::document::Format;
use super::super::known_hosts::KnownHosts;
use super::super::text::{Document, TextEvidence, TextReader, TextSettings};
use super::super::{SourceError, encoding, glob_files};
use super::commits::Commit;
use super::name_of;
use super::repository::{GitProcess, Repository};
use super::trees::FileVersion;
use crate::domain::TextScope;

/// The first line of the files that Git LFS stores in a repository instead of their contents.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\n";

/// Bytes that show whether a content that is too large is text.
const BINARY_PROBE_BYTES: usize = 8 << 10;

/// The reading of contents.
pub(super) struct ContentReader {
    hosts: Vec<String>,
    texts: TextSettings,
}

/// Everything that was found.
#[derive(Debug, Default)]
pub(super) struct ContentEvidence {
    pub(super) evidence: TextEvidence,
    /// Files with a version that is not text.
    pub(super) binaries: BTreeSet<String>,
    /// Files with a version that is stored elsewhere.
    pub(super) pointers: BTreeSet<String>,
}

/// The content of a version of a file.
struct Content {
    file: String,
    /// File and commit.
    name: String,
    bytes: Vec<u8>,
}

impl ContentReader {
    /// Creates a reader for references to those hosts.
    pub(super) fn new(hosts: Vec<String>, texts: TextSettings) -> Self {
        Self { hosts, texts }
    }

    /// Reads the contents of all versions, in their order.
    pub(super) async fn read(
        self,
        repository: &Repository,
        commits: &[Commit],
        versions: &[FileVersion],
    ) -> Result<ContentEvidence, SourceError> {
        // One content waits while the one before is read and the next is fetched.
        let (sender, mut receiver) = mpsc::channel(1);
        let reading = tokio::task::spawn_blocking(move || {
            let hosts = KnownHosts::new(&self.hosts);
            let mut texts = TextReader::new(&hosts, &self.texts, TextScope::Source);
            let mut read = ContentEvidence::default();
            while let Some(content) = receiver.blocking_recv() {
                read.add(content, &mut texts);
            }
            read.evidence = texts.finish();
            read
        });
        let sent = send(repository, commits, versions, sender).await;
        let read = reading.await.map_err(|_| SourceError::panicked())?;
        sent.map(|()| read)
    }
}

impl ContentEvidence {
    fn add(&mut self, Content { file, name, bytes }: Content, texts: &mut TextReader<'_>) {
        if bytes.starts_with(LFS_POINTER) {
            self.pointers.insert(file);
            return;
        }
        // A history always has some files that are not text, and they cannot be taken out of it.
        let Ok(text) = encoding::utf8(&bytes) else {
            self.binaries.insert(file);
            return;
        };
        texts.read(Document {
            name: &name,
            kind: None,
            format: Format::of(Path::new(&file)),
            text: &String::from_utf8_lossy(&text),
        });
    }
}

/// Sends the contents of all versions, as fast as they are consumed.
async fn send(
    repository: &Repository,
    commits: &[Commit],
    versions: &[FileVersion],
    sender: mpsc::Sender<Content>,
) -> Result<(), SourceError> {
    let input = versions.iter().flat_map(|version| [&*version.blob, "\n"]).collect();
    let mut running = repository.spawn(&["cat-file", "--batch"], input)?;
    for version in versions {
        let name = name_of(&version.path, &commits[version.commit]);
        let Some(header) = running.read_until(b'\n').await? else {
            running.finish().await?;
            return Err(repository.unexpected_output("cat-file"));
        };
        let size =
            header.strip_prefix(&*version.blob).and_then(|rest| rest.strip_prefix(" blob ")?.parse::<u64>().ok());
        let Some(size) = size else { return Err(repository.missing_object(&name)) };
        let bytes = read_content(&mut running, &name, size).await?;
        let content = Content { file: version.path.to_string(), name, bytes };
        if sender.send(content).await.is_err() {
            // The reader stopped early, and reports that itself.
            return Ok(());
        }
    }
    running.finish().await
}

/// Reads one content and the end of line after it. Of an oversized one only the beginning is returned, if that shows
/// that it is not text.
async fn read_content(running: &mut GitProcess<'_>, name: &str, size: u64) -> Result<Vec<u8>, SourceError> {
    let length = usize::try_from(size).ok().filter(|_| size <= glob_files::MAX_FILE_BYTES);
    let bytes = running.read_bytes(length.unwrap_or(BINARY_PROBE_BYTES)).await?;
    if length.is_none() {
        if encoding::utf8(&bytes).is_ok() {
            let message = format!(
                "{name} is larger than {} MiB, which does not count as evidence; narrow `paths` to the files that are meant",
                glob_files::MAX_FILE_BYTES >> 20
            );
            return Err(SourceError::new("too-large", message));
        }
        running.skip(size - BINARY_PROBE_BYTES as u64).await?;
    }
    running.skip(1).await?;
    Ok(bytes)
}
