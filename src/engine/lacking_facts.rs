//! The facts that selectors ask for, that images tell, and that were not read.

use std::collections::BTreeSet;

use super::graph::index;
use super::reason_table::ReasonTable;
use crate::domain::{Digest, KeepRule, ManifestDetail, Policy, PolicyName, Repository, TextKind, UnknownFact};

/// The manifests that have to be read for such facts.
#[derive(Default)]
pub(super) struct LackingFacts {
    /// For their own types.
    pub(super) types: BTreeSet<Digest>,
    /// For annotations or labels.
    pub(super) texts: BTreeSet<(Digest, TextKind)>,
}

/// Returns the manifests whose facts would decide tags that nothing else retains. If the policy that asks gives places to
/// the newest or the like, it needs the facts about all the tags that it may select: one of which nothing is known takes
/// no place, and another tag would stay for it.
pub(super) fn lacking_facts(policies: &[&Policy], repository: &Repository, found: &ReasonTable) -> LackingFacts {
    let mut lacking = LackingFacts::default();
    let asks = |policy: &&&Policy| {
        let facts = &policy.select.facts;
        facts.types.is_some() || !facts.annotations.is_empty() || !facts.labels.is_empty()
    };
    let asking: Vec<&&Policy> = policies.iter().filter(asks).collect();
    if asking.is_empty() {
        return lacking;
    }
    let open: Vec<u32> = found.tags().filter(|&tag| found.lacks_only_image_facts(tag)).collect();
    let undecided: BTreeSet<&PolicyName> =
        open.iter().flat_map(|&tag| found.lacking_image_facts(tag)).map(|(policy, _)| policy).collect();
    let ranks = |policy: &&&Policy| undecided.contains(&policy.name) && gives_places(policy);
    let ranking: BTreeSet<&PolicyName> = asking.into_iter().filter(ranks).map(|policy| &policy.name).collect();
    for tag in open {
        found.lacking_image_facts(tag).for_each(|(_, fact)| lacking.add(repository, tag, fact));
    }
    if !ranking.is_empty() {
        for tag in found.tags() {
            let facts = found.lacking_image_facts(tag).filter(|(policy, _)| ranking.contains(policy));
            facts.for_each(|(_, fact)| lacking.add(repository, tag, fact));
        }
    }
    lacking
}

/// Returns true if a policy keeps tags by their place among others.
fn gives_places(policy: &Policy) -> bool {
    let by_place = |rule: &KeepRule| {
        matches!(
            rule,
            KeepRule::Newest(_) | KeepRule::Bucketed { .. } | KeepRule::NewestPer { .. } | KeepRule::AtMost(_)
        )
    };
    policy.keep.rules().iter().any(by_place)
}

impl LackingFacts {
    /// Adds the manifest of a tag, unless the registry does not have it, or it was read for the fact.
    fn add(&mut self, repository: &Repository, tag: u32, fact: UnknownFact) {
        let digest = repository.tags.get(index(tag)).and_then(|tag| tag.digest.as_ref());
        let Some((digest, manifest)) = digest.and_then(|digest| repository.manifests.get_key_value(digest)) else {
            return;
        };
        match fact {
            UnknownFact::ArtifactType => {
                if manifest.detail != ManifestDetail::Full && !repository.artifact_types.contains_key(digest) {
                    self.types.insert(digest.clone());
                }
            }
            UnknownFact::Annotation => drop(self.texts.insert((digest.clone(), TextKind::Annotation))),
            UnknownFact::Label => drop(self.texts.insert((digest.clone(), TextKind::Label))),
            UnknownFact::LastPush | UnknownFact::LastPull | UnknownFact::UseBeforeRemovals => {}
        }
    }
}
