//! Reports for people and scripts: a plan with its verdicts as one [`PlanDocument`], and that document as text, JSON,
//! Markdown, HTML and CSV. The document is a view: everything in it is plain text and numbers, and nothing decides by
//! it except `apply`, which parses it.

mod ability;
mod accepted;
mod annotations;
mod attention;
mod build;
mod csv;
mod deletion;
mod diff;
mod diff_text;
mod document;
mod drift;
mod entry_list;
mod expiry_conditions;
mod explain;
mod fingerprint;
mod format;
mod history;
mod holder;
mod holds;
mod html;
mod humanize;
mod idle;
mod index_reads;
mod journal_entry;
mod journal_evidence;
mod lazy_list;
mod manifest_trace;
mod markdown;
mod natural_order;
mod notation;
mod plan_chunks;
mod plan_id;
mod plan_spool;
mod policy_tests;
mod progress;
mod reason;
mod registries;
mod registry_info;
mod removed_tag;
mod renamed_keys;
mod repository_views;
mod rule_trace;
mod run;
mod run_policies;
mod run_summary;
mod run_text;
mod shortfall;
mod skips;
mod source_counts;
mod source_detail;
mod source_detail_text;
mod storage;
mod summary;
mod table;
mod tally;
mod text;
mod ticket;
mod timeline;
mod unmatched;

pub use ability::{AbilityView, ProductView, RegistryNoteView, ability, missing_rights};
pub use accepted::{AcceptedView, ExtentView, acceptable_refusals};
pub use annotations::{
    Annotation, AnnotationFormat, AnnotationLevel, AnnotationPlace, TestCaseProblem, TestCaseView, TestSuiteView,
    describe_rule, diff_annotations, file_suites, junit, policy_test_suites, render_annotations, test_annotations,
};
pub use attention::{AttentionKind, AttentionView, plan_attention, run_attention, source_failed};
use build::refusal as refusal_view;
pub use build::{Basis, PlanBasis, accepted_view, document, document_from};
pub use csv::{csv, write_holds_csv, write_journal_csv, write_runs_csv};
pub use deletion::{DeletionView, DeletionsView, DependentView, ForecastOfDeletionsView, RetainReasonView};
pub use diff::{DiffSummary, DiffView, PolicyDecision, PolicyDiff, RevisionView, TagDiff, diff};
pub use diff_text::{diff_markdown, diff_text};
pub use document::{
    GapView, KeptView, LimitsView, NarrowingView, ObstacleView, PlanDocument, PolicyView, RecordDriftView, RefusalView,
    RefusedView, RegistryView, RemovalView, SCHEMA, SourceView, SummaryView, UndecidedView,
};
pub use drift::{DriftKind, DriftView};
pub use entry_list::{EntryLine, entry_list};
pub use explain::{SizeView, explanation, explanation_json, explanation_with_rules, explanation_with_rules_json};
pub use fingerprint::fingerprint;
pub use format::{Format, render, write};
pub use history::{
    DecisionView, HistoryEntryView, HistoryEvent, HistoryHoldView, HistoryView, LastSeenView, PlanCoverageView,
    TagRecordView,
};
pub use holder::HolderView;
pub use holds::{EndedHoldView, HoldView, ended_holds_text, holds_text};
pub use html::html;
pub use humanize::{
    counted, describe_clock_difference, describe_clock_doubt, describe_obstacle, describe_refusal, format_age,
    format_bytes, format_count, sanitize, truncate,
};
pub use idle::IdleRepositoryView;
pub use index_reads::IndexReadsView;
pub use journal_entry::{EntryView, correlation_id, describe_outcome, entry_text, policy_suffix};
pub use journal_evidence::{journaled_evidence, journaled_policies};
pub use lazy_list::LazyList;
pub use manifest_trace::ManifestTraceView;
pub use natural_order::natural_order;
pub use notation::{format_minute, short_digest};
pub use plan_chunks::{PlanLoadError, load_plan, plan_chunks, plan_head};
pub use plan_id::{PlanReadError, assign_plan_id, read_plan};
pub use plan_spool::{FinalRemovals, PlanSpool, SpooledPlan};
pub use policy_tests::{PolicyTestFile, PolicyTestResult, PolicyTestTag, test_text};
pub use progress::{Rate, RegistryProgress, RunPhase, RunProgress, TaskProgress, round_seconds_left};
pub use reason::ReasonView;
pub use registries::{
    CapabilitiesView, ProbeView, RegistryStateView, RightsView, capabilities, probe_text, registries_text,
};
pub use registry_info::{DelayedActionView, RegistryInfoView};
pub use removed_tag::RemovedTagView;
pub use repository_views::RepositoryViews;
pub use rule_trace::{CutoffView, ForecastView, PolicyTraceView, RuleTraceView, TagTraceView, rule_trace};
pub use run::{JournalCountView, RunContextView, RunView, UNFINISHED, describe_approval, describe_stored_bytes};
pub use run_policies::{PolicyFileView, RunPoliciesView};
pub use run_summary::{PrunedView, RegistryCounts, RunSummary, StorageChangeView, undo_until};
pub use run_text::{run_text, write_run};
pub use shortfall::ShortfallView;
pub use skips::{SkipGroup, SkippedAction, fold_skips};
pub use source_detail::{
    ClaimView, MentionView, ProtectedTagView, SourceDetailView, UndecidedRepositoryView, UnresolvedView, source_detail,
};
pub use source_detail_text::source_detail_text;
pub use storage::{RepositoryStorageView, StorageView};
pub use summary::{count_refused, removal_reasons};
pub use table::{TextTable, set_table_width};
pub use tally::{PlanTally, VerdictCounts};
pub use text::{sources_text, text};
pub use ticket::TicketDialect;
pub use timeline::{
    TimelineCutoff, TimelineGroup, TimelineTag, TimelineView, recorded_timeline, timeline, timeline_text,
};
pub use unmatched::UnmatchedView;

/// Renders a plan as Markdown for a change ticket, below 60,000 characters whatever its size: lists are folded and
/// truncated, with the number of omitted lines. Text from outside cannot break a table, insert HTML or notify anybody.
#[must_use]
pub fn markdown(document: &PlanDocument) -> String {
    markdown::markdown(document, 0)
}
