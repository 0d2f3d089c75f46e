//! The addresses of registries, and their history.

use async_trait::async_trait;
use jiff::Timestamp;

use super::{RegistryAddresses, SqliteState, StateError, format_time};
use crate::domain::RegistryName;

#[async_trait]
impl RegistryAddresses for SqliteState {
    async fn registry_address_since(
        &self,
        registry: &RegistryName,
        address: &str,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StateError> {
        let doing = "remember where a registry is";
        let known: Option<(String, Option<String>)> =
            sqlx::query_as("SELECT address, since FROM registry_addresses WHERE registry = ?1")
                .bind(registry.as_str())
                .fetch_optional(&self.0.readers)
                .await
                .map_err(|error| self.sqlx_error(doing, error))?;
        let since = match known {
            Some((known, since)) if known == address => return since.map(|since| self.read(&since)).transpose(),
            Some(_) => Some(now),
            None => None,
        };
        let mut write = self.write_durably().await?;
        sqlx::query(
            "INSERT INTO registry_addresses (registry, address, since) VALUES (?1, ?2, ?3)
             ON CONFLICT (registry) DO UPDATE SET address = excluded.address, since = excluded.since",
        )
        .bind(registry.as_str())
        .bind(address)
        .bind(since.map(format_time))
        .execute(&mut *write.transaction)
        .await
        .map_err(|error| self.sqlx_error(doing, error))?;
        write.commit(doing).await?;
        Ok(since)
    }
}
