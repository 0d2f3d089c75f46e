//! Many skips of one reason are one line, in the text of `apply`, in reports of the run, and in the log.

use tagwarden::demo::registry::{EmbeddedRegistry, Options};

use super::{CliFixture, fill, image, record, settings};

const POLICIES: &str =
    "policies:\n  - { name: candidates, select: { tags: [\"candidate-*\"] }, keep: none, mode: enforce }\n";

#[tokio::test]
async fn what_changed_is_listed_and_skips_are_counted() {
    let registry = EmbeddedRegistry::start(Options::default()).await.unwrap();
    fill(&registry, "shop/api", "candidate", 9);
    registry.put_image("shop/api", "v1", &image("v1", "2024-02-01"));
    let mut desk = CliFixture::with(&[
        ("tagwarden.toml", &settings(&registry.url())),
        ("policies/all.yaml", POLICIES),
        ("releases/api.json", &record(&format!("{}/shop/api:v1", registry.host()))),
    ]);
    desk.set("TAGWARDEN__MODE", "approved");
    desk.set("TAGWARDEN__LIMITS__PERCENT", "100");
    desk.set("TAGWARDEN_LOG", "warn,tagwarden=info");
    desk.run("plan --out plan.json").await.exits(0);
    // Pushed again since.
    for number in 1..=6 {
        let tag = format!("candidate-{number}");
        registry.put_image("shop/api", &tag, &image(&format!("new {tag}"), "2024-01-20"));
    }
    let done = desk.run("apply plan.json").await.exits(0);
    let lines = |text: &str, begin: &str| text.lines().filter(|line| line.starts_with(begin)).count();
    assert_eq!((lines(&done.out, "done "), lines(&done.out, "skipped ")), (3, 1), "{}", done.out);
    assert!(done.out.contains("skipped  6 (") && done.out.contains("3 removed, 6 skipped, 0 failed"), "{}", done.out);
    let events: Vec<&str> = done.err.lines().filter(|line| line.contains(" skipped ")).collect();
    assert_eq!(events.len(), 1, "{}", done.err);
    assert!(events[0].contains("count=6"), "{}", events[0]);

    let text = desk.run("runs show last --out run.md --out run.csv").await.exits(0).out;
    assert_eq!((lines(&text, "skipped  6 ("), text.matches(" untag ").count()), (1, 3), "{text}");
    let markdown = desk.read("run.md");
    assert!(markdown.contains("\n- skipped: 6 (") && !markdown.contains("candidate-3"), "{markdown}");
    // Nothing is lost.
    assert_eq!(desk.read("run.csv").matches("skipped").count(), 6);
    let json = desk.run("runs show last --format json").await.exits(0).json();
    assert_eq!(json["journal"].as_array().unwrap().len(), 9);
}
