//! The notation of times and digests in texts.

use jiff::Timestamp;

/// Returns a digest's first twelve digits with its algorithm.
#[must_use]
pub fn short_digest(digest: &str) -> String {
    match digest.split_once(':') {
        Some((algorithm, hex)) if hex.len() > 12 && hex.is_char_boundary(12) => format!("{algorithm}:{}", &hex[..12]),
        _ => digest.to_owned(),
    }
}

/// Formats a time to the minute.
#[must_use]
pub fn format_minute(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}
