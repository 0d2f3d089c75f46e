//! The policies of runs, to show years later under which text a tag was removed.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::row_reader::RowReader;
use super::{PolicyRecords, SqliteState, StateError, StateErrorKind};

/// A policy as a run used it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedPolicy {
    /// Its name.
    pub name: String,
    /// `dry-run` or `enforce`.
    pub mode: String,
    /// Its file, relative to the policies folder.
    pub file: String,
    /// The hash of that file's content.
    pub revision: String,
}

/// In order; policies that no recorded run used are deleted.
pub(super) const FORGET_POLICIES: [&str; 2] = [
    "DELETE FROM policy_sets WHERE revision NOT IN (SELECT revision FROM run_contexts WHERE revision IS NOT NULL)",
    "DELETE FROM policy_texts WHERE revision NOT IN
     (SELECT value ->> 'revision' FROM policy_sets, json_each(policy_sets.policies))",
];

#[async_trait]
impl PolicyRecords for SqliteState {
    async fn record_policies(
        &self,
        revision: &str,
        policies: &[RecordedPolicy],
        texts: &BTreeMap<String, String>,
    ) -> Result<(), StateError> {
        let doing = "record the policies of a run";
        let fault = |error: sqlx::Error| self.sqlx_error(doing, error);
        let known: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM policy_sets WHERE revision = ?1)")
            .bind(revision)
            .fetch_one(&self.0.readers)
            .await
            .map_err(fault)?;
        if known {
            return Ok(());
        }
        let list = policy_list(self, policies)?;
        let mut write = self.write_durably().await?;
        sqlx::query("INSERT INTO policy_sets (revision, policies) VALUES (?1, ?2) ON CONFLICT DO NOTHING")
            .bind(revision)
            .bind(list)
            .execute(&mut *write.transaction)
            .await
            .map_err(fault)?;
        for (revision, text) in texts {
            sqlx::query("INSERT INTO policy_texts (revision, text) VALUES (?1, ?2) ON CONFLICT DO NOTHING")
                .bind(revision)
                .bind(text)
                .execute(&mut *write.transaction)
                .await
                .map_err(fault)?;
        }
        write.commit(doing).await
    }

    async fn policies_of(&self, run: Uuid) -> Result<Vec<RecordedPolicy>, StateError> {
        let list: Option<String> = sqlx::query_scalar(
            "SELECT policies FROM policy_sets JOIN run_contexts USING (revision) WHERE run_contexts.run = ?1",
        )
        .bind(run.to_string())
        .fetch_optional(&self.0.readers)
        .await
        .map_err(|error| self.sqlx_error("read the policies of a run", error))?;
        recorded_policies(self, run, list)
    }

    async fn policy_text(&self, revision: &str) -> Result<Option<String>, StateError> {
        sqlx::query_scalar("SELECT text FROM policy_texts WHERE revision = ?1")
            .bind(revision)
            .fetch_optional(&self.0.readers)
            .await
            .map_err(|error| self.sqlx_error("read the text of a policy file", error))
    }
}

/// The list of policies as it is stored.
pub(super) fn policy_list(reader: &impl RowReader, policies: &[RecordedPolicy]) -> Result<String, StateError> {
    serde_json::to_string(policies)
        .map_err(|error| reader.error(StateErrorKind::Corrupt, "cannot keep policies").caused_by(error))
}

/// Reads the list of policies that was stored for a run, if there is one.
pub(super) fn recorded_policies(
    reader: &impl RowReader,
    run: Uuid,
    list: Option<String>,
) -> Result<Vec<RecordedPolicy>, StateError> {
    let Some(list) = list else { return Ok(Vec::new()) };
    serde_json::from_str(&list).map_err(|error| {
        let what = format_args!("the policies recorded for run {run} are damaged");
        reader.error(StateErrorKind::Corrupt, what).caused_by(error)
    })
}
