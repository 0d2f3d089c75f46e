//! Identities of Google Cloud for Artifact Registry: as the environment of the process gives one, or by a credentials file.
//!
//! The order is that of Google's own tools
//! (<https://cloud.google.com/docs/authentication/application-default-credentials>).

use std::path::{Path, PathBuf};

use url::{Host, Url};

use super::net::is_loopback;
use super::reader::SettingsReader;
use super::secrets::readable_by_all;
use crate::policy::{Fields, Place, fields};
use crate::registry::providers::GoogleIdentity;

/// The origin of an identity.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// The environment of the process.
    Environment,
    /// A credentials file that the settings name.
    File,
}

/// The metadata service of virtual machines and pods.
const METADATA_HOST: &str = "metadata.google.internal";
/// Larger than any credentials file, and small enough to read a wrong file by mistake.
const MAX_BYTES: u64 = 64 * 1024;

/// Parses an identity of that kind from its keys.
pub(super) fn identity(kind: Kind, fields: &mut Fields<'_>, reader: &mut SettingsReader) -> Option<GoogleIdentity> {
    let at = fields.at();
    match kind {
        Kind::Environment => environment(at, reader),
        Kind::File => {
            let node = reader.required(fields, "credentials_file", at)?;
            let written = fields::text("credentials_file", node, &mut reader.problems)?;
            let path = reader.folder.join(written);
            from_file(&path, &node.at, reader)
        }
    }
}

/// Returns the identity that the environment gives: a credentials file, else what `gcloud` left, else that of the metadata
/// service.
fn environment(at: &Place, reader: &mut SettingsReader) -> Option<GoogleIdentity> {
    if let Some(file) = reader.variable("GOOGLE_APPLICATION_CREDENTIALS").map(PathBuf::from) {
        return from_file(&file, at, reader);
    }
    let folder = reader.variable("CLOUDSDK_CONFIG").map(PathBuf::from);
    let folder = folder.or_else(|| reader.variable("HOME").map(|home| Path::new(home).join(".config/gcloud")));
    if let Some(file) = folder.map(|folder| folder.join("application_default_credentials.json"))
        && file.is_file()
    {
        return from_file(&file, at, reader);
    }
    let host = reader.variable_text("GCE_METADATA_HOST").unwrap_or_else(|| METADATA_HOST.to_owned());
    let service = Url::parse(&format!("http://{host}/")).ok().filter(is_metadata_service);
    if service.is_none() {
        reader
            .problems
            .add(at, "`GCE_METADATA_HOST` is not the host of a metadata service")
            .help("it names this machine, `metadata.google.internal` or 169.254.169.254");
    }
    Some(GoogleIdentity::Metadata { metadata_service: service? })
}

/// Returns true for this machine, and for the address at which Google gives tokens to its machines.
fn is_metadata_service(url: &Url) -> bool {
    let known = match url.host() {
        Some(Host::Ipv4(address)) => address.octets() == [169, 254, 169, 254],
        Some(Host::Ipv6(address)) => address.segments() == [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254],
        Some(Host::Domain(name)) => name == METADATA_HOST,
        None => false,
    };
    (known || is_loopback(url)) && url.path() == "/" && url.query().is_none()
}

fn from_file(path: &Path, at: &Place, reader: &mut SettingsReader) -> Option<GoogleIdentity> {
    let shown = path.display();
    if reader.skip_secret(|| shown.to_string()).is_some() {
        let metadata_service = Url::parse(&format!("http://{METADATA_HOST}/")).ok()?;
        return Some(GoogleIdentity::Metadata { metadata_service });
    }
    let help = "name a file that Google Cloud or `gcloud` wrote; paths are relative to the settings file";
    match std::fs::metadata(path) {
        Ok(found) if found.len() > MAX_BYTES => {
            reader.problems.add(at, format!("{shown} is too large to be a credentials file")).help(help);
            return None;
        }
        _ => {}
    }
    let content = match super::read_text(path) {
        Ok(content) => content,
        Err(error) => {
            let message = format!("the credentials file {shown} cannot be read");
            reader.problems.add(at, message).help(help).caused_by(error);
            return None;
        }
    };
    match GoogleIdentity::from_file(&content) {
        Ok(identity) => {
            if identity.is_secret() && readable_by_all(path) {
                reader.warnings.push(format!("{shown} can be read by every user of this machine"));
            }
            Some(identity)
        }
        Err(why) => {
            reader.problems.add(at, format!("the credentials file {shown} cannot be used: {why}")).help(help);
            None
        }
    }
}
