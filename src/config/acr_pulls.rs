//! `[sources.<name>]` of the kind `acr-pulls`.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;

use super::azure::{self, Azure};
use super::reader::SettingsReader;
use crate::policy::{Entry, Fields, Node, fields};
use crate::registry::RegistrySettings;
use crate::sources::{LoginServer, PullSettings, SourceKind, SourceSettings, WorkspaceId};

/// Events arrive minutes after the pull, sometimes hours, so a shorter time could miss all of them.
const LEAST_WITHIN: Duration = Duration::from_hours(24);

/// Parses a source of pulls by its keys. Its registries are added by [`protect_azure_registries`].
pub(super) fn acr_pulls<'a>(
    fields: &mut Fields<'a>,
    entry: &'a Entry,
    azure: &Azure,
    reader: &mut SettingsReader,
) -> Option<SourceKind> {
    let workspace = reader.required(fields, "workspace", &entry.at).and_then(|node| workspace(node, reader));
    let within = reader.required(fields, "within", &entry.at).and_then(|node| within(node, reader));
    let logging_since = fields.get("logging_since").map(|node| date("logging_since", node, reader));
    let ignored = fields.get("ignore_identities").map(|node| identities(node, reader));
    let credential = azure::reader_identity(&entry.at, azure, reader);
    Some(SourceKind::AcrPulls(Box::new(PullSettings {
        workspace: workspace?,
        within: within?,
        logging_since: logging_since.map_or(Some(None), |date| date.map(Some))?,
        ignored_identities: ignored.unwrap_or_else(|| Some(Vec::new()))?,
        registries: Vec::new(),
        credential: credential?,
    })))
}

/// Adds to a source of pulls the registries that it protects: those it names, all of Azure if it names none.
pub(super) fn protect_azure_registries(
    settings: &mut SourceSettings,
    entry: &Entry,
    registries: &[RegistrySettings],
    reader: &mut SettingsReader,
) {
    let SourceKind::AcrPulls(pulls) = &mut settings.kind else { return };
    let is_azure = |registry: &RegistrySettings| registry.provider.name() == "acr";
    let named = |registry: &RegistrySettings| match &settings.registries {
        Some(names) => names.contains(&registry.name),
        None => is_azure(registry),
    };
    let protected: Vec<&RegistrySettings> = registries.iter().filter(|registry| named(registry)).collect();
    if let Some(other) = protected.iter().find(|registry| !is_azure(registry)) {
        let message = format!("`acr-pulls` of the registry `{}`, whose `kind` is not `acr`", other.name);
        reader.problems.add(&entry.at, message).help("name registries of Azure: registries = [\"…\"]");
    } else if protected.is_empty() && !registries.is_empty() {
        reader
            .problems
            .add(&entry.at, "`acr-pulls`, and no registry has `kind = \"acr\"`")
            .help("leave the source out: only Azure's registries send their pulls to a workspace");
    }
    let server = |registry: &&RegistrySettings| {
        let host = registry.endpoint.host_str().unwrap_or_default().to_ascii_lowercase();
        let host = registry.endpoint.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        LoginServer { registry: registry.name.clone(), host }
    };
    pulls.registries = protected.iter().map(server).collect();
    settings.registries = Some(protected.iter().map(|registry| registry.name.clone()).collect());
}

fn workspace(node: &Node, reader: &mut SettingsReader) -> Option<WorkspaceId> {
    let written = fields::text("workspace", node, &mut reader.problems)?;
    let id = WorkspaceId::parse(written);
    if id.is_none() {
        let problem = format!("`workspace` is not the resource id of a workspace: {}", node.value.describe());
        reader.problems.add(&node.at, problem).help(
            "write what `az monitor log-analytics workspace show --query id` prints: \
             \"/subscriptions/…/resourceGroups/…/providers/Microsoft.OperationalInsights/workspaces/…\"",
        );
    }
    id
}

fn within(node: &Node, reader: &mut SettingsReader) -> Option<Duration> {
    let within = fields::duration("within", node, &mut reader.problems)?;
    if within < LEAST_WITHIN {
        reader
            .problems
            .add(&node.at, "`within` must be at least a day: pulls arrive in the log hours later")
            .help("write within = \"30d\"");
        return None;
    }
    Some(within)
}

/// Parses a date; the time is its end in UTC, when it is certainly past everywhere.
fn date(key: &str, node: &Node, reader: &mut SettingsReader) -> Option<Timestamp> {
    let written = fields::text(key, node, &mut reader.problems)?;
    let parsed =
        written.parse::<Date>().ok().and_then(|date| date.tomorrow().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok());
    if parsed.is_none() {
        let problem = format!("`{key}` is not a date: {}", node.value.describe());
        reader.problems.add(&node.at, problem).help("write the day, such as \"2026-06-01\"");
    }
    parsed.map(|day| day.timestamp())
}

fn identities(node: &Node, reader: &mut SettingsReader) -> Option<Vec<String>> {
    let (texts, mut sound) = fields::texts("ignore_identities", node, &mut reader.problems)?;
    let mut identities = Vec::new();
    for (text, at) in texts {
        if text.trim().is_empty() || text.chars().any(char::is_control) {
            reader
                .problems
                .add(&at, "`ignore_identities` has an entry that is not an identity")
                .help("write the `Identity` of the log's events, such as a client id; anonymous pulls always count");
            sound = false;
        }
        identities.push(text.trim().to_owned());
    }
    identities.sort();
    identities.dedup();
    sound.then_some(identities)
}
