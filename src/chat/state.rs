//! All that the window knows, and all that a view may ask for. Views read the state and return actions; `app` acts.

use super::platform::Fetched;
use super::protocol::{Device, Facts, Loaded, OpTime, Place, Token};
use super::store::{Conversation, Remembered, Settings};

/// What the engine is at.
#[derive(Clone, Debug)]
pub enum Engine {
    /// There is no model.
    Empty,
    /// A model is being opened.
    Loading {
        /// Which.
        place: Place,
        /// Bytes read.
        done: u64,
        /// Bytes to read; 0 while shaders are compiled.
        total: u64,
        /// When the first byte was read, in seconds of the window's clock.
        since: f64,
    },
    /// A model is open.
    Ready(Box<Loaded>),
    /// A model could not be opened, or was lost.
    Failed(Option<Place>, String),
}

impl Engine {
    /// The open model.
    pub fn loaded(&self) -> Option<&Loaded> {
        match self {
            Engine::Ready(loaded) => Some(loaded),
            _ => None,
        }
    }
}

/// An answer on its way.
#[derive(Clone, Debug)]
pub struct Answering {
    /// The engine's number for it.
    pub id: u64,
    /// The conversation's id, and the answer's place in it.
    pub conversation: String,
    /// See `conversation`.
    pub node: usize,
    /// When it was asked for, in seconds of the window's clock.
    pub since: f64,
    /// When the first token came.
    pub first: Option<f64>,
    /// Tokens of the prompt, once it is known.
    pub prompt: usize,
    /// Tokens that have come.
    pub tokens: usize,
    /// The template has opened the reasoning.
    pub opened: bool,
    /// Stop was pressed.
    pub stopping: bool,
    /// When it was last kept.
    pub kept: f64,
}

/// What is shown at the right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Panel {
    /// System prompt and sampling.
    Settings,
    /// Adapter and memory.
    Device,
    /// Times and probabilities.
    XRay,
}

/// What the x-ray panel shows.
#[derive(Clone, Debug, Default)]
pub struct XRay {
    /// The last tokens with their probabilities, oldest first.
    pub tokens: Vec<Token>,
    /// Tokens a second at positions of the context.
    pub rates: Vec<[f64; 2]>,
    /// The last step's time, by op, or why there is none.
    pub ops: Option<Result<Vec<OpTime>, String>>,
    /// It is being measured.
    pub measuring: bool,
    /// Positions of the context that are filled.
    pub filled: usize,
}

/// A model in the picker.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where.
    pub place: Place,
    /// Bytes of the file, if known before its header.
    pub bytes: Option<u64>,
    /// Its header; `None` until it was read.
    pub facts: Option<Result<Facts, String>>,
}

/// A fetch from the hub.
#[derive(Clone, Debug)]
pub struct Fetching {
    /// What is fetched, as the user wrote it.
    pub wanted: String,
    /// How far it is, once it is known what there is.
    pub step: Option<Fetched>,
    /// When its first bytes came, in seconds of the window's clock, and how many were there before.
    pub since: f64,
    /// See `since`.
    pub before: u64,
}

/// A line that appears and goes away by itself.
#[derive(Clone, Debug)]
pub struct Toast {
    /// What it says.
    pub text: String,
    /// Whether it is about something that went wrong.
    pub bad: bool,
    /// When it goes, in seconds of the window's clock.
    pub until: f64,
}

/// What is shown over everything else.
#[derive(Clone, Debug, PartialEq)]
pub enum Dialog {
    /// The model picker.
    Models,
    /// The list of shortcuts.
    Help,
    /// A new title for a conversation, by its id.
    Rename(String, String),
    /// Whether a conversation is to be deleted, by its id.
    Delete(String),
}

/// All that the window knows.
pub struct State {
    /// Every conversation.
    pub conversations: Vec<Conversation>,
    /// The id of the one that is shown.
    pub current: String,
    /// What is looked for in the list.
    pub search: String,
    /// The message being written.
    pub draft: String,
    /// A message being edited, with its new text.
    pub editing: Option<(usize, String)>,
    /// See [`Engine`].
    pub engine: Engine,
    /// The adapters.
    pub devices: Vec<Device>,
    /// The picker's models.
    pub models: Vec<Entry>,
    /// The name in the picker's box for models on the hub.
    pub wanted: String,
    /// A fetch on its way.
    pub fetching: Option<Fetching>,
    /// Why the last fetch failed.
    pub fetch_failed: Option<String>,
    /// The answer on its way.
    pub answering: Option<Answering>,
    /// A conversation that waits for a model to answer its last message.
    pub waiting: Option<String>,
    /// Why the last answer could not be given, by its conversation.
    pub failed: Option<(String, String)>,
    /// Whether the list is shown beside the conversation.
    pub list: bool,
    /// Whether the window is too narrow for that.
    pub narrow: bool,
    /// Whether the list is shown instead of the conversation, then.
    pub drawer: bool,
    /// What is shown at the right.
    pub panel: Option<Panel>,
    /// What is shown over everything else.
    pub dialog: Option<Dialog>,
    /// See [`Toast`].
    pub toast: Option<Toast>,
    /// See [`XRay`].
    pub xray: XRay,
    /// What outlives the window.
    pub remembered: Remembered,
    /// Seconds of the window's clock.
    pub now: f64,
    /// Milliseconds since 1970.
    pub time: u64,
    /// The composer takes the keyboard in the next frame.
    pub focus: bool,
    /// The transcript goes to its end in the next frame.
    pub to_end: bool,
    /// Whether the window is cleared with its background before it is drawn. Then nothing paints it: filling pixels takes
    /// most of a frame where the processor draws.
    pub cleared: bool,
}

impl State {
    /// The conversation that is shown.
    pub fn conversation(&self) -> Option<&Conversation> {
        self.conversations.iter().find(|c| c.id == self.current)
    }

    /// The same, to be changed.
    pub fn conversation_mut(&mut self) -> Option<&mut Conversation> {
        self.conversations.iter_mut().find(|c| c.id == self.current)
    }

    /// The answer on its way in the conversation that is shown.
    pub fn answering_here(&self) -> Option<&Answering> {
        self.answering.as_ref().filter(|a| a.conversation == self.current)
    }
}

/// What a view asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// A new conversation.
    New,
    /// Show a conversation.
    Open(String),
    /// Give a conversation a title.
    Rename(String, String),
    /// Delete a conversation.
    Delete(String),
    /// Send what is written.
    Send,
    /// Send this.
    Say(String),
    /// End the answer, or loading.
    Stop,
    /// Another answer beside this one.
    Again(usize),
    /// An answer to this message.
    Resend(usize),
    /// Go on with this answer.
    Continue(usize),
    /// Put an edited message beside the old one, and answer it if it is the user's.
    Edit(usize, String),
    /// Show this message and what follows it.
    Show(usize),
    /// Put a text on the clipboard.
    Copy(String),
    /// Write the conversation to a file: as JSON, or else as Markdown.
    Export(bool),
    /// Change the conversation's settings.
    Settings(Box<Settings>),
    /// Make the conversation's settings those of new ones.
    KeepSettings,
    /// Open a model.
    Load(Place),
    /// Ask for a model file.
    Choose,
    /// Fetch a model from the hub.
    Fetch(String),
    /// End the fetch.
    EndFetch,
    /// Open the model again on this adapter with this context.
    Reopen(Option<String>, Option<u32>),
    /// Show or hide something.
    Dialog(Option<Dialog>),
    /// Show or hide a panel.
    Panel(Panel),
    /// Show or hide the list.
    List,
    /// Time the ops of a step.
    Measure,
    /// Dark, light, or as the system has it.
    Dark(Option<bool>),
    /// The last failure was read.
    Dismiss,
}
