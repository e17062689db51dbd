//! `run`: one answer, the continuation of a text, or a chat.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;

use firelight::conversation::{AnswerEvent, Conversation, Prepared, Prompt, ResponseFormat};
use firelight::demo;
use firelight::engine::{AnswerJob, Engine};
use firelight::model::Model;
use firelight::sampler::Sampling;
use firelight::session::{FinishReason, Timings};
use firelight::text::without_mark;
use serde_json::{Value, json};

use super::args::{self, DeviceArgs, EngineArgs, OfflineArg, SamplingArgs};
use super::input::Stdin;
use super::term::{self, Answering, Failure};
use super::{Result, chat, hub, profile, wrong_call};

const EXAMPLES: &str = "\
Without a PROMPT a chat begins; type /help in it.

If stdin is not a terminal, its text is read too: it comes before PROMPT, with a blank line between, or is the prompt by \
itself. UTF-8 and UTF-16 are read; a byte order mark is left out. A stdin that stays open and silent is given up 10 \
seconds after the model is loaded if there is a PROMPT; in a loop that reads lines from stdin, add < /dev/null.

Examples:
  firelight run
  firelight run demo \"What can you do?\"
  firelight run Qwen/Qwen3-0.6B-GGUF:Q8_0
  firelight run model.gguf \"Why is the sky blue?\" --max-tokens 200
  firelight run model.gguf --raw --greedy \"Once upon a time\" > story.txt
  git diff | firelight run model.gguf \"Explain this change in one sentence.\"";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct RunArgs {
    /// A GGUF file (any one of a split model), a Hugging Face folder, ORG/REPO[:QUANT] on the hub, or `demo`, the
    /// built-in model, which is the default
    #[arg(default_value = demo::NAME, hide_default_value = true)]
    model: PathBuf,
    /// The message to the model
    prompt: Option<String>,
    /// Continue the text without a chat template; stdout gets only the continuation
    #[arg(long)]
    raw: bool,
    /// The system prompt
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    system: Option<String>,
    /// Turn reasoning before the answer on or off, if the model's template supports it
    #[arg(long, value_name = "on|off", conflicts_with = "raw")]
    think: Option<Switch>,
    /// At the end, print the time of each op in a decode step
    #[arg(long)]
    profile: bool,
    #[command(flatten)]
    offline: OfflineArg,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq)]
enum Switch {
    On,
    Off,
}

pub async fn run(args: RunArgs) -> Result {
    let settings = Settings::new(&args)?;
    let stdin = Stdin::begin();
    let place = hub::find(&args.model, args.offline.offline).await?;
    let model = Arc::new(args::open_model(&place).await?);
    let chats = args.prompt.is_none() && io::stdin().is_terminal();
    if args.raw && chats {
        wrong_call("run", "--raw continues a text: give it as PROMPT or on stdin");
    }
    // Without PROMPT, wait for stdin before loading; with PROMPT, stdin is read while the model loads.
    let piped = match args.prompt.is_none() && !chats {
        true => Some(prompt(&stdin, &args)?),
        false => None,
    };
    if !args.raw {
        args::say_template(&model);
    }
    let gpu = args.device.open().await?;
    if args.profile {
        profile::check(&gpu)?;
    }
    let mut engine = args::open_engine(gpu, model, &args.device, args.engine.options()).await?;
    let position = match chats {
        true => chat::run(&mut engine, &place, settings, args.system.clone()).await?,
        false => {
            let prompt = piped.map_or_else(|| prompt(&stdin, &args), Ok)?;
            once(&mut engine, &args, settings, prompt).await?
        }
    };
    stdin.check()?;
    if args.profile { show_profile(&mut engine, position).await } else { Ok(()) }
}

async fn show_profile(engine: &mut Engine, position: usize) -> Result {
    let (gpu, session) = (engine.gpu(), engine.session_mut()?);
    let position = position.min(session.context() - 1);
    let table = profile::decode(&gpu, session, position).await?;
    Ok(write!(io::stderr(), "\n{table}")?)
}

/// The text on stdin, followed by PROMPT.
fn prompt(stdin: &Stdin, args: &RunArgs) -> Result<String> {
    let text = stdin.before(args.prompt.as_deref())?;
    let text = text.ok_or_else(|| Failure::usage("stdin is empty and there is no PROMPT: provide one of them"))?;
    // A message loses the final newline that `echo` writes; a text to be continued does not.
    let whole = args.raw || args.prompt.is_some();
    Ok(if whole { text } else { text.trim_end_matches(['\r', '\n']).to_string() })
}

/// One answer. Returns the number of filled positions.
async fn once(engine: &mut Engine, args: &RunArgs, settings: Settings, prompt: String) -> Result<usize> {
    let prompt = match args.raw {
        true => prepare(&Prompt::Text(prompt), engine.model())?,
        false => {
            let mut messages: Vec<Value> = Vec::new();
            messages.extend(args.system.as_ref().map(|text| message("system", without_mark(text))));
            messages.push(message("user", &prompt));
            settings.prompt(engine.model(), messages)?
        }
    };
    let answer = answer(engine, settings.job(prompt)).await?;
    // A pipe gets exactly the continuation; on a terminal, a newline follows for the shell's prompt.
    if !answer.text.ends_with('\n') && (!args.raw || io::stdout().is_terminal()) {
        writeln!(io::stdout())?;
    }
    answer.report(engine.session()?.context(), settings.sampling.seed);
    match answer.reason {
        FinishReason::Cancelled => Err(Failure::Interrupted),
        _ => Ok(answer.timings.prompt_tokens + answer.timings.generated_tokens),
    }
}

/// A message in the format of chat templates.
pub fn message(role: &str, text: &str) -> Value {
    json!({ "role": role, "content": text })
}

/// Tokenizes a prompt. `run` prints the model's output verbatim and does not parse it.
fn prepare(prompt: &Prompt, model: &Model) -> Result<Prepared> {
    let fits = |_: &str| Ok::<_, firelight::Error>(());
    Ok(prompt.prepare(model, &ResponseFormat::Text, fits)?.unparsed())
}

/// The parameters of an answer.
pub struct Settings {
    pub sampling: Sampling,
    stop: Vec<String>,
    max_tokens: Option<usize>,
    think: Option<bool>,
}

impl Settings {
    fn new(args: &RunArgs) -> Result<Self> {
        let sampling = args.sampling.sampling();
        sampling.check()?;
        let (stop, max_tokens) = (args.sampling.stop.clone(), args.sampling.max_tokens.map(|n| n as usize));
        Ok(Settings { sampling, stop, max_tokens, think: args.think.map(|think| think == Switch::On) })
    }

    /// The prompt for the assistant's next answer.
    pub fn prompt(&self, model: &Model, messages: Vec<Value>) -> Result<Prepared> {
        let (reasoning, date) = (self.think, Some(super::text::today()));
        prepare(&Prompt::Conversation(Conversation::new(messages).reasoning(reasoning).date(date)), model)
    }

    pub fn job(&self, prompt: Prepared) -> AnswerJob {
        let (sampling, stop) = (self.sampling.clone(), self.stop.clone());
        AnswerJob::new(prompt).sampling(sampling).stop(stop).max_tokens(self.max_tokens)
    }
}

/// An answer that was printed.
pub struct PrintedAnswer {
    pub text: String,
    pub reason: FinishReason,
    pub timings: Timings,
    logprobs: Vec<String>,
}

/// Streams an answer to stdout. Ctrl-C ends it with [`FinishReason::Cancelled`].
pub async fn answer(engine: &mut Engine, job: AnswerJob) -> Result<PrintedAnswer> {
    let answering = Answering::begin();
    let (mut page, mut logprobs) = (Page::new(), Vec::new());
    let mut answer = engine.answer(job)?;
    while let Some(events) = answer.next().await? {
        for event in events {
            match event {
                AnswerEvent::Content(text) => page.print(&text)?,
                AnswerEvent::Token { token, top: Some(top) } => {
                    let top: Vec<String> = top.iter().map(|t| format!("{} {:.4}", t.id, t.logprob)).collect();
                    logprobs.push(format!("{} {:.4}  [{}]", token.id, token.logprob, top.join(", ")));
                }
                AnswerEvent::Finished(end) => {
                    let text = std::mem::take(&mut page.text);
                    return Ok(PrintedAnswer { text, reason: end.reason, timings: end.timings, logprobs });
                }
                _ => {}
            }
        }
        if answering.interrupted() {
            answer.cancel();
        }
    }
    Err(firelight::Error::Gpu("the answer has no end".into()).into())
}

/// An answer on stdout; a terminal shows its reasoning dimly.
struct Page {
    text: String,
    colours: bool,
    dim: bool,
}

impl Page {
    fn new() -> Self {
        Page { text: String::new(), colours: term::colours(&io::stdout()), dim: false }
    }

    fn print(&mut self, text: &str) -> io::Result<()> {
        self.text.push_str(text);
        let thinks = self.text.trim_start().starts_with("<think>") && !self.text.contains("</think>");
        let mut out = io::stdout().lock();
        if thinks {
            self.dim(true, &mut out)?;
        }
        out.write_all(text.as_bytes())?;
        if !thinks {
            self.dim(false, &mut out)?;
        }
        out.flush()
    }

    fn dim(&mut self, dim: bool, out: &mut impl Write) -> io::Result<()> {
        if !self.colours || dim == self.dim {
            return Ok(());
        }
        self.dim = dim;
        out.write_all(if dim { term::DIM } else { term::PLAIN }.as_bytes())
    }
}

impl Drop for Page {
    /// An answer may end within its reasoning.
    fn drop(&mut self) {
        let mut out = io::stdout().lock();
        let _ = self.dim(false, &mut out).and_then(|()| out.flush());
    }
}

impl PrintedAnswer {
    /// Prints the answer's speed to stderr, and its finish reason if it is not obvious.
    pub fn report(&self, context: usize, seed: u64) {
        self.logprobs.iter().for_each(|line| {
            let _ = writeln!(io::stderr(), "{line}");
        });
        if self.reason == FinishReason::ContextFull {
            term::note(&format!("the context of {context} positions is full: use a larger --context to continue"));
        }
        let _ = writeln!(io::stderr(), "{}, seed {seed}", speed(&self.timings));
    }
}

/// `prompt 12 tokens at 240.1 tok/s, answer 64 tokens at 31.2 tok/s`
pub fn speed(t: &Timings) -> String {
    let rate = |tokens: usize, seconds: f64| match tokens {
        0 => String::new(),
        n => format!(" at {:.1} tok/s", n as f64 / seconds.max(1e-9)),
    };
    let plural = |n: usize| if n == 1 { "" } else { "s" };
    let reused = match t.reused_tokens {
        0 => String::new(),
        n => format!(" ({n} from the cache)"),
    };
    let (prompt, answer) = (t.prompt_tokens, t.generated_tokens);
    format!(
        "prompt {prompt} token{}{reused}{}, answer {answer} token{}{}",
        plural(prompt),
        rate(prompt.saturating_sub(t.reused_tokens), t.prompt_seconds),
        plural(answer),
        // The first token is the prompt's.
        rate(answer.saturating_sub(1), t.decode_seconds),
    )
}
