//! Image references in the response of a URL: a deployment dashboard, a CMDB, the API of a pipeline.
//!
//! References in the response count as in [`super::image_references`], unless the settings name the fields. A response
//! that may be truncated, or is something else (a login page, say), fails the source.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED, LOCATION};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::document::{Format, Node, Value, parse};
use super::field_path::FieldPath;
use super::known_hosts::KnownHosts;
use super::text::{Document, TextEvidence, TextReader, TextSettings};
use super::{Source, SourceError, SourceEvidence, glob_files, truncate_messages};
use crate::domain::{Claim, Holder, ImageReference, TextScope};
use crate::http_client::{self, ClientConfig, HttpClient, Request, RequestErrorKind, RetryPolicy};
use crate::registry::next_link;

/// A URL whose response contains image references.
#[derive(Debug, Clone)]
pub struct HttpDocument {
    /// The address.
    pub url: Url,
    /// The header that authenticates requests. It is sent to the URL's own host only.
    pub header: Option<SecretHeader>,
    /// The format of the response; `None` means by its content type.
    pub format: Option<DocumentFormat>,
    /// The fields that contain references; empty means any reference to one of the registries.
    pub paths: Vec<FieldPath>,
    /// A PEM file with further certificate authorities to trust.
    pub ca_file: Option<PathBuf>,
    /// The timeout of one request.
    pub timeout: Duration,
}

/// A header with a secret in it.
#[derive(Debug, Clone)]
pub struct SecretHeader {
    /// Such as `authorization`.
    pub name: HeaderName,
    /// Its whole value.
    pub value: SecretString,
}

/// The format of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DocumentFormat {
    /// JSON.
    Json,
    /// YAML, also several documents.
    Yaml,
    /// Any other text.
    Text,
}

impl DocumentFormat {
    /// Returns the label used in settings.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Yaml => "yaml",
            Self::Text => "text",
        }
    }
}

const ACCEPT: &str = "application/json, application/yaml, text/plain;q=0.9, */*;q=0.5";
const MOST_REDIRECTS: usize = 5;
/// More pages than this are an undetected cycle.
const MOST_PAGES: usize = 1000;
/// The keys of JSON with the URL of the next page.
const NEXT_KEYS: [&str; 3] = ["nextLink", "@odata.nextLink", "next"];

/// References in the response of a URL.
#[derive(Debug, Clone)]
pub struct HttpReferences {
    document: HttpDocument,
    hosts: Vec<String>,
    retry_policy: RetryPolicy,
    texts: TextSettings,
}

/// One parsed page.
struct Page {
    documents: Vec<Node>,
    text: String,
    /// `None` for running text.
    format: Option<Format>,
    response: http_client::Response,
    /// Without its query.
    display_url: String,
}

impl HttpReferences {
    /// Creates a source for that URL. It requests anew on each call, for references to `hosts`: those of the
    /// registries, aliases included.
    #[must_use]
    pub fn new(document: HttpDocument, hosts: Vec<String>, patience: RetryPolicy) -> Self {
        Self { document, hosts, retry_policy: patience, texts: TextSettings::default() }
    }

    /// Sets the options for reading texts, if the settings name no fields.
    #[must_use]
    pub fn with_texts(self, texts: TextSettings) -> Self {
        Self { texts, ..self }
    }

    fn header(&self) -> Result<HeaderMap, SourceError> {
        let Some(header) = &self.document.header else { return Ok(HeaderMap::new()) };
        let mut value = HeaderValue::from_str(header.value.expose_secret()).map_err(|_| {
            let message = format!("the value of `{}` does not fit into a header; correct its file", header.name);
            SourceError::new("settings", message)
        })?;
        value.set_sensitive(true);
        Ok(HeaderMap::from_iter([(header.name.clone(), value)]))
    }

    /// Fetches one page, following redirects.
    async fn fetch_page(&self, client: &HttpClient, header: &HeaderMap, mut url: Url) -> Result<Page, SourceError> {
        let limit = usize::try_from(glob_files::MAX_FILE_BYTES).unwrap_or(usize::MAX);
        for _ in 0..=MOST_REDIRECTS {
            let own = url.origin() == self.document.url.origin();
            let nothing = HeaderMap::new();
            let request = Request::get(url.clone(), ACCEPT, limit);
            let sent = client.send_with_headers(&request, if own { header } else { &nothing }).await;
            let evidence =
                sent.map_err(|error| SourceError::from(error).with_help("check `url`, network, proxy and `ca_file`"))?;
            if !matches!(evidence.status.as_u16(), 301 | 302 | 303 | 307 | 308) {
                return self.parse_page(evidence, &url);
            }
            let target = evidence.header(LOCATION.as_str()).and_then(|text| url.join(text).ok());
            let safe = |target: &Url| target.scheme() == "https" || target.scheme() == "http" && url.scheme() == "http";
            let Some(target) = target.filter(safe) else {
                let message = format!("{}, to nowhere that may be followed; correct `url`", evidence.description());
                return Err(SourceError::new("status", message));
            };
            url = target;
        }
        let message =
            format!("{}: more than {MOST_REDIRECTS} redirects; correct `url`", without_query(&self.document.url));
        Err(SourceError::new("status", message))
    }

    fn parse_page(&self, evidence: http_client::Response, url: &Url) -> Result<Page, SourceError> {
        if evidence.status != StatusCode::OK {
            let kind = evidence.status_error().kind;
            let advice = match kind {
                RequestErrorKind::Denied => "check the source's `header` and what it may read",
                RequestErrorKind::NotFound => "check the source's `url`",
                RequestErrorKind::Throttled => "ask it less often",
                RequestErrorKind::Status(500..) => "run again when it is well",
                _ => "only a whole answer (200) counts",
            };
            let message = format!("{} answered {}; {advice}", evidence.request, evidence.status);
            return Err(SourceError::new(kind.label(), message));
        }
        if evidence.is_web_page() {
            let message = format!(
                "{} answered with a web page; is a proxy or a login page in between? ask for the data itself",
                evidence.request
            );
            return Err(SourceError::new("malformed", message));
        }
        let text = match super::encoding::utf8(&evidence.body).map(|bytes| String::from_utf8(bytes.into_owned())) {
            Ok(Ok(text)) => text,
            Ok(Err(_)) => return Err(evidence.malformed("invalid UTF-8").into()),
            Err(what) => return Err(evidence.malformed(&what).into()),
        };
        if text.trim().is_empty() {
            let message = format!("{} answered with nothing; check `url`", evidence.request);
            return Err(SourceError::new("empty", message));
        }
        let format = self.format(evidence.header(CONTENT_TYPE.as_str()).unwrap_or_default());
        let documents = match format {
            Some(format) => parse(&text, format).map_err(|problem| {
                SourceError::from(evidence.malformed(&format!("line {}: {}", problem.line, problem.message)))
            })?,
            None => Vec::new(),
        };
        Ok(Page { documents, text, format, display_url: without_query(url), response: evidence })
    }

    /// Returns the format by the settings, else by the content type; `None` for running text.
    fn format(&self, content_type: &str) -> Option<Format> {
        let of = |word: &str| content_type.to_ascii_lowercase().contains(word);
        match self.document.format {
            _ if of("ndjson") || of("jsonl") || of("json-seq") => Some(Format::JsonLines),
            Some(DocumentFormat::Json) => Some(Format::Json),
            Some(DocumentFormat::Yaml) => Some(Format::Yaml),
            None if of("json") => Some(Format::Json),
            None if of("yaml") => Some(Format::Yaml),
            Some(DocumentFormat::Text) | None => None,
        }
    }

    /// Parses the fields that the settings name, and collects what is not understood.
    fn read_fields(&self, page: &Page, evidence: &mut SourceEvidence, problems: &mut Vec<String>) {
        let place = |line: u32, what: &str| format!("{}:{line}: {what}", page.display_url);
        let claim = |image, line| {
            let holder = Arc::new(Holder::File { path: page.display_url.clone(), line });
            Claim::new(image, holder)
        };
        for node in self.document.paths.iter().flat_map(|path| page.documents.iter().flat_map(|it| path.find(it))) {
            match &node.value {
                Value::Null => {}
                Value::Text(text) if text.trim().is_empty() => {}
                Value::Text(text) => match text.parse::<ImageReference>() {
                    Ok(image) => evidence.claims.push(claim(image, node.line)),
                    Err(error) => problems.push(place(node.line, &error.to_string())),
                },
                _ => problems.push(place(node.line, &format!("{} is not a valid image reference", node.describe()))),
            }
        }
    }

    /// Returns the URL of the next page, by `Link` (RFC 8288), by the well-known keys of JSON, or by Azure DevOps'
    /// token.
    fn next_url(&self, page: &Page, url: &Url) -> Result<Option<Url>, SourceError> {
        let by_key = || page.documents.iter().find_map(next_key);
        let Some(link) = next_link(&page.response.headers).or_else(by_key) else {
            let token = page.response.header("x-ms-continuationtoken").filter(|token| !token.is_empty());
            return Ok(token.map(|token| with_parameter(url, "continuationToken", token)));
        };
        let next = url.join(&link).ok().filter(|next| next.origin() == self.document.url.origin());
        next.map(Some)
            .ok_or_else(|| page.response.malformed("the next page points to another host or is not a valid URL").into())
    }
}

#[async_trait]
impl Source for HttpReferences {
    /// Dates the evidence by the `generated_at` of the response, else its `Last-Modified`, else its `Date`; of several
    /// pages the oldest.
    async fn query(&self, _now: Timestamp) -> Result<SourceEvidence, SourceError> {
        let document = &self.document;
        let config = ClientConfig {
            name: without_query(&document.url),
            ca_file: document.ca_file.clone(),
            timeout: document.timeout,
        };
        let client = HttpClient::new(&config, self.retry_policy)?;
        let (header, hosts) = (self.header()?, KnownHosts::new(&self.hosts));
        let (mut evidence, mut problems, mut times) = (SourceEvidence::default(), Vec::new(), Vec::new());
        let mut missing: Vec<&FieldPath> = document.paths.iter().collect();
        let mut texts = TextReader::new(&hosts, &self.texts, TextScope::Source);
        let mut read = BTreeSet::new();
        let mut url = document.url.clone();
        loop {
            let page = self.fetch_page(&client, &header, url.clone()).await?;
            times.push(page_time(&page)?);
            if document.paths.is_empty() {
                texts.read(Document { name: &page.display_url, kind: None, format: page.format, text: &page.text });
            } else {
                self.read_fields(&page, &mut evidence, &mut problems);
            }
            missing.retain(|path| page.documents.iter().all(|document| path.find(document).is_empty()));
            let Some(next) = self.next_url(&page, &url)? else { break };
            read.insert(std::mem::replace(&mut url, next));
            if read.contains(&url) || read.len() >= MOST_PAGES {
                return Err(page.response.malformed("its pages lead in a circle").into());
            }
        }
        // A renamed field must not look like an absence of evidence.
        problems.extend(
            missing.iter().map(|path| format!("{}: there is nothing at `{path}`", without_query(&document.url))),
        );
        let TextEvidence { claims, unresolved, texts, report_only_texts: reported, notes, problems: unread } =
            texts.finish();
        problems.extend(unread);
        if !problems.is_empty() {
            return Err(SourceError::new("malformed", truncate_messages(problems).join("\n")));
        }
        let as_of = times.into_iter().flatten().min();
        evidence.claims.extend(claims);
        Ok(SourceEvidence {
            unresolved,
            texts,
            report_only_texts: reported,
            as_of,
            notes: truncate_messages(notes),
            ..evidence
        })
    }
}

/// Returns the time of a page.
fn page_time(page: &Page) -> Result<Option<Timestamp>, SourceError> {
    if let Some(node) = page.documents.iter().find_map(|document| document.get("generated_at")) {
        let time = if let Value::Text(text) = &node.value { text.trim().parse().ok() } else { None };
        return time.map(Some).ok_or_else(|| {
            let what = format!("line {}: `generated_at` is {}, which is not a valid time", node.line, node.describe());
            page.response.malformed(&what).into()
        });
    }
    let modified = page.response.header(LAST_MODIFIED.as_str()).and_then(|text| rfc2822::parse(text.trim()).ok());
    Ok(modified.map(|time| time.timestamp()).or_else(|| http_client::date(&page.response.headers)))
}

/// Returns the next page as the document states it. A `next` that is not a URL means something else.
fn next_key(document: &Node) -> Option<String> {
    NEXT_KEYS.iter().find_map(|key| match &document.get(key)?.value {
        Value::Text(text) if text.is_empty() => None,
        Value::Text(text)
            if *key != "next" || ["http://", "https://", "/", "?"].iter().any(|it| text.starts_with(it)) =>
        {
            Some(text.clone())
        }
        _ => None,
    })
}

fn with_parameter(url: &Url, key: &str, value: &str) -> Url {
    let others: Vec<(String, String)> = url.query_pairs().into_owned().filter(|(name, _)| name != key).collect();
    let mut url = url.clone();
    url.query_pairs_mut().clear().extend_pairs(others).append_pair(key, value);
    url
}

/// Returns a URL for display: its query may contain a secret.
fn without_query(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}
