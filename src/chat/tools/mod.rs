//! Tools of MCP servers: programs on this machine (stdio) or on another one (streamable HTTP), which the model can call
//! and the user confirms. `config` is what the user has set up; `client` runs the servers on a thread of its own and
//! exists only natively. Everything else is plain data.

#[cfg(not(target_arch = "wasm32"))]
mod client;
mod config;
#[cfg(not(target_arch = "wasm32"))]
mod connect;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

#[cfg(not(target_arch = "wasm32"))]
pub use client::start_tools;
pub use config::{McpConfig, McpServer, read_servers, server_name};

/// A tool of a server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct McpTool {
    /// The name by which its server knows it.
    pub name: String,
    /// What it does.
    pub description: String,
    /// The JSON schema of its arguments.
    pub parameters: Map<String, Value>,
}

/// A call in a conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedToolCall {
    /// Its id, which chat templates want.
    pub id: String,
    /// The name by which the model called the tool.
    pub name: String,
    /// The arguments: a JSON object, as the model wrote it.
    pub arguments: String,
    /// The result that the model gets; `None` until the call has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// Whether it failed or was refused; `result` then says why.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub failed: bool,
}

impl SavedToolCall {
    /// Ends the call.
    pub fn end(&mut self, result: Result<String, String>) {
        self.failed = result.is_err();
        self.result = Some(result.unwrap_or_else(|why| why));
    }
}

/// The state of a server that is switched on.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerState {
    /// It is being started.
    Starting,
    /// It runs and has these tools.
    Ready(Vec<McpTool>),
    /// Why it does not run.
    Failed(String),
}

/// A command to the thread of servers. Servers have names; calls have numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum ToolCommand {
    /// Start a server, in place of a running one of this name.
    Start(String, McpServer),
    /// End a server.
    End(String),
    /// Call a tool of a server.
    Call(u64, String, String, Map<String, Value>),
    /// Give up a call.
    Cancel(u64),
}

/// An event of the thread of servers.
#[derive(Clone, Debug, PartialEq)]
pub enum ToolEvent {
    /// A server has changed.
    Server(String, ServerState),
    /// A call has ended: its result as text, or why it failed.
    Returned(u64, Result<String, String>),
}

/// A tool as the model sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct OfferedTool {
    /// A name that no other offered tool has.
    pub name: String,
    /// Its server.
    pub server: String,
    /// The tool.
    pub tool: McpTool,
}

impl OfferedTool {
    /// The tool in the format of chat templates.
    pub fn function(&self) -> Value {
        let McpTool { description, parameters, .. } = &self.tool;
        let function = json!({ "name": self.name, "description": description, "parameters": parameters });
        json!({ "type": "function", "function": function })
    }
}

/// The longest name of a function in OpenAI's interface.
const LONGEST_NAME: usize = 64;

/// The tools of these servers. If two have the same name, their servers' names come first.
pub fn offered<'a>(servers: impl Iterator<Item = (&'a str, &'a McpTool)> + Clone) -> Vec<OfferedTool> {
    let shared = |name: &str| servers.clone().filter(|(_, tool)| tool.name == name).count() > 1;
    let named = |(server, tool): (&str, &McpTool)| {
        let full = if shared(&tool.name) { format!("{server}_{}", tool.name) } else { tool.name.clone() };
        let letters = full.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' });
        let name = letters.take(LONGEST_NAME).collect();
        OfferedTool { name, server: server.to_string(), tool: tool.clone() }
    };
    servers.clone().map(named).collect()
}

/// Cuts a tool's result to `limit` bytes, so that it leaves room for an answer.
pub fn shorten(text: String, limit: usize) -> String {
    if text.len() <= limit {
        return text;
    }
    let end = (0..=limit).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}\n[The result has {} bytes; the rest is left out.]", &text[..end], text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offered_names_are_unique_and_plain() {
        let tool = |name: &str| McpTool { name: name.into(), ..McpTool::default() };
        let (add, read) = (tool("add"), tool("files/read"));
        let tools = offered([("one", &add), ("my server", &add), ("one", &read)].into_iter());
        let names: Vec<_> = tools.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["one_add", "my_server_add", "files_read"]);
        assert_eq!(tools[2].tool.name, "files/read");
        assert_eq!(tools[2].function()["function"]["name"], "files_read");
    }

    #[test]
    fn long_results_are_cut_between_characters() {
        assert_eq!(shorten("short".into(), 10), "short");
        let cut = shorten("äöü".into(), 3);
        assert!(cut.starts_with("ä\n[The result has 6 bytes"), "{cut}");
    }
}
