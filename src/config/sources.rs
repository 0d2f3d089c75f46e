//! `[sources.<name>]`.

use std::time::Duration;

use super::azure::Azure;
use super::kubernetes;
use super::reader::SettingsReader;
use super::{acr_pulls, git_history, remote_sources, text_settings};
use crate::domain::RegistryName;
use crate::policy::{Entry, Fields, Node, fields};
use crate::registry::RegistrySettings;
use crate::sources::{AzureService, FileSet, SourceKind, SourceSettings, TextSettings};

/// The parser of a source of one kind from its own keys.
type KindReader = for<'a> fn(&mut Fields<'a>, &'a Entry, &Azure, &mut SettingsReader) -> Option<SourceKind>;

const KINDS: [(&str, KindReader); 10] = [
    ("release-records", |fields, entry, _, reader| files(fields, entry, reader).map(SourceKind::ReleaseRecords)),
    ("image-references", |fields, entry, _, reader| files(fields, entry, reader).map(SourceKind::ImageReferences)),
    ("kubernetes", |fields, entry, _, reader| {
        kubernetes::kubernetes(fields, entry, reader).map(SourceKind::Kubernetes)
    }),
    ("references-http", |fields, entry, _, reader| remote_sources::references_http(fields, entry, reader)),
    ("docker", |fields, entry, _, reader| remote_sources::docker(fields, entry, reader)),
    ("container-apps", |fields, entry, azure, reader| {
        remote_sources::azure(AzureService::ContainerApps, fields, entry, azure, reader)
    }),
    ("container-instances", |fields, entry, azure, reader| {
        remote_sources::azure(AzureService::ContainerInstances, fields, entry, azure, reader)
    }),
    ("app-service", |fields, entry, azure, reader| {
        remote_sources::azure(AzureService::AppService, fields, entry, azure, reader)
    }),
    ("acr-pulls", |fields, entry, azure, reader| acr_pulls::acr_pulls(fields, entry, azure, reader)),
    ("git-history", |fields, entry, _, reader| git_history::git_history(fields, entry, reader)),
];

/// Parses all sources, by name, given the names of all registries and the valid ones among these. No source at all is
/// allowed, with a warning.
pub(super) fn sources(
    node: Option<&Node>,
    (registries, valid): (&[RegistryName], &[RegistrySettings]),
    azure: &Azure,
    reader: &mut SettingsReader,
) -> Vec<SourceSettings> {
    let entries = node.and_then(|node| reader.tables("sources", node)).unwrap_or_default();
    if entries.is_empty() {
        let warning = "no sources: nothing protects what is deployed or released but the policies' own rules";
        reader.warnings.push(warning.to_owned());
    }
    let read = entries.iter().filter_map(|entry| {
        reader.entry(entry, |reader| {
            let mut settings = source(entry, registries, azure, reader)?;
            acr_pulls::protect_azure_registries(&mut settings, entry, valid, reader);
            Some(settings)
        })
    });
    let mut read: Vec<SourceSettings> = read.collect();
    read.sort_by(|a, b| a.name.cmp(&b.name));
    read
}

fn source(
    entry: &Entry,
    registries: &[RegistryName],
    azure: &Azure,
    reader: &mut SettingsReader,
) -> Option<SourceSettings> {
    let name = fields::name(&entry.key, &entry.at, &mut reader.problems);
    let mut fields = Fields::of(&entry.node, "source", &mut reader.problems)?;
    let kind =
        reader.kind(&mut fields, &entry.at).and_then(|node| fields::choice("kind", node, &KINDS, &mut reader.problems));
    // Without a kind its keys are unknown; reporting them all would hide the real problem.
    let known_kind = kind.is_some();
    let kind = kind.and_then(|kind| kind(&mut fields, entry, azure, reader));
    let texts = if kind.as_ref().is_some_and(SourceKind::reads_texts) {
        text_settings::texts(&mut fields, reader)
    } else {
        Some(TextSettings::default())
    };
    let names = fields.get("registries").map(|node| protected_registries(node, registries, reader));
    let max_age = fields.get("max_age").map(|node| fields::duration("max_age", node, &mut reader.problems));
    let allow_empty = fields
        .get("allow_empty")
        .map_or(Some(false), |node| fields::boolean("allow_empty", node, &mut reader.problems));
    let min_claims =
        fields.get("min_claims").map(|node| fields::integer("min_claims", node, 1..=u32::MAX, &mut reader.problems));
    let deadline = fields
        .get("deadline")
        .map_or(Some(Duration::from_mins(2)), |node| fields::duration("deadline", node, &mut reader.problems));
    if kind.as_ref().is_some_and(SourceKind::is_live) && max_age.is_some() {
        reader
            .problems
            .add(fields.key_at("max_age"), "`max_age` of what is asked directly, whose answer is always of this moment")
            .help("leave `max_age` out; how long the answer may take is the `deadline`");
    }
    if allow_empty == Some(true) && min_claims.is_some() {
        reader
            .problems
            .add(fields.key_at("allow_empty"), "`allow_empty` and `min_claims` contradict each other")
            .help("keep one of the two");
    }
    if known_kind {
        fields.finish(hint, &mut reader.problems);
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
        "workspace_id" | "workspace_name" => Some(
            "write `workspace`: the resource id, as `az monitor log-analytics workspace show --query id` prints it",
        ),
        "auth" => Some(
            "who asks Azure is `auth = { … }` below `[azure]`; a web address is asked with `header = { name = \"…\", value_file = \"…\" }`",
        ),
        "timeout" => Some("the time that a source may take is its `deadline`"),
        _ => None,
    }
}

/// Parses the registries that a source protects, all of which must be configured.
fn protected_registries(
    node: &Node,
    registries: &[RegistryName],
    reader: &mut SettingsReader,
) -> Option<Vec<RegistryName>> {
    let (texts, mut sound) = fields::texts("registries", node, &mut reader.problems)?;
    let known: Vec<&str> = registries.iter().map(RegistryName::as_str).collect();
    let mut names = Vec::new();
    for (text, at) in texts {
        if let Some(name) = registries.iter().find(|name| name.as_str() == text) {
            names.push(name.clone());
        } else {
            let (message, help) = fields::unknown_word("registry", &text, "", &known);
            reader.problems.add(&at, message).help(help);
            sound = false;
        }
    }
    names.sort();
    names.dedup();
    sound.then_some(names)
}

fn files<'a>(fields: &mut Fields<'a>, entry: &'a Entry, reader: &mut SettingsReader) -> Option<FileSet> {
    let node = reader.required(fields, "paths", &entry.at)?;
    let (texts, mut sound) = fields::texts("paths", node, &mut reader.problems)?;
    let mut globs = Vec::new();
    for (text, at) in texts {
        if let Err(error) = globset::Glob::new(&text) {
            reader.problems.add(&at, format!("`{text}` is not a valid glob: {}", error.kind()));
            sound = false;
        }
        globs.push(text);
    }
    sound.then(|| FileSet { base: reader.folder.clone(), globs })
}
