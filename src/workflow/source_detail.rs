//! The command `sources`: the claims of a source, the tags that it protects, and the acceptance of doubted answers.

use super::decision::{DecideOptions, Decision, Facts};
use super::{App, RunError, unknown_name};
use crate::domain::SourceName;
use crate::registry::Progress;
use crate::report::{self, SourceDetailView};
use crate::sources;

impl App {
    /// Queries all sources and reads the registries, to show the tags that each source protects now.
    ///
    /// # Errors
    /// Fails as [`App::decide`] does.
    pub async fn decide_sources(&self, progress: &dyn Progress) -> Result<Decision, RunError> {
        let options = DecideOptions { facts: Facts::Kept, ..DecideOptions::default() };
        self.decide_with(options, progress).await
    }

    /// Returns all claims of one source, and the tags that it protects.
    ///
    /// # Errors
    /// Returns [`RunError::Usage`] if there is no such source; otherwise fails as [`App::decide`] does.
    pub async fn source_detail(&self, name: &str, progress: &dyn Progress) -> Result<SourceDetailView, RunError> {
        let name = self.find_source(name)?;
        let Decision { inventory, mut claims, verdicts, document, grounds, .. } = self.decide_sources(progress).await?;
        sources::record_mentions(&mut claims, &inventory, grounds.candidates.candidates());
        let found = report::source_detail((&*inventory, &claims, &*verdicts), name, document.created_at);
        found.ok_or_else(|| RunError::failed(format!("source {name} was not asked")))
    }

    /// Accepts the doubted answer of a source, and returns the number of its claims.
    ///
    /// # Errors
    /// Returns [`RunError::Usage`] if there is no such source, or its answer is not in doubt.
    pub async fn accept_source(&self, name: &str) -> Result<u64, RunError> {
        let name = self.find_source(name)?;
        self.accept(name).await?.ok_or_else(|| {
            RunError::usage(format!("nothing is to be accepted of source {name}: its last answer was believed"))
        })
    }

    /// Returns the source with that name.
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
