//! Reading of running text: logs, scripts, notes, code, and the texts inside documents.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::path::Path;

use super::assignments::{Assignment, assignment};
use super::image_outputs;
use super::nearby_words::nearby_words;
use super::occurrences::{Ending, Occurrence, OpenPart, Origin, reference_end, scan};
use super::placeholder::{self, variable};
use super::reference_collector::{Place, ReferenceCollector, ScalarId};
use super::units::{Lines, MOST_AROUND, beginning_of, end_of};
use super::usage::{Usage, expects_image, is_registry_name};
use crate::domain::ImageReference;
use crate::sources::known_hosts::KnownHosts;

/// The surroundings of a text.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct TextContext<'a> {
    /// The lines before the text.
    pub(super) line_offset: u32,
    /// The scalar that contains the text.
    pub(super) scalar: ScalarId,
    /// The usage of images there, unless the text itself shows it.
    pub(super) usage: Usage,
    /// The words before the text, such as those of a command that is written as a list.
    pub(super) before: &'a str,
    /// The texts in the same mapping or list, itself included; empty for a separate text.
    pub(super) unit: &'a [&'a str],
    /// True if an image is expected there.
    pub(super) is_image: bool,
    /// The variable whose value the text is.
    pub(super) defines: Option<&'a str>,
}

/// Adds the references of a text. It must be decoded.
pub(super) fn collect_references(
    text: &str,
    name: &str,
    hosts: &KnownHosts,
    around: &TextContext<'_>,
    found: &mut ReferenceCollector,
) {
    let seen = scan(text, hosts);
    let expected = if around.unit.is_empty() { expected_images(text, &seen) } else { Vec::new() };
    if seen.is_empty() && expected.is_empty() {
        return;
    }
    let mut reader = Reader { lines: LineCache::of(text), text, name, hosts, context: around, unit: None };
    for one in &seen {
        reader.add_occurrence(one, found);
    }
    for (start, end) in expected {
        let place = Place { is_image: true, ..reader.place(start) };
        found.add_placeholders(&text[start..end], place);
    }
}

/// The lines of a text, with cached facts about the last one: one line may be the whole text, with thousands of
/// references.
struct LineCache<'t> {
    lines: Lines<'t>,
    last: Option<LineFacts<'t>>,
}

/// A line and the facts that each of its references needs.
#[derive(Debug, Clone, Copy)]
struct LineFacts<'t> {
    index: usize,
    number: u32,
    start: usize,
    end: usize,
    /// The first byte of its command.
    command: usize,
    assignment: Option<Assignment<'t>>,
    /// True if the line before opens a block describing an output.
    in_block: bool,
    /// True if it does, and the line itself names an image.
    is_output: bool,
    /// True if it only prints a message or is a comment.
    is_message: bool,
}

impl<'t> LineCache<'t> {
    fn of(text: &'t str) -> Self {
        Self { lines: Lines::of(text), last: None }
    }

    /// Returns the line of a byte.
    fn at(&mut self, place: usize) -> LineFacts<'t> {
        let line = self.lines.at(place);
        match self.last {
            Some(last) if last.index == line => last,
            _ => *self.last.insert(LineFacts::of(&self.lines, line)),
        }
    }
}

impl<'t> LineFacts<'t> {
    fn of(lines: &Lines<'t>, line: usize) -> Self {
        let own = lines.line(line);
        let in_block = image_outputs::in_block(lines.before(line));
        Self {
            index: line,
            number: lines.number(line),
            start: lines.start(line),
            end: lines.end(line),
            command: lines.command(line).start,
            assignment: assignment(own),
            in_block,
            is_output: in_block && own.to_ascii_lowercase().contains("image"),
            is_message: is_message(own),
        }
    }
}

struct Reader<'a> {
    lines: LineCache<'a>,
    text: &'a str,
    name: &'a str,
    hosts: &'a KnownHosts,
    context: &'a TextContext<'a>,
    /// The bytes of the unit of the last requested line.
    unit: Option<(usize, Vec<Range<usize>>)>,
}

impl<'a> Reader<'a> {
    fn add_occurrence(&mut self, one: &Occurrence<'a>, found: &mut ReferenceCollector) {
        if one.origin == Origin::Host && !placeholder::has_placeholder(one.text) {
            let line = self.lines.at(one.span.start);
            let behind = beginning_of(&self.text[one.span.end..line.end.max(one.span.end)]);
            let left = found.add_literal(one.text, one.ending, self.context.line_offset + line.number, behind);
            if left != OpenPart::None {
                let place = self.place(one.span.start);
                found.add_open(one.text, left, place, |own| self.nearby_words(line.index, own));
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
            // A lone variable is an image only if nothing else is possible there.
            if one.origin == Origin::Lone && !place.is_image && place.usage == Usage::Named {
                return;
            }
        }
        if matches!(one.ending, Ending::Complete | Ending::Foreign(_)) || one.origin == Origin::Host {
            found.add_placeholders(one.text, place);
        }
    }

    fn place(&mut self, at: usize) -> Place<'a> {
        let line = self.lines.at(at);
        let before = &self.text[line.start..at];
        let is_first = before.len() <= MOST_AROUND && before.trim().is_empty();
        let is_image = self.context.is_image && is_first || expects_image(before);
        let defines = line.assignment.filter(|one| std::ptr::eq(one.value.as_ptr(), self.text[at..].as_ptr()));
        Place {
            line: self.context.line_offset + line.number,
            scalar: self.context.scalar,
            usage: self.usage(&line, at, is_image),
            is_image,
            defines: defines.map(|one| one.name).or(self.context.defines.filter(|_| is_first)),
        }
    }

    fn usage(&self, line: &LineFacts<'_>, at: usize, is_image: bool) -> Usage {
        if self.context.usage != Usage::Named {
            return self.context.usage;
        }
        let usage = Usage::in_command(&command(self.context.before, &self.text[line.command..at]));
        let is_bicep = || Path::new(self.name).extension().is_some_and(|end| end.eq_ignore_ascii_case("bicep"));
        match usage {
            // The fields of resources, which Azure resolves.
            Usage::Named if is_image && is_bicep() => Usage::Run,
            Usage::Named if line.is_output => Usage::Output,
            usage => usage,
        }
    }

    fn nearby_words(&mut self, line: usize, own: &ImageReference) -> Vec<Box<str>> {
        if self.unit.as_ref().is_none_or(|(known, _)| *known != line) {
            self.unit = Some((line, self.lines.lines.unit(line)));
        }
        let ranges = self.unit.iter().flat_map(|(_, ranges)| ranges);
        let own_unit = ranges.map(|range| &self.text[range.clone()]);
        let of_mapping = if self.text.contains('\n') { &[][..] } else { self.context.unit };
        nearby_words(own_unit.chain(of_mapping.iter().copied()), own, self.hosts)
    }
}

/// Returns the words before a place: those before the text, and those of its own command. Distant ones are omitted.
fn command<'c>(before: &str, own: &'c str) -> Cow<'c, str> {
    if before.is_empty() || own.len() > MOST_AROUND {
        Cow::Borrowed(own)
    } else {
        Cow::Owned(format!("{} {own}", end_of(before)))
    }
}

/// Returns references without a host that a placeholder leaves open, where an image is expected: `image:
/// shop/api:$(TAG)`.
fn expected_images(text: &str, seen: &[Occurrence<'_>]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    // The farthest end up to each occurrence, in the order of their beginnings.
    let reaches: Vec<usize> = seen
        .iter()
        .scan(0, |reach, one| {
            *reach = one.span.end.max(*reach);
            Some(*reach)
        })
        .collect();
    for (at, _) in text.match_indices("mage") {
        let near = beginning_of(&text[at..]);
        let key = near.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(near.len());
        let rest = &near[key..];
        let value = rest.trim_start_matches(['"', '\'']).trim_start_matches([' ', '\t']);
        let Some(value) = value.strip_prefix(':').or_else(|| value.strip_prefix('=')) else { continue };
        let value = value.trim_start_matches([' ', '\t']).trim_start_matches(['"', '\'']);
        let start = at + near.len() - value.len();
        if !expects_image(&text[line_start(text, at)..start]) || !value.starts_with(|c: char| c.is_ascii_alphanumeric())
        {
            continue;
        }
        let end = reference_end(text, start, true);
        let run = &text[start..end];
        let begun = seen.partition_point(|one| one.span.start < end);
        let is_seen = begun.checked_sub(1).is_some_and(|last| start < reaches[last]);
        if !is_seen && placeholder::has_placeholder(run) {
            found.push((start, end));
        }
    }
    found
}

/// Returns the beginning of the line of a byte, up to a limit.
fn line_start(text: &str, at: usize) -> usize {
    let near = end_of(&text[..at]);
    at - near.len() + near.rfind('\n').map_or(0, |at| at + 1)
}

/// The places where a text uses a variable.
#[derive(Debug, Default)]
pub(super) struct VariableUse {
    /// True for a place where an image is built.
    in_outputs: bool,
    /// True for any other place.
    elsewhere: bool,
    /// The variables whose values contain it.
    assigned_to: BTreeSet<String>,
}

/// The uses of all variables of a text, by their names in lower case.
#[derive(Debug, Default)]
pub(super) struct VariableUses(HashMap<String, VariableUse>);

impl VariableUses {
    /// Adds the uses in running text. `around` describes its place.
    pub(super) fn read(&mut self, text: &str, around: &TextContext<'_>) {
        let mut at = 0;
        let mut lines = LineCache::of(text);
        while let Some(open) = placeholder::find(text, at) {
            at = open.end;
            let Some(variable) = variable(&text[open.clone()]) else { continue };
            let line = lines.at(open.start);
            let uses = self.0.entry(variable.name.to_ascii_lowercase()).or_default();
            let assigned = line.assignment.filter(|one| contains(one.value, &text[open.clone()]));
            let defines = assigned.map(|one| one.name).or(around.defines);
            let before = command(around.before, &text[line.command..open.start]);
            if around.usage == Usage::Output || line.in_block || image_outputs::in_command(&before) {
                uses.in_outputs = true;
            } else if let Some(name) = defines {
                uses.assigned_to.insert(name.to_ascii_lowercase());
            } else if !line.is_message {
                uses.elsewhere = true;
            }
        }
    }

    /// Returns true for a variable that is used only where images are built.
    pub(super) fn is_output_only(&self, name: &str) -> bool {
        self.is_output_only_within(&name.to_ascii_lowercase(), 4)
    }

    fn is_output_only_within(&self, name: &str, depth: u32) -> bool {
        let Some(VariableUse { in_outputs: made, elsewhere: other, assigned_to: into }) = self.0.get(name) else {
            return false;
        };
        !other
            && (*made || !into.is_empty())
            && into.iter().all(|name| depth > 0 && self.is_output_only_within(name, depth - 1))
    }
}

/// Returns true if a piece is a part of a text, by their addresses.
fn contains(text: &str, piece: &str) -> bool {
    let (start, at) = (text.as_ptr().addr(), piece.as_ptr().addr());
    (start..start + text.len()).contains(&at)
}

/// Returns true if a line only prints a message or is a comment.
fn is_message(line: &str) -> bool {
    let line = line.trim_start().trim_start_matches("- ").trim_start_matches("run: ").trim_start_matches("script: ");
    ["echo ", "printf ", "Write-Host ", "#", "//"].iter().any(|word| line.starts_with(word)) && !line.contains('>')
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "contoso.azurecr.io";

    /// The open references of a text, sorted, each with its part and the words beside it.
    fn open(text: &str) -> Vec<String> {
        let hosts = KnownHosts::new(&[HOST.to_owned()]);
        let mut found = ReferenceCollector::default();
        collect_references(text, "a.log", &hosts, &TextContext::default(), &mut found);
        let shown = found.pending.iter().map(|one| {
            let defines = one.defines.as_deref().map(|name| format!(" for {name}")).unwrap_or_default();
            format!("{} {:?} [{}]{defines}", one.text, one.usage, one.nearby_words.join(" "))
        });
        let mut shown: Vec<String> = shown.collect();
        shown.extend(found.images.iter().map(|(image, line)| format!("{image} in line {line}")));
        shown.sort();
        shown
    }

    #[test]
    fn every_reference_of_a_line_is_found_however_long_it_is() {
        const MANY: usize = 1_000;
        let line: Vec<String> = (0..MANY)
            .map(|n| {
                format!(
                    "docker pull {HOST}/a{n} && docker push {HOST}/b{n} && see {HOST}/c{n}, {HOST}/d:v{n}; \
                     image: shop/e{n}:$(T) image: {HOST}/f{n}:$(T) && "
                )
            })
            .collect();
        let mut expected: Vec<String> = (0..MANY)
            .flat_map(|n| {
                [
                    format!("{HOST}/a{n} Run []"),
                    format!("{HOST}/b{n} Output []"),
                    // The line is data, in which adjacency means nothing.
                    format!("{HOST}/c{n} Named []"),
                    format!("{HOST}/d:v{n} in line 2"),
                    format!("shop/e{n}:$(T) Named []"),
                    format!("{HOST}/f{n}:$(T) Named []"),
                ]
            })
            .collect();
        expected.sort();
        let found = open(&format!("first\n{}", line.concat()));
        let differs = found.iter().zip(&expected).find(|(found, expected)| found != expected);
        assert!(
            found.len() == expected.len() && differs.is_none(),
            "{} of {}, {differs:?}",
            found.len(),
            expected.len()
        );
    }

    #[test]
    fn each_line_counts_for_its_own_references() {
        for (text, expected) in [
            (
                format!("X={HOST}/a\nsee {HOST}/b v1\n"),
                [format!("{HOST}/a Named [X] for X"), format!("{HOST}/b Named [1 see v1]")],
            ),
            (
                format!("jib.to {{\nimage = {HOST}/a\n}}\n\nsee {HOST}/b\n"),
                [format!("{HOST}/a Output [] for image"), format!("{HOST}/b Named [see]")],
            ),
            (
                format!("docker push \\\n {HOST}/a\ndocker run {HOST}/b\n"),
                [format!("{HOST}/a Output []"), format!("{HOST}/b Run []")],
            ),
        ] {
            assert_eq!(open(&text), expected, "{text}");
        }
        // A table's column directly follows its reference; distant text is unrelated.
        let digest = "0123456789abcdef".repeat(4);
        let near = open(&format!("{HOST}/a{}sha256:{digest}\n", " x".repeat(100) + " "));
        assert_eq!(near, [format!("{HOST}/a@sha256:{digest} in line 1")]);
        let far = open(&format!("{HOST}/a{}sha256:{digest}\n", " x".repeat(MOST_AROUND) + " "));
        assert_eq!(far.len(), 1, "{far:?}");
        assert!(far[0].starts_with(&format!("{HOST}/a Named")), "{far:?}");
    }

    #[test]
    fn uses_of_variables_are_told_apart_in_a_long_line() {
        const MANY: usize = 1_000;
        let line: Vec<String> = (0..MANY).map(|n| format!("docker push x:$A{n} && deploy x:$B{n} && ")).collect();
        let mut uses = VariableUses::default();
        uses.read(&format!("{}\necho $A0\nC=$A1\ndocker push x:$C\n", line.concat()), &TextContext::default());
        for n in 0..MANY {
            assert!(uses.is_output_only(&format!("A{n}")), "A{n}");
            assert!(!uses.is_output_only(&format!("b{n}")), "B{n}");
        }
        assert!(uses.is_output_only("C") && !uses.is_output_only("D"));
    }
}
