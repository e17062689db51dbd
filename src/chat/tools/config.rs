//! The MCP servers that the user has set up, in the JSON that other programs use, too:
//! `{"mcpServers": {NAME: {"command", "args", "env"} or {"url", "headers"}}}`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A server: a program that is started, or an address.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct McpServer {
    /// The program.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub command: String,
    /// Its arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Environment variables that it gets in addition. They often hold secrets.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// The address of a server that is not started.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// HTTP headers of every request to it. They often hold secrets.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Whether it is used. Other programs do not have this member, so what is pasted from them is off.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub enabled: bool,
    /// Tools that the model does not see.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub disabled_tools: Vec<String>,
    /// Members of other programs.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Without arguments, variables and headers: they may hold secrets.
impl fmt::Debug for McpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let McpServer { command, enabled, disabled_tools, .. } = self;
        let address = self.url.split(['?', '@']).next().unwrap_or_default();
        write!(f, "McpServer {{ {command}{address}, enabled: {enabled}, disabled_tools: {disabled_tools:?} }}")
    }
}

impl McpServer {
    /// From what the user has typed: a command with arguments, or an address.
    pub fn from_text(text: &str) -> Self {
        let text = text.trim();
        if text.contains("://") && !text.contains(char::is_whitespace) {
            return McpServer { url: text.into(), ..McpServer::default() };
        }
        let mut words = split_command(text).into_iter();
        McpServer { command: words.next().unwrap_or_default(), args: words.collect(), ..McpServer::default() }
    }

    /// Its address, or its command with its arguments.
    pub fn summary(&self) -> String {
        match self.url.is_empty() {
            true => std::iter::once(&self.command).chain(&self.args).cloned().collect::<Vec<_>>().join(" "),
            false => self.url.clone(),
        }
    }

    /// Whether the model sees this tool.
    pub fn offers(&self, tool: &str) -> bool {
        !self.disabled_tools.iter().any(|disabled| disabled == tool)
    }
}

/// The saved file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct McpConfig {
    /// The servers by name.
    pub mcp_servers: BTreeMap<String, McpServer>,
    /// Members of other programs.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Reads servers from the JSON of another program: `{"mcpServers": {...}}`, `{"servers": {...}}`, or the inner object.
///
/// # Errors
/// If it is not such JSON: a sentence for the user.
pub fn read_servers(text: &str) -> Result<BTreeMap<String, McpServer>, String> {
    let value: Value = serde_json::from_str(text).map_err(|e| format!("This is not JSON: {e}."))?;
    let inner = ["mcpServers", "servers"].iter().find_map(|name| value.get(name)).unwrap_or(&value);
    let Some(inner) = inner.as_object().filter(|inner| !inner.is_empty()) else {
        return Err("There is no server in it: {\"mcpServers\": {\"NAME\": {\"command\": …}}} is expected.".into());
    };
    let read = |(name, value): (&String, &Value)| {
        let server: McpServer = serde_json::from_value(value.clone()).map_err(|e| format!("{name:?}: {e}."))?;
        match server.command.is_empty() == server.url.is_empty() {
            true => Err(format!("{name:?} needs either a \"command\" or a \"url\".")),
            false => Ok((name.clone(), server)),
        }
    };
    inner.iter().map(read).collect()
}

/// Splits a command into words. Quotes keep spaces together; a backslash is an ordinary character, as in Windows paths.
fn split_command(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in text.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Parts of a package's name that do not tell servers apart.
const COMMON: [&str; 6] = ["mcp-server-", "server-", "mcp-", "-mcp-server", "-server", "-mcp"];

/// A name for a server without one: the host of its address, or the package or program that is started.
pub fn server_name(server: &McpServer) -> String {
    let host = server.url.split("://").nth(1).and_then(|rest| rest.split(['/', ':', '?']).next());
    let words = std::iter::once(&server.command).chain(&server.args);
    let mut words = words.filter(|word| {
        !word.is_empty() && !word.starts_with('-') && !["npx", "uvx", "node", "python"].contains(&&***word)
    });
    let word = host.or_else(|| words.next().map(String::as_str)).unwrap_or("server");
    let mut name = word.rsplit(['/', '\\']).next().unwrap_or(word);
    name = name.rsplit_once('@').filter(|(name, _)| host.is_none() && !name.is_empty()).map_or(name, |(name, _)| name);
    for part in COMMON {
        let rest = if part.starts_with('-') { name.strip_suffix(part) } else { name.strip_prefix(part) };
        name = rest.filter(|rest| !rest.is_empty()).unwrap_or(name);
    }
    name.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASTED: &str = r#"{ "mcpServers": {
        "everything": { "command": "npx", "args": ["-y", "@modelcontextprotocol/server-everything"],
            "env": { "TOKEN": "hunter2" }, "type": "stdio" },
        "remote": { "url": "https://example.org/mcp", "headers": { "Authorization": "Bearer hunter2" } } } }"#;

    #[test]
    fn pasted_servers_are_read_off_and_written_back() {
        let servers = read_servers(PASTED).unwrap();
        assert!(servers.values().all(|server| !server.enabled));
        assert_eq!(servers["everything"].env["TOKEN"], "hunter2");
        assert_eq!(servers["remote"].url, "https://example.org/mcp");
        let config = McpConfig { mcp_servers: servers, ..McpConfig::default() };
        let (written, pasted): (Value, Value) =
            (serde_json::to_value(&config).unwrap(), serde_json::from_str(PASTED).unwrap());
        assert_eq!(written, pasted);
        assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
        let inner = r#"{"a": {"command": "b"}}"#;
        assert_eq!(read_servers(inner).unwrap()["a"].command, "b");
        assert_eq!(read_servers(&format!(r#"{{"servers": {inner}}}"#)).unwrap()["a"].command, "b");
        for (text, why) in [
            ("npx", "not JSON"),
            ("{}", "no server"),
            (r#"{"a": {}}"#, r#""a" needs either"#),
            (r#"{"a": {"command": 5}}"#, r#""a": invalid type"#),
        ] {
            let error = read_servers(text).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn commands_are_split_and_named() {
        let words = split_command(r#"node "C:\my files\a.js" --x='1 2' """#);
        assert_eq!(words, ["node", r"C:\my files\a.js", "--x=1 2", ""]);
        for (text, name) in [
            ("npx -y @modelcontextprotocol/server-everything", "everything"),
            ("npx -y @modelcontextprotocol/server-filesystem@1.2.3 /tmp", "filesystem"),
            ("uvx mcp-server-git", "git"),
            (r"C:\bin\tool.exe", "tool.exe"),
            ("http://127.0.0.1:3001/mcp", "127.0.0.1"),
            ("https://api.example.org/mcp", "api.example.org"),
            ("", "server"),
        ] {
            assert_eq!(server_name(&McpServer::from_text(text)), name, "{text}");
        }
    }
}
