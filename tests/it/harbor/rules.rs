//! Harbor's own rules: garbage collection, tag retention, and what projects store.

use serde_json::{Value, json};
use tagwarden::demo::registry::{EmbeddedRegistry, Fault, FaultKind, HARBOR_READS, HarborProject, HarborSchedule};
use tagwarden::domain::{RegistryInfo, RetentionDays};

use super::{add_project, image, options, put, reader, request_counts, start};

#[expect(clippy::unnecessary_wraps, reason = "as the simulator takes it")]
fn schedule(kind: &str, delete_untagged: bool) -> Option<HarborSchedule> {
    Some(HarborSchedule { kind: kind.into(), cron: "0 0 0 * * *".into(), delete_untagged })
}

#[expect(clippy::unnecessary_wraps, reason = "as the simulator takes it")]
fn retention(template: &str) -> Option<Value> {
    Some(json!({
        "trigger": { "kind": "Schedule", "settings": { "cron": "0 0 3 * * *" } },
        "rules": [{
            "template": template, "params": { template: 10 },
            "tag_selectors": [{ "decoration": "matches", "pattern": "**", "extras": "{\"untagged\":true}" }],
            "scope_selectors": { "repository": [{ "decoration": "repoMatches", "pattern": "**" }] },
        }],
    }))
}

async fn info(registry: &EmbeddedRegistry) -> RegistryInfo {
    reader(&registry.url()).registry_info().await.unwrap().unwrap()
}

fn rules(info: &RegistryInfo) -> String {
    info.cleanup_rules.join("; ")
}

#[tokio::test]
async fn garbage_collection_that_deletes_untagged_artifacts_is_told() {
    let registry = start(options()).await;
    for (schedule, expected, phrase) in [
        (None, RetentionDays::Off, ""),
        (schedule("None", true), RetentionDays::Off, ""),
        (schedule("Weekly", false), RetentionDays::Off, ""),
        (schedule("Weekly", true), RetentionDays::Days(0), "garbage collection deletes all untagged artifacts"),
    ] {
        registry.harbor(|harbor, _| harbor.options.garbage_collection = schedule);
        let info = info(&registry).await;
        assert_eq!(info.untagged_retention, expected);
        assert!(rules(&info).contains(phrase) && rules(&info).is_empty() == phrase.is_empty(), "{}", rules(&info));
    }
    registry.harbor(|harbor, _| harbor.options.accounts[0].system.clear());
    let info = info(&registry).await;
    assert_eq!(info.untagged_retention, RetentionDays::Unknown);
    assert!(rules(&info).contains("system permission `Read` of `Garbage Collection`"), "{}", rules(&info));
    assert_eq!(info.stored_bytes, None);
}

#[tokio::test]
async fn tag_retention_counts_where_something_may_be_removed() {
    let registry = start(options()).await;
    add_project(
        &registry,
        "public",
        HarborProject { public: true, retention: retention("latestPushedK"), ..HarborProject::new(2) },
        &[],
    );
    add_project(
        &registry,
        "hub",
        HarborProject { registry_id: 1, retention: retention("latestPushedK"), ..HarborProject::new(3) },
        HARBOR_READS,
    );
    let found = info(&registry).await;
    assert_eq!((found.untagged_retention, &*rules(&found)), (RetentionDays::Off, ""), "nothing is removed there");
    for (template, expected) in [("always", RetentionDays::Off), ("latestPushedK", RetentionDays::Days(0))] {
        registry.harbor(|harbor, _| harbor.options.projects.get_mut("shop").unwrap().retention = retention(template));
        let found = info(&registry).await;
        assert_eq!(found.untagged_retention, expected, "{template}");
        assert!(rules(&found).starts_with("tag retention of project shop (cron `0 0 3 * * *`)"), "{}", rules(&found));
    }
    // Where the account may remove and may not look, nobody knows.
    registry.harbor(|harbor, _| {
        let shop = harbor.options.accounts[0].projects.get_mut("shop").unwrap();
        shop.remove(&("tag-retention", "read"));
    });
    let found = info(&registry).await;
    assert_eq!(found.untagged_retention, RetentionDays::Unknown);
    assert!(rules(&found).contains("`Read` of `Tag Retention`"), "{}", rules(&found));
}

#[tokio::test]
async fn stored_bytes_are_those_of_the_projects_that_are_read() {
    let registry = start(options()).await;
    let (one, other) = (image("one", 9), image("other", 9));
    put(&registry, "shop/api", "v1", &one, 5);
    put(&registry, "elsewhere/api", "v1", &other, 5);
    registry.harbor(|harbor, _| drop(harbor.options.projects.insert("elsewhere".into(), HarborProject::new(9))));
    let found = info(&registry).await;
    assert_eq!(found.stored_bytes, Some(one.total_bytes()));
    let asked = request_counts(&registry);
    assert_eq!(asked.values().sum::<usize>(), 3, "{asked:?}");
    registry.inject(Fault::on("/projects", FaultKind::status(500)));
    assert!(reader(&registry.url()).registry_info().await.is_err(), "then nothing is known");
}
