//! JSON schemas as masks over a vocabulary: which tokens may come next. The work is llguidance's; here is how our
//! tokenizers look to it, and how it looks to a session.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use firelight::session::Constraint;
use firelight::tokenizer::Tokenizer;
use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Map, Value, json};

/// Makes constraints for one vocabulary.
pub struct Grammars {
    factory: ParserFactory,
}

/// Why a constraint could not go on, if so.
pub type Broken = Rc<RefCell<Option<String>>>;

impl Grammars {
    /// Reads the whole vocabulary, which takes a moment.
    pub fn new(tokenizer: &Tokenizer) -> Result<Self, String> {
        let mut words: Vec<Vec<u8>> = (0..tokenizer.vocab_size() as u32).map(|id| word(tokenizer, id)).collect();
        let mut ends = tokenizer.end_ids().to_vec();
        if ends.is_empty() {
            // A model that cannot say that it has finished: a token beyond the vocabulary, which never comes.
            ends.push(words.len() as u32);
            words.push(vec![TokTrie::SPECIAL_TOKEN_MARKER]);
        }
        let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, ends[0]), &words).with_eos_tokens(&ends);
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&env).map_err(|e| e.to_string())?;
        factory.quiet().limits_mut().verbose_errors = false;
        Ok(Grammars { factory })
    }

    /// Holds an answer to a schema, in compact JSON: white space without end would be valid, too.
    pub fn constraint(&self, schema: &Value) -> Result<(Constraint, Broken), String> {
        let mut schema = match schema {
            Value::Bool(true) => json!({}),
            Value::Object(_) => schema.clone(),
            _ => return Err("a schema is a JSON object".into()),
        };
        schema["x-guidance"] = json!({ "whitespace_flexible": false });
        let parser = self.factory.create_parser(TopLevelGrammar::from_json_schema(schema));
        let mut matcher = Matcher::new(Ok(parser.map_err(|e| brief(&e))?));
        // A schema that nothing fits is only found out when something has to.
        let mut first = Some(matcher.compute_mask().map_err(|e| brief(&e))?.as_slice().to_vec());
        let broken = Broken::default();
        let (note, mut seen) = (broken.clone(), 0);
        let constraint = move |answer: &[u32]| {
            if let Some(first) = first.take().filter(|_| answer.is_empty()) {
                return first;
            }
            let step = matcher.consume_tokens(&answer[seen..]).and_then(|()| {
                seen = answer.len();
                if matcher.is_stopped() { Ok(Vec::new()) } else { Ok(matcher.compute_mask()?.as_slice().to_vec()) }
            });
            step.unwrap_or_else(|error| {
                *note.borrow_mut() = Some(brief(&error));
                Vec::new()
            })
        };
        Ok((Box::new(constraint), broken))
    }
}

/// An error without the traces that follow it.
fn brief(error: &impl ToString) -> String {
    error.to_string().lines().next().unwrap_or_default().to_string()
}

/// A token's bytes; a control token's are marked, so that no text is taken for it.
fn word(tokenizer: &Tokenizer, id: u32) -> Vec<u8> {
    let bytes = tokenizer.bytes(id, false);
    if !bytes.is_empty() {
        return bytes;
    }
    let name = tokenizer.bytes(id, true);
    if name.is_empty() { name } else { [&[TokTrie::SPECIAL_TOKEN_MARKER], name.as_slice()].concat() }
}

/// The schema of a call of one of these tools (of the one called `only`).
pub fn call_schema(tools: &[Value], only: Option<&str>) -> Value {
    let functions = tools.iter().filter_map(|tool| tool.get("function"));
    let wanted = functions.filter(|f| only.is_none_or(|only| f["name"] == only));
    let mut definitions = Map::new();
    let calls: Vec<Value> = wanted
        .enumerate()
        .map(|(i, f)| {
            let mut parameters = f.get("parameters").filter(|p| p.is_object()).cloned().unwrap_or(json!({}));
            parameters["type"] = "object".into();
            take_definitions(&mut parameters, &format!("tool{i}."), &mut definitions);
            json!({
                "type": "object",
                "properties": { "name": { "const": f["name"] }, "arguments": parameters },
                "required": ["name", "arguments"],
                "additionalProperties": false,
            })
        })
        .collect();
    json!({ "anyOf": calls, "$defs": definitions })
}

/// Moves a schema's definitions out of it, under names of its own: what they are referred to by begins at the root, which
/// the schema will no longer be.
fn take_definitions(schema: &mut Value, prefix: &str, definitions: &mut Map<String, Value>) {
    let places = ["$defs", "definitions"];
    let rename = |text: &str| {
        let name = places.iter().find_map(|place| text.strip_prefix(&format!("#/{place}/")));
        name.map(|name| format!("#/$defs/{prefix}{name}"))
    };
    visit(schema, &|key, value| {
        if key == "$ref"
            && let Some(renamed) = value.as_str().and_then(rename)
        {
            *value = renamed.into();
        }
    });
    for place in places {
        if let Some(Value::Object(own)) = schema.as_object_mut().and_then(|s| s.remove(place)) {
            definitions.extend(own.into_iter().map(|(name, schema)| (format!("{prefix}{name}"), schema)));
        }
    }
}

/// Calls `each` for every member of every object within `value`.
fn visit(value: &mut Value, each: &dyn Fn(&str, &mut Value)) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| visit(item, each)),
        Value::Object(members) => members.iter_mut().for_each(|(key, value)| {
            each(key, value);
            visit(value, each);
        }),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_keep_their_tools_definitions_apart() {
        let tool = |name: &str, kind: &str| {
            json!({ "function": { "name": name, "parameters": {
                "properties": { "x": { "$ref": "#/$defs/X" } }, "$defs": { "X": { "type": kind } } } } })
        };
        let tools = [tool("f", "string"), tool("g", "integer")];
        let schema = call_schema(&tools, None);
        assert_eq!(schema["anyOf"][1]["properties"]["arguments"]["properties"]["x"]["$ref"], "#/$defs/tool1.X");
        assert_eq!(schema["$defs"], json!({ "tool0.X": { "type": "string" }, "tool1.X": { "type": "integer" } }));
        let only = call_schema(&tools, Some("g"));
        assert_eq!(only["anyOf"].as_array().unwrap().len(), 1);
        assert_eq!(only["anyOf"][0]["properties"]["name"]["const"], "g");
    }
}
