//! The message composer. Enter sends, Shift+Enter inserts a line break, Escape stops the answer.

use egui::{Button, Event, Frame, Key, KeyboardShortcut, Margin, Modifiers, Rect, RichText, ScrollArea, Stroke};
use egui::{TextEdit, Ui, pos2, vec2};

use super::{Actions, widgets};
use crate::chat::state::{Action, Dialog, EngineState, WindowState};
use crate::chat::{icons, theme};

/// Visible lines before the text scrolls.
const HEIGHT: f32 = 190.0;
/// Side of the round button.
const BUTTON: f32 = 34.0;

pub fn show(ui: &mut Ui, state: &mut WindowState, out: &mut Actions) {
    let colours = theme::colours(ui);
    // The panel would clip the frame's border.
    ui.add_space(theme::GAP);
    failure(ui, state, out);
    let busy = state.answering.is_some() || state.waiting.is_some();
    let frame =
        Frame::new().fill(theme::raised(ui)).stroke(Stroke::new(1.0, colours.line)).corner_radius(theme::RADIUS + 4);
    frame.inner_margin(Margin { left: 16, right: 8, top: 7, bottom: 7 }).show(ui, |ui| {
        let right = ui.max_rect().right();
        ui.set_width(ui.available_width());
        let text = ui.scope(|ui| {
            ui.set_max_width(ui.available_width() - BUTTON - theme::GAP);
            ScrollArea::vertical().max_height(HEIGHT).auto_shrink([false, true]).show(ui, |ui| input(ui, state)).inner
        });
        let corner = pos2(right, text.response.rect.bottom());
        let rect = Rect::from_min_max(corner - vec2(BUTTON, BUTTON), corner);
        if text.inner && !busy {
            out.push(Action::Send);
        }
        if button(ui, rect, busy, !state.draft.trim().is_empty()) {
            out.push(if busy { Action::Stop } else { Action::Send });
        }
    });
    ui.add_space(2.0);
    ui.vertical_centered(|ui| hint(ui, state));
}

/// The text field. Returns whether Enter sent it.
fn input(ui: &mut Ui, state: &mut WindowState) -> bool {
    let newline = KeyboardShortcut::new(Modifiers::SHIFT, Key::Enter);
    let edit = TextEdit::multiline(&mut state.draft).hint_text("Write a message").desired_rows(1);
    let edit = edit.frame(Frame::NONE).desired_width(f32::INFINITY).return_key(newline).margin(Margin::symmetric(0, 8));
    let response = ui.add(edit.id_salt("draft"));
    if std::mem::take(&mut state.focus) && state.dialog.is_none() {
        response.request_focus();
    }
    // An Enter that commits an input method's composition does not send.
    let composing = ui.input(|i| i.events.iter().any(|e| matches!(e, Event::Ime(_))));
    response.has_focus() && !composing && ui.input(|i| i.key_pressed(Key::Enter) && !i.modifiers.shift)
}

/// The Send or Stop button. Returns whether it was pressed.
fn button(ui: &mut Ui, rect: Rect, busy: bool, ready: bool) -> bool {
    let colours = theme::colours(ui);
    let (icon, name) = if busy { (icons::STOP, "Stop") } else { (icons::SEND, "Send") };
    let on = busy || ready;
    let (fill, ink) = match on {
        true => (colours.accent, colours.on_accent),
        false => (ui.visuals().widgets.hovered.weak_bg_fill, colours.quiet),
    };
    ui.spacing_mut().button_padding = vec2(0.0, 0.0);
    let button = Button::new(RichText::new(icon).size(18.0).color(ink)).fill(fill).corner_radius(17);
    let response = ui.add_enabled_ui(on, |ui| ui.put(rect, button)).inner;
    let response = response.on_hover_text(if busy { "Stop (Esc)" } else { "Send (Enter)" });
    widgets::named(&response, name);
    response.clicked()
}

/// The error of the last answer or of the model, with buttons for what the user can do.
fn failure(ui: &mut Ui, state: &WindowState, out: &mut Actions) {
    let colours = theme::colours(ui);
    // Without a model there is only one thing to do.
    if let Some((conversation, why)) = &state.failed
        && *conversation == state.current
        && !matches!(state.engine, EngineState::Failed(..))
    {
        widgets::notice(ui, icons::WARNING, colours.bad, why, |ui| {
            if ui.button("Try again").clicked() {
                match state.conversation().and_then(|c| Some((c.leaf?, c.nodes.get(c.leaf?)?.role))) {
                    Some((leaf, crate::chat::store::Role::Assistant)) => out.push(Action::Again(leaf)),
                    Some((leaf, _)) => out.push(Action::Resend(leaf)),
                    None => {}
                }
            }
            if ui.button("New conversation").clicked() {
                out.push(Action::New);
            }
            if ui.button("Dismiss").clicked() {
                out.push(Action::Dismiss);
            }
        });
        ui.add_space(theme::GAP);
    }
    if let EngineState::Failed(_, why) = &state.engine {
        widgets::notice(ui, icons::WARNING, colours.bad, why, |ui| {
            let remembered = &state.remembered;
            if ui.button("Try again").clicked() {
                out.push(Action::Reopen(remembered.device.clone(), remembered.context));
            }
            if ui.button("With a smaller context").clicked() {
                let smaller = remembered.context.unwrap_or(4096) / 2;
                out.push(Action::Reopen(remembered.device.clone(), Some(smaller.max(256))));
            }
            if ui.button("Another model…").clicked() {
                out.push(Action::Dialog(Some(Dialog::Models)));
            }
        });
        ui.add_space(theme::GAP);
    }
}

fn hint(ui: &mut Ui, state: &WindowState) {
    let text = match (&state.engine, &state.waiting) {
        (EngineState::Loading { .. }, Some(_)) => "Your message is answered as soon as the model is loaded.",
        (EngineState::Ready(loaded), _) if loaded.device.software => {
            "No GPU found: the CPU computes, slowly. Everything stays on this machine."
        }
        _ => "Everything stays on this machine. Models make mistakes.",
    };
    widgets::quiet(ui, text);
}
