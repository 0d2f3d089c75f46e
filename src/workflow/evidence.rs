//! What the sources say, and whether it can be believed: a source that suddenly claims much less than the last time was
//! more likely asked in the wrong way than emptied.

use std::sync::Arc;

use jiff::Timestamp;

use super::{App, Decision, RunError};
use crate::config::Settings;
use crate::domain::{Claims, Inventory, RegistryName, SourceName, SourceState, UntaggedManifest};
use crate::registry::{self, CollectScope, Progress};
use crate::report::{self, SourceDetailView};
use crate::sources::{self, GatherContext};
use crate::state::StateStore;

/// Whether what the sources answer is remembered for the next time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recording {
    Enabled,
    Disabled,
}

/// Asks all sources, and looks in their texts for what is there. One that answers with less than half of what it claimed
/// when it was last believed counts as failed, until a person says that it is right.
pub(super) async fn gather(
    (settings, store): (&Settings, &StateStore),
    (inventory, untagged): (&Inventory, &[UntaggedManifest]),
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
    let known = GatherContext { hosts: &hosts, inventory, untagged };
    let mut claims = sources::gather(sources.collect(), known, now, at).await;
    claims.holds = store.holds(at).await?.into_iter().map(Arc::new).collect();
    let before = store.source_baselines().await?;
    for answer in &mut claims.sources {
        if !matches!(answer.state, SourceState::Complete { .. }) {
            continue;
        }
        let found = answer.claims().len() as u64;
        let last = before.get(&answer.name).filter(|last| found.saturating_mul(2) < last.claims);
        match (last, remember) {
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
    /// Asks all sources about an inventory, and the manifests that were untagged before.
    pub(super) async fn gather(
        &self,
        about: (&Inventory, &[UntaggedManifest]),
        times: (Timestamp, Timestamp),
        remember: Recording,
    ) -> Result<Claims, RunError> {
        gather((&self.settings, &self.store), about, times, remember).await
    }

    /// Asks all sources and reads the registries, to tell what each source protects right now.
    ///
    /// # Errors
    /// As [`App::decide`].
    pub async fn decide_sources(&self, progress: &dyn Progress) -> Result<Decision, RunError> {
        self.decide(&CollectScope::All, None, progress).await
    }

    /// The same, to tell everything that one source says, and the tags that it protects.
    ///
    /// # Errors
    /// [`RunError::Usage`] when there is no such source; otherwise as [`App::decide`].
    pub async fn source_detail(&self, name: &str, progress: &dyn Progress) -> Result<SourceDetailView, RunError> {
        let name = self.find_source(name)?;
        let Decision { inventory, claims, verdicts, document, .. } = self.decide_sources(progress).await?;
        let found = report::source_detail((&*inventory, &claims, &*verdicts), name, document.created_at);
        found.ok_or_else(|| RunError::Failed(format!("source {name} was not asked")))
    }

    /// Believes the answer of a source that was not believed, and gives how many claims it made.
    ///
    /// # Errors
    /// [`RunError::Usage`] when there is no such source, or nothing to believe.
    pub async fn accept_source(&self, name: &str) -> Result<u64, RunError> {
        let name = self.find_source(name)?;
        self.accept(name).await?.ok_or_else(|| {
            RunError::Usage(format!("nothing is to be accepted of source {name}: its last answer was believed"))
        })
    }

    /// The source of that name.
    fn find_source(&self, name: &str) -> Result<&SourceName, RunError> {
        let sources = &self.settings.sources;
        let known = sources.iter().map(|source| &source.name).find(|known| known.as_str() == name);
        known.ok_or_else(|| {
            let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
            let known = if names.is_empty() { "there are none".to_owned() } else { names.join(", ") };
            RunError::Usage(format!("no source {name} in the settings: {known}"))
        })
    }

    async fn accept(&self, name: &SourceName) -> Result<Option<u64>, RunError> {
        Ok(self.store.accept_source(name, &self.by, self.now()).await?)
    }
}
