//! `POST /v1/chat/completions`

use axum::extract::{Request, State};
use axum::response::Response;
use firelight::conversation::{AnswerEvent, Conversation, Prompt, ResponseFormat, read_messages};
use serde_json::{Map, Value, json};

use super::common::{
    CommonParams, CompletionHead, DONE, MISSING, choose_tools, event, finish_reason, likeliest, likely, usage,
};
use crate::server::Server;
use crate::server::answers::{
    Answers, COMMENT, CollectedAnswer, EVENTS, Logprobs, StreamWriter, ToolCall, Usage, stream,
};
use crate::server::fields::Fields;
use crate::server::http_error::{Dialect, HttpError};
use crate::server::response_format::response_format;

struct ChatRequest {
    messages: Vec<Value>,
    common: CommonParams,
    tools: Option<Vec<Value>>,
    tool_choice: Option<Value>,
    /// Whether an answer may hold several calls.
    parallel: bool,
    format: ResponseFormat,
    logprobs: Option<u32>,
    reasoning_effort: Option<String>,
    chat_template_kwargs: Option<Map<String, Value>>,
    /// vLLM's fields that decide whether an answer after a last message of the assistant continues it.
    continue_final_message: Option<bool>,
    add_generation_prompt: Option<bool>,
}

impl ChatRequest {
    fn read(mut fields: Fields) -> Result<Self, HttpError> {
        let request = ChatRequest {
            messages: fields.list("messages")?.ok_or_else(|| fields.wrong("messages", MISSING))?,
            common: CommonParams::read(&mut fields)?,
            tools: fields.list("tools")?,
            tool_choice: fields.value("tool_choice"),
            parallel: fields.flag("parallel_tool_calls")?.unwrap_or(true),
            format: response_format(&mut fields)?,
            logprobs: chat_logprobs_asked(&mut fields)?,
            reasoning_effort: fields.text("reasoning_effort")?,
            chat_template_kwargs: fields.object("chat_template_kwargs")?,
            continue_final_message: fields.flag("continue_final_message")?,
            add_generation_prompt: fields.flag("add_generation_prompt")?,
        };
        if fields.texts("modalities")?.is_some_and(|kinds| kinds.iter().any(|kind| kind != "text")) {
            return Err(fields.wrong("modalities", "answers are text"));
        }
        fields.done()?;
        Ok(request)
    }

    fn chat(&self) -> Result<Conversation, HttpError> {
        let mut chat = Conversation::new(read_messages(self.messages.clone())?)
            .tools(self.tools.clone().unwrap_or_default())
            .template_variables(self.chat_template_kwargs.clone().unwrap_or_default())
            .reasoning(self.reasoning_effort.as_ref().map(|effort| effort != "none"));
        choose_tools(&mut chat, self.tool_choice.as_ref())?;
        choose_continuing(&mut chat, self.continue_final_message, self.add_generation_prompt)?;
        Ok(chat)
    }
}

fn chat_logprobs_asked(fields: &mut Fields) -> Result<Option<u32>, HttpError> {
    let (wanted, top) = (fields.flag("logprobs")?, fields.count("top_logprobs")?.unwrap_or(0));
    let top = likeliest("top_logprobs", top)?;
    match wanted {
        Some(true) => Ok(Some(top)),
        _ if top > 0 => Err(fields.wrong("top_logprobs", "logprobs must be true for it")),
        _ => Ok(None),
    }
}

/// `POST /v1/chat/completions`
pub async fn chat(State(server): State<Server>, request: Request) -> Result<Response, HttpError> {
    let asked = ChatRequest::read(Fields::of(request).await?)?;
    let chat = asked.chat()?;
    let (wants_stream, usage_too, parallel) = (asked.common.stream, asked.common.usage_too, asked.parallel);
    let mut ask = asked.common.ask(vec![Prompt::Conversation(chat)], asked.logprobs);
    ask.format = asked.format;
    let head = CompletionHead::new(&server, &ask, "chatcmpl-")?;
    let choices = ask.choices;
    let answer = Answers::begin(server.engine.answer(ask)?, choices);
    let answer = async move { Ok(answer.await?.one_call(!parallel)) };
    if wants_stream {
        return stream(
            answer,
            ChatWriter {
                head,
                usage_too,
                begun: vec![false; choices],
                calls: vec![0; choices],
                logprobs: vec![Vec::new(); choices],
            },
        )
        .await;
    }
    let mut answer = answer.await?;
    let choices = answer.whole().await?;
    let choices: Vec<Value> = choices.into_iter().enumerate().map(chat_choice).collect();
    Ok(answer.json(&head.message("chat.completion", choices, Some(usage(answer.usage)))))
}

/// Reads `continue_final_message` and `add_generation_prompt`.
fn choose_continuing(
    chat: &mut Conversation,
    continues: Option<bool>,
    generation: Option<bool>,
) -> Result<(), HttpError> {
    let name = if continues == Some(true) { "continue_final_message" } else { "add_generation_prompt" };
    if continues == Some(true) && generation == Some(true) {
        return Err(HttpError::field(name, "add_generation_prompt excludes it"));
    }
    let wanted = continues == Some(true) || generation == Some(false);
    chat.new_turn = continues == Some(false) || generation == Some(true);
    match wanted && !chat.continues() {
        true => {
            Err(HttpError::field(name, "the last message is not a text of the assistant, so it cannot be continued"))
        }
        false => Ok(()),
    }
}

fn chat_choice((index, choice): (usize, CollectedAnswer)) -> Value {
    let said_nothing = !choice.calls.is_empty() && choice.content.trim().is_empty();
    let mut message = json!({
        "role": "assistant",
        "content": if said_nothing { Value::Null } else { choice.content.into() },
        "refusal": null,
    });
    if !choice.reasoning.is_empty() {
        message["reasoning_content"] = choice.reasoning.into();
    }
    if !choice.calls.is_empty() {
        message["tool_calls"] = choice.calls.iter().map(call).collect();
    }
    let logprobs = match choice.logprobs.is_empty() {
        true => Value::Null,
        false => chat_logprobs(&choice.logprobs),
    };
    json!({
        "index": index,
        "message": message,
        "logprobs": logprobs,
        "finish_reason": choice.end.as_ref().map(finish_reason),
    })
}

fn call(call: &ToolCall) -> Value {
    json!({ "id": call.id, "type": "function", "function": { "name": call.name, "arguments": call.arguments } })
}

fn chat_logprobs(tokens: &[Logprobs]) -> Value {
    json!({ "content": tokens.iter().map(likely).collect::<Value>(), "refusal": null })
}

struct ChatWriter {
    head: CompletionHead,
    usage_too: bool,
    /// Whether an answer's role has been sent, how many calls it has made, and which log-probabilities wait for text.
    begun: Vec<bool>,
    calls: Vec<usize>,
    logprobs: Vec<Vec<Logprobs>>,
}

impl ChatWriter {
    fn chunk(&mut self, index: usize, mut delta: Value, finish: Option<&str>) -> String {
        if !std::mem::replace(&mut self.begun[index], true) {
            delta["role"] = "assistant".into();
        }
        let waiting = std::mem::take(&mut self.logprobs[index]);
        let logprobs = if waiting.is_empty() { Value::Null } else { chat_logprobs(&waiting) };
        let choice = json!({ "index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish });
        event(&self.head.message("chat.completion.chunk", vec![choice], None))
    }
}

impl StreamWriter for ChatWriter {
    const TYPE: &'static str = EVENTS;

    fn waiting(&self) -> String {
        COMMENT.into()
    }

    fn begin(&mut self, _: &Answers) -> String {
        (0..self.begun.len()).map(|i| self.chunk(i, json!({ "content": "" }), None)).collect()
    }

    fn part(&mut self, _: Usage, choice: usize, part: AnswerEvent) -> String {
        match part {
            AnswerEvent::Content(text) => self.chunk(choice, json!({ "content": text }), None),
            AnswerEvent::Reasoning(text) => self.chunk(choice, json!({ "reasoning_content": text }), None),
            AnswerEvent::ToolCall { id, name } => {
                let mut call = call(&ToolCall::new(id, name));
                call["index"] = self.calls[choice].into();
                self.calls[choice] += 1;
                self.chunk(choice, json!({ "tool_calls": [call] }), None)
            }
            AnswerEvent::Arguments(text) => {
                let index = self.calls[choice].saturating_sub(1);
                let call = json!({ "index": index, "function": { "arguments": text } });
                self.chunk(choice, json!({ "tool_calls": [call] }), None)
            }
            AnswerEvent::Token { token, top } => {
                self.logprobs[choice].push((token, top.unwrap_or_default()));
                String::new()
            }
            AnswerEvent::Finished(end) => self.chunk(choice, json!({}), Some(finish_reason(&end))),
            _ => String::new(),
        }
    }

    fn end(&mut self, answer: &Answers) -> String {
        let usage =
            self.usage_too.then(|| self.head.message("chat.completion.chunk", vec![], Some(usage(answer.usage))));
        usage.map(|usage| event(&usage)).unwrap_or_default() + DONE
    }

    fn fail(&mut self, failure: &HttpError) -> String {
        event(&failure.body(Dialect::OpenAi))
    }
}

#[cfg(test)]
pub fn read_chat(body: Value) -> Result<Conversation, HttpError> {
    ChatRequest::read(Fields::new(body)?)?.chat()
}
