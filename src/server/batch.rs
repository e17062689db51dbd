//! The texts that one request embeds. Only a few of them are with the engine at a time: the next is submitted when one is
//! done, so that answers, and the texts of other requests, never wait for all of them.

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
    /// Whether texts that exceed the context are cut.
    pub truncate: bool,
    /// How long the model stays loaded after this, if not as long as the server was told.
    pub keep_alive: Option<Duration>,
}

/// A vector for each text: its last hidden states, their mean, made as long as 1.
#[derive(Debug)]
pub struct Embedded {
    pub vectors: Vec<Vec<f32>>,
    /// Tokens that were read.
    pub tokens: usize,
    pub load_seconds: f64,
}

/// Where the vectors go.
pub type Reply = oneshot::Sender<Result<Embedded, HttpError>>;

/// The texts of one request.
pub struct Batch {
    reply: Reply,
    /// Texts that the session does not have yet, with their numbers, and the numbers of those that it has.
    waiting: VecDeque<(usize, Vec<u32>)>,
    running: HashMap<AnswerId, usize>,
    embedded: Embedded,
    _ticket: Ticket,
}

impl Batch {
    /// Begins to embed texts, which have these tokens.
    pub fn new(texts: Vec<Vec<u32>>, reply: Reply, ticket: Ticket, load_seconds: f64) -> Self {
        let tokens = texts.iter().map(Vec::len).sum();
        let embedded = Embedded { vectors: vec![Vec::new(); texts.len()], tokens, load_seconds };
        let waiting = texts.into_iter().enumerate().collect();
        Batch { reply, waiting, running: HashMap::new(), embedded, _ticket: ticket }
    }

    /// Hands in texts until the session has `most`.
    ///
    /// # Errors
    /// If it refuses one.
    pub fn feed(&mut self, engine: &mut Engine, most: usize) -> Result<(), HttpError> {
        while self.running.len() < most {
            let Some((number, tokens)) = self.waiting.pop_front() else { return Ok(()) };
            let refused = |e| HttpError::field(format!("input[{number}]"), HttpError::from(e).message);
            self.running.insert(engine.embed(tokens).map_err(refused)?, number);
        }
        Ok(())
    }

    /// Takes the vector of a text, if the text is one of these.
    pub fn take(&mut self, id: AnswerId, vector: &[f32]) {
        if let Some(number) = self.running.remove(&id) {
            self.embedded.vectors[number] = vector.to_vec();
        }
    }

    /// Whether all texts are done, or nobody waits for them.
    pub fn over(&self) -> bool {
        self.abandoned() || (self.waiting.is_empty() && self.running.is_empty())
    }

    /// Whether nobody waits for the vectors any more.
    pub fn abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    /// Tokens of all texts.
    pub fn tokens(&self) -> usize {
        self.embedded.tokens
    }

    /// Hands out the vectors.
    pub fn finish(self) {
        // Who does not listen any more need not be told.
        let _ = self.reply.send(Ok(self.embedded));
    }

    /// Gives up.
    pub fn fail(self, failure: HttpError) {
        let _ = self.reply.send(Err(failure));
    }

    /// Takes what is being read back from the session.
    pub fn cancel(&mut self, engine: &mut Engine) {
        self.waiting.clear();
        self.running.drain().for_each(|(id, _)| engine.cancel(id));
    }
}
