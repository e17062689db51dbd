//! `bench`: prefill and decode speed in tokens per second, and the share of memory bandwidth that it uses.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

use clap::value_parser;
use firelight::checkpoint::Checkpoint;
use firelight::dtype::DType;
use firelight::model::load::CHUNK;
use firelight::plan::DispatchList;
use firelight::sampler::Sampling;
use firelight::session::{Event, Request, Session, Timings};
use serde_json::json;

use super::args::{self, DeviceArgs, EngineArgs, OfflineArg};
use super::term::{self, Answering, Failure};
use super::{Result, bench_ops, hub, profile};

#[derive(clap::Args)]
#[command(override_usage = "firelight bench [OPTIONS] <MODEL>\n       firelight bench --ops[=TYPE,...] [OPTIONS]")]
#[command(after_help = "\
GB/s counts the bytes that a step has to read and write at least; % of copy relates it to a copy shader in the same \
run. Speeds are medians of the repetitions, after one warm-up.")]
pub struct BenchArgs {
    /// A GGUF file (any part of a split model), a Hugging Face folder, ORG/REPO[:QUANT] on the hub, or `demo`
    #[arg(value_name = "MODEL", required_unless_present = "ops")]
    model: Option<PathBuf>,
    #[command(flatten)]
    offline: OfflineArg,
    /// Benchmark matmul and attention kernels instead of a model, for all weight types or for these
    #[arg(long, value_name = "TYPE,...", value_delimiter = ',', num_args = 0.., require_equals = true, value_parser = bench_ops::weight_type)]
    #[arg(conflicts_with_all = ["model", "json", "profile"])]
    ops: Option<Vec<DType>>,
    /// Prompt lengths to prefill; 0 for none
    #[arg(short = 'p', long, value_name = "N,...", value_delimiter = ',', default_value = "128,512", value_parser = size())]
    prompt: Vec<u32>,
    /// Numbers of tokens to generate; 0 for none
    #[arg(short = 'n', long, value_name = "N,...", value_delimiter = ',', default_value = "64", value_parser = size())]
    generate: Vec<u32>,
    /// Context depths: tokens in the KV cache before each test
    #[arg(short = 'd', long, value_name = "N,...", value_delimiter = ',', default_value = "0", value_parser = size())]
    depth: Vec<u32>,
    /// Batch sizes: sequences to decode together; their tokens are summed
    #[arg(short = 'b', long, value_name = "N,...", value_delimiter = ',', default_value = "1", value_parser = value_parser!(u32).range(1..=64))]
    batch: Vec<u32>,
    /// Repetitions of each test
    #[arg(short = 'r', long, value_name = "N", default_value = "3", value_parser = value_parser!(u32).range(1..=1000))]
    repetitions: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print the time of each op in a decode step at the end
    #[arg(long)]
    profile: bool,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

/// How often a step is recorded; the fastest recording counts.
const RECORDINGS: u32 = 50;

/// No model has a longer context.
fn size() -> clap::builder::RangedI64ValueParser<u32> {
    value_parser!(u32).range(0..=1 << 24)
}

/// A test: prefill or decode of `tokens` tokens at context depth `depth`, in `batch` sequences.
#[derive(Clone, Copy)]
struct Test {
    prefill: bool,
    tokens: u32,
    depth: u32,
    batch: u32,
}

impl Test {
    fn name(&self) -> String {
        let (kind, tokens) = (if self.prefill { "pp" } else { "tg" }, self.tokens);
        let batch = if self.batch == 1 { String::new() } else { format!(" x {}", self.batch) };
        let depth = if self.depth == 0 { String::new() } else { format!(" @ {}", self.depth) };
        format!("{kind}{tokens}{batch}{depth}")
    }

    /// Positions that it fills; a decode starts from one more token.
    fn positions(&self) -> u32 {
        self.depth + self.tokens + 2
    }

    /// Bytes that it has to move at least.
    fn traffic(&self, dispatch_list: &DispatchList) -> u64 {
        let end = self.depth + self.tokens;
        match self.prefill {
            true => {
                let chunk = dispatch_list.capacity.rows;
                let rows = |at: u32| chunk.min(end - at);
                (self.depth..end).step_by(chunk as usize).map(|at| dispatch_list.step_traffic(rows(at), at)).sum()
            }
            // All sequences share one read of the weights.
            false => {
                let others = u64::from(self.batch - 1);
                let step = |at| dispatch_list.step_traffic(1, at) + others * dispatch_list.kv_traffic(at + 1);
                (self.depth + 1..=end).map(step).sum()
            }
        }
    }
}

/// A test's speeds in tokens per second, ascending, and the GB/s of the median.
struct Measured {
    test: Test,
    rates: Vec<f64>,
    gb_s: f64,
}

impl Measured {
    fn median(&self) -> f64 {
        let middle = self.rates.len() / 2;
        match self.rates.len() % 2 {
            1 => self.rates[middle],
            _ => (self.rates[middle - 1] + self.rates[middle]) / 2.0,
        }
    }

    /// Time to first token in milliseconds.
    fn first_token_ms(&self) -> Option<f64> {
        self.test.prefill.then(|| 1e3 * f64::from(self.test.tokens) / self.median())
    }

    fn range(&self) -> (f64, f64) {
        (self.rates.first().copied().unwrap_or(0.0), self.rates.last().copied().unwrap_or(0.0))
    }
}

pub async fn run(args: BenchArgs) -> Result {
    let Some(path) = &args.model else {
        return bench_ops::run(&args.device.open().await?, &args.ops.unwrap_or_default()).await;
    };
    let tests = tests(&args);
    let Some(positions) = tests.iter().map(Test::positions).max() else {
        return Err(Failure::usage("nothing to measure: pass sizes above 0 with -p or -n"));
    };
    let model = args::open_model(&hub::find(path, args.offline.offline).await?).await?;
    let gpu = args.device.open().await?;
    if args.profile {
        profile::check(&gpu)?;
    }
    let options = args.engine.options();
    let sequences = tests.iter().map(|test| test.batch).max().unwrap_or(1);
    let context = options.context.or(Some(positions));
    let options = options.context(context).sequences(sequences);
    let weights = weights(&model.checkpoint).await?;
    let opening = Instant::now();
    let mut session = args::open_session(&gpu, &model, &options).await?;
    let open_seconds = opening.elapsed().as_secs_f64();
    let copy = profile::bandwidth(&gpu).await?;
    let mut bench = Bench { session: &mut session, vocab: model.spec.vocab_size, next: 0 };
    let bar = term::counting_bar("test", tests.len() as u64);
    let mut results = Vec::new();
    for test in tests {
        bar.set_message(test.name());
        results.push(bench.measure(test, args.repetitions).await?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let plan = session.plan();
    let step = plan.dispatch_list().step(1, positions.min(session.context() as u32) - 1);
    let (dispatches, recording) = (plan.dispatches(&step), plan.recording_seconds(&step, RECORDINGS));
    let per_dispatch = recording * 1e6 / dispatches as f64;
    let mut out = io::stdout().lock();
    let (card, path) = (gpu.adapter(), path.display());
    if args.json {
        let report = json!({
            "model": path.to_string(),
            "device": card.name,
            "backend": card.backend,
            "tier": card.caps.tier.name(),
            "copy_gb_s": copy,
            "open_seconds": open_seconds,
            "weight_bytes": weights.bytes,
            "plain_read_seconds": weights.seconds,
            "dispatches": dispatches,
            "recording_us_per_dispatch": per_dispatch,
            "tests": results.iter().map(|r| to_json(r, copy)).collect::<Vec<_>>(),
        });
        writeln!(out, "{report:#}")?;
    } else {
        writeln!(
            out,
            "{path} on {} ({}, {} tier); a copy reaches {copy:.1} GB/s\n",
            card.name, card.backend, card.caps.tier
        )?;
        let rows: Vec<_> = results.iter().map(|r| row(r, copy)).collect();
        let title = ["<test", "tok/s", "min .. max", "GB/s", "% of copy", "first token, ms"];
        write!(out, "{}", term::table(&title, &rows))?;
        writeln!(
            out,
            "\nloading {} and compiling kernels took {open_seconds:.2} s: {}; a plain read reaches {}",
            term::bytes(weights.bytes),
            rate(weights.bytes as f64 / open_seconds),
            rate(weights.bytes as f64 / weights.seconds)
        )?;
        writeln!(
            out,
            "a decode step has {dispatches} dispatches; the CPU records each in {per_dispatch:.2} microseconds"
        )?;
        if let Some(reads) = session.expert_reads() {
            let share = 100.0 * reads.read as f64 / reads.wanted.max(1) as f64;
            writeln!(
                out,
                "{share:.0} % of the selected experts were streamed from the file, {}",
                term::bytes(reads.bytes)
            )?;
        }
    }
    if args.profile {
        let position = positions.min(session.context() as u32 - 1) as usize;
        write!(io::stderr(), "\n{}", profile::decode(&gpu, &mut session, position).await?)?;
    }
    Ok(())
}

/// `3.21 GB/s`, `4.5 MB/s`.
fn rate(bytes_per_second: f64) -> String {
    match bytes_per_second / 1e9 {
        gb @ 0.1.. => format!("{gb:.2} GB/s"),
        gb => format!("{:.1} MB/s", 1e3 * gb),
    }
}

/// The weights in a model's files, and the time that a plain read of them takes.
struct Weights {
    bytes: u64,
    seconds: f64,
}

/// Reads them a few MiB at a time, as loading does. The read warms the system's page cache, so loading and the plain
/// read are compared on equal terms.
async fn weights(checkpoint: &Checkpoint) -> Result<Weights> {
    let (mut bytes, mut seconds) = (0, 0.0);
    for _ in 0..2 {
        let start = Instant::now();
        bytes = 0;
        for tensor in checkpoint.tensors.values() {
            let step = CHUNK.max(tensor.bytes_at_once());
            for at in (0..tensor.bytes()).step_by(step as usize) {
                bytes += checkpoint.read(tensor, at..tensor.bytes().min(at + step)).await?.len() as u64;
            }
        }
        seconds = start.elapsed().as_secs_f64();
    }
    Ok(Weights { bytes, seconds })
}

fn tests(args: &BenchArgs) -> Vec<Test> {
    let of = |prefill: bool, depth: u32| {
        let (sizes, batches) = if prefill { (&args.prompt, &[1][..]) } else { (&args.generate, &args.batch[..]) };
        let each = move |&tokens| batches.iter().map(move |&batch| Test { prefill, tokens, depth, batch });
        sizes.iter().filter(|n| **n > 0).flat_map(each)
    };
    args.depth.iter().flat_map(|&depth| of(true, depth).chain(of(false, depth))).collect()
}

fn row(r: &Measured, copy: f64) -> Vec<String> {
    let (min, max) = r.range();
    vec![
        r.test.name(),
        format!("{:.1}", r.median()),
        format!("{min:.1} .. {max:.1}"),
        format!("{:.1}", r.gb_s),
        format!("{:.0}%", r.gb_s / copy * 100.0),
        r.first_token_ms().map(|ms| format!("{ms:.1}")).unwrap_or_default(),
    ]
}

fn to_json(r: &Measured, copy: f64) -> serde_json::Value {
    let (min, max) = r.range();
    json!({
        "test": r.test.name(),
        "tokens": r.test.tokens,
        "depth": r.test.depth,
        "batch": r.test.batch,
        "tok_s": { "median": r.median(), "min": min, "max": max },
        "gb_s": r.gb_s,
        "copy_percent": r.gb_s / copy * 100.0,
        "first_token_ms": r.first_token_ms(),
    })
}

/// A session under measurement.
struct Bench<'a> {
    session: &'a mut Session,
    vocab: u32,
    /// Makes each prompt unique, so that the prefix cache has none of it.
    next: u32,
}

impl Bench<'_> {
    async fn measure(&mut self, test: Test, repetitions: u32) -> Result<Measured> {
        let before = self.tokens(test.depth as usize);
        if !before.is_empty() {
            self.answer(before.clone(), 1).await?;
        }
        let mut seconds = Vec::new();
        for repetition in 0..=repetitions {
            let one = self.once(test, &before).await?;
            if repetition > 0 {
                seconds.push(one.max(1e-9));
            }
        }
        seconds.sort_by(|a, b| b.total_cmp(a));
        let tokens = f64::from(test.tokens * test.batch);
        let rates = seconds.iter().map(|s| tokens / s).collect();
        let bytes = test.traffic(self.session.plan().dispatch_list()) as f64;
        let mut measured = Measured { test, rates, gb_s: 0.0 };
        measured.gb_s = bytes * measured.median() / tokens / 1e9;
        Ok(measured)
    }

    /// Seconds of one repetition after the tokens `before`, which are in the KV cache.
    async fn once(&mut self, test: Test, before: &[u32]) -> Result<f64> {
        if test.batch > 1 {
            let prompts = (0..test.batch).map(|_| [before, &self.tokens(1)].concat()).collect();
            return self.together(prompts, test.tokens as usize + 1).await;
        }
        let own = if test.prefill { test.tokens } else { 1 };
        let prompt = [before, &self.tokens(own as usize)].concat();
        Ok(match test.prefill {
            true => self.answer(prompt, 1).await?.prompt_seconds,
            false => self.answer(prompt, test.tokens as usize + 1).await?.decode_seconds,
        })
    }

    /// `n` tokens with a different first token each time.
    fn tokens(&mut self, n: usize) -> Vec<u32> {
        self.next = self.next.wrapping_add(1);
        let start = self.next;
        (0..n as u32).map(|i| start.wrapping_add(i.wrapping_mul(7919)) % self.vocab).collect()
    }

    /// Seconds that all answers take after their first tokens, from the moment when all have started.
    async fn together(&mut self, prompts: Vec<Vec<u32>>, max_tokens: usize) -> Result<f64> {
        let answering = Answering::begin();
        let mut waiting = BTreeSet::new();
        let all = prompts.len() * (max_tokens - 1);
        for tokens in prompts {
            waiting.insert(self.session.submit(request(tokens, max_tokens))?);
        }
        let (mut begun, mut counted) = (None, 0);
        while let Some((id, event)) = self.session.next().await? {
            if let Event::Token { .. } = event {
                waiting.remove(&id);
                match begun {
                    Some(_) => counted += 1,
                    None if waiting.is_empty() => begun = Some(Instant::now()),
                    None => {}
                }
            }
            if answering.interrupted() {
                return Err(Failure::Interrupted);
            }
        }
        let seconds = begun.map_or(0.0, |begun| begun.elapsed().as_secs_f64());
        // Tokens generated before the last sequence started do not count.
        Ok(seconds * all as f64 / f64::from(counted.max(1)))
    }

    async fn answer(&mut self, tokens: Vec<u32>, max_tokens: usize) -> Result<Timings> {
        let answering = Answering::begin();
        let mut generation = self.session.generate(request(tokens, max_tokens))?;
        let mut result = Timings::default();
        while let Some(event) = generation.next().await? {
            if let Event::Finished { timings, .. } = event {
                result = timings;
            }
            if answering.interrupted() {
                return Err(Failure::Interrupted);
            }
        }
        Ok(result)
    }
}

fn request(tokens: Vec<u32>, max_tokens: usize) -> Request {
    let (sampling, max_tokens) = (Sampling::greedy(), Some(max_tokens));
    Request::new(tokens).sampling(sampling).max_tokens(max_tokens).ignore_end(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_names() {
        let test = Test { prefill: true, tokens: 512, depth: 0, batch: 1 };
        let measured = |rates: &[f64]| Measured { test, rates: rates.to_vec(), gb_s: 0.0 };
        assert_eq!(measured(&[1.0, 2.0, 9.0]).median(), 2.0);
        assert_eq!(measured(&[1.0, 2.0, 4.0, 9.0]).median(), 3.0);
        assert_eq!(measured(&[1.0, 2.0, 9.0]).range(), (1.0, 9.0));
        assert_eq!(test.name(), "pp512");
        assert_eq!(Test { prefill: false, tokens: 64, depth: 4096, batch: 1 }.name(), "tg64 @ 4096");
        assert_eq!(Test { prefill: false, tokens: 64, depth: 0, batch: 8 }.name(), "tg64 x 8");
    }
}
