//! Experience with removals in registries: facts that no harmless request can determine.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use super::row_reader::RowReader;
use super::{RegistryExperience, SqliteState, StateError, StateErrorKind, format_time};
use crate::domain::{Endpoint, RegistryName, RemovalMethod};

/// The effect that an untag had on the manifest behind the tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum UntagExperience {
    /// The tag was removed, and the manifest was seen afterwards.
    ManifestSurvives,
    /// The tag was removed, and the manifest with it.
    ManifestDestroyed,
    /// The registry refused the deletion as unsupported.
    Unsupported,
}

/// A fact about a registry's untags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Experience {
    /// The effect.
    pub effect: UntagExperience,
    /// The first time that it happened.
    pub since: Timestamp,
    /// The last time that it happened.
    pub last_at: Timestamp,
}

/// The time for which a refusal as unsupported counts. Bounded, because registries are upgraded: afterwards the next
/// enforcing run retries with a single tag, which costs one refused request.
pub const REFUSAL_TTL: SignedDuration = SignedDuration::from_hours(7 * 24);

impl Experience {
    /// Returns true if the experience still counts at that time. A refusal counts for [`REFUSAL_TTL`] after the last
    /// one; the fate of a manifest counts until it is forgotten on request.
    #[must_use]
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        self.effect != UntagExperience::Unsupported || is_refusal_valid(self.last_at, now)
    }
}

fn is_refusal_valid(last_at: Timestamp, now: Timestamp) -> bool {
    now.duration_since(last_at) < REFUSAL_TTL
}

/// The response of a registry to a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeletionResponse {
    /// It accepted the deletion, or reported by its own error that the object does not exist.
    Accepted,
    /// It refused the deletion as unsupported.
    Unsupported,
}

impl UntagExperience {
    fn label(self) -> &'static str {
        match self {
            Self::ManifestSurvives => "survives",
            Self::ManifestDestroyed => "destroyed",
            Self::Unsupported => UNSUPPORTED,
        }
    }
}

impl DeletionResponse {
    fn label(self) -> &'static str {
        match self {
            Self::Accepted => ACCEPTED,
            Self::Unsupported => UNSUPPORTED,
        }
    }
}

const UNSUPPORTED: &str = "unsupported";
const ACCEPTED: &str = "accepted";

/// One row of the table.
#[derive(sqlx::FromRow)]
pub(super) struct ExperienceRow {
    effect: String,
    since: String,
    last_at: String,
}

/// The tables of experience in a backend, below what they mean. Endpoints are in their normal form.
#[async_trait]
pub(super) trait ExperienceTables: RowReader + Send + Sync {
    /// Reads what removals by a method showed.
    async fn read_experience(&self, endpoint: &str, method: RemovalMethod) -> Result<Vec<ExperienceRow>, StateError>;

    /// Writes one effect, and takes back those that are `outdated` by it. Durable when it returns.
    async fn write_experience(
        &self,
        endpoint: &str,
        method: RemovalMethod,
        effect: &str,
        outdated: &[&str],
        at: Timestamp,
    ) -> Result<(), StateError>;

    /// Deletes all of an endpoint and the mark of a registry, and returns the number of rows.
    async fn delete_experience(&self, registry: &RegistryName, endpoint: &str) -> Result<u64, StateError>;

    /// Writes a mark, unless there is one.
    async fn write_mark(&self, registry: &RegistryName, now: Timestamp) -> Result<(), StateError>;

    /// Reads the time of a mark.
    async fn read_mark(&self, registry: &RegistryName) -> Result<Option<String>, StateError>;

    /// Deletes a mark.
    async fn delete_mark(&self, registry: &RegistryName) -> Result<(), StateError>;
}

/// The names of what is done with these tables, as failures say.
pub(super) const READ_EXPERIENCE: &str = "read what removals showed of a registry";
pub(super) const WRITE_EXPERIENCE: &str = "remember what a removal showed of a registry";
pub(super) const FORGET_EXPERIENCE: &str = "forget what removals showed of a registry";
pub(super) const MARK: &str = "mark a registry as one that destroys";
pub(super) const READ_MARK: &str = "read which registries destroy";
pub(super) const CLEAR_MARK: &str = "clear the mark of a registry";

#[async_trait]
impl<T: ExperienceTables> RegistryExperience for T {
    async fn untag_experience(&self, endpoint: &str) -> Result<Option<Experience>, StateError> {
        let mut known = Vec::new();
        for row in self.read_experience(&key(endpoint), RemovalMethod::Untag).await? {
            let what = match row.effect.as_str() {
                "survives" => UntagExperience::ManifestSurvives,
                "destroyed" => UntagExperience::ManifestDestroyed,
                UNSUPPORTED => UntagExperience::Unsupported,
                ACCEPTED => continue,
                other => return Err(unknown(self, other)),
            };
            known.push(Experience { effect: what, since: self.read(&row.since)?, last_at: self.read(&row.last_at)? });
        }
        Ok(known
            .into_iter()
            .max_by_key(|found| (found.effect == UntagExperience::ManifestDestroyed, found.last_at, found.effect)))
    }

    async fn record_untag_experience(
        &self,
        endpoint: &str,
        what: UntagExperience,
        at: Timestamp,
    ) -> Result<(), StateError> {
        let outdated: &[&str] = match what {
            UntagExperience::ManifestSurvives => &[UNSUPPORTED],
            UntagExperience::Unsupported => &["survives", ACCEPTED],
            UntagExperience::ManifestDestroyed => &[],
        };
        self.write_experience(&key(endpoint), RemovalMethod::Untag, what.label(), outdated, at).await
    }

    async fn deletion_response(
        &self,
        endpoint: &str,
        method: RemovalMethod,
        now: Timestamp,
    ) -> Result<Option<(DeletionResponse, Timestamp)>, StateError> {
        let mut last: Option<(Timestamp, DeletionResponse)> = None;
        for row in self.read_experience(&key(endpoint), method).await? {
            let answer = match row.effect.as_str() {
                UNSUPPORTED => DeletionResponse::Unsupported,
                "survives" | "destroyed" | ACCEPTED => DeletionResponse::Accepted,
                other => return Err(unknown(self, other)),
            };
            last = last.max(Some((self.read(&row.last_at)?, answer)));
        }
        let counts = |(at, answer): &(Timestamp, DeletionResponse)| {
            *answer != DeletionResponse::Unsupported || is_refusal_valid(*at, now)
        };
        Ok(last.filter(counts).map(|(at, answer)| (answer, at)))
    }

    async fn record_deletion_response(
        &self,
        endpoint: &str,
        method: RemovalMethod,
        answer: DeletionResponse,
        at: Timestamp,
    ) -> Result<(), StateError> {
        let outdated: &[&str] = match answer {
            DeletionResponse::Accepted => &[UNSUPPORTED],
            DeletionResponse::Unsupported => &["survives", ACCEPTED],
        };
        self.write_experience(&key(endpoint), method, answer.label(), outdated, at).await
    }

    async fn forget_experience(&self, registry: &RegistryName, endpoint: &str) -> Result<bool, StateError> {
        Ok(self.delete_experience(registry, &key(endpoint)).await? > 0)
    }

    async fn mark_untag_destructive(&self, registry: &RegistryName, now: Timestamp) -> Result<(), StateError> {
        self.write_mark(registry, now).await
    }

    async fn untag_destructive_since(&self, registry: &RegistryName) -> Result<Option<Timestamp>, StateError> {
        self.read_optional(self.read_mark(registry).await?.as_deref())
    }

    async fn clear_untag_destructive(&self, registry: &RegistryName) -> Result<(), StateError> {
        self.delete_mark(registry).await
    }
}

#[async_trait]
impl ExperienceTables for SqliteState {
    async fn read_experience(&self, endpoint: &str, method: RemovalMethod) -> Result<Vec<ExperienceRow>, StateError> {
        sqlx::query_as(
            "SELECT effect, since, last_at FROM experience WHERE endpoint = ?1 AND method = ?2 ORDER BY effect",
        )
        .bind(endpoint)
        .bind(method.label())
        .fetch_all(&self.0.readers)
        .await
        .map_err(|error| self.sqlx_error(READ_EXPERIENCE, error))
    }

    async fn write_experience(
        &self,
        endpoint: &str,
        method: RemovalMethod,
        effect: &str,
        outdated: &[&str],
        at: Timestamp,
    ) -> Result<(), StateError> {
        let fault = |error: sqlx::Error| self.sqlx_error(WRITE_EXPERIENCE, error);
        let mut write = self.write_durably().await?;
        for outdated in outdated {
            sqlx::query("DELETE FROM experience WHERE endpoint = ?1 AND method = ?2 AND effect = ?3 AND last_at <= ?4")
                .bind(endpoint)
                .bind(method.label())
                .bind(*outdated)
                .bind(format_time(at))
                .execute(&mut *write.transaction)
                .await
                .map_err(fault)?;
        }
        sqlx::query(
            "INSERT INTO experience (endpoint, method, effect, since, last_at) VALUES (?1, ?2, ?3, ?4, ?4)
             ON CONFLICT (endpoint, method, effect)
             DO UPDATE SET since = min(since, excluded.since), last_at = max(last_at, excluded.last_at)",
        )
        .bind(endpoint)
        .bind(method.label())
        .bind(effect)
        .bind(format_time(at))
        .execute(&mut *write.transaction)
        .await
        .map_err(fault)?;
        write.commit(WRITE_EXPERIENCE).await
    }

    async fn delete_experience(&self, registry: &RegistryName, endpoint: &str) -> Result<u64, StateError> {
        let fault = |error: sqlx::Error| self.sqlx_error(FORGET_EXPERIENCE, error);
        let mut write = self.write_durably().await?;
        let learned = sqlx::query("DELETE FROM experience WHERE endpoint = ?1")
            .bind(endpoint)
            .execute(&mut *write.transaction)
            .await
            .map_err(fault)?;
        let marked = sqlx::query("DELETE FROM destructive_untags WHERE registry = ?1")
            .bind(registry.as_str())
            .execute(&mut *write.transaction)
            .await
            .map_err(fault)?;
        write.commit(FORGET_EXPERIENCE).await?;
        Ok(learned.rows_affected() + marked.rows_affected())
    }

    async fn write_mark(&self, registry: &RegistryName, now: Timestamp) -> Result<(), StateError> {
        let mut write = self.write_durably().await?;
        sqlx::query("INSERT INTO destructive_untags (registry, since) VALUES (?1, ?2) ON CONFLICT DO NOTHING")
            .bind(registry.as_str())
            .bind(format_time(now))
            .execute(&mut *write.transaction)
            .await
            .map_err(|error| self.sqlx_error(MARK, error))?;
        write.commit(MARK).await
    }

    async fn read_mark(&self, registry: &RegistryName) -> Result<Option<String>, StateError> {
        sqlx::query_scalar("SELECT since FROM destructive_untags WHERE registry = ?1")
            .bind(registry.as_str())
            .fetch_optional(&self.0.readers)
            .await
            .map_err(|error| self.sqlx_error(READ_MARK, error))
    }

    async fn delete_mark(&self, registry: &RegistryName) -> Result<(), StateError> {
        let mut write = self.write_durably().await?;
        sqlx::query("DELETE FROM destructive_untags WHERE registry = ?1")
            .bind(registry.as_str())
            .execute(&mut *write.transaction)
            .await
            .map_err(|error| self.sqlx_error(CLEAR_MARK, error))?;
        write.commit(CLEAR_MARK).await
    }
}

fn unknown(reader: &impl RowReader, effect: &str) -> StateError {
    reader.error(StateErrorKind::Corrupt, format_args!("it holds an unknown experience `{effect}` of a registry"))
}

/// Returns the endpoint in its normal form.
pub(super) fn key(endpoint: &str) -> String {
    Endpoint::parse(endpoint).map_or_else(|| endpoint.to_owned(), |endpoint| endpoint.to_string())
}
