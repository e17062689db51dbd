//! Tool calls and their results in a conversation: pairs them and rewrites them for templates.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};

/// The text of a message; `""` if its content is an array of parts.
pub(super) fn text(message: &Value) -> &str {
    message["content"].as_str().unwrap_or_default()
}

fn calls(message: &Value) -> &[Value] {
    message["tool_calls"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn calls_mut(message: &mut Value) -> &mut [Value] {
    message.get_mut("tool_calls").and_then(Value::as_array_mut).map(Vec::as_mut_slice).unwrap_or_default()
}

pub(super) fn has_calls(message: &Value) -> bool {
    !calls(message).is_empty()
}

fn is_result(message: &Value) -> bool {
    message["role"] == "tool"
}

/// A call: the index of its message, and its index in there.
type CallIndex = (usize, usize);

/// Maps each result to its call: the one with its id, or else the first with its name, or else the first of the last
/// message with calls. A call has at most one result.
fn pairs(messages: &[Value]) -> HashMap<usize, CallIndex> {
    let mut open: Vec<CallIndex> = Vec::new();
    let mut pairs = HashMap::new();
    for (at, message) in messages.iter().enumerate() {
        open.extend((0..calls(message).len()).map(|i| (at, i)));
        if !is_result(message) {
            continue;
        }
        let call = |(m, i): &CallIndex| &calls(&messages[*m])[*i];
        let latest = open.last().map(|(m, _)| *m);
        let id = message["tool_call_id"].as_str().filter(|id| !id.is_empty());
        let name = message["name"].as_str().or(message["tool_name"].as_str());
        // Some clients count their ids from 0 in every turn.
        let by_id = id.and_then(|id| {
            let of = |m: usize| open.iter().position(|index| index.0 == m && call(index)["id"] == id);
            latest.and_then(of).or_else(|| open.iter().position(|index| call(index)["id"] == id))
        });
        let by_name = || open.iter().position(|p| Some(p.0) == latest && call(p)["function"]["name"].as_str() == name);
        let found = by_id.or_else(by_name).or_else(|| open.iter().position(|index| Some(index.0) == latest));
        if let Some(found) = found {
            pairs.insert(at, open.remove(found));
        }
    }
    pairs
}

/// Parses arguments to objects. Empty text becomes an empty object, other values an object with one string.
pub(super) fn parse_arguments(messages: &mut [Value]) {
    for call in messages.iter_mut().flat_map(calls_mut) {
        let Some(function) = call.get_mut("function").and_then(Value::as_object_mut) else { continue };
        let arguments = function.entry("arguments").or_insert(Value::Null);
        let read = match arguments {
            Value::Object(_) => continue,
            Value::Null => Map::new(),
            Value::String(text) if text.trim().is_empty() => Map::new(),
            Value::String(text) => match serde_json::from_str(text) {
                Ok(read) => read,
                Err(_) => Map::from_iter([("arguments".into(), text.as_str().into())]),
            },
            ref other => Map::from_iter([("arguments".into(), other.to_string().into())]),
        };
        *arguments = Value::Object(read);
    }
}

/// Serializes arguments that are objects.
pub(super) fn serialize_arguments(messages: &mut [Value]) {
    for call in messages.iter_mut().flat_map(calls_mut) {
        if let Some(arguments) = call.pointer_mut("/function/arguments").filter(|a| a.is_object()) {
            *arguments = arguments.to_string().into();
        }
    }
}

/// Adds the missing `type` of calls.
pub(super) fn complete(messages: &mut [Value]) {
    for call in messages.iter_mut().flat_map(calls_mut).filter_map(Value::as_object_mut) {
        if call.get("type").is_none_or(|kind| !kind.is_string()) {
            call.insert("type".into(), "function".into());
        }
    }
}

/// Whether Mistral's templates accept an id.
fn is_short(id: &str) -> bool {
    id.len() == 9 && id.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// Replaces ids of calls and results by ids of nine letters and digits. An id depends only on earlier messages, so that
/// the prompt of a longer conversation has the same prefix.
pub(super) fn rewrite_ids(messages: &mut [Value]) {
    let pairs = pairs(messages);
    let ids = messages.iter().flat_map(|m| calls(m).iter().map(|call| &call["id"]).chain([&m["tool_call_id"]]));
    let taken: HashSet<String> = ids.filter_map(Value::as_str).map(str::to_owned).collect();
    let mut fresh = (0..).map(|n| format!("call{n:05}")).filter(|id| !taken.contains(id));
    for at in 0..messages.len() {
        for call in calls_mut(&mut messages[at]).iter_mut().filter_map(Value::as_object_mut) {
            if !call.get("id").and_then(Value::as_str).is_some_and(is_short) {
                call.insert("id".into(), fresh.next().into());
            }
        }
        if is_result(&messages[at]) {
            let id = match pairs.get(&at) {
                Some((m, i)) => calls(&messages[*m])[*i]["id"].clone(),
                None if messages[at]["tool_call_id"].as_str().is_some_and(is_short) => continue,
                None => fresh.next().into(),
            };
            messages[at]["tool_call_id"] = id;
        }
    }
}

/// Moves results after the message with their calls, in the order of the calls.
pub(super) fn order_results(messages: &mut Vec<Value>) {
    let pairs = pairs(messages);
    let mut results: Vec<(CallIndex, usize)> = pairs.iter().map(|(result, call)| (*call, *result)).collect();
    results.sort_unstable();
    let mut ordered = Vec::with_capacity(messages.len());
    for at in (0..messages.len()).filter(|at| !pairs.contains_key(at)) {
        ordered.push(messages[at].clone());
        ordered.extend(results.iter().filter(|((m, _), _)| *m == at).map(|(_, result)| messages[*result].clone()));
    }
    *messages = ordered;
}

/// Splits messages with several calls into one message per call, each followed by its result.
pub(super) fn split(messages: &mut Vec<Value>) {
    let pairs = pairs(messages);
    let several = |at: usize| calls(&messages[at]).len() > 1;
    let moved = |at: &usize| pairs.get(at).is_some_and(|(m, _)| several(*m));
    let mut apart = Vec::with_capacity(messages.len());
    for at in (0..messages.len()).filter(|at| !moved(at)) {
        let message = &messages[at];
        if !several(at) {
            apart.push(message.clone());
            continue;
        }
        for (i, call) in calls(message).iter().enumerate() {
            let mut one = match i {
                0 => message.clone(),
                _ => {
                    json!({ "role": "assistant", "content": if message["content"].is_null() { Value::Null } else { "".into() } })
                }
            };
            one["tool_calls"] = json!([call]);
            apart.push(one);
            let result = pairs.iter().find(|(_, call)| **call == (at, i)).map(|(result, _)| messages[*result].clone());
            apart.extend(result);
        }
    }
    *messages = apart;
}

/// Moves the text of messages with calls to a separate message before them.
pub(super) fn split_text(messages: &mut Vec<Value>) {
    let mut apart = Vec::with_capacity(messages.len());
    for mut message in messages.drain(..) {
        let content = text(&message).to_owned();
        if has_calls(&message) && !content.trim().is_empty() {
            apart.push(json!({ "role": message["role"], "content": content }));
            message["content"] = Value::Null;
        }
        apart.push(message);
    }
    *messages = apart;
}

/// Converts a message to plain text: calls become `<tool_call>` markup after its text, a result a user message.
pub fn calls_as_text(message: Value) -> Value {
    let content = text(&message);
    if is_result(&message) {
        return json!({ "role": "user", "content": format!("<tool_response>{content}</tool_response>") });
    }
    let Some(calls) = message["tool_calls"].as_array() else { return message };
    let mut text = content.to_string();
    for call in calls {
        let (name, arguments) = (&call["function"]["name"], &call["function"]["arguments"]);
        text += &format!("<tool_call>{}</tool_call>", json!({ "name": name, "arguments": arguments }));
    }
    json!({ "role": message["role"], "content": text })
}

/// Converts all calls and results to text.
pub(super) fn all_calls_as_text(messages: &mut Vec<Value>) {
    *messages = messages.drain(..).map(calls_as_text).collect();
}

/// Converts calls without results and results without calls to text.
pub(super) fn unpaired_calls_as_text(messages: &mut Vec<Value>) {
    let pairs = pairs(messages);
    let answered = |at: usize| pairs.values().filter(|(m, _)| *m == at).count() == calls(&messages[at]).len();
    let as_text: HashSet<usize> = (0..messages.len()).filter(|at| !answered(*at)).collect();
    let alone = |at: usize| match pairs.get(&at) {
        Some((m, _)) => as_text.contains(m),
        None => is_result(&messages[at]),
    };
    let as_text: Vec<bool> = (0..messages.len()).map(|at| as_text.contains(&at) || alone(at)).collect();
    *messages =
        messages.drain(..).zip(as_text).map(|(m, as_text)| if as_text { calls_as_text(m) } else { m }).collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(id: &str, name: &str) -> Value {
        json!({ "role": "assistant", "content": "", "tool_calls": [{ "id": id, "function": { "name": name } }] })
    }

    fn result(id: &str, content: &str) -> Value {
        json!({ "role": "tool", "tool_call_id": id, "content": content })
    }

    /// The ids of calls and results in their order.
    fn ids(messages: &[Value]) -> Vec<String> {
        let of = |m: &Value| match is_result(m) {
            true => vec![m["tool_call_id"].as_str().unwrap_or("none").to_string()],
            false => calls(m).iter().map(|call| call["id"].as_str().unwrap_or("none").to_string()).collect(),
        };
        messages.iter().flat_map(of).collect()
    }

    #[test]
    fn ids_are_rewritten_alike_in_calls_and_results() {
        let mut two = call("call_1", "f");
        two["tool_calls"]
            .as_array_mut()
            .expect("calls")
            .push(json!({ "id": "abcDEF123", "function": { "name": "g" } }));
        let rows: Vec<(Vec<Value>, &[&str])> = vec![
            (vec![call("call_1", "f"), result("call_1", "")], &["call00000", "call00000"]),
            // A client that counts from 0 in every turn.
            (
                vec![call("0", "f"), result("0", ""), call("0", "f"), result("0", "")],
                &["call00000", "call00000", "call00001", "call00001"],
            ),
            (
                vec![two.clone(), result("abcDEF123", ""), result("call_1", "")],
                &["call00000", "abcDEF123", "abcDEF123", "call00000"],
            ),
            // Without ids: by name, then by order.
            (
                vec![two, json!({ "role": "tool", "tool_name": "g" }), json!({ "role": "tool" })],
                &["call00000", "abcDEF123", "abcDEF123", "call00000"],
            ),
            (vec![call("call00000", "f"), call("x", "f")], &["call00000", "call00001"]),
            (vec![result("x", "")], &["call00000"]),
        ];
        for (mut messages, want) in rows {
            let begin = messages.clone();
            rewrite_ids(&mut messages);
            assert_eq!(ids(&messages), want, "{begin:?}");
            // A longer conversation has the same ids at its beginning.
            let mut longer = [begin, vec![call("y", "f"), result("y", "")]].concat();
            rewrite_ids(&mut longer);
            assert_eq!(ids(&longer)[..want.len()], *want);
        }
    }

    #[test]
    fn arguments_become_objects_and_lose_nothing() {
        let read = |arguments: Value| {
            let mut messages = [json!({ "tool_calls": [{ "function": { "name": "f", "arguments": arguments } }] })];
            parse_arguments(&mut messages);
            messages[0]["tool_calls"][0]["function"]["arguments"].clone()
        };
        assert_eq!(read(json!("")), json!({}));
        assert_eq!(read(Value::Null), json!({}));
        assert_eq!(read(json!("{\"a\": 1}")), json!({ "a": 1 }));
        assert_eq!(read(json!("{\"a\": 1")), json!({ "arguments": "{\"a\": 1" }));
        assert_eq!(read(json!([1])), json!({ "arguments": "[1]" }));
    }

    #[test]
    fn results_follow_their_calls_one_by_one() {
        let mut two = call("a", "f");
        two["tool_calls"].as_array_mut().expect("calls").push(json!({ "id": "b", "function": { "name": "g" } }));
        let user = json!({ "role": "user", "content": "u" });
        let mut messages = vec![two.clone(), user.clone(), result("b", "B"), result("a", "A"), result("z", "Z")];
        order_results(&mut messages);
        assert_eq!(messages, [two, result("a", "A"), result("b", "B"), user, result("z", "Z")]);
        split(&mut messages);
        assert_eq!(ids(&messages), ["a", "a", "b", "b", "z"]);
        unpaired_calls_as_text(&mut messages);
        assert_eq!(messages[5], json!({ "role": "user", "content": "<tool_response>Z</tool_response>" }));
        assert!(is_result(&messages[1]) && has_calls(&messages[2]));
    }
}
