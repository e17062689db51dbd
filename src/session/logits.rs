//! Logits of given tokens, without sampling: for `logits`, `perplexity` and tests; and one step timed op by op.

use super::Session;
use crate::executor::{Row, RowInput, StepOutput};
use crate::plan::Timing;
use crate::{Error, Result};

impl Session {
    /// Runs `tokens` from position 0 in prefill steps of up to the session's `logits` rows, and calls
    /// `each(position, logits)` for every token; `logits` has as many values as the vocabulary has tokens.
    ///
    /// # Errors
    /// [`Error::ContextFull`] if the tokens exceed the context; [`Error::Usage`] if requests are being answered.
    pub async fn prefill_logits(&mut self, tokens: &[u32], each: impl FnMut(usize, &[f32])) -> Result<()> {
        self.logits(tokens, self.executor.output_rows(), each).await
    }

    /// As [`Session::prefill_logits`], with a decode step for every token.
    ///
    /// # Errors
    /// As [`Session::prefill_logits`].
    pub async fn decode_logits(&mut self, tokens: &[u32], each: impl FnMut(usize, &[f32])) -> Result<()> {
        self.logits(tokens, 1, each).await
    }

    async fn logits(&mut self, tokens: &[u32], chunk: usize, mut each: impl FnMut(usize, &[f32])) -> Result<()> {
        self.check_tokens(tokens)?;
        let (context, vocab) = (self.context(), self.executor.vocab());
        if tokens.len() > context {
            return Err(Error::ContextFull { tokens: tokens.len(), context });
        }
        self.check_idle()?;
        self.executor.cache.clear(0);
        let row = |(position, token): (u32, &u32)| Row::new(RowInput::Token(*token), position, 0).with_output(0);
        let rows: Vec<Row> = (0..).zip(tokens).map(row).collect();
        let mut position = 0;
        for rows in rows.chunks(chunk) {
            let result = self.executor.run(rows, StepOutput::Logits).await?;
            for logits in result.logits.chunks_exact(vocab) {
                each(position, logits);
                position += 1;
            }
        }
        Ok(())
    }

    /// Times each dispatch of a step of `rows` rows whose first position is `position`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] without timestamps; [`Error::Usage`] if requests are being answered or the step exceeds
    /// the context.
    pub async fn profile(&mut self, rows: usize, position: usize) -> Result<Vec<Timing>> {
        self.check_idle()?;
        self.executor.profile(rows, position).await
    }

    fn check_idle(&self) -> Result<()> {
        match self.scheduler.is_idle() {
            true => Ok(()),
            false => Err(Error::Usage("the session is busy answering".into())),
        }
    }
}
