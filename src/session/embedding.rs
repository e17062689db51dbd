//! Embeddings: requests like answers that read the final hidden state of every row instead of sampling tokens.
//!
//! The rows of several texts share a step, which ends before the logits. A text takes nothing from the prefix cache, which
//! holds no hidden states, and leaves nothing there.

use super::tables::Row;
use super::{Event, RequestId, Session, Waiting, Wanted};
use crate::model::Model;
use crate::{Error, Result};

/// A text being read.
pub struct Embedding {
    pub id: RequestId,
    pub tokens: Vec<u32>,
    /// Whether the last token's hidden state stands for all, instead of their mean.
    last: bool,
    /// The sum of the hidden states that were read, and how many they are.
    sum: Vec<f64>,
    read: usize,
}

/// GGUF's number for pooling by the last token.
const POOLING_LAST: u32 = 3;

/// Whether the model pools by the last token (`pooling_type`).
pub fn takes_last(model: &Model) -> Result<bool> {
    let metadata = &model.checkpoint.metadata;
    let architecture = metadata.get_str("general.architecture")?.unwrap_or_default();
    Ok(metadata.get_u32(&format!("{architecture}.pooling_type"))? == Some(POOLING_LAST))
}

impl Embedding {
    /// Adds a row's hidden state; the mean's direction after the last.
    fn add(&mut self, row: &[f32]) -> Option<Vec<f32>> {
        self.sum.resize(row.len(), 0.0);
        if self.last {
            self.sum.fill(0.0);
        }
        self.sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
        self.read += 1;
        let length = self.sum.iter().map(|x| x * x).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
        (self.read == self.tokens.len()).then(|| self.sum.iter().map(|x| (x / length) as f32).collect())
    }
}

impl Session {
    /// Queues a text to embed. [`Event::Embedding`] returns its vector, as many values as the model is wide: the mean of the
    /// final hidden states (those that the logits are computed from), or the last token's where the model was trained so,
    /// divided by its length. Texts take turns with answers, and several share a step.
    ///
    /// # Errors
    /// [`Error::ContextFull`] if the tokens exceed the context; [`Error::Usage`] if there are none, or unknown ones.
    pub fn submit_embedding(&mut self, tokens: Vec<u32>) -> Result<RequestId> {
        self.check_tokens(&tokens)?;
        if tokens.len() > self.context {
            return Err(Error::ContextFull { tokens: tokens.len(), context: self.context });
        }
        self.next_id += 1;
        let embedding = Embedding { id: self.next_id, tokens, last: self.embeds_last, sum: Vec::new(), read: 0 };
        self.waiting.push_back(Waiting::Embedding(embedding));
        Ok(self.next_id)
    }

    /// The vector of one text; see [`Session::submit_embedding`].
    ///
    /// # Errors
    /// As [`Session::submit_embedding`], and if the device is lost.
    pub async fn embed(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        let id = self.submit_embedding(tokens.to_vec())?;
        loop {
            let mine = |(other, event): &(RequestId, Event)| *other == id && matches!(event, Event::Embedding(_));
            let at = self.events.iter().position(mine);
            if let Some((_, Event::Embedding(vector))) = at.and_then(|at| self.events.remove(at)) {
                return Ok(vector);
            }
            self.step().await?;
        }
    }

    /// Starts to read a text in the idle sequence whose cache is the smallest loss.
    pub(super) fn start_embedding(&mut self, embedding: Embedding, idle: &[usize]) {
        let Some(at) = idle.iter().copied().min_by_key(|at| self.sequences[*at].cached) else { return };
        self.sequences[at].truncate(0, &mut self.pools);
        self.sequences[at].tokens = embedding.tokens.clone();
        self.sequences[at].embedding = Some(embedding);
        self.write_pages(at);
    }

    /// Rows of the texts that are being read, those of sequence `first` before the others'.
    pub(super) fn step_embedding(&mut self, first: usize) -> Result<bool> {
        let capacity = self.plan.dispatch_list().capacity;
        let most = capacity.logits.min(capacity.rows) as usize;
        let count = self.sequences.len();
        let mut rows: Vec<Row> = Vec::new();
        for at in (first..count).chain(0..first) {
            if !self.sequences[at].reads_embedding() {
                continue;
            }
            let start = self.sequences[at].cached;
            let end = self.sequences[at].tokens.len().min(start + most - rows.len());
            if start == end {
                break;
            }
            self.reserve(at, start..end)?;
            let sequence = &mut self.sequences[at];
            sequence.cached = end;
            let row = |position| Row { token: sequence.tokens[position], position, sequence: at };
            rows.extend((start..end).map(row));
        }
        let wants: Vec<usize> = (0..rows.len()).collect();
        self.send(&rows, &wants, Wanted::Hidden);
        Ok(true)
    }

    /// Takes in the hidden states of a step, which were wanted for these sequences and requests.
    pub(super) async fn land_embedding(&mut self, wanted: Vec<(usize, RequestId)>) -> Result<()> {
        let width = self.plan.dispatch_list().graph.cols(self.hidden) as usize;
        let bytes = self.plan.read(self.hidden, (wanted.len() * width * 4) as u64).await?;
        let rows: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
        for ((at, id), row) in wanted.into_iter().zip(rows.chunks_exact(width)) {
            let embedding = self.sequences[at].embedding.as_mut().filter(|embedding| embedding.id == id);
            if let Some(vector) = embedding.and_then(|embedding| embedding.add(row)) {
                self.events.push_back((id, Event::Embedding(vector)));
                self.stop_embedding(at);
            }
        }
        Ok(())
    }

    /// Makes a sequence that reads a text idle, and empties its cache: no prompt continues an embedded text.
    pub(super) fn stop_embedding(&mut self, at: usize) {
        self.sequences[at].embedding = None;
        self.sequences[at].truncate(0, &mut self.pools);
    }
}
