//! Azure Container Apps: apps with every stored revision, jobs with their executions, session pools.

use futures::future::try_join_all;
use futures::try_join;
use serde::Deserialize;

use super::scope::{ArmReader, ResourceScope};
use super::{AzureEvidence, AzureObject, Resource, WireContainer};
use crate::http_client::RequestError;
use crate::sources::known_hosts::KnownHosts;

const VERSION: &str = "2025-07-01";
const APPS: &str = "Microsoft.App/containerApps";
const JOBS: &str = "Microsoft.App/jobs";
const POOLS: &str = "Microsoft.App/sessionPools";
pub(super) const TYPES: [&str; 3] = [APPS, JOBS, POOLS];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireTemplated {
    #[serde(default)]
    template: Option<WireTemplate>,
    /// The status of an execution.
    #[serde(default)]
    status: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireTemplate {
    #[serde(default)]
    containers: Option<Vec<WireContainer>>,
    #[serde(default)]
    init_containers: Option<Vec<WireContainer>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WirePool {
    #[serde(default)]
    container_type: Option<String>,
    #[serde(default)]
    custom_container_template: Option<WireTemplate>,
}

/// Reads all resources in one place.
pub(super) async fn read(asking: &ArmReader, place: &ResourceScope) -> Result<AzureEvidence, RequestError> {
    let (apps, jobs, pools) = try_join!(apps(asking, place), jobs(asking, place), pools(asking, place))?;
    Ok(apps.with(jobs).with(pools))
}

/// Reads apps with their latest template and all revisions. An inactive revision can be activated again, which is how
/// people roll back.
async fn apps(asking: &ArmReader, place: &ResourceScope) -> Result<AzureEvidence, RequestError> {
    let apps = asking.list_all::<WireTemplated>(place, APPS, VERSION).await?;
    let revisions = try_join_all(apps.iter().map(|app| children(asking, app, "revisions"))).await?;
    let mut found = AzureEvidence::default();
    for app in apps {
        found.add_templated(&AzureObject::of("container app", &app.id), app, &asking.hosts);
    }
    for revision in revisions.into_iter().flatten() {
        found.add_templated(&AzureObject::of("revision", &revision.id), revision, &asking.hosts);
    }
    Ok(found)
}

/// Reads jobs, whether they ever ran or not, with the stored executions: one may have been started with other images
/// than those of its job.
async fn jobs(asking: &ArmReader, place: &ResourceScope) -> Result<AzureEvidence, RequestError> {
    let jobs = asking.list_all::<WireTemplated>(place, JOBS, VERSION).await?;
    let executions = try_join_all(jobs.iter().map(|job| children(asking, job, "executions"))).await?;
    let mut found = AzureEvidence::default();
    for job in jobs {
        found.add_templated(&AzureObject::of("job", &job.id), job, &asking.hosts);
    }
    for execution in executions.into_iter().flatten() {
        // An ended execution does not start again, so its images do not matter.
        let properties = execution.properties.as_ref();
        if properties.is_none_or(|properties| properties.template.is_some() || !properties.has_ended()) {
            found.add_templated(&AzureObject::of("job execution", &execution.id), execution, &asking.hosts);
        }
    }
    Ok(found)
}

/// Reads session pools. Only those of custom containers name images; the others run code in images of the service
/// itself.
async fn pools(asking: &ArmReader, place: &ResourceScope) -> Result<AzureEvidence, RequestError> {
    let mut found = AzureEvidence::default();
    for pool in asking.list_all::<WirePool>(place, POOLS, VERSION).await? {
        let owner = AzureObject::of("session pool", &pool.id);
        let (kind, template) = pool
            .properties
            .map_or((None, None), |properties| (properties.container_type, properties.custom_container_template));
        let own_images = kind.is_some_and(|kind| !kind.eq_ignore_ascii_case("CustomContainer"));
        if template.is_some() || !own_images {
            found.add_template(&owner, template.as_ref(), &asking.hosts);
        }
        found.add_texts(&owner, pool.whole, &[], &asking.hosts);
    }
    Ok(found)
}

async fn children(
    asking: &ArmReader,
    resource: &Resource<WireTemplated>,
    what: &str,
) -> Result<Vec<Resource<WireTemplated>>, RequestError> {
    asking.list(&format!("{}/{what}", resource.id), VERSION).await
}

impl WireTemplated {
    fn has_ended(&self) -> bool {
        let ends = ["Succeeded", "Failed", "Stopped", "Degraded"];
        self.status.as_ref().is_some_and(|status| ends.iter().any(|end| end.eq_ignore_ascii_case(status)))
    }
}

impl AzureEvidence {
    /// Adds the images and texts of a resource with a template.
    fn add_templated(&mut self, owner: &AzureObject, resource: Resource<WireTemplated>, hosts: &KnownHosts) {
        let template = resource.properties.and_then(|properties| properties.template);
        self.add_template(owner, template.as_ref(), hosts);
        self.add_texts(owner, resource.whole, &[], hosts);
    }

    /// Adds the images of a template. A template without containers is reported as not understood.
    fn add_template(&mut self, owner: &AzureObject, template: Option<&WireTemplate>, hosts: &KnownHosts) {
        let containers = template.and_then(|template| template.containers.as_deref()).unwrap_or_default();
        if containers.is_empty() {
            return self.add_problem(owner, "it has no containers in its template");
        }
        let first = template.and_then(|template| template.init_containers.as_deref()).unwrap_or_default();
        for container in containers.iter().chain(first) {
            self.add_image(owner, container.name.as_deref().unwrap_or_default(), container.image.as_deref(), hosts);
        }
    }
}
