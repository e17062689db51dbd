//! A tab: the engine in a worker that runs the same program, conversations in the browser's storage, files that the
//! user opens.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use js_sys::{Object, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{DedicatedWorkerGlobalScope, ErrorEvent, MessageEvent, Worker, WorkerOptions, WorkerType};

use super::{Chosen, Combine, Link, is_model};
use crate::chat::attach::{AttachedFile, LARGEST};
use crate::chat::engine;
use crate::chat::protocol::{Command, EngineEvent, Place};
use crate::chat::tools::{ToolCommand, ToolEvent};
use crate::checkpoint::{ReadFuture, Source};
use crate::send::BoxFn;
use crate::{Error, Result};

/// The page's canvas, and the worker's script in the page's folder.
const CANVAS: &str = "firelight";
const WORKER: &str = "./chat-worker.js";

/// Events come in bursts; this is the minimum interval at which they wake the window.
const WAKE: Duration = Duration::from_millis(33);

thread_local! {
    /// Files that the user opened, by name: in the page, and in the worker that received them.
    static FILES: RefCell<HashMap<String, web_sys::File>> = RefCell::default();
}

/// The program in a tab: the window in a page, the engine in a worker.
pub fn start() {
    match web_sys::window() {
        Some(window) => page(&window),
        None => worker(),
    }
}

fn page(window: &web_sys::Window) {
    let canvas = window.document().and_then(|d| d.get_element_by_id(CANVAS));
    let Some(canvas) = canvas.and_then(|c| c.dyn_into::<web_sys::HtmlCanvasElement>().ok()) else {
        return report("the page has no canvas of the id firelight");
    };
    spawn_local(async move {
        let create = |cc: &eframe::CreationContext<'_>| -> std::result::Result<Box<dyn eframe::App>, _> {
            Ok(Box::new(crate::chat::App::for_window(cc, Storage::open(), None)))
        };
        let runner = eframe::WebRunner::new();
        let options = eframe::WebOptions { dithering: false, ..Default::default() };
        match runner.start(canvas, options, Box::new(create)).await {
            // The runner must live as long as the page.
            Ok(()) => std::mem::forget(runner),
            Err(error) => report(&format!("the window cannot be drawn: {}", text_of(&error))),
        }
    });
}

/// Reports an error to the page's script, which shows it in place of the window.
fn report(why: &str) {
    if let Some(window) = web_sys::window()
        && let Ok(show) = Reflect::get(&window, &"firelightFailed".into())
        && let Ok(show) = show.dyn_into::<js_sys::Function>()
    {
        let _ = show.call1(&JsValue::NULL, &why.into());
    }
}

fn text_of(value: &JsValue) -> String {
    let message = Reflect::get(value, &"message".into()).ok().and_then(|m| m.as_string());
    message.or_else(|| value.as_string()).unwrap_or_else(|| format!("{value:?}"))
}

/// The engine's side: commands come as JSON text, files as `{name, file}`; events go as JSON text.
fn worker() {
    let scope: DedicatedWorkerGlobalScope = js_sys::global().unchecked_into();
    let (sender, receiver) = futures_channel::mpsc::unbounded::<Command>();
    let hear = Closure::<dyn FnMut(MessageEvent)>::new(move |message: MessageEvent| {
        let data = message.data();
        if let Some(command) = data.as_string().and_then(|text| serde_json::from_str(&text).ok()) {
            let _ = sender.unbounded_send(command);
        } else if let Some(file) = field(&data, "file").and_then(|f| f.dyn_into::<web_sys::File>().ok())
            && let Some(name) = field(&data, "name").and_then(|n| n.as_string())
        {
            FILES.with_borrow_mut(|files| files.insert(name, file));
        }
    });
    scope.set_onmessage(Some(hear.as_ref().unchecked_ref()));
    hear.forget();
    let emit: BoxFn<EngineEvent, ()> = Box::new(move |event: EngineEvent| {
        if let Ok(text) = serde_json::to_string(&event) {
            let _ = scope.post_message(&text.into());
        }
    });
    spawn_local(engine::run(receiver, Arc::new(emit)));
}

fn field(data: &JsValue, name: &str) -> Option<JsValue> {
    data.is_object().then(|| Reflect::get(data, &name.into()).ok()).flatten()
}

/// Starts an engine in a worker.
pub fn start_engine(ctx: &egui::Context) -> Link {
    let (sender, events) = mpsc::channel();
    let options = WorkerOptions::new();
    options.set_type(WorkerType::Module);
    let worker = match Worker::new_with_options(WORKER, &options) {
        Ok(worker) => worker,
        Err(error) => {
            let _ = sender.send(EngineEvent::Lost(format!("The engine cannot be started: {}", text_of(&error))));
            return Link::new(|_| {}, events);
        }
    };
    let (tell, wake) = (sender.clone(), ctx.clone());
    let hear = Closure::<dyn FnMut(MessageEvent)>::new(move |message: MessageEvent| {
        if let Some(event) = message.data().as_string().and_then(|text| serde_json::from_str(&text).ok()) {
            let _ = tell.send(event);
            wake.request_repaint_after(WAKE);
        }
    });
    let wake = ctx.clone();
    let fail = Closure::<dyn FnMut(ErrorEvent)>::new(move |error: ErrorEvent| {
        let _ = sender.send(EngineEvent::Crashed(error.message()));
        wake.request_repaint();
    });
    worker.set_onmessage(Some(hear.as_ref().unchecked_ref()));
    worker.set_onerror(Some(fail.as_ref().unchecked_ref()));
    let engine = Engine { worker, _hear: hear, _fail: fail };
    Link::new(move |command| engine.send(&command), events)
}

/// Whether this platform can start programs: a page cannot.
pub const TOOLS: bool = false;

/// A thread that does not exist in a page, where no server can be switched on.
pub fn start_tools(_ctx: &egui::Context) -> Link<ToolCommand, ToolEvent> {
    Link::new(|_| {}, mpsc::channel().1)
}

/// A worker and its listeners. Dropping it ends the worker.
struct Engine {
    worker: Worker,
    _hear: Closure<dyn FnMut(MessageEvent)>,
    _fail: Closure<dyn FnMut(ErrorEvent)>,
}

impl Engine {
    fn send(&self, command: &Command) {
        if let Command::Load(Place::File(name), _) | Command::Inspect(Place::File(name)) = command
            && let Some(file) = FILES.with_borrow(|files| files.get(name).cloned())
        {
            let message = Object::new();
            let _ = Reflect::set(&message, &"name".into(), &name.as_str().into());
            let _ = Reflect::set(&message, &"file".into(), &file);
            let _ = self.worker.post_message(&message);
        }
        if let Ok(text) = serde_json::to_string(command) {
            let _ = self.worker.post_message(&text.into());
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.worker.set_onmessage(None);
        self.worker.set_onerror(None);
        self.worker.terminate();
    }
}

/// The bytes of a model.
///
/// # Errors
/// If it cannot be read.
pub async fn sources(place: &Place) -> Result<Vec<Source>> {
    match place {
        Place::BuiltIn => Ok(vec![crate::demo::source()]),
        Place::File(name) => {
            let file = FILES.with_borrow(|files| files.get(name).cloned());
            let file = file.ok_or_else(|| {
                Error::Usage(format!("{name} must be opened again: a page may not keep the files of its user"))
            })?;
            Ok(vec![of_file(name, file)])
        }
    }
}

/// A file that is read by ranges and never whole in memory.
fn of_file(name: &str, file: web_sys::File) -> Source {
    let (len, label) = (file.size() as u64, name.to_string());
    Source::new(name, len, move |range| -> ReadFuture {
        let piece = file.slice_with_f64_and_f64(range.start as f64, range.end as f64);
        let failed = |e: JsValue, label: &str| Error::format(format_args!("cannot read {label}: {}", text_of(&e)));
        let label = label.clone();
        Box::pin(async move {
            let buffer = JsFuture::from(piece.map_err(|e| failed(e, &label))?.array_buffer()).await;
            Ok(Uint8Array::new(&buffer.map_err(|e| failed(e, &label))?).to_vec())
        })
    })
}

/// Whether this platform can download models: a page only opens files.
pub const FETCHES: bool = false;

/// A download in progress.
pub struct FetchHandle;

/// Does nothing: a page does not download models.
pub fn fetch(_ctx: &egui::Context, _name: &str, _device: Option<&str>, _tell: mpsc::Sender<Chosen>) -> FetchHandle {
    FetchHandle
}

/// Does nothing, as [`fetch`].
pub fn search(_ctx: &egui::Context, _text: &str, _tell: mpsc::Sender<Chosen>) {}

/// Does nothing, as [`fetch`].
pub fn ask_fit(_ctx: &egui::Context, _name: &str, _device: Option<&str>, _tell: mpsc::Sender<Chosen>) {}

/// No model is a download.
pub fn is_download(_place: &Place) -> bool {
    false
}

/// Deletes nothing: a page has no downloads.
///
/// # Errors
/// Never.
pub fn delete(_place: &Place) -> Result<u64> {
    Ok(0)
}

/// Refuses: a page has no paths.
///
/// # Errors
/// Always.
pub fn typed(path: &str) -> Result<Place> {
    Err(Error::Usage(format!("{path}: a page cannot open paths")))
}

/// Refuses, as [`typed`].
///
/// # Errors
/// Always.
pub fn save_at(path: &str, _text: &str) -> Result<String> {
    Err(Error::Usage(format!("{path}: a page cannot write paths")))
}

/// None: a page can access only files that the user opens.
pub fn find_models() -> Vec<(Place, u64)> {
    Vec::new()
}

/// Whether a recent model may still exist: a page loses access to files when it is left.
pub fn remains(place: &Place) -> bool {
    match place {
        Place::BuiltIn => true,
        Place::File(name) => FILES.with_borrow(|files| files.contains_key(name)),
    }
}

/// Milliseconds since 1970.
pub fn now() -> u64 {
    js_sys::Date::now() as u64
}

/// A unique number for each call, short enough to type.
pub fn any_seed() -> u64 {
    (js_sys::Math::random() * 1e9) as u64
}

/// Texts in the browser's local storage, which writes atomically.
pub struct Storage {
    storage: Option<web_sys::Storage>,
    failure: Cell<Option<String>>,
}

/// The prefix of keys, which other pages of the same origin do not use.
const KEY: &str = "firelight/";

impl Storage {
    /// The storage of the page's origin.
    pub fn open() -> Self {
        let storage = web_sys::window().and_then(|w| w.local_storage().ok().flatten());
        let failure = storage.is_none().then(|| "This browser keeps nothing: conversations end with the page.".into());
        Storage { storage, failure: Cell::new(failure) }
    }

    /// The names of all texts.
    pub fn names(&self) -> Vec<String> {
        let Some(storage) = &self.storage else { return Vec::new() };
        let keys = (0..storage.length().unwrap_or(0)).filter_map(|i| storage.key(i).ok().flatten());
        keys.filter_map(|key| key.strip_prefix(KEY).map(str::to_string)).collect()
    }

    /// A text, if it exists.
    pub fn read(&self, name: &str) -> Option<String> {
        self.storage.as_ref()?.get_item(&format!("{KEY}{name}")).ok().flatten()
    }

    /// A number that changes with a text; `None` if there is no such text.
    pub fn stamp(&self, name: &str) -> Option<u64> {
        let mut hasher = DefaultHasher::new();
        self.read(name)?.hash(&mut hasher);
        Some(hasher.finish())
    }

    /// Saves a text. `combine` joins it with the saved one, which another tab may have written.
    pub fn write(&self, name: &str, text: String, combine: Combine) {
        let Some(storage) = &self.storage else { return };
        let text = match self.read(name) {
            Some(kept) => combine(&kept, text),
            None => text,
        };
        if storage.set_item(&format!("{KEY}{name}"), &text).is_err() {
            let why = "The browser's storage is full: delete conversations to keep new ones.";
            self.failure.set(Some(why.into()));
        }
    }

    /// Removes a text.
    pub fn remove(&self, name: &str) {
        if let Some(storage) = &self.storage {
            let _ = storage.remove_item(&format!("{KEY}{name}"));
        }
    }

    /// Returns at once: the browser writes synchronously.
    pub fn flush(&self) {}

    /// Takes the error of the last failed operation.
    pub fn failure(&self) -> Option<String> {
        self.failure.take()
    }
}

/// Shows a file dialog for a model; `tell` receives the result.
pub fn choose_model(ctx: &egui::Context, tell: mpsc::Sender<Chosen>) {
    let ctx = ctx.clone();
    spawn_local(async move {
        let dialog = rfd::AsyncFileDialog::new().add_filter("GGUF models", &["gguf"]);
        if let Some(file) = dialog.pick_file().await {
            let _ = tell.send(Chosen::Model(remember(file.inner().clone())));
            ctx.request_repaint();
        }
    });
}

fn remember(file: web_sys::File) -> Place {
    let name = file.name();
    FILES.with_borrow_mut(|files| files.insert(name.clone(), file));
    Place::File(name)
}

/// Offers a text as a download of the browser.
pub fn save_text(_ctx: &egui::Context, name: &str, text: String, tell: mpsc::Sender<Chosen>) {
    let done = download(name, &text).map(|()| name.to_string()).map_err(|e| text_of(&e));
    let _ = tell.send(Chosen::Saved(done));
}

fn download(name: &str, text: &str) -> std::result::Result<(), JsValue> {
    let parts = js_sys::Array::of1(&text.into());
    let blob = web_sys::Blob::new_with_str_sequence(&parts)?;
    let url = web_sys::Url::create_object_url_with_blob(&blob)?;
    let document = web_sys::window().and_then(|w| w.document()).ok_or("there is no page")?;
    let link: web_sys::HtmlAnchorElement = document.create_element("a")?.unchecked_into();
    link.set_href(&url);
    link.set_download(name);
    link.click();
    web_sys::Url::revoke_object_url(&url)
}

/// The location of a dropped file, if its name is that of a model.
pub fn dropped(file: &egui::DroppedFileHandle) -> Option<Place> {
    is_model(file.path()).then(|| file.web_file().cloned().map(remember)).flatten()
}

/// Reads a dropped file.
pub fn read_dropped(ctx: &egui::Context, file: &egui::DroppedFileHandle, tell: mpsc::Sender<Chosen>) {
    if let Some(file) = file.web_file().cloned() {
        let ctx = ctx.clone();
        spawn_local(async move { attach(&ctx, file, &tell).await });
    }
}

/// Shows a file dialog for files to attach.
pub fn choose_files(ctx: &egui::Context, tell: mpsc::Sender<Chosen>) {
    let ctx = ctx.clone();
    spawn_local(async move {
        for file in rfd::AsyncFileDialog::new().pick_files().await.unwrap_or_default() {
            attach(&ctx, file.inner().clone(), &tell).await;
        }
    });
}

async fn attach(ctx: &egui::Context, file: web_sys::File, tell: &mpsc::Sender<Chosen>) {
    let (name, size) = (file.name(), file.size() as u64);
    let bytes = match size > LARGEST {
        true => Err(AttachedFile::too_large(&name, size)),
        false => {
            let buffer = JsFuture::from(file.array_buffer()).await;
            let failed = |e: JsValue| format!("{name} cannot be read: {}.", text_of(&e));
            buffer.map(|buffer| Uint8Array::new(&buffer).to_vec()).map_err(failed)
        }
    };
    let _ = tell.send(Chosen::Attached(bytes.map(|bytes| (name, bytes))));
    ctx.request_repaint();
}
