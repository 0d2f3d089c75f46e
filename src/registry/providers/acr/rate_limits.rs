//! How fast a container registry lets itself be asked.

use crate::domain::ServiceTier;
use crate::http_client::RateLimits;

/// The rates for one identity that a service tier is documented to have
/// (<https://learn.microsoft.com/azure/container-registry/container-registry-skus>), in requests a minute.
pub(in crate::registry) fn documented_limits(sku: ServiceTier) -> RateLimits {
    match sku {
        ServiceTier::Basic | ServiceTier::Standard => {
            RateLimits { read: Some(5_000), write: Some(1_000), delete: Some(500) }
        }
        ServiceTier::Premium => RateLimits { read: Some(10_000), write: Some(2_000), delete: Some(2_000) },
    }
}
