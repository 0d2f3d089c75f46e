//! Lookup of runs by the beginning of their id, and of tags by a reference.

use std::collections::BTreeMap;
use std::slice;

use jiff::Timestamp;

use super::{App, RunError};
use crate::domain::{Digest, Failure, Hosts, ImageReference, RegistryName, RepositoryName, TagName};
use crate::policy::fields::{nearest, quoted_list};
use crate::registry::{self, RegistrySettings};
use crate::report::{self, PlanDocument, PlanLoadError, PolicyFileView, RunPoliciesView, RunSummary, RunView};
use crate::state::{NewRun, RecordedPolicy, RunKind, RunRecord, StateError, StateErrorKind, StateStore};

/// The name of the last run in place of an id.
pub(super) const LAST_RUN: &str = "last";

/// Runs read at once.
pub(super) const PAGE: u32 = 500;
/// The last runs among which one is looked for by the beginning of its id.
pub(super) const RECENT_RUNS: u32 = 1000;

/// A part of all runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunQuery {
    /// The earliest start.
    pub since: Option<Timestamp>,
    /// The first start that is too late.
    pub until: Option<Timestamp>,
    /// The commands; empty for all.
    pub kinds: Vec<RunKind>,
}

impl RunQuery {
    fn includes(&self, run: &NewRun) -> bool {
        self.since.is_none_or(|since| run.started_at >= since)
            && self.until.is_none_or(|until| run.started_at < until)
            && (self.kinds.is_empty() || self.kinds.contains(&run.kind))
    }
}

/// A manifest of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestRef {
    /// The registry.
    pub registry: RegistryName,
    /// The repository.
    pub repository: RepositoryName,
    /// Its digest.
    pub digest: Digest,
}

/// A repository, or one tag of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagRef {
    /// The registry.
    pub registry: RegistryName,
    /// The repository.
    pub repository: RepositoryName,
    /// The tag, if one is named.
    pub tag: Option<TagName>,
}

impl App {
    /// Returns the record of the run whose id starts with `id`; `last` names the last run.
    ///
    /// # Errors
    /// Returns an error if no run or several runs match, or the state cannot be read.
    pub async fn run_record(&self, id: &str) -> Result<RunRecord, RunError> {
        if id == LAST_RUN {
            let none = || RunError::usage("there are no runs yet".to_owned());
            return self.store.runs(1).await?.pop().ok_or_else(none);
        }
        let found = match self.store.run(id).await {
            Err(error) if error.kind == StateErrorKind::Ambiguous => return Err(self.ambiguous_run(id).await?),
            found => found?,
        };
        if let Some(found) = found {
            return Ok(found);
        }
        let recent: Vec<String> = self.store.runs(100).await?.iter().map(|record| record.run.id.to_string()).collect();
        let meant = nearest_run(id, &recent).map(|meant| format!(", did you mean `{meant}`?")).unwrap_or_default();
        let failure = Failure::new((), format!("no run `{id}`{meant}"));
        Err(RunError::Usage(failure.with_help("`tagwarden runs` lists them; `last` is the last one")))
    }

    /// Returns the last runs of a part of all, the latest first, and how many more there are.
    ///
    /// # Errors
    /// Returns an error if the state cannot be read.
    pub async fn list_runs(&self, query: &RunQuery, limit: u32) -> Result<(Vec<RunView>, u64), RunError> {
        let (mut listed, mut more, mut before) = (Vec::new(), 0, None);
        loop {
            let page = self.store.runs_before(before, PAGE).await?;
            let Some(last) = page.last() else { break };
            before = Some(last.run.id);
            for record in page.into_iter().filter(|record| query.includes(&record.run)) {
                if listed.len() < limit as usize {
                    listed.push(record);
                } else {
                    more += 1;
                }
            }
        }
        Ok((run_views(&self.store, &listed).await?, more))
    }

    /// Returns the error for the beginning of an id that several runs have, with the last of these.
    async fn ambiguous_run(&self, id: &str) -> Result<RunError, RunError> {
        let id = id.trim().to_ascii_lowercase();
        let recent = self.store.runs(RECENT_RUNS).await?;
        let found = recent.iter().map(|record| (record.run.id.to_string(), record.run.kind.label()));
        let found: Vec<String> = found
            .filter(|(run, _)| run.starts_with(&id))
            .take(5)
            .map(|(run, kind)| format!("{run} ({kind})"))
            .collect();
        let named = if found.is_empty() { String::new() } else { format!(": {}", found.join(", ")) };
        let failure = Failure::new((), format!("more than one run begins with `{id}`{named}"));
        Ok(RunError::Usage(failure.with_help("write more of its id; `tagwarden runs` lists them")))
    }

    /// Returns the run whose id starts with `id`, with all of its actions, and its plan if that is still stored.
    ///
    /// # Errors
    /// Returns an error if no run or several runs match, or the state cannot be read.
    pub async fn run_report(&self, id: &str) -> Result<(RunView, Option<PlanDocument>), RunError> {
        let record = self.run_record(id).await?;
        let journal = self.store.journal(record.run.id).await?;
        // A plan of another version must not hide the actions.
        let plan = match report::load_plan(&self.store, record.run.id).await {
            Err(PlanLoadError::State(error)) => return Err(error.into()),
            Err(PlanLoadError::Unreadable { .. }) => None,
            Ok(plan) => plan,
        };
        let run_context = self.store.run_context(record.run.id).await?;
        let policies = self.store.policies_of(record.run.id).await?;
        let summary = run_summaries(&self.store, slice::from_ref(&record)).await?.pop().unwrap_or_default();
        let mut view = RunView::new(&record, summary).with_journal(&journal).with_context(run_context);
        view.kept_pruned = !self.store.plan_chunks(record.run.id).await?.iter().all(|chunk| chunk.has_kept);
        Ok((view.with_policies(&policies), plan))
    }

    /// Returns the policies that a run used, file by file, with their texts.
    ///
    /// # Errors
    /// Returns an error if no run or several runs match, or the state cannot be read.
    pub async fn run_policies(&self, id: &str) -> Result<RunPoliciesView, RunError> {
        let RunRecord { run, .. } = self.run_record(id).await?;
        let context = self.store.run_context(run.id).await?;
        let mut files: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        for RecordedPolicy { name, mode, file, revision } in self.store.policies_of(run.id).await? {
            files.entry((file, revision)).or_default().push(format!("{name} ({mode})"));
        }
        let mut views = Vec::with_capacity(files.len());
        for ((file, revision), policies) in files {
            let text = self.store.policy_text(&revision).await?;
            views.push(PolicyFileView { file, revision, policies, text });
        }
        Ok(RunPoliciesView {
            schema: "tagwarden.run-policies/1",
            run: run.id.to_string(),
            command: run.kind.label().to_owned(),
            started_at: run.started_at,
            revision: context.revision,
            commit: context.commit,
            files: views,
        })
    }

    /// Returns true if the last full plan knows that repository, or there is no such plan.
    ///
    /// # Errors
    /// Returns an error if the state cannot be read.
    pub async fn may_know_repository(&self, named: &TagRef) -> Result<bool, RunError> {
        let known = self.planned_repositories(&named.registry).await?;
        Ok(known.is_empty() || known.iter().any(|name| name == named.repository.as_str()))
    }

    /// Returns the repository or tag of the last full plan that was probably meant by a name that it does not know.
    ///
    /// # Errors
    /// Returns an error if the state cannot be read.
    pub async fn similar_name(&self, named: &TagRef) -> Result<Option<String>, RunError> {
        let TagRef { registry, repository, tag } = named;
        let known = self.planned_repositories(registry).await?;
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        if known.contains(&repository.as_str()) {
            let Some(tag) = tag else { return Ok(None) };
            let tags = self.planned_tags(registry, repository).await?;
            let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
            return Ok(nearest(tag.as_str(), &tags).map(|meant| format!("{registry}/{repository}:{meant}")));
        }
        // A misspelt registry is read as the first part of a repository where there is only one.
        let without_first = repository
            .as_str()
            .split_once('/')
            .filter(|(first, rest)| nearest(first, &[registry.as_str()]).is_some() && known.contains(rest));
        let meant = without_first.map(|(_, rest)| rest).or_else(|| nearest(repository.as_str(), &known));
        let tag = tag.as_ref().map_or_else(String::new, |tag| format!(":{tag}"));
        Ok(meant.map(|meant| format!("{registry}/{meant}{tag}")))
    }

    /// Returns the repositories of a registry in the last full plan.
    async fn planned_repositories(&self, registry: &RegistryName) -> Result<Vec<String>, RunError> {
        let Some(run) = self.store.last_whole_plan().await? else { return Ok(Vec::new()) };
        let chunks = self.store.plan_chunks(run).await?.into_iter();
        Ok(chunks.filter(|chunk| chunk.registry == registry.as_str()).map(|chunk| chunk.repository).collect())
    }

    /// Returns the tags of a repository in the last full plan; none if it cannot be read by this version.
    async fn planned_tags(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
    ) -> Result<Vec<String>, RunError> {
        let Some(run) = self.store.last_whole_plan().await? else { return Ok(Vec::new()) };
        let document = match report::load_plan(&self.store, run).await {
            Err(PlanLoadError::State(error)) => return Err(error.into()),
            Err(PlanLoadError::Unreadable { .. }) | Ok(None) => return Ok(Vec::new()),
            Ok(Some(document)) => document,
        };
        let (registry, repository) = (registry.as_str(), repository.as_str());
        let removed = document.removals.iter().filter(|one| one.registry == registry && one.repository == repository);
        let kept = document.kept.iter().filter(|one| one.registry == registry && one.repository == repository);
        Ok(removed.map(|one| one.tag.clone()).chain(kept.map(|one| one.tag.clone())).collect())
    }

    /// Returns the names of a registry, and those of the others.
    fn registry_names(&self, settings: &RegistrySettings) -> (Vec<String>, Vec<String>) {
        let others = self.settings.registries.iter().filter(|other| other.name != settings.name);
        (registry::hosts(settings), others.flat_map(registry::hosts).collect())
    }

    /// Returns the repository, or the tag, that an image reference or `REGISTRY/REPOSITORY[:TAG]` names.
    ///
    /// # Errors
    /// Returns an error if it names none of the configured registries.
    pub fn find_tag_ref(&self, text: &str) -> Result<TagRef, RunError> {
        let (named, digest) = self.find_reference(text)?;
        if named.tag.is_none() && digest.is_some() {
            return Err(RunError::usage(format!("`{text}`: it names a digest; name a tag or a repository")));
        }
        Ok(named)
    }

    /// The manifest that an image reference or `REGISTRY/REPOSITORY@DIGEST` names; `None` where it names a tag or a repository.
    ///
    /// # Errors
    /// When it names none of the configured registries.
    pub fn find_manifest_ref(&self, text: &str) -> Result<Option<ManifestRef>, RunError> {
        let (TagRef { registry, repository, tag }, digest) = self.find_reference(text)?;
        Ok(digest.filter(|_| tag.is_none()).map(|digest| ManifestRef { registry, repository, digest }))
    }

    fn find_reference(&self, text: &str) -> Result<(TagRef, Option<Digest>), RunError> {
        let usage = |why: String| RunError::usage(format!("`{text}`: {why}"));
        for settings in &self.settings.registries {
            let by_name = text.strip_prefix(settings.name.as_str()).and_then(|rest| rest.strip_prefix('/'));
            let reference =
                ImageReference::parse_verbatim(by_name.unwrap_or(text)).map_err(|error| usage(error.problem))?;
            let (own, others) = self.registry_names(settings);
            // The last of two: the part after the registry's own name.
            let path = reference.repository_paths(Hosts::new(&own, &others)).last();
            let here = by_name.is_some() && reference.host.is_none()
                || reference.host.is_some() && path.is_some()
                || reference.host.is_none() && self.settings.registries.len() == 1;
            if here {
                let repository = match path.and_then(|path| path.parse().ok()) {
                    Some(repository) if by_name.is_none() => Some(repository),
                    _ => reference.repository,
                };
                let repository = repository.ok_or_else(|| usage("it names no repository".to_owned()))?;
                let named = TagRef { registry: settings.name.clone(), repository, tag: reference.tag };
                return Ok((named, reference.digest));
            }
        }
        let hosts: Vec<String> = self.settings.registries.iter().flat_map(registry::hosts).collect();
        let names = self.settings.registries.iter().map(|settings| settings.name.as_str());
        let known: Vec<&str> = names.chain(hosts.iter().map(String::as_str)).collect();
        let first = text.split('/').next().unwrap_or_default();
        let meant = nearest(first, &known).map(|meant| format!(", did you mean `{meant}`?")).unwrap_or_default();
        let failure = Failure::new((), format!("`{text}`: no configured registry is named so{meant}"));
        Err(RunError::Usage(failure.with_help(format!("known: {}", quoted_list(&known)))))
    }

    /// Returns the registry, repository and tag that an image reference or `REGISTRY/REPOSITORY:TAG` names; `latest` if
    /// it has no tag.
    ///
    /// # Errors
    /// Returns an error if it names none of the configured registries, or a digest alone.
    pub fn find_image(&self, image: &str) -> Result<(RegistryName, RepositoryName, TagName), RunError> {
        let TagRef { registry, repository, tag } = self.find_tag_ref(image)?;
        let untold = || {
            let failure = Failure::new((), format!("`{image}` names no tag"));
            let help = format!(
                "name one, such as {registry}/{repository}:latest; `--repository {registry}/{repository}` means all"
            );
            RunError::Usage(failure.with_help(help))
        };
        let tag = tag.ok_or_else(untold)?;
        Ok((registry, repository, tag))
    }
}

/// The error of a name that is none of the known ones, with the one that was probably meant.
#[must_use]
pub fn unknown_name(what: &str, word: &str, known: &[&str]) -> RunError {
    let meant = nearest(word, known).map(|meant| format!(", did you mean `{meant}`?")).unwrap_or_default();
    let list = if known.is_empty() { "there is none".to_owned() } else { format!("known: {}", quoted_list(known)) };
    RunError::Usage(Failure::new((), format!("unknown {what} `{word}`{meant}")).with_help(list))
}

/// The run of which somebody mistyped the id, or the beginning of it.
fn nearest_run<'r>(id: &str, recent: &'r [String]) -> Option<&'r str> {
    if nearest(id, &[LAST_RUN]).is_some() {
        return Some(LAST_RUN);
    }
    let beginning = |run: &'r String| (run.get(..id.len()).unwrap_or(run), run.as_str());
    let pairs: Vec<(&str, &str)> = recent.iter().map(beginning).collect();
    let beginnings: Vec<&str> = pairs.iter().map(|(beginning, _)| *beginning).collect();
    let meant = nearest(id, &beginnings).filter(|_| id.len() >= 6)?;
    pairs.iter().find(|(beginning, _)| *beginning == meant).map(|(_, run)| *run)
}

/// Returns runs as lists show them, in the same order; see [`run_summaries`].
///
/// # Errors
/// Returns an error if a journal cannot be read.
pub async fn run_views(store: &StateStore, records: &[RunRecord]) -> Result<Vec<RunView>, StateError> {
    let summaries = run_summaries(store, records).await?;
    Ok(records.iter().zip(summaries).map(|(record, summary)| RunView::new(record, summary)).collect())
}

/// Returns the summaries of runs, in the same order. A run whose record has no counts, because it was killed, is still
/// running, or failed under an older version, is counted by its journal.
///
/// # Errors
/// Returns an error if a journal cannot be read.
pub async fn run_summaries(store: &StateStore, records: &[RunRecord]) -> Result<Vec<RunSummary>, StateError> {
    let summaries: Vec<RunSummary> = records.iter().map(RunSummary::from_record).collect();
    let uncounted = records.iter().zip(&summaries).filter(|(_, summary)| !summary.has_counts());
    let uncounted: Vec<_> = uncounted.map(|(record, _)| record.run.id).collect();
    let totals = if uncounted.is_empty() { BTreeMap::new() } else { store.journal_totals(&uncounted).await? };
    let counted = records.iter().zip(summaries).map(|(record, summary)| {
        let journal = totals.get(&record.run.id).copied().unwrap_or_default();
        summary.with_counts(record.run.kind, journal)
    });
    Ok(counted.collect())
}
