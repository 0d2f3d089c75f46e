//! The date of a tag, as far as the evidence can be trusted.

use std::collections::HashSet;

use jiff::Timestamp;

use crate::domain::{CompactTime, Date, Digest, Gap, GapTarget, OriginalDate, Repository, Tag, UndatedCause};

/// Returns the date by which a tag is decided at `now`.
///
/// For a restored tag, this is its original date. Otherwise it is the registry's push time, else the later of the
/// image's creation and the first sight of the tag at its digest. A time in the future makes the tag undated even
/// beside an earlier one: some clock was wrong by an unknown amount.
#[must_use]
pub fn tag_date(repository: &Repository, tag: &Tag, now: Timestamp) -> Date {
    match repository.original_dates.get(&tag.name) {
        Some(OriginalDate::Known(at, origin)) => {
            return validate(at.timestamp(), now).map_or_else(Date::Unknown, |at| Date::Original(at, *origin));
        }
        Some(OriginalDate::Unknown) => return Date::Unknown(UndatedCause::Restored),
        None => {}
    }
    if let Some(pushed) = tag.pushed_at {
        return validate(pushed.timestamp(), now).map_or_else(Date::Unknown, Date::Pushed);
    }
    let created = tag.digest.as_ref().map_or(Err(UndatedCause::Missing), |digest| created(repository, digest, now));
    let Some(seen) = tag.first_seen else { return created.map_or_else(Date::Unknown, Date::Created) };
    match (validate(seen.timestamp(), now), created) {
        (Err(future @ UndatedCause::Future(_)), _) => Date::Unknown(future),
        (Ok(seen), Ok(created)) if created < seen => Date::FirstSeen(seen),
        (_, Ok(created)) => Date::Created(created),
        (Ok(seen), Err(_)) => Date::FirstSeen(seen),
        (Err(why), Err(_)) => Date::Unknown(why),
    }
}

/// Returns the latest time at which an undated tag can have been pushed: it existed at the first read, or at the last change
/// of its manifest. `None` for a tag that has a date, and if neither covers it.
///
/// A bound is not a date: by it a tag can be too old, and others can be certainly younger. If a creation time could not
/// be read, there is no bound, because missing evidence never makes a tag older.
#[must_use]
pub fn no_later_than(repository: &Repository, tag: &Tag, now: Timestamp) -> Option<Timestamp> {
    let elsewhere =
        tag.pushed_at.is_some() || tag.first_seen.is_some() || repository.original_dates.contains_key(&tag.name);
    let digest = tag.digest.as_ref().filter(|digest| !elsewhere && repository.manifests.contains_key(*digest))?;
    let look = repository.first_read_at.map(|look| validate(look.timestamp(), now));
    if let Some(latest) = repository.latest_pushes.get(digest) {
        let latest = validate(latest.timestamp(), now).ok()?;
        return Some(look.and_then(Result::ok).map_or(latest, |look| look.min(latest)));
    }
    let known = created(repository, digest, now).is_ok() || is_unread(repository, digest);
    if known { None } else { look?.ok() }
}

fn validate(time: Timestamp, now: Timestamp) -> Result<Timestamp, UndatedCause> {
    if time < CompactTime::FIRST_IMAGE {
        Err(UndatedCause::TooEarly(time))
    } else if time > now {
        Err(UndatedCause::Future(time))
    } else {
        Ok(time)
    }
}

/// Returns the creation time of an image; for an index, the latest of its own and those of the images in it. The images
/// alone date an index only if all of them could be read: the unread one may be the latest. (The inventory never has an
/// own time that an unread part could exceed.)
fn created(repository: &Repository, digest: &Digest, now: Timestamp) -> Result<Timestamp, UndatedCause> {
    let manifest = repository.manifests.get(digest).ok_or(UndatedCause::Missing)?;
    // A tag came to it at some time since, which no image in it tells.
    if repository.latest_pushes.contains_key(digest) {
        return Err(UndatedCause::Missing);
    }
    let own = manifest.created_at.map_or(Err(UndatedCause::Missing), |own| validate(own.timestamp(), now));
    if manifest.children.is_empty() {
        return own;
    }
    if own.is_err() && is_unread(repository, digest) {
        return Err(UndatedCause::Missing);
    }
    let mut newest = own;
    let mut seen = HashSet::from([digest]);
    let mut open: Vec<&Digest> = manifest.children.iter().collect();
    while let Some(child) = open.pop() {
        if !seen.insert(child) {
            continue;
        }
        let Some(manifest) = repository.manifests.get(child) else { continue };
        open.extend(&manifest.children);
        if let Some(created) = manifest.created_at {
            newest = latest_of(newest, validate(created.timestamp(), now));
        }
    }
    newest
}

/// Returns true if a relevant creation time for this manifest could not be read.
fn is_unread(repository: &Repository, digest: &Digest) -> bool {
    let unread = |gap: &Gap| matches!(&gap.target, GapTarget::CreationTime(unread) if unread == digest);
    repository.gaps.iter().any(unread)
}

/// Returns the later of two times. A time before 2013 does not count beside another one; a time in the future outweighs
/// every other, because some clock was wrong by an unknown amount.
fn latest_of(
    a: Result<Timestamp, UndatedCause>,
    b: Result<Timestamp, UndatedCause>,
) -> Result<Timestamp, UndatedCause> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok(a.max(b)),
        (Err(future @ UndatedCause::Future(_)), Ok(_)) | (Ok(_), Err(future @ UndatedCause::Future(_))) => Err(future),
        (Ok(time), Err(_)) | (Err(_), Ok(time)) => Ok(time),
        (Err(a), Err(b)) => Err(a.max(b)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Manifest, ManifestDetail};

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
            detail: ManifestDetail::Full,
        }
    }

    #[test]
    fn an_index_with_an_unread_image_is_not_dated_by_the_others() {
        let [created, seen, now] = ["2024-01-01T00:00:00Z", "2024-02-01T00:00:00Z", "2026-11-23T12:00:00Z"]
            .map(|text| text.parse::<Timestamp>().unwrap());
        let [index, read, unread] = ["index", "read", "unread"].map(|name| Digest::of(name.as_bytes()));
        let gap = |digest: &Digest| Gap {
            target: GapTarget::CreationTime(digest.clone()),
            kind: "http-500",
            has_help: false,
            message: "".into(),
        };
        let mut repository = Repository::empty("shop/api".parse().unwrap());
        repository.manifests.insert(index.clone(), manifest(None, vec![read.clone(), unread.clone()]));
        repository.manifests.insert(read.clone(), manifest(Some(created), vec![]));
        repository.manifests.insert(unread.clone(), manifest(None, vec![]));
        let name = "latest".parse().unwrap();
        let mut tag = Tag { name, digest: Some(index.clone()), pushed_at: None, first_seen: None, lock: None };

        repository.gaps = vec![gap(&unread)];
        assert_eq!(tag_date(&repository, &tag, now), Date::Created(created), "the gap of another says nothing of it");
        repository.gaps.push(gap(&index));
        assert_eq!(tag_date(&repository, &tag, now), Date::Unknown(UndatedCause::Missing));
        tag.first_seen = Some(seen.into());
        assert_eq!(tag_date(&repository, &tag, now), Date::FirstSeen(seen));
        repository.manifests.insert(index, manifest(Some(created), vec![read, unread]));
        tag.first_seen = None;
        assert_eq!(tag_date(&repository, &tag, now), Date::Created(created), "its own word is whole");
    }

    #[test]
    fn an_index_is_as_new_as_the_latest_word_on_it() {
        let [old, new, now, future] =
            ["2024-01-01T00:00:00Z", "2026-11-01T00:00:00Z", "2026-11-23T12:00:00Z", "2026-11-24T00:00:00Z"]
                .map(|text| text.parse::<Timestamp>().unwrap());
        let epoch = Timestamp::UNIX_EPOCH;
        for (own, inside, expected) in [
            (Some(old), Some(new), Date::Created(new)),
            (Some(new), Some(old), Date::Created(new)),
            (Some(epoch), Some(old), Date::Created(old)),
            (Some(old), Some(epoch), Date::Created(old)),
            (Some(old), None, Date::Created(old)),
            (None, Some(new), Date::Created(new)),
            (Some(future), Some(old), Date::Unknown(UndatedCause::Future(future))),
            (Some(old), Some(future), Date::Unknown(UndatedCause::Future(future))),
            (None, None, Date::Unknown(UndatedCause::Missing)),
        ] {
            let [index, image] = ["index", "image"].map(|name| Digest::of(name.as_bytes()));
            let mut repository = Repository::empty("shop/api".parse().unwrap());
            repository.manifests.insert(index.clone(), manifest(own, vec![image.clone()]));
            repository.manifests.insert(image, manifest(inside, vec![]));
            let name = "latest".parse().unwrap();
            let tag = Tag { name, digest: Some(index), pushed_at: None, first_seen: None, lock: None };
            assert_eq!(tag_date(&repository, &tag, now), expected, "{own:?} {inside:?}");
        }
    }

    #[test]
    fn a_last_change_bounds_the_tags_of_a_manifest_and_dates_none() {
        let [old, change, look, now] =
            ["2024-01-01T00:00:00Z", "2026-09-01T00:00:00Z", "2026-10-01T00:00:00Z", "2026-11-23T12:00:00Z"]
                .map(|text| text.parse::<Timestamp>().unwrap());
        let [index, child] = ["index", "child"].map(|name| Digest::of(name.as_bytes()));
        let mut repository = Repository::empty("shop/api".parse().unwrap());
        repository.manifests.insert(index.clone(), manifest(None, vec![child.clone()]));
        repository.manifests.insert(child, manifest(Some(old), vec![]));
        let name = "stable".parse().unwrap();
        let mut tag = Tag { name, digest: Some(index.clone()), pushed_at: None, first_seen: None, lock: None };
        assert_eq!(tag_date(&repository, &tag, now), Date::Created(old), "by the image in it");
        repository.latest_pushes.insert(index.clone(), change.into());
        assert_eq!(tag_date(&repository, &tag, now), Date::Unknown(UndatedCause::Missing));
        assert_eq!(no_later_than(&repository, &tag, now), Some(change), "also before a first read");
        repository.first_read_at = Some(look.into());
        assert_eq!(no_later_than(&repository, &tag, now), Some(change));
        repository.first_read_at = Some(old.into());
        assert_eq!(no_later_than(&repository, &tag, now), Some(old), "it was there at the first read");
        repository.latest_pushes.insert(index, "2027-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(no_later_than(&repository, &tag, now), None, "ahead");
        tag.first_seen = Some(look.into());
        assert_eq!(tag_date(&repository, &tag, now), Date::FirstSeen(look), "it was seen to come");
    }

    #[test]
    fn the_first_look_bounds_only_what_was_there_and_has_no_date() {
        let [look, other, now] = ["2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z", "2026-11-23T12:00:00Z"]
            .map(|text| text.parse::<Timestamp>().unwrap());
        let image = Digest::of(b"image");
        let bound = |change: &dyn Fn(&mut Repository, &mut Tag)| {
            let mut repository = Repository::empty("shop/api".parse().unwrap());
            repository.first_read_at = Some(look.into());
            repository.manifests.insert(image.clone(), manifest(Some(Timestamp::UNIX_EPOCH), vec![]));
            let name = "latest".parse().unwrap();
            let mut tag = Tag { name, digest: Some(image.clone()), pushed_at: None, first_seen: None, lock: None };
            change(&mut repository, &mut tag);
            no_later_than(&repository, &tag, now)
        };
        assert_eq!(bound(&|_, _| {}), Some(look));
        assert_eq!(bound(&|repository, _| repository.first_read_at = None), None, "no look on record");
        assert_eq!(
            bound(&|repository, _| repository.first_read_at = Some(Timestamp::UNIX_EPOCH.into())),
            None,
            "no time"
        );
        assert_eq!(
            bound(&|repository, _| repository.first_read_at = "2027-01-01T00:00:00Z".parse().ok()),
            None,
            "ahead"
        );
        assert_eq!(bound(&|_, tag| tag.pushed_at = Some(other.into())), None, "dated by the registry");
        assert_eq!(bound(&|_, tag| tag.first_seen = Some(other.into())), None, "it came later");
        assert_eq!(bound(&|_, tag| tag.digest = None), None, "it names nothing known");
        let dated = manifest(Some(other), vec![]);
        let date_it = |repository: &mut Repository, _: &mut Tag| {
            repository.manifests.insert(image.clone(), dated.clone());
        };
        assert_eq!(bound(&date_it), None, "dated by its image");
        assert_eq!(bound(&|repository, _| repository.manifests.clear()), None, "its manifest was not read");
        let gap = Gap {
            target: GapTarget::CreationTime(image.clone()),
            kind: "http-500",
            has_help: false,
            message: "".into(),
        };
        assert_eq!(bound(&|repository, _| repository.gaps.push(gap.clone())), None, "its time was not read");
        let restore = |repository: &mut Repository, tag: &mut Tag| {
            repository.original_dates.insert(tag.name.clone(), OriginalDate::Unknown);
        };
        assert_eq!(bound(&restore), None, "it was restored");
    }
}
