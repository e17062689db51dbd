//! What the window and its engine say to each other: plain serde enums, the same through a channel (a thread, natively)
//! and through a worker's messages (in a tab). The window knows no more of the engine than this.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::conversation::AnswerEvent;
use crate::sampler::Sampling;

/// Where a model is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Place {
    /// The small model that comes with Firelight.
    BuiltIn,
    /// A GGUF file or a Hugging Face folder: natively its path, in a tab the name of a file that the user gave.
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

/// A file's name; of a whole repository in the hub's cache (`models--ORG--REPO/snapshots/COMMIT`) its own.
fn called(path: &str) -> String {
    let mut parts = path.rsplit(['/', '\\']);
    let (name, above, repo) = (parts.next().unwrap_or(path), parts.next(), parts.next());
    match (above, repo.and_then(|repo| repo.strip_prefix("models--"))) {
        (Some("snapshots"), Some(repo)) => repo.replacen("--", "/", 1),
        _ => name.to_string(),
    }
}

/// A message as chat templates want it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What it says.
    pub content: String,
}

/// How a model is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// An adapter's number in [`EngineEvent::Devices`]; by default the best.
    pub device: Option<String>,
    /// Positions; by default what fits, at most 4096.
    pub context: Option<u32>,
}

/// An answer that is wanted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ask {
    /// Comes back in every event about it.
    pub id: u64,
    /// The conversation, oldest first.
    pub messages: Vec<ChatMessage>,
    /// What the answer has said already: it is continued.
    pub begun: String,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Most tokens to say.
    pub max_tokens: Option<usize>,
    /// Whether each token's probabilities are wanted, which costs speed.
    pub probabilities: bool,
    /// Today, for templates that tell the model (`YYYY-MM-DD`).
    pub date: Option<String>,
}

/// What the window asks of its engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// List the adapters.
    Devices,
    /// List the model files of this machine's caches.
    Find,
    /// Read a model's header.
    Inspect(Place),
    /// Open a model, in place of the one that is open.
    Load(Place, Opening),
    /// Answer.
    Answer(Ask),
    /// End what is being done: an answer, or loading.
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
    /// Why it cannot be used, if so.
    pub unusable: Option<String>,
    /// A processor that pretends to be a GPU.
    pub software: bool,
    /// Largest binding in bytes.
    pub max_binding: u64,
}

/// Bytes on the GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The file's matrices.
    pub weights: u64,
    /// Keys and values of the context.
    pub kv: u64,
    /// Activations.
    pub activations: u64,
    /// The rest.
    pub other: u64,
}

impl Memory {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights + self.kv + self.activations + self.other
    }
}

/// Whether a model can run on the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fit {
    /// With this many positions and bytes.
    Fits(u32, u64),
    /// With fewer positions than wanted, and why.
    Less(u32, String),
    /// Not at all, and why.
    No(String),
    /// There is no device to ask.
    Unknown,
}

/// What a model's header says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The model's own name, or the file's.
    pub name: String,
    /// `general.architecture`.
    pub architecture: String,
    /// The type that most of its bytes have.
    pub dtype: String,
    /// Weights.
    pub parameters: u64,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// Positions that it was trained for, if the architecture is known.
    pub trained: Option<u32>,
    /// `general.license`.
    pub licence: Option<String>,
    /// Whether it runs here.
    pub fit: Fit,
}

/// A model that is open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Loaded {
    /// Where from.
    pub place: Place,
    /// What it is.
    pub facts: Facts,
    /// On which adapter.
    pub device: Device,
    /// Positions.
    pub context: usize,
    /// Where the bytes are.
    pub memory: Memory,
    /// Dispatches of a decode step.
    pub dispatches: usize,
    /// What the user should know.
    pub notices: Vec<String>,
}

/// One op of a measured step, all its dispatches together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpTime {
    /// The op.
    pub op: String,
    /// How many dispatches.
    pub count: usize,
    /// Their time.
    pub seconds: f64,
    /// Bytes that they read and wrote, the KV cache not counted.
    pub bytes: u64,
}

/// What the engine tells the window.
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
    /// A model could not be opened. There is none open now.
    LoadFailed(Place, String),
    /// The prompt is being read.
    Started {
        /// The answer.
        id: u64,
        /// Tokens of the prompt.
        prompt: usize,
        /// Whether the template has opened the model's reasoning.
        thinking: bool,
    },
    /// More of an answer, and the seconds since it was requested.
    Answer(u64, AnswerEvent, f64),
    /// An answer could not be given or completed.
    AnswerFailed(u64, String),
    /// A step was timed.
    Measured(Vec<OpTime>),
    /// It could not be.
    MeasureFailed(String),
    /// The device is gone, and the model with it.
    Lost(String),
    /// The engine ended by itself; another one must be started.
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
    }
}
