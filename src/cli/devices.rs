//! `devices`: every adapter, its kernel tier and limits, and why it has no higher tier.

use std::io::{self, Write};

use firelight::Error;
use firelight::gpu::{
    AdapterInfo, Caps, Gpu, GpuOptions, NO_ADAPTER, Tier, TuneConfig, TuneOutcome, TuneResult, Tuning,
};
use firelight::plan::tune::{self, Trial};
use firelight::sim::GpuModel;

use super::{Result, report, simulate, term};

#[derive(clap::Args)]
pub struct DevicesArgs {
    /// Autotune the matmul and attention kernels of a GPU (default: the best one), print their errors and times, and
    /// save the fastest correct ones; happens automatically when a real GPU is first used
    #[arg(long, value_name = "NAME|INDEX", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    tune: Option<String>,
    /// Print a report to paste into an issue: adapters, self-test, speeds and kernel times of a GPU (default: the best
    /// one). It has no names of files, users or machines
    #[arg(long, value_name = "NAME|INDEX", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    #[arg(conflicts_with = "tune")]
    report: Option<String>,
    /// Show what is known of a GPU that is not here, as `plan --on` assumes it
    #[arg(long, value_name = "GPU", value_parser = simulate::gpu_model(), conflicts_with_all = ["tune", "report"])]
    on: Option<&'static GpuModel>,
}

pub async fn run(args: DevicesArgs) -> Result {
    if let Some(gpu) = args.on {
        return Ok(io::stdout().lock().write_all(describe_model(gpu).as_bytes())?);
    }
    let named = |name: String| Some(name).filter(|name| !name.is_empty());
    match (args.tune, args.report) {
        (Some(name), _) => measure(named(name)).await,
        (_, Some(name)) => report::run(named(name)).await,
        (None, None) => list().await,
    }
}

async fn measure(device: Option<String>) -> Result {
    let gpu = Gpu::open(&GpuOptions::default().device(device).tuning(Tuning::Off)).await?;
    let (gpu, trials) = tune::tune(gpu).await?;
    let (card, mut out) = (gpu.adapter(), io::stdout().lock());
    writeln!(
        out,
        "matmul and attention kernels on {} ({}); {}\n",
        term::printable(&card.name),
        card.backend,
        matmul_config(card)
    )?;
    Ok(write!(out, "{}", trial_table(&gpu, &trials))?)
}

/// A table of trials; "kept" marks those whose parameters the device uses.
pub(super) fn trial_table(gpu: &Gpu, trials: &[Trial]) -> String {
    let (card, layout) = (gpu.adapter(), gpu.caps().tune_config());
    let kept = |trial: &Trial| {
        if trial.attends {
            return trial.seconds.is_some() && (trial.tier == Tier::Cooperative) == layout.cooperative_attention;
        }
        let same = TuneConfig {
            f16_tile_rows: layout.f16_tile_rows,
            cooperative_attention: layout.cooperative_attention,
            ..trial.layout
        } == layout;
        let fastest = card.tuning.is_some_and(|found| found.fastest() == trial.tier);
        let used = trial.tier.exact() || fastest && trial.layout.f16_tile_rows == layout.f16_tile_rows;
        same && used && trial.seconds.is_some()
    };
    let rows: Vec<Vec<String>> = trials.iter().map(|trial| row(trial, kept(trial))).collect();
    let title = ["<of", "<tier", "rows", "lanes", "threads", "rows a thread", "span", "side", "difference", "us", "<"];
    term::table(&title, &rows)
}

/// A row of the table.
fn row(trial: &Trial, kept: bool) -> Vec<String> {
    let layout = &trial.layout;
    let numbers =
        [trial.rows, layout.lanes, layout.threads, layout.rows_per_lane, layout.tile_threads, layout.f16_tile_rows]
            .map(|n| n.to_string());
    let time = trial.seconds.map_or("wrong".to_string(), |seconds| format!("{:.1}", seconds * 1e6));
    let of = if trial.attends { "attention" } else { "matmul" };
    let mut line = vec![of.to_string(), trial.tier.to_string()];
    line.extend(numbers);
    line.extend([format!("{:.0e}", trial.error), time, if kept { "kept" } else { "" }.to_string()]);
    line
}

/// The matmul kernel's parameters.
fn matmul_config(card: &AdapterInfo) -> String {
    let config = card.caps.tune_config();
    let why = if card.caps.tuned.is_some() { "tuned" } else { "default" };
    let (lanes, threads, rows) = (config.lanes, config.threads, config.rows_per_lane);
    format!("matmul with {lanes} of {threads} threads per row and {rows} rows per thread ({why})")
}

async fn list() -> Result {
    let cards = Gpu::list().await;
    if cards.is_empty() {
        return Err(Error::Gpu(NO_ADAPTER.into()).into());
    }
    let mut out = io::stdout().lock();
    cards.iter().enumerate().try_for_each(|(i, card)| write!(out, "{i}  {}", describe(card)))?;
    Ok(())
}

/// Whether a 16-bit prefill tier is used, and why not.
fn f16_tier(caps: &Caps, tuning: Option<TuneResult>, tier: Tier) -> String {
    let found = tuning.map_or(TuneOutcome::None, |tune_result| tune_result.of(tier));
    let fastest = tuning.is_some_and(|tune_result| tune_result.fastest() == tier);
    let says = match (caps.lacks(tier), found) {
        (_, TuneOutcome::Wrong) => "disabled: its kernels computed wrong results during tuning",
        (Some(why), _) => &format!("unavailable: {why}"),
        (None, TuneOutcome::None) => "on request only: it rounds activations to f16 for prefill",
        (None, TuneOutcome::Slower) => "on request only: correct, but slower during tuning",
        (None, TuneOutcome::Faster) if fastest => {
            "used for prefill unless a tier is requested, with activations rounded to f16 (not in logits and perplexity)"
        }
        (None, TuneOutcome::Faster) => "on request only: correct and fast during tuning, but not the fastest",
    };
    format!("tier {tier} {says}")
}

pub(super) fn describe(card: &AdapterInfo) -> String {
    let caps = &card.caps;
    let mut lines = vec![term::printable(&card.name)];
    lines.push(term::printable(format!("{}, {}, driver {}", card.backend, card.kind, card.driver).trim()));
    if let Some(why) = &card.unusable {
        lines.push(format!("not usable: {why}"));
        return lines.join("\n   ") + "\n";
    }
    lines.push(match card.why_not_higher.as_str() {
        "" => format!("tier {}, the highest exact one", caps.tier),
        why => format!("tier {}, not {why}", caps.tier),
    });
    lines.extend(rounding_tiers(caps, card.tuning));
    lines.push(limits(caps));
    lines.push(matmul_config(card));
    lines.push(format!("timestamps (for --profile): {}", if caps.timestamps { "yes" } else { "no" }));
    lines.join("\n   ") + "\n"
}

/// A GPU that is not here. Its memory and limits are those that plans assume.
fn describe_model(gpu: &GpuModel) -> String {
    let caps = gpu.caps();
    let mut lines = vec![format!("{}, which is not here: figures from {}", gpu.name, gpu.source)];
    lines.push(format!("tier {}, the highest exact one", caps.tier));
    lines.extend(rounding_tiers(&caps, None));
    lines.push(limits(&caps));
    lines.push(match caps.memory {
        Some(bytes) => format!("memory {}, {} GB/s", term::bytes(bytes), gpu.bandwidth),
        None => format!("memory shared with the CPU, {} GB/s", gpu.bandwidth),
    });
    lines.push(format!("{} compute units at {} GHz", gpu.units, gpu.clock));
    lines.join("\n   ") + "\n"
}

fn rounding_tiers(caps: &Caps, tuning: Option<TuneResult>) -> Vec<String> {
    let int8 = "tier int8 on request only: it rounds activations to 8 bits".to_string();
    [int8].into_iter().chain(Tier::F16_TIERS.map(|tier| f16_tier(caps, tuning, tier))).collect()
}

fn limits(caps: &Caps) -> String {
    let subgroups = match caps.subgroup {
        (0, 0) => String::new(),
        (min, max) if min == max => format!(", subgroup size {min}"),
        (min, max) => format!(", subgroup size {min} to {max}"),
    };
    let (binding, buffer) = (term::bytes(caps.max_binding), term::bytes(caps.max_buffer));
    format!("largest binding {binding}, largest buffer {buffer}{subgroups}")
}
