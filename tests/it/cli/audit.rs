//! The audit months later: by whom, under which policy and why, also once the plan is gone.

use jiff::Timestamp;
use serde_json::Value;
use tagwarden::demo::blob::Blob;
use tagwarden::demo::image::ImageSpec;
use tagwarden::demo::registry::{AcrOptions, EmbeddedRegistry, Options};
use tagwarden::state::{NewRun, RetentionCutoffs, RunKind, StateStore};
use uuid::Uuid;

use super::{CliFixture, fill, record, settings, tags};
use crate::support::acr::{ADMIN, clock, start};

const POLICIES: &str = "policies:
  - { name: candidates, select: { tags: [\"candidate-*\"] }, keep: [{ newest: 2 }], mode: enforce }
";

async fn shop() -> (EmbeddedRegistry, CliFixture) {
    let registry = EmbeddedRegistry::start(Options::default()).await.unwrap();
    fill(&registry, "shop/api", "candidate", 5);
    let mut desk = CliFixture::with(&[
        ("tagwarden.toml", &settings(&registry.url())),
        ("policies/all.yaml", POLICIES),
        ("releases/api.json", &record(&format!("{}/shop/api:candidate-5", registry.host()))),
        (".git/HEAD", "1111111111111111111111111111111111111111\n"),
    ]);
    desk.set("TAGWARDEN__MODE", "enforce");
    desk.set("TAGWARDEN__LIMITS__PERCENT", "100");
    (registry, desk)
}

async fn drop_plans(desk: &CliFixture) {
    let store = StateStore::open(&desk.path("tagwarden.db")).await.unwrap();
    store.prune(RetentionCutoffs { runs: Timestamp::MIN, plans: Timestamp::MAX }).await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn the_journal_answers_once_the_plan_is_gone() {
    let (registry, desk) = shop().await;
    desk.run("run").await.exits(0);
    assert_eq!(tags(&registry, "shop/api"), ["candidate-4", "candidate-5"]);
    let image = "contoso/shop/api:candidate-2";
    let with_plan = desk.run(&format!("explain --run last {image}")).await.exits(0);
    assert!(with_plan.out.contains("has expired") && !with_plan.out.contains("not kept any more"), "{}", with_plan.out);
    drop_plans(&desk).await;
    desk.write("policies/all.yaml", "policies:\n  - { name: other, select: { tags: [\"x\"] }, keep: all }\n");

    let done = desk.run(&format!("explain --run last {image}")).await.exits(0);
    for words in [
        "is not kept any more",
        "done     untag",
        "[policy candidates, all.yaml at sha256:",
        "4th newest (the rule keeps 2",
    ] {
        assert!(done.out.contains(words), "{words:?} is missing in:\n{}", done.out);
    }
    let json = desk.run(&format!("explain --run last {image} --format json")).await.exits(0).json();
    assert_eq!(json["plan"], Value::Null);
    let entry = &json["journal"][0];
    assert_eq!((&entry["policy"], &entry["policy_file"]), (&"candidates".into(), &"all.yaml".into()), "{json:#}");
    assert_eq!(entry["policies_commit"], "1111111111111111111111111111111111111111");
    let done = desk.run("explain --run last contoso/shop/api:candidate-5").await.exits(0);
    assert!(done.out.contains("neither removed nor skipped it"), "{}", done.out);

    let shown = desk.run("runs show last").await.exits(0);
    assert!(shown.out.contains("not kept any more (`records.plans`)"), "{}", shown.out);
    assert_eq!(shown.out.matches("[policy candidates, all.yaml at sha256:").count(), 3, "{}", shown.out);
    let csv = desk.run("runs show last --format csv").await.exits(0);
    assert!(csv.out.lines().next().unwrap().ends_with(",reasons,signed_by"), "{}", csv.out);
    assert!(csv.out.lines().nth(1).unwrap().contains("policy candidates does not keep it: "), "{}", csv.out);
    assert!(csv.out.lines().nth(1).unwrap().contains(",all.yaml,sha256:"), "{}", csv.out);

    // The text of the policy is there as long as the run is.
    let store = StateStore::open(&desk.path("tagwarden.db")).await.unwrap();
    let revision = entry["policy_revision"].as_str().unwrap();
    assert_eq!(store.policy_text(revision).await.unwrap().as_deref(), Some(POLICIES));
    let shown = desk.run("runs show last --policies").await.exits(0).out;
    for words in [&*format!("git commit {}", "1".repeat(40)), "# all.yaml (candidates (enforce))\n# sha256:", POLICIES]
    {
        assert!(shown.contains(words), "{words:?} is missing in:\n{shown}");
    }
    let json = desk.run("runs show last --policies --format json").await.exits(0).json();
    assert_eq!((&json["schema"], &json["run"]), (&"tagwarden.run-policies/1".into(), &entry["run"]), "{json:#}");
    assert_eq!((&json["files"][0]["revision"], &json["files"][0]["text"]), (&revision.into(), &POLICIES.into()));
    desk.run("runs show last --policies --format csv").await.exits(2);
    desk.run("runs show last --policies --out report.md").await.exits(2);
    store.prune(RetentionCutoffs { runs: Timestamp::MAX, plans: Timestamp::MAX }).await.unwrap();
    assert_eq!(store.policy_text(revision).await.unwrap(), None);
    store.close().await;
}

#[tokio::test]
async fn a_tag_has_a_history() {
    let (registry, desk) = shop().await;
    let image = "contoso/shop/api:candidate-1";
    desk.run("run").await.exits(0);
    desk.run(&format!("restore {image}")).await.exits(0);
    let done = desk.run(&format!("explain --history {image}")).await.exits(0);
    let places = [
        "History of contoso/shop/api:candidate-1",
        "untag: done",
        "(run) by anna@",
        "policy:   candidates, all.yaml at sha256:",
        "commit 111111111111…",
        "because:  policy candidates does not keep it: 5th newest",
        "restore: done",
        "(restore) by anna@",
        "Now: in the registry",
    ];
    let mut rest = &*done.out;
    for words in places {
        rest = rest.split_once(words).unwrap_or_else(|| panic!("{words:?} in its place in:\n{}", done.out)).1;
    }

    // With the decisions of plans, and holds with their ends.
    desk.run(&format!("hold {image} --for 30d --reason audit-26")).await.exits(0);
    desk.run(&format!("unhold {image}")).await.exits(0);
    let done = desk.run(&format!("explain --history {image}")).await.exits(0);
    let places = [
        "decided: expired (enforced)",
        "untag: done",
        "restore: done",
        "hold: until ",
        "because:  audit-26",
        "hold: ended",
        "by:       anna@",
        "Now: in the registry",
    ];
    for words in places {
        assert!(done.out.contains(words), "{words:?} in:\n{}", done.out);
    }
    let json = desk.run(&format!("explain --history {image} --format json")).await.exits(0).json();
    let decision = &json["decisions"][0];
    assert_eq!((&decision["verdict"], &decision["policy"]), (&"expired".into(), &"candidates".into()), "{json:#}");
    assert_eq!((&decision["plans"], &decision["enforce"]), (&1.into(), &true.into()), "{json:#}");
    assert!(json["holds"].as_array().unwrap().iter().any(|hold| hold["reason"] == "audit-26"), "{json:#}");

    // The same decision before and after a removal is made twice, each time for its own reasons.
    desk.run("run").await.exits(0);
    let again = desk.run(&format!("explain --history {image} --format json")).await.exits(0).json();
    assert_eq!(again["decisions"].as_array().unwrap().len(), 2, "{again:#}");
    assert_eq!((&again["decisions"][0], &again["decisions"][1]["plans"]), (decision, &1.into()), "{again:#}");
    desk.run(&format!("restore --no-hold {image}")).await.exits(0);

    // Put back, and gone again by somebody else's hand: that is no removal of ours.
    desk.run("plan").await;
    assert!(registry.delete_tag("shop/api", "candidate-1"));
    let done = desk.run(&format!("explain --history {image}")).await.exits(0);
    assert!(done.out.contains("Now: not in the registry; not removed by Tagwarden, last seen "), "{}", done.out);
    let gone = desk.run(&format!("explain {image}")).await.exits(2);
    assert!(gone.err.contains("not removed by Tagwarden, last seen "), "{}", gone.err);
    desk.run("plan").await;
    let json = desk.run(&format!("explain --history {image} --format json")).await.exits(0).json();
    assert_eq!((&json["exists"], &json["removed_by_tagwarden"]), (&false.into(), &false.into()), "{json:#}");
    assert!(json["last_seen"]["missing_since"].is_string(), "{json:#}");
    let done = desk.run("explain --history contoso/shop/api:candidate-2").await.exits(0);
    assert!(done.out.contains("Now: not in the registry; Tagwarden removed it last"), "{}", done.out);
    let done = desk.run("explain --history contoso/shop/api:never").await.exits(0);
    assert!(done.out.contains("no whole run of this state saw it"), "{}", done.out);
    desk.run("explain --history contoso/shop/api").await.exits(2);
}

/// With an hourly schedule, a few hundred runs are days, and a state keeps the plans of weeks.
#[tokio::test]
async fn a_history_goes_back_to_the_first_plan_that_is_stored() {
    let (_registry, desk) = shop().await;
    let image = "contoso/shop/api:candidate-1";
    let error = desk.run(&format!("explain --history {image}")).await.exits(2).err;
    assert!(error.contains("there is no state at tagwarden.db yet"), "{error}");
    desk.run("plan").await;
    desk.write("policies/all.yaml", "policies:\n  - { name: other, select: { tags: [\"*\"] }, keep: all }\n");
    desk.run("plan").await;
    let store = StateStore::open(&desk.path("tagwarden.db")).await.unwrap();
    let [last, first] = store.runs(2).await.unwrap().try_into().unwrap();
    let head = store.plan_head(last.run.id).await.unwrap().unwrap();
    let chunk = store.plan_chunk(last.run.id, 0).await.unwrap().unwrap();
    for number in 0..250 {
        let run = NewRun { id: Uuid::from_u128(number), ..last.run.clone() };
        store.begin_run(&run).await.unwrap();
        let mut chunks = [Ok(chunk.clone())].into_iter();
        store.save_plan(run.id, &format!("sha256:{number}"), &head, &mut chunks).await.unwrap();
    }
    store.close().await;

    let done = desk.run(&format!("explain --history {image}")).await.exits(0);
    let since = first.run.started_at.strftime("%Y-%m-%d %H:%M UTC");
    for words in [
        &*format!(
            "Decisions are those of 252 complete plans since {since}: earlier ones, if there were any, are not stored"
        ),
        "decided: expired (enforced)",
        &format!("by run:   {}\n", first.run.id),
        "decided: retained",
    ] {
        assert!(done.out.contains(words), "{words:?} is missing in:\n{}", done.out);
    }
    let json = desk.run(&format!("explain --history {image} --format json")).await.exits(0).json();
    assert_eq!((&json["plans"]["searched"], &json["plans"]["partial"]), (&252.into(), &false.into()), "{json:#}");
    assert_eq!(json["decisions"].as_array().unwrap().len(), 2, "{json:#}");
}

/// Azure's registry gives push times, so nothing else is remembered of its tags.
#[tokio::test]
async fn a_tag_that_vanished_from_azure_was_seen_last_at_some_time() {
    let registry = start(AcrOptions::new(clock()).admin(ADMIN.0, ADMIN.1)).await;
    fill(&registry, "shop/api", "candidate", 3);
    fill(&registry, "shop/old", "candidate", 1);
    let (user, password) = ADMIN;
    let toml = format!(
        "[registries.contoso]\nkind = \"acr\"\nendpoint = \"{}\"\n\
         auth = {{ kind = \"basic\", username = \"{user}\", password_file = \"password\" }}\n",
        registry.url()
    );
    let desk = CliFixture::with(&[("tagwarden.toml", &*toml), ("policies/all.yaml", POLICIES), ("password", password)]);
    desk.run("plan").await.exits(0);
    assert!(registry.delete_tag("shop/api", "candidate-1"));
    assert!(registry.delete_tag("shop/old", "candidate-1"));
    desk.run("plan").await.exits(0);
    for image in ["shop/api:candidate-1", "shop/old:candidate-1"] {
        let json = desk.run(&format!("explain --history contoso/{image} --format json")).await.exits(0).json();
        let seen = &json["last_seen"];
        assert!(seen["at"].is_string() && seen["missing_since"].is_string(), "{json:#}");
        assert!(seen["digest"].as_str().unwrap().starts_with("sha256:"), "{json:#}");
    }
}

/// Layers are shared across repositories and tags: `explain` gives the numbers of the plan.
#[tokio::test]
async fn explain_and_plan_agree_on_bytes() {
    let (registry, desk) = shop().await;
    let created: Timestamp = "2023-01-01T12:00:00Z".parse().unwrap();
    let shared = Blob::layer("shared-by-two", 50_000);
    let image = |name: &str| ImageSpec::new(created, &[shared.clone(), Blob::layer(name, 3000)]).build();
    registry.put_image("shop/api", "candidate-0", &image("api"));
    registry.put_image("shop/web", "stays", &image("web"));
    let twice = ImageSpec::new(created, &[Blob::layer("twice", 7000)]).build();
    for tag in ["candidate-00", "candidate-000"] {
        registry.put_image("shop/api", tag, &twice);
    }
    let before = desk.run("explain contoso/shop/api:candidate-0").await.exits(0).out;
    assert!(before.contains("counted in this repository alone"), "{before}");
    let plan = desk.run("plan --format json").await.exits(0).json();
    let mut compared = 0;
    for removal in plan["removals"].as_array().unwrap() {
        let image = format!("contoso/shop/api:{}", removal["tag"].as_str().unwrap());
        let explained = desk.run(&format!("explain {image} --format json")).await.exits(0).json();
        for key in ["reclaimable_bytes", "shared_bytes"] {
            assert_eq!(explained["size"][key], removal[key], "{image}: {explained:#}");
        }
        assert!(explained["size"]["counted_by"].is_string(), "{explained:#}");
        compared += 1;
    }
    assert!(compared >= 6, "{plan:#}");
    let first = plan["removals"].as_array().unwrap().iter().find(|one| one["tag"] == "candidate-0").unwrap();
    assert!(first["shared_bytes"].as_u64().unwrap() >= 50_000, "{first:#}");
}

/// A killed command recorded no end. The next one that has the lease does, and a dry run under way is left alone.
#[tokio::test]
async fn the_end_of_a_killed_run_is_recorded_by_the_next() {
    let (_registry, desk) = shop().await;
    desk.run("run").await.exits(0);
    let store = StateStore::open(&desk.path("tagwarden.db")).await.unwrap();
    for (number, kind) in [(1, RunKind::Plan), (2, RunKind::Apply), (3, RunKind::Restore)] {
        let run = NewRun {
            id: uuid::Uuid::from_u128(number),
            kind,
            mode: "enforce".into(),
            started_at: Timestamp::UNIX_EPOCH,
            started_by: "bo@elsewhere".into(),
            version: String::new(),
            approved_by: None,
            ticket: None,
        };
        store.begin_run(&run).await.unwrap();
    }
    store.close().await;
    let outcomes = async || {
        let runs = desk.run("runs --format json").await.exits(0).json()["runs"].clone();
        let of = |run: &Value| format!("{}: {}", run["kind"].as_str().unwrap(), run["outcome"].as_str().unwrap());
        runs.as_array().unwrap().iter().map(of).collect::<Vec<_>>()
    };
    let open = ["restore: unfinished", "apply: unfinished", "plan: unfinished", "run: done"];
    assert_eq!(outcomes().await, open);
    desk.run("plan").await.exits(0);
    assert_eq!(outcomes().await[1..], open, "a dry run has no lease");
    desk.run("run").await.exits(0);
    let ended =
        ["run: done", "plan: done", "restore: interrupted", "apply: interrupted", "plan: unfinished", "run: done"];
    assert_eq!(outcomes().await, ended);
    let shown = desk.run(&format!("runs show {}", uuid::Uuid::from_u128(2))).await.exits(0).out;
    assert!(shown.contains("its process ended before it did"), "{shown}");
}
