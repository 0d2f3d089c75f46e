//! The contracts of the state's traits, which every backend keeps: one function for each trait, over a fresh state.
//!
//! A backend is one more line in `suite!`. What only concerns files of SQLite is in the modules beside this one.

mod groups;
mod holds;
mod registries;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use jiff::ToSpan as _;
use tagwarden::domain::{
    Action, DateOrigin, Digest, Intent, Inventory, OriginalDate, Outcome, Registry, Repository, SkipReason, Tag,
    TagName,
};
use tagwarden::registry::RawManifest;
use tagwarden::state::{
    ChunkCounts, JournalScope, JournalTotals, LeaseScope, NewRun, PlanChunk, RecordedPolicy, RepositoryPlan,
    RestoreRecord, RunContext, RunEnd, RunKind, RunRecord, StateErrorKind, StateStore, UntagRecord,
};
use uuid::Uuid;

use super::{end, intent, manifest, new_run, noon};
use crate::support::lease::lease;
use groups::journal_groups;
use holds::holds;
use registries::{
    catalogues, figures, free_manifests, maintenance, manifest_cache, notifications, observations, recorded_times,
    refused_tags, registry_addresses, registry_experience, rule_matches, rule_revisions, rule_revisions_pruned,
    schedules, source_history, storage, tag_lists,
};

/// Runs all cases against one backend, each on a state that `$fresh` makes.
macro_rules! backend {
    ($name:ident, $fresh:path, $($case:ident),+) => {
        mod $name {
            $(
                #[tokio::test]
                async fn $case() {
                    let (_folder, store) = $fresh().await;
                    super::$case(&store).await;
                }
            )+
        }
    };
}

/// Runs all cases against all backends.
macro_rules! suite {
    ($($case:ident),+ $(,)?) => {
        backend!(sqlite, crate::state::fresh, $($case),+);
        #[cfg(target_os = "linux")]
        backend!(postgres, crate::support::postgres::fresh, $($case),+);
        #[cfg(target_os = "linux")]
        backend!(pgbouncer, crate::support::pgbouncer::fresh, $($case),+);
    };
}

suite!(
    runs,
    plans,
    journal,
    journal_groups,
    restored_tags,
    untagged_manifests,
    missing_manifests,
    holds,
    stop_requests,
    leases,
    registry_leases,
    superseded_entries,
    policy_records,
    rule_matches,
    rule_revisions,
    rule_revisions_pruned,
    figures,
    schedules,
    recorded_times,
    notifications,
    manifest_cache,
    observations,
    tag_lists,
    catalogues,
    registry_addresses,
    registry_experience,
    refused_tags,
    free_manifests,
    source_history,
    maintenance,
    storage,
);

const ENDPOINT: &str = "https://contoso.azurecr.io";

fn at_endpoint(tag: &str, image: &RawManifest) -> Intent {
    Intent { endpoint: Some(ENDPOINT.into()), ..intent(tag, image) }
}

fn done() -> Outcome {
    Outcome::Done(String::new())
}

/// An inventory of one repository with these tags and the texts behind their digests.
fn inventory(tags: &[(&str, &str)]) -> Inventory {
    let mut repository = Repository::empty("shop/api".parse().unwrap());
    repository.tags = tags
        .iter()
        .map(|(name, text)| Tag {
            name: name.parse().unwrap(),
            digest: Some(Digest::of(text.as_bytes())),
            pushed_at: None,
            first_seen: None,
            lock: None,
        })
        .collect();
    let registry = Registry::empty("contoso".parse().unwrap(), "distribution");
    Inventory {
        registries: vec![Registry { endpoint: ENDPOINT.to_owned(), repositories: vec![repository], ..registry }],
    }
}

async fn runs(store: &StateStore) {
    assert_eq!(store.runs(10).await.unwrap(), []);
    assert_eq!(store.run("0193").await.unwrap(), None);
    // In the order in which they are recorded, whatever their clock says.
    let runs: Vec<_> = (0_u8..3).map(|number| new_run(number.into(), noon() - i64::from(number).hours())).collect();
    let context = RunContext {
        revision: Some("r".into()),
        override_reason: Some("urgent".into()),
        signed_by: Some("Ada".into()),
        ..RunContext::default()
    };
    store.begin_run(&runs[0]).await.unwrap();
    store.begin_run_with_context(&runs[1], &context).await.unwrap();
    store.begin_run(&runs[2]).await.unwrap();
    assert_eq!(store.begin_run(&runs[0]).await.unwrap_err().kind, StateErrorKind::Constraint, "an id is taken once");
    let ids = |found: Vec<RunRecord>| found.iter().map(|run| run.run.id).collect::<Vec<_>>();
    assert_eq!(ids(store.runs(10).await.unwrap()), [runs[2].id, runs[1].id, runs[0].id]);
    assert_eq!(ids(store.runs(1).await.unwrap()), [runs[2].id]);
    assert_eq!(ids(store.runs_before(Some(runs[2].id), 1).await.unwrap()), [runs[1].id]);
    assert!(store.runs_before(Some(runs[0].id), 9).await.unwrap().is_empty());
    assert_eq!(ids(store.runs_before(None, 2).await.unwrap()), [runs[2].id, runs[1].id]);

    assert_eq!(store.run_context(runs[1].id).await.unwrap(), context);
    assert_eq!(store.run_context(runs[0].id).await.unwrap(), RunContext::default());
    let record = store.run(&runs[0].id.to_string()).await.unwrap().unwrap();
    assert_eq!((&record.run, &record.plan_id, &record.end), (&runs[0], &None, &None));
    assert_eq!(store.run("0193").await.unwrap_err().kind, StateErrorKind::Ambiguous);
    store.finish_run(runs[0].id, &end(noon())).await.unwrap();
    let record = store.run(&runs[0].id.to_string()).await.unwrap().unwrap();
    assert_eq!(record.end, Some(end(noon())));
    assert_eq!(store.finish_run(Uuid::nil(), &end(noon())).await.unwrap_err().kind, StateErrorKind::Missing);

    let (lease, image) = (lease(store).await, manifest("{}"));
    let outcomes = [done(), Outcome::Failed("500".into()), Outcome::Skipped(SkipReason::Missing)];
    for (number, outcome) in outcomes.iter().enumerate() {
        let removed = intent(&format!("c-{number}"), &image);
        store.record_not_attempted(&lease, runs[0].id, &removed, outcome, noon()).await.unwrap();
    }
    store.intend(&lease, runs[1].id, &intent("pending", &image), &image, noon()).await.unwrap();
    let totals = store.journal_totals(&[runs[0].id, runs[1].id]).await.unwrap();
    let expected = JournalTotals { removed: 1, failed: 1, skipped: 1, ..JournalTotals::default() };
    assert_eq!(totals, BTreeMap::from([(runs[0].id, expected)]), "what is pending counts nowhere");

    assert_eq!(runs[1].kind, RunKind::Apply);
    let refused = RunEnd { outcome: "refused".into(), error: Some("too old".into()), ..end(noon()) };
    let ticketed = NewRun { ticket: Some("T-1".into()), ..new_run(9, noon()) };
    store.begin_run(&ticketed).await.unwrap();
    store.finish_run(ticketed.id, &refused).await.unwrap();
    assert!(store.was_refused("T-1", "too old").await.unwrap());
    assert!(!store.was_refused("T-1", "too new").await.unwrap() && !store.was_refused("T-2", "too old").await.unwrap());
    for run in &runs[..2] {
        store.save_plan(run.id, "sha256:p", r#"{"hypothetical":false}"#, &mut std::iter::empty()).await.unwrap();
    }
    assert_eq!(ids(store.runs_applying("sha256:p").await.unwrap()), [runs[0].id, runs[1].id]);
    assert_eq!(store.runs_applying("sha256:none").await.unwrap(), []);
}

async fn plans(store: &StateStore) {
    let [first, second] = [1, 2].map(|number| NewRun { kind: RunKind::Plan, ..new_run(number, noon()) });
    store.begin_run(&first).await.unwrap();
    store.begin_run(&second).await.unwrap();
    assert_eq!((store.plan_head(first.id).await.unwrap(), store.last_whole_plan().await.unwrap()), (None, None));
    assert_eq!(store.plan_chunks(first.id).await.unwrap(), []);
    let counts = ChunkCounts { expired: 1, retained: 1, ..ChunkCounts::default() };
    let chunk =
        |repository: &str| PlanChunk::new("contoso".into(), repository.into(), counts, br#"["gone"]"#, br#"["stays"]"#);
    let head = r#"{"hypothetical":false}"#;
    let mut chunks = [chunk("shop/api"), chunk("shop/web")].into_iter().map(Ok::<_, io::Error>);
    store.save_plan(first.id, "sha256:p", head, &mut chunks).await.unwrap();
    let mut broken = [Ok(chunk("shop/api")), Err(io::Error::other("no room"))].into_iter();
    store.save_plan(second.id, "sha256:q", head, &mut broken).await.unwrap_err();

    assert_eq!(store.plan_head(first.id).await.unwrap().as_deref(), Some(head));
    assert_eq!(store.plan_head(second.id).await.unwrap(), None, "there is no half of a plan");
    assert_eq!(store.find_plan("sha256:p").await.unwrap(), Some(first.id));
    assert_eq!(store.find_plan("sha256:q").await.unwrap(), None);
    assert_eq!(store.last_whole_plan().await.unwrap(), Some(first.id));
    let infos = store.plan_chunks(first.id).await.unwrap();
    let infos: Vec<_> =
        infos.iter().map(|info| (info.ordinal, &*info.repository, info.counts, info.has_kept)).collect();
    assert_eq!(infos, [(0, "shop/api", counts, true), (1, "shop/web", counts, true)]);
    assert_eq!(store.plan_chunk(first.id, 1).await.unwrap(), Some(chunk("shop/web")));
    assert_eq!(store.plan_chunk(first.id, 2).await.unwrap(), None);

    // Of older plans, chunks with removals have something of a repository; of the last, also those without.
    let third = NewRun { kind: RunKind::Plan, ..new_run(3, noon() + 1.hour()) };
    let narrowed = NewRun { kind: RunKind::Plan, ..new_run(4, noon() + 2.hours()) };
    store.begin_run(&third).await.unwrap();
    store.begin_run(&narrowed).await.unwrap();
    let counts = ChunkCounts { retained: 1, ..ChunkCounts::default() };
    let stays = PlanChunk::new("contoso".into(), "shop/api".into(), counts, b"[]", br#"["stays"]"#);
    store.save_plan(third.id, "sha256:r", head, &mut [Ok(stays)].into_iter()).await.unwrap();
    let part = r#"{"hypothetical":false,"narrowed":{}}"#;
    store.save_plan(narrowed.id, "sha256:s", part, &mut [Ok(chunk("shop/api"))].into_iter()).await.unwrap();
    let of = async |registry: &str, repository: &str| store.plans_of_repository(registry, repository).await.unwrap();
    let plan = |run: &NewRun, chunks: &[u32]| RepositoryPlan {
        run: run.id,
        started_at: run.started_at,
        chunks: chunks.to_vec(),
    };
    assert_eq!(of("contoso", "shop/api").await, [plan(&first, &[0]), plan(&third, &[0])]);
    assert_eq!(of("contoso", "shop/web").await, [plan(&first, &[1]), plan(&third, &[])]);
    assert_eq!(of("other", "shop/api").await, [plan(&first, &[]), plan(&third, &[])]);
}

/// All outcomes that there are.
fn outcomes() -> Vec<Outcome> {
    let why = || "why".to_owned();
    let skips = [
        SkipReason::Moved { to: manifest("other").digest },
        SkipReason::Missing,
        SkipReason::Kept(why()),
        SkipReason::Held(why()),
        SkipReason::Locked(why()),
        SkipReason::DryRun,
        SkipReason::Refused(why()),
        SkipReason::Reverted(why()),
        SkipReason::Postponed(why()),
        SkipReason::Stopped(why()),
        SkipReason::Blocked(why()),
        SkipReason::Interrupted,
        SkipReason::Recovered(why()),
        SkipReason::Present(why()),
        SkipReason::Superseded(why()),
    ];
    let others = [done(), Outcome::Done(why()), Outcome::Failed(why())];
    others.into_iter().chain(skips.into_iter().map(Outcome::Skipped)).collect()
}

async fn journal(store: &StateStore) {
    let (lease, image) = (lease(store).await, manifest("{ \"odd\":  1 }"));
    let (run, other) = (new_run(1, noon()), new_run(2, noon()));
    store.begin_run(&run).await.unwrap();
    store.begin_run(&other).await.unwrap();
    let mut ids = Vec::new();
    for (number, outcome) in outcomes().iter().enumerate() {
        let intent = at_endpoint(&format!("c-{number}"), &image);
        let journaled = store.intend(&lease, run.id, &intent, &image, noon()).await.unwrap();
        let pending = store.pending_entries().await.unwrap();
        assert_eq!((pending.len(), &pending[0].intent, &pending[0].outcome), (1, &intent, &None));
        store.record_outcome(journaled.id(), outcome, noon() + 1.second()).await.unwrap();
        let again = store.record_outcome(journaled.id(), &done(), noon()).await.unwrap_err();
        assert_eq!(again.kind, StateErrorKind::LeaseLost, "the first outcome stands");
        let entry = store.journal_entry(journaled.id()).await.unwrap();
        assert_eq!((entry.run, entry.intent, entry.intended_at), (run.id, intent.clone(), noon()));
        assert_eq!((entry.epoch, entry.outcome), (Some(lease.epoch()), Some((outcome.clone(), noon() + 1.second()))));

        let noted = store.record_not_attempted(&lease, other.id, &intent, outcome, noon()).await.unwrap();
        assert_eq!(store.journal_entry(noted).await.unwrap().outcome, Some((outcome.clone(), noon())));
        ids.push(journaled.id());
    }
    assert_eq!(store.pending_entries().await.unwrap(), []);
    let of_run: Vec<_> = store.journal(run.id).await.unwrap().iter().map(|entry| entry.id).collect();
    assert_eq!(of_run, ids, "in order");
    assert_eq!(store.journal(Uuid::nil()).await.unwrap(), []);

    let unknown = store.intend(&lease, Uuid::nil(), &intent("x", &image), &image, noon()).await.unwrap_err();
    assert_eq!(unknown.kind, StateErrorKind::Constraint, "there is no such run");
    let mixed = store.intend(&lease, run.id, &intent("x", &image), &manifest("other"), noon()).await.unwrap_err();
    assert_eq!(mixed.kind, StateErrorKind::Corrupt, "it could not be undone");
    assert_eq!(store.journal(run.id).await.unwrap().len(), ids.len(), "neither is written");

    let page = async |before, limit| {
        let page = store.journal_page(&JournalScope::Run(run.id), before, limit).await.unwrap();
        page.iter().map(|entry| entry.id).collect::<Vec<_>>()
    };
    let latest: Vec<_> = ids.iter().rev().copied().collect();
    assert_eq!(page(None, 100).await, latest);
    assert_eq!(page(None, 2).await, latest[..2]);
    let place = JournalScope::Repository("contoso".parse().unwrap(), "shop/web".parse().unwrap());
    assert_eq!(store.journal_page(&place, None, 9).await.unwrap(), []);
    assert_eq!(store.journal_page(&JournalScope::Everything, None, 5).await.unwrap().len(), 5);
    let counts = store.journal_counts(run.id).await.unwrap();
    let sum: i64 = counts.iter().map(|count| count.count).sum();
    assert_eq!(usize::try_from(sum).unwrap(), ids.len());
    assert!(counts.iter().any(|count| count.skip.as_deref() == Some("missing") && count.count == 1), "{counts:?}");

    let (registry, repository, tag) = ("contoso".parse().unwrap(), "shop/api".parse().unwrap(), "c-0".parse().unwrap());
    assert_eq!(store.journal_of_tag(&registry, &repository, &tag).await.unwrap().len(), 2);
    let removal = store.last_removal(&registry, &repository, &tag).await.unwrap().unwrap();
    assert_eq!(store.manifest_of(&removal).await.unwrap(), image);
    assert_eq!(store.removals_of(&registry, &repository, &tag).await.unwrap()[0].id, removal.id);
    let left = "c-2".parse().unwrap();
    assert_eq!(store.last_removal(&registry, &repository, &left).await.unwrap(), None, "that one failed");
    let removed = store.removals_in(&registry, &repository, None).await.unwrap();
    let removed: BTreeSet<&str> = removed.iter().map(|entry| entry.intent.tag.as_str()).collect();
    assert_eq!(removed, BTreeSet::from(["c-0", "c-1"]));
    assert_eq!(store.removals_in(&registry, &repository, Some(noon() + 1.hour())).await.unwrap(), []);

    let deletion = Intent { action: Action::DeleteUntagged, ..at_endpoint("c-0", &image) };
    let journaled = store.intend(&lease, other.id, &deletion, &image, noon()).await.unwrap();
    assert_eq!(store.last_deletion(&registry, &repository, &image.digest).await.unwrap(), None, "not done yet");
    store.record_outcome(journaled.id(), &done(), noon()).await.unwrap();
    let last = store.last_deletion(&registry, &repository, &image.digest).await.unwrap().unwrap();
    assert_eq!(last.id, journaled.id());
    assert_eq!(store.deletions_of_tag(&registry, &repository, &tag, removal.id).await.unwrap(), [last]);
    assert_eq!(store.deletions_of_tag(&registry, &repository, &tag, journaled.id()).await.unwrap(), []);

    let (missing, back) = (Outcome::Skipped(SkipReason::Missing), at_endpoint("x", &image));
    let notes = [(&back, &missing), (&deletion, &missing)];
    let recorded = store.record_all_not_attempted(&lease, other.id, &notes, noon()).await.unwrap();
    assert_eq!(recorded.len(), 2);
    let refused = store.record_all_not_attempted(&lease, Uuid::nil(), &notes, noon()).await.unwrap_err();
    assert_eq!(refused.kind, StateErrorKind::Constraint);
    let skipped = intent("noted", &manifest("never kept"));
    let id = store.record_not_attempted(&lease, run.id, &skipped, &missing, noon()).await.unwrap();
    let entry = store.journal_entry(id).await.unwrap();
    assert_eq!(store.manifest_of(&entry).await.unwrap_err().kind, StateErrorKind::Missing);
}

async fn restored_tags(store: &StateStore) {
    let (lease, run, image) = (lease(store).await, new_run(1, noon()), manifest("1"));
    store.begin_run(&run).await.unwrap();
    let original = OriginalDate::Known((noon() - 900.hours()).into(), DateOrigin::Pushed);
    let back = |tag: &str| Intent { action: Action::Restore, ..at_endpoint(tag, &image) };
    let record = || RestoreRecord { original: Some(original), hold: None };
    for (tag, outcome) in [("back", done()), ("not-put", Outcome::Failed("500".into()))] {
        let journaled = store.intend_restore(&lease, run.id, &back(tag), &image, record(), noon()).await.unwrap();
        store.record_restore_outcome(journaled.id(), &outcome, None, noon()).await.unwrap();
    }
    let originals = async |tags: &[(&str, &str)], now| {
        let mut inventory = inventory(tags);
        store.observe(&mut inventory, now).await.unwrap();
        let dates = &inventory.registries[0].repositories[0].original_dates;
        dates.iter().map(|(tag, date)| (tag.as_str().to_owned(), *date)).collect::<Vec<_>>()
    };
    let expected = [("back".to_owned(), original)];
    assert_eq!(originals(&[("back", "1"), ("not-put", "1")], noon() + 1.hour()).await, expected);
    assert_eq!(originals(&[("back", "2")], noon() + 2.hours()).await, [], "it was pushed again");
    assert_eq!(originals(&[("back", "1")], noon() + 3.hours()).await, [], "and that cannot be undone by another push");
    let unfit = store.intend_restore(&lease, run.id, &back("x"), &manifest("2"), record(), noon()).await.unwrap_err();
    assert_eq!(unfit.kind, StateErrorKind::Corrupt);
}

async fn untagged_manifests(store: &StateStore) {
    let (lease, run) = (lease(store).await, new_run(1, noon()));
    store.begin_run(&run).await.unwrap();
    let (gone, pending, deleted) = (manifest("gone"), manifest("pending"), manifest("deleted"));
    for (tag, image) in [("a", &gone), ("b", &gone), ("c", &pending), ("d", &deleted)] {
        let journaled = store.intend(&lease, run.id, &intent(tag, image), image, noon()).await.unwrap();
        if image != &pending {
            store.record_outcome(journaled.id(), &done(), noon()).await.unwrap();
        }
    }
    let deletion = Intent { action: Action::DeleteUntagged, ..intent("d", &deleted) };
    let journaled = store.intend(&lease, run.id, &deletion, &deleted, noon()).await.unwrap();
    store.record_outcome(journaled.id(), &done(), noon()).await.unwrap();

    // Two that never had a tag: what came of one says nothing of the other.
    for (image, outcome) in [(manifest("by-digest"), done()), (manifest("left"), Outcome::Failed("no".to_owned()))] {
        let deletion = Intent { action: Action::DeleteUntagged, tag: TagName::none(), ..intent("d", &image) };
        let journaled = store.intend(&lease, run.id, &deletion, &image, noon()).await.unwrap();
        assert!(journaled.tag().is_none());
        store.record_outcome(journaled.id(), &outcome, noon()).await.unwrap();
        let entry = store.journal(run.id).await.unwrap().pop().unwrap();
        assert_eq!(entry.intent, deletion);
    }

    let mut found: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
    let mut visit = |record: UntagRecord| {
        let (digest, tags) = match record {
            UntagRecord::Untagged { untagged, entries } => {
                assert_eq!(untagged.tags.len(), entries.len());
                (untagged.digest, untagged.tags.iter().map(|tag| tag.name.as_str().to_owned()).collect())
            }
            UntagRecord::Excluded { digest, .. } => (digest, Vec::new()),
        };
        found.insert(digest, tags);
    };
    store.visit_untagged(&"contoso".parse().unwrap(), &mut visit).await.unwrap();
    store.visit_untagged(&"other".parse().unwrap(), &mut visit).await.unwrap();
    let tags = vec!["a".to_owned(), "b".to_owned()];
    assert_eq!(found, BTreeMap::from([(gone.digest, tags), (pending.digest, Vec::new())]));
}

async fn missing_manifests(store: &StateStore) {
    let (lease, run) = (lease(store).await, new_run(1, noon()));
    store.begin_run(&run).await.unwrap();
    let (late, other) = (manifest("late"), manifest("other"));
    let journaled = store.intend_without_manifest(&lease, run.id, &intent("v1", &late), noon()).await.unwrap();
    let entry = store.journal_entry(journaled.id()).await.unwrap();
    assert_eq!(store.manifest_of(&entry).await.unwrap_err().kind, StateErrorKind::Missing);
    let missing = store.missing_manifests(noon()).await.unwrap();
    assert_eq!(missing.iter().map(|found| &found.digest).collect::<Vec<_>>(), [&late.digest]);
    assert_eq!(store.missing_manifests(noon() + 1.second()).await.unwrap(), [], "of no run since then");
    assert_eq!(store.count_missing_manifests(run.id).await.unwrap(), 1);
    let mixed = RawManifest { digest: late.digest.clone(), ..other };
    assert_eq!(store.journal_manifests(&[mixed]).await.unwrap_err().kind, StateErrorKind::Corrupt);
    store.journal_manifests(std::slice::from_ref(&late)).await.unwrap();
    assert_eq!(store.manifest_of(&entry).await.unwrap(), late);
    assert_eq!(store.missing_manifests(noon()).await.unwrap(), []);
    assert_eq!(store.count_missing_manifests(run.id).await.unwrap(), 0);
}

async fn stop_requests(store: &StateStore) {
    let (lease, run, image) = (lease(store).await, new_run(1, noon()), manifest("1"));
    store.begin_run(&run).await.unwrap();
    assert_eq!(store.stop_request(noon()).await.unwrap(), None);
    let first = store.request_stop("restore by ada@here", noon() + 1.hour()).await.unwrap();
    let second = store.request_stop("restore by bob@here", noon() + 2.hours()).await.unwrap();
    assert_eq!(store.stop_request(noon()).await.unwrap().as_deref(), Some("restore by ada@here"));
    let refused = store.intend(&lease, run.id, &intent("v1", &image), &image, noon()).await.unwrap_err();
    assert_eq!((refused.kind, &*refused.chain()), (StateErrorKind::Interrupted, "restore by ada@here"));
    store.withdraw_stop_request(first, noon()).await.unwrap();
    store.withdraw_stop_request(first, noon()).await.unwrap();
    assert_eq!(store.stop_request(noon()).await.unwrap().as_deref(), Some("restore by bob@here"));
    assert_eq!(store.stop_request(noon() + 2.hours()).await.unwrap(), None, "it holds for so long");
    store.withdraw_stop_request(second, noon()).await.unwrap();
    store.intend(&lease, run.id, &intent("v1", &image), &image, noon()).await.unwrap();
}

async fn leases(store: &StateStore) {
    let (run, image) = (new_run(1, noon()), manifest("1"));
    store.begin_run(&run).await.unwrap();
    let taken = store.take_lease(LeaseScope::Run, "run by ada@here").await.unwrap();
    let old = store.begin_epoch(&taken, noon()).await.unwrap();
    let new = store.begin_epoch(&taken, noon()).await.unwrap();
    assert!(old.epoch() < new.epoch());
    let stale = store.intend(&old, run.id, &intent("v1", &image), &image, noon()).await.unwrap_err();
    assert_eq!(stale.kind, StateErrorKind::LeaseLost, "{stale}");
    assert!(stale.chain().contains("run by ada@here"), "{stale}");
    let back = Intent { action: Action::Restore, ..intent("v1", &image) };
    let stale = store.intend_restore(&old, run.id, &back, &image, RestoreRecord::default(), noon()).await.unwrap_err();
    assert_eq!(stale.kind, StateErrorKind::LeaseLost, "{stale}");
    assert_eq!(store.journal(run.id).await.unwrap(), []);
    store.intend(&new, run.id, &intent("v1", &image), &image, noon()).await.unwrap();
}

/// The endpoint and the number of each held lease.
async fn held(store: &StateStore) -> Vec<(String, i64)> {
    store.registry_leases().await.unwrap().into_iter().map(|lease| (lease.endpoint, lease.epoch)).collect()
}

async fn registry_leases(store: &StateStore) {
    let (run, image) = (new_run(1, noon()), manifest("1"));
    store.begin_run(&run).await.unwrap();
    let taken = store.take_lease(LeaseScope::Run, "run by ada@here").await.unwrap();
    let old = store.begin_epoch(&taken, noon()).await.unwrap();
    assert_eq!(held(store).await, [], "nothing was changed yet");
    let named = |name: &str, tag: &str| Intent { registry: name.parse().unwrap(), ..at_endpoint(tag, &image) };
    // Two names of one registry share its lease.
    store.intend(&old, run.id, &named("contoso", "v1"), &image, noon()).await.unwrap();
    store.intend(&old, run.id, &named("other", "v2"), &image, noon()).await.unwrap();
    let there = Intent { endpoint: Some("https://elsewhere.example".into()), ..intent("v1", &image) };
    store.intend(&old, run.id, &there, &image, noon()).await.unwrap();
    let both =
        |first: i64, second: i64| vec![(ENDPOINT.to_owned(), first), ("https://elsewhere.example".into(), second)];
    assert_eq!(held(store).await, both(1, 1));
    assert_eq!(store.registry_leases().await.unwrap()[0].holder, "run by ada@here");

    let new = store.begin_epoch(&taken, noon()).await.unwrap();
    store.intend(&new, run.id, &named("other", "v3"), &image, noon()).await.unwrap();
    assert!(held(store).await.contains(&(ENDPOINT.to_owned(), 2)));
    for intent in [named("contoso", "v4"), there] {
        let stale = store.intend(&old, run.id, &intent, &image, noon()).await.unwrap_err();
        assert_eq!(stale.kind, StateErrorKind::LeaseLost, "{stale}");
    }
    assert!(held(store).await.contains(&(ENDPOINT.to_owned(), 2)), "a stale holder takes none");
    assert_eq!(store.journal(run.id).await.unwrap().len(), 4);
    store.confirm_lease(&new).await.unwrap();
    assert!(new.is_current());
    assert_eq!(store.confirm_lease(&old).await.unwrap_err().kind, StateErrorKind::LeaseLost);
    drop((taken, old, new));
    assert_eq!(held(store).await, [], "they are given back with it");
}

async fn superseded_entries(store: &StateStore) {
    let (lease, run, image) = (lease(store).await, new_run(1, noon()), manifest("1"));
    store.begin_run(&run).await.unwrap();
    let superseded = Outcome::Skipped(SkipReason::Superseded("the tag is still there".to_owned()));
    let deletion =
        |image: &RawManifest| Intent { action: Action::DeleteUntagged, tag: TagName::none(), ..intent("v1", image) };
    let elsewhere = Intent { repository: "shop/web".parse().unwrap(), ..intent("v1", &image) };
    // What a takeover closed, and what was done later; whether the later one explains the earlier.
    let other = manifest("2");
    let cases = [
        (intent("none", &image), None, true),
        (intent("failed", &image), Some((intent("failed", &image), Outcome::Failed("x".into()))), true),
        (intent("v1", &image), Some((elsewhere, done())), true),
        (intent("again", &image), Some((intent("again", &other), done())), false),
        (deletion(&image), Some((deletion(&other), done())), true),
    ];
    let mut open = Vec::new();
    for (earlier, later, stays) in &cases {
        let id = store.intend(&lease, run.id, earlier, &image, noon()).await.unwrap().id();
        store.record_outcome(id, &superseded, noon()).await.unwrap();
        if let Some((intent, outcome)) = later {
            store.record_not_attempted(&lease, run.id, intent, outcome, noon()).await.unwrap();
        }
        if *stays {
            open.push(id);
        }
    }
    let found: Vec<_> = store.superseded_entries(noon()).await.unwrap().iter().map(|entry| entry.id).collect();
    assert_eq!(found, open);
    assert_eq!(store.superseded_entries(noon() + 1.second()).await.unwrap(), [], "closed before");
    // Their manifests are wanted, too, since the request may have been carried out.
    let late = manifest("late");
    let journaled = store.intend_without_manifest(&lease, run.id, &intent("late", &late), noon()).await.unwrap();
    store.record_outcome(journaled.id(), &superseded, noon()).await.unwrap();
    let missing = store.missing_manifests(noon()).await.unwrap();
    assert!(missing.iter().any(|found| found.digest == late.digest), "{missing:?}");
}

async fn policy_records(store: &StateStore) {
    let policy = |mode: &str| RecordedPolicy {
        name: "builds".into(),
        mode: mode.into(),
        file: "builds.yaml".into(),
        revision: "hash".into(),
    };
    let texts = BTreeMap::from([("hash".to_owned(), "keep: 3".to_owned())]);
    store.record_policies("r1", &[policy("enforce")], &texts).await.unwrap();
    store.record_policies("r1", &[policy("dry-run")], &BTreeMap::new()).await.unwrap();
    let context = |revision: &str| RunContext { revision: Some(revision.to_owned()), ..RunContext::default() };
    store.begin_run_with_context(&new_run(1, noon()), &context("r1")).await.unwrap();
    store.begin_run_with_context(&new_run(2, noon()), &context("r2")).await.unwrap();
    assert_eq!(store.policies_of(new_run(1, noon()).id).await.unwrap(), [policy("enforce")], "a revision is kept once");
    assert_eq!(store.policies_of(new_run(2, noon()).id).await.unwrap(), []);
    assert_eq!(store.policy_text("hash").await.unwrap().as_deref(), Some("keep: 3"));
    assert_eq!(store.policy_text("other").await.unwrap(), None);
}
