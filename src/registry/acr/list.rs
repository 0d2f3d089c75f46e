//! The lists of Azure Container Registry, page by page.

use std::collections::HashSet;

use http::StatusCode;
use url::Url;

use crate::registry::auth::Grant;
use crate::registry::http::{Redirects, RegistryHttp};
use crate::registry::{RegistryError, RegistryErrorKind, paging};
use crate::transport::{Answer, Ask};

/// The most that the service gives on a page; it gives as many where more are asked for.
const PAGE: usize = 1000;
/// Most bytes of a page.
const PAGE_LIMIT: usize = 64 << 20;
/// More pages than this are no list but a loop that keeps inventing names.
const MOST_PAGES: usize = 20_000;

/// What to list.
pub(super) struct List<T> {
    /// Its path, such as `/acr/v1/shop/api/_tags`.
    pub(super) path: String,
    /// What it takes to read it.
    pub(super) grant: Grant,
    /// The items of a page; none at all (as opposed to an empty list) is a fault.
    pub(super) read: fn(&[u8]) -> Result<Option<Vec<T>>, serde_json::Error>,
    /// The name by which the service goes on after an item.
    pub(super) key: fn(&T) -> &str,
}

/// A list as far as it could be read.
#[derive(Debug)]
pub(super) struct Listed<T> {
    /// The items, each once.
    pub(super) items: Vec<T>,
    /// Why that may not be all.
    pub(super) trouble: Option<RegistryError>,
}

/// Reads a list to its end. Nothing where the registry does not know the repository.
///
/// Of a `Link` only `last` is taken: the service's own address of the next page leaves parameters out. Whether there is
/// a next page is told by the `Link` and never by the length of a page; only a page that is exactly full is asked on
/// without one, because lists have been cut without a word.
///
/// # Errors
/// When not even the first page could be read.
pub(super) async fn all<T>(http: &RegistryHttp, list: &List<T>) -> Result<Option<Listed<T>>, RegistryError> {
    let mut answer = page(http, list, None).await?;
    if answer.is_absence() && answer.code().as_deref() == Some("NAME_UNKNOWN") {
        return Ok(None);
    }
    if answer.status != StatusCode::OK {
        return Err(answer.refusal());
    }
    let mut listed = Listed { items: Vec::new(), trouble: None };
    let mut known: HashSet<String> = HashSet::new();
    let mut visited: HashSet<String> = HashSet::new();
    loop {
        let items = match (list.read)(&answer.body) {
            Ok(Some(items)) => items,
            Ok(None) => return failed(listed, answer.malformed("the list is not in it")),
            Err(error) => return failed(listed, answer.malformed(&error.to_string())),
        };
        let (count, before) = (items.len(), known.len());
        listed.items.extend(items.into_iter().filter(|item| known.insert((list.key)(item).to_owned())));
        let new = known.len() > before;
        let own = listed.items.last().map(|item| (list.key)(item).to_owned());
        let last = match paging::next_link(&answer.headers) {
            Some(link) if new => match last_in(http, &link) {
                Ok(last) => last.or(own),
                Err(why) => return failed(listed, trouble(&answer, &why)),
            },
            Some(_) => {
                let why = "a page brought nothing new and yet has a `Link` to a next one";
                return failed(listed, trouble(&answer, why));
            }
            None if count == PAGE && new => own,
            None => return Ok(Some(listed)),
        };
        let Some(last) = last else {
            return failed(listed, trouble(&answer, "an empty page has a `Link` to a next one"));
        };
        if visited.len() >= MOST_PAGES || !visited.insert(last.clone()) {
            return failed(listed, trouble(&answer, "its `Link` leads in a circle"));
        }
        answer = match page(http, list, Some(&last)).await {
            Ok(answer) if answer.status == StatusCode::OK => answer,
            Ok(answer) => return failed(listed, answer.refusal()),
            Err(error) => return failed(listed, error),
        };
    }
}

/// What a list has after the end that it gave; honest ones have nothing.
pub(super) async fn beyond<T>(http: &RegistryHttp, list: &List<T>, last: &str) -> Result<Vec<T>, RegistryError> {
    let answer = page(http, list, Some(last)).await?;
    if answer.status != StatusCode::OK {
        return Err(answer.refusal());
    }
    match (list.read)(&answer.body) {
        Ok(items) => Ok(items.unwrap_or_default()),
        Err(error) => Err(answer.malformed(&error.to_string())),
    }
}

async fn page<T>(http: &RegistryHttp, list: &List<T>, last: Option<&str>) -> Result<Answer, RegistryError> {
    let mut url = http.url(&list.path);
    url.query_pairs_mut().append_pair("n", &PAGE.to_string()).extend_pairs(last.map(|last| ("last", last)));
    http.read(&list.grant, Ask::get(url, "application/json", PAGE_LIMIT), Redirects::Registry).await
}

/// The `last` of a link to the next page, which must be the registry's own.
fn last_in(http: &RegistryHttp, link: &str) -> Result<Option<String>, String> {
    let base = http.url("/");
    let url: Url = base.join(link).map_err(|_| "its `Link` to the next page is no address".to_owned())?;
    if !http.is_own(&url) {
        let origin = url.origin().ascii_serialization();
        return Err(format!("its `Link` to the next page leads elsewhere, to {origin}, and is not followed"));
    }
    Ok(url.query_pairs().find(|(key, _)| key == "last").map(|(_, last)| last.into_owned()))
}

fn failed<T>(listed: Listed<T>, error: RegistryError) -> Result<Option<Listed<T>>, RegistryError> {
    if listed.items.is_empty() {
        return Err(error);
    }
    Ok(Some(Listed { trouble: Some(error), ..listed }))
}

fn trouble(answer: &Answer, why: &str) -> RegistryError {
    RegistryError {
        kind: RegistryErrorKind::Malformed,
        message: format!("{}: the list is not complete: {why}", answer.asked),
    }
}
