//! The matches of policies' rules: which rules ever matched something, and where.

use async_trait::async_trait;
use jiff::Timestamp;

use super::row_reader::RowReader;
use super::{RuleMatches, SqliteState, StateError, StateErrorKind, format_time};
use crate::domain::{Coverage, CoverageBasis, LastMatch, RuleHistory, RuleId, RuleKey};

/// A match of a rule, or without an endpoint the finding that it never matched.
#[derive(sqlx::FromRow)]
pub(super) struct RuleRow {
    policy: String,
    key: String,
    rule: String,
    endpoint: Option<String>,
    at: String,
}

#[async_trait]
impl RuleMatches for SqliteState {
    async fn rule_history(&self) -> Result<RuleHistory, StateError> {
        let doing = "read which rules matched before";
        let rows: Vec<RuleRow> = sqlx::query_as(
            "SELECT policy, key, rule, endpoint, matched_at AS at FROM rule_matches
             UNION ALL SELECT policy, key, rule, NULL, judged_at FROM unmatched_rules",
        )
        .fetch_all(&self.0.readers)
        .await
        .map_err(|error| self.sqlx_error(doing, error))?;
        rule_history(self, rows)
    }

    async fn record_rules(&self, coverage: &Coverage, now: Timestamp) -> Result<(), StateError> {
        if coverage.basis != CoverageBasis::FullInventory {
            return Ok(());
        }
        let doing = "record which rules match";
        let fault = |error: sqlx::Error| self.sqlx_error(doing, error);
        let mut write = self.write_durably().await?;
        for (rule, endpoints) in &coverage.matched {
            sqlx::query("DELETE FROM unmatched_rules WHERE policy = ?1 AND key = ?2 AND rule = ?3")
                .bind(rule.policy.as_str())
                .bind(rule.key.label())
                .bind(&*rule.written)
                .execute(&mut *write.transaction)
                .await
                .map_err(fault)?;
            for endpoint in endpoints {
                sqlx::query(
                    "INSERT INTO rule_matches (policy, key, rule, endpoint, matched_at) VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT (policy, key, rule, endpoint) DO UPDATE SET matched_at = ?5",
                )
                .bind(rule.policy.as_str())
                .bind(rule.key.label())
                .bind(&*rule.written)
                .bind(endpoint)
                .bind(format_time(now))
                .execute(&mut *write.transaction)
                .await
                .map_err(fault)?;
            }
        }
        for unmatched in &coverage.unmatched {
            let rule = &unmatched.rule;
            let statement = match unmatched.last_match {
                LastMatch::NeverAsOf(_) => continue,
                LastMatch::Never => {
                    "INSERT INTO unmatched_rules (policy, key, rule, judged_at) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (policy, key, rule) DO UPDATE SET judged_at = ?4"
                }
                LastMatch::At(_) => {
                    "DELETE FROM unmatched_rules WHERE policy = ?1 AND key = ?2 AND rule = ?3 AND judged_at < ?4"
                }
            };
            sqlx::query(statement)
                .bind(rule.policy.as_str())
                .bind(rule.key.label())
                .bind(&*rule.written)
                .bind(format_time(now))
                .execute(&mut *write.transaction)
                .await
                .map_err(fault)?;
        }
        write.commit(doing).await
    }
}

/// Makes the history of rows.
pub(super) fn rule_history(reader: &impl RowReader, rows: Vec<RuleRow>) -> Result<RuleHistory, StateError> {
    let mut history = RuleHistory::default();
    for row in rows {
        let corrupt = |what: &str| {
            let what = format_args!("the record of rule {} has {what} that cannot be understood", row.rule);
            reader.error(StateErrorKind::Corrupt, what)
        };
        let at: Timestamp = row.at.parse().map_err(|_| corrupt("a time"))?;
        let id = RuleId {
            policy: row.policy.parse().map_err(|_| corrupt("a policy"))?,
            key: RuleKey::from_label(&row.key).ok_or_else(|| corrupt("a key"))?,
            written: row.rule.as_str().into(),
        };
        match row.endpoint {
            Some(endpoint) => drop(history.matched.entry(id).or_default().insert(endpoint, at)),
            None => drop(history.unmatched.insert(id, at)),
        }
    }
    Ok(history)
}
