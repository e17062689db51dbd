//! Small dialogs: shortcuts, a new title, whether to delete.

use egui::{Color32, Frame, Grid, Id, Key, Modal, RichText, TextEdit, Ui};

use super::{Actions, widgets};
use crate::chat::state::{Action, Dialog, WindowState};
use crate::chat::theme;

const SHORTCUTS: [(&str, &str); 13] = [
    ("Enter", "Send"),
    ("Shift+Enter", "New line"),
    ("Esc", "Stop the answer; close what is open"),
    ("⌘N", "New conversation"),
    ("⌘R", "Answer again"),
    ("⌘M", "Choose a model"),
    ("⌘O", "Open a model file"),
    ("⌘B", "Show or hide conversations"),
    ("⌘,", "Settings"),
    ("⌘D", "Device"),
    ("⌘J", "X-ray"),
    ("⌘S", "Export the conversation"),
    ("F1", "This list"),
];

pub fn help(ui: &mut Ui, out: &mut Actions) {
    let mac = ui.ctx().os() == egui::os::OperatingSystem::Mac;
    let modal = modal(ui, "help").show(ui.ctx(), |ui| {
        ui.set_width(400.0);
        widgets::title(ui, "Keyboard shortcuts");
        ui.add_space(theme::GAP);
        Grid::new("shortcuts").num_columns(2).spacing([28.0, 9.0]).show(ui, |ui| {
            for (keys, what) in SHORTCUTS {
                let keys = if mac { keys.to_string() } else { keys.replace('⌘', "Ctrl+") };
                ui.label(RichText::new(keys).monospace());
                ui.label(what);
                ui.end_row();
            }
        });
    });
    if modal.should_close() {
        out.push(Action::Dialog(None));
    }
}

/// A dialog in the middle of the window; Escape and a click outside close it.
pub fn modal(ui: &Ui, name: &str) -> Modal {
    let frame = Frame::popup(ui.style()).inner_margin(20).corner_radius(theme::RADIUS);
    Modal::new(Id::unique(name)).frame(frame).backdrop_color(Color32::from_black_alpha(120))
}

pub fn rename(ui: &mut Ui, state: &mut WindowState, out: &mut Actions) {
    let Some(Dialog::Rename(id, title)) = &mut state.dialog else { return };
    let modal = modal(ui, "rename").show(ui.ctx(), |ui| {
        ui.set_width(380.0);
        widgets::title(ui, "Rename conversation");
        ui.add_space(theme::GAP);
        let response = ui.add(TextEdit::singleline(title).desired_width(f32::INFINITY).margin(8.0));
        let enter = response.lost_focus() && ui.input(|i| i.key_pressed(Key::Enter));
        if ui.memory(|m| m.focused().is_none()) {
            response.request_focus();
        }
        ui.add_space(theme::GAP);
        ui.horizontal(|ui| {
            if widgets::main_button(ui, "Rename").clicked() || enter {
                out.push(Action::Rename(id.clone(), title.clone()));
            }
            if ui.button("Cancel").clicked() {
                out.push(Action::Dialog(None));
            }
        });
    });
    if modal.should_close() {
        out.push(Action::Dialog(None));
    }
}

pub fn delete(ui: &mut Ui, state: &WindowState, out: &mut Actions) {
    let Some(Dialog::Delete(id)) = &state.dialog else { return };
    let title = state.conversations.iter().find(|c| c.id == *id).map_or("", |c| c.title.as_str());
    let modal = modal(ui, "delete").show(ui.ctx(), |ui| {
        ui.set_width(380.0);
        widgets::title(ui, "Delete conversation?");
        ui.label(format!("“{title}” and all its answers will be gone."));
        ui.add_space(theme::GAP);
        ui.horizontal(|ui| {
            if widgets::main_button(ui, "Delete").clicked() {
                out.push(Action::Delete(id.clone()));
            }
            if ui.button("Cancel").clicked() {
                out.push(Action::Dialog(None));
            }
        });
    });
    if modal.should_close() {
        out.push(Action::Dialog(None));
    }
}
