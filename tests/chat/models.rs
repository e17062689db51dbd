//! The model picker: search, downloads, typed paths, and models that go.

use super::*;

#[test]
fn models_are_searched_downloaded_and_opened_by_path() {
    let mut window = window(1100.0, 740.0, false);
    window.click("Model: Firelight demo");
    window.script.send(EngineEvent::Inspected(Place::BuiltIn, Ok(loaded().facts)));
    window.steps(2);
    // Typing goes to the field at once.
    window.harness.event(egui::Event::Text("./missing.gguf".into()));
    window.steps(2);
    assert_eq!(window.harness.state().state.wanted, "./missing.gguf");
    window.click("Open");
    window.shows("missing.gguf: no such file");
    window.harness.state_mut().state.fetch_failed = None;
    let there = window.folder.path().join("there.gguf");
    std::fs::write(&there, "GGUF").expect("a file");
    window.harness.state_mut().state.wanted = there.display().to_string();
    window.steps(2);
    window.script.commands();
    window.click("Open");
    assert!(window.script.commands().contains(&Command::Load(file(&there), Opening::default())));

    // The short list of the page, with sizes and licences.
    window.script.send(EngineEvent::Loaded(Box::new(loaded())));
    window.steps(2);
    window.click("Model: Firelight demo");
    for text in ["To download", "Qwen3 0.6B", "Apache-2.0", "MiB"] {
        window.shows(text);
    }
    let offer = &mut window.harness.state_mut().state.offers[0];
    let fit = Fit::Fits(4096, 900 << 20);
    offer.answer = FitAnswer::Known("Qwen3-0.6B-Q8_0.gguf".into(), 639_446_688, fit);
    window.steps(2);
    window.shows("Qwen3-0.6B-Q8_0.gguf · 609.8 MiB");
    window.harness.snapshot("chat_models_list");

    // A download.
    let state = &mut window.harness.state_mut().state;
    let step = Fetched { name: "Qwen3-0.6B-Q8_0.gguf".into(), done: 320 << 20, total: 640 << 20, checking: false };
    let wanted = "Qwen/Qwen3-0.6B-GGUF".to_string();
    state.fetching = Some(Fetching { wanted, step: Some(step), since: state.now - 10.0, before: 0 });
    window.steps(1);
    window.shows("320.0 MiB of 640.0 MiB · 31.");
    window.harness.snapshot("chat_fetch");
    window.click("Cancel (the part already downloaded is kept)");
    assert!(window.harness.state().state.fetching.is_none());
    window.shows("Open a file…");

    // What a search found.
    let state = &mut window.harness.state_mut().state;
    state.searched = Some("tiny".into());
    state.offers.clear();
    window.steps(2);
    window.shows("No model with GGUF files matches “tiny”.");
    window.click("Back to the list");
    window.shows("Qwen3 0.6B");
}

#[test]
fn models_can_be_removed_from_the_list() {
    let mut window = window(1100.0, 740.0, true);
    window.click("Model: Firelight demo");
    let gone = Place::File("/models/gone.gguf".into());
    window.script.send(EngineEvent::Found(vec![(gone.clone(), 1)]));
    window.script.send(EngineEvent::Inspected(gone.clone(), Err("gone.gguf: no such file".into())));
    window.steps(2);
    window.click("More about gone.gguf");
    window.click("Remove from the list");
    assert!(!window.has("gone.gguf"));
    assert!(window.harness.state().state.models.iter().all(|entry| entry.place != gone));
    // A download is deleted only after a question.
    window.harness.state_mut().state.dialog = Some(Dialog::DeleteModel(gone));
    window.steps(2);
    window.shows("gone.gguf will be deleted from this computer.");
    window.click("Cancel");
    assert_eq!(window.harness.state().state.dialog, Some(Dialog::Models));
}

#[test]
fn without_a_file_dialog_paths_are_typed() {
    let mut window = window(1100.0, 740.0, true);
    window.turn("Hello", "Hi.");
    let path = window.folder.path().join("export.md").display().to_string();
    window.harness.state_mut().state.dialog = Some(Dialog::SaveAs(path.clone(), "# Hello".into()));
    window.steps(2);
    window.shows("This system shows no file dialog");
    window.click("Save");
    assert_eq!(std::fs::read_to_string(&path).expect("the file"), "# Hello");
    window.steps(1);
    window.shows(&format!("Saved {path}"));
    // A dialog that was never shown leads to the picker and its field. This system may have one.
    if std::env::var_os("DBUS_SESSION_BUS_ADDRESS").is_none() && std::env::var_os("DISPLAY").is_none() {
        window.harness.key_press_modifiers(egui::Modifiers::COMMAND, egui::Key::O);
        draw_until(&mut window.harness, "the picker", |s| s.dialog == Some(Dialog::Models));
        window.steps(2);
        window.shows("Type the path of a model");
    }
}
