//! An engine that many tasks and threads use at once.
//!
//! [`Engine::into_loop`] divides an engine in two. Callers have clones of the [`EngineHandle`]; the [`EngineLoop`] owns
//! the engine and is awaited in one place: natively on a dedicated thread, because waiting for a GPU blocks there, or
//! on the event loop of a page.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures_channel::oneshot;

use super::grammars::{Grammar, Grammars};
use super::{AnswerId, AnswerJob, Engine, EngineControl, gone};
use crate::conversation::{AnswerEvent, OutputRules};
use crate::gpu::Gpu;
use crate::model::Model;
use crate::{Error, Result};

/// Sends requests to an [`EngineLoop`]. Clones reach the same engine, from any thread.
#[derive(Clone)]
pub struct EngineHandle {
    model: Arc<Model>,
    context: usize,
    control: EngineControl,
    grammars: Grammars,
    messages: UnboundedSender<Message>,
}

enum Message {
    Answer(Box<AnswerJob>, AnswerListener),
    Embed(Vec<u32>, oneshot::Sender<Result<Vec<f32>>>),
}

/// The loop's end of an [`AnswerStream`].
struct AnswerListener {
    events: UnboundedSender<Result<AnswerEvent>>,
    cancelled: Arc<AtomicBool>,
}

/// The events of one answer. Dropping it cancels the answer.
pub struct AnswerStream {
    events: UnboundedReceiver<Result<AnswerEvent>>,
    cancelled: Arc<AtomicBool>,
}

/// Owns an engine and serves its handles.
pub struct EngineLoop {
    engine: Engine,
    messages: UnboundedReceiver<Message>,
    answers: HashMap<AnswerId, AnswerListener>,
    embeddings: HashMap<AnswerId, oneshot::Sender<Result<Vec<f32>>>>,
}

impl Engine {
    /// Divides the engine into a handle to be cloned and a loop to be awaited.
    ///
    /// ```no_run
    /// # fn talk(engine: firelight::engine::Engine) -> firelight::Result<()> {
    /// let (handle, engine_loop) = engine.into_loop()?;
    /// let thread = std::thread::spawn(move || pollster::block_on(engine_loop.run()));
    /// # let _ = (handle, thread);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Engine::session`].
    pub fn into_loop(self) -> Result<(EngineHandle, EngineLoop)> {
        let (sender, messages) = unbounded();
        let handle = EngineHandle {
            model: self.model.clone(),
            context: self.session()?.context(),
            control: self.control(),
            grammars: self.grammars.clone(),
            messages: sender,
        };
        Ok((handle, EngineLoop { engine: self, messages, answers: HashMap::new(), embeddings: HashMap::new() }))
    }
}

impl EngineHandle {
    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Positions of a sequence, at most.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Acts on the engine while its loop waits.
    pub fn control(&self) -> &EngineControl {
        &self.control
    }

    /// The device; another one after it was lost.
    pub fn gpu(&self) -> Gpu {
        self.control.gpu()
    }

    /// Whether the loop has ended: nothing more is answered.
    pub fn has_ended(&self) -> bool {
        self.messages.is_closed()
    }

    /// Compiles an answer's constraint on the caller's thread. The first call reads the vocabulary, which
    /// takes up to a second.
    ///
    /// # Errors
    /// As [`Engine::compile`].
    pub fn compile(&self, rules: &OutputRules) -> Result<Grammar> {
        self.grammars.compile(rules)
    }

    /// Queues an answer. If the engine refuses it, the error is its first event.
    pub fn answer(&self, job: AnswerJob) -> AnswerStream {
        let (sender, events) = unbounded();
        let cancelled = Arc::new(AtomicBool::new(false));
        let listener = AnswerListener { events: sender, cancelled: cancelled.clone() };
        // A loop that has ended drops the listener, which ends the stream.
        let _ = self.messages.unbounded_send(Message::Answer(Box::new(job), listener));
        AnswerStream { events, cancelled }
    }

    /// Embeds a text. Dropping the future cancels it.
    ///
    /// # Errors
    /// As [`Session::submit_embedding`](crate::session::Session::submit_embedding); [`Error::Gpu`] if the loop ends.
    pub async fn embed(&self, tokens: Vec<u32>) -> Result<Vec<f32>> {
        let (sender, vector) = oneshot::channel();
        // As for an answer.
        let _ = self.messages.unbounded_send(Message::Embed(tokens, sender));
        vector.await.map_err(|_| gone())?
    }
}

impl AnswerStream {
    /// Waits for the next event. An error is the last one. `None` after the last event; without
    /// [`AnswerEvent::Finished`] before it if the loop has ended.
    pub async fn next(&mut self) -> Option<Result<AnswerEvent>> {
        self.events.recv().await.ok()
    }

    /// The next event, if there is one already.
    pub fn try_next(&mut self) -> Option<Result<AnswerEvent>> {
        self.events.try_recv().ok()
    }

    /// Ends the answer after the current step; its last event says so.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }
}

impl EngineLoop {
    /// Serves the handles until all of them, and all streams, are dropped, or [`EngineControl::close`] is called.
    ///
    /// # Errors
    /// As [`EngineLoop::turn`].
    pub async fn run(mut self) -> Result<()> {
        while let Ok(message) = self.messages.recv().await {
            self.take(message);
            while self.turn().await? {}
            if self.engine.control.is_closed() {
                break;
            }
        }
        Ok(())
    }

    /// Takes the requests that have come, does one step of the engine, and hands out its events. Returns whether there
    /// is more to do. For callers that do other things in between; [`EngineLoop::run`] is for all others.
    ///
    /// # Errors
    /// As [`Engine::step`]. Every answer gets the message as an [`Error::Gpu`].
    pub async fn turn(&mut self) -> Result<bool> {
        while let Ok(message) = self.messages.try_recv() {
            self.take(message);
        }
        self.cancel_abandoned();
        let stepped = self.engine.step().await;
        if self.engine.control.is_closed() {
            return Ok(false);
        }
        self.hand_out();
        match stepped {
            Ok(_) => Ok(self.engine.is_busy()),
            Err(error) => {
                self.fail(&error);
                Err(error)
            }
        }
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    fn take(&mut self, message: Message) {
        // An error for a dropped stream is discarded.
        match message {
            Message::Answer(job, listener) => match self.engine.submit(*job) {
                Ok(id) => drop(self.answers.insert(id, listener)),
                Err(error) => drop(listener.events.unbounded_send(Err(error))),
            },
            Message::Embed(tokens, sender) => match self.engine.embed(tokens) {
                Ok(id) => drop(self.embeddings.insert(id, sender)),
                Err(error) => drop(sender.send(Err(error))),
            },
        }
    }

    fn cancel_abandoned(&mut self) {
        for (id, listener) in &self.answers {
            if listener.events.is_closed() || listener.cancelled.load(Ordering::Relaxed) {
                self.engine.cancel(*id);
            }
        }
        for (id, _) in self.embeddings.extract_if(|_, sender| sender.is_canceled()) {
            self.engine.cancel(id);
        }
    }

    fn hand_out(&mut self) {
        while let Some((id, event)) = self.engine.try_next() {
            let over = matches!(event, Ok(AnswerEvent::Finished(_)) | Err(_));
            if let Some(listener) = self.answers.get(&id) {
                let _ = listener.events.unbounded_send(event);
            }
            if over {
                self.answers.remove(&id);
            }
        }
        while let Some((id, vector)) = self.engine.next_embedding() {
            self.embeddings.remove(&id).map(|sender| sender.send(Ok(vector)));
        }
    }

    fn fail(&mut self, error: &Error) {
        // Close first: a caller that gets the error and tries again then sees that the loop has ended.
        self.messages.close();
        let error = || Error::Gpu(error.to_string());
        for (_, listener) in self.answers.drain() {
            let _ = listener.events.unbounded_send(Err(error()));
        }
        for (_, sender) in self.embeddings.drain() {
            let _ = sender.send(Err(error()));
        }
    }
}
