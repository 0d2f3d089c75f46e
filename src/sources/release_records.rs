//! Release records in JSON or YAML files.
//!
//! A file contains one record, a list of them, or `{"releases": [...], "generated_at": "…"}`. Any invalid part fails
//! the whole source, since a skipped record would leave an image unprotected. All problems of all files are reported at
//! once.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::civil::Date;
use jiff::{Timestamp, tz::TimeZone};

use super::document::{Format, Node, Value, parse};
use super::glob_files::Expansion;
use super::stable_read::{ReadPass, read_stable};
use super::{FileSet, Source, SourceError, SourceEvidence, encoding, truncate_messages};
use crate::domain::{Claim, Digest, Holder, ImageReference, Release, ReleaseStatus, TagName, chain};

/// Release records in the files of a file set.
#[derive(Debug, Clone)]
pub struct ReleaseRecords {
    files: FileSet,
}

impl ReleaseRecords {
    /// Creates a source for those files. It reads anew on each call.
    #[must_use]
    pub fn new(files: FileSet) -> Self {
        Self { files }
    }
}

#[async_trait]
impl Source for ReleaseRecords {
    /// Ignores records that are retired, or whose `keep_until` has passed at `now`.
    ///
    /// The time of the evidence: a file with `generated_at` is a snapshot that is regenerated, so the oldest of those
    /// counts; files without are written once for each release, so the newest of those counts (by the file's time). Of
    /// the two, the older counts.
    async fn query(&self, now: Timestamp) -> Result<SourceEvidence, SourceError> {
        read_stable(&self.files, now, move |reading| read_all(reading, now)).await
    }
}

/// Records that were read so far.
#[derive(Default)]
struct Records {
    /// The number of records, also of those that protect nothing.
    count: usize,
    claims: Vec<Claim>,
    problems: Vec<String>,
    oldest_snapshot: Option<Timestamp>,
    newest_file: Option<Timestamp>,
}

fn read_all(reading: &mut ReadPass, now: Timestamp) -> Result<SourceEvidence, SourceError> {
    let mut records = Records::default();
    let mut without_record = Vec::new();
    let Expansion { files, mut notes } = reading.expand()?;
    for found in files {
        let content = reading.read(&found)?;
        let before = records.count;
        let mut file =
            RecordReader { display_path: &found.display_path, now, generated_at: None, records: &mut records };
        let Some(format) = Format::of(&found.path) else {
            file.add_problem(0, "is neither .json, .jsonl, .ndjson, .yaml nor .yml; rename it or narrow the glob");
            continue;
        };
        let bytes = match encoding::utf8(&content.bytes) {
            Ok(bytes) => bytes,
            Err(what) => {
                file.add_problem(0, what);
                continue;
            }
        };
        match std::str::from_utf8(&bytes) {
            Ok(text) => file.read_text(text, format),
            Err(error) => {
                let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
                let line = 1 + before.matches('\n').count();
                file.add_problem(u32::try_from(line).unwrap_or_default(), "is not UTF-8 text");
            }
        }
        match file.generated_at {
            Some(time) => {
                records.oldest_snapshot = Some(records.oldest_snapshot.map_or(time, |oldest| oldest.min(time)));
            }
            None => records.newest_file = records.newest_file.max(content.modified),
        }
        if records.count == before {
            without_record.push(format!("{} has no record", found.display_path));
        }
    }
    let Records { count, claims, problems, oldest_snapshot, newest_file } = records;
    if problems.is_empty() {
        // Where nothing is released, every file is empty.
        if count > 0 {
            notes.extend(without_record);
        }
        let as_of = [oldest_snapshot, newest_file].into_iter().flatten().min();
        return Ok(SourceEvidence { claims, as_of, notes: truncate_messages(notes), ..SourceEvidence::default() });
    }
    Err(SourceError::new("malformed", truncate_messages(problems).join("\n")))
}

/// The meaning of a record's `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RecordStatus {
    Protects(ReleaseStatus),
    Retired,
}

/// One file that is being read.
struct RecordReader<'a> {
    display_path: &'a str,
    now: Timestamp,
    generated_at: Option<Timestamp>,
    records: &'a mut Records,
}

impl RecordReader<'_> {
    fn add_problem(&mut self, line: u32, what: impl std::fmt::Display) {
        let place = if line > 0 { format!("{}:{line}", self.display_path) } else { self.display_path.to_owned() };
        self.records.problems.push(format!("{place}: {what}"));
    }

    fn read_text(&mut self, text: &str, format: Format) {
        let documents = match parse(text, format) {
            Ok(documents) => documents,
            Err(problem) => return self.add_problem(problem.line, problem.message),
        };
        // An extra `---` leaves an empty document, which is harmless beside others.
        let documents: Vec<&Node> = documents.iter().filter(|document| document.value != Value::Null).collect();
        if documents.is_empty() {
            return self.add_problem(0, "is empty; write `[]` where there are no releases");
        }
        for document in documents {
            self.read_document(document);
        }
    }

    fn read_document(&mut self, document: &Node) {
        match &document.value {
            Value::List(records) => {
                for record in records {
                    self.read_record(record);
                }
            }
            Value::Map(_) if document.get("releases").is_some() => self.read_releases(document),
            _ => self.read_record(document),
        }
    }

    fn read_releases(&mut self, document: &Node) {
        self.check_duplicates(document);
        if let Some(time) = self.time(document, "generated_at", false) {
            self.generated_at = Some(self.generated_at.map_or(time, |earlier| earlier.min(time)));
        }
        match document.get("releases") {
            Some(Node { value: Value::List(records), .. }) => {
                for record in records {
                    self.read_record(record);
                }
            }
            Some(other) => self.add_problem(other.line, format_args!("`releases` is {}, not a list", other.describe())),
            None => {}
        }
    }

    fn read_record(&mut self, record: &Node) {
        self.records.count += 1;
        if !matches!(record.value, Value::Map(_)) {
            return self
                .add_problem(record.line, format_args!("expected a release record, found {}", record.describe()));
        }
        let before = self.records.problems.len();
        self.check_duplicates(record);
        let images = self.images(record);
        let stand = self.status(record);
        let release = Release {
            path: self.display_path.to_owned(),
            line: record.get("image").map_or(record.line, |image| image.line),
            service: self.text_of(record, "service", false),
            environment: self.text_of(record, "environment", false),
            owner: self.text_of(record, "owner", false),
            approved_by: self.text_of(record, "approved_by", false),
            build: self.text_of(record, "build", true),
            branch: self.text_of(record, "branch", true),
            released_at: self.time(record, "released_at", false),
            status: if let Some(RecordStatus::Protects(status)) = stand { status } else { ReleaseStatus::default() },
            keep_until: self.time(record, "keep_until", true),
        };
        let retired = stand == Some(RecordStatus::Retired);
        let over = release.keep_until.is_some_and(|until| until < self.now);
        if self.records.problems.len() > before || retired || over {
            return;
        }
        let holder = Arc::new(Holder::Release(release));
        self.records.claims.extend(images.into_iter().map(|image| Claim::new(image, Arc::clone(&holder))));
    }

    /// Returns the images that a record names: its `image`, completed by a separate `tag` or `digest` if present. If
    /// those differ from `image`, both are named.
    fn images(&mut self, record: &Node) -> Vec<ImageReference> {
        let (line, written) = match record.get("image") {
            Some(Node { line, value: Value::Text(text) }) => (*line, ImageReference::parse_verbatim(text)),
            None | Some(Node { value: Value::Null, .. }) => {
                self.add_problem(record.line, "this release record has no `image`");
                return Vec::new();
            }
            Some(other) => {
                self.add_problem(other.line, format_args!("`image` is {}, not a text", other.describe()));
                return Vec::new();
            }
        };
        let mut image = match written {
            Ok(image) => image,
            Err(error) => {
                self.add_problem(line, error);
                return Vec::new();
            }
        };
        let tag = self.read_part::<TagName>(record, "tag", image.repository.is_some() && image.tag.is_none());
        let digest = self.read_part::<Digest>(record, "digest", true);
        let mut images = Vec::new();
        match tag {
            Some(tag) if image.repository.is_none() || image.tag.as_ref() == Some(&tag) => {}
            Some(tag) if image.tag.is_none() => image.tag = Some(tag),
            Some(tag) => images.push(ImageReference { tag: Some(tag), digest: None, ..image.clone() }),
            None => {}
        }
        match digest {
            Some(digest) if image.digest.is_none() => image.digest = Some(digest),
            Some(digest) if image.digest.as_ref() != Some(&digest) => {
                images.push(ImageReference { tag: None, digest: Some(digest), ..image.clone() });
            }
            _ => {}
        }
        if image.tag.is_none() && image.digest.is_none() {
            image.tag = "latest".parse().ok();
        }
        images.push(image);
        images
    }

    /// Parses a part of a reference under a separate key. An invalid one is a problem only if it is needed.
    fn read_part<T: std::str::FromStr>(&mut self, record: &Node, key: &str, needed: bool) -> Option<T>
    where
        T::Err: std::fmt::Display,
    {
        let text = if needed { self.text_of(record, key, key == "tag") } else { scalar_text(record.get(key)?) }?;
        match text.parse() {
            Ok(part) => Some(part),
            Err(error) if needed => {
                self.add_problem(record.get(key).map_or(record.line, |node| node.line), error);
                None
            }
            Err(_) => None,
        }
    }

    /// Returns the status; `None` if it is invalid, which is reported.
    fn status(&mut self, record: &Node) -> Option<RecordStatus> {
        let Some(text) = self.text_of(record, "status", false) else {
            return Some(RecordStatus::Protects(ReleaseStatus::Active));
        };
        match text.as_str() {
            "active" => Some(RecordStatus::Protects(ReleaseStatus::Active)),
            "rollback" => Some(RecordStatus::Protects(ReleaseStatus::Rollback)),
            "retired" => Some(RecordStatus::Retired),
            other => {
                let line = record.get("status").map_or(record.line, |node| node.line);
                let what = format_args!("unknown status `{other}`; expected `active`, `rollback` or `retired`");
                self.add_problem(line, what);
                None
            }
        }
    }

    /// Returns a key's text; `None` if it is absent, null or empty. A number counts as its text where that is common.
    fn text_of(&mut self, record: &Node, key: &str, or_number: bool) -> Option<String> {
        let node = record.get(key)?;
        match &node.value {
            Value::Null => None,
            Value::Text(text) => (!text.trim().is_empty()).then(|| text.clone()),
            Value::Literal(text) if or_number && text.starts_with(|c: char| c.is_ascii_digit()) => Some(text.clone()),
            _ => {
                let expected = if or_number { "a text or a number" } else { "a text" };
                self.add_problem(node.line, format_args!("`{key}` is {}, not {expected}", node.describe()));
                None
            }
        }
    }

    /// Returns a key's time; a date alone means its first moment in UTC, or its last.
    fn time(&mut self, record: &Node, key: &str, to_the_end: bool) -> Option<Timestamp> {
        let text = self.text_of(record, key, false)?;
        let text = text.trim();
        let of_date = |date: Date| {
            let time = if to_the_end { date.at(23, 59, 59, 999_999_999) } else { date.at(0, 0, 0, 0) };
            time.to_zoned(TimeZone::UTC).map(|time| time.timestamp())
        };
        let time = if text.len() == "2026-11-30".len() { text.parse().and_then(of_date) } else { text.parse() };
        time.inspect_err(|error| {
            let line = record.get(key).map_or(record.line, |node| node.line);
            let what = format!(
                "`{key}` is `{text}`, which is no time ({}); write it like `2026-11-30` or `2026-11-30T18:00:00Z`",
                chain(error)
            );
            self.add_problem(line, what);
        })
        .ok()
    }

    fn check_duplicates(&mut self, map: &Node) {
        let Value::Map(entries) = &map.value else { return };
        for (position, (line, key, _)) in entries.iter().enumerate() {
            if let Some((first, ..)) = entries[..position].iter().find(|(_, earlier, _)| earlier == key) {
                self.add_problem(*line, format_args!("`{key}` stands here again; it stood on line {first} already"));
            }
        }
    }
}

fn scalar_text(node: &Node) -> Option<String> {
    match &node.value {
        Value::Text(text) | Value::Literal(text) => Some(text.clone()),
        Value::Null | Value::List(_) | Value::Map(_) => None,
    }
}
