//! Saved conversations: each is a tree of messages in one JSON file.
//!
//! Editing a message or answering again adds a sibling and never overwrites; the conversation shows one path through
//! the tree. `platform` moves bytes to the disk or the browser; nothing here draws or computes.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::attach::{AttachedFile, with_files};
use super::merge;
use super::platform::Storage;
use super::protocol::ChatMessage;
use super::tools::{McpConfig, SavedToolCall};
use crate::sampler::Sampling;
use crate::session::{FinishReason, Timings};

/// The author of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The user.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The name that chat templates use.
    pub fn name(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
}

/// How an answer was generated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// The model.
    pub model: String,
    /// Token counts and times; of the last part if the answer was continued.
    pub timings: Timings,
    /// Why it ended; `None` while it is generated, and after a crash.
    pub finish: Option<FinishReason>,
    /// The context size in positions.
    pub context: usize,
    /// Seconds spent on reasoning.
    pub thinking: Option<f64>,
    /// The sampling seed.
    pub seed: u64,
}

/// A message in the tree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessageNode {
    /// The parent message; `None` for a first message.
    pub parent: Option<usize>,
    /// The author.
    pub role: Role,
    /// The text, with its reasoning.
    pub text: String,
    /// The time, in milliseconds since 1970.
    pub time: u64,
    /// For answers: how it was generated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<Stats>,
    /// Files that were sent with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<AttachedFile>,
    /// For answers: the calls at its end, with their results.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<SavedToolCall>,
}

impl MessageNode {
    /// The text after its files, as the model reads them.
    fn with_files(&self) -> String {
        with_files(&self.files, &self.text)
    }

    /// The messages of a prompt: its text without reasoning, its calls, and their results.
    fn messages(&self) -> Vec<ChatMessage> {
        let content = match self.role {
            Role::User => self.with_files(),
            Role::Assistant => super::text::split(&self.text, false).answer.to_string(),
        };
        let ended = self.calls.iter().filter(|call| call.result.is_some());
        let mut said = ChatMessage::new(self.role.name(), content);
        said.tool_calls = ended.clone().cloned().collect();
        let results = ended.map(|call| ChatMessage {
            tool_call_id: Some(call.id.clone()),
            ..ChatMessage::new("tool", call.result.as_deref().unwrap_or_default())
        });
        std::iter::once(said).chain(results).collect()
    }
}

/// A conversation's generation settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConversationSettings {
    /// The system prompt.
    pub system: String,
    /// The sampling parameters. The seed applies only if `fixed_seed` is set.
    pub sampling: Sampling,
    /// Use the same seed for every answer.
    pub fixed_seed: bool,
    /// The maximum number of tokens in an answer; 0 for no limit but the context.
    pub max_tokens: usize,
}

/// Settings with a name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Preset {
    /// The name in the panel; no other preset has it.
    pub name: String,
    /// The settings.
    pub settings: ConversationSettings,
}

/// A conversation. `leaf` is the last message of the visible path.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SavedConversation {
    /// The name of its file.
    pub id: String,
    /// The title in the list.
    pub title: String,
    /// Whether the user set the title, which then no longer changes.
    #[serde(default)]
    pub named: bool,
    /// The time of the last change, in milliseconds since 1970.
    pub changed: u64,
    /// Tools that run without a question: server and name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_tools: Vec<(String, String)>,
    /// See [`ConversationSettings`].
    #[serde(default)]
    pub settings: ConversationSettings,
    /// All messages; parents precede children.
    pub nodes: Vec<MessageNode>,
    /// The last message of the visible path.
    pub leaf: Option<usize>,
}

/// The maximum length of a title derived from the first message, in characters.
const TITLE: usize = 42;

impl SavedConversation {
    /// An empty conversation.
    pub fn new(id: String, now: u64, settings: ConversationSettings) -> Self {
        SavedConversation { id, title: "New conversation".into(), changed: now, settings, ..Default::default() }
    }

    /// The messages of the visible path, first to last.
    pub fn path(&self) -> Vec<usize> {
        self.path_to(self.leaf)
    }

    /// The messages up to `last`, first to last.
    fn path_to(&self, last: Option<usize>) -> Vec<usize> {
        let mut path: Vec<usize> = std::iter::successors(last, |node| self.nodes[*node].parent).collect();
        path.reverse();
        path
    }

    /// Adds a child of `parent` and makes it visible.
    pub fn add(&mut self, parent: Option<usize>, role: Role, text: String, time: u64) -> usize {
        if !self.named && self.nodes.is_empty() {
            self.title = title(&text);
        }
        self.nodes.push(MessageNode { parent, role, text, time, stats: None, files: Vec::new(), calls: Vec::new() });
        let node = self.nodes.len() - 1;
        (self.leaf, self.changed) = (Some(node), time);
        node
    }

    /// The siblings of `node` including itself, oldest first.
    pub fn siblings(&self, node: usize) -> Vec<usize> {
        let parent = self.nodes[node].parent;
        (0..self.nodes.len()).filter(|i| self.nodes[*i].parent == parent).collect()
    }

    /// Makes `node` visible, followed by its newest descendants.
    pub fn show(&mut self, node: usize) {
        let mut leaf = node;
        while let Some(child) = (leaf + 1..self.nodes.len()).rev().find(|i| self.nodes[*i].parent == Some(leaf)) {
            leaf = child;
        }
        self.leaf = Some(leaf);
    }

    /// The messages up to and including `last` as a prompt: the system prompt first, answers without their reasoning.
    pub fn messages(&self, last: Option<usize>) -> Vec<ChatMessage> {
        let mut messages = Vec::new();
        if !self.settings.system.trim().is_empty() {
            messages.push(ChatMessage::new("system", &self.settings.system));
        }
        messages.extend(self.path_to(last).into_iter().flat_map(|node| self.nodes[node].messages()));
        messages
    }

    /// The number of answers with calls, up to `node`, since the user's last message.
    pub fn rounds(&self, node: usize) -> usize {
        let answers = std::iter::successors(Some(node), |node| self.nodes[*node].parent);
        let answers = answers.map(|node| &self.nodes[node]).take_while(|node| node.role == Role::Assistant);
        answers.filter(|node| !node.calls.is_empty()).count()
    }

    /// Ends the calls of an answer that have no result.
    pub fn stop_calls(&mut self, node: usize) {
        let calls = self.nodes.get_mut(node).into_iter().flat_map(|node| &mut node.calls);
        calls
            .filter(|call| call.result.is_none())
            .for_each(|call| call.end(Err("The user stopped before this ran.".into())));
    }

    /// Whether the title or a message contains `needle`, which must be lower-case.
    pub fn contains(&self, needle: &str) -> bool {
        needle.is_empty()
            || self.title.to_lowercase().contains(needle)
            || self.nodes.iter().any(|node| node.text.to_lowercase().contains(needle))
    }

    /// Parses a conversation file. Returns `None` if its tree is malformed.
    pub fn parse(text: &str) -> Option<Self> {
        let it: SavedConversation = serde_json::from_str(text).ok()?;
        let sound = it.nodes.iter().enumerate().all(|(i, node)| node.parent.is_none_or(|parent| parent < i));
        (sound && it.leaf.is_none_or(|leaf| leaf < it.nodes.len())).then_some(it)
    }
}

/// The first words of a message.
fn title(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(TITLE) {
        None if line.is_empty() => "New conversation".into(),
        None => line,
        Some((end, _)) => {
            let cut = line[..end].rfind(' ').filter(|at| *at > TITLE / 2).unwrap_or(end);
            format!("{}…", &line[..cut])
        }
    }
}

/// Loads the preferences.
pub fn preferences(storage: &Storage) -> Preferences {
    storage.read(REMEMBERED).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

/// Preferences and recent models.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Preferences {
    /// Recently opened models, the last one first.
    pub recent: Vec<super::protocol::Place>,
    /// `Some(true)` for dark, `Some(false)` for light, `None` to follow the system.
    pub dark: Option<bool>,
    /// The selected adapter.
    pub device: Option<String>,
    /// The selected context size.
    pub context: Option<u32>,
    /// The window's width and height in points, and whether it was maximized.
    pub window: Option<(f32, f32, bool)>,
    /// The settings of new conversations.
    pub settings: ConversationSettings,
}

const REMEMBERED: &str = "settings";
const SERVERS: &str = "mcp";
const PRESETS: &str = "presets";
const PREFIX: &str = "conversation-";

/// The saved conversations, on disk or in the browser. Other windows may change them at any time.
pub struct Store {
    storage: Storage,
    /// The stamp of each file when it was last read.
    read: RefCell<HashMap<String, u64>>,
}

/// What other windows did since the last look.
#[derive(Default)]
pub struct Changes {
    /// Conversations that are new or longer.
    pub changed: Vec<SavedConversation>,
    /// Ids of conversations that were deleted.
    pub deleted: Vec<String>,
    /// Files that hold no conversation. They stay in place.
    pub unreadable: Vec<String>,
}

impl Store {
    /// A store over a storage.
    pub fn new(storage: Storage) -> Self {
        Store { storage, read: RefCell::default() }
    }

    /// What changed since the last call; everything at first.
    pub fn changes(&self) -> Changes {
        self.storage.flush();
        let mut read = self.read.borrow_mut();
        let mut found = Changes::default();
        let names = self.storage.names().into_iter().filter(|name| name.starts_with(PREFIX));
        let stamped = |name: String| self.storage.stamp(&name).map(|stamp| (name, stamp));
        let names: Vec<(String, u64)> = names.filter_map(stamped).collect();
        let gone: Vec<String> = read.keys().filter(|name| names.iter().all(|(n, _)| n != *name)).cloned().collect();
        for name in gone {
            read.remove(&name);
            found.deleted.push(name[PREFIX.len()..].to_string());
        }
        for (name, stamp) in names {
            if read.insert(name.clone(), stamp) == Some(stamp) {
                continue;
            }
            match self.storage.read(&name).and_then(|text| SavedConversation::parse(&text)) {
                Some(conversation) => found.changed.push(conversation),
                None => found.unreadable.push(name),
            }
        }
        found.changed.sort_by_key(|c| Reverse(c.changed));
        found
    }

    /// Saves a conversation, with what other windows added to it.
    pub fn save(&self, conversation: &SavedConversation) {
        if let Ok(text) = serde_json::to_string(conversation) {
            self.storage.write(&format!("{PREFIX}{}", conversation.id), text, merge::texts);
        }
    }

    /// Deletes a conversation.
    pub fn remove(&self, id: &str) {
        self.storage.remove(&format!("{PREFIX}{id}"));
    }

    /// Loads the preferences.
    pub fn remembered(&self) -> Preferences {
        preferences(&self.storage)
    }

    /// Changes the preferences as they are saved, and returns them: another window may have changed others.
    pub fn remember(&self, change: impl FnOnce(&mut Preferences)) -> Preferences {
        self.storage.flush();
        let mut remembered = self.remembered();
        change(&mut remembered);
        if let Ok(text) = serde_json::to_string(&remembered) {
            self.storage.write(REMEMBERED, text, |_, ours| ours);
        }
        remembered
    }

    /// Loads the MCP servers.
    pub fn servers(&self) -> McpConfig {
        self.storage.read(SERVERS).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// Saves the MCP servers.
    pub fn save_servers(&self, servers: &McpConfig) {
        if let Ok(text) = serde_json::to_string_pretty(servers) {
            self.storage.write(SERVERS, text, |_, ours| ours);
        }
    }

    /// Loads the presets.
    pub fn presets(&self) -> Vec<Preset> {
        self.storage.read(PRESETS).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// Saves the presets.
    pub fn save_presets(&self, presets: &[Preset]) {
        if let Ok(text) = serde_json::to_string_pretty(presets) {
            self.storage.write(PRESETS, text, |_, ours| ours);
        }
    }

    /// Waits until everything is saved. Returns what could not be saved.
    pub fn flush(&self) {
        self.storage.flush();
    }

    /// Takes the error of the last failed save.
    pub fn failure(&self) -> Option<String> {
        self.storage.failure()
    }
}

/// A text as a block of code, whatever fences are in it.
pub fn fenced(language: &str, text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(3.max(longest + 1));
    format!("{fence}{language}\n{}\n{fence}\n", text.trim_end())
}

/// The visible path as Markdown.
pub fn markdown(conversation: &SavedConversation) -> String {
    let mut out = format!("# {}\n", conversation.title);
    if !conversation.settings.system.trim().is_empty() {
        out += &format!("\n> {}\n", conversation.settings.system.trim().replace('\n', "\n> "));
    }
    for node in conversation.path() {
        let node = &conversation.nodes[node];
        let who = match (node.role, &node.stats) {
            (Role::User, _) => "You".to_string(),
            (Role::Assistant, Some(stats)) if !stats.model.is_empty() => stats.model.clone(),
            (Role::Assistant, _) => "Assistant".to_string(),
        };
        out += &format!("\n## {who}\n\n{}\n", super::text::split(&node.with_files(), false).answer.trim());
        for call in &node.calls {
            let (arguments, result) = (fenced("json", &call.arguments), call.result.as_deref().unwrap_or_default());
            out += &format!("\n**Tool {}**\n\n{arguments}\n{}", call.name, fenced("", result));
        }
    }
    out
}
