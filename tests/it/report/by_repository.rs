//! A plan put together repository by repository, against the plan of the whole inventory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tagwarden::domain::{Plan, Reclaim, Registry};
use tagwarden::engine::{
    CheckTotals, Evidence, PlacedDigests, RemovalPlanner, RepositoryDecision, UntaggedManifests, Verdicts, claim_texts,
    decide, evaluate, evaluate_repository, plan, reclaim,
};
use tagwarden::report::{
    Basis, KeptView, PlanBasis, PlanDocument, PlanSpool, PlanTally, RemovalView, RepositoryViews, VerdictCounts,
    assign_plan_id, document, document_from, fingerprint,
};

use crate::scenarios::shape::{Scenario, ScenarioFacts};

/// Two registries with tags of every verdict, sources of every state, and gaps.
const WORLD: &str = r#"
lesson: one of each
limits: { untag: 1 }
policies: |
  - { name: old, select: { tags: ["*", "!loose"] }, keep: [{ within: 30d }], mode: enforce }
  - { name: api, select: { repositories: [shop/api], tags: [v4] }, keep: none }
  - { name: olds, select: { repositories: [shop/old], tags: [v2] }, keep: none }
registries:
  contoso:
    repositories:
      lib/core: { tags: { v1: h 90d } }
      shop/api:
        tags: { v1: a 90d, v2: b 90d, v3: index 90d, v4: c 90d }
        manifests: { index: { children: [amd] } }
      shop/empty: {}
      shop/job: { tags: { v1: g 90d } }
      shop/old:
        tags: { v1: j 90d, v2: k 40d, new: l 1d, loose: n 90d }
        manifests:
          j: { size: 7, blobs: ["own 100", "base 20"] }
          l: { blobs: ["base 20"] }
      shop/web: { tags: { v1: d 90d, v2: e 90d, v3: f 90d } }
  fabrikam:
    gaps: [catalogue]
    repositories:
      lib/base: { tags: { v1: m 90d }, gaps: [vanished gone] }
      shop/web: { tags: { v1: i 90d }, gaps: [tag-list] }
sources:
  deploy:
    claims:
      - "contoso.example/a@{amd}"
      - contoso.example/shop/api:v1
      - "contoso.example/shop/api:v1@{moved}"
      - "contoso.example/shop/none:v1@{moved}"
      - contoso.example/shop/web:v1
    mentions: ["contoso/shop/api:v2", "contoso/shop/web:v2"]
    unresolved:
      - contoso.example/lib/core beside v1
      - contoso.example/shop/api
      - contoso.example/shop/job
      - contoso.example/shop/job beside node
      - contoso.example/shop/web
      - ghcr.io/shop/api
  down: { failed: "cannot read down.txt", registries: [fabrikam] }
  other: { unresolved: [lib/core] }
holds: ["contoso/shop/api:v1 +14d"]
expect: ""
"#;

/// What is decided about the whole world at once.
struct WholeDecision {
    stage: ScenarioFacts,
    verdicts: Arc<Verdicts>,
    plan: Arc<Plan>,
    reclaim: Arc<Reclaim>,
}

fn whole_decision() -> WholeDecision {
    let scenario: Scenario = serde_saphyr::from_str(WORLD).unwrap();
    let stage = scenario.stage("world");
    let verdicts = evaluate(&stage.rules, &stage.inventory, &stage.claims, stage.now);
    let plan = plan(&stage.rules, &stage.inventory, &verdicts, stage.now);
    let reclaim = reclaim(&stage.inventory, &stage.claims, &verdicts, &plan);
    WholeDecision { stage, verdicts: Arc::new(verdicts), plan: Arc::new(plan), reclaim: Arc::new(reclaim) }
}

fn whole_document(decided: &WholeDecision) -> PlanDocument {
    let stage = &decided.stage;
    document(&Basis {
        rules: &stage.rules,
        mode: "dry-run",
        settings: "sha256:0",
        inventory: &Arc::new(stage.inventory.clone()),
        claims: &stage.claims,
        verdicts: &decided.verdicts,
        plan: &decided.plan,
        reclaim: &decided.reclaim,
        drift: &[],
        created_at: stage.now,
        evaluated_at: stage.now,
        hypothetical: false,
        valid_for: Duration::from_hours(24),
    })
}

/// The document of what is decided about each repository alone, the last one first. Only limits and bytes are those of
/// the whole.
fn document_by_repository(decided: &WholeDecision) -> PlanDocument {
    let ScenarioFacts { rules, inventory, claims, now, .. } = &decided.stage;
    let head = |registry: &Registry| Registry { repositories: Vec::new(), ..registry.clone() };
    let registries: Vec<Registry> = inventory.registries.iter().map(head).collect();
    let (texts, placed) = (claim_texts(claims), PlacedDigests::of(inventory, claims));
    let (mut planner, mut totals) = (RemovalPlanner::new(rules, *now), CheckTotals::new(rules));
    let mut tally = PlanTally::new(claims, rules, *now);
    let mut views: BTreeMap<(usize, usize), (Vec<RemovalView>, Vec<KeptView>)> = BTreeMap::new();
    let mut drift = Verdicts::default();
    for (at, (registry, read)) in registries.iter().zip(&inventory.registries).enumerate().rev() {
        let evidence = Evidence::new(rules, registry, (claims, &texts[..]), UntaggedManifests::default(), *now);
        let names = read.repositories.iter().map(|repository| repository.name.as_str());
        drift.drift.extend(evidence.missing_repositories(names));
        for (place, repository) in read.repositories.iter().enumerate().rev() {
            // Only the last decision counts.
            tally.add(registry, repository, &RepositoryDecision::default());
            let evaluated = evaluate_repository(repository, &evidence, &placed);
            let mut decision = decide(repository, &evidence, &placed, evaluated, (&mut planner, &mut totals));
            assert!(decision.violations.is_empty(), "{:?}", decision.violations);
            tally.add(registry, repository, &decision);
            let found = RepositoryViews::new(registry, repository, &decision, *now);
            views.insert((at, place), (found.removals().collect(), found.kept().collect()));
            drift.drift.append(&mut decision.verdicts.drift);
        }
    }
    drift.sort_drift();
    let mut removals: Vec<RemovalView> = views.values().flat_map(|(removals, _)| removals.clone()).collect();
    for (view, bytes) in removals.iter_mut().zip(&decided.reclaim.removals) {
        assert_eq!((view.reclaimable_bytes, view.shared_bytes), (None, None));
        view.reclaimable_bytes = bytes.map(|bytes| bytes.exclusive);
        view.shared_bytes = bytes.map(|bytes| bytes.shared);
    }
    let kept: Vec<KeptView> = views.into_values().flat_map(|(_, kept)| kept).collect();
    let basis = PlanBasis {
        rules,
        mode: "dry-run",
        settings: "sha256:0",
        registries: &registries,
        claims,
        refusals: &decided.plan.refusals,
        deletions: &decided.plan.deletions,
        coverage: &decided.plan.coverage,
        drift: &drift.drift,
        findings: &[],
        reclaim: &decided.reclaim.registries,
        created_at: *now,
        evaluated_at: *now,
        hypothetical: false,
        valid_for: Duration::from_hours(24),
    };
    let mut document = document_from(&basis, &tally, removals.into(), kept.into());
    assert_eq!((document.id.as_str(), document.fingerprint.as_str()), ("", ""));
    document.fingerprint = fingerprint(&document);
    assign_plan_id(&mut document);
    document
}

#[test]
fn repositories_one_by_one_give_the_plan_of_the_whole() {
    let decided = whole_decision();
    let (whole, parts) = (whole_document(&decided), document_by_repository(&decided));
    let text = |document: &PlanDocument| serde_json::to_string_pretty(document).unwrap();
    assert_eq!(text(&parts), text(&whole));
    assert_eq!((whole.removals.len(), whole.kept.len(), whole.drift.len()), (2, 13, 2));
    assert_eq!((whole.refusals.len(), whole.holds.len()), (1, 1));
}

/// What is counted by the groups of a spooled plan is what its views say, one by one.
#[test]
fn groups_of_a_spooled_plan_count_its_views() {
    let ScenarioFacts { rules, inventory, claims, now, .. } = &whole_decision().stage;
    let (texts, placed) = (claim_texts(claims), PlacedDigests::of(inventory, claims));
    let (mut planner, mut totals) = (RemovalPlanner::new(rules, *now), CheckTotals::new(rules));
    let mut spool = PlanSpool::new().unwrap();
    let mut number = 0;
    for registry in &inventory.registries {
        let evidence = Evidence::new(rules, registry, (claims, &texts[..]), UntaggedManifests::default(), *now);
        for repository in &registry.repositories {
            let evaluated = evaluate_repository(repository, &evidence, &placed);
            let decision = decide(repository, &evidence, &placed, evaluated, (&mut planner, &mut totals));
            let views = RepositoryViews::new(registry, repository, &decision, *now);
            spool.add(number, (&registry.name, &repository.name), views).unwrap();
            number += 1;
        }
    }
    // The first removal of each repository that has any is not enforced after all.
    let spooled = spool.finish(|_, removals| Ok((vec![None; removals], vec![0]))).unwrap();
    let (removals, kept) = (spooled.removals(), spooled.kept());
    let of_removal = |view: &RemovalView| {
        let policies: Vec<&str> = view.policies().collect();
        format!("{}/{} {} {}", view.registry, view.repository, view.enforce, policies.join("+"))
    };
    let of_kept = |view: &KeptView| format!("{}/{} {}", view.registry, view.repository, view.verdict);
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    let views = removals.iter().map(|view| of_removal(&view)).chain(kept.iter().map(|view| of_kept(&view)));
    views.for_each(|label| *expected.entry(label).or_default() += 1);
    let removal_groups = removals.groups().map(|(view, count)| (of_removal(&view), count));
    let groups: Vec<(String, u64)> =
        removal_groups.chain(kept.groups().map(|(view, count)| (of_kept(&view), count))).collect();
    assert_eq!(groups.iter().cloned().collect::<BTreeMap<_, _>>(), expected);
    assert_eq!((groups.len(), removals.len() + kept.len()), (expected.len(), 15));
    assert!(expected.len() < 15 && !expected.keys().any(|label| label.contains(" true ")), "{expected:?}");
}

#[test]
fn the_head_of_a_plan_counts_tags_policies_sources_and_gaps() {
    let document = json!(whole_document(&whole_decision()));
    let columns = |list: &str, keys: &[&str]| -> Vec<Value> {
        let row = |found: &Value| -> Value { keys.iter().map(|key| found[*key].clone()).collect() };
        document[list].as_array().unwrap().iter().map(row).collect()
    };
    let keys =
        ["tags", "expired", "retained", "protected", "undecided", "out_of_scope", "reclaimable_bytes", "shared_bytes"];
    assert_eq!(keys.map(|key| document["summary"][key].as_u64().unwrap()), [15, 2, 1, 5, 6, 1, 107, 20]);
    assert_eq!(
        columns("policies", &["name", "selected", "expired"]),
        [json!(["api", 1, 0]), json!(["old", 14, 2]), json!(["olds", 1, 1])]
    );
    let in_deploy =
        json!({ "tags": 3, "repositories": 3, "text": "contoso.example/shop/api", "place": "deploy.txt:1" });
    let in_other = json!({ "tags": 1, "repositories": 1, "text": "lib/core", "place": "other.txt:1" });
    assert_eq!(
        columns("sources", &["name", "protects", "mentions", "unresolved", "undecided"]),
        [json!(["deploy", 5, 1, 4, in_deploy]), json!(["down", 0, 0, 0, null]), json!(["other", 0, 0, 1, in_other])]
    );
    assert_eq!(
        columns("registries", &["name", "repositories", "tags"]),
        [json!(["contoso", 6, 13]), json!(["fabrikam", 2, 2])]
    );
    let places = |list: &str| -> Vec<Value> {
        let gaps = document["registries"][1][list].as_array().unwrap().iter();
        gaps.map(|gap| json!([gap["repository"], gap["at"]])).collect()
    };
    assert_eq!(places("gaps"), [json!([null, "the list of repositories"]), json!(["shop/web", "the list of tags"])]);
    assert_eq!(places("invalid_names"), [json!(["lib/base", "tag gone"])]);
}

#[test]
fn verdicts_are_counted_by_repository() {
    let WholeDecision { stage, .. } = whole_decision();
    let ScenarioFacts { rules, inventory, claims, now, .. } = &stage;
    let registry = inventory.registry("contoso").unwrap();
    let texts = claim_texts(claims);
    let evidence = Evidence::new(rules, registry, (claims, &texts[..]), UntaggedManifests::default(), *now);
    let (mut planner, mut totals) = (RemovalPlanner::new(rules, *now), CheckTotals::new(rules));
    let mut tally = PlanTally::new(claims, rules, *now);
    for name in ["shop/old", "shop/api"] {
        let repository = registry.repository(name).unwrap();
        let placed = PlacedDigests::of(inventory, claims);
        let evaluated = evaluate_repository(repository, &evidence, &placed);
        let decision = decide(repository, &evidence, &placed, evaluated, (&mut planner, &mut totals));
        tally.add(registry, repository, &decision);
    }
    let found: Vec<_> = tally.repositories().map(|(_, name, counts)| (name.to_string(), counts)).collect();
    let api = VerdictCounts { protected: 3, undecided: 1, ..VerdictCounts::default() };
    let old = VerdictCounts { expired: 2, retained: 1, out_of_scope: 1, ..VerdictCounts::default() };
    assert_eq!(found, [("shop/api".to_owned(), api), ("shop/old".to_owned(), old)]);
    assert_eq!((tally.verdicts(), tally.verdicts().total()), (api.plus(old), 8));
}
