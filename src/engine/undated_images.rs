//! Images of which some tag has no date: they may be newer than their dated tags say.

use std::cmp::Reverse;

use jiff::Timestamp;

use super::graph::Node;
use super::select::Selected;

/// The images of a policy's selection in one repository of which a tag has no date, by group.
///
/// A rule by rank counts an image by the newest of its tags. So if one of them has no date, the image may be newer than
/// the others say, and the rule may keep it.
pub(super) struct UndatedImages(Vec<(u32, Node, Timestamp)>);

impl UndatedImages {
    pub(super) fn new(selected: &[Selected<'_>]) -> Self {
        let undated = selected.iter().filter(|one| one.candidate.date.timestamp().is_none());
        let mut found: Vec<_> = undated
            .filter_map(|one| {
                let latest = one.candidate.no_later_than.unwrap_or(Timestamp::MAX);
                Some((one.group, one.candidate.image?, latest))
            })
            .collect();
        found.sort_unstable_by_key(|&(group, image, latest)| (group, image, Reverse(latest)));
        found.dedup_by_key(|entry| (entry.0, entry.1));
        Self(found)
    }

    /// Returns the latest time at which an undated tag of the image can have been pushed; `None` if all have dates.
    pub(super) fn latest(&self, group: u32, image: Option<Node>) -> Option<Timestamp> {
        let at = self.0.binary_search_by_key(&(group, image?), |entry| (entry.0, entry.1)).ok()?;
        Some(self.0[at].2)
    }
}
