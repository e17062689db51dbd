//! Compiles the kernels of a plan: each variant once per device, on as many threads as there are processors, while the
//! caller does something else. (Browsers compile in the background by themselves.)

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use super::Dispatch;
use super::memory::BufferRange;
use crate::gpu::{self, Buffer, Gpu, Lookup, Pipeline, Vacancy};
use crate::graph::TensorId;
use crate::ops::{Binding, Kernel};
use crate::shader::{self, ShaderLanguage, ShaderSource};
use crate::{Error, Result};

/// A pipeline to compile.
struct Job {
    index: usize,
    source: ShaderSource,
    /// Whether the kernel writes each of its bindings.
    writes: Vec<bool>,
    vacancy: Vacancy,
}

/// Starts to compile kernels. The future resolves to their pipelines, in the order of the kernels.
///
/// # Errors
/// [`Error::Gpu`] if the driver fails.
pub(super) fn build(gpu: &Gpu, kernels: &[&Kernel]) -> impl Future<Output = Result<Vec<Pipeline>>> + use<> {
    let (mut known, mut ready) = (HashMap::new(), HashMap::new());
    let (mut jobs, mut waiting, mut order) = (Vec::new(), Vec::new(), Vec::new());
    for kernel in kernels {
        let index = known.len();
        // Most layers are alike, and assembling a shader takes a hundred times longer than printing its `ShaderSource`.
        order.push(*known.entry(format!("{:?}", kernel.source)).or_insert_with_key(|key| {
            match gpu.pipelines().lookup(key) {
                Lookup::Ready(pipeline) => drop(ready.insert(index, pipeline)),
                Lookup::Compiling(receiver) => waiting.push((index, kernel.source.file, receiver)),
                Lookup::Missing(vacancy) => {
                    let writes = kernel.bindings.iter().map(|b| b.write).collect();
                    jobs.push(Job { index, source: kernel.source.clone(), writes, vacancy });
                }
            }
            index
        }));
    }
    let workers = gpu::processors().min(jobs.len());
    let jobs = Arc::new(Mutex::new(jobs.into_iter()));
    let worker = |_| {
        let (jobs, own) = (jobs.clone(), gpu.clone());
        let next = move || jobs.lock().unwrap_or_else(PoisonError::into_inner).next();
        gpu.spawn_blocking(move || std::iter::from_fn(next).map(|job| Compiled::poll(compile(&own, job))).collect())
    };
    let workers: Vec<_> = (0..workers).map(worker).collect();
    let gpu = gpu.clone();
    async move {
        let (any, mut outcome) = (!workers.is_empty(), Ok(()));
        for worker in workers {
            let compiled: Vec<Compiled<_>> = worker.await;
            for compiled in compiled {
                match compiled.wait().await {
                    Ok((index, pipeline)) => drop(ready.insert(index, pipeline)),
                    Err(error) => outcome = outcome.and(Err(error)),
                }
            }
        }
        if any {
            gpu.save_pipeline_cache();
        }
        outcome?;
        for (index, file, receiver) in waiting {
            let failed = |_| Error::Gpu(format!("the driver failed to compile {file} for another session"));
            ready.insert(index, receiver.await.map_err(failed)?);
        }
        Ok(order.iter().map(|index| ready[index].clone()).collect())
    }
}

/// A pipeline, or the future of one.
enum Compiled<F> {
    Done(Result<(usize, Pipeline)>),
    Pending(std::pin::Pin<Box<F>>),
}

impl<F: Future<Output = Result<(usize, Pipeline)>>> Compiled<F> {
    /// Polls a future once. Natively it is complete then, so that others need not wait for the awaiting plan.
    fn poll(future: F) -> Self {
        let mut future = Box::pin(future);
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => Compiled::Done(result),
            Poll::Pending => Compiled::Pending(future),
        }
    }

    async fn wait(self) -> Result<(usize, Pipeline)> {
        match self {
            Compiled::Done(result) => result,
            Compiled::Pending(future) => future.await,
        }
    }
}

/// Compiles a kernel, and shares its pipeline once the device has accepted it.
fn compile(
    gpu: &Gpu,
    Job { index, source, writes, vacancy }: Job,
) -> impl Future<Output = Result<(usize, Pipeline)>> + wgpu::WasmNotSend + use<> {
    let text = shader::assemble(&source, dialect(gpu));
    let scope = gpu.error_scope();
    let pipeline = pipeline(gpu, &source, &text, &writes);
    let outcome = scope.finish();
    async move {
        outcome.await?;
        vacancy.fill(&pipeline);
        Ok((index, pipeline))
    }
}

fn pipeline(gpu: &Gpu, source: &ShaderSource, text: &str, writes: &[bool]) -> Pipeline {
    let (name, layout) = (source.label(), layout(gpu, writes));
    let label = Some(name.as_str());
    // A count of each loop's rounds keeps drivers from unrolling it, and is not needed where loops count anyway.
    let sampler = source.file.starts_with("sample");
    let checks = wgpu::ShaderRuntimeChecks { force_loop_bounding: sampler, ..wgpu::ShaderRuntimeChecks::checked() };
    let descriptor = wgpu::ShaderModuleDescriptor { label, source: wgpu::ShaderSource::Wgsl(text.into()) };
    // SAFETY: all other checks are made. `tests/shaders.rs` finds loops, except the sampler's, that do not count to an
    // end.
    let module = unsafe { gpu.counted_device().create_shader_module_trusted(descriptor, checks) };
    let pipeline_layout = gpu.counted_device().create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label,
        bind_group_layouts: &[Some(&layout)],
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
    Pipeline { pipeline, layout }
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

fn dialect(gpu: &Gpu) -> ShaderLanguage {
    if gpu.adapter().backend == "BrowserWebGpu" { ShaderLanguage::Web } else { ShaderLanguage::Native }
}

/// A kernel with its buffers bound.
pub(super) fn bind(
    gpu: &Gpu,
    pipeline: Pipeline,
    (node, kernel): (usize, &Kernel),
    step: &Buffer,
    ranges: &BTreeMap<TensorId, Vec<BufferRange>>,
) -> Dispatch {
    let storage = |(i, b): (usize, &Binding)| wgpu::BindGroupEntry {
        binding: i as u32 + 1,
        resource: ranges[&b.tensor][b.shard].binding(),
    };
    let mut entries = vec![wgpu::BindGroupEntry { binding: 0, resource: step.as_entire_binding() }];
    entries.extend(kernel.bindings.iter().enumerate().map(storage));
    let Pipeline { pipeline, layout } = pipeline;
    let group = gpu.counted_device().create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some(kernel.source.file),
        layout: &layout,
        entries: &entries,
    });
    Dispatch { kernel: kernel.clone(), node, pipeline, group }
}
