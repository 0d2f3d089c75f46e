//! From a plan to its application and back, on a registry that can untag.

use serde_json::{Value, json};
use tagwarden::demo::registry::{EmbeddedRegistry, Options};

use super::{CliFixture, fill, image, names, record, settings, tags};

const POLICIES: &str = r#"policies:
  - name: candidates
    select: { repositories: ["shop/api"], tags: ["candidate-*"] }
    keep: [{ newest: 1 }]
    mode: enforce
  - name: nightlies
    select: { repositories: ["shop/web"], tags: ["nightly-*"] }
    keep: [{ newest: 2 }]
  - name: tools
    select: { repositories: ["tools/**"], tags: ["t-*"] }
    keep: [{ within: 90y }]
"#;

/// An API of which the first candidate is live, a front end under trial, tools that stay for a lifetime.
async fn shop() -> (EmbeddedRegistry, CliFixture) {
    let registry = EmbeddedRegistry::start(Options::default()).await.unwrap();
    fill(&registry, "shop/api", "candidate", 4);
    registry.put_image("shop/api", "v1", &image("v1", "2024-03-01"));
    fill(&registry, "shop/web", "nightly", 4);
    fill(&registry, "tools/lint", "t", 2);
    fill(&registry, "tools/lint", "v", 2);
    let desk = CliFixture::with(&[
        ("tagwarden.toml", &settings(&registry.url())),
        ("policies/all.yaml", POLICIES),
        ("releases/api.json", &record(&format!("{}/shop/api:candidate-1", registry.host()))),
    ]);
    (registry, desk)
}

const GOING: [&str; 4] = ["shop/api:candidate-2", "shop/api:candidate-3", "shop/web:nightly-1", "shop/web:nightly-2"];

#[tokio::test]
async fn a_plan_is_applied_exactly_and_taken_back() {
    let (registry, mut desk) = shop().await;
    let before = registry.tags("shop/api");
    let done = desk.run("plan --out plan.json").await.exits(0);
    assert!(done.err.contains("wrote plan.json") && !done.out.contains("wrote"), "{}", done.err);
    let plan = desk.json("plan.json");
    assert_eq!(names(&plan, "removals"), GOING);
    assert_eq!(
        names(&plan, "kept"),
        [
            "shop/api:candidate-1 protected",
            "shop/api:candidate-4 retained",
            "shop/api:v1 out-of-scope",
            "shop/web:nightly-3 retained",
            "shop/web:nightly-4 retained",
            "tools/lint:t-1 retained",
            "tools/lint:t-2 retained",
            "tools/lint:v-1 out-of-scope",
            "tools/lint:v-2 out-of-scope",
        ]
    );

    let done = desk.run("apply plan.json").await.exits(3);
    assert!(done.err.contains("refused") && done.err.contains("dry-run"), "{}", done.err);
    assert_eq!(registry.tags("shop/api"), before);

    desk.set("TAGWARDEN__MODE", "approved");
    let done = desk.run("apply plan.json").await.exits(3);
    assert!(done.err.contains("made in mode `dry-run`"), "{}", done.err);
    desk.run("plan --out plan.json").await.exits(0);
    let plan = desk.json("plan.json");
    let done = desk.run("apply plan.json --approved-by anna --ticket CHG-1 --format json").await.exits(0);
    let applied = done.json();
    assert_eq!(names(&applied, "removals"), GOING);
    let outcomes: Vec<&Value> = applied["removals"].as_array().unwrap().iter().map(|one| &one["outcome"]).collect();
    assert_eq!(outcomes, ["done", "done", "skipped", "skipped"], "what a policy only reports stays");
    assert_eq!(tags(&registry, "shop/api"), ["candidate-1", "candidate-4", "v1"]);
    assert_eq!(tags(&registry, "shop/web").len(), 4);

    let run = applied["run"].as_str().unwrap();
    let shown = desk.run(&format!("runs show {run} --format json")).await.exits(0).json();
    assert_eq!(shown["approved_by"], "anna");
    assert_eq!(shown["ticket"], "CHG-1");
    assert_eq!(shown["plan_id"], plan["id"]);
    assert!(shown["by"].as_str().unwrap().starts_with("anna@"), "{}", shown["by"]);
    assert_eq!(shown["journal"].as_array().unwrap().len(), 4);
    let listed = desk.run("runs").await.exits(0).out;
    assert_eq!(listed.matches("approved").count() + listed.matches("dry-run").count(), 5, "{listed}");
    assert_eq!(
        desk.run("runs --format json --limit 1").await.exits(0).json()["runs"].clone().as_array().unwrap().len(),
        1
    );

    let done = desk.run(&format!("restore {}/shop/api:candidate-2", registry.host())).await.exits(0);
    assert!(done.out.contains("1 restored, 0 skipped, 0 failed"), "{}", done.out);
    assert_eq!(registry.tags("shop/api")["candidate-2"], before["candidate-2"]);
    let done = desk.run(&format!("restore --run {run} --format json")).await.exits(0).json();
    let there: Vec<&Value> = done["restored"].as_array().unwrap().iter().map(|one| &one["already_present"]).collect();
    assert_eq!(there.len(), 2);
    assert_eq!(there.iter().filter(|there| **there == &json!(true)).count(), 1, "{there:?}");
    assert_eq!(registry.tags("shop/api"), before);
}

#[tokio::test]
async fn a_changed_or_edited_plan_is_refused() {
    let (registry, mut desk) = shop().await;
    desk.set("TAGWARDEN__MODE", "approved");
    desk.run("plan --out plan.json").await.exits(0);
    let sealed = desk.read("plan.json");
    let runs = desk.run("runs --format json").await.exits(0).json()["runs"].clone().as_array().unwrap().len();
    // Another file than a plan is a mistake of the command line, and leaves no record.
    for (edited, code, said) in [
        ("{}".to_owned(), 2, "it is not a plan"),
        (desk.run("plan --format markdown").await.exits(0).out, 2, "it is not a plan"),
        (sealed.replace("candidate-2", "candidate-1"), 3, "edited"),
        (sealed[..sealed.len() / 2].to_owned(), 3, "the plan is not JSON"),
    ] {
        desk.write("edited.json", &edited);
        let done = desk.run("apply edited.json").await.exits(code);
        assert!(done.err.contains(said), "{}", done.err);
    }
    let recorded = desk.run("runs --format json").await.exits(0).json()["runs"].clone();
    assert_eq!(recorded.as_array().unwrap().len(), runs + 3, "{recorded:#}");
    desk.write("policies/all.yaml", &POLICIES.replace("newest: 1", "newest: 2"));
    let done = desk.run("apply plan.json").await.exits(3);
    assert!(done.err.contains("candidates"), "{}", done.err);
    desk.run("apply missing.json").await.exits(2);
    assert_eq!(tags(&registry, "shop/api").len(), 5);
}

#[tokio::test]
async fn tomorrow_can_be_looked_at_but_not_applied() {
    let (registry, mut desk) = shop().await;
    desk.set("TAGWARDEN__MODE", "approved");
    let done = desk.run("plan --at 2124-06-01 --out later.json --format json").await.exits(0);
    let later = done.json();
    let mut more = GOING.to_vec();
    more.extend(["tools/lint:t-1", "tools/lint:t-2"]);
    assert_eq!(names(&later, "removals"), more);
    assert_eq!(later["hypothetical"], true);
    assert_eq!(later, desk.json("later.json"));
    let done = desk.run("plan --at 2124-06-01").await.exits(0);
    assert!(done.out.contains("2124-06-01"), "{}", done.out);
    let done = desk.run("apply later.json").await.exits(3);
    assert!(done.err.contains("made for 2124-06-01T00:00:00Z by `--at`"), "{}", done.err);
    assert_eq!(tags(&registry, "shop/api").len(), 5);
}

#[tokio::test]
async fn each_tag_can_be_explained() {
    let (registry, desk) = shop().await;
    let host = registry.host();
    let done = desk.run(&format!("explain {host}/shop/api:candidate-1")).await.exits(0);
    for words in ["candidate-1 stays: it is protected", "releases names this tag", "candidates does not keep it"] {
        assert!(done.out.contains(words), "{words:?} is missing in:\n{}", done.out);
    }
    let json = desk.run("explain contoso/shop/api:candidate-2 --format json").await.exits(0).json();
    assert_eq!(json["verdict"], "expired", "{json:#}");
    let later = desk.run("explain contoso/tools/lint:t-1 --at 2124-06-01").await.exits(0);
    assert!(later.out.contains("tools does not keep it"), "{}", later.out);
    let done = desk.run("explain contoso/shop/api:gone").await.exits(2);
    assert!(done.err.contains("has no tag shop/api:gone"), "{}", done.err);
    let done = desk.run("explain elsewhere.example/shop/api:v1").await.exits(2);
    assert!(done.err.contains("elsewhere.example"), "{}", done.err);
    assert_eq!(tags(&registry, "shop/api").len(), 5);
}

#[tokio::test]
async fn a_run_enforces_only_where_settings_and_policy_both_say_so() {
    let (registry, mut desk) = shop().await;
    for mode in ["dry-run", "approved"] {
        desk.set("TAGWARDEN__MODE", mode);
        desk.run("run").await.exits(0);
        assert_eq!(tags(&registry, "shop/api").len(), 5, "{mode}");
    }
    desk.set("TAGWARDEN__MODE", "enforce");
    let done = desk.run("run --format json --out report.md").await.exits(0);
    assert_eq!(names(&done.json(), "removals"), GOING);
    assert!(desk.read("report.md").starts_with("## Tagwarden"), "{}", desk.read("report.md"));
    assert_eq!(tags(&registry, "shop/api"), ["candidate-1", "candidate-4", "v1"]);
    assert_eq!(tags(&registry, "shop/web").len(), 4);
    let again = desk.run("run --format json").await.exits(0).json();
    assert_eq!(names(&again, "removals"), GOING[2..]);
    let runs = desk.run("runs --format json").await.exits(0).json()["runs"].clone();
    let removed: Vec<&Value> = runs.as_array().unwrap().iter().map(|run| &run["summary"]["removed"]).collect();
    assert_eq!(removed, [&json!(0), &json!(2), &json!(0), &json!(0)]);
}

#[tokio::test]
async fn above_a_limit_nothing_is_picked() {
    let (registry, mut desk) = shop().await;
    desk.set("TAGWARDEN__MODE", "enforce");
    desk.set("TAGWARDEN__LIMITS__UNTAG", "1");
    let done = desk.run("plan --format json").await.exits(3);
    let plan = done.json();
    assert_eq!(names(&plan, "removals"), GOING, "what would be removed is listed all the same");
    assert_eq!(plan["refusals"].as_array().unwrap().len(), 1);
    assert!(done.err.contains("refused"), "{}", done.err);
    desk.run("run").await.exits(3);
    assert_eq!(tags(&registry, "shop/api").len(), 5);
}

#[tokio::test]
async fn what_a_limit_refuses_at_the_application_is_an_exit_code() {
    let (registry, mut desk) = shop().await;
    desk.set("TAGWARDEN__MODE", "approved");
    desk.set("TAGWARDEN__LIMITS__PERCENT", "50");
    desk.run("plan --out plan.json").await.exits(0);
    // Two of three tags are more than two of five.
    assert!(registry.delete_tag("shop/api", "v1") && registry.delete_tag("shop/api", "candidate-1"));
    let done = desk.run("apply plan.json").await.exits(3);
    assert!(done.out.contains("limit is 50%"), "{}", done.out);
    assert_eq!(tags(&registry, "shop/api").len(), 3);
    let runs = desk.run("runs --format json").await.exits(0).json()["runs"].clone();
    assert_eq!(runs[0]["outcome"], "refused", "{runs}");
}

#[tokio::test]
async fn the_last_run_to_undo_is_the_last_that_removed() {
    let (registry, mut desk) = shop().await;
    desk.set("TAGWARDEN__MODE", "approved");
    desk.run("plan --out plan.json").await.exits(0);
    let none = desk.run("restore --run last").await.exits(2);
    assert!(none.err.contains("no recent run removed a tag"), "{}", none.err);
    desk.run("apply plan.json").await.exits(0);
    assert_eq!(tags(&registry, "shop/api").len(), 3);
    let looked = desk.run("plan --format json").await.exits(0);
    assert!(!looked.out.is_empty());
    let done = desk.run("restore --run last").await.exits(0);
    assert!(done.out.contains("2 restored, 0 skipped, 0 failed"), "{}", done.out);
    assert_eq!(tags(&registry, "shop/api").len(), 5);
}
