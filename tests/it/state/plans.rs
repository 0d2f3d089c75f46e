//! Plans: whole or not there, shared with the next one, and those of older versions.

use std::io;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use tagwarden::state::{ChunkCounts, PlanChunk, PlanList, list_places};

use super::*;

const HEAD: &str = r#"{"id":"x","hypothetical":false,"removals":[],"kept":[],"summary":{"tags":3}}"#;

fn plan_run(number: u128, kind: RunKind) -> NewRun {
    NewRun { kind, ..new_run(number, noon()) }
}

fn removal(repository: &str, tag: &str, bytes: &str) -> String {
    format!(r#"{{"registry":"contoso","repository":"{repository}","tag":"{tag}","reclaimable_bytes":{bytes}}}"#)
}

fn kept(repository: &str, tag: &str, verdict: &str) -> String {
    format!(r#"{{"registry":"contoso","repository":"{repository}","tag":"{tag}","verdict":"{verdict}"}}"#)
}

fn chunk(repository: &str, removals: &[String], stays: &[String]) -> PlanChunk {
    let counts = ChunkCounts {
        expired: removals.len() as u64,
        retained: stays.len() as u64,
        reclaimable_bytes: 7,
        ..ChunkCounts::default()
    };
    let json = |tags: &[String]| format!("[{}]", tags.join(",")).into_bytes();
    PlanChunk::new("contoso".into(), repository.into(), counts, &json(removals), &json(stays))
}

async fn save(store: &StateStore, run: &NewRun, head: &str, chunks: &[PlanChunk]) {
    store.begin_run(run).await.unwrap();
    let mut all = chunks.iter().cloned().map(Ok::<_, io::Error>);
    store.save_plan(run.id, "sha256:abc", head, &mut all).await.unwrap();
}

async fn connect(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).create_if_missing(true).foreign_keys(true).connect().await.unwrap()
}

/// Rows of chunks and of lists of tags that stay.
async fn rows(path: &Path) -> (i64, i64) {
    let mut connection = connect(path).await;
    let counts = sqlx::query_as("SELECT (SELECT count(*) FROM plan_chunks), (SELECT count(*) FROM kept_lists)");
    let counts = counts.fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    counts
}

#[tokio::test]
async fn chunks_come_back_in_order() {
    let (_folder, store) = fresh().await;
    let chunks = [
        chunk("api", &[removal("api", "c-1", "7")], &[kept("api", "v1", "retained")]),
        chunk("api", &[], &[kept("api", "v2", "retained")]),
        chunk("web", &[removal("web", "c-1", "null")], &[]),
    ];
    let run = plan_run(1, RunKind::Plan);
    save(&store, &run, HEAD, &chunks).await;
    assert_eq!(store.plan_head(run.id).await.unwrap().as_deref(), Some(HEAD));
    let infos = store.plan_chunks(run.id).await.unwrap();
    for (number, chunk) in (0_u32..).zip(&chunks) {
        let info = &infos[number as usize];
        let expected = (number, &chunk.repository, &chunk.hash, chunk.counts, true);
        assert_eq!((info.ordinal, &info.repository, &info.hash, info.counts, info.has_kept), expected);
        assert_eq!(store.plan_chunk(run.id, number).await.unwrap().as_ref(), Some(chunk));
    }
    assert_eq!((infos.len(), store.plan_chunk(run.id, 3).await.unwrap()), (3, None));
    assert_eq!(store.plan_chunks(Uuid::nil()).await.unwrap(), []);
    let json = PlanChunk::json(&chunks[1].kept).unwrap();
    assert_eq!(String::from_utf8(json).unwrap(), format!("[{}]", kept("api", "v2", "retained")));
    assert_eq!(
        list_places(HEAD).iter().map(|(list, _)| *list).collect::<Vec<_>>(),
        [PlanList::Removals, PlanList::Kept]
    );
}

/// A state has the plans of weeks: the history of a tag must not read the chunks of all repositories.
#[tokio::test]
async fn removals_of_a_repository_are_found_by_an_index() {
    let (folder, store) = fresh().await;
    store.close().await;
    let mut connection = connect(&folder.path().join("tagwarden.db")).await;
    let query = "EXPLAIN QUERY PLAN SELECT run, ordinal FROM plan_chunks
                 WHERE expired > 0 AND registry = 'contoso' AND repository = 'api'";
    let steps: Vec<(i64, i64, i64, String)> = sqlx::query_as(query).fetch_all(&mut connection).await.unwrap();
    let step = "SEARCH plan_chunks USING INDEX plan_chunks_removals (registry=? AND repository=?)";
    assert_eq!(steps.iter().map(|step| &*step.3).collect::<Vec<_>>(), [step]);
    connection.close().await.unwrap();
}

#[tokio::test]
async fn a_plan_that_was_cut_short_is_never_seen() {
    let (folder, store) = fresh().await;
    let path = folder.path().join("tagwarden.db");
    let run = plan_run(1, RunKind::Run);
    store.begin_run(&run).await.unwrap();
    // Each is more than one transaction writes.
    let large = |repository: &str| PlanChunk { removals: vec![1; 5 << 20], ..chunk(repository, &[], &[]) };
    let parts = vec![Ok(large("a")), Ok(large("b")), Err(io::Error::other("no room"))];
    let error = store.save_plan(run.id, "sha256:abc", HEAD, &mut parts.into_iter()).await.unwrap_err();
    assert!(error.chain().contains("no room"), "{error}");
    assert_eq!(rows(&path).await.0, 2, "they were written, as before a kill");
    let store = StateStore::open(&path).await.unwrap();
    assert_eq!(store.plan_head(run.id).await.unwrap(), None);
    assert_eq!(store.plan_chunks(run.id).await.unwrap(), []);
    assert_eq!(store.plan_chunk(run.id, 0).await.unwrap(), None);
    assert_eq!(
        (store.runs(1).await.unwrap()[0].plan_id.clone(), store.find_plan("sha256:abc").await.unwrap()),
        (None, None)
    );
    assert_eq!(store.last_whole_plan().await.unwrap(), None);

    // Another run does not take them for its own, and clears them away once the first has ended.
    save(&store, &plan_run(2, RunKind::Run), HEAD, &[chunk("a", &[], &[])]).await;
    assert_eq!(rows(&path).await.0, 3);
    store.finish_run(run.id, &end(noon())).await.unwrap();
    save(&store, &plan_run(3, RunKind::Run), HEAD, &[chunk("a", &[], &[])]).await;
    assert_eq!(rows(&path).await.0, 2);
}

#[tokio::test]
async fn tags_that_stay_are_those_of_the_last_plan_of_everything() {
    let (folder, store) = fresh().await;
    let path = folder.path().join("tagwarden.db");
    let stays = |tag: &str| vec![kept("api", tag, "retained")];
    let of = |tag: &str| [chunk("api", &[removal("api", "c-1", "7")], &stays(tag)), chunk("web", &[], &stays("same"))];
    let hypothetical = HEAD.replace("false", "true");
    let (first, second) = (plan_run(1, RunKind::Plan), plan_run(2, RunKind::Run));
    let (at, applied) = (plan_run(3, RunKind::Plan), plan_run(4, RunKind::Apply));
    let has_kept = async |run: &NewRun| store.plan_chunks(run.id).await.unwrap().iter().all(|chunk| chunk.has_kept);

    save(&store, &first, HEAD, &of("v1")).await;
    assert!(has_kept(&first).await);
    save(&store, &second, HEAD, &of("v2")).await;
    assert_eq!((has_kept(&first).await, has_kept(&second).await), (false, true));
    assert_eq!(rows(&path).await, (4, 2), "the list that both have is there once");
    let older = store.plan_chunk(first.id, 0).await.unwrap().unwrap();
    assert_eq!((older.counts, older.kept.len()), (of("v1")[0].counts, 0));
    assert_eq!(older.removals, of("v1")[0].removals);

    save(&store, &at, &hypothetical, &of("v3")).await;
    save(&store, &applied, HEAD, &of("v4")).await;
    let still = [has_kept(&first).await, has_kept(&second).await, has_kept(&at).await, has_kept(&applied).await];
    assert_eq!(still, [false, true, false, true]);
    assert_eq!(store.last_whole_plan().await.unwrap(), Some(second.id));

    store.finish_run(second.id, &end(noon())).await.unwrap();
    store.confirm_time(second.id, noon()).await.unwrap();
    let cutoffs = RetentionCutoffs { runs: noon() - 1.hour(), plans: noon() + 1.hour() };
    assert_eq!(store.prune(cutoffs).await.unwrap().plans, 1);
    assert_eq!(store.plan_chunks(second.id).await.unwrap(), []);
    assert_eq!(rows(&path).await.0, 6);
}

/// A state of the version that kept each plan in one piece.
#[tokio::test]
async fn plans_of_an_older_version_are_brought_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tagwarden.db");
    let mut migrator = sqlx::migrate!("./migrations");
    migrator.migrations.to_mut().retain(|migration| migration.version <= 13);
    let mut connection = connect(&path).await;
    migrator.run_direct(None, &mut connection, false).await.unwrap();
    let removals = [removal("api", "c-1", "7"), removal("api", "c-2", "null"), removal("web", "c-1", "5")];
    let stays = [kept("api", "v1", "retained"), kept("api", "v2", "protected"), kept("lib", "v1", "odd")];
    let plan = format!(
        r#"{{"id":"x","hypothetical":false,"removals":[{}],"kept":[{}],"summary":{{"tags":3}}}}"#,
        removals.join(","),
        stays.join(",")
    );
    // The first cannot be read to its end.
    for (number, cut) in [(1_u128, 9), (2, 0), (3, 0)] {
        let run = new_run(number, noon()).id.to_string();
        let packed = miniz_oxide::deflate::compress_to_vec_zlib(plan.as_bytes(), 1);
        let packed = &packed[..packed.len() - cut];
        sqlx::query(
            "INSERT INTO runs (id, kind, mode, started_at, started_by, version, number)
             VALUES (?1, 'plan', 'dry-run', '2026-11-01T00:00:00.000000000Z', 'a@b', '0', ?2)",
        )
        .bind(&run)
        .bind(i64::try_from(number).unwrap())
        .execute(&mut connection)
        .await
        .unwrap();
        let plan_row = sqlx::query("INSERT INTO plans (run, plan_id) VALUES (?1, 'sha256:abc')").bind(&run);
        plan_row.execute(&mut connection).await.unwrap();
        for (part, bytes) in (0_i64..).zip(packed.chunks(100)) {
            let row =
                sqlx::query("INSERT INTO plan_parts (run, part, bytes) VALUES (?1, ?2, ?3)").bind(&run).bind(part);
            row.bind(bytes.to_vec()).execute(&mut connection).await.unwrap();
        }
    }
    connection.close().await.unwrap();

    // The second start finds nothing more to do.
    for _ in 0..2 {
        let store = StateStore::open(&path).await.unwrap();
        let (damaged, older, newest) = (new_run(1, noon()).id, new_run(2, noon()).id, new_run(3, noon()).id);
        assert_eq!(store.plan_head(damaged).await.unwrap(), None);
        assert_eq!(store.runs(9).await.unwrap().iter().filter(|run| run.plan_id.is_some()).count(), 2);
        assert_eq!(store.last_whole_plan().await.unwrap(), Some(newest));
        for (run, keeps) in [(older, false), (newest, true)] {
            assert_eq!(store.plan_head(run).await.unwrap().as_deref(), Some(HEAD));
            let infos = store.plan_chunks(run).await.unwrap();
            let seen: Vec<_> = infos
                .iter()
                .map(|one| (&*one.repository, one.counts.expired, one.counts.kept(), one.has_kept))
                .collect();
            assert_eq!(seen, [("api", 2, 0, true), ("web", 1, 0, true), ("api", 0, 2, keeps), ("lib", 0, 1, keeps)]);
            let expected =
                ChunkCounts { expired: 2, reclaimable_bytes: 7, unknown_bytes_removals: 1, ..ChunkCounts::default() };
            assert_eq!(infos[0].counts, expected);
            let mut lists = [Vec::new(), Vec::new()];
            for info in &infos {
                let chunk = store.plan_chunk(run, info.ordinal).await.unwrap().unwrap();
                for (list, packed) in lists.iter_mut().zip([&chunk.removals, &chunk.kept]) {
                    let json = String::from_utf8(PlanChunk::json(packed).unwrap()).unwrap();
                    list.extend(Some(json[1..json.len() - 1].to_owned()).filter(|tags| !tags.is_empty()));
                }
            }
            let kept = if keeps { stays.join(",") } else { String::new() };
            assert_eq!(lists.map(|list| list.join(",")), [removals.join(","), kept]);
        }
        store.close().await;
        let mut connection = connect(&path).await;
        let parts: i64 =
            sqlx::query_scalar("SELECT count(*) FROM plan_parts").fetch_one(&mut connection).await.unwrap();
        assert_eq!(parts, 0);
        connection.close().await.unwrap();
    }
}
