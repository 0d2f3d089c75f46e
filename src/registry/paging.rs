//! Lists in pages, as the distribution specification has them: `n`, `last` and `Link` (RFC 8288).

use std::collections::HashSet;

use http::StatusCode;
use http::header::{HeaderMap, LINK};
use url::Url;

use super::auth::Grant;
use super::http::{Redirects, RegistryHttp};
use super::{RegistryError, RegistryErrorKind};
use crate::transport::{Answer, Ask};

/// Page sizes, the preferred one first. The specification lets a registry refuse a size that it finds too large.
const PAGE_SIZES: [usize; 2] = [1000, 100];
/// Most bytes of a page.
const PAGE_LIMIT: usize = 64 << 20;
/// More pages than this are no list but a loop that keeps inventing names.
const MOST_PAGES: usize = 20_000;

/// The kind of list, and how to read a page of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct List {
    pub(super) accept: &'static str,
    pub(super) read: fn(&[u8]) -> Result<Vec<String>, String>,
}

/// The first page of a list.
#[derive(Debug)]
pub(super) struct First {
    /// Whatever came, whatever its status.
    pub(super) answer: Answer,
    url: Url,
    /// The page size that was asked for.
    size: Option<usize>,
}

/// A list as far as it could be read.
#[derive(Debug, Default)]
pub(super) struct Pages {
    /// What it names, each once, in the registry's order.
    pub(super) names: Vec<String>,
    /// Pages that were read.
    pub(super) read: usize,
    /// Why it is not the whole list.
    pub(super) trouble: Option<RegistryError>,
}

/// Asks for the first page, as large as the registry likes. Gives the answer, whatever its status, and its address.
pub(super) async fn first(http: &RegistryHttp, grant: &Grant, start: &Url, list: List) -> Result<First, RegistryError> {
    let [preferred, modest] = PAGE_SIZES;
    let ask = async |size| {
        let url = sized(start, size, None);
        page(http, grant, url.clone(), list).await.map(|answer| First { answer, url, size: Some(size) })
    };
    let first = ask(preferred).await?;
    let too_large = first.answer.status == StatusCode::BAD_REQUEST
        && first.answer.code().as_deref() == Some("PAGINATION_NUMBER_INVALID");
    if too_large { ask(modest).await } else { Ok(first) }
}

/// Asks for a first page of whatever size the registry chooses.
pub(super) async fn first_unsized(
    http: &RegistryHttp,
    grant: &Grant,
    url: Url,
    list: List,
) -> Result<First, RegistryError> {
    page(http, grant, url.clone(), list).await.map(|answer| First { answer, url, size: None })
}

/// Reads a first page that was answered well, and all that follow it.
///
/// A `Link` is followed on the registry itself only, and only as long as it brings something new. A page that is exactly
/// full and has no `Link` is asked on by `last`: lists have been cut without a word.
pub(super) async fn all(http: &RegistryHttp, grant: &Grant, first: First, list: List) -> Pages {
    let First { mut answer, url: mut current, size } = first;
    let mut pages = Pages::default();
    let mut known = HashSet::new();
    let mut visited = HashSet::from([current.clone()]);
    loop {
        let names = match (list.read)(&answer.body) {
            Ok(names) => names,
            Err(why) => {
                pages.trouble = Some(answer.malformed(&why));
                return pages;
            }
        };
        pages.read += 1;
        let (count, before) = (names.len(), known.len());
        pages.names.extend(names.into_iter().filter(|name| known.insert(name.clone())));
        let new = known.len() > before;
        let next = match next_link(&answer.headers) {
            Some(target) => match linked(http, &current, &target, new) {
                Ok(next) => next,
                Err(why) => {
                    pages.trouble = Some(trouble(&answer, &why));
                    return pages;
                }
            },
            None => match (size, pages.names.last()) {
                (Some(size), Some(name)) if count == size && new => sized(&current, size, Some(name)),
                _ => return pages,
            },
        };
        if !visited.insert(next.clone()) || pages.read >= MOST_PAGES {
            pages.trouble = Some(trouble(&answer, "its `Link` leads in a circle"));
            return pages;
        }
        answer = match page(http, grant, next.clone(), list).await {
            Ok(answer) if answer.status == StatusCode::OK => answer,
            Ok(answer) => {
                pages.trouble = Some(answer.refusal());
                return pages;
            }
            Err(error) => {
                pages.trouble = Some(error);
                return pages;
            }
        };
        current = next;
    }
}

async fn page(http: &RegistryHttp, grant: &Grant, url: Url, list: List) -> Result<Answer, RegistryError> {
    http.read(grant, Ask::get(url, list.accept, PAGE_LIMIT), Redirects::Registry).await
}

fn sized(list: &Url, size: usize, after: Option<&str>) -> Url {
    let mut url = list.clone();
    url.set_query(None);
    url.query_pairs_mut().append_pair("n", &size.to_string()).extend_pairs(after.map(|name| ("last", name)));
    url
}

/// Where a `Link` leads, if it may be followed.
fn linked(http: &RegistryHttp, current: &Url, target: &str, new: bool) -> Result<Url, String> {
    let next = current.join(target).map_err(|_| "its `Link` to the next page is no address".to_owned())?;
    if !http.is_own(&next) {
        return Err(format!(
            "its `Link` to the next page leads elsewhere, to {}, and is not followed",
            next.origin().ascii_serialization()
        ));
    }
    if !new {
        return Err("a page brought nothing new and yet has a `Link` to a next one".into());
    }
    Ok(next)
}

fn trouble(answer: &Answer, why: &str) -> RegistryError {
    RegistryError {
        kind: RegistryErrorKind::Malformed,
        message: format!("{}: the list is not complete: {why}", answer.asked),
    }
}

/// The target of the link with the relation `next` in all `Link` headers.
pub(crate) fn next_link(headers: &HeaderMap) -> Option<String> {
    headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok()).find_map(next_in)
}

fn next_in(mut text: &str) -> Option<String> {
    loop {
        let (_, rest) = text.split_once('<')?;
        let (target, rest) = rest.split_once('>')?;
        let end = unquoted(rest, ',').unwrap_or(rest.len());
        let is_next = split_unquoted(&rest[..end]).any(|parameter| {
            parameter.split_once('=').is_some_and(|(name, value)| {
                name.trim().eq_ignore_ascii_case("rel")
                    && value.trim().trim_matches('"').split_ascii_whitespace().any(|r| r.eq_ignore_ascii_case("next"))
            })
        });
        if is_next {
            return Some(target.trim().to_owned());
        }
        text = &rest[end..];
    }
}

/// The place of the first such character outside of quotes.
fn unquoted(text: &str, wanted: char) -> Option<usize> {
    let mut quoted = false;
    text.char_indices().find_map(|(at, character)| {
        quoted ^= character == '"';
        (character == wanted && !quoted).then_some(at)
    })
}

fn split_unquoted(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (part, after) = match unquoted(text, ';') {
            Some(at) => (&text[..at], Some(&text[at + 1..])),
            None => (text, None),
        };
        rest = after;
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_link_is_found_among_others() {
        for (header, expected) in [
            ("</v2/_catalog?last=a&n=1>; rel=\"next\"", Some("/v2/_catalog?last=a&n=1")),
            ("</a>;rel=next", Some("/a")),
            ("<https://r.example/a,b;c>; title=\"x, y; rel=\"; REL = \"prev NEXT\"", Some("https://r.example/a,b;c")),
            ("</p>; rel=\"prev\", </n>; rel=\"next\"", Some("/n")),
            ("</p>; title=\"a, <b>; rel=next\"; rel=prev , </n>; rel=next", Some("/n")),
            ("</p>; rel=\"prev\"", None),
            ("</p>", None),
            ("</p; rel=next", None),
            ("", None),
        ] {
            let headers: HeaderMap = [(LINK, header.parse().unwrap())].into_iter().collect();
            assert_eq!(next_link(&headers).as_deref(), expected, "{header}");
        }
        let mut several = HeaderMap::new();
        several.append(LINK, "</p>; rel=prev".parse().unwrap());
        several.append(LINK, "</n>; rel=next".parse().unwrap());
        assert_eq!(next_link(&several).as_deref(), Some("/n"));
    }
}
