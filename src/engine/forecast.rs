//! Forecast: the future of tags if nothing but time changes.
//!
//! A decision changes with time only at certain instants: at the end of a `within` window, of a record's `keep_until`
//! or of a hold, and when a time in the future is reached. Between two instants of the last kind (with
//! `at_most` or `idle`, of the first as well) more time can only expire tags, so the instant at which a tag expires is found by
//! bisection. The results are those of [`evaluate()`] for that instant.

use std::collections::HashSet;

use jiff::{SignedDuration, Timestamp};

use super::evaluate::evaluate;
use crate::domain::{
    Claim, Claims, CompactTime, Holder, Inventory, KeepRule, OriginalDate, Reasons, Repository, Rules, SourceState,
    TagPosition, Verdict,
};

/// The effect of time on a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forecast {
    /// It has expired already.
    Expired,
    /// It expires.
    At {
        /// The first whole second at which it is expired.
        at: Timestamp,
        /// The reasons for and against removal at that time.
        reasons: Reasons,
    },
    /// It never does.
    Never,
    /// The computation would take too long.
    Unknown,
}

/// The largest total number of tags that are decided again, so that an answer comes while a person waits for it.
const MAX_TAGS_EVALUATED: usize = 4_000_000;
const EVALUATION_LIMITS: std::ops::RangeInclusive<usize> = 32..=400;

/// Returns the future of the requested tags, if nothing is pushed, released or unlocked meanwhile.
///
/// It decides the whole inventory repeatedly, so it should contain only the requested repositories.
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

/// A requested tag, with its position in the answer.
type RequestedTag = (usize, TagPosition);

struct Search<'a> {
    rules: &'a Rules,
    inventory: &'a Inventory,
    claims: &'a Claims,
    remaining: usize,
    found: Vec<Forecast>,
}

impl Search<'_> {
    /// Moves the tags that are expired at a time out of `waiting`, and records the result.
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

    /// Splits the tags into those that are expired at a time, with the reasons, and the others. Beyond the last
    /// affordable evaluation, everything stays unknown.
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

    /// Searches instants between which no tag is retained again.
    fn search_segment(&mut self, ends: &[Timestamp], waiting: &mut Vec<RequestedTag>) {
        let Some(&last) = ends.last() else { return };
        let (gone, rest) = self.split_expired(last, std::mem::take(waiting));
        *waiting = rest;
        self.bisect(ends, gone);
    }

    /// Finds the first instant at which each is expired, for those that are at the last one.
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

/// Returns the instants after now at which a decision may change, in whole seconds, sorted; and those of them at which
/// a tag may be retained again.
fn instants(rules: &Rules, inventory: &Inventory, claims: &Claims, now: Timestamp) -> (Vec<Timestamp>, Vec<Timestamp>) {
    let spans: Vec<SignedDuration> = rules
        .policies
        .iter()
        .flat_map(|policy| policy.keep.rules())
        .filter_map(|rule| match rule {
            KeepRule::Within(span) | KeepRule::PulledWithin(span) | KeepRule::ImageWith { within: Some(span), .. } => {
                Some(span.duration)
            }
            _ => None,
        })
        .collect();
    // A repository that becomes idle is selected from then on, and what selects it may keep it.
    let idle = rules.policies.iter().filter_map(|policy| policy.select.facts.idle.as_ref());
    let idle: Vec<SignedDuration> = idle.map(|span| span.duration).collect();
    // What leaves a `within` window may leave its place to something older.
    let limits = rules.policies.iter().any(|policy| policy.keep.at_most().is_some());
    let (mut ends, mut turns) = (Vec::new(), Vec::new());
    let repositories = inventory.registries.iter().flat_map(|registry| &registry.repositories);
    for moment in repositories.flat_map(age_times) {
        if moment > now {
            turns.extend(not_before(moment));
        }
        ends.extend(spans.iter().filter_map(|span| after(moment.checked_add(*span).ok()?)));
        turns.extend(idle.iter().filter_map(|span| after(moment.checked_add(*span).ok()?)));
        turns.extend(spans.iter().filter(|_| limits).filter_map(|span| after(moment.checked_add(*span).ok()?)));
    }
    for source in &claims.sources {
        let untils: Vec<Option<Timestamp>> = source.claims().iter().map(protects_until).collect();
        let over: Vec<Timestamp> = untils.iter().flatten().filter_map(|until| after(*until)).collect();
        // Without its last claim a source is empty, which counts as a failure.
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

/// Returns every time that the age of a tag may depend on.
fn age_times(repository: &Repository) -> impl Iterator<Item = Timestamp> {
    let tags = repository.tags.iter().flat_map(|tag| [tag.pushed_at, tag.first_seen]);
    let images = repository.manifests.values().map(|manifest| manifest.created_at);
    let originals = repository.original_dates.values().map(|original| match original {
        OriginalDate::Known(at, _) => Some(*at),
        OriginalDate::Unknown => None,
    });
    let pulls = repository.pull_times.values().map(|pulled| pulled.at());
    tags.chain(images)
        .chain(originals)
        .chain(pulls)
        .chain([repository.first_read_at, repository.removed_at, repository.digest_pulled_at])
        .flatten()
        .map(CompactTime::timestamp)
}

/// Returns the first whole second after a time.
fn after(time: Timestamp) -> Option<Timestamp> {
    Timestamp::from_second(time.as_nanosecond().div_euclid(1_000_000_000).try_into().ok()?)
        .and_then(|second| second.checked_add(SignedDuration::from_secs(1)))
        .ok()
}

/// Returns the first whole second that is not before a time.
fn not_before(time: Timestamp) -> Option<Timestamp> {
    after(time.checked_sub(SignedDuration::from_nanos(1)).ok()?)
}

/// Returns the end of a claim's protection, if its record states one.
fn protects_until(claim: &Claim) -> Option<Timestamp> {
    match &*claim.holder {
        Holder::Release(release) => release.keep_until,
        Holder::File { .. } | Holder::Workload { .. } | Holder::Pull { .. } | Holder::Hold { .. } => None,
    }
}

/// Returns the claims that still count at a later time: those of records with an expired `keep_until` do not. A source
/// without any counts as failed, as it would if queried then.
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
