//! The second step: deleting manifests that were untagged long ago, and what hangs on them.
//!
//! Right before the first one of a repository it is read again, and each is looked at by itself before it goes. What is
//! not as it was decided on stays.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use futures::stream::{self, StreamExt as _};

use super::{Brake, Hands, MOST_TRIES, Target};
use crate::domain::{
    Action, Along, Deletion, Digest, Gap, Intent, Outcome, RegistryName, Repository, RepositoryName, Role, Skip,
    TagName,
};
use crate::engine::companion_subject;
use crate::registry::{ContentCache as _, RawManifest, RegistryError, RegistryErrorKind, Removed};
use crate::store::{JournalId, StoreError};

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
        let intent = intent(&deletion, &deletion.digest, "".into(), &proof);
        let outcome = Outcome::Skipped(skip);
        hands.store.note(hands.run, &intent, &outcome, (hands.clock)()).await?;
        noted.push(Deleted { digest: deletion.digest.clone(), deletion, role: None, outcome });
    }
    Ok(noted)
}

fn intent(deletion: &Deletion, digest: &Digest, media_type: Arc<str>, proof: &str) -> Intent {
    Intent {
        action: Action::DeleteUntagged,
        registry: deletion.registry.clone(),
        repository: deletion.repository.clone(),
        tag: deletion.tag.clone(),
        digest: digest.clone(),
        media_type,
        policy: deletion.policies.first().map(ToString::to_string),
        proof: proof.to_owned(),
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

impl Site<'_> {
    /// Deletes indexes before what they contain, and images before what refers to them.
    async fn repository(&self, orders: Vec<DeleteOrder>) -> Result<Vec<Deleted>, StoreError> {
        let mut ones: HashMap<Digest, One> = HashMap::new();
        for DeleteOrder { deletion, proof } in orders {
            let along = deletion.along.iter().map(|Along { role, digest }| (digest, Some(*role)));
            for (digest, role) in std::iter::once((&deletion.digest, None)).chain(along) {
                let (deletion, proof) = (Arc::clone(&deletion), proof.clone());
                ones.insert(digest.clone(), One { deletion, proof, digest: digest.clone(), role });
            }
        }
        let mut queue: Vec<Digest> = ones.keys().cloned().collect();
        queue.sort_by_key(|digest| (ones[digest].role, digest.clone()));
        let mut done = Vec::new();
        let mut now = match self.read(&queue).await {
            Ok(now) => now,
            Err(skip) => {
                for digest in queue {
                    done.push(self.note(ones[&digest].clone(), Outcome::Skipped(skip.clone())).await?);
                }
                return Ok(done);
            }
        };
        let (mut queue, mut passed) = (VecDeque::from(queue), 0);
        while let Some(digest) = queue.pop_front() {
            let Some(one) = ones.get(&digest) else { continue };
            // One waits for whatever contains it and for what it refers to; if they wait for each other, all of them stay.
            if passed <= queue.len() && now.above(one).any(|above| ones.contains_key(above)) {
                queue.push_back(digest);
                passed += 1;
                continue;
            }
            passed = 0;
            let Some(one) = ones.remove(&digest) else { continue };
            let referrers = now.referrers_among(&digest, &mut ones);
            let deleted = self.with_referrers(one, referrers, &now).await?;
            for one in &deleted {
                if matches!(one.outcome, Outcome::Done(_) | Outcome::Skipped(Skip::Gone)) {
                    now.gone.insert(one.digest.clone());
                }
            }
            done.extend(deleted);
        }
        Ok(done)
    }

    /// What is so of the repository now.
    async fn read(&self, digests: &[Digest]) -> Result<Now, Skip> {
        if let Some(skip) = self.brake.reason(self.hands) {
            return Err(skip);
        }
        let meant: BTreeSet<Digest> = digests.iter().cloned().collect();
        let repository = self.target.reader.repository(self.repository, &meant, &self.hands.store).await;
        let unread = repository.gaps.iter().find(|gap| Gap::blocks_repository(gap));
        match unread {
            Some(gap) => Err(Skip::Kept(format!("{} could not be read again: {}", gap.at, gap.message))),
            None => Ok(Now::new(repository, meant)),
        }
    }

    /// One manifest and what refers to it, which a registry may delete by itself then: so all of it is journaled first.
    async fn with_referrers(&self, one: One, referrers: Vec<One>, now: &Now) -> Result<Vec<Deleted>, StoreError> {
        let against = self.brake.reason(self.hands).or_else(|| now.keeps(&one).map(Skip::Kept));
        let mut begun: Vec<(JournalId, One)> = Vec::new();
        let mut outcome = against.map(Outcome::Skipped);
        for one in std::iter::once(&one).chain(&referrers) {
            if outcome.is_some() {
                break;
            }
            match self.manifest(&one.digest).await {
                Ok(Some(manifest)) => begun.push((self.intend(one, &manifest).await?, one.clone())),
                Ok(None) if one.role.is_none() || begun.is_empty() => outcome = Some(Outcome::Skipped(Skip::Gone)),
                Ok(None) => {}
                Err(error) => {
                    self.brake.failed(&error);
                    let why =
                        format!("{} could not be read, so it could not be put back: {}", one.digest, error.message);
                    outcome = Some(Outcome::Failed(why));
                }
            }
        }
        let outcome = match outcome {
            Some(outcome) => Ok(outcome),
            None => self.delete(&one, now).await,
        };
        let mut done = vec![self.end(&mut begun, one, outcome).await?];
        let gone = |deleted: &Deleted| matches!(deleted.outcome, Outcome::Done(_) | Outcome::Skipped(Skip::Gone));
        for referrer in referrers {
            let subject = now.subject(&referrer.digest);
            let outcome = if !done.iter().any(|one| gone(one) && Some(&one.digest) == subject) {
                Ok(Outcome::Skipped(Skip::Kept("what it refers to stays".to_owned())))
            } else {
                match self.delete(&referrer, now).await {
                    Ok(Outcome::Skipped(Skip::Gone)) => {
                        Ok(Outcome::Done("the registry deleted it with what it refers to".to_owned()))
                    }
                    outcome => outcome,
                }
            };
            done.push(self.end(&mut begun, referrer, outcome).await?);
        }
        Ok(done)
    }

    async fn intend(&self, one: &One, manifest: &RawManifest) -> Result<JournalId, StoreError> {
        let intent = intent(&one.deletion, &one.digest, Arc::clone(&manifest.media_type), &one.proof);
        self.hands.store.intend(self.hands.run, &intent, manifest, (self.hands.clock)()).await
    }

    async fn note(&self, one: One, outcome: Outcome) -> Result<Deleted, StoreError> {
        self.end(&mut Vec::new(), one, Ok(outcome)).await
    }

    /// Journals what came of one. Where the registry does not say, the entry stays open until the next start.
    async fn end(
        &self,
        begun: &mut Vec<(JournalId, One)>,
        one: One,
        outcome: Result<Outcome, RegistryError>,
    ) -> Result<Deleted, StoreError> {
        let (store, now) = (&self.hands.store, &self.hands.clock);
        let id = begun.iter().find(|(_, begun)| begun.digest == one.digest).map(|(id, _)| *id);
        let (outcome, known) = match outcome {
            Ok(outcome) => (outcome, true),
            Err(error) => self.after(&one, error).await,
        };
        match id {
            Some(id) if known => store.settle(id, &outcome, now()).await?,
            Some(_) => {}
            None => {
                let intent = intent(&one.deletion, &one.digest, "".into(), &one.proof);
                store.note(self.hands.run, &intent, &outcome, now()).await?;
            }
        }
        self.log(&one, &outcome);
        Ok(Deleted { deletion: one.deletion, digest: one.digest, role: one.role, outcome })
    }

    /// What came of a request that failed, and whether that is known: the registry is asked what is so now.
    async fn after(&self, one: &One, error: RegistryError) -> (Outcome, bool) {
        self.brake.failed(&error);
        match self.target.reader.has_manifest(self.repository, &one.digest).await {
            Ok(true) if error.kind == RegistryErrorKind::Locked => {
                (Outcome::Skipped(Skip::Locked(error.message)), true)
            }
            Ok(true) => (Outcome::Failed(error.message), true),
            Ok(false) => (Outcome::Done(format!("it is gone, although: {}", error.message)), true),
            Err(second) => {
                let why = format!("{}; then looking at it failed: {}", error.message, second.message);
                (Outcome::Failed(format!("{why}; settled at the next start")), false)
            }
        }
    }

    /// The exact bytes, for the journal.
    async fn manifest(&self, digest: &Digest) -> Result<Option<RawManifest>, RegistryError> {
        if let Some(manifest) = self.hands.store.manifest(digest).await {
            return Ok(Some(manifest));
        }
        self.target.reader.manifest(self.repository, digest).await
    }

    /// Looks at the manifest and deletes it. The looks come right before each request.
    async fn delete(&self, one: &One, now: &Now) -> Result<Outcome, RegistryError> {
        let Target { reader, writer } = self.target;
        let kept = |why: String| Ok(Outcome::Skipped(Skip::Kept(why)));
        for _ in 0..MOST_TRIES {
            writer.ready().await;
            if let Some(skip) = self.brake.reason(self.hands) {
                return Ok(Outcome::Skipped(skip));
            }
            let Some(seen) = reader.manifest_now(self.repository, &one.digest).await? else {
                return Ok(Outcome::Skipped(Skip::Gone));
            };
            if let Some(tag) = seen.tags.first() {
                return kept(format!("tag {tag} names it"));
            }
            if let Some(lock) = seen.lock {
                return Ok(Outcome::Skipped(Skip::Locked(format!("it has a {} lock", lock.label()))));
            }
            let then = now.repository.untagged.get(&one.digest).copied().flatten();
            if one.role.is_none() && seen.changed_at.zip(then).is_some_and(|(seen, then)| seen > then) {
                return kept("it was changed meanwhile".to_owned());
            }
            // Registries delete what refers to a manifest with it, so all of that must be meant to go.
            let referrers = reader.referrers(self.repository, &one.digest).await?;
            if let Some(other) = referrers.iter().find(|digest| !now.meant.contains(digest)) {
                return kept(format!("{other} refers to it, and is not to be deleted"));
            }
            match writer.delete_manifest(self.repository, &one.digest).await {
                Ok(Removed::Done { evidence, .. }) => {
                    self.brake.succeeded();
                    return self.confirmed(one, evidence).await;
                }
                Ok(Removed::AlreadyGone) => return Ok(Outcome::Skipped(Skip::Gone)),
                Err(error) if error.kind == RegistryErrorKind::Throttled => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Outcome::Failed("the registry puts deletions off again and again".to_owned()))
    }

    /// An answer alone is no proof.
    async fn confirmed(&self, one: &One, evidence: String) -> Result<Outcome, RegistryError> {
        if self.target.reader.has_manifest(self.repository, &one.digest).await? {
            let why = format!("the registry said that it deleted {}, and it is still there", one.digest);
            self.brake.stop(why.clone());
            return Ok(Outcome::Failed(why));
        }
        Ok(Outcome::Done(evidence))
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

/// A repository as it is right before something is deleted from it.
struct Now {
    repository: Repository,
    /// Everything that is to go.
    meant: BTreeSet<Digest>,
    /// What went.
    gone: BTreeSet<Digest>,
    tags: HashMap<Digest, TagName>,
    indexes: HashMap<Digest, Vec<Digest>>,
    referrers: HashMap<Digest, Vec<Digest>>,
}

impl Now {
    fn new(repository: Repository, meant: BTreeSet<Digest>) -> Self {
        let (mut indexes, mut referrers) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new());
        for (digest, manifest) in &repository.manifests {
            for child in &manifest.children {
                indexes.entry(child.clone()).or_default().push(digest.clone());
            }
            if let Some(subject) = manifest.subject.as_deref() {
                referrers.entry(subject.clone()).or_default().push(digest.clone());
            }
        }
        let tags = repository.tags.iter().filter_map(|tag| Some((tag.digest.clone()?, tag.name.clone()))).collect();
        Self { repository, meant, gone: BTreeSet::new(), tags, indexes, referrers }
    }

    fn subject(&self, digest: &Digest) -> Option<&Digest> {
        self.repository.manifests.get(digest)?.subject.as_deref()
    }

    /// What must go before a manifest, as far as it is there: the indexes that list it and what it refers to.
    fn above<'a>(&'a self, one: &'a One) -> impl Iterator<Item = &'a Digest> {
        let accompanied = companion_subject(&one.deletion.tag).filter(|_| one.role.is_none());
        let accompanied = accompanied.and_then(|subject| self.meant.get(&subject).or_else(|| self.key_of(&subject)));
        let indexes = self.indexes.get(&one.digest).into_iter().flatten();
        let there = |digest: &&Digest| !self.gone.contains(*digest) && self.repository.manifests.contains_key(*digest);
        indexes.chain(self.subject(&one.digest)).chain(accompanied).filter(there)
    }

    fn key_of(&self, digest: &Digest) -> Option<&Digest> {
        self.repository.manifests.get_key_value(digest).map(|(digest, _)| digest)
    }

    /// Takes out of `ones` what refers to a manifest, directly or not, in the order in which it goes.
    fn referrers_among(&self, digest: &Digest, ones: &mut HashMap<Digest, One>) -> Vec<One> {
        let (mut found, mut open): (Vec<One>, _) = (Vec::new(), vec![digest.clone()]);
        while let Some(next) = open.pop() {
            for referrer in self.referrers.get(&next).into_iter().flatten() {
                if let Some(one) = ones.remove(referrer) {
                    open.push(one.digest.clone());
                    found.push(one);
                }
            }
        }
        found
    }

    /// Why a manifest stays now.
    fn keeps(&self, one: &One) -> Option<String> {
        let digest = &one.digest;
        if let Some(tag) = self.tags.get(digest) {
            return Some(format!("tag {tag} names it"));
        }
        if let Some(above) = self.above(one).next() {
            return Some(format!("{above}, which lists it or which it refers to, stays"));
        }
        let mut referrers = self.referrers.get(digest).into_iter().flatten();
        let other = referrers.find(|referrer| !self.meant.contains(*referrer) && !self.gone.contains(*referrer))?;
        Some(format!("{other} refers to it, and is not to be deleted"))
    }
}
