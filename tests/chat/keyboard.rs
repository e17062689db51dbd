//! The window by keyboard alone, and what right-to-left writers see.

use egui::{Event, Key, Modifiers};

use super::*;

#[test]
fn the_window_works_by_keyboard() {
    let mut window = window(1100.0, 500.0, true);
    let key = |window: &mut Window, modifiers, key| {
        window.harness.key_press_modifiers(modifiers, key);
        window.steps(2);
    };
    window.turn("Tell me about owls", POEM);
    window.turn("More", POEM);
    // After a click on a button, typing goes to the composer.
    window.click("Device");
    window.harness.event(Event::Text("and fo".into()));
    window.steps(1);
    window.harness.event(Event::Text("xes".into()));
    window.steps(2);
    assert_eq!(window.harness.state().state.draft, "and foxes");
    // PageUp scrolls in any case, Home in an empty composer.
    assert!(!window.has("To the end"));
    key(&mut window, Modifiers::NONE, Key::PageUp);
    window.shows("To the end");
    key(&mut window, Modifiers::NONE, Key::PageDown);
    key(&mut window, Modifiers::NONE, Key::PageDown);
    assert!(!window.has("To the end"));
    window.harness.state_mut().state.draft.clear();
    key(&mut window, Modifiers::NONE, Key::Home);
    window.shows("To the end");
    // Edit, copy, search, and the next conversation.
    key(&mut window, Modifiers::COMMAND, Key::E);
    assert_eq!(window.harness.state().state.editing, Some((2, "More".to_string())));
    key(&mut window, Modifiers::NONE, Key::Escape);
    key(&mut window, Modifiers::COMMAND | Modifiers::SHIFT, Key::C);
    let toast = window.harness.state().state.toast.as_ref().map(|toast| toast.text.as_str());
    assert_eq!(toast, Some("Copied"), "{:?}", window.harness.state().state.editing);
    let first = window.conversation().id.clone();
    key(&mut window, Modifiers::COMMAND, Key::N);
    let second = window.conversation().id.clone();
    let listed: Vec<_> = window.harness.state().state.listed().iter().map(|c| c.id.clone()).collect();
    let way = if listed[0] == second { (Key::ArrowDown, Key::ArrowUp) } else { (Key::ArrowUp, Key::ArrowDown) };
    key(&mut window, Modifiers::ALT, way.0);
    assert_eq!(window.conversation().id, first);
    key(&mut window, Modifiers::ALT, way.1);
    assert_eq!(window.conversation().id, second);
    key(&mut window, Modifiers::COMMAND, Key::F);
    window.harness.event(Event::Text("owls".into()));
    window.steps(2);
    assert_eq!(window.harness.state().state.search, "owls");
    // The button that Tab reaches has a ring.
    window.harness.state_mut().state.search.clear();
    key(&mut window, Modifiers::NONE, Key::Tab);
    key(&mut window, Modifiers::NONE, Key::Tab);
    window.steps(20);
    window.harness.snapshot("chat_focus");
}

#[test]
fn right_to_left_text_is_shown_in_its_order_while_it_is_written() {
    let mut window = window(900.0, 500.0, false);
    window.harness.state_mut().state.draft = "שלום עולם".into();
    window.harness.state_mut().state.focus = true;
    window.steps(2);
    window.shows("עולם שלום");
    window.harness.state_mut().state.draft = "Hello שלום".into();
    window.steps(2);
    assert!(!window.has("שלום Hello"));
}

#[test]
fn the_windows_size_is_kept() {
    let mut window = window(900.0, 500.0, false);
    window.turn("Hello", "Hi.");
    assert_eq!(window.harness.state().state.remembered.window, None);
    let viewport = window.harness.input_mut().viewports.get_mut(&egui::ViewportId::ROOT).expect("it");
    viewport.inner_rect = Some(egui::Rect::from_min_size(egui::Pos2::ZERO, egui::vec2(900.0, 500.0)));
    window.steps(1);
    eframe::App::on_exit(window.harness.state_mut());
    assert_eq!(window.harness.state().state.remembered.window, Some((900.0, 500.0, false)));
}

#[test]
fn the_reading_place_is_kept_and_a_search_leads_to_its_message() {
    let mut window = window(1180.0, 700.0, true);
    let conversation = window.harness.state_mut().state.conversation_mut().expect("one");
    for i in 0..30 {
        let question = conversation.add(conversation.leaf, Role::User, format!("Question {i}"), 1);
        conversation.add(Some(question), Role::Assistant, format!("Answer {i}.\n\n{POEM}"), 1);
    }
    window.harness.state_mut().state.to_end = true;
    window.steps(20);
    // The search goes to the message that it found, and again to the next one.
    window.harness.state_mut().state.search = "answer 12.".into();
    window.harness.key_press_modifiers(Modifiers::COMMAND, Key::F);
    window.steps(2);
    window.harness.key_press(Key::Enter);
    window.steps(12);
    assert_eq!(window.harness.state().state.found, Some(25));
    window.shows("Answer 12.");
    // A panel makes the text narrower; the message stays at its place.
    let top = |window: &Window| window.harness.get_by_label_contains("Answer 12.").rect().top();
    let before = top(&window);
    window.click("Device");
    window.steps(12);
    let beside = top(&window);
    window.click("Close panel");
    window.steps(12);
    let after = top(&window);
    assert!((before - beside).abs() < 40.0 && (before - after).abs() < 40.0, "{before} {beside} {after}");
}
