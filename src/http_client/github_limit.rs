//! GitHub's rate limits, which it may answer with 403 as well as with 429
//! (<https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api>).
//!
//! The primary limit counts requests by the hour: none remain, and a header says when they are reset. Secondary limits are
//! about too many at once, and ask for a pause, or for a minute where they do not.

use std::time::Duration;

use http::{HeaderMap, StatusCode};

use super::pauses::{RetryHint, parse_delay, retry_after};
use super::rate_limit::HourlyBudget;
use super::{Response, date};

/// The pause that GitHub asks for where a secondary limit has none of its own.
const SECONDARY_PAUSE: Duration = Duration::from_mins(1);

/// Returns the hint of a response by which one of GitHub's limits is used up.
pub(super) fn hint(response: &Response) -> Option<RetryHint> {
    let is_limit = matches!(response.status, StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS);
    // Other servers mean other things by 403.
    if !is_limit || response.header("x-github-request-id").is_none() {
        return None;
    }
    let wanted = retry_after(&response.headers);
    let exhausted = response.header("x-ratelimit-remaining").map(str::trim) == Some("0");
    let secondary = String::from_utf8_lossy(&response.body).contains("secondary rate limit");
    if response.status == StatusCode::FORBIDDEN && wanted.is_none() && !exhausted && !secondary {
        return None;
    }
    let reset = || {
        let reset = response.header("x-ratelimit-reset").filter(|_| exhausted)?;
        parse_delay(reset.trim(), date(&response.headers))
    };
    let after = wanted.or_else(reset).or(secondary.then_some(SECONDARY_PAUSE));
    Some(RetryHint { after, throttled: true })
}

/// Returns what remains of the hour, as each response of GitHub reports it; `None` for other servers.
pub(super) fn hourly_budget(headers: &HeaderMap) -> Option<HourlyBudget> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u32>().ok();
    headers.get("x-github-request-id")?;
    let (limit, remaining) = (number("x-ratelimit-limit")?, number("x-ratelimit-remaining")?);
    let reset = headers.get("x-ratelimit-reset")?.to_str().ok()?;
    Some(HourlyBudget { limit, remaining, until_reset: parse_delay(reset.trim(), date(headers))? })
}

impl Response {
    /// Returns true if one of GitHub's limits is used up.
    pub(crate) fn hits_github_limit(&self) -> bool {
        hint(self).is_some()
    }
}

#[cfg(test)]
mod tests {
    use http::header::HeaderName;

    use super::*;

    #[test]
    fn limits_are_told_from_missing_rights() {
        let github = ("x-github-request-id", "C0FE:1");
        let now = ("date", "Mon, 21 Sep 2026 14:13:20 GMT");
        let none_left = ("x-ratelimit-remaining", "0");
        let reset = ("x-ratelimit-reset", "1790000030");
        let after = ("retry-after", "7");
        let secondary = r#"{"message":"You have exceeded a secondary rate limit. Please wait a few minutes"}"#;
        let rights = r#"{"message":"Must have admin rights to Repository."}"#;
        let pause = |seconds| Some(Some(Duration::from_secs(seconds)));
        for (status, headers, body, expected) in [
            (403, vec![github, none_left, reset, now], rights, pause(30)),
            (429, vec![github, none_left, reset, now], rights, pause(30)),
            (403, vec![github, none_left, reset, now, after], rights, pause(7)),
            (403, vec![github, after], rights, pause(7)),
            (403, vec![github], secondary, pause(60)),
            (403, vec![github, none_left], rights, Some(None)),
            (429, vec![github], rights, Some(None)),
            (403, vec![github, ("x-ratelimit-remaining", "4999"), reset, now], rights, None),
            (403, vec![github], rights, None),
            (403, vec![none_left, reset, now], rights, None),
            (404, vec![github, none_left], rights, None),
            (200, vec![github, none_left], rights, None),
        ] {
            let headers: HeaderMap = headers
                .into_iter()
                .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
                .collect();
            let (status, body) = (StatusCode::from_u16(status).unwrap(), body.as_bytes().to_vec());
            let response = Response { status, headers, body, request: String::new() };
            assert_eq!(hint(&response).map(|hint| hint.after), expected, "{response:?}");
        }
    }

    #[test]
    fn every_response_tells_what_remains_of_the_hour() {
        let all = [
            ("x-github-request-id", "C0FE:1"),
            ("date", "Mon, 21 Sep 2026 14:13:20 GMT"),
            ("x-ratelimit-limit", "5000"),
            ("x-ratelimit-remaining", "990"),
            ("x-ratelimit-reset", "1790000600"),
        ];
        let headers = |without: &str| -> HeaderMap {
            let kept = all.iter().filter(|(name, _)| *name != without);
            kept.map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
        };
        let budget = HourlyBudget { limit: 5000, remaining: 990, until_reset: Duration::from_mins(10) };
        assert_eq!(hourly_budget(&headers("")), Some(budget));
        for (name, _) in all {
            assert_eq!(hourly_budget(&headers(name)), None, "without {name}");
        }
    }
}
