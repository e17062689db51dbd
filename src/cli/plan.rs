//! `plan`: the dispatches of a model's step and a map of GPU memory. It reads no weights.

use std::io::{self, Write};

use clap::value_parser;
use firelight::gpu::Caps;
use firelight::graph::{MaskKind, TensorId};
use firelight::memory_plan::{self, MemoryPlan};
use firelight::model::Model;
use firelight::ops::{Kernel, PAGE, SlidingPages, StepSizes};
use firelight::plan::{DispatchList, runs};
use firelight::session::SessionOptions;
use firelight::sim::GpuModel;

use super::Result;
use super::args::{DeviceArgs, EngineArgs, ModelArg};
use super::simulate;
use super::term::{self, Failure};

#[derive(clap::Args)]
#[command(after_help = "\
A shader is its file and what it imports. A slot is a buffer that activations share one after another. Without a GPU the \
plan of the smallest device that WebGPU allows is shown.")]
pub struct PlanArgs {
    #[command(flatten)]
    model: ModelArg,
    /// Rows in the step: 1 for decode, more for prefill
    #[arg(long, value_name = "N", default_value = "1", value_parser = value_parser!(u32).range(1..=65536))]
    rows: u32,
    /// Position of the first row
    #[arg(long, value_name = "N", default_value = "0")]
    position: u32,
    /// Show the largest context that fits this GPU instead, with its KV cache type and its memory use
    #[arg(long, conflicts_with_all = ["rows", "position"])]
    fit: bool,
    /// Simulate the kernels and count operations, cache lines, bank conflicts and active lanes
    #[arg(long, conflicts_with = "fit")]
    simulate: bool,
    /// Plan for a GPU that is not here; with --simulate, forecast how long each dispatch takes on it
    #[arg(long, value_name = "GPU", value_parser = simulate::gpu_model(), conflicts_with = "device")]
    on: Option<&'static GpuModel>,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

pub async fn run(args: PlanArgs) -> Result {
    let model = args.model.open().await?;
    let options = args.engine.options();
    let chunk = options.chunk.max(args.rows);
    let options = options.chunk(chunk);
    let (name, caps) = device(&args).await?;
    if args.fit {
        return show_fit(&model, &name, &caps, &options);
    }
    let fitted = memory_plan::plan_memory(&model, &caps, &options)?;
    fitted.notices.iter().for_each(|n| term::note(n));
    let context = fitted.context;
    if u64::from(args.position) + u64::from(args.rows) > u64::from(context) {
        let (rows, position) = (args.rows, args.position);
        return Err(Failure::usage(format!(
            "{rows} rows from position {position} exceed the context of {context}: choose a larger --context"
        )));
    }
    let MemoryPlan { dispatch_list, .. } = fitted;
    if args.simulate {
        return simulate::show(dispatch_list, (&name, &caps), (args.rows, args.position), args.on);
    }
    // `run` samples with filters by default.
    let sizes = StepSizes { filtered: 1, ..dispatch_list.step(args.rows, args.position) };
    let shown: Vec<_> = dispatch_list.kernels.iter().filter(|(_, kernel)| runs(kernel, &sizes)).collect();
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (i, (node, kernel)) in shown.iter().enumerate() {
        rows.push(row(&dispatch_list, i, *node, kernel, &sizes));
    }
    let mut out = io::stdout().lock();
    let (what, tier) = (if args.rows == 1 { "decode" } else { "prefill" }, caps.tier);
    let title = format!("{what} of {} at position {} on {name}, {tier} tier", args.rows, args.position);
    writeln!(out, "{}\n", term::printable(&title))?;
    write!(out, "{}", term::table(&["#", "<op", "<output", "<shader", "<grid", "slot", "bytes"], &rows))?;
    let traffic = dispatch_list.step_traffic(args.rows, args.position);
    writeln!(
        out,
        "\n{} of the plan's {} dispatches run; they move {}",
        shown.len(),
        dispatch_list.kernels.len(),
        term::bytes(traffic)
    )?;
    Ok(write!(out, "\n{}", totals(&dispatch_list))?)
}

/// The device to plan for.
async fn device(args: &PlanArgs) -> Result<(String, Caps)> {
    if let Some(gpu) = args.on {
        let caps = gpu.caps();
        let tier = args.device.tier.unwrap_or(caps.tier);
        return Ok((gpu.name.to_string(), caps.tier(tier)));
    }
    match args.device.open().await {
        Ok(gpu) => Ok((gpu.adapter().name.clone(), gpu.caps().clone())),
        Err(failure) if args.device.device.is_some() || args.device.tier.is_some() => Err(failure),
        Err(_) => {
            term::note("no GPU found: planning for WebGPU's guaranteed limits");
            Ok(("WebGPU's guaranteed limits".to_string(), Caps::baseline()))
        }
    }
}

/// The available memory, the planned use of it, and the options.
fn show_fit(model: &Model, name: &str, caps: &Caps, options: &SessionOptions) -> Result {
    let fitted = memory_plan::plan_max_context(model, caps, options)?;
    fitted.notices.iter().for_each(|n| term::note(n));
    let (dispatch_list, trained) = (&fitted.dispatch_list, model.spec.context_length);
    let (total, (largest, of)) = (dispatch_list.bytes().total(), dispatch_list.largest_binding());
    let memory = match caps.memory {
        Some(free) => format!("{} free, {} remain", term::bytes(free), term::bytes(free.saturating_sub(total))),
        None => "not reported".to_string(),
    };
    let binding = term::bytes(caps.bindable());
    let mut rows = vec![
        ("on", term::printable(name)),
        ("memory", memory),
        (
            "largest binding",
            format!("{binding}; the largest tensor is {} with {}", term::printable(&of), term::bytes(largest)),
        ),
        ("context", format!("{} positions; the model was trained for {trained}", fitted.context)),
        ("take", format!("--context {} --kv {}", fitted.context, dispatch_list.capacity.kv.name())),
    ];
    if let Some(SlidingPages { window: span, pages }) = dispatch_list.capacity.sliding {
        let few = model.spec.kv_caches().filter(|cache| cache.mask != MaskKind::Causal).count();
        let layers = model.spec.layers.len();
        let kept = pages * PAGE / dispatch_list.capacity.sequences;
        let text = format!("{few} of {layers} layers see {span} positions and cache {kept}");
        rows.push(("sliding window", text));
    }
    let mut out = io::stdout().lock();
    for (what, text) in rows {
        writeln!(out, "{what:<16} {text}")?;
    }
    Ok(write!(out, "\n{}", totals(dispatch_list))?)
}

fn row(dispatch_list: &DispatchList, i: usize, node: usize, kernel: &Kernel, sizes: &StepSizes) -> Vec<String> {
    let node = &dispatch_list.graph.nodes[node];
    let output = node.outputs().first().copied().unwrap_or(TensorId(0));
    let [x, y, z] = kernel.workgroups(sizes);
    vec![
        i.to_string(),
        node.name().to_string(),
        term::printable(&dispatch_list.graph.tensor(output).name),
        kernel.source.name(),
        format!("{x} x {y} x {z}"),
        dispatch_list.slots.of.get(&output).map_or("-".to_string(), usize::to_string),
        dispatch_list.traffic(kernel, sizes).to_string(),
    ]
}

fn totals(dispatch_list: &DispatchList) -> String {
    let bytes = dispatch_list.bytes();
    let slots = format!("activations, in {} slots", dispatch_list.slots.bytes.len());
    let parts = [
        ("weights", bytes.weights),
        ("KV cache", bytes.kv),
        (slots.as_str(), bytes.slots),
        ("vectors and tables", bytes.other),
        ("all", bytes.total()),
    ];
    let rows: Vec<_> = parts.iter().map(|(name, n)| vec![name.to_string(), n.to_string(), term::bytes(*n)]).collect();
    term::table(&["<on the GPU", "bytes", ""], &rows)
}
