//! A product that stands in no table of Tagwarden's: settings name it, and a plan is made of what its reader says.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use tagwarden::apply::Clock;
use tagwarden::domain::{
    Digest, Manifest, ManifestDetail, ManifestState, RemovalMethod, Repository, RepositoryName, Tag, TagName, TagState,
};
use tagwarden::registry::providers::Distribution;
use tagwarden::registry::{
    Capabilities, Catalogue, ContentCache, ProbeResponse, Provider, RawManifest, RegistryConnection, RegistryError,
    RegistryErrorKind, RegistryReader, RegistrySettings, RetryPolicy, Support, UntagSupport, connect,
};
use tagwarden::workflow::App;
use tagwarden::{config, policy};
use tempfile::TempDir;
use tokio::sync::watch;

use super::{name, quick, tag};
use crate::support::lease::any_lease;

const PRODUCTS: &[&dyn Provider] = &[&Distribution, &MadeUp];
const OTHER_PRODUCTS: &[&dyn Provider] = &[&Distribution];
const SETTINGS: &str = "policies = \"policies.yaml\"\n[registries.main]\nkind = \"made-up\"\n\
                        endpoint = \"https://made-up.example\"\naccept = [\"no-date\"]\n";
const POLICIES: &str = "policies:\n  - name: newest\n    select: { tags: [\"*\"] }\n    keep: [{ newest: 1 }]\n";
/// Its tags with their push times.
const TAGS: [(&str, &str); 2] = [("v1", "2026-01-01T00:00:00Z"), ("v2", "2026-02-01T00:00:00Z")];

/// A product that answers from memory, knows push times and cannot untag.
#[derive(Debug)]
struct MadeUp;

impl Provider for MadeUp {
    fn name(&self) -> &'static str {
        "made-up"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { push_times: Support::Yes, untag: UntagSupport::Unsupported, ..Capabilities::UNKNOWN }
    }

    fn connect(&self, settings: RegistrySettings, _: RetryPolicy) -> Result<RegistryConnection, RegistryError> {
        Ok(RegistryConnection::read_only(Arc::new(MadeUpReader { settings })))
    }
}

struct MadeUpReader {
    settings: RegistrySettings,
}

#[async_trait]
impl RegistryReader for MadeUpReader {
    fn settings(&self) -> &RegistrySettings {
        &self.settings
    }

    fn identity(&self) -> String {
        "anonymous".to_owned()
    }

    async fn catalogue(&self) -> Result<Catalogue, RegistryError> {
        Ok(Catalogue { repositories: vec![name("app")], gaps: Vec::new() })
    }

    async fn repository(&self, repository: &RepositoryName, _: &BTreeSet<Digest>, _: &dyn ContentCache) -> Repository {
        let mut found = Repository::empty(repository.clone());
        for (text, pushed_at) in TAGS {
            let digest = digest_of(text);
            found.manifests.insert(digest.clone(), manifest());
            found.tags.push(Tag {
                name: tag(text),
                digest: Some(digest),
                pushed_at: Some(pushed_at.parse().unwrap()),
                first_seen: None,
                lock: None,
            });
        }
        found
    }

    async fn tags(&self, _: &RepositoryName) -> Result<Vec<TagName>, RegistryError> {
        Ok(TAGS.iter().map(|(text, _)| tag(text)).collect())
    }

    async fn resolve(&self, _: &RepositoryName, wanted: &TagName) -> Result<Option<TagState>, RegistryError> {
        Ok(TAGS.iter().find(|(text, _)| wanted.as_str() == *text).map(|(text, pushed_at)| TagState {
            digest: digest_of(text),
            pushed_at: Some(pushed_at.parse().unwrap()),
            lock: None,
        }))
    }

    async fn has_manifest(&self, _: &RepositoryName, digest: &Digest) -> Result<bool, RegistryError> {
        Ok(TAGS.iter().any(|(text, _)| digest_of(text) == *digest))
    }

    async fn manifest_state(&self, _: &RepositoryName, _: &Digest) -> Result<Option<ManifestState>, RegistryError> {
        Err(unsupported())
    }

    async fn referrers(&self, _: &RepositoryName, _: &Digest) -> Result<Vec<Digest>, RegistryError> {
        Err(unsupported())
    }

    async fn manifest(&self, _: &RepositoryName, _: &Digest) -> Result<Option<RawManifest>, RegistryError> {
        Ok(None)
    }
}

fn unsupported() -> RegistryError {
    RegistryError::new(RegistryErrorKind::Unsupported, "made-up has no such request")
}

fn digest_of(tag: &str) -> Digest {
    Digest::of(tag.as_bytes())
}

fn manifest() -> Manifest {
    Manifest {
        media_type: "application/vnd.oci.image.manifest.v1+json".into(),
        size: 400,
        config: None,
        blobs: Box::default(),
        children: Vec::new(),
        subject: None,
        created_at: None,
        lock: None,
        detail: ManifestDetail::Full,
    }
}

/// A folder with policies and those settings.
fn folder(settings: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tagwarden.toml");
    fs::write(&file, settings).unwrap();
    fs::write(folder.path().join("policies.yaml"), POLICIES).unwrap();
    (folder, file)
}

#[tokio::test]
async fn a_plan_says_what_the_product_cannot_do() {
    let (_folder, file) = folder(SETTINGS);
    let settings = config::load_with_providers(&file, [], PRODUCTS).unwrap();
    let policies = policy::load(&settings.policies).unwrap();
    let now: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
    let clock: Clock = Arc::new(move || now);
    let stop = watch::Sender::new(false);
    let app = App::open_with((settings, policies), "tester@here".to_owned(), clock, stop.subscribe(), quick()).await;
    let app = app.unwrap();
    let planned = app.plan(None, &()).await.unwrap();
    app.close().await;
    let document = planned.document;
    assert_eq!((document.summary.tags, document.summary.expired), (2, 1));
    let registry = &document.registries[0];
    assert_eq!((&*registry.kind, registry.tags), ("made-up", 2));
    let ability = registry.ability.as_ref().unwrap();
    assert_eq!((&*ability.state, &*ability.ability_origin), ("impossible", "kind"));
    assert!(ability.message.contains("its API cannot remove a tag and leave the manifest"), "{}", ability.message);
    assert_eq!(registry.obstacle.as_ref(), Some(&ability.message));
    assert!(document.refusals.iter().any(|refusal| refusal.kind == "removal-impossible"), "{:?}", document.refusals);
}

#[tokio::test]
async fn a_connection_to_it_only_reads() {
    let endpoint = "https://made-up.example".parse().unwrap();
    let settings = RegistrySettings::with_defaults("main".parse().unwrap(), &MadeUp, endpoint);
    let connection = connect(settings, quick()).unwrap();
    assert!(connection.writer(any_lease()).is_none());
    let probed = connection.probe(&name("app"), RemovalMethod::Untag).await;
    assert_eq!(probed, Some(ProbeResponse::Unsupported));
    let found = connection.capabilities().await;
    let expected = (UntagSupport::Unsupported, Support::Yes, Support::Unknown);
    assert_eq!((found.untag, found.push_times, found.locks), expected);
}

#[test]
fn a_kind_is_known_only_from_the_table() {
    let (_folder, file) = folder(SETTINGS);
    let error = config::load(&file, []).unwrap_err();
    let told: Vec<(&str, Option<&str>)> =
        error.diagnostics.iter().map(|problem| (&*problem.message, problem.help.as_deref())).collect();
    assert_eq!(
        told,
        [(
            "unknown kind `made-up`",
            Some(
                "known: `acr`, `artifact-registry`, `artifactory`, `distribution`, `docker-hub`, `ecr`, `ghcr`, `gitlab`, \
                 `harbor`, `nexus`, `quay`, `zot`"
            )
        )]
    );
    let error = config::load_with_providers(&file, [], OTHER_PRODUCTS).unwrap_err();
    assert_eq!(error.diagnostics[0].help.as_deref(), Some("known: `distribution`"));
}

#[test]
fn settings_of_other_products_are_refused() {
    let (_folder, file) = folder(&format!("{SETTINGS}bytes = \"exact\"\n"));
    let error = config::load_with_providers(&file, [], PRODUCTS).unwrap_err();
    assert!(error.diagnostics[0].message.starts_with("`bytes` is for Azure Container Registries"), "{error}");
}
