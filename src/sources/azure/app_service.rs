//! Azure App Service and Functions: web and function apps with their deployment slots and sidecars.
//!
//! Lists of apps do not contain the configuration reliably, so the configuration of every app and slot is read by
//! itself.

use futures::future::try_join_all;
use futures::try_join;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::fx_version::{FxVersion, compose_images};
use super::scope::{ArmReader, ResourceScope};
use super::{AzureEvidence, AzureObject, Resource, WireContainer};
use crate::http_client::{RequestError, RequestErrorKind};
use crate::sources::known_hosts::KnownHosts;

const VERSION: &str = "2024-11-01";
const SITES: &str = "Microsoft.Web/sites";
pub(super) const TYPES: [&str; 1] = [SITES];
/// The properties of an app that name its image, by operating system.
const FX_VERSIONS: [&str; 2] = ["linuxFxVersion", "windowsFxVersion"];

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireSite {
    /// True if it runs on Linux.
    #[serde(default)]
    reserved: Option<bool>,
    /// The Container Apps environment that it runs in, if it does.
    #[serde(default)]
    managed_environment_id: Option<String>,
}

/// Reads all apps in one place.
pub(super) async fn read(asking: &ArmReader, place: &ResourceScope) -> Result<AzureEvidence, RequestError> {
    let sites = asking.list_all::<WireSite>(place, SITES, VERSION).await?;
    let found = try_join_all(sites.iter().map(|site| read_with_slots(asking, site))).await?;
    Ok(found.into_iter().fold(AzureEvidence::default(), AzureEvidence::with))
}

async fn read_with_slots(asking: &ArmReader, site: &Resource<WireSite>) -> Result<AzureEvidence, RequestError> {
    // Functions in a Container Apps environment have neither slots nor sidecars
    // (<https://learn.microsoft.com/azure/azure-functions/functions-container-apps-hosting>).
    let in_environment = site.properties.as_ref().and_then(|properties| properties.managed_environment_id.as_ref());
    if in_environment.is_some_and(|id| !id.is_empty()) {
        return configuration(asking, site, "app").await;
    }
    let slots = async { asking.list::<Resource<WireSite>>(&format!("{}/slots", site.id), VERSION).await };
    let (own, slots) = try_join!(read_site(asking, site, "app"), slots)?;
    let of_slots = try_join_all(slots.iter().map(|slot| read_site(asking, slot, "deployment slot"))).await?;
    Ok(of_slots.into_iter().fold(own, AzureEvidence::with))
}

/// Reads an app or a slot: its image, and its sidecars.
async fn read_site(
    asking: &ArmReader,
    site: &Resource<WireSite>,
    kind: &'static str,
) -> Result<AzureEvidence, RequestError> {
    let (own, beside) = try_join!(configuration(asking, site, kind), sidecars(asking, site, kind))?;
    Ok(own.with(beside))
}

async fn configuration(
    asking: &ArmReader,
    site: &Resource<WireSite>,
    kind: &'static str,
) -> Result<AzureEvidence, RequestError> {
    let path = format!("{}/config/web", site.id);
    let web: Resource<Map<String, Value>> = asking.get(&path, VERSION).await?;
    let owner = AzureObject::of(kind, &site.id);
    let mut found = AzureEvidence::default();
    let properties = web.properties.unwrap_or_default();
    let told: Vec<&Value> = FX_VERSIONS.iter().filter_map(|key| properties.get(*key)).collect();
    if told.is_empty() {
        found.add_problem(&owner, "its configuration does not tell what it runs (`linuxFxVersion`)");
    }
    let read: Vec<&str> = told.iter().filter_map(|value| value.as_str()).collect();
    for value in &told {
        match value {
            Value::Null => {}
            Value::String(text) => found.add_fx_version(&owner, text, &asking.hosts),
            other => found.add_problem(&owner, format_args!("what it runs is reported as {other}, which is not text")),
        }
    }
    found.add_texts(&owner, site.whole.clone(), &read, &asking.hosts);
    found.add_texts(&owner, web.whole, &read, &asking.hosts);
    Ok(found)
}

/// Returns the containers of an app that has several. They count whether the app is set to use them or not.
async fn sidecars(
    asking: &ArmReader,
    site: &Resource<WireSite>,
    kind: &'static str,
) -> Result<AzureEvidence, RequestError> {
    let path = format!("{}/sitecontainers", site.id);
    let listed: Result<Vec<Resource<WireContainer>>, RequestError> = asking.list(&path, VERSION).await;
    let on_linux = site.properties.as_ref().is_none_or(|properties| properties.reserved != Some(false));
    let containers = match listed {
        // There are none on Windows, and listing them may be refused for that reason.
        Err(error) if !on_linux && is_absent(error.kind) => Vec::new(),
        listed => listed?,
    };
    let owner = AzureObject::of(kind, &site.id);
    let mut found = AzureEvidence::default();
    for container in containers {
        let name = container.id.rsplit('/').next().unwrap_or_default();
        let image = container.properties.and_then(|properties| properties.image);
        found.add_image(&owner, name, image.as_deref(), &asking.hosts);
        let read: Vec<&str> = image.iter().map(String::as_str).collect();
        found.add_texts(&owner, container.whole, &read, &asking.hosts);
    }
    Ok(found)
}

fn is_absent(kind: RequestErrorKind) -> bool {
    matches!(kind, RequestErrorKind::NotFound | RequestErrorKind::Status(400 | 405 | 409))
}

impl AzureEvidence {
    /// Adds the images that an app is set to run.
    fn add_fx_version(&mut self, owner: &AzureObject, text: &str, hosts: &KnownHosts) {
        match FxVersion::read(text) {
            Ok(FxVersion::NoImage) => {}
            Ok(FxVersion::Unset) => self.add_note(owner, "it is to run a container, but names no image"),
            Ok(FxVersion::Image(image)) => self.add_image(owner, "", Some(image), hosts),
            Ok(FxVersion::Compose(yaml)) => match compose_images(&yaml) {
                Ok((images, documents)) => {
                    for (name, image) in &images {
                        self.add_image(owner, name, Some(image), hosts);
                    }
                    let read: Vec<&str> = images.iter().map(|(_, image)| image.as_str()).collect();
                    for document in documents {
                        self.add_node(owner, document, &read, hosts);
                    }
                }
                Err(what) => self.add_problem(owner, what),
            },
            Err(what) => self.add_problem(owner, what),
        }
    }
}
