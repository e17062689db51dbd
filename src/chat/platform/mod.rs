//! The differences between the desktop and a tab, behind the same names: the engine's thread or worker, the storage of
//! conversations, files, the clock. Other modules do not depend on the platform.

#[cfg(not(target_arch = "wasm32"))]
mod fetch;
#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(target_arch = "wasm32")]
mod web;

use std::path::Path;
use std::sync::mpsc;

#[cfg(not(target_arch = "wasm32"))]
pub use fetch::*;
#[cfg(not(target_arch = "wasm32"))]
pub use native::*;
#[cfg(target_arch = "wasm32")]
pub use web::*;

use super::catalogue::{FitAnswer, ModelOffer};
use super::protocol::{Command, EngineEvent, Place};

/// Joins a saved text with one that is about to replace it.
pub type Combine = fn(kept: &str, ours: String) -> String;

/// The window's connection to a running engine, or to the thread of tools. Dropping it ends them.
pub struct Link<C = Command, E = EngineEvent> {
    send: Box<dyn Fn(C)>,
    events: mpsc::Receiver<E>,
}

impl<C, E> Link<C, E> {
    /// From a function that sends commands, and a receiver of events.
    pub fn new(send: impl Fn(C) + 'static, events: mpsc::Receiver<E>) -> Self {
        Link { send: Box::new(send), events }
    }

    /// Sends a command.
    pub fn send(&self, command: C) {
        (self.send)(command);
    }

    /// The next pending event, if any.
    pub fn poll(&self) -> Option<E> {
        self.events.try_recv().ok()
    }
}

/// Whether a file's name is that of a model.
fn is_model(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"))
}

/// The result of a file dialog or a download. A tab does not download.
#[cfg_attr(target_arch = "wasm32", allow(dead_code))]
pub enum Chosen {
    /// A model to open.
    Model(Place),
    /// The name and bytes of a file to attach, or why it cannot be read.
    Attached(Result<(String, Vec<u8>), String>),
    /// A file was written, or the error.
    Saved(Result<String, String>),
    /// The progress of a download.
    Fetching(Fetched),
    /// A model was downloaded, or the error.
    Fetched(Result<Place, String>),
    /// The models that the hub found for a search text, or the error.
    Searched(String, Result<Vec<ModelOffer>, String>),
    /// Whether the model of this name fits.
    Fit(String, FitAnswer),
    /// No file dialog can be shown; the text would have been saved under this name.
    NoDialog(Option<(String, String)>),
}

/// The progress of a download.
#[derive(Clone, Debug, PartialEq)]
pub struct Fetched {
    /// The file.
    pub name: String,
    /// Downloaded bytes.
    pub done: u64,
    /// Total bytes.
    pub total: u64,
    /// Whether the download is complete and its hash is being checked.
    pub checking: bool,
}
