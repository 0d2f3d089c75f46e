//! Rates on a registry that sets none: journaled removals per second of an enforcing run, tags per second of a restore, and
//! the time that the journal alone takes for the removals.
//!
//! The registry is the embedded one, over HTTP on loopback and in the same process, so its own work counts as well. The
//! state lies in the folder for temporary files; `TMPDIR` moves it to another disk. `cargo bench --bench apply`.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{TryStreamExt as _, stream};
use jiff::Timestamp;
use tagwarden::apply::{
    ApplyContext, JournalEvidence, RegistryHandle, RemovalTask, RestoreHold, RetryRefused, apply, restore,
};
use tagwarden::demo::blob::Blob;
use tagwarden::demo::image::ImageSpec;
use tagwarden::demo::registry::{EmbeddedRegistry, Options};
use tagwarden::domain::{Action, Date, Intent, Inventory, Outcome, Removal, RemovalMethod, TagPosition};
use tagwarden::registry::providers::Distribution;
use tagwarden::registry::{
    CollectScope, ContentCache as _, ExtraManifests, RegistrySettings, RetryPolicy, collect, connect,
};
use tagwarden::state::{LeaseScope, LeaseToken, NewRun, RunKind, StateStore};
use uuid::Uuid;

const REMOVALS: usize = 20_000;
const PROOF: &str = r#"[{"kind":"not-kept","policy":"all-go","shortfalls":[{"rule":"newest","rank":12,"count":5}]}]"#;

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    println!(
        "{:>12} {:>12} {:>10} {:>10} {:>10} {:>16} {:>22}",
        "repositories",
        "concurrency",
        "removals",
        "removals/s",
        "restores/s",
        "restore/removal",
        "journal alone, pairs/s"
    );
    for (repositories, concurrency) in [(1, 8), (400, 8), (400, 32)] {
        runtime.block_on(measure(repositories, concurrency))?;
    }
    Ok(())
}

async fn measure(repositories: usize, concurrency: usize) -> Result<(), Box<dyn Error>> {
    let registry = EmbeddedRegistry::start(Options::default()).await?;
    fill(&registry, repositories)?;
    let folder = tempfile::tempdir()?;
    let store = StateStore::open(&folder.path().join("state.db")).await?;
    let settings = settings(&registry, concurrency)?;
    let connection = connect(settings.clone(), RetryPolicy::default())?;
    let reader = connection.reader();
    let inventory = collect(&[Arc::clone(&reader)], &CollectScope::All, &ExtraManifests::new(), &store, &()).await;
    let lease = store.take_lease(LeaseScope::Run, "bench").await?;
    let lease = store.begin_epoch(&lease, Timestamp::UNIX_EPOCH).await?;
    let writer = connection.writer(&lease).ok_or("the registry is only read")?;
    let target = RegistryHandle { reader, writer };
    let context = ApplyContext {
        store: store.clone(),
        lease: lease.clone(),
        run: begin(&store, 1).await?,
        registries: BTreeMap::from([(settings.name, target)]),
        clock: Arc::new(|| Timestamp::UNIX_EPOCH),
        uptime: Arc::new(tagwarden::registry::uptime),
        stop: tokio::sync::watch::channel(false).1,
        undo_window: Duration::from_hours(24 * 7),
        deadline: None,
        retry_policy: RetryPolicy::default().into(),
        retry_refused: RetryRefused::WhenDue,
        clock_guard: None,
        breakers: tagwarden::apply::CircuitBreakers::default(),
        deletion_breakers: tagwarden::apply::CircuitBreakers::default(),
        evidence: None,
    };
    let orders = orders(&inventory)?;
    assert_eq!(orders.len(), REMOVALS);

    let start = Instant::now();
    let applied = apply(&context, orders.clone(), &inventory).await?;
    let whole = start.elapsed();
    assert!(applied.iter().all(|applied| matches!(applied.outcome, Outcome::Done(_))), "some were not removed");

    let removed = store.journal(context.run).await?.into_iter().rev().collect();
    let restoring = ApplyContext { run: begin(&store, 3).await?, ..context.clone() };
    let hold = RestoreHold { by: "bench".to_owned(), duration: Duration::from_hours(24 * 7) };
    let start = Instant::now();
    let restored = restore(&restoring, removed, Some(&hold), &BTreeMap::new()).await?;
    let back = start.elapsed();
    assert!(restored.iter().all(|one| matches!(one.outcome, Outcome::Done(_))), "some were not put back");

    let run = begin(&store, 2).await?;
    let start = Instant::now();
    stream::iter(orders.iter().map(Ok))
        .try_for_each_concurrent(concurrency, |order| journal(&store, &lease, run, order))
        .await?;
    let alone = start.elapsed();
    println!(
        "{repositories:>12} {concurrency:>12} {REMOVALS:>10} {:>10} {:>10} {:>16.2} {:>22}",
        per_second(whole),
        per_second(back),
        back.as_secs_f64() / whole.as_secs_f64(),
        per_second(alone)
    );
    store.close().await;
    registry.stop().await;
    Ok(())
}

/// What one removal writes: its intent, and what came of it.
async fn journal(store: &StateStore, lease: &LeaseToken, run: Uuid, order: &RemovalTask) -> Result<(), Box<dyn Error>> {
    let removal = &order.removal;
    let manifest = store.manifest(&removal.digest).await.ok_or("its manifest was read before")?;
    let intent = Intent {
        action: Action::Remove(removal.method),
        registry: removal.registry.clone(),
        repository: removal.repository.clone(),
        tag: removal.tag.clone(),
        digest: removal.digest.clone(),
        media_type: manifest.media_type.clone(),
        policy: Some(removal.policy.to_string()),
        evidence: PROOF.to_owned(),
        endpoint: None,
        date: None,
    };
    let journaled = store.intend(lease, run, &intent, &manifest, Timestamp::UNIX_EPOCH).await?;
    Ok(store.record_outcome(journaled.id(), &Outcome::Done(String::new()), Timestamp::UNIX_EPOCH).await?)
}

fn per_second(time: Duration) -> u128 {
    REMOVALS as u128 * 1_000_000 / time.as_micros().max(1)
}

/// Every tag of the inventory.
fn orders(inventory: &Inventory) -> Result<Vec<RemovalTask>, Box<dyn Error>> {
    let mut orders = Vec::with_capacity(REMOVALS);
    let policy: tagwarden::domain::PolicyName = "all-go".parse()?;
    let policies: std::sync::Arc<[_]> = [policy.clone()].into();
    for (number, registry) in (0..).zip(&inventory.registries) {
        for (place, repository) in (0..).zip(&registry.repositories) {
            for (position, tag) in (0..).zip(&repository.tags) {
                let removal = Removal {
                    position: TagPosition { registry: number, repository: place, tag: position },
                    registry: registry.name.clone(),
                    repository: repository.name.clone(),
                    tag: tag.name.clone(),
                    digest: tag.digest.clone().ok_or("all were read")?,
                    policy: policy.clone(),
                    policies: policies.clone(),
                    method: RemovalMethod::Untag,
                    enforce: true,
                    date: Date::Created(Timestamp::UNIX_EPOCH),
                    companion_of: None,
                };
                orders.push(RemovalTask { removal: removal.into(), evidence: JournalEvidence::Json(PROOF.into()) });
            }
        }
    }
    Ok(orders)
}

async fn begin(store: &StateStore, number: u128) -> Result<Uuid, Box<dyn Error>> {
    let id = Uuid::from_u128(number);
    let run = NewRun {
        id,
        kind: RunKind::Run,
        mode: "enforce".into(),
        started_at: Timestamp::UNIX_EPOCH,
        started_by: "bench".into(),
        version: String::new(),
        approved_by: None,
        ticket: None,
    };
    store.begin_run(&run).await?;
    Ok(id)
}

/// Ten tags on each image.
fn fill(registry: &EmbeddedRegistry, repositories: usize) -> Result<(), Box<dyn Error>> {
    let created = "2025-11-23T06:00:00Z".parse()?;
    let tags = REMOVALS / repositories;
    for repository in 0..repositories {
        let name = format!("app-{repository}");
        for digest in 0..tags / 10 {
            let image = ImageSpec::new(created, &[Blob::of(format!("{name} {digest}"))]).build();
            for tag in 0..10 {
                registry.put_image(&name, &format!("build-{}", digest * 10 + tag), &image);
            }
        }
    }
    Ok(())
}

fn settings(registry: &EmbeddedRegistry, concurrency: usize) -> Result<RegistrySettings, Box<dyn Error>> {
    let settings = RegistrySettings::with_defaults("bench".parse()?, &Distribution, registry.url().parse()?);
    Ok(RegistrySettings { concurrency, ..settings })
}
