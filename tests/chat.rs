//! The chat window: its views with an engine that plays back events, pictures of them, and once the real engine.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use egui_kittest::kittest::Queryable;
use egui_kittest::{Harness, SnapshotResults};
use firelight::chat::*;
use firelight::session::{Finish, Timings};

/// The engine's side of the window, in a test's hands.
#[derive(Clone, Default)]
struct Script(Rc<RefCell<Ends>>);

#[derive(Default)]
struct Ends {
    commands: Vec<Command>,
    events: Option<mpsc::Sender<Event>>,
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

    fn tell(&self, event: Event) {
        self.0.borrow().events.as_ref().expect("an engine").send(event).expect("a window");
    }

    /// The commands since the last look.
    fn heard(&self) -> Vec<Command> {
        std::mem::take(&mut self.0.borrow_mut().commands)
    }

    /// The answer that is asked for.
    fn asked(&self) -> Ask {
        let asked = self.heard().into_iter().find_map(|c| if let Command::Answer(ask) = c { Some(ask) } else { None });
        asked.expect("an answer is asked for")
    }

    fn words(&self, id: u64, text: &str) {
        for (i, word) in text.split_inclusive(' ').enumerate() {
            self.tell(Event::Token(
                id,
                Token { text: word.into(), seconds: 0.3 + 0.04 * i as f64, ..Token::default() },
            ));
            self.tell(Event::Text(id, word.into()));
        }
    }

    fn finish(&self, id: u64, reason: Finish, tokens: usize) {
        let timings = Timings {
            prompt_tokens: 24,
            reused_tokens: 0,
            generated_tokens: tokens,
            prompt_seconds: 0.31,
            decode_seconds: tokens as f64 * 0.04,
        };
        self.tell(Event::Finished(id, reason, timings));
    }
}

struct Window {
    harness: Harness<'static, App>,
    script: Script,
    folder: tempfile::TempDir,
}

/// A window of this size with an empty store, and a model that is open.
fn window(width: f32, height: f32, dark: bool) -> Window {
    let mut window = starting(width, height, dark);
    window.script.tell(Event::Loaded(Box::new(loaded())));
    window.steps(2);
    window.script.heard();
    window
}

/// The same before its model is open.
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

    /// Writes a message and sends it; returns what the engine was asked.
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
        self.script.finish(ask.id, Finish::End, answer.split(' ').count());
        self.steps(2);
    }

    fn conversation(&self) -> &Conversation {
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

#[test]
fn a_first_start_greets_and_loads() {
    let mut window = starting(1100.0, 740.0, true);
    let heard = window.script.heard();
    assert!(heard.contains(&Command::Load(Place::BuiltIn, Opening::default())), "{heard:?}");
    assert!(heard.contains(&Command::Inspect(Place::BuiltIn)), "{heard:?}");
    window.steps(2);
    window.shows("What would you like to know?");
    window.script.tell(Event::Loading(Place::BuiltIn, 5_000_000, 20_000_000));
    window.steps(1);
    // What is asked now is answered once the model is there.
    window.click("Write a short poem about the sea");
    assert_eq!(window.texts(), ["Write a short poem about the sea"]);
    window.shows("Waiting for the model");
    window.script.heard();
    window.script.tell(Event::Loaded(Box::new(loaded())));
    window.steps(1);
    let ask = window.script.asked();
    assert_eq!(ask.messages.len(), 1);
    assert_eq!(ask.messages[0].content, "Write a short poem about the sea");
    assert_eq!(window.conversation().title, "Write a short poem about the sea");
}

#[test]
fn answers_stream_and_are_counted() {
    let mut window = window(1100.0, 740.0, true);
    let ask = window.say("Sing");
    window.script.tell(Event::Started { id: ask.id, prompt: 24, thinking: false });
    window.steps(1);
    window.shows("Reading 24 tokens");
    window.script.words(ask.id, "one two three");
    window.steps(1);
    window.shows("one two three");
    window.script.finish(ask.id, Finish::End, 100);
    window.steps(2);
    window.shows("100 tokens · 24.8 tok/s · 310 ms to first · 12 % of context");
    assert_eq!(window.texts(), ["Sing", "one two three"]);
    // The next question brings the conversation along.
    let ask = window.say("Again");
    let roles: Vec<_> = ask.messages.iter().map(|m| m.role.as_str()).collect();
    assert_eq!(roles, ["user", "assistant", "user"]);
}

#[test]
fn enter_sends_and_escape_stops() {
    let mut window = window(1100.0, 740.0, true);
    window.harness.state_mut().state.draft = "Go on forever".into();
    window.harness.state_mut().state.focus = true;
    window.steps(2);
    window.harness.key_press(egui::Key::Enter);
    window.steps(2);
    let ask = window.script.asked();
    assert_eq!(window.harness.state().state.draft, "");
    window.script.words(ask.id, "and on ");
    window.steps(1);
    window.harness.key_press(egui::Key::Escape);
    window.steps(1);
    assert_eq!(window.script.heard(), [Command::Stop]);
    window.shows("Stopping");
    window.script.finish(ask.id, Finish::Cancelled, 2);
    window.steps(2);
    window.shows("stopped");
    // It goes on where it was.
    window.click("Continue");
    let ask = window.script.asked();
    assert_eq!((ask.begun.as_str(), ask.messages.len()), ("and on ", 1));
    window.script.words(ask.id, "and on");
    window.script.finish(ask.id, Finish::End, 2);
    window.steps(2);
    assert_eq!(window.texts()[1], "and on and on");
}

#[test]
fn edits_and_new_answers_are_branches() {
    let mut window = window(1100.0, 740.0, true);
    window.turn("Red?", "Like a rose.");
    window.harness.get_all_by_label("Edit").next().expect("the question's").click();
    window.steps(2);
    let editing = window.harness.state().state.editing.clone();
    assert_eq!(editing, Some((0, "Red?".to_string())));
    window.harness.state_mut().state.editing = Some((0, "Blue?".into()));
    window.steps(1);
    window.harness.get_all_by_label("Send").last().expect("the editor's").click();
    window.steps(2);
    let ask = window.script.asked();
    assert_eq!(ask.messages.last().expect("one").content, "Blue?");
    window.script.words(ask.id, "Like the sea.");
    window.script.finish(ask.id, Finish::End, 3);
    window.steps(2);
    assert_eq!(window.texts(), ["Blue?", "Like the sea."]);
    window.shows("2/2");
    window.click("Version before");
    assert_eq!(window.texts(), ["Red?", "Like a rose."]);
    window.click("Answer again");
    let ask = window.script.asked();
    window.script.words(ask.id, "Like wine.");
    window.script.finish(ask.id, Finish::End, 2);
    window.steps(2);
    assert_eq!(window.texts(), ["Red?", "Like wine."]);
    assert_eq!(window.conversation().nodes.len(), 5);
}

#[test]
fn reasoning_is_folded_away_and_never_sent_back() {
    let mut window = window(1100.0, 740.0, true);
    let ask = window.say("Is 7 prime?");
    window.script.tell(Event::Started { id: ask.id, prompt: 9, thinking: true });
    window.script.words(ask.id, "Divide by 2 and 3. ");
    window.steps(2);
    window.shows("Thinking…");
    assert!(!window.has("Divide by 2"), "reasoning is folded");
    window.script.words(ask.id, "</think> Yes, it is.");
    window.script.finish(ask.id, Finish::End, 9);
    window.steps(2);
    window.shows("Thought for");
    window.shows("Yes, it is.");
    let ask = window.say("Sure?");
    assert_eq!(ask.messages[1].content, "Yes, it is.");
}

#[test]
fn conversations_are_kept_found_renamed_and_deleted() {
    let mut window = window(1100.0, 740.0, true);
    window.turn("Tell me about owls", "They hunt at night.");
    window.click("New conversation");
    window.turn("And foxes?", "At dusk.");
    window.harness.state_mut().state.search = "NIGHT".into();
    window.steps(1);
    window.shows("Tell me about owls");
    assert!(window.harness.query_by_label("And foxes?").is_none() || window.texts()[0] == "And foxes?");
    window.harness.state_mut().state.search.clear();
    window.steps(1);
    window.harness.get_all_by_label("Tell me about owls").next().expect("a row").click();
    window.steps(2);
    assert_eq!(window.texts(), ["Tell me about owls", "They hunt at night."]);
    let id = window.conversation().id.clone();
    window.harness.state_mut().state.dialog = Some(Dialog::Rename(id.clone(), "Owls".into()));
    window.steps(2);
    window.click("Rename");
    assert_eq!(window.conversation().title, "Owls");
    window.harness.state_mut().state.dialog = Some(Dialog::Delete(id));
    window.steps(2);
    window.click("Delete");
    assert_eq!(window.harness.state().state.conversations.len(), 1);
    // Another window finds what is left.
    let Window { harness, folder, .. } = window;
    drop(harness);
    let again = self::harness(900.0, 700.0, true, folder.path(), &Script::default());
    let titles: Vec<_> = again.state().state.conversations.iter().map(|c| c.title.clone()).collect();
    assert_eq!(titles, ["And foxes?"]);
}

#[test]
fn a_crash_in_mid_answer_loses_a_second_at_most() {
    let mut window = window(900.0, 700.0, true);
    let ask = window.say("Count");
    window.script.words(ask.id, "one two three ");
    window.steps(8);
    window.script.words(ask.id, "four");
    window.steps(1);
    let Window { harness, folder, .. } = window;
    // No exit, no last word: what is on the disk by now is all there is.
    std::mem::forget(harness);
    let deadline = Instant::now() + Duration::from_secs(5);
    let text = loop {
        let again = self::harness(900.0, 700.0, true, folder.path(), &Script::default());
        let found = again.state().state.conversation().map(|c| c.nodes.last().map(|n| n.text.clone()));
        match found.flatten().filter(|t| !t.is_empty() && t != "Count") {
            Some(text) => break text,
            None => assert!(Instant::now() < deadline, "nothing was kept"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(text.starts_with("one two three"), "{text:?}");
}

#[test]
fn the_picker_says_what_fits() {
    let mut window = window(1100.0, 740.0, true);
    window.click("Model: Firelight demo");
    let file = |name: &str| Place::File(format!("/models/{name}.gguf"));
    let rows = [
        ("qwen3-0.6b-q4_0", Ok(facts("Qwen3 0.6B", "Q4_0", Fit::Fits(4096, 800_000_000)))),
        ("mistral-7b", Ok(facts("Mistral 7B", "Q4_K", Fit::Less(1024, "one binding holds no more".into())))),
        ("llama-70b", Ok(facts("Llama 70B", "Q8_0", Fit::No("needs 70 GB, this adapter has 8".into())))),
        ("broken", Err("broken.gguf is no GGUF file".to_string())),
    ];
    window.script.tell(Event::Found(rows.iter().map(|(name, _)| (file(name), 1)).collect()));
    window.script.tell(Event::Inspected(Place::BuiltIn, Ok(loaded().facts)));
    window.steps(1);
    for (name, facts) in rows {
        assert!(window.script.heard().len() < 9);
        window.script.tell(Event::Inspected(file(name), facts));
    }
    window.steps(2);
    for text in ["fits", "1024 positions", "does not fit", "unreadable", "broken.gguf is no GGUF file"] {
        window.shows(text);
    }
    window.harness.snapshot("chat_models");
    window.script.heard();
    window.click("Open Qwen3 0.6B");
    let heard = window.script.heard();
    assert!(heard.contains(&Command::Load(file("qwen3-0.6b-q4_0"), Opening::default())), "{heard:?}");
}

#[test]
fn settings_change_how_answers_are_made() {
    let mut window = window(1100.0, 740.0, true);
    window.click("Settings");
    window.harness.snapshot("chat_settings");
    window.click("Precise");
    assert_eq!(window.conversation().settings.sampling.temperature, 0.3);
    window.click("Same again");
    let Some(conversation) = window.harness.state_mut().state.conversation_mut() else { panic!("none") };
    conversation.settings.system = "Be brief.".into();
    let ask = window.say("Hello");
    assert!(ask.sampling.is_greedy());
    assert_eq!(ask.messages[0].content, "Be brief.");
}

#[test]
fn what_goes_wrong_is_said_with_a_way_on() {
    let mut window = window(1100.0, 740.0, true);
    let ask = window.say("A very long question");
    let why = "the prompt has 5000 tokens, the context holds 1024 with room for an answer";
    window.script.tell(Event::AnswerFailed(ask.id, why.into()));
    window.steps(2);
    window.shows("the prompt has 5000 tokens");
    assert_eq!(window.texts(), ["A very long question"]);
    window.click("Try again");
    let ask = window.script.asked();
    window.script.words(ask.id, "half an ");
    window.script.tell(Event::AnswerFailed(ask.id, "the device was lost".into()));
    window.script.tell(Event::Lost("The GPU was lost.".into()));
    window.steps(2);
    window.shows("The GPU was lost.");
    window.harness.snapshot("chat_lost");
    assert_eq!(window.texts(), ["A very long question", "half an "]);
    window.script.heard();
    window.click("With a smaller context");
    let smaller = Opening { context: Some(2048), ..Opening::default() };
    assert!(window.script.heard().contains(&Command::Load(Place::BuiltIn, smaller)));
    // An engine that panics is started anew.
    window.script.tell(Event::Crashed("a bug".into()));
    window.steps(2);
    window.shows("The engine stopped: a bug");
    assert_eq!(window.script.0.borrow().starts, 2);
}

#[test]
fn the_xray_shows_what_else_could_have_come() {
    let mut window = window(1200.0, 900.0, true);
    window.click("X-ray");
    let ask = window.say("Why is the sky blue?");
    assert!(ask.probabilities);
    for (i, word) in "Because air scatters short waves of light more than long ones".split(' ').enumerate() {
        let top = [(word, 0.62), ("The", 0.14), ("Sunlight", 0.09), ("It", 0.05), ("Air", 0.03), ("Our", 0.02)];
        let top: Vec<_> = top.iter().map(|(text, p)| (format!(" {text}"), *p)).collect();
        let seconds = 0.2 + 0.03 * i as f64 + 0.001 * (i * i) as f64;
        let token = Token { text: format!(" {word}"), top, probability: Some(0.62), seconds };
        window.script.tell(Event::Token(ask.id, token));
        window.script.tell(Event::Text(ask.id, format!("{word} ")));
    }
    window.script.finish(ask.id, Finish::End, 11);
    window.steps(2);
    assert!(window.script.heard().iter().any(|c| matches!(c, Command::Measure(_))));
    let op = |op: &str, count, seconds| OpTime { op: op.into(), count, seconds, bytes: 1 << 20 };
    let ops = vec![op("linear", 43, 0.0102), op("attention", 6, 0.0034), op("rms_norm", 13, 0.0008)];
    window.script.tell(Event::Measured(ops));
    window.steps(2);
    for text in ["Next token", "␣ones: 62.0 %, chosen", "linear: 70.8 %", "11 of 1024 positions", "Dispatches"] {
        window.shows(text);
    }
    window.harness.snapshot("chat_xray");
}

#[test]
fn it_looks_right_in_light_and_dark_narrow_and_wide() {
    let mut results = SnapshotResults::new();
    for (name, width, height, dark) in
        [("chat_dark", 1180.0, 860.0, true), ("chat_light", 1180.0, 860.0, false), ("chat_narrow", 420.0, 780.0, true)]
    {
        let mut window = window(width, height, dark);
        window.turn("Write about the sea", POEM);
        window.turn("And in other letters? 🌊", "Море шумит. Η θάλασσα. Đại dương.");
        window.harness.state_mut().state.to_end = true;
        window.steps(6);
        results.add(window.harness.try_snapshot(name));
    }
    let mut first = window(1180.0, 760.0, true);
    first.steps(3);
    results.add(first.harness.try_snapshot("chat_first"));
    let mut device = window(1180.0, 760.0, false);
    device.script.tell(Event::Devices(vec![loaded().device]));
    device.click("Device");
    results.add(device.harness.try_snapshot("chat_device"));
    device.harness.key_press(egui::Key::F1);
    device.steps(3);
    device.shows("Keyboard shortcuts");
    results.add(device.harness.try_snapshot("chat_help"));
}

/// Where a file of the shared data lies; `None` if there is none and that is all right.
fn shared(file: &str) -> Option<PathBuf> {
    let root = std::env::var("FIRELIGHT_SHARED").unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared").into());
    let path = Path::new(&root).join(file);
    if !path.exists() {
        assert!(std::env::var_os("CI").is_none(), "{} is missing", path.display());
        eprintln!("left out: {} is missing", path.display());
        return None;
    }
    Some(path)
}

/// A window over the real engine, with a small model.
fn real(folder: &Path, model: &Path) -> Harness<'static, App> {
    let (storage, place) = (Storage::at(folder.to_path_buf()), Place::File(model.display().to_string()));
    let builder = Harness::builder().with_size([1000.0, 700.0]).allow_missing_glyphs();
    builder.build_eframe(move |cc| App::new(&cc.egui_ctx, storage, Some(place)))
}

/// Draws until `done`, sleeping in between as a display does. Returns how long each frame took.
fn draw_until(harness: &mut Harness<'_, App>, what: &str, done: impl Fn(&State) -> bool) -> Vec<Duration> {
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

/// The frame that `part` of all frames are at most as long as.
fn quantile(mut frames: Vec<Duration>, part: f64) -> Duration {
    frames.sort();
    frames[((frames.len() - 1) as f64 * part) as usize]
}

fn median(frames: Vec<Duration>) -> Duration {
    quantile(frames, 0.5)
}

/// Time that this thread has had a processor, which others' load does not change; by the clock where that is not told.
fn worked() -> Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = told.and_then(|text| text.split_whitespace().next()?.parse().ok());
    nanos.map_or_else(|| START.get_or_init(Instant::now).elapsed(), Duration::from_nanos)
}

#[test]
fn the_real_engine_answers_and_the_window_never_waits_for_it() {
    let Some(model) = shared("data/models/stories260K.gguf") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let mut harness = real(folder.path(), &model);
    draw_until(&mut harness, "loading", |s| s.engine.loaded().is_some());
    let loaded = harness.state().state.engine.loaded().cloned().expect("it");
    assert_eq!((loaded.facts.architecture.as_str(), loaded.context), ("llama", 512));
    assert!(loaded.memory.weights > 200_000 && loaded.dispatches > 20, "{loaded:?}");

    let idle: Vec<Duration> = (0..60)
        .map(|_| {
            let frame = Instant::now();
            harness.step();
            frame.elapsed()
        })
        .collect();
    harness.state_mut().state.draft = "Once upon a time".into();
    harness.step();
    harness.get_by_label("Send").click();
    harness.run_steps(2);
    assert!(harness.state().state.answering.is_some());
    let busy = draw_until(&mut harness, "an answer", |s| s.answering.is_none());
    let conversation = harness.state().state.conversation().expect("one").clone();
    let answer = &conversation.nodes[1];
    let stats = answer.stats.clone().expect("numbers");
    assert!(answer.text.len() > 40, "{:?}", answer.text);
    assert!(matches!(stats.finish, Some(Finish::End | Finish::ContextFull)), "{stats:?}");
    assert!(stats.timings.generated_tokens > 10, "{stats:?}");
    // One frame in fifty may be held up by whatever else runs on the machine.
    let slowest = quantile(busy.clone(), 0.98);
    let (idle, busy) = (median(idle), median(busy));
    println!("frames: idle {idle:?}, while answering {busy:?}, the slowest {slowest:?}");
    assert!(busy <= (2 * idle).max(Duration::from_millis(16)), "idle {idle:?}, while answering {busy:?}");
    assert!(busy <= Duration::from_millis(50), "while answering {busy:?}");
    assert!(slowest <= Duration::from_millis(100), "input waits {slowest:?}");

    // Stop ends an answer at once; closing in the middle of one is clean.
    let leaf = conversation.leaf.expect("an answer");
    harness.get_all_by_label("Answer again").last().expect("a button").click();
    draw_until(&mut harness, "a token", |s| s.answering.as_ref().is_some_and(|a| a.tokens > 2));
    harness.key_press(egui::Key::Escape);
    draw_until(&mut harness, "stopping", |s| s.answering.is_none());
    let conversation = harness.state().state.conversation().expect("one");
    assert_eq!(conversation.siblings(leaf).len(), 2);
    harness.get_all_by_label("Answer again").last().expect("a button").click();
    draw_until(&mut harness, "a token", |s| s.answering.as_ref().is_some_and(|a| a.tokens > 2));
    drop(harness);
}

#[test]
fn a_file_that_is_no_model_is_said_to_be_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("story.gguf");
    std::fs::write(&file, "Once upon a time").expect("a file");
    let mut harness = real(&folder.path().join("kept"), &file);
    draw_until(&mut harness, "a refusal", |s| matches!(s.engine, Engine::Failed(..)));
    let Engine::Failed(_, why) = &harness.state().state.engine else { unreachable!() };
    assert!(why.contains("story.gguf"), "{why}");
}

#[test]
fn five_hundred_messages_scroll_smoothly() {
    let mut window = window(1100.0, 740.0, true);
    let state = &mut window.harness.state_mut().state;
    let conversation = state.conversation_mut().expect("one");
    for i in 0..250 {
        let leaf = conversation.leaf;
        let question = conversation.add(leaf, Role::User, format!("Question {i}"), 1);
        conversation.add(Some(question), Role::Assistant, format!("Answer {i}.\n\n{POEM}"), 1);
    }
    state.to_end = true;
    window.steps(3);
    window.shows("Answer 249.");
    assert!(!window.has("Answer 0."), "messages out of view are laid out");
    let mut frames = Vec::new();
    for _ in 0..40 {
        window.harness.event(egui::Event::MouseWheel {
            unit: egui::MouseWheelUnit::Point,
            source: egui::MouseWheelSource::Wheel,
            delta: egui::vec2(0.0, 900.0),
            modifiers: egui::Modifiers::NONE,
            phase: egui::TouchPhase::Move,
        });
        window.harness.hover_at(egui::pos2(600.0, 300.0));
        let before = worked();
        window.harness.step();
        frames.push(worked() - before);
    }
    let middle = median(frames);
    println!("frames: {middle:?}");
    assert!(!window.has("Answer 249."), "it did not scroll");
    assert!(middle <= Duration::from_millis(50), "a frame takes {middle:?}");
}
