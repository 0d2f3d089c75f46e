//! Azure Container Instances: container groups, running or stopped, and container group profiles.

use futures::future::try_join_all;
use futures::try_join;
use serde::Deserialize;

use super::scope::{ArmReader, ResourceScope};
use super::{AzureEvidence, AzureObject, Resource};
use crate::http_client::RequestError;
use crate::sources::known_hosts::KnownHosts;

/// The stable API version with profiles.
const VERSION: &str = "2025-09-01";
const GROUPS: &str = "Microsoft.ContainerInstance/containerGroups";
const PROFILES: &str = "Microsoft.ContainerInstance/containerGroupProfiles";
pub(super) const TYPES: [&str; 2] = [GROUPS, PROFILES];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireGroup {
    #[serde(default)]
    containers: Option<Vec<WireContainer>>,
    #[serde(default)]
    init_containers: Option<Vec<WireContainer>>,
}

#[derive(Deserialize)]
struct WireContainer {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    properties: Option<WireProperties>,
}

#[derive(Deserialize)]
struct WireProperties {
    #[serde(default)]
    image: Option<String>,
}

/// Reads all resources in one place.
pub(super) async fn read(asking: &ArmReader, place: &ResourceScope) -> Result<AzureEvidence, RequestError> {
    let (groups, profiles) = try_join!(
        asking.list_all::<WireGroup>(place, GROUPS, VERSION),
        asking.list_all::<WireGroup>(place, PROFILES, VERSION)
    )?;
    // A group may be bound to an earlier revision of its profile.
    let earlier = try_join_all(profiles.iter().map(|profile| revisions(asking, profile))).await?;
    let mut found = AzureEvidence::default();
    for group in groups {
        found.add_group(&AzureObject::of("container group", &group.id), group, &asking.hosts);
    }
    for profile in profiles.into_iter().chain(earlier.into_iter().flatten()) {
        found.add_group(&AzureObject::of("container group profile", &profile.id), profile, &asking.hosts);
    }
    Ok(found)
}

async fn revisions(
    asking: &ArmReader,
    profile: &Resource<WireGroup>,
) -> Result<Vec<Resource<WireGroup>>, RequestError> {
    asking.list(&format!("{}/revisions", profile.id), VERSION).await
}

impl AzureEvidence {
    /// Adds the images and texts of a group. A group without containers is reported as not understood.
    fn add_group(&mut self, owner: &AzureObject, resource: Resource<WireGroup>, hosts: &KnownHosts) {
        self.add_texts(owner, resource.whole, &[], hosts);
        let group = resource.properties;
        let (containers, first) = group.map_or((None, None), |group| (group.containers, group.init_containers));
        let containers = containers.unwrap_or_default();
        if containers.is_empty() {
            return self.add_problem(owner, "it has no containers");
        }
        for container in containers.into_iter().chain(first.unwrap_or_default()) {
            let image = container.properties.and_then(|properties| properties.image);
            self.add_image(owner, container.name.as_deref().unwrap_or_default(), image.as_deref(), hosts);
        }
    }
}
