//! Chat templates: messages to the prompt a model was trained on.
//!
//! A model's file carries its template as Jinja text, written for Python. It is rendered by `minijinja`, set up as
//! Hugging Face's `transformers` sets up Jinja; `python` holds the differences between the two languages, `builtin` our
//! own templates for files without one, `normal` what is changed in conversations that a template refuses. A template is hostile input: its steps, its data and its recursion are bounded.
//! Nothing here knows of models, and the date comes from the caller.

mod builtin;
mod calls;
mod json;
mod loss;
mod normal;
mod python;
mod rewrite;
mod tools;

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value};
use serde::Deserialize;

use crate::checkpoint::Metadata;
use crate::text::without_mark;
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

pub use calls::tell;
pub use normal::Rendering;

/// What a render may cost at least, in minijinja's fuel: about one an instruction, and one for 64 bytes of data.
const BASE_FUEL: u64 = 1_000_000;
/// More for each byte of the input: long conversations take longer.
const FUEL_PER_BYTE: u64 = 8;
/// minijinja's recursion count; a macro call takes about five. Small enough for a 1 MB stack (wasm).
const RECURSION: usize = 200;
/// Longer templates are refused; published ones are below 30 KB.
const MAX_SOURCE: usize = 1 << 20;

/// The error of a template that was stopped.
const ENDLESS: &str = "the chat template does too much work; it may never end";

/// A compiled chat template.
pub struct ChatTemplate {
    env: Environment<'static>,
}

/// What a template is rendered with. The keys are those of the shared test cases and of a `CASE.json`; all others are
/// passed to the template as they are (`enable_thinking`).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct TemplateInput {
    /// `{"role": ..., "content": ...}` objects, as the OpenAI API has them.
    pub messages: Vec<serde_json::Value>,
    /// Tool definitions, `{"type": "function", "function": {...}}`.
    pub tools: Option<Vec<serde_json::Value>>,
    /// Whether the prompt ends where the assistant's answer begins.
    pub add_generation_prompt: bool,
    /// Whether the prompt ends where the last message's text does, so that the answer continues it; there is no
    /// generation prompt then. [`ChatTemplate::render`] knows nothing of it.
    pub continue_final_message: bool,
    /// The text of the BOS token.
    pub bos_token: String,
    /// The text of the EOS token.
    pub eos_token: String,
    /// Today, for templates that say it to the model (`YYYY-MM-DD`, or with `THH:MM:SS`). Without it `strftime_now` is
    /// not defined, and templates leave the date out or use one of their own.
    pub date: Option<String>,
    /// More variables.
    #[serde(flatten)]
    pub extra: serde_json::Map<String, serde_json::Value>,
}

impl ChatTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// [`Error::Text`] if it is no valid Jinja, or uses what minijinja lacks.
    pub fn new(source: &str) -> Result<Self> {
        // Converters copy templates into models as they find them.
        let source = without_mark(source);
        if source.len() > MAX_SOURCE {
            return Err(Error::Text(format!("the chat template is {} bytes long, more than 1 MiB", source.len())));
        }
        let mut env = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(syntax_error)?;
        env.set_syntax(syntax);
        env.set_undefined_behavior(UndefinedBehavior::Lenient);
        env.set_recursion_limit(RECURSION);
        env.set_debug(false);
        python::install(&mut env);
        env.add_template_owned("chat", rewrite::rewrite(source)?).map_err(syntax_error)?;
        Ok(ChatTemplate { env })
    }

    /// One of our own templates: `chatml`, `llama2`, `llama3`, `mistral`, `gemma`, `phi3`, `zephyr`, `deepseek`,
    /// `vicuna`, `alpaca`.
    ///
    /// # Errors
    /// If there is none of that name; the message lists them.
    pub fn builtin(name: &str) -> Result<Self> {
        Self::new(builtin::source(name)?)
    }

    /// The template for a model: the one its file carries, else one of ours that fits its tokens, with a notice that
    /// says which.
    ///
    /// # Errors
    /// If the file's template does not compile.
    pub fn for_checkpoint(metadata: &Metadata, tokenizer: &Tokenizer) -> Result<(Self, Option<String>)> {
        if let Some(source) = metadata.get_str("tokenizer.chat_template")?.filter(|s| !s.trim().is_empty()) {
            return Ok((Self::new(source)?, None));
        }
        let name = builtin::guess(metadata.get_str("general.architecture")?.unwrap_or_default(), tokenizer);
        let notice = format!("the file has no chat template; {name:?} is used, judged by its tokens");
        Ok((Self::builtin(name)?, Some(notice)))
    }

    /// The prompt.
    ///
    /// # Errors
    /// [`Error::Text`] if the template refuses the messages (`raise_exception`), fails, or runs too long.
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
            variables.insert("strftime_now", python::strftime_now(date)?);
        }
        let mut env = self.env.clone();
        env.set_fuel(Some(BASE_FUEL.saturating_add(FUEL_PER_BYTE.saturating_mul(input.bytes()))));
        let template = env.get_template("chat").map_err(render_error)?;
        template.render(variables).map_err(render_error)
    }
}

/// The end of a prompt that has begun the answer with a thought (`<think>` and white space), else nothing: who shows the
/// answer shows it, too.
pub fn begun_thought(prompt: &str) -> &str {
    let begin = prompt.trim_end().strip_suffix("<think>").map_or(prompt.len(), str::len);
    &prompt[begin..]
}

/// What ends a thought that a prompt has begun and that is not wanted.
pub const NO_THOUGHT: &str = "\n</think>\n\n";

impl TemplateInput {
    /// Asks for thoughts or for none, by the names that templates have for it, unless `extra` does already.
    pub fn think(&mut self, think: bool) {
        for name in ["enable_thinking", "thinking"] {
            self.extra.entry(name).or_insert(think.into());
        }
    }

    /// About how long the input is as text.
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
    Error::Text(format!("the chat template does not compile: {error}; choose another with --template"))
}

fn render_error(error: minijinja::Error) -> Error {
    if let Some(refusal) = python::refusal(&error) {
        return Error::Text(format!("the chat template refuses: {refusal}"));
    }
    match error.kind() {
        ErrorKind::OutOfFuel => Error::Text(ENDLESS.to_owned()),
        _ => Error::Text(format!("the chat template failed: {error}")),
    }
}
