//! How answers are generated and shown. Arguments of `run` set it at the start, `/set` in a chat.

use std::path::Path;

use firelight::Error;
use firelight::conversation::grammar::GrammarCompiler;
use firelight::conversation::{Conversation, Prepared, Prompt, ResponseFormat};
use firelight::engine::{AnswerJob, Engine};
use firelight::model::Model;
use firelight::sampler::Sampling;
use serde_json::{Value, json};

use super::answer::View;
use super::input::read_text;
use super::term::{self, Failure};
use super::{Result, text};

/// How to answer.
pub struct Settings {
    pub sampling: Sampling,
    pub stop: Vec<String>,
    pub max_tokens: Option<usize>,
    pub think: Option<bool>,
    pub format: ResponseFormat,
    pub view: View,
    /// Whether how long an answer took is printed after it.
    pub stats: bool,
}

impl Settings {
    /// The prompt for the assistant's next answer.
    pub fn prompt(&self, model: &Model, messages: Vec<Value>) -> Result<Prepared> {
        self.prepare(&conversation(messages, self.think), model)
    }

    /// Tokenizes a prompt. The model's output is printed verbatim, and not parsed.
    pub fn prepare(&self, prompt: &Prompt, model: &Model) -> Result<Prepared> {
        let fits = |_: &str| Ok::<_, firelight::Error>(());
        Ok(prompt.prepare(model, &self.format, fits)?.unparsed())
    }

    pub fn job(&self, engine: &Engine, prompt: Prepared) -> Result<AnswerJob> {
        let grammar = prompt.rules.as_ref().map(|rules| engine.compile(rules)).transpose()?;
        let (sampling, stop) = (self.sampling.clone(), self.stop.clone());
        Ok(AnswerJob::new(prompt).sampling(sampling).stop(stop).max_tokens(self.max_tokens).grammar(grammar))
    }

    /// Fails if no answer can have the format, and prints what of its schema is not enforced. Called before the model
    /// is loaded, which takes longer.
    pub fn check_format(&self, model: &Model) -> Result {
        let Some(rules) = self.prepare(&Prompt::Text(String::new()), model)?.rules else { return Ok(()) };
        let compiler = GrammarCompiler::new(&model.tokenizer).map_err(Error::Unsupported)?;
        let unenforced = rules.compile(&compiler).map_err(Error::Usage)?.unenforced;
        if !unenforced.is_empty() {
            term::note(&format!("answers may not follow these parts of the schema: {}", unenforced.join(", ")));
        }
        Ok(())
    }

    /// How an answer is shown: JSON as it is.
    pub fn view(&self) -> View {
        match self.format {
            ResponseFormat::Text => self.view,
            _ => View { markdown: false, wrap: false },
        }
    }

    /// Says so if the model's template has no switch for the reasoning that was asked for.
    pub fn check_think(&self, model: &Model) -> Result {
        let Some(think) = self.think else { return Ok(()) };
        let tokens = |think| {
            let prompt = conversation(vec![message("user", "Hi")], Some(think));
            Ok::<_, Failure>(self.prepare(&prompt, model)?.tokens)
        };
        if tokens(true)? == tokens(false)? {
            let switch = if think { "on" } else { "off" };
            term::note(&format!("this model has no switch for reasoning: turning it {switch} has no effect"));
        }
        Ok(())
    }
}

fn conversation(messages: Vec<Value>, think: Option<bool>) -> Prompt {
    Prompt::Conversation(Conversation::new(messages).reasoning(think).date(Some(text::today())))
}

/// A message in the format of chat templates.
pub fn message(role: &str, text: &str) -> Value {
    json!({ "role": role, "content": text })
}

/// Reads a response format: `json`, a JSON schema, or `@` and a file with one.
pub fn response_format(text: &str) -> Result<ResponseFormat> {
    let (schema, of) = match text.strip_prefix('@') {
        Some(path) => (read_text(Path::new(path))?, path),
        None if text.eq_ignore_ascii_case("json") => (r#"{"type": "object"}"#.into(), text),
        None => (text.into(), text),
    };
    let wrong = |why: String| Failure::usage(format!("{of} is not {why}. Give json, a JSON schema, or @FILE with one"));
    match serde_json::from_str(&schema) {
        Ok(schema @ Value::Object(_)) => Ok(ResponseFormat::JsonSchema("--format".into(), schema)),
        Ok(_) => Err(wrong("a JSON object".into())),
        Err(error) => Err(wrong(format!("a JSON schema: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_words_schemas_or_files() {
        let schema = |text: &str| match response_format(text) {
            Ok(ResponseFormat::JsonSchema(_, schema)) => Some(schema),
            _ => None,
        };
        assert_eq!(schema("json"), Some(json!({ "type": "object" })));
        assert_eq!(schema("JSON"), schema("json"));
        assert_eq!(schema(r#"{"type": "array"}"#), Some(json!({ "type": "array" })));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("schema.json");
        std::fs::write(&path, r#"{"type": "string"}"#).unwrap();
        assert_eq!(schema(&format!("@{}", path.display())), Some(json!({ "type": "string" })));
        assert!(["", "yaml", "[]", "@/nonexistent"].iter().all(|text| schema(text).is_none()));
    }
}
