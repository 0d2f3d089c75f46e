//! The reasons of one verdict.

use std::ops::Deref;

use super::Reason;

/// A list of reasons. Nearly every tag has exactly one, which therefore needs no memory elsewhere; read it as a slice.
#[derive(Clone, Default)]
pub struct Reasons(ReasonList);

#[derive(Clone, Default)]
enum ReasonList {
    #[default]
    None,
    One(Reason),
    Many(Vec<Reason>),
}

impl Reasons {
    /// Adds a reason at the end.
    pub fn push(&mut self, reason: Reason) {
        self.0 = match std::mem::take(&mut self.0) {
            ReasonList::None => ReasonList::One(reason),
            ReasonList::One(first) => ReasonList::Many(vec![first, reason]),
            ReasonList::Many(mut reasons) => {
                reasons.reserve_exact(1);
                reasons.push(reason);
                ReasonList::Many(reasons)
            }
        };
    }

    /// Sorts and deduplicates the reasons.
    pub fn sort(&mut self) {
        if let ReasonList::Many(reasons) = &mut self.0 {
            reasons.sort_unstable();
            reasons.dedup();
        }
    }
}

impl Deref for Reasons {
    type Target = [Reason];

    fn deref(&self) -> &[Reason] {
        match &self.0 {
            ReasonList::None => &[],
            ReasonList::One(reason) => std::slice::from_ref(reason),
            ReasonList::Many(reasons) => reasons,
        }
    }
}

impl From<Reason> for Reasons {
    fn from(reason: Reason) -> Self {
        Self(ReasonList::One(reason))
    }
}

impl<'a> IntoIterator for &'a Reasons {
    type Item = &'a Reason;
    type IntoIter = std::slice::Iter<'a, Reason>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl PartialEq for Reasons {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Reasons {}

impl std::fmt::Debug for Reasons {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&**self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_keep_their_order_and_are_there_once() {
        let named = |name: &str| Reason::KeptAll { policy: name.parse().unwrap() };
        let mut reasons = Reasons::default();
        assert!(reasons.is_empty());
        for name in ["b", "a", "b"] {
            reasons.push(named(name));
        }
        assert_eq!(*reasons, [named("b"), named("a"), named("b")]);
        reasons.sort();
        assert_eq!(*reasons, [named("a"), named("b")]);
        assert_eq!(*Reasons::from(named("a")), [named("a")]);
        assert_eq!(size_of::<Reasons>(), size_of::<Reason>(), "one reason needs no more room in a list");
    }
}
