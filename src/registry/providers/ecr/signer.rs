//! Signs the requests to one registry, with keys that are renewed before they expire.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex as AsyncMutex;

use super::credentials::KeySource;
use super::signature::{AccessKeys, SigningScope, Unsigned, amz_date, authorization};
use crate::http_client::{HttpClient, Request, RequestSigner};
use crate::registry::client::auth::TokenScope;
use crate::registry::client::authenticator::Authenticate;
use crate::registry::{RegistryError, RegistryErrorKind};

/// The name of the API, before the name of an operation.
const TARGET: &str = "AmazonEC2ContainerRegistry_V20150921";
/// Keys that are valid for less than this are renewed.
const RENEWAL_MARGIN: SignedDuration = SignedDuration::from_mins(5);
/// Keys that were just renewed are used, however short they are valid.
const RENEWAL_PAUSE: SignedDuration = SignedDuration::from_mins(1);

/// The keys in use, and when they came.
#[derive(Debug, Clone)]
struct KeysInUse {
    keys: Arc<AccessKeys>,
    since: Timestamp,
}

impl KeysInUse {
    fn is_fresh(&self, now: Timestamp) -> bool {
        self.keys
            .expires_at
            .is_none_or(|end| end > now + RENEWAL_MARGIN || self.since + RENEWAL_PAUSE > now && end > now)
    }

    fn is_valid(&self, now: Timestamp) -> bool {
        self.keys.expires_at.is_none_or(|end| end > now)
    }
}

/// Signs the requests of a registry's reader and writer.
#[derive(Debug, Clone)]
pub(super) struct EcrSigner(Arc<Signing>);

#[derive(Debug)]
struct Signing {
    source: KeySource,
    region: String,
    current: Mutex<Option<KeysInUse>>,
    /// Held by the one that renews for all.
    renewal: AsyncMutex<()>,
}

impl EcrSigner {
    pub(super) fn new(source: KeySource, region: String) -> Self {
        Self(Arc::new(Signing { source, region, current: Mutex::default(), renewal: AsyncMutex::default() }))
    }

    fn current(&self) -> Option<KeysInUse> {
        self.0.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Drops keys that the registry does not accept any more. Returns false if there are no others to be had.
    fn drop_keys(&self) -> bool {
        let mut current = self.0.current.lock().unwrap_or_else(PoisonError::into_inner);
        let renewable = current.as_ref().is_some_and(|current| current.keys.expires_at.is_some());
        if renewable {
            *current = None;
        }
        renewable
    }

    /// Waits for keys that are valid for a while.
    async fn renew(&self, client: &HttpClient) -> Result<(), RegistryError> {
        if self.current().is_some_and(|current| current.is_fresh(now())) {
            return Ok(());
        }
        let _turn = self.0.renewal.lock().await;
        let known = self.current();
        if known.as_ref().is_some_and(|current| current.is_fresh(now())) {
            return Ok(());
        }
        match self.0.source.fetch(client).await {
            Ok(keys) => {
                let renewed = KeysInUse { keys: Arc::new(keys), since: now() };
                *self.0.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(renewed);
                Ok(())
            }
            Err(error) if known.is_some_and(|current| current.is_valid(now())) => {
                tracing::warn!(error = error.chain(), "the keys of AWS could not be renewed, and are still valid");
                Ok(())
            }
            Err(error) => Err(error.within("no keys to sign requests to Amazon ECR with")),
        }
    }
}

/// Returns the time of a signature: AWS refuses those of another one.
#[expect(clippy::disallowed_methods, reason = "a signature has the time at which it is made, not that of the run")]
fn now() -> Timestamp {
    Timestamp::now()
}

impl RequestSigner for EcrSigner {
    fn headers(&self, request: &Request) -> Result<HeaderMap, RegistryError> {
        let Some(KeysInUse { keys, .. }) = self.current() else {
            let message = format!("{} was not sent: there are no keys to sign it with", request.description());
            return Err(RegistryError::new(RegistryErrorKind::Denied, message));
        };
        let date = amz_date(now());
        let target = request.operation.map(|operation| format!("{TARGET}.{operation}"));
        let (content_type, body) = match &request.content {
            Some((content_type, body)) => (Some(&**content_type), &**body),
            None => (None, &[][..]),
        };
        let token = keys.session_token.as_ref().map(secrecy::ExposeSecret::expose_secret);
        let covered =
            [("content-type", content_type), ("x-amz-security-token", token), ("x-amz-target", target.as_deref())];
        let covered: Vec<(&str, &str)> = covered.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        let unsigned = Unsigned { method: request.method.as_str(), url: &request.url, headers: &covered, body };
        let scope = SigningScope { region: &self.0.region, service: "ecr" };
        let signature = authorization(&unsigned, &keys, scope, &date);
        let mut headers = HeaderMap::new();
        let signed = [("authorization", Some(&*signature)), ("x-amz-date", Some(&*date))];
        let others =
            covered.iter().filter(|(name, _)| *name != "content-type").map(|(name, value)| (*name, Some(*value)));
        for (name, value) in signed.into_iter().chain(others) {
            let parsed =
                HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_str(value.unwrap_or_default()).ok());
            let Some((name, mut value)) = parsed else {
                let message = "the keys of AWS have characters that HTTP does not allow".to_owned();
                return Err(RegistryError::new(RegistryErrorKind::InvalidSettings, message));
            };
            value.set_sensitive(name == AUTHORIZATION || name == "x-amz-security-token");
            headers.insert(name, value);
        }
        Ok(headers)
    }
}

#[async_trait]
impl Authenticate for EcrSigner {
    fn identity(&self) -> String {
        self.0.source.identity.to_string()
    }

    fn signer(&self) -> Option<Arc<dyn RequestSigner>> {
        Some(Arc::new(self.clone()))
    }

    /// Sees to it that there are keys: each attempt of a request is signed by itself.
    async fn authorization(&self, client: &HttpClient, _: &TokenScope) -> Result<Option<HeaderValue>, RegistryError> {
        self.renew(client).await.map(|()| None)
    }

    fn drop_expired(&self) -> bool {
        self.drop_keys()
    }
}
