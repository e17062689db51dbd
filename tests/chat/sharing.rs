//! Several conversations at once: in two windows over one folder, and while another one is answered.

use super::*;

/// A second window over the first one's folder, with a loaded model.
fn second(first: &Window) -> (Harness<'static, App>, Script) {
    let script = Script::default();
    let mut harness = harness(1100.0, 740.0, true, first.folder.path(), &script);
    harness.run_steps(1);
    script.send(EngineEvent::Loaded(Box::new(loaded())));
    harness.run_steps(2);
    script.commands();
    (harness, script)
}

fn shown(harness: &Harness<'_, App>) -> Vec<String> {
    let conversation = harness.state().state.conversation().expect("one");
    conversation.path().iter().map(|node| conversation.nodes[*node].text.clone()).collect()
}

#[test]
fn two_windows_on_a_conversation_lose_no_message() {
    let mut one = window(1100.0, 740.0, true);
    one.turn("Hello", "Hi.");
    one.harness.state().flush();
    let (mut two, theirs) = second(&one);
    assert_eq!(shown(&two), ["Hello", "Hi."]);
    one.turn("What is the capital of France?", "Paris.");
    two.state_mut().state.draft = "2+2".into();
    two.run_steps(1);
    two.get_by_label("Send").click();
    two.run_steps(2);
    let ask = theirs.asked();
    theirs.words(ask.id, "4");
    theirs.finish(ask.id, FinishReason::End, 1);
    two.run_steps(2);
    // The first window gets the focus, and shows both branches.
    two.state().flush();
    one.harness.event(egui::Event::WindowFocused(true));
    one.steps(2);
    assert_eq!(one.texts(), ["Hello", "Hi.", "What is the capital of France?", "Paris."]);
    one.click("Next version");
    assert_eq!(one.texts(), ["Hello", "Hi.", "2+2", "4"]);
    // So does a window that is opened later.
    drop(two);
    let Window { harness, folder, .. } = one;
    drop(harness);
    let later = self::harness(900.0, 700.0, true, folder.path(), &Script::default());
    let conversations = &later.state().state.conversations;
    let texts: Vec<_> = conversations[0].nodes.iter().map(|n| n.text.as_str()).collect();
    assert_eq!((conversations.len(), texts.len()), (1, 6), "{texts:?}");
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("it").flatten().map(|f| f.file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().ends_with("tmp")), "{left:?}");
}

#[test]
fn a_question_waits_while_another_conversation_is_answered() {
    let mut window = window(1100.0, 740.0, true);
    let first = window.say("Tell me about owls");
    window.script.words(first.id, "They hunt ");
    window.steps(2);
    window.harness.state_mut().state.draft = "half a thought".into();
    window.click("New conversation");
    // The composer is this conversation's own: it sends, and does not stop the other answer.
    assert_eq!(window.harness.state().state.draft, "");
    window.click("What can you do?");
    assert_eq!(window.texts(), ["What can you do?"]);
    window.shows("Waiting for the answer in “Tell me about owls” to end…");
    assert_eq!(window.script.commands(), []);
    // Escape takes it back, "Send again" queues it again.
    window.harness.key_press(egui::Key::Escape);
    window.steps(2);
    assert!(!window.has("Waiting for the answer") && window.script.commands().is_empty());
    window.click("Send again");
    window.shows("Waiting for the answer");
    window.script.finish(first.id, FinishReason::End, 2);
    window.steps(2);
    let ask = window.script.asked();
    assert_eq!(ask.messages[0].content, "What can you do?");
    window.script.words(ask.id, "A little.");
    // While this is answered, "Regenerate" in the first conversation waits.
    window.harness.get_all_by_label("Tell me about owls").next().expect("a row").click();
    window.steps(2);
    assert_eq!(window.harness.state().state.draft, "half a thought");
    window.click("Regenerate");
    window.shows("Waiting for the answer in “What can you do?” to end…");
    window.script.finish(ask.id, FinishReason::End, 2);
    window.steps(2);
    let again = window.script.asked();
    assert_eq!(again.messages.last().expect("one").content, "Tell me about owls");
    window.script.words(again.id, "At night.");
    window.script.finish(again.id, FinishReason::End, 2);
    window.steps(2);
    assert_eq!(window.texts(), ["Tell me about owls", "At night."]);
}

#[test]
fn a_file_that_holds_no_conversation_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("conversation-1.json"), "{ half").expect("a file");
    let mut harness = harness(900.0, 700.0, true, folder.path(), &Script::default());
    harness.run_steps(2);
    assert!(harness.query_by_label_contains("1 conversation cannot be read").is_some());
    assert!(folder.path().join("conversation-1.json").exists());
}
