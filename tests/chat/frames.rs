//! The duration of whole frames: layout, and drawing on a separate device until the picture is complete.

use eframe::egui_wgpu::{RenderState, RendererOptions, ScreenDescriptor, wgpu};
use egui_kittest::wgpu::{create_render_state, default_wgpu_setup};

use super::*;

const SIZE: [u32; 2] = [1180, 780];
/// The interval between frames during an answer, if the CPU draws.
const PACE: Duration = Duration::from_millis(120);

/// An offscreen window.
struct Screen {
    ctx: egui::Context,
    app: App,
    state: RenderState,
    target: wgpu::Texture,
    begun: Instant,
    /// The area that the last frame painted, overdraw included, in units of the window's area.
    painted: f32,
}

impl Screen {
    /// A window with the built-in model.
    fn new(folder: &Path) -> Self {
        let ctx = egui::Context::default();
        let mut app = App::new(&ctx, Storage::at(folder.to_path_buf()), Some(Place::BuiltIn));
        app.state.cleared = true;
        let state = create_render_state(default_wgpu_setup(), RendererOptions::default());
        let target = state.device.create_texture(&wgpu::TextureDescriptor {
            label: None,
            size: wgpu::Extent3d { width: SIZE[0], height: SIZE[1], depth_or_array_layers: 1 },
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format: state.target_format,
            usage: wgpu::TextureUsages::RENDER_ATTACHMENT,
            view_formats: &[],
        });
        Screen { ctx, app, state, target, begun: Instant::now(), painted: 0.0 }
    }

    /// Handles events, lays out and draws the window, and waits until the GPU has finished.
    fn frame(&mut self, events: Vec<egui::Event>) -> Duration {
        let begun = Instant::now();
        let size = egui::vec2(SIZE[0] as f32, SIZE[1] as f32);
        let input = egui::RawInput {
            screen_rect: Some(egui::Rect::from_min_size(egui::Pos2::ZERO, size)),
            time: Some(self.begun.elapsed().as_secs_f64()),
            events,
            ..Default::default()
        };
        let output = self.ctx.run_ui(input, |ui| self.app.show(ui));
        let meshes = self.ctx.tessellate(output.shapes, 1.0);
        self.draw(output.textures_delta, &meshes);
        let took = begun.elapsed();
        self.painted = meshes.iter().map(area).sum::<f32>() / (size.x * size.y);
        took
    }

    fn draw(&self, mut textures: egui::TexturesDelta, meshes: &[egui::ClippedPrimitive]) {
        let RenderState { device, queue, renderer, .. } = &self.state;
        let mut renderer = renderer.write();
        for (id, images) in textures.set.drain() {
            images.iter().for_each(|image| renderer.update_texture(device, queue, id, image));
        }
        let screen = ScreenDescriptor { size_in_pixels: SIZE, pixels_per_point: 1.0 };
        let mut encoder = device.create_command_encoder(&Default::default());
        let before = renderer.update_buffers(device, queue, &mut encoder, meshes, &screen);
        let view = self.target.create_view(&Default::default());
        let attachment = wgpu::RenderPassColorAttachment {
            view: &view,
            resolve_target: None,
            ops: wgpu::Operations { load: wgpu::LoadOp::Clear(wgpu::Color::BLACK), store: wgpu::StoreOp::Store },
            depth_slice: None,
        };
        let pass = encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
            color_attachments: &[Some(attachment)],
            ..Default::default()
        });
        renderer.render(&mut pass.forget_lifetime(), meshes, &screen);
        queue.submit(before.into_iter().chain([encoder.finish()]));
        device.poll(wgpu::PollType::wait_indefinitely()).expect("the picture");
    }

    /// Draws until `done`, at the window's frame interval.
    fn draw_until(&mut self, what: &str, done: impl Fn(&WindowState) -> bool) -> Vec<Duration> {
        let deadline = Instant::now() + Duration::from_secs(180);
        let mut frames = Vec::new();
        while !done(&self.app.state) {
            assert!(Instant::now() < deadline, "{what} takes too long");
            frames.push(self.frame(vec![]));
            std::thread::sleep(PACE);
        }
        frames
    }
}

/// Area of a mesh's triangles, in points.
fn area(primitive: &egui::ClippedPrimitive) -> f32 {
    let egui::epaint::Primitive::Mesh(mesh) = &primitive.primitive else { return 0.0 };
    let at = |i: u32| mesh.vertices[i as usize].pos;
    let triangles = mesh.indices.chunks_exact(3);
    triangles.map(|t| ((at(t[1]) - at(t[0])).rot90().dot(at(t[2]) - at(t[0]))).abs() / 2.0).sum()
}

#[test]
fn frames_take_little_longer_while_answering_and_paint_little() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut screen = Screen::new(folder.path());
    screen.draw_until("loading", |s| s.engine.loaded().is_some());
    let (mut idle, mut busy) = (Vec::new(), Vec::new());
    // Interleaved, so that other load on the machine slows down both.
    for animal in ["fox", "dog", "cat", "bird"] {
        screen.app.state.draft = format!("Tell me a story about a {animal}");
        screen.app.state.focus = true;
        screen.frame(vec![]);
        screen.frame(vec![egui::Event::Key {
            key: egui::Key::Enter,
            physical_key: None,
            pressed: true,
            repeat: false,
            modifiers: egui::Modifiers::NONE,
        }]);
        assert!(screen.app.state.answering.is_some(), "the question was not sent");
        busy.extend(screen.draw_until("an answer", |s| s.answering.is_none()));
        for _ in 0..6 {
            idle.push(screen.frame(vec![]));
            std::thread::sleep(PACE);
        }
    }
    assert!(busy.len() > 4, "the answers are too short to measure frames");
    let (idle, busy, slowest) = (median(idle), median(busy.clone()), quantile(busy, 0.95));
    println!("frames: idle {idle:?}, while answering {busy:?}, the slowest {slowest:?}; painted {}", screen.painted);
    assert!(busy <= 2 * idle, "idle {idle:?}, while answering {busy:?}");
    // Painting takes most of a frame's time; unlike the time, the painted area does not depend on other load.
    assert!(screen.painted < 0.6, "the frame painted {} times the window's area", screen.painted);
}
