//! The bytes that a plan would free, by registry and repository, as views and in words.

use serde::{Deserialize, Serialize};

use super::humanize::{counted, format_bytes, format_count};
use super::{PlanDocument, RemovalView};
use crate::domain::{ReclaimSum, Registry, RegistryName, RegistryReclaim};

/// The bytes that a plan would free in one registry once that collects them. A blob counts once, for the first removal
/// that needs it, so the parts add up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageView {
    /// The registry.
    pub registry: String,
    /// Bytes needed only by images that this plan removes: the sum of the removals' `reclaimable_bytes`.
    pub exclusive_bytes: u64,
    /// Bytes of removed images that remain because a retained manifest needs them too.
    pub shared_bytes: u64,
    /// Removals whose bytes cannot be known; they are in neither sum.
    pub unknown_removals: u64,
    /// Accuracy of the bytes: `exact`, or `estimated` by the registry's own sizes of whole images.
    pub bytes: String,
    /// The bytes that the registry reports to store in all; `None` if not reported.
    pub stored_bytes: Option<u64>,
    /// The repositories with removals, by name.
    pub repositories: Vec<RepositoryStorageView>,
}

/// The same for one repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryStorageView {
    /// The repository.
    pub repository: String,
    /// The number of tags to be removed.
    pub removals: u64,
    /// Bytes needed only by images that this plan removes.
    pub exclusive_bytes: u64,
    /// Bytes that remain because a retained manifest needs them too.
    pub shared_bytes: u64,
    /// Removals whose bytes cannot be known.
    pub unknown_removals: u64,
}

impl StorageView {
    /// Returns true if its bytes are estimated.
    #[must_use]
    pub fn is_estimated(&self) -> bool {
        self.bytes == "estimated"
    }

    /// Returns the number of removals.
    #[must_use]
    pub fn removals(&self) -> u64 {
        self.repositories.iter().map(|repository| repository.removals).sum()
    }
}

/// Returns the label for counted bytes or for those that a registry reports.
pub(super) fn accuracy_label(estimated: bool) -> String {
    if estimated { "estimated" } else { "exact" }.to_owned()
}

/// Returns the bytes that a plan would free in each registry with removals.
pub(super) fn storage(reclaim: &[RegistryReclaim], registries: &[Registry]) -> Vec<StorageView> {
    let particulars = |name: &RegistryName| registries.iter().find(|registry| registry.name == *name)?.info.as_ref();
    let of_registry = |found: &RegistryReclaim| {
        let sum = found.sum();
        StorageView {
            registry: found.registry.to_string(),
            exclusive_bytes: sum.bytes.exclusive,
            shared_bytes: sum.bytes.shared,
            unknown_removals: sum.unknown,
            bytes: accuracy_label(found.estimated),
            stored_bytes: particulars(&found.registry).and_then(|found| found.stored_bytes),
            repositories: found
                .repositories
                .iter()
                .map(|(name, sum)| repository_view(name.to_string(), *sum))
                .collect(),
        }
    };
    reclaim.iter().map(of_registry).collect()
}

fn repository_view(repository: String, sum: ReclaimSum) -> RepositoryStorageView {
    RepositoryStorageView {
        repository,
        removals: sum.removals,
        exclusive_bytes: sum.bytes.exclusive,
        shared_bytes: sum.bytes.shared,
        unknown_removals: sum.unknown,
    }
}

impl PlanDocument {
    /// Returns `exact` or `estimated` for the bytes of a registry. Plans of an older version state that for the whole
    /// plan only.
    #[must_use]
    pub fn bytes_label(&self, registry: &str) -> &str {
        match self.storage.iter().find(|found| found.registry == registry) {
            Some(found) => &found.bytes,
            None if self.storage.is_empty() => &self.summary.bytes,
            None => "exact",
        }
    }
}

/// Describes one registry in a line: `about 1.0 GiB reclaimable, about 20.0 MiB shared with what stays; 1.9 TiB stored
/// now`.
pub(super) fn describe_storage(found: &StorageView) -> String {
    let stored = found.stored_bytes.map_or_else(String::new, |stored| format!("; {} stored now", format_bytes(stored)));
    if found.unknown_removals == found.removals() {
        return format!("how much can be reclaimed cannot be known, because something could not be read{stored}");
    }
    let StorageView { exclusive_bytes, shared_bytes, unknown_removals, .. } = found;
    describe_bytes(*exclusive_bytes, *shared_bytes, *unknown_removals, found.is_estimated()) + &stored
}

/// Describes exclusive bytes, shared bytes and removals of unknown size.
pub(super) fn describe_bytes(exclusive: u64, shared: u64, unknown: u64, estimated: bool) -> String {
    let about = if estimated { "about " } else { "" };
    let unknown = match unknown {
        0 => String::new(),
        number => format!(", {} of unknown size", counted(number, "removal")),
    };
    format!(
        "{about}{} reclaimable, {about}{} shared with what stays{unknown}",
        format_bytes(exclusive),
        format_bytes(shared)
    )
}

/// Returns the repositories of all registries, each with its registry, those with the most exclusive bytes first.
pub(super) fn largest(document: &PlanDocument) -> Vec<(&StorageView, &RepositoryStorageView)> {
    let all = document.storage.iter().flat_map(|there| there.repositories.iter().map(move |found| (there, found)));
    let mut all: Vec<_> = all.collect();
    // A stable sort: equal ones stay in the order of their names.
    all.sort_by_key(|(_, found)| std::cmp::Reverse((found.exclusive_bytes, found.removals)));
    all
}

/// Returns a repository's cells in a table: its name, removals, exclusive bytes, shared bytes, removals of unknown
/// size.
pub(super) fn cells((there, found): (&StorageView, &RepositoryStorageView)) -> [String; 5] {
    let about = if there.is_estimated() { "about " } else { "" };
    [
        format!("{}/{}", there.registry, found.repository),
        format_count(found.removals),
        format!("{about}{}", format_bytes(found.exclusive_bytes)),
        format!("{about}{}", format_bytes(found.shared_bytes)),
        format_count(found.unknown_removals),
    ]
}

/// Describes the bytes that a removal makes reclaimable, and the shared bytes of its image that remain.
pub(super) fn describe_removal_bytes(removal: &RemovalView, estimated: bool) -> String {
    let shared = match removal.shared_bytes {
        None | Some(0) => String::new(),
        Some(shared) => format!("; {} of its image stay, because something kept uses them", format_bytes(shared)),
    };
    match removal.reclaimable_bytes {
        Some(number) if estimated => {
            format!("about {} by the registry's own account, once it collects it{shared}", format_bytes(number))
        }
        Some(number) => format!("{} reclaimable once the registry collects it{shared}", format_bytes(number)),
        None => "how much can be reclaimed cannot be known".to_owned(),
    }
}
