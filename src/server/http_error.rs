//! The error of a request: a status, a message with the next step, and its JSON in each dialect.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use firelight::Error;
use serde_json::{Value, json};

/// The error of a request.
#[derive(Clone, Debug)]
pub struct HttpError {
    pub status: StatusCode,
    /// A code for programs, such as `context_length_exceeded`.
    pub code: &'static str,
    pub message: String,
    /// The invalid field of the body.
    pub param: Option<String>,
    /// Seconds after which the client may retry.
    pub retry_after: Option<u32>,
}

/// The API that a client expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    OpenAi,
    Ollama,
    Anthropic,
}

impl Dialect {
    /// The dialect of a path.
    pub fn of(path: &str) -> Self {
        match path {
            p if p.starts_with("/api/") => Dialect::Ollama,
            p if p.starts_with("/v1/messages") => Dialect::Anthropic,
            _ => Dialect::OpenAi,
        }
    }
}

impl HttpError {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        HttpError { status, code, message: message.into(), param: None, retry_after: None }
    }

    /// The request is invalid.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", message)
    }

    /// A field of the request is invalid.
    pub fn field(name: impl Into<String>, what: impl std::fmt::Display) -> Self {
        let name = name.into();
        HttpError { param: Some(name.clone()), ..Self::bad(format!("{name}: {what}")) }
    }

    /// The server failed.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    /// The error as JSON.
    pub fn body(&self, dialect: Dialect) -> Value {
        let (message, code) = (&self.message, self.code);
        match dialect {
            Dialect::OpenAi => {
                let kind = if self.status.is_server_error() { "server_error" } else { "invalid_request_error" };
                json!({ "error": { "message": message, "type": kind, "param": self.param, "code": code } })
            }
            Dialect::Ollama => json!({ "error": message }),
            Dialect::Anthropic => {
                let kind = match self.status.as_u16() {
                    401 => "authentication_error",
                    403 => "permission_error",
                    404 => "not_found_error",
                    413 => "request_too_large",
                    429 => "rate_limit_error",
                    500.. => "api_error",
                    _ => "invalid_request_error",
                };
                json!({ "type": "error", "error": { "type": kind, "message": message } })
            }
        }
    }

    /// The whole response.
    pub fn response(&self, dialect: Dialect) -> Response {
        let mut response = json_response(&self.body(dialect));
        *response.status_mut() = self.status;
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// The error of a request that the library refuses.
impl From<Error> for HttpError {
    fn from(error: Error) -> Self {
        match error {
            Error::ContextFull { .. } => {
                Self::new(StatusCode::BAD_REQUEST, "context_length_exceeded", error.to_string())
            }
            Error::Usage(message) | Error::Text { message, .. } => Self::bad(message),
            other => Self::internal(other.to_string()),
        }
    }
}

/// Carries the error to the outermost layer, which knows the dialect.
impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        response.extensions_mut().insert(self);
        response
    }
}

/// A response of JSON.
pub fn json_response(value: &Value) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
