//! Rows of a product's own tag list. Each is parsed by itself, so an invalid row hides no other.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::domain::{RepositoryName, TagName};
use crate::registry::{RegistryError, RegistryErrorKind};

/// An entry of a list that cannot be understood.
#[derive(Debug)]
pub(in crate::registry) struct InvalidRow {
    /// Its name, as far as it has one.
    pub(in crate::registry) name: String,
    /// What is wrong with it.
    pub(in crate::registry) why: String,
}

/// A row of a list of tags: the tag's name, and the row in its product's shape.
pub(in crate::registry) type TagRow<T> = Result<(TagName, T), InvalidRow>;

/// Parses a row that has the tag in its field `name`.
pub(in crate::registry) fn parse<T: DeserializeOwned>(entry: Value) -> TagRow<T> {
    let text = entry["name"].as_str().map(str::to_owned);
    let invalid = |name: String, why: String| InvalidRow { name, why };
    let Some(text) = text else {
        let shown = entry.to_string();
        return Err(invalid(shown, "a row without a name".to_owned()));
    };
    let row = serde_json::from_value(entry).map_err(|error| invalid(text.clone(), error.to_string()))?;
    let name = text.parse::<TagName>().map_err(|error| invalid(text, error.to_string()))?;
    Ok((name, row))
}

/// Returns the name of a row, also of an invalid one.
pub(in crate::registry) fn name<T>(row: &TagRow<T>) -> &str {
    match row {
        Ok((name, _)) => name.as_str(),
        Err(invalid) => &invalid.name,
    }
}

/// Returns the error of a list that was not read to its end.
pub(in crate::registry) fn incomplete_list(repository: &RepositoryName, why: &str) -> RegistryError {
    let message = format!("the list of tags of {repository} is not complete: {why}");
    RegistryError::new(RegistryErrorKind::Malformed, message)
}
