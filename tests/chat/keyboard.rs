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
