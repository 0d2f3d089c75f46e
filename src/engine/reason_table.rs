//! The reasons of a repository's tags while they are collected, and the verdicts that follow from them.

use std::collections::BTreeMap;
use std::ops::Range;

use super::graph::index;
use crate::domain::{
    PolicyName, Reason, Reasons, SourceName, TagPosition, TagVerdict, Uncertainty, UnknownFact, Verdict,
};

/// The reasons found so far about the tags of one repository, by position.
pub(super) struct ReasonTable(Vec<TagReasons>);

#[derive(Clone, Default)]
struct TagReasons {
    reasons: Reasons,
    is_kept: bool,
}

impl ReasonTable {
    /// Creates a table without reasons for that many tags.
    pub(super) fn new(tags: usize) -> Self {
        Self(vec![TagReasons::default(); tags])
    }

    /// Adds a reason for a tag; one that does not imply expiry retains it.
    pub(super) fn add(&mut self, tag: u32, reason: Reason) {
        let found = &mut self.0[index(tag)];
        found.is_kept |= reason.implied_verdict() != Verdict::Expired;
        found.reasons.push(reason);
    }

    /// Adds a reason for every tag.
    pub(super) fn add_to_all(&mut self, reason: &Reason) {
        self.tags().for_each(|tag| self.add(tag, reason.clone()));
    }

    /// Returns all tags, by position.
    pub(super) fn tags(&self) -> Range<u32> {
        0..u32::try_from(self.0.len()).expect("a repository has fewer than 2^32 tags")
    }

    /// Returns true if a reason retains a tag.
    pub(super) fn is_kept(&self, tag: u32) -> bool {
        self.0[index(tag)].is_kept
    }

    /// Returns true if a source claims a tag by its name.
    pub(super) fn is_claimed_by(&self, tag: u32, source: &SourceName) -> bool {
        let by_source = |reason: &Reason| matches!(reason, Reason::Claimed(claimed) if claimed.source == *source);
        self.0[index(tag)].reasons.iter().any(by_source)
    }

    /// Returns true if a tag is retained only by image ids that may be those of unread configurations.
    pub(super) fn needs_configurations(&self, tag: u32) -> bool {
        let of_an_id = |reason: &Reason| matches!(reason, Reason::MaybeClaimed(claimed) if claimed.uncertainty == Uncertainty::ConfigUnread);
        let mut keeping =
            self.0[index(tag)].reasons.iter().filter(|reason| reason.implied_verdict() != Verdict::Expired);
        self.is_kept(tag) && keeping.all(of_an_id)
    }

    /// Returns true if a tag is retained only because facts are unknown that its image may tell.
    pub(super) fn lacks_only_image_facts(&self, tag: u32) -> bool {
        let of_image = |reason: &Reason| matches!(reason, Reason::SelectionUnknown { fact, .. } if fact.is_of_image());
        let mut keeping =
            self.0[index(tag)].reasons.iter().filter(|reason| reason.implied_verdict() != Verdict::Expired);
        self.is_kept(tag) && keeping.all(of_image)
    }

    /// Returns the unknown facts about a tag that its image may tell, each with the policy that asks for it.
    pub(super) fn lacking_image_facts(&self, tag: u32) -> impl Iterator<Item = (&PolicyName, UnknownFact)> {
        self.0[index(tag)].reasons.iter().filter_map(|reason| match reason {
            Reason::SelectionUnknown { policy, fact } if fact.is_of_image() => Some((policy, *fact)),
            _ => None,
        })
    }

    /// Returns true if a tag is retained only by a dependency of its image: an index, an image that it accompanies, or
    /// another tag of it.
    pub(super) fn is_kept_by_dependency(&self, tag: u32) -> bool {
        let depends = |reason: &Reason| {
            matches!(
                reason,
                Reason::ChildOfKept { .. }
                    | Reason::CompanionOfKept { .. }
                    | Reason::CompanionOfUnknown { .. }
                    | Reason::SubjectOfKept { .. }
                    | Reason::SharesManifest { .. }
                    | Reason::LastTag
                    | Reason::IndexUnread { .. }
            )
        };
        let mut keeping =
            self.0[index(tag)].reasons.iter().filter(|reason| reason.implied_verdict() != Verdict::Expired);
        self.is_kept(tag) && keeping.all(depends)
    }

    /// Returns the tags that are retained by the reasons so far.
    pub(super) fn kept_tags(&self) -> impl Iterator<Item = u32> {
        self.tags().filter(|&tag| self.is_kept(tag))
    }

    /// Returns the tags that policies expire, whatever else protects them, by policy in the order of names.
    pub(super) fn tags_not_kept(&self) -> BTreeMap<PolicyName, Vec<u32>> {
        let mut by_policy: BTreeMap<PolicyName, Vec<u32>> = BTreeMap::new();
        for (tag, reason) in (0..).zip(&self.0).flat_map(|(tag, found)| found.reasons.iter().map(move |r| (tag, r))) {
            if let Reason::NotKept { policy, .. } = reason {
                by_policy.entry(policy.clone()).or_default().push(tag);
            }
        }
        by_policy
    }

    /// Converts it into one verdict for each tag, its reasons sorted and deduplicated.
    pub(super) fn into_verdicts(self, first: TagPosition, verdicts: &mut Vec<TagVerdict>) {
        for (tag, TagReasons { mut reasons, .. }) in (0..).zip(self.0) {
            reasons.sort();
            let verdict = reasons.iter().map(Reason::implied_verdict).min().unwrap_or(Verdict::OutOfScope);
            verdicts.push(TagVerdict { position: TagPosition { tag, ..first }, verdict, reasons });
        }
    }
}
