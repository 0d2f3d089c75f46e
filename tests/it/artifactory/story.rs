//! Artifactory as a platform owner uses it: plans and reports, and refusals of everything that would remove.

use std::fs;
use std::path::PathBuf;

use tagwarden::apply::Clock;
use tagwarden::demo::blob::Blob;
use tagwarden::demo::image::multi_arch;
use tagwarden::report::{self, Format, PlanDocument};
use tagwarden::workflow::{self, App, Approval, RunError, RunResult};
use tempfile::TempDir;
use tokio::sync::watch;

use super::simulator::USER;
use super::*;

const POLICIES: &str = "policies:\n  - name: builds\n    select: { tags: [\"build-*\"] }\n    keep:\n      - newest: 10\n      \
                        - pulled_within: 30d\n    mode: enforce\n  - name: releases\n    select: { tags: [\"v*\"] }\n    keep: all\n";

/// A folder with settings and policies for a server.
struct Desk {
    folder: TempDir,
    server: Simulator,
}

impl Desk {
    /// With 300 tags: builds, of which two were downloaded lately, and releases, of which one is an index.
    async fn new(mode: &str, lines: &str) -> Self {
        let server = Simulator::start(noon()).await;
        for number in 0..290 {
            push(&server, &format!("build-{number:03}"), 400 - number);
        }
        for number in 0..9 {
            push(&server, &format!("v{number}"), 300);
        }
        let index = index(&server);
        server.change(|content| {
            content.put(KEY, "shop/api/v9", INDEX, &index, days_ago(300));
            content.file(KEY, "shop/api/build-003", MANIFEST).downloads = vec![days_ago(1)];
            content.file(KEY, "shop/api/build-004", MANIFEST).downloads = vec![days_ago(40), days_ago(29)];
            content.file(KEY, "shop/api/build-005", MANIFEST).downloads = vec![days_ago(31)];
        });
        let desk = Self { folder: tempfile::tempdir().unwrap(), server };
        desk.settings(mode, lines);
        fs::write(desk.path("password"), USER.1).unwrap();
        fs::write(desk.path("token"), TOKEN).unwrap();
        fs::write(desk.path("policies.yaml"), POLICIES).unwrap();
        desk
    }

    fn settings(&self, mode: &str, lines: &str) {
        let text = format!(
            "mode = \"{mode}\"\npolicies = \"policies.yaml\"\nstate = \"sqlite:tagwarden.db\"\n[limits]\npercent = 100\n\
             [registries.main]\nkind = \"artifactory\"\nendpoint = \"{}\"\n\
             auth = {{ kind = \"basic\", username = \"{}\", password_file = \"password\" }}\n{lines}\n",
            self.server.url, USER.0
        );
        fs::write(self.path("tagwarden.toml"), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn open(&self) -> Result<App, RunError> {
        let loaded = workflow::load(&self.path("tagwarden.toml"), std::iter::empty())?;
        let clock: Clock = Arc::new(noon);
        let stop = watch::Sender::new(false);
        App::open_with(loaded, "tester@here".into(), clock, stop.subscribe(), quick()).await
    }

    async fn plan(&self) -> PlanDocument {
        let app = self.open().await.unwrap();
        let planned = app.plan(None, &()).await.unwrap();
        app.close().await;
        planned.document
    }

    async fn run(&self) -> Result<RunResult, RunError> {
        let app = self.open().await.unwrap();
        let ended = app.run(&()).await;
        app.close().await;
        ended
    }
}

/// An index of two images, which lie in folders of their own.
fn index(server: &Simulator) -> Vec<u8> {
    let index = multi_arch(days_ago(300), |platform| vec![Blob::layer(&format!("{platform:?}"), 300)]);
    server.change(|content| {
        for child in &index.children {
            content.put(KEY, &format!("shop/api/{}", child.digest), MANIFEST, &child.bytes, days_ago(300));
        }
    });
    index.bytes.to_vec()
}

/// The tags that a plan would remove.
fn removed(plan: &PlanDocument) -> Vec<String> {
    let json: serde_json::Value = serde_json::from_str(&report::render(plan, Format::Json)).unwrap();
    json["removals"].as_array().unwrap().iter().map(|row| row["tag"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_plan_goes_by_pushes_and_downloads_and_refuses_its_removals() {
    let desk = Desk::new("approved", "accept = [\"pull-times\"]").await;
    let plan = desk.plan().await;
    assert_eq!(plan.summary.tags, 300);
    let expired = removed(&plan);
    assert_eq!(expired.len(), 290 - 10 - 2);
    assert!(expired.contains(&"build-005".to_owned()) && !expired.contains(&"build-004".to_owned()), "{expired:?}");
    let [refusal] = plan.refusals.as_slice() else { panic!("{:?}", plan.refusals) };
    assert_eq!(refusal.kind, "removal-impossible");
    for words in ["only reads Artifactory", "deletes the image"] {
        assert!(refusal.message.contains(words), "{}", refusal.message);
    }
    let text = report::render(&plan, Format::Text);
    assert!(text.contains("only reads Artifactory"), "{text}");
    // One search, and the index, which may hold what expires. No image is downloaded: that would count as its use.
    let asked = desk.server.requests();
    assert_eq!(asked["POST /artifactory/api/search/aql"], 1, "{asked:?}");
    assert_eq!(asked["GET /artifactory/api/docker/docker-local/v2/shop/api/manifests/"], 1, "{asked:?}");
    desk.plan().await;
    let asked = desk.server.requests();
    assert!(asked.keys().all(|path| !path.contains("/manifests/")), "an index is read once: {asked:?}");
    assert!(asked.keys().all(|path| !path.starts_with("DELETE") && !path.starts_with("PUT")), "{asked:?}");
}

#[tokio::test]
async fn nothing_is_removed_whatever_asks_for_it() {
    let desk = Desk::new("approved", "accept = [\"pull-times\"]").await;
    let plan = desk.plan().await;
    let before = desk.server.change(|content| content.files.len());
    let app = desk.open().await.unwrap();
    let applied = app.apply(&report::render(&plan, Format::Json), &Approval::default(), &()).await;
    app.close().await;
    let code = applied.as_ref().map_or_else(RunError::exit_code, |ended| ended.outcome.exit_code());
    assert_eq!(code, 3, "{applied:?}");
    desk.settings("enforce", "accept = [\"pull-times\"]");
    let ran = desk.run().await;
    let code = ran.as_ref().map_or_else(RunError::exit_code, |ended| ended.outcome.exit_code());
    assert_eq!(code, 3, "{ran:?}");
    assert_eq!(desk.server.change(|content| content.files.len()), before);
    let asked = desk.server.requests();
    assert!(asked.keys().all(|path| path.starts_with("GET ") || path.ends_with("/search/aql")), "{asked:?}");
}

#[tokio::test]
async fn settings_for_removals_are_refused() {
    for lines in ["removal = \"manifest\"", "can_untag = \"yes\""] {
        let desk = Desk::new("enforce", lines).await;
        let error = desk.open().await.err().map(|error| tagwarden::domain::chain(&error)).unwrap_or_default();
        assert!(error.contains("only reads Artifactory"), "{lines}: {error}");
    }
}

#[tokio::test]
async fn downloads_that_may_not_be_recorded_keep_everything() {
    let desk = Desk::new("approved", "").await;
    assert_eq!(removed(&desk.plan().await), Vec::<String>::new());
}

#[tokio::test]
async fn part_of_a_list_keeps_everything() {
    let desk = Desk::new("approved", "accept = [\"pull-times\"]").await;
    desk.server.change(|content| content.search_limit = 250);
    let plan = desk.plan().await;
    assert_eq!((plan.summary.tags, removed(&plan).len()), (0, 0));
    assert!(report::render(&plan, Format::Text).contains("results are trimmed"));
}

#[tokio::test]
async fn ten_thousand_tags_take_two_searches_and_a_list() {
    let desk = Desk::new("approved", "accept = [\"pull-times\"]").await;
    desk.server.change(|content| {
        for number in 0..9_700 {
            content.put(KEY, &format!("shop/api/x{number:05}"), MANIFEST, format!("{number}").as_bytes(), days_ago(1));
        }
    });
    let plan = desk.plan().await;
    assert_eq!(plan.summary.tags, 10_000);
    let asked = desk.server.requests();
    // Five thousand files on a page, which overlap by one. The least would be two.
    let expected = [
        ("GET /artifactory/api/repositories", 1),
        ("GET /artifactory/api/docker/docker-local/v2/_catalog", 1),
        ("POST /artifactory/api/search/aql", 3),
        // The index, once.
        ("GET /artifactory/api/docker/docker-local/v2/shop/api/manifests/", 1),
    ];
    assert_eq!(asked, expected.map(|(path, count)| (path.to_owned(), count)).into());
}

#[tokio::test]
async fn the_address_of_one_repository_needs_that_of_the_api() {
    let desk = Desk::new("approved", "").await;
    let api = format!("api = {{ endpoint = \"{}/artifactory\", token_file = \"token\" }}\n", desk.server.url);
    desk.settings("approved", &format!("{api}namespaces = [\"docker-local\"]\naccept = [\"pull-times\"]"));
    let plan = desk.plan().await;
    let json: serde_json::Value = serde_json::from_str(&report::render(&plan, Format::Json)).unwrap();
    assert_eq!((plan.summary.tags, json["removals"][0]["repository"].as_str()), (300, Some("shop/api")));
    desk.settings("approved", &api);
    let error = desk.open().await.err().map(|error| tagwarden::domain::chain(&error)).unwrap_or_default();
    assert!(error.contains("`namespaces` has to name it"), "{error}");
}
