//! The sources' claims, and their plausibility: a source that suddenly claims much less than before was more likely
//! misread than emptied.

use std::sync::Arc;

use jiff::Timestamp;

use super::{App, RunError};
use crate::config::Settings;
use crate::domain::{Claims, RegistryName, SourceState};
use crate::registry;
use crate::report;
use crate::sources;
use crate::state::StateStore;

/// Recording of the sources' answers for later comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recording {
    Enabled,
    Disabled,
}

/// Queries all sources. A source with less than half of its last trusted claims counts as failed until a person accepts
/// the answer.
pub(super) async fn gather(
    (settings, store): (&Settings, &StateStore),
    (now, at): (Timestamp, Timestamp),
    remember: Recording,
) -> Result<Claims, RunError> {
    let hosts: Vec<(RegistryName, Vec<String>)> =
        settings.registries.iter().map(|settings| (settings.name.clone(), registry::hosts(settings))).collect();
    let sources = settings.sources.iter().map(|settings| {
        let covered = |name: &RegistryName| settings.registries.as_ref().is_none_or(|names| names.contains(name));
        let of_these: Vec<String> =
            hosts.iter().filter(|(name, _)| covered(name)).flat_map(|(_, hosts)| hosts.clone()).collect();
        (settings.clone(), sources::source(settings, &of_these))
    });
    let mut claims = sources::gather(sources.collect(), &hosts, now, at).await;
    claims.holds = store.holds(at).await?.into_iter().map(Arc::new).collect();
    let before = store.source_baselines().await?;
    for answer in &mut claims.sources {
        if !matches!(answer.state, SourceState::Complete { .. }) {
            continue;
        }
        // A source with texts may still prove non-empty once the tags are known.
        let may_be_empty = claims.texts.get(&answer.name).is_some_and(|texts| texts.unless_mentioned.is_some());
        let found = answer.claims().len() as u64;
        let last = before.get(&answer.name).filter(|last| found.saturating_mul(2) < last.claims);
        match (last, remember) {
            (None, Recording::Enabled) if may_be_empty => {}
            (None, Recording::Enabled) => store.record_source_baseline(&answer.name, found, now).await?,
            (Some(_), Recording::Enabled) => store.record_suspect_claims(&answer.name, found, now).await?,
            (_, Recording::Disabled) => {}
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
    Ok(claims)
}

impl App {
    /// Queries all sources.
    pub(super) async fn gather(&self, times: (Timestamp, Timestamp), remember: Recording) -> Result<Claims, RunError> {
        gather((&self.settings, &self.store), times, remember).await
    }
}
