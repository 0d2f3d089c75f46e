//! What a plan would free, by registry and repository: views, and words for them.

use serde::{Deserialize, Serialize};

use super::humanize::{counted, format_bytes, format_count};
use super::{PlanDocument, RemovalView};
use crate::domain::{ReclaimSum, Registry, RegistryName, RegistryReclaim};

/// What a plan would free in one registry once that collects it. A blob counts once, for the first removal that needs it,
/// so the parts add up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageView {
    /// The registry.
    pub registry: String,
    /// Bytes that only images use that go with this plan: the sum of the removals' `reclaimable_bytes`.
    pub exclusive_bytes: u64,
    /// Bytes of images of removed tags that stay, because something kept uses them too.
    pub shared_bytes: u64,
    /// Removals whose bytes cannot be known; they are in neither sum.
    pub unknown_removals: u64,
    /// Whether the bytes are `exact` or `estimated`: by the registry's own sizes of whole images.
    pub bytes: String,
    /// What the registry says that it stores in all; nothing where it does not say.
    pub stored_bytes: Option<u64>,
    /// The repositories that something goes from, by name.
    pub repositories: Vec<RepositoryStorageView>,
}

/// The same of one repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryStorageView {
    /// The repository.
    pub repository: String,
    /// How many tags go.
    pub removals: u64,
    /// Bytes that only images use that go with this plan.
    pub exclusive_bytes: u64,
    /// Bytes that stay, because something kept uses them too.
    pub shared_bytes: u64,
    /// Removals whose bytes cannot be known.
    pub unknown_removals: u64,
}

impl StorageView {
    /// Whether its bytes are estimated.
    #[must_use]
    pub fn is_estimated(&self) -> bool {
        self.bytes == "estimated"
    }

    /// How many removals it is about.
    #[must_use]
    pub fn removals(&self) -> u64 {
        self.repositories.iter().map(|repository| repository.removals).sum()
    }
}

/// Whether bytes are counted or taken from a registry's own account, as documents say it.
pub(super) fn accuracy_label(estimated: bool) -> String {
    if estimated { "estimated" } else { "exact" }.to_owned()
}

/// What a plan would free in each registry that something goes from.
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
    /// Whether the bytes of a registry are `exact` or `estimated`. Plans of an older version know that of the whole plan
    /// only.
    #[must_use]
    pub fn bytes_label(&self, registry: &str) -> &str {
        match self.storage.iter().find(|found| found.registry == registry) {
            Some(found) => &found.bytes,
            None if self.storage.is_empty() => &self.summary.bytes,
            None => "exact",
        }
    }
}

/// One registry in a line: `about 1.0 GiB reclaimable, about 20.0 MiB shared with what stays; 1.9 TiB stored now`.
pub(super) fn describe_storage(found: &StorageView) -> String {
    let stored = found.stored_bytes.map_or_else(String::new, |stored| format!("; {} stored now", format_bytes(stored)));
    if found.unknown_removals == found.removals() {
        return format!("how much can be reclaimed cannot be known, because something could not be read{stored}");
    }
    let StorageView { exclusive_bytes, shared_bytes, unknown_removals, .. } = found;
    describe_bytes(*exclusive_bytes, *shared_bytes, *unknown_removals, found.is_estimated()) + &stored
}

/// Exclusive bytes, shared bytes and removals of unknown size, in words.
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

/// The repositories of all registries, each with its registry, those with the most exclusive bytes first.
pub(super) fn largest(document: &PlanDocument) -> Vec<(&StorageView, &RepositoryStorageView)> {
    let all = document.storage.iter().flat_map(|there| there.repositories.iter().map(move |found| (there, found)));
    let mut all: Vec<_> = all.collect();
    // Stable: what is equal stays in the order of its name.
    all.sort_by_key(|(_, found)| std::cmp::Reverse((found.exclusive_bytes, found.removals)));
    all
}

/// A repository's cells in a table: its name, removals, exclusive bytes, shared bytes, removals of unknown size.
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

/// How many bytes a removal makes reclaimable, and how many of its image stay because something kept uses them.
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
