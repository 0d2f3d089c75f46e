//! The registries, with their capabilities and rights; and the probe, the one request that is not a read.

use futures::future;

use super::{App, RunError, RunOutcome, unknown_name};
use crate::domain::{Registry, RegistryName, RemovalMethod, RepositoryName};
use crate::registry::{ProbeResponse, RegistryError, RegistryReader, RegistrySettings};
use crate::report::{self, ProbeView, RegistryStateView, RightsView};
use crate::state::DeletionResponse;

/// Most repositories whose rights are checked; a registry with permissions by repository needs one token for every ten.
const MAX_RIGHTS_CHECKS: usize = 100;

impl App {
    /// Returns the state, the capabilities and the rights of each registry. Read-only.
    ///
    /// # Errors
    /// Returns an error if the state cannot be read. The error of an unreachable registry is in its own view.
    pub async fn registry_states(&self) -> Result<Vec<RegistryStateView>, RunError> {
        let views = self.readers.values().map(|reader| self.registry_state(&**reader));
        future::join_all(views).await.into_iter().collect()
    }

    async fn registry_state(&self, reader: &dyn RegistryReader) -> Result<RegistryStateView, RunError> {
        let settings = reader.settings();
        let catalogue = reader.catalogue().await;
        let names = catalogue.as_ref().map_or(&[][..], |catalogue| catalogue.repositories.as_slice());
        let asked = names.get(..MAX_RIGHTS_CHECKS).unwrap_or(names);
        let mut found = registry_from_settings(settings);
        let capabilities = self.determine_ability(&mut found, reader, asked).await?;
        let told = capabilities.rights.is_certain() && !asked.is_empty();
        let notes = report::missing_rights(&found);
        let rights = RightsView {
            state: match (told, notes.is_empty()) {
                (false, _) => "not-known",
                (true, true) => "allowed",
                (true, false) => "missing",
            }
            .to_owned(),
            checked: if told { asked.len() as u64 } else { 0 },
            missing: notes,
        };
        Ok(RegistryStateView {
            name: settings.name.to_string(),
            kind: settings.provider.name().to_owned(),
            endpoint: found.endpoint.clone(),
            identity: reader.identity(),
            removal: settings.removal.label().to_owned(),
            can_untag: settings.can_untag.label().to_owned(),
            ability: report::ability(&found),
            push_times: capabilities.push_times.is_certain(),
            lists_untagged: capabilities.lists_untagged.is_certain(),
            locks: capabilities.locks.is_certain(),
            capabilities: report::capabilities(&capabilities),
            rights,
            repositories: catalogue.as_ref().ok().map(|catalogue| catalogue.repositories.len() as u64),
            error: catalogue.as_ref().err().map(RegistryError::chain),
        })
    }

    /// Asks a registry to delete a tag (or, by its `removal`, a manifest) that cannot exist, and records its answer.
    ///
    /// # Errors
    /// Returns [`RunError::Usage`] if there is no such registry or no repository to probe, and other errors if the
    /// state cannot be written.
    pub async fn probe(&self, name: &str, repository: Option<RepositoryName>) -> Result<ProbeResult, RunError> {
        let reader = self.find_reader(name)?;
        let settings = reader.settings().clone();
        let repository = match repository {
            Some(repository) => repository,
            None => match reader.catalogue().await {
                Ok(catalogue) => catalogue.repositories.into_iter().min().ok_or_else(no_repository_error)?,
                Err(error) => return Ok(unread_probe(&settings, &error)),
            },
        };
        let answer = match self.probe_removal(&settings.name, &repository, settings.removal).await {
            Some(answer) => {
                self.record_deletion_answer(&settings, settings.removal, &answer).await?;
                answer
            }
            // Rights do not answer a deletion, so there is nothing to record.
            None => rights_in(&**reader, &repository).await,
        };
        if answer == ProbeResponse::Unsupported && settings.removal == RemovalMethod::Untag {
            // The remedy depends on whether it refuses every deletion, or only those by tag.
            let by_digest = self.probe_removal(&settings.name, &repository, RemovalMethod::DeleteManifest).await;
            if let Some(answer) = by_digest {
                self.record_deletion_answer(&settings, RemovalMethod::DeleteManifest, &answer).await?;
            }
        }
        let mut found = registry_from_settings(&settings);
        self.determine_ability(&mut found, &**reader, std::slice::from_ref(&repository)).await?;
        let (label, outcome, message) = match answer {
            ProbeResponse::Accepted => ("accepted", RunOutcome::Done, None),
            ProbeResponse::Unsupported => ("unsupported", RunOutcome::Refused, None),
            ProbeResponse::Denied { message } => ("denied", RunOutcome::Refused, Some(message)),
            ProbeResponse::Unclear { message } => ("not-known", RunOutcome::EvidenceMissing, Some(message)),
        };
        let view = ProbeView {
            registry: settings.name.to_string(),
            endpoint: found.endpoint.clone(),
            repository: Some(repository.to_string()),
            removal: settings.removal.label().to_owned(),
            result: label.to_owned(),
            message,
            ability: report::ability(&found),
        };
        Ok(ProbeResult { view, outcome })
    }

    /// Asks a registry to delete something that cannot exist; `None` if its kind answers the question.
    async fn probe_removal(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        method: RemovalMethod,
    ) -> Option<ProbeResponse> {
        self.connections.get(registry)?.probe(repository, method).await
    }

    /// Forgets the findings about a registry's removals, because a person says that it is another one now. Returns true
    /// if there were any.
    ///
    /// # Errors
    /// Returns [`RunError::Usage`] if there is no such registry, and other errors if the state cannot be written.
    pub async fn forget_registry(&self, name: &str) -> Result<bool, RunError> {
        let settings = self.find_reader(name)?.settings();
        Ok(self.store.forget_experience(&settings.name, settings.endpoint.as_str()).await?)
    }

    fn find_reader(&self, name: &str) -> Result<&std::sync::Arc<dyn RegistryReader>, RunError> {
        let found = self.readers.iter().find(|(known, _)| known.as_str() == name).map(|(_, reader)| reader);
        found.ok_or_else(|| {
            let names: Vec<&str> = self.readers.keys().map(RegistryName::as_str).collect();
            unknown_name("registry", name, &names)
        })
    }

    async fn record_deletion_answer(
        &self,
        settings: &RegistrySettings,
        method: RemovalMethod,
        answer: &ProbeResponse,
    ) -> Result<(), RunError> {
        let answer = match answer {
            ProbeResponse::Accepted => DeletionResponse::Accepted,
            ProbeResponse::Unsupported => DeletionResponse::Unsupported,
            ProbeResponse::Denied { .. } | ProbeResponse::Unclear { .. } => return Ok(()),
        };
        self.store.record_deletion_response(settings.endpoint.as_str(), method, answer, self.now()).await?;
        Ok(())
    }
}

/// An answered probe.
#[derive(Debug)]
pub struct ProbeResult {
    /// The question, its answer, and the current knowledge.
    pub view: ProbeView,
    /// [`RunOutcome::Done`] if it deletes, [`RunOutcome::Refused`] if it does not or the identity may not, and
    /// [`RunOutcome::EvidenceMissing`] if the answer is inconclusive.
    pub outcome: RunOutcome,
}

fn no_repository_error() -> RunError {
    RunError::usage("the registry lists no repository to ask in; name one with `--repository`".to_owned())
}

/// Returns a probe that could not find a repository.
fn unread_probe(settings: &RegistrySettings, error: &RegistryError) -> ProbeResult {
    let view = ProbeView {
        registry: settings.name.to_string(),
        endpoint: settings.endpoint.as_str().trim_end_matches('/').to_owned(),
        repository: None,
        removal: settings.removal.label().to_owned(),
        result: "not-known".to_owned(),
        message: Some(error.chain()),
        ability: None,
    };
    ProbeResult { view, outcome: RunOutcome::EvidenceMissing }
}

/// Returns a registry by its settings alone.
fn registry_from_settings(settings: &RegistrySettings) -> Registry {
    Registry {
        endpoint: settings.endpoint.as_str().trim_end_matches('/').to_owned(),
        removal: settings.removal,
        ..Registry::empty(settings.name.clone(), settings.provider.name())
    }
}

/// Returns the answer of a registry whose tokens state their rights: no deletion needs to be tried there.
async fn rights_in(reader: &dyn RegistryReader, repository: &RepositoryName) -> ProbeResponse {
    let missing = reader.missing_rights(std::slice::from_ref(repository)).await;
    missing
        .values()
        .next()
        .map_or(ProbeResponse::Accepted, |why| ProbeResponse::Denied { message: report::describe_obstacle(why) })
}
