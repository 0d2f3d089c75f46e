//! `explain`, for a tag and for a repository, now and as a run of the past saw it.

use tagwarden::demo::registry::{EmbeddedRegistry, Fault, FaultKind, Options};

use super::{CliFixture, fill, record, settings, tags};

const POLICIES: &str = r#"policies:
  - name: candidates
    select: { repositories: ["shop/api"], tags: ["candidate-*"] }
    keep: [{ newest: 2 }, { within: 90y }]
"#;

async fn shop() -> (EmbeddedRegistry, CliFixture) {
    let registry = EmbeddedRegistry::start(Options::default()).await.unwrap();
    fill(&registry, "shop/api", "candidate", 4);
    let desk = CliFixture::with(&[
        ("tagwarden.toml", &settings(&registry.url())),
        ("policies/all.yaml", POLICIES),
        ("releases/api.json", &record(&format!("{}/shop/api:candidate-1", registry.host()))),
    ]);
    (registry, desk)
}

#[tokio::test]
async fn a_tag_is_told_rule_by_rule_with_the_time_at_which_it_goes() {
    let (_registry, desk) = shop().await;
    let done = desk.run("explain contoso/shop/api:candidate-2").await.exits(0);
    for words in [
        "candidates (dry-run) selects it",
        "newest: 2  does not keep it: 3rd newest (the rule keeps 2); cuts after candidate-3 of 2024-01-03 12:00 UTC",
        "within: 90y  keeps it: what is younger than 90y",
        "By time alone",
        "then policy candidates does not keep it: 3rd newest",
    ] {
        assert!(done.out.contains(words), "{words:?} is missing in:\n{}", done.out);
    }
    let json = desk.run("explain contoso/shop/api:candidate-2 --format json").await.exits(0).json();
    let at = json["forecast"]["at"].as_str().unwrap();
    let then = desk.run(&format!("explain contoso/shop/api:candidate-2 --format json --at {at}")).await.json();
    assert_eq!(then["verdict"], "expired", "{then:#}");
}

#[tokio::test]
async fn a_repository_is_told_as_a_timeline() {
    let (_registry, desk) = shop().await;
    let done = desk.run("explain contoso/shop/api").await.exits(0);
    let places =
        ["candidate-4", "candidate-3", "newest: 2 cuts here", "candidate-2", "candidate-1", "within: 90y cuts"];
    let found: Vec<Option<usize>> = places.iter().map(|words| done.out.find(words)).collect();
    assert!(found.iter().all(Option::is_some) && found.is_sorted(), "{found:?} in:\n{}", done.out);
    let json = desk.run("explain contoso/shop/api --format json").await.exits(0).json();
    assert_eq!(json["schema"], "tagwarden.timeline/1");
    assert_eq!(json["groups"][0]["tags"][0]["kept_by"][0], "newest: 2");
    let done = desk.run("explain contoso/shop/none").await.exits(2);
    assert!(done.err.contains("has no repository shop/none"), "{}", done.err);
}

#[tokio::test]
async fn a_run_of_the_past_is_told_as_it_was() {
    let (registry, mut desk) = shop().await;
    desk.set("TAGWARDEN__MODE", "enforce");
    desk.write(
        "policies/all.yaml",
        "policies:\n  - { name: candidates, select: { tags: [\"candidate-*\"] }, keep: [{ newest: 2 }], mode: enforce }\n",
    );
    desk.run("run").await.exits(0);
    assert_eq!(tags(&registry, "shop/api"), ["candidate-1", "candidate-3", "candidate-4"]);
    let runs = desk.run("runs --format json").await.exits(0).json()["runs"].clone();
    let id = runs[0]["id"].as_str().unwrap().to_owned();
    desk.write("policies/all.yaml", POLICIES);

    let done = desk.run(&format!("explain --run {id} contoso/shop/api:candidate-2")).await.exits(0);
    for words in [&*format!("As run {id} (run) decided"), "has expired", "What that run did", "done     untag"] {
        assert!(done.out.contains(words), "{words:?} is missing in:\n{}", done.out);
    }
    let done = desk.run(&format!("explain --run {id} contoso/shop/api")).await.exits(0);
    assert!(done.out.contains("candidate-2  expired") && done.out.contains("done     untag"), "{}", done.out);
    let json =
        desk.run(&format!("explain --run {id} contoso/shop/api:candidate-1 --format json")).await.exits(0).json();
    assert_eq!((&json["verdict"], &json["run"]["kind"]), (&"protected".into(), &"run".into()), "{json:#}");
    assert_eq!(json["journal"].as_array().unwrap().len(), 0);
    let done = desk.run(&format!("explain --run {id} contoso/shop/api:other")).await.exits(2);
    assert!(done.err.contains("knew no tag contoso/shop/api:other"), "{}", done.err);
    desk.run("explain --run 0 contoso/shop/api:other").await.exits(2);

    // A newer plan of everything takes the details of tags that stay along.
    desk.run("plan").await.exits(0);
    let words = "stored for the last complete plan only";
    for tag in ["", ":candidate-1", ":candidate-2"] {
        let done = desk.run(&format!("explain --run {id} contoso/shop/api{tag}")).await.exits(0);
        assert!(done.out.contains(words), "{words:?} is missing in:\n{}", done.out);
        assert_eq!(done.out.contains("has expired"), tag == ":candidate-2", "{}", done.out);
    }
    let json =
        desk.run(&format!("explain --run {id} contoso/shop/api:candidate-1 --format json")).await.exits(0).json();
    assert_eq!(json["kept_pruned"], true);
    assert!(desk.run(&format!("runs show {id}")).await.exits(0).out.contains(words));
}

/// What could not be read is not known: neither that there is no such tag, nor that it is held.
#[tokio::test]
async fn a_registry_that_cannot_be_read_makes_no_answer() {
    let (registry, desk) = shop().await;
    desk.run("plan").await;
    let refused = FaultKind::Status { status: 401, headers: vec![], body: String::new() };
    registry.inject(Fault::on("/v2/", refused));
    for (image, name) in [
        ("contoso/shop/api:candidate-9", "contoso/shop/api:candidate-9"),
        ("contoso/shop/api", "contoso/shop/api"),
        (&*format!("contoso/shop/api@sha256:{}", "0".repeat(64)), "contoso/shop/api@sha256:0000"),
    ] {
        let done = desk.run(&format!("explain {image}")).await.exits(5);
        assert!(done.err.contains(&format!("error: not known whether {name}")), "{}", done.err);
        assert!(!done.err.contains("has no") && done.out.is_empty(), "{}{}", done.out, done.err);
    }
    let done = desk.run("hold contoso/shop/api:candidate-1 --reason incident").await.exits(5);
    assert!(done.err.contains("not known whether contoso/shop/api:candidate-1 is there"), "{}", done.err);
    assert!(done.err.contains("`--anyway`"), "{}", done.err);
    let done = desk.run("sources").await.exits(5);
    assert!(done.out.contains("answered, 1 claim, not known what it protects"), "{}", done.out);
}
