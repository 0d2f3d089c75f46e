//! What removing a plan's tags would free, and what it would not.

use super::{RegistryName, RepositoryName};

/// What removing a plan's tags would free, once the registry collects it.
///
/// A blob counts once in a registry, for the first removal in the plan's order whose image needs it, so the parts add up:
/// removals to repositories, those to registries, those to the plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reclaim {
    /// For each removal of the plan; nothing where that cannot be known.
    pub removals: Vec<Option<ReclaimBytes>>,
    /// The registries that something goes from, by name.
    pub registries: Vec<RegistryReclaim>,
}

/// Bytes of what images need: manifests, configurations and layers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReclaimBytes {
    /// Of what only images need that go with this plan.
    pub exclusive: u64,
    /// Of what stays, because something kept needs it too.
    pub shared: u64,
}

/// The bytes of some removals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReclaimSum {
    /// How many removals these are.
    pub removals: u64,
    /// Of those of them whose bytes are known.
    pub bytes: ReclaimBytes,
    /// How many of them have bytes that cannot be known.
    pub unknown: u64,
}

/// The bytes in one registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryReclaim {
    /// Its name.
    pub registry: RegistryName,
    /// Whether it did not show the blobs of all its manifests: the bytes are then those of whole images by its own
    /// account, however much of them is shared.
    pub estimated: bool,
    /// The repositories that something goes from, by name.
    pub repositories: Vec<(RepositoryName, ReclaimSum)>,
}

impl Reclaim {
    /// Of the whole plan.
    #[must_use]
    pub fn sum(&self) -> ReclaimSum {
        self.registries.iter().map(RegistryReclaim::sum).fold(ReclaimSum::default(), ReclaimSum::plus)
    }

    /// Whether any of its bytes are estimated.
    #[must_use]
    pub fn is_estimated(&self) -> bool {
        self.registries.iter().any(|registry| registry.estimated)
    }
}

impl RegistryReclaim {
    /// Of the whole registry.
    #[must_use]
    pub fn sum(&self) -> ReclaimSum {
        self.repositories.iter().map(|(_, sum)| *sum).fold(ReclaimSum::default(), ReclaimSum::plus)
    }
}

impl ReclaimSum {
    /// Of these removals and others.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            removals: self.removals.saturating_add(other.removals),
            bytes: self.bytes.plus(other.bytes),
            unknown: self.unknown.saturating_add(other.unknown),
        }
    }
}

impl From<Option<ReclaimBytes>> for ReclaimSum {
    fn from(bytes: Option<ReclaimBytes>) -> Self {
        Self { removals: 1, bytes: bytes.unwrap_or_default(), unknown: u64::from(bytes.is_none()) }
    }
}

impl ReclaimBytes {
    /// These and others. Sizes come from outside, so sums end at the largest number.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            exclusive: self.exclusive.saturating_add(other.exclusive),
            shared: self.shared.saturating_add(other.shared),
        }
    }
}
