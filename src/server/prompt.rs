//! From what is asked to what the model reads: templates, tools, and where thinking begins.

use firelight::Error;
use firelight::model::Model;
use firelight::template::TemplateInput;
use firelight::tokenizer::Special;
use serde_json::{Value, json};

use super::ask::{Call, Chat, Form, Prompt};
use super::failure::Failure;
use super::grammar::call_schema;
use super::reply::Format;

/// A prompt that a session can be given.
pub struct Prepared {
    pub tokens: Vec<u32>,
    /// How the reply is to be taken apart.
    pub format: Format,
    /// Whether the reply begins within its reasoning.
    pub thinking: bool,
    /// What the whole answer must be.
    pub schema: Option<Value>,
}

/// Makes a prompt ready. `fits` may refuse a text before it is read.
pub fn prepare(
    model: &Model,
    prompt: &Prompt,
    form: &Form,
    fits: impl Fn(&str) -> Result<(), Failure>,
) -> Result<Prepared, Failure> {
    let encode = |text: &str, special| {
        fits(text)?;
        model.tokenizer.encode(text, special).map_err(|e| Failure::refused(&e))
    };
    let schema = match form {
        Form::Free => None,
        Form::Schema(schema) => Some(schema.clone()),
    };
    let plain = |tokens| Prepared { tokens, format: Format::Text, thinking: false, schema: schema.clone() };
    match prompt {
        Prompt::Text(text) => Ok(plain(encode(text, Special::ALL)?)),
        Prompt::Tokens(tokens) => Ok(plain(tokens.clone())),
        Prompt::Chat(chat) => {
            let chat = render(model, chat, schema).map_err(|e| Failure::refused(&e))?;
            let tokens = encode(&chat.text, Special::PARSE)?;
            Ok(Prepared { tokens, format: chat.format, thinking: chat.thinking, schema: chat.schema })
        }
    }
}

/// As [`Prepared`], but for the tokens.
struct Rendered {
    text: String,
    format: Format,
    thinking: bool,
    schema: Option<Value>,
}

fn render(model: &Model, chat: &Chat, schema: Option<Value>) -> firelight::Result<Rendered> {
    let source = model.checkpoint.metadata.get_str("tokenizer.chat_template")?.unwrap_or_default();
    let known = Format::of_template(source);
    let forced = match &chat.call {
        Call::Free => None,
        Call::Any => Some(call_schema(&chat.tools, None)),
        Call::Named(name) => Some(call_schema(&chat.tools, Some(name))),
    };
    let format = match (&forced, known) {
        (Some(_), _) => Format::Forced,
        _ if chat.tools.is_empty() || schema.is_some() => Format::Chat,
        (None, Some(format)) => format,
        (None, None) => Format::Hermes,
    };
    let schema = forced.or(schema);
    let mut extra = chat.extra.clone();
    // What must be of a form from its first letter on cannot begin with thoughts.
    let think = if schema.is_some() { Some(false) } else { chat.think };
    if let Some(think) = think {
        extra.entry("enable_thinking").or_insert(think.into());
    }
    let mut input = TemplateInput {
        messages: chat.messages.clone(),
        add_generation_prompt: true,
        date: Some(crate::cli::today()),
        extra,
        ..Default::default()
    };
    match known {
        _ if chat.tools.is_empty() => {}
        Some(_) => input.tools = Some(chat.tools.clone()),
        None => input.messages = explain_tools(input.messages, &chat.tools)?,
    }
    let mut text = model.render_chat(input)?;
    let mut thinking = text.trim_end().ends_with("<think>");
    if thinking && think == Some(false) {
        text.push_str("\n</think>\n\n");
        thinking = false;
    }
    if format == Format::Forced && known == Some(Format::Hermes) {
        text.push_str("<tool_call>\n");
    }
    Ok(Rendered { text, format, thinking, schema })
}

/// Tools for a template that knows nothing of them: they are described to the model in the system message, and what was
/// called before is told as text.
fn explain_tools(messages: Vec<Value>, tools: &[Value]) -> firelight::Result<Vec<Value>> {
    let tools: Vec<String> = tools.iter().map(Value::to_string).collect();
    let explanation = format!(
        "You can call these tools:\n{}\nTo call one, write <tool_call>{{\"name\": NAME, \"arguments\": {{...}}}}</tool_call> \
         and nothing after it. You will be told what it returned.",
        tools.join("\n")
    );
    let mut told: Vec<Value> = messages.into_iter().map(tell_calls).collect::<firelight::Result<_>>()?;
    match told.first_mut().filter(|first| first["role"] == "system") {
        Some(first) => {
            let system = first["content"].as_str().unwrap_or_default();
            first["content"] = format!("{system}\n\n{explanation}").into();
        }
        None => told.insert(0, json!({ "role": "system", "content": explanation })),
    }
    Ok(told)
}

fn tell_calls(message: Value) -> firelight::Result<Value> {
    let content = message["content"].as_str().unwrap_or_default();
    if message["role"] == "tool" {
        return Ok(json!({ "role": "user", "content": format!("<tool_response>{content}</tool_response>") }));
    }
    let Some(calls) = message["tool_calls"].as_array() else { return Ok(message) };
    let mut text = content.to_string();
    for call in calls {
        let Some(function) = call.get("function") else {
            return Err(Error::Usage("a message has a tool call without a function".into()));
        };
        let call = json!({ "name": function["name"], "arguments": function["arguments"] });
        text += &format!("<tool_call>{call}</tool_call>");
    }
    Ok(json!({ "role": message["role"], "content": text }))
}
