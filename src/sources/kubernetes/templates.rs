//! Pod templates: the images that their containers name, and a hash that identifies pods of the same template.

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::claims::Object;
use super::images::parse_name;
use crate::domain::{ImageReference, Naming};

/// The name of a container or volume, and the text of its image.
pub(super) type TemplateImage = (Box<str>, Box<str>);

/// Fields of a pod's specification that differ from pod to pod of one template.
const POD_SPECIFIC_KEYS: [&str; 4] = ["affinity", "claimName", "hostname", "nodeName"];
/// Prefix of the volume with the pod's token, whose name ends in random characters.
const TOKEN_VOLUME: &str = "kube-api-access-";

/// Returns a hash of a pod's specification and of its controller, equal for pods of one template; `None` if it is
/// nested too deeply.
pub(super) fn fingerprint(controller: &Object, spec: &RawValue) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    controller.hash(&mut hasher);
    let mut json = serde_json::Deserializer::from_str(spec.get());
    Strings(&mut hasher).deserialize(&mut json).ok()?;
    Some(hasher.finish())
}

/// Returns a hash of the labels and annotations of a pod, as written, and of its controller.
pub(super) fn metadata_fingerprint(controller: &Object, parts: &[&RawValue]) -> u64 {
    let mut hasher = DefaultHasher::new();
    controller.hash(&mut hasher);
    for part in parts {
        part.get().hash(&mut hasher);
    }
    hasher.finish()
}

/// Hashes every string of a value, and the structure around it.
struct Strings<'h>(&'h mut DefaultHasher);

impl<'de> DeserializeSeed<'de> for Strings<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strings<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        if !text.starts_with(TOKEN_VOLUME) {
            text.hash(self.0);
        }
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        value.hash(self.0);
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        value.hash(self.0);
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        value.hash(self.0);
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        value.to_bits().hash(self.0);
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        self.0.write_u8(b'[');
        while list.next_element_seed(Strings(&mut *self.0))?.is_some() {}
        self.0.write_u8(b']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.0.write_u8(b'{');
        while let Some(own) = map.next_key_seed(Key(&mut *self.0))? {
            if own {
                map.next_value::<IgnoredAny>()?;
            } else {
                map.next_value_seed(Strings(&mut *self.0))?;
            }
        }
        self.0.write_u8(b'}');
        Ok(())
    }
}

/// Hashes a key, and returns true if its value is specific to the pod.
struct Key<'h>(&'h mut DefaultHasher);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<bool, D::Error> {
        input.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<bool, E> {
        key.hash(self.0);
        Ok(POD_SPECIFIC_KEYS.contains(&key))
    }
}

/// Returns the names for an image id: those of the container in the specification and in the status, else all of the
/// specification.
pub(super) fn naming_of(images: &[TemplateImage], container: &str, status: &str) -> Naming {
    let names = |texts: &mut dyn Iterator<Item = &str>| -> Vec<ImageReference> {
        let mut names: Vec<ImageReference> = texts.filter_map(parse_name).collect();
        names.sort();
        names.dedup();
        names
    };
    let own: Vec<&str> = images.iter().filter(|(name, _)| **name == *container).map(|(_, text)| &**text).collect();
    let paired = names(&mut own.iter().copied().chain([status]));
    if !own.is_empty() && !paired.is_empty() {
        return Naming::ContainerImageId(paired.into());
    }
    Naming::ObjectImageId(names(&mut images.iter().map(|(_, text)| &**text).chain([status])).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_of_one_template_have_one_fingerprint() {
        let pod = |spec: &str, name: &str| {
            let controller = Object { namespace: "shop".into(), kind: "ReplicaSet".into(), name: name.into() };
            fingerprint(&controller, &RawValue::from_string(spec.to_owned()).unwrap()).unwrap()
        };
        let first = r#"{"containers":[{"name":"a","image":"x:1","args":["1"],"volumeMounts":[{"name":"kube-api-access-1"}]}],
            "nodeName":"n1","hostname":"db-0","affinity":{"a":["n1"]},"volumes":[{"claim":{"claimName":"data-db-0"}}]}"#;
        let own = [("n1", "n2"), ("db-0", "db-1"), ("access-1", "access-2"), ("data-db-0", "data-db-1")];
        let second = own.iter().fold(first.to_owned(), |text, (from, to)| text.replace(from, to));
        assert_ne!(first, second);
        assert_eq!(pod(first, "api"), pod(&second, "api"));
        assert_ne!(pod(first, "api"), pod(first, "web"));
        for (from, to) in [("x:1", "x:2"), (r#"["1"]"#, r#"["2"]"#), (r#"["1"]"#, r#"["1","1"]"#), ("args", "command")]
        {
            assert_ne!(pod(first, "api"), pod(&first.replace(from, to), "api"), "{from}");
        }
    }
}
