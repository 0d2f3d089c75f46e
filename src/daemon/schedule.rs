//! The schedule of the daemon: a pure function of the schedules, the handled times and the current time.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::config::{Missed, Schedule};
use crate::domain::{Cron, Digest, Policy, PolicyName};

/// The schedules of all policies.
#[derive(Debug, Clone)]
pub struct Timetable {
    /// The time zone of the schedules.
    pub timezone: TimeZone,
    /// The handling of missed runs.
    pub missed: Missed,
    /// Its entries, by cron expression.
    pub entries: Vec<TimetableEntry>,
    /// The number of policies, including those that are never due.
    pub policy_count: usize,
}

/// The policies of one schedule.
#[derive(Debug, Clone)]
pub struct TimetableEntry {
    /// The schedule.
    pub cron: Cron,
    /// The delay of this machine, so that not all machines start at once.
    pub delay: SignedDuration,
    /// The policies; never empty.
    pub policies: BTreeSet<PolicyName>,
}

/// The policies that are due now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScheduledPolicies {
    /// The policies that are due; empty if none are.
    pub policies: BTreeSet<PolicyName>,
    /// The time up to which each schedule is handled after their run.
    pub handled: BTreeMap<String, Timestamp>,
    /// Remarks for people.
    pub warnings: Vec<ScheduleWarning>,
}

/// An irregularity of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScheduleWarning {
    /// Its runs since then were missed, and are replaced by one now.
    CaughtUp {
        /// The schedule.
        schedule: String,
        /// The first of them.
        since: Timestamp,
    },
    /// Its runs since then were missed, and are skipped.
    Skipped {
        /// The schedule.
        schedule: String,
        /// The first of them.
        since: Timestamp,
    },
    /// It was handled at a time in the future: the clock was set back.
    ClockSetBack {
        /// The schedule.
        schedule: String,
        /// The time up to which it was handled.
        handled_until: Timestamp,
    },
}

/// An upcoming run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduledRun {
    /// Its time.
    pub at: Timestamp,
    /// Its policies.
    pub policies: BTreeSet<PolicyName>,
}

/// The delay from which on a run counts as missed: more than the minute of a tick and some slack.
const MISSED_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// Normal clock corrections are smaller; a time further in the future was written by a wrong clock.
const SET_BACK_THRESHOLD: SignedDuration = SignedDuration::from_hours(1);

/// Builds the timetable of the general schedule and of the policies with their own schedules. `host` determines the
/// delay of this machine.
#[must_use]
pub fn build_timetable(schedule: &Schedule, policies: &[Policy], host: &str) -> Timetable {
    let mut lines: BTreeMap<&str, TimetableEntry> = BTreeMap::new();
    for policy in policies {
        let Some(cron) = policy.schedule.as_ref().or(schedule.cron.as_ref()) else { continue };
        let line = lines.entry(cron.as_str()).or_insert_with(|| {
            let delay = jitter_delay(schedule, host, cron);
            TimetableEntry { cron: cron.clone(), delay, policies: BTreeSet::new() }
        });
        line.policies.insert(policy.name.clone());
    }
    Timetable {
        timezone: schedule.timezone.clone(),
        missed: schedule.missed,
        entries: lines.into_values().collect(),
        policy_count: policies.len(),
    }
}

/// Returns a delay below the jitter: constant on one machine, and different on others.
fn jitter_delay(schedule: &Schedule, host: &str, cron: &Cron) -> SignedDuration {
    let jitter = schedule.jitter.as_secs();
    let hash = Digest::of(format!("{host}\n{cron}").as_bytes()).to_string();
    let number = hash.get(hash.len().saturating_sub(12)..).and_then(|end| u64::from_str_radix(end, 16).ok());
    let seconds = number.unwrap_or_default().checked_rem(jitter).unwrap_or_default();
    SignedDuration::from_secs(i64::try_from(seconds).unwrap_or_default())
}

impl Timetable {
    /// Returns the key under which an entry's handled time is recorded.
    #[must_use]
    pub fn schedule_key(&self, line: &TimetableEntry) -> String {
        format!("{} {}", line.cron, self.timezone.iana_name().unwrap_or("UTC"))
    }

    /// Describes policies, such as `all policies`.
    #[must_use]
    pub fn describe_policies(&self, policies: &BTreeSet<PolicyName>) -> String {
        let names: Vec<&str> = policies.iter().map(PolicyName::as_str).collect();
        match names.as_slice() {
            _ if names.len() == self.policy_count => "all policies".to_owned(),
            [one] => format!("policy {one}"),
            few if few.len() <= 3 => format!("policies {}", few.join(", ")),
            many => format!("{} of {} policies", many.len(), self.policy_count),
        }
    }

    /// Returns the next runs after `now`, the earliest first, at most `count`.
    #[must_use]
    pub fn scheduled_runs(&self, now: Timestamp, count: usize) -> Vec<ScheduledRun> {
        let mut coming: BTreeMap<Timestamp, BTreeSet<PolicyName>> = BTreeMap::new();
        for line in &self.entries {
            let mut after = now.checked_sub(line.delay).unwrap_or(now);
            for _ in 0..count {
                let Some(next) = line.cron.next(after, &self.timezone) else { break };
                let at = next.checked_add(line.delay).unwrap_or(next);
                coming.entry(at).or_default().extend(line.policies.iter().cloned());
                after = next;
            }
        }
        coming.into_iter().take(count).map(|(at, policies)| ScheduledRun { at, policies }).collect()
    }

    /// Returns the last time, up to `now`, at which a run was due; `None` if that is more than a year ago, or nothing
    /// is scheduled.
    #[must_use]
    pub fn last_scheduled_time(&self, now: Timestamp) -> Option<Timestamp> {
        // Small steps back first: a schedule of every minute has half a million times in a year.
        let windows = [2, 60, 24 * 60, 8 * 24 * 60, 32 * 24 * 60, 366 * 24 * 60].map(SignedDuration::from_mins);
        let of_line = |line: &TimetableEntry| {
            let end = now.checked_sub(line.delay).ok()?;
            windows.into_iter().find_map(|window| {
                let first = line.cron.next(end.checked_sub(window).ok()?, &self.timezone);
                let times = std::iter::successors(first, |at| line.cron.next(*at, &self.timezone));
                times.take_while(|at| *at <= end).last()?.checked_add(line.delay).ok()
            })
        };
        self.entries.iter().filter_map(of_line).max()
    }
}

/// Returns the policies that are due at `now`, given the time in `handled` up to which each schedule was handled.
///
/// A schedule that is missing there begins now: runs from before it was written are not made up. However many times of
/// a schedule have passed, they are one run.
#[must_use]
pub fn find_scheduled(table: &Timetable, handled: &BTreeMap<String, Timestamp>, now: Timestamp) -> ScheduledPolicies {
    let mut due = ScheduledPolicies::default();
    for line in &table.entries {
        let schedule = table.schedule_key(line);
        let until = match handled.get(&schedule) {
            None => now,
            Some(&last) if last.duration_since(now) > SET_BACK_THRESHOLD => {
                due.warnings.push(ScheduleWarning::ClockSetBack { schedule: schedule.clone(), handled_until: last });
                now
            }
            Some(&last) => advance(table, line, &schedule, last, now, &mut due),
        };
        due.handled.insert(schedule, until);
    }
    due
}

/// Adds the policies of an entry that was handled until `last` if they are due, and returns the new handled time.
fn advance(
    table: &Timetable,
    line: &TimetableEntry,
    schedule: &str,
    last: Timestamp,
    now: Timestamp,
    due: &mut ScheduledPolicies,
) -> Timestamp {
    // Everything of this entry is later by its delay, so its time is earlier.
    let now = now.checked_sub(line.delay).unwrap_or(now);
    let Some(first) = line.cron.next(last, &table.timezone).filter(|first| *first <= now) else { return last };
    let recently = now.checked_sub(MISSED_AFTER).unwrap_or(now);
    let schedule = schedule.to_owned();
    let missed = first < recently;
    let in_time = !missed || line.cron.next(recently, &table.timezone).is_some_and(|at| at <= now);
    if in_time || table.missed == Missed::Once {
        due.policies.extend(line.policies.iter().cloned());
    }
    match table.missed {
        Missed::Once if !in_time => due.warnings.push(ScheduleWarning::CaughtUp { schedule, since: first }),
        Missed::Skip if missed => due.warnings.push(ScheduleWarning::Skipped { schedule, since: first }),
        Missed::Once | Missed::Skip => {}
    }
    now
}

impl std::fmt::Display for ScheduleWarning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::CaughtUp { schedule, since: time }
        | Self::Skipped { schedule, since: time }
        | Self::ClockSetBack { schedule, handled_until: time }) = self;
        let time = time.strftime("%Y-%m-%d %H:%M UTC");
        match self {
            Self::CaughtUp { .. } => {
                write!(f, "schedule `{schedule}` missed its time since {time}: made up for now, once")
            }
            Self::Skipped { .. } => {
                write!(f, "schedule `{schedule}` missed its time since {time}: left out, as `missed` says")
            }
            Self::ClockSetBack { .. } => write!(
                f,
                "the clock was set back: schedule `{schedule}` was looked after until {time}, which is to come; it goes \
                 on from now"
            ),
        }
    }
}
