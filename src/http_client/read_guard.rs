//! The one list of requests that may be sent where nothing is to be changed: to registries, clouds and sources.

use http::Method;

use super::{HttpClient, Request, RequestError, RequestErrorKind};

impl Request {
    /// Returns whether the request changes nothing at the other side: a GET, a HEAD, or the POST to a token service that
    /// signing in needs.
    ///
    /// Kubernetes has a client of its own, which adds one operation to these (`SelfSubjectAccessReview`).
    pub(crate) fn is_read_only(&self) -> bool {
        match self.method {
            Method::GET | Method::HEAD => true,
            Method::POST => self.gets_token,
            _ => false,
        }
    }

    /// The refusal to send it where only reading is allowed: a fault of ours, which ends before it does harm.
    pub(crate) fn read_only_error(&self) -> RequestError {
        let message = format!(
            "{} was not sent: only what reads may be sent here; this is a fault in tagwarden",
            self.description()
        );
        RequestError::new(RequestErrorKind::InvalidSettings, message)
    }
}

impl HttpClient {
    /// The same for a writer, or for whoever sends messages: requests that change something may be sent, too.
    pub(crate) fn allow_writes(self) -> Self {
        Self { allows_writes: true, ..self }
    }
}
