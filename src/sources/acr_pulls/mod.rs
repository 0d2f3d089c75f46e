//! Pulls of Azure container registries, as the registries' logs in a Log Analytics workspace recorded them.
//!
//! A pull is a claim for as long as `within` says. What was not pulled has no claim, so the log must certainly cover that
//! time: `workspace` verifies the contract, `events` queries the log and turns rows into claims.

mod events;
mod workspace;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::try_join_all;
use jiff::{SignedDuration, Timestamp};

use super::{Source, SourceError, SourceEvidence};
use crate::azure::{Arm, Credential, LogAnalytics};
use crate::domain::{RegistryName, azure_registry_name};
use crate::http_client::RetryPolicy;
use events::{LogHistory, PullLog};
use workspace::Workspace;

/// The settings of a source of pulls.
#[derive(Debug, Clone)]
pub struct PullSettings {
    /// The workspace that receives the registries' logs.
    pub workspace: WorkspaceId,
    /// The time for which a pull keeps an image.
    pub within: Duration,
    /// The time since which the registries certainly send their logs; `None` if the log itself has to prove it.
    pub logging_since: Option<Timestamp>,
    /// Identities whose pulls do not count, as the log names them.
    pub ignored_identities: Vec<String>,
    /// The registries that the source protects, with their login servers.
    pub registries: Vec<LoginServer>,
    /// The identity that reads.
    pub credential: Credential,
}

/// A workspace of Log Analytics, as a resource of Azure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceId {
    /// The id of its subscription.
    pub subscription: String,
    /// Its resource group.
    pub resource_group: String,
    /// Its name.
    pub name: String,
}

/// A registry with the host by which its log names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginServer {
    /// Its name in the settings.
    pub registry: RegistryName,
    /// The host of its endpoint, with the port unless that is the default; lower case.
    pub host: String,
}

impl WorkspaceId {
    /// Parses a resource id: `/subscriptions/S/resourceGroups/G/providers/Microsoft.OperationalInsights/workspaces/W`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let segments: Vec<&str> = text.trim_matches('/').split('/').collect();
        let [subscriptions, subscription, groups, resource_group, providers, provider, workspaces, name] = segments[..]
        else {
            return None;
        };
        let words = [
            (subscriptions, "subscriptions"),
            (groups, "resourceGroups"),
            (providers, "providers"),
            (provider, "Microsoft.OperationalInsights"),
            (workspaces, "workspaces"),
        ];
        let plain = |text: &str| {
            !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "-_.()".contains(c)) && text != ".."
        };
        (words.iter().all(|(one, word)| one.eq_ignore_ascii_case(word))
            && uuid::Uuid::try_parse(subscription).is_ok()
            && [subscription, resource_group, name].into_iter().all(plain))
        .then(|| Self {
            subscription: subscription.to_ascii_lowercase(),
            resource_group: resource_group.to_owned(),
            name: name.to_owned(),
        })
    }

    /// Returns its path in the resource manager.
    fn path(&self) -> String {
        let Self { subscription, resource_group, name } = self;
        format!(
            "/subscriptions/{subscription}/resourceGroups/{resource_group}/providers/Microsoft.OperationalInsights/workspaces/{name}"
        )
    }
}

impl fmt::Display for WorkspaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subscription, resource_group, name } = self;
        write!(f, "workspace {name} (resource group {resource_group}, subscription {subscription})")
    }
}

impl LoginServer {
    /// Returns true if the log means this registry by a host.
    fn is_named(&self, host: &str) -> bool {
        let name = |host: &str| azure_registry_name(host).map(str::to_ascii_lowercase);
        self.host.eq_ignore_ascii_case(host) || name(&self.host).is_some_and(|own| name(host) == Some(own))
    }
}

/// The pulls that a workspace has recorded.
#[derive(Debug, Clone)]
pub struct AcrPulls {
    settings: PullSettings,
    retry_policy: RetryPolicy,
}

impl AcrPulls {
    /// Creates a source of pulls. It queries anew on each call.
    #[must_use]
    pub fn new(settings: PullSettings, retry_policy: RetryPolicy) -> Self {
        Self { settings, retry_policy }
    }

    /// Verifies that the log of a registry covers everything since `from`, and returns it.
    fn covering<'l>(
        &self,
        registry: &LoginServer,
        log: &'l [LogHistory],
        from: Timestamp,
        retention_days: i64,
    ) -> Result<Vec<&'l LogHistory>, SourceError> {
        let PullSettings { workspace, within, logging_since, .. } = &self.settings;
        let own: Vec<&LogHistory> = log.iter().filter(|history| registry.is_named(&history.host)).collect();
        let host = &registry.host;
        let Some(oldest) = own.iter().map(|history| history.oldest).min() else {
            let message = format!(
                "{workspace} has no event of {host} in the last {retention_days} days, so pulls of it are not recorded there"
            );
            return Err(SourceError::new("not-recorded", message).with_help(
                "add a diagnostic setting to the registry that sends `ContainerRegistryRepositoryEvents` to it",
            ));
        };
        let since = logging_since.unwrap_or(oldest);
        if since > from {
            let within = humantime::format_duration(*within);
            let until =
                since.checked_add(SignedDuration::try_from(self.settings.within).unwrap_or(SignedDuration::MAX));
            let until = until.map_or_else(|_| "that time".to_owned(), |time| time.strftime("%Y-%m-%d").to_string());
            let message = match logging_since {
                Some(since) => format!("`logging_since` is {since}, less than {within} ago"),
                None => format!(
                    "the log of {host} begins at {oldest}, less than {within} ago: what was pulled before is unknown"
                ),
            };
            return Err(SourceError::new("too-short", message).with_help(format!(
                "wait until {until}, or write a shorter `within`; if the registry has sent its log for longer, write since \
                 when as `logging_since`"
            )));
        }
        Ok(own)
    }
}

#[async_trait]
impl Source for AcrPulls {
    async fn query(&self, now: Timestamp) -> Result<SourceEvidence, SourceError> {
        let settings = &self.settings;
        let arm = Arm::new(&settings.credential, self.retry_policy)?;
        let workspace = Workspace::read(&arm, &settings.workspace).await?;
        workspace.verify_retention(&settings.workspace, settings.within)?;
        let log = PullLog {
            client: LogAnalytics::new(&settings.credential, self.retry_policy)?,
            workspace: workspace.id.clone(),
            retention_days: workspace.retention_days,
        };
        let from = SignedDuration::try_from(settings.within).ok().and_then(|within| now.checked_sub(within).ok());
        let from = from.unwrap_or(Timestamp::MIN);
        let histories = log.histories().await?;
        let mut resources = Vec::new();
        let mut newest = Vec::new();
        for registry in &settings.registries {
            let own = self.covering(registry, &histories, from, workspace.retention_days)?;
            let Some(last) = own.iter().max_by_key(|history| history.newest) else { continue };
            newest.push(last.newest);
            // A registry that was created anew elsewhere keeps its name: the one in use is the last.
            resources.push(last.resource.clone());
        }
        try_join_all(
            resources.iter().map(|resource| workspace::verify_diagnostics(&arm, &settings.workspace, resource)),
        )
        .await?;
        let all: Vec<String> = histories
            .iter()
            .filter(|history| settings.registries.iter().any(|registry| registry.is_named(&history.host)))
            .map(|history| history.resource.clone())
            .collect();
        let pulls = log.pulls(&all, from, &settings.ignored_identities).await?;
        let mut evidence = events::evidence(pulls, &settings.registries)?;
        evidence.as_of = newest.into_iter().min();
        evidence.notes.splice(0..0, workspace.notes(&settings.workspace));
        Ok(evidence)
    }
}
