//! The line that is typed: its prompt, completion, and a history that is kept from one chat to the next.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::path::PathBuf;

use etcetera::base_strategy::{BaseStrategy, choose_native_strategy};
use rustyline::completion::{Completer, FilenameCompleter};
use rustyline::config::{CompletionType, Config};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::{Hint, Hinter};
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{Context, Editor};

use super::commands;
use crate::cli::term::{self, Failure};
use crate::cli::{Result, terminal};

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
    /// The file of the history; `None` to keep none.
    history: Option<PathBuf>,
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
        let mut editor = LineEditor { editor, history: None };
        editor.keep_history(true);
        Ok(editor)
    }

    /// Keeps what is typed for later chats, or not.
    pub fn keep_history(&mut self, keep: bool) {
        self.history = if keep { history_file() } else { None };
        if let Some(file) = &self.history {
            // There is none yet in the first chat.
            let _ = self.editor.load_history(file);
        }
    }

    /// Reads a line, or several: up to the closing `"""`, or while they end in a backslash.
    pub fn read(&mut self) -> Result<Line> {
        let mut text = match self.read_line(PROMPT)? {
            Some(Line::Text { text, .. }) => text,
            other => return Ok(other.unwrap_or(Line::End)),
        };
        while goes_on(&text) {
            match self.read_line(FURTHER)? {
                Some(Line::Text { text: more, .. }) => text = text + "\n" + &more,
                // The message is given up.
                _ => return Ok(Line::Text { text: String::new(), quoted: false }),
            }
        }
        self.add_history(&text);
        let (text, quoted) = join(&text);
        Ok(Line::Text { text: text.into_owned(), quoted })
    }

    fn read_line(&mut self, prompt: &str) -> Result<Option<Line>> {
        match self.editor.readline(prompt) {
            Ok(text) => Ok(Some(Line::Text { text, quoted: false })),
            Err(ReadlineError::Eof) => Ok(None),
            Err(ReadlineError::Interrupted) => Ok(Some(Line::Interrupt)),
            Err(error) => Err(failed(error)),
        }
    }

    fn add_history(&mut self, text: &str) {
        // Only a history that may not grow refuses.
        let _ = self.editor.add_history_entry(text.trim_end());
        let Some(file) = &self.history else { return };
        let folder = file.parent().map_or(Ok(()), fs::create_dir_all);
        // Only its owner may read the file: rustyline sees to that.
        if let Err(error) = folder.map_err(ReadlineError::from).and_then(|()| self.editor.append_history(file)) {
            tracing::info!("the history cannot be kept in {}: {error}", file.display());
        }
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
        let fits = || terminal::columns().is_some_and(|columns| columns > PROMPT.len() + PLACEHOLDER.len());
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
}
