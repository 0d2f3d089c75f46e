//! Images of which a tag has no date: rules by rank count an image by the newest of its tags, so its dated tags may stay
//! as well.

use std::collections::HashMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::members::{Member, newest_image_times, periods_of};
use crate::domain::{Digest, DigestMap, KeepRule};

/// The images with an undated tag, each with the latest time of such a tag; [`Timestamp::MAX`] where nothing bounds it.
pub(super) struct UndatedImages<'a>(HashMap<&'a Digest, Timestamp>);

impl<'a> UndatedImages<'a> {
    pub(super) fn of(members: &[Member<'a>]) -> Self {
        let mut latest = HashMap::new();
        for member in members.iter().filter(|member| member.time().is_none()) {
            let Some(digest) = member.digest() else { continue };
            let bound = member.latest_possible().unwrap_or(Timestamp::MAX);
            latest.entry(digest).and_modify(|known: &mut Timestamp| *known = bound.max(*known)).or_insert(bound);
        }
        Self(latest)
    }

    /// Returns the latest time at which the image can have been pushed by an undated tag.
    pub(super) fn latest(&self, member: &Member<'_>) -> Option<Timestamp> {
        self.0.get(member.digest()?).copied()
    }

    /// Returns the tags that a rule keeps if their images are as new as they can be.
    pub(super) fn perhaps_kept(
        &self,
        rule: &KeepRule,
        members: &[Member<'a>],
        times: &DigestMap<&Digest, Timestamp>,
        timezone: &TimeZone,
    ) -> Vec<u32> {
        let doubted = members.iter().filter_map(|member| Some((member, self.latest(member)?)));
        match rule {
            _ if self.0.is_empty() => Vec::new(),
            KeepRule::Newest(count) => {
                let last = newest_image_times(times).get(count.get() as usize - 1).copied();
                let kept = doubted.filter(|(_, latest)| last.is_none_or(|last| *latest >= last));
                kept.map(|(member, _)| member.position).collect()
            }
            KeepRule::Bucketed { period, count } => {
                let periods = periods_of(members, *period, timezone);
                let kept: Vec<(Vec<u32>, Timestamp)> = periods
                    .values()
                    .rev()
                    .take(count.get() as usize)
                    .filter_map(|there| {
                        let newest = there.iter().filter_map(|member| member.time()).max()?;
                        Some((there.iter().map(|member| member.position).collect(), newest))
                    })
                    .collect();
                let oldest = kept.get(count.get() as usize - 1).map(|(_, newest)| *newest);
                let may_stay = |member: &Member<'_>, latest: Timestamp| match member.time() {
                    Some(_) => kept.iter().any(|(there, newest)| latest >= *newest && there.contains(&member.position)),
                    None => oldest.is_none_or(|oldest| latest >= oldest),
                };
                let kept = doubted.filter(|(member, latest)| may_stay(member, *latest));
                kept.map(|(member, _)| member.position).collect()
            }
            _ => Vec::new(),
        }
    }
}
