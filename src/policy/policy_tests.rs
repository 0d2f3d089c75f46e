//! Fixtures: tests of policies beside them, in `*.test.yaml`, from tags of a made-up repository to expected verdicts.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::diagnostic::{Diagnostic, Problems};
use super::fields::{self, Fields};
use super::load::{self, PolicyError};
use super::yaml::{self, Entry, Node, Place, Value};
use crate::domain::{
    ArtifactKind, Claim, Claims, DateOrigin, Digest, Hold, HoldOrigin, Holder, ImageReference, Inventory, KnownTexts,
    Lock, Manifest, ManifestDetail, OriginalDate, PolicyName, PullTime, Registry, RegistryName, Repository,
    RepositoryName, SourceName, SourceOutcome, SourceState, Tag, TagName, TextKind, Verdict, chain,
};

/// The time of a fixture without one: 2026-01-01T12:00:00Z.
const DEFAULT_NOW: Timestamp = Timestamp::constant(1_767_268_800, 0);
const VERDICTS: [(&str, Verdict); 5] = [
    ("expired", Verdict::Expired),
    ("retained", Verdict::Retained),
    ("protected", Verdict::Protected),
    ("undecided", Verdict::Undecided),
    ("out-of-scope", Verdict::OutOfScope),
];
const LOCKS: [(&str, Lock); 3] =
    [("delete", Lock::Delete), ("write", Lock::Write), ("delete+write", Lock::DeleteAndWrite)];
const CLAIMED: [(&str, ClaimedBy); 2] = [("tag", ClaimedBy::Tag), ("digest", ClaimedBy::Digest)];
const EVIDENCE: [(&str, EvidenceState); 2] =
    [("complete", EvidenceState::Complete), ("missing", EvidenceState::Missing)];
/// The labels of reasons, as reports have them.
pub(super) const REASONS: [&str; 19] = [
    "not-selected",
    "held",
    "claimed",
    "locked",
    "kept-all",
    "kept-newest",
    "kept-within",
    "kept-bucket",
    "kept-version",
    "kept-matching",
    "kept-image-with",
    "kept-pulled",
    "pull-time-unknown",
    "undated",
    "not-a-version",
    "selection-unknown",
    "source-failed",
    "not-kept",
    "companion-of-unknown",
];
const TESTS_HELP: &str = "a file of tests is `tests:` and below it a list, each test with `- name: …`";
const EXPECT_HELP: &str = "write what should become of a tag: `v1: { pushed: 20d, expect: expired }`";

/// The tests of one file.
#[derive(Debug, Clone)]
pub struct PolicyTests {
    /// The file, as named in messages.
    pub file: String,
    /// The tested policies: a file or a folder.
    pub policies: PathBuf,
    /// The tests, in the order of the file.
    pub tests: Vec<PolicyTest>,
}

/// One test: a repository, and the expected verdicts on its tags.
#[derive(Debug, Clone)]
pub struct PolicyTest {
    /// Its name.
    pub name: String,
    /// The line of its name, from 1.
    pub line: usize,
    /// The time of the evaluation.
    pub now: Timestamp,
    /// The time zone of days.
    pub timezone: TimeZone,
    /// The registry; `None` means the first that the policies name.
    pub registry: Option<RegistryName>,
    /// The repository with all tags.
    pub repository: Repository,
    /// The claims of a source.
    pub claims: Vec<Claim>,
    /// The held tags, each with the end of its hold.
    pub holds: Vec<(TagName, Timestamp)>,
    /// True if a source failed.
    pub source_failed: bool,
    /// The expected verdicts, in the order of the file.
    pub expected: Vec<Expectation>,
}

/// The expected verdict on one tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// The tag.
    pub tag: TagName,
    /// Its line, from 1.
    pub line: usize,
    /// The verdict.
    pub verdict: Verdict,
    /// The policy that must be among the reasons for it.
    pub by: Option<PolicyName>,
    /// The labels of reasons that must be among all of them.
    pub because: Vec<String>,
}

#[derive(Debug, Clone, Copy)]
enum ClaimedBy {
    Tag,
    Digest,
}

#[derive(Debug, Clone, Copy)]
enum EvidenceState {
    Complete,
    Missing,
}

impl PolicyTest {
    /// Returns the facts for the engine, in a registry with that name.
    ///
    /// # Panics
    /// Never: the names written here are valid.
    #[must_use]
    pub fn facts(&self, registry: RegistryName) -> (Inventory, Claims) {
        let registry = Registry { repositories: vec![self.repository.clone()], ..Registry::empty(registry, "fixture") };
        let answer = |name: &str, state| SourceOutcome {
            name: name.parse::<SourceName>().expect("a source name"),
            kind: "fixture",
            registries: None,
            state,
        };
        let claimed = SourceState::Complete {
            claims: self.claims.clone(),
            unresolved: Vec::new(),
            mentions: Vec::new(),
            as_of: None,
            notes: Vec::new(),
        };
        let mut sources = vec![answer("claimed", claimed)];
        if self.source_failed {
            let message = "the test says `evidence: missing`".into();
            sources.push(answer("missing", SourceState::Failed { kind: "fixture", message }));
        }
        let holds = self.holds.iter().map(|(tag, until)| Arc::new(self.hold(&registry, tag, *until))).collect();
        let (mut inventory, mut claims) =
            (Inventory { registries: vec![registry] }, Claims { sources, holds, ..Claims::default() });
        inventory.sort();
        claims.sort();
        (inventory, claims)
    }
}

impl PolicyTest {
    /// Returns a person's hold on a tag.
    fn hold(&self, registry: &Registry, tag: &TagName, until: Timestamp) -> Hold {
        Hold {
            registry: registry.name.clone(),
            endpoint: Arc::from(registry.endpoint.as_str()),
            repository: self.repository.name.clone(),
            tag: tag.clone(),
            digest: self.repository.tag(tag.as_str()).and_then(|facts| facts.digest.clone()),
            reason: "the test says `held`".to_owned(),
            by: "fixture".to_owned(),
            since: self.now,
            until,
            origin: HoldOrigin::Person,
        }
    }
}

/// Loads a fixture, or all `*.test.yaml` and `*.test.yml` of a folder and its subfolders; for a policy file, the
/// fixture beside it.
///
/// # Errors
/// Returns every problem of every file. A folder without any fixture is a problem, too.
pub fn load_policy_tests(path: &Path) -> Result<Vec<PolicyTests>, PolicyError> {
    let mut diagnostics = Vec::new();
    let mut fixtures = Vec::new();
    for file in load::find_test_files(path, &mut diagnostics) {
        let shown = file.display().to_string();
        match load::read_text(&file) {
            Ok(text) => match parse_policy_tests(&file, &text) {
                Ok(fixture) => fixtures.push(fixture),
                Err(problems) => diagnostics.extend(problems),
            },
            Err(failure) => diagnostics.push(Diagnostic::of_failure(shown, failure)),
        }
    }
    if diagnostics.is_empty() { Ok(fixtures) } else { Err(PolicyError { diagnostics }) }
}

/// Does the same for a path that may have no fixture at all.
///
/// # Errors
/// Returns every problem of every file.
pub fn load_any_policy_tests(path: &Path) -> Result<Vec<PolicyTests>, PolicyError> {
    if load::find_test_files(path, &mut Vec::new()).is_empty() { Ok(Vec::new()) } else { load_policy_tests(path) }
}

/// Parses the text of the fixture at that path.
///
/// # Errors
/// Returns every problem of it, in the order of their places.
pub fn parse_policy_tests(path: &Path, text: &str) -> Result<PolicyTests, Vec<Diagnostic>> {
    let file = path.display().to_string();
    let text: Arc<str> = super::without_bom(text).into();
    let mut problems = Problems::of_yaml(&file, &text);
    let read = match yaml::parse_yaml(&text) {
        Ok(root) => read_file(&root, path, &mut problems),
        Err(error) => {
            let problem = problems.add(&Place::Text(error.span), error.message);
            if let Some(help) = error.help {
                problem.help(help);
            }
            None
        }
    };
    match read {
        Some(fixture) if problems.count() == 0 => Ok(fixture),
        _ => Err(problems.into_diagnostics()),
    }
}

/// Returns the policies beside a fixture: for `shop.test.yaml`, `shop.yaml` or `shop.yml`.
fn sibling_policies(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let stem = name.rsplit_once('.')?.0.rsplit_once('.')?.0;
    ["yaml", "yml"].iter().map(|ending| path.with_file_name(format!("{stem}.{ending}"))).find(|path| path.exists())
}

fn read_file(root: &Node, path: &Path, problems: &mut Problems) -> Option<PolicyTests> {
    if !matches!(root.value, Value::Map(_)) {
        problems.add(&root.at, "no tests in this file").help(TESTS_HELP);
        return None;
    }
    let mut fields = Fields::of(root, "file of tests", problems)?;
    let policies = match fields.get("policies") {
        Some(node) => fields::text("policies", node, problems).map(|text| path.with_file_name("").join(text)),
        None => sibling_policies(path).or_else(|| {
            problems
                .add(&root.at, "no policy file of the same name beside these tests")
                .help("say which policies it is about: `policies: shop.yaml`, or `policies: .` for all of this folder");
            None
        }),
    };
    let now = fields.get("now").map_or(Some(DEFAULT_NOW), |node| read_timestamp("now", node, problems));
    let timezone = fields.get("timezone").map_or(Some(TimeZone::UTC), |node| timezone(node, problems));
    let tests = fields.get("tests");
    fields.finish(|key| (key == "tags").then_some("tags belong to a test, below `tests:`"), problems);
    let nodes = match tests.map(|node| (&node.value, &node.at)) {
        Some((Value::List(nodes), _)) if !nodes.is_empty() => nodes,
        found => {
            problems.add(found.map_or(&root.at, |(_, at)| at), "no tests in this file").help(TESTS_HELP);
            return None;
        }
    };
    // The problems so far are recorded; the tests are parsed all the same.
    let (now, timezone) = (now.unwrap_or(DEFAULT_NOW), timezone.unwrap_or(TimeZone::UTC));
    let file = path.display().to_string();
    let tests = nodes.iter().filter_map(|node| read_test(node, &file, now, &timezone, problems)).collect();
    Some(PolicyTests { file, policies: policies?, tests })
}

fn read_test(
    node: &Node,
    file: &str,
    now: Timestamp,
    timezone: &TimeZone,
    problems: &mut Problems,
) -> Option<PolicyTest> {
    let noted = problems.count();
    let mut fields = Fields::of(node, "test", problems)?;
    let name = required(&mut fields, "name", "say what should hold: `- name: …`", problems);
    let name = name.and_then(|node| Some((fields::text("name", node, problems)?, &node.at)));
    let registry = match fields.get("registry") {
        Some(node) => fields::text("registry", node, problems).map(|text| fields::name(text, &node.at, problems)),
        None => Some(None),
    };
    let repository = required(&mut fields, "repository", "write one that the policies select", problems);
    let repository: Option<RepositoryName> =
        repository.and_then(|node| fields::name(fields::text("repository", node, problems)?, &node.at, problems));
    let now = fields.get("now").map_or(Some(now), |node| read_timestamp("now", node, problems));
    let evidence = fields
        .get("evidence")
        .map_or(Some(EvidenceState::Complete), |node| fields::choice("evidence", node, &EVIDENCE, problems));
    let tags = required(&mut fields, "tags", EXPECT_HELP, problems);
    let hint = |key: &str| match key {
        "claims" | "claimed" => Some("say it of a tag: `v1: { pushed: 20d, claimed: tag, expect: protected }`"),
        "policies" | "timezone" => Some("it belongs to the whole file, beside `tests:`"),
        _ => None,
    };
    fields.finish(hint, problems);
    let (name, line) = name.map_or(("", 0), |(name, at)| (name, problems.diagnostic(at, "").line));
    // As above: unreadable parts are recorded, and make this fixture invalid.
    let mut test = PolicyTest {
        name: name.to_owned(),
        line,
        now: now.unwrap_or(DEFAULT_NOW),
        timezone: timezone.clone(),
        registry: registry.flatten(),
        repository: Repository::empty(repository.unwrap_or_else(|| placeholder_name("unread"))),
        claims: Vec::new(),
        holds: Vec::new(),
        source_failed: matches!(evidence, Some(EvidenceState::Missing)),
        expected: Vec::new(),
    };
    let tags = tags?;
    let entries = match &tags.value {
        Value::Map(entries) if !entries.is_empty() => entries,
        value => {
            problems.add(&tags.at, format!("`tags` must be a map of tags, not {}", value.describe())).help(EXPECT_HELP);
            return None;
        }
    };
    let mut seen = BTreeSet::new();
    for entry in entries {
        if !seen.insert(&entry.key) {
            problems.add(&entry.at, format!("tag `{}` is written twice", entry.key)).help("keep one of the two");
        }
        read_tag(entry, file, &mut test, problems);
    }
    if test.expected.is_empty() && problems.count() == noted {
        problems.add(&tags.at, "nothing is expected of any tag").help(EXPECT_HELP);
    }
    Some(test)
}

/// Returns a name that replaces an unreadable one.
fn placeholder_name<T: std::str::FromStr>(name: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    name.parse().expect("a name by every grammar")
}

fn required<'a>(fields: &mut Fields<'a>, key: &'static str, help: &str, problems: &mut Problems) -> Option<&'a Node> {
    let node = fields.get(key);
    if node.is_none() && !fields.is_misspelled(key) {
        problems.add(fields.at(), format!("a test without `{key}`")).help(help);
    }
    node
}

/// Adds a tag to its test: its facts to the repository, its claims to the claims, its expectation to the rest.
fn read_tag(entry: &Entry, file: &str, test: &mut PolicyTest, problems: &mut Problems) -> Option<()> {
    let name: TagName = match entry.key.parse() {
        Ok(name) => name,
        Err(error) => {
            let problem = problems.add(&entry.at, chain(&error));
            if entry.key.starts_with("the number") {
                problem.help("put a tag that looks like a number in quotes");
            }
            placeholder_name("unread")
        }
    };
    if !matches!(entry.node.value, Value::Map(_)) {
        let message = format!("a tag must be a map of keys and values, not {}", entry.node.value.describe());
        problems.add(&entry.node.at, message).help(EXPECT_HELP);
        return None;
    }
    let line = problems.diagnostic(&entry.at, "").line;
    let mut fields = Fields::of(&entry.node, "tag", problems)?;
    let image = fields.get("image").map(|node| fields::text("image", node, problems));
    let pushed = fields.get("pushed").map(|node| read_pushed(node, test.now, problems));
    let pulled = fields.get("pulled").map(|node| read_pulled(node, test.now, problems));
    let restored = fields.get("restored").map(|node| read_restored(node, test.now, problems));
    let held = fields.get("held").map(|node| read_held(node, test.now, problems));
    let own_type = fields.get("type").map(|node| read_type(node, problems));
    let texts = TextKind::ALL.map(|kind| (kind, fields.get(kind.label()).map(|node| read_texts(kind, node, problems))));
    let lock = fields.get("lock").map(|node| fields::choice("lock", node, &LOCKS, problems));
    let claimed = fields.get("claimed").map(|node| fields::choice("claimed", node, &CLAIMED, problems));
    let expect = fields.get("expect").map(|node| fields::choice("expect", node, &VERDICTS, problems));
    let by = fields.get("by").map(|node| {
        fields::text("by", node, problems).and_then(|text| fields::name::<PolicyName>(text, &node.at, problems))
    });
    let because = fields.get("because").map(|node| because(node, problems));
    if expect.is_none() && (by.is_some() || because.is_some()) {
        problems.add(fields.at(), "a reason without a verdict").help("write `expect:` beside it");
    }
    let hint = |key: &str| match key {
        "age" | "pushed_at" | "created" => Some("write `pushed: 20d`, or a time"),
        "digest" => Some("name images by short words: `image: a`; tags of one word are tags of one image"),
        "locked" => Some("write `lock: delete`"),
        "hold" | "holds" => Some("write `held: 14d`, how long it is still held"),
        "verdict" | "expected" => Some("write `expect: expired`"),
        "media_type" | "artifact_type" | "kind" => Some("write `type: chart`, or a media type"),
        "reason" | "reasons" => Some("write `because: kept-newest`"),
        "policy" => Some("write `by:` and the policy's name"),
        _ => None,
    };
    fields.finish(hint, problems);
    let (image, pushed, lock, claimed) = (flat(image)?, flat(pushed)?, flat(lock)?, flat(claimed)?);
    let (expect, by, because) = (flat(expect)?, flat(by)?, flat(because)?);
    let (restored, held) = (flat(restored)?, flat(held)?);
    if let Some(pulled) = flat(pulled)? {
        test.repository.set_pull_time(name.clone(), pulled);
    }
    if restored.is_some() {
        let original = pushed.map_or(OriginalDate::Unknown, |at| OriginalDate::Known(at.into(), DateOrigin::Pushed));
        test.repository.original_dates.insert(name.clone(), original);
    }
    test.holds.extend(held.map(|until| (name.clone(), until)));

    let digest = Digest::of(image.map_or_else(|| format!("tag {name}"), |image| format!("image {image}")).as_bytes());
    let known = test.repository.manifests.entry(digest.clone()).or_insert_with(manifest);
    if let Some((media_type, own)) = flat(own_type)? {
        known.media_type = media_type.into();
        test.repository.artifact_types.insert(digest.clone(), own.into());
    }
    for (kind, texts) in texts {
        if let Some(texts) = flat(texts)? {
            test.repository.known_texts_mut(kind).insert(digest.clone(), texts);
        }
    }
    if let Some(claimed) = claimed {
        let (tag, digest) = match claimed {
            ClaimedBy::Tag => (Some(name.clone()), None),
            ClaimedBy::Digest => (None, Some(digest.clone())),
        };
        let image = ImageReference { host: None, repository: Some(test.repository.name.clone()), tag, digest };
        let line = u32::try_from(line).unwrap_or_default();
        test.claims.push(Claim::new(image, Arc::new(Holder::File { path: file.to_owned(), line })));
    }
    if let Some(verdict) = expect {
        let because = because.unwrap_or_default();
        test.expected.push(Expectation { tag: name.clone(), line, verdict, by, because });
    }
    test.repository.tags.push(Tag {
        name,
        digest: Some(digest),
        pushed_at: restored.or(pushed).map(Into::into),
        first_seen: None,
        lock,
    });
    Some(())
}

/// Parses all annotations or labels of an image.
fn read_texts(kind: TextKind, node: &Node, problems: &mut Problems) -> Option<KnownTexts> {
    let key = kind.label();
    let Value::Map(entries) = &node.value else {
        let shown = problems.describe(&node.value);
        problems
            .add(&node.at, format!("`{key}` must be a map of keys and values, not {shown}"))
            .help(format!("write {key}: {{ team: checkout }}, or {{}} for none"));
        return None;
    };
    let (mut texts, mut sound) = (KnownTexts::new(), true);
    for Entry { key: name, at, node } in entries {
        let value = match &node.value {
            // A value may be empty.
            Value::Text(text) => Some(text.as_str()),
            _ => fields::text(name, node, problems),
        };
        sound &= value.is_some();
        if texts.insert(name.as_str().into(), value.map(Into::into)).is_some() {
            problems.add(at, format!("`{name}` is written twice")).help("keep one of the two");
            sound = false;
        }
    }
    sound.then_some(texts)
}

/// Parses the type of a tag's artifact: a word, or the type that it states. Returns the media type of such a manifest, and its
/// own type.
fn read_type(node: &Node, problems: &mut Problems) -> Option<(&'static str, String)> {
    let text = fields::text("type", node, problems)?;
    let (index, manifest) = ("application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json");
    if text.contains('/') {
        return Some((manifest, text.to_owned()));
    }
    let Some(kind) = ArtifactKind::ALL.into_iter().find(|kind| kind.label() == text) else {
        let words = ArtifactKind::ALL.map(ArtifactKind::label);
        let (message, list) = fields::unknown_word("type", text, " of artifact", &words);
        problems.add(&node.at, message).help(format!("{list}; or write a media type"));
        return None;
    };
    let media_type = if kind == ArtifactKind::Index { index } else { manifest };
    Some((media_type, kind.example().to_owned()))
}

/// Flattens a value; `None` if it could not be read.
#[expect(clippy::option_option, reason = "the outer nothing is `wrong`, the inner one `not written`")]
fn flat<T>(value: Option<Option<T>>) -> Option<Option<T>> {
    match value {
        None => Some(None),
        Some(None) => None,
        read => Some(read.flatten()),
    }
}

fn manifest() -> Manifest {
    Manifest {
        media_type: "application/vnd.oci.image.manifest.v1+json".into(),
        size: 1,
        config: None,
        blobs: [].into(),
        children: Vec::new(),
        subject: None,
        created_at: None,
        lock: None,
        detail: ManifestDetail::Full,
    }
}

fn because(node: &Node, problems: &mut Problems) -> Option<Vec<String>> {
    let one = [node.clone()];
    let nodes = match &node.value {
        Value::List(nodes) if !nodes.is_empty() => nodes.as_slice(),
        _ => &one,
    };
    let known: Vec<(&str, &str)> = REASONS.iter().map(|label| (*label, *label)).collect();
    let labels: Vec<Option<String>> =
        nodes.iter().map(|node| fields::choice("because", node, &known, problems).map(str::to_owned)).collect();
    labels.into_iter().collect()
}

fn timezone(node: &Node, problems: &mut Problems) -> Option<TimeZone> {
    let text = fields::text("timezone", node, problems)?;
    let zone = TimeZone::get(text);
    if zone.is_err() {
        let message = format!("unknown time zone `{}`", yaml::shorten(text));
        problems.add(&node.at, message).help("write an IANA name, such as `Europe/London`");
    }
    zone.ok()
}

/// Parses a time, or a day, which means its beginning in UTC.
fn read_timestamp(key: &str, node: &Node, problems: &mut Problems) -> Option<Timestamp> {
    let text = fields::text(key, node, problems)?;
    let found = time_of(text);
    if found.is_none() {
        let message = format!("`{}` is not a valid time", problems.format_entry(key, yaml::shorten(text)));
        problems.add(&node.at, message).help("write it as 2026-12-24T03:00:00Z, or a day as 2026-12-24");
    }
    found
}

fn time_of(text: &str) -> Option<Timestamp> {
    let day = |text: &str| text.parse::<jiff::civil::Date>().ok()?.to_zoned(TimeZone::UTC).ok();
    text.parse().ok().or_else(|| day(text).map(|day| day.timestamp()))
}

/// Parses the time of a tag's last pull: absolute, relative to now, or `never`.
fn read_pulled(node: &Node, now: Timestamp, problems: &mut Problems) -> Option<PullTime> {
    match &node.value {
        Value::Text(word) if word == "never" => Some(PullTime::Never),
        _ => read_time_before("pulled", node, now, problems).map(|at| PullTime::At(at.into())),
    }
}

/// Parses the time of a tag's restore: absolute, or relative to now.
fn read_restored(node: &Node, now: Timestamp, problems: &mut Problems) -> Option<Timestamp> {
    read_time_before("restored", node, now, problems)
}

/// Parses the end of a hold: absolute, or relative to now.
fn read_held(node: &Node, now: Timestamp, problems: &mut Problems) -> Option<Timestamp> {
    if let Value::Text(text) = &node.value
        && let Some(time) = time_of(text)
    {
        return Some(time);
    }
    let rest = SignedDuration::try_from(fields::duration("held", node, problems)?).ok()?;
    now.checked_add(rest).ok()
}

/// Parses a time, absolute or relative to now.
fn read_pushed(node: &Node, now: Timestamp, problems: &mut Problems) -> Option<Timestamp> {
    read_time_before("pushed", node, now, problems)
}

fn read_time_before(key: &str, node: &Node, now: Timestamp, problems: &mut Problems) -> Option<Timestamp> {
    if let Value::Text(text) = &node.value
        && let Some(time) = time_of(text)
    {
        return Some(time);
    }
    let age = SignedDuration::try_from(fields::duration(key, node, problems)?).ok()?;
    now.checked_sub(age).ok()
}
