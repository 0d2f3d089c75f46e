//! The connection to one registry, with its reader and, for the holder of a lease, its writer.

use std::fmt;
use std::sync::Arc;

use super::{Capabilities, ProbeResponse, RegistryReader, RegistryWriter};
use crate::domain::{LeaseToken, RemovalMethod, RepositoryName};

/// The connection to one registry, opened by its [`Provider`](super::Provider).
///
/// Reader and writer share what belongs to the registry: tokens, rates, counts of requests, its clock, and the memory
/// of consecutive failures. Planning code gets the reader alone, because it holds no lease.
pub struct RegistryConnection {
    reader: Arc<dyn RegistryReader>,
    writer: Option<Arc<dyn RegistryWriter>>,
}

impl RegistryConnection {
    /// Joins the reader and the writer of a product. Both send their requests through one client.
    #[must_use]
    pub fn new(reader: Arc<dyn RegistryReader>, writer: Arc<dyn RegistryWriter>) -> Self {
        Self { reader, writer: Some(writer) }
    }

    /// Creates the connection to a product that Tagwarden can only read.
    #[must_use]
    pub fn read_only(reader: Arc<dyn RegistryReader>) -> Self {
        Self { reader, writer: None }
    }

    /// Returns the reader.
    #[must_use]
    pub fn reader(&self) -> Arc<dyn RegistryReader> {
        Arc::clone(&self.reader)
    }

    /// Returns the writer, or `None` if Tagwarden can only read the product. This is the only way to one: planning code
    /// holds no lease, so it cannot get a writer.
    #[must_use]
    pub fn writer(&self, _lease: &LeaseToken) -> Option<Arc<dyn RegistryWriter>> {
        self.writer.clone()
    }

    /// Returns the capabilities of the registry behind the connection. Detects its product if the kind leaves these
    /// open.
    pub async fn capabilities(&self) -> Capabilities {
        self.reader.capabilities().await
    }

    /// Asks the registry to delete something that cannot exist, and interprets its response: see
    /// [`RegistryWriter::probe`]. Needs no lease, because nothing can be removed by it.
    pub async fn probe(&self, repository: &RepositoryName, method: RemovalMethod) -> Option<ProbeResponse> {
        match &self.writer {
            Some(writer) => writer.probe(repository, method).await,
            None => Some(ProbeResponse::Unsupported),
        }
    }
}

impl fmt::Debug for RegistryConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryConnection").field("settings", self.reader.settings()).finish_non_exhaustive()
    }
}
