//! The chat window with a scripted engine (`views`), and with the real one (`engine`, `frames`, `offline`).

mod attach;
mod engine;
mod frames;
mod keyboard;
mod models;
#[path = "../namespace/mod.rs"]
#[cfg(target_os = "linux")]
mod namespace;
mod offline;
mod presets;
mod sharing;
mod tools;
mod views;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use egui_kittest::kittest::Queryable;
use egui_kittest::{Harness, SnapshotResults};
use firelight::chat::*;
use firelight::conversation::{AnswerEnd, AnswerEvent, AnswerToken};
use firelight::session::{FinishReason, Timings};
use serde_json::Value;

/// A scripted engine: the test reads the window's commands and sends events.
#[derive(Clone, Default)]
struct Script(Rc<RefCell<Ends>>);

#[derive(Default)]
struct Ends {
    commands: Vec<Command>,
    events: Option<mpsc::Sender<EngineEvent>>,
    starts: usize,
}

impl Script {
    fn link(&self) -> Link {
        let (sender, events) = mpsc::channel();
        self.0.borrow_mut().events = Some(sender);
        self.0.borrow_mut().starts += 1;
        let ends = self.0.clone();
        Link::new(move |command| ends.borrow_mut().commands.push(command), events)
    }

    fn send(&self, event: EngineEvent) {
        self.0.borrow().events.as_ref().expect("an engine").send(event).expect("a window");
    }

    /// Takes the commands since the last call.
    fn commands(&self) -> Vec<Command> {
        std::mem::take(&mut self.0.borrow_mut().commands)
    }

    /// The answer that the window has requested.
    fn asked(&self) -> Ask {
        let asked =
            self.commands().into_iter().find_map(|c| if let Command::Answer(ask) = c { Some(ask) } else { None });
        asked.expect("a request for an answer")
    }

    fn words(&self, id: u64, text: &str) {
        for (i, word) in text.split_inclusive(' ').enumerate() {
            let seconds = 0.3 + 0.04 * i as f64;
            let token = AnswerEvent::Token { token: token(word, 0.0), top: None };
            self.send(EngineEvent::Answer(id, token, seconds));
            self.send(EngineEvent::Answer(id, AnswerEvent::Content(word.into()), seconds));
        }
    }

    fn finish(&self, id: u64, reason: FinishReason, tokens: usize) {
        let mut timings = Timings::default();
        (timings.prompt_tokens, timings.generated_tokens) = (24, tokens);
        (timings.prompt_seconds, timings.decode_seconds) = (0.31, tokens as f64 * 0.04);
        let end = AnswerEnd::new(reason, timings);
        self.send(EngineEvent::Answer(id, AnswerEvent::Finished(end), 0.0));
    }
}

/// A token with this probability.
fn token(text: &str, probability: f32) -> AnswerToken {
    AnswerToken { id: 0, bytes: text.into(), logprob: probability.ln() }
}

struct Window {
    harness: Harness<'static, App>,
    script: Script,
    folder: tempfile::TempDir,
}

/// A window of this size with empty storage and a loaded model.
fn window(width: f32, height: f32, dark: bool) -> Window {
    let mut window = starting(width, height, dark);
    window.script.send(EngineEvent::Loaded(Box::new(loaded())));
    window.steps(2);
    window.script.commands();
    window
}

/// The same before its model is loaded.
fn starting(width: f32, height: f32, dark: bool) -> Window {
    let folder = tempfile::tempdir().expect("a folder");
    let script = Script::default();
    let harness = harness(width, height, dark, folder.path(), &script);
    Window { harness, script, folder }
}

fn harness(width: f32, height: f32, dark: bool, folder: &Path, script: &Script) -> Harness<'static, App> {
    let (storage, script) = (Storage::at(folder.to_path_buf()), script.clone());
    let theme = if dark { egui::Theme::Dark } else { egui::Theme::Light };
    Harness::builder()
        .with_size([width, height])
        .with_theme(theme)
        .with_render_cursor(false)
        .build_eframe(move |cc| App::with_engine(&cc.egui_ctx, storage, None, move |_| script.link()))
}

impl Window {
    fn steps(&mut self, n: usize) {
        self.harness.run_steps(n);
    }

    fn click(&mut self, label: &str) {
        self.harness.get_by_label(label).click();
        self.steps(2);
    }

    fn has(&self, text: &str) -> bool {
        self.harness.query_all_by_label_contains(text).next().is_some()
    }

    #[track_caller]
    fn shows(&self, text: &str) {
        assert!(self.has(text), "the window does not show {text:?}");
    }

    /// Types a message and sends it; returns the request to the engine.
    fn say(&mut self, text: &str) -> Ask {
        self.harness.state_mut().state.draft = text.into();
        self.steps(1);
        self.click("Send");
        self.script.asked()
    }

    /// A question and its whole answer.
    fn turn(&mut self, question: &str, answer: &str) {
        let ask = self.say(question);
        self.script.words(ask.id, answer);
        self.script.finish(ask.id, FinishReason::End, answer.split(' ').count());
        self.steps(2);
    }

    fn conversation(&self) -> &SavedConversation {
        self.harness.state().state.conversation().expect("a conversation")
    }

    /// The messages that are shown.
    fn texts(&self) -> Vec<&str> {
        let conversation = self.conversation();
        conversation.path().iter().map(|n| conversation.nodes[*n].text.as_str()).collect()
    }
}

fn loaded() -> Loaded {
    Loaded {
        place: Place::BuiltIn,
        facts: facts("Firelight demo", "Q8_0", Fit::Fits(1024, 31_000_000)),
        device: Device {
            name: "llvmpipe".into(),
            backend: "Vulkan".into(),
            kind: "software".into(),
            driver: "Mesa".into(),
            tier: "subgroups".into(),
            why_not_higher: String::new(),
            unusable: None,
            software: true,
            max_binding: 128 << 20,
        },
        context: 1024,
        memory: Memory { weights: 21_000_000, kv: 6_300_000, activations: 3_000_000, other: 700_000 },
        dispatches: 82,
        notices: vec![],
    }
}

fn facts(name: &str, dtype: &str, fit: Fit) -> Facts {
    Facts {
        name: name.into(),
        title: None,
        architecture: "llama".into(),
        dtype: dtype.into(),
        parameters: 15_000_000,
        bytes: 16_000_000,
        trained: Some(1024),
        licence: Some("MIT".into()),
        fit,
    }
}

const POEM: &str = "Here is a small **poem** about the sea:\n\n> The tide writes softly on the sand,\n> and takes its \
                    letters home.\n\nAnd a loop that counts waves:\n\n```rust\nfn main() {\n    // every wave\n    for \
                    wave in 1..=3 {\n        println!(\"wave {wave}\");\n    }\n}\n```\n\n| wave | height |\n|---|---|\n\
                    | first | 0.4 m |\n| second | 1.2 m |\n\nThe energy grows as \\(E = \\frac{1}{8} \\rho g H^2\\). See \
                    [tides](https://example.org/tides).";

/// The path of a file of the shared test data, if it exists. In CI it must exist.
fn shared(file: &str) -> Option<PathBuf> {
    let root = std::env::var("FIRELIGHT_SHARED").unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared").into());
    let path = Path::new(&root).join(file);
    if !path.exists() {
        assert!(std::env::var_os("CI").is_none(), "{} is missing", path.display());
        eprintln!("skipped: {} is missing", path.display());
        return None;
    }
    Some(path)
}

/// A window over the real engine, with a small model.
fn real(folder: &Path, place: Place, dark: bool) -> Harness<'static, App> {
    let storage = Storage::at(folder.to_path_buf());
    let theme = if dark { egui::Theme::Dark } else { egui::Theme::Light };
    let builder = Harness::builder().with_size([1180.0, 780.0]).with_theme(theme).with_render_cursor(false);
    let builder = builder.allow_missing_glyphs();
    builder.build_eframe(move |cc| App::new(&cc.egui_ctx, storage, Some(place)))
}

fn file(path: &Path) -> Place {
    Place::File(path.display().to_string())
}

/// Draws until `done`, with pauses as for a display. Returns the duration of each frame.
fn draw_until(harness: &mut Harness<'_, App>, what: &str, done: impl Fn(&WindowState) -> bool) -> Vec<Duration> {
    let deadline = Instant::now() + Duration::from_secs(180);
    let mut frames = Vec::new();
    while !done(&harness.state().state) {
        assert!(Instant::now() < deadline, "{what} takes too long");
        let frame = Instant::now();
        harness.step();
        frames.push(frame.elapsed());
        std::thread::sleep(Duration::from_millis(8));
    }
    frames
}

/// Sends a message and draws until the answer is complete. Returns the duration of each frame.
fn ask(harness: &mut Harness<'_, App>, question: &str) -> Vec<Duration> {
    harness.state_mut().state.draft = question.into();
    harness.step();
    harness.get_by_label("Send").click();
    harness.run_steps(2);
    assert!(harness.state().state.answering.is_some(), "{question:?} was not sent");
    draw_until(harness, "an answer", |s| s.answering.is_none())
}

/// The quantile `part` of the durations.
fn quantile(mut frames: Vec<Duration>, part: f64) -> Duration {
    frames.sort();
    frames[((frames.len() - 1) as f64 * part) as usize]
}

fn median(frames: Vec<Duration>) -> Duration {
    quantile(frames, 0.5)
}

/// The CPU time of this thread, which is independent of other load; the wall time where the system does not report it.
fn worked() -> Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = stat.and_then(|text| text.split_whitespace().next()?.parse().ok());
    nanos.map_or_else(|| START.get_or_init(Instant::now).elapsed(), Duration::from_nanos)
}
