//! From messages to the prompt: chat templates, tools, response formats, and the start of the reasoning.

use serde_json::{Value, json};

use super::{Conversation, OutputParser, OutputRules, Prompt, ReasoningRule, ResponseFormat, ToolFormat};
use crate::model::Model;
use crate::template::{CLOSE_REASONING, Rendering, TemplateInput, calls_as_text, prefilled_reasoning};
use crate::tokenizer::Special;
use crate::{Error, Result};

/// A prompt as tokens, and the parser of its answer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Prepared {
    /// The prompt.
    pub tokens: Vec<u32>,
    /// Parses the answer.
    pub parser: OutputParser,
    /// The beginning of the answer that the template has put at the prompt's end: `<think>` and white space, or
    /// nothing.
    pub prefill: String,
    /// The changes to the conversation that the template required; see [`Rendering`].
    pub changes: Vec<&'static str>,
    /// The constraints on the answer.
    pub rules: Option<OutputRules>,
}

impl Prompt {
    /// Tokenizes the prompt. `fits` may refuse a text before that, because tokenizing takes time.
    ///
    /// # Errors
    /// [`Error::Text`] if the template or the tokenizer refuses; the error of `fits`.
    pub fn prepare<E: From<Error>>(
        &self,
        model: &Model,
        format: &ResponseFormat,
        fits: impl Fn(&str) -> Result<(), E>,
    ) -> Result<Prepared, E> {
        let encode = |text: &str, special| {
            fits(text)?;
            Ok::<_, E>(model.tokenizer.encode(text, special)?)
        };
        let plain = |tokens: Vec<u32>| Prepared {
            parser: OutputParser::new(ToolFormat::Text, false).with_prompt(&tokens),
            tokens,
            prefill: String::new(),
            changes: Vec::new(),
            rules: OutputRules::of(&Conversation::default(), format, None, ""),
        };
        match self {
            Prompt::Text(text) => Ok(plain(encode(text, Special::ALL)?)),
            Prompt::Tokens(tokens) => Ok(plain(tokens.clone())),
            Prompt::Conversation(chat) => {
                let source = model.checkpoint.metadata.get_str("tokenizer.chat_template")?.unwrap_or_default();
                let rendered = render(source, |input| model.render_conversation(input), chat, format)?;
                let tokens = encode(&rendered.text, Special::PARSE)?;
                let parser = rendered.parser().with_prompt(&tokens);
                let prefill =
                    if rendered.reasoning { prefilled_reasoning(&rendered.text).to_string() } else { String::new() };
                Ok(Prepared { tokens, parser, prefill, changes: rendered.changes, rules: rendered.rules })
            }
        }
    }
}

impl Prepared {
    /// The same, for an answer whose text is emitted verbatim, including reasoning and tool calls.
    pub fn unparsed(self) -> Self {
        Prepared { parser: OutputParser::new(ToolFormat::Text, false), ..self }
    }
}

/// A prompt as text, and the parser of its answer.
pub struct RenderedPrompt {
    /// The prompt.
    pub text: String,
    /// The changes to the conversation that the template required.
    pub changes: Vec<&'static str>,
    tool_format: ToolFormat,
    /// Whether the answer begins within its reasoning.
    reasoning: bool,
    /// Whether the answer continues the last message.
    continues: bool,
    rules: Option<OutputRules>,
}

impl RenderedPrompt {
    fn parser(&self) -> OutputParser {
        let parser = OutputParser::new(self.tool_format, self.reasoning);
        let parser = match &self.rules {
            Some(rules) => parser.constrained(rules.allows_format(), rules.tool_names()),
            None => parser,
        };
        if self.continues { parser.continuing() } else { parser }
    }
}

/// Renders a conversation by a chat template, whose text is `source`.
///
/// # Errors
/// If `template` returns one.
pub fn render(
    source: &str,
    template: impl Fn(TemplateInput) -> Result<Rendering>,
    chat: &Conversation,
    format: &ResponseFormat,
) -> Result<RenderedPrompt> {
    let known = ToolFormat::of_template(source);
    let mut rules = OutputRules::of(chat, format, known, source);
    let tool_format = match &rules {
        _ if chat.tools.is_empty() => ToolFormat::Chat,
        Some(rules) => rules.tool_format,
        None => known.unwrap_or(ToolFormat::Hermes),
    };
    // A response format is for the whole answer, and so is a call that must be made, unless reasoning is asked for.
    let reasons = known == Some(ToolFormat::Harmony) || source.contains("<think>");
    let think = match &rules {
        Some(_) if tool_format == ToolFormat::Forced || !reasons => Some(false),
        Some(_) => Some(chat.reasoning == Some(true)),
        None => chat.reasoning,
    };
    let Rendering { mut text, changes } = template(template_input(source, known, chat, think))?;
    let continues = chat.continues();
    let mut reasoning = if continues { ends_in_reasoning(chat) } else { !prefilled_reasoning(&text).is_empty() };
    if reasoning && think == Some(false) {
        text.push_str(CLOSE_REASONING);
        reasoning = false;
    }
    if let Some(rules) = rules.as_mut().filter(|_| think == Some(true) && (reasoning || !continues)) {
        rules.reasoning = match known {
            Some(ToolFormat::Harmony) => ReasoningRule::Harmony,
            _ if reasoning => ReasoningRule::Prefilled,
            _ => ReasoningRule::Tagged,
        };
    }
    // gpt-oss writes reasoning and calls as separate messages, so the prompt must not open one.
    let answers = rules.as_ref().is_some_and(|rules| rules.reasoning == ReasoningRule::None)
        && tool_format != ToolFormat::Harmony;
    if answers && known == Some(ToolFormat::Harmony) && !continues {
        text.push_str("<|channel|>final<|message|>");
    }
    if tool_format == ToolFormat::Forced && known == Some(ToolFormat::Hermes) {
        text.push_str("<tool_call>\n");
    }
    Ok(RenderedPrompt { text, changes, tool_format, reasoning, continues, rules })
}

fn template_input(source: &str, known: Option<ToolFormat>, chat: &Conversation, think: Option<bool>) -> TemplateInput {
    let mut input = TemplateInput {
        messages: chat.messages.clone(),
        add_generation_prompt: !chat.without_answer,
        continue_final_message: chat.continues(),
        date: chat.date.clone(),
        extra: chat.template_variables.clone(),
        ..Default::default()
    };
    if let Some(think) = think {
        input.set_reasoning(think);
    }
    // For a template without tool calls, earlier calls become text.
    if known.is_none() {
        input.messages = input.messages.into_iter().map(calls_as_text).collect();
    }
    if !chat.tools.is_empty() {
        match known.is_some() && source.contains("tools") {
            true => input.tools = Some(chat.tools.clone()),
            false => explain_tools(&mut input.messages, &chat.tools, known.unwrap_or(ToolFormat::Hermes)),
        }
    }
    if known == Some(ToolFormat::DeepSeek) {
        input.messages.iter_mut().for_each(empty_content);
    }
    input
}

/// Describes tools in the system message, for a template without tools.
fn explain_tools(messages: &mut Vec<Value>, tools: &[Value], format: ToolFormat) {
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

/// Sets the content of messages that have only calls to null: DeepSeek's templates test for it, others expect a text.
fn empty_content(message: &mut Value) {
    if message["tool_calls"].is_array() && message["content"] == "" {
        message["content"] = Value::Null;
    }
}

/// Whether the last message ends within its reasoning.
fn ends_in_reasoning(chat: &Conversation) -> bool {
    let said = chat.messages.last().and_then(|last| last["content"].as_str()).unwrap_or_default();
    said.rfind("<think>").is_some_and(|at| !said[at..].contains("</think>"))
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::super::{AnswerEvent, ToolChoice, read_messages};
    use super::*;
    use crate::template::ChatTemplate;

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
            ("Qwen-Qwen2.5-7B-Instruct", ToolFormat::Hermes),
            ("Qwen-Qwen3-0.6B", ToolFormat::Hermes),
            ("NousResearch-Hermes-3-Llama-3.1-8B-tool_use", ToolFormat::Hermes),
            ("meta-llama-Llama-3.1-8B-Instruct", ToolFormat::Llama3),
            ("meta-llama-Llama-3.2-3B-Instruct", ToolFormat::Llama3),
            ("mistralai-Mistral-Nemo-Instruct-2407", ToolFormat::Mistral),
            ("deepseek-ai-DeepSeek-R1-Distill-Llama-8B", ToolFormat::DeepSeek),
            ("deepseek-ai-DeepSeek-V3.1", ToolFormat::DeepSeek),
            ("openai-gpt-oss-120b", ToolFormat::Harmony),
            ("", ToolFormat::Hermes),
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
        let messages = read_messages(said.as_array().unwrap().clone()).unwrap();
        for (name, format) in rows {
            let template = match name {
                "" => ChatTemplate::builtin("chatml").unwrap(),
                name => match published(name) {
                    Some(source) => ChatTemplate::new(&source).unwrap(),
                    None => continue,
                },
            };
            let source = if name.is_empty() { String::new() } else { published(name).unwrap() };
            let (messages, date) = (messages.clone(), Some("2025-01-31".into()));
            let chat = Conversation { messages, tools: vec![tool.clone()], date, ..Default::default() };
            let got = render(&source, |input| template.render_normal(&input), &chat, &ResponseFormat::Text);
            let got = got.unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(got.tool_format, format, "{name}");
            for words in ["The weather of a place", "weather", "Rome", "It pours."] {
                assert!(got.text.contains(words), "{name}: no {words:?} in {}", got.text);
            }
            assert!(!got.reasoning || name.contains("DeepSeek"), "{name}");
            // With a response format, the answer reasons first only on request.
            let form = ResponseFormat::Choice(vec!["wet".into()]);
            for (think, tools) in [(None, true), (Some(true), true), (Some(true), false)] {
                let tools = if tools { chat.tools.clone() } else { vec![] };
                let chat = Conversation { reasoning: think, tools, ..chat.clone() };
                let got = render(&source, |input| template.render_normal(&input), &chat, &form).unwrap();
                assert_eq!(got.tool_format, if chat.tools.is_empty() { ToolFormat::Chat } else { format }, "{name}");
                let begun = if got.reasoning { ReasoningRule::Prefilled } else { ReasoningRule::Tagged };
                let thought = match name {
                    _ if think.is_none() => ReasoningRule::None,
                    "openai-gpt-oss-120b" => ReasoningRule::Harmony,
                    "Qwen-Qwen3-0.6B" => begun,
                    name if name.contains("DeepSeek") => begun,
                    _ => ReasoningRule::None,
                };
                assert_eq!(got.rules.unwrap().reasoning, thought, "{name}");
                assert_eq!(
                    got.text.ends_with("final<|message|>"),
                    thought == ReasoningRule::None
                        && got.tool_format == ToolFormat::Chat
                        && format == ToolFormat::Harmony,
                    "{name}"
                );
            }
            // A required call comes at once, without reasoning.
            let forced = Conversation { tool_choice: ToolChoice::Required, ..chat };
            let got = render(&source, |input| template.render_normal(&input), &forced, &ResponseFormat::Text).unwrap();
            assert!(got.tool_format == ToolFormat::Forced && !got.reasoning && got.rules.is_some(), "{name}");
        }
    }

    #[test]
    fn an_answer_goes_on_where_it_was_begun() {
        let template = ChatTemplate::new(
            "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}\
             {% if add_generation_prompt %}<assistant><think>\n{% endif %}",
        )
        .unwrap();
        let begun = |text: &str, new_turn| {
            let said = json!([{ "role": "user", "content": "a" }, { "role": "assistant", "content": text }]);
            let messages = read_messages(said.as_array().unwrap().clone()).unwrap();
            let chat = Conversation { messages, new_turn, ..Default::default() };
            let got = render("", |input| template.render_normal(&input), &chat, &ResponseFormat::Text).unwrap();
            (got.text, got.reasoning, got.continues)
        };
        let prompt = |end: &str| format!("<user>a</><assistant>{end}");
        assert_eq!(begun("So", false), (prompt("So"), false, true));
        assert_eq!(begun("So", true), (prompt("So</><assistant><think>\n"), true, false));
        // An answer continued within its reasoning continues it; one continued after it does not.
        assert_eq!(begun("<think>Hm", false), (prompt("<think>Hm"), true, true));
        assert_eq!(begun("<think>Hm</think>So", false), (prompt("<think>Hm</think>So"), false, true));
        // In a continued answer, `<think>` is no marker of reasoning.
        for (thinking, reply, part) in [
            (false, " <think> is a tag", AnswerEvent::Content(" <think> is a tag".into())),
            (true, " more", AnswerEvent::Reasoning(" more".into())),
        ] {
            let mut parser = OutputParser::new(ToolFormat::Chat, thinking).continuing();
            let parts = [parser.push(reply), parser.finish()].concat();
            assert_eq!(parts, [part]);
        }
    }
}
