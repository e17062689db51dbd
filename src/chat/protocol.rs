//! The messages between the window and its engine: plain serde enums, sent through a channel (to a thread, natively) or
//! as a worker's messages (in a tab). They are the window's only access to the engine.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::tools::SavedToolCall;
use crate::Error;
use crate::conversation::AnswerEvent;
use crate::sampler::Sampling;

/// The location of a model.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Place {
    /// The small model that comes with Firelight.
    BuiltIn,
    /// A GGUF file or a Hugging Face folder: natively its path, in a tab the name of a file that the user opened.
    File(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::BuiltIn => f.write_str(crate::demo::NAME),
            Place::File(path) => f.write_str(&called(path)),
        }
    }
}

impl Place {
    /// The name without the ending and part number of a file.
    pub fn stem(&self) -> String {
        let name = self.to_string();
        match (crate::checkpoint::split_name(&name), name.strip_suffix(".gguf")) {
            (Some((stem, ..)), _) | (None, Some(stem)) => stem.to_string(),
            (None, None) => name,
        }
    }
}

/// A file's name; the repository's name for a folder in the hub's cache (`models--ORG--REPO/snapshots/COMMIT`).
fn called(path: &str) -> String {
    let mut parts = path.rsplit(['/', '\\']);
    let (name, above, repo) = (parts.next().unwrap_or(path), parts.next(), parts.next());
    match (above, repo.and_then(|repo| repo.strip_prefix("models--"))) {
        (Some("snapshots"), Some(repo)) => repo.replacen("--", "/", 1),
        _ => name.to_string(),
    }
}

/// A message in the format of chat templates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// Its text.
    pub content: String,
    /// The calls of an assistant's message.
    pub tool_calls: Vec<SavedToolCall>,
    /// The call whose result a tool's message is.
    pub tool_call_id: Option<String>,
}

impl ChatMessage {
    /// A text.
    pub fn new(role: &str, content: impl Into<String>) -> Self {
        ChatMessage { role: role.into(), content: content.into(), ..ChatMessage::default() }
    }
}

/// The options for opening a model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// An adapter's number in [`EngineEvent::Devices`]; by default the best.
    pub device: Option<String>,
    /// Positions; by default what fits, at most 4096.
    pub context: Option<u32>,
}

/// A request for an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ask {
    /// The id in every event about it.
    pub id: u64,
    /// The conversation, oldest first.
    pub messages: Vec<ChatMessage>,
    /// The tools that the model may call, in the format of chat templates.
    pub tools: Vec<Value>,
    /// The beginning of an answer to be continued.
    pub begun: String,
    /// The sampling parameters.
    pub sampling: Sampling,
    /// The maximum number of tokens.
    pub max_tokens: Option<usize>,
    /// Whether to report each token's probabilities, which costs speed.
    pub probabilities: bool,
    /// The current date (`YYYY-MM-DD`), for templates that include it.
    pub date: Option<String>,
}

/// A command of the window to its engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// List the adapters.
    Devices,
    /// List the model files of this machine's caches.
    Find,
    /// Read a model's header.
    Inspect(Place),
    /// Open a model in place of the open one.
    Load(Place, Opening),
    /// Answer.
    Answer(Ask),
    /// Count the tokens of a text; the number returns with the count.
    Count(u64, String),
    /// Stop the current answer or loading.
    Stop,
    /// Time each op of a decode step at this position.
    Measure(usize),
}

/// An adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Vulkan, Metal, Dx12, Gl or BrowserWebGpu.
    pub backend: String,
    /// Discrete, integrated, virtual, software or unknown.
    pub kind: String,
    /// Driver and version.
    pub driver: String,
    /// The tier of kernels.
    pub tier: String,
    /// Why not a higher tier; empty for the highest.
    pub why_not_higher: String,
    /// Why it cannot be used; `None` if it can.
    pub unusable: Option<String>,
    /// Whether it is a software adapter, which runs on the CPU.
    pub software: bool,
    /// Largest binding in bytes.
    pub max_binding: u64,
}

/// Bytes on the GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Weights.
    pub weights: u64,
    /// The KV cache.
    pub kv: u64,
    /// Activations.
    pub activations: u64,
    /// The rest.
    pub other: u64,
}

impl Memory {
    /// The total.
    pub fn total(&self) -> u64 {
        self.weights + self.kv + self.activations + self.other
    }
}

/// Whether a model can run on the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fit {
    /// With this many positions and bytes.
    Fits(u32, u64),
    /// With fewer positions than requested, and why.
    Less(u32, String),
    /// Not at all, and why.
    No(String),
    /// Unknown, because no device is open.
    Unknown,
}

/// A failure of the engine, and what helps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineFailure {
    /// What is wrong.
    pub why: String,
    /// The remedy that the window offers in addition to trying again.
    pub remedy: Remedy,
}

/// What helps against a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Remedy {
    /// Nothing in particular.
    None,
    /// A larger context.
    LargerContext,
    /// A smaller context.
    SmallerContext,
    /// Another model: this one cannot be opened.
    OtherModel,
}

impl EngineFailure {
    /// A failure.
    pub fn new(why: impl Into<String>, remedy: Remedy) -> Self {
        EngineFailure { why: why.into(), remedy }
    }
}

impl From<&Error> for EngineFailure {
    fn from(error: &Error) -> Self {
        let remedy = match error {
            Error::ContextFull { .. } => Remedy::LargerContext,
            Error::DoesNotFit { .. } | Error::Memory(_) => Remedy::SmallerContext,
            Error::Io { .. } | Error::Format { .. } | Error::Unsupported(_) => Remedy::OtherModel,
            _ => Remedy::None,
        };
        EngineFailure::new(error.to_string(), remedy)
    }
}

/// Facts from a model's header.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The name of its file or repository, without `.gguf`.
    pub name: String,
    /// `general.name`, if it says something else.
    pub title: Option<String>,
    /// `general.architecture`.
    pub architecture: String,
    /// The weight type with the most bytes.
    pub dtype: String,
    /// The number of weights.
    pub parameters: u64,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// The trained context length, if the architecture is known.
    pub trained: Option<u32>,
    /// `general.license`.
    pub licence: Option<String>,
    /// Whether it fits the device.
    pub fit: Fit,
}

/// An open model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Loaded {
    /// Its location.
    pub place: Place,
    /// Facts from its header.
    pub facts: Facts,
    /// Its adapter.
    pub device: Device,
    /// Positions.
    pub context: usize,
    /// Its memory use.
    pub memory: Memory,
    /// Dispatches of a decode step.
    pub dispatches: usize,
    /// Warnings for the user.
    pub notices: Vec<String>,
}

/// One op of a measured step, all its dispatches together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpTime {
    /// The op.
    pub op: String,
    /// The number of its dispatches.
    pub count: usize,
    /// Their time.
    pub seconds: f64,
    /// Bytes that they read and wrote, without the KV cache.
    pub bytes: u64,
}

/// An event of the engine for the window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum EngineEvent {
    /// The adapters, best first.
    Devices(Vec<Device>),
    /// Model files and their sizes.
    Found(Vec<(Place, u64)>),
    /// A header, or why it cannot be read.
    Inspected(Place, Result<Facts, String>),
    /// Opening a model: bytes read, and bytes to read (0 while shaders are compiled).
    Loading(Place, u64, u64),
    /// A model is open.
    Loaded(Box<Loaded>),
    /// A model could not be opened; none is open now.
    LoadFailed(Place, EngineFailure),
    /// A text has been counted, if a model is open.
    Counted(u64, Option<usize>),
    /// The prompt is being read.
    Started {
        /// The answer.
        id: u64,
        /// Tokens of the prompt.
        prompt: usize,
        /// Whether the template has opened the model's reasoning.
        thinking: bool,
    },
    /// So many tokens of an answer's prompt are read.
    Read(u64, usize),
    /// More of an answer, and the seconds since it was requested.
    Answer(u64, AnswerEvent, f64),
    /// An answer could not be given or completed.
    AnswerFailed(u64, EngineFailure),
    /// A step was timed.
    Measured(Vec<OpTime>),
    /// A step could not be timed.
    MeasureFailed(String),
    /// The device is gone, and the model with it.
    Lost(String),
    /// The engine ended unexpectedly; another one must be started.
    Crashed(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_have_names() {
        let named = |path: &str| Place::File(path.into()).to_string();
        assert_eq!(named("/hub/models--Qwen--Qwen3-0.6B/snapshots/0123"), "Qwen/Qwen3-0.6B");
        assert_eq!(named("/hub/models--Qwen--Qwen3-GGUF/snapshots/0123/q4.gguf"), "q4.gguf");
        assert_eq!(named(r"C:\models\a.gguf"), "a.gguf");
        assert_eq!(Place::BuiltIn.to_string(), "demo");
        assert_eq!(Place::File("/hub/q4-00001-of-00003.gguf".into()).stem(), "q4");
        assert_eq!(Place::File("/hub/SmolLM2-135M-Instruct.Q4_1.gguf".into()).stem(), "SmolLM2-135M-Instruct.Q4_1");
    }
}
