//! The write-ahead log of an open state: what becomes of it, and what is still written then.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use tagwarden::domain::Outcome;
use tagwarden::state::{StateErrorKind, StateStore};

use super::{end, fresh, intent, manifest, meddle, new_run, noon};
use crate::support::lease::lease;

fn log_of(state: &Path) -> PathBuf {
    let mut name = state.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// What becomes of the log of an open state.
type Accident = fn(&Path);

/// Swaps the file for another one with that content.
fn swap(log: &Path, content: &[u8]) {
    let new = log.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::rename(new, log).unwrap();
}

fn cut(log: &Path, length: u64) {
    File::options().write(true).open(log).unwrap().set_len(length).unwrap();
}

/// How many entries the next process finds in the journal; `None` where that may be any number.
type Left = Option<usize>;

#[cfg(unix)]
#[tokio::test]
async fn nothing_is_journaled_once_the_log_is_not_what_was_written() {
    let accidents: [(&str, Accident, &str, Left); 7] = [
        // What SQLite holds open is copied into the file when it closes.
        ("deleted", |log| fs::remove_file(log).unwrap(), "was deleted", Some(1)),
        ("swapped for an empty one", |log| swap(log, b""), "was replaced", Some(1)),
        ("swapped for its copy", |log| swap(log, &fs::read(log).unwrap()), "was replaced", Some(1)),
        ("swapped for another's", |log| swap(log, &[7; 5000]), "was replaced", Some(0)),
        ("emptied", |log| cut(log, 0), "was emptied, shortened or overwritten", Some(0)),
        ("cut", |log| cut(log, log.metadata().unwrap().len() - 1), "was emptied, shortened or overwritten", None),
        (
            "overwritten",
            |log| {
                let length = log.metadata().unwrap().len();
                cut(log, 0);
                cut(log, length);
            },
            "was emptied, shortened or overwritten",
            Some(0),
        ),
    ];
    for (what, accident, words, left) in accidents {
        let (folder, store) = fresh().await;
        let state = store.location().path().unwrap().to_owned();
        let (run, image) = (new_run(1, noon()), manifest("{}"));
        store.begin_run(&run).await.unwrap();
        let lease = lease(&store).await;
        let open = store.intend(&lease, run.id, &intent("c-1", &image), &image, noon()).await.unwrap().id();
        store.verify_file().unwrap();

        accident(&log_of(&state));
        let length = || log_of(&state).metadata().map_or(0, |data| data.len());
        let before = length();
        for error in [
            store.intend(&lease, run.id, &intent("c-2", &image), &image, noon()).await.unwrap_err(),
            store.record_outcome(open, &Outcome::Done(String::new()), noon()).await.unwrap_err(),
            store.begin_run(&new_run(2, noon())).await.unwrap_err(),
            store.verify_disk_space().await.unwrap_err(),
        ] {
            assert_eq!(error.kind, StateErrorKind::Replaced, "{what}: {error}");
            assert!(error.chain().contains(words) && error.chain().contains("-wal was "), "{what}: {error}");
        }
        assert_eq!(length(), before, "{what}: nothing is written behind a hole");
        store.close().await;

        // As another process finds it: in this one, what is still open would be shared.
        let copy = folder.path().join("copy/tagwarden.db");
        fs::create_dir(copy.parent().unwrap()).unwrap();
        fs::copy(&state, &copy).unwrap();
        if log_of(&state).exists() {
            fs::copy(log_of(&state), log_of(&copy)).unwrap();
        }
        let copy = StateStore::open(&copy).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        let entries = copy.journal(run.id).await.unwrap().len();
        assert!(left.is_none_or(|left| left == entries), "{what}: {entries} entries");
    }
}

/// Whoever else looks after the file, as a tool for backups does, may copy the log into it and restart it.
#[tokio::test]
async fn checkpoints_of_anybody_disturb_nothing() {
    let (folder, store) = fresh().await;
    let lease = lease(&store).await;
    let image = manifest("{}");
    let statements = [
        "PRAGMA wal_checkpoint(PASSIVE)",
        "PRAGMA wal_checkpoint(FULL)",
        "PRAGMA wal_checkpoint(RESTART)",
        "PRAGMA wal_checkpoint(TRUNCATE)",
        "VACUUM",
    ];
    for (number, statement) in statements.into_iter().enumerate() {
        let run = new_run(number as u128, noon());
        store.begin_run(&run).await.unwrap();
        let first = store.intend(&lease, run.id, &intent("c-1", &image), &image, noon()).await.unwrap().id();
        meddle(store.location().path().unwrap(), statement).await;
        let is_empty = log_of(store.location().path().unwrap()).metadata().unwrap().len() == 0;
        assert_eq!(is_empty, statement.contains("TRUNCATE"), "{statement}");
        store.verify_file().unwrap();
        store.intend(&lease, run.id, &intent("c-2", &image), &image, noon()).await.unwrap();
        store.record_outcome(first, &Outcome::Done(String::new()), noon()).await.unwrap();
        StateStore::back_up(store.location().path().unwrap(), &folder.path().join(format!("{number}.db")))
            .await
            .unwrap();
        store.verify_disk_space().await.unwrap();
        store.finish_run(run.id, &end(noon())).await.unwrap();
        store.verify_file().unwrap();
        assert_eq!(store.journal(run.id).await.unwrap().len(), 2, "{statement}");
    }
    store.close().await;
}
