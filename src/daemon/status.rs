//! The status that the daemon publishes: for the pages and the API, and on one line for systemd.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::active_config::ActiveConfig;
use super::event_loop::EventLoop;
use super::{host, next_runs, systemd};
use crate::web::{self, Activity, PolicyProblem};

/// The number of upcoming runs that are shown.
const NEXT_RUN_COUNT: usize = 10;

impl EventLoop {
    /// Publishes the current activity.
    pub(super) fn publish_status(&mut self) {
        let now = self.now();
        let ActiveConfig { settings, policies, .. } = &self.config;
        let next = next_runs(settings, policies, host(&self.options.by), now, NEXT_RUN_COUNT);
        let outdated = self.rules.outdated();
        let blocked_by = outdated.clone().or_else(|| super::blocked_by(settings, &policies.policies, |_| true, now));
        let doing = match &self.running {
            Some(running) => Activity::Run {
                kind: running.kind,
                since: running.started_at,
                description: running.description.clone(),
            },
            None => Activity::Idle,
        };
        let role = self.role();
        let problem = self.problems.settings.as_ref().or(self.problems.policies.as_ref()).cloned();
        let words = self.describe_status(&doing, next.first(), problem.as_ref());
        if words != self.systemd_status {
            systemd::set_status(&words);
            self.systemd_status = words;
        }
        self.status.update(|status| {
            status.ready = self.write_error.is_none();
            status.write_error.clone_from(&self.write_error);
            status.approved_plans.clone_from(&self.approvals.attention);
            status.role = role;
            status.outdated = outdated;
            (status.activity, status.next, status.blocked_by) = (doing, next, blocked_by);
            status.last_scheduled_time = self.timetable.last_scheduled_time(now);
            status.policies.problem = problem;
        });
    }

    /// Describes the activity on one line.
    fn describe_status(
        &self,
        doing: &Activity,
        next: Option<&web::NextRun>,
        problem: Option<&PolicyProblem>,
    ) -> String {
        let at = |time: Timestamp| {
            time.to_zoned(self.timetable.timezone.clone()).strftime("%a %Y-%m-%d %H:%M %Z").to_string()
        };
        let mut words = match (doing, next) {
            (Activity::Run { since, description: what, .. }, _) => format!("Run of {what} since {}", at(*since)),
            (Activity::Stopping, _) => "Stopping".to_owned(),
            (Activity::Idle, Some(next)) => format!("Next run {}: {}", at(next.at), next.description),
            (Activity::Idle, None) => "No schedule".to_owned(),
        };
        if !self.leads() {
            "Stand-by: another daemon follows the schedule".clone_into(&mut words);
        }
        if let Some(outdated) = self.rules.outdated() {
            let _ = write!(words, "; removes nothing: {outdated}");
        }
        if let Some(error) = &self.write_error {
            let _ = write!(words, "; the state cannot be written ({})", error.kind.label());
        }
        if let Some(problem) = problem {
            let first = problem.text.lines().next().unwrap_or_default();
            let _ = write!(words, "; an edit cannot be gone by: {first}");
        }
        words
    }
}
