//! Lists of views that need no memory for views.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The views of a plan's tags, in order: held, or made anew whenever they are gone through. The views of a large
/// registry take many times what the facts take that they are made from.
#[derive(Clone)]
pub struct LazyList<V>(Items<V>);

#[derive(Clone)]
enum Items<V> {
    Stored(Vec<V>),
    Computed(Arc<dyn ViewSource<V>>),
}

/// Makes views.
pub(super) trait ViewSource<V>: Send + Sync {
    /// How many there are.
    fn count(&self) -> usize;

    /// One of them; there is one at every position below the count.
    fn make(&self, position: usize) -> Option<V>;

    /// See [`LazyList::groups`]; `None` where each would have to be made for that.
    fn groups(&self) -> Option<Vec<(V, u64)>> {
        None
    }
}

impl<V: Clone> LazyList<V> {
    /// A list that is made anew each time; equal each time.
    pub(super) fn computed(make: impl ViewSource<V> + 'static) -> Self {
        Self(Items::Computed(Arc::new(make)))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Items::Stored(views) => views.len(),
            Items::Computed(make) => make.count(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The one at a position.
    #[must_use]
    pub fn get(&self, position: usize) -> Option<Cow<'_, V>> {
        match &self.0 {
            Items::Stored(views) => views.get(position).map(Cow::Borrowed),
            Items::Computed(make) => make.make(position).map(Cow::Owned),
        }
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = Cow<'_, V>> + Clone {
        (0..self.len()).filter_map(|position| self.get(position))
    }

    /// The views in groups, to count them without making each: the first of a group, and how many it has. Those of a group
    /// are of one registry and repository, and of one verdict; removals are also enforced or not by the same policies.
    /// Groups may be alike, down to one for each view.
    pub fn groups(&self) -> impl Iterator<Item = (Cow<'_, V>, u64)> {
        let made = match &self.0 {
            Items::Stored(_) => None,
            Items::Computed(make) => make.groups(),
        };
        let each = made.is_none().then(|| self.iter().map(|view| (view, 1)));
        let made = made.into_iter().flatten().map(|(first, count)| (Cow::Owned(first), count));
        made.chain(each.into_iter().flatten())
    }

    /// The list itself, to change it; made for good if it was not.
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
