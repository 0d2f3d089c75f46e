//! The folder of approved plans: those that wait are applied, those that are refused are shown.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch as watch_channel;

use super::active_run::ActiveRun;
use super::event_loop::EventLoop;
use super::file_access::Unresponsive;
use crate::config::Mode;
use crate::domain::chain;
use crate::report::AttentionView;
use crate::state::RunKind;
use crate::workflow::{App, RunError};

/// The daemon's last look at the folder of approved plans.
#[derive(Debug, Default)]
pub(super) struct ApprovalsWatch {
    /// The plans that are refused or cannot be read, as of the last look.
    pub(super) attention: Vec<AttentionView>,
    /// The logged error about an unreadable folder.
    logged_error: Option<String>,
    /// The logged notes of the last look.
    logged_notes: BTreeSet<String>,
}

impl EventLoop {
    /// Applies pending plans in the folder of approved plans. Returns true if there is one.
    pub(super) async fn apply_approved_plans(&mut self, now: Timestamp) -> bool {
        let pending = self.look_for_approved_plans().await;
        if pending.is_empty() || self.config.settings.schedule.blocked_by(now).is_some() {
            return false;
        }
        let (halt, halted) = watch_channel::channel(false);
        let Ok(app) = self.open_app(halted).await else { return false };
        // Each acquires the lease by itself; if another process holds it, none is started.
        if self.take_lease(now).await.is_none() {
            return true;
        }
        let description = match &*pending {
            [file] => format!("the approved plan {}", file.file_name().unwrap_or_default().display()),
            plans => format!("{} approved plans", plans.len()),
        };
        self.status.follow(app.progress());
        let stop_reason = app.stop_reason();
        let task = tokio::spawn(async move {
            match app.apply_folder(&()).await {
                Ok(came) => came.into_iter().map(|(_, came)| came).collect(),
                Err(error) => vec![Err(error)],
            }
        });
        self.running = Some(ActiveRun {
            kind: RunKind::Apply,
            task,
            started_at: now,
            description,
            stop_sender: halt,
            stop_reason,
            rerun: None,
        });
        true
    }

    /// Looks into the folder, also while removals are held back, and returns the plans that wait.
    pub(super) async fn look_for_approved_plans(&mut self) -> Vec<PathBuf> {
        let settings = &self.config.settings;
        if !self.leads() || settings.mode == Mode::DryRun || settings.approvals.folder.is_none() {
            self.approvals.attention.clear();
            return Vec::new();
        }
        if self.rules.outdated().is_some() || self.write_error.is_some() {
            return Vec::new();
        }
        let (_never, halted) = watch_channel::channel(false);
        let Ok(app) = self.open_app(halted).await else { return Vec::new() };
        let look = Arc::<App>::new(app);
        let found =
            self.file_reads.approved_plans.run_async(&self.stop, async move { look.approved_plans().await }).await;
        let found =
            found.unwrap_or_else(|Unresponsive| Err(RunError::failed("their folder does not answer".to_owned())));
        match found {
            Ok(found) => {
                self.approvals.logged_error = None;
                self.approvals.attention = found.attention;
                let notes = BTreeSet::from_iter(found.notes);
                for note in notes.difference(&self.approvals.logged_notes) {
                    tracing::warn!("{note}");
                }
                self.approvals.logged_notes = notes;
                found.pending
            }
            Err(error) => {
                let words = chain(&error);
                if self.approvals.logged_error.as_ref() != Some(&words) && !*self.stop.borrow() {
                    tracing::error!("no approved plan can be applied: {words}");
                    self.approvals.logged_error = Some(words);
                }
                Vec::new()
            }
        }
    }
}
