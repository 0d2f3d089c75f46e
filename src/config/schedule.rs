//! `[schedule]`: the runs of the daemon, and the times without removals.

use std::fmt;
use std::time::Duration;

use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

use super::reader::SettingsReader;
use crate::domain::Cron;
use crate::policy::{Fields, Node, Place, Value, fields};

/// The schedule of runs and of removals, and the time zone.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// The start of runs; `None` means only by hand, or by the schedules of policies.
    pub cron: Option<Cron>,
    /// The time zone of the schedules, of window and freezes, and of the buckets of keep rules.
    pub timezone: TimeZone,
    /// The handling of runs missed during downtime.
    pub missed: Missed,
    /// The maximum delay of a run's start, constant on each machine.
    pub jitter: Duration,
    /// The window for removals; `None` means any time.
    pub window: Option<Window>,
    /// Periods without removals, in spite of the window.
    pub freezes: Vec<Freeze>,
}

/// The handling of runs missed because the machine was suspended, or the daemon was stopped or busy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Missed {
    /// One run replaces them, however many there were, as soon as possible.
    #[default]
    Once,
    /// They are skipped; the next one starts on time.
    Skip,
}

/// Days and hours of removals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// True for each day, from Monday on, on which the hours may begin.
    days: [bool; 7],
    /// Minutes of the day.
    from: u32,
    /// Minutes of the day; of the next day if not after `from`.
    to: u32,
    text: String,
}

/// A period of days without removals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freeze {
    /// The first day.
    pub from: Date,
    /// The last day.
    pub to: Date,
    /// Its reason.
    pub reason: String,
}

/// A window or freeze that blocks removals, and its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemovalBlock {
    /// The window is closed.
    Window {
        /// The window, as written.
        window: String,
        /// Time of its opening.
        opens_at: Option<Timestamp>,
        /// The zone for displaying that time.
        timezone: TimeZone,
    },
    /// A freeze.
    Freeze {
        /// Its reason.
        reason: String,
        /// Its last day.
        last_day: Date,
    },
}

impl Window {
    /// Returns the window as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            cron: None,
            timezone: TimeZone::UTC,
            missed: Missed::default(),
            jitter: Duration::ZERO,
            window: None,
            freezes: Vec::new(),
        }
    }
}

impl Schedule {
    /// Returns the reason that blocks removals at that time, or `None` if they are allowed.
    #[must_use]
    pub fn blocked_by(&self, at: Timestamp) -> Option<RemovalBlock> {
        let today = at.to_zoned(self.timezone.clone()).date();
        // Of several, the one that lasts longest.
        let freeze =
            self.freezes.iter().filter(|freeze| (freeze.from..=freeze.to).contains(&today)).max_by_key(|f| f.to);
        if let Some(freeze) = freeze {
            return Some(RemovalBlock::Freeze { reason: freeze.reason.clone(), last_day: freeze.to });
        }
        let window = self.window.as_ref()?;
        if self.openings(window, at).any(|(from, to)| from <= at && at < to) {
            return None;
        }
        let opens = self.openings(window, at).map(|(from, _)| from).find(|from| *from > at);
        let (window, timezone) = (window.text.clone(), self.timezone.clone());
        Some(RemovalBlock::Window { window, opens_at: opens, timezone })
    }

    /// Returns the first time after `at` at which allowed removals become blocked, and why; `None` if that is more than
    /// eight days away.
    #[must_use]
    pub fn next_block(&self, at: Timestamp) -> Option<(Timestamp, RemovalBlock)> {
        let ends = self.window.iter().flat_map(|window| self.openings(window, at)).map(|(_, to)| to);
        let freezes = self.freezes.iter().filter_map(|freeze| self.minute_of(freeze.from, 0));
        let mut ends: Vec<Timestamp> = ends.chain(freezes).filter(|end| *end > at).collect();
        ends.sort();
        // If one opening follows the next without a gap, its end does not count.
        ends.into_iter().find_map(|end| Some((end, self.blocked_by(end)?)))
    }

    /// Returns the times at which a window is open, from the day before to eight days after, in order.
    fn openings<'a>(
        &'a self,
        window: &'a Window,
        around: Timestamp,
    ) -> impl Iterator<Item = (Timestamp, Timestamp)> + 'a {
        let today = around.to_zoned(self.timezone.clone()).date();
        let days = (-1..=8).filter_map(move |offset: i64| today.checked_add(offset.days()).ok());
        let days = days.filter(|day| window.days[usize::from(day.weekday().to_monday_zero_offset().unsigned_abs())]);
        days.filter_map(|day| {
            let last = if window.to <= window.from { day.tomorrow().ok()? } else { day };
            Some((self.minute_of(day, window.from)?, self.minute_of(last, window.to)?))
        })
    }

    /// Returns a minute of a day; if clocks skip it, the first one after it.
    fn minute_of(&self, day: Date, minute: u32) -> Option<Timestamp> {
        let (day, minute) = if minute == 24 * 60 { (day.tomorrow().ok()?, 0) } else { (day, minute) };
        let time = day.at(i8::try_from(minute / 60).ok()?, i8::try_from(minute % 60).ok()?, 0, 0);
        Some(self.timezone.to_ambiguous_zoned(time).compatible().ok()?.timestamp())
    }
}

impl fmt::Display for RemovalBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Window { window, opens_at: Some(opens), timezone } => {
                let opens = opens.to_zoned(timezone.clone());
                write!(f, "outside the window {window}, which opens {}", opens.strftime("%a %Y-%m-%d %H:%M %Z"))
            }
            Self::Window { window, opens_at: None, .. } => write!(f, "outside the window {window}"),
            Self::Freeze { reason, last_day: last } => write!(f, "frozen until the end of {last}: {reason}"),
        }
    }
}

impl Missed {
    /// Returns the label used in settings.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::Skip => "skip",
        }
    }
}

const MISSED: [(&str, Missed); 2] = [("once", Missed::Once), ("skip", Missed::Skip)];
const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];
const WINDOW_HELP: &str = "write window = { days = [\"mon-fri\"], hours = \"22:00-05:00\" }";
const FREEZE_HELP: &str = "write freeze = [{ from = \"2026-12-20\", to = \"2027-01-06\", reason = \"peak season\" }]";
/// A longer delay would move a run to another day.
const MAX_JITTER: Duration = Duration::from_hours(12);

pub(super) fn schedule(node: &Node, reader: &mut SettingsReader) -> Option<Schedule> {
    let mut fields = Fields::of(node, "schedule", &mut reader.problems)?;
    let cron = fields.get("cron").map(|node| fields::cron("cron", node, &mut reader.problems));
    let timezone = fields.get("timezone").map_or(Some(TimeZone::UTC), |node| timezone(node, reader));
    let missed = fields
        .get("missed")
        .map_or(Some(Missed::default()), |node| fields::choice("missed", node, &MISSED, &mut reader.problems));
    let jitter = fields.get("jitter").map_or(Some(Duration::ZERO), |node| jitter(node, reader));
    let window = fields.get("window").map(|node| window(node, reader));
    let freezes = fields.get("freeze").map_or(Some(Vec::new()), |node| freezes(node, reader));
    let hint = |key: &str| match key {
        "days" | "hours" => Some(WINDOW_HELP),
        "freezes" => Some(FREEZE_HELP),
        _ => None,
    };
    fields.finish(hint, &mut reader.problems);
    Some(Schedule {
        cron: optional(cron)?,
        timezone: timezone?,
        missed: missed?,
        jitter: jitter?,
        window: optional(window)?,
        freezes: freezes?,
    })
}

/// Flattens a value; `None` if it could not be read.
#[expect(clippy::option_option, reason = "the outer nothing is `wrong`, the inner one `not written`")]
fn optional<T>(value: Option<Option<T>>) -> Option<Option<T>> {
    value.map_or(Some(None), |read| read.map(Some))
}

fn timezone(node: &Node, reader: &mut SettingsReader) -> Option<TimeZone> {
    let written = fields::text("timezone", node, &mut reader.problems)?;
    let zone = TimeZone::get(written).ok().filter(|zone| zone.iana_name().is_some());
    if zone.is_none() {
        let meant = nearest_zone(written).map(|meant| format!(", did you mean `{meant}`?")).unwrap_or_default();
        reader
            .problems
            .add(&node.at, format!("`{written}` is not a time zone that this system knows{meant}"))
            .help("write an IANA name, such as `Europe/London` or `UTC`");
    }
    zone
}

/// Returns the name of a time zone that differs by a letter or two, or by its first part. `Etc/GMT+1` is never meant: it is
/// an hour behind UTC, and whoever writes `GMT+1` means an hour ahead.
fn nearest_zone(written: &str) -> Option<String> {
    let plain = |name: &str| name.to_lowercase().replace(' ', "_");
    let wanted = plain(written);
    let distance = |name: &str| {
        let name = plain(name);
        let city = name.rsplit('/').next().unwrap_or_default();
        if city == wanted { 1 } else { strsim::osa_distance(&name, &wanted) }
    };
    let named = jiff::tz::db().available().map(|name| (distance(name.as_str()), name.to_string()));
    let meant = named.filter(|(distance, name)| *distance <= 2 && name.len() > 4 && !name.starts_with("Etc/"));
    meant.min().map(|(_, name)| name)
}

fn jitter(node: &Node, reader: &mut SettingsReader) -> Option<Duration> {
    let jitter = fields::duration("jitter", node, &mut reader.problems)?;
    if jitter > MAX_JITTER {
        reader.problems.add(&node.at, "`jitter` is more than twelve hours").help("write a few minutes, such as \"5m\"");
        return None;
    }
    Some(jitter)
}

fn window(node: &Node, reader: &mut SettingsReader) -> Option<Window> {
    let mut fields = Fields::of(node, "window", &mut reader.problems)?;
    let (days_node, hours_node) = (fields.get("days"), fields.get("hours"));
    let days = days_node.map_or(Some(([true; 7], "every day".to_owned())), |node| days(node, reader));
    let hours = hours_node.map_or(Some((0, 24 * 60, "all day".to_owned())), |node| hours(node, reader));
    if days_node.is_none() && hours_node.is_none() {
        reader.problems.add(&node.at, "`window` is empty").help(WINDOW_HELP);
    }
    fields.finish(|_| None, &mut reader.problems);
    let ((days, on), (from, to, between)) = (days?, hours?);
    Some(Window { days, from, to, text: format!("{on} {between}") })
}

fn days(node: &Node, reader: &mut SettingsReader) -> Option<([bool; 7], String)> {
    let (texts, sound) = fields::texts("days", node, &mut reader.problems)?;
    let (mut days, mut sound) = ([false; 7], sound);
    for (text, at) in &texts {
        let range = match text.split_once('-') {
            Some((first, last)) => day(first, at, reader).zip(day(last, at, reader)),
            None => day(text, at, reader).map(|day| (day, day)),
        };
        let Some((first, last)) = range else {
            sound = false;
            continue;
        };
        // From Friday to Monday is four days.
        for offset in 0..=(7 + last - first) % 7 {
            days[(first + offset) % 7] = true;
        }
    }
    let written: Vec<&str> = texts.iter().map(|(text, _)| text.trim()).collect();
    sound.then(|| (days, written.join(", ")))
}

/// Returns the position of a day in the week.
fn day(text: &str, at: &Place, reader: &mut SettingsReader) -> Option<usize> {
    let word = text.trim().to_ascii_lowercase();
    let found = DAYS.iter().position(|(name, _)| word.starts_with(name) && is_day_name(name, &word));
    if found.is_none() {
        reader
            .problems
            .add(at, format!("`{}` is not a day of the week", text.trim()))
            .help("write `mon`, `sat-sun` or `mon-fri`");
    }
    found
}

/// Returns true for a day's name, short or in full.
fn is_day_name(short: &str, word: &str) -> bool {
    const FULL: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
    word == short || FULL.iter().any(|full| full.starts_with(short) && *full == word)
}

fn hours(node: &Node, reader: &mut SettingsReader) -> Option<(u32, u32, String)> {
    let text = fields::text("hours", node, &mut reader.problems)?.trim();
    let minutes = |time: &str| {
        let (hour, minute) = time.trim().split_once(':')?;
        let two = |text: &str| (text.len() == 2).then(|| text.parse::<u32>().ok()).flatten();
        let (hour, minute) = (two(hour)?, two(minute)?);
        (minute < 60 && hour * 60 + minute <= 24 * 60).then_some(hour * 60 + minute)
    };
    let read = text.split_once('-').and_then(|(from, to)| Some((minutes(from)?, minutes(to)?)));
    match read {
        Some((from, to)) if from != to && from != 24 * 60 => Some((from, to, text.to_owned())),
        Some(_) => {
            let help = "for the whole day leave `hours` out; the end is not part of it";
            reader.problems.add(&node.at, "`hours` begin and end at the same time").help(help);
            None
        }
        None => {
            let help = "write hours = \"22:00-05:00\"; they may go past midnight";
            reader.problems.add(&node.at, "`hours` must be two times of a day").help(help);
            None
        }
    }
}

fn freezes(node: &Node, reader: &mut SettingsReader) -> Option<Vec<Freeze>> {
    let Value::List(nodes) = &node.value else {
        let message = format!("`freeze` must be a list of tables, not {}", reader.problems.describe(&node.value));
        reader.problems.add(&node.at, message).help(FREEZE_HELP);
        return None;
    };
    let freezes: Vec<Option<Freeze>> = nodes.iter().map(|node| freeze(node, reader)).collect();
    freezes.into_iter().collect()
}

fn freeze(node: &Node, reader: &mut SettingsReader) -> Option<Freeze> {
    let mut fields = Fields::of(node, "freeze", &mut reader.problems)?;
    let from = reader.required(&mut fields, "from", &node.at);
    let to = reader.required(&mut fields, "to", &node.at);
    let reason = fields.get("reason");
    if reason.is_none() && !fields.is_misspelled("reason") {
        reader.problems.add(&node.at, "a freeze without `reason`").help(FREEZE_HELP);
    }
    fields.finish(|_| None, &mut reader.problems);
    let from = from.and_then(|node| date("from", node, reader));
    let to = to.and_then(|node| date("to", node, reader));
    let reason = reason.and_then(|node| fields::text("reason", node, &mut reader.problems));
    let (from, to, reason) = (from?, to?, reason?);
    if to < from {
        reader.problems.add(&node.at, "this freeze ends before it begins").help("`to` is its last day");
        return None;
    }
    Some(Freeze { from, to, reason: reason.trim().to_owned() })
}

fn date(key: &str, node: &Node, reader: &mut SettingsReader) -> Option<Date> {
    let text = fields::text(key, node, &mut reader.problems)?;
    // The parser would silently truncate longer texts to a day.
    let date = (text.trim().len() == 10).then(|| text.trim().parse().ok()).flatten();
    if date.is_none() {
        let help = format!("write {key} = \"2026-12-20\"; days begin and end in the time zone of the schedule");
        reader.problems.add(&node.at, format!("`{key}` must be a day")).help(help);
    }
    date
}
