//! The host names by which image references refer to a registry.

use super::ImageReference;
use super::reference::{is_docker_hub, is_host};

/// The names of one registry, together with those of the other registries in the settings.
///
/// A name is a lower-case host, with its port unless that is the scheme's default. A cache that serves the registry
/// below a path has that path after its host.
#[derive(Debug, Clone, Copy)]
pub struct Hosts<'a> {
    own: &'a [String],
    others: &'a [String],
}

/// A host of Azure Container Registry.
struct AzureHost<'h> {
    /// Its first label: the registry's name, with a dash and a hash where the login server has a domain name label.
    label: &'h str,
    cloud: &'h str,
    /// True if the label alone identifies the registry: a login server, or a regional endpoint of one.
    exact: bool,
}

impl<'a> Hosts<'a> {
    /// Creates the names of a registry from its own names and those of the other registries.
    #[must_use]
    pub fn new(own: &'a [String], others: &'a [String]) -> Self {
        Self { own, others }
    }

    /// Returns the repository that `host` and `path` refer to in this registry, or `None` if they refer to another one.
    ///
    /// If several names match, the one with the longest path wins, whichever registry has it. An unknown host of Azure
    /// Container Registry belongs to this registry if its first label is the registry's name, or that name, `-` and a
    /// suffix. Azure's names contain no `-`, so such a host can only be another name of this registry.
    #[must_use]
    pub fn repository_path<'p>(self, host: &str, path: &'p str) -> Option<&'p str> {
        match (longest_match(self.own, host, path), longest_match(self.others, host, path)) {
            (Some((own, rest)), other) if other.is_none_or(|(other, _)| own >= other) => Some(rest),
            (None, None) if self.own.iter().any(|name| is_same_azure_registry(name, host)) => Some(path),
            _ => None,
        }
    }

    /// Returns true if `host` and `path` refer to another registry of the settings.
    #[must_use]
    pub fn belongs_to_other_registry(self, host: &str, path: &str) -> bool {
        longest_match(self.others, host, path).is_some() && self.repository_path(host, path).is_none()
    }

    /// Returns the repositories that a path without a host may refer to: the path itself, and the rest after the
    /// registry's own name. The second is needed if that name is a single word, which the grammar of references takes
    /// for the start of a path.
    pub(super) fn paths_without_host(self, path: &str) -> impl Iterator<Item = &str> {
        let after = |name: &String| path.strip_prefix(name.as_str())?.strip_prefix('/');
        let inner = self.own.iter().filter(|name| !is_host(host_of(name))).find_map(after);
        std::iter::once(path).chain(inner)
    }

    /// Returns the paths by which `host` would name `repository`, with the path of a cache before it if the registry
    /// has such a name there.
    #[must_use]
    pub fn paths_for(self, host: &str, repository: &str) -> Vec<String> {
        let own = self.own.iter().filter_map(|name| {
            let (known, prefix) = split_path(name);
            same_host(known, host)
                .then(|| if prefix.is_empty() { repository.to_owned() } else { format!("{prefix}/{repository}") })
        });
        let mut found: Vec<String> = own.filter(|path| self.repository_path(host, path) == Some(repository)).collect();
        if self.repository_path(host, repository) == Some(repository) {
            found.push(repository.to_owned());
        }
        found.sort();
        found.dedup();
        found
    }

    pub(super) fn is_docker_hub_registry(self) -> bool {
        self.own.iter().any(|name| is_docker_hub(name))
    }
}

/// Splits a name into its host and its path, which may be empty.
fn split_path(name: &str) -> (&str, &str) {
    name.split_once('/').unwrap_or((name, ""))
}

fn host_of(name: &str) -> &str {
    split_path(name).0
}

/// Returns the length of the longest path among the names that a reference begins with, and the rest of the reference.
fn longest_match<'p>(names: &[String], host: &str, path: &'p str) -> Option<(usize, &'p str)> {
    let under = |name: &String| {
        let (known, prefix) = split_path(name);
        if !same_host(known, host) {
            return None;
        }
        let rest = if prefix.is_empty() { path } else { path.strip_prefix(prefix)?.strip_prefix('/')? };
        Some((prefix.len(), rest))
    };
    names.iter().filter_map(under).max_by_key(|(length, _)| *length)
}

/// Returns true if two hosts belong to the same registry. Docker Hub's hosts are one registry, and so are the login
/// server and the regional endpoints of an Azure registry (`NAME.REGION.geo.azurecr.io` for manifests,
/// `NAME.REGION.data.azurecr.io` for blobs,
/// <https://learn.microsoft.com/azure/container-registry/container-registry-geo-replication>).
fn same_host(known: &str, host: &str) -> bool {
    without_default_port(known) == host
        || is_docker_hub(known) && is_docker_hub(host)
        || parse_azure_host(known).zip(parse_azure_host(host)).is_some_and(|(known, host)| {
            known.exact && host.exact && (known.label, known.cloud) == (host.label, host.cloud)
        })
}

/// Returns true for a host of Azure Container Registry that belongs to a registry of the same name.
fn is_same_azure_registry(name: &str, host: &str) -> bool {
    let azure_name = |host| parse_azure_host(host).map(|found| azure_name(found.label).to_owned());
    let (known, prefix) = split_path(name);
    prefix.is_empty() && azure_name(known).is_some_and(|known| azure_name(host) == Some(known))
}

/// Returns the resource name in the first label of a host, without a dash and hash after it.
fn azure_name(label: &str) -> &str {
    label.split('-').next().unwrap_or(label)
}

fn parse_azure_host(host: &str) -> Option<AzureHost<'_>> {
    let host = without_default_port(host);
    let (rest, cloud) = ["io", "cn", "us"]
        .iter()
        .find_map(|cloud| Some((host.strip_suffix(cloud)?.strip_suffix(".azurecr.")?, *cloud)))?;
    let labels: Vec<&str> = rest.split('.').collect();
    let (label, exact) = match labels[..] {
        [label] | [label, _, "geo" | "data"] => (label, true),
        [label, ..] => (label, false),
        [] => return None,
    };
    (!azure_name(label).is_empty()).then_some(AzureHost { label, cloud, exact })
}

/// Returns the resource name of an Azure registry, by one of its hosts.
#[must_use]
pub fn azure_registry_name(host: &str) -> Option<&str> {
    parse_azure_host(host).map(|found| azure_name(found.label))
}

fn without_default_port(host: &str) -> &str {
    host.strip_suffix(":443").unwrap_or(host)
}

/// Hosts of public registries. An image id under such a name says nothing about a private image.
const PUBLIC_REGISTRIES: [&str; 29] = [
    "cgr.dev",
    "container-registry.oracle.com",
    "cr.fluentbit.io",
    "cr.l5d.io",
    "docker.elastic.co",
    "docker.io",
    "gcr.io",
    "ghcr.io",
    "icr.io",
    "index.docker.io",
    "k8s.gcr.io",
    "lscr.io",
    "mcr.azk8s.cn",
    "mcr.azure.cn",
    "mcr.microsoft.com",
    "nvcr.io",
    "public.ecr.aws",
    "quay.io",
    "registry-1.docker.io",
    "registry.access.redhat.com",
    "registry.connect.redhat.com",
    "registry.developers.crunchydata.com",
    "registry.gitlab.com",
    "registry.k8s.io",
    "registry.opensource.zalan.do",
    "registry.redhat.io",
    "registry.suse.com",
    "xpkg.crossplane.io",
    "xpkg.upbound.io",
];

/// Returns true for the host of a public registry.
#[must_use]
pub fn is_public_registry(host: &str) -> bool {
    PUBLIC_REGISTRIES.binary_search(&host).is_ok()
}

impl ImageReference {
    /// Returns true if an image id with this name may be that of an image in `repository`.
    ///
    /// An unknown host may be a missing alias. It certainly belongs to another registry only if it is a public
    /// registry's, or if its path differs from the repository's.
    #[must_use]
    pub fn may_match_repository(&self, hosts: Hosts<'_>, repository: &super::RepositoryName) -> bool {
        let (Some(host), Some(path)) = (&self.host, &self.repository) else {
            return self.matches_repository(hosts, repository);
        };
        match hosts.repository_path(host, path.as_str()) {
            Some(path) => path == repository.as_str(),
            None => {
                path == repository && !hosts.belongs_to_other_registry(host, path.as_str()) && !is_public_registry(host)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path_in(own: &[&str], others: &[&str], reference: &str) -> Option<String> {
        let [own, others] = [own, others].map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>());
        let (host, path) = reference.split_once('/').unwrap();
        Hosts::new(&own, &others).repository_path(host, path).map(str::to_owned)
    }

    #[test]
    fn an_azure_registry_has_its_regional_names() {
        const OURS: &[(&str, &str)] = &[
            ("contoso.azurecr.io", "contoso.azurecr.io"),
            ("contoso.azurecr.io", "contoso.eastus2.geo.azurecr.io"),
            ("contoso.azurecr.io", "contoso.westeurope.data.azurecr.io"),
            ("contoso.azurecr.io", "contoso.privatelink.azurecr.io"),
            ("contoso.azurecr.io", "contoso-dwgxg4c0ejf7a8gf.azurecr.io"),
            ("contoso.azurecr.io", "contoso-dwgxg4c0ejf7a8gf.eastus2.geo.azurecr.io"),
            ("contoso-dwgxg4c0ejf7a8gf.azurecr.io", "contoso-dwgxg4c0ejf7a8gf.eastus2.geo.azurecr.io"),
            ("contoso-dwgxg4c0ejf7a8gf.azurecr.io", "contoso.azurecr.io"),
            ("contoso.eastus2.geo.azurecr.io", "contoso.azurecr.io"),
            ("contoso.azurecr.cn", "contoso.chinaeast3.geo.azurecr.cn"),
            ("contoso.azurecr.us", "contoso.usgovvirginia.data.azurecr.us"),
        ];
        for (own, host) in OURS {
            assert_eq!(path_in(&[own], &[], &format!("{host}/shop/api")).as_deref(), Some("shop/api"), "{own} {host}");
        }
        for (own, host) in [
            ("contoso.azurecr.io", "contosodev.azurecr.io"),
            ("contoso.azurecr.io", "contosodev.eastus2.geo.azurecr.io"),
            ("contoso.azurecr.io", "dev-contoso.azurecr.io"),
            ("contoso.azurecr.io", "contoso.azurecr.io.example"),
            ("contoso.azurecr.io", "contoso.example"),
            ("contoso.example", "contoso.azurecr.io"),
            ("contoso.azurecr.io", "-contoso.azurecr.io"),
        ] {
            assert_eq!(path_in(&[own], &[], &format!("{host}/shop/api")), None, "{own} {host}");
        }
    }

    #[test]
    fn the_name_of_another_registry_is_its_own() {
        let (own, other) = (["contoso.azurecr.io"], ["contoso-eu.azurecr.io"]);
        for host in ["contoso-eu.azurecr.io", "contoso-eu.westeurope.geo.azurecr.io"] {
            assert_eq!(path_in(&own, &other, &format!("{host}/a")), None, "{host}");
            assert_eq!(path_in(&other, &own, &format!("{host}/a")).as_deref(), Some("a"), "{host}");
        }
        assert_eq!(path_in(&own, &other, "contoso-us.azurecr.io/a").as_deref(), Some("a"));
    }

    #[test]
    fn the_longest_path_of_a_cache_counts() {
        const OWN: &[&str] = &["contoso.azurecr.io", "harbor.example/proxy", "cache.example:8443"];
        const OTHER: &[&str] = &["harbor.example/proxy/team", "harbor.example", "cache.example:8443/other"];
        for (reference, path) in [
            ("harbor.example/proxy/shop/api", Some("shop/api")),
            ("harbor.example/proxy/team/api", None),
            ("harbor.example/proxyshop/api", None),
            ("harbor.example/shop/api", None),
            ("cache.example:8443/shop/api", Some("shop/api")),
            ("cache.example:8443/other/api", None),
            ("cache.example:8443/others/api", Some("others/api")),
            ("cache.example/shop/api", None),
        ] {
            assert_eq!(path_in(OWN, OTHER, reference).as_deref(), path, "{reference}");
        }
    }

    #[test]
    fn an_id_may_mean_what_its_name_may() {
        let own = ["contoso.azurecr.io", "harbor.example/proxy"].map(str::to_owned);
        let others = ["fabrikam.example".to_owned()];
        for (name, expected) in [
            ("contoso.azurecr.io/shop/api", true),
            ("contoso.eastus2.geo.azurecr.io/shop/api", true),
            ("harbor.example/proxy/shop/api", true),
            ("shop/api", true),
            ("images.contoso.example/shop/api", true),
            ("images.contoso.example/shop/web", false),
            ("images.contoso.example/x/shop/api", false),
            ("fabrikam.example/shop/api", false),
            ("docker.io/shop/api", false),
            ("mcr.microsoft.com/shop/api", false),
            ("contoso.azurecr.io/shop/web", false),
        ] {
            let reference: ImageReference = name.parse().unwrap();
            let found = reference.may_match_repository(Hosts::new(&own, &others), &"shop/api".parse().unwrap());
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn public_hosts_are_in_order() {
        assert!(PUBLIC_REGISTRIES.is_sorted());
    }
}
