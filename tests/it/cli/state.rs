//! Backing up the state.

use tagwarden::demo::registry::{EmbeddedRegistry, Options};

use super::{Desk, fill, settings};

const POLICIES: &str = "policies:\n  - { name: old, select: { tags: ['*'] }, keep: [{ newest: 1 }] }\n";

#[tokio::test]
async fn a_backup_can_take_the_place_of_the_state() {
    let registry = EmbeddedRegistry::start(Options::default()).await.unwrap();
    fill(&registry, "shop/api", "c", 3);
    let desk = Desk::with(&[("policies/old.yaml", POLICIES), ("tagwarden.toml", &settings(&registry.url()))]);
    desk.run("state backup early.db").await.exits(1);
    assert!(!desk.path("early.db").exists() && !desk.path("tagwarden.db").exists(), "nothing was made of nothing");
    desk.run("plan --out plan.json").await;
    assert!(desk.path("plan.json").exists());

    let done = desk.run("state backup copy.db").await.exits(0);
    assert!(done.err.contains("1 run, 0 journal entries"), "{}", done.err);
    let again = desk.run("state backup copy.db").await.exits(2);
    assert!(again.err.contains("something is there already"), "{}", again.err);
    // Whatever else is wrong.
    desk.write("policies/old.yaml", "nonsense: [");
    desk.run("plan").await.exits(2);
    desk.run("state backup second.db").await.exits(0);
    desk.write("policies/old.yaml", POLICIES);

    let before = desk.run("runs --format json").await.exits(0).out;
    for ending in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(desk.path(&format!("tagwarden.db{ending}")));
    }
    std::fs::rename(desk.path("copy.db"), desk.path("tagwarden.db")).unwrap();
    assert_eq!(desk.run("runs --format json").await.exits(0).out, before);
}
