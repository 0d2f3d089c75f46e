//! Reloading of settings and policies, and its effect on a current run.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::active_config::{self, ActiveConfig};
use super::event_loop::EventLoop;
use super::file_access::{FileAccess, Unresponsive};
use super::schedule::build_timetable;
use super::{host, policy_state, systemd, watch};
use crate::config::Settings;
use crate::domain::chain;
use crate::notify::{self, Notifier};
use crate::policy::{Diagnostic, PolicySet};
use crate::web::PolicyProblem;
use crate::workflow::{App, ApprovalsFolder, PlacedRevision, RunError};

/// File access of the daemon, by purpose.
#[derive(Default)]
pub(super) struct FileReads {
    policies: FileAccess<Result<Option<PolicySet>, Vec<Diagnostic>>>,
    settings: FileAccess<Result<ActiveConfig, RunError>>,
    /// Secrets and certificates, for a run.
    pub(super) secrets: FileAccess<Result<App, RunError>>,
    /// The commits of policies and settings.
    pub(super) rules: FileAccess<[PlacedRevision; 2]>,
    /// The folder of approved plans.
    pub(super) approved_plans: FileAccess<Result<ApprovalsFolder, RunError>>,
}

/// Invalid edits.
#[derive(Default)]
pub(super) struct ReloadProblems {
    pub(super) settings: Option<PolicyProblem>,
    pub(super) policies: Option<PolicyProblem>,
}

impl EventLoop {
    /// Reloads policies that changed, if they are valid and completely written. Returns true if runs may use the
    /// policies in force: not while their files, or those of the next version, may be incomplete.
    pub(super) async fn reload_policies(&mut self) -> bool {
        self.retry_failed_reload().await;
        let rules = self.config.clone();
        let looked = self.file_reads.policies.run(&self.stop, move || rules.load_changed_policies()).await;
        let since = self.now();
        match looked {
            Ok(Ok(None)) => {
                let wait = self.config.stabilization_delay(since);
                if !wait.is_zero() {
                    return self.schedule_reload(wait);
                }
                if self.problems.policies.take().is_some() {
                    tracing::info!("policy files match the active policies again");
                }
            }
            Ok(Ok(Some(policies))) => {
                let wait = active_config::stabilization_delay(&policies, since);
                if !wait.is_zero() {
                    return self.schedule_reload(wait);
                }
                self.config.policies = policies;
                self.problems.policies = None;
                self.stop_outdated_run();
                self.activate_config("policies").await;
            }
            Ok(Err(diagnostics)) => {
                report_once(
                    &mut self.problems.policies,
                    since,
                    "policies",
                    active_config::format_diagnostics(&diagnostics),
                );
            }
            Err(Unresponsive) if *self.stop.borrow() => {}
            Err(Unresponsive) => {
                let text = format!("{} does not answer", self.config.settings.policies.display());
                report_once(&mut self.problems.policies, since, "policies", text);
            }
        }
        true
    }

    /// Clears the alarm of a failed reload once its files are valid again. They are applied at the next reload request.
    async fn retry_failed_reload(&mut self) {
        if self.problems.settings.is_none() {
            return;
        }
        let (file, environment) = (self.options.file.clone(), self.options.environment.clone());
        if let Ok(Ok(_)) =
            self.file_reads.settings.run(&self.stop, move || active_config::load(&file, &environment)).await
        {
            self.problems.settings = None;
            tracing::info!("settings and policies are valid again; SIGHUP loads edited settings");
        }
    }

    /// Schedules another read, because the files may be incomplete until then. Always returns false: no run may use
    /// them yet.
    fn schedule_reload(&mut self, wait: Duration) -> bool {
        self.reload_at = Some(Instant::now() + wait);
        false
    }

    /// Reloads settings and policies.
    pub(super) async fn reload(&mut self) {
        systemd::notify_reloading();
        let (file, environment) = (self.options.file.clone(), self.options.environment.clone());
        let loaded = self.file_reads.settings.run(&self.stop, move || active_config::load(&file, &environment)).await;
        let since = self.now();
        match loaded {
            Ok(Ok(rules)) => self.activate_settings(rules).await,
            Ok(Err(error)) => {
                let text = match error.diagnostics() {
                    [] => chain(&error),
                    diagnostics => active_config::format_diagnostics(diagnostics),
                };
                report_once(&mut self.problems.settings, since, "settings and policies", text);
            }
            Err(Unresponsive) if *self.stop.borrow() => {}
            Err(Unresponsive) => {
                let text = format!("{} or a file that it names does not answer", self.options.file.display());
                report_once(&mut self.problems.settings, since, "settings and policies", text);
            }
        }
        self.watch_policies();
        systemd::notify_ready();
    }

    async fn activate_settings(&mut self, mut rules: ActiveConfig) {
        let before = &self.config;
        for (key, same) in [
            ("listen", rules.settings.listen == before.settings.listen),
            ("state", rules.settings.state == before.settings.state),
            ("telemetry", rules.settings.telemetry == before.settings.telemetry),
        ] {
            if !same {
                tracing::warn!("`{key}` has changed in the settings, which only a restart can take up");
            }
        }
        rules.settings.listen = before.settings.listen;
        // It protects the address of the start.
        rules.settings.listen_token.clone_from(&before.settings.listen_token);
        rules.settings.state.clone_from(&before.settings.state);
        let changed =
            changes_decisions(&before.settings, &rules.settings) || before.policies.files != rules.policies.files;
        self.config = rules;
        self.shown_settings.send_replace(Arc::new(self.config.settings.clone()));
        if changed {
            self.stop_outdated_run();
        }
        let ActiveConfig { settings, .. } = &self.config;
        let next = Notifier::start_with_store(&settings.notify, &self.store, &self.options.clock);
        tokio::spawn(std::mem::replace(&mut self.notifier, next).finish(notify::FINISH_TIMEOUT));
        self.problems = ReloadProblems::default();
        self.activate_config("settings and policies").await;
    }

    /// Stops a run under outdated rules before its next removal: the rules may have been changed to stop it.
    fn stop_outdated_run(&self) {
        if let Some(running) = &self.running {
            running.stop_for_new_config();
        }
    }

    async fn activate_config(&mut self, what: &str) {
        let policies = &self.config.policies;
        self.timetable = build_timetable(&self.config.settings.schedule, &policies.policies, host(&self.options.by));
        let state = policy_state(policies, self.now());
        tracing::info!(
            revision = state.revision,
            commit = state.commit.as_deref().unwrap_or("none"),
            "{what} were read: mode {}, policies: {}",
            self.config.settings.mode.label(),
            state.count
        );
        self.status.update(|status| status.policies = state);
        self.check_rules().await;
        self.register_new_schedules(self.now()).await;
    }

    pub(super) fn watch_policies(&mut self) {
        let path = &self.config.settings.policies;
        if self.watch.as_ref().is_some_and(|watch| watch.path == *path) {
            return;
        }
        self.watch = watch::watch(path, self.edit_sender.clone())
            .inspect_err(|error| {
                tracing::warn!(error = %chain(error), "edits of policies are not noticed at once, but within a minute");
            })
            .ok();
    }
}

/// Returns true if a run by one of the settings could remove something that the other would not.
fn changes_decisions(before: &Settings, after: &Settings) -> bool {
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
