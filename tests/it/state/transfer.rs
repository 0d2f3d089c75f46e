//! States moved from one database to another, and looked over.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::ToSpan as _;
use tagwarden::domain::{Action, DateOrigin, Intent, OriginalDate, Outcome};
use tagwarden::state::{
    ChunkCounts, KnownCatalogue, LeaseScope, PlanChunk, RecordedPolicy, RestoreRecord, RulePart, RuleRevision,
    RunContext, Sighting, StateErrorKind, StateLocation, StateStore,
};

use super::{end, intent, manifest, meddle, new_run, noon};
use crate::support::lease::lease;
use crate::support::postgres::Postgres;

const ENDPOINT: &str = "https://contoso.azurecr.io";

/// Fills a state with something of everything, with characters that databases like to trip over.
async fn fill(store: &StateStore) {
    use tagwarden::registry::ContentCache as _;
    let (token, run) = (lease(store).await, new_run(1, noon()));
    let context = RunContext { revision: Some("r1".into()), ..RunContext::default() };
    store.begin_run_with_context(&run, &context).await.unwrap();
    let policy = RecordedPolicy {
        name: "builds".into(),
        mode: "enforce".into(),
        file: "ä.yaml".into(),
        revision: "hash".into(),
    };
    let texts = BTreeMap::from([("hash".to_owned(), "keep: 3 # \\N '\"' \u{1f980}\n\t".to_owned())]);
    store.record_policies("r1", &[policy], &texts).await.unwrap();
    let counts = ChunkCounts { expired: 1, retained: 1, ..ChunkCounts::default() };
    let chunk = PlanChunk::new("contoso".into(), "shop/api".into(), counts, br#"["gone"]"#, br#"["stays"]"#);
    let head = r#"{"hypothetical":false}"#;
    store.save_plan(run.id, "sha256:p", head, &mut std::iter::once(Ok(chunk))).await.unwrap();
    for number in 0..7 {
        let image = manifest(&format!("image {number} \u{0}\u{ff}"));
        store.store_manifest(&image).await;
        let removed = Intent { endpoint: Some(ENDPOINT.into()), ..intent(&format!("c-{number}"), &image) };
        let journaled = store.intend(&token, run.id, &removed, &image, noon() + number.nanoseconds()).await.unwrap();
        if number % 3 != 0 {
            let outcome = Outcome::Failed(format!("500 \u{0} {number}"));
            store.record_outcome(journaled.id(), &outcome, noon()).await.unwrap();
        }
    }
    let image = manifest("back");
    let back = Intent { action: Action::Restore, endpoint: Some(ENDPOINT.into()), ..intent("back", &image) };
    let original = OriginalDate::Known((noon() - 900.hours()).into(), DateOrigin::Pushed);
    let record = RestoreRecord { original: Some(original), hold: None };
    store.intend_restore(&token, run.id, &back, &image, record, noon()).await.unwrap();
    store.finish_run(run.id, &end(noon())).await.unwrap();
    store.confirm_time(run.id, noon()).await.unwrap();
    let names = ["Shop", "shop", "ärger"].map(str::to_owned).into();
    let known = KnownCatalogue { names, trusted_at: Some(noon()), suspect: None };
    store.record_catalogue(ENDPOINT, &known, noon()).await.unwrap();
    store.record_sent_notifications("ops", &BTreeMap::from([("run failed".to_owned(), noon())])).await.unwrap();
    let revision = RuleRevision {
        part: RulePart::Policies,
        revision: "r1".into(),
        commit: Some("cafe".into()),
        committed_at: Some(noon()),
    };
    let by = Sighting { by: "ada \u{0}", at: noon() };
    assert!(store.put_rules_in_force(&revision, None, by, Some("why")).await.unwrap());
    store.flush_cache().await;
}

/// What callers see of a state.
async fn seen(location: &StateLocation) -> String {
    use tagwarden::registry::ContentCache as _;
    let store = StateStore::open(location).await.unwrap();
    let run = new_run(1, noon()).id;
    let journal = store.journal(run).await.unwrap();
    let mut manifests = Vec::new();
    for entry in &journal {
        let journaled = store.manifest_of(entry).await.unwrap();
        manifests.push((store.manifest(&journaled.digest).await, journaled));
    }
    let seen = format!(
        "{:#?}",
        (
            store.runs(9).await.unwrap(),
            store.run_context(run).await.unwrap(),
            store.policies_of(run).await.unwrap(),
            store.policy_text("hash").await.unwrap(),
            store.plan_head(run).await.unwrap(),
            store.plan_chunk(run, 0).await.unwrap(),
            journal,
            manifests,
            store.newest_time().await.unwrap(),
            store.catalogue(&"contoso".parse().unwrap(), ENDPOINT).await.unwrap(),
            store.sent_notifications("ops").await.unwrap(),
            store.rule_revisions().await.unwrap(),
        )
    );
    store.close().await;
    seen
}

#[tokio::test]
async fn a_state_goes_into_postgres_and_back_and_is_the_same() {
    let (folder, store) = super::fresh().await;
    fill(&store).await;
    store.close().await;
    let server = Postgres::start().await;
    let path = |name: &str| folder.path().join(name);
    let (file, database) = (StateLocation::File(path("tagwarden.db")), server.location());
    let (copy, third) = (StateLocation::File(path("copy.db")), StateLocation::File(path("third.db")));

    let busy = StateStore::open(&file).await.unwrap();
    let daemon = busy.take_lease(LeaseScope::Daemon, "serve by ada@here").await.unwrap();
    let refused = StateStore::copy(&file, &database).await.unwrap_err();
    assert_eq!(refused.kind, StateErrorKind::Leased);
    assert!(refused.chain().contains("serve by ada@here"), "{refused:#}");
    drop(daemon);
    busy.close().await;

    let there = StateStore::copy(&file, &database).await.unwrap();
    assert_eq!((there.rows_of("runs"), there.rows_of("journal"), there.rows_of("manifests")), (1, 8, 7));
    // PostgreSQL cannot store the character with the number zero in texts.
    let shown = |seen: String| seen.replace("\\0", "\u{fffd}");
    let original = shown(seen(&file).await);
    assert_eq!(shown(seen(&database).await), original);
    let back = StateStore::copy(&database, &copy).await.unwrap();
    assert_eq!(back, there);
    assert_eq!(shown(seen(&copy).await), original);
    assert_eq!(StateStore::copy(&copy, &third).await.unwrap(), there, "from file to file");

    for target in [&database, &copy] {
        let refused = StateStore::copy(&file, target).await.unwrap_err();
        assert_eq!(refused.kind, StateErrorKind::Exists, "{refused:#}");
    }
    let missing = StateStore::copy(&StateLocation::File(path("none.db")), &database).await.unwrap_err();
    assert_eq!(missing.kind, StateErrorKind::Open);
    assert!(!path("none.db").exists());

    // Work goes on where it stopped: epochs rise, and numbers are not given twice.
    for location in [&database, &copy] {
        let store = StateStore::open(location).await.unwrap();
        let before = store.journal(new_run(1, noon()).id).await.unwrap();
        let token = lease(&store).await;
        assert_eq!(token.epoch(), 3, "the second copy had the lease once: {location}");
        let (run, image) = (new_run(2, noon()), manifest("new"));
        store.begin_run(&run).await.unwrap();
        let id = store.intend(&token, run.id, &intent("new", &image), &image, noon()).await.unwrap().id();
        assert!(before.iter().all(|entry| entry.id < id));
        assert_eq!(store.runs(1).await.unwrap()[0].run, run);
        drop(token);
        store.close().await;
    }
}

#[tokio::test]
async fn a_state_in_postgres_is_backed_up_beside_whoever_works_with_it() {
    let (server, store) = crate::support::postgres::fresh().await;
    fill(&store).await;
    let _working = store.take_lease(LeaseScope::Run, "run by ada@here").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("backup.db");
    let backup = StateStore::back_up(server.location(), &target).await.unwrap();
    assert_eq!((backup.runs, backup.entries), (1, 8));
    assert_eq!(seen(&StateLocation::File(target.clone())).await, seen(&server.location()).await);
    let refused = StateStore::back_up(server.location(), &target).await.unwrap_err();
    assert_eq!(refused.kind, StateErrorKind::Exists);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
}

#[tokio::test]
async fn a_check_tells_what_is_open_and_what_is_damaged() {
    let (folder, store) = super::fresh().await;
    fill(&store).await;
    store.close().await;
    let server = Postgres::start().await;
    let path: &Path = &folder.path().join("tagwarden.db");
    let (file, database) = (StateLocation::from(path), server.location());
    StateStore::copy(&file, &database).await.unwrap();
    for location in [&file, &database] {
        let found = StateStore::check(location).await.unwrap();
        assert_eq!(found.findings, [""; 0], "{location}");
        let open: Vec<_> = found.pending.iter().map(|entry| entry.intent.tag.as_str()).collect();
        assert_eq!(open, ["c-0", "c-3", "c-6", "back"]);
        let rows = found.tables.iter().find(|table| table.name == "journal").unwrap();
        assert_eq!((rows.rows, rows.bytes.is_some()), (8, location.path().is_none()));
        assert!(found.bytes > 8192);
    }
    server
        .meddle(
            "UPDATE journaled_manifests SET bytes = 'x' WHERE digest = (SELECT min(digest) FROM journaled_manifests)",
        )
        .await;
    meddle(
        path,
        "UPDATE journaled_manifests SET bytes = x'00' WHERE digest = (SELECT min(digest) FROM journaled_manifests)",
    )
    .await;
    for location in [&file, &database] {
        let found = StateStore::check(location).await.unwrap();
        assert_eq!(found.findings.len(), 1, "{location}: {:?}", found.findings);
        let finding = &found.findings[0];
        assert!(finding.starts_with("journaled_manifests sha256:") && finding.contains("digest says"), "{finding}");
    }
    let missing = StateStore::check(&StateLocation::File(folder.path().join("none.db"))).await.unwrap_err();
    assert_eq!(missing.kind, StateErrorKind::Open);
}
