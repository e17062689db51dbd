//! OpenAI's Responses API, stateless: every request carries its whole conversation.

use axum::extract::{Request, State};
use axum::response::Response;
use firelight::conversation::{
    AnswerEnd, AnswerEvent, Conversation, Prompt, ResponseFormat, ToolChoice, check_tools, read_messages,
};
use firelight::sampler::Sampling;
use serde_json::{Map, Value, json};

use super::answers::{Answers, COMMENT, EVENTS, StreamWriter, ToolCall, Usage, stream};
use super::fields::Fields;
use super::http_error::{Dialect, HttpError};
use super::openai::MISSING;
use super::request::{AnswerRequest, random_id, sampling};
use super::response_format::response_format;
use super::{Server, now};

struct CreateRequest {
    model: String,
    input: Value,
    instructions: Option<String>,
    sampling: Sampling,
    max_output_tokens: Option<usize>,
    stop: Vec<String>,
    stream: bool,
    tools: Option<Vec<Value>>,
    tool_choice: Option<Value>,
    /// Whether an answer may hold several calls.
    parallel: bool,
    /// The text's format as requested, and as enforced.
    text: Option<Value>,
    format: ResponseFormat,
    reasoning: Option<Value>,
    metadata: Map<String, Value>,
}

impl CreateRequest {
    fn read(mut fields: Fields) -> Result<Self, HttpError> {
        // The limit's name in chat completions.
        let (chats, older) = (fields.limit("max_completion_tokens")?, fields.limit("max_tokens")?);
        let request = CreateRequest {
            model: fields.text("model")?.unwrap_or_default(),
            input: fields.value("input").ok_or_else(|| fields.wrong("input", MISSING))?,
            instructions: fields.text("instructions")?,
            sampling: sampling(&mut fields)?,
            max_output_tokens: fields.limit("max_output_tokens")?.or(chats).or(older),
            stop: fields.texts("stop")?.unwrap_or_default(),
            stream: fields.flag("stream")?.unwrap_or(false),
            tools: fields.list("tools")?,
            tool_choice: fields.value("tool_choice"),
            parallel: fields.flag("parallel_tool_calls")?.unwrap_or(true),
            text: fields.peek("text").cloned(),
            format: response_format(&mut fields)?,
            reasoning: fields.object("reasoning")?.map(Value::Object),
            metadata: fields.object("metadata")?.unwrap_or_default(),
        };
        if fields.count("top_logprobs")?.is_some_and(|n| n > 0) {
            return Err(fields.wrong("top_logprobs", "it is not supported; /v1/chat/completions has it"));
        }
        let wanted = fields.list("include")?.unwrap_or_default();
        if wanted.iter().any(|what| what == "message.output_text.logprobs") {
            return Err(fields.wrong("include", "log-probabilities are had from /v1/chat/completions"));
        }
        if fields.value("prompt").is_some() {
            return Err(fields.wrong("prompt", "no prompts are kept here; send input"));
        }
        fields.done()?;
        Ok(request)
    }

    fn chat(&self) -> Result<Conversation, HttpError> {
        let instructions = self.instructions.iter().map(|text| json!({ "role": "system", "content": text }));
        let mut said: Vec<Value> = instructions.collect();
        match &self.input {
            Value::String(text) => said.push(json!({ "role": "user", "content": text })),
            Value::Array(items) => {
                for (i, item) in items.iter().enumerate() {
                    read_item(item, &mut said).map_err(|e| HttpError::bad(format!("input[{i}]: {e}")))?;
                }
            }
            _ => return Err(HttpError::bad("input is neither a text nor a list of items")),
        }
        let mut tools = Vec::new();
        for (i, tool) in self.tools.iter().flatten().enumerate() {
            if tool["type"] != "function" {
                return Err(HttpError::bad(format!("tools[{i}]: only functions can be called here")));
            }
            tools.push(json!({ "type": "function", "function": {
                "name": tool["name"], "description": tool["description"], "parameters": tool["parameters"] } }));
        }
        let effort = self.reasoning.as_ref().and_then(|r| r["effort"].as_str());
        let think = effort.map(|effort| effort != "none");
        let mut chat = Conversation::new(read_messages(said)?).tools(tools).reasoning(think);
        match &self.tool_choice {
            None | Some(Value::Null) => {}
            Some(Value::String(word)) if word == "auto" => {}
            Some(Value::String(word)) if word == "none" => chat.tools.clear(),
            Some(Value::String(word)) if word == "required" => chat.tool_choice = ToolChoice::Required,
            Some(choice) => match choice["name"].as_str() {
                Some(name) => chat.tool_choice = ToolChoice::Named(name.into()),
                None => {
                    return Err(HttpError::bad("tool_choice is none of auto, none, required, and a function's name"));
                }
            },
        }
        check_tools(&chat)?;
        Ok(chat)
    }

    fn ask(self) -> Result<AnswerRequest, HttpError> {
        let chat = self.chat()?;
        Ok(AnswerRequest {
            model: self.model,
            prompts: vec![Prompt::Conversation(chat)],
            choices: 1,
            sampling: self.sampling,
            stop: self.stop,
            max_tokens: self.max_output_tokens,
            format: self.format,
            keep_alive: None,
        })
    }
}

/// Adds an item of the conversation in the form of chat messages.
fn read_item(item: &Value, said: &mut Vec<Value>) -> Result<(), String> {
    match item["type"].as_str().unwrap_or("message") {
        "message" => said.push(json!({ "role": item["role"], "content": item["content"] })),
        "function_call" => {
            let call = json!({ "id": item["call_id"], "type": "function", "function": {
                "name": item["name"], "arguments": item["arguments"] } });
            // Consecutive calls belong to one message.
            match said.last_mut().filter(|last| last["role"] == "assistant") {
                Some(last) => match last["tool_calls"].as_array_mut() {
                    Some(calls) => calls.push(call),
                    None => last["tool_calls"] = json!([call]),
                },
                None => said.push(json!({ "role": "assistant", "content": "", "tool_calls": [call] })),
            }
        }
        "function_call_output" => said.push(json!({
            "role": "tool", "tool_call_id": item["call_id"], "content": item["output"] })),
        // Earlier reasoning is not part of the prompt.
        "reasoning" => {}
        other => return Err(format!("items of type {other:?} cannot be read")),
    }
    Ok(())
}

/// `POST /v1/responses`
pub async fn create(State(server): State<Server>, request: Request) -> Result<Response, HttpError> {
    let asked = CreateRequest::read(Fields::of(request).await?)?;
    let wants_stream = asked.stream;
    let shown = Shown {
        id: format!("resp_{}", random_id(12)),
        created: now(),
        model: server.registry.entries()[server.registry.find(&asked.model)?].name.clone(),
        asked: json!({
            "instructions": asked.instructions, "max_output_tokens": asked.max_output_tokens,
            "metadata": asked.metadata, "parallel_tool_calls": asked.parallel, "previous_response_id": null,
            "reasoning": asked.reasoning.clone().unwrap_or_else(|| json!({ "effort": null, "summary": null })),
            "store": false, "temperature": asked.sampling.temperature, "top_p": asked.sampling.top_p,
            "text": asked.text.clone().unwrap_or_else(|| json!({ "format": { "type": "text" } })),
            "tools": asked.tools.clone().unwrap_or_default(),
            "tool_choice": asked.tool_choice.clone().unwrap_or_else(|| "auto".into()), "truncation": "disabled",
        }),
    };
    let one_call = !asked.parallel;
    let answer = Answers::begin(server.engine.answer(asked.ask()?)?, 1);
    let answer = async move { Ok(answer.await?.one_call(one_call)) };
    let mut events = Events { shown, items: Vec::new(), open: None, written: String::new(), sequence: 0, end: None };
    if wants_stream {
        return stream(answer, events).await;
    }
    let mut answer = answer.await?;
    // The same items, without an event for each.
    while let Some((choice, part)) = answer.next().await? {
        events.part(answer.usage, choice, part);
    }
    Ok(answer.json(&events.response(answer.usage)))
}

/// The fields that a response repeats from its request.
struct Shown {
    id: String,
    created: u64,
    model: String,
    asked: Value,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Item {
    Reasoning,
    Message,
    Call,
}

struct Events {
    shown: Shown,
    /// Items; the last one may be open, the others are complete.
    items: Vec<Value>,
    open: Option<Item>,
    /// Text of the open item.
    written: String,
    sequence: usize,
    end: Option<AnswerEnd>,
}

impl Events {
    fn event(&mut self, mut value: Value) -> String {
        value["sequence_number"] = self.sequence.into();
        self.sequence += 1;
        format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap_or_default())
    }

    /// The response as it is now.
    fn response(&self, usage: Usage) -> Value {
        let status = match &self.end {
            None => "in_progress",
            Some(end) if end.truncated() => "incomplete",
            Some(_) => "completed",
        };
        let cut = self.end.as_ref().is_some_and(AnswerEnd::truncated);
        let mut response = json!({
            "id": self.shown.id, "object": "response", "created_at": self.shown.created, "status": status,
            "model": self.shown.model, "output": self.items, "error": null,
            "incomplete_details": if cut { json!({ "reason": "max_output_tokens" }) } else { Value::Null },
            "usage": if self.end.is_none() { Value::Null } else { json!({
                "input_tokens": usage.prompt,
                "input_tokens_details": { "cached_tokens": usage.reused },
                "output_tokens": usage.generated,
                "output_tokens_details": { "reasoning_tokens": usage.reasoning },
                "total_tokens": usage.prompt + usage.generated,
            }) },
        });
        if let (Value::Object(response), Value::Object(asked)) = (&mut response, &self.shown.asked) {
            response.extend(asked.clone());
        }
        response
    }

    fn add(&mut self, item: Value) -> String {
        self.items.push(item.clone());
        let at = self.items.len() - 1;
        self.event(json!({ "type": "response.output_item.added", "output_index": at, "item": item }))
    }

    fn message(&mut self, text: &str) -> String {
        let mut out = String::new();
        if self.open != Some(Item::Message) {
            let id = format!("msg_{}", random_id(12));
            let item = json!({ "type": "message", "id": id, "status": "in_progress", "role": "assistant",
                "content": [] });
            out += &self.open(Item::Message, item);
            out += &self.part_event("response.content_part.added", "");
        }
        out + &self.delta("response.output_text.delta", text)
    }

    fn reasoning(&mut self, text: &str) -> String {
        let mut out = String::new();
        if self.open != Some(Item::Reasoning) {
            let id = format!("rs_{}", random_id(12));
            out += &self.open(Item::Reasoning, json!({ "type": "reasoning", "id": id, "summary": [], "content": [] }));
        }
        out + &self.delta("response.reasoning_text.delta", text)
    }

    /// Completes the open item and begins another.
    fn open(&mut self, kind: Item, item: Value) -> String {
        let out = self.close(true);
        self.open = Some(kind);
        out + &self.add(item)
    }

    /// A piece of the open item.
    fn delta(&mut self, kind: &str, text: &str) -> String {
        self.written.push_str(text);
        let (at, id) = self.last();
        self.event(json!({ "type": kind, "output_index": at, "item_id": id, "content_index": 0, "delta": text,
            "logprobs": [] }))
    }

    fn last(&self) -> (usize, Value) {
        let at = self.items.len().saturating_sub(1);
        (at, self.items.get(at).map_or(Value::Null, |item| item["id"].clone()))
    }

    fn part_event(&mut self, kind: &str, text: &str) -> String {
        let (at, id) = self.last();
        self.event(json!({ "type": kind, "output_index": at, "item_id": id, "content_index": 0,
            "part": { "type": "output_text", "text": text, "annotations": [], "logprobs": [] } }))
    }

    /// Ends the open item; it is complete if it is `whole`.
    fn close(&mut self, whole: bool) -> String {
        let Some(kind) = self.open.take() else { return String::new() };
        let text = std::mem::take(&mut self.written);
        let (at, id) = self.last();
        let mut out = String::new();
        let status = if whole { "completed" } else { "incomplete" };
        let (event, part) = match kind {
            Item::Message => ("response.output_text.done", "output_text"),
            Item::Reasoning => ("response.reasoning_text.done", "reasoning_text"),
            Item::Call => return self.close_call(at, text, status),
        };
        out += &self.event(json!({ "type": event, "output_index": at, "item_id": id, "content_index": 0, "text": text,
            "logprobs": [] }));
        let mut content = json!({ "type": part, "text": text });
        if kind == Item::Message {
            out += &self.part_event("response.content_part.done", &text);
            content["annotations"] = json!([]);
            self.items[at]["status"] = status.into();
        }
        self.items[at]["content"] = json!([content]);
        out + &self.done(at)
    }

    fn done(&mut self, at: usize) -> String {
        let item = self.items[at].clone();
        self.event(json!({ "type": "response.output_item.done", "output_index": at, "item": item }))
    }

    fn call(&mut self, call: ToolCall) -> String {
        let id = format!("fc_{}", random_id(12));
        let item = json!({ "type": "function_call", "id": id, "call_id": call.id, "name": call.name, "arguments": "",
            "status": "in_progress" });
        self.open(Item::Call, item)
    }

    fn arguments(&mut self, text: &str) -> String {
        self.written.push_str(text);
        let (at, id) = self.last();
        self.event(json!({ "type": "response.function_call_arguments.delta", "output_index": at, "item_id": id,
            "delta": text }))
    }

    fn close_call(&mut self, at: usize, arguments: String, status: &str) -> String {
        let (id, name) = (self.items[at]["id"].clone(), self.items[at]["name"].clone());
        self.items[at]["arguments"] = arguments.as_str().into();
        self.items[at]["status"] = status.into();
        self.event(json!({ "type": "response.function_call_arguments.done", "output_index": at, "item_id": id,
            "name": name, "arguments": arguments }))
            + &self.done(at)
    }
}

impl StreamWriter for Events {
    const TYPE: &'static str = EVENTS;

    fn waiting(&self) -> String {
        COMMENT.into()
    }

    fn begin(&mut self, answer: &Answers) -> String {
        let response = self.response(answer.usage);
        self.event(json!({ "type": "response.created", "response": response }))
            + &self.event(json!({ "type": "response.in_progress", "response": response }))
    }

    fn part(&mut self, _: Usage, _: usize, part: AnswerEvent) -> String {
        match part {
            AnswerEvent::Content(text) => self.message(&text),
            AnswerEvent::Reasoning(text) => self.reasoning(&text),
            AnswerEvent::ToolCall { id, name } => self.call(ToolCall::new(id, name)),
            AnswerEvent::Arguments(text) => self.arguments(&text),
            AnswerEvent::ToolCallEnd { complete } => self.close(complete),
            AnswerEvent::Finished(end) => {
                let whole = !end.truncated();
                self.end = Some(end);
                self.close(whole)
            }
            _ => String::new(),
        }
    }

    fn end(&mut self, answer: &Answers) -> String {
        let cut = self.end.as_ref().is_some_and(AnswerEnd::truncated);
        let kind = if cut { "response.incomplete" } else { "response.completed" };
        let response = self.response(answer.usage);
        self.event(json!({ "type": kind, "response": response }))
    }

    fn fail(&mut self, failure: &HttpError) -> String {
        let error = failure.body(Dialect::OpenAi);
        self.event(json!({ "type": "error", "code": failure.code, "message": failure.message, "param": failure.param,
            "error": error["error"] }))
    }
}

#[cfg(test)]
pub fn read_chat(body: Value) -> Result<Conversation, HttpError> {
    CreateRequest::read(Fields::new(body)?)?.chat()
}
