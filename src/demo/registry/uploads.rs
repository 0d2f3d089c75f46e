//! Pushes of blobs: in one request, in pieces, or by mounting one of another repository.

use std::collections::BTreeMap;

use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::api_request::{ApiRequest, parse_digest};
use super::content::Content;
use super::response::{ErrorResponse, created_response, header_value};
use crate::demo::blob::Blob;

/// The uploads in progress.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    open: BTreeMap<String, Upload>,
    count: u64,
}

#[derive(Debug)]
struct Upload {
    repository: String,
    bytes: Vec<u8>,
}

const UPLOAD_ID: header::HeaderName = header::HeaderName::from_static("docker-upload-uuid");

impl Uploads {
    /// Handles `POST …/blobs/uploads/`: mounts a blob, takes it whole, or opens an upload.
    pub(super) fn start(
        &mut self,
        call: &ApiRequest<'_>,
        content: &mut Content,
        name: &str,
    ) -> Result<Response, ErrorResponse> {
        if *call.method != Method::POST {
            return Err(ErrorResponse::unsupported());
        }
        if let Some((wanted, from)) = call.query.get("mount").zip(call.query.get("from")) {
            let wanted = parse_digest(wanted)?;
            if content.mount_blob(from, name, &wanted) {
                return Ok(created_response(&format!("/v2/{name}/blobs/{wanted}"), &wanted));
            }
        } else if let Some(wanted) = call.query.get("digest") {
            return store_blob(content, name, wanted, call.body.to_vec());
        }
        self.count += 1;
        let id = format!("00000000-0000-4000-8000-{:012x}", self.count);
        self.open.insert(id.clone(), Upload { repository: name.to_owned(), bytes: Vec::new() });
        Ok(progress_response(StatusCode::ACCEPTED, name, &id, 0))
    }

    /// Handles `PATCH`, `PUT`, `GET` or `DELETE` of an upload: a piece, its end, its progress, or its cancellation.
    pub(super) fn continue_upload(
        &mut self,
        call: &ApiRequest<'_>,
        content: &mut Content,
        name: &str,
        id: &str,
    ) -> Result<Response, ErrorResponse> {
        let unknown =
            || ErrorResponse::new(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry");
        let upload = self.open.get_mut(id).filter(|upload| upload.repository == name).ok_or_else(unknown)?;
        match *call.method {
            Method::PATCH => {
                let range = call.headers.get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
                let start = range.and_then(|range| range.split('-').next()?.parse::<usize>().ok());
                if range.is_some() && start != Some(upload.bytes.len()) {
                    return Ok(progress_response(StatusCode::RANGE_NOT_SATISFIABLE, name, id, upload.bytes.len()));
                }
                upload.bytes.extend_from_slice(&call.body);
                Ok(progress_response(StatusCode::ACCEPTED, name, id, upload.bytes.len()))
            }
            Method::PUT => {
                let wanted = call.query.get("digest").unwrap_or_default();
                let mut bytes = std::mem::take(&mut upload.bytes);
                self.open.remove(id);
                bytes.extend_from_slice(&call.body);
                store_blob(content, name, wanted, bytes)
            }
            Method::GET | Method::HEAD => Ok(progress_response(StatusCode::NO_CONTENT, name, id, upload.bytes.len())),
            Method::DELETE => {
                self.open.remove(id);
                Ok(StatusCode::NO_CONTENT.into_response())
            }
            _ => Err(ErrorResponse::unsupported()),
        }
    }
}

fn store_blob(content: &mut Content, name: &str, wanted: &str, bytes: Vec<u8>) -> Result<Response, ErrorResponse> {
    let wanted = parse_digest(wanted)?;
    if !wanted.matches(&bytes) {
        return Err(ErrorResponse::digest_invalid(wanted.to_string()));
    }
    content.put_blob(name, &Blob::with_digest(wanted.clone(), bytes));
    Ok(created_response(&format!("/v2/{name}/blobs/{wanted}"), &wanted))
}

fn progress_response(status: StatusCode, name: &str, id: &str, length: usize) -> Response {
    let headers = [
        (header::LOCATION, header_value(&format!("/v2/{name}/blobs/uploads/{id}"))),
        (header::RANGE, header_value(&format!("0-{}", length.saturating_sub(1)))),
        (UPLOAD_ID, header_value(id)),
    ];
    (status, headers).into_response()
}
