//! The embedded Amazon ECR itself: what it refuses. Requests are signed by hand, so that they may be wrong.

use tagwarden::demo::registry::EmbeddedRegistry;

use super::{image as build, options, put, start};

/// Sends a request that nobody signed, or somebody wrongly, and returns the kind of error that it got.
async fn ask(registry: &EmbeddedRegistry, authorization: Option<&str>) -> String {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = client
        .post(registry.url())
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amz-target", "AmazonEC2ContainerRegistry_V20150921.DescribeRepositories")
        .header("x-amz-date", "20261120T120000Z")
        .body("{}");
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
    let response = request.send().await.unwrap();
    let body: serde_json::Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    body["__type"].as_str().unwrap_or("none").to_owned()
}

#[tokio::test]
async fn signatures_are_checked() {
    let registry = start(options()).await;
    put(&registry, "shop/api", "v1", &build("one", 9), 5);
    let header = |id: &str, region: &str, signed: &str| {
        format!(
            "AWS4-HMAC-SHA256 Credential={id}/20261120/{region}/ecr/aws4_request, SignedHeaders={signed}, Signature=00"
        )
    };
    let all = "content-type;host;x-amz-date;x-amz-target";
    for (authorization, expected) in [
        (None, "MissingAuthenticationTokenException"),
        (Some("Basic QVdTOng=".to_owned()), "IncompleteSignatureException"),
        (Some(header("AKIDOFNOBODY", "eu-central-1", all)), "UnrecognizedClientException"),
        (Some(header("AKIDOFTHETESTS", "us-east-1", all)), "InvalidSignatureException"),
        (Some(header("AKIDOFTHETESTS", "eu-central-1", "host;x-amz-date")), "InvalidSignatureException"),
        (Some(header("AKIDOFTHETESTS", "eu-central-1", all)), "InvalidSignatureException"),
    ] {
        assert_eq!(ask(&registry, authorization.as_deref()).await, expected, "{authorization:?}");
    }
}
