//! What is due when, by clocks that change, stop and go back.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp, ToSpan};
use tagwarden::daemon::{ScheduleWarning, ScheduledPolicies, Timetable, build_timetable, find_scheduled};
use tagwarden::domain::{Cron, InvalidCron, Policy, PolicyName};
use tagwarden::policy;

use super::at;
use crate::config;

const LEAST: &str = "[registries.contoso]\nkind = \"distribution\"\nendpoint = \"https://contoso.example\"\n";

/// The timetable of those lines below `[schedule]`, for policies given as names and times of their own.
fn table(schedule: &str, policies: &[(&str, Option<&str>)]) -> Timetable {
    table_on(schedule, policies, "build-7")
}

fn table_on(schedule: &str, policies: &[(&str, Option<&str>)], host: &str) -> Timetable {
    let settings = config::load(&format!("[schedule]\n{schedule}\n{LEAST}"), &[]);
    build_timetable(&settings.schedule, &parsed(policies), host)
}

fn parsed(policies: &[(&str, Option<&str>)]) -> Vec<Policy> {
    let mut text = "policies:\n".to_owned();
    for (name, own) in policies {
        let own = own.map(|cron| format!(", schedule: '{cron}'")).unwrap_or_default();
        writeln!(text, "  - {{ name: {name}, select: {{ tags: ['*'] }}, keep: none{own} }}").unwrap();
    }
    policy::parse("p.yaml", &text).unwrap()
}

/// One schedule in a zone, for one policy.
fn daily(cron: &str, zone: &str) -> Timetable {
    table(&format!("cron = \"{cron}\"\ntimezone = \"{zone}\""), &[("a", None)])
}

/// Everything that came of ticking every five minutes, from `from` to `to`; what `sleeps` is true for is slept through.
fn ticked(
    table: &Timetable,
    from: &str,
    to: &str,
    sleeps: impl Fn(Timestamp) -> bool,
) -> (Vec<String>, Vec<ScheduleWarning>) {
    let (mut now, to) = (at(from), at(to));
    let (mut runs, mut notes) = (Vec::new(), Vec::new());
    let mut handled = find_scheduled(table, &BTreeMap::new(), now).handled;
    while now < to {
        now += 5.minutes();
        if sleeps(now) {
            continue;
        }
        let found: ScheduledPolicies = find_scheduled(table, &handled, now);
        if !found.policies.is_empty() {
            let names: Vec<&str> = found.policies.iter().map(PolicyName::as_str).collect();
            let names = if names == ["a"] { String::new() } else { format!(" {}", names.join(" ")) };
            runs.push(format!("{}{names}", now.strftime("%d %H:%M")));
        }
        handled = found.handled;
        notes.extend(found.warnings);
    }
    (runs, notes)
}

fn awake(_: Timestamp) -> bool {
    false
}

#[test]
fn clocks_that_change_make_no_run_missing_and_none_twice() {
    for (zone, cron, from, to, expected) in [
        // London: 29 March 2026 has no 01:00 to 02:00, 25 October has it twice.
        ("Europe/London", "30 1 * * *", "2026-03-28T00:00:00Z", "2026-03-30T12:00:00Z", "28 01:30|29 01:00|30 00:30"),
        ("Europe/London", "30 1 * * *", "2026-10-24T00:00:00Z", "2026-10-26T12:00:00Z", "24 00:30|25 00:30|26 01:30"),
        ("Europe/London", "0 3 * * *", "2026-03-28T00:00:00Z", "2026-03-30T12:00:00Z", "28 03:00|29 02:00|30 02:00"),
        ("Europe/London", "0 3 * * *", "2026-10-24T00:00:00Z", "2026-10-26T12:00:00Z", "24 02:00|25 03:00|26 03:00"),
        ("Europe/London", "@daily", "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z", "24 23:00|26 00:00"),
        // Hour by hour goes by the hours that pass.
        (
            "Europe/London",
            "0 * * * *",
            "2026-03-28T23:30:00Z",
            "2026-03-29T03:30:00Z",
            "29 00:00|29 01:00|29 02:00|29 03:00",
        ),
        (
            "Europe/London",
            "0 * * * *",
            "2026-10-24T23:30:00Z",
            "2026-10-25T03:30:00Z",
            "25 00:00|25 01:00|25 02:00|25 03:00",
        ),
        // New York: 8 March has no 02:00 to 03:00, 1 November has 01:00 to 02:00 twice. Lists are times of day, too.
        (
            "America/New_York",
            "0 2,14 * * *",
            "2026-03-07T12:00:00Z",
            "2026-03-09T12:00:00Z",
            "07 19:00|08 07:00|08 18:00|09 06:00",
        ),
        (
            "America/New_York",
            "30 1,13 * * *",
            "2026-11-01T00:00:00Z",
            "2026-11-02T12:00:00Z",
            "01 05:30|01 18:30|02 06:30",
        ),
        // Lord Howe changes by half an hour: 4 October has no 02:00 to 02:30, 5 April has 01:30 to 02:00 twice.
        (
            "Australia/Lord_Howe",
            "15 2 * * *",
            "2026-10-02T15:00:00Z",
            "2026-10-04T15:20:00Z",
            "02 15:45|03 15:30|04 15:15",
        ),
        (
            "Australia/Lord_Howe",
            "45 1 * * *",
            "2026-04-03T14:00:00Z",
            "2026-04-05T15:30:00Z",
            "03 14:45|04 14:45|05 15:15",
        ),
        // Cairo begins its summer at midnight: 24 April 2026 begins at 01:00.
        ("Africa/Cairo", "0 0 * * *", "2026-04-22T12:00:00Z", "2026-04-25T12:00:00Z", "22 22:00|23 22:00|24 21:00"),
        ("Asia/Kolkata", "0 3 * * *", "2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z", "28 21:30|29 21:30"),
        ("UTC", "0 3 * * 1-5", "2026-10-23T00:00:00Z", "2026-10-27T00:00:00Z", "23 03:00|26 03:00"),
    ] {
        let table = daily(cron, zone);
        let (runs, notes) = ticked(&table, from, to, awake);
        assert_eq!((runs.join("|"), notes), (expected.to_owned(), vec![]), "{zone} {cron} from {from}");
        let foretold: Vec<String> = table
            .scheduled_runs(at(from), 50)
            .into_iter()
            .filter(|coming| coming.at <= at(to))
            .map(|coming| coming.at.strftime("%d %H:%M").to_string())
            .collect();
        assert_eq!(foretold.join("|"), expected, "{zone} {cron} as foretold");
    }
}

#[test]
fn rare_days_come_when_they_come() {
    let next = |cron: &str, zone: &str, from: &str, count| {
        let next = daily(cron, zone).scheduled_runs(at(from), count).into_iter();
        next.map(|coming| coming.at.to_string()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        next("0 3 29 2 *", "Europe/London", "2026-11-23T00:00:00Z", 3),
        "2028-02-29T03:00:00Z 2032-02-29T03:00:00Z 2036-02-29T03:00:00Z"
    );
    assert_eq!(next("0 3 29 2 *", "UTC", "2096-03-01T00:00:00Z", 1), "2104-02-29T03:00:00Z", "2100 is no leap year");
    // Samoa had no 30 December 2011.
    assert_eq!(
        next("0 3 * * *", "Pacific/Apia", "2011-12-29T00:00:00Z", 3),
        "2011-12-29T13:00:00Z 2011-12-30T13:00:00Z 2011-12-31T13:00:00Z"
    );
    assert_eq!(next("0 3 L * *", "UTC", "2028-02-01T00:00:00Z", 1), "2028-02-29T03:00:00Z");
    assert_eq!("0 3 30 2 *".parse::<Cron>(), Err(InvalidCron::NeverOccurs));
    assert_eq!("0 0 3 * * *".parse::<Cron>(), Err(InvalidCron::FieldCount(6)));
}

#[test]
fn what_was_slept_through_is_made_up_for_once_or_left_out() {
    let (from, to) = ("2026-11-20T12:00:00Z", "2026-11-24T04:00:00Z");
    // From the evening of the 20th to noon on the 23rd.
    let sleeps = |now: Timestamp| now > at("2026-11-20T20:00:00Z") && now < at("2026-11-23T12:05:00Z");
    let since = at("2026-11-21T03:00:00Z");
    let schedule = "0 3 * * * Europe/London".to_owned();

    let (runs, notes) = ticked(&daily("0 3 * * *", "Europe/London"), from, to, sleeps);
    assert_eq!(runs, ["23 12:05", "24 03:00"]);
    assert_eq!(notes, [ScheduleWarning::CaughtUp { schedule: schedule.clone(), since }]);

    let skip = table("cron = \"0 3 * * *\"\ntimezone = \"Europe/London\"\nmissed = \"skip\"", &[("a", None)]);
    let (runs, notes) = ticked(&skip, from, to, sleeps);
    assert_eq!(runs, ["24 03:00"]);
    assert_eq!(notes, [ScheduleWarning::Skipped { schedule, since }]);

    // Awake again right after one of the times: that one is in time, whatever was missed before it.
    let sleeps = |now: Timestamp| now > at("2026-11-20T20:00:00Z") && now < at("2026-11-23T03:05:00Z");
    for table in [&daily("0 3 * * *", "Europe/London"), &skip] {
        assert_eq!(ticked(table, from, to, sleeps).0, ["23 03:05", "24 03:00"]);
    }
}

#[test]
fn a_run_that_outlasts_its_interval_is_followed_by_one() {
    // No tick is looked at while a run goes on: 150 minutes of every hourly run.
    let table = daily("0 * * * *", "UTC");
    let busy = |now: Timestamp| now > at("2026-11-20T01:00:00Z") && now < at("2026-11-20T03:30:00Z");
    let (runs, _) = ticked(&table, "2026-11-20T00:30:00Z", "2026-11-20T05:30:00Z", busy);
    assert_eq!(runs, ["20 01:00", "20 03:30", "20 04:00", "20 05:00"]);
    let skip = table_on("cron = \"0 * * * *\"\nmissed = \"skip\"", &[("a", None)], "x");
    let (runs, _) = ticked(&skip, "2026-11-20T00:30:00Z", "2026-11-20T05:30:00Z", busy);
    assert_eq!(runs, ["20 01:00", "20 04:00", "20 05:00"]);
}

#[test]
fn a_clock_that_was_set_back_repeats_nothing_and_stops_nothing() {
    let table = daily("0 * * * *", "UTC");
    let key = table.schedule_key(&table.entries[0]);
    let handled = |until: &str| BTreeMap::from([(key.clone(), at(until))]);
    // By seconds: what was done is done.
    let little = find_scheduled(&table, &handled("2026-11-20T03:00:05Z"), at("2026-11-20T02:59:58Z"));
    assert_eq!(little, ScheduledPolicies { handled: handled("2026-11-20T03:00:05Z"), ..ScheduledPolicies::default() });
    let after = find_scheduled(&table, &little.handled, at("2026-11-20T03:00:30Z"));
    assert!(after.policies.is_empty(), "three o'clock had its turn");

    // By a year: the clock was wrong before, and the schedule does not wait for that year to pass.
    let much = find_scheduled(&table, &handled("2027-11-20T03:00:00Z"), at("2026-11-20T02:30:00Z"));
    assert!(much.policies.is_empty(), "nothing is begun because of it");
    assert_eq!(
        much.warnings,
        [ScheduleWarning::ClockSetBack { schedule: key.clone(), handled_until: at("2027-11-20T03:00:00Z") }]
    );
    assert_eq!(much.handled, handled("2026-11-20T02:30:00Z"));
    assert!(!find_scheduled(&table, &much.handled, at("2026-11-20T03:00:00Z")).policies.is_empty());
    let words = much.warnings[0].to_string();
    assert!(words.contains("set back") && words.contains("2027-11-20 03:00 UTC"), "{words}");
}

#[test]
fn policies_have_their_own_times() {
    let table = table(
        "cron = \"0 3 * * *\"\ntimezone = \"UTC\"",
        &[("a", None), ("b", Some("0 3 * * 0")), ("c", Some("30 3 * * *")), ("d", Some("0 3 * * *"))],
    );
    // 22 November 2026 is a Sunday.
    let (runs, _) = ticked(&table, "2026-11-21T00:00:00Z", "2026-11-22T12:00:00Z", awake);
    assert_eq!(runs, ["21 03:00 a d", "21 03:30 c", "22 03:00 a b d", "22 03:30 c"]);
    let words: Vec<String> = table.entries.iter().map(|line| table.describe_policies(&line.policies)).collect();
    assert_eq!(words, ["policies a, d", "policy b", "policy c"]);
    let all = parsed(&[("a", None), ("b", None)]).into_iter().map(|policy| policy.name).collect();
    assert_eq!(self::table("cron = \"@daily\"", &[("a", None), ("b", None)]).describe_policies(&all), "all policies");
    // Without a schedule in the settings only those with their own have a turn.
    let own = self::table("timezone = \"UTC\"", &[("a", None), ("b", Some("@hourly"))]);
    assert_eq!(ticked(&own, "2026-11-21T00:30:00Z", "2026-11-21T01:30:00Z", awake).0, ["21 01:00 b"]);
}

#[test]
fn a_schedule_that_is_new_makes_up_for_nothing() {
    let daily = daily("0 3 * * *", "UTC");
    let first = find_scheduled(&daily, &BTreeMap::new(), at("2026-11-20T12:00:00Z"));
    assert!(first.policies.is_empty() && first.warnings.is_empty());
    // An edit of the time is another schedule, and what the old one missed is no longer missed.
    let weekly = self::daily("0 3 * * 0", "UTC");
    let edited = find_scheduled(&weekly, &first.handled, at("2026-11-29T12:00:00Z"));
    assert!(edited.policies.is_empty(), "{edited:?}");
    assert_eq!(edited.handled.len(), 1);
}

#[test]
fn jitter_spreads_machines_and_moves_none() {
    let on = |host: &str| table_on("cron = \"0 3 * * *\"\njitter = \"5m\"", &[("a", None)], host);
    let delays: Vec<SignedDuration> = (0..50).map(|number| on(&format!("build-{number}")).entries[0].delay).collect();
    assert!(delays.iter().all(|delay| !delay.is_negative() && delay.as_secs() < 300), "{delays:?}");
    let mut distinct = delays.clone();
    distinct.sort();
    distinct.dedup();
    assert!(distinct.len() > 30, "{distinct:?}");
    assert_eq!(on("build-7").entries[0].delay, delays[7], "always the same on one machine");

    let table = on("build-7");
    let delay = table.entries[0].delay;
    assert!(delay.as_secs() > 0, "a host that shows something");
    let expected = at("2026-11-21T03:00:00Z") + delay;
    assert_eq!(table.scheduled_runs(at("2026-11-21T00:00:00Z"), 1)[0].at, expected);
    let just_before = expected - 1.second();
    let handled = find_scheduled(&table, &BTreeMap::new(), at("2026-11-20T12:00:00Z")).handled;
    assert!(find_scheduled(&table, &handled, just_before).policies.is_empty());
    let found = find_scheduled(&table, &handled, expected);
    assert!(!found.policies.is_empty());
    assert!(find_scheduled(&table, &found.handled, expected + 1.minute()).policies.is_empty(), "once is enough");
}
