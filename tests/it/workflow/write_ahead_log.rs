//! The state's write-ahead log is taken away in the middle of a run.

use http::Method;
use tagwarden::demo::registry::{Fault, FaultKind};
use tagwarden::state::StateErrorKind;

use super::*;

/// What becomes of the log and its index; the path is that of the state, without its ending.
type Accident = fn(&str);

/// Removals went on for as long as the process lived, and their entries were lost with it.
#[cfg(unix)]
#[tokio::test]
async fn nothing_more_is_removed_once_the_log_is_gone() {
    let accidents: [(&str, Accident); 2] = [
        ("deleted", |state| {
            for ending in ["-wal", "-shm"] {
                fs::remove_file(format!("{state}{ending}")).unwrap();
            }
        }),
        ("emptied", |state| fs::write(format!("{state}-wal"), "").unwrap()),
    ];
    for (what, accident) in accidents {
        let walk = WorkflowFixture::new().await;
        walk.settings("enforce", "concurrency = 1", "");
        let state = walk.path("tagwarden.db").to_str().unwrap().to_owned();
        let take_away = FaultKind::before_request(move |_| accident(&state));
        walk.registry.inject(Fault::on("manifests/candidate", take_away).method(Method::DELETE).times(1));
        let app = walk.open().await.unwrap();
        let ended = app.run(&()).await;
        app.close().await;
        let Err(RunError::Store(error)) = ended else { panic!("{what}: {ended:?}") };
        assert_eq!(error.kind, StateErrorKind::Replaced, "{what}: {error}");
        assert!(error.chain().contains("write-ahead log"), "{what}: {error}");
        assert_eq!(walk.remaining_tags().len(), 3, "{what}: the one in flight, and no other");

        walk.advance_clock(1);
        walk.plan().await;
        if what == "deleted" {
            // What was written into the file without a name is there, and what was open is found out.
            walk.audit(None).await;
            assert_eq!(walk.journal().await.len(), 1);
        }
    }
}
