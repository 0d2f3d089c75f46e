//! Manifests that certainly survive an untag: they are read once the tags are gone.

use std::collections::BTreeMap;

use tagwarden::demo::registry::ServedRequest;
use tagwarden::domain::Digest;

use super::registry_info::{RegistryResource, retention};
use super::*;

/// The tags that go, with their digests.
fn expiring(azure: &Azure) -> BTreeMap<String, Digest> {
    let tags = azure.registry.tags("shop/api").into_iter();
    tags.filter(|(tag, _)| ["c-1", "c-2", "c-3"].contains(&tag.as_str())).collect()
}

fn manifest_path(digest: &Digest) -> String {
    format!("/v2/shop/api/manifests/{digest}")
}

fn is_pull(request: &ServedRequest, digest: &Digest) -> bool {
    request.method == Method::GET && request.path == manifest_path(digest)
}

/// The policies of a registry that deletes nothing by itself.
fn off() -> Value {
    json!({ "retentionPolicy": { "days": 7, "status": "disabled" }, "softDeletePolicy": { "status": "disabled" } })
}

/// Where the pulls of a manifest and the deletion of its tag are among all requests.
fn positions(requests: &[ServedRequest], tag: &str, digest: &Digest) -> (Vec<usize>, usize) {
    let pulls = requests.iter().enumerate().filter(|(_, request)| is_pull(request, digest));
    let deletion = requests
        .iter()
        .position(|request| request.method == Method::DELETE && request.path.ends_with(&format!("_tags/{tag}")));
    (pulls.map(|(position, _)| position).collect(), deletion.unwrap())
}

#[tokio::test]
async fn a_removal_takes_a_look_and_a_deletion_and_the_manifest_follows() {
    // The days of the retention policy, and how many manifests are read before their tag is removed: the first one always.
    for (days, before) in [(None, 1), (Some(30), 1)] {
        let policies = days.map_or_else(off, retention);
        let around = RegistryResource::new("Premium", policies, days.map(|days| u16::try_from(days).unwrap())).await;
        let azure = &around.azure;
        let expiring = expiring(azure);
        azure.run("run").await.exits(0);
        let requests = azure.registry.requests();
        let found: Vec<_> = expiring.iter().map(|(tag, digest)| (tag, positions(&requests, tag, digest))).collect();
        assert!(found.iter().all(|(_, (pulls, _))| pulls.len() == 1), "each once: {found:?}");
        let early = found.iter().filter(|(_, (pulls, deletion))| pulls[0] < *deletion).count();
        assert_eq!(early, before, "{days:?} days: {found:?}");
        for (tag, _) in found.iter().filter(|(_, (pulls, deletion))| pulls[0] > *deletion) {
            let of_tag = requests.iter().filter(|request| request.path.ends_with(&format!("_tags/{tag}")));
            assert_eq!(of_tag.count(), 2, "{tag}: the look and the deletion");
        }
        let last = requests.iter().rposition(|request| request.method == Method::DELETE).unwrap();
        let late = found.iter().filter(|(_, (pulls, _))| pulls[0] > last).count();
        assert_eq!(late, expiring.len() - before, "off the removals' way: {found:?}");
        let (_, shown) = journal(azure).await;
        azure.run(&format!("restore --run {}", shown["id"].as_str().unwrap())).await.exits(0);
        assert_eq!(azure.registry.tags("shop/api").len(), 5);
    }
}

#[tokio::test]
async fn where_the_registry_does_not_say_bytes_come_first() {
    let azure = Azure::with(options(), BASIC).await;
    azure.settings("enforce", BASIC, "");
    let expiring = expiring(&azure);
    azure.run("run").await.exits(0);
    let requests = azure.registry.requests();
    for (tag, digest) in &expiring {
        let (pulls, deletion) = positions(&requests, tag, digest);
        assert!(pulls.len() == 1 && pulls[0] < deletion, "{tag}: {pulls:?}, {deletion}");
    }
}

#[tokio::test]
async fn what_could_not_be_read_is_told_restored_from_the_registry_and_read_by_the_next_run() {
    let around = RegistryResource::new("Premium", off(), None).await;
    let azure = &around.azure;
    // The first removal shows that manifests survive, and keeps its bytes first.
    azure.push("shop/api", "c-0", 200);
    let policies = POLICIES.replace("newest: 2", "newest: 5");
    azure.desk.write("policies/all.yaml", &policies);
    azure.run("run").await.exits(0);
    azure.desk.write("policies/all.yaml", POLICIES);
    let expiring = expiring(azure);
    let lost = &expiring["c-2"];
    azure.registry.inject(Fault::on(&manifest_path(lost), FaultKind::status(403)).method(Method::GET));
    let done = azure.run("run").await.exits(0);
    assert!(done.err.contains("1 removal can be undone only while the registry keeps the manifest"), "{}", done.err);
    let (_, shown) = journal(azure).await;
    let id = shown["id"].as_str().unwrap().to_owned();
    assert!(shown.to_string().contains("manifests-missing"), "{shown}");

    azure.registry.clear_faults();
    let foreseen = azure.run(&format!("restore --run {id} --dry-run --format json")).await.exits(0).json();
    let expected: BTreeMap<&str, &str> = foreseen["previews"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["tag"].as_str().unwrap(), one["expected"].as_str().unwrap()))
        .collect();
    let all = [("c-1", "returns"), ("c-2", "only-in-registry"), ("c-3", "returns")];
    assert_eq!(expected, BTreeMap::from(all));
    azure.run("restore contoso/shop/api:c-2").await.exits(0);
    assert_eq!(&azure.registry.tags("shop/api")["c-2"], lost);

    azure.registry.clear_requests();
    azure.run("run").await.exits(0);
    let pulls = azure.registry.requests().iter().filter(|request| is_pull(request, lost)).count();
    assert_eq!(pulls, 0, "the restore journaled it");
}

#[tokio::test]
async fn a_run_that_was_killed_between_removal_and_manifest_is_completed_by_the_next() {
    let around = RegistryResource::new("Premium", off(), None).await;
    let azure = &around.azure;
    let expiring = expiring(azure);
    // The first removal reads its manifest before. The reads of the others hang until the process is killed.
    let hang = FaultKind::Delay(Duration::from_mins(5));
    azure.registry.inject(Fault::on("/v2/shop/api/manifests/", hang).method(Method::GET).after(1));
    let mut running = azure.running("run", expiring.len()).await;
    running.kill().await.unwrap();
    azure.registry.clear_faults();
    azure.registry.clear_requests();
    azure.run("run").await.exits(0);
    let requests = azure.registry.requests();
    let pulls = |digest: &Digest| requests.iter().filter(|request| is_pull(request, digest)).count();
    let pulled: Vec<usize> = expiring.values().map(pulls).collect();
    assert_eq!(pulled.iter().sum::<usize>(), 2, "the two that were not read: {pulled:?}");
    assert!(pulled.iter().all(|pulls| *pulls <= 1), "{pulled:?}");
    let runs = azure.run("runs --format json").await.exits(0).json()["runs"].clone();
    let killed = runs[1]["id"].as_str().unwrap();
    let foreseen = azure.run(&format!("restore --run {killed} --dry-run --format json")).await.exits(0).json();
    let expected = foreseen["previews"].as_array().unwrap().iter().map(|one| one["expected"].as_str().unwrap());
    assert_eq!(expected.collect::<Vec<_>>(), ["returns"; 3]);
}
