//! Presets: saved from a conversation, used for a new one, renamed, deleted, and kept.

use super::*;

#[test]
fn presets_are_saved_used_renamed_and_deleted() {
    let mut window = window(1100.0, 1400.0, true);
    window.click("Settings");
    let mut settings = window.conversation().settings.clone();
    settings.system = "Answer like a pirate.".into();
    settings.sampling.temperature = 1.5;
    window.harness.state_mut().state.conversation_mut().expect("one").settings = settings.clone();
    for name in ["Pirate", "Other"] {
        window.harness.state_mut().state.preset_name = name.into();
        window.steps(2);
        window.click("Save preset");
    }
    window.turn("Hello", "Arr.");
    // A used conversation keeps its settings: the preset begins a new one.
    window.harness.state_mut().state.conversation_mut().expect("one").settings = ConversationSettings::default();
    window.steps(2);
    window.click("Pirate");
    assert!(window.conversation().nodes.is_empty());
    assert_eq!(window.conversation().settings, settings);
    assert_eq!(window.say("Hello").messages[0].content, "Answer like a pirate.");
    for (new, names) in [("Other", ["Other", "Pirate"]), ("Captain", ["Captain", "Other"])] {
        window.click("Rename Pirate");
        window.harness.state_mut().state.renaming = Some(("Pirate".into(), new.into()));
        window.steps(2);
        window.harness.key_press(egui::Key::Enter);
        window.steps(3);
        let state = &window.harness.state().state;
        assert_eq!(state.presets.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), names);
    }
    window.click("Delete Other");
    let Window { harness, folder, .. } = window;
    drop(harness);
    let again = self::harness(900.0, 700.0, true, folder.path(), &Script::default());
    let presets = &again.state().state.presets;
    assert_eq!((presets.len(), presets[0].name.as_str(), &presets[0].settings), (1, "Captain", &settings));
}
