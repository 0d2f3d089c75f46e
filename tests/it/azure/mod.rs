//! Azure around the registries: who signs in how, and what the resource manager says, against imitations of both.

mod resource_manager;
mod settings;
mod sign_in;

use std::time::Duration;

use tagwarden::registry::Patience;

const PATIENCE: Patience = Patience {
    retries: 3,
    first: Duration::from_millis(1),
    longest: Duration::from_millis(2),
    total: Duration::from_secs(10),
};
