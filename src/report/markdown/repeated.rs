//! Lines that say the same about several things, as one line.

use std::collections::HashMap;

use crate::report::humanize::format_count;

/// Most different lines that are kept. A text has room for fewer.
const MOST_GROUPS: usize = 2_000;

/// Entries with the same key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Repeated<const N: usize> {
    /// What they share.
    pub(super) key: [String; N],
    /// The name of the first.
    pub(super) first: String,
    /// The number of them.
    pub(super) count: u64,
}

/// Groups entries by their key, in the order of their first ones. Beyond a number of groups, entries that fit none of them
/// are only counted.
pub(super) fn group_repeated<const N: usize>(
    entries: impl Iterator<Item = ([String; N], String)>,
) -> (Vec<Repeated<N>>, usize) {
    let mut positions: HashMap<[String; N], usize> = HashMap::new();
    let (mut groups, mut omitted): (Vec<Repeated<N>>, usize) = (Vec::new(), 0);
    for (key, first) in entries {
        if let Some(position) = positions.get(&key) {
            groups[*position].count += 1;
        } else if groups.len() < MOST_GROUPS {
            positions.insert(key.clone(), groups.len());
            groups.push(Repeated { key, first, count: 1 });
        } else {
            omitted += 1;
        }
    }
    (groups, omitted)
}

/// Returns the words for the others of a group, if there are any.
pub(super) fn and_more(count: u64) -> String {
    if count > 1 { format!(" and {} more", format_count(count - 1)) } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_keys_are_one_group_in_the_order_of_their_first() {
        let entries = [("b", 1), ("a", 2), ("b", 3), ("b", 4)].map(|(key, name)| ([key.to_owned()], name.to_string()));
        let (groups, _) = group_repeated(entries.into_iter());
        let found: Vec<_> = groups.iter().map(|one| (one.key[0].as_str(), one.first.as_str(), one.count)).collect();
        assert_eq!(found, [("b", "1", 3), ("a", "2", 1)]);
        assert_eq!((and_more(1), and_more(1_235)), (String::new(), " and 1,234 more".to_owned()));
    }
}
