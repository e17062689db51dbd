//! What is asked of a model: the one form to which every dialect's requests are brought. Plain data.

use std::time::Duration;

use firelight::sampler::Sampling;
use serde_json::{Map, Value, json};

use super::failure::Failure;
use super::fields::Fields;

/// A request for answers.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The model's name; empty for the first.
    pub model: String,
    pub prompts: Vec<Prompt>,
    /// Answers to each prompt.
    pub choices: usize,
    pub sampling: Sampling,
    pub stop: Vec<String>,
    pub max_tokens: Option<usize>,
    pub form: Form,
    /// How long the model stays loaded after this, if not as long as the server was told.
    pub keep_alive: Option<Duration>,
}

/// What a model reads.
#[derive(Clone, Debug)]
pub enum Prompt {
    /// A text to be continued.
    Text(String),
    /// The same as ids.
    Tokens(Vec<u32>),
    /// A conversation, through the model's template.
    Chat(Chat),
}

/// A conversation, its messages as templates want them; see [`messages`].
#[derive(Clone, Debug, Default)]
pub struct Chat {
    pub messages: Vec<Value>,
    /// `{"type": "function", "function": {"name", "description", "parameters"}}`
    pub tools: Vec<Value>,
    pub call: Call,
    /// Whether the answer is another message even if the last one is the assistant's; see [`Chat::continues`].
    pub another_turn: bool,
    /// Whether the model is to think before it answers, where its template knows of that.
    pub think: Option<bool>,
    /// More variables for the template.
    pub extra: Map<String, Value>,
}

impl Chat {
    /// Whether the answer continues the last message: where that is a text of the assistant, unless another is asked for.
    pub fn continues(&self) -> bool {
        let called = |message: &Value| message["tool_calls"].as_array().is_some_and(|calls| !calls.is_empty());
        let said = |message: &Value| message["role"] == "assistant" && !called(message);
        !self.another_turn && self.messages.last().is_some_and(said)
    }
}

/// Whether tools are called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Call {
    /// As the model likes.
    #[default]
    Free,
    /// One of them must be.
    Any,
    /// This one must be.
    Named(String),
}

/// The form that answers must have.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Form {
    #[default]
    Free,
    /// JSON of a schema; before it the name of the field that brought it, as with the others.
    Schema(String, Value),
    /// One of these texts.
    Choice(Vec<String>),
    /// A text that a regular expression matches from its beginning to its end.
    Regex(String, String),
    /// A text of a grammar as Lark writes them.
    Lark(String, String),
}

impl Form {
    /// The field that brought it, if it is known.
    pub fn field(&self) -> Option<String> {
        match self {
            Form::Free | Form::Choice(_) => None,
            Form::Schema(field, _) | Form::Regex(field, _) | Form::Lark(field, _) => Some(field.clone()),
        }
    }
}

/// Answers to one request, at most.
const MOST_ANSWERS: usize = 64;

impl Ask {
    /// Whether it asks for more than anyone needs.
    pub fn check(&self) -> Result<(), Failure> {
        let answers = self.prompts.len().saturating_mul(self.choices);
        if !(1..=MOST_ANSWERS).contains(&answers) {
            let message = format!("{answers} answers are asked for at once; from 1 to {MOST_ANSWERS} are possible");
            return Err(Failure::bad(message));
        }
        self.sampling.check().map_err(|e| Failure::refused(&e))
    }
}

/// Reads how tokens are chosen, in the names that all dialects share. What a request does not name is as the library has
/// it; the seed differs each time.
pub fn sampling(fields: &mut Fields) -> Result<Sampling, Failure> {
    // A negative seed means "any".
    let seed = fields.integer("seed")?.and_then(|seed| u64::try_from(seed).ok()).unwrap_or_else(random);
    let mut sampling = Sampling { seed, ..Default::default() };
    // A negative number switches it off, as 0 does.
    if let Some(k) = fields.integer("top_k")? {
        sampling.top_k = u32::try_from(k.max(0)).unwrap_or(u32::MAX);
    }
    type Set = fn(&mut Sampling, f32);
    let numbers: [(&str, Set); 7] = [
        ("temperature", |s, x| s.temperature = x),
        ("top_p", |s, x| s.top_p = x),
        ("min_p", |s, x| s.min_p = x),
        ("frequency_penalty", |s, x| s.frequency_penalty = x),
        ("presence_penalty", |s, x| s.presence_penalty = x),
        // Two names of one number; clients that know many servers send both.
        ("repetition_penalty", |s, x| s.repetition_penalty = x),
        ("repeat_penalty", |s, x| s.repetition_penalty = x),
    ];
    for (name, set) in numbers {
        if let Some(x) = fields.number(name)? {
            set(&mut sampling, x);
            sampling.check().map_err(|e| fields.wrong(name, e))?;
        }
    }
    for (token, bias) in fields.object("logit_bias")?.unwrap_or_default() {
        let read = token.parse().ok().zip(bias.as_f64()).map(|(token, bias)| (token, bias as f32));
        let finite = read.filter(|(_, bias)| bias.is_finite());
        sampling.logit_bias.push(finite.ok_or_else(|| fields.wrong("logit_bias", "it maps token ids to numbers"))?);
    }
    Ok(sampling)
}

/// A number that nobody can foresee.
pub fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

/// A name for something new: letters and digits, `len` of them (at most 12).
pub fn token(len: usize) -> String {
    const LETTERS: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let mut n = random();
    let mut next = || {
        let letter = LETTERS[(n % 62) as usize];
        n /= 62;
        letter as char
    };
    (0..len).map(|_| next()).collect()
}

/// OpenAI's messages as templates want them: contents are strings, arguments of calls are objects, `developer` is
/// `system`, and what the older `function_call` says is a call of a tool.
///
/// # Errors
/// If one is no message, or has parts that are not text.
pub fn messages(messages: Vec<Value>) -> Result<Vec<Value>, Failure> {
    messages
        .into_iter()
        .enumerate()
        .map(|(i, m)| message(m).map_err(|e| Failure::bad(format!("messages[{i}]: {e}"))))
        .collect()
}

fn message(message: Value) -> Result<Value, String> {
    let Value::Object(mut message) = message else { return Err("it is no object".into()) };
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
        "tool" => (result(content)?, String::new()),
        "assistant" => (said(&message)?, thought(content)),
        _ => (text(content)?, String::new()),
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
        // SDKs write down that there are none.
        Some(Value::Null | Value::Array(_)) => drop(message.remove("tool_calls")),
        _ => {}
    }
    Ok(Value::Object(message))
}

/// The text of a message's content: a string, or parts of text.
pub fn text(content: &Value) -> Result<String, String> {
    match content {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => parts.iter().map(part_text).collect(),
        _ => Err("the content is neither a text nor a list of parts".into()),
    }
}

fn part_text(part: &Value) -> Result<String, String> {
    match (part["type"].as_str(), part["text"].as_str()) {
        _ if part.is_string() => text(part),
        (Some("text" | "input_text" | "output_text") | None, Some(text)) => Ok(text.into()),
        (kind, _) => Err(format!("parts of type {:?} cannot be read; only text can", kind.unwrap_or("unknown"))),
    }
}

/// The text of an assistant's message: its content and its refusal, without its thoughts.
fn said(message: &Map<String, Value>) -> Result<String, String> {
    match message.get("content") {
        None | Some(Value::Null) => text(message.get("refusal").unwrap_or(&Value::Null)),
        Some(Value::Array(parts)) => parts
            .iter()
            .map(|part| match part["type"].as_str() {
                Some("refusal") => text(&part["refusal"]),
                Some("thinking" | "reasoning") => Ok(String::new()),
                _ => part_text(part),
            })
            .collect(),
        Some(content) => text(content),
    }
}

/// The thoughts among the parts of a content.
fn thought(content: &Value) -> String {
    let parts = content.as_array().into_iter().flatten();
    let parts = parts.filter(|part| part["type"] == "thinking" || part["type"] == "reasoning");
    let thoughts = parts.flat_map(|part| ["thinking", "reasoning", "text"].map(|key| text(&part[key])));
    thoughts.filter_map(Result::ok).collect()
}

/// Parts of what a tool returned that are neither text nor data of its own.
const MEDIA: [&str; 9] =
    ["image", "image_url", "input_image", "audio", "input_audio", "video", "file", "input_file", "document"];

/// A tool's result as text. Clients send a string, parts of text, or bare JSON.
pub fn result(content: &Value) -> Result<String, String> {
    let is_media = |part: &Value| part["type"].as_str().is_some_and(|kind| MEDIA.contains(&kind));
    match (text(content), content) {
        (Err(error), Value::Array(parts)) if parts.iter().any(is_media) => Err(error),
        (Err(_), json) => Ok(json.to_string()),
        (text, _) => text,
    }
}

/// Arguments that are JSON in a string become JSON: templates write them out themselves.
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

/// Whether the tools are well described, and the one that must be called is among them.
pub fn check_tools(chat: &Chat) -> Result<(), Failure> {
    if let Some(i) = chat.tools.iter().position(|t| t.pointer("/function/name").and_then(Value::as_str).is_none()) {
        return Err(Failure::bad(format!("tools[{i}] has no function.name")));
    }
    let names = tool_names(&chat.tools);
    match &chat.call {
        Call::Free => Ok(()),
        Call::Any if names.is_empty() => Err(Failure::bad("a tool must be called, but there are no tools")),
        Call::Any => Ok(()),
        Call::Named(name) if names.contains(&name.as_str()) => Ok(()),
        Call::Named(name) => {
            Err(Failure::bad(format!("the tool {name:?} must be called, but there are only {}", names.join(", "))))
        }
    }
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
        let got = messages(given).unwrap();
        assert_eq!((&got[0]["role"], &got[0]["content"]), (&json!("system"), &json!("Be kind.")));
        assert_eq!(got[1]["content"], "");
        assert_eq!(got[1]["tool_calls"][0]["function"]["arguments"], json!({"a": [1, 2]}));
        assert_eq!(got[1]["tool_calls"][1]["function"]["arguments"], "no JSON");
        for bad in
            [json!("hi"), json!({"content": "x"}), json!({"role": "king"}), json!({"role": "user", "content": 1})]
        {
            assert!(messages(vec![bad.clone()]).is_err(), "{bad}");
        }
        let image = json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]});
        assert!(messages(vec![image]).unwrap_err().message.contains("image_url"));
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
        let got = messages(given.as_array().unwrap().clone()).unwrap();
        assert_eq!(got[0]["tool_calls"], json!([{"type": "function", "function": {"name": "f", "arguments": {}}}]));
        assert_eq!(got[1], json!({"role": "tool", "name": "f", "content": "{\"a\":1}"}));
        assert_eq!(got[2], json!({"role": "assistant", "content": "No.", "refusal": "No."}));
        assert_eq!((&got[3]["content"], &got[3]["reasoning_content"]), (&json!("Yes."), &json!("Hm.")));
        assert_eq!(got[4]["content"], "ab");
        let picture = json!({"role": "tool", "content": [{"type": "image_url", "image_url": {"url": "x"}}]});
        assert!(messages(vec![picture]).unwrap_err().message.contains("image_url"));
    }

    #[test]
    fn a_last_text_of_the_assistant_is_continued() {
        let continues = |last: Value, another_turn| {
            Chat { messages: messages(vec![last]).unwrap(), another_turn, ..Default::default() }.continues()
        };
        let call = json!([{"function": {"name": "f"}}]);
        assert!(continues(json!({"role": "assistant", "content": "So", "tool_calls": []}), false));
        assert!(!continues(json!({"role": "assistant", "content": "So"}), true));
        assert!(!continues(json!({"role": "assistant", "content": "So", "tool_calls": call}), false));
        assert!(!continues(json!({"role": "user", "content": "So"}), false));
    }

    #[test]
    fn names_differ() {
        assert_eq!(token(9).len(), 9);
        assert_ne!(token(9), token(9));
    }
}
