//! The conversation: its messages and its model, and what commands do to them. A full context drops the oldest turns.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use firelight::Error;
use firelight::conversation::{Prepared, read_messages};
use firelight::engine::{Engine, ModelRef};
use firelight::model::Model;
use firelight::session::{SessionOptions, Timings};
use serde_json::{Value, json};

use super::Opener;
use crate::cli::answer::{answer, speed};
use crate::cli::input::read_text;
use crate::cli::output::{self, Content};
use crate::cli::settings::{Settings, message};
use crate::cli::term::{self, Failure};
use crate::cli::{Result, args, hub, text};

/// A conversation with a model.
pub struct Chat {
    /// `None` only while another model is loaded.
    engine: Option<Engine>,
    place: ModelRef,
    opener: Opener,
    pub settings: Settings,
    pub system: Option<String>,
    messages: Vec<Value>,
    /// The first message that is still sent to the model.
    first: usize,
    /// Files that go before the next message.
    attached: String,
    last: Option<Timings>,
}

impl Chat {
    pub fn new(engine: Engine, place: ModelRef, settings: Settings, system: Option<String>, opener: Opener) -> Self {
        Chat {
            engine: Some(engine),
            place,
            opener,
            settings,
            system,
            messages: Vec::new(),
            first: 0,
            attached: String::new(),
            last: None,
        }
    }

    /// The engine, and how many positions are filled.
    pub fn end(self) -> Result<(Engine, usize)> {
        let filled = self.filled();
        Ok((self.engine.ok_or_else(unloaded)?, filled))
    }

    pub fn engine(&self) -> Result<&Engine> {
        self.engine.as_ref().ok_or_else(unloaded)
    }

    fn context(&self) -> Result<usize> {
        Ok(self.engine()?.session()?.context())
    }

    fn filled(&self) -> usize {
        // The last token was never stored.
        self.last.map_or(0, |t| t.prompt_tokens + t.generated_tokens.saturating_sub(1))
    }

    /// `demo on NVIDIA GeForce RTX 4070, context 4096 tokens`
    pub fn describe(&self) -> Result<String> {
        let name = match &self.place {
            ModelRef::BuiltIn => self.place.to_string(),
            ModelRef::Path(path) => path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
        };
        let (gpu, context) = (self.engine()?.gpu(), self.context()?);
        Ok(format!("{name} on {}, context {context} tokens", gpu.adapter().name))
    }

    /// How long the last answer took, and how full the context is.
    pub fn stats(&self) -> Result<String> {
        let used = format!("{} of {} tokens of the context are used", self.filled(), self.context()?);
        Ok(self.last.map_or(used.clone(), |timings| format!("{}\n{used}", speed(&timings))))
    }

    /// One turn.
    pub async fn say(&mut self, line: &str) -> Result {
        let attached = std::mem::take(&mut self.attached);
        self.messages.push(message("user", &format!("{attached}{line}")));
        if !self.answer().await? {
            self.messages.pop();
            self.attached = attached;
        }
        Ok(())
    }

    /// Answers the last message again, with another seed.
    pub async fn regenerate(&mut self) -> Result {
        let Some(last) = self.last_user() else {
            term::note("there is no message to answer again");
            return Ok(());
        };
        if self.settings.sampling.temperature == 0.0 {
            term::note("the temperature is 0, so the answer is the same; /set parameter temperature 0.8 varies it");
        }
        let before = self.messages.split_off(last + 1);
        self.settings.sampling.seed = self.settings.sampling.seed.wrapping_add(1);
        if !self.answer().await? {
            self.messages.extend(before);
        }
        Ok(())
    }

    /// Answers the last message. Returns whether it did: an error that the user can correct is printed. Others, such as
    /// a lost device, end the chat.
    async fn answer(&mut self) -> Result<bool> {
        let before = self.first;
        match self.try_answer().await {
            Err(Failure::Error(
                error @ (Error::ContextFull { .. } | Error::Text { .. } | Error::Unsupported(_) | Error::Usage(_)),
            )) => {
                self.first = before;
                term::note(&format!("{error}. Your message was not sent."));
                Ok(false)
            }
            answered => answered.map(|()| true),
        }
    }

    async fn try_answer(&mut self) -> Result {
        let (prompt, context) = (self.prompt()?, self.context()?);
        let engine = self.engine.as_mut().ok_or_else(unloaded)?;
        let job = self.settings.job(engine, prompt)?;
        let answer = answer(engine, job, self.settings.view()).await?;
        if !answer.ends_line {
            writeln!(io::stdout())?;
        }
        let larger = "/set parameter num_ctx";
        answer.cut(context, larger).into_iter().for_each(|why| term::aside(&format!("[{why}]")));
        answer.report(self.settings.sampling.seed, self.settings.stats);
        self.last = Some(answer.timings);
        self.messages.push(message("assistant", without_reasoning(&answer.text)));
        Ok(())
    }

    /// The prompt of the last message, with as much of the conversation before it as leaves room for an answer.
    fn prompt(&mut self) -> Result<Prepared> {
        let (context, before) = (self.context()?, self.first);
        let room = self.settings.max_tokens.map_or(context / 4, |n| n.min(context / 4)).max(1);
        let prompt = loop {
            let prompt = self.settings.prompt(self.engine()?.model(), self.sent())?;
            let tokens = prompt.tokens.len();
            // Half of the context is freed at once, because what remains is read again.
            let most = if self.first == before { context - room } else { (context / 2).min(context - room) };
            match self.next_turn(self.first) {
                Some(next) if tokens > most => self.first = next,
                _ if tokens >= context => {
                    return Err(Failure::usage(format!(
                        "your message is too long: with the system prompt it has {tokens} tokens, and the context \
                         {context}. Shorten it, or enlarge the context: /set parameter num_ctx {}",
                        (tokens + room).next_power_of_two()
                    )));
                }
                _ => break prompt,
            }
        };
        let dropped = self.messages[before..self.first].iter().filter(|m| m["role"] == "user").count();
        if dropped > 0 {
            let turns = if dropped == 1 { "turn is" } else { &format!("{dropped} turns are") };
            term::note(&format!(
                "the context of {context} tokens is full: the oldest {turns} no longer sent to the model"
            ));
        }
        Ok(prompt)
    }

    /// The messages that the model gets.
    fn sent(&self) -> Vec<Value> {
        self.with_system(&self.messages[self.first..])
    }

    fn with_system(&self, messages: &[Value]) -> Vec<Value> {
        let system = self.system.iter().map(|text| message("system", text));
        system.chain(messages.iter().cloned()).collect()
    }

    /// The message that begins the turn after the one at `from`.
    fn next_turn(&self, from: usize) -> Option<usize> {
        (from + 1..self.messages.len()).find(|i| self.messages[*i]["role"] == "user")
    }

    fn last_user(&self) -> Option<usize> {
        self.messages.iter().rposition(|m| m["role"] == "user")
    }

    pub fn clear(&mut self) {
        self.messages.clear();
        self.attached.clear();
        (self.first, self.last) = (0, None);
        term::aside("Conversation cleared.");
    }

    /// Removes the last message and its answer.
    pub fn undo(&mut self) {
        let Some(last) = self.last_user() else { return term::note("there is nothing to undo") };
        let start: String = self.messages[last]["content"].as_str().unwrap_or_default().chars().take(40).collect();
        self.messages.truncate(last);
        self.first = self.first.min(self.last_user().unwrap_or(0));
        self.last = None;
        term::aside(&format!("Removed {start:?} and its answer."));
    }

    /// Adds a text file to the next message.
    pub fn read(&mut self, path: &str) {
        match read_text(Path::new(path)) {
            Ok(text) => {
                self.attached += &format!("{}\n\n", text.trim_end());
                term::aside(&format!("Added {path} to your next message."));
            }
            Err(failure) => failure.print(),
        }
    }

    pub fn save(&self, path: &str) {
        let messages = self.with_system(&self.messages);
        let text = format!("{:#}\n", json!({ "messages": messages, "date": text::today() }));
        match self.write(path, &text) {
            Ok(()) => term::aside(&format!("Saved {} to {path}.", count(messages.len()))),
            Err(failure) => failure.print(),
        }
    }

    fn write(&self, path: &str, text: &str) -> Result {
        let mut output = output::create(Path::new(path), Content::Other, Some(&self.place))?;
        output.write_all(text.as_bytes())?;
        Ok(output.finish()?)
    }

    /// Loads a conversation that was saved, or a model.
    pub async fn load(&mut self, name: &str) -> Result {
        let is_json = Path::new(name).extension().is_some_and(|end| end.eq_ignore_ascii_case("json"));
        if !is_json {
            return self.change_model(name).await;
        }
        match read_conversation(name) {
            Ok((system, messages)) => {
                (self.system, self.messages, self.first, self.last) = (system, messages, 0, None);
                term::aside(&format!("Loaded {} from {name}.", count(self.messages.len())));
            }
            Err(failure) => failure.print(),
        }
        Ok(())
    }

    /// Continues with another model. If it cannot be loaded, the old one is loaded again.
    pub async fn change_model(&mut self, name: &str) -> Result {
        let (place, model) = match self.find_model(name).await {
            Ok(found) => found,
            Err(failure) => {
                failure.print();
                return Ok(());
            }
        };
        if self.open(model, self.opener.session.clone()).await? {
            self.place = place;
            term::aside(&format!("Now {}.", self.describe()?));
        }
        Ok(())
    }

    async fn find_model(&self, name: &str) -> Result<(ModelRef, Arc<Model>)> {
        let place = hub::find(Path::new(name), self.opener.offline.offline).await?;
        let model = Arc::new(args::open_model(&place).await?);
        args::say_template(&model);
        self.settings.check_think(&model)?;
        Ok((place, model))
    }

    /// Loads the model again with another context.
    pub async fn change_context(&mut self, context: u32) -> Result {
        let (model, old) = (self.engine()?.model().clone(), self.opener.session.clone());
        self.opener.session = old.clone().context(context);
        match self.open(model, self.opener.session.clone()).await? {
            true => term::aside(&format!("Now {}.", self.describe()?)),
            false => self.opener.session = old,
        }
        Ok(())
    }

    /// Loads a model in place of the current one, which is loaded again if that fails. Returns whether it was loaded.
    async fn open(&mut self, model: Arc<Model>, session: SessionOptions) -> Result<bool> {
        let engine = self.engine.take().ok_or_else(unloaded)?;
        let (gpu, old_model) = (engine.gpu(), engine.model().clone());
        let old_context = u32::try_from(engine.session()?.context()).ok();
        // Both may not fit.
        drop(engine);
        self.last = None;
        let device = &self.opener.device;
        match args::open_engine(gpu.clone(), model, device, session.clone()).await {
            Ok(engine) => {
                (self.engine, self.first) = (Some(engine), 0);
                Ok(true)
            }
            Err(failure) => {
                failure.print();
                self.engine = Some(args::open_engine(gpu, old_model, device, session.context(old_context)).await?);
                term::note(&format!("continuing with {}", self.describe()?));
                Ok(false)
            }
        }
    }

    /// `3 messages`
    pub fn length(&self) -> String {
        count(self.messages.len())
    }
}

fn unloaded() -> Failure {
    Failure::from(Error::Gpu("no model is loaded".into()))
}

fn count(messages: usize) -> String {
    format!("{messages} message{}", if messages == 1 { "" } else { "s" })
}

/// The system prompt and the messages of a file: an object with `messages`, or a list of them.
fn read_conversation(path: &str) -> Result<(Option<String>, Vec<Value>)> {
    let wrong = |why: String| Failure::usage(format!("{path} is not a saved conversation: {why}"));
    let text = read_text(Path::new(path))?;
    let mut file: Value = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let messages = if file.is_array() { file } else { file["messages"].take() };
    let Value::Array(messages) = messages else { return Err(wrong("it has no \"messages\"".into())) };
    let mut messages = read_messages(messages).map_err(|error| wrong(error.to_string()))?;
    let has_system = messages.first().is_some_and(|first| first["role"] == "system");
    let system = has_system.then(|| messages.remove(0)["content"].as_str().unwrap_or_default().to_string());
    Ok((system, messages))
}

/// An answer in the prompts of later turns: without its reasoning, even if the reasoning is incomplete.
fn without_reasoning(text: &str) -> &str {
    match text.split_once("</think>") {
        Some((_, answer)) => answer.trim_start(),
        None if text.trim_start().starts_with("<think>") => "",
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn reasoning_is_not_sent_again() {
        assert_eq!(without_reasoning("<think>\nHm.\n</think>\n\nYes. "), "Yes. ");
        assert_eq!(without_reasoning(" Yes."), " Yes.");
        assert_eq!(without_reasoning("<think>\nHm."), "");
    }

    #[test]
    fn conversations_are_read_as_they_are_saved() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chat.json");
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            read_conversation(path.to_str().unwrap()).ok()
        };
        let user = message("user", "Hi");
        let saved = json!({ "messages": [message("system", "Brief."), user], "date": "2026-01-01T00:00:00" });
        assert_eq!(read(&saved.to_string()), Some((Some("Brief.".into()), vec![user.clone()])));
        assert_eq!(read(&json!([user]).to_string()), Some((None, vec![user])));
        assert!(["", "{}", "[1]", "{\"messages\": 1}"].iter().all(|text| read(text).is_none()));
    }
}
