//! A change as it goes through a ticket: reports as files, a signature beside the plan, the record, and the way back.

use tagwarden::demo::registry::{EmbeddedRegistry, Options};

use super::{CliFixture, fill, settings, tags};
use crate::approvals::{approvals, key, sign};

const POLICIES: &str = r#"policies:
  - name: candidates
    select: { tags: ["candidate-*"] }
    keep: [{ newest: 2 }]
    mode: enforce
"#;

#[tokio::test]
async fn a_signed_plan_is_applied_shown_and_taken_back() {
    let registry = EmbeddedRegistry::start(Options::default()).await.unwrap();
    fill(&registry, "shop/api", "candidate", 4);
    let before = registry.tags("shop/api");
    let settings = settings(&registry.url());
    let sources = settings.find("[sources").unwrap();
    let desk = CliFixture::with(&[
        (
            "tagwarden.toml",
            &format!("mode = \"approved\"\n{}{}", &settings[..sources], approvals("require_signature = true")),
        ),
        ("policies/all.yaml", POLICIES),
    ]);
    desk.run("plan --out plan.json --out plan.html --out plan.md").await.exits(0);
    let done = desk.run("apply plan.json --ticket CHG-1").await.exits(3);
    assert!(done.err.contains("demand a signature") && done.err.contains("ssh-keygen -Y sign"), "{}", done.err);

    // A signature elsewhere is named, one beside the plan is found.
    let signature = sign(&key(1), "tagwarden", &desk.read("plan.json"));
    desk.write("elsewhere.sig", &sign(&key(2), "tagwarden", &desk.read("plan.json")));
    desk.run("apply plan.json --signature elsewhere.sig").await.exits(3);
    desk.run("apply plan.json --signature nowhere.sig").await.exits(2);
    desk.write("plan.json.sig", &signature);
    let applied = desk.run("apply plan.json --ticket CHG-1 --format json").await.exits(0).json();
    let run = applied["run"].as_str().unwrap();
    assert_eq!(tags(&registry, "shop/api"), ["candidate-3", "candidate-4"]);

    let shown = desk.run(&format!("runs show {run} --out run.md --out run.html --out run.csv")).await.exits(0);
    for report in [shown.out, desk.read("run.md"), desk.read("run.html"), desk.read("run.csv")] {
        for words in ["Ada", "CHG-1", "candidate-1", run] {
            assert!(report.contains(words), "{words} is not in {report}");
        }
    }
    desk.run("runs --format html").await.exits(2);
    desk.run(&format!("runs show {run} --out run.pdf")).await.exits(2);

    let preview = desk.run("restore --repository contoso/shop/api --dry-run").await.exits(0);
    assert!(
        preview.out.contains("2 would come back") && preview.out.contains("nothing was changed"),
        "{}",
        preview.out
    );
    let json = desk.run(&format!("restore --run {run} --dry-run --format json")).await.exits(0).json();
    assert_eq!(json["previews"][0]["expected"], "returns");
    desk.run("restore --repository contoso/shop/api --since 2999-01-01").await.exits(2);
    desk.run("restore --since 2026-01-01 contoso/shop/api:candidate-1").await.exits(2);
    assert_eq!(tags(&registry, "shop/api").len(), 2);
    desk.run("restore --repository contoso/shop/api").await.exits(0);
    assert_eq!(registry.tags("shop/api"), before);
    desk.run("apply plan.json").await.exits(3);
}
