//! The window's end of the engine: takes commands, drives a [`crate::engine::Engine`], sends events.
//!
//! One async loop for both platforms: natively it blocks its own thread, in a tab it runs in a worker. It does one
//! thing at a time and owns the engine: a worker has no second thread for an [`crate::engine::EngineLoop`]. A device
//! shared with the window would queue frames behind compute, and take the window along when it is lost. The loop looks
//! for commands after each step, and before each read while loading; it ends when the window is closed.

use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_channel::mpsc::{TryRecvError, UnboundedReceiver};
use serde_json::{Value, json};

use super::facts;
use super::platform;
use super::protocol::{
    Ask, ChatMessage, Command, EngineEvent, EngineFailure, Loaded, Memory, OpTime, Opening, Place, Remedy,
};
use super::text;
use super::tools::SavedToolCall;
use crate::checkpoint::{ReadFuture, Source};
use crate::conversation::{AnswerEvent, Conversation, Prompt, ResponseFormat, complete_members};
use crate::engine::{AnswerJob, Engine, EngineOptions, Report, Status};
use crate::gpu::{Clock, Gpu, GpuOptions};
use crate::ops::StepSizes;
use crate::send::BoxFn;
use crate::session::SessionOptions;
use crate::tokenizer::Special;
use crate::{Error, Model, Result};

/// Rows of a prefill step: a step cannot be interrupted. On software adapters it takes seconds.
const CHUNK: u32 = 256;
const SOFTWARE_CHUNK: u32 = 16;
/// Steps in flight on software adapters: none is queued that Stop would have to wait for.
const SOFTWARE_RUN_AHEAD: u32 = 1;
/// The number of alternatives reported for each token.
const TOP: u32 = 10;

/// Received commands, and whether they stop the current work.
struct Inbox {
    receiver: UnboundedReceiver<Command>,
    waiting: VecDeque<Command>,
    stop: bool,
    closed: bool,
}

impl Inbox {
    /// Receives pending commands without waiting. Returns whether the current work should stop.
    fn look(&mut self) -> bool {
        loop {
            match self.receiver.try_recv() {
                Ok(Command::Stop) => self.stop = true,
                Ok(other) => self.waiting.push_back(other),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Closed) => {
                    self.closed = true;
                    break;
                }
            }
        }
        self.stop || self.closed
    }
}

/// Ignores the poison of a panic: the inbox stays consistent.
fn lock(inbox: &Mutex<Inbox>) -> MutexGuard<'_, Inbox> {
    inbox.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Backend {
    inbox: Arc<Mutex<Inbox>>,
    emit: Arc<BoxFn<EngineEvent, ()>>,
    /// The device, and the name by which it was requested.
    gpu: Option<(Option<String>, Gpu)>,
    open: Option<Engine>,
    /// Rows of its prefill steps.
    chunk: usize,
}

/// How much of a prompt was read, counted in steps.
struct Prefill {
    total: usize,
    chunk: usize,
    read: usize,
    writing: bool,
}

impl Prefill {
    /// After a step with these events: the tokens read so far, while the prompt is read.
    fn step(&mut self, events: &[AnswerEvent]) -> Option<usize> {
        match events.first() {
            Some(AnswerEvent::Started { reused_tokens }) => self.read = *reused_tokens,
            Some(_) => self.writing = true,
            None => self.read += self.chunk,
        }
        self.read = self.read.min(self.total);
        (!self.writing).then_some(self.read)
    }
}

/// Serves commands until their sender is gone. `emit` hands events to the window.
pub async fn run(receiver: UnboundedReceiver<Command>, emit: Arc<BoxFn<EngineEvent, ()>>) {
    let inbox = Inbox { receiver, waiting: VecDeque::new(), stop: false, closed: false };
    let mut server = Backend { inbox: Arc::new(Mutex::new(inbox)), emit, gpu: None, open: None, chunk: 0 };
    while let Some(command) = server.next().await {
        server.serve(command).await;
    }
}

impl Backend {
    /// The next command; `None` when the window is gone.
    async fn next(&self) -> Option<Command> {
        {
            let mut inbox = lock(&self.inbox);
            inbox.stop = false;
            match inbox.waiting.pop_front() {
                _ if inbox.closed => return None,
                Some(command) => return Some(command),
                None => {}
            }
        }
        poll_fn(|cx| pin!(lock(&self.inbox).receiver.recv()).poll(cx)).await.ok()
    }

    async fn serve(&mut self, command: Command) {
        match command {
            Command::Devices => {
                let cards = Gpu::list().await;
                (self.emit)(EngineEvent::Devices(cards.iter().map(facts::device).collect()));
            }
            Command::Find => (self.emit)(EngineEvent::Found(platform::find_models())),
            Command::Inspect(place) => {
                let facts = self.inspect(&place).await.map_err(|e| e.to_string());
                (self.emit)(EngineEvent::Inspected(place, facts));
            }
            Command::Load(place, opening) => match self.load(&place, opening).await {
                Ok(loaded) => (self.emit)(EngineEvent::Loaded(Box::new(loaded))),
                Err(error) => {
                    let stopped = lock(&self.inbox).look();
                    let failure = match stopped {
                        true => EngineFailure::new("Loading was stopped.", Remedy::None),
                        false => EngineFailure::from(&error),
                    };
                    self.forget_lost();
                    (self.emit)(EngineEvent::LoadFailed(place, failure));
                }
            },
            Command::Answer(ask) => {
                let id = ask.id;
                let answered = self.answer(ask).await;
                // The engine has replaced a lost device.
                if let (Some((_, gpu)), Some(engine)) = (&mut self.gpu, &self.open) {
                    *gpu = engine.gpu();
                }
                if let Err(error) = answered {
                    (self.emit)(EngineEvent::AnswerFailed(id, EngineFailure::from(&error)));
                    self.tell_lost();
                }
            }
            Command::Count(id, text) => {
                let tokenizer = self.open.as_ref().map(|engine| engine.model().tokenizer.clone());
                let tokens = tokenizer.and_then(|tokenizer| tokenizer.encode(&text, Special::NONE).ok());
                (self.emit)(EngineEvent::Counted(id, tokens.map(|tokens| tokens.len())));
            }
            Command::Stop => {}
            Command::Measure(position) => match self.measure(position).await {
                Ok(ops) => (self.emit)(EngineEvent::Measured(ops)),
                Err(error) => {
                    (self.emit)(EngineEvent::MeasureFailed(error.to_string()));
                    self.tell_lost();
                }
            },
        }
    }

    /// The device: the open one, unless another one is requested.
    async fn gpu(&mut self, device: Option<String>) -> Result<Gpu> {
        if let Some((name, gpu)) = &self.gpu
            && *name == device
            && gpu.check().is_ok()
        {
            return Ok(gpu.clone());
        }
        // Free the memory of the previous device first.
        (self.open, self.gpu) = (None, None);
        let gpu = Gpu::open(&gpu_options(device.clone())).await?;
        self.gpu = Some((device, gpu.clone()));
        Ok(gpu)
    }

    /// Drops a device that was lost and not replaced, and its engine. Returns whether it was.
    fn forget_lost(&mut self) -> bool {
        let failed = self.open.as_ref().is_some_and(|engine| engine.session().is_err());
        let lost = failed || self.gpu.as_ref().is_some_and(|(_, gpu)| gpu.check().is_err());
        if lost {
            (self.open, self.gpu) = (None, None);
        }
        lost
    }

    fn tell_lost(&mut self) {
        if self.forget_lost() {
            (self.emit)(EngineEvent::Lost("The GPU was lost: its driver restarted, or it ran out of memory.".into()));
        }
    }

    async fn inspect(&mut self, place: &Place) -> Result<facts::Facts> {
        let sources = platform::sources(place).await?;
        let device = self.gpu.as_ref().and_then(|(name, _)| name.clone());
        let gpu = self.gpu(device).await.ok();
        facts::read(place, sources, gpu.as_ref().map(Gpu::caps)).await
    }

    async fn load(&mut self, place: &Place, opening: Opening) -> Result<Loaded> {
        (self.emit)(EngineEvent::Loading(place.clone(), 0, 0));
        self.open = None;
        let gpu = self.gpu(opening.device.clone()).await?;
        let sources = platform::sources(place).await?.into_iter().map(|s| stoppable(s, self.inbox.clone()));
        let model = Arc::new(Model::from_sources(sources.collect()).await?);
        let mut session = SessionOptions { context: opening.context, chunk: CHUNK, ..SessionOptions::default() };
        if gpu.caps().software {
            (session.chunk, session.run_ahead) = (SOFTWARE_CHUNK, SOFTWARE_RUN_AHEAD);
        }
        self.chunk = session.chunk as usize;
        let options = EngineOptions { gpu: gpu_options(opening.device), session };
        let (emit, at) = (self.emit.clone(), place.clone());
        let report: Report = Box::new(move |status| {
            if let Status::Loading(progress) = status {
                emit(EngineEvent::Loading(at.clone(), progress.done, progress.total));
            }
        });
        let engine = Engine::load(gpu, model, options, report).await?;
        let loaded = describe(place, &engine)?;
        self.open = Some(engine);
        Ok(loaded)
    }

    async fn answer(&mut self, ask: Ask) -> Result<()> {
        let Some(engine) = &mut self.open else {
            return Err(Error::Usage("No model is open: choose one first.".into()));
        };
        let model = engine.model().clone();
        let prompt = conversation(&ask).prepare(&model, &ResponseFormat::Text, |_| Ok::<_, Error>(()))?;
        // Without tools the window shows the text as the model writes it.
        let mut marks = ReasoningMarks::new(!ask.tools.is_empty());
        let mut prompt = if ask.tools.is_empty() { prompt.unparsed() } else { prompt };
        let prefill = std::mem::take(&mut prompt.prefill);
        let thinking = ask.begun.is_empty() && !prefill.is_empty();
        marks.inside = thinking || text::split(&ask.begun, false).thinking;
        // The parser goes on within the begun answer, whose opening mark the template may have written.
        if !ask.tools.is_empty() {
            let opened = prompt.parser.is_reasoning();
            prompt.parser.push(if opened { ask.begun.trim_start_matches("<think>") } else { &ask.begun });
        }
        prompt.tokens.extend(model.tokenizer.encode(&ask.begun, Special::NONE)?);
        let mut sampling = ask.sampling;
        sampling.logprobs = ask.probabilities.then_some(TOP);
        let (max_tokens, stop, since) = (ask.max_tokens, Vec::new(), Clock::now());
        (self.emit)(EngineEvent::Started { id: ask.id, prompt: prompt.tokens.len(), thinking });
        let mut prefill = Prefill { total: prompt.tokens.len(), chunk: self.chunk, read: 0, writing: false };
        let mut answer =
            engine.answer(AnswerJob { prompt, sampling, stop, max_tokens, ignore_end: false, grammar: None })?;
        while let Some(events) = answer.next().await? {
            if let Some(read) = prefill.step(&events) {
                (self.emit)(EngineEvent::Read(ask.id, read));
            }
            for event in events.into_iter().flat_map(|event| marks.mark(event)) {
                (self.emit)(EngineEvent::Answer(ask.id, event, since.seconds()));
            }
            if lock(&self.inbox).look() {
                answer.cancel();
            }
        }
        Ok(())
    }

    async fn measure(&mut self, position: usize) -> Result<Vec<OpTime>> {
        let engine = self.open.as_mut().ok_or_else(|| Error::Usage("No model is open.".into()))?;
        let session = engine.session_mut()?;
        let position = position.min(session.context() - 1);
        // The first step warms up.
        session.profile(1, position).await?;
        let mut ops: BTreeMap<&str, OpTime> = BTreeMap::new();
        for timing in session.profile(1, position).await? {
            let nothing = OpTime { op: timing.op.into(), count: 0, seconds: 0.0, bytes: 0 };
            let op = ops.entry(timing.op).or_insert(nothing);
            op.count += 1;
            op.seconds += timing.time.as_secs_f64();
            op.bytes += timing.bytes;
        }
        let mut ops: Vec<OpTime> = ops.into_values().collect();
        ops.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        Ok(ops)
    }
}

/// Puts the reasoning of a parsed answer back between the marks with which models write it: the window keeps an answer
/// as one text.
struct ReasoningMarks {
    parsed: bool,
    inside: bool,
}

impl ReasoningMarks {
    fn new(parsed: bool) -> Self {
        ReasoningMarks { parsed, inside: false }
    }

    fn mark(&mut self, event: AnswerEvent) -> Vec<AnswerEvent> {
        let reasoning = match &event {
            _ if !self.parsed => return vec![event],
            AnswerEvent::Reasoning(_) => true,
            AnswerEvent::Content(_) | AnswerEvent::ToolCall { .. } => false,
            _ => return vec![event],
        };
        let turned = std::mem::replace(&mut self.inside, reasoning) != reasoning;
        let mark = turned.then(|| AnswerEvent::Content(if reasoning { "<think>\n" } else { "\n</think>\n\n" }.into()));
        let event = if let AnswerEvent::Reasoning(text) = event { AnswerEvent::Content(text) } else { event };
        mark.into_iter().chain([event]).collect()
    }
}

fn conversation(ask: &Ask) -> Prompt {
    let (messages, date) = (ask.messages.iter().map(message).collect(), ask.date.clone());
    let tools = ask.tools.clone();
    Prompt::Conversation(Conversation { messages, tools, date, new_turn: true, ..Default::default() })
}

/// A message for a chat template.
fn message(message: &ChatMessage) -> Value {
    let mut value = json!({ "role": message.role, "content": message.content });
    if !message.tool_calls.is_empty() {
        let call = |call: &SavedToolCall| {
            let arguments = complete_members(&call.arguments);
            json!({ "id": call.id, "type": "function", "function": { "name": call.name, "arguments": arguments } })
        };
        value["tool_calls"] = message.tool_calls.iter().map(call).collect();
    }
    if let Some(id) = &message.tool_call_id {
        value["tool_call_id"] = id.as_str().into();
    }
    value
}

fn gpu_options(device: Option<String>) -> GpuOptions {
    GpuOptions { device, ..Default::default() }
}

fn describe(place: &Place, engine: &Engine) -> Result<Loaded> {
    let (model, gpu, session) = (engine.model(), engine.gpu(), engine.session()?);
    let dispatch_list = session.plan().dispatch_list();
    let bytes = dispatch_list.bytes();
    let memory = Memory { weights: bytes.weights, kv: bytes.kv, activations: bytes.slots, other: bytes.other };
    let step = StepSizes { filtered: 1, ..dispatch_list.step(1, 0) };
    let mut facts = facts::of(&model.checkpoint, place);
    facts.trained = Some(model.spec.context_length);
    facts.fit = super::protocol::Fit::Fits(session.context() as u32, bytes.total());
    Ok(Loaded {
        place: place.clone(),
        facts,
        device: facts::device(gpu.adapter()),
        context: session.context(),
        memory,
        dispatches: session.plan().dispatches(&step),
        notices: model.notices.iter().chain(session.notices()).cloned().collect(),
    })
}

/// A source whose reads fail once the user cancels: the only way to stop loading.
fn stoppable(source: Source, inbox: Arc<Mutex<Inbox>>) -> Source {
    let (name, len, source) = (source.name().to_string(), source.len(), Arc::new(source));
    Source::new(name, len, move |range| -> ReadFuture {
        let (source, stop) = (source.clone(), lock(&inbox).look());
        Box::pin(async move {
            match stop {
                true => Err(Error::Usage("stopped".into())),
                false => source.read(range).await,
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::EngineControl;
    use crate::sampler::Sampling;
    use crate::session::FinishReason;

    /// The events of the window; the device is lost with the fourth token of an answer, if there is a control.
    #[derive(Default)]
    struct Window {
        events: Mutex<Vec<EngineEvent>>,
        control: Mutex<Option<EngineControl>>,
    }

    impl Window {
        fn receive(&self, event: EngineEvent) {
            let mut events = self.events.lock().unwrap();
            events.push(event);
            let is_token = |e: &&EngineEvent| matches!(e, EngineEvent::Answer(_, AnswerEvent::Token { .. }, _));
            if events.iter().filter(is_token).count() == 4 {
                self.control.lock().unwrap().take().inspect(EngineControl::lose_device);
            }
        }

        /// The text of the answer since the last call.
        fn answer(&self) -> String {
            let mut text = String::new();
            for event in self.events.lock().unwrap().drain(..) {
                match event {
                    EngineEvent::Answer(_, AnswerEvent::Content(more), _) => text += &more,
                    EngineEvent::Answer(_, AnswerEvent::Finished(end), _) => {
                        assert_eq!(end.reason, FinishReason::MaxTokens);
                        text += " finished";
                    }
                    EngineEvent::AnswerFailed(_, EngineFailure { why, .. }) | EngineEvent::Lost(why) => panic!("{why}"),
                    _ => {}
                }
            }
            text
        }
    }

    #[test]
    fn a_prompt_is_counted_while_it_is_read() {
        let mut prefill = Prefill { total: 100, chunk: 40, read: 0, writing: false };
        assert_eq!(prefill.step(&[AnswerEvent::Started { reused_tokens: 30 }]), Some(30));
        assert_eq!((prefill.step(&[]), prefill.step(&[])), (Some(70), Some(100)));
        assert_eq!(prefill.step(&[AnswerEvent::Content("Hi".into())]), None);
        assert_eq!(prefill.step(&[]), None);
    }

    #[test]
    fn an_answer_goes_on_after_a_lost_device() {
        let (_commands, receiver) = futures_channel::mpsc::unbounded();
        let window = Arc::new(Window::default());
        let emit: BoxFn<EngineEvent, ()> = Box::new({
            let window = window.clone();
            move |event| window.receive(event)
        });
        let inbox = Inbox { receiver, waiting: VecDeque::new(), stop: false, closed: false };
        let mut backend =
            Backend { inbox: Arc::new(Mutex::new(inbox)), emit: Arc::new(emit), gpu: None, open: None, chunk: 0 };
        pollster::block_on(async {
            let opening = Opening { context: Some(256), ..Opening::default() };
            backend.serve(Command::Load(Place::BuiltIn, opening)).await;
            let message = ChatMessage::new("user", "What can you do?");
            let ask = Command::Answer(Ask {
                id: 1,
                messages: vec![message],
                tools: Vec::new(),
                begun: String::new(),
                sampling: Sampling::greedy(),
                max_tokens: Some(12),
                probabilities: false,
                date: None,
            });
            backend.serve(ask.clone()).await;
            let undisturbed = window.answer();
            assert!(undisturbed.len() > 20 && undisturbed.ends_with(" finished"), "{undisturbed:?}");
            let lost = backend.gpu.clone().expect("a device").1;
            *window.control.lock().unwrap() = backend.open.as_ref().map(Engine::control);
            backend.serve(ask.clone()).await;
            assert!(lost.check().is_err(), "the device was not lost");
            assert_eq!(window.answer(), undisturbed);
            // The window's next model is loaded onto the new device.
            assert!(backend.gpu.as_ref().is_some_and(|(_, gpu)| gpu.check().is_ok()));
            backend.serve(ask).await;
            assert_eq!(window.answer(), undisturbed);
        });
    }
}
