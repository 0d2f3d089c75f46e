//! Tests of policies: what is read, how they fail, and that those of the worked examples pass.

use std::fs;
use std::path::Path;

use boon::{Compiler, Schemas};
use serde_json::{Value, json};
use tagwarden::domain::chain;
use tagwarden::policy::{parse_policy_tests, render, schema, tests_schema};
use tagwarden::report::{PolicyTestFile, ReasonView, test_text};
use tagwarden::workflow::{RunError, test_policies};

use crate::documents::blocks;

const POLICIES: &str = r#"
policies:
  - name: builds
    select: { registries: [contoso], repositories: ["shop/**"], tags: ["b*"] }
    keep: [{ newest: 1 }, { within: 14d }]
"#;

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn tested(test: &str) -> Vec<PolicyTestFile> {
    let folder = folder(&[("p.yaml", POLICIES), ("p.test.yaml", test)]);
    let mut tested = test_policies(folder.path()).unwrap_or_else(|error| panic!("{:#?}", error.diagnostics()));
    for file in &mut tested {
        file.file = "p.test.yaml".into();
    }
    tested
}

fn problems(error: &RunError, folder: &Path) -> String {
    let lines: Vec<String> = error.diagnostics().iter().map(|problem| chain(problem)).collect();
    lines.join("\n").replace(&format!("{}/", folder.display()), "").replace(&*folder.display().to_string(), ".")
}

/// Whether the schema accepts a text.
fn accepts(text: &str) -> bool {
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.add_resource("tests.json", tests_schema()).unwrap();
    let index = compiler.compile("tests.json", &mut schemas).unwrap();
    let value: Value = serde_saphyr::from_str(text).unwrap();
    schemas.validate(&value, index).is_ok()
}

#[test]
fn every_worked_example_has_tests_and_passes_them() {
    let folder = Path::new("policies");
    let tested = test_policies(folder).unwrap_or_else(|error| panic!("{}", render(error.diagnostics(), false)));
    let failed = tested.iter().flat_map(|file| &file.tests).any(|test| !test.passed);
    assert!(!failed, "{}", test_text(&tested));
    for entry in fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let stem = name.strip_suffix(".yaml").unwrap();
        match stem.strip_suffix(".test") {
            Some(_) => assert!(accepts(&fs::read_to_string(folder.join(&name)).unwrap()), "{name}"),
            None => assert!(folder.join(format!("{stem}.test.yaml")).exists(), "{name} has no tests"),
        }
    }
}

#[test]
fn what_is_not_as_expected_is_shown_with_everything_beside_it() {
    let tested = tested(
        "now: 2026-11-23\n\
         tests:\n\
         \x20 - name: all is well\n\
         \x20   repository: shop/api\n\
         \x20   tags: { b1: { pushed: 1d, expect: retained, by: builds, because: [kept-newest, kept-within] } }\n\
         \x20 - name: nothing is\n\
         \x20   repository: shop/api\n\
         \x20   tags:\n\
         \x20     b1: { pushed: 20d, expect: expired }\n\
         \x20     b2: { pushed: 21d, expect: expired, by: others }\n\
         \x20     b3: { pushed: 22d, expect: expired, because: kept-all }\n\
         \x20     c1: { pushed: 23d, expect: out-of-scope }\n",
    );
    insta::assert_snapshot!(test_text(&tested));
    let json = serde_json::to_value(&tested).unwrap();
    let told: Vec<&Value> = json[0]["tests"][1]["tags"].as_array().unwrap().iter().map(|tag| &tag["passed"]).collect();
    assert_eq!(told, [&json!(false), &json!(false), &json!(false), &json!(true)]);
}

#[test]
fn a_test_is_decided_as_a_run_would_be() {
    let tested = tested(
        "tests:\n\
         \x20 - name: claims, locks, missing evidence, no time, one image under several names\n\
         \x20   repository: shop/api\n\
         \x20   tags:\n\
         \x20     b0: { pushed: 2d, expect: retained }\n\
         \x20     b1: { pushed: 30d, expect: expired }\n\
         \x20     b2: { pushed: 30d, claimed: tag, image: x, expect: protected }\n\
         \x20     b3: { pushed: 30d, image: x, expect: expired }\n\
         \x20     b4: { pushed: 30d, claimed: digest, image: y, expect: protected }\n\
         \x20     b5: { pushed: 30d, image: y, expect: protected }\n\
         \x20     b6: { pushed: 30d, lock: write, expect: protected, because: locked }\n\
         \x20     b7: { expect: retained, because: undated }\n\
         \x20 - name: holds and restored tags\n\
         \x20   repository: shop/api\n\
         \x20   now: 2026-11-23T12:00:00Z\n\
         \x20   tags:\n\
         \x20     b0: { pushed: 20d, expect: retained, because: kept-newest }\n\
         \x20     b1: { pushed: 30d, restored: 1h, expect: expired }\n\
         \x20     b2: { restored: 1h, expect: retained, because: undated }\n\
         \x20     b3: { pushed: 30d, held: 14d, image: z, expect: protected, because: held }\n\
         \x20     b4: { pushed: 30d, image: z, expect: protected, because: held }\n\
         \x20     b5: { pushed: 30d, held: 2026-11-23, expect: expired }\n\
         \x20 - name: a source is silent\n\
         \x20   repository: shop/api\n\
         \x20   evidence: missing\n\
         \x20   now: 2026-11-23T12:00:00Z\n\
         \x20   tags:\n\
         \x20     b0: { pushed: 2026-11-22 }\n\
         \x20     b1: { pushed: 2026-11-01, expect: undecided }\n\
         \x20 - name: another registry is none of its business\n\
         \x20   repository: shop/api\n\
         \x20   registry: fabrikam\n\
         \x20   tags: { b1: { pushed: 90d, expect: out-of-scope } }\n",
    );
    assert!(tested[0].tests.iter().all(|test| test.passed), "{}", test_text(&tested));
}

#[test]
fn faults_are_told() {
    let texts = [
        "",
        "tests: []",
        "tests:\n  - name: a\n    repository: Shop\n    tags: { v1: { pushed: 20, expect: gone } }",
        "tests:\n  - repository: shop\n    tags: { 1.2: { pushed: 20d, expect: expired }, 'a b': {} }",
        "tests:\n  - name: a\n    repository: shop\n    tags: { v1: 20d, v2: { because: kept-newst, expect: expired } }",
        "tests:\n  - name: a\n    repository: shop\n    tags: { v1: { pushed: 20d }, v1: { pushed: 20d } }",
        "tests:\n  - name: a\n    repository: shop\n    claims: []\n    tags: { v1: { age: 20d, by: x } }",
        "now: soon\ntimezone: Mars/Base\ntags: {}\ntests:\n  - name: a",
        "policies: nowhere.yaml\ntests:\n  - name: a\n    repository: shop\n    tags: { v1: { expect: expired } }",
        "tests: [",
    ];
    let mut told = String::new();
    for text in texts {
        let folder = folder(&[("p.yaml", POLICIES), ("p.test.yaml", text)]);
        let error = test_policies(&folder.path().join("p.yaml")).expect_err(text);
        told.extend([text, "\n--\n", &problems(&error, folder.path()), "\n\n"]);
    }
    insta::assert_snapshot!(told);
}

#[test]
fn no_tests_are_no_success() {
    let folder = folder(&[("p.yaml", POLICIES), ("q.test.yaml", "tests: []")]);
    let error = test_policies(&folder.path().join("p.yaml")).unwrap_err();
    insta::assert_snapshot!(problems(&error, folder.path()), @"p.yaml: no tests of policies here (put them beside the policies: those of `shop.yaml` into `shop.test.yaml`)");
    assert_eq!(error.exit_code(), 2);
    let error = test_policies(folder.path()).unwrap_err();
    assert!(problems(&error, folder.path()).contains("no policy file of the same name"), "{error}");
}

/// What the schema offers as reasons are the names that reports give them.
#[test]
fn reasons_are_those_of_reports() {
    let schema = tests_schema();
    let reasons = schema["$defs"]["Reason"]["oneOf"].as_array().unwrap();
    assert!(reasons.len() > 10);
    for label in reasons.iter().map(|reason| reason["const"].as_str().unwrap()) {
        let unknown = serde_json::from_value::<ReasonView>(json!({ "kind": label }));
        assert!(!unknown.is_err_and(|error| error.to_string().contains("unknown variant")), "{label}");
        let text = format!(
            "tests:\n  - name: a\n    repository: b\n    tags: {{ v1: {{ expect: expired, because: {label} }} }}\n"
        );
        assert!(parse_policy_tests(Path::new("policies/versions.test.yaml"), &text).is_ok(), "{label} is not read");
        assert!(accepts(&text));
    }
}

/// The schema in the repository is the one of this version.
#[test]
fn the_schema_file_is_up_to_date() {
    let text = fs::read_to_string("schema/tests.json").unwrap();
    let written: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(written, tests_schema(), "write the output of `tagwarden schema --tests` to schema/tests.json");
}

/// The reference names every key, and the test that it shows passes with the policy of the README.
#[test]
fn the_reference_is_true() {
    let text = fs::read_to_string("docs/policy-work.md").unwrap();
    let shown = blocks(&text, "yaml");
    let policies = blocks(include_str!("../../../README.md"), "yaml");
    let folder = folder(&[("candidates.yaml", policies[0].1), ("candidates.test.yaml", shown[0].1)]);
    let tested = test_policies(folder.path()).unwrap_or_else(|error| panic!("{}", render(error.diagnostics(), false)));
    assert!(tested[0].tests[0].passed, "{}", test_text(&tested));
    let schema = tests_schema();
    let maps = [&schema["properties"], &schema["$defs"]["Test"]["properties"], &schema["$defs"]["Tag"]["properties"]];
    for key in maps.into_iter().flat_map(|map| map.as_object().unwrap().keys()) {
        let named = [format!("`{key}`"), format!("`{key}:")].iter().any(|word| text.contains(word));
        assert!(named, "docs/policy-work.md does not name `{key}`");
    }
}

/// Editors complete what the schemas describe: every key and every word has its description.
#[test]
fn everything_in_the_schemas_is_described() {
    for schema in [schema(), tests_schema()] {
        let mut bare = Vec::new();
        undescribed("", &schema, &mut bare);
        assert!(bare.is_empty(), "without a description: {bare:?}");
    }
    assert_eq!(schema()["$defs"]["Policy"]["properties"]["mode"]["default"], "dry-run");
    assert_eq!(tests_schema()["properties"]["timezone"]["default"], "UTC");
}

fn undescribed(path: &str, schema: &Value, bare: &mut Vec<String>) {
    let described = |schema: &Value| schema["description"].is_string();
    for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
        let of_type = inner["$ref"].is_string();
        if !described(inner) && !of_type {
            bare.push(format!("{path}/{key}"));
        }
        undescribed(&format!("{path}/{key}"), inner, bare);
    }
    for (at, option) in schema["oneOf"].as_array().into_iter().flatten().enumerate() {
        if !described(option) {
            bare.push(format!("{path}/oneOf/{at}"));
        }
    }
    for (name, inner) in schema["$defs"].as_object().into_iter().flatten() {
        if !described(inner) {
            bare.push(format!("{path}/{name}"));
        }
        undescribed(&format!("{path}/{name}"), inner, bare);
    }
}
