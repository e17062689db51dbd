//! Turns HTTP requests into jobs of the engine: templates, tokens, grammars. This takes CPU time and may take much
//! stack, so it runs on separate threads, concurrently with the engine and HTTP.

use axum::http::StatusCode;
use firelight::conversation::{Prepared, Prompt, ResponseFormat};
use firelight::engine::{AnswerJob, EngineHandle};

use super::embeddings::Texts;
use super::http_error::HttpError;
use super::protocol::AnswerHead;
use super::request::AnswerRequest;

/// The bytes of text that one token of a vocabulary of short tokens may represent, such as that for unknown text.
const SHORTEST: usize = 16;

/// The model that is loaded.
pub struct LoadedModel {
    /// Its index in the registry.
    pub index: usize,
    pub engine: EngineHandle,
    /// Bytes of the longest token.
    longest: usize,
}

/// The answers to one prompt, by their numbers in the request. They share the prompt's cache.
pub type Group = Vec<(usize, AnswerJob)>;

impl LoadedModel {
    pub fn new(index: usize, engine: EngineHandle) -> Self {
        let tokenizer = &engine.model().tokenizer;
        let vocab = 0..tokenizer.vocab_size() as u32;
        let longest = vocab.map(|id| tokenizer.bytes(id, true).len()).max().unwrap_or(0).max(SHORTEST);
        LoadedModel { index, engine, longest }
    }

    /// Prepares the answers to each prompt of a request. `load_seconds` is how long it waited for the model.
    pub fn answers(&self, request: &AnswerRequest, load_seconds: f64) -> Result<(AnswerHead, Vec<Group>), HttpError> {
        let prompts: Vec<Prepared> =
            request.prompts.iter().map(|prompt| self.prompt(prompt, &request.format)).collect::<Result<_, _>>()?;
        for prompt in &prompts {
            self.check_length(prompt.tokens.len(), self.engine.context() - 1)?;
        }
        // All prompts of a request have the same rules.
        let rules = prompts.first().and_then(|prompt| prompt.rules.as_ref());
        let invalid = |error| HttpError { param: request.format.field(), ..HttpError::from(error) };
        let grammar = rules.map(|rules| self.engine.compile(rules)).transpose().map_err(invalid)?;
        let head = AnswerHead {
            prompt_tokens: prompts.iter().map(|prompt| prompt.tokens.len()).collect(),
            unenforced: grammar.as_ref().map(|grammar| grammar.unenforced.clone()).unwrap_or_default(),
            changes: prompts.iter().flat_map(|prompt| prompt.changes.clone()).collect(),
            load_seconds,
        };
        let job = |prompt: &Prepared, seed: usize| {
            let mut sampling = request.sampling.clone();
            sampling.seed = sampling.seed.wrapping_add(seed as u64);
            let job = AnswerJob::new(prompt.clone()).sampling(sampling).stop(request.stop.clone());
            job.max_tokens(request.max_tokens).grammar(grammar.clone())
        };
        let choices = request.choices;
        let group = |(i, prompt)| (0..choices).map(|j| (i * choices + j, job(prompt, j))).collect();
        Ok((head, prompts.iter().enumerate().map(group).collect()))
    }

    /// Prepares a prompt. One that cannot fit even at the longest token length is refused before it is tokenized.
    pub fn prompt(&self, prompt: &Prompt, format: &ResponseFormat) -> Result<Prepared, HttpError> {
        let context = self.engine.context();
        let fits = |text: &str| match text.len() / self.longest {
            least if least < context => Ok(()),
            least => Err(too_long("at least ", least, context)),
        };
        let dated = match prompt {
            Prompt::Conversation(chat) => Prompt::Conversation(chat.clone().date(super::today())),
            other => other.clone(),
        };
        dated.prepare(self.engine.model(), format, fits)
    }

    fn check_length(&self, len: usize, most: usize) -> Result<(), HttpError> {
        if len <= most { Ok(()) } else { Err(too_long("", len, self.engine.context())) }
    }

    /// The tokens of texts to be embedded.
    pub fn texts(&self, texts: &Texts) -> Result<Vec<Vec<u32>>, HttpError> {
        let read = |(i, prompt): (usize, &Prompt)| {
            let tokens = self.text(prompt, texts.truncate);
            tokens.map_err(|failure| match failure.status {
                StatusCode::BAD_REQUEST => HttpError::field(format!("input[{i}]"), failure.message),
                _ => failure,
            })
        };
        texts.prompts.iter().enumerate().map(read).collect()
    }

    fn text(&self, prompt: &Prompt, truncate: bool) -> Result<Vec<u32>, HttpError> {
        let context = self.engine.context();
        let mut tokens = match prompt {
            // Text that is truncated is not tokenized, either.
            Prompt::Text(text) if truncate => {
                let end = text.floor_char_boundary(self.longest.saturating_mul(context + 1));
                self.prompt(&Prompt::Text(text[..end].into()), &ResponseFormat::Text)?.tokens
            }
            prompt => self.prompt(prompt, &ResponseFormat::Text)?.tokens,
        };
        if truncate {
            tokens.truncate(context);
        }
        if tokens.is_empty() {
            return Err(HttpError::bad("it is empty"));
        }
        self.check_length(tokens.len(), context)?;
        Ok(tokens)
    }
}

fn too_long(how: &str, len: usize, context: usize) -> HttpError {
    let message = format!(
        "the prompt has {how}{len} tokens; the context of this server holds {context} with the answer. Shorten the \
         prompt, or start the server with a larger --context"
    );
    HttpError::new(StatusCode::BAD_REQUEST, "context_length_exceeded", message)
}
