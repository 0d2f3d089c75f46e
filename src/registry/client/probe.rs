//! Probes of a registry, on request only: it is asked to delete something that cannot exist, and its response is
//! interpreted.
//!
//! Harmless, because the request names nothing: the tag is a UUID drawn for this one probe (74 random bits beside the
//! time) after a prefix that nobody pushes, and the digest is the SHA-256 of such a UUID, content that nobody stored.
//! No registry has a deletion by pattern or prefix that the name could trigger. It is a DELETE all the same and visible
//! in the registry's logs, so no dry run sends one.

use uuid::Uuid;

use super::auth::TokenScope;
use super::connection::HttpConnection;
use crate::domain::{Digest, RemovalMethod, RepositoryName};
use crate::http_client::{Request, Response};
use crate::registry::RegistryErrorKind;

/// The answer of a registry to the deletion of something that cannot exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeResponse {
    /// It searched and reports, with an error of the distribution specification, that the object does not exist: it
    /// supports this deletion. The effect of a deletion by tag on the manifest stays unknown.
    Accepted,
    /// It refuses such deletions.
    Unsupported,
    /// The credentials lack the permission.
    Denied {
        /// The registry's response, and the remedy.
        message: String,
    },
    /// Its response is inconclusive.
    Unclear {
        /// The response, and why it is inconclusive.
        message: String,
    },
}

/// Requests a deletion by tag or by digest in one repository.
pub(in crate::registry) async fn probe(
    http: &HttpConnection,
    repository: &RepositoryName,
    method: RemovalMethod,
) -> ProbeResponse {
    let random = Uuid::now_v7().simple().to_string();
    let reference = match method {
        RemovalMethod::Untag => format!("tagwarden-probe-{random}"),
        RemovalMethod::DeleteManifest => Digest::of(random.as_bytes()).to_string(),
    };
    let url = http.url(&format!("/v2/{repository}/manifests/{reference}"));
    match http.send(&TokenScope::Delete(repository.clone()), &Request::probe(url)).await {
        Ok(response) => interpret(&response),
        Err(error) if error.kind == RegistryErrorKind::Denied => ProbeResponse::Denied { message: error.chain() },
        Err(error) => ProbeResponse::Unclear { message: error.chain() },
    }
}

/// Interprets a response. Only the registry's own errors are conclusive: a web page, a text or an empty body may come
/// from an intermediary.
fn interpret(response: &Response) -> ProbeResponse {
    let unclear = |why: &str| ProbeResponse::Unclear { message: format!("{}{why}", response.description()) };
    let code = response.error_code().filter(|code| is_error_code(code));
    match (response.status.as_u16(), code.as_deref()) {
        (404, Some("MANIFEST_UNKNOWN" | "TAG_UNKNOWN")) => ProbeResponse::Accepted,
        (404, Some(_)) => unclear(", which says nothing of deletions by tag"),
        (400 | 405, Some(_)) => ProbeResponse::Unsupported,
        (401 | 403, _) if !response.is_web_page() => {
            ProbeResponse::Denied { message: response.error(RegistryErrorKind::Denied).chain() }
        }
        (200..=299, _) => unclear(" to the deletion of what does not exist, so its word proves nothing"),
        (400..=499, _) => unclear(", not in a registry's own words: is a proxy in between?"),
        _ => unclear(""),
    }
}

/// Returns true if the text is an error code of the distribution specification: capital letters and underscores.
fn is_error_code(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

    use super::*;

    #[test]
    fn only_a_registrys_own_words_prove_something() {
        let oci = |code: &str| format!("{{\"errors\":[{{\"code\":\"{code}\",\"message\":\"m\"}}]}}");
        let page = "<html><body>404 Not Found</body></html>".to_owned();
        for (status, body, expected) in [
            (404, oci("MANIFEST_UNKNOWN"), "accepted"),
            (404, oci("TAG_UNKNOWN"), "accepted"),
            (404, oci("NAME_UNKNOWN"), "unclear"),
            (404, "404 page not found\n".into(), "unclear"),
            (404, page.clone(), "unclear"),
            (404, String::new(), "unclear"),
            (404, "{}".into(), "unclear"),
            (404, "{\"errors\":[{\"status\":404,\"message\":\"Not Found\"}]}".into(), "unclear"),
            (405, "{\"errors\":[{\"status\":405,\"message\":\"m\"}]}".into(), "unclear"),
            (405, "{\"error\":{\"code\":\"405\"}}".into(), "unclear"),
            (405, oci("UNSUPPORTED"), "unsupported"),
            (400, oci("DIGEST_INVALID"), "unsupported"),
            (405, "Method Not Allowed".into(), "unclear"),
            (405, page.clone(), "unclear"),
            (400, String::new(), "unclear"),
            (401, oci("UNAUTHORIZED"), "denied"),
            (403, oci("DENIED"), "denied"),
            (403, "forbidden".into(), "denied"),
            (403, page.clone(), "unclear"),
            (202, String::new(), "unclear"),
            (200, page, "unclear"),
            (204, String::new(), "unclear"),
            (500, oci("UNKNOWN"), "unclear"),
            (307, String::new(), "unclear"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            let response = Response {
                status: StatusCode::from_u16(status).unwrap(),
                headers,
                body: body.clone().into_bytes(),
                request: "DELETE https://r.example/v2/app/manifests/x".into(),
            };
            let found = match interpret(&response) {
                ProbeResponse::Accepted => "accepted",
                ProbeResponse::Unsupported => "unsupported",
                ProbeResponse::Denied { .. } => "denied",
                ProbeResponse::Unclear { .. } => "unclear",
            };
            assert_eq!(found, expected, "{status} {body}");
        }
    }
}
