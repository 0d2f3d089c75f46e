//! How fast a container registry lets itself be asked.

use crate::domain::Sku;
use crate::transport::Rates;

/// The rates for one identity that a service tier is documented to have
/// (<https://learn.microsoft.com/azure/container-registry/container-registry-skus>), in requests a minute.
pub(in crate::registry) fn documented(sku: Sku) -> Rates {
    match sku {
        Sku::Basic | Sku::Standard => Rates { read: Some(5_000), write: Some(1_000), delete: Some(500) },
        Sku::Premium => Rates { read: Some(10_000), write: Some(2_000), delete: Some(2_000) },
    }
}
