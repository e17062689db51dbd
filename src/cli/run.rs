//! `run`: one answer, the continuation of a text, or a chat.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;

use firelight::conversation::{Prompt, ResponseFormat};
use firelight::demo;
use firelight::engine::Engine;
use firelight::session::FinishReason;
use firelight::text::without_mark;
use serde_json::Value;

use super::answer::{View, answer};
use super::args::{self, DeviceArgs, EngineArgs, OfflineArg, SamplingArgs};
use super::chat::{self, Opener};
use super::input::Stdin;
use super::settings::{Settings, message, response_format};
use super::term::{self, Failure};
use super::tty::{self, Quiet};
use super::{Result, hub, profile, wrong_call};

const EXAMPLES: &str = "\
Without a PROMPT a chat begins; type /? in it.

On a terminal, Markdown is rendered, and lines end between words; a pipe gets exactly the text.

If stdin is not a terminal, it is read as the prompt. With PROMPT, its text comes first, then a blank line, then PROMPT. \
UTF-8 and UTF-16 are read; a byte order mark is left out. If there is a PROMPT and nothing arrives on stdin, the answer \
begins 10 seconds after the model is loaded; in a loop that reads lines from stdin, add < /dev/null.

With --format, reasoning is off unless --think on asks for it.

Examples:
  firelight run
  firelight run demo \"What can you do?\"
  firelight run Qwen/Qwen3-0.6B-GGUF:Q8_0
  firelight run model.gguf \"Why is the sky blue?\" --max-tokens 200
  firelight run model.gguf --raw --greedy \"Once upon a time\" > story.txt
  firelight run model.gguf \"Name three colours.\" --format json
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
    /// Answer in JSON, or in JSON of a schema: json, the schema, or @FILE with it
    #[arg(long, value_name = "json|SCHEMA|@FILE")]
    format: Option<String>,
    /// On a terminal, show Markdown as it is written, and let the terminal wrap lines
    #[arg(long)]
    plain: bool,
    /// After an answer, print how long it took, and its seed (also with --verbose)
    #[arg(long)]
    stats: bool,
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

pub async fn run(args: RunArgs, verbose: bool) -> Result {
    let settings = settings(&args, verbose)?;
    tty::remember();
    let loading = Quiet::begin();
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
        settings.check_think(&model)?;
    }
    settings.check_format(&model)?;
    let gpu = args.device.open().await?;
    if args.profile {
        profile::check(&gpu)?;
    }
    let mut engine = args::open_engine(gpu, model, &args.device, args.engine.options()).await?;
    if chats {
        drop(loading);
        let opener = Opener { device: args.device, session: args.engine.options(), offline: args.offline };
        let (engine, position) = chat::run(engine, place, settings, args.system, opener).await?;
        return if args.profile { show_profile(engine, position).await } else { Ok(()) };
    }
    let prompt = piped.map_or_else(|| prompt(&stdin, &args), Ok)?;
    let position = once(&mut engine, &args, &settings, prompt).await?;
    stdin.check()?;
    if args.profile { show_profile(engine, position).await } else { Ok(()) }
}

fn settings(args: &RunArgs, verbose: bool) -> Result<Settings> {
    let sampling = args.sampling.sampling();
    sampling.check()?;
    Ok(Settings {
        sampling,
        stop: args.sampling.stop.clone(),
        max_tokens: args.sampling.max_tokens.map(|n| n as usize),
        think: args.think.map(|think| think == Switch::On),
        format: args.format.as_deref().map_or(Ok(ResponseFormat::Text), response_format)?,
        view: View { markdown: !args.plain && !args.raw, wrap: !args.plain },
        stats: args.stats || verbose,
    })
}

async fn show_profile(mut engine: Engine, position: usize) -> Result {
    let (gpu, session) = (engine.gpu(), engine.session_mut()?);
    let position = position.min(session.context() - 1);
    let table = profile::decode(&gpu, session, position).await?;
    Ok(write!(io::stderr(), "\n{table}")?)
}

/// The text on stdin, followed by PROMPT.
fn prompt(stdin: &Stdin, args: &RunArgs) -> Result<String> {
    let text = stdin.before(args.prompt.as_deref())?;
    let text = text.ok_or_else(|| Failure::usage("no prompt: pass one as an argument or on stdin"))?;
    // A message loses the final newline that `echo` writes; a text to be continued does not.
    let whole = args.raw || args.prompt.is_some();
    Ok(if whole { text } else { text.trim_end_matches(['\r', '\n']).to_string() })
}

/// One answer. Returns the number of filled positions.
async fn once(engine: &mut Engine, args: &RunArgs, settings: &Settings, prompt: String) -> Result<usize> {
    let prompt = match args.raw {
        true => settings.prepare(&Prompt::Text(prompt), engine.model())?,
        false => {
            let mut messages: Vec<Value> = Vec::new();
            messages.extend(args.system.as_ref().map(|text| message("system", without_mark(text))));
            messages.push(message("user", &prompt));
            settings.prompt(engine.model(), messages)?
        }
    };
    let job = settings.job(engine, prompt)?;
    let answer = answer(engine, job, settings.view()).await?;
    // A pipe gets exactly the continuation; on a terminal, a newline follows for the shell's prompt.
    if !answer.ends_line && (!args.raw || io::stdout().is_terminal()) {
        writeln!(io::stdout())?;
    }
    // Only a limit ends a continuation: models that continue texts never do.
    if let Some(why) = answer.cut(engine.session()?.context(), "--context").filter(|_| !args.raw) {
        term::note(&why);
    }
    answer.report(settings.sampling.seed, settings.stats);
    match answer.reason {
        FinishReason::Cancelled => Err(Failure::Interrupted),
        _ => Ok(answer.timings.prompt_tokens + answer.timings.generated_tokens),
    }
}
