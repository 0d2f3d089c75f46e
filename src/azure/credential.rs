//! Authentication with Microsoft Entra ID.

use std::collections::HashMap;
use std::error::Error;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use async_trait::async_trait;
use azure_core::cloud::CustomConfiguration;
use azure_core::credentials::{Secret, TokenCredential};
use azure_core::error::ErrorKind;
use azure_core::http::{
    ClientMethodOptions, ClientOptions, HttpClient as AzureHttpClient, RetryOptions, Transport as AzureTransport,
};
use azure_identity::{
    AzureCliCredential, AzureCliCredentialOptions, ClientAssertion, ClientAssertionCredential,
    ClientAssertionCredentialOptions, ClientSecretCredential, ClientSecretCredentialOptions, Executor,
    ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId,
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::AzureEnvironment;
use super::authority::{Authority, authentication_error, refused_authentication};
use crate::domain::{Cause, decode_text};
use crate::http_client::{ClientConfig, HttpClient, RequestError, RequestErrorKind, RetryPolicy, one_line};

/// The identity to authenticate as.
#[derive(Debug, Clone)]
pub enum Identity {
    /// The identity that the platform provides: for a virtual machine, an AKS node, a container app, an app service.
    Managed {
        /// The client id, if several are assigned; `None` means the system-assigned identity.
        client_id: Option<String>,
    },
    /// The identity of a Kubernetes service account, federated with Entra ID. The settings fill in the values that the
    /// webhook of workload identity put into the environment; a missing one fails the authentication.
    Workload {
        /// The application.
        client_id: Option<String>,
        /// The tenant.
        tenant_id: Option<String>,
        /// The file with the account's token.
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
    /// The user who signed in with `az login`.
    AzureCli {
        /// The tenant, if it is not the default one.
        tenant_id: Option<String>,
    },
}

impl Identity {
    /// Returns the word for its kind in the settings.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Managed { .. } => "managed-identity",
            Self::Workload { .. } => "workload-identity",
            Self::ClientSecret { .. } => "client-secret",
            Self::AzureCli { .. } => "azure-cli",
        }
    }
}

/// An identity and its cloud.
#[derive(Debug, Clone)]
pub struct Credential {
    /// The identity.
    pub identity: Identity,
    /// The cloud.
    pub environment: AzureEnvironment,
}

/// Cached tokens of one identity, renewed five minutes before their expiry.
#[derive(Debug)]
pub struct TokenCache {
    credential: Credential,
    client: Arc<dyn AzureHttpClient>,
    state: Mutex<CacheState>,
}

#[derive(Debug)]
struct CacheState {
    token_credential: Arc<dyn TokenCredential>,
    /// The last failure, by scope. Requests that waited during it share it instead of failing as slowly again.
    failures: HashMap<String, (Instant, RequestError)>,
    /// Tokens of the Azure CLI, which `azure_identity` does not cache.
    cli_tokens: HashMap<String, (Instant, SecretString)>,
}

/// The Azure CLI returns tokens that are valid for at least five more minutes.
const CLI_TOKEN_LIFETIME: Duration = Duration::from_mins(4);

impl Credential {
    /// Describes the identity.
    #[must_use]
    pub fn description(&self) -> String {
        let id = |id: &Option<String>| id.clone().unwrap_or_else(|| "unknown".into());
        match &self.identity {
            Identity::Managed { client_id: Some(client_id) } => format!("managed identity {client_id}"),
            Identity::Managed { client_id: None } => "the managed identity of this machine".into(),
            Identity::Workload { client_id, tenant_id, .. } => {
                format!("workload identity {} of tenant {}", id(client_id), id(tenant_id))
            }
            Identity::ClientSecret { tenant_id, client_id, .. } => {
                format!("application {client_id} of tenant {tenant_id}")
            }
            Identity::AzureCli { tenant_id: None } => "the account of `az login`".into(),
            Identity::AzureCli { tenant_id: Some(tenant) } => format!("the account of `az login` in tenant {tenant}"),
        }
    }

    /// Creates the token cache of this identity, without sending a request.
    ///
    /// # Errors
    /// Returns an error if the settings are invalid: a malformed or missing id, an unreadable CA file.
    pub fn connect(&self, patience: RetryPolicy) -> Result<TokenCache, RequestError> {
        let config = ClientConfig {
            name: format!("the authority for {}", self.description()),
            ca_file: self.environment.ca_file.clone(),
            timeout: self.environment.timeout(),
        };
        let transport = match self.identity {
            Identity::Managed { .. } => HttpClient::without_proxy(&config, patience),
            _ => HttpClient::new(&config, patience),
        }?;
        self.connect_with(Arc::new(Authority {
            client: transport,
            retry_policy: patience,
            identity: self.description(),
        }))
    }

    pub(crate) fn connect_with(&self, client: Arc<dyn AzureHttpClient>) -> Result<TokenCache, RequestError> {
        let source = self.token_credential(&client)?;
        let state =
            Mutex::new(CacheState { token_credential: source, failures: HashMap::new(), cli_tokens: HashMap::new() });
        Ok(TokenCache { credential: self.clone(), client, state })
    }

    /// Returns the credential of `azure_identity`, with an empty cache.
    fn token_credential(&self, client: &Arc<dyn AzureHttpClient>) -> Result<Arc<dyn TokenCredential>, RequestError> {
        let client_options = self.client_options(client);
        let missing = |what: &str, key: &str, variable: &str| {
            let what = format!("{what} is not known");
            refused_authentication(&self.description(), RequestErrorKind::InvalidSettings, &what)
                .with_help(format!("set `{key}`, or run where {variable} is set"))
        };
        let source = match &self.identity {
            Identity::Managed { client_id } => {
                let user_assigned_id = client_id.clone().map(UserAssignedId::ClientId);
                ManagedIdentityCredential::new(Some(ManagedIdentityCredentialOptions {
                    user_assigned_id,
                    client_options,
                }))
                .map(|source| source as Arc<dyn TokenCredential>)
            }
            Identity::Workload { client_id, tenant_id, token_file } => {
                let client_id = client_id.clone().ok_or_else(|| missing("its id", "client_id", "AZURE_CLIENT_ID"))?;
                let tenant = tenant_id.clone().ok_or_else(|| missing("its tenant", "tenant_id", "AZURE_TENANT_ID"))?;
                let path = token_file
                    .clone()
                    .ok_or_else(|| missing("its token file", "token_file", "AZURE_FEDERATED_TOKEN_FILE"))?;
                let assertion = TokenFile { path, identity: self.description() };
                let options = ClientAssertionCredentialOptions { client_options };
                ClientAssertionCredential::new(tenant, client_id, assertion, Some(options)).map(|source| source as _)
            }
            Identity::ClientSecret { tenant_id, client_id, secret } => {
                let secret = Secret::new(secret.expose_secret().to_owned());
                let options = ClientSecretCredentialOptions { client_options };
                ClientSecretCredential::new(tenant_id, client_id.clone(), secret, Some(options))
                    .map(|source| source as _)
            }
            Identity::AzureCli { tenant_id } => AzureCliCredential::new(Some(AzureCliCredentialOptions {
                subscription: None,
                tenant_id: tenant_id.clone(),
                executor: Some(Arc::new(TimedExecutor(self.environment.timeout()))),
            }))
            .map(|source| source as _),
        };
        source.map_err(|error| {
            let cause = Cause::foreign(error);
            authentication_error(&self.description(), RequestErrorKind::InvalidSettings, cause)
        })
    }

    /// Returns options with this HTTP client and authority, and without other retries.
    fn client_options(&self, client: &Arc<dyn AzureHttpClient>) -> ClientOptions {
        let surroundings = &self.environment;
        let own = surroundings.authority.as_ref().map(|url| url.as_str().to_owned());
        let mut cloud = CustomConfiguration::default();
        cloud.authority_host = own.unwrap_or_else(|| surroundings.cloud.authority().to_owned());
        ClientOptions {
            transport: Some(AzureTransport::new(client.clone())),
            retry: RetryOptions::none(),
            cloud: Some(Arc::new(cloud.into())),
            ..ClientOptions::default()
        }
    }
}

impl TokenCache {
    /// Describes the identity.
    #[must_use]
    pub fn description(&self) -> String {
        self.credential.description()
    }

    /// Returns a token for a scope such as `https://containerregistry.azure.net/.default`: a cached one that is valid
    /// for five more minutes, else a new one. Concurrent calls share one request to the authority.
    ///
    /// # Errors
    /// Returns an error if the authority refuses or cannot be reached.
    pub async fn token(&self, scope: &str) -> Result<SecretString, RequestError> {
        self.obtain_token(scope, None).await
    }

    /// Returns a token for a scope other than the one that a service refused (401) before its expiry.
    ///
    /// # Errors
    /// Returns an error if the authority refuses or cannot be reached.
    pub async fn renew_token(&self, scope: &str, refused: &SecretString) -> Result<SecretString, RequestError> {
        self.obtain_token(scope, Some(refused)).await
    }

    async fn obtain_token(&self, scope: &str, refused: Option<&SecretString>) -> Result<SecretString, RequestError> {
        let asked = Instant::now();
        let mut state = self.state.lock().await;
        if let Some((_, error)) = state.failures.get(scope).filter(|(at, _)| *at >= asked) {
            return Err(error.clone());
        }
        let mut response = self.fetch(scope, &mut state).await;
        let is_refused = |token: &SecretString| refused.is_some_and(|it| it.expose_secret() == token.expose_secret());
        if response.as_ref().is_ok_and(is_refused) {
            state.cli_tokens.remove(scope);
            state.token_credential = self.credential.token_credential(&self.client)?;
            response = self.fetch(scope, &mut state).await;
        }
        match &response {
            Ok(_) => drop(state.failures.remove(scope)),
            Err(error) => drop(state.failures.insert(scope.to_owned(), (Instant::now(), error.clone()))),
        }
        response
    }

    async fn fetch(&self, scope: &str, state: &mut CacheState) -> Result<SecretString, RequestError> {
        let cli = matches!(self.credential.identity, Identity::AzureCli { .. });
        if let Some((_, token)) = state.cli_tokens.get(scope).filter(|(at, _)| at.elapsed() < CLI_TOKEN_LIFETIME) {
            return Ok(token.clone());
        }
        let token = state
            .token_credential
            .get_token(&[scope], None)
            .await
            .map_err(|error| self.credential.to_request_error(&error))?;
        let token = SecretString::from(token.token.secret().to_owned());
        if cli {
            state.cli_tokens.insert(scope.to_owned(), (Instant::now(), token.clone()));
        }
        Ok(token)
    }
}

impl Credential {
    /// Converts an error of `azure_identity`.
    fn to_request_error(&self, error: &azure_core::Error) -> RequestError {
        if let Some(error) = causes(error).find_map(|cause| cause.downcast_ref::<RequestError>()) {
            return error.clone();
        }
        let last = causes(error).last().map(ToString::to_string).unwrap_or_default();
        let line = last.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
        let failed = |kind, what: &str, advice: &'static str| {
            refused_authentication(&self.description(), kind, what).with_help(advice)
        };
        match &self.identity {
            // The output of the Azure CLI, if it was not a token.
            Identity::AzureCli { .. } if innermost_kind(error) == Some(&ErrorKind::Credential) => {
                if line.ends_with("not found on PATH") {
                    failed(RequestErrorKind::InvalidSettings, "there is no `az` on the path", "install the Azure CLI")
                } else {
                    failed(RequestErrorKind::Denied, &one_line(line), "run `az login`, then try again")
                }
            }
            // Its message could contain parts of a token.
            _ => failed(RequestErrorKind::Malformed, "the answer with the token is not understood", ""),
        }
    }
}

/// Returns an error and its causes, down to the root.
fn causes(error: &azure_core::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(Some(error as &(dyn Error + 'static)), |error: &&(dyn Error + 'static)| (*error).source())
}

/// Returns the kind of the innermost error of `azure_core`.
fn innermost_kind(error: &azure_core::Error) -> Option<&ErrorKind> {
    causes(error).filter_map(|cause| cause.downcast_ref::<azure_core::Error>()).last().map(azure_core::Error::kind)
}

/// The token of a Kubernetes service account. It is replaced long before its expiry, so it is read for each use, about
/// once an hour; the reader of `azure_identity` would cache it for ten minutes.
struct TokenFile {
    path: PathBuf,
    identity: String,
}

impl fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TokenFile").field(&self.path).finish()
    }
}

#[async_trait]
impl ClientAssertion for TokenFile {
    async fn secret(&self, _: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        let read = tokio::fs::read(&self.path).await.and_then(|bytes| Ok(decode_text(bytes)?.trim().to_owned()));
        let kind = RequestErrorKind::InvalidSettings;
        let file = |what: &str| RequestError::new(kind, format!("the token file {} {what}", self.path.display()));
        let problem = match read {
            Ok(token) if !token.is_empty() => return Ok(token),
            Ok(_) => file("is empty"),
            Err(error) => file("cannot be read").caused_by(error),
        };
        let error = authentication_error(&self.identity, kind, problem)
            .with_help("is the pod's service account set up for workload identity?");
        Err(azure_core::Error::new(ErrorKind::Credential, error))
    }
}

/// Runs the Azure CLI with a timeout.
#[derive(Debug)]
struct TimedExecutor(Duration);

#[async_trait]
impl Executor for TimedExecutor {
    async fn run(&self, program: &OsStr, args: &[&OsStr]) -> io::Result<Output> {
        let mut command = tokio::process::Command::new(program);
        let output = command.args(args).stdin(std::process::Stdio::null()).kill_on_drop(true).output();
        tokio::time::timeout(self.0, output).await.unwrap_or_else(|_| {
            Err(io::Error::other(format!("`az` gave no answer in {}", humantime::format_duration(self.0))))
        })
    }
}
