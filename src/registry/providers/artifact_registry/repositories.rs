//! Repositories of Artifact Registry: their settings, and the images in them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use super::address::{Namespace, Repository, last_part};
use super::api::{ArtifactApi, ListOf};
use super::cleanup_policies::CleanupPolicies;
use super::wire::{Right, WireRepository};
use crate::domain::{GapTarget, RegistryInfo, RepositoryName, RetentionDays};
use crate::registry::client::auth::TokenScope;
use crate::registry::client::list_gaps;
use crate::registry::{Catalogue, RegistryError, RegistryErrorKind};

/// The mode of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Standard,
    /// A cache of another registry.
    Remote,
    /// Several others under one name.
    Virtual,
}

/// The settings of a repository, as far as they matter.
#[derive(Debug)]
pub(super) struct RepositoryConfig {
    pub(super) mode: Mode,
    pub(super) immutable_tags: bool,
    pub(super) cleanup: CleanupPolicies,
    stored_bytes: Option<u64>,
}

impl RepositoryConfig {
    /// Returns those of a repository for images; `None` for other formats.
    fn parse(wire: &WireRepository) -> Option<Self> {
        (wire.format == "DOCKER").then(|| Self {
            mode: match wire.mode.as_str() {
                "VIRTUAL_REPOSITORY" => Mode::Virtual,
                "REMOTE_REPOSITORY" => Mode::Remote,
                _ => Mode::Standard,
            },
            immutable_tags: wire.has_immutable_tags(),
            cleanup: CleanupPolicies::of(wire),
            stored_bytes: wire.stored_bytes(),
        })
    }
}

/// Everything that is known of the repositories since they were read last.
#[derive(Debug, Default, Clone)]
struct Known {
    configs: BTreeMap<Repository, Arc<RepositoryConfig>>,
    /// The namespaces that could not be read.
    errors: Vec<RegistryError>,
}

/// The repositories, as they were read last.
#[derive(Debug, Default)]
pub(super) struct Repositories(Mutex<Option<Known>>);

impl Repositories {
    fn known(&self) -> Option<Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, known: Known) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
    }

    /// Returns the settings of a repository: those that were read last, or else as they are now. `None` if it does not
    /// exist or holds no images.
    ///
    /// # Errors
    /// Returns an error if they could not be read.
    pub(super) async fn config(
        &self,
        api: &ArtifactApi,
        repository: &Repository,
    ) -> Result<Option<Arc<RepositoryConfig>>, RegistryError> {
        if let Some(known) = self.known().and_then(|known| known.configs.get(repository).cloned()) {
            return Ok(Some(known));
        }
        let Some(config) = api.fetch_config(repository).await?.map(Arc::new) else { return Ok(None) };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get_or_insert_default();
        known.configs.insert(repository.clone(), Arc::clone(&config));
        Ok(Some(config))
    }

    /// Reads the settings of all repositories, and returns the facts of the registry that follow.
    ///
    /// # Errors
    /// Returns an error if none could be read.
    pub(super) async fn read_info(&self, api: &ArtifactApi) -> Result<RegistryInfo, RegistryError> {
        let known = api.read_configs().await;
        self.set(known.clone());
        if let (true, Some(first)) = (known.configs.is_empty(), known.errors.first()) {
            return Err(first.clone());
        }
        let standard = || known.configs.iter().filter(|(_, config)| config.mode == Mode::Standard);
        // Without that, removals from such a repository are refused, so nothing becomes untagged there.
        let accepted = api.settings.accepted.retention;
        let deletes = accepted && standard().any(|(_, config)| config.cleanup.may_delete_untagged());
        let stored: Option<u64> = known.configs.values().map(|config| config.stored_bytes).sum();
        let rules = standard().flat_map(|(name, config)| config.cleanup.describe(&name.to_string()));
        Ok(RegistryInfo {
            untagged_retention: if deletes { RetentionDays::Days(0) } else { RetentionDays::Off },
            stored_bytes: stored.filter(|_| known.errors.is_empty()),
            cleanup_rules: rules.map(Arc::from).collect(),
            ..RegistryInfo::that_keeps_untagged()
        })
    }

    /// Lists the images of all repositories that were read last.
    ///
    /// # Errors
    /// Returns an error if nothing could be listed.
    pub(super) async fn catalogue(&self, api: &ArtifactApi) -> Result<ListedCatalogue, RegistryError> {
        let known = if let Some(known) = self.known() {
            known
        } else {
            let known = api.read_configs().await;
            self.set(known.clone());
            known
        };
        let mut listed = ListedCatalogue::default();
        let mut errors = known.errors;
        for (repository, _) in known.configs.iter().filter(|(_, config)| config.mode != Mode::Virtual) {
            match api.packages(repository).await {
                Ok(packages) => listed.add(repository, packages),
                Err(error) => errors.push(error),
            }
        }
        if let (true, Some(first)) = (listed.catalogue.repositories.is_empty(), errors.first()) {
            return Err(first.clone());
        }
        listed.catalogue.gaps.extend(errors.into_iter().map(|error| error.into_gap(GapTarget::Catalogue)));
        Ok(listed)
    }
}

/// A catalogue with the packages that it consists of, by repository.
#[derive(Debug, Default)]
pub(super) struct ListedCatalogue {
    pub(super) catalogue: Catalogue,
    pub(super) packages: BTreeMap<Repository, BTreeSet<String>>,
}

impl ListedCatalogue {
    fn add(&mut self, repository: &Repository, rows: Vec<Value>) {
        for row in rows {
            let name = row["name"].as_str().unwrap_or_default();
            let package = last_part(name, "packages").unwrap_or_else(|| name.to_owned());
            if let Some(image) = repository.image_name(&package) {
                self.catalogue.repositories.push(image);
                self.packages.entry(repository.clone()).or_default().insert(package);
            } else {
                let shown = format!("{repository}/{package}");
                let why = "not the name of an image";
                self.catalogue.gaps.push(list_gaps::invalid_repository(&shown, &why));
            }
        }
    }
}

impl ArtifactApi {
    /// Reads the settings of the repositories that the settings name.
    async fn read_configs(&self) -> Known {
        let mut known = Known::default();
        for namespace in self.namespaces() {
            let read = match &namespace {
                Namespace::Project(project) => self.list_configs(project).await,
                Namespace::Repository(repository) => self.fetch_config(repository).await.and_then(|config| {
                    let config = config.ok_or_else(|| unknown_repository(repository))?;
                    if config.mode == Mode::Virtual {
                        return Err(virtual_repository(repository));
                    }
                    Ok(vec![(repository.clone(), config)])
                }),
            };
            match read {
                Ok(configs) => {
                    known.configs.extend(configs.into_iter().map(|(name, config)| (name, Arc::new(config))));
                }
                Err(error) => known.errors.push(error.within(format!("{namespace} could not be read"))),
            }
        }
        known
    }

    /// Returns the namespaces, or the repositories of the images that the settings name instead.
    fn namespaces(&self) -> Vec<Namespace> {
        let mut found: Vec<Namespace> =
            self.settings.namespaces.iter().filter_map(|text| self.place.namespace(text)).collect();
        for image in self.settings.repositories.iter().filter_map(|name| self.place.image(name)) {
            let namespace = Namespace::Repository(image.repository);
            if !found.contains(&namespace) {
                found.push(namespace);
            }
        }
        found
    }

    async fn list_configs(&self, project: &str) -> Result<Vec<(Repository, RepositoryConfig)>, RegistryError> {
        let parent = self.place.parent(project);
        let list = ListOf { parent: &parent, rows: "repositories", query: &[], right: Right::ListRepositories };
        let Some(rows) = self.list(&TokenScope::Catalogue, list).await? else {
            let message = format!("Google knows no project {project} with repositories in {}", self.place.location);
            return Err(RegistryError::new(RegistryErrorKind::NotFound, message).with_help("check `namespaces`"));
        };
        let mut configs = Vec::new();
        for row in rows {
            let wire: WireRepository = serde_json::from_value(row).map_err(|why| {
                let message = format!("project {project} lists a repository that cannot be understood");
                RegistryError::new(RegistryErrorKind::Malformed, message).caused_by(crate::domain::Cause::foreign(why))
            })?;
            let name = last_part(&wire.name, "repositories");
            let repository = name.map(|name| self.place.repository(project.to_owned(), &name));
            configs.extend(repository.zip(RepositoryConfig::parse(&wire)));
        }
        Ok(configs)
    }

    async fn fetch_config(&self, repository: &Repository) -> Result<Option<RepositoryConfig>, RegistryError> {
        let scope = TokenScope::Catalogue;
        let found: Option<WireRepository> =
            self.get(&scope, (&repository.resource(), &[]), Right::GetRepository).await?;
        Ok(found.as_ref().and_then(RepositoryConfig::parse))
    }

    async fn packages(&self, repository: &Repository) -> Result<Vec<Value>, RegistryError> {
        let parent = repository.resource();
        let list = ListOf { parent: &parent, rows: "packages", query: &[], right: Right::ListPackages };
        self.list(&TokenScope::Catalogue, list).await?.ok_or_else(|| unknown_repository(repository))
    }
}

/// Returns the names of images that the settings give instead of namespaces.
pub(super) fn named_catalogue(names: &[RepositoryName]) -> Option<Catalogue> {
    (!names.is_empty()).then(|| Catalogue { repositories: names.to_vec(), gaps: Vec::new() })
}

fn unknown_repository(repository: &Repository) -> RegistryError {
    let message = format!("Artifact Registry knows no repository {repository} for images at this location");
    RegistryError::new(RegistryErrorKind::NotFound, message).with_help("check `endpoint` and `namespaces`")
}

fn virtual_repository(repository: &Repository) -> RegistryError {
    let message = format!("{repository} is a virtual repository, which shows images of others and has none of its own");
    RegistryError::new(RegistryErrorKind::Unsupported, message).with_help("name the repositories behind it")
}
