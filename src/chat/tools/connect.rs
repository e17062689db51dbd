//! Connections to MCP servers, and what goes wrong with them, in sentences for the user.

use std::collections::HashMap;
use std::error::Error;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rmcp::model::{ClientCapabilities, ClientConfig, Implementation};
use rmcp::service::{ClientInitializeError, RoleClient, RunningService, ServiceExt};
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::{StreamableHttpClientTransport, TokioChildProcess, which_command};
use tokio::io::AsyncReadExt;
use tokio::process::ChildStderr;

use super::McpServer;

/// A server that has answered.
pub struct Connection {
    pub service: RunningService<RoleClient, ClientConfig>,
    pub stderr: LastWords,
}

/// The end of what a program has written to stderr.
#[derive(Clone, Default)]
pub struct LastWords(Arc<Mutex<Vec<u8>>>);

/// Bytes of stderr that are kept.
const KEPT: usize = 2048;
/// Lines of stderr that are shown.
const SHOWN: usize = 4;

impl LastWords {
    /// Reads until the end of the program.
    fn of(mut stderr: ChildStderr) -> Self {
        let words = LastWords::default();
        let kept = words.0.clone();
        tokio::spawn(async move {
            let mut piece = [0; 1024];
            while let Ok(n @ 1..) = stderr.read(&mut piece).await {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend_from_slice(&piece[..n]);
                let old = kept.len().saturating_sub(KEPT);
                kept.drain(..old);
            }
        });
        words
    }

    /// `what`, and the last lines.
    pub fn died(&self, what: &str) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&kept);
        let mut lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).rev().take(SHOWN).collect();
        lines.reverse();
        if lines.is_empty() { what.to_string() } else { format!("{what} It wrote:\n{}", lines.join("\n")) }
    }
}

/// Starts a program, or opens an address, and exchanges greetings.
pub async fn connect(server: &McpServer) -> Result<Connection, String> {
    let us = Implementation::new("firelight", env!("CARGO_PKG_VERSION"));
    let us = ClientConfig::new(ClientCapabilities::default(), us);
    if !server.url.is_empty() {
        let transport = StreamableHttpClientTransport::from_config(http(server)?);
        let service = us.serve(transport).await.map_err(|error| unreachable(&error))?;
        return Ok(Connection { service, stderr: LastWords::default() });
    }
    let (transport, stderr) = spawn(server)?;
    let stderr = stderr.map(LastWords::of).unwrap_or_default();
    match us.serve(transport).await {
        Ok(service) => Ok(Connection { service, stderr }),
        Err(ClientInitializeError::ConnectionClosed(_) | ClientInitializeError::TransportError { .. }) => {
            // Its last words may still be on their way.
            tokio::time::sleep(Duration::from_millis(200)).await;
            Err(stderr.died("The program ended before it answered."))
        }
        Err(error) => Err(stderr.died(&format!("It is not an MCP server: {}.", deepest(&error)))),
    }
}

fn spawn(server: &McpServer) -> Result<(TokioChildProcess, Option<ChildStderr>), String> {
    let name = &server.command;
    let mut command = which_command(name)
        .map_err(|_| format!("“{name}” was not found. Is it installed, and in a folder of PATH?"))?;
    command.args(&server.args).envs(&server.env).kill_on_drop(true);
    // Without a console window.
    #[cfg(windows)]
    command.creation_flags(0x0800_0000);
    let spawned = TokioChildProcess::builder(command).stderr(Stdio::piped()).spawn();
    spawned.map_err(|e| format!("“{name}” cannot be started: {e}."))
}

fn http(server: &McpServer) -> Result<StreamableHttpClientTransportConfig, String> {
    let url = &server.url;
    if !["http://", "https://"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err("The address must begin with http:// or https://.".into());
    }
    let mut headers = HashMap::new();
    for (name, value) in &server.headers {
        let wrong = |what: &str| format!("The {what} of the header {name:?} is not valid.");
        headers.insert(name.parse().map_err(|_| wrong("name"))?, value.parse().map_err(|_| wrong("value"))?);
    }
    Ok(StreamableHttpClientTransportConfig::with_uri(url.as_str()).custom_headers(headers))
}

/// Why an address does not answer.
fn unreachable(error: &ClientInitializeError) -> String {
    let all = error.to_string();
    if all.contains("Auth required") || all.contains("401") {
        return "The server wants to know who you are (HTTP 401): give it an \"Authorization\" header.".into();
    }
    // What reqwest says of a refused connection, an unknown host, or a failed handshake.
    if all.contains("error sending request") {
        return "The address cannot be reached. Is it right, and does the server run?".into();
    }
    match error {
        ClientInitializeError::TransportError { error, .. } => {
            format!("The address does not answer as an MCP server: {}.", deepest(&*error.error))
        }
        other => format!("The address does not answer as an MCP server: {}.", deepest(other)),
    }
}

/// The text of an error's first cause.
pub fn deepest(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string().trim_end_matches('.').to_string()
}
