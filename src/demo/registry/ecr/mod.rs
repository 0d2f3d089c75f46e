//! The dialect of Amazon ECR: its JSON API, by signed requests.
//!
//! It follows the published description (botocore, `ecr/2015-09-21`), which also gives limits and names of errors: unknown
//! parameters, pages and lists beyond the limits, and wrong signatures are refused. An image is deleted with its last tag.
//! Nothing can be pushed but by `PutImage`.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use self::access::Problem;
use super::api_request::ApiRequest;
use super::content::Content;
use super::response::json_response;
use crate::apply::Clock;
use crate::domain::Digest;

mod access;
mod operations;
mod parameters;

pub use access::EcrKeys;

/// The name of the API, before the name of an operation.
const TARGET: &str = "AmazonEC2ContainerRegistry_V20150921.";

/// The options of a registry with the API of Amazon ECR.
#[derive(Clone)]
pub struct EcrOptions {
    /// The clock of pushes.
    pub clock: Clock,
    /// The id of the account, twelve digits.
    pub account: String,
    /// The region that requests have to be signed for.
    pub region: String,
    /// The access keys that it knows.
    pub keys: Vec<EcrKeys>,
    /// Operations that no key allows, each in repositories whose names begin so.
    pub denied: Vec<(String, String)>,
    /// Repositories whose tags cannot be moved.
    pub immutable: BTreeSet<String>,
    /// The documents of lifecycle policies, by repository. They are shown and not carried out.
    pub lifecycle: BTreeMap<String, String>,
    /// The prefixes of pull-through caches, with the registry behind each.
    pub caches: BTreeMap<String, String>,
}

impl EcrOptions {
    /// Creates options with that clock, account and region, without keys.
    #[must_use]
    pub fn new(clock: Clock, account: &str, region: &str) -> Self {
        Self {
            clock,
            account: account.to_owned(),
            region: region.to_owned(),
            keys: Vec::new(),
            denied: Vec::new(),
            immutable: BTreeSet::new(),
            lifecycle: BTreeMap::new(),
            caches: BTreeMap::new(),
        }
    }

    /// Adds access keys.
    #[must_use]
    pub fn keys(mut self, keys: EcrKeys) -> Self {
        self.keys.push(keys);
        self
    }
}

impl std::fmt::Debug for EcrOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EcrOptions").field("account", &self.account).finish_non_exhaustive()
    }
}

/// The state of a running registry with the API of Amazon ECR, besides its content.
#[derive(Debug)]
pub struct EcrService {
    /// The options, which may change.
    pub options: EcrOptions,
    /// Simulated elapsed time.
    elapsed: SignedDuration,
    /// Images that were pushed at another time than their manifests were stored here.
    pushed_at: BTreeMap<(String, Digest), Timestamp>,
    pulled_at: BTreeMap<(String, Digest), Timestamp>,
    archived: BTreeSet<(String, Digest)>,
}

impl EcrService {
    pub(super) fn new(options: &EcrOptions) -> Self {
        Self {
            options: options.clone(),
            elapsed: SignedDuration::ZERO,
            pushed_at: BTreeMap::new(),
            pulled_at: BTreeMap::new(),
            archived: BTreeSet::new(),
        }
    }

    /// Returns the registry's time.
    pub(super) fn now(&self) -> Timestamp {
        (self.options.clock)() + self.elapsed
    }

    pub(super) fn advance_time(&mut self, time: SignedDuration) {
        self.elapsed += time;
    }

    /// Ends the sessions of all access keys that have one.
    pub(super) fn expire_keys(&mut self) {
        for keys in &mut self.options.keys {
            keys.has_expired = keys.session_token.is_some();
        }
    }

    /// Sets the time at which an image was pushed.
    pub fn date_image(&mut self, repository: &str, digest: &Digest, at: Timestamp) {
        self.pushed_at.insert((repository.to_owned(), digest.clone()), at);
    }

    /// Puts an image into the archive.
    pub fn archive(&mut self, repository: &str, digest: &Digest) {
        self.archived.insert((repository.to_owned(), digest.clone()));
    }

    /// Handles a request without faults.
    pub(super) fn respond(&mut self, call: &ApiRequest<'_>, host: &str, content: &mut Content) -> Response {
        if call.path.starts_with("/v2/") {
            return challenge(host);
        }
        match self.operate(call, host, content) {
            Ok(body) => json_response(StatusCode::OK, "application/x-amz-json-1.1", &body),
            Err(problem) => problem.into_response(),
        }
    }

    fn operate(&mut self, call: &ApiRequest<'_>, host: &str, content: &mut Content) -> Result<Value, Problem> {
        let text = |name: &str| call.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let operation = text("x-amz-target").strip_prefix(TARGET).unwrap_or_default();
        let json = text(header::CONTENT_TYPE.as_str()) == "application/x-amz-json-1.1";
        if call.method != Method::POST || call.path != "/" || call.query.names().next().is_some() || !json {
            return Err(Problem::new("UnknownOperationException", ""));
        }
        access::check_signature(call, host, &self.options)?;
        self.run(operation, &call.body, content)
    }

    fn check_right(&self, operation: &str, repository: &str) -> Result<(), Problem> {
        let denies =
            |(denied, prefix): &(String, String)| denied == operation && repository.starts_with(prefix.as_str());
        if self.options.denied.iter().any(denies) {
            let (account, region) = (&self.options.account, &self.options.region);
            return Err(Problem::new(
                "AccessDeniedException",
                &format!(
                    "User: arn:aws:sts::{account}:assumed-role/tagwarden is not authorized to perform: ecr:{operation} on \
                     resource: arn:aws:ecr:{region}:{account}:repository/{repository} because no identity-based policy \
                     allows the ecr:{operation} action"
                ),
            ));
        }
        Ok(())
    }
}

/// Returns the response to requests under `/v2/` without credentials.
fn challenge(host: &str) -> Response {
    let challenge = format!("Basic realm=\"https://{host}/\",service=\"ecr.amazonaws.com\"");
    let headers = [(header::WWW_AUTHENTICATE, HeaderValue::try_from(challenge).expect("a host is plain text"))];
    (StatusCode::UNAUTHORIZED, headers, "Not Authorized").into_response()
}
