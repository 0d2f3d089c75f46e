//! What the sources say, and whether it can be believed: a source that suddenly claims much less than the last time was
//! more likely asked in the wrong way than emptied.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Decision, House, RunError};
use crate::config::Settings;
use crate::domain::{Claims, Inventory, RegistryName, SourceName, SourceState, Untagged};
use crate::registry::{self, Progress, Scope};
use crate::report;
use crate::sources::{self, Known};
use crate::store::Store;

/// Whether what the sources answer is remembered for the next time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remember {
    Yes,
    No,
}

/// Asks all sources, and looks in their texts for what is there. One that answers with less than half of what it claimed
/// when it was last believed counts as failed, until a person says that it is right.
pub(super) async fn gather(
    (settings, store): (&Settings, &Store),
    (inventory, untagged): (&Inventory, &[Untagged]),
    (now, at): (Timestamp, Timestamp),
    remember: Remember,
) -> Result<Claims, RunError> {
    let hosts: Vec<(RegistryName, Vec<String>)> =
        settings.registries.iter().map(|settings| (settings.name.clone(), registry::hosts(settings))).collect();
    let sources = settings.sources.iter().map(|settings| {
        let covered = |name: &RegistryName| settings.registries.as_ref().is_none_or(|names| names.contains(name));
        let of_these: Vec<String> =
            hosts.iter().filter(|(name, _)| covered(name)).flat_map(|(_, hosts)| hosts.clone()).collect();
        (settings.clone(), sources::source(settings, &of_these))
    });
    let known = Known { hosts: &hosts, inventory, untagged };
    let mut claims = sources::gather(sources.collect(), known, now, at).await;
    claims.holds = store.holds(at).await?.into_iter().map(Arc::new).collect();
    let before = store.last_answers().await?;
    for answer in &mut claims.sources {
        if !matches!(answer.state, SourceState::Answered { .. }) {
            continue;
        }
        let found = answer.claims().len() as u64;
        let last = before.get(&answer.name).filter(|last| found.saturating_mul(2) < last.claims);
        match (last, remember) {
            (None, Remember::Yes) => store.note_answer(&answer.name, found, now).await?,
            (Some(_), Remember::Yes) => store.note_suspect(&answer.name, found, now).await?,
            (_, Remember::No) => {}
        }
        if let Some(last) = last {
            answer.state = SourceState::Failed {
                kind: "suspicious",
                message: format!(
                    "it makes {}, after {} on {}; look whether it was asked for everything, and if so, \
                     say that this is right: `tagwarden sources accept {}`",
                    report::counted(found, "claim"),
                    last.claims,
                    last.answered_at.strftime("%Y-%m-%d %H:%M UTC"),
                    answer.name
                )
                .into(),
            };
        }
    }
    Ok(claims)
}

impl House {
    /// Asks all sources about an inventory, and the manifests that were untagged before.
    pub(super) async fn gather(
        &self,
        about: (&Inventory, &[Untagged]),
        times: (Timestamp, Timestamp),
        remember: Remember,
    ) -> Result<Claims, RunError> {
        gather((&self.settings, &self.store), about, times, remember).await
    }

    /// Asks all sources and reads the registries, to tell what each source protects right now.
    ///
    /// # Errors
    /// As [`House::decide`].
    pub async fn sources(&self, progress: &dyn Progress) -> Result<Decision, RunError> {
        self.decide(&Scope::All, None, progress).await
    }

    /// Believes the answer of a source that was not believed, and gives how many claims it made.
    ///
    /// # Errors
    /// [`RunError::Usage`] when there is no such source, or nothing to believe.
    pub async fn accept_source(&self, name: &str) -> Result<u64, RunError> {
        let known = self.settings.sources.iter().find(|source| source.name.as_str() == name);
        let Some(name) = known.map(|source| &source.name) else {
            let names: Vec<&str> = self.settings.sources.iter().map(|source| source.name.as_str()).collect();
            let known = if names.is_empty() { "there are none".to_owned() } else { names.join(", ") };
            return Err(RunError::Usage(format!("no source {name} in the settings: {known}")));
        };
        self.accept(name).await?.ok_or_else(|| {
            RunError::Usage(format!("nothing is to be accepted of source {name}: its last answer was believed"))
        })
    }

    async fn accept(&self, name: &SourceName) -> Result<Option<u64>, RunError> {
        Ok(self.store.accept_source(name, &self.by, self.now()).await?)
    }
}
