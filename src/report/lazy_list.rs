//! Lists of views that are computed on demand.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The views of a plan's tags, in order: stored, or computed on each iteration. The views of a large registry take many
/// times the memory of the facts behind them.
#[derive(Clone)]
pub struct LazyList<V>(Items<V>);

#[derive(Clone)]
enum Items<V> {
    Stored(Vec<V>),
    Computed(Arc<dyn ViewSource<V>>),
}

/// Computes views.
pub(super) trait ViewSource<V>: Send + Sync {
    /// Returns the number of views.
    fn count(&self) -> usize;

    /// Computes one view. Every position below the count has one.
    fn make(&self, position: usize) -> Option<V>;

    /// See [`LazyList::groups`]; `None` if every view would have to be computed for that.
    fn groups(&self) -> Option<Vec<(V, u64)>> {
        None
    }
}

impl<V: Clone> LazyList<V> {
    /// Creates a list that is computed on each iteration, with equal results each time.
    pub(super) fn computed(make: impl ViewSource<V> + 'static) -> Self {
        Self(Items::Computed(Arc::new(make)))
    }

    /// Returns the number of views.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Items::Stored(views) => views.len(),
            Items::Computed(make) => make.count(),
        }
    }

    /// Returns true if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the view at a position.
    #[must_use]
    pub fn get(&self, position: usize) -> Option<Cow<'_, V>> {
        match &self.0 {
            Items::Stored(views) => views.get(position).map(Cow::Borrowed),
            Items::Computed(make) => make.make(position).map(Cow::Owned),
        }
    }

    /// Returns all views, in order.
    pub fn iter(&self) -> impl Iterator<Item = Cow<'_, V>> + Clone {
        (0..self.len()).filter_map(|position| self.get(position))
    }

    /// Returns the views in groups, to count them without computing each: the first of a group, and its size. The views
    /// of a group share registry, repository and verdict; removals also share enforcement and policies. Neighbouring
    /// groups may be alike, down to one view each.
    pub fn groups(&self) -> impl Iterator<Item = (Cow<'_, V>, u64)> {
        let made = match &self.0 {
            Items::Stored(_) => None,
            Items::Computed(make) => make.groups(),
        };
        let each = made.is_none().then(|| self.iter().map(|view| (view, 1)));
        let made = made.into_iter().flatten().map(|(first, count)| (Cow::Owned(first), count));
        made.chain(each.into_iter().flatten())
    }

    /// Returns the list for modification, computing and storing it first if necessary.
    pub fn materialize(&mut self) -> &mut Vec<V> {
        if let Items::Computed(_) = &self.0 {
            self.0 = Items::Stored(self.iter().map(Cow::into_owned).collect());
        }
        match &mut self.0 {
            Items::Stored(views) => views,
            Items::Computed(_) => unreachable!("it is held since the line before"),
        }
    }
}

impl<V> From<Vec<V>> for LazyList<V> {
    fn from(views: Vec<V>) -> Self {
        Self(Items::Stored(views))
    }
}

impl<V> FromIterator<V> for LazyList<V> {
    fn from_iter<I: IntoIterator<Item = V>>(views: I) -> Self {
        Self(Items::Stored(views.into_iter().collect()))
    }
}

impl<V: Clone + PartialEq> PartialEq for LazyList<V> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<V: Clone + Eq> Eq for LazyList<V> {}

impl<V: Clone + fmt::Debug> fmt::Debug for LazyList<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<V: Clone + Serialize> Serialize for LazyList<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for LazyList<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Squares(usize);

    impl ViewSource<usize> for Squares {
        fn count(&self) -> usize {
            self.0
        }

        fn make(&self, position: usize) -> Option<usize> {
            (position < self.0).then_some(position * position)
        }
    }

    #[test]
    fn a_list_that_is_made_is_like_one_that_is_held() {
        let (mut made, held) = (LazyList::computed(Squares(4)), LazyList::from(vec![0, 1, 4, 9]));
        let json = serde_json::to_string(&made).unwrap();
        assert_eq!(json, "[0,1,4,9]");
        assert_eq!(serde_json::from_str::<LazyList<usize>>(&json).unwrap(), held);
        assert_eq!((made.len(), made.get(3), made.get(4)), (4, Some(Cow::Owned(9)), None));
        assert_eq!(made, held);
        made.materialize().pop();
        assert_ne!(made, held);
        assert_eq!(made, LazyList::from(vec![0, 1, 4]));
        assert!(LazyList::computed(Squares(0)).is_empty());
        assert_eq!(made.groups().map(|(first, count)| (*first, count)).collect::<Vec<_>>(), [(0, 1), (1, 1), (4, 1)]);
    }
}
