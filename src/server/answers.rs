//! The answers to a request: collected whole, or streamed. All APIs use this.

use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;
use firelight::conversation::{AnswerEnd, AnswerEvent, AnswerToken, complete_members};
use futures_util::Stream;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;

use super::http_error::{HttpError, json_response};
use super::protocol::{AnswerHead, AnswerMessage, AnswerReceiver, stopped};

/// A tool call.
#[derive(Clone, Debug)]
pub struct ToolCall {
    pub id: String,
    pub name: String,
    /// JSON, as far as it came.
    pub arguments: String,
}

impl ToolCall {
    /// A call whose arguments follow.
    pub fn new(id: String, name: String) -> Self {
        ToolCall { id, name, arguments: String::new() }
    }

    /// The arguments as an object: the complete members, if they were truncated.
    pub fn object(&self) -> Value {
        complete_members(&self.arguments).into()
    }
}

/// A token and its most likely alternatives.
pub type Logprobs = (AnswerToken, Vec<AnswerToken>);

/// Counts of tokens. A prompt counts once, however many answers it has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub prompt: usize,
    /// Tokens of the prompt that were in the prefix cache.
    pub reused: usize,
    pub generated: usize,
    /// Generated tokens of the reasoning.
    pub reasoning: usize,
}

/// The answers to a request while they come.
pub struct Answers {
    events: UnboundedReceiver<AnswerMessage>,
    /// Answers to each prompt.
    answers: usize,
    /// Whether each answer may hold only one call, and the calls of each so far.
    one_call: bool,
    calls: Vec<usize>,
    /// Answers that are not complete.
    open: usize,
    pub usage: Usage,
    head: AnswerHead,
}

/// One complete answer.
#[derive(Clone, Debug, Default)]
pub struct CollectedAnswer {
    pub reasoning: String,
    pub content: String,
    pub calls: Vec<ToolCall>,
    pub logprobs: Vec<Logprobs>,
    pub end: Option<AnswerEnd>,
}

impl Answers {
    /// Waits until the engine accepts the request, so that a refusal can set the status. There are `answers` to each
    /// prompt.
    pub async fn begin(coming: AnswerReceiver, answers: usize) -> Result<Self, HttpError> {
        let head = coming.head.await.map_err(|_| stopped())??;
        let open = head.prompt_tokens.len() * answers;
        let usage = Usage { prompt: head.prompt_tokens.iter().sum(), ..Default::default() };
        Ok(Answers { events: coming.events, answers, one_call: false, calls: vec![0; open], open, usage, head })
    }

    /// The same, but emits only the first tool call of each answer.
    pub fn one_call(mut self, one: bool) -> Self {
        self.one_call = one;
        self
    }

    /// Seconds that loading the model took.
    pub fn load_seconds(&self) -> f64 {
        self.head.load_seconds
    }

    /// The next event and the number of its answer; `None` when all are complete.
    pub async fn next(&mut self) -> Result<Option<(usize, AnswerEvent)>, HttpError> {
        while self.open > 0 {
            let (choice, event) = self.events.recv().await.ok_or_else(stopped)??;
            match &event {
                // Further answers to a prompt find it in the cache, because the first one read it.
                AnswerEvent::Started { reused_tokens } if choice.is_multiple_of(self.answers) => {
                    self.usage.reused += reused_tokens;
                }
                AnswerEvent::ToolCall { .. } => self.calls[choice] += 1,
                AnswerEvent::Finished(end) => {
                    self.open -= 1;
                    self.usage.generated += end.timings.generated_tokens;
                    self.usage.reasoning += end.reasoning_tokens;
                }
                _ => {}
            }
            use AnswerEvent::{Arguments, ToolCall, ToolCallEnd};
            let of_call = matches!(event, ToolCall { .. } | Arguments(_) | ToolCallEnd { .. });
            if !(self.one_call && of_call && self.calls[choice] > 1) {
                return Ok(Some((choice, event)));
            }
        }
        Ok(None)
    }

    /// A response of JSON to the request.
    pub fn json(&self, value: &Value) -> Response {
        self.tell(json_response(value))
    }

    /// Adds the headers about schemas and templates to a response.
    fn tell<T>(&self, mut response: Response<T>) -> Response<T> {
        let changes = self.head.changes.iter().map(|change| change.to_string()).collect();
        for (header, told) in [(NOT_HELD, &self.head.unenforced), (CHANGES, &changes)] {
            let value = (!told.is_empty()).then(|| HeaderValue::from_str(&listed(told)).ok()).flatten();
            value.into_iter().for_each(|value| drop(response.headers_mut().insert(&header, value)));
        }
        response
    }

    /// Collects all answers.
    pub async fn whole(&mut self) -> Result<Vec<CollectedAnswer>, HttpError> {
        let mut choices = vec![CollectedAnswer::default(); self.open];
        while let Some((at, event)) = self.next().await? {
            let choice = &mut choices[at];
            match event {
                AnswerEvent::Reasoning(text) => choice.reasoning.push_str(&text),
                AnswerEvent::Content(text) => choice.content.push_str(&text),
                AnswerEvent::ToolCall { id, name } => choice.calls.push(ToolCall::new(id, name)),
                AnswerEvent::Arguments(text) => {
                    choice.calls.last_mut().into_iter().for_each(|call| call.arguments += &text);
                }
                AnswerEvent::Token { token, top } => choice.logprobs.push((token, top.unwrap_or_default())),
                AnswerEvent::Finished(end) => choice.end = Some(end),
                _ => {}
            }
        }
        Ok(choices)
    }
}

/// The header that lists the keywords of schemas that are not enforced.
const NOT_HELD: HeaderName = HeaderName::from_static("x-firelight-not-held");
/// The header that lists the changes to a conversation that its chat template required.
const CHANGES: HeaderName = HeaderName::from_static("x-firelight-template-changes");
/// The most items in such a header.
const MOST_NAMED: usize = 32;

/// What is percent-encoded in a list's items, beside what is not ASCII.
const HIDDEN: &AsciiSet = &CONTROLS.add(b' ').add(b',').add(b'%');

/// A list in a header: all but visible ASCII is percent-encoded.
fn listed(items: &[String]) -> String {
    let encode = |item: &String| utf8_percent_encode(item, HIDDEN).to_string();
    let mut named: Vec<String> = items.iter().take(MOST_NAMED).map(encode).collect();
    if items.len() > MOST_NAMED {
        named.push(format!("and {} more", items.len() - MOST_NAMED));
    }
    named.join(", ")
}

/// Writes a stream in a dialect.
pub trait StreamWriter: Send + 'static {
    /// The media type.
    const TYPE: &'static str;
    /// The text before everything else.
    fn begin(&mut self, answer: &Answers) -> String;
    /// The text of an event; may be empty. `usage` counts the tokens so far.
    fn part(&mut self, usage: Usage, choice: usize, event: AnswerEvent) -> String;
    /// The text after everything else.
    fn end(&mut self, answer: &Answers) -> String;
    /// A text that keeps the connection alive while there are no events.
    fn waiting(&self) -> String;
    /// The text of an error.
    fn fail(&mut self, failure: &HttpError) -> String;
}

/// The longest time without a text, such as while a long prompt is prefilled.
const SILENCE: Duration = Duration::from_secs(15);
/// A comment in server-sent events, which clients ignore.
pub const COMMENT: &str = ": waiting\n\n";
/// Server-sent events.
pub const EVENTS: &str = "text/event-stream; charset=utf-8";

/// Answers that may not have started.
type Coming = Pin<Box<dyn Future<Output = Result<Answers, HttpError>> + Send>>;

/// Streams the answers. A refusal within 15 seconds has its own status; a later one is written into the stream. When
/// the client disconnects, the response and the answers are dropped, and the engine cancels them.
pub async fn stream<W: StreamWriter>(
    coming: impl Future<Output = Result<Answers, HttpError>> + Send + 'static,
    writer: W,
) -> Result<Response, HttpError> {
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

fn written<W: StreamWriter>(
    coming: Coming,
    writer: W,
    silence: Duration,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    enum State {
        Coming(Coming),
        Parts(Box<Answers>),
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
                Ok(Ok(Some((choice, event)))) => (writer.part(answer.usage, choice, event), State::Parts(answer)),
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
    use crate::server::protocol::channel;
    use firelight::session::{FinishReason, Timings};
    use futures_util::StreamExt;

    struct Plain;

    impl StreamWriter for Plain {
        const TYPE: &'static str = EVENTS;

        fn waiting(&self) -> String {
            COMMENT.into()
        }

        fn begin(&mut self, _: &Answers) -> String {
            "begin".into()
        }

        fn part(&mut self, _: Usage, _: usize, event: AnswerEvent) -> String {
            format!("{event:?}")
        }

        fn end(&mut self, _: &Answers) -> String {
            "end".into()
        }

        fn fail(&mut self, failure: &HttpError) -> String {
            failure.message.clone()
        }
    }

    fn head() -> AnswerHead {
        AnswerHead { prompt_tokens: vec![9], unenforced: vec![], changes: vec![], load_seconds: 0.0 }
    }

    #[test]
    fn a_stream_that_has_nothing_to_say_says_so() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let texts: Vec<Bytes> = runtime.block_on(async {
            let (sender, receiver) = channel();
            let coming = Box::pin(Answers::begin(receiver, 1));
            let mut stream = Box::pin(written(coming, Plain, Duration::from_millis(5)));
            let mut texts: Vec<Bytes> = stream.next().await.map(|text| text.expect("no error")).into_iter().collect();
            let events = sender.start(head());
            for i in 0..6 {
                if i == 3 {
                    events.send(Ok((0, AnswerEvent::Content("a".into())))).expect("it listens");
                    events.send(Err(stopped())).expect("it listens");
                }
                texts.extend(stream.next().await.map(|text| text.expect("no error")));
            }
            texts
        });
        let failure = stopped().message;
        assert_eq!(texts, [COMMENT, "begin", COMMENT, COMMENT, "Content(\"a\")", &failure]);
    }

    /// The answer that comes as these events.
    fn read(one_call: bool, events: Vec<AnswerEvent>) -> (CollectedAnswer, Usage) {
        let (sender, receiver) = channel();
        let sender = sender.start(head());
        let mut end = AnswerEnd::new(FinishReason::End, Timings::default());
        end.reasoning_tokens = 3;
        for event in events.into_iter().chain([AnswerEvent::Finished(end)]) {
            sender.send(Ok((0, event))).expect("it listens");
        }
        pollster::block_on(async {
            let mut answer = Answers::begin(receiver, 1).await.expect("it begins").one_call(one_call);
            (answer.whole().await.expect("it ends").remove(0), answer.usage)
        })
    }

    #[test]
    fn who_wants_one_call_gets_the_first() {
        let call = |name: &str| {
            let open = AnswerEvent::ToolCall { id: name.into(), name: name.into() };
            [open, AnswerEvent::Arguments("{\"a\": 1}".into()), AnswerEvent::ToolCallEnd { complete: true }]
        };
        let said = || [vec![AnswerEvent::Content("I look.".into())], call("f").into(), call("g").into()].concat();
        let names = |one_call| {
            let (choice, _) = read(one_call, said());
            assert_eq!(choice.content, "I look.");
            choice.calls.into_iter().map(|call| (call.name, call.arguments)).collect::<Vec<_>>()
        };
        let expected = |name: &str| (name.to_string(), "{\"a\": 1}".to_string());
        assert_eq!(names(false), [expected("f"), expected("g")]);
        assert_eq!(names(true), [expected("f")]);
    }

    #[test]
    fn tokens_are_counted() {
        let begun = AnswerEvent::Started { reused_tokens: 4 };
        let (_, usage) = read(false, vec![begun, AnswerEvent::Content("a".into())]);
        assert_eq!((usage.prompt, usage.reused, usage.reasoning), (9, 4, 3));
    }
}
