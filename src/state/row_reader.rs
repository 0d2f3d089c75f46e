//! Values as they are stored, read back in the same way by every backend.

use std::fmt::Display;
use std::str::FromStr;

use super::{StateError, StateErrorKind};

/// A backend, as far as its rows are made into domain types.
pub(super) trait RowReader {
    /// An error of that class about this state.
    fn error(&self, kind: StateErrorKind, what: impl Display) -> StateError;

    /// Reads a stored text back; a text that does not read is damage.
    fn read<T: FromStr>(&self, text: &str) -> Result<T, StateError>
    where
        T::Err: std::error::Error + Send + Sync + 'static,
    {
        text.parse()
            .map_err(|error| self.error(StateErrorKind::Corrupt, format_args!("it holds `{text}`")).caused_by(error))
    }

    /// Reads a stored text back, where there is one.
    fn read_optional<T: FromStr>(&self, text: Option<&str>) -> Result<Option<T>, StateError>
    where
        T::Err: std::error::Error + Send + Sync + 'static,
    {
        text.map(|text| self.read(text)).transpose()
    }
}
