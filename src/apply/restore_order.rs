//! The order of restores: the children of an index and the subject of a signature come first.

use std::collections::{BTreeMap, HashMap};

use super::restore_dependents;
use crate::domain::{Digest, RepositoryName, TagName};
use crate::state::{JournalEntry, StateError, StateStore};

/// An entry with its position among all that are to be restored.
pub(super) type PlacedEntry<'a> = (usize, &'a JournalEntry);

/// The entries of one tag in their order, which are restored one after the other.
pub(super) type TagEntries<'a> = Vec<PlacedEntry<'a>>;

type Key<'a> = (&'a RepositoryName, &'a Digest);

/// The depth of nested indexes that are ordered: deeper ones are put in any order, and retried after the others.
const MAX_DEPTH: usize = 8;

/// Splits entries of one registry into waves. Entries of a wave are independent of each other, and depend only on
/// earlier waves.
///
/// # Errors
/// Returns an error if the journal cannot be read.
pub(super) async fn waves<'a>(
    store: &StateStore,
    entries: Vec<PlacedEntry<'a>>,
) -> Result<Vec<Vec<TagEntries<'a>>>, StateError> {
    let mut manifests: BTreeMap<Key<'a>, &'a JournalEntry> = BTreeMap::new();
    for &(_, entry) in &entries {
        manifests.insert((&entry.intent.repository, &entry.intent.digest), entry);
    }
    let mut needs: BTreeMap<Key<'a>, Vec<Digest>> = BTreeMap::new();
    for (key, entry) in manifests {
        // Without content the order is unknown: such a manifest is in the registry, and so are those that it needs.
        let manifest = restore_dependents::journaled_manifest(store, entry).await?;
        needs.insert(key, manifest.as_ref().map(restore_dependents::needed_manifests).unwrap_or_default());
    }
    let depths = depths(&needs);
    let mut tags: HashMap<(&RepositoryName, &TagName), usize> = HashMap::new();
    let mut groups: Vec<(usize, TagEntries<'a>)> = Vec::new();
    for (place, entry) in entries {
        let intent = &entry.intent;
        let depth = depths.get(&(&intent.repository, &intent.digest)).copied().unwrap_or_default();
        let position = *tags.entry((&intent.repository, &intent.tag)).or_insert(groups.len());
        match groups.get_mut(position) {
            Some((deepest, group)) => {
                *deepest = depth.max(*deepest);
                group.push((place, entry));
            }
            None => groups.push((depth, vec![(place, entry)])),
        }
    }
    let mut waves: BTreeMap<usize, Vec<TagEntries<'a>>> = BTreeMap::new();
    for (depth, group) in groups {
        waves.entry(depth).or_default().push(group);
    }
    Ok(waves.into_values().collect())
}

/// Returns the longest chain of dependencies of each manifest.
fn depths<'a>(needs: &BTreeMap<Key<'a>, Vec<Digest>>) -> BTreeMap<Key<'a>, usize> {
    let mut depths: BTreeMap<Key<'a>, usize> = needs.keys().map(|key| (*key, 0)).collect();
    for _ in 0..MAX_DEPTH {
        let mut deeper = Vec::new();
        for (key, needed) in needs {
            let below = needed.iter().filter_map(|digest| depths.get(&(key.0, digest))).max();
            if let Some(below) = below
                && depths.get(key).is_some_and(|depth| depth <= below)
            {
                deeper.push((*key, below + 1));
            }
        }
        if deeper.is_empty() {
            break;
        }
        depths.extend(deeper);
    }
    depths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_comes_first_and_only_in_its_own_repository() {
        let (here, there): (RepositoryName, RepositoryName) =
            ("shop/api".parse().unwrap(), "shop/web".parse().unwrap());
        let [image, index, outer, signature, lost] =
            ["image", "index", "outer", "signature", "lost"].map(|name| Digest::of(name.as_bytes()));
        let needs = BTreeMap::from([
            ((&here, &image), Vec::new()),
            ((&here, &index), vec![image.clone(), lost.clone()]),
            ((&here, &outer), vec![index.clone(), image.clone()]),
            ((&here, &signature), vec![outer.clone()]),
            ((&there, &index), vec![image.clone()]),
        ]);
        let depths = depths(&needs);
        let own = [&image, &index, &outer, &signature].map(|digest| depths[&(&here, digest)]);
        assert_eq!((own, depths[&(&there, &index)]), ([0, 1, 2, 3], 0));
    }
}
