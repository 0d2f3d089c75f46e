//! Pulls of Azure registries, by imitations of Azure Resource Manager and of Log Analytics.

mod contract;
mod settings;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{Timestamp, ToSpan as _};
use serde_json::{Value, json};
use tagwarden::domain::{Holder, SourceState};
use tagwarden::registry::RetryPolicy;
use tagwarden::sources::{
    AcrPulls, LoginServer, PullSettings, Source as _, SourceError, SourceEvidence, SourceKind, SourceSettings,
    TextSettings, WorkspaceId, gather,
};

use super::{D, E, now};
use crate::support::azure::{Entra, ResourceManager, Resources};
use crate::support::log_analytics::{Event, LogAnalytics, WORKSPACE};

const SUBSCRIPTION: &str = "33333333-3333-3333-3333-333333333333";
const PATIENCE: RetryPolicy = RetryPolicy {
    max_retries: 3,
    initial_delay: Duration::from_millis(1),
    max_delay: Duration::from_millis(2),
    max_total_delay: Duration::from_secs(10),
};
/// The identity that clusters pull as.
const KUBELET: &str = "66666666-6666-6666-6666-666666666666";

/// The resource id of a registry, as the log writes it.
pub(crate) fn registry_id(name: &str) -> String {
    format!(
        "/subscriptions/{SUBSCRIPTION}/resourcegroups/rg-shop/providers/microsoft.containerregistry/registries/{name}"
    )
}

pub(crate) fn workspace_id() -> String {
    format!(
        "/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-logs/providers/Microsoft.OperationalInsights/workspaces/logs"
    )
}

fn table_path() -> String {
    format!("{}/tables/ContainerRegistryRepositoryEvents", workspace_id())
}

fn diagnostics_path(registry: &str) -> String {
    format!("{}/providers/Microsoft.Insights/diagnosticSettings", registry_id(registry))
}

/// An event of a registry, so many hours ago; `image` is `repository`, `:tag`, `@digest`, as far as the log has them.
pub(crate) fn event(
    registry: &str,
    hours: i64,
    operation: &str,
    image: &str,
    by: (&str, &str),
    now: Timestamp,
) -> Event {
    let (rest, digest) = image.split_once('@').unwrap_or((image, ""));
    let (repository, tag) = rest.split_once(':').unwrap_or((rest, ""));
    let columns = BTreeMap::from([
        ("_ResourceId", registry_id(registry)),
        ("LoginServer", format!("{registry}.azurecr.io")),
        ("OperationName", operation.to_owned()),
        ("Repository", repository.to_owned()),
        ("Tag", tag.to_owned()),
        ("Digest", digest.to_owned()),
        ("Identity", by.0.to_owned()),
        ("UserAgent", by.1.to_owned()),
        ("ResultDescription", "200".to_owned()),
    ]);
    Event { time: now - hours.hours(), columns }
}

/// Puts a workspace that retains events for 90 days, and a registry that sends them.
pub(crate) fn put_workspace(resources: &mut Resources, registry: &str) {
    let workspace = json!({ "customerId": WORKSPACE.to_uppercase(), "workspaceCapping": { "dailyQuotaGb": -1.0, "dataIngestionStatus": "RespectQuota" } });
    resources.single.insert(workspace_id(), json!({ "id": workspace_id(), "properties": workspace }));
    let table = json!({ "retentionInDays": 90, "totalRetentionInDays": 365, "archiveRetentionInDays": 275, "plan": "Analytics" });
    resources.single.insert(table_path(), json!({ "id": table_path(), "properties": table }));
    resources.lists.insert(
        diagnostics_path(registry),
        vec![diagnostics(json!({ "category": "ContainerRegistryRepositoryEvents", "enabled": true }))],
    );
}

/// A diagnostic setting that sends a log to the workspace.
fn diagnostics(log: Value) -> Value {
    let mut log = log;
    log["retentionPolicy"] = json!({ "enabled": false, "days": 0 });
    json!({ "name": "logs", "properties": { "workspaceId": workspace_id().to_lowercase(), "logs": [log], "metrics": [] } })
}

/// A workspace with pulls of the registry `contoso`, and its reader.
pub(crate) struct PullFixture {
    pub(crate) entra: Entra,
    pub(crate) manager: ResourceManager,
    pub(crate) logs: LogAnalytics,
    settings: PullSettings,
}

impl PullFixture {
    async fn new() -> Self {
        let entra = Entra::start().await;
        let manager = ResourceManager::start(&entra).await;
        let logs = LogAnalytics::start(&entra, now()).await;
        put_workspace(&mut manager.resources.lock().unwrap(), "contoso");
        let mut credential = manager.credential(&entra);
        credential.environment.log_analytics = Some(logs.url.clone());
        let settings = PullSettings {
            workspace: WorkspaceId::parse(&workspace_id()).unwrap(),
            within: Duration::from_hours(30 * 24),
            logging_since: None,
            ignored_identities: Vec::new(),
            registries: vec![LoginServer { registry: "contoso".parse().unwrap(), host: "contoso.azurecr.io".into() }],
            credential,
        };
        let fixture = Self { entra, manager, logs, settings };
        // The log begins long ago.
        fixture.log(80 * 24, "Push", "shop/api:v0", (KUBELET, "docker/29"));
        fixture
    }

    fn log(&self, hours: i64, operation: &str, image: &str, by: (&str, &str)) {
        self.logs.log.lock().unwrap().events.push(event("contoso", hours, operation, image, by, now()));
    }

    fn change(&self, change: impl FnOnce(&mut Resources)) {
        change(&mut self.manager.resources.lock().unwrap());
    }

    async fn ask(&self) -> Result<SourceEvidence, SourceError> {
        AcrPulls::new(self.settings.clone(), PATIENCE).query(now()).await
    }

    /// What it claims, one line each, in order.
    async fn claims(&self) -> Vec<String> {
        shown(&self.ask().await.unwrap())
    }
}

fn shown(evidence: &SourceEvidence) -> Vec<String> {
    let mut lines: Vec<String> = evidence
        .claims
        .iter()
        .map(|claim| match &*claim.holder {
            Holder::Pull { at, identity, client } => format!("{} {at} {identity} {client}", claim.image),
            other => panic!("{other:?}"),
        })
        .collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn what_was_pulled_is_claimed_by_tag_and_by_digest() {
    let mut fixture = PullFixture::new().await;
    fixture.settings.ignored_identities = vec!["Defender \"1\"".into()];
    let kubelet = (KUBELET, "containerd/2.1 (linux)");
    fixture.log(24 * 29, "Pull", &format!("shop/api:v1@{D}"), kubelet);
    fixture.log(24, "pull", &format!("shop/api:v1@{E}"), ("", ""));
    fixture.log(48, "Pull", &format!("shop/web@{E}"), kubelet);
    // None of these counts: too old, no pull, a scanner's, Tagwarden's own, another registry's.
    fixture.log(24 * 31, "Pull", "shop/api:old", kubelet);
    fixture.log(1, "Push", "shop/api:pushed", kubelet);
    fixture.log(1, "Pull", "shop/api:scanned", ("defender \"1\"", "Go-http-client/2.0"));
    fixture.log(1, "Pull", "shop/api:own", (KUBELET, "Tagwarden/0.1.0"));
    let other = event("contosodev", 1, "Pull", "shop/api:other", kubelet, now());
    fixture.logs.log.lock().unwrap().events.push(other);
    let evidence = fixture.ask().await.unwrap();
    let host = "contoso.azurecr.io/shop";
    assert_eq!(
        shown(&evidence),
        [
            format!("{host}/api:v1 2026-11-22T12:00:00Z  "),
            format!("{host}/api@{E} 2026-11-22T12:00:00Z  "),
            format!("{host}/api@{D} 2026-10-25T12:00:00Z {KUBELET} containerd/2.1"),
            format!("{host}/web@{E} 2026-11-21T12:00:00Z {KUBELET} containerd/2.1"),
        ]
        .into_iter()
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect::<Vec<_>>()
    );
    assert_eq!(evidence.as_of, Some(now() - 1.hours()), "the last event of any kind");
    let note = evidence.notes.join("\n");
    assert!(note.contains(&format!("{KUBELET} (2), anonymous (1)")), "{note}");
}

#[tokio::test]
async fn few_requests_answer_and_all_of_them_read() {
    let fixture = PullFixture::new().await;
    for number in 0..300 {
        fixture.log(1, "Pull", &format!("shop/api:v{number}@{D}"), (KUBELET, "containerd/2.1"));
    }
    assert_eq!(fixture.claims().await.len(), 301);
    let asked = fixture.manager.requests();
    let versions = ["2022-10-01", "2022-10-01", "2021-05-01-preview"];
    let paths = [workspace_id(), table_path(), diagnostics_path("contoso")];
    let expected: Vec<String> =
        paths.iter().zip(versions).map(|(path, version)| format!("{path}?api-version={version}")).collect();
    assert_eq!(asked, expected);
    let asked = fixture.logs.log.lock().unwrap().asked.clone();
    assert_eq!(
        asked,
        [
            json!({
                "query": "ContainerRegistryRepositoryEvents\n| summarize Oldest = min(TimeGenerated), Newest = max(TimeGenerated) by LoginServer, ResourceId = _ResourceId",
                "timespan": "P91D",
            }),
            json!({
                "query": format!(
                    "ContainerRegistryRepositoryEvents\n| where TimeGenerated >= datetime(2026-10-24T12:00:00Z)\n| where OperationName =~ \"Pull\"\n| where _ResourceId in~ (\"{}\")\n| where not(UserAgent startswith \"tagwarden/\")\n| summarize arg_max(TimeGenerated, Identity, UserAgent) by LoginServer, Repository, Tag, Digest",
                    registry_id("contoso")
                ),
                "timespan": "P91D",
            }),
        ]
    );
    assert_eq!(fixture.entra.request_count(), 2, "one token for each service");
}

#[tokio::test]
async fn a_pull_of_an_unknown_image_keeps_its_repository() {
    let fixture = PullFixture::new().await;
    let by = (KUBELET, "x");
    fixture.log(1, "Pull", "shop/api", by);
    fixture.log(1, "Pull", &format!("shop/web:{D}"), by);
    fixture.log(1, "Pull", "shop/job:v1@sha256:12", by);
    fixture.log(1, "Pull", "Shop//Api:v1", by);
    let evidence = fixture.ask().await.unwrap();
    let claimed: Vec<String> = evidence.claims.iter().map(|claim| claim.image.to_string()).collect();
    let host = "contoso.azurecr.io/shop";
    assert_eq!(claimed, [format!("{host}/job:v1"), format!("{host}/web@{D}")]);
    let [open] = evidence.unresolved.as_slice() else { panic!("{evidence:?}") };
    assert_eq!((open.host.as_deref(), open.path.literal()), (Some("contoso.azurecr.io"), Some("shop/api")));
    let notes = evidence.notes.join("\n");
    for words in ["`Shop//Api`: no registry can hold", "`sha256:12` is neither a tag nor a digest"] {
        assert!(notes.contains(words), "{notes}");
    }
}

#[tokio::test]
async fn a_log_without_pulls_is_suspicious() {
    let fixture = PullFixture::new().await;
    for (allow_empty, failed) in [(false, true), (true, false)] {
        let source = AcrPulls::new(fixture.settings.clone(), PATIENCE);
        let settings = SourceSettings {
            name: "pulls".parse().unwrap(),
            kind: SourceKind::AcrPulls(Box::new(fixture.settings.clone())),
            registries: None,
            max_age: None,
            allow_empty,
            min_claims: None,
            deadline: Duration::from_secs(30),
            texts: TextSettings::default(),
        };
        let hosts = [("contoso".parse().unwrap(), vec!["contoso.azurecr.io".to_owned()])];
        let claims = gather(vec![(settings, Box::new(source))], &hosts, now(), now()).await;
        let state = &claims.sources[0].state;
        assert_eq!(matches!(state, SourceState::Failed { kind: "empty", .. }), failed, "{state:?}");
    }
}

#[tokio::test]
async fn regional_names_and_a_new_place_are_the_same_registry() {
    let fixture = PullFixture::new().await;
    // The registry was created anew elsewhere; its old place no longer exists, and its pulls count.
    let mut regional = event("contoso", 2, "Pull", "shop/api:v1", (KUBELET, "x"), now());
    regional.columns.insert("LoginServer", "contoso.westeurope.geo.azurecr.io".into());
    let elsewhere = registry_id("contoso").replace("rg-shop", "rg-new");
    regional.columns.insert("_ResourceId", elsewhere.clone());
    fixture.logs.log.lock().unwrap().events.push(regional);
    fixture.log(3, "Pull", "shop/api:v2", (KUBELET, "x"));
    fixture.change(|resources| {
        let list = resources.lists.remove(&diagnostics_path("contoso")).unwrap();
        resources.lists.insert(format!("{elsewhere}/providers/Microsoft.Insights/diagnosticSettings"), list);
    });
    let claims = fixture.claims().await;
    assert!(
        claims.len() == 2 && claims.iter().all(|line| line.starts_with("contoso.azurecr.io/shop/api:v")),
        "{claims:?}"
    );
}
