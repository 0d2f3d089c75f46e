//! Paged lists, as in the distribution specification: `n`, `last` and `Link` (RFC 8288).

use std::collections::HashSet;

use http::StatusCode;
use http::header::{HeaderMap, LINK};
use url::Url;

use super::auth::TokenScope;
use super::connection::{HttpConnection, RedirectPolicy};
use super::wire::InvalidContent;
use crate::http_client::{Request, Response};
use crate::registry::{RegistryError, RegistryErrorKind};

/// Page sizes, the preferred one first. The specification lets a registry refuse a size as too large.
const PAGE_SIZES: [usize; 2] = [1000, 100];
/// Most bytes of a page.
const MAX_PAGE_BYTES: usize = 64 << 20;
/// Longer lists are cyclic or invent new names.
const MAX_PAGES: usize = 20_000;
/// Most consecutive pages without new names: lists that omit what the reader may not see have empty pages.
const MAX_IDLE_PAGES: usize = 3;

/// The format of a list, and the parser of its pages.
#[derive(Debug, Clone, Copy)]
pub(in crate::registry) struct ListFormat {
    pub(in crate::registry) accept: &'static str,
    pub(in crate::registry) parse_page: fn(&[u8], PageContext<'_>) -> Result<Vec<String>, InvalidContent>,
}

/// The context of a page.
#[derive(Debug, Clone, Copy)]
pub(in crate::registry) struct PageContext<'a> {
    /// The path of the list.
    pub(in crate::registry) path: &'a str,
    /// True if it was requested although no page before it linked to it.
    pub(in crate::registry) is_unlinked: bool,
}

/// The first page of a list.
#[derive(Debug)]
pub(in crate::registry) struct FirstPage {
    /// The response, whatever its status.
    pub(in crate::registry) response: Response,
    url: Url,
    /// The requested page size.
    page_size: Option<usize>,
}

/// A list as far as it could be read.
#[derive(Debug, Default)]
pub(in crate::registry) struct NameList {
    /// Its names, each once, in the registry's order.
    pub(in crate::registry) names: Vec<String>,
    /// Pages that were read.
    pub(in crate::registry) pages_read: usize,
    /// Why it is incomplete.
    pub(in crate::registry) error: Option<RegistryError>,
}

/// Requests the first page, as large as the registry allows. Returns the response, whatever its status, and its
/// address.
pub(in crate::registry) async fn first_page(
    http: &HttpConnection,
    scope: &TokenScope,
    start: &Url,
    list: ListFormat,
) -> Result<FirstPage, RegistryError> {
    let [preferred, modest] = PAGE_SIZES;
    let request = async |size| {
        let url = page_url(start, size, None);
        fetch_page(http, scope, url.clone(), list).await.map(|answer| FirstPage {
            response: answer,
            url,
            page_size: Some(size),
        })
    };
    let first = request(preferred).await?;
    let too_large = first.response.status == StatusCode::BAD_REQUEST
        && first.response.error_code().as_deref() == Some("PAGINATION_NUMBER_INVALID");
    if too_large { request(modest).await } else { Ok(first) }
}

/// Requests a first page of the registry's default size.
pub(in crate::registry) async fn first_page_unsized(
    http: &HttpConnection,
    scope: &TokenScope,
    url: Url,
    list: ListFormat,
) -> Result<FirstPage, RegistryError> {
    fetch_page(http, scope, url.clone(), list).await.map(|answer| FirstPage { response: answer, url, page_size: None })
}

/// Reads a successful first page, and all that follow it.
///
/// Only the query of a `Link` is used, with the requested address: behind a proxy registries name themselves by another
/// scheme, host or path, which must get neither credentials nor trust. A link is followed only as long as its query is
/// new. After an exactly full page without a `Link`, the next one is requested by `last`: lists have been truncated
/// silently.
pub(in crate::registry) async fn read_all(
    http: &HttpConnection,
    scope: &TokenScope,
    first: FirstPage,
    list: ListFormat,
) -> NameList {
    let FirstPage { response: mut answer, url: start, page_size: size } = first;
    let mut pages = NameList::default();
    let mut known = HashSet::new();
    let mut visited = HashSet::from([start.clone()]);
    let (mut idle, mut guessed) = (0, false);
    loop {
        let names = match (list.parse_page)(&answer.body, PageContext { path: start.path(), is_unlinked: guessed }) {
            Ok(names) => names,
            Err(why) => {
                pages.error = Some(answer.unparsable(why));
                return pages;
            }
        };
        pages.pages_read += 1;
        let (count, before) = (names.len(), known.len());
        pages.names.extend(names.into_iter().filter(|name| known.insert(name.clone())));
        let new = known.len() > before;
        idle = if new { 0 } else { idle + 1 };
        let next = match next_page_link(&answer.headers) {
            Ok(Some(_)) if idle >= MAX_IDLE_PAGES => {
                Err("page after page brings nothing new and has a `Link` to a next one")
            }
            Ok(Some(target)) => next_page_url(&start, &target),
            Ok(None) => match (size, pages.names.last()) {
                (Some(size), Some(name)) if count == size && new => Ok(page_url(&start, size, Some(name))),
                _ => return pages,
            },
            Err(why) => Err(why),
        };
        let next = next.and_then(|next| {
            let is_new = visited.insert(next.clone()) && pages.pages_read < MAX_PAGES;
            if is_new { Ok(next) } else { Err("its `Link` leads in a circle") }
        });
        let next = match next {
            Ok(next) => next,
            Err(why) => {
                pages.error = Some(incomplete_list_error(&answer, why));
                return pages;
            }
        };
        guessed = answer.headers.get(LINK).is_none();
        answer = match fetch_page(http, scope, next, list).await {
            Ok(answer) if answer.status == StatusCode::OK => answer,
            Ok(answer) => {
                pages.error = Some(answer.status_error());
                return pages;
            }
            Err(error) => {
                pages.error = Some(error);
                return pages;
            }
        };
    }
}

async fn fetch_page(
    http: &HttpConnection,
    scope: &TokenScope,
    url: Url,
    list: ListFormat,
) -> Result<Response, RegistryError> {
    http.read(scope, Request::get(url, list.accept, MAX_PAGE_BYTES), RedirectPolicy::SameOrigin).await
}

fn page_url(list: &Url, size: usize, after: Option<&str>) -> Url {
    let mut url = list.clone();
    url.set_query(None);
    url.query_pairs_mut().append_pair("n", &size.to_string()).extend_pairs(after.map(|name| ("last", name)));
    url
}

/// Returns the address of the next page: that of the first, with the query of the link.
pub(in crate::registry) fn next_page_url(start: &Url, target: &str) -> Result<Url, &'static str> {
    let joined = start.join(target).ok().filter(|_| target.contains('?')).and_then(|url| Some(url.query()?.to_owned()));
    let query = joined.or_else(|| Some(target.split_once('?')?.1.split('#').next()?.to_owned()));
    let query = query.filter(|query| !query.is_empty()).ok_or("its `Link` to the next page has no query")?;
    let mut next = start.clone();
    next.set_query(Some(&query));
    Ok(next)
}

fn incomplete_list_error(answer: &Response, why: &str) -> RegistryError {
    RegistryError::new(RegistryErrorKind::Malformed, format!("{}: the list is not complete: {why}", answer.request))
}

/// Returns the target of the link with the relation `next` in all `Link` headers.
pub(crate) fn next_link(headers: &HeaderMap) -> Option<String> {
    link_headers(headers).find_map(|text| parse_next_link(&text))
}

/// Returns the target of the link to the next page of a registry's list: one with the relation `next`, or without any
/// relation.
///
/// # Errors
/// Returns an error if no `Link` can be parsed: it may have pointed to a next page.
pub(in crate::registry) fn next_page_link(headers: &HeaderMap) -> Result<Option<String>, &'static str> {
    if let Some(target) = next_link(headers) {
        return Ok(Some(target));
    }
    for text in link_headers(headers).filter(|text| !text.trim().is_empty()) {
        let target = text.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
        match target {
            None => return Err("its `Link` cannot be understood"),
            Some((target, rest)) if !rest.to_ascii_lowercase().contains("rel") => {
                return Ok(Some(target.trim().to_owned()));
            }
            Some(_) => {}
        }
    }
    Ok(None)
}

/// Returns all `Link` headers. A character that is invalid in headers does not make one disappear.
fn link_headers(headers: &HeaderMap) -> impl Iterator<Item = String> {
    headers.get_all(LINK).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn parse_next_link(text: &str) -> Option<String> {
    let mut text = text;
    loop {
        let (_, rest) = text.split_once('<')?;
        let (target, rest) = rest.split_once('>')?;
        let end = find_unquoted(rest, ',').unwrap_or(rest.len());
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

/// Returns the position of the first such character outside of quotes.
fn find_unquoted(text: &str, wanted: char) -> Option<usize> {
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
        let (part, after) = match find_unquoted(text, ';') {
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

    #[test]
    fn a_link_to_a_next_page_is_not_missed() {
        for (header, expected) in [
            (&b"</a?last=b>; rel=next"[..], Ok(Some("/a?last=b"))),
            (b"</a?last=b>", Ok(Some("/a?last=b"))),
            (b"</a?last=b>; title=\"x\"", Ok(Some("/a?last=b"))),
            (b"</a?last=M\xfcnchen>; rel=next", Ok(Some("/a?last=M\u{fffd}nchen"))),
            (b"</a>; rel=prev", Ok(None)),
            (b" ", Ok(None)),
            (b"/a?last=b; rel=next", Err("its `Link` cannot be understood")),
            (b"</a?last=b; rel=next", Err("its `Link` cannot be understood")),
        ] {
            let headers: HeaderMap = [(LINK, http::HeaderValue::from_bytes(header).unwrap())].into_iter().collect();
            let found = next_page_link(&headers);
            assert_eq!(found.as_ref().map(Option::as_deref), expected.as_ref().copied(), "{header:?}");
        }
        assert_eq!(next_page_link(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn only_the_query_of_a_link_is_taken() {
        let start: Url = "https://r.example/v2/app/tags/list?n=100".parse().unwrap();
        for (target, query) in [
            ("/v2/app/tags/list?n=100&last=b", Some("n=100&last=b")),
            ("?last=b", Some("last=b")),
            ("http://r.example/v2/app/tags/list?last=b", Some("last=b")),
            ("https://evil.example/steal?last=b", Some("last=b")),
            ("//evil.example/?last=b", Some("last=b")),
            ("http://169.254.169.254/latest?last=b", Some("last=b")),
            ("http://[broken?last=b#x", Some("last=b")),
            ("/registry/v2/app/tags/list?next_page=gAAA%3D&n=50#f", Some("next_page=gAAA%3D&n=50")),
            ("/v2/app/tags/list", None),
            ("/v2/app/tags/list?", None),
            ("", None),
            ("javascript:alert(1)", None),
        ] {
            let next = next_page_url(&start, target).ok();
            assert_eq!(next.as_ref().and_then(Url::query), query, "{target}");
            if let Some(next) = next {
                assert_eq!((next.host_str(), next.path()), (Some("r.example"), "/v2/app/tags/list"), "{target}");
            }
        }
    }
}
