//! What differs between the desktop and a tab, behind the same names: where the engine runs, where conversations are
//! kept, files, the clock. Nothing above asks which of the two it is.

#[cfg(not(target_arch = "wasm32"))]
mod fetch;
#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(target_arch = "wasm32")]
mod web;

use std::sync::mpsc;

#[cfg(not(target_arch = "wasm32"))]
pub use fetch::*;
#[cfg(not(target_arch = "wasm32"))]
pub use native::*;
#[cfg(target_arch = "wasm32")]
pub use web::*;

use super::protocol::{Command, EngineEvent, Place};

/// The two ends of a running engine that the window holds. Dropping it ends the engine.
pub struct Link {
    send: Box<dyn Fn(Command)>,
    events: mpsc::Receiver<EngineEvent>,
}

impl Link {
    /// Of a way to send commands, and the events that come back.
    pub fn new(send: impl Fn(Command) + 'static, events: mpsc::Receiver<EngineEvent>) -> Self {
        Link { send: Box::new(send), events }
    }

    /// Sends a command.
    pub fn send(&self, command: Command) {
        (self.send)(command);
    }

    /// The next event that has come, if any.
    pub fn poll(&self) -> Option<EngineEvent> {
        self.events.try_recv().ok()
    }
}

/// What a file dialog or a fetch came to. A tab does not fetch.
#[cfg_attr(target_arch = "wasm32", allow(dead_code))]
pub enum Chosen {
    /// A model to open.
    Model(Place),
    /// A file was written, or why not.
    Saved(Result<String, String>),
    /// How far a fetch is.
    Fetching(Fetched),
    /// A model was fetched, or why not.
    Fetched(Result<Place, String>),
}

/// How far a fetch is.
#[derive(Clone, Debug, PartialEq)]
pub struct Fetched {
    /// The file.
    pub name: String,
    /// Bytes that are here.
    pub done: u64,
    /// Bytes that there are.
    pub total: u64,
    /// They are being checked, no longer fetched.
    pub checking: bool,
}
