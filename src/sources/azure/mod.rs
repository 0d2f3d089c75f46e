//! What runs, or could be started again, in Azure's own services, as Azure Resource Manager tells it.
//!
//! These services pull by tag again whenever they scale, restart or move, so every reference counts, whether something
//! runs at the moment or not. `scope` makes sure that lists can be believed, and each service has a file of its own. What
//! is not understood fails the source by name: a workload that is passed over is an image without protection.

mod app_service;
mod container_apps;
mod container_instances;
mod fx_version;
mod scope;

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::try_join_all;
use jiff::Timestamp;
use serde::Deserialize;

use super::{Answer, Source, SourceError, told};
use crate::azure::{Arm, Credential};
use crate::domain::{Claim, Holder, ImageReference};
use crate::transport::{Patience, RequestError};
use scope::{Asking, Place};

/// Where in Azure a source looks, and as whom.
#[derive(Debug, Clone)]
pub struct AzureScope {
    /// The ids of the subscriptions, each of which must be readable as a whole, or in its resource groups.
    pub subscriptions: Vec<String>,
    /// The resource groups to look at, each of which must be in one of the subscriptions; empty means all.
    pub resource_groups: Vec<String>,
    /// Who asks.
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
    /// The label used in settings and reports.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::ContainerApps => "container-apps",
            Self::ContainerInstances => "container-instances",
            Self::AppService => "app-service",
        }
    }

    /// The types of its resources that lists are asked of.
    fn types(self) -> &'static [&'static str] {
        match self {
            Self::ContainerApps => &container_apps::TYPES,
            Self::ContainerInstances => &container_instances::TYPES,
            Self::AppService => &app_service::TYPES,
        }
    }
}

/// What one service of Azure uses in some subscriptions.
#[derive(Debug, Clone)]
pub struct AzureWorkloads {
    service: AzureService,
    scope: AzureScope,
    patience: Patience,
}

impl AzureWorkloads {
    /// Reads that service there, anew each time it is asked.
    #[must_use]
    pub fn new(service: AzureService, scope: AzureScope, patience: Patience) -> Self {
        Self { service, scope, patience }
    }

    async fn read(&self, asking: &Asking, place: &Place) -> Result<Found, SourceError> {
        scope::prove_readable(asking, place, self.service.types()).await?;
        Ok(match self.service {
            AzureService::ContainerApps => container_apps::read(asking, place).await?,
            AzureService::ContainerInstances => container_instances::read(asking, place).await?,
            AzureService::AppService => app_service::read(asking, place).await?,
        })
    }
}

#[async_trait]
impl Source for AzureWorkloads {
    async fn ask(&self, _now: Timestamp) -> Result<Answer, SourceError> {
        let asking = Asking::new(Arm::new(&self.scope.credential, self.patience)?);
        let places = scope::places(&asking, &self.scope).await?;
        let found = try_join_all(places.iter().map(|place| self.read(&asking, place))).await?;
        found.into_iter().fold(Found::default(), Found::with).answer()
    }
}

impl From<RequestError> for SourceError {
    fn from(error: RequestError) -> Self {
        Self { kind: error.kind.label(), message: error.message }
    }
}

/// What was found in some place.
#[derive(Debug, Default)]
struct Found {
    claims: Vec<Claim>,
    /// What is not understood.
    problems: Vec<String>,
    notes: Vec<String>,
}

impl Found {
    /// The image of one container of a workload.
    fn image(&mut self, owner: &Owner, container: &str, image: Option<&str>) {
        match image.map(str::trim).filter(|image| !image.is_empty()) {
            None => self.problem(owner, format_args!("container `{container}` names no image")),
            Some(image) => match image.parse::<ImageReference>() {
                Ok(image) => self.claims.push(Claim::new(image, owner.holder(container))),
                Err(error) => self.problem(owner, error),
            },
        }
    }

    fn problem(&mut self, owner: &Owner, what: impl std::fmt::Display) {
        self.problems.push(format!("{owner}: {what}; correct or delete it there"));
    }

    /// Both together.
    fn with(mut self, other: Self) -> Self {
        self.claims.extend(other.claims);
        self.problems.extend(other.problems);
        self.notes.extend(other.notes);
        self
    }

    fn answer(mut self) -> Result<Answer, SourceError> {
        self.problems.sort();
        self.notes.sort();
        if self.problems.is_empty() {
            return Ok(Answer { claims: self.claims, notes: told(self.notes), ..Answer::default() });
        }
        Err(SourceError { kind: "malformed", message: told(self.problems).join("\n") })
    }
}

/// A resource of Azure. All but its id is looked at by whoever knows its type.
#[derive(Debug, Deserialize)]
#[serde(bound = "P: Deserialize<'de>")]
struct Resource<P> {
    id: String,
    #[serde(default)]
    properties: Option<P>,
}

/// A container as all of these services describe it.
#[derive(Debug, Deserialize)]
struct WireContainer {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    image: Option<String>,
}

/// Who holds a claim.
#[derive(Debug)]
struct Owner {
    subscription: String,
    resource_group: String,
    kind: &'static str,
    /// Its name, those of the resources that it is part of before it: `app/revision`.
    name: String,
}

impl Owner {
    /// By a resource's id: `/subscriptions/S/resourceGroups/G/providers/NAMESPACE/TYPE/NAME/TYPE/NAME…`.
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

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} {} (resource group {}, subscription {})",
            self.kind, self.name, self.resource_group, self.subscription
        )
    }
}
