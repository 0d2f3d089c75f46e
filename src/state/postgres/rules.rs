//! Rules of policies: which of them ever matched something, and where.

use async_trait::async_trait;
use jiff::Timestamp;

use super::PostgresState;
use crate::domain::{Coverage, CoverageBasis, LastMatch, RuleHistory, RuleId};
use crate::state::rule_history::{RuleRow, rule_history};
use crate::state::{RuleMatches, StateError, format_time};

/// Columns of rules.
#[derive(Default)]
struct RuleColumns<'a> {
    policies: Vec<&'a str>,
    keys: Vec<&'static str>,
    rules: Vec<&'a str>,
}

impl<'a> RuleColumns<'a> {
    fn add(&mut self, rule: &'a RuleId) {
        self.policies.push(rule.policy.as_str());
        self.keys.push(rule.key.label());
        self.rules.push(&rule.written);
    }
}

#[async_trait]
impl RuleMatches for PostgresState {
    async fn rule_history(&self) -> Result<RuleHistory, StateError> {
        let query = sqlx::query_as(
            "SELECT policy, key, rule, endpoint, matched_at AS at FROM rule_matches
             UNION ALL SELECT policy, key, rule, NULL, judged_at FROM unmatched_rules",
        );
        let rows: Vec<RuleRow> = self.rows("read which rules matched before", query).await?;
        rule_history(self, rows)
    }

    async fn record_rules(&self, coverage: &Coverage, now: Timestamp) -> Result<(), StateError> {
        if coverage.basis != CoverageBasis::FullInventory {
            return Ok(());
        }
        let (mut matched, mut pairs, mut endpoints) = (RuleColumns::default(), RuleColumns::default(), Vec::new());
        for (rule, places) in &coverage.matched {
            matched.add(rule);
            for endpoint in places {
                pairs.add(rule);
                endpoints.push(endpoint.as_str());
            }
        }
        let (mut never, mut before) = (RuleColumns::default(), RuleColumns::default());
        for unmatched in &coverage.unmatched {
            match unmatched.last_match {
                LastMatch::NeverAsOf(_) => {}
                LastMatch::Never => never.add(&unmatched.rule),
                LastMatch::At(_) => before.add(&unmatched.rule),
            }
        }
        let now = format_time(now);
        let mut unit = self.write("record which rules match").await?;
        let statement = sqlx::query(
            "DELETE FROM unmatched_rules USING unnest($1::text[], $2::text[], $3::text[]) AS old (policy, key, rule)
             WHERE unmatched_rules.policy = old.policy AND unmatched_rules.key = old.key
               AND unmatched_rules.rule = old.rule",
        );
        unit.execute(statement.bind(matched.policies).bind(matched.keys).bind(matched.rules)).await?;
        let statement = sqlx::query(
            "INSERT INTO rule_matches (policy, key, rule, endpoint, matched_at)
             SELECT policy, key, rule, endpoint, $5
             FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS new (policy, key, rule, endpoint)
             ON CONFLICT (policy, key, rule, endpoint) DO UPDATE SET matched_at = excluded.matched_at",
        );
        let statement = statement.bind(pairs.policies).bind(pairs.keys).bind(pairs.rules);
        unit.execute(statement.bind(endpoints).bind(&now)).await?;
        let statement = sqlx::query(
            "INSERT INTO unmatched_rules (policy, key, rule, judged_at)
             SELECT DISTINCT policy, key, rule, $4
             FROM unnest($1::text[], $2::text[], $3::text[]) AS new (policy, key, rule)
             ON CONFLICT (policy, key, rule) DO UPDATE SET judged_at = excluded.judged_at",
        );
        unit.execute(statement.bind(never.policies).bind(never.keys).bind(never.rules).bind(&now)).await?;
        let statement = sqlx::query(
            "DELETE FROM unmatched_rules USING unnest($1::text[], $2::text[], $3::text[]) AS old (policy, key, rule)
             WHERE unmatched_rules.policy = old.policy AND unmatched_rules.key = old.key
               AND unmatched_rules.rule = old.rule AND judged_at < $4",
        );
        unit.execute(statement.bind(before.policies).bind(before.keys).bind(before.rules).bind(&now)).await?;
        unit.commit().await
    }
}
