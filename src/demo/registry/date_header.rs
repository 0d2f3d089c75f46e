//! The `Date` header of a registry.

use axum::http::HeaderValue;
use jiff::SignedDuration;
use jiff::tz::TimeZone;

use crate::apply::Clock;

/// The `Date` header of a registry without the ACR dialect.
#[derive(Clone, Default)]
pub(super) struct DateHeader {
    /// Without a clock it is the real time.
    pub(super) clock: Option<Clock>,
    pub(super) skew: SignedDuration,
}

impl DateHeader {
    pub(super) fn value(&self) -> Option<HeaderValue> {
        let now = self.clock.as_ref()?() + self.skew;
        let date = now.to_zoned(TimeZone::UTC).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        Some(HeaderValue::try_from(date).expect("a date is plain text"))
    }
}

impl std::fmt::Debug for DateHeader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DateHeader").field("skew", &self.skew).finish_non_exhaustive()
    }
}
