//! Chat templates: messages to the prompt format that a model was trained on.
//!
//! A model's file contains its template as Jinja source written for Python. `minijinja` renders it, configured as
//! Hugging Face's `transformers` configures Jinja. `python_compat`, `tojson` and `rewrite` make up for the differences,
//! `builtin` has templates for files without one, and `normal_form` rewrites conversations that a template refuses.
//! Templates are untrusted: their steps, data and recursion are limited. Nothing here depends on models, and the caller
//! provides the date.

mod builtin;
mod lost_words;
mod normal_form;
mod python_compat;
mod rewrite;
mod tojson;
mod tool_calls;
mod tool_schemas;

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value};
use serde::Deserialize;

use crate::checkpoint::Metadata;
use crate::setters::setters;
use crate::text::without_mark;
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

pub use normal_form::Rendering;
pub use tool_calls::calls_as_text;

/// Minimum fuel of a rendering. minijinja takes about one unit per instruction; `python_compat` takes one per 64 bytes.
const BASE_FUEL: u64 = 1_000_000;
/// Additional fuel per byte of the input.
const FUEL_PER_BYTE: u64 = 8;
/// minijinja's recursion limit; a macro call counts about five. Low enough for a 1 MB stack (wasm).
const RECURSION: usize = 200;
/// Maximum length of a template in bytes; published ones are below 30 KB.
const MAX_SOURCE: usize = 1 << 20;

/// The error of a template that ran out of fuel.
const OUT_OF_FUEL: &str = "the chat template takes too long and was stopped; it may not terminate";

/// A compiled chat template.
pub struct ChatTemplate {
    env: Environment<'static>,
}

/// The variables of a rendering. Unknown JSON keys are passed to the template unchanged (`enable_thinking`).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct TemplateInput {
    /// `{"role": ..., "content": ...}` objects, as in the OpenAI API.
    pub messages: Vec<serde_json::Value>,
    /// Tool definitions, `{"type": "function", "function": {...}}`.
    pub tools: Option<Vec<serde_json::Value>>,
    /// End the prompt with the header of the assistant's answer.
    pub add_generation_prompt: bool,
    /// End the prompt with the text of the last message, without a generation prompt, so that the answer continues it.
    /// [`ChatTemplate::render`] ignores this; [`ChatTemplate::render_normal`] honours it.
    pub continue_final_message: bool,
    /// The text of the BOS token.
    pub bos_token: String,
    /// The text of the EOS token.
    pub eos_token: String,
    /// Today's date for templates that include it (`YYYY-MM-DD`, optionally with `THH:MM:SS`). Without it,
    /// `strftime_now` is undefined, and templates omit the date or use a fixed one.
    pub date: Option<String>,
    /// Additional variables.
    #[serde(flatten)]
    pub extra: serde_json::Map<String, serde_json::Value>,
}

impl TemplateInput {
    /// These messages, and the header of the answer to them.
    pub fn new(messages: Vec<serde_json::Value>) -> Self {
        TemplateInput { messages, add_generation_prompt: true, ..TemplateInput::default() }
    }
}

setters!(TemplateInput {
    messages: Vec<serde_json::Value>,
    tools: impl Into<Option<Vec<serde_json::Value>>>,
    add_generation_prompt: bool,
    continue_final_message: bool,
    bos_token: impl Into<String>,
    eos_token: impl Into<String>,
    date: impl Into<Option<String>>,
    extra: serde_json::Map<String, serde_json::Value>,
});

impl ChatTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// [`Error::Text`] if it is not valid Jinja, or uses a feature that minijinja does not have.
    pub fn new(source: &str) -> Result<Self> {
        // Converters copy templates unchanged, including a byte order mark.
        let source = without_mark(source);
        if source.len() > MAX_SOURCE {
            return Err(Error::text(format!("the chat template is {} bytes long, more than 1 MiB", source.len())));
        }
        let mut env = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(syntax_error)?;
        env.set_syntax(syntax);
        env.set_undefined_behavior(UndefinedBehavior::Lenient);
        env.set_recursion_limit(RECURSION);
        env.set_debug(false);
        python_compat::install(&mut env);
        env.add_template_owned("chat", rewrite::rewrite(source)?).map_err(syntax_error)?;
        Ok(ChatTemplate { env })
    }

    /// Compiles a built-in template: `chatml`, `llama2`, `llama3`, `mistral`, `gemma`, `phi3`, `zephyr`, `deepseek`,
    /// `vicuna`, `alpaca`.
    ///
    /// # Errors
    /// If there is no template of this name; the message lists the names.
    pub fn builtin(name: &str) -> Result<Self> {
        Self::new(builtin::source(name)?)
    }

    /// Compiles the template of a model's file. A file without one gets the built-in template that matches its special
    /// tokens, with a warning that names it.
    ///
    /// # Errors
    /// If the file's template does not compile.
    pub fn for_checkpoint(metadata: &Metadata, tokenizer: &Tokenizer) -> Result<(Self, Option<String>)> {
        if let Some(source) = metadata.get_str("tokenizer.chat_template")?.filter(|s| !s.trim().is_empty()) {
            return Ok((Self::new(source)?, None));
        }
        let name = builtin::guess(metadata.get_str("general.architecture")?.unwrap_or_default(), tokenizer);
        let notice = format!("the file has no chat template; its special tokens suggest {name:?}, which is used");
        Ok((Self::builtin(name)?, Some(notice)))
    }

    /// Renders the prompt.
    ///
    /// # Errors
    /// [`Error::Text`] if the template refuses the messages (`raise_exception`), fails, or takes too long.
    pub fn render(&self, input: &TemplateInput) -> Result<String> {
        let mut variables: BTreeMap<&str, Value> = BTreeMap::new();
        variables.extend(input.extra.iter().map(|(key, value)| (key.as_str(), Value::from(Serde(value)))));
        variables.extend([
            ("messages", Value::from(Serde(&input.messages))),
            ("tools", Value::from(Serde(&input.tools))),
            ("documents", Value::from(())),
            ("add_generation_prompt", Value::from(input.add_generation_prompt)),
            ("bos_token", Value::from(input.bos_token.as_str())),
            ("eos_token", Value::from(input.eos_token.as_str())),
        ]);
        if let Some(date) = &input.date {
            variables.insert("strftime_now", python_compat::strftime_now(date)?);
        }
        let mut env = self.env.clone();
        env.set_fuel(Some(BASE_FUEL.saturating_add(FUEL_PER_BYTE.saturating_mul(input.bytes()))));
        let template = env.get_template("chat").map_err(render_error)?;
        template.render(variables).map_err(render_error)
    }
}

/// Returns the `<think>` tag with which a prompt prefills the answer, including white space, or `""`. It is the
/// beginning of the answer, so show it with the answer.
pub fn prefilled_reasoning(prompt: &str) -> &str {
    let start = prompt.trim_end().strip_suffix("<think>").map_or(prompt.len(), str::len);
    &prompt[start..]
}

/// Closes a prefilled `<think>`, for an answer without reasoning.
pub const CLOSE_REASONING: &str = "\n</think>\n\n";

impl TemplateInput {
    /// Switches reasoning on or off with the variables that templates use for it, unless `extra` sets them.
    pub fn set_reasoning(&mut self, enabled: bool) {
        for name in ["enable_thinking", "thinking"] {
            self.extra.entry(name).or_insert(enabled.into());
        }
    }

    /// Approximate size of the input as text.
    fn bytes(&self) -> u64 {
        let sum = |values: &[serde_json::Value]| values.iter().map(json_bytes).sum::<u64>();
        sum(&self.messages)
            + sum(self.tools.as_deref().unwrap_or_default())
            + self.extra.values().map(json_bytes).sum::<u64>()
    }
}

fn json_bytes(value: &serde_json::Value) -> u64 {
    match value {
        serde_json::Value::String(text) => 8 + text.len() as u64,
        serde_json::Value::Array(items) => 8 + items.iter().map(json_bytes).sum::<u64>(),
        serde_json::Value::Object(map) => map.iter().map(|(key, v)| 8 + key.len() as u64 + json_bytes(v)).sum(),
        _ => 8,
    }
}

fn syntax_error(error: minijinja::Error) -> Error {
    Error::text(format!("the chat template does not compile: {error}; choose another with --template")).caused_by(error)
}

fn render_error(error: minijinja::Error) -> Error {
    if let Some(message) = python_compat::raised_message(&error) {
        return Error::text(format!("the chat template refuses: {message}"));
    }
    match error.kind() {
        ErrorKind::OutOfFuel => Error::text(OUT_OF_FUEL.to_owned()),
        _ => Error::text(format!("the chat template failed: {error}")).caused_by(error),
    }
}
