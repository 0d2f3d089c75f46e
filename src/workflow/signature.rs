//! Signatures of plans, over the exact bytes of the file.

use std::path::{Path, PathBuf};

use ssh_key::{HashAlg, SshSig};

use super::{Refused, RunError};
use crate::config::{Approvals, SignerKey};

/// The namespace of SSH signatures of plans (`ssh-keygen -Y sign -n tagwarden`), so that a signature made for mail or
/// git is invalid here.
const NAMESPACE: &str = "tagwarden";

/// Why a plan's signature is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The settings require one.
    #[error(
        "the settings demand a signature of the plan, and there is none; sign it with `ssh-keygen -Y sign -n {NAMESPACE} \
         -f KEY plan.json` or `minisign -Sm plan.json`, as one of: {signers}"
    )]
    Missing {
        /// The signers of the settings.
        signers: String,
    },
    /// The settings name no signers.
    #[error(
        "a signature was given, and the settings name nobody whose signature counts; add `signers` to `[approvals]`"
    )]
    NoSigners,
    /// An SSH signature that cannot be read.
    #[error("the signature is not a readable SSH signature")]
    InvalidSsh(#[source] ssh_key::Error),
    /// An SSH signature for another purpose.
    #[error(
        "the signature was made for `{namespace}`, not for `{NAMESPACE}`; sign with `ssh-keygen -Y sign -n {NAMESPACE}`"
    )]
    OtherNamespace {
        /// The namespace of the signature.
        namespace: String,
    },
    /// Neither an SSH signature nor one of minisign.
    #[error("the signature is neither one of minisign nor one of SSH")]
    UnknownFormat,
    /// A minisign signature that was made without hashing the file.
    #[error("the signature is one of minisign's old kind; sign without `-l`")]
    LegacyMinisign,
    /// The key belongs to no signer in the settings.
    #[error("the signature is by {key}, which is of nobody in the settings' `signers`: {signers}")]
    UnknownKey {
        /// The key, in words.
        key: String,
        /// The signers of the settings.
        signers: String,
    },
    /// The signature does not fit the bytes of the file.
    #[error("the signature by {signer} is not of this file as it is: it was changed after it was signed, or damaged")]
    ContentMismatch {
        /// The owner of the key.
        signer: String,
    },
}

/// Returns the signature file beside a plan: `PLAN.json.minisig`, else `PLAN.json.sig`.
#[must_use]
pub fn find_signature_file(plan: &Path) -> Option<PathBuf> {
    let beside = |extension: &str| {
        let mut name = plan.as_os_str().to_owned();
        name.push(extension);
        PathBuf::from(name)
    };
    [".minisig", ".sig"].map(beside).into_iter().find(|file| file.exists())
}

/// Returns the signer; `None` if the plan is unsigned and may be.
///
/// # Errors
/// Returns [`RunError::Refused`] if a required signature is missing, or if a signature does not match these bytes and a
/// known signer.
pub(super) fn verify_signer(
    approvals: &Approvals,
    plan: &[u8],
    signature: Option<&str>,
) -> Result<Option<String>, RunError> {
    let refused = |why: SignatureError| RunError::Refused(Refused::Signature(why));
    let Some(signature) = signature else {
        if approvals.require_signature {
            return Err(refused(SignatureError::Missing { signers: names(approvals) }));
        }
        return Ok(None);
    };
    if approvals.signers.is_empty() {
        return Err(refused(SignatureError::NoSigners));
    }
    let found = if signature.trim_start().starts_with("-----BEGIN SSH SIGNATURE-----") {
        verify_ssh(approvals, plan, signature)
    } else {
        verify_minisign(approvals, plan, signature)
    };
    found.map(|name| Some(name.to_owned())).map_err(refused)
}

fn names(approvals: &Approvals) -> String {
    let mut names: Vec<&str> = approvals.signers.iter().map(|signer| signer.name.as_str()).collect();
    names.dedup();
    names.join(", ")
}

fn verify_ssh<'a>(approvals: &'a Approvals, plan: &[u8], signature: &str) -> Result<&'a str, SignatureError> {
    let signature = SshSig::from_pem(signature.trim_start()).map_err(SignatureError::InvalidSsh)?;
    if signature.namespace() != NAMESPACE {
        return Err(SignatureError::OtherNamespace { namespace: signature.namespace().to_owned() });
    }
    let signer = approvals.signers.iter().find_map(|signer| match &signer.key {
        SignerKey::Ssh(key) if key.key_data() == signature.public_key() => Some((signer, key)),
        _ => None,
    });
    let Some((signer, key)) = signer else {
        let fingerprint = signature.public_key().fingerprint(HashAlg::Sha256);
        return Err(unknown_key(approvals, format!("the key {fingerprint}")));
    };
    match key.verify(NAMESPACE, plan, &signature) {
        Ok(()) => Ok(&signer.name),
        Err(_) => Err(SignatureError::ContentMismatch { signer: signer.name.clone() }),
    }
}

fn verify_minisign<'a>(approvals: &'a Approvals, plan: &[u8], signature: &str) -> Result<&'a str, SignatureError> {
    let signature = minisign_verify::Signature::decode(signature).map_err(|_| SignatureError::UnknownFormat)?;
    for signer in &approvals.signers {
        let SignerKey::Minisign(key) = &signer.key else { continue };
        match key.verify(plan, &signature, false) {
            Ok(()) => return Ok(&signer.name),
            Err(minisign_verify::Error::UnexpectedKeyId) => {}
            Err(minisign_verify::Error::UnexpectedAlgorithm) => {
                return Err(SignatureError::LegacyMinisign);
            }
            Err(_) => return Err(SignatureError::ContentMismatch { signer: signer.name.clone() }),
        }
    }
    Err(unknown_key(approvals, "a key of minisign".to_owned()))
}

fn unknown_key(approvals: &Approvals, key: String) -> SignatureError {
    SignatureError::UnknownKey { key, signers: names(approvals) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Signer;
    use crate::domain::chain;

    const PLAN: &str = include_str!("../../tests/fixtures/approvals/plan.json");

    fn approvals() -> Approvals {
        let ssh = |text: &str| SignerKey::Ssh(Box::new(ssh_key::PublicKey::from_openssh(text).unwrap()));
        let minisign = include_str!("../../tests/fixtures/approvals/grace.pub");
        let minisign = SignerKey::Minisign(minisign_verify::PublicKey::decode(minisign).unwrap());
        let signer = |name: &str, key| Signer { name: name.into(), key };
        Approvals {
            require_signature: true,
            signers: vec![
                signer("Ada", ssh(include_str!("../../tests/fixtures/approvals/ada.pub"))),
                signer("Bob", ssh(include_str!("../../tests/fixtures/approvals/bob.pub"))),
                signer("Grace", minisign),
            ],
            folder: None,
        }
    }

    /// The signer, or the error.
    fn told(approvals: &Approvals, plan: &str, signature: Option<&str>) -> String {
        match verify_signer(approvals, plan.as_bytes(), signature) {
            Ok(Some(name)) => format!("by {name}"),
            Ok(None) => "unsigned".to_owned(),
            Err(error) => chain(&error),
        }
    }

    #[test]
    fn signatures_of_real_tools_are_known_and_all_else_is_refused() {
        let ada = include_str!("../../tests/fixtures/approvals/ada.sig");
        let grace = include_str!("../../tests/fixtures/approvals/grace.minisig");
        let stranger = include_str!("../../tests/fixtures/approvals/stranger.minisig");
        let edited = PLAN.replace("[]", "[ ]");
        for (plan, signature, expected) in [
            (PLAN, Some(ada), "by Ada"),
            (PLAN, Some(include_str!("../../tests/fixtures/approvals/bob.sig")), "by Bob"),
            (PLAN, Some(grace), "by Grace"),
            (PLAN, None, "demand a signature"),
            (&edited, Some(ada), "by Ada is not of this file"),
            (&edited, Some(grace), "by Grace is not of this file"),
            (&PLAN.replace('\n', "\r\n"), Some(ada), "is not of this file"),
            (PLAN, Some(include_str!("../../tests/fixtures/approvals/ada.other-namespace.sig")), "made for `file`"),
            (PLAN, Some(include_str!("../../tests/fixtures/approvals/stranger.sig")), "SHA256:"),
            (PLAN, Some(stranger), "nobody in the settings"),
            (PLAN, Some(include_str!("../../tests/fixtures/approvals/grace.legacy.minisig")), "without `-l`"),
            (PLAN, Some(""), "neither one of minisign"),
            (
                PLAN,
                Some("-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n"),
                "not a readable SSH signature",
            ),
        ] {
            let told = told(&approvals(), plan, signature);
            assert!(told.contains(expected), "expected {expected:?}: {told}");
            assert_eq!(told.starts_with("refused"), !expected.starts_with("by ") || plan != PLAN, "{told}");
        }
        // The parts of a valid signature, one byte changed at a time.
        for (at, _) in grace.char_indices().filter(|(_, found)| found.is_ascii_alphanumeric()) {
            let mut other = grace.as_bytes().to_vec();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).unwrap();
            let comment = other.lines().next() != grace.lines().next();
            assert_eq!(told(&approvals(), PLAN, Some(&other)) == "by Grace", comment, "{other}");
        }
    }

    #[test]
    fn without_a_demand_a_signature_may_be_missing_but_not_wrong() {
        let free = Approvals { require_signature: false, ..approvals() };
        assert_eq!(told(&free, PLAN, None), "unsigned");
        let stranger = include_str!("../../tests/fixtures/approvals/stranger.sig");
        assert!(told(&free, PLAN, Some(stranger)).contains("nobody in the settings"));
        let none = Approvals { signers: Vec::new(), ..free };
        assert!(told(&none, PLAN, Some(stranger)).contains("add `signers`"));
    }
}
