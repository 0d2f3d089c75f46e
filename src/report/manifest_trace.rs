//! A manifest that no tag references, explained: since when it is free, or what keeps it, and what becomes of it.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Serialize;

use super::RetainReasonView;
use super::humanize::sanitize;
use super::notation::{format_minute, short_digest};
use crate::domain::{Digest, RegistryName, Repository, RepositoryName};
use crate::engine::{Grace, ManifestTrace};

/// A manifest, explained.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ManifestTraceView {
    /// Always `tagwarden.manifest/1`.
    pub schema: &'static str,
    /// The registry.
    pub registry: String,
    /// The repository.
    pub repository: String,
    /// Its digest.
    pub digest: String,
    /// `missing`: it is not there; `tagged`: tags name it, and it is judged by them; `not-judged`: no policy has it deleted;
    /// `kept`: something keeps it; `waiting`: it is free, and its time is not over; `due`: an enforcing run deletes it.
    pub state: &'static str,
    /// The tags that name it.
    pub tags: Vec<String>,
    /// The first of an unbroken series of runs that found it free, as far as the state knows.
    pub free_since: Option<Timestamp>,
    /// The time at which the registry says that it changed last, where it does.
    pub changed_at: Option<Timestamp>,
    /// The time until which it stays even if it is free from now on; nothing where no policy has it deleted.
    pub stays_until: Option<Timestamp>,
    /// The policies that have a say.
    pub policies: Vec<String>,
    /// Why it stays; empty where it is free.
    pub retain_reasons: Vec<RetainReasonView>,
}

impl ManifestTraceView {
    /// The view of a manifest of a repository, given what was found of it where it is judged.
    #[must_use]
    pub fn new(
        (registry, name): (&RegistryName, &RepositoryName),
        repository: Option<&Repository>,
        digest: &Digest,
        trace: Option<&ManifestTrace>,
    ) -> Self {
        let history = repository.and_then(|repository| repository.untagged_history.as_deref());
        let tags = repository.into_iter().flat_map(|repository| &repository.tags);
        let tags: Vec<String> =
            tags.filter(|tag| tag.digest.as_ref() == Some(digest)).map(|tag| tag.name.to_string()).collect();
        let is_there = repository.is_some_and(|repository| {
            repository.manifests.contains_key(digest) || repository.listed_manifest(digest).is_some()
        });
        let stays_until = trace.and_then(|trace| match trace.grace {
            Grace::NotRequested => None,
            Grace::Until(at) | Grace::Over(at) => Some(at),
        });
        let state = match trace {
            _ if !tags.is_empty() => "tagged",
            None if !is_there => "missing",
            None => "not-judged",
            Some(trace) if trace.grace == Grace::NotRequested => "not-judged",
            Some(trace) if !trace.retain_reasons.is_empty() => "kept",
            Some(ManifestTrace { grace: Grace::Over(_), .. }) => "due",
            Some(_) => "waiting",
        };
        Self {
            schema: "tagwarden.manifest/1",
            registry: registry.to_string(),
            repository: name.to_string(),
            digest: digest.to_string(),
            state,
            tags,
            free_since: history.and_then(|history| history.free_since.get(digest).copied()),
            changed_at: history.and_then(|history| history.changed_at.get(digest).copied()),
            stays_until,
            policies: trace.map(|trace| trace.policies.iter().map(ToString::to_string).collect()).unwrap_or_default(),
            retain_reasons: trace
                .map(|trace| trace.retain_reasons.iter().map(RetainReasonView::from).collect())
                .unwrap_or_default(),
        }
    }

    /// Returns true if the registry does not list it.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.state == "missing"
    }

    /// The same for the terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { registry, repository, digest, policies, .. } = self;
        let name = format!("{registry}/{repository}@{}", short_digest(digest));
        let policies = sanitize(&policies.join(", "));
        let until = self.stays_until.map(format_minute).unwrap_or_default();
        let mut out = String::new();
        // Writing into a string cannot fail.
        let _ = match self.state {
            "tagged" => writeln!(out, "{name} is judged by its tags: {}", sanitize(&self.tags.join(", "))),
            "missing" => writeln!(out, "{name} is not in the registry right now"),
            "kept" => writeln!(out, "{name} has no tag, and stays"),
            "waiting" => writeln!(out, "{name} has no tag and is free: it stays until {until} ({policies})"),
            "due" => writeln!(out, "{name} has no tag and is free: it may be deleted since {until} ({policies})"),
            _ => writeln!(out, "{name} has no tag, and no policy has it deleted"),
        };
        for reason in &self.retain_reasons {
            let _ = writeln!(out, "  {}", sanitize(&reason.message));
        }
        if let Some(since) = self.free_since {
            let _ = writeln!(out, "  every run since {} found it free", format_minute(since));
        }
        if let Some(changed) = self.changed_at {
            let _ = writeln!(out, "  it changed last on {}", format_minute(changed));
        }
        out
    }
}
