//! `mentions`, `unresolved`, `ranges` and `exceptions` of a source: how its texts are read.

use super::reading::Reading;
use crate::domain::{Globs, Ranges};
use crate::policy_file::{Fields, Node, read};
use crate::sources::{Mentions, OpenReferences, TextException, TextSettings};

const MENTIONS: [(&str, Mentions); 3] = [
    (Mentions::Protect.label(), Mentions::Protect),
    (Mentions::Report.label(), Mentions::Report),
    (Mentions::Off.label(), Mentions::Off),
];
const UNRESOLVED: [(&str, OpenReferences); 2] =
    [(OpenReferences::Keep.label(), OpenReferences::Keep), (OpenReferences::Note.label(), OpenReferences::Note)];
const RANGES: [(&str, Ranges); 2] = [("highest", Ranges::Highest), ("all", Ranges::All)];

/// Reads those keys of a source.
pub(super) fn texts(fields: &mut Fields<'_>, reading: &mut Reading) -> Option<TextSettings> {
    let (mentions, unresolved) = effects(fields, reading);
    let ranges = fields.get("ranges").map(|node| read::choice("ranges", node, &RANGES, &mut reading.problems));
    let exceptions = fields.get("exceptions").map(|node| {
        let items = read::list("exceptions", node, &mut reading.problems)?;
        let read: Vec<Option<TextException>> = items.iter().map(|item| exception(item, reading)).collect();
        read.into_iter().collect::<Option<Vec<_>>>()
    });
    Some(TextSettings {
        mentions: mentions?.unwrap_or_default(),
        unresolved: unresolved?.unwrap_or_default(),
        ranges: ranges.unwrap_or(Some(Ranges::Highest))?,
        exceptions: exceptions.unwrap_or_else(|| Some(Vec::new()))?,
    })
}

type Effects = (Option<Option<Mentions>>, Option<Option<OpenReferences>>);

fn effects(fields: &mut Fields<'_>, reading: &mut Reading) -> Effects {
    let mentions = fields.get("mentions").map(|node| read::choice("mentions", node, &MENTIONS, &mut reading.problems));
    let unresolved =
        fields.get("unresolved").map(|node| read::choice("unresolved", node, &UNRESOLVED, &mut reading.problems));
    (mentions.map_or(Some(None), |read| read.map(Some)), unresolved.map_or(Some(None), |read| read.map(Some)))
}

fn exception(node: &Node, reading: &mut Reading) -> Option<TextException> {
    let mut fields = Fields::of(node, "exception", &mut reading.problems)?;
    let at = fields.at().clone();
    let paths = fields.get("paths").map(|node| globs(node, reading));
    let kinds = fields.get("kinds").map(|node| {
        let (kinds, sound) = read::texts("kinds", node, &mut reading.problems)?;
        sound.then(|| kinds.into_iter().map(|(kind, _)| kind).collect::<Vec<_>>())
    });
    if paths.is_none() && kinds.is_none() {
        reading.problems.add(&at, "an exception that covers every text").help(
            "name what it covers with `paths` or `kinds`, or set `mentions` and `unresolved` for the whole source",
        );
        return None;
    }
    let (mentions, unresolved) = effects(&mut fields, reading);
    fields.finish(|_| None, &mut reading.problems);
    Some(TextException {
        paths: paths.map_or(Some(None), |paths| paths.map(Some))?,
        kinds: kinds.unwrap_or_else(|| Some(Vec::new()))?,
        mentions: mentions?,
        unresolved: unresolved?,
    })
}

fn globs(node: &Node, reading: &mut Reading) -> Option<Globs> {
    let (written, sound) = read::texts("paths", node, &mut reading.problems)?;
    let texts: Vec<&str> = written.iter().map(|(text, _)| text.as_str()).collect();
    match Globs::new(&texts) {
        Ok(globs) => sound.then_some(globs),
        Err((at, error)) => {
            let (text, place) = &written[at];
            reading.problems.add(place, format!("invalid glob `{text}`: {}", error.kind()));
            None
        }
    }
}
