//! The second step: deleting manifests that were untagged long ago, and what hangs on them.
//!
//! Right before the first one of a repository it is read again, and once more whenever that is a minute ago. Each is looked
//! at by itself before it goes. What is not as it was decided on stays.
//!
//! A manifest is journaled with everything that goes along before the first of these goes: a registry may delete what
//! refers to a manifest with it, and after a crash the journal must know what is left over.

mod now;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use futures::stream::{self, StreamExt as _};
use jiff::{SignedDuration, Timestamp};

use super::untag::may_come_late;
use super::{Brake, Hands, MOST_TRIES, Target};
use crate::domain::{Action, Along, Deletion, Digest, Gap, Intent, Outcome, RegistryName, RepositoryName, Role, Skip};
use crate::registry::{self, ContentCache as _, RawManifest, RegistryError, RegistryErrorKind, Removed};
use crate::store::{JournalId, StoreError};
use now::Now;

/// How long a look at a whole repository holds. An index that somebody pushes tells nothing to what it lists, so it is
/// only seen by looking at all of them.
const LOOK_HOLDS: SignedDuration = SignedDuration::from_mins(1);

/// A deletion to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteOrder {
    /// The deletion, as the plan has it.
    pub deletion: Arc<Deletion>,
    /// What it rests on, as JSON text, for the journal.
    pub proof: Box<str>,
}

/// What came of one manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deleted {
    /// The deletion that it belongs to.
    pub deletion: Arc<Deletion>,
    /// Its digest.
    pub digest: Digest,
    /// As what it was to go along; nothing for the deletion's own manifest.
    pub role: Option<Role>,
    /// What came of it.
    pub outcome: Outcome,
}

/// Does the deletions of one run, repository by repository, several at once.
///
/// # Errors
/// When the journal could not be written. Nothing further is deleted then; what was begun is settled at the next start.
pub async fn delete(hands: &Hands, orders: Vec<DeleteOrder>) -> Result<Vec<Deleted>, StoreError> {
    let mut by_registry: BTreeMap<RegistryName, BTreeMap<RepositoryName, Vec<DeleteOrder>>> = BTreeMap::new();
    for order in orders {
        let registry = by_registry.entry(order.deletion.registry.clone()).or_default();
        registry.entry(order.deletion.repository.clone()).or_default().push(order);
    }
    let registries = by_registry.into_iter().map(|(name, repositories)| async move {
        let Some(target) = hands.targets.get(&name) else { return Ok(Vec::new()) };
        let brake = Brake::default();
        let at_once = target.reader.settings().concurrency.max(1);
        let work = repositories.into_iter().map(|(repository, orders)| {
            let brake = &brake;
            async move {
                let site = Site { hands, target, brake, repository: &repository };
                let deleted = site.repository(orders).await;
                // The other repositories must not go on without a journal either.
                deleted.inspect_err(|error| brake.stop(error.message.clone()))
            }
        });
        let parts: Vec<Result<Vec<Deleted>, StoreError>> = stream::iter(work).buffer_unordered(at_once).collect().await;
        parts.into_iter().collect::<Result<Vec<_>, _>>()
    });
    let mut deleted: Vec<Deleted> =
        futures::future::try_join_all(registries).await?.into_iter().flatten().flatten().collect();
    deleted.sort_by(|a, b| key(a).cmp(&key(b)));
    Ok(deleted)
}

fn key(deleted: &Deleted) -> (&RegistryName, &RepositoryName, &Digest, Option<Role>, &Digest) {
    let Deletion { registry, repository, digest, .. } = &*deleted.deletion;
    (registry, repository, digest, deleted.role, &deleted.digest)
}

/// Journals deletions that were not even begun.
///
/// # Errors
/// When the journal could not be written.
pub async fn note_deletions(hands: &Hands, skipped: Vec<(DeleteOrder, Skip)>) -> Result<Vec<Deleted>, StoreError> {
    let mut noted = Vec::new();
    for (order, skip) in skipped {
        let DeleteOrder { deletion, proof } = order;
        let intent = intent(hands, &deletion, &deletion.digest, "".into(), &proof);
        let outcome = Outcome::Skipped(skip);
        hands.store.note(hands.run, &intent, &outcome, (hands.clock)()).await?;
        noted.push(Deleted { digest: deletion.digest.clone(), deletion, role: None, outcome });
    }
    Ok(noted)
}

fn intent(hands: &Hands, deletion: &Deletion, digest: &Digest, media_type: Arc<str>, proof: &str) -> Intent {
    Intent {
        action: Action::DeleteUntagged,
        registry: deletion.registry.clone(),
        endpoint: hands.address(&deletion.registry),
        repository: deletion.repository.clone(),
        tag: deletion.tag.clone(),
        digest: digest.clone(),
        media_type,
        policy: deletion.policies.first().map(ToString::to_string),
        proof: proof.to_owned(),
        date: None,
    }
}

/// One repository in which manifests are deleted.
struct Site<'a> {
    hands: &'a Hands,
    target: &'a Target,
    brake: &'a Brake,
    repository: &'a RepositoryName,
}

/// One manifest to be deleted.
#[derive(Clone)]
struct One {
    deletion: Arc<Deletion>,
    proof: Box<str>,
    digest: Digest,
    role: Option<Role>,
}

/// What is still to be done in a repository, what was begun, and what came of the rest.
#[derive(Default)]
struct Work {
    /// What is to be deleted.
    ones: HashMap<Digest, One>,
    /// What is journaled and has no outcome yet.
    begun: HashMap<Digest, Begun>,
    done: Vec<Deleted>,
}

/// A manifest that is journaled and has no outcome yet.
struct Begun {
    id: JournalId,
    /// What it refers to, by its own bytes.
    subject: Option<Digest>,
}

/// What came of one manifest, as far as the registry says.
enum Fate {
    Known(Outcome),
    /// The registry does not say: the entry stays open until the next start. The text says why.
    Open(String),
}

impl Fate {
    fn kept(why: String) -> Self {
        Self::Known(Outcome::Skipped(Skip::Kept(why)))
    }

    /// Whether the manifest is not there any more.
    fn is_gone(&self) -> bool {
        matches!(self, Self::Known(Outcome::Done(_) | Outcome::Skipped(Skip::Gone)))
    }
}

impl Work {
    fn new(orders: Vec<DeleteOrder>) -> Self {
        let mut work = Self::default();
        for DeleteOrder { deletion, proof } in orders {
            let along = deletion.along.iter().map(|Along { role, digest }| (digest, Some(*role)));
            for (digest, role) in std::iter::once((&deletion.digest, None)).chain(along) {
                let (deletion, proof) = (Arc::clone(&deletion), proof.clone());
                work.ones.insert(digest.clone(), One { deletion, proof, digest: digest.clone(), role });
            }
        }
        work
    }

    /// What goes along with a manifest, unless it goes along itself.
    fn along(&self, one: &One) -> Vec<One> {
        let along = one.deletion.along.iter().filter(|_| one.role.is_none());
        along.filter_map(|along| self.ones.get(&along.digest).cloned()).collect()
    }
}

impl Site<'_> {
    /// Deletes indexes before what they contain, and images before what refers to them.
    async fn repository(&self, orders: Vec<DeleteOrder>) -> Result<Vec<Deleted>, StoreError> {
        let mut work = Work::new(orders);
        let meant: BTreeSet<Digest> = work.ones.keys().cloned().collect();
        let mut queue: Vec<Digest> = meant.iter().cloned().collect();
        queue.sort_by_key(|digest| (work.ones[digest].role, digest.clone()));
        let (mut queue, mut passed) = (VecDeque::from(queue), 0);
        let mut now = match self.read(&meant, None).await {
            Ok(now) => now,
            Err(skip) => return self.leave(work, queue, skip).await,
        };
        while let Some(digest) = queue.pop_front() {
            let Some(one) = work.ones.get(&digest) else { continue };
            // One waits for whatever contains it and for what it refers to; if they wait for each other, all of them stay.
            if passed <= queue.len() && now.above(one).any(|above| work.ones.contains_key(above)) {
                queue.push_back(digest);
                passed += 1;
                continue;
            }
            passed = 0;
            // Before the repository is looked at: that look must not become old while evidence is gathered.
            let deletion = Arc::clone(&one.deletion);
            self.freshen_evidence(&deletion).await;
            if self.now().duration_since(now.at) >= LOOK_HOLDS {
                now = match self.read(&meant, Some(now)).await {
                    Ok(now) => now,
                    Err(skip) => {
                        queue.push_front(digest);
                        return self.leave(work, queue, skip).await;
                    }
                };
            }
            let Some(one) = work.ones.remove(&digest) else { continue };
            self.with_referrers(&mut work, one, &mut now).await?;
        }
        Ok(work.done)
    }

    fn now(&self) -> Timestamp {
        (self.hands.clock)()
    }

    /// Returns why no further deletion may begin here.
    fn stopped(&self) -> Option<Skip> {
        self.brake.reason_in(self.hands, self.repository)
    }

    /// Has the evidence gathered anew where it is old. What it keeps is asked again right before a deletion begins.
    async fn freshen_evidence(&self, deletion: &Deletion) {
        if self.stopped().is_none() {
            self.hands.evidence_against_deletion(deletion).await;
        }
    }

    /// Returns why the evidence of now keeps a manifest, or something that refers to it and may be deleted with it.
    async fn evidence_against(&self, one: &One, referrers: &[One]) -> Option<Skip> {
        for one in std::iter::once(one).chain(referrers) {
            if let Some(skip) = self.hands.evidence_against_deletion(&one.deletion).await {
                return Some(skip);
            }
        }
        None
    }

    /// What is so of the repository now.
    async fn read(&self, meant: &BTreeSet<Digest>, before: Option<Now>) -> Result<Now, Skip> {
        if let Some(skip) = self.stopped() {
            return Err(skip);
        }
        let at = self.now();
        let repository = self.target.reader.repository(self.repository, meant, &self.hands.store).await;
        let unread = repository.gaps.iter().find(|gap| Gap::blocks_repository(gap));
        match unread {
            Some(gap) => Err(Skip::Kept(format!("{} could not be read again: {}", gap.at, gap.message))),
            None => Ok(Now::new(repository, at, before)),
        }
    }

    /// Leaves all that is not done for one reason.
    async fn leave(&self, mut work: Work, queue: VecDeque<Digest>, skip: Skip) -> Result<Vec<Deleted>, StoreError> {
        for digest in queue {
            if let Some(one) = work.ones.remove(&digest) {
                self.end(&mut work, one, Fate::Known(Outcome::Skipped(skip.clone()))).await?;
            }
        }
        Ok(work.done)
    }

    /// One manifest and what refers to it, which a registry may delete by itself then.
    async fn with_referrers(&self, work: &mut Work, one: One, now: &mut Now) -> Result<(), StoreError> {
        let referrers = now.referrers_among(&one.digest, &mut work.ones);
        let digests: BTreeSet<Digest> =
            referrers.iter().chain(std::iter::once(&one)).map(|one| one.digest.clone()).collect();
        let fate = if let Some(above) = now.perhaps_gone_above(&one) {
            Some(Fate::Open(format!("it is not known what came of {above}, which it hangs on")))
        } else {
            let against = match self.stopped().or_else(|| now.keeps(&one, &digests)) {
                Some(skip) => Some(skip),
                None => self.evidence_against(&one, &referrers).await,
            };
            against.map(|skip| Fate::Known(Outcome::Skipped(skip)))
        };
        let fate = match fate {
            Some(fate) => Some(fate),
            None => self.begin(work, &one, &referrers).await?,
        };
        let fate = match fate {
            Some(fate) => fate,
            None => self.delete(&one, &work.begun, now).await,
        };
        now.note(&one.digest, &fate);
        self.end(work, one, fate).await?;
        for referrer in referrers {
            let subject = now.subject(&referrer.digest).cloned();
            let fate = match subject {
                Some(subject) if now.gone.contains(&subject) => self.delete(&referrer, &work.begun, now).await,
                Some(subject) if now.unknown.contains(&subject) => {
                    Fate::Open(format!("it is not known what came of {subject}, which it refers to"))
                }
                _ => Fate::kept("what it refers to stays".to_owned()),
            };
            now.note(&referrer.digest, &fate);
            self.end(work, referrer, fate).await?;
        }
        Ok(())
    }

    /// Journals a manifest and all that goes with it, with their bytes, or says what came of it instead.
    async fn begin(&self, work: &mut Work, one: &One, referrers: &[One]) -> Result<Option<Fate>, StoreError> {
        let along = work.along(one);
        for member in std::iter::once(one).chain(referrers).chain(&along) {
            if work.begun.contains_key(&member.digest) {
                continue;
            }
            let unread = |why: String| Fate::Known(Outcome::Failed(why));
            let digest = &member.digest;
            let manifest = match self.manifest(digest).await {
                Ok(Some(manifest)) => manifest,
                Ok(None) if member.digest == one.digest => return Ok(Some(Fate::Known(Outcome::Skipped(Skip::Gone)))),
                Ok(None) => continue,
                Err(error) => {
                    self.brake.failed(self.repository, &error);
                    let why = format!("{digest} could not be read, so it could not be put back: {}", error.message);
                    return Ok(Some(unread(why)));
                }
            };
            let subject = match registry::parse(&manifest) {
                Ok(parsed) => parsed.manifest.subject.map(|subject| *subject),
                Err(why) => return Ok(Some(unread(format!("{digest} could not be understood: {why}")))),
            };
            let intent = intent(self.hands, &member.deletion, digest, Arc::clone(&manifest.media_type), &member.proof);
            let id = match self.hands.intend(&intent, &manifest).await? {
                Ok(id) => id,
                Err(skip) => return Ok(Some(Fate::Known(Outcome::Skipped(skip)))),
            };
            work.begun.insert(digest.clone(), Begun { id, subject });
        }
        Ok(None)
    }

    /// Journals what came of one. Where the registry does not say, the entry stays open until the next start.
    async fn end(&self, work: &mut Work, one: One, fate: Fate) -> Result<(), StoreError> {
        let store = &self.hands.store;
        let begun = work.begun.remove(&one.digest);
        let outcome = match (begun, fate) {
            (Some(Begun { id, .. }), Fate::Known(outcome)) => {
                store.settle(id, &outcome, self.now()).await?;
                outcome
            }
            (Some(_), Fate::Open(why)) => Outcome::Failed(format!("{why}; settled at the next start")),
            (None, fate) => {
                let outcome = match fate {
                    Fate::Known(outcome) => outcome,
                    Fate::Open(why) => Outcome::Failed(why),
                };
                let intent = intent(self.hands, &one.deletion, &one.digest, "".into(), &one.proof);
                store.note(self.hands.run, &intent, &outcome, self.now()).await?;
                outcome
            }
        };
        self.log(&one, &outcome);
        work.done.push(Deleted { deletion: one.deletion, digest: one.digest, role: one.role, outcome });
        Ok(())
    }

    /// What came of a request that failed: the registry is asked what is so now.
    async fn after(&self, one: &One, error: RegistryError) -> Fate {
        self.brake.failed(self.repository, &error);
        match self.target.reader.has_manifest(self.repository, &one.digest).await {
            Ok(true) if error.kind == RegistryErrorKind::Locked => {
                Fate::Known(Outcome::Skipped(Skip::Locked(error.message)))
            }
            // The request may still be on its way.
            Ok(true) if may_come_late(&error) => Fate::Open(error.message),
            Ok(true) => Fate::Known(Outcome::Failed(error.message)),
            Ok(false) => Fate::Known(Outcome::Done(format!("it is gone, although: {}", error.message))),
            Err(second) => Fate::Open(format!("{}; then looking at it failed: {}", error.message, second.message)),
        }
    }

    /// The exact bytes, for the journal.
    async fn manifest(&self, digest: &Digest) -> Result<Option<RawManifest>, RegistryError> {
        if let Some(manifest) = self.hands.store.manifest(digest).await {
            return Ok(Some(manifest));
        }
        self.target.reader.manifest(self.repository, digest).await
    }

    async fn delete(&self, one: &One, begun: &HashMap<Digest, Begun>, now: &Now) -> Fate {
        let fate = self.try_to(one, begun, now).await.unwrap_or_else(|error| {
            self.brake.failed(self.repository, &error);
            Fate::Known(Outcome::Failed(format!("it could not be looked at: {}", error.message)))
        });
        let subject = begun.get(&one.digest).and_then(|begun| begun.subject.as_ref());
        match fate {
            Fate::Known(Outcome::Skipped(Skip::Gone)) if subject.is_some_and(|subject| now.gone.contains(subject)) => {
                Fate::Known(Outcome::Done("it went with what it refers to".to_owned()))
            }
            fate => fate,
        }
    }

    /// Looks at the manifest and deletes it. The looks come right before each request.
    async fn try_to(&self, one: &One, begun: &HashMap<Digest, Begun>, now: &Now) -> Result<Fate, RegistryError> {
        let Target { reader, writer } = self.target;
        for _ in 0..MOST_TRIES {
            let clearance = writer.ready(self.repository).await?;
            if let Some(skip) = self.stopped() {
                return Ok(Fate::Known(Outcome::Skipped(skip)));
            }
            if let Some(skip) = self.hands.evidence_against_deletion(&one.deletion).await {
                // What it refers to may have taken it along.
                let there = reader.has_manifest(self.repository, &one.digest).await?;
                return Ok(Fate::Known(Outcome::Skipped(if there { skip } else { Skip::Gone })));
            }
            // Gathering it may have taken long.
            if let Some(skip) = self.stopped() {
                return Ok(Fate::Known(Outcome::Skipped(skip)));
            }
            if let Some(skip) = self.refers_to(one, begun, now).await? {
                return Ok(Fate::Known(Outcome::Skipped(skip)));
            }
            if let Some(skip) = self.referred_to(&one.digest, begun).await? {
                return Ok(Fate::Known(Outcome::Skipped(skip)));
            }
            // Last of all, because a tag is what comes most easily.
            let Some(seen) = reader.manifest_now(self.repository, &one.digest).await? else {
                return Ok(Fate::Known(Outcome::Skipped(Skip::Gone)));
            };
            if let Some(tag) = seen.tags.first() {
                return Ok(Fate::kept(format!("tag {tag} names it")));
            }
            if let Some(lock) = seen.lock {
                return Ok(Fate::Known(Outcome::Skipped(Skip::Locked(format!("it has a {} lock", lock.label())))));
            }
            // Whatever was known when its time was reckoned lies before the end of that time.
            let known = now.changed_at(&one.digest).map_or(one.deletion.due_at, |then| then.min(one.deletion.due_at));
            if one.role.is_none() && seen.changed_at.is_some_and(|seen| seen > known) {
                return Ok(Fate::kept("it was changed meanwhile".to_owned()));
            }
            match writer.delete_manifest(self.repository, &one.digest, clearance).await {
                Ok(Removed::Done { evidence, .. }) => {
                    self.brake.succeeded(self.repository);
                    return Ok(self.confirmed(one, evidence).await);
                }
                Ok(Removed::AlreadyGone) => return Ok(Fate::Known(Outcome::Skipped(Skip::Gone))),
                Err(error) if error.wants_another_look() => {}
                Err(error) => return Ok(self.after(one, error).await),
            }
        }
        Ok(Fate::Known(Outcome::Failed("the registry puts deletions off again and again".to_owned())))
    }

    /// Why a manifest stays as what refers to something that stays. A list may not say that an image refers to anything,
    /// but its bytes do.
    async fn refers_to(
        &self,
        one: &One,
        begun: &HashMap<Digest, Begun>,
        now: &Now,
    ) -> Result<Option<Skip>, RegistryError> {
        let subject = begun.get(&one.digest).and_then(|begun| begun.subject.as_ref());
        let Some(subject) = subject.filter(|subject| !now.gone.contains(*subject)) else { return Ok(None) };
        let there = self.target.reader.has_manifest(self.repository, subject).await?;
        Ok(there.then(|| Skip::Kept(format!("{subject}, which it refers to, stays"))))
    }

    /// Why a manifest stays because of what refers to it, directly or not. Registries delete all of that with it, so all
    /// of it must be meant to go, be journaled, and have neither tag nor lock.
    async fn referred_to(
        &self,
        digest: &Digest,
        begun: &HashMap<Digest, Begun>,
    ) -> Result<Option<Skip>, RegistryError> {
        let reader = &self.target.reader;
        let (mut seen, mut open) = (BTreeSet::new(), vec![digest.clone()]);
        while let Some(next) = open.pop() {
            for referrer in reader.referrers(self.repository, &next).await? {
                if !seen.insert(referrer.clone()) {
                    continue;
                }
                if !begun.contains_key(&referrer) {
                    return Ok(Some(Skip::Kept(format!("{referrer} refers to it, and is not to be deleted"))));
                }
                let Some(facts) = reader.manifest_now(self.repository, &referrer).await? else { continue };
                if let Some(tag) = facts.tags.first() {
                    return Ok(Some(Skip::Kept(format!("tag {tag} names {referrer}, which refers to it"))));
                }
                if let Some(lock) = facts.lock {
                    let why = format!("{referrer}, which refers to it, has a {} lock", lock.label());
                    return Ok(Some(Skip::Locked(why)));
                }
                open.push(referrer);
            }
        }
        Ok(None)
    }

    /// An answer alone is no proof.
    async fn confirmed(&self, one: &One, evidence: String) -> Fate {
        match self.target.reader.has_manifest(self.repository, &one.digest).await {
            Ok(false) => Fate::Known(Outcome::Done(evidence)),
            Ok(true) => {
                let why = format!("the registry said that it deleted {}, and it is still there", one.digest);
                self.brake.stop(why.clone());
                // It may only be late.
                Fate::Open(why)
            }
            Err(error) => self.after(one, error).await,
        }
    }

    fn log(&self, one: &One, outcome: &Outcome) {
        let (registry, repository, digest, tag) =
            (&one.deletion.registry, self.repository, &one.digest, &one.deletion.tag);
        match outcome {
            Outcome::Done(evidence) => {
                tracing::info!(%registry, %repository, %digest, %tag, evidence, "deleted an untagged manifest");
            }
            Outcome::Skipped(skip) => tracing::info!(%registry, %repository, %digest, %tag, %skip, "not deleted"),
            Outcome::Failed(error) => {
                tracing::error!(%registry, %repository, %digest, %tag, error, "could not delete an untagged manifest");
            }
        }
    }
}
