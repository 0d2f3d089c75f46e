//! Bytes that a plan's removals would free, and bytes shared with retained images.

use super::{RegistryName, RepositoryName};

/// The bytes that a plan's removals would free once the registry collects them.
///
/// A blob counts once in a registry, for the first removal in the plan's order whose image needs it, so the parts add up:
/// removals to repositories, those to registries, those to the plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reclaim {
    /// The bytes for each removal of the plan; `None` if they cannot be known.
    pub removals: Vec<Option<ReclaimBytes>>,
    /// The registries with removals, by name.
    pub registries: Vec<RegistryReclaim>,
}

/// Bytes that images need: manifests, configurations and layers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReclaimBytes {
    /// Bytes needed only by images that this plan removes.
    pub exclusive: u64,
    /// Bytes that remain because a retained manifest needs them too.
    pub shared: u64,
}

/// The bytes of some removals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReclaimSum {
    /// The number of removals.
    pub removals: u64,
    /// The bytes of those removals whose bytes are known.
    pub bytes: ReclaimBytes,
    /// The number of removals whose bytes cannot be known.
    pub unknown: u64,
}

/// The bytes in one registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryReclaim {
    /// Its name.
    pub registry: RegistryName,
    /// True if it did not list the blobs of all its manifests: the bytes are then the sizes it reports for whole
    /// images, including shared layers.
    pub estimated: bool,
    /// The repositories with removals, by name.
    pub repositories: Vec<(RepositoryName, ReclaimSum)>,
}

impl Reclaim {
    /// Returns the sum over the whole plan.
    #[must_use]
    pub fn sum(&self) -> ReclaimSum {
        self.registries.iter().map(RegistryReclaim::sum).fold(ReclaimSum::default(), ReclaimSum::plus)
    }

    /// Returns true if any of its bytes are estimated.
    #[must_use]
    pub fn is_estimated(&self) -> bool {
        self.registries.iter().any(|registry| registry.estimated)
    }
}

impl RegistryReclaim {
    /// Returns the sum over the whole registry.
    #[must_use]
    pub fn sum(&self) -> ReclaimSum {
        self.repositories.iter().map(|(_, sum)| *sum).fold(ReclaimSum::default(), ReclaimSum::plus)
    }
}

impl ReclaimSum {
    /// Returns the sum of both.
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
    /// Returns the sum of both. Sizes come from outside, so sums saturate.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            exclusive: self.exclusive.saturating_add(other.exclusive),
            shared: self.shared.saturating_add(other.shared),
        }
    }
}
