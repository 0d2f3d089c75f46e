//! The ids by which GitHub names versions: a deletion needs that of a digest.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::wire::WireVersion;
use crate::domain::{Digest, RepositoryName};

/// Most repositories whose ids are remembered. What was forgotten is listed again.
const MAX_REPOSITORIES: usize = 64;

/// Deleted versions by their digests.
pub(super) type DeletedVersions = BTreeMap<Digest, WireVersion>;
/// The deleted versions of each repository, as they were listed.
pub(super) type DeletedBook = BTreeMap<RepositoryName, DeletedVersions>;

/// The ids of the versions of the repositories that were listed last.
#[derive(Debug, Default)]
pub(super) struct VersionBook(Mutex<Pages>);

#[derive(Debug, Default)]
struct Pages {
    ids: BTreeMap<RepositoryName, BTreeMap<Digest, u64>>,
    /// The oldest first.
    order: VecDeque<RepositoryName>,
    /// The numbers of versions, as GitHub counted them last.
    counts: BTreeMap<RepositoryName, u64>,
}

impl VersionBook {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces everything that is known of a repository.
    pub(super) fn replace(&self, repository: &RepositoryName, ids: BTreeMap<Digest, u64>) {
        let mut pages = self.pages();
        pages.order.retain(|known| known != repository);
        pages.order.push_back(repository.clone());
        pages.ids.insert(repository.clone(), ids);
        while pages.order.len() > MAX_REPOSITORIES
            && let Some(oldest) = pages.order.pop_front()
        {
            pages.ids.remove(&oldest);
        }
    }

    /// Returns the id of a version.
    pub(super) fn id(&self, repository: &RepositoryName, digest: &Digest) -> Option<u64> {
        self.pages().ids.get(repository)?.get(digest).copied()
    }

    /// Forgets the id of a version, which may be gone.
    pub(super) fn forget(&self, repository: &RepositoryName, digest: &Digest) {
        if let Some(ids) = self.pages().ids.get_mut(repository) {
            ids.remove(digest);
        }
    }

    /// Returns true if the versions of a repository are remembered: then one without an id was not listed, or is gone.
    pub(super) fn knows(&self, repository: &RepositoryName) -> bool {
        self.pages().ids.contains_key(repository)
    }

    /// Notes the number of versions that GitHub counts in a repository.
    pub(super) fn note_count(&self, repository: &RepositoryName, count: Option<u64>) {
        let mut pages = self.pages();
        match count {
            Some(count) => pages.counts.insert(repository.clone(), count),
            None => pages.counts.remove(repository),
        };
    }

    /// Returns the number of versions that GitHub counted last.
    pub(super) fn count(&self, repository: &RepositoryName) -> Option<u64> {
        self.pages().counts.get(repository).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_repositories_are_forgotten() {
        let book = VersionBook::default();
        let name = |number: usize| format!("contoso/r{number}").parse::<RepositoryName>().unwrap();
        let digest = Digest::of(b"one");
        for number in 0..=MAX_REPOSITORIES {
            book.replace(&name(number), [(digest.clone(), 7)].into());
        }
        assert_eq!(book.id(&name(0), &digest), None);
        assert_eq!(book.id(&name(1), &digest), Some(7));
        book.replace(&name(1), BTreeMap::new());
        assert_eq!(book.id(&name(1), &digest), None);
        assert_eq!(book.id(&name(2), &digest), Some(7));
        book.forget(&name(2), &digest);
        assert_eq!(book.id(&name(2), &digest), None);
    }
}
