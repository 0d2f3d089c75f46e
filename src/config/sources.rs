//! `[sources.<name>]`.

use std::time::Duration;

use super::azure::Azure;
use super::kubernetes;
use super::reader::SettingsReader;
use super::{git_history, remote_sources, text_settings};
use crate::domain::RegistryName;
use crate::policy::{Entry, Fields, Node, fields};
use crate::sources::{AzureService, FileSet, SourceKind, SourceSettings, TextSettings};

/// The function that reads a source of a kind from its own keys.
type KindReader = for<'a> fn(&mut Fields<'a>, &'a Entry, &Azure, &mut SettingsReader) -> Option<SourceKind>;

const KINDS: [(&str, KindReader); 9] = [
    ("release-records", |fields, entry, _, reading| files(fields, entry, reading).map(SourceKind::ReleaseRecords)),
    ("image-references", |fields, entry, _, reading| files(fields, entry, reading).map(SourceKind::ImageReferences)),
    ("kubernetes", |fields, entry, _, reading| {
        kubernetes::kubernetes(fields, entry, reading).map(SourceKind::Kubernetes)
    }),
    ("references-http", |fields, entry, _, reading| remote_sources::references_http(fields, entry, reading)),
    ("docker", |fields, entry, _, reading| remote_sources::docker(fields, entry, reading)),
    ("container-apps", |fields, entry, azure, reading| {
        remote_sources::azure(AzureService::ContainerApps, fields, entry, azure, reading)
    }),
    ("container-instances", |fields, entry, azure, reading| {
        remote_sources::azure(AzureService::ContainerInstances, fields, entry, azure, reading)
    }),
    ("app-service", |fields, entry, azure, reading| {
        remote_sources::azure(AzureService::AppService, fields, entry, azure, reading)
    }),
    ("git-history", |fields, entry, _, reading| git_history::git_history(fields, entry, reading)),
];

/// All sources, by name. None at all is allowed, with a warning.
pub(super) fn sources(
    node: Option<&Node>,
    registries: &[RegistryName],
    azure: &Azure,
    reading: &mut SettingsReader,
) -> Vec<SourceSettings> {
    let entries = node.and_then(|node| reading.tables("sources", node)).unwrap_or_default();
    if entries.is_empty() {
        let warning = "no sources: nothing protects what is deployed or released but the policies' own rules";
        reading.warnings.push(warning.to_owned());
    }
    let read =
        entries.iter().filter_map(|entry| reading.entry(entry, |reading| source(entry, registries, azure, reading)));
    let mut read: Vec<SourceSettings> = read.collect();
    read.sort_by(|a, b| a.name.cmp(&b.name));
    read
}

fn source(
    entry: &Entry,
    registries: &[RegistryName],
    azure: &Azure,
    reading: &mut SettingsReader,
) -> Option<SourceSettings> {
    let name = fields::name(&entry.key, &entry.at, &mut reading.problems);
    let mut fields = Fields::of(&entry.node, "source", &mut reading.problems)?;
    let kind = reading
        .kind(&mut fields, &entry.at)
        .and_then(|node| fields::choice("kind", node, &KINDS, &mut reading.problems));
    // Without a kind its keys are unknown; telling them all so would hide what is wrong.
    let known_kind = kind.is_some();
    let kind = kind.and_then(|kind| kind(&mut fields, entry, azure, reading));
    let texts = if kind.as_ref().is_some_and(SourceKind::reads_texts) {
        text_settings::texts(&mut fields, reading)
    } else {
        Some(TextSettings::default())
    };
    let names = fields.get("registries").map(|node| protected_registries(node, registries, reading));
    let max_age = fields.get("max_age").map(|node| fields::duration("max_age", node, &mut reading.problems));
    let allow_empty = fields
        .get("allow_empty")
        .map_or(Some(false), |node| fields::boolean("allow_empty", node, &mut reading.problems));
    let min_claims =
        fields.get("min_claims").map(|node| fields::integer("min_claims", node, 1..=u32::MAX, &mut reading.problems));
    let deadline = fields
        .get("deadline")
        .map_or(Some(Duration::from_mins(2)), |node| fields::duration("deadline", node, &mut reading.problems));
    if kind.as_ref().is_some_and(SourceKind::is_live) && max_age.is_some() {
        reading
            .problems
            .add(fields.key_at("max_age"), "`max_age` of what is asked directly, whose answer is always of this moment")
            .help("leave `max_age` out; how long the answer may take is the `deadline`");
    }
    if allow_empty == Some(true) && min_claims.is_some() {
        reading
            .problems
            .add(fields.key_at("allow_empty"), "`allow_empty` and `min_claims` contradict each other")
            .help("keep one of the two");
    }
    if known_kind {
        fields.finish(hint, &mut reading.problems);
    }
    Some(SourceSettings {
        name: name?,
        kind: kind?,
        registries: names.map_or(Some(None), |names| names.map(Some))?,
        max_age: max_age.map_or(Some(None), |age| age.map(Some))?,
        allow_empty: allow_empty?,
        min_claims: min_claims.map_or(Some(None), |number| number.map(|number| usize::try_from(number).ok()))?,
        deadline: deadline?,
        texts: texts?,
    })
}

fn hint(key: &str) -> Option<&'static str> {
    match key {
        "path" | "file" | "files" | "glob" | "globs" => Some("the files are named by `paths = [\"…\"]`"),
        "subscription" | "subscription_id" => Some("write `subscriptions = [\"…\"]`"),
        "resource_group" => Some("write `resource_groups = [\"…\"]`"),
        "auth" => Some(
            "who asks Azure is `auth = { … }` below `[azure]`; a web address is asked with `header = { name = \"…\", value_file = \"…\" }`",
        ),
        "timeout" => Some("the time that a source may take is its `deadline`"),
        _ => None,
    }
}

/// The registries that a source protects, all of them configured.
fn protected_registries(
    node: &Node,
    registries: &[RegistryName],
    reading: &mut SettingsReader,
) -> Option<Vec<RegistryName>> {
    let (texts, mut sound) = fields::texts("registries", node, &mut reading.problems)?;
    let known: Vec<&str> = registries.iter().map(RegistryName::as_str).collect();
    let mut names = Vec::new();
    for (text, at) in texts {
        if let Some(name) = registries.iter().find(|name| name.as_str() == text) {
            names.push(name.clone());
        } else {
            let (message, help) = fields::unknown_word("registry", &text, "", &known);
            reading.problems.add(&at, message).help(help);
            sound = false;
        }
    }
    names.sort();
    names.dedup();
    sound.then_some(names)
}

fn files<'a>(fields: &mut Fields<'a>, entry: &'a Entry, reading: &mut SettingsReader) -> Option<FileSet> {
    let node = reading.required(fields, "paths", &entry.at)?;
    let (texts, mut sound) = fields::texts("paths", node, &mut reading.problems)?;
    let mut globs = Vec::new();
    for (text, at) in texts {
        if let Err(error) = globset::Glob::new(&text) {
            reading.problems.add(&at, format!("`{text}` is no glob: {}", error.kind()));
            sound = false;
        }
        globs.push(text);
    }
    sound.then(|| FileSet { base: reading.folder.clone(), globs })
}
