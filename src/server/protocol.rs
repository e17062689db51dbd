//! The messages between HTTP and the engine's thread about a request's answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use firelight::conversation::AnswerEvent;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;

use super::http_error::HttpError;
use super::metrics::Metrics;

/// An event, with the number of its answer. After a failure there are no more.
pub type AnswerMessage = Result<(usize, AnswerEvent), HttpError>;

/// What is known of a request's answers when all its prompts are accepted.
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

/// The engine's end of a request. When HTTP drops the other, the request is cancelled.
#[derive(Debug)]
pub struct AnswerSender {
    head: oneshot::Sender<Result<AnswerHead, HttpError>>,
    events: UnboundedSender<AnswerMessage>,
}

/// HTTP's end of a request.
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
    /// Whether the client has disconnected.
    pub fn is_closed(&self) -> bool {
        self.events.is_closed()
    }

    /// Accepts the request.
    pub fn start(self, head: AnswerHead) -> UnboundedSender<AnswerMessage> {
        // A client that has disconnected is found by the next look at the events.
        let _ = self.head.send(Ok(head));
        self.events
    }

    /// Refuses the request.
    pub fn refuse(self, failure: HttpError) {
        let _ = self.head.send(Err(failure));
    }
}

/// A place in the queue; dropping it gives it back.
pub struct Ticket(Arc<Metrics>);

impl Ticket {
    /// Takes a place. Returns how many were taken before.
    pub fn take(metrics: &Arc<Metrics>) -> (Self, usize) {
        let pending = metrics.pending.fetch_add(1, Ordering::Relaxed) as usize;
        (Ticket(metrics.clone()), pending)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The failure of every request once the engine's thread is gone.
pub fn stopped() -> HttpError {
    HttpError::internal("the engine has stopped; restart the server")
}
