//! `[azure]`, the identities of Entra ID, and registries as Azure resources.

use url::Url;

use super::net::{ca_file, is_loopback};
use super::reader::SettingsReader;
use super::secrets::secret;
use crate::azure::{AzureEnvironment, Cloud, Credential, Identity};
use crate::policy::{Fields, Node, Place, fields};
use crate::registry::Auth;
use crate::registry::providers::RegistryResource;
use crate::sources::AzureScope;

const CLOUDS: [(&str, Cloud); 3] = [("public", Cloud::Public), ("china", Cloud::China), ("usgov", Cloud::UsGov)];

/// The kinds of identities of Entra ID.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Managed,
    Workload,
    ClientSecret,
    AzureCli,
}

const KINDS: [(&str, Kind); 4] = [
    ("managed-identity", Kind::Managed),
    ("workload-identity", Kind::Workload),
    ("client-secret", Kind::ClientSecret),
    ("azure-cli", Kind::AzureCli),
];

/// Kinds of sign-ins that only registries have.
const REGISTRY_KINDS: [&str; 8] =
    ["anonymous", "basic", "token", "docker-config", "aws", "aws-keys", "google", "google-credentials"];

/// `[azure]`.
#[derive(Default)]
pub(super) struct Azure {
    pub(super) surroundings: AzureEnvironment,
    /// The identity for the resource manager. Without it, a registry's own identity is used.
    identity: Option<Identity>,
}

/// Parses `[azure]`, as far as possible.
pub(super) fn azure(node: &Node, reader: &mut SettingsReader) -> Option<Azure> {
    let mut fields = Fields::of(node, "`[azure]` table", &mut reader.problems)?;
    let cloud = fields.get("cloud").map(|node| fields::choice("cloud", node, &CLOUDS, &mut reader.problems));
    let resource_manager = fields.get("resource_manager").map(|node| address("resource_manager", node, true, reader));
    let log_analytics = fields.get("log_analytics").map(|node| address("log_analytics", node, true, reader));
    let authority = fields.get("authority").map(|node| address("authority", node, false, reader));
    let ca_file = fields.get("ca_file").map(|node| ca_file(node, reader));
    let identity = fields.get("auth").map(|node| own_identity("AZURE", node, reader));
    fields.finish(hint, &mut reader.problems);
    Some(Azure {
        surroundings: AzureEnvironment {
            cloud: cloud.flatten().unwrap_or_default(),
            resource_manager: resource_manager.flatten(),
            log_analytics: log_analytics.flatten(),
            authority: authority.flatten(),
            ca_file: ca_file.flatten(),
            timeout: None,
        },
        identity: identity.flatten(),
    })
}

fn hint(key: &str) -> Option<&'static str> {
    match key {
        "subscription" | "resource_group" => Some("it belongs to a registry, below `[registries.NAME]`"),
        "tenant_id" | "client_id" | "secret_file" | "secret" => Some("it belongs into `auth = { … }`"),
        "environment" => Some("the cloud is `cloud = \"public\"`, `\"china\"` or `\"usgov\"`"),
        _ => None,
    }
}

/// Parses the address of an Azure service. It receives tokens and secrets, so it must be encrypted, or on this machine
/// if allowed.
fn address(key: &str, node: &Node, or_loopback: bool, reader: &mut SettingsReader) -> Option<Url> {
    let problems = &mut reader.problems;
    let written = fields::text(key, node, problems)?;
    let url = Url::parse(written).ok().filter(|url| {
        let plain = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let open = url.username().is_empty() && url.password().is_none();
        let safe = url.scheme() == "https" || or_loopback && url.scheme() == "http" && is_loopback(url);
        url.host().is_some() && plain && open && safe
    });
    if url.is_none() {
        // The text is not shown: it may contain a password.
        problems
            .add(&node.at, format!("`{key}` must be `https://` and a host, without path and credentials"))
            .help("leave it out to use the cloud's own");
    }
    url
}

/// `auth = { kind = … }` of `[azure]` or `[postgres]`; `path` is where its variables start.
pub(super) fn own_identity(path: &str, node: &Node, reader: &mut SettingsReader) -> Option<Identity> {
    let mut fields = Fields::of(node, "sign-in", &mut reader.problems)?;
    let at = fields.at();
    let kind = reader
        .kind(&mut fields, at)
        .and_then(|node| fields::choice_beside_secrets("kind", node, &KINDS, &REGISTRY_KINDS, &mut reader.problems))?;
    let identity = identity(kind, path, &mut fields, reader);
    fields.finish(|_| None, &mut reader.problems);
    identity
}

/// Parses an identity of that kind from its keys; `path` is the prefix of its variables. Variables that the webhook of
/// workload identity sets in a pod fill in missing keys.
pub(super) fn identity(
    kind: Kind,
    path: &str,
    fields: &mut Fields<'_>,
    reader: &mut SettingsReader,
) -> Option<Identity> {
    let at = fields.at();
    let mut id = |key: &'static str, reader: &mut SettingsReader| fields.get(key).map(|node| id(key, node, reader));
    match kind {
        Kind::Managed => {
            let client_id = id("client_id", reader);
            Some(Identity::Managed { client_id: client_id.map_or(Some(None), |id| id.map(Some))? })
        }
        Kind::Workload => {
            let client_id = id("client_id", reader).unwrap_or_else(|| reader.variable_text("AZURE_CLIENT_ID"));
            let tenant_id = id("tenant_id", reader).unwrap_or_else(|| reader.variable_text("AZURE_TENANT_ID"));
            let token_file = match fields.get("token_file") {
                Some(node) => Some(reader.folder.join(fields::text("token_file", node, &mut reader.problems)?)),
                None => reader.variable("AZURE_FEDERATED_TOKEN_FILE").map(Into::into),
            };
            Some(Identity::Workload { client_id, tenant_id, token_file })
        }
        Kind::ClientSecret => {
            let tenant_id =
                reader.required(fields, "tenant_id", at).and_then(|node| self::id("tenant_id", node, reader));
            let client_id =
                reader.required(fields, "client_id", at).and_then(|node| self::id("client_id", node, reader));
            let secret = secret(path, fields, "secret", "secret_file", reader);
            Some(Identity::ClientSecret { tenant_id: tenant_id?, client_id: client_id?, secret: secret? })
        }
        Kind::AzureCli => {
            let tenant_id = id("tenant_id", reader);
            Some(Identity::AzureCli { tenant_id: tenant_id.map_or(Some(None), |id| id.map(Some))? })
        }
    }
}

/// Parses the id of an application, a tenant or a subscription. A tenant may also be the name of a domain.
fn id(key: &str, node: &Node, reader: &mut SettingsReader) -> Option<String> {
    let written = fields::text(key, node, &mut reader.problems)?;
    let is_domain = written.contains('.')
        && written
            .split('.')
            .all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'));
    let is_id = uuid::Uuid::try_parse(written).is_ok() && written.len() == 36;
    if is_id || key == "tenant_id" && is_domain {
        return Some(written.to_ascii_lowercase());
    }
    let what = match key {
        "tenant_id" => "the tenant's id, or one of its domains",
        "subscription" => "the subscription's id, not its name",
        _ => "the client id (application id), not a name, an object id or a resource id",
    };
    let problem = format!("`{key}` is not a valid id: {}", node.value.describe());
    reader.problems.add(&node.at, problem).help(format!("write {what}, such as 00000000-0000-0000-0000-000000000000"));
    None
}

/// Parses `subscription` and `resource_group` of a registry, which locate it as an Azure resource; `at` is the
/// registry. `None` if neither is written, or with a problem.
pub(super) fn resource(
    (subscription, group): (Option<&Node>, Option<&Node>),
    fields: &Fields<'_>,
    auth: Option<&Auth>,
    azure: &Azure,
    at: &Place,
    reader: &mut SettingsReader,
) -> Option<RegistryResource> {
    let (subscription, group) = match (subscription, group) {
        (None, None) => return None,
        (Some(subscription), Some(group)) => (subscription, group),
        (one, _) => {
            let (there, missing) =
                if one.is_some() { ("subscription", "resource_group") } else { ("resource_group", "subscription") };
            reader
                .problems
                .add(fields.key_at(there), format!("`{there}` without `{missing}`"))
                .help("give both, so that Azure can be asked about the registry, or neither");
            return None;
        }
    };
    let subscription = id("subscription", subscription, reader);
    let resource_group = resource_group(group, reader);
    let identity = match (&azure.identity, auth) {
        (Some(identity), _) => identity.clone(),
        (None, Some(Auth::Entra(credential))) => credential.identity.clone(),
        // Reported with the authentication.
        (None, None) => return None,
        (None, Some(_)) => {
            reader
                .problems
                .add(at, "nobody to ask Azure about the registry as: its own sign-in is not one of Entra ID")
                .help("add `auth = { kind = \"managed-identity\" }` or the like below `[azure]`, or leave out `subscription` and `resource_group`");
            return None;
        }
    };
    let credential = Credential { identity, environment: azure.surroundings.clone() };
    Some(RegistryResource { subscription: subscription?, resource_group: resource_group?, credential })
}

/// Parses the scope of a source in Azure, with the identity of `[azure]`; `at` is the source.
pub(super) fn scope(
    fields: &mut Fields<'_>,
    at: &Place,
    azure: &Azure,
    reader: &mut SettingsReader,
) -> Option<AzureScope> {
    let subscriptions = reader.required(fields, "subscriptions", at).and_then(|node| {
        let nodes = fields::list("subscriptions", node, &mut reader.problems)?;
        collect_all(nodes.iter().map(|node| id("subscription", node, reader)).collect())
    });
    let groups = fields.get("resource_groups").map(|node| {
        let nodes = fields::list("resource_groups", node, &mut reader.problems)?;
        collect_all(nodes.iter().map(|node| resource_group(node, reader)).collect())
    });
    let credential = reader_identity(at, azure, reader);
    Some(AzureScope {
        subscriptions: subscriptions?,
        resource_groups: groups.map_or(Some(Vec::new()), |groups| groups)?,
        credential: credential?,
    })
}

/// Returns the identity of `[azure]`, which a source needs; `at` is the source.
pub(super) fn reader_identity(at: &Place, azure: &Azure, reader: &mut SettingsReader) -> Option<Credential> {
    if azure.identity.is_none() {
        reader
            .problems
            .add(at, "nobody to ask Azure as")
            .help("add `auth = { kind = \"managed-identity\" }` or the like below `[azure]`");
    }
    let environment = azure.surroundings.clone();
    Some(Credential { identity: azure.identity.clone()?, environment })
}

/// Returns all texts sorted and deduplicated; `None` if one is missing.
fn collect_all(texts: Vec<Option<String>>) -> Option<Vec<String>> {
    let mut texts = texts.into_iter().collect::<Option<Vec<String>>>()?;
    texts.sort_by_key(|text| text.to_lowercase());
    texts.dedup_by(|one, other| one.eq_ignore_ascii_case(other));
    Some(texts)
}

/// Parses the name of a resource group: letters, digits, and some signs, no full stop at the end.
fn resource_group(node: &Node, reader: &mut SettingsReader) -> Option<String> {
    let written = fields::text("resource_group", node, &mut reader.problems)?;
    let legal = |c: char| c.is_alphanumeric() || "-_.()".contains(c);
    if written.chars().all(legal) && !written.ends_with('.') && written.chars().count() <= 90 {
        return Some(written.to_owned());
    }
    let problem = format!("invalid `resource_group`: {}", node.value.describe());
    reader.problems.add(&node.at, problem).help("write its name alone, such as `rg-registries`");
    None
}
