//! Who may look, and that nothing can be changed.

use tagwarden::domain::Failure;
use tagwarden::state::StateErrorKind;
use tagwarden::web::{Activity, PolicyProblem, Role};

use super::fixture::{LEAST, WebFixture, noon};

const ADDRESSES: [&str; 6] = ["/", "/runs", "/metrics", "/api/v1/status", "/registries/contoso", "/nowhere"];

#[tokio::test]
async fn nothing_but_looking_is_answered() {
    let world = WebFixture::new().await;
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        for path in ADDRESSES.into_iter().chain(["/healthz"]) {
            let answer = world.request(method, path, &[("Host", "localhost")]).await;
            assert_eq!((answer.status, answer.header("allow")), (405, "GET, HEAD"), "{method} {path}");
        }
    }
    let head = world.request("HEAD", "/", &[("Host", "localhost")]).await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[tokio::test]
async fn a_token_is_asked_for_everything_but_health() {
    let world = WebFixture::with(&format!("listen_token_file = \"token\"\n{LEAST}")).await;
    // `x:a-token-of-the-tests`, as a browser sends it.
    let basic = "Basic eDphLXRva2VuLW9mLXRoZS10ZXN0cw==";
    for path in ADDRESSES {
        for wrong in ["", "Bearer a-token-of-the-test", "Bearer ", "Basic eDp5", "a-token-of-the-tests"] {
            let answer = world.request("GET", path, &[("Host", "localhost"), ("Authorization", wrong)]).await;
            assert_eq!(answer.status, 401, "{path} {wrong}");
            assert!(answer.header("www-authenticate").starts_with("Basic "), "{}", answer.headers);
            assert!(
                !answer.body.contains("a-token-of-the-tests") && !answer.body.contains("contoso"),
                "{}",
                answer.body
            );
        }
        for right in ["Bearer a-token-of-the-tests", basic] {
            // With a token any name will do: a proxy has one.
            let answer = world.request("GET", path, &[("Host", "tags.example"), ("Authorization", right)]).await;
            assert_ne!(answer.status, 401, "{path} {right}");
            assert_ne!(answer.status, 421, "{path} {right}");
        }
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(world.request("GET", path, &[("Host", "10.0.0.7:9464")]).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_name_that_was_made_to_lead_here_is_not_answered() {
    let world = WebFixture::new().await;
    for (host, status) in [
        ("localhost:9464", 200),
        ("127.0.0.1", 200),
        ("[::1]:9464", 200),
        ("rebound.example:9464", 421),
        ("127.0.0.1.rebound.example", 421),
    ] {
        assert_eq!(world.request("GET", "/api/v1/status", &[("Host", host)]).await.status, status, "{host}");
    }
}

#[tokio::test]
async fn readiness_says_why_not_and_names_nothing() {
    let world = WebFixture::new().await;
    let board = &world.context.status;
    assert_eq!(world.get("/healthz").await.body, "ok\n");
    assert_eq!((world.get("/readyz").await.status, world.get("/readyz").await.body.as_str()), (200, "ready\n"));
    let leader = Some("serve by ops@host-7, process 7".to_owned());
    for (role, words) in [(Role::Leader, "leader"), (Role::StandBy { leader }, "stand-by"), (Role::Single, "")] {
        board.update(|status| status.role = role);
        let answer = world.get("/readyz").await;
        assert_eq!((answer.status, answer.body), (200, format!("ready\n{words}\n").replace("\n\n", "\n")));
        assert_eq!(world.get("/").await.body.contains("standing by: serve by ops@host-7"), words == "stand-by");
    }
    let outdated =
        "the policies here are of commit 1111111111, which is older than 2222222222, by which ops@host-7 goes";
    board.update(|status| status.outdated = Some(outdated.to_owned()));
    let answer = world.get("/readyz").await;
    assert_eq!((answer.status, answer.body.lines().count()), (200, 2));
    assert!(answer.body.contains("removes nothing: its policies or settings are older"), "{}", answer.body);
    assert!(!answer.body.contains("1111111111") && !answer.body.contains("host-7"), "{}", answer.body);
    assert!(world.get("/api/v1/status").await.body.contains(outdated));
    board.update(|status| status.outdated = None);
    board.update(|status| status.ready = false);
    assert_eq!((world.get("/readyz").await.status, world.get("/readyz").await.body.as_str()), (503, "starting\n"));
    let text = "policies/secret.yaml:3: no".to_owned();
    board.update(|status| status.policies.problem = Some(PolicyProblem { since: noon(), text }));
    let answer = world.get("/readyz").await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("policies") && !answer.body.contains("secret"), "{}", answer.body);
    board.update(|status| status.ready = true);
    assert_eq!(world.get("/readyz").await.status, 200, "the last good policies are gone by");
    board.update(|status| status.activity = Activity::Stopping);
    assert_eq!((world.get("/readyz").await.status, world.get("/healthz").await.status), (503, 200));
    board.update(|status| status.activity = Activity::Idle);
    world.context.store.clone().close().await;
    let answer = world.get("/readyz").await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.starts_with("the state /"), "on this machine: {}", answer.body);
    assert_eq!(world.get("/").await.status, 500);
    assert_eq!(world.get("/api/v1/runs").await.json()["error"]["kind"], "io");
}

/// Anybody may ask for the health, and only who may see the pages is told where the state is.
#[tokio::test]
async fn an_unwritable_state_is_named_to_those_who_may_know() {
    let full = || {
        let failure =
            Failure::new(StateErrorKind::Full, "the state /var/lib/tagwarden/tagwarden.db: cannot record a run");
        failure.with_help("make room on the disk")
    };
    let open = WebFixture::new().await;
    open.context.status.update(|status| (status.ready, status.write_error) = (false, Some(full())));
    let answer = open.get("/readyz").await;
    let whole = "the state /var/lib/tagwarden/tagwarden.db: cannot record a run; make room on the disk\n";
    assert_eq!((answer.status, answer.body.as_str()), (503, whole));
    assert_names_state_failure(&open, "cannot record a run; make room on the disk").await;

    let guarded = WebFixture::with(&format!("listen_token_file = \"token\"\n{LEAST}")).await;
    guarded.context.status.update(|status| (status.ready, status.write_error) = (false, Some(full())));
    let answer = guarded.get("/readyz").await;
    assert_eq!((answer.status, answer.body.as_str()), (503, "the state cannot be written (full): the log says more\n"));
    let token = [("Host", "localhost"), ("Authorization", "Bearer a-token-of-the-tests")];
    assert_eq!(guarded.request("GET", "/readyz", &token).await.body, whole);
}

/// Whether the first page and the API say what `/readyz` says.
async fn assert_names_state_failure(world: &WebFixture, words: &str) {
    let status = world.get("/api/v1/status").await.json();
    let (first, ready) = (&status["attention"][0], &status["ready"]);
    assert_eq!((first["kind"].as_str(), ready.as_bool()), (Some("state-unusable"), Some(false)), "{status:#}");
    assert!(first["message"].as_str().unwrap().contains(words), "{status:#}");
    let page = world.get("/").await.body;
    assert!(page.contains("Not ready") && page.contains(words), "{page}");
}

#[tokio::test]
async fn a_state_that_is_taken_away_is_named_at_once() {
    let world = WebFixture::new().await;
    let status = world.get("/api/v1/status").await.json();
    assert_ne!(status["attention"][0]["kind"], "state-unusable", "{status:#}");
    let path = world.context.store.location().path().unwrap().to_path_buf();
    std::fs::rename(&path, path.with_extension("moved")).unwrap();
    assert_eq!(world.get("/readyz").await.status, 503);
    assert_names_state_failure(&world, "it was deleted while it was open").await;
}

#[tokio::test]
async fn every_answer_forbids_what_is_not_needed() {
    let world = WebFixture::new().await;
    for path in ADDRESSES.into_iter().chain(["/healthz", "/readyz"]) {
        let answer = world.get(path).await;
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; "), "{path}: {policy}");
        assert!(!policy.contains("unsafe") && !policy.contains("http") && !policy.contains('*'), "{policy}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(answer.header(name), value, "{path} {name}");
        }
    }
}
