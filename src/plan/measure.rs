//! What a step is measured against: the device's bandwidth as a shader meets it, and what the CPU takes to record.

use std::collections::{BTreeMap, HashMap};

use super::{Builder, Dispatch, Plan, bind, encode};
use crate::Result;
use crate::gpu::{Buffer, Gpu};
use crate::graph::TensorId;
use crate::ops::{self, Binding, Kernel, StepSizes};
use crate::shader::{self, Const};

/// GB/s that a copy shader reaches, reading and writing `bytes` bytes each; what `bench` calls the bandwidth.
pub async fn copy_bandwidth(gpu: &Gpu, bytes: u64) -> Result<f64> {
    let count = (bytes.min(gpu.caps().max_binding) / 16) as u32;
    let source = shader::Source { file: "copy", imports: vec![], consts: vec![("COUNT", Const::U32(count))] };
    let ids = [TensorId(0), TensorId(1)];
    let side = count.div_ceil(256).min(32768);
    let grid = [ops::Extent::fixed(side), ops::Extent::ceil(count, 256 * side), ops::Extent::fixed(1)];
    let kernel = Kernel::new(source, vec![Binding::read(ids[0]), Binding::write(ids[1])], grid);
    let watch = gpu.watch();
    let make = |id| (id, vec![gpu.buffer("copy", u64::from(count) * 16)]);
    let buffers: BTreeMap<TensorId, Vec<Buffer>> = ids.map(make).into();
    let step = gpu.uniform("step", size_of::<StepSizes>() as u64);
    let mut builder = Builder { gpu, pipelines: HashMap::new(), layouts: HashMap::new() };
    let (pipeline, layout) = builder.pipeline(&kernel);
    let group = bind(gpu, &layout, &kernel, &step, &buffers);
    watch.finish().await?;
    let dispatch = Dispatch { kernel, node: 0, pipeline, group };
    let mut best = f64::MAX;
    // The first round warms up; the best of the rest is what the memory can do.
    for round in 0..6 {
        const TIMES: usize = 8;
        let encoder = encode(gpu, &[&dispatch; TIMES], &StepSizes::default());
        let start = crate::gpu::Clock::now();
        let index = gpu.queue().submit([encoder.finish()]);
        gpu.wait(index).await?;
        if round > 0 {
            best = best.min(start.seconds() / TIMES as f64);
        }
    }
    Ok(f64::from(count) * 32.0 / best / 1e9)
}

impl Plan {
    /// Seconds that the CPU takes to record a step of these sizes: the least of so many times. Nothing is submitted.
    pub fn recording_seconds(&self, sizes: &StepSizes, times: u32) -> f64 {
        let list: Vec<&Dispatch> = self.running(sizes).collect();
        let once = |_| {
            let start = crate::gpu::Clock::now();
            drop(encode(&self.gpu, &list, sizes).finish());
            start.seconds()
        };
        (0..times).map(once).fold(f64::MAX, f64::min)
    }
}
