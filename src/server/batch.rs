//! The texts that one request embeds. Only a few of them are with the engine at a time: the next is submitted when one
//! is done, so that answers, and the texts of other requests, never wait for all of them.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use firelight::conversation::Prompt;
use firelight::engine::{AnswerId, Engine};
use tokio::sync::oneshot;

use super::http_error::HttpError;
use super::protocol::Ticket;

/// The texts that a client wants embedded.
#[derive(Debug)]
pub struct Texts {
    pub prompts: Vec<Prompt>,
    /// Whether texts that exceed the context are truncated.
    pub truncate: bool,
    /// How long the model stays loaded afterwards; by default the server's setting.
    pub keep_alive: Option<Duration>,
}

/// A vector for each text: the mean of its last hidden states, normalized.
#[derive(Debug)]
pub struct Embedded {
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of all texts.
    pub tokens: usize,
    pub load_seconds: f64,
}

/// Receives the vectors.
pub type Reply = oneshot::Sender<Result<Embedded, HttpError>>;

/// The texts of one request.
pub struct Batch {
    reply: Reply,
    /// The texts that are not submitted, with their indices, and the indices of those that are.
    waiting: VecDeque<(usize, Vec<u32>)>,
    running: HashMap<AnswerId, usize>,
    embedded: Embedded,
    _ticket: Ticket,
}

impl Batch {
    /// The texts with these tokens.
    pub fn new(texts: Vec<Vec<u32>>, reply: Reply, ticket: Ticket, load_seconds: f64) -> Self {
        let tokens = texts.iter().map(Vec::len).sum();
        let embedded = Embedded { vectors: vec![Vec::new(); texts.len()], tokens, load_seconds };
        let waiting = texts.into_iter().enumerate().collect();
        Batch { reply, waiting, running: HashMap::new(), embedded, _ticket: ticket }
    }

    /// Submits texts until the engine has `most`.
    ///
    /// # Errors
    /// If the engine refuses one.
    pub fn feed(&mut self, engine: &mut Engine, most: usize) -> Result<(), HttpError> {
        while self.running.len() < most {
            let Some((number, tokens)) = self.waiting.pop_front() else { return Ok(()) };
            let refused = |e| HttpError::field(format!("input[{number}]"), HttpError::from(e).message);
            self.running.insert(engine.embed(tokens).map_err(refused)?, number);
        }
        Ok(())
    }

    /// Stores the vector of a text, if it is one of these.
    pub fn take(&mut self, id: AnswerId, vector: &[f32]) {
        if let Some(number) = self.running.remove(&id) {
            self.embedded.vectors[number] = vector.to_vec();
        }
    }

    /// Whether all texts are embedded, or the client has disconnected.
    pub fn over(&self) -> bool {
        self.abandoned() || (self.waiting.is_empty() && self.running.is_empty())
    }

    /// Whether the client has disconnected.
    pub fn abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    /// Tokens of all texts.
    pub fn tokens(&self) -> usize {
        self.embedded.tokens
    }

    /// Sends the vectors.
    pub fn finish(self) {
        // The client may have disconnected.
        let _ = self.reply.send(Ok(self.embedded));
    }

    /// Sends an error.
    pub fn fail(self, failure: HttpError) {
        let _ = self.reply.send(Err(failure));
    }

    /// Cancels the texts that are submitted.
    pub fn cancel(&mut self, engine: &mut Engine) {
        self.waiting.clear();
        self.running.drain().for_each(|(id, _)| engine.cancel(id));
    }
}
