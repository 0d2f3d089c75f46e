//! The numbers of manifests of a registry that were read to decide, by cause.

use serde::{Deserialize, Serialize};

use super::humanize::format_count;
use crate::domain::IndexReads;

/// The numbers of manifests that were read, by cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexReadsView {
    /// Their sum.
    pub total: u32,
    /// They are retained, or may refer to a retained manifest, and could contain an image whose tag would be removed.
    pub kept: u32,
    /// They could contain an image in use, and tags that would be removed lead to them.
    pub claimed: u32,
    /// They could show which image a signature or the like accompanies.
    pub companions: u32,
    /// A manifest of their repository is due for deletion.
    pub deletions: u32,
    /// A policy selects by their types.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub types: u32,
    /// A policy selects by their annotations.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub annotations: u32,
    /// A policy selects by their labels.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub labels: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Returns the view of the reads; `None` if there were none.
pub(super) fn index_reads(reads: &IndexReads) -> Option<IndexReadsView> {
    let IndexReads { kept, claimed, companions, deletions, types, annotations, labels } = *reads;
    let total = reads.total();
    let view = IndexReadsView { total, kept, claimed, companions, deletions, types, annotations, labels };
    (total > 0).then_some(view)
}

/// Describes the reads and their causes.
pub(super) fn describe_index_reads(reads: &IndexReadsView) -> String {
    let causes = [
        (reads.kept, "for tags of images in them"),
        (reads.claimed, "for images in use"),
        (reads.companions, "for signatures and the like"),
        (reads.deletions, "for deletions that are due"),
        (reads.types, "for their types"),
        (reads.annotations, "for their annotations"),
        (reads.labels, "for their labels"),
    ];
    let causes = causes.into_iter().filter(|(count, _)| *count > 0);
    let causes: Vec<String> = causes.map(|(count, why)| format!("{} {why}", format_count(u64::from(count)))).collect();
    format!("{} manifests were read to decide: {}", format_count(u64::from(reads.total)), causes.join(", "))
}
