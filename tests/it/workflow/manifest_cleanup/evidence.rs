//! Evidence that changes while manifests are deleted.

use http::Method;
use tagwarden::domain::SkipReason;

use super::*;
use crate::workflow::evidence::RecordChange;

/// What happens to a record at the first deletion, the exit code, which of the other manifests stay, in the order in which
/// they would be removed, and the words of it.
#[tokio::test]
async fn what_is_said_while_manifests_are_deleted_counts_for_the_rest() {
    type Row = (&'static str, fn(&str) -> RecordChange, u8, [bool; 3], &'static str);
    let rows: [Row; 3] = [
        ("b", |last| RecordChange::Released(format!("shop/api:{last}")), 0, [false, false, true], "releases claims "),
        ("a", |_| RecordChange::Broken, 5, [true, true, true], "source releases failed, and could have claimed it"),
        ("b", |_| RecordChange::Released("shop/other:v1".to_owned()), 0, [false, false, false], ""),
    ];
    for (record, meanwhile, code, stay, words) in rows {
        let walk = WorkflowFixture::untagged().await;
        walk.with_releases("enforce", "");
        let mut order: Vec<(Digest, &str)> =
            EXPIRED_TAGS.iter().map(|tag| (walk.digest(REPOSITORY, tag), *tag)).collect();
        order.sort();
        let (change, now) = (walk.change_of(record, meanwhile(order[3].1)), Arc::clone(&walk.now));
        let fault = FaultKind::before_request(move |_| {
            change();
            *now.lock().unwrap() += SignedDuration::from_secs(30);
        });
        let first = Fault::on(&format!("manifests/{}", order[0].0), fault).method(Method::DELETE).times(1);
        walk.registry.inject(first);
        let came = walk.enforce().await;
        let staying = order[1..].iter().zip(stay).filter(|(_, stays)| *stays);
        let kept: Vec<&str> = staying.map(|((_, tag), _)| *tag).collect();
        let expected: Vec<(&str, &str)> = kept.iter().map(|tag| (*tag, "kept")).collect();
        let deleted = walk.deleted(&came, &[]).await;
        assert_eq!((came.code, deleted), (code, outcomes(None, &expected)), "{record}: {}", came.text);
        let told = came.result.unwrap().deleted.into_iter().filter_map(|one| match one.outcome {
            Outcome::Skipped(SkipReason::Kept(why)) => Some(why),
            _ => None,
        });
        let told: Vec<String> = told.collect();
        assert_eq!(told.len(), kept.len());
        assert!(told.iter().all(|why| why.contains(words)), "{told:?}");
        for (digest, tag) in order {
            assert_eq!(walk.manifests().contains(&digest), kept.contains(&tag), "{tag}");
        }
    }
}
