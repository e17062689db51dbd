//! What is asked of a model: the one form to which every dialect's requests are brought. Plain data.

use std::time::Duration;

use firelight::sampler::Sampling;
use serde_json::{Map, Value};

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
    /// Whether the model is to think before it answers, where its template knows of that.
    pub think: Option<bool>,
    /// More variables for the template.
    pub extra: Map<String, Value>,
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
/// `system`.
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
    match role {
        "system" | "user" | "assistant" | "tool" => {}
        "developer" => {
            message.insert("role".into(), "system".into());
        }
        other => return Err(format!("the role {other:?} is none of system, developer, user, assistant, tool")),
    }
    let content = text(message.get("content").unwrap_or(&Value::Null))?;
    message.insert("content".into(), content.into());
    if let Some(Value::Array(calls)) = message.get_mut("tool_calls") {
        calls.iter_mut().for_each(read_arguments);
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
        (Some("text" | "input_text" | "output_text"), Some(text)) => Ok(text.into()),
        (kind, _) => Err(format!("parts of type {:?} cannot be read; only text can", kind.unwrap_or("unknown"))),
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
    use serde_json::json;

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
    fn names_differ() {
        assert_eq!(token(9).len(), 9);
        assert_ne!(token(9), token(9));
    }
}
