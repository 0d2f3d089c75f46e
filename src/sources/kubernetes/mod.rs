//! A Kubernetes cluster: running workloads, those that would run if they were scaled up or a schedule fired, and images
//! that a rollback needs.
//!
//! Everything is listed in pages. Only the uses of images are stored, and the words that may mention a tag, once for
//! pods of one template. Any failure fails the whole source, since a partial answer would leave images unprotected.

mod claims;
mod client;
mod config_maps;
mod custom_resources;
mod helm;
mod images;
mod list;
mod objects;
mod presets;
mod templates;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use http::StatusCode;
use jiff::Timestamp;

use super::document::Node;
use super::forms::Forms;
use super::known_hosts::KnownHosts;
use super::text::TextSettings;
use super::{Source, SourceError, SourceEvidence, truncate_messages};
use crate::http_client::RetryPolicy;
use claims::{ClusterEvidence, Object};
use client::{ApiError, Cluster};
use config_maps::WireConfigMap;
use custom_resources::{Discovery, ServedKind, WireCustomObject};
use helm::WireSecret;
use list::{Query, Resource, WORKLOADS, list, missing_right};
use objects::{ObjectReader, RevisionState, WireObject};

pub use client::Access;
pub use custom_resources::CustomResource;
pub use presets::Preset;

/// The settings of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubernetesSettings {
    /// Its name in reports.
    pub cluster: String,
    /// Its address, and the identity for it.
    pub access: Access,
    /// The namespaces to read; empty means all.
    pub namespaces: Vec<String>,
    /// The reading of Helm releases.
    pub helm: Helm,
    /// Custom resources with images in them.
    pub custom: Vec<CustomResource>,
    /// Projects whose custom resources are read, as far as the cluster has them.
    pub presets: Vec<Preset>,
    /// True to read `ConfigMap`s, which requires the right to list them.
    pub configmaps: bool,
    /// The timeout of one request.
    pub timeout: Duration,
}

/// The reading of Helm releases, which requires the right to list secrets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Helm {
    /// If permitted; otherwise a note says so.
    #[default]
    IfAllowed,
    /// Always: without the right the source fails.
    Always,
    /// Never.
    Never,
}

impl Helm {
    /// Returns the label used in settings.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::IfAllowed => "if-allowed",
            Self::Always => "always",
            Self::Never => "never",
        }
    }
}

/// One cluster.
#[derive(Debug)]
pub struct Kubernetes {
    settings: KubernetesSettings,
    hosts: Vec<String>,
    texts: TextSettings,
    /// True if a configured namespace may be empty.
    allow_empty: bool,
    retry_policy: RetryPolicy,
}

/// Returns API group and resource of everything that is listed. The only verb needed is `list`: for the built-in
/// workloads, and for Helm releases, `ConfigMap`s and presets if enabled.
#[must_use]
pub fn kubernetes_rights(helm: bool, configmaps: bool, presets: &[Preset]) -> Vec<(&'static str, &'static str)> {
    let workloads = WORKLOADS.iter().map(|(group, _, plural, ..)| (*group, *plural));
    let options = [helm.then_some(("", "secrets")), configmaps.then_some(("", "configmaps"))];
    let custom = presets.iter().flat_map(|preset| preset.kinds()).map(|kind| (kind.group, kind.plural));
    workloads.chain(options.into_iter().flatten()).chain(custom).collect()
}

/// The context in which every list is read.
struct Reader<'h> {
    hosts: &'h KnownHosts,
    /// The forms read so far, one of which may complete what another object leaves open.
    forms: Mutex<Forms>,
}

impl Reader<'_> {
    /// Parses the forms in the documents of an object.
    fn add_form(&self, object: &Object, documents: &[Node], text: &str) {
        self.forms.lock().unwrap_or_else(PoisonError::into_inner).read(&object.display_name(), documents, text);
    }
}

/// Lists read at once: an API server has other clients.
const LISTS_AT_ONCE: usize = 4;
/// Objects on a page, as in `kubectl`.
const PAGE: usize = 500;
/// The same for secrets and `ConfigMap`s, which may have a megabyte each, and for custom resources.
const LARGE_PAGE: usize = 25;

impl Kubernetes {
    /// Creates a source for a cluster, whose images count for registries known by `hosts`, and whose texts are read by
    /// `texts`.
    #[must_use]
    pub fn new(settings: KubernetesSettings, hosts: Vec<String>, texts: TextSettings, allow_empty: bool) -> Self {
        Self::with_retry_policy(settings, hosts, texts, allow_empty, RetryPolicy::default())
    }

    /// Creates a source with another retry policy.
    #[must_use]
    pub fn with_retry_policy(
        settings: KubernetesSettings,
        hosts: Vec<String>,
        texts: TextSettings,
        allow_empty: bool,
        patience: RetryPolicy,
    ) -> Self {
        Self { settings, hosts, texts, allow_empty, retry_policy: patience }
    }

    /// Returns the namespaces to list, one after the other; `None` stands for all at once.
    fn scopes(&self) -> Vec<Option<&str>> {
        let named: Vec<Option<&str>> = self.settings.namespaces.iter().map(|name| Some(&**name)).collect();
        if named.is_empty() { vec![None] } else { named }
    }

    async fn read(&self) -> Result<SourceEvidence, SourceError> {
        let KubernetesSettings { access, timeout, .. } = &self.settings;
        let cluster = Cluster::connect(access.clone(), *timeout, self.retry_policy).await?;
        let mut notes = Vec::new();
        let custom = self.discover_kinds(&cluster, &mut notes).await?;
        let workloads =
            WORKLOADS.map(|(group, version, plural, kind, stand)| (Resource::of(group, version, plural, kind), stand));
        let helm = self.check_rights(&cluster, &workloads, &custom, &mut notes).await?;
        let hosts = KnownHosts::new(&self.hosts);
        let reader = Reader { hosts: &hosts, forms: Mutex::default() };
        let found = self.read_lists(&cluster, &workloads, &custom, helm, &reader).await?;
        self.check_namespaces(&found)?;
        if !found.problems.is_empty() {
            let problems = truncate_messages(found.problems.iter().cloned().collect()).join("\n");
            let message = format!(
                "{problems}\neach may be meant to be an image of ours: correct or delete the object, or read custom \
                 resources at other `paths`"
            );
            return Err(SourceError::new("malformed", message));
        }
        let forms = reader.forms.into_inner().unwrap_or_else(PoisonError::into_inner);
        let forms = forms.finish(Vec::new(), &hosts, self.texts.ranges);
        let evidence = found.into_evidence(&self.settings.cluster, &self.texts, forms);
        notes.extend(evidence.notes);
        Ok(SourceEvidence { as_of: cluster.date(), notes, ..evidence })
    }

    /// Returns the kinds of custom resources to list: those that the settings name, and those of presets that the
    /// cluster serves.
    async fn discover_kinds(&self, cluster: &Cluster, notes: &mut Vec<String>) -> Result<Vec<ServedKind>, SourceError> {
        let mut discovery = Discovery::new(cluster);
        let mut all: Vec<ServedKind> = Vec::new();
        for wanted in &self.settings.custom {
            match discovery.discover_custom(wanted).await? {
                Some(served) => all.push(served),
                None => notes.push(format!("this cluster has no {} in {}", wanted.kind, wanted.group)),
            }
        }
        for preset in &self.settings.presets {
            let served = discovery.discover_preset(*preset).await?;
            if served.is_empty() {
                notes.push(format!("this cluster has no kind of the preset `{}`", preset.label()));
            }
            for served in served {
                if !all.iter().any(|other| served.is_same_kind(other)) {
                    all.push(served);
                }
            }
        }
        Ok(all)
    }

    /// Checks every right before reading, so that all missing ones are reported at once. Returns true if Helm releases
    /// are to be read.
    async fn check_rights(
        &self,
        cluster: &Cluster,
        workloads: &[(Resource, RevisionState)],
        custom: &[ServedKind],
        notes: &mut Vec<String>,
    ) -> Result<bool, SourceError> {
        let config_maps = self.settings.configmaps.then(list::config_maps);
        let needed = workloads.iter().map(|(resource, _)| resource).chain(&config_maps);
        let needed = needed.chain(custom.iter().map(|served| &served.resource));
        let mut denied = self.denied_rights(cluster, needed).await?;
        let mut helm = self.settings.helm != Helm::Never;
        if helm {
            let secrets = list::secrets();
            let more = self.denied_rights(cluster, std::iter::once(&secrets)).await?;
            match self.settings.helm {
                Helm::Always => denied.extend(more),
                _ if more.is_empty() => {}
                _ => {
                    helm = false;
                    notes.push(helm_note());
                }
            }
        }
        if denied.is_empty() {
            return Ok(helm);
        }
        let message = format!(
            "it may not {}; apply deploy/kubernetes/rbac.yaml (for secrets rbac-helm.yaml, too, for configmaps \
             rbac-configmaps.yaml, for presets rbac-presets.yaml; other custom resources need a rule of their own), and bind \
             its ClusterRole to whom this source signs in as",
            truncate_messages(denied).join(", ")
        );
        Err(SourceError::new("denied", message))
    }

    /// Returns the missing rights to list those resources.
    async fn denied_rights<'r>(
        &self,
        cluster: &Cluster,
        resources: impl Iterator<Item = &'r Resource>,
    ) -> Result<Vec<String>, SourceError> {
        let scopes = self.scopes();
        let reviews: Vec<_> = resources
            .flat_map(|resource| scopes.iter().map(move |scope| (resource, *scope)))
            .map(|(resource, scope)| missing_right(cluster, resource, scope))
            .collect();
        let missing: Vec<Option<String>> = stream::iter(reviews).buffered(LISTS_AT_ONCE).try_collect().await?;
        Ok(missing.into_iter().flatten().collect())
    }

    /// Reads all lists, some at once.
    async fn read_lists(
        &self,
        cluster: &Cluster,
        workloads: &[(Resource, RevisionState)],
        custom: &[ServedKind],
        helm: bool,
        reader: &Reader<'_>,
    ) -> Result<ClusterEvidence, SourceError> {
        let (secrets, config_maps) = (list::secrets(), list::config_maps());
        let mut lists: Vec<BoxFuture<'_, Result<ClusterEvidence, SourceError>>> = Vec::new();
        for namespace in self.scopes() {
            for (resource, stand) in workloads {
                lists.push(Box::pin(workload_list(cluster, resource, namespace, *stand, reader.hosts)));
            }
            if helm {
                lists.push(Box::pin(self.helm_list(cluster, &secrets, namespace, reader)));
            }
            if self.settings.configmaps {
                lists.push(Box::pin(config_map_list(cluster, &config_maps, namespace, reader.hosts)));
            }
        }
        for served in custom {
            lists.push(Box::pin(self.custom_lists(cluster, served, reader)));
        }
        let all = stream::iter(lists).buffer_unordered(LISTS_AT_ONCE);
        all.try_fold(ClusterEvidence::default(), |mut all, found| async move {
            all.merge(found);
            Ok(all)
        })
        .await
    }

    /// Reads Helm releases. If no review could show that they are forbidden, the list does.
    async fn helm_list(
        &self,
        cluster: &Cluster,
        secrets: &Resource,
        namespace: Option<&str>,
        reader: &Reader<'_>,
    ) -> Result<ClusterEvidence, SourceError> {
        let query = Query { resource: secrets, namespace, page: LARGE_PAGE, labels: helm::LABEL_SELECTOR };
        let read = list(cluster, &query, |secret: WireSecret, found| helm::add_release(&secret, reader, found)).await;
        match read {
            Err(ApiError { status: Some(StatusCode::FORBIDDEN), .. }) if self.settings.helm == Helm::IfAllowed => {
                let mut found = ClusterEvidence::default();
                found.notes.insert(helm_note());
                Ok(found)
            }
            read => Ok(read?),
        }
    }

    /// Reads all objects of a custom kind. Configured paths that match in none of them are a mistake.
    async fn custom_lists(
        &self,
        cluster: &Cluster,
        served: &ServedKind,
        reader: &Reader<'_>,
    ) -> Result<ClusterEvidence, SourceError> {
        let resource = &served.resource;
        let scopes = if resource.namespaced { self.scopes() } else { vec![None] };
        let mut all = ClusterEvidence::default();
        let (mut objects, mut images) = (0, 0);
        for namespace in scopes {
            let query = Query { resource, namespace, page: LARGE_PAGE, labels: "" };
            let read = list(cluster, &query, |object: WireCustomObject, found| {
                objects += 1;
                images += object.add_images(served, reader, found);
            });
            all.merge(read.await?);
        }
        if served.has_configured_paths && objects > 0 && images == 0 && all.problems.is_empty() {
            let message = format!(
                "none of the {objects} objects of the kind {} has an image at {}; correct its `paths`",
                resource.kind,
                served.format_paths()
            );
            return Err(SourceError::new("empty", message));
        }
        Ok(all)
    }

    /// Checks that configured namespaces have content. The server returns empty lists for a namespace that does not
    /// exist, so an empty one is probably misspelt.
    fn check_namespaces(&self, found: &ClusterEvidence) -> Result<(), SourceError> {
        let empty: Vec<&str> = self
            .settings
            .namespaces
            .iter()
            .map(String::as_str)
            .filter(|name| !found.namespaces.contains(*name))
            .collect();
        if empty.is_empty() || self.allow_empty {
            return Ok(());
        }
        let message = format!(
            "nothing at all is in {}: is it misspelt in `namespaces`? If it may be empty, write `allow_empty = true`",
            empty.join(", ")
        );
        Err(SourceError::new("empty", message))
    }
}

/// Reads one list of built-in workloads. Cron jobs were `batch/v1beta1` before Kubernetes 1.21.
async fn workload_list(
    cluster: &Cluster,
    resource: &Resource,
    namespace: Option<&str>,
    stand: RevisionState,
    hosts: &KnownHosts,
) -> Result<ClusterEvidence, SourceError> {
    let note = |object: WireObject, found: &mut ClusterEvidence| {
        ObjectReader::of(&object.metadata, &resource.kind, stand, hosts, found).add_workload(object);
    };
    let query = Query { resource, namespace, page: PAGE, labels: "" };
    match list(cluster, &query, note).await {
        Err(ApiError { status: Some(StatusCode::NOT_FOUND), .. }) if resource.kind == "CronJob" => {
            let older = Resource { version: "v1beta1".to_owned(), ..resource.clone() };
            Ok(list(cluster, &Query { resource: &older, ..query }, note).await?)
        }
        read => Ok(read?),
    }
}

/// Reads all `ConfigMap`s.
async fn config_map_list(
    cluster: &Cluster,
    resource: &Resource,
    namespace: Option<&str>,
    hosts: &KnownHosts,
) -> Result<ClusterEvidence, SourceError> {
    let query = Query { resource, namespace, page: LARGE_PAGE, labels: "" };
    Ok(list(cluster, &query, |map: WireConfigMap, found| config_maps::add_config_map(map, hosts, found)).await?)
}

fn helm_note() -> String {
    "Helm's releases were not read, because listing secrets is not allowed: an image that only a rollback of Helm would \
     bring back is not protected; apply deploy/kubernetes/rbac-helm.yaml, or write `helm = \"never\"`"
        .to_owned()
}

#[async_trait]
impl Source for Kubernetes {
    /// Dates the evidence by the API server's first answer, by its own clock.
    async fn query(&self, _now: Timestamp) -> Result<SourceEvidence, SourceError> {
        self.read().await
    }
}
