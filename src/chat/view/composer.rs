//! The message composer. Enter sends, Shift+Enter inserts a line break, Escape stops the answer.

use egui::{
    Align, Button, Event, Frame, Id, Key, KeyboardShortcut, Label, Layout, Margin, Modifiers, Rect, RichText,
    ScrollArea, Stroke,
};
use egui::{TextEdit, Ui, UiBuilder, pos2, vec2};

use super::{Actions, message, widgets};
use crate::chat::protocol::{EngineFailure, Remedy};
use crate::chat::state::{Action, Dialog, EngineState, WindowState};
use crate::chat::store::Role;
use crate::chat::{bidi, icons, theme};

/// Visible lines before the text scrolls.
const HEIGHT: f32 = 190.0;
/// The name of the text field's id.
pub const FIELD: &str = "composer field";
/// Side of the round button.
const BUTTON: f32 = 34.0;

pub fn show(ui: &mut Ui, state: &mut WindowState, out: &mut Actions) {
    let colours = theme::colours(ui);
    // The panel would clip the frame's border.
    ui.add_space(theme::GAP);
    failure(ui, state, out);
    super::calls::question(ui, state, out);
    let busy = state.busy_here();
    let frame =
        Frame::new().fill(theme::raised(ui)).stroke(Stroke::new(1.0, colours.line)).corner_radius(theme::RADIUS + 4);
    frame.inner_margin(Margin { left: 16, right: 8, top: 7, bottom: 7 }).show(ui, |ui| {
        let right = ui.max_rect().right();
        ui.set_width(ui.available_width());
        super::attach::chips(ui, state, out);
        let text = ui.scope(|ui| {
            ui.set_max_width(ui.available_width() - 2.0 * BUTTON - theme::GAP);
            ScrollArea::vertical().max_height(HEIGHT).auto_shrink([false, true]).show(ui, |ui| input(ui, state)).inner
        });
        let corner = pos2(right, text.response.rect.bottom());
        let rect = Rect::from_min_max(corner - vec2(BUTTON, BUTTON), corner);
        let beside = Rect::from_min_size(rect.min - vec2(BUTTON, -2.0), vec2(theme::ICON, theme::ICON));
        let attach = ui.scope_builder(UiBuilder::new().max_rect(beside), |ui| {
            widgets::icon_button(ui, icons::ATTACH, "Attach text files")
        });
        if attach.inner.clicked() {
            out.push(Action::Attach);
        }
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
    let id = Id::unique(FIELD);
    // Before the field is shown: it takes this frame's text.
    if std::mem::take(&mut state.focus) && state.dialog.is_none() {
        ui.memory_mut(|m| m.request_focus(id));
    }
    let right = bidi::begins_right(&state.draft);
    if right {
        preview(ui, &state.draft);
    }
    let newline = KeyboardShortcut::new(Modifiers::SHIFT, Key::Enter);
    let edit = TextEdit::multiline(&mut state.draft).id(id).hint_text("Write a message").desired_rows(1);
    let edit = edit.frame(Frame::NONE).desired_width(f32::INFINITY).return_key(newline).margin(Margin::symmetric(0, 8));
    let edit = if right { edit.align(egui::Align2::RIGHT_TOP) } else { edit };
    let response = ui.add(edit);
    // An Enter that commits an input method's composition does not send.
    let composing = ui.input(|i| i.events.iter().any(|e| matches!(e, Event::Ime(_))));
    response.has_focus() && !composing && ui.input(|i| i.key_pressed(Key::Enter) && !i.modifiers.shift)
}

/// Right-to-left text as it will be read: a text field keeps its words in the order of their letters.
fn preview(ui: &mut Ui, text: &str) {
    let text = message::in_order(ui, text, ui.available_width(), "\n").into_owned();
    ui.with_layout(Layout::top_down(Align::Max), |ui| {
        let text = RichText::new(text).color(theme::colours(ui).quiet);
        ui.add(Label::new(text).wrap().halign(Align::Max).selectable(false));
    });
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
    if let Some((conversation, failure)) = &state.failed
        && *conversation == state.current
        && !matches!(state.engine, EngineState::Failed(..))
    {
        widgets::notice(ui, icons::WARNING, colours.bad, &failure.why, |ui| answer_remedies(ui, state, failure, out));
        ui.add_space(theme::GAP);
    }
    if let EngineState::Failed(_, failure) = &state.engine {
        widgets::notice(ui, icons::WARNING, colours.bad, &failure.why, |ui| model_remedies(ui, state, failure, out));
        ui.add_space(theme::GAP);
    }
}

fn answer_remedies(ui: &mut Ui, state: &WindowState, failure: &EngineFailure, out: &mut Actions) {
    let last = state.conversation().and_then(|c| Some((c.leaf?, c.nodes.get(c.leaf?)?.role)));
    let again = last.map(|(leaf, role)| match role {
        Role::Assistant => Action::Again(leaf),
        Role::User => Action::Resend(leaf),
    });
    let larger = state.larger_context().filter(|_| failure.remedy == Remedy::LargerContext);
    if let Some(larger) = larger
        && ui.button(format!("Open with a context of {larger}")).clicked()
    {
        out.push(Action::Reopen(state.remembered.device.clone(), Some(larger)));
        out.extend(again.clone());
    }
    // The same prompt does not fit a second time.
    if failure.remedy != Remedy::LargerContext && ui.button("Try again").clicked() {
        out.extend(again);
    }
    if ui.button("New conversation").clicked() {
        out.push(Action::New);
    }
    if ui.button("Dismiss").clicked() {
        out.push(Action::Dismiss);
    }
}

fn model_remedies(ui: &mut Ui, state: &WindowState, failure: &EngineFailure, out: &mut Actions) {
    let remembered = &state.remembered;
    if ui.button("Try again").clicked() {
        out.push(Action::Reopen(remembered.device.clone(), remembered.context));
    }
    if failure.remedy == Remedy::SmallerContext && ui.button("With a smaller context").clicked() {
        let smaller = remembered.context.unwrap_or(4096) / 2;
        out.push(Action::Reopen(remembered.device.clone(), Some(smaller.max(256))));
    }
    if ui.button("Another model…").clicked() {
        out.push(Action::Dialog(Some(Dialog::Models)));
    }
}

fn hint(ui: &mut Ui, state: &WindowState) {
    let text = match &state.engine {
        EngineState::Loading { .. } if state.waiting_here().is_some() => {
            "Your message is answered as soon as the model is loaded."
        }
        EngineState::Ready(loaded) if loaded.device.software => {
            "No GPU found: running on the CPU, which is slow. Everything stays on this machine."
        }
        _ => "Everything stays on this machine. Models make mistakes.",
    };
    let text = RichText::new(text).small().color(theme::colours(ui).quiet);
    ui.add(Label::new(text).wrap());
}
