//! The lists of Azure Container Registry, page by page.

use std::collections::HashSet;
use std::fmt::Display;
use std::hash::Hash;

use http::StatusCode;

use crate::registry::auth::Grant;
use crate::registry::http::{Redirects, RegistryHttp};
use crate::registry::{RegistryError, RegistryErrorKind, paging};
use crate::transport::{Answer, Ask};

/// The most that the service gives on a page; it gives as many where more are asked for.
pub(super) const PAGE: usize = 1000;
/// Most bytes of a page.
const PAGE_LIMIT: usize = 64 << 20;
/// More pages than this are no list but a loop that keeps inventing names.
const MOST_PAGES: usize = 20_000;

/// What is listed.
pub(super) trait Row {
    /// The name by which the service goes on after it.
    type Key: Clone + Eq + Ord + Hash + Display + Send + Sync;

    fn key(&self) -> &Self::Key;
}

/// What is listed and cannot be understood.
#[derive(Debug)]
pub(super) struct Odd {
    /// Its name, as far as it has one.
    pub(super) name: String,
    /// What is wrong with it.
    pub(super) why: String,
}

/// What a page holds; no list at all (as opposed to an empty one) is a fault.
pub(super) type Page<T> = Result<Option<Vec<Result<T, Odd>>>, serde_json::Error>;

/// Understands a page. What comes of it is small: the words of a page are not held until the last one is there.
type Read<'a, T> = Box<dyn Fn(&[u8]) -> Page<T> + Send + Sync + 'a>;

/// What to list.
pub(super) struct List<'a, T> {
    /// Its path, such as `/acr/v1/shop/api/_tags`.
    pub(super) path: String,
    /// What it takes to read it.
    pub(super) grant: Grant,
    /// Understands a page.
    pub(super) read: Read<'a, T>,
}

/// A list as far as it could be read.
#[derive(Debug)]
pub(super) struct Listed<T> {
    /// Its rows, each once.
    pub(super) rows: Vec<T>,
    /// What else is in it, each once.
    pub(super) odd: Vec<Odd>,
    /// Why that may not be all.
    pub(super) trouble: Option<RegistryError>,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self { rows: Vec::new(), odd: Vec::new(), trouble: None }
    }
}

impl<T> Listed<T> {
    /// How many it has.
    pub(super) fn len(&self) -> usize {
        self.rows.len() + self.odd.len()
    }
}

/// Where a walk through a list begins, and in which order it goes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Way<'a> {
    /// Begins after this one.
    pub(super) after: Option<&'a str>,
    /// The service's word for the order; nothing is by name.
    pub(super) order: Option<&'static str>,
}

/// What came of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Took {
    /// It brought something new.
    New,
    /// It brought nothing new.
    Nothing,
    /// No further page is wanted.
    Enough,
}

/// How a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The registry does not know the repository.
    Unknown,
    /// There is no further page, or none is wanted.
    Reached,
}

/// Reads a list to its end. Nothing where the registry does not know the repository.
///
/// # Errors
/// When not even the first page could be read.
pub(super) async fn all<T: Row>(http: &RegistryHttp, list: &List<'_, T>) -> Result<Option<Listed<T>>, RegistryError> {
    let mut listed = Listed::default();
    let mut known: HashSet<T::Key> = HashSet::new();
    let mut known_odd: HashSet<String> = HashSet::new();
    let walked = walk(http, list, Way::default(), |page| {
        let before = listed.len();
        for row in page {
            match row {
                Ok(row) if known.insert(row.key().clone()) => listed.rows.push(row),
                Err(odd) if known_odd.insert(odd.name.clone()) => listed.odd.push(odd),
                Ok(_) | Err(_) => {}
            }
        }
        if listed.len() > before { Took::New } else { Took::Nothing }
    });
    match walked.await {
        Ok(End::Unknown) => Ok(None),
        Ok(End::Reached) => Ok(Some(listed)),
        Err(error) if listed.len() == 0 => Err(error),
        Err(error) => Ok(Some(Listed { trouble: Some(error), ..listed })),
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
pub(super) async fn walk<T: Row>(
    http: &RegistryHttp,
    list: &List<'_, T>,
    way: Way<'_>,
    mut take: impl FnMut(Vec<Result<T, Odd>>) -> Took,
) -> Result<End, RegistryError> {
    let mut answer = page(http, list, way, PAGE).await?;
    if answer.is_absence() && answer.code().as_deref() == Some("NAME_UNKNOWN") {
        return Ok(End::Unknown);
    }
    let mut visited: HashSet<String> = HashSet::new();
    loop {
        let rows = understood(list, &answer)?;
        let count = rows.len();
        let own = rows.last().map(|row| match row {
            Ok(row) => row.key().to_string(),
            Err(odd) => odd.name.clone(),
        });
        let took = take(rows);
        let after = match paging::following(&answer.headers).map_err(|why| trouble(&answer, why))? {
            _ if took == Took::Enough => return Ok(End::Reached),
            Some(link) if took == Took::New => last_in(http, &link).map_err(|why| trouble(&answer, why))?.or(own),
            Some(_) => return Err(trouble(&answer, "a page brought nothing new and yet has a `Link` to a next one")),
            None if count == PAGE && took == Took::New => own,
            None => return Ok(End::Reached),
        };
        let Some(after) = after else {
            return Err(trouble(&answer, "an empty page has a `Link` to a next one"));
        };
        if visited.len() >= MOST_PAGES || !visited.insert(after.clone()) {
            return Err(trouble(&answer, "its `Link` leads in a circle"));
        }
        answer = page(http, list, Way { after: Some(&after), ..way }, PAGE).await?;
    }
}

/// What a list begins with on that way, at most so many rows.
pub(super) async fn some<T: Row>(
    http: &RegistryHttp,
    list: &List<'_, T>,
    way: Way<'_>,
    most: usize,
) -> Result<Vec<Result<T, Odd>>, RegistryError> {
    understood(list, &page(http, list, way, most).await?)
}

fn understood<T>(list: &List<'_, T>, answer: &Answer) -> Result<Vec<Result<T, Odd>>, RegistryError> {
    if answer.status != StatusCode::OK {
        return Err(answer.refusal());
    }
    match (list.read)(&answer.body) {
        Ok(Some(rows)) => Ok(rows),
        Ok(None) => Err(answer.malformed("the list is not in it")),
        Err(error) => Err(answer.malformed(&error.to_string())),
    }
}

async fn page<T>(http: &RegistryHttp, list: &List<'_, T>, way: Way<'_>, most: usize) -> Result<Answer, RegistryError> {
    let mut url = http.url(&list.path);
    url.query_pairs_mut()
        .append_pair("n", &most.to_string())
        .extend_pairs(way.after.map(|last| ("last", last)))
        .extend_pairs(way.order.map(|order| ("orderby", order)));
    http.read(&list.grant, Ask::get(url, "application/json", PAGE_LIMIT), Redirects::Registry).await
}

/// The `last` of a link to the next page, whatever address the link names.
fn last_in(http: &RegistryHttp, link: &str) -> Result<Option<String>, &'static str> {
    let url = paging::linked(&http.url("/"), link)?;
    Ok(url.query_pairs().find(|(key, last)| key == "last" && !last.is_empty()).map(|(_, last)| last.into_owned()))
}

fn trouble(answer: &Answer, why: &str) -> RegistryError {
    RegistryError {
        kind: RegistryErrorKind::Malformed,
        message: format!("{}: the list is not complete: {why}", answer.asked),
    }
}
