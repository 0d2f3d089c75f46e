//! References in what an address answers.

use std::time::Duration;

use tagwarden::registry::RetryPolicy;
use tagwarden::sources::{
    DocumentFormat, HttpDocument, HttpReferences, SecretHeader, Source as _, SourceError, SourceEvidence,
};
use wiremock::matchers::{header, method, path, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::{describe_claims, now};

const PATIENCE: RetryPolicy = RetryPolicy {
    max_retries: 2,
    initial_delay: Duration::from_millis(1),
    max_delay: Duration::from_millis(2),
    max_total_delay: Duration::from_secs(10),
};
const SECRET: &str = "Bearer hunter2";

fn document(url: &str) -> HttpDocument {
    HttpDocument {
        url: url.parse().unwrap(),
        header: None,
        format: None,
        paths: vec![],
        ca_file: None,
        timeout: Duration::from_secs(5),
    }
}

fn signed(url: &str) -> HttpDocument {
    let header = SecretHeader { name: "authorization".parse().unwrap(), value: SECRET.to_owned().into() };
    HttpDocument { header: Some(header), ..document(url) }
}

async fn ask(document: HttpDocument) -> Result<SourceEvidence, SourceError> {
    let hosts = ["contoso.azurecr.io", "images.contoso.example"].map(String::from).to_vec();
    HttpReferences::new(document, hosts, PATIENCE).query(now()).await
}

fn body(content_type: &str, text: &str) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_raw(text.to_owned(), content_type)
}

/// A server that answers so to everything.
async fn server(answer: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("GET")).respond_with(answer).mount(&server).await;
    server
}

/// Line and image of each claim that an answer makes.
async fn claims(
    answer: ResponseTemplate,
    change: impl FnOnce(HttpDocument) -> HttpDocument,
) -> Result<Vec<String>, String> {
    let server = server(answer).await;
    let asked = ask(change(document(&format!("{}/deployed?key=hunter2", server.uri())))).await;
    let shown = asked.map(|answer| describe_claims(&answer.claims)).map_err(|error| error.chain());
    assert!(!format!("{shown:?}").contains("hunter2"), "{shown:?}");
    shown
}

fn at(paths: &'static [&'static str]) -> impl FnOnce(HttpDocument) -> HttpDocument {
    |document| HttpDocument { paths: paths.iter().map(|path| path.parse().unwrap()).collect(), ..document }
}

fn written(format: DocumentFormat) -> impl FnOnce(HttpDocument) -> HttpDocument {
    move |document| HttpDocument { format: Some(format), ..document }
}

#[tokio::test]
async fn references_are_found_in_whatever_is_answered() {
    let same = |document| document;
    let json = "{\"apps\": [{\"image\": \"contoso.azurecr.io/api:v1\"},\n{\"repository\": \"contoso.azurecr.io/web\", \"tag\": \"v2\"}]}";
    let found = claims(body("application/json", json), same).await.unwrap();
    assert_eq!(found, ["1 ~/api:v1", "2 ~/web:v2"]);
    let found = claims(body("application/x-yaml; charset=utf-8", "a:\n- image: contoso.azurecr.io/api\n"), same).await;
    assert_eq!(found.unwrap(), ["2 ~/api:latest"]);
    let found = claims(body("text/plain", "web\nruns contoso.azurecr.io/web:v1 since monday\n"), same).await;
    assert_eq!(found.unwrap(), ["2 ~/web:v1"]);
    let found = claims(
        body("application/x-ndjson", "{\"i\": \"contoso.azurecr.io/a:1\"}\n{\"i\": \"contoso.azurecr.io/b:1\"}"),
        same,
    )
    .await;
    assert_eq!(found.unwrap(), ["1 ~/a:1", "2 ~/b:1"]);
    // What the settings say stands above the content type.
    let found = claims(body("text/plain", json), written(DocumentFormat::Json)).await.unwrap();
    assert_eq!(found.len(), 2);
    let cut = claims(body("text/plain", &json[..60]), written(DocumentFormat::Json)).await.unwrap_err();
    assert!(cut.contains("cannot be understood"), "{cut}");
}

#[tokio::test]
async fn what_is_not_understood_keeps_what_it_could_mean() {
    let text = r#"{"apps": [{"image": "contoso.azurecr.io/Shop:v1"}, {"image": "contoso.azurecr.io/api:$(TAG)"},
                             {"name": "web", "version": "v7"}]}"#;
    let server = server(body("application/json", text)).await;
    let answer = ask(document(&format!("{}/deployed", server.uri()))).await.unwrap();
    assert_eq!(describe_claims(&answer.claims), ["1 ~/shop:v1"]);
    let open: Vec<&str> = answer.unresolved.iter().map(|one| &*one.text).collect();
    assert_eq!(open, ["contoso.azurecr.io/api:$(TAG)"]);
    assert!(!answer.texts.find("v7").is_empty() && answer.texts.find("v8").is_empty());
    // The settings name the fields, so that nothing else is evidence.
    let named = HttpDocument { paths: vec!["apps[].name".parse().unwrap()], ..document(&server.uri()) };
    let answer = ask(named).await.unwrap();
    assert!(answer.texts.is_empty() && answer.unresolved.is_empty(), "{answer:?}");
}

#[tokio::test]
async fn named_fields_hold_references_of_any_form() {
    let json = r#"{"items": [{"image": "shop/api:v1", "old": ["contoso.azurecr.io/api:v0", null]},
                             {"image": null}, {"image": ""}, {"name": "contoso.azurecr.io/not:this"}]}"#;
    let of = |paths| claims(body("application/json", json), at(paths));
    assert_eq!(of(&["items[].image"]).await.unwrap(), ["1 shop/api:v1"]);
    assert_eq!(of(&["items[].image", "items[].old[]"]).await.unwrap(), ["1 shop/api:v1", "1 ~/api:v0"]);
    let renamed = of(&["items[].image", "items[].images"]).await.unwrap_err();
    assert!(renamed.contains("there is nothing at `items[].images`"), "{renamed}");
    let wrong = of(&["items[]"]).await.unwrap_err();
    assert!(wrong.contains("a map is not a valid image reference"), "{wrong}");
    let text = claims(body("text/plain", "contoso.azurecr.io/a:1"), at(&["image"])).await.unwrap_err();
    assert!(text.contains("nothing at `image`"), "{text}");
    let odd =
        claims(body("application/json", r#"{"image": "contoso.azurecr.io/A"}"#), at(&["image"])).await.unwrap_err();
    assert!(odd.contains("/deployed:1: `contoso.azurecr.io/A` is not a valid image reference"), "{odd}");
}

#[tokio::test]
async fn what_is_no_whole_answer_fails_the_source() {
    let page = "<html>contoso.azurecr.io/api:v1</html>";
    let good = r#"{"image": "contoso.azurecr.io/api:v1"}"#;
    let rows = [
        (ResponseTemplate::new(403), "check the source's `header`"),
        (ResponseTemplate::new(401), "check the source's `header`"),
        (ResponseTemplate::new(404), "check the source's `url`"),
        (ResponseTemplate::new(429).insert_header("retry-after", "3600"), "ask it less often"),
        (ResponseTemplate::new(500), "run again when it is well"),
        (ResponseTemplate::new(204), "only a whole answer"),
        (ResponseTemplate::new(206).set_body_raw(good, "application/json"), "only a whole answer"),
        (body("text/html", page), "with a web page"),
        (body("text/plain", page), "with a web page"),
        (body("application/json", page), "with a web page"),
        (body("application/json", ""), "answered with nothing"),
        (body("text/plain", " \n"), "answered with nothing"),
        (body("application/json", &good[..30]), "cannot be understood: line 1"),
        // Of a file this would be a template.
        (body("application/json", r#"{"a": "{{x}}", "image": "contoso.azurecr.io/api:v1""#), "cannot be understood"),
        (body("application/yaml", "a: ["), "cannot be understood"),
        (ResponseTemplate::new(200).set_body_raw(vec![b'"', 0xff, b'"'], "application/json"), "invalid UTF-8"),
        (ResponseTemplate::new(302), "to nowhere that may be followed"),
        (ResponseTemplate::new(302).insert_header("location", "file:///etc/passwd"), "to nowhere that may be followed"),
        (ResponseTemplate::new(302).insert_header("location", "/deployed"), "redirects"),
        (
            body("application/json", r#"{"generated_at": "soon"}"#),
            "`generated_at` is `soon`, which is not a valid time",
        ),
        (body("application/json", good).insert_header("link", "</deployed?key=hunter2>; rel=next"), "in a circle"),
        (body("application/json", r#"{"nextLink": "https://elsewhere.example/2"}"#), "points to another host"),
    ];
    for (answer, words) in rows {
        let error = claims(answer, |document| document).await.expect_err(words);
        assert!(error.contains(words), "{words:?} is not in: {error}");
    }
}

#[tokio::test]
async fn the_header_goes_to_its_own_host_alone() {
    let (own, other) = (MockServer::start().await, MockServer::start().await);
    let good = || body("application/json", r#"{"image": "contoso.azurecr.io/api:v1"}"#);
    let redirect = |to: String| ResponseTemplate::new(307).insert_header("location", to);
    Mock::given(path("/here")).and(header("authorization", SECRET)).respond_with(good()).mount(&own).await;
    Mock::given(path("/moved")).respond_with(redirect("/here".into())).mount(&own).await;
    Mock::given(path("/away")).respond_with(redirect(format!("{}/there", other.uri()))).mount(&own).await;
    Mock::given(path("/there")).respond_with(good()).mount(&other).await;
    for place in ["here", "moved", "away"] {
        let answer = ask(signed(&format!("{}/{place}", own.uri()))).await.unwrap();
        assert_eq!(describe_claims(&answer.claims), ["1 ~/api:v1"], "{place}");
    }
    let seen = other.received_requests().await.unwrap();
    assert!(seen.len() == 1 && !seen[0].headers.contains_key("authorization"), "{seen:?}");
    assert!(own.received_requests().await.unwrap().iter().all(|request| request.headers.contains_key("authorization")));

    let document = signed(&own.uri());
    assert!(!format!("{document:?}").contains("hunter2"), "{document:?}");
    let broken = SecretHeader { name: "x".parse().unwrap(), value: "hunter2\n".to_owned().into() };
    let error = ask(HttpDocument { header: Some(broken), ..document }).await.unwrap_err();
    assert!(error.chain().contains("does not fit into a header") && !error.chain().contains("hunter2"), "{error}");
}

#[tokio::test]
async fn every_page_is_read() {
    for (links, header) in [
        (["/all?page=2", "/all?page=3"], "link"),
        (["?page=2", "?page=3"], "nextLink"),
        (["/all?page=2", "/all?page=3"], "next"),
        (["2", "3"], "x-ms-continuationtoken"),
    ] {
        let server = MockServer::start().await;
        for number in (1..=3_usize).rev() {
            let next = links.get(number - 1).copied().unwrap_or_default();
            let image = format!("contoso.azurecr.io/api:v{number}");
            let generated = format!("2026-11-2{number}T00:00:00Z");
            let key = if header.starts_with("next") { header } else { "other" };
            let json = serde_json::json!({ "image": image, "generated_at": generated, key: next });
            let mut answer = ResponseTemplate::new(200).set_body_json(json);
            if header == "link" && !next.is_empty() {
                answer =
                    answer.insert_header("link", format!("</first>; rel=\"first\", <{next}>; rel=\"next\"").as_str());
            } else if header.starts_with("x-") {
                answer = answer.insert_header(header, next);
            }
            let mut mock = Mock::given(path("/all"));
            if number > 1 {
                let name = if header.starts_with("x-") { "continuationToken" } else { "page" };
                mock = mock.and(query_param(name, number.to_string()));
            }
            mock.respond_with(answer).with_priority(u8::try_from(4 - number).unwrap()).mount(&server).await;
        }
        let answer = ask(document(&format!("{}/all?top=1", server.uri()))).await.unwrap();
        assert_eq!(describe_claims(&answer.claims), ["1 ~/api:v1", "1 ~/api:v2", "1 ~/api:v3"], "{header}");
        assert_eq!(answer.as_of, Some("2026-11-21T00:00:00Z".parse().unwrap()), "the oldest page counts");
    }
}

#[tokio::test]
async fn the_time_is_the_answers_own_word_else_its_headers() {
    let good = r#"{"image": "contoso.azurecr.io/api:v1"}"#;
    let timed = r#"{"image": "contoso.azurecr.io/api:v1", "generated_at": "2026-11-20T08:00:00Z"}"#;
    let (date, modified) = ("Sun, 22 Nov 2026 08:00:00 GMT", "Sat, 21 Nov 2026 08:00:00 GMT");
    let dated = |text: &str| body("application/json", text).insert_header("date", date);
    for (answer, expected) in [
        (dated(good), "2026-11-22T08:00:00Z"),
        (dated(good).insert_header("last-modified", modified), "2026-11-21T08:00:00Z"),
        (dated(timed).insert_header("last-modified", modified), "2026-11-20T08:00:00Z"),
    ] {
        let server = server(answer).await;
        let answer = ask(document(&server.uri())).await.unwrap();
        assert_eq!(answer.as_of, Some(expected.parse().unwrap()));
    }
}
