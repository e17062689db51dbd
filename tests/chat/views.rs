//! The window's views and actions with a scripted engine, and screenshots of it.

use super::*;

#[test]
fn a_first_start_greets_and_loads() {
    let mut window = starting(1100.0, 740.0, true);
    let commands = window.script.commands();
    assert!(commands.contains(&Command::Load(Place::BuiltIn, Opening::default())), "{commands:?}");
    assert!(commands.contains(&Command::Inspect(Place::BuiltIn)), "{commands:?}");
    window.steps(2);
    window.shows("What would you like to know?");
    window.script.send(EngineEvent::Loading(Place::BuiltIn, 5_000_000, 20_000_000));
    window.steps(1);
    // A question during loading is answered once the model is loaded.
    window.click("Tell me a story about a fox");
    assert_eq!(window.texts(), ["Tell me a story about a fox"]);
    window.shows("Waiting for the model");
    window.script.commands();
    window.script.send(EngineEvent::Loaded(Box::new(loaded())));
    window.steps(1);
    let ask = window.script.asked();
    assert_eq!(ask.messages.len(), 1);
    assert_eq!(ask.messages[0].content, "Tell me a story about a fox");
    assert_eq!(window.conversation().title, "Tell me a story about a fox");
}

#[test]
fn answers_stream_and_are_counted() {
    let mut window = window(1100.0, 740.0, true);
    let ask = window.say("Sing");
    window.script.send(EngineEvent::Started { id: ask.id, prompt: 24, thinking: false });
    window.steps(1);
    window.shows("Reading 24 tokens");
    window.script.words(ask.id, "one two three");
    window.steps(1);
    window.shows("one two three");
    window.script.finish(ask.id, FinishReason::End, 100);
    window.steps(2);
    window.shows("100 tokens · 24.8 tok/s · 310 ms to first · 12 % of context");
    assert_eq!(window.texts(), ["Sing", "one two three"]);
    // The next request contains the conversation.
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
    assert_eq!(window.script.commands(), [Command::Stop]);
    window.shows("Stopping");
    window.script.finish(ask.id, FinishReason::Cancelled, 2);
    window.steps(2);
    window.shows("stopped");
    // "Continue" extends the stopped answer.
    window.click("Continue");
    let ask = window.script.asked();
    assert_eq!((ask.begun.as_str(), ask.messages.len()), ("and on ", 1));
    window.script.words(ask.id, "and on");
    window.script.finish(ask.id, FinishReason::End, 2);
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
    window.script.finish(ask.id, FinishReason::End, 3);
    window.steps(2);
    assert_eq!(window.texts(), ["Blue?", "Like the sea."]);
    window.shows("2/2");
    window.click("Previous version");
    assert_eq!(window.texts(), ["Red?", "Like a rose."]);
    window.click("Regenerate");
    let ask = window.script.asked();
    window.script.words(ask.id, "Like wine.");
    window.script.finish(ask.id, FinishReason::End, 2);
    window.steps(2);
    assert_eq!(window.texts(), ["Red?", "Like wine."]);
    assert_eq!(window.conversation().nodes.len(), 5);
}

#[test]
fn reasoning_is_folded_away_and_never_sent_back() {
    let mut window = window(1100.0, 740.0, true);
    let ask = window.say("Is 7 prime?");
    window.script.send(EngineEvent::Started { id: ask.id, prompt: 9, thinking: true });
    window.script.words(ask.id, "Divide by 2 and 3. ");
    window.steps(2);
    window.shows("Thinking…");
    assert!(!window.has("Divide by 2"), "reasoning is folded");
    window.script.words(ask.id, "</think> Yes, it is.");
    window.script.finish(ask.id, FinishReason::End, 9);
    window.steps(2);
    window.shows("Thought for");
    window.shows("Yes, it is.");
    let ask = window.say("Sure?");
    assert_eq!(ask.messages[1].content, "Yes, it is.");
}

#[test]
fn conversations_are_saved_searched_renamed_and_deleted() {
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
    // A new window loads the remaining conversation.
    let Window { harness, folder, .. } = window;
    drop(harness);
    let again = self::harness(900.0, 700.0, true, folder.path(), &Script::default());
    let titles: Vec<_> = again.state().state.conversations.iter().map(|c| c.title.clone()).collect();
    assert_eq!(titles, ["And foxes?"]);
}

#[test]
fn a_crash_during_an_answer_loses_at_most_a_second() {
    let mut window = window(900.0, 700.0, true);
    let ask = window.say("Count");
    window.script.words(ask.id, "one two three ");
    window.steps(8);
    window.script.words(ask.id, "four");
    window.steps(1);
    let Window { harness, folder, .. } = window;
    // Forgetting the window simulates a crash: only the files on disk remain.
    std::mem::forget(harness);
    let deadline = Instant::now() + Duration::from_secs(5);
    let text = loop {
        let again = self::harness(900.0, 700.0, true, folder.path(), &Script::default());
        let found = again.state().state.conversation().map(|c| c.nodes.last().map(|n| n.text.clone()));
        match found.flatten().filter(|t| !t.is_empty() && t != "Count") {
            Some(text) => break text,
            None => assert!(Instant::now() < deadline, "nothing was saved"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(text.starts_with("one two three"), "{text:?}");
}

#[test]
fn the_picker_shows_which_models_fit() {
    let mut window = window(1100.0, 740.0, true);
    window.click("Model: Firelight demo");
    let file = |name: &str| Place::File(format!("/models/{name}.gguf"));
    let rows = [
        ("qwen3-0.6b-q4_0", Ok(facts("Qwen3 0.6B", "Q4_0", Fit::Fits(4096, 800_000_000)))),
        ("mistral-7b", Ok(facts("Mistral 7B", "Q4_K", Fit::Less(1024, "one binding holds no more".into())))),
        ("llama-70b", Ok(facts("Llama 70B", "Q8_0", Fit::No("needs 70 GB, this adapter has 8".into())))),
        ("broken", Err("broken.gguf is no GGUF file".to_string())),
    ];
    window.script.send(EngineEvent::Found(rows.iter().map(|(name, _)| (file(name), 1)).collect()));
    window.script.send(EngineEvent::Inspected(Place::BuiltIn, Ok(loaded().facts)));
    window.steps(1);
    for (name, facts) in rows {
        assert!(window.script.commands().len() < 9);
        window.script.send(EngineEvent::Inspected(file(name), facts));
    }
    window.steps(2);
    for text in ["fits", "context 1024", "does not fit", "cannot be read", "broken.gguf is no GGUF file"] {
        window.shows(text);
    }
    window.harness.snapshot("chat_models");
    window.script.commands();
    window.click("Open Qwen3 0.6B");
    let commands = window.script.commands();
    assert!(commands.contains(&Command::Load(file("qwen3-0.6b-q4_0"), Opening::default())), "{commands:?}");
}

#[test]
fn settings_change_the_requests() {
    let mut window = window(1100.0, 740.0, true);
    window.click("Settings");
    window.harness.snapshot("chat_settings");
    window.click("Precise");
    assert_eq!(window.conversation().settings.sampling.temperature, 0.3);
    window.click("Deterministic");
    let Some(conversation) = window.harness.state_mut().state.conversation_mut() else { panic!("none") };
    conversation.settings.system = "Be brief.".into();
    let ask = window.say("Hello");
    assert!(ask.sampling.is_greedy());
    assert_eq!(ask.messages[0].content, "Be brief.");
}

#[test]
fn failures_are_shown_with_a_remedy() {
    let mut window = window(1100.0, 740.0, true);
    let ask = window.say("A very long question");
    // A full context: the same prompt does not fit a second time, a larger context helps.
    let full = EngineFailure::new("5000 tokens leave no room in a context of 1024 positions", Remedy::LargerContext);
    let mut small = loaded();
    (small.context, small.facts.trained) = (1024, Some(8192));
    window.script.send(EngineEvent::Loaded(Box::new(small.clone())));
    window.script.send(EngineEvent::AnswerFailed(ask.id, full));
    window.steps(2);
    window.shows("5000 tokens leave no room");
    assert!(!window.has("Try again"));
    assert_eq!(window.texts(), ["A very long question"]);
    window.script.commands();
    window.click("Open with a context of 2048");
    let larger = Opening { context: Some(2048), ..Opening::default() };
    assert!(window.script.commands().contains(&Command::Load(Place::BuiltIn, larger)));
    small.context = 2048;
    window.script.send(EngineEvent::Loaded(Box::new(small)));
    window.steps(2);
    let ask = window.script.asked();
    window.script.send(EngineEvent::AnswerFailed(ask.id, EngineFailure::new("out of luck", Remedy::None)));
    window.steps(2);
    window.click("Try again");
    let ask = window.script.asked();
    window.script.words(ask.id, "half an ");
    window.script.send(EngineEvent::AnswerFailed(ask.id, EngineFailure::new("the device was lost", Remedy::None)));
    window.script.send(EngineEvent::Lost("The GPU was lost.".into()));
    window.steps(2);
    window.shows("The GPU was lost.");
    window.harness.snapshot("chat_lost");
    assert_eq!(window.texts(), ["A very long question", "half an "]);
    window.script.commands();
    window.click("With a smaller context");
    let smaller = Opening { context: Some(1024), ..Opening::default() };
    assert!(window.script.commands().contains(&Command::Load(Place::BuiltIn, smaller)));
    // A file that cannot be opened does not become smaller by that.
    let missing = EngineFailure::new("a.gguf: no such file", Remedy::OtherModel);
    window.script.send(EngineEvent::LoadFailed(Place::BuiltIn, missing));
    window.steps(2);
    window.shows("Another model…");
    assert!(!window.has("With a smaller context"));
    // An engine that panicked is restarted.
    window.script.send(EngineEvent::Crashed("a bug".into()));
    window.steps(2);
    window.shows("The engine stopped: a bug");
    assert_eq!(window.script.0.borrow().starts, 2);
}

#[test]
fn the_xray_shows_alternative_tokens() {
    let mut window = window(1200.0, 900.0, true);
    window.click("X-ray");
    let ask = window.say("Why is the sky blue?");
    assert!(ask.probabilities);
    for (i, word) in "Because air scatters short waves of light more than long ones".split(' ').enumerate() {
        let top = [(word, 0.62), ("The", 0.14), ("Sunlight", 0.09), ("It", 0.05), ("Air", 0.03), ("Our", 0.02)];
        let top = Some(top.iter().map(|(text, p)| token(&format!(" {text}"), *p)).collect());
        let seconds = 0.2 + 0.03 * i as f64 + 0.001 * (i * i) as f64;
        let token = AnswerEvent::Token { token: token(&format!(" {word}"), 0.62), top };
        window.script.send(EngineEvent::Answer(ask.id, token, seconds));
        window.script.send(EngineEvent::Answer(ask.id, AnswerEvent::Content(format!("{word} ")), seconds));
    }
    window.script.finish(ask.id, FinishReason::End, 11);
    window.steps(2);
    assert!(window.script.commands().iter().any(|c| matches!(c, Command::Measure(_))));
    let op = |op: &str, count, seconds| OpTime { op: op.into(), count, seconds, bytes: 1 << 20 };
    let ops = vec![op("linear", 43, 0.0102), op("attention", 6, 0.0034), op("rms_norm", 13, 0.0008)];
    window.script.send(EngineEvent::Measured(ops));
    window.steps(2);
    for text in ["Next token", "␣ones: 62.0 %, chosen", "linear: 70.8 %", "11 of 1024", "Dispatches"] {
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
    device.script.send(EngineEvent::Devices(vec![loaded().device]));
    device.click("Device");
    results.add(device.harness.try_snapshot("chat_device"));
    device.harness.key_press(egui::Key::F1);
    device.steps(3);
    device.shows("Keyboard shortcuts");
    results.add(device.harness.try_snapshot("chat_help"));
}
