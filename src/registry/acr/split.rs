//! Long lists, read from several places at once.
//!
//! One page after the other, a list takes as long as its pages take together, because where one begins is known from the
//! one before. Tags can be listed by their time from either end, and digests are spread evenly over their names. Both
//! ways are only believed where everything fits together, the registry's own count above all; else there is nothing, and
//! whoever asks walks through the list by name.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::future;

use super::list::{self, End, List, Odd, PAGE, Row, Took, Way};
use crate::domain::{Digest, Moment};
use crate::registry::http::RegistryHttp;

/// Lists of fewer rows are not worth it.
const MANY: u64 = 4 * PAGE as u64;

/// Whether a list of so many rows, by the registry's count, is one.
pub(super) fn is_long(count: Option<u64>) -> Option<u64> {
    count.filter(|count| *count >= MANY)
}

/// A row of which the service knows the time by which it puts it in order.
pub(super) trait Timed: Row {
    fn time(&self) -> Option<Moment>;
}

/// The two ends of a list by time.
const ENDS: [&str; 2] = ["timeasc", "timedesc"];

/// Two walks that come towards each other.
struct Meeting<T: Row> {
    /// By which of the two each row was found.
    found: HashMap<T::Key, usize>,
    rows: Vec<T>,
    /// The time that each is at.
    at: [Option<Moment>; 2],
    /// The newest row, with its time.
    newest: Option<(T::Key, Moment)>,
    met: bool,
    doubt: bool,
}

impl<T: Timed> Meeting<T> {
    fn take(&mut self, end: usize, page: Vec<Result<T, Odd>>) -> Took {
        if self.met || self.doubt {
            return Took::Enough;
        }
        for row in page {
            let Some((row, time)) = row.ok().and_then(|row| row.time().map(|time| (row, time))) else {
                self.doubt = true;
                return Took::Enough;
            };
            let in_order = self.at[end].is_none_or(|at| if end == 0 { at <= time } else { at >= time });
            self.at[end] = Some(time);
            if end == 1 && self.newest.is_none() {
                self.newest = Some((row.key().clone(), time));
            }
            match self.found.insert(row.key().clone(), end) {
                None => self.rows.push(row),
                Some(by) => {
                    self.doubt |= by == end;
                    self.met = true;
                }
            }
            self.doubt |= !in_order;
        }
        if self.met || self.doubt { Took::Enough } else { Took::New }
    }
}

/// Walks from both ends of a list by time, until the two meet.
///
/// What is pushed or moved meanwhile becomes the newest, behind the back of the walk that began there; so whether the
/// newest still is what it was is asked at the end. Nothing where that or anything else leaves a doubt.
pub(super) async fn from_both_ends<T: Timed + Send>(
    http: &RegistryHttp,
    list: &List<'_, T>,
    count: u64,
) -> Option<Vec<T>> {
    let meeting = Mutex::new(Meeting {
        found: HashMap::new(),
        rows: Vec::new(),
        at: [None; 2],
        newest: None,
        met: false,
        doubt: false,
    });
    let (asc, desc) = future::join(
        list::walk(http, list, Way { order: Some(ENDS[0]), after: None }, |page| lock(&meeting).take(0, page)),
        list::walk(http, list, Way { order: Some(ENDS[1]), after: None }, |page| lock(&meeting).take(1, page)),
    )
    .await;
    let meeting = meeting.into_inner().unwrap_or_else(PoisonError::into_inner);
    let through = matches!((asc, desc), (Ok(End::Reached), Ok(End::Reached)));
    if !through || !meeting.met || meeting.doubt || meeting.rows.len() as u64 != count {
        return None;
    }
    let newest =
        list::some(http, list, Way { order: Some(ENDS[1]), after: None }, 1).await.ok()?.into_iter().next()?.ok()?;
    let still = Some((newest.key().clone(), newest.time()?)) == meeting.newest;
    still.then_some(meeting.rows)
}

/// How many parts of a list by digest are read at once.
const PARTS: u8 = 8;

/// Reads the parts of a list by digest at once. Nothing where anything leaves a doubt.
pub(super) async fn in_parts<T: Row<Key = Digest> + Send>(
    http: &RegistryHttp,
    list: &List<'_, T>,
    count: u64,
) -> Option<Vec<T>> {
    // The last digest before each part but the first.
    let borders = (1..PARTS).map(|part| format!("sha256:{:x}{}", part * (16 / PARTS) - 1, "f".repeat(63)).parse().ok());
    let borders: Vec<Digest> = borders.collect::<Option<_>>()?;
    let parts = (0..usize::from(PARTS)).map(|part| {
        let after = part.checked_sub(1).and_then(|before| borders.get(before));
        part_of(http, list, after, borders.get(part))
    });
    let parts: Vec<Vec<T>> = future::join_all(parts).await.into_iter().collect::<Option<_>>()?;
    let rows: Vec<T> = parts.into_iter().flatten().collect();
    (rows.len() as u64 == count).then_some(rows)
}

/// What is listed after one digest, up to another.
async fn part_of<T: Row<Key = Digest> + Send>(
    http: &RegistryHttp,
    list: &List<'_, T>,
    after: Option<&Digest>,
    until: Option<&Digest>,
) -> Option<Vec<T>> {
    let mut rows: Vec<T> = Vec::new();
    let mut doubt = false;
    let from = after.map(ToString::to_string);
    let walked = list::walk(http, list, Way { after: from.as_deref(), order: None }, |page| {
        for row in page {
            let Ok(row) = row else {
                doubt = true;
                return Took::Enough;
            };
            if until.is_some_and(|until| row.key() > until) {
                return Took::Enough;
            }
            doubt |= rows.last().map(Row::key).or(after).is_some_and(|before| row.key() <= before);
            rows.push(row);
        }
        if doubt { Took::Enough } else { Took::New }
    })
    .await;
    (walked.ok()? == End::Reached && !doubt).then_some(rows)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
