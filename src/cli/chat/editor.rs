//! The line that is typed: its prompt, completion, and a history that is kept from one chat to the next.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::path::PathBuf;

use etcetera::base_strategy::{BaseStrategy, choose_native_strategy};
use rustyline::completion::{Completer, FilenameCompleter, unescape};
use rustyline::config::{CompletionType, Config};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::{Hint, Hinter};
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{Context, Editor};

use super::commands;
use crate::cli::term::{self, Failure};
use crate::cli::{Result, tty};

const PROMPT: &str = "> ";
/// The prompt of a message's further lines.
const FURTHER: &str = "... ";
/// Shown while nothing is typed.
const PLACEHOLDER: &str = "Type a message, or /? for help";
/// Lines that the history keeps.
const KEPT: usize = 1000;

/// What was typed.
pub enum Line {
    /// A message or a command, of one or more lines. `quoted` if it stood between `"""`.
    Text { text: String, quoted: bool },
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-D.
    End,
}

/// Reads lines.
pub struct LineEditor {
    editor: Editor<Assistant, DefaultHistory>,
    /// The file of the history, if this machine has a place for it.
    history: Option<PathBuf>,
    /// Whether what is typed goes into the history.
    pub keeps_history: bool,
}

impl LineEditor {
    pub fn open() -> Result<Self> {
        let config = Config::builder()
            .completion_type(CompletionType::List)
            .history_ignore_space(true)
            .max_history_size(KEPT)
            .and_then(|config| config.history_ignore_dups(true))
            .map_err(failed)?
            .build();
        let mut editor = Editor::with_config(config).map_err(failed)?;
        let colours = term::colours(&io::stdout());
        editor.set_helper(Some(Assistant { colours, files: FilenameCompleter::new() }));
        let history = history_file();
        if let Some(file) = &history {
            // In the first chat there is none yet.
            let _ = editor.load_history(file);
        }
        Ok(LineEditor { editor, history, keeps_history: true })
    }

    /// Reads a line, or several: up to the closing `"""`, or while they end in a backslash.
    pub fn read(&mut self) -> Result<Line> {
        let mut text = match self.read_line(PROMPT)? {
            Line::Text { text, .. } => text,
            other => return Ok(other),
        };
        while goes_on(&text) {
            match self.read_line(FURTHER)? {
                Line::Text { text: more, .. } => text = text + "\n" + &more,
                // Ctrl-C and Ctrl-D give up the message, not the chat.
                _ => return Ok(Line::Text { text: String::new(), quoted: false }),
            }
        }
        if self.keeps_history {
            self.add_history(&text);
        }
        let (text, quoted) = join(&text);
        Ok(Line::Text { text: text.into_owned(), quoted })
    }

    fn read_line(&mut self, prompt: &str) -> Result<Line> {
        match self.editor.readline(prompt) {
            Ok(text) => Ok(Line::Text { text, quoted: false }),
            Err(ReadlineError::Eof) => Ok(Line::End),
            Err(ReadlineError::Interrupted) => Ok(Line::Interrupt),
            Err(error) => Err(failed(error)),
        }
    }

    fn add_history(&mut self, text: &str) {
        // Only a history in a database fails.
        let _ = self.editor.add_history_entry(text.trim_end());
        let Some(file) = &self.history else { return };
        let folder = file.parent().map_or(Ok(()), fs::create_dir_all);
        // rustyline makes the file readable for its owner only.
        if let Err(error) = folder.map_err(ReadlineError::from).and_then(|()| self.editor.append_history(file)) {
            tracing::info!("the history cannot be kept in {}: {error}", file.display());
        }
    }
}

/// The file that was typed: without quotes and the backslashes that completion puts before blanks, and with the home
/// folder for `~`.
pub fn file_name(typed: &str) -> String {
    let quoted = ['"', '\''].iter().find_map(|quote| typed.strip_prefix(*quote)?.strip_suffix(*quote));
    if let Some(name) = quoted {
        return name.to_string();
    }
    let name = unescape(typed, cfg!(unix).then_some('\\'));
    match (name.strip_prefix("~/"), etcetera::home_dir()) {
        (Some(rest), Ok(home)) => home.join(rest).display().to_string(),
        _ => name.into_owned(),
    }
}

fn failed(error: ReadlineError) -> Failure {
    Failure::usage(format!("the terminal cannot be read: {error}; give the prompt as an argument"))
}

/// `~/.local/share/firelight/history` on Linux, and the usual place elsewhere.
fn history_file() -> Option<PathBuf> {
    Some(choose_native_strategy().ok()?.data_dir().join("firelight/history"))
}

/// Whether more lines belong to a message: a `"""` is open, or the last line ends in a backslash.
fn goes_on(text: &str) -> bool {
    text.matches("\"\"\"").count() % 2 == 1 || text.ends_with('\\')
}

/// The message that was typed as several lines, without the marks that made it several; and whether it was quoted.
fn join(text: &str) -> (Cow<'_, str>, bool) {
    let text = text.trim();
    match text.strip_prefix("\"\"\"").and_then(|t| t.strip_suffix("\"\"\"")) {
        Some(inner) => (inner.trim_matches('\n').into(), true),
        None if text.contains("\\\n") => (text.replace("\\\n", "\n").into(), false),
        None => (text.into(), false),
    }
}

/// Completes, hints and colours.
struct Assistant {
    colours: bool,
    files: FilenameCompleter,
}

impl Completer for Assistant {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, context: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        if !commands::takes_file(line) {
            return Ok(commands::complete(&line[..at]));
        }
        let (start, files) = self.files.complete(line, at, context)?;
        Ok((start, files.into_iter().map(|file| file.replacement).collect()))
    }
}

/// A text that is shown, but cannot be taken over.
struct Placeholder;

impl Hint for Placeholder {
    fn display(&self) -> &str {
        PLACEHOLDER
    }

    fn completion(&self) -> Option<&str> {
        None
    }
}

impl Hinter for Assistant {
    type Hint = Placeholder;

    fn hint(&self, line: &str, _: usize, _: &Context<'_>) -> Option<Placeholder> {
        // Without colours it would look typed; on a narrow terminal it would not fit.
        let fits = || tty::columns().is_some_and(|columns| columns > PROMPT.len() + PLACEHOLDER.len());
        (self.colours && line.is_empty() && fits()).then_some(Placeholder)
    }
}

impl Highlighter for Assistant {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _: bool) -> Cow<'b, str> {
        if self.colours { format!("\x1b[1;36m{prompt}{}", term::PLAIN).into() } else { prompt.into() }
    }

    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        format!("{}{hint}{}", term::DIM, term::PLAIN).into()
    }
}

impl Validator for Assistant {}
impl rustyline::Helper for Assistant {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_on_after_a_backslash_and_within_quotes() {
        assert!(goes_on("a \\") && goes_on("\"\"\"a\nb") && !goes_on("\"\"\"a\nb\"\"\"") && !goes_on("a"));
        let join = |text| join(text).0.into_owned();
        assert_eq!(join("one \\\ntwo"), "one \ntwo");
        assert_eq!(join("\"\"\"\none\n\n two\n\"\"\""), "one\n\n two");
        assert_eq!(join(" \"quoted\" "), "\"quoted\"");
    }

    #[cfg(unix)]
    #[test]
    fn file_names_are_typed_as_in_a_shell() {
        assert_eq!(file_name("a.json"), "a.json");
        assert_eq!(file_name(r"my\ chat.json"), "my chat.json");
        assert_eq!(file_name("\"my chat.json\""), "my chat.json");
        assert_eq!(file_name("'it\\s'"), "it\\s");
        let home = etcetera::home_dir().unwrap();
        assert_eq!(file_name("~/a b"), home.join("a b").display().to_string());
        assert_eq!(file_name("~"), "~");
    }
}
