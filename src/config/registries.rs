//! `[registries.<name>]`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use url::{Host, Url};

use super::auth;
use super::azure::{self, Azure};
use super::layers::normalize_key;
use super::reader::SettingsReader;
use crate::domain::{RegistryName, RemovalMethod, RepositoryName};
use crate::policy::{Entry, Fields, Node, Place, Problems, fields};
use crate::registry::{Auth, CanUntag, RateLimits, RegistryKind, RegistrySettings};

const KINDS: [(&str, RegistryKind); 2] = [("acr", RegistryKind::Acr), ("distribution", RegistryKind::Distribution)];
const REMOVALS: [(&str, RemovalMethod); 2] =
    [("untag", RemovalMethod::Untag), ("manifest", RemovalMethod::DeleteManifest)];
const CAN_UNTAG: [(&str, CanUntag); 3] = [("yes", CanUntag::Yes), ("no", CanUntag::No), ("unknown", CanUntag::Unknown)];
const ENDPOINT_HELP: &str = "write scheme and host, such as `https://contoso.azurecr.io`";

/// All registries, by name. None at all is a problem.
pub(super) fn registries(node: Option<&Node>, azure: &Azure, reading: &mut SettingsReader) -> Vec<RegistrySettings> {
    let mut read: Vec<RegistrySettings> = Vec::new();
    let mut hosts = BTreeMap::new();
    let entries = node.map_or(Some(&[][..]), |node| reading.tables("registries", node));
    let Some(entries) = entries else { return read };
    if entries.is_empty() {
        reading.problems.add(&Place::File, "no registries").help("add `[registries.NAME]` with `kind` and `endpoint`");
    }
    for entry in entries {
        if let Some(settings) = reading.entry(entry, |reading| registry(entry, azure, reading)) {
            warn_shared_hosts(&settings, &entry.at, &mut hosts, reading);
            read.push(settings);
        }
    }
    read.sort_by(|a, b| a.name.cmp(&b.name));
    read
}

fn registry(entry: &Entry, azure: &Azure, reading: &mut SettingsReader) -> Option<RegistrySettings> {
    let name: Option<RegistryName> = fields::name(&entry.key, &entry.at, &mut reading.problems);
    let mut fields = Fields::of(&entry.node, "registry", &mut reading.problems)?;
    let kind = reading
        .required(&mut fields, "kind", &entry.at)
        .and_then(|node| fields::choice("kind", node, &KINDS, &mut reading.problems));
    let endpoint = reading.required(&mut fields, "endpoint", &entry.at).and_then(|node| endpoint(node, reading));
    let aliases = fields.get("aliases").map_or(Some(Vec::new()), |node| aliases(node, reading));
    let token_hosts = fields.get("token_hosts").map_or(Some(Vec::new()), |node| hosts("token_hosts", node, reading));
    let repositories = fields.get("repositories").map_or(Some(Vec::new()), |node| repositories(node, reading));
    let auth_node = fields.get("auth");
    let path = format!("REGISTRIES__{}", normalize_key(&entry.key));
    let auth = auth_node
        .map_or(Some(Auth::Anonymous), |node| auth::auth(&path, node, &azure.surroundings, reading))
        .filter(|auth| check_auth_kind(auth, kind, fields.key_at("auth"), reading));
    let resource = azure::resource(&mut fields, kind, auth.as_ref(), azure, &entry.at, reading);
    let ca_file = fields.get("ca_file").map(|node| ca_file(node, reading));
    let removal = fields.get("removal").map_or(Some(RemovalMethod::Untag), |node| removal(node, kind, reading));
    let can_untag = fields
        .get("can_untag")
        .map_or(Some(CanUntag::Unknown), |node| fields::choice("can_untag", node, &CAN_UNTAG, &mut reading.problems));
    let accepted = fields.get("accept").map_or(Some(Accepted::default()), |node| accepted(node, kind, reading));
    let exact_bytes = fields.get("bytes").map_or(Some(false), |node| exact_bytes(node, kind, reading));
    let rates = fields.get("rates").map_or(Some(RateLimits::default()), |node| rates(node, reading));
    let concurrency = match fields.get("concurrency") {
        Some(node) => fields::integer("concurrency", node, 1..=256, &mut reading.problems)
            .and_then(|number| usize::try_from(number).ok()),
        None => kind.map(RegistryKind::default_concurrency),
    };
    let timeout = fields
        .get("timeout")
        .map_or(Some(Duration::from_secs(30)), |node| fields::duration("timeout", node, &mut reading.problems));
    let allow_http =
        fields.get("allow_http").map_or(Some(false), |node| fields::boolean("allow_http", node, &mut reading.problems));
    let at = fields.key_at("endpoint");
    fields.finish(hint, &mut reading.problems);

    let (endpoint, kind) = (endpoint?, kind?);
    if kind == RegistryKind::Acr && endpoint.scheme() != "https" && !is_loopback(&endpoint) {
        reading
            .problems
            .add(at, "Azure Container Registry answers at `https://` only")
            .help("write endpoint = \"https://NAME.azurecr.io\"");
        return None;
    }
    if kind == RegistryKind::Distribution && is_azure_host(&endpoint) {
        reading.warnings.push(format!(
            "registry `{}` is an Azure Container Registry: with kind = \"distribution\" the times of its pushes and its \
             locks are not read, and nothing can be untagged; write kind = \"acr\"",
            entry.key
        ));
    }
    let auth = auth?;
    if endpoint.scheme() == "http"
        && !matches!(auth, Auth::Anonymous)
        && !is_loopback(&endpoint)
        && allow_http == Some(false)
    {
        reading
            .problems
            .add(at, "credentials would go over the network unencrypted")
            .help("use `https://`, or write `allow_http = true` if that is meant");
        return None;
    }
    Some(RegistrySettings {
        name: name?,
        kind,
        endpoint,
        aliases: aliases?,
        auth,
        ca_file: ca_file.map_or(Some(None), |file| file.map(Some))?,
        removal: removal?,
        can_untag: can_untag?,
        concurrency: concurrency?,
        timeout: timeout?,
        token_hosts: token_hosts?,
        repositories: repositories?,
        rate_limits: rates?,
        azure_resource: resource,
        accepts_retention: accepted?.retention,
        accepts_missing_date: accepted?.no_date,
        exact_bytes: exact_bytes?,
    })
}

/// Identities of Entra ID are for Azure's registries.
fn check_auth_kind(auth: &Auth, kind: Option<RegistryKind>, at: &Place, reading: &mut SettingsReader) -> bool {
    let Auth::Entra(credential) = auth else { return true };
    if kind != Some(RegistryKind::Distribution) {
        return true;
    }
    let label = azure::label(&credential.identity);
    let problem = format!("`{label}` signs in to Azure Container Registries only");
    reading
        .problems
        .add(at, problem)
        .help("write kind = \"acr\" if it is one, or sign in by `basic`, `token` or `docker-config`");
    false
}

fn removal(node: &Node, kind: Option<RegistryKind>, reading: &mut SettingsReader) -> Option<RemovalMethod> {
    let removal = fields::choice("removal", node, &REMOVALS, &mut reading.problems)?;
    if removal == RemovalMethod::DeleteManifest && kind == Some(RegistryKind::Acr) {
        reading.problems.add(&node.at, "Azure Container Registry can untag, so manifests are not deleted there").help(
            "leave `removal` out; the registry's own retention policy deletes manifests that lost their last tag",
        );
        return None;
    }
    Some(removal)
}

/// What a person accepts of a registry by name, each of which would otherwise be a refusal.
#[derive(Debug, Clone, Copy, Default)]
struct Accepted {
    /// `untagged-retention`: an undo may become impossible.
    retention: bool,
    /// `no-date`: nothing but this machine confirms its clock.
    no_date: bool,
}

fn accepted(node: &Node, kind: Option<RegistryKind>, reading: &mut SettingsReader) -> Option<Accepted> {
    const KNOWN: [&str; 2] = ["no-date", "untagged-retention"];
    let (texts, mut sound) = fields::texts("accept", node, &mut reading.problems)?;
    let mut accepted = Accepted::default();
    for (text, at) in texts {
        match &*text {
            "no-date" => accepted.no_date = true,
            "untagged-retention" if kind == Some(RegistryKind::Distribution) => {
                let problem = format!("`{text}` can only be accepted of Azure Container Registries");
                reading.problems.add(&at, problem).help("leave `accept` out");
                sound = false;
            }
            "untagged-retention" => accepted.retention = true,
            _ => {
                let (message, help) = fields::unknown_word("entry of `accept`", &text, "", &KNOWN);
                reading.problems.add(&at, message).help(help);
                sound = false;
            }
        }
    }
    sound.then_some(accepted)
}

/// Whether bytes are to be exact, at the price of pulling every manifest once.
fn exact_bytes(node: &Node, kind: Option<RegistryKind>, reading: &mut SettingsReader) -> Option<bool> {
    let exact = fields::choice("bytes", node, &[("exact", true), ("estimated", false)], &mut reading.problems)?;
    if kind == Some(RegistryKind::Distribution) {
        let problem =
            "`bytes` is for Azure Container Registries: elsewhere every manifest is read, and bytes are exact";
        reading.problems.add(&node.at, problem).help("leave `bytes` out");
        return None;
    }
    Some(exact)
}

fn rates(node: &Node, reading: &mut SettingsReader) -> Option<RateLimits> {
    let mut fields = Fields::of(node, "table of rates", &mut reading.problems)?;
    let problems = &mut reading.problems;
    let mut rate = |key, problems: &mut Problems| match fields.get(key) {
        Some(node) => fields::integer(key, node, 1..=u32::MAX, problems).map(Some),
        None => Some(None),
    };
    let (read, write, delete) = (rate("read", problems), rate("write", problems), rate("delete", problems));
    fields.finish(|_| None, problems);
    Some(RateLimits { read: read?, write: write?, delete: delete? })
}

/// Whether an address is that of an Azure Container Registry, by its domain.
fn is_azure_host(endpoint: &Url) -> bool {
    let host = endpoint.host_str().unwrap_or_default();
    [".azurecr.io", ".azurecr.cn", ".azurecr.us"].iter().any(|domain| host.ends_with(domain))
}

/// The word for a kind in the settings.
pub(super) fn label(kind: RegistryKind) -> &'static str {
    KINDS.iter().find(|(_, known)| *known == kind).map_or("", |(word, _)| word)
}

fn hint(key: &str) -> Option<&'static str> {
    match key {
        "url" | "host" | "address" | "server" | "login_server" => Some("the address of a registry is its `endpoint`"),
        "username" | "password" | "password_file" | "token" | "token_file" => Some("it belongs into `auth = { … }`"),
        "rate" | "rate_limit" | "rps" => {
            Some("most requests a minute are `rates = { read = …, write = …, delete = … }`")
        }
        "subscription_id" | "tenant_id" | "client_id" => {
            Some("the subscription is `subscription`; ids of a sign-in belong into `auth = { … }`")
        }
        "insecure" | "tls_verify" | "skip_tls_verify" => {
            Some("certificates are always checked: name a certificate authority with `ca_file`")
        }
        _ => None,
    }
}

fn endpoint(node: &Node, reading: &mut SettingsReader) -> Option<Url> {
    let problems = &mut reading.problems;
    let written = fields::text("endpoint", node, problems)?;
    let url = match Url::parse(written) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.host().is_some() => url,
        // The text is not shown: it may hold a password.
        _ => {
            problems.add(&node.at, "`endpoint` is no address of a registry").help(ENDPOINT_HELP);
            return None;
        }
    };
    let excess = if !url.username().is_empty() || url.password().is_some() {
        Some(("a user or password", "credentials belong into `auth = { … }`"))
    } else if url.path() != "/" {
        Some(("a path", "leave it out: repositories are selected in policies"))
    } else if url.query().is_some() || url.fragment().is_some() {
        Some(("a query or fragment", ENDPOINT_HELP))
    } else {
        None
    };
    if let Some((what, help)) = excess {
        problems.add(&node.at, format!("`endpoint` has {what} in it")).help(help);
        return None;
    }
    Some(url)
}

fn repositories(node: &Node, reading: &mut SettingsReader) -> Option<Vec<RepositoryName>> {
    let (texts, _) = fields::texts("repositories", node, &mut reading.problems)?;
    let mut names: Vec<RepositoryName> = Vec::new();
    for (text, at) in texts {
        names.push(fields::name(&text, &at, &mut reading.problems)?);
    }
    names.sort();
    names.dedup();
    Some(names)
}

fn hosts(key: &str, node: &Node, reading: &mut SettingsReader) -> Option<Vec<String>> {
    const HELP: &str = "write the host as it stands in image references, such as `images.contoso.example`";
    names((key, "that is no host", HELP), node, host_of, reading)
}

/// Other names of a registry in image references: hosts, or a host with the path under which a cache serves it.
fn aliases(node: &Node, reading: &mut SettingsReader) -> Option<Vec<String>> {
    const HELP: &str = "write it as it stands in image references: a host such as `images.contoso.example`, or for a \
                        cache a host and a path such as `harbor.contoso.example/acr-proxy`";
    let alias_of = |text: &str| match text.split_once('/') {
        None => host_of(text),
        Some((host, path)) => Some(format!("{}/{}", host_of(host)?, path.parse::<RepositoryName>().ok()?)),
    };
    names(("aliases", "that is neither a host nor a host with a path", HELP), node, alias_of, reading)
}

/// The entries of a list as `read` understands them, sorted. `(key, what, help)` says what is wrong with the others.
fn names(
    (key, what, help): (&str, &str, &'static str),
    node: &Node,
    read: impl Fn(&str) -> Option<String>,
    reading: &mut SettingsReader,
) -> Option<Vec<String>> {
    let problems = &mut reading.problems;
    let (texts, mut sound) = fields::texts(key, node, problems)?;
    let mut hosts = Vec::new();
    for (text, at) in texts {
        if let Some(host) = read(&text) {
            hosts.push(host);
        } else {
            problems.add(&at, format!("an entry of `{key}` {what}")).help(help);
            sound = false;
        }
    }
    hosts.sort();
    hosts.dedup();
    sound.then_some(hosts)
}

/// The host of an image reference, with its port, in lower case.
fn host_of(text: &str) -> Option<String> {
    if text.contains(['/', '@', '?', '#']) || text.trim() != text {
        return None;
    }
    let url = Url::parse(&format!("https://{text}")).ok()?;
    url.host_str().filter(|host| !host.is_empty()).map(|_| text.to_ascii_lowercase())
}

pub(super) fn ca_file(node: &Node, reading: &mut SettingsReader) -> Option<std::path::PathBuf> {
    let written = fields::text("ca_file", node, &mut reading.problems)?;
    let path = reading.folder.join(written);
    let problem = match std::fs::read_to_string(&path) {
        Ok(text) if text.contains("-----BEGIN CERTIFICATE-----") => return Some(path),
        Ok(_) => format!("`{written}` holds no certificate in PEM format"),
        Err(error) => format!("`{written}` cannot be read: {error}"),
    };
    reading.problems.add(&node.at, problem).help("paths are relative to the settings file");
    None
}

pub(super) fn is_loopback(endpoint: &Url) -> bool {
    match endpoint.host() {
        Some(Host::Ipv4(ip)) => IpAddr::from(ip).is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::from(ip).is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

/// One host stands for one registry: what is claimed of it must not be claimed of another.
fn warn_shared_hosts(
    settings: &RegistrySettings,
    at: &Place,
    hosts: &mut BTreeMap<String, (RegistryName, Place)>,
    reading: &mut SettingsReader,
) {
    let own = settings.endpoint.host_str().map(|host| match settings.endpoint.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    });
    for host in own.into_iter().chain(settings.aliases.iter().cloned()) {
        match hosts.get(&host) {
            Some((other, first)) if *other != settings.name => {
                let first = reading.problems.diagnostic(first, format!("`{other}` is here"));
                reading
                    .problems
                    .add(at, format!("`{}` and `{other}` are both `{host}`", settings.name))
                    .help("a host stands for one registry: keep one of the two, or take the alias away")
                    .add_secondary(first);
            }
            _ => drop(hosts.insert(host, (settings.name.clone(), at.clone()))),
        }
    }
}
