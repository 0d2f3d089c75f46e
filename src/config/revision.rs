//! The revision of the settings: one hash, on which the validity of plans depends.

use serde_json::{Value, json};
use url::Url;

use super::Settings;
use super::schedule::{Freeze, Window};
use crate::azure::{Credential, Identity};
use crate::domain::{Digest, Globs, RangeSelection, RegistryName, RepositoryName};
use crate::registry::{Auth, CanUntag, RegistrySettings};
use crate::sources::{
    Access, DocumentFormat, FieldPath, KubernetesSettings, MentionEffect, SourceKind, SourceSettings, TextException,
    TextSettings, UnresolvedEffect,
};

/// Returns the hash of all settings that affect decisions: registries, sources, limits, undo window and the time zone,
/// but neither secrets nor rates and schedules.
pub(super) fn revision(settings: &Settings) -> String {
    let deciding = json!({
        "registries": settings.registries.iter().map(registry).collect::<Vec<_>>(),
        "sources": settings.sources.iter().map(source).collect::<Vec<_>>(),
        "limits": {
            "untag": settings.limits.untag,
            "percent": settings.limits.percent,
            "leave": settings.limits.leave,
            "delete": settings.limits.delete,
        },
        "undo_window": settings.undo_window.as_secs(),
        "timezone": settings.schedule.timezone.iana_name(),
    });
    // Objects of serde_json are sorted by key, so the same settings are the same text.
    Digest::of(deciding.to_string().as_bytes()).to_string()
}

impl Settings {
    /// Returns the hash of all settings that affect removals: those of [`Settings::revision`], the mode, and the times
    /// without removals.
    #[must_use]
    pub fn removal_revision(&self) -> String {
        let freeze = |freeze: &Freeze| json!([freeze.from.to_string(), freeze.to.to_string()]);
        let removing = json!({
            "revision": self.revision,
            "mode": self.mode.label(),
            "window": self.schedule.window.as_ref().map(Window::as_str),
            "freezes": self.schedule.freezes.iter().map(freeze).collect::<Vec<_>>(),
        });
        Digest::of(removing.to_string().as_bytes()).to_string()
    }
}

fn registry(settings: &RegistrySettings) -> Value {
    let (auth, user) = match &settings.auth {
        Auth::Anonymous => ("anonymous", None),
        Auth::Basic { username, .. } => ("basic", Some(json!(username))),
        Auth::Token(_) => ("token", None),
        Auth::DockerConfig(_) => ("docker-config", None),
        Auth::Entra(credential) => ("entra", Some(identity(credential))),
        Auth::Aws(identity) => ("aws", Some(json!([identity.label(), identity.name()]))),
        Auth::Google(identity) => ("google", Some(json!([identity.label(), identity.name()]))),
    };
    let resource = settings.azure_resource.as_ref().map(|resource| {
        json!({
            "subscription": resource.subscription,
            "resource_group": resource.resource_group,
            "resource_manager": resource.credential.environment.resource_manager.as_ref().map(Url::as_str),
            "asked_as": identity(&resource.credential),
        })
    });
    let mut revision = json!({
        "name": settings.name.as_str(),
        "kind": settings.provider.name(),
        "endpoint": settings.endpoint.as_str(),
        "aliases": settings.aliases,
        "auth": auth,
        "user": user,
        "removal": settings.removal.label(),
        "resource": resource,
        "accepts_retention": settings.accepted.retention,
        // The knowledge of images by it affects the meaning of a bare digest in a claim.
        "exact_bytes": settings.exact_bytes,
        "repositories": settings.repositories.iter().map(RepositoryName::as_str).collect::<Vec<_>>(),
    });
    // An absent key keeps plans valid that were approved before the key existed.
    if settings.can_untag != CanUntag::Unknown {
        revision["can_untag"] = json!(settings.can_untag.label());
    }
    if !settings.namespaces.is_empty() {
        revision["namespaces"] = json!(settings.namespaces);
    }
    if let Some(api) = &settings.api {
        revision["api"] = json!(api.endpoint.as_str());
    }
    // Only where it is so: a plan of an earlier version stays valid.
    if settings.accepted.missing_date {
        revision["accepts_no_date"] = true.into();
    }
    if settings.accepted.pull_times {
        revision["accepts_pull_times"] = true.into();
    }
    if settings.accepted.same_content {
        revision["accepts_same_content"] = true.into();
    }
    revision
}

/// Returns the identity and its cloud.
fn identity(credential: &Credential) -> Value {
    let (client, tenant) = match &credential.identity {
        Identity::Managed { client_id } => (client_id.as_ref(), None),
        Identity::Workload { client_id, tenant_id, .. } => (client_id.as_ref(), tenant_id.as_ref()),
        Identity::ClientSecret { client_id, tenant_id, .. } => (Some(client_id), Some(tenant_id)),
        Identity::AzureCli { tenant_id } => (None, tenant_id.as_ref()),
    };
    json!({
        "kind": credential.identity.label(),
        "client": client,
        "tenant": tenant,
        "cloud": credential.environment.cloud.label(),
        "authority": credential.environment.authority.as_ref().map(Url::as_str),
    })
}

/// Returns the content and the identity of a source.
fn source_kind(kind: &SourceKind) -> Value {
    match kind {
        SourceKind::ReleaseRecords(files) | SourceKind::ImageReferences(files) => {
            json!({ "paths": sorted(&files.globs) })
        }
        SourceKind::Kubernetes(cluster) => kubernetes(cluster),
        SourceKind::HttpReferences(document) => json!({
            "url": document.url.as_str(),
            "header": document.header.as_ref().map(|header| header.name.as_str()),
            "format": document.format.map(DocumentFormat::label),
            "paths": document.paths.iter().map(FieldPath::keys).collect::<Vec<_>>(),
        }),
        SourceKind::Docker(socket) => json!({ "socket": socket.path.display().to_string() }),
        SourceKind::Azure(_, scope) => json!({
            "subscriptions": scope.subscriptions,
            "resource_groups": scope.resource_groups,
            "resource_manager": scope.credential.environment.resource_manager.as_ref().map(Url::as_str),
            "asked_as": identity(&scope.credential),
        }),
        SourceKind::AcrPulls(pulls) => json!({
            "workspace": pulls.workspace.to_string().to_lowercase(),
            "within": pulls.within.as_secs(),
            "logging_since": pulls.logging_since,
            "ignore_identities": pulls.ignored_identities,
            "resource_manager": pulls.credential.environment.resource_manager.as_ref().map(Url::as_str),
            "log_analytics": pulls.credential.environment.log_analytics.as_ref().map(Url::as_str),
            "asked_as": identity(&pulls.credential),
        }),
        SourceKind::GitHistory(history) => json!({
            "path": history.path.display().to_string(),
            "paths": sorted(&history.paths),
            "branches": sorted(&history.branches),
            "tags": sorted(&history.tags),
            "commits": history.commits,
            "since": history.since.map(|since| since.as_secs()),
        }),
    }
}

fn source(settings: &SourceSettings) -> Value {
    let registries = settings.registries.as_ref();
    let mut revision = json!({
        "name": settings.name.as_str(),
        "kind": settings.kind.label(),
        "reads": source_kind(&settings.kind),
        "registries": registries.map(|names| names.iter().map(RegistryName::as_str).collect::<Vec<_>>()),
        "max_age": settings.max_age.map(|age| age.as_secs()),
        "allow_empty": settings.allow_empty,
        "min_claims": settings.min_claims,
    });
    // Only if set: a plan of an earlier version stays valid.
    let TextSettings { mentions, unresolved, ranges, exceptions } = &settings.texts;
    if *ranges == RangeSelection::All {
        revision["ranges"] = "all".into();
    }
    if *mentions != MentionEffect::default() {
        revision["mentions"] = mentions.label().into();
    }
    if *unresolved != UnresolvedEffect::default() {
        revision["unresolved"] = unresolved.label().into();
    }
    if !exceptions.is_empty() {
        revision["exceptions"] = exceptions.iter().map(exception).collect();
    }
    revision
}

/// Returns an exception, whose position in the list matters.
fn exception(exception: &TextException) -> Value {
    json!({
        "paths": exception.paths.as_ref().map(Globs::written),
        "kinds": sorted(&exception.kinds),
        "mentions": exception.mentions.map(MentionEffect::label),
        "unresolved": exception.unresolved.map(UnresolvedEffect::label),
    })
}

fn sorted(texts: &[String]) -> Value {
    let mut texts = texts.to_vec();
    texts.sort();
    json!(texts)
}

/// Returns the read parts of a cluster; identity and rates may change.
fn kubernetes(settings: &KubernetesSettings) -> Value {
    let context = match &settings.access {
        Access::Kubeconfig { files, context } => json!({ "files": files, "context": context }),
        Access::ServiceAccount { .. } => Value::Null,
    };
    let custom = settings.custom.iter().map(|custom| {
        let paths: Vec<String> = custom.paths.iter().map(FieldPath::keys).collect();
        json!([custom.group, custom.version, custom.kind, sorted(&paths), custom.optional]).to_string()
    });
    json!({
        "cluster": context,
        "namespaces": sorted(&settings.namespaces),
        "helm": settings.helm.label(),
        "custom": sorted(&custom.collect::<Vec<_>>()),
        "presets": settings.presets.iter().map(|preset| preset.label()).collect::<Vec<_>>(),
        "configmaps": settings.configmaps,
    })
}
