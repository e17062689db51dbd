//! The chat window: an egui app for the desktop and, compiled to wasm, for a tab. Feature `chat`.
//!
//! [`App`] holds the state and draws it; `view` has its parts, functions of the state that return actions. The engine
//! runs elsewhere (`engine`, on a thread or in a worker) and is spoken to in `protocol`'s plain enums, so that neither a
//! slow nor a lost GPU stops the window. `store` keeps conversations, `platform` is all that differs between desktop and
//! tab. The window uses the crate's public API only, and connects to nothing but the hub, when a model is asked of it.

mod app;
mod bidi;
mod engine;
mod facts;
mod icons;
mod platform;
mod protocol;
mod state;
mod store;
mod text;
mod theme;
mod view;

pub use app::App;
#[cfg(not(target_arch = "wasm32"))]
pub use platform::open;
#[cfg(target_arch = "wasm32")]
pub use platform::start;
pub use platform::{Fetched, Link, Storage, start_engine};
pub use protocol::*;
pub use state::{Action, Answering, Dialog, Engine, Entry, Fetching, Panel, State, Toast, XRay};
pub use store::{Conversation, Node, Remembered, Role, Settings, Stats};
