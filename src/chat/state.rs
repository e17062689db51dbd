//! The window's state, and the actions that views return. Views read the state; only `app` changes it.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

use super::attach::AttachedFile;
use super::catalogue::ModelOffer;
use super::platform::Fetched;
use super::protocol::{Device, EngineFailure, Facts, Loaded, OpTime, Place};
use super::store::{ConversationSettings, Preferences, Preset, SavedConversation};
use super::tools::{McpConfig, ServerState};
use crate::conversation::AnswerToken;

/// The state of the engine.
#[derive(Clone, Debug)]
pub enum EngineState {
    /// No model is open.
    Empty,
    /// A model is loading.
    Loading {
        /// Its place.
        place: Place,
        /// Bytes read.
        done: u64,
        /// Bytes to read; 0 while shaders compile.
        total: u64,
        /// The time of the first byte, in seconds of the window's clock.
        since: f64,
    },
    /// A model is open.
    Ready(Box<Loaded>),
    /// Loading failed, or the model was lost.
    Failed(Option<Place>, EngineFailure),
}

impl EngineState {
    /// The open model.
    pub fn loaded(&self) -> Option<&Loaded> {
        match self {
            EngineState::Ready(loaded) => Some(loaded),
            _ => None,
        }
    }
}

/// An answer in progress.
#[derive(Clone, Debug)]
pub struct PendingAnswer {
    /// The engine's id of the request.
    pub id: u64,
    /// The id of the conversation and the index of the answer in it.
    pub conversation: String,
    /// See `conversation`.
    pub node: usize,
    /// The time of the request, in seconds of the window's clock.
    pub since: f64,
    /// The time of the first token.
    pub first: Option<f64>,
    /// The number of prompt tokens, once known.
    pub prompt: usize,
    /// The number of prompt tokens that were read.
    pub read: usize,
    /// The number of generated tokens.
    pub tokens: usize,
    /// Whether the chat template opened a reasoning block.
    pub opened: bool,
    /// Whether the user pressed Stop.
    pub stopping: bool,
    /// The time when it was last saved.
    pub kept: f64,
}

/// A message that waits for the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The id of the conversation.
    pub conversation: String,
    /// The user's message to be answered, or the answer to be continued.
    pub node: usize,
}

/// A call of a tool that the user is asked about, or that runs.
#[derive(Clone, Debug, PartialEq)]
pub struct PendingCall {
    /// The id of the conversation, the index of the answer in it, and the index of the call in the answer.
    pub conversation: String,
    /// See `conversation`.
    pub node: usize,
    /// See `conversation`.
    pub call: usize,
    /// The server.
    pub server: String,
    /// The tool, as the server names it.
    pub tool: String,
    /// The arguments.
    pub arguments: Map<String, Value>,
    /// The number of the running call; `None` while the user is asked.
    pub running: Option<u64>,
}

/// The user's answer to the question before a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// Run this call.
    Once,
    /// Run this tool in this conversation without asking again.
    Always,
    /// Do not run it.
    Refuse,
}

/// The fields for a new server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerForm {
    /// Its name; empty for one that is derived from `text`.
    pub name: String,
    /// A command, an address, or JSON.
    pub text: String,
    /// Why `text` was not accepted.
    pub error: Option<String>,
}

/// MCP servers and their tools.
#[derive(Clone, Debug, Default)]
pub struct ToolsState {
    /// The servers that the user has set up.
    pub config: McpConfig,
    /// Those that are switched on.
    pub servers: BTreeMap<String, ServerState>,
    /// The pending calls, at most one of each conversation.
    pub calls: Vec<PendingCall>,
    /// The fields for a new server.
    pub form: ServerForm,
}

/// A file that will be sent with the next message.
#[derive(Clone, Debug, PartialEq)]
pub struct Attachment {
    /// The file.
    pub file: AttachedFile,
    /// The conversation.
    pub conversation: String,
    /// The number of its count.
    pub id: u64,
    /// Its tokens, once they are counted.
    pub tokens: Option<usize>,
}

/// A side panel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Panel {
    /// System prompt and sampling.
    Settings,
    /// MCP servers.
    Tools,
    /// Adapter and memory.
    Device,
    /// Times and probabilities.
    XRay,
}

/// A sampled token, and what else was likely.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenAlternatives {
    /// Its text, as far as it is text.
    pub text: String,
    /// The most likely tokens with their probabilities, best first; empty if they were not requested.
    pub top: Vec<(String, f32)>,
    /// Its own probability, if it was requested.
    pub probability: Option<f32>,
    /// Seconds since the answer was requested.
    pub seconds: f64,
}

impl TokenAlternatives {
    /// From an answer's event.
    pub fn new(token: &AnswerToken, top: Option<&[AnswerToken]>, seconds: f64) -> Self {
        let text = |token: &AnswerToken| String::from_utf8_lossy(&token.bytes).into_owned();
        TokenAlternatives {
            text: text(token),
            top: top.unwrap_or_default().iter().map(|t| (text(t), t.logprob.exp())).collect(),
            probability: top.is_some().then(|| token.logprob.exp()),
            seconds,
        }
    }
}

/// The contents of the X-ray panel.
#[derive(Clone, Debug, Default)]
pub struct XRay {
    /// The last tokens with their probabilities, oldest first.
    pub tokens: Vec<TokenAlternatives>,
    /// Tokens per second by context position.
    pub rates: Vec<[f64; 2]>,
    /// The last step's time by op, or why it is not available.
    pub ops: Option<Result<Vec<OpTime>, String>>,
    /// Whether a measurement is running.
    pub measuring: bool,
    /// Positions of the context that are filled.
    pub filled: usize,
}

/// How far a key scrolls the transcript.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scroll {
    /// By so many heights of the view.
    Pages(f32),
    /// By so many points.
    Points(f32),
    /// To the first message.
    Start,
}

/// A model in the picker.
#[derive(Clone, Debug)]
pub struct ModelEntry {
    /// Its place.
    pub place: Place,
    /// The file's size in bytes, if known before the header is read.
    pub bytes: Option<u64>,
    /// Its header; `None` until it is read.
    pub facts: Option<Result<Facts, String>>,
}

/// A download from the hub.
#[derive(Clone, Debug)]
pub struct Fetching {
    /// The name as the user typed it.
    pub wanted: String,
    /// The progress, once the size is known.
    pub step: Option<Fetched>,
    /// The time of the first bytes, in seconds of the window's clock, and the number of bytes resumed from.
    pub since: f64,
    /// See `since`.
    pub before: u64,
}

/// A message that disappears after a while.
#[derive(Clone, Debug)]
pub struct Toast {
    /// The message.
    pub text: String,
    /// Whether it reports an error.
    pub bad: bool,
    /// The time when it disappears, in seconds of the window's clock.
    pub until: f64,
}

/// A dialog over the window.
#[derive(Clone, Debug, PartialEq)]
pub enum Dialog {
    /// The model picker.
    Models,
    /// The list of shortcuts.
    Help,
    /// A new title for a conversation, by its id.
    Rename(String, String),
    /// A confirmation to delete a conversation, by its id.
    Delete(String),
    /// A confirmation to delete a downloaded model.
    DeleteModel(Place),
    /// A path for a text to be saved, where there is no file dialog.
    SaveAs(String, String),
}

/// The state of the window.
pub struct WindowState {
    /// Every conversation.
    pub conversations: Vec<SavedConversation>,
    /// The id of the current conversation.
    pub current: String,
    /// The search text of the list.
    pub search: String,
    /// The text in the composer.
    pub draft: String,
    /// The texts in the composers of other conversations, by their ids.
    pub drafts: HashMap<String, String>,
    /// The files in the composers.
    pub attached: Vec<Attachment>,
    /// A message being edited, with its new text.
    pub editing: Option<(usize, String)>,
    /// See [`EngineState`].
    pub engine: EngineState,
    /// The adapters.
    pub devices: Vec<Device>,
    /// The picker's models.
    pub models: Vec<ModelEntry>,
    /// The text in the picker's field: words to search for, a name on the hub, or a path.
    pub wanted: String,
    /// Models that can be downloaded: the short list, or what a search found.
    pub offers: Vec<ModelOffer>,
    /// The text that was searched for.
    pub searched: Option<String>,
    /// Whether a search is in progress.
    pub searching: bool,
    /// The download in progress.
    pub fetching: Option<Fetching>,
    /// Why the last search or download failed, or a typed path cannot be opened.
    pub fetch_failed: Option<String>,
    /// The answer in progress.
    pub answering: Option<PendingAnswer>,
    /// What will be answered next, once a model is loaded and no other answer is in progress. At most one of each
    /// conversation.
    pub waiting: Vec<Waiting>,
    /// Files of conversations that cannot be read.
    pub unreadable: Vec<String>,
    /// The conversation whose last answer failed, and why.
    pub failed: Option<(String, EngineFailure)>,
    /// Whether the list of conversations is visible.
    pub list: bool,
    /// Whether the window is too narrow for list and conversation side by side.
    pub narrow: bool,
    /// In a narrow window: whether the list replaces the conversation.
    pub drawer: bool,
    /// The open side panel.
    pub panel: Option<Panel>,
    /// The open dialog.
    pub dialog: Option<Dialog>,
    /// See [`Toast`].
    pub toast: Option<Toast>,
    /// See [`XRay`].
    pub xray: XRay,
    /// The presets, by name.
    pub presets: Vec<Preset>,
    /// The name in the field for a new preset.
    pub preset_name: String,
    /// The preset that is being renamed, with its new name.
    pub renaming: Option<(String, String)>,
    /// See [`ToolsState`].
    pub tools: ToolsState,
    /// Preferences that persist.
    pub remembered: Preferences,
    /// The window's clock, in seconds.
    pub now: f64,
    /// The current time, in milliseconds since 1970.
    pub time: u64,
    /// Whether the composer requests focus in the next frame.
    pub focus: bool,
    /// Whether the search field requests focus in the next frame.
    pub focus_search: bool,
    /// The message of the current conversation that the search has found. It is marked.
    pub found: Option<usize>,
    /// A message that the transcript scrolls to.
    pub reveal: Option<usize>,
    /// How far a key scrolls the transcript in the next frame.
    pub scroll: Option<Scroll>,
    /// Whether the transcript scrolls to its end in the next frame.
    pub to_end: bool,
    /// Whether the window is cleared to the background colour before drawing. The views then do not fill the
    /// background, which would take most of a frame on a software rasterizer.
    pub cleared: bool,
}

impl WindowState {
    /// The current conversation.
    pub fn conversation(&self) -> Option<&SavedConversation> {
        self.conversations.iter().find(|c| c.id == self.current)
    }

    /// The current conversation, mutable.
    pub fn conversation_mut(&mut self) -> Option<&mut SavedConversation> {
        self.conversations.iter_mut().find(|c| c.id == self.current)
    }

    /// The conversations that match the search, the last changed first.
    pub fn listed(&self) -> Vec<&SavedConversation> {
        let needle = self.search.trim().to_lowercase();
        let mut all: Vec<_> = self.conversations.iter().filter(|c| c.contains(&needle)).collect();
        all.sort_by_key(|c| std::cmp::Reverse(c.changed));
        all
    }

    /// Goes to the next message of the current conversation that contains the search text. Returns whether one does.
    pub fn find_next(&mut self) -> bool {
        let needle = self.search.trim().to_lowercase();
        let hit = |c: &SavedConversation, node: &usize| c.nodes[*node].text.to_lowercase().contains(&needle);
        let hits: Vec<usize> = match self.conversation() {
            Some(c) if !needle.is_empty() => c.path().into_iter().filter(|node| hit(c, node)).collect(),
            _ => Vec::new(),
        };
        let next = hits.iter().position(|node| Some(*node) == self.found).map_or(0, |at| (at + 1) % hits.len());
        self.found = hits.get(next).copied();
        self.reveal = self.found;
        self.found.is_some()
    }

    /// Shows another conversation, with its own text in the composer.
    pub fn switch(&mut self, id: String) {
        if id != self.current {
            let theirs = self.drafts.remove(&id).unwrap_or_default();
            let (left, draft) = (std::mem::replace(&mut self.current, id), std::mem::replace(&mut self.draft, theirs));
            self.drafts.insert(left, draft);
            self.found = None;
        }
    }

    /// The answer in progress in the current conversation.
    pub fn answering_here(&self) -> Option<&PendingAnswer> {
        self.answering.as_ref().filter(|a| a.conversation == self.current)
    }

    /// Twice the open model's context, at most the trained one; `None` if it has that.
    pub fn larger_context(&self) -> Option<u32> {
        let loaded = self.engine.loaded()?;
        let larger = (2 * loaded.context as u32).min(loaded.facts.trained.unwrap_or(u32::MAX));
        (larger as usize > loaded.context).then_some(larger)
    }

    /// The files in the composer.
    pub fn attached_here(&self) -> impl Iterator<Item = &Attachment> {
        self.attached.iter().filter(|attachment| attachment.conversation == self.current)
    }

    /// What waits in the current conversation.
    pub fn waiting_here(&self) -> Option<&Waiting> {
        self.waiting.iter().find(|w| w.conversation == self.current)
    }

    /// Whether the current conversation is answered, or waits for that or for a tool.
    pub fn busy_here(&self) -> bool {
        self.answering_here().is_some() || self.waiting_here().is_some() || self.pending_call().is_some()
    }

    /// The call in the current conversation that is asked about or runs.
    pub fn pending_call(&self) -> Option<&PendingCall> {
        self.tools.calls.iter().find(|call| call.conversation == self.current)
    }

    /// The call in the current conversation that the user is asked about.
    pub fn asking(&self) -> Option<&PendingCall> {
        self.pending_call().filter(|call| call.running.is_none())
    }
}

/// A user action that a view returns.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Start a new conversation.
    New,
    /// Show a conversation.
    Open(String),
    /// Rename a conversation.
    Rename(String, String),
    /// Delete a conversation.
    Delete(String),
    /// Send the composer's text.
    Send,
    /// Send this text.
    Say(String),
    /// Stop the answer in the current conversation, or take back the message that waits for one.
    Stop,
    /// Stop the loading of a model.
    StopLoading,
    /// Generate another answer as a sibling of this one.
    Again(usize),
    /// Answer this message.
    Resend(usize),
    /// Continue this answer.
    Continue(usize),
    /// Add an edited message as a sibling of the original, and answer it if it is the user's.
    Edit(usize, String),
    /// Switch to the branch of this message.
    Show(usize),
    /// Copy a text to the clipboard.
    Copy(String),
    /// Export the conversation to a file: as JSON if true, else as Markdown.
    Export(bool),
    /// Change the conversation's settings.
    Settings(Box<ConversationSettings>),
    /// Use the conversation's settings for new conversations.
    KeepSettings,
    /// Open a model.
    Load(Place),
    /// Show a file dialog for a model.
    Choose,
    /// Open the path, download the model or search for the words that the user typed.
    Find(String),
    /// Show the short list again.
    EndSearch,
    /// Read a model's header on the hub, to know whether it fits.
    AskFit(String),
    /// Download a model from the hub.
    Fetch(String),
    /// Remove a model from the list.
    Forget(Place),
    /// Delete a downloaded model.
    DeleteModel(Place),
    /// Save a text at a path.
    SaveAs(String, String),
    /// Cancel the download.
    EndFetch,
    /// Reload the model on this adapter with this context size.
    Reopen(Option<String>, Option<u32>),
    /// Open or close a dialog.
    Dialog(Option<Dialog>),
    /// Open or close a side panel.
    Panel(Panel),
    /// Show or hide the list of conversations.
    List,
    /// Profile the ops of a step.
    Measure,
    /// Choose the dark or the light theme, or follow the system.
    Dark(Option<bool>),
    /// Dismiss the last failure.
    Dismiss,
    /// Edit a message.
    BeginEdit(usize),
    /// Put the cursor into the search field.
    Search,
    /// Show the conversation that many rows below in the list.
    Neighbour(isize),
    /// Save the conversation's settings as the preset of this name.
    SavePreset(String),
    /// Begin a conversation with a preset.
    UsePreset(String),
    /// Rename a preset.
    RenamePreset(String, String),
    /// Delete a preset.
    DeletePreset(String),
    /// Show a file dialog for files to attach.
    Attach,
    /// Take back an attached file, by its number.
    Detach(u64),
    /// Answer the question before a call.
    Consent(Consent),
    /// Add the server in the panel's fields.
    AddServer,
    /// Put a server into the panel's fields.
    EditServer(String),
    /// Remove a server.
    RemoveServer(String),
    /// Switch a server on or off.
    SwitchServer(String, bool),
    /// Show a server's tool to the model, or hide it.
    SwitchTool(String, String, bool),
}
