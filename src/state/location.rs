//! The place of a state: a file of SQLite, or a database of PostgreSQL. No text of it holds a secret.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use crate::azure::Credential;

/// The place of a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateLocation {
    /// A file of SQLite.
    File(PathBuf),
    /// A database of PostgreSQL.
    Postgres(Box<PostgresLocation>),
}

impl StateLocation {
    /// The path of a file; `None` for a database.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Postgres(_) => None,
        }
    }

    /// Returns true if there is surely no state: no file is at its path. Of a database only a connection tells.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.path().is_some_and(|path| !path.exists())
    }
}

impl fmt::Display for StateLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Postgres(database) => database.fmt(f),
        }
    }
}

impl From<&Path> for StateLocation {
    fn from(path: &Path) -> Self {
        Self::File(path.to_owned())
    }
}

impl From<&PathBuf> for StateLocation {
    fn from(path: &PathBuf) -> Self {
        Self::File(path.clone())
    }
}

impl From<&Self> for StateLocation {
    fn from(location: &Self) -> Self {
        location.clone()
    }
}

impl From<PostgresLocation> for StateLocation {
    fn from(location: PostgresLocation) -> Self {
        Self::Postgres(Box::new(location))
    }
}

/// A database of PostgreSQL, and how to connect to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresLocation {
    /// A host name, an IP address, or the folder of a Unix socket.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) database: String,
    pub(super) encryption: Encryption,
    /// Authorities that are trusted beside the public ones.
    pub(super) ca_file: Option<PathBuf>,
    pub(super) password: PostgresPassword,
}

/// The protection of connections to PostgreSQL, by the names of libpq.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encryption {
    /// `disable`: none.
    Disable,
    /// `prefer`: encrypted if the server can, and by whom is not verified.
    Prefer,
    /// `require`: encrypted, and by whom is not verified.
    Require,
    /// `verify-ca`: the certificate must be of a trusted authority.
    VerifyAuthority,
    /// `verify-full`: the certificate must be that of the host.
    VerifyFull,
}

const ENCRYPTIONS: [(&str, Encryption); 5] = [
    ("disable", Encryption::Disable),
    ("prefer", Encryption::Prefer),
    ("require", Encryption::Require),
    ("verify-ca", Encryption::VerifyAuthority),
    ("verify-full", Encryption::VerifyFull),
];

/// The password of a user of PostgreSQL.
#[derive(Debug, Clone, Default)]
pub enum PostgresPassword {
    /// The server asks for none.
    #[default]
    None,
    /// The password itself, from the environment.
    Secret(SecretString),
    /// A file that holds it, read before new connections, so that it can be changed while Tagwarden runs.
    File(PathBuf),
    /// A token of Entra ID, as Azure Database for PostgreSQL takes it; a new one before the last ends.
    Entra(Box<Credential>),
}

impl PartialEq for PostgresPassword {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, Self::None) => true,
            (Self::Secret(one), Self::Secret(two)) => one.expose_secret() == two.expose_secret(),
            (Self::File(one), Self::File(two)) => one == two,
            (Self::Entra(one), Self::Entra(two)) => {
                one.description() == two.description() && one.environment == two.environment
            }
            _ => false,
        }
    }
}

impl Eq for PostgresPassword {}

/// The reason why a text is not the URL of a database. None quotes the text, in which a password may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPostgresUrl {
    /// It is not `postgres://USER@HOST/DATABASE`.
    #[error("not a valid URL of the form `postgres://HOST/DATABASE?user=USER`")]
    Form,
    /// A password stands in it.
    #[error("a password stands in the URL")]
    Password,
    /// It has no user.
    #[error("the URL names no user")]
    User,
    /// It has no database.
    #[error("the URL names no database")]
    Database,
    /// It has a parameter other than `sslmode`, `host` and `user`.
    #[error("the URL has a parameter other than `sslmode`, `host` and `user`")]
    Parameter,
    /// `sslmode` has none of the known values.
    #[error("`sslmode` is not one of `disable`, `prefer`, `require`, `verify-ca` and `verify-full`")]
    Encryption,
}

impl PostgresLocation {
    /// Reads `postgres://USER@HOST:PORT/DATABASE?sslmode=MODE`. With the folder of a Unix socket it is
    /// `postgres:///DATABASE?host=FOLDER&user=USER`. Without `sslmode` the server must prove that it is that host, unless it is
    /// on this machine.
    ///
    /// # Errors
    /// When it is not such a URL, or a password stands in it.
    pub fn parse(written: &str) -> Result<Self, InvalidPostgresUrl> {
        use InvalidPostgresUrl::{Database, Encryption as Mode, Form, Parameter, Password, User};
        let url = Url::parse(written).map_err(|_| Form)?;
        if !matches!(url.scheme(), "postgres" | "postgresql") || url.fragment().is_some() {
            return Err(Form);
        }
        if url.password().is_some() {
            return Err(Password);
        }
        let decoded = |text: &str| {
            let pair = format!("x={}", text.replace('+', "%2B"));
            url::form_urlencoded::parse(pair.as_bytes()).next().map(|(_, value)| value.into_owned()).ok_or(Form)
        };
        let (mut user, database) = (decoded(url.username())?, decoded(url.path().trim_start_matches('/'))?);
        if database.is_empty() || database.contains('/') {
            return Err(Database);
        }
        let (mut socket, mut encryption) = (None, None);
        for (key, value) in url.query_pairs() {
            match &*key {
                "host" if value.starts_with('/') => socket = Some(value.into_owned()),
                "user" if user.is_empty() => user = value.into_owned(),
                "sslmode" => {
                    let known = ENCRYPTIONS.into_iter().find(|(name, _)| *name == value);
                    encryption = Some(known.ok_or(Mode)?.1);
                }
                _ => return Err(Parameter),
            }
        }
        if user.is_empty() {
            return Err(User);
        }
        let host = match (url.host_str().filter(|host| !host.is_empty()), socket) {
            (Some(host), None) => host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            (None, Some(folder)) => folder,
            _ => return Err(Form),
        };
        let encryption =
            encryption.unwrap_or(if is_on_this_machine(&host) { Encryption::Prefer } else { Encryption::VerifyFull });
        let port = url.port().unwrap_or(5432);
        Ok(Self { host, port, user, database, encryption, ca_file: None, password: PostgresPassword::None })
    }

    /// The same database, with the password of its user.
    #[must_use]
    pub fn with_password(self, password: PostgresPassword) -> Self {
        Self { password, ..self }
    }

    /// The same database, whose certificate may also be of an authority in that file.
    #[must_use]
    pub fn with_ca_file(self, ca_file: Option<PathBuf>) -> Self {
        Self { ca_file, ..self }
    }

    /// Returns true if connections are neither verified nor stay on this machine.
    #[must_use]
    pub fn is_unverified(&self) -> bool {
        let verified = matches!(self.encryption, Encryption::VerifyAuthority | Encryption::VerifyFull);
        !verified && !is_on_this_machine(&self.host)
    }
}

/// Names the database and its user; a password is never a part of it.
impl fmt::Display for PostgresLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, user, database, .. } = self;
        if host.starts_with('/') {
            return write!(f, "postgres:///{database}?host={host}&user={user}");
        }
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        if *port == 5432 {
            write!(f, "postgres://{user}@{host}/{database}")
        } else {
            write!(f, "postgres://{user}@{host}:{port}/{database}")
        }
    }
}

fn is_on_this_machine(host: &str) -> bool {
    host.starts_with('/') || host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
