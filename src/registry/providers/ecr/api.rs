//! Requests to the API of Amazon ECR: each is a POST of JSON whose operation is in a header.

use std::sync::Arc;

use http::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::address::{RegistryPlace, locate};
use crate::domain::RepositoryName;
use crate::http_client::{Request, Response, RetryMode, RetryPolicy};
use crate::registry::client::auth::TokenScope;
use crate::registry::client::connection::{HttpConnection, WritePermit};
use crate::registry::{RegistryError, RegistryErrorKind, RegistrySettings};

/// Most bytes of an answer: a thousand images, each with up to a thousand tags of 300 characters, would be more. Real ones
/// are below a megabyte.
const MAX_BYTES: usize = 128 << 20;
const CONTENT_TYPE: &str = "application/x-amz-json-1.1";

/// The API of one registry, for its reader or its writer.
#[derive(Debug)]
pub(super) struct EcrApi {
    /// As written. The connection has the address of the API instead.
    pub(super) settings: RegistrySettings,
    pub(super) http: HttpConnection,
    pub(super) place: RegistryPlace,
}

/// The rights that operations need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    DescribeRepositories,
    DescribeImages,
    BatchGetImage,
    ListImageReferrers,
    GetLifecyclePolicy,
    DescribePullThroughCacheRules,
    BatchDeleteImage,
    PutImage,
}

impl Operation {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::DescribeRepositories => "DescribeRepositories",
            Self::DescribeImages => "DescribeImages",
            Self::BatchGetImage => "BatchGetImage",
            Self::ListImageReferrers => "ListImageReferrers",
            Self::GetLifecyclePolicy => "GetLifecyclePolicy",
            Self::DescribePullThroughCacheRules => "DescribePullThroughCacheRules",
            Self::BatchDeleteImage => "BatchDeleteImage",
            Self::PutImage => "PutImage",
        }
    }

    fn is_change(self) -> bool {
        matches!(self, Self::BatchDeleteImage | Self::PutImage)
    }
}

impl EcrApi {
    /// The API by these settings; nothing is asked yet.
    ///
    /// # Errors
    /// When the settings cannot work, such as an address that tells no region.
    pub(super) fn new(settings: RegistrySettings, retry_policy: RetryPolicy) -> Result<Self, RegistryError> {
        let (place, endpoint) = locate(&settings)?;
        // The address of the API tells no account, so the host of image references goes along.
        let aliases =
            settings.endpoint.host_str().map(str::to_owned).into_iter().chain(settings.aliases.clone()).collect();
        let http = HttpConnection::new(RegistrySettings { endpoint, aliases, ..settings.clone() }, retry_policy)?;
        Ok(Self { settings, http, place })
    }

    /// The same for a writer.
    pub(super) fn for_writer(&self) -> Self {
        Self { settings: self.settings.clone(), http: self.http.for_writer(), place: self.place.clone() }
    }

    /// Returns the request of an operation, with the account whose registry is meant.
    fn request(&self, operation: Operation, mut parameters: Value) -> Request {
        parameters["registryId"] = json!(self.place.account);
        let retry_mode = match operation {
            Operation::BatchDeleteImage | Operation::PutImage => RetryMode::RecheckFirst,
            Operation::DescribePullThroughCacheRules => RetryMode::Once,
            _ => RetryMode::Always,
        };
        Request {
            method: Method::POST,
            content: Some((Arc::from(CONTENT_TYPE), parameters.to_string().into_bytes().into())),
            retry_mode,
            operation: Some(operation.name()),
            ..Request::get(self.http.url("/"), "*/*", MAX_BYTES)
        }
    }

    /// Sends an operation that only reads, and returns its answer; once more with new keys if those were expired.
    ///
    /// # Errors
    /// When it was refused or failed, in the words of Amazon ECR.
    pub(super) async fn read<T: DeserializeOwned>(
        &self,
        operation: Operation,
        scope: &TokenScope,
        parameters: Value,
    ) -> Result<T, RegistryError> {
        let request = self.request(operation, parameters);
        let mut response = self.http.send(scope, &request).await?;
        if has_expired(&response) && self.http.drop_expired() {
            response = self.http.send(scope, &request).await?;
        }
        match response.status {
            StatusCode::OK => response.parse_json(),
            _ => Err(refusal(&response, operation)),
        }
    }

    /// Reads all pages of a list.
    ///
    /// # Errors
    /// When one of them could not be read, or the list does not end.
    pub(super) async fn read_pages<P: Page + DeserializeOwned>(
        &self,
        operation: Operation,
        scope: &TokenScope,
        parameters: &Value,
        most: u32,
    ) -> Result<Vec<P::Row>, RegistryError> {
        let mut rows = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let mut parameters = parameters.clone();
            parameters["maxResults"] = json!(most);
            if let Some(token) = &token {
                parameters["nextToken"] = json!(token);
            }
            let (found, next) = self.read::<P>(operation, scope, parameters).await?.into_parts();
            rows.extend(found);
            match next.filter(|next| !next.is_empty()) {
                None => return Ok(rows),
                Some(next) if token.as_ref() == Some(&next) => {
                    let message = format!("{}: the list leads back to the page that was just read", operation.name());
                    return Err(RegistryError::new(RegistryErrorKind::Malformed, message));
                }
                Some(next) => token = Some(next),
            }
        }
    }

    /// Sends a change without waiting before, and returns its answer if it has status 200.
    ///
    /// # Errors
    /// When it was refused or failed. [`RegistryErrorKind::TokenRenewed`] if the keys had expired and there are new ones.
    pub(super) async fn change<T: DeserializeOwned>(
        &self,
        operation: Operation,
        (scope, parameters): (&TokenScope, Value),
        clearance: WritePermit,
    ) -> Result<T, RegistryError> {
        let response = self.http.send_with_permit(scope, &self.request(operation, parameters), clearance).await?;
        if has_expired(&response) && self.http.drop_expired() {
            let error = RegistryError::new(RegistryErrorKind::TokenRenewed, response.description());
            return Err(error.with_help("there are new keys"));
        }
        match response.status {
            StatusCode::OK => response.parse_json(),
            _ => Err(refusal(&response, operation)),
        }
    }
}

/// A page of a list.
pub(super) trait Page {
    type Row;

    /// The rows, and what leads to the next page.
    fn into_parts(self) -> (Vec<Self::Row>, Option<String>);
}

/// Returns the parameters of an operation on a repository.
pub(super) fn in_repository(repository: &RepositoryName, rest: impl Serialize) -> Value {
    let mut parameters = serde_json::to_value(rest).unwrap_or_default();
    parameters["repositoryName"] = json!(repository.as_str());
    parameters
}

fn has_expired(response: &Response) -> bool {
    let code = response.operation_error().map(|error| error.code).unwrap_or_default();
    !response.status.is_success() && matches!(code.as_str(), "ExpiredTokenException" | "ExpiredToken")
}

/// Returns the kind of error of an answer without status 200, such as `RepositoryNotFoundException`.
pub(super) fn refusal(response: &Response, operation: Operation) -> RegistryError {
    let code = response.operation_error().map(|error| error.code).unwrap_or_default();
    let name = operation.name();
    let unknown = if operation.is_change() { RegistryErrorKind::Unauthenticated } else { RegistryErrorKind::Denied };
    let (kind, help) = match code.as_str() {
        "RepositoryNotFoundException" | "ImageNotFoundException" | "LifecyclePolicyNotFoundException" => {
            (RegistryErrorKind::NotFound, String::new())
        }
        "AccessDeniedException" | "AccessDenied" => {
            (RegistryErrorKind::Denied, format!("the identity needs the right `ecr:{name}`: check its IAM policy"))
        }
        "UnrecognizedClientException" | "InvalidClientTokenId" | "MissingAuthenticationTokenException" => {
            (unknown, "AWS does not know the access key: check `auth`".to_owned())
        }
        "InvalidSignatureException" | "SignatureDoesNotMatch" | "IncompleteSignatureException" => {
            let help = "the secret does not belong to the access key, or the clock of this machine is wrong";
            (unknown, help.to_owned())
        }
        "ExpiredTokenException" | "ExpiredToken" => {
            (unknown, "the session of the keys is over: check `auth`".to_owned())
        }
        "ThrottlingException" | "Throttling" | "TooManyRequestsException" | "RequestLimitExceeded" => {
            let help = "lower the registry's `concurrency` or `rates`, or run when it is less busy";
            (RegistryErrorKind::Throttled, help.to_owned())
        }
        "ImageTagAlreadyExistsException" => (
            RegistryErrorKind::Locked,
            "the repository's tags are immutable, and the tag is at another image".to_owned(),
        ),
        "LayersNotFoundException" | "ReferencedImagesNotFoundException" => (
            RegistryErrorKind::Status(response.status.as_u16()),
            "what the image consists of was deleted; push it again".to_owned(),
        ),
        // The page of a proxy or a firewall says nothing of the registry.
        "" if !response.status.is_server_error() => {
            (RegistryErrorKind::Malformed, "these are not the words of Amazon ECR: check `endpoint`".to_owned())
        }
        _ => return response.status_error(),
    };
    RegistryError::new(kind, response.description()).with_help(help)
}
