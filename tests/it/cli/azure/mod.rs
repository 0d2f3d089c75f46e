//! Azure Container Registry from outside: the binary, a registry that speaks it, and imitations of what Azure has around.

use std::time::Duration;

use http::Method;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tagwarden::demo::registry::{AcrOptions, EmbeddedRegistry, Fault, FaultKind, Identity, Permission, ScopedUser};
use tokio::process::Child;

use super::{CliFixture, CliOutput, image, tags};
use crate::support::acr::{ADMIN, clock, start};
use crate::support::azure::{CLIENT, Entra, ResourceManager, SECRET, TENANT, identity_endpoint};

mod authentication;
mod missing_manifests;
mod permissions;
mod registry_info;
mod removal;

const SUBSCRIPTION: &str = "00000000-0000-0000-0000-000000000001";
const POLICIES: &str = "policies:\n  - name: old\n    select: { repositories: [\"shop/**\"], tags: [\"c-*\"] }\n    \
     keep: [{ newest: 2 }]\n    mode: enforce\n";
const BASIC: &str = "auth = { kind = \"basic\", username = \"contoso\", password_file = \"secret/password\" }";

/// Puts an Azure CLI on the path that gives this token and nothing else.
pub(super) fn az_that_says(desk: &mut CliFixture, token: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let answer = format!(r#"{{"accessToken":"{token}","expires_on":4102444800,"tokenType":"Bearer"}}"#);
    desk.write("secret/answer.json", &answer);
    let answer = desk.path("secret/answer.json");
    desk.write("bin/az", &format!("#!/bin/sh\necho \"$@\" >> {0}.asked\ncat {0}\n", answer.display()));
    std::fs::set_permissions(desk.path("bin/az"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", desk.path("bin").display());
    desk.set("PATH", &path);
}

/// A registry, and a desk that works on it.
struct Azure {
    registry: EmbeddedRegistry,
    desk: CliFixture,
}

/// Tokens that the imitated authorities give.
fn entra_tokens() -> Vec<String> {
    let numbered = (1..100).map(|number| format!("token-{number}"));
    numbered.chain(["token-of-app-service".to_owned(), "token-of-az".to_owned()]).collect()
}

/// Whoever comes with one of [`entra_tokens`] and may do this in the whole registry.
fn cleaner(permissions: impl IntoIterator<Item = Permission>) -> Identity {
    Identity { tokens: entra_tokens(), lists_catalog: true, ..Identity::new("cleaner", "", permissions) }
}

/// A registry with an administrator.
fn options() -> AcrOptions {
    AcrOptions::new(clock()).admin(ADMIN.0, ADMIN.1)
}

impl Azure {
    /// `shop/api` with the tags `c-1` to `c-5`, oldest first, and these lines in the registry's settings.
    async fn with(options: AcrOptions, lines: &str) -> Self {
        let registry = start(options).await;
        let azure = Self { registry, desk: CliFixture::new() };
        azure.desk.write("secret/password", ADMIN.1);
        azure.desk.write("policies/all.yaml", POLICIES);
        azure.desk.write("evidence/all.txt", "registry.example/other/thing:v1\n");
        azure.settings("approved", lines, "");
        for number in 1..=5 {
            azure.push("shop/api", &format!("c-{number}"), 100 - number);
        }
        azure
    }

    fn settings(&self, mode: &str, lines: &str, rest: &str) {
        let url = self.registry.url();
        let text = format!(
            "mode = \"{mode}\"\n[limits]\npercent = 100\n[registries.contoso]\nkind = \"acr\"\nendpoint = \"{url}\"\n\
             {lines}\n{rest}\n"
        );
        self.desk.write("tagwarden.toml", &text);
    }

    /// Pushes an image of its own so many days ago.
    fn push(&self, repository: &str, tag: &str, days: i64) {
        let then: Timestamp = clock()() - SignedDuration::from_hours(24 * days);
        self.registry.content(|content| {
            content.put_image(repository, Some(tag), &image(&format!("{repository}-{tag}"), "2024-01-01"));
            assert!(content.date_tag(repository, tag, then, then));
        });
    }

    async fn run(&self, words: &str) -> CliOutput {
        self.desk.run(words).await
    }

    /// Plans, applies and restores, and leaves everything as it was.
    async fn walk(&self) {
        let before = self.registry.tags("shop/api");
        self.run("plan --out plan.json --out plan.md").await.exits(0);
        let applied = self.run("apply plan.json --format json").await.exits(0).json();
        assert_eq!(tags(&self.registry, "shop/api"), ["c-4", "c-5"], "{applied}");
        let id = applied["id"].as_str().or(applied["run"].as_str()).unwrap_or_else(|| panic!("{applied}"));
        self.run(&format!("restore --run {id}")).await.exits(0);
        assert_eq!(self.registry.tags("shop/api"), before);
    }

    /// Makes each removal take a while, one after the other.
    fn slow_down(&mut self) {
        self.desk.set("TAGWARDEN__REGISTRIES__CONTOSO__CONCURRENCY", "1");
        let slow = FaultKind::Delay(Duration::from_millis(50));
        self.registry.inject(Fault::on("/_tags/", slow).method(Method::DELETE));
    }

    /// Starts the binary and waits until it has sent so many deletions.
    async fn running(&self, words: &str, deletions: usize) -> Child {
        let child = self.desk.command(words).spawn().unwrap();
        while self.deletions() < deletions {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        child
    }

    fn deletions(&self) -> usize {
        self.registry.requests().iter().filter(|request| request.method == Method::DELETE).count()
    }
}

async fn ended(child: Child) -> CliOutput {
    let output = child.wait_with_output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    CliOutput { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

/// The entries of the latest run's journal.
async fn journal(azure: &Azure) -> (Value, Value) {
    let runs = azure.run("runs --format json").await.exits(0).json()["runs"].clone();
    let id = runs[0]["id"].as_str().unwrap().to_owned();
    let shown = azure.run(&format!("runs show {id} --format json")).await.exits(0).json();
    (shown["journal"].clone(), shown)
}
