//! The assets of pages: style, script and icon, under names that change with their content.

use std::fmt::Write as _;
use std::sync::LazyLock;

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use sha2::{Digest as _, Sha256};

use super::problem::Problem;

/// Name, type and content.
const ASSETS: [(&str, &str, &str); 3] = [
    ("site.css", "text/css; charset=utf-8", include_str!("../../templates/site/site.css")),
    ("site.js", "text/javascript; charset=utf-8", include_str!("../../templates/site/site.js")),
    ("icon.svg", "image/svg+xml", include_str!("../../templates/site/icon.svg")),
];

/// The path of the assets, which depends on their content.
pub(super) static ASSETS_PATH: LazyLock<String> = LazyLock::new(|| {
    let mut hash = Sha256::new();
    for (_, _, content) in ASSETS {
        hash.update(content.as_bytes());
    }
    hash.finalize().iter().take(8).fold("/assets/".to_owned(), |mut path, byte| {
        // Writing to a string cannot fail.
        let _ = write!(path, "{byte:02x}");
        path
    })
});

pub(super) async fn asset(Path((hash, name)): Path<(String, String)>) -> Response {
    match ASSETS.iter().find(|(found, _, _)| *found == name && ASSETS_PATH.ends_with(&hash)) {
        Some((_, kind, content)) => {
            ([(CONTENT_TYPE, *kind), (CACHE_CONTROL, "private, max-age=31536000, immutable")], *content).into_response()
        }
        None => Problem::not_found("there is no such file").into_response(),
    }
}
