//! The means to change registries, for one run.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::App;
use crate::apply::{ApplyContext, CircuitBreakers, RegistryHandle, RetryRefused};
use crate::registry;
use crate::state::LeaseToken;

impl App {
    /// Creates the writers of the registries' connections. A dry run has no lease, so it gets none; read-only
    /// registries have none.
    pub(super) fn apply_context(&self, run: Uuid, lease: LeaseToken) -> ApplyContext {
        let mut targets = BTreeMap::new();
        for (name, connection) in &self.connections {
            if let Some(writer) = connection.writer(&lease) {
                targets.insert(name.clone(), RegistryHandle { reader: connection.reader(), writer });
            }
        }
        ApplyContext {
            store: self.store.clone(),
            lease,
            run,
            registries: targets,
            clock: Arc::clone(&self.clock),
            uptime: self.monotonic_clock.clone().unwrap_or_else(|| Arc::new(registry::uptime)),
            stop: self.stop.clone(),
            undo_window: self.settings.undo_window,
            deadline: None,
            retry_policy: self.removal_retry_policy.clone(),
            retry_refused: RetryRefused::Always,
            clock_guard: None,
            breakers: CircuitBreakers::default(),
            deletion_breakers: CircuitBreakers::default(),
            evidence: None,
        }
    }
}
