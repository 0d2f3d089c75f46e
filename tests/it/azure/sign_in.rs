//! Each kind of identity, as the authority wants it, and what is said when it wants none of it.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use secrecy::ExposeSecret as _;
use tagwarden::azure::{AzureEnvironment, Credential, Identity};
use tagwarden::http_client::{RequestError, RequestErrorKind};

use super::PATIENCE;
use crate::support::azure::{CLIENT, Entra, SECRET, TENANT, identity_endpoint};

const REGISTRIES: &str = "https://containerregistry.azure.net/.default";
const MANAGEMENT: &str = "https://management.azure.com/.default";

#[tokio::test]
async fn a_token_is_asked_for_once_for_each_scope() {
    let entra = Entra::start().await;
    let tokens = entra.application().connect(PATIENCE).unwrap();
    let many = futures::future::join_all((0..20).map(|_| tokens.token(REGISTRIES))).await;
    for token in many {
        assert_eq!(token.unwrap().expose_secret(), "token-1");
    }
    assert_eq!(tokens.token(MANAGEMENT).await.unwrap().expose_secret(), "token-2");
    assert_eq!(tokens.token(REGISTRIES).await.unwrap().expose_secret(), "token-1");
    assert_eq!(entra.request_count(), 2);
    let form = entra.directory.lock().unwrap().asked[0].clone();
    let keys: Vec<&str> = form.keys().map(String::as_str).collect();
    assert_eq!(keys, ["client_id", "client_secret", "grant_type", "scope"]);
    assert!(!format!("{tokens:?}").contains("token-1") && !format!("{tokens:?}").contains(SECRET), "{tokens:?}");
}

#[tokio::test]
async fn a_token_is_renewed_before_its_end() {
    let entra = Entra::start().await;
    entra.directory.lock().unwrap().lifetime = Duration::from_secs(290);
    let tokens = entra.application().connect(PATIENCE).unwrap();
    for number in 1..4 {
        let token = tokens.token(REGISTRIES).await.unwrap();
        assert_eq!(token.expose_secret(), format!("token-{number}"), "less than five minutes are left");
    }
    entra.directory.lock().unwrap().lifetime = Duration::from_hours(1);
    assert_eq!(tokens.token(REGISTRIES).await.unwrap().expose_secret(), "token-4");
    assert_eq!(tokens.token(REGISTRIES).await.unwrap().expose_secret(), "token-4");
}

#[tokio::test]
async fn a_refused_token_is_replaced_and_another_one_is_not() {
    let entra = Entra::start().await;
    let tokens = entra.application().connect(PATIENCE).unwrap();
    let first = tokens.token(REGISTRIES).await.unwrap();
    let both = tokio::join!(tokens.renew_token(REGISTRIES, &first), tokens.renew_token(REGISTRIES, &first));
    assert_eq!(both.0.unwrap().expose_secret(), "token-2");
    assert_eq!(both.1.unwrap().expose_secret(), "token-2", "two who were refused at once share the new one");
    assert_eq!(entra.request_count(), 2);
}

#[tokio::test]
async fn throttling_slows_and_does_not_end() {
    let entra = Entra::start().await;
    entra.script_response(503, &[], "");
    for _ in 0..12 {
        entra.script_response(429, &[("retry-after", "0")], r#"{"error":"temporarily_unavailable"}"#);
    }
    let tokens = entra.application().connect(PATIENCE).unwrap();
    assert_eq!(tokens.token(REGISTRIES).await.unwrap().expose_secret(), "token-1");
    assert_eq!(entra.request_count(), 14);
    // Patience has an end, and what is asked for is never cut short.
    for _ in 0..2 {
        entra.script_response(429, &[("retry-after", "3600")], "");
    }
    let error = tokens.token(MANAGEMENT).await.unwrap_err();
    assert_eq!(error.kind, RequestErrorKind::Throttled, "{error}");
    assert_eq!(entra.request_count(), 15);
}

#[tokio::test]
async fn many_who_wait_for_one_failure_share_it() {
    let entra = Entra::start().await;
    for _ in 0..40 {
        entra.script_response(500, &[], "");
    }
    let tokens = entra.application().connect(PATIENCE).unwrap();
    let many = futures::future::join_all((0..20).map(|_| tokens.token(REGISTRIES))).await;
    assert!(many.iter().all(|token| token.as_ref().is_err_and(|error| error.kind == RequestErrorKind::Status(500))));
    assert_eq!(entra.request_count(), 1 + PATIENCE.max_retries);
    // The next one tries for itself.
    entra.directory.lock().unwrap().instead.clear();
    tokens.token(REGISTRIES).await.unwrap();
}

fn application(entra: &Entra, change: impl FnOnce(&mut String, &mut String, &mut String)) -> Credential {
    let (mut tenant_id, mut client_id, mut secret) = (TENANT.to_owned(), CLIENT.to_owned(), SECRET.to_owned());
    change(&mut tenant_id, &mut client_id, &mut secret);
    let identity = Identity::ClientSecret { tenant_id, client_id, secret: secret.into() };
    Credential { identity, environment: entra.surroundings() }
}

async fn refused(credential: &Credential, scope: &str) -> RequestError {
    let error = credential.connect(PATIENCE).unwrap().token(scope).await.unwrap_err();
    let shown = format!("{error:?}");
    assert!(!shown.contains(SECRET) && !shown.contains("Trace ID"), "{shown}");
    let whom = credential.description();
    assert!(error.chain().starts_with(&format!("signing in as {whom} failed: ")), "{error}");
    error
}

#[tokio::test]
async fn a_refusal_says_who_what_and_what_to_do() {
    let entra = Entra::start().await;
    let told = |error: RequestError, words: &[&str]| {
        assert_eq!(error.kind, RequestErrorKind::Denied, "{error}");
        for word in words {
            assert!(error.chain().contains(word), "{error}");
        }
    };
    let wrong = application(&entra, |_, _, secret| *secret = "hunter2-but-wrong".into());
    let words = ["answered 401", "(AADSTS7000215: Invalid client secret provided.)", "the secret's value, not its id"];
    told(refused(&wrong, REGISTRIES).await, &words);
    let other = application(&entra, |_, client, _| *client = TENANT.into());
    told(refused(&other, REGISTRIES).await, &["AADSTS700016", "check `client_id` and `tenant_id`"]);
    let elsewhere = application(&entra, |tenant, _, _| *tenant = CLIENT.into());
    told(refused(&elsewhere, REGISTRIES).await, &["AADSTS90002", "check `tenant_id` and the cloud"]);
    told(refused(&entra.application(), "https://x.example/.default").await, &["AADSTS500011", "check the cloud"]);
    // A body that repeats what was sent, and one that is no JSON.
    let echo = format!(r#"{{"error":"x","error_description":"you sent {SECRET}"}}"#);
    entra.script_response(400, &[], &echo);
    told(refused(&entra.application(), REGISTRIES).await, &["you sent ***"]);
    entra.script_response(403, &[], "<html>no</html>");
    told(refused(&entra.application(), REGISTRIES).await, &["answered 403", "a web page", "check the ids"]);
    // An answer that is none.
    for body in ["<html>login</html>", "{}", r#"{"access_token":""}"#, ""] {
        entra.script_response(200, &[], body);
        let error = refused(&entra.application(), REGISTRIES).await;
        assert_eq!(error.kind, RequestErrorKind::Malformed, "{error}");
    }
    entra.script_response(302, &[("location", "https://elsewhere.example/")], "");
    assert_eq!(refused(&entra.application(), REGISTRIES).await.kind, RequestErrorKind::Status(302));
}

#[tokio::test]
async fn an_authority_that_cannot_be_trusted_or_reached_gets_nothing() {
    let entra = Entra::start().await;
    let mut credential = entra.application();
    credential.environment.ca_file = None;
    let error = refused(&credential, REGISTRIES).await;
    assert_eq!(error.kind, RequestErrorKind::Connection, "{error}");
    assert!(error.chain().contains("check network, proxy and `ca_file`"), "{error}");
    assert_eq!(entra.request_count(), 0);

    credential.environment.authority = Some("http://127.0.0.1:1".parse().unwrap());
    let error = credential.connect(PATIENCE).unwrap_err();
    assert_eq!(error.kind, RequestErrorKind::InvalidSettings, "{error}");
    credential.environment.ca_file = Some("nowhere.pem".into());
    assert_eq!(credential.connect(PATIENCE).unwrap_err().kind, RequestErrorKind::InvalidSettings);
}

fn of_service_account(entra: &Entra, file: &Path) -> Credential {
    let identity = Identity::Workload {
        client_id: Some(CLIENT.into()),
        tenant_id: Some(TENANT.into()),
        token_file: Some(file.to_owned()),
    };
    Credential { identity, environment: entra.surroundings() }
}

#[tokio::test]
async fn a_service_accounts_token_is_read_when_it_is_needed() {
    let entra = Entra::start().await;
    let file = entra.folder.path().join("token");
    let rotate = |assertion: &str| {
        fs::write(&file, format!("{assertion}\n")).unwrap();
        let mut directory = entra.directory.lock().unwrap();
        directory.assertion = assertion.to_owned();
        directory.lifetime = Duration::from_mins(1);
    };
    rotate("assertion-1");
    let credential = of_service_account(&entra, &file);
    let tokens = credential.connect(PATIENCE).unwrap();
    assert_eq!(tokens.token(REGISTRIES).await.unwrap().expose_secret(), "token-1");
    rotate("assertion-2");
    assert_eq!(tokens.token(REGISTRIES).await.unwrap().expose_secret(), "token-2");
    for encoded in crate::support::encodings::as_windows_saves("assertion-2\r\n") {
        fs::write(&file, encoded).unwrap();
        tokens.token(REGISTRIES).await.unwrap();
    }

    entra.directory.lock().unwrap().assertion = "assertion-3".into();
    let error = tokens.token(REGISTRIES).await.unwrap_err();
    assert!(error.chain().contains("AADSTS700024") && error.chain().contains("the token file is renewed"), "{error}");
    assert!(!error.chain().contains("assertion-2"), "{error}");
    for (content, words) in [(Some(""), "is empty"), (None, "cannot be read")] {
        match content {
            Some(content) => fs::write(&file, content).unwrap(),
            None => fs::remove_file(&file).unwrap(),
        }
        let error = tokens.token(REGISTRIES).await.unwrap_err();
        assert_eq!(error.kind, RequestErrorKind::InvalidSettings, "{error}");
        assert!(error.chain().contains(words) && error.chain().contains("workload identity"), "{error}");
    }
}

#[test]
fn what_a_workload_identity_misses_is_named() {
    let identity = Identity::Workload { client_id: Some(CLIENT.into()), tenant_id: None, token_file: None };
    let credential = Credential { identity, environment: AzureEnvironment::default() };
    let error = credential.connect(PATIENCE).unwrap_err();
    assert_eq!(error.kind, RequestErrorKind::InvalidSettings);
    assert!(error.chain().contains("set `tenant_id`, or run where AZURE_TENANT_ID is set"), "{error}");
}

#[test]
fn identities_have_words() {
    let words = |identity| Credential { identity, environment: AzureEnvironment::default() }.description();
    let id = || Some("1234".to_owned());
    let cases = [
        (Identity::Managed { client_id: id() }, "managed identity 1234"),
        (Identity::Managed { client_id: None }, "the managed identity of this machine"),
        (
            Identity::Workload { client_id: id(), tenant_id: None, token_file: None },
            "workload identity 1234 of tenant unknown",
        ),
        (
            Identity::ClientSecret {
                tenant_id: "t".into(),
                client_id: "c".into(),
                secret: "hunter2".to_owned().into(),
            },
            "application c of tenant t",
        ),
        (Identity::AzureCli { tenant_id: None }, "the account of `az login`"),
        (Identity::AzureCli { tenant_id: id() }, "the account of `az login` in tenant 1234"),
    ];
    for (identity, expected) in cases {
        assert_eq!(words(identity), expected);
    }
}

/// The other half of the tests below: signs in with the environment that it was given, twice.
#[tokio::test]
#[ignore = "started by `signed_in_with`, with an environment of its own"]
async fn sign_in_here() {
    let mut kind = String::new();
    std::io::stdin().read_line(&mut kind).unwrap();
    let identity = match kind.trim() {
        "managed" => Identity::Managed { client_id: Some(CLIENT.into()) },
        "cli" => Identity::AzureCli { tenant_id: Some(TENANT.into()) },
        _ => return,
    };
    let surroundings = AzureEnvironment { timeout: Some(Duration::from_secs(2)), ..AzureEnvironment::default() };
    let tokens = Credential { identity, environment: surroundings }.connect(PATIENCE).unwrap();
    for _ in 0..2 {
        match tokens.token(REGISTRIES).await {
            Ok(token) => println!("signed in: {}", token.expose_secret()),
            Err(error) => println!("signed in: {}: {}", error.kind.label(), error.chain()),
        }
    }
}

/// What a process says that signs in with these variables.
fn signed_in_with(kind: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "azure::sign_in::sign_in_here", "--ignored", "--nocapture"])
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{kind}").unwrap();
    let output = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let said = output.lines().filter_map(|line| Some(line.split_once("signed in: ")?.1.to_owned()));
    said.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn app_service_is_asked_at_the_address_it_gives_and_by_no_proxy() {
    let url = identity_endpoint("open sesame").await;
    let endpoint = ("IDENTITY_ENDPOINT", url.as_str());
    let proxy = ("HTTP_PROXY", "http://127.0.0.1:9");
    let said = signed_in_with("managed", &[endpoint, ("IDENTITY_HEADER", "open sesame"), proxy]);
    assert_eq!(said, ["token-of-app-service", "token-of-app-service"]);
    let said = signed_in_with("managed", &[endpoint, ("IDENTITY_HEADER", "wrong"), proxy]);
    assert_eq!(said.len(), 2);
    assert!(said[0].starts_with("denied: ") && said[0].contains("(Unauthorized)"), "{said:?}");
    assert!(!said[0].contains("wrong"), "{said:?}");
}

#[cfg(unix)]
#[test]
fn the_azure_cli_is_run_once_and_its_words_are_told() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = format!("{}:/usr/bin:/bin", folder.path().display());
    let with_az = |script: &str| {
        let file = folder.path().join("az");
        fs::write(&file, format!("#!/bin/sh\necho \"$@\" >> {}/asked\n{script}\n", folder.path().display())).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        let said = signed_in_with("cli", &[("PATH", &path)]);
        assert_eq!(said.len(), 2);
        said
    };
    let good = r#"echo '{"accessToken":"token-of-az","expires_on":4102444800,"tokenType":"Bearer"}'"#;
    assert_eq!(with_az(good), ["token-of-az", "token-of-az"]);
    let asked = fs::read_to_string(folder.path().join("asked")).unwrap();
    assert_eq!(asked, format!("account get-access-token -o json --scope {REGISTRIES} --tenant {TENANT}\n"));

    let said = with_az("echo \"ERROR: Please run 'az login' to setup account.\" >&2; exit 1");
    assert!(said[0].starts_with("denied: signing in as the account of `az login` in tenant "), "{said:?}");
    assert!(said[0].contains("ERROR: Please run 'az login' to setup account.; run `az login`"), "{said:?}");
    let said = with_az("exec sleep 60");
    assert!(said[0].contains("`az` gave no answer in 2s"), "{said:?}");
    let said = with_az(r#"echo '{"accessToken":"hunter2","expires_on":"hunter2"}'"#);
    assert!(said[0].starts_with("malformed: ") && !said[0].contains("hunter2"), "{said:?}");
    fs::remove_file(folder.path().join("az")).unwrap();
    let said = signed_in_with("cli", &[("PATH", &path)]);
    assert!(said[0].starts_with("invalid-settings: ") && said[0].contains("install the Azure CLI"), "{said:?}");
}
