//! Splitting texts into words.

use crate::domain::TextIndexBuilder;

/// Adds the words of a text, line by line.
pub(super) fn add_lines(index: &mut TextIndexBuilder, place: u32, text: &str) {
    let mut words: Vec<(u32, &str)> = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        words.clear();
        words.extend(split(line).map(|word| (number, word)));
        index.unit(place, &words);
    }
}

/// The words of a line: of the characters of tags, and `+`, which stands for `_` in the versions of charts.
fn split(line: &str) -> impl Iterator<Item = &str> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '+');
    line.split(move |c| !is_word(c)).filter(|word| word.bytes().any(|byte| byte.is_ascii_alphanumeric()))
}
