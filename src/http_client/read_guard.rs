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

/// The end of the path by which Google's services are asked what an identity may do
/// (<https://cloud.google.com/iam/docs/testing-permissions>).
pub(crate) const PERMISSIONS_PATH_END: &str = ":testIamPermissions";

/// The start and the end of the path by which a workspace of Log Analytics is queried. Its query language can only read
/// (<https://learn.microsoft.com/azure/azure-monitor/logs/api/request-format>).
const LOG_QUERY_PATH: (&str, &str) = ("/v1/workspaces/", "/query");

/// The end of the path by which Artifactory is searched
/// (<https://jfrog.com/help/r/jfrog-rest-apis/artifactory-query-language>).
const ARTIFACTORY_SEARCH_PATH_END: &str = "/api/search/aql";

impl Request {
    /// Returns true if the request changes nothing at the receiver: a GET, a HEAD, the POST to a token service for
    /// authentication (a PUT at the metadata service of Amazon's machines), or an operation that only reads.
    ///
    /// Kubernetes has a separate client, which adds one operation to these (`SelfSubjectAccessReview`).
    pub(crate) fn is_read_only(&self) -> bool {
        match self.method {
            Method::GET | Method::HEAD => true,
            Method::POST => {
                self.gets_token
                    || self.operation.is_some_and(|operation| READ_OPERATIONS.contains(&operation))
                    || self.url.path().ends_with(PERMISSIONS_PATH_END)
                    || self.url.path().ends_with(ARTIFACTORY_SEARCH_PATH_END)
                    || is_log_query(self.url.path())
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

fn is_log_query(path: &str) -> bool {
    let (start, end) = LOG_QUERY_PATH;
    let workspace = path.strip_prefix(start).and_then(|rest| rest.strip_suffix(end));
    workspace.is_some_and(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'))
}

impl HttpClient {
    /// Allows requests that change something, for writers and for senders of messages.
    pub(crate) fn allow_writes(self) -> Self {
        Self { allows_writes: true, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_told_from_changes() {
        let request = |method: Method, url: &str| Request { method, ..Request::get(url.parse().unwrap(), "*/*", 1) };
        let repository = "https://artifactregistry.googleapis.com/v1/projects/p/locations/l/repositories/r";
        for (method, url, is_read_only) in [
            (Method::GET, repository.to_owned(), true),
            (Method::POST, format!("{repository}:testIamPermissions"), true),
            (Method::POST, format!("{repository}:setIamPolicy"), false),
            (Method::POST, format!("{repository}/packages/a/tags?tagId=x:testIamPermissions"), false),
            (Method::DELETE, format!("{repository}:testIamPermissions"), false),
            (Method::POST, "https://contoso.jfrog.io/artifactory/api/search/aql".to_owned(), true),
            (Method::POST, "https://contoso.jfrog.io/artifactory/api/search/aql/x".to_owned(), false),
            (Method::POST, "https://api.loganalytics.us/v1/workspaces/0a-1/query".to_owned(), true),
            (Method::POST, "https://api.loganalytics.us/v1/workspaces/0a-1/purge".to_owned(), false),
            (Method::POST, "https://api.loganalytics.us/v1/workspaces/x/y/query".to_owned(), false),
            (Method::DELETE, "https://api.loganalytics.us/v1/workspaces/0a-1/query".to_owned(), false),
            (Method::PUT, format!("https://169.254.169.254{METADATA_TOKEN_PATH}"), false),
        ] {
            assert_eq!(request(method.clone(), &url).is_read_only(), is_read_only, "{method} {url}");
        }
        let token = format!("https://169.254.169.254{METADATA_TOKEN_PATH}");
        assert!(Request { gets_token: true, ..request(Method::PUT, &token) }.is_read_only());
    }
}
