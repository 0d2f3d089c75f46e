//! `demo`, as a newcomer starts it.

use std::fs;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use super::CliFixture;

#[tokio::test]
async fn the_demo_plays_the_whole_job_and_leaves_its_files() {
    let desk = CliFixture::new();
    let done = desk.run("demo --folder sample").await.exits(0);
    assert!(done.out.starts_with("This is an embedded sample"), "{}", done.out);
    for part in [
        "speaks the API of Azure Container Registry",
        "── plan",
        "the registry has locked the tag (delete)",
        "── check it yourself",
        "  az acr repository show --name sample --image ",
        "── explain",
        "── apply",
        "planned again: 0 more would be removed",
        "── restore",
        "── in fifteen days",
        "untagged manifests would be deleted",
    ] {
        assert!(done.out.contains(part), "{part:?} is missing in:\n{}", done.out);
    }
    assert_eq!(done.err, "", "nothing to warn of");
    for name in ["README.md", "tagwarden.toml", "tagwarden.db", "policies/shop.yaml", "deploy/values.yaml"] {
        assert!(desk.path("sample").join(name).is_file(), "{name}");
    }
    let plan = desk.json("sample/reports/plan.json");
    assert_eq!(plan["schema"], "tagwarden.plan/1");
    assert_eq!(plan["summary"]["tags"].as_u64().unwrap(), count(&plan, "removals") + count(&plan, "kept"));
    assert_eq!(plan["summary"]["bytes"], "exact");
    assert!(plan["summary"]["shared_bytes"].as_u64() > Some(0), "base layers stay: {}", plan["summary"]);
    let rows = desk.read("sample/reports/plan.csv");
    assert!(rows.lines().count() as u64 > plan["summary"]["tags"].as_u64().unwrap(), "a row for each tag");
    for (name, start) in
        [("plan.md", "## Tagwarden"), ("plan.html", "<!doctype html>"), ("plan.txt", "Plan for approval")]
    {
        let text = desk.read(&format!("sample/reports/{name}"));
        assert!(text.to_lowercase().starts_with(&start.to_lowercase()), "{name}: {}", &text[..100]);
    }

    let config = "--config sample/tagwarden.toml";
    let checked = desk.run(&format!("check {config}")).await.exits(0);
    assert!(checked.out.contains("is valid") && checked.err.is_empty(), "{checked:?}");
    let runs = desk.run(&format!("runs {config} --format json")).await.exits(0).json()["runs"].clone();
    let commands: Vec<&Value> = runs.as_array().unwrap().iter().map(|run| &run["kind"]).collect();
    assert_eq!(commands, ["plan", "restore", "plan", "apply", "plan"]);
    // The registry stopped with the demo; trying again for half a minute would not start it.
    for command in ["plan", "explain sample/shop/api:stable", "sources"] {
        let began = std::time::Instant::now();
        let stopped = desk.run(&format!("{command} {config}")).await.exits(5);
        assert!(stopped.err.contains("has stopped"), "{command}: {}", stopped.err);
        assert!(stopped.err.contains("`tagwarden demo --serve --folder sample` starts"), "{command}: {}", stopped.err);
        assert!(began.elapsed().as_secs() < 10, "{command}");
    }
    desk.run("demo --folder sample").await.exits(0);
}

fn count(plan: &Value, list: &str) -> u64 {
    plan[list].as_array().unwrap().len() as u64
}

#[tokio::test]
async fn a_folder_of_somebody_else_is_left_alone() {
    let desk = CliFixture::with(&[("mine/tagwarden.toml", "precious"), ("file", "precious")]);
    let done = desk.run("demo --folder mine").await.exits(2);
    assert!(done.err.contains("mine has other files in it") && done.err.contains("--folder"), "{}", done.err);
    assert_eq!(fs::read_dir(desk.path("mine")).unwrap().count(), 1);
    assert_eq!(desk.read("mine/tagwarden.toml"), "precious");
    let done = desk.run("demo --folder file").await;
    assert_ne!(done.code, 0);
    assert!(done.err.contains("file"), "{}", done.err);
    fs::create_dir(desk.path("empty")).unwrap();
    desk.run("demo --folder empty").await.exits(0);
}

#[cfg(unix)]
#[tokio::test]
async fn served_it_stays_up_until_it_is_told_to_stop() {
    for signal in ["INT", "TERM"] {
        let desk = CliFixture::new();
        let mut serving = desk.command("demo --serve").stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(serving.stdout.take().unwrap()).lines();
        let mut told = Vec::new();
        while !told.last().is_some_and(|line: &String| line.contains("skopeo list-tags --tls-verify=false --creds")) {
            told.push(lines.next_line().await.unwrap().expect("it stays up"));
        }
        // What it tells to type works as it stands.
        let words = told.iter().filter_map(|line| line.trim().strip_prefix("tagwarden "));
        let words: Vec<&str> = words.collect();
        assert_eq!(words.len(), 2, "{words:?}");
        for words in &words {
            let done = desk.run(words).await.exits(0);
            assert!(!done.out.is_empty());
        }
        let azure = told.iter().find_map(|line| line.trim().strip_prefix("curl --user ")).unwrap();
        let (login, url) = azure.split_once(' ').unwrap();
        let (user, password) = login.split_once(':').unwrap();
        let asked = reqwest::Client::builder().no_proxy().build().unwrap().get(url);
        let tags: Value = asked.basic_auth(user, Some(password)).send().await.unwrap().json().await.unwrap();
        assert_eq!(tags["imageName"], "shop/api", "{tags}");
        let plan = desk.run(&format!("{} --format json", words[0])).await.exits(0).json();
        assert!(count(&plan, "kept") > 100, "{}", plan["summary"]);
        let pid = serving.id().unwrap();
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{signal} {pid}")).status().await.unwrap();
        assert!(sent.success());
        let status = serving.wait().await.unwrap();
        assert_eq!(status.code(), Some(0), "SIG{signal}");
    }
}
