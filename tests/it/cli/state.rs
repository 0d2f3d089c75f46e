//! Backing up the state.

use tagwarden::demo::registry::{EmbeddedRegistry, Options};
use tagwarden::state::StateStore;

use super::{CliFixture, fill, record, settings};

const POLICIES: &str = "policies:\n  - { name: old, select: { tags: ['*'] }, keep: [{ newest: 1 }] }\n";

#[tokio::test]
async fn a_backup_can_take_the_place_of_the_state() {
    let registry = EmbeddedRegistry::start(Options::default()).await.unwrap();
    fill(&registry, "shop/api", "c", 3);
    let desk = CliFixture::with(&[("policies/old.yaml", POLICIES), ("tagwarden.toml", &settings(&registry.url()))]);
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

/// The targets that cannot take a backup are found out before the state is read, which may take long.
#[tokio::test]
async fn a_backup_checks_its_target_first() {
    let desk = CliFixture::with(&[("tagwarden.toml", &settings("http://127.0.0.1:9")), ("folder/a", "")]);
    // Not a state: whatever reads it fails with another message.
    desk.write("tagwarden.db", "not a state");
    for (target, says, help) in [
        ("nowhere/copy.db", "cannot write nowhere/copy.db: ", "create its folder"),
        ("folder", "cannot write folder: ", "name a file in it"),
        ("folder/a", "cannot write folder/a: something is there already", "nothing is overwritten"),
        ("tagwarden.db", "cannot write tagwarden.db: the state itself is there", "name a file in another folder"),
        ("folder/../tagwarden.db-wal", "or keeps a file by that name", "name a file in another folder"),
        ("tagwarden.db.daemon.lock", "or keeps a file by that name", "name a file in another folder"),
        ("-", "this cannot be written to standard output", ""),
    ] {
        let done = desk.run(&format!("state backup {target}")).await.exits(2);
        assert!(done.err.contains(says) && done.err.contains(help), "{target}: {}", done.err);
    }
    let done = desk.run("state copy sqlite:tagwarden.db sqlite:nowhere/copy.db").await.exits(2);
    assert!(done.err.contains("nowhere/copy.db: ") && done.err.contains("create its folder"), "{}", done.err);
    let done = desk.run("state backup tagwarden.db-copy").await.exits(1);
    assert!(done.err.contains("tagwarden.db: "), "the state is read: {}", done.err);
}

/// A machine and its registry that were both wrong once: nothing is removed until a person says which time is right.
#[tokio::test]
async fn a_person_can_say_that_the_clock_is_right() {
    let registry = EmbeddedRegistry::start(Options::default()).await.unwrap();
    fill(&registry, "shop/api", "c", 3);
    let mut desk = CliFixture::with(&[("policies/old.yaml", POLICIES), ("tagwarden.toml", &settings(&registry.url()))]);
    desk.write("releases/api.json", &record(&format!("{}/shop/api:c-3", registry.host())));
    desk.set("TAGWARDEN__LIMITS__PERCENT", "100");
    desk.run("state accept-clock --reason test").await.exits(2);
    desk.run("plan").await.exits(0);
    let store = StateStore::open(&desk.path("tagwarden.db")).await.unwrap();
    store.confirm_time(uuid::Uuid::nil(), "2999-01-01T00:00:00Z".parse().unwrap()).await.unwrap();
    store.close().await;

    let plan = desk.run("plan").await.exits(3);
    assert!(plan.out.contains("CLOCK: this machine's clock is"), "{}", plan.out);
    assert!(plan.err.contains("nothing is recorded, removed or forgotten"), "{}", plan.err);
    desk.run("state accept-clock").await.exits(2);
    let said = desk.run("state accept-clock --reason dead-battery").await.exits(0).err;
    assert!(said.contains("instead of 2999-01-01T00:00:00Z"), "{said}");
    let plan = desk.run("plan").await.exits(0);
    assert!(!plan.out.contains("CLOCK"), "{}", plan.out);
}

/// What held removals back stood in it. A state that is made new says so, once and where it matters.
#[tokio::test]
async fn nothing_is_removed_by_a_state_that_was_emptied() {
    let registry = EmbeddedRegistry::start(Options::default()).await.unwrap();
    fill(&registry, "shop/api", "c", 3);
    let policies = POLICIES.replace(" }\n", ", mode: enforce }\n");
    let mut desk =
        CliFixture::with(&[("policies/old.yaml", &*policies), ("tagwarden.toml", &settings(&registry.url()))]);
    desk.write("releases/api.json", &record(&format!("{}/shop/api:c-3", registry.host())));
    desk.set("TAGWARDEN__MODE", "enforce");
    desk.set("TAGWARDEN__LIMITS__PERCENT", "100");
    desk.run("hold contoso/shop/api:c-1 --reason incident").await.exits(0);
    desk.write("tagwarden.db", "");
    for ending in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(desk.path(&format!("tagwarden.db{ending}")));
    }
    let commands = ["run", "plan", "runs", "holds", "hold contoso/shop/api:c-1 --reason incident", "state backup c.db"];
    for command in commands {
        let done = desk.run(command).await.exits(1);
        let says = "tagwarden.db: it is empty; it was left as it is: put back a backup";
        assert!(done.err.contains(says), "{command}: {}", done.err);
    }
    assert_eq!((super::tags(&registry, "shop/api").len(), desk.read("tagwarden.db").len()), (3, 0));

    std::fs::remove_file(desk.path("tagwarden.db")).unwrap();
    let new = "new state: no run could remove anything with it yet";
    let done = desk.run("run").await.exits(0);
    assert_eq!(done.err.matches(new).count(), 1, "{}", done.err);
    let done = desk.run("run").await.exits(0);
    assert!(!done.err.contains(new), "{}", done.err);
    std::fs::remove_file(desk.path("tagwarden.db")).unwrap();
    let done = desk.run("plan").await.exits(0);
    assert_eq!(done.err.matches(new).count(), 1, "a run would remove: {}", done.err);
}
