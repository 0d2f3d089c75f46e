//! When removals are held back: windows and freezes by clocks that change.

use jiff::Timestamp;
use tagwarden::config::Schedule;

use super::at;
use crate::config;

fn schedule(lines: &str) -> Schedule {
    let text = format!(
        "[schedule]\n{lines}\n[registries.contoso]\nkind = \"distribution\"\nendpoint = \"https://contoso.example\"\n"
    );
    config::load(&text, &[]).schedule
}

fn is_open(schedule: &Schedule, time: &str) -> bool {
    schedule.blocked_by(at(time)).is_none()
}

#[test]
fn a_window_past_midnight_belongs_to_the_day_it_begins() {
    // 23 November 2026 is a Monday.
    let nights = schedule("window = { days = [\"mon-fri\"], hours = \"22:00-05:00\" }");
    for (time, open) in [
        ("2026-11-23T04:59:00Z", false), // of Sunday
        ("2026-11-23T21:59:59Z", false),
        ("2026-11-23T22:00:00Z", true),
        ("2026-11-24T04:59:59Z", true),
        ("2026-11-24T05:00:00Z", false),
        ("2026-11-28T04:59:00Z", true), // Saturday morning, of Friday
        ("2026-11-28T05:00:00Z", false),
        ("2026-11-28T22:00:00Z", false),
    ] {
        assert_eq!(is_open(&nights, time), open, "{time}");
    }
    let words = |time: &str| nights.blocked_by(at(time)).unwrap().to_string();
    assert_eq!(
        words("2026-11-28T12:00:00Z"),
        "outside the window mon-fri 22:00-05:00, which opens Mon 2026-11-30 22:00 UTC"
    );
    let closes = |schedule: &Schedule, time: &str| {
        schedule
            .next_block(at(time))
            .map(|(end, block)| (end.to_string(), block.to_string().split(',').next().unwrap().to_owned()))
    };
    let window = "outside the window mon-fri 22:00-05:00".to_owned();
    assert_eq!(closes(&nights, "2026-11-23T23:00:00Z"), Some(("2026-11-24T05:00:00Z".into(), window)));
    // One that leads into the next never closes; a freeze closes it.
    let days = schedule("window = { hours = \"00:00-24:00\" }");
    assert_eq!(closes(&days, "2026-11-23T23:00:00Z"), None);
    let frozen = schedule("freeze = [{ from = 2026-11-25, to = 2026-11-26, reason = \"move\" }]");
    let freeze = "frozen until the end of 2026-11-26: move".to_owned();
    assert_eq!(closes(&frozen, "2026-11-23T23:00:00Z"), Some(("2026-11-25T00:00:00Z".into(), freeze)));
    assert_eq!(closes(&schedule("missed = \"once\""), "2026-11-23T23:00:00Z"), None);
}

#[test]
fn a_window_goes_by_the_clocks_of_its_zone() {
    // London, 25 October 2026: 01:00 to 02:00 comes twice; 29 March: not at all.
    let early = schedule("timezone = \"Europe/London\"\nwindow = { hours = \"01:00-02:00\" }");
    for (time, open) in [
        ("2026-10-25T00:00:00Z", true),
        ("2026-10-25T00:59:59Z", true),
        ("2026-10-25T01:30:00Z", true), // the second time, until it is really two
        ("2026-10-25T02:00:00Z", false),
        ("2026-03-29T00:59:00Z", false),
        ("2026-03-29T01:00:00Z", false),
    ] {
        assert_eq!(is_open(&early, time), open, "{time}");
    }
    let weekend = schedule("timezone = \"Australia/Lord_Howe\"\nwindow = { days = [\"sat-sun\"] }");
    // Saturday there begins on Friday here.
    assert!(!is_open(&weekend, "2026-11-27T12:59:59Z"));
    assert!(is_open(&weekend, "2026-11-27T13:00:00Z"));
    assert!(is_open(&weekend, "2026-11-29T12:59:59Z"));
    assert!(!is_open(&weekend, "2026-11-29T13:00:00Z"));
}

#[test]
fn days_may_go_round_the_week() {
    let round = schedule("window = { days = [\"fri-mon\", \"Wednesday\"] }");
    let open: Vec<bool> = (23..30).map(|day| is_open(&round, &format!("2026-11-{day}T12:00:00Z"))).collect();
    assert_eq!(open, [true, false, true, false, true, true, true], "from Monday on");
}

#[test]
fn a_freeze_holds_from_its_first_to_its_last_day() {
    let frozen = schedule(
        "timezone = \"Europe/London\"\nfreeze = [{ from = \"2026-12-20\", to = \"2027-01-06\", reason = \"peak season\" }, \
         { from = \"2026-06-01\", to = \"2026-06-01\", reason = \"audit\" }]",
    );
    for (time, open) in [
        ("2026-12-19T23:59:59Z", true),
        ("2026-12-20T00:00:00Z", false),
        ("2027-01-06T23:59:59Z", false),
        ("2027-01-07T00:00:00Z", true),
        // In summer the day begins an hour earlier.
        ("2026-05-31T22:59:59Z", true),
        ("2026-05-31T23:00:00Z", false),
        ("2026-06-01T23:00:00Z", true),
    ] {
        assert_eq!(is_open(&frozen, time), open, "{time}");
    }
    let block = frozen.blocked_by(at("2026-12-24T12:00:00Z")).unwrap();
    assert_eq!(block.to_string(), "frozen until the end of 2027-01-06: peak season");
}

/// What is closed from a time on is held back at that time, for any hour of two years.
#[test]
fn what_closes_is_closed() {
    let schedule = schedule(
        "timezone = \"America/New_York\"\nwindow = { days = [\"mon-thu\"], hours = \"22:30-03:15\" }\n\
         freeze = [{ from = 2026-12-20, to = 2027-01-06, reason = \"peak season\" }]",
    );
    let (mut now, end): (Timestamp, Timestamp) = (at("2026-01-01T00:00:00Z"), at("2028-01-01T00:00:00Z"));
    while now < end {
        if schedule.blocked_by(now).is_none() {
            let (closes, block) = schedule.next_block(now).expect("it closes within days");
            assert!(closes > now && schedule.blocked_by(closes) == Some(block), "{now} closes {closes}");
            let before = closes - jiff::SignedDuration::from_secs(1);
            assert!(schedule.blocked_by(before).is_none(), "{now}: still open at {before}");
        }
        now += jiff::SignedDuration::from_mins(47);
    }
}
