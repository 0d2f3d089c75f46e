//! Facts remembered from responses.

use http::Method;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;

async fn server(date: &str, age: Option<&str>) -> MockServer {
    let server = MockServer::start().await;
    let mut response = ResponseTemplate::new(200).insert_header("date", date);
    if let Some(age) = age {
        response = response.insert_header("age", age);
    }
    Mock::given(any()).respond_with(response).mount(&server).await;
    server
}

#[tokio::test]
async fn only_a_writers_transport_sends_what_changes() {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).mount(&server).await;
    let config = ClientConfig { name: "test".into(), ca_file: None, timeout: Duration::from_secs(5) };
    let client = || HttpClient::new(&config, RetryPolicy::default()).unwrap();
    let (reading, changing) = (client(), client().allow_writes());
    let get = Request::get(server.uri().parse().unwrap(), "*/*", 0);
    let of = |method: Method, signs_in| Request { method, gets_token: signs_in, ..get.clone() };
    let at = |path: &str, request: Request| Request { url: request.url.join(path).unwrap(), ..request };
    let operation = |name: &'static str| Request { operation: Some(name), ..of(Method::POST, false) };
    for (request, reads) in [
        (get.clone(), true),
        (of(Method::HEAD, false), true),
        (of(Method::POST, true), true),
        (of(Method::POST, false), false),
        (of(Method::PUT, true), false),
        (at("/latest/api/token", of(Method::PUT, true)), true),
        (at("/latest/api/token", of(Method::PUT, false)), false),
        (operation("DescribeImages"), true),
        (operation("BatchDeleteImage"), false),
        (operation("PutImage"), false),
        (of(Method::PATCH, true), false),
        (of(Method::DELETE, true), false),
        (of(Method::OPTIONS, false), false),
        (Request::delete(get.url.clone()), false),
        (Request::probe(get.url.clone()), false),
    ] {
        let before = server.received_requests().await.unwrap().len();
        let sent = reading.send(&request, None).await;
        assert_eq!(sent.is_ok(), reads, "{request:?}");
        let arrived = server.received_requests().await.unwrap().len() - before;
        assert_eq!(arrived, usize::from(reads), "{request:?}");
        changing.send(&request, None).await.unwrap();
    }
}

#[tokio::test]
async fn the_time_is_that_of_the_servers_own_answers() {
    let own = server("Tue, 01 Jan 2002 12:00:00 GMT", None).await;
    let other = server("Tue, 01 Jan 2030 12:00:00 GMT", None).await;
    let cache = server("Tue, 01 Jan 2002 12:00:00 GMT", Some("7")).await;
    let nonsense = server("Tue, 01 Jan 2002 12:00:00 GMT", Some("old")).await;
    let request = |server: &MockServer| Request::get(server.uri().parse().unwrap(), "*/*", 0);
    let client = |server: &MockServer| {
        let config = ClientConfig { name: "test".into(), ca_file: None, timeout: Duration::from_secs(5) };
        let client = HttpClient::new(&config, RetryPolicy::default()).unwrap();
        client.with_rate_limits(&server.uri().parse().unwrap(), RateLimits::default())
    };
    let noon: Timestamp = "2002-01-01T12:00:00Z".parse().unwrap();
    let past = |one: &HttpClient| one.server_time().unwrap().latest.duration_since(noon).as_secs();

    let one = client(&own);
    assert_eq!(one.server_time(), None);
    one.send(&request(&other), None).await.unwrap();
    assert_eq!(one.server_time(), None, "another host's clock");
    one.send(&request(&own), None).await.unwrap();
    one.send(&request(&other), None).await.unwrap();
    assert!((0..60).contains(&past(&one)), "{:?}", one.server_time());

    let one = client(&cache);
    one.send(&request(&cache), None).await.unwrap();
    assert!((7..67).contains(&past(&one)), "with the time in the cache: {:?}", one.server_time());
    let one = client(&nonsense);
    one.send(&request(&nonsense), None).await.unwrap();
    assert_eq!(one.server_time(), None, "nobody knows how old it is");
}

/// Two machines behind one name, of which one has a wrong clock, and a cache in front of both.
#[test]
fn the_earliest_and_the_latest_answer_are_both_kept_and_a_cache_never_stands_above_them() {
    let headers = |date: &str, age: Option<&str>| {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::DATE, date.parse().unwrap());
        if let Some(age) = age {
            headers.insert(http::header::AGE, age.parse().unwrap());
        }
        headers
    };
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let seconds = Duration::from_secs;
    let mut dates = ServerDates::default();
    assert_eq!(dates.time_at(seconds(1000)), None);
    dates.record(&headers("Tue, 01 Jan 2002 12:00:00 GMT", Some("600")), seconds(1000));
    let kept = ServerTime { earliest: at("2002-01-01T12:10:05Z"), latest: at("2002-01-01T12:10:05Z") };
    assert_eq!(dates.time_at(seconds(1005)), Some(kept));
    dates.record(&headers("Tue, 01 Jan 2002 13:00:00 GMT", None), seconds(1010));
    dates.record(&headers("Sat, 02 Mar 2002 13:00:10 GMT", None), seconds(1020));
    dates.record(&headers("Tue, 01 Jan 2002 13:00:31 GMT", Some("0")), seconds(1040));
    dates.record(&headers("nonsense", None), seconds(1050));
    let both = ServerTime { earliest: at("2002-01-01T13:01:30Z"), latest: at("2002-03-02T13:01:30Z") };
    assert_eq!(dates.time_at(seconds(1100)), Some(both));
}

/// An invalid `Date` differs from a missing one. Any of its three formats is valid.
#[test]
fn an_invalid_date_is_told_apart_from_a_missing_one() {
    let at = Duration::from_secs(1000);
    let noted = |fields: &[(&'static str, &'static str)]| {
        let mut dates = ServerDates::default();
        let mut headers = HeaderMap::new();
        for &(name, value) in fields {
            headers.insert(name, HeaderValue::from_static(value));
        }
        dates.record(&headers, at);
        (dates.time_at(at).is_some(), dates.invalid_header())
    };
    for (fields, expected) in [
        (vec![], (false, None)),
        (vec![("age", "7")], (false, None)),
        (vec![("date", "garbage")], (false, Some("Date"))),
        (vec![("date", "")], (false, Some("Date"))),
        (vec![("date", "Tue, 01 Jan 2002 12:00:00 GMT"), ("age", "old")], (false, Some("Age"))),
        (vec![("date", "Tue, 01 Jan 2002 12:00:00 GMT")], (true, None)),
        (vec![("date", "Tuesday, 01-Jan-02 12:00:00 GMT")], (true, None)),
        (vec![("date", "Tue Jan  1 12:00:00 2002")], (true, None)),
    ] {
        assert_eq!(noted(&fields), expected, "{fields:?}");
    }
    // One valid response is enough.
    let mut dates = ServerDates::default();
    for date in ["garbage", "Tue, 01 Jan 2002 12:00:00 GMT"] {
        let mut headers = HeaderMap::new();
        headers.insert(DATE, HeaderValue::from_static(date));
        dates.record(&headers, at);
    }
    assert_eq!((dates.time_at(at).is_some(), dates.invalid_header()), (true, None));
}

/// A quarter of GitHub's hour is nearly used up: two deletions remain for the next three seconds.
#[tokio::test]
async fn what_github_says_of_its_hour_spreads_deletions() {
    let server = MockServer::start().await;
    let hour = [
        ("x-github-request-id", "C0FE:1"),
        ("date", "Mon, 21 Sep 2026 14:13:20 GMT"),
        ("x-ratelimit-limit", "5000"),
        ("x-ratelimit-remaining", "4"),
        ("x-ratelimit-reset", "1790000003"),
    ];
    let answer =
        hour.iter().fold(ResponseTemplate::new(200), |answer, (name, value)| answer.insert_header(*name, *value));
    Mock::given(any()).respond_with(answer).mount(&server).await;
    let config = ClientConfig { name: "test".into(), ca_file: None, timeout: Duration::from_secs(5) };
    let url: Url = server.uri().parse().unwrap();
    let client = HttpClient::new(&config, RetryPolicy::default()).unwrap();
    let client = client.allow_writes().with_rate_limits(&url, RateLimits::default());
    client.send(&Request::get(url.clone(), "*/*", 0), None).await.unwrap();
    client.send(&Request::delete(url.clone()), None).await.unwrap();
    let began = tokio::time::Instant::now();
    client.send(&Request::delete(url), None).await.unwrap();
    assert!(began.elapsed() > Duration::from_millis(600), "{:?}", began.elapsed());
}
