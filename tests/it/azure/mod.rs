//! Azure around the registries: who signs in how, and what the resource manager says, against imitations of both.

mod resource_manager;
mod settings;
mod sign_in;

use std::time::Duration;

use tagwarden::registry::RetryPolicy;

const PATIENCE: RetryPolicy = RetryPolicy {
    max_retries: 3,
    initial_delay: Duration::from_millis(1),
    max_delay: Duration::from_millis(2),
    max_total_delay: Duration::from_secs(10),
};
