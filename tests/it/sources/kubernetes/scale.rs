//! Large clusters.

use serde_json::{Value, json};

use super::{ask, shown};
use crate::support::kubernetes::ApiServer;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A pod of a replica set of a deployment, with as many of the fields that nobody asks for as real ones have.
fn pod(deployment: usize, number: usize) -> Value {
    let image = format!("contoso.azurecr.io/team-{}/app-{deployment}:v1", deployment % 40);
    let noise: Vec<Value> =
        (0..40).map(|n| json!({"manager": format!("m{n}"), "fieldsV1": {"f:spec": {"f:x": {}}}})).collect();
    json!({
        "kind": "Pod",
        "metadata": {
            "namespace": format!("ns-{}", deployment % 40), "name": format!("app-{deployment}-5d-{number}"), "managedFields": noise,
            "ownerReferences": [{"kind": "ReplicaSet", "name": format!("app-{deployment}-5d"), "controller": true}],
        },
        "spec": {"containers": [{"name": "app", "image": image}]},
        "status": {"containerStatuses": [{"name": "app", "image": image, "imageID": format!("{image}@{DIGEST}")}]},
    })
}

fn replica_set(deployment: usize) -> Value {
    let image = format!("contoso.azurecr.io/team-{}/app-{deployment}:v1", deployment % 40);
    json!({
        "kind": "ReplicaSet",
        "metadata": {
            "namespace": format!("ns-{}", deployment % 40), "name": format!("app-{deployment}-5d"),
            "ownerReferences": [{"kind": "Deployment", "name": format!("app-{deployment}"), "controller": true}],
        },
        "spec": {"template": {"spec": {"containers": [{"name": "app", "image": image}]}}},
    })
}

#[tokio::test]
async fn ten_thousand_pods_are_as_many_claims_as_there_are_deployments() {
    let server = ApiServer::start().await;
    {
        let mut world = server.world.lock().unwrap();
        world.put((0..500).map(replica_set).collect());
        world.put((0..10_000).map(|number| pod(number % 500, number)).collect());
    }
    let answer = ask(server.settings("")).await.unwrap();
    // Each by tag and by digest.
    assert_eq!(answer.claims.len(), 1000);
    assert!(shown(&answer.claims).contains(&"Deployment ns-7/app-7 app ~/team-7/app-7:v1".to_owned()));
    assert_eq!(server.world.lock().unwrap().count("/api/v1/pods?"), 20);
}

#[tokio::test]
async fn the_words_of_a_thousand_pods_of_one_template_are_held_once() {
    let texts = async |pods: usize| {
        let server = ApiServer::start().await;
        {
            let mut world = server.world.lock().unwrap();
            world.put((0..50).map(replica_set).collect());
            world.put((0..pods).map(|number| pod(number % 50, number)).collect());
        }
        ask(server.settings("")).await.unwrap().texts
    };
    assert_eq!(texts(50).await, texts(1000).await);
}

#[tokio::test]
async fn ten_thousand_image_ids_come_with_the_names_of_their_deployments() {
    let server = ApiServer::start().await;
    let by_id = |number: usize| {
        let mut pod = pod(number % 500, number);
        pod["status"]["containerStatuses"][0]["imageID"] = DIGEST.into();
        pod
    };
    {
        let mut world = server.world.lock().unwrap();
        world.put((0..500).map(replica_set).collect());
        world.put((0..10_000).map(by_id).collect());
    }
    let answer = ask(server.settings("")).await.unwrap();
    assert_eq!(answer.claims.len(), 1000);
    let ids: Vec<_> = answer.claims.iter().filter(|claim| claim.is_image_id()).collect();
    assert!(ids.len() == 500 && ids.iter().all(|claim| claim.image_id_names().len() == 1));
}
