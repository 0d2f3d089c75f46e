//! The removals of one part of a plan.

use std::borrow::Cow;
use std::sync::Arc;

use super::{Refused, RunError, admission};
use crate::domain::Removal;
use crate::report::{PlanDocument, RemovalView};

/// Some removals of a plan, in its order.
///
/// Their views are read again wherever they are needed: those of a hundred thousand removals take over 100 MB.
pub(super) struct PartRemovals<'p> {
    document: &'p PlanDocument,
    /// Each with its position in the plan.
    removals: Vec<(usize, Arc<Removal>)>,
    may_remove: bool,
}

impl<'p> PartRemovals<'p> {
    /// Creates an empty list of removals of a plan.
    pub(super) fn of(document: &'p PlanDocument) -> Self {
        Self { document, removals: Vec::new(), may_remove: false }
    }

    /// Adds the removal at a position of the plan, whose view is `view`.
    pub(super) fn push(&mut self, position: usize, view: &RemovalView) -> Result<(), RunError> {
        let previous = self.removals.last().map(|(_, removal)| &**removal);
        let removal = admission::removal_after(previous, view);
        let removal = removal.ok_or_else(|| Refused::InvalidImage { name: view.name() })?;
        self.removals.push((position, Arc::new(removal)));
        self.may_remove |= admission::is_enforced(self.document, view);
        Ok(())
    }

    /// Returns the plan.
    pub(super) fn document(&self) -> &'p PlanDocument {
        self.document
    }

    /// Returns true if the plan may really make one of them.
    pub(super) fn may_remove(&self) -> bool {
        self.may_remove
    }

    /// Returns the removals with their views.
    ///
    /// # Errors
    /// Yields an error for a view that can no longer be read.
    pub(super) fn iter(&self) -> impl Iterator<Item = Result<(Cow<'p, RemovalView>, &Arc<Removal>), RunError>> {
        let read = |position| self.document.removals.get(position).ok_or_else(unreadable_plan);
        self.removals.iter().map(move |(position, removal)| Ok((read(*position)?, removal)))
    }
}

/// Returns the error for an unreadable plan that this run has just made. An approved one was read before.
pub(super) fn unreadable_plan() -> RunError {
    RunError::failed("the plan's temporary file can no longer be read; nothing further is removed".to_owned())
}
