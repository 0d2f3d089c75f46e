//! Requests of the distribution dialect: routes, references and accepted types.

use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, header};

use super::auth::{Access, Action};
use super::content::Reference;
use super::response::{ErrorResponse, Query};
use crate::demo::image::media_type;
use crate::domain::{Digest, RepositoryName, TagName};

/// The target of a path of this dialect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    Ping,
    Catalog,
    Tags { name: String },
    Manifest { name: String, reference: String },
    Blob { name: String, digest: String },
    StartUpload { name: String },
    Upload { name: String, id: String },
    Referrers { name: String, digest: String },
}

/// One request with its whole body.
pub(super) struct ApiRequest<'a> {
    pub(super) method: &'a Method,
    pub(super) path: &'a str,
    pub(super) query: &'a Query,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: Bytes,
}

impl Route {
    /// Parses a decoded path, if it is one of this dialect.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let rest = path.strip_prefix("/v2")?;
        let rest = match rest {
            "" | "/" => return Some(Self::Ping),
            "/_catalog" => return Some(Self::Catalog),
            _ => rest.strip_prefix('/')?,
        };
        let (name, route) = if let Some(name) = rest.strip_suffix("/tags/list") {
            (name, Self::Tags { name: name.to_owned() })
        } else if let Some((name, id)) = rest.rsplit_once("/blobs/uploads/") {
            let (owned, id) = (name.to_owned(), id.to_owned());
            (name, if id.is_empty() { Self::StartUpload { name: owned } } else { Self::Upload { name: owned, id } })
        } else if let Some(name) = rest.strip_suffix("/blobs/uploads") {
            (name, Self::StartUpload { name: name.to_owned() })
        } else {
            let (head, last) = rest.rsplit_once('/')?;
            let (name, kind) = head.rsplit_once('/')?;
            let (owned, last) = (name.to_owned(), last.to_owned());
            let route = match kind {
                "manifests" => Self::Manifest { name: owned, reference: last },
                "blobs" => Self::Blob { name: owned, digest: last },
                "referrers" => Self::Referrers { name: owned, digest: last },
                _ => return None,
            };
            (name, route)
        };
        name.parse::<RepositoryName>().is_ok().then_some(route)
    }

    /// Returns its repository.
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::Ping | Self::Catalog => None,
            Self::Tags { name }
            | Self::Manifest { name, .. }
            | Self::Blob { name, .. }
            | Self::StartUpload { name }
            | Self::Upload { name, .. }
            | Self::Referrers { name, .. } => Some(name),
        }
    }

    /// Returns the required access of a request.
    pub(super) fn required_access(&self, method: &Method, query: &Query) -> Vec<Access> {
        let Some(name) = self.name() else {
            return if *self == Self::Catalog { vec![Access::catalog()] } else { Vec::new() };
        };
        let mut needed = Access::of_method(name, method);
        if matches!(self, Self::StartUpload { .. }) {
            needed.extend(query.get("from").map(|from| Access::to(from, Action::Pull)));
        }
        needed
    }
}

pub(super) fn parse_reference(written: &str) -> Result<Reference, ErrorResponse> {
    if written.contains(':') {
        return parse_digest(written).map(Reference::Digest);
    }
    match written.parse::<TagName>() {
        Ok(_) => Ok(Reference::Tag(written.to_owned())),
        Err(error) => Err(ErrorResponse::new(StatusCode::BAD_REQUEST, "TAG_INVALID", error.to_string())),
    }
}

pub(super) fn parse_digest(written: &str) -> Result<Digest, ErrorResponse> {
    written.parse().map_err(|error: crate::domain::InvalidDigest| ErrorResponse::digest_invalid(error.to_string()))
}

/// Refuses OCI manifests to clients that do not name their type, as distribution does; `*/*` does not count.
pub(super) fn refuse_unaccepted(headers: &HeaderMap, kind: &str) -> Result<(), ErrorResponse> {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let named = accepted.flat_map(|value| value.split(',')).any(|range| {
        let range = range.split(';').next().unwrap_or_default();
        range.trim() == kind
    });
    let strict = matches!(kind, media_type::OCI_MANIFEST | media_type::OCI_INDEX);
    if strict && !named {
        let message = format!("{kind} found, but accept header does not support it");
        return Err(ErrorResponse::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", message));
    }
    Ok(())
}
