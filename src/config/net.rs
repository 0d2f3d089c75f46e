//! Network settings that registries, sources and notifications share.

use std::path::PathBuf;

use super::reader::SettingsReader;
use crate::policy::{Node, fields};
pub(super) use crate::registry::is_loopback;

/// Reads the path of a file of certificate authorities.
pub(super) fn ca_file(node: &Node, reader: &mut SettingsReader) -> Option<PathBuf> {
    let written = fields::text("ca_file", node, &mut reader.problems)?;
    let path = reader.folder.join(written);
    if !path.exists() && reader.skip_secret(|| path.display().to_string()).is_some() {
        return Some(path);
    }
    let problem = match super::read_text(&path) {
        Ok(text) if text.contains("-----BEGIN CERTIFICATE-----") => return Some(path),
        Ok(_) => reader.problems.add(&node.at, format!("`{written}` holds no certificate in PEM format")),
        Err(error) => reader.problems.add(&node.at, format!("`{written}` cannot be read")).caused_by(error),
    };
    problem.help("paths are relative to the settings file");
    None
}
