//! What the embedded registry does where it speaks ACR.

use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;
use tagwarden::demo::registry::EmbeddedRegistry;

use super::request;
use crate::support::acr::{ADMIN, everything_allowed, start};

mod auth;
mod limits;
mod reads;
mod retention_policy;
mod writes;

/// A registry that lets the administrator do everything.
async fn registry() -> EmbeddedRegistry {
    start(everything_allowed()).await
}

fn as_admin(registry: &EmbeddedRegistry, method: Method, path: &str) -> RequestBuilder {
    request(registry, method, path).basic_auth(ADMIN.0, Some(ADMIN.1))
}

async fn answer(registry: &EmbeddedRegistry, method: Method, path: &str) -> Response {
    as_admin(registry, method, path).send().await.unwrap()
}

/// The body of an answer that went well.
async fn read(registry: &EmbeddedRegistry, path: &str) -> Value {
    let response = answer(registry, Method::GET, path).await;
    assert_eq!(response.status(), 200, "{path}");
    response.json().await.unwrap()
}

/// The status and the first error's code and message.
async fn problem(registry: &EmbeddedRegistry, method: Method, path: &str) -> (u16, String, String) {
    let response = answer(registry, method, path).await;
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap_or_default();
    let text = |key: &str| body["errors"][0][key].as_str().unwrap_or_default().to_owned();
    (status, text("code"), text("message"))
}

async fn status(registry: &EmbeddedRegistry, method: Method, path: &str) -> u16 {
    answer(registry, method, path).await.status().as_u16()
}
