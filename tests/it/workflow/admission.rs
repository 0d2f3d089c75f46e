//! Plans that may not be applied: exit code 3 or another one, no request that deletes, and a record of the refusal.

use http::Method;
use serde_json::json;
use tagwarden::demo::registry::{Fault, FaultKind};
use tagwarden::state::Lease;

use super::*;

impl WorkflowFixture {
    fn no_deletion_asked(&self) -> bool {
        self.registry.requests().iter().all(|request| request.method != Method::DELETE)
    }
}

/// What changes between plan and apply, the exit code, and a phrase of what is said.
type Row = (&'static str, Box<dyn Fn(&WorkflowFixture, &mut serde_json::Value)>, u8, &'static str);

fn row(
    name: &'static str,
    code: u8,
    phrase: &'static str,
    change: impl Fn(&WorkflowFixture, &mut serde_json::Value) + 'static,
) -> Row {
    (name, Box::new(change), code, phrase)
}

fn rows() -> Vec<Row> {
    vec![
        row("mode dry-run", 3, "mode = \"dry-run\"", |walk, _| walk.settings("dry-run", "", "")),
        row("expired", 3, "expired", |walk, _| walk.advance_clock(24)),
        row("from the future", 3, "in the future", |walk, _| walk.advance_clock(-1)),
        row("a digest edited", 3, "", |walk, plan| {
            plan["removals"][0]["digest"] = json!(walk.digest("shop/api", "candidate-6").to_string());
        }),
        row("a tag edited", 3, "", |_, plan| plan["removals"][0]["tag"] = json!("release-1")),
        row("enforce edited", 3, "", |_, plan| plan["removals"][0]["enforce"] = json!(false)),
        row("a removal added", 3, "", |walk, plan| {
            let mut more = plan["removals"][0].clone();
            more["tag"] = json!("candidate-6");
            more["digest"] = json!(walk.digest("shop/api", "candidate-6").to_string());
            plan["removals"].as_array_mut().unwrap().push(more);
        }),
        row("expiry edited", 3, "", |_, plan| plan["expires_at"] = json!("2030-01-01T00:00:00Z")),
        row("a refusal edited out", 3, "", |_, plan| plan["refusals"] = json!([{"kind": "untag-limit"}])),
        row("another schema", 3, "", |_, plan| plan["schema"] = json!("tagwarden.plan/9")),
        row("no plan at all", 2, "it is not a plan", |_, plan| *plan = json!({"removals": []})),
        row("policies edited", 3, "which has policy candidates, has changed", |walk, _| {
            walk.policies(&POLICIES.replace("newest: 2", "newest: 1"));
        }),
        row("policies switched to dry-run", 3, "which has policy candidates, has changed", |walk, _| {
            walk.policies(&POLICIES.replace("    mode: enforce\n", ""));
        }),
        row("a policy added", 3, "has changed since", |walk, _| {
            walk.policies(&format!("{POLICIES}  - name: more\n    select: {{ tags: [x] }}\n    keep: all\n"));
        }),
        row("limits changed", 3, "have changed", |walk, _| {
            let text = fs::read_to_string(walk.path("tagwarden.toml")).unwrap();
            fs::write(walk.path("tagwarden.toml"), text.replace("percent = 100", "percent = 99")).unwrap();
        }),
        row("removal method changed", 3, "have changed", |walk, _| {
            walk.settings("approved", "removal = \"manifest\"", "");
        }),
        row("a source taken out or added", 3, "have changed", |walk, _| {
            let source = "[sources.more]\nkind = \"release-records\"\npaths = [\"releases/*.json\"]";
            walk.settings("approved", "", source);
        }),
        row("another endpoint", 3, "not in the settings", |walk, _| {
            let text = fs::read_to_string(walk.path("tagwarden.toml")).unwrap();
            fs::write(walk.path("tagwarden.toml"), text.replace(&walk.registry.url(), "http://127.0.0.1:9")).unwrap();
        }),
        row("another name", 3, "not in the settings", |walk, _| {
            let text = fs::read_to_string(walk.path("tagwarden.toml")).unwrap();
            fs::write(walk.path("tagwarden.toml"), text.replace("registries.main", "registries.other")).unwrap();
        }),
    ]
}

#[tokio::test]
async fn a_plan_that_is_not_what_was_approved_here_is_refused() {
    for (name, change, code, phrase) in rows() {
        let walk = WorkflowFixture::new().await;
        let plan = walk.plan().await;
        let mut value: serde_json::Value = serde_json::from_str(&report::render(&plan, Format::Json)).unwrap();
        walk.registry.clear_requests();
        change(&walk, &mut value);
        let came = walk.apply_text(&value.to_string()).await;
        assert_eq!(came.code, code, "{name}: {}", came.text);
        assert!(came.text.contains(phrase), "{name}: {}", came.text);
        assert!(walk.no_deletion_asked(), "{name}");
        // A file of another kind is a mistake on the command line, and leaves no record.
        let recorded = if code == 2 { (RunKind::Plan, "done", 0) } else { (RunKind::Apply, "refused", 3) };
        assert_eq!(walk.last_run().await, (recorded.0, recorded.1.to_owned(), recorded.2), "{name}");
        walk.audit(Some(&plan)).await;
        assert_eq!(walk.remaining_tags(), EXPIRED_TAGS, "{name}");
    }
}

#[tokio::test]
async fn a_plan_for_another_time_is_to_look_at_only() {
    let walk = WorkflowFixture::new().await;
    let app = walk.open().await.unwrap();
    let plan = app.plan(Some(noon() + 24.hours()), &()).await.unwrap().document;
    app.close().await;
    let came = walk.apply(&plan).await;
    assert_eq!(came.code, 3);
    assert!(came.text.contains("--at"), "{}", came.text);
}

#[tokio::test]
async fn another_process_holds_the_state() {
    let walk = WorkflowFixture::new().await;
    let plan = walk.plan().await;
    let lease = Lease::take(&walk.path("tagwarden.db"), "run by somebody").unwrap();
    let came = walk.apply(&plan).await;
    assert_eq!(came.code, 3, "{}", came.text);
    assert!(came.text.contains("somebody"), "{}", came.text);
    assert_eq!(walk.last_run().await, (RunKind::Apply, "refused".to_owned(), 3));
    assert_eq!(walk.remaining_tags(), EXPIRED_TAGS);
    drop(lease);
    assert_eq!(walk.apply(&plan).await.code, 0);
}

#[tokio::test]
async fn a_journal_that_cannot_be_written_ends_all_removing() {
    let walk = WorkflowFixture::new().await;
    let plan = walk.plan().await;
    let text = report::render(&plan, Format::Json);
    // The first removal is journaled, the intents after it are not.
    let app = walk.open().await.unwrap();
    let store = app.store.clone();
    let closing = FaultKind::before_request(move |_| {
        let store = store.clone();
        tokio::spawn(store.close());
    });
    let last = Fault::on("manifests/candidate-1", closing).method(Method::DELETE);
    walk.registry.inject(last);
    let ended = app.apply(&text, &Approval::default(), &()).await;
    let came = StepResult::from_result(ended);
    walk.registry.clear_faults();
    assert_eq!(came.code, 1, "{}", came.text);
    assert_eq!(walk.remaining_tags().len(), 3, "only what was journaled has gone: {}", came.text);
    drop(app);
    // What it left open is settled at the next start.
    walk.plan().await;
    walk.audit(Some(&plan)).await;
}
