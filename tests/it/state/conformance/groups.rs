//! Many journal entries at once: they share a write, and each gets its own answer.

use futures::future::{BoxFuture, join_all};
use jiff::ToSpan as _;
use tagwarden::domain::{Action, Hold, HoldOrigin, Intent, JournalId, Outcome, SkipReason};
use tagwarden::registry::RawManifest;
use tagwarden::state::{LeaseToken, RestoreRecord, StateError, StateErrorKind, StateStore};
use uuid::Uuid;

use crate::state::{intent, manifest, new_run, noon};
use crate::support::lease::lease;

type Answer<'a> = BoxFuture<'a, Result<JournalId, StateError>>;

/// So many removals that some of them are written by a statement for many, and some alone.
const COUNT: usize = 75;

pub(super) async fn journal_groups(store: &StateStore) {
    let (lease, run) = (lease(store).await, new_run(1, noon()));
    store.begin_run(&run).await.unwrap();
    let at_endpoint =
        |tag: &str, image: &RawManifest| Intent { endpoint: Some("https://r.example".into()), ..intent(tag, image) };
    let removals: Vec<(Intent, RawManifest)> = (0..COUNT)
        .map(|number| (format!("v{number:02}"), manifest(&format!("{{\"n\":{}}}", number / 2))))
        .map(|(tag, image)| (at_endpoint(&tag, &image), image))
        .collect();
    let hold = Hold {
        registry: removals[0].0.registry.clone(),
        endpoint: "https://r.example".into(),
        repository: removals[0].0.repository.clone(),
        tag: "v05".parse().unwrap(),
        digest: None,
        reason: "in use\0\"".to_owned(),
        by: "ada@here".to_owned(),
        since: noon(),
        until: noon() + 1.hour(),
        origin: HoldOrigin::Person,
    };
    assert!(store.hold(&hold).await.unwrap());

    let missing = Outcome::Skipped(SkipReason::Missing);
    let unknown = Uuid::from_u128(77);
    let intend = |(number, (intent, image)): (usize, &'_ (Intent, RawManifest))| -> Answer<'_> {
        let (lease, store) = (lease.clone(), store.clone());
        let (intent, image, missing) = (intent.clone(), image.clone(), missing.clone());
        Box::pin(async move {
            match number % 5 {
                0 => store
                    .intend(&lease, run_of(number, run.id, unknown), &intent, &image, noon())
                    .await
                    .map(|done| done.id()),
                4 => store.record_not_attempted(&lease, run.id, &intent, &missing, noon()).await,
                _ => store.intend_without_manifest(&lease, run.id, &intent, noon()).await.map(|done| done.id()),
            }
        })
    };
    let answers = join_all(removals.iter().enumerate().map(intend)).await;
    let mut ids = Vec::new();
    for (number, (answer, (intent, image))) in answers.into_iter().zip(&removals).enumerate() {
        match answer {
            Ok(id) => {
                let entry = store.journal_entry(id).await.unwrap();
                assert_eq!((&entry.intent, entry.run), (intent, run.id), "{number}");
                assert_eq!(entry.outcome.is_some(), number % 5 == 4, "{number}");
                if number % 5 == 0 {
                    assert_eq!(store.manifest_of(&entry).await.unwrap().bytes, image.bytes);
                }
                ids.push((number, id));
            }
            Err(error) => {
                let expected = if number == 5 { StateErrorKind::Held } else { StateErrorKind::Constraint };
                assert_eq!((error.kind, number == 5 || number == 40), (expected, true), "{number}: {error}");
            }
        }
    }
    assert_eq!(ids.len(), COUNT - 2);
    assert!(ids.is_sorted_by_key(|(_, id)| *id), "in the order in which they were given");
    assert_eq!(store.journal(run.id).await.unwrap().len(), COUNT - 2);

    let outcome = |number: usize| match number % 5 {
        0 => Outcome::Done(format!("id-{number}\0")),
        1 => Outcome::Failed("refused".to_owned()),
        _ => Outcome::Skipped(SkipReason::Kept(format!("why {number}"))),
    };
    let settle = |&(number, id): &(usize, JournalId)| store_outcome(store, id, outcome(number));
    // Twice: of two outcomes of an entry in one write, the first stands.
    let answers = join_all(ids.iter().map(settle).chain(ids.iter().map(settle))).await;
    for ((number, id), answer) in ids.iter().chain(&ids).zip(&answers[..ids.len()]) {
        assert_eq!(answer.is_ok(), number % 5 != 4, "{number}");
        if number % 5 != 4 {
            let entry = store.journal_entry(*id).await.unwrap();
            assert_eq!(label(&entry.outcome.unwrap().0), label(&outcome(*number)));
        }
    }
    assert!(answers[ids.len()..].iter().all(|answer| answer.as_ref().unwrap_err().kind == StateErrorKind::LeaseLost));
    assert_eq!(store.pending_entries().await.unwrap(), []);
    // What a restore writes beside its entry is completed or taken back with others in one write.
    restores(store, (&lease, run.id), &removals).await;
}

/// One of a run that was never recorded.
fn run_of(number: usize, run: Uuid, unknown: Uuid) -> Uuid {
    if number == 40 { unknown } else { run }
}

fn label(outcome: &Outcome) -> String {
    format!("{outcome:?}").replace("\\0", "").replace('\u{fffd}', "")
}

fn store_outcome(store: &StateStore, id: JournalId, outcome: Outcome) -> BoxFuture<'_, Result<(), StateError>> {
    Box::pin(async move { store.record_outcome(id, &outcome, noon() + 1.second()).await })
}

async fn restores(store: &StateStore, (lease, run): (&LeaseToken, Uuid), removals: &[(Intent, RawManifest)]) {
    let before = store.holds(noon()).await.unwrap().len();
    let puts: Vec<(Intent, &RawManifest, RestoreRecord)> = removals[10..22]
        .iter()
        .map(|(removal, image)| {
            let hold = Hold {
                registry: removal.registry.clone(),
                endpoint: "https://r.example".into(),
                repository: removal.repository.clone(),
                tag: removal.tag.clone(),
                digest: Some(image.digest.clone()),
                reason: "restored".to_owned(),
                by: "ada@here".to_owned(),
                since: noon(),
                until: noon() + 1.hour(),
                origin: HoldOrigin::Restore,
            };
            let record = RestoreRecord { original: None, hold: Some(hold) };
            (Intent { action: Action::Restore, ..removal.clone() }, image, record)
        })
        .collect();
    let intents =
        puts.iter().map(|(put, image, record)| store.intend_restore(lease, run, put, image, record.clone(), noon()));
    let ids: Vec<JournalId> = join_all(intents).await.into_iter().map(|done| done.unwrap().id()).collect();
    assert_eq!(store.holds(noon()).await.unwrap().len(), before + puts.len());
    let settle = |(number, id): (usize, &JournalId)| {
        let outcome = if number % 3 == 0 { Outcome::Failed("full".to_owned()) } else { Outcome::Done(String::new()) };
        store_outcome(store, *id, outcome)
    };
    assert!(join_all(ids.iter().enumerate().map(settle)).await.iter().all(Result::is_ok));
    assert_eq!(store.holds(noon()).await.unwrap().len(), before + puts.len() * 2 / 3, "those that were put");
}
