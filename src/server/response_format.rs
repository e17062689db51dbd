//! The fields that constrain an answer's format: those of OpenAI, Anthropic, Ollama, vLLM, llama.cpp, SGLang, TGI and
//! Together. Every dialect reads all of them: none is ignored.

use firelight::conversation::ResponseFormat;
use serde_json::{Value, json};

use super::fields::Fields;
use super::http_error::HttpError;

const FIELDS: [&str; 18] = [
    "response_format",
    "text",
    "format",
    "output_config",
    "output_format",
    "json_schema",
    "grammar",
    "ebnf",
    "regex",
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "guided_json_object",
    "guided_whitespace_pattern",
    "structural_tag",
    "grammar_triggers",
];

/// Reads the response format from a body.
///
/// # Errors
/// If a field is invalid or unsupported, or two fields ask for different formats. The message names the field.
pub fn response_format(fields: &mut Fields) -> Result<ResponseFormat, HttpError> {
    let mut given: Vec<(&str, ResponseFormat)> = Vec::new();
    for name in FIELDS {
        if let Some(value) = fields.value(name) {
            read(name, &value, &mut given)?;
        }
    }
    match given.as_slice() {
        [] => Ok(ResponseFormat::Text),
        [(first, form), rest @ ..] => match rest.iter().find(|(_, other)| !same(form, other)) {
            Some((second, _)) => Err(wrong(first, &format!("{second} asks for another format"))),
            None => Ok(form.clone()),
        },
    }
}

/// Whether two formats are equal, regardless of the fields that they came from.
fn same(a: &ResponseFormat, b: &ResponseFormat) -> bool {
    match (a, b) {
        (ResponseFormat::JsonSchema(_, a), ResponseFormat::JsonSchema(_, b)) => a == b,
        (ResponseFormat::Regex(_, a), ResponseFormat::Regex(_, b))
        | (ResponseFormat::Lark(_, a), ResponseFormat::Lark(_, b)) => a == b,
        (a, b) => a == b,
    }
}

/// Reads a field, and adds the format that it asks for.
fn read(name: &'static str, value: &Value, given: &mut Vec<(&'static str, ResponseFormat)>) -> Result<(), HttpError> {
    let form = match name {
        "response_format" | "output_format" => described(name, value)?,
        "text" | "output_config" => match value.get("format").filter(|format| !format.is_null()) {
            Some(format) => described(&format!("{name}.format"), format)?,
            None => return Ok(()),
        },
        // Ollama's: a schema as it is, or a word.
        "format" => match value {
            Value::String(word) if word.is_empty() => return Ok(()),
            Value::String(word) if word == "json" => object(),
            Value::Object(_) => schema(name, value)?,
            _ => return Err(wrong(name, "it is neither \"json\" nor a JSON schema")),
        },
        "structured_outputs" => {
            for (key, value) in value.as_object().ok_or_else(|| wrong(name, "it is not an object"))? {
                let (field, asked) = (format!("{name}.{key}"), !value.is_null() && value != false);
                let form = match key.as_str() {
                    _ if !asked => continue,
                    "json" => schema(&field, value)?,
                    "json_object" => object(),
                    "regex" => regex(&field, value)?,
                    "choice" => choice(&field, value)?,
                    "grammar" => grammar(&field, value)?,
                    "whitespace_pattern" | "structural_tag" => return Err(unsupported(&field)),
                    _ => continue,
                };
                given.push((name, form));
            }
            return Ok(());
        }
        "json_schema" | "guided_json" => schema(name, value)?,
        "regex" | "guided_regex" => regex(name, value)?,
        "guided_choice" => choice(name, value)?,
        "grammar" if value.is_object() => described(name, value)?,
        "grammar" | "ebnf" | "guided_grammar" => grammar(name, value)?,
        "guided_json_object" if value == false => return Ok(()),
        "guided_json_object" => object(),
        _ => return Err(unsupported(name)),
    };
    if form != ResponseFormat::Text {
        given.push((name, form));
    }
    Ok(())
}

/// A format with a `type`.
fn described(name: &str, value: &Value) -> Result<ResponseFormat, HttpError> {
    let inner = |keys: &[&str]| keys.iter().find_map(|key| Some((format!("{name}.{key}"), value.get(key)?)));
    let missing = |key: &str| wrong(&format!("{name}.{key}"), "it is missing");
    match value["type"].as_str() {
        Some("text") => Ok(ResponseFormat::Text),
        Some("json_object" | "json") => match inner(&["schema", "value"]) {
            Some((field, value)) if !value.is_null() => schema(&field, value),
            _ => Ok(object()),
        },
        Some("json_schema") => match (value.pointer("/json_schema/schema"), inner(&["schema", "value"])) {
            (Some(value), _) => schema(&format!("{name}.json_schema.schema"), value),
            (None, Some((field, value))) => schema(&field, value),
            (None, None) if name == "response_format" => Err(missing("json_schema.schema")),
            (None, None) => Err(missing("schema")),
        },
        Some("regex") => match inner(&["pattern", "regex", "value"]) {
            Some((field, value)) => regex(&field, value.get("regex").unwrap_or(value)),
            None => Err(missing("pattern")),
        },
        Some("grammar" | "ebnf" | "lark") => match inner(&["grammar", "value"]) {
            Some((field, value)) => grammar(&field, value),
            None => Err(missing("grammar")),
        },
        kind => {
            let kind = kind.map_or_else(|| value["type"].to_string(), |kind| format!("{kind:?}"));
            Err(wrong(
                &format!("{name}.type"),
                &format!("{kind} is none of text, json_object, json_schema, regex, grammar"),
            ))
        }
    }
}

/// Any JSON object.
fn object() -> ResponseFormat {
    ResponseFormat::JsonSchema(String::new(), json!({ "type": "object" }))
}

fn schema(name: &str, value: &Value) -> Result<ResponseFormat, HttpError> {
    let read = match value {
        Value::String(text) => serde_json::from_str(text).unwrap_or_default(),
        other => other.clone(),
    };
    match read {
        Value::Object(_) | Value::Bool(_) => Ok(ResponseFormat::JsonSchema(name.into(), read)),
        _ => Err(wrong(name, "a JSON schema is an object")),
    }
}

fn regex(name: &str, value: &Value) -> Result<ResponseFormat, HttpError> {
    match value.as_str() {
        Some(expression) if !expression.is_empty() => Ok(ResponseFormat::Regex(name.into(), expression.into())),
        _ => Err(wrong(name, "it is not a regular expression")),
    }
}

fn choice(name: &str, value: &Value) -> Result<ResponseFormat, HttpError> {
    let texts: Option<Vec<String>> =
        value.as_array().and_then(|list| list.iter().map(|text| Some(text.as_str()?.to_string())).collect());
    match texts.filter(|texts| !texts.is_empty()) {
        Some(texts) => Ok(ResponseFormat::Choice(texts)),
        None => Err(wrong(name, "it is not a list of texts")),
    }
}

fn grammar(name: &str, value: &Value) -> Result<ResponseFormat, HttpError> {
    match value.as_str() {
        Some(grammar) if grammar.contains("::=") => {
            Err(wrong(name, "GBNF and EBNF are not supported; write the grammar as Lark does, or send a JSON schema"))
        }
        Some(grammar) if !grammar.trim().is_empty() => Ok(ResponseFormat::Lark(name.into(), grammar.into())),
        _ => Err(wrong(name, "it is not a grammar")),
    }
}

fn unsupported(name: &str) -> HttpError {
    wrong(name, "it is not supported; send a JSON schema, a regular expression, a choice or a grammar")
}

fn wrong(name: &str, why: &str) -> HttpError {
    HttpError::field(name, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: Value) -> Result<ResponseFormat, String> {
        response_format(&mut Fields::new(body).unwrap()).map_err(|failure| failure.message)
    }

    #[test]
    fn every_servers_fields_are_read() {
        let a = || json!({ "type": "array" });
        let of = |field: &str| ResponseFormat::JsonSchema(field.into(), a());
        let regex = |field: &str| ResponseFormat::Regex(field.into(), "a+".into());
        let lark = |field: &str| ResponseFormat::Lark(field.into(), "start: \"a\"".into());
        for (body, want) in [
            (json!({}), ResponseFormat::Text),
            (json!({ "response_format": null, "format": "", "text": { "verbosity": "low" } }), ResponseFormat::Text),
            (json!({ "response_format": { "type": "text" }, "guided_json": a() }), of("guided_json")),
            (json!({ "response_format": { "type": "json_object" } }), object()),
            (json!({ "response_format": { "type": "json_object", "schema": a() } }), of("response_format.schema")),
            (json!({ "response_format": { "type": "json_schema", "schema": a() } }), of("response_format.schema")),
            (
                json!({ "response_format": { "type": "json_schema", "json_schema": { "name": "x", "strict": true, "schema": a() } } }),
                of("response_format.json_schema.schema"),
            ),
            (json!({ "response_format": { "type": "json", "value": a() } }), of("response_format.value")),
            (json!({ "response_format": { "type": "regex", "pattern": "a+" } }), regex("response_format.pattern")),
            (
                json!({ "response_format": { "type": "regex", "regex": { "regex": "a+" } } }),
                regex("response_format.regex"),
            ),
            (
                json!({ "text": { "format": { "type": "json_schema", "name": "x", "schema": a() } } }),
                of("text.format.schema"),
            ),
            (
                json!({ "output_config": { "format": { "type": "json_schema", "schema": a() }, "effort": "low" } }),
                of("output_config.format.schema"),
            ),
            (json!({ "output_format": { "type": "json_schema", "schema": a() } }), of("output_format.schema")),
            (json!({ "format": "json" }), object()),
            (json!({ "format": a() }), of("format")),
            (json!({ "json_schema": a().to_string() }), of("json_schema")),
            (json!({ "guided_regex": "a+" }), regex("guided_regex")),
            (json!({ "guided_choice": ["a", "b"] }), ResponseFormat::Choice(vec!["a".into(), "b".into()])),
            (json!({ "guided_grammar": "start: \"a\"" }), lark("guided_grammar")),
            (json!({ "grammar": { "type": "regex", "value": "a+" } }), regex("grammar.value")),
            (
                json!({ "structured_outputs": { "json": a(), "regex": null, "disable_any_whitespace": true } }),
                of("structured_outputs.json"),
            ),
            (json!({ "structured_outputs": { "json_object": true } }), object()),
            (json!({ "json_schema": a(), "guided_json": a() }), of("json_schema")),
            (json!({ "structured_outputs": { "grammar": "start: \"a\"" } }), lark("structured_outputs.grammar")),
        ] {
            assert_eq!(read(body.clone()), Ok(want), "{body}");
        }
    }

    #[test]
    fn what_cannot_be_held_is_refused_by_its_name() {
        for (body, name) in [
            (json!({ "response_format": { "type": "xml" } }), "response_format.type: \"xml\""),
            (json!({ "response_format": "json" }), "response_format.type: null"),
            (
                json!({ "response_format": { "type": "json_schema", "json_schema": {} } }),
                "response_format.json_schema.schema",
            ),
            (json!({ "text": { "format": { "type": "json_schema" } } }), "text.format.schema"),
            (json!({ "format": 1 }), "format"),
            (json!({ "grammar": "root ::= \"a\"" }), "grammar: GBNF"),
            (json!({ "structured_outputs": { "grammar": "?start ::= \"a\"" } }), "structured_outputs.grammar: GBNF"),
            (json!({ "structured_outputs": { "structural_tag": "{}" } }), "structured_outputs.structural_tag"),
            (json!({ "structural_tag": {} }), "structural_tag"),
            (json!({ "guided_choice": [] }), "guided_choice"),
            (json!({ "guided_choice": "ab" }), "guided_choice"),
            (json!({ "guided_regex": "" }), "guided_regex"),
            (json!({ "guided_json": "no JSON" }), "guided_json"),
            (json!({ "structured_outputs": { "regex": "a", "choice": ["a"] } }), "structured_outputs"),
            (
                json!({ "response_format": { "type": "json_object" }, "guided_regex": "a" }),
                "guided_regex asks for another",
            ),
        ] {
            let message = read(body.clone()).unwrap_err();
            assert!(message.contains(name), "{body}: {message}");
        }
    }
}
