//! A compact representation of times for the inventory.

use std::num::NonZeroU32;
use std::str::FromStr;

use jiff::Timestamp;

const NANOSECONDS: i32 = 1_000_000_000;

/// A time, to the nanosecond and over the whole calendar, in twelve bytes with room for "none" in them: half of what
/// an `Option<Timestamp>` takes, of which an inventory has millions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CompactTime {
    /// Whole seconds since 1970, in two halves, so that no padding is needed.
    high: i32,
    low: u32,
    /// One more than the nanoseconds after that.
    nanoseconds: NonZeroU32,
}

impl CompactTime {
    /// 2013-01-01T00:00:00Z. There were no container images before; an earlier time is that of a reproducible build or
    /// a zero value.
    pub const FIRST_IMAGE: Timestamp = Timestamp::constant(1_356_998_400, 0);

    /// Returns the timestamp.
    ///
    /// # Panics
    /// Never: a `CompactTime` is only made from a timestamp.
    #[must_use]
    pub fn timestamp(self) -> Timestamp {
        let seconds = i64::from(self.high) << 32 | i64::from(self.low);
        let nanoseconds = i32::try_from(self.nanoseconds.get() - 1).ok();
        let time = nanoseconds.and_then(|nanoseconds| Timestamp::new(seconds, nanoseconds).ok());
        time.expect("a moment is made of a timestamp")
    }
}

impl From<Timestamp> for CompactTime {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the calendar has 39 bits of seconds")]
    fn from(time: Timestamp) -> Self {
        // Before 1970, both parts are negative.
        let (seconds, rest) = match (time.as_second(), time.subsec_nanosecond()) {
            (seconds, rest) if rest < 0 => (seconds - 1, (rest + NANOSECONDS) as u32),
            (seconds, rest) => (seconds, rest as u32),
        };
        Self { high: (seconds >> 32) as i32, low: seconds as u32, nanoseconds: NonZeroU32::MIN.saturating_add(rest) }
    }
}

impl FromStr for CompactTime {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, jiff::Error> {
        text.parse::<Timestamp>().map(Self::from)
    }
}

impl std::fmt::Debug for CompactTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.timestamp(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_comes_back_and_keeps_its_order() {
        assert_eq!(size_of::<Option<CompactTime>>(), 12);
        let inner = ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59.999999999Z", "2026-11-23T12:00:00.0000001Z"];
        let times: Vec<Timestamp> = [Timestamp::MIN]
            .into_iter()
            .chain(inner.iter().map(|text| text.parse().unwrap()))
            .chain([Timestamp::MAX])
            .collect();
        let moments: Vec<CompactTime> = times.iter().copied().map(CompactTime::from).collect();
        assert_eq!(moments.iter().map(|moment| moment.timestamp()).collect::<Vec<_>>(), times);
        assert!(moments.is_sorted_by(|a, b| a < b), "{moments:?}");
    }
}
