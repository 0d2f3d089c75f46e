//! `[sources.<name>]` of the kinds that are queried: services of Azure, hosts, web addresses.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderName;
use url::Url;

use super::azure::{self, Azure};
use super::kubernetes;
use super::layers::normalize_key;
use super::net::{ca_file, is_loopback};
use super::reader::SettingsReader;
use super::secrets::secret_at;
use crate::policy::{Entry, Fields, Node, fields};
use crate::sources::{AzureService, DockerSocket, DocumentFormat, HttpDocument, SecretHeader, SourceKind};

const FORMATS: [(&str, DocumentFormat); 3] =
    [("json", DocumentFormat::Json), ("yaml", DocumentFormat::Yaml), ("text", DocumentFormat::Text)];
const SOCKET: &str = "/var/run/docker.sock";
/// The timeout of one request to a host's engine: it lists what it has in memory.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Parses a service of Azure.
pub(super) fn azure<'a>(
    service: AzureService,
    fields: &mut Fields<'a>,
    entry: &'a Entry,
    azure: &Azure,
    reader: &mut SettingsReader,
) -> Option<SourceKind> {
    azure::scope(fields, &entry.at, azure, reader).map(|scope| SourceKind::Azure(service, scope))
}

/// Parses the containers of a host.
pub(super) fn docker<'a>(fields: &mut Fields<'a>, _: &'a Entry, reader: &mut SettingsReader) -> Option<SourceKind> {
    let path = match fields.get("socket") {
        Some(node) => socket(node, reader)?,
        None => PathBuf::from(SOCKET),
    };
    Some(SourceKind::Docker(DockerSocket { path, timeout: REQUEST_TIMEOUT }))
}

fn socket(node: &Node, reader: &mut SettingsReader) -> Option<PathBuf> {
    let written = fields::text("socket", node, &mut reader.problems)?;
    let path = written.strip_prefix("unix://").unwrap_or(written);
    if path.contains("://") {
        reader
            .problems
            .add(&node.at, "`socket` must be the path of a socket on this machine")
            .help(format!("write socket = \"{SOCKET}\", and let Tagwarden run where the containers are"));
        return None;
    }
    Some(reader.folder.join(Path::new(path)))
}

/// Parses references in the response of a URL.
pub(super) fn references_http<'a>(
    fields: &mut Fields<'a>,
    entry: &'a Entry,
    reader: &mut SettingsReader,
) -> Option<SourceKind> {
    let url = reader.required(fields, "url", &entry.at).and_then(|node| address(node, reader));
    let header_at = fields.key_at("header");
    let header = fields.get("header").map(|node| header(&normalize_key(&entry.key), node, reader));
    let format = fields.get("format").map(|node| fields::choice("format", node, &FORMATS, &mut reader.problems));
    let format_is_text = format == Some(Some(DocumentFormat::Text));
    let paths = fields.get("paths").map(|node| {
        if format_is_text {
            reader.problems.add(&node.at, "running text has no fields").help("leave `paths` out, or correct `format`");
            return None;
        }
        kubernetes::paths(node, reader)
    });
    let ca_file = fields.get("ca_file").map(|node| ca_file(node, reader));
    let timeout = fields
        .get("timeout")
        .map_or(Some(Duration::from_secs(30)), |node| fields::duration("timeout", node, &mut reader.problems));
    let url = url?;
    if header.is_some() && url.scheme() == "http" && !is_loopback(&url) {
        reader
            .problems
            .add(header_at, "the header would go over the network unencrypted")
            .help("use an `https://` address");
        return None;
    }
    Some(SourceKind::HttpReferences(HttpDocument {
        url,
        header: header.map_or(Some(None), |header| header.map(Some))?,
        format: format.map_or(Some(None), |format| format.map(Some))?,
        paths: paths.unwrap_or_else(|| Some(Vec::new()))?,
        ca_file: ca_file.map_or(Some(None), |file| file.map(Some))?,
        timeout: timeout?,
    }))
}

fn address(node: &Node, reader: &mut SettingsReader) -> Option<Url> {
    let written = fields::text("url", node, &mut reader.problems)?;
    let url = Url::parse(written).ok().filter(|url| {
        let open = url.username().is_empty() && url.password().is_none();
        matches!(url.scheme(), "http" | "https") && url.host().is_some() && open
    });
    if url.is_none() {
        // The text is not shown: it may contain a password.
        reader
            .problems
            .add(&node.at, "`url` must begin with `https://` or `http://` and hold no user or password")
            .help("what signs the request belongs into `header = { name = \"…\", value_file = \"…\" }`");
    }
    url
}

/// Parses `header = { name = "Authorization", value_file = "…" }` of the source `name`.
fn header(name: &str, node: &Node, reader: &mut SettingsReader) -> Option<SecretHeader> {
    let mut fields = Fields::of(node, "header", &mut reader.problems)?;
    let at = fields.at();
    let named = reader.required(&mut fields, "name", at).and_then(|node| {
        let written = fields::text("name", node, &mut reader.problems)?;
        let named = written.parse::<HeaderName>().ok();
        if named.is_none() {
            reader.problems.add(&node.at, "`name` is not a valid header name").help("write name = \"Authorization\"");
        }
        named
    });
    let value = secret_at(&format!("SOURCES__{name}__HEADER"), &mut fields, "value", "value_file", reader);
    fields.finish(|_| None, &mut reader.problems);
    Some(SecretHeader { name: named?, value: value? })
}
