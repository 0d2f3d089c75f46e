use jiff::SignedDuration;
use jiff::fmt::rfc2822;
use reqwest::Method;
use serde_json::{Value, json};
use tagwarden::demo::registry::{AcrOptions, Fault, FaultKind, Rate, ServerRateLimits};

use super::super::{header, image, request};
use super::{answer, problem, read, registry, status};
use crate::support::acr::{clock, everything_allowed, start};

const REMAINING: &str = "x-ms-ratelimit-remaining-calls-per-second";

#[tokio::test]
async fn each_kind_of_call_has_a_rate_of_its_own() {
    let three = Some(Rate { per_minute: 6, capacity: 3 });
    let path = "/acr/v1/a/_tags/v1";
    for (limits, method, path) in [
        (ServerRateLimits { read: three, ..ServerRateLimits::default() }, Method::GET, path),
        (ServerRateLimits { write: three, ..ServerRateLimits::default() }, Method::PATCH, path),
        (ServerRateLimits { delete: three, ..ServerRateLimits::default() }, Method::DELETE, path),
        (ServerRateLimits { oauth: three, ..ServerRateLimits::default() }, Method::POST, "/oauth2/exchange"),
        (ServerRateLimits { oauth: three, ..ServerRateLimits::default() }, Method::GET, "/oauth2/token"),
    ] {
        let registry = start(AcrOptions { limits, ..everything_allowed() }).await;
        for remaining in ["0.033333", "0.016666", "0.000000"] {
            let response = answer(&registry, method.clone(), path).await;
            assert_ne!(response.status(), 429, "{method} {path}");
            assert_eq!(header(&response, REMAINING), remaining, "{method} {path}");
        }
        let response = answer(&registry, method.clone(), path).await;
        assert_eq!(response.status(), 429, "{method} {path}");
        let wait: u64 = header(&response, "retry-after").parse().unwrap();
        assert!((9..=10).contains(&wait), "{wait}");
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["errors"][0]["code"], "TOOMANYREQUESTS");
        let other = if method == Method::GET { Method::DELETE } else { Method::GET };
        assert_ne!(status(&registry, other, "/acr/v1/b/_tags/v1").await, 429, "others have rates of their own");
        registry.set_rate_limits(ServerRateLimits::default());
        assert_ne!(status(&registry, method, path).await, 429);
    }
}

#[tokio::test]
async fn without_limits_what_remains_is_told_where_it_was_recorded() {
    let registry = registry().await;
    for (method, path, told) in [
        (Method::DELETE, "/acr/v1/a/_tags/v1", true),
        (Method::POST, "/oauth2/exchange", true),
        (Method::GET, "/acr/v1/a/_tags", false),
    ] {
        let response = answer(&registry, method, path).await;
        assert_eq!(response.headers().contains_key(REMAINING), told, "{path}");
        assert!(!header(&response, "x-ms-correlation-request-id").is_empty());
    }
}

#[tokio::test]
async fn its_clock_can_be_wrong() {
    let registry = registry().await;
    for (ahead, most) in
        [(SignedDuration::ZERO, 2), (SignedDuration::from_mins(7), 2), (SignedDuration::from_mins(-9), 2)]
    {
        registry.set_date_skew(ahead);
        let response = answer(&registry, Method::GET, "/v2/").await;
        let date = header(&response, "date").replace("GMT", "+0000");
        let date = rfc2822::DateTimeParser::new().parse_timestamp(&date).unwrap();
        let off = date.duration_since(clock()()) - ahead;
        assert!(off.as_secs().abs() <= most, "{date} is off by {off}");
    }
}

#[tokio::test]
async fn faults_meet_its_own_routes_too() {
    let registry = registry().await;
    for name in ["a", "b", "c"] {
        registry.put_image(name, "v1", &image("one"));
    }
    registry.inject(Fault::on("/acr/v1/_catalog", FaultKind::CutShort(2)).times(1));
    let response = answer(&registry, Method::GET, "/acr/v1/_catalog?n=2").await;
    assert_eq!(header(&response, "link"), "", "as if that were all");
    assert_eq!(response.json::<Value>().await.unwrap(), json!({ "repositories": ["a", "b"] }));
    registry.inject(Fault::on("/acr/v1/_catalog", FaultKind::LinkLoop).times(1));
    let response = answer(&registry, Method::GET, "/acr/v1/_catalog?n=2&orderby=").await;
    assert_eq!(header(&response, "link"), "</acr/v1/_catalog?n=2&orderby=>; rel=\"next\"");

    registry.inject(Fault::on("/_tags", FaultKind::Firewall).times(1));
    let (status_code, code, message) = problem(&registry, Method::GET, "/acr/v1/a/_tags").await;
    assert_eq!((status_code, code.as_str()), (403, "DENIED"));
    assert!(message.starts_with("client with IP '127.0.0.1' is not allowed access"), "{message}");
    registry.inject(Fault::on("/_tags", FaultKind::HtmlPage).times(1));
    let page = answer(&registry, Method::GET, "/acr/v1/a/_tags").await;
    assert_eq!((page.status().as_u16(), header(&page, "content-type")), (200, "text/html; charset=utf-8"));
    registry.inject(Fault::on("/oauth2/exchange", FaultKind::TooManyRequests { retry_after: Some(3) }).times(1));
    let refused = request(&registry, Method::POST, "/oauth2/exchange").send().await.unwrap();
    assert_eq!((refused.status().as_u16(), header(&refused, "retry-after")), (429, "3"));

    let moved = image("two");
    registry.content(|content| content.put_image("a", None, &moved));
    let digest = moved.digest.clone();
    let change = FaultKind::before_request(move |content| assert!(content.move_tag("a", "v1", &digest)));
    registry.inject(Fault::on("/_tags/v1", change).method(Method::DELETE).times(1));
    let response = answer(&registry, Method::DELETE, "/acr/v1/a/_tags/v1").await;
    assert_eq!(header(&response, "x-ms-int-docker-content-digest"), moved.digest.to_string(), "not what it was before");
    assert_eq!(read(&registry, "/acr/v1/a").await["tagCount"], 0);
}
