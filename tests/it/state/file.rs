//! The state's file: whose it is, who may use it, and what becomes of it while it is open.

use std::path::Path;

use tagwarden::domain::Outcome;
use tagwarden::state::{Lease, StateErrorKind, StateStore};

use super::{fresh, intent, manifest, meddle, new_run, noon};
use crate::support::lease::lease;

#[tokio::test]
async fn a_state_that_cannot_be_used_says_why_and_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("text.db"), "these are minutes of a meeting").unwrap();
    meddle_into(&path("other.db"), "CREATE TABLE songs (title TEXT)").await;
    StateStore::open(&path("newer.db")).await.unwrap().close().await;
    meddle(&path("newer.db"), "UPDATE _sqlx_migrations SET version = 998 + version").await;
    StateStore::open(&path("damaged.db")).await.unwrap().close().await;
    let mut bytes = std::fs::read(path("damaged.db")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0xa5);
    std::fs::write(path("damaged.db"), bytes).unwrap();
    std::fs::write(path("empty.db"), "").unwrap();
    meddle_into(&path("hollow.db"), "PRAGMA journal_mode = wal").await;
    std::fs::create_dir(path("folder")).unwrap();

    let cases = [
        ("missing/tagwarden.db", StateErrorKind::Open, "does not exist"),
        ("text.db", StateErrorKind::Corrupt, "not an SQLite database"),
        ("empty.db", StateErrorKind::Corrupt, "is empty; it was left as it is: put back a backup, or move it away"),
        ("hollow.db", StateErrorKind::Corrupt, "is empty"),
        ("folder", StateErrorKind::Open, "it is a folder, not a regular file"),
        ("other.db", StateErrorKind::Open, "none of Tagwarden's"),
        ("newer.db", StateErrorKind::NewerSchema, "version 999"),
        ("damaged.db", StateErrorKind::Corrupt, "damaged"),
    ];
    for (name, kind, says) in cases {
        let before = std::fs::read(path(name)).ok();
        let error = StateStore::open(&path(name)).await.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.chain().contains(says) && error.chain().contains(name), "{error}");
        assert!(!error.chain().contains("***"), "the finding, and no heading: {error}");
        assert!(std::fs::read(path(name)).ok() == before, "{name} was changed");
    }
}

/// Opening a pipe would wait for whoever writes into it.
#[cfg(unix)]
#[tokio::test]
async fn what_is_not_a_file_is_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    assert!(std::process::Command::new("mkfifo").arg(path("pipe.db")).status().unwrap().success());
    std::os::unix::fs::symlink("pipe.db", path("link.db")).unwrap();
    std::fs::create_dir_all(path("folder.db/inner")).unwrap();
    for (name, what) in [("pipe.db", "a pipe"), ("link.db", "a pipe"), ("folder.db", "a folder")] {
        for error in [
            StateStore::open(&path(name)).await.unwrap_err(),
            StateStore::open_to_read(&path(name)).await.unwrap_err(),
            StateStore::back_up(&path(name), &path("copy.db")).await.unwrap_err(),
            Lease::take(&path(name), "x").unwrap_err(),
            Lease::take_daemon(&path(name), "x").unwrap_err(),
            Lease::holder(&path(name)).unwrap_err(),
        ] {
            assert_eq!(error.kind, StateErrorKind::Open, "{error}");
            assert!(error.chain().contains(&format!("it is {what}")), "{error}");
        }
    }
}

/// What is no text, or no number, was not written by Tagwarden.
#[tokio::test]
async fn a_value_that_cannot_be_read_is_damage() {
    let (_folder, store) = fresh().await;
    store.begin_run(&new_run(1, noon())).await.unwrap();
    meddle(store.location().path().unwrap(), "UPDATE runs SET started_by = CAST(x'ff41' AS TEXT)").await;
    let error = store.runs(10).await.unwrap_err();
    assert_eq!(error.kind, StateErrorKind::Corrupt, "{error}");
    assert!(error.chain().contains("utf-8") && error.chain().contains("put back a backup"), "{error}");
}

async fn meddle_into(path: &Path, statement: &'static str) {
    std::fs::File::create(path).unwrap();
    meddle(path, statement).await;
}

#[tokio::test]
async fn two_processes_may_start_on_a_new_state_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tagwarden.db");
    let opened = futures::future::join_all((0..6).map(|_| StateStore::open(&path))).await;
    for (number, store) in opened.into_iter().enumerate() {
        store.unwrap().begin_run(&new_run(number as u128, noon())).await.unwrap();
    }
    assert_eq!(StateStore::open(&path).await.unwrap().runs(100).await.unwrap().len(), 6);
}

#[cfg(unix)]
#[tokio::test]
async fn a_new_state_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_folder, store) = fresh().await;
    let lease = Lease::take(store.location().path().unwrap(), "me").unwrap();
    for suffix in ["", "-wal", "-shm", ".lock"] {
        let mode = std::fs::metadata(format!("{}{suffix}", store.location().path().unwrap().display()))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{suffix}");
    }
    drop(lease);
}

#[test]
fn one_process_at_a_time_has_the_lease() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("tagwarden.db");
    let lease = Lease::take(&state, "serve by tagwarden@node-1, pid 12, since 2026-11-23T03:00:00Z").unwrap();
    let error = Lease::take(&state, "apply by alice@laptop").unwrap_err();
    assert_eq!(error.kind, StateErrorKind::Leased);
    assert!(error.chain().contains("in use by serve by tagwarden@node-1, pid 12"), "{error}");
    drop(lease);
    let _lease = Lease::take(&state, "apply").unwrap();
    let error = Lease::take(&state, "x").unwrap_err();
    assert!(error.chain().contains("in use by apply;"), "nothing is left of the longer text: {error}");
}

/// Whatever names lead to a state's file, there is one lease of each kind.
#[cfg(unix)]
#[tokio::test]
async fn all_paths_to_a_state_share_its_leases() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("real")).unwrap();
    symlink(path("real"), path("folder")).unwrap();
    symlink("real/tagwarden.db", path("file.db")).unwrap();
    symlink("file.db", path("twice.db")).unwrap();
    let real = path("real/tagwarden.db");
    let others = [path("folder/tagwarden.db"), path("real/../folder/tagwarden.db"), path("file.db"), path("twice.db")];

    // Before there is a file, as a daemon takes it.
    let early = Lease::take_daemon(&others[0], "serve at another path").unwrap();
    assert_eq!(Lease::take_daemon(&real, "x").unwrap_err().kind, StateErrorKind::Leased);
    drop(early);
    StateStore::open(&real).await.unwrap().close().await;
    for other in &others {
        let (lease, daemon) = (Lease::take(other, "run").unwrap(), Lease::take_daemon(other, "serve").unwrap());
        for path in others.iter().chain([&real]) {
            assert_eq!(Lease::take(path, "x").unwrap_err().kind, StateErrorKind::Leased, "{}", path.display());
            assert_eq!(Lease::take_daemon(path, "x").unwrap_err().kind, StateErrorKind::Leased, "{}", path.display());
        }
        drop((lease, daemon));
    }

    std::fs::hard_link(&real, path("second.db")).unwrap();
    for path in [&real, &path("second.db"), &others[2]] {
        let error = Lease::take(path, "x").unwrap_err();
        assert!(error.chain().contains("2 names (hard links)"), "{error}");
        Lease::take_daemon(path, "x").unwrap_err();
    }
    std::fs::remove_file(path("second.db")).unwrap();
    Lease::take(&real, "x").unwrap();
}

/// What becomes of the file of an open state.
type Accident = fn(&Path, &Path);

#[cfg(unix)]
#[tokio::test]
async fn nothing_is_journaled_into_a_file_that_is_no_longer_there() {
    let accidents: [(&str, Accident); 4] = [
        ("deleted", |state, _| std::fs::remove_file(state).unwrap()),
        ("moved away", |state, aside| std::fs::rename(state, aside.join("kept.db")).unwrap()),
        ("replaced by its copy", |state, aside| {
            std::fs::copy(state, aside.join("copy.db")).unwrap();
            std::fs::rename(aside.join("copy.db"), state).unwrap();
        }),
        ("deleted with its folder", |state, _| std::fs::remove_dir_all(state.parent().unwrap()).unwrap()),
    ];
    for (what, accident) in accidents {
        let (folder, aside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let state = folder.path().join("inner/tagwarden.db");
        std::fs::create_dir(state.parent().unwrap()).unwrap();
        let store = StateStore::open(&state).await.unwrap();
        let (run, image) = (new_run(1, noon()), manifest("{}"));
        store.begin_run(&run).await.unwrap();
        let lease = lease(&store).await;
        let open = store.intend(&lease, run.id, &intent("c-1", &image), &image, noon()).await.unwrap().id();
        store.verify_file().unwrap();

        accident(&state, aside.path());
        for error in [
            store.verify_file().unwrap_err(),
            store.intend(&lease, run.id, &intent("c-2", &image), &image, noon()).await.unwrap_err(),
            store.record_outcome(open, &Outcome::Done(String::new()), noon()).await.unwrap_err(),
            store.begin_run(&new_run(2, noon())).await.unwrap_err(),
        ] {
            assert_eq!(error.kind, StateErrorKind::Replaced, "{what}: {error}");
            assert!(error.chain().contains("restart tagwarden"), "{what}: {error}");
        }
        if what == "moved away" {
            std::fs::rename(aside.path().join("kept.db"), &state).unwrap();
            store.record_outcome(open, &Outcome::Done(String::new()), noon()).await.unwrap();
        }
    }
}

/// Ages of tags and the journal must not wait in the log for some later time.
#[tokio::test]
async fn the_file_itself_is_never_empty_for_long() {
    let (folder, store) = fresh().await;
    let runs_in = async |copy: &str| {
        let copy = folder.path().join(copy);
        std::fs::copy(store.location().path().unwrap(), &copy).unwrap();
        StateStore::open(&copy).await.unwrap().runs(10).await.unwrap().len()
    };
    let size = std::fs::metadata(store.location().path().unwrap()).unwrap().len();
    assert!(size > 0, "its tables are in the file once it is open");
    let run = new_run(1, noon());
    store.begin_run(&run).await.unwrap();
    store.finish_run(run.id, &super::end(noon())).await.unwrap();
    assert_eq!(runs_in("copy.db").await, 1, "a run that ended is in the file");
}

/// A backup is whole although everything is still in the log, and although others write meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backup_beside_writers_is_whole_and_overwrites_nothing() {
    let (folder, store) = fresh().await;
    let (run, image) = (new_run(1, noon()), manifest("{}"));
    store.begin_run(&run).await.unwrap();
    let lease = lease(&store).await;
    store.intend(&lease, run.id, &intent("c-0", &image), &image, noon()).await.unwrap();
    let writer = tokio::spawn({
        let (store, image) = (store.clone(), image.clone());
        async move {
            for number in 1..200 {
                store.intend(&lease, run.id, &intent(&format!("c-{number}"), &image), &image, noon()).await.unwrap();
            }
        }
    });
    let mut before = 1;
    for number in 0..5 {
        let target = folder.path().join(format!("{number}.db"));
        let backup = StateStore::back_up(store.location().path().unwrap(), &target).await.unwrap();
        assert!(backup.runs == 1 && backup.entries >= before, "{backup:?}");
        before = backup.entries;
        let error = StateStore::back_up(store.location().path().unwrap(), &target).await.unwrap_err();
        assert_eq!(error.kind, StateErrorKind::Exists, "{error}");

        let copy = StateStore::open(&target).await.unwrap();
        let entries = copy.journal(run.id).await.unwrap();
        assert!(entries.len() as u64 >= backup.entries);
        for entry in &entries {
            assert_eq!(copy.manifest_of(entry).await.unwrap(), image);
        }
        copy.close().await;
    }
    writer.await.unwrap();
    let names = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let strange: Vec<_> = names.filter(|name| name.to_string_lossy().starts_with('.')).collect();
    assert!(strange.is_empty(), "{strange:?}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(folder.path().join("0.db")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[tokio::test]
async fn a_backup_of_what_is_no_sound_state_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    StateStore::open(&path("damaged.db")).await.unwrap().close().await;
    let mut bytes = std::fs::read(path("damaged.db")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0xa5);
    std::fs::write(path("damaged.db"), bytes).unwrap();
    meddle_into(&path("other.db"), "CREATE TABLE songs (title TEXT)").await;
    std::fs::write(path("empty.db"), "").unwrap();
    std::fs::create_dir(path("folder")).unwrap();
    let sound = path("sound.db");
    StateStore::open(&sound).await.unwrap().close().await;

    for state in ["missing.db", "damaged.db", "other.db", "empty.db", "folder"] {
        StateStore::back_up(&path(state), &path("copy.db")).await.unwrap_err();
        assert!(!path("copy.db").exists() && !path("missing.db").exists(), "{state}");
    }
    let error = StateStore::back_up(&sound, &path("nowhere/copy.db")).await.unwrap_err();
    assert_eq!(error.kind, StateErrorKind::Backup, "{error}");
    let error = StateStore::back_up(&sound, &sound).await.unwrap_err();
    assert_eq!(error.kind, StateErrorKind::Exists, "{error}");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("dangling", path("link.db")).unwrap();
        assert_eq!(StateStore::back_up(&sound, &path("link.db")).await.unwrap_err().kind, StateErrorKind::Exists);
    }
}
