//! The device's bandwidth, as a shader meets it: what decode is measured against.

use std::collections::{BTreeMap, HashMap};

use super::{Builder, Dispatch, bind, record};
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
        const TIMES: u32 = 8;
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        for _ in 0..TIMES {
            record(&mut pass, &dispatch, &StepSizes::default());
        }
        drop(pass);
        let start = crate::gpu::Clock::now();
        let index = gpu.queue().submit([encoder.finish()]);
        gpu.wait(index).await?;
        if round > 0 {
            best = best.min(start.seconds() / f64::from(TIMES));
        }
    }
    Ok(f64::from(count) * 32.0 / best / 1e9)
}
