//! The messages about a request's answers, from the task that generates them to the one that writes them.

use firelight::conversation::AnswerEvent;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;

use super::http_error::HttpError;

/// An event, with the number of its answer. After a failure there are no more.
pub type AnswerMessage = Result<(usize, AnswerEvent), HttpError>;

/// The information about a request's answers once all its prompts are accepted.
#[derive(Clone, Debug)]
pub struct AnswerHead {
    /// Tokens of each prompt.
    pub prompt_tokens: Vec<usize>,
    /// Keywords of the client's schemas that are not enforced.
    pub unenforced: Vec<String>,
    /// The changes to the conversation that the chat template required.
    pub changes: Vec<&'static str>,
    /// Seconds that loading the model took.
    pub load_seconds: f64,
}

/// The generating end of a request. When the other is dropped, the request is cancelled.
#[derive(Debug)]
pub struct AnswerSender {
    head: oneshot::Sender<Result<AnswerHead, HttpError>>,
    events: UnboundedSender<AnswerMessage>,
}

/// The writing end of a request.
pub struct AnswerReceiver {
    pub head: oneshot::Receiver<Result<AnswerHead, HttpError>>,
    pub events: UnboundedReceiver<AnswerMessage>,
}

/// The two ends of a request.
pub fn channel() -> (AnswerSender, AnswerReceiver) {
    let (head, head_receiver) = oneshot::channel();
    let (events, receiver) = mpsc::unbounded_channel();
    (AnswerSender { head, events }, AnswerReceiver { head: head_receiver, events: receiver })
}

impl AnswerSender {
    /// Waits until the client disconnects.
    pub fn disconnected(&self) -> impl Future<Output = ()> + 'static {
        let events = self.events.clone();
        async move { events.closed().await }
    }

    /// Accepts the request.
    pub fn start(self, head: AnswerHead) -> UnboundedSender<AnswerMessage> {
        // If the client has disconnected, nothing is sent; nor below.
        let _ = self.head.send(Ok(head));
        self.events
    }

    /// Refuses the request.
    pub fn refuse(self, failure: HttpError) {
        let _ = self.head.send(Err(failure));
    }
}

/// The error of a request whose engine has ended; the next request starts another engine.
pub fn stopped() -> HttpError {
    HttpError::internal("the engine has stopped; send the request again")
}
