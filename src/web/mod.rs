//! The browser's front end: the engine as a JavaScript class. JSON goes in and out; bytes come from JavaScript.
//!
//! Network, cache and messages are in `assets/js`. JavaScript may call [`WebEngine::submit`] and [`WebEngine::cancel`]
//! while [`WebEngine::next`] waits, so `next` takes the engine out of its cell for as long as it works, and orders are
//! kept in a list that is read between two steps.

mod info;
mod js_error;
mod request;
mod source;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use js_sys::Function;
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;

use crate::conversation::AnswerEvent;
use crate::engine::{AnswerId, AnswerJob, Engine, EngineControl, EngineOptions, Report, Status};
use crate::gpu::{self, Gpu};
use crate::model::load::Progress;
use crate::{Error, Model};
use js_error::{JsError, Moment};
use request::{GenerateRequest, OpenOptions};
use source::SourceError;

/// Calls `tell` with the message of a panic: after one, nothing of this module works.
#[wasm_bindgen(js_name = onPanic)]
pub fn on_panic(tell: Function) {
    std::panic::set_hook(Box::new(move |info| {
        let _ = tell.call1(&JsValue::NULL, &info.to_string().into());
    }));
}

/// A loaded model. See the module.
#[wasm_bindgen(js_name = Engine)]
pub struct WebEngine {
    model: Arc<Model>,
    bytes: u64,
    /// Taken while [`WebEngine::next`] works; `None` after a failure.
    engine: RefCell<Option<Engine>>,
    control: EngineControl,
    orders: RefCell<Vec<Order>>,
    /// The numbers of the answers, by the engine's.
    answers: RefCell<BTreeMap<AnswerId, u64>>,
    last_id: Cell<u64>,
    source_error: SourceError,
    info: RefCell<Value>,
    /// Whether the device is another one than `info` describes.
    reloaded: Rc<Cell<bool>>,
}

/// What to do between two steps.
enum Order {
    Submit(u64, Box<AnswerJob>),
    Cancel(u64),
}

#[wasm_bindgen(js_class = Engine)]
impl WebEngine {
    /// Opens a model and loads it. `sources` are objects `{name, length, read(start, end) => Promise<Uint8Array>}`;
    /// `options` is JSON, see [`OpenOptions`]. `report` is called with JSON, here and after a lost device: `{progress:
    /// {done, total}}` in bytes of the weights, `{compiling: true}`, `{notice: text}`, and `{devices: {key: text}}`,
    /// the tuning results to be passed in `options` the next time.
    ///
    /// # Errors
    /// JSON `{code, message}`, or the value that a source threw.
    pub async fn open(sources: Vec<JsValue>, options: String, report: Function) -> Result<WebEngine, JsValue> {
        let source_error = SourceError::default();
        let opened = Self::load(sources, &options, report, source_error.clone()).await;
        opened.map_err(|failure| source_error.or(failure))
    }

    async fn load(
        sources: Vec<JsValue>,
        options: &str,
        tell: Function,
        source_error: SourceError,
    ) -> Result<WebEngine, JsError> {
        let at = |moment: Moment| move |error: Error| JsError::new(moment, &error);
        let options = OpenOptions::parse(options).map_err(at(Moment::Open))?;
        let sources = sources.iter().map(|s| source::source(s, &source_error)).collect::<crate::Result<Vec<_>>>();
        let sources = sources.map_err(at(Moment::Open))?;
        let bytes = sources.iter().map(|source| source.len()).sum();
        let model = Arc::new(Model::from_sources(sources).await.map_err(at(Moment::Read))?);
        let cached = options.devices.clone();
        cached.iter().for_each(|devices| gpu::restore_cache(devices.clone()));
        let device = options.gpu().map_err(at(Moment::Open))?;
        let gpu = Gpu::open(&device).await.map_err(at(Moment::Open))?;
        let session = options.session(gpu.caps());
        let reloaded = Rc::new(Cell::new(false));
        let report = report(tell, cached, reloaded.clone());
        let engine = Engine::load(gpu.clone(), model.clone(), EngineOptions { gpu: device, session }, report).await;
        let engine = engine.map_err(|error| {
            gpu.destroy();
            JsError::new(Moment::Open, &error)
        })?;
        reloaded.set(false);
        let info = info::info(&engine, bytes).map_err(at(Moment::Open))?;
        Ok(WebEngine {
            model,
            bytes,
            control: engine.control(),
            engine: RefCell::new(Some(engine)),
            orders: RefCell::default(),
            answers: RefCell::default(),
            last_id: Cell::new(0),
            source_error,
            info: RefCell::new(info),
            reloaded,
        })
    }

    /// The model and the device, as JSON.
    pub fn info(&self) -> String {
        self.info.borrow().to_string()
    }

    /// Queues a request, JSON as of [`GenerateRequest`]; [`WebEngine::next`] answers it under the number returned.
    ///
    /// # Errors
    /// JSON `{code, message}` if the request makes no sense or the template refuses it.
    pub fn submit(&self, request: &str) -> Result<f64, JsValue> {
        let job = GenerateRequest::parse(request).and_then(|request| request.job(&self.model));
        let job = job.map_err(|error| JsError::new(Moment::Submit, &error))?;
        let id = self.last_id.get() + 1;
        self.last_id.set(id);
        self.orders.borrow_mut().push(Order::Submit(id, Box::new(job)));
        Ok(id as f64)
    }

    /// Ends an answer; its last event says so.
    pub fn cancel(&self, id: f64) {
        self.orders.borrow_mut().push(Order::Cancel(id as u64));
    }

    /// The next events of all answers, as a JSON array; `undefined` when all are complete. Call it again until then.
    ///
    /// # Errors
    /// JSON `{code, message}`, or the value that a source threw. All answers have failed then.
    pub async fn next(&self) -> Result<Option<String>, JsValue> {
        let Some(mut engine) = self.engine.take() else {
            return Err(JsError::internal("next() was called while it was waiting, or after a failure").into());
        };
        let mut events = Vec::new();
        loop {
            self.follow_orders(&mut engine, &mut events);
            let stepped = engine.step().await;
            if self.control.is_closed() {
                return Ok(None);
            }
            self.gather(&mut engine, &mut events);
            let more = stepped.map_err(|error| self.source_error.or(self.failure(&error)))?;
            if self.reloaded.take()
                && let Ok(info) = info::info(&engine, self.bytes)
            {
                self.info.replace(info);
            }
            let done = !more && self.orders.borrow().is_empty();
            if done || !events.is_empty() {
                self.engine.replace(Some(engine));
                return Ok((!events.is_empty()).then(|| Value::Array(events).to_string()));
            }
        }
    }

    /// The ids of a text, or of a conversation as the model reads it: JSON as of [`GenerateRequest`].
    ///
    /// # Errors
    /// JSON `{code, message}` if the template refuses it.
    pub fn tokenize(&self, request: &str) -> Result<Vec<u32>, JsValue> {
        let tokens = GenerateRequest::parse(request).and_then(|request| request.tokens(&self.model));
        Ok(tokens.map_err(|error| JsError::new(Moment::Submit, &error))?)
    }

    /// The text of ids, without control tokens.
    ///
    /// # Errors
    /// JSON `{code, message}` if there is no such id.
    pub fn detokenize(&self, ids: Vec<u32>) -> Result<String, JsValue> {
        let size = self.model.tokenizer.vocab_size();
        if let Some(id) = ids.iter().find(|id| **id as usize >= size) {
            let error = Error::Usage(format!("token {id} is not below the vocabulary's size, {size}"));
            return Err(JsError::new(Moment::Submit, &error).into());
        }
        Ok(self.model.tokenizer.decode(&ids))
    }

    /// Destroys the device, which frees its memory. A waiting [`WebEngine::next`] ends with `undefined`.
    pub fn destroy(&self) {
        self.control.close();
        self.engine.take();
        self.orders.take();
        self.answers.borrow_mut().clear();
    }
}

impl WebEngine {
    fn follow_orders(&self, engine: &mut Engine, events: &mut Vec<Value>) {
        let mut answers = self.answers.borrow_mut();
        for order in self.orders.take() {
            match order {
                Order::Submit(id, job) => match submit(engine, *job) {
                    Ok(at) => drop(answers.insert(at, id)),
                    Err(error) => events.push(request::failed(id, &JsError::new(Moment::Submit, &error))),
                },
                Order::Cancel(id) => {
                    if let Some((at, _)) = answers.iter().find(|(_, number)| **number == id) {
                        engine.cancel(*at);
                    }
                }
            }
        }
    }

    fn gather(&self, engine: &mut Engine, events: &mut Vec<Value>) {
        let mut answers = self.answers.borrow_mut();
        while let Some((at, event)) = engine.try_next() {
            let Some(id) = answers.get(&at).copied() else { continue };
            if matches!(event, Ok(AnswerEvent::Finished(_)) | Err(_)) {
                answers.remove(&at);
            }
            events.extend(match event {
                Ok(event) => request::event(id, event),
                Err(error) => Some(request::failed(id, &JsError::new(Moment::Submit, &error))),
            });
        }
    }

    /// The failure of a step: after a lost device, another one than after anything else.
    fn failure(&self, error: &Error) -> JsError {
        JsError::new(if self.control.is_lost() { Moment::Lost } else { Moment::Run }, error)
    }
}

fn submit(engine: &mut Engine, mut job: AnswerJob) -> crate::Result<AnswerId> {
    job.grammar = job.prompt.rules.as_ref().map(|rules| engine.compile(rules)).transpose()?;
    engine.submit(job)
}

/// Tells JavaScript what the engine reports.
fn report(tell: Function, mut cached: Option<BTreeMap<String, String>>, reloaded: Rc<Cell<bool>>) -> Report {
    Box::new(move |status| {
        let what = match status {
            Status::Compiling => {
                reloaded.set(true);
                let devices = gpu::cached_entries();
                if devices != cached {
                    say(&tell, &json!({"devices": devices}));
                    cached = devices;
                }
                json!({"compiling": true})
            }
            Status::Loading(Progress { done, total }) => json!({"progress": {"done": done, "total": total}}),
            Status::Warning(text) => json!({"notice": text}),
        };
        say(&tell, &what);
    })
}

fn say(tell: &Function, what: &Value) {
    let _ = tell.call1(&JsValue::NULL, &what.to_string().into());
}
