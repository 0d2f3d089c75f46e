//! The means to change registries, for one run.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::{App, RunError};
use crate::apply::{ApplyContext, RegistryHandle, RetryRefused};
use crate::domain::Inventory;
use crate::registry;
use crate::state::LeaseToken;

impl App {
    /// Makes the writers for the registries, at the pace of the service tiers that `inventory` tells. A dry run has no
    /// lease, so it gets none.
    pub(super) fn apply_context(
        &self,
        run: Uuid,
        lease: LeaseToken,
        inventory: &Inventory,
    ) -> Result<ApplyContext, RunError> {
        let mut targets = BTreeMap::new();
        for settings in &self.settings.registries {
            if let Some(reader) = self.readers.get(&settings.name) {
                let writer = registry::writer(settings.clone(), self.retry_policy)?;
                let particulars = inventory.registry(settings.name.as_str()).and_then(|found| found.info.as_ref());
                if let Some(sku) = particulars.and_then(|particulars| particulars.tier) {
                    writer.set_service_tier(sku);
                }
                self.track_writer(&settings.name, &writer);
                targets.insert(settings.name.clone(), RegistryHandle { reader: Arc::clone(reader), writer });
            }
        }
        Ok(ApplyContext {
            store: self.store.clone(),
            lease,
            run,
            registries: targets,
            clock: Arc::clone(&self.clock),
            stop: self.stop.clone(),
            deadline: None,
            retry_policy: self.removal_retry_policy.clone(),
            retry_refused: RetryRefused::Always,
            clock_guard: None,
            evidence: None,
        })
    }
}
