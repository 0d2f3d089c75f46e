//! Queries of the log, and claims from its rows.
//!
//! The log has one event for each pull, with the digest that the registry gave and, if it was asked for by tag, that tag.
//! Both are claimed, separately: the digest is the image that somebody has, whatever its tag names today, and the tag is
//! the name by which somebody will ask again. The workspace summarizes, so an answer has one row for each image and name.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::LoginServer;
use crate::azure::LogAnalytics;
use crate::domain::{
    Cause, Claim, Digest, Holder, ImageReference, PathPattern, RepositoryName, TagName, UnresolvedReference,
};
use crate::sources::{SourceError, SourceEvidence, truncate_messages};

/// The table of the events
/// (<https://learn.microsoft.com/azure/azure-monitor/reference/tables/containerregistryrepositoryevents>).
pub(super) const TABLE: &str = "ContainerRegistryRepositoryEvents";
/// The start of the `User-Agent` of Tagwarden, whose own pulls do not count.
const OWN_CLIENT: &str = "tagwarden/";
/// Most identities that a note lists.
const MOST_IDENTITIES: usize = 5;
/// Most characters of a client's name.
const MOST_CLIENT_CHARS: usize = 60;

/// The log of pulls in a workspace.
pub(super) struct PullLog {
    pub(super) client: LogAnalytics,
    /// The id of the workspace for queries.
    pub(super) workspace: String,
    /// Days for which it retains events.
    pub(super) retention_days: i64,
}

/// The time that the log of one registry covers.
#[derive(Debug)]
pub(super) struct LogHistory {
    /// The host of the registry.
    pub(super) host: String,
    /// The resource id of the registry.
    pub(super) resource: String,
    /// The time of its first event of any kind.
    pub(super) oldest: Timestamp,
    /// The time of its last event of any kind.
    pub(super) newest: Timestamp,
}

/// The last pull of one image by one name.
#[derive(Debug)]
pub(super) struct Pull {
    host: String,
    repository: String,
    tag: String,
    digest: String,
    holder: PullHolder,
}

/// The holder of a claim, ordered by time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct PullHolder {
    at: Timestamp,
    identity: String,
    client: String,
}

impl PullLog {
    /// Returns the time that is covered, for each registry in the workspace.
    pub(super) async fn histories(&self) -> Result<Vec<LogHistory>, SourceError> {
        let query = format!(
            "{TABLE}\n\
             | summarize Oldest = min(TimeGenerated), Newest = max(TimeGenerated) by LoginServer, ResourceId = _ResourceId"
        );
        let columns = ["LoginServer", "ResourceId", "Oldest", "Newest"];
        let rows = self.client.query(&self.workspace, &query, &self.timespan(), columns).await?;
        rows.into_iter()
            .map(|[host, resource, oldest, newest]| {
                let (oldest, newest) = (time(&oldest)?, time(&newest)?);
                Ok(LogHistory { host, resource, oldest, newest })
            })
            .collect()
    }

    /// Returns the last pull of each image by each name since `from`, from the registries with these resource ids.
    pub(super) async fn pulls(
        &self,
        resources: &[String],
        from: Timestamp,
        ignored: &[String],
    ) -> Result<Vec<Pull>, SourceError> {
        let mut query = format!(
            "{TABLE}\n\
             | where TimeGenerated >= datetime({from})\n\
             | where OperationName =~ \"Pull\"\n\
             | where _ResourceId in~ ({})\n\
             | where not(UserAgent startswith {})\n",
            literals(resources),
            literal(OWN_CLIENT)
        );
        if !ignored.is_empty() {
            query.extend(["| where Identity !in~ (", &literals(ignored), ")\n"]);
        }
        query += "| summarize arg_max(TimeGenerated, Identity, UserAgent) by LoginServer, Repository, Tag, Digest";
        let columns = ["LoginServer", "Repository", "Tag", "Digest", "TimeGenerated", "Identity", "UserAgent"];
        let rows = self.client.query(&self.workspace, &query, &self.timespan(), columns).await?;
        rows.into_iter()
            .map(|[host, repository, tag, digest, at, identity, client]| {
                let client = client.split(' ').next().unwrap_or_default().chars().take(MOST_CLIENT_CHARS).collect();
                Ok(Pull { host, repository, tag, digest, holder: PullHolder { at: time(&at)?, identity, client } })
            })
            .collect()
    }

    /// Returns the period of all queries: everything that is retained, and a day more for differences of clocks.
    fn timespan(&self) -> String {
        format!("P{}D", self.retention_days + 1)
    }
}

/// Returns the evidence of pulls from these registries.
///
/// # Errors
/// Returns an error if a row is from another registry.
pub(super) fn evidence(pulls: Vec<Pull>, registries: &[LoginServer]) -> Result<SourceEvidence, SourceError> {
    let mut found = Findings::default();
    for pull in pulls {
        let Some(registry) = registries.iter().find(|registry| registry.is_named(&pull.host)) else {
            let message = format!("the workspace answered with pulls of `{}`, which was not asked for", pull.host);
            return Err(SourceError::new("malformed", message));
        };
        found.add(&registry.host, pull);
    }
    Ok(found.into_evidence())
}

/// The name by which an image was pulled.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum PulledName {
    Tag(TagName),
    Digest(Digest),
}

#[derive(Default)]
struct Findings {
    /// The last pull of each tag and each digest.
    last: BTreeMap<(String, RepositoryName, PulledName), PullHolder>,
    /// The last pull without either, by repository.
    open: BTreeMap<(String, RepositoryName), PullHolder>,
    /// The number of images and names that each identity was the last to pull.
    by_identity: BTreeMap<String, usize>,
    notes: Vec<String>,
}

impl Findings {
    fn add(&mut self, host: &str, pull: Pull) {
        let Pull { repository, tag, digest, holder, .. } = pull;
        *self.by_identity.entry(holder.identity.clone()).or_default() += 1;
        let Ok(path) = repository.parse::<RepositoryName>() else {
            self.notes.push(format!("pull of `{repository}`: no registry can hold a repository of that name"));
            return;
        };
        let mut names = Vec::new();
        // A digest that was asked for may stand in place of the tag.
        for text in [&tag, &digest].into_iter().filter(|text| !text.is_empty()) {
            if let Ok(digest) = text.parse::<Digest>() {
                names.push(PulledName::Digest(digest));
            } else if let (true, Ok(tag)) = (std::ptr::eq(text, &raw const tag), text.parse::<TagName>()) {
                names.push(PulledName::Tag(tag));
            } else {
                self.notes.push(format!("pull of `{path}`: `{text}` is neither a tag nor a digest"));
            }
        }
        if names.is_empty() {
            keep_last(&mut self.open, (host.to_owned(), path.clone()), holder.clone());
        }
        for name in names {
            keep_last(&mut self.last, (host.to_owned(), path.clone(), name), holder.clone());
        }
    }

    fn into_evidence(mut self) -> SourceEvidence {
        let claims = self.last.into_iter().map(|((host, path, name), holder)| {
            let (tag, digest) = match name {
                PulledName::Tag(tag) => (Some(tag), None),
                PulledName::Digest(digest) => (None, Some(digest)),
            };
            let image = ImageReference { host: Some(host), repository: Some(path), tag, digest };
            Claim::new(image, holder.into())
        });
        let unresolved = self.open.into_iter().map(|((host, path), holder)| UnresolvedReference {
            text: format!("{host}/{path}").into(),
            path: PathPattern::of(&[path.as_str()]),
            host: Some(host),
            adjacent_words: [].into(),
            holder: holder.into(),
        });
        let (claims, unresolved) = (claims.collect(), unresolved.collect());
        self.notes.sort();
        self.notes.dedup();
        let mut notes = truncate_messages(self.notes);
        notes.extend(identities_note(&self.by_identity));
        SourceEvidence { claims, unresolved, notes, ..SourceEvidence::default() }
    }
}

impl From<PullHolder> for Arc<Holder> {
    fn from(PullHolder { at, identity, client }: PullHolder) -> Self {
        Self::new(Holder::Pull { at, identity, client })
    }
}

fn keep_last<K: Ord>(last: &mut BTreeMap<K, PullHolder>, key: K, holder: PullHolder) {
    let entry = last.entry(key).or_insert_with(|| holder.clone());
    if *entry < holder {
        *entry = holder;
    }
}

/// Returns who pulled most images last: a scanner that pulls everything is at the top.
fn identities_note(counts: &BTreeMap<String, usize>) -> Option<String> {
    let mut counts: Vec<(&str, usize)> = counts.iter().map(|(identity, count)| (identity.as_str(), *count)).collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let named = counts.iter().take(MOST_IDENTITIES).map(|(identity, count)| {
        let identity = if identity.is_empty() { "anonymous" } else { identity };
        format!("{identity} ({count})")
    });
    let listed: Vec<String> = named.collect();
    let more = counts.len().saturating_sub(MOST_IDENTITIES);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    (!listed.is_empty()).then(|| {
        format!(
            "last pulls by identity: {}{more}; a scanner among them belongs into `ignore_identities`",
            listed.join(", ")
        )
    })
}

fn time(text: &str) -> Result<Timestamp, SourceError> {
    text.parse().map_err(|error: jiff::Error| {
        let message = format!("the workspace answered with the time `{text}`");
        SourceError::new("malformed", message).caused_by(Cause::foreign(error))
    })
}

/// Returns texts as a list of literals of the query language.
fn literals(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| literal(text)).collect();
    texts.join(", ")
}

/// Returns a text as a literal of the query language
/// (<https://learn.microsoft.com/kusto/query/scalar-data-types/string>).
fn literal(text: &str) -> String {
    let mut literal = String::from('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            literal.push('\\');
        }
        literal.push(c);
    }
    literal.push('"');
    literal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_leave_its_literal() {
        assert_eq!(literal(r#"a"b\"#), r#""a\"b\\""#);
        assert_eq!(literals(&["a".to_owned(), "b".to_owned()]), r#""a", "b""#);
    }
}
