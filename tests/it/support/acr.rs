//! A registry that speaks ACR: the embedded one, and who may sign in to it.

use std::sync::Arc;

use jiff::Timestamp;
use tagwarden::apply::Clock;
use tagwarden::demo::registry::{AcrOptions, Dialect, EmbeddedRegistry, Identity, Options, Permission};

/// The Entra token of an identity that may do everything.
pub(crate) const ENTRA_TOKEN: &str = "entra-token-of-everyone's-friend";
/// The administrator.
pub(crate) const ADMIN: (&str, &str) = ("contoso", "open sesame");

/// The time that it really is.
#[expect(clippy::disallowed_methods, reason = "clients that we did not write hold what they get against their clock")]
pub(crate) fn clock() -> Clock {
    Arc::new(Timestamp::now)
}

/// A registry with an administrator and an identity, both of which may do everything.
pub(crate) fn everything_allowed() -> AcrOptions {
    let friend = Identity::new("friend", ENTRA_TOKEN, Permission::ALL);
    AcrOptions::new(clock()).admin(ADMIN.0, ADMIN.1).identity(friend)
}

/// Starts a registry that speaks ACR.
pub(crate) async fn start(options: AcrOptions) -> EmbeddedRegistry {
    EmbeddedRegistry::start(Options { dialect: Dialect::acr(options), ..Options::default() }).await.unwrap()
}
