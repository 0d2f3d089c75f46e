//! The embedded registry keeps the contract that everything else is tested against.

use jiff::Timestamp;
use reqwest::{Method, RequestBuilder, Response};
use tagwarden::demo::blob::Blob;
use tagwarden::demo::image::{Image, ImageSpec, media_type};
use tagwarden::demo::registry::{EmbeddedRegistry, Options};

mod acr;
mod auth;
mod faults;
mod foreign_clients;
mod generated;
mod protocol;
mod skopeo;

fn now() -> Timestamp {
    "2026-11-23T05:00:00Z".parse().unwrap()
}

async fn start(options: Options) -> EmbeddedRegistry {
    EmbeddedRegistry::start(options).await.unwrap()
}

fn image(name: &str) -> Image {
    ImageSpec::new(now(), &[Blob::layer("base", 200_000), Blob::layer(name, 1000)]).build()
}

fn request(registry: &EmbeddedRegistry, method: Method, path: &str) -> RequestBuilder {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let accept =
        [media_type::OCI_MANIFEST, media_type::OCI_INDEX, media_type::DOCKER_MANIFEST, media_type::DOCKER_LIST];
    client.request(method, format!("{}{path}", registry.url())).header("accept", accept.join(", "))
}

async fn get(registry: &EmbeddedRegistry, path: &str) -> Response {
    request(registry, Method::GET, path).send().await.unwrap()
}

async fn delete(registry: &EmbeddedRegistry, path: &str) -> (u16, String) {
    status_and_code(request(registry, Method::DELETE, path).send().await.unwrap()).await
}

/// The status and the code of the first error in the body, if there is one.
async fn status_and_code(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    let body: serde_json::Value = response.json().await.unwrap_or_default();
    (status, body["errors"][0]["code"].as_str().unwrap_or_default().to_owned())
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}
