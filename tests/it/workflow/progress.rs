//! The progress of a run while it goes on.

use http::Method;
use tagwarden::demo::registry::{Fault, FaultKind};
use tagwarden::report::{RunPhase, RunProgress};

use super::*;

#[tokio::test]
async fn a_run_publishes_its_progress_until_it_ends() {
    let walk = WorkflowFixture::new().await;
    walk.settings("enforce", "", "");
    let app = walk.open().await.unwrap();
    let progress = app.progress();
    let seen: Arc<Mutex<Vec<RunProgress>>> = Arc::default();
    for (path, method) in [("tags/list", Method::GET), ("manifests/candidate", Method::DELETE)] {
        let (noted, published) = (Arc::clone(&seen), progress.clone());
        let note = FaultKind::before_request(move |_| noted.lock().unwrap().extend(published.borrow().clone()));
        walk.registry.inject(Fault::on(path, note).method(method).times(1));
    }
    assert_eq!(*progress.borrow(), None);
    let ended = app.run(&()).await.unwrap();
    assert_eq!(*progress.borrow(), None);
    app.close().await;
    assert_eq!((ended.applied.len(), walk.remaining_tags().len()), (4, 0));

    let seen = seen.lock().unwrap().clone();
    let [reading, removing] = <[RunProgress; 2]>::try_from(seen).unwrap();
    assert_eq!((reading.phase, reading.started_at, reading.tasks), (RunPhase::Reading, walk.now(), None));
    assert_eq!((reading.totals().repositories_listed, reading.totals().repositories_done), (Some(1), 0));
    assert_eq!(reading.steps(), Some((0, 1)));
    assert_eq!(removing.phase, RunPhase::Removing);
    assert_eq!((removing.totals().repositories_done, removing.totals().tags_read), (1, 7));
    assert_eq!(removing.tasks.map(|tasks| (tasks.total, tasks.done)), Some((4, 0)));
    assert_eq!(
        (removing.requests_per_second, removing.seconds_left),
        (None, None),
        "no clock says how much time passed"
    );
}
