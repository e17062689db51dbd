//! Decides which requests are admitted: checks Host and Origin against web pages that access local servers (DNS
//! rebinding), and the API key; answers CORS preflights; limits bodies.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, Limited};
use serde_json::Value;
use subtle::ConstantTimeEq;

use super::Server;
use super::http_error::{Dialect, HttpError};

/// The conditions on which a request is admitted.
#[derive(Clone, Debug, Default)]
pub struct Auth {
    /// The key that every request must carry.
    pub key: Option<String>,
    /// Host names of the server in addition to `localhost` and IP addresses.
    pub hosts: Vec<String>,
    /// Origins whose pages may send requests; `*` for all.
    pub origins: Vec<String>,
}

/// The largest body: a prompt of millions of tokens.
const LARGEST_BODY: usize = 16 << 20;
/// The time limit for a body.
const BODY_TIME: Duration = Duration::from_secs(60);

/// Admits or refuses a request, counts the response, and writes errors in the request's dialect.
pub async fn check(State(server): State<Server>, request: Request, next: Next) -> Response {
    let dialect = Dialect::of(request.uri().path());
    let route = super::route(request.uri().path());
    let origin = request.headers().get(header::ORIGIN).cloned();
    let preflight = request.method() == Method::OPTIONS && origin.is_some();
    let asked = request.headers().clone();
    let mut response = match server.auth.admit(&request, preflight) {
        Err(failure) => failure.into_response(),
        Ok(()) if preflight => {
            Response::builder().status(StatusCode::NO_CONTENT).body(Body::empty()).unwrap_or_default()
        }
        Ok(()) => next.run(request).await,
    };
    if let Some(failure) = response.extensions_mut().remove::<HttpError>() {
        response = failure.response(dialect);
    }
    server.metrics.responded(route, response.status().as_u16());
    if !server.auth.origins.is_empty() {
        response.headers_mut().append(header::VARY, HeaderValue::from_static("Origin"));
    }
    if let Some(origin) = origin.filter(|o| server.auth.origin_is_named(o)) {
        allow(response.headers_mut(), origin);
        if preflight {
            allow_asked(response.headers_mut(), &asked);
        }
    }
    response
}

/// Adds the headers that let a page of `origin` read the response and its headers.
fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
}

/// Seconds for which a browser caches the answer to a preflight.
const PREFLIGHT_SECONDS: &str = "7200";

/// Answers a preflight by allowing the method and the headers that it asks for: client libraries send many, and the
/// request itself shows whether the server has the method.
fn allow_asked(headers: &mut HeaderMap, asked: &HeaderMap) {
    const PRIVATE: HeaderName = HeaderName::from_static("access-control-request-private-network");
    let rows = [
        (header::ACCESS_CONTROL_REQUEST_METHOD, header::ACCESS_CONTROL_ALLOW_METHODS),
        (header::ACCESS_CONTROL_REQUEST_HEADERS, header::ACCESS_CONTROL_ALLOW_HEADERS),
        (PRIVATE, HeaderName::from_static("access-control-allow-private-network")),
    ];
    for (question, answer) in rows {
        for value in asked.get_all(&question) {
            headers.append(&answer, value.clone());
        }
        headers.append(header::VARY, question.into());
    }
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(PREFLIGHT_SECONDS));
}

impl Auth {
    fn admit(&self, request: &Request, preflight: bool) -> Result<(), HttpError> {
        let headers = request.headers();
        let forbidden = |code, message| HttpError::new(StatusCode::FORBIDDEN, code, message);
        let host = headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
        if !self.host_is_ours(host) {
            let message = format!("the host {host:?} is not allowed; start the server with --allow-host to allow it");
            return Err(forbidden("host_not_allowed", message));
        }
        if let Some(origin) = headers.get(header::ORIGIN)
            && !self.origin_is_named(origin)
            && origin.to_str().ok().and_then(|o| o.split_once("://")).is_none_or(|(_, o)| o != host)
        {
            let message =
                format!("the origin {origin:?} is not allowed; start the server with --allow-origin to allow it");
            return Err(forbidden("origin_not_allowed", message));
        }
        // A preflight has no key and requests nothing. Whether the server is up is no secret.
        let open = preflight || request.uri().path() == "/health";
        match &self.key {
            Some(key) if !open && !carries(headers, key) => {
                let message = "the API key is missing or wrong (Authorization: Bearer KEY, or X-API-Key: KEY)";
                Err(HttpError::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message))
            }
            _ => Ok(()),
        }
    }

    /// Whether a Host header names this server. A foreign page can make its own name resolve to this address, but
    /// cannot use the address itself.
    fn host_is_ours(&self, host: &str) -> bool {
        let name = without_port(host).to_ascii_lowercase();
        let address = name.parse::<IpAddr>().is_ok()
            || name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).is_some_and(|n| n.parse::<Ipv6Addr>().is_ok());
        address
            || name == "localhost"
            || name.ends_with(".localhost")
            || self.hosts.iter().any(|h| h.eq_ignore_ascii_case(&name))
    }

    fn origin_is_named(&self, origin: &HeaderValue) -> bool {
        self.origins.iter().any(|named| named == "*" || named.as_bytes() == origin.as_bytes())
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.is_empty() => name,
        _ => host,
    }
}

fn carries(headers: &HeaderMap, key: &str) -> bool {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|v| v.as_bytes().strip_prefix(b"Bearer "));
    let given = bearer.or_else(|| headers.get("x-api-key").map(HeaderValue::as_bytes));
    // In constant time, so that nobody guesses a key byte by byte.
    given.is_some_and(|given| given.ct_eq(key.as_bytes()).into())
}

/// A request's body, unless it is too long or too slow.
pub async fn bytes(request: Request) -> Result<Bytes, HttpError> {
    let body = Limited::new(request.into_body(), LARGEST_BODY).collect();
    match tokio::time::timeout(BODY_TIME, body).await {
        Err(_) => Err(HttpError::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the body did not arrive in time")),
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            let message = format!("the body is larger than {} MiB", LARGEST_BODY >> 20);
            Err(HttpError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message))
        }
        Ok(Err(error)) => Err(HttpError::bad(format!("the body cannot be read: {error}"))),
    }
}

/// A request's body as JSON. A byte order mark, which some editors and shells write first, is skipped.
pub async fn json(request: Request) -> Result<Value, HttpError> {
    if let Some(coding) = request.headers().get(header::CONTENT_ENCODING).filter(|coding| *coding != "identity") {
        let message = format!("the body is encoded as {coding:?}; send it unencoded");
        return Err(HttpError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", message));
    }
    let bytes = bytes(request).await?;
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(HttpError::bad("the body is UTF-16; send JSON as UTF-8"));
    }
    let text = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
    serde_json::from_slice(text).map_err(|e| HttpError::bad(format!("the body is not valid JSON: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_answered() {
        let auth = Auth { hosts: vec!["model.lan".into()], ..Default::default() };
        for good in
            ["localhost", "localhost:11435", "127.0.0.1:1", "[::1]:11435", "192.168.1.9", "a.localhost", "Model.LAN:80"]
        {
            assert!(auth.host_is_ours(good), "{good}");
        }
        for bad in [
            "",
            "evil.example",
            "evil.example:11435",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            ":1",
            "[evil]",
        ] {
            assert!(!auth.host_is_ours(bad), "{bad}");
        }
    }

    #[test]
    fn keys_are_compared_whole() {
        let mut headers = HeaderMap::new();
        assert!(!carries(&headers, "secret"));
        headers.insert("x-api-key", HeaderValue::from_static("secret"));
        assert!(carries(&headers, "secret") && !carries(&headers, "secre") && !carries(&headers, "Secret"));
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer wrong"));
        assert!(!carries(&headers, "secret"));
    }
}
