//! A site with a record to look at, served on loopback.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;

use jiff::{Timestamp, ToSpan as _};
use tagwarden::apply::{DeletionResult, RemovalResult};
use tagwarden::config::{self, Settings};
use tagwarden::domain::{
    Action, Date, Deletion, Digest, Intent, Outcome, Removal, RemovalMethod, SkipReason, TagPosition, UndatedCause,
};
use tagwarden::registry::{RawManifest, RequestCounts};
use tagwarden::report::{
    DeletionsView, GapView, KeptView, LimitsView, PlanDocument, PolicyView, ReasonView, RefusalView, RegistryCounts,
    RegistryView, RemovalView, RunSummary, SCHEMA, SourceView, SummaryView, UndecidedView, assign_plan_id, fingerprint,
    plan_attention,
};
use tagwarden::state::{NewRun, RunEnd, RunKind, StateStore};
use tagwarden::web::{Activity, DaemonStatus, NextRun, PolicyState, StatusSnapshot, WebContext, serve};
use tagwarden::workflow::{RunOutcome, RunResult, StorageChange};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use uuid::Uuid;

use crate::support::lease::lease;

/// What registries and clusters may hold to hurt whoever looks.
pub(super) const HOSTILE: &str = "</td><script>alert(1)</script>\"' onload='x";

pub(super) const LEAST: &str =
    "[registries.contoso]\nkind = \"distribution\"\nendpoint = \"https://contoso.example\"\n";

pub(super) fn noon() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

pub(super) fn run_id(number: u128) -> Uuid {
    Uuid::from_u128(0x0193_0000_0000_7000_8000_0000_0000_0000 | number)
}

pub(super) fn settings(folder: &std::path::Path, text: &str) -> Settings {
    let file = folder.join("tagwarden.toml");
    fs::write(folder.join("token"), "a-token-of-the-tests\n").unwrap();
    fs::write(&file, text).unwrap();
    config::load(&file, []).unwrap()
}

pub(super) fn status() -> StatusSnapshot {
    StatusSnapshot {
        role: tagwarden::web::Role::Single,
        outdated: None,
        started_at: noon(),
        ready: true,
        activity: Activity::Idle,
        next: vec![NextRun { at: noon() + 15.hours(), description: "all policies".into(), blocked_by: None }],
        last_scheduled_time: None,
        blocked_by: None,
        write_error: None,
        approved_plans: Vec::new(),
        policies: PolicyState {
            revision: "sha256:0123456789abcdef0123".into(),
            commit: Some("cafe".into()),
            loaded_at: noon(),
            count: 3,
            problem: None,
        },
    }
}

/// A site that is served until it is dropped.
pub(super) struct WebFixture {
    pub(super) context: WebContext,
    pub(super) address: SocketAddr,
    /// Takes other settings up.
    pub(super) reload: watch::Sender<Arc<Settings>>,
    pub(super) folder: tempfile::TempDir,
    _stop: watch::Sender<bool>,
}

/// An answer, as it came.
#[derive(Debug)]
pub(super) struct HttpResponse {
    pub(super) status: u16,
    pub(super) headers: String,
    pub(super) body: String,
}

impl HttpResponse {
    pub(super) fn header(&self, name: &str) -> &str {
        let found = self.headers.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        });
        found.unwrap_or_default()
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

impl WebFixture {
    pub(super) async fn new() -> Self {
        Self::with(LEAST).await
    }

    pub(super) async fn with(text: &str) -> Self {
        Self::with_record(text, async |_| {}).await
    }

    /// One whose record is there before it is served.
    pub(super) async fn with_record(text: &str, fill: impl AsyncFnOnce(&StateStore)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = Arc::new(settings(folder.path(), text));
        let store = StateStore::open(&folder.path().join("tagwarden.db")).await.unwrap();
        fill(&store).await;
        let (reload, settings) = watch::channel(settings);
        let site = WebContext { status: Arc::new(DaemonStatus::new(status())), store, settings, clock: Arc::new(noon) };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(serve(listener, site.clone(), stopped));
        Self { context: site, address, reload, folder, _stop: stop }
    }

    pub(super) async fn get(&self, path: &str) -> HttpResponse {
        self.request("GET", path, &[("Host", "localhost")]).await
    }

    pub(super) async fn request(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> HttpResponse {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let headers: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        stream.write_all(format!("{method} {path} HTTP/1.0\r\n{}\r\n", headers.concat()).as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).expect("nobody asked for it packed");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let (first, headers) = head.split_once("\r\n").unwrap();
        let status = first.split(' ').nth(1).unwrap().parse().unwrap();
        HttpResponse { status, headers: headers.to_owned(), body: body.to_owned() }
    }
}

pub(super) fn new_run(number: u128, kind: RunKind, started_at: Timestamp) -> NewRun {
    NewRun {
        id: run_id(number),
        kind,
        mode: "enforce".into(),
        started_at,
        started_by: "alice@build-7".into(),
        version: "0.1.0".into(),
        approved_by: None,
        ticket: None,
    }
}

fn digest(number: usize) -> String {
    Digest::of(&number.to_le_bytes()).to_string()
}

/// A plan of that many tags, one in ten of which goes, in repositories of a thousand.
#[expect(clippy::too_many_lines, reason = "a whole document, key by key")]
pub(super) fn plan(tags: usize) -> PlanDocument {
    let repository = |number: usize| format!("shop/part-{:03}", number / 1000);
    let dated = |number: usize| Some(noon() - i64::try_from(number % 900).unwrap().hours());
    let claimed = |number: usize| ReasonView::Claimed {
        source: "aks-prod".into(),
        by: "digest".into(),
        reference: format!("contoso.example/{}@{}", repository(number), digest(number)),
        digest: None,
        holder: Box::new(tagwarden::report::HolderView::Workload {
            place: "aks-prod".into(),
            namespace: "shop".into(),
            workload: "Deployment".into(),
            name: format!("api-{number}"),
            container: HOSTILE.into(),
        }),
    };
    let removals = (0..tags).filter(|number| number % 10 == 3).map(|number| RemovalView {
        registry: "contoso".into(),
        repository: repository(number),
        tag: format!("candidate-{number:06}"),
        digest: digest(number),
        policy: "candidate-builds".into(),
        enforce: number % 20 == 3,
        method: "untag".into(),
        companion_of: None,
        pushed_at: dated(number),
        dated_at: dated(number),
        dated_by: "pushed".into(),
        age_seconds: Some(i64::try_from(number % 900).unwrap() * 3600),
        reclaimable_bytes: (number % 100 != 13).then_some(1 << 20),
        shared_bytes: (number % 100 != 13).then_some(1 << 10),
        refused_by_registry: None,
        verify: vec![format!("skopeo inspect docker://contoso.example/{}", repository(number))],
        reasons: vec![ReasonView::NotKept { policy: "candidate-builds".into(), shortfalls: Vec::new() }],
    });
    let kept = (0..tags).filter(|number| number % 10 != 3).map(|number| KeptView {
        registry: "contoso".into(),
        repository: repository(number),
        tag: format!("release-{number:06}"),
        digest: Some(digest(number)),
        verdict: ["retained", "protected", "out-of-scope"][number % 3].into(),
        dated_at: dated(number),
        dated_by: "pushed".into(),
        reasons: match number % 3 {
            0 => vec![ReasonView::KeptAll { policy: "releases-stay".into() }],
            1 => vec![claimed(number), ReasonView::KeptAll { policy: "releases-stay".into() }],
            _ => vec![ReasonView::NotSelected {}],
        },
    });
    let removals: Vec<RemovalView> = removals.collect();
    let kept: Vec<KeptView> = kept.collect();
    let count = |verdict: &str| kept.iter().filter(|kept| kept.verdict == verdict).count() as u64;
    let summary = SummaryView {
        tags: tags as u64,
        expired: removals.len() as u64,
        retained: count("retained"),
        protected: count("protected"),
        undecided: 0,
        out_of_scope: count("out-of-scope"),
        reclaimable_bytes: removals.iter().filter_map(|removal| removal.reclaimable_bytes).sum(),
        shared_bytes: removals.iter().filter_map(|removal| removal.shared_bytes).sum(),
        unknown_bytes_removals: removals.iter().filter(|removal| removal.reclaimable_bytes.is_none()).count() as u64,
        bytes: "exact".into(),
    };
    let mut document = PlanDocument {
        schema: SCHEMA.into(),
        id: String::new(),
        fingerprint: String::new(),
        attention: Vec::new(),
        created_at: noon(),
        expires_at: noon() + 24.hours(),
        mode: "enforce".into(),
        evaluated_at: noon(),
        hypothetical: false,
        narrowed: None,
        blocked_by: None,
        accepted: Vec::new(),
        settings: "sha256:1".into(),
        limits: LimitsView { untag: 1000, percent: 50, leave: 1, delete: 1000 },
        registries: vec![registry(tags as u64)],
        sources: sources(),
        policies: vec![policy(removals.len() as u64)],
        unmatched: Vec::new(),
        idle: Vec::new(),
        removals: removals.into(),
        kept: kept.into(),
        is_applied: false,
        written_to: None,
        drift: Vec::new(),
        findings: Vec::new(),
        storage: Vec::new(),
        deletions: DeletionsView::default(),
        holds: Vec::new(),
        refusals: vec![RefusalView {
            kind: "percent-limit".into(),
            policy: None,
            registry: Some("contoso".into()),
            repository: Some("shop/part-000".into()),
            binding: true,
            message: format!("contoso/shop/part-000: 60 of 100 tags would be removed {HOSTILE}"),
        }],
        summary,
    };
    document.attention = plan_attention(&document);
    document.fingerprint = fingerprint(&document);
    assign_plan_id(&mut document);
    document
}

fn registry(tags: u64) -> RegistryView {
    RegistryView {
        name: "contoso".into(),
        kind: "distribution".into(),
        endpoint: "https://contoso.example".into(),
        identity: "anonymous".into(),
        removal: "untag".into(),
        obstacle: None,
        obstacles: Vec::new(),
        ability: None,
        notes: Vec::new(),
        info: None,
        accepted: Vec::new(),
        clock_ahead_seconds: None,
        clock: None,
        undo_seconds: None,
        repositories: 1,
        tags,
        indexes_read: None,
        gaps: vec![GapView {
            repository: Some("shop/torn".into()),
            at: HOSTILE.into(),
            kind: "connection".into(),
            message: "it was cut".into(),
            has_help: false,
        }],
        invalid_names: Vec::new(),
    }
}

fn sources() -> Vec<SourceView> {
    vec![
        SourceView {
            name: "aks-prod".into(),
            kind: "kubernetes".into(),
            state: "answered".into(),
            claims: 120,
            mentions: Some(4),
            unresolved: Some(1),
            protects: 37,
            undecided: Some(UndecidedView {
                tags: 3,
                repositories: 1,
                text: HOSTILE.into(),
                place: "aks-prod: shop/WorkflowTemplate/deploy".into(),
            }),
            as_of: Some(noon() - 5.minutes()),
            error: None,
            notes: vec!["one namespace is empty".into()],
        },
        SourceView {
            name: "releases".into(),
            kind: "release-records".into(),
            state: "failed".into(),
            claims: 0,
            mentions: None,
            unresolved: None,
            protects: 0,
            undecided: None,
            as_of: None,
            error: Some(HOSTILE.into()),
            notes: Vec::new(),
        },
    ]
}

/// A run with that plan, as it ended.
pub(super) fn run_result(number: u128, document: PlanDocument) -> RunResult {
    let removal = |tag: &str| {
        Arc::new(Removal {
            position: TagPosition { registry: 0, repository: 0, tag: 0 },
            registry: "contoso".parse().unwrap(),
            repository: "shop/part-000".parse().unwrap(),
            tag: tag.parse().unwrap(),
            digest: Digest::of(b"x"),
            policy: "candidate-builds".parse().unwrap(),
            policies: ["candidate-builds".parse().unwrap()].into(),
            method: RemovalMethod::Untag,
            enforce: true,
            date: Date::Unknown(UndatedCause::Missing),
            companion_of: None,
        })
    };
    let applied = vec![
        RemovalResult { removal: removal("candidate-000003"), outcome: Outcome::Done(String::new()) },
        RemovalResult { removal: removal("candidate-000013"), outcome: Outcome::Skipped(SkipReason::Missing) },
        RemovalResult { removal: removal("candidate-000023"), outcome: Outcome::Failed("refused".into()) },
    ];
    let found = document.summary.clone();
    let requests = RequestCounts { total: 12, retries: 2, throttled: 1, statuses: [1, 8, 0, 2, 1] };
    let counts = RegistryCounts { summary: found, reported_only: 1, requests };
    RunResult {
        run: run_id(number),
        document,
        applied,
        deleted: vec![deleted()],
        storage_changes: vec![StorageChange {
            registry: "contoso".parse().unwrap(),
            undo_seconds: Some(7),
            stored_before: Some(5 << 30),
            stored_after: Some(4 << 30),
        }],
        by_registry: BTreeMap::from([("contoso".to_owned(), counts)]),
        context: tagwarden::state::RunContext::default(),
        pending_schedule: 0,
        interrupted_by: None,
        missing_manifests: 0,
        failed_sources: Vec::new(),
        forgotten: None,
        outcome: RunOutcome::Done,
    }
}

/// What the record says of such a run.
pub(super) fn summary_of(ended: &RunResult) -> String {
    let document = &ended.document;
    let summary = RunSummary {
        plan: Some(document.summary.clone()),
        attention: Some(document.attention.clone()),
        hypothetical: document.hypothetical,
        by_registry: ended.by_registry.clone(),
        sources: document.sources.clone(),
        refusals: document.refusals.clone(),
        gaps: 1,
        removed: Some(1),
        skipped: Some(1),
        failed: Some(1),
        storage: ended.storage_changes.iter().map(StorageChange::summary_entry).collect(),
        ..RunSummary::default()
    };
    summary.to_json()
}

/// Puts a run on record that ended with that plan and removed some.
pub(super) async fn record(store: &StateStore, number: u128, document: PlanDocument, started_at: Timestamp) {
    let ended = run_result(number, document);
    store.begin_run(&new_run(number, RunKind::Run, started_at)).await.unwrap();
    let head = tagwarden::report::plan_head(&ended.document).unwrap();
    let mut chunks = tagwarden::report::plan_chunks(&ended.document);
    store.save_plan(ended.run, &ended.document.id, &head, &mut chunks).await.unwrap();
    let bytes: Arc<[u8]> = b"{}".as_slice().into();
    let manifest = RawManifest { digest: Digest::of(&bytes), media_type: "application/json".into(), bytes };
    let lease = lease(store).await;
    for applied in &ended.applied {
        let intent = Intent {
            action: Action::Remove(RemovalMethod::Untag),
            registry: applied.removal.registry.clone(),
            repository: applied.removal.repository.clone(),
            tag: applied.removal.tag.clone(),
            digest: manifest.digest.clone(),
            media_type: Arc::clone(&manifest.media_type),
            policy: Some("candidate-builds".into()),
            evidence: "[]".into(),
            endpoint: None,
            date: None,
        };
        let journaled = store.intend(&lease, ended.run, &intent, &manifest, started_at).await.unwrap();
        store.record_outcome(journaled.id(), &applied.outcome, started_at).await.unwrap();
    }
    let end = RunEnd {
        ended_at: started_at + 90.seconds(),
        outcome: "done".into(),
        exit_code: 0,
        summary: summary_of(&ended),
        error: None,
    };
    store.finish_run(ended.run, &end).await.unwrap();
}

/// A hold for a day.
pub(super) fn hold(reason: &str) -> tagwarden::domain::Hold {
    tagwarden::domain::Hold {
        registry: "contoso".parse().unwrap(),
        endpoint: "https://contoso.example".into(),
        repository: "shop/api".parse().unwrap(),
        tag: "candidate-41".parse().unwrap(),
        digest: None,
        reason: reason.to_owned(),
        by: "ada@here".into(),
        since: noon(),
        until: noon() + 24.hours(),
        origin: tagwarden::domain::HoldOrigin::Person,
    }
}

fn policy(expired: u64) -> PolicyView {
    PolicyView {
        name: "candidate-builds".into(),
        mode: "enforce".into(),
        owner: None,
        description: Some("Candidate builds expire two weeks after their last push.".into()),
        file: "policies/shop.yaml".into(),
        revision: "sha256:2".into(),
        selected: Some(expired),
        expired,
    }
}

/// A manifest, untagged before, that was deleted.
fn deleted() -> DeletionResult {
    let digest = Digest::of(b"untagged");
    let deletion = Deletion {
        registry: "contoso".parse().unwrap(),
        repository: "shop/api".parse().unwrap(),
        digest: digest.clone(),
        tag: "candidate-000001".parse().unwrap(),
        untagged_at: Timestamp::UNIX_EPOCH,
        free_since: None,
        eligible_at: Timestamp::UNIX_EPOCH,
        policies: vec!["candidates".parse().unwrap()],
        enforce: true,
        dependents: Vec::new(),
        reclaim: None,
        retain_reasons: Vec::new(),
    };
    DeletionResult { deletion: deletion.into(), digest, role: None, outcome: Outcome::Done(String::new()) }
}
