//! The history of a tag: what it names now and, in the time machine, what it named.
//!
//! Quay lists it with the latest beginning first, and in whole seconds (`list_repository_tag_history`, `_tag_dict`).
//! Where a push and a removal are in the same second, two rows have the same end.

use http::StatusCode;
use jiff::Timestamp;

use super::reader::QuayReader;
use super::tags_path;
use super::wire::{self, Right, WireTag, WireTags};
use crate::domain::{Digest, RepositoryName, TagName};
use crate::http_client::date;
use crate::registry::client::list_gaps;
use crate::registry::{RegistryError, RegistryErrorKind, RegistryReader as _, RemovalRecord};

/// The rows of one tag.
#[derive(Debug)]
pub(super) struct TagHistory {
    /// In Quay's order.
    pub(super) rows: Vec<WireTag>,
    has_additional: bool,
    /// Quay's own time of the answer.
    read_at: Option<Timestamp>,
}

impl QuayReader {
    /// Returns everything that Quay has on record under a tag's name, or `None` if it does not know the repository.
    pub(super) async fn history(
        &self,
        repository: &RepositoryName,
        tag: &TagName,
        only_active: bool,
    ) -> Result<Option<TagHistory>, RegistryError> {
        let mut query = vec![("specificTag", tag.as_str()), ("limit", "100")];
        query.extend(only_active.then_some(("onlyActiveTags", "true")));
        let response = self.get(Some(repository), &tags_path(repository), &query).await?;
        match response.status {
            StatusCode::OK => {}
            _ if wire::is_absence(&response) => return Ok(None),
            _ => return Err(wire::refusal(&response, Right::Read)),
        }
        let page: WireTags = response.parse_json()?;
        let rows = page.tags.into_iter().map(serde_json::from_value).collect::<Result<Vec<WireTag>, _>>();
        let rows = rows.map_err(|error| response.unparsable(error))?;
        if rows.iter().any(|row| row.name != tag.as_str()) {
            return Err(response.malformed("it is about another tag"));
        }
        Ok(Some(TagHistory { rows, has_additional: page.has_additional, read_at: date(&response.headers) }))
    }

    /// Reads what became of a tag that Quay said it removed.
    pub(super) async fn read_removal_record(
        &self,
        repository: &RepositoryName,
        tag: &TagName,
        planned: &Digest,
    ) -> Result<RemovalRecord, RegistryError> {
        let history = self.history(repository, tag, false).await?;
        let unknown = |why: &str| {
            let message = format!("Quay's history of {repository}:{tag} {why}");
            RegistryError::new(RegistryErrorKind::Malformed, message)
        };
        let Some(history) = history.filter(|history| !history.rows.is_empty()) else {
            return Err(unknown("is empty"));
        };
        if let Some(row) = history.rows.iter().find(|row| row.ended_at().is_none()) {
            let digest = row.digest().ok_or_else(|| list_gaps::missing_digest(repository, tag))?;
            return Ok(RemovalRecord::Active(digest));
        }
        // A tag that expires by itself has an end that is to come.
        if history.may_be_active()
            && let Some(now) = self.resolve(repository, tag).await?
        {
            return Ok(RemovalRecord::Active(now.digest));
        }
        if !history.shows_last() {
            return Err(unknown("does not show all of it"));
        }
        let rows: Vec<&WireTag> = history.rows.iter().collect();
        match last_digest(&rows, planned) {
            Some((digest, is_certain)) => Ok(RemovalRecord::Removed { digest, is_certain }),
            None => Err(unknown("has a row without a digest")),
        }
    }
}

impl TagHistory {
    /// Returns true unless each row ended by Quay's own clock.
    fn may_be_active(&self) -> bool {
        let last = self.rows.iter().filter_map(WireTag::ended_at).max();
        match (last, self.read_at) {
            (Some(last), Some(now)) => last > now.as_second(),
            (Some(_), None) => true,
            (None, _) => false,
        }
    }

    /// Returns true if the rows that follow on another page, if any, are older than these.
    fn shows_last(&self) -> bool {
        !self.has_additional || self.rows.is_sorted_by_key(|row| std::cmp::Reverse(row.started_at()))
    }
}

/// Returns the digest that a tag named last, of rows that all ended. If the rows do not show it, returns another one
/// than `planned`, and false. `None` if a row that matters has no digest.
fn last_digest(rows: &[&WireTag], planned: &Digest) -> Option<(Digest, bool)> {
    let digests: Vec<Digest> = last_rows(rows).into_iter().map(WireTag::digest).collect::<Option<_>>()?;
    let first = digests.first()?;
    let is_certain = digests.iter().all(|digest| digest == first);
    let digest = digests.iter().find(|digest| *digest != planned).unwrap_or(first);
    Some((digest.clone(), is_certain))
}

/// Returns the rows that may have been the last one, in their order: those with the latest beginning and the latest
/// end. Usually this is one. A row without a beginning may have any. Where no row has both, because the clocks of Quay's
/// servers differ, those that have either.
pub(super) fn last_rows<'a>(rows: &[&'a WireTag]) -> Vec<&'a WireTag> {
    let started = rows.iter().filter_map(|row| row.started_at()).max();
    let ended = rows.iter().filter_map(|row| row.ended_at()).max();
    let is_newest = |row: &WireTag| row.started_at().is_none() || row.started_at() == started;
    let is_latest = |row: &WireTag| row.ended_at() == ended;
    let both: Vec<&WireTag> = rows.iter().copied().filter(|row| is_newest(row) && is_latest(row)).collect();
    if !both.is_empty() {
        return both;
    }
    rows.iter().copied().filter(|row| is_newest(row) || is_latest(row)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    /// Rows of digest, beginning and end; zero is a beginning that is missing.
    fn last(rows: &[(&str, i64, i64)]) -> Option<(Digest, bool)> {
        let rows: Vec<WireTag> = rows
            .iter()
            .map(|(text, start, end)| {
                let mut row = json!({ "name": "v1", "manifest_digest": digest(text).to_string(), "end_ts": end });
                if *start > 0 {
                    row["start_ts"] = json!(start);
                }
                serde_json::from_value(row).unwrap()
            })
            .collect();
        last_digest(&rows.iter().collect::<Vec<_>>(), &digest("planned"))
    }

    #[test]
    fn the_last_row_is_that_which_began_and_ended_last() {
        for (rows, expected, certain) in [
            (&[("planned", 10, 90)][..], "planned", true),
            (&[("planned", 10, 90), ("older", 5, 10)], "planned", true),
            // A push in the second of the removal, in either order.
            (&[("pushed", 90, 90), ("planned", 10, 90)], "pushed", true),
            (&[("planned", 10, 90), ("pushed", 90, 90)], "pushed", true),
            // Two pushes in one second, long ago.
            (&[("planned", 10, 90), ("older", 10, 10)], "planned", true),
            // A push two seconds before the removal.
            (&[("pushed", 88, 90), ("planned", 10, 88)], "pushed", true),
            // The clock of the server that took the push was ahead.
            (&[("pushed", 91, 90), ("planned", 10, 91)], "pushed", false),
            (&[("planned", 10, 91), ("pushed", 91, 90)], "pushed", false),
            // All in one second, or without a beginning.
            (&[("planned", 90, 90), ("pushed", 90, 90)], "pushed", false),
            (&[("planned", 0, 90), ("pushed", 0, 90)], "pushed", false),
            (&[("planned", 0, 90), ("pushed", 90, 90)], "pushed", false),
            (&[("planned", 0, 90), ("older", 0, 10)], "planned", true),
            (&[("planned", 90, 90), ("planned", 10, 90)], "planned", true),
        ] {
            assert_eq!(last(rows), Some((digest(expected), certain)), "{rows:?}");
        }
        assert_eq!(last(&[]), None);
    }
}
