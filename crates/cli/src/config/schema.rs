//! The JSON Schema of the configuration, derived from its types.

use super::Config;
use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::{Map, Value, json};

/// The schema of `saywhy.toml`: what `saywhy schema` prints, what `saywhy check` checks, what editors complete from.
///
/// It is in draft 7, which every editor understands, and has no references, so that a reader need not follow any.
pub(crate) fn schema() -> Value {
    let settings = SchemaSettings::draft07()
        .with(|settings| settings.inline_subschemas = true)
        .with_transform(RecursiveTransform(one_line))
        .with_transform(RecursiveTransform(no_null))
        .with_transform(RecursiveTransform(one_of_two_keys))
        .with_transform(RecursiveTransform(no_other_keys));
    let mut schema = settings.into_generator().into_root_schema_for::<Config>();
    schema.insert("title".to_owned(), json!("saywhy.toml"));
    let mut schema = schema.to_value();
    // The order must not depend on which features of serde_json other crates of a build ask for.
    schema.sort_all_objects();
    schema
}

/// Where the source breaks a line, neither an editor nor a table does.
fn one_line(schema: &mut Schema) {
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = text.replace('\n', " ");
    }
}

/// TOML has no null: an optional key is left out.
fn no_null(schema: &mut Schema) {
    if let Some(Value::Array(types)) = schema.get("type") {
        let one = types.iter().find(|name| *name != "null").cloned();
        schema.insert("type".to_owned(), one.unwrap_or_default());
    }
    if let Some(Value::Array(mut either)) = schema.remove("anyOf") {
        either.retain(|schema| schema["type"] != "null");
        for (keyword, value) in either.into_iter().filter_map(|schema| schema.as_object().cloned()).flatten() {
            if schema.get(&keyword).is_none() {
                schema.insert(keyword, value);
            }
        }
    }
    if schema.get("default") == Some(&Value::Null) {
        schema.remove("default");
    }
    // The ranges say it better than `uint32`.
    let sized = |format: &Value| format.as_str().is_some_and(|format| format.starts_with("uint"));
    if schema.get("format").is_some_and(sized) {
        schema.remove("format");
    }
}

/// A flattened enum becomes keys of the table, of which `oneOf` asks for one. As it was derived, each half knew nothing
/// of the keys outside of it, so they could not be closed.
fn one_of_two_keys(schema: &mut Schema) {
    let Some(Value::Array(mut halves)) = schema.get("oneOf").cloned() else { return };
    if !halves.iter().all(|half| half["properties"].is_object()) {
        return;
    }
    for half in &mut halves {
        let (about, required) = (half["description"].take(), half["required"].take());
        let Value::Object(keys) = half["properties"].take() else { continue };
        for (key, mut value) in keys {
            value["description"] = about.clone();
            properties(schema).map(|keys| keys.insert(key, value));
        }
        *half = json!({ "required": required });
    }
    schema.insert("oneOf".to_owned(), Value::Array(halves));
}

/// A misspelt key would else be a limit that is not there.
fn no_other_keys(schema: &mut Schema) {
    if schema.get("properties").is_some() {
        schema.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
}

/// The limits of a route have the server's own as their defaults.
pub(super) fn inherited(schema: &mut Schema) {
    let limits = properties(schema).into_iter().flat_map(Map::values_mut);
    for limit in limits.filter_map(Value::as_object_mut) {
        limit.remove("default");
    }
}

fn properties(schema: &mut Schema) -> Option<&mut Map<String, Value>> {
    schema.get_mut("properties")?.as_object_mut()
}
