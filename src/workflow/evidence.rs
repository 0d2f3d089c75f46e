//! The sources' claims, and their plausibility: a source that suddenly claims much less than before was more likely
//! misread than emptied.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::{App, RunError};
use crate::config::Settings;
use crate::domain::{Claims, Hold, RegistryName, RuleHistory, SourceName, SourceState};
use crate::registry;
use crate::report;
use crate::sources;
use crate::state::{SourceBaseline, StateError, StateStore};

/// Recording of the sources' answers for later comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recording {
    Enabled,
    Disabled,
}

/// The records of the state by which evidence and rules are judged.
#[derive(Debug, Default)]
pub(super) struct EarlyRecords {
    holds: Vec<Hold>,
    baselines: BTreeMap<SourceName, SourceBaseline>,
    pub(super) rules: RuleHistory,
}

/// What a gathering leaves for the next one to compare with.
#[derive(Debug, Default)]
struct Baselines {
    trusted: Vec<(SourceName, u64)>,
    suspect: Vec<(SourceName, u64)>,
}

/// Queries all sources. A source with less than half of its last trusted claims counts as failed until a person accepts
/// the answer.
pub(super) async fn gather(
    (settings, store): (&Settings, &StateStore),
    (now, at): (Timestamp, Timestamp),
    remember: Recording,
) -> Result<Claims, RunError> {
    let mut claims = query(settings, (now, at)).await;
    let holds = store.holds(at).await?;
    let found = judge(&mut claims, holds, &store.source_baselines().await?);
    if remember == Recording::Enabled {
        found.record(store, now).await?;
    }
    Ok(claims)
}

/// Queries all sources, and believes them.
async fn query(settings: &Settings, (now, at): (Timestamp, Timestamp)) -> Claims {
    let hosts: Vec<(RegistryName, Vec<String>)> =
        settings.registries.iter().map(|settings| (settings.name.clone(), registry::hosts(settings))).collect();
    let sources = settings.sources.iter().map(|settings| {
        let covered = |name: &RegistryName| settings.registries.as_ref().is_none_or(|names| names.contains(name));
        let of_these: Vec<String> =
            hosts.iter().filter(|(name, _)| covered(name)).flat_map(|(_, hosts)| hosts.clone()).collect();
        (settings.clone(), sources::source(settings, &of_these))
    });
    sources::gather(sources.collect(), &hosts, now, at).await
}

/// Adds the holds, and doubts sources by what they claimed before.
fn judge(claims: &mut Claims, holds: Vec<Hold>, before: &BTreeMap<SourceName, SourceBaseline>) -> Baselines {
    claims.holds = holds.into_iter().map(Arc::new).collect();
    let mut baselines = Baselines::default();
    for answer in &mut claims.sources {
        if !matches!(answer.state, SourceState::Complete { .. }) {
            continue;
        }
        // A source with texts may still prove non-empty once the tags are known.
        let may_be_empty = claims.texts.get(&answer.name).is_some_and(|texts| texts.unless_mentioned.is_some());
        let found = answer.claims().len() as u64;
        let last = before.get(&answer.name).filter(|last| found.saturating_mul(2) < last.claims);
        match last {
            None if may_be_empty => {}
            None => baselines.trusted.push((answer.name.clone(), found)),
            Some(_) => baselines.suspect.push((answer.name.clone(), found)),
        }
        if let Some(last) = last {
            answer.state = SourceState::Failed {
                kind: "suspicious",
                message: format!(
                    "it makes {}, after {} on {}; look whether it was asked for everything, and if so, \
                     say that this is right: `tagwarden sources accept {}`",
                    report::counted(found, "claim"),
                    last.claims,
                    last.queried_at.strftime("%Y-%m-%d %H:%M UTC"),
                    answer.name
                )
                .into(),
            };
        }
    }
    baselines
}

impl Baselines {
    async fn record(self, store: &StateStore, now: Timestamp) -> Result<(), StateError> {
        for (name, found) in self.trusted {
            store.record_source_baseline(&name, found, now).await?;
        }
        for (name, found) in self.suspect {
            store.record_suspect_claims(&name, found, now).await?;
        }
        Ok(())
    }
}

impl App {
    /// Queries all sources. A dry run that lost the state judges them by the `early` records.
    pub(super) async fn gather(
        &self,
        (now, at): (Timestamp, Timestamp),
        remember: Recording,
        early: Option<&EarlyRecords>,
    ) -> Result<Claims, RunError> {
        let Some(early) = early else { return gather((&self.settings, &self.store), (now, at), remember).await };
        let mut claims = query(&self.settings, (now, at)).await;
        let holds = self.unless_lost(self.store.holds(at)).await?.unwrap_or_else(|| early.holds.clone());
        let before = self.unless_lost(self.store.source_baselines()).await?;
        let found = judge(&mut claims, holds, before.as_ref().unwrap_or(&early.baselines));
        if remember == Recording::Enabled {
            self.unless_lost(found.record(&self.store, now)).await?;
        }
        Ok(claims)
    }

    /// Reads the records that a dry run goes on with if it loses the state; `None` if it must not lose it.
    pub(super) async fn early_records(&self, at: Timestamp) -> Result<Option<EarlyRecords>, RunError> {
        if !self.may_lose_state() {
            return Ok(None);
        }
        let (holds, baselines) = (self.store.holds(at).await?, self.store.source_baselines().await?);
        Ok(Some(EarlyRecords { holds, baselines, rules: self.store.rule_history().await? }))
    }
}
