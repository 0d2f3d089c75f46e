//! A second pair of eyes, written apart from what it looks at.
//!
//! It shares no deciding code with `evaluate` and `plan`: only the date of a tag and the matching of globs. It works the
//! other way round, from each removal to everything that could forbid it, and asks nothing of a tag that stays.

mod deletions;
mod dependents;
mod evidence;
mod limits;
mod ranges;
mod rules;
mod unmatched;
mod version;

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use jiff::Timestamp;

use super::Verdicts;
use super::date::tag_date;
use crate::domain::{
    Claims, Digest, Inventory, Plan, PolicyName, RefusalScope, Registry, Removal, Repository, Rules, Tag, TagName,
    TagPosition, Verdict,
};

pub use deletions::check_deletions;

/// Something in verdicts or a plan that cannot be right. It is a fault of this program, and whoever finds it removes
/// nothing.
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
    /// A tag's verdict is that it goes, and no removal does it.
    MissingRemoval {
        /// The tag.
        image: String,
    },
    /// A removal of something that the inventory does not have, or whose verdict is not that it goes.
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
        /// The first that comes too late.
        image: String,
    },
    /// A removal says something else than the inventory or the rules.
    FactMismatch {
        /// The tag.
        image: String,
        /// What differs.
        what: &'static str,
    },
    /// A tag is removed that something holds.
    ProtectedTag {
        /// The tag.
        image: String,
        /// What holds it.
        by: String,
    },
    /// A removal is to be enforced that may only be reported.
    WronglyEnforced {
        /// The tag.
        image: String,
        /// Why not.
        why: String,
    },
    /// A limit is passed, and no refusal says so.
    MissingRefusal {
        /// What the refusal should cover.
        scope: RefusalScope,
        /// The label of the limit.
        limit: &'static str,
    },
    /// A refusal of a limit that is not passed.
    UnfoundedRefusal {
        /// What it covers.
        scope: RefusalScope,
        /// The label of the limit.
        limit: &'static str,
    },
}

/// The policies that let each removal go, by name. There are many removals, and few lists of policies.
#[derive(Default)]
struct RemovalPolicies<'a> {
    lists: Vec<Vec<&'a PolicyName>>,
    /// Which list is whose, in order.
    of: Vec<(TagPosition, usize)>,
}

impl<'a> RemovalPolicies<'a> {
    /// Adds those of one removal; removals come in their order.
    fn add(&mut self, (at, policies): (TagPosition, Vec<&'a PolicyName>)) {
        let known = self.lists.iter().rposition(|list| *list == policies);
        let list = known.unwrap_or(self.lists.len());
        if known.is_none() {
            self.lists.push(policies);
        }
        self.of.push((at, list));
    }

    fn get(&self, at: TagPosition) -> &[&'a PolicyName] {
        let found = self.of.binary_search_by_key(&at, |&(at, _)| at).ok();
        found.map_or(&[], |found| &self.lists[self.of[found].1])
    }
}

/// Everything in verdicts and plan that the facts do not bear out; nothing if all is well.
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
    let mut owners = RemovalPolicies::default();
    for (position, registry) in (0..).zip(&inventory.registries) {
        let evidence = evidence::RegistryEvidence::new(inventory, registry, claims, now);
        let mut removals: HashMap<u32, Vec<&Removal>> = HashMap::new();
        for removal in plan.removals.iter().filter(|removal| removal.position.registry == position) {
            removals.entry(removal.position.repository).or_default().push(removal);
        }
        for (place, repository) in (0..).zip(&registry.repositories) {
            let Some(removals) = removals.remove(&place) else { continue };
            let going: Vec<TagRemoval<'_>> = removals
                .iter()
                .filter_map(|removal| check_facts(registry, repository, removal, now, &mut findings))
                .collect();
            evidence.check_removals(repository, &going, &mut findings);
            dependents::check_dependents(registry, repository, &going, &evidence, &mut findings);
            for one in rules::check_rules(rules, registry, repository, &going, now, &mut findings) {
                owners.add(one);
            }
        }
        let nowhere = removals.into_values().flatten();
        findings.extend(nowhere.map(|removal| Violation::UnfoundedRemoval { image: image(removal) }));
    }
    let beyond =
        plan.removals.iter().filter(|removal| removal.position.registry as usize >= inventory.registries.len());
    findings.extend(beyond.map(|removal| Violation::UnfoundedRemoval { image: image(removal) }));
    dependents::check_enforced_dependents(inventory, plan, &owners, &mut findings);
    limits::check_limits(rules, inventory, plan, &owners, &mut findings);
    unmatched::check_unmatched(rules, inventory, plan, &owners, &mut findings);
    findings
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

/// Whether a tag's name makes it a signature or the like of another image.
fn accompanies(tag: &TagName) -> bool {
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
    let tags = inventory.tag_count();
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
    let expired = verdicts.tags.iter().filter(|found| found.verdict == Verdict::Expired).map(|found| found.position);
    let mut open: BTreeSet<TagPosition> = expired.collect();
    let mut seen = BTreeSet::new();
    for removal in &plan.removals {
        if !seen.insert(removal.position) {
            findings.push(Violation::DuplicateRemoval { image: image(removal) });
        } else if !open.remove(&removal.position) {
            findings.push(Violation::UnfoundedRemoval { image: image(removal) });
        }
    }
    let mut forgotten: Vec<TagPosition> = open.into_iter().collect();
    forgotten.sort();
    findings.extend(forgotten.into_iter().map(|at| Violation::MissingRemoval { image: format!("{at:?}") }));
    for pair in plan.removals.windows(2) {
        let name = |removal: &Removal| (removal.registry.clone(), removal.repository.clone(), removal.tag.clone());
        if name(&pair[0]) > name(&pair[1]) {
            findings.push(Violation::UnsortedRemoval { image: image(&pair[1]) });
        }
    }
}

/// Holds a removal against the facts at its place.
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
