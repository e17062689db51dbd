//! `plan --simulate`: the counts of each kernel of a step, and a forecast for another GPU.

use std::io::{self, Write};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use firelight::gpu::Caps;
use firelight::plan::DispatchList;
use firelight::sim::{GPU_MODELS, GpuModel, KernelProfile, OperationClass, SimulatedPlan};

use super::Result;
use super::term::{self, Failure};

/// Parses the name of a GPU.
pub fn gpu_model() -> impl TypedValueParser<Value = &'static GpuModel> {
    PossibleValuesParser::new(GPU_MODELS.map(|gpu| gpu.name)).try_map(|name| GpuModel::find(&name).ok_or("no such GPU"))
}

/// Writes the counts of a step's kernels; with `on`, also a forecast.
pub fn show(
    dispatch_list: DispatchList,
    (name, caps): (&str, &Caps),
    (rows, position): (u32, u32),
    on: Option<&GpuModel>,
) -> Result {
    let width = if caps.subgroup == (0, 0) { 32 } else { caps.subgroup.1.clamp(4, 128) };
    let mut plan = SimulatedPlan::without_weights(dispatch_list, (width, width));
    let profiles = plan.profile_step(rows, position).map_err(Failure::usage)?;
    let mut out = io::stdout().lock();
    let title = format!("{rows} rows at position {position} on {name}, {} tier, subgroups of {width}", caps.tier);
    writeln!(out, "{}\n", term::printable(&title))?;
    let groups = KernelProfile::grouped(&profiles);
    let table: Vec<Vec<String>> =
        groups.into_iter().map(|(count, of)| row(plan.dispatch_list(), count, of, on)).collect();
    let mut header = vec![
        "times",
        "<op",
        "<shader",
        "workgroups",
        "operations",
        "matrix",
        "active",
        "lines",
        "of ideal",
        "conflicts",
    ];
    if on.is_some() {
        header.extend(["us", "of light", "<bound by"]);
    }
    write!(out, "{}", term::table(&header, &table))?;
    if let Some(gpu) = on {
        writeln!(out, "\n{}", total(gpu, &profiles))?;
    }
    Ok(())
}

/// The counts of one dispatch, of which there are `count`.
fn row(dispatch_list: &DispatchList, count: usize, of: &KernelProfile, on: Option<&GpuModel>) -> Vec<String> {
    let KernelProfile { kernel, profile, bytes } = of;
    let (node, source) = (dispatch_list.kernels[*kernel].0, &dispatch_list.kernels[*kernel].1.source);
    let memory = profile.all_accesses();
    let percent = |part: u64, whole: u64| format!("{} %", (100 * part).checked_div(whole).unwrap_or(0));
    let ideal = memory.lines as f64 / memory.ideal_lines.max(1) as f64;
    let mut row = vec![
        count.to_string(),
        dispatch_list.graph.nodes[node].name().to_string(),
        source.file.to_string(),
        profile.workgroups.to_string(),
        profile.operations.scalar().to_string(),
        profile.operations.of(OperationClass::Matrix).to_string(),
        percent(profile.active_lanes, profile.lanes),
        memory.lines.to_string(),
        format!("x {ideal:.1}"),
        percent(memory.conflicts, memory.wavefronts),
    ];
    if let Some(gpu) = on {
        let forecast = gpu.forecast(profile, *bytes);
        let light = format!("{:.0} %", 100.0 * gpu.memory_seconds(*bytes) / forecast.seconds);
        row.extend([format!("{:.1}", forecast.seconds * 1e6), light, forecast.bound_by.name().to_string()]);
    }
    row
}

/// The forecast of the whole step.
fn total(gpu: &GpuModel, profiles: &[KernelProfile]) -> String {
    let seconds: f64 = profiles.iter().map(|of| gpu.forecast(&of.profile, of.bytes).seconds).sum();
    let bytes: u64 = profiles.iter().map(|of| of.bytes).sum();
    format!(
        "forecast: {:.2} ms, {:.0} steps per second, {:.0} % of the speed of light ({} at {} GB/s)\nfigures from {}",
        seconds * 1e3,
        1.0 / seconds,
        100.0 * gpu.memory_seconds(bytes) / seconds,
        term::bytes(bytes),
        gpu.bandwidth,
        gpu.source
    )
}
