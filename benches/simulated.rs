//! Writes SIMULATED.md: the counts and forecasts of the kernels of two models on six GPUs.
//!
//! ```sh
//! cargo bench --features simulate --bench simulated > benches/SIMULATED.md
//! ```

use firelight::gpu::{Caps, Tier};
use firelight::plan::DispatchList;
use firelight::sim::{AccessCounts, AccessKind, GpuModel, KernelProfile, OperationClass, SimulatedPlan};
use firelight::{Model, SessionOptions, memory_plan, synth};

/// The names of the GPUs.
const GPUS: [&str; 6] = ["rx7900xtx", "a770", "rtx4090", "h200", "m3max", "adreno740"];
/// Shapes, their weight types, and the contexts of plans.
const MODELS: [(&str, &str, u32); 2] = [("qwen3-0.6b", "Q4_K_M", 4096), ("llama-3.1-8b", "Q4_K_M", 4096)];
/// Rows and first positions of the steps.
const DECODE: (u32, u32) = (1, 1023);
const PREFILL: (u32, u32) = (512, 0);

const INTRODUCTION: &str = "\
# Simulated kernels

Counts and forecasts of the kernels as they are today, from the simulator (`src/sim`), for GPUs that nobody has measured
with Firelight. They are not measurements: the forecast is a roofline (`src/sim/roofline.rs`) over counts of naga's IR,
without latency, occupancy, cache misses or a driver's optimizations. `src/sim/gpus.rs` has the figures of the GPUs with
their sources. Renew this file after changing a kernel:

```sh
cargo bench --features simulate --bench simulated > benches/SIMULATED.md
```

Decode is one row at position 1023, prefill 512 rows at position 0. Columns:

* lines: the variables for which a request touches more than 1.1 times the fewest 128-byte lines that could hold its bytes
* conflicts: the share of the cycles of workgroup memory that bank conflicts cost
* active: the share of active lanes
* of light: the time in which memory could move the least possible bytes, divided by the forecast

## Compared with measurements of other kernels

llama.cpp's pull request 23594 reports decode speeds of its WebGPU backend for Llama 3.2 in Q4_K_M. Its matrix-vector
kernels for Q4_K and Q6_K (commit 0c4b40ed1, expanded by hand for 256 threads and 4 rows, with inner loops unrolled as
drivers do) run in this simulator; 12 more dispatches per layer cost the overhead alone. Tokens per second:

| GPU | model | forecast | measured | error | forecast with loops as written |
|---|---|---|---|---|---|
| m2 | 1B | 72.9 | 82.9 | -12 % | 53.3 |
| m2 | 3B | 31.6 | 39.0 | -19 % | 22.2 |
| rtx4070 | 1B | 340 | 67.0 | +408 % | 239 |

On the M2, the forecast is bound by issue, so it depends on how many operations a driver saves. On the RTX 4070, the
measurement is 11 % of memory bandwidth: 37 us for each of 308 dispatches, which no part of the roofline explains. The
forecast ignores what a runtime loses between dispatches.";

fn main() {
    // `cargo test` runs benchmarks, too, without this argument.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    println!("{INTRODUCTION}\n\n## Whole steps\n");
    println!("| GPU | model | tier | step | dispatches | forecast, ms | tok/s | of light |\n{}|", "|---".repeat(8));
    let mut tables = String::new();
    for (shape, types, context) in MODELS {
        let source = synth::without_weights(shape, types).expect("a known shape and type");
        let model = pollster::block_on(Model::from_sources(vec![source])).expect("a model");
        for gpu in GPUS.map(|name| GpuModel::find(name).expect("a known GPU")) {
            for (tier, step) in steps(&gpu.caps()) {
                let caps = gpu.caps().tier(tier);
                let options = SessionOptions::default().context(context);
                let list = memory_plan::plan_memory(&model, &caps, &options).expect("it fits").dispatch_list;
                let mut plan = SimulatedPlan::without_weights(list, (gpu.subgroup.1, gpu.subgroup.1));
                let profiles = plan.profile_step(step.0, step.1).expect("the simulator supports every kernel");
                let title = format!("{shape} {types}, {tier} tier, {}", name(step));
                println!("{}", summary(gpu, (shape, &tier.to_string(), step), &profiles));
                tables += &table(gpu, &title, plan.dispatch_list(), &profiles);
            }
        }
    }
    println!("\n{}", tables.trim_end());
}

/// Decode runs the same kernels in every tier but int8.
fn steps(caps: &Caps) -> Vec<(Tier, (u32, u32))> {
    let mut steps = vec![(Tier::Subgroups, DECODE), (Tier::Subgroups, PREFILL), (Tier::Int8, DECODE)];
    if caps.lacks(Tier::Cooperative).is_none() {
        steps.push((Tier::Cooperative, PREFILL));
    }
    steps
}

fn name(step: (u32, u32)) -> &'static str {
    if step == DECODE { "decode" } else { "prefill" }
}

fn summary(gpu: &GpuModel, (shape, tier, step): (&str, &str, (u32, u32)), profiles: &[KernelProfile]) -> String {
    let seconds: f64 = profiles.iter().map(|of| gpu.forecast(&of.profile, of.bytes).seconds).sum();
    let light = gpu.memory_seconds(profiles.iter().map(|of| of.bytes).sum());
    format!(
        "| {} | {shape} | {tier} | {} | {} | {:.2} | {:.0} | {:.0} % |",
        gpu.name,
        name(step),
        profiles.len(),
        seconds * 1e3,
        f64::from(step.0) / seconds,
        100.0 * light / seconds
    )
}

/// A table of a step's kernels.
fn table(gpu: &GpuModel, title: &str, list: &DispatchList, profiles: &[KernelProfile]) -> String {
    let mut out = format!(
        "## {}: {title}\n\n| times | kernel | workgroups | operations | matrix | active | lines | conflicts | us | of \
         light | bound by |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
        gpu.name
    );
    for (count, KernelProfile { kernel, profile, bytes }) in KernelProfile::grouped(profiles) {
        let forecast = gpu.forecast(profile, *bytes);
        out += &format!(
            "| {count} | {} | {} | {} | {} | {} | {} | {} | {:.1} | {:.0} % | {} |\n",
            list.kernels[*kernel].1.source.file,
            profile.workgroups,
            profile.operations.scalar(),
            profile.operations.of(OperationClass::Matrix),
            percent(profile.active_lanes, profile.lanes),
            wide_accesses(&profile.accesses),
            percent(profile.all_accesses().conflicts, profile.all_accesses().wavefronts),
            forecast.seconds * 1e6,
            100.0 * gpu.memory_seconds(*bytes) / forecast.seconds,
            forecast.bound_by.name(),
        );
    }
    out + "\n"
}

fn percent(part: u64, whole: u64) -> String {
    (100 * part).checked_div(whole).map_or(String::new(), |percent| format!("{percent} %"))
}

/// The variables for which requests touch more lines than necessary.
fn wide_accesses(accesses: &[(String, AccessKind, AccessCounts)]) -> String {
    let ratio = |counts: &AccessCounts| counts.lines as f64 / counts.ideal_lines as f64;
    let wide = accesses.iter().filter(|(_, _, counts)| counts.ideal_lines > 0 && ratio(counts) > 1.1);
    let shown = wide.map(|(variable, kind, counts)| {
        let store = if *kind == AccessKind::Read { "" } else { " (store)" };
        format!("{variable}{store} x {:.1}", ratio(counts))
    });
    shown.collect::<Vec<_>>().join(", ")
}
