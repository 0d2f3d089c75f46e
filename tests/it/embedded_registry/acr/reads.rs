use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};
use tagwarden::demo::blob::Blob;
use tagwarden::demo::image::{AMD64, Format, Image, ImageSpec, index, multi_arch};
use tagwarden::demo::registry::{AcrOptions, EmbeddedRegistry, Target};

use super::super::{header, image, now};
use super::{answer, problem, read, registry, status};
use crate::support::acr::{everything_allowed, start};

const ALL: [(&str, bool); 4] =
    [("deleteEnabled", true), ("writeEnabled", true), ("readEnabled", true), ("listEnabled", true)];

fn attributes() -> Value {
    ALL.into_iter().map(|(key, value)| (key.to_owned(), json!(value))).collect()
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn put(registry: &EmbeddedRegistry, tag: &str, image: &Image, at: &str) {
    registry.content(|content| {
        content.set_now(time(at));
        content.put_image("shop/api", Some(tag), image);
    });
}

#[tokio::test]
async fn tags_are_told_with_exactly_their_fields() {
    let registry = registry().await;
    let image = image("one");
    put(&registry, "v1", &image, "2022-07-08T21:58:45.1880796Z");
    let tag = json!({
        "name": "v1", "digest": image.digest.to_string(), "createdTime": "2022-07-08T21:58:45.1880796Z",
        "lastUpdateTime": "2022-07-08T21:58:45.1880796Z", "signed": false, "changeableAttributes": attributes(),
    });
    let host = registry.host();
    let list = json!({ "registry": host, "imageName": "shop/api", "tags": [tag] });
    for path in ["/acr/v1/shop/api/_tags", "/acr/v1/shop%2Fapi/_tags?api-version=2021-07-01"] {
        assert_eq!(read(&registry, path).await, list, "{path}");
    }
    let one = json!({ "registry": host, "imageName": "shop/api", "tag": tag });
    assert_eq!(read(&registry, "/acr/v1/shop%2Fapi/_tags/v1").await, one);
    assert_eq!(read(&registry, "/v2/shop/api/tags/list").await, json!({ "name": "shop/api", "tags": ["v1"] }));
}

#[tokio::test]
async fn times_lose_their_zeros_and_have_at_most_seven_digits() {
    let registry = registry().await;
    for (tag, at, told) in [
        ("a", "2022-07-08T21:58:09.172007Z", "2022-07-08T21:58:09.172007Z"),
        ("b", "2022-07-08T21:58:09Z", "2022-07-08T21:58:09Z"),
        ("c", "2022-07-08T21:58:09.123456789Z", "2022-07-08T21:58:09.1234567Z"),
        ("d", "2022-07-08T21:58:09.500Z", "2022-07-08T21:58:09.5Z"),
    ] {
        put(&registry, tag, &image("one"), at);
        assert_eq!(read(&registry, &format!("/acr/v1/shop/api/_tags/{tag}")).await["tag"]["createdTime"], told);
    }
}

#[tokio::test]
async fn manifests_are_told_with_exactly_their_fields() {
    let registry = registry().await;
    let list = multi_arch(now(), |platform| vec![Blob::layer(platform.architecture, 1000)]);
    let at = "2026-01-01T00:00:00Z";
    put(&registry, "list", &list, at);
    let body = read(&registry, "/acr/v1/shop/api/_manifests").await;
    let told = |digest: &Image| {
        let wanted = digest.digest.to_string();
        body["manifests"].as_array().unwrap().iter().find(|row| row["digest"] == wanted.as_str()).unwrap().clone()
    };
    let size = |image: &Image| image.bytes.len() as u64 + image.blobs.iter().map(Blob::length).sum::<u64>();
    let child = &list.children[0];
    let fields = json!({
        "digest": child.digest.to_string(), "imageSize": size(child), "createdTime": at, "lastUpdateTime": at,
        "architecture": AMD64.architecture, "os": AMD64.os, "mediaType": child.media_type,
        "changeableAttributes": attributes(),
    });
    assert_eq!(told(child), fields, "an untagged manifest has no `tags`");
    let whole = list.bytes.len() as u64 + list.children.iter().map(size).sum::<u64>();
    let mut fields = json!({
        "digest": list.digest.to_string(), "imageSize": whole, "createdTime": at, "lastUpdateTime": at,
        "mediaType": list.media_type, "tags": ["list"], "changeableAttributes": attributes(),
    });
    assert_eq!(told(&list), fields, "an index has no architecture");
    let one = read(&registry, &format!("/acr/v1/shop/api/_manifests/{}", list.digest)).await;
    let references = one["manifest"]["references"].clone();
    let first = json!({ "digest": child.digest.to_string(), "architecture": "amd64", "os": "linux" });
    assert_eq!(references[0], first);
    fields["references"] = references;
    assert_eq!(one, json!({ "registry": registry.host(), "imageName": "shop/api", "manifest": fields }));

    let repository = read(&registry, "/acr/v1/shop/api").await;
    let counts = json!({
        "registry": registry.host(), "imageName": "shop/api", "createdTime": at, "lastUpdateTime": at,
        "manifestCount": list.children.len() + 1, "tagCount": 1, "changeableAttributes": attributes(),
    });
    assert_eq!(repository, counts);
}

#[tokio::test]
async fn a_manifest_shows_ten_of_its_tags() {
    let registry = registry().await;
    for number in 10..23 {
        registry.put_image("a", &format!("t{number}"), &image("one"));
    }
    let tags = read(&registry, "/acr/v1/a/_manifests").await["manifests"][0]["tags"].clone();
    assert_eq!(tags, json!((10..20).map(|number| format!("t{number}")).collect::<Vec<_>>()));
    assert_eq!(read(&registry, "/acr/v1/a/_tags").await["tags"].as_array().unwrap().len(), 13);
}

/// The names on a page and where its `Link` leads.
async fn page(registry: &EmbeddedRegistry, path: &str) -> (String, String) {
    let response = answer(registry, Method::GET, path).await;
    let link = header(&response, "link").to_owned();
    let body: Value = response.json().await.unwrap();
    let names = body["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap());
    (names.collect(), link)
}

#[tokio::test]
async fn pages_are_linked_as_recorded() {
    let registry = registry().await;
    let (one, two) = (image("one"), image("two"));
    for (tag, image, hour) in [("a", &one, 4), ("b", &two, 1), ("c", &one, 3), ("d", &two, 2)] {
        put(&registry, tag, image, &format!("2026-01-01T0{hour}:00:00Z"));
    }
    let tags = "/acr/v1/shop%2Fapi/_tags";
    let digest = one.digest.to_string().replace(':', "%3A");
    for (query, names, link) in [
        ("", "abcd", None),
        ("n=4", "abcd", None),
        ("n=2", "ab", Some("last=b&n=2&orderby=")),
        ("n=2&last=b", "cd", None),
        ("n=2&last=aa", "bc", Some("last=c&n=2&orderby=")),
        ("n=3&orderby=timeasc", "bdc", Some("last=c&n=3&orderby=timeasc")),
        ("n=3&orderby=timeasc&last=c", "a", None),
        ("n=2&orderby=timedesc", "ac", Some("last=c&n=2&orderby=timedesc")),
        ("n=2&orderby=timedesc&last=c", "db", None),
        (&format!("digest={digest}"), "ac", None),
        // The next page holds tags of other digests, too.
        (&format!("n=1&digest={digest}"), "a", Some("last=a&n=1&orderby=")),
        (&format!("n=1&orderby=timedesc&digest={digest}&last=a"), "c", None),
    ] {
        let link = link.map(|link| format!("<{tags}?{link}>; rel=\"next\"")).unwrap_or_default();
        assert_eq!(page(&registry, &format!("{tags}?{query}")).await, (names.to_owned(), link), "{query}");
    }

    let response = answer(&registry, Method::GET, "/acr/v1/shop/api/_manifests?n=1").await;
    let first = one.digest.clone().min(two.digest.clone()).to_string().replace(':', "%3A");
    let link = format!("</acr/v1/shop%2Fapi/_manifests?last={first}&n=1&orderby=>; rel=\"next\"");
    assert_eq!(header(&response, "link"), link);
    registry.put_image("b", "v1", &one);
    for path in ["/acr/v1/_catalog", "/v2/_catalog"] {
        let response = answer(&registry, Method::GET, &format!("{path}?n=1")).await;
        assert_eq!(header(&response, "link"), format!("<{path}?last=b&n=1&orderby=>; rel=\"next\""));
        assert_eq!(read(&registry, &format!("{path}?n=1&last=b")).await, json!({ "repositories": ["shop/api"] }));
    }
}

#[tokio::test]
async fn a_page_has_a_hundred_rows_and_never_more_than_a_thousand() {
    let registry = registry().await;
    let image = image("one");
    registry.put_image("a", "t0000", &image);
    registry
        .content(|content| (1..1500).for_each(|n| assert!(content.move_tag("a", &format!("t{n:04}"), &image.digest))));
    for (query, rows) in [("", 100), ("?n=0", 100), ("?n=999", 999), ("?n=10000", 1000)] {
        for list in ["/acr/v1/a/_tags", "/v2/a/tags/list"] {
            let tags = read(&registry, &format!("{list}{query}")).await["tags"].as_array().unwrap().len();
            assert_eq!(tags, rows, "{list}{query}");
        }
    }
    assert_eq!(status(&registry, Method::GET, "/acr/v1/a/_tags?n=many").await, 400);
}

/// What `acr purge` does: it lists the newest first, deletes what it has listed, and asks for what comes after it.
#[tokio::test]
async fn what_was_listed_can_be_deleted_before_the_next_page() {
    let registry = registry().await;
    let image = image("one");
    registry.content(|content| {
        content.put_image("a", Some("t000"), &image);
        for n in 1..250 {
            content.set_now(now() + SignedDuration::from_secs(n));
            assert!(content.move_tag("a", &format!("t{n:03}"), &image.digest));
        }
    });
    let (mut last, mut seen) = (String::new(), 0);
    loop {
        let body = read(&registry, &format!("/acr/v1/a/_tags?n=100&orderby=timedesc&last={last}")).await;
        let Some(tag) = body["tags"].as_array().unwrap().last() else { break };
        tag["name"].as_str().unwrap().clone_into(&mut last);
        for tag in body["tags"].as_array().unwrap() {
            assert!(registry.delete_tag("a", tag["name"].as_str().unwrap()));
            seen += 1;
        }
    }
    assert_eq!(seen, 250);
}

#[tokio::test]
async fn what_is_not_listed_is_still_there() {
    let registry = registry().await;
    let (one, two) = (image("one"), image("two"));
    registry.put_image("a", "hidden", &one);
    registry.put_image("a", "shown", &two);
    registry.put_image("b", "v1", &one);
    registry.content(|content| {
        let targets = [("a", Target::Tag("hidden")), ("a", Target::Manifest(&two.digest)), ("b", Target::Repository)];
        for (repository, target) in targets {
            content.attributes_mut(repository, target).unwrap().list = false;
        }
    });
    assert_eq!(read(&registry, "/acr/v1/_catalog").await, json!({ "repositories": ["a"] }));
    assert_eq!(page(&registry, "/acr/v1/a/_tags").await.0, "shown");
    assert_eq!(read(&registry, "/v2/a/tags/list").await["tags"], json!(["shown"]));
    let manifests = read(&registry, "/acr/v1/a/_manifests").await["manifests"].clone();
    assert_eq!(manifests.as_array().unwrap().len(), 1);
    assert_eq!(manifests[0]["digest"], one.digest.to_string());
    assert!(manifests[0].get("tags").is_none(), "its only tag is hidden");
    assert_eq!(read(&registry, "/acr/v1/a/_tags/hidden").await["tag"]["name"], "hidden");
    assert_eq!(read(&registry, "/acr/v1/a").await["tagCount"], 2);
}

#[tokio::test]
async fn what_is_not_there_is_told_in_the_words_of_the_real_one() {
    let registry = registry().await;
    assert_eq!(read(&registry, "/acr/v1/_catalog").await, json!({ "repositories": null }));
    registry.put_image("a", "v1", &image("one"));
    let digest = image("two").digest;
    let tag = (404, "TAG_UNKNOWN", "the specified tag does not exist".to_owned());
    let name = (404, "NAME_UNKNOWN", "repository \"no/such\" is not found".to_owned());
    let manifest = |written: &str| (404, "MANIFEST_UNKNOWN", format!("manifest tagged by \"{written}\" is not found"));
    for (method, path, (status, code, message)) in [
        (Method::GET, "/acr/v1/a/_tags/v2", tag.clone()),
        (Method::DELETE, "/acr/v1/a/_tags/v2", tag.clone()),
        (Method::DELETE, "/acr/v1/no/such/_tags/v1", tag.clone()),
        (Method::GET, "/acr/v1/no/such/_tags", name.clone()),
        (Method::GET, "/acr/v1/no/such/_manifests", name.clone()),
        (Method::GET, "/acr/v1/no/such", name.clone()),
        (Method::DELETE, "/acr/v1/no/such", name.clone()),
        (Method::GET, "/v2/no/such/tags/list", name.clone()),
        (Method::GET, "/v2/a/manifests/v2", manifest("v2")),
        (Method::GET, &format!("/acr/v1/a/_manifests/{digest}"), manifest(&digest.to_string())),
        (Method::DELETE, &format!("/v2/a/manifests/{digest}"), manifest(&digest.to_string())),
    ] {
        assert_eq!(problem(&registry, method, path).await, (status, code.to_owned(), message), "{path}");
    }
    assert_eq!(status(&registry, Method::GET, "/acr/v1/a/_nothing").await, 404);
    assert_eq!(status(&registry, Method::POST, "/acr/v1/a/_tags/v1").await, 405);
}

#[tokio::test]
async fn the_rest_of_the_distribution_api_is_there() {
    let options = AcrOptions { tags_per_manifest: 1, ..everything_allowed() };
    let registry = start(options).await;
    let list = index(Format::Oci, &[ImageSpec::new(now(), &[Blob::layer("x", 10)]).build()]);
    registry.put_image("a", "list", &list);
    let response = answer(&registry, Method::HEAD, "/v2/a/manifests/list").await;
    assert_eq!(header(&response, "docker-content-digest"), list.digest.to_string());
    assert_eq!(header(&response, "docker-distribution-api-version"), "registry/2.0");
    assert_eq!(status(&registry, Method::GET, &format!("/v2/a/referrers/{}", list.digest)).await, 200);
    assert_eq!(status(&registry, Method::POST, "/v2/a/blobs/uploads/").await, 202);
    assert_eq!(status(&registry, Method::GET, "/v2/").await, 200);
}
