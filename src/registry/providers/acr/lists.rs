//! The lists of Azure Container Registry, page by page.

use std::collections::HashSet;
use std::fmt::Display;
use std::hash::Hash;

use http::StatusCode;

use crate::http_client::{Request, Response};
use crate::registry::client::auth::TokenScope;
use crate::registry::client::connection::{HttpConnection, RedirectPolicy};
use crate::registry::client::pagination;
pub(super) use crate::registry::client::tag_rows::InvalidRow;
use crate::registry::{RegistryError, RegistryErrorKind};

/// The most that the service gives on a page; it gives as many where more are asked for.
pub(super) const PAGE_SIZE: usize = 1000;
/// Most bytes of a page.
const MAX_PAGE_BYTES: usize = 64 << 20;
/// More pages than this are no list but a loop that keeps inventing names.
const MAX_PAGES: usize = 20_000;

/// What is listed.
pub(super) trait Row {
    /// The name by which the service goes on after it.
    type Key: Clone + Eq + Ord + Hash + Display + Send + Sync;

    fn key(&self) -> &Self::Key;
}

/// What a page holds; no list at all (as opposed to an empty one) is a fault.
pub(super) type ParsedPage<T> = Result<Option<Vec<Result<T, InvalidRow>>>, serde_json::Error>;

/// Understands a page. What comes of it is small: the words of a page are not held until the last one is there.
type PageParser<'a, T> = Box<dyn Fn(&[u8]) -> ParsedPage<T> + Send + Sync + 'a>;

/// What to list.
pub(super) struct ListRequest<'a, T> {
    /// Its path, such as `/acr/v1/shop/api/_tags`.
    pub(super) path: String,
    /// What it takes to read it.
    pub(super) scope: TokenScope,
    /// Understands a page.
    pub(super) parse_page: PageParser<'a, T>,
}

/// A list as far as it could be read.
#[derive(Debug)]
pub(super) struct RowList<T> {
    /// Its rows, each once.
    pub(super) rows: Vec<T>,
    /// What else is in it, each once.
    pub(super) invalid: Vec<InvalidRow>,
    /// Why that may not be all.
    pub(super) error: Option<RegistryError>,
}

impl<T> Default for RowList<T> {
    fn default() -> Self {
        Self { rows: Vec::new(), invalid: Vec::new(), error: None }
    }
}

impl<T> RowList<T> {
    /// How many it has.
    pub(super) fn len(&self) -> usize {
        self.rows.len() + self.invalid.len()
    }
}

/// Where a walk through a list begins, and in which order it goes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PageQuery<'a> {
    /// Begins after this one.
    pub(super) after: Option<&'a str>,
    /// The service's word for the order; nothing is by name.
    pub(super) order: Option<&'static str>,
}

/// What came of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PageResult {
    /// It brought something new.
    NewRows,
    /// It brought nothing new.
    NoNewRows,
    /// No further page is wanted.
    Stop,
}

/// How a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScanEnd {
    /// The registry does not know the repository.
    UnknownRepository,
    /// There is no further page, or none is wanted.
    Completed,
}

/// Reads a list to its end. Nothing where the registry does not know the repository.
///
/// # Errors
/// When not even the first page could be read.
pub(super) async fn read_all<T: Row>(
    http: &HttpConnection,
    list: &ListRequest<'_, T>,
) -> Result<Option<RowList<T>>, RegistryError> {
    let mut listed = RowList::default();
    let mut known: HashSet<T::Key> = HashSet::new();
    let mut known_odd: HashSet<String> = HashSet::new();
    let walked = scan(http, list, PageQuery::default(), |page| {
        let before = listed.len();
        for row in page {
            match row {
                Ok(row) if known.insert(row.key().clone()) => listed.rows.push(row),
                Err(odd) if known_odd.insert(odd.name.clone()) => listed.invalid.push(odd),
                Ok(_) | Err(_) => {}
            }
        }
        if listed.len() > before { PageResult::NewRows } else { PageResult::NoNewRows }
    });
    match walked.await {
        Ok(ScanEnd::UnknownRepository) => Ok(None),
        Ok(ScanEnd::Completed) => Ok(Some(listed)),
        Err(error) if listed.len() == 0 => Err(error),
        Err(error) => Ok(Some(RowList { error: Some(error), ..listed })),
    }
}

/// Goes through a list page by page, as long as `take` wants more.
///
/// Of a `Link` only `last` is taken: the service's own address of the next page leaves parameters out. Whether there is
/// a next page is told by the `Link` and never by the length of a page; only a page that is exactly full is asked on
/// without one, because lists have been cut without a word.
///
/// # Errors
/// When a page could not be read, or it cannot be the whole list that was read.
pub(super) async fn scan<T: Row>(
    http: &HttpConnection,
    list: &ListRequest<'_, T>,
    way: PageQuery<'_>,
    mut take: impl FnMut(Vec<Result<T, InvalidRow>>) -> PageResult,
) -> Result<ScanEnd, RegistryError> {
    let mut slot = http.page_slots.acquire().await.ok();
    let mut response = fetch_page(http, list, way, PAGE_SIZE).await?;
    if response.is_absence() && response.error_code().as_deref() == Some("NAME_UNKNOWN") {
        return Ok(ScanEnd::UnknownRepository);
    }
    let mut visited: HashSet<String> = HashSet::new();
    loop {
        let rows = parse_rows(list, &response)?;
        response.body = Vec::new();
        drop(slot);
        let count = rows.len();
        let own = rows.last().map(|row| match row {
            Ok(row) => row.key().to_string(),
            Err(odd) => odd.name.clone(),
        });
        let took = take(rows);
        let after =
            match pagination::next_page_link(&response.headers).map_err(|why| incomplete_list_error(&response, why))? {
                _ if took == PageResult::Stop => return Ok(ScanEnd::Completed),
                Some(link) if took == PageResult::NewRows => {
                    last_parameter(http, &link).map_err(|why| incomplete_list_error(&response, why))?.or(own)
                }
                Some(_) => {
                    return Err(incomplete_list_error(
                        &response,
                        "a page brought nothing new and yet has a `Link` to a next one",
                    ));
                }
                None if count == PAGE_SIZE && took == PageResult::NewRows => own,
                None => return Ok(ScanEnd::Completed),
            };
        let Some(after) = after else {
            return Err(incomplete_list_error(&response, "an empty page has a `Link` to a next one"));
        };
        if visited.len() >= MAX_PAGES || !visited.insert(after.clone()) {
            return Err(incomplete_list_error(&response, "its `Link` leads in a circle"));
        }
        slot = http.page_slots.acquire().await.ok();
        response = fetch_page(http, list, PageQuery { after: Some(&after), ..way }, PAGE_SIZE).await?;
    }
}

/// What a list begins with on that way, at most so many rows.
pub(super) async fn fetch_rows<T: Row>(
    http: &HttpConnection,
    list: &ListRequest<'_, T>,
    way: PageQuery<'_>,
    most: usize,
) -> Result<Vec<Result<T, InvalidRow>>, RegistryError> {
    parse_rows(list, &fetch_page(http, list, way, most).await?)
}

fn parse_rows<T>(list: &ListRequest<'_, T>, response: &Response) -> Result<Vec<Result<T, InvalidRow>>, RegistryError> {
    if response.status != StatusCode::OK {
        return Err(response.status_error());
    }
    match (list.parse_page)(&response.body) {
        Ok(Some(rows)) => Ok(rows),
        Ok(None) => Err(response.malformed("the list is not in it")),
        Err(error) => Err(response.unparsable(error)),
    }
}

async fn fetch_page<T>(
    http: &HttpConnection,
    list: &ListRequest<'_, T>,
    way: PageQuery<'_>,
    most: usize,
) -> Result<Response, RegistryError> {
    let mut url = http.url(&list.path);
    url.query_pairs_mut()
        .append_pair("n", &most.to_string())
        .extend_pairs(way.after.map(|last| ("last", last)))
        .extend_pairs(way.order.map(|order| ("orderby", order)));
    http.read(&list.scope, Request::get(url, "application/json", MAX_PAGE_BYTES), RedirectPolicy::SameOrigin).await
}

/// The `last` of a link to the next page, whatever address the link names.
fn last_parameter(http: &HttpConnection, link: &str) -> Result<Option<String>, &'static str> {
    let url = pagination::next_page_url(&http.url("/"), link)?;
    Ok(url.query_pairs().find(|(key, last)| key == "last" && !last.is_empty()).map(|(_, last)| last.into_owned()))
}

fn incomplete_list_error(response: &Response, why: &str) -> RegistryError {
    RegistryError::new(RegistryErrorKind::Malformed, format!("{}: the list is not complete: {why}", response.request))
}
