//! Ollama's API: chat, generate, embed, and information about models. Streams are lines of JSON.

use std::time::{Duration, Instant, SystemTime};

use axum::extract::{Request, State};
use axum::response::Response;
use firelight::conversation::{AnswerEnd, AnswerEvent, Conversation, Prompt, ResponseFormat, read_messages};
use firelight::sampler::Sampling;
use firelight::session::Timings;
use firelight::text::date_time;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::answers::Logprobs;
use super::answers::{Answers, CollectedAnswer, StreamWriter, ToolCall, Usage, stream};
use super::fields::Fields;
use super::http_error::{Dialect, HttpError, json_response};
use super::openai::{choose_tools, likeliest, likely};
use super::registry::Entry;
use super::request::{AnswerRequest, sampling};
use super::response_format::response_format;
use super::{Server, now};

/// The version of the API that this resembles; clients decide by it which features they use.
const VERSION: &str = "0.12.0";

struct OllamaParams {
    model: String,
    sampling: Sampling,
    stop: Vec<String>,
    max_tokens: Option<usize>,
    format: ResponseFormat,
    stream: bool,
    think: Option<bool>,
    keep_alive: Option<Duration>,
    /// Whether an answer may hold only one call.
    one_call: bool,
}

struct ChatRequest {
    common: OllamaParams,
    messages: Vec<Value>,
    tools: Vec<Value>,
    /// Not in Ollama's API; libraries for several APIs send it anyway.
    tool_choice: Option<Value>,
}

impl ChatRequest {
    fn read(mut fields: Fields) -> Result<Self, HttpError> {
        let common = OllamaParams::read(&mut fields)?;
        let messages = fields.list("messages")?.unwrap_or_default();
        let (tools, tool_choice) = (fields.list("tools")?.unwrap_or_default(), fields.value("tool_choice"));
        let request = ChatRequest { common, messages, tools, tool_choice };
        fields.done()?;
        Ok(request)
    }

    fn chat(&self) -> Result<Conversation, HttpError> {
        if let Some(at) = self.messages.iter().position(|m| m["images"].as_array().is_some_and(|i| !i.is_empty())) {
            return Err(HttpError::field(format!("messages[{at}].images"), "images cannot be read; only text can"));
        }
        let (messages, tools) = (read_messages(self.messages.clone())?, self.tools.clone());
        let mut chat = Conversation::new(messages).tools(tools).reasoning(self.common.think);
        choose_tools(&mut chat, self.tool_choice.as_ref())?;
        Ok(chat)
    }
}

impl OllamaParams {
    fn read(fields: &mut Fields) -> Result<Self, HttpError> {
        // The server chooses the other options (`num_ctx`, `num_gpu` ...); those of a request are ignored.
        let mut options = fields.inner("options", "options.")?;
        let logprobs = likeliest("top_logprobs", fields.count("top_logprobs")?.unwrap_or(0))?;
        let logprobs = fields.flag("logprobs")?.unwrap_or(false).then_some(logprobs);
        let common = OllamaParams {
            model: fields.text("model")?.unwrap_or_default(),
            sampling: sampling(&mut options)?.logprobs(logprobs),
            stop: options.texts("stop")?.unwrap_or_default(),
            // 0 sets no limit there, as a negative number does.
            max_tokens: options.limit("num_predict")?.filter(|n| *n > 0),
            format: response_format(fields)?,
            stream: fields.flag("stream")?.unwrap_or(true),
            think: match fields.value("think") {
                None => None,
                Some(Value::Bool(think)) => Some(think),
                Some(Value::String(effort)) if EFFORTS.contains(&effort.as_str()) => Some(effort != "none"),
                Some(_) => return Err(fields.wrong("think", format!("it is true, false or one of {EFFORTS:?}"))),
            },
            keep_alive: keep_alive(fields)?,
            one_call: fields.flag("parallel_tool_calls")? == Some(false),
        };
        options.done()?;
        Ok(common)
    }

    fn ask(self, prompt: Prompt) -> Result<AnswerRequest, HttpError> {
        Ok(AnswerRequest {
            model: self.model,
            prompts: vec![prompt],
            choices: 1,
            sampling: self.sampling,
            stop: self.stop,
            max_tokens: self.max_tokens,
            format: self.format,
            keep_alive: self.keep_alive,
        })
    }
}

/// The levels of reasoning effort.
const EFFORTS: [&str; 6] = ["none", "minimal", "low", "medium", "high", "max"];

/// Reads how long a model stays loaded.
pub fn keep_alive(fields: &mut Fields) -> Result<Option<Duration>, HttpError> {
    let Some(value) = fields.value("keep_alive") else { return Ok(None) };
    let wrong = || fields.wrong("keep_alive", "a number of seconds or a duration such as \"5m\" is expected");
    duration(&value).map(Some).ok_or_else(wrong)
}

/// Longer than any server runs: for ever.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// `"5m"`, `"1h30m"`, `"90s"`, or a number of seconds; below 0: for ever.
fn duration(value: &Value) -> Option<Duration> {
    let seconds = match value {
        Value::Number(n) => n.as_f64()?,
        Value::String(text) => match text.parse() {
            Ok(seconds) => seconds,
            Err(_) => text.parse::<SignedDuration>().ok()?.as_secs_f64(),
        },
        _ => return None,
    };
    Some(if seconds < 0.0 { FOR_EVER } else { Duration::try_from_secs_f64(seconds).unwrap_or(FOR_EVER).min(FOR_EVER) })
}

/// `POST /api/chat`
pub async fn chat(State(server): State<Server>, request: Request) -> Result<Response, HttpError> {
    let asked = ChatRequest::read(Fields::of(request).await?)?;
    if asked.messages.is_empty() {
        return load(&server, asked.common, json!({ "message": { "role": "assistant", "content": "" } })).await;
    }
    let chat = asked.chat()?;
    answer(&server, asked.common, Prompt::Conversation(chat), true).await
}

/// `POST /api/generate`
pub async fn generate(State(server): State<Server>, request: Request) -> Result<Response, HttpError> {
    let mut fields = Fields::of(request).await?;
    let common = OllamaParams::read(&mut fields)?;
    let prompt = fields.text("prompt")?.unwrap_or_default();
    let (system, raw) = (fields.text("system")?, fields.flag("raw")?.unwrap_or(false));
    fields.done()?;
    if prompt.is_empty() {
        return load(&server, common, json!({ "response": "" })).await;
    }
    let prompt = if raw {
        Prompt::Text(prompt)
    } else {
        let system = system.filter(|text| !text.is_empty()).map(|text| json!({ "role": "system", "content": text }));
        let user = json!({ "role": "user", "content": prompt });
        let messages = system.into_iter().chain([user]).collect();
        Prompt::Conversation(Conversation::new(messages).reasoning(common.think))
    };
    answer(&server, common, prompt, false).await
}

/// A request without a prompt loads the model, or unloads it.
async fn load(server: &Server, common: OllamaParams, said: Value) -> Result<Response, HttpError> {
    let mut writer = Lines::new(server, &common.model, true)?;
    let keep_alive = common.keep_alive;
    server.engine.keep(&common.model, keep_alive).await?;
    let mut line = writer.line(said);
    line["done"] = true.into();
    line["done_reason"] = if keep_alive == Some(Duration::ZERO) { "unload" } else { "load" }.into();
    Ok(json_response(&line))
}

async fn answer(server: &Server, common: OllamaParams, prompt: Prompt, chat: bool) -> Result<Response, HttpError> {
    let (wants_stream, one_call) = (common.stream, common.one_call);
    let ask = common.ask(prompt)?;
    let mut writer = Lines::new(server, &ask.model, chat)?;
    let answer = Answers::begin(server.engine.answer(ask)?, 1);
    let answer = async move { Ok(answer.await?.one_call(one_call)) };
    if wants_stream {
        return stream(answer, writer).await;
    }
    let mut answer = answer.await?;
    writer.load_seconds = answer.load_seconds();
    let CollectedAnswer { reasoning, content, calls, end, logprobs } = answer.whole().await?.pop().unwrap_or_default();
    let said = writer.said(&content, &reasoning, &calls);
    writer.logprobs = logprobs;
    let end = end.ok_or_else(|| HttpError::internal("the answer has no end"))?;
    Ok(answer.json(&writer.last(said, &end)))
}

struct Lines {
    model: String,
    chat: bool,
    begun: Instant,
    load_seconds: f64,
    /// The call that is being written.
    call: Option<ToolCall>,
    /// Log-probabilities that wait for text.
    logprobs: Vec<Logprobs>,
    end: Option<AnswerEnd>,
}

impl Lines {
    fn new(server: &Server, model: &str, chat: bool) -> Result<Self, HttpError> {
        let entry = &server.registry.entries()[server.registry.find(model)?];
        Ok(Lines {
            model: entry.name.clone(),
            chat,
            begun: Instant::now(),
            load_seconds: 0.0,
            call: None,
            logprobs: vec![],
            end: None,
        })
    }

    fn said(&self, content: &str, thinking: &str, calls: &[ToolCall]) -> Value {
        let call = |c: &ToolCall| json!({ "id": c.id, "function": { "name": c.name, "arguments": c.object() } });
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
    fn line(&mut self, said: Value) -> Value {
        let mut line = self.plain_line(said);
        let logprobs = std::mem::take(&mut self.logprobs);
        if !logprobs.is_empty() {
            line["logprobs"] = logprobs.iter().map(likely).collect();
        }
        line
    }

    /// The same, without the log-probabilities that wait for text.
    fn plain_line(&self, said: Value) -> Value {
        let mut line = json!({ "model": self.model, "created_at": rfc3339(SystemTime::now()), "done": false });
        if let (Value::Object(line), Value::Object(said)) = (&mut line, said) {
            line.extend(said);
        }
        line
    }

    fn last(&mut self, said: Value, end: &AnswerEnd) -> Value {
        let mut line = self.line(said);
        let nanoseconds = |seconds: f64| (seconds * 1e9) as u64;
        let Timings { prompt_tokens, generated_tokens, prompt_seconds, decode_seconds, .. } = end.timings;
        let rest = json!({
            "done": true,
            "done_reason": if end.truncated() { "length" } else { "stop" },
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

impl StreamWriter for Lines {
    const TYPE: &'static str = "application/x-ndjson";

    // Every line is read as JSON: one that adds nothing to the answer.
    fn waiting(&self) -> String {
        format!("{}\n", self.plain_line(self.said("", "", &[])))
    }

    fn begin(&mut self, answer: &Answers) -> String {
        self.load_seconds = answer.load_seconds();
        String::new()
    }

    fn part(&mut self, _: Usage, _: usize, part: AnswerEvent) -> String {
        let said = match part {
            AnswerEvent::Content(text) => self.said(&text, "", &[]),
            AnswerEvent::Reasoning(text) => self.said("", &text, &[]),
            // Whole, as clients read them.
            AnswerEvent::ToolCall { id, name } => {
                self.call = Some(ToolCall::new(id, name));
                return String::new();
            }
            AnswerEvent::Arguments(text) => {
                self.call.iter_mut().for_each(|call| call.arguments += &text);
                return String::new();
            }
            AnswerEvent::ToolCallEnd { .. } => {
                let call = self.call.take();
                self.said("", "", call.as_slice())
            }
            AnswerEvent::Token { token, top } => {
                self.logprobs.push((token, top.unwrap_or_default()));
                return String::new();
            }
            AnswerEvent::Finished(end) => {
                self.end = Some(end);
                return String::new();
            }
            _ => return String::new(),
        };
        format!("{}\n", self.line(said))
    }

    fn end(&mut self, _: &Answers) -> String {
        let Some(end) = self.end.take() else { return String::new() };
        let said = self.said("", "", &[]);
        format!("{}\n", self.last(said, &end))
    }

    fn fail(&mut self, failure: &HttpError) -> String {
        format!("{}\n", failure.body(Dialect::Ollama))
    }
}

/// `2025-01-31T12:34:56Z`
fn rfc3339(time: SystemTime) -> String {
    seconds_rfc3339(time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs()))
}

/// The same of seconds since 1970.
pub fn seconds_rfc3339(seconds: u64) -> String {
    date_time(seconds) + "Z"
}

/// `GET /api/version`
pub async fn version() -> Response {
    json_response(&json!({ "version": VERSION }))
}

fn details(entry: &Entry) -> Value {
    json!({
        "format": entry.format,
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
        "modified_at": seconds_rfc3339(entry.modified),
        "size": entry.bytes,
        "digest": entry.digest,
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
        let entry = &server.registry.entries()[resident.index];
        let mut model = describe(entry);
        let until = resident.until.unwrap_or(SystemTime::UNIX_EPOCH + Duration::from_secs(now()) + FOR_EVER);
        model["expires_at"] = rfc3339(until).into();
        // The model is on the device; offloaded experts are also in the file.
        model["size"] = resident.gpu_bytes.max(entry.bytes).into();
        model["size_vram"] = resident.gpu_bytes.into();
        model["context_length"] = resident.context.into();
        model
    });
    json_response(&json!({ "models": loaded.into_iter().collect::<Vec<_>>() }))
}

/// `POST /api/show`
pub async fn show(State(server): State<Server>, request: Request) -> Result<Response, HttpError> {
    let mut fields = Fields::of(request).await?;
    let (model, name) = (fields.text("model")?, fields.text("name")?);
    let entry = &server.registry.entries()[server.registry.find(&model.or(name).unwrap_or_default())?];
    if fields.flag("verbose")? == Some(true) {
        return Err(fields.wrong("verbose", "the lists in a model's header are not available"));
    }
    // Not "embedding", although embeddings are available: Ollama's program would then use the model only for them.
    let mut capabilities = vec!["completion", "tools"];
    if entry.template.contains("<think>") {
        capabilities.push("thinking");
    }
    let mut info = entry.info.clone();
    info.insert("general.parameter_count".into(), entry.parameters.into());
    info.insert(format!("{}.context_length", entry.architecture), entry.context.into());
    info.insert(format!("{}.embedding_length", entry.architecture), entry.width.into());
    let parameters = parameters();
    let lines: String = parameters.lines().map(|line| format!("PARAMETER {line}\n")).collect();
    let template = match entry.template.as_str() {
        "" => String::new(),
        template => format!("TEMPLATE \"\"\"{template}\"\"\"\n"),
    };
    let mut told = json!({
        "modelfile": format!("FROM {}\n{template}{lines}", entry.name),
        "parameters": parameters,
        "modified_at": seconds_rfc3339(entry.modified),
        "details": details(entry),
        "model_info": info,
        "capabilities": capabilities,
    });
    for (key, text) in [("license", &entry.licence), ("template", &entry.template)] {
        if !text.is_empty() {
            told[key] = text.as_str().into();
        }
    }
    Ok(json_response(&told))
}

/// The default sampling parameters, a line for each option.
fn parameters() -> String {
    let d = Sampling::default();
    format!(
        "temperature {}\ntop_k {}\ntop_p {}\nmin_p {}\nrepeat_penalty {}",
        d.temperature, d.top_k, d.top_p, d.min_p, d.repetition_penalty
    )
}

#[cfg(test)]
pub fn read_chat(body: Value) -> Result<Conversation, HttpError> {
    ChatRequest::read(Fields::new(body)?)?.chat()
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
            assert!(read(bad.clone()).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_line_that_waits_adds_nothing() {
        for chat in [true, false] {
            let (model, begun) = ("m".to_string(), Instant::now());
            let lines = Lines { model, chat, begun, load_seconds: 0.0, call: None, logprobs: vec![], end: None };
            let line: Value = serde_json::from_str(&lines.waiting()).expect("JSON");
            let text = if chat { &line["message"]["content"] } else { &line["response"] };
            assert_eq!((text, &line["done"]), (&json!(""), &json!(false)), "{line}");
        }
    }
}
