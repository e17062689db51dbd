//! `logits` and `perplexity`: scores of given tokens.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::value_parser;
use firelight::Error;
use firelight::model::Model;
use firelight::session::{Session, SessionOptions};
use firelight::tokenizer::Special;

use super::Result;
use super::args::{self, DeviceArgs, EngineArgs, ModelArg};
use super::input::{Stdin, read_text};
use super::output::{self, Content};
use super::term::{self, Failure};

#[derive(clap::Args)]
pub struct LogitsArgs {
    #[command(flatten)]
    model: ModelArg,
    /// Token ids, used verbatim: 1,2,3
    #[arg(long, value_delimiter = ',', value_name = "IDS", required_unless_present = "text", conflicts_with = "text")]
    tokens: Vec<u32>,
    /// A text to tokenize, after any piped stdin; no BOS or EOS is added
    #[arg(long)]
    text: Option<String>,
    /// The output file: float32, one row of logits per token
    #[arg(long, value_name = "FILE.npy")]
    out: PathBuf,
    /// Run one decode step per token instead of a prefill
    #[arg(long)]
    steps: bool,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

pub async fn logits(args: LogitsArgs) -> Result {
    let text = match args.tokens.is_empty() {
        true => Stdin::begin().before(args.text.as_deref())?,
        false => None,
    };
    let place = args.model.place().await?;
    let model = args::open_model(&place).await?;
    let tokens = match &text {
        Some(text) => model.tokenizer.encode(text, Special::PARSE)?,
        None => args.tokens.clone(),
    };
    if tokens.is_empty() {
        return Err(Failure::usage("no tokens: pass --tokens or --text"));
    }
    let mut out = output::create(&args.out, Content::Other, Some(&place))?;
    let gpu = args.device.open_exact().await?;
    let options = scoring_options(&model, &args.engine, tokens.len());
    let mut session = args::open_session(&gpu, &model, &options).await?;
    let failed = |error| Error::io(format!("cannot write {}", args.out.display()), error);
    let mut written = out.write_all(&npy_header(tokens.len(), model.spec.vocab_size as usize));
    let each = |_: usize, row: &[f32]| {
        let mut values = row.iter().map(|x| x.to_le_bytes());
        if written.is_ok() {
            written = values.try_for_each(|bytes| out.write_all(&bytes));
        }
    };
    match args.steps {
        true => session.decode_logits(&tokens, each).await?,
        false => session.prefill_logits(&tokens, each).await?,
    }
    written.map_err(failed)?;
    Ok(out.finish()?)
}

/// Limit of the logits that one step computes, in bytes.
const LOGITS_BYTES: u32 = 64 << 20;

/// Session options for the logits of `len` tokens: a context that holds them, and as many rows per step as is
/// reasonable.
fn scoring_options(model: &Model, engine: &EngineArgs, len: usize) -> SessionOptions {
    let options = engine.options();
    let logits = (LOGITS_BYTES / (4 * model.spec.vocab_size)).clamp(1, options.chunk);
    let context = options.context.or(u32::try_from(len).ok());
    options.logits(logits).context(context)
}

/// The header of a NumPy file of `rows x cols` float32, format 1.0: magic, version, length, and a Python dict, padded
/// so that the data starts at a multiple of 64 bytes.
fn npy_header(rows: usize, cols: usize) -> Vec<u8> {
    let dict = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {cols}), }}");
    let length = (10 + dict.len() + 1).next_multiple_of(64) - 10;
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((length as u16).to_le_bytes());
    out.extend(format!("{dict:<0$}\n", length - 1).bytes());
    out
}

#[derive(clap::Args)]
#[command(after_help = "\
The text is cut into chunks of the context (512 tokens, unless --context says otherwise), each with BOS in place of \
its first token if the model wants one. Only the second half of a chunk is scored, the first half being its context. \
This is how llama.cpp measures it, so the numbers can be compared.")]
pub struct PerplexityArgs {
    #[command(flatten)]
    model: ModelArg,
    /// A text file, or - for stdin
    file: PathBuf,
    /// Stop after N chunks
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    chunks: Option<u32>,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Default chunk size in tokens; `--context` overrides it.
const CHUNK: usize = 512;
/// Smallest chunk size: the second half needs a token to predict.
const MIN_CHUNK: usize = 4;

pub async fn perplexity(args: PerplexityArgs) -> Result {
    let text = read_text(&args.file)?;
    let model = args.model.open().await?;
    let tokens = model.tokenizer.encode(&text, Special::ADD)?;
    let size = args.engine.context.map_or(CHUNK.min(tokens.len()), |n| n as usize);
    if size < MIN_CHUNK || tokens.len() < size {
        let (file, len) = (args.file.display(), tokens.len());
        let message = format!("{file} has {len} tokens, but perplexity needs at least {}", size.max(MIN_CHUNK));
        return Err(Failure::usage(message + "; use a longer text or a smaller --context"));
    }
    let gpu = args.device.open_exact().await?;
    let mut session = args::open_session(&gpu, &model, &scoring_options(&model, &args.engine, size)).await?;
    let all = tokens.len() / size;
    let count = args.chunks.map_or(all, |n| all.min(n as usize));
    let left = tokens.len() - count * size;
    if left > 0 && count == all {
        term::note(&format!("skipping the last {left} of {} tokens: they do not fill a chunk", tokens.len()));
    }
    // A tokenizer that adds BOS to an empty text adds it to every text.
    let bos =
        model.tokenizer.encode("", Special::ADD)?.first().copied().filter(|id| Some(*id) == model.tokenizer.bos());
    let bar = term::counting_bar("chunk", count as u64);
    let mut score = Score::default();
    for chunk in tokens.chunks_exact(size).take(count) {
        let mut chunk = chunk.to_vec();
        if let Some(bos) = bos {
            chunk[0] = bos;
        }
        score_chunk(&mut session, &chunk, &mut score).await?;
        bar.inc(1);
        bar.set_message(format!("{:.4}", score.perplexity()));
    }
    bar.finish_and_clear();
    let (value, error) = (score.perplexity(), score.error());
    Ok(writeln!(io::stdout(), "perplexity {value:.4} +/- {error:.4}, {} tokens in {count} chunks", score.count)?)
}

/// Scores the tokens in the second half of a chunk.
async fn score_chunk(session: &mut Session, chunk: &[u32], score: &mut Score) -> Result {
    let first = chunk.len() / 2;
    let each = |position: usize, logits: &[f32]| {
        if let Some(next) = chunk.get(position + 1).filter(|_| position >= first) {
            score.add(surprise(logits, *next));
        }
    };
    Ok(session.prefill_logits(chunk, each).await?)
}

/// The negative log-probability of a token.
fn surprise(logits: &[f32], token: u32) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|x| f64::from(x - max).exp()).sum();
    sum.ln() - f64::from(logits[token as usize] - max)
}

/// Sums over the scored tokens.
#[derive(Default)]
struct Score {
    count: usize,
    sum: f64,
    squares: f64,
}

impl Score {
    fn add(&mut self, surprise: f64) {
        self.count += 1;
        self.sum += surprise;
        self.squares += surprise * surprise;
    }

    fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }

    fn perplexity(&self) -> f64 {
        self.mean().exp()
    }

    /// The standard error of the perplexity: the error of the mean, times the slope of exp at the mean.
    fn error(&self) -> f64 {
        let variance = (self.squares / self.count as f64 - self.mean().powi(2)).max(0.0);
        (variance / (self.count as f64 - 1.0).max(1.0)).sqrt() * self.perplexity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numpy_header_is_as_numpy_writes_it() {
        let header = npy_header(3, 512);
        assert_eq!((header.len() % 64, header[header.len() - 1]), (0, b'\n'));
        assert_eq!(u16::from_le_bytes([header[8], header[9]]) as usize, header.len() - 10);
        let text = String::from_utf8_lossy(&header[10..]);
        assert!(text.starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 512), }"), "{text}");
    }

    #[test]
    fn perplexity_of_a_fair_choice_is_the_number_of_choices() {
        let mut score = Score::default();
        (0..10).for_each(|i| score.add(surprise(&[2.0; 8], i % 8)));
        assert!((score.perplexity() - 8.0).abs() < 1e-9 && score.error() < 1e-6);
        assert!(surprise(&[0.0, 1000.0], 1).abs() < 1e-9);
        assert!((surprise(&[0.0, 1000.0], 0) - 1000.0).abs() < 1e-9);
    }
}
