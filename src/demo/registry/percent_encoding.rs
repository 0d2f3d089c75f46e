//! Percent-encoding in paths.

/// Clients may write `%2F` and `%3A` in names and digests.
pub(super) fn percent_decode(path: &str) -> String {
    ::percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned()
}
