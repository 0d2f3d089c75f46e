//! Against the real distribution 2.8, filled by skopeo and over HTTP, with a password: it cannot untag.

use std::fs;

use serde_json::{Value, json};
use tagwarden::demo::blob::Blob;
use tagwarden::demo::image::{Image, multi_arch};

use super::{CliFixture, files, image, names, record};
use crate::support::content::{self, Content};
use crate::support::docker_registry::{DockerRegistry, PASSWORD, Setup, USER};
use crate::support::skopeo::{layout, skopeo};

const POLICIES: &str = r#"policies:
  - name: candidates
    select: { repositories: ["shop/api"], tags: ["candidate-*"] }
    keep: [{ newest: 1 }]
    mode: enforce
  - name: nightlies
    select: { repositories: ["shop/web"], tags: ["nightly-*"] }
    keep: [{ newest: 1 }]
    mode: enforce
    limits: { percent: 80 }
"#;

struct Shop {
    registry: DockerRegistry,
    desk: CliFixture,
    /// What the oldest two candidates name, pushed over HTTP.
    twice: Content,
    /// The index that goes, pushed by skopeo.
    index: Image,
}

async fn push(registry: &DockerRegistry, tag_names: &[&str], created: &str) -> Content {
    let (layer, config) = (content::layer("shared layer"), content::config(created, tag_names[0]));
    registry.push_blob("shop/api", &layer).await;
    registry.push_blob("shop/api", &config).await;
    let manifest = content::image(&config, &[&layer]);
    for tag in tag_names {
        registry.push_manifest("shop/api", tag, &manifest).await;
    }
    manifest
}

/// skopeo's copy from a layout on disk, indexes with all that they list.
async fn copy(registry: &DockerRegistry, image: &Image, to: &str) {
    let folder = tempfile::tempdir().unwrap();
    layout(folder.path(), image);
    let source = format!("oci:{}:v1", folder.path().display());
    let (target, login) = (format!("docker://{}/{to}", registry.host()), format!("{USER}:{PASSWORD}"));
    let arguments =
        ["copy", "--all", "--preserve-digests", "--dest-tls-verify=false", "--dest-creds", &login, &source, &target];
    skopeo(&arguments).await.unwrap();
}

async fn listed(registry: &DockerRegistry, repository: &str) -> Value {
    let (target, login) = (format!("docker://{}/{repository}", registry.host()), format!("{USER}:{PASSWORD}"));
    let text = skopeo(&["list-tags", "--tls-verify=false", "--creds", &login, &target]).await.unwrap();
    let mut listed: Value = serde_json::from_str(&text).unwrap();
    let tags = listed["Tags"].as_array_mut().unwrap();
    tags.sort_by_key(Value::to_string);
    listed["Tags"].take()
}

fn settings(registry: &DockerRegistry) -> String {
    format!(
        "[registries.contoso]\nkind = \"distribution\"\nendpoint = \"{}\"\naliases = [\"images.contoso.example\"]\n\
         auth = {{ kind = \"basic\", username = \"{USER}\", password_file = \"password\" }}\n\
         \n[sources.releases]\nkind = \"release-records\"\npaths = [\"releases/*.json\"]\n\
         \n[sources.deployments]\nkind = \"image-references\"\npaths = [\"deploy/**/*.yaml\"]\n",
        registry.endpoint
    )
}

/// Candidates of which two share an image, one shares it with a release, and one is live; nightly indexes of which one
/// is named by tag, one by the digest of a single platform, one by a compose file.
async fn shop(delete: bool) -> Shop {
    let registry = DockerRegistry::start(Setup { delete, login: true, ..Setup::default() }).await;
    let twice = push(&registry, &["candidate-1", "candidate-2"], "2024-01-01T00:00:00Z").await;
    push(&registry, &["candidate-3", "v1"], "2024-01-02T00:00:00Z").await;
    push(&registry, &["candidate-4"], "2024-01-03T00:00:00Z").await;
    copy(&registry, &image("candidate-5", "2024-02-01"), "shop/api:candidate-5").await;
    let nightly = |day: u32| {
        let created = format!("2024-03-{day:02}T00:00:00Z").parse().unwrap();
        let layers = |arch: &str| vec![Blob::layer("shared", 70_000), Blob::layer(&format!("{day} {arch}"), 9_000)];
        multi_arch(created, |platform| layers(platform.architecture))
    };
    let nightlies: Vec<Image> = (1..=5).map(nightly).collect();
    for (day, index) in (1..).zip(&nightlies) {
        copy(&registry, index, &format!("shop/web:nightly-{day}")).await;
    }
    let host = registry.host();
    let platform = &nightlies[1].children[0].digest;
    let desk = CliFixture::with(&[
        ("tagwarden.toml", &settings(&registry)),
        ("password", PASSWORD),
        ("policies/shop.yaml", POLICIES),
        ("releases/api.json", &record(&format!("{host}/shop/api:candidate-4"))),
        (
            "deploy/kiosk/kustomization.yaml",
            &format!("images:\n  - name: web\n    newName: {host}/shop/web\n    digest: {platform}\n"),
        ),
        ("deploy/values.yaml", "web:\n  image:\n    repository: images.contoso.example/shop/web\n    tag: nightly-3\n"),
        ("deploy/compose.yaml", &format!("services:\n  web: {{ image: \"{host}/shop/web:nightly-4\" }}\n")),
    ]);
    fs::set_permissions(desk.path("password"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let index = nightlies.into_iter().next().unwrap();
    Shop { registry, desk, twice, index }
}

const ALL_OF_API: [&str; 6] = ["candidate-1", "candidate-2", "candidate-3", "candidate-4", "candidate-5", "v1"];

/// What was sent to a registry although it reads nothing.
fn changes(registry: &DockerRegistry) -> Vec<String> {
    let reads = |line: &String| ["\"GET ", "\"HEAD "].iter().any(|method| line.contains(method));
    registry.access_log().into_iter().filter(|line| !reads(line)).collect()
}

#[tokio::test]
async fn on_the_first_evening_nothing_is_asked_of_a_registry_that_cannot_untag() {
    let Shop { registry, mut desk, .. } = shop(true).await;
    desk.set("TAGWARDEN__MODE", "enforce");
    let pushed = changes(&registry).len();
    let outs = "--out p/a.json --out p/b.md --out p/c.html --out p/d.csv --out p/e.txt";
    fs::create_dir(desk.path("p")).unwrap();
    let done = desk.run(&format!("plan --format json {outs}")).await.exits(0);
    let plan = done.json();
    assert_eq!(files(&desk.path("p")).len(), 5);
    assert_eq!(desk.json("p/a.json"), plan);
    assert_eq!(
        names(&plan, "removals"),
        ["shop/api:candidate-1", "shop/api:candidate-2", "shop/api:candidate-3", "shop/web:nightly-1"]
    );
    assert_eq!(
        names(&plan, "kept"),
        [
            "shop/api:candidate-4 protected",
            "shop/api:candidate-5 retained",
            "shop/api:v1 out-of-scope",
            "shop/web:nightly-2 protected",
            "shop/web:nightly-3 protected",
            "shop/web:nightly-4 protected",
            "shop/web:nightly-5 retained",
        ]
    );
    assert_eq!(plan["registries"][0]["identity"], format!("user {USER}"));
    assert_eq!(plan["registries"][0]["ability"]["state"], "not-known");
    for name in ["b.md", "c.html", "e.txt"] {
        assert!(desk.read(&format!("p/{name}")).contains("will be known at the first enforcing run"), "{name}");
    }
    let shown = desk.run("registries").await.exits(0).out;
    assert!(shown.contains("not known whether this registry can delete a tag"), "{shown}");
    assert_eq!(changes(&registry).len(), pushed, "{:?}", changes(&registry));

    // Asked on purpose, it says so, and is believed from then on.
    let probe = desk.run("registries probe contoso --format json").await.exits(3).json();
    assert_eq!((&probe["result"], &probe["ability"]["state"]), (&json!("unsupported"), &json!("impossible")));
    let asked = changes(&registry)[pushed..].to_vec();
    assert!(asked.len() == 2 && asked.iter().all(|line| line.contains("DELETE ")), "{asked:?}");
    desk.run(&format!("plan {outs}")).await.exits(3);
    for (name, words) in [("b.md", "removal"), ("c.html", "removal"), ("e.txt", "removal = \"manifest\"")] {
        assert!(desk.read(&format!("p/{name}")).contains(words), "{name} says what can be done");
    }
    for format in ["text", "markdown", "html", "csv"] {
        assert!(desk.run(&format!("plan --format {format}")).await.exits(3).out.contains("candidate-1"), "{format}");
    }
    desk.run("run").await.exits(3);
    desk.run("apply p/a.json").await.exits(3);
    assert_eq!(changes(&registry).len(), pushed + 2);
    assert_eq!(listed(&registry, "shop/api").await, json!(ALL_OF_API));
}

#[tokio::test]
async fn whole_manifests_go_and_come_back_byte_for_byte() {
    let Shop { registry, desk, twice, index } = shop(true).await;
    let text =
        desk.read("tagwarden.toml").replace("\n[sources.releases]", "removal = \"manifest\"\n\n[sources.releases]");
    desk.write("tagwarden.toml", &format!("mode = \"approved\"\n{text}"));
    let plan = desk.run("plan --format json --out plan.json").await.exits(0).json();
    let going = ["shop/api:candidate-1", "shop/api:candidate-2", "shop/web:nightly-1"];
    assert_eq!(names(&plan, "removals"), going);
    let held = plan["kept"].as_array().unwrap().iter().find(|kept| kept["tag"] == "candidate-3").unwrap();
    assert_eq!((&held["verdict"], &held["reasons"][0]["kind"]), (&json!("protected"), &json!("shares-manifest")));

    let before = registry.pull_manifest("shop/web", "nightly-1").await.unwrap();
    assert_eq!(before.bytes, index.bytes);
    let asked = registry.access_log().len();
    desk.run("plan").await.exits(0);
    let again = registry.access_log()[asked..].to_vec();
    let heads = again.iter().filter(|line| line.contains("HEAD ")).count();
    // One for each tag; beside them the ping, the catalogue, two lists, and what was asked about referrers and removal.
    assert_eq!(heads, 11, "{again:#?}");
    assert!(again.len() <= 11 + 4 + 4, "{again:#?}");
    assert!(!again.iter().any(|line| line.contains("/blobs/")), "nothing is read twice: {again:#?}");

    let applied = desk.run("apply plan.json --format json").await.exits(0).json();
    assert_eq!(names(&applied, "removals"), going);
    assert_eq!(applied["removals"].as_array().unwrap().iter().filter(|one| one["outcome"] == "done").count(), 3);
    assert_eq!(listed(&registry, "shop/api").await, json!(ALL_OF_API[2..]));
    assert_eq!(listed(&registry, "shop/web").await, json!(["nightly-2", "nightly-3", "nightly-4", "nightly-5"]));
    assert_eq!(registry.pull_manifest("shop/api", &twice.digest.to_string()).await, None);

    let run = applied["run"].as_str().unwrap();
    let shown = desk.run(&format!("runs show {run}")).await.exits(0).out;
    assert_eq!(shown.matches("delete-manifest").count(), 3, "{shown}");
    assert!(desk.run("runs").await.exits(0).out.contains(run));
    // Tagwarden itself deleted it, and says so wherever it is asked.
    let explained = desk.run("explain contoso/shop/api:candidate-1").await.out;
    assert!(explained.contains(&format!("in run {run}")) && !explained.contains("did not delete it"), "{explained}");
    let preview = desk.run(&format!("restore --run {run} --dry-run")).await.exits(0).out;
    assert!(preview.contains("Tagwarden deleted its manifest on") && !preview.contains("has collected"), "{preview}");
    let restored = desk.run(&format!("restore --run {run}")).await.exits(0);
    assert!(restored.out.contains("3 restored, 0 skipped, 0 failed"), "{}", restored.out);
    assert_eq!(registry.pull_manifest("shop/web", "nightly-1").await, Some(before));
    for tag in ["candidate-1", "candidate-2"] {
        assert_eq!(registry.pull_manifest("shop/api", tag).await, Some(twice.clone()), "{tag}");
    }
    assert_eq!(listed(&registry, "shop/api").await, json!(ALL_OF_API));
}

#[tokio::test]
async fn where_deletions_are_off_nothing_can_be_removed_either_way() {
    let Shop { registry, desk, .. } = shop(false).await;
    desk.run("plan").await.exits(0);
    desk.run("registries probe contoso").await.exits(3);
    for removal in ["untag", "manifest"] {
        let text = settings(&registry)
            .replace("\n[sources.releases]", &format!("removal = \"{removal}\"\n\n[sources.releases]"));
        desk.write("tagwarden.toml", &format!("mode = \"approved\"\n{text}"));
        let done = desk.run("plan --out plan.json").await.exits(3);
        assert!(done.out.contains("delete"), "{}", done.out);
        desk.run("apply plan.json").await.exits(3);
    }
    assert_eq!(listed(&registry, "shop/api").await, json!(ALL_OF_API));
    assert_eq!(listed(&registry, "shop/web").await.as_array().unwrap().len(), 5);
}
