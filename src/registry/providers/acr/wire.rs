//! What Azure Container Registry says, in its own shapes. Every field may be missing: services differ by version.

use std::fmt;

use jiff::Timestamp;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::domain::Lock;
use crate::registry::client::wire::lenient;

/// A page of tags.
#[derive(Debug, Deserialize)]
pub(super) struct WireTags {
    /// The repository's name.
    #[serde(default, rename = "imageName", deserialize_with = "lenient")]
    pub(super) image_name: Option<String>,
    /// Each is a [`WireTag`], or in doubt by itself.
    #[serde(default, deserialize_with = "nullable")]
    pub(super) tags: Option<Vec<Box<RawValue>>>,
}

/// The answer about one tag.
#[derive(Debug, Deserialize)]
pub(super) struct WireOneTag {
    pub(super) tag: WireTag,
}

/// One tag.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireTag {
    pub(super) name: String,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) digest: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    last_update_time: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    created_time: Option<String>,
    #[serde(default, deserialize_with = "attributes")]
    changeable_attributes: Option<WireAttributes>,
}

/// A page of manifests.
#[derive(Debug, Deserialize)]
pub(super) struct WireManifests {
    #[serde(default, deserialize_with = "nullable")]
    pub(super) manifests: Option<Vec<WireManifest>>,
}

/// The answer about one manifest.
#[derive(Debug, Deserialize)]
pub(super) struct WireOneManifest<T> {
    pub(super) manifest: T,
}

/// What matters of one manifest before it is deleted.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireManifestState {
    pub(super) digest: String,
    /// Some of its tags; none only where it has none. The key is missing then.
    #[serde(default, deserialize_with = "nullable")]
    pub(super) tags: Option<Vec<String>>,
    #[serde(default, deserialize_with = "lenient")]
    last_update_time: Option<String>,
    #[serde(default, deserialize_with = "attributes")]
    changeable_attributes: Option<WireAttributes>,
}

/// One manifest. Its `tags` are not read: the list is cut after a few.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireManifest {
    pub(super) digest: String,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) image_size: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) media_type: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) config_media_type: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    architecture: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    last_update_time: Option<String>,
    #[serde(default, deserialize_with = "attributes")]
    changeable_attributes: Option<WireAttributes>,
}

/// A repository.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireRepository {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) tag_count: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) manifest_count: Option<u64>,
    #[serde(default, deserialize_with = "attributes")]
    changeable_attributes: Option<WireAttributes>,
}

#[derive(Debug, Clone, Copy, Default)]
struct WireAttributes {
    delete_enabled: Option<bool>,
    write_enabled: Option<bool>,
}

/// The attributes that matter.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Attribute {
    DeleteEnabled,
    WriteEnabled,
    #[serde(other)]
    Other,
}

/// A list may be missing, which is an error, or `null`, which is an empty one.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(input: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(input).map(|list| Some(list.unwrap_or_default()))
}

/// Whether something is allowed. What is there and not understood may be a lock.
struct Switch;

impl<'de> DeserializeSeed<'de> for Switch {
    type Value = Option<bool>;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Self::Value, D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Switch {
    type Value = Option<bool>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a switch")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, allowed: bool) -> Result<Self::Value, E> {
        Ok(Some(allowed))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(text.eq_ignore_ascii_case("true")))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Some(number == 1))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Some(false))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Some(false))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        IgnoredAny.visit_seq(list).map(|_| Some(false))
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Self::Value, A::Error> {
        IgnoredAny.visit_map(object).map(|_| Some(false))
    }
}

/// What is allowed. Attributes that are no object may hold a lock.
fn attributes<'de, D: Deserializer<'de>>(input: D) -> Result<Option<WireAttributes>, D::Error> {
    input.deserialize_any(Attributes)
}

/// Reads attributes without a tree of values: there are as many as manifests.
struct Attributes;

const LOCKED: WireAttributes = WireAttributes { delete_enabled: Some(false), write_enabled: Some(false) };

impl<'de> Visitor<'de> for Attributes {
    type Value = Option<WireAttributes>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("attributes")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Some(LOCKED))
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Some(LOCKED))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Some(LOCKED))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Some(LOCKED))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Some(LOCKED))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        IgnoredAny.visit_seq(list).map(|_| Some(LOCKED))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut found = WireAttributes::default();
        while let Some(key) = object.next_key()? {
            match key {
                Attribute::DeleteEnabled => found.delete_enabled = object.next_value_seed(Switch)?,
                Attribute::WriteEnabled => found.write_enabled = object.next_value_seed(Switch)?,
                Attribute::Other => drop(object.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Some(found))
    }
}

impl WireTag {
    /// When it was last pushed or moved. Nothing where that is missing or no time.
    pub(super) fn pushed_at(&self) -> Option<Timestamp> {
        let text = self.last_update_time.as_deref().or(self.created_time.as_deref())?;
        text.parse().ok()
    }

    pub(super) fn lock(&self) -> Option<Lock> {
        lock(self.changeable_attributes)
    }
}

impl WireManifestState {
    pub(super) fn changed_at(&self) -> Option<Timestamp> {
        changed_at(self.last_update_time.as_deref())
    }

    pub(super) fn lock(&self) -> Option<Lock> {
        lock(self.changeable_attributes)
    }
}

impl WireManifest {
    /// Whether the registry names a platform, which it does of images alone.
    pub(super) fn has_platform(&self) -> bool {
        self.architecture.as_deref().is_some_and(|name| !name.is_empty())
    }

    pub(super) fn changed_at(&self) -> Option<Timestamp> {
        changed_at(self.last_update_time.as_deref())
    }

    pub(super) fn lock(&self) -> Option<Lock> {
        lock(self.changeable_attributes)
    }
}

impl WireRepository {
    pub(super) fn lock(&self) -> Option<Lock> {
        lock(self.changeable_attributes)
    }
}

/// When a manifest last changed. Nothing where that is missing or no time: its creation says nothing of that.
fn changed_at(updated: Option<&str>) -> Option<Timestamp> {
    updated?.parse().ok()
}

/// Either attribute alone blocks deletion. What is not said is not locked: the service leaves attributes out where they
/// are not supported.
fn lock(attributes: Option<WireAttributes>) -> Option<Lock> {
    let WireAttributes { delete_enabled, write_enabled } = attributes?;
    match (delete_enabled, write_enabled) {
        (Some(false), Some(false)) => Some(Lock::DeleteAndWrite),
        (Some(false), _) => Some(Lock::Delete),
        (_, Some(false)) => Some(Lock::Write),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_read_with_whatever_fields_there_are() {
        let cases = [
            (
                r#"{"name":"a","lastUpdateTime":"2022-07-08T21:58:45.1880796Z"}"#,
                Some("2022-07-08T21:58:45.1880796Z"),
                None,
            ),
            (r#"{"name":"a","lastUpdateTime":"2022-07-08T21:58:45Z"}"#, Some("2022-07-08T21:58:45Z"), None),
            (
                r#"{"name":"a","lastUpdateTime":"2021-12-31T00:05:09.172007Z"}"#,
                Some("2021-12-31T00:05:09.172007Z"),
                None,
            ),
            (
                r#"{"name":"a","lastUpdateTime":"2021-12-31T00:05:09.1Z","createdTime":"2020-01-01T00:00:00Z"}"#,
                Some("2021-12-31T00:05:09.1Z"),
                None,
            ),
            (r#"{"name":"a","createdTime":"2020-01-01T00:00:00Z"}"#, Some("2020-01-01T00:00:00Z"), None),
            (r#"{"name":"a","lastUpdateTime":"soon","createdTime":"2020-01-01T00:00:00Z"}"#, None, None),
            (r#"{"name":"a"}"#, None, None),
            (r#"{"name":"a","changeableAttributes":null}"#, None, None),
            (r#"{"name":"a","changeableAttributes":{}}"#, None, None),
            (r#"{"name":"a","changeableAttributes":{"deleteEnabled":true,"writeEnabled":true}}"#, None, None),
            (
                r#"{"name":"a","changeableAttributes":{"deleteEnabled":false,"writeEnabled":true}}"#,
                None,
                Some(Lock::Delete),
            ),
            (
                r#"{"name":"a","changeableAttributes":{"deleteEnabled":true,"writeEnabled":false}}"#,
                None,
                Some(Lock::Write),
            ),
            (
                r#"{"name":"a","changeableAttributes":{"deleteEnabled":false,"writeEnabled":false,"x":1}}"#,
                None,
                Some(Lock::DeleteAndWrite),
            ),
        ];
        for (json, pushed_at, lock) in cases {
            let tag: WireTag = serde_json::from_str(json).unwrap();
            assert_eq!(tag.pushed_at(), pushed_at.map(|text| text.parse().unwrap()), "{json}");
            assert_eq!(tag.lock(), lock, "{json}");
        }
    }

    #[test]
    fn attributes_in_any_shape_are_locks_if_they_are_not_understood() {
        let lock = |attributes: &str| {
            let json = format!(r#"{{"name":"a","changeableAttributes":{attributes},"digest":"d"}}"#);
            let tag: WireTag = serde_json::from_str(&json).unwrap();
            assert_eq!(tag.digest.as_deref(), Some("d"), "{json}");
            tag.lock()
        };
        for odd in ["true", "\"no\"", "1", "-1", "1.5", "[]", "[{\"deleteEnabled\":true},[]]"] {
            assert_eq!(lock(odd), Some(Lock::DeleteAndWrite), "{odd}");
        }
        for (switch, expected) in [
            ("null", None),
            ("true", None),
            ("\"True\"", None),
            ("1", None),
            ("\"yes\"", Some(Lock::Delete)),
            ("0", Some(Lock::Delete)),
            ("-1", Some(Lock::Delete)),
            ("1.0", Some(Lock::Delete)),
            ("[1]", Some(Lock::Delete)),
            ("{\"a\":{}}", Some(Lock::Delete)),
        ] {
            assert_eq!(lock(&format!("{{\"x\":[{{}}],\"deleteEnabled\":{switch}}}")), expected, "{switch}");
        }
    }

    #[test]
    fn a_list_is_null_or_empty_but_never_missing() {
        let tags = |json| serde_json::from_str::<WireTags>(json).unwrap().tags.map(|tags| tags.len());
        assert_eq!(tags(r#"{"registry":"r","imageName":"a","tags":null}"#), Some(0));
        assert_eq!(tags(r#"{"tags":[{"name":"a"}]}"#), Some(1));
        assert_eq!(tags(r#"{"registry":"r"}"#), None);
    }
}
