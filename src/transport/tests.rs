//! What is remembered of answers.

use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;

async fn server(date: &str, age: Option<&str>) -> MockServer {
    let server = MockServer::start().await;
    let mut answer = ResponseTemplate::new(200).insert_header("date", date);
    if let Some(age) = age {
        answer = answer.insert_header("age", age);
    }
    Mock::given(any()).respond_with(answer).mount(&server).await;
    server
}

#[tokio::test]
async fn only_a_writers_transport_sends_what_changes() {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).mount(&server).await;
    let peer = Peer { name: "test".into(), ca_file: None, timeout: Duration::from_secs(5) };
    let transport = || Transport::new(&peer, Patience::default()).unwrap();
    let (reading, changing) = (transport(), transport().changing());
    let get = Ask::get(server.uri().parse().unwrap(), "*/*", 0);
    let of = |method: Method, signs_in| Ask { method, signs_in, ..get.clone() };
    for (ask, reads) in [
        (get.clone(), true),
        (of(Method::HEAD, false), true),
        (of(Method::POST, true), true),
        (of(Method::POST, false), false),
        (of(Method::PUT, true), false),
        (of(Method::PATCH, true), false),
        (of(Method::DELETE, true), false),
        (of(Method::OPTIONS, false), false),
        (Ask::delete(get.url.clone()), false),
        (Ask::probe(get.url.clone()), false),
    ] {
        let before = server.received_requests().await.unwrap().len();
        let sent = reading.send(&ask, None).await;
        assert_eq!(sent.is_ok(), reads, "{ask:?}");
        let arrived = server.received_requests().await.unwrap().len() - before;
        assert_eq!(arrived, usize::from(reads), "{ask:?}");
        changing.send(&ask, None).await.unwrap();
    }
}

#[tokio::test]
async fn the_time_is_that_of_the_servers_own_answers() {
    let own = server("Tue, 01 Jan 2002 12:00:00 GMT", None).await;
    let other = server("Tue, 01 Jan 2030 12:00:00 GMT", None).await;
    let cache = server("Tue, 01 Jan 2002 12:00:00 GMT", Some("7")).await;
    let nonsense = server("Tue, 01 Jan 2002 12:00:00 GMT", Some("old")).await;
    let ask = |server: &MockServer| Ask::get(server.uri().parse().unwrap(), "*/*", 0);
    let transport = |server: &MockServer| {
        let peer = Peer { name: "test".into(), ca_file: None, timeout: Duration::from_secs(5) };
        let transport = Transport::new(&peer, Patience::default()).unwrap();
        transport.paced(&server.uri().parse().unwrap(), Rates::default())
    };
    let noon: Timestamp = "2002-01-01T12:00:00Z".parse().unwrap();
    let past = |one: &Transport| one.clock().unwrap().latest.duration_since(noon).as_secs();

    let one = transport(&own);
    assert_eq!(one.clock(), None);
    one.send(&ask(&other), None).await.unwrap();
    assert_eq!(one.clock(), None, "another host's clock");
    one.send(&ask(&own), None).await.unwrap();
    one.send(&ask(&other), None).await.unwrap();
    assert!((0..60).contains(&past(&one)), "{:?}", one.clock());

    let one = transport(&cache);
    one.send(&ask(&cache), None).await.unwrap();
    assert!((7..67).contains(&past(&one)), "with the time in the cache: {:?}", one.clock());
    let one = transport(&nonsense);
    one.send(&ask(&nonsense), None).await.unwrap();
    assert_eq!(one.clock(), None, "nobody knows how old it is");
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
    let mut dates = Dates::default();
    assert_eq!(dates.at(seconds(1000)), None);
    dates.note(&headers("Tue, 01 Jan 2002 12:00:00 GMT", Some("600")), seconds(1000));
    let kept = ServerTime { earliest: at("2002-01-01T12:10:05Z"), latest: at("2002-01-01T12:10:05Z") };
    assert_eq!(dates.at(seconds(1005)), Some(kept));
    dates.note(&headers("Tue, 01 Jan 2002 13:00:00 GMT", None), seconds(1010));
    dates.note(&headers("Sat, 02 Mar 2002 13:00:10 GMT", None), seconds(1020));
    dates.note(&headers("Tue, 01 Jan 2002 13:00:31 GMT", Some("0")), seconds(1040));
    dates.note(&headers("nonsense", None), seconds(1050));
    let both = ServerTime { earliest: at("2002-01-01T13:01:30Z"), latest: at("2002-03-02T13:01:30Z") };
    assert_eq!(dates.at(seconds(1100)), Some(both));
}

/// A `Date` that is invalid is not one that is missing. Any of its three forms is valid.
#[test]
fn an_invalid_date_is_told_apart_from_a_missing_one() {
    let at = Duration::from_secs(1000);
    let noted = |fields: &[(&'static str, &'static str)]| {
        let mut dates = Dates::default();
        let mut headers = HeaderMap::new();
        for &(name, value) in fields {
            headers.insert(name, HeaderValue::from_static(value));
        }
        dates.note(&headers, at);
        (dates.at(at).is_some(), dates.invalid())
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
    // One good answer is enough.
    let mut dates = Dates::default();
    for date in ["garbage", "Tue, 01 Jan 2002 12:00:00 GMT"] {
        let mut headers = HeaderMap::new();
        headers.insert(DATE, HeaderValue::from_static(date));
        dates.note(&headers, at);
    }
    assert_eq!((dates.at(at).is_some(), dates.invalid()), (true, None));
}
