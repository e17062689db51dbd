//! Tools as templates want them that write their parameters out one by one.

use serde_json::{Map, Value, json};

/// Gives tools what clients leave out: the type, a description, an object of parameters.
pub(super) fn complete(tools: &mut [Value]) {
    for tool in tools.iter_mut().filter_map(Value::as_object_mut) {
        tool.entry("type").or_insert("function".into());
        let Some(function) = tool.get_mut("function").and_then(Value::as_object_mut) else { continue };
        text(function, "description");
        let parameters = function.entry("parameters").or_insert(Value::Null);
        if !parameters.is_object() {
            *parameters = json!({});
        }
        parameters["type"] = "object".into();
        if !parameters["properties"].is_object() {
            parameters["properties"] = json!({});
        }
        schema(parameters);
    }
}

/// Makes sure that there is a text at `key`.
fn text(object: &mut Map<String, Value>, key: &str) {
    if !object.get(key).is_some_and(Value::is_string) {
        object.insert(key.into(), "".into());
    }
}

/// Describes what a schema has within.
fn schema(value: &mut Value) {
    let Some(object) = value.as_object_mut() else { return };
    for property in object.get_mut("properties").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
        if !property.is_object() {
            *property = json!({});
        }
        schema(property);
        if let Some(property) = property.as_object_mut() {
            text(property, "description");
        }
    }
    if let Some(items) = object.get_mut("items") {
        schema(items);
    }
}

/// Types that JSON Schema has and that templates translate.
const TYPES: [&str; 6] = ["string", "number", "integer", "boolean", "array", "object"];

/// Makes one type of several, and none of those that no template knows: Hermes's never ends with `null`.
pub(super) fn simplify(tools: &mut [Value]) {
    tools.iter_mut().filter_map(|tool| tool.pointer_mut("/function/parameters")).for_each(simplify_types);
}

fn simplify_types(value: &mut Value) {
    match value {
        Value::Object(object) => {
            let known = |kind: &Value| kind.as_str().is_some_and(|kind| TYPES.contains(&kind));
            match object.get("type") {
                Some(Value::Array(kinds)) => match kinds.iter().find(|kind| known(kind)).cloned() {
                    Some(kind) => drop(object.insert("type".into(), kind)),
                    None => drop(object.remove("type")),
                },
                Some(kind @ Value::String(_)) if !known(kind) => drop(object.remove("type")),
                // A property of this name.
                _ => {}
            }
            object.values_mut().for_each(simplify_types);
        }
        Value::Array(items) => items.iter_mut().for_each(simplify_types),
        _ => {}
    }
}
