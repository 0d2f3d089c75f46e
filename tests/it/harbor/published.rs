//! Harbor's published description of its API (`swagger.json`, taken from its `api/v2.0/swagger.yaml`): every request that
//! Tagwarden sends is in it, and every answer of the embedded Harbor has its shape.

use std::collections::BTreeSet;

use http::Method;
use serde_json::{Value, json};
use tagwarden::demo::image::{self, Format};
use tagwarden::demo::registry::{EmbeddedRegistry, HarborSchedule, ServedRequest};

use super::{ROBOT, fixture, image as build, options, put, start};
use crate::support::memory::MemoryCache;

fn published() -> Value {
    serde_json::from_str(include_str!("swagger.json")).unwrap()
}

/// The published operation of a request: its method and its path with the names of parameters.
fn operation(published: &Value, method: &Method, path: &str) -> Option<String> {
    let path = path.strip_prefix("/api/v2.0")?;
    let fits = |pattern: &str| {
        let (mut a, mut b) = (pattern.split('/'), path.split('/'));
        loop {
            match (a.next(), b.next()) {
                (None, None) => return true,
                (Some(pattern), Some(part)) if pattern == part || pattern.starts_with('{') && !part.is_empty() => {}
                _ => return false,
            }
        }
    };
    let names = published["operations"].as_object().unwrap().keys();
    names.into_iter().find(|name| name.strip_prefix(&format!("{method} ")).is_some_and(fits)).cloned()
}

/// Holds a value against a published shape. Harbor writes `null` for empty lists and for what it leaves out.
fn check(published: &Value, shape: &Value, value: &Value, at: &str) {
    if value.is_null() {
        return;
    }
    if let Some(name) = shape["$ref"].as_str() {
        return check(published, &published["definitions"][name], value, at);
    }
    match shape["type"].as_str() {
        Some("array") => {
            let rows = value.as_array().unwrap_or_else(|| panic!("{at} is not a list: {value}"));
            for row in rows {
                check(published, &shape["items"], row, &format!("{at}[]"));
            }
        }
        Some("integer") => assert!(value.is_i64() || value.is_u64(), "{at}: {value}"),
        Some("boolean") => assert!(value.is_boolean(), "{at}: {value}"),
        Some("string") => {
            let text = value.as_str().unwrap_or_else(|| panic!("{at} is not a text: {value}"));
            if shape["format"] == "date-time" {
                assert!(text.parse::<jiff::Timestamp>().is_ok(), "{at} is not a time: {text}");
            }
            if let Some(allowed) = shape["enum"].as_array() {
                assert!(allowed.contains(value), "{at}: {value}");
            }
        }
        _ => {
            // A published object without properties takes anything.
            if shape["properties"].is_null() && shape["additionalProperties"].is_null() {
                return;
            }
            let fields = value.as_object().unwrap_or_else(|| panic!("{at} is not an object: {value}"));
            for (key, inner) in fields {
                let known = shape["properties"].get(key).or_else(|| shape.get("additionalProperties"));
                let known = known.unwrap_or_else(|| panic!("{at}.{key} is not published"));
                check(published, known, inner, &format!("{at}.{key}"));
            }
        }
    }
}

/// Asks the embedded Harbor, and holds its answer against the published one.
async fn ask(registry: &EmbeddedRegistry, method: &str, path: &str, body: Option<Value>) -> u16 {
    let (published, method) = (published(), method.parse::<Method>().unwrap());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client
        .request(method.as_str().parse().unwrap(), format!("{}{path}", registry.url()))
        .basic_auth(ROBOT.0, Some(ROBOT.1));
    let request = match body {
        Some(body) => request.header("content-type", "application/json").body(body.to_string()),
        None => request,
    };
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let name = operation(&published, &method, path.split('?').next().unwrap());
    let name = name.unwrap_or_else(|| panic!("{method} {path} is not published"));
    let responses = &published["operations"][&name]["responses"];
    // Harbor answers so by its own source; its description leaves the status out of these operations.
    let shape = responses.get(status.to_string()).unwrap_or(&json!({ "$ref": "Errors" })).clone();
    let bytes = response.bytes().await.unwrap();
    if !bytes.is_empty() {
        check(&published, &shape, &serde_json::from_slice(&bytes).unwrap(), &format!("{name} {status}"));
    }
    status
}

#[tokio::test]
async fn answers_of_the_embedded_harbor_have_the_published_shapes() {
    let retention = json!({
        "id": 101, "algorithm": "or", "scope": { "level": "project", "ref": 1 },
        "trigger": { "kind": "Schedule", "settings": { "cron": "0 0 0 * * *" }, "references": {} },
        "rules": [{ "id": 1, "action": "retain", "template": "always", "params": {}, "tag_selectors": [], "scope_selectors": {} }],
    });
    let mut options = options();
    options.projects.get_mut("shop").unwrap().retention = Some(retention);
    let schedule = HarborSchedule { kind: "Daily".into(), cron: "0 0 0 * * *".into(), delete_untagged: true };
    options.garbage_collection = Some(schedule);
    let registry = start(options).await;
    let index = image::index(Format::Oci, &[build("amd64", 9), build("arm64", 9)]);
    put(&registry, "shop/a/b", "v1", &index, 5);
    put(&registry, "shop/a/b", &image::companion_tag(&index.digest, ".sig"), &image::signature(&index.digest, "x"), 5);
    let artifacts = "/api/v2.0/projects/shop/repositories/a%252Fb/artifacts";
    let one = format!("{artifacts}/{}", index.digest);
    for (method, path, body, expected) in [
        ("GET", "/api/v2.0/projects?page_size=100".to_owned(), None, 200),
        ("GET", "/api/v2.0/repositories".to_owned(), None, 200),
        ("GET", "/api/v2.0/projects/shop/repositories".to_owned(), None, 200),
        ("GET", "/api/v2.0/projects/none/repositories".to_owned(), None, 403),
        ("GET", "/api/v2.0/projects/shop/repositories/a%252Fb".to_owned(), None, 200),
        ("GET", format!("{artifacts}?with_immutable_status=true&with_accessory=true"), None, 200),
        ("GET", format!("{artifacts}?page_size=101"), None, 422),
        ("GET", one.clone(), None, 200),
        ("GET", format!("{artifacts}/v2"), None, 404),
        ("GET", format!("{one}/tags"), None, 200),
        ("GET", format!("{one}/accessories"), None, 200),
        ("GET", "/api/v2.0/systeminfo".to_owned(), None, 200),
        ("GET", "/api/v2.0/system/gc/schedule".to_owned(), None, 200),
        ("GET", "/api/v2.0/retentions/101".to_owned(), None, 200),
        ("GET", "/api/v2.0/quotas?reference=project".to_owned(), None, 200),
        ("GET", "/api/v2.0/users/current/permissions?scope=/project/1&relative=true".to_owned(), None, 200),
        ("POST", format!("{one}/tags"), Some(json!({ "name": "v2" })), 201),
        ("POST", format!("{one}/tags"), Some(json!({ "name": "v2" })), 409),
        ("DELETE", format!("{one}/tags/v2"), None, 200),
        ("DELETE", format!("{one}/tags/v2"), None, 404),
        ("DELETE", one, None, 403),
    ] {
        assert_eq!(ask(&registry, method, &path, body).await, expected, "{method} {path}");
    }
}

/// Holds a request against the published description: its path, its parameters, and the size of its pages.
fn check_request(published: &Value, request: &ServedRequest) -> String {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let name = operation(published, &request.method, path);
    let name = name.unwrap_or_else(|| panic!("{} {path} is not published", request.method));
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let known = published["operations"][&name]["query"].get(&*key);
        let known = known.unwrap_or_else(|| panic!("{name} has no parameter {key}"));
        match known["type"].as_str() {
            Some("integer") => {
                let number: u64 = value.parse().unwrap_or_else(|_| panic!("{name} {key}={value}"));
                assert!(known["maximum"].as_u64().is_none_or(|most| number <= most), "{name} {key}={value}");
            }
            Some("boolean") => assert!(matches!(&*value, "true" | "false"), "{name} {key}={value}"),
            _ => {}
        }
    }
    name
}

/// Everything that a plan, a run and a restore ask, held against the published description.
#[tokio::test]
async fn every_request_is_a_published_one() {
    let policies =
        "policies:\n  - name: newest\n    select: { tags: [\"*\"] }\n    keep: [{ newest: 2 }]\n    mode: enforce\n";
    let walk = fixture(|options| options, policies).await;
    for number in 0..5_i64 {
        let tag = format!("v{number}");
        put(&walk.registry, "shop/a/b", &tag, &build(&tag, 50 - number), 50 - number);
    }
    walk.snapshot_tags();
    let plan = walk.plan().await;
    let came = walk.apply(&plan).await;
    assert_eq!(came.code, 0, "{}", came.text);
    assert_eq!(walk.restore(&came.run_id()).await.unwrap().outcome().exit_code(), 0);
    let reader = super::reader(&walk.registry.url());
    let (shop, digest) = (crate::registry::name("shop/a/b"), build("v1", 49).digest);
    reader.referrers(&shop, &digest).await.unwrap();
    reader.tags(&shop).await.unwrap();
    reader.repository(&shop, &[build("none", 1).digest].into(), &MemoryCache::default()).await;
    let published = published();
    let mut used = BTreeSet::new();
    for request in walk.registry.requests().iter().filter(|request| !request.path.starts_with("/v2/")) {
        used.insert(check_request(&published, request));
        assert!(request.authorization_present, "{request:?}");
    }
    for expected in [
        "GET /repositories",
        "GET /projects",
        "GET /projects/{project_name}/repositories/{repository_name}/artifacts",
        "GET /projects/{project_name}/repositories/{repository_name}/artifacts/{reference}",
        "GET /projects/{project_name}/repositories/{repository_name}/artifacts/{reference}/accessories",
        "DELETE /projects/{project_name}/repositories/{repository_name}/artifacts/{reference}/tags/{tag_name}",
        "POST /projects/{project_name}/repositories/{repository_name}/artifacts/{reference}/tags",
        "GET /system/gc/schedule",
        "GET /users/current/permissions",
    ] {
        assert!(used.contains(expected), "{expected}: {used:?}");
    }
    // Beside them, only manifests are pulled.
    let registry = walk.registry.requests().into_iter().filter(|request| request.path.starts_with("/v2/"));
    for request in registry {
        assert!(request.method == Method::GET && request.path.contains("/manifests/sha256:"), "{request:?}");
    }
}
