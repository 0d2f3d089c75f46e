//! Long lists, read from several places at once.
//!
//! One page after the other, a list takes as long as its pages take together, because where one begins is known from the
//! one before. Tags can be listed by their time from either end, and digests are spread evenly over their names. Both
//! ways are only believed where everything fits together, the registry's own count above all; else there is nothing, and
//! whoever asks walks through the list by name.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::future;

use super::lists::{self, InvalidRow, ListRequest, PAGE_SIZE, PageQuery, PageResult, Row, ScanEnd};
use crate::domain::{CompactTime, Digest};
use crate::registry::client::connection::HttpConnection;

/// Lists of fewer rows are not worth it.
const MIN_LONG_LIST: u64 = 4 * PAGE_SIZE as u64;

/// Whether a list of so many rows, by the registry's count, is one.
pub(super) fn long_list_count(count: Option<u64>) -> Option<u64> {
    count.filter(|count| *count >= MIN_LONG_LIST)
}

/// A row of which the service knows the time by which it puts it in order.
pub(super) trait Timed: Row {
    fn time(&self) -> Option<CompactTime>;
}

/// The two ends of a list by time.
const TIME_ORDERS: [&str; 2] = ["timeasc", "timedesc"];

/// Two walks that come towards each other.
struct BidirectionalScan<T: Row> {
    /// By which of the two each row was found.
    found_by: HashMap<T::Key, usize>,
    rows: Vec<T>,
    /// The time that each is at.
    positions: [Option<CompactTime>; 2],
    /// The newest row, with its time.
    newest: Option<(T::Key, CompactTime)>,
    met: bool,
    inconsistent: bool,
}

impl<T: Timed> BidirectionalScan<T> {
    fn add_page(&mut self, end: usize, page: Vec<Result<T, InvalidRow>>) -> PageResult {
        if self.met || self.inconsistent {
            return PageResult::Stop;
        }
        for row in page {
            let Some((row, time)) = row.ok().and_then(|row| row.time().map(|time| (row, time))) else {
                self.inconsistent = true;
                return PageResult::Stop;
            };
            let in_order = self.positions[end].is_none_or(|at| if end == 0 { at <= time } else { at >= time });
            self.positions[end] = Some(time);
            if end == 1 && self.newest.is_none() {
                self.newest = Some((row.key().clone(), time));
            }
            match self.found_by.insert(row.key().clone(), end) {
                None => self.rows.push(row),
                Some(by) => {
                    self.inconsistent |= by == end;
                    self.met = true;
                }
            }
            self.inconsistent |= !in_order;
        }
        if self.met || self.inconsistent { PageResult::Stop } else { PageResult::NewRows }
    }
}

/// Walks from both ends of a list by time, until the two meet.
///
/// What is pushed or moved meanwhile becomes the newest, behind the back of the walk that began there; so whether the
/// newest still is what it was is asked at the end. Nothing where that or anything else leaves a doubt.
pub(super) async fn scan_from_both_ends<T: Timed + Send>(
    http: &HttpConnection,
    list: &ListRequest<'_, T>,
    count: u64,
) -> Option<Vec<T>> {
    let meeting = Mutex::new(BidirectionalScan {
        found_by: HashMap::with_capacity(expected_rows(count)),
        rows: Vec::with_capacity(expected_rows(count)),
        positions: [None; 2],
        newest: None,
        met: false,
        inconsistent: false,
    });
    let (asc, desc) = future::join(
        lists::scan(http, list, PageQuery { order: Some(TIME_ORDERS[0]), after: None }, |page| {
            lock(&meeting).add_page(0, page)
        }),
        lists::scan(http, list, PageQuery { order: Some(TIME_ORDERS[1]), after: None }, |page| {
            lock(&meeting).add_page(1, page)
        }),
    )
    .await;
    let meeting = meeting.into_inner().unwrap_or_else(PoisonError::into_inner);
    let through = matches!((asc, desc), (Ok(ScanEnd::Completed), Ok(ScanEnd::Completed)));
    if !through || !meeting.met || meeting.inconsistent || meeting.rows.len() as u64 != count {
        return None;
    }
    let newest = lists::fetch_rows(http, list, PageQuery { order: Some(TIME_ORDERS[1]), after: None }, 1)
        .await
        .ok()?
        .into_iter()
        .next()?
        .ok()?;
    let still = Some((newest.key().clone(), newest.time()?)) == meeting.newest;
    still.then_some(meeting.rows)
}

/// How many parts of a list by digest are read at once.
const PARTITIONS: u8 = 8;

/// Reads the parts of a list by digest at once. Nothing where anything leaves a doubt.
pub(super) async fn scan_partitions<T: Row<Key = Digest> + Send>(
    http: &HttpConnection,
    list: &ListRequest<'_, T>,
    count: u64,
) -> Option<Vec<T>> {
    // The last digest before each part but the first.
    let borders =
        (1..PARTITIONS).map(|part| format!("sha256:{:x}{}", part * (16 / PARTITIONS) - 1, "f".repeat(63)).parse().ok());
    let borders: Vec<Digest> = borders.collect::<Option<_>>()?;
    let rows = Mutex::new(Vec::with_capacity(expected_rows(count)));
    let parts = (0..usize::from(PARTITIONS)).map(|part| {
        let after = part.checked_sub(1).and_then(|before| borders.get(before));
        scan_partition(http, list, (after, borders.get(part)), &rows)
    });
    let is_complete = future::join_all(parts).await.into_iter().all(|is_complete| is_complete);
    let rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
    (is_complete && rows.len() as u64 == count).then_some(rows)
}

/// Most rows for which there is room from the beginning: a list that grows leaves holes in the memory.
const MAX_EXPECTED_ROWS: u64 = 1 << 20;

fn expected_rows(count: u64) -> usize {
    usize::try_from(count.min(MAX_EXPECTED_ROWS)).unwrap_or_default()
}

/// Adds what is listed after one digest, up to another. Returns false where anything leaves a doubt.
async fn scan_partition<T: Row<Key = Digest> + Send>(
    http: &HttpConnection,
    list: &ListRequest<'_, T>,
    (after, until): (Option<&Digest>, Option<&Digest>),
    rows: &Mutex<Vec<T>>,
) -> bool {
    let mut previous = after.cloned();
    let mut doubt = false;
    let from = after.map(ToString::to_string);
    let walked = lists::scan(http, list, PageQuery { after: from.as_deref(), order: None }, |page| {
        let mut rows = rows.lock().unwrap_or_else(PoisonError::into_inner);
        for row in page {
            let Ok(row) = row else {
                doubt = true;
                return PageResult::Stop;
            };
            if until.is_some_and(|until| row.key() > until) {
                return PageResult::Stop;
            }
            doubt |= previous.as_ref().is_some_and(|before| row.key() <= before);
            previous = Some(row.key().clone());
            rows.push(row);
        }
        if doubt { PageResult::Stop } else { PageResult::NewRows }
    })
    .await;
    matches!(walked, Ok(ScanEnd::Completed)) && !doubt
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
