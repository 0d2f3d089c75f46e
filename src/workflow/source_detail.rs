//! The command `sources`: what a source says, what it protects, and that its answer is right.

use super::decision::{DecideOptions, Decision, Facts};
use super::{App, RunError, unknown_name};
use crate::domain::SourceName;
use crate::registry::Progress;
use crate::report::{self, SourceDetailView};
use crate::sources;

impl App {
    /// Asks all sources and reads the registries, to tell what each source protects right now.
    ///
    /// # Errors
    /// As [`App::decide`].
    pub async fn decide_sources(&self, progress: &dyn Progress) -> Result<Decision, RunError> {
        let options = DecideOptions { facts: Facts::Kept, ..DecideOptions::default() };
        self.decide_with(options, progress).await
    }

    /// The same, to tell everything that one source says, and the tags that it protects.
    ///
    /// # Errors
    /// [`RunError::Usage`] when there is no such source; otherwise as [`App::decide`].
    pub async fn source_detail(&self, name: &str, progress: &dyn Progress) -> Result<SourceDetailView, RunError> {
        let name = self.find_source(name)?;
        let Decision { inventory, mut claims, verdicts, document, grounds, .. } = self.decide_sources(progress).await?;
        sources::record_mentions(&mut claims, &inventory, grounds.candidates.candidates());
        let found = report::source_detail((&*inventory, &claims, &*verdicts), name, document.created_at);
        found.ok_or_else(|| RunError::failed(format!("source {name} was not asked")))
    }

    /// Believes the answer of a source that was not believed, and gives how many claims it made.
    ///
    /// # Errors
    /// [`RunError::Usage`] when there is no such source, or nothing to believe.
    pub async fn accept_source(&self, name: &str) -> Result<u64, RunError> {
        let name = self.find_source(name)?;
        self.accept(name).await?.ok_or_else(|| {
            RunError::usage(format!("nothing is to be accepted of source {name}: its last answer was believed"))
        })
    }

    /// The source of that name.
    fn find_source(&self, name: &str) -> Result<&SourceName, RunError> {
        let sources = &self.settings.sources;
        let known = sources.iter().map(|source| &source.name).find(|known| known.as_str() == name);
        known.ok_or_else(|| {
            let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
            unknown_name("source", name, &names)
        })
    }

    async fn accept(&self, name: &SourceName) -> Result<Option<u64>, RunError> {
        Ok(self.store.accept_source(name, &self.by, self.now()).await?)
    }
}
