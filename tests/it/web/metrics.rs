//! What is told to Prometheus, to alert on and to draw.

use std::collections::BTreeSet;
use std::process::Command;

use regex::Regex;
use tagwarden::domain::Failure;
use tagwarden::state::{LeaseRecord, RunKind, StateFigures};
use tagwarden::web::{PolicyProblem, Role};
use tagwarden::workflow::RunError;

use super::fixture::{LEAST, WebFixture, noon, plan, record, run_result};

const ALERTS: &str = include_str!("../../../deploy/prometheus/alerts.yaml");
const DASHBOARD: &str = include_str!("../../../deploy/grafana/tagwarden.json");
const DOCUMENT: &str = include_str!("../../../docs/metrics.md");

/// A board that has seen everything.
async fn seen() -> WebFixture {
    let world = WebFixture::new().await;
    let board = &world.context.status;
    let minute = jiff::Span::new().minutes(1);
    board.record_run(RunKind::Run, noon() - minute, noon(), &Ok(run_result(1, plan(120))));
    board.record_run(RunKind::Run, noon(), noon() + minute, &Err(RunError::Usage(Failure::new((), "no"))));
    board.record_figures(&figures());
    world
}

fn figures() -> StateFigures {
    let lease = |name: &str, epoch, is_held| LeaseRecord {
        name: name.into(),
        epoch,
        holder: format!("ada for {name}"),
        taken_at: noon(),
        is_held,
    };
    StateFigures {
        leases: vec![lease("schedule", 7, true), lease("run", 9, false)],
        registry_leases: vec![lease("https://contoso.example", 3, true)],
        holds: 2,
        restores: 5,
        last_removals: [("contoso".to_owned(), noon())].into(),
        ..StateFigures::default()
    }
}

async fn lines(world: &WebFixture) -> Vec<String> {
    let answer = world.get("/metrics").await;
    assert_eq!(answer.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(answer.body.ends_with("# EOF\n"), "{}", answer.body);
    answer.body.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

#[tokio::test]
async fn a_run_is_told_in_numbers() {
    let world = seen().await;
    let lines = lines(&world).await;
    for line in [
        "tagwarden_runs_total{kind=\"run\",outcome=\"done\"} 1",
        "tagwarden_runs_total{kind=\"run\",outcome=\"error\"} 1",
        "tagwarden_run_duration_seconds_sum{kind=\"run\"} 120.0",
        "tagwarden_run_duration_seconds_count{kind=\"run\"} 2",
        "tagwarden_last_run_timestamp_seconds{kind=\"run\"} 1795435260",
        "tagwarden_last_successful_run_timestamp_seconds{kind=\"run\"} 1795435200",
        "tagwarden_tags{registry=\"contoso\",verdict=\"expired\"} 12",
        "tagwarden_tags{registry=\"contoso\",verdict=\"undecided\"} 0",
        "tagwarden_reclaimable_bytes{registry=\"contoso\"} 10485760",
        "tagwarden_shared_bytes{registry=\"contoso\"} 10240",
        "tagwarden_unknown_bytes_removals{registry=\"contoso\"} 2",
        "tagwarden_reclaimed_bytes_total{registry=\"contoso\"} 1073741824",
        "tagwarden_removals_total{registry=\"contoso\",outcome=\"done\"} 1",
        "tagwarden_removals_total{registry=\"contoso\",outcome=\"failed\"} 1",
        "tagwarden_registry_gaps{registry=\"contoso\"} 1",
        "tagwarden_refusals 1",
        "tagwarden_registry_requests_total{registry=\"contoso\",status=\"2xx\"} 8",
        "tagwarden_registry_requests_total{registry=\"contoso\",status=\"none\"} 1",
        "tagwarden_registry_retries_total{registry=\"contoso\"} 2",
        "tagwarden_registry_throttled_total{registry=\"contoso\"} 1",
        "tagwarden_source_up{source=\"aks-prod\"} 1",
        "tagwarden_source_up{source=\"releases\"} 0",
        "tagwarden_source_evidence_timestamp_seconds{source=\"aks-prod\"} 1795434900",
        "tagwarden_next_run_timestamp_seconds{policies=\"all policies\"} 1795489200",
        "tagwarden_policies 3",
        "tagwarden_policies_problem 0",
        "tagwarden_lease_held{lease=\"schedule\"} 1",
        "tagwarden_lease_held{lease=\"run\"} 0",
        "tagwarden_lease_epoch{lease=\"schedule\"} 7",
        "tagwarden_lease_taken_timestamp_seconds{lease=\"run\"} 1795435200",
        "tagwarden_lease_holder{lease=\"schedule\",holder=\"ada for schedule\"} 1",
        "tagwarden_registry_lease_held{endpoint=\"https://contoso.example\"} 1",
        "tagwarden_registry_lease_epoch{endpoint=\"https://contoso.example\"} 3",
        "tagwarden_holds 2",
        "tagwarden_restores 5",
        "tagwarden_last_removal_timestamp_seconds{registry=\"contoso\"} 1795435200",
        "tagwarden_ready 1",
        "tagwarden_leader 1",
        "tagwarden_runs_blocked 0",
        concat!("tagwarden_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        "process_start_time_seconds 1795435200",
    ] {
        assert!(lines.iter().any(|found| found == line), "no {line} in\n{}", lines.join("\n"));
    }
}

/// A lease that is given back has no holder any more, and what the state no longer has is no longer reported.
#[tokio::test]
async fn leases_are_told_as_they_are_now() {
    let world = seen().await;
    let mut later = figures();
    later.leases[0].is_held = false;
    later.registry_leases.clear();
    world.context.status.record_figures(&later);
    let found = lines(&world).await;
    assert!(found.contains(&"tagwarden_lease_held{lease=\"schedule\"} 0".to_owned()));
    for gone in ["tagwarden_lease_holder", "tagwarden_registry_lease_held", "tagwarden_registry_lease_epoch"] {
        assert!(!found.iter().any(|line| line.starts_with(gone)), "{gone}");
    }
}

#[tokio::test]
async fn of_several_daemons_one_says_that_it_leads() {
    let world = WebFixture::new().await;
    for (role, value) in [(Role::Leader, 1), (Role::StandBy { leader: None }, 0), (Role::Single, 1)] {
        world.context.status.update(|status| status.role = role);
        assert!(lines(&world).await.contains(&format!("tagwarden_leader {value}")));
    }
}

#[tokio::test]
async fn a_daemon_with_outdated_rules_says_so() {
    let world = WebFixture::new().await;
    for (outdated, value) in [(Some("older".to_owned()), 1), (None, 0)] {
        world.context.status.update(|status| status.outdated = outdated);
        assert!(lines(&world).await.contains(&format!("tagwarden_rules_outdated {value}")));
    }
}

#[tokio::test]
async fn edits_that_cannot_be_gone_by_are_counted_once_each() {
    let world = WebFixture::new().await;
    let problem = |text: &str| Some(PolicyProblem { since: noon(), text: text.to_owned() });
    for text in ["a", "a", "b"] {
        world.context.status.update(|status| status.policies.problem = problem(text));
        world.context.status.update(|status| status.blocked_by = Some("a freeze".into()));
    }
    let found = lines(&world).await;
    for line in ["tagwarden_policy_load_failures_total 2", "tagwarden_policies_problem 1", "tagwarden_runs_blocked 1"] {
        assert!(found.iter().any(|found| found == line), "no {line}");
    }
    world.context.status.update(|status| status.policies.problem = None);
    let found = lines(&world).await;
    assert!(found.iter().any(|line| line == "tagwarden_policies_problem 0"));
    assert!(found.iter().any(|line| line == "tagwarden_policy_load_failures_total 2"));
}

/// The first scrape after a restart does not look like a daemon that never did anything.
#[tokio::test]
async fn what_is_on_record_is_told_after_a_restart() {
    let world = WebFixture::with_record(LEAST, async |store| record(store, 1, plan(60), noon()).await).await;
    let found = lines(&world).await;
    for line in [
        "tagwarden_last_successful_run_timestamp_seconds{kind=\"run\"} 1795435290",
        "tagwarden_tags{registry=\"contoso\",verdict=\"expired\"} 6",
        "tagwarden_source_up{source=\"releases\"} 0",
        "tagwarden_refusals 1",
    ] {
        assert!(found.iter().any(|found| found == line), "no {line} in\n{}", found.join("\n"));
    }
    assert!(!found.iter().any(|line| line.starts_with("tagwarden_runs_total")), "those of this process only");
}

/// All series of an exposition by name.
fn names(lines: &[String]) -> BTreeSet<String> {
    lines.iter().map(|line| line.split(['{', ' ']).next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn alerts_and_dashboard_name_what_there_is() {
    let there = names(&lines(&seen().await).await);
    let name = Regex::new(r"\b(?:tagwarden|process)_[a-z0-9_]+\b").unwrap();
    for (file, text) in [("alerts", ALERTS), ("dashboard", DASHBOARD)] {
        let named: BTreeSet<&str> = name.find_iter(text).map(|found| found.as_str()).collect();
        assert!(named.len() > 5, "{file}: {named:?}");
        let unknown: Vec<_> = named.iter().filter(|name| !there.contains(**name)).collect();
        assert!(unknown.is_empty(), "{file} names what there is not: {unknown:?}");
    }
}

#[tokio::test]
async fn every_metric_is_documented_and_no_other() {
    let name = Regex::new(r"(?m)^\| `((?:tagwarden|process)_[a-z0-9_]+)").unwrap();
    let documented: BTreeSet<String> = name.captures_iter(DOCUMENT).map(|found| found[1].to_owned()).collect();
    let there: BTreeSet<String> = names(&lines(&seen().await).await)
        .into_iter()
        .filter(|name| !name.ends_with("_bucket") && !name.ends_with("_sum"))
        .map(|name| name.strip_suffix("_count").map_or(name.clone(), str::to_owned))
        .collect();
    assert_eq!(documented, there);
}

#[test]
fn alerts_say_what_to_do() {
    let alerts: serde_json::Value = serde_saphyr::from_str(ALERTS).unwrap();
    let rules: Vec<_> =
        alerts["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
    assert!(rules.len() >= 8);
    for rule in rules {
        for key in ["alert", "expr"] {
            assert!(rule[key].is_string(), "{rule}");
        }
        for annotation in ["summary", "description"] {
            assert!(rule["annotations"][annotation].is_string(), "{rule}");
        }
        assert!(rule["labels"]["severity"].is_string(), "{rule}");
        // A counter appears with its first count, which `increase` alone does not see.
        let expression = rule["expr"].as_str().unwrap();
        let counts_first = expression.split("]) > 0").skip(1).all(|rest| rest.starts_with('.'));
        assert!(counts_first || expression.contains(" offset "), "{rule}");
    }
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    assert!(dashboard["panels"].as_array().unwrap().len() > 8);
}

/// Prometheus itself judges the alerts, by series that stand for what daemons do.
#[test]
fn alerts_fire_when_they_should() {
    let mut promtool = Command::new("promtool");
    promtool.args(["test", "rules", "tests/fixtures/alerts.yaml"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    let output =
        promtool.output().unwrap_or_else(|error| panic!("promtool did not start ({error}): `tests/run` installs it"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
