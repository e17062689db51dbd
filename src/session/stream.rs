//! One request as a stream of events while others run.

use super::{Event, Request, RequestId, Session};
use crate::Result;

impl Session {
    /// Answers one request; dropping the [`Generation`] cancels it. Other requests run meanwhile, and their events wait
    /// for [`Session::next`].
    ///
    /// # Errors
    /// As [`Session::submit`].
    pub fn generate(&mut self, request: Request) -> Result<Generation<'_>> {
        let id = self.submit(request)?;
        Ok(Generation { session: self, id, finished: false })
    }

    /// The next event of one request that is ready now. Events of others keep their order.
    pub(super) fn try_next_of(&mut self, id: RequestId) -> Option<Event> {
        let at = self.events.iter().position(|(of, _)| *of == id)?;
        self.events.remove(at).map(|(_, event)| event)
    }
}

/// The answer to one request; see [`Session::generate`].
pub struct Generation<'a> {
    session: &'a mut Session,
    id: RequestId,
    finished: bool,
}

impl Generation<'_> {
    /// The next event; `None` after the last.
    ///
    /// # Errors
    /// If the device is lost.
    pub async fn next(&mut self) -> Result<Option<Event>> {
        while !self.finished {
            if let Some(event) = self.session.try_next_of(self.id) {
                self.finished = matches!(event, Event::Finished { .. });
                return Ok(Some(event));
            }
            // Work that is left for other requests is not waited for.
            if !self.session.scheduler.has(self.id) || !self.session.step().await? {
                self.finished = true;
            }
        }
        Ok(None)
    }

    /// Ends the answer; the last event says so.
    pub fn cancel(&mut self) {
        self.session.cancel(self.id);
    }
}

impl Drop for Generation<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.session.cancel(self.id);
            let id = self.id;
            self.session.events.retain(|(other, _)| *other != id);
        }
    }
}
