//! The tags of a repository, newest first, with the cutoffs of the keep rules.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::humanize::{counted, format_count, sanitize};
use super::notation::format_minute;
use super::rule_trace::{cutoff, date_of, group_text, rule_text};
use super::text::{heading, line};
use super::{CutoffView, PlanDocument, ReasonView};
use crate::domain::{Claims, Inventory, Keep, RegistryName, RepositoryName, Rules, TagPosition, Verdict};
use crate::engine::{self, Applicability, Forecast, RuleOutcome, RuleTrace, TagTrace, Verdicts};

/// Most tags of a group that the text shows.
const MOST_TAGS: usize = 200;

/// A repository's tags on a timeline: `tagwarden.timeline/1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineView {
    /// `tagwarden.timeline/1`.
    pub schema: String,
    /// The time for which it was decided.
    pub evaluated_at: Timestamp,
    /// The registry.
    pub registry: String,
    /// The repository.
    pub repository: String,
    /// The tags by policy and group. A tag that several policies select is in the groups of each.
    pub groups: Vec<TimelineGroup>,
}

/// The tags that one policy counts together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineGroup {
    /// The policy; `None` for tags that no policy selects, or if a recorded plan does not show it.
    pub policy: Option<String>,
    /// `dry-run` or `enforce`.
    pub mode: Option<String>,
    /// The rules of its `keep`.
    pub keep: Vec<String>,
    /// The names of `group_by`, each with its value.
    pub group: BTreeMap<String, String>,
    /// The tags, newest first; those without a date come first.
    pub tags: Vec<TimelineTag>,
    /// The cutoffs of the rules, the latest first.
    pub cutoffs: Vec<TimelineCutoff>,
}

/// One tag on the timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineTag {
    /// The tag.
    pub tag: String,
    /// Its digest, if it could be read.
    pub digest: Option<String>,
    /// The date by which it is decided.
    pub dated_at: Option<Timestamp>,
    /// The origin of that date.
    pub dated_by: String,
    /// The verdict.
    pub verdict: String,
    /// The rules of this policy that keep it.
    pub kept_by: Vec<String>,
    /// The time at which it expires if nothing but time changes.
    pub expires_at: Option<Timestamp>,
    /// The reasons for the verdict.
    pub reasons: Vec<ReasonView>,
}

/// The cutoff of a keep rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineCutoff {
    /// The rule, as a policy file writes it.
    pub rule: String,
    /// The cutoff.
    #[serde(flatten)]
    pub cutoff: CutoffView,
}

/// Returns the timeline of a repository that was read and decided; `None` if it has no tags.
#[must_use]
pub fn timeline(
    rules: &Rules,
    inventory: &Inventory,
    claims: &Claims,
    verdicts: &Verdicts,
    now: Timestamp,
    place: (&RegistryName, &RepositoryName),
) -> Option<TimelineView> {
    let at = inventory.registries.iter().position(|registry| registry.name == *place.0)?;
    let registry = &inventory.registries[at];
    let inside = registry.repositories.iter().position(|repository| repository.name == *place.1)?;
    let repository = &registry.repositories[inside];
    if repository.tags.is_empty() {
        return None;
    }
    let first = TagPosition { registry: u32::try_from(at).ok()?, repository: u32::try_from(inside).ok()?, tag: 0 };
    let places: Vec<TagPosition> = (0..).zip(&repository.tags).map(|(tag, _)| TagPosition { tag, ..first }).collect();
    let forecasts = engine::forecast(rules, inventory, claims, now, &places);
    let row = |tag: u32, kept_by: Vec<String>| {
        let facts = repository.tags.get(tag as usize)?;
        let found = verdicts.at(TagPosition { tag, ..first })?;
        let date = date_of(repository, tag, now);
        Some(TimelineTag {
            tag: facts.name.to_string(),
            digest: facts.digest.as_ref().map(ToString::to_string),
            dated_at: date.timestamp(),
            dated_by: date.label().to_owned(),
            verdict: found.verdict.label().to_owned(),
            kept_by,
            expires_at: match forecasts.get(tag as usize) {
                Some(Forecast::At { at, .. }) => Some(*at),
                _ => None,
            },
            reasons: found
                .reasons
                .iter()
                .filter(|one| one.implied_verdict() == found.verdict)
                .map(Into::into)
                .collect(),
        })
    };
    let weighing = engine::trace_rules(rules, registry, repository, now);
    let mut groups = Vec::new();
    for weighing in weighing.iter().filter(|weighing| weighing.applicability == Applicability::Applies) {
        for (group, peers) in group_tags(weighing, |tag| repository.tags.get(tag as usize).map(|tag| tag.name.as_str()))
        {
            let tags = peers.iter().filter_map(|peer| row(peer.tag, kept_by(weighing, peer))).collect();
            let rules = weighing.policy.keep.rules().iter().enumerate();
            let cutoffs = rules.filter_map(|(at, rule)| {
                let cutoff = cutoff(rule, at, &peers, repository, now)?;
                Some(TimelineCutoff { rule: rule_text(rule), cutoff })
            });
            groups.push(sorted(TimelineGroup {
                policy: Some(weighing.policy.name.to_string()),
                mode: Some(weighing.policy.mode.label().to_owned()),
                keep: keep_text(&weighing.policy.keep),
                group,
                tags,
                cutoffs: cutoffs.collect(),
            }));
        }
    }
    let selected: std::collections::HashSet<u32> =
        weighing.iter().flat_map(|weighing| &weighing.tags).map(|tag| tag.tag).collect();
    let others = places.iter().filter(|at| !selected.contains(&at.tag));
    let others: Vec<TimelineTag> = others.filter_map(|at| row(at.tag, Vec::new())).collect();
    groups.extend((!others.is_empty()).then(|| sorted(unselected_group(others))));
    Some(TimelineView {
        schema: SCHEMA.to_owned(),
        evaluated_at: now,
        registry: registry.name.to_string(),
        repository: repository.name.to_string(),
        groups,
    })
}

const SCHEMA: &str = "tagwarden.timeline/1";

/// Returns the group of tags that no policy selects.
fn unselected_group(tags: Vec<TimelineTag>) -> TimelineGroup {
    TimelineGroup { policy: None, mode: None, keep: Vec::new(), group: BTreeMap::new(), tags, cutoffs: Vec::new() }
}

/// Returns the timeline of a repository by a recorded plan: every tag, without the rules' cutoffs, which plans do not
/// contain. Returns `None` if the plan does not contain the repository.
#[must_use]
pub fn recorded_timeline(document: &PlanDocument, registry: &str, repository: &str) -> Option<TimelineView> {
    let here = |of: &str, at: &str| of == registry && at == repository;
    let gone = document.removals.iter().filter(|one| here(&one.registry, &one.repository)).map(|one| TimelineTag {
        tag: one.tag.clone(),
        digest: Some(one.digest.clone()),
        dated_at: one.dated_at,
        dated_by: one.dated_by.clone(),
        verdict: Verdict::Expired.label().to_owned(),
        kept_by: Vec::new(),
        expires_at: None,
        reasons: one.reasons.clone(),
    });
    let kept = document.kept.iter().filter(|one| here(&one.registry, &one.repository)).map(|one| TimelineTag {
        tag: one.tag.clone(),
        digest: one.digest.clone(),
        dated_at: one.dated_at,
        dated_by: one.dated_by.clone(),
        verdict: one.verdict.clone(),
        kept_by: Vec::new(),
        expires_at: None,
        reasons: one.reasons.clone(),
    });
    let tags: Vec<TimelineTag> = gone.chain(kept).collect();
    (!tags.is_empty()).then(|| TimelineView {
        schema: SCHEMA.to_owned(),
        evaluated_at: document.evaluated_at,
        registry: registry.to_owned(),
        repository: repository.to_owned(),
        groups: vec![sorted(unselected_group(tags))],
    })
}

type GroupedTags<'a> = BTreeMap<BTreeMap<String, String>, Vec<&'a TagTrace>>;

/// Groups the tags that a policy counts together.
fn group_tags<'a, 'n>(weighing: &'a RuleTrace<'_>, name: impl Fn(u32) -> Option<&'n str>) -> GroupedTags<'a> {
    let mut groups = GroupedTags::new();
    for tag in &weighing.tags {
        let group = name(tag.tag).map(|name| engine::group_of(weighing.policy, name)).unwrap_or_default();
        groups.entry(group.into_iter().collect()).or_default().push(tag);
    }
    groups
}

fn kept_by(weighing: &RuleTrace<'_>, tag: &TagTrace) -> Vec<String> {
    let texts = keep_text(&weighing.policy.keep);
    let keeps = tag.outcomes.iter().zip(texts).filter(|(said, _)| matches!(said, RuleOutcome::Keeps(_)));
    keeps.map(|(_, text)| text).collect()
}

fn keep_text(keep: &Keep) -> Vec<String> {
    match keep {
        Keep::All => vec!["all".to_owned()],
        Keep::None => vec!["none".to_owned()],
        Keep::Rules(rules) => rules.iter().map(rule_text).collect(),
    }
}

/// Sorts tags and cutoffs, newest first.
fn sorted(mut group: TimelineGroup) -> TimelineGroup {
    let newest = |tag: &TimelineTag| std::cmp::Reverse(tag.dated_at.unwrap_or(Timestamp::MAX));
    group.tags.sort_by(|a, b| (newest(a), &a.tag).cmp(&(newest(b), &b.tag)));
    group.cutoffs.sort_by(|a, b| (b.cutoff.at, &a.rule).cmp(&(a.cutoff.at, &b.rule)));
    group
}

/// Renders the timeline for the terminal.
#[must_use]
pub fn timeline_text(view: &TimelineView) -> String {
    let mut out = String::new();
    line(
        &mut out,
        0,
        &format!("{}/{} on {}, newest first", view.registry, view.repository, format_minute(view.evaluated_at)),
    );
    for group in &view.groups {
        let mut title = match (&group.policy, &group.mode) {
            (Some(policy), Some(mode)) => format!("policy {policy} ({mode}), keep {}", group.keep.join(", ")),
            _ if view.groups.len() == 1 => "all tags".to_owned(),
            _ => "of no policy".to_owned(),
        };
        if !group.group.is_empty() {
            title.extend([", group ", &group_text(&group.group)]);
        }
        heading(&mut out, &title);
        tags(&mut out, group);
    }
    if view.groups.iter().flat_map(|group| &group.tags).any(|tag| tag.expires_at.is_some()) {
        heading(
            &mut out,
            "`goes` tells what time alone will do, if nothing is pushed, released, claimed or locked before.",
        );
    }
    out
}

fn tags(out: &mut String, group: &TimelineGroup) {
    let widest = group.tags.iter().take(MOST_TAGS).map(|tag| tag.tag.len()).max().unwrap_or_default();
    let mut cutoffs = group.cutoffs.iter().peekable();
    // The cutoff lies below the last tag that the rule keeps, or that is as old as its window.
    let below = |cut: &CutoffView, tag: &TimelineTag| tag.dated_at.is_some_and(|time| time < cut.at);
    for tag in group.tags.iter().take(MOST_TAGS) {
        while let Some(found) = cutoffs.next_if(|found| below(&found.cutoff, tag)) {
            line(out, 1, &cut_line(found));
        }
        let time = tag.dated_at.map_or_else(|| format!("{:<20}", "no time"), format_minute);
        let mut words = format!("{time}  {:<widest$}  {:<12}", sanitize(&tag.tag), tag.verdict);
        let retained = tag.verdict == Verdict::Retained.label() && !tag.kept_by.is_empty();
        let why = match tag.reasons.first().filter(|_| !retained) {
            Some(reason) => reason.sentence(),
            None => tag.kept_by.join(", "),
        };
        words.extend(["  ", &why]);
        if let Some(goes) = tag.expires_at {
            words.extend(["; goes ", &format_minute(goes)]);
        }
        line(out, 1, words.trim_end());
    }
    if group.tags.len() > MOST_TAGS {
        let left = format_count((group.tags.len() - MOST_TAGS) as u64);
        line(
            out,
            1,
            &format!("and {left} older ones: `--format json` lists all of {}", counted(group.tags.len() as u64, "tag")),
        );
        return;
    }
    for found in cutoffs {
        line(out, 1, &cut_line(found));
    }
}

fn cut_line(found: &TimelineCutoff) -> String {
    match &found.cutoff.tag {
        Some(tag) => format!("──── {} cuts here, after {tag}", found.rule),
        None => format!("──── {} cuts here, at {}", found.rule, format_minute(found.cutoff.at)),
    }
}
