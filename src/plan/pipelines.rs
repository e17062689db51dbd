//! Kernels made ready to run: each variant is compiled once, on as many threads as there are processors, beside whatever else
//! happens meanwhile. (A browser compiles beside the page by itself.)

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Dispatch;
use super::memory::Place;
use crate::Result;
use crate::gpu::{self, Buffer, Gpu};
use crate::graph::TensorId;
use crate::ops::{Binding, Kernel};
use crate::shader::{self, Dialect};

/// A kernel's pipeline, and how its buffers are bound.
#[derive(Clone)]
pub(super) struct Built {
    pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
}

/// A pipeline to be built.
struct Wanted {
    label: &'static str,
    text: String,
    layout: wgpu::BindGroupLayout,
}

/// Starts to compile kernels; what it gives is waited for, and gives them in their order.
///
/// # Errors
/// [`crate::Error::Gpu`] if the driver fails.
pub(super) fn build(gpu: &Gpu, kernels: &[&Kernel]) -> impl Future<Output = Result<Vec<Built>>> + use<> {
    let (mut layouts, mut known) = (HashMap::new(), HashMap::new());
    let (mut wanted, mut of) = (Vec::new(), Vec::new());
    for kernel in kernels {
        // Layers are mostly alike, and a text takes a hundred times longer to make than what it is made of.
        of.push(*known.entry(format!("{:?}", kernel.source)).or_insert_with(|| {
            let writes: Vec<bool> = kernel.bindings.iter().map(|b| b.write).collect();
            let layout = layouts.entry(writes).or_insert_with_key(|writes| layout(gpu, writes)).clone();
            wanted.push(Wanted {
                label: kernel.source.file,
                text: shader::assemble(&kernel.source, dialect(gpu)),
                layout,
            });
            wanted.len() - 1
        }));
    }
    let (wanted, next) = (Arc::new(wanted), Arc::new(AtomicUsize::new(0)));
    let worker = |_| {
        let (wanted, next, own) = (wanted.clone(), next.clone(), gpu.clone());
        gpu.spawn_blocking(move || {
            let watch = own.error_scope();
            let mine = std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)).filter(|i| *i < wanted.len()));
            let built: Vec<_> = mine.map(|i| (i, pipeline(&own, &wanted[i]))).collect();
            (built, watch.finish())
        })
    };
    let gpu = gpu.clone();
    let workers: Vec<_> = (0..gpu::processors()).map(worker).collect();
    async move {
        let (mut all, mut outcome) = (HashMap::new(), Ok(()));
        for worker in workers {
            let (built, watched) = worker.await;
            all.extend(built);
            outcome = outcome.and(watched.await);
        }
        gpu.save_pipeline_cache();
        outcome.map(|()| of.iter().map(|i| Built::clone(&all[i])).collect())
    }
}

fn pipeline(gpu: &Gpu, wanted: &Wanted) -> Built {
    let Wanted { label, text, layout } = wanted;
    let label = Some(*label);
    let source = wgpu::ShaderSource::Wgsl(text.as_str().into());
    // A count of each loop's rounds keeps drivers from unrolling it, and is not needed where loops count anyway.
    let sampler = wanted.label.starts_with("sample");
    let checks = wgpu::ShaderRuntimeChecks { force_loop_bounding: sampler, ..wgpu::ShaderRuntimeChecks::checked() };
    let descriptor = wgpu::ShaderModuleDescriptor { label, source };
    // SAFETY: all other checks are made. `tests/shaders.rs` finds loops, but for the sampler's, that do not count to an end.
    let module = unsafe { gpu.counted_device().create_shader_module_trusted(descriptor, checks) };
    let pipeline_layout = gpu.counted_device().create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label,
        bind_group_layouts: &[Some(layout)],
        immediate_size: 0,
    });
    let pipeline = gpu.counted_device().create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label,
        layout: Some(&pipeline_layout),
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions {
            zero_initialize_workgroup_memory: false,
            ..Default::default()
        },
        cache: gpu.pipeline_cache(),
    });
    Built { pipeline, layout: layout.clone() }
}

fn layout(gpu: &Gpu, writes: &[bool]) -> wgpu::BindGroupLayout {
    let entry = |binding: u32, ty: wgpu::BufferBindingType| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
        count: None,
    };
    let storage =
        |(i, write): (usize, &bool)| entry(i as u32 + 1, wgpu::BufferBindingType::Storage { read_only: !write });
    let mut entries = vec![entry(0, wgpu::BufferBindingType::Uniform)];
    entries.extend(writes.iter().enumerate().map(storage));
    let descriptor = wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries };
    gpu.counted_device().create_bind_group_layout(&descriptor)
}

fn dialect(gpu: &Gpu) -> Dialect {
    if gpu.adapter().backend == "BrowserWebGpu" { Dialect::Web } else { Dialect::Native }
}

impl Built {
    /// With a kernel's buffers.
    pub(super) fn bind(
        self,
        gpu: &Gpu,
        (node, kernel): (usize, &Kernel),
        step: &Buffer,
        places: &BTreeMap<TensorId, Vec<Place>>,
    ) -> Dispatch {
        let storage = |(i, b): (usize, &Binding)| wgpu::BindGroupEntry {
            binding: i as u32 + 1,
            resource: places[&b.tensor][b.shard].binding(),
        };
        let mut entries = vec![wgpu::BindGroupEntry { binding: 0, resource: step.as_entire_binding() }];
        entries.extend(kernel.bindings.iter().enumerate().map(storage));
        let group = gpu.counted_device().create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(kernel.source.file),
            layout: &self.layout,
            entries: &entries,
        });
        Dispatch { kernel: kernel.clone(), node, pipeline: self.pipeline, group }
    }
}
