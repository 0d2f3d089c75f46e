//! The listening address of the status page, and its token.

use std::net::SocketAddr;
use std::path::Path;

use secrecy::{ExposeSecret as _, SecretString};

use super::ConfigError;
use super::layers;
use super::reader::SettingsReader;
use super::secrets::secret_file;
use crate::policy::{Fields, Node, fields};

/// Only this machine by default.
const DEFAULT: ([u8; 4], u16) = ([127, 0, 0, 1], 9464);

/// Shorter tokens can be guessed.
const SHORTEST_TOKEN: usize = 16;

pub(super) struct Listen {
    pub(super) address: SocketAddr,
    pub(super) token: Option<SecretString>,
}

pub(super) fn listen(fields: &mut Fields<'_>, reader: &mut SettingsReader) -> Option<Listen> {
    let place = fields.get("listen");
    let address = place.map_or(Some(SocketAddr::from(DEFAULT)), |node| address(node, reader));
    let file = fields.get("listen_token_file");
    let token = file.map_or(Some(None), |node| token(node, reader).map(Some));
    if let (Some(node), Some(address), None) = (place, address, file)
        && !address.ip().to_canonical().is_loopback()
    {
        reader
            .problems
            .add(&node.at, format!("`listen` is open to other machines at {address}, and nobody is asked for a token"))
            .help("name a file with a token, listen_token_file = \"…\"; or listen on 127.0.0.1 behind a proxy that signs in");
    }
    Some(Listen { address: address?, token: token? })
}

/// Returns the listening address of the daemon with these settings, whatever else is wrong with them.
///
/// # Errors
/// Returns an error if the file cannot be read, or `listen` is not a valid address.
pub fn listen_address(path: &Path, environment: &[(String, String)]) -> Result<SocketAddr, ConfigError> {
    let wrong = |what: String| ConfigError::of(path, what);
    let is_it = |name: &str| layers::key_of(name).is_some_and(|key| key.eq_ignore_ascii_case("listen"));
    let set = environment.iter().find(|(name, value)| is_it(name) && !value.is_empty());
    let written = if let Some((_, value)) = set {
        Some(value.clone())
    } else {
        let text = super::read_text(path).map_err(|error| ConfigError::unreadable(path, error))?;
        let root: toml::Table = text.parse().map_err(|_| wrong("no valid TOML".to_owned()))?;
        root.get("listen").and_then(toml::Value::as_str).map(str::to_owned)
    };
    let parse =
        |written: String| written.parse().map_err(|_| wrong("`listen` must be an IP address and a port".into()));
    written.map_or(Ok(SocketAddr::from(DEFAULT)), parse)
}

fn address(node: &Node, reader: &mut SettingsReader) -> Option<SocketAddr> {
    let written = fields::text("listen", node, &mut reader.problems)?;
    let address = written.parse().ok();
    if address.is_none() {
        reader
            .problems
            .add(&node.at, "`listen` must be an IP address and a port")
            .help("write listen = \"127.0.0.1:9464\"");
    }
    address
}

/// Parses a token that fits in a header and cannot be guessed.
fn token(node: &Node, reader: &mut SettingsReader) -> Option<SecretString> {
    let token = secret_file("listen_token_file", node, reader)?;
    let text = token.expose_secret();
    if reader.skips_secrets() {
        return Some(token);
    }
    if text.len() < SHORTEST_TOKEN || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        reader
            .problems
            .add(
                &node.at,
                format!("the token must be at least {SHORTEST_TOKEN} letters, digits and signs, without spaces"),
            )
            .help("make one with `openssl rand -hex 32`");
        return None;
    }
    Some(token)
}
