//! What is due: pure, and from nothing but the schedules, what was looked after and the time.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::config::{Missed, Schedule};
use crate::domain::{Cron, Digest, Policy, PolicyName};

/// When which policies have their turn.
#[derive(Debug, Clone)]
pub struct Timetable {
    /// The zone by whose clocks it goes.
    pub timezone: TimeZone,
    /// What becomes of missed runs.
    pub missed: Missed,
    /// Its lines, by cron expression.
    pub entries: Vec<TimetableEntry>,
    /// How many policies there are, those that are never due included.
    pub policy_count: usize,
}

/// The policies of one schedule.
#[derive(Debug, Clone)]
pub struct TimetableEntry {
    /// When.
    pub cron: Cron,
    /// By how much later, so that not all machines begin at once.
    pub delay: SignedDuration,
    /// Whose turn it is; never empty.
    pub policies: BTreeSet<PolicyName>,
}

/// What is to be done about the schedules now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScheduledPolicies {
    /// The policies whose turn it is; empty where it is nobody's.
    pub policies: BTreeSet<PolicyName>,
    /// Up to which time each schedule is looked after once these had their turn.
    pub handled: BTreeMap<String, Timestamp>,
    /// What a person should know.
    pub warnings: Vec<ScheduleWarning>,
}

/// Something odd about a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScheduleWarning {
    /// Its runs since then were missed, and are made up for by one now.
    CaughtUp {
        /// The schedule.
        schedule: String,
        /// The first of them.
        since: Timestamp,
    },
    /// Its runs since then were missed, and are left out.
    Skipped {
        /// The schedule.
        schedule: String,
        /// The first of them.
        since: Timestamp,
    },
    /// It was looked after at a time that has not come yet: the clock was set back.
    ClockSetBack {
        /// The schedule.
        schedule: String,
        /// That time.
        handled_until: Timestamp,
    },
}

/// A run to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduledRun {
    /// When.
    pub at: Timestamp,
    /// Whose turn it is.
    pub policies: BTreeSet<PolicyName>,
}

/// A run that begins by so much after its time was missed: the minute of a tick and a little more are nothing.
const MISSED_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// Clocks that are set go back by less; what is further in the future was written by a clock that was wrong.
const SET_BACK_THRESHOLD: SignedDuration = SignedDuration::from_hours(1);

/// The timetable of a schedule and of the policies that have one of their own. `host` decides the delay of this machine.
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

/// A delay below the jitter: always the same on one machine, and different on others.
fn jitter_delay(schedule: &Schedule, host: &str, cron: &Cron) -> SignedDuration {
    let jitter = schedule.jitter.as_secs();
    let hash = Digest::of(format!("{host}\n{cron}").as_bytes()).to_string();
    let number = hash.get(hash.len().saturating_sub(12)..).and_then(|end| u64::from_str_radix(end, 16).ok());
    let seconds = number.unwrap_or_default().checked_rem(jitter).unwrap_or_default();
    SignedDuration::from_secs(i64::try_from(seconds).unwrap_or_default())
}

impl Timetable {
    /// The name by which a line is remembered.
    #[must_use]
    pub fn schedule_key(&self, line: &TimetableEntry) -> String {
        format!("{} {}", line.cron, self.timezone.iana_name().unwrap_or("UTC"))
    }

    /// Policies in words, such as `all policies`.
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

    /// The next runs after `now`, the earliest first, at most `count`.
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

    /// When a run was due last, up to `now`; `None` where that is more than a year ago, or nothing is scheduled.
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

/// What is due at `now`, where each schedule was looked after up to the time in `handled`.
///
/// A schedule that is not in there begins now: nothing is made up for from before it was written. However many times of
/// a schedule have passed, they are one turn.
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

/// Whether a line that was looked after until `last` has its turn, and until when it is looked after then.
fn advance(
    table: &Timetable,
    line: &TimetableEntry,
    schedule: &str,
    last: Timestamp,
    now: Timestamp,
    due: &mut ScheduledPolicies,
) -> Timestamp {
    // Everything of this line is later by its delay, so for it the time is earlier.
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
