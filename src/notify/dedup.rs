//! What was told already, so that a problem of every hour is told once a day.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::{PROBLEM_OCCASIONS, RunEvent};
use crate::config::{NotifyEvent, NotifySettings};

/// Problems by who was told of them, with when.
type SentTimes = BTreeMap<String, Timestamp>;

/// What was told already, in a file beside the state. It is no part of the record: without it things are told again.
#[derive(Debug)]
pub(super) struct DedupState {
    path: PathBuf,
    sent: BTreeMap<String, SentTimes>,
}

impl DedupState {
    /// What is remembered beside the state at that path: `<state>.told.json`. What cannot be read counts as never told.
    pub(super) fn load(state: &Path) -> Self {
        let mut name = state.as_os_str().to_owned();
        name.push(".told.json");
        let path = PathBuf::from(name);
        let read = std::fs::read(&path).ok();
        let told = read.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Self { path, sent: told }
    }

    /// Of what somebody is to be told now.
    pub(super) fn occasions_to_send(
        &self,
        settings: &NotifySettings,
        event: &RunEvent,
        now: Timestamp,
    ) -> BTreeSet<NotifyEvent> {
        let nothing = SentTimes::new();
        let told = self.sent.get(&settings.name).unwrap_or(&nothing);
        let always = settings.events.contains(&NotifyEvent::Always);
        let fresh = |key: &str| {
            told.get(key).is_none_or(|at| {
                // A clock that was set back must not silence anything.
                let age = now.duration_since(*at);
                age.is_negative() || age.unsigned_abs() >= settings.repeat_after
            })
        };
        let mut due: BTreeSet<NotifyEvent> = event
            .occasions
            .iter()
            .filter(|(occasion, _)| always || settings.events.contains(occasion))
            .filter(|(occasion, apart)| {
                always || !PROBLEM_OCCASIONS.contains(occasion) || fresh(&problem_key(event, **occasion, apart))
            })
            .map(|(occasion, _)| *occasion)
            .collect();
        let over = told.keys().any(|key| key.starts_with(event.kind.label()));
        let well = event.is_complete && !event.occasions.keys().any(|occasion| PROBLEM_OCCASIONS.contains(occasion));
        if over && well && (always || settings.events.contains(&NotifyEvent::Recovered)) {
            due.insert(NotifyEvent::Recovered);
        }
        if always {
            due.insert(NotifyEvent::Always);
        }
        due
    }

    /// Remembers that it was told, and forgets what a whole run shows to be over.
    pub(super) fn record_sent(
        &mut self,
        name: &str,
        event: &RunEvent,
        due: &BTreeSet<NotifyEvent>,
        now: Timestamp,
    ) -> io::Result<()> {
        let told = self.sent.entry(name.to_owned()).or_default();
        let before = told.clone();
        let there: BTreeMap<String, NotifyEvent> =
            event.occasions.iter().map(|(occasion, apart)| (problem_key(event, *occasion, apart), *occasion)).collect();
        if event.is_complete {
            told.retain(|key, _| !key.starts_with(event.kind.label()) || there.contains_key(key));
        }
        for (key, occasion) in there {
            if PROBLEM_OCCASIONS.contains(&occasion) && due.contains(&occasion) {
                told.insert(key, now);
            }
        }
        if *told == before { Ok(()) } else { self.save() }
    }

    fn save(&self) -> io::Result<()> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new().prefix(".tagwarden-").tempfile_in(folder)?;
        file.write_all(&serde_json::to_vec(&self.sent)?)?;
        file.persist(&self.path).map_err(|error| error.error)?;
        Ok(())
    }
}

fn problem_key(event: &RunEvent, occasion: NotifyEvent, apart: &str) -> String {
    format!("{} {} {apart}", event.kind.label(), occasion.label())
}
