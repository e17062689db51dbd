//! Errors as JavaScript gets them: a code for programs, a message for people. What to do next, code by code, is in
//! `assets/js/errors.js`.

use serde::Serialize;
use wasm_bindgen::JsValue;

use crate::Error;

/// An error for JavaScript.
#[derive(Clone, Debug, Serialize)]
pub struct JsError {
    code: &'static str,
    message: String,
}

/// The operation that failed; the meaning of some errors depends on it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Settings, device, buffers.
    Open,
    /// The model's header, tokenizer and template.
    Read,
    /// A request.
    Submit,
    /// A step.
    Run,
    /// A device was lost and not replaced.
    Lost,
}

impl JsError {
    /// An error that came at this moment.
    pub fn new(moment: Moment, error: &Error) -> Self {
        let code = match (error, moment) {
            (_, Moment::Lost) | (Error::Gpu(_), Moment::Run) => "device-lost",
            (Error::Memory(_), _) => "out-of-memory",
            (Error::ContextFull { .. }, _) => "context-full",
            (Error::DoesNotFit { .. }, _) => "does-not-fit",
            (Error::Gpu(_), _) => "no-adapter",
            (Error::Format { .. } | Error::Unsupported(_), _) | (_, Moment::Read) => "bad-file",
            (Error::Usage(_) | Error::Text { .. }, _) => "bad-argument",
            _ => "internal",
        };
        JsError { code, message: error.to_string().replace("--", "") }
    }

    /// A bug in Firelight.
    pub fn internal(message: &str) -> Self {
        JsError { code: "internal", message: message.into() }
    }
}

impl From<JsError> for JsValue {
    fn from(failure: JsError) -> JsValue {
        serde_json::to_string(&failure).unwrap_or_default().into()
    }
}
