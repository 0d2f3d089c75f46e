//! What was told already, so that a problem of every hour is told once a day.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::{PROBLEMS, RunNews};
use crate::config::{NotifySettings, Occasion};

/// Problems by who was told of them, with when.
type Problems = BTreeMap<String, Timestamp>;

/// What was told already, in a file beside the state. It is no part of the record: without it things are told again.
#[derive(Debug)]
pub(super) struct Memory {
    path: PathBuf,
    told: BTreeMap<String, Problems>,
}

impl Memory {
    /// What is remembered beside the state at that path: `<state>.told.json`. What cannot be read counts as never told.
    pub(super) fn beside(state: &Path) -> Self {
        let mut name = state.as_os_str().to_owned();
        name.push(".told.json");
        let path = PathBuf::from(name);
        let read = std::fs::read(&path).ok();
        let told = read.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Self { path, told }
    }

    /// Of what somebody is to be told now.
    pub(super) fn due(&self, settings: &NotifySettings, news: &RunNews, now: Timestamp) -> BTreeSet<Occasion> {
        let nothing = Problems::new();
        let told = self.told.get(&settings.name).unwrap_or(&nothing);
        let always = settings.on.contains(&Occasion::Always);
        let fresh = |key: &str| {
            told.get(key).is_none_or(|at| {
                // A clock that was set back must not silence anything.
                let age = now.duration_since(*at);
                age.is_negative() || age.unsigned_abs() >= settings.repeat_after
            })
        };
        let mut due: BTreeSet<Occasion> = news
            .occasions
            .iter()
            .filter(|(occasion, _)| always || settings.on.contains(occasion))
            .filter(|(occasion, apart)| always || !PROBLEMS.contains(occasion) || fresh(&key(news, **occasion, apart)))
            .map(|(occasion, _)| *occasion)
            .collect();
        let over = told.keys().any(|key| key.starts_with(news.kind.label()));
        let well = news.whole && !news.occasions.keys().any(|occasion| PROBLEMS.contains(occasion));
        if over && well && (always || settings.on.contains(&Occasion::Recovered)) {
            due.insert(Occasion::Recovered);
        }
        if always {
            due.insert(Occasion::Always);
        }
        due
    }

    /// Remembers that it was told, and forgets what a whole run shows to be over.
    pub(super) fn told(
        &mut self,
        name: &str,
        news: &RunNews,
        due: &BTreeSet<Occasion>,
        now: Timestamp,
    ) -> io::Result<()> {
        let told = self.told.entry(name.to_owned()).or_default();
        let before = told.clone();
        let there: BTreeMap<String, Occasion> =
            news.occasions.iter().map(|(occasion, apart)| (key(news, *occasion, apart), *occasion)).collect();
        if news.whole {
            told.retain(|key, _| !key.starts_with(news.kind.label()) || there.contains_key(key));
        }
        for (key, occasion) in there {
            if PROBLEMS.contains(&occasion) && due.contains(&occasion) {
                told.insert(key, now);
            }
        }
        if *told == before { Ok(()) } else { self.save() }
    }

    fn save(&self) -> io::Result<()> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new().prefix(".tagwarden-").tempfile_in(folder)?;
        file.write_all(&serde_json::to_vec(&self.told)?)?;
        file.persist(&self.path).map_err(|error| error.error)?;
        Ok(())
    }
}

fn key(news: &RunNews, occasion: Occasion, apart: &str) -> String {
    format!("{} {} {apart}", news.kind.label(), occasion.label())
}
