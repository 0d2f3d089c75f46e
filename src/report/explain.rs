//! Everything known about one tag.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::expiry_conditions::expiry_conditions;
use super::humanize::format_age;
use super::notation::format_minute;
use super::registry_info::can_untag;
use super::storage::describe_removal_bytes;
use super::summary::RemovalStatus;
use super::text::{describe_record_drift, heading, line};
use super::{HolderView, KeptView, PlanDocument, ReasonView, RecordDriftView, RefusalView, RemovalView, TagTraceView};

/// One tag of a plan, removed or retained.
#[expect(clippy::large_enum_variant, reason = "one or two at a time, and borrowed as a rule")]
enum TagEntry<'a> {
    Expired(Cow<'a, RemovalView>),
    Kept(Cow<'a, KeptView>),
}

impl<'a> TagEntry<'a> {
    fn all(document: &'a PlanDocument) -> impl Iterator<Item = Self> {
        document.removals.iter().map(Self::Expired).chain(document.kept.iter().map(Self::Kept))
    }

    fn location(&self) -> (&str, &str, &str) {
        match self {
            Self::Expired(removal) => (&removal.registry, &removal.repository, &removal.tag),
            Self::Kept(kept) => (&kept.registry, &kept.repository, &kept.tag),
        }
    }

    fn digest(&self) -> Option<&str> {
        match self {
            Self::Expired(removal) => Some(&removal.digest),
            Self::Kept(kept) => kept.digest.as_deref(),
        }
    }

    fn verdict(&self) -> &str {
        match self {
            Self::Expired(_) => "expired",
            Self::Kept(kept) => &kept.verdict,
        }
    }

    fn dated(&self) -> (Option<Timestamp>, &str) {
        match self {
            Self::Expired(removal) => (removal.dated_at, &removal.dated_by),
            Self::Kept(kept) => (kept.dated_at, &kept.dated_by),
        }
    }

    fn reasons(&self) -> &[ReasonView] {
        match self {
            Self::Expired(removal) => &removal.reasons,
            Self::Kept(kept) => &kept.reasons,
        }
    }
}

/// The facts about one tag that an explanation shows.
struct Explanation<'a> {
    tag: TagEntry<'a>,
    same_digest: Vec<TagEntry<'a>>,
    drift: Vec<&'a RecordDriftView>,
    refusals: Vec<&'a RefusalView>,
}

fn find_explained<'a>(document: &'a PlanDocument, place: (&str, &str, &str)) -> Option<Explanation<'a>> {
    let tag = TagEntry::all(document).find(|tag| tag.location() == place)?;
    let (registry, repository, name) = place;
    let same_digest = TagEntry::all(document)
        .filter(|other| tag.digest().is_some() && other.digest() == tag.digest() && other.location() != place)
        .filter(|other| other.location().0 == registry)
        .collect();
    let drift = document.drift.iter();
    let drift =
        drift.filter(|drift| (&*drift.registry, &*drift.repository, &*drift.tag) == (registry, repository, name));
    let refusals = match &tag {
        TagEntry::Expired(removal) => document.refusals.iter().filter(|refusal| refusal.covers(removal)).collect(),
        TagEntry::Kept(_) => Vec::new(),
    };
    Some(Explanation { tag, same_digest, drift: drift.collect(), refusals })
}

/// Explains one tag: all reasons for and against removal, in the order of their weight. Returns `None` if the plan does
/// not contain the tag.
#[must_use]
pub fn explanation(document: &PlanDocument, registry: &str, repository: &str, tag: &str) -> Option<String> {
    render_explanation(document, (registry, repository, tag), None, None)
}

/// Explains the tag with the outcome of each rule of each policy, and a forecast.
#[must_use]
pub fn explanation_with_rules(
    document: &PlanDocument,
    registry: &str,
    repository: &str,
    tag: &str,
    weighed: &TagTraceView,
    size: Option<&SizeView>,
) -> Option<String> {
    render_explanation(document, (registry, repository, tag), Some(weighed), size)
}

/// The bytes that removing a tag would free, by the best available count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SizeView {
    /// Bytes needed only by removed images; `None` if unknown.
    pub reclaimable_bytes: Option<u64>,
    /// Bytes of its image that a retained manifest needs, too.
    pub shared_bytes: Option<u64>,
    /// The run whose plan counted them over the whole registry; `None` if they are counted in the tag's repository
    /// alone, so that other repositories may use them, too.
    pub counted_by: Option<String>,
}

impl SizeView {
    fn describe(&self, removal: &RemovalView, estimated: bool) -> String {
        let Self { reclaimable_bytes, shared_bytes, counted_by } = self;
        let counted =
            RemovalView { reclaimable_bytes: *reclaimable_bytes, shared_bytes: *shared_bytes, ..removal.clone() };
        let words = describe_removal_bytes(&counted, estimated);
        match counted_by {
            Some(run) => format!("{words} (as in the plan of run {run})"),
            None => format!("{words} (at most: counted in this repository alone; `tagwarden plan` counts in all)"),
        }
    }
}

fn render_explanation(
    document: &PlanDocument,
    place: (&str, &str, &str),
    weighed: Option<&TagTraceView>,
    size: Option<&SizeView>,
) -> Option<String> {
    let (registry, repository, tag) = place;
    let found = find_explained(document, place)?;
    let mut out = String::new();
    line(&mut out, 0, &format!("{registry}/{repository}:{tag} {}", describe_verdict(document, &found.tag)));
    line(&mut out, 1, &format!("digest: {}", found.tag.digest().unwrap_or("could not be read")));
    line(&mut out, 1, &format!("time:   {}", describe_date(document, &found.tag)));
    if let TagEntry::Expired(removal) = &found.tag {
        let estimated = document.bytes_label(&removal.registry) == "estimated";
        let size =
            size.map_or_else(|| describe_removal_bytes(removal, estimated), |size| size.describe(removal, estimated));
        line(&mut out, 1, &format!("size:   {size}"));
    }
    if document.hypothetical {
        line(&mut out, 1, &format!("Simulated for {}", format_minute(document.evaluated_at)));
    }
    if let Some(weighed) = weighed {
        render_rule_trace(&mut out, weighed);
    }
    for group in ReasonGroup::ALL {
        let mut reasons = found.tag.reasons().iter().filter(|reason| ReasonGroup::of(reason) == group).peekable();
        if reasons.peek().is_some() {
            heading(&mut out, group.heading());
        }
        for reason in reasons {
            let sentence = reason.sentence();
            line(&mut out, 1, &sentence);
            if let ReasonView::Claimed { reference, holder, .. } = reason {
                claim(&mut out, (!sentence.contains(reference)).then_some(reference), holder);
            }
        }
    }
    if let TagEntry::Kept(kept) = &found.tag {
        render_expiry_conditions(&mut out, kept);
    }
    let forecast = weighed.map(|weighed| weighed.forecast.sentences()).unwrap_or_default();
    if !forecast.is_empty() {
        heading(&mut out, "By time alone, with everything else as it is now");
    }
    for (at, sentence) in forecast.iter().enumerate() {
        line(&mut out, 1 + usize::from(at > 0), sentence);
    }
    render_related(&mut out, &found);
    Some(out)
}

/// Renders the outcome of each policy and each of its rules.
fn render_rule_trace(out: &mut String, weighed: &TagTraceView) {
    heading(out, "Policies, rule by rule");
    for policy in &weighed.policies {
        line(out, 1, &policy.headline());
        for rule in &policy.rules {
            line(out, 2, &rule.line());
        }
    }
}

fn claim(out: &mut String, reference: Option<&String>, holder: &HolderView) {
    if let Some(reference) = reference {
        line(out, 2, &format!("as: {reference}"));
    }
    for (what, value) in holder.details() {
        line(out, 2, &format!("{what}: {value}"));
    }
}

fn describe_verdict(document: &PlanDocument, tag: &TagEntry<'_>) -> String {
    match tag {
        TagEntry::Kept(kept) => match kept.verdict.as_str() {
            "protected" => "stays: it is protected".to_owned(),
            "retained" => "stays: a policy keeps it".to_owned(),
            "undecided" => "stays: something needed to be sure is missing".to_owned(),
            "out-of-scope" => "stays: no policy selects it".to_owned(),
            other => format!("stays: {other}"),
        },
        TagEntry::Expired(removal) => {
            let registry = document.registries.iter().find(|registry| registry.name == removal.registry);
            let how = match registry {
                _ if removal.method == "manifest" => "its manifest would be deleted",
                Some(registry) if !can_untag(&registry.kind) => "no tag is removed alone there",
                _ => "it would be untagged",
            };
            let enforcement = match RemovalStatus::of(document, removal) {
                RemovalStatus::Enforced => "enforced",
                RemovalStatus::DryRun => "reported only: not everything that expires it says `mode: enforce`",
                RemovalStatus::Refused => "REFUSED, so it is not removed",
            };
            format!("has expired: {how} ({enforcement})")
        }
    }
}

fn describe_date(document: &PlanDocument, tag: &TagEntry<'_>) -> String {
    let (time, by) = tag.dated();
    let Some(time) = time else { return "none that can be trusted".to_owned() };
    let what = match by {
        "pushed" => "its last push, says the registry",
        "created" => "the image's creation, says the image",
        "first-seen" => "when Tagwarden first saw the tag at this digest",
        "original" => "its original time, from before it was restored",
        other => other,
    };
    let seconds = document.evaluated_at.duration_since(time).as_secs();
    format!("{}, {} ago: {what}", format_minute(time), format_age(seconds))
}

/// The groups in which reasons are shown, in the order of their weight.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ReasonGroup {
    OutOfScope,
    Protects,
    Keeps,
    Missing,
    NotKept,
}

impl ReasonGroup {
    const ALL: [Self; 5] = [Self::OutOfScope, Self::Protects, Self::Keeps, Self::Missing, Self::NotKept];

    fn of(reason: &ReasonView) -> Self {
        match reason {
            ReasonView::NotSelected {} => Self::OutOfScope,
            ReasonView::Held { .. }
            | ReasonView::Claimed { .. }
            | ReasonView::Mentioned { .. }
            | ReasonView::Locked { .. }
            | ReasonView::ChildOfKept { .. }
            | ReasonView::CompanionOfKept { .. }
            | ReasonView::CompanionOfUnknown { .. }
            | ReasonView::SubjectOfKept { .. }
            | ReasonView::SharesManifest { .. }
            | ReasonView::LastTag {} => Self::Protects,
            ReasonView::KeptAll { .. }
            | ReasonView::KeptNewest { .. }
            | ReasonView::KeptWithin { .. }
            | ReasonView::KeptBucket { .. }
            | ReasonView::KeptVersion { .. }
            | ReasonView::KeptMatching { .. }
            | ReasonView::KeptImageWith { .. }
            | ReasonView::KeptPulled { .. }
            | ReasonView::PullTimeUnknown { .. }
            | ReasonView::Undated { .. }
            | ReasonView::NotAVersion { .. }
            | ReasonView::SelectionUnknown { .. } => Self::Keeps,
            ReasonView::SourceFailed { .. }
            | ReasonView::Gap { .. }
            | ReasonView::MaybeClaimed { .. }
            | ReasonView::UnresolvedReference { .. }
            | ReasonView::IndexUnread { .. } => Self::Missing,
            ReasonView::NotKept { .. } | ReasonView::CompanionOfExpired { .. } => Self::NotKept,
        }
    }

    fn heading(self) -> &'static str {
        match self {
            Self::OutOfScope => "Out of scope",
            Self::Protects => "Protects it",
            Self::Keeps => "Keeps it",
            Self::Missing => "Missing",
            Self::NotKept => "Expires it",
        }
    }

    fn key(self) -> &'static str {
        match self {
            Self::OutOfScope => "out_of_scope",
            Self::Protects => "protects",
            Self::Keeps => "keeps",
            Self::Missing => "missing",
            Self::NotKept => "not_kept",
        }
    }
}

fn render_expiry_conditions(out: &mut String, kept: &KeptView) {
    let endings = expiry_conditions(kept);
    match endings.as_slice() {
        [] => return,
        [_] => heading(out, "It would be removed, with all else unchanged, only when"),
        _ => heading(out, "It would be removed, with all else unchanged, only when all of these have happened"),
    }
    for ending in &endings {
        line(out, 1, ending);
    }
}

fn render_related(out: &mut String, found: &Explanation<'_>) {
    if !found.same_digest.is_empty() {
        heading(out, "Other tags of the same digest");
    }
    for other in &found.same_digest {
        let (registry, repository, tag) = other.location();
        line(out, 1, &format!("{registry}/{repository}:{tag} ({})", other.verdict()));
    }
    if !found.drift.is_empty() {
        heading(out, "Drift");
    }
    for drift in &found.drift {
        line(out, 1, &describe_record_drift(drift));
    }
    if !found.refusals.is_empty() {
        heading(out, "Refused");
    }
    for refusal in &found.refusals {
        line(out, 1, &refusal.message);
    }
}

/// Returns the same as data, with `policies` and `forecast`.
#[must_use]
pub fn explanation_with_rules_json(
    document: &PlanDocument,
    registry: &str,
    repository: &str,
    tag: &str,
    weighed: &TagTraceView,
    size: Option<&SizeView>,
) -> Option<Value> {
    let mut value = explanation_json(document, registry, repository, tag)?;
    value["size"] = json!(size);
    value["policies"] = json!(weighed.policies);
    value["forecast"] = json!(weighed.forecast);
    Some(value)
}

/// Returns an explanation as data: `tagwarden.explanation/1`.
#[must_use]
pub fn explanation_json(document: &PlanDocument, registry: &str, repository: &str, tag: &str) -> Option<Value> {
    let found = find_explained(document, (registry, repository, tag))?;
    let (dated_at, dated_by) = found.tag.dated();
    let reasons = found.tag.reasons().iter().map(
        |reason| json!({ "group": ReasonGroup::of(reason).key(), "sentence": reason.sentence(), "reason": reason }),
    );
    let same_digest = found.same_digest.iter().map(|other| {
        let (registry, repository, tag) = other.location();
        json!({ "registry": registry, "repository": repository, "tag": tag, "verdict": other.verdict() })
    });
    let (enforcement, expires_when) = match &found.tag {
        TagEntry::Expired(removal) => (Some(RemovalStatus::of(document, removal).label()), Vec::new()),
        TagEntry::Kept(kept) => (None, expiry_conditions(kept)),
    };
    Some(json!({
        "schema": "tagwarden.explanation/1",
        "plan": document.id,
        "evaluated_at": document.evaluated_at,
        "hypothetical": document.hypothetical,
        "registry": registry,
        "repository": repository,
        "tag": tag,
        "digest": found.tag.digest(),
        "verdict": found.tag.verdict(),
        "enforcement": enforcement,
        "dated_at": dated_at,
        "dated_by": dated_by,
        "reasons": reasons.collect::<Vec<_>>(),
        "expires_when": expires_when,
        "same_digest": same_digest.collect::<Vec<_>>(),
        "drift": found.drift,
        "refusals": found.refusals,
    }))
}
