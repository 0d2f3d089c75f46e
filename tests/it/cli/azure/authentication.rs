//! Every way to sign in, through the whole walk, without a trace of a secret.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::files;
use super::*;

const ASSERTION: &str = "federated-assertion-1";

/// Nothing that was printed, logged, reported or kept shows a secret: neither what signs in nor any token of a registry
/// (a JSON Web Token begins with `eyJ`).
fn clean(azure: &Azure, done: &[CliOutput]) {
    let basic = STANDARD.encode(format!("{}:{}", ADMIN.0, ADMIN.1));
    let secrets = [ADMIN.1, SECRET, ASSERTION, "federated-assertion-2", &basic, "eyJ", "token-of-a", "token-1"];
    let look = |what: &str, bytes: &[u8]| {
        for secret in secrets {
            if let Some(at) = bytes.windows(secret.len()).position(|window| window == secret.as_bytes()) {
                let around = &bytes[at.saturating_sub(80)..(at + 20).min(bytes.len())];
                panic!("{what} shows {secret}: …{}…", String::from_utf8_lossy(around));
            }
        }
    };
    for done in done {
        look("stdout", done.out.as_bytes());
        look("stderr", done.err.as_bytes());
    }
    for path in files(azure.desk.folder.path()) {
        if !path.components().any(|part| [".docker", "secret"].iter().any(|known| part.as_os_str() == *known)) {
            look(&path.display().to_string(), &fs::read(&path).unwrap());
        }
    }
}

/// The whole walk, logged as much as can be.
async fn walked(mut azure: Azure, between: impl FnOnce(&Azure)) -> Azure {
    azure.desk.set("TAGWARDEN_LOG", "trace");
    let before = azure.registry.tags("shop/api");
    let mut done = vec![azure.run("check").await.exits(0)];
    done.push(azure.run("plan --out plan.json --out plan.html --out plan.md").await.exits(0));
    assert!(done[1].err.contains("TRACE") || done[1].err.contains("DEBUG"), "there is a log: {}", done[1].err);
    between(&azure);
    done.push(azure.run("apply plan.json").await.exits(0));
    assert_eq!(tags(&azure.registry, "shop/api"), ["c-4", "c-5"]);
    let restored = format!("restore {}/shop/api:c-1", azure.registry.host());
    done.push(azure.run(&restored).await.exits(0));
    assert_eq!(azure.registry.tags("shop/api")["c-1"], before["c-1"]);
    done.push(azure.run("runs --format json").await.exits(0));
    clean(&azure, &done);
    azure
}

fn entra_registry() -> AcrOptions {
    options().identity(cleaner(Permission::ALL))
}

fn authority(entra: &Entra) -> String {
    format!("[azure]\nauthority = \"{}\"\nca_file = \"{}\"\n", entra.url, entra.ca_file.display())
}

#[tokio::test]
async fn as_an_application_with_its_secret_from_a_file_or_the_environment() {
    let entra = Entra::start().await;
    for file in [true, false] {
        let key = if file { ", secret_file = \"secret/client\"" } else { "" };
        let auth =
            format!("auth = {{ kind = \"client-secret\", tenant_id = \"{TENANT}\", client_id = \"{CLIENT}\"{key} }}");
        let mut azure = Azure::with(entra_registry(), &auth).await;
        azure.settings("approved", &auth, &authority(&entra));
        if file {
            azure.desk.write("secret/client", SECRET);
        } else {
            azure.desk.set("TAGWARDEN__REGISTRIES__CONTOSO__AUTH__SECRET", SECRET);
        }
        walked(azure, |_| ()).await;
    }
}

#[tokio::test]
async fn as_a_pod_whose_token_is_replaced_meanwhile() {
    for by_environment in [true, false] {
        let entra = Entra::start().await;
        entra.directory.lock().unwrap().assertion = ASSERTION.into();
        let auth = if by_environment {
            "auth = { kind = \"workload-identity\" }".to_owned()
        } else {
            format!(
                "auth = {{ kind = \"workload-identity\", client_id = \"{CLIENT}\", tenant_id = \"{TENANT}\", token_file = \
                 \"secret/assertion\" }}"
            )
        };
        let mut azure = Azure::with(entra_registry(), &auth).await;
        azure.settings("approved", &auth, &authority(&entra));
        azure.desk.write("secret/assertion", ASSERTION);
        if by_environment {
            let file = azure.desk.path("secret/assertion").display().to_string();
            for (name, value) in
                [("AZURE_CLIENT_ID", CLIENT), ("AZURE_TENANT_ID", TENANT), ("AZURE_FEDERATED_TOKEN_FILE", &file)]
            {
                azure.desk.set(name, value);
            }
        }
        walked(azure, |azure| {
            entra.directory.lock().unwrap().assertion = "federated-assertion-2".into();
            azure.desk.write("secret/assertion", "federated-assertion-2\n");
        })
        .await;
    }
}

#[tokio::test]
async fn as_a_managed_identity_of_a_container_app() {
    let auth = format!("auth = {{ kind = \"managed-identity\", client_id = \"{CLIENT}\" }}");
    let mut azure = Azure::with(entra_registry(), &auth).await;
    let endpoint = identity_endpoint("header-secret").await;
    azure.desk.set("IDENTITY_ENDPOINT", endpoint.as_str());
    azure.desk.set("IDENTITY_HEADER", "header-secret");
    walked(azure, |_| ()).await;
}

#[tokio::test]
async fn as_whoever_did_az_login() {
    let mut azure = Azure::with(entra_registry(), "auth = { kind = \"azure-cli\" }").await;
    az_that_says(&mut azure.desk, "token-of-az");
    let azure = walked(azure, |_| ()).await;
    let asked = azure.desk.read("secret/answer.json.asked");
    let narrow = "account get-access-token -o json --scope https://containerregistry.azure.net/.default";
    assert!(asked.lines().all(|line| line == narrow), "{asked}");
}

#[tokio::test]
async fn as_the_administrator_or_by_what_docker_login_left() {
    walked(Azure::with(options(), BASIC).await, |_| ()).await;
    let azure = Azure::with(options(), "auth = { kind = \"docker-config\" }").await;
    let login = STANDARD.encode(format!("{}:{}", ADMIN.0, ADMIN.1));
    let config = format!("{{\"auths\": {{\"{}\": {{\"auth\": \"{login}\"}}}}}}", azure.registry.host());
    azure.desk.write(".docker/config.json", &config);
    walked(azure, |_| ()).await;
}

/// The registry's refresh token, as `az acr login` gets it.
async fn refresh_token(azure: &Azure) -> String {
    let form = [("grant_type", "access_token"), ("service", azure.registry.host()), ("access_token", "token-1")];
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let asked = client.post(format!("{}/oauth2/exchange", azure.registry.url()));
    let asked = asked.header("content-type", "application/x-www-form-urlencoded").body(body);
    let answer: Value = asked.send().await.unwrap().json().await.unwrap();
    answer["refresh_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

#[tokio::test]
async fn by_the_refresh_token_that_az_acr_login_left() {
    const NOBODY: &str = "00000000-0000-0000-0000-000000000000";
    let azure = Azure::with(entra_registry(), "auth = { kind = \"docker-config\" }").await;
    let token = refresh_token(&azure).await;
    let auth = STANDARD.encode(format!("{NOBODY}:"));
    let entry = json!({ "auth": auth, "identitytoken": token });
    azure.desk.write(".docker/config.json", &json!({ "auths": { azure.registry.host(): entry } }).to_string());
    walked(azure, |_| ()).await;

    let auth = format!("auth = {{ kind = \"basic\", username = \"{NOBODY}\", password_file = \"secret/refresh\" }}");
    let azure = Azure::with(entra_registry(), &auth).await;
    azure.desk.write("secret/refresh", &refresh_token(&azure).await);
    walked(azure, |_| ()).await;
}

#[tokio::test]
async fn by_a_token_with_a_scope_map() {
    let permissions = [Permission::MetadataRead, Permission::Pull, Permission::Delete, Permission::Push];
    let user = ScopedUser {
        user: "cleaner".into(),
        password: SECRET.into(),
        repositories: [("shop/api".to_owned(), permissions.into())].into(),
    };
    let lines = "repositories = [\"shop/api\"]\nauth = { kind = \"basic\", username = \"cleaner\", password_file = \
                 \"secret/password\" }";
    let azure = Azure::with(AcrOptions { scoped_users: vec![user], ..options() }, lines).await;
    azure.desk.write("secret/password", SECRET);
    walked(azure, |_| ()).await;
}

#[tokio::test]
async fn as_nobody_where_everyone_may_pull_nothing_can_be_removed() {
    let lines = "repositories = [\"shop/api\"]";
    let azure = Azure::with(AcrOptions { anonymous_pull: true, ..options() }, lines).await;
    // Whoever approves the plan may have the rights of another identity.
    let done = azure.run("plan --out plan.json").await.exits(0);
    let words = ["read as anonymous", "missing rights: anonymous may not `delete`"];
    assert!(words.iter().all(|words| done.out.contains(words)), "{}", done.out);
    let done = azure.run("apply plan.json").await.exits(3);
    assert!(done.out.contains("anonymous may not `delete`"), "{}", done.out);
    azure.settings("enforce", lines, "");
    let done = azure.run("run").await.exits(3);
    assert!(done.out.contains("NOTHING CAN BE REMOVED: anonymous may not `delete`"), "{}", done.out);
    assert_eq!((azure.deletions(), azure.registry.tags("shop/api").len()), (0, 5));
}

#[tokio::test]
async fn a_wrong_secret_is_told_and_not_shown() {
    let mut azure = Azure::with(options(), BASIC).await;
    azure.desk.set("TAGWARDEN_LOG", "trace");
    azure.desk.write("secret/password", SECRET);
    let done = azure.run("plan").await.exits(5);
    assert!(done.out.contains("UNREAD") && done.out.contains("is the password still good"), "{}", done.out);
    assert!(!done.out.contains("the role"), "no role would help: {}", done.out);
    clean(&azure, &[done]);
    // Somebody whom the directory knows and the registry does not.
    let auth = "auth = { kind = \"azure-cli\" }";
    let mut azure = Azure::with(options(), auth).await;
    az_that_says(&mut azure.desk, "token-of-a-stranger");
    let done = azure.run("plan").await.exits(5);
    assert!(done.out.contains("az login"), "{}", done.out);
    clean(&azure, &[done]);
}
