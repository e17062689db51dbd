//! Models: `spec` reads what a checkpoint is, `decoder` and `blocks` record it as a graph, `load` fills the graph's
//! weights. Inference is in `session`.

pub mod arch;
mod blocks;
pub mod decoder;
pub mod expert_slots;
mod keys;
pub mod load;
pub mod purpose;
pub mod spec;
mod unread;

use std::path::Path;
use std::sync::Arc;

use crate::Result;
use crate::checkpoint::{Checkpoint, Source};
use crate::template::{ChatTemplate, Rendering, TemplateInput};
use crate::tokenizer::{Special, Tokenizer};
use serde_json::Value;
use spec::ModelSpec;

/// An opened model: its header, tokenizer and template. A [`Session`](crate::session::Session) loads the weights.
#[non_exhaustive]
pub struct Model {
    /// Metadata and tensors.
    pub checkpoint: Arc<Checkpoint>,
    /// The model's structure.
    pub spec: ModelSpec,
    /// Text to ids and back.
    pub tokenizer: Arc<Tokenizer>,
    /// Messages to a prompt.
    pub template: ChatTemplate,
    /// Warnings: ignored parts, an unknown pre-tokenizer, a guessed template.
    pub notices: Vec<String>,
}

impl Model {
    /// Opens a GGUF file (the first of a split one) or a Hugging Face folder.
    ///
    /// # Errors
    /// If it cannot be read, is damaged, or is of a kind that is not supported; the message says which.
    pub async fn open(path: &Path) -> Result<Self> {
        Self::from_checkpoint(Checkpoint::open(path).await?).await
    }

    /// As [`Model::open`], from byte sources (the shards of a GGUF file in order).
    ///
    /// # Errors
    /// As [`Model::open`].
    pub async fn from_sources(sources: Vec<Source>) -> Result<Self> {
        Self::from_checkpoint(Checkpoint::from_sources(sources).await?).await
    }

    /// As [`Model::open`], from an open checkpoint.
    ///
    /// # Errors
    /// If it is of a kind that is not supported, or lacks a tokenizer or tensors.
    pub async fn from_checkpoint(checkpoint: Checkpoint) -> Result<Self> {
        let spec = ModelSpec::read(&checkpoint).await?;
        let tokenizer = Tokenizer::from_checkpoint(&checkpoint)?;
        let (template, notice) = ChatTemplate::for_checkpoint(&checkpoint.metadata, &tokenizer)?;
        let notices = checkpoint.notices.iter().chain(tokenizer.notices()).cloned().chain(notice).collect();
        Ok(Model { checkpoint: Arc::new(checkpoint), spec, tokenizer: Arc::new(tokenizer), template, notices })
    }

    /// The tokens of a conversation in the model's chat format. BOS and EOS are the tokenizer's, unless `input` sets
    /// them.
    ///
    /// # Errors
    /// [`Error::Text`](crate::Error::Text) if the template refuses the messages.
    pub fn encode_chat(&self, input: TemplateInput) -> Result<Vec<u32>> {
        self.tokenizer.encode(&self.render_chat(input)?, Special::PARSE)
    }

    /// The text that [`Model::encode_chat`] tokenizes. Special tokens in messages of users and tools are escaped
    /// ([`Tokenizer::escape_special`]), so that a typed end token does not end a turn.
    ///
    /// # Errors
    /// As [`Model::encode_chat`].
    pub fn render_chat(&self, input: TemplateInput) -> Result<String> {
        Ok(self.render_conversation(input)?.text)
    }

    /// As [`Model::render_chat`], with the changes to the conversation that the template needed.
    ///
    /// # Errors
    /// As [`Model::encode_chat`].
    pub fn render_conversation(&self, mut input: TemplateInput) -> Result<Rendering> {
        let piece = |id: Option<u32>| id.and_then(|id| self.tokenizer.piece(id)).unwrap_or_default().to_string();
        for (token, id) in [(&mut input.bos_token, self.tokenizer.bos()), (&mut input.eos_token, self.tokenizer.eos())]
        {
            if token.is_empty() {
                *token = piece(id);
            }
        }
        let trusted = |message: &Value| ["system", "developer", "assistant"].iter().any(|r| message["role"] == *r);
        for message in input.messages.iter_mut().filter(|message| !trusted(message)) {
            if let Some(content) = message.get_mut("content") {
                escape_special(content, &self.tokenizer);
            }
        }
        let rendering = self.template.render_normal(&input)?;
        if !rendering.changes.is_empty() {
            tracing::info!("the chat template took the conversation with changes: {}", rendering.changes.join(", "));
        }
        Ok(rendering)
    }
}

/// Escapes special tokens in a message's content, which is a text or a list of parts.
fn escape_special(content: &mut Value, tokenizer: &Tokenizer) {
    match content {
        Value::String(text) => *text = tokenizer.escape_special(text),
        Value::Array(parts) => parts.iter_mut().for_each(|part| escape_special(part, tokenizer)),
        Value::Object(fields) => fields.values_mut().for_each(|field| escape_special(field, tokenizer)),
        _ => {}
    }
}
