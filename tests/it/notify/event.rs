//! What of a run is worth telling.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use tagwarden::apply::RemovalResult;
use tagwarden::config::{Mode, NotifyEvent};
use tagwarden::domain::{Date, Digest, Outcome, Removal, RemovalMethod, SkipReason, TagPosition, UndatedCause};
use tagwarden::notify::RunEvent;
use tagwarden::report::{PlanDocument, source_failed};
use tagwarden::state::{RunContext, RunKind, StateError, StateErrorKind};
use tagwarden::workflow::{Refused, RunError, RunOutcome, RunResult};

use super::commands::{desk, tagwarden};
use super::{noon, notify_run, received, receiver_settings, run_with_occasions};

/// A plan, what came of its removals, how the run ended; and what of it is told, and whether it went through.
type Case<'a> = (&'a PlanDocument, Vec<Outcome>, RunOutcome, &'a [NotifyEvent], bool);

fn applied(tag: &str, outcome: Outcome) -> RemovalResult {
    let removal = Removal {
        position: TagPosition { registry: 0, repository: 0, tag: 0 },
        registry: "main".parse().unwrap(),
        repository: "shop/api".parse().unwrap(),
        tag: tag.parse().unwrap(),
        digest: Digest::of(tag.as_bytes()),
        policy: "old".parse().unwrap(),
        policies: ["old".parse().unwrap()].into(),
        method: RemovalMethod::Untag,
        enforce: true,
        date: Date::Unknown(UndatedCause::Missing),
        companion_of: None,
    };
    RemovalResult { removal: Arc::new(removal), outcome }
}

fn failed_source(document: &mut PlanDocument) {
    let view =
        serde_json::json!({ "name": "aks", "kind": "kubernetes", "state": "failed", "error": "it did not answer" });
    let mut whole = serde_json::to_value(&*document).unwrap();
    let mut source = whole["sources"][0].clone();
    for (key, value) in view.as_object().unwrap() {
        source[key] = value.clone();
    }
    whole["sources"] = serde_json::json!([source]);
    *document = serde_json::from_value(whole).unwrap();
    document.attention = tagwarden::report::plan_attention(document);
}

/// A plan as the binary makes it, ended in different ways.
#[tokio::test]
async fn a_run_tells_what_came_of_it() {
    let (registry, folder) = desk("https://hooks.contoso.example/x").await;
    let settings = fs::read_to_string(folder.path().join("tagwarden.toml")).unwrap();
    let source = "[sources.aks]\nkind = \"image-references\"\npaths = [\"*.txt\"]\n";
    fs::write(folder.path().join("tagwarden.toml"), format!("{settings}{source}")).unwrap();
    let image = format!("{}/shop/api:candidate-2\n", registry.url().trim_start_matches("http://"));
    fs::write(folder.path().join("running.txt"), image).unwrap();
    let (code, out, err) = tagwarden(folder.path(), "plan --format json").await;
    assert_eq!(code, 0, "{err}");
    let good: PlanDocument = serde_json::from_str(&out).unwrap();
    let mut missing = good.clone();
    failed_source(&mut missing);
    let done = || Outcome::Done(String::new());
    let failed = || Outcome::Failed("the registry said no".to_owned());
    let cases: [Case; 8] = [
        (&good, vec![], RunOutcome::Done, &[], true),
        (&good, vec![done(), done()], RunOutcome::Done, &[NotifyEvent::Removed], true),
        (&good, vec![Outcome::Skipped(SkipReason::Missing)], RunOutcome::Done, &[], true),
        (&good, vec![done(), failed()], RunOutcome::Failed, &[NotifyEvent::Removed, NotifyEvent::Failed], true),
        (
            &good,
            vec![Outcome::Skipped(SkipReason::Stopped("it destroys".into()))],
            RunOutcome::Failed,
            &[NotifyEvent::Failed],
            true,
        ),
        // What was not looked at may be as bad as before.
        (&good, vec![done()], RunOutcome::Interrupted, &[NotifyEvent::Removed], false),
        (&missing, vec![failed()], RunOutcome::Failed, &[NotifyEvent::Failed, NotifyEvent::EvidenceMissing], true),
        // A source failed while it removed.
        (&good, vec![done()], RunOutcome::EvidenceMissing, &[NotifyEvent::Removed, NotifyEvent::EvidenceMissing], true),
    ];
    for (document, outcomes, outcome, expected, whole) in cases {
        let applied =
            outcomes.into_iter().enumerate().map(|(at, outcome)| applied(&format!("v{at}"), outcome)).collect();
        let run = "01935c1e-4b1c-7d6a-8a3b-5d1f0c2e9b77".parse().unwrap();
        let lost = Some(source_failed("aks", "source aks failed while the run removed: it did not answer"));
        let ended = RunResult {
            run,
            document: document.clone(),
            applied,
            deleted: Vec::new(),
            storage_changes: Vec::new(),
            by_registry: BTreeMap::new(),
            context: RunContext::default(),
            pending_schedule: 0,
            interrupted_by: None,
            missing_manifests: 0,
            failed_sources: lost.filter(|_| outcome == RunOutcome::EvidenceMissing).into_iter().collect(),
            forgotten: None,
            outcome,
        };
        let news = RunEvent::new(RunKind::Run, Ok(&ended), Mode::Enforce, "anna@host", noon());
        assert_eq!(news.occasions.keys().copied().collect::<Vec<_>>(), expected, "{outcome:?}");
        assert_eq!((news.is_complete, news.exit_code), (whole, outcome.exit_code()));
        assert_eq!(
            news.problems.is_empty(),
            !expected.iter().any(|occasion| *occasion != NotifyEvent::Removed),
            "{news:?}"
        );
    }
}

#[test]
fn what_kept_a_run_from_its_end_is_told_by_its_kind() {
    let of = |error: RunError| {
        let news = RunEvent::new(RunKind::Run, Err(&error), Mode::Enforce, "anna@host", noon());
        assert!(!news.is_complete && news.counts.is_none() && news.problems.len() == 1, "{news:?}");
        assert_eq!(news.exit_code, error.exit_code());
        news.occasions.into_iter().next()
    };
    let store =
        |kind| RunError::Store(StateError::new(kind, format!("in use by process {}, since now", std::process::id())));
    assert_eq!(of(RunError::Interrupted), None);
    assert_eq!(of(RunError::Refused(Refused::PlanOfDryRun)), Some((NotifyEvent::Refused, "refused".into())));
    // By its kind, not by words that are others each time.
    assert_eq!(of(store(StateErrorKind::Leased)), Some((NotifyEvent::Refused, "leased".into())));
    assert_eq!(of(store(StateErrorKind::LeaseLost)), Some((NotifyEvent::Refused, "lease-lost".into())));
    assert_eq!(of(store(StateErrorKind::Full)), Some((NotifyEvent::Failed, "full".into())));
}

/// An interrupted run has not seen that a problem is over.
#[tokio::test]
async fn what_was_interrupted_is_no_recovery() {
    let (server, url) = super::hook(wiremock::ResponseTemplate::new(200)).await;
    let folder = tempfile::tempdir().unwrap();
    let settings = [receiver_settings("webhook", &url, "")];
    let failed = || run_with_occasions(&[(NotifyEvent::Failed, "x")]);
    notify_run(&settings, folder.path(), noon(), failed()).await;
    let mut interrupted = run_with_occasions(&[]);
    interrupted.is_complete = false;
    notify_run(&settings, folder.path(), noon(), interrupted).await;
    notify_run(&settings, folder.path(), noon(), failed()).await;
    assert_eq!(received(&server).await.len(), 1);
    // Another kind of run says nothing of this one.
    let mut other = run_with_occasions(&[]);
    other.kind = RunKind::Apply;
    notify_run(&settings, folder.path(), noon(), other).await;
    assert_eq!(received(&server).await.len(), 1);
}
