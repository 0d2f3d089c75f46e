//! What runs outside of clusters, and what an enforcing run then leaves alone.

use serde_json::{Value, json};
use wiremock::{Mock, MockServer, ResponseTemplate, matchers};

use super::*;
use crate::sources::azure::{Estate, SUBSCRIPTION, children, id, put, template};
use crate::sources::docker::engine;
use crate::support::azure::{CLIENT, SECRET, TENANT};

const APPS: &str = "Microsoft.App/containerApps";
const JOBS: &str = "Microsoft.App/jobs";
const GROUPS: &str = "Microsoft.ContainerInstance/containerGroups";
const SITES: &str = "Microsoft.Web/sites";

/// What is asked for evidence.
struct WorkloadFixture {
    walk: WorkflowFixture,
    estate: Estate,
    web: MockServer,
    engine: TempDir,
}

impl WorkloadFixture {
    /// [`GOING`] in the order of their numbers: one that only an inactive revision uses, one of a slot, one of a job that
    /// never ran, one of a sidecar. Two of what goes otherwise are a stopped container's, and in a web document.
    async fn new() -> Self {
        let walk = WorkflowFixture::new().await;
        let estate = Estate::new().await;
        let image = |number: u32| format!("{}/shop/api:candidate-{number}", walk.registry.host());
        let running = template(&[&format!("api={}", image(6))], &[]);
        let site = id(SITES, "web");
        let fx = |text: String| json!({ "id": "x", "properties": { "linuxFxVersion": text } });
        estate.change(|resources| {
            put(resources, APPS, "api", &running);
            let old = template(&[&format!("api={}", image(1))], &[]);
            children(resources, &id(APPS, "api"), "revisions", &[("api--2", running.clone()), ("api--1", old)]);
            put(resources, SITES, "web", &json!({ "reserved": true }));
            resources.single.insert(format!("{site}/config/web"), fx("sitecontainers".into()));
            children(resources, &site, "slots", &[("staging", json!({ "reserved": true }))]);
            let of_slot = fx(format!("DOCKER|{}", image(2)));
            resources.single.insert(format!("{site}/slots/staging/config/web"), of_slot);
            children(resources, &format!("{site}/slots/staging"), "sitecontainers", &[]);
            put(resources, JOBS, "nightly", &template(&[&format!("run={}", image(3))], &[]));
            children(resources, &id(JOBS, "nightly"), "executions", &[]);
            children(resources, &site, "sitecontainers", &[("proxy", json!({ "image": image(4) }))]);
        });
        let web = MockServer::start().await;
        let answer = ResponseTemplate::new(200)
            .set_body_json(json!([{ "deployed": image(5) }]))
            .insert_header("last-modified", "Sun, 01 Nov 2026 08:00:00 GMT");
        Mock::given(matchers::any()).respond_with(answer).mount(&web).await;
        let digest = walk.digest("shop/api", "candidate-5").to_string();
        let containers =
            json!([{ "Id": "c1", "Names": ["/old"], "Image": digest, "ImageID": digest, "State": "exited" }]);
        let named = format!("{}/shop/api@{digest}", walk.registry.host());
        let images = json!([{ "Id": digest, "RepoTags": [], "RepoDigests": [named] }]);
        let (folder, socket) = engine(containers, images);
        fs::write(walk.path("secret"), SECRET).unwrap();
        let (authority, manager) = (&estate.entra.url, &estate.manager.url);
        let sources = format!(
            "[azure]\nauthority = \"{authority}\"\nresource_manager = \"{manager}\"\nca_file = \"{}\"\n\
             auth = {{ kind = \"client-secret\", tenant_id = \"{TENANT}\", client_id = \"{CLIENT}\", secret_file = \"secret\" }}\n\
             [sources.apps]\nkind = \"container-apps\"\nsubscriptions = [\"{SUBSCRIPTION}\"]\n\
             [sources.instances]\nkind = \"container-instances\"\nsubscriptions = [\"{SUBSCRIPTION}\"]\nallow_empty = true\n\
             [sources.sites]\nkind = \"app-service\"\nsubscriptions = [\"{SUBSCRIPTION}\"]\n\
             [sources.host]\nkind = \"docker\"\nsocket = \"unix://{}\"\n\
             [sources.cmdb]\nkind = \"references-http\"\nurl = \"{}/deployed\"\npaths = [\"[].deployed\"]\nmax_age = \"1000d\"\n\
             header = {{ name = \"Authorization\", value_file = \"secret\" }}\n",
            estate.entra.ca_file.display(),
            socket.display(),
            web.uri(),
        );
        walk.settings("enforce", "", &sources);
        Self { walk, estate, web, engine: folder }
    }

    /// Who holds a tag, by the plan.
    async fn holders(&self, tag: &str) -> Vec<String> {
        let json: Value = serde_json::from_str(&report::render(&self.walk.plan().await, Format::Json)).unwrap();
        let kept = json["kept"].as_array().unwrap().iter().find(|kept| kept["tag"] == tag).unwrap().clone();
        assert_eq!(kept["verdict"], "protected", "{kept}");
        let holders = kept["reasons"].as_array().unwrap().iter().filter(|reason| reason["kind"] == "claimed");
        holders.map(|reason| reason["holder"].to_string()).collect()
    }
}

#[tokio::test]
async fn what_could_start_again_stays() {
    let world = WorkloadFixture::new().await;
    let came = world.walk.run().await;
    assert_eq!((came.code, came.labels()), (0, vec!["-"; 4]), "{}", came.text);
    assert_eq!(world.walk.remaining_tags(), EXPIRED_TAGS);
    for (tag, words) in [
        ("candidate-1", "api/api--1"),
        ("candidate-2", "deployment slot"),
        ("candidate-3", "nightly"),
        ("candidate-4", "proxy"),
    ] {
        let holders = world.holders(tag).await;
        assert!(
            holders.len() == 1 && holders[0].contains(words) && holders[0].contains("rg-shop"),
            "{tag}: {holders:?}"
        );
    }
    let both = world.holders("candidate-5").await.join("\n");
    assert!(both.contains("docker.sock") && both.contains("\"name\":\"old\"") && both.contains("/deployed"), "{both}");
    // Once the revision is gone, so may its image.
    world.estate.change(|resources| {
        resources.lists.get_mut(&format!("{}/revisions", id(APPS, "api"))).unwrap().pop();
    });
    let came = world.walk.run().await;
    assert_eq!((came.code, came.labels()), (0, vec!["done", "-", "-", "-"]), "{}", came.text);
}

#[tokio::test]
async fn a_source_that_cannot_see_everything_keeps_everything() {
    /// What fails, how, and words of the report.
    type Row = (&'static str, fn(&WorkloadFixture), &'static str);
    let rows: [Row; 7] = [
        ("apps", |world| refuse(world, format!("{}/revisions", id(APPS, "api"))), "`Reader`"),
        ("apps", |world| refuse(world, format!("{}/executions", id(JOBS, "nightly"))), "`Reader`"),
        ("apps", |world| refuse(world, format!("/subscriptions/{SUBSCRIPTION}/providers/{JOBS}")), "`Reader`"),
        ("instances", |world| refuse(world, format!("/subscriptions/{SUBSCRIPTION}/providers/{GROUPS}")), "`Reader`"),
        ("sites", |world| refuse(world, format!("{}/slots/staging/config/web", id(SITES, "web"))), "`Reader`"),
        ("sites", |world| refuse(world, format!("{}/sitecontainers", id(SITES, "web"))), "`Reader`"),
        (
            "host",
            |world| {
                fs::remove_file(world.engine.path().join("docker.sock")).unwrap();
            },
            "start Docker",
        ),
    ];
    for (source, fails, words) in rows {
        let world = WorkloadFixture::new().await;
        // Nothing is claimed any more but what keeps the sources from being empty; the failure alone stands in the way.
        free(&world);
        fails(&world);
        let came = world.walk.run().await;
        assert_eq!((came.code, came.labels()), (5, vec!["-"; 4]), "{source}: {}", came.text);
        assert_eq!(world.walk.remaining_tags(), EXPIRED_TAGS, "{source}");
        let ended = came.result.unwrap();
        let failed: Vec<_> = ended.document.sources.iter().filter(|one| one.state == "failed").collect();
        assert!(failed.len() == 1 && failed[0].name == source, "{failed:?}");
        assert!(format!("{failed:?}").contains(words), "{failed:?}");
    }
    let world = WorkloadFixture::new().await;
    free(&world);
    world.web.reset().await;
    let came = world.walk.run().await;
    assert_eq!((came.code, came.labels()), (5, vec!["-"; 4]), "{}", came.text);
    // With all of them well again, everything goes.
    let world = WorkloadFixture::new().await;
    free(&world);
    let came = world.walk.run().await;
    assert_eq!((came.code, came.labels()), (0, vec!["done"; 4]), "{}", came.text);
}

/// A host stores images as it unpacked them: all that is left of one that was tagged anew is its configuration.
#[tokio::test]
async fn an_image_id_protects_what_has_that_configuration() {
    let walk = WorkflowFixture::new().await;
    let manifest: Value = serde_json::from_slice(&image("candidate-3", 97).bytes).unwrap();
    let config = &manifest["config"]["digest"];
    let containers = json!([{ "Id": "c1", "Names": ["/old"], "Image": "local/other:1", "ImageID": config }]);
    let images = json!([{ "Id": config, "RepoTags": ["local/other:1"], "RepoDigests": [] }]);
    let (_folder, socket) = engine(containers, images);
    walk.settings("enforce", "", &format!("[sources.host]\nkind = \"docker\"\nsocket = \"{}\"", socket.display()));
    let came = walk.run().await;
    assert_eq!((came.code, came.labels()), (0, vec!["done", "done", "-", "done"]), "{}", came.text);
}

fn refuse(world: &WorkloadFixture, path: String) {
    world.estate.change(|resources| {
        resources.denied.insert(path);
    });
}

/// Moves everything that Azure's services use to what is kept anyway.
fn free(world: &WorkloadFixture) {
    let kept = format!("{}/shop/api:candidate-6", world.walk.registry.host());
    world.estate.change(|resources| {
        let all = resources.lists.values_mut().flatten().chain(resources.single.values_mut());
        all.for_each(|value| {
            let text = (1..=4).fold(value.to_string(), |text, number| {
                text.replace(&format!("{}/shop/api:candidate-{number}", world.walk.registry.host()), &kept)
            });
            *value = serde_json::from_str(&text).unwrap();
        });
    });
}
