//! Amazon ECR by its own API: request by request, and as a platform owner uses it, against the embedded one; and against
//! imitations and clients of others.

mod clients;
mod credentials;
mod deletion;
mod reader;
mod requests;
mod rules;
mod simulator;
mod story;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use jiff::SignedDuration;
use tagwarden::demo::image::Image;
use tagwarden::demo::registry::{Dialect, EcrKeys, EcrOptions, EmbeddedRegistry, Options};
use tagwarden::domain::{Digest, Repository};
use tagwarden::registry::providers::{AwsIdentity, Ecr};
use tagwarden::registry::{Auth, RegistryReader, RegistrySettings, RegistryWriter, connect};

use crate::registry::{name, quick};
use crate::support::lease::writer_of;
use crate::support::memory::MemoryCache;
use crate::workflow::{WorkflowFixture, image, noon};

const ACCOUNT: &str = "123456789012";
const REGION: &str = "eu-central-1";
/// The host of image references, which the settings name as an alias of the embedded registry.
const HOST: &str = "123456789012.dkr.ecr.eu-central-1.amazonaws.com";
/// The access key of the tests, and its secret.
const KEYS: (&str, &str) = ("AKIDOFTHETESTS", "secret/of+the+tests");
const KIND: &str = "kind = \"ecr\"\naliases = [\"123456789012.dkr.ecr.eu-central-1.amazonaws.com\"]\n\
                    auth = { kind = \"aws-keys\", access_key_id = \"AKIDOFTHETESTS\", secret_access_key_file = \"secret\" }\n\
                    concurrency = 4";

fn options() -> EcrOptions {
    EcrOptions::new(Arc::new(noon), ACCOUNT, REGION).keys(EcrKeys::new(KEYS.0, KEYS.1))
}

async fn start(options: EcrOptions) -> EmbeddedRegistry {
    EmbeddedRegistry::start(Options { dialect: Dialect::ecr(options), ..Options::default() }).await.unwrap()
}

/// Keys as the settings hold them.
fn keys(secret: &str) -> AwsIdentity {
    let (access_key_id, secret_access_key) = (KEYS.0.to_owned(), secret.into());
    AwsIdentity::Keys { access_key_id, secret_access_key, session_token: None }
}

fn settings_of(url: &str, identity: AwsIdentity) -> RegistrySettings {
    let settings = RegistrySettings::with_defaults("main".parse().unwrap(), &Ecr, url.parse().unwrap());
    RegistrySettings { auth: Auth::Aws(Box::new(identity)), aliases: vec![HOST.to_owned()], concurrency: 4, ..settings }
}

fn settings(url: &str) -> RegistrySettings {
    settings_of(url, keys(KEYS.1))
}

fn reader(url: &str) -> Arc<dyn RegistryReader> {
    connect(settings(url), quick()).unwrap().reader()
}

fn writer(url: &str) -> Arc<dyn RegistryWriter> {
    writer_of(&Ecr, settings(url), quick())
}

/// Reads `shop/api` with a fresh reader and cache.
async fn read(registry: &EmbeddedRegistry) -> Repository {
    reader(&registry.url()).repository(&name("shop/api"), &BTreeSet::new(), &MemoryCache::default()).await
}

/// Puts an image that was pushed so many days before the registry's now under a tag.
pub(crate) fn put(registry: &EmbeddedRegistry, repository: &str, tag: &str, image: &Image, days: i64) -> Digest {
    registry.content(|content| content.put_image(repository, Some(tag), image));
    registry.ecr(|ecr| date(ecr, repository, image, days));
    image.digest.clone()
}

fn date(ecr: &mut tagwarden::demo::registry::EcrService, repository: &str, image: &Image, days: i64) {
    ecr.date_image(repository, &image.digest, noon() - SignedDuration::from_hours(24 * days));
    image.children.iter().for_each(|child| date(ecr, repository, child, days));
}

/// The operations so far, with how often each was asked for.
fn request_counts(registry: &EmbeddedRegistry) -> BTreeMap<String, usize> {
    let mut asked = BTreeMap::new();
    for request in registry.requests() {
        *asked.entry(request.path.trim_start_matches('/').to_owned()).or_default() += 1;
    }
    asked
}

/// The answer of a busy Amazon ECR.
fn throttling() -> tagwarden::demo::registry::FaultKind {
    refusal("ThrottlingException", "Rate exceeded")
}

fn refusal(kind: &str, words: &str) -> tagwarden::demo::registry::FaultKind {
    let body = format!(r#"{{"__type":"com.amazonaws.ecr#{kind}","message":"{words}"}}"#);
    tagwarden::demo::registry::FaultKind::Status { status: 400, headers: Vec::new(), body }
}

/// A registry with settings and policies, at a time that can be set.
pub(crate) async fn fixture(
    change: impl FnOnce(EcrOptions) -> EcrOptions,
    lines: &str,
    policies: &str,
) -> WorkflowFixture {
    let now = Arc::new(Mutex::new(noon()));
    let theirs = Arc::clone(&now);
    let options = EcrOptions { clock: Arc::new(move || *theirs.lock().unwrap()), ..options() };
    let registry = start(change(options)).await;
    let walk = WorkflowFixture::at(registry, KIND, now);
    std::fs::write(walk.path("secret"), KEYS.1).unwrap();
    walk.settings("approved", lines, "");
    walk.policies(policies);
    walk
}
