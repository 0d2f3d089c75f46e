//! The real binary, killed while it deletes, and started again.

use http::Method;

use super::super::crash::{KillTimes, command, ended};
use super::*;

const ROUNDS: u64 = 20;
const IMAGES: i64 = 40;
const FAMILIES: i64 = 12;

impl WorkflowFixture {
    fn deletions_asked(&self) -> usize {
        self.registry.requests().iter().filter(|request| request.method == Method::DELETE).count()
    }

    /// What is missing is journaled, as done or not settled yet, and nothing is journaled as done twice.
    async fn account(&self, before: &BTreeSet<Digest>, what: &str) {
        let (there, mut done, mut open) = (self.manifests(), BTreeSet::new(), BTreeSet::new());
        for entry in self.journal().await {
            if entry.intent.action != Action::DeleteUntagged {
                continue;
            }
            match entry.outcome {
                Some((Outcome::Done(_), _)) => {
                    assert!(done.insert(entry.intent.digest.clone()), "{what}: done twice: {}", entry.intent.digest);
                }
                None => _ = open.insert(entry.intent.digest.clone()),
                Some(_) => {}
            }
        }
        assert!(done.is_disjoint(&there), "{what}: journaled as done, and there");
        let missing: BTreeSet<Digest> = before.difference(&there).cloned().collect();
        assert_eq!(missing, done, "{what}: left: what is missing; right: what is journaled as deleted");
        assert!(open.is_subset(&there), "{what}: settled as far as it can be");
    }
}

/// At any request and at any write of the journal; what is left over goes when its time is over again, never before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_every_deletion_is_accounted_for() {
    let walk = WorkflowFixture::azure(|options| options).await;
    walk.policies(THEN);
    walk.real_time();
    let untagged_at = walk.now() - SignedDuration::from_hours(9 * 24);
    *walk.now.lock().unwrap() = untagged_at;
    for number in 0..IMAGES {
        walk.push(&format!("candidate-old-{number}"), 300 + number);
    }
    let families: Vec<ManifestTree> =
        (0..FAMILIES).map(|number| walk.family(&format!("candidate-index-{number}"))).collect();
    walk.settings("enforce", "", "");
    walk.enforce().await;
    let before = walk.manifests();
    let kept: BTreeSet<Digest> = walk.tags().into_values().collect();
    let hanging: BTreeSet<Digest> = families
        .iter()
        .flat_map(|family| family.index.children.iter().chain([&family.sbom, &family.signature, &family.of_child]))
        .map(|image| image.digest.clone())
        .collect();

    let mut moments = KillTimes(20_261_123);
    let mut in_the_middle = 0;
    for round in 0..ROUNDS {
        walk.real_time();
        walk.registry.clear_requests();
        let mut child = command(&walk, &["run"]).spawn().unwrap();
        let deletions = usize::try_from(1 + moments.next(5)).unwrap();
        while walk.deletions_asked() < deletions && child.try_wait().unwrap().is_none() {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        tokio::time::sleep(Duration::from_micros(moments.next(9000))).await;
        in_the_middle += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        ended(&mut child).await;
        walk.real_time();
        walk.plan().await;
        walk.account(&before, &format!("round {round}")).await;
    }
    assert!(in_the_middle > 10, "only {in_the_middle} of {ROUNDS} were killed while they deleted");

    // What depends on nothing any more was left over: it waits, however often a run comes by.
    walk.real_time();
    walk.advance_clock(1);
    walk.enforce().await;
    let hang =
        |manifests: BTreeSet<Digest>| -> BTreeSet<Digest> { manifests.intersection(&hanging).cloned().collect() };
    let left = hang(walk.manifests());
    assert!(!left.is_empty());
    walk.account(&before, "after the last round").await;
    walk.advance_clock(7 * 24);
    walk.enforce().await;
    assert_eq!(hang(walk.manifests()), left, "left over, and its time is not over again");
    walk.advance_clock(2 * 24);
    walk.enforce().await;
    walk.account(&before, "at the end").await;
    assert_eq!(walk.manifests(), kept, "nothing is left over for good");
    assert!(walk.journal().await.iter().all(|entry| entry.outcome.is_some()));
}
