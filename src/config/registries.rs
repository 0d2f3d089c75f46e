//! `[registries.<name>]`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use url::Url;

use super::auth;
use super::azure::{self, Azure};
use super::layers::normalize_key;
use super::net::{ca_file, is_loopback};
use super::reader::SettingsReader;
use super::secrets::secret_at;
use crate::domain::{RegistryName, RemovalMethod, RepositoryName};
use crate::policy::{Entry, Fields, Node, Place, Problems, Value, fields};
use crate::registry::providers::{self, FirstAnswer, ProductApi, SettingsDraft};
use crate::registry::{AcceptedRisks, Auth, CanUntag, Provider, RateLimits, RegistrySettings};

const REMOVALS: [(&str, RemovalMethod); 2] =
    [("untag", RemovalMethod::Untag), ("manifest", RemovalMethod::DeleteManifest)];
/// The values of `bytes`: exact sizes require one pull of every manifest.
const BYTES: [(&str, bool); 2] = [("exact", true), ("estimated", false)];
const CAN_UNTAG: [(&str, CanUntag); 3] = [("yes", CanUntag::Yes), ("no", CanUntag::No), ("unknown", CanUntag::Unknown)];
const ENDPOINT_HELP: &str = "write scheme and host, such as `https://contoso.azurecr.io`";

/// Parses all registries, by name. None at all is a problem.
pub(super) fn registries(node: Option<&Node>, azure: &Azure, reader: &mut SettingsReader) -> Vec<RegistrySettings> {
    let mut read: Vec<RegistrySettings> = Vec::new();
    let mut hosts = BTreeMap::new();
    let entries = node.map_or(Some(&[][..]), |node| reader.tables("registries", node));
    let Some(entries) = entries else { return read };
    if entries.is_empty() {
        reader.problems.add(&Place::File, "no registries").help("add `[registries.NAME]` with `kind` and `endpoint`");
    }
    for entry in entries {
        if let Some(settings) = reader.entry(entry, |reader| registry(entry, azure, reader)) {
            warn_shared_hosts(&settings, &entry.at, &mut hosts, reader);
            read.push(settings);
        }
    }
    read.sort_by(|a, b| a.name.cmp(&b.name));
    read
}

/// Parses the kind of a registry.
fn provider_of(
    node: &Node,
    kinds: &[(&str, &'static dyn Provider)],
    reader: &mut SettingsReader,
) -> Option<&'static dyn Provider> {
    if let Value::Text(written) = &node.value
        && let Some(meant) = providers::kind_called(written)
        && kinds.iter().any(|(kind, _)| *kind == meant)
        && !kinds.iter().any(|(kind, _)| kind == written)
    {
        let help = format!("write kind = \"{meant}\"");
        reader.problems.add(&node.at, format!("unknown kind `{written}`, did you mean `{meant}`?")).help(help);
        return None;
    }
    fields::choice("kind", node, kinds, &mut reader.problems)
}

#[expect(clippy::too_many_lines, reason = "one key after the other, and each is read once")]
fn registry(entry: &Entry, azure: &Azure, reader: &mut SettingsReader) -> Option<RegistrySettings> {
    let name: Option<RegistryName> = fields::name(&entry.key, &entry.at, &mut reader.problems);
    let mut fields = Fields::of(&entry.node, "registry", &mut reader.problems)?;
    let kinds: Vec<(&str, &'static dyn Provider)> =
        reader.providers.iter().map(|provider| (provider.name(), *provider)).collect();
    let provider = reader.required(&mut fields, "kind", &entry.at).and_then(|node| provider_of(node, &kinds, reader));
    let endpoint = reader.required(&mut fields, "endpoint", &entry.at).and_then(|node| endpoint(node, reader));
    let aliases = fields.get("aliases").map_or(Some(Vec::new()), |node| aliases(node, reader));
    let token_hosts = fields.get("token_hosts").map_or(Some(Vec::new()), |node| hosts("token_hosts", node, reader));
    let repositories = fields.get("repositories").map_or(Some(Vec::new()), |node| repositories(node, reader));
    let namespaces = namespaces(fields.get("namespaces"), reader);
    let (path, near) = (format!("REGISTRIES__{}", normalize_key(&entry.key)), &azure.surroundings);
    let auth = fields.get("auth").map_or(Some(Auth::Anonymous), |node| auth::auth(&path, node, near, reader));
    let api_node = fields.get("api");
    let api = api_node.map(|node| product_api(&path, node, reader));
    let (subscription, group) = (fields.get("subscription"), fields.get("resource_group"));
    let ca_file = fields.get("ca_file").map(|node| ca_file(node, reader));
    let removal_node = fields.get("removal");
    let removal = removal_node
        .map_or(Some(RemovalMethod::Untag), |node| fields::choice("removal", node, &REMOVALS, &mut reader.problems));
    let can_untag = fields
        .get("can_untag")
        .map_or(Some(CanUntag::Unknown), |node| fields::choice("can_untag", node, &CAN_UNTAG, &mut reader.problems));
    let mut retention_at = None;
    let accepted =
        fields.get("accept").map_or(Some(AcceptedRisks::default()), |node| accepted(node, &mut retention_at, reader));
    let bytes_node = fields.get("bytes");
    let exact_bytes = bytes_node.map(|node| fields::choice("bytes", node, &BYTES, &mut reader.problems));
    let rates = fields.get("rates").map_or(Some(RateLimits::default()), |node| rates(node, reader));
    let concurrency = match fields.get("concurrency") {
        Some(node) => concurrency(node, reader),
        None => provider.map(Provider::default_concurrency),
    };
    let timeout = fields
        .get("timeout")
        .map_or(Some(Duration::from_secs(30)), |node| fields::duration("timeout", node, &mut reader.problems));
    let allow_http =
        fields.get("allow_http").map_or(Some(false), |node| fields::boolean("allow_http", node, &mut reader.problems));
    let azure_key = subscription.map(|_| "subscription").or(group.map(|_| "resource_group"));
    let draft = SettingsDraft {
        endpoint: endpoint.as_ref(),
        aliases: aliases.as_deref(),
        auth: auth.as_ref(),
        removal,
        can_untag: can_untag.unwrap_or_default(),
        accepts_retention: retention_at.is_some(),
        exact_bytes: exact_bytes.flatten(),
        azure_key,
        namespaces: namespaces.as_deref(),
        repositories: repositories.as_deref(),
        has_api: api_node.is_some(),
    };
    let value_at = |key: &str| match key {
        "subscription" | "resource_group" => subscription.or(group).map(|node| &node.at),
        "removal" => removal_node.map(|node| &node.at),
        "accept" => retention_at.as_ref(),
        "bytes" => bytes_node.map(|node| &node.at),
        _ => None,
    };
    let at = |key: &str| value_at(key).unwrap_or_else(|| fields.key_at(key));
    let refused = provider.map(|provider| refuse(provider, &draft, at, reader)).unwrap_or_default();
    let auth = auth.filter(|_| !refused.contains("auth"));
    let resource = azure_key
        .filter(|key| !refused.contains(key))
        .and_then(|_| azure::resource((subscription, group), &fields, auth.as_ref(), azure, &entry.at, reader));
    let (at, kind_at, api_at) = (fields.key_at("endpoint"), fields.key_at("kind"), fields.key_at("api"));
    fields.finish(hint, &mut reader.problems);
    if let (Some(provider), Some(endpoint)) = (provider, &endpoint) {
        check_kind(provider, endpoint, kind_at, reader);
    }

    let (endpoint, provider) = (endpoint?, provider?);
    if refused.contains("endpoint") {
        return None;
    }
    let auth = auth?;
    let plain_api = api.as_ref().and_then(Option::as_ref).is_some_and(|api| is_plain_and_remote(&api.endpoint));
    let plain = (sends_plain_credentials(&endpoint, &auth), plain_api);
    for (_, at) in [(plain.0, at), (plain.1, api_at)].into_iter().filter(|(plain, _)| *plain) {
        if allow_http == Some(false) {
            reader
                .problems
                .add(at, "credentials would go over the network unencrypted")
                .help("use `https://`, or write `allow_http = true` if that is meant");
            return None;
        }
    }
    // Only the name of the registry in Azure is affected, so the hosts are still compared with those of others.
    if refused.iter().any(|key| Some(*key) != azure_key) {
        return None;
    }
    let settings = RegistrySettings {
        name: name?,
        provider,
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
        namespaces: namespaces?,
        rate_limits: rates?,
        api: api.map_or(Some(None), |api| api.map(Some))?,
        azure_resource: resource,
        accepted: accepted?,
        exact_bytes: exact_bytes.unwrap_or(Some(false))?,
    };
    reader.warnings.extend(provider.warnings(&settings));
    Some(settings)
}

/// Notes a kind that the address contradicts.
fn check_kind(provider: &'static dyn Provider, endpoint: &Url, at: &Place, reader: &mut SettingsReader) {
    let answer = FirstAnswer::of_address(endpoint.clone());
    if let Some(found) = providers::correct_kind(provider, &answer, reader.providers) {
        let product = found.product.map_or("another product", |product| product.name);
        let host = endpoint.host_str().unwrap_or_default();
        reader
            .problems
            .add(at, format!("`{}` is the wrong kind: {host} is {product}", provider.name()))
            .help(format!("write kind = \"{}\"", found.provider.name()));
    }
}

/// Notes the settings that a product refuses, each at its place, and returns their keys.
fn refuse<'a>(
    provider: &dyn Provider,
    draft: &SettingsDraft<'_>,
    at: impl Fn(&str) -> &'a Place,
    reader: &mut SettingsReader,
) -> BTreeSet<&'static str> {
    let mut refused = BTreeSet::new();
    for problem in provider.check(draft) {
        let noted = reader.problems.add(at(problem.key), problem.message);
        if let Some(help) = problem.help {
            noted.help(help);
        }
        refused.insert(problem.key);
    }
    refused
}

/// Parses `accept`, and records the place of `untagged-retention` in it.
fn accepted(node: &Node, retention_at: &mut Option<Place>, reader: &mut SettingsReader) -> Option<AcceptedRisks> {
    const KNOWN: [&str; 4] = ["no-date", "pull-times", "same-content", "untagged-retention"];
    let (texts, mut sound) = fields::texts("accept", node, &mut reader.problems)?;
    let mut accepted = AcceptedRisks::default();
    for (text, at) in texts {
        match &*text {
            "no-date" => accepted.missing_date = true,
            "pull-times" => accepted.pull_times = true,
            "same-content" => accepted.same_content = true,
            "untagged-retention" => {
                accepted.retention = true;
                retention_at.get_or_insert(at);
            }
            _ => {
                let (message, help) = fields::unknown_word("entry of `accept`", &text, "", &KNOWN);
                reader.problems.add(&at, message).help(help);
                sound = false;
            }
        }
    }
    sound.then_some(accepted)
}

fn concurrency(node: &Node, reader: &mut SettingsReader) -> Option<usize> {
    let number = fields::integer("concurrency", node, 1..=256, &mut reader.problems)?;
    usize::try_from(number).ok()
}

/// Returns true if credentials would leave this machine unencrypted.
fn sends_plain_credentials(endpoint: &Url, auth: &Auth) -> bool {
    !matches!(auth, Auth::Anonymous) && is_plain_and_remote(endpoint)
}

/// Returns true for an address without encryption on another machine.
fn is_plain_and_remote(endpoint: &Url) -> bool {
    endpoint.scheme() == "http" && !is_loopback(endpoint)
}

/// Reads `api`: the address of the product around the registry, and a token for it; the variables of its registry start with
/// `path`.
fn product_api(path: &str, node: &Node, reader: &mut SettingsReader) -> Option<ProductApi> {
    const HELP: &str = "write the address of the product itself, such as `https://gitlab.contoso.example`";
    let mut fields = Fields::of(node, "table `api`", &mut reader.problems)?;
    let at = fields.at();
    let endpoint = reader.required(&mut fields, "endpoint", at).and_then(|node| {
        let written = fields::text("endpoint", node, &mut reader.problems)?;
        let url = Url::parse(written).ok().filter(|url| {
            let bare = url.query().is_none() && url.fragment().is_none() && url.password().is_none();
            matches!(url.scheme(), "http" | "https") && url.host().is_some() && url.username().is_empty() && bare
        });
        if url.is_none() {
            // The text is not shown: it may hold a password.
            reader.problems.add(&node.at, "`endpoint` of `api` is not a valid address").help(HELP);
        }
        url
    });
    let token = secret_at(&format!("{path}__API"), &mut fields, "token", "token_file", reader);
    fields.finish(|_| None, &mut reader.problems);
    Some(ProductApi { endpoint: endpoint?, token: token? })
}

fn rates(node: &Node, reader: &mut SettingsReader) -> Option<RateLimits> {
    let mut fields = Fields::of(node, "table of rates", &mut reader.problems)?;
    let problems = &mut reader.problems;
    let mut rate = |key, problems: &mut Problems| match fields.get(key) {
        Some(node) => fields::integer(key, node, 1..=u32::MAX, problems).map(Some),
        None => Some(None),
    };
    let (read, write, delete) = (rate("read", problems), rate("write", problems), rate("delete", problems));
    fields.finish(|_| None, problems);
    Some(RateLimits { read: read?, write: write?, delete: delete? })
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

fn endpoint(node: &Node, reader: &mut SettingsReader) -> Option<Url> {
    let problems = &mut reader.problems;
    let written = fields::text("endpoint", node, problems)?;
    let url = match Url::parse(written) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.host().is_some() => url,
        // The text is not shown: it may contain a password.
        _ => {
            problems.add(&node.at, "`endpoint` is not a valid registry address").help(ENDPOINT_HELP);
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

fn repositories(node: &Node, reader: &mut SettingsReader) -> Option<Vec<RepositoryName>> {
    let (texts, _) = fields::texts("repositories", node, &mut reader.problems)?;
    let mut names: Vec<RepositoryName> = Vec::new();
    for (text, at) in texts {
        names.push(fields::name(&text, &at, &mut reader.problems)?);
    }
    names.sort();
    names.dedup();
    Some(names)
}

fn namespaces(node: Option<&Node>, reader: &mut SettingsReader) -> Option<Vec<String>> {
    const HELP: &str = "write the first part of the names of its repositories, such as `contoso`";
    let namespace_of = |text: &str| text.parse::<RepositoryName>().ok().map(|_| text.to_owned());
    node.map_or(Some(Vec::new()), |node| {
        names(("namespaces", "that is not a valid namespace", HELP), node, namespace_of, reader)
    })
}

fn hosts(key: &str, node: &Node, reader: &mut SettingsReader) -> Option<Vec<String>> {
    const HELP: &str = "write the host as it stands in image references, such as `images.contoso.example`";
    names((key, "that is not a valid host", HELP), node, host_of, reader)
}

/// Parses other names of a registry in image references: hosts, or a host with the path of a cache.
fn aliases(node: &Node, reader: &mut SettingsReader) -> Option<Vec<String>> {
    const HELP: &str = "write it as it stands in image references: a host such as `images.contoso.example`, or for a \
                        cache a host and a path such as `harbor.contoso.example/acr-proxy`";
    let alias_of = |text: &str| match text.split_once('/') {
        None => host_of(text),
        Some((host, path)) => Some(format!("{}/{}", host_of(host)?, path.parse::<RepositoryName>().ok()?)),
    };
    names(("aliases", "that is neither a host nor a host with a path", HELP), node, alias_of, reader)
}

/// Parses the entries of a list by `read`, sorted. `(key, what, help)` describe invalid ones.
fn names(
    (key, what, help): (&str, &str, &'static str),
    node: &Node,
    read: impl Fn(&str) -> Option<String>,
    reader: &mut SettingsReader,
) -> Option<Vec<String>> {
    let problems = &mut reader.problems;
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

/// Returns the host of an image reference, with its port, in lower case.
fn host_of(text: &str) -> Option<String> {
    if text.contains(['/', '@', '?', '#']) || text.trim() != text {
        return None;
    }
    let url = Url::parse(&format!("https://{text}")).ok()?;
    url.host_str().filter(|host| !host.is_empty()).map(|_| text.to_ascii_lowercase())
}

/// Warns about hosts that several registries share, because claims must refer to one registry.
fn warn_shared_hosts(
    settings: &RegistrySettings,
    at: &Place,
    hosts: &mut BTreeMap<String, (RegistryName, Place)>,
    reader: &mut SettingsReader,
) {
    let own = settings.endpoint.host_str().map(|host| match settings.endpoint.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    });
    for host in own.into_iter().chain(settings.aliases.iter().cloned()) {
        let server = server_of(&host);
        match hosts.get(&server) {
            Some((other, first)) if *other != settings.name => {
                let first = reader.problems.diagnostic(first, format!("`{other}` is here"));
                let same = if server == host { format!("`{host}`") } else { format!("`{host}`, which is `{server}`") };
                reader
                    .problems
                    .add(at, format!("`{}` and `{other}` are both {same}", settings.name))
                    .help("a host stands for one registry: keep one of the two, or take the alias away")
                    .add_secondary(first);
            }
            _ => drop(hosts.insert(server, (settings.name.clone(), at.clone()))),
        }
    }
}

/// Returns the one name of a host that has several: without the port that stands for none, and without the dot at its
/// end. The names of this machine are `127.0.0.1`. A path stays as it is.
fn server_of(host: &str) -> String {
    let (host, path) = host.split_at(host.find('/').unwrap_or(host.len()));
    let end_of_name = host.rfind(']').map_or(0, |end| end + 1);
    let (name, port) = host.split_at(host[end_of_name..].find(':').map_or(host.len(), |colon| end_of_name + colon));
    let name = match name.trim_end_matches('.') {
        "localhost" | "[::1]" => "127.0.0.1",
        name => name,
    };
    let port = if matches!(port, ":443" | ":80") { "" } else { port };
    format!("{name}{port}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_server_are_equal() {
        for (host, server) in [
            ("127.0.0.1:15556", "127.0.0.1:15556"),
            ("localhost:15556", "127.0.0.1:15556"),
            ("[::1]:15556", "127.0.0.1:15556"),
            ("localhost", "127.0.0.1"),
            ("contoso.example:443", "contoso.example"),
            ("contoso.example.:80", "contoso.example"),
            ("contoso.example:8443", "contoso.example:8443"),
            ("127.0.0.2:5000", "127.0.0.2:5000"),
            ("[2001:db8::1]:443", "[2001:db8::1]"),
            ("harbor.example:443/acr-proxy", "harbor.example/acr-proxy"),
            ("localhost:80/a:443", "127.0.0.1/a:443"),
        ] {
            assert_eq!(server_of(host), server, "{host}");
        }
    }
}
