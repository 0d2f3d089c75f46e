//! Storage usage before and after a run.

use std::collections::BTreeSet;

use super::App;
use crate::apply::RemovalResult;
use crate::domain::{Outcome, RegistryName};
use crate::report::{RegistryView, StorageChangeView};

/// A registry from which something was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageChange {
    /// The registry.
    pub registry: RegistryName,
    /// Seconds for which each removal can certainly be undone; `None` if unknown.
    pub undo_seconds: Option<u64>,
    /// Bytes stored as the registry reports them, before any removal.
    pub stored_before: Option<u64>,
    /// The same afterwards. The number lags: registries collect on their own schedule.
    pub stored_after: Option<u64>,
}

impl StorageChange {
    /// Returns the bytes that the registry stores less than before; `None` if unknown, or if it stores more.
    #[must_use]
    pub fn reclaimed(&self) -> Option<u64> {
        self.stored_before?.checked_sub(self.stored_after?)
    }

    /// Returns the entry for records and scripts, with the registry's name.
    #[must_use]
    pub fn summary_entry(&self) -> (String, StorageChangeView) {
        let view = StorageChangeView {
            undo_seconds: self.undo_seconds,
            stored_bytes_before: self.stored_before,
            stored_bytes_after: self.stored_after,
            reclaimed_bytes: self.reclaimed(),
        };
        (self.registry.to_string(), view)
    }
}

impl App {
    /// Returns the storage change of every registry with removals.
    pub(super) async fn storage_changes(
        &self,
        registries: &[RegistryView],
        applied: &[RemovalResult],
    ) -> Vec<StorageChange> {
        let stored = async |registry| {
            let info = self.readers.get(&registry)?.registry_info().await;
            if let Err(error) = &info {
                tracing::warn!(%registry, error = %error.chain(), "how much it stores after the removals could not be read");
            }
            info.ok()??.stored_bytes
        };
        measure_storage_changes(registries, applied, stored).await
    }
}

/// Returns the storage change of every registry with removals. `stored` queries one again for its stored bytes, and
/// only if it reported them before.
async fn measure_storage_changes<F>(
    registries: &[RegistryView],
    applied: &[RemovalResult],
    stored: impl Fn(RegistryName) -> F,
) -> Vec<StorageChange>
where
    F: Future<Output = Option<u64>>,
{
    let done = applied.iter().filter(|applied| matches!(applied.outcome, Outcome::Done(_)));
    let touched: BTreeSet<&RegistryName> = done.map(|applied| &applied.removal.registry).collect();
    let mut found = Vec::new();
    for registry in touched {
        let view = registries.iter().find(|view| view.name == registry.as_str());
        let before = view.and_then(|view| view.info.as_ref()?.stored_bytes);
        found.push(StorageChange {
            registry: registry.clone(),
            undo_seconds: view.and_then(|view| view.undo_seconds),
            stored_before: before,
            stored_after: if before.is_some() { stored(registry.clone()).await } else { None },
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Date, Digest, Removal, RemovalMethod, TagPosition, UndatedCause};
    use crate::report::{DelayedActionView, RegistryInfoView};

    fn applied(registry: &str, outcome: Outcome) -> RemovalResult {
        let removal = Removal {
            position: TagPosition { registry: 0, repository: 0, tag: 0 },
            registry: registry.parse().unwrap(),
            repository: "app".parse().unwrap(),
            tag: "v1".parse().unwrap(),
            digest: Digest::of(b"x"),
            policy: "old".parse().unwrap(),
            policies: ["old".parse().unwrap()].into(),
            method: RemovalMethod::Untag,
            enforce: true,
            date: Date::Unknown(UndatedCause::Missing),
            companion_of: None,
        };
        RemovalResult { removal: removal.into(), outcome }
    }

    fn view(name: &str, stored_bytes: Option<u64>, undo_seconds: Option<u64>) -> RegistryView {
        let off = || DelayedActionView { state: "off".into(), days: None };
        let info = RegistryInfoView {
            subscription: String::new(),
            resource_group: String::new(),
            resource: name.into(),
            tier: None,
            permissions: None,
            untagged_retention: off(),
            soft_delete: off(),
            replicas: Vec::new(),
            stored_bytes,
            cleanup_rules: Vec::new(),
        };
        RegistryView {
            name: name.into(),
            kind: "acr".into(),
            endpoint: String::new(),
            identity: String::new(),
            removal: "untag".into(),
            obstacle: None,
            obstacles: Vec::new(),
            ability: None,
            notes: Vec::new(),
            info: Some(info),
            accepted: Vec::new(),
            clock_ahead_seconds: None,
            clock: None,
            undo_seconds,
            repositories: 0,
            tags: 0,
            indexes_read: None,
            gaps: Vec::new(),
            invalid_names: Vec::new(),
        }
    }

    #[tokio::test]
    async fn only_what_was_known_of_registries_that_were_changed_is_asked_again() {
        let registries =
            [view("changed", Some(100), Some(7)), view("failed", Some(100), None), view("silent", None, None)];
        let removals = [
            applied("changed", Outcome::Done(String::new())),
            applied("changed", Outcome::Done(String::new())),
            applied("failed", Outcome::Failed(String::new())),
            applied("silent", Outcome::Done(String::new())),
        ];
        let found = measure_storage_changes(&registries, &removals, async |registry| {
            assert_eq!(registry.as_str(), "changed");
            Some(60)
        });
        let found: Vec<_> = found.await.iter().map(StorageChange::summary_entry).collect();
        let changed = StorageChangeView {
            undo_seconds: Some(7),
            stored_bytes_before: Some(100),
            stored_bytes_after: Some(60),
            reclaimed_bytes: Some(40),
        };
        assert_eq!(found, [("changed".to_owned(), changed), ("silent".to_owned(), StorageChangeView::default()),]);
    }

    /// The daemon runs it in a separate task.
    #[test]
    fn a_run_can_move_between_threads() {
        fn can_move<T: Send>(_: T) {}
        let _ = |app: &App| can_move(app.run(&()));
    }

    #[test]
    fn a_registry_that_grew_meanwhile_has_reclaimed_nothing_that_is_known() {
        let found = |stored_before, stored_after| {
            StorageChange { registry: "contoso".parse().unwrap(), undo_seconds: None, stored_before, stored_after }
                .reclaimed()
        };
        assert_eq!(found(Some(100), Some(100)), Some(0));
        assert_eq!(found(Some(100), Some(101)), None);
        assert_eq!(found(Some(100), None), None);
    }
}
