//! `tokenize` and `template`: how a text or a conversation becomes tokens. They need no weights and no GPU.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use firelight::checkpoint::Checkpoint;
use firelight::template::{ChatTemplate, TemplateInput};
use firelight::text::date_time;
use firelight::tokenizer::{Special, Tokenizer};
use serde_json::Value;

use super::args::ModelArg;
use super::input::{Stdin, read_text};
use super::term::{self, Failure};
use super::{Result, wrong_call};

#[derive(clap::Args)]
pub struct TokenizeArgs {
    #[command(flatten)]
    model: ModelArg,
    /// The text; piped stdin goes before it, separated by a blank line
    #[arg(conflicts_with = "file")]
    text: Option<String>,
    /// Read the text from a file, or - for stdin; only a byte order mark is removed
    #[arg(long)]
    file: Option<PathBuf>,
    /// Do not add BOS and EOS tokens
    #[arg(long)]
    no_special: bool,
}

pub async fn tokenize(args: TokenizeArgs) -> Result {
    let text = match &args.file {
        Some(path) => Some(read_text(path)?),
        None => Stdin::begin().before(args.text.as_deref())?,
    };
    let Some(text) = text else { wrong_call("tokenize", "pass TEXT or --file FILE, or pipe a text to stdin") };
    let checkpoint = args.model.open_checkpoint().await?;
    let tokenizer = open_tokenizer(&checkpoint)?;
    let ids = tokenizer.encode(&text, Special { add: !args.no_special, parse: true })?;
    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
    Ok(writeln!(io::stdout(), "[{}]", ids.join(", "))?)
}

fn open_tokenizer(checkpoint: &Checkpoint) -> Result<Tokenizer> {
    let tokenizer = Tokenizer::from_checkpoint(checkpoint)?;
    tokenizer.notices().iter().for_each(|notice| term::note(notice));
    Ok(tokenizer)
}

#[derive(clap::Args)]
pub struct TemplateArgs {
    #[command(flatten)]
    model: ModelArg,
    /// JSON file with messages and optionally tools, add_generation_prompt, bos_token, eos_token, date, ...; - for
    /// stdin
    #[arg(long, value_name = "CASE.json")]
    input: PathBuf,
    /// Use this Jinja template file instead of the model's template
    #[arg(long, value_name = "FILE.jinja")]
    template: Option<PathBuf>,
}

pub async fn template(args: TemplateArgs) -> Result {
    let checkpoint = args.model.open_checkpoint().await?;
    let tokenizer = open_tokenizer(&checkpoint)?;
    let input = read_case(&args.input, &tokenizer)?;
    let template = match &args.template {
        Some(path) => ChatTemplate::new(&read_text(path)?)?,
        None => {
            let (template, notice) = ChatTemplate::for_checkpoint(&checkpoint.metadata, &tokenizer)?;
            notice.iter().for_each(|notice| term::note(notice));
            template
        }
    };
    let prompt = template.render(&input)?;
    let mut out = io::stdout().lock();
    // A pipe receives exactly the prompt. A terminal must not: a template may contain escape sequences.
    if !out.is_terminal() {
        return Ok(out.write_all(prompt.as_bytes())?);
    }
    let end = if prompt.ends_with('\n') { "" } else { "\n" };
    Ok(write!(out, "{}{end}", term::printable(&prompt))?)
}

/// The template's variables. BOS, EOS and the date default to the model's tokens and today.
fn read_case(path: &Path, tokenizer: &Tokenizer) -> Result<TemplateInput> {
    let shown = path.display();
    let wrong = |what: String| Failure::usage(format!("{shown} is not an input for a template: {what}"));
    let mut case: Value = serde_json::from_str(&read_text(path)?).map_err(|e| wrong(e.to_string()))?;
    let Some(object) = case.as_object_mut() else { return Err(wrong("it is not a JSON object".into())) };
    if !object.contains_key("messages") {
        return Err(wrong("it has no \"messages\"".into()));
    }
    // Fields with which test cases describe themselves.
    for key in ["case", "rendered", "error"] {
        object.remove(key);
    }
    let piece = |id: Option<u32>| Value::from(id.and_then(|id| tokenizer.piece(id)).unwrap_or_default());
    object.entry("bos_token").or_insert_with(|| piece(tokenizer.bos()));
    object.entry("eos_token").or_insert_with(|| piece(tokenizer.eos()));
    object.entry("date").or_insert_with(|| today().into());
    serde_json::from_value(case).map_err(|e| wrong(e.to_string()))
}

/// The current time in UTC in the format that templates expect: `2025-01-31T12:34:56`.
pub fn today() -> String {
    date_time(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs()))
}
