//! The lease of a state, for tests that journal by themselves, and the writers that it gets.

use std::sync::{Arc, LazyLock};
use std::thread;

use jiff::Timestamp;
use tagwarden::registry::{Provider, RegistrySettings, RegistryWriter, RetryPolicy};
use tagwarden::state::{LeaseScope, LeaseToken, StateStore};

/// Takes the lease of a state. It is given back when the token is dropped.
pub(crate) async fn lease(store: &StateStore) -> LeaseToken {
    let lease = store.take_lease(LeaseScope::Run, "a test").await.unwrap();
    store.begin_epoch(&lease, Timestamp::UNIX_EPOCH).await.unwrap()
}

/// The lease of some state, for tests that write to a registry.
pub(crate) fn any_lease() -> &'static LeaseToken {
    // In a thread of its own, because a test that is asynchronous itself cannot wait for a future here.
    static TOKEN: LazyLock<LeaseToken> = LazyLock::new(|| {
        let taken = thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let folder = tempfile::tempdir().unwrap();
                let store = StateStore::open(&folder.path().join("tagwarden.db")).await.unwrap();
                let token = lease(&store).await;
                store.close().await;
                token
            })
        });
        taken.join().unwrap()
    });
    &TOKEN
}

/// The writer of a registry, by its connection.
pub(crate) fn writer_of(
    provider: &dyn Provider,
    settings: RegistrySettings,
    retry_policy: RetryPolicy,
) -> Arc<dyn RegistryWriter> {
    provider.connect(settings, retry_policy).unwrap().writer(any_lease()).unwrap()
}
