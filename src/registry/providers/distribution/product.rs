//! Registry products, recognised by what they say of themselves without being asked for a deletion, and what is known of
//! their deletions by tag.
//!
//! A sign counts only where it is the product's own; `Docker-Distribution-Api-Version` is sent by nearly all and says
//! nothing. What follows from a product is overruled by what removals showed and by the setting `can_untag`.

use std::sync::Arc;

use http::header::SERVER;
use serde::Deserialize;
use url::Url;

use crate::domain::{Product, UntagEffect};
use crate::http_client::{Response, one_line};
use crate::registry::client::challenge::{self, Challenge};

/// The path by which extensions of a registry are found
/// (<https://github.com/opencontainers/distribution-spec/blob/main/extensions/_oci.md>).
pub(in crate::registry::providers) const EXTENSIONS_PATH: &str = "/v2/_oci/ext/discover";

const GITHUB: Product = Product {
    name: "GitHub Container Registry",
    version: None,
    recognized_by: "its host name",
    untag: UntagEffect::Unsupported,
    consequence: "it has no deletion by tag: a package version goes with all its tags, by GitHub's own API only; write `kind = \"ghcr\"`, \
                  which has that as `removal = \"manifest\"`",
};
const ECR: Product = Product {
    name: "Amazon ECR",
    version: None,
    recognized_by: "its host name",
    untag: UntagEffect::DeletesManifest,
    consequence: "removing the last tag of an image deletes the image there",
};
const DOCKER_HUB: Product = Product {
    name: "Docker Hub",
    version: None,
    recognized_by: "its host name",
    untag: UntagEffect::Unsupported,
    consequence: "its registry API deletes by digest only, and refuses while a tag names it; write `kind = \"docker-hub\"`, which \
                  removes tags by Docker Hub's own API",
};
const ARTIFACT_REGISTRY: Product = Product {
    name: "Google Artifact Registry",
    version: None,
    recognized_by: "its host name",
    untag: UntagEffect::LeavesManifest,
    consequence: "a deletion by tag leaves the manifest",
};
const AZURE: Product = Product {
    name: "Azure Container Registry",
    version: None,
    recognized_by: "its host name",
    untag: UntagEffect::Unsupported,
    consequence: "it refuses a deletion by tag in the distribution API; write `kind = \"acr\"`, which untags",
};
const GITLAB: Product = Product {
    name: "GitLab container registry",
    version: None,
    recognized_by: "the header `Gitlab-Container-Registry-Version`",
    untag: UntagEffect::LeavesManifest,
    consequence: "a deletion by tag leaves the manifest, which its online garbage collection deletes after a day unless \
                  something refers to it: undo sooner",
};
const HARBOR: Product = Product {
    name: "Harbor",
    version: None,
    recognized_by: "the service `harbor-registry` of its token challenge",
    untag: UntagEffect::Unsupported,
    consequence: "it refuses a deletion by tag in the distribution API; write `kind = \"harbor\"`, which untags",
};
const QUAY: Product = Product {
    name: "Quay",
    version: None,
    recognized_by: "the token service `/v2/auth` of its challenge",
    untag: UntagEffect::LeavesManifest,
    consequence: "a deletion by tag leaves the manifest for as long as its time machine keeps removed tags",
};
const ARTIFACTORY: Product = Product {
    name: "JFrog Artifactory",
    version: None,
    recognized_by: "the header `X-JFrog-Version`",
    untag: UntagEffect::DeletesManifest,
    consequence: "a deletion by tag deletes the folder of the tag with its manifest",
};
const NEXUS: Product = Product {
    name: "Sonatype Nexus",
    version: None,
    recognized_by: "the header `Server`",
    untag: UntagEffect::Unknown,
    consequence: "what a deletion by tag leaves there is not documented",
};
const GITEA: Product = Product {
    name: "Gitea or Forgejo",
    version: None,
    recognized_by: "the token service `/v2/token` of its challenge",
    untag: UntagEffect::DeletesManifest,
    consequence: "a deletion by tag deletes the package version with the tag's manifest",
};
/// Since zot 2.1.2 the manifest stays (project-zot/zot#2626).
const ZOT: Product = Product {
    name: "zot",
    version: None,
    recognized_by: "the extension `_zot` that it lists",
    untag: UntagEffect::Unknown,
    consequence: "before 2.1.2 a deletion by tag deletes the manifest with its last tag",
};
const ZOT_LEAVES_MANIFEST_SINCE: (u64, u64, u64) = (2, 1, 2);

/// The product that answers at that host, where the host belongs to one.
pub(in crate::registry::providers) fn detect_by_host(endpoint: &Url) -> Option<Product> {
    let host = endpoint.host_str()?.to_ascii_lowercase();
    let under = |domains: &[&str]| domains.iter().any(|domain| host.ends_with(domain));
    let found = if host == "ghcr.io" || host.starts_with("containers.") && host.ends_with(".ghe.com") {
        GITHUB
    } else if is_ecr(&host) {
        ECR
    } else if ["docker.io", "index.docker.io", "registry-1.docker.io"].contains(&host.as_str()) {
        DOCKER_HUB
    } else if host == "gcr.io" || under(&["-docker.pkg.dev", ".gcr.io"]) {
        ARTIFACT_REGISTRY
    } else if under(&[".azurecr.io", ".azurecr.cn", ".azurecr.us"]) {
        AZURE
    } else if host == "quay.io" {
        Product { recognized_by: "its host name", ..QUAY }
    } else if host == "registry.gitlab.com" {
        Product { recognized_by: "its host name", ..GITLAB }
    } else {
        return None;
    };
    Some(found)
}

/// The path of zot's own description. It answers without credentials wherever the search is on, also where nothing else
/// does.
pub(in crate::registry::providers) const ZOT_DESCRIPTION_PATH: &str = "/v2/_zot/ext/mgmt";

/// The description of a zot: members that no other server has by chance, and its release.
#[derive(Deserialize)]
struct WireZot {
    #[serde(rename = "distSpecVersion")]
    _specification: String,
    #[serde(rename = "binaryType")]
    _build: String,
    #[serde(rename = "releaseTag", default)]
    release: String,
}

/// The product by the answer at [`ZOT_DESCRIPTION_PATH`].
pub(in crate::registry::providers) fn detect_by_description(response: &Response) -> Option<Product> {
    if !response.status.is_success() {
        return None;
    }
    let found: WireZot = serde_json::from_slice(&response.body).ok()?;
    let zot = Product { recognized_by: "its description of itself (`/v2/_zot/ext/mgmt`)", ..ZOT };
    Some(zot_of_release(zot, Some(&found.release)))
}

/// `<account>.dkr.ecr.<region>.amazonaws.com`, with its variants for FIPS, China and dual stack
/// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/Registries.html>).
fn is_ecr(host: &str) -> bool {
    let Some((account, rest)) = host.split_once('.') else { return false };
    let service = ["dkr.ecr.", "dkr.ecr-fips.", "dkr-ecr.", "dkr-ecr-fips."].iter().any(|name| rest.starts_with(name));
    let domain = [".amazonaws.com", ".amazonaws.com.cn", ".on.aws"].iter().any(|domain| rest.ends_with(domain));
    account.bytes().all(|byte| byte.is_ascii_digit()) && service && domain
}

/// The product that gave that answer to `GET /v2/`, by its headers and its challenge. What came with a web page is not
/// believed: it may be a proxy's.
pub(in crate::registry::providers) fn detect_by_response(response: &Response) -> Option<Product> {
    if response.is_web_page() {
        return None;
    }
    let header = |name: &str| response.header(name).map(str::trim).filter(|value| !value.is_empty());
    if let Some(version) = header("gitlab-container-registry-version") {
        return Some(with_version(GITLAB, version));
    }
    if let Some(version) = header("x-jfrog-version") {
        // `Artifactory/7.104.5 80000000`
        let version = version.split(['/', ' ']).find(|part| part.starts_with(|first: char| first.is_ascii_digit()));
        return Some(version.map_or(ARTIFACTORY, |version| with_version(ARTIFACTORY, version)));
    }
    if let Some(version) = header(SERVER.as_str()).and_then(|server| server.strip_prefix("Nexus/")) {
        return Some(with_version(NEXUS, version.split(' ').next().unwrap_or(version)));
    }
    let Some(Challenge::Bearer { realm, service, .. }) = challenge::best_challenge(&response.headers) else {
        return None;
    };
    let path = realm.parse::<Url>().ok().map(|realm| realm.path().to_owned())?;
    match (path.as_str(), service.as_deref()) {
        (_, Some("harbor-registry")) => Some(HARBOR),
        ("/v2/auth", _) => Some(QUAY),
        ("/v2/token", Some("container_registry")) => Some(GITEA),
        _ => None,
    }
}

/// The extensions that a registry lists.
#[derive(Deserialize)]
struct WireExtensions {
    extensions: Option<Vec<WireExtension>>,
}

#[derive(Deserialize)]
struct WireExtension {
    name: Option<String>,
    url: Option<String>,
}

/// The product by the extensions that it lists at [`EXTENSIONS_PATH`]: zot, with its release in the link to their description.
pub(in crate::registry::providers) fn detect_by_extensions(response: &Response) -> Option<Product> {
    if !response.status.is_success() {
        return None;
    }
    let listed = serde_json::from_slice::<WireExtensions>(&response.body).ok()?.extensions?;
    let own = listed.into_iter().find(|extension| extension.name.as_deref() == Some("_zot"))?;
    let release = own.url.as_deref().and_then(|url| url.split_once("/zot/blob/")?.1.split('/').next());
    Some(zot_of_release(ZOT, release))
}

/// A zot of a release, or as it is if that says nothing.
fn zot_of_release(zot: Product, release: Option<&str>) -> Product {
    let Some((release, version)) = release.and_then(|release| Some((release, parse_release(release)?))) else {
        return zot;
    };
    let found = with_version(zot, release);
    if version >= ZOT_LEAVES_MANIFEST_SINCE {
        Product {
            untag: UntagEffect::LeavesManifest,
            consequence: "a deletion by tag leaves the manifest until its garbage collection, by default within an hour: \
                          undo sooner, or set `deleteUntagged` and the delay there",
            ..found
        }
    } else {
        Product {
            untag: UntagEffect::DeletesManifest,
            consequence: "before 2.1.2 a deletion by tag deletes the manifest with its last tag: upgrade it",
            ..found
        }
    }
}

/// The numbers of `v2.1.10`. What comes with a suffix is a build of somebody's own, of which nothing is known.
fn parse_release(release: &str) -> Option<(u64, u64, u64)> {
    let mut numbers = release.strip_prefix('v')?.split('.').map(|number| number.parse().ok());
    let version = (numbers.next()??, numbers.next()??, numbers.next()??);
    numbers.next().is_none().then_some(version)
}

fn with_version(mut product: Product, version: &str) -> Product {
    product.version = Some(Arc::from(one_line(version)));
    product
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use http::header::{HeaderMap, HeaderName, HeaderValue};

    use super::*;

    fn response(status: u16, headers: &[(&'static str, &str)], body: &str) -> Response {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect();
        let status = StatusCode::from_u16(status).unwrap();
        Response { status, headers, body: body.as_bytes().to_vec(), request: "GET /v2/".into() }
    }

    fn known(found: Option<Product>) -> (&'static str, Option<String>, UntagEffect) {
        let nothing = ("", None, UntagEffect::Unknown);
        found.map_or(nothing, |found| (found.name, found.version.map(|version| version.to_string()), found.untag))
    }

    #[test]
    fn hosts_of_services_are_known() {
        use UntagEffect::{DeletesManifest, LeavesManifest, Unsupported};
        for (endpoint, name, untag) in [
            ("https://ghcr.io", "GitHub Container Registry", Unsupported),
            ("https://123456789012.dkr.ecr.eu-west-1.amazonaws.com", "Amazon ECR", DeletesManifest),
            ("https://123456789012.dkr.ecr-fips.us-east-1.amazonaws.com", "Amazon ECR", DeletesManifest),
            ("https://123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "Amazon ECR", DeletesManifest),
            ("https://123456789012.dkr-ecr.eu-west-1.on.aws", "Amazon ECR", DeletesManifest),
            ("https://registry-1.docker.io", "Docker Hub", Unsupported),
            ("https://europe-west1-docker.pkg.dev", "Google Artifact Registry", LeavesManifest),
            ("https://eu.gcr.io", "Google Artifact Registry", LeavesManifest),
            ("https://containers.octo.ghe.com", "GitHub Container Registry", Unsupported),
            ("https://contoso.azurecr.io", "Azure Container Registry", Unsupported),
            ("https://quay.io", "Quay", LeavesManifest),
            ("https://registry.gitlab.com", "GitLab container registry", LeavesManifest),
        ] {
            let found = known(detect_by_host(&endpoint.parse().unwrap()));
            assert_eq!(found, (name, None, untag), "{endpoint}");
        }
        for endpoint in [
            "https://ghcr.io.evil.example",
            "https://docker.io.example",
            "https://registry.example:5000",
            "https://dkr.ecr.eu-west-1.amazonaws.com",
            "https://build.dkr.ecr.example.com",
            "https://azurecr.io.example",
            "http://127.0.0.1:5000",
        ] {
            assert_eq!(detect_by_host(&endpoint.parse().unwrap()), None, "{endpoint}");
        }
    }

    #[test]
    fn products_are_recognised_by_what_is_their_own() {
        type Case<'a> = (u16, &'a [(&'static str, &'a str)], (&'a str, Option<String>, UntagEffect));
        use UntagEffect::{DeletesManifest, LeavesManifest, Unknown, Unsupported};
        let version = |text: &str| Some(text.to_owned());
        let gitlab = "Bearer realm=\"https://gitlab.example/jwt/auth\",service=\"container_registry\"";
        let cases: &[Case<'_>] = &[
            (
                401,
                &[("gitlab-container-registry-version", "4.15.2-gitlab"), ("www-authenticate", gitlab)],
                ("GitLab container registry", version("4.15.2-gitlab"), LeavesManifest),
            ),
            (
                401,
                &[(
                    "www-authenticate",
                    "Bearer realm=\"https://harbor.example/service/token\",service=\"harbor-registry\"",
                )],
                ("Harbor", None, Unsupported),
            ),
            (
                401,
                &[("www-authenticate", "Bearer realm=\"https://quay.example/v2/auth\",service=\"quay.example\"")],
                ("Quay", None, LeavesManifest),
            ),
            (
                401,
                &[("x-jfrog-version", "Artifactory/7.104.5 80000000")],
                ("JFrog Artifactory", version("7.104.5"), DeletesManifest),
            ),
            (200, &[("x-jfrog-version", "something")], ("JFrog Artifactory", None, DeletesManifest)),
            (401, &[("server", "Nexus/3.75.1-01 (OSS)")], ("Sonatype Nexus", version("3.75.1-01"), Unknown)),
            (
                401,
                &[(
                    "www-authenticate",
                    "Bearer realm=\"https://git.example/v2/token\",service=\"container_registry\",scope=\"*\"",
                )],
                ("Gitea or Forgejo", None, DeletesManifest),
            ),
            // What many have says nothing.
            (200, &[("docker-distribution-api-version", "registry/2.0"), ("server", "nginx")], ("", None, Unknown)),
            (401, &[("www-authenticate", gitlab)], ("", None, Unknown)),
            (
                401,
                &[("www-authenticate", "Bearer realm=\"https://auth.example/token\",service=\"registry\"")],
                ("", None, Unknown),
            ),
            (401, &[("www-authenticate", "Basic realm=\"harbor-registry\"")], ("", None, Unknown)),
            (401, &[("www-authenticate", "Bearer realm=\"/v2/auth\",service=\"x\"")], ("", None, Unknown)),
            // A proxy's own page.
            (403, &[("x-jfrog-version", "Artifactory/7"), ("content-type", "text/html")], ("", None, Unknown)),
        ];
        for (status, headers, expected) in cases {
            let found = known(detect_by_response(&response(*status, headers, "")));
            assert_eq!((found.0, &found.1, found.2), (expected.0, &expected.1, expected.2), "{headers:?}");
        }
    }

    #[test]
    fn zot_tells_its_release_by_its_description() {
        use UntagEffect::{DeletesManifest, LeavesManifest, Unknown};
        let of = |release: &str| {
            format!(
                "{{\"distSpecVersion\":\"1.1.1\",\"releaseTag\":\"{release}\",\"binaryType\":\"-mgmt\",\"http\":{{}}}}"
            )
        };
        let others = r#"{"distSpecVersion":"1.1.1","http":{}}"#;
        for (status, body, name, version, untag) in [
            (200, of("v2.1.14"), "zot", Some("v2.1.14"), LeavesManifest),
            (200, of("v2.1.1"), "zot", Some("v2.1.1"), DeletesManifest),
            (200, of(""), "zot", None, Unknown),
            (200, others.to_owned(), "", None, Unknown),
            (200, "<html>".to_owned(), "", None, Unknown),
            (401, of("v2.1.14"), "", None, Unknown),
        ] {
            let found = known(detect_by_description(&response(status, &[], &body)));
            assert_eq!(found, (name, version.map(str::to_owned), untag), "{body}");
        }
    }

    #[test]
    fn zot_tells_its_release_by_its_extensions() {
        use UntagEffect::{DeletesManifest, LeavesManifest, Unknown};
        let list = |url: &str| format!("{{\"extensions\":[{{\"name\":\"_zot\",\"url\":\"{url}\",\"endpoints\":[]}}]}}");
        let of =
            |release: &str| list(&format!("https://github.com/project-zot/zot/blob/{release}/pkg/extensions/_zot.md"));
        for (status, body, name, version, untag) in [
            (200, of("v2.1.2"), "zot", Some("v2.1.2"), LeavesManifest),
            (200, of("v2.1.10"), "zot", Some("v2.1.10"), LeavesManifest),
            (200, of("v2.1.1"), "zot", Some("v2.1.1"), DeletesManifest),
            (200, of("v1.4.3"), "zot", Some("v1.4.3"), DeletesManifest),
            (200, of("v2.1.2-rc1"), "zot", None, Unknown),
            (200, of(""), "zot", None, Unknown),
            (200, list("https://example.com"), "zot", None, Unknown),
            (200, "{\"extensions\":[{\"name\":\"_oci\"}]}".into(), "", None, Unknown),
            (200, "{\"extensions\":null}".into(), "", None, Unknown),
            (200, "<html>".into(), "", None, Unknown),
            (404, of("v2.1.2"), "", None, Unknown),
        ] {
            let found = known(detect_by_extensions(&response(status, &[], &body)));
            assert_eq!(found, (name, version.map(str::to_owned), untag), "{status} {body}");
        }
    }
}
