//! The browser's front end: the engine as a JavaScript class. JSON goes in and out; bytes come from JavaScript.
//!
//! Network, cache and messages are in `assets/js`. JavaScript may call [`WebEngine::submit`] and [`WebEngine::cancel`]
//! while [`WebEngine::next`] waits: they reach the engine through an [`EngineHandle`], and `next` takes its
//! [`EngineLoop`] out of the cell for as long as it works.

mod info;
mod inspect;
mod js_error;
mod request;
mod source;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use js_sys::Function;
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;

use crate::conversation::AnswerEvent;
use crate::engine::{AnswerStream, Engine, EngineHandle, EngineLoop, EngineOptions, Report, Status};
use crate::gpu::{self, Gpu};
use crate::model::load::Progress;
use crate::{Error, Model};
use js_error::{JsError, Moment};
use request::{GenerateRequest, OpenOptions};
use source::SourceError;

/// Calls `report` with the message of a panic: after one, nothing of this module works.
#[wasm_bindgen(js_name = onPanic)]
pub fn on_panic(report: Function) {
    std::panic::set_hook(Box::new(move |info| {
        let _ = report.call1(&JsValue::NULL, &info.to_string().into());
    }));
}

/// A loaded model. See the module.
#[wasm_bindgen(js_name = Engine)]
pub struct WebEngine {
    handle: EngineHandle,
    bytes: u64,
    /// Taken while [`WebEngine::next`] works; `None` after a failure.
    engine_loop: RefCell<Option<EngineLoop>>,
    /// Answers that are not complete, by their numbers.
    answers: RefCell<BTreeMap<u64, AnswerStream>>,
    /// Embeddings that are not complete, by their numbers, which no answer has.
    embeddings: RefCell<BTreeMap<u64, PendingEmbedding>>,
    last_id: Cell<u64>,
    source_error: SourceError,
    info: RefCell<Value>,
    /// Whether the device is another one than `info` describes.
    reloaded: Rc<Cell<bool>>,
}

/// A text that is being embedded. Dropping it cancels it.
struct PendingEmbedding {
    tokens: usize,
    vector: Pin<Box<dyn Future<Output = crate::Result<Vec<f32>>>>>,
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
        let report = report(tell.clone(), cached, reloaded.clone());
        let loading = Engine::load(gpu.clone(), model, EngineOptions { gpu: device, session }, report);
        let engine = reporting_kernels(&gpu, &tell, loading).await.map_err(|error| {
            gpu.destroy();
            JsError::new(Moment::Open, &error)
        })?;
        reloaded.set(false);
        let info = info::info(&engine, bytes).map_err(at(Moment::Open))?;
        let (handle, engine_loop) = engine.into_loop().map_err(at(Moment::Open))?;
        Ok(WebEngine {
            handle,
            bytes,
            engine_loop: RefCell::new(Some(engine_loop)),
            answers: RefCell::default(),
            embeddings: RefCell::default(),
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
    /// JSON `{code, message}` if the request or its schema makes no sense, or the template refuses it.
    pub fn submit(&self, request: &str) -> Result<f64, JsValue> {
        let answer = self.answer(request).map_err(|error| JsError::new(Moment::Submit, &error))?;
        let id = self.new_id();
        self.answers.borrow_mut().insert(id, answer);
        Ok(id as f64)
    }

    /// Queues a text to be embedded, `prompt` or `tokens` of a [`GenerateRequest`]; [`WebEngine::next`] gives its
    /// vector under the number returned.
    ///
    /// # Errors
    /// JSON `{code, message}` if the request makes no sense.
    pub fn embed(&self, request: &str) -> Result<f64, JsValue> {
        let tokens = self.tokenize(request)?;
        let (handle, id) = (self.handle.clone(), self.new_id());
        let pending =
            PendingEmbedding { tokens: tokens.len(), vector: Box::pin(async move { handle.embed(tokens).await }) };
        self.embeddings.borrow_mut().insert(id, pending);
        Ok(id as f64)
    }

    /// Ends an answer, whose last event says so, or an embedding, which has no event then. Returns whether it was an
    /// embedding.
    pub fn cancel(&self, id: f64) -> bool {
        if let Some(answer) = self.answers.borrow().get(&(id as u64)) {
            answer.cancel();
        }
        self.embeddings.borrow_mut().remove(&(id as u64)).is_some()
    }

    /// The next events of all answers and embeddings, as a JSON array; `undefined` when all are complete. Call it again
    /// until then.
    ///
    /// # Errors
    /// JSON `{code, message}`, or the value that a source threw. All answers and embeddings have failed then.
    pub async fn next(&self) -> Result<Option<String>, JsValue> {
        let Some(mut engine_loop) = self.engine_loop.take() else {
            return Err(JsError::internal("next() was called while it was waiting, or after a failure").into());
        };
        loop {
            let turn = engine_loop.turn().await;
            if self.handle.control().is_closed() {
                return Ok(None);
            }
            let events = self.gather();
            turn.map_err(|error| self.source_error.or(self.failure(&error)))?;
            if self.reloaded.take()
                && let Ok(info) = info::info(engine_loop.engine(), self.bytes)
            {
                self.info.replace(info);
            }
            if !events.is_empty() || (self.answers.borrow().is_empty() && self.embeddings.borrow().is_empty()) {
                self.engine_loop.replace(Some(engine_loop));
                return Ok((!events.is_empty()).then(|| Value::Array(events).to_string()));
            }
        }
    }

    /// The ids of a text, or of a conversation as the model reads it: JSON as of [`GenerateRequest`].
    ///
    /// # Errors
    /// JSON `{code, message}` if the template refuses it.
    pub fn tokenize(&self, request: &str) -> Result<Vec<u32>, JsValue> {
        let tokens = GenerateRequest::parse(request).and_then(|request| request.tokens(self.handle.model()));
        Ok(tokens.map_err(|error| JsError::new(Moment::Submit, &error))?)
    }

    /// The text of ids, without control tokens.
    ///
    /// # Errors
    /// JSON `{code, message}` if there is no such id.
    pub fn detokenize(&self, ids: Vec<u32>) -> Result<String, JsValue> {
        let size = self.handle.model().tokenizer.vocab_size();
        if let Some(id) = ids.iter().find(|id| **id as usize >= size) {
            let error = Error::Usage(format!("token {id} is not below the vocabulary's size, {size}"));
            return Err(JsError::new(Moment::Submit, &error).into());
        }
        Ok(self.handle.model().tokenizer.decode(&ids))
    }

    /// Destroys the device, which frees its memory. A waiting [`WebEngine::next`] ends with `undefined`.
    pub fn destroy(&self) {
        self.handle.control().close();
        self.engine_loop.take();
        self.answers.borrow_mut().clear();
        self.embeddings.borrow_mut().clear();
    }
}

impl WebEngine {
    fn new_id(&self) -> u64 {
        self.last_id.set(self.last_id.get() + 1);
        self.last_id.get()
    }

    fn answer(&self, request: &str) -> crate::Result<AnswerStream> {
        let mut job = GenerateRequest::parse(request)?.job(self.handle.model())?;
        job.grammar = job.prompt.rules.as_ref().map(|rules| self.handle.compile(rules)).transpose()?;
        Ok(self.handle.answer(job))
    }

    /// The events that have come, of all answers and embeddings.
    fn gather(&self) -> Vec<Value> {
        let mut events = Vec::new();
        self.answers.borrow_mut().retain(|id, answer| {
            let mut over = false;
            while let Some(event) = answer.try_next() {
                over |= matches!(event, Ok(AnswerEvent::Finished(_)) | Err(_));
                events.extend(match event {
                    Ok(event) => request::event(*id, event),
                    Err(error) => Some(request::failed(*id, &JsError::new(Moment::Submit, &error))),
                });
            }
            !over
        });
        self.embeddings.borrow_mut().retain(|id, pending| {
            let polled = pending.vector.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            let Poll::Ready(vector) = polled else { return true };
            events.push(match vector {
                Ok(vector) => request::embedded(*id, &vector, pending.tokens),
                Err(error) => request::failed(*id, &JsError::new(Moment::Submit, &error)),
            });
            false
        });
        events
    }

    /// The error of a failed step; a lost device has a separate one.
    fn failure(&self, error: &Error) -> JsError {
        JsError::new(if self.handle.control().is_lost() { Moment::Lost } else { Moment::Run }, error)
    }
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

/// Tells JavaScript how many kernels are compiled, whenever that changes while `work` runs.
async fn reporting_kernels<T>(gpu: &Gpu, tell: &Function, work: impl Future<Output = T>) -> T {
    let earlier = gpu.pipelines_compiled();
    let (mut work, mut reported) = (pin!(work), 0);
    poll_fn(|context| {
        let polled = work.as_mut().poll(context);
        let done = gpu.pipelines_compiled() - earlier;
        if done != reported {
            reported = done;
            say(tell, &json!({"kernels": {"done": done, "total": gpu.pipelines_requested() - earlier}}));
        }
        polled
    })
    .await
}

fn say(tell: &Function, what: &Value) {
    let _ = tell.call1(&JsValue::NULL, &what.to_string().into());
}
