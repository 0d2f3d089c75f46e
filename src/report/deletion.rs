//! Untagged manifests whose grace is over, as people and scripts read them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::build::refusal;
use super::holder::HolderView;
use super::reason::{maybe_claimed, mentioned_words, short, unresolved_words};
use super::words::{bytes, count, counted};
use super::{HoldView, RefusalView};
use crate::domain::{Deletion, Deletions, Plan, Role, Stay};

/// The second step of a plan: what becomes of manifests that Tagwarden untagged before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletionsView {
    /// Those whose grace is over, by registry, repository and digest: they go, or say why they stay.
    pub due: Vec<DeletionView>,
    /// How many wait for the end of theirs.
    pub waiting: u64,
    /// When the first of these ends.
    pub next_at: Option<Timestamp>,
    /// The registries that policies would delete in and that do not list what has no tag: nothing is deleted there.
    pub unlisted: Vec<String>,
    /// What stands against the deletions.
    pub refusals: Vec<RefusalView>,
}

/// One untagged manifest whose grace is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletionView {
    /// The registry.
    pub registry: String,
    /// The repository.
    pub repository: String,
    /// Its digest.
    pub digest: String,
    /// The tag that it lost last.
    pub tag: String,
    /// When that was.
    pub untagged_at: Timestamp,
    /// When its grace was over.
    pub due_at: Timestamp,
    /// The policies that have it deleted.
    pub policies: Vec<String>,
    /// Whether all of them say `enforce`, and so do those of everything that it hangs on.
    pub enforce: bool,
    /// Whether it goes.
    pub goes: bool,
    /// What goes along.
    pub along: Vec<AlongView>,
    /// Bytes that only it and what goes along need; nothing where that cannot be known.
    pub bytes: Option<u64>,
    /// Whether these are `exact` or `estimated`.
    pub bytes_are: String,
    /// Why an enforcing run does not delete it although it goes; nothing where nothing is refused.
    pub refused: Option<String>,
    /// Why it stays; empty where it goes.
    pub stays: Vec<StayView>,
}

/// A manifest that goes with another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlongView {
    /// `child`: an index lists it; `referrer`: it refers to something that goes.
    pub role: String,
    /// Its digest.
    pub digest: String,
}

/// Why an untagged manifest stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StayView {
    /// A label for scripts, such as `claimed`.
    pub kind: String,
    /// The same in words.
    pub message: String,
}

impl DeletionsView {
    pub(super) fn of(plan: &Plan) -> Self {
        let Deletions { due, waiting, next_at, unlisted, refusals } = &plan.deletions;
        Self {
            due: due.iter().map(|one| DeletionView::of(one, plan)).collect(),
            waiting: *waiting,
            next_at: *next_at,
            unlisted: unlisted.iter().map(ToString::to_string).collect(),
            refusals: refusals.iter().map(refusal).collect(),
        }
    }

    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Those that go.
    pub fn going(&self) -> impl Iterator<Item = &DeletionView> {
        self.due.iter().filter(|one| one.goes)
    }

    /// Those that stay although their grace is over.
    pub fn staying(&self) -> impl Iterator<Item = &DeletionView> {
        self.due.iter().filter(|one| !one.goes)
    }

    /// All of them, those that go first.
    pub fn shown(&self) -> impl Iterator<Item = &DeletionView> {
        self.going().chain(self.staying())
    }

    /// How many manifests go, with all that goes along.
    #[must_use]
    pub fn manifests(&self) -> u64 {
        self.going().map(|one| 1 + one.along.len() as u64).sum()
    }

    /// What there is, in sentences without their full stops; empty where there is nothing to say.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        let mut said = Vec::new();
        let going = self.going().count() as u64;
        if going > 0 {
            let along = self.manifests() - going;
            let with =
                if along > 0 { format!(", with {} more that hang on them", count(along)) } else { String::new() };
            let known: u64 = self.going().filter_map(|one| one.bytes).sum();
            let about = if self.going().any(|one| one.bytes_are == "estimated") { "about " } else { "" };
            let unknown = self.going().filter(|one| one.bytes.is_none()).count() as u64;
            let unknown = if unknown > 0 { format!(", {} of unknown size", count(unknown)) } else { String::new() };
            said.push(format!(
                "{} would be deleted{with}: {about}{} freed{unknown}",
                counted(going, "untagged manifest"),
                bytes(known)
            ));
        }
        let staying = self.staying().count() as u64;
        if staying > 0 {
            said.push(format!("{} whose time is over: kept all the same", counted(staying, "untagged manifest")));
        }
        if self.waiting > 0 {
            let next = self.next_at.map(|at| format!(", the first until {}", at.strftime("%Y-%m-%d %H:%M UTC")));
            let next = next.unwrap_or_default();
            said.push(format!(
                "{} for the end of the time that policies give{next}",
                if self.waiting == 1 {
                    "1 untagged manifest waits".to_owned()
                } else {
                    format!("{} untagged manifests wait", count(self.waiting))
                }
            ));
        }
        if !self.unlisted.is_empty() {
            said.push(format!(
                "nothing is deleted in {}: what has no tag is not listed there, and any of it may be an index that holds \
                 another image",
                self.unlisted.join(", ")
            ));
        }
        said
    }
}

impl DeletionView {
    fn of(deletion: &Deletion, plan: &Plan) -> Self {
        let refused = plan.refuses(deletion).filter(|_| deletion.goes());
        Self {
            registry: deletion.registry.to_string(),
            repository: deletion.repository.to_string(),
            digest: deletion.digest.to_string(),
            tag: deletion.tag.to_string(),
            untagged_at: deletion.untagged_at,
            due_at: deletion.due_at,
            policies: deletion.policies.iter().map(ToString::to_string).collect(),
            enforce: deletion.enforce,
            goes: deletion.goes(),
            along: deletion.along.iter().map(|one| AlongView::of(one.role, one.digest.to_string())).collect(),
            bytes: deletion.freed.map(|freed| freed.bytes),
            bytes_are: super::storage::label(deletion.freed.is_some_and(|freed| freed.estimated)),
            refused: refused.map(super::refusal_message),
            stays: deletion.stays.iter().map(StayView::from).collect(),
        }
    }

    /// `registry/repository@digest`, with the digest cut short.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}@{}", self.registry, self.repository, short(&self.digest))
    }

    /// Whether an enforcing run deletes it.
    #[must_use]
    pub fn would_be_done(&self) -> bool {
        self.goes && self.enforce && self.refused.is_none()
    }

    /// Why it stays, in words; empty where it goes.
    #[must_use]
    pub fn reasons(&self) -> String {
        self.stays.iter().map(|stay| stay.message.as_str()).collect::<Vec<_>>().join("; ")
    }

    /// What becomes of it, in words.
    #[must_use]
    pub fn words(&self) -> String {
        match &self.refused {
            _ if !self.goes => format!("stays: {}", self.reasons()),
            Some(why) => format!("refused: {why}"),
            None if !self.enforce => "only reported: a policy says `dry-run`".to_owned(),
            None => "goes".to_owned(),
        }
    }

    /// How much hangs on it, in words; empty where nothing does.
    #[must_use]
    pub fn along_words(&self) -> String {
        let of = |role: Role| self.along.iter().filter(|one| one.role == role.label()).count() as u64;
        let words = [(of(Role::Child), "image"), (of(Role::Referrer), "referrer")];
        let words = words.into_iter().filter(|(number, _)| *number > 0).map(|(number, what)| counted(number, what));
        words.collect::<Vec<_>>().join(", ")
    }
}

impl AlongView {
    fn of(role: Role, digest: String) -> Self {
        Self { role: role.label().to_owned(), digest }
    }
}

impl From<&Stay> for StayView {
    fn from(stay: &Stay) -> Self {
        Self { kind: stay.label().to_owned(), message: message(stay) }
    }
}

fn message(stay: &Stay) -> String {
    match stay {
        Stay::NotListed => {
            "the registry does not list what has no tag, and any of it may be an index that holds it".into()
        }
        Stay::SourceFailed(source) => format!("source {source} failed, and could have claimed it"),
        Stay::Gap(at) => format!("{at} could not be read"),
        Stay::Held(hold) => format!("tag {} is {}", hold.tag, HoldView::from(&**hold).words()),
        Stay::Claimed { source, reference, holder } => {
            format!("{source} claims {reference}: {}", HolderView::from(&**holder).words())
        }
        Stay::MaybeClaimed(claimed) => {
            let (source, digest) = (claimed.source.as_str(), claimed.digest.to_string());
            maybe_claimed(source, &digest, claimed.doubt.label(), Some(&HolderView::from(&*claimed.holder)))
        }
        Stay::UnresolvedReference(unresolved) => {
            unresolved_words(unresolved.source.as_str(), &unresolved.text, &HolderView::from(&*unresolved.holder))
        }
        Stay::Mentioned(mentioned) => {
            mentioned_words(mentioned.source.as_str(), &mentioned.text, &HolderView::from(&*mentioned.holder))
        }
        Stay::Locked { on, lock } => {
            let what = match on {
                crate::domain::Locked::Repository => "its repository",
                crate::domain::Locked::Manifest => "it, or an image in it,",
                crate::domain::Locked::Tag => "a tag of it",
            };
            format!("{what} has a {} lock", lock.label())
        }
        Stay::Contained(index) => format!("index {}, which stays, lists it", short(&index.to_string())),
        Stay::ReferredTo(referrer) => format!("{}, which stays, refers to it", short(&referrer.to_string())),
        Stay::Accompanied(tag) => format!("tag {tag} is a signature or the like of it"),
        Stay::RefersTo(subject) => {
            format!("it is a signature or the like of {}, which stays", short(&subject.to_string()))
        }
        Stay::PutBack(tag) => format!("tag {tag} was put back since, and somebody else removed it"),
        Stay::Unrecorded(tag) => format!("the record of the removal of {tag} is not understood"),
        Stay::PolicyGone(policy) => format!("policy {policy}, which let a tag of it go, is gone"),
        Stay::NotSelected(policy, tag) => format!("policy {policy}, which let {tag} go, does not select it any more"),
        Stay::PolicySilent(policy) => format!("policy {policy} selects a tag that it had, and has no `then`"),
    }
}
