//! Commands in a folder without a state: what only reads creates none, and an empty answer is no fact.

use tagwarden::demo::registry::{EmbeddedRegistry, Options};

use super::{CliFixture, fill, record, settings};

const POLICIES: &str = "policies:\n  - { name: old, select: { tags: ['*'] }, keep: [{ newest: 1 }], mode: enforce }\n";

/// The warning that no run removed anything with this state.
const NEW: &str = "new state: ";

async fn shop() -> (EmbeddedRegistry, CliFixture) {
    let registry = EmbeddedRegistry::start(Options::default()).await.unwrap();
    fill(&registry, "shop/api", "c", 3);
    let mut desk = CliFixture::with(&[("policies/old.yaml", POLICIES), ("tagwarden.toml", &settings(&registry.url()))]);
    desk.write("releases/api.json", &record(&format!("{}/shop/api:c-3", registry.host())));
    desk.set("TAGWARDEN__MODE", "enforce");
    desk.set("TAGWARDEN__LIMITS__PERCENT", "100");
    (registry, desk)
}

#[tokio::test]
async fn reading_creates_no_state_and_a_first_run_warns_all_the_same() {
    let (_registry, desk) = shop().await;
    for command in [
        "runs",
        "runs --format json",
        "runs show last",
        "runs show last --policies",
        "holds",
        "holds --all --format json",
        "explain contoso/shop/api:c-1 --history",
        "explain contoso/shop/api:c-1 --run last",
        "unhold contoso/shop/api:c-1",
        "restore contoso/shop/api:c-1",
        "restore --run last --dry-run",
        "sources accept releases",
        "registries accept contoso",
    ] {
        let done = desk.run(command).await.exits(2);
        let words = "there is no state at tagwarden.db yet (`state` in tagwarden.toml)";
        assert!(done.err.contains(words) && done.out.is_empty(), "{command}: {}{}", done.out, done.err);
    }
    for command in [
        "explain contoso/shop/api:c-1",
        "explain contoso/shop/api",
        "sources",
        "sources show releases",
        "registries",
        "inventory",
        "diff --against policies",
    ] {
        let done = desk.run(command).await.exits(0);
        assert!(done.err.contains("note: there is no state at tagwarden.db yet"), "{command}: {}", done.err);
    }
    let names: Vec<_> = std::fs::read_dir(desk.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().contains(".db")), "{names:?}");

    // Neither a hold nor a dry run makes it a state that is known.
    desk.run("hold contoso/shop/api:c-1 --reason incident").await.exits(0);
    assert!(desk.path("tagwarden.db").exists());
    let first = desk.run("plan").await.exits(0);
    let second = desk.run("run").await.exits(0);
    let third = desk.run("run").await.exits(0);
    assert_eq!([first, second, third].map(|done| done.err.matches(NEW).count()), [1, 1, 0]);
}

#[tokio::test]
async fn a_list_of_no_runs_is_refused() {
    let (_registry, desk) = shop().await;
    desk.run("plan").await.exits(0);
    assert!(desk.run("runs --limit 0").await.exits(2).err.contains("write a number from 1 on"));
    assert!(desk.run("runs --limit 1").await.exits(0).out.contains(" plan "));
}

/// A mode of dry runs removes nothing, so nothing is to be warned about.
#[tokio::test]
async fn dry_runs_do_not_warn() {
    let (_registry, mut desk) = shop().await;
    desk.set("TAGWARDEN__MODE", "dry-run");
    for command in ["plan", "run"] {
        let done = desk.run(command).await.exits(0);
        assert!(!done.err.contains(NEW), "{command}: {}", done.err);
    }
    desk.set("TAGWARDEN__MODE", "enforce");
    assert!(desk.run("run").await.exits(0).err.contains(NEW), "no run before could remove");
}
