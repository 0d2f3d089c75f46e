//! `[approvals]`: the approvers of plans, and the folder of approved plans.

use std::path::PathBuf;

use super::reader::SettingsReader;
use crate::policy::{Fields, Node, fields};

/// The approvers of plans, and the folder of approved plans.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Approvals {
    /// True if a plan is applied only with a signature of one of `signers`.
    pub require_signature: bool,
    /// The accepted signers, in the order of the file.
    pub signers: Vec<Signer>,
    /// The folder whose plans count as approved.
    pub folder: Option<PathBuf>,
}

/// An accepted signer.
#[derive(Debug, Clone, PartialEq)]
pub struct Signer {
    /// The name for the audit record.
    pub name: String,
    /// The public key.
    pub key: SignerKey,
}

/// A public key of either kind.
#[derive(Debug, Clone, PartialEq)]
pub enum SignerKey {
    /// A key of minisign.
    Minisign(minisign_verify::PublicKey),
    /// A key of OpenSSH: ed25519 or ecdsa-sha2-nistp256, also on a security key.
    Ssh(Box<ssh_key::PublicKey>),
}

/// Parses `[approvals]`.
pub(super) fn approvals(node: &Node, reader: &mut SettingsReader) -> Option<Approvals> {
    let mut fields = Fields::of(node, "`[approvals]` table", &mut reader.problems)?;
    let required = fields
        .get("require_signature")
        .map_or(Some(false), |node| fields::boolean("require_signature", node, &mut reader.problems));
    let signers = fields.get("signers").map_or(Some(Vec::new()), |node| signers(node, reader));
    let folder = fields.get("folder").map(|node| fields::text("folder", node, &mut reader.problems));
    if required == Some(true) && signers.as_ref().is_some_and(Vec::is_empty) {
        reader
            .problems
            .add(fields.key_at("require_signature"), "`require_signature` without `signers`: no plan could be applied")
            .help("name whose signatures count: signers = [{ name = \"…\", ssh = \"ssh-ed25519 …\" }]");
    }
    fields.finish(hint, &mut reader.problems);
    let folder = match folder {
        None => None,
        Some(folder) => Some(reader.folder.join(folder?)),
    };
    Some(Approvals { require_signature: required?, signers: signers?, folder })
}

fn hint(key: &str) -> Option<&'static str> {
    match key {
        "keys" | "signer" | "approvers" => Some("write `signers = [{ name = \"…\", minisign = \"RW…\" }]`"),
        "path" | "directory" => Some("write `folder = \"…\"`"),
        _ => None,
    }
}

fn signers(node: &Node, reader: &mut SettingsReader) -> Option<Vec<Signer>> {
    let nodes = fields::list("signers", node, &mut reader.problems)?;
    let read: Vec<Option<Signer>> = nodes.iter().map(|node| signer(node, reader)).collect();
    for (position, found) in read.iter().enumerate() {
        let Some(found) = found else { continue };
        let before = read[..position].iter().flatten();
        let same = before.clone().find(|other| other.key == found.key);
        if let Some(other) = same.filter(|other| other.name != found.name) {
            let message = format!("`{}` and `{}` have the same key", other.name, found.name);
            reader.problems.add(&nodes[position].at, message).help("a signature must say who signed");
        }
    }
    read.into_iter().collect()
}

fn signer(node: &Node, reader: &mut SettingsReader) -> Option<Signer> {
    let mut fields = Fields::of(node, "signer", &mut reader.problems)?;
    let at = fields.at();
    let name = reader
        .required(&mut fields, "name", at)
        .and_then(|node| fields::text("name", node, &mut reader.problems))
        .map(str::to_owned);
    let (minisign, ssh) = (fields.get("minisign"), fields.get("ssh"));
    let key = match (minisign, ssh) {
        (Some(node), None) => fields::text("minisign", node, &mut reader.problems)
            .and_then(|text| or_report(minisign_key(text), node, reader)),
        (None, Some(node)) => {
            fields::text("ssh", node, &mut reader.problems).and_then(|text| or_report(ssh_key(text), node, reader))
        }
        _ => {
            if !fields.is_misspelled("minisign") && !fields.is_misspelled("ssh") {
                reader
                    .problems
                    .add(at, "a signer has one public key: `minisign` or `ssh`")
                    .help("somebody with two keys is two entries with the same name");
            }
            None
        }
    };
    fields.finish(|_| None, &mut reader.problems);
    Some(Signer { name: name?, key: key? })
}

fn or_report(key: Result<SignerKey, String>, node: &Node, reader: &mut SettingsReader) -> Option<SignerKey> {
    match key {
        Ok(key) => Some(key),
        Err(problem) => {
            reader.problems.add(&node.at, problem);
            None
        }
    }
}

fn minisign_key(text: &str) -> Result<SignerKey, String> {
    minisign_verify::PublicKey::from_base64(text.trim()).map(SignerKey::Minisign).map_err(|_| {
        "this is not a minisign public key: it is the second line of `minisign.pub`, which begins with `RW`".to_owned()
    })
}

fn ssh_key(text: &str) -> Result<SignerKey, String> {
    let key = ssh_key::PublicKey::from_openssh(text.trim()).map_err(|_| {
        "this is not an OpenSSH public key: it is the line in `id_ed25519.pub`, such as `ssh-ed25519 AAAA…`".to_owned()
    })?;
    match key.algorithm() {
        ssh_key::Algorithm::Ed25519
        | ssh_key::Algorithm::SkEd25519
        | ssh_key::Algorithm::SkEcdsaSha2NistP256
        | ssh_key::Algorithm::Ecdsa { curve: ssh_key::EcdsaCurve::NistP256 } => Ok(SignerKey::Ssh(Box::new(key))),
        other => Err(format!("keys of type {other} are not supported; use ssh-ed25519 or ecdsa-sha2-nistp256")),
    }
}
