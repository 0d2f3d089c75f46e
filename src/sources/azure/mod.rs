//! Images that run, or could be started again, in Azure's own services, as Azure Resource Manager reports them.
//!
//! These services pull by tag again whenever they scale, restart or move, so every reference counts, whether it runs at
//! the moment or not. `scope` verifies that lists are complete, and each service has its own file. A resource that is
//! not understood fails the source by name: a skipped workload would leave its image unprotected. All strings of a
//! resource count as text.

mod app_service;
mod container_apps;
mod container_instances;
mod fx_version;
mod scope;

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::try_join_all;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::document::Node;
use super::image_field::{ImageField, parse_spec};
use super::known_hosts::KnownHosts;
use super::object_texts::{ObjectTexts, TextImage, TextImageKind, UnresolvedText, filter_unresolved, from_json};
use super::text::TextSettings;
use super::{Source, SourceError, SourceEvidence, truncate_messages};
use crate::azure::{Arm, Credential};
use crate::domain::{Claim, Holder, ImageReference, Naming, UnresolvedReference};
use crate::http_client::{RequestError, RetryPolicy};
use scope::{ArmReader, ResourceScope};

/// The scope of a source in Azure, and its identity.
#[derive(Debug, Clone)]
pub struct AzureScope {
    /// The ids of the subscriptions, each of which must be readable as a whole, or in its resource groups.
    pub subscriptions: Vec<String>,
    /// The resource groups to read, each of which must be in one of the subscriptions; empty means all.
    pub resource_groups: Vec<String>,
    /// The identity that reads.
    pub credential: Credential,
}

/// The services of Azure that run containers by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AzureService {
    /// Container Apps: apps with all their revisions, jobs with their executions, session pools.
    ContainerApps,
    /// Container Instances: container groups and their profiles.
    ContainerInstances,
    /// App Service and Functions: apps with their slots and sidecars.
    AppService,
}

impl AzureService {
    /// Returns the label used in settings and reports.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::ContainerApps => "container-apps",
            Self::ContainerInstances => "container-instances",
            Self::AppService => "app-service",
        }
    }

    /// Returns the types of its resources that are listed.
    fn types(self) -> &'static [&'static str] {
        match self {
            Self::ContainerApps => &container_apps::TYPES,
            Self::ContainerInstances => &container_instances::TYPES,
            Self::AppService => &app_service::TYPES,
        }
    }
}

/// The images that one service of Azure uses in some subscriptions.
#[derive(Debug, Clone)]
pub struct AzureWorkloads {
    service: AzureService,
    scope: AzureScope,
    hosts: Vec<String>,
    texts: TextSettings,
    retry_policy: RetryPolicy,
}

impl AzureWorkloads {
    /// Creates a source for that service. It queries anew on each call, for images of registries known by `hosts`.
    #[must_use]
    pub fn new(
        service: AzureService,
        scope: AzureScope,
        hosts: Vec<String>,
        texts: TextSettings,
        patience: RetryPolicy,
    ) -> Self {
        Self { service, scope, hosts, texts, retry_policy: patience }
    }

    async fn read(&self, asking: &ArmReader, place: &ResourceScope) -> Result<AzureEvidence, SourceError> {
        scope::verify_readable(asking, place, self.service.types()).await?;
        Ok(match self.service {
            AzureService::ContainerApps => container_apps::read(asking, place).await?,
            AzureService::ContainerInstances => container_instances::read(asking, place).await?,
            AzureService::AppService => app_service::read(asking, place).await?,
        })
    }
}

#[async_trait]
impl Source for AzureWorkloads {
    async fn query(&self, _now: Timestamp) -> Result<SourceEvidence, SourceError> {
        let asking = ArmReader::new(Arm::new(&self.scope.credential, self.retry_policy)?, KnownHosts::new(&self.hosts));
        let places = scope::resource_scopes(&asking, &self.scope).await?;
        let found = try_join_all(places.iter().map(|place| self.read(&asking, place))).await?;
        found.into_iter().fold(AzureEvidence::default(), AzureEvidence::with).into_evidence(&self.texts)
    }
}

impl From<RequestError> for SourceError {
    fn from(error: RequestError) -> Self {
        let kind = error.kind.label();
        error.with_kind(kind)
    }
}

/// The findings in one place.
#[derive(Debug, Default)]
struct AzureEvidence {
    claims: Vec<Claim>,
    unresolved: Vec<UnresolvedReference>,
    texts: ObjectTexts<AzureObject>,
    /// The parts that are not understood.
    problems: BTreeSet<String>,
    notes: BTreeSet<String>,
}

impl AzureEvidence {
    /// Adds the image of one container of a workload. An invalid text is reported, and counts for its probable meaning.
    fn add_image(&mut self, owner: &AzureObject, container: &str, image: Option<&str>, hosts: &KnownHosts) {
        let Some(text) = image.map(str::trim).filter(|image| !image.is_empty()) else {
            return self.add_problem(owner, format_args!("container `{container}` names no image"));
        };
        match parse_spec(text, hosts) {
            ImageField::Nothing => {}
            ImageField::Image(image) => self.add_claim(owner, container, image, Naming::Written),
            ImageField::Corrected(image, what) => {
                self.add_note(owner, what);
                self.add_claim(owner, container, image, Naming::Corrected);
            }
            ImageField::Unresolved(host, path, what) => {
                self.add_note(owner, what);
                let open = UnresolvedText { text: text.into(), host, path, nearby_words: [].into(), latest: None };
                self.add_unresolved(owner, container, open);
            }
            ImageField::Foreign(what) => self.add_note(owner, what),
            ImageField::Problem(what) => self.add_problem(owner, what),
        }
    }

    /// Adds all texts of a resource. `read` are texts that were parsed as images, besides those in lists of containers.
    fn add_texts(&mut self, owner: &AzureObject, whole: Value, read: &[&str], hosts: &KnownHosts) {
        self.add_node(owner, from_json(whole), read, hosts);
    }

    /// Adds all texts of a document.
    fn add_node(&mut self, owner: &AzureObject, node: Node, read: &[&str], hosts: &KnownHosts) {
        for TextImage { container, kind: what, .. } in self.texts.read(owner, node, read, hosts) {
            match what {
                TextImageKind::SpecField(text) if text.trim().is_empty() => {}
                TextImageKind::SpecField(text) => self.add_image(owner, &container, Some(&text), hosts),
                TextImageKind::Image(image, naming) => self.add_claim(owner, &container, image, naming),
                TextImageKind::Unresolved(open) => self.add_unresolved(owner, &container, open),
                TextImageKind::Note(what) => self.add_note(owner, what),
            }
        }
    }

    fn add_claim(&mut self, owner: &AzureObject, container: &str, image: ImageReference, naming: Naming) {
        self.claims.push(Claim { naming, ..Claim::new(image, owner.holder(container)) });
    }

    fn add_unresolved(&mut self, owner: &AzureObject, container: &str, open: UnresolvedText) {
        let UnresolvedText { text, host, path, nearby_words: beside, latest } = open;
        let holder = owner.holder(container);
        self.claims.extend(latest.map(|image| Claim::new(image, Arc::clone(&holder))));
        self.unresolved.push(UnresolvedReference { text, host, path, adjacent_words: beside, holder });
    }

    fn add_problem(&mut self, owner: &AzureObject, what: impl std::fmt::Display) {
        self.problems.insert(format!("{owner}: {what}; correct or delete it there"));
    }

    fn add_note(&mut self, owner: &AzureObject, what: impl std::fmt::Display) {
        self.notes.insert(format!("{owner}: {what}"));
    }

    /// Merges both.
    fn with(mut self, other: Self) -> Self {
        self.claims.extend(other.claims);
        self.unresolved.extend(other.unresolved);
        self.texts.merge(other.texts);
        self.problems.extend(other.problems);
        self.notes.extend(other.notes);
        self
    }

    fn into_evidence(self, settings: &TextSettings) -> Result<SourceEvidence, SourceError> {
        let Self { mut claims, mut unresolved, texts, problems, mut notes } = self;
        if !problems.is_empty() {
            let message = truncate_messages(problems.into_iter().collect()).join("\n");
            return Err(SourceError::new("malformed", message));
        }
        // Most images occur among the other texts, too.
        claims.sort();
        claims.dedup();
        unresolved.sort();
        unresolved.dedup();
        notes.extend(filter_unresolved(&mut unresolved, settings));
        let (texts, reported) = texts.index(settings, |owner| owner.holder(""));
        let notes = truncate_messages(notes.into_iter().collect());
        Ok(SourceEvidence {
            claims,
            unresolved,
            texts,
            report_only_texts: reported,
            notes,
            ..SourceEvidence::default()
        })
    }
}

/// A resource of Azure: its id, its typed properties, and its whole JSON.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Value", bound = "P: DeserializeOwned")]
struct Resource<P> {
    id: String,
    properties: Option<P>,
    whole: Value,
}

/// The fields that are read of every resource.
#[derive(Deserialize)]
#[serde(bound = "P: DeserializeOwned")]
struct WireResource<P> {
    id: String,
    #[serde(default)]
    properties: Option<P>,
}

impl<P: DeserializeOwned> TryFrom<Value> for Resource<P> {
    type Error = serde_json::Error;

    fn try_from(whole: Value) -> Result<Self, serde_json::Error> {
        let WireResource { id, properties } = WireResource::deserialize(&whole)?;
        Ok(Self { id, properties, whole })
    }
}

/// A container as all of these services describe it.
#[derive(Debug, Deserialize)]
struct WireContainer {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    image: Option<String>,
}

/// The holder of a claim.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct AzureObject {
    subscription: String,
    resource_group: String,
    kind: &'static str,
    /// Its name, after those of its parent resources: `app/revision`.
    name: String,
}

impl AzureObject {
    /// Parses a resource's id: `/subscriptions/S/resourceGroups/G/providers/NAMESPACE/TYPE/NAME/TYPE/NAME…`.
    fn of(kind: &'static str, id: &str) -> Self {
        let segments: Vec<&str> = id.split('/').collect();
        let after = |word: &str| {
            let at = segments.iter().position(|segment| segment.eq_ignore_ascii_case(word));
            at.and_then(|at| segments.get(at + 1)).map_or("", |segment| *segment).to_owned()
        };
        let provider = segments.iter().rposition(|segment| segment.eq_ignore_ascii_case("providers"));
        let names = provider.and_then(|at| segments.get(at + 2..)).unwrap_or_default();
        let names: Vec<&str> = names.iter().skip(1).step_by(2).copied().collect();
        Self {
            subscription: after("subscriptions").to_lowercase(),
            resource_group: after("resourceGroups"),
            kind,
            name: names.join("/"),
        }
    }

    fn holder(&self, container: &str) -> Arc<Holder> {
        Arc::new(Holder::Workload {
            place: self.subscription.clone(),
            namespace: self.resource_group.clone(),
            kind: self.kind.to_owned(),
            name: self.name.clone(),
            container: container.to_owned(),
        })
    }
}

impl std::fmt::Display for AzureObject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} {} (resource group {}, subscription {})",
            self.kind, self.name, self.resource_group, self.subscription
        )
    }
}
