//! Versions once more, read and ordered in another way.

use crate::domain::VersionPart;

/// Ordered as versions are: the numbers, then whether it is a release, then the parts of the pre-release.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Read {
    numbers: Vec<u64>,
    release: bool,
    pre: Vec<Part>,
}

/// A part of a pre-release: numbers come first and by size, which for digits is length, then text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(usize, String),
    Word(String),
}

pub(super) fn read(text: &str) -> Option<Read> {
    let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
    let end = text.find(['_', '+']).unwrap_or(text.len());
    let text = &text[..end];
    let dash = text.find('-').unwrap_or(text.len());
    let mut numbers = Vec::new();
    for number in text[..dash].split('.') {
        numbers.push(number.parse::<u64>().ok().filter(|_| !number.starts_with('+'))?);
    }
    if !(2..=4).contains(&numbers.len()) {
        return None;
    }
    numbers.resize(4, 0);
    let release = dash == text.len();
    let pre = if release { Vec::new() } else { text[dash + 1..].split('.').map(part).collect::<Option<_>>()? };
    Some(Read { numbers, release, pre })
}

fn part(text: &str) -> Option<Part> {
    if text.is_empty() {
        None
    } else if text.chars().all(|c| c.is_ascii_digit()) {
        let digits = text.trim_start_matches('0');
        Some(Part::Number(digits.len(), digits.to_owned()))
    } else {
        Some(Part::Word(text.to_owned()))
    }
}

impl Read {
    pub(super) fn line(&self, part: VersionPart) -> &[u64] {
        match part {
            VersionPart::Major => &self.numbers[..1],
            VersionPart::Minor => &self.numbers[..2],
            VersionPart::Patch => &self.numbers[..3],
        }
    }
}
