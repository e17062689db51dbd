//! Logits of given tokens, without sampling: for `logits`, `perplexity` and tests; and one step timed op by op.

use super::Session;
use super::sequence::Sequence;
use super::tables::Row;
use crate::plan::Timing;
use crate::{Error, Result};

impl Session {
    /// Runs `tokens` from position 0 in prefill steps of up to the session's `logits` rows, and calls
    /// `each(position, logits)` for every token; `logits` has `vocabulary` values.
    ///
    /// # Errors
    /// [`Error::ContextFull`] if the tokens exceed the context; [`Error::Usage`] if requests are being answered.
    pub async fn prefill_logits(&mut self, tokens: &[u32], each: impl FnMut(usize, &[f32])) -> Result<()> {
        let capacity = self.plan.dispatch_list().capacity;
        self.logits(tokens, capacity.logits.min(capacity.rows) as usize, each).await
    }

    /// As [`Session::prefill_logits`], with a decode step for every token.
    ///
    /// # Errors
    /// As [`Session::prefill_logits`].
    pub async fn decode_logits(&mut self, tokens: &[u32], each: impl FnMut(usize, &[f32])) -> Result<()> {
        self.logits(tokens, 1, each).await
    }

    async fn logits(&mut self, tokens: &[u32], chunk: usize, mut each: impl FnMut(usize, &[f32])) -> Result<()> {
        let cols = self.vocab;
        self.check_tokens(tokens)?;
        if tokens.len() > self.context {
            return Err(Error::ContextFull { tokens: tokens.len(), context: self.context });
        }
        if !self.sequences.iter().all(Sequence::is_idle) {
            return Err(Error::Usage("the session is busy answering".into()));
        }
        self.sequences[0].truncate(0, &mut self.pools);
        for start in (0..tokens.len()).step_by(chunk) {
            let rows = self.rows(tokens, start, chunk);
            self.reserve(0, start..start + rows.len())?;
            let wants: Vec<usize> = (0..rows.len()).collect();
            let sizes = self.write_tables(&rows, &wants);
            let index = self.run(&sizes, usize::MAX, None).await?;
            self.plan.gpu().wait(index).await?;
            let bytes = self.plan.read(self.logits, (rows.len() * cols * 4) as u64).await?;
            let values: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
            for (i, row) in values.chunks_exact(cols).enumerate() {
                each(start + i, row);
            }
        }
        Ok(())
    }

    fn rows(&self, tokens: &[u32], start: usize, count: usize) -> Vec<Row> {
        let end = tokens.len().min(start + count);
        (start..end).map(|position| Row { token: tokens[position], position, sequence: 0 }).collect()
    }

    /// Times each dispatch of a step of `rows` rows whose first position is `position`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] without timestamps; [`Error::Usage`] if requests are being answered or the step does not
    /// fit.
    pub async fn profile(&mut self, rows: usize, position: usize) -> Result<Vec<Timing>> {
        if !self.sequences.iter().all(Sequence::is_idle) || position + rows > self.context {
            return Err(Error::Usage(format!("cannot profile {rows} rows at position {position}")));
        }
        self.sequences[0].truncate(0, &mut self.pools);
        self.reserve(0, position..position + rows)?;
        let table: Vec<Row> = (0..rows).map(|i| Row { token: 0, position: position + i, sequence: 0 }).collect();
        let mut sizes = self.write_tables(&table, &[rows - 1]);
        sizes.sampled = 1;
        self.plan.profile(&sizes).await
    }
}
