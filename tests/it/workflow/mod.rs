//! The whole walk against registries that misbehave, and what is left of it on disk and in the registry.
//!
//! Every step opens the house anew, as a process does. After each, [`Walk::audit`] holds registry and journal against each
//! other: what is missing was planned, at that digest, and is journaled; what is journaled as done is missing.

mod acr_pulls;
mod apply;

mod admission;
pub(crate) mod azure;
mod catalogues;
mod clocks;
mod crash;
mod delete_tagged;
mod dry_run;
mod evidence;
mod first_removal;
mod holds;
mod image_ids;
mod lost_responses;
mod manifest_cleanup;
mod progress;
mod random_faults;
mod read_faults;
mod refused_tags;
mod removal_faults;
mod restore;
mod restore_order;
mod restore_preview;
mod selectors;
mod takeover;
mod unfinished_plan;
mod untagged;
mod workloads;
mod write_ahead_log;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{Timestamp, ToSpan};
use tagwarden::apply::{RemovalRetryPolicy, Sleep};
use tagwarden::demo::blob::Blob;
use tagwarden::demo::image::{Image, ImageSpec};
use tagwarden::demo::registry::{EmbeddedRegistry, Options};
use tagwarden::domain::{Action, Digest, Outcome, chain};
use tagwarden::registry::RetryPolicy;
use tagwarden::report::{self, Format, PlanDocument};
use tagwarden::state::{JournalEntry, RunKind};
use tagwarden::workflow::{self, App, Approval, RestoreRunResult, RunError, RunResult};
use tempfile::TempDir;
use tokio::sync::watch;

/// Short enough that a fault for good is over at once.
const PATIENCE: RetryPolicy = RetryPolicy {
    max_retries: 2,
    initial_delay: Duration::from_millis(1),
    max_delay: Duration::from_millis(5),
    max_total_delay: Duration::from_secs(3),
};

const POLICIES: &str = r#"policies:
  - name: candidates
    select: { tags: ["candidate-*"] }
    keep: [{ newest: 2 }]
    mode: enforce
  - name: releases
    select: { tags: ["release-*"] }
    keep: all
"#;

/// The candidates that [`POLICIES`] expires, of those that [`Walk::fill`] makes.
pub(crate) const EXPIRED_TAGS: [&str; 4] = ["candidate-1", "candidate-2", "candidate-3", "candidate-4"];

pub(crate) type Tags = BTreeMap<(String, String), Digest>;

/// A registry, a folder with settings, and the time.
pub(crate) struct WorkflowFixture {
    pub(crate) registry: EmbeddedRegistry,
    folder: TempDir,
    /// Its kind in the settings, with how to sign in.
    kind: &'static str,
    pub(crate) now: Arc<Mutex<Timestamp>>,
    /// The pauses that removals made; none of them takes any time.
    pub(crate) pauses: Arc<Mutex<Vec<Duration>>>,
    stop: Arc<watch::Sender<bool>>,
    /// What the registry held before anything was removed.
    before: Mutex<Tags>,
}

/// How a step ended: its exit code, what came of each tag, and the words of it.
#[derive(Debug)]
pub(crate) struct StepResult {
    pub(crate) code: u8,
    /// `repository:tag` and the label of its outcome, with the skip's own label where it was skipped.
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) text: String,
    pub(crate) result: Option<RunResult>,
}

pub(crate) fn noon() -> Timestamp {
    "2026-11-20T12:00:00Z".parse().unwrap()
}

/// An image of its own, created so many days before [`noon`].
pub(crate) fn image(name: &str, days_old: i64) -> Image {
    ImageSpec::new(noon() - (days_old * 24).hours(), &[Blob::layer("base", 4000), Blob::layer(name, 300)]).build()
}

impl WorkflowFixture {
    /// A registry with [`GOING`] and what stays, in mode `approved`.
    pub(crate) async fn new() -> Self {
        Self::with(Options::default(), "").await
    }

    /// The same with those options, and with further lines in the registry's settings.
    pub(crate) async fn with(options: Options, registry_lines: &str) -> Self {
        let registry = EmbeddedRegistry::start(options).await.unwrap();
        let walk = Self::at(registry, "kind = \"distribution\"", Arc::new(Mutex::new(noon())));
        walk.settings("approved", registry_lines, "");
        walk.policies(POLICIES);
        walk.fill();
        walk
    }

    pub(crate) fn at(registry: EmbeddedRegistry, kind: &'static str, now: Arc<Mutex<Timestamp>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::clone(&now);
        registry.set_clock(Arc::new(move || *clock.lock().unwrap()));
        let stop = Arc::new(watch::Sender::new(false));
        Self { registry, folder, kind, now, pauses: Arc::default(), stop, before: Mutex::default() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn settings(&self, mode: &str, registry_lines: &str, rest: &str) {
        let endpoint = self.registry.url();
        let text = format!(
            "mode = \"{mode}\"\npolicies = \"policies.yaml\"\nstate = \"sqlite:tagwarden.db\"\n[limits]\npercent = 100\n\
             [registries.main]\n{}\nendpoint = \"{endpoint}\"\n{registry_lines}\n{rest}\n",
            self.kind
        );
        fs::write(self.path("tagwarden.toml"), text).unwrap();
    }

    pub(crate) fn policies(&self, text: &str) {
        fs::write(self.path("policies.yaml"), text).unwrap();
    }

    pub(crate) fn fill(&self) {
        for number in 1..=6 {
            self.put("shop/api", &format!("candidate-{number}"), &image(&format!("candidate-{number}"), 100 - number));
        }
        self.put("shop/api", "release-1", &image("release-1", 50));
    }

    pub(crate) fn put(&self, repository: &str, tag: &str, image: &Image) {
        self.registry.put_image(repository, tag, image);
        self.snapshot_tags();
    }

    /// From here on, what is held now is what must not be lost.
    pub(crate) fn snapshot_tags(&self) {
        *self.before.lock().unwrap() = self.tags();
    }

    pub(crate) fn tags(&self) -> Tags {
        self.registry.content(|content| {
            let mut found = Tags::new();
            for repository in content.repositories() {
                for (tag, digest) in content.tags(repository) {
                    found.insert((repository.to_owned(), tag), digest);
                }
            }
            found
        })
    }

    /// The tags of [`GOING`] that the registry still has.
    pub(crate) fn remaining_tags(&self) -> Vec<&'static str> {
        let tags = self.registry.tags("shop/api");
        EXPIRED_TAGS.into_iter().filter(|tag| tags.contains_key(*tag)).collect()
    }

    pub(crate) fn digest(&self, repository: &str, tag: &str) -> Digest {
        self.before.lock().unwrap()[&(repository.to_owned(), tag.to_owned())].clone()
    }

    pub(crate) fn now(&self) -> Timestamp {
        *self.now.lock().unwrap()
    }

    pub(crate) fn advance_clock(&self, hours: i64) {
        let mut now = self.now.lock().unwrap();
        *now += hours.hours();
    }

    pub(crate) async fn open(&self) -> Result<App, RunError> {
        let loaded = workflow::load(&self.path("tagwarden.toml"), std::iter::empty())?;
        let now = Arc::clone(&self.now);
        let clock: tagwarden::apply::Clock = Arc::new(move || *now.lock().unwrap());
        let app = App::open_with(loaded, "tester@here".into(), clock, self.stop.subscribe(), PATIENCE).await?;
        let pauses = Arc::clone(&self.pauses);
        let sleep: Sleep = Arc::new(move |time| {
            pauses.lock().unwrap().push(time);
            Box::pin(tokio::task::yield_now())
        });
        Ok(app.with_removal_retry_policy(RemovalRetryPolicy { sleep, ..RetryPolicy::default().into() }))
    }

    pub(crate) async fn try_plan(&self) -> Result<RunResult, RunError> {
        let app = self.open().await?;
        let ended = app.plan(None, &()).await;
        app.close().await;
        ended
    }

    pub(crate) async fn plan(&self) -> PlanDocument {
        self.try_plan().await.unwrap().document
    }

    pub(crate) async fn apply(&self, plan: &PlanDocument) -> StepResult {
        let came = self.apply_text(&report::render(plan, Format::Json)).await;
        self.audit(Some(plan)).await;
        came
    }

    pub(crate) async fn apply_text(&self, plan: &str) -> StepResult {
        let app = self.open().await.unwrap();
        let ended = app.apply(plan, &Approval::default(), &()).await;
        app.close().await;
        StepResult::from_result(ended)
    }

    pub(crate) async fn run(&self) -> StepResult {
        let app = self.open().await.unwrap();
        let ended = app.run(&()).await;
        app.close().await;
        let came = StepResult::from_result(ended);
        self.audit(came.result.as_ref().map(|ended| &ended.document)).await;
        came
    }

    pub(crate) async fn restore(&self, run: &str) -> Result<RestoreRunResult, RunError> {
        let app = self.open().await?;
        let ended = app.restore_run(run).await;
        app.close().await;
        ended
    }

    pub(crate) async fn journal(&self) -> Vec<JournalEntry> {
        let app = self.open().await.unwrap();
        let mut entries = Vec::new();
        for record in app.store.runs(10_000).await.unwrap() {
            entries.extend(app.store.journal(record.run.id).await.unwrap());
        }
        app.close().await;
        entries.sort_by_key(|entry| entry.id);
        entries
    }

    /// The last run's kind, label and exit code as recorded.
    pub(crate) async fn last_run(&self) -> (RunKind, String, u8) {
        let app = self.open().await.unwrap();
        let runs = app.store.runs(100).await.unwrap();
        let record = runs.into_iter().max_by_key(|record| record.run.id).unwrap();
        app.close().await;
        let end = record.end.unwrap();
        (record.run.kind, end.outcome, end.exit_code)
    }

    /// Holds the registry against the journal and the plan.
    pub(crate) async fn audit(&self, plan: Option<&PlanDocument>) {
        let (before, now) = (self.before.lock().unwrap().clone(), self.tags());
        audit(&before, &now, &self.journal().await, plan);
    }
}

/// Whether the journal accounts for everything that is missing, and for nothing else.
fn audit(before: &Tags, now: &Tags, journal: &[JournalEntry], plan: Option<&PlanDocument>) {
    let mut gone: Tags = BTreeMap::new();
    for entry in journal {
        let intent = &entry.intent;
        let place = (intent.repository.to_string(), intent.tag.to_string());
        let Some((Outcome::Done(_), _)) = &entry.outcome else { continue };
        if matches!(intent.action, Action::DeleteUntagged | Action::RestoreManifest) {
            continue;
        }
        if intent.action == Action::Restore {
            gone.remove(&place);
            continue;
        }
        // What went along with a manifest was not planned, and is put back or comes back by a restore.
        if intent.policy.is_none() {
            continue;
        }
        let twice = gone.insert(place.clone(), intent.digest.clone());
        assert!(twice.is_none(), "removed twice: {place:?}");
        assert_eq!(before.get(&place), Some(&intent.digest), "removed at another digest: {place:?}");
        let planned = plan.is_none_or(|plan| {
            let digest = intent.digest.to_string();
            let same =
                |(repository, tag, at): (&str, &str, &str)| (repository, tag, at) == (&*place.0, &*place.1, &*digest);
            plan.removals.iter().any(|view| same((&view.repository, &view.tag, &view.digest)))
        });
        assert!(planned, "removed, and the plan does not list it: {place:?}");
    }
    let missing: Tags =
        before.iter().filter(|(place, _)| !now.contains_key(*place)).map(|(p, d)| (p.clone(), d.clone())).collect();
    assert_eq!(missing, gone, "left: what is missing; right: what is journaled as removed");
}

impl StepResult {
    pub(crate) fn from_result(ended: Result<RunResult, RunError>) -> Self {
        match ended {
            Ok(ended) => {
                let mut tags = BTreeMap::new();
                let mut text = String::new();
                for applied in &ended.applied {
                    let name = format!("{}:{}", applied.removal.repository, applied.removal.tag);
                    let (label, words) = match &applied.outcome {
                        Outcome::Skipped(skip) => (skip.label(), skip.to_string()),
                        Outcome::Done(words) | Outcome::Failed(words) => (applied.outcome.label(), words.clone()),
                    };
                    writeln!(text, "{name} {label}: {words}").unwrap();
                    assert!(tags.insert(name, label.to_owned()).is_none(), "one outcome for each tag");
                }
                for gap in ended.document.registries.iter().flat_map(|registry| &registry.gaps) {
                    writeln!(text, "gap {}: {}", gap.at, gap.message).unwrap();
                }
                for refusal in &ended.document.refusals {
                    writeln!(text, "refusal {}: {}", refusal.kind, refusal.message).unwrap();
                }
                Self { code: ended.outcome.exit_code(), tags, text, result: Some(ended) }
            }
            Err(error) => Self { code: error.exit_code(), tags: BTreeMap::new(), text: chain(&error), result: None },
        }
    }

    /// The labels of [`GOING`], in order.
    pub(crate) fn labels(&self) -> Vec<&str> {
        EXPIRED_TAGS.iter().map(|tag| self.tags.get(&format!("shop/api:{tag}")).map_or("-", String::as_str)).collect()
    }

    pub(crate) fn run_id(&self) -> String {
        self.result.as_ref().unwrap().run.to_string()
    }
}

/// The plan as a file for the real binary.
fn write_plan(folder: &Path, plan: &PlanDocument) -> PathBuf {
    let path = folder.join("plan.json");
    fs::write(&path, report::render(plan, Format::Json)).unwrap();
    path
}
