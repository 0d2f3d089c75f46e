//! Times as pages show them: in the schedule's time zone, with UTC beside it.

use std::fmt;

use askama::filters::HtmlSafe;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::report::format_age;

/// A time for people and for the browser. Its `Display` is HTML: a `time` element, and UTC after it where the zone differs.
#[derive(Debug, Clone)]
pub(super) struct DisplayTime {
    /// RFC 3339 in UTC, to the second.
    exact: String,
    /// To the minute, in the schedule's zone: `2026-07-01 03:00 BST`.
    minute: String,
    /// The same in UTC; `None` where the zone is at UTC then. Without its date where that is the same: `02:00 UTC`.
    utc: Option<String>,
    /// The distance from now, such as `2 hours ago` or `in 1 minute`.
    pub(super) relative: String,
}

impl DisplayTime {
    /// Formats `at` in the zone of `now`.
    pub(super) fn new(at: Timestamp, now: &Zoned) -> Self {
        let seconds = now.timestamp().duration_since(at).as_secs();
        let relative = match seconds {
            0..60 => "just now".to_owned(),
            60.. => format!("{} ago", format_age(seconds)),
            _ => format!("in {}", format_age(-seconds)),
        };
        let (local, utc) = (at.to_zoned(now.time_zone().clone()), at.to_zoned(TimeZone::UTC));
        let format = if local.date() == utc.date() { "%H:%M UTC" } else { "%Y-%m-%d %H:%M UTC" };
        let is_utc = local.offset() == utc.offset();
        Self {
            exact: at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            minute: local.strftime(if is_utc { "%Y-%m-%d %H:%M UTC" } else { "%Y-%m-%d %H:%M %Z" }).to_string(),
            utc: (!is_utc).then(|| utc.strftime(format).to_string()),
            relative,
        }
    }
}

impl fmt::Display for DisplayTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<time datetime=\"{}\">{}</time>", self.exact, self.minute)?;
        self.utc.as_ref().map_or(Ok(()), |utc| write!(f, " <span class=\"dim utc\">{utc}</span>"))
    }
}

// Digits, and abbreviations of the time zone database: letters, digits and signs.
impl HtmlSafe for DisplayTime {}

#[cfg(test)]
mod tests {
    use super::*;

    fn html(at: &str, zone: &str) -> String {
        let now = "2026-11-23T12:00:00Z".parse::<Timestamp>().unwrap().to_zoned(TimeZone::get(zone).unwrap());
        DisplayTime::new(at.parse().unwrap(), &now).to_string()
    }

    #[test]
    fn times_have_the_zone_of_the_schedule_and_utc_beside_it() {
        for (at, zone, expected) in [
            ("2026-11-24T03:00:00Z", "UTC", "<time datetime=\"2026-11-24T03:00:00Z\">2026-11-24 03:00 UTC</time>"),
            (
                "2026-11-24T03:00:00Z",
                "Europe/London",
                "<time datetime=\"2026-11-24T03:00:00Z\">2026-11-24 03:00 UTC</time>",
            ),
            (
                "2026-07-01T02:00:00Z",
                "Europe/London",
                "<time datetime=\"2026-07-01T02:00:00Z\">2026-07-01 03:00 BST</time> <span class=\"dim utc\">02:00 UTC</span>",
            ),
            (
                "2026-11-24T03:00:00Z",
                "America/New_York",
                "<time datetime=\"2026-11-24T03:00:00Z\">2026-11-23 22:00 EST</time> \
                 <span class=\"dim utc\">2026-11-24 03:00 UTC</span>",
            ),
        ] {
            assert_eq!(html(at, zone), expected);
        }
    }

    #[test]
    fn distances_are_from_now() {
        let now = Timestamp::from_second(1_000_000).unwrap().to_zoned(TimeZone::UTC);
        let at = |seconds: i64| DisplayTime::new(Timestamp::from_second(1_000_000 + seconds).unwrap(), &now).relative;
        assert_eq!([at(-7200), at(0), at(90)], ["2 hours ago", "just now", "in 1 minute"]);
    }
}
