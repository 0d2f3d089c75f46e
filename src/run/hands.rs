//! The means to change registries, for one run.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::{House, RunError};
use crate::apply::{Hands, Refused, Target};
use crate::domain::Inventory;
use crate::registry;

impl House {
    /// Makes the writers for the registries, at the pace of the service tiers that `inventory` tells.
    pub(super) fn hands(&self, run: Uuid, inventory: &Inventory) -> Result<Hands, RunError> {
        let mut targets = BTreeMap::new();
        for settings in &self.settings.registries {
            if let Some(reader) = self.readers.get(&settings.name) {
                let writer = registry::writer(settings.clone(), self.patience)?;
                let particulars =
                    inventory.registry(settings.name.as_str()).and_then(|found| found.particulars.as_ref());
                if let Some(sku) = particulars.and_then(|particulars| particulars.sku) {
                    writer.keep_to(sku);
                }
                self.note_writer(&settings.name, &writer);
                targets.insert(settings.name.clone(), Target { reader: Arc::clone(reader), writer });
            }
        }
        Ok(Hands {
            store: self.store.clone(),
            run,
            targets,
            clock: Arc::clone(&self.clock),
            stop: self.stop.clone(),
            until: None,
            waiting: self.waiting.clone(),
            refused: Refused::Try,
            clock_moved: None,
            evidence: None,
        })
    }
}
