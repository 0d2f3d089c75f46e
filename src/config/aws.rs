//! Identities of AWS for Amazon ECR: as the environment of the process gives one, or by keys of the settings.
//!
//! The variables are those that the tools of AWS read
//! (<https://docs.aws.amazon.com/sdkref/latest/guide/environment-variables.html>).

use url::{Host, Url};

use super::net::is_loopback;
use super::reader::SettingsReader;
use super::secrets::{secret, secret_file};
use crate::policy::{Fields, Place, fields};
use crate::registry::providers::{AwsIdentity, ContainerToken};

/// The origin of an identity.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// The environment of the process.
    Environment,
    /// The settings.
    Keys,
}

/// The metadata service of virtual machines.
const METADATA_SERVICE: &str = "http://169.254.169.254/";
/// The service beside containers of ECS.
const CONTAINER_SERVICE: &str = "http://169.254.170.2/";

/// Parses an identity of that kind from its keys; `path` is the prefix of its variables.
pub(super) fn identity(
    kind: Kind,
    path: &str,
    fields: &mut Fields<'_>,
    reader: &mut SettingsReader,
) -> Option<AwsIdentity> {
    let at = fields.at();
    match kind {
        Kind::Environment => environment(at, reader),
        Kind::Keys => {
            let access_key_id = reader
                .required(fields, "access_key_id", at)
                .and_then(|node| fields::text("access_key_id", node, &mut reader.problems));
            let token_file = fields.get("session_token_file");
            let session_token = token_file.map(|node| secret_file("session_token_file", node, reader));
            let secret = secret(path, fields, "secret_access_key", "secret_access_key_file", reader);
            Some(AwsIdentity::Keys {
                access_key_id: access_key_id?.to_owned(),
                secret_access_key: secret?,
                session_token: session_token.map_or(Some(None), |token| token.map(Some))?,
            })
        }
    }
}

/// Returns the identity that the environment gives: keys, a token for a role, the service beside a container, or else the
/// metadata service of the machine.
fn environment(at: &Place, reader: &mut SettingsReader) -> Option<AwsIdentity> {
    if let Some(access_key_id) = reader.variable_text("AWS_ACCESS_KEY_ID") {
        let Some(secret) = reader.variable("AWS_SECRET_ACCESS_KEY") else {
            let help = "set both, or neither to use the role of the machine or the container";
            reader.problems.add(at, "`AWS_ACCESS_KEY_ID` is set, and `AWS_SECRET_ACCESS_KEY` is not").help(help);
            return None;
        };
        return Some(AwsIdentity::Keys {
            access_key_id,
            secret_access_key: secret.into(),
            session_token: reader.variable("AWS_SESSION_TOKEN").map(Into::into),
        });
    }
    if let Some(token_file) = reader.variable_text("AWS_WEB_IDENTITY_TOKEN_FILE") {
        let Some(role_arn) = reader.variable_text("AWS_ROLE_ARN") else {
            let help = "the role is an annotation of the service account";
            reader.problems.add(at, "`AWS_WEB_IDENTITY_TOKEN_FILE` is set, and `AWS_ROLE_ARN` is not").help(help);
            return None;
        };
        let session_name = reader.variable_text("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| "tagwarden".to_owned());
        let Ok(token_service) = address("AWS_ENDPOINT_URL_STS", at, reader) else { return None };
        return Some(AwsIdentity::WebIdentity { role_arn, token_file: token_file.into(), session_name, token_service });
    }
    if let Some(path) = reader.variable_text("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
        let mut address: Url = CONTAINER_SERVICE.parse().ok()?;
        address.set_path(&path);
        return Some(AwsIdentity::Container { address, token: container_token(reader) });
    }
    match address("AWS_CONTAINER_CREDENTIALS_FULL_URI", at, reader) {
        Ok(Some(address)) => return Some(AwsIdentity::Container { address, token: container_token(reader) }),
        Ok(None) => {}
        Err(()) => return None,
    }
    if reader.variable("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        reader
            .problems
            .add(at, "the environment has no identity of AWS, and the metadata service is switched off")
            .help("set `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or give the workload a role");
        return None;
    }
    let Ok(service) = address("AWS_EC2_METADATA_SERVICE_ENDPOINT", at, reader) else { return None };
    let metadata_service = service.or_else(|| METADATA_SERVICE.parse().ok())?;
    Some(AwsIdentity::Instance { metadata_service })
}

fn container_token(reader: &SettingsReader) -> Option<ContainerToken> {
    let file = reader.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").map(|file| ContainerToken::File(file.into()));
    let text = || reader.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(|text| ContainerToken::Text(text.into()));
    file.or_else(text)
}

/// Returns the address in a variable. It sends or receives secrets, so it is encrypted, or this machine, or a service on its
/// link.
fn address(variable: &str, at: &Place, reader: &mut SettingsReader) -> Result<Option<Url>, ()> {
    let Some(text) = reader.variable(variable) else { return Ok(None) };
    let url = Url::parse(text).ok().filter(|url| {
        let open = url.username().is_empty() && url.password().is_none();
        let safe = url.scheme() == "https" || url.scheme() == "http" && (is_loopback(url) || is_link_service(url));
        url.host().is_some() && open && safe
    });
    if url.is_none() {
        reader
            .problems
            .add(at, format!("`{variable}` is not the address of a service of AWS"))
            .help("it has to begin with `https://`, or name this machine or one of the addresses that AWS reserves");
        return Err(());
    }
    Ok(url)
}

/// Returns true for the addresses at which AWS gives credentials to its machines and containers.
fn is_link_service(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => {
            matches!(address.octets(), [169, 254, 169, 254] | [169, 254, 170, 2 | 23])
        }
        Some(Host::Ipv6(address)) => matches!(address.segments(), [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23 | 0x254]),
        Some(Host::Domain(_)) | None => false,
    }
}
