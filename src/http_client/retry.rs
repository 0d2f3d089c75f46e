//! Retries: the conditions and the pauses.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use http::StatusCode;
use http::header::HeaderMap;

use super::pauses::{RetryHint, retry_after};
use super::{Request, Response, RetryMode, RetryPolicy, SendError, github_limit};

/// Returns a hint if a request should be retried. A request that may have been processed already is only repeated if
/// that is safe.
pub(super) fn retry_hint(ask: &Request, outcome: &Result<Response, SendError>) -> Option<RetryHint> {
    match outcome {
        Err(cut) => {
            let safe = ask.retry_mode.is_idempotent() || ask.retry_mode == RetryMode::IfUnprocessed && cut.unsent;
            (cut.transient && safe).then_some(RetryHint { after: None, throttled: false })
        }
        Ok(response) if ask.operation.is_some() && is_throttled_operation(response) => {
            Some(RetryHint { after: retry_after(&response.headers), throttled: true })
        }
        Ok(response) => github_limit::hint(response)
            .or_else(|| status_retry_hint(response.status, &response.headers, ask.retry_mode.is_idempotent())),
    }
}

/// Returns true if a response of Amazon's JSON protocol says that there are too many requests: with status 400, and its
/// kind of error in the body.
fn is_throttled_operation(response: &Response) -> bool {
    const THROTTLED: [&str; 4] =
        ["ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded"];
    let kind = response.operation_error().map(|error| error.code);
    response.status == StatusCode::BAD_REQUEST && kind.is_some_and(|kind| THROTTLED.contains(&kind.as_str()))
}

impl RetryMode {
    /// Returns true if the operation is idempotent.
    fn is_idempotent(self) -> bool {
        matches!(self, Self::Always | Self::Once)
    }
}

/// Returns a hint if a request with that response should be retried; `safe` is true for idempotent operations.
pub(crate) fn status_retry_hint(status: StatusCode, headers: &HeaderMap, safe: bool) -> Option<RetryHint> {
    let after = retry_after(headers);
    match status.as_u16() {
        429 => Some(RetryHint { after, throttled: true }),
        503 if after.is_some() => Some(RetryHint { after, throttled: true }),
        408 | 500 | 502 | 503 | 504 if safe => Some(RetryHint { after, throttled: false }),
        _ => None,
    }
}

/// Returns a random part of a duration.
pub(super) fn jitter(most: Duration) -> Duration {
    let mut drawn = ExponentialBuilder::new().with_jitter().with_min_delay(most).build();
    drawn.next().unwrap_or_default().saturating_sub(most)
}

/// The pauses of one request.
pub(crate) struct Backoff {
    exponential: ExponentialBackoff,
    max_delay: Duration,
    remaining: Duration,
}

impl Backoff {
    pub(crate) fn new(retry_policy: RetryPolicy) -> Self {
        let backoff = ExponentialBuilder::new()
            .with_jitter()
            .with_min_delay(retry_policy.initial_delay)
            .with_max_delay(retry_policy.max_delay)
            .with_max_times(retry_policy.max_retries)
            .build();
        Self { exponential: backoff, max_delay: retry_policy.max_delay, remaining: retry_policy.max_total_delay }
    }

    /// Returns the delay before the next attempt; `None` at the end of the retry policy. A requested pause is never
    /// shortened, and the random part on top of it keeps many waiting requests from returning at the same instant.
    pub(crate) fn next_delay(&mut self, hint: RetryHint) -> Option<Duration> {
        let drawn = match self.exponential.next() {
            Some(drawn) => drawn,
            None if hint.throttled => self.max_delay,
            None => return None,
        };
        let pause = hint.after.unwrap_or_default().checked_add(drawn)?;
        self.remaining = self.remaining.checked_sub(pause)?;
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use http::header::HeaderName;
    use url::Url;

    use super::super::{RequestError, RequestErrorKind};
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_by_the_servers_own_clock() {
        let seconds = |n| Some(Duration::from_secs(n));
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        let after = |text| ("retry-after", text);
        let cases = [
            (vec![], None),
            (vec![after("7")], seconds(7)),
            (vec![after(" 7 ")], seconds(7)),
            (vec![after("0")], seconds(0)),
            (vec![after("1.2")], seconds(2)),
            (vec![after("1e2")], seconds(100)),
            (vec![after("86400")], seconds(86400)),
            (vec![after("Sun, 06 Nov 1994 08:50:07 GMT"), date], seconds(30)),
            (vec![after("Sunday, 06-Nov-94 08:50:07 GMT"), date], seconds(30)),
            (vec![after("Sun Nov  6 08:50:07 1994"), date], seconds(30)),
            (vec![after("1994-11-06T08:50:07Z"), date], seconds(30)),
            (vec![after("Sun, 06 Nov 1994 08:49:00 GMT"), date], seconds(0)),
            (vec![after("Sun, 06 Nov 1994 08:50:07 GMT")], None),
            (vec![after("1790000030"), ("date", "Mon, 21 Sep 2026 14:13:20 GMT")], seconds(30)),
            (vec![after("1790000030000"), ("date", "Mon, 21 Sep 2026 14:13:20 GMT")], seconds(30)),
            (vec![after("1790000030")], None),
            (vec![after("99999999999999999999999999999999"), date], Some(Duration::MAX)),
            (vec![("x-retry-after", "9")], seconds(9)),
            (vec![after("3"), ("x-retry-after", "9")], seconds(3)),
            (vec![after("soon"), ("x-retry-after", "9")], seconds(9)),
            (vec![after("3"), after("12"), after("x")], seconds(12)),
            (vec![after("soon")], None),
            (vec![after("")], None),
            (vec![after("-1")], None),
            (vec![after("-0.5")], None),
            (vec![after("NaN")], None),
            (vec![after("inf")], None),
            (vec![after("30s")], None),
        ];
        for (pairs, expected) in cases {
            assert_eq!(retry_after(&headers(&pairs)), expected, "{pairs:?}");
        }
    }

    #[test]
    fn only_what_is_safe_is_repeated() {
        let url: Url = "https://registry.example/v2/".parse().unwrap();
        let response = |status, after: Option<&str>| {
            Ok(Response {
                status: StatusCode::from_u16(status).unwrap(),
                headers: after.map(|after| headers(&[("retry-after", after)])).unwrap_or_default(),
                body: Vec::new(),
                request: String::new(),
            })
        };
        let cut = |unsent| {
            let error = RequestError::new(RequestErrorKind::Connection, String::new());
            Err(SendError { error, unsent, transient: true })
        };
        let (get, delete) = (Request::get(url.clone(), "*/*", 0), Request::probe(url));
        for (outcome, of_get, of_delete) in [
            (response(200, None), false, false),
            (response(401, None), false, false),
            (response(404, None), false, false),
            (response(408, None), true, false),
            (response(429, None), true, true),
            (response(500, None), true, false),
            (response(502, Some("1")), true, false),
            (response(503, None), true, false),
            (response(503, Some("1")), true, true),
            (response(504, None), true, false),
            (cut(true), true, true),
            (cut(false), true, false),
        ] {
            assert_eq!(retry_hint(&get, &outcome).is_some(), of_get, "GET {:?}", outcome.as_ref().ok());
            assert_eq!(retry_hint(&delete, &outcome).is_some(), of_delete, "DELETE {:?}", outcome.as_ref().ok());
        }
    }

    #[test]
    fn patience_ends() {
        let retry_policy = RetryPolicy {
            max_retries: 3,
            initial_delay: Duration::from_millis(10),
            max_delay: Duration::from_millis(40),
            max_total_delay: Duration::from_mins(1),
        };
        let failing = RetryHint { after: None, throttled: false };
        let mut pauses = Backoff::new(retry_policy);
        assert_eq!(std::iter::from_fn(|| pauses.next_delay(failing)).count(), 3);

        let asked = RetryHint { after: Some(Duration::from_secs(25)), throttled: true };
        let mut pauses = Backoff::new(retry_policy);
        assert!(pauses.next_delay(asked).is_some_and(|pause| pause >= Duration::from_secs(25)));
        assert!(pauses.next_delay(asked).is_some());
        assert_eq!(pauses.next_delay(asked), None);

        let throttled = RetryHint { after: None, throttled: true };
        let mut pauses = Backoff::new(retry_policy);
        let tries = std::iter::from_fn(|| pauses.next_delay(throttled)).count();
        assert!((1000..2000).contains(&tries), "only the total bounds throttling: {tries}");
        let forever = RetryHint { after: Some(Duration::MAX), throttled: true };
        assert_eq!(Backoff::new(retry_policy).next_delay(forever), None);
    }
}
