//! OpenAI's chat completions, completions, embeddings and models.

use std::collections::BTreeMap;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::answer::{Answer, Call as Called, Choice, EVENTS, End, Part, Usage, Writer, stream};
use super::ask::{Ask, Call, Chat, Form, Knobs, OneOrMany, Prompt, check_tools, messages, token};
use super::engine::{Logprobs, Token};
use super::failure::{Dialect, Failure, json_response};
use super::registry::Entry;
use super::{Server, guard, now};

/// What both kinds of completion ask.
#[derive(Deserialize)]
struct Common {
    #[serde(default)]
    model: String,
    #[serde(flatten)]
    knobs: Knobs,
    #[serde(default)]
    stop: Option<OneOrMany<String>>,
    #[serde(default)]
    max_tokens: Option<usize>,
    #[serde(default)]
    n: Option<usize>,
    #[serde(default)]
    logit_bias: Option<Map<String, Value>>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Deserialize)]
struct ChatRequest {
    messages: Vec<Value>,
    #[serde(flatten)]
    common: Common,
    #[serde(default)]
    max_completion_tokens: Option<usize>,
    #[serde(default)]
    tools: Option<Vec<Value>>,
    #[serde(default)]
    tool_choice: Option<Value>,
    #[serde(default)]
    response_format: Option<Value>,
    #[serde(default)]
    logprobs: Option<bool>,
    #[serde(default)]
    top_logprobs: Option<u32>,
    #[serde(default)]
    reasoning_effort: Option<String>,
    #[serde(default)]
    chat_template_kwargs: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct TextRequest {
    prompt: Value,
    #[serde(flatten)]
    common: Common,
    #[serde(default)]
    logprobs: Option<u32>,
    #[serde(default)]
    echo: Option<bool>,
    #[serde(default)]
    suffix: Option<String>,
    #[serde(default)]
    best_of: Option<usize>,
}

/// Log-probabilities of the likeliest tokens, at most.
const MOST_LOGPROBS: u32 = 20;

impl Common {
    fn ask(self, prompts: Vec<Prompt>, logprobs: Option<u32>) -> Result<Ask, Failure> {
        if logprobs.is_some_and(|n| n > MOST_LOGPROBS) {
            return Err(Failure::bad(format!("log-probabilities of at most {MOST_LOGPROBS} tokens can be had")));
        }
        let mut sampling = self.knobs.sampling();
        sampling.logprobs = logprobs;
        for (token, bias) in self.logit_bias.unwrap_or_default() {
            let read = token.parse().ok().zip(bias.as_f64());
            let (token, bias) = read.ok_or_else(|| Failure::bad("logit_bias maps token ids to numbers"))?;
            sampling.logit_bias.push((token, bias as f32));
        }
        Ok(Ask {
            model: self.model,
            prompts,
            choices: self.n.unwrap_or(1),
            sampling,
            stop: self.stop.map(OneOrMany::into_vec).unwrap_or_default(),
            max_tokens: self.max_tokens,
            form: Form::Free,
            keep_alive: None,
        })
    }
}

/// `POST /v1/chat/completions`
pub async fn chat(State(server): State<Server>, request: Request) -> Result<Response, Failure> {
    let asked: ChatRequest = guard::json(request).await?;
    let mut chat = Chat {
        messages: messages(asked.messages)?,
        tools: asked.tools.unwrap_or_default(),
        extra: asked.chat_template_kwargs.unwrap_or_default(),
        think: asked.reasoning_effort.map(|effort| effort != "none"),
        ..Default::default()
    };
    choose_tools(&mut chat, asked.tool_choice.as_ref())?;
    let logprobs = asked.logprobs.unwrap_or(false).then(|| asked.top_logprobs.unwrap_or(0));
    let wants_stream = asked.common.stream.unwrap_or(false);
    let usage_too = asked.common.stream_options.unwrap_or_default().include_usage;
    let mut ask = asked.common.ask(vec![Prompt::Chat(chat)], logprobs)?;
    ask.max_tokens = asked.max_completion_tokens.or(ask.max_tokens);
    ask.form = form(asked.response_format.as_ref())?;
    let head = Head::new(&server, &ask, "chatcmpl-")?;
    let choices = ask.choices;
    let mut answer = Answer::begin(server.engine.answer(ask)?, choices).await?;
    if wants_stream {
        return Ok(stream(
            answer,
            ChatWriter {
                head,
                usage_too,
                begun: vec![false; choices],
                calls: vec![0; choices],
                logprobs: vec![Vec::new(); choices],
            },
        ));
    }
    let choices = answer.whole().await?;
    let choices: Vec<Value> = choices.into_iter().enumerate().map(chat_choice).collect();
    Ok(json_response(&head.message("chat.completion", choices, Some(usage(answer.usage)))))
}

/// Reads `tool_choice`.
fn choose_tools(chat: &mut Chat, choice: Option<&Value>) -> Result<(), Failure> {
    match choice {
        None | Some(Value::Null) => {}
        Some(Value::String(word)) => match word.as_str() {
            "auto" => {}
            "none" => chat.tools.clear(),
            "required" => chat.call = Call::Any,
            other => return Err(Failure::bad(format!("tool_choice {other:?} is none of none, auto, required"))),
        },
        Some(value) => match value.pointer("/function/name").and_then(Value::as_str) {
            Some(name) => chat.call = Call::Named(name.into()),
            None => return Err(Failure::bad("tool_choice names no function")),
        },
    }
    check_tools(chat)
}

/// Reads `response_format`.
fn form(format: Option<&Value>) -> Result<Form, Failure> {
    let Some(format) = format.filter(|f| !f.is_null()) else { return Ok(Form::Free) };
    match format["type"].as_str() {
        Some("text") => Ok(Form::Free),
        Some("json_object") => Ok(Form::object()),
        Some("json_schema") => match format.pointer("/json_schema/schema") {
            Some(schema) => Ok(Form::Schema(schema.clone())),
            None => Err(Failure::bad("response_format has no json_schema.schema")),
        },
        _ => Err(Failure::bad("response_format.type is none of text, json_object, json_schema")),
    }
}

/// `POST /v1/completions`
pub async fn completions(State(server): State<Server>, request: Request) -> Result<Response, Failure> {
    let asked: TextRequest = guard::json(request).await?;
    for (name, given) in [
        ("suffix", asked.suffix.is_some_and(|s| !s.is_empty())),
        ("best_of", asked.best_of.is_some_and(|b| b != asked.common.n.unwrap_or(1))),
        ("echo", asked.echo == Some(true)),
    ] {
        if given {
            return Err(Failure::bad(format!("{name} is not supported")));
        }
    }
    let wants_stream = asked.common.stream.unwrap_or(false);
    let usage_too = asked.common.stream_options.unwrap_or_default().include_usage;
    let mut ask = asked.common.ask(prompts(&asked.prompt)?, asked.logprobs)?;
    // OpenAI's own default, which clients rely on to get a short answer.
    ask.max_tokens = ask.max_tokens.or(Some(16));
    let head = Head::new(&server, &ask, "cmpl-")?;
    let choices = ask.choices;
    let mut answer = Answer::begin(server.engine.answer(ask)?, choices).await?;
    if wants_stream {
        return Ok(stream(answer, TextWriter { head, usage_too, logprobs: Default::default() }));
    }
    let choices = answer.whole().await?;
    let choices: Vec<Value> = choices.into_iter().enumerate().map(text_choice).collect();
    Ok(json_response(&head.message("text_completion", choices, Some(usage(answer.usage)))))
}

/// A text, token ids, or a list of either.
fn prompts(value: &Value) -> Result<Vec<Prompt>, Failure> {
    let wrong = || Failure::bad("a prompt is a text, a list of token ids, or a list of these");
    let ids = |list: &Vec<Value>| -> Option<Vec<u32>> { list.iter().map(|v| v.as_u64()?.try_into().ok()).collect() };
    let one = |value: &Value| match value {
        Value::String(text) => Ok(Prompt::Text(text.clone())),
        Value::Array(list) => ids(list).map(Prompt::Tokens).ok_or_else(wrong),
        _ => Err(wrong()),
    };
    match value {
        Value::Array(list) if list.first().is_some_and(|first| !first.is_number()) => list.iter().map(one).collect(),
        value => Ok(vec![one(value)?]),
    }
}

/// What every message of a response says.
struct Head {
    id: String,
    created: u64,
    model: String,
}

impl Head {
    fn new(server: &Server, ask: &Ask, prefix: &str) -> Result<Self, Failure> {
        let entry = &server.registry.entries()[server.registry.find(&ask.model)?];
        Ok(Head { id: format!("{prefix}{}", token(12)), created: now(), model: entry.name.clone() })
    }

    fn message(&self, object: &str, choices: Vec<Value>, usage: Option<Value>) -> Value {
        let mut message = json!({
            "id": self.id, "object": object, "created": self.created, "model": self.model, "choices": choices,
        });
        if let Some(usage) = usage {
            message["usage"] = usage;
        }
        message
    }
}

fn usage(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.generated,
        "total_tokens": usage.prompt + usage.generated,
        "prompt_tokens_details": { "cached_tokens": usage.reused },
    })
}

fn finish_reason(end: &End) -> &'static str {
    match end {
        end if end.cut() => "length",
        end if end.called => "tool_calls",
        _ => "stop",
    }
}

fn chat_choice((index, choice): (usize, Choice)) -> Value {
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

fn call(call: &Called) -> Value {
    let arguments = Value::Object(call.arguments.clone()).to_string();
    json!({ "id": call.id, "type": "function", "function": { "name": call.name, "arguments": arguments } })
}

fn chat_logprobs(tokens: &[Logprobs]) -> Value {
    let one = |t: &Token| json!({ "token": String::from_utf8_lossy(&t.bytes), "logprob": t.logprob, "bytes": t.bytes });
    let row = |(token, top): &Logprobs| {
        let mut row = one(token);
        row["top_logprobs"] = top.iter().map(one).collect();
        row
    };
    json!({ "content": tokens.iter().map(row).collect::<Value>(), "refusal": null })
}

fn text_choice((index, choice): (usize, Choice)) -> Value {
    let logprobs = match choice.logprobs.is_empty() {
        true => Value::Null,
        false => text_logprobs(&choice.logprobs, &mut 0),
    };
    json!({
        "index": index,
        "text": choice.content,
        "logprobs": logprobs,
        "finish_reason": choice.end.as_ref().map(finish_reason),
    })
}

/// The older shape: lists side by side. `offset` is where the first token's text begins.
fn text_logprobs(tokens: &[Logprobs], offset: &mut usize) -> Value {
    let text = |t: &Token| String::from_utf8_lossy(&t.bytes).into_owned();
    let mut offsets = Vec::new();
    for (token, _) in tokens {
        offsets.push(*offset);
        *offset += text(token).chars().count();
    }
    let top = |(_, top): &Logprobs| top.iter().map(|t| (text(t), t.logprob.into())).collect::<Map<_, Value>>();
    json!({
        "tokens": tokens.iter().map(|(t, _)| text(t)).collect::<Vec<_>>(),
        "token_logprobs": tokens.iter().map(|(t, _)| t.logprob).collect::<Vec<_>>(),
        "top_logprobs": tokens.iter().map(top).collect::<Vec<_>>(),
        "text_offset": offsets,
    })
}

/// A server-sent event without a name.
fn event(value: &Value) -> String {
    format!("data: {value}\n\n")
}

const DONE: &str = "data: [DONE]\n\n";

struct ChatWriter {
    head: Head,
    usage_too: bool,
    /// Whether an answer's role has been told, how many calls it has made, and which log-probabilities wait for text.
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

impl Writer for ChatWriter {
    const TYPE: &'static str = EVENTS;

    fn begin(&mut self, _: &Answer) -> String {
        (0..self.begun.len()).map(|i| self.chunk(i, json!({ "content": "" }), None)).collect()
    }

    fn part(&mut self, choice: usize, part: Part) -> String {
        match part {
            Part::Content(text) => self.chunk(choice, json!({ "content": text }), None),
            Part::Reasoning(text) => self.chunk(choice, json!({ "reasoning_content": text }), None),
            Part::Call(called) => {
                let mut call = call(&called);
                call["index"] = self.calls[choice].into();
                self.calls[choice] += 1;
                self.chunk(choice, json!({ "tool_calls": [call] }), None)
            }
            Part::Logprob(token, top) => {
                self.logprobs[choice].push((token, top));
                String::new()
            }
            Part::End(end) => self.chunk(choice, json!({}), Some(finish_reason(&end))),
        }
    }

    fn end(&mut self, answer: &Answer) -> String {
        let usage =
            self.usage_too.then(|| self.head.message("chat.completion.chunk", vec![], Some(usage(answer.usage))));
        usage.map(|usage| event(&usage)).unwrap_or_default() + DONE
    }

    fn fail(&mut self, failure: &Failure) -> String {
        event(&failure.body(Dialect::OpenAi))
    }
}

struct TextWriter {
    head: Head,
    usage_too: bool,
    /// By answer: where the next token's text begins, and the tokens that wait for text.
    logprobs: BTreeMap<usize, (usize, Vec<Logprobs>)>,
}

impl TextWriter {
    fn chunk(&mut self, index: usize, text: &str, finish: Option<&str>) -> String {
        let (offset, waiting) = self.logprobs.entry(index).or_default();
        let waiting = std::mem::take(waiting);
        let logprobs = if waiting.is_empty() { Value::Null } else { text_logprobs(&waiting, offset) };
        let choice = json!({ "index": index, "text": text, "logprobs": logprobs, "finish_reason": finish });
        event(&self.head.message("text_completion", vec![choice], None))
    }
}

impl Writer for TextWriter {
    const TYPE: &'static str = EVENTS;

    fn begin(&mut self, _: &Answer) -> String {
        String::new()
    }

    fn part(&mut self, choice: usize, part: Part) -> String {
        match part {
            Part::Content(text) | Part::Reasoning(text) => self.chunk(choice, &text, None),
            Part::Call(_) => String::new(),
            Part::Logprob(token, top) => {
                self.logprobs.entry(choice).or_default().1.push((token, top));
                String::new()
            }
            Part::End(end) => self.chunk(choice, "", Some(finish_reason(&end))),
        }
    }

    fn end(&mut self, answer: &Answer) -> String {
        let usage = self.usage_too.then(|| self.head.message("text_completion", vec![], Some(usage(answer.usage))));
        usage.map(|usage| event(&usage)).unwrap_or_default() + DONE
    }

    fn fail(&mut self, failure: &Failure) -> String {
        event(&failure.body(Dialect::OpenAi))
    }
}

#[derive(Deserialize)]
struct EmbeddingsRequest {
    #[serde(default)]
    model: String,
    input: Value,
    #[serde(default)]
    encoding_format: Option<String>,
    #[serde(default)]
    dimensions: Option<usize>,
}

/// `POST /v1/embeddings`
pub async fn embeddings(State(server): State<Server>, request: Request) -> Result<Response, Failure> {
    let asked: EmbeddingsRequest = guard::json(request).await?;
    let base64 = match asked.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => return Err(Failure::bad(format!("encoding_format {other:?} is neither float nor base64"))),
    };
    let entry = &server.registry.entries()[server.registry.find(&asked.model)?];
    let (vectors, read) = server.engine.embed(asked.model, prompts(&asked.input)?).await?;
    if let (Some(wanted), Some(vector)) = (asked.dimensions, vectors.first())
        && wanted != vector.len()
    {
        let message = format!("{} makes vectors of {} numbers, not of {wanted}", entry.name, vector.len());
        return Err(Failure::bad(message));
    }
    let write = |vector: &Vec<f32>| match base64 {
        true => Value::from(to_base64(bytemuck::cast_slice(vector))),
        false => Value::from(vector.as_slice()),
    };
    let row =
        |(i, vector): (usize, &Vec<f32>)| json!({ "object": "embedding", "index": i, "embedding": write(vector) });
    Ok(json_response(&json!({
        "object": "list",
        "data": vectors.iter().enumerate().map(row).collect::<Vec<_>>(),
        "model": entry.name,
        "usage": { "prompt_tokens": read, "total_tokens": read },
    })))
}

/// Base 64 of RFC 4648, in which clients want vectors that they ask for without a word.
fn to_base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let word = (0..3).fold(0u32, |word, i| word << 8 | u32::from(three.get(i).copied().unwrap_or(0)));
        for i in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * i) & 63) as usize] as char;
            out.push(if i <= three.len() { letter } else { '=' });
        }
    }
    out
}

/// `GET /v1/models`
pub async fn models(State(server): State<Server>) -> Response {
    let list: Vec<Value> = server.registry.entries().iter().map(describe).collect();
    json_response(&json!({ "object": "list", "data": list }))
}

/// `GET /v1/models/NAME`
pub async fn model(State(server): State<Server>, Path(name): Path<String>) -> Result<Response, Failure> {
    Ok(json_response(&describe(&server.registry.entries()[server.registry.find(&name)?])))
}

fn describe(entry: &Entry) -> Value {
    json!({ "id": entry.name, "object": "model", "created": entry.modified, "owned_by": "firelight" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        let rows = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        rows.iter().for_each(|(plain, coded)| assert_eq!(to_base64(plain.as_bytes()), *coded));
        assert_eq!(to_base64(&[0xff, 0xfe, 0xfd]), "//79");
    }

    #[test]
    fn prompts_are_texts_or_ids_or_lists() {
        let read = |value| prompts(&value).map(|p| p.len());
        assert_eq!(read(json!("a")).unwrap(), 1);
        assert_eq!(read(json!([1, 2])).unwrap(), 1);
        assert_eq!(read(json!(["a", [1, 2]])).unwrap(), 2);
        for bad in [json!(1), json!([1, "a"]), json!([-1]), json!([[1.5]]), json!(null)] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }
}
