//! The JSON schema of policy files, for completion and checks in editors.

use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform as _};
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

use super::policy_test_schema_types::PolicyTestsShape;
use super::schema_types::PolicyFile;

/// The JSON schema (2020-12) of policy files.
///
/// It cannot say everything: unique names, what globs and patterns match, and `group_by` are for
/// [`parse`](super::parse) alone.
#[must_use]
pub fn schema() -> Value {
    schema_of::<PolicyFile>(&example())
}

/// The JSON schema (2020-12) of fixtures.
#[must_use]
pub fn tests_schema() -> Value {
    schema_of::<PolicyTestsShape>(&json!({ "tests": [{
        "name": "a candidate goes two weeks after its push",
        "repository": "shop/api",
        "tags": {
            "candidate-1": { "pushed": "20d", "expect": "expired" },
            "candidate-2": { "pushed": "3d", "expect": "retained", "because": "kept-within" },
        },
    }]}))
}

fn schema_of<T: JsonSchema>(example: &Value) -> Value {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>();
    RecursiveTransform(without_null).transform(&mut schema);
    schema.insert("title".to_owned(), json!(T::schema_name()));
    schema.insert("examples".to_owned(), json!([example]));
    schema.to_value()
}

fn example() -> Value {
    json!({ "policies": [{
        "name": "candidate-builds",
        "select": { "repositories": ["shop/**"], "tags": ["candidate-*"] },
        "keep": [{ "newest": 5 }, { "within": "14d" }],
        "mode": "dry-run",
    }]})
}

/// A key is there or left out; written without a value it is an error, not a default.
fn without_null(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else { return };
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(options)) = object.get_mut("anyOf") {
        options.retain(|option| option.get("type").is_none_or(|name| name != "null"));
        if let [Value::Object(only)] = options.as_slice() {
            let only = only.clone();
            object.remove("anyOf");
            object.extend(only);
        }
    }
}
