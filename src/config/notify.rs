//! `[notify.<name>]`: the receivers of notifications, and their events.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::layers::normalize_key;
use super::net::{ca_file, is_loopback};
use super::reader::SettingsReader;
use super::secrets::secret_at;
use crate::policy::{Entry, Fields, Node, Place, fields};

/// A receiver of notifications about runs.
#[derive(Debug, Clone)]
pub struct NotifySettings {
    /// The name in the settings.
    pub name: String,
    /// The reported events.
    pub events: BTreeSet<NotifyEvent>,
    /// The channel of delivery.
    pub channel: Channel,
    /// The interval at which the same problem is reported again.
    pub repeat_after: Duration,
    /// The timeout of one attempt.
    pub timeout: Duration,
    /// A PEM file with further certificate authorities to trust.
    pub ca_file: Option<PathBuf>,
    /// The template of a message's text; `None` means the built-in one.
    pub template: Option<Template>,
}

/// An event that may be reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NotifyEvent {
    /// Tags were removed.
    Removed,
    /// A limit or an obstacle refused removals, or a plan could not be applied.
    Refused,
    /// A run failed, or some removals did.
    Failed,
    /// A source or a registry could not be read in full.
    EvidenceMissing,
    /// A run succeeded after a reported problem.
    Recovered,
    /// Any run.
    Always,
}

/// The channel of delivery. Addresses of webhooks are secrets: anybody who knows one can post there.
#[derive(Debug, Clone)]
pub enum Channel {
    /// Tagwarden's own JSON, signed.
    Webhook {
        /// The address.
        url: SecretString,
        /// The key of the signature.
        secret: SecretString,
    },
    /// An incoming webhook of Slack.
    Slack {
        /// The address.
        url: SecretString,
    },
    /// A webhook of a workflow in Microsoft Teams.
    Teams {
        /// The address.
        url: SecretString,
    },
    /// E-mail through SMTP.
    Email(Email),
}

/// The delivery of e-mail.
#[derive(Debug, Clone)]
pub struct Email {
    /// The SMTP server.
    pub server: String,
    /// Its port.
    pub port: u16,
    /// The encryption of the connection.
    pub encryption: Encryption,
    /// The user and password for it.
    pub credentials: Option<(String, SecretString)>,
    /// The sender, as `Name <address>` or an address.
    pub from: String,
    /// The recipients; never empty.
    pub to: Vec<String>,
}

/// The encryption of a connection to an SMTP server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// By STARTTLS, which is required.
    StartTls,
    /// From the first byte.
    Tls,
    /// None; on this machine only.
    None,
}

/// The text of messages with placeholders, such as `{title}`; `{{` and `}}` are braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Value(&'static str),
}

impl Template {
    /// All placeholders.
    pub const PLACEHOLDERS: [&str; 19] = [
        "title",
        "text",
        "run",
        "kind",
        "mode",
        "outcome",
        "by",
        "at",
        "tags",
        "expired",
        "protected",
        "retained",
        "undecided",
        "removed",
        "deleted",
        "skipped",
        "failed",
        "reclaimable",
        "problems",
    ];

    /// Parses a template.
    ///
    /// # Errors
    /// Returns the problem with its line, from 1.
    pub fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        let line = |rest: &str| text[..text.len() - rest.len()].matches('\n').count() + 1;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix("{{") {
                plain.push('{');
                rest = after;
            } else if let Some(after) = rest.strip_prefix("}}") {
                plain.push('}');
                rest = after;
            } else if rest.starts_with('}') {
                return Err((line(rest), "`}` that closes nothing; a brace itself is `}}`".to_owned()));
            } else {
                let Some((word, after)) = rest[1..].split_once('}') else {
                    return Err((line(rest), "`{` that nothing closes; a brace itself is `{{`".to_owned()));
                };
                let known = Self::PLACEHOLDERS.into_iter().find(|known| *known == word.trim());
                let Some(known) = known else {
                    let (message, help) = fields::unknown_word("placeholder", word.trim(), "", &Self::PLACEHOLDERS);
                    return Err((line(rest), format!("{message}; {help}")));
                };
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
                pieces.push(Piece::Value(known));
                rest = after;
            }
        }
        plain.push_str(rest);
        pieces.push(Piece::Text(plain));
        Ok(Self { pieces })
    }

    /// Returns the text with the placeholders replaced by those values.
    #[must_use]
    pub fn fill(&self, values: &BTreeMap<&'static str, String>) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Value(name) => values.get(name).cloned().unwrap_or_default(),
        };
        self.pieces.iter().map(piece).collect()
    }
}

impl NotifyEvent {
    /// Returns the label used in settings and messages.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::EvidenceMissing => "evidence-missing",
            Self::Recovered => "recovered",
            Self::Always => "always",
        }
    }
}

impl Channel {
    /// Returns the label used in settings.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Webhook { .. } => "webhook",
            Self::Slack { .. } => "slack",
            Self::Teams { .. } => "teams",
            Self::Email(_) => "email",
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Webhook,
    Slack,
    Teams,
    Email,
}

const KINDS: [(&str, Kind); 4] =
    [("webhook", Kind::Webhook), ("slack", Kind::Slack), ("teams", Kind::Teams), ("email", Kind::Email)];
const NOTIFY_EVENTS: [(&str, NotifyEvent); 6] = [
    ("removed", NotifyEvent::Removed),
    ("refused", NotifyEvent::Refused),
    ("failed", NotifyEvent::Failed),
    ("evidence-missing", NotifyEvent::EvidenceMissing),
    ("recovered", NotifyEvent::Recovered),
    ("always", NotifyEvent::Always),
];
const ENCRYPTIONS: [(&str, Encryption); 3] =
    [("starttls", Encryption::StartTls), ("tls", Encryption::Tls), ("none", Encryption::None)];
/// Larger than any message should be.
const LARGEST_TEMPLATE: usize = 16 * 1024;

/// Parses all receivers of notifications, by name. Usually there are none.
pub(super) fn channels(node: Option<&Node>, reader: &mut SettingsReader) -> Vec<NotifySettings> {
    let entries = node.and_then(|node| reader.tables("notify", node)).unwrap_or_default();
    let read = entries.iter().filter_map(|entry| reader.entry(entry, |reader| notify_settings(entry, reader)));
    let mut read: Vec<NotifySettings> = read.collect();
    read.sort_by(|a, b| a.name.cmp(&b.name));
    read
}

fn notify_settings(entry: &Entry, reader: &mut SettingsReader) -> Option<NotifySettings> {
    let mut fields = Fields::of(&entry.node, "notification", &mut reader.problems)?;
    let kind =
        reader.kind(&mut fields, &entry.at).and_then(|node| fields::choice("kind", node, &KINDS, &mut reader.problems));
    let on = fields.get("on").map_or_else(
        || {
            Some(
                NOTIFY_EVENTS
                    .map(|(_, occasion)| occasion)
                    .into_iter()
                    .filter(|on| *on != NotifyEvent::Always)
                    .collect(),
            )
        },
        |node| notify_events(node, reader),
    );
    let repeat_after = fields
        .get("repeat_after")
        .map_or(Some(Duration::from_hours(24)), |node| fields::duration("repeat_after", node, &mut reader.problems));
    let timeout = fields
        .get("timeout")
        .map_or(Some(Duration::from_secs(15)), |node| fields::duration("timeout", node, &mut reader.problems));
    let ca_file = fields.get("ca_file").map(|node| ca_file(node, reader));
    let template = fields.get("template").map(|node| template(node, reader));
    let path = format!("NOTIFY__{}", normalize_key(&entry.key));
    let channel = kind.and_then(|kind| match kind {
        Kind::Webhook => {
            let url = address(&path, &mut fields, reader);
            let secret = secret_at(&path, &mut fields, "secret", "secret_file", reader);
            Some(Channel::Webhook { url: url?, secret: secret? })
        }
        Kind::Slack => Some(Channel::Slack { url: address(&path, &mut fields, reader)? }),
        Kind::Teams => Some(Channel::Teams { url: address(&path, &mut fields, reader)? }),
        Kind::Email => email(&path, &mut fields, &entry.at, reader).map(Channel::Email),
    });
    // Without a kind its keys are unknown; reporting them all would hide the real problem.
    if kind.is_some() {
        fields.finish(hint, &mut reader.problems);
    }
    Some(NotifySettings {
        name: entry.key.clone(),
        events: on?,
        channel: channel?,
        repeat_after: repeat_after?,
        timeout: timeout?,
        ca_file: ca_file.map_or(Some(None), |file| file.map(Some))?,
        template: template.map_or(Some(None), |template| template.map(Some))?,
    })
}

fn hint(key: &str) -> Option<&'static str> {
    match key {
        "password" | "password_file" | "username" | "server" | "from" | "to" => Some("that is for `kind = \"email\"`"),
        "secret" | "secret_file" => Some("only `kind = \"webhook\"` is signed"),
        "url" | "url_file" => Some("e-mail goes to `server`"),
        "events" | "when" | "occasions" => Some("of what to tell is `on = [\"failed\", …]`"),
        _ => None,
    }
}

fn notify_events(node: &Node, reader: &mut SettingsReader) -> Option<BTreeSet<NotifyEvent>> {
    let (texts, mut sound) = fields::texts("on", node, &mut reader.problems)?;
    let words: Vec<&str> = NOTIFY_EVENTS.iter().map(|(word, _)| *word).collect();
    let mut found = BTreeSet::new();
    for (text, at) in texts {
        if let Some((_, occasion)) = NOTIFY_EVENTS.iter().find(|(word, _)| *word == text) {
            found.insert(*occasion);
        } else {
            let (message, help) = fields::unknown_word("occasion", &text, "", &words);
            reader.problems.add(&at, message).help(help);
            sound = false;
        }
    }
    sound.then_some(found)
}

/// Parses the address of a webhook, from a file or the environment. No message shows it.
fn address(path: &str, fields: &mut Fields<'_>, reader: &mut SettingsReader) -> Option<SecretString> {
    let secret = secret_at(path, fields, "url", "url_file", reader)?;
    if reader.skips_secrets() {
        return Some(secret);
    }
    let url = Url::parse(secret.expose_secret().trim()).ok();
    let safe = |url: &Url| url.scheme() == "https" || url.scheme() == "http" && is_loopback(url);
    if url.is_some_and(|url| url.host().is_some() && safe(&url)) {
        return Some(secret.expose_secret().trim().into());
    }
    let key = if fields.get("url_file").is_some() { "url_file" } else { "url" };
    reader
        .problems
        .add(fields.key_at(key), "the address must begin with `https://`; on this machine `http://` will do")
        .help("it is one line, and nothing else is in the file");
    None
}

fn template(node: &Node, reader: &mut SettingsReader) -> Option<Template> {
    let written = fields::text("template", node, &mut reader.problems)?;
    let read = super::read_text(&reader.folder.join(written));
    let (problem, help) = match read {
        Ok(text) if text.len() > LARGEST_TEMPLATE => {
            (format!("`{written}` is too large"), "a message is a few lines; at most 16 KiB".to_owned())
        }
        Ok(text) => match Template::parse(&text) {
            Ok(template) => return Some(template),
            Err((line, why)) => (format!("{written}:{line}: {why}"), "docs/notifications.md has them all".to_owned()),
        },
        Err(error) => {
            let problem = reader.problems.add(&node.at, format!("`{written}` cannot be read"));
            problem.caused_by(error).help("paths are relative to the settings file");
            return None;
        }
    };
    reader.problems.add(&node.at, problem).help(help);
    None
}

fn email(path: &str, fields: &mut Fields<'_>, at: &Place, reader: &mut SettingsReader) -> Option<Email> {
    let server = reader
        .required(fields, "server", at)
        .and_then(|node| Some((fields::text("server", node, &mut reader.problems)?, &node.at)));
    let encryption = fields
        .get("tls")
        .map_or(Some(Encryption::StartTls), |node| fields::choice("tls", node, &ENCRYPTIONS, &mut reader.problems));
    let usual = match encryption {
        Some(Encryption::Tls) => 465,
        Some(Encryption::None) => 25,
        Some(Encryption::StartTls) | None => 587,
    };
    let port = fields
        .get("port")
        .map_or(Some(usual), |node| fields::integer("port", node, 1..=u32::from(u16::MAX), &mut reader.problems));
    let login =
        fields.get("username").map(|node| fields::text("username", node, &mut reader.problems)).map(|username| {
            let password = secret_at(path, fields, "password", "password_file", reader);
            Some((username?.to_owned(), password?))
        });
    let from = reader.required(fields, "from", at).and_then(|node| mailbox("from", node, reader));
    let to = reader.required(fields, "to", at).and_then(|node| {
        let list = fields::list("to", node, &mut reader.problems)?;
        let read: Vec<String> = list.iter().filter_map(|node| mailbox("to", node, reader)).collect();
        (read.len() == list.len()).then_some(read)
    });
    let (server, server_at) = server?;
    if encryption == Some(Encryption::None) && !is_loopback_host(server) {
        reader
            .problems
            .add(server_at, "e-mail would go over the network unencrypted")
            .help("leave `tls` out, or write tls = \"tls\" for a server that begins encrypted");
        return None;
    }
    Some(Email {
        server: server.to_owned(),
        port: u16::try_from(port?).ok()?,
        encryption: encryption?,
        credentials: login.map_or(Some(None), |login| login.map(Some))?,
        from: from?,
        to: to?,
    })
}

fn is_loopback_host(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Checks a mailbox loosely: far from RFC 5321, but enough to reject what is clearly not an address.
fn mailbox(key: &str, node: &Node, reader: &mut SettingsReader) -> Option<String> {
    let written = fields::text(key, node, &mut reader.problems)?;
    let address = written.strip_suffix('>').and_then(|rest| rest.rsplit_once('<')).map_or(written, |(_, inner)| inner);
    let sound = address.split_once('@').is_some_and(|(local, host)| !local.is_empty() && !host.is_empty());
    if !sound || written.contains(['\r', '\n']) || address.contains([' ', '<', '>']) {
        reader
            .problems
            .add(&node.at, format!("`{key}` contains an invalid address"))
            .help("write `ops@contoso.example`, or `Tagwarden <tagwarden@contoso.example>`");
        return None;
    }
    Some(written.to_owned())
}
