//! The workspace and its contract: how long it retains pulls, and that it receives them.

use std::time::Duration;

use serde::Deserialize;

use super::WorkspaceId;
use super::events::TABLE;
use crate::azure::Arm;
use crate::http_client::{RequestError, RequestErrorKind};
use crate::sources::SourceError;

/// API versions of workspaces with their tables, and of diagnostic settings. The latter has no other version for logs.
const WORKSPACES: &str = "2022-10-01";
const DIAGNOSTICS: &str = "2021-05-01-preview";
/// States in which a workspace drops what it receives.
const DROPPING_STATES: [&str; 3] = ["OverQuota", "ForceOff", "SubscriptionSuspended"];
/// Groups of categories that contain the events of repositories.
const GROUPS: [&str; 2] = ["allLogs", "audit"];

/// The facts about a workspace and its table of events.
#[derive(Debug)]
pub(super) struct Workspace {
    /// Its id for queries.
    pub(super) id: String,
    /// Days for which events can be queried.
    pub(super) retention_days: i64,
    /// Its daily cap in gigabytes, if it has one.
    daily_cap: Option<f64>,
    /// True if a rule transforms what it receives.
    is_transformed: bool,
}

#[derive(Deserialize)]
struct WireResource<P> {
    properties: P,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireWorkspace {
    customer_id: String,
    #[serde(default)]
    workspace_capping: Option<WireCapping>,
    #[serde(default)]
    default_data_collection_rule_resource_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireCapping {
    /// -1 means unlimited.
    #[serde(default)]
    daily_quota_gb: Option<f64>,
    #[serde(default)]
    data_ingestion_status: Option<String>,
}

/// `retentionInDays` is the part of `totalRetentionInDays` that queries reach; the rest is an archive.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireTable {
    retention_in_days: i64,
    #[serde(default)]
    total_retention_in_days: Option<i64>,
    #[serde(default)]
    plan: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireDiagnostics {
    #[serde(default)]
    workspace_id: Option<String>,
    #[serde(default)]
    logs: Option<Vec<WireLog>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireLog {
    #[serde(default)]
    category: Option<String>,
    #[serde(default)]
    category_group: Option<String>,
    enabled: bool,
}

impl Workspace {
    /// Reads a workspace and its table of events.
    pub(super) async fn read(arm: &Arm, id: &WorkspaceId) -> Result<Self, SourceError> {
        let workspace: WireResource<WireWorkspace> = arm.get(&id.path(), WORKSPACES).await?;
        let WireWorkspace { customer_id, workspace_capping, default_data_collection_rule_resource_id } =
            workspace.properties;
        if uuid::Uuid::try_parse(&customer_id).is_err() {
            return Err(SourceError::new(
                "malformed",
                format!("{id} has the `customerId` `{customer_id}`, not a UUID"),
            ));
        }
        let capping = workspace_capping.unwrap_or(WireCapping { daily_quota_gb: None, data_ingestion_status: None });
        if let Some(state) = capping.data_ingestion_status.filter(|state| DROPPING_STATES.contains(&&**state)) {
            let message =
                format!("{id} drops what it receives (`dataIngestionStatus` is `{state}`), so pulls are lost");
            return Err(SourceError::new("not-recorded", message).with_help(
                "raise its daily cap; for the days that are lost, keep by policy what may have been pulled",
            ));
        }
        let path = format!("{}/tables/{TABLE}", id.path());
        let table: WireTable = match arm.get::<WireResource<WireTable>>(&path, WORKSPACES).await {
            Ok(table) => table.properties,
            Err(error) if error.kind == RequestErrorKind::NotFound => {
                let message = format!("{id} has no table `{TABLE}`, so it receives no logs of registries");
                return Err(SourceError::new("not-recorded", message).caused_by(error).with_help(
                    "add a diagnostic setting to the registry that sends `ContainerRegistryRepositoryEvents` to it",
                ));
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(plan) = table.plan.filter(|plan| plan != "Analytics") {
            let message = format!("the table `{TABLE}` of {id} has the plan `{plan}`, which limits queries");
            return Err(SourceError::new("unsupported", message).with_help("set its plan to `Analytics`"));
        }
        let archived = table.total_retention_in_days.unwrap_or(table.retention_in_days);
        Ok(Self {
            id: customer_id.to_ascii_lowercase(),
            retention_days: table.retention_in_days.min(archived),
            daily_cap: capping.daily_quota_gb.filter(|cap| *cap >= 0.0),
            is_transformed: default_data_collection_rule_resource_id.is_some_and(|rule| !rule.is_empty()),
        })
    }

    /// Verifies that events are retained for at least as long as pulls shall count.
    pub(super) fn verify_retention(&self, id: &WorkspaceId, within: Duration) -> Result<(), SourceError> {
        let retention =
            Duration::from_secs(u64::try_from(self.retention_days).unwrap_or(0).saturating_mul(24 * 60 * 60));
        if within <= retention {
            return Ok(());
        }
        let message = format!(
            "`within` is {}, and the table `{TABLE}` of {id} retains events for {} days: older pulls are unknown",
            humantime::format_duration(within),
            self.retention_days
        );
        Err(SourceError::new("retention", message)
            .with_help("raise the table's interactive retention above `within`, or write a shorter `within`"))
    }

    /// Returns remarks about ways in which the workspace may lose pulls.
    pub(super) fn notes(&self, id: &WorkspaceId) -> Vec<String> {
        let cap = self.daily_cap.map(|cap| {
            format!("{id} has a daily cap of {cap} GB: pulls on a day after it is reached are lost, and keep nothing")
        });
        let transformed = self.is_transformed.then(|| {
            format!("{id} has a transformation rule; if it drops events of `{TABLE}`, those pulls keep nothing")
        });
        cap.into_iter().chain(transformed).collect()
    }
}

/// Verifies that a registry, by its resource id, sends the events of its repositories to the workspace.
pub(super) async fn verify_diagnostics(arm: &Arm, id: &WorkspaceId, registry: &str) -> Result<(), SourceError> {
    let path = format!("{registry}/providers/Microsoft.Insights/diagnosticSettings");
    let settings: Vec<WireResource<WireDiagnostics>> = match arm.list(&path, DIAGNOSTICS).await {
        Ok(settings) => settings,
        Err(error) if error.kind == RequestErrorKind::NotFound => return Err(gone(registry, error)),
        Err(error) => return Err(error.into()),
    };
    let is_ours = |settings: &WireDiagnostics| {
        settings.workspace_id.as_deref().and_then(WorkspaceId::parse).is_some_and(|it| it.is_same(id))
    };
    let sends = |log: &WireLog| {
        let named = |given: &Option<String>, words: &[&str]| {
            given.as_deref().is_some_and(|given| words.iter().any(|word| word.eq_ignore_ascii_case(given)))
        };
        log.enabled && (named(&log.category, &[TABLE]) || named(&log.category_group, &GROUPS))
    };
    let mut ours = settings.iter().map(|setting| &setting.properties).filter(|setting| is_ours(setting));
    if ours.any(|setting| setting.logs.iter().flatten().any(sends)) {
        return Ok(());
    }
    let message = format!("{registry} no longer sends its events to {id}, so new pulls are unknown");
    Err(SourceError::new("not-recorded", message)
        .with_help("add a diagnostic setting to the registry that sends `ContainerRegistryRepositoryEvents` to it"))
}

/// The error for a registry that the log names and Azure does not.
fn gone(registry: &str, error: RequestError) -> SourceError {
    let message =
        format!("{registry}, which the log names, is not there, so it is unknown whether it sends its events");
    SourceError::new("not-recorded", message)
        .caused_by(error)
        .with_help("if the registry was moved, wait for the first event from its new place")
}

impl WorkspaceId {
    /// Returns true if both are the same resource; Azure ignores case in names.
    fn is_same(&self, other: &Self) -> bool {
        self.path().eq_ignore_ascii_case(&other.path())
    }
}
