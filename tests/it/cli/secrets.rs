//! No secret is ever shown: not printed, not logged at any level, not written to a plan or to the state.

use std::fs;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tagwarden::demo::registry::{AuthMode, EmbeddedRegistry, Fault, FaultKind, Options};
use tagwarden::domain::Digest;

use super::network::proxy;
use super::{CliFixture, files, fill, record, settings, tags};

const USER: &str = "ci-user";
const PASSWORD: &str = "pass-word-0451";
const POLICIES: &str =
    "policies:\n  - name: old\n    select: { tags: [\"c-*\"] }\n    keep: [{ newest: 2 }]\n    mode: enforce\n";

/// A registry that asks for a password in that way, and a desk that knows it by that `auth`.
async fn guarded(mode: AuthMode, auth: &str) -> (EmbeddedRegistry, CliFixture) {
    let registry = EmbeddedRegistry::start(Options { auth: mode, ..Options::default() }).await.unwrap();
    fill(&registry, "shop/api", "c", 4);
    let text = settings(&registry.url()).replace("\n\n", &format!("\nauth = {auth}\n\n"));
    let mut desk = CliFixture::with(&[
        ("tagwarden.toml", &text),
        ("policies/all.yaml", POLICIES),
        ("releases/api.json", &record(&format!("{}/shop/api:c-4", registry.host()))),
    ]);
    desk.set("TAGWARDEN__MODE", "approved");
    desk.set("TAGWARDEN_LOG", "trace");
    (registry, desk)
}

fn basic() -> AuthMode {
    AuthMode::Basic { user: USER.into(), password: PASSWORD.into() }
}

fn bearer() -> AuthMode {
    let lifetime = Duration::from_mins(10);
    AuthMode::Bearer { user: USER.into(), password: PASSWORD.into(), lifetime, anonymous_pull: false }
}

/// What must not be seen: the password, what basic authentication makes of it, and each token that was handed out.
fn secrets() -> Vec<String> {
    let encoded = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let tokens = (0..200).map(|count| Digest::of(format!("{PASSWORD}\n{count}").as_bytes()).hex());
    [PASSWORD.to_owned(), encoded].into_iter().chain(tokens).collect()
}

#[track_caller]
fn clean(what: &str, bytes: &[u8]) {
    for secret in secrets() {
        let found = bytes.windows(secret.len()).position(|window| window == secret.as_bytes());
        if let Some(at) = found {
            let around = &bytes[at.saturating_sub(80)..(at + secret.len() + 20).min(bytes.len())];
            panic!("{what} shows {secret}: …{}…", String::from_utf8_lossy(around));
        }
    }
}

/// Plans, applies, restores and looks at it, all logged as much as can be; then nothing may show a secret but `known`.
async fn walk(registry: &EmbeddedRegistry, desk: &CliFixture, known: &[&str]) {
    let restored = format!("restore {}/shop/api:c-1", registry.host());
    let commands =
        ["check", "plan --out plan.json --out plan.html", "apply plan.json", "runs --format json", &restored];
    for words in commands {
        let done = desk.run(words).await.exits(0);
        clean(words, done.out.as_bytes());
        clean(words, done.err.as_bytes());
    }
    assert_eq!(tags(registry, "shop/api"), ["c-1", "c-3", "c-4"]);
    for path in files(desk.folder.path()) {
        if !known.iter().any(|known| path.ends_with(known)) {
            clean(&path.display().to_string(), &fs::read(&path).unwrap());
        }
    }
}

#[tokio::test]
async fn a_password_from_a_file_is_not_shown() {
    for mode in [basic(), bearer()] {
        let auth = format!("{{ kind = \"basic\", username = \"{USER}\", password_file = \"secret/password\" }}");
        let (registry, desk) = guarded(mode, &auth).await;
        desk.write("secret/password", &format!("{PASSWORD}\n"));
        walk(&registry, &desk, &["secret/password"]).await;
        desk.write("secret/password", &format!("{PASSWORD}-wrong"));
        let done = desk.run("plan").await.exits(5);
        clean("plan with a wrong password", format!("{}{}", done.out, done.err).as_bytes());
        assert!(done.out.contains("UNREAD"), "{}", done.out);
    }
}

#[tokio::test]
async fn a_password_from_the_environment_is_not_shown() {
    let (registry, mut desk) = guarded(basic(), &format!("{{ kind = \"basic\", username = \"{USER}\" }}")).await;
    desk.set("TAGWARDEN__REGISTRIES__CONTOSO__AUTH__PASSWORD", PASSWORD);
    walk(&registry, &desk, &[]).await;
}

#[tokio::test]
async fn what_docker_login_left_is_used_and_not_shown() {
    for mode in [basic(), bearer()] {
        let (registry, desk) = guarded(mode, "{ kind = \"docker-config\" }").await;
        let encoded = STANDARD.encode(format!("{USER}:{PASSWORD}"));
        let login = format!("{{\"auths\": {{\"{}\": {{\"auth\": \"{encoded}\"}}}}}}", registry.host());
        desk.write(".docker/config.json", &login);
        walk(&registry, &desk, &[".docker/config.json"]).await;
    }
}

#[tokio::test]
async fn a_secret_in_the_settings_is_refused_without_repeating_it() {
    let auth = format!("{{ kind = \"basic\", username = \"{USER}\", password = \"{PASSWORD}\" }}");
    let (_registry, desk) = guarded(basic(), &auth).await;
    for words in ["check", "plan"] {
        let done = desk.run(words).await.exits(2);
        clean(words, format!("{}{}", done.out, done.err).as_bytes());
        assert!(done.err.contains("stands in the settings file"), "{}", done.err);
    }
}

#[tokio::test]
async fn credentials_in_an_endpoint_or_a_proxy_are_not_repeated() {
    let (registry, mut desk) = guarded(basic(), "{ kind = \"anonymous\" }").await;
    let with_password = format!("http://{USER}:{PASSWORD}@{}", registry.host());
    desk.write("tagwarden.toml", &settings(&with_password));
    let done = desk.run("check").await.exits(2);
    clean("check", format!("{}{}", done.out, done.err).as_bytes());

    desk.write("tagwarden.toml", &settings("http://registry.contoso.example"));
    let open = EmbeddedRegistry::start(Options::default()).await.unwrap();
    fill(&open, "shop/api", "c", 1);
    let (address, _asked) = proxy(open.host().to_owned()).await;
    desk.write("releases/api.json", &record("registry.contoso.example/shop/api:c-1"));
    desk.set("HTTP_PROXY", &format!("http://{USER}:{PASSWORD}@{address}"));
    let done = desk.run("plan").await.exits(0);
    clean("plan by a proxy", format!("{}{}", done.out, done.err).as_bytes());
}

#[tokio::test]
async fn a_registry_that_quotes_the_request_does_not_show_the_password() {
    let auth = format!("{{ kind = \"basic\", username = \"{USER}\", password_file = \"secret/password\" }}");
    let encoded = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    for (status, message, shown) in [
        (401, format!("bad creds Basic {encoded}"), "bad creds Basic ***"),
        (500, format!("dsn {USER}:{PASSWORD}@db refused"), "dsn ***@db refused"),
        (403, format!("user ci-user with {PASSWORD} may not"), "user ci-user with *** may not"),
    ] {
        let (registry, mut desk) = guarded(basic(), &auth).await;
        desk.write("secret/password", PASSWORD);
        desk.set("TAGWARDEN__REGISTRIES__CONTOSO__REPOSITORIES", "shop/api");
        let body = format!("{{\"errors\":[{{\"code\":\"DENIED\",\"message\":\"{message}\"}}]}}");
        registry.inject(Fault::on("/tags/list", FaultKind::Status { status, headers: Vec::new(), body }));
        let done = desk.run("plan --out plan.json --out plan.html").await.exits(5);
        assert!(done.out.contains(shown), "{shown}: {}", done.out);
        clean(&message, format!("{}{}", done.out, done.err).as_bytes());
        for file in ["plan.json", "plan.html", "tagwarden.db"] {
            clean(file, &fs::read(desk.path(file)).unwrap());
        }
    }
}

#[tokio::test]
async fn credentials_in_an_argument_or_a_record_are_not_repeated() {
    let (registry, desk) = guarded(AuthMode::Open, "{ kind = \"anonymous\" }").await;
    let host = registry.host();
    for (words, code) in [
        (format!("explain http://{USER}:{PASSWORD}@{host}/shop/api:c-1"), 2),
        (format!("explain {USER}:{PASSWORD}@{host}/shop/api:c-1"), 2),
        (format!("hold {USER}:{PASSWORD}@{host}/shop/api:c-1 --reason x"), 2),
        (format!("check --config https://{USER}:{PASSWORD}@{host}/tagwarden.toml"), 2),
        (format!("check --config {USER}:{PASSWORD}@{host}"), 2),
    ] {
        let done = desk.run(&words).await.exits(code);
        clean(&words, format!("{}{}", done.out, done.err).as_bytes());
    }
    desk.write("releases/api.json", &record(&format!("{USER}:{PASSWORD}@{host}/shop/api:c-4")));
    let done = desk.run("plan").await.exits(5);
    clean("a record", format!("{}{}", done.out, done.err).as_bytes());
    assert!(done.out.contains("there is a user or password in it"), "{}", done.out);
}

#[tokio::test]
async fn a_password_in_a_wrong_place_of_the_settings_is_not_shown() {
    let (_registry, desk) = guarded(basic(), "{ kind = \"anonymous\" }").await;
    for text in [
        settings(&format!("{USER}:{PASSWORD}@127.0.0.1:15556")),
        settings("http://127.0.0.1:9").replace("\n\n", &format!("\nauth = {{ kind = \"{PASSWORD}\" }}\n\n")),
        settings("http://127.0.0.1:9").replace("\n\n", &format!("\naliases = [\"{USER}:{PASSWORD}@x/y\"]\n\n")),
    ] {
        desk.write("tagwarden.toml", &text);
        let done = desk.run("check").await.exits(2);
        clean(&text, format!("{}{}", done.out, done.err).as_bytes());
    }
}
