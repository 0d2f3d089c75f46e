//! The second check of a decision, written independently of it.
//!
//! It shares no deciding code with `evaluate` and `plan`, except for the date of a tag and the matching of globs. It
//! works in the opposite direction, from each removal to everything that could forbid it, and ignores retained tags.

mod deletions;
mod dependents;
mod evidence;
mod limits;
mod members;
mod ranges;
mod rules;
mod ties;
mod undated;
mod unmatched;
mod unread;
mod version;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use jiff::Timestamp;

use super::Verdicts;
use super::date::tag_date;
use super::mentions::{MentionIndex, RepositoryMentions};
use super::placed_digests::PlacedDigests;
use crate::domain::{
    AcceptedRefusal, Claims, Coverage, Deletions, Digest, Inventory, Plan, PolicyName, Refusal, RefusalScope, Registry,
    RegistryName, Removal, Repository, RepositoryName, Rules, Tag, TagName, TagPosition, Verdict,
};

pub use deletions::check_deletions;
pub(super) use deletions::check_deletions_among;

/// An impossible part of verdicts or a plan. It is a bug in this program, and nothing is removed then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// Not every tag of the inventory has one verdict, in the inventory's order.
    VerdictTable {
        /// Verdicts found.
        verdicts: usize,
        /// Tags in the inventory.
        tags: usize,
    },
    /// A verdict does not follow from its reasons.
    Contradiction {
        /// The tag.
        image: String,
        /// The verdict.
        verdict: Verdict,
    },
    /// An expired tag has no removal.
    MissingRemoval {
        /// The tag.
        image: String,
    },
    /// The tag of a removal does not exist in the inventory, or is not expired.
    UnfoundedRemoval {
        /// The tag.
        image: String,
    },
    /// A tag is removed twice.
    DuplicateRemoval {
        /// The tag.
        image: String,
    },
    /// The removals are not in order.
    UnsortedRemoval {
        /// The first that is out of order.
        image: String,
    },
    /// A removal contradicts the inventory or the rules.
    FactMismatch {
        /// The tag.
        image: String,
        /// The differing fact.
        what: &'static str,
    },
    /// A protected tag is removed.
    ProtectedTag {
        /// The tag.
        image: String,
        /// The evidence that protects it.
        by: String,
    },
    /// A removal is to be enforced that may only be reported.
    WronglyEnforced {
        /// The tag.
        image: String,
        /// Why not.
        why: String,
    },
    /// A limit is exceeded without a refusal.
    MissingRefusal {
        /// The scope of the missing refusal.
        scope: RefusalScope,
        /// The label of the limit.
        limit: &'static str,
    },
    /// A refusal of a limit that is not exceeded.
    UnfoundedRefusal {
        /// The scope of the refusal.
        scope: RefusalScope,
        /// The label of the limit.
        limit: &'static str,
    },
}

/// The policies that expire each tag of a repository, by name. There are many tags, and few lists of policies.
struct RemovalPolicies<'a> {
    /// The first is empty.
    lists: Vec<Vec<&'a PolicyName>>,
    /// By tag.
    of: Vec<usize>,
}

impl<'a> RemovalPolicies<'a> {
    /// Creates lists for that many tags, with no policy that expires any.
    fn new(tags: usize) -> Self {
        Self { lists: vec![Vec::new()], of: vec![0; tags] }
    }

    /// Adds a policy to those that expire a tag.
    fn add(&mut self, tag: u32, policy: &'a PolicyName) {
        let Some(list) = self.of.get(tag as usize).copied() else { return };
        let is_extended = |longer: &Vec<&PolicyName>| {
            longer.split_last().is_some_and(|(last, rest)| *last == policy && rest == self.lists[list])
        };
        let known = self.lists.iter().rposition(is_extended);
        self.of[tag as usize] = known.unwrap_or_else(|| {
            let longer = self.lists[list].iter().copied().chain([policy]).collect();
            self.lists.push(longer);
            self.lists.len() - 1
        });
    }

    /// Makes a policy the only one that expires a tag.
    fn set(&mut self, tag: u32, policy: &'a PolicyName) {
        if let Some(list) = self.of.get_mut(tag as usize) {
            *list = 0;
        }
        self.add(tag, policy);
    }

    /// Returns the number of the list of a tag's policies: equal for equal policies.
    fn list_of(&self, tag: u32) -> usize {
        self.of.get(tag as usize).copied().unwrap_or_default()
    }

    fn get(&self, at: TagPosition) -> &[&'a PolicyName] {
        &self.lists[self.list_of(at.tag)]
    }
}

/// Some of the tags of a repository.
struct TagSet(Vec<bool>);

impl TagSet {
    /// Creates the set of tags at these positions.
    fn of(repository: &Repository, positions: impl IntoIterator<Item = u32>) -> Self {
        let mut found = Self(vec![false; repository.tags.len()]);
        positions.into_iter().for_each(|tag| found.insert(tag));
        found
    }

    fn insert(&mut self, tag: u32) {
        if let Some(there) = self.0.get_mut(tag as usize) {
            *there = true;
        }
    }

    fn contains(&self, tag: u32) -> bool {
        self.0.get(tag as usize).copied().unwrap_or_default()
    }
}

/// Returns everything in verdicts and plan that the facts do not support; empty if all is well.
#[must_use]
pub fn check(
    rules: &Rules,
    inventory: &Inventory,
    claims: &Claims,
    verdicts: &Verdicts,
    plan: &Plan,
    now: Timestamp,
) -> Vec<Violation> {
    let mut findings = Vec::new();
    check_verdict_table(inventory, verdicts, &mut findings);
    check_removal_list(plan, verdicts, &mut findings);
    let placed = PlacedDigests::of(inventory, claims);
    let mut totals = CheckTotals::new(rules);
    let mut removals: HashMap<(u32, u32), Vec<&Removal>> = HashMap::new();
    for removal in &plan.removals {
        let TagPosition { registry, repository, .. } = removal.position;
        removals.entry((registry, repository)).or_default().push(removal);
    }
    let binding = plan.refusals.iter().filter(|refusal| refusal.binding);
    let refused: BTreeSet<&RefusalScope> = binding.map(|refusal| &refusal.scope).collect();
    for (position, registry) in (0..).zip(&inventory.registries) {
        let checker = RegistryChecker::new(rules, registry, claims, now);
        let mentions = MentionIndex::new(registry, claims);
        for (place, repository) in (0..).zip(&registry.repositories) {
            let removals = removals.remove(&(position, place)).unwrap_or_default();
            let mentions = mentions.in_repository(registry, repository, &[]);
            findings.extend(checker.check_repository(
                repository,
                (&mentions, &placed),
                (&removals, &refused),
                &mut totals,
            ));
        }
    }
    let nowhere = removals.into_values().flatten();
    findings.extend(nowhere.map(|removal| Violation::UnfoundedRemoval { image: image(removal) }));
    let head = PlanHead {
        refusals: &plan.refusals,
        accepted: &plan.accepted,
        deletions: &plan.deletions,
        coverage: &plan.coverage,
        unenforced: None,
    };
    findings.extend(totals.check(rules, &inventory.registries, &head));
    findings
}

/// The whole-plan parts of a plan.
#[derive(Debug, Clone, Copy)]
pub struct PlanHead<'a> {
    /// The refusals of removals.
    pub refusals: &'a [Refusal],
    /// What a person accepted of what would stand against them.
    pub accepted: &'a [AcceptedRefusal],
    /// The deletions of untagged manifests.
    pub deletions: &'a Deletions,
    /// The rules that match nothing.
    pub coverage: &'a Coverage,
    /// The removals that are not enforced because of refusals, by repository and position; `None` if the checked
    /// removals are those of the final plan.
    pub unenforced: Option<&'a BTreeMap<(RegistryName, RepositoryName), Vec<u32>>>,
}

/// The second check of the repositories of one registry, one after another.
pub(super) struct RegistryChecker<'a> {
    rules: &'a Rules,
    registry: &'a Registry,
    evidence: evidence::RegistryEvidence<'a>,
    now: Timestamp,
}

/// The sums of the second check over all repositories.
#[derive(Debug)]
pub struct CheckTotals<'a> {
    limits: limits::LimitCounts,
    held: Vec<dependents::HeldByPolicy>,
    rules: unmatched::RuleSightings<'a>,
}

impl<'a> RegistryChecker<'a> {
    /// Creates the checker. The repositories in `registry` are not used.
    pub(super) fn new(rules: &'a Rules, registry: &'a Registry, claims: &'a Claims, now: Timestamp) -> Self {
        Self { rules, registry, evidence: evidence::RegistryEvidence::new(registry, claims, now), now }
    }

    /// Checks that each tag of a repository that is decided by itself has its verdict, and each expired one its
    /// removal.
    pub(super) fn check_verdicts(
        repository: &Repository,
        verdicts: &Verdicts,
        removals: &[&Removal],
    ) -> Vec<Violation> {
        let mut findings = Vec::new();
        let places = (0..).zip(&repository.tags).map(|(tag, _)| TagPosition { registry: 0, repository: 0, tag });
        check_table(places, repository.tags.len(), verdicts, &mut findings);
        check_removals(removals, verdicts, &mut findings);
        findings
    }

    /// Checks the removals of one repository, and the enforced ones given the scopes of binding refusals.
    pub(super) fn check_repository(
        &self,
        repository: &Repository,
        (mentions, placed): (&RepositoryMentions<'_>, &PlacedDigests),
        (removals, refused): (&[&Removal], &BTreeSet<&RefusalScope>),
        totals: &mut CheckTotals<'_>,
    ) -> Vec<Violation> {
        let mut findings = Vec::new();
        if removals.is_empty() {
            totals.rules.add((self.registry, repository), removals, &RemovalPolicies::new(0));
            return findings;
        }
        let ties = ties::Ties::of(repository);
        let evidence = self.evidence.in_repository(mentions);
        let going: Vec<TagRemoval<'_>> = removals
            .iter()
            .filter_map(|removal| check_facts(self.registry, repository, removal, self.now, &mut findings))
            .collect();
        evidence.check_removals(repository, placed, &going, &mut findings);
        dependents::check_dependents(self.registry, &ties, &going, &evidence, &mut findings);
        unread::check_unread(self.registry, &ties, &going, (&evidence, placed), &mut findings);
        let owners = rules::check_rules(self.rules, self.registry, repository, &going, self.now, &mut findings);
        dependents::check_enforced_dependents(self.registry, &ties, removals, refused, &owners, &mut findings);
        totals.held.extend(dependents::held_by_policies(self.registry, &ties, removals, &owners));
        totals.limits.add((self.registry, repository), removals, &owners);
        totals.rules.add((self.registry, repository), removals, &owners);
        findings
    }
}

impl<'a> CheckTotals<'a> {
    /// Creates totals with nothing added yet.
    #[must_use]
    pub fn new(rules: &'a Rules) -> Self {
        Self { limits: limits::LimitCounts::default(), held: Vec::new(), rules: unmatched::RuleSightings::new(rules) }
    }

    /// Checks the limits, and the rules that match nothing, once all repositories were checked.
    #[must_use]
    pub fn check(&self, rules: &Rules, registries: &[Registry], plan: &PlanHead<'_>) -> Vec<Violation> {
        let mut findings = Vec::new();
        let accepted = plan.accepted.iter().map(|one| &one.refusal);
        let found: Vec<&Refusal> = plan.refusals.iter().chain(accepted).collect();
        self.limits.check(rules, registries, &found, &mut findings);
        self.rules.check(registries, plan, &mut findings);
        self.held.iter().for_each(|held| held.check(plan, &mut findings));
        findings
    }
}

/// A removal with the tag that it removes.
struct TagRemoval<'a> {
    removal: &'a Removal,
    tag: &'a Tag,
    digest: &'a Digest,
}

impl TagRemoval<'_> {
    fn image(&self) -> String {
        image(self.removal)
    }
}

fn image(removal: &Removal) -> String {
    format!("{}/{}:{}", removal.registry, removal.repository, removal.tag)
}

/// Returns true if a tag's name makes it a signature or the like of another image.
fn accompanies(tag: &TagName) -> bool {
    // Called more than once for each tag.
    if !tag.as_bytes().starts_with(b"sha") {
        return false;
    }
    let text = tag.as_str();
    let Some(rest) = text.strip_prefix("sha256-").or_else(|| text.strip_prefix("sha512-")) else { return false };
    let hex = rest.bytes().take_while(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')).count();
    let suffix = &rest[hex..];
    let right_length = if text.starts_with("sha256") { hex == 64 } else { hex >= 64 };
    let plain = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    right_length && (suffix.is_empty() || suffix.len() > 1 && suffix.starts_with('.') && suffix.bytes().all(plain))
}

fn check_verdict_table(inventory: &Inventory, verdicts: &Verdicts, findings: &mut Vec<Violation>) {
    let places = (0..).zip(&inventory.registries).flat_map(|(registry, facts)| {
        (0..).zip(&facts.repositories).flat_map(move |(repository, facts)| {
            (0..).zip(&facts.tags).map(move |(tag, _)| TagPosition { registry, repository, tag })
        })
    });
    check_table(places, inventory.tag_count(), verdicts, findings);
}

fn check_table(
    places: impl Iterator<Item = TagPosition>,
    tags: usize,
    verdicts: &Verdicts,
    findings: &mut Vec<Violation>,
) {
    if verdicts.tags.len() != tags || !places.eq(verdicts.tags.iter().map(|found| found.position)) {
        findings.push(Violation::VerdictTable { verdicts: verdicts.tags.len(), tags });
    }
    for found in &verdicts.tags {
        let strongest = found.reasons.iter().map(crate::domain::Reason::implied_verdict).min();
        if strongest != Some(found.verdict) {
            let image = format!("{:?}", found.position);
            findings.push(Violation::Contradiction { image, verdict: found.verdict });
        }
    }
}

fn check_removal_list(plan: &Plan, verdicts: &Verdicts, findings: &mut Vec<Violation>) {
    let removals: Vec<&Removal> = plan.removals.iter().collect();
    check_removals(&removals, verdicts, findings);
}

fn check_removals(removals: &[&Removal], verdicts: &Verdicts, findings: &mut Vec<Violation>) {
    let expired = verdicts.tags.iter().filter(|found| found.verdict == Verdict::Expired).map(|found| found.position);
    // Both are sorted, so that equal ones meet.
    let mut expired: Vec<TagPosition> = expired.collect();
    expired.sort_unstable();
    let mut found: Vec<(TagPosition, &&Removal)> = removals.iter().map(|removal| (removal.position, removal)).collect();
    found.sort_by_key(|(position, _)| *position);
    for pair in found.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        findings.push(Violation::DuplicateRemoval { image: image(pair[1].1) });
    }
    found.dedup_by_key(|(position, _)| *position);
    let unfounded = found.iter().filter(|(position, _)| expired.binary_search(position).is_err());
    findings.extend(unfounded.map(|(_, removal)| Violation::UnfoundedRemoval { image: image(removal) }));
    let forgotten = expired.iter().filter(|at| found.binary_search_by_key(*at, |(position, _)| *position).is_err());
    findings.extend(forgotten.map(|at| Violation::MissingRemoval { image: format!("{at:?}") }));
    for pair in removals.windows(2) {
        let (first, second) = (pair[0], pair[1]);
        if (&first.registry, &first.repository, &first.tag) > (&second.registry, &second.repository, &second.tag) {
            findings.push(Violation::UnsortedRemoval { image: image(second) });
        }
    }
}

/// Compares a removal with the facts at its place.
fn check_facts<'a>(
    registry: &Registry,
    repository: &'a Repository,
    removal: &'a Removal,
    now: Timestamp,
    findings: &mut Vec<Violation>,
) -> Option<TagRemoval<'a>> {
    let Some(tag) = repository.tags.get(removal.position.tag as usize) else {
        findings.push(Violation::UnfoundedRemoval { image: image(removal) });
        return None;
    };
    let same_name =
        removal.registry == registry.name && removal.repository == repository.name && removal.tag == tag.name;
    let right = [
        ("its name", same_name),
        ("its digest", tag.digest.as_ref() == Some(&removal.digest)),
        ("how it is removed", removal.method == registry.removal),
        ("its date", removal.date == tag_date(repository, tag, now)),
        ("whether it is a companion", removal.companion_of.is_some() == accompanies(&tag.name)),
    ];
    for (what, _) in right.iter().filter(|(_, right)| !right) {
        findings.push(Violation::FactMismatch { image: image(removal), what });
    }
    Some(TagRemoval { removal, tag, digest: tag.digest.as_ref()? })
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::VerdictTable { verdicts, tags } => {
                write!(f, "{verdicts} verdicts for {tags} tags, or not in the inventory's order")
            }
            Self::Contradiction { image, verdict } => {
                write!(f, "{image} is {} by other than its reasons", verdict.label())
            }
            Self::MissingRemoval { image } => write!(f, "{image} is expired, and no removal says so"),
            Self::UnfoundedRemoval { image } => write!(f, "{image} would be removed, and no verdict says so"),
            Self::DuplicateRemoval { image } => write!(f, "{image} would be removed twice"),
            Self::UnsortedRemoval { image } => write!(f, "{image} stands in the wrong place of the plan"),
            Self::FactMismatch { image, what } => write!(f, "{image} would be removed, but {what} is another"),
            Self::ProtectedTag { image, by } => write!(f, "{image} would be removed, but it is held: {by}"),
            Self::WronglyEnforced { image, why } => write!(f, "{image} would really be removed, but may not be: {why}"),
            Self::MissingRefusal { scope, limit } => {
                write!(f, "{limit} is passed for {scope:?}, and nothing refuses it")
            }
            Self::UnfoundedRefusal { scope, limit } => {
                write!(f, "{limit} is refused for {scope:?}, and was not passed")
            }
        }
    }
}
