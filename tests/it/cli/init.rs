//! `init` and `check --online`: from an address to the first plan.

use std::fs;
use std::sync::Arc;

use assert_cmd::cargo::cargo_bin;
use serde_json::{Value, json};
use tagwarden::demo::registry::{Dialect, EmbeddedRegistry, Options, ZotOptions, ZotUser};
use wiremock::matchers::path;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::{CliFixture, fill, names, settings};
use crate::support::clients;
use crate::support::docker_registry::{DockerRegistry, PASSWORD, Setup, USER};
use crate::workflow::noon;

const POLICY: &str = "policies:\n  - name: all\n    select: { tags: [\"*\"] }\n    keep: [{ newest: 1 }]\n";

#[tokio::test]
async fn an_address_is_enough_for_the_first_plan() {
    let registry = EmbeddedRegistry::start(Options::default()).await.unwrap();
    fill(&registry, "shop/api", "candidate", 12);
    let desk = CliFixture::new();
    let done = desk.run(&format!("init {}", registry.host())).await.exits(0);
    for file in ["tagwarden.toml", "policies/builds.yaml", "releases/example.json"] {
        assert!(done.err.contains(&format!("wrote ./{file}")), "{}", done.err);
        assert!(desk.path(file).exists(), "{file}");
    }
    assert!(done.out.contains("tagwarden.toml is valid: mode dry-run, 1 registry, 1 source, 1 policy"), "{}", done.out);
    assert!(done.out.contains("Dry run: nothing is removed"), "{}", done.out);
    let next =
        "next: replace the example in ./releases/example.json by your releases; until then plans warn of its image";
    assert!(done.err.contains(next), "{}", done.err);
    // What is to be written where can be read off them.
    let plan = desk.run("plan --format json").await.exits(0).json();
    assert_eq!(names(&plan, "removals"), ["shop/api:candidate-1", "shop/api:candidate-2"]);
    assert_eq!(plan["sources"][0]["claims"], 1);
    assert_eq!(registry.tags("shop/api").len(), 12);
    assert!(desk.run("check --online").await.exits(0).out.contains("registry main: "));

    // Nothing is overwritten, and nothing written where one file is there already.
    fs::remove_file(desk.path("tagwarden.toml")).unwrap();
    let before = desk.read("policies/builds.yaml");
    let again = desk.run(&format!("init {}", registry.host())).await.exits(2);
    assert!(
        again.err.starts_with("error: ./policies/builds.yaml exists already; nothing was written"),
        "{}",
        again.err
    );
    assert!(!desk.path("tagwarden.toml").exists());
    assert_eq!(desk.read("policies/builds.yaml"), before);

    let words = format!("init {} --folder other --name shop --evidence ../releases/*.json --no-plan", registry.url());
    let other = desk.run(&words).await.exits(0);
    assert!(!desk.path("other/releases").exists());
    assert!(desk.read("other/tagwarden.toml").contains("[registries.shop]"), "{}", other.err);
    assert!(desk.read("other/tagwarden.toml").contains("paths = [\"../releases/*.json\"]"));
    assert!(!other.err.contains("example"), "{}", other.err);
}

/// Runs `init` on a terminal, with an answer to each question.
async fn init_on_a_terminal(desk: &CliFixture, answers: &[(&str, &str)]) -> Value {
    let folder = desk.path("");
    let job = json!({ "command": [cargo_bin("tagwarden"), "init"], "folder": folder, "answers": answers });
    clients::run("terminal.py", &[&job.to_string()], &folder).await
}

#[tokio::test]
async fn on_a_terminal_it_asks_and_asks_again() {
    let registry = DockerRegistry::start(Setup { delete: true, login: true, tls: None }).await;
    let desk = CliFixture::with(&[("password", PASSWORD)]);
    let answers = [
        ("Address of the registry", "no host"),
        ("Address of the registry", &registry.host()),
        ("Sign in by", "basci"),
        ("Sign in by", "basic"),
        ("User:", USER),
        ("File with the secret:", "passwort"),
        ("File with the secret:", "password"),
        ("Release records, as files or globs [releases/*.json]:", ""),
    ];
    let done = init_on_a_terminal(&desk, &answers).await;
    let shown = done["shown"].as_str().unwrap();
    assert_eq!((&done["code"], &done["unasked"]), (&json!(0), &json!([])), "{shown}");
    for words in ["invalid address of a registry", "did you mean `basic`?", "secret file passwort: ", "Dry run: "] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    assert!(!shown.contains(PASSWORD), "{shown}");
    desk.run("check --online").await.exits(0);

    let again = init_on_a_terminal(&desk, &[]).await;
    assert_eq!(again["code"], 2);
    let shown = again["shown"].as_str().unwrap();
    assert!(shown.contains("tagwarden.toml exists already") && !shown.contains("Address"), "{shown}");
}

#[tokio::test]
async fn a_real_registry_with_a_password_is_set_up() {
    let registry = DockerRegistry::start(Setup { delete: true, login: true, tls: None }).await;
    let desk = CliFixture::with(&[("password", PASSWORD)]);
    let words = format!("init {} --auth basic --username {USER} --secret-file password", registry.host());
    let done = desk.run(&words).await.exits(0);
    assert!(done.err.contains("kind = \"distribution\""), "{}", done.err);
    assert!(!desk.read("tagwarden.toml").contains(PASSWORD));
    desk.run("check --online").await.exits(0);
}

#[tokio::test]
async fn what_cannot_be_set_up_is_told_before_anything_is_written() {
    let page = MockServer::start().await;
    Mock::given(path("/v2/"))
        .respond_with(ResponseTemplate::new(404).set_body_raw("<html></html>", "text/html"))
        .mount(&page)
        .await;
    let desk = CliFixture::new();
    let web = page.uri();
    let asked = format!("init {web}");
    for (words, first) in [
        ("init", "error: name the registry: `tagwarden init registry.example`".to_owned()),
        ("init https://a:b@registry.example", "error: invalid address of a registry: it has a user or password".into()),
        ("init registry.example/shop", "error: invalid address of a registry: it has a path in it".into()),
        (
            "init ftp://registry.example",
            "error: invalid address of a registry: it has no host, or another scheme".into(),
        ),
        ("init 127.0.0.1:9", "error: http://127.0.0.1:9/: cannot be reached".into()),
        (asked.as_str(), format!("error: {web}/: not a registry: GET {web}/v2/ answered 404")),
        (
            "init registry.example --kind harbour",
            "error: invalid value 'harbour' for '--kind <KIND>': did you mean `harbor`? (known: ".into(),
        ),
        ("init registry.example --kind acr --auth basic", "error: `--auth basic` needs `--username USER`".into()),
        ("init registry.example --kind acr --auth token", "error: this sign-in needs `--secret-file FILE`".into()),
        (
            "init ghcr.io --kind ghcr --auth token --secret-file /dev/null",
            "error: kind = \"ghcr\" lists no repositories without the names of organizations and users".into(),
        ),
        ("init europe-docker.pkg.dev --kind artifact-registry", "error: kind = \"artifact-registry\" lists".into()),
        ("init docker.io --kind docker-hub --auth anonymous", "error: kind = \"docker-hub\" lists".into()),
        (
            "init registry.example --kind zot --namespace shop",
            "error: `--namespace` is not for kind = \"zot\": policies select repositories".into(),
        ),
        (
            "init gitlab.example --kind gitlab --namespace shop --auth anonymous",
            "error: GitLab lists the repositories of groups and projects for a token only".into(),
        ),
        (
            "init gitlab.example --kind gitlab --namespace shop --auth token --secret-file /dev/null",
            "error: GitLab itself lists the repositories of groups and projects, not its registry".into(),
        ),
        (
            "init ghcr.io --kind ghcr --namespace a --auth token --secret-file /dev/null --api https://a.example",
            "error: `--api` is for GitLab, and this is kind = \"ghcr\"".into(),
        ),
        (
            "init registry.example --kind acr --auth token --secret-file nope",
            "error: secret file nope: No such file or directory (os error 2); write the secret there first, or".into(),
        ),
        ("init registry.example --name a/b", "error: invalid value 'a/b' for '--name <NAME>': ".into()),
    ] {
        let done = desk.run(words).await.exits(2);
        assert!(done.err.starts_with(&first), "{words}: {}", done.err);
        assert_eq!(fs::read_dir(desk.folder.path()).unwrap().count(), 0, "{words}");
    }
    // Without a registry to ask, for one that cannot be reached from here.
    desk.run("init contoso.azurecr.io --kind acr --no-plan").await.exits(0);
    let written = desk.read("tagwarden.toml");
    assert!(written.contains("[registries.contoso]") && written.contains("kind = \"azure-cli\""), "{written}");
    // The host says the kind where the registry cannot be asked.
    let mut command = desk.command("init contoso.azurecr.io --folder unasked");
    let done = command.env("HTTPS_PROXY", "http://127.0.0.1:9").output().await.unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(0), "{said}");
    assert!(said.contains("cannot be reached, so the kind is that of the host: "), "{said}");
    assert!(said.contains("kind = \"acr\": by its host; the registry was not asked"), "{said}");
    assert!(said.contains("next: run `tagwarden check --online` and `tagwarden plan` where"), "{said}");
    assert!(desk.path("unasked/tagwarden.toml").exists());
    desk.write("file", "");
    let done = desk.run("init contoso.azurecr.io --kind acr --folder file").await.exits(2);
    assert!(done.err.starts_with("error: file is not a folder; nothing was written; name another"), "{}", done.err);
    let ecr = "init 123456789012.dkr.ecr.eu-central-1.amazonaws.com --kind ecr --name shop --folder ecr --no-plan";
    desk.run(ecr).await.exits(0);
    let written = desk.read("ecr/tagwarden.toml");
    assert!(written.contains("[registries.shop]") && written.contains("{ kind = \"aws\" }"), "{written}");
}

#[tokio::test]
async fn the_settings_of_artifact_registry_have_projects() {
    let desk = CliFixture::new();
    let words =
        "init europe-west3-docker.pkg.dev --kind artifact-registry --namespace acme --namespace acme-dev --no-plan";
    desk.run(words).await.exits(0);
    let written = desk.read("tagwarden.toml");
    for phrase in ["kind     = \"artifact-registry\"", "{ kind = \"google\" }", "namespaces = [\"acme\", \"acme-dev\"]"]
    {
        assert!(written.contains(phrase), "{written}");
    }
}

/// A registry that answers `GET /v2/` so.
async fn answering(status: u16, headers: &[(&str, &str)]) -> MockServer {
    let server = MockServer::start().await;
    let mut answer = ResponseTemplate::new(status);
    for (name, value) in headers {
        answer = answer.insert_header(*name, value.replace("HOST", &server.uri()).as_str());
    }
    Mock::given(path("/v2/")).respond_with(answer).mount(&server).await;
    server
}

/// Status and headers of the first answer; the `kind` in the settings; exit code, and the beginning of the first line.
type Case<'a> = (u16, &'a [(&'a str, &'a str)], &'a str, i32, &'a str);

#[tokio::test]
async fn a_wrong_kind_is_told_with_the_right_one() {
    let harbor = [("www-authenticate", "Bearer realm=\"HOST/service/token\",service=\"harbor-registry\"")];
    let quay = [("www-authenticate", "Bearer realm=\"HOST/v2/auth\",service=\"quay\"")];
    let azure = [("www-authenticate", "Bearer realm=\"https://contoso.azurecr.io/oauth2/token\",service=\"x\"")];
    let gitlab =
        [("gitlab-container-registry-version", "4.15.2-gitlab"), ("docker-distribution-api-version", "registry/2.0")];
    let jfrog = [("x-jfrog-version", "Artifactory/7.104.5 80000000")];
    let plain = [("docker-distribution-api-version", "registry/2.0")];
    let token = "auth = { kind = \"token\", token_file = \"token\" }\nallow_http = true\nnamespaces = [\"a\"]";
    let cases: &[Case<'_>] = &[
        (
            401,
            &quay,
            "distribution",
            0,
            "warning: registry `contoso`: kind = \"distribution\" reads it by the OCI API alone: Quay",
        ),
        (
            401,
            &azure,
            "distribution",
            0,
            "warning: registry `contoso`: kind = \"distribution\" reads it by the OCI API alone",
        ),
        (401, &quay, "quay", 0, ""),
        (401, &harbor, "quay", 2, "error: registry `contoso`: kind = \"quay\" is wrong: Harbor, recognised by"),
        (
            200,
            &gitlab,
            "quay",
            2,
            "error: registry `contoso`: kind = \"quay\" is wrong: GitLab container registry 4.15.2-gitlab",
        ),
        (401, &jfrog, "quay", 2, "error: registry `contoso`: kind = \"quay\" is wrong: JFrog Artifactory 7.104.5"),
        (401, &jfrog, "artifactory", 0, ""),
        (
            401,
            &quay,
            "artifactory",
            2,
            "error: registry `contoso`: kind = \"artifactory\" is wrong: Quay, recognised by",
        ),
        (200, &plain, "distribution", 0, ""),
        (502, &[], "distribution", 5, "error: registry `contoso`: "),
    ];
    for (status, headers, kind, code, first) in cases {
        let server = answering(*status, headers).await;
        let more = if ["artifactory", "quay"].contains(kind) { token } else { "" };
        let text = settings(&server.uri()).replace("kind = \"distribution\"", &format!("kind = \"{kind}\"\n{more}"));
        let record = super::record("127.0.0.1/a/b:c");
        let desk = CliFixture::with(&[
            ("tagwarden.toml", &text),
            ("policies/all.yaml", POLICY),
            ("releases/a.json", &record),
            ("token", "hunter2"),
        ]);
        let done = desk.run("check --online").await.exits(*code);
        let found = done.err.lines().any(|line| line.starts_with(first));
        assert!(first.is_empty() || found, "{kind} {headers:?}: {}", done.err);
        assert_eq!(done.err.contains("help: write kind = "), !first.is_empty() && *code != 5, "{}", done.err);
        assert!(!done.err.contains("hunter2"));
        let json = desk.run("check --online --format json").await.exits(*code).json();
        let state = match (code, first.is_empty()) {
            (0, true) => "fits",
            (0, false) => "weaker",
            (2, _) => "wrong",
            _ => "unreachable",
        };
        assert_eq!(json["registries"][0]["state"], state);
    }
}

#[tokio::test]
async fn zot_is_told_by_the_extensions_that_it_lists() {
    let release = "https://github.com/project-zot/zot/blob/v2.1.14/pkg/extensions/_zot.md";
    let extensions =
        json!({ "extensions": [{ "name": "_zot", "url": release, "endpoints": ["/v2/_zot/ext/search"] }] });
    let plain = [("docker-distribution-api-version", "registry/2.0")];
    let token = "auth = { kind = \"token\", token_file = \"token\" }\nallow_http = true\nnamespaces = [\"a\"]";
    for (kind, more, code, first) in [
        ("quay", token, 2, "error: registry `contoso`: kind = \"quay\" is wrong: zot v2.1.14"),
        (
            "distribution",
            "",
            0,
            "warning: registry `contoso`: kind = \"distribution\" reads it by the OCI API alone: zot v2.1.14",
        ),
        ("zot", "", 0, ""),
    ] {
        let server = answering(200, &plain).await;
        let answer = ResponseTemplate::new(200).set_body_json(&extensions);
        Mock::given(path("/v2/_oci/ext/discover")).respond_with(answer).mount(&server).await;
        let text = settings(&server.uri()).replace("kind = \"distribution\"", &format!("kind = \"{kind}\"\n{more}"));
        let record = super::record("127.0.0.1/a/b:c");
        let desk = CliFixture::with(&[
            ("tagwarden.toml", &text),
            ("policies/all.yaml", POLICY),
            ("releases/a.json", &record),
            ("token", "hunter2"),
        ]);
        let done = desk.run("check --online").await.exits(code);
        assert!(first.is_empty() || done.err.lines().any(|line| line.starts_with(first)), "{kind}: {}", done.err);
        assert_eq!(done.err.contains("help: write kind = \"zot\""), !first.is_empty(), "{kind}: {}", done.err);
    }
}

#[tokio::test]
async fn the_settings_of_docker_hub_name_a_namespace_and_a_token() {
    let desk = CliFixture::with(&[("token", "dckr_pat")]);
    let how = "--auth basic --username contoso --secret-file token";
    desk.run(&format!("init docker.io --kind docker-hub {how} --no-plan")).await.exits(0);
    let written = desk.read("tagwarden.toml");
    for phrase in ["kind     = \"docker-hub\"", "username = \"contoso\"", "namespaces = [\"contoso\"]"] {
        assert!(written.contains(phrase), "{written}");
    }
    let login = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"Y29udG9zbzpkY2tyX3BhdA=="}}}"#;
    let desk = CliFixture::with(&[(".docker/config.json", login)]);
    desk.run("init docker.io --kind docker-hub --auth docker-config --no-plan").await.exits(0);
    let written = desk.read("tagwarden.toml");
    assert!(
        written.contains("kind     = \"distribution\"") && written.contains("write kind = \"docker-hub\""),
        "{written}"
    );
}

#[tokio::test]
async fn the_settings_of_github_and_gitlab_name_whose_repositories_are_read() {
    let desk = CliFixture::with(&[("token", "secret")]);
    desk.run("init ghcr.io --kind ghcr --auth token --secret-file token --namespace contoso --no-plan").await.exits(0);
    let written = desk.read("tagwarden.toml");
    assert!(written.contains("namespaces = [\"contoso\"]   # whose repositories are read\n# aliases"), "{written}");
    let how = "--auth basic --username cleaner --secret-file token --namespace contoso/shop --no-plan";
    for (address, more, api) in [
        ("registry.gitlab.com", "", "https://gitlab.com"),
        ("registry.gitlab.example", "--api https://gitlab.example", "https://gitlab.example"),
    ] {
        desk.run(&format!("init {address} --kind gitlab {how} {more} --folder {address}")).await.exits(0);
        let written = desk.read(&format!("{address}/tagwarden.toml"));
        let expected = format!(
            "namespaces = [\"contoso/shop\"]   # whose repositories are read\napi      = {{ endpoint = \"{api}\""
        );
        assert!(written.contains(&expected), "{written}");
    }
}

#[tokio::test]
async fn a_zot_that_shows_nothing_without_a_password_is_recognised() {
    let user = ZotUser::new("cleaner", "password-of-the-tests", "");
    let options = Options { dialect: Dialect::zot(ZotOptions::new(Arc::new(noon)).user(user)), ..Options::default() };
    let registry = EmbeddedRegistry::start(options).await.unwrap();
    let desk = CliFixture::with(&[("password", "password-of-the-tests")]);
    let how = "--auth basic --username cleaner --secret-file password --no-plan";
    desk.run(&format!("init {} {how}", registry.host())).await.exits(0);
    let written = desk.read("tagwarden.toml");
    assert!(written.contains("# zot v2.1.14, recognised by its description of itself"), "{written}");
    assert!(written.contains("kind     = \"zot\""), "{written}");
    registry.zot(|zot| zot.options.has_search = false);
    desk.run(&format!("init {} {how} --folder plain", registry.host())).await.exits(0);
    assert!(desk.read("plain/tagwarden.toml").contains("kind     = \"distribution\""));
}

/// The file of `docker login` is there on many machines, with something for other registries.
#[tokio::test]
async fn a_docker_login_counts_for_its_own_host() {
    let registry = EmbeddedRegistry::start(Options::default()).await.unwrap();
    fill(&registry, "shop/api", "candidate", 2);
    let host = registry.host();
    for (login, auth) in [
        (r#"{"auths":{"https://index.docker.io/v1/":{"auth":"eDp5"}},"credsStore":"desktop"}"#.to_owned(), "anonymous"),
        ("not JSON".to_owned(), "anonymous"),
        (format!(r#"{{"auths":{{"{host}":{{"auth":"eDp5"}}}}}}"#), "docker-config"),
        (format!(r#"{{"auths":{{"http://{host}/v2/":{{}}}}}}"#), "docker-config"),
        (format!(r#"{{"credHelpers":{{"{host}":"x"}}}}"#), "docker-config"),
    ] {
        let desk = CliFixture::with(&[(".docker/config.json", &*login)]);
        desk.run(&format!("init {host} --no-plan")).await.exits(0);
        let written = desk.read("tagwarden.toml");
        assert!(written.contains(&format!("kind = \"{auth}\"")), "{login}: {written}");
    }
}
