//! Edits of settings and policies: which are taken up, and what becomes of a run that goes on meanwhile.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::due::timetable;
use super::file_access::{FileAccess, Unresponsive};
use super::live::Living;
use super::rules::{self, Rules};
use super::{host, policy_state, systemd, watch};
use crate::config::Settings;
use crate::http::PolicyProblem;
use crate::notify::{self, Notifier};
use crate::policy_file::{Diagnostic, PolicySet};
use crate::run::{House, RunError};

/// File access of the daemon, by what it is for.
#[derive(Default)]
pub(super) struct Files {
    policies: FileAccess<Result<Option<PolicySet>, Vec<Diagnostic>>>,
    settings: FileAccess<Result<Rules, RunError>>,
    /// Secrets and certificates, for a run.
    pub(super) secrets: FileAccess<Result<House, RunError>>,
    /// The folder of approved plans.
    pub(super) approved: FileAccess<Result<Vec<std::path::PathBuf>, RunError>>,
}

/// Edits that are invalid.
#[derive(Default)]
pub(super) struct Problems {
    pub(super) settings: Option<PolicyProblem>,
    pub(super) policies: Option<PolicyProblem>,
}

impl Living {
    /// Takes up policies that changed, where they are valid and written to their end. Returns whether runs may go by the
    /// policies in force: not while the files that they were read from, or are to be replaced by, may be half written.
    pub(super) async fn look_at_policies(&mut self) -> bool {
        self.look_at_failed_reload().await;
        let rules = self.rules.clone();
        let looked = self.files.policies.run(&self.stop, move || rules.changed_policies()).await;
        let since = self.now();
        match looked {
            Ok(Ok(None)) => {
                let wait = self.rules.wait(since);
                if !wait.is_zero() {
                    return self.look_again(wait);
                }
                if self.problems.policies.take().is_some() {
                    tracing::info!("policy files match the active policies again");
                }
            }
            Ok(Ok(Some(policies))) => {
                let wait = rules::time_until_settled(&policies, since);
                if !wait.is_zero() {
                    return self.look_again(wait);
                }
                self.rules.policies = policies;
                self.problems.policies = None;
                self.end_run_of_old_rules();
                self.take_up("policies").await;
            }
            Ok(Err(diagnostics)) => {
                report_once(&mut self.problems.policies, since, "policies", rules::lines(&diagnostics));
            }
            Err(Unresponsive) if *self.stop.borrow() => {}
            Err(Unresponsive) => {
                let text = format!("{} does not answer", self.rules.settings.policies.display());
                report_once(&mut self.problems.policies, since, "policies", text);
            }
        }
        true
    }

    /// Ends the alarm of a failed reload once its files are valid again. They are taken up when a person asks again.
    async fn look_at_failed_reload(&mut self) {
        if self.problems.settings.is_none() {
            return;
        }
        let (file, environment) = (self.start.file.clone(), self.start.environment.clone());
        if let Ok(Ok(_)) = self.files.settings.run(&self.stop, move || rules::load(&file, &environment)).await {
            self.problems.settings = None;
            tracing::info!("settings and policies are valid again; SIGHUP loads edited settings");
        }
    }

    /// The files may be half written: they are read again after that time.
    fn look_again(&mut self, wait: Duration) -> bool {
        self.look_at = Some(Instant::now() + wait);
        false
    }

    /// Reads settings and policies again.
    pub(super) async fn reload(&mut self) {
        systemd::reloading();
        let (file, environment) = (self.start.file.clone(), self.start.environment.clone());
        let loaded = self.files.settings.run(&self.stop, move || rules::load(&file, &environment)).await;
        let since = self.now();
        match loaded {
            Ok(Ok(rules)) => self.take_up_settings(rules).await,
            Ok(Err(error)) => {
                let text = match error.diagnostics() {
                    [] => error.to_string(),
                    diagnostics => rules::lines(diagnostics),
                };
                report_once(&mut self.problems.settings, since, "settings and policies", text);
            }
            Err(Unresponsive) if *self.stop.borrow() => {}
            Err(Unresponsive) => {
                let text = format!("{} or a file that it names does not answer", self.start.file.display());
                report_once(&mut self.problems.settings, since, "settings and policies", text);
            }
        }
        self.watch_policies();
        systemd::ready();
    }

    async fn take_up_settings(&mut self, mut rules: Rules) {
        let before = &self.rules;
        for (key, same) in [
            ("listen", rules.settings.listen == before.settings.listen),
            ("state", rules.settings.state == before.settings.state),
        ] {
            if !same {
                tracing::warn!("`{key}` has changed in the settings, which only a restart can take up");
            }
        }
        rules.settings.listen = before.settings.listen;
        rules.settings.state.clone_from(&before.settings.state);
        let changed =
            decides_differently(&before.settings, &rules.settings) || before.policies.files != rules.policies.files;
        self.rules = rules;
        if changed {
            self.end_run_of_old_rules();
        }
        let Rules { settings, .. } = &self.rules;
        let next = Notifier::start(&settings.notify, &settings.state, &self.start.clock);
        tokio::spawn(std::mem::replace(&mut self.notifier, next).finish(notify::GRACE));
        self.problems = Problems::default();
        self.take_up("settings and policies").await;
    }

    /// Ends a run that goes by rules that are no longer in force, before its next removal: they may have been changed to
    /// stop it.
    fn end_run_of_old_rules(&self) {
        if let Some(running) = &self.running {
            running.rules_changed();
        }
    }

    async fn take_up(&mut self, what: &str) {
        let policies = &self.rules.policies;
        self.table = timetable(&self.rules.settings.schedule, &policies.policies, host(&self.start.by));
        let state = policy_state(policies, self.now());
        tracing::info!(
            revision = state.revision,
            commit = state.commit.as_deref().unwrap_or("none"),
            "{what} were read: mode {}, policies: {}",
            self.rules.settings.mode.label(),
            state.count
        );
        self.board.update(|status| status.policies = state);
        self.remember_new_lines(self.now()).await;
    }

    pub(super) fn watch_policies(&mut self) {
        let path = &self.rules.settings.policies;
        if self.watch.as_ref().is_some_and(|watch| watch.path == *path) {
            return;
        }
        self.watch = watch::watch(path, self.changed.clone())
            .inspect_err(|error| {
                tracing::warn!(%error, "edits of policies are not noticed at once, but within a minute");
            })
            .ok();
    }
}

/// Whether a run by the one settings could remove something that the other would not.
fn decides_differently(before: &Settings, after: &Settings) -> bool {
    before.revision != after.revision
        || before.mode != after.mode
        || before.schedule.window != after.schedule.window
        || before.schedule.freezes != after.schedule.freezes
        || before.schedule.timezone != after.schedule.timezone
}

/// Reports an invalid edit, unless it was reported already.
fn report_once(problem: &mut Option<PolicyProblem>, since: Timestamp, what: &str, text: String) {
    if problem.as_ref().is_some_and(|known| known.text == text) {
        return;
    }
    tracing::error!("invalid {what}; keeping the previous version:\n{text}");
    let since = problem.as_ref().map_or(since, |known| known.since);
    *problem = Some(PolicyProblem { since, text });
}
