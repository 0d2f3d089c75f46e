//! Custom resources: which, and where in them images stand.

use std::fmt;
use std::str::FromStr;

use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::super::{SourceError, told};
use super::client::{Cluster, Refusal};
use super::images::pod_images;
use super::list::{Resource, root};
use super::objects::{Reading, WireMeta};

/// A kind of custom resource with images in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomResource {
    /// Its API group, such as `argoproj.io`.
    pub group: String,
    /// Its version, such as `v1alpha1`.
    pub version: String,
    /// Its kind, such as `Rollout`.
    pub kind: String,
    /// Where images stand in it.
    pub paths: Vec<FieldPath>,
    /// Whether a cluster may do without this kind.
    pub optional: bool,
}

/// A path to fields of an object, such as `spec.template.spec.containers[*].image`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldPath(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Field(String),
    /// Everything in a list or a map.
    Each,
}

/// A text that is no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no path of fields; write one like `spec.template` or `spec.containers[*].image`")]
pub struct InvalidPath(String);

impl FromStr for FieldPath {
    type Err = InvalidPath;

    fn from_str(text: &str) -> Result<Self, InvalidPath> {
        let invalid = || InvalidPath(text.to_owned());
        let mut steps = Vec::new();
        let plain = text.trim().trim_start_matches('.');
        for part in plain.split('.') {
            let name = part.split('[').next().unwrap_or_default();
            let each = &part[name.len()..];
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
                return Err(invalid());
            }
            steps.push(Step::Field(name.to_owned()));
            if !each.replace("[*]", "").is_empty() {
                return Err(invalid());
            }
            steps.extend(each.matches("[*]").map(|_| Step::Each));
        }
        Ok(Self(steps))
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Field(name) if at == 0 => f.write_str(name)?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Each => f.write_str("[*]")?,
            }
        }
        Ok(())
    }
}

impl FieldPath {
    /// The values there, as far as there are any.
    fn values<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        self.0.iter().fold(vec![value], |values, step| {
            let next = |value: &'v Value| -> Vec<&'v Value> {
                match (step, value) {
                    (Step::Field(name), Value::Object(map)) => map.get(name).into_iter().collect(),
                    (Step::Each, Value::Array(values)) => values.iter().collect(),
                    (Step::Each, Value::Object(map)) => map.values().collect(),
                    _ => Vec::new(),
                }
            };
            values.into_iter().flat_map(next).collect()
        })
    }
}

/// One object with all its fields.
#[derive(Deserialize)]
pub(super) struct WireAny {
    pub(super) metadata: WireMeta,
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
}

impl WireAny {
    /// Notes the images at those paths, and gives how many texts were found there. A path leads to a reference, to a
    /// list of them, or to something with pod specifications in it.
    pub(super) fn note(self, paths: &[FieldPath], reading: &mut Reading<'_>) -> usize {
        let whole = Value::Object(self.rest);
        let mut count = 0;
        for path in paths {
            for value in path.values(&whole) {
                match value {
                    Value::Null => {}
                    Value::String(text) => {
                        count += 1;
                        reading.written("", text);
                    }
                    Value::Array(_) | Value::Object(_) => {
                        if let Value::Array(values) = value {
                            for text in values.iter().filter_map(Value::as_str) {
                                count += 1;
                                reading.written("", text);
                            }
                        }
                        pod_images(value, &mut |container, image| {
                            count += 1;
                            reading.written(container, image);
                        });
                    }
                    Value::Bool(_) | Value::Number(_) => {
                        let what = format!("`{path}` is `{value}`, which is no image; correct `paths`");
                        reading.note("", super::images::Seen::Problem(what));
                    }
                }
            }
        }
        count
    }
}

/// The resources of one version of a group.
#[derive(Deserialize)]
struct WireResources {
    resources: Vec<WireResource>,
}

#[derive(Deserialize)]
struct WireResource {
    name: String,
    kind: String,
    namespaced: bool,
}

/// The resource of a kind, as the cluster says; nothing where it has none and may do without.
pub(super) async fn discover(cluster: &Cluster, custom: &CustomResource) -> Result<Option<Resource>, SourceError> {
    let CustomResource { group, version, kind, optional, .. } = custom;
    let known: WireResources = match cluster.get(&root(group, version)).await {
        Ok(known) => known,
        Err(Refusal { status: Some(StatusCode::NOT_FOUND), .. }) => WireResources { resources: Vec::new() },
        Err(refusal) => return Err(refusal.error),
    };
    // `rollouts/status` and the like are parts of a resource.
    let found = known.resources.iter().find(|resource| resource.kind == *kind && !resource.name.contains('/'));
    match found {
        Some(resource) => {
            let named = Resource::of(group, version, &resource.name, kind);
            Ok(Some(Resource { namespaced: resource.namespaced, ..named }))
        }
        None if *optional => Ok(None),
        None => {
            let kinds: Vec<String> = known.resources.into_iter().map(|resource| resource.kind).collect();
            let known = if kinds.is_empty() { "nothing".to_owned() } else { told(kinds).join(", ") };
            let message = format!(
                "this cluster has no kind {kind} in {group}/{version}, where it has {known}; correct `custom`, or write \
                 `optional = true` if a cluster may do without"
            );
            Err(SourceError { kind: "unknown-kind", message })
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_lead_to_values() {
        let value = json!({"a": {"b": [{"c": 1}, {"c": 2}, {"d": 3}], "m": {"x": {"c": 4}, "y": {"c": 5}}}});
        for (path, expected) in [
            ("a.b[*].c", vec![1, 2]),
            (".a.b[*].d", vec![3]),
            ("a.m[*].c", vec![4, 5]),
            ("a.m.x.c", vec![4]),
            ("a.none[*].c", vec![]),
            ("a.b.c", vec![]),
        ] {
            let path: FieldPath = path.parse().unwrap();
            let found: Vec<i64> = path.values(&value).into_iter().filter_map(Value::as_i64).collect();
            assert_eq!(found, expected, "{path}");
            assert_eq!(path.to_string().parse::<FieldPath>().unwrap(), path);
        }
        for text in ["", ".", "a..b", "a[0]", "a[*", "a[*]b", "$.a", "a b", "[*]"] {
            assert!(text.parse::<FieldPath>().is_err(), "{text}");
        }
    }
}
