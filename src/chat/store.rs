//! Conversations as they are kept: a tree of messages each, one JSON file each.
//!
//! Editing a message or asking again never overwrites: it adds a sibling, and the conversation shows one path through
//! the tree. How bytes reach the disk or the browser is `platform`'s business; nothing here draws or computes.

use serde::{Deserialize, Serialize};

use super::platform::Storage;
use super::protocol::Message;
use crate::sampler::Sampling;
use crate::session::{FinishReason, Timings};

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The user.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// As chat templates call it.
    pub fn name(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
}

/// How an answer came about.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// Which model gave it.
    pub model: String,
    /// Counts and times; of the last part, if it was continued.
    pub timings: Timings,
    /// Why it ended; `None` while it comes, and after a crash.
    pub finish: Option<FinishReason>,
    /// Positions of the model's context.
    pub context: usize,
    /// Seconds spent on reasoning.
    pub thinking: Option<f64>,
    /// The seed it was drawn with.
    pub seed: u64,
}

/// A message in the tree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// What it answers or follows; `None` for first messages.
    pub parent: Option<usize>,
    /// Who says it.
    pub role: Role,
    /// What is said, reasoning included.
    pub text: String,
    /// When, in milliseconds since 1970.
    pub time: u64,
    /// Of answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<Stats>,
}

/// How a conversation's answers are made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// What the model is told first.
    pub system: String,
    /// How tokens are chosen. The seed counts only if `fixed_seed` is set.
    pub sampling: Sampling,
    /// Draw every answer with the same seed.
    pub fixed_seed: bool,
    /// Most tokens of an answer; 0 for as many as the context holds.
    pub max_tokens: usize,
}

/// A conversation. `leaf` is the last message of the path that is shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Conversation {
    /// Names its file.
    pub id: String,
    /// Shown in the list.
    pub title: String,
    /// Whether the user gave the title, which then stays.
    #[serde(default)]
    pub named: bool,
    /// Milliseconds since 1970 of the last change.
    pub changed: u64,
    /// See [`Settings`].
    #[serde(default)]
    pub settings: Settings,
    /// Every message; parents come before children.
    pub nodes: Vec<Node>,
    /// End of the path that is shown.
    pub leaf: Option<usize>,
}

/// Longest title that is made of a first message, in characters.
const TITLE: usize = 42;

impl Conversation {
    /// An empty one.
    pub fn new(id: String, now: u64, settings: Settings) -> Self {
        Conversation { id, title: "New conversation".into(), changed: now, settings, ..Default::default() }
    }

    /// The messages that are shown, first to last.
    pub fn path(&self) -> Vec<usize> {
        let mut path = Vec::new();
        let mut at = self.leaf;
        while let Some(node) = at {
            path.push(node);
            at = self.nodes[node].parent;
        }
        path.reverse();
        path
    }

    /// Adds a message behind `parent`, and shows it.
    pub fn add(&mut self, parent: Option<usize>, role: Role, text: String, time: u64) -> usize {
        if !self.named && self.nodes.is_empty() {
            self.title = title(&text);
        }
        self.nodes.push(Node { parent, role, text, time, stats: None });
        let node = self.nodes.len() - 1;
        (self.leaf, self.changed) = (Some(node), time);
        node
    }

    /// The messages beside `node`, itself among them, oldest first.
    pub fn siblings(&self, node: usize) -> Vec<usize> {
        let parent = self.nodes[node].parent;
        (0..self.nodes.len()).filter(|i| self.nodes[*i].parent == parent).collect()
    }

    /// Shows `node`, and behind it the newest messages.
    pub fn show(&mut self, node: usize) {
        let mut leaf = node;
        while let Some(child) = (leaf + 1..self.nodes.len()).rev().find(|i| self.nodes[*i].parent == Some(leaf)) {
            leaf = child;
        }
        self.leaf = Some(leaf);
    }

    /// The path up to and with `last`, as a model reads it: the system prompt first, answers without their reasoning.
    pub fn messages(&self, last: Option<usize>) -> Vec<Message> {
        let mut messages = Vec::new();
        if !self.settings.system.trim().is_empty() {
            messages.push(Message { role: "system".into(), content: self.settings.system.clone() });
        }
        let path = self.path();
        let end = last.and_then(|last| path.iter().position(|n| *n == last)).map_or(0, |i| i + 1);
        messages.extend(path[..end].iter().map(|node| {
            let node = &self.nodes[*node];
            let content = match node.role {
                Role::User => node.text.clone(),
                Role::Assistant => super::text::split(&node.text, false).answer.to_string(),
            };
            Message { role: node.role.name().into(), content }
        }));
        messages
    }

    /// Whether title or any message has `needle`, which is in lower case.
    pub fn contains(&self, needle: &str) -> bool {
        needle.is_empty()
            || self.title.to_lowercase().contains(needle)
            || self.nodes.iter().any(|node| node.text.to_lowercase().contains(needle))
    }

    /// A conversation out of a file, if its tree is sound.
    pub fn parse(text: &str) -> Option<Self> {
        let it: Conversation = serde_json::from_str(text).ok()?;
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

/// What is remembered besides conversations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Remembered {
    /// Models that were opened, the last first.
    pub recent: Vec<super::protocol::Place>,
    /// `Some(true)` for dark, `Some(false)` for light, `None` as the system has it.
    pub dark: Option<bool>,
    /// The adapter that was chosen.
    pub device: Option<String>,
    /// The context that was chosen.
    pub context: Option<u32>,
    /// How new conversations begin.
    pub settings: Settings,
}

const REMEMBERED: &str = "settings";
const PREFIX: &str = "conversation-";

/// The conversations on disk or in the browser.
pub struct Store {
    storage: Storage,
}

impl Store {
    /// Over a storage.
    pub fn new(storage: Storage) -> Self {
        Store { storage }
    }

    /// Every conversation, the last changed first. Files that cannot be read are left where they are.
    pub fn conversations(&self) -> Vec<Conversation> {
        let names = self.storage.names();
        let names = names.iter().filter(|name| name.starts_with(PREFIX));
        let mut all: Vec<_> = names.filter_map(|n| Conversation::parse(&self.storage.read(n)?)).collect();
        all.sort_by_key(|c| std::cmp::Reverse(c.changed));
        all
    }

    /// Keeps a conversation.
    pub fn save(&self, conversation: &Conversation) {
        if let Ok(text) = serde_json::to_string(conversation) {
            self.storage.write(&format!("{PREFIX}{}", conversation.id), text);
        }
    }

    /// Forgets a conversation.
    pub fn remove(&self, id: &str) {
        self.storage.remove(&format!("{PREFIX}{id}"));
    }

    /// What is remembered.
    pub fn remembered(&self) -> Remembered {
        self.storage.read(REMEMBERED).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// Remembers.
    pub fn remember(&self, remembered: &Remembered) {
        if let Ok(text) = serde_json::to_string(remembered) {
            self.storage.write(REMEMBERED, text);
        }
    }

    /// Waits until all is kept, and says what could not be.
    pub fn flush(&self) {
        self.storage.flush();
    }

    /// Why something could not be kept, once.
    pub fn failure(&self) -> Option<String> {
        self.storage.failure()
    }
}

/// A conversation as Markdown: the path that is shown.
pub fn markdown(conversation: &Conversation) -> String {
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
        out += &format!("\n## {who}\n\n{}\n", super::text::split(&node.text, false).answer.trim());
    }
    out
}
