//! Whole changes as a platform owner makes them, from the first report to the audit, on the embedded Azure registry.

mod peak_season;
mod regions;
mod stable_tags;

use std::fs;

use jiff::SignedDuration;
use serde_json::{Value, json};
use tagwarden::demo::registry::EmbeddedRegistry;
use tagwarden::domain::Digest;
use tagwarden::report::{self, Format, PlanDocument, RunView};

use crate::workflow::{WorkflowFixture, image};

const RECORDS: &str = "[sources.releases]\nkind = \"release-records\"\npaths = [\"releases/*.json\"]\n";

/// An empty Azure registry with these policies, release records as evidence and further settings, in mode `approved`.
async fn open_fixture(policies: &str, more: &str) -> WorkflowFixture {
    let walk = WorkflowFixture::azure(|options| options).await;
    walk.registry.content(|content| content.delete_repository("shop/api"));
    walk.settings("approved", "", &format!("{RECORDS}{more}"));
    walk.policies(policies);
    fs::create_dir_all(walk.path("releases")).unwrap();
    walk.snapshot_tags();
    walk
}

/// Pushes an image of its own under these tags, so many days ago, and gives its digest.
fn push(registry: &EmbeddedRegistry, repository: &str, tags: &[&str], days: i64) -> Digest {
    let made = image(&format!("{repository}:{}", tags[0]), days);
    registry.content(|content| {
        for tag in tags {
            content.put_image(repository, Some(tag), &made);
            let then = content.now() - SignedDuration::from_hours(24 * days);
            assert!(content.date_tag(repository, tag, then, then));
        }
    });
    registry.tags(repository)[tags[0]].clone()
}

/// Writes a file of release records.
fn records(walk: &WorkflowFixture, name: &str, records: &[Value]) {
    fs::write(walk.path(&format!("releases/{name}.json")), json!(records).to_string()).unwrap();
}

/// The verdict on a tag, with the words of its reasons.
fn verdict(plan: &PlanDocument, repository: &str, tag: &str) -> (String, String) {
    let words = |reasons: &[report::ReasonView]| {
        reasons.iter().map(report::ReasonView::sentence).collect::<Vec<_>>().join("; ")
    };
    if let Some(removal) = plan.removals.iter().find(|view| view.repository == repository && view.tag == tag) {
        return ("expired".to_owned(), words(&removal.reasons));
    }
    let kept = plan.kept.iter().find(|view| view.repository == repository && view.tag == tag);
    let kept = kept.unwrap_or_else(|| panic!("no verdict on {repository}:{tag}"));
    (kept.verdict.clone(), words(&kept.reasons))
}

/// What `runs show` has of a run.
async fn audit(walk: &WorkflowFixture, run: &str) -> RunView {
    let app = walk.open().await.unwrap();
    let (run, _) = app.run_report(run).await.unwrap();
    app.close().await;
    run
}

fn rendered(plan: &PlanDocument, format: Format) -> String {
    report::render(plan, format)
}
