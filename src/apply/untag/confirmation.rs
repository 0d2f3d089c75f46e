//! Confirmation of a removal that the registry reported: an answer is not a proof.

use std::sync::atomic::Ordering;

use super::{ObservedOutcome, UntagAttempt};
use crate::apply::{RemovalTask, RepositoryContext, absence};
use crate::domain::{Digest, Outcome, Removal, SkipReason, TagName};
use crate::registry::{RegistryError, RegistryErrorKind, RemovalRecord};

/// The end of the evidence of a removal if the registry's record of the tag could not be read.
const DIGEST_UNKNOWN: &str = "so it is not known which digest the tag named when it was removed";

/// Returns true if the outcome is a removal of which it is not known which digest the tag named then.
#[must_use]
pub fn is_digest_unknown(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Done(evidence) if evidence.ends_with(DIGEST_UNKNOWN))
}

/// The evidence of a tag that was gone when its turn came, while another tag of its image was removed.
pub(super) fn removed_with(other: &TagName) -> String {
    format!(
        "the tag was gone when {other}, another tag of its image, had been removed: the registry may have removed both, \
         {DIGEST_UNKNOWN}"
    )
}

/// The time for which a tag that is still visible is looked up again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// No time: one look is enough.
    None,
    /// The longest possible staleness of a read.
    UntilStale,
}

/// The tag's digest at the instant of its removal.
struct RemovedDigest {
    digest: Digest,
    is_certain: bool,
}

impl UntagAttempt<'_> {
    /// Confirms a successful response, with the tag's digest if it contains one, or else by the registry's own record
    /// of the tag. Where there is no such record, the first response of each repository is verified.
    pub(super) async fn confirm_removal(mut self, evidence: String, named: Option<Digest>) -> ObservedOutcome {
        let site = self.context;
        let Removal { repository, digest, .. } = &*self.task.removal;
        if let Some(named) = named {
            let last = RemovedDigest { digest: named, is_certain: true };
            // Proof enough, whatever a read from another replica shows.
            return self.confirm_digest(&last, evidence).await;
        }
        let unread = match self.read_record().await {
            Ok(None) => None,
            Ok(Some(RemovalRecord::Removed { digest, is_certain })) => {
                return self.confirm_digest(&RemovedDigest { digest, is_certain }, evidence).await;
            }
            Ok(Some(RemovalRecord::Active(now))) if now == *digest => return self.still_present(),
            Ok(Some(RemovalRecord::Active(to))) => return ObservedOutcome::skipped(SkipReason::Moved { to }),
            Err(error) => Some(error),
        };
        let doubted = unread.is_some() || self.lost_response.is_some() || !site.breaker.has_removed_from(repository);
        if doubted && self.is_still_present(Patience::UntilStale).await {
            return self.still_present();
        }
        site.record_success();
        ObservedOutcome::Known(Outcome::Done(match unread {
            None => evidence,
            Some(error) => self.describe_unread_record(&evidence, &error),
        }))
    }

    /// Confirms a removal whose digest is known, and puts the tag back if it was another one than planned.
    async fn confirm_digest(&self, last: &RemovedDigest, evidence: String) -> ObservedOutcome {
        let site = self.context;
        site.returns_digests.store(true, Ordering::Relaxed);
        site.record_success();
        if last.digest == self.task.removal.digest {
            return ObservedOutcome::Known(Outcome::Done(evidence));
        }
        restore_moved_tag(site, self.task, last, &evidence).await
    }

    /// Returns the outcome of a removal that the registry reported and did not carry out. One that does not do what it
    /// says is not asked for more.
    fn still_present(&self) -> ObservedOutcome {
        let Removal { repository, tag, .. } = &*self.task.removal;
        let why = format!("the registry said that it removed the tag, and {repository}:{tag} is still there");
        self.context.breaker.trip(why.clone());
        ObservedOutcome::Unknown(why)
    }

    /// Adds to the evidence that the registry's record of the tag could not be read.
    fn describe_unread_record(&self, evidence: &str, error: &RegistryError) -> String {
        let Removal { registry, repository, tag, digest, .. } = &*self.task.removal;
        tracing::warn!(
            %registry, %repository, %tag, planned = %digest, error = %error.chain(),
            "removed a tag, and could not see which digest it named then"
        );
        let before = if evidence.is_empty() { String::new() } else { format!("{evidence}; ") };
        format!("{before}{}, {DIGEST_UNKNOWN}", error.chain())
    }

    /// Reads the registry's record of the tag, as long as it shows the tag at its digest: a read from a replica may be
    /// stale. Returns the last answer after the longest possible staleness.
    async fn read_record(&mut self) -> Result<Option<RemovalRecord>, RegistryError> {
        let site = self.context;
        let Removal { repository, tag, digest, .. } = &*self.task.removal;
        let mut pauses = site.context.retry_policy.pauses(site.context.retry_policy.max_staleness);
        let mut shown = false;
        loop {
            let record = site.registry.reader.removal_record(repository, tag, digest).await;
            match &record {
                Ok(Some(RemovalRecord::Active(now))) if now == digest => shown = true,
                // The registry's response stands until a read contradicts it.
                Err(_) if shown => {}
                _ => return record,
            }
            self.permit = None;
            match pauses.next() {
                Some(pause) if !*site.context.stop.borrow() => site.pause(pause).await,
                _ => return record,
            }
        }
    }

    /// Confirms a response that the tag does not exist, although it was visible a moment ago.
    pub(super) async fn confirm_absence(mut self) -> ObservedOutcome {
        let Removal { repository, tag, .. } = &*self.task.removal;
        // A second contradiction in a row is not a stale read.
        let contradicted = self.context.breaker.is_contradicted_in(repository);
        let patience = if contradicted { Patience::None } else { Patience::UntilStale };
        if self.is_still_present(patience).await {
            let message = format!("the registry said that the tag is gone, and {repository}:{tag} is still there");
            self.context.breaker.record_contradiction(repository, &message);
            self.context.record_failure(&RegistryError::new(RegistryErrorKind::NotFound, message.clone()));
            return ObservedOutcome::Unknown(message);
        }
        let Removal { repository, tag, digest, .. } = &*self.task.removal;
        let reader = &*self.context.registry.reader;
        match &self.lost_response {
            None => match absence::skip_reason(reader, repository, tag, digest).await {
                SkipReason::Missing => self.outcome_if_missing(SkipReason::Missing).await,
                skip => ObservedOutcome::skipped(skip),
            },
            Some(lost) => self.outcome_if_absent_after_error(lost).await,
        }
    }

    /// Polls the tag until it is absent or has moved, with growing pauses during which others proceed: a read through a
    /// cache or from a replica may be stale. Returns true if it is still at its digest after the longest possible
    /// staleness.
    async fn is_still_present(&mut self, patience: Patience) -> bool {
        self.permit = None;
        let site = self.context;
        let Removal { repository, tag, digest, .. } = &*self.task.removal;
        let mut pauses = site.context.retry_policy.pauses(site.context.retry_policy.max_staleness);
        let mut shown = false;
        loop {
            match site.registry.reader.resolve(repository, tag).await {
                Ok(Some(now)) if now.digest == *digest => shown = true,
                Ok(_) => return false,
                // The registry's response stands until a read contradicts it.
                Err(_) if !shown => return false,
                Err(_) => {}
            }
            match pauses.next() {
                Some(pause) if patience == Patience::UntilStale && !*site.context.stop.borrow() => {
                    site.pause(pause).await;
                }
                _ => return true,
            }
        }
    }
}

/// Restores a tag that moved at the instant of its removal, or may have.
async fn restore_moved_tag(
    site: &RepositoryContext<'_>,
    order: &RemovalTask,
    last: &RemovedDigest,
    evidence: &str,
) -> ObservedOutcome {
    let Removal { repository, tag, digest, .. } = &*order.removal;
    let moved = &last.digest;
    let evidence = if evidence.is_empty() { String::new() } else { format!(" ({evidence})") };
    let what = if last.is_certain {
        format!("the tag moved from {digest} to {moved} in the instant of its removal{evidence}")
    } else {
        format!(
            "the tag may have moved from {digest} to {moved} in the instant of its removal: the registry does not show which \
             of them it named last{evidence}"
        )
    };
    let reader = &*site.registry.reader;
    // One that hides the manifest by now puts the tag back by the digest alone.
    let manifest = if reader.hides_untagged() {
        None
    } else {
        match reader.manifest(repository, moved).await {
            Ok(Some(manifest)) => Some(manifest),
            Ok(None) => {
                let why = if reader.deletes_with_last_tag() {
                    "the registry deleted that image with its last tag"
                } else {
                    "that manifest is gone"
                };
                return ObservedOutcome::failed(format!(
                    "{what}, and {why}, so neither can be put back; help: push {moved} to {repository}:{tag} again"
                ));
            }
            Err(error) => {
                return ObservedOutcome::failed(format!("{what}, and it could not be put back: {}", error.chain()));
            }
        }
    };
    match site.restore_tags(moved, manifest.as_ref(), std::slice::from_ref(tag)).await {
        Ok(missing) if missing.is_empty() => ObservedOutcome::skipped(SkipReason::Reverted(what)),
        Ok(_) => ObservedOutcome::failed(format!(
            "{what}, and it could not be put back: push {moved} to {repository}:{tag} again"
        )),
        Err(error) => ObservedOutcome::Unknown(format!("{what}; {}", error.chain())),
    }
}
