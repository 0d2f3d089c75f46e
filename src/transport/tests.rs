//! What is remembered of answers.

use jiff::SignedDuration;
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
    let ask = |server: &MockServer| Ask::get(server.uri().parse().unwrap(), "*/*", 0);
    let transport = |server: &MockServer| {
        let peer = Peer { name: "test".into(), ca_file: None, timeout: Duration::from_secs(5) };
        let transport = Transport::new(&peer, Patience::default()).unwrap();
        transport.paced(&server.uri().parse().unwrap(), Rates::default())
    };

    let one = transport(&own);
    assert_eq!(one.clock(), None);
    one.send(&ask(&other), None).await.unwrap();
    assert_eq!(one.clock(), None, "another host's clock");
    one.send(&ask(&own), None).await.unwrap();
    one.send(&ask(&other), None).await.unwrap();
    let noon: Timestamp = "2002-01-01T12:00:00Z".parse().unwrap();
    let past = one.clock().unwrap().duration_since(noon);
    assert!(past >= SignedDuration::ZERO && past < SignedDuration::from_mins(1), "{past:?}");

    let one = transport(&cache);
    one.send(&ask(&cache), None).await.unwrap();
    assert_eq!(one.clock(), None, "the time at which it was stored");
}
