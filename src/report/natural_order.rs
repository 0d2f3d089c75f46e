//! The order in which people read tags: `v9` before `v10`.

use std::cmp::Ordering;

/// Compares texts with their numbers as numbers; equal texts by their bytes.
#[must_use]
pub fn natural_order(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a.as_bytes(), b.as_bytes());
    loop {
        let (first, second) = match (left.first(), right.first()) {
            (Some(first), Some(second)) => (*first, *second),
            (None, None) => return a.cmp(b),
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
        };
        if first.is_ascii_digit() && second.is_ascii_digit() {
            let (number, after) = take_number(left);
            let (other, after_other) = take_number(right);
            // Without leading zeros the longer one is the larger one.
            let order = number.len().cmp(&other.len()).then_with(|| number.cmp(other));
            if order != Ordering::Equal {
                return order;
            }
            (left, right) = (after, after_other);
        } else {
            if first != second {
                return first.cmp(&second);
            }
            (left, right) = (&left[1..], &right[1..]);
        }
    }
}

/// The digits at the beginning without leading zeros, and the rest.
fn take_number(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let zeros = digits.iter().position(|byte| *byte != b'0').unwrap_or(digits.len());
    (&digits[zeros..], rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count_as_numbers() {
        let mut tags =
            vec!["v10", "v9", "v1.10.0", "v1.9.0", "a", "v010", "v9-rc2", "v9-rc10", "100000000000000000000", "9"];
        tags.sort_by(|a, b| natural_order(a, b));
        let expected =
            ["9", "100000000000000000000", "a", "v1.9.0", "v1.10.0", "v9", "v9-rc2", "v9-rc10", "v010", "v10"];
        assert_eq!(tags, expected);
    }
}
