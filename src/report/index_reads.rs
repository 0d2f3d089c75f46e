//! How many indexes and artifacts of a registry were read to decide, and why.

use serde::{Deserialize, Serialize};

use super::humanize::format_count;
use crate::domain::IndexReads;

/// How many indexes and artifacts were read, by cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexReadsView {
    /// All of them.
    pub total: u32,
    /// They stay, or may refer to something that does, and could hold an image whose tag would go.
    pub kept: u32,
    /// They could hold an image in use, and tags that would go lead to them.
    pub claimed: u32,
    /// They could tell which image a signature or the like accompanies.
    pub companions: u32,
    /// A manifest of their repository is due for deletion.
    pub deletions: u32,
}

/// The view of what was read; nothing where nothing was.
pub(super) fn index_reads(reads: &IndexReads) -> Option<IndexReadsView> {
    let IndexReads { kept, claimed, companions, deletions } = *reads;
    let total = reads.total();
    (total > 0).then_some(IndexReadsView { total, kept, claimed, companions, deletions })
}

/// What was read and why, in words.
pub(super) fn describe_index_reads(reads: &IndexReadsView) -> String {
    let causes = [
        (reads.kept, "for tags of images in them"),
        (reads.claimed, "for images in use"),
        (reads.companions, "for signatures and the like"),
        (reads.deletions, "for deletions that are due"),
    ];
    let causes = causes.into_iter().filter(|(count, _)| *count > 0);
    let causes: Vec<String> = causes.map(|(count, why)| format!("{} {why}", format_count(u64::from(count)))).collect();
    format!("{} indexes and artifacts were read to decide: {}", format_count(u64::from(reads.total)), causes.join(", "))
}
