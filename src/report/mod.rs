//! What people and scripts read: a plan with its verdicts as one [`PlanDocument`], and that document as text, JSON,
//! Markdown, HTML and CSV. The document is the view world: everything in it is plain text and numbers, and nothing
//! decides by it except `apply`, which reads it back.

mod build;
mod csv;
mod difference;
mod difference_text;
mod document;
mod explain;
mod format;
mod html;
mod listing;
mod markdown;
mod outlook;
mod particulars;
mod reason;
mod seal;
mod tally;
mod tested;
mod text;
mod timeline;
mod weighed;
mod words;

use build::refusal as refusal_view;
pub use build::{Basis, document};
pub use csv::csv;
pub use difference::{DifferenceSummary, DifferenceView, PolicyDifference, Side, TagDifference, difference};
pub use difference_text::{difference_markdown, difference_text};
pub use document::{
    DriftView, GapView, KeptView, LimitsView, ObstacleView, PlanDocument, PolicyView, RefusalView, RegistryView,
    RemovalView, SCHEMA, SourceView, SummaryView,
};
pub use explain::{explanation, explanation_by_rule, explanation_by_rule_json, explanation_json};
pub use format::{Format, render, write};
pub use html::html;
pub use listing::Listing;
pub use markdown::markdown;
pub use particulars::{AfterDaysView, ParticularsView};
pub use reason::{HolderView, MissView, ReasonView, minute, short};
pub use seal::{Broken, open, seal};
pub use tested::{TestedFile, TestedTag, TestedView, tested_text};
pub use tally::why_it_goes;
pub use text::{sources_text, text};
pub use timeline::{TimelineCut, TimelineGroup, TimelineTag, TimelineView, recorded_timeline, timeline, timeline_text};
pub use weighed::{CutView, OutlookView, PolicyWeighedView, RuleWeighedView, WeighedView, weighed};
pub use words::{age, bytes, clip, count, counted, obstacle, plain, refusal_message};
