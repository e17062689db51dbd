//! Printing an answer as it comes: rendered on a terminal, verbatim in a pipe.

use std::io::{self, IsTerminal, Write};

use firelight::Error;
use firelight::conversation::AnswerEvent;
use firelight::engine::{AnswerJob, Engine};
use firelight::session::{FinishReason, Timings};

use super::Result;
use super::screen::Screen;
use super::term::{self, Answering, Spinner};
use super::tty::{self, Quiet};

/// How an answer is shown on a terminal.
#[derive(Clone, Copy)]
pub struct View {
    /// Whether Markdown is rendered.
    pub markdown: bool,
    /// Whether lines end between words.
    pub wrap: bool,
}

/// An answer that was printed.
pub struct PrintedAnswer {
    pub text: String,
    pub reason: FinishReason,
    pub timings: Timings,
    /// Whether the cursor is at the beginning of a line.
    pub ends_line: bool,
    logprobs: Vec<String>,
}

/// Prints an answer as it comes. Ctrl-C ends it, and it counts as [`FinishReason::Cancelled`].
pub async fn answer(engine: &mut Engine, job: AnswerJob, view: View) -> Result<PrintedAnswer> {
    let (answering, _quiet) = (Answering::begin(), Quiet::begin());
    let (mut page, mut logprobs) = (Page::new(view), Vec::new());
    let prompt = job.prompt.tokens.len();
    let mut reading = Some(Spinner::begin(reading_text(prompt)));
    let mut answer = engine.answer(job)?;
    while let Some(events) = answer.next().await? {
        for event in events {
            match event {
                AnswerEvent::Started { reused_tokens } => {
                    reading.iter().for_each(|spinner| spinner.set(reading_text(prompt - reused_tokens)));
                }
                AnswerEvent::Content(text) => {
                    reading = None;
                    page.print(&text)?;
                }
                AnswerEvent::Token { token, top } => {
                    reading = None;
                    logprobs.extend(top.map(|top| {
                        let top: Vec<String> = top.iter().map(|t| format!("{} {:.4}", t.id, t.logprob)).collect();
                        format!("{} {:.4}  [{}]", token.id, token.logprob, top.join(", "))
                    }));
                }
                AnswerEvent::Finished(end) => {
                    drop(reading);
                    let (text, ends_line) = page.finish()?;
                    return Ok(PrintedAnswer { text, reason: end.reason, timings: end.timings, ends_line, logprobs });
                }
                _ => {}
            }
        }
        if answering.interrupted() {
            answer.cancel();
        }
    }
    Err(Error::Gpu("the answer has no end".into()).into())
}

fn reading_text(count: usize) -> String {
    format!("reading the prompt, {}", tokens(count))
}

/// An answer on stdout.
struct Page {
    text: String,
    /// How it is rendered; `None` in a pipe.
    screen: Option<Screen>,
}

impl Page {
    fn new(view: View) -> Self {
        let screen = io::stdout().is_terminal().then(|| {
            let styles = term::colours(&io::stdout());
            let columns = if view.wrap { tty::columns() } else { None };
            Screen::new(columns, styles, view.markdown && styles)
        });
        Page { text: String::new(), screen }
    }

    fn print(&mut self, text: &str) -> io::Result<()> {
        self.text.push_str(text);
        let mut out = io::stdout().lock();
        match &mut self.screen {
            Some(screen) => {
                tty::columns().into_iter().for_each(|columns| screen.resize(columns));
                out.write_all(screen.push(text).as_bytes())?;
            }
            None => out.write_all(text.as_bytes())?,
        }
        out.flush()
    }

    /// Prints the rest. Returns the whole text, and whether the cursor is at the beginning of a line.
    fn finish(mut self) -> io::Result<(String, bool)> {
        let Some(screen) = &mut self.screen else {
            let ends_line = self.text.ends_with('\n');
            return Ok((self.text, ends_line));
        };
        let mut out = io::stdout().lock();
        out.write_all(screen.finish().as_bytes())?;
        out.flush()?;
        Ok((self.text, screen.at_line_start()))
    }
}

impl PrintedAnswer {
    /// Why the answer ended before the model ended it. `larger` is the option for a larger context.
    pub fn cut(&self, context: usize, larger: &str) -> Option<String> {
        match self.reason {
            FinishReason::Cancelled => Some("stopped".into()),
            FinishReason::MaxTokens => Some(format!("stopped at {}", tokens(self.timings.generated_tokens))),
            FinishReason::ContextFull => {
                Some(format!("stopped: the context of {context} tokens is full; {larger} enlarges it"))
            }
            _ => None,
        }
    }

    /// Prints the log-probabilities that were asked for, and with `stats` how long the answer took, to stderr.
    pub fn report(&self, seed: u64, stats: bool) {
        self.logprobs.iter().for_each(|line| term::say(line));
        if stats {
            term::aside(&format!("{}, seed {seed}", speed(&self.timings)));
        }
    }
}

/// `1 token`, `2 tokens`.
pub fn tokens(n: usize) -> String {
    format!("{n} token{}", if n == 1 { "" } else { "s" })
}

/// `prompt 12 tokens at 240.1 tok/s, answer 64 tokens at 31.2 tok/s`
pub fn speed(t: &Timings) -> String {
    let rate = |tokens: usize, seconds: f64| match tokens {
        0 => String::new(),
        n => format!(" at {:.1} tok/s", n as f64 / seconds.max(1e-9)),
    };
    let reused = match t.reused_tokens {
        0 => String::new(),
        n => format!(" ({n} from the cache)"),
    };
    format!(
        "prompt {}{reused}{}, answer {}{}",
        tokens(t.prompt_tokens),
        rate(t.prompt_tokens.saturating_sub(t.reused_tokens), t.prompt_seconds),
        tokens(t.generated_tokens),
        // The first token is the prompt's.
        rate(t.generated_tokens.saturating_sub(1), t.decode_seconds),
    )
}
