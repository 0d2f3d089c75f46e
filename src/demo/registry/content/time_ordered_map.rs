//! A map whose rows have a time, read in the order of its keys or of those times, page by page.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use jiff::Timestamp;

/// The order of a list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// By name.
    #[default]
    Name,
    /// The least recently updated first.
    OldestFirst,
    /// The most recently updated first.
    NewestFirst,
}

/// A row with the time of its last update.
pub(in crate::demo::registry) trait UpdateTime {
    fn updated(&self) -> Timestamp;
}

/// Maintains both orders, so that the cost of a page is its own length, whatever the total.
#[derive(Debug)]
pub(in crate::demo::registry) struct TimeOrderedMap<K, V> {
    rows: BTreeMap<K, V>,
    by_time: BTreeSet<(Timestamp, K)>,
    /// The last update of removed rows: clients delete rows that they have listed, and request those after them.
    removed: BTreeMap<K, Timestamp>,
}

impl<K, V> Default for TimeOrderedMap<K, V> {
    fn default() -> Self {
        Self { rows: BTreeMap::new(), by_time: BTreeSet::new(), removed: BTreeMap::new() }
    }
}

impl<K: Ord + Clone, V: UpdateTime> TimeOrderedMap<K, V> {
    pub(super) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.rows.get(key)
    }

    pub(super) fn get_key_value<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        self.rows.get_key_value(key)
    }

    /// Returns a row for modification of anything except its time.
    pub(super) fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.rows.get_mut(key)
    }

    pub(super) fn contains<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.rows.contains_key(key)
    }

    /// Returns the last update of a row that exists, or existed until it was removed.
    pub(super) fn time_of<Q: Ord + ?Sized>(&self, key: &Q) -> Option<Timestamp>
    where
        K: Borrow<Q>,
    {
        self.rows.get(key).map(V::updated).or_else(|| self.removed.get(key).copied())
    }

    pub(in crate::demo::registry) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.rows.iter()
    }

    pub(super) fn insert(&mut self, key: K, row: V) -> Option<V> {
        let old = self.remove(&key);
        self.removed.remove(&key);
        self.by_time.insert((row.updated(), key.clone()));
        self.rows.insert(key, row);
        old
    }

    pub(super) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (key, row) = self.rows.remove_entry(key)?;
        let place = (row.updated(), key);
        self.by_time.remove(&place);
        self.removed.insert(place.1, place.0);
        Some(row)
    }

    /// Returns the rows that come after `last` in that order; all of them if `last` never existed.
    pub(in crate::demo::registry) fn rows_after<'a, Q: Ord + ?Sized>(
        &'a self,
        order: Order,
        last: Option<&'a Q>,
    ) -> Box<dyn Iterator<Item = (&'a K, &'a V)> + 'a>
    where
        K: Borrow<Q>,
    {
        if order == Order::Name {
            let from = last.map_or(Bound::Unbounded, Bound::Excluded);
            return Box::new(self.rows.range::<Q, _>((from, Bound::Unbounded)));
        }
        let known = |last| {
            let here = self.rows.get_key_value(last).map(|(key, row)| (row.updated(), key.clone()));
            here.or_else(|| self.removed.get_key_value(last).map(|(key, time)| (*time, key.clone())))
        };
        let place = last.and_then(known).map_or(Bound::Unbounded, Bound::Excluded);
        let row = |(_, key): &'a (Timestamp, K)| self.rows.get_key_value(key.borrow());
        match order {
            Order::NewestFirst => Box::new(self.by_time.range((Bound::Unbounded, place)).rev().filter_map(row)),
            _ => Box::new(self.by_time.range((place, Bound::Unbounded)).filter_map(row)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct At(i64);

    impl UpdateTime for At {
        fn updated(&self) -> Timestamp {
            Timestamp::from_second(self.0).unwrap()
        }
    }

    fn keys(map: &TimeOrderedMap<String, At>, order: Order, last: Option<&str>) -> String {
        map.rows_after(order, last).map(|(key, _)| key.as_str()).collect()
    }

    #[test]
    fn both_orders_follow_every_change() {
        let mut map = TimeOrderedMap::default();
        for (key, time) in [("a", 3), ("b", 1), ("c", 2), ("d", 2)] {
            map.insert(key.to_owned(), At(time));
        }
        assert_eq!(keys(&map, Order::Name, Some("b")), "cd");
        assert_eq!(keys(&map, Order::OldestFirst, None), "bcda");
        assert_eq!(keys(&map, Order::NewestFirst, None), "adcb");
        assert_eq!(keys(&map, Order::NewestFirst, Some("d")), "cb");
        map.remove("d");
        assert_eq!(keys(&map, Order::NewestFirst, Some("d")), "cb", "its place outlives it");
        assert_eq!(keys(&map, Order::OldestFirst, Some("d")), "a");
        map.insert("b".to_owned(), At(9));
        assert_eq!(keys(&map, Order::OldestFirst, None), "cab");
        assert_eq!(map.len(), 3);
    }
}
