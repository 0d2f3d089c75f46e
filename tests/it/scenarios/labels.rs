//! Places, reasons, refusals and drift in one word each, with the short names of images.

use super::shape::{Names, ScenarioFacts};
use tagwarden::domain::{
    ClaimMatch, Deletion, Drift, GapTarget, HoldMatch, Inventory, LastMatch, LockTarget, RangeSelection, Reason,
    Refusal, RefusalReason, RefusalScope, RetainReason, RuleKey, TagPosition, UncertainClaimReason, Uncertainty,
    UndatedCause, UnmatchedRule,
};

pub(super) struct Labels<'a> {
    inventory: &'a Inventory,
    names: &'a Names,
}

impl<'a> Labels<'a> {
    pub(super) fn new(stage: &'a ScenarioFacts) -> Self {
        Self { inventory: &stage.inventory, names: &stage.names }
    }

    /// `repository:tag`, with the registry before it where there are several.
    pub(super) fn image(&self, at: TagPosition) -> String {
        let registry = &self.inventory.registries[at.registry as usize];
        let repository = &registry.repositories[at.repository as usize];
        let tag = self.names.short(repository.tags[at.tag as usize].name.as_str());
        if self.inventory.registries.len() > 1 {
            format!("{}/{}:{tag}", registry.name, repository.name)
        } else {
            format!("{}:{tag}", repository.name)
        }
    }

    pub(super) fn reason(&self, reason: &Reason) -> String {
        let of = |digest| self.names.of(digest);
        match reason {
            Reason::NotSelected => "not-selected".into(),
            Reason::Held(held) => {
                let tag = &held.hold.tag;
                match &held.by {
                    HoldMatch::Tag => "held".into(),
                    HoldMatch::DriftedTag => "held-drifted".into(),
                    HoldMatch::Digest => format!("held-digest({tag})"),
                    HoldMatch::IndexContains(digest) => format!("held-inside({tag},{})", of(digest)),
                }
            }
            Reason::Claimed(claimed) => {
                let source = &claimed.source;
                match &claimed.by {
                    ClaimMatch::Tag => format!("claimed-tag({source})"),
                    ClaimMatch::Digest => format!("claimed-digest({source})"),
                    ClaimMatch::Config => format!("claimed-config({source})"),
                    ClaimMatch::IndexContains(digest) => format!("claimed-inside({source},{})", of(digest)),
                    ClaimMatch::DriftedTag { recorded } => format!("drifted({source},{})", of(recorded)),
                    ClaimMatch::Range(range, RangeSelection::Highest) => format!("claimed-highest({source},{range})"),
                    ClaimMatch::Range(range, RangeSelection::All) => format!("claimed-in({source},{range})"),
                }
            }
            Reason::Locked { on, lock } => {
                let on = match on {
                    LockTarget::Tag => "tag",
                    LockTarget::Manifest => "manifest",
                    LockTarget::Repository => "repository",
                };
                format!("locked-{on}({})", lock.label())
            }
            Reason::ChildOfKept { index } => format!("child-of({})", of(index)),
            Reason::CompanionOfKept { subject } => format!("companion-of({})", of(subject)),
            Reason::CompanionOfUnknown { subject } => format!("companion-of-unknown({})", of(subject)),
            Reason::SubjectOfKept { referrer } => format!("subject-of({})", of(referrer)),
            Reason::SharesManifest { tag } => format!("shares-manifest({})", self.names.short(tag.as_str())),
            Reason::LastTag => "last-tag".to_owned(),
            Reason::KeptAll { policy } => format!("all({policy})"),
            Reason::KeptNewest { policy, rank, count } => format!("newest({policy},{rank}/{count})"),
            Reason::KeptWithin { policy, within, .. } => format!("within({policy},{within})"),
            Reason::KeptBucket { policy, period, bucket, .. } => format!("{}({policy},{bucket})", period.rule_name()),
            Reason::KeptVersion { policy, line, rank, count, .. } => {
                format!("version({policy},{line},{rank}/{count})")
            }
            Reason::KeptPulled { policy, within, .. } => format!("pulled({policy},{within})"),
            Reason::PullTimeUnknown { policy } => format!("pull-unknown({policy})"),
            Reason::KeptMatching { policy, glob } => format!("matching({policy},{glob})"),
            Reason::KeptImageWith { policy, tag } => format!("image-with({policy},{tag})"),
            Reason::Undated { policy, cause: why } => {
                let why = match why {
                    UndatedCause::Missing => "missing",
                    UndatedCause::TooEarly(_) => "too-early",
                    UndatedCause::Future(_) => "future",
                    UndatedCause::Restored => "restored",
                    UndatedCause::OtherTag => "other-tag",
                };
                format!("undated({policy},{why})")
            }
            Reason::SelectionUnknown { policy, fact } => format!("unknown({policy},{})", fact.label()),
            Reason::NotAVersion { policy } => format!("not-a-version({policy})"),
            Reason::SourceFailed { source } => format!("source-failed({source})"),
            Reason::Gap { target: at, .. } => match &**at {
                GapTarget::Catalogue => "gap(catalogue)".into(),
                GapTarget::RegistryInfo => "gap(registry-info)".into(),
                GapTarget::TagList => "gap(tag-list)".into(),
                GapTarget::ManifestList => "gap(manifest-list)".into(),
                GapTarget::VanishedTag(_) => "gap(vanished)".into(),
                GapTarget::InvalidName(name) => format!("gap(invalid-name,{name})"),
                GapTarget::ListedDigest(digest) => format!("gap(listed-digest,{})", of(digest)),
                GapTarget::Tag(tag) => format!("gap(tag,{tag})"),
                GapTarget::Manifest(digest) => format!("gap(manifest,{})", of(digest)),
                GapTarget::CreationTime(digest) => format!("gap(created,{})", of(digest)),
                GapTarget::Configuration(digest) => format!("gap(configuration,{})", of(digest)),
                GapTarget::Referrers(digest) => format!("gap(referrers,{})", of(digest)),
                GapTarget::Records => "gap(records)".into(),
            },
            Reason::MaybeClaimed(claimed) => self.maybe(claimed),
            Reason::UnresolvedReference(unresolved) => format!("unresolved({},{})", unresolved.source, unresolved.text),
            Reason::Mentioned(mentioned) => format!("mentioned({},{})", mentioned.source, mentioned.text),
            Reason::IndexUnread { index, count } => format!("index-unread({},{count})", of(index)),
            Reason::NotKept { policy, .. } => format!("not-kept({policy})"),
            Reason::CompanionOfExpired { subject, policy } => {
                format!("companion-of-expired({},{policy})", of(subject))
            }
        }
    }

    /// Where an untagged manifest is, and what becomes of it by whose word.
    pub(super) fn deletion(&self, deletion: &Deletion) -> String {
        let Deletion { registry, repository, digest, policies, .. } = deletion;
        let mut line = format!("deletion {repository}@{}", self.names.of(digest));
        if self.inventory.registries.len() > 1 {
            line = format!("deletion {registry}/{repository}@{}", self.names.of(digest));
        }
        if deletion.is_deletable() {
            let policies: Vec<&str> = policies.iter().map(tagwarden::domain::PolicyName::as_str).collect();
            line.extend([" by ", &policies.join("+")]);
            let along = |along: &tagwarden::domain::Dependent| {
                format!(" {}({})", along.role.label(), self.names.of(&along.digest))
            };
            line.extend(deletion.dependents.iter().map(along));
            line.push_str(if deletion.enforce { " -> deleted" } else { " -> reported" });
        } else {
            line += " stays";
            line.extend(deletion.retain_reasons.iter().map(|stay| format!(" {}", self.retain_reason(stay))));
        }
        line
    }

    /// The source, the digest and, where that is not an image id of which nothing is known, why.
    fn maybe(&self, UncertainClaimReason { source, digest, uncertainty: doubt, .. }: &UncertainClaimReason) -> String {
        let digest = self.names.of(digest);
        match doubt {
            Uncertainty::NoContainer => format!("maybe-claimed({source},{digest})"),
            Uncertainty::ConfigUnread | Uncertainty::OtherAlgorithm => {
                format!("maybe-claimed({source},{digest},{})", doubt.label())
            }
        }
    }

    fn retain_reason(&self, stay: &RetainReason) -> String {
        let label = stay.label();
        let of = |digest| self.names.of(digest);
        match stay {
            RetainReason::NotListed | RetainReason::Gap(_) | RetainReason::IndexContents | RetainReason::Cyclic => {
                label.to_owned()
            }
            RetainReason::SourceFailed(source) => format!("{label}({source})"),
            RetainReason::Held(hold) => format!("{label}({})", hold.tag),
            RetainReason::HasCompanionTag(tag) | RetainReason::Restored(tag) | RetainReason::Unrecorded(tag) => {
                format!("{label}({})", self.names.short(tag.as_str()))
            }
            RetainReason::Claimed { source, reference, .. } => {
                let (path, digest) = reference.rsplit_once('@').unwrap_or(("", reference));
                match digest.parse() {
                    Ok(digest) if path.is_empty() => format!("{label}({source},{{{}}})", self.names.of(&digest)),
                    Ok(digest) => format!("{label}({source},{path}@{})", self.names.of(&digest)),
                    Err(_) => format!("{label}({source},{reference})"),
                }
            }
            RetainReason::MaybeClaimed(claimed) => self.maybe(claimed),
            RetainReason::UnresolvedReference(unresolved) => {
                format!("unresolved({},{})", unresolved.source, unresolved.text)
            }
            RetainReason::Mentioned(mentioned) => format!("mentioned({},{})", mentioned.source, mentioned.text),
            RetainReason::Locked { on, lock } => {
                let on = match on {
                    LockTarget::Tag => "tag",
                    LockTarget::Manifest => "manifest",
                    LockTarget::Repository => "repository",
                };
                format!("{label}-{on}({})", lock.label())
            }
            RetainReason::ListedByRetained(digest)
            | RetainReason::ReferredToByRetained(digest)
            | RetainReason::RefersToRetained(digest) => {
                format!("{label}({})", of(digest))
            }
            RetainReason::PolicyMissing(policy) | RetainReason::DeletionNotRequested(policy) => {
                format!("{label}({policy})")
            }
            RetainReason::NotSelected(policy, tag) => format!("{label}({policy},{tag})"),
        }
    }

    pub(super) fn drift(&self, drift: &Drift) -> String {
        let tag = drift.reference.tag.as_ref().unwrap();
        let recorded = drift.reference.digest.as_ref().map(|digest| self.names.of(digest)).unwrap();
        let actual = drift.actual.as_ref().map_or("gone".into(), |digest| self.names.of(digest));
        format!("{} {}:{tag} {recorded} -> {actual}", drift.source, drift.repository)
    }
}

/// What is refused, which limit, and whether it binds an enforcing run.
pub(super) fn refusal(refusal: &Refusal) -> String {
    let scope = match &refusal.scope {
        RefusalScope::Run => "run".into(),
        RefusalScope::Registry(registry) => format!("registry {registry}"),
        RefusalScope::Policy(policy) => format!("policy {policy}"),
        RefusalScope::PolicyInRepository(policy, _, repository) => format!("policy {policy} in {repository}"),
        RefusalScope::Repository(_, repository) => format!("repository {repository}"),
    };
    let why = match &refusal.reason {
        RefusalReason::Untag { found, allowed } => format!("{found} of at most {allowed}"),
        RefusalReason::Percent { found, tags, allowed } => format!("{found}/{tags} of at most {allowed}%"),
        RefusalReason::Leave { left, allowed } => format!("{left} left of at least {allowed}"),
        RefusalReason::Delete { found, allowed } => format!("{found} manifests of at most {allowed}"),
        RefusalReason::Impossible(_) => "impossible".into(),
        RefusalReason::Retention { days: Some(days), .. } => format!("purged after {days}d"),
        RefusalReason::Retention { days: None, .. } => "purged at an unknown time".into(),
        RefusalReason::RegistryInfoUnread => "registry-info unread".into(),
        RefusalReason::SameContent { other, same, common } => format!("{same} of {common} like {other}"),
        RefusalReason::ClockIssue(doubt) => format!("clock {doubt:?}"),
        RefusalReason::ClockSkew { ahead_seconds } => format!("clock {ahead_seconds}s ahead"),
        RefusalReason::UnmatchedRule(unmatched) => {
            format!(
                "{}({}) of {} matches nothing",
                unmatched.rule.key.label(),
                unmatched.rule.written,
                unmatched.rule.policy
            )
        }
    };
    let binding = if refusal.binding { "binding" } else { "not binding" };
    format!("{scope}: {why}, {binding}")
}

/// Which rule matches nothing, what follows, and what was meant.
pub(super) fn unmatched(unmatched: &UnmatchedRule) -> String {
    let rule = &unmatched.rule;
    let written = if rule.key == RuleKey::Select { "" } else { &*rule.written };
    let follows = match (unmatched.blocks_removals(), unmatched.last_match) {
        (true, LastMatch::NeverAsOf(_)) => "refuses by the last plan",
        (true, _) => "refuses",
        (false, LastMatch::At(_)) => "matched before",
        (false, _) => "note",
    };
    let better = unmatched.hint.as_ref().map(|hint| format!(", {:?} {}", hint.mistake, hint.example));
    let instead = unmatched.hint.as_ref().and_then(|hint| hint.suggestion.as_ref());
    let better = better.unwrap_or_default() + &instead.map(|rule| format!(" by {rule}")).unwrap_or_default();
    format!("{} {}({written}): {follows}{better}", rule.policy, rule.key.label())
}
