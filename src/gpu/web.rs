//! What a GPU is in a browser: the one adapter that the browser gives, the page's clock, and a device that completes by
//! itself, if slowly.
//!
//! Two things are done here that wgpu leaves out. Its browser backend knows neither the feature `subgroups` nor who made
//! the adapter, so wgpu is handed an adapter that was looked at before, and its request for a device is added to. And
//! Firefox looks for completed work only every 100 ms unless something is submitted, so who waits submits nothing.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use futures_channel::oneshot::Receiver;
use js_sys::{Array, Function, Object, Promise, Reflect};
use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use wasm_bindgen_futures::JsFuture;

use super::{Found, Gpu, Submission, instance};

/// What to say where there is nothing.
pub const NO_ADAPTER: &str = "the browser has no GPU adapter to give";

thread_local! {
    /// What is kept, by key; nothing while nobody keeps it.
    static KEPT: RefCell<Option<BTreeMap<String, String>>> = RefCell::default();
}

/// Takes what the page has kept, and will go on to keep if it is told [`kept`].
#[cfg(feature = "web")]
pub fn remember(texts: BTreeMap<String, String>) {
    KEPT.with_borrow_mut(|kept| kept.get_or_insert_default().extend(texts));
}

/// What the page is to keep.
#[cfg(feature = "web")]
pub fn kept() -> Option<BTreeMap<String, String>> {
    KEPT.with_borrow(Clone::clone)
}

/// Whether anything is kept.
pub fn keeps() -> bool {
    KEPT.with_borrow(Option::is_some)
}

/// The text that was kept under a key.
pub fn recall(key: &str) -> Option<String> {
    KEPT.with_borrow(|kept| kept.as_ref()?.get(key).cloned())
}

/// Keeps a text under a key.
pub fn keep(key: &str, text: &str) {
    KEPT.with_borrow_mut(|kept| kept.as_mut().map(|kept| kept.insert(key.into(), text.into())));
}

/// Does a job here and now: a page has one thread.
pub fn spawn(job: impl FnOnce()) {
    job();
}

/// Jobs that run at once.
pub fn processors() -> usize {
    1
}

/// Browsers keep what they compile themselves.
pub fn compiled(_found: &Found, _device: &wgpu::Device) -> Option<wgpu::PipelineCache> {
    None
}

/// See [`compiled`].
pub fn keep_compiled(_device: &wgpu::Device, _bytes: &[u8]) {}

/// A point in time, by the page's clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock(f64);

impl Clock {
    /// Now.
    pub fn now() -> Self {
        Clock(milliseconds())
    }

    /// Seconds since then.
    pub fn seconds(&self) -> f64 {
        (milliseconds() - self.0) / 1000.0
    }
}

fn milliseconds() -> f64 {
    let clock = get(&js_sys::global(), "performance");
    let now = get(&clock, "now").dyn_into::<Function>().and_then(|now| now.call0(&clock));
    now.ok().and_then(|now| now.as_f64()).unwrap_or_else(js_sys::Date::now)
}

/// The browser's adapter, if it has one.
pub async fn adapters(_all: bool) -> Vec<Found> {
    find().await.into_iter().collect()
}

async fn find() -> Option<Found> {
    let gpu = Reflect::get(&get(&js_sys::global(), "navigator"), &"gpu".into()).ok().filter(JsValue::is_object)?;
    let options = Object::new();
    Reflect::set(&options, &"powerPreference".into(), &"high-performance".into()).ok()?;
    let ask: Function = get(&gpu, "requestAdapter").dyn_into().ok()?;
    let asked: Promise = ask.call1(&gpu, &options).ok()?.dyn_into().ok()?;
    let theirs = JsFuture::from(asked).await.ok().filter(JsValue::is_object)?;

    let handed = theirs.clone();
    let hand = Closure::<dyn Fn(JsValue) -> Promise>::new(move |_| Promise::resolve(&handed));
    let wish = wgpu::RequestAdapterOptions::default();
    let instance = instance(wgpu::Backends::BROWSER_WEBGPU);
    let request = instead_of(&gpu, "requestAdapter", hand.as_ref(), || instance.request_adapter(&wish));
    let adapter = request.await.ok()?;

    let info = get(&theirs, "info");
    let text = |key: &str| get(&info, key).as_string().unwrap_or_default();
    let (vendor, architecture, description) = (text("vendor"), text("architecture"), text("description"));
    let names = [description.clone(), format!("{vendor} {architecture}"), "the browser's GPU".into()];
    let name = names.iter().map(|name| name.trim()).find(|name| !name.is_empty()).unwrap_or_default().to_string();
    let all = format!("{vendor} {architecture} {description}").to_lowercase();
    let fallback = get(&info, "isFallbackAdapter").is_truthy();
    let software = fallback || ["swiftshader", "llvmpipe", "warp", "basic render"].iter().any(|s| all.contains(s));
    let subgroups = has(&theirs, SUBGROUPS);
    Some(Found { adapter, name, software, subgroups, cooperative: 0, memory: None, theirs })
}

const SUBGROUPS: &str = "subgroups";

/// Whether the browser's adapter has a feature.
fn has(adapter: &JsValue, feature: &str) -> bool {
    let features = get(adapter, "features");
    let has = get(&features, "has").dyn_into::<Function>();
    has.and_then(|has| has.call1(&features, &feature.into())).is_ok_and(|yes| yes.is_truthy())
}

fn get(object: &JsValue, key: &str) -> JsValue {
    Reflect::get(object, &key.into()).unwrap_or_default()
}

/// Calls `then` while `object[method]` is another function.
fn instead_of<T>(object: &JsValue, method: &str, other: &JsValue, then: impl FnOnce() -> T) -> T {
    // An own property hides the prototype's method, and is taken away again before anyone else can see it.
    let _ = Reflect::set(object, &method.into(), other);
    let result = then();
    let _ = Reflect::delete_property(object.unchecked_ref::<Object>(), &method.into());
    result
}

/// Opens the device, with subgroups if the adapter has them.
pub async fn request_device(
    found: &Found,
    descriptor: &wgpu::DeviceDescriptor<'_>,
) -> Result<(wgpu::Device, wgpu::Queue), wgpu::RequestDeviceError> {
    let theirs = found.theirs.clone();
    let Some(original) = get(&theirs, "requestDevice").dyn_into::<Function>().ok().filter(|_| found.subgroups) else {
        return found.adapter.request_device(descriptor).await;
    };
    let ask = Closure::<dyn Fn(JsValue) -> JsValue>::new(move |descriptor: JsValue| {
        let features = Array::from(&get(&descriptor, "requiredFeatures"));
        features.push(&SUBGROUPS.into());
        let _ = Reflect::set(&descriptor, &"requiredFeatures".into(), &features);
        original.call1(&theirs, &descriptor).unwrap_or_else(|error| Promise::reject(&error).into())
    });
    let request = || found.adapter.request_device(descriptor);
    instead_of(&found.theirs, "requestDevice", ask.as_ref(), request).await
}

/// Between two empty submits, in milliseconds. Browsers make it 4 or more for timers set by timers.
const PUMP: i32 = 2;

/// Waits for what a submission's completion tells, pumping; `None` if nothing will be told any more.
pub async fn told<T>(gpu: &Gpu, _: Submission, mut told: Receiver<T>) -> Option<T> {
    loop {
        let mut tick = pin!(pause(PUMP));
        let first = poll_fn(|cx| match pin!(&mut told).poll(cx) {
            Poll::Ready(result) => Poll::Ready(Some(result.ok())),
            Poll::Pending => tick.as_mut().poll(cx).map(|()| None),
        });
        match first.await {
            Some(result) => return result,
            None if gpu.check().is_err() => return None,
            None => gpu.queue.submit([]),
        };
    }
}

/// So many milliseconds later.
pub async fn pause(milliseconds: i32) {
    let promise = Promise::new(&mut |resolve, _| {
        let set: Function = get(&js_sys::global(), "setTimeout").unchecked_into();
        let _ = set.call2(&JsValue::NULL, &resolve, &milliseconds.into());
    });
    let _ = JsFuture::from(promise).await;
}
