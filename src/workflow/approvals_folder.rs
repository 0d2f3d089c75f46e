//! The folder of approved plans, each of which is applied once.

use std::path::{Path, PathBuf};

use super::{App, Approval, RunError, RunResult, admission, signature};
use crate::domain::{Failure, Outcome, chain, decode_text};
use crate::registry::Progress;
use crate::report::{self, AttentionKind, AttentionView};
use crate::state::RunRecord;

/// The files in the folder of approved plans, by what becomes of them.
#[derive(Debug, Default)]
pub struct ApprovalsFolder {
    /// The files of plans that need to be processed, by name.
    pub pending: Vec<PathBuf>,
    /// One item for each plan that is refused or cannot be read, by name.
    pub attention: Vec<AttentionView>,
    /// Texts for the log about files that no run is about: those that cannot be read, and second copies of a plan.
    pub notes: Vec<String>,
}

/// The use that a plan file has now.
enum FileUse {
    /// It needs to be processed.
    Pending(Vec<u8>, Approval),
    /// It was refused, and the reason has not changed.
    Refused(String),
    /// It or its signature cannot be read.
    Unreadable(String),
    /// Its plan was applied from another file, as the text says.
    Copy(String),
    /// It was applied.
    Applied,
}

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
    /// own result, and a refusal names the file.
    pub async fn apply_folder(
        &self,
        progress: &dyn Progress,
    ) -> Result<Vec<(PathBuf, Result<RunResult, RunError>)>, RunError> {
        let mut came = Vec::new();
        for file in self.approved_plans().await?.pending {
            if *self.stop.borrow() {
                break;
            }
            // The plans before it may have taken long.
            let FileUse::Pending(content, approval) = self.file_use(&file).await? else { continue };
            let result = self.apply_from_folder(&content, &approval, &file_name(&file), progress).await;
            if let Ok(result) = &result {
                let ticket = approval.ticket.as_deref().unwrap_or_default();
                tracing::info!("{}", describe_application(&file, result, ticket));
            }
            came.push((file, result));
        }
        Ok(came)
    }

    /// Returns the plan files in that folder, by what becomes of them.
    ///
    /// # Errors
    /// Fails as [`App::apply_folder`] does.
    pub async fn approved_plans(&self) -> Result<ApprovalsFolder, RunError> {
        let mut found = ApprovalsFolder::default();
        let Some(folder) = &self.settings.approvals.folder else { return Ok(found) };
        let path = folder.clone();
        for file in spawn_file_access(move || list_plan_files(&path)).await? {
            match self.file_use(&file).await? {
                FileUse::Pending(..) => found.pending.push(file),
                FileUse::Refused(why) => {
                    let remedy = "correct the cause, and the plan is tried again; or put a new plan into the folder and \
                                  take this file out of it";
                    found.attention.push(refused_plan(&file, &format!("is refused: {why}"), remedy));
                }
                FileUse::Unreadable(why) => {
                    let remedy = "let the daemon's user read the file, or take it out of the folder";
                    found.attention.push(refused_plan(&file, &format!("cannot be read: {why}"), remedy));
                    found.notes.push(format!("approved plan {} cannot be read: {why}; {remedy}", file.display()));
                }
                FileUse::Copy(of) => found.notes.push(format!(
                    "approved plan {} is not applied again: {of}; take the file out of the folder",
                    file.display()
                )),
                FileUse::Applied => {}
            }
        }
        Ok(found)
    }

    /// Reads a plan file, and returns the use that it has now.
    async fn file_use(&self, file: &Path) -> Result<FileUse, RunError> {
        let path = file.to_owned();
        let read = spawn_file_access(move || Ok((read_plan_file(&path)?, read_signature(&path)?))).await;
        let (content, signature) = match read {
            Ok(read) => read,
            Err(why) => return Ok(FileUse::Unreadable(why)),
        };
        let (ticket, name) = (ticket_of(file), file_name(file));
        let verdict = match admission::read_plan(&content) {
            Err(broken) => Err(RunError::from(broken)),
            Ok(plan) => {
                let records = self.store.runs_applying(&plan.id).await?;
                if let Some(settled) = settled(&records, &plan.id, &ticket, &name) {
                    return Ok(settled);
                }
                signature::verify_signer(&self.settings.approvals, &content, signature.as_deref())
                    .and_then(|_| admission::admit(&plan, &self.settings, &self.policies, self.now()))
            }
        };
        if let Err(refusal) = verdict {
            let refusal = chain(&refusal.in_file(&name));
            if self.store.was_refused(&ticket, &refusal).await? {
                return Ok(FileUse::Refused(without_file(&refusal, &name)));
            }
        }
        Ok(FileUse::Pending(
            content,
            Approval { approved_by: None, ticket: Some(ticket), signature, override_reason: None },
        ))
    }
}

/// Returns the use of a file whose plan a run applied or refused before; `None` if the plan still waits.
fn settled(records: &[RunRecord], plan: &str, ticket: &str, name: &str) -> Option<FileUse> {
    let complete: Vec<&RunRecord> = records.iter().filter(|record| !was_interrupted(record)).collect();
    let last = complete.last()?;
    let own = complete.iter().rev().find(|record| record.run.ticket.as_deref() == Some(ticket));
    let Some(own) = own else {
        let by = last.run.ticket.as_ref().map(|ticket| format!(", ticket {ticket}")).unwrap_or_default();
        return Some(FileUse::Copy(format!("its plan {plan} was applied already, by run {}{by}", last.run.id)));
    };
    let failure = own.end.as_ref().and_then(|end| end.error.as_deref());
    Some(failure.map_or(FileUse::Applied, |why| FileUse::Refused(without_file(why, name))))
}

/// Returns the cause in the text of a refusal, which begins with the name of the file.
fn without_file(refusal: &str, name: &str) -> String {
    let cause = refusal.strip_prefix("refused: ").unwrap_or(refusal);
    cause.strip_prefix(name).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(cause).to_owned()
}

fn refused_plan(file: &Path, problem: &str, remedy: &str) -> AttentionView {
    let file = file.display().to_string();
    let message = format!("approved plan {file} {problem}");
    AttentionView::new(AttentionKind::PlanRefused, &file, &message, Some(remedy.to_owned()))
}

/// Describes an applied plan for the log.
fn describe_application(file: &Path, result: &RunResult, ticket: &str) -> String {
    let removed = result.applied.iter().filter(|one| matches!(one.outcome, Outcome::Done(_))).count() as u64;
    format!(
        "approved plan {} was applied: plan {}, ticket {ticket}, run {}, {} removed",
        file.display(),
        result.document.id,
        result.run,
        report::counted(removed, "tag")
    )
}

/// Returns the name of a plan file, as refusals have it.
fn file_name(file: &Path) -> String {
    file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Returns the ticket of a plan file: its name without the extension.
fn ticket_of(file: &Path) -> String {
    file.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
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
fn read_plan_file(file: &Path) -> Result<Vec<u8>, String> {
    match std::fs::metadata(file) {
        // Reading a pipe could block forever.
        Ok(data) if !data.is_file() => Err("it is not a regular file".to_owned()),
        Ok(_) => std::fs::read(file).map_err(|error| chain(&error)),
        Err(error) => Err(chain(&error)),
    }
}

fn read_signature(plan: &Path) -> Result<Option<String>, String> {
    let Some(file) = signature::find_signature_file(plan) else { return Ok(None) };
    let signature = read_plan_file(&file).map_err(|why| format!("its signature {}: {why}", file.display()))?;
    // What is not text is refused as a signature that is not one.
    Ok(Some(decode_text(signature).unwrap_or_default()))
}

/// Returns true if a run was stopped or killed before it was complete.
fn was_interrupted(record: &RunRecord) -> bool {
    record.end.as_ref().is_none_or(|end| end.outcome == super::RunOutcome::Interrupted.label())
}
