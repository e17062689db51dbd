//! Ollama's API: chat, generate, embed, and what it tells about models. Streams are lines of JSON.

use std::time::{Duration, Instant, SystemTime};

use axum::extract::{Request, State};
use axum::response::Response;
use firelight::session::Timings;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::answer::{Answer, Call, Choice, End, Part, Writer, stream};
use super::ask::{Ask, Chat, Form, Knobs, OneOrMany, Prompt, check_tools, messages};
use super::failure::{Dialect, Failure, json_response};
use super::registry::Entry;
use super::{Server, guard, now};

/// The version of the API that this resembles; clients look at it to know what they may ask.
const VERSION: &str = "0.12.0";

#[derive(Deserialize)]
struct Common {
    #[serde(default)]
    model: String,
    #[serde(default)]
    options: Choices,
    #[serde(default)]
    format: Option<Value>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    think: Option<Value>,
    #[serde(default)]
    keep_alive: Option<Value>,
}

/// `options`. What else there may be (`num_ctx`, `num_gpu` ...) is the server's to choose, and is passed over.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Choices {
    #[serde(flatten)]
    knobs: Knobs,
    stop: Option<OneOrMany<String>>,
    /// Below 0: as many as the context holds.
    num_predict: Option<i64>,
}

#[derive(Deserialize)]
struct ChatRequest {
    #[serde(flatten)]
    common: Common,
    #[serde(default)]
    messages: Vec<Value>,
    #[serde(default)]
    tools: Option<Vec<Value>>,
}

#[derive(Deserialize)]
struct GenerateRequest {
    #[serde(flatten)]
    common: Common,
    #[serde(default)]
    prompt: String,
    #[serde(default)]
    system: Option<String>,
    #[serde(default)]
    raw: Option<bool>,
    #[serde(default)]
    suffix: Option<String>,
    #[serde(default)]
    images: Option<Vec<Value>>,
}

impl Common {
    fn think(&self) -> Option<bool> {
        match self.think.as_ref()? {
            Value::Bool(think) => Some(*think),
            Value::String(effort) => Some(effort != "none"),
            _ => None,
        }
    }

    fn ask(self, prompt: Prompt) -> Result<Ask, Failure> {
        let form = match self.format {
            None | Some(Value::Null) => Form::Free,
            Some(Value::String(word)) if word == "json" => Form::object(),
            Some(Value::String(word)) if word.is_empty() => Form::Free,
            Some(schema @ Value::Object(_)) => Form::Schema(schema),
            Some(_) => return Err(Failure::bad("format is neither \"json\" nor a JSON schema")),
        };
        Ok(Ask {
            model: self.model,
            prompts: vec![prompt],
            choices: 1,
            sampling: self.options.knobs.sampling(),
            stop: self.options.stop.map(OneOrMany::into_vec).unwrap_or_default(),
            max_tokens: self.options.num_predict.and_then(|n| usize::try_from(n).ok()),
            form,
            keep_alive: self.keep_alive.as_ref().map(duration).transpose()?,
        })
    }
}

/// Longer than any server runs: for ever.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// `"5m"`, `"1h30m"`, `"90s"`, or a number of seconds; below 0: for ever.
fn duration(value: &Value) -> Result<Duration, Failure> {
    let wrong = || Failure::bad("keep_alive is a number of seconds or a duration such as \"5m\"");
    let seconds = match value {
        Value::Number(n) => n.as_f64().ok_or_else(wrong)?,
        Value::String(text) => {
            let (sign, mut rest) = text.strip_prefix('-').map_or((1.0, text.as_str()), |rest| (-1.0, rest));
            let mut sum = 0.0;
            while !rest.is_empty() {
                let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
                let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
                rest = &rest[digits..];
                let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
                sum += number
                    * match &rest[..letters] {
                        "ms" => 1e-3,
                        "" | "s" => 1.0,
                        "m" => 60.0,
                        "h" => 3600.0,
                        _ => return Err(wrong()),
                    };
                rest = &rest[letters..];
            }
            sign * sum
        }
        _ => return Err(wrong()),
    };
    Ok(if seconds < 0.0 { FOR_EVER } else { Duration::try_from_secs_f64(seconds).unwrap_or(FOR_EVER).min(FOR_EVER) })
}

/// `POST /api/chat`
pub async fn chat(State(server): State<Server>, request: Request) -> Result<Response, Failure> {
    let asked: ChatRequest = guard::json(request).await?;
    if asked.messages.is_empty() {
        return load(&server, asked.common, json!({ "message": { "role": "assistant", "content": "" } })).await;
    }
    if let Some(at) = asked.messages.iter().position(|m| m["images"].as_array().is_some_and(|i| !i.is_empty())) {
        return Err(Failure::bad(format!("messages[{at}]: images cannot be read; only text can")));
    }
    let (messages, tools) = (messages(asked.messages)?, asked.tools.unwrap_or_default());
    let chat = Chat { messages, tools, think: asked.common.think(), ..Default::default() };
    check_tools(&chat)?;
    answer(&server, asked.common, Prompt::Chat(chat), true).await
}

/// `POST /api/generate`
pub async fn generate(State(server): State<Server>, request: Request) -> Result<Response, Failure> {
    let asked: GenerateRequest = guard::json(request).await?;
    if asked.suffix.is_some_and(|s| !s.is_empty()) || asked.images.is_some_and(|i| !i.is_empty()) {
        return Err(Failure::bad("suffix and images are not supported"));
    }
    if asked.prompt.is_empty() {
        return load(&server, asked.common, json!({ "response": "" })).await;
    }
    let prompt = if asked.raw == Some(true) {
        Prompt::Text(asked.prompt)
    } else {
        let system = asked.system.map(|text| json!({ "role": "system", "content": text }));
        let user = json!({ "role": "user", "content": asked.prompt });
        let messages = system.into_iter().chain([user]).collect();
        Prompt::Chat(Chat { messages, think: asked.common.think(), ..Default::default() })
    };
    answer(&server, asked.common, prompt, false).await
}

/// A request without a prompt loads the model, or unloads it.
async fn load(server: &Server, common: Common, said: Value) -> Result<Response, Failure> {
    let writer = Lines::new(server, &common.model, true)?;
    let keep_alive = common.keep_alive.as_ref().map(duration).transpose()?;
    server.engine.keep(common.model, keep_alive).await?;
    let mut line = writer.line(said);
    line["done"] = true.into();
    line["done_reason"] = if keep_alive == Some(Duration::ZERO) { "unload" } else { "load" }.into();
    Ok(json_response(&line))
}

async fn answer(server: &Server, common: Common, prompt: Prompt, chat: bool) -> Result<Response, Failure> {
    let wants_stream = common.stream.unwrap_or(true);
    let ask = common.ask(prompt)?;
    let mut writer = Lines::new(server, &ask.model, chat)?;
    let mut answer = Answer::begin(server.engine.answer(ask)?, 1).await?;
    writer.load_seconds = answer.load_seconds;
    if wants_stream {
        return Ok(stream(answer, writer));
    }
    let Choice { reasoning, content, calls, end, .. } = answer.whole().await?.pop().unwrap_or_default();
    let said = writer.said(&content, &reasoning, &calls);
    let end = end.ok_or_else(|| Failure::internal("the answer has no end"))?;
    Ok(json_response(&writer.last(said, &end)))
}

struct Lines {
    model: String,
    chat: bool,
    begun: Instant,
    load_seconds: f64,
    end: Option<End>,
}

impl Lines {
    fn new(server: &Server, model: &str, chat: bool) -> Result<Self, Failure> {
        let entry = &server.registry.entries()[server.registry.find(model)?];
        Ok(Lines { model: entry.name.clone(), chat, begun: Instant::now(), load_seconds: 0.0, end: None })
    }

    fn said(&self, content: &str, thinking: &str, calls: &[Call]) -> Value {
        let call = |c: &Call| json!({ "id": c.id, "function": { "name": c.name, "arguments": c.arguments } });
        let mut message = match self.chat {
            true => json!({ "role": "assistant", "content": content }),
            false => json!({ "response": content }),
        };
        if !thinking.is_empty() {
            message["thinking"] = thinking.into();
        }
        if !calls.is_empty() {
            message["tool_calls"] = calls.iter().map(call).collect();
        }
        if self.chat { json!({ "message": message }) } else { message }
    }

    /// A line that is not the last.
    fn line(&self, said: Value) -> Value {
        let mut line = json!({ "model": self.model, "created_at": rfc3339(SystemTime::now()) });
        if let (Value::Object(line), Value::Object(said)) = (&mut line, said) {
            line.extend(said);
        }
        line["done"] = false.into();
        line
    }

    fn last(&self, said: Value, end: &End) -> Value {
        let mut line = self.line(said);
        let nanoseconds = |seconds: f64| (seconds * 1e9) as u64;
        let Timings { prompt_tokens, generated_tokens, prompt_seconds, decode_seconds, .. } = end.timings;
        let rest = json!({
            "done": true,
            "done_reason": if end.cut() { "length" } else { "stop" },
            "total_duration": self.begun.elapsed().as_nanos() as u64,
            "load_duration": nanoseconds(self.load_seconds),
            "prompt_eval_count": prompt_tokens,
            "prompt_eval_duration": nanoseconds(prompt_seconds),
            "eval_count": generated_tokens,
            "eval_duration": nanoseconds(decode_seconds),
        });
        if let (Value::Object(line), Value::Object(rest)) = (&mut line, rest) {
            line.extend(rest);
        }
        line
    }
}

impl Writer for Lines {
    const TYPE: &'static str = "application/x-ndjson";

    fn begin(&mut self, _: &Answer) -> String {
        String::new()
    }

    fn part(&mut self, _: usize, part: Part) -> String {
        let said = match part {
            Part::Content(text) => self.said(&text, "", &[]),
            Part::Reasoning(text) => self.said("", &text, &[]),
            Part::Call(call) => self.said("", "", &[call]),
            Part::Logprob(..) => return String::new(),
            Part::End(end) => {
                self.end = Some(end);
                return String::new();
            }
        };
        format!("{}\n", self.line(said))
    }

    fn end(&mut self, _: &Answer) -> String {
        let last = self.end.as_ref().map(|end| self.last(self.said("", "", &[]), end));
        last.map(|line| format!("{line}\n")).unwrap_or_default()
    }

    fn fail(&mut self, failure: &Failure) -> String {
        format!("{}\n", failure.body(Dialect::Ollama))
    }
}

/// `2025-01-31T12:34:56Z`
fn rfc3339(time: SystemTime) -> String {
    crate::cli::date(time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs())) + "Z"
}

/// `GET /api/version`
pub async fn version() -> Response {
    json_response(&json!({ "version": VERSION }))
}

fn details(entry: &Entry) -> Value {
    json!({
        "parent_model": "",
        "format": "gguf",
        "family": entry.architecture,
        "families": [entry.architecture],
        "parameter_size": count(entry.parameters),
        "quantization_level": entry.quantization,
    })
}

/// `7.6B`, `135M`, `260K`
fn count(n: u64) -> String {
    match n {
        0..1_000_000 => format!("{}K", n / 1000),
        1_000_000..1_000_000_000 => format!("{}M", n / 1_000_000),
        _ => format!("{:.1}B", n as f64 / 1e9),
    }
}

fn describe(entry: &Entry) -> Value {
    json!({
        "name": entry.name,
        "model": entry.name,
        "modified_at": rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(entry.modified)),
        "size": entry.bytes,
        "digest": "",
        "details": details(entry),
    })
}

/// `GET /api/tags`
pub async fn tags(State(server): State<Server>) -> Response {
    let models: Vec<Value> = server.registry.entries().iter().map(describe).collect();
    json_response(&json!({ "models": models }))
}

/// `GET /api/ps`
pub async fn ps(State(server): State<Server>) -> Response {
    let loaded = server.engine.resident().map(|resident| {
        let mut model = describe(&server.registry.entries()[resident.index]);
        let until = resident.until.unwrap_or(SystemTime::UNIX_EPOCH + Duration::from_secs(now()) + FOR_EVER);
        model["expires_at"] = rfc3339(until).into();
        model["size_vram"] = resident.gpu_bytes.into();
        model["context_length"] = resident.context.into();
        model
    });
    json_response(&json!({ "models": loaded.into_iter().collect::<Vec<_>>() }))
}

#[derive(Deserialize)]
struct ShowRequest {
    #[serde(default, alias = "name")]
    model: String,
}

/// `POST /api/show`
pub async fn show(State(server): State<Server>, request: Request) -> Result<Response, Failure> {
    let asked: ShowRequest = guard::json(request).await?;
    let entry = &server.registry.entries()[server.registry.find(&asked.model)?];
    let mut capabilities = vec!["completion", "tools", "embedding"];
    if entry.template.contains("<think>") {
        capabilities.push("thinking");
    }
    let mut info = Map::new();
    info.insert("general.architecture".into(), entry.architecture.clone().into());
    info.insert("general.parameter_count".into(), entry.parameters.into());
    info.insert(format!("{}.context_length", entry.architecture), entry.context.into());
    Ok(json_response(&json!({
        "license": entry.licence,
        "modelfile": "",
        "parameters": "",
        "template": entry.template,
        "modified_at": rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(entry.modified)),
        "details": details(entry),
        "model_info": info,
        "capabilities": capabilities,
    })))
}

#[derive(Deserialize)]
struct EmbedRequest {
    #[serde(default)]
    model: String,
    #[serde(alias = "prompt")]
    input: OneOrMany<String>,
}

async fn vectors(server: &Server, asked: EmbedRequest) -> Result<(Vec<Vec<f32>>, usize, String), Failure> {
    let name = server.registry.entries()[server.registry.find(&asked.model)?].name.clone();
    let prompts = asked.input.into_vec().into_iter().map(Prompt::Text).collect();
    let (vectors, read) = server.engine.embed(asked.model, prompts).await?;
    Ok((vectors, read, name))
}

/// `POST /api/embed`
pub async fn embed(State(server): State<Server>, request: Request) -> Result<Response, Failure> {
    let begun = Instant::now();
    let (vectors, read, name) = vectors(&server, guard::json(request).await?).await?;
    Ok(json_response(&json!({
        "model": name,
        "embeddings": vectors,
        "total_duration": begun.elapsed().as_nanos() as u64,
        "load_duration": 0,
        "prompt_eval_count": read,
    })))
}

/// `POST /api/embeddings`, the older one of a single vector.
pub async fn embeddings(State(server): State<Server>, request: Request) -> Result<Response, Failure> {
    let (mut vectors, ..) = vectors(&server, guard::json(request).await?).await?;
    Ok(json_response(&json!({ "embedding": vectors.pop() })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_or_words() {
        let read = |value: Value| duration(&value).map(|d| d.as_secs_f64());
        assert_eq!(read(json!(90)).unwrap(), 90.0);
        assert_eq!(read(json!("1h30m")).unwrap(), 5400.0);
        assert_eq!(read(json!("250ms")).unwrap(), 0.25);
        assert_eq!(read(json!("0")).unwrap(), 0.0);
        for for_ever in [json!(-1), json!("-1m"), json!(1e300)] {
            assert_eq!(duration(&for_ever).unwrap(), FOR_EVER);
        }
        for bad in [json!("soon"), json!("5 parsecs"), json!([]), json!("m")] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }
}
