//! The one list of requests that are allowed if nothing may be changed: to registries, clouds and sources.

use http::Method;

use super::{HttpClient, Request, RequestError, RequestErrorKind};

/// The operations of Amazon ECR that only read. All of its operations are sent by POST.
const READ_OPERATIONS: [&str; 6] = [
    "DescribeRepositories",
    "DescribeImages",
    "BatchGetImage",
    "ListImageReferrers",
    "GetLifecyclePolicy",
    "DescribePullThroughCacheRules",
];

/// The path for session tokens of the metadata service of Amazon's machines, the one service that gives tokens by PUT
/// (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html>).
pub(crate) const METADATA_TOKEN_PATH: &str = "/latest/api/token";

impl Request {
    /// Returns true if the request changes nothing at the receiver: a GET, a HEAD, the POST to a token service for
    /// authentication (a PUT at the metadata service of Amazon's machines), or an operation that only reads.
    ///
    /// Kubernetes has a separate client, which adds one operation to these (`SelfSubjectAccessReview`).
    pub(crate) fn is_read_only(&self) -> bool {
        match self.method {
            Method::GET | Method::HEAD => true,
            Method::POST => {
                self.gets_token || self.operation.is_some_and(|operation| READ_OPERATIONS.contains(&operation))
            }
            Method::PUT => self.gets_token && self.url.path() == METADATA_TOKEN_PATH,
            _ => false,
        }
    }

    /// Returns the error for a request that is not read-only: a bug in Tagwarden, stopped before it does harm.
    pub(crate) fn read_only_error(&self) -> RequestError {
        let message = format!(
            "{} was not sent: only what reads may be sent here; this is a fault in tagwarden",
            self.description()
        );
        RequestError::new(RequestErrorKind::InvalidSettings, message)
    }
}

impl HttpClient {
    /// Allows requests that change something, for writers and for senders of messages.
    pub(crate) fn allow_writes(self) -> Self {
        Self { allows_writes: true, ..self }
    }
}
