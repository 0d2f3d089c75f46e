//! Reports as Markdown, for change tickets and for comments on pull requests.

mod escape;
mod plan;
mod repeated;
mod run;

pub(super) use escape::{code, escape, folded, lines};
pub(super) use plan::markdown;
pub(super) use run::run_markdown;
