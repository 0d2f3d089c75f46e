//! Log events of skipped actions.

use std::fmt::Display;

use crate::domain::{Digest, RegistryName, SkipReason, TagName};

/// Logs a skip: as a step if a person should see it, else for those who look for it, because the end of the run counts
/// these by reason.
pub(super) fn log_skip(
    registry: &RegistryName,
    repository: impl Display,
    (tag, digest): (&TagName, &Digest),
    skip: &SkipReason,
) {
    if skip.is_notable() {
        tracing::info!(%registry, %repository, %tag, %digest, %skip, "skipped");
    } else {
        tracing::debug!(%registry, %repository, %tag, %digest, %skip, "skipped");
    }
}
