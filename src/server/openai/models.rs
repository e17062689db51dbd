//! `GET /v1/models`

use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Value, json};

use crate::server::Server;
use crate::server::http_error::{HttpError, json_response};
use crate::server::ollama::seconds_rfc3339;
use crate::server::registry::Entry;

/// `GET /v1/models`
pub async fn models(State(server): State<Server>) -> Response {
    let list: Vec<Value> = server.registry.entries().iter().map(describe).collect();
    json_response(&json!({ "object": "list", "data": list, "has_more": false }))
}

/// `GET /v1/models/NAME`
pub async fn model(State(server): State<Server>, Path(name): Path<String>) -> Result<Response, HttpError> {
    Ok(json_response(&describe(&server.registry.entries()[server.registry.find(&name)?])))
}

fn describe(entry: &Entry) -> Value {
    json!({
        "id": entry.name, "object": "model", "created": entry.modified, "owned_by": "firelight",
        // The fields of Anthropic's API.
        "type": "model", "display_name": entry.name, "created_at": seconds_rfc3339(entry.modified),
    })
}
