//! Reading of running text: logs, scripts, notes, code, and the texts inside documents.

use std::collections::HashMap;
use std::path::Path;

use super::assignments::assignment;
use super::beside::beside;
use super::found::{Found, Place, ScalarId};
use super::made;
use super::occurrences::{Cut, Left, Origin, Seen, reference_end, scan};
use super::placeholder::{self, variable};
use super::units::Lines;
use super::usage::{Usage, expects_image, is_registry_name};
use crate::domain::ImageReference;
use crate::sources::reference_scan::KnownHosts;

/// The surroundings of a text.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Around<'a> {
    /// The lines before the text.
    pub(super) lines: u32,
    /// The scalar that the text is.
    pub(super) scalar: ScalarId,
    /// The part that images play there, where the text itself does not say it.
    pub(super) usage: Usage,
    /// The words before the text, such as those of a command that is written as a list.
    pub(super) before: &'a str,
    /// The texts that stand with it in a mapping or list, itself included; none for text that stands alone.
    pub(super) unit: &'a [&'a str],
    /// An image is expected there.
    pub(super) is_image: bool,
    /// The variable whose value the text is.
    pub(super) defines: Option<&'a str>,
}

/// Adds what a text names and leaves open. It must be decoded.
pub(super) fn read(text: &str, name: &str, hosts: &KnownHosts, around: &Around<'_>, found: &mut Found) {
    let seen = scan(text, hosts);
    let expected = if around.unit.is_empty() { expected(text, &seen) } else { Vec::new() };
    if seen.is_empty() && expected.is_empty() {
        return;
    }
    let reader = Reader { lines: Lines::of(text), text, name, hosts, around };
    for one in &seen {
        reader.see(one, found);
    }
    for (start, end) in expected {
        let place = Place { is_image: true, ..reader.place(start) };
        found.placeholders(&text[start..end], place);
    }
}

struct Reader<'a> {
    lines: Lines<'a>,
    text: &'a str,
    name: &'a str,
    hosts: &'a KnownHosts,
    around: &'a Around<'a>,
}

impl<'a> Reader<'a> {
    fn see(&self, one: &Seen<'a>, found: &mut Found) {
        let line = self.lines.at(one.span.start);
        if one.origin == Origin::Host && !placeholder::is_open(one.text) {
            let number = self.around.lines + self.lines.number(line);
            let behind = self.behind(line, one.span.end);
            let left = found.literal(one.text, one.cut, number, behind);
            if left != Left::Nothing {
                let place = self.place(one.span.start);
                found.open(one.text, left, place, |own| self.beside(line, own));
            }
            return;
        }
        let mut place = self.place(one.span.start);
        if one.origin != Origin::Host {
            let holds_registry = || {
                let open = placeholder::find(one.text, 0).and_then(|open| variable(&one.text[open]));
                open.is_some_and(|variable| is_registry_name(&variable.name))
            };
            place.is_image |= one.origin == Origin::Placeholder && (place.usage != Usage::Named || holds_registry());
            // A variable alone is an image where nothing else can stand.
            if one.origin == Origin::Lone && !place.is_image && place.usage == Usage::Named {
                return;
            }
        }
        if one.cut == Cut::No || one.origin == Origin::Host {
            found.placeholders(one.text, place);
        }
    }

    /// The rest of a line.
    fn behind(&self, line: usize, from: usize) -> &'a str {
        let end = self.lines.end(line).max(from);
        &self.text[from..end]
    }

    fn place(&self, at: usize) -> Place<'a> {
        let line = self.lines.at(at);
        let own = self.lines.line(line);
        let before = &own[..at - self.lines.start(line)];
        let is_image = self.around.is_image && before.trim().is_empty() || expects_image(before);
        let defines = assignment(own).filter(|one| std::ptr::eq(one.value.as_ptr(), self.text[at..].as_ptr()));
        Place {
            line: self.around.lines + self.lines.number(line),
            scalar: self.around.scalar,
            usage: self.usage(line, at, is_image),
            is_image,
            defines: defines.map(|one| one.name).or(self.around.defines.filter(|_| before.trim().is_empty())),
        }
    }

    fn usage(&self, line: usize, at: usize, is_image: bool) -> Usage {
        if self.around.usage != Usage::Named {
            return self.around.usage;
        }
        let command = &self.text[self.lines.command(line).start..at];
        let usage = if self.around.before.is_empty() {
            Usage::in_command(command)
        } else {
            Usage::in_command(&format!("{} {command}", self.around.before))
        };
        let is_output = || {
            let own = self.lines.line(line).to_ascii_lowercase();
            own.contains("image") && made::in_block(self.lines.before(line))
        };
        let is_bicep = || Path::new(self.name).extension().is_some_and(|end| end.eq_ignore_ascii_case("bicep"));
        match usage {
            // The fields of resources, which Azure resolves.
            Usage::Named if is_image && is_bicep() => Usage::Run,
            Usage::Named if is_output() => Usage::Made,
            usage => usage,
        }
    }

    fn beside(&self, line: usize, own: &ImageReference) -> Vec<Box<str>> {
        let ranges = self.lines.unit(line);
        let own_unit = ranges.into_iter().map(|range| &self.text[range]);
        let of_mapping = if self.text.contains('\n') { &[][..] } else { self.around.unit };
        beside(own_unit.chain(of_mapping.iter().copied()), own, self.hosts)
    }
}

/// References without a host that a placeholder leaves open, where an image is expected: `image: shop/api:$(TAG)`.
fn expected(text: &str, seen: &[Seen<'_>]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("mage") {
        let key = text[at..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_').map_or(text.len(), |end| at + end);
        let rest = &text[key..];
        let value = rest.trim_start_matches(['"', '\'']).trim_start_matches([' ', '\t']);
        let Some(value) = value.strip_prefix(':').or_else(|| value.strip_prefix('=')) else { continue };
        let value = value.trim_start_matches([' ', '\t']).trim_start_matches(['"', '\'']);
        let start = text.len() - value.len();
        if !expects_image(&text[line_start(text, at)..start]) || !value.starts_with(|c: char| c.is_ascii_alphanumeric())
        {
            continue;
        }
        let end = reference_end(text, start, true);
        let run = &text[start..end];
        let is_seen = seen.iter().any(|one| one.span.start < end && start < one.span.end);
        if !is_seen && placeholder::is_open(run) {
            found.push((start, end));
        }
    }
    found
}

fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |at| at + 1)
}

/// The places where a text uses a variable.
#[derive(Debug, Default)]
pub(super) struct Uses {
    /// A place where an image is made.
    made: bool,
    /// Anywhere else.
    other: bool,
    /// As the value, or a part of it, of other variables.
    into: Vec<String>,
}

/// The uses of all variables of a text, by their names in lower case.
#[derive(Debug, Default)]
pub(super) struct UseIndex(HashMap<String, Uses>);

impl UseIndex {
    /// Adds the uses in running text. `around` is what is known of its place.
    pub(super) fn read(&mut self, text: &str, around: &Around<'_>) {
        let mut at = 0;
        let lines = Lines::of(text);
        while let Some(open) = placeholder::find(text, at) {
            at = open.end;
            let Some(variable) = variable(&text[open.clone()]) else { continue };
            let line = lines.at(open.start);
            let own = lines.line(line);
            let uses = self.0.entry(variable.name.to_ascii_lowercase()).or_default();
            let assigned = assignment(own).filter(|one| contains(one.value, &text[open.clone()]));
            let defines = assigned.map(|one| one.name).or(around.defines);
            let command = &text[lines.command(line).start..open.start];
            let before = format!("{} {command}", around.before);
            if around.usage == Usage::Made || made::in_command(&before) || made::in_block(lines.before(line)) {
                uses.made = true;
            } else if let Some(name) = defines {
                uses.into.push(name.to_ascii_lowercase());
            } else if !is_told(own) {
                uses.other = true;
            }
        }
    }

    /// Returns true for a variable that is used, and only where images are made.
    pub(super) fn is_made(&self, name: &str) -> bool {
        self.is_made_within(&name.to_ascii_lowercase(), 4)
    }

    fn is_made_within(&self, name: &str, depth: u32) -> bool {
        let Some(Uses { made, other, into }) = self.0.get(name) else { return false };
        !other
            && (*made || !into.is_empty())
            && into.iter().all(|name| depth > 0 && self.is_made_within(name, depth - 1))
    }
}

/// Returns true if a piece is a part of a text, by their places.
fn contains(text: &str, piece: &str) -> bool {
    let (start, at) = (text.as_ptr().addr(), piece.as_ptr().addr());
    (start..start + text.len()).contains(&at)
}

/// Returns true if a line only prints a message or is a comment.
fn is_told(line: &str) -> bool {
    let line = line.trim_start().trim_start_matches("- ").trim_start_matches("run: ").trim_start_matches("script: ");
    ["echo ", "printf ", "Write-Host ", "#", "//"].iter().any(|word| line.starts_with(word)) && !line.contains('>')
}
