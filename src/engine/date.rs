//! When a tag was pushed, as far as anyone can be believed.

use std::collections::HashSet;

use jiff::Timestamp;

use crate::domain::{Date, Digest, Gap, GapAt, Original, Repository, Tag, Undated};

/// 2013-01-01T00:00:00Z. There were no container images before; what says so is a reproducible build or a zero value.
const FIRST_POSSIBLE: Timestamp = Timestamp::constant(1_356_998_400, 0);

/// The time by which a tag is judged at `now`.
///
/// For a restored tag, the time that it had before. Otherwise the registry's own push time, else the later of the image's creation and the first sight of the tag at its digest. A
/// time in the future makes the tag undated even beside an earlier one: some clock was wrong, and nobody knows by how
/// much.
#[must_use]
pub fn date(repository: &Repository, tag: &Tag, now: Timestamp) -> Date {
    match repository.originals.get(&tag.name) {
        Some(Original::At(at, origin)) => {
            return judge(at.timestamp(), now).map_or_else(Date::Unknown, |at| Date::Original(at, *origin));
        }
        Some(Original::Unknown) => return Date::Unknown(Undated::Restored),
        None => {}
    }
    if let Some(pushed) = tag.pushed_at {
        return judge(pushed.timestamp(), now).map_or_else(Date::Unknown, Date::Pushed);
    }
    let created = tag.digest.as_ref().map_or(Err(Undated::Missing), |digest| created(repository, digest, now));
    let Some(seen) = tag.first_seen else { return created.map_or_else(Date::Unknown, Date::Created) };
    match (judge(seen.timestamp(), now), created) {
        (Err(future @ Undated::Future(_)), _) => Date::Unknown(future),
        (Ok(seen), Ok(created)) if created < seen => Date::FirstSeen(seen),
        (_, Ok(created)) => Date::Created(created),
        (Ok(seen), Err(_)) => Date::FirstSeen(seen),
        (Err(why), Err(_)) => Date::Unknown(why),
    }
}

fn judge(time: Timestamp, now: Timestamp) -> Result<Timestamp, Undated> {
    if time < FIRST_POSSIBLE {
        Err(Undated::TooEarly(time))
    } else if time > now {
        Err(Undated::Future(time))
    } else {
        Ok(time)
    }
}

/// What the image says of its creation; an index that says nothing is as new as the newest image in it, if all of them
/// could be asked. A gap says otherwise: the unread one may be the newest.
fn created(repository: &Repository, digest: &Digest, now: Timestamp) -> Result<Timestamp, Undated> {
    let manifest = repository.manifests.get(digest).ok_or(Undated::Missing)?;
    if let Some(own) = manifest.created_at {
        return judge(own.timestamp(), now);
    }
    let unread = |gap: &Gap| matches!(&gap.at, GapAt::Created(unread) if unread == digest);
    if manifest.children.is_empty() || repository.gaps.iter().any(unread) {
        return Err(Undated::Missing);
    }
    let mut newest = Err(Undated::Missing);
    let mut seen = HashSet::from([digest]);
    let mut open: Vec<&Digest> = manifest.children.iter().collect();
    while let Some(child) = open.pop() {
        if !seen.insert(child) {
            continue;
        }
        let Some(manifest) = repository.manifests.get(child) else { continue };
        open.extend(&manifest.children);
        if let Some(created) = manifest.created_at {
            newest = later(newest, judge(created.timestamp(), now));
        }
    }
    newest
}

fn later(a: Result<Timestamp, Undated>, b: Result<Timestamp, Undated>) -> Result<Timestamp, Undated> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok(a.max(b)),
        (Ok(time), Err(_)) | (Err(_), Ok(time)) => Ok(time),
        (Err(a), Err(b)) => Err(a.max(b)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Depth, Manifest};

    fn manifest(created_at: Option<Timestamp>, children: Vec<Digest>) -> Manifest {
        Manifest {
            media_type: "application/vnd.oci.image.index.v1+json".into(),
            size: 1,
            config: None,
            blobs: [].into(),
            children,
            subject: None,
            created_at: created_at.map(Into::into),
            lock: None,
            depth: Depth::Whole,
        }
    }

    #[test]
    fn an_index_with_an_unread_image_is_not_dated_by_the_others() {
        let [created, seen, now] = ["2024-01-01T00:00:00Z", "2024-02-01T00:00:00Z", "2026-11-23T12:00:00Z"]
            .map(|text| text.parse::<Timestamp>().unwrap());
        let [index, read, unread] = ["index", "read", "unread"].map(|name| Digest::of(name.as_bytes()));
        let gap = |digest: &Digest| Gap { at: GapAt::Created(digest.clone()), kind: "http-500", message: "".into() };
        let mut repository = Repository::empty("shop/api".parse().unwrap());
        repository.manifests.insert(index.clone(), manifest(None, vec![read.clone(), unread.clone()]));
        repository.manifests.insert(read.clone(), manifest(Some(created), vec![]));
        repository.manifests.insert(unread.clone(), manifest(None, vec![]));
        let name = "latest".parse().unwrap();
        let mut tag = Tag { name, digest: Some(index.clone()), pushed_at: None, first_seen: None, lock: None };

        repository.gaps = vec![gap(&unread)];
        assert_eq!(date(&repository, &tag, now), Date::Created(created), "the gap of another says nothing of it");
        repository.gaps.push(gap(&index));
        assert_eq!(date(&repository, &tag, now), Date::Unknown(Undated::Missing));
        tag.first_seen = Some(seen.into());
        assert_eq!(date(&repository, &tag, now), Date::FirstSeen(seen));
        repository.manifests.insert(index, manifest(Some(created), vec![read, unread]));
        tag.first_seen = None;
        assert_eq!(date(&repository, &tag, now), Date::Created(created), "its own word is whole");
    }
}
