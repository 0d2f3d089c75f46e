//! Keys to sign with: from the settings, or from the services that give a workload its identity.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer};
use url::Url;

use super::signature::AccessKeys;
use crate::domain::decode_text;
use crate::http_client::{ClientConfig, HttpClient, METADATA_TOKEN_PATH, Request, Response, RetryPolicy};
use crate::registry::{RegistryError, RegistryErrorKind};

/// An identity of AWS.
#[derive(Debug, Clone)]
pub enum AwsIdentity {
    /// Keys that the settings or the environment hold.
    Keys {
        /// Names the keys.
        access_key_id: String,
        /// The secret.
        secret_access_key: SecretString,
        /// The token that comes with keys that expire.
        session_token: Option<SecretString>,
    },
    /// A role that a token of another issuer stands for, as in a Kubernetes cluster of AWS (IRSA).
    WebIdentity {
        /// The role.
        role_arn: String,
        /// The file with the token, which is renewed while the process runs.
        token_file: PathBuf,
        /// The name of the session in the records of AWS.
        session_name: String,
        /// The token service, if not that of the registry's region.
        token_service: Option<Url>,
    },
    /// The role of a container, as the service beside it tells (ECS, EKS Pod Identity).
    Container {
        /// The address of the service.
        address: Url,
        /// The token to ask it with.
        token: Option<ContainerToken>,
    },
    /// The role of the virtual machine, as its metadata service tells (`IMDSv2`).
    Instance {
        /// The address of the metadata service.
        metadata_service: Url,
    },
}

/// The token for the service beside a container.
#[derive(Debug, Clone)]
pub enum ContainerToken {
    /// The token.
    Text(SecretString),
    /// The file that holds it.
    File(PathBuf),
}

impl AwsIdentity {
    /// Returns the label used for revisions of the settings.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Keys { .. } => "keys",
            Self::WebIdentity { .. } => "web-identity",
            Self::Container { .. } => "container",
            Self::Instance { .. } => "instance",
        }
    }

    /// Returns the public part that names the identity, if the settings know one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Keys { access_key_id, .. } => Some(access_key_id),
            Self::WebIdentity { role_arn, .. } => Some(role_arn),
            Self::Container { .. } | Self::Instance { .. } => None,
        }
    }
}

impl fmt::Display for AwsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keys { access_key_id, .. } => write!(f, "access key {access_key_id}"),
            Self::WebIdentity { role_arn, .. } => write!(f, "role {role_arn}"),
            Self::Container { .. } => f.write_str("the role of the container"),
            Self::Instance { .. } => f.write_str("the role of the machine"),
        }
    }
}

/// Most bytes of an answer with keys.
const MAX_BYTES: usize = 64 * 1024;
/// The metadata service is on the machine's own link, or nowhere.
const METADATA_TIMEOUT: Duration = Duration::from_secs(5);

/// Gets keys from where an identity has them.
#[derive(Debug)]
pub(super) struct KeySource {
    pub(super) identity: AwsIdentity,
    /// The token service of the registry's region.
    pub(super) token_service: Url,
    pub(super) retry: RetryPolicy,
}

impl KeySource {
    /// Returns keys that are valid now. `client` reaches the token service.
    ///
    /// # Errors
    /// Returns an error if there are none.
    pub(super) async fn fetch(&self, client: &HttpClient) -> Result<AccessKeys, RegistryError> {
        match &self.identity {
            AwsIdentity::Keys { access_key_id, secret_access_key, session_token } => Ok(AccessKeys {
                access_key_id: access_key_id.clone(),
                secret_access_key: secret_access_key.clone(),
                session_token: session_token.clone(),
                expires_at: None,
            }),
            AwsIdentity::WebIdentity { role_arn, token_file, session_name, token_service } => {
                let service = token_service.as_ref().unwrap_or(&self.token_service);
                assume_role(client, service, (role_arn, session_name), token_file).await
            }
            AwsIdentity::Container { address, token } => {
                let client = self.metadata_client("the credentials of the container")?;
                let mut headers = HeaderMap::new();
                if let Some(token) = token {
                    headers.insert(AUTHORIZATION, container_token(token)?);
                }
                let request = Request::get(address.clone(), "application/json", MAX_BYTES);
                keys_of(&client.send_with_headers(&request, &headers).await?)
            }
            AwsIdentity::Instance { metadata_service } => {
                let client = self.metadata_client("the metadata service of the machine")?;
                instance_keys(&client, metadata_service).await
            }
        }
    }

    fn metadata_client(&self, name: &str) -> Result<HttpClient, RegistryError> {
        let config = ClientConfig { name: name.to_owned(), ca_file: None, timeout: METADATA_TIMEOUT };
        HttpClient::without_proxy(&config, self.retry)
    }
}

/// Exchanges the token in a file for keys of a role (`AssumeRoleWithWebIdentity`).
async fn assume_role(
    client: &HttpClient,
    service: &Url,
    (role, session): (&str, &str),
    token_file: &Path,
) -> Result<AccessKeys, RegistryError> {
    let token = read_secret(token_file)?;
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("Action", "AssumeRoleWithWebIdentity")
        .append_pair("Version", "2011-06-15")
        .append_pair("RoleArn", role)
        .append_pair("RoleSessionName", session)
        .append_pair("WebIdentityToken", token.expose_secret())
        .finish();
    let content = ("application/x-www-form-urlencoded".into(), form.into_bytes().into());
    let request = Request {
        method: Method::POST,
        content: Some(content),
        gets_token: true,
        ..Request::get(service.clone(), "text/xml", MAX_BYTES)
    };
    let response = client.send(&request, None).await?;
    let body = String::from_utf8_lossy(&response.body);
    if response.status != StatusCode::OK {
        let code = element(&body, "Code").unwrap_or_default();
        let message = format!("{} ({code}): no keys for role {role}", response.description());
        return Err(RegistryError::new(RegistryErrorKind::Denied, crate::http_client::one_line(&message))
            .with_help("check the role's trust policy and the token in `AWS_WEB_IDENTITY_TOKEN_FILE`"));
    }
    let keys = WireKeys {
        access_key_id: element(&body, "AccessKeyId").map(str::to_owned),
        secret_access_key: element(&body, "SecretAccessKey").map(Into::into),
        token: element(&body, "SessionToken").map(Into::into),
        expiration: element(&body, "Expiration").map(str::to_owned),
    };
    keys.into_keys(&response)
}

/// Returns the text of the first element of that name, which has no elements in it.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text.trim())
}

/// Asks the metadata service of a virtual machine, by the session that its second version demands.
async fn instance_keys(client: &HttpClient, service: &Url) -> Result<AccessKeys, RegistryError> {
    const LIFETIME: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
    const TOKEN: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");
    const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
    let at = |path: &str| {
        let mut url = service.clone();
        url.set_path(path);
        Request::get(url, "*/*", MAX_BYTES)
    };
    let request = Request { method: Method::PUT, gets_token: true, ..at(METADATA_TOKEN_PATH) };
    let lifetime = [(LIFETIME, HeaderValue::from_static("300"))].into_iter().collect();
    let session = text_of(&client.send_with_headers(&request, &lifetime).await?)?;
    let session: HeaderMap = [(TOKEN, secret_header(session.expose_secret())?)].into_iter().collect();
    let response = client.send_with_headers(&at(ROLES), &session).await?;
    let roles = text_of(&response)?;
    let Some(role) = roles.expose_secret().lines().next().map(str::trim).filter(|role| !role.is_empty()) else {
        return Err(no_keys(&response, "the machine has no role"));
    };
    keys_of(&client.send_with_headers(&at(&format!("{ROLES}{role}")), &session).await?)
}

fn text_of(response: &Response) -> Result<SecretString, RegistryError> {
    if response.status != StatusCode::OK {
        return Err(no_keys(response, "it tells no credentials"));
    }
    Ok(String::from_utf8_lossy(&response.body).trim().into())
}

/// Keys as the services beside a workload write them.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireKeys {
    access_key_id: Option<String>,
    #[serde(default, deserialize_with = "secret")]
    secret_access_key: Option<SecretString>,
    #[serde(default, deserialize_with = "secret")]
    token: Option<SecretString>,
    expiration: Option<String>,
}

fn secret<'de, D: Deserializer<'de>>(input: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(input)?.map(Into::into))
}

fn keys_of(response: &Response) -> Result<AccessKeys, RegistryError> {
    if response.status != StatusCode::OK {
        return Err(no_keys(response, "it tells no credentials"));
    }
    // Its own error could quote a secret.
    let keys: Option<WireKeys> = serde_json::from_slice(&response.body).ok();
    keys.ok_or_else(|| no_keys(response, "its answer is not understood"))?.into_keys(response)
}

impl WireKeys {
    fn into_keys(self, response: &Response) -> Result<AccessKeys, RegistryError> {
        let expires_at = self.expiration.as_deref().map(str::parse::<Timestamp>).transpose();
        match (self.access_key_id, self.secret_access_key, expires_at) {
            (Some(access_key_id), Some(secret_access_key), Ok(expires_at)) => {
                Ok(AccessKeys { access_key_id, secret_access_key, session_token: self.token, expires_at })
            }
            _ => Err(no_keys(response, "its answer has no keys")),
        }
    }
}

fn no_keys(response: &Response, why: &str) -> RegistryError {
    let message = format!("{} answered {}: {why}", response.request, response.status);
    RegistryError::new(RegistryErrorKind::Denied, message)
        .with_help("check the identity of the machine or the container")
}

fn container_token(token: &ContainerToken) -> Result<HeaderValue, RegistryError> {
    match token {
        ContainerToken::Text(token) => secret_header(token.expose_secret()),
        ContainerToken::File(file) => secret_header(read_secret(file)?.expose_secret()),
    }
}

fn secret_header(text: &str) -> Result<HeaderValue, RegistryError> {
    let mut header = HeaderValue::from_str(text).map_err(|_| {
        RegistryError::new(RegistryErrorKind::InvalidSettings, "a token of AWS has characters that HTTP does not allow")
    })?;
    header.set_sensitive(true);
    Ok(header)
}

/// Reads a token that something else renews.
fn read_secret(file: &Path) -> Result<SecretString, RegistryError> {
    let read = std::fs::read(file).and_then(|bytes| Ok(decode_text(bytes)?));
    let read = read.map_err(|error| {
        let message = format!("the token file {} cannot be read", file.display());
        RegistryError::new(RegistryErrorKind::Denied, message).caused_by(error)
    })?;
    Ok(read.trim().into())
}
