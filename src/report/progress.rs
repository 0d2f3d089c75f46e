//! The progress of a run: as JSON, and in words for terminals, logs and the status page.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::humanize::{counted, format_count};

/// Registries up to this number are described one by one.
const MAX_DESCRIBED_REGISTRIES: usize = 4;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// The phase of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunPhase {
    /// It opens the state and resolves what an interrupted run left open.
    #[default]
    Preparing,
    /// It reads the registries.
    Reading,
    /// It queries the sources.
    Gathering,
    /// It decides and saves the plan.
    Deciding,
    /// It removes tags and deletes manifests.
    Removing,
    /// It restores tags.
    Restoring,
}

impl RunPhase {
    /// Returns the label, as in JSON.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Reading => "reading",
            Self::Gathering => "gathering",
            Self::Deciding => "deciding",
            Self::Removing => "removing",
            Self::Restoring => "restoring",
        }
    }
}

/// A number of events per second, to a tenth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate {
    tenths: u64,
}

impl Rate {
    /// Returns the rate of `count` events in `span`; `None` if the span is empty.
    #[must_use]
    pub fn new(count: u64, span: Duration) -> Option<Self> {
        let tenths = (u128::from(count) * 10_000).checked_div(span.as_millis())?;
        Some(Self { tenths: u64::try_from(tenths).unwrap_or(u64::MAX) })
    }

    /// Returns the rate as a number.
    #[must_use]
    pub fn per_second(self) -> f64 {
        f64::from(u32::try_from(self.tenths).unwrap_or(u32::MAX)) / 10.0
    }

    /// Returns the seconds that `count` more events take at this rate; `None` if the rate is zero.
    #[must_use]
    pub fn seconds_for(self, count: u64) -> Option<u64> {
        count.saturating_mul(10).checked_div(self.tenths)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.tenths < 100 {
            write!(out, "{}.{}", self.tenths / 10, self.tenths % 10)
        } else {
            out.write_str(&format_count(self.tenths / 10))
        }
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.per_second())
    }
}

/// The reading of one registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RegistryProgress {
    /// The name.
    pub name: String,
    /// Repositories to read; `None` while they are being listed.
    pub repositories_listed: Option<u64>,
    /// Repositories that have been read.
    pub repositories_done: u64,
    /// Tags of those repositories.
    pub tags_read: u64,
}

impl RegistryProgress {
    fn describe(&self) -> String {
        match self.repositories_listed {
            None => format!("{}: listing repositories", self.name),
            Some(listed) => format!(
                "{}: {} of {} repositories, {}",
                self.name,
                format_count(self.repositories_done),
                format_count(listed),
                counted(self.tags_read, "tag")
            ),
        }
    }
}

/// The removals and deletions, or the restores, of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TaskProgress {
    /// The number of tasks.
    pub total: u64,
    /// Succeeded tasks.
    pub done: u64,
    /// Skipped tasks.
    pub skipped: u64,
    /// Failed tasks.
    pub failed: u64,
    /// Tasks that succeeded or failed, per second over the last minute; `None` until that is known.
    pub per_second: Option<Rate>,
}

/// The progress of a run at one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunProgress {
    /// The current phase.
    pub phase: RunPhase,
    /// The start of the run.
    pub started_at: Timestamp,
    /// The registries that it reads, by name.
    pub registries: Vec<RegistryProgress>,
    /// The number of sources that it queries.
    pub sources: u64,
    /// Requests to registries since the start.
    pub requests: u64,
    /// Requests per second over the last minute; `None` until that is known.
    pub requests_per_second: Option<Rate>,
    /// Its tasks; `None` before it removes or restores anything.
    pub tasks: Option<TaskProgress>,
    /// The estimated seconds until the phase ends, rounded by [`round_seconds_left`]; `None` until enough is known.
    pub seconds_left: Option<u64>,
}

impl RunProgress {
    /// Returns the sum over all registries. `repositories_listed` covers the registries that have listed their
    /// repositories.
    #[must_use]
    pub fn totals(&self) -> RegistryProgress {
        let none =
            RegistryProgress { name: String::new(), repositories_listed: None, repositories_done: 0, tags_read: 0 };
        self.registries.iter().fold(none, |sum, one| RegistryProgress {
            repositories_listed: match (sum.repositories_listed, one.repositories_listed) {
                (Some(sum), Some(one)) => Some(sum + one),
                (sum, one) => sum.or(one),
            },
            repositories_done: sum.repositories_done + one.repositories_done,
            tags_read: sum.tags_read + one.tags_read,
            ..sum
        })
    }

    /// Returns the completed and the total steps of the phase; `None` if the total is not known.
    #[must_use]
    pub fn steps(&self) -> Option<(u64, u64)> {
        let (done, total) = match (self.phase, &self.tasks) {
            (RunPhase::Reading, _) => {
                let unknown = self.registries.iter().any(|registry| registry.repositories_listed.is_none());
                let sum = self.totals();
                (sum.repositories_done, sum.repositories_listed.filter(|_| !unknown)?)
            }
            (RunPhase::Removing | RunPhase::Restoring, Some(tasks)) => {
                (tasks.done + tasks.skipped + tasks.failed, tasks.total)
            }
            _ => return None,
        };
        (total > 0).then_some((done.min(total), total))
    }

    /// Describes the progress on one line, without a full stop.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut parts = match self.phase {
            RunPhase::Preparing => return "preparing: resolving what an interrupted run left open".to_owned(),
            RunPhase::Reading => vec![format!("reading {}", self.describe_registries())],
            RunPhase::Gathering => vec![format!("querying {}", counted(self.sources, "source")), self.describe_tags()],
            RunPhase::Deciding => vec![format!("deciding about {}", self.describe_tags())],
            RunPhase::Removing | RunPhase::Restoring => self.describe_tasks(),
        };
        parts.extend(
            self.requests_per_second
                .filter(|_| self.phase != RunPhase::Deciding)
                .map(|rate| format!("{rate} requests per second")),
        );
        parts.extend(self.seconds_left.map(|seconds| format!("{} left", format_time_left(seconds))));
        parts.join("; ")
    }

    fn describe_registries(&self) -> String {
        if self.registries.len() <= MAX_DESCRIBED_REGISTRIES {
            let parts: Vec<String> = self.registries.iter().map(RegistryProgress::describe).collect();
            return parts.join("; ");
        }
        let sum = RegistryProgress { name: format!("{} registries", self.registries.len()), ..self.totals() };
        let listing = self.registries.iter().filter(|registry| registry.repositories_listed.is_none()).count();
        if listing == 0 || listing == self.registries.len() {
            return sum.describe();
        }
        format!("{}; {listing} of them still listing", sum.describe())
    }

    fn describe_tags(&self) -> String {
        counted(self.totals().tags_read, "tag")
    }

    fn describe_tasks(&self) -> Vec<String> {
        let Some(tasks) = &self.tasks else { return vec![self.phase.label().to_owned()] };
        let [done, total, skipped, failed] = [tasks.done, tasks.total, tasks.skipped, tasks.failed].map(format_count);
        let mut parts =
            vec![format!("{}: {done} of {total} done, {skipped} skipped, {failed} failed", self.phase.label())];
        parts.extend(tasks.per_second.map(|rate| format!("{rate} per second")));
        parts
    }
}

/// Rounds an estimate to its accuracy: to 10 seconds below a minute, to a day above two days.
#[must_use]
pub fn round_seconds_left(seconds: u64) -> u64 {
    let step = match seconds {
        0..MINUTE => 10,
        MINUTE..600 => MINUTE,
        600..HOUR => 5 * MINUTE,
        HOUR..18_000 => HOUR / 2,
        18_000..172_800 => HOUR,
        _ => DAY,
    };
    seconds.saturating_add(step / 2) / step * step
}

/// Describes rounded seconds: `about 4 minutes`.
fn format_time_left(seconds: u64) -> String {
    if seconds < MINUTE {
        return "less than a minute".to_owned();
    }
    if seconds < HOUR {
        return format!("about {}", counted(seconds / MINUTE, "minute"));
    }
    if seconds < 2 * DAY {
        let (hours, minutes) = (seconds / HOUR, seconds % HOUR / MINUTE);
        let rest = if minutes == 0 { String::new() } else { format!(" {}", counted(minutes, "minute")) };
        return format!("about {}{rest}", counted(hours, "hour"));
    }
    format!("about {}", counted(seconds / DAY, "day"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(name: &str, listed: Option<u64>, done: u64, tags: u64) -> RegistryProgress {
        RegistryProgress {
            name: name.to_owned(),
            repositories_listed: listed,
            repositories_done: done,
            tags_read: tags,
        }
    }

    fn progress(phase: RunPhase) -> RunProgress {
        RunProgress {
            phase,
            started_at: "2026-11-20T03:00:00Z".parse().unwrap(),
            registries: vec![registry("contoso", Some(400), 12, 12_430), registry("other", None, 0, 0)],
            sources: 2,
            requests: 4_120,
            requests_per_second: Rate::new(2_472, Duration::from_mins(1)),
            tasks: None,
            seconds_left: None,
        }
    }

    #[test]
    fn time_left_is_rounded() {
        for (seconds, rounded, words) in [
            (0, 0, "less than a minute"),
            (44, 40, "less than a minute"),
            (57, 60, "about 1 minute"),
            (260, 240, "about 4 minutes"),
            (599, 600, "about 10 minutes"),
            (1_000, 900, "about 15 minutes"),
            (3_580, 3_600, "about 1 hour"),
            (5_000, 5_400, "about 1 hour 30 minutes"),
            (20_000, 21_600, "about 6 hours"),
            (172_799, 172_800, "about 2 days"),
            (300_000, 259_200, "about 3 days"),
        ] {
            assert_eq!(round_seconds_left(seconds), rounded, "{seconds}");
            assert_eq!(format_time_left(rounded), words, "{seconds}");
        }
    }

    #[test]
    fn rates_are_shown_to_a_tenth_or_whole() {
        for (count, seconds, shown) in [(0, 60, "0.0"), (25, 60, "0.4"), (99, 10, "9.9"), (2_472, 60, "41")] {
            assert_eq!(Rate::new(count, Duration::from_secs(seconds)).unwrap().to_string(), shown);
        }
        assert_eq!(Rate::new(180_000, Duration::from_mins(1)).unwrap().to_string(), "3,000");
        assert_eq!(Rate::new(1, Duration::ZERO), None);
        assert_eq!(Rate::new(0, Duration::from_secs(1)).unwrap().seconds_for(5), None);
        assert_eq!(Rate::new(3, Duration::from_secs(2)).unwrap().seconds_for(300), Some(200));
    }

    #[test]
    fn each_phase_is_described() {
        let tasks = TaskProgress {
            total: 1_204,
            done: 80,
            skipped: 1,
            failed: 2,
            per_second: Rate::new(25, Duration::from_secs(10)),
        };
        for (found, words) in [
            (progress(RunPhase::Preparing), "preparing: resolving what an interrupted run left open"),
            (
                progress(RunPhase::Reading),
                "reading contoso: 12 of 400 repositories, 12,430 tags; other: listing repositories; \
                 41 requests per second",
            ),
            (progress(RunPhase::Gathering), "querying 2 sources; 12,430 tags; 41 requests per second"),
            (progress(RunPhase::Deciding), "deciding about 12,430 tags"),
            (
                RunProgress { tasks: Some(tasks), seconds_left: Some(480), ..progress(RunPhase::Removing) },
                "removing: 80 of 1,204 done, 1 skipped, 2 failed; 2.5 per second; 41 requests per second; \
                 about 8 minutes left",
            ),
        ] {
            assert_eq!(found.describe(), words);
        }
    }

    #[test]
    fn many_registries_are_summed() {
        let mut found = progress(RunPhase::Reading);
        found.registries.extend((0..4).map(|number| registry(&format!("r{number}"), Some(100), 10, 1_000)));
        found.requests_per_second = None;
        assert_eq!(
            found.describe(),
            "reading 6 registries: 52 of 800 repositories, 16,430 tags; 1 of them still listing"
        );
        assert_eq!(found.steps(), None, "one registry is still listing");
        found.registries.retain(|registry| registry.repositories_listed.is_some());
        assert_eq!(found.steps(), Some((52, 800)));
    }

    #[test]
    fn json_names_its_units() {
        let found = serde_json::to_value(progress(RunPhase::Reading)).unwrap();
        assert_eq!(found["phase"], "reading");
        assert_eq!(found["requests_per_second"], 41.2);
        assert_eq!(found["seconds_left"], serde_json::Value::Null);
        assert_eq!(found["registries"][0]["repositories_listed"], 400);
    }
}
