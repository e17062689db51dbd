//! Converts OpenAI's messages to the format of chat templates. Contents that are not text are refused.

use serde_json::{Map, Value, json};

use super::{Conversation, ToolChoice};
use crate::{Error, Result};

/// Converts OpenAI's messages to those of chat templates: contents become strings, arguments of calls objects,
/// `developer` becomes `system`, and the older `function_call` a tool call.
///
/// # Errors
/// [`Error::Usage`] if one is not a message, or has parts that are not text.
pub fn read_messages(messages: Vec<Value>) -> Result<Vec<Value>> {
    messages
        .into_iter()
        .enumerate()
        .map(|(i, m)| message(m).map_err(|e| Error::Usage(format!("messages[{i}]: {e}"))))
        .collect()
}

fn message(message: Value) -> Result<Value, String> {
    let Value::Object(mut message) = message else { return Err("it is not an object".into()) };
    let role = message.get("role").and_then(Value::as_str).ok_or("it has no role")?;
    let known = match role {
        "system" | "user" | "assistant" | "tool" => role,
        "developer" => "system",
        "function" => "tool",
        other => {
            return Err(format!("the role {other:?} is none of system, developer, user, assistant, tool, function"));
        }
    };
    let content = message.get("content").unwrap_or(&Value::Null);
    let (content, thought) = match known {
        "tool" => (tool_result(content)?, String::new()),
        "assistant" => (said(&message)?, thought(content)),
        _ => (content_text(content)?, String::new()),
    };
    message.insert("role".into(), known.into());
    message.insert("content".into(), content.into());
    if !thought.is_empty() {
        message.entry("reasoning_content").or_insert(thought.into());
    }
    if let Some(call @ Value::Object(_)) = message.remove("function_call")
        && message.get("tool_calls").and_then(Value::as_array).is_none_or(Vec::is_empty)
    {
        message.insert("tool_calls".into(), json!([{ "type": "function", "function": call }]));
    }
    match message.get_mut("tool_calls") {
        Some(Value::Array(calls)) if !calls.is_empty() => calls.iter_mut().for_each(read_arguments),
        // SDKs send an empty list.
        Some(Value::Null | Value::Array(_)) => drop(message.remove("tool_calls")),
        _ => {}
    }
    Ok(Value::Object(message))
}

/// The text of a message's content: a string, or a list of text parts.
///
/// # Errors
/// If it is neither, or a part is not text.
pub fn content_text(content: &Value) -> Result<String, String> {
    match content {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => parts.iter().map(part_text).collect(),
        _ => Err("the content is neither a text nor a list of parts".into()),
    }
}

fn part_text(part: &Value) -> Result<String, String> {
    match (part["type"].as_str(), part["text"].as_str()) {
        _ if part.is_string() => content_text(part),
        (Some("text" | "input_text" | "output_text") | None, Some(text)) => Ok(text.into()),
        (kind, _) => Err(format!("parts of type {:?} cannot be read; only text can", kind.unwrap_or("unknown"))),
    }
}

/// The text of an assistant's message: its content and its refusal, without its reasoning.
fn said(message: &Map<String, Value>) -> Result<String, String> {
    match message.get("content") {
        None | Some(Value::Null) => content_text(message.get("refusal").unwrap_or(&Value::Null)),
        Some(Value::Array(parts)) => parts
            .iter()
            .map(|part| match part["type"].as_str() {
                Some("refusal") => content_text(&part["refusal"]),
                Some("thinking" | "reasoning") => Ok(String::new()),
                _ => part_text(part),
            })
            .collect(),
        Some(content) => content_text(content),
    }
}

/// The reasoning among the parts of a content.
fn thought(content: &Value) -> String {
    let parts = content.as_array().into_iter().flatten();
    let parts = parts.filter(|part| part["type"] == "thinking" || part["type"] == "reasoning");
    let thoughts = parts.flat_map(|part| ["thinking", "reasoning", "text"].map(|key| content_text(&part[key])));
    thoughts.filter_map(Result::ok).collect()
}

/// Parts of a tool's result that are neither text nor JSON.
const MEDIA: [&str; 9] =
    ["image", "image_url", "input_image", "audio", "input_audio", "video", "file", "input_file", "document"];

/// A tool's result as text. Clients send a string, text parts, or JSON.
///
/// # Errors
/// If it has an image, audio or file part.
pub fn tool_result(content: &Value) -> Result<String, String> {
    let is_media = |part: &Value| part["type"].as_str().is_some_and(|kind| MEDIA.contains(&kind));
    match (content_text(content), content) {
        (Err(error), Value::Array(parts)) if parts.iter().any(is_media) => Err(error),
        (Err(_), json) => Ok(json.to_string()),
        (text, _) => text,
    }
}

/// Parses arguments that are JSON in a string: templates serialize them.
fn read_arguments(call: &mut Value) {
    let Some(arguments) = call.pointer_mut("/function/arguments") else { return };
    if let Some(read) = arguments.as_str().and_then(|text| serde_json::from_str::<Map<String, Value>>(text).ok()) {
        *arguments = Value::Object(read);
    }
}

/// The names of tools.
pub fn tool_names(tools: &[Value]) -> Vec<&str> {
    tools.iter().filter_map(|tool| tool.pointer("/function/name")?.as_str()).collect()
}

/// Checks that the tools have names, and that the one that must be called is among them.
///
/// # Errors
/// [`Error::Usage`] if not.
pub fn check_tools(chat: &Conversation) -> Result<()> {
    if let Some(i) = chat.tools.iter().position(|t| t.pointer("/function/name").and_then(Value::as_str).is_none()) {
        return Err(usage(format!("tools[{i}] has no function.name")));
    }
    let names = tool_names(&chat.tools);
    match &chat.tool_choice {
        ToolChoice::Auto => Ok(()),
        ToolChoice::Required if names.is_empty() => Err(usage("a tool must be called, but there are no tools")),
        ToolChoice::Required => Ok(()),
        ToolChoice::Named(name) if names.contains(&name.as_str()) => Ok(()),
        ToolChoice::Named(name) => {
            Err(usage(format!("the tool {name:?} must be called, but there are only {}", names.join(", "))))
        }
    }
}

fn usage(message: impl Into<String>) -> Error {
    Error::Usage(message.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_become_what_templates_want() {
        let given = vec![
            json!({"role": "developer", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "kind."}]}),
            json!({"role": "assistant", "content": null, "tool_calls": [
                {"id": "x", "function": {"name": "f", "arguments": "{\"a\": [1, 2]}"}},
                {"id": "y", "function": {"name": "g", "arguments": "no JSON"}}]}),
        ];
        let got = read_messages(given).unwrap();
        assert_eq!((&got[0]["role"], &got[0]["content"]), (&json!("system"), &json!("Be kind.")));
        assert_eq!(got[1]["content"], "");
        assert_eq!(got[1]["tool_calls"][0]["function"]["arguments"], json!({"a": [1, 2]}));
        assert_eq!(got[1]["tool_calls"][1]["function"]["arguments"], "no JSON");
        for bad in
            [json!("hi"), json!({"content": "x"}), json!({"role": "king"}), json!({"role": "user", "content": 1})]
        {
            assert!(read_messages(vec![bad.clone()]).is_err(), "{bad}");
        }
        let image = json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]});
        assert!(read_messages(vec![image]).unwrap_err().to_string().contains("image_url"));
    }

    #[test]
    fn older_and_odder_messages_are_read() {
        let given = json!([
            {"role": "assistant", "content": null, "tool_calls": null, "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": {"a": 1}},
            {"role": "assistant", "content": null, "refusal": "No.", "tool_calls": [], "function_call": null},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}, "Yes."]},
            {"role": "tool", "content": ["a", "b"]},
        ]);
        let got = read_messages(given.as_array().unwrap().clone()).unwrap();
        assert_eq!(got[0]["tool_calls"], json!([{"type": "function", "function": {"name": "f", "arguments": {}}}]));
        assert_eq!(got[1], json!({"role": "tool", "name": "f", "content": "{\"a\":1}"}));
        assert_eq!(got[2], json!({"role": "assistant", "content": "No.", "refusal": "No."}));
        assert_eq!((&got[3]["content"], &got[3]["reasoning_content"]), (&json!("Yes."), &json!("Hm.")));
        assert_eq!(got[4]["content"], "ab");
        let picture = json!({"role": "tool", "content": [{"type": "image_url", "image_url": {"url": "x"}}]});
        assert!(read_messages(vec![picture]).unwrap_err().to_string().contains("image_url"));
    }

    #[test]
    fn a_last_text_of_the_assistant_is_continued() {
        let continues = |last: Value, new_turn| {
            Conversation { messages: read_messages(vec![last]).unwrap(), new_turn, ..Default::default() }.continues()
        };
        let call = json!([{"function": {"name": "f"}}]);
        assert!(continues(json!({"role": "assistant", "content": "So", "tool_calls": []}), false));
        assert!(!continues(json!({"role": "assistant", "content": "So"}), true));
        assert!(!continues(json!({"role": "assistant", "content": "So", "tool_calls": call}), false));
        assert!(!continues(json!({"role": "user", "content": "So"}), false));
    }
}
