//! What people and scripts read: a plan with its verdicts as one [`PlanDocument`], and that document as text, Markdown
//! and CSV. The document is the view world: everything in it is plain text and numbers, and nothing decides by it except
//! `apply`, which reads it back.

mod build;
mod csv;
mod document;
mod markdown;
mod reason;
mod seal;
mod text;
mod words;

pub use build::{Basis, document};
pub use csv::csv;
pub use document::{
    DriftView, GapView, KeptView, LimitsView, PlanDocument, PolicyView, RefusalView, RegistryView, RemovalView,
    SCHEMA, SourceView, SummaryView,
};
pub use markdown::markdown;
pub use reason::{HolderView, ReasonView};
pub use seal::{Broken, open, seal};
pub use text::{explanation, text};
pub use words::{age, bytes, count, obstacle, refusal_message};
