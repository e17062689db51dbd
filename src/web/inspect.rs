//! What a page can ask without loading a model: whether a model fits the GPU, and what the GPU is and computes.

use serde_json::{Value, json};
use wasm_bindgen::prelude::*;

use super::js_error::{JsError, Moment};
use super::request::OpenOptions;
use super::source::{self, SourceError};
use crate::gpu::{AdapterInfo, Gpu, GpuOptions, Tuning};
use crate::memory_plan::plan_memory;
use crate::plan::{self, tune};
use crate::{Error, Model, Result};

/// Bytes of the copy that measures the memory bandwidth: more than the caches of a GPU hold, or what a processor
/// copies in a moment.
const COPIED: u64 = 256 << 20;
const COPIED_SOFTWARE: u64 = 16 << 20;

/// Whether a model fits the GPU, from its header alone: JSON `{fits, reason, context, gpuBytes, notices}`. The
/// arguments are those of `Engine.open`.
///
/// # Errors
/// JSON `{code, message}`, or the value that a source threw.
#[wasm_bindgen]
pub async fn fit(sources: Vec<JsValue>, options: String) -> std::result::Result<String, JsValue> {
    let source_error = SourceError::default();
    let fit = fit_of(&sources, &options, &source_error).await;
    fit.map(|fit| fit.to_string()).map_err(|error| source_error.or(JsError::new(Moment::Read, &error)))
}

async fn fit_of(sources: &[JsValue], options: &str, source_error: &SourceError) -> Result<Value> {
    let options = OpenOptions::parse(options)?;
    let sources = sources.iter().map(|s| source::source(s, source_error)).collect::<Result<Vec<_>>>()?;
    let model = Model::from_sources(sources).await?;
    let AdapterInfo { caps, .. } = Gpu::list().await.into_iter().next().ok_or_else(no_adapter)?;
    Ok(match plan_memory(&model, &caps, &options.session(&caps)) {
        Ok(plan) => json!({
            "fits": true,
            "context": plan.context,
            "gpuBytes": plan.dispatch_list.bytes().total(),
            "notices": plan.notices,
        }),
        Err(Error::DoesNotFit { message, .. }) => json!({"fits": false, "reason": message.replace("--", "")}),
        Err(error) => return Err(error),
    })
}

/// Opens the GPU, compares its kernels with the CPU, and measures its memory. JSON: Firelight's version, the adapter,
/// its limits, GB/s of a copy, GFLOP/s of arithmetic in f32, and for each kernel variant `{kernel, tier, rows, error,
/// seconds}`, without seconds if it computes wrong results. It takes a few seconds.
///
/// # Errors
/// JSON `{code, message}` if there is no GPU, or it is lost.
#[wasm_bindgen]
pub async fn inspect() -> std::result::Result<String, JsValue> {
    let inspected = inspect_gpu().await;
    inspected.map(|found| found.to_string()).map_err(|error| JsError::new(Moment::Open, &error).into())
}

async fn inspect_gpu() -> Result<Value> {
    let gpu = Gpu::open(&GpuOptions::default().tuning(Tuning::Off)).await?;
    let measured = measure(&gpu).await;
    gpu.destroy();
    measured
}

async fn measure(gpu: &Gpu) -> Result<Value> {
    let (adapter, caps) = (gpu.adapter(), gpu.caps());
    let copied = if caps.software { COPIED_SOFTWARE } else { COPIED };
    let copy = plan::copy_bandwidth(gpu, copied).await?;
    let rate = plan::arithmetic_rate(gpu).await?;
    let trials = tune::trials(gpu, caps, &tune::TuneSizes::usual(caps)).await?;
    let kernels = trials.iter().map(|trial| {
        json!({
            "kernel": if trial.attends { "attention" } else { "matmul" },
            "tier": trial.tier.name(),
            "rows": trial.rows,
            "error": trial.error,
            "seconds": trial.seconds,
        })
    });
    Ok(json!({
        "adapter": adapter.name,
        "software": caps.software,
        "tier": caps.tier.name(),
        "subgroup": caps.subgroup,
        "f16": caps.f16,
        "timestamps": caps.timestamps,
        "maxBinding": caps.max_binding,
        "maxBuffer": caps.max_buffer,
        "workgroupBytes": caps.workgroup_bytes,
        "maxWorkgroups": caps.max_workgroups,
        "copyGBs": copy,
        "gflops": rate,
        "firelight": env!("CARGO_PKG_VERSION"),
        "kernels": kernels.collect::<Vec<_>>(),
    }))
}

fn no_adapter() -> Error {
    Error::Gpu("the browser offers no GPU adapter".into())
}
