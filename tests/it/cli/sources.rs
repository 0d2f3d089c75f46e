//! What a source says, found out by hand.

use serde_json::json;
use tagwarden::demo::registry::{EmbeddedRegistry, Options};

use super::{CliFixture, image};

const POLICY: &str = "policies:\n  - name: old\n    select: { tags: [\"*\"] }\n    keep: none\n";

/// A registry, and texts with a claim, a mention, an open reference and a claim on a tag that is not there.
async fn shop() -> (EmbeddedRegistry, CliFixture) {
    let registry = EmbeddedRegistry::start(Options::default()).await.unwrap();
    for (repository, tag) in
        [("shop/api", "v1"), ("shop/api", "v2.0.0"), ("shop/api", "v3"), ("shop/web", "w1"), ("shop/web", "w2")]
    {
        registry.put_image(repository, tag, &image(&format!("{repository}:{tag}"), "2024-01-01"));
    }
    let host = registry.host();
    let settings = format!(
        "[registries.contoso]\nkind = \"distribution\"\nendpoint = \"{}\"\n\n\
         [sources.deploy]\nkind = \"image-references\"\npaths = [\"deploy/*\"]\n",
        registry.url()
    );
    let desk = CliFixture::with(&[
        ("tagwarden.toml", &settings),
        ("policies/old.yaml", POLICY),
        ("deploy/api.yaml", &format!("image: {host}/shop/api:v1\n")),
        ("deploy/old.yaml", &format!("# gone since spring\nimage: {host}/shop/api:v9\n")),
        ("deploy/notes.md", "# Notes\n\nThe api is at 2.0.0 since Monday.\n"),
        ("deploy/job.yaml", &format!("image: {host}/shop/web:$(TAG)\n")),
    ]);
    (registry, desk)
}

#[tokio::test]
async fn a_source_is_shown_with_every_place_and_the_tags_that_it_protects() {
    let (registry, desk) = shop().await;
    let host = registry.host();
    let listed = desk.run("sources").await.exits(0);
    assert!(listed.out.contains("2 claims, 1 mention, 1 unresolved, protects 2 tags"), "{}", listed.out);
    let listed = desk.run("sources --format json").await.exits(0).json()["sources"].clone();
    let counts = ["claims", "mentions", "unresolved", "protects"].map(|key| listed[0][key].as_u64().unwrap());
    assert_eq!(counts, [2, 1, 1, 2]);
    assert_eq!(
        (&listed[0]["undecided"]["tags"], &listed[0]["undecided"]["place"]),
        (&json!(2), &json!("deploy/job.yaml:1"))
    );

    let shown = desk.run("sources show deploy").await.exits(0);
    let mut lines = shown.out.lines();
    for expected in [
        "deploy (image-references): answered, as of ",
        "  protects 2 tags, 1 of them by nothing but mentions",
        "  keeps 2 tags undecided",
        "Claims (2): images that it names",
        &format!("  {host}/shop/api:v1: deploy/api.yaml:1"),
        "    protects contoso/shop/api:v1, by its tag",
        &format!("  {host}/shop/api:v9: deploy/old.yaml:2"),
        "    names no tag that exists",
        "Mentions (1): ",
        "  `2.0.0`: deploy/notes.md:3",
        "    protects contoso/shop/api:v2.0.0",
        "Unresolved (1): ",
        ": deploy/job.yaml:1",
        "    keeps 2 tags of contoso/shop/web undecided",
        "    all of that only because of this reference",
        "To have them decided",
        "unresolved = \"note\"",
    ] {
        assert!(lines.any(|line| line.contains(expected)), "no {expected:?}, or not there, in\n{}", shown.out);
    }

    let shown = desk.run("sources show deploy --format json --all").await.exits(0).json();
    assert_eq!((&shown["schema"], &shown["name"]), (&json!("tagwarden.source/1"), &json!("deploy")));
    let v1 = json!([{ "registry": "contoso", "repository": "shop/api", "tag": "v1", "by": "tag" }]);
    assert_eq!(shown["claims"][0]["tags"], v1);
    assert_eq!((&shown["claims"][1]["tags"], &shown["claims"].as_array().unwrap().len()), (&json!([]), &2));
    assert_eq!(shown["mentions"][0]["images"], json!(["contoso/shop/api:v2.0.0"]));
    let open = &shown["unresolved"][0];
    assert!(open["text"].as_str().unwrap().contains("shop/web"), "{open:#}");
    assert_eq!((&open["undecided"], &open["undecided_only"]), (&json!(2), &json!(2)));
}

#[tokio::test]
async fn reports_name_the_places_and_lead_to_the_source() {
    let (_registry, desk) = shop().await;
    let plan = desk.run("plan --format json").await.exits(0).json();
    let urgent = plan["attention"].as_array().unwrap().iter().find(|one| one["kind"] == "unresolved").unwrap();
    let message = urgent["message"].as_str().unwrap();
    let begins = "source deploy keeps 2 tags of 1 repository undecided: deploy/job.yaml:1: ";
    assert!(message.starts_with(begins), "{message}");
    assert!(urgent["remedy"].as_str().unwrap().contains("`tagwarden sources show deploy`"), "{urgent:#}");
    for format in ["csv", "html", "markdown"] {
        let report = desk.run(&format!("plan --format {format}")).await.exits(0).out;
        for place in ["deploy/notes.md:3", "deploy/job.yaml:1"] {
            assert!(report.contains(place), "{format} does not name {place}:\n{report}");
        }
    }
    for (tag, words) in [
        ("shop/api:v2.0.0", "deploy/notes.md:3: the word `2.0.0` may mean it (source deploy; "),
        ("shop/api:v2.0.0", "the word `2.0.0` is gone from deploy/notes.md:3"),
        ("shop/web:w1", "leaves the tag open, so it may mean this one (source deploy; "),
        ("shop/web:w1", "deploy/job.yaml:1 names a tag instead of `"),
    ] {
        let said = desk.run(&format!("explain contoso/{tag}")).await.exits(0).out;
        assert!(said.contains(words), "no {words:?} in\n{said}");
    }
}

#[tokio::test]
async fn what_cannot_be_shown_is_told_with_its_exit_code() {
    let (_registry, desk) = shop().await;
    let done = desk.run("sources show nobody").await.exits(2);
    assert!(done.err.contains("unknown source `nobody`; known: `deploy`"), "{}", done.err);
    assert_eq!(done.out, "");
    desk.run("sources show").await.exits(2);
    std::fs::remove_dir_all(desk.path("deploy")).unwrap();
    let done = desk.run("sources show deploy").await.exits(5);
    assert!(done.out.starts_with("deploy (image-references): FAILED ("), "{}", done.out);
    let shown = desk.run("sources show deploy --format json").await.exits(5).json();
    assert_eq!((&shown["state"], &shown["claims"]), (&json!("failed"), &json!([])));
    assert!(shown["error"].as_str().unwrap().contains("deploy/*"), "{shown:#}");
}
