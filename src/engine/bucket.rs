//! Days, weeks, months and years as keys, so that one loop serves them all.

use jiff::civil;

use crate::domain::Period;

/// Equal for all days of one period: a year (for weeks the ISO year) and the number of the period in it.
pub(super) type Bucket = (i16, i16);

/// Returns the bucket of a day.
pub(super) fn bucket(period: Period, day: civil::Date) -> Bucket {
    match period {
        Period::Day => (day.year(), day.day_of_year()),
        Period::Week => {
            let week = day.iso_week_date();
            (week.year(), week.week().into())
        }
        Period::Month => (day.year(), day.month().into()),
        Period::Year => (day.year(), 0),
    }
}

/// Returns the bucket of a day in written form: `2026-11-23`, `2026-W48`, `2026-11`, `2026`.
pub(super) fn bucket_text(period: Period, day: civil::Date) -> Box<str> {
    match period {
        Period::Day => day.to_string(),
        Period::Week => {
            let week = day.iso_week_date();
            format!("{:04}-W{:02}", week.year(), week.week())
        }
        Period::Month => format!("{:04}-{:02}", day.year(), day.month()),
        Period::Year => format!("{:04}", day.year()),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weeks_are_iso_weeks_and_cross_the_year() {
        let (old, new) = (civil::date(2024, 12, 30), civil::date(2025, 1, 5));
        assert_eq!(bucket(Period::Week, old), bucket(Period::Week, new));
        assert_eq!(&*bucket_text(Period::Week, old), "2025-W01");
        assert_ne!(bucket(Period::Year, old), bucket(Period::Year, new));
        assert_ne!(bucket(Period::Week, new), bucket(Period::Week, civil::date(2025, 1, 6)));
    }

    #[test]
    fn the_same_number_in_another_year_is_another_bucket() {
        for period in [Period::Day, Period::Week, Period::Month, Period::Year] {
            assert_ne!(bucket(period, civil::date(2024, 3, 4)), bucket(period, civil::date(2025, 3, 4)), "{period:?}");
        }
        assert_eq!(&*bucket_text(Period::Day, civil::date(2025, 3, 4)), "2025-03-04");
        assert_eq!(&*bucket_text(Period::Month, civil::date(2025, 3, 4)), "2025-03");
        assert_eq!(&*bucket_text(Period::Year, civil::date(2025, 3, 4)), "2025");
    }
}
