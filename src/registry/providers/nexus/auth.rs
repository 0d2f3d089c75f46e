//! User tokens, which have a name and a pass code.

use secrecy::{ExposeSecret as _, SecretString};

/// Divides a token file's text, `NAME:PASSWORD`. Without a colon all of it is the password, which Nexus then refuses.
pub(super) fn user_and_password(token: &SecretString) -> (String, SecretString) {
    let (user, password) = token.expose_secret().trim().split_once(':').unwrap_or(("", token.expose_secret()));
    (user.to_owned(), password.to_owned().into())
}
