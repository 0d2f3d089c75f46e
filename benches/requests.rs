//! How many requests reading a registry takes, per tag and per new digest, on a first and on a second plan.
//!
//! No time is measured, so any profile gives the same figures: `cargo bench --bench requests --profile dev`. Each
//! image stands for one digest: a manifest and a configuration.

use std::error::Error;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tagwarden::demo::blob::Blob;
use tagwarden::demo::image::ImageSpec;
use tagwarden::demo::registry::{EmbeddedRegistry, Options};
use tagwarden::registry::providers::Distribution;
use tagwarden::registry::{CollectScope, ExtraManifests, RegistrySettings, RetryPolicy, collect, reader};
use tagwarden::state::StateStore;

const REPOSITORIES: usize = 4;
const TAGS: usize = 1000;
const DIGESTS: usize = 250;

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    println!("{REPOSITORIES} repositories of {TAGS} tags over {DIGESTS} digests each\n");
    println!(
        "{:<22} {:>6} {:>9} {:>8} {:>11} {:>8}",
        "registry", "plan", "requests", "per tag", "per digest", "product"
    );
    for referrers_api in [false, true] {
        runtime.block_on(measure(referrers_api))?;
    }
    Ok(())
}

async fn measure(referrers_api: bool) -> Result<(), Box<dyn Error>> {
    let registry = EmbeddedRegistry::start(Options { referrers_api, ..Options::default() }).await?;
    fill(&registry)?;
    let folder = tempfile::tempdir()?;
    let store = StateStore::open(&folder.path().join("state.db")).await?;
    for plan in ["first", "second"] {
        let reader = reader(settings(&registry)?, RetryPolicy::default())?;
        let mut inventory =
            collect(&[Arc::clone(&reader)], &CollectScope::All, &ExtraManifests::new(), &store, &()).await;
        store.observe(&mut inventory, now()?).await?;
        let read = reader.request_counts().total;
        assert_eq!((inventory.tag_count(), inventory.has_gaps()), (REPOSITORIES * TAGS, false));
        assert_eq!(reader.product().await, None);
        let recognising = reader.request_counts().total - read;
        report(referrers_api, plan, read, recognising);
    }
    store.close().await;
    registry.stop().await;
    Ok(())
}

/// Requests are what the lists take, one for each tag, and the rest: that is for digests.
fn report(referrers_api: bool, plan: &str, read: u64, recognising: u64) {
    let tags = (REPOSITORIES * TAGS) as u64;
    let digests = (REPOSITORIES * DIGESTS) as u64;
    let lists = 1 + REPOSITORIES as u64;
    let behind_tags = read.saturating_sub(tags + lists);
    let name = if referrers_api { "with referrers API" } else { "without referrers API" };
    println!(
        "{name:<22} {plan:>6} {read:>9} {:>8} {:>11} {recognising:>8}",
        hundredths(read, tags),
        hundredths(behind_tags, digests)
    );
}

/// A quotient with two digits behind the point.
fn hundredths(number: u64, of: u64) -> String {
    let rounded = (number * 100 + of / 2) / of;
    format!("{}.{:02}", rounded / 100, rounded % 100)
}

fn fill(registry: &EmbeddedRegistry) -> Result<(), Box<dyn Error>> {
    for repository in 0..REPOSITORIES {
        let name = format!("app-{repository}");
        for digest in 0..DIGESTS {
            let created = now()? - SignedDuration::from_hours(i64::try_from(digest)?);
            let image = ImageSpec::new(created, &[Blob::of(format!("{name} {digest}"))]).build();
            for tag in (digest..TAGS).step_by(DIGESTS) {
                registry.put_image(&name, &format!("build-{tag}"), &image);
            }
        }
    }
    Ok(())
}

fn now() -> Result<Timestamp, jiff::Error> {
    "2026-11-23T06:00:00Z".parse()
}

fn settings(registry: &EmbeddedRegistry) -> Result<RegistrySettings, Box<dyn Error>> {
    Ok(RegistrySettings::with_defaults("bench".parse()?, &Distribution, registry.url().parse()?))
}
