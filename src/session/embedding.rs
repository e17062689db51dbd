//! Text embeddings: requests that pool the final hidden states of their rows instead of sampling tokens.
//!
//! The rows of several texts share a step, which ends before the logits. A text reuses nothing from the prefix cache,
//! which holds no hidden states, and leaves nothing there.

use super::scheduler::Task;
use super::{Event, RequestId, Session};
use crate::model::Model;
use crate::{Error, Result};

/// A text being embedded.
pub struct TextEmbedding {
    /// The request's id.
    pub id: RequestId,
    /// The text; it becomes the sequence's when the request gets one.
    pub tokens: Vec<u32>,
    /// Tokens of the text.
    count: usize,
    pooling: Pooling,
    /// The pooled hidden states so far.
    pooled: Vec<f64>,
    read: usize,
}

/// How the hidden states of a text are pooled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// The last token's.
    Last,
}

/// GGUF's number for pooling by the last token.
const POOLING_LAST: u32 = 3;

impl Pooling {
    /// How the model was trained (`pooling_type`).
    ///
    /// # Errors
    /// [`Error::Format`] if the key has another type.
    pub fn of(model: &Model) -> Result<Self> {
        let metadata = &model.checkpoint.metadata;
        let architecture = metadata.get_str("general.architecture")?.unwrap_or_default();
        let last = metadata.get_u32(&format!("{architecture}.pooling_type"))? == Some(POOLING_LAST);
        Ok(if last { Pooling::Last } else { Pooling::Mean })
    }
}

impl TextEmbedding {
    /// Adds a row's hidden state. After the last one, returns the pooled vector, divided by its length.
    pub fn add(&mut self, row: &[f32]) -> Option<Vec<f32>> {
        self.pooled.resize(row.len(), 0.0);
        if self.pooling == Pooling::Last {
            self.pooled.fill(0.0);
        }
        self.pooled.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
        self.read += 1;
        let length = self.pooled.iter().map(|x| x * x).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
        (self.read == self.count).then(|| self.pooled.iter().map(|x| (x / length) as f32).collect())
    }
}

impl Session {
    /// Queues a text to embed. [`Event::Embedding`] returns its vector of the model's hidden size: the mean of the
    /// final hidden states (those that logits are computed from), or the last token's where the model was trained so,
    /// divided by its length. Texts take turns with answers, and several share a step.
    ///
    /// # Errors
    /// [`Error::ContextFull`] if the tokens exceed the context; [`Error::Usage`] if there are none, or unknown ones.
    pub fn submit_embedding(&mut self, tokens: Vec<u32>) -> Result<RequestId> {
        self.check_tokens(&tokens)?;
        let (count, context, pooling) = (tokens.len(), self.context(), self.pooling);
        if count > context {
            return Err(Error::ContextFull { tokens: count, context });
        }
        let id = self.next_id();
        let embedding = TextEmbedding { id, tokens, count, pooling, pooled: Vec::new(), read: 0 };
        self.scheduler.enqueue(Task::Embedding(embedding));
        Ok(id)
    }

    /// The vector of one text; see [`Session::submit_embedding`]. Other requests run meanwhile, and their events wait
    /// for [`Session::next`].
    ///
    /// # Errors
    /// As [`Session::submit_embedding`], and if the device is lost.
    pub async fn embed(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        let id = self.submit_embedding(tokens.to_vec())?;
        loop {
            if let Some(Event::Embedding(vector)) = self.try_next_of(id) {
                return Ok(vector);
            }
            self.step().await?;
        }
    }

    /// Takes in the hidden states of a step. An embedded text leaves no cache: no prompt continues it.
    pub(super) fn take_hidden(&mut self, tickets: Vec<(usize, RequestId)>, hidden: &[f32]) {
        let size = hidden.len() / tickets.len().max(1);
        for ((sequence, id), row) in tickets.into_iter().zip(hidden.chunks_exact(size.max(1))) {
            if let Some(Task::Embedding(embedding)) = self.scheduler.task(sequence)
                && embedding.id == id
                && let Some(vector) = embedding.add(row)
            {
                self.scheduler.take(sequence);
                self.executor.cache.clear(sequence);
                self.events.push_back((id, Event::Embedding(vector)));
            }
        }
    }
}
