//! The views of the tags of one repository.

use jiff::Timestamp;

use super::document::{KeptView, RefusedView, RemovalView};
use super::reason::ReasonView;
use super::registry_info::verify_commands;
use crate::domain::{Date, Registry, Removal, Repository, TagVerdict, Verdict};
use crate::engine::{self, RepositoryDecision};

/// The views of one repository's tags, computed during iteration: those of many tags take more memory than the facts
/// behind them.
#[derive(Debug, Clone, Copy)]
pub struct RepositoryViews<'a> {
    registry: &'a Registry,
    repository: &'a Repository,
    decision: &'a RepositoryDecision,
    at: Timestamp,
}

impl<'a> RepositoryViews<'a> {
    /// Creates the views of the decision on one repository as of `at`. The repositories in `registry` are not used.
    #[must_use]
    pub fn new(
        registry: &'a Registry,
        repository: &'a Repository,
        decision: &'a RepositoryDecision,
        at: Timestamp,
    ) -> Self {
        Self { registry, repository, decision, at }
    }

    /// Returns the tags to remove, by name, without their bytes.
    pub fn removals(self) -> impl Iterator<Item = RemovalView> + 'a {
        let Self { registry, decision, at, .. } = self;
        let removals = decision.removals.removals.iter();
        removals.map(move |removal| removal_view(registry, removal, decision.verdicts.at(removal.position), at))
    }

    /// Returns the other tags, by name.
    pub fn kept(self) -> impl Iterator<Item = KeptView> + 'a {
        let Self { registry, repository, decision, at } = self;
        let kept = decision.verdicts.tags.iter().filter(|found| is_kept(found));
        kept.filter_map(move |found| kept_view(registry, repository, found, at))
    }
}

/// Returns true for the verdict on a retained tag.
pub(super) fn is_kept(found: &TagVerdict) -> bool {
    found.verdict != Verdict::Expired
}

/// Returns the view of a tag to remove, without its bytes.
pub(super) fn removal_view(
    registry: &Registry,
    removal: &Removal,
    verdict: Option<&TagVerdict>,
    at: Timestamp,
) -> RemovalView {
    let dated_at = removal.date.timestamp();
    RemovalView {
        registry: removal.registry.to_string(),
        repository: removal.repository.to_string(),
        tag: removal.tag.to_string(),
        digest: removal.digest.to_string(),
        policy: removal.policy.to_string(),
        enforce: removal.enforce,
        method: removal.method.label().to_owned(),
        companion_of: removal.companion_of.as_ref().map(ToString::to_string),
        pushed_at: match removal.date {
            Date::Pushed(time) => Some(time),
            _ => None,
        },
        dated_at,
        dated_by: removal.date.label().to_owned(),
        age_seconds: dated_at.map(|time| at.duration_since(time).as_secs()),
        reclaimable_bytes: None,
        shared_bytes: None,
        refused_by_registry: refused_view(registry, removal),
        verify: verify_commands(registry, removal),
        reasons: verdict.map(reasons).unwrap_or_default(),
    }
}

fn refused_view(registry: &Registry, removal: &Removal) -> Option<RefusedView> {
    let refused = registry.refused_tag(&removal.repository, &removal.tag, &removal.digest)?;
    Some(RefusedView {
        times: refused.refusal_count,
        last_at: refused.last_at,
        next_try: refused.next_retry_at(),
        message: refused.message.clone(),
        text: refused.describe(),
    })
}

/// Returns the view of a retained tag, or `None` if the verdict is not on a tag of the repository.
pub(super) fn kept_view(
    registry: &Registry,
    repository: &Repository,
    verdict: &TagVerdict,
    at: Timestamp,
) -> Option<KeptView> {
    let tag = repository.tags.get(verdict.position.tag as usize)?;
    let date = engine::tag_date(repository, tag, at);
    Some(KeptView {
        registry: registry.name.to_string(),
        repository: repository.name.to_string(),
        tag: tag.name.to_string(),
        digest: tag.digest.as_ref().map(ToString::to_string),
        verdict: verdict.verdict.label().to_owned(),
        dated_at: date.timestamp(),
        dated_by: date.label().to_owned(),
        reasons: reasons(verdict),
    })
}

fn reasons(verdict: &TagVerdict) -> Vec<ReasonView> {
    verdict.reasons.iter().map(ReasonView::from).collect()
}
