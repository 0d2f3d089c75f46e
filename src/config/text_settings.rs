//! `mentions`, `unresolved`, `ranges` and `exceptions` of a source: the options for reading its texts.

use super::reader::SettingsReader;
use crate::domain::{Globs, RangeSelection};
use crate::policy::{Fields, Node, fields};
use crate::sources::{MentionEffect, TextException, TextSettings, UnresolvedEffect};

const MENTIONS: [(&str, MentionEffect); 3] = [
    (MentionEffect::Protect.label(), MentionEffect::Protect),
    (MentionEffect::Report.label(), MentionEffect::Report),
    (MentionEffect::Off.label(), MentionEffect::Off),
];
const UNRESOLVED: [(&str, UnresolvedEffect); 2] = [
    (UnresolvedEffect::Keep.label(), UnresolvedEffect::Keep),
    (UnresolvedEffect::Note.label(), UnresolvedEffect::Note),
];
const RANGES: [(&str, RangeSelection); 2] = [("highest", RangeSelection::Highest), ("all", RangeSelection::All)];

/// Parses those keys of a source.
pub(super) fn texts(fields: &mut Fields<'_>, reader: &mut SettingsReader) -> Option<TextSettings> {
    let (mentions, unresolved) = effects(fields, reader);
    let ranges = fields.get("ranges").map(|node| fields::choice("ranges", node, &RANGES, &mut reader.problems));
    let exceptions = fields.get("exceptions").map(|node| {
        let items = fields::list("exceptions", node, &mut reader.problems)?;
        let read: Vec<Option<TextException>> = items.iter().map(|item| exception(item, reader)).collect();
        read.into_iter().collect::<Option<Vec<_>>>()
    });
    Some(TextSettings {
        mentions: mentions?.unwrap_or_default(),
        unresolved: unresolved?.unwrap_or_default(),
        ranges: ranges.unwrap_or(Some(RangeSelection::Highest))?,
        exceptions: exceptions.unwrap_or_else(|| Some(Vec::new()))?,
    })
}

type Effects = (Option<Option<MentionEffect>>, Option<Option<UnresolvedEffect>>);

fn effects(fields: &mut Fields<'_>, reader: &mut SettingsReader) -> Effects {
    let mentions = fields.get("mentions").map(|node| fields::choice("mentions", node, &MENTIONS, &mut reader.problems));
    let unresolved =
        fields.get("unresolved").map(|node| fields::choice("unresolved", node, &UNRESOLVED, &mut reader.problems));
    (mentions.map_or(Some(None), |read| read.map(Some)), unresolved.map_or(Some(None), |read| read.map(Some)))
}

fn exception(node: &Node, reader: &mut SettingsReader) -> Option<TextException> {
    let mut fields = Fields::of(node, "exception", &mut reader.problems)?;
    let at = fields.at().clone();
    let paths = fields.get("paths").map(|node| globs(node, reader));
    let kinds = fields.get("kinds").map(|node| {
        let (kinds, sound) = fields::texts("kinds", node, &mut reader.problems)?;
        sound.then(|| kinds.into_iter().map(|(kind, _)| kind).collect::<Vec<_>>())
    });
    if paths.is_none() && kinds.is_none() {
        reader.problems.add(&at, "an exception that covers every text").help(
            "name what it covers with `paths` or `kinds`, or set `mentions` and `unresolved` for the whole source",
        );
        return None;
    }
    let (mentions, unresolved) = effects(&mut fields, reader);
    fields.finish(|_| None, &mut reader.problems);
    Some(TextException {
        paths: paths.map_or(Some(None), |paths| paths.map(Some))?,
        kinds: kinds.unwrap_or_else(|| Some(Vec::new()))?,
        mentions: mentions?,
        unresolved: unresolved?,
    })
}

fn globs(node: &Node, reader: &mut SettingsReader) -> Option<Globs> {
    let (written, sound) = fields::texts("paths", node, &mut reader.problems)?;
    let texts: Vec<&str> = written.iter().map(|(text, _)| text.as_str()).collect();
    match Globs::new(&texts) {
        Ok(globs) => sound.then_some(globs),
        Err((at, error)) => {
            let (text, place) = &written[at];
            reader.problems.add(place, format!("invalid glob `{text}`: {}", error.kind()));
            None
        }
    }
}
