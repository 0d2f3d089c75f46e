//! A registry that throttles, lies, changes and is left in the middle.

use std::collections::BTreeMap;

use tagwarden::demo::image::{self as images, Format};
use tagwarden::demo::registry::{Attributes, Target};

use super::*;

fn throttled(retry_after: Option<&str>) -> FaultKind {
    let headers = retry_after.map(|value| ("retry-after".to_owned(), value.to_owned()));
    FaultKind::Status {
        status: 429,
        headers: headers.into_iter().collect(),
        body: r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"too many requests"}]}"#.into(),
    }
}

#[tokio::test]
async fn a_storm_of_429_at_any_endpoint_slows_a_run_and_does_not_end_it() {
    for retry_after in [Some("1"), None] {
        let identity = cleaner(Permission::ALL);
        let mut azure = Azure::with(options().identity(identity), "auth = { kind = \"azure-cli\" }").await;
        az_that_says(&mut azure.desk, "token-of-az");
        // Without a time to wait for, pauses grow, so fewer of those must do.
        let times = if retry_after.is_some() { 2 } else { 1 };
        for path in ["/oauth2/exchange", "/oauth2/token", "/acr/v1/_catalog", "/_tags?", "/_manifests?"] {
            azure.registry.inject(Fault::on(path, throttled(retry_after)).times(times));
        }
        let deleted = Fault::on("/_tags/", throttled(retry_after)).method(Method::DELETE);
        azure.registry.inject(deleted.times(times));
        azure.run("plan --out plan.json").await.exits(0);
        azure.run("apply plan.json").await.exits(0);
        assert_eq!(tags(&azure.registry, "shop/api"), ["c-4", "c-5"]);
    }
}

#[tokio::test]
async fn a_proxy_that_answers_for_the_registry_costs_no_tag() {
    for (path, method) in [
        ("/oauth2/exchange", Method::POST),
        ("/oauth2/token", Method::POST),
        ("/acr/v1/_catalog", Method::GET),
        ("/acr/v1/shop/api/_tags?", Method::GET),
        ("/acr/v1/shop/api/_manifests?", Method::GET),
        ("/acr/v1/shop/api/_tags/c-", Method::GET),
        ("/acr/v1/shop/api/_tags/c-", Method::DELETE),
        ("/v2/shop/api/manifests/", Method::GET),
    ] {
        let identity = cleaner(Permission::ALL);
        let lines = "auth = { kind = \"azure-cli\" }";
        let mut azure = Azure::with(options().identity(identity), lines).await;
        az_that_says(&mut azure.desk, "token-of-az");
        azure.settings("enforce", lines, "");
        azure.registry.inject(Fault::on(path, FaultKind::HtmlPage).method(method.clone()));
        let done = azure.run("run").await;
        assert!([4, 5].contains(&done.code), "{method} {path}: {}\n{}{}", done.code, done.out, done.err);
        assert_eq!(azure.registry.tags("shop/api").len(), 5, "{method} {path}: {}", done.out);
        let told = format!("{}{}", done.out, done.err);
        assert!(told.contains("web page"), "{method} {path}: {told}");
    }
}

#[tokio::test]
async fn a_plan_pulls_nothing_but_indexes() {
    let azure = Azure::with(options(), BASIC).await;
    let pulls = || -> Vec<String> {
        let requests = azure.registry.requests().into_iter().map(|request| request.path);
        requests.filter(|path| path.starts_with("/v2/") && path != "/v2/").collect()
    };
    azure.run("plan").await.exits(0);
    azure.run("explain contoso/shop/api:c-1").await.exits(0);
    assert_eq!(pulls(), [""; 0]);
    let index = images::index(Format::Oci, &[image("arm", "2024-01-01"), image("amd", "2024-01-01")]);
    azure.registry.put_image("shop/api", "multi", &index);
    azure.run("plan").await.exits(0);
    azure.run("plan").await.exits(0);
    assert_eq!(pulls(), [format!("/v2/shop/api/manifests/{}", index.digest)], "once, and kept");
}

#[tokio::test]
async fn exact_bytes_tell_whose_image_a_bare_digest_is() {
    let azure = Azure::with(options(), BASIC).await;
    let one = image("shop/api-c-1", "2024-01-01");
    let config: Value = serde_json::from_slice(&azure.registry.manifest("shop/api", &one.digest).unwrap().0).unwrap();
    let config = config["config"]["digest"].as_str().unwrap();
    azure.desk.write("running.json", &format!("[{{\"image\": \"{config}\"}}]"));
    let source = "[sources.running]\nkind = \"release-records\"\npaths = [\"running.json\"]\n";
    azure.settings("approved", BASIC, source);
    let done = azure.run("plan").await.exits(0);
    assert!(done.out.contains("3 undecided"), "{}", done.out);
    assert!(done.out.contains("(`bytes = \"exact\"` for the registry reads it)"), "{}", done.out);
    let done = azure.run("explain contoso/shop/api:c-1").await.exits(0);
    assert!(done.out.contains("the registry's setting `bytes = \"exact\"` reads every configuration"), "{}", done.out);
    azure.settings("approved", &format!("{BASIC}\nbytes = \"exact\""), source);
    let plan = azure.run("plan --format json").await.exits(0).json();
    assert_eq!(plan["summary"]["bytes"], "exact");
    assert_eq!(super::super::names(&plan, "removals"), ["shop/api:c-2", "shop/api:c-3"]);
}

/// Every tag with its manifest's bytes and media type.
fn whole(registry: &EmbeddedRegistry, repository: &str) -> BTreeMap<String, (Vec<u8>, String)> {
    let found = registry.tags(repository).into_iter().map(|(tag, digest)| {
        let (bytes, kind) = registry.manifest(repository, &digest).unwrap();
        (tag, (bytes.to_vec(), kind))
    });
    found.collect()
}

#[tokio::test]
async fn killed_in_the_middle_it_is_settled_and_everything_comes_back_byte_for_byte() {
    let mut azure = Azure::with(options(), BASIC).await;
    let repository = "shop/deep/er/api_v2.x";
    for number in 1..=30 {
        azure.push(repository, &format!("c-{number}"), 300 - number);
    }
    // Every character that a tag may have, both formats, and an index with its parts.
    azure.push(repository, "c-_A.z-9__..--", 400);
    let then = clock()() - SignedDuration::from_hours(24 * 350);
    let children = [image("arm", "2024-01-01"), image("amd", "2024-01-01")];
    for (tag, format) in [("c-index-docker", Format::Docker), ("c-index-oci", Format::Oci)] {
        azure.registry.content(|content| {
            content.put_image(repository, Some(tag), &images::index(format, &children));
            assert!(content.date_tag(repository, tag, then, then));
        });
    }
    let before = whole(&azure.registry, repository);
    // What a request may still be about to do is not settled before its time is over.
    azure.settings("enforce", &format!("{BASIC}\ntimeout = \"1s\""), "");
    azure.slow_down();
    let mut running = azure.running("run", 9).await;
    running.kill().await.unwrap();
    let done = azure.run("run").await.exits(0);
    assert_eq!(azure.registry.tags(repository).len(), 2, "{}", done.out);
    assert_eq!(tags(&azure.registry, "shop/api"), ["c-4", "c-5"]);

    tokio::time::sleep(Duration::from_millis(1100)).await;
    azure.run("plan").await.exits(0);
    let runs = azure.run("runs --format json").await.exits(0).json()["runs"].clone();
    for run in runs.as_array().unwrap() {
        let id = run["id"].as_str().unwrap();
        let shown = azure.run(&format!("runs show {id} --format json")).await.exits(0).json();
        let open = shown["journal"].as_array().unwrap().iter().filter(|entry| entry["outcome"].is_null());
        assert_eq!(open.count(), 0, "nothing is left open: {shown}");
    }
    for run in runs.as_array().unwrap().iter().filter(|run| run["kind"] == "run") {
        let id = run["id"].as_str().unwrap();
        azure.run(&format!("restore --run {id}")).await.exits(0);
    }
    assert_eq!(whole(&azure.registry, repository), before);
}

#[tokio::test]
async fn locks_and_moves_between_plan_and_removal_are_told_for_each_tag() {
    let azure = Azure::with(options(), BASIC).await;
    azure.run("plan --out plan.json").await.exits(0);
    let elsewhere = azure.registry.tags("shop/api")["c-5"].clone();
    azure.registry.content(|content| {
        let lock = content.attributes_mut("shop/api", Target::Tag("c-1")).unwrap();
        *lock = Attributes { write: false, ..*lock };
    });
    let moves = FaultKind::before_request(move |content| {
        assert!(content.move_tag("shop/api", "c-2", &elsewhere));
    });
    azure.registry.inject(Fault::on("_tags/c-2", moves).method(Method::DELETE).times(1));
    let done = azure.run("apply plan.json").await.exits(0);
    assert_eq!(tags(&azure.registry, "shop/api"), ["c-1", "c-2", "c-4", "c-5"], "{}", done.out);
    assert_eq!(azure.registry.tags("shop/api")["c-2"], azure.registry.tags("shop/api")["c-5"], "where it had moved");
    let (entries, _) = journal(&azure).await;
    let skips: BTreeMap<&str, &Value> = entries
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["action"] == "untag")
        .map(|entry| (entry["tag"].as_str().unwrap(), &entry["skip"]))
        .collect();
    assert_eq!(skips["c-2"], "reverted", "{entries}");
    assert_eq!(skips["c-3"], &Value::Null);
    assert_eq!(skips["c-1"], "kept", "{entries}");
    let restored = entries.as_array().unwrap().iter().filter(|entry| entry["action"] == "restore").count();
    assert_eq!(restored, 1, "putting it back is journaled, too: {entries}");
}
