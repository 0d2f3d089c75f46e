//! The distribution dialect against the real distribution 2.8.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;
use tagwarden::domain::{Claims, GapTarget, Limits, ReclaimBytes, ReclaimSum, RemovalMethod, RepositoryName, Rules};
use tagwarden::engine::{evaluate, plan, reclaim};
use tagwarden::policy;
use tagwarden::registry::providers::Distribution;
use tagwarden::registry::{
    Auth, CollectScope, DistributionReader, ExtraManifests, ProbeResponse, RegistryErrorKind, RegistryReader,
    RegistrySettings, RegistryWriter, RemovalResponse, RetryPolicy, collect, reader,
};

use crate::registry::{name, quick, settings, tag};
use crate::support::certificate::{Certified, certified};
use crate::support::content::{self, Content};
use crate::support::docker_registry::{DockerRegistry, PASSWORD, Setup, USER};
use crate::support::lease::writer_of;
use crate::support::memory::MemoryCache;
use crate::support::removal::{delete_manifest, put_tag, untag};

struct Pushed {
    old: Content,
    new: Content,
    both: Content,
}

/// Two images, one of them under two tags, and an index of both.
async fn fill(registry: &DockerRegistry) -> Pushed {
    let layer = content::layer("shared layer");
    let mut images = Vec::new();
    for (created, salt) in [("2024-01-01T00:00:00Z", "old"), ("2024-06-01T12:00:00.123456789Z", "new")] {
        let config = content::config(created, salt);
        registry.push_blob("shop/api", &layer).await;
        registry.push_blob("shop/api", &config).await;
        images.push(content::image(&config, &[&layer]));
    }
    let (new, old) = (images.pop().unwrap(), images.pop().unwrap());
    let both = content::index(&[&old, &new]);
    for (reference, manifest) in [("v1", &old), ("stable", &old), ("v2", &new), ("multi", &both)] {
        registry.push_manifest("shop/api", reference, manifest).await;
    }
    Pushed { old, new, both }
}

async fn running(setup: Setup) -> (DockerRegistry, RegistrySettings) {
    let registry = DockerRegistry::start(setup).await;
    let settings = settings(registry.endpoint.as_str());
    (registry, settings)
}

fn read_by(settings: &RegistrySettings) -> DistributionReader {
    DistributionReader::with_retry_policy(settings.clone(), quick()).unwrap()
}

fn written_by(settings: &RegistrySettings) -> Arc<dyn RegistryWriter> {
    writer_of(&Distribution, settings.clone(), quick())
}

fn repository() -> RepositoryName {
    name("shop/api")
}

#[tokio::test]
async fn everything_in_it_is_read_and_little_is_asked_again() {
    let (registry, settings) = running(Setup::default()).await;
    let pushed = fill(&registry).await;
    let cache = MemoryCache::default();
    let readers = [reader(settings.clone(), RetryPolicy::default()).unwrap()];
    let inventory = collect(&readers, &CollectScope::All, &ExtraManifests::new(), &cache, &()).await;
    assert!(!inventory.has_gaps(), "{inventory:?}");
    assert!(!inventory.registries[0].lists_untagged);
    let found = inventory.registries[0].repository("shop/api").unwrap();
    let tags: Vec<_> = found.tags.iter().map(|tag| (tag.name.as_str(), tag.digest.clone().unwrap())).collect();
    let expected = [("multi", &pushed.both), ("stable", &pushed.old), ("v1", &pushed.old), ("v2", &pushed.new)];
    assert_eq!(tags, expected.map(|(tag, content)| (tag, content.digest.clone())));
    assert_eq!(found.manifests.len(), 3);
    let created = |content: &Content| found.manifests[&content.digest].created_at;
    assert_eq!(created(&pushed.old), "2024-01-01T00:00:00Z".parse().ok());
    assert_eq!(created(&pushed.new), "2024-06-01T12:00:00.123456789Z".parse().ok());
    assert_eq!(found.manifests[&pushed.both.digest].children, [pushed.old.digest.clone(), pushed.new.digest.clone()]);
    // Ping, catalogue, tag list, one for each tag, two for each image, one for the index, and the question whether
    // there is a referrers API (2.8 has none).
    assert_eq!(readers[0].request_counts().total, 3 + 4 + 2 * 2 + 1 + 1);

    let again = [reader(settings, RetryPolicy::default()).unwrap()];
    assert_eq!(collect(&again, &CollectScope::All, &ExtraManifests::new(), &cache, &()).await, inventory);
    assert_eq!(again[0].request_counts().total, 3 + 4 + 1);
}

#[tokio::test]
async fn with_deletion_enabled_it_deletes_by_digest_but_does_not_untag() {
    let (registry, settings) = running(Setup { delete: true, ..Setup::default() }).await;
    let pushed = fill(&registry).await;
    assert_eq!(read_by(&settings).product().await, None, "it says nothing of itself");
    let writer = written_by(&settings);
    assert_eq!(writer.probe(&repository(), RemovalMethod::Untag).await, Some(ProbeResponse::Unsupported));
    assert_eq!(writer.probe(&repository(), RemovalMethod::DeleteManifest).await, Some(ProbeResponse::Accepted));
    let error = untag(&writer, &repository(), &tag("v1")).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Unsupported, "{error}");
    assert!(registry.pull_manifest("shop/api", "v1").await.is_some(), "nothing has gone by probing and refusing");

    let raw = read_by(&settings).manifest(&repository(), &pushed.old.digest).await.unwrap().unwrap();
    let removed = delete_manifest(&writer, &repository(), &pushed.old.bytes).await.unwrap();
    assert!(matches!(removed, RemovalResponse::Removed { .. }), "{removed:?}");
    assert_eq!(registry.pull_manifest("shop/api", "v1").await, None);
    assert_eq!(registry.pull_manifest("shop/api", "stable").await, None, "all tags of it go");
    let reader = read_by(&settings);
    assert_eq!(reader.resolve(&repository(), &tag("v1")).await, Ok(None));
    assert_eq!(reader.has_manifest(&repository(), &pushed.old.digest).await, Ok(false));
    assert_eq!(reader.has_manifest(&repository(), &pushed.new.digest).await, Ok(true));
    let again = delete_manifest(&writer, &repository(), &pushed.old.bytes).await.unwrap();
    assert_eq!(again, RemovalResponse::AlreadyMissing);

    writer.put_manifest(&repository(), &raw).await.unwrap();
    assert_eq!(reader.manifest(&repository(), &pushed.old.digest).await, Ok(Some(raw.clone())));
    assert_eq!(reader.resolve(&repository(), &tag("v1")).await, Ok(None), "without a tag");
    let error = reader.referrers(&repository(), &pushed.old.digest).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Unsupported, "{error}");
    put_tag(&writer, &repository(), &tag("v1"), &raw).await.unwrap();
    assert_eq!(registry.pull_manifest("shop/api", "v1").await, Some(pushed.old), "byte for byte, by the same type");
}

#[tokio::test]
async fn with_deletion_disabled_nothing_can_be_removed() {
    let (registry, settings) = running(Setup::default()).await;
    fill(&registry).await;
    for method in [RemovalMethod::Untag, RemovalMethod::DeleteManifest] {
        let answer = written_by(&settings).probe(&repository(), method).await;
        assert_eq!(answer, Some(ProbeResponse::Unsupported), "{method:?}");
    }
}

#[tokio::test]
async fn a_manifest_whose_blobs_are_gone_is_not_put_back() {
    let (registry, settings) = running(Setup::default()).await;
    fill(&registry).await;
    let orphan = content::image(&content::config("", "never pushed"), &[]);
    let raw = tagwarden::registry::RawManifest {
        digest: orphan.digest,
        media_type: orphan.media_type.as_str().into(),
        bytes: orphan.bytes.into(),
    };
    let error = put_tag(&written_by(&settings), &repository(), &tag("v9"), &raw).await.unwrap_err();
    assert!(error.chain().contains("MANIFEST_BLOB_UNKNOWN"), "{error}");
    assert_eq!(registry.pull_manifest("shop/api", "v9").await, None);
}

#[tokio::test]
async fn a_password_opens_it_and_a_wrong_one_is_a_gap() {
    let (registry, anonymous) = running(Setup { login: true, ..Setup::default() }).await;
    fill(&registry).await;
    let basic = |password: &str| Auth::Basic { username: USER.into(), password: password.into() };
    let inventory_as = async |auth| {
        let reader = reader(RegistrySettings { auth, ..anonymous.clone() }, RetryPolicy::default()).unwrap();
        collect(&[reader], &CollectScope::All, &ExtraManifests::new(), &MemoryCache::default(), &())
            .await
            .registries
            .remove(0)
    };

    let read = inventory_as(basic(PASSWORD)).await;
    assert_eq!((read.identity.as_str(), read.gaps.len()), ("user ada", 0));
    assert_eq!(read.repositories[0].tags.len(), 4);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    let encoded = "YWRhOm9wZW46c2VzYW1l";
    fs::write(&file, format!(r#"{{"auths": {{"{}": {{"auth": "{encoded}"}}}}}}"#, registry.endpoint)).unwrap();
    let read = inventory_as(Auth::DockerConfig(vec![file])).await;
    assert_eq!(read.repositories[0].tags.len(), 4);
    assert_eq!(read.identity, "user ada, by the docker configuration");

    for auth in [Auth::Anonymous, basic("wrong:secret")] {
        let read = inventory_as(auth).await;
        assert!(read.repositories.is_empty());
        assert_eq!((&read.gaps[0].target, read.gaps[0].kind), (&GapTarget::Catalogue, "denied"));
        assert!(!read.gaps[0].message.contains("secret"), "{}", read.gaps[0].message);
    }
}

#[tokio::test]
async fn a_ca_file_makes_a_private_certificate_trusted() {
    let Certified { authority, certificate, key } = certified();
    let tls = Some((certificate, key));
    let (registry, untrusting) = running(Setup { tls, ..Setup::default() }).await;
    fill(&registry).await;

    let error = read_by(&untrusting).catalogue().await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Connection, "{error}");
    assert!(error.chain().contains("certificate"), "the cause is told: {error}");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let other_key = KeyPair::generate().unwrap();
    let other = CertificateParams::new(vec!["other.example".into()]).unwrap().self_signed(&other_key).unwrap();
    fs::write(&file, other.pem() + &authority).unwrap();
    let trusting = RegistrySettings { ca_file: Some(file.clone()), ..untrusting.clone() };
    let readers: [Arc<dyn RegistryReader>; 1] = [Arc::new(read_by(&trusting))];
    let inventory = collect(&readers, &CollectScope::All, &ExtraManifests::new(), &MemoryCache::default(), &()).await;
    assert!(!inventory.has_gaps(), "{inventory:?}");
    assert_eq!(inventory.tag_count(), 4);

    for (text, words) in [("", "holds no certificate"), ("-----BEGIN CERTIFICATE-----\n", "not understood")] {
        fs::write(&file, text).unwrap();
        let error = DistributionReader::new(trusting.clone()).unwrap_err();
        assert_eq!(error.kind, RegistryErrorKind::InvalidSettings);
        assert!(error.chain().contains(words) && error.chain().contains("ca.pem"), "{text:?}: {error}");
    }
    fs::remove_file(&file).unwrap();
    assert!(DistributionReader::new(trusting).unwrap_err().chain().contains("cannot be read"));
}

/// What an image needs, by the registry's own files: its manifest, and all that it names.
fn needed(files: &BTreeMap<String, Vec<u8>>, digest: &str, found: &mut BTreeSet<String>) {
    if !found.insert(digest.to_owned()) {
        return;
    }
    let Ok(manifest) = serde_json::from_slice::<Value>(&files[digest]) else { return };
    let list = |key: &str| manifest[key].as_array().cloned().unwrap_or_default();
    for named in list("manifests").iter().chain(&list("layers")).chain([&manifest["config"]]) {
        if let Some(digest) = named["digest"].as_str() {
            needed(files, digest, found);
        }
    }
}

/// Layers large and small, shared within and between repositories, one of them with what stays elsewhere.
async fn fill_with_shared_layers(registry: &DockerRegistry) {
    let [base, common, kept] =
        [("base", 5_000), ("common", 3_000), ("kept", 700)].map(|(name, times)| content::layer(&name.repeat(times)));
    let images = [
        ("lib/core", "old-1", vec![&base, &kept]),
        ("lib/core", "new", vec![&base]),
        ("shop/api", "old-1", vec![&base, &common]),
        ("shop/api", "old-2", vec![&base, &common]),
        ("shop/api", "new", vec![&base, &kept]),
        ("shop/web", "old-1", vec![&common, &base]),
        ("shop/web", "", vec![&common]),
        ("shop/web", "", vec![&base]),
    ];
    let mut children = Vec::new();
    for (number, (repository, tag, shared)) in images.iter().enumerate() {
        let own = content::layer(&format!("{number}").repeat(100 + 10 * number));
        let config = content::config("2024-01-01T00:00:00Z", &number.to_string());
        for blob in shared.iter().copied().chain([&own, &config]) {
            registry.push_blob(repository, blob).await;
        }
        let layers: Vec<&Content> = shared.iter().copied().chain([&own]).collect();
        let image = content::image(&config, &layers);
        let digest = image.digest.to_string();
        registry.push_manifest(repository, if tag.is_empty() { &digest } else { tag }, &image).await;
        if (*repository, *tag) == ("shop/api", "old-2") {
            registry.push_manifest(repository, "old-3", &image).await;
        }
        if tag.is_empty() {
            children.push(image);
        }
    }
    let index = content::index(&children.iter().collect::<Vec<_>>());
    registry.push_manifest("shop/web", "old-multi", &index).await;
}

#[tokio::test]
async fn exclusive_bytes_are_those_that_its_own_garbage_collection_frees() {
    let (registry, settings) = running(Setup { delete: true, ..Setup::default() }).await;
    fill_with_shared_layers(&registry).await;
    let read = |files: BTreeMap<String, std::path::PathBuf>| -> BTreeMap<String, Vec<u8>> {
        files.into_iter().map(|(digest, path)| (digest, fs::read(path).unwrap())).collect()
    };
    let before = read(registry.files());

    let settings = RegistrySettings { removal: RemovalMethod::DeleteManifest, ..settings };
    let readers: [Arc<dyn RegistryReader>; 1] = [Arc::new(read_by(&settings))];
    let inventory = collect(&readers, &CollectScope::All, &BTreeMap::new(), &MemoryCache::default(), &()).await;
    let policy = "policies:\n  - { name: old, select: { tags: [\"old*\"] }, keep: none, mode: enforce }\n";
    let rules = Rules {
        policies: policy::parse("old.yaml", policy).unwrap(),
        limits: Limits::default(),
        timezone: jiff::tz::TimeZone::UTC,
        undo_window: Duration::ZERO,
    };
    let now = "2026-11-23T12:00:00Z".parse().unwrap();
    let claims = Claims::default();
    let verdicts = evaluate(&rules, &inventory, &claims, now);
    let planned = plan(&rules, &inventory, &verdicts, now);
    assert_eq!(planned.removals.len(), 6);
    let bytes = reclaim(&inventory, &claims, &verdicts, &planned);

    let writer = written_by(&settings);
    for removal in &planned.removals {
        // A manifest with two tags is there once.
        if let Some(manifest) = readers[0].manifest(&removal.repository, &removal.digest).await.unwrap() {
            delete_manifest(&writer, &removal.repository, &manifest.bytes).await.unwrap();
        }
    }
    registry.collect_garbage();
    let after = read(registry.files());

    let mut seen = BTreeSet::new();
    let mut by_repository: BTreeMap<RepositoryName, ReclaimSum> = BTreeMap::new();
    for (removal, found) in planned.removals.iter().zip(&bytes.removals) {
        let mut image = BTreeSet::new();
        needed(&before, &removal.digest.to_string(), &mut image);
        let mut counted = ReclaimBytes::default();
        for digest in image.difference(&seen) {
            let part = if after.contains_key(digest) { &mut counted.shared } else { &mut counted.exclusive };
            *part += before[digest].len() as u64;
        }
        seen.extend(image);
        assert_eq!(*found, Some(counted), "{}:{}", removal.repository, removal.tag);
        let sum = by_repository.entry(removal.repository.clone()).or_default();
        *sum = sum.plus(Some(counted).into());
    }
    assert_eq!(bytes.registries[0].repositories, by_repository.into_iter().collect::<Vec<_>>());
    let size = |files: &BTreeMap<String, Vec<u8>>| files.values().map(|bytes| bytes.len() as u64).sum::<u64>();
    assert_eq!(bytes.sum().bytes.exclusive, size(&before) - size(&after), "what is gone from its disk");
    assert!(bytes.sum().bytes.shared > 20_000 && !bytes.is_estimated());
}
