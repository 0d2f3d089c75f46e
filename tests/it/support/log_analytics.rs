//! An imitation of the query API of Log Analytics on loopback, with one workspace. It understands of its query language what
//! a summary of events needs, and refuses everything else, as the real one refuses what it does not understand.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::Response;
use jiff::{Timestamp, ToSpan as _};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use url::Url;

use super::azure::{Directory, Entra, LOG_AUDIENCE, ScriptedResponses, response};

pub(crate) const WORKSPACE: &str = "55555555-5555-5555-5555-555555555555";
const TABLE: &str = "ContainerRegistryRepositoryEvents";
/// The columns of the table that events of registries fill.
const COLUMNS: [&str; 9] = [
    "_ResourceId",
    "Digest",
    "Identity",
    "LoginServer",
    "OperationName",
    "Repository",
    "ResultDescription",
    "Tag",
    "UserAgent",
];

/// An event: its time, and what is in its columns; the others are empty.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) time: Timestamp,
    pub(crate) columns: BTreeMap<&'static str, String>,
}

impl Event {
    /// The value of a column, as a text; `None` if the table has no such column.
    fn value(&self, column: &str) -> Option<String> {
        match column {
            "TimeGenerated" => Some(self.time.to_string()),
            _ => COLUMNS.contains(&column).then(|| self.columns.get(column).cloned().unwrap_or_default()),
        }
    }
}

/// What the workspace holds and was asked.
pub(crate) struct Log {
    pub(crate) now: Timestamp,
    pub(crate) events: Vec<Event>,
    pub(crate) retention_days: i64,
    /// False if the identity may not query.
    pub(crate) is_readable: bool,
    /// An error beside the answers, as partial ones have it.
    pub(crate) error: Option<Value>,
    pub(crate) instead: ScriptedResponses,
    /// The bodies that arrived.
    pub(crate) asked: Vec<Value>,
}

pub(crate) struct LogAnalytics {
    pub(crate) url: Url,
    pub(crate) log: Arc<Mutex<Log>>,
}

type Shared = (Arc<Mutex<Log>>, Arc<Mutex<Directory>>);

impl LogAnalytics {
    pub(crate) async fn start(entra: &Entra, now: Timestamp) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let log = Log {
            now,
            events: Vec::new(),
            retention_days: 90,
            is_readable: true,
            error: None,
            instead: ScriptedResponses::new(),
            asked: Vec::new(),
        };
        let log = Arc::new(Mutex::new(log));
        let router = Router::new().fallback(answer).with_state((log.clone(), entra.directory.clone()));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, log }
    }
}

/// An error of the API (<https://learn.microsoft.com/azure/azure-monitor/logs/api/errors>).
fn refusal(status: u16, code: &str, message: &str, inner: Option<(&str, &str)>) -> Response {
    let inner = inner.map(|(code, message)| json!({ "code": code, "message": message }));
    let body = json!({ "error": { "code": code, "message": message, "innererror": inner } });
    response(status, &[], body.to_string())
}

async fn answer(State((log, directory)): State<Shared>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let mut log = log.lock().unwrap();
    let sent: Value = serde_json::from_slice(&body).unwrap_or_default();
    log.asked.push(sent.clone());
    if let Some((status, headers, body)) = log.instead.pop_front() {
        return response(status, &headers, body);
    }
    let Some(token) = head.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) else {
        return refusal(401, "AuthenticationFailed", "The 'Authorization' header is missing.", None);
    };
    let token = token.strip_prefix("Bearer ").unwrap_or_default();
    if !directory.lock().unwrap().is_good(token, LOG_AUDIENCE) {
        return refusal(403, "InvalidAuthenticationToken", "The access token is invalid.", None);
    }
    if head.uri.to_string() != format!("/v1/workspaces/{WORKSPACE}/query") || head.method != "POST" {
        return refusal(404, "PathNotFoundError", "The requested path does not exist", None);
    }
    if !log.is_readable {
        let words = "The provided credentials have insufficient access to perform the requested operation";
        return refusal(403, "InsufficientAccessError", words, None);
    }
    let bad = |code: &str, words: &str| {
        refusal(400, "BadArgumentError", "The request had some invalid properties", Some((code, words)))
    };
    if head.headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind != "application/json") {
        return refusal(415, "UnsupportedMediaType", "application/json is expected", None);
    }
    let sent = sent.as_object().filter(|sent| sent.len() == 2);
    let text = |key: &str| sent.and_then(|sent| sent.get(key)?.as_str());
    let (Some(query), Some(timespan)) = (text("query"), text("timespan")) else {
        return bad("ValidationError", "a query and a timespan are expected");
    };
    let days = timespan.strip_prefix('P').and_then(|rest| rest.strip_suffix('D')?.parse::<i64>().ok());
    let Some(days) = days else { return bad("ValidationError", "the timespan is not a duration") };
    let from = log.now - (24 * days.min(log.retention_days)).hours();
    let events: Vec<Event> = log.events.iter().filter(|event| event.time >= from).cloned().collect();
    match evaluate(query, events) {
        Ok((columns, rows)) => {
            let columns: Vec<Value> = columns
                .iter()
                .map(|name| json!({ "name": name, "type": if is_time(name) { "datetime" } else { "string" } }))
                .collect();
            let mut body = json!({ "tables": [{ "name": "PrimaryResult", "columns": columns, "rows": rows }] });
            if let Some(error) = &log.error {
                body["error"] = error.clone();
            }
            response(200, &[], body.to_string())
        }
        Err((code, words)) => bad(code, &words),
    }
}

fn is_time(column: &str) -> bool {
    matches!(column, "TimeGenerated" | "Oldest" | "Newest")
}

type QueryError = (&'static str, String);
type Answer = (Vec<String>, Vec<Vec<String>>);

fn syntax(text: &str) -> QueryError {
    ("SyntaxError", format!("A recognition error occurred in the query: {text}"))
}

fn value(event: &Event, column: &str) -> Result<String, QueryError> {
    event
        .value(column)
        .ok_or_else(|| ("SemanticError", format!("Failed to resolve table or column expression named '{column}'")))
}

fn evaluate(query: &str, mut events: Vec<Event>) -> Result<Answer, QueryError> {
    let mut lines = query.lines();
    if lines.next() != Some(TABLE) {
        return Err(("SemanticError", "Failed to resolve table or column expression named 'x'".to_owned()));
    }
    // The columns are checked also if there is no event.
    events.push(Event { time: Timestamp::MIN, columns: BTreeMap::new() });
    while let Some(line) = lines.next() {
        let line = line.strip_prefix("| ").ok_or_else(|| syntax(line))?;
        if let Some(condition) = line.strip_prefix("where ") {
            let mut kept = Vec::new();
            for event in events {
                if holds(&event, condition)? || event.time == Timestamp::MIN {
                    kept.push(event);
                }
            }
            events = kept;
        } else if let Some(summary) = line.strip_prefix("summarize ") {
            if lines.next().is_some() {
                return Err(syntax("nothing is expected after the summary"));
            }
            return summarize(summary, &events);
        } else {
            return Err(syntax(line));
        }
    }
    Err(syntax("a summary is expected"))
}

fn holds(event: &Event, condition: &str) -> Result<bool, QueryError> {
    if let Some(inner) = condition.strip_prefix("not(").and_then(|rest| rest.strip_suffix(')')) {
        let (column, text) = inner.split_once(" startswith ").ok_or_else(|| syntax(condition))?;
        let start = literals(text)?.remove(0).to_lowercase();
        return Ok(!value(event, column)?.to_lowercase().starts_with(&start));
    }
    let mut words = condition.splitn(3, ' ');
    let (Some(column), Some(operator), Some(operand)) = (words.next(), words.next(), words.next()) else {
        return Err(syntax(condition));
    };
    let value = value(event, column)?;
    let is_in = |list: &str| {
        let list = list.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).ok_or_else(|| syntax(condition))?;
        Ok(literals(list)?.iter().any(|text| text.eq_ignore_ascii_case(&value)))
    };
    match operator {
        ">=" if column == "TimeGenerated" => {
            let time = operand.strip_prefix("datetime(").and_then(|rest| rest.strip_suffix(')')?.parse().ok());
            Ok(event.time >= time.ok_or_else(|| syntax(condition))?)
        }
        "=~" => Ok(literals(operand)?.remove(0).eq_ignore_ascii_case(&value)),
        "in~" => is_in(operand),
        "!in~" => Ok(!is_in(operand)?),
        _ => Err(syntax(condition)),
    }
}

/// The texts of a list of literals.
fn literals(mut text: &str) -> Result<Vec<String>, QueryError> {
    let mut all = Vec::new();
    loop {
        let mut chars = text.strip_prefix('"').ok_or_else(|| syntax(text))?.char_indices();
        let mut literal = String::new();
        let end = loop {
            match chars.next().ok_or_else(|| syntax(text))? {
                (_, '\\') => literal.push(chars.next().ok_or_else(|| syntax(text))?.1),
                (at, '"') => break at + 2,
                (_, c) => literal.push(c),
            }
        };
        all.push(literal);
        text = &text[end..];
        match text.strip_prefix(", ") {
            Some(rest) => text = rest,
            None if text.is_empty() => return Ok(all),
            None => return Err(syntax(text)),
        }
    }
}

/// The rows of a summary: the columns it is by, and the aggregates.
fn summarize(summary: &str, events: &[Event]) -> Result<Answer, QueryError> {
    let (aggregates, by) = summary.split_once(" by ").ok_or_else(|| syntax(summary))?;
    let by: Vec<(&str, &str)> =
        by.split(", ").map(|column| column.split_once(" = ").unwrap_or((column, column))).collect();
    let mut groups: BTreeMap<Vec<String>, Vec<&Event>> = BTreeMap::new();
    for event in events {
        let key = by.iter().map(|(_, column)| value(event, column)).collect::<Result<_, _>>()?;
        if event.time > Timestamp::MIN {
            groups.entry(key).or_default().push(event);
        }
    }
    let mut columns: Vec<String> = by.iter().map(|(name, _)| (*name).to_owned()).collect();
    let mut rows: Vec<(Vec<&Event>, Vec<String>)> = groups
        .into_iter()
        .map(|(key, mut events)| {
            events.sort_by_key(|event| event.time);
            (events, key)
        })
        .collect();
    if let Some(inner) = aggregates.strip_prefix("arg_max(TimeGenerated, ").and_then(|rest| rest.strip_suffix(')')) {
        for column in ["TimeGenerated"].into_iter().chain(inner.split(", ")) {
            columns.push(column.to_owned());
            for (events, row) in &mut rows {
                row.push(value(events[events.len() - 1], column)?);
            }
        }
    } else {
        for aggregate in aggregates.split(", ") {
            let (name, of) = aggregate.split_once(" = ").ok_or_else(|| syntax(aggregate))?;
            columns.push(name.to_owned());
            for (events, row) in &mut rows {
                let event = match of {
                    "min(TimeGenerated)" => events[0],
                    "max(TimeGenerated)" => events[events.len() - 1],
                    _ => return Err(syntax(of)),
                };
                row.push(event.time.to_string());
            }
        }
    }
    Ok((columns, rows.into_iter().map(|(_, row)| row).collect()))
}
