//! Reports of runs that are past: who, with whose approval, and what came of each tag.

use http::Method;
use jiff::Timestamp;
use tagwarden::demo::registry::{Fault, FaultKind};
use tagwarden::report::{EntryView, Format, PlanDocument, RunSummary, RunView, write_run};
use tagwarden::workflow::Approval;

use crate::workflow::WorkflowFixture;

fn render(run: &RunView, plan: Option<&PlanDocument>, format: Format) -> String {
    let mut out = Vec::new();
    write_run(run, plan, format, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// The last run with its plan.
async fn last(walk: &WorkflowFixture) -> (RunView, Option<PlanDocument>) {
    let app = walk.open().await.unwrap();
    let id = app.store.runs(1).await.unwrap().remove(0).run.id.to_string();
    let shown = app.run_report(&id).await.unwrap();
    app.close().await;
    shown
}

#[tokio::test]
async fn an_applied_plan_tells_its_story_in_every_format() {
    let walk = WorkflowFixture::azure(|options| options).await;
    let plan = walk.plan().await;
    walk.registry.inject(Fault::on("_tags/candidate-2", FaultKind::status(403)).method(Method::DELETE));
    let approval = Approval { approved_by: Some("Ada".into()), ticket: Some("CHG-4711".into()), ..Approval::default() };
    let text = tagwarden::report::render(&plan, Format::Json);
    let came = walk.apply_as(&text, &approval).await;
    assert_eq!(came.code, 4, "{}", came.text);
    let (run, recorded) = last(&walk).await;
    assert_eq!(recorded.as_ref(), Some(&plan));
    for format in Format::ALL {
        let report = render(&run, recorded.as_ref(), format);
        let wanted = [run.id.as_str(), "Ada", "CHG-4711", "candidate-1", "candidate-2", "failed", "done"];
        for words in wanted {
            assert!(report.contains(words), "{}: {words} is not in {report}", format.label());
        }
        let whole = [plan.id.as_str(), "approved"];
        let has_all = format == Format::Csv || whole.iter().all(|words| report.contains(words));
        assert!(has_all, "{}", format.label());
        let undo = format!("tagwarden restore --run {}", run.id);
        assert!(matches!(format, Format::Csv | Format::Json) || report.contains(&undo), "{}", format.label());
    }
    let json: serde_json::Value = serde_json::from_str(&render(&run, None, Format::Json)).unwrap();
    assert_eq!(json["journal"].as_array().unwrap().len(), 4);
    assert_eq!(render(&run, None, Format::Csv).lines().count(), 1 + 4);
    // What was not done comes first, each with why.
    let markdown = render(&run, recorded.as_ref(), Format::Markdown);
    assert!(markdown.find("### Not done, and why") < markdown.find("### Done"), "{markdown}");
}

/// A dry run did nothing to any tag: its report is that of its plan, below the record of the run.
#[tokio::test]
async fn a_dry_run_is_shown_with_its_plan() {
    let walk = WorkflowFixture::new().await;
    let plan = walk.plan().await;
    let (run, recorded) = last(&walk).await;
    assert_eq!(render(&run, recorded.as_ref(), Format::Csv), tagwarden::report::csv(&plan));
    for format in [Format::Markdown, Format::Html] {
        let report = render(&run, recorded.as_ref(), format);
        assert!(report.contains("candidate-1") && report.contains("nothing to undo") || format == Format::Markdown);
        assert!(report.contains(&run.id) && report.contains(&plan.id), "{report}");
    }
}

#[tokio::test]
async fn a_restore_is_a_run_like_others() {
    let walk = WorkflowFixture::new().await;
    let plan = walk.plan().await;
    let applied = walk.apply(&plan).await;
    walk.restore(&applied.run_id()).await.unwrap();
    let (run, recorded) = last(&walk).await;
    assert_eq!((run.kind.as_str(), recorded), ("restore", None));
    for format in Format::ALL {
        let report = render(&run, None, format);
        assert!(report.contains("candidate-4") && report.contains("restore"), "{}: {report}", format.label());
    }
    assert!(render(&run, None, Format::Text).contains("4 restored, 0 skipped, 0 failed"));
}

/// A run of that many removals, with these words wherever words come from outside.
fn run(number: usize, words: &str) -> RunView {
    let at: Timestamp = "2026-11-23T03:00:00Z".parse().unwrap();
    let entry = |number: usize| EntryView {
        number: 1,
        run: "0193".into(),
        action: "untag".into(),
        registry: "contoso".into(),
        repository: "shop/api".into(),
        tag: format!("candidate-{number}"),
        digest: format!("sha256:{number:064x}"),
        media_type: "application/vnd.oci.image.manifest.v1+json".into(),
        policy: Some(words.into()),
        policy_file: Some(words.into()),
        policy_revision: Some(words.into()),
        policies_commit: Some(words.into()),
        reasons: serde_json::Value::Null,
        intended_at: at,
        resolved_at: Some(at),
        outcome: Some(if number.is_multiple_of(3) { "failed" } else { "done" }.into()),
        skip: None,
        correlation_id: None,
        detail: Some(words.into()),
        undo_until: Some(at),
    };
    RunView {
        id: "0193".into(),
        kind: "apply".into(),
        mode: "approved".into(),
        by: words.into(),
        version: "0.1.0".into(),
        approved_by: Some(words.into()),
        signed_by: None,
        ticket: Some(words.into()),
        started_at: at,
        ended_at: Some(at),
        seconds: Some(0),
        outcome: "done".into(),
        exit_code: Some(0),
        error: Some(words.into()),
        plan_id: Some(words.into()),
        kept_pruned: false,
        reclaimed_bytes: None,
        attention: Vec::new(),
        summary: RunSummary::default(),
        context: None,
        journal_counts: None,
        journal: Some((0..number).map(entry).collect()),
    }
}

#[test]
fn a_long_run_fits_into_a_comment() {
    for words in ["5f2b-11", &"#@|<".repeat(2_000)] {
        let markdown = render(&run(50_000, words), None, Format::Markdown);
        assert!(markdown.chars().count() < 60_000, "{}", markdown.chars().count());
        assert!(markdown.contains("more in the JSON"));
        assert_eq!(markdown.matches("<details>").count(), markdown.matches("</details>").count());
    }
}

#[test]
fn words_from_outside_do_not_speak() {
    for words in [
        "<script>alert(1)</script><img src=x>",
        "a | b\n\n# heading",
        "@contoso/everyone",
        "\u{1b}[2J\u{202e}exe",
        "</details>",
    ] {
        let run = run(3, words);
        let [text, markdown, page] = [Format::Text, Format::Markdown, Format::Html].map(|f| render(&run, None, f));
        assert!(!text.contains(|found: char| found.is_control() && found != '\n' || found == '\u{202e}'), "{text}");
        assert_eq!(page.matches("<script").count(), 1, "{words:?}");
        for bad in ["<img", "\n# heading", "@contoso/", "\u{1b}", "<script>alert"] {
            assert!(!markdown.contains(bad) && !page.contains(bad) || bad == "@contoso/", "{words:?} gives {bad:?}");
        }
        assert_eq!(markdown.matches("<details>").count(), markdown.matches("</details>").count());
        let outside_code: String = markdown.split('`').step_by(2).collect();
        assert!(!outside_code.contains("@contoso/"), "{markdown}");
    }
    for formula in ["=1+1", "@SUM(A1)", "-1", "＝1"] {
        for line in render(&run(2, formula), None, Format::Csv).lines().skip(1) {
            assert!(!line.contains(&format!(",{formula}")), "{line}");
        }
    }
}

/// Manifests that were deleted, and what is open, are part of the sum in every format that has one.
#[test]
fn the_sum_of_a_run_has_deletions_and_open_entries() {
    let mut view = run(6, "x");
    for (entry, action) in
        view.journal.as_mut().unwrap().iter_mut().zip(["untag", "delete-untagged", "delete-untagged"])
    {
        entry.action = action.into();
    }
    view.journal.as_mut().unwrap()[5].outcome = None;
    let sum =
        "1 removed, 2 untagged manifests deleted, 0 skipped, 2 failed, 1 with an outcome that the next run finds out";
    for format in ["txt", "md", "jira", "servicenow"].map(|extension| Format::from_extension(extension).unwrap()) {
        let report = render(&view, None, format);
        assert!(report.contains(sum), "{}: {report}", format.label());
    }
}
