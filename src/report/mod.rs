//! What people and scripts read: a plan with its verdicts as one [`PlanDocument`], and that document as text, JSON,
//! Markdown, HTML and CSV. The document is the view world: everything in it is plain text and numbers, and nothing
//! decides by it except `apply`, which reads it back.

mod ability;
mod attention;
mod build;
mod csv;
mod deletion;
mod difference;
mod difference_text;
mod document;
mod explain;
mod findings;
mod fingerprint;
mod format;
mod gone;
mod history;
mod holder;
mod holds;
mod html;
mod listing;
mod markdown;
mod outlook;
mod particulars;
mod ran;
mod reason;
mod registries;
mod seal;
mod source_counts;
mod source_detail;
mod source_detail_text;
mod storage;
mod tally;
mod tested;
mod text;
mod timeline;
mod unmatched;
mod weighed;
mod words;

pub use ability::{AbilityView, ProductView, RegistryNoteView, ability, notes};
pub use attention::{AttentionKind, AttentionView, attention, attention_of, source_failed};
use build::refusal as refusal_view;
pub use build::{Basis, document};
pub use csv::csv;
pub use deletion::{AlongView, DeletionView, DeletionsView, StayView};
pub use difference::{DifferenceSummary, DifferenceView, PolicyDifference, Side, TagDifference, difference};
pub use difference_text::{difference_markdown, difference_text};
pub use document::{
    DriftView, GapView, KeptView, LimitsView, ObstacleView, PlanDocument, PolicyView, RefusalView, RefusedView,
    RegistryView, RemovalView, SCHEMA, SourceView, SummaryView, UndecidedView,
};
pub use explain::{SizeView, explanation, explanation_by_rule, explanation_by_rule_json, explanation_json};
pub use findings::{FindingKind, FindingView};
pub use fingerprint::fingerprint;
pub use format::{Format, render, write};
pub use gone::GoneView;
pub use history::{HistoryEntryView, HistoryView, LastSeenView};
pub use holder::HolderView;
pub use holds::{HoldView, holds_text};
pub use html::html;
pub use listing::Listing;
pub use particulars::{AfterDaysView, ParticularsView};
pub use ran::{
    CircumstancesView, EntryView, RunView, by_policy, correlation_id, entry_text, outcome_words, run_text,
    stored_words, undo_until, write_run,
};
pub use reason::{MissView, ReasonView, minute, short};
pub use registries::{ProbeView, RegistryStateView, RightsView, probe_text, registries_text};
pub use seal::{Broken, open, seal};
pub use source_detail::{
    ClaimView, MentionView, OpenRepositoryView, ProtectedTagView, SourceDetailView, UnresolvedView, source_detail,
};
pub use source_detail_text::source_detail_text;
pub use storage::{RepositoryStorageView, StorageView};
pub use tally::why_it_goes;
pub use tested::{TestedFile, TestedTag, TestedView, tested_text};
pub use text::{sources_text, text};
pub use timeline::{TimelineCut, TimelineGroup, TimelineTag, TimelineView, recorded_timeline, timeline, timeline_text};
pub use unmatched::UnmatchedView;
pub use weighed::{CutView, OutlookView, PolicyWeighedView, RuleWeighedView, WeighedView, weighed};
pub use words::{age, bytes, clip, clock_difference, clock_doubt, count, counted, obstacle, plain, refusal_message};

/// A plan as Markdown for a change ticket, below 60,000 characters however long it is: lists are folded, and cut with a
/// word on how much was left out. Nothing from outside can break a table, bring in HTML or notify anybody.
#[must_use]
pub fn markdown(document: &PlanDocument) -> String {
    markdown::markdown(document, 0)
}
