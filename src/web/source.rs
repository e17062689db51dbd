//! Byte sources that JavaScript holds: ranges of a URL, a `Blob`, the cache.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use js_sys::{Function, Promise, Reflect, Uint8Array};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

use super::js_error::JsError;
use crate::checkpoint::{ReadFuture, Source};
use crate::{Error, Result};

/// The value that a source threw last, which JavaScript gets back as it is.
#[derive(Clone, Default)]
pub struct SourceError(Rc<RefCell<Option<JsValue>>>);

impl SourceError {
    /// The value that a source threw, or else `failure`.
    pub fn or(&self, failure: JsError) -> JsValue {
        self.0.take().unwrap_or_else(|| failure.into())
    }
}

/// The source behind an object `{name, length, read(start, end) => Promise<Uint8Array>}`.
///
/// # Errors
/// If it is no such object.
pub fn source(object: &JsValue, error: &SourceError) -> Result<Source> {
    let wrong = || Error::Usage("a source must be {name, length, read}".into());
    let field = |key: &str| Reflect::get(object, &key.into()).map_err(|_| wrong());
    let name = field("name")?.as_string().ok_or_else(wrong)?;
    // Larger numbers are not whole ones.
    let len = field("length")?.as_f64().filter(|n| (0.0..9e15).contains(n)).ok_or_else(wrong)? as u64;
    let read: Function = field("read")?.dyn_into().map_err(|_| wrong())?;
    let (object, error, label) = (object.clone(), error.clone(), name.clone());
    let read = move |range: Range<u64>| -> ReadFuture {
        let promise = read.call2(&object, &(range.start as f64).into(), &(range.end as f64).into());
        let (error, label) = (error.clone(), label.clone());
        Box::pin(async move {
            match bytes(promise).await {
                Ok(bytes) => Ok(bytes),
                Err(thrown) => {
                    let why = std::io::Error::other(format!("{thrown:?}"));
                    error.0.replace(Some(thrown));
                    Err(Error::io(format!("cannot read {label}"), why))
                }
            }
        })
    };
    Ok(Source::new(name, len, read))
}

async fn bytes(promise: Result<JsValue, JsValue>) -> Result<Vec<u8>, JsValue> {
    let value = JsFuture::from(Promise::resolve(&promise?)).await?;
    Ok(value.dyn_into::<Uint8Array>()?.to_vec())
}
