//! `check`, `test` and `diff` in the formats of code hosts.

use std::process::Stdio;

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::{CliFixture, CliOutput};

const SETTINGS: &str = "[registries.contoso]\nkind = \"distribution\"\nendpoint = \"http://127.0.0.1:1\"\n";
/// A policy with a warning, beside one with a note.
const POLICIES: &str = "policies:\n  - { name: builds, select: { tags: [\"b*\"] }, keep: [{ newest: 1000000 }] }\n  \
    - { name: more, select: { repositories: [\"**\", \"!shop/legacy\"], tags: [\"c*\"] }, keep: [{ within: 14d }] }\n";
const TESTS: &str = "tests:\n  - name: \"two <weeks> & \\\"more\\\"\"\n    repository: shop/api\n    tags:\n      \
    b1: { pushed: 20d, expect: expired }\n      b2: { pushed: 3d, expect: retained }\n  \
    - name: one day\n    repository: shop/api\n    tags:\n      b3: { pushed: 1d, expect: retained }\n";
/// A folder whose name needs escaping everywhere.
const FOLDER: &str = "our rules, 50%";

const SARIF: &str = include_str!("../../fixtures/code_hosts/sarif.json");
const CODE_QUALITY: &str = include_str!("../../fixtures/code_hosts/code_quality.json");

#[track_caller]
fn assert_valid(schema: &str, document: &Value) {
    let mut compiler = boon::Compiler::new();
    compiler.enable_format_assertions();
    compiler.add_resource("schema.json", serde_json::from_str(schema).unwrap()).unwrap();
    let mut schemas = boon::Schemas::new();
    let index = compiler.compile("schema.json", &mut schemas).unwrap();
    if let Err(error) = schemas.validate(document, index) {
        panic!("{error:#}\n{document:#}");
    }
}

/// What Python's XML parser reads in a document: a line for each test case.
async fn junit_cases(output: &CliOutput) -> Vec<String> {
    const SCRIPT: &str = "import sys, xml.etree.ElementTree as e
root = e.fromstring(sys.stdin.read())
assert root.tag == 'testsuites', root.tag
for suite in root:
    cases = suite.findall('testcase')
    assert int(suite.get('tests')) == len(cases)
    assert int(suite.get('failures')) == len([c for c in cases if c.find('failure') is not None])
    assert int(suite.get('errors')) == len([c for c in cases if c.find('error') is not None])
    for case in cases:
        problem = case.find('failure')
        problem = case.find('error') if problem is None else problem
        print(case.get('file'), case.get('line'), case.get('name'), '-' if problem is None else problem.tag + ' ' + problem.get('type'), sep='|')
";
    let mut command = Command::new("python3");
    command.args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut python = command.spawn().unwrap();
    python.stdin.take().unwrap().write_all(output.out.as_bytes()).await.unwrap();
    let done = python.wait_with_output().await.unwrap();
    assert!(done.status.success(), "{}\n{}", String::from_utf8_lossy(&done.stderr), output.out);
    String::from_utf8(done.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn desk() -> CliFixture {
    let settings = format!("policies = \"{FOLDER}\"\n{SETTINGS}");
    let (policies, tests) = (format!("{FOLDER}/all.yaml"), format!("{FOLDER}/all.test.yaml"));
    CliFixture::with(&[("tagwarden.toml", &settings), (&policies, POLICIES), (&tests, TESTS)])
}

/// The place of each result of a SARIF document: rule, level, URI, line and column.
fn places(sarif: &Value) -> Vec<String> {
    let run = &sarif["runs"][0];
    let place = |result: &Value| {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(run["tool"]["driver"]["rules"][index]["id"], result["ruleId"]);
        let at = &result["locations"][0]["physicalLocation"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (rule, level, uri) = (&result["ruleId"], &result["level"], &at["artifactLocation"]["uri"]);
        let region = &at["region"];
        format!("{} {} {} {}:{}", text(rule), text(level), text(uri), region["startLine"], region["startColumn"])
    };
    run["results"].as_array().unwrap().iter().map(place).collect()
}

#[tokio::test]
async fn findings_of_check_have_rule_place_and_level_in_every_format() {
    let desk = desk();
    let sarif = desk.run("check --format sarif").await.exits(0).json();
    assert_valid(SARIF, &sarif);
    let found = places(&sarif);
    let uri = "our%20rules%2C%2050%25/all.yaml";
    for expected in [
        "settings-warning warning tagwarden.toml null:null".to_owned(),
        format!("never-expires warning {uri} 2:"),
        format!("one-repository note {uri} 3:"),
    ] {
        assert!(found.iter().any(|place| place.starts_with(&expected)), "{expected} is not in {found:#?}");
    }
    let strict = desk.run("check --format sarif --strict").await.exits(2);
    assert_eq!(strict.json(), sarif, "the exit code alone is stricter");

    let gitlab = desk.run("check --format gitlab").await.exits(0).json();
    assert_valid(CODE_QUALITY, &gitlab);
    let github = desk.run("check --format github").await.exits(0);
    let place = "file=our rules%2C 50%25/all.yaml,line=2,col=";
    let line = github.out.lines().find(|line| line.contains("never-expires")).unwrap();
    assert!(line.starts_with("::warning ") && line.contains(place), "{}", github.out);
    assert!(github.out.contains("::notice ") && github.err.is_empty(), "{}{}", github.out, github.err);
    let azure = desk.run("check --format azure").await.exits(0);
    let place = "##vso[task.logissue type=warning;sourcepath=our rules, 50%AZP25/all.yaml;linenumber=2;columnnumber=";
    assert!(azure.out.lines().any(|line| line.starts_with(place)), "{}", azure.out);

    let (file, settings) = (format!("{FOLDER}/all.yaml"), "tagwarden.toml");
    for (words, code, expected) in [
        ("check --format junit", 0, ["-", "-"]),
        ("check --format junit --strict", 2, ["failure never-expires", "failure settings-warning"]),
    ] {
        let cases = junit_cases(&desk.run(words).await.exits(code)).await;
        let [policies, own] = expected;
        assert_eq!(cases, [format!("{file}|None|{file}|{policies}"), format!("{settings}|None|{settings}|{own}")]);
    }
}

#[tokio::test]
async fn a_fingerprint_survives_a_moved_line_and_is_unique() {
    let desk = desk();
    let fingerprints = |report: &Value| -> Vec<String> {
        report.as_array().unwrap().iter().map(|one| one["fingerprint"].as_str().unwrap().to_owned()).collect()
    };
    let before = desk.run("check --format gitlab").await.exits(0).json();
    desk.write(&format!("{FOLDER}/all.yaml"), &format!("# A comment\n\n{POLICIES}"));
    let after = desk.run("check --format gitlab").await.exits(0).json();
    assert_ne!(before, after);
    assert_eq!(fingerprints(&before), fingerprints(&after));
    let mut all = fingerprints(&after);
    all.sort();
    all.dedup();
    assert_eq!(all.len(), after.as_array().unwrap().len());
}

#[tokio::test]
async fn errors_are_in_every_format_and_the_exit_code_stays() {
    let desk = desk();
    let file = format!("{FOLDER}/all.yaml");
    // A text that would be a command of its own.
    desk.write(&file, "policies:\n  - { name: a, \"::error::x ##vso[task.complete]\": 1, keep: all }\n");
    desk.write("tagwarden.toml", &format!("policies = \"{FOLDER}\"\nmod = \"enforce\"\n{SETTINGS}"));
    let rules = |sarif: &Value| places(sarif).iter().map(|place| place.split(' ').next().unwrap().to_owned()).collect();
    let done = desk.run("check --format sarif").await.exits(2);
    assert!(done.err.contains("unknown key `mod`"), "{}", done.err);
    assert_valid(SARIF, &done.json());
    let found: Vec<String> = rules(&done.json());
    assert!(
        found.contains(&"invalid-settings".to_owned()) && found.contains(&"invalid-policy".to_owned()),
        "{found:?}"
    );

    let json = desk.run("check --format json").await.exits(2).json();
    assert_eq!(json["schema"], "tagwarden.check/1");
    let error = &json["errors"][0];
    assert_eq!((&error["file"], &error["line"], &error["column"]), (&"tagwarden.toml".into(), &2.into(), &1.into()));
    assert_eq!(error["severity"], "error");
    assert!(error["message"].as_str().unwrap().contains("unknown key `mod`"), "{json:#}");

    assert_valid(CODE_QUALITY, &desk.run("check --format gitlab").await.exits(2).json());
    let github = desk.run("check --format github").await.exits(2).out;
    assert!(github.lines().all(|line| line.starts_with("::error file=")), "{github}");
    let azure = desk.run("check --format azure").await.exits(2).out;
    let prefix = "##vso[task.logissue type=error;sourcepath=";
    assert!(azure.lines().all(|line| line.starts_with(prefix) && line.matches("##").count() == 1), "{azure}");
    let cases = junit_cases(&desk.run("check --format junit").await.exits(2)).await;
    assert!(cases.iter().any(|case| case.ends_with("|error invalid-policy")), "{cases:?}");

    std::fs::remove_file(desk.path("tagwarden.toml")).unwrap();
    for format in ["sarif", "junit", "github", "gitlab", "azure", "json"] {
        let done = desk.run(&format!("check --format {format}")).await.exits(2);
        assert!(done.out.contains("no settings file"), "{format}: {}", done.out);
        let done = desk.run(&format!("test nowhere --format {format}")).await.exits(2);
        assert!(done.out.contains("nowhere"), "{format}: {}", done.out);
    }
}

#[tokio::test]
async fn each_test_of_policies_is_a_test_case() {
    let desk = desk();
    let file = format!("{FOLDER}/all.test.yaml");
    let cases = junit_cases(&desk.run("test --format junit").await.exits(1)).await;
    let failed = format!("{file}|2|two <weeks> & \"more\"|failure failed-test");
    assert_eq!(cases, [failed, format!("{file}|7|one day|-")]);
    let sarif = desk.run("test --format sarif").await.exits(1).json();
    assert_valid(SARIF, &sarif);
    assert_eq!(places(&sarif), ["failed-test error our%20rules%2C%2050%25/all.test.yaml 5:null"]);
    assert_valid(CODE_QUALITY, &desk.run("test --format gitlab").await.exits(1).json());
    let github = desk.run("test --format github").await.exits(1).out;
    let expected = "::error file=our rules%2C 50%25/all.test.yaml,line=5,title=failed-test::test `two <weeks> & \"more\"`: \
        `b1` is retained, expected expired: ";
    assert!(github.starts_with(expected), "{github}");
    let azure = desk.run("test --format azure").await.exits(1).out;
    assert!(azure.contains("linenumber=5;code=failed-test;]test `two"), "{azure}");
    desk.write(&format!("{FOLDER}/all.yaml"), &POLICIES.replace("newest: 1000000", "within: 14d"));
    let cases = junit_cases(&desk.run("test --format junit").await.exits(0)).await;
    assert!(cases.iter().all(|case| case.ends_with("|-")), "{cases:?}");
    assert_eq!(desk.run("test --format github").await.exits(0).out, "");
    assert_eq!(desk.run("test --format gitlab").await.exits(0).json(), Value::Array(Vec::new()));
    // A test that cannot be read is an error of its file.
    desk.write(&file, &TESTS.replace("expired", "gone"));
    let cases = junit_cases(&desk.run("test --format junit").await.exits(2)).await;
    assert_eq!(cases, [format!("{file}|None|{file}|error invalid-test")]);
    assert_eq!(desk.run("test --format json").await.exits(2).json()["errors"][0]["kind"], "invalid-test");
}

#[test]
fn every_lint_has_a_meaning() {
    let sources = ["src/policy", "src/config", "src/workflow"];
    let mut labels = Vec::new();
    for folder in sources {
        for file in super::files(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)) {
            let text = std::fs::read_to_string(file).unwrap();
            let text = text.split("#[cfg(test)]").next().unwrap();
            for (at, _) in text.match_indices("Severity::") {
                let after: String = text[at..].chars().take(120).collect();
                labels.extend(after.split('"').nth(1).map(str::to_owned));
            }
        }
    }
    labels.retain(|label| label.contains('-') && label.chars().all(|c| c.is_ascii_lowercase() || c == '-'));
    assert!(labels.len() >= 6, "{labels:?}");
    for label in labels {
        assert!(tagwarden::report::describe_rule(&label).is_some(), "{label}");
    }
}
