//! Lists in the order of their ids, read whole or not at all.
//!
//! Harbor's pages are places in a list: what is removed while it is read moves everything behind it one place up, and the
//! first row of the next page would be missed. So each request asks for the rows *after* an id in place of a page. What was
//! read stays read then, and no request is spent on an overlap. How many rows are left comes with each answer.

use http::StatusCode;
use serde_json::Value;

use super::api::HarborReader;
use super::wire::{self, Right};
use crate::domain::RepositoryName;
use crate::registry::client::auth::TokenScope;
use crate::registry::{RegistryError, RegistryErrorKind};

/// The most that Harbor gives in one answer.
pub(super) const PAGE_SIZE: usize = 100;
/// Most rows: a longer list is a loop.
const MAX_ROWS: usize = 5_000_000;

/// A list of Harbor's.
pub(super) struct KeysetList<'a> {
    /// Its path, slashes in names encoded.
    pub(super) path: String,
    /// The parameter by which rows are sorted and selected, and the field of a row that has it.
    pub(super) key: (&'static str, &'static str),
    /// Further conditions in Harbor's query language.
    pub(super) condition: Option<String>,
    /// Further parameters.
    pub(super) parameters: &'a [(&'a str, &'a str)],
    /// The repository that it is about.
    pub(super) repository: Option<&'a RepositoryName>,
}

impl HarborReader {
    /// All rows of a list; `None` where Harbor says that the thing that it is about does not exist.
    ///
    /// # Errors
    /// When an answer could not be read, or the rows do not come in the order of their ids.
    pub(super) async fn read_list(&self, list: &KeysetList<'_>) -> Result<Option<Vec<Value>>, RegistryError> {
        let (parameter, field) = list.key;
        let scope = list.repository.map_or(TokenScope::Catalogue, |name| TokenScope::List(name.clone()));
        let (mut rows, mut last_id) = (Vec::new(), 0);
        loop {
            let mut conditions = list.condition.clone().map(|condition| vec![condition]).unwrap_or_default();
            conditions.extend((last_id > 0).then(|| format!("{parameter}=[{}~]", last_id + 1)));
            let (size, conditions) = (PAGE_SIZE.to_string(), conditions.join(","));
            let mut query = vec![("page_size", &*size), ("sort", parameter)];
            query.extend((!conditions.is_empty()).then_some(("q", &*conditions)));
            query.extend(list.parameters);
            let response = self.get(&scope, &list.path, &query).await?;
            match response.status {
                StatusCode::OK => {}
                _ if wire::is_absence(&response) => return Ok(None),
                _ => return Err(wire::refusal(&response, Right::Read)),
            }
            // Harbor writes `null` for an empty list.
            let page: Vec<Value> = response.parse_json::<Option<_>>()?.unwrap_or_default();
            let left: Option<usize> = response.header("x-total-count").and_then(|count| count.trim().parse().ok());
            for row in &page {
                let id = row[field].as_i64().filter(|id| *id > last_id);
                last_id = id.ok_or_else(|| {
                    response.malformed("its rows are not in the order of their ids, so rows could be missed")
                })?;
            }
            let read = page.len();
            rows.extend(page);
            if rows.len() > MAX_ROWS {
                return Err(incomplete(list, "it has no end"));
            }
            match left {
                Some(left) if left <= read => return Ok(Some(rows)),
                Some(_) if read == 0 => return Err(incomplete(list, "Harbor counts more rows than it lists")),
                // Without a count only an empty answer is the end.
                None if read == 0 => return Ok(Some(rows)),
                Some(_) | None => {}
            }
        }
    }
}

fn incomplete(list: &KeysetList<'_>, why: &str) -> RegistryError {
    RegistryError::new(RegistryErrorKind::Malformed, format!("the list {} is not complete: {why}", list.path))
}
