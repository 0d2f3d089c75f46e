//! Rules that protect nothing, as an operator meets them: `check`, `plan`, `run`, and the nights after.

use tagwarden::demo::registry::{EmbeddedRegistry, Fault, FaultKind, Options};

use super::{CliFixture, CliOutput, fill, names, record, settings, tags};

/// A shop with two old candidates, a release and a long-term version, and a policy that expires whatever is old.
async fn shop(policies: &str) -> (EmbeddedRegistry, CliFixture) {
    let registry = EmbeddedRegistry::start(Options::default()).await.unwrap();
    fill(&registry, "shop/api", "candidate", 3);
    fill(&registry, "shop/api", "release-1", 1);
    let mut desk = CliFixture::with(&[
        ("tagwarden.toml", &settings(&registry.url())),
        ("policies/all.yaml", &format!("policies:\n{policies}")),
        ("releases/api.json", &record(&format!("{}/shop/api:candidate-3", registry.host()))),
    ]);
    desk.set("TAGWARDEN__MODE", "enforce");
    desk.set("TAGWARDEN__LIMITS__PERCENT", "100");
    (registry, desk)
}

const EVERYTHING: &str =
    "  - name: everything\n    select: { tags: [\"*\"] }\n    keep: [{ within: 14d }]\n    mode: enforce\n";

fn with_releases(select: &str) -> String {
    format!("{EVERYTHING}  - name: releases\n    select: {select}\n    keep: all\n")
}

const ALL: [&str; 4] = ["candidate-1", "candidate-2", "candidate-3", "release-1-1"];
const CLEANED: [&str; 2] = ["candidate-3", "release-1-1"];

/// The refusals of a plan that protects nothing, each with its message.
fn refusals(done: &CliOutput) -> Vec<String> {
    let plan = done.json();
    let all = plan["refusals"].as_array().unwrap();
    assert!(all.iter().all(|one| one["kind"] == "protects-nothing" && one["binding"] == true), "{all:#?}");
    all.iter().map(|one| one["message"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_slip_in_a_protecting_rule_is_refused_and_named() {
    let slips = [
        (with_releases("{ pattern: '^release-' }"), "all.yaml:7: `pattern: ^release-`", "write `release-.*`"),
        (with_releases("{ tags: [\"release-.*\"] }"), "all.yaml:7: `tags: release-.*`", "write `release-*`"),
        (with_releases("{ tags: [\"Release-*\"] }"), "all.yaml:7: `tags: Release-*`", "write `release-*`"),
        (
            with_releases("{ tags: [\"candidate-3\", \"^release-\"] }"),
            "all.yaml:7: `tags: ^release-`",
            "write `release-*`",
        ),
        (
            with_releases("{ repositories: [\"contoso.azurecr.io/shop/**\"] }"),
            "all.yaml:7: `repositories: contoso.azurecr.io/shop/**`",
            "write `shop/**`",
        ),
        (with_releases("{ repositories: [\"shop\"] }"), "all.yaml:7: `repositories: shop`", "write `shop/**`"),
        (with_releases("{ repositories: [contoso/shop/api] }"), "`repositories: contoso/shop/api`", "write `shop/api`"),
        (
            EVERYTHING.replace("[\"*\"]", "[\"*\", \"!release-.*\"]"),
            "all.yaml:3: `tags: !release-.*`",
            "write `!release-*`",
        ),
        (
            EVERYTHING.replace("{ tags: [\"*\"] }", "{ repositories: [\"**\", \"!shop\"], tags: [\"*\"] }"),
            "all.yaml:3: `repositories: !shop`",
            "write `!shop/**`",
        ),
        (
            EVERYTHING.replace(
                "[{ within: 14d }]",
                "[{ within: 14d }, { matching: [\"release\\\\-1\\\\..*\", \"candidate-2\"] }]",
            ),
            "all.yaml:4: `matching: release\\-1\\..*`",
            "allow_unmatched",
        ),
    ];
    for (policies, place, better) in slips {
        let (registry, desk) = shop(&policies).await;
        desk.run("check").await.exits(0);
        for command in ["plan", "run", "run"] {
            let done = desk.run(&format!("{command} --format json")).await.exits(3);
            let refused = refusals(&done);
            assert_eq!(refused.len(), 1, "{policies}\n{refused:#?}");
            assert!(refused[0].contains(place) && refused[0].contains(better), "{place}, {better}: {refused:#?}");
        }
        assert_eq!(tags(&registry, "shop/api"), ALL, "{policies}");
        let told = desk.run("plan").await.exits(3).out;
        assert!(told.contains("Rules that match nothing") && told.contains(place), "{told}");
        let why = desk.run("explain contoso/shop/api:candidate-1").await.out;
        let kept = why.contains("stays");
        assert!(kept || why.contains("REFUSED") && why.contains(place), "{why}");
        // The last plan is known to `check`, which names the rule at its place.
        let warned = desk.run("check").await.exits(0).err;
        assert!(warned.contains("matched nothing (plan of "), "{warned}");
    }
}

#[tokio::test]
async fn rules_that_match_let_the_rest_go() {
    for policies in [
        with_releases("{ tags: [\"release-*\"] }"),
        with_releases("{ pattern: 'release-.*' }"),
        EVERYTHING.replace("[\"*\"]", "[\"*\", \"!release-*\"]"),
        EVERYTHING.replace("[{ within: 14d }]", "[{ within: 14d }, { matching: [\"release-*\"] }]"),
    ] {
        let (registry, desk) = shop(&policies).await;
        let plan = desk.run("plan --format json").await.exits(0).json();
        assert!(plan["unmatched"].is_null(), "{plan:#}");
        desk.run("run").await.exits(0);
        assert_eq!(tags(&registry, "shop/api"), CLEANED, "{policies}");
    }
}

#[tokio::test]
async fn every_plan_says_how_many_tags_a_policy_selects() {
    let (_registry, desk) = shop(&with_releases("{ tags: [\"release-*\"] }")).await;
    let plan = desk.run("plan --format json --out plan.md").await.exits(0).json();
    let selected = |at: usize| (plan["policies"][at]["name"].clone(), plan["policies"][at]["selected"].clone());
    assert_eq!(selected(0), ("everything".into(), 4.into()));
    assert_eq!(selected(1), ("releases".into(), 1.into()));
    assert!(desk.read("plan.md").contains("| `releases` | dry-run | 1 |"), "{}", desk.read("plan.md"));
}

#[tokio::test]
async fn a_rule_that_matched_is_only_reported_and_an_edited_one_is_new() {
    let (registry, desk) = shop(&with_releases("{ tags: [\"release-*\", \"candidate-3\"] }")).await;
    desk.run("plan").await.exits(0);
    assert!(registry.delete_tag("shop/api", "release-1-1"));
    let plan = desk.run("plan --format json").await.exits(0).json();
    assert_eq!(plan["unmatched"][0]["state"], "matched-before", "{plan:#}");
    assert_eq!(plan["unmatched"][0]["rule"], "release-*");
    let edited = with_releases("{ tags: [\"release-?*\", \"candidate-3\"] }");
    desk.write("policies/all.yaml", &format!("policies:\n{edited}"));
    desk.run("run").await.exits(3);
    assert_eq!(tags(&registry, "shop/api"), ["candidate-1", "candidate-2", "candidate-3"]);
    let named = format!("{edited}    allow_unmatched: [\"release-?*\"]\n");
    desk.write("policies/all.yaml", &format!("policies:\n{named}"));
    desk.run("run").await.exits(0);
    assert_eq!(tags(&registry, "shop/api"), ["candidate-3"]);
}

#[tokio::test]
async fn a_registry_that_is_down_says_nothing_of_rules() {
    let (registry, desk) = shop(&with_releases("{ tags: [\"v*\", \"release-*\"] }")).await;
    let other = EmbeddedRegistry::start(Options::default()).await.unwrap();
    fill(&other, "libs/core", "v1", 2);
    let both = settings(&registry.url())
        + &format!("[registries.fabrikam]\nkind = \"distribution\"\nendpoint = \"{}\"\n", other.url());
    desk.write("tagwarden.toml", &both);
    let down = FaultKind::Status { status: 503, headers: vec![], body: String::new() };
    other.inject(Fault::on("/v2/", down));
    let done = desk.run("run --format json").await.exits(5);
    assert!(refusals(&done).is_empty() && done.json()["unmatched"].is_null(), "{}", done.out);
    assert_eq!(tags(&registry, "shop/api"), CLEANED, "the other registry goes on");
    other.clear_faults();
    desk.run("plan").await.exits(0);
}

#[tokio::test]
async fn a_cleaning_policy_that_selects_nothing_only_warns() {
    let cleaning = format!(
        "{EVERYTHING}  - name: pulls\n    select: {{ tags: [\"pr-*\"] }}\n    keep: none\n    mode: enforce\n  - name: newest\n    \
         select: {{ tags: [\"^release-*\"] }}\n    keep: [{{ newest: 10 }}]\n    mode: enforce\n"
    );
    let (_registry, desk) = shop(&cleaning).await;
    let warned = desk.run("check").await.exits(0).err;
    assert!(warned.contains("warning: ") && warned.contains("`^release-*` is a glob"), "{warned}");
    let plan = desk.run("plan --format json").await.exits(0).json();
    let listed = |at: usize| (plan["unmatched"][at]["policy"].clone(), plan["unmatched"][at]["state"].clone());
    assert_eq!(plan["unmatched"].as_array().unwrap().len(), 2, "{plan:#}");
    assert_eq!([listed(0), listed(1)], [("newest".into(), "note".into()), ("pulls".into(), "note".into())]);
    assert!(names(&plan, "removals").contains(&"shop/api:release-1-1".to_owned()));
}

#[tokio::test]
async fn what_an_approved_plan_refused_is_not_applied() {
    let (registry, desk) = shop(&with_releases("{ tags: [\"release-.*\"] }")).await;
    desk.run("plan --out plan.json").await.exits(3);
    let done = desk.run("apply plan.json").await.exits(3);
    assert!(done.out.contains("0 removed, 3 refused, 0 skipped"), "{}", done.out);
    assert_eq!(tags(&registry, "shop/api"), ALL);
}

#[tokio::test]
async fn rules_of_another_dialect_are_told_without_a_registry() {
    let policies = "policies:\n  - name: a\n    select:\n      repositories: [\"ghcr.io/shop/**\", \"contoso/x\", \"!shop/legacy\", \"**\"]\n      \
                    tags: [\"v1.*\", \"rc$\", \"!x\\\\d\"]\n    keep: [{ newest: 2 }, { matching: [\"lts-.*\"] }]\n  - name: b\n    \
                    select: { pattern: '^release-' }\n    keep: all\n    allow_unmatched: [\"^release\"]\n";
    let desk =
        CliFixture::with(&[("tagwarden.toml", &settings("http://127.0.0.1:9")), ("policies/all.yaml", policies)]);
    let unknown = desk.run("check").await.exits(2).err;
    assert!(unknown.contains("unknown rule `^release` of this policy, did you mean `^release-`?"), "{unknown}");
    assert!(unknown.contains("all.yaml:10:23"), "{unknown}");
    desk.write("policies/all.yaml", &policies.replace("    allow_unmatched: [\"^release\"]\n", ""));
    let warned = desk.run("check").await.exits(0).err;
    for (line, word) in [
        (4, "`ghcr.io/shop/**` seems to begin with a host"),
        (4, "`contoso/x` begins with the name of a registry"),
        (4, "`!shop/legacy` names the repository `shop/legacy` alone"),
        (5, "`rc$` is a glob"),
        (5, "`!x\\d` is a glob"),
        (6, "`lts-.*` is a glob"),
        (8, "`^release-` matches one tag alone"),
    ] {
        let told = warned.lines().any(|told| told.contains(&format!("all.yaml:{line}:")) && told.contains(word));
        assert!(told, "{line}: {word} in\n{warned}");
    }
    assert!(!warned.contains("`v1.*`"), "{warned}");
    let misspelt = "policies:\n  - { name: a, select: { registries: [contso] }, keep: all }\n";
    desk.write("policies/all.yaml", misspelt);
    let unknown = desk.run("check").await.exits(2).err;
    assert!(unknown.contains("did you mean `contoso`?"), "{unknown}");
}
