//! What time alone will make of tags, all else being as it is.
//!
//! A decision changes with time only at certain instants: when a `within` window ends, when a record's `keep_until` is
//! past, when a hold ends, and when a time that lies in the future comes. Between two instants of the last kind more time only lets go, so
//! the instant at which a tag goes is found by halving. What is told is what [`evaluate()`] itself says of that instant.

use std::collections::HashSet;

use jiff::{SignedDuration, Timestamp};

use super::evaluate::evaluate;
use crate::domain::{
    Claim, Claims, CompactTime, Holder, Inventory, KeepRule, OriginalDate, Reasons, Repository, Rules, SourceState,
    TagPosition, Verdict,
};

/// What time alone does to a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forecast {
    /// It has expired already.
    Expired,
    /// It expires.
    At {
        /// The first whole second at which it has.
        at: Timestamp,
        /// What is found for and against it then.
        reasons: Reasons,
    },
    /// It never does.
    Never,
    /// It would take too long to find out.
    Unknown,
}

/// So many tags are decided about again at most, in all, and so often: an answer should come while somebody waits for it.
const MAX_TAGS_EVALUATED: usize = 4_000_000;
const EVALUATION_LIMITS: std::ops::RangeInclusive<usize> = 32..=400;

/// What time alone will make of the tags that are asked for, if nothing is pushed, released or unlocked meanwhile.
///
/// It decides about the whole inventory again and again: give it one of the repositories that are asked for.
#[must_use]
pub fn forecast(
    rules: &Rules,
    inventory: &Inventory,
    claims: &Claims,
    now: Timestamp,
    asked: &[TagPosition],
) -> Vec<Forecast> {
    let (ends, turns) = instants(rules, inventory, claims, now);
    let left =
        (MAX_TAGS_EVALUATED / inventory.tag_count().max(1)).clamp(*EVALUATION_LIMITS.start(), *EVALUATION_LIMITS.end());
    let mut search = Search { rules, inventory, claims, remaining: left, found: vec![Forecast::Never; asked.len()] };
    let mut waiting: Vec<RequestedTag> = asked.iter().copied().enumerate().collect();
    search.record_expired(now, &mut waiting, |_| Forecast::Expired);
    let mut from = 0;
    for turn in turns.iter().copied().chain([Timestamp::MAX]) {
        let to = ends.partition_point(|end| *end < turn);
        search.search_segment(&ends[from..to], &mut waiting);
        from = to;
    }
    search.found
}

/// A tag that is asked for, with its place in the answer.
type RequestedTag = (usize, TagPosition);

struct Search<'a> {
    rules: &'a Rules,
    inventory: &'a Inventory,
    claims: &'a Claims,
    remaining: usize,
    found: Vec<Forecast>,
}

impl Search<'_> {
    /// Takes those that have expired at a time out of `waiting`, and notes what that means for them.
    fn record_expired(
        &mut self,
        at: Timestamp,
        waiting: &mut Vec<RequestedTag>,
        outlook: impl Fn(Reasons) -> Forecast,
    ) {
        let (gone, rest) = self.split_expired(at, std::mem::take(waiting));
        *waiting = rest;
        for ((place, _), reasons) in gone {
            self.found[place] = outlook(reasons);
        }
    }

    /// Those that have expired at a time, with the reasons, and the others. Beyond the last evaluation that may be
    /// spent, everything is left untold.
    fn split_expired(
        &mut self,
        at: Timestamp,
        asked: Vec<RequestedTag>,
    ) -> (Vec<(RequestedTag, Reasons)>, Vec<RequestedTag>) {
        if asked.is_empty() {
            return (Vec::new(), asked);
        }
        let Some(left) = self.remaining.checked_sub(1) else {
            for (place, _) in asked {
                self.found[place] = Forecast::Unknown;
            }
            return (Vec::new(), Vec::new());
        };
        self.remaining = left;
        let claims = remaining_claims(self.claims, at);
        let verdicts = evaluate(self.rules, self.inventory, &claims, at);
        let (mut gone, mut rest) = (Vec::new(), Vec::new());
        for one in asked {
            match verdicts.at(one.1).filter(|found| found.verdict == Verdict::Expired) {
                Some(found) => gone.push((one, found.reasons.clone())),
                None => rest.push(one),
            }
        }
        (gone, rest)
    }

    /// Goes through instants between which nothing comes back.
    fn search_segment(&mut self, ends: &[Timestamp], waiting: &mut Vec<RequestedTag>) {
        let Some(&last) = ends.last() else { return };
        let (gone, rest) = self.split_expired(last, std::mem::take(waiting));
        *waiting = rest;
        self.bisect(ends, gone);
    }

    /// Finds the first instant at which each has expired, of those that have at the last one.
    fn bisect(&mut self, ends: &[Timestamp], gone: Vec<(RequestedTag, Reasons)>) {
        let Some((&last, before)) = ends.split_last().filter(|_| !gone.is_empty()) else { return };
        if before.is_empty() {
            for ((place, _), reasons) in gone {
                self.found[place] = Forecast::At { at: last, reasons };
            }
            return;
        }
        let (early, late) = ends.split_at(ends.len() / 2);
        let middle = early[early.len() - 1];
        let (sooner, _) = self.split_expired(middle, gone.iter().map(|(one, _)| *one).collect());
        let places: HashSet<usize> = sooner.iter().map(|((place, _), _)| *place).collect();
        let is_later = |place: usize| !places.contains(&place) && self.found[place] != Forecast::Unknown;
        let later = gone.into_iter().filter(|((place, _), _)| is_later(*place)).collect();
        self.bisect(early, sooner);
        self.bisect(late, later);
    }
}

/// The instants after now at which a decision may change, in whole seconds, sorted; and those of them at which something
/// may come back.
fn instants(rules: &Rules, inventory: &Inventory, claims: &Claims, now: Timestamp) -> (Vec<Timestamp>, Vec<Timestamp>) {
    let spans: Vec<SignedDuration> = rules
        .policies
        .iter()
        .flat_map(|policy| policy.keep.rules())
        .filter_map(|rule| match rule {
            KeepRule::Within(span) | KeepRule::ImageWith { within: Some(span), .. } => Some(span.duration),
            _ => None,
        })
        .collect();
    let (mut ends, mut turns) = (Vec::new(), Vec::new());
    let repositories = inventory.registries.iter().flat_map(|registry| &registry.repositories);
    for moment in repositories.flat_map(age_times) {
        if moment > now {
            turns.extend(not_before(moment));
        }
        ends.extend(spans.iter().filter_map(|span| after(moment.checked_add(*span).ok()?)));
    }
    for source in &claims.sources {
        let untils: Vec<Option<Timestamp>> = source.claims().iter().map(protects_until).collect();
        let over: Vec<Timestamp> = untils.iter().flatten().filter_map(|until| after(*until)).collect();
        // With the last of its claims a source has nothing to say, which counts as no answer.
        if over.len() == untils.len() {
            turns.extend(over.iter().max());
        }
        ends.extend(over);
    }
    ends.extend(claims.holds.iter().filter_map(|hold| not_before(hold.until)));
    turns.retain(|turn| *turn > now);
    ends.extend(&turns);
    ends.retain(|end| *end > now);
    for list in [&mut ends, &mut turns] {
        list.sort();
        list.dedup();
    }
    (ends, turns)
}

/// Every time that the age of a tag may rest on.
fn age_times(repository: &Repository) -> impl Iterator<Item = Timestamp> {
    let tags = repository.tags.iter().flat_map(|tag| [tag.pushed_at, tag.first_seen]);
    let images = repository.manifests.values().map(|manifest| manifest.created_at);
    let originals = repository.original_dates.values().map(|original| match original {
        OriginalDate::Known(at, _) => Some(*at),
        OriginalDate::Unknown => None,
    });
    tags.chain(images).chain(originals).chain([repository.first_read_at]).flatten().map(CompactTime::timestamp)
}

/// The first whole second after a time.
fn after(time: Timestamp) -> Option<Timestamp> {
    Timestamp::from_second(time.as_nanosecond().div_euclid(1_000_000_000).try_into().ok()?)
        .and_then(|second| second.checked_add(SignedDuration::from_secs(1)))
        .ok()
}

/// The first whole second that is not before a time.
fn not_before(time: Timestamp) -> Option<Timestamp> {
    after(time.checked_sub(SignedDuration::from_nanos(1)).ok()?)
}

/// Until when a claim counts, where its record says so.
fn protects_until(claim: &Claim) -> Option<Timestamp> {
    match &*claim.holder {
        Holder::Release(release) => release.keep_until,
        Holder::File { .. } | Holder::Workload { .. } | Holder::Hold { .. } => None,
    }
}

/// The claims that still count at a later time: those of records whose `keep_until` is past are over. A source that is
/// left with none counts as failed, as it would when it is asked then.
#[must_use]
pub fn remaining_claims(claims: &Claims, at: Timestamp) -> Claims {
    let mut left = claims.clone();
    for source in &mut left.sources {
        let SourceState::Complete { claims, .. } = &mut source.state else { continue };
        let before = claims.len();
        claims.retain(|claim| protects_until(claim).is_none_or(|until| until >= at));
        if claims.is_empty() && before > 0 {
            let message = "every record of it is past its `keep_until`".into();
            source.state = SourceState::Failed { kind: "empty", message };
        }
    }
    left
}
