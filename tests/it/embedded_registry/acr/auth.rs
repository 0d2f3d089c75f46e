use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::SignedDuration;
use reqwest::Method;
use serde_json::{Value, json};
use tagwarden::demo::registry::{AcrOptions, EmbeddedRegistry, Identity, Permission, ScopedUser};

use super::super::{header, image, request, status_and_code};
use crate::support::acr::{ADMIN, ENTRA_TOKEN, clock, everything_allowed, start};

const REFRESH_USER: &str = "00000000-0000-0000-0000-000000000000";

async fn post(registry: &EmbeddedRegistry, path: &str, form: &[(&str, &str)]) -> (u16, Value) {
    let response = request(registry, Method::POST, path).form(form).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn refresh_token(registry: &EmbeddedRegistry) -> String {
    let form = [("grant_type", "access_token"), ("service", registry.host()), ("access_token", ENTRA_TOKEN)];
    let (status, body) = post(registry, "/oauth2/exchange", &form).await;
    assert_eq!(status, 200, "{body}");
    body["refresh_token"].as_str().unwrap().to_owned()
}

/// An access token for a refresh token.
async fn refreshed(registry: &EmbeddedRegistry, refresh: &str, scopes: &[&str]) -> Result<String, u16> {
    let mut form = vec![("grant_type", "refresh_token"), ("service", registry.host()), ("refresh_token", refresh)];
    form.extend(scopes.iter().map(|scope| ("scope", *scope)));
    let (status, body) = post(registry, "/oauth2/token", &form).await;
    if status != 200 {
        return Err(status);
    }
    assert!(body.get("expires_in").is_none(), "{body}");
    Ok(body["access_token"].as_str().unwrap().to_owned())
}

async fn signed_in(registry: &EmbeddedRegistry, scopes: &[&str]) -> String {
    refreshed(registry, &refresh_token(registry).await, scopes).await.unwrap()
}

fn claims(token: &str) -> Value {
    assert_eq!(token.split('.').count(), 3);
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

async fn status(registry: &EmbeddedRegistry, token: &str, method: Method, path: &str) -> u16 {
    request(registry, method, path).bearer_auth(token).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn tokens_say_what_recorded_ones_say() {
    let registry = start(everything_allowed()).await;
    let refresh = refresh_token(&registry).await;
    let told = claims(&refresh);
    let seconds = |claims: &Value, key: &str| claims[key].as_i64().unwrap();
    assert_eq!(seconds(&told, "exp") - seconds(&told, "iat"), 11_700, "three hours, and a quarter back-dated");
    assert_eq!(told["iat"], told["nbf"]);
    assert_eq!((&told["aud"], &told["grant_type"]), (&json!(registry.host()), &json!("refresh_token")));
    let actions = json!(["read", "write", "delete", "deleted/read", "deleted/restore/action"]);
    assert_eq!(told["permissions"]["Actions"], actions);
    assert!(told.get("aad_identity").is_none(), "only where roles are given for repositories");

    let scopes = ["repository:shop/api:metadata_read,delete registry:catalog:*", "repository:b:*"];
    let told = claims(&refreshed(&registry, &refresh, &scopes).await.unwrap());
    assert_eq!(seconds(&told, "exp") - seconds(&told, "iat"), 4500);
    let all = ["pull", "push", "delete", "metadata_read", "metadata_write", "deleted_read", "deleted_restore"];
    let access = json!([
        { "Type": "repository", "Name": "shop/api", "Actions": ["delete", "metadata_read"] },
        { "Type": "registry", "Name": "catalog", "Actions": ["*"] },
        { "Type": "repository", "Name": "b", "Actions": all },
    ]);
    assert_eq!(told["access"], access);

    let lower = start(AcrOptions { lower_case_claims: true, ..everything_allowed() }).await;
    lower.put_image("a", "v1", &image("one"));
    let token = signed_in(&lower, &["repository:a:pull"]).await;
    assert_eq!(claims(&token)["access"], json!([{ "type": "repository", "name": "a", "actions": ["pull"] }]));
    assert_eq!(status(&lower, &token, Method::GET, "/v2/a/manifests/v1").await, 200);
}

#[tokio::test]
async fn every_call_needs_its_own_scope() {
    let registry = start(everything_allowed()).await;
    registry.put_image("a/b", "v1", &image("one"));
    let digest = image("one").digest;
    let (one, by_digest) = (format!("/acr/v1/a/b/_manifests/{digest}"), format!("/v2/a/b/manifests/{digest}"));
    let referrers = format!("/v2/a/b/referrers/{digest}");
    let bin = format!("/acr/v1/_deleted/a/b/_manifests/{digest}");
    for (method, path, scope) in [
        (Method::GET, "/acr/v1/_catalog", "registry:catalog:*"),
        (Method::GET, "/v2/_catalog", "registry:catalog:*"),
        (Method::GET, "/acr/v1/_deleted/_catalog", "registry:deleted_catalog:*"),
        (Method::GET, "/acr/v1/a/b", "repository:a/b:metadata_read"),
        (Method::GET, "/acr/v1/a%2Fb/_tags", "repository:a/b:metadata_read"),
        (Method::GET, "/acr/v1/a/b/_tags/v1", "repository:a/b:metadata_read"),
        (Method::GET, "/acr/v1/a/b/_manifests", "repository:a/b:metadata_read"),
        (Method::GET, &one, "repository:a/b:metadata_read"),
        (Method::GET, "/v2/a/b/tags/list", "repository:a/b:metadata_read"),
        (Method::PATCH, "/acr/v1/a/b", "repository:a/b:metadata_write"),
        (Method::PATCH, "/acr/v1/a/b/_tags/v1", "repository:a/b:metadata_write"),
        (Method::PATCH, &one, "repository:a/b:metadata_write"),
        (Method::GET, "/v2/a/b/manifests/v1", "repository:a/b:pull"),
        (Method::GET, &referrers, "repository:a/b:pull"),
        (Method::POST, "/v2/a/b/blobs/uploads/", "repository:a/b:pull,push"),
        (Method::POST, &bin, "repository:a/b:deleted_read,deleted_restore"),
        (Method::DELETE, "/acr/v1/a/b/_tags/v1", "repository:a/b:delete"),
        (Method::DELETE, &by_digest, "repository:a/b:delete"),
        (Method::DELETE, "/acr/v1/a/b", "repository:a/b:delete"),
    ] {
        let call = || request(&registry, method.clone(), path);
        let response = call().send().await.unwrap();
        let base = format!("Bearer realm=\"{}/oauth2/token\",service=\"{}\"", registry.url(), registry.host());
        let challenge = format!("{base},scope=\"{scope}\"");
        assert_eq!(header(&response, "www-authenticate"), challenge, "{method} {path}");
        let body: Value = response.json().await.unwrap();
        let (name, actions) = scope.split_once(':').unwrap().1.rsplit_once(':').unwrap();
        let kind = scope.split(':').next().unwrap();
        let detail = actions.split(',').map(|action| json!({ "Type": kind, "Name": name, "Action": action }));
        assert_eq!(body["errors"][0]["detail"], detail.collect::<Value>(), "{method} {path}");
        assert_eq!(body["errors"][0]["code"], "UNAUTHORIZED");

        let other = signed_in(&registry, &["repository:other:*"]).await;
        let refused = call().bearer_auth(&other).send().await.unwrap();
        assert_eq!(refused.status(), 401);
        assert_eq!(header(&refused, "www-authenticate"), format!("{challenge},error=\"insufficient_scope\""));
        let right = signed_in(&registry, &[scope]).await;
        assert_ne!(call().bearer_auth(&right).send().await.unwrap().status(), 401, "{method} {path}");
    }
    let ping = request(&registry, Method::GET, "/v2/").send().await.unwrap();
    assert_eq!(ping.status(), 401);
    assert!(!header(&ping, "www-authenticate").contains("scope"));
}

#[tokio::test]
async fn an_identity_that_may_do_less_gets_a_token_that_says_less() {
    let reader = Identity::new("reader", ENTRA_TOKEN, [Permission::MetadataRead, Permission::Catalog]);
    let registry = start(AcrOptions::new(clock()).identity(reader)).await;
    registry.put_image("a", "v1", &image("one"));
    let token = signed_in(&registry, &["repository:a:metadata_read,delete"]).await;
    assert_eq!(claims(&token)["access"][0]["Actions"], json!(["metadata_read"]));
    assert_eq!(status(&registry, &token, Method::GET, "/acr/v1/a/_tags").await, 200);
    assert_eq!(status(&registry, &token, Method::DELETE, "/acr/v1/a/_tags/v1").await, 401);
    assert_eq!(registry.tags("a").len(), 1);
    let form = [("grant_type", "access_token"), ("access_token", "somebody else's")];
    let (status, body) = post(&registry, "/oauth2/exchange", &form).await;
    assert_eq!((status, &body["errors"][0]["code"]), (401, &json!("UNAUTHORIZED")));
}

#[tokio::test]
async fn wildcards_count_only_where_roles_are_for_the_registry() {
    let all = Identity::new("ci", ENTRA_TOKEN, Permission::ALL)
        .in_repository("a", [Permission::MetadataRead, Permission::Delete])
        .in_repository("*", Permission::ALL);
    let registry = start(AcrOptions::new(clock()).identity(all)).await;
    registry.put_image("a", "v1", &image("one"));
    registry.put_image("b", "v1", &image("one"));
    let wild = ["registry:catalog:* repository:*:*"];
    let old_refresh = refresh_token(&registry).await;
    let old = refreshed(&registry, &old_refresh, &wild).await.unwrap();
    for path in ["/acr/v1/_catalog", "/acr/v1/a/_tags", "/acr/v1/b/_tags"] {
        assert_eq!(status(&registry, &old, Method::GET, path).await, 200, "{path}");
    }

    registry.set_abac(true);
    assert_eq!(status(&registry, &old, Method::GET, "/acr/v1/a/_tags").await, 401, "the switch ends all tokens");
    assert_eq!(refreshed(&registry, &old_refresh, &wild).await, Err(401));
    let refresh = refresh_token(&registry).await;
    assert!(claims(&refresh).get("aad_identity").is_some());
    let deaf = refreshed(&registry, &refresh, &wild).await.unwrap();
    assert_eq!(claims(&deaf)["access"], json!([]), "neither the wildcard nor the catalogue, which is another role");
    let named = ["repository:a:metadata_read,metadata_write,delete", "repository:b:metadata_read"];
    let token = refreshed(&registry, &refresh, &named).await.unwrap();
    assert_eq!(claims(&token)["access"].as_array().unwrap().len(), 1);
    assert_eq!(status(&registry, &token, Method::GET, "/acr/v1/a/_tags").await, 200);
    assert_eq!(status(&registry, &token, Method::GET, "/acr/v1/b/_tags").await, 401);
    assert_eq!(status(&registry, &token, Method::PATCH, "/acr/v1/a/_tags/v1").await, 401);
    assert_eq!(status(&registry, &token, Method::DELETE, "/acr/v1/a/_tags/v1").await, 202);
}

#[tokio::test]
async fn tokens_end() {
    let registry = start(everything_allowed()).await;
    registry.put_image("a", "v1", &image("one"));
    let refresh = refresh_token(&registry).await;
    let scope = ["repository:a:metadata_read"];
    let token = refreshed(&registry, &refresh, &scope).await.unwrap();
    registry.advance_time(SignedDuration::from_mins(59));
    assert_eq!(status(&registry, &token, Method::GET, "/acr/v1/a/_tags").await, 200);
    registry.advance_time(SignedDuration::from_mins(1));
    let response = request(&registry, Method::GET, "/acr/v1/a/_tags").bearer_auth(&token).send().await.unwrap();
    assert!(header(&response, "www-authenticate").ends_with(",error=\"invalid_token\""));
    assert!(refreshed(&registry, &refresh, &scope).await.is_ok(), "the refresh token lasts longer");
    registry.advance_time(SignedDuration::from_hours(2));
    assert_eq!(refreshed(&registry, &refresh, &scope).await, Err(401));

    let token = signed_in(&registry, &scope).await;
    registry.expire_tokens();
    assert_eq!(status(&registry, &token, Method::GET, "/acr/v1/a/_tags").await, 401);
    let refresh = refresh_token(&registry).await;
    assert_eq!(status(&registry, &refresh, Method::GET, "/acr/v1/a/_tags").await, 401, "not a token for calls");
    let other = start(everything_allowed()).await;
    let foreign = signed_in(&other, &scope).await;
    assert_eq!(status(&registry, &foreign, Method::GET, "/acr/v1/a/_tags").await, 401, "signed by another registry");
}

#[tokio::test]
async fn users_with_passwords_come_directly_or_for_a_token() {
    let repositories = BTreeMap::from([("a".to_owned(), [Permission::MetadataRead].into())]);
    let scoped = ScopedUser { user: "team".into(), password: "pass:word".into(), repositories };
    let registry = start(AcrOptions { scoped_users: vec![scoped], ..everything_allowed() }).await;
    registry.put_image("a", "v1", &image("one"));
    registry.put_image("b", "v1", &image("one"));
    let refresh = refresh_token(&registry).await;
    let admin = (ADMIN.0, ADMIN.1);
    for ((user, password), path, expected) in [
        (admin, "/v2/", 200),
        (admin, "/acr/v1/b/_tags", 200),
        (admin, "/v2/a/manifests/v1", 200),
        ((ADMIN.0, "wrong"), "/v2/", 401),
        (("team", "pass:word"), "/acr/v1/a/_tags", 200),
        (("team", "pass:word"), "/acr/v1/b/_tags", 401),
        (("team", "pass:word"), "/v2/a/manifests/v1", 401),
        (("team", "pass:word"), "/acr/v1/_catalog", 401),
        ((REFRESH_USER, refresh.as_str()), "/acr/v1/b/_tags", 200),
        ((REFRESH_USER, "forged"), "/acr/v1/b/_tags", 401),
    ] {
        let direct = request(&registry, Method::GET, path).basic_auth(user, Some(password)).send().await.unwrap();
        assert_eq!(direct.status(), expected, "{user} {path}");
        if path != "/acr/v1/a/_tags" && path != "/acr/v1/b/_tags" {
            continue;
        }
        let scope = format!("repository:{}:metadata_read", &path[8..9]);
        let token = format!("/oauth2/token?service=x&scope={scope}");
        let got = request(&registry, Method::GET, &token).basic_auth(user, Some(password)).send().await.unwrap();
        let form = [("grant_type", "password"), ("username", user), ("password", password), ("scope", scope.as_str())];
        let posted = post(&registry, "/oauth2/token", &form).await;
        assert_eq!(got.status().as_u16(), posted.0);
        for body in [got.json::<Value>().await.unwrap(), posted.1] {
            let token = body["access_token"].as_str().unwrap_or_default();
            assert_eq!(status(&registry, token, Method::GET, path).await, expected, "{user} {path}");
        }
    }
}

#[tokio::test]
async fn everyone_may_pull_only_where_that_is_allowed() {
    for anonymous_pull in [false, true] {
        let registry = start(AcrOptions { anonymous_pull, ..everything_allowed() }).await;
        registry.put_image("a", "v1", &image("one"));
        let form = [("grant_type", "password"), ("service", "x"), ("scope", "repository:a:pull,push,delete")];
        let (status_code, body) = post(&registry, "/oauth2/token", &form).await;
        assert_eq!(status_code, if anonymous_pull { 200 } else { 401 });
        if let Some(token) = body["access_token"].as_str() {
            assert_eq!(status(&registry, token, Method::GET, "/v2/a/manifests/v1").await, 200);
            assert_eq!(status(&registry, token, Method::DELETE, "/acr/v1/a/_tags/v1").await, 401);
        }
        let refused = request(&registry, Method::GET, "/v2/a/manifests/v1").send().await.unwrap();
        assert_eq!(status_and_code(refused).await, (401, "UNAUTHORIZED".into()), "not without a token");
    }
}
