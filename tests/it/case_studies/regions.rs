//! Canary and region tags over three regions: stale test tags go, those that release evidence references stay, and the
//! audit tells each decision.

use std::collections::BTreeMap;

use tagwarden::demo::registry::{AcrOptions, Dialect, Options};
use tagwarden::workflow::Approval;

use super::*;
use crate::support::acr::ADMIN;
use crate::workflow::azure::KIND;
use crate::workflow::noon;

const POLICIES: &str = r#"policies:
  - name: test-tags
    owner: platform@contoso.example
    select: { tags: ["test-*"] }
    keep: [{ within: 14d }]
    mode: enforce
  - name: canaries
    select: { tags: ["canary-*"] }
    keep: [{ newest: 2 }]
    mode: enforce
  - name: regions
    select: { tags: ["region-*"] }
    keep: all
"#;

const REPOSITORY: &str = "shop/api";
/// Each region's registry, its test tags that are stale, and how many of those are on record.
const REGIONS: [(&str, usize, usize); 3] = [("main", 220, 13), ("eus", 220, 13), ("sea", 220, 14)];
const GOING: usize = 660 - 40;

/// A registry to which the pipeline pushes so much later than to the first.
async fn region(later: SignedDuration) -> EmbeddedRegistry {
    let options = AcrOptions::new(std::sync::Arc::new(move || noon() + later)).admin(ADMIN.0, ADMIN.1);
    EmbeddedRegistry::start(Options { dialect: Dialect::acr(options), ..Options::default() }).await.unwrap()
}

/// Fills a region; every 16th test tag is on record, half of them by digest and half by name.
fn fill(registry: &EmbeddedRegistry, name: &str, stale: usize, recorded: usize) -> Vec<Value> {
    let mut found = Vec::new();
    for number in 0..stale {
        let tag = format!("test-{number:03}");
        let digest = push(registry, REPOSITORY, &[&tag], 20 + i64::try_from(number).unwrap());
        if number % 16 == 3 && found.len() < recorded {
            let by = if found.len() % 2 == 0 { format!("@{digest}") } else { format!(":{tag}") };
            let image = format!("{}/{REPOSITORY}{by}", registry.host());
            found.push(json!({"image": image, "service": "api", "environment": name, "build": tag}));
        }
    }
    assert_eq!(found.len(), recorded);
    for days in 1..=2 {
        push(registry, REPOSITORY, &[&format!("test-new-{days}")], days);
        push(registry, REPOSITORY, &[&format!("canary-{name}-{days}")], days);
    }
    push(registry, REPOSITORY, &[&format!("region-{name}")], 400);
    found
}

#[tokio::test]
async fn six_hundred_and_twenty_go_and_each_decision_is_told() {
    let others = [region(SignedDuration::from_secs(1)).await, region(SignedDuration::from_secs(2)).await];
    let more = ["eus", "sea"]
        .iter()
        .zip(&others)
        .map(|(name, registry)| format!("[registries.{name}]\n{KIND}\nendpoint = \"{}\"\n", registry.url()))
        .collect::<Vec<_>>()
        .concat();
    let walk = open_fixture(POLICIES, &more).await;
    let registries = [&walk.registry, &others[0], &others[1]];
    let evidence: Vec<Value> = REGIONS
        .iter()
        .zip(registries)
        .flat_map(|((name, stale, recorded), registry)| fill(registry, name, *stale, *recorded))
        .collect();
    records(&walk, "api", &evidence);
    let count = |registry: &EmbeddedRegistry| registry.tags(REPOSITORY).len();
    assert_eq!(registries.map(count), [225; 3]);

    let plan = walk.plan().await;
    assert_eq!((plan.removals.len(), plan.summary.protected, plan.refusals.len()), (GOING, 40, 0));
    let by_policy: BTreeMap<&str, u64> = plan.policies.iter().map(|view| (view.name.as_str(), view.expired)).collect();
    assert_eq!(by_policy, [("canaries", 0), ("regions", 0), ("test-tags", 620)].into());
    let approval = Approval { approved_by: Some("Ada".into()), ticket: Some("CHG-9".into()), ..Approval::default() };
    let opened = walk.open().await.unwrap();
    let ended = opened.apply(&rendered(&plan, Format::Json), &approval, &()).await.unwrap();
    opened.close().await;
    assert_eq!(ended.outcome.exit_code(), 0);

    // What is left in each region: what is on record, what is new, what stays anyway.
    assert_eq!(registries.map(count), [13 + 5, 13 + 5, 14 + 5]);
    for record in &evidence {
        let (tag, place) = (record["build"].as_str().unwrap(), record["environment"].as_str().unwrap());
        let position = REGIONS.iter().position(|(name, ..)| *name == place).unwrap();
        assert!(registries[position].tags(REPOSITORY).contains_key(tag), "{place}: {tag} is on record");
    }

    // The audit: every tag has one decision, with its reason, in the run or in the plan that it applied.
    let run = audit(&walk, &ended.run.to_string()).await;
    assert_eq!((run.count_outcome("done"), run.entries().len()), (620, GOING));
    let mut decisions: BTreeMap<String, String> = BTreeMap::new();
    for entry in run.entries() {
        let why = entry.reasons.to_string();
        assert!(why.contains("test-tags") && why.contains("within"), "{why}");
        assert!(entry.policy.as_deref() == Some("test-tags") && entry.correlation_id.is_some(), "{entry:?}");
        assert!(decisions.insert(entry.name(), why).is_none());
    }
    let app = walk.open().await.unwrap();
    let (_, recorded) = app.run_report(&run.id).await.unwrap();
    app.close().await;
    for kept in recorded.unwrap().kept.iter() {
        let why: Vec<String> = kept.reasons.iter().map(report::ReasonView::sentence).collect();
        assert!(decisions.insert(kept.name(), why.join("; ")).is_none());
    }
    assert_eq!(decisions.len(), 3 * 225);
    let on_record = decisions.values().filter(|why| why.contains("release of api in")).count();
    assert_eq!(on_record, 40);
    let mut csv = Vec::new();
    report::write_run(&run, None, Format::Csv, &mut csv).unwrap();
    assert_eq!(String::from_utf8(csv).unwrap().lines().count(), 1 + GOING);
}
