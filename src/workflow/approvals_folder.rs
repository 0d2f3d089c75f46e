//! The folder of approved plans, each of which is applied once.

use std::path::{Path, PathBuf};

use super::{App, Approval, RunError, RunResult, admission, signature};
use crate::domain::{Failure, chain, decode_text};
use crate::registry::Progress;
use crate::state::RunRecord;

impl App {
    /// Applies the new plans in the folder of the settings' `[approvals]`, by name, and returns the result of each. A
    /// plan's signature is beside it, as `PLAN.json.minisig` or `PLAN.json.sig`; its file name without `.json` is the
    /// ticket in the audit record.
    ///
    /// A plan is identified by its id: once started it is not started again, unless it was interrupted. A refused plan
    /// is retried only if the reason has changed, so that a plan left in the folder is recorded once.
    ///
    /// # Errors
    /// Returns an error if the folder does not exist or the state cannot be read; a failure of a single plan is in its
    /// own result.
    pub async fn apply_folder(
        &self,
        progress: &dyn Progress,
    ) -> Result<Vec<(PathBuf, Result<RunResult, RunError>)>, RunError> {
        let mut came = Vec::new();
        for file in self.approved_plans().await? {
            if *self.stop.borrow() {
                break;
            }
            // The plans before it may have taken long.
            let Some((content, approval)) = self.pending_approval(&file).await? else { continue };
            let result = self.apply_from_folder(&content, &approval, progress).await;
            match &result {
                Ok(_) => tracing::info!("{}: the approved plan was applied", file.display()),
                Err(error) => tracing::warn!("{}: the approved plan was not applied: {}", file.display(), chain(error)),
            }
            came.push((file, result));
        }
        Ok(came)
    }

    /// Returns the plan files in that folder that need to be processed, by name.
    ///
    /// # Errors
    /// Fails as [`App::apply_folder`] does.
    pub async fn approved_plans(&self) -> Result<Vec<PathBuf>, RunError> {
        let Some(folder) = &self.settings.approvals.folder else { return Ok(Vec::new()) };
        let mut files = Vec::new();
        let path = folder.clone();
        for file in spawn_file_access(move || list_plan_files(&path)).await? {
            if self.pending_approval(&file).await?.is_some() {
                files.push(file);
            }
        }
        Ok(files)
    }

    /// Returns a plan file's content and approval, if it needs to be processed.
    async fn pending_approval(&self, file: &Path) -> Result<Option<(Vec<u8>, Approval)>, RunError> {
        let path = file.to_owned();
        let both = spawn_file_access(move || (read_plan_file(&path), read_signature(&path))).await;
        let (Some(content), Ok(signature)) = both else { return Ok(None) };
        let ticket = file.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let verdict = match admission::read_plan(&content) {
            Err(broken) => Err(broken.into()),
            Ok(plan) => {
                if self.store.runs_applying(&plan.id).await?.iter().any(|record| !was_interrupted(record)) {
                    return Ok(None);
                }
                signature::verify_signer(&self.settings.approvals, &content, signature.as_deref())
                    .and_then(|_| admission::admit(&plan, &self.settings, &self.policies, self.now()))
            }
        };
        if let Err(refusal) = verdict
            && self.store.was_refused(&ticket, &chain(&refusal)).await?
        {
            return Ok(None);
        }
        Ok(Some((content, Approval { approved_by: None, ticket: Some(ticket), signature, override_reason: None })))
    }
}

/// Lists the plan files of a folder, by name.
fn list_plan_files(folder: &Path) -> Result<Vec<PathBuf>, RunError> {
    let failed = |error: std::io::Error| {
        let message = format!("the folder of approved plans, {}, cannot be read", folder.display());
        RunError::Usage(Failure::new((), message).caused_by(error))
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "json") && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Runs file access on a blocking thread: the folder may be on a network share that hangs.
async fn spawn_file_access<T: Send + 'static>(access: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(access).await {
        Ok(accessed) => accessed,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

/// Reads a plan file. An unreadable one may be incomplete, and is retried the next time.
fn read_plan_file(file: &Path) -> Option<Vec<u8>> {
    let read = match std::fs::metadata(file) {
        // Reading a pipe could block forever.
        Ok(data) if !data.is_file() => Err(std::io::Error::other("not a regular file")),
        Ok(_) => std::fs::read(file),
        Err(error) => Err(error),
    };
    if let Err(error) = &read {
        tracing::warn!(file = %file.display(), error = %chain(error), "an approved plan could not be read");
    }
    read.ok()
}

fn read_signature(plan: &Path) -> Result<Option<String>, ()> {
    let Some(file) = signature::find_signature_file(plan) else { return Ok(None) };
    let signature = read_plan_file(&file).ok_or(())?;
    // What is not text is refused as a signature that is not one.
    Ok(Some(decode_text(signature).unwrap_or_default()))
}

/// Returns true if a run was stopped or killed before it was complete.
fn was_interrupted(record: &RunRecord) -> bool {
    record.end.as_ref().is_none_or(|end| end.outcome == super::RunOutcome::Interrupted.label())
}
