//! Attached text files: chips, what the model reads, and refusals.

use super::*;

/// A file that is dropped on the window.
#[derive(Debug)]
struct Dropped(PathBuf);

impl egui::DroppedFile for Dropped {
    fn path(&self) -> &Path {
        &self.0
    }

    fn bytes(&self) -> Result<Vec<u8>, String> {
        std::fs::read(&self.0).map_err(|e| e.to_string())
    }
}

impl Window {
    /// Drops a file and draws until it is attached or refused.
    fn drop_file(&mut self, name: &str, bytes: &[u8]) {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).expect("a file");
        let file: egui::DroppedFileHandle = std::sync::Arc::new(Dropped(path));
        let before = self.harness.state().state.attached.len();
        self.harness.state_mut().state.toast = None;
        self.harness.input_mut().dropped_files.push(file);
        self.harness.step();
        self.harness.input_mut().dropped_files.clear();
        draw_until(&mut self.harness, "an attachment", |s| s.attached.len() > before || s.toast.is_some());
        self.steps(2);
    }

    /// Answers the window's last request for a count.
    fn count(&mut self, tokens: usize) {
        let count = self.script.commands().into_iter().find_map(|command| match command {
            Command::Count(id, _) => Some(id),
            _ => None,
        });
        self.script.send(EngineEvent::Counted(count.expect("a request for a count"), Some(tokens)));
        self.steps(2);
    }
}

#[test]
fn text_files_are_attached_sent_and_saved() {
    let mut window = window(1100.0, 740.0, true);
    window.drop_file("owls.md", "# Owls\n\nThey hunt at night.\n".as_bytes());
    window.count(9);
    window.shows("owls.md");
    window.shows("9 tokens");
    window.drop_file("fox.txt", b"Foxes hunt at dusk.");
    window.count(5);
    window.click("Remove fox.txt");
    assert!(!window.has("fox.txt"));
    let ask = window.say("When do they hunt?");
    let sent = "owls.md:\n```md\n# Owls\n\nThey hunt at night.\n```\n\nWhen do they hunt?";
    assert_eq!(ask.messages[0].content, sent);
    window.script.words(ask.id, "At night.");
    window.script.finish(ask.id, FinishReason::End, 2);
    window.steps(2);
    assert_eq!(window.texts()[0], "When do they hunt?");
    assert!(window.harness.state().state.attached.is_empty());
    window.shows("owls.md");
    // The files stay with the message when it is edited, and are saved.
    window.harness.state_mut().state.editing = Some((0, "Where?".into()));
    window.steps(2);
    window.harness.get_all_by_label("Send").last().expect("the editor's").click();
    window.steps(2);
    assert!(window.script.asked().messages[0].content.ends_with("```\n\nWhere?"));
    let saved = window.conversation().nodes[0].files.clone();
    let Window { harness, folder, .. } = window;
    drop(harness);
    let again = self::harness(900.0, 700.0, true, folder.path(), &Script::default());
    assert_eq!(again.state().state.conversation().expect("one").nodes[0].files, saved);
}

#[test]
fn what_cannot_be_attached_is_refused_in_a_sentence() {
    let mut window = window(1100.0, 740.0, false);
    window.drop_file("owl.png", b"\x89PNG\r\n\x1a\n\0\0");
    window.shows("owl.png is a PNG image, not a text file.");
    window.drop_file("long.txt", b"So much text.");
    window.count(5000);
    window.shows("long.txt has 5000 tokens, the context 1024");
    assert!(window.harness.state().state.attached.is_empty());
    // A model is opened.
    let path = window.folder.path().join("a.gguf");
    std::fs::write(&path, b"GGUF").expect("a file");
    window.script.commands();
    let file: egui::DroppedFileHandle = std::sync::Arc::new(Dropped(path.clone()));
    window.harness.input_mut().dropped_files.push(file);
    window.harness.step();
    window.harness.input_mut().dropped_files.clear();
    assert!(window.script.commands().contains(&Command::Load(super::file(&path), Opening::default())));
}

#[test]
fn chips_look_right_in_light_and_dark() {
    let mut results = SnapshotResults::new();
    for (name, dark) in [("chat_files_dark", true), ("chat_files_light", false)] {
        let mut window = window(900.0, 560.0, dark);
        window.drop_file("owls.md", "# Owls\n".repeat(900).as_bytes());
        window.turn("When do they hunt?", "At night.");
        window.drop_file("a-report-about-the-foxes-of-the-northern-forests.csv", b"fox, 1\n");
        window.count(4);
        window.drop_file("notes.txt", b"Foxes hunt at dusk.");
        window.harness.state_mut().state.toast = None;
        window.harness.state_mut().state.draft = "And foxes?".into();
        window.steps(4);
        results.add(window.harness.try_snapshot(name));
    }
}
