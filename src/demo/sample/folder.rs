//! The files of the sample: settings, policies, release records, deployments.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::registry::Admin;
use super::{
    API, KEPT_UNTIL, KEPT_UNTIL_EXPIRED, LIVE_RELEASE, PINNED, PREVIOUS_RELEASE, REGISTRY, RELEASES, STAGED, Sample,
    WEB, WORKER,
};

const POLICIES: [(&str, &str); 3] = [
    ("shop.yaml", include_str!("files/policies/shop.yaml")),
    ("releases.yaml", include_str!("files/policies/releases.yaml")),
    ("platform.yaml", include_str!("files/policies/platform.yaml")),
];
const README: &str = include_str!("files/README.md");

/// The password file that the settings name.
const PASSWORD_FILE: &str = "registry-password";

/// Another name of the registry, which the deployments use.
const ALIAS: &str = "images.sample.example";

impl Sample {
    /// Writes settings, policies, evidence and a README for the sample in a registry at `endpoint`
    /// (`http://127.0.0.1:<port>`). The registry has the ACR dialect and requires `admin` if given, and is an open
    /// plain one otherwise. Other files in the folder are kept; files of the same names are replaced.
    ///
    /// # Errors
    /// Returns an error if a folder or file cannot be written.
    pub fn write_folder(&self, folder: &Path, endpoint: &str, admin: Option<&Admin>) -> io::Result<()> {
        let host = endpoint.split_once("://").map_or(endpoint, |(_, host)| host).trim_end_matches('/');
        for name in ["policies", "releases", "deploy"] {
            fs::create_dir_all(folder.join(name))?;
        }
        fs::write(folder.join("README.md"), README.replace("{endpoint}", endpoint).replace("{host}", host))?;
        fs::write(folder.join("tagwarden.toml"), settings(endpoint, admin))?;
        if let Some(admin) = admin {
            write_secret(&folder.join(PASSWORD_FILE), &admin.password)?;
        }
        for (name, text) in POLICIES {
            fs::write(folder.join("policies").join(name), text)?;
        }
        for (name, records) in self.records(host) {
            let file = json!({ "generated_at": self.ago(0, 1).to_string(), "releases": records });
            fs::write(folder.join("releases").join(name), format!("{file:#}\n"))?;
        }
        for (name, text) in self.deployments(host) {
            fs::write(folder.join("deploy").join(name), text)?;
        }
        Ok(())
    }

    /// Creates the release records: one file for each month with a release.
    fn records(&self, host: &str) -> BTreeMap<String, Vec<Value>> {
        let mut files = BTreeMap::<String, Vec<Value>>::new();
        let mut add = |released: Timestamp, mut record: Value| {
            record["released_at"] = json!(released.to_string());
            files.entry(released.strftime("%Y-%m.json").to_string()).or_default().push(record);
        };
        let both = |repository, tag: &str| format!("{host}/{repository}:{tag}@{}", self.digest(repository, tag));
        let record = |image: String, service: &str, environment: &str, status: &str| {
            json!({
                "image": image, "service": service, "environment": environment, "status": status,
                "owner": "shop-team@sample.example", "approved_by": "release-board@sample.example", "branch": "main",
            })
        };
        for days in RELEASES {
            let status = match days {
                LIVE_RELEASE => "active",
                PREVIOUS_RELEASE => "rollback",
                _ => "retired",
            };
            let mut release = record(both(API, &self.release(days)), "api", "production", status);
            release["build"] = json!(self.candidate(days));
            add(self.ago(days - 1, 0), release);
        }
        // The record of the former `prod`: the tag has moved since, and the next export will show that.
        let moved = format!("{host}/{API}:prod@{}", self.digest(API, &self.release(PREVIOUS_RELEASE)));
        add(self.ago(PREVIOUS_RELEASE - 1, 1), record(moved, "api", "production-eu", "active"));
        add(self.ago(STAGED - 1, 0), record(both(API, &self.candidate(STAGED)), "api", "staging", "active"));
        for (days, until) in [(KEPT_UNTIL, self.ago(-10, 0)), (KEPT_UNTIL_EXPIRED, self.ago(5, 0))] {
            let mut kept = record(both(API, &self.candidate(days)), "api", "load-test", "active");
            kept["keep_until"] = json!(until.to_string());
            add(self.ago(days - 1, 0), kept);
        }
        let pinned = format!("{host}/{WORKER}@{}", self.digest(WORKER, &self.candidate(PINNED)));
        add(self.ago(PINNED - 1, 0), record(pinned, "worker", "production", "active"));
        add(self.ago(8, 0), record(format!("{host}/{WORKER}:prod"), "worker", "production", "active"));
        files
    }

    fn deployments(&self, host: &str) -> [(&'static str, String); 3] {
        let arm = self
            .pushes
            .iter()
            .find(|push| push.tag.as_deref() == Some("arm64-v1.1.0"))
            .map(|push| push.image.digest.to_string())
            .expect("the sample has a tag of one platform");
        let values = format!(
            "# Helm values of the shop's web front end.\n\
             web:\n  replicas: 3\n  image:\n    repository: {ALIAS}/{WEB}\n    tag: v1.2.0\n\
             docs:\n  image:\n    repository: {host}/{WEB}\n    tag: prod\n"
        );
        let kustomization = format!(
            "# Kiosks run the old front end on arm64, pinned to one platform's digest.\n\
             apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n  - kiosk.yaml\n\
             images:\n  - name: web\n    newName: {host}/{WEB}\n    digest: {arm}\n\
             \x20 - name: worker\n    newName: {host}/{WORKER}\n    newTag: prod\n"
        );
        let compose = format!(
            "# What developers run on their own machines.\n\
             services:\n  api:\n    image: {host}/{API}:stable\n  database:\n    image: docker.io/library/postgres:17\n"
        );
        [("values.yaml", values), ("kustomization.yaml", kustomization), ("compose.yaml", compose)]
    }
}

/// Writes a file that no other user of this machine can read.
fn write_secret(path: &Path, secret: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(secret.as_bytes())
}

fn settings(endpoint: &str, admin: Option<&Admin>) -> String {
    let (kind, auth) = match admin {
        None => ("distribution", "{ kind = \"anonymous\" }".to_owned()),
        Some(Admin { user, .. }) => (
            "acr",
            format!(
                "{{ kind = \"basic\", username = \"{user}\", password_file = \"{PASSWORD_FILE}\" }}\n\
                 bytes    = \"exact\"              # every manifest is pulled once, so that bytes are those of layers"
            ),
        ),
    };
    format!(
        r#"# Settings for the sample that `tagwarden demo` shows. The registry is embedded in that process.
mode     = "approved"             # nothing is removed but by `tagwarden apply` of a plan that someone has read
policies = "policies"
state    = "sqlite:tagwarden.db"
plan_ttl = "24h"

[schedule]
cron     = "0 3 * * *"
timezone = "Europe/London"

[registries.{REGISTRY}]
kind     = "{kind}"
endpoint = "{endpoint}"
aliases  = ["{ALIAS}"]
auth     = {auth}

[sources.releases]
kind     = "release-records"
paths    = ["releases/*.json"]
max_age  = "7d"                   # an export that stopped coming must not look like an answer

[sources.deployments]
kind     = "image-references"
paths    = ["deploy/*.yaml"]

[limits]
untag    = 200
percent  = 75                     # the first cleaning of a registry takes more than any night after it
leave    = 2
"#
    )
}
