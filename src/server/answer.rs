//! A request's answers as they come, taken apart; read whole, or written out as a stream. All dialects stand on this.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use firelight::session::{Finish, Timings};
use serde_json::{Map, Value};
use tokio::sync::mpsc::UnboundedReceiver;

use super::ask::token;
use super::engine::{Event, Logprobs, Token, stopped};
use super::failure::Failure;
use super::reply::{self, Splitter};

/// A piece of an answer.
#[derive(Clone, Debug)]
pub enum Part {
    Reasoning(String),
    Content(String),
    Call(Call),
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
    pub arguments: Map<String, Value>,
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
            Some(Event::Started { prompt_tokens, format, thinking, load_seconds }) => {
                let open = prompt_tokens.len() * answers;
                let splitters = (0..open).map(|_| Some(Splitter::new(format, thinking))).collect();
                let usage = Usage { prompt: prompt_tokens.iter().sum(), ..Default::default() };
                let (called, ready) = (vec![false; open], VecDeque::new());
                Ok(Answer { events, splitters, called, ready, open, usage, load_seconds })
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
        for part in parts {
            let part = match part {
                reply::Part::Reasoning(text) => Part::Reasoning(text),
                reply::Part::Content(text) => Part::Content(text),
                reply::Part::Call { name, arguments } => {
                    self.called[choice] = true;
                    Part::Call(Call { id: token(9), name, arguments })
                }
            };
            self.ready.push_back((choice, part));
        }
    }

    /// All answers, when they are complete.
    pub async fn whole(&mut self) -> Result<Vec<Choice>, Failure> {
        let mut choices = vec![Choice::default(); self.open];
        while let Some((at, part)) = self.next().await? {
            let choice = &mut choices[at];
            match part {
                Part::Reasoning(text) => choice.reasoning.push_str(&text),
                Part::Content(text) => choice.content.push_str(&text),
                Part::Call(call) => choice.calls.push(call),
                Part::Logprob(token, top) => choice.logprobs.push((token, top)),
                Part::End(end) => choice.end = Some(end),
            }
        }
        Ok(choices)
    }
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
    /// That it went wrong on the way.
    fn fail(&mut self, failure: &Failure) -> String;
}

/// Server-sent events.
pub const EVENTS: &str = "text/event-stream; charset=utf-8";

/// A response that is written while the answers come. When it is dropped, because the client went away, so is the
/// answer, and the engine sees it.
pub fn stream<W: Writer>(answer: Answer, writer: W) -> Response {
    enum State {
        Begin,
        Parts,
        Over,
    }
    let step = |(mut answer, mut writer, state): (Answer, W, State)| async move {
        let (text, state) = match state {
            State::Over => return None,
            State::Begin => (writer.begin(&answer), State::Parts),
            State::Parts => match answer.next().await {
                Ok(Some((choice, part))) => (writer.part(choice, part), State::Parts),
                Ok(None) => (writer.end(&answer), State::Over),
                Err(failure) => (writer.fail(&failure), State::Over),
            },
        };
        Some((Ok::<_, Infallible>(Bytes::from(text)), (answer, writer, state)))
    };
    let body = Body::from_stream(futures_util::stream::unfold((answer, writer, State::Begin), step));
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(W::TYPE));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
