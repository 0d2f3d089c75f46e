//! What stands in `deploy/kubernetes` fits what is asked of an API server, and is what an API server accepts.

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, PersistentVolumeClaim, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use tagwarden::sources::{Preset, SourceKind, kubernetes_rights};
use tagwarden::{config, policy};

use crate::support::manifests::{documents, typed};

const RBAC: &str = include_str!("../../../../deploy/kubernetes/rbac.yaml");
const RBAC_HELM: &str = include_str!("../../../../deploy/kubernetes/rbac-helm.yaml");
const RBAC_CONFIG_MAPS: &str = include_str!("../../../../deploy/kubernetes/rbac-configmaps.yaml");
const RBAC_PRESETS: &str = include_str!("../../../../deploy/kubernetes/rbac-presets.yaml");
const CRON_JOB: &str = include_str!("../../../../deploy/kubernetes/cronjob.yaml");

/// Every document is of a known kind, with nothing but known keys.
#[test]
fn every_manifest_is_what_the_api_knows() {
    let mut kinds = BTreeSet::new();
    for document in [RBAC, RBAC_HELM, RBAC_CONFIG_MAPS, RBAC_PRESETS, CRON_JOB].into_iter().flat_map(documents) {
        let kind = document["kind"].as_str().unwrap().to_owned();
        match kind.as_str() {
            "Namespace" => drop(typed::<Namespace>(&document)),
            "ServiceAccount" => drop(typed::<ServiceAccount>(&document)),
            "ClusterRole" => drop(typed::<ClusterRole>(&document)),
            "ClusterRoleBinding" => drop(typed::<ClusterRoleBinding>(&document)),
            "ConfigMap" => drop(typed::<ConfigMap>(&document)),
            "PersistentVolumeClaim" => drop(typed::<PersistentVolumeClaim>(&document)),
            "CronJob" => drop(typed::<CronJob>(&document)),
            other => panic!("nobody checks a {other}"),
        }
        kinds.insert(kind);
    }
    assert_eq!(kinds.len(), 7);
}

/// Group, resource and verb of every rule of the cluster roles.
fn rules(text: &str) -> BTreeSet<(String, String, String)> {
    let roles = documents(text).into_iter().filter(|document| document["kind"] == "ClusterRole");
    let granted = roles.flat_map(|role| typed::<ClusterRole>(&role).rules.unwrap());
    let mut all = BTreeSet::new();
    for rule in granted {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                for verb in &rule.verbs {
                    assert!(all.insert((group.clone(), resource.clone(), verb.clone())), "{resource} stands twice");
                }
            }
        }
    }
    all
}

#[test]
fn the_roles_allow_what_is_asked_and_nothing_else() {
    let needed = |helm: bool, configmaps: bool, presets: &[Preset]| -> BTreeSet<(String, String, String)> {
        let rights = kubernetes_rights(helm, configmaps, presets).into_iter();
        rights.map(|(group, resource)| (group.to_owned(), resource.to_owned(), "list".to_owned())).collect()
    };
    assert_eq!(rules(RBAC), needed(false, false, &[]));
    assert_eq!(&rules(RBAC) | &rules(RBAC_HELM), needed(true, false, &[]));
    assert_eq!(&rules(RBAC) | &rules(RBAC_CONFIG_MAPS), needed(false, true, &[]));
    assert_eq!(&rules(RBAC) | &rules(RBAC_PRESETS), needed(false, false, &Preset::ALL));
    for text in [RBAC, RBAC_HELM, RBAC_CONFIG_MAPS, RBAC_PRESETS] {
        for binding in documents(text).iter().filter(|document| document["kind"] == "ClusterRoleBinding") {
            let binding: ClusterRoleBinding = typed(binding);
            let role = documents(text).into_iter().find(|document| document["kind"] == "ClusterRole").unwrap();
            assert_eq!(role["metadata"]["name"], *binding.role_ref.name);
            let subject = &binding.subjects.unwrap()[0];
            assert_eq!((&*subject.name, subject.namespace.as_deref()), ("tagwarden", Some("tagwarden")));
        }
    }
}

#[test]
fn the_settings_and_policies_of_the_cron_job_are_sound() {
    let all = documents(CRON_JOB);
    let map: ConfigMap = typed(&all[0]);
    let data = map.data.unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("policies")).unwrap();
    std::fs::write(folder.path().join("tagwarden.toml"), &data["tagwarden.toml"]).unwrap();
    std::fs::write(folder.path().join("policies/candidates.yaml"), &data["candidates.yaml"]).unwrap();
    let settings = config::load(&folder.path().join("tagwarden.toml"), []).unwrap();
    let policies = policy::load(&settings.policies).unwrap();
    assert!(config::cross_check(&settings, &policies).is_empty());
    assert!(matches!(settings.sources[0].kind, SourceKind::Kubernetes(_)));

    let job: CronJob = typed(all.last().unwrap());
    let pod = job.spec.unwrap().job_template.spec.unwrap().template.spec.unwrap();
    assert_eq!(pod.service_account_name.as_deref(), Some("tagwarden"));
    let mounts = pod.containers[0].volume_mounts.as_ref().unwrap();
    let volumes = pod.volumes.unwrap();
    assert!(mounts.iter().all(|mount| volumes.iter().any(|volume| volume.name == mount.name)));
    let items = volumes[0].config_map.as_ref().unwrap().items.as_ref().unwrap();
    assert_eq!(items.iter().map(|item| &item.key).collect::<BTreeSet<_>>(), data.keys().collect());
}
