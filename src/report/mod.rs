//! What people and scripts read: a plan with its verdicts as one [`PlanDocument`], and that document as text, Markdown
//! and CSV. The document is the view world: everything in it is plain text and numbers, and nothing decides by it except
//! `apply`, which reads it back.

mod build;
mod document;
mod reason;
mod seal;
mod words;

pub use build::{Basis, document};
pub use document::{
    DriftView, GapView, KeptView, LimitsView, PlanDocument, PolicyView, RefusalView, RegistryView, RemovalView, SCHEMA,
    SourceView, SummaryView,
};
pub use reason::{HolderView, MissView, ReasonView};
pub use seal::{Broken, open, seal};
pub use words::{age, bytes, count, obstacle, refusal_message};
