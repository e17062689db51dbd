//! The chat window: an egui app for the desktop and, compiled to wasm, for a browser tab. Feature `chat`.
//!
//! [`App`] owns the state. `view` draws it: functions of the state that return actions. The engine runs on a thread or
//! in a worker (`engine`) and exchanges `protocol`'s plain enums with the app, so a slow or lost GPU never blocks the
//! window. `store` saves conversations; `platform` holds every difference between desktop and tab. The window uses only
//! the crate's public API, and opens connections only to the hub, when the user downloads a model, and to the MCP
//! servers (`tools`) that the user has switched on.

mod app;
mod attach;
mod bidi;
mod catalogue;
mod engine;
mod facts;
mod icons;
mod merge;
mod platform;
mod protocol;
mod state;
mod store;
mod text;
mod theme;
mod tools;
mod view;

pub use app::App;
pub use attach::AttachedFile;
pub use catalogue::{FitAnswer, ModelOffer};
#[cfg(not(target_arch = "wasm32"))]
pub use platform::open;
#[cfg(target_arch = "wasm32")]
pub use platform::start;
pub use platform::{Fetched, Link, Storage, start_engine, start_tools};
pub use protocol::*;
pub use state::{
    Action, Attachment, Consent, Dialog, EngineState, Fetching, ModelEntry, Panel, PendingAnswer, PendingCall, Scroll,
    ServerForm, Toast, ToolsState, Waiting, WindowState, XRay,
};
pub use store::{ConversationSettings, MessageNode, Preferences, Preset, Role, SavedConversation, Stats};
pub use tools::{McpConfig, McpServer, McpTool, SavedToolCall, ServerState, ToolCommand, ToolEvent};
