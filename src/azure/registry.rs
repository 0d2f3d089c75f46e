//! A container registry as a resource of Azure.

use super::Credential;

/// A container registry as a resource of Azure, and as whom to ask about it.
#[derive(Debug, Clone)]
pub struct RegistryResource {
    /// The subscription's id.
    pub subscription: String,
    /// The resource group.
    pub resource_group: String,
    /// Who asks.
    pub credential: Credential,
}
