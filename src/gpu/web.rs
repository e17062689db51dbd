//! The browser platform: the one adapter that the browser offers, the page's cache and clock, and a device that
//! completes work by itself, if slowly.
//!
//! It works around two gaps. wgpu's browser backend supports neither the feature `subgroups` nor the adapter's vendor,
//! so this module requests the adapter itself, passes it to wgpu, and extends wgpu's request for a device. And Firefox
//! checks for completed work only every 100 ms unless something is submitted, so waiting submits empty command lists.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use futures_channel::oneshot::Receiver;
use js_sys::{Array, Function, Object, Promise, Reflect};
use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use wasm_bindgen_futures::JsFuture;

use super::adapter::Adapter;
use super::{Gpu, Submission};

/// The error if there is no adapter.
pub const NO_ADAPTER: &str = "the browser offers no GPU adapter";

thread_local! {
    /// Cached texts by key; `None` if the page does not keep them.
    static CACHE: RefCell<Option<BTreeMap<String, String>>> = RefCell::default();
}

/// Restores the cache from entries that the page has kept. The page also keeps [`cached_entries`] from then on.
#[cfg(feature = "web")]
pub fn restore_cache(texts: BTreeMap<String, String>) {
    CACHE.with_borrow_mut(|cache| cache.get_or_insert_default().extend(texts));
}

/// The entries for the page to keep.
#[cfg(feature = "web")]
pub fn cached_entries() -> Option<BTreeMap<String, String>> {
    CACHE.with_borrow(Clone::clone)
}

/// Whether data is cached.
pub fn has_cache() -> bool {
    CACHE.with_borrow(Option::is_some)
}

/// The text that was cached under a key.
pub fn load_cached(key: &str) -> Option<String> {
    CACHE.with_borrow(|cache| cache.as_ref()?.get(key).cloned())
}

/// Caches a text under a key.
pub fn store_cached(key: &str, text: &str) {
    CACHE.with_borrow_mut(|cache| cache.as_mut().map(|cache| cache.insert(key.into(), text.into())));
}

/// Runs `job` inline: a page has one thread.
pub fn spawn(job: impl FnOnce()) {
    job();
}

/// How many jobs run at once.
pub fn processors() -> usize {
    1
}

/// None: browsers cache compiled pipelines themselves.
pub fn load_pipeline_cache(_adapter: &Adapter, _device: &wgpu::Device) -> Option<wgpu::PipelineCache> {
    None
}

/// See [`load_pipeline_cache`].
pub fn save_pipeline_cache(_device: &wgpu::Device, _bytes: &[u8]) {}

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
pub async fn adapters(_all: bool) -> Vec<Adapter> {
    request_adapter().await.into_iter().collect()
}

async fn request_adapter() -> Option<Adapter> {
    let gpu = Reflect::get(&get(&js_sys::global(), "navigator"), &"gpu".into()).ok().filter(JsValue::is_object)?;
    let options = Object::new();
    Reflect::set(&options, &"powerPreference".into(), &"high-performance".into()).ok()?;
    let ask: Function = get(&gpu, "requestAdapter").dyn_into().ok()?;
    let asked: Promise = ask.call1(&gpu, &options).ok()?.dyn_into().ok()?;
    let js = JsFuture::from(asked).await.ok().filter(JsValue::is_object)?;

    let handed = js.clone();
    let hand = Closure::<dyn Fn(JsValue) -> Promise>::new(move |_| Promise::resolve(&handed));
    let options = wgpu::RequestAdapterOptions::default();
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::BROWSER_WEBGPU;
    let instance = wgpu::Instance::new(descriptor);
    let request = with_method(&gpu, "requestAdapter", hand.as_ref(), || instance.request_adapter(&options));
    let adapter = request.await.ok()?;

    let info = get(&js, "info");
    let text = |key: &str| get(&info, key).as_string().unwrap_or_default();
    let (vendor, architecture, description) = (text("vendor"), text("architecture"), text("description"));
    let names = [description.clone(), format!("{vendor} {architecture}"), "the browser's GPU".into()];
    let name = names.iter().map(|name| name.trim()).find(|name| !name.is_empty()).unwrap_or_default().to_string();
    let all = format!("{vendor} {architecture} {description}").to_lowercase();
    let fallback = get(&info, "isFallbackAdapter").is_truthy();
    let software = fallback || ["swiftshader", "llvmpipe", "warp", "basic render"].iter().any(|s| all.contains(s));
    let subgroups = has(&js, SUBGROUPS);
    Some(Adapter { adapter, name, software, subgroups, cooperative: 0, memory: None, js })
}

/// Describes an adapter that someone else has requested from the browser, which does not say more of it.
pub fn describe(adapter: wgpu::Adapter) -> Adapter {
    let name = "the browser's GPU".to_string();
    let (software, subgroups, js) = (false, false, JsValue::UNDEFINED);
    Adapter { adapter, name, software, subgroups, cooperative: 0, memory: None, js }
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

/// Calls `then` while `object[method]` is replaced by another function.
fn with_method<T>(object: &JsValue, method: &str, other: &JsValue, then: impl FnOnce() -> T) -> T {
    // An own property shadows the prototype's method, and is removed again before other code can see it.
    let _ = Reflect::set(object, &method.into(), other);
    let result = then();
    let _ = Reflect::delete_property(object.unchecked_ref::<Object>(), &method.into());
    result
}

/// Requests a device, with subgroups if the adapter has them.
pub async fn request_device(
    adapter: &Adapter,
    descriptor: &wgpu::DeviceDescriptor<'_>,
) -> Result<(wgpu::Device, wgpu::Queue), wgpu::RequestDeviceError> {
    let js = adapter.js.clone();
    let Some(original) = get(&js, "requestDevice").dyn_into::<Function>().ok().filter(|_| adapter.subgroups) else {
        return adapter.adapter.request_device(descriptor).await;
    };
    let ask = Closure::<dyn Fn(JsValue) -> JsValue>::new(move |descriptor: JsValue| {
        let features = Array::from(&get(&descriptor, "requiredFeatures"));
        features.push(&SUBGROUPS.into());
        let _ = Reflect::set(&descriptor, &"requiredFeatures".into(), &features);
        original.call1(&js, &descriptor).unwrap_or_else(|error| Promise::reject(&error).into())
    });
    let request = || adapter.adapter.request_device(descriptor);
    with_method(&adapter.js, "requestDevice", ask.as_ref(), request).await
}

/// Milliseconds between two empty submits. Browsers clamp nested timers to 4 or more.
const POLL_INTERVAL: i32 = 2;

/// Submits empty command lists until the callback of a submission has sent its value; `None` if it never will.
pub async fn poll_until<T>(gpu: &Gpu, _: Submission, mut receiver: Receiver<T>) -> Option<T> {
    loop {
        let mut tick = pin!(pause(POLL_INTERVAL));
        let first = poll_fn(|cx| match pin!(&mut receiver).poll(cx) {
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

/// Resolves after this many milliseconds.
pub async fn pause(milliseconds: i32) {
    let promise = Promise::new(&mut |resolve, _| {
        let set: Function = get(&js_sys::global(), "setTimeout").unchecked_into();
        let _ = set.call2(&JsValue::NULL, &resolve, &milliseconds.into());
    });
    let _ = JsFuture::from(promise).await;
}
