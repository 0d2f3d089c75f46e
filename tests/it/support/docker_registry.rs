//! A real registry: Debian's `docker-registry` (distribution 2.8) on loopback, with a store of its own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use tempfile::TempDir;
use url::Url;
use uuid::Uuid;

use super::content::Content;

/// The user of a registry that asks for one.
pub(crate) const USER: &str = "ada";
/// That user's password; it has a colon, as passwords may.
pub(crate) const PASSWORD: &str = "open:sesame";
const BCRYPT: &str = "$2b$04$h1Iv3vT0My7LC1TBDkrnJO4VwcYs/WoNoEwbyCK2B6QTt70zPmub6";

/// How the registry is set up.
#[derive(Default)]
pub(crate) struct Setup {
    /// Whether it deletes by digest.
    pub(crate) delete: bool,
    /// Whether it asks for [`USER`] and [`PASSWORD`].
    pub(crate) login: bool,
    /// The certificate and the key to serve https with, as PEM.
    pub(crate) tls: Option<(String, String)>,
}

/// A running registry, stopped when dropped.
pub(crate) struct DockerRegistry {
    pub(crate) endpoint: Url,
    /// Its files, removed when it is dropped.
    folder: TempDir,
    client: reqwest::Client,
    login: bool,
    process: Child,
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl DockerRegistry {
    /// Starts it and waits until it answers.
    pub(crate) async fn start(setup: Setup) -> Self {
        for _ in 0..5 {
            if let Some(running) = Self::try_start(&setup).await {
                return running;
            }
        }
        panic!("docker-registry did not come up on any of five ports");
    }

    /// Somebody else may take the free port first, and may even be another such registry: a header tells them apart.
    async fn try_start(setup: &Setup) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mark = Uuid::now_v7().to_string();
        let config = configuration(setup, &folder, port, &mark);
        let mut process = match Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .env_clear()
            .stdout(fs::File::create(folder.path().join("access")).unwrap())
            .stderr(fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
        {
            Ok(process) => process,
            Err(error) => panic!(
                "docker-registry cannot be run ({error}); install the Debian package `docker-registry`, which these tests \
                 talk to"
            ),
        };
        let scheme = if setup.tls.is_some() { "https" } else { "http" };
        let client = reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true).build().unwrap();
        let endpoint: Url = format!("{scheme}://127.0.0.1:{port}").parse().unwrap();
        for _ in 0..400 {
            if let Ok(answer) = client.get(endpoint.join("/v2/").unwrap()).send().await
                && answer.headers().get("x-mark").is_some_and(|value| value == mark.as_str())
            {
                return Some(Self { endpoint, folder, client, login: setup.login, process });
            }
            if process.try_wait().unwrap().is_some() {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        let _ = process.kill();
        let _ = process.wait();
        None
    }

    /// Its access log: one line for each request that was answered.
    pub(crate) fn access_log(&self) -> Vec<String> {
        let log = fs::read_to_string(self.folder.path().join("access")).unwrap();
        log.lines().filter(|line| line.contains(" /v2/")).map(str::to_owned).collect()
    }

    /// The files in which it holds its content, by digest.
    pub(crate) fn files(&self) -> BTreeMap<String, PathBuf> {
        let folder = |path: PathBuf| fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        let blobs = folder(self.folder.path().join("store/docker/registry/v2/blobs/sha256")).flat_map(folder);
        let named = blobs.map(|blob| (format!("sha256:{}", blob.file_name().unwrap().display()), blob.join("data")));
        named.filter(|(_, data)| data.exists()).collect()
    }

    /// Its own garbage collection, manifests without a tag included.
    pub(crate) fn collect_garbage(&self) {
        let config = self.folder.path().join("config.yml");
        let mut collection = Command::new("docker-registry");
        collection.args(["garbage-collect", "--delete-untagged"]).arg(config).env_clear();
        let done = collection.output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// Its host as image references write it: `127.0.0.1:<port>`.
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.endpoint.port().unwrap())
    }

    /// Puts a blob into a repository.
    pub(crate) async fn push_blob(&self, repository: &str, blob: &Content) {
        let uploads = self.endpoint.join(&format!("/v2/{repository}/blobs/uploads/")).unwrap();
        let begun = self.signed(self.client.post(uploads)).send().await.unwrap();
        assert_eq!(begun.status(), 202, "{}", begun.text().await.unwrap());
        let location = begun.headers()["location"].to_str().unwrap();
        let mut target = self.endpoint.join(location).unwrap();
        target.query_pairs_mut().append_pair("digest", &blob.digest.to_string());
        let done = self.signed(self.client.put(target)).body(blob.bytes.clone()).send().await.unwrap();
        assert_eq!(done.status(), 201, "{}", done.text().await.unwrap());
    }

    /// Puts a manifest under a tag, or under its digest where `reference` is that.
    pub(crate) async fn push_manifest(&self, repository: &str, reference: &str, manifest: &Content) {
        let target = self.endpoint.join(&format!("/v2/{repository}/manifests/{reference}")).unwrap();
        let request = self.client.put(target).header("content-type", &manifest.media_type).body(manifest.bytes.clone());
        let done = self.signed(request).send().await.unwrap();
        assert_eq!(done.status(), 201, "{}", done.text().await.unwrap());
    }

    /// The exact bytes behind a tag or digest, with their type; nothing if there are none.
    pub(crate) async fn pull_manifest(&self, repository: &str, reference: &str) -> Option<Content> {
        let target = self.endpoint.join(&format!("/v2/{repository}/manifests/{reference}")).unwrap();
        let accept = [super::content::IMAGE, super::content::INDEX].join(", ");
        let answer = self.signed(self.client.get(target).header("accept", accept)).send().await.unwrap();
        if answer.status() == 404 {
            return None;
        }
        assert_eq!(answer.status(), 200);
        let media_type = answer.headers()["content-type"].to_str().unwrap().to_owned();
        Some(Content::new(&media_type, answer.bytes().await.unwrap()))
    }

    fn signed(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        if self.login { request.basic_auth(USER, Some(PASSWORD)) } else { request }
    }
}

fn configuration(setup: &Setup, folder: &TempDir, port: u16, mark: &str) -> PathBuf {
    let path = |name: &str| folder.path().join(name);
    let mut text = format!(
        "version: 0.1\n\
         log: {{level: warn}}\n\
         storage:\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: {}}}\n\
         http:\n  addr: 127.0.0.1:{port}\n  headers: {{X-Mark: [{mark}]}}\n",
        path("store").display(),
        setup.delete,
    );
    if let Some((certificate, key)) = &setup.tls {
        fs::write(path("cert.pem"), certificate).unwrap();
        fs::write(path("key.pem"), key).unwrap();
        let (certificate, key) = (path("cert.pem"), path("key.pem"));
        let _ = writeln!(text, "  tls: {{certificate: {}, key: {}}}", certificate.display(), key.display());
    }
    if setup.login {
        fs::write(path("htpasswd"), format!("{USER}:{BCRYPT}\n")).unwrap();
        let _ = writeln!(text, "auth:\n  htpasswd: {{realm: tests, path: {}}}", path("htpasswd").display());
    }
    let file = path("config.yml");
    fs::write(&file, text).unwrap();
    file
}
