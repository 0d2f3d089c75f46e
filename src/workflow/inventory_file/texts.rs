//! Annotations and labels in a recorded inventory.

use std::collections::BTreeMap;

use super::{InvalidInventory, parse};
use crate::domain::{Digest, KnownTexts};

/// Texts by key, by manifest; null for a key that it does not have.
pub(super) type RecordedTexts = BTreeMap<String, BTreeMap<String, Option<String>>>;

pub(super) fn record_texts(texts: &BTreeMap<Digest, KnownTexts>) -> RecordedTexts {
    let record = |known: &KnownTexts| {
        known.iter().map(|(key, value)| (key.to_string(), value.as_ref().map(ToString::to_string))).collect()
    };
    texts.iter().map(|(digest, known)| (digest.to_string(), record(known))).collect()
}

pub(super) fn read_texts(texts: RecordedTexts) -> Result<BTreeMap<Digest, KnownTexts>, InvalidInventory> {
    let read = |known: BTreeMap<String, Option<String>>| {
        known.into_iter().map(|(key, value)| (key.into(), value.map(Into::into))).collect()
    };
    texts.into_iter().map(|(digest, known)| Ok((parse(&digest)?, read(known)))).collect()
}
