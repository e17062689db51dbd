//! A request's answers as they come, taken apart; read whole, or written out as a stream. All dialects stand on this.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;
use firelight::session::{FinishReason, Timings};
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
    /// The prompt is being read; from now on it is known what of it was in the cache.
    Begun(Usage),
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
    pub reason: FinishReason,
    pub called: bool,
    pub timings: Timings,
}

impl End {
    /// Whether it ended because there was no more room.
    pub fn cut(&self) -> bool {
        matches!(self.reason, FinishReason::MaxTokens | FinishReason::ContextFull)
    }

    /// The stop string that ended it.
    pub fn stop(&self) -> Option<&str> {
        match &self.reason {
            FinishReason::StopString(stop) => Some(stop),
            _ => None,
        }
    }
}

/// Counts of tokens. A prompt counts once, however many answers it has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub prompt: usize,
    /// Of the prompt's, those that were in the cache from before.
    pub reused: usize,
    pub generated: usize,
    /// Of those generated, the ones of the reasoning.
    pub reasoning: usize,
}

/// Answers that come.
pub struct Answer {
    events: UnboundedReceiver<Event>,
    splitters: Vec<Option<Splitter>>,
    called: Vec<bool>,
    /// Answers to each prompt, and whether each may hold but one call.
    answers: usize,
    one_call: bool,
    /// By answer: calls opened, and tokens of which nothing has been given out.
    calls: Vec<usize>,
    held: Vec<usize>,
    ready: VecDeque<(usize, Part)>,
    open: usize,
    pub usage: Usage,
    /// What the client's schemas demand and the answer is not held to.
    unheld: Vec<String>,
    /// The changes to the conversation that the chat template required.
    changes: Vec<&'static str>,
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
            Some(Event::Started {
                prompt_tokens,
                format,
                thinking,
                continues,
                form,
                tools,
                unheld,
                changes,
                load_seconds,
            }) => {
                let open = prompt_tokens.len() * answers;
                let splitter = Splitter::new(format, thinking).held(form, tools);
                let splitter = if continues { splitter.continuing() } else { splitter };
                let splitters = vec![Some(splitter); open];
                let usage = Usage { prompt: prompt_tokens.iter().sum(), ..Default::default() };
                Ok(Answer {
                    events,
                    splitters,
                    called: vec![false; open],
                    answers,
                    one_call: false,
                    calls: vec![0; open],
                    held: vec![0; open],
                    ready: VecDeque::new(),
                    open,
                    usage,
                    unheld,
                    changes,
                    load_seconds,
                })
            }
            Some(Event::Failed(failure)) => Err(failure),
            _ => Err(stopped()),
        }
    }

    /// The same; of several calls in an answer, only the first is given out.
    pub fn one_call(mut self, one: bool) -> Self {
        self.one_call = one;
        self
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
                Some(Event::Begun { choice, reused }) => {
                    // Further answers to a prompt find it in the cache, because the first one read it.
                    if choice.is_multiple_of(self.answers) {
                        self.usage.reused += reused;
                    }
                    self.ready.push_back((choice, Part::Begun(self.usage)));
                }
                Some(Event::Text { choice, text, tokens }) => {
                    let parts = self.splitters[choice].as_mut().map(|s| s.push(&text)).unwrap_or_default();
                    self.held[choice] += tokens;
                    self.take(choice, parts);
                }
                Some(Event::Token { choice, token, top }) => self.ready.push_back((choice, Part::Logprob(token, top))),
                Some(Event::Finished { choice, reason, timings }) => {
                    let rest = self.splitters[choice].take().map(Splitter::finish).unwrap_or_default();
                    self.take(choice, rest);
                    self.open -= 1;
                    self.usage.generated += timings.generated_tokens;
                    let end = End { reason, called: self.called[choice], timings };
                    self.ready.push_back((choice, Part::End(end)));
                }
                Some(Event::Failed(failure)) => return Err(failure),
                Some(Event::Started { .. }) => {}
                None => return Err(stopped()),
            }
        }
    }

    fn take(&mut self, choice: usize, parts: Vec<reply::Part>) {
        if let Some(first) = parts.first() {
            let tokens = std::mem::take(&mut self.held[choice]);
            self.usage.reasoning += if matches!(first, reply::Part::Reasoning(_)) { tokens } else { 0 };
        }
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
            for part in parts {
                self.calls[choice] += usize::from(matches!(part, Part::Open(_)));
                let of_call = matches!(part, Part::Open(_) | Part::Piece(_) | Part::Close { .. });
                if !(self.one_call && of_call && self.calls[choice] > 1) {
                    self.ready.push_back((choice, part));
                }
            }
        }
    }

    /// A response of JSON to the request.
    pub fn json(&self, value: &Value) -> Response {
        self.tell(json_response(value))
    }

    /// Adds to a response what its answers are not held to, and what was changed in the conversation.
    fn tell<T>(&self, mut response: Response<T>) -> Response<T> {
        let changes = self.changes.iter().map(|change| change.to_string()).collect();
        for (header, told) in [(NOT_HELD, &self.unheld), (CHANGES, &changes)] {
            let value = (!told.is_empty()).then(|| HeaderValue::from_str(&listed(told)).ok()).flatten();
            value.into_iter().for_each(|value| drop(response.headers_mut().insert(&header, value)));
        }
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
                Part::Begun(_) | Part::Close { .. } => {}
                Part::Logprob(token, top) => choice.logprobs.push((token, top)),
                Part::End(end) => choice.end = Some(end),
            }
        }
        Ok(choices)
    }
}

/// The header that lists the keywords of schemas to which answers are not held.
const NOT_HELD: HeaderName = HeaderName::from_static("x-firelight-not-held");
/// The header that names what was changed in a conversation because the chat template refused it as it was.
const CHANGES: HeaderName = HeaderName::from_static("x-firelight-template-changes");
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
    /// connection is dead.
    fn waiting(&self) -> String;
    /// That it went wrong on the way.
    fn fail(&mut self, failure: &Failure) -> String;
}

/// A stream is not silent for longer, as while others are answered or a long prompt is read.
const SILENCE: Duration = Duration::from_secs(15);
/// A comment in server-sent events, which clients pass over.
pub const COMMENT: &str = ": waiting\n\n";
/// Server-sent events.
pub const EVENTS: &str = "text/event-stream; charset=utf-8";

/// Answers that may not have begun.
type Coming = Pin<Box<dyn Future<Output = Result<Answer, Failure>> + Send>>;

/// A response that is written while the answers come. A refusal that comes at once has a status of its own; when it
/// comes late, headers are out, and the stream says it. When the response is dropped, because the client went away, so is
/// the answer, and the engine sees it.
pub async fn stream<W: Writer>(
    coming: impl Future<Output = Result<Answer, Failure>> + Send + 'static,
    writer: W,
) -> Result<Response, Failure> {
    let mut coming: Coming = Box::pin(coming);
    let mut head = Response::new(());
    if let Ok(begun) = tokio::time::timeout(SILENCE, &mut coming).await {
        let begun = begun?;
        head = begun.tell(head);
        coming = Box::pin(std::future::ready(Ok(begun)));
    }
    let mut response = head.map(|()| Body::from_stream(written(coming, writer, SILENCE)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(W::TYPE));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

fn written<W: Writer>(
    coming: Coming,
    writer: W,
    silence: Duration,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    enum State {
        Coming(Coming),
        Parts(Box<Answer>),
        Over,
    }
    let step = move |(mut writer, state): (W, State)| async move {
        let (text, state) = match state {
            State::Over => return None,
            State::Coming(mut coming) => match tokio::time::timeout(silence, &mut coming).await {
                Ok(Ok(answer)) => (writer.begin(&answer), State::Parts(Box::new(answer))),
                Ok(Err(failure)) => (writer.fail(&failure), State::Over),
                Err(_) => (writer.waiting(), State::Coming(coming)),
            },
            State::Parts(mut answer) => match tokio::time::timeout(silence, answer.next()).await {
                Ok(Ok(Some((choice, part)))) => (writer.part(choice, part), State::Parts(answer)),
                Ok(Ok(None)) => (writer.end(&answer), State::Over),
                Ok(Err(failure)) => (writer.fail(&failure), State::Over),
                Err(_) => (writer.waiting(), State::Parts(answer)),
            },
        };
        Some((Ok::<_, Infallible>(Bytes::from(text)), (writer, state)))
    };
    futures_util::stream::unfold((writer, State::Coming(coming)), step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::format::Format;
    use futures_util::StreamExt;

    struct Plain;

    impl Writer for Plain {
        const TYPE: &'static str = EVENTS;

        fn waiting(&self) -> String {
            COMMENT.into()
        }

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

    fn started(prompt_tokens: Vec<usize>, format: Format, thinking: bool) -> Event {
        Event::Started {
            prompt_tokens,
            format,
            thinking,
            continues: false,
            form: false,
            tools: vec![],
            unheld: vec![],
            changes: vec![],
            load_seconds: 0.0,
        }
    }

    #[test]
    fn a_stream_that_has_nothing_to_say_says_so() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let texts: Vec<Bytes> = runtime.block_on(async {
            let (events, received) = tokio::sync::mpsc::unbounded_channel();
            let coming = Box::pin(Answer::begin(received, 1));
            let mut stream = Box::pin(written(coming, Plain, Duration::from_millis(5)));
            let mut texts: Vec<Bytes> = stream.next().await.map(|text| text.expect("no error")).into_iter().collect();
            let started = started(vec![1], Format::Text, false);
            events.send(started).expect("it listens");
            for i in 0..6 {
                if i == 3 {
                    events.send(Event::Text { choice: 0, text: "a".into(), tokens: 1 }).expect("it listens");
                    events.send(Event::Failed(stopped())).expect("it listens");
                }
                texts.extend(stream.next().await.map(|text| text.expect("no error")));
            }
            texts
        });
        let failure = stopped().message;
        assert_eq!(texts, [COMMENT, "begin", COMMENT, COMMENT, "Content(\"a\")", &failure]);
    }

    /// All answers to one prompt that come as these events.
    fn read(format: Format, thinking: bool, one_call: bool, events: Vec<Event>) -> (Choice, Usage) {
        let (sender, received) = tokio::sync::mpsc::unbounded_channel();
        let started = started(vec![9], format, thinking);
        let end = Event::Finished { choice: 0, reason: FinishReason::End, timings: Timings::default() };
        for event in [started].into_iter().chain(events).chain([end]) {
            sender.send(event).expect("it listens");
        }
        pollster::block_on(async {
            let mut answer = Answer::begin(received, 1).await.expect("it begins").one_call(one_call);
            (answer.whole().await.expect("it ends").remove(0), answer.usage)
        })
    }

    fn text(text: &str, tokens: usize) -> Event {
        Event::Text { choice: 0, text: text.into(), tokens }
    }

    #[test]
    fn tokens_of_thoughts_are_counted() {
        let said = || vec![text("Hm, that", 3), text(" is", 1), text("</think>", 1), text("Good", 2), text(" day.", 1)];
        let (choice, usage) = read(Format::Chat, true, false, said());
        assert_eq!((choice.reasoning.trim(), choice.content.trim()), ("Hm, that is", "Good day."));
        assert!([4, 5].contains(&usage.reasoning), "{usage:?}");
        assert_eq!(read(Format::Chat, false, false, vec![text("Good", 2)]).1.reasoning, 0);
    }

    #[test]
    fn who_wants_one_call_gets_the_first() {
        let call =
            |name: &str| format!("<tool_call>{{\"name\": \"{name}\", \"arguments\": {{\"a\": 1}}}}</tool_call>\n");
        let said = || vec![text("I look. ", 2), text(&(call("f") + &call("g")), 20)];
        let names = |one_call| {
            let (choice, _) = read(Format::Hermes, false, one_call, said());
            assert!(choice.content.contains("I look."), "{choice:?}");
            choice.calls.into_iter().map(|call| (call.name, call.arguments)).collect::<Vec<_>>()
        };
        let expected = |name: &str| (name.to_string(), "{\"a\": 1}".to_string());
        assert_eq!(names(false), [expected("f"), expected("g")]);
        assert_eq!(names(true), [expected("f")]);
    }

    #[test]
    fn a_prompt_is_in_the_cache_or_not_however_many_answers_it_has() {
        let begun = |choice, reused| Event::Begun { choice, reused };
        let (_, usage) = read(Format::Chat, false, false, vec![begun(0, 4), text("a", 1)]);
        assert_eq!((usage.prompt, usage.reused), (9, 4));
    }
}
