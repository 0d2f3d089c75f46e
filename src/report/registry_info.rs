//! The settings of a registry as the cloud reports them, and the commands that show them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::humanize::{format_age, format_bytes};
use super::index_reads::describe_index_reads;
use super::{GapView, RegistryView, ability};
use crate::domain::{GapTarget, PermissionMode, Registry, RegistryInfo, Removal, RemovalMethod, RetentionDays};
use crate::registry::providers::{Distribution, provider};
use crate::registry::{Provider, UntagSupport};

/// The settings of a registry as it, or the cloud around it, reports them. The fields are those of [`RegistryInfo`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of `domain::RegistryInfo`, documented there")]
pub struct RegistryInfoView {
    pub subscription: String,
    pub resource_group: String,
    pub resource: String,
    #[serde(alias = "sku")]
    pub tier: Option<String>,
    pub permissions: Option<String>,
    pub untagged_retention: DelayedActionView,
    pub soft_delete: DelayedActionView,
    pub replicas: Vec<String>,
    pub stored_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cleanup_rules: Vec<String>,
}

/// An action that a registry takes after a number of days.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelayedActionView {
    /// `on`, `off` or `unread`.
    pub state: String,
    /// The number of days, if enabled.
    pub days: Option<u32>,
}

impl From<&RegistryInfo> for RegistryInfoView {
    fn from(found: &RegistryInfo) -> Self {
        Self {
            subscription: found.subscription.to_string(),
            resource_group: found.resource_group.to_string(),
            resource: found.resource.to_string(),
            tier: found.tier.map(|tier| tier.label().to_owned()),
            permissions: found.permissions.map(|mode| mode.label().to_owned()),
            untagged_retention: found.untagged_retention.into(),
            soft_delete: found.soft_delete.into(),
            replicas: found.replicas.iter().map(ToString::to_string).collect(),
            stored_bytes: found.stored_bytes,
            cleanup_rules: found.cleanup_rules.iter().map(ToString::to_string).collect(),
        }
    }
}

impl From<RetentionDays> for DelayedActionView {
    fn from(found: RetentionDays) -> Self {
        let state = match found {
            RetentionDays::Off => "off",
            RetentionDays::Days(_) => "on",
            RetentionDays::Unknown => "unread",
        };
        Self { state: state.to_owned(), days: found.days() }
    }
}

/// Returns the seconds for which a removal there can certainly be undone; `None` if unknown. For an untag that is the undo
/// window, unless the registry deletes untagged manifests sooner; for a deletion the time for which the product itself puts
/// back what was deleted.
pub(super) fn undo_seconds(registry: &Registry, undo_window: Duration) -> Option<u64> {
    if registry.removal == RemovalMethod::DeleteManifest {
        return provider(registry.kind)?.deletion_undo().map(|time| time.as_secs());
    }
    let retention = registry.info.as_ref().filter(|_| can_untag(registry.kind))?.untagged_retention;
    match retention {
        RetentionDays::Off => Some(undo_window.as_secs()),
        RetentionDays::Days(days) => Some(undo_window.as_secs().min(u64::from(days) * 86_400)),
        RetentionDays::Unknown => None,
    }
}

/// Returns true unless Tagwarden never removes a tag alone from registries of that kind.
pub(super) fn can_untag(kind: &str) -> bool {
    provider(kind)
        .is_none_or(|kind| kind.read_only_reason().is_none() && kind.capabilities().untag != UntagSupport::Unsupported)
}

/// Describes a registry's own settings, one sentence each, without full stops.
pub(super) fn describe_registry(registry: &RegistryView) -> Vec<String> {
    let mut facts = Vec::new();
    match &registry.info {
        Some(found) => {
            facts.extend((!found.resource.is_empty()).then(|| resource(found)));
            facts.extend(leaves_untagged(registry).then(|| describe_untagged_retention(found, registry)));
            facts.extend(describe_soft_delete(found));
            facts.extend(found.cleanup_rules.iter().cloned());
        }
        None if registry.gaps.iter().any(GapView::is_registry_info) => {}
        None => facts.extend(provider(&registry.kind).and_then(Provider::missing_info).map(str::to_owned)),
    }
    facts.extend(registry.clock.as_ref().map(|clock| format!("CLOCK: {clock}")));
    facts.extend(describe_removal(registry));
    let what = if deletes_manifests(registry) { "a deletion" } else { "an untag" };
    facts.extend(registry.undo_seconds.map(|seconds| match seconds {
        0 => format!("{what} there may be past undoing at once"),
        seconds => format!("{what} there can be undone for {}", period(seconds)),
    }));
    facts.extend(registry.indexes_read.as_ref().map(describe_index_reads));
    facts.extend(ability::describe_ability(registry));
    facts
}

fn deletes_manifests(registry: &RegistryView) -> bool {
    registry.removal == RemovalMethod::DeleteManifest.label()
}

/// Returns true unless a removal there never leaves a manifest without a tag.
fn leaves_untagged(registry: &RegistryView) -> bool {
    provider(&registry.kind).is_none_or(|kind| kind.capabilities().untag != UntagSupport::NativeButLast)
}

/// Describes a removal there, where it is not the removal of a tag alone that leaves its manifest.
fn describe_removal(registry: &RegistryView) -> Option<String> {
    let by_manifest = deletes_manifests(registry);
    let method = if by_manifest { RemovalMethod::DeleteManifest } else { RemovalMethod::Untag };
    if let Some(words) = provider(&registry.kind).and_then(|kind| kind.describe_removal(method)) {
        return Some(words.to_owned());
    }
    by_manifest.then(|| {
        "a removal there deletes the manifest with all of its tags, and can be undone only while the registry keeps its layers"
            .to_owned()
    })
}

/// Formats seconds as a period.
pub(super) fn period(seconds: u64) -> String {
    format_age(i64::try_from(seconds).unwrap_or(i64::MAX))
}

impl GapView {
    fn is_registry_info(&self) -> bool {
        self.at == GapTarget::RegistryInfo.to_string()
    }
}

fn resource(found: &RegistryInfoView) -> String {
    let RegistryInfoView { subscription, resource_group, resource, tier, permissions, replicas, stored_bytes, .. } =
        found;
    let mut words = format!("{resource} in resource group {resource_group} of subscription {subscription}");
    if let Some(tier) = tier {
        words.extend([", ", tier]);
    }
    if let Some(mode) = permissions {
        let by = if mode == PermissionMode::Repositories.label() { "repository" } else { "registry" };
        words.extend([", permissions by ", by]);
    }
    if !replicas.is_empty() {
        words.extend([", replicas in ", &replicas.join(" and ")]);
    }
    if let Some(stored) = stored_bytes {
        words.extend([", ", &format_bytes(*stored), " stored"]);
    }
    words
}

fn describe_untagged_retention(found: &RegistryInfoView, registry: &RegistryView) -> String {
    let DelayedActionView { state, days } = &found.untagged_retention;
    let mut words = match (state.as_str(), days) {
        ("off", _) => "it keeps untagged manifests".to_owned(),
        (_, Some(0)) => "it deletes untagged manifests by itself at once".to_owned(),
        (_, Some(days)) => format!("it deletes untagged manifests by itself after {}", describe_days(*days)),
        _ => "it did not say whether it deletes untagged manifests by itself".to_owned(),
    };
    if state != "off" && registry.accepted.iter().any(|accepted| accepted == "untagged-retention") {
        words.push_str(", which the settings accept");
    }
    words
}

fn describe_soft_delete(found: &RegistryInfoView) -> Option<String> {
    let DelayedActionView { state, days } = &found.soft_delete;
    match (state.as_str(), days) {
        ("off", _) => None,
        (_, Some(days)) => Some(format!("soft delete keeps what is deleted for {}", describe_days(*days))),
        _ => Some("it did not say whether soft delete is on".to_owned()),
    }
}

fn describe_days(days: u32) -> String {
    if days == 1 { "1 day".to_owned() } else { format!("{days} days") }
}

/// Returns the commands that show a removal's tag and manifest, for a POSIX shell. They only read. An unknown product
/// most likely implements the distribution API.
pub(super) fn verify_commands(registry: &Registry, removal: &Removal) -> Vec<String> {
    provider(registry.kind).unwrap_or(&Distribution).verify_commands(registry, removal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::providers::PROVIDERS;

    const WINDOW: Duration = Duration::from_hours(7 * 24);

    /// The facts about a registry of that kind that keeps manifests without tags, as far as its own settings tell.
    fn facts(kind: &'static str, removal: RemovalMethod) -> Vec<String> {
        let registry = Registry {
            removal,
            info: Some(RegistryInfo::that_keeps_untagged()),
            ..Registry::empty("main".parse().unwrap(), kind)
        };
        let view = serde_json::json!({
            "name": "main", "kind": kind, "endpoint": "", "identity": "", "removal": removal.label(), "obstacle": null,
            "obstacles": [], "ability": null, "notes": [], "info": registry.info.as_ref().map(RegistryInfoView::from),
            "accepted": [], "clock_ahead_seconds": null, "clock": null, "repositories": 0, "tags": 0, "gaps": [],
            "undo_seconds": undo_seconds(&registry, WINDOW), "indexes_read": null, "invalid_names": [],
        });
        describe_registry(&serde_json::from_value(view).unwrap())
    }

    /// Of each kind: what an untag is, and what a deletion is. Every product is in it.
    #[test]
    fn each_product_says_what_its_removals_are_and_for_how_long_they_can_be_undone() {
        let keeps = "it keeps untagged manifests";
        let untag: &[&str] = &[keeps, "an untag there can be undone for 7 days"];
        let deletion: &[&str] = &[
            keeps,
            "a removal there deletes the manifest with all of its tags, and can be undone only while the registry keeps its \
             layers",
        ];
        let ecr: [&[&str]; 2] = [
            &[
                "no image there loses its last tag, because Amazon ECR would delete it",
                "an untag there can be undone for 7 days",
            ],
            &[
                "a removal there deletes an image with all of its tags, and can hardly be undone: Amazon ECR may delete its \
               layers at any time",
            ],
        ];
        let ghcr: [&[&str]; 2] = [
            &[keeps],
            &[
                keeps,
                "a removal there deletes a package version with all of its tags",
                "a deletion there can be undone for 30 days",
            ],
        ];
        let none: &[&str] = &[keeps];
        let expected = |kind: &str| match kind {
            "ecr" => ecr,
            "ghcr" => ghcr,
            // Only read, so nothing is removed.
            "artifactory" | "nexus" => [none, deletion],
            "acr" | "artifact-registry" | "distribution" | "docker-hub" | "gitlab" | "harbor" | "quay" | "zot" => {
                [untag, deletion]
            }
            other => panic!("what is a removal in {other}?"),
        };
        for provider in PROVIDERS {
            let kind = provider.name();
            let found = [RemovalMethod::Untag, RemovalMethod::DeleteManifest].map(|method| facts(kind, method));
            assert_eq!(found.each_ref().map(Vec::as_slice), expected(kind), "{kind}");
        }
    }
}
