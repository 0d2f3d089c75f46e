//! Accidents of the field that only a whole run can have.

use tagwarden::demo::registry::{EmbeddedRegistry, Fault, FaultKind, Options};

use super::{CliFixture, fill, names, record, settings, tags};

const POLICY: &str =
    "policies:\n  - name: old\n    select: { tags: [\"c-*\"] }\n    keep: [{ newest: 1 }]\n    mode: enforce\n";

async fn shop(count: u32) -> (EmbeddedRegistry, CliFixture) {
    let registry = EmbeddedRegistry::start(Options::default()).await.unwrap();
    fill(&registry, "shop/api", "c", count);
    let mut desk = CliFixture::with(&[
        ("tagwarden.toml", &settings(&registry.url())),
        ("policies/old.yaml", POLICY),
        ("releases/api.json", &record(&format!("{}/shop/api:c-{count}", registry.host()))),
    ]);
    desk.set("TAGWARDEN__MODE", "enforce");
    desk.set("TAGWARDEN__LIMITS__PERCENT", "100");
    (registry, desk)
}

/// `"dry_run": "true"` was read as false, and a duration that overflowed made everything eligible.
#[tokio::test]
async fn what_is_written_wrongly_is_an_error_and_never_permission() {
    let (registry, desk) = shop(4).await;
    let sound = settings(&registry.url());
    let files = [
        ("tagwarden.toml", format!("dry_run = \"true\"\n{sound}"), "unknown key `dry_run`"),
        ("tagwarden.toml", format!("dry-run = true\n{sound}"), "unknown key `dry-run`"),
        ("policies/old.yaml", POLICY.replace("mode: enforce", "mode: \"true\""), "unknown mode `true`"),
        ("policies/old.yaml", POLICY.replace("mode: enforce", "dry_run: \"true\""), "unknown key `dry_run`"),
        ("policies/old.yaml", POLICY.replace("newest: 1", "within: 999999d"), "999999d"),
        ("policies/old.yaml", POLICY.replace("newest: 1", "newest: 0"), "newest"),
        ("policies/old.yaml", String::new(), "old.yaml"),
    ];
    for (name, text, said) in files {
        let before = desk.read(name);
        desk.write(name, &text);
        let done = desk.run("run").await.exits(2);
        assert!(done.err.contains(said), "{text}\n{}", done.err);
        desk.write(name, &before);
    }
    assert_eq!(tags(&registry, "shop/api").len(), 4);
    desk.run("run").await.exits(0);
    assert_eq!(tags(&registry, "shop/api"), ["c-4"]);
}

/// Only running pods were looked at: what is scaled to zero, waits for its hour or is there to roll back to was lost.
#[tokio::test]
async fn what_does_not_run_at_this_moment_is_in_use_all_the_same() {
    let (registry, desk) = shop(6).await;
    let host = registry.host();
    let pinned = registry.tags("shop/api")["c-4"].clone();
    let pod = |image: &str| format!(r#"{{"spec": {{"containers": [{{"name": "api", "image": "{image}"}}]}}}}"#);
    let workload = |kind: &str, replicas: u32, image: &str| {
        let template = pod(image);
        format!(r#"{{"kind": "{kind}", "spec": {{"replicas": {replicas}, "template": {template}}}}}"#)
    };
    let scaled_to_zero = workload("Deployment", 0, &format!("{host}/shop/api:c-1"));
    let to_roll_back_to = workload("ReplicaSet", 0, &format!("{host}/shop/api:c-2"));
    let of_another_namespace = workload("StatefulSet", 1, &format!("{host}/shop/api@{pinned}"));
    let at_night = format!(
        r#"{{"kind": "CronJob", "spec": {{"jobTemplate": {{"spec": {{"template": {}}}}}}}}}"#,
        pod(&format!("{host}/shop/api:c-3"))
    );
    desk.write(
        "inventory/workloads.json",
        &format!(
            r#"{{"kind": "List", "items": [{scaled_to_zero}, {to_roll_back_to}, {of_another_namespace}, {at_night}]}}"#
        ),
    );
    let workloads = "\n[sources.workloads]\nkind = \"image-references\"\npaths = [\"inventory/*.json\"]\n";
    desk.write("tagwarden.toml", &format!("{}{workloads}", settings(&registry.url())));
    let plan = desk.run("run --format json").await.exits(0).json();
    assert_eq!(names(&plan, "removals"), ["shop/api:c-5"]);
    assert_eq!(tags(&registry, "shop/api"), ["c-1", "c-2", "c-3", "c-4", "c-6"]);
}

/// The repository list was cut short without a word, and cleanup skipped repositories.
#[tokio::test]
async fn a_repository_list_that_is_cut_short_is_told() {
    let (registry, desk) = shop(4).await;
    registry.inject(Fault::on("/v2/_catalog", FaultKind::ForeignLink("http://elsewhere.example/v2/_catalog".into())));
    let done = desk.run("plan").await.exits(5);
    assert!(done.out.contains("the list of repositories"), "{}", done.out);
}

/// A policy wiped every image of a registry; the repository is left with its last tags, and the run says why.
#[tokio::test]
async fn a_policy_that_would_wipe_everything_is_refused() {
    let (registry, mut desk) = shop(4).await;
    desk.write("policies/old.yaml", &POLICY.replace("[{ newest: 1 }]", "none"));
    desk.write("releases/api.json", &record(&format!("{}/another/repository:v1", registry.host())));
    let done = desk.run("run").await.exits(3);
    assert!(done.out.contains("leave"), "{}", done.out);
    desk.set("TAGWARDEN__LIMITS__PERCENT", "50");
    desk.run("run").await.exits(3);
    assert_eq!(tags(&registry, "shop/api").len(), 4);
}
