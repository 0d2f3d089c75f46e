//! Files that are not the tool's: place, cause and remedy.

use tagwarden::policy_import::{ImportErrorKind, ImportOptions, Tool, import};

fn error(tool: Tool, text: &str) -> (ImportErrorKind, String) {
    let options = ImportOptions { file: "rules.json".to_owned(), scopes: Vec::new() };
    match import(tool, text, &options) {
        Err(error) => (error.kind, format!("{error:#}")),
        Ok(done) => panic!("{}: no error\n{}", tool.label(), done.yaml),
    }
}

#[test]
fn what_is_not_json_has_its_place() {
    for tool in [Tool::Ecr, Tool::ArtifactRegistry, Tool::Harbor, Tool::Gitlab] {
        let (kind, text) = error(tool, "{\n  \"rules\": [\n");
        assert_eq!(kind, ImportErrorKind::Unreadable);
        assert!(text.starts_with("rules.json: line 3, column 0: not valid JSON: "), "{text}");
        let (_, text) = error(tool, "");
        assert!(text.starts_with("rules.json: the file is empty"), "{text}");
    }
    let (_, text) = error(Tool::Zot, "{\"storage\": ");
    assert!(text.contains("not valid JSON"), "{text}");
}

#[test]
fn what_is_another_files_says_what_is_missing() {
    let cases = [
        (Tool::Ecr, r#"{"Version": "2012-10-17"}"#, "no `rules` in it"),
        (Tool::ArtifactRegistry, r#"{"format": "DOCKER"}"#, "neither a list nor a repository"),
        (Tool::Harbor, r#"{"algorithm": "or"}"#, "neither a retention policy nor a list"),
        (Tool::Gitlab, r#"{"name": "shop"}"#, "no `container_expiration_policy`"),
        (Tool::Zot, "storage: { gc: true }", "no `storage.retention.policies`"),
        (Tool::AcrPurge, "az acr repository list", "no `acr purge` in it"),
    ];
    for (tool, text, expected) in cases {
        let (_, told) = error(tool, text);
        assert!(told.contains(expected), "{told}");
        assert!(told.starts_with("rules.json: ") && told.contains("give "), "{told}");
    }
}

#[test]
fn rules_of_another_form_are_named() {
    let text = r#"{"rules": [{"rulePriority": "first", "selection": {}, "action": {"type": "expire"}}]}"#;
    let (_, told) = error(Tool::Ecr, text);
    assert!(told.starts_with("rules.json: rules[0]: not of the documented form: "), "{told}");
    let (_, told) = error(Tool::ArtifactRegistry, r#"[{"name": "a"}]"#);
    assert!(told.contains("policy 1: not of the documented form"), "{told}");
    let (_, told) = error(Tool::Gitlab, r#"{"keep_n": "many"}"#);
    assert!(told.contains("container_expiration_policy: not of the documented form"), "{told}");
    let (_, told) = error(Tool::Harbor, r#"{"rules": [{"tag_selectors": 1}]}"#);
    assert!(told.contains("rules 1: not of the documented form"), "{told}");
    let (_, told) = error(Tool::Zot, r#"{"policies": [{"repositories": "a"}]}"#);
    assert!(told.contains("policies[0]: not of the documented form"), "{told}");
}

#[test]
fn nothing_to_translate_is_an_error() {
    for (tool, text) in [
        (Tool::Ecr, r#"{"rules": []}"#),
        (Tool::ArtifactRegistry, "[]"),
        (Tool::Harbor, r#"{"rules": []}"#),
        (Tool::Zot, r#"{"policies": []}"#),
        (Tool::AcrPurge, "# acr purge --filter 'a:.*' --ago 1d"),
    ] {
        let (kind, told) = error(tool, text);
        assert_eq!(kind, ImportErrorKind::Empty, "{told}");
    }
}
