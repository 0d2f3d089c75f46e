//! What registries are, compared with what the settings say of them.

use std::time::Duration;

use futures::future;
use url::Url;

use crate::config::Settings;
use crate::domain::chain;
use crate::registry::providers::{self, FirstAnswer, PROVIDERS, Recognition};
use crate::registry::{RegistryError, RegistrySettings, RetryPolicy};

/// How long a registry may take for its first answer.
const TIMEOUT: Duration = Duration::from_secs(15);

/// A person waits for it: one more try is enough.
const RETRY: RetryPolicy = RetryPolicy {
    max_retries: 1,
    initial_delay: Duration::from_millis(300),
    max_delay: Duration::from_secs(1),
    max_total_delay: Duration::from_secs(1),
};

/// The finding about the kind of one registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindFinding {
    /// The registry's name in the settings.
    pub registry: String,
    /// What follows.
    pub state: KindState,
    /// The product, or what it answered, in words.
    pub message: String,
    /// The kind to write, where it is another one than that of the settings.
    pub kind: Option<&'static str>,
}

/// Whether the kind of a registry fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KindState {
    /// It fits, as far as can be told.
    Fits,
    /// It works, and another one does more.
    Weaker,
    /// It cannot work.
    Wrong,
    /// The registry could not be reached, or does not answer as one.
    Unreachable,
}

impl KindState {
    /// Returns the label for scripts.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Fits => "fits",
            Self::Weaker => "weaker",
            Self::Wrong => "wrong",
            Self::Unreachable => "unreachable",
        }
    }
}

/// Asks a registry what it is, without credentials.
///
/// # Errors
/// When it cannot be reached.
pub async fn ask_registry(endpoint: Url, ca_file: Option<std::path::PathBuf>) -> Result<FirstAnswer, RegistryError> {
    FirstAnswer::ask(endpoint, ca_file, TIMEOUT, RETRY).await
}

/// Recognizes a registry among all products that this version knows.
#[must_use]
pub fn recognize_registry(answer: &FirstAnswer) -> Option<Recognition> {
    providers::recognize(answer, PROVIDERS)
}

/// Recognizes a registry by its address alone; `None` unless the host is one of a known service.
#[must_use]
pub fn recognize_address(endpoint: &Url) -> Option<Recognition> {
    recognize_registry(&FirstAnswer::of_address(endpoint.clone())).filter(|found| found.is_certain)
}

/// Returns a recognition in words: the product, the sign that told it, and what that means where there is no provider for
/// it.
#[must_use]
pub fn describe_recognition(found: &Recognition) -> String {
    let Some(product) = &found.product else {
        return if found.is_certain {
            format!("recognised as `{}` by its token service", found.provider.name())
        } else {
            "a registry that speaks the OCI distribution API".to_owned()
        };
    };
    let version = product.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
    let known = format!("{}{version}, recognised by {}", product.name, product.recognized_by);
    if found.is_certain {
        return known;
    }
    format!("{known}; kind = \"{}\" is the best for it today: {}", found.provider.name(), product.consequence)
}

/// Asks all registries of the settings what they are, and compares their kinds; in the order of the settings.
pub async fn check_kinds(settings: &Settings) -> Vec<KindFinding> {
    future::join_all(settings.registries.iter().map(check_kind)).await
}

async fn check_kind(settings: &RegistrySettings) -> KindFinding {
    let finding =
        |state, message: String, kind| KindFinding { registry: settings.name.to_string(), state, message, kind };
    let answer = match ask_registry(settings.endpoint.clone(), settings.ca_file.clone()).await {
        Ok(answer) => answer,
        Err(error) => return finding(KindState::Unreachable, chain(&error), None),
    };
    if let Some(right) = providers::correct_kind(settings.provider, &answer, PROVIDERS) {
        return finding(KindState::Wrong, describe_recognition(&right), Some(right.provider.name()));
    }
    let Some(found) = recognize_registry(&answer) else {
        let message = format!("it does not answer as a registry: {}", answer.describe());
        return finding(KindState::Unreachable, message, None);
    };
    // Any product may be read by the OCI API alone, and this one has more.
    if found.is_certain && found.provider.name() != settings.provider.name() {
        return finding(KindState::Weaker, describe_recognition(&found), Some(found.provider.name()));
    }
    finding(KindState::Fits, describe_recognition(&found), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_services_tell_the_kind_without_an_answer() {
        for (address, expected) in [
            ("https://contoso.azurecr.io", Some("acr")),
            ("https://ghcr.io", Some("ghcr")),
            ("https://123456789012.dkr.ecr.eu-central-1.amazonaws.com", Some("ecr")),
            ("https://europe-west3-docker.pkg.dev", Some("artifact-registry")),
            ("https://quay.io", Some("quay")),
            ("https://registry.gitlab.com", Some("gitlab")),
            ("https://registry-1.docker.io", Some("docker-hub")),
            // Other services of the same owners, and names that only end alike.
            ("https://s3.eu-central-1.amazonaws.com", None),
            ("https://europe-npm.pkg.dev", None),
            ("https://notghcr.io", None),
            ("https://registry.example", None),
        ] {
            let found = recognize_address(&address.parse().unwrap()).map(|found| found.provider.name());
            assert_eq!(found, expected, "{address}");
        }
    }
}
