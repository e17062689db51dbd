//! Completes tool definitions for templates that print each parameter.

use serde_json::{Map, Value, json};

/// Adds what clients omit: the type, a description, an object of parameters.
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

/// Sets `key` to an empty string unless it is a string.
fn text(object: &mut Map<String, Value>, key: &str) {
    if !object.get(key).is_some_and(Value::is_string) {
        object.insert(key.into(), "".into());
    }
}

/// Adds the missing descriptions and `required` lists of a schema, recursively.
fn schema(value: &mut Value) {
    let Some(object) = value.as_object_mut() else { return };
    if object.contains_key("properties") && !object.get("required").is_some_and(Value::is_array) {
        object.insert("required".into(), json!([]));
    }
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

/// Types of JSON Schema that templates know.
const TYPES: [&str; 6] = ["string", "number", "integer", "boolean", "array", "object"];

/// Reduces alternative types to one, and removes types that no template knows (Hermes's does not terminate with
/// `null`). Adds the missing item types of arrays and objects.
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
            match object.get("type").and_then(Value::as_str) {
                Some("array") => drop(object.entry("items").or_insert(json!({}))),
                Some("object") => drop(object.entry("additionalProperties").or_insert(json!({}))),
                _ => {}
            }
            object.values_mut().for_each(simplify_types);
        }
        Value::Array(items) => items.iter_mut().for_each(simplify_types),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_get_what_clients_leave_out() {
        let mut tools = [
            json!({ "function": { "name": "f" } }),
            json!({ "type": "function", "function": { "name": "g", "description": null, "parameters": { "required": null,
                "properties": { "a": true, "b": { "type": ["null", "integer"] }, "type": { "type": "null" },
                "c": { "type": "array", "description": "C" } } } } }),
        ];
        complete(&mut tools);
        let bare = json!({ "name": "f", "description": "",
            "parameters": { "type": "object", "properties": {}, "required": [] } });
        assert_eq!(tools[0], json!({ "function": bare, "type": "function" }));
        let parameters = |tool: &Value| tool["function"]["parameters"].clone();
        assert_eq!(tools[1]["function"]["description"], "");
        assert_eq!(parameters(&tools[1])["required"], json!([]));
        assert_eq!(parameters(&tools[1])["properties"]["a"], json!({ "description": "" }));
        simplify(&mut tools);
        let properties = json!({ "a": { "description": "" }, "b": { "type": "integer", "description": "" },
            "type": { "description": "" }, "c": { "type": "array", "description": "C", "items": {} } });
        assert_eq!(parameters(&tools[1])["properties"], properties);
    }
}
