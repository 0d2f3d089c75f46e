//! What Azure's services use, by an imitation of Azure Resource Manager.

mod app_service;
mod container_apps;
mod container_instances;
mod scope;
mod texts;

use std::time::Duration;

use serde_json::{Value, json};
use tagwarden::domain::Holder;
use tagwarden::registry::RetryPolicy;
use tagwarden::sources::{
    AzureScope, AzureService, AzureWorkloads, Source as _, SourceError, SourceEvidence, TextSettings,
};

use super::now;
use crate::support::azure::{Entra, ResourceManager, Resources};

pub(crate) const SUBSCRIPTION: &str = "33333333-3333-3333-3333-333333333333";
const OTHER: &str = "44444444-4444-4444-4444-444444444444";
const PATIENCE: RetryPolicy = RetryPolicy {
    max_retries: 3,
    initial_delay: Duration::from_millis(1),
    max_delay: Duration::from_millis(2),
    max_total_delay: Duration::from_secs(10),
};
/// All types that any of the services is asked for.
const TYPES: [&str; 6] = [
    "Microsoft.App/containerApps",
    "Microsoft.App/jobs",
    "Microsoft.App/sessionPools",
    "Microsoft.ContainerInstance/containerGroups",
    "Microsoft.ContainerInstance/containerGroupProfiles",
    "Microsoft.Web/sites",
];

/// A subscription that its reader may read, and what is in it.
pub(crate) struct Estate {
    pub(crate) entra: Entra,
    pub(crate) manager: ResourceManager,
}

impl Estate {
    /// An empty one.
    pub(crate) async fn new() -> Self {
        let entra = Entra::start().await;
        let manager = ResourceManager::start(&entra).await;
        let estate = Self { entra, manager };
        estate.change(|resources| open(resources, &format!("/subscriptions/{SUBSCRIPTION}"), &["*/read"]));
        estate
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Resources)) {
        change(&mut self.manager.resources.lock().unwrap());
    }

    /// Takes away the right to read a path.
    fn deny(&self, path: String) {
        self.change(|resources| {
            resources.denied.insert(path);
        });
    }

    fn scope(&self, subscriptions: &[&str], groups: &[&str]) -> AzureScope {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        AzureScope {
            subscriptions: owned(subscriptions),
            resource_groups: owned(groups),
            credential: self.manager.credential(&self.entra),
        }
    }

    async fn ask(&self, service: AzureService) -> Result<SourceEvidence, SourceError> {
        self.ask_in(service, &[SUBSCRIPTION], &[]).await
    }

    async fn ask_in(
        &self,
        service: AzureService,
        subscriptions: &[&str],
        groups: &[&str],
    ) -> Result<SourceEvidence, SourceError> {
        self.source(service, subscriptions, groups, TextSettings::default()).query(now()).await
    }

    fn source(
        &self,
        service: AzureService,
        subscriptions: &[&str],
        groups: &[&str],
        texts: TextSettings,
    ) -> AzureWorkloads {
        let hosts = vec!["contoso.azurecr.io".to_owned()];
        AzureWorkloads::new(service, self.scope(subscriptions, groups), hosts, texts, PATIENCE)
    }

    /// What a service claims, one line each.
    async fn claims(&self, service: AzureService) -> Vec<String> {
        shown(&self.ask(service).await.unwrap())
    }

    /// That a service fails, with those words.
    async fn fails(&self, service: AzureService, words: &str) {
        let error = self.ask(service).await.expect_err(words);
        assert!(error.chain().contains(words), "{words:?} is not in: {}", error.chain());
    }
}

/// Lets a place be read as these actions say. It holds nothing yet.
fn open(resources: &mut Resources, place: &str, actions: &[&str]) {
    resources.single.insert(place.into(), json!({ "id": place }));
    let role = json!({ "actions": actions, "notActions": [], "dataActions": [] });
    resources.lists.insert(format!("{place}/providers/Microsoft.Authorization/permissions"), vec![role]);
    resources.lists.insert(format!("{place}/resources"), vec![]);
    for kind in TYPES {
        resources.lists.insert(format!("{place}/providers/{kind}"), vec![]);
    }
}

/// The id of a resource in a group of the first subscription.
pub(crate) fn id(kind: &str, name: &str) -> String {
    format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-shop/providers/{kind}/{name}")
}

/// Puts a resource into the list of its type, into the index, and where it is found by its id.
pub(crate) fn put(resources: &mut Resources, kind: &str, name: &str, properties: &Value) {
    let place = format!("/subscriptions/{SUBSCRIPTION}");
    let resource = json!({ "id": id(kind, name), "name": name, "type": kind, "properties": properties });
    let entry = json!({ "id": id(kind, name), "type": kind.to_uppercase() });
    for (list, one) in [("providers/".to_owned() + kind, resource.clone()), ("resources".to_owned(), entry)] {
        resources.lists.entry(format!("{place}/{list}")).or_default().push(one);
    }
    resources.single.insert(id(kind, name), resource);
}

/// Puts the children of a resource where they are listed.
pub(crate) fn children(resources: &mut Resources, parent: &str, what: &str, children: &[(&str, Value)]) {
    let path = format!("{parent}/{what}");
    let child =
        |(name, properties): &(&str, Value)| json!({ "id": format!("{path}/{name}"), "properties": properties });
    resources.lists.insert(path.clone(), children.iter().map(child).collect());
}

/// Who claims what, one line each, in order.
fn shown(answer: &SourceEvidence) -> Vec<String> {
    let mut lines: Vec<String> = answer
        .claims
        .iter()
        .map(|claim| match &*claim.holder {
            Holder::Workload { place, namespace, kind, name, container } => {
                assert_eq!((place.as_str(), namespace.as_str()), (SUBSCRIPTION, "rg-shop"));
                format!("{kind} {name} [{container}] {}", claim.image)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    lines.sort();
    lines
}

/// A template with these containers and init containers, each `name=image`.
pub(crate) fn template(containers: &[&str], first: &[&str]) -> Value {
    let all = |texts: &[&str]| -> Vec<Value> {
        let of = |text: &&str| text.split_once('=').map(|(name, image)| json!({ "name": name, "image": image }));
        texts.iter().filter_map(of).collect()
    };
    json!({ "template": { "containers": all(containers), "initContainers": if first.is_empty() { Value::Null } else { json!(all(first)) } } })
}
