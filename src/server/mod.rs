//! `serve`: models behind the HTTP APIs that existing clients use.
//!
//! A request of any dialect (`openai`, `responses`, `ollama`, `anthropic`) becomes a [`request::AnswerRequest`]. It
//! waits for its model (`residency`), is prepared on a thread for that (`prepare`), and is sent to the library's
//! engine, which runs on another (`engine`). The dialect writes its events (`protocol`) as JSON, whole or as a stream
//! (`answers`). The rest of the server runs on one thread. `auth` decides which requests are admitted; `metrics`
//! counts. Prompts and answers are never logged, and no name in a request becomes a path.

mod answers;
mod anthropic;
mod auth;
#[cfg(test)]
mod conversations;

mod embeddings;
mod engine;
mod fields;
mod http_error;
#[cfg(test)]
mod lost_device;
mod metrics;
mod ollama;
mod openai;
mod prepare;
mod protocol;
mod registry;
mod request;
mod residency;
mod response_format;
mod responses;
mod unsupported;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use axum::routing::{get, post};
use firelight::text::date_time;
use firelight::{Error, Result};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutWriter;

pub use auth::Auth;
use http_error::{HttpError, json_response};
pub use registry::Registry;
pub use residency::Setup;

/// The most connections at once; others wait to be accepted.
const CONNECTIONS: usize = 512;
/// The time limit for a request's headers, and for the next request on an idle connection.
const HEADER_TIME: Duration = Duration::from_secs(30);
/// A connection is closed if its client reads nothing for this long.
const WRITE_TIME: Duration = Duration::from_secs(60);
/// The most bytes of headers.
const HEADER_BYTES: usize = 64 << 10;

/// The threads that prepare requests and load models.
const PREPARING: usize = 4;
/// Their stacks: the templates and schemas of requests may be deep.
const STACK: usize = 16 << 20;

/// The state of every handler.
#[derive(Clone)]
struct Server(Arc<Parts>);

struct Parts {
    registry: Registry,
    engine: engine::ServerEngine,
    metrics: Arc<metrics::Metrics>,
    auth: Auth,
}

impl Server {
    /// Must be called in a runtime.
    fn new(auth: Auth, registry: Registry, setup: Setup) -> Self {
        let metrics = Arc::new(metrics::Metrics::default());
        let engine = engine::ServerEngine::new(registry.clone(), setup, metrics.clone());
        Server(Arc::new(Parts { registry, engine, metrics, auth }))
    }
}

impl std::ops::Deref for Server {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// Serves until the process ends. Calls `listening` with the address once the first model is loaded.
///
/// # Errors
/// If the address cannot be bound, or the first model cannot be loaded.
pub fn serve(
    address: SocketAddr,
    auth: Auth,
    registry: Registry,
    setup: Setup,
    listening: impl FnOnce(SocketAddr),
) -> Result<()> {
    let failed = |e| Error::io(format!("cannot serve at {address}"), e);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(PREPARING)
        .thread_stack_size(STACK)
        .build()
        .map_err(failed)?;
    runtime.block_on(async {
        // Bind before loading the model, which may take long.
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let server = Server::new(auth, registry, setup);
        server.engine.keep("", None).await.map_err(|failure| Error::Usage(failure.message))?;
        listening(bound);
        accept(listener, forgiving(router(server))).await;
        Ok(())
    })
}

/// Now, for chat templates: `2025-01-31T12:34:56`, UTC.
fn today() -> String {
    date_time(now())
}

/// Seconds since 1970.
fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

async fn accept(listener: TcpListener, router: Router) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // Out of file descriptors, or the client has disconnected: wait for other connections to end.
            Err(error) => {
                tracing::warn!("a connection could not be accepted: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // Tokens are small and should not wait for each other.
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIME)
                .max_buf_size(HEADER_BYTES)
                .serve_connection(TokioIo::new(limited(stream, WRITE_TIME)), service);
            // A client may break its connection in any way.
            let _ = connection.await;
            drop(place);
        });
    }
}

/// A connection that fails when its client does not read for so long: a few such clients would occupy all connections.
fn limited(stream: TcpStream, time: Duration) -> Pin<Box<TimeoutWriter<TcpStream>>> {
    let mut limited = TimeoutWriter::new(stream);
    limited.set_timeout(Some(time));
    Box::pin(limited)
}

/// Every path and its handler.
fn router(server: Server) -> Router {
    Router::new()
        .route("/", get(|| async { "Firelight is running" }))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route("/v1/models", get(openai::models))
        .route("/v1/models/{*name}", get(openai::model))
        .route("/v1/chat/completions", post(openai::chat))
        .route("/v1/completions", post(openai::completions))
        .route("/v1/embeddings", post(embeddings::openai))
        .route("/v1/responses", post(responses::create))
        .route("/v1/messages", post(anthropic::messages))
        .route("/v1/messages/count_tokens", post(anthropic::count_tokens))
        .route("/api/version", get(ollama::version))
        .route("/api/tags", get(ollama::tags))
        .route("/api/ps", get(ollama::ps))
        .route("/api/show", post(ollama::show))
        .route("/api/chat", post(ollama::chat))
        .route("/api/generate", post(ollama::generate))
        .route("/api/embed", post(embeddings::ollama_embed))
        .route("/api/embeddings", post(embeddings::ollama_embeddings))
        .fallback(nothing)
        .method_not_allowed_fallback(wrong_method)
        .layer(axum::middleware::from_fn_with_state(server.clone(), auth::check))
        .with_state(server)
}

/// The same for paths with double or trailing slashes, which clients build from a base address and a path.
fn forgiving(router: Router) -> Router {
    Router::new().fallback_service(router).layer(axum::middleware::map_request(plain_path))
}

async fn plain_path(mut request: Request) -> Request {
    let path: String = request.uri().path().split('/').filter(|part| !part.is_empty()).flat_map(|p| ["/", p]).collect();
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let plain = if path.is_empty() { format!("/{query}") } else { path + &query };
    if let Ok(uri) = plain.parse() {
        *request.uri_mut() = uri;
    }
    request
}

/// The paths that have counters.
const ROUTES: [&str; 18] = [
    "/health",
    "/metrics",
    "/v1/models",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/messages/count_tokens",
    "/v1/messages",
    "/api/version",
    "/api/tags",
    "/api/ps",
    "/api/show",
    "/api/chat",
    "/api/generate",
    "/api/embeddings",
    "/api/embed",
    "/",
];

/// The counter of a path; paths that clients invent share one.
fn route(path: &str) -> &'static str {
    ROUTES.iter().find(|route| **route == path).copied().unwrap_or("other")
}

async fn health(State(server): State<Server>) -> Response {
    let loaded = server.engine.resident().map(|r| server.registry.entries()[r.index].name.clone());
    json_response(&json!({ "status": "ok", "loaded": loaded }))
}

async fn metrics(State(server): State<Server>) -> String {
    server.metrics.text()
}

async fn nothing(uri: Uri) -> HttpError {
    HttpError::new(StatusCode::NOT_FOUND, "not_found", format!("no such endpoint: {}", uri.path()))
}

async fn wrong_method(uri: Uri) -> HttpError {
    let message = format!("method not allowed for {}", uri.path());
    HttpError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use tokio::io::AsyncWrite;

    use super::*;

    #[test]
    fn a_client_that_does_not_read_is_disconnected() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let error = runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let mut stream = limited(listener.accept().await.unwrap().0, Duration::from_millis(20));
            let bytes = vec![0; 1 << 20];
            loop {
                // The system's buffers take a few of them.
                if let Err(error) = std::future::poll_fn(|cx| stream.as_mut().poll_write(cx, &bytes)).await {
                    break error;
                }
            }
        });
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
}
