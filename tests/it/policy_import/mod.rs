//! Rules of other tools, translated: their policies and differences as snapshots, errors, and the proof that no policy removes
//! what its original would have kept.

mod errors;
mod models;
mod semantics;
mod unclear;
mod world;

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::Value;
use tagwarden::policy_import::{Import, ImportOptions, Tool, import};

/// One set of rules as people have them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// What it is about.
    pub(crate) name: String,
    /// `--scope`.
    #[serde(default)]
    pub(crate) scope: Vec<String>,
    /// Repositories to try it on.
    pub(crate) repositories: Vec<String>,
    /// With one tag for each image, the policies remove exactly what the original removes.
    #[serde(default)]
    pub(crate) exact: bool,
    /// The file.
    pub(crate) input: String,
    /// `acr purge` alone: what the tool reads in the file.
    #[serde(default)]
    pub(crate) calls: Vec<models::AcrCall>,
    /// ECR alone: rules with keys that the model does not know.
    #[serde(default)]
    pub(crate) ignore_rules: Vec<u64>,
    /// zot alone: the model does not know these policies.
    #[serde(default)]
    pub(crate) ignore_policies: bool,
}

impl Case {
    pub(crate) fn import(&self, tool: Tool) -> Import {
        let options = ImportOptions { file: "rules".to_owned(), scopes: self.scope.clone() };
        import(tool, &self.input, &options).unwrap_or_else(|error| panic!("{}: {error:#}", self.name))
    }

    /// The JSON documents of the input.
    pub(crate) fn documents(&self) -> Vec<Value> {
        let documents: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(&self.input).into_iter().collect();
        documents.unwrap_or_else(|_| vec![serde_saphyr::from_str(&self.input).unwrap()])
    }
}

pub(crate) fn cases(tool: Tool) -> Vec<Case> {
    let text = match tool {
        Tool::AcrPurge => include_str!("cases/acr-purge.yaml"),
        Tool::Ecr => include_str!("cases/ecr.yaml"),
        Tool::ArtifactRegistry => include_str!("cases/artifact-registry.yaml"),
        Tool::Harbor => include_str!("cases/harbor.yaml"),
        Tool::Gitlab => include_str!("cases/gitlab.yaml"),
        Tool::Zot => include_str!("cases/zot.yaml"),
    };
    let cases: Vec<Case> = serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{}: {error}", tool.label()));
    assert!(cases.len() >= 10, "{} has too few cases", tool.label());
    cases
}

/// What each case becomes.
#[test]
fn rules_become_policies_with_their_differences() {
    for tool in Tool::ALL {
        let mut told = String::new();
        for case in cases(tool) {
            let done = case.import(tool);
            let policies = tagwarden::policy::parse("imported.yaml", &done.yaml);
            assert!(policies.is_ok(), "{}: {policies:?}\n{}", case.name, done.yaml);
            let policies = policies.unwrap();
            assert!(policies.iter().all(|policy| policy.mode.label() == "dry-run"), "{}", case.name);
            writeln!(told, "=== {}\n{}", case.name, done.yaml).unwrap();
        }
        insta::assert_snapshot!(tool.label().replace('-', "_"), told);
    }
}

/// Nothing secret reaches the policies.
#[test]
fn passwords_of_a_command_are_not_repeated() {
    for command in ["-u admin -p hunter2", "--password=hunter2", "--password hunter2 --username admin", "-phunter2"] {
        let text = format!("acr purge -r contoso {command} --filter 'a:.*' --ago 1d");
        let done = import(Tool::AcrPurge, &text, &ImportOptions::default()).unwrap();
        assert!(!done.yaml.contains("hunter2") && !done.yaml.contains("admin"), "{}", done.yaml);
        assert!(done.yaml.contains("within: 1d"), "{}", done.yaml);
    }
}

/// A comment cannot end early and become a policy.
#[test]
fn originals_stay_comments() {
    let text = r#"{"rules": [{"rulePriority": 1, "description": "a\npolicies:\n  - name: x\u0085y\u2028z", "selection":
        {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 3}, "action": {"type": "expire"}}]}"#;
    let done = import(Tool::Ecr, text, &ImportOptions::default()).unwrap();
    assert_eq!(tagwarden::policy::parse("p.yaml", &done.yaml).unwrap().len(), 1, "{}", done.yaml);
    for (filter, word) in [("'a\n- name: b:.*'", "acr-purge-1"), ("'a:x\u{2028}y'", "acr-purge-1")] {
        let text = format!("acr purge --filter {filter} --ago 1d");
        let done = import(Tool::AcrPurge, &text, &ImportOptions::default()).unwrap();
        let names: Vec<String> = done.translation.policies.iter().map(|policy| policy.name.clone()).collect();
        assert!(names.iter().all(|name| name.starts_with(word)), "{names:?}");
    }
}
