//! Views in the words and links of pages.

use std::fmt;

use jiff::Zoned;
use url::form_urlencoded;

use super::api::TagQuery;
use super::dto::TagDto;
use super::plan_index::{VERDICTS, VerdictCounts};
use super::time::DisplayTime;
use crate::report::{
    EntryView, RunView, SummaryView, format_age, format_bytes, format_count, sanitize, short_digest, truncate,
};
use crate::state::RunKind;

/// A run in a table.
pub(super) struct RunRow {
    pub(super) id: String,
    pub(super) kind: String,
    /// The approver of its plan, as verified or as stated.
    pub(super) approved: Option<String>,
    pub(super) started: DisplayTime,
    pub(super) duration: String,
    pub(super) outcome: String,
    /// The class of style of its outcome.
    pub(super) css_class: &'static str,
    pub(super) tags: String,
    pub(super) expired: String,
    pub(super) undecided: String,
    pub(super) reclaimable: String,
    pub(super) removed: String,
    pub(super) error: Option<String>,
}

impl RunRow {
    pub(super) fn new(run: &RunView, now: &Zoned) -> Self {
        let counts = &run.summary;
        let number = |pick: fn(&SummaryView) -> u64| {
            counts.plan.as_ref().map_or_else(String::new, |summary| format_count(pick(summary)))
        };
        let reclaimable = counts.plan.as_ref().map_or_else(String::new, |summary| {
            let about = if summary.is_estimated() && summary.reclaimable_bytes > 0 { "about " } else { "" };
            format!("{about}{}", format_bytes(summary.reclaimable_bytes))
        });
        let done = if run.kind == RunKind::Restore.label() {
            format!("{} restored", format_count(counts.restored.unwrap_or_default()))
        } else {
            format_count(counts.removed.unwrap_or_default())
        };
        let more = |number: Option<u64>, what: &str| match number {
            None | Some(0) => String::new(),
            Some(number) => format!(", {} {what}", format_count(number)),
        };
        let removed = done + &more(counts.deleted, "deleted") + &more(counts.failed, "failed");
        Self {
            id: run.id.clone(),
            kind: match (counts.hypothetical, &counts.narrowed) {
                (true, _) => format!("{} for another time", run.kind),
                (false, Some(_)) => format!("{} of a part", run.kind),
                (false, None) => run.kind.clone(),
            },
            approved: run.describe_approval().map(|approval| truncate(&sanitize(&approval), 200)),
            started: DisplayTime::new(run.started_at, now),
            duration: run.seconds.map_or_else(|| "-".to_owned(), format_age),
            outcome: run.outcome.clone(),
            css_class: match run.exit_code {
                Some(0) => "good",
                None => "dim",
                Some(3 | 5) => "warn",
                Some(_) => "bad",
            },
            tags: number(|summary| summary.tags),
            expired: number(|summary| summary.expired),
            undecided: number(|summary| summary.undecided),
            reclaimable,
            removed,
            error: run.error.as_deref().map(|error| truncate(&sanitize(error), 400)),
        }
    }
}

/// A tag in a table.
pub(super) struct TagRow {
    pub(super) place: String,
    /// The page of its repository.
    pub(super) link: String,
    pub(super) tag: String,
    pub(super) tag_link: String,
    pub(super) digest: String,
    pub(super) verdict: String,
    pub(super) enforcement: Option<&'static str>,
    pub(super) policy: Option<String>,
    pub(super) age: String,
    pub(super) dated_by: String,
    pub(super) dated: Option<DisplayTime>,
    pub(super) size: String,
    /// `None` if there is nothing to show.
    pub(super) shared: Option<String>,
    pub(super) reason: String,
    /// The reasons after the first.
    pub(super) more_reasons: Vec<String>,
}

impl TagRow {
    pub(super) fn new(tag: TagDto, now: &Zoned) -> Self {
        let goes = tag.verdict == VERDICTS[0];
        let mut why = tag.sentences.iter().map(|why| sanitize(why));
        Self {
            place: sanitize(&format!("{}/{}", tag.registry, tag.repository)),
            link: repository_link(&tag.registry, &tag.repository),
            tag_link: image_link(&tag.registry, &tag.repository, &tag.tag),
            tag: sanitize(&tag.tag),
            digest: tag.digest.as_deref().map_or_else(|| "unread".to_owned(), short_digest),
            verdict: tag.verdict,
            enforcement: tag.enforcement,
            policy: tag.policy,
            age: tag.age_seconds.map_or_else(|| "unknown".to_owned(), format_age),
            dated: tag.dated_at.map(|at| DisplayTime::new(at, now)),
            dated_by: tag.dated_by,
            size: tag.reclaimable_bytes.map_or_else(|| if goes { "unknown" } else { "" }.to_owned(), format_bytes),
            shared: tag.shared_bytes.filter(|shared| *shared > 0).map(format_bytes),
            reason: why.next().unwrap_or_default(),
            more_reasons: why.collect(),
        }
    }
}

/// A page of tags with links to the other pages.
pub(super) struct TagList {
    pub(super) rows: Vec<TagRow>,
    /// `101 to 200 of 12,430`.
    pub(super) range: String,
    pub(super) search: String,
    /// Label, number of tags, and true if selected.
    pub(super) verdicts: Vec<(&'static str, String, bool)>,
    /// True if any filter is active.
    pub(super) is_filtered: bool,
    pub(super) previous: Option<String>,
    pub(super) next: Option<String>,
    pub(super) show_place: bool,
    /// True if the plan is stored without its retained tags.
    pub(super) kept_pruned: bool,
}

/// Returns the link to another page of the results of a query.
pub(super) fn page_link(query: &TagQuery, limit: Option<u64>, page: u64) -> String {
    let mut link = form_urlencoded::Serializer::new(String::new());
    for (key, value) in [("verdict", &query.verdict), ("search", &query.search)] {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            link.append_pair(key, value);
        }
    }
    if let Some(limit) = limit {
        link.append_pair("limit", &limit.to_string());
    }
    format!("?{}", link.append_pair("page", &page.to_string()).finish())
}

impl TagList {
    pub(super) fn new(
        tags: Vec<TagDto>,
        total: u64,
        (query, limit): (&TagQuery, u32),
        counts: &VerdictCounts,
        now: &Zoned,
    ) -> Self {
        let (number, limit) = (query.page_number(), u64::from(limit));
        let first = (number - 1).saturating_mul(limit);
        let last = first + tags.len() as u64;
        let to = |page: u64| format!("{}#tags", page_link(query, query.limit.is_some().then_some(limit), page));
        let chosen = query.verdict.as_deref().unwrap_or_default();
        let search = query.search.clone().unwrap_or_default();
        Self {
            range: match tags.len() {
                0 => "none".to_owned(),
                _ => format!("{} to {} of {}", format_count(first + 1), format_count(last), format_count(total)),
            },
            is_filtered: !search.is_empty() || !chosen.is_empty(),
            search,
            verdicts: VERDICTS
                .iter()
                .zip(counts)
                .map(|(label, n)| (*label, format_count(*n), *label == chosen))
                .collect(),
            previous: (number > 1).then(|| to(number - 1)),
            next: (last < total && !tags.is_empty()).then(|| to(number + 1)),
            rows: tags.into_iter().map(|tag| TagRow::new(tag, now)).collect(),
            show_place: true,
            kept_pruned: false,
        }
    }
}

/// An entry of the journal in a table.
pub(super) struct EntryRow {
    pub(super) run: String,
    pub(super) action: String,
    pub(super) place: String,
    /// The page of its repository.
    pub(super) link: String,
    pub(super) tag: String,
    pub(super) tag_link: String,
    pub(super) digest: String,
    pub(super) policy: String,
    pub(super) started: DisplayTime,
    pub(super) outcome: String,
    pub(super) css_class: &'static str,
    pub(super) detail: String,
}

impl EntryRow {
    pub(super) fn new(entry: EntryView, now: &Zoned) -> Self {
        Self {
            place: sanitize(&format!("{}/{}", entry.registry, entry.repository)),
            link: repository_link(&entry.registry, &entry.repository),
            run: entry.run,
            action: entry.action,
            tag_link: image_link(&entry.registry, &entry.repository, &entry.tag),
            tag: sanitize(&entry.tag),
            digest: short_digest(&entry.digest),
            policy: entry.policy.unwrap_or_default(),
            started: DisplayTime::new(entry.intended_at, now),
            css_class: match entry.outcome.as_deref() {
                Some("done") => "good",
                Some("failed") => "bad",
                _ => "warn",
            },
            outcome: entry.outcome.unwrap_or_else(|| "pending".to_owned()),
            detail: entry.detail.map_or_else(String::new, |detail| truncate(&sanitize(&detail), 400)),
        }
    }
}

pub(super) fn repository_link(registry: &str, repository: &str) -> String {
    format!("/registries/{}/{}", escape_path(registry), escape_path(repository))
}

/// Returns the address of the page of a tag and its history.
pub(super) fn image_link(registry: &str, repository: &str, tag: &str) -> String {
    format!("/images/{}/{}:{}", escape_path(registry), escape_path(repository), escape_path(tag))
}

/// A text as part of a path; slashes stay.
pub(super) fn escape_path(text: &str) -> impl fmt::Display + '_ {
    struct Escaped<'a>(&'a str);
    impl fmt::Display for Escaped<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            for byte in self.0.bytes() {
                match byte {
                    b'/' | b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                        write!(f, "{}", char::from(byte))?;
                    }
                    byte => write!(f, "%{byte:02X}")?,
                }
            }
            Ok(())
        }
    }
    Escaped(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_cannot_be_left() {
        assert_eq!(repository_link("contoso", "shop/api"), "/registries/contoso/shop/api");
        assert_eq!(repository_link("a?b", "\"><script>#é"), "/registries/a%3Fb/%22%3E%3Cscript%3E%23%C3%A9");
    }

    #[test]
    fn an_image_has_a_page_of_its_own() {
        assert_eq!(image_link("contoso", "shop/api", "v1.0_a-b"), "/images/contoso/shop/api:v1.0_a-b");
        assert_eq!(image_link("contoso", "shop", "a:b"), "/images/contoso/shop:a%3Ab");
    }

    #[test]
    fn what_is_looked_for_stays_whole_in_a_link() {
        let query = TagQuery { search: Some("a&b \"".into()), ..TagQuery::default() };
        assert_eq!(page_link(&query, Some(50), 2), "?search=a%26b+%22&limit=50&page=2");
    }
}
