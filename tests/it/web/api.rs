//! The API answers what its description says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use boon::{Compiler, Schemas};
use serde_json::{Value, json};
use tagwarden::domain::{Action, Digest, Intent, Outcome, RemovalMethod, SkipReason};
use tagwarden::state::{RecordedPolicy, RunContext, RunKind};

use super::fixture::{WebFixture, new_run, noon, plan, record, run_id, settings};
use crate::support::lease::lease;

const DESCRIPTION: &str = include_str!("../../../schema/openapi.json");

pub(super) async fn world() -> WebFixture {
    let world = WebFixture::new().await;
    let store = &world.context.store;
    record(store, 1, plan(60), noon() - jiff::Span::new().hours(24)).await;
    record(store, 2, plan(120), noon()).await;
    store.begin_run(&new_run(3, RunKind::Apply, noon())).await.unwrap();
    world
}

/// Holds an answer against the schema of its path in the description.
pub(super) fn check(path: &str, answer: &Value) {
    let mut description: Value = serde_json::from_str(DESCRIPTION).unwrap();
    let schema = description["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"].take();
    assert!(schema.is_object(), "{path} is not described");
    let text = json!({ "$ref": "#/answer", "answer": schema, "components": description["components"] });
    let text: Value =
        serde_json::from_str(&text.to_string().replace("\"#/components", "\"schema.json#/components")).unwrap();
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.enable_format_assertions();
    compiler.add_resource("schema.json", text).unwrap();
    let schema = compiler.compile("schema.json", &mut schemas).unwrap();
    if let Err(error) = schemas.validate(answer, schema) {
        panic!("{path}: {error:#}\n{answer:#}");
    }
}

/// Mistakes in a query are named in the words of this program.
#[tokio::test]
async fn an_invalid_query_is_named() {
    let world = world().await;
    let id = run_id(2);
    for (address, words) in [
        ("/api/v1/runs?limit=x".to_owned(), "`limit` must be a whole number below 4294967296, not `x`"),
        (format!("/api/v1/runs/{id}/tags?page=-1&limit=5"), "`page` must be a whole number below 4294967296, not `-1`"),
        ("/api/v1/removals?limit=1&limit=2".to_owned(), "`limit` is given more than once"),
    ] {
        let answer = world.get(&address).await;
        assert_eq!(answer.status, 400, "{address}");
        assert!(answer.body.contains(words), "{address}: {}", answer.body);
    }
}

#[tokio::test]
async fn every_address_is_described_and_answers_so() {
    let world = world().await;
    let id = run_id(2).to_string();
    let mut seen = BTreeSet::new();
    for (path, address) in [
        ("/openapi.json", "/openapi.json".to_owned()),
        ("/status", "/status".to_owned()),
        ("/runs", "/runs?limit=2".to_owned()),
        ("/runs/{id}", format!("/runs/{id}")),
        ("/runs/{id}", format!("/runs/{}", run_id(3))),
        ("/runs/{id}/plan", format!("/runs/{id}/plan")),
        ("/runs/{id}/tags", format!("/runs/{id}/tags?limit=200")),
        ("/runs/{id}/removals", format!("/runs/{id}/removals")),
        ("/removals", "/removals?limit=2".to_owned()),
        ("/holds", "/holds".to_owned()),
        ("/sources", "/sources".to_owned()),
        ("/registries", "/registries".to_owned()),
        ("/registries/{registry}", "/registries/contoso".to_owned()),
        ("/registries/{registry}/{repository}", "/registries/contoso/shop/part-000".to_owned()),
    ] {
        let answer = world.get(&format!("/api/v1{address}")).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"), "{address}");
        check(path, &answer.json());
        seen.insert(path);
    }
    let description: Value = serde_json::from_str(DESCRIPTION).unwrap();
    let described: BTreeSet<&str> = description["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(seen, described);
}

#[tokio::test]
async fn what_is_not_there_is_told_in_json() {
    let world = world().await;
    let id = run_id(2);
    for (address, status, kind) in [
        ("/nowhere".to_owned(), 404, "not-found"),
        ("/runs/zz".to_owned(), 404, "not-found"),
        ("/runs/0193%00".to_owned(), 404, "not-found"),
        ("/runs/01930000".to_owned(), 400, "ambiguous"),
        (format!("/runs/{}/plan", run_id(3)), 404, "not-found"),
        (format!("/runs/{id}/tags?verdict=gone"), 400, "bad-request"),
        (format!("/runs/{id}/tags?page=x"), 400, "bad-request"),
        (format!("/runs/{id}/tags?page=0"), 400, "bad-request"),
        ("/runs?limit=0".to_owned(), 400, "bad-request"),
        ("/runs?limit=1001".to_owned(), 400, "bad-request"),
        ("/runs?before=x".to_owned(), 400, "bad-request"),
        ("/removals?before=x".to_owned(), 400, "bad-request"),
        ("/removals?before=-1".to_owned(), 400, "bad-request"),
        ("/registries/fabrikam".to_owned(), 404, "not-found"),
        ("/registries/contoso/no/such".to_owned(), 404, "not-found"),
        ("/registries/contoso/..%2F..".to_owned(), 404, "not-found"),
    ] {
        let answer = world.get(&format!("/api/v1{address}")).await;
        assert_eq!((answer.status, answer.json()["error"]["kind"].as_str()), (status, Some(kind)), "{address}");
    }
}

#[tokio::test]
async fn pages_of_tags_together_are_the_plan() {
    let world = world().await;
    let plan = plan(120);
    let names = |answer: &Value| -> Vec<String> {
        let tags = answer["tags"].as_array().unwrap().iter();
        tags.map(|tag| format!("{}:{}", tag["repository"].as_str().unwrap(), tag["tag"].as_str().unwrap())).collect()
    };
    let mut paged = Vec::new();
    for page in 1..=5 {
        let answer = world.get(&format!("/api/v1/runs/{}/tags?limit=25&page={page}", run_id(2))).await.json();
        assert_eq!(answer["total"], 120);
        paged.extend(names(&answer));
    }
    let all: Vec<String> = plan
        .removals
        .iter()
        .map(|removal| format!("{}:{}", removal.repository, removal.tag))
        .chain(plan.kept.iter().map(|kept| format!("{}:{}", kept.repository, kept.tag)))
        .collect();
    assert_eq!(paged, all);

    let ask = async |query: &str| {
        let answer = world.get(&format!("/api/v1/runs/{}/tags?limit=1000&{query}", run_id(2))).await.json();
        (answer["total"].as_u64().unwrap(), names(&answer).len() as u64)
    };
    assert_eq!(ask("verdict=expired").await, (12, 12));
    assert_eq!(ask("verdict=undecided").await, (0, 0));
    assert_eq!(ask("verdict=protected").await, (plan.summary.protected, plan.summary.protected));
    assert_eq!(ask("search=RELEASE-00001").await, (9, 9));
    // 4, 40, 46 and 49; 43 goes, and no other is claimed.
    assert_eq!(ask("search=deployment%20api-4").await, (4, 4));
    assert_eq!(ask("search=api-4&verdict=retained").await.0, 0);
    assert_eq!(ask("search=repository").await, (0, 0), "keys are no content");
    let whole = world.get(&format!("/api/v1/runs/{}/plan", run_id(2))).await;
    assert_eq!(whole.body, serde_json::to_string(&plan).unwrap());
}

#[tokio::test]
async fn lists_go_on_where_they_ended() {
    let world = world().await;
    let first = world.get("/api/v1/runs?limit=2").await.json();
    let ids = |answer: &Value| -> Vec<Value> {
        answer["runs"].as_array().unwrap().iter().map(|run| run["id"].clone()).collect()
    };
    assert_eq!(ids(&first), [json!(run_id(3).to_string()), json!(run_id(2).to_string())]);
    let rest = world.get(&format!("/api/v1/runs?limit=2&before={}", first["next"].as_str().unwrap())).await.json();
    assert_eq!((ids(&rest), &rest["next"]), (vec![json!(run_id(1).to_string())], &Value::Null));
    assert_eq!(first["runs"][0]["outcome"], "unfinished");

    let mut entries = Vec::new();
    let mut before = String::new();
    loop {
        let page = world.get(&format!("/api/v1/removals?limit=4{before}")).await.json();
        entries.extend(page["entries"].as_array().unwrap().iter().map(|entry| entry["number"].as_i64().unwrap()));
        let Some(next) = page["next"].as_i64() else { break };
        before = format!("&before={next}");
    }
    assert_eq!(entries, [6, 5, 4, 3, 2, 1]);
    let of_run = world.get(&format!("/api/v1/runs/{}/removals", run_id(1))).await.json();
    assert_eq!(of_run["entries"].as_array().unwrap().len(), 3);
}

/// A run that was killed has no counts on record: its journal has them.
#[tokio::test]
async fn an_unfinished_run_shows_what_it_removed() {
    let world = WebFixture::new().await;
    let store = &world.context.store;
    record(store, 1, plan(20), noon()).await;
    store.begin_run(&new_run(2, RunKind::Apply, noon())).await.unwrap();
    let lease = lease(store).await;
    for (tag, outcome) in [
        ("candidate-000003", Outcome::Done(String::new())),
        ("candidate-000013", Outcome::Done(String::new())),
        ("candidate-000023", Outcome::Skipped(SkipReason::Missing)),
        ("candidate-000033", Outcome::Failed("refused".into())),
    ] {
        let intent = Intent {
            action: Action::Remove(RemovalMethod::Untag),
            registry: "contoso".parse().unwrap(),
            repository: "shop/part-000".parse().unwrap(),
            tag: tag.parse().unwrap(),
            digest: Digest::of(b"x"),
            media_type: "".into(),
            policy: None,
            evidence: "[]".into(),
            endpoint: None,
            date: None,
        };
        store.record_not_attempted(&lease, run_id(2), &intent, &outcome, noon()).await.unwrap();
    }
    let listed = world.get("/api/v1/runs").await.json();
    let shown = world.get(&format!("/api/v1/runs/{}", run_id(2))).await.json();
    for run in [&listed["runs"][0], &shown] {
        assert_eq!((&run["outcome"], &run["plan_id"]), (&json!("unfinished"), &Value::Null), "{run:#}");
        let counts = ["removed", "deleted", "restored", "skipped", "failed"].map(|key| run["summary"][key].clone());
        assert_eq!(counts, [2, 0, 0, 1, 1].map(|count| json!(count)), "{run:#}");
    }
    assert_eq!(listed["runs"][1]["summary"]["removed"], 1, "what is on record counts");
    for address in ["/", "/runs", &format!("/runs/{}", run_id(2))] {
        let page = world.get(address).await.body;
        let words = if address.len() > "/runs".len() { "untag: 2 done" } else { ">2, 1 failed<" };
        assert!(page.contains(words), "{address}: no {words} in\n{page}");
    }
}

#[tokio::test]
async fn entries_name_the_text_of_their_policy() {
    let world = WebFixture::new().await;
    let store = &world.context.store;
    // As in a version that kept no policies.
    record(store, 1, plan(20), noon()).await;
    let policy = |name: &str| RecordedPolicy {
        name: name.into(),
        mode: "enforce".into(),
        file: format!("{name}.yaml"),
        revision: format!("sha256:{name}"),
    };
    let policies = [policy("nightlies"), policy("candidate-builds")];
    store.record_policies("sha256:all", &policies, &BTreeMap::new()).await.unwrap();
    let went_by =
        RunContext { revision: Some("sha256:all".into()), commit: Some("cafe".into()), ..RunContext::default() };
    store.begin_run_with_context(&new_run(2, RunKind::Run, noon()), &went_by).await.unwrap();
    let lease = lease(store).await;
    for name in [Some("candidate-builds"), Some("renamed"), None] {
        let intent = Intent {
            action: Action::Remove(RemovalMethod::Untag),
            registry: "contoso".parse().unwrap(),
            repository: "shop/part-000".parse().unwrap(),
            tag: "candidate-000033".parse().unwrap(),
            digest: Digest::of(b"x"),
            media_type: "".into(),
            policy: name.map(str::to_owned),
            evidence: "[]".into(),
            endpoint: None,
            date: None,
        };
        store
            .record_not_attempted(&lease, run_id(2), &intent, &Outcome::Skipped(SkipReason::Missing), noon())
            .await
            .unwrap();
    }
    let expected = [
        json!([null, null, null, null]),
        json!(["renamed", null, null, "cafe"]),
        json!(["candidate-builds", "candidate-builds.yaml", "sha256:candidate-builds", "cafe"]),
        json!(["candidate-builds", null, null, null]),
    ];
    for (address, list) in [("/removals?limit=4", "entries"), ("/registries/contoso/shop/part-000", "history")] {
        let answer = world.get(&format!("/api/v1{address}")).await.json();
        let entries = answer[list].as_array().unwrap_or_else(|| panic!("{address}: {answer:#}"));
        let told = entries.iter().take(4).map(|entry| {
            json!([entry["policy"], entry["policy_file"], entry["policy_revision"], entry["policies_commit"]])
        });
        assert_eq!(told.collect::<Vec<_>>(), expected, "{address}");
    }
}

/// Most clients ask for it, and each had got a plan that broke off.
#[tokio::test]
async fn a_compressed_plan_is_whole() {
    let world = world().await;
    let address = format!("/api/v1/runs/{}/plan", run_id(2));
    let plain = world.get(&address).await.body;
    let request = reqwest::Client::new().get(format!("http://{}{address}", world.address));
    let answer = request.header("accept-encoding", "gzip").send().await.unwrap();
    assert_eq!(answer.headers()["content-encoding"], "gzip");
    let packed = answer.bytes().await.unwrap();
    // Ten bytes of header and eight of checksum and length surround the stream (RFC 1952).
    let unpacked = miniz_oxide::inflate::decompress_to_vec(&packed[10..packed.len() - 8]).unwrap();
    assert_eq!(String::from_utf8(unpacked).unwrap(), plain);
}

/// A reload is how a person stops all removals at once: the pages show what is in force.
#[tokio::test]
async fn settings_that_are_reloaded_are_shown() {
    let world = world().await;
    let other = "mode = \"approved\"\n[schedule]\ntimezone = \"Asia/Tokyo\"\n\
                 [registries.fabrikam]\nkind = \"distribution\"\nendpoint = \"https://fabrikam.example\"\n";
    let reloaded = settings(world.folder.path(), other);
    let shown = async || {
        let status = world.get("/api/v1/status").await.json()["mode"].as_str().unwrap().to_owned();
        let registries = world.get("/api/v1/registries").await.json()["registries"][0]["name"].clone();
        let home = world.get("/").await.body;
        let seen = [">dry-run</b>", ">approved</b>", "fabrikam.example", "21:00"];
        (status, registries, seen.map(|words| home.contains(words)))
    };
    assert_eq!(shown().await, ("dry-run".to_owned(), json!("contoso"), [true, false, false, false]));
    world.reload.send_replace(Arc::new(reloaded));
    assert_eq!(shown().await, ("approved".to_owned(), json!("fabrikam"), [false, true, true, true]));
}
