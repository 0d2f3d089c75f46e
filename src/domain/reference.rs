//! Image references as people and machines write them.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use super::{Digest, Hosts, RepositoryName, TagName};

/// A reference to an image: `[host/]repository[:tag][@digest]`, or a bare digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageReference {
    /// The registry's host, lower case, with a written port other than 443, the default. `None` if the reference names
    /// no host.
    pub host: Option<String>,
    /// The repository; `None` for a bare digest.
    pub repository: Option<RepositoryName>,
    /// The tag; `latest` if neither a tag nor a digest is written.
    pub tag: Option<TagName>,
    /// The digest.
    pub digest: Option<Digest>,
}

/// Error for an invalid image reference. Displays the text and the problem.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid image reference: {problem}")]
pub struct InvalidReference {
    /// The invalid text, cut after 300 characters; without a user and a password.
    pub text: String,
    /// The problem.
    pub problem: String,
}

impl ImageReference {
    /// Returns the repositories that it may refer to in a registry; empty if it refers to another registry.
    ///
    /// A reference without a host refers to the repository of that path in *every* registry. Container runtimes would
    /// read it as Docker Hub's, but people write release records by hand, and a kept tag costs little.
    pub fn repository_paths<'r>(&'r self, hosts: Hosts<'_>) -> impl Iterator<Item = &'r str> {
        let path = self.repository.as_ref().map(RepositoryName::as_str);
        let named = self.host.as_ref().zip(path).and_then(|(host, path)| hosts.repository_path(host, path));
        let without = path.filter(|_| self.host.is_none()).into_iter();
        named.into_iter().chain(without.flat_map(move |path| hosts.paths_without_host(path).collect::<Vec<_>>()))
    }

    /// Returns true if it names that repository of a registry. Docker Hub's own short names (`nginx` for
    /// `library/nginx`) match in registries that are Docker Hub.
    #[must_use]
    pub fn matches_repository(&self, hosts: Hosts<'_>, repository: &RepositoryName) -> bool {
        let short = || {
            self.host.is_none()
                && hosts.is_docker_hub_registry()
                && repository.as_str().strip_prefix("library/") == self.repository.as_ref().map(RepositoryName::as_str)
        };
        self.repository_paths(hosts).any(|path| path == repository.as_str()) || self.repository.is_some() && short()
    }

    /// Returns true if it names a registry, or may refer to it because it names none.
    #[must_use]
    pub fn may_match_registry(&self, hosts: Hosts<'_>) -> bool {
        self.host.is_none() || self.repository_paths(hosts).next().is_some()
    }
}

impl ImageReference {
    /// Parses a reference without adding the tag `latest` if neither a tag nor a digest is written.
    ///
    /// # Errors
    /// Returns [`InvalidReference`] if the text is not a reference.
    pub fn parse_verbatim(text: &str) -> Result<Self, InvalidReference> {
        if let Some(after) = after_user_info(text) {
            let text = format!("***@{after}").chars().take(300).collect();
            let problem = "there is a user or password in it; write the reference without them".to_owned();
            return Err(InvalidReference { text, problem });
        }
        parse(strip_decoration(text))
            .map_err(|problem| InvalidReference { text: text.chars().take(300).collect(), problem })
    }
}

/// Returns the part of a reference after a user and a password, which is never shown; `None` if it contains neither.
pub(crate) fn after_user_info(text: &str) -> Option<&str> {
    let (before, after) = strip_decoration(text).rsplit_once('@')?;
    (before.contains(':') && after.contains('/')).then_some(after)
}

impl FromStr for ImageReference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let mut reference = Self::parse_verbatim(text)?;
        if reference.tag.is_none() && reference.digest.is_none() {
            reference.tag = "latest".parse().ok();
        }
        Ok(reference)
    }
}

/// The prefixes that container runtimes and tools put before a reference.
const TRANSPORT_PREFIXES: [&str; 5] = ["docker-pullable://", "docker://", "oci://", "https://", "http://"];

/// Returns the reference itself, without the white space, quotes and prefix around it.
fn strip_decoration(text: &str) -> &str {
    let mut text = text.trim();
    for quote in ['"', '\'', '`'] {
        let inner = text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
        text = inner.map_or(text, str::trim);
    }
    TRANSPORT_PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(text)
}

/// Parses a reference by the grammar of distribution's `reference` package, and normalizes Docker Hub's hosts and short
/// names as it does.
fn parse(text: &str) -> Result<ImageReference, String> {
    if text.is_empty() {
        return Err("it is empty".into());
    }
    if let Some(digest) = bare_digest(text) {
        return Ok(ImageReference { host: None, repository: None, tag: None, digest: Some(digest) });
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest.parse::<Digest>().map_err(|error| error.to_string())?)),
        None => (text, None),
    };
    let (path, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag.parse::<TagName>().map_err(|e| e.to_string())?)),
        _ => (rest, None),
    };
    let (host, path) = match path.split_once('/') {
        Some((first, rest)) if is_host(first) => (Some(parse_host(first)?), rest),
        _ => (None, path),
    };
    let hub = host.as_deref().is_some_and(is_docker_hub);
    let host = if hub { Some("docker.io".into()) } else { host };
    let repository = if hub && !path.contains('/') { format!("library/{path}").parse() } else { path.parse() };
    let repository: RepositoryName = repository.map_err(|error: super::InvalidName| error.to_string())?;
    Ok(ImageReference { host, repository: Some(repository), tag, digest })
}

/// Parses a bare digest, also without its algorithm as CRI-O reports it. The grammar allows no repository of that form.
fn bare_digest(text: &str) -> Option<Digest> {
    if text.len() == 64 { format!("sha256:{text}").parse().ok() } else { text.parse().ok() }
}

/// Returns true if the first segment of a reference is a host: it has a dot or a port, is `localhost`, or has an
/// upper-case letter (which no repository has), as in distribution's reference grammar.
pub(super) fn is_host(segment: &str) -> bool {
    segment.contains(['.', ':']) || segment == "localhost" || segment.bytes().any(|b| b.is_ascii_uppercase())
}

/// Returns true for the hosts of Docker Hub.
pub(super) fn is_docker_hub(host: &str) -> bool {
    matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io")
}

/// Parses a name, an IPv4 address or an IPv6 address in brackets, with or without a port.
fn parse_host(text: &str) -> Result<String, String> {
    let no_host = || format!("`{text}` is not a valid host");
    let (name, rest) = if let Some((address, rest)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        let address: Ipv6Addr = address.parse().map_err(|_| no_host())?;
        (format!("[{address}]"), rest)
    } else {
        let (name, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
        if !name.split('.').all(is_host_label) {
            return Err(no_host());
        }
        (name.to_ascii_lowercase(), rest)
    };
    match rest.strip_prefix(':') {
        None if rest.is_empty() => Ok(name),
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => match port.parse::<u16>() {
            Ok(443) => Ok(name),
            Ok(port) => Ok(format!("{name}:{port}")),
            Err(_) => Err(no_host()),
        },
        _ => Err(no_host()),
    }
}

fn is_host_label(label: &str) -> bool {
    !label.is_empty()
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut started = false;
        match &self.host {
            // Without the port, such a name would be parsed as the start of a path.
            Some(host) if !is_host(host) => write!(f, "{host}:443/")?,
            Some(host) => write!(f, "{host}/")?,
            None => {}
        }
        if let Some(repository) = &self.repository {
            write!(f, "{repository}")?;
            started = true;
        }
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) if started => write!(f, "@{digest}"),
            Some(digest) => write!(f, "{digest}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn references_are_read_as_they_are_written_in_the_wild() {
        // Written form and normal form; `#` stands for a digest.
        let cases = [
            ("nginx", "nginx:latest"),
            ("nginx:1.27", "nginx:1.27"),
            ("shop/api", "shop/api:latest"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            ("index.docker.io/library/nginx:1", "docker.io/library/nginx:1"),
            ("registry-1.docker.io/bitnami/redis", "docker.io/bitnami/redis:latest"),
            ("contoso.azurecr.io/shop/api:v1", "contoso.azurecr.io/shop/api:v1"),
            ("Contoso.AzureCR.io/shop/api:V1", "contoso.azurecr.io/shop/api:V1"),
            ("Registry/shop/api", "registry:443/shop/api:latest"),
            ("contoso.azurecr.io/shop/api@#", "contoso.azurecr.io/shop/api@#"),
            ("contoso.azurecr.io/shop/api:v1@#", "contoso.azurecr.io/shop/api:v1@#"),
            ("contoso.azurecr.io:443/api:v1", "contoso.azurecr.io/api:v1"),
            ("contoso.azurecr.io:8443/api:v1", "contoso.azurecr.io:8443/api:v1"),
            ("localhost/api", "localhost/api:latest"),
            ("localhost:5000/api", "localhost:5000/api:latest"),
            ("localhost:5000", "localhost:5000"),
            ("127.0.0.1:5000/a/b/c/d:x", "127.0.0.1:5000/a/b/c/d:x"),
            ("[::1]:5000/api:v1", "[::1]:5000/api:v1"),
            ("[2001:DB8:0::1]/api", "[2001:db8::1]/api:latest"),
            ("docker-pullable://contoso.azurecr.io/api@#", "contoso.azurecr.io/api@#"),
            ("docker://#", "#"),
            ("docker://contoso.azurecr.io/api:v1", "contoso.azurecr.io/api:v1"),
            ("oci://contoso.azurecr.io/charts/api:1.0.0", "contoso.azurecr.io/charts/api:1.0.0"),
            ("https://contoso.azurecr.io/api:v1", "contoso.azurecr.io/api:v1"),
            ("#", "#"),
            (HEX, "#"),
            ("  \"contoso.azurecr.io/api:v1\"\n", "contoso.azurecr.io/api:v1"),
            ("'nginx:1'", "nginx:1"),
        ];
        let digest = format!("sha256:{HEX}");
        for (written, expected) in cases {
            let reference: ImageReference = written.replace('#', &digest).parse().unwrap();
            assert_eq!(reference.to_string(), expected.replace('#', &digest), "{written}");
        }
        let upper = format!("api@sha256:{}", HEX.to_uppercase());
        assert_eq!(upper.parse::<ImageReference>().unwrap().to_string(), format!("api@{digest}"));
        assert_eq!(ImageReference::parse_verbatim("nginx").unwrap().tag, None);
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        let cases = [
            "",
            " ",
            "\"\"",
            "contoso.azurecr.io/",
            "/api",
            "contoso.azurecr.io/Shop/api:v1",
            "shop api",
            "api:",
            "api:.v1",
            "api@",
            "api@sha256:abc",
            "api@latest",
            "@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "api:v1:v2",
            "contoso..io/api",
            "-contoso.io/api",
            "contoso_x.io/api",
            "contoso.io:port/api",
            "contoso.io:70000/api",
            "contoso.io:/api",
            "[::1/api",
            "[::x]/api",
            "[::1]5000/api",
            "{{ .Values.image }}",
            "contoso.azurecr.io/api:${TAG}",
            "https://",
        ];
        for text in cases {
            let parsed = text.parse::<ImageReference>();
            assert!(parsed.is_err(), "{text:?} was read as {parsed:?}");
        }
    }

    #[test]
    fn a_user_and_a_password_are_not_shown() {
        for (text, shown) in [
            ("u:Geheim123@contoso.example/shop/api:v1", "***@contoso.example/shop/api:v1"),
            ("http://u:Geheim123@127.0.0.1:15556/shop/api", "***@127.0.0.1:15556/shop/api"),
            ("u:Geheim@123@contoso.example/api", "***@contoso.example/api"),
        ] {
            let error = text.parse::<ImageReference>().unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("`{shown}` is not a valid image reference: there is a user or password")),
                "{error}"
            );
        }
        let error = "api:v1@sha256:abc".parse::<ImageReference>().unwrap_err();
        assert_eq!(error.text, "api:v1@sha256:abc", "it is a tag and a digest");
    }

    #[test]
    fn a_reference_names_a_registry_by_any_of_its_hosts() {
        let cases = [
            ("contoso.azurecr.io/api:v1", "contoso.azurecr.io", "api", true),
            ("contoso.azurecr.io:443/api:v1", "contoso.azurecr.io", "api", true),
            ("contoso.azurecr.io/api:v1", "contoso.azurecr.io:443", "api", true),
            ("contoso.azurecr.io:8443/api:v1", "contoso.azurecr.io", "api", false),
            ("other.azurecr.io/api:v1", "contoso.azurecr.io", "api", false),
            ("contoso.azurecr.io/api:v1", "contoso.azurecr.io", "shop/api", false),
            ("api:v1", "contoso.azurecr.io", "api", true),
            ("nginx", "registry-1.docker.io", "library/nginx", true),
            ("docker.io/nginx", "registry-1.docker.io", "library/nginx", true),
            ("nginx", "contoso.azurecr.io", "library/nginx", false),
            ("registry/shop/api:v1", "registry", "shop/api", true),
            ("registry/shop/api:v1", "registry", "registry/shop/api", true),
            ("registry/shop/api:v1", "registry:5000", "shop/api", false),
            ("contoso.azurecr.io/shop/api:v1", "cache/contoso", "shop/api", false),
            ("cache/contoso/shop/api:v1", "cache/contoso", "shop/api", true),
            ("harbor.example/proxy/shop/api:v1", "harbor.example/proxy", "shop/api", true),
            ("contoso.eastus2.geo.azurecr.io/api:v1", "contoso.azurecr.io", "api", true),
        ];
        for (reference, host, repository, expected) in cases {
            let reference: ImageReference = reference.parse().unwrap();
            let named = reference.matches_repository(Hosts::new(&[host.to_owned()], &[]), &repository.parse().unwrap());
            assert_eq!(named, expected, "{reference} on {host} and {repository}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,80}|[a-zA-Z0-9:/@.\\[\\]_-]{0,80}") {
            if let Ok(reference) = text.parse::<ImageReference>() {
                prop_assert_eq!(reference.to_string().parse::<ImageReference>().unwrap(), reference);
            }
        }

        #[test]
        fn what_is_written_out_reads_the_same(
            host in "|[A-Za-z0-9]{1,8}\\.(io|IO)(:[1-9][0-9]{0,3})?/|localhost(:5000)?/|docker\\.io/|\\[::1\\]:5000/",
            repository in "[a-z0-9]{1,8}(/[a-z0-9]{1,4}([._-]|__|--)[a-z0-9]{1,4}){0,3}",
            tag in "|:[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}",
            digest in "|@sha256:[0-9a-f]{64}|@sha512:[0-9a-f]{128}",
        ) {
            let reference: ImageReference = format!("{host}{repository}{tag}{digest}").parse().unwrap();
            prop_assert_eq!(reference.to_string().parse::<ImageReference>().unwrap(), reference.clone());
            prop_assert_eq!(reference.host.is_some(), !host.is_empty());
            prop_assert_eq!(reference.digest.is_some(), !digest.is_empty());
        }
    }
}
