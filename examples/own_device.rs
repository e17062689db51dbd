//! A model on a wgpu device that the application has opened, as with egui and Bevy:
//! `cargo run --example own_device MODEL.gguf "Why is the sky blue?"`

use std::io::Write;

use firelight::gpu::wgpu;
use firelight::template::TemplateInput;
use firelight::{Event, Gpu, GpuOptions, Model, Request, Session};

/// The device of an application. In eframe it is `frame.wgpu_render_state()`, in Bevy the resources `RenderAdapter`,
/// `RenderDevice` and `RenderQueue`.
async fn device() -> Result<(wgpu::Adapter, wgpu::Device, wgpu::Queue), Box<dyn std::error::Error>> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle().with_env());
    let adapter = instance.request_adapter(&wgpu::RequestAdapterOptions::default()).await?;
    // Kernels run with the default limits and without features; these features and limits allow faster kernels and
    // larger models.
    let useful = wgpu::Features::SUBGROUP | wgpu::Features::SHADER_F16 | wgpu::Features::PIPELINE_CACHE;
    let descriptor = wgpu::DeviceDescriptor {
        required_features: adapter.features() & useful,
        required_limits: adapter.limits(),
        ..Default::default()
    };
    let (device, queue) = adapter.request_device(&descriptor).await?;
    Ok((adapter, device, queue))
}

async fn generate(path: &str, question: &str) -> Result<(), Box<dyn std::error::Error>> {
    let (adapter, device, queue) = device().await?;
    let gpu = Gpu::from_device(&adapter, device.clone(), queue, &GpuOptions::default()).await?;
    let lost = gpu.clone();
    device.set_device_lost_callback(move |_, why| lost.mark_lost(&why));

    let model = Model::open(path.as_ref()).await?;
    let mut session = Session::builder(&gpu, &model).load().await?;
    let messages = vec![serde_json::json!({ "role": "user", "content": question })];
    let tokens = model.encode_chat(TemplateInput::new(messages))?;
    let mut answer = session.generate(Request::new(tokens))?;
    while let Some(event) = answer.next().await? {
        if let Event::Text(text) = event {
            print!("{text}");
            std::io::stdout().flush()?;
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, path, question] = &args[..] else { return Err("usage: own_device MODEL.gguf QUESTION".into()) };
    pollster::block_on(generate(path, question))
}
