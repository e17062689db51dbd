//! Tools: the servers that are switched on, the questions before calls, and answers that go on with results.

use egui::Context;
use serde_json::{Map, Value, json};

use super::App;
use crate::chat::protocol::{EngineFailure, Remedy};
use crate::chat::state::{Consent, PendingCall, ServerForm, Waiting};
use crate::chat::tools::{
    McpServer, OfferedTool, SavedToolCall, ServerState, ToolCommand, ToolEvent, offered, read_servers, server_name,
    shorten,
};
use crate::session::FinishReason;

/// After this many answers with calls in a row, the user must ask for more.
const ROUNDS: usize = 10;
/// The part of the context that a result may take, in bytes a position: about half.
const RESULT_BYTES: usize = 2;

impl App {
    /// Starts the servers that are switched on.
    pub(super) fn start_servers(&mut self, ctx: &Context) {
        self.state.tools.config = self.store.servers();
        let on = self.state.tools.config.mcp_servers.iter().filter(|(_, server)| server.enabled);
        for name in on.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.start_server(ctx, &name);
        }
    }

    fn start_server(&mut self, ctx: &Context, name: &str) {
        let Some(server) = self.state.tools.config.mcp_servers.get(name).cloned() else { return };
        self.state.tools.servers.insert(name.to_string(), ServerState::Starting);
        let link = self.tools.get_or_insert_with(|| (self.start_tools)(ctx));
        link.send(ToolCommand::Start(name.to_string(), server));
    }

    fn tell_tools(&self, command: ToolCommand) {
        if let Some(link) = &self.tools {
            link.send(command);
        }
    }

    /// Adds what is in the panel's fields: a command, an address, or another program's JSON. New servers are off.
    pub(super) fn add_server(&mut self) {
        let form = &mut self.state.tools.form;
        let text = form.text.trim();
        let read = match text.starts_with('{') {
            true => read_servers(text),
            false => {
                let server = McpServer::from_text(text);
                let name = form.name.trim();
                let name = if name.is_empty() { server_name(&server) } else { name.to_string() };
                Ok([(name, server)].into())
            }
        };
        match read {
            Ok(servers) => {
                *form = Default::default();
                let names: Vec<String> = servers.keys().cloned().collect();
                self.state.tools.config.mcp_servers.extend(servers);
                names.iter().for_each(|name| self.end_server(name));
                self.store.save_servers(&self.state.tools.config);
            }
            Err(why) => form.error = Some(why),
        }
    }

    /// Puts a server into the panel's fields, as JSON.
    pub(super) fn edit_server(&mut self, name: &str) {
        let Some(server) = self.state.tools.config.mcp_servers.get(name) else { return };
        let text = serde_json::to_string_pretty(&json!({ name: server })).unwrap_or_default();
        self.state.tools.form = ServerForm { text, ..ServerForm::default() };
    }

    fn end_server(&mut self, name: &str) {
        if self.state.tools.servers.remove(name).is_some() {
            self.tell_tools(ToolCommand::End(name.to_string()));
        }
    }

    pub(super) fn remove_server(&mut self, name: &str) {
        self.end_server(name);
        self.state.tools.config.mcp_servers.remove(name);
        self.store.save_servers(&self.state.tools.config);
    }

    /// Switches a server on or off.
    pub(super) fn switch_server(&mut self, ctx: &Context, name: &str, on: bool) {
        let Some(server) = self.state.tools.config.mcp_servers.get_mut(name) else { return };
        server.enabled = on;
        match on {
            true => self.start_server(ctx, name),
            false => self.end_server(name),
        }
        self.store.save_servers(&self.state.tools.config);
    }

    /// Shows a tool to the model, or hides it.
    pub(super) fn switch_tool(&mut self, server: &str, tool: &str, on: bool) {
        let Some(server) = self.state.tools.config.mcp_servers.get_mut(server) else { return };
        server.disabled_tools.retain(|disabled| disabled != tool);
        if !on {
            server.disabled_tools.push(tool.to_string());
        }
        self.store.save_servers(&self.state.tools.config);
    }

    /// The tools of all running servers.
    pub(super) fn offered_tools(&self) -> Vec<OfferedTool> {
        let state = &self.state.tools;
        let running = state.servers.iter().filter_map(|(name, server)| match server {
            ServerState::Ready(tools) => Some((name, state.config.mcp_servers.get(name)?, tools)),
            _ => None,
        });
        let tools: Vec<_> = running
            .flat_map(|(name, server, tools)| {
                tools.iter().filter(|tool| server.offers(&tool.name)).map(move |tool| (name.as_str(), tool))
            })
            .collect();
        offered(tools.into_iter())
    }

    pub(super) fn drain_tools(&mut self) {
        while let Some(event) = self.tools.as_ref().and_then(|link| link.poll()) {
            match event {
                // A server that was switched off meanwhile stays off.
                ToolEvent::Server(name, state) => {
                    if let Some(known) = self.state.tools.servers.get_mut(&name) {
                        *known = state;
                    }
                }
                ToolEvent::Returned(id, result) => {
                    let pending = self.state.tools.calls.iter().find(|call| call.running == Some(id)).cloned();
                    if let Some(pending) = pending {
                        self.end_call(&pending, result);
                    }
                }
            }
        }
    }

    fn call(&mut self, pending: &PendingCall) -> Option<&mut SavedToolCall> {
        let conversation = self.state.conversations.iter_mut().find(|c| c.id == pending.conversation)?;
        conversation.nodes.get_mut(pending.node)?.calls.get_mut(pending.call)
    }

    /// Runs the calls of a finished answer, if there are any. Those of an answer that was stopped do not run.
    pub(super) fn run_tools(&mut self, id: &str, node: usize) {
        let Some(conversation) = self.state.conversations.iter_mut().find(|c| c.id == id) else { return };
        let Some(message) = conversation.nodes.get(node).filter(|message| !message.calls.is_empty()) else { return };
        let finish = message.stats.as_ref().and_then(|stats| stats.finish.clone());
        match finish {
            Some(FinishReason::Cancelled) => {
                conversation.stop_calls(node);
                self.keep(id);
            }
            _ => self.next_call(id, node),
        }
    }

    /// Takes up the next call of an answer that has no result; after the last one, the answer goes on.
    pub(super) fn next_call(&mut self, id: &str, node: usize) {
        let Some(conversation) = self.state.conversations.iter().find(|c| c.id == id) else { return };
        let Some(message) = conversation.nodes.get(node) else { return };
        let Some(at) = message.calls.iter().position(|call| call.result.is_none()) else {
            return self.go_on(id, node);
        };
        let (name, arguments) = (message.calls[at].name.clone(), message.calls[at].arguments.clone());
        let tool = self.offered_tools().into_iter().find(|tool| tool.name == name);
        let arguments = serde_json::from_str::<Map<String, Value>>(&arguments);
        let (server, tool) = tool.map(|t| (t.server, t.tool.name)).unwrap_or_default();
        let allowed = conversation.allowed_tools.contains(&(server.clone(), tool.clone()));
        let missing = server.is_empty();
        let pending = PendingCall {
            conversation: id.to_string(),
            node,
            call: at,
            server,
            tool,
            arguments: Map::new(),
            running: None,
        };
        match arguments {
            _ if missing => self.end_call(&pending, Err(format!("There is no tool of the name {name}."))),
            Err(error) => self.end_call(&pending, Err(format!("The arguments are not a JSON object: {error}."))),
            Ok(arguments) => {
                let pending = PendingCall { arguments, ..pending };
                self.state.tools.calls.push(pending.clone());
                if allowed {
                    self.run_call(&pending);
                }
            }
        }
    }

    /// The user's answer to the question before a call of the current conversation.
    pub(super) fn consent(&mut self, consent: Consent) {
        let Some(pending) = self.state.asking().cloned() else { return };
        match consent {
            Consent::Once => self.run_call(&pending),
            Consent::Always => {
                if let Some(conversation) = self.state.conversation_mut() {
                    conversation.allowed_tools.push((pending.server.clone(), pending.tool.clone()));
                }
                self.run_call(&pending);
            }
            Consent::Refuse => self.end_call(&pending, Err("The user refused this call.".into())),
        }
    }

    fn run_call(&mut self, pending: &PendingCall) {
        self.calls += 1;
        let id = self.calls;
        if let Some(call) = self.state.tools.calls.iter_mut().find(|call| *call == pending) {
            call.running = Some(id);
        }
        let PendingCall { server, tool, arguments, .. } = pending.clone();
        self.tell_tools(ToolCommand::Call(id, server, tool, arguments));
    }

    fn end_call(&mut self, pending: &PendingCall, result: Result<String, String>) {
        let limit = self.state.engine.loaded().map_or(4096, |loaded| loaded.context) * RESULT_BYTES;
        self.state.tools.calls.retain(|call| call.conversation != pending.conversation);
        if let Some(call) = self.call(pending) {
            call.end(result.map(|text| shorten(text, limit)).map_err(|why| shorten(why, limit)));
        }
        self.keep(&pending.conversation);
        self.next_call(&pending.conversation, pending.node);
    }

    /// Ends the calls of a conversation without going on.
    pub(super) fn stop_calls(&mut self, id: &str) {
        let calls = &mut self.state.tools.calls;
        let Some(at) = calls.iter().position(|call| call.conversation == id) else { return };
        let pending = calls.remove(at);
        if let Some(running) = pending.running {
            self.tell_tools(ToolCommand::Cancel(running));
        }
        if let Some(conversation) = self.state.conversations.iter_mut().find(|c| c.id == id) {
            conversation.stop_calls(pending.node);
        }
        self.keep(id);
    }

    /// Asks for the answer after the results, unless the model has called tools too often in a row.
    fn go_on(&mut self, id: &str, node: usize) {
        let Some(conversation) = self.state.conversations.iter().find(|c| c.id == id) else { return };
        let rounds = conversation.rounds(node);
        if rounds.is_multiple_of(ROUNDS) {
            let why = format!("The model has called tools {rounds} times in a row. “Continue” lets it go on.");
            self.state.failed = Some((id.to_string(), EngineFailure::new(why, Remedy::None)));
            return;
        }
        self.state.waiting.push(Waiting { conversation: id.to_string(), node });
        self.answer_next();
    }
}
