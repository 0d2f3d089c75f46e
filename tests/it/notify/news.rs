//! What of a run is worth telling.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use tagwarden::apply::Applied;
use tagwarden::config::{Mode, Occasion};
use tagwarden::domain::{Date, Digest, Outcome, Removal, RemovalMethod, Skip, TagAt, Undated};
use tagwarden::notify::RunNews;
use tagwarden::report::{PlanDocument, source_failed};
use tagwarden::run::{Ended, RunError, RunOutcome};
use tagwarden::store::{Circumstances, RunKind, StoreError, StoreErrorKind};

use super::commands::{desk, tagwarden};
use super::{noon, received, tell, told, with};

/// A plan, what came of its removals, how the run ended; and what of it is told, and whether it went through.
type Case<'a> = (&'a PlanDocument, Vec<Outcome>, RunOutcome, &'a [Occasion], bool);

fn applied(tag: &str, outcome: Outcome) -> Applied {
    let removal = Removal {
        at: TagAt { registry: 0, repository: 0, tag: 0 },
        registry: "main".parse().unwrap(),
        repository: "shop/api".parse().unwrap(),
        tag: tag.parse().unwrap(),
        digest: Digest::of(tag.as_bytes()),
        policy: "old".parse().unwrap(),
        method: RemovalMethod::Untag,
        enforce: true,
        date: Date::Unknown(Undated::Missing),
        companion_of: None,
    };
    Applied { removal: Arc::new(removal), outcome }
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
    document.attention = tagwarden::report::attention(document);
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
        (&good, vec![done(), done()], RunOutcome::Done, &[Occasion::Removed], true),
        (&good, vec![Outcome::Skipped(Skip::Gone)], RunOutcome::Done, &[], true),
        (&good, vec![done(), failed()], RunOutcome::Failed, &[Occasion::Removed, Occasion::Failed], true),
        (
            &good,
            vec![Outcome::Skipped(Skip::Stopped("it destroys".into()))],
            RunOutcome::Failed,
            &[Occasion::Failed],
            true,
        ),
        // What was not looked at may be as bad as before.
        (&good, vec![done()], RunOutcome::Interrupted, &[Occasion::Removed], false),
        (&missing, vec![failed()], RunOutcome::Failed, &[Occasion::Failed, Occasion::EvidenceMissing], true),
        // A source failed while it removed.
        (&good, vec![done()], RunOutcome::EvidenceMissing, &[Occasion::Removed, Occasion::EvidenceMissing], true),
    ];
    for (document, outcomes, outcome, expected, whole) in cases {
        let applied =
            outcomes.into_iter().enumerate().map(|(at, outcome)| applied(&format!("v{at}"), outcome)).collect();
        let run = "01935c1e-4b1c-7d6a-8a3b-5d1f0c2e9b77".parse().unwrap();
        let lost = Some(source_failed("aks", "source aks failed while the run removed: it did not answer"));
        let ended = Ended {
            run,
            document: document.clone(),
            applied,
            deleted: Vec::new(),
            aftermath: Vec::new(),
            by_registry: BTreeMap::new(),
            circumstances: Circumstances::default(),
            not_due: 0,
            interrupted_by: None,
            lost_evidence: lost.filter(|_| outcome == RunOutcome::EvidenceMissing).into_iter().collect(),
            forgotten: None,
            outcome,
        };
        let news = RunNews::of(RunKind::Run, Ok(&ended), Mode::Enforce, "anna@host", noon());
        assert_eq!(news.occasions.keys().copied().collect::<Vec<_>>(), expected, "{outcome:?}");
        assert_eq!((news.whole, news.exit_code), (whole, outcome.exit_code()));
        assert_eq!(
            news.problems.is_empty(),
            !expected.iter().any(|occasion| *occasion != Occasion::Removed),
            "{news:?}"
        );
    }
}

#[test]
fn what_kept_a_run_from_its_end_is_told_by_its_kind() {
    let of = |error: RunError| {
        let news = RunNews::of(RunKind::Run, Err(&error), Mode::Enforce, "anna@host", noon());
        assert!(!news.whole && news.counts.is_none() && news.problems.len() == 1, "{news:?}");
        assert_eq!(news.exit_code, error.exit_code());
        news.occasions.into_iter().next()
    };
    let store = |kind| {
        RunError::Store(StoreError { kind, message: format!("in use by process {}, since now", std::process::id()) })
    };
    assert_eq!(of(RunError::Interrupted), None);
    assert_eq!(of(RunError::Refused("x".into())), Some((Occasion::Refused, "refused".into())));
    // By its kind, not by words that are others each time.
    assert_eq!(of(store(StoreErrorKind::Leased)), Some((Occasion::Refused, "leased".into())));
    assert_eq!(of(store(StoreErrorKind::Full)), Some((Occasion::Failed, "full".into())));
}

/// An interrupted run has not seen that a problem is over.
#[tokio::test]
async fn what_was_interrupted_is_no_recovery() {
    let (server, url) = super::hook(wiremock::ResponseTemplate::new(200)).await;
    let folder = tempfile::tempdir().unwrap();
    let settings = [told("webhook", &url, "")];
    let failed = || with(&[(Occasion::Failed, "x")]);
    tell(&settings, folder.path(), noon(), failed()).await;
    let mut interrupted = with(&[]);
    interrupted.whole = false;
    tell(&settings, folder.path(), noon(), interrupted).await;
    tell(&settings, folder.path(), noon(), failed()).await;
    assert_eq!(received(&server).await.len(), 1);
    // Another kind of run says nothing of this one.
    let mut other = with(&[]);
    other.kind = RunKind::Apply;
    tell(&settings, folder.path(), noon(), other).await;
    assert_eq!(received(&server).await.len(), 1);
}
