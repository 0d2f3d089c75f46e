//! Secrets of the settings, from files or from the environment. No message shows one.

use std::path::Path;

use secrecy::SecretString;

use super::reader::SettingsReader;
use crate::domain::decode_text;
use crate::policy::{Fields, Node, Place, Value, fields};

/// Reads a secret for authentication; the variables of its registry or cloud start with `path`.
pub(super) fn secret(
    path: &str,
    fields: &mut Fields<'_>,
    key: &'static str,
    file_key: &'static str,
    reader: &mut SettingsReader,
) -> Option<SecretString> {
    secret_at(&format!("{path}__AUTH"), fields, key, file_key, reader)
}

/// Reads a secret from the file that `file_key` names, or from the environment under `key`, in the table at `path`.
pub(super) fn secret_at(
    path: &str,
    fields: &mut Fields<'_>,
    key: &'static str,
    file_key: &'static str,
    reader: &mut SettingsReader,
) -> Option<SecretString> {
    let (inline, file) = (fields.get(key), fields.get(file_key));
    let variable = format!("TAGWARDEN__{path}__{key}").to_uppercase();
    let help = format!("name a file that holds it: {file_key} = \"…\", or set {variable}");
    match (inline.map(|node| (&node.value, &node.at)), file) {
        (Some((Value::Text(secret), Place::Variable(_))), None) => {
            Some(secret.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']).into())
        }
        (Some((_, at @ Place::Variable(_))), _) => {
            reader.problems.add(at, format!("both `{key}` and `{file_key}` are set")).help("keep one of the two");
            None
        }
        (Some(_), _) => {
            reader.problems.add(fields.key_at(key), format!("`{key}` stands in the settings file")).help(help);
            None
        }
        (None, Some(file)) => secret_file(file_key, file, reader),
        (None, None) if reader.skips_secrets() => reader.skip_secret(|| variable),
        // A misspelt key is reported as such.
        (None, None) if fields.is_misspelled(file_key) => None,
        (None, None) => {
            reader.problems.add(fields.at(), format!("a {} without `{file_key}`", fields.map_name())).help(help);
            None
        }
    }
}

/// Larger than any secret, and small enough to read a wrong file by mistake.
const MAX_SECRET_BYTES: usize = 64 * 1024;
const SECRET_HELP: &str = "it holds the secret and nothing else";

/// Reads a secret from the file that a key names.
pub(super) fn secret_file(key: &str, node: &Node, reader: &mut SettingsReader) -> Option<SecretString> {
    let written = fields::text(key, node, &mut reader.problems)?;
    let path = reader.folder.join(written);
    if let Some(stand_in) = reader.skip_secret(|| path.display().to_string()) {
        return Some(stand_in);
    }
    let mut cause = None;
    let (problem, help) = match std::fs::read(&path) {
        Ok(bytes) if bytes.len() > MAX_SECRET_BYTES => {
            (format!("`{written}` is too large to be a secret"), SECRET_HELP)
        }
        Ok(bytes) => match decode_text(bytes).as_ref().map(|text| text.trim_end_matches(['\r', '\n'])) {
            Ok("") => (format!("`{written}` is empty"), SECRET_HELP),
            Ok(secret) => {
                if readable_by_all(&path) {
                    let message = format!("{} can be read by every user of this machine", path.display());
                    reader.warnings.push(message);
                }
                return Some(secret.into());
            }
            Err(invalid) => {
                cause = Some(invalid.clone().into());
                (format!("`{written}` is not readable text"), SECRET_HELP)
            }
        },
        // A secret that was written there by mistake must not appear in a log.
        Err(error) if written.contains(['/', '.', '\\']) || is_plain_name(written) => {
            cause = Some(error);
            (format!("`{written}` cannot be read"), "paths are relative to the settings file")
        }
        Err(error) => {
            cause = Some(error);
            (
                format!("the file that `{key}` names cannot be read"),
                "it names a file that holds the secret; paths are relative to the settings file",
            )
        }
    };
    let is_missing = cause.as_ref().is_some_and(|cause: &std::io::Error| {
        matches!(cause.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied)
    });
    let elsewhere = "; `tagwarden check --skip-secrets` checks the rest on a machine without it";
    let help = if is_missing { format!("{help}{elsewhere}") } else { help.to_owned() };
    let problem = reader.problems.add(&node.at, problem).help(help);
    if let Some(cause) = cause {
        problem.caused_by(cause);
    }
    None
}

/// Returns true for the name of a file that calls itself a secret, such as `registry-password`: lowercase words, of which
/// one says so. Anything else without a path or an extension may be the secret.
fn is_plain_name(written: &str) -> bool {
    const WORDS: [&str; 9] = ["credential", "credentials", "key", "pass", "password", "pat", "pw", "secret", "token"];
    let mut words = written.split(['-', '_']);
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
    written.len() <= 40 && words.clone().all(is_word) && words.any(|word| WORDS.contains(&word))
}

/// Returns true if every user of the machine may read a file.
#[cfg(unix)]
pub(super) fn readable_by_all(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o004 != 0)
}

#[cfg(not(unix))]
pub(super) fn readable_by_all(_: &Path) -> bool {
    false
}
