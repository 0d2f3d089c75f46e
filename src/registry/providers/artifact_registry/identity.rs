//! Identities of Google Cloud, and the files that hold them.

use std::fmt;
use std::path::PathBuf;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer};
use url::Url;

/// An identity of Google Cloud.
#[derive(Debug, Clone)]
pub enum GoogleIdentity {
    /// A service account, by a key of its own.
    ServiceAccount {
        /// Its address.
        email: String,
        /// Names the key.
        key_id: String,
        /// The key, in PEM format.
        private_key: SecretString,
        /// The token service.
        token_service: Url,
    },
    /// An identity of another issuer, by workload identity federation.
    Federated(Box<FederatedIdentity>),
    /// A person, as `gcloud auth application-default login` leaves it.
    User {
        /// Names the program that asked the person.
        client_id: String,
        /// The secret of that program.
        client_secret: SecretString,
        /// The token of the person.
        refresh_token: SecretString,
        /// The token service.
        token_service: Url,
    },
    /// The service account of the machine or of the pod, as its metadata service tells.
    Metadata {
        /// The address of the metadata service.
        metadata_service: Url,
    },
}

/// An identity of another issuer, with the pool that accepts it.
#[derive(Debug, Clone)]
pub struct FederatedIdentity {
    /// The provider of the pool.
    pub audience: String,
    /// The type of the issuer's token.
    pub token_type: String,
    /// The file with the issuer's token, which is renewed while the process runs.
    pub token_file: PathBuf,
    /// The field of the token, where the file is JSON.
    pub token_field: Option<String>,
    /// The token service.
    pub token_service: Url,
    /// The address at which a service account is impersonated, if one is.
    pub impersonation: Option<Url>,
}

impl GoogleIdentity {
    /// Returns the label used for revisions of the settings.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::ServiceAccount { .. } => "service-account",
            Self::Federated(_) => "federated",
            Self::User { .. } => "user",
            Self::Metadata { .. } => "metadata",
        }
    }

    /// Returns the public part that names the identity, if the settings know one.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        match self {
            Self::ServiceAccount { email, .. } => Some(email.clone()),
            Self::Federated(federated) => Some(federated.to_string()),
            Self::User { client_id, .. } => Some(client_id.clone()),
            Self::Metadata { .. } => None,
        }
    }

    /// Returns true if the file of the identity holds a secret.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        matches!(self, Self::ServiceAccount { .. } | Self::User { .. })
    }

    /// Parses a credentials file of Google Cloud
    /// (<https://cloud.google.com/docs/authentication/application-default-credentials>).
    ///
    /// # Errors
    /// Returns the problem, without any content of the file.
    pub fn from_file(content: &str) -> Result<Self, String> {
        // Its own error could quote a secret.
        let wire: WireFile = serde_json::from_str(content).map_err(|_| "it is not a credentials file of Google")?;
        match wire.kind.as_str() {
            "service_account" => wire.service_account().ok_or_else(|| incomplete("service account")),
            "authorized_user" => wire.user().ok_or_else(|| incomplete("user")),
            "external_account" => wire.federated(),
            "impersonated_service_account" | "external_account_authorized_user" | "gdch_service_account" => {
                Err(format!(
                    "credentials of the type `{}` are not supported; `service_account`, `external_account` and \
                 `authorized_user` are",
                    wire.kind
                ))
            }
            _ => Err("its `type` is not one of Google's credentials".to_owned()),
        }
    }
}

impl fmt::Display for GoogleIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServiceAccount { email, .. } => write!(f, "service account {email}"),
            Self::Federated(federated) => federated.fmt(f),
            Self::User { .. } => f.write_str("a user of Google Cloud"),
            Self::Metadata { .. } => f.write_str("the service account of the machine or the pod"),
        }
    }
}

impl fmt::Display for FederatedIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let account = self.impersonation.as_ref().and_then(|url| url.path().rsplit('/').next());
        match account.and_then(|last| last.split(':').next()) {
            Some(account) => write!(f, "service account {account}, by workload identity federation"),
            None => write!(f, "a federated identity of {}", self.audience),
        }
    }
}

fn incomplete(what: &str) -> String {
    format!("it lacks a field of the credentials of a {what}, or one is not valid")
}

/// A credentials file, whichever type it has.
#[derive(Deserialize)]
struct WireFile {
    #[serde(default, rename = "type")]
    kind: String,
    client_email: Option<String>,
    #[serde(default)]
    private_key_id: String,
    #[serde(default, deserialize_with = "secret")]
    private_key: Option<SecretString>,
    #[serde(default, deserialize_with = "address")]
    token_uri: Option<Url>,
    client_id: Option<String>,
    #[serde(default, deserialize_with = "secret")]
    client_secret: Option<SecretString>,
    #[serde(default, deserialize_with = "secret")]
    refresh_token: Option<SecretString>,
    audience: Option<String>,
    subject_token_type: Option<String>,
    #[serde(default, deserialize_with = "address")]
    token_url: Option<Url>,
    #[serde(default, deserialize_with = "address")]
    service_account_impersonation_url: Option<Url>,
    credential_source: Option<WireSource>,
}

#[derive(Deserialize)]
struct WireSource {
    file: Option<PathBuf>,
    #[serde(default)]
    format: WireFormat,
}

#[derive(Default, Deserialize)]
struct WireFormat {
    #[serde(default, rename = "type")]
    kind: String,
    subject_token_field_name: Option<String>,
}

fn secret<'de, D: Deserializer<'de>>(input: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(input)?.map(Into::into))
}

/// Reads an address. An invalid one counts as missing.
fn address<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Url>, D::Error> {
    Ok(Option::<String>::deserialize(input)?.and_then(|text| text.parse().ok()))
}

impl WireFile {
    fn service_account(self) -> Option<GoogleIdentity> {
        Some(GoogleIdentity::ServiceAccount {
            email: self.client_email?,
            key_id: self.private_key_id,
            private_key: self.private_key.filter(|key| !key.expose_secret().is_empty())?,
            token_service: self.token_uri?,
        })
    }

    fn user(self) -> Option<GoogleIdentity> {
        const TOKEN_SERVICE: &str = "https://oauth2.googleapis.com/token";
        Some(GoogleIdentity::User {
            client_id: self.client_id?,
            client_secret: self.client_secret?,
            refresh_token: self.refresh_token?,
            token_service: self.token_uri.or_else(|| TOKEN_SERVICE.parse().ok())?,
        })
    }

    fn federated(self) -> Result<GoogleIdentity, String> {
        let source = self.credential_source;
        let Some((token_file, format)) = source.and_then(|source| Some((source.file?, source.format))) else {
            return Err("its `credential_source` has no `file`: tokens from an address, a program or AWS are not \
                        supported; have the token written to a file"
                .to_owned());
        };
        let token_field = match (format.kind.as_str(), format.subject_token_field_name) {
            ("" | "text", _) => None,
            ("json", Some(field)) => Some(field),
            _ => return Err("the format of its `credential_source` is not `text`, or `json` with a field".to_owned()),
        };
        let identity = self.audience.zip(self.subject_token_type).zip(self.token_url);
        let ((audience, token_type), token_service) = identity.ok_or_else(|| incomplete("federated identity"))?;
        Ok(GoogleIdentity::Federated(Box::new(FederatedIdentity {
            audience,
            token_type,
            token_file,
            token_field,
            token_service,
            impersonation: self.service_account_impersonation_url,
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_say_who_it_is_or_what_is_wrong_and_no_secret() {
        let federated = |source: &str, rest: &str| {
            format!(
                r#"{{"type":"external_account","audience":"//iam/pool","subject_token_type":"jwt","token_url":"https://sts.googleapis.com/v1/token","credential_source":{source}{rest}}}"#
            )
        };
        let impersonation = r#","service_account_impersonation_url":"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/tagwarden@acme.iam.gserviceaccount.com:generateAccessToken""#;
        for (file, expected) in [
            (
                r#"{"type":"service_account","client_email":"tagwarden@acme","private_key":"hidden","token_uri":"https://oauth2.googleapis.com/token"}"#.to_owned(),
                "service account tagwarden@acme",
            ),
            (
                r#"{"type":"authorized_user","client_id":"gcloud","client_secret":"hidden","refresh_token":"hidden"}"#.to_owned(),
                "a user of Google Cloud",
            ),
            (federated(r#"{"file":"/token"}"#, ""), "a federated identity of //iam/pool"),
            (
                federated(r#"{"file":"/token","format":{"type":"json","subject_token_field_name":"t"}}"#, impersonation),
                "service account tagwarden@acme.iam.gserviceaccount.com, by workload identity federation",
            ),
            (federated(r#"{"url":"http://169.254.169.254"}"#, ""), "its `credential_source` has no `file`"),
            (federated(r#"{"file":"/token","format":{"type":"xml"}}"#, ""), "the format of its `credential_source`"),
            (
                r#"{"type":"service_account","client_email":"tagwarden@acme","private_key":"hidden"}"#.to_owned(),
                "it lacks a field of the credentials of a service account",
            ),
            (r#"{"type":"gdch_service_account"}"#.to_owned(), "credentials of the type `gdch_service_account`"),
            (r#"{"type":"hidden"}"#.to_owned(), "its `type` is not one"),
            ("hidden".to_owned(), "it is not a credentials file of Google"),
        ] {
            let found = GoogleIdentity::from_file(&file);
            let shown = found.as_ref().map_or_else(Clone::clone, ToString::to_string);
            assert!(shown.starts_with(expected), "{file}: {shown}");
            assert!(!format!("{shown} {found:?}").contains("hidden"), "{found:?}");
        }
    }
}
