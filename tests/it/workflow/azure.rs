//! The same walk over Azure Container Registry, which tells push times and locks and what a removed tag named.

use http::Method;
use jiff::SignedDuration;
use tagwarden::demo::registry::{AcrOptions, Attributes, Dialect, Fault, FaultKind, Rate, ServerRateLimits, Target};

use super::*;
use crate::support::acr::ADMIN;

pub(crate) const KIND: &str = "kind = \"acr\"\nauth = { kind = \"basic\", username = \"contoso\", password_file = \"password\" }\nconcurrency = 4";

impl WorkflowFixture {
    /// An Azure registry with [`GOING`] and what stays, in mode `approved`.
    pub(crate) async fn azure(change: impl FnOnce(AcrOptions) -> AcrOptions) -> Self {
        let now = Arc::new(Mutex::new(noon()));
        let theirs = Arc::clone(&now);
        let options = AcrOptions::new(Arc::new(move || *theirs.lock().unwrap())).admin(ADMIN.0, ADMIN.1);
        let options = Options { dialect: Dialect::acr(change(options)), ..Options::default() };
        let walk = Self::at(EmbeddedRegistry::start(options).await.unwrap(), KIND, now);
        fs::write(walk.path("password"), ADMIN.1).unwrap();
        walk.settings("approved", "", "");
        walk.policies(POLICIES);
        for number in 1..=6 {
            walk.push(&format!("candidate-{number}"), 100 - number);
        }
        walk.push("release-1", 50);
        walk
    }

    /// Pushes an image of its own so many days before now.
    pub(crate) fn push(&self, tag: &str, days: i64) {
        self.registry.content(|content| {
            content.put_image("shop/api", Some(tag), &image(tag, days));
            let then = content.now() - SignedDuration::from_hours(24 * days);
            assert!(content.date_tag("shop/api", tag, then, then));
        });
        self.snapshot_tags();
    }

    fn lock(&self, target: Target<'_>, attributes: Attributes) {
        self.registry.content(|content| *content.attributes_mut("shop/api", target).unwrap() = attributes);
    }
}

fn undeletable() -> Attributes {
    Attributes { delete: false, ..Attributes::default() }
}

#[tokio::test]
async fn a_plan_is_applied_and_taken_back() {
    let walk = WorkflowFixture::azure(|options| options).await;
    let plan = walk.plan().await;
    assert_eq!(plan.removals.len(), 4);
    let pulled =
        |walk: &WorkflowFixture| walk.registry.requests().iter().any(|request| request.path.starts_with("/v2/shop"));
    assert!(!pulled(&walk), "a plan pulls nothing");
    let came = walk.apply(&plan).await;
    assert_eq!((came.code, came.labels()), (0, vec!["done"; 4]), "{}", came.text);
    assert!(came.text.contains("x-ms-correlation-request-id"), "{}", came.text);
    let deletions = walk.registry.requests().into_iter().filter(|request| request.method == Method::DELETE);
    let deletions: Vec<String> = deletions.map(|request| request.path).collect();
    assert!(deletions.iter().all(|path| path.starts_with("/acr/v1/shop/api/_tags/candidate-")), "{deletions:?}");
    let restored = walk.restore(&came.run_id()).await.unwrap();
    assert_eq!(restored.outcome().exit_code(), 0);
    assert_eq!(walk.tags(), *walk.before.lock().unwrap());
}

/// What happens between the plan and its application, the exit code, what came of each of [`GOING`], and a phrase of it.
type Row = (&'static str, fn(&WorkflowFixture), u8, [&'static str; 4], &'static str);

fn moved() -> Vec<Row> {
    vec![
        (
            "moved",
            |walk| {
                let elsewhere = walk.digest("shop/api", "candidate-6");
                walk.registry.content(|content| assert!(content.move_tag("shop/api", "candidate-2", &elsewhere)));
                walk.snapshot_tags();
            },
            0,
            ["done", "moved", "done", "done"],
            "candidate-2",
        ),
        (
            "moved after the claims were gathered",
            |walk| {
                let elsewhere = walk.digest("shop/api", "candidate-6");
                let moves = FaultKind::before_request(move |content| {
                    assert!(content.move_tag("shop/api", "candidate-2", &elsewhere));
                });
                walk.registry.inject(Fault::on("_tags/candidate-2", moves).method(Method::GET).times(1));
            },
            0,
            ["done", "moved", "done", "done"],
            "has moved to",
        ),
        (
            "moved in the instant of its removal",
            |walk| {
                let elsewhere = walk.digest("shop/api", "candidate-6");
                let moves = FaultKind::before_request(move |content| {
                    assert!(content.move_tag("shop/api", "candidate-2", &elsewhere));
                });
                walk.registry.inject(Fault::on("_tags/candidate-2", moves).method(Method::DELETE).times(1));
            },
            0,
            ["done", "reverted", "done", "done"],
            "in the instant of its removal (x-ms-correlation-request-id",
        ),
        (
            "the same image pushed again",
            |walk| {
                let same = walk.digest("shop/api", "candidate-3");
                let again = FaultKind::before_request(move |content| {
                    content.move_tag("shop/api", "candidate-3", &same);
                    let now = content.now();
                    assert!(content.date_tag("shop/api", "candidate-3", now, now));
                });
                walk.registry.inject(Fault::on("_tags/candidate-3", again).method(Method::GET).times(1));
            },
            0,
            ["done", "done", "kept", "done"],
            "pushed to it again",
        ),
    ]
}

fn held_up() -> Vec<Row> {
    vec![
        (
            "the tag locked",
            |walk| walk.lock(Target::Tag("candidate-1"), undeletable()),
            0,
            ["kept", "done", "done", "done"],
            "",
        ),
        (
            "the repository locked",
            |walk| walk.lock(Target::Repository, Attributes { write: false, ..Attributes::default() }),
            0,
            ["kept"; 4],
            "",
        ),
        (
            "locked right before the removal",
            |walk| {
                let locks = FaultKind::before_request(|content| {
                    *content.attributes_mut("shop/api", Target::Tag("candidate-4")).unwrap() = undeletable();
                });
                walk.registry.inject(Fault::on("_tags/candidate-4", locks).method(Method::DELETE).times(1));
            },
            0,
            ["done", "done", "done", "locked"],
            "REGISTRY_DISALLOWED_OPERATION",
        ),
        (
            "a proxy in between",
            |walk| walk.registry.inject(Fault::on("_tags/candidate-2", FaultKind::HtmlPage).method(Method::DELETE)),
            4,
            ["done", "failed", "done", "done"],
            "web page",
        ),
        (
            "tokens ended",
            |walk| {
                let ends = FaultKind::status(401);
                walk.registry.inject(Fault::on("_tags/candidate-2", ends).method(Method::DELETE).times(1));
                walk.registry.expire_tokens();
            },
            0,
            ["done"; 4],
            "",
        ),
    ]
}

#[tokio::test]
async fn what_changes_between_plan_and_removal_stays() {
    for (what, happens, code, labels, phrase) in moved().into_iter().chain(held_up()) {
        let walk = WorkflowFixture::azure(|options| options).await;
        let plan = walk.plan().await;
        happens(&walk);
        let came = walk.apply_text(&report::render(&plan, Format::Json)).await;
        assert_eq!((came.code, came.labels()), (code, labels.to_vec()), "{what}: {}", came.text);
        assert!(came.text.contains(phrase), "{what}: {}", came.text);
        let left = walk.remaining_tags();
        let still = EXPIRED_TAGS.iter().zip(labels).filter(|(_, label)| *label != "done").map(|(tag, _)| *tag);
        assert_eq!(left, still.collect::<Vec<_>>(), "{what}: {}", came.text);
    }
}

#[tokio::test]
async fn a_registry_that_throttles_is_waited_for() {
    let walk = WorkflowFixture::azure(|options| options).await;
    let limits =
        ServerRateLimits { delete: Some(Rate { per_minute: 600, capacity: 1 }), ..ServerRateLimits::default() };
    walk.registry.set_rate_limits(limits);
    let plan = walk.plan().await;
    let came = walk.apply(&plan).await;
    assert_eq!((came.code, came.labels()), (0, vec!["done"; 4]), "{}", came.text);
}

#[tokio::test]
async fn a_catalogue_that_is_cut_short_is_read_on() {
    let walk = WorkflowFixture::azure(|options| options).await;
    walk.push("candidate-7", 1);
    let cut = FaultKind::Status {
        status: 200,
        headers: vec![("content-type".into(), "application/json".into())],
        body: r#"{"repositories":["aaa/first"]}"#.into(),
    };
    walk.registry.content(|content| content.put_image("aaa/first", Some("v1"), &image("first", 1)));
    walk.registry.inject(Fault::on("/acr/v1/_catalog", cut).times(1));
    let plan = walk.plan().await;
    assert_eq!(plan.registries[0].repositories, 2);
}

#[tokio::test]
async fn what_is_locked_is_protected_by_which_lock() {
    let walk = WorkflowFixture::azure(|options| options).await;
    walk.lock(Target::Tag("candidate-1"), undeletable());
    let digest = walk.digest("shop/api", "candidate-2");
    walk.lock(Target::Manifest(&digest), Attributes { write: false, ..Attributes::default() });
    let plan = walk.plan().await;
    let text = report::render(&plan, Format::Json);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let kept = |tag: &str| {
        let kept = json["kept"].as_array().unwrap().iter().find(|kept| kept["tag"] == tag).unwrap();
        (kept["verdict"].as_str().unwrap().to_owned(), kept["reasons"].to_string())
    };
    for (tag, what, lock) in [("candidate-1", "tag", "delete"), ("candidate-2", "manifest", "write")] {
        let (verdict, reasons) = kept(tag);
        assert_eq!(verdict, "protected", "{tag}");
        assert!(reasons.contains(what) && reasons.contains(lock), "{tag}: {reasons}");
    }
}

#[tokio::test]
async fn a_clock_that_differs_is_a_reason_not_to_enforce() {
    for (skew, refused) in [(60, false), (-60, false), (121 + 60, true), (-121 - 60, true)] {
        let walk = WorkflowFixture::azure(|options| options).await;
        walk.settings("enforce", "", "");
        walk.registry.set_date_skew(SignedDuration::from_secs(skew));
        let came = walk.run().await;
        assert_eq!(came.code, if refused { 3 } else { 0 }, "{skew}: {}", came.text);
        assert_eq!(walk.remaining_tags().is_empty(), !refused, "{skew}");
        assert_eq!(came.text.contains("refusal clock"), refused, "{}", came.text);
    }
}
