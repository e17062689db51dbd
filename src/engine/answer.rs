//! One answer at a time, for a caller that owns the engine.

use std::collections::VecDeque;

use super::{AnswerId, AnswerJob, Engine};
use crate::Result;
use crate::conversation::AnswerEvent;

impl Engine {
    /// Generates one answer; dropping the [`AnswerSteps`] cancels it. Other answers run meanwhile, and their events
    /// wait for [`Engine::try_next`].
    ///
    /// # Errors
    /// As [`Engine::submit`].
    pub fn answer(&mut self, job: AnswerJob) -> Result<AnswerSteps<'_>> {
        let id = self.submit(job)?;
        Ok(AnswerSteps { engine: self, id, finished: false })
    }
}

/// One answer, step by step; see [`Engine::answer`].
pub struct AnswerSteps<'a> {
    engine: &'a mut Engine,
    id: AnswerId,
    finished: bool,
}

impl AnswerSteps<'_> {
    /// The events of the next step; `None` after [`AnswerEvent::Finished`]. A step that reads a part of the prompt has
    /// no events: the caller can do other things between two steps, such as to cancel.
    ///
    /// # Errors
    /// As [`Engine::step`]; [`Error::Unsupported`](crate::Error::Unsupported) if the constraint fails.
    pub async fn next(&mut self) -> Result<Option<Vec<AnswerEvent>>> {
        if self.finished {
            return Ok(None);
        }
        // An answer's first events, and its cancellation, need no step.
        let ready = self.take()?;
        if !ready.is_empty() {
            return Ok(Some(ready));
        }
        self.finished = !self.engine.step().await?;
        Ok(Some(self.take()?))
    }

    /// The events that are ready.
    fn take(&mut self) -> Result<Vec<AnswerEvent>> {
        let (own, others): (VecDeque<_>, _) = self.engine.events.drain(..).partition(|(id, _)| *id == self.id);
        self.engine.events = others;
        self.finished |= matches!(own.back(), Some((_, Ok(AnswerEvent::Finished(_)) | Err(_))));
        own.into_iter().map(|(_, event)| event).collect()
    }

    /// Ends the answer; its last event says so.
    pub fn cancel(&mut self) {
        self.engine.cancel(self.id);
    }
}

impl Drop for AnswerSteps<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.cancel();
        }
        let id = self.id;
        self.engine.events.retain(|(other, _)| *other != id);
    }
}
