//! From what is asked to what the model reads: templates, tools, and where thinking begins.

use firelight::Result;
use firelight::model::Model;
use firelight::template::{NO_THOUGHT, Rendering, TemplateInput, begun_thought, tell};
use firelight::tokenizer::Special;
use serde_json::{Value, json};

use super::ask::{Chat, Form, Prompt};
use super::failure::Failure;
use super::format::Format;
use super::hold::{Hold, Thought};

/// A prompt that a session can be given.
pub struct Prepared {
    pub tokens: Vec<u32>,
    /// How the reply is to be taken apart.
    pub format: Format,
    /// Whether the reply begins within its reasoning.
    pub thinking: bool,
    /// Whether the reply continues what the last message says.
    pub continues: bool,
    /// What the template made necessary to change; see [`Rendering`].
    pub changes: Vec<&'static str>,
    /// What the whole answer is held to.
    pub hold: Option<Hold>,
}

/// Makes a prompt ready. `fits` may refuse a text before it is read.
pub fn prepare(
    model: &Model,
    prompt: &Prompt,
    form: &Form,
    fits: impl Fn(&str) -> std::result::Result<(), Failure>,
) -> std::result::Result<Prepared, Failure> {
    let encode = |text: &str, special| {
        fits(text)?;
        model.tokenizer.encode(text, special).map_err(|e| Failure::refused(&e))
    };
    let plain = |tokens| Prepared {
        tokens,
        format: Format::Text,
        thinking: false,
        continues: false,
        changes: Vec::new(),
        hold: Hold::to(&Chat::default(), form, None, ""),
    };
    match prompt {
        Prompt::Text(text) => Ok(plain(encode(text, Special::ALL)?)),
        Prompt::Tokens(tokens) => Ok(plain(tokens.clone())),
        Prompt::Chat(chat) => {
            let source = model.checkpoint.metadata.get_str("tokenizer.chat_template");
            let source = source.map_err(|e| Failure::refused(&e))?.unwrap_or_default();
            let chat = render(source, |input| model.render_conversation(input), chat, form);
            let chat = chat.map_err(|e| Failure::refused(&e))?;
            let tokens = encode(&chat.text, Special::PARSE)?;
            let Rendered { format, thinking, continues, changes, hold, .. } = chat;
            Ok(Prepared { tokens, format, thinking, continues, changes, hold })
        }
    }
}

/// As [`Prepared`], but for the tokens.
pub struct Rendered {
    pub text: String,
    format: Format,
    thinking: bool,
    continues: bool,
    pub changes: Vec<&'static str>,
    hold: Option<Hold>,
}

/// Renders a chat by the template whose text is `source`.
pub fn render(
    source: &str,
    template: impl Fn(TemplateInput) -> Result<Rendering>,
    chat: &Chat,
    form: &Form,
) -> Result<Rendered> {
    let known = Format::of_template(source);
    let mut hold = Hold::to(chat, form, known, source);
    let format = match &hold {
        _ if chat.tools.is_empty() => Format::Chat,
        Some(hold) => hold.format,
        None => known.unwrap_or(Format::Hermes),
    };
    // A form is the whole answer, and so is a call that must be made, unless thoughts before a form are asked for.
    let thoughts = known == Some(Format::Harmony) || source.contains("<think>");
    let think = match &hold {
        Some(_) if format == Format::Forced || !thoughts => Some(false),
        Some(_) => Some(chat.think == Some(true)),
        None => chat.think,
    };
    let mut input = TemplateInput {
        messages: chat.messages.clone(),
        add_generation_prompt: true,
        continue_final_message: chat.continues(),
        date: Some(crate::cli::today()),
        extra: chat.extra.clone(),
        ..Default::default()
    };
    if let Some(think) = think {
        input.think(think);
    }
    if chat.tools.is_empty() {
        // What was called earlier is told even so.
        if known.is_none() {
            input.messages = input.messages.into_iter().map(tell).collect();
        }
    } else if known.is_some() && source.contains("tools") {
        input.tools = Some(chat.tools.clone());
    } else {
        if known.is_none() {
            input.messages = input.messages.into_iter().map(tell).collect();
        }
        explain_tools(&mut input.messages, &chat.tools, known.unwrap_or(Format::Hermes));
    }
    if known == Some(Format::DeepSeek) {
        input.messages.iter_mut().for_each(empty_content);
    }
    let Rendering { mut text, changes } = template(input)?;
    let continues = chat.continues();
    let mut thinking = if continues { thinks_last(chat) } else { !begun_thought(&text).is_empty() };
    if thinking && think == Some(false) {
        text.push_str(NO_THOUGHT);
        thinking = false;
    }
    if let Some(hold) = hold.as_mut().filter(|_| think == Some(true) && (thinking || !continues)) {
        hold.thought = match known {
            Some(Format::Harmony) => Thought::Message,
            _ if thinking => Thought::Begun,
            _ => Thought::Whole,
        };
    }
    // Thoughts and calls of gpt-oss's are messages of their own, before which nothing is said yet.
    let answers = hold.as_ref().is_some_and(|hold| hold.thought == Thought::None) && format != Format::Harmony;
    if answers && known == Some(Format::Harmony) && !continues {
        text.push_str("<|channel|>final<|message|>");
    }
    if format == Format::Forced && known == Some(Format::Hermes) {
        text.push_str("<tool_call>\n");
    }
    Ok(Rendered { text, format, thinking, continues, changes, hold })
}

/// Tools for a template that knows nothing of them: they are described to the model in the system message.
fn explain_tools(messages: &mut Vec<Value>, tools: &[Value], format: Format) {
    let tools: Vec<String> = tools.iter().map(Value::to_string).collect();
    let explanation = format!(
        "You can call these tools:\n{}\nTo call one, write {} and nothing after it. You will be told what it returned.",
        tools.join("\n"),
        format.example()
    );
    match messages.first_mut().filter(|first| first["role"] == "system") {
        Some(first) => {
            let system = first["content"].as_str().unwrap_or_default();
            first["content"] = format!("{system}\n\n{explanation}").into();
        }
        None => messages.insert(0, json!({ "role": "system", "content": explanation })),
    }
}

/// A message that is nothing but calls has no content: DeepSeek's templates look at that, where others want a text.
fn empty_content(message: &mut Value) {
    if message["tool_calls"].is_array() && message["content"] == "" {
        message["content"] = Value::Null;
    }
}

/// Whether the last message ends within a thought.
fn thinks_last(chat: &Chat) -> bool {
    let said = chat.messages.last().and_then(|last| last["content"].as_str()).unwrap_or_default();
    said.rfind("<think>").is_some_and(|at| !said[at..].contains("</think>"))
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use firelight::template::ChatTemplate;

    use super::super::ask::{self, Call};
    use super::*;

    /// The published template of a model, or `None` (with a note; a failure in CI) where it is missing.
    fn published(name: &str) -> Option<String> {
        let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
        let root = std::env::var_os("FIRELIGHT_SHARED").map_or_else(beside, PathBuf::from);
        let path = root.join(format!("data/templates/{name}.json"));
        let Ok(text) = std::fs::read_to_string(&path) else {
            assert!(std::env::var_os("CI").is_none(), "{} is missing: set FIRELIGHT_SHARED", path.display());
            eprintln!("left out: {} is missing", path.display());
            return None;
        };
        let case: Value = serde_json::from_str(&text).unwrap();
        Some(case["template"].as_str().unwrap().to_string())
    }

    #[test]
    fn published_templates_tell_of_tools_and_calls() {
        let rows = [
            ("Qwen-Qwen2.5-7B-Instruct", Format::Hermes),
            ("Qwen-Qwen3-0.6B", Format::Hermes),
            ("NousResearch-Hermes-3-Llama-3.1-8B-tool_use", Format::Hermes),
            ("meta-llama-Llama-3.1-8B-Instruct", Format::Llama3),
            ("meta-llama-Llama-3.2-3B-Instruct", Format::Llama3),
            ("mistralai-Mistral-Nemo-Instruct-2407", Format::Mistral),
            ("deepseek-ai-DeepSeek-R1-Distill-Llama-8B", Format::DeepSeek),
            ("deepseek-ai-DeepSeek-V3.1", Format::DeepSeek),
            ("openai-gpt-oss-120b", Format::Harmony),
            ("", Format::Hermes),
        ];
        let tool = json!({ "type": "function", "function": { "name": "weather", "description": "The weather of a place",
            "parameters": { "type": "object", "properties": { "place": { "type": "string", "description": "Where" } },
            "required": ["place"] } } });
        let call = json!({ "id": "abcdefghi", "type": "function",
            "function": { "name": "weather", "arguments": "{\"place\": \"Rome\"}" } });
        let said = json!([
            { "role": "user", "content": "Is it wet?" },
            { "role": "assistant", "content": null, "tool_calls": [call] },
            { "role": "tool", "tool_call_id": "abcdefghi", "content": "It pours." },
        ]);
        let messages = ask::messages(said.as_array().unwrap().clone()).unwrap();
        for (name, format) in rows {
            let template = match name {
                "" => ChatTemplate::builtin("chatml").unwrap(),
                name => match published(name) {
                    Some(source) => ChatTemplate::new(&source).unwrap(),
                    None => continue,
                },
            };
            let source = if name.is_empty() { String::new() } else { published(name).unwrap() };
            let chat = Chat { messages: messages.clone(), tools: vec![tool.clone()], ..Default::default() };
            let got = render(&source, |input| template.render_normal(&input), &chat, &Form::Free);
            let got = got.unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(got.format, format, "{name}");
            for words in ["The weather of a place", "weather", "Rome", "It pours."] {
                assert!(got.text.contains(words), "{name}: no {words:?} in {}", got.text);
            }
            assert!(!got.thinking || name.contains("DeepSeek"), "{name}");
            // Beside a form, the answer is in the same words, and thinks first only if it is asked to.
            let form = Form::Choice(vec!["wet".into()]);
            for (think, tools) in [(None, true), (Some(true), true), (Some(true), false)] {
                let tools = if tools { chat.tools.clone() } else { vec![] };
                let chat = Chat { think, tools, ..chat.clone() };
                let got = render(&source, |input| template.render_normal(&input), &chat, &form).unwrap();
                assert_eq!(got.format, if chat.tools.is_empty() { Format::Chat } else { format }, "{name}");
                let begun = if got.thinking { Thought::Begun } else { Thought::Whole };
                let thought = match name {
                    _ if think.is_none() => Thought::None,
                    "openai-gpt-oss-120b" => Thought::Message,
                    "Qwen-Qwen3-0.6B" => begun,
                    name if name.contains("DeepSeek") => begun,
                    _ => Thought::None,
                };
                assert_eq!(got.hold.unwrap().thought, thought, "{name}");
                assert_eq!(
                    got.text.ends_with("final<|message|>"),
                    thought == Thought::None && got.format == Format::Chat && format == Format::Harmony,
                    "{name}"
                );
            }
            // A call that must be made is made at once, without thoughts.
            let forced = Chat { call: Call::Any, ..chat };
            let got = render(&source, |input| template.render_normal(&input), &forced, &Form::Free).unwrap();
            assert!(got.format == Format::Forced && !got.thinking && got.hold.is_some(), "{name}");
        }
    }

    #[test]
    fn an_answer_goes_on_where_it_was_begun() {
        use crate::server::reply::{Part, Splitter};
        let template = ChatTemplate::new(
            "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}\
             {% if add_generation_prompt %}<assistant><think>\n{% endif %}",
        )
        .unwrap();
        let begun = |text: &str, another_turn| {
            let said = json!([{ "role": "user", "content": "a" }, { "role": "assistant", "content": text }]);
            let messages = ask::messages(said.as_array().unwrap().clone()).unwrap();
            let chat = Chat { messages, another_turn, ..Default::default() };
            let got = render("", |input| template.render_normal(&input), &chat, &Form::Free).unwrap();
            (got.text, got.thinking, got.continues)
        };
        let prompt = |end: &str| format!("<user>a</><assistant>{end}");
        assert_eq!(begun("So", false), (prompt("So"), false, true));
        assert_eq!(begun("So", true), (prompt("So</><assistant><think>\n"), true, false));
        // Within a thought it goes on thinking, and behind one it does not.
        assert_eq!(begun("<think>Hm", false), (prompt("<think>Hm"), true, true));
        assert_eq!(begun("<think>Hm</think>So", false), (prompt("<think>Hm</think>So"), false, true));
        // Nothing of the reply is taken for a beginning.
        for (thinking, reply, part) in [
            (false, " <think> is a tag", Part::Content(" <think> is a tag".into())),
            (true, " more", Part::Reasoning(" more".into())),
        ] {
            let mut splitter = Splitter::new(Format::Chat, thinking).continuing();
            let parts = [splitter.push(reply), splitter.finish()].concat();
            assert_eq!(parts, [part]);
        }
    }
}
