//! One source in detail, for the terminal.

use std::collections::BTreeSet;

use super::humanize::{counted, format_age, format_count};
use super::notation::format_minute;
use super::reason::describe_match;
use super::text::{heading, line};
use super::{ClaimView, MentionView, ProtectedTagView, SourceDetailView, UnresolvedView};

/// Most entries of a group, unless all are requested.
const MOST_ENTRIES: usize = 200;
/// Most tags and repositories of an entry, unless all are requested.
const MOST_TAGS: usize = 20;

/// Renders the source: its state, then its claims, mentions and unresolved references, each with its place and the tags
/// that it protects. Long lists are truncated unless `all` is set.
#[must_use]
pub fn source_detail_text(view: &SourceDetailView, all: bool) -> String {
    let mut out = String::new();
    head(&mut out, view);
    if view.error.is_some() {
        return out;
    }
    let most = if all { ListLimits { entries: usize::MAX, tags: usize::MAX } } else { ListLimits::default() };
    let (claims, mentions, references) = (&view.claims, &view.mentions, &view.unresolved);
    heading(&mut out, &format!("Claims ({}): images that it names", format_count(claims.len() as u64)));
    most.list(&mut out, claims, claim);
    let words = "words that may mean tags which it does not claim";
    heading(&mut out, &format!("Mentions ({}): {words}", format_count(mentions.len() as u64)));
    most.list(&mut out, mentions, mention);
    let words = "references to a repository that leave the tag open";
    heading(&mut out, &format!("Unresolved ({}): {words}", format_count(references.len() as u64)));
    most.list(&mut out, references, unresolved);
    let remedies: BTreeSet<&String> = references.iter().filter_map(|one| one.remedy.as_ref()).collect();
    if !remedies.is_empty() {
        heading(&mut out, "To have them decided");
    }
    for remedy in remedies {
        line(&mut out, 1, remedy);
    }
    out
}

fn head(out: &mut String, view: &SourceDetailView) {
    let SourceDetailView { name, kind, state, .. } = view;
    if let Some(failure) = &view.error {
        let label = view.error_kind.as_ref().map(|kind| format!(" ({kind})")).unwrap_or_default();
        return line(out, 0, &format!("{name} ({kind}): FAILED{label}: {failure}"));
    }
    let evidence = view.as_of.map_or_else(String::new, |time| {
        let seconds = view.evaluated_at.duration_since(time).as_secs();
        format!(", as of {} ({} old)", format_minute(time), format_age(seconds))
    });
    line(out, 0, &format!("{name} ({kind}): {state}{evidence}"));
    if let Some(registries) = &view.registries {
        line(out, 1, &format!("for {}", registries.join(", ")));
    }
    let only = match view.only_mentioned {
        0 => String::new(),
        only => format!(", {} of them by nothing but mentions", format_count(only)),
    };
    line(out, 1, &format!("protects {}{only}", counted(view.protects, "tag")));
    if view.undecided > 0 {
        line(out, 1, &format!("keeps {} undecided", counted(view.undecided, "tag")));
    }
    for note in &view.notes {
        line(out, 1, &format!("note: {note}"));
    }
}

/// The limits on long lists.
struct ListLimits {
    entries: usize,
    tags: usize,
}

impl Default for ListLimits {
    fn default() -> Self {
        Self { entries: MOST_ENTRIES, tags: MOST_TAGS }
    }
}

impl ListLimits {
    fn list<T>(&self, out: &mut String, entries: &[T], entry: impl Fn(&Self, &mut String, &T)) {
        if entries.is_empty() {
            line(out, 1, "none");
        }
        for one in entries.iter().take(self.entries) {
            entry(self, out, one);
        }
        more(out, 1, entries.len(), self.entries);
    }

    fn tags(&self, out: &mut String, tags: &[ProtectedTagView]) {
        for tag in tags.iter().take(self.tags) {
            let by = tag.by.as_ref().map(|by| format!(", {}", describe_match(by, tag.digest.as_deref())));
            line(out, 2, &format!("protects {}{}", tag.name(), by.unwrap_or_default()));
        }
        more(out, 2, tags.len(), self.tags);
    }
}

fn more(out: &mut String, indent: usize, total: usize, shown: usize) {
    if total > shown {
        line(out, indent, &format!("and {} more (--all)", format_count((total - shown) as u64)));
    }
}

fn claim(most: &ListLimits, out: &mut String, claim: &ClaimView) {
    line(out, 1, &format!("{}: {}", claim.image, claim.place));
    if !claim.names.is_empty() {
        line(out, 2, &format!("as {}", claim.names.join(", ")));
    }
    most.tags(out, &claim.tags);
    if claim.undecided > 0 {
        line(out, 2, &format!("may mean {}, undecided for want of more", counted(claim.undecided, "tag")));
    }
    if let Some(note) = &claim.note {
        line(out, 2, note);
    }
}

fn mention(most: &ListLimits, out: &mut String, mention: &MentionView) {
    line(out, 1, &format!("`{}`: {}", mention.text, mention.place));
    most.tags(out, &mention.tags);
    if let Some(note) = &mention.note {
        line(out, 2, &format!("{note}: {}", mention.images.join(", ")));
    }
}

fn unresolved(most: &ListLimits, out: &mut String, one: &UnresolvedView) {
    line(out, 1, &format!("{}: {}", one.text, one.place));
    if let Some(note) = &one.note {
        line(out, 2, note);
    }
    for found in one.repositories.iter().take(most.tags) {
        let tags = counted(found.undecided, "tag");
        line(out, 2, &format!("keeps {tags} of {}/{} undecided", found.registry, found.repository));
    }
    more(out, 2, one.repositories.len(), most.tags);
    if one.undecided > 0 {
        let only = match one.undecided_only {
            0 => "none".to_owned(),
            only if only == one.undecided => "all".to_owned(),
            only => format_count(only),
        };
        line(out, 2, &format!("{only} of that only because of this reference"));
    }
}
