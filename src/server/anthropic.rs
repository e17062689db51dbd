//! Anthropic's messages.

use axum::extract::{Request, State};
use axum::response::Response;
use firelight::conversation::{
    AnswerEnd, AnswerEvent, Conversation, Prompt, ResponseFormat, ToolChoice, check_tools, content_text, tool_result,
};
use firelight::sampler::Sampling;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Server;
use super::answers::{Answers, CollectedAnswer, EVENTS, StreamWriter, ToolCall, Usage, stream};
use super::fields::Fields;
use super::http_error::{Dialect, HttpError, json_response};
use super::openai::MISSING;
use super::request::{AnswerRequest, random_id, sampling};
use super::response_format::response_format;

struct MessagesRequest {
    model: String,
    messages: Vec<Message>,
    /// Whether there is a `max_tokens`. Messages require it; counting tokens does not.
    limited: bool,
    max_tokens: Option<usize>,
    system: Value,
    sampling: Sampling,
    stop_sequences: Vec<String>,
    stream: bool,
    tools: Option<Vec<Value>>,
    tool_choice: Option<Value>,
    thinking: Option<Value>,
    format: ResponseFormat,
}

struct Message {
    role: String,
    content: Value,
}

impl MessagesRequest {
    fn read(mut fields: Fields) -> Result<Self, HttpError> {
        let messages = fields.list("messages")?.ok_or_else(|| fields.wrong("messages", MISSING))?;
        let messages = messages.into_iter().enumerate().map(|(i, message)| match message["role"].as_str() {
            Some(role) => Ok(Message { role: role.into(), content: message["content"].clone() }),
            None => Err(fields.wrong(&format!("messages[{i}].role"), MISSING)),
        });
        let request = MessagesRequest {
            messages: messages.collect::<Result<_, _>>()?,
            model: fields.text("model")?.unwrap_or_default(),
            limited: fields.peek("max_tokens").is_some(),
            max_tokens: fields.limit("max_tokens")?,
            system: fields.value("system").unwrap_or_default(),
            sampling: sampling(&mut fields)?,
            stop_sequences: fields.texts("stop_sequences")?.unwrap_or_default(),
            stream: fields.flag("stream")?.unwrap_or(false),
            tools: fields.list("tools")?,
            tool_choice: fields.object("tool_choice")?.map(Value::Object),
            thinking: fields.object("thinking")?.map(Value::Object),
            format: response_format(&mut fields)?,
        };
        fields.done()?;
        request.check_kinds()?;
        Ok(request)
    }

    fn chat(&self) -> Result<Conversation, HttpError> {
        let mut messages = Vec::new();
        let system = content_text(&self.system).map_err(|e| HttpError::bad(format!("system: {e}")))?;
        if !system.is_empty() {
            messages.push(json!({ "role": "system", "content": system }));
        }
        for (i, message) in self.messages.iter().enumerate() {
            messages.extend(translate(message).map_err(|e| HttpError::bad(format!("messages[{i}]: {e}")))?);
        }
        let tool = |tool: &Value| {
            json!({ "type": "function", "function": {
                "name": tool["name"], "description": tool["description"], "parameters": tool["input_schema"] } })
        };
        let tools = self.tools.iter().flatten().map(tool).collect();
        let think = self.thinking.as_ref().map(|t| t["type"] != "disabled");
        let mut chat = Conversation::new(messages).tools(tools).reasoning(think);
        let choice = self.tool_choice.as_ref().unwrap_or(&Value::Null);
        match (choice["type"].as_str(), choice["name"].as_str()) {
            (None | Some("auto"), _) => {}
            (Some("none"), _) => chat.tools.clear(),
            (Some("any"), _) => chat.tool_choice = ToolChoice::Required,
            (Some("tool"), Some(name)) => chat.tool_choice = ToolChoice::Named(name.into()),
            _ => return Err(HttpError::bad("tool_choice is none of auto, none, any, and a tool with its name")),
        }
        check_tools(&chat)?;
        Ok(chat)
    }

    /// Refuses tools that only Anthropic's own servers run or know.
    fn check_kinds(&self) -> Result<(), HttpError> {
        for (i, tool) in self.tools.iter().flatten().enumerate() {
            if let Some(kind) = tool["type"].as_str().filter(|kind| *kind != "custom") {
                let message = format!("{kind:?} is not known here; describe the tool by name and input_schema");
                return Err(HttpError::field(format!("tools[{i}].type"), message));
            }
        }
        Ok(())
    }

    /// Whether an answer may hold only one call.
    fn one_call(&self) -> Result<bool, HttpError> {
        match self.tool_choice.as_ref().and_then(|choice| choice.get("disable_parallel_tool_use")) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(one)) => Ok(*one),
            Some(_) => Err(HttpError::field("tool_choice.disable_parallel_tool_use", "true or false is expected")),
        }
    }

    fn ask(self) -> Result<AnswerRequest, HttpError> {
        let chat = self.chat()?;
        if !self.limited {
            return Err(HttpError::field("max_tokens", MISSING));
        }
        Ok(AnswerRequest {
            model: self.model,
            prompts: vec![Prompt::Conversation(chat)],
            choices: 1,
            sampling: self.sampling,
            stop: self.stop_sequences,
            max_tokens: self.max_tokens,
            format: self.format,
            keep_alive: None,
        })
    }
}

/// A message in the form that templates expect. Results of tools, which are parts of the user's message here, become
/// separate messages.
fn translate(message: &Message) -> Result<Vec<Value>, String> {
    if !["user", "assistant"].contains(&message.role.as_str()) {
        return Err(format!("the role {:?} is neither user nor assistant", message.role));
    }
    let blocks = match &message.content {
        Value::Array(blocks) => blocks,
        content => return Ok(vec![json!({ "role": message.role, "content": content_text(content)? })]),
    };
    let (mut said, mut thought, mut calls, mut out) = (String::new(), String::new(), Vec::new(), Vec::new());
    for block in blocks {
        match block["type"].as_str().unwrap_or_default() {
            "thinking" => thought += block["thinking"].as_str().unwrap_or_default(),
            "redacted_thinking" => {}
            "tool_use" => calls.push(json!({ "id": block["id"], "type": "function", "function": {
                "name": block["name"], "arguments": block["input"] } })),
            "tool_result" => out.push(json!({
                "role": "tool", "tool_call_id": block["tool_use_id"], "content": tool_result(&block["content"])? })),
            "document" if block["source"]["type"] == "text" => said += &content_text(&block["source"]["data"])?,
            _ => said += &content_text(&json!([block]))?,
        }
    }
    if !said.is_empty() || !calls.is_empty() || out.is_empty() {
        let mut rest = json!({ "role": message.role, "content": said });
        if !calls.is_empty() {
            rest["tool_calls"] = calls.into();
        }
        if !thought.is_empty() {
            rest["reasoning_content"] = thought.into();
        }
        out.push(rest);
    }
    Ok(out)
}

/// `POST /v1/messages`
pub async fn messages(State(server): State<Server>, request: Request) -> Result<Response, HttpError> {
    let asked = MessagesRequest::read(Fields::of(request).await?)?;
    let wants_stream = asked.stream;
    let one_call = asked.one_call()?;
    let ask = asked.ask()?;
    let model = server.registry.entries()[server.registry.find(&ask.model)?].name.clone();
    let answer = Answers::begin(server.engine.answer(ask)?, 1);
    let answer = async move { Ok(answer.await?.one_call(one_call)) };
    let id = format!("msg_{}", random_id(12));
    if wants_stream {
        return stream(answer, Events { id, model, open: None, blocks: 0, thought: Sha256::new(), end: None }).await;
    }
    let mut answer = answer.await?;
    let choice = answer.whole().await?.pop().unwrap_or_default();
    let CollectedAnswer { reasoning, content, calls, end, .. } = choice;
    let mut blocks = Vec::new();
    if !reasoning.is_empty() {
        let signature = signature(Sha256::new_with_prefix(&reasoning));
        blocks.push(json!({ "type": "thinking", "thinking": reasoning, "signature": signature }));
    }
    if !content.trim().is_empty() || (blocks.is_empty() && calls.is_empty()) {
        blocks.push(json!({ "type": "text", "text": content }));
    }
    blocks.extend(calls.iter().map(|call| tool_use(call, call.object())));
    let mut message = head(&id, &model, answer.usage);
    message["content"] = blocks.into();
    if let Some(end) = end {
        message["stop_reason"] = stop_reason(&end).into();
        message["stop_sequence"] = end.stop().into();
    }
    Ok(answer.json(&message))
}

/// `POST /v1/messages/count_tokens`
pub async fn count_tokens(State(server): State<Server>, request: Request) -> Result<Response, HttpError> {
    let asked = MessagesRequest::read(Fields::of(request).await?)?;
    let prompt = Prompt::Conversation(asked.chat()?);
    let count = server.engine.count(&asked.model, prompt).await?;
    Ok(json_response(&json!({ "input_tokens": count })))
}

/// Counts of tokens: the input's are those that were not in the cache.
fn usage(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.prompt - usage.reused,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.reused,
        "output_tokens": usage.generated,
    })
}

/// The signature that a client sends back with thoughts: a hash of their text, which shows that they are this server's.
fn signature(thought: Sha256) -> String {
    thought.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn head(id: &str, model: &str, counts: Usage) -> Value {
    json!({
        "id": id, "type": "message", "role": "assistant", "model": model, "content": [],
        "stop_reason": null, "stop_sequence": null,
        "usage": usage(counts),
    })
}

fn stop_reason(end: &AnswerEnd) -> &'static str {
    match end {
        end if end.truncated() => "max_tokens",
        end if end.stop().is_some() => "stop_sequence",
        end if end.tool_calls => "tool_use",
        _ => "end_turn",
    }
}

fn tool_use(call: &ToolCall, input: Value) -> Value {
    json!({ "type": "tool_use", "id": call.id, "name": call.name, "input": input })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Block {
    Thinking,
    Text,
    Call,
}

struct Events {
    id: String,
    model: String,
    /// The block that is being written, and the number of blocks so far.
    open: Option<Block>,
    blocks: usize,
    /// The thoughts of the block that is being written.
    thought: Sha256,
    end: Option<AnswerEnd>,
}

/// A server-sent event, named by its type.
fn event(value: Value) -> String {
    format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap_or_default())
}

impl Events {
    /// The signature of thoughts that are complete.
    fn sign(&mut self, kind: Block) -> String {
        if kind != Block::Thinking {
            return String::new();
        }
        let signature = signature(std::mem::take(&mut self.thought));
        self.delta(json!({ "type": "signature_delta", "signature": signature }))
    }

    fn close(&mut self) -> String {
        match self.open.take() {
            Some(kind) => self.sign(kind) + &event(json!({ "type": "content_block_stop", "index": self.blocks - 1 })),
            None => String::new(),
        }
    }

    fn start(&mut self, block: Value) -> String {
        self.blocks += 1;
        event(json!({ "type": "content_block_start", "index": self.blocks - 1, "content_block": block }))
    }

    fn delta(&self, delta: Value) -> String {
        event(json!({ "type": "content_block_delta", "index": self.blocks - 1, "delta": delta }))
    }

    /// A piece of a block, which is started if it is not the one that is open.
    fn write(&mut self, kind: Block, block: Value, delta: Value) -> String {
        let mut out = String::new();
        if self.open != Some(kind) {
            out += &self.close();
            out += &self.start(block);
            self.open = Some(kind);
        }
        out + &self.delta(delta)
    }
}

impl StreamWriter for Events {
    const TYPE: &'static str = EVENTS;

    fn waiting(&self) -> String {
        event(json!({ "type": "ping" }))
    }

    fn begin(&mut self, _: &Answers) -> String {
        String::new()
    }

    fn part(&mut self, counts: Usage, _: usize, part: AnswerEvent) -> String {
        match part {
            AnswerEvent::Started { .. } => {
                event(json!({ "type": "message_start", "message": head(&self.id, &self.model, counts) }))
            }
            AnswerEvent::Content(text) => {
                let block = json!({ "type": "text", "text": "" });
                self.write(Block::Text, block, json!({ "type": "text_delta", "text": text }))
            }
            AnswerEvent::Reasoning(text) => {
                let block = json!({ "type": "thinking", "thinking": "", "signature": "" });
                self.thought.update(&text);
                self.write(Block::Thinking, block, json!({ "type": "thinking_delta", "thinking": text }))
            }
            AnswerEvent::ToolCall { id, name } => {
                let out = self.close();
                self.open = Some(Block::Call);
                out + &self.start(tool_use(&ToolCall::new(id, name), json!({})))
            }
            AnswerEvent::Arguments(text) => self.delta(json!({ "type": "input_json_delta", "partial_json": text })),
            AnswerEvent::ToolCallEnd { .. } => self.close(),
            AnswerEvent::Finished(end) => {
                self.end = Some(end);
                self.close()
            }
            _ => String::new(),
        }
    }

    fn end(&mut self, answer: &Answers) -> String {
        let (reason, stop) = self.end.as_ref().map(|end| (stop_reason(end), end.stop())).unzip();
        event(json!({
            "type": "message_delta",
            "delta": { "stop_reason": reason, "stop_sequence": stop },
            "usage": usage(answer.usage),
        })) + &event(json!({ "type": "message_stop" }))
    }

    fn fail(&mut self, failure: &HttpError) -> String {
        event(failure.body(Dialect::Anthropic))
    }
}

#[cfg(test)]
pub fn read_chat(body: Value) -> Result<Conversation, HttpError> {
    MessagesRequest::read(Fields::new(body)?)?.chat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_become_messages() {
        let read = |role: &str, content: Value| translate(&Message { role: role.into(), content });
        let said = read(
            "user",
            json!([
                { "type": "tool_result", "tool_use_id": "t1", "content": [{ "type": "text", "text": "rain" }] },
                { "type": "text", "text": "So?" },
            ]),
        );
        assert_eq!(
            said.unwrap(),
            [
                json!({ "role": "tool", "tool_call_id": "t1", "content": "rain" }),
                json!({ "role": "user", "content": "So?" }),
            ]
        );
        let called = read(
            "assistant",
            json!([
                { "type": "text", "text": "I look." },
                { "type": "tool_use", "id": "t1", "name": "weather", "input": { "place": "Rome" } },
            ]),
        );
        let function = json!({ "name": "weather", "arguments": { "place": "Rome" } });
        assert_eq!(called.unwrap()[0]["tool_calls"][0]["function"], function);
        // The text of a tool's failure is unchanged; a plain text document is text.
        let failed = json!([{ "type": "tool_result", "tool_use_id": "t1", "is_error": true, "content": "no town" }]);
        assert_eq!(read("user", failed).unwrap()[0]["content"], "no town");
        let silent = json!([{ "type": "tool_result", "tool_use_id": "t1", "is_error": true }]);
        assert_eq!(read("user", silent).unwrap()[0], json!({ "role": "tool", "tool_call_id": "t1", "content": "" }));
        let source = json!({ "type": "text", "media_type": "text/plain", "data": "A page." });
        let document = json!([{ "type": "document", "source": source }, { "type": "text", "text": " And?" }]);
        assert_eq!(read("user", document).unwrap()[0]["content"], "A page. And?");
        assert!(read("system", json!("x")).is_err() && read("user", json!([{ "type": "image" }])).is_err());
    }

    #[test]
    fn streamed_thoughts_are_signed_like_whole_ones() {
        let (id, model) = (String::new(), String::new());
        let mut events = Events { id, model, open: None, blocks: 0, thought: Sha256::new(), end: None };
        let parts = ["Hm", ", so."].map(|text| AnswerEvent::Reasoning(text.into()));
        let mut stream: String = parts.into_iter().map(|part| events.part(Usage::default(), 0, part)).collect();
        stream += &events.part(Usage::default(), 0, AnswerEvent::Content("Yes.".into()));
        let wanted = signature(Sha256::new_with_prefix("Hm, so."));
        let (before, after) = stream.split_once(&wanted).expect("a signature");
        assert!(before.contains("signature_delta") && !before.contains("content_block_stop"), "{stream}");
        assert!(wanted.len() == 64 && after.contains("text_delta"), "{stream}");
    }
}
