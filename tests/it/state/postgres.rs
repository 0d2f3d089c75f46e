//! What only concerns PostgreSQL: leases by its clock, a server that dies, connections, and secrets.

use std::fmt::Debug;

use jiff::ToSpan as _;
use tagwarden::domain::{Action, DateOrigin, Intent, OriginalDate, Outcome};
use tagwarden::state::{
    InvalidPostgresUrl, LeaseScope, PostgresLocation, PostgresPassword, RestoreRecord, StateErrorKind, StateLocation,
    StateStore,
};

use super::{intent, manifest, new_run, noon};
use crate::support::azure::{Entra, SECRET};
use crate::support::certificate::certified;
use crate::support::postgres::{PASSWORD, Postgres, fresh};
use crate::support::proxy::Proxy;

fn done() -> Outcome {
    Outcome::Done(String::new())
}

#[tokio::test]
async fn whoever_was_away_for_longer_than_the_lease_journals_nothing() {
    let (server, first) = fresh().await;
    let second = StateStore::open(server.location()).await.unwrap();
    let (run, image) = (new_run(1, noon()), manifest("1"));
    first.begin_run(&run).await.unwrap();
    let lease = first.take_lease(LeaseScope::Run, "run by ada@here").await.unwrap();
    let token = first.begin_epoch(&lease, noon()).await.unwrap();
    first.intend(&token, run.id, &intent("v1", &image), &image, noon()).await.unwrap();
    let refused = second.take_lease(LeaseScope::Run, "run by bob@there").await.unwrap_err();
    assert_eq!(refused.kind, StateErrorKind::Leased);
    assert!(refused.chain().contains("in use by run by ada@here, for 15 more seconds unless"), "{refused:#}");
    assert_eq!(second.lease_holder().await.unwrap().as_deref(), Some("run by ada@here"));
    second.take_lease(LeaseScope::Daemon, "serve by bob@there").await.unwrap();

    // As after a pause: by the database's clock it is over, and nobody has it yet.
    server.meddle("UPDATE leases SET expires_at = clock_timestamp() WHERE scope = 'run'").await;
    assert_eq!(second.lease_holder().await.unwrap(), None);
    let late = first.intend(&token, run.id, &intent("v2", &image), &image, noon()).await.unwrap_err();
    assert_eq!(late.kind, StateErrorKind::LeaseLost);
    assert!(late.chain().contains("was not renewed in time"), "{late:#}");

    let other = second.take_lease(LeaseScope::Run, "run by bob@there").await.unwrap();
    let late = first.intend(&token, run.id, &intent("v2", &image), &image, noon()).await.unwrap_err();
    assert_eq!(late.kind, StateErrorKind::LeaseLost);
    assert!(late.chain().contains("run by bob@there has epoch 2"), "{late:#}");
    // What it did before can still be said.
    let pending = first.pending_entries().await.unwrap();
    first.record_outcome(pending[0].id, &done(), noon()).await.unwrap();
    let token = second.begin_epoch(&other, noon()).await.unwrap();
    assert_eq!(token.epoch(), 2);
    second.intend(&token, run.id, &intent("v3", &image), &image, noon()).await.unwrap();
    let tags: Vec<_> =
        first.journal(run.id).await.unwrap().iter().map(|entry| entry.intent.tag.as_str().to_owned()).collect();
    assert_eq!(tags, ["v1", "v3"]);
}

/// A request may be carried out after it was sent again, because its answer was lost.
#[tokio::test]
async fn an_entry_that_is_sent_again_is_written_once() {
    let (server, store) = fresh().await;
    let (run, image) = (new_run(1, noon()), manifest("1"));
    store.begin_run(&run).await.unwrap();
    let lease = store.take_lease(LeaseScope::Run, "run by ada@here").await.unwrap();
    let token = store.begin_epoch(&lease, noon()).await.unwrap();
    store.intend(&token, run.id, &intent("v1", &image), &image, noon()).await.unwrap();
    let first = store.pending_entries().await.unwrap();
    store.record_outcome(first[0].id, &done(), noon()).await.unwrap();
    let again = "SELECT write_journal_entries(json_agg(to_jsonb(entry) || '{\"place\": 0, \"outcome\": null}'), NULL, NULL, NULL)
                 FROM journal AS entry";
    server.meddle(again).await;
    let entries = store.journal(run.id).await.unwrap();
    assert_eq!(entries.iter().map(|entry| entry.id).collect::<Vec<_>>(), [first[0].id]);
    assert!(entries[0].outcome.is_some(), "the late request changes nothing");
    // Under a key of its own, it is another entry.
    let other = "SELECT write_journal_entries(json_agg(to_jsonb(entry) || jsonb_build_object('key', gen_random_uuid())), NULL, NULL,
                 NULL) FROM journal AS entry";
    server.meddle(other).await;
    assert_eq!(store.journal(run.id).await.unwrap().len(), 2);
}

/// A request may be carried out although its answer is lost. It is repeated in a transaction of several statements.
#[tokio::test]
async fn an_entry_whose_answer_was_lost_is_written_once() {
    let (server, direct) = fresh().await;
    let proxy = Proxy::start(server.port).await;
    let store = StateStore::open(server.location_at(&Postgres::url_at(proxy.port))).await.unwrap();
    let (run, image) = (new_run(1, noon()), manifest("1"));
    store.begin_run(&run).await.unwrap();
    let lease = store.take_lease(LeaseScope::Run, "run by ada@here").await.unwrap();
    let token = store.begin_epoch(&lease, noon()).await.unwrap();
    store.intend(&token, run.id, &intent("first", &image), &image, noon()).await.unwrap();

    let lost = proxy.lost_answers();
    proxy.cut();
    let journaled = store.intend(&token, run.id, &intent("lost", &image), &image, noon()).await.unwrap();
    assert!(proxy.lost_answers() > lost, "the first request was answered");
    let entries = direct.journal(run.id).await.unwrap();
    let lost: Vec<_> = entries.iter().filter(|entry| entry.intent.tag.as_str() == "lost").collect();
    assert_eq!(lost.iter().map(|entry| entry.id).collect::<Vec<_>>(), [journaled.id()], "one entry, and its number");
    store.record_outcome(journaled.id(), &done(), noon()).await.unwrap();

    // Of a restore, nothing is sent before the connection is known to be good.
    let back =
        Intent { action: Action::Restore, endpoint: Some("https://contoso.example".into()), ..intent("lost", &image) };
    let original = OriginalDate::Known(noon().into(), DateOrigin::Pushed);
    let record = RestoreRecord { original: Some(original), hold: None };
    proxy.cut();
    let journaled = store.intend_restore(&token, run.id, &back, &image, record, noon()).await.unwrap();
    store.record_restore_outcome(journaled.id(), &done(), None, noon()).await.unwrap();
    let restores = direct.journal(run.id).await.unwrap().into_iter().filter(|entry| entry.intent == back);
    assert_eq!(restores.map(|entry| entry.id).collect::<Vec<_>>(), [journaled.id()]);
    assert_eq!(server.number("SELECT count(*) FROM restored_tags WHERE complete").await, 1);
}

/// The state says so before each intent; before each removal, the holder's own clock or what its last renewal found.
#[tokio::test]
async fn whoever_lost_the_lease_hears_of_it_with_the_next_renewal() {
    let (server, first) = fresh().await;
    let second = StateStore::open(server.location()).await.unwrap();
    let token = crate::support::lease::lease(&first).await;
    assert!(token.is_current());
    first.confirm_lease(&token).await.unwrap();
    server.meddle("UPDATE leases SET expires_at = clock_timestamp() WHERE scope = 'run'").await;
    let late = first.confirm_lease(&token).await.unwrap_err();
    assert!(late.chain().contains("was not renewed in time"), "{late:#}");
    let _other = second.take_lease(LeaseScope::Run, "run by bob@there").await.unwrap();
    let late = first.confirm_lease(&token).await.unwrap_err();
    assert_eq!(late.kind, StateErrorKind::LeaseLost);
    assert!(late.chain().contains("run by bob@there has epoch 2"), "{late:#}");
    let begun = std::time::Instant::now();
    while token.is_current() {
        assert!(begun.elapsed().as_secs() < 10, "the renewal finds out");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn only_the_holder_of_the_schedule_records_its_progress() {
    let (server, first) = fresh().await;
    let second = StateStore::open(server.location()).await.unwrap();
    let progress = |hours: i64| std::collections::BTreeMap::from([("@daily".to_owned(), noon() + hours.hours())]);
    assert_eq!(first.daemon_holder().await.unwrap(), None);
    let lease = first.take_lease(LeaseScope::Daemon, "serve by ada@here").await.unwrap();
    assert_eq!(second.daemon_holder().await.unwrap().as_deref(), Some("serve by ada@here"));
    first.record_leased_progress(&lease, &progress(1)).await.unwrap();
    server.meddle("UPDATE leases SET expires_at = clock_timestamp() WHERE scope = 'daemon'").await;
    let late = first.record_leased_progress(&lease, &progress(2)).await.unwrap_err();
    assert_eq!(late.kind, StateErrorKind::LeaseLost, "{late:#}");
    let other = second.take_lease(LeaseScope::Daemon, "serve by bob@there").await.unwrap();
    second.record_leased_progress(&other, &progress(3)).await.unwrap();
    let late = first.record_leased_progress(&lease, &progress(4)).await.unwrap_err();
    assert_eq!(late.kind, StateErrorKind::LeaseLost, "{late:#}");
    assert_eq!(first.schedule_progress().await.unwrap(), progress(3));
    // The lease to run is none to go by the schedule.
    let run = second.take_lease(LeaseScope::Run, "run").await.unwrap();
    assert_eq!(second.record_leased_progress(&run, &progress(5)).await.unwrap_err().kind, StateErrorKind::LeaseLost);
}

/// The tables of the version before, with an open entry.
#[tokio::test]
async fn a_database_of_the_version_before_is_brought_up_to_date() {
    let server = Postgres::start().await;
    let mut migrator = sqlx::migrate!("./migrations/postgres");
    migrator.migrations.to_mut().retain(|migration| migration.version <= 1);
    let mut connection = server.connect().await;
    migrator.run_direct(None, &mut connection, false).await.unwrap();
    sqlx::Connection::close(connection).await.unwrap();
    server
        .meddle(
            "INSERT INTO runs (id, kind, mode, started_at, started_by, version)
             VALUES ('01930000-0000-7000-8000-000000000001', 'run', 'enforce', '2026-11-01T00:00:00.000000000Z', 'x', '0');
             INSERT INTO journal (run, action, registry, repository, tag, digest, media_type, evidence, intended_at, epoch)
             VALUES ('01930000-0000-7000-8000-000000000001', 'untag', 'contoso', 'shop/api', 'v1',
                     'sha256:0000000000000000000000000000000000000000000000000000000000000000', 'x', '[]',
                     '2026-11-01T00:00:00.000000000Z', 3);
             INSERT INTO leases (scope, epoch, holder, taken_at) VALUES ('run', 3, 'x', 'y')",
        )
        .await;
    let store = StateStore::open(server.location()).await.unwrap();
    let pending = store.pending_entries().await.unwrap();
    assert_eq!(pending.iter().map(|entry| entry.epoch).collect::<Vec<_>>(), [Some(3)]);
    let token = crate::support::lease::lease(&store).await;
    assert_eq!(token.epoch(), 4);
    let image = manifest("1");
    store.intend(&token, pending[0].run, &intent("v2", &image), &image, noon()).await.unwrap();
}

#[tokio::test]
async fn a_lease_is_given_back_when_it_and_its_tokens_are_dropped() {
    let (server, store) = fresh().await;
    let other = StateStore::open(server.location()).await.unwrap();
    for epoch in 1..=3 {
        // At once, by the same process; and by another one once the first is closed.
        let lease = store.take_lease(LeaseScope::Run, "run").await.unwrap();
        let token = store.begin_epoch(&lease, noon()).await.unwrap();
        assert_eq!(token.epoch(), epoch);
        drop(lease);
        assert_eq!(store.take_lease(LeaseScope::Run, "x").await.unwrap_err().kind, StateErrorKind::Leased);
        drop(token);
    }
    store.close().await;
    let lease = other.take_lease(LeaseScope::Run, "run").await.unwrap();
    let daemon = other.take_lease(LeaseScope::Daemon, "serve").await.unwrap();
    assert_eq!(other.begin_epoch(&daemon, noon()).await.unwrap_err().kind, StateErrorKind::Constraint);
    let stranger = StateStore::open(server.location()).await.unwrap();
    assert_eq!(stranger.begin_epoch(&lease, noon()).await.unwrap_err().kind, StateErrorKind::Constraint);
    let (_folder, file) = super::fresh().await;
    assert_eq!(file.begin_epoch(&lease, noon()).await.unwrap_err().kind, StateErrorKind::Constraint);
}

#[tokio::test]
async fn one_entry_that_breaks_a_rule_takes_no_other_along() {
    let (_server, store) = fresh().await;
    let (run, image) = (new_run(1, noon()), manifest("1"));
    store.begin_run(&run).await.unwrap();
    let lease = crate::support::lease::lease(&store).await;
    let cases: Vec<_> = (0..20).map(|number| (number, intent(&format!("c-{number}"), &image))).collect();
    let runs = [run.id, uuid::Uuid::nil()];
    let written = cases.iter().map(|(number, intent)| {
        let run = runs[usize::from(number % 5 == 3)];
        store.intend(&lease, run, intent, &image, noon())
    });
    for ((number, intent), written) in cases.iter().zip(futures::future::join_all(written).await) {
        match written {
            Ok(journaled) => assert_eq!(store.journal_entry(journaled.id()).await.unwrap().intent, *intent),
            Err(error) => assert_eq!((error.kind, number % 5), (StateErrorKind::Constraint, 3), "{error:#}"),
        }
    }
    assert_eq!(store.journal(run.id).await.unwrap().len(), 16);
}

#[tokio::test]
async fn what_was_acknowledged_survives_the_server_and_it_goes_on_with_the_next() {
    let (mut server, store) = fresh().await;
    let (run, image) = (new_run(1, noon()), manifest("1"));
    store.begin_run(&run).await.unwrap();
    let lease = store.take_lease(LeaseScope::Run, "run by ada@here").await.unwrap();
    let token = store.begin_epoch(&lease, noon()).await.unwrap();
    let mut acknowledged = Vec::new();
    for number in 0..6 {
        let of = intent(&format!("c-{number}"), &image);
        acknowledged.push(store.intend(&token, run.id, &of, &image, noon()).await.unwrap().id());
    }
    server.kill();
    let lost = store.intend(&token, run.id, &intent("lost", &image), &image, noon()).await.unwrap_err();
    assert_eq!(lost.kind, StateErrorKind::Unavailable, "{lost:#}");
    assert!(lost.chain().contains("nothing is removed meanwhile"), "{lost:#}");
    assert_eq!(store.verify_file().unwrap_err().kind, StateErrorKind::Unavailable);

    server.restart().await;
    store.verify_disk_space().await.unwrap();
    store.verify_file().unwrap();
    let there: Vec<_> = store.pending_entries().await.unwrap().iter().map(|entry| entry.id).collect();
    assert_eq!(there, acknowledged);
    store.intend(&token, run.id, &intent("later", &image), &image, noon()).await.unwrap();
    // Idle connections that the server ended are no failure.
    server.kill();
    server.restart().await;
    store.record_outcome(acknowledged[0], &done(), noon()).await.unwrap();
}

#[tokio::test]
async fn other_tables_and_newer_ones_are_left_alone() {
    let server = Postgres::start().await;
    server.meddle("CREATE TABLE customers (id BIGINT)").await;
    let error = StateStore::open(server.location()).await.unwrap_err();
    assert_eq!(error.kind, StateErrorKind::Open);
    assert!(error.chain().contains("none of Tagwarden's"), "{error:#}");
    server.meddle("DROP TABLE customers").await;

    // Two at once.
    let location = server.location();
    let (first, second) = tokio::join!(StateStore::open(&location), StateStore::open(&location));
    first.unwrap().close().await;
    second.unwrap().close().await;
    let reader =
        "CREATE ROLE reader LOGIN PASSWORD 'open:sesame/42'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader";
    server.meddle(reader).await;
    let reader = server.location_at(&server.url().replace("tagwarden@", "reader@"));
    let store = StateStore::open_to_read(&reader).await.unwrap();
    assert_eq!(store.runs(1).await.unwrap(), []);
    assert_eq!(store.begin_run(&new_run(1, noon())).await.unwrap_err().kind, StateErrorKind::ReadOnly);

    server.meddle("UPDATE _sqlx_migrations SET version = 999 WHERE version = 1").await;
    for location in [&location, &reader] {
        let error = StateStore::open_to_read(location).await.unwrap_err();
        assert_eq!(error.kind, StateErrorKind::NewerSchema);
        assert!(error.chain().contains("version 999"), "{error:#}");
    }
}

#[tokio::test]
async fn a_server_must_prove_who_it_is() {
    let certified = certified();
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, &certified.authority).unwrap();
    let server = Postgres::start_encrypted(&certified.certificate, &certified.key).await;
    let location = |url: String, trusted: bool| -> StateLocation {
        let password = PostgresPassword::File(server.password_file());
        let database = PostgresLocation::parse(&url).unwrap().with_password(password);
        database.with_ca_file(trusted.then(|| ca_file.clone())).into()
    };
    let verified = format!("{}?sslmode=verify-full", server.url());
    let error = StateStore::open(location(verified.clone(), false)).await.unwrap_err();
    assert_eq!(error.kind, StateErrorKind::Open, "{error:#}");
    let elsewhere = verified.replace("127.0.0.1", "localhost");
    let error = StateStore::open(location(elsewhere.clone(), true)).await.unwrap_err();
    assert_eq!(error.kind, StateErrorKind::Open, "{error:#}");
    let by_authority = elsewhere.replace("verify-full", "verify-ca");
    for url in [verified, by_authority] {
        let store = StateStore::open(location(url, true)).await.unwrap();
        assert_eq!(store.runs(1).await.unwrap(), []);
        store.close().await;
    }
    assert_eq!(server.number("SELECT count(*) FROM pg_stat_ssl WHERE ssl AND pid = pg_backend_pid()").await, 1);

    let plain = Postgres::start().await;
    let error = StateStore::open(plain.location_at(&format!("{}?sslmode=verify-full", plain.url()))).await.unwrap_err();
    assert_eq!(error.kind, StateErrorKind::Open, "{error:#}");
}

#[tokio::test]
async fn a_token_of_entra_id_is_the_password() {
    let (entra, server) = (Entra::start().await, Postgres::start().await);
    server.meddle("ALTER ROLE tagwarden PASSWORD 'a-token-of-entra'").await;
    let token = r#"{"token_type":"Bearer","expires_in":3600,"access_token":"a-token-of-entra"}"#;
    entra.script_response(200, &[], token);
    let location = PostgresLocation::parse(&server.url()).unwrap();
    let location = location.with_password(PostgresPassword::Entra(Box::new(entra.application())));
    let store = StateStore::open(location.clone()).await.unwrap();
    assert_eq!(store.runs(1).await.unwrap(), []);
    assert_eq!(entra.request_count(), 1, "it is kept as long as it is good");
    let scope = entra.directory.lock().unwrap().asked[0]["scope"].clone();
    assert!(scope.contains("https://ossrdbms-aad.database.windows.net/.default"), "{scope}");
    let shown = format!("{store:?} {location:?} {location}");
    assert!(!shown.contains("a-token-of-entra") && !shown.contains(SECRET), "{shown}");

    entra.script_response(401, &[], r#"{"error":"invalid_client","error_description":"no"}"#);
    let refused = PostgresPassword::Entra(Box::new(entra.application()));
    let error = StateStore::open(location.with_password(refused)).await.unwrap_err();
    assert!(error.chain().contains("cannot get a token of Entra ID"), "{error:#}");
}

#[test]
fn urls_say_where_the_database_is_and_hold_no_secret() {
    use InvalidPostgresUrl::{Database, Encryption, Form, Parameter, Password, User};
    for (written, shown, unverified) in [
        ("postgres://ada@db.example/state", "postgres://ada@db.example/state", false),
        ("postgresql://ada@db.example:5433/state?sslmode=require", "postgres://ada@db.example:5433/state", true),
        ("postgres://ada@127.0.0.1/state", "postgres://ada@127.0.0.1/state", false),
        ("postgres://ada@[::1]:7/state", "postgres://ada@[::1]:7/state", false),
        ("postgres:///state?host=/run/postgresql&user=ada", "postgres:///state?host=/run/postgresql&user=ada", false),
        ("postgres://db.example/state?user=ada", "postgres://ada@db.example/state", false),
        ("postgres://ada%40contoso@db.example/state", "postgres://ada@contoso@db.example/state", false),
    ] {
        let location = PostgresLocation::parse(written).unwrap();
        assert_eq!((&*location.to_string(), location.is_unverified()), (shown, unverified), "{written}");
    }
    for (written, error) in [
        ("postgres://ada:hunter2@db.example/state", Password),
        ("postgres://db.example/state", User),
        ("postgres://ada@db.example", Database),
        ("postgres://ada@db.example/state?sslmode=verify_full", Encryption),
        ("postgres://ada@db.example/state?password=hunter2", Parameter),
        ("postgres:///state?user=ada", Form),
        ("mysql://ada@db.example/state", Form),
        ("postgres", Form),
    ] {
        assert_eq!(PostgresLocation::parse(written).unwrap_err(), error, "{written}");
        assert!(!error.to_string().contains("hunter2"));
    }
}

#[tokio::test]
async fn passwords_are_never_shown_and_may_change() {
    let shows = |thing: &dyn Debug, words: &str| {
        for text in [format!("{thing:?}"), format!("{thing:#?}"), words.to_owned()] {
            assert!(!text.contains(PASSWORD) && !text.contains("sesame"), "{text}");
        }
    };
    let (server, store) = fresh().await;
    shows(&store, &store.location().to_string());
    shows(&server.location(), "");
    let secret =
        PostgresLocation::parse(&server.url()).unwrap().with_password(PostgresPassword::Secret(PASSWORD.into()));
    shows(&secret, &secret.to_string());
    StateStore::open(secret).await.unwrap().close().await;

    let wrong = PostgresLocation::parse(&server.url()).unwrap();
    let wrong = wrong.with_password(PostgresPassword::Secret("sesame, close".into()));
    let error = StateStore::open(wrong).await.unwrap_err();
    assert_eq!(error.kind, StateErrorKind::Open, "{error:#}");
    shows(&error, &error.chain());
    assert!(error.chain().contains("password authentication failed"), "{error:#}");
    let missing = server.password_file().with_extension("gone");
    let missing = PostgresLocation::parse(&server.url()).unwrap().with_password(PostgresPassword::File(missing));
    assert!(StateStore::open(missing).await.unwrap_err().chain().contains("cannot read the password file"));

    // Another password counts for new connections, and those that are open need none.
    assert_eq!(store.runs(1).await.unwrap(), []);
    server.meddle("ALTER ROLE tagwarden PASSWORD 'another one'").await;
    assert_eq!(store.runs(1).await.unwrap(), []);
    std::fs::write(server.password_file(), "another one\n").unwrap();
    let opened = StateStore::open(server.location()).await.unwrap();
    assert_eq!(opened.runs(1).await.unwrap(), []);
}

/// A future may be dropped at any of its awaits, also between `BEGIN` and its answer.
#[tokio::test]
async fn no_connection_keeps_the_transaction_of_a_future_that_was_dropped() {
    let (server, store) = fresh().await;
    let none = std::collections::BTreeMap::new();
    for polls in (1..=6).cycle().take(60) {
        // So that there is a connection already.
        store.runs(1).await.unwrap();
        let mut read = std::pin::pin!(store.runs(1));
        for _ in 0..polls {
            if futures::poll!(read.as_mut()).is_ready() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }
    // Enough of them at once for each connection of the pool.
    for _ in 0..20 {
        let writes = (0..16).map(|_| store.record_schedule_progress(&none));
        for written in futures::future::join_all(writes).await {
            written.unwrap();
        }
    }
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let open = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'";
    assert_eq!(server.number(open).await, 0);
    let log = server.log();
    assert!(!log.contains("already a transaction in progress"), "{log}");
    assert!(!log.contains("read-only transaction"), "{log}");
}

/// Work that occupies all connections, such as a walk through hundreds of registries, does not cost the lease.
#[tokio::test]
async fn a_lease_is_renewed_while_all_connections_are_at_work() {
    let (server, store) = fresh().await;
    let _lease = store.take_lease(LeaseScope::Run, "run by ada@here").await.unwrap();
    let mut other = server.connect().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE holds IN ACCESS EXCLUSIVE MODE").execute(&mut other).await.unwrap();
    let busy: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.holds(noon()).await })
        })
        .collect();
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    while server.number(waiting).await < 7 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(!busy.iter().any(tokio::task::JoinHandle::is_finished));
    let read = tokio::time::timeout(std::time::Duration::from_secs(1), store.runs(1)).await;
    assert!(read.is_err(), "there is no connection left for other work");
    // One that is not renewed within the next six seconds is over.
    server.meddle("UPDATE leases SET expires_at = clock_timestamp() + interval '6 seconds'").await;
    let left = "SELECT floor(extract(epoch FROM expires_at - clock_timestamp()))::bigint FROM leases";
    while server.number(left).await < 10 {
        assert!(server.number(left).await >= 0, "nobody renewed it");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
    for read in busy {
        read.await.unwrap().unwrap();
    }
    let connections = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tagwarden'";
    assert_eq!(server.number(connections).await, 8, "the leases have one of their own");
}
