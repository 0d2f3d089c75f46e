//! What the workspace must have, and answers that are not whole.

use super::*;

/// What is wrong, the kind of failure, and words of it.
type Row = (&'static str, fn(&mut PullFixture), &'static str, &'static [&'static str]);

async fn fails(rows: &[Row]) {
    for (what, happens, kind, words) in rows {
        let mut fixture = PullFixture::new().await;
        fixture.log(1, "Pull", &format!("shop/api:v1@{D}"), (KUBELET, "containerd/2.1"));
        assert_eq!(fixture.claims().await.len(), 2, "{what}: before");
        happens(&mut fixture);
        let error = fixture.ask().await.expect_err(what);
        assert_eq!(error.kind, *kind, "{what}: {}", error.chain());
        for words in *words {
            assert!(error.chain().contains(words), "{what}: {words:?} is not in: {}", error.chain());
        }
    }
}

fn table(fixture: &PullFixture, key: &'static str, value: Value) {
    fixture.change(|resources| resources.single.get_mut(&table_path()).unwrap()["properties"][key] = value);
}

fn set_diagnostics(fixture: &PullFixture, settings: Vec<Value>) {
    fixture.change(|resources| drop(resources.lists.insert(diagnostics_path("contoso"), settings)));
}

#[tokio::test]
async fn the_retention_is_part_of_the_contract() {
    fails(&[
        (
            "shorter than `within`",
            |fixture| table(fixture, "retentionInDays", json!(29)),
            "retention",
            &["`within` is 30days", "retains events for 29 days", "write a shorter `within`"],
        ),
        (
            "an archive cannot be queried",
            |fixture| {
                table(fixture, "retentionInDays", json!(8));
                table(fixture, "totalRetentionInDays", json!(730));
            },
            "retention",
            &["for 8 days"],
        ),
        ("another plan", |fixture| table(fixture, "plan", json!("Basic")), "unsupported", &["plan `Basic`"]),
        ("unknown", |fixture| table(fixture, "retentionInDays", Value::Null), "malformed", &["tables/Container"]),
        (
            "a log that begins later",
            |fixture| {
                let mut log = fixture.logs.log.lock().unwrap();
                log.events.retain(|event| event.time > now() - (24 * 29).hours());
            },
            "too-short",
            &["begins at 2026-11-23T11:00:00Z", "wait until 2026-12-23", "`logging_since`"],
        ),
        (
            "a person says that it begins later",
            |fixture| fixture.settings.logging_since = Some(now() - (24 * 29).hours()),
            "too-short",
            &["`logging_since` is 2026-10-25T12:00:00Z, less than 30days ago"],
        ),
    ])
    .await;
    // As long as `within` is enough, if somebody knows that the log was sent before.
    let mut fixture = PullFixture::new().await;
    fixture.log(24 * 29, "Pull", "shop/api:v1", (KUBELET, "x"));
    table(&fixture, "retentionInDays", json!(30));
    fixture.logs.log.lock().unwrap().retention_days = 30;
    assert_eq!(fixture.ask().await.unwrap_err().kind, "too-short");
    fixture.settings.logging_since = Some(now() - (24 * 300).hours());
    assert_eq!(fixture.claims().await.len(), 1);
}

#[tokio::test]
async fn the_registry_must_send_its_events() {
    fails(&[
        (
            "no event of it",
            |fixture| fixture.logs.log.lock().unwrap().events.clear(),
            "not-recorded",
            &["no event of contoso.azurecr.io in the last 90 days", "diagnostic setting"],
        ),
        (
            "another registry",
            |fixture| fixture.settings.registries[0].host = "contosodev.azurecr.io".into(),
            "not-recorded",
            &["no event of contosodev.azurecr.io"],
        ),
        (
            "no table",
            |fixture| fixture.change(|resources| drop(resources.single.remove(&table_path()))),
            "not-recorded",
            &["has no table", "workspace logs (resource group rg-logs"],
        ),
        ("no setting", |fixture| set_diagnostics(fixture, vec![]), "not-recorded", &["no longer sends its events"]),
        (
            "a setting that is off",
            |fixture| {
                set_diagnostics(fixture, vec![diagnostics(json!({ "categoryGroup": "allLogs", "enabled": false }))]);
            },
            "not-recorded",
            &["no longer sends its events"],
        ),
        (
            "a setting for another log",
            |fixture| {
                let other = diagnostics(json!({ "category": "ContainerRegistryLoginEvents", "enabled": true }));
                set_diagnostics(fixture, vec![other]);
            },
            "not-recorded",
            &["no longer sends its events"],
        ),
        (
            "a setting for another workspace",
            |fixture| {
                let mut other = diagnostics(json!({ "categoryGroup": "allLogs", "enabled": true }));
                other["properties"]["workspaceId"] = json!(workspace_id().replace("/logs", "/others"));
                set_diagnostics(fixture, vec![other]);
            },
            "not-recorded",
            &["no longer sends its events"],
        ),
        (
            "a registry that is gone",
            |fixture| fixture.change(|resources| drop(resources.lists.remove(&diagnostics_path("contoso")))),
            "not-recorded",
            &["is not there"],
        ),
        (
            "a workspace over its cap",
            |fixture| {
                fixture.change(|resources| {
                    let workspace = resources.single.get_mut(&workspace_id()).unwrap();
                    workspace["properties"]["workspaceCapping"]["dataIngestionStatus"] = json!("OverQuota");
                });
            },
            "not-recorded",
            &["`dataIngestionStatus` is `OverQuota`"],
        ),
    ])
    .await;
    let fixture = PullFixture::new().await;
    set_diagnostics(
        &fixture,
        vec![diagnostics(json!({ "category": null, "categoryGroup": "AllLogs", "enabled": true }))],
    );
    fixture.change(|resources| {
        let properties = &mut resources.single.get_mut(&workspace_id()).unwrap()["properties"];
        properties["workspaceCapping"]["dailyQuotaGb"] = json!(2.5);
        properties["defaultDataCollectionRuleResourceId"] = json!("/subscriptions/x");
    });
    let notes = fixture.ask().await.unwrap().notes.join("\n");
    assert!(notes.contains("daily cap of 2.5 GB") && notes.contains("transformation rule"), "{notes}");
}

#[tokio::test]
async fn missing_rights_are_named() {
    fails(&[
        (
            "the workspace",
            |fixture| {
                fixture.change(|resources| {
                    resources.denied.insert(workspace_id());
                });
            },
            "denied",
            &["the role `Reader` there"],
        ),
        (
            "the registry's settings",
            |fixture| {
                fixture.change(|resources| {
                    resources.denied.insert(diagnostics_path("contoso"));
                });
            },
            "denied",
            &["the role `Reader` there", "registries/contoso"],
        ),
        (
            "queries",
            |fixture| fixture.logs.log.lock().unwrap().is_readable = false,
            "denied",
            &["InsufficientAccessError", "`Log Analytics Reader` on the workspace"],
        ),
    ])
    .await;
}

/// Answers the next query so.
fn answer(fixture: &PullFixture, status: u16, body: &str) {
    fixture.logs.log.lock().unwrap().instead.push_back((status, vec![], body.to_owned()));
}

/// An answer with one history that covers everything, and the next with this text.
fn answer_pulls(fixture: &PullFixture, body: &str) {
    let columns =
        json!([{ "name": "LoginServer" }, { "name": "ResourceId" }, { "name": "Oldest" }, { "name": "Newest" }]);
    let row = json!(["contoso.azurecr.io", registry_id("contoso"), "2020-01-01T00:00:00Z", "2026-11-23T11:00:00Z"]);
    let history = json!({ "tables": [{ "name": "PrimaryResult", "columns": columns, "rows": [row] }] });
    answer(fixture, 200, &history.to_string());
    answer(fixture, 200, body);
}

#[tokio::test]
async fn half_an_answer_is_a_failure() {
    fails(&[
        (
            "partial",
            |fixture| {
                let details = json!([{ "code": "QueryTimeout", "message": "Query exceeded its budget" }]);
                let error = json!({ "code": "PartialError", "message": "There were some errors", "details": details });
                fixture.logs.log.lock().unwrap().error = Some(error);
            },
            "malformed",
            &["it is incomplete (PartialError: QueryTimeout: Query exceeded its budget)", "query a shorter time"],
        ),
        (
            "at the limit of rows",
            |fixture| {
                let names = ["LoginServer", "Repository", "Tag", "Digest", "TimeGenerated", "Identity", "UserAgent"];
                let columns: Vec<Value> = names.iter().map(|name| json!({ "name": name })).collect();
                let row = "[\"contoso.azurecr.io\",\"a\",\"b\",\"\",\"2026-11-23T11:00:00Z\",\"\",\"\"]";
                let rows = vec![row; 500_000].join(",");
                let columns = json!(columns);
                let body = format!("{{\"tables\":[{{\"name\":\"PrimaryResult\",\"columns\":{columns},\"rows\":[{rows}]}}]}}");
                answer_pulls(fixture, &body);
            },
            "malformed",
            &["it has 500000 rows, which is the service's limit"],
        ),
        (
            "an error among the rows",
            |fixture| {
                let body = r#"{"tables":[{"name":"PrimaryResult","columns":[{"name":"LoginServer"}],"rows":[{"OneApiErrors":[]}]}]}"#;
                answer_pulls(fixture, body);
            },
            "malformed",
            &["cannot be understood"],
        ),
        (
            "no table",
            |fixture| answer_pulls(fixture, r#"{"tables":[]}"#),
            "malformed",
            &["it has 0 tables instead of one"],
        ),
        (
            "a column is missing",
            |fixture| answer_pulls(fixture, r#"{"tables":[{"name":"PrimaryResult","columns":[{"name":"LoginServer"}],"rows":[]}]}"#),
            "malformed",
            &["its table `PrimaryResult` has no column `Repository`"],
        ),
        ("a page of a proxy", |fixture| answer(fixture, 200, "<html>"), "malformed", &["cannot be understood"]),
        (
            "a refused query",
            |fixture| {
                answer(fixture, 400, r#"{"error":{"code":"BadArgumentError","message":"The request had some invalid properties","innererror":{"code":"SemanticError","message":"A semantic error occurred.","innererror":{"code":"SEM0100","message":"Failed to resolve table"}}}}"#);
            },
            "status",
            &["BadArgumentError", "SEM0100: Failed to resolve table"],
        ),
        ("gone", |fixture| answer(fixture, 404, ""), "not-found", &["check the workspace"]),
    ])
    .await;
}

#[tokio::test]
async fn throttling_and_expired_tokens_pass() {
    let fixture = PullFixture::new().await;
    fixture.log(1, "Pull", "shop/api:v1", (KUBELET, "x"));
    let pause = vec![("retry-after", "0".to_owned())];
    fixture.logs.log.lock().unwrap().instead.push_back((429, pause, String::new()));
    answer(&fixture, 503, "");
    assert_eq!(fixture.claims().await.len(), 1);
    // A token that the service refuses is replaced, also where it says so with 403.
    let source = AcrPulls::new(fixture.settings.clone(), PATIENCE);
    let body = r#"{"error":{"code":"InvalidTokenError","message":"The provided authentication is not valid for this resource"}}"#;
    answer(&fixture, 403, body);
    assert_eq!(source.query(now()).await.unwrap().claims.len(), 1);
    for _ in 0..2 {
        answer(&fixture, 403, body);
    }
    let error = source.query(now()).await.unwrap_err();
    assert!(error.kind == "denied" && error.chain().contains("InvalidTokenError"), "{}", error.chain());
}
