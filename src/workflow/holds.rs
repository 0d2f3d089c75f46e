//! The commands `hold`, `holds` and `unhold`.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::history::is_removed;
use super::interruption::StopResult;
use super::{App, Refused, RunError, TagRef};
use crate::domain::{EndedHold, Failure, Hold, HoldOrigin, RegistryName, RepositoryName, TagName};
use crate::report::format_minute;

/// The request for a hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldRequest {
    /// The image: a reference, or `REGISTRY/REPOSITORY:TAG`.
    pub image: String,
    /// The end of the hold.
    pub until: HoldUntil,
    /// The reason.
    pub reason: String,
    /// True if the tag need not exist, or may be unreadable.
    pub allow_missing: bool,
}

/// The end of a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldUntil {
    /// After this duration, from now.
    For(Duration),
    /// At that time.
    At(Timestamp),
}

/// A hold in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldResult {
    /// The hold. An earlier one that lasts longer is unchanged.
    pub hold: Hold,
    /// True if it is such an earlier one.
    pub is_earlier: bool,
    /// The result of asking a running enforcement to stop.
    pub stop_result: StopResult,
}

impl App {
    /// Holds a tag, and the digest that it has, whatever the policies say. A running enforcement is asked to stop
    /// before its next removal, so that nothing that the image depends on is removed by a plan made without the hold.
    ///
    /// # Errors
    /// Returns [`RunError::Usage`] if the tag does not exist or the end is past, [`RunError::Refused`] if the tag was
    /// removed in the meantime, and other errors if the registry or the state cannot be used.
    pub async fn hold(&self, request: &HoldRequest) -> Result<HoldResult, RunError> {
        let (registry, repository, tag) = match self.find_held_tag(&request.image) {
            Ok(found) => found,
            Err(error) => return Err(self.explain_bare_word(&request.image, error).await?),
        };
        let name = format!("{registry}/{repository}:{tag}");
        let now = self.now();
        let until = match request.until {
            HoldUntil::For(duration) => now.checked_add(duration).unwrap_or(Timestamp::MAX),
            HoldUntil::At(until) => until,
        };
        if until <= now {
            let until = format_minute(until);
            let failure = Failure::new((), format!("{name}: the hold would end at {until}, which is past"));
            return Err(RunError::Usage(failure.with_help("`+1d` is in one day, or write `--for 1d`")));
        }
        let reader = self.readers.get(&registry);
        let reader = reader.ok_or_else(|| RunError::usage(format!("no registry {registry} in the settings")))?;
        let digest = match reader.resolve(&repository, &tag).await {
            Ok(Some(found)) => Some(found.digest),
            Ok(None) if request.allow_missing => None,
            Ok(None) => {
                let words = format!("{name}: no such tag in the registry, so nothing would be held");
                let removed = self.describe_removal(&registry, &repository, &tag).await?;
                let named = TagRef { registry, repository, tag: Some(tag) };
                let meant = self.similar_name(&named).await?;
                let meant = meant.map_or_else(String::new, |meant| format!("did you mean `{meant}`? "));
                let help = removed
                    .unwrap_or_else(|| format!("{meant}check the name; `--anyway` holds the tag for when it comes"));
                return Err(RunError::usage(format!("{words}\n  help: {help}")));
            }
            Err(error) if request.allow_missing => {
                tracing::warn!("{name}: the tag could not be looked up, so only its name is held: {}", error.chain());
                None
            }
            Err(error) => {
                let unread = Failure::new((), format!("not known whether {name} is there, so nothing is held"));
                let unread = unread.caused_by(error);
                return Err(RunError::Unread(unread.with_help("`--anyway` holds its name without looking")));
            }
        };
        let hold = Hold {
            endpoint: Arc::from(reader.settings().address()),
            reason: request.reason.clone(),
            by: self.by.clone(),
            since: now,
            until,
            origin: HoldOrigin::Person,
            registry,
            repository,
            tag,
            digest,
        };
        let set = self.store.hold(&hold).await?;
        tracing::info!(image = name, reason = hold.reason, until = %hold.until, "held");
        let stopped = self.stop_enforcement("hold").await?;
        // A removal that was journaled before the hold may have been carried out after the first query.
        if let (Some(before), Ok(after)) = (&hold.digest, reader.resolve(&hold.repository, &hold.tag).await)
            && after.as_ref().is_none_or(|after| after.digest != *before)
        {
            let after = after.map(|after| Box::new(after.digest));
            return Err(Refused::HeldTooLate { image: name, before: Box::new(before.clone()), after }.into());
        }
        let present = self.store.holds(now).await?;
        let same = |one: &&Hold| {
            (&one.endpoint, &one.repository, &one.tag, &one.digest, one.origin)
                == (&hold.endpoint, &hold.repository, &hold.tag, &hold.digest, hold.origin)
        };
        let in_force = present.iter().find(same).cloned().unwrap_or(hold);
        Ok(HoldResult { hold: in_force, is_earlier: !set, stop_result: stopped })
    }

    /// Returns the tag that an image names. A hold without a tag would be on `latest`, and look like one on the
    /// repository.
    fn find_held_tag(&self, image: &str) -> Result<(RegistryName, RepositoryName, TagName), RunError> {
        let TagRef { registry, repository, tag } = self.find_tag_ref(image)?;
        let without_tag = || {
            RunError::usage(format!(
                "`{image}` names no tag; write `{registry}/{repository}:TAG`: a hold is on one tag and its image, not on a \
                 repository"
            ))
        };
        let tag = tag.ok_or_else(without_tag)?;
        Ok((registry, repository, tag))
    }

    /// Returns when Tagwarden removed a missing tag, and how to get it back; `None` if it did not remove it.
    async fn describe_removal(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        tag: &TagName,
    ) -> Result<Option<String>, RunError> {
        if !is_removed(&self.store.journal_of_tag(registry, repository, tag).await?) {
            return Ok(None);
        }
        let Some(entry) = self.last_removal(registry, repository, tag).await? else { return Ok(None) };
        let at = format_minute(entry.outcome.as_ref().map_or(entry.intended_at, |(_, at)| *at));
        Ok(Some(format!(
            "Tagwarden removed it {at}; `tagwarden restore {registry}/{repository}:{tag}` puts it back and holds it"
        )))
    }

    /// Returns the holds in force, by registry, repository and tag.
    ///
    /// # Errors
    /// Returns an error if the state cannot be read.
    pub async fn holds(&self) -> Result<Vec<Hold>, RunError> {
        Ok(self.store.holds(self.now()).await?)
    }

    /// Returns the holds that are over, the last ended first.
    ///
    /// # Errors
    /// Returns an error if the state cannot be read.
    pub async fn ended_holds(&self) -> Result<Vec<EndedHold>, RunError> {
        Ok(self.store.ended_holds(self.now()).await?)
    }

    /// Ends the holds on a tag, and returns its name and the number of holds.
    ///
    /// # Errors
    /// Returns [`RunError::Usage`] if there is none, and other errors if the state cannot be used.
    pub async fn unhold(&self, image: &str) -> Result<(String, u64), RunError> {
        let (registry, repository, tag) = self.find_held_tag(image)?;
        let name = format!("{registry}/{repository}:{tag}");
        let Some(address) = self.address(&registry) else {
            return Err(RunError::usage(format!("no registry {registry} in the settings")));
        };
        let result = self.store.end_holds(&address, &repository, &tag, &self.by, self.now()).await?;
        if result == 0 {
            return Err(RunError::usage(format!("{name}: no hold is in force\n  help: `tagwarden holds` lists them")));
        }
        tracing::info!(image = name, by = self.by, "hold ended");
        Ok((name, result))
    }

    /// Returns the current address of a registry.
    pub(super) fn address(&self, registry: &RegistryName) -> Option<Arc<str>> {
        self.readers.get(registry).map(|reader| reader.settings().address().into())
    }
}
