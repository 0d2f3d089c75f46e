//! The walk through the repositories: each is read, decided, checked and spooled, and its facts are released.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::FutureExt as _;
use futures::stream::{self, StreamExt as _};
use jiff::Timestamp;
use tokio::sync::{SemaphorePermit, mpsc};
use tracing::{Instrument as _, Span};

use super::blob_spool::BlobSpool;
use super::clock::RecordedTime;
use super::decision::Facts;
use super::drift::UsedImages;
use super::evidence::{EarlyRecords, Recording};
use super::manifest_cleanup::CleanupCandidates;
use super::needed_manifests::{Evaluation, ReadBudget, Turn};
use super::read_ahead::{MAX_REPOSITORIES, ReadAhead};
use super::untagged_history::{FreeManifestTally, needs_untagged_history};
use super::{App, Narrowing, RunError};
use crate::domain::{
    Acceptance, Claims, ClockReading, Deletions, Digest, Drift, Failure, Gap, GapTarget, IndexReads, RegistryName,
    Repository, RepositoryName, Rules, SourceName, SourceState, UntaggedManifest, chain,
};
use crate::engine::{
    self, AbsentDigest, CheckTotals, ClaimedDigests, ContentComparison, DeletionCounts, DeletionDependencies, Evidence,
    PlacedDigests, RemovalCounts, RemovalPlanner, RepositoryDecision, RepositoryRemovals, RuleMatchCounter, Violation,
};
use crate::registry::{self, Progress, RegistryHead, RegistryReader};
use crate::report::{DriftView, PlanSpool, PlanTally, RepositoryViews};
use crate::sources;
use crate::state::{CachedContent, NewestTime, ObservationContext, RegistryObservation};

/// Most tags of postponed repositories.
const MAX_TAGS_PUT_OFF: usize = 200_000;

/// The inputs of a walk besides registries and claims.
#[derive(Clone, Copy)]
pub(super) struct WalkInput<'a> {
    pub(super) rules: &'a Rules,
    pub(super) candidates: &'a CleanupCandidates,
    pub(super) look: &'a ObservationContext,
    /// Now, and the time to decide for.
    pub(super) times: (Timestamp, Timestamp),
    pub(super) remember: Recording,
    pub(super) facts: Facts,
    /// The clocks when the run began, and the newest time in the state.
    pub(super) start: ClockReading,
    pub(super) newest: NewestTime,
    /// The records that a dry run goes on with if it loses the state.
    pub(super) early: Option<&'a EarlyRecords>,
    pub(super) budget: &'a ReadBudget,
    /// True if these are all repositories.
    pub(super) whole: bool,
    pub(super) find_unused_cache: bool,
    /// What of it is put into the plan.
    pub(super) narrowing: &'a Narrowing,
    /// The refusals that a person accepted.
    pub(super) acceptances: &'a [Acceptance],
    /// The window, freeze or newer rules that hold removals back, in words.
    pub(super) blocked_by: Option<&'a str>,
}

/// Notes by repository and place there.
type ReportedNotes = BTreeMap<(u32, usize), String>;

/// The sums of a walk.
pub(super) struct Walk<'a> {
    pub(super) spool: PlanSpool,
    pub(super) tally: PlanTally<'a>,
    pub(super) removal_counts: RemovalCounts,
    pub(super) deletion_counts: DeletionCounts,
    pub(super) contents: ContentComparison,
    pub(super) check: CheckTotals<'a>,
    pub(super) rules: RuleMatchCounter<'a>,
    /// By registry.
    pub(super) blobs: Vec<BlobSpool>,
    /// The deletions of each repository that has any, by number.
    pub(super) deletions: BTreeMap<u32, (Deletions, DeletionDependencies)>,
    /// The removals of repositories with dependencies between removals, by number.
    pub(super) dependent: BTreeMap<u32, RepositoryRemovals>,
    /// The removals that the narrowing keeps from being enforced, by place and position.
    pub(super) left_out: BTreeMap<(RegistryName, RepositoryName), Vec<u32>>,
    pub(super) narrowing: &'a Narrowing,
    pub(super) acceptances: &'a [Acceptance],
    pub(super) used: UsedImages<'a>,
    pub(super) drift: Vec<Drift>,
    pub(super) findings: Vec<DriftView>,
    pub(super) violations: Vec<Violation>,
    /// The sources that mention a tag.
    pub(super) mentioning: BTreeSet<SourceName>,
    /// Notes on words that are only reported, in the order of repositories, with their number.
    reported: BTreeMap<SourceName, (u64, ReportedNotes)>,
    /// The repositories with removals or deletions.
    pub(super) touched: BTreeMap<RegistryName, BTreeSet<RepositoryName>>,
    /// By registry.
    index_reads: Vec<IndexReads>,
    pub(super) kept: BTreeMap<(usize, RepositoryName), (Repository, RepositoryDecision)>,
    pub(super) externally_deleted: Vec<UntaggedManifest>,
    /// What was found of manifests without a tag, by registry.
    pub(super) free_manifests: Vec<FreeManifestTally>,
    pub(super) has_gaps: bool,
    pub(super) unused_cache: Option<CachedContent>,
    /// The claimed digests that were assumed to be absent in a decision, and that keep a tag as long as no repository
    /// has them.
    assumed_absent: BTreeSet<AbsentDigest>,
    /// True if claimed digests were found that had not been before.
    has_placed: bool,
}

/// Why a walk is repeated.
pub(super) enum Repetition {
    /// An image id turned out to be a manifest's digest, after repositories were decided on the opposite assumption.
    PlacedDigest,
    /// A source without any claim mentions no tag either, so that it counts as failed.
    EmptySource(BTreeSet<SourceName>),
}

impl Repetition {
    /// Changes the claims accordingly.
    pub(super) fn apply(&self, claims: &mut Claims) {
        if let Self::EmptySource(mentioning) = self {
            sources::fail_empty_sources(claims, mentioning);
        }
    }
}

/// A repository that was read, with its place.
struct ReadRepository<'p> {
    registry: usize,
    number: u32,
    repository: Repository,
    /// The last changes of the manifests that no tag references; `None` where nobody asks for them.
    changed_at: Option<BTreeMap<Digest, Timestamp>>,
    permit: Option<SemaphorePermit<'p>>,
}

fn registry_span(head: &RegistryHead) -> Span {
    tracing::info_span!("registry", registry = %head.registry.name, repositories = head.names.len())
}

/// The values shared by all repositories of one registry.
struct RegistryWalk<'a> {
    head: &'a RegistryHead,
    /// Covers the reading and deciding of all its repositories.
    span: Span,
    reader: &'a Arc<dyn RegistryReader>,
    /// `None` in a dry run that lost the state.
    observation: Option<RegistryObservation>,
    /// As of now, to find out what has to be read.
    present: Evidence<'a>,
    /// As of the time to decide for, if different.
    other: Option<Evidence<'a>>,
    claimed: ClaimedDigests<'a>,
}

impl RegistryWalk<'_> {
    /// Returns true if the dates of tags depend on what earlier runs recorded: when each was first seen, or restored.
    fn needs_records(&self, repository: &Repository) -> bool {
        self.observation.as_ref().is_none_or(RegistryObservation::has_restored)
            || repository.tags.iter().any(|tag| tag.pushed_at.is_none())
    }
}

impl App {
    /// Reads the repositories of these registries, and decides one after another.
    pub(super) async fn walk<'a>(
        &'a self,
        input: &WalkInput<'a>,
        heads: &'a [RegistryHead],
        (claims, texts): (&'a Claims, &'a [Arc<str>]),
        placed: &mut PlacedDigests,
        progress: &dyn Progress,
    ) -> Result<Walk<'a>, RunError> {
        let registries = self.begin_registries(input, heads, (claims, texts)).await?;
        let mut walk = self.begin_walk(input, heads, claims, &registries).await?;
        let (mut planner, known_before) = (RemovalPlanner::new(input.rules, input.times.1), placed.len());

        let (most, ahead) = (MAX_REPOSITORIES as usize, ReadAhead::new());
        let (sender, mut receiver) = mpsc::channel(most);
        let (registries, ahead) = (&registries, &ahead);
        // Prevents a deadlock in which all permits belong to other registries.
        let at_once = (most / registries.len().max(1)).max(1);
        let read = async move {
            let mut first = 0_u32;
            let mut streams = Vec::with_capacity(registries.len());
            for (at, registry) in registries.iter().enumerate() {
                let numbers = first..;
                first = first.saturating_add(u32::try_from(registry.head.names.len()).unwrap_or(u32::MAX));
                let reads = numbers.zip(&registry.head.names).map(move |(number, name)| {
                    let read = async move {
                        let mut permit = ahead.acquire().await;
                        let look_for = &input.candidates.extra_manifests;
                        let reader = &**registry.reader;
                        let of = &registry.head.registry.name;
                        let (repository, changed_at) = if needs_untagged_history(input.rules, reader, of, name) {
                            let reading =
                                registry::read_repository_with_changes(reader, name, look_for, &self.store, progress);
                            let (repository, changed_at) = reading.await;
                            (repository, Some(changed_at))
                        } else {
                            let reading = registry::read_repository(reader, name, look_for, &self.store, progress);
                            (reading.await, None)
                        };
                        ahead.adjust(&mut permit, repository.tags.len());
                        ReadRepository { registry: at, number, repository, changed_at, permit }
                    };
                    read.instrument(registry.span.clone()).boxed()
                });
                streams.push(stream::iter(reads).buffered(at_once).boxed());
            }
            let mut all = stream::select_all(streams);
            while let Some(one) = all.next().await {
                if sender.send(one).await.is_err() {
                    break;
                }
            }
        };
        let (walked, found) = (&mut walk, &mut *placed);
        let decide = async move {
            let (mut put_off, mut tags_put_off) = (Vec::new(), 0);
            while let Some(mut one) = receiver.recv().await {
                let registry = &registries[one.registry];
                self.observe(input, registry, &mut one.repository).await?;
                if let Some(changed_at) = one.changed_at.take() {
                    let endpoint = &registry.head.registry.endpoint;
                    self.fill_untagged_history(endpoint, &mut one.repository, changed_at, input.times.0).await?;
                }
                let wait = tags_put_off + one.repository.tags.len() <= MAX_TAGS_PUT_OFF;
                let turn = if wait { Turn::First } else { Turn::Last };
                let means = (&mut *found, &mut planner);
                if let Some((need, mut one)) = self.decide_one(input, registry, one, means, turn, walked).await? {
                    tags_put_off += one.repository.tags.len();
                    one.permit = None;
                    put_off.push((need, one));
                }
            }
            // The smallest first: one large repository must not keep many small ones undecided.
            put_off.sort_by_key(|(need, one)| (*need, one.number));
            for (_, one) in put_off {
                let means = (&mut *found, &mut planner);
                self.decide_one(input, &registries[one.registry], one, means, Turn::Last, walked).await?;
            }
            Ok::<_, RunError>(())
        };
        let ((), decided) = futures::join!(read, decide);
        decided?;
        walk.has_placed = placed.len() > known_before;
        for registry in registries {
            if self.recorded_time(input, registry) != RecordedTime::Doubtful {
                if let Some(observation) = &registry.observation {
                    self.unless_lost(self.store.finish_observation(observation, input.look)).await?;
                }
                self.record_repositories(&registry.head.registry, &registry.head.names, input).await;
            }
            if input.whole {
                let gone = input.candidates.deleted_with_repository(registry.head);
                walk.externally_deleted.extend(gone);
            }
        }
        Ok(walk)
    }

    /// Returns the registries that have a reader, with the evidence about each.
    async fn begin_registries<'a>(
        &'a self,
        input: &WalkInput<'a>,
        heads: &'a [RegistryHead],
        (claims, texts): (&'a Claims, &'a [Arc<str>]),
    ) -> Result<Vec<RegistryWalk<'a>>, RunError> {
        let mut registries = Vec::with_capacity(heads.len());
        for head in heads {
            let Some(reader) = self.readers.get(&head.registry.name) else { continue };
            let evidence = |at| {
                Evidence::new(input.rules, &head.registry, (claims, texts), input.candidates.untagged_manifests(), at)
            };
            let (now, at) = input.times;
            registries.push(RegistryWalk {
                head,
                span: registry_span(head),
                reader,
                observation: self.unless_lost(self.store.begin_observation(&head.registry, input.look)).await?,
                present: evidence(now),
                other: (at != now).then(|| evidence(at)),
                claimed: ClaimedDigests::of(claims, &head.registry.name),
            });
        }
        Ok(registries)
    }

    async fn begin_walk<'a>(
        &'a self,
        input: &WalkInput<'a>,
        heads: &'a [RegistryHead],
        claims: &'a Claims,
        registries: &[RegistryWalk<'a>],
    ) -> Result<Walk<'a>, RunError> {
        let mut drift = Vec::new();
        for registry in registries {
            let names = registry.head.names.iter().map(RepositoryName::as_str);
            drift.extend(registry.other.as_ref().unwrap_or(&registry.present).missing_repositories(names));
        }
        Ok(Walk {
            spool: PlanSpool::new().map_err(spool_error)?,
            tally: PlanTally::new(claims, input.rules, input.times.1),
            removal_counts: RemovalCounts::default(),
            deletion_counts: DeletionCounts::default(),
            contents: ContentComparison::new(heads.len()),
            check: CheckTotals::new(input.rules),
            rules: RuleMatchCounter::new(input.rules),
            blobs: heads.iter().map(|_| BlobSpool::new(None)).collect(),
            deletions: BTreeMap::new(),
            dependent: BTreeMap::new(),
            left_out: BTreeMap::new(),
            narrowing: input.narrowing,
            acceptances: input.acceptances,
            used: UsedImages::new(heads, claims, input.whole),
            drift,
            findings: Vec::new(),
            violations: Vec::new(),
            mentioning: BTreeSet::new(),
            reported: BTreeMap::new(),
            touched: BTreeMap::new(),
            index_reads: vec![IndexReads::default(); heads.len()],
            kept: BTreeMap::new(),
            externally_deleted: Vec::new(),
            free_manifests: heads.iter().map(|_| FreeManifestTally::default()).collect(),
            has_gaps: false,
            unused_cache: if input.find_unused_cache {
                self.unless_lost(self.store.cached_content()).await?
            } else {
                None
            },
            assumed_absent: BTreeSet::new(),
            has_placed: false,
        })
    }

    /// Fills in the times at which tags were first seen, and records the existing tags.
    async fn observe(
        &self,
        input: &WalkInput<'_>,
        registry: &RegistryWalk<'_>,
        repository: &mut Repository,
    ) -> Result<(), RunError> {
        let time = self.recorded_time(input, registry);
        let is_doubtful = time == RecordedTime::Doubtful;
        let agrees = input.look.clock_skewed.is_empty() && time == RecordedTime::Confirmed;
        let look = ObservationContext {
            clock_confirmed: !is_doubtful && (input.look.clock_confirmed || agrees),
            ..input.look.clone()
        };
        let observed = match &registry.observation {
            Some(known) => {
                let observation = if is_doubtful { known.unrecorded() } else { known.clone() };
                self.unless_lost(self.store.observe_repository(&observation, repository, &look)).await?
            }
            None => None,
        };
        let filling = self.fill_removal_time(input.rules, &registry.head.registry, repository, input.times.1);
        let is_filled = self.unless_lost(filling).await?.is_some();
        let needs_removals = engine::longest_idle(input.rules, &registry.head.registry, repository).is_some();
        if (observed.is_none() && registry.needs_records(repository)) || (!is_filled && needs_removals) {
            repository.gaps.push(self.lost_state_gap(GapTarget::Records));
            repository.gaps.sort();
        }
        if input.remember == Recording::Enabled && !is_doubtful && !self.has_lost_state() {
            let recorded = self.store.record_tag_list(&registry.head.registry, repository, input.times.0).await;
            warn_if_unrecorded(recorded);
        }
        Ok(())
    }

    fn recorded_time(&self, input: &WalkInput<'_>, registry: &RegistryWalk<'_>) -> RecordedTime {
        self.check_recorded_time(&registry.head.registry.name, input.start, input.newest)
    }

    async fn record_repositories(
        &self,
        registry: &crate::domain::Registry,
        names: &[RepositoryName],
        input: &WalkInput<'_>,
    ) {
        if input.remember == Recording::Enabled && !self.has_lost_state() {
            warn_if_unrecorded(self.store.record_repositories(registry, names, input.times.0).await);
        }
    }

    /// Decides one repository and adds it to the walk. If it is postponed, returns it with the number of images that
    /// have to be read for it.
    async fn decide_one<'p, 'a>(
        &'a self,
        input: &WalkInput<'a>,
        registry: &RegistryWalk<'a>,
        mut one: ReadRepository<'p>,
        (placed, planner): (&mut PlacedDigests, &mut RemovalPlanner<'_>),
        turn: Turn,
        walk: &mut Walk<'a>,
    ) -> Result<Option<(usize, ReadRepository<'p>)>, RunError> {
        let name = &registry.head.registry.name;
        placed.add(name, &one.repository);
        let reads = &mut walk.index_reads[one.registry];
        let evidence = &registry.present;
        let evaluated = match self
            .evaluate_reading(registry.reader, &mut one.repository, (evidence, placed), (input.budget, turn), reads)
            .await
        {
            Evaluation::Done(evaluated) => *evaluated,
            Evaluation::PutOff(need) => return Ok(Some((need, one))),
        };
        let ReadRepository { registry: at, number, mut repository, permit, .. } = one;
        let (evidence, evaluated) = match &registry.other {
            Some(other) => (other, engine::evaluate_repository(&repository, other, placed)),
            None => (evidence, evaluated),
        };
        let decision = engine::decide(&repository, evidence, placed, evaluated, (planner, &mut walk.check));
        let begins =
            self.recorded_time(input, registry) != RecordedTime::Doubtful && !input.look.clock_skewed.contains(name);
        walk.free_manifests[at].add(&repository, &decision.free, begins && input.remember == Recording::Enabled);
        let (found_in, findings) =
            walk.used.find_in((at, registry.head), registry.reader, repository, &decision.verdicts).await;
        repository = found_in;
        walk.findings.extend(findings);
        walk.add(input, registry, (at, number), &repository, &decision).map_err(spool_error)?;
        if input.facts == Facts::Kept {
            walk.kept.insert((at, repository.name.clone()), (repository, decision));
        } else {
            drop((repository, decision));
        }
        drop(permit);
        Ok(None)
    }
}

impl<'a> Walk<'a> {
    fn add(
        &mut self,
        input: &WalkInput<'_>,
        walked: &RegistryWalk<'a>,
        (at, number): (usize, u32),
        repository: &Repository,
        decision: &RepositoryDecision,
    ) -> std::io::Result<()> {
        let registry = &walked.head.registry;
        // Limits and rules count everything, whatever the plan is narrowed to.
        self.removal_counts.add(registry, repository, &decision.removals.removals);
        self.deletion_counts.add(decision.deletions.deletable());
        self.rules.add(registry, repository);
        self.contents.add(registry, repository);
        self.add_to_plan(input, walked, (at, number), repository, decision)?;
        let verdicts = &decision.verdicts;
        self.drift.extend(verdicts.drift.iter().cloned());
        self.violations.extend(decision.violations.iter().cloned());
        self.mentioning.extend(decision.mentions.iter().map(|(source, _)| source.clone()));
        for (index, (source, mention)) in decision.reported_mentions.iter().enumerate() {
            let (count, notes) = self.reported.entry(source.clone()).or_default();
            *count += 1;
            // From the first repositories in order, whichever were read first.
            notes.insert((number, index), sources::mention_note(mention));
            if notes.len() > sources::MAX_MESSAGES {
                notes.pop_last();
            }
        }
        self.assumed_absent.extend(decision.assumed_absent.iter().cloned());
        self.has_gaps |= !repository.gaps.iter().all(Gap::is_note);
        if let Some(unused) = &mut self.unused_cache {
            unused.remove_used(repository);
        }
        if input.whole {
            self.externally_deleted.extend(input.candidates.deleted_in(registry, repository));
        }
        Ok(())
    }

    /// Adds what the plan shows of a repository: all of it, less what the narrowing leaves out.
    fn add_to_plan(
        &mut self,
        input: &WalkInput<'_>,
        walked: &RegistryWalk<'a>,
        (at, number): (usize, u32),
        repository: &Repository,
        decision: &RepositoryDecision,
    ) -> std::io::Result<()> {
        let registry = &walked.head.registry;
        let place = (&registry.name, &repository.name);
        let blobs = |removals: &RepositoryRemovals, deletions: &Deletions| {
            let verdicts = &decision.verdicts.tags;
            let (removals, deletions) = (&removals.removals, &deletions.eligible);
            engine::blob_uses(registry, repository, &walked.claimed, verdicts, removals, deletions)
        };
        if !self.narrowing.includes(place.0, place.1) {
            // It was read, and what it holds stays.
            self.tally.add(registry, repository, &RepositoryDecision::default());
            return self.blobs[at].add(number, blobs(&RepositoryRemovals::default(), &Deletions::default()));
        }
        let narrowed = self.narrowing.restrict(decision);
        let decision = narrowed.as_ref().map_or(decision, |(narrowed, _)| narrowed);
        let RepositoryDecision { removals, deletions, .. } = decision;
        self.tally.add(registry, repository, decision);
        self.blobs[at].add(number, blobs(removals, deletions))?;
        let views = RepositoryViews::new(registry, repository, decision, input.times.1);
        self.spool.add(number, place, views)?;
        if !removals.removals.is_empty() || deletions.deletable().next().is_some() {
            self.touched.entry(registry.name.clone()).or_default().insert(repository.name.clone());
        }
        // What a policy's limit refuses is all of them or none where the same policies expire all.
        let mixed = removals.removals.windows(2).any(|pair| pair[0].policies != pair[1].policies);
        if mixed && !removals.dependencies.is_empty() {
            self.dependent.insert(number, removals.clone());
        }
        if *deletions != Deletions::default() {
            let dependencies = decision.deletion_dependencies.clone();
            self.deletions.insert(number, (deletions.clone(), dependencies));
        }
        if let Some((_, positions)) = narrowed
            && !positions.is_empty()
        {
            self.left_out.insert((place.0.clone(), place.1.clone()), positions);
        }
        Ok(())
    }

    /// Why everything has to be decided again: what was found at the end would have changed what was decided before.
    /// `mentioning` are sources that were seen to mention a tag before.
    pub(super) fn repetition(
        &self,
        claims: &Claims,
        placed: &PlacedDigests,
        mentioning: &BTreeSet<SourceName>,
    ) -> Option<Repetition> {
        if self.has_placed && placed.has_any(&self.assumed_absent) {
            return Some(Repetition::PlacedDigest);
        }
        let mentioning: BTreeSet<SourceName> = self.mentioning.union(mentioning).cloned().collect();
        let is_empty = |name: &SourceName| {
            let texts = claims.texts.get(name);
            texts.is_some_and(|texts| texts.unless_mentioned.is_some()) && !mentioning.contains(name)
        };
        let mut sources = claims.sources.iter().filter(|source| !source.has_failed());
        sources.any(|source| is_empty(&source.name)).then_some(Repetition::EmptySource(mentioning))
    }

    /// Fills in the findings about registries as a whole.
    pub(super) fn complete_heads(&self, heads: &mut [RegistryHead]) {
        for (head, reads) in heads.iter_mut().zip(&self.index_reads) {
            head.registry.index_reads = *reads;
        }
    }

    /// Adds notes on the words that are only reported.
    pub(super) fn complete_notes(&self, claims: &mut Claims) {
        for source in &mut claims.sources {
            if let (SourceState::Complete { notes, .. }, Some(reported)) =
                (&mut source.state, self.reported.get(&source.name))
            {
                let (count, texts) = reported;
                notes.extend(sources::truncate_counted_messages(texts.values().cloned().collect(), *count));
            }
        }
    }
}

/// Logs a record that could not be written. No decision depends on it, so a run continues without it.
fn warn_if_unrecorded(recorded: Result<(), crate::state::StateError>) {
    if let Err(error) = recorded {
        tracing::warn!(kind = error.kind.label(), "cannot note which tags there are: {}", error.chain());
    }
}

pub(super) fn spool_error(error: std::io::Error) -> RunError {
    let folder = std::env::temp_dir();
    let named = chain(&error).contains(&*folder.to_string_lossy());
    let place = if named { String::new() } else { format!(" in {}", folder.display()) };
    let failure = Failure::new((), format!("cannot use the plan's temporary file{place}")).caused_by(error);
    let help = if folder.is_dir() { "make room there" } else { "make this folder" };
    RunError::Failed(failure.with_help(format!("{help}, or set TMPDIR to another one")))
}
