//! Forgetting cached content that an inventory does not use.

use jiff::Timestamp;
use tagwarden::domain::{Inventory, Registry};
use tagwarden::registry::RegistryHead;
use tagwarden::state::StateStore;

/// What a run does once it has read an inventory of everything.
pub(crate) async fn collect_garbage(
    store: &StateStore,
    inventory: &Inventory,
    now: Timestamp,
    gone_since: Timestamp,
) -> Result<(), tagwarden::state::StateError> {
    if inventory.has_gaps() {
        return Ok(());
    }
    let mut unused = store.cached_content().await?;
    let repositories = inventory.registries.iter().flat_map(|registry| &registry.repositories);
    repositories.for_each(|repository| unused.remove_used(repository));
    let head = |registry: &Registry| RegistryHead {
        names: registry.repositories.iter().map(|repository| repository.name.clone()).collect(),
        registry: Registry { repositories: Vec::new(), ..registry.clone() },
    };
    let heads: Vec<RegistryHead> = inventory.registries.iter().map(head).collect();
    store.collect_garbage(&unused, &heads, now, gone_since).await
}
