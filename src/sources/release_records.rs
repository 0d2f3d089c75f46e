//! Release records in JSON or YAML files.
//!
//! A file contains one record, a list of them, or `{"releases": [...], "generated_at": "…"}`. Any invalid part fails
//! the whole source, since a skipped record would leave an image unprotected. All problems of all files are reported at
//! once.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::civil::{Date, DateTime};
use jiff::{Timestamp, tz::TimeZone};

use super::document::{Format, Node, Problem, Value, parse};
use super::glob_files::Expansion;
use super::stable_read::{ReadPass, read_stable};
use super::{FileSet, Source, SourceError, SourceEvidence, encoding, truncate_messages};
use crate::domain::{
    Claim, Digest, Holder, ImageReference, PathPattern, Release, ReleaseStatus, TagName, UnresolvedReference,
};

/// Earlier ends of a protection are slips: `0026-12-31`, or the zero of a program's clock.
const EARLIEST_END: Timestamp = Timestamp::constant(946_684_800, 0);

/// Release records in the files of a file set.
#[derive(Debug, Clone)]
pub struct ReleaseRecords {
    files: FileSet,
    is_age_limited: bool,
}

impl ReleaseRecords {
    /// Creates a source for those files. It reads anew on each call.
    #[must_use]
    pub fn new(files: FileSet) -> Self {
        Self { files, is_age_limited: false }
    }

    /// Returns the same source with a note on files whose own time decides about the age of the evidence.
    #[must_use]
    pub fn with_age_limit(self) -> Self {
        Self { is_age_limited: true, ..self }
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
        let is_age_limited = self.is_age_limited;
        read_stable(&self.files, now, move |reading| read_all(reading, now, is_age_limited)).await
    }
}

/// Records that were read so far.
#[derive(Default)]
struct Records {
    /// The number of records, also of those that protect nothing.
    count: usize,
    claims: Vec<Claim>,
    unresolved: Vec<UnresolvedReference>,
    problems: Vec<String>,
    notes: Vec<String>,
    /// The records that have ended.
    ended: Vec<String>,
    oldest_snapshot: Option<Timestamp>,
    /// The time and the name of the newest file without a time of its own.
    newest_file: Option<(Timestamp, String)>,
}

fn read_all(reading: &mut ReadPass, now: Timestamp, is_age_limited: bool) -> Result<SourceEvidence, SourceError> {
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
        if let Some(time) = file.generated_at {
            records.oldest_snapshot = Some(records.oldest_snapshot.map_or(time, |oldest| oldest.min(time)));
        } else {
            let own = content.modified.map(|time| (time, found.display_path.clone()));
            records.newest_file = records.newest_file.take().max(own);
        }
        if records.count == before {
            without_record.push(format!("{} has no record", found.display_path));
        }
    }
    let Records { count, claims, unresolved, problems, notes: remarks, ended, oldest_snapshot, newest_file } = records;
    if !problems.is_empty() {
        return Err(SourceError::new("malformed", truncate_messages(problems).join("\n")));
    }
    notes.extend(remarks);
    // Where nothing is released, every file is empty.
    if count > 0 {
        notes.extend(without_record);
    }
    if let Some((time, name)) = newest_file.as_ref().filter(|_| is_age_limited)
        && oldest_snapshot.is_none_or(|snapshot| *time < snapshot)
    {
        notes.push(format!(
            "`max_age` goes by the time of the file {name}, which a copy or a clone renews; write `generated_at` into it"
        ));
    }
    let as_of = [oldest_snapshot, newest_file.map(|(time, _)| time)].into_iter().flatten().min();
    let notes = truncate_messages(notes);
    Ok(SourceEvidence { claims, unresolved, as_of, notes, ended, ..SourceEvidence::default() })
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
            Err(problem) => {
                let hint = json_hint(text, format, &problem);
                return self.add_problem(problem.line, problem.message + hint);
            }
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
        if document.get("generated_at").is_none()
            && let Some((line, key)) = find_key(document, |key| plain_key(key) == "generatedat")
        {
            self.add_problem(line, format_args!("unknown key `{key}`; write `generated_at`"));
        }
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
            let hint = if let Value::Text(text) = &record.value {
                format!("; write `{{ \"image\": \"{}\" }}`", text.chars().take(80).collect::<String>())
            } else {
                String::new()
            };
            let what = format!("expected a release record, found {}{hint}", record.describe());
            return self.add_problem(record.line, what);
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
        if !retired && release.keep_until.is_some_and(|until| until < EARLIEST_END) {
            let node = record.get("keep_until");
            let text = node.and_then(scalar_text).unwrap_or_default();
            let what = format!(
                "`keep_until` is `{text}`, which cannot be; write the year with four digits, or `\"status\": \"retired\"`"
            );
            return self.add_problem(node.map_or(record.line, |node| node.line), what);
        }
        let over = release.keep_until.is_some_and(|until| until < self.now);
        if self.records.problems.len() > before {
            return;
        }
        if retired || over {
            let line = record.get(if retired { "status" } else { "keep_until" }).map_or(record.line, |node| node.line);
            let until = record.get("keep_until").and_then(scalar_text).unwrap_or_default();
            let why = if retired { "is retired".to_owned() } else { format!("ended with `keep_until` {until}") };
            self.records.ended.push(format!("the record at {}:{line} {why}", self.display_path));
            return;
        }
        let holder = Arc::new(Holder::Release(release));
        for mut image in images {
            if image.tag.is_none() && image.digest.is_none() {
                if let Some((line, key, right)) = misnamed_part(record) {
                    return self.add_problem(line, format_args!("unknown key `{key}`; write `{right}`"));
                }
                self.add_tagless(&image, &holder);
                image.tag = "latest".parse().ok();
            }
            self.records.claims.push(Claim::new(image, Arc::clone(&holder)));
        }
    }

    /// Adds an image without tag and digest as unresolved: its record may have forgotten them.
    fn add_tagless(&mut self, image: &ImageReference, holder: &Arc<Holder>) {
        let Some(path) = &image.repository else { return };
        self.records.unresolved.push(UnresolvedReference {
            text: image.to_string().into(),
            host: image.host.clone(),
            path: PathPattern::of(&[path.as_str()]),
            adjacent_words: [].into(),
            holder: Arc::clone(holder),
        });
    }

    /// Returns the images that a record names: its `image`, completed by a separate `tag` or `digest` if present. If
    /// those differ from `image`, both are named. An image may have neither.
    fn images(&mut self, record: &Node) -> Vec<ImageReference> {
        let (line, written) = match record.get("image") {
            Some(Node { line, value: Value::Text(text) }) => (*line, ImageReference::parse_verbatim(text)),
            None | Some(Node { value: Value::Null, .. }) => {
                let hint = match find_key(record, |key| matches!(&*plain_key(key), "image" | "items" | "releases")) {
                    Some((_, key)) if plain_key(key) == "image" => format!("; it has `{key}`: write `image`"),
                    Some((_, key)) => format!("; it has `{key}`: call the list `releases`"),
                    None => match find_key(record, |key| misspelled(key, "image") || misspelled(key, "releases")) {
                        Some((_, key)) if misspelled(key, "image") => {
                            format!("; it has `{key}`, did you mean `image`?")
                        }
                        Some((_, key)) => format!("; it has `{key}`, did you mean `releases`?"),
                        None => String::new(),
                    },
                };
                self.add_problem(record.line, format_args!("this release record has no `image`{hint}"));
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
        if let Some(Node { value: Value::Text(text), .. }) = record.get("image")
            && let Some(scheme) = ["https://", "http://"].into_iter().find(|scheme| text.trim().starts_with(scheme))
        {
            let place = format!("{}:{line}", self.display_path);
            self.records.notes.push(format!("{place}: `image` begins with `{scheme}`, and is read as `{image}`"));
        }
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

    /// Returns a key's time; a date alone means its first moment in UTC, or its last. The end of the year 9999 is
    /// written for "never", and is as late as a time can be.
    fn time(&mut self, record: &Node, key: &str, to_the_end: bool) -> Option<Timestamp> {
        let text = self.text_of(record, key, false)?;
        let text = text.trim();
        let of_date = |date: Date| {
            let time = if to_the_end { date.at(23, 59, 59, 999_999_999) } else { date.at(0, 0, 0, 0) };
            time.to_zoned(TimeZone::UTC).map(|time| time.timestamp())
        };
        let time = if text.len() == "2026-11-30".len() { text.parse().and_then(of_date) } else { text.parse() };
        if to_the_end && time.is_err() && is_end_of_time(text) {
            return Some(Timestamp::MAX);
        }
        time.inspect_err(|_| {
            let line = record.get(key).map_or(record.line, |node| node.line);
            let what = format!(
                "`{key}` is `{text}`, which is not a valid time; write it like `2026-11-30` or `2026-11-30T18:00:00Z`"
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

/// Returns the first own key of a map that a condition holds for, and its line.
fn find_key(map: &Node, holds: impl Fn(&str) -> bool) -> Option<(u32, &str)> {
    let Value::Map(entries) = &map.value else { return None };
    entries.iter().find(|(_, key, _)| holds(key)).map(|(line, key, _)| (*line, key.as_str()))
}

/// Returns a key in lower case, without the marks between its words.
fn plain_key(key: &str) -> String {
    key.chars().filter(|c| !matches!(c, '-' | '_' | ' ')).collect::<String>().to_ascii_lowercase()
}

/// Returns true if a key differs from the right one by one letter, or by two exchanged ones.
fn misspelled(key: &str, right: &str) -> bool {
    let key = plain_key(key);
    key != right && strsim::osa_distance(&key, right) == 1
}

/// Returns the key that probably contains the tag or digest of a record without either: its line, its name, and the
/// right name.
fn misnamed_part(record: &Node) -> Option<(u32, &str, &'static str)> {
    let Value::Map(entries) = &record.value else { return None };
    entries.iter().find_map(|(line, key, node)| {
        let right = match &*plain_key(key) {
            "tag" | "imagetag" | "version" => "tag",
            "digest" | "imagedigest" | "sha" | "sha256" => "digest",
            _ if misspelled(key, "tag") => "tag",
            _ if misspelled(key, "digest") => "digest",
            _ => return None,
        };
        let is_given = scalar_text(node).is_some_and(|text| !text.trim().is_empty());
        (is_given && key != right).then_some((*line, key.as_str(), right))
    })
}

/// Returns true for a valid date or time in the last days of the year 9999.
fn is_end_of_time(text: &str) -> bool {
    let is_date = text.get(..10).is_some_and(|date| date.parse::<Date>().is_ok());
    let is_time = text.len() == 10 || text.get(..19).is_some_and(|time| time.parse::<DateTime>().is_ok());
    text.starts_with("9999-12-3") && is_date && is_time
}

/// Returns the probable cause of a text that is not valid JSON, to be appended to the parser's message.
fn json_hint(text: &str, format: Format, problem: &Problem) -> &'static str {
    let message = &*problem.message;
    let at = usize::try_from(problem.line).unwrap_or_default().saturating_sub(1);
    let line = text.lines().nth(at).unwrap_or_default().trim_start();
    let text = text.trim_start_matches('\u{feff}').trim();
    let has_comma_before =
        |close: char| text.match_indices(',').any(|(at, _)| text[at + 1..].trim_start().starts_with(close));
    if format == Format::Yaml {
        ""
    } else if text.is_empty() {
        ": it is empty; write `[]`, and `allow_empty = true` if nothing is released"
    } else if text.starts_with('<') {
        ": it is a web page or XML, not JSON"
    } else if ["//", "/*", "#"].iter().any(|comment| line.starts_with(comment)) || line.contains(" //") {
        ": JSON has no comments; remove them, or write YAML into a `.yaml` file"
    } else if is_yaml(text) {
        ": it looks like YAML; rename it to `.yaml`"
    } else if message.starts_with("trailing characters") && line.starts_with('{') {
        ": it looks like a record on each line; rename it to `.ndjson`, or write a list, `[{…}, {…}]`"
    } else if message.starts_with("trailing characters") {
        ": remove what follows the last bracket"
    } else if message.starts_with("expected value") && has_comma_before(']') {
        ": remove the comma before `]`"
    } else if message.starts_with("key must be") && has_comma_before('}') {
        ": remove the comma before `}`"
    } else if message.starts_with("key must be") {
        ": put each key in double quotes"
    } else if message.starts_with("EOF while parsing") {
        ": the file ends too early; close each bracket and quote"
    } else {
        ": correct the JSON there"
    }
}

/// Returns true for a text that begins as a document in YAML does, and none in JSON.
fn is_yaml(text: &str) -> bool {
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim_start();
    let key = first.split_once(':').map_or("", |(key, _)| key);
    let is_key = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    first.starts_with("- ") || first.starts_with("---") || is_key
}
