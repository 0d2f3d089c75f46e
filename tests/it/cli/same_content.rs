//! One registry that stands in the settings under two hosts: evidence that names one must not be missing for the other.

use tagwarden::demo::registry::{EmbeddedRegistry, Options};

use super::{CliFixture, fill, record, settings, tags};

const POLICY: &str =
    "policies:\n  - name: everything\n    select: { tags: [\"*\"] }\n    keep: [{ within: 14d }]\n    mode: enforce\n";

/// Two registries with the same images. As far as can be seen by their answers, they are one.
async fn twins() -> (EmbeddedRegistry, EmbeddedRegistry, CliFixture) {
    let (named, other) = (EmbeddedRegistry::start(Options::default()), EmbeddedRegistry::start(Options::default()));
    let (named, other) = (named.await.unwrap(), other.await.unwrap());
    for registry in [&named, &other] {
        fill(registry, "shop/api", "candidate", 3);
        fill(registry, "shop/web", "candidate", 2);
    }
    let mut desk = CliFixture::with(&[
        ("tagwarden.toml", &both(&named, &other, "")),
        ("policies/all.yaml", POLICY),
        ("releases/api.json", &record(&format!("{}/shop/api:candidate-3", named.host()))),
    ]);
    desk.set("TAGWARDEN__MODE", "enforce");
    desk.set("TAGWARDEN__LIMITS__PERCENT", "100");
    desk.set("TAGWARDEN__LIMITS__LEAVE", "0");
    desk.set("TAGWARDEN__LIMITS__UNTAG", "1000");
    (named, other, desk)
}

fn both(named: &EmbeddedRegistry, other: &EmbeddedRegistry, more: &str) -> String {
    let other = format!("[registries.fabrikam]\nkind = \"distribution\"\nendpoint = \"{}\"\n{more}", other.url());
    settings(&named.url()) + &other
}

#[tokio::test]
async fn nothing_goes_from_what_may_be_one_registry_under_two_names() {
    let (named, other, desk) = twins().await;
    let plan = desk.run("plan --format json").await.exits(3).json();
    let refusals = plan["refusals"].as_array().unwrap();
    let told = |at: usize| (refusals[at]["kind"].as_str().unwrap(), refusals[at]["message"].as_str().unwrap());
    assert_eq!((refusals.len(), told(0).0, told(1).0), (2, "same-content", "same-content"), "{refusals:#?}");
    let says = "it may be registry contoso under another name: 2 of 2 common repositories have";
    assert!(refusals.iter().any(|one| one["message"].as_str().unwrap().contains(says)), "{refusals:#?}");
    let text = desk.run("run").await.exits(3).out;
    assert!(text.contains("`accept = [\"same-content\"]`"), "{text}");
    for registry in [&named, &other] {
        assert_eq!(tags(registry, "shop/api").len(), 3);
        assert_eq!(tags(registry, "shop/web").len(), 2);
    }
    let refused = desk.run("plan --accept same-content --reason copy").await.exits(2).err;
    assert!(refused.contains("cannot be accepted in a plan"), "{refused}");
}

#[tokio::test]
async fn a_copy_is_cleaned_once_the_settings_say_that_it_is_one() {
    let (named, other, desk) = twins().await;
    desk.write("tagwarden.toml", &both(&named, &other, "accept = [\"same-content\"]\n"));
    desk.run("run").await.exits(0);
    assert_eq!(tags(&named, "shop/api"), ["candidate-3"], "its record holds it");
    assert!(tags(&other, "shop/api").is_empty(), "nobody names the copy");
}

#[tokio::test]
async fn registries_with_other_images_under_the_same_names_are_two() {
    let (named, other, desk) = twins().await;
    for registry in [&named, &other] {
        fill(registry, "shop/only", "candidate", 1);
    }
    fill(&other, "shop/api", "build", 28);
    fill(&other, "shop/web", "build", 28);
    let plan = desk.run("plan --format json").await.exits(0).json();
    assert_eq!(
        plan["refusals"].as_array().map(Vec::len).unwrap_or_default(),
        0,
        "one of three: {:#}",
        plan["refusals"]
    );
}
