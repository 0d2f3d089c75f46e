//! The containers of a host, by an imitation of its engine.

use std::path::PathBuf;
use std::time::Duration;

use axum::Router;
use axum::http::{Uri, header};
use axum::response::IntoResponse as _;
use serde_json::{Value, json};
use tagwarden::domain::Holder;
use tagwarden::registry::RetryPolicy;
use tagwarden::sources::{Docker, DockerSocket, Source as _, SourceError, SourceEvidence};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;

use super::{D, E, now};

const F: &str = "sha256:bbbbc44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const PATIENCE: RetryPolicy = RetryPolicy {
    max_retries: 1,
    initial_delay: Duration::from_millis(1),
    max_delay: Duration::from_millis(2),
    max_total_delay: Duration::from_secs(10),
};

/// A socket at which an engine answers with these containers and images.
pub(crate) fn engine(containers: Value, images: Value) -> (tempfile::TempDir, PathBuf) {
    let (folder, path) = place();
    let answer = move |uri: Uri| async move {
        let body = match uri.to_string().trim_start_matches("http://localhost") {
            "/containers/json?all=true" => containers,
            "/images/json" => images,
            other => panic!("{other}"),
        };
        // What is given as a text is given as it is, behind its status.
        match body.as_str().and_then(|text| text.split_once(' ')) {
            Some((status, body)) => {
                (axum::http::StatusCode::from_u16(status.parse().unwrap()).unwrap(), body.to_owned()).into_response()
            }
            None => ([(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response(),
        }
    };
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    (folder, path)
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("docker.sock");
    (folder, path)
}

async fn ask(path: &std::path::Path) -> Result<SourceEvidence, SourceError> {
    let socket = DockerSocket { path: path.to_owned(), timeout: Duration::from_secs(5) };
    Docker::new(socket, PATIENCE).query(now()).await
}

/// Container and image of each claim.
async fn claims(containers: Value, images: Value) -> Vec<String> {
    let (_folder, path) = engine(containers, images);
    let answer = ask(&path).await.unwrap();
    let mut lines: Vec<String> = answer
        .claims
        .iter()
        .map(|claim| match &*claim.holder {
            Holder::Workload { place, namespace, kind, name, container } => {
                assert_eq!((place.as_str(), kind.as_str()), (path.to_str().unwrap(), "container"));
                assert_eq!((namespace.as_str(), container.as_str()), ("", ""));
                let names = claim.image_id_names().iter().map(|name| name.to_string().trim_end_matches('/').to_owned());
                let names: Vec<String> = names.collect();
                let names = if names.is_empty() { String::new() } else { format!(" as {}", names.join(" ")) };
                format!("{name} {}{names}", claim.image).replace(D, "D").replace(E, "E").replace(F, "F")
            }
            other => panic!("{other:?}"),
        })
        .collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn a_container_claims_everything_that_its_image_goes_by() {
    let containers = json!([
        { "Id": "c1", "Names": ["/api"], "Image": "contoso.azurecr.io/shop/api:v1", "ImageID": D, "State": "running" },
        { "Id": "0123456789abcdef", "Names": [], "Image": E, "ImageID": E, "State": "exited" },
        // The tag was moved away locally, and the image has gone from the list.
        { "Id": "c3", "Names": ["/lost"], "Image": F, "ImageID": F, "State": "exited" },
        { "Id": "c4", "Names": ["/by-id"], "Image": "bbbbc44298fc", "ImageID": F, "State": "created" },
        { "Id": "c5", "Names": ["/gone"], "Image": "contoso.azurecr.io/gone:v1", "ImageID": F, "State": "dead" },
    ]);
    let images = json!([
        { "Id": D, "RepoTags": ["contoso.azurecr.io/shop/api:v1", "api:local"], "RepoDigests": [format!("contoso.azurecr.io/shop/api@{F}")] },
        { "Id": E, "RepoTags": ["<none>:<none>"], "RepoDigests": [format!("contoso.azurecr.io/shop/old@{D}"), "<none>@<none>"] },
        { "Id": "sha256:0", "RepoTags": ["contoso.azurecr.io/unused:v1"], "RepoDigests": null },
    ]);
    assert_eq!(
        claims(containers, images).await,
        [
            "0123456789ab E as contoso.azurecr.io/shop/old",
            "0123456789ab contoso.azurecr.io/shop/old@D",
            "api D as api contoso.azurecr.io/shop/api",
            "api api:local",
            "api contoso.azurecr.io/shop/api:v1",
            "api contoso.azurecr.io/shop/api@F",
            "by-id F",
            "gone F as contoso.azurecr.io/gone",
            "gone contoso.azurecr.io/gone:v1",
            "lost F",
        ]
    );
}

#[tokio::test]
async fn other_engines_write_it_in_other_ways() {
    // Podman writes ids without their algorithm, and full names.
    let bare = D.trim_start_matches("sha256:");
    let containers = json!([
        { "Id": "c1", "Names": ["/web"], "Image": "contoso.azurecr.io/web:v1", "ImageID": bare },
        { "Id": "c2", "Names": ["/folder"], "Image": "", "ImageID": "" },
    ]);
    let images = json!([{ "Id": D, "RepoTags": null, "RepoDigests": [format!("contoso.azurecr.io/web@{E}")] }]);
    assert_eq!(
        claims(containers.clone(), images.clone()).await,
        ["web D as contoso.azurecr.io/web", "web contoso.azurecr.io/web:v1", "web contoso.azurecr.io/web@E"]
    );
    let (_folder, path) = engine(containers, images);
    assert_eq!(ask(&path).await.unwrap().notes, ["container folder was made from no image"]);
    // Docker with containerd's store keeps indexes, and says which manifest of them a container runs.
    let containers = json!([{
        "Id": "c1", "Names": ["/web"], "Image": "contoso.azurecr.io/web:v1", "ImageID": D,
        "ImageManifestDescriptor": { "mediaType": "x", "digest": E, "size": 1 },
    }]);
    let images = json!([{ "Id": D, "RepoTags": ["contoso.azurecr.io/web:v1"], "RepoDigests": [] }]);
    assert_eq!(
        claims(containers, images).await,
        ["web D as contoso.azurecr.io/web", "web E as contoso.azurecr.io/web", "web contoso.azurecr.io/web:v1"]
    );
}

#[tokio::test]
async fn an_invalid_name_is_told_and_fails_nothing() {
    let containers = json!([
        { "Id": "c1", "Names": ["/upper"], "Image": "MyApp:latest", "ImageID": D },
        { "Id": "c2", "Names": ["/odd"], "Image": "A/B c", "ImageID": E },
        { "Id": "c3", "Names": ["/open"], "Image": "contoso.azurecr.io/shop/api:${TAG}", "ImageID": F },
    ]);
    // Said once, although container and image have that name.
    let images = json!([{ "Id": E, "RepoTags": ["/:"] }, { "Id": D, "RepoTags": ["MyApp:latest"] }]);
    assert_eq!(
        claims(containers.clone(), images.clone()).await,
        ["odd E", "open F", "upper D as myapp", "upper myapp:latest"]
    );
    let (_folder, path) = engine(containers, images);
    let answer = ask(&path).await.unwrap();
    let starts =
        ["container odd: `/:`", "container odd: `A/B c`", "container open: `contoso", "container upper: `MyApp"];
    assert_eq!(answer.notes.len(), starts.len());
    for (note, start) in answer.notes.iter().zip(starts) {
        assert!(note.starts_with(start), "{note}");
    }
    assert_eq!(answer.unresolved.len(), 1);
}

#[tokio::test]
async fn half_an_answer_is_none() {
    let sound = || json!([{ "Id": "c1", "Names": ["/a"], "Image": "a:1", "ImageID": D }]);
    for (containers, images, words) in [
        (json!("500 {\"message\":\"oops\"}"), json!([]), "/containers/json answered 500"),
        (sound(), json!("403 forbidden by the proxy"), "let whatever stands before the socket pass"),
        (json!("404 page not found"), json!([]), "check that this is the socket of Docker or Podman"),
        (json!("200 [{\"Id\": \"c1\""), json!([]), "cannot be understood"),
        (json!("200 <html></html>"), json!([]), "web page"),
        (json!({ "message": "hello" }), json!([]), "cannot be understood"),
        (json!([{ "Id": "c1", "Names": ["/a"], "ImageID": D }]), json!([]), "missing field `Image`"),
        (json!([{ "Id": "c1", "Names": ["/a"], "Image": "a:1" }]), json!([]), "missing field `ImageID`"),
        (sound(), json!([{ "RepoTags": [] }]), "missing field `Id`"),
        (
            json!([{ "Id": "c1", "Names": ["/a"], "Image": "a", "ImageID": "sha256:12" }]),
            json!([]),
            "not a valid digest",
        ),
    ] {
        let (_folder, path) = engine(containers, images);
        let error = ask(&path).await.expect_err(words);
        assert!(error.chain().contains(words), "{words:?} is not in: {error}");
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_is_none() {
    let (_folder, path) = place();
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            if stream.read(&mut request).await.is_ok_and(|count| count > 0) {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[]").await.unwrap();
            }
        }
    });
    let error = ask(&path).await.unwrap_err();
    assert_eq!(error.kind, "connection");
    assert!(error.chain().contains("was cut in the answer") && error.chain().contains("docker.sock"), "{error}");
}

#[tokio::test]
async fn a_socket_that_is_none_says_what_to_do() {
    let (folder, path) = place();
    let error = ask(&path).await.unwrap_err();
    assert_eq!(error.kind, "missing");
    assert!(error.chain().contains("docker.sock") && error.chain().contains("start Docker"), "{error}");
    drop(UnixListener::bind(&path).unwrap());
    let error = ask(&path).await.unwrap_err();
    assert!(error.chain().contains("nobody listens there"), "{error}");
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(ask(&file).await.is_err());
}
