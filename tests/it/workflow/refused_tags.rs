//! Tags that a registry refuses to remove: reported, remembered, and no reason to leave the others.

use http::Method;
use tagwarden::demo::registry::{AuthMode, Fault, FaultKind};
use tagwarden::state::UntagExperience;

use super::*;

fn refusal(status: u16, code: &str) -> FaultKind {
    let body = format!(r#"{{"errors":[{{"code":"{code}","message":"not this one"}}]}}"#);
    FaultKind::Status { status, headers: Vec::new(), body }
}

impl WorkflowFixture {
    async fn enforcing() -> Self {
        let walk = Self::new().await;
        walk.settings("enforce", "", "");
        walk
    }

    fn refuse(&self, part: &str, status: u16, code: &str) {
        self.registry.inject(Fault::on(part, refusal(status, code)).method(Method::DELETE));
    }

    /// A run a night later, without the audit, which knows nothing of what came since.
    async fn night(&self) -> StepResult {
        self.advance_clock(24);
        self.registry.clear_requests();
        let app = self.open().await.unwrap();
        let came = StepResult::from_result(app.run(&()).await);
        app.close().await;
        came
    }
}

#[tokio::test]
async fn one_bad_tag_is_reported_and_the_others_go() {
    for (status, code) in [(403, "DENIED"), (400, "UNKNOWN"), (405, "UNSUPPORTED"), (403, "UNAUTHORIZED")] {
        for bad in 0..4 {
            let walk = WorkflowFixture::enforcing().await;
            walk.refuse(&format!("manifests/{}", EXPIRED_TAGS[bad]), status, code);
            let came = walk.run().await;
            let mut labels = ["done"; 4];
            labels[bad] = "failed";
            assert_eq!((came.code, came.labels()), (4, labels.to_vec()), "{status} {bad}: {}", came.text);
            assert_eq!(walk.remaining_tags(), [EXPIRED_TAGS[bad]]);
            assert!(came.text.contains(&status.to_string()), "{}", came.text);
        }
    }
}

#[tokio::test]
async fn a_bad_tag_is_tried_less_and_less_often_and_spoils_no_night_between() {
    let walk = WorkflowFixture::enforcing().await;
    walk.refuse("manifests/candidate-1", 403, "DENIED");
    assert_eq!(walk.run().await.code, 4);
    let mut codes = Vec::new();
    for night in 1..=8 {
        let came = walk.night().await;
        codes.push(came.code);
        let sent = walk.deletions_sent().len();
        if came.code == 0 {
            assert_eq!((came.labels()[0], sent), ("postponed", 0), "{night}: {}", came.text);
            assert!(came.text.contains("refused by the registry"), "{}", came.text);
            assert!(came.text.contains("next try on 2026-1"), "{}", came.text);
            assert!(came.text.contains("not this one"), "the registry's own words: {}", came.text);
        } else {
            assert_eq!((came.labels()[0], sent), ("failed", 1), "{night}: {}", came.text);
        }
    }
    assert_eq!(codes, [4, 0, 4, 0, 0, 0, 4, 0], "tried after one night, then two, then four");
    let plan = walk.plan().await;
    let view = plan.removals.iter().next().unwrap();
    let refused = view.refused_by_registry.as_ref().unwrap();
    assert_eq!((refused.times, refused.text.as_str()), (4, "refused by the registry 4 times, next try on 2026-12-05"));
    let text = report::render(&plan, Format::Text);
    assert!(text.contains("refused by the registry 4 times, next try on 2026-12-05"), "{text}");
    assert!(report::render(&plan, Format::Markdown).contains("refused by the registry 4 times"));

    // Once the registry allows it, it goes when its time has come, and is forgotten.
    walk.registry.clear_faults();
    for _ in 0..7 {
        walk.night().await;
    }
    assert_eq!(walk.remaining_tags(), Vec::<&str>::new());
    let app = walk.open().await.unwrap();
    assert_eq!(app.store.refused_tags(&walk.registry.url()).await.unwrap(), []);
    app.close().await;
}

#[tokio::test]
async fn a_tag_that_was_moved_is_another_matter() {
    let walk = WorkflowFixture::enforcing().await;
    walk.refuse("manifests/candidate-1", 403, "DENIED");
    assert_eq!(walk.run().await.code, 4);
    walk.put("shop/api", "candidate-1", &image("another", 99));
    walk.advance_clock(1);
    walk.plan().await;
    // It is as young as the first sight of it at this digest, so it goes only for younger ones.
    walk.advance_clock(1);
    for tag in ["candidate-7", "candidate-8"] {
        walk.put("shop/api", tag, &image(tag, 1));
    }
    let app = walk.open().await.unwrap();
    let came = StepResult::from_result(app.run(&()).await);
    app.close().await;
    assert_eq!((came.code, came.labels()[0]), (4, "failed"), "{}", came.text);
    let app = walk.open().await.unwrap();
    let known = app.store.refused_tags(&walk.registry.url()).await.unwrap();
    app.close().await;
    assert_eq!(known.iter().map(|tag| (tag.tag.as_str(), tag.refusal_count)).collect::<Vec<_>>(), [("candidate-1", 1)]);
}

/// What a person approves is tried, whenever that is.
#[tokio::test]
async fn an_approved_plan_does_not_wait_for_the_next_try() {
    let walk = WorkflowFixture::enforcing().await;
    walk.refuse("manifests/candidate-1", 403, "DENIED");
    assert_eq!(walk.run().await.code, 4);
    walk.registry.clear_faults();
    let plan = walk.plan().await;
    let came = StepResult::from_result(
        walk.open().await.unwrap().apply(&report::render(&plan, Format::Json), &Approval::default(), &()).await,
    );
    assert_eq!((came.code, came.labels()[0]), (0, "done"), "{}", came.text);
}

#[tokio::test]
async fn a_registry_that_refuses_everything_is_left_after_a_handful() {
    for (status, code, advice, experience) in [
        (403, "DENIED", "check the registry's `auth` and what that identity may do", None),
        (405, "UNSUPPORTED", "help: if the registry cannot delete tags", Some(UntagExperience::Unsupported)),
    ] {
        let walk = WorkflowFixture::enforcing().await;
        for part in ["web", "jobs", "cron", "mail", "docs", "edge"] {
            for number in 0..9 {
                let name = format!("{part}-{number}");
                walk.put(&format!("shop/{part}"), &format!("candidate-{number}"), &image(&name, 60 - number));
            }
        }
        walk.refuse("/manifests/candidate", status, code);
        let came = walk.run().await;
        assert_eq!(came.code, 4, "{}", came.text);
        assert_eq!(walk.deletions_sent().len(), 5, "{:?}", walk.deletions_sent());
        assert!(came.text.contains("the registry refused each of the first 5 removals"), "{}", came.text);
        assert!(came.text.contains(advice), "{}", came.text);
        assert_eq!(walk.experience().await, experience, "{status}");
        assert_eq!(walk.tags(), *walk.before.lock().unwrap());
    }
}

/// The tags that were refused when all were are not tried first again, and wait no longer than a night.
#[tokio::test]
async fn a_registry_whose_first_tags_are_all_bad_comes_to_the_others() {
    let walk = WorkflowFixture::enforcing().await;
    for number in 10..=24 {
        walk.put("shop/api", &format!("candidate-{number}"), &image(&format!("n-{number}"), 200 - number));
    }
    walk.refuse("manifests/candidate-1", 403, "DENIED");
    let first = walk.run().await;
    assert_eq!(first.code, 4, "{}", first.text);
    for night in 2..=3 {
        let came = walk.night().await;
        assert_eq!(came.code, 4, "{night}: {}", came.text);
    }
    let left: Vec<String> =
        walk.registry.tags("shop/api").into_keys().filter(|tag| tag.starts_with("candidate")).collect();
    let bad = left.iter().filter(|tag| tag.starts_with("candidate-1")).count();
    assert_eq!((left.len(), bad), (13, 11), "only bad ones and the newest two are left: {left:?}");
}

#[tokio::test]
async fn one_repository_that_refuses_everything_leaves_the_others_alone() {
    let walk = WorkflowFixture::enforcing().await;
    for part in ["closed", "web", "jobs"] {
        for number in 0..12 {
            let name = format!("{part}-{number}");
            walk.put(&format!("shop/{part}"), &format!("candidate-{number}"), &image(&name, 60 - number));
        }
    }
    walk.refuse("shop/closed/manifests/", 403, "DENIED");
    let came = walk.run().await;
    assert_eq!(came.code, 4, "{}", came.text);
    let closed = walk.deletions_sent().iter().filter(|path| path.contains("shop/closed/")).count();
    assert_eq!(closed, 5, "{:?}", walk.deletions_sent());
    assert_eq!(walk.registry.tags("shop/closed").len(), 12);
    assert_eq!([walk.registry.tags("shop/web").len(), walk.registry.tags("shop/jobs").len()], [2, 2]);
    assert_eq!(walk.remaining_tags(), Vec::<&str>::new());
}

#[tokio::test]
async fn credentials_that_are_not_accepted_end_it_with_the_first() {
    let walk = WorkflowFixture::enforcing().await;
    walk.refuse("manifests/candidate", 401, "UNAUTHORIZED");
    let came = walk.run().await;
    assert_eq!((came.code, walk.deletions_sent().len()), (4, 1), "{}", came.text);
    assert!(came.text.contains("does not accept the credentials"), "{}", came.text);
    let app = walk.open().await.unwrap();
    assert_eq!(app.store.refused_tags(&walk.registry.url()).await.unwrap(), [], "no fault of the tag");
    app.close().await;
}

/// A token that ends in the middle: one new token, one more look, one more try.
#[tokio::test]
async fn a_token_that_is_refused_in_the_middle_is_renewed_and_the_tag_looked_at_again() {
    let (user, password, lifetime) = ("ci".into(), "secret".into(), Duration::from_hours(1));
    let auth = AuthMode::Bearer { user, password, lifetime, anonymous_pull: false };
    let walk = WorkflowFixture::with(Options { auth, ..Options::default() }, "").await;
    fs::write(walk.path("password"), "secret").unwrap();
    let signed = "auth = { kind = \"basic\", username = \"ci\", password_file = \"password\" }";
    walk.settings("enforce", signed, "");
    let challenge = format!("Bearer realm=\"{}/token\",service=\"{}\"", walk.registry.url(), walk.registry.host());
    let ended = FaultKind::Status {
        status: 401,
        headers: vec![("www-authenticate".into(), challenge)],
        body: r#"{"errors":[{"code":"UNAUTHORIZED","message":"expired"}]}"#.into(),
    };
    walk.registry.inject(Fault::on("manifests/candidate-2", ended).method(Method::DELETE).times(1));
    let came = walk.run().await;
    assert_eq!((came.code, came.labels()), (0, vec!["done"; 4]), "{}", came.text);
    let about: Vec<(Method, u16)> = walk
        .registry
        .requests()
        .into_iter()
        .filter(|request| request.path.ends_with("manifests/candidate-2"))
        .map(|request| (request.method, request.status))
        .collect();
    let first = about.iter().position(|(method, _)| *method == Method::DELETE).unwrap();
    assert_eq!(
        about[first..first + 3],
        [(Method::DELETE, 401), (Method::HEAD, 200), (Method::DELETE, 202)],
        "{about:?}"
    );
}
