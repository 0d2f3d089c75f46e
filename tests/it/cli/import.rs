//! `import`, as somebody who moves to Tagwarden uses it.

use tokio::io::AsyncWriteExt as _;

use super::{CliFixture, CliOutput, settings};

const RULES: [(&str, &str, &str); 6] = [
    (
        "acr-purge",
        "purge.sh",
        "az acr run --cmd \"acr purge --filter 'shop/api:^dev-.*' --ago 30d --untagged\" /dev/null\n",
    ),
    (
        "ecr",
        "lifecycle.json",
        r#"{"repositoryName": "shop/ecr", "lifecyclePolicyText": "{\"rules\": [{\"rulePriority\": 1, \"selection\": {\"tagStatus\": \"any\", \"countType\": \"imageCountMoreThan\", \"countNumber\": 5}, \"action\": {\"type\": \"expire\"}}]}"}"#,
    ),
    (
        "artifact-registry",
        "cleanup.json",
        r#"[{"name": "old", "action": {"type": "Delete"}, "condition": {"olderThan": "30d"}}]"#,
    ),
    (
        "harbor",
        "retention.json",
        r#"{"algorithm": "or", "rules": [{"action": "retain", "template": "latestPushedK", "params": {"latestPushedK": 10},
            "scope_selectors": {"repository": [{"decoration": "repoMatches", "pattern": "**"}]},
            "tag_selectors": [{"decoration": "matches", "pattern": "**"}]}]}"#,
    ),
    ("gitlab", "project.json", r#"{"enabled": true, "keep_n": 5, "older_than": "14d", "name_regex": ".*"}"#),
    (
        "zot",
        "config.json",
        r#"{"storage": {"retention": {"policies": [{"repositories": ["shop/**"], "keepTags": [{"patterns": ["^v"]}]}]}}}"#,
    ),
];

async fn piped(desk: &CliFixture, words: &str, input: &str) -> CliOutput {
    let mut command = desk.command(words);
    let mut running = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
    running.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
    let output = running.wait_with_output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    CliOutput { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

#[tokio::test]
async fn rules_of_every_tool_become_policies_that_check_takes() {
    let desk = CliFixture::with(&[("tagwarden.toml", &settings("https://registry.contoso.example"))]);
    std::fs::create_dir(desk.path("policies")).unwrap();
    for (tool, file, rules) in RULES {
        desk.write(file, rules);
        let words = format!("import {tool} {file} --scope shop/{tool}");
        let printed = desk.run(&words).await.exits(0);
        assert!(printed.out.contains("    mode: dry-run\n") && !printed.out.contains("enforce"), "{}", printed.out);
        assert!(printed.out.starts_with(&format!("# Translated from {file} by `tagwarden import {tool}`.\n")));
        assert!(printed.err.contains("in `mode: dry-run`"), "{}", printed.err);
        let written = desk.run(&format!("{words} --out policies/{tool}.yaml")).await.exits(0);
        assert_eq!((written.out.as_str(), desk.read(&format!("policies/{tool}.yaml"))), ("", printed.out.clone()));
        let from_stdin = piped(&desk, &format!("import {tool} - --scope shop/{tool}"), rules).await.exits(0);
        assert_eq!(from_stdin.out.replace("standard input", file), printed.out);
    }
    let checked = desk.run("check").await.exits(0);
    for (tool, ..) in RULES {
        assert!(checked.out.contains(&format!("dry-run, {tool}.yaml")), "{}", checked.out);
    }
}

#[tokio::test]
async fn nothing_is_overwritten_and_errors_say_what_to_do() {
    let desk = CliFixture::with(&[("rules.json", RULES[2].2), ("policies/mine.yaml", "mine\n")]);
    let done = desk.run("import artifact-registry rules.json --out policies/mine.yaml").await.exits(2);
    let there = "cannot write policies/mine.yaml: something is there already";
    assert!(done.err.contains(there) && done.err.contains("nothing is overwritten"), "{}", done.err);
    assert_eq!(desk.read("policies/mine.yaml"), "mine\n");
    // Before the rules are read.
    for rules in ["rules.json", "missing.json"] {
        let done = desk.run(&format!("import artifact-registry {rules} --out nowhere/mine.yaml")).await.exits(2);
        assert!(done.err.contains("cannot write nowhere/mine.yaml: "), "{}", done.err);
        assert!(done.err.contains("; create its folder"), "{}", done.err);
    }
    let done = desk.run("import artifact-registry missing.json").await.exits(2);
    assert!(done.err.contains("missing.json: cannot be read: "), "{}", done.err);
    let done = desk.run("import ecr rules.json").await.exits(2);
    assert!(done.err.contains("rules.json: no `rules` in it; give the lifecycle policy"), "{}", done.err);
    assert_eq!(done.out, "");
    desk.run("import quay rules.json").await.exits(2);
    desk.run("import ecr").await.exits(2);
    let done = desk.run("import artifact-registry rules.json").await.exits(0);
    assert!(done.err.contains("replace `name-of-the-project/name-of-the-repository`"), "{}", done.err);
    assert!(done.out.contains("name-of-the-project/name-of-the-repository/**"), "{}", done.out);
}
