//! The thread of MCP servers: starts them, calls their tools, and ends them. A server is a task that owns its
//! connection; a call is another one, so a slow tool blocks neither other servers nor the window.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{CallToolRequestParams, CallToolResult, ContentBlock, ResourceContents};
use rmcp::service::{Peer, ServiceError};
use rmcp::{RoleClient, model};
use serde_json::{Map, Value};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::connect::{connect, deepest};
use super::{McpServer, McpTool, ServerState, ToolCommand, ToolEvent};
use crate::chat::platform::{Link, Worker};

/// A first start may download the server.
const START: Duration = Duration::from_secs(120);
/// The longest call.
const CALL: Duration = Duration::from_secs(300);
/// How long servers may take to end with the window.
const END: Duration = Duration::from_secs(2);

type Emit = Arc<dyn Fn(ToolEvent) + Send + Sync>;

/// Starts the thread. It ends, with its servers, when the link is dropped.
pub fn start_tools(ctx: &egui::Context) -> Link<ToolCommand, ToolEvent> {
    let (sender, events) = std::sync::mpsc::channel();
    let ctx = ctx.clone();
    let emit: Emit = Arc::new(move |event| {
        // The window may be gone.
        let _ = sender.send(event);
        ctx.request_repaint();
    });
    let (commands, receiver) = unbounded_channel();
    let worker = Worker::start("firelight tools", commands, move || {
        // Fails only if an application has installed one: that is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(serve(receiver, emit)),
            Err(error) => tracing::error!("tools cannot be used: {error}"),
        }
    });
    Link::new(
        move |command| {
            if let Some(commands) = worker.commands() {
                let _ = commands.send(command);
            }
        },
        events,
    )
}

/// A call of a tool, for the task of its server.
struct Call {
    id: u64,
    tool: String,
    arguments: Map<String, Value>,
    /// Resolves when its sender is dropped.
    cancelled: oneshot::Receiver<()>,
}

/// A server's task. Dropping `calls` ends the server.
struct Running {
    calls: UnboundedSender<Call>,
    task: JoinHandle<()>,
}

impl Running {
    async fn end(self) {
        drop(self.calls);
        let _ = timeout(END, self.task).await;
    }
}

async fn serve(mut commands: UnboundedReceiver<ToolCommand>, emit: Emit) {
    let mut servers: HashMap<String, Running> = HashMap::new();
    let mut cancels: HashMap<u64, oneshot::Sender<()>> = HashMap::new();
    while let Some(command) = commands.recv().await {
        match command {
            ToolCommand::Start(name, server) => {
                if let Some(old) = servers.remove(&name) {
                    old.end().await;
                }
                let (calls, receiver) = unbounded_channel();
                let task = tokio::spawn(run(name.clone(), server, receiver, emit.clone()));
                servers.insert(name, Running { calls, task });
            }
            ToolCommand::End(name) => {
                if let Some(server) = servers.remove(&name) {
                    tokio::spawn(server.end());
                }
            }
            ToolCommand::Call(id, server, tool, arguments) => {
                cancels.retain(|_, cancel| !cancel.is_closed());
                let (cancel, cancelled) = oneshot::channel();
                cancels.insert(id, cancel);
                let call = Call { id, tool, arguments, cancelled };
                if servers.get(&server).is_none_or(|server| server.calls.send(call).is_err()) {
                    emit(ToolEvent::Returned(id, Err(format!("The server {server} does not run."))));
                }
            }
            ToolCommand::Cancel(id) => drop(cancels.remove(&id)),
        }
    }
    let ends: Vec<_> = servers.into_values().map(|server| tokio::spawn(server.end())).collect();
    for end in ends {
        let _ = end.await;
    }
}

/// Runs a server until it dies or `calls` is closed.
async fn run(name: String, server: McpServer, mut calls: UnboundedReceiver<Call>, emit: Emit) {
    let tell = |state| emit(ToolEvent::Server(name.clone(), state));
    tell(ServerState::Starting);
    let ended = async { while calls.recv().await.is_some() {} };
    let started = tokio::select! {
        started = start(&server, START) => started,
        () = ended => return,
    };
    let (connection, tools) = match started {
        Ok(started) => started,
        Err(why) => return tell(ServerState::Failed(why)),
    };
    tell(ServerState::Ready(tools));
    let (peer, last_words, stop) =
        (connection.service.peer().clone(), connection.stderr, connection.service.cancellation_token());
    let mut quit = std::pin::pin!(connection.service.waiting());
    loop {
        tokio::select! {
            call = calls.recv() => match call {
                Some(call) => {
                    tokio::spawn(answer(peer.clone(), call, emit.clone()));
                }
                None => {
                    stop.cancel();
                    let _ = quit.await;
                    return;
                }
            },
            _ = &mut quit => return tell(ServerState::Failed(last_words.died("It ended while it was in use."))),
        }
    }
}

/// Connects to a server and lists its tools.
async fn start(server: &McpServer, patience: Duration) -> Result<(super::connect::Connection, Vec<McpTool>), String> {
    let starting = async {
        let connection = connect(server).await?;
        // Servers without tools need not know the request.
        let has_tools = connection.service.peer_info().is_none_or(|info| info.capabilities.tools.is_some());
        let tools = match has_tools {
            true => connection.service.list_all_tools().await.map_err(|e| failure(&e))?,
            false => Vec::new(),
        };
        Ok((connection, tools.into_iter().map(tool).collect()))
    };
    match timeout(patience, starting).await {
        Ok(started) => started,
        Err(_) => Err(format!("It did not answer within {} seconds.", patience.as_secs_f64().round())),
    }
}

fn tool(tool: model::Tool) -> McpTool {
    let description = tool.description.as_deref().or(tool.title.as_deref()).unwrap_or_default().to_string();
    McpTool { name: tool.name.into_owned(), description, parameters: (*tool.input_schema).clone() }
}

/// Calls a tool and emits its result. If the call is cancelled, it notifies the server instead.
async fn answer(peer: Peer<RoleClient>, call: Call, emit: Emit) {
    let request = CallToolRequestParams::new(call.tool).with_arguments(call.arguments);
    tokio::select! {
        result = result(&peer, request) => emit(ToolEvent::Returned(call.id, result)),
        _ = call.cancelled => {}
    }
}

/// The result of a call, as text.
async fn result(peer: &Peer<RoleClient>, request: CallToolRequestParams) -> Result<String, String> {
    match timeout(CALL, peer.call_tool(request)).await {
        Err(_) => Err(format!("The tool did not answer within {} minutes.", CALL.as_secs() / 60)),
        Ok(Err(error)) => Err(failure(&error)),
        Ok(Ok(result)) => match result.is_error {
            Some(true) => Err(text(result)),
            _ => Ok(text(result)),
        },
    }
}

fn failure(error: &ServiceError) -> String {
    match error {
        ServiceError::McpError(error) => error.message.to_string(),
        ServiceError::TransportClosed => "The server has ended.".into(),
        ServiceError::UnexpectedResponse => "The tool asks for what this window cannot give.".into(),
        other => deepest(other),
    }
}

/// A result as text, with the names of the parts that are not text.
fn text(result: CallToolResult) -> String {
    let parts: Vec<String> = result.content.into_iter().map(part).collect();
    match result.structured_content {
        Some(value) if parts.is_empty() => value.to_string(),
        _ if parts.is_empty() => "The tool returned nothing.".into(),
        _ => parts.join("\n"),
    }
}

fn part(content: ContentBlock) -> String {
    let media =
        |kind: &str, mime: &str, base64: &str| format!("[{kind}, {mime}, {} KiB: not shown]", base64.len() / 1365);
    match content {
        ContentBlock::Text(text) => text.text,
        ContentBlock::Image(image) => media("image", &image.mime_type, &image.data),
        ContentBlock::Audio(audio) => media("audio", &audio.mime_type, &audio.data),
        ContentBlock::ResourceLink(link) => format!("{}: {}", link.name, link.uri),
        ContentBlock::Resource(embedded) => match embedded.resource {
            ResourceContents::TextResourceContents { text, .. } => text,
            ResourceContents::BlobResourceContents { mime_type, blob, .. } => {
                media("file", &mime_type.unwrap_or_default(), &blob)
            }
            _ => "[a resource of an unknown kind]".into(),
        },
        _ => "[a part of an unknown kind]".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Why a server does not start.
    fn refusal(text: &str, patience: f64) -> String {
        let server = McpServer::from_text(text);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let started = runtime.block_on(start(&server, Duration::from_secs_f64(patience)));
        started.map(|(_, tools)| tools).expect_err("it starts")
    }

    #[test]
    fn servers_that_do_not_start_say_why() {
        for (text, why) in [
            ("no-such-program --x", "“no-such-program” was not found"),
            ("ftp://example.org", "must begin with http:// or https://"),
            ("http://127.0.0.1:9/mcp", "cannot be reached"),
        ] {
            let refusal = refusal(text, 20.0);
            assert!(refusal.contains(why), "{text}: {refusal}");
        }
        if cfg!(unix) {
            let died = refusal("sh -c 'echo no token >&2; exit 3'", 20.0);
            assert!(died.contains("ended before it answered") && died.contains("no token"), "{died}");
            let slow = refusal("sleep 60", 1.0);
            assert!(slow.contains("within 1 seconds"), "{slow}");
        }
    }
}
