//! Obstacles to removals, asked for before the first one.

use std::collections::BTreeMap;

use futures::{StreamExt, stream};

use super::address::{Image, Repository};
use super::api::ArtifactApi;
use super::repositories::{Mode, Repositories, RepositoryConfig};
use super::wire::Right;
use crate::domain::{RemovalObstacle, RepositoryName};
use crate::registry::{RegistryError, RegistryErrorKind};

impl ArtifactApi {
    /// Returns what speaks against removals, for each of the images in which something does. Asks once for each repository.
    pub(super) async fn find_obstacles(
        &self,
        repositories: &Repositories,
        names: &[RepositoryName],
    ) -> BTreeMap<RepositoryName, RemovalObstacle> {
        let mut images: BTreeMap<Repository, Vec<(RepositoryName, Image)>> = BTreeMap::new();
        for name in names {
            if let Some(image) = self.place.image(name) {
                images.entry(image.repository.clone()).or_default().push((name.clone(), image));
            }
        }
        let asked = images.into_iter().map(|(repository, images)| async move {
            let found = self.obstacles_in(repositories, &repository, &images).await;
            found.into_iter().collect::<Vec<_>>()
        });
        let asked: Vec<_> = asked.collect();
        let found: Vec<Vec<(RepositoryName, RemovalObstacle)>> =
            stream::iter(asked).buffer_unordered(self.settings.concurrency.max(1)).collect().await;
        found.into_iter().flatten().collect()
    }

    async fn obstacles_in(
        &self,
        repositories: &Repositories,
        repository: &Repository,
        images: &[(RepositoryName, Image)],
    ) -> BTreeMap<RepositoryName, RemovalObstacle> {
        let config = match repositories.config(self, repository).await {
            Ok(Some(config)) => config,
            // Nothing is known of it, and its tags were not read either.
            Ok(None) => return BTreeMap::new(),
            Err(error) => return of_all(images, &obstacle(&error)),
        };
        let whole = match config.mode {
            Mode::Remote => Some(RemovalObstacle::Denied {
                message: format!(
                    "{repository} is a remote repository, a cache of another registry: what is removed comes back with the \
                     next pull"
                ),
            }),
            Mode::Virtual => {
                let message = format!("{repository} is a virtual repository, which has no images of its own");
                Some(RemovalObstacle::Denied { message })
            }
            Mode::Standard => self.missing_right(repository).await,
        };
        match whole {
            Some(obstacle) => of_all(images, &obstacle),
            None => self.cleanup_obstacles(&config, images),
        }
    }

    async fn missing_right(&self, repository: &Repository) -> Option<RemovalObstacle> {
        let right = Right::DeleteTag;
        match self.permissions(&repository.resource(), &[right]).await {
            Ok(granted) if granted.iter().any(|name| name == right.name()) => None,
            Ok(_) => {
                let message = format!("the identity may not remove tags from {repository}: {}", right.help());
                Some(RemovalObstacle::Denied { message })
            }
            Err(error) => Some(obstacle(&error)),
        }
    }

    fn cleanup_obstacles(
        &self,
        config: &RepositoryConfig,
        images: &[(RepositoryName, Image)],
    ) -> BTreeMap<RepositoryName, RemovalObstacle> {
        if self.settings.accepted.retention {
            return BTreeMap::new();
        }
        let found = images.iter().filter_map(|(name, image)| {
            let rule = config.cleanup.deletion_of_untagged(&image.package)?;
            let message = format!(
                "{name} may lose an image before the removal of its tag is undone: {rule}, whenever they lost their tag. Leave \
                 such images to one of the two, or write accept = [\"untagged-retention\"]"
            );
            Some((name.clone(), RemovalObstacle::Denied { message }))
        });
        found.collect()
    }
}

fn of_all(images: &[(RepositoryName, Image)], obstacle: &RemovalObstacle) -> BTreeMap<RepositoryName, RemovalObstacle> {
    images.iter().map(|(name, _)| (name.clone(), obstacle.clone())).collect()
}

fn obstacle(error: &RegistryError) -> RemovalObstacle {
    let message = error.chain();
    if error.kind == RegistryErrorKind::Denied {
        RemovalObstacle::Denied { message }
    } else {
        RemovalObstacle::CheckFailed { message }
    }
}
