//! Before the peak season: commit and candidate tags go after their time, releases and rollbacks never. A change board
//! approves what the report says, and gets exactly that or less.

use tagwarden::workflow::{Approval, RestoreSelection};

use super::*;
use crate::approvals::{approvals, key, sign};

const POLICIES: &str = r#"policies:
  - name: commits
    description: Builds of commits go two weeks after their push.
    owner: platform@contoso.example
    select: { repositories: ["shop/**"], tags: ["commit-*"] }
    keep: [{ newest: 3 }, { within: 14d }]
    mode: enforce
  - name: candidates
    description: Candidates go a month after their push.
    owner: platform@contoso.example
    select: { repositories: ["shop/**"], tags: ["candidate-*"] }
    keep: [{ newest: 2 }, { within: 30d }]
    mode: enforce
  - name: releases
    owner: release-board@contoso.example
    select: { tags: ["release-*"] }
    keep: all
"#;

const REPOSITORY: &str = "shop/checkout";

/// Twenty commits, one a day from 21 days ago; ten candidates, one every six days from 65 days ago. Candidate 4 was
/// released as 2026.45 by another tag on it and is what a rollback goes to; candidate 6 was released by its digest alone.
async fn season() -> WorkflowFixture {
    let walk = open_fixture(POLICIES, &approvals("require_signature = true")).await;
    let registry = &walk.registry;
    for number in 1..=20 {
        push(registry, REPOSITORY, &[&format!("commit-{number}")], 22 - number);
    }
    let mut digests = Vec::new();
    for number in 1..=10 {
        let candidate = format!("candidate-{number}");
        let release = "release-2026.45".to_owned();
        let tags: &[&str] = if number == 4 { &[&candidate, &release] } else { &[&candidate] };
        digests.push(push(registry, REPOSITORY, tags, 71 - 6 * number));
    }
    push(registry, REPOSITORY, &["release-2026.12"], 300);
    let name = |tag: &str| format!("{}/{REPOSITORY}{tag}", registry.host());
    records(
        &walk,
        "checkout",
        &[
            json!({"image": name(&format!("@{}", digests[5])), "service": "checkout", "environment": "production",
                "owner": "team-checkout@contoso.example", "status": "active"}),
            json!({"image": name(&format!(":release-2026.45@{}", digests[3])), "service": "checkout",
                "environment": "production", "status": "rollback"}),
        ],
    );
    walk.snapshot_tags();
    walk
}

#[tokio::test]
async fn from_the_report_to_the_audit_and_back() {
    let walk = season().await;

    // 1. The report. Commits 1 to 7 are 15 to 21 days old; candidates 1 to 6 are 35 to 65.
    let plan = walk.plan().await;
    let going: Vec<String> = plan.removals.iter().map(|view| view.tag.clone()).collect();
    let expected: Vec<String> = ["candidate-1", "candidate-2", "candidate-3", "candidate-5"]
        .into_iter()
        .map(str::to_owned)
        .chain((1..=7).map(|number| format!("commit-{number}")))
        .collect();
    assert_eq!(going, expected);
    for (tag, words) in [
        ("candidate-4", "rollback release of checkout in production"),
        ("candidate-6", "release of checkout in production"),
        ("release-2026.45", "rollback release of checkout"),
    ] {
        let (verdict, why) = verdict(&plan, REPOSITORY, tag);
        assert_eq!(verdict, "protected", "{tag}");
        assert!(why.contains(words), "{tag}: {why}");
    }
    assert_eq!(verdict(&plan, REPOSITORY, "release-2026.12").0, "retained");
    for format in [Format::Markdown, Format::Html, Format::Text] {
        let report = rendered(&plan, format);
        for words in [
            plan.id.as_str(),
            "2026-11-21 12:00 UTC",
            "platform@contoso.example",
            "release-board@contoso.example",
            "candidate-5",
            "2026-10-10 (pushed)",
            "az acr repository show",
            "tagwarden restore --run ID",
        ] {
            assert!(report.contains(words), "{}: {words} is not in {report}", format.label());
        }
    }

    // 2. The board signs the file. Without that nothing happens.
    let file = rendered(&plan, Format::Json);
    let signature = Some(sign(&key(1), "tagwarden", &file));
    let unsigned = walk.apply_as(&file, &Approval { ticket: Some("CHG-2026-118".into()), ..Approval::default() }).await;
    assert_eq!(unsigned.code, 3, "{}", unsigned.text);

    // 3. Between approval and apply candidate 2 is released, and candidate 3 built anew.
    let name = format!("{}/{REPOSITORY}:candidate-2", walk.registry.host());
    records(&walk, "hotfix", &[json!({"image": name, "service": "checkout", "environment": "hotfix"})]);
    push(&walk.registry, REPOSITORY, &["candidate-3"], 0);
    walk.snapshot_tags();

    // 4. Exactly the plan, or less.
    let approval = Approval { ticket: Some("CHG-2026-118".into()), signature, ..Approval::default() };
    let came = walk.apply_as(&file, &approval).await;
    assert_eq!(came.code, 0, "{}", came.text);
    let label = |tag: &str| came.tags[&format!("{REPOSITORY}:{tag}")].as_str();
    assert_eq!(["candidate-1", "candidate-2", "candidate-5", "commit-7"].map(label), ["done", "kept", "done", "done"]);
    assert_eq!(label("candidate-3"), "moved");
    walk.audit(Some(&plan)).await;
    let left: Vec<String> = walk.registry.tags(REPOSITORY).into_keys().collect();
    assert_eq!(left.len(), 32 - 9);
    assert!(["release-2026.12", "release-2026.45", "candidate-4"].iter().all(|tag| left.contains(&(*tag).to_owned())));

    // 5. The audit.
    let run = audit(&walk, &came.run_id()).await;
    assert_eq!((run.approved_by.as_deref(), run.ticket.as_deref()), (Some("Ada"), Some("CHG-2026-118")));
    assert_eq!(run.plan_id.as_ref(), Some(&plan.id));
    assert_eq!([run.count_outcome("done"), run.count_outcome("skipped"), run.count_outcome("failed")], [9, 2, 0]);
    let hotfix = run.entries().iter().find(|entry| entry.tag == "candidate-2").unwrap();
    assert!(hotfix.outcome_text().contains("hotfix"), "{}", hotfix.outcome_text());

    // 6. Not a second time, and back again.
    assert_eq!(walk.apply_as(&file, &approval).await.code, 3);
    let app = walk.open().await.unwrap();
    let what = RestoreSelection::Repository { name: format!("main/{REPOSITORY}"), since: None };
    let foreseen = app.preview_restore(&what).await.unwrap();
    assert!(foreseen.len() == 9 && foreseen.iter().all(|one| one.preview.expected.label() == "returns"));
    assert_eq!(app.restore(&what).await.unwrap().outcome().exit_code(), 0);
    app.close().await;
    assert_eq!(walk.registry.tags(REPOSITORY).len(), 32);
    walk.audit(None).await;
}
