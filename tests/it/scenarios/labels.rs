//! Places, reasons, refusals and drift in one word each, with the short names of images.

use super::shape::{Names, Stage};
use tagwarden::domain::{
    ClaimMatch, Deletion, Doubt, Drift, GapAt, HeldBy, Inventory, Locked, MaybeClaimed, Ranges, Reason, Refusal,
    RefusalReason, RuleKey, Scope, Stay, TagAt, Undated, Unmatched, UnmatchedSince,
};

pub(super) struct Labels<'a> {
    inventory: &'a Inventory,
    names: &'a Names,
}

impl<'a> Labels<'a> {
    pub(super) fn new(stage: &'a Stage) -> Self {
        Self { inventory: &stage.inventory, names: &stage.names }
    }

    /// `repository:tag`, with the registry before it where there are several.
    pub(super) fn image(&self, at: TagAt) -> String {
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
                    HeldBy::Tag => "held".into(),
                    HeldBy::DriftedTag => "held-drifted".into(),
                    HeldBy::Digest => format!("held-digest({tag})"),
                    HeldBy::IndexContains(digest) => format!("held-inside({tag},{})", of(digest)),
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
                    ClaimMatch::Range(range, Ranges::Highest) => format!("claimed-highest({source},{range})"),
                    ClaimMatch::Range(range, Ranges::All) => format!("claimed-in({source},{range})"),
                }
            }
            Reason::Locked { on, lock } => {
                let on = match on {
                    Locked::Tag => "tag",
                    Locked::Manifest => "manifest",
                    Locked::Repository => "repository",
                };
                format!("locked-{on}({})", lock.label())
            }
            Reason::ChildOfKept { index } => format!("child-of({})", of(index)),
            Reason::CompanionOfKept { subject } => format!("companion-of({})", of(subject)),
            Reason::CompanionOfUnknown { subject } => format!("companion-of-unknown({})", of(subject)),
            Reason::SubjectOfKept { referrer } => format!("subject-of({})", of(referrer)),
            Reason::SharesManifest { tag } => format!("shares-manifest({})", self.names.short(tag.as_str())),
            Reason::KeptAll { policy } => format!("all({policy})"),
            Reason::KeptNewest { policy, rank, count } => format!("newest({policy},{rank}/{count})"),
            Reason::KeptWithin { policy, within, .. } => format!("within({policy},{within})"),
            Reason::KeptBucket { policy, period, bucket, .. } => format!("{}({policy},{bucket})", period.rule()),
            Reason::KeptVersion { policy, line, rank, count, .. } => {
                format!("version({policy},{line},{rank}/{count})")
            }
            Reason::KeptMatching { policy, glob } => format!("matching({policy},{glob})"),
            Reason::Undated { policy, why } => {
                let why = match why {
                    Undated::Missing => "missing",
                    Undated::TooEarly(_) => "too-early",
                    Undated::Future(_) => "future",
                    Undated::Restored => "restored",
                };
                format!("undated({policy},{why})")
            }
            Reason::NotAVersion { policy } => format!("not-a-version({policy})"),
            Reason::SourceFailed { source } => format!("source-failed({source})"),
            Reason::Gap { at, .. } => match &**at {
                GapAt::Catalogue => "gap(catalogue)".into(),
                GapAt::Particulars => "gap(particulars)".into(),
                GapAt::TagList => "gap(tag-list)".into(),
                GapAt::ManifestList => "gap(manifest-list)".into(),
                GapAt::VanishedTag(_) => "gap(vanished)".into(),
                GapAt::InvalidName(name) => format!("gap(invalid-name,{name})"),
                GapAt::ListedDigest(digest) => format!("gap(listed-digest,{})", of(digest)),
                GapAt::Tag(tag) => format!("gap(tag,{tag})"),
                GapAt::Manifest(digest) => format!("gap(manifest,{})", of(digest)),
                GapAt::Created(digest) => format!("gap(created,{})", of(digest)),
                GapAt::Configuration(digest) => format!("gap(configuration,{})", of(digest)),
                GapAt::Referrers(digest) => format!("gap(referrers,{})", of(digest)),
            },
            Reason::MaybeClaimed(claimed) => self.maybe(claimed),
            Reason::UnresolvedReference(unresolved) => format!("unresolved({},{})", unresolved.source, unresolved.text),
            Reason::Mentioned(mentioned) => format!("mentioned({},{})", mentioned.source, mentioned.text),
            Reason::LetGo { policy, .. } => format!("let-go({policy})"),
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
        if deletion.goes() {
            let policies: Vec<&str> = policies.iter().map(tagwarden::domain::PolicyName::as_str).collect();
            line.extend([" by ", &policies.join("+")]);
            let along =
                |along: &tagwarden::domain::Along| format!(" {}({})", along.role.label(), self.names.of(&along.digest));
            line.extend(deletion.along.iter().map(along));
            line.push_str(if deletion.enforce { " -> deleted" } else { " -> reported" });
        } else {
            line += " stays";
            line.extend(deletion.stays.iter().map(|stay| format!(" {}", self.stay(stay))));
        }
        line
    }

    /// The source, the digest and, where that is not an image id of which nothing is known, why.
    fn maybe(&self, MaybeClaimed { source, digest, doubt, .. }: &MaybeClaimed) -> String {
        let digest = self.names.of(digest);
        match doubt {
            Doubt::Unpaired => format!("maybe-claimed({source},{digest})"),
            Doubt::Unread | Doubt::Algorithm => format!("maybe-claimed({source},{digest},{})", doubt.label()),
        }
    }

    fn stay(&self, stay: &Stay) -> String {
        let label = stay.label();
        let of = |digest| self.names.of(digest);
        match stay {
            Stay::NotListed | Stay::Gap(_) => label.to_owned(),
            Stay::SourceFailed(source) => format!("{label}({source})"),
            Stay::Held(hold) => format!("{label}({})", hold.tag),
            Stay::Accompanied(tag) | Stay::PutBack(tag) | Stay::Unrecorded(tag) => {
                format!("{label}({})", self.names.short(tag.as_str()))
            }
            Stay::Claimed { source, reference, .. } => {
                let (path, digest) = reference.rsplit_once('@').unwrap_or(("", reference));
                match digest.parse() {
                    Ok(digest) if path.is_empty() => format!("{label}({source},{{{}}})", self.names.of(&digest)),
                    Ok(digest) => format!("{label}({source},{path}@{})", self.names.of(&digest)),
                    Err(_) => format!("{label}({source},{reference})"),
                }
            }
            Stay::MaybeClaimed(claimed) => self.maybe(claimed),
            Stay::UnresolvedReference(unresolved) => format!("unresolved({},{})", unresolved.source, unresolved.text),
            Stay::Mentioned(mentioned) => format!("mentioned({},{})", mentioned.source, mentioned.text),
            Stay::Locked { on, lock } => {
                let on = match on {
                    Locked::Tag => "tag",
                    Locked::Manifest => "manifest",
                    Locked::Repository => "repository",
                };
                format!("{label}-{on}({})", lock.label())
            }
            Stay::Contained(digest) | Stay::ReferredTo(digest) | Stay::RefersTo(digest) => {
                format!("{label}({})", of(digest))
            }
            Stay::PolicyGone(policy) | Stay::PolicySilent(policy) => format!("{label}({policy})"),
            Stay::NotSelected(policy, tag) => format!("{label}({policy},{tag})"),
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
        Scope::Run => "run".into(),
        Scope::Registry(registry) => format!("registry {registry}"),
        Scope::Policy(policy) => format!("policy {policy}"),
        Scope::PolicyInRepository(policy, _, repository) => format!("policy {policy} in {repository}"),
        Scope::Repository(_, repository) => format!("repository {repository}"),
    };
    let why = match &refusal.why {
        RefusalReason::Untag { found, allowed } => format!("{found} of at most {allowed}"),
        RefusalReason::Percent { found, tags, allowed } => format!("{found}/{tags} of at most {allowed}%"),
        RefusalReason::Leave { left, allowed } => format!("{left} left of at least {allowed}"),
        RefusalReason::Delete { found, allowed } => format!("{found} manifests of at most {allowed}"),
        RefusalReason::Impossible(_) => "impossible".into(),
        RefusalReason::Retention { days: Some(days), .. } => format!("purged after {days}d"),
        RefusalReason::Retention { days: None, .. } => "purged at an unknown time".into(),
        RefusalReason::ParticularsUnread => "particulars unread".into(),
        RefusalReason::ClockDoubt(doubt) => format!("clock {doubt:?}"),
        RefusalReason::Clock { ahead_seconds } => format!("clock {ahead_seconds}s ahead"),
        RefusalReason::ProtectsNothing(unmatched) => {
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
pub(super) fn unmatched(unmatched: &Unmatched) -> String {
    let rule = &unmatched.rule;
    let written = if rule.key == RuleKey::Select { "" } else { &*rule.written };
    let follows = match (unmatched.refuses(), unmatched.since) {
        (true, UnmatchedSince::LastWholePlan(_)) => "refuses by the last plan",
        (true, _) => "refuses",
        (false, UnmatchedSince::Matched(_)) => "matched before",
        (false, _) => "note",
    };
    let better = unmatched.hint.as_ref().map(|hint| format!(", {:?} {}", hint.slip, hint.example));
    let instead = unmatched.hint.as_ref().and_then(|hint| hint.better.as_ref());
    let better = better.unwrap_or_default() + &instead.map(|rule| format!(" by {rule}")).unwrap_or_default();
    format!("{} {}({written}): {follows}{better}", rule.policy, rule.key.label())
}
