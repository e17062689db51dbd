//! The interactive chat of `run`: lines in, answers out, and a few commands.
//!
//! Every turn sends the whole conversation; the session reuses the part in its prefix cache.

use std::borrow::Cow;
use std::io::{self, Write};
use std::path::Path;

use firelight::engine::{Engine, ModelRef};
use firelight::session::{FinishReason, Timings};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Editor};
use serde_json::{Value, json};

use super::output::{self, Content};
use super::run::{self, Settings, message};
use super::term::{self, Failure};
use super::{Result, text};

const HELP: &str = "\
/system [TEXT]  what the model is told before the conversation; without TEXT: show it
/reset          forget the conversation
/seed N         choose with this seed from now on
/stats          how long the last answer took, and how full the context is
/save FILE      write the conversation as JSON (`firelight template` reads it)
/help           this list
/quit           end; so does Ctrl-D
A line that ends in \\ goes on in the next one; so does all between two \"\"\". Ctrl-C ends an answer.";

const COMMANDS: [&str; 7] = ["/help", "/quit", "/reset", "/save ", "/seed ", "/stats", "/system "];

/// A conversation.
struct Chat<'a> {
    engine: &'a mut Engine,
    place: &'a ModelRef,
    settings: Settings,
    system: Option<String>,
    messages: Vec<Value>,
    last: Option<Timings>,
}

/// Runs the chat until the user ends it. Returns the number of filled positions.
pub async fn run(engine: &mut Engine, place: &ModelRef, settings: Settings, system: Option<String>) -> Result<usize> {
    let mut editor: Editor<Lines, DefaultHistory> = Editor::new().map_err(terminal_failed)?;
    editor.set_helper(Some(Lines));
    let mut chat = Chat { engine, place, settings, system, messages: Vec::new(), last: None };
    let _ = writeln!(io::stderr(), "Type a message, or /help.");
    let mut interrupted = false;
    loop {
        let line = match editor.readline("> ") {
            Ok(line) => line,
            Err(ReadlineError::Eof) => break,
            // Ctrl-C just after the end of an answer was meant for the answer.
            Err(ReadlineError::Interrupted) if !interrupted => {
                term::note("Ctrl-C once more, or Ctrl-D, ends the conversation");
                interrupted = true;
                continue;
            }
            Err(ReadlineError::Interrupted) => return Err(Failure::Interrupted),
            Err(error) => return Err(terminal_failed(error)),
        };
        interrupted = false;
        // Fails only for a history of limited size.
        let _ = editor.add_history_entry(line.as_str());
        let line = join(&line);
        match Input::parse(&line) {
            Input::Nothing => {}
            Input::Quit => break,
            Input::Command(name, rest) => chat.command(name, rest)?,
            Input::Message => chat.say(&line).await?,
        }
    }
    Ok(chat.filled())
}

fn terminal_failed(error: ReadlineError) -> Failure {
    Failure::usage(format!("the terminal cannot be read: {error}; give the prompt as an argument"))
}

impl Chat<'_> {
    /// One turn. Prints errors; only a lost device ends the chat.
    async fn say(&mut self, line: &str) -> Result {
        self.messages.push(message("user", line));
        match self.answer().await {
            Ok(text) => self.messages.push(message("assistant", without_thoughts(&text))),
            Err(Failure::Error(error @ (firelight::Error::ContextFull { .. } | firelight::Error::Text { .. }))) => {
                self.messages.pop();
                term::note(&format!("{error}. The message was taken back; /reset begins anew"));
            }
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    async fn answer(&mut self) -> Result<String> {
        let system = self.system.iter().map(|text| message("system", text));
        let messages: Vec<Value> = system.chain(self.messages.iter().cloned()).collect();
        let prompt = self.settings.prompt(self.engine.model(), messages)?;
        let answer = run::answer(self.engine, self.settings.job(prompt)).await?;
        writeln!(io::stdout(), "{}", if answer.reason == FinishReason::Cancelled { " [stopped]" } else { "" })?;
        answer.report(self.engine.session()?.context(), self.settings.sampling.seed);
        self.last = Some(answer.timings);
        Ok(answer.text)
    }

    fn filled(&self) -> usize {
        self.last.map_or(0, |t| t.prompt_tokens + t.generated_tokens)
    }

    fn command(&mut self, name: &str, rest: &str) -> Result {
        let mut out = io::stderr();
        match name {
            "/help" => writeln!(out, "{HELP}")?,
            "/reset" => {
                self.messages.clear();
                self.last = None;
            }
            "/system" if rest.is_empty() => {
                writeln!(out, "{}", self.system.as_deref().unwrap_or("nothing is said before the conversation"))?
            }
            "/system" => self.system = Some(rest.to_string()),
            "/seed" => match rest.parse() {
                Ok(seed) => self.settings.sampling.seed = seed,
                Err(_) => term::note("a whole number is expected: /seed 42"),
            },
            "/stats" => {
                if let Some(timings) = &self.last {
                    writeln!(out, "{}", run::speed(timings))?;
                }
                writeln!(out, "{} of {} positions are filled", self.filled(), self.engine.session()?.context())?;
            }
            "/save" if rest.is_empty() => term::note("a file name is expected: /save chat.json"),
            "/save" => self.save(rest),
            _ => term::note(&format!("{name} is no command; /help lists them")),
        }
        Ok(())
    }

    fn save(&self, path: &str) {
        let system = self.system.iter().map(|text| message("system", text));
        let messages: Vec<Value> = system.chain(self.messages.iter().cloned()).collect();
        let text = format!("{:#}\n", json!({ "messages": messages, "date": text::today() }));
        match self.write(path, &text) {
            Ok(()) => term::note(&format!("{} messages are in {path}", messages.len())),
            Err(failure) => drop(failure.report()),
        }
    }

    fn write(&self, path: &str, text: &str) -> Result {
        let mut output = output::create(Path::new(path), Content::Other, Some(self.place))?;
        output.write_all(text.as_bytes())?;
        Ok(output.finish()?)
    }
}

/// An answer in the prompts of later turns: without its reasoning, even if the reasoning is incomplete.
fn without_thoughts(text: &str) -> &str {
    match text.split_once("</think>") {
        Some((_, answer)) => answer.trim_start(),
        None if text.trim_start().starts_with("<think>") => "",
        None => text,
    }
}

/// The kind of a line.
#[derive(Debug, PartialEq)]
enum Input<'a> {
    Nothing,
    Quit,
    Command(&'a str, &'a str),
    Message,
}

impl<'a> Input<'a> {
    fn parse(line: &'a str) -> Self {
        let line = line.trim();
        // A path or a comment may begin with a slash: commands are one word of letters.
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let is_command = name.strip_prefix('/').is_some_and(|n| n.chars().all(|c| c.is_ascii_lowercase()));
        match name {
            "" => Input::Nothing,
            "/quit" | "/exit" | "/bye" => Input::Quit,
            _ if is_command => Input::Command(name, rest.trim()),
            _ => Input::Message,
        }
    }
}

/// Whether more lines belong to a message: a `"""` is open, or the last line ends in a backslash.
fn goes_on(text: &str) -> bool {
    text.matches("\"\"\"").count() % 2 == 1 || text.ends_with('\\')
}

/// The text of a message of several lines, without the markers of continuation.
fn join(text: &str) -> Cow<'_, str> {
    let text = text.trim();
    match text.strip_prefix("\"\"\"").and_then(|t| t.strip_suffix("\"\"\"")) {
        Some(inner) => inner.trim_matches('\n').into(),
        None if text.contains("\\\n") => text.replace("\\\n", "\n").into(),
        None => text.into(),
    }
}

/// Validates for the line editor whether a message is complete, and completes commands.
struct Lines;

impl Validator for Lines {
    fn validate(&self, context: &mut ValidationContext) -> rustyline::Result<ValidationResult> {
        let incomplete = goes_on(context.input());
        Ok(if incomplete { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}

impl Completer for Lines {
    type Candidate = String;

    fn complete(&self, line: &str, _: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let fitting = COMMANDS.iter().filter(|c| line.starts_with('/') && c.starts_with(line));
        Ok((0, fitting.map(|c| c.to_string()).collect()))
    }
}

impl Hinter for Lines {
    type Hint = String;
}
impl Highlighter for Lines {}
impl rustyline::Helper for Lines {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_messages_or_commands() {
        assert_eq!(Input::parse("  "), Input::Nothing);
        assert_eq!(Input::parse("/quit"), Input::Quit);
        assert_eq!(Input::parse("/system  Be brief. "), Input::Command("/system", "Be brief."));
        assert_eq!(Input::parse("/wrong"), Input::Command("/wrong", ""));
        assert_eq!(Input::parse("/etc/passwd is what?"), Input::Message);
        assert_eq!(Input::parse("// a comment"), Input::Message);
        assert_eq!(Input::parse("hello /quit"), Input::Message);
    }

    #[test]
    fn messages_go_on_after_a_backslash_and_within_quotes() {
        assert!(goes_on("a \\") && goes_on("\"\"\"a\nb") && !goes_on("\"\"\"a\nb\"\"\"") && !goes_on("a"));
        assert_eq!(join("one \\\ntwo"), "one \ntwo");
        assert_eq!(join("\"\"\"\none\n\n two\n\"\"\""), "one\n\n two");
        assert_eq!(join(" \"quoted\" "), "\"quoted\"");
    }

    #[test]
    fn thoughts_are_not_told_again() {
        assert_eq!(without_thoughts("<think>\nHm.\n</think>\n\nYes. "), "Yes. ");
        assert_eq!(without_thoughts(" Yes."), " Yes.");
        assert_eq!(without_thoughts("<think>\nHm."), "");
    }

    #[test]
    fn every_completed_command_is_explained() {
        for command in COMMANDS {
            assert!(HELP.contains(command.trim()), "{command}");
        }
    }
}
