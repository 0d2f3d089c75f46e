//! Signing in to Microsoft Entra ID.

use std::path::PathBuf;

use secrecy::SecretString;

use super::Surroundings;

/// As whom to sign in.
#[derive(Debug, Clone)]
pub enum Identity {
    /// The identity that the platform gives: a virtual machine, an AKS node, a container app, an app service.
    Managed {
        /// Which one, where several are assigned; nothing means the system's own.
        client_id: Option<String>,
    },
    /// The identity of a Kubernetes service account, federated with Entra ID.
    Workload {
        /// The application; nothing means what `AZURE_CLIENT_ID` says.
        client_id: Option<String>,
        /// The tenant; nothing means what `AZURE_TENANT_ID` says.
        tenant_id: Option<String>,
        /// The file with the account's token; nothing means what `AZURE_FEDERATED_TOKEN_FILE` says.
        token_file: Option<PathBuf>,
    },
    /// An application with a secret.
    ClientSecret {
        /// The tenant.
        tenant_id: String,
        /// The application.
        client_id: String,
        /// Its secret.
        secret: SecretString,
    },
    /// Whoever signed in with `az login`.
    AzureCli {
        /// The tenant, where it is not the default one.
        tenant_id: Option<String>,
    },
}

/// An identity and where it signs in.
#[derive(Debug, Clone)]
pub struct Credential {
    /// As whom.
    pub identity: Identity,
    /// In which cloud.
    pub surroundings: Surroundings,
}
