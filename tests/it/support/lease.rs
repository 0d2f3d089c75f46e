//! The lease of a state, for tests that journal by themselves.

use jiff::Timestamp;
use tagwarden::state::{Lease, LeaseToken, StateStore};

/// Takes the lease of a state. It is given back when the token is dropped.
pub(crate) async fn lease(store: &StateStore) -> LeaseToken {
    let lease = Lease::take(store.path(), "a test").unwrap();
    store.begin_epoch(&lease, Timestamp::UNIX_EPOCH).await.unwrap()
}
