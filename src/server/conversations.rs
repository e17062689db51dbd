//! Ordinary conversations (`tests/data/conversations.json`) in every dialect, through every published template: all
//! render, and no content is lost.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use firelight::template::ChatTemplate;
use serde_json::{Map, Value, json};

use super::http_error::HttpError;
use super::{anthropic, ollama, openai, responses};
use firelight::conversation::{Conversation, ResponseFormat, render};

/// A dialect: its name, the conversion of an OpenAI conversation to it, and the function that reads the result.
type Dialect = (&'static str, fn(&Value) -> Value, fn(Value) -> Result<Conversation, HttpError>);

const DIALECTS: [Dialect; 4] = [
    ("openai", |history| history.clone(), openai::read_chat),
    ("responses", to_responses, responses::read_chat),
    ("ollama", to_ollama, ollama::read_chat),
    ("anthropic", to_anthropic, anthropic::read_chat),
];

/// Conversations that a template refuses in every form: template, history, reason. The test fails if a row renders.
const FORBIDDEN: &[(&str, &str, &str)] = &[];

/// Content that templates omit from conversations that they render: template, the first of the words, and a description
/// of the content. Such a conversation may not be changed. An unused row is a failure.
const OMITTED: &[(&str, &str, &str)] = &[
    ("GLM-4.7-Flash", "pondering", "reasoning of earlier turns"),
    ("Qwen-Qwen3-0.6B", "pondering", "reasoning of earlier turns"),
    ("Qwen3.5-4B", "pondering", "reasoning of earlier turns"),
    ("deepseek-ai-DeepSeek-R1-Distill-Llama-8B", "pondering", "reasoning of earlier turns"),
    ("deepseek-ai-DeepSeek-V3.1", "pondering", "reasoning of earlier turns"),
    ("HuggingFaceTB-SmolLM3-3B", "metric", "system messages after the first"),
    ("openai-gpt-oss-120b", "metric", "system messages after the first"),
    ("deepseek-ai-DeepSeek-R1-Distill-Llama-8B", "kindly", "system messages before the last"),
    ("mistralai-Mistral-Nemo-Instruct-2407", "kindly", "system messages, if the user does not have the last word"),
    ("NousResearch-Hermes-3-Llama-3.1-8B-tool_use", "bravo", "text next to calls"),
    ("meta-llama-Llama-3.1-8B-Instruct", "bravo", "text next to calls"),
    ("meta-llama-Llama-3.2-3B-Instruct", "bravo", "text next to calls"),
    ("mistralai-Mistral-Nemo-Instruct-2407", "bravo", "text next to calls, also if ids are rewritten"),
    ("openai-gpt-oss-120b", "bravo", "text next to calls, once a final answer follows"),
    ("openai-gpt-oss-120b", "Trento", "calls after the first of a message"),
    ("deepseek-ai-DeepSeek-R1-Distill-Llama-8B", "Ravenna", "arguments, if there is text next to the call"),
    ("deepseek-ai-DeepSeek-R1-Distill-Llama-8B", "weather", "a call, if there is text next to it"),
];

fn data(path: &str) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The published templates by name, or none (with a note; a failure in CI) where they are missing.
fn templates() -> BTreeMap<String, String> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let root = std::env::var_os("FIRELIGHT_SHARED").map_or_else(default, PathBuf::from).join("data/templates");
    let Ok(files) = std::fs::read_dir(&root) else {
        assert!(std::env::var_os("CI").is_none(), "{} is missing: set FIRELIGHT_SHARED", root.display());
        eprintln!("left out: {} is missing", root.display());
        return BTreeMap::new();
    };
    let named = files.map(|file| {
        let path = file.unwrap().path();
        let template = data(path.to_str().unwrap())["template"].as_str().unwrap().to_owned();
        (path.file_stem().unwrap().to_string_lossy().into_owned(), template)
    });
    named.collect()
}

/// The table's conversations, with their tools in place.
fn histories() -> Vec<Value> {
    let table = data(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/conversations.json"));
    let whole = |mut history: Value| {
        for tool in history["tools"].as_array_mut().into_iter().flatten() {
            if let Some(name) = tool.as_str() {
                *tool = table["tools"][name].clone();
            }
        }
        history
    };
    table["histories"].as_array().unwrap().iter().cloned().map(whole).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The text of an OpenAI content.
fn plain(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().map(|part| part["text"].as_str().unwrap()).collect(),
        Value::Null => String::new(),
        json => json.to_string(),
    }
}

/// The assistant's text. Dialects without a field for refusals carry a refusal as text.
fn said(message: &Value) -> String {
    let refusal = message["refusal"].as_str().unwrap_or_default();
    plain(&message["content"]) + refusal
}

/// The arguments of a call as an object; broken JSON becomes one string member.
fn object(call: &Value) -> Value {
    match &call["function"]["arguments"] {
        Value::String(text) if text.is_empty() => json!({}),
        Value::String(text) => match serde_json::from_str(text) {
            Ok(object @ Value::Object(_)) => object,
            _ => json!({ "raw": text }),
        },
        Value::Null => json!({}),
        object => object.clone(),
    }
}

/// As Ollama's client sends it: no ids and no types, arguments are objects, results have the tool's name.
fn to_ollama(history: &Value) -> Value {
    let mut names = Vec::new();
    let message = |message: &Value| {
        let mut said = json!({ "role": message["role"], "content": said(message) });
        if message["role"] == "developer" {
            said["role"] = "system".into();
        }
        if let Some(thought) = message["reasoning_content"].as_str() {
            said["thinking"] = thought.into();
        }
        if let Some(calls) = message["tool_calls"].as_array() {
            let call = |call: &Value| {
                names.push((call["id"].clone(), call["function"]["name"].clone()));
                json!({ "function": { "name": call["function"]["name"], "arguments": object(call) } })
            };
            said["tool_calls"] = calls.iter().map(call).collect();
        }
        if message["role"] == "tool" {
            let of = names.iter().rev().find(|(id, _)| *id == message["tool_call_id"]);
            said["tool_name"] = of.map_or("weather".into(), |(_, name)| name.clone());
        }
        said
    };
    let messages: Value = list(&history["messages"]).iter().map(message).collect();
    // Ollama has no choice of tools: a client that wants no call sends no tools.
    let tools = if history["tool_choice"] == "none" { &Value::Null } else { &history["tools"] };
    json!({ "messages": messages, "tools": tools })
}

/// As items of the Responses API.
fn to_responses(history: &Value) -> Value {
    let mut items = Vec::new();
    for message in list(&history["messages"]) {
        let text = said(message);
        if message["role"] == "tool" {
            let id = message["tool_call_id"].as_str().unwrap_or("fc_0");
            items.push(json!({ "type": "function_call_output", "call_id": id, "output": text }));
            continue;
        }
        let calls = list(&message["tool_calls"]);
        if !text.is_empty() || calls.is_empty() {
            let kind = if message["role"] == "assistant" { "output_text" } else { "input_text" };
            let content = json!([{ "type": kind, "text": text }]);
            items.push(json!({ "type": "message", "role": message["role"], "content": content }));
        }
        for call in calls {
            let arguments = match &call["function"]["arguments"] {
                Value::String(text) => text.clone(),
                _ => object(call).to_string(),
            };
            let id = call["id"].as_str().unwrap_or("fc_0");
            let name = &call["function"]["name"];
            items.push(json!({ "type": "function_call", "call_id": id, "name": name, "arguments": arguments }));
        }
    }
    let tool = |tool: &Value| {
        let mut flat = tool["function"].clone();
        flat["type"] = "function".into();
        flat
    };
    let tools: Vec<Value> = list(&history["tools"]).iter().map(tool).collect();
    json!({ "input": items, "tools": tools, "tool_choice": history["tool_choice"] })
}

/// The history in Anthropic's blocks. As its clients do, the user carries later system messages, and one message holds
/// a result and the text after it.
fn to_anthropic(history: &Value) -> Value {
    let messages = list(&history["messages"]);
    let is_system = |message: &&Value| ["system", "developer"].iter().any(|role| message["role"] == *role);
    let leading = messages.iter().take_while(is_system).count();
    let system: Vec<Value> = messages[..leading]
        .iter()
        .map(|message| json!({ "type": "text", "text": plain(&message["content"]) }))
        .collect();
    let mut turns: Vec<Value> = Vec::new();
    for message in &messages[leading..] {
        let text = said(message);
        let role = if message["role"] == "assistant" { "assistant" } else { "user" };
        let mut blocks = Vec::new();
        if let Some(thought) = message["reasoning_content"].as_str() {
            blocks.push(json!({ "type": "thinking", "thinking": thought, "signature": "" }));
        }
        if message["role"] == "tool" {
            let id = message["tool_call_id"].as_str().unwrap_or("toolu_0");
            let content = match &message["content"] {
                Value::Array(_) => message["content"].clone(),
                _ => text.into(),
            };
            blocks.push(json!({ "type": "tool_result", "tool_use_id": id, "content": content, "is_error": false }));
        } else if !text.is_empty() || list(&message["tool_calls"]).is_empty() {
            blocks.push(json!({ "type": "text", "text": text }));
        }
        for call in list(&message["tool_calls"]) {
            let id = call["id"].as_str().unwrap_or("toolu_0");
            let name = &call["function"]["name"];
            blocks.push(json!({ "type": "tool_use", "id": id, "name": name, "input": object(call) }));
        }
        let follows = |last: &&mut Value| role == "user" && last["content"][0]["type"] == "tool_result";
        match turns.last_mut().filter(follows) {
            Some(last) => last["content"].as_array_mut().unwrap().append(&mut blocks),
            None => turns.push(json!({ "role": role, "content": blocks })),
        }
    }
    let tool = |tool: &Value| {
        let function = tool["function"].as_object().unwrap().clone();
        let renamed = function.into_iter().map(|(key, value)| match key.as_str() {
            "parameters" => ("input_schema".to_owned(), value),
            _ => (key, value),
        });
        renamed.collect::<Map<_, _>>()
    };
    let tools: Vec<_> = list(&history["tools"]).iter().map(tool).collect();
    let choice = match history["tool_choice"].as_str() {
        Some("required") => json!({ "type": "any" }),
        Some(word) => json!({ "type": word }),
        None => Value::Null,
    };
    json!({ "system": system, "messages": turns, "tools": tools, "tool_choice": choice, "max_tokens": 9 })
}

/// The words of a conversation.
fn words(history: &Value) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for message in list(&history["messages"]) {
        texts.push(said(message));
        let functions = list(&message["tool_calls"]).iter().map(|call| &call["function"]);
        for function in functions.chain([&message["function_call"]]) {
            texts.extend(function["name"].as_str().map(str::to_owned));
            match &function["arguments"] {
                Value::String(text) => texts.push(text.clone()),
                arguments => texts.push(arguments.to_string()),
            }
        }
    }
    if history["tool_choice"] != "none" {
        for tool in list(&history["tools"]) {
            texts.extend(tool["function"]["name"].as_str().map(str::to_owned));
            texts.extend(tool["function"]["description"].as_str().map(str::to_owned));
            let properties = tool["function"]["parameters"]["properties"].as_object();
            texts.extend(properties.into_iter().flat_map(Map::keys).cloned());
        }
    }
    let word = |text: String| text.split(|c: char| !c.is_alphanumeric()).map(str::to_owned).collect::<Vec<_>>();
    let ignored = |word: &String| word.is_empty() || ["null", "true", "think"].contains(&word.as_str());
    texts.into_iter().flat_map(word).filter(|word| !ignored(word)).collect()
}

/// The result for a conversation.
struct Outcome {
    changes: Vec<&'static str>,
    text: Result<String, String>,
    /// For a conversation that is not to be continued: the rendering without a normal form, with arguments as text if
    /// the template expects that.
    native: Option<String>,
    /// The text that is to be continued.
    begun: Option<String>,
}

fn render_in(source: &str, template: &ChatTemplate, dialect: &Dialect, history: &Value) -> Outcome {
    let mut outcome = Outcome { changes: Vec::new(), text: Ok(String::new()), native: None, begun: None };
    let mut chat = match (dialect.2)((dialect.1)(history)) {
        Ok(chat) => chat,
        Err(failure) => return Outcome { text: Err(failure.message), ..outcome },
    };
    chat.date = Some(super::today());
    outcome.begun = chat.continues().then(|| plain(&chat.messages[chat.messages.len() - 1]["content"]));
    let native = RefCell::new(None);
    let rendered = render(
        source,
        |mut input| {
            let rendering = template.render_normal(&input);
            let plain = template.render(&input).or_else(|_| {
                for arguments in input.messages.iter_mut().flat_map(arguments).filter(|a| a.is_object()) {
                    *arguments = arguments.to_string().into();
                }
                template.render(&input)
            });
            *native.borrow_mut() = plain.ok().filter(|_| !input.continue_final_message);
            rendering.inspect(|r| assert_eq!(native.borrow().as_ref().unwrap_or(&r.text), &r.text))
        },
        &chat,
        &ResponseFormat::Text,
    );
    outcome.native = native.into_inner();
    match rendered {
        Ok(rendered) => Outcome { changes: rendered.changes, text: Ok(rendered.text), ..outcome },
        Err(error) => Outcome { text: Err(error.to_string()), ..outcome },
    }
}

/// The arguments of a message's calls.
fn arguments(message: &mut Value) -> Vec<&mut Value> {
    let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten();
    calls.filter_map(|call| call.pointer_mut("/function/arguments")).collect()
}

#[test]
fn every_template_takes_every_conversation() {
    let (templates, histories) = (templates(), histories());
    let (mut faults, mut forbidden, mut omitted) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    let mut all = [0; 3];
    for (name, source) in &templates {
        let template = ChatTemplate::new(source).unwrap();
        let mut counts = [0; 3];
        for dialect in &DIALECTS {
            for history in &histories {
                if history["dialects"].as_array().is_some_and(|only| !only.contains(&dialect.0.into())) {
                    continue;
                }
                let row = history["name"].as_str().unwrap();
                let Outcome { changes, text, native, begun } = render_in(source, &template, dialect, history);
                let place = format!("{name}, {}, {row:?} ({})", dialect.0, changes.join(", "));
                let unchanged = changes.iter().all(|change| *change == "arguments-as-text");
                let counted = [true, text.is_ok() && unchanged, text.is_ok()];
                counts.iter_mut().zip(counted).for_each(|(count, counted)| *count += usize::from(counted));
                let text = match text {
                    Ok(text) => text,
                    Err(error) => {
                        match FORBIDDEN.iter().position(|(t, h, _)| t == name && *h == row) {
                            Some(known) => drop(forbidden.insert(known)),
                            None => faults.push(format!("{place}: {error}")),
                        }
                        continue;
                    }
                };
                if native.is_some() != (begun.is_none() && unchanged) {
                    faults.push(format!("{place}: changed although it renders unchanged, or the other way around"));
                }
                if changes.contains(&"calls-as-text") {
                    faults.push(format!("{place}: calls became text"));
                }
                if begun.is_some_and(|begun| !text.ends_with(&begun)) {
                    faults.push(format!("{place}: does not end where it is to be continued: {text:?}"));
                }
                let lost: Vec<String> = words(history).into_iter().filter(|word| !text.contains(word)).collect();
                if let Some(first) = lost.first() {
                    match OMITTED.iter().position(|(t, word, _)| t == name && word == first) {
                        Some(known) => drop(omitted.insert(known)),
                        None => faults.push(format!("{place}: without {}", lost.join(" "))),
                    }
                }
            }
        }
        println!("{name:45} {:4}: {:4} unchanged, {:4} in all", counts[0], counts[1], counts[2]);
        all.iter_mut().zip(counts).for_each(|(all, count)| *all += count);
    }
    println!("{:45} {:4}: {:4} unchanged, {:4} in all", "together", all[0], all[1], all[2]);
    if templates.is_empty() {
        return;
    }
    let unneeded = |i: &usize| !forbidden.contains(i);
    faults.extend((0..FORBIDDEN.len()).filter(unneeded).map(|i| format!("{:?} renders", FORBIDDEN[i])));
    let unneeded = |i: &usize| !omitted.contains(i);
    faults.extend((0..OMITTED.len()).filter(unneeded).map(|i| format!("{:?} is not needed", OMITTED[i])));
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn errors_about_images_name_the_part() {
    let url = json!({ "url": "data:image/png;base64,AA==" });
    let said = |part: Value| json!({ "messages": [{ "role": "user", "content": [part] }] });
    let answered = |role: &str, part: Value| json!({ "messages": [{ "role": role, "content": [part] }] });
    let source = json!({ "type": "base64", "media_type": "image/png", "data": "AA==" });
    let block = json!({ "type": "image", "source": source });
    let returned = json!({ "type": "tool_result", "tool_use_id": "t", "content": [block] });
    let output = json!({ "type": "function_call_output", "call_id": "c", "output": [{ "type": "input_image" }] });
    let rows: [(usize, Value, &str); 8] = [
        (0, said(json!({ "type": "image_url", "image_url": url })), "image_url"),
        (0, answered("tool", json!({ "type": "image_url", "image_url": url })), "image_url"),
        (0, answered("assistant", json!({ "type": "audio", "audio": {} })), "audio"),
        (1, json!({ "input": [{ "role": "user", "content": [{ "type": "input_image" }] }] }), "input_image"),
        (1, json!({ "input": [output] }), "input_image"),
        (2, json!({ "messages": [{ "role": "user", "content": "", "images": ["AA=="] }] }), "images"),
        (3, said(block.clone()), "image"),
        (3, said(returned), "image"),
    ];
    for (dialect, body, word) in rows {
        let failure = (DIALECTS[dialect].2)(body.clone()).expect_err("not text");
        assert!(failure.message.contains(word), "{body}: {}", failure.message);
    }
}
