//! The keep rules: for each tag that a policy selects, the reasons to keep it, or the margins by which it missed each
//! rule.

use std::cell::OnceCell;
use std::cmp::Reverse;

use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};

use super::bucket::{Bucket, bucket, bucket_text};
use super::graph::Node;
use super::reason_table::ReasonTable;
use super::select::{Candidate, Selected};
use super::undated_images::UndatedImages;
use super::version::{Line, Version, VersionOrder};
use crate::domain::{
    Date, Globs, Keep, KeepRule, Period, Policy, PullTime, Reason, Shortfall, TagName, UndatedCause, VersionPart,
    WrittenDuration,
};

/// The outcome of one rule for one tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleOutcome {
    /// It keeps the tag, for this reason.
    Keeps(Reason),
    /// It does not keep the tag, by that margin.
    FallsShort(Shortfall),
}

/// Says of every selected tag of one repository what the policy's rules make of it. `all` are the repository's tags, those
/// that the policy does not select as well.
pub(super) fn add_rule_reasons(
    policy: &Policy,
    all: &[Candidate<'_>],
    selected: &[Selected<'_>],
    timezone: &TimeZone,
    now: Timestamp,
    found: &mut ReasonTable,
) {
    match &policy.keep {
        Keep::All => {
            for one in selected {
                found.add(one.candidate.tag, Reason::KeptAll { policy: policy.name.clone() });
            }
        }
        Keep::None => {
            for one in selected {
                found.add(
                    one.candidate.tag,
                    Reason::NotKept { policy: policy.name.clone(), shortfalls: Box::default() },
                );
            }
        }
        Keep::Rules(rules) => {
            let group = Group::new(policy, all, selected, timezone, now);
            let rules: Vec<PreparedRule<'_>> = rules.iter().map(|rule| group.prepare(rule)).collect();
            let limit = AtMostLimit::of(&group, &rules);
            let mut misses = Vec::with_capacity(rules.len());
            for (position, one) in selected.iter().enumerate() {
                misses.clear();
                for rule in &rules {
                    match group.limited_outcome(rule, position, one, limit.as_ref()) {
                        RuleOutcome::Keeps(reason) => found.add(one.candidate.tag, reason),
                        RuleOutcome::FallsShort(miss) => misses.push(miss),
                    }
                }
                if misses.len() == rules.len() {
                    let misses = misses.as_slice().into();
                    found.add(one.candidate.tag, Reason::NotKept { policy: policy.name.clone(), shortfalls: misses });
                }
            }
        }
    }
}

/// Returns the outcomes of every rule of a policy for every selected tag of one repository, in the rules' order.
/// Without rules, `all` keeps and `none` has no outcome.
pub(super) fn rule_outcomes(
    policy: &Policy,
    all: &[Candidate<'_>],
    selected: &[Selected<'_>],
    timezone: &TimeZone,
    now: Timestamp,
) -> Vec<Vec<RuleOutcome>> {
    let rules = match &policy.keep {
        Keep::All => {
            let all = RuleOutcome::Keeps(Reason::KeptAll { policy: policy.name.clone() });
            return selected.iter().map(|_| vec![all.clone()]).collect();
        }
        Keep::None => return selected.iter().map(|_| Vec::new()).collect(),
        Keep::Rules(rules) => rules,
    };
    let group = Group::new(policy, all, selected, timezone, now);
    let rules: Vec<PreparedRule<'_>> = rules.iter().map(|rule| group.prepare(rule)).collect();
    let limit = AtMostLimit::of(&group, &rules);
    let outcome = |rule, position, one| group.limited_outcome(rule, position, one, limit.as_ref());
    let each = |(position, one)| rules.iter().map(|rule| outcome(rule, position, one)).collect();
    selected.iter().enumerate().map(each).collect()
}

/// Images in lines, each with one value: the highest of any of its tags. So all tags of an image share its rank, and
/// removals by a rule never change the rank of what it keeps.
struct Ranking<L, V> {
    best: Vec<(L, Node, Reverse<V>)>,
    places: Vec<(L, Reverse<V>)>,
}

impl<L: Ord + Copy, V: Ord + Copy> Ranking<L, V> {
    fn new(entries: impl Iterator<Item = (L, Node, V)>) -> Self {
        let mut best: Vec<_> = entries.map(|(line, image, value)| (line, image, Reverse(value))).collect();
        best.sort_unstable();
        best.dedup_by_key(|entry| (entry.0, entry.1));
        let mut places: Vec<_> = best.iter().map(|&(line, _, value)| (line, value)).collect();
        places.sort_unstable();
        Self { best, places }
    }

    /// Returns the value of an image; for a tag without one, its own.
    fn value(&self, line: L, image: Option<Node>, own: V) -> V {
        let at = image.and_then(|image| self.best.binary_search_by_key(&(line, image), |e| (e.0, e.1)).ok());
        at.map_or(own, |at| self.best[at].2.0)
    }

    /// Makes images with equal values in that sense share the place of the highest of them.
    fn share_places(mut self, same: impl Fn(V, V) -> bool) -> Self {
        self.places.dedup_by(|next, first| next.0 == first.0 && same(next.1.0, first.1.0));
        self
    }

    /// Returns true if the line has a place of exactly that value.
    fn has(&self, line: L, value: V) -> bool {
        self.places.binary_search(&(line, Reverse(value))).is_ok()
    }

    /// Returns one more than the number of places of the line with a higher value.
    fn rank(&self, line: L, value: V) -> u32 {
        let start = self.places.partition_point(|place| place.0 < line);
        let end = self.places.partition_point(|place| *place < (line, Reverse(value)));
        u32::try_from(end - start).unwrap_or(u32::MAX).saturating_add(1)
    }
}

/// A policy's selection in one repository, with data that several rules share.
struct Group<'a> {
    policy: &'a Policy,
    all: &'a [Candidate<'a>],
    selected: &'a [Selected<'a>],
    timezone: &'a TimeZone,
    now: Timestamp,
    times: OnceCell<Ranking<u32, Timestamp>>,
    days: OnceCell<Vec<Option<civil::Date>>>,
    versions: OnceCell<Vec<Option<Version>>>,
    undated: OnceCell<UndatedImages>,
}

/// A rule with its data about all selected tags.
enum PreparedRule<'a> {
    ByTime(TimeRule<'a>),
    ByVersion(VersionRule),
    Matching(&'a Globs),
    /// What the rule asks for: with each, the images of which some tag has it.
    ImageWith(Vec<ImagesWith<'a>>),
    Pulled(&'a WrittenDuration),
    /// The limit, which keeps nothing: see [`AtMostLimit`].
    AtMost {
        count: u32,
    },
}

/// The limit on what the rules by time of a policy keep: so many images of each group, the newest first.
struct AtMostLimit {
    count: u32,
    /// The images that the rules keep, by group, each with the newest of its kept tags.
    kept: Ranking<u32, Timestamp>,
}

impl AtMostLimit {
    /// The limit among some rules, where there is one.
    ///
    /// An image takes no place from a newer one. So after the removals, the images that the rules keep instead are older
    /// than those that stayed, and push none of them out.
    fn of(group: &Group<'_>, rules: &[PreparedRule<'_>]) -> Option<Self> {
        let count = rules.iter().find_map(|rule| match rule {
            PreparedRule::AtMost { count } => Some(*count),
            _ => None,
        })?;
        let kept = group.selected.iter().enumerate().filter_map(|(position, one)| {
            let own = one.candidate.date.timestamp()?;
            // A tag that is kept for an unknown time takes no place from others.
            let is_kept = rules.iter().any(|rule| {
                let outcome = group.rule_outcome(rule, position, one);
                matches!(
                    outcome,
                    RuleOutcome::Keeps(
                        Reason::KeptNewest { .. }
                            | Reason::KeptBucket { .. }
                            | Reason::KeptWithin { .. }
                            | Reason::KeptPulled { .. }
                    )
                )
            });
            let image = one.candidate.image?;
            is_kept.then_some((one.group, image, own))
        });
        Some(Self { count, kept: Ranking::new(kept.collect::<Vec<_>>().into_iter()) })
    }
}

/// The images of which some tag is such as a rule asks for, with the first of these tags by name.
struct ImagesWith<'a> {
    images: Vec<(Node, &'a TagName)>,
    /// Such a tag whose image was not read: it may be any.
    anywhere: Option<&'a TagName>,
}

impl<'a> ImagesWith<'a> {
    fn new(tags: impl Iterator<Item = &'a Candidate<'a>>) -> Self {
        let (mut images, mut anywhere) = (Vec::new(), None);
        for tag in tags {
            match tag.image {
                Some(image) => images.push((image, tag.name)),
                None => anywhere = anywhere.or(Some(tag.name)),
            }
        }
        images.sort_unstable();
        images.dedup_by_key(|entry| entry.0);
        Self { images, anywhere }
    }

    /// The tag for which an image stays. A tag whose own image was not read may be of any.
    fn tag_of(&self, image: Option<Node>) -> Option<&'a TagName> {
        let Some(image) = image else { return self.images.first().map(|entry| entry.1).or(self.anywhere) };
        let at = self.images.binary_search_by_key(&image, |entry| entry.0);
        at.map_or(self.anywhere, |at| Some(self.images[at].1))
    }
}

/// A rule that only a tag with a date can miss, or one that is certainly older than others.
enum TimeRule<'a> {
    Newest { count: u32 },
    Within(&'a WrittenDuration),
    Bucketed(BucketRule),
}

struct BucketRule {
    period: Period,
    count: u32,
    /// The periods of each group whose newest image is kept.
    kept: Vec<(u32, Bucket)>,
    /// The newest image's time in the oldest of these periods, for each group that has as many as count.
    oldest: Vec<(u32, Timestamp)>,
    ranking: Ranking<(u32, Bucket), Timestamp>,
}

/// A rule by version. A place is a distinct version: it is shared by images with the same version, or with versions
/// that have no order.
struct VersionRule {
    part: VersionPart,
    count: u32,
    /// The place of each selected tag, as a number; zero for what is not a version.
    order: Vec<u32>,
    /// The place of the release of each place's pre-release, if a tag has it.
    releases: Vec<Option<u32>>,
    /// The places, each with true if an image has exactly that version.
    ranking: Ranking<(u32, Line), (u32, bool)>,
}

impl VersionRule {
    /// Returns the rank of a tag in a line. An image that only shares the place of a release may be older than its
    /// pre-releases, so it does not displace them.
    fn rank(&self, line: (u32, Line), image: Option<Node>, position: usize) -> u32 {
        let (place, _) = self.ranking.value(line, image, (self.order[position], true));
        let rank = self.ranking.rank(line, (place, true));
        let release = usize::try_from(place).ok().and_then(|place| *self.releases.get(place)?);
        let unsure = release.is_some_and(|release| self.ranking.has(line, (release, false)));
        if unsure { rank.saturating_sub(1) } else { rank }
    }
}

impl<'a> Group<'a> {
    fn new(
        policy: &'a Policy,
        all: &'a [Candidate<'a>],
        selected: &'a [Selected<'a>],
        timezone: &'a TimeZone,
        now: Timestamp,
    ) -> Self {
        let (times, days, versions, undated) = (OnceCell::new(), OnceCell::new(), OnceCell::new(), OnceCell::new());
        Self { policy, all, selected, timezone, now, times, days, versions, undated }
    }

    fn times(&self) -> &Ranking<u32, Timestamp> {
        self.times.get_or_init(|| {
            Ranking::new(
                self.selected
                    .iter()
                    .filter_map(|one| Some((one.group, one.candidate.image?, one.candidate.date.timestamp()?))),
            )
        })
    }

    /// Returns the latest time at which an undated tag of the same image can have been pushed, if there is one.
    fn latest_undated(&self, one: &Selected<'_>) -> Option<Timestamp> {
        let undated = self.undated.get_or_init(|| UndatedImages::new(self.selected));
        undated.latest(one.group, one.candidate.image)
    }

    /// Returns the day of each selected tag.
    fn days(&self) -> &[Option<civil::Date>] {
        self.days.get_or_init(|| {
            let day = |time| self.timezone.to_datetime(time).date();
            self.selected.iter().map(|one| one.candidate.date.timestamp().map(day)).collect()
        })
    }

    fn versions(&self) -> &[Option<Version>] {
        self.versions.get_or_init(|| self.selected.iter().map(|one| Version::parse(one.version?)).collect())
    }

    fn prepare(&self, rule: &'a KeepRule) -> PreparedRule<'a> {
        match rule {
            KeepRule::Newest(count) => PreparedRule::ByTime(TimeRule::Newest { count: count.get() }),
            KeepRule::Within(span) => PreparedRule::ByTime(TimeRule::Within(span)),
            KeepRule::Bucketed { period, count } => self.buckets(*period, count.get()),
            KeepRule::NewestPer { version, count } => self.version_lines(*version, count.get()),
            KeepRule::Matching(globs) => PreparedRule::Matching(globs),
            KeepRule::ImageWith { tags, within } => {
                let named = tags.iter().map(|globs| {
                    ImagesWith::new(self.all.iter().filter(|candidate| globs.matches(candidate.name.as_str())))
                });
                let recent = within.iter().map(|span| {
                    ImagesWith::new(self.all.iter().filter(|candidate| {
                        let latest = candidate.date.timestamp().or(candidate.no_later_than);
                        latest.is_none_or(|time| self.now.duration_since(time) <= span.duration)
                    }))
                });
                PreparedRule::ImageWith(named.chain(recent).collect())
            }
            KeepRule::PulledWithin(span) => PreparedRule::Pulled(span),
            KeepRule::AtMost(count) => PreparedRule::AtMost { count: count.get() },
        }
    }

    /// Prepares the last `count` periods of each group that have an image. An image counts in each period in which one
    /// of its tags was pushed; otherwise, removing its newest tag would move it into another period.
    fn buckets(&self, period: Period, count: u32) -> PreparedRule<'a> {
        let entries = self.selected.iter().zip(self.days()).filter_map(|(one, day)| {
            let (image, time) = (one.candidate.image?, one.candidate.date.timestamp()?);
            Some(((one.group, bucket(period, (*day)?)), image, time))
        });
        let ranking = Ranking::new(entries);
        let (mut kept, mut oldest) = (Vec::new(), Vec::new());
        let (mut group, mut left) = (None, count);
        for (line, Reverse(newest)) in ranking.places.chunk_by(|a, b| a.0 == b.0).rev().map(|line| line[0]) {
            if group.replace(line.0) != Some(line.0) {
                left = count;
            }
            if left > 0 {
                left -= 1;
                kept.push(line);
                oldest.extend((left == 0).then_some((line.0, newest)));
            }
        }
        kept.reverse();
        oldest.reverse();
        PreparedRule::ByTime(TimeRule::Bucketed(BucketRule { period, count, kept, oldest, ranking }))
    }

    fn version_lines(&self, part: VersionPart, count: u32) -> PreparedRule<'a> {
        let versions = self.versions();
        let mut sorted: Vec<&VersionOrder> = versions.iter().flatten().map(|version| &version.order).collect();
        sorted.sort_unstable();
        sorted.dedup();
        let number = |place: usize| u32::try_from(place).unwrap_or(u32::MAX);
        let place = |version: &Version| number(sorted.partition_point(|other| **other < version.order));
        let order: Vec<u32> = versions.iter().map(|version| version.as_ref().map_or(0, place)).collect();
        let there = |release: VersionOrder| sorted.binary_search(&&release).ok().map(number);
        let releases = sorted.iter().map(|place| place.release().and_then(&there)).collect();
        let entries = self.selected.iter().zip(versions).zip(&order).filter_map(|((one, version), &order)| {
            let version = version.as_ref()?;
            Some(((one.group, version.line(part)), one.candidate.image?, (order, !version.is_inexact)))
        });
        let ranking = Ranking::new(entries).share_places(|one, other| one.0 == other.0);
        PreparedRule::ByVersion(VersionRule { part, count, order, releases, ranking })
    }

    /// Returns the outcome of a rule within the limit of the policy, if it has one. The limit never applies to tags that
    /// `within` keeps, and to those without a time.
    fn limited_outcome(
        &self,
        rule: &PreparedRule<'_>,
        position: usize,
        one: &Selected<'_>,
        limit: Option<&AtMostLimit>,
    ) -> RuleOutcome {
        let outcome = self.rule_outcome(rule, position, one);
        let Some(limit) = limit else { return outcome };
        let rank = |own| {
            let value = limit.kept.value(one.group, one.candidate.image, own);
            limit.kept.rank(one.group, self.latest_undated(one).map_or(value, |latest| value.max(latest)))
        };
        let rank = one.candidate.date.timestamp().map(rank);
        let count = limit.count;
        match &outcome {
            RuleOutcome::Keeps(Reason::KeptNewest { .. } | Reason::KeptBucket { .. } | Reason::KeptPulled { .. })
                if rank > Some(count) =>
            {
                RuleOutcome::FallsShort(Shortfall::AtMost { rank, count })
            }
            _ => outcome,
        }
    }

    fn rule_outcome(&self, rule: &PreparedRule<'_>, position: usize, one: &Selected<'_>) -> RuleOutcome {
        let policy = || self.policy.name.clone();
        match rule {
            PreparedRule::ByTime(rule) => match one.candidate.date {
                Date::Pushed(time) | Date::Created(time) | Date::FirstSeen(time) | Date::Original(time, _) => {
                    let outcome = self.time_rule_outcome(rule, position, one, time);
                    match (&outcome, self.latest_undated(one)) {
                        (RuleOutcome::FallsShort(_), Some(latest)) if self.may_keep(rule, position, one, latest) => {
                            RuleOutcome::Keeps(Reason::Undated { policy: policy(), cause: UndatedCause::OtherTag })
                        }
                        _ => outcome,
                    }
                }
                Date::Unknown(why) => {
                    let missed = one.candidate.no_later_than.and_then(|own| self.undated_shortfall(rule, one, own));
                    missed.map_or_else(
                        || RuleOutcome::Keeps(Reason::Undated { policy: policy(), cause: why }),
                        RuleOutcome::FallsShort,
                    )
                }
            },
            PreparedRule::ByVersion(rule) => {
                let Some(version) = &self.versions()[position] else {
                    return RuleOutcome::Keeps(Reason::NotAVersion { policy: policy() });
                };
                let (part, count) = (rule.part, rule.count);
                let rank = rule.rank((one.group, version.line(part)), one.candidate.image, position);
                if rank <= count {
                    let line = version.line_text(part);
                    RuleOutcome::Keeps(Reason::KeptVersion { policy: policy(), part, line, rank, count })
                } else {
                    RuleOutcome::FallsShort(Shortfall::Version { part, rank, count })
                }
            }
            PreparedRule::Matching(globs) => match globs.first_match(one.candidate.name.as_str()) {
                Some(glob) => RuleOutcome::Keeps(Reason::KeptMatching { policy: policy(), glob: glob.clone() }),
                None => RuleOutcome::FallsShort(Shortfall::Matching),
            },
            PreparedRule::ImageWith(asked) => {
                let tags: Option<Vec<&TagName>> =
                    asked.iter().map(|images| images.tag_of(one.candidate.image)).collect();
                match tags.as_deref().and_then(<[_]>::first) {
                    Some(&tag) => RuleOutcome::Keeps(Reason::KeptImageWith { policy: policy(), tag: tag.clone() }),
                    None => RuleOutcome::FallsShort(Shortfall::ImageWith),
                }
            }
            PreparedRule::Pulled(span) => self.pulled_outcome(span, one),
            &PreparedRule::AtMost { count } => RuleOutcome::FallsShort(Shortfall::AtMost { rank: None, count }),
        }
    }

    /// Keeps tags that were pulled or pushed within the window, and those whose last pull is unknown. A pull in the future
    /// was recorded by a wrong clock, so it counts as unknown.
    fn pulled_outcome(&self, span: &WrittenDuration, one: &Selected<'_>) -> RuleOutcome {
        let policy = || self.policy.name.clone();
        let pulled = match one.candidate.pulled {
            Some(PullTime::At(at)) if at.timestamp() > self.now => None,
            pulled => pulled,
        };
        let Some(pulled) = pulled else { return RuleOutcome::Keeps(Reason::PullTimeUnknown { policy: policy() }) };
        let pushed = match one.candidate.date {
            Date::Unknown(cause) => return RuleOutcome::Keeps(Reason::Undated { policy: policy(), cause }),
            Date::Pushed(time) | Date::Created(time) | Date::FirstSeen(time) | Date::Original(time, _) => time,
        };
        let last = match pulled {
            PullTime::Never => pushed,
            PullTime::At(at) => pushed.max(at.timestamp()),
        };
        let (idle, within) = (self.now.duration_since(last), span.written.clone());
        if idle <= span.duration {
            let until = last.checked_add(span.duration).unwrap_or(Timestamp::MAX);
            return RuleOutcome::Keeps(Reason::KeptPulled { policy: policy(), within, until });
        }
        let never = pulled == PullTime::Never;
        RuleOutcome::FallsShort(Shortfall::Pulled { idle_seconds: idle.as_secs(), within, never })
    }

    fn time_rule_outcome(
        &self,
        rule: &TimeRule<'_>,
        position: usize,
        one: &Selected<'_>,
        own: Timestamp,
    ) -> RuleOutcome {
        let policy = || self.policy.name.clone();
        match rule {
            &TimeRule::Newest { count } => {
                let times = self.times();
                let rank = times.rank(one.group, times.value(one.group, one.candidate.image, own));
                if rank <= count {
                    RuleOutcome::Keeps(Reason::KeptNewest { policy: policy(), rank, count })
                } else {
                    RuleOutcome::FallsShort(Shortfall::Newest { rank, count })
                }
            }
            TimeRule::Within(span) => {
                let within = span.written.clone();
                let age = self.now.duration_since(own);
                if age <= span.duration {
                    let until = own.checked_add(span.duration).unwrap_or(Timestamp::MAX);
                    RuleOutcome::Keeps(Reason::KeptWithin { policy: policy(), within, until })
                } else {
                    RuleOutcome::FallsShort(Shortfall::Within { age_seconds: age.as_secs(), within })
                }
            }
            TimeRule::Bucketed(rule) => {
                let BucketRule { period, count, kept, ranking, .. } = rule;
                let (period, count) = (*period, *count);
                let Some(day) = self.days()[position] else {
                    return RuleOutcome::FallsShort(Shortfall::Bucket { period, count });
                };
                let line = (one.group, bucket(period, day));
                if kept.binary_search(&line).is_ok()
                    && ranking.rank(line, ranking.value(line, one.candidate.image, own)) == 1
                {
                    let bucket = bucket_text(period, day);
                    RuleOutcome::Keeps(Reason::KeptBucket { policy: policy(), period, bucket, count })
                } else {
                    RuleOutcome::FallsShort(Shortfall::Bucket { period, count })
                }
            }
        }
    }

    /// Returns true if a rule by rank keeps a dated tag if its image was pushed as late as `latest`.
    fn may_keep(&self, rule: &TimeRule<'_>, position: usize, one: &Selected<'_>, latest: Timestamp) -> bool {
        match rule {
            &TimeRule::Newest { count } => {
                let times = self.times();
                let newest = times.value(one.group, one.candidate.image, latest).max(latest);
                times.rank(one.group, newest) <= count
            }
            // It goes by the tag's own time.
            TimeRule::Within(_) => false,
            TimeRule::Bucketed(BucketRule { period, kept, ranking, .. }) => self.days()[position].is_some_and(|day| {
                let line = (one.group, bucket(*period, day));
                kept.binary_search(&line).is_ok() && ranking.rank(line, latest) == 1
            }),
        }
    }

    /// Returns the margin by which an undated tag certainly misses a rule, because it was pushed no later than `own`, and
    /// no undated tag of its image was much later. It takes no place itself, and only certainly younger images rank
    /// before it.
    fn undated_shortfall(&self, rule: &TimeRule<'_>, one: &Selected<'_>, own: Timestamp) -> Option<Shortfall> {
        let latest = self.latest_undated(one).map_or(own, |latest| latest.max(own));
        match rule {
            &TimeRule::Newest { count } => {
                let times = self.times();
                let newest = times.value(one.group, one.candidate.image, latest).max(latest);
                let rank = times.rank(one.group, newest);
                (rank > count).then_some(Shortfall::Newest { rank, count })
            }
            TimeRule::Within(span) => {
                let age = self.now.duration_since(own);
                let miss = || Shortfall::Within { age_seconds: age.as_secs(), within: span.written.clone() };
                (age > span.duration).then(miss)
            }
            TimeRule::Bucketed(BucketRule { period, count, oldest, .. }) => {
                let at = oldest.binary_search_by_key(&one.group, |&(group, _)| group).ok()?;
                (oldest[at].1 > latest).then_some(Shortfall::Bucket { period: *period, count: *count })
            }
        }
    }
}
