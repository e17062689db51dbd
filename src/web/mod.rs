//! The browser's front end: the engine as a JavaScript class. JSON goes in and out; bytes come from JavaScript.
//!
//! Everything of the engine is here and nothing else is: network, cache and messages are `assets/js`. JavaScript may call
//! [`Engine::submit`] and [`Engine::cancel`] while [`Engine::next`] is waiting, so `next` takes the session out of its
//! cell for as long as it works, and orders lie in a list that is read between two steps. A lost device is replaced here
//! too: the tokens that were given out are known, so their answers go on behind them.

mod failure;
mod info;
mod request;
mod source;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use js_sys::Function;
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;

use crate::gpu::{self, Clock, Tuning};
use crate::model::load::Progress;
use crate::session::{Event, Request, RequestId};
use crate::{Error, Gpu, GpuOptions, Model, Session};
use failure::{Failure, Moment};
use request::{Ask, Settings};
use source::Broken;

/// A device that is lost again within so many seconds is given up.
const LOST_AGAIN: f64 = 30.0;
/// A browser may say that a device is lost only after what waits for it has failed: so many seconds later at most.
const LATE: f64 = 1.0;
/// After a crash browsers have no adapter for a moment: it is asked for so often, so many milliseconds apart.
const REOPEN: (u32, i32) = (10, 500);

/// Calls `tell` with the message of a panic: nothing of this module can be used after one.
#[wasm_bindgen(js_name = onPanic)]
pub fn on_panic(tell: Function) {
    std::panic::set_hook(Box::new(move |info| {
        let _ = tell.call1(&JsValue::NULL, &info.to_string().into());
    }));
}

/// A loaded model. See the module.
#[wasm_bindgen]
pub struct Engine {
    model: Model,
    bytes: u64,
    settings: Settings,
    gpu: RefCell<Gpu>,
    session: RefCell<Option<Session>>,
    orders: RefCell<Vec<Order>>,
    answers: RefCell<BTreeMap<u64, Answer>>,
    last_id: Cell<u64>,
    lost: Cell<Option<Clock>>,
    closed: Cell<bool>,
    broken: Broken,
    report: Function,
    info: RefCell<Value>,
}

/// What is to be done between two steps.
enum Order {
    Submit(u64),
    Cancel(u64),
}

/// A request that is not finished.
struct Answer {
    /// What was asked, and in its tokens what was answered.
    request: Request,
    /// What the prompt has begun of the answer and nobody was told yet.
    begun: String,
    /// Its number in the session, once it is there.
    at: Option<RequestId>,
}

#[wasm_bindgen]
impl Engine {
    /// Opens a model and loads it. `sources` are objects `{name, length, read(start, end) => Promise<Uint8Array>}`;
    /// `settings` is JSON, see [`Settings`]. `report` is called with JSON, here and after a lost device: `{progress:
    /// {done, total}}` in bytes of the weights, `{compiling: true}`, `{notice: text}`, and `{devices: {key: text}}`, which is
    /// to be given in `settings` the next time.
    ///
    /// # Errors
    /// JSON `{code, message}`, or whatever a source threw.
    pub async fn open(sources: Vec<JsValue>, settings: String, report: Function) -> Result<Engine, JsValue> {
        let broken = Broken::default();
        let opened = Self::load(sources, &settings, report, broken.clone()).await;
        opened.map_err(|failure| broken.or(failure))
    }

    async fn load(sources: Vec<JsValue>, settings: &str, report: Function, broken: Broken) -> Result<Engine, Failure> {
        let at = |moment: Moment| move |error: Error| Failure::new(moment, &error);
        let settings = Settings::parse(settings).map_err(at(Moment::Open))?;
        let sources = sources.iter().map(|s| source::source(s, &broken)).collect::<crate::Result<Vec<_>>>();
        let sources = sources.map_err(at(Moment::Open))?;
        let bytes = sources.iter().map(|source| source.len()).sum();
        let model = Model::from_sources(sources).await.map_err(at(Moment::Read))?;
        let gpu = settings.open_gpu(&report).await.map_err(at(Moment::Open))?;
        let session = open_session(&gpu, &model, &settings, &report).await.map_err(|error| {
            gpu.destroy();
            Failure::new(Moment::Open, &error)
        })?;
        let info = info::info(&model, bytes, &gpu, &session);
        Ok(Engine {
            model,
            bytes,
            settings,
            gpu: RefCell::new(gpu),
            session: RefCell::new(Some(session)),
            orders: RefCell::default(),
            answers: RefCell::default(),
            last_id: Cell::new(0),
            lost: Cell::new(None),
            closed: Cell::new(false),
            broken,
            report,
            info: RefCell::new(info),
        })
    }

    /// What was loaded onto what, as JSON.
    pub fn info(&self) -> String {
        self.info.borrow().to_string()
    }

    /// Queues a request, JSON as of [`Ask`]; [`Engine::next`] answers it under the number returned.
    ///
    /// # Errors
    /// JSON `{code, message}` if the request makes no sense or the template refuses it.
    pub fn submit(&self, ask: &str) -> Result<f64, JsValue> {
        let request = Ask::parse(ask).and_then(|ask| ask.request(&self.model));
        let (request, begun) = request.map_err(|error| Failure::new(Moment::Submit, &error))?;
        let id = self.last_id.get() + 1;
        self.last_id.set(id);
        self.answers.borrow_mut().insert(id, Answer { request, begun, at: None });
        self.orders.borrow_mut().push(Order::Submit(id));
        Ok(id as f64)
    }

    /// Ends a request; its last event says so.
    pub fn cancel(&self, id: f64) {
        self.orders.borrow_mut().push(Order::Cancel(id as u64));
    }

    /// The next events of all requests, as a JSON array; `undefined` when all are answered. Call it again until then.
    ///
    /// # Errors
    /// JSON `{code, message}`, or whatever a source threw. All requests have failed then.
    pub async fn next(&self) -> Result<Option<String>, JsValue> {
        let Some(mut session) = self.session.take() else {
            return Err(Failure::internal("next() was called while it was waiting, or after a failure").into());
        };
        let mut events = Vec::new();
        loop {
            self.follow_orders(&mut session, &mut events);
            let turned = session.step().await;
            if self.closed.get() {
                return Ok(None);
            }
            self.gather(&mut session, &mut events);
            match turned {
                Ok(more) => {
                    let done = !more && self.orders.borrow().is_empty();
                    if done || !events.is_empty() {
                        self.session.replace(Some(session));
                        return Ok((!events.is_empty()).then(|| Value::Array(events).to_string()));
                    }
                }
                Err(error) => {
                    drop(session);
                    session = self.recover(&error).await.map_err(|failure| {
                        self.answers.borrow_mut().clear();
                        self.broken.or(failure)
                    })?;
                }
            }
        }
    }

    /// The ids of a text, or of a conversation as the model reads it: JSON as of [`Ask`].
    ///
    /// # Errors
    /// JSON `{code, message}` if the template refuses it.
    pub fn tokenize(&self, ask: &str) -> Result<Vec<u32>, JsValue> {
        let tokens = Ask::parse(ask).and_then(|ask| ask.tokens(&self.model));
        Ok(tokens.map_err(|error| Failure::new(Moment::Submit, &error))?)
    }

    /// The text of ids, without control tokens.
    ///
    /// # Errors
    /// JSON `{code, message}` if there is no such id.
    pub fn detokenize(&self, ids: Vec<u32>) -> Result<String, JsValue> {
        let size = self.model.tokenizer.vocab_size();
        if let Some(id) = ids.iter().find(|id| **id as usize >= size) {
            let error = Error::Usage(format!("token {id} is not below the vocabulary's size, {size}"));
            return Err(Failure::new(Moment::Submit, &error).into());
        }
        Ok(self.model.tokenizer.decode(&ids))
    }

    /// Loses the device, as a crashed driver would; for tests.
    pub fn lose(&self) {
        self.gpu.borrow().destroy();
    }

    /// Gives the device and its memory back. A waiting [`Engine::next`] ends with `undefined`.
    pub fn destroy(&self) {
        self.closed.set(true);
        self.gpu.borrow().destroy();
        self.session.take();
        self.answers.borrow_mut().clear();
    }
}

impl Engine {
    fn follow_orders(&self, session: &mut Session, events: &mut Vec<Value>) {
        let mut answers = self.answers.borrow_mut();
        for order in self.orders.take() {
            match order {
                Order::Submit(id) => {
                    let Some(answer) = answers.get_mut(&id) else { continue };
                    match session.submit(answer.request.clone()) {
                        Ok(at) => {
                            answer.at = Some(at);
                            let begun = std::mem::take(&mut answer.begun);
                            if !begun.is_empty() {
                                events.extend(request::event(id, Event::Text(begun), &self.model.tokenizer));
                            }
                        }
                        Err(error) => {
                            answers.remove(&id);
                            events.push(json!({"id": id, "error": Failure::new(Moment::Submit, &error)}));
                        }
                    }
                }
                Order::Cancel(id) => {
                    if let Some(at) = answers.get(&id).and_then(|answer| answer.at) {
                        session.cancel(at);
                    }
                }
            }
        }
    }

    /// Takes what the session has to say, and remembers the tokens.
    fn gather(&self, session: &mut Session, events: &mut Vec<Value>) {
        let mut answers = self.answers.borrow_mut();
        while let Some((at, event)) = session.try_next() {
            let Some((id, answer)) = answers.iter_mut().find(|(_, answer)| answer.at == Some(at)) else { continue };
            let id = *id;
            if let Event::Token { id: token, .. } = event {
                answer.request.tokens.push(token);
                answer.request.answered += 1;
            }
            let finished = matches!(event, Event::Finished { .. });
            events.extend(request::event(id, event, &self.model.tokenizer));
            if finished {
                answers.remove(&id);
            }
        }
    }

    /// After a lost device: a new one, the weights once more, and every answer continued.
    async fn recover(&self, error: &Error) -> Result<Session, Failure> {
        if !self.is_lost().await {
            return Err(Failure::new(Moment::Run, error));
        }
        if self.lost.get().is_some_and(|lost| lost.seconds() < LOST_AGAIN) {
            return Err(Failure::new(Moment::Lost, error));
        }
        self.lost.set(Some(Clock::now()));
        self.say("the GPU was lost; the model is loaded again, and the answer goes on then");
        let gpu = self.reopen_gpu().await.map_err(|_| Failure::new(Moment::Lost, error))?;
        self.gpu.replace(gpu.clone());
        let opened = open_session(&gpu, &self.model, &self.settings, &self.report).await;
        if self.closed.get() {
            gpu.destroy();
        }
        let session = opened.map_err(|error| Failure::new(Moment::Lost, &error))?;
        self.info.replace(info::info(&self.model, self.bytes, &gpu, &session));
        let answers = self.answers.borrow();
        let again: Vec<_> = answers.iter().filter(|(_, a)| a.at.is_some()).map(|(id, _)| Order::Submit(*id)).collect();
        self.orders.borrow_mut().splice(0..0, again);
        Ok(session)
    }

    async fn is_lost(&self) -> bool {
        let gpu = self.gpu.borrow().clone();
        let since = Clock::now();
        while gpu.check().is_ok() && since.seconds() < LATE {
            gpu::pause(50).await;
        }
        gpu.check().is_err()
    }

    async fn reopen_gpu(&self) -> crate::Result<Gpu> {
        let (times, pause) = REOPEN;
        for _ in 1..times {
            if let Ok(gpu) = self.settings.open_gpu(&self.report).await {
                return Ok(gpu);
            }
            gpu::pause(pause).await;
        }
        self.settings.open_gpu(&self.report).await
    }

    fn say(&self, notice: &str) {
        report(&self.report, &json!({"notice": notice}));
    }
}

async fn open_session(gpu: &Gpu, model: &Model, settings: &Settings, tell: &Function) -> crate::Result<Session> {
    report(tell, &json!({"compiling": true}));
    let progress = |Progress { done, total }| report(tell, &json!({"progress": {"done": done, "total": total}}));
    Session::builder(gpu, model).options(&settings.options(gpu.caps())).on_progress(progress).load().await
}

fn report(tell: &Function, what: &Value) {
    let _ = tell.call1(&JsValue::NULL, &what.to_string().into());
}

impl Settings {
    /// Opens the device, and has the page keep what tuning found.
    async fn open_gpu(&self, tell: &Function) -> crate::Result<Gpu> {
        self.devices.iter().for_each(|devices| gpu::restore_cache(devices.clone()));
        let tuning = match self.tune {
            None => Tuning::Auto,
            Some(true) => Tuning::Always,
            Some(false) => Tuning::Cached,
        };
        let gpu = Gpu::open(&GpuOptions { tier: self.tier()?, tuning, ..Default::default() }).await?;
        let devices = gpu::cached_entries();
        if devices != self.devices {
            report(tell, &json!({"devices": devices}));
        }
        Ok(gpu)
    }
}
