//! Small dialogs: shortcuts, a new title, whether to delete.

use egui::{Color32, Frame, Grid, Id, Key, Modal, RichText, ScrollArea, TextEdit, Ui};

use super::{Actions, widgets};
use crate::chat::state::{Action, Dialog, WindowState};
use crate::chat::theme;

const SHORTCUTS: [(&str, &str); 20] = [
    ("Enter", "Send"),
    ("Shift+Enter", "New line"),
    ("Esc", "Stop the answer; close what is open"),
    ("⌘L", "Write a message"),
    ("⌘E", "Edit your last message"),
    ("⌘R", "Regenerate the last answer"),
    ("⌘⇧C", "Copy the last answer"),
    ("PgUp PgDn", "Scroll; if nothing is written, also with Home, End, ↑ ↓"),
    ("⌘N", "New conversation"),
    ("⌘F", "Search conversations"),
    ("Alt+↑ Alt+↓", "Previous and next conversation"),
    ("⌘B", "Show or hide conversations"),
    ("⌘M", "Choose a model"),
    ("⌘O", "Open a model file"),
    ("⌘,", "Settings"),
    ("⌘D", "Device"),
    ("⌘J", "X-ray"),
    ("⌘S", "Export the conversation"),
    ("Tab", "Next button or field"),
    ("F1", "This list"),
];

pub fn help(ui: &mut Ui, out: &mut Actions) {
    let mac = ui.ctx().os() == egui::os::OperatingSystem::Mac;
    let modal = modal(ui, "help").show(ui.ctx(), |ui| {
        ui.set_width((ui.ctx().content_rect().width() - 80.0).min(460.0));
        widgets::title(ui, "Keyboard shortcuts");
        ui.add_space(theme::GAP);
        let height = ui.ctx().content_rect().height() - 140.0;
        ScrollArea::vertical().max_height(height).min_scrolled_height(height).show(ui, |ui| shortcuts(ui, mac));
    });
    if modal.should_close() {
        out.push(Action::Dialog(None));
    }
}

fn shortcuts(ui: &mut Ui, mac: bool) {
    ui.spacing_mut().interact_size.y = 18.0;
    Grid::new("shortcuts").num_columns(2).spacing([28.0, 7.0]).show(ui, |ui| {
        for (keys, what) in SHORTCUTS {
            let keys = if mac { keys.to_string() } else { keys.replace('⌘', "Ctrl+").replace('⇧', "Shift+") };
            ui.label(RichText::new(keys).monospace());
            ui.label(what);
            ui.end_row();
        }
    });
}

/// A dialog in the middle of the window; Escape and a click outside close it.
pub fn modal(ui: &Ui, name: &str) -> Modal {
    let frame = Frame::popup(ui.style()).inner_margin(20).corner_radius(theme::RADIUS);
    Modal::new(Id::unique(name)).frame(frame).backdrop_color(Color32::from_black_alpha(120))
}

pub fn rename(ui: &mut Ui, state: &mut WindowState, out: &mut Actions) {
    let Some(Dialog::Rename(id, title)) = &mut state.dialog else { return };
    let done = asks(ui, "Rename conversation", "", title, "Rename");
    finish(done, || Action::Rename(id.clone(), title.clone()), Action::Dialog(None), out);
}

pub fn save_as(ui: &mut Ui, state: &mut WindowState, out: &mut Actions) {
    let Some(Dialog::SaveAs(path, text)) = &mut state.dialog else { return };
    let why = "This system shows no file dialog (no desktop portal, no zenity). Where should the file be saved?";
    let done = asks(ui, "Save as", why, path, "Save");
    finish(done, || Action::SaveAs(path.clone(), text.clone()), Action::Dialog(None), out);
}

pub fn delete(ui: &mut Ui, state: &WindowState, out: &mut Actions) {
    let Some(Dialog::Delete(id)) = &state.dialog else { return };
    let title = state.conversations.iter().find(|c| c.id == *id).map_or("", |c| c.title.as_str());
    let done = confirms(ui, "Delete conversation?", &format!("“{title}” and all its answers will be gone."), "Delete");
    finish(done, || Action::Delete(id.clone()), Action::Dialog(None), out);
}

pub fn delete_model(ui: &mut Ui, state: &WindowState, out: &mut Actions) {
    let Some(Dialog::DeleteModel(place)) = &state.dialog else { return };
    let text = format!("{place} will be deleted from this computer. It can be downloaded again.");
    let done = confirms(ui, "Delete model?", &text, "Delete");
    finish(done, || Action::DeleteModel(place.clone()), Action::Dialog(Some(Dialog::Models)), out);
}

/// `Some(true)` if a dialog was confirmed, `Some(false)` if it was cancelled.
type Done = Option<bool>;

fn finish(done: Done, confirmed: impl FnOnce() -> Action, cancelled: Action, out: &mut Actions) {
    out.extend(done.map(|yes| if yes { confirmed() } else { cancelled }));
}

/// A dialog with a text field.
fn asks(ui: &Ui, title: &str, why: &str, text: &mut String, yes: &str) -> Done {
    dialog(ui, title, why, yes, |ui| {
        let response = ui.add(TextEdit::singleline(text).desired_width(f32::INFINITY).margin(8.0));
        widgets::labelled(&response, title);
        let enter = response.lost_focus() && ui.input(|i| i.key_pressed(Key::Enter));
        if ui.memory(|m| m.focused().is_none()) {
            response.request_focus();
        }
        ui.add_space(theme::GAP);
        enter
    })
}

fn confirms(ui: &Ui, title: &str, why: &str, yes: &str) -> Done {
    dialog(ui, title, why, yes, |_| false)
}

/// A dialog with two buttons; `add` returns whether its contents confirm it.
fn dialog(ui: &Ui, title: &str, why: &str, yes: &str, add: impl FnOnce(&mut Ui) -> bool) -> Done {
    let mut done = None;
    let modal = modal(ui, title).show(ui.ctx(), |ui| {
        ui.set_width((ui.ctx().content_rect().width() - 80.0).min(380.0));
        widgets::title(ui, title);
        ui.add_space(theme::GAP);
        if !why.is_empty() {
            ui.label(why);
            ui.add_space(theme::GAP);
        }
        let confirmed = add(ui);
        ui.horizontal(|ui| {
            if widgets::main_button(ui, yes).clicked() || confirmed {
                done = Some(true);
            }
            if ui.button("Cancel").clicked() {
                done = Some(false);
            }
        });
    });
    done.or(modal.should_close().then_some(false))
}
