//! Client of the query API of Log Analytics (<https://learn.microsoft.com/azure/azure-monitor/logs/api/overview>).

use std::time::Duration;

use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::Credential;
use super::bearer::BearerClient;
use crate::domain::Cause;
use crate::http_client::{ClientConfig, HttpClient, Request, RequestError, RequestErrorKind, Response, RetryPolicy};

/// Log Analytics, used with one identity. Only ever reads.
#[derive(Debug)]
pub struct LogAnalytics {
    client: BearerClient,
    endpoint: Url,
}

const NAME: &str = "Log Analytics";
/// The service ends a query by itself after three minutes.
const TIMEOUT: Duration = Duration::from_secs(200);
/// The service ends answers at about 64 MB of data; written as JSON they are somewhat longer.
const MAX_RESPONSE_BYTES: usize = 128 << 20;
/// The service ends answers at so many rows (<https://learn.microsoft.com/azure/azure-monitor/service-limits>).
const MAX_ROWS: usize = 500_000;
/// The codes of a refused token, which this API answers with 403 as well
/// (<https://learn.microsoft.com/azure/azure-monitor/logs/api/errors>).
const TOKEN_CODES: [&str; 2] = ["InvalidAuthenticationToken", "InvalidTokenError"];

/// The answer to a query. One that is incomplete has the status 200 as well, and an `error`.
#[derive(Deserialize)]
struct WireAnswer {
    tables: Vec<WireTable>,
    #[serde(default)]
    error: Option<WireError>,
}

/// A result; a query has one, named `PrimaryResult`.
#[derive(Deserialize)]
struct WireTable {
    name: String,
    columns: Vec<WireColumn>,
    /// Texts, and `null`. An object in place of a row reports that the answer broke off, and is not understood.
    rows: Vec<Vec<Option<String>>>,
}

#[derive(Deserialize)]
struct WireColumn {
    name: String,
}

/// An error, with causes inside each other.
#[derive(Deserialize)]
struct WireError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    innererror: Option<Box<WireError>>,
    #[serde(default)]
    details: Option<Vec<WireError>>,
}

#[derive(Deserialize)]
struct WireRefusal {
    error: WireError,
}

impl LogAnalytics {
    /// Creates a client for the query API of an identity's cloud, without sending a request.
    ///
    /// # Errors
    /// Returns an error if the settings are invalid: a malformed id, an unreadable CA file, an unencrypted address that
    /// is not on this machine.
    pub fn new(credential: &Credential, retry_policy: RetryPolicy) -> Result<Self, RequestError> {
        let surroundings = &credential.environment;
        let endpoint = surroundings.log_analytics()?;
        let config = ClientConfig { name: NAME.into(), ca_file: surroundings.ca_file.clone(), timeout: TIMEOUT };
        let client = BearerClient {
            client: HttpClient::new(&config, retry_policy)?,
            tokens: credential.connect(retry_policy)?,
            scope: surroundings.cloud.log_analytics_scope(),
            service: NAME,
        };
        Ok(Self { client, endpoint })
    }

    /// Queries a workspace, by its id, and returns the values of these columns of all rows; `null` is an empty text.
    /// `timespan` is a period in ISO 8601, such as `P30D`; without one the service would choose it.
    ///
    /// # Errors
    /// Returns an error if the query is refused, or the answer is incomplete: partial, at the limit of rows, or without
    /// one of the columns.
    pub async fn query<const N: usize>(
        &self,
        workspace: &str,
        query: &str,
        timespan: &str,
        columns: [&str; N],
    ) -> Result<Vec<[String; N]>, RequestError> {
        let mut url = self.endpoint.clone();
        url.set_path(&format!("/v1/workspaces/{workspace}/query"));
        let content = json!({ "query": query, "timespan": timespan }).to_string();
        let request = Request {
            method: Method::POST,
            content: Some(("application/json".into(), content.into_bytes().into())),
            ..Request::get(url, "application/json", MAX_RESPONSE_BYTES)
        };
        let refuses_token = |response: &Response| {
            response.status == StatusCode::FORBIDDEN
                && response.error_code().is_some_and(|code| TOKEN_CODES.contains(&&*code))
        };
        let response = self.client.send(&request, refuses_token).await?;
        if response.status != StatusCode::OK {
            return Err(self.refusal(&response));
        }
        let answer: WireAnswer = response.parse_json()?;
        if let Some(error) = answer.error {
            let message = format!("it is incomplete ({})", error.describe());
            return Err(response.malformed(&message).with_help("query a shorter time"));
        }
        let [table] = <[WireTable; 1]>::try_from(answer.tables)
            .map_err(|tables| response.malformed(&format!("it has {} tables instead of one", tables.len())))?;
        if table.rows.len() >= MAX_ROWS {
            let message =
                format!("it has {} rows, which is the service's limit, so more may be missing", table.rows.len());
            return Err(response.malformed(&message).with_help("query a shorter time"));
        }
        table.select(columns).map_err(|why| response.malformed(&why))
    }

    fn refusal(&self, response: &Response) -> RequestError {
        let kind = response.status_error().kind;
        let whom = self.client.tokens.description();
        let advice = match kind {
            RequestErrorKind::Denied if response.status == StatusCode::UNAUTHORIZED => {
                format!("the token of {whom} is not accepted: check its tenant, and the cloud")
            }
            RequestErrorKind::Denied => {
                format!("give {whom} the role `Log Analytics Reader` on the workspace, and wait some minutes")
            }
            RequestErrorKind::NotFound => "check the workspace, and the cloud".to_owned(),
            RequestErrorKind::Throttled => "run when the workspace is less busy".to_owned(),
            RequestErrorKind::Status(500..) => "run again when Log Analytics is well".to_owned(),
            _ => String::new(),
        };
        let error = RequestError::new(kind, response.description()).with_help(advice);
        let inner = serde_json::from_slice::<WireRefusal>(&response.body).ok().and_then(|body| body.error.innermost());
        match inner {
            Some(inner) => error.caused_by(Cause::foreign(RequestError::new(kind, inner))),
            None => error,
        }
    }
}

impl WireTable {
    /// Returns the values of these columns of all rows, or why it does not have them.
    fn select<const N: usize>(self, columns: [&str; N]) -> Result<Vec<[String; N]>, String> {
        let mut places = [0; N];
        for (place, wanted) in places.iter_mut().zip(columns) {
            *place = self
                .columns
                .iter()
                .position(|column| column.name == wanted)
                .ok_or_else(|| format!("its table `{}` has no column `{wanted}`", self.name))?;
        }
        let width = self.columns.len();
        let select = |mut row: Vec<Option<String>>| {
            if row.len() != width {
                return Err(format!("a row has {} values for {width} columns", row.len()));
            }
            Ok(places.map(|place| row[place].take().unwrap_or_default()))
        };
        self.rows.into_iter().map(select).collect()
    }
}

impl WireError {
    /// Describes the error by its code and the most specific message.
    fn describe(self) -> String {
        let (code, message) = (self.code.clone(), self.message.clone());
        let text = self.innermost().unwrap_or(message);
        if text.is_empty() { code } else { format!("{code}: {text}") }
    }

    /// Returns the code and message of its innermost cause, if it has one.
    fn innermost(self) -> Option<String> {
        let mut cause = self.innererror.map(|inner| *inner).or_else(|| self.details?.into_iter().next())?;
        while let Some(inner) = cause.innererror.take() {
            cause = *inner;
        }
        Some(if cause.code.is_empty() { cause.message } else { format!("{}: {}", cause.code, cause.message) })
    }
}
