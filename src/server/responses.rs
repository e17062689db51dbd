//! OpenAI's responses, without memory: every request carries its whole conversation.

use axum::extract::{Request, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Answer, Call as Called, EVENTS, End, Part, Usage, Writer, stream};
use super::ask::{Ask, Call, Chat, Form, Knobs, Prompt, check_tools, messages, token};
use super::failure::{Dialect, Failure, json_response};
use super::{Server, guard, now};

#[derive(Deserialize)]
struct CreateRequest {
    #[serde(default)]
    model: String,
    input: Value,
    #[serde(default)]
    instructions: Option<String>,
    #[serde(flatten)]
    knobs: Knobs,
    #[serde(default)]
    max_output_tokens: Option<usize>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    tools: Option<Vec<Value>>,
    #[serde(default)]
    tool_choice: Option<Value>,
    #[serde(default)]
    text: Option<Value>,
    #[serde(default)]
    reasoning: Option<Value>,
    #[serde(default)]
    previous_response_id: Option<String>,
    #[serde(default)]
    background: Option<bool>,
}

impl CreateRequest {
    fn chat(&self) -> Result<Chat, Failure> {
        let instructions = self.instructions.iter().map(|text| json!({ "role": "system", "content": text }));
        let mut said: Vec<Value> = instructions.collect();
        match &self.input {
            Value::String(text) => said.push(json!({ "role": "user", "content": text })),
            Value::Array(items) => {
                for (i, item) in items.iter().enumerate() {
                    read_item(item, &mut said).map_err(|e| Failure::bad(format!("input[{i}]: {e}")))?;
                }
            }
            _ => return Err(Failure::bad("input is neither a text nor a list of items")),
        }
        let mut tools = Vec::new();
        for (i, tool) in self.tools.iter().flatten().enumerate() {
            if tool["type"] != "function" {
                return Err(Failure::bad(format!("tools[{i}]: only functions can be called here")));
            }
            tools.push(json!({ "type": "function", "function": {
                "name": tool["name"], "description": tool["description"], "parameters": tool["parameters"] } }));
        }
        let effort = self.reasoning.as_ref().and_then(|r| r["effort"].as_str());
        let think = effort.map(|effort| effort != "none");
        let mut chat = Chat { messages: messages(said)?, tools, think, ..Default::default() };
        match &self.tool_choice {
            None | Some(Value::Null) => {}
            Some(Value::String(word)) if word == "auto" => {}
            Some(Value::String(word)) if word == "none" => chat.tools.clear(),
            Some(Value::String(word)) if word == "required" => chat.call = Call::Any,
            Some(choice) => match choice["name"].as_str() {
                Some(name) => chat.call = Call::Named(name.into()),
                None => return Err(Failure::bad("tool_choice is none of auto, none, required, and a function's name")),
            },
        }
        check_tools(&chat)?;
        Ok(chat)
    }

    fn ask(self) -> Result<Ask, Failure> {
        if self.previous_response_id.is_some() || self.background == Some(true) {
            return Err(Failure::bad("nothing is kept here between requests: send the whole conversation as input"));
        }
        let chat = self.chat()?;
        let format = self.text.as_ref().and_then(|t| t.get("format")).unwrap_or(&Value::Null);
        let form = match format["type"].as_str() {
            None | Some("text") => Form::Free,
            Some("json_object") => Form::object(),
            Some("json_schema") if format.get("schema").is_some() => Form::Schema(format["schema"].clone()),
            _ => return Err(Failure::bad("text.format is none of text, json_object, and json_schema with a schema")),
        };
        Ok(Ask {
            model: self.model,
            prompts: vec![Prompt::Chat(chat)],
            choices: 1,
            sampling: self.knobs.sampling(),
            stop: Vec::new(),
            max_tokens: self.max_output_tokens,
            form,
            keep_alive: None,
        })
    }
}

/// Adds what an item of the conversation says, in the shape of chat messages.
fn read_item(item: &Value, said: &mut Vec<Value>) -> Result<(), String> {
    match item["type"].as_str().unwrap_or("message") {
        "message" => said.push(json!({ "role": item["role"], "content": item["content"] })),
        "function_call" => {
            let call = json!({ "id": item["call_id"], "type": "function", "function": {
                "name": item["name"], "arguments": item["arguments"] } });
            // Calls one after another are of one message.
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
        // What the model thought before is not told to it again.
        "reasoning" => {}
        other => return Err(format!("items of type {other:?} cannot be read")),
    }
    Ok(())
}

/// `POST /v1/responses`
pub async fn create(State(server): State<Server>, request: Request) -> Result<Response, Failure> {
    let asked: CreateRequest = guard::json(request).await?;
    let wants_stream = asked.stream.unwrap_or(false);
    let shown = Shown {
        id: format!("resp_{}", token(12)),
        created: now(),
        model: server.registry.entries()[server.registry.find(&asked.model)?].name.clone(),
        tools: asked.tools.clone().unwrap_or_default(),
        tool_choice: asked.tool_choice.clone().unwrap_or_else(|| "auto".into()),
    };
    let mut answer = Answer::begin(server.engine.answer(asked.ask()?)?, 1).await?;
    let mut events = Events { shown, items: Vec::new(), open: None, written: String::new(), sequence: 0, end: None };
    if wants_stream {
        return Ok(stream(answer, events));
    }
    // The same items, without telling of each.
    while let Some((choice, part)) = answer.next().await? {
        events.part(choice, part);
    }
    Ok(json_response(&events.response(answer.usage)))
}

/// What a response repeats of its request.
struct Shown {
    id: String,
    created: u64,
    model: String,
    tools: Vec<Value>,
    tool_choice: Value,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Item {
    Reasoning,
    Message,
}

struct Events {
    shown: Shown,
    /// Items that are complete, or the last of them open.
    items: Vec<Value>,
    open: Option<Item>,
    /// Text of the open item.
    written: String,
    sequence: usize,
    end: Option<End>,
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
            Some(end) if end.cut() => "incomplete",
            Some(_) => "completed",
        };
        let cut = self.end.as_ref().is_some_and(End::cut);
        json!({
            "id": self.shown.id, "object": "response", "created_at": self.shown.created, "status": status,
            "model": self.shown.model, "output": self.items, "error": null,
            "incomplete_details": if cut { json!({ "reason": "max_output_tokens" }) } else { Value::Null },
            "instructions": null, "metadata": {}, "parallel_tool_calls": true, "store": false,
            "tools": self.shown.tools, "tool_choice": self.shown.tool_choice,
            "temperature": null, "top_p": null,
            "usage": if self.end.is_none() { Value::Null } else { json!({
                "input_tokens": usage.prompt,
                "input_tokens_details": { "cached_tokens": usage.reused },
                "output_tokens": usage.generated,
                "output_tokens_details": { "reasoning_tokens": 0 },
                "total_tokens": usage.prompt + usage.generated,
            }) },
        })
    }

    fn add(&mut self, item: Value) -> String {
        self.items.push(item.clone());
        let at = self.items.len() - 1;
        self.event(json!({ "type": "response.output_item.added", "output_index": at, "item": item }))
    }

    fn write(&mut self, kind: Item, text: &str) -> String {
        let mut out = String::new();
        if self.open != Some(kind) {
            out += &self.close();
            out += &match kind {
                Item::Message => {
                    let id = format!("msg_{}", token(12));
                    let item = json!({ "type": "message", "id": id, "status": "in_progress", "role": "assistant",
                        "content": [] });
                    self.add(item) + &self.part_event("response.content_part.added", "")
                }
                Item::Reasoning => {
                    let id = format!("rs_{}", token(12));
                    self.add(json!({ "type": "reasoning", "id": id, "summary": [], "content": [] }))
                }
            };
            self.open = Some(kind);
        }
        self.written.push_str(text);
        let kind = match kind {
            Item::Message => "response.output_text.delta",
            Item::Reasoning => "response.reasoning_text.delta",
        };
        let (at, id) = self.last();
        out + &self.event(json!({ "type": kind, "output_index": at, "item_id": id, "content_index": 0, "delta": text,
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

    /// Completes the open item.
    fn close(&mut self) -> String {
        let Some(kind) = self.open.take() else { return String::new() };
        let text = std::mem::take(&mut self.written);
        let (at, id) = self.last();
        let mut out = String::new();
        let (event, part) = match kind {
            Item::Message => ("response.output_text.done", "output_text"),
            Item::Reasoning => ("response.reasoning_text.done", "reasoning_text"),
        };
        out += &self.event(json!({ "type": event, "output_index": at, "item_id": id, "content_index": 0, "text": text,
            "logprobs": [] }));
        let mut content = json!({ "type": part, "text": text });
        if kind == Item::Message {
            out += &self.part_event("response.content_part.done", &text);
            content["annotations"] = json!([]);
            self.items[at]["status"] = "completed".into();
        }
        self.items[at]["content"] = json!([content]);
        out + &self.done(at)
    }

    fn done(&mut self, at: usize) -> String {
        let item = self.items[at].clone();
        self.event(json!({ "type": "response.output_item.done", "output_index": at, "item": item }))
    }

    fn call(&mut self, call: Called) -> String {
        let arguments = Value::Object(call.arguments).to_string();
        let id = format!("fc_{}", token(12));
        let item = |status: &str, arguments: &str| {
            json!({ "type": "function_call", "id": id, "call_id": call.id, "name": call.name, "arguments": arguments,
                "status": status })
        };
        let mut out = self.close();
        out += &self.add(item("in_progress", ""));
        let at = self.items.len() - 1;
        out += &self.event(json!({ "type": "response.function_call_arguments.delta", "output_index": at,
            "item_id": id, "delta": arguments }));
        out += &self.event(json!({ "type": "response.function_call_arguments.done", "output_index": at,
            "item_id": id, "name": call.name, "arguments": arguments }));
        self.items[at] = item("completed", &arguments);
        out + &self.done(at)
    }
}

impl Writer for Events {
    const TYPE: &'static str = EVENTS;

    fn begin(&mut self, answer: &Answer) -> String {
        let response = self.response(answer.usage);
        self.event(json!({ "type": "response.created", "response": response }))
            + &self.event(json!({ "type": "response.in_progress", "response": response }))
    }

    fn part(&mut self, _: usize, part: Part) -> String {
        match part {
            Part::Content(text) => self.write(Item::Message, &text),
            Part::Reasoning(text) => self.write(Item::Reasoning, &text),
            Part::Call(call) => self.call(call),
            Part::Logprob(..) => String::new(),
            Part::End(end) => {
                self.end = Some(end);
                self.close()
            }
        }
    }

    fn end(&mut self, answer: &Answer) -> String {
        let cut = self.end.as_ref().is_some_and(End::cut);
        let kind = if cut { "response.incomplete" } else { "response.completed" };
        let response = self.response(answer.usage);
        self.event(json!({ "type": kind, "response": response }))
    }

    fn fail(&mut self, failure: &Failure) -> String {
        let error = failure.body(Dialect::OpenAi);
        self.event(json!({ "type": "error", "code": failure.code, "message": failure.message, "param": null,
            "error": error["error"] }))
    }
}
