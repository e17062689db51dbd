//! A request's answers as they come, taken apart; read whole, or written out as a stream. All dialects stand on this.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;
use firelight::session::{Finish, Timings};
use futures_util::Stream;
use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;

use super::ask::token;
use super::engine::{Event, Logprobs, Token, stopped};
use super::failure::{Failure, json_response};
use super::follow::whole_members;
use super::reply::{self, Splitter};

/// A piece of an answer.
#[derive(Clone, Debug)]
pub enum Part {
    Reasoning(String),
    Content(String),
    /// A tool to be called; its arguments follow.
    Open(Call),
    /// More of the arguments.
    Piece(String),
    /// There is no more of the arguments; `whole` unless the answer ended within them.
    Close {
        whole: bool,
    },
    /// A token with its log-probability and those of the likeliest.
    Logprob(Token, Vec<Token>),
    End(End),
}

/// A tool to be called.
#[derive(Clone, Debug)]
pub struct Call {
    /// Nine letters and digits: what Mistral's templates want of an id.
    pub id: String,
    pub name: String,
    /// JSON, as far as it came.
    pub arguments: String,
}

impl Call {
    /// The arguments as an object: those that are whole, if they were cut.
    pub fn object(&self) -> Value {
        whole_members(&self.arguments).into()
    }
}

/// How an answer ended.
#[derive(Clone, Debug)]
pub struct End {
    pub reason: Finish,
    pub stop: Option<String>,
    pub called: bool,
    pub timings: Timings,
}

impl End {
    /// Whether it ended because there was no more room.
    pub fn cut(&self) -> bool {
        matches!(self.reason, Finish::MaxTokens | Finish::ContextFull)
    }
}

/// Counts of tokens.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub prompt: usize,
    pub reused: usize,
    pub generated: usize,
}

/// Answers that come.
pub struct Answer {
    events: UnboundedReceiver<Event>,
    splitters: Vec<Option<Splitter>>,
    called: Vec<bool>,
    ready: VecDeque<(usize, Part)>,
    open: usize,
    pub usage: Usage,
    /// What the client's schemas demand and the answer is not held to.
    unheld: Vec<String>,
    pub load_seconds: f64,
}

/// One answer, whole.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    pub reasoning: String,
    pub content: String,
    pub calls: Vec<Call>,
    pub logprobs: Vec<Logprobs>,
    pub end: Option<End>,
}

impl Answer {
    /// Waits until the engine has begun, so that a refusal can still be a status of its own. `answers` to each prompt.
    pub async fn begin(mut events: UnboundedReceiver<Event>, answers: usize) -> Result<Self, Failure> {
        match events.recv().await {
            Some(Event::Started { prompt_tokens, format, thinking, form, tools, unheld, load_seconds }) => {
                let open = prompt_tokens.len() * answers;
                let splitter = Splitter::new(format, thinking).held(form, tools);
                let splitters = vec![Some(splitter); open];
                let usage = Usage { prompt: prompt_tokens.iter().sum(), ..Default::default() };
                let (called, ready) = (vec![false; open], VecDeque::new());
                Ok(Answer { events, splitters, called, ready, open, usage, unheld, load_seconds })
            }
            Some(Event::Failed(failure)) => Err(failure),
            _ => Err(stopped()),
        }
    }

    /// The next part and the number of its answer; `None` when all are complete.
    pub async fn next(&mut self) -> Result<Option<(usize, Part)>, Failure> {
        loop {
            if let Some(part) = self.ready.pop_front() {
                return Ok(Some(part));
            }
            if self.open == 0 {
                return Ok(None);
            }
            match self.events.recv().await {
                Some(Event::Text { choice, text }) => {
                    let parts = self.splitters[choice].as_mut().map(|s| s.push(&text)).unwrap_or_default();
                    self.take(choice, parts);
                }
                Some(Event::Token { choice, token, top }) => self.ready.push_back((choice, Part::Logprob(token, top))),
                Some(Event::Finished { choice, reason, stop, timings }) => {
                    let rest = self.splitters[choice].take().map(Splitter::finish).unwrap_or_default();
                    self.take(choice, rest);
                    self.open -= 1;
                    self.usage.generated += timings.generated_tokens;
                    self.usage.reused = self.usage.reused.max(timings.reused_tokens.min(self.usage.prompt));
                    let end = End { reason, stop, called: self.called[choice], timings };
                    self.ready.push_back((choice, Part::End(end)));
                }
                Some(Event::Failed(failure)) => return Err(failure),
                Some(Event::Started { .. }) => {}
                None => return Err(stopped()),
            }
        }
    }

    fn take(&mut self, choice: usize, parts: Vec<reply::Part>) {
        let open = |name| Part::Open(Call { id: token(9), name, arguments: String::new() });
        for part in parts {
            self.called[choice] |= matches!(part, reply::Part::Call { .. } | reply::Part::Close { whole: true });
            let parts = match part {
                reply::Part::Reasoning(text) => vec![Part::Reasoning(text)],
                reply::Part::Content(text) => vec![Part::Content(text)],
                reply::Part::Call { name, arguments } => {
                    vec![open(name), Part::Piece(Value::Object(arguments).to_string()), Part::Close { whole: true }]
                }
                reply::Part::Open { name } => vec![open(name)],
                reply::Part::Piece(text) => vec![Part::Piece(text)],
                reply::Part::Close { whole } => vec![Part::Close { whole }],
            };
            self.ready.extend(parts.into_iter().map(|part| (choice, part)));
        }
    }

    /// A response of JSON to the request.
    pub fn json(&self, value: &Value) -> Response {
        self.tell(json_response(value))
    }

    /// Adds to a response what its answers are not held to.
    fn tell<T>(&self, mut response: Response<T>) -> Response<T> {
        let told = (!self.unheld.is_empty()).then(|| HeaderValue::from_str(&listed(&self.unheld)).ok()).flatten();
        told.into_iter().for_each(|told| drop(response.headers_mut().insert(NOT_HELD, told)));
        response
    }

    /// All answers, when they are complete.
    pub async fn whole(&mut self) -> Result<Vec<Choice>, Failure> {
        let mut choices = vec![Choice::default(); self.open];
        while let Some((at, part)) = self.next().await? {
            let choice = &mut choices[at];
            match part {
                Part::Reasoning(text) => choice.reasoning.push_str(&text),
                Part::Content(text) => choice.content.push_str(&text),
                Part::Open(call) => choice.calls.push(call),
                Part::Piece(text) => choice.calls.last_mut().into_iter().for_each(|call| call.arguments += &text),
                Part::Close { .. } => {}
                Part::Logprob(token, top) => choice.logprobs.push((token, top)),
                Part::End(end) => choice.end = Some(end),
            }
        }
        Ok(choices)
    }
}

/// The header that lists the keywords of schemas to which answers are not held.
const NOT_HELD: HeaderName = HeaderName::from_static("x-firelight-not-held");
/// Of these at most so many are named.
const MOST_NAMED: usize = 32;

/// A list in a header: what is no visible letter there is percent-encoded.
fn listed(items: &[String]) -> String {
    let visible = |byte: u8| byte.is_ascii_graphic() && byte != b',' && byte != b'%';
    let encode = |byte: u8| if visible(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    let mut named: Vec<String> = items.iter().take(MOST_NAMED).map(|item| item.bytes().map(encode).collect()).collect();
    if items.len() > MOST_NAMED {
        named.push(format!("and {} more", items.len() - MOST_NAMED));
    }
    named.join(", ")
}

/// How a dialect writes a stream.
pub trait Writer: Send + 'static {
    /// The media type.
    const TYPE: &'static str;
    /// What comes before everything.
    fn begin(&mut self, answer: &Answer) -> String;
    /// A part of an answer; nothing if it is not worth a message.
    fn part(&mut self, choice: usize, part: Part) -> String;
    /// What comes after everything.
    fn end(&mut self, answer: &Answer) -> String;
    /// What may be written while there is nothing to say, so that nobody between here and the client thinks that the
    /// connection is dead; empty where the format has nothing of the kind.
    const WAITING: &'static str;
    /// That it went wrong on the way.
    fn fail(&mut self, failure: &Failure) -> String;
}

/// A stream is not silent for longer, as while a long prompt is read.
const SILENCE: Duration = Duration::from_secs(15);
/// A comment in server-sent events, which clients pass over.
pub const COMMENT: &str = ": waiting\n\n";
/// Server-sent events.
pub const EVENTS: &str = "text/event-stream; charset=utf-8";

/// A response that is written while the answers come. When it is dropped, because the client went away, so is the
/// answer, and the engine sees it.
pub fn stream<W: Writer>(answer: Answer, writer: W) -> Response {
    let head = answer.tell(Response::new(()));
    let mut response = head.map(|()| Body::from_stream(written(answer, writer, SILENCE)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(W::TYPE));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn written<W: Writer>(
    answer: Answer,
    writer: W,
    silence: Duration,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    enum State {
        Begin,
        Parts,
        Over,
    }
    let step = move |(mut answer, mut writer, state): (Answer, W, State)| async move {
        let (text, state) = match state {
            State::Over => return None,
            State::Begin => (writer.begin(&answer), State::Parts),
            State::Parts => match tokio::time::timeout(silence, answer.next()).await {
                Ok(Ok(Some((choice, part)))) => (writer.part(choice, part), State::Parts),
                Ok(Ok(None)) => (writer.end(&answer), State::Over),
                Ok(Err(failure)) => (writer.fail(&failure), State::Over),
                Err(_) => (W::WAITING.to_string(), State::Parts),
            },
        };
        Some((Ok::<_, Infallible>(Bytes::from(text)), (answer, writer, state)))
    };
    futures_util::stream::unfold((answer, writer, State::Begin), step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::reply::Format;
    use futures_util::StreamExt;

    struct Plain;

    impl Writer for Plain {
        const TYPE: &'static str = EVENTS;
        const WAITING: &'static str = COMMENT;

        fn begin(&mut self, _: &Answer) -> String {
            "begin".into()
        }

        fn part(&mut self, _: usize, part: Part) -> String {
            format!("{part:?}")
        }

        fn end(&mut self, _: &Answer) -> String {
            "end".into()
        }

        fn fail(&mut self, failure: &Failure) -> String {
            failure.message.clone()
        }
    }

    #[test]
    fn a_stream_that_has_nothing_to_say_says_so() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let texts: Vec<Bytes> = runtime.block_on(async {
            let (events, received) = tokio::sync::mpsc::unbounded_channel();
            let started = Event::Started {
                prompt_tokens: vec![1],
                format: Format::Text,
                thinking: false,
                form: false,
                tools: vec![],
                unheld: vec![],
                load_seconds: 0.0,
            };
            events.send(started).expect("it listens");
            let answer = Answer::begin(received, 1).await.expect("it begins");
            let mut stream = Box::pin(written(answer, Plain, Duration::from_millis(5)));
            let mut texts = Vec::new();
            for i in 0..6 {
                if i == 3 {
                    events.send(Event::Text { choice: 0, text: "a".into() }).expect("it listens");
                    events.send(Event::Failed(stopped())).expect("it listens");
                }
                texts.extend(stream.next().await.map(|text| text.expect("no error")));
            }
            texts
        });
        let failure = stopped().message;
        assert_eq!(texts, ["begin", COMMENT, COMMENT, "Content(\"a\")", &failure]);
    }
}
