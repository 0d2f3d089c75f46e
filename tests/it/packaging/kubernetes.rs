//! The Deployment, its optional network policy, and what any pod of ours must be.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, PodSpec, Probe};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use tagwarden::sources::SourceKind;
use tagwarden::{config, policy};

use crate::support::manifests::{documents, typed};

const DEPLOYMENT: &str = include_str!("../../../deploy/kubernetes/deployment.yaml");
const NETWORK: &str = include_str!("../../../deploy/kubernetes/networkpolicy.yaml");

/// One pod at a time, because its state is a file.
pub(super) fn check_pods(deployment: &Deployment) -> PodSpec {
    let spec = deployment.spec.as_ref().unwrap();
    assert_eq!(spec.replicas, Some(1));
    assert_eq!(spec.strategy.as_ref().unwrap().type_.as_deref(), Some("Recreate"));
    check_template(spec)
}

/// A pod of the restricted profile of the pod security standards, with a root that nothing writes to, and with volumes for
/// all mounts.
pub(super) fn check_template(spec: &DeploymentSpec) -> PodSpec {
    let labels = spec.template.metadata.as_ref().unwrap().labels.clone().unwrap();
    assert!(spec.selector.match_labels.as_ref().unwrap().iter().all(|(key, value)| labels.get(key) == Some(value)));
    let pod = spec.template.spec.clone().unwrap();
    let security = pod.security_context.as_ref().unwrap();
    assert_eq!(security.run_as_non_root, Some(true));
    assert!(security.run_as_user.is_some_and(|user| user > 0));
    assert_eq!(security.seccomp_profile.as_ref().unwrap().type_, "RuntimeDefault");
    assert!(pod.host_network.is_none() && pod.host_pid.is_none());
    let [container] = pod.containers.as_slice() else { panic!("{:?}", pod.containers) };
    let security = container.security_context.as_ref().unwrap();
    assert_eq!(security.allow_privilege_escalation, Some(false));
    assert_eq!(security.read_only_root_filesystem, Some(true));
    assert_eq!(security.capabilities.as_ref().unwrap().drop.as_deref(), Some(&["ALL".to_owned()][..]));
    let limits = container.resources.as_ref().unwrap().limits.as_ref().unwrap();
    assert!(limits.contains_key("memory"));
    let volumes = pod.volumes.as_ref().unwrap();
    let mounts = container.volume_mounts.as_ref().unwrap();
    assert_eq!(mounts.len(), volumes.len());
    for mount in mounts {
        let volume = volumes.iter().find(|volume| volume.name == mount.name).unwrap();
        assert!(volume.host_path.is_none());
        let written = volume.persistent_volume_claim.is_some() || volume.empty_dir.is_some();
        assert_eq!(mount.read_only == Some(true), !written, "{}", mount.name);
    }
    pod
}

/// The probes by command are commands of ours; gives whether there are any.
pub(super) fn check_probes(pod: &PodSpec) -> bool {
    let container = &pod.containers[0];
    let probes: [&Option<Probe>; 3] = [&container.startup_probe, &container.liveness_probe, &container.readiness_probe];
    let commands: Vec<Vec<String>> = probes
        .iter()
        .filter_map(|probe| probe.as_ref().expect("a probe of each kind").exec.as_ref()?.command.clone())
        .collect();
    for command in &commands {
        assert!(tagwarden::cli::command().try_get_matches_from(command).is_ok(), "{command:?}");
    }
    if let [start, live, ready] = commands.as_slice() {
        assert_eq!(start, live);
        assert!(!live.contains(&"--ready".to_owned()) && ready.contains(&"--ready".to_owned()));
    }
    !commands.is_empty()
}

#[test]
fn the_deployment_is_what_the_api_knows_and_its_settings_are_sound() {
    let all = documents(DEPLOYMENT);
    let kinds: Vec<&str> = all.iter().map(|document| document["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["ConfigMap", "PersistentVolumeClaim", "Deployment"]);
    let map: ConfigMap = typed(&all[0]);
    let claim: PersistentVolumeClaim = typed(&all[1]);
    let pod = check_pods(&typed(&all[2]));
    assert!(check_probes(&pod));
    let volumes = pod.volumes.as_ref().unwrap();
    let claimed = volumes.iter().find_map(|volume| volume.persistent_volume_claim.as_ref()).unwrap();
    assert_eq!(claim.metadata.name.as_deref(), Some(&*claimed.claim_name));
    assert_eq!(pod.service_account_name.as_deref(), Some("tagwarden"));

    let data = map.data.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let items = volumes.iter().find_map(|volume| volume.config_map.as_ref()).unwrap().items.as_ref().unwrap();
    assert_eq!(items.len(), data.len());
    for item in items {
        let path = folder.path().join(&item.path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &data[&item.key]).unwrap();
    }
    let settings = config::load(&folder.path().join("tagwarden.toml"), []).unwrap();
    let policies = policy::load(&settings.policies).unwrap();
    assert!(config::cross_check(&settings, &policies).is_empty());
    assert!(matches!(settings.sources[0].kind, SourceKind::Kubernetes(_)));
    assert!(settings.listen.ip().is_loopback(), "probes by command are for a page that nobody else reaches");
    let mounts = pod.containers[0].volume_mounts.as_ref().unwrap();
    assert!(mounts.iter().any(|mount| settings.state.path().unwrap().starts_with(&mount.mount_path)));
    // What is commented out works, too.
    let secrets = mounts.iter().find(|mount| mount.name == "secrets").unwrap();
    assert!(data["tagwarden.toml"].contains(&format!("# url_file = \"{}/", secrets.mount_path)));
}

#[test]
fn the_network_policy_lets_nobody_in_and_is_for_these_pods() {
    let policy: NetworkPolicy = typed(&documents(NETWORK)[0]);
    let deployment: Deployment = typed(&documents(DEPLOYMENT)[2]);
    let spec = policy.spec.unwrap();
    assert_eq!(spec.pod_selector.unwrap(), deployment.spec.unwrap().selector);
    assert_eq!(spec.policy_types.unwrap(), ["Ingress", "Egress"]);
    assert!(spec.ingress.unwrap_or_default().is_empty());
    assert_eq!(spec.egress.unwrap().len(), 2);
}
