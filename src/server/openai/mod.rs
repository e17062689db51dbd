//! OpenAI's chat completions, completions and models.

mod chat;
mod common;
mod completions;
mod models;

pub use chat::chat;
#[cfg(test)]
pub use chat::read_chat;
pub use common::{MISSING, choose_tools, likeliest, likely};
pub use completions::{completions, prompts};
pub use models::{model, models};
