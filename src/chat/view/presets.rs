//! The presets in the settings panel: choose, save, rename, delete.

use egui::{Button, Key, TextEdit, Ui, vec2};

use super::{Actions, widgets};
use crate::chat::icons;
use crate::chat::state::{Action, WindowState};

pub fn show(ui: &mut Ui, state: &mut WindowState, out: &mut Actions) {
    widgets::section(ui, "Presets");
    if state.presets.is_empty() {
        widgets::quiet(
            ui,
            "A preset keeps this system prompt, style and length under a name, for other conversations.",
        );
    }
    let WindowState { presets, renaming, .. } = state;
    for preset in presets.iter() {
        match renaming {
            Some((old, new)) if *old == preset.name => rename(ui, old, new, out),
            _ => row(ui, &preset.name, renaming, out),
        }
    }
    ui.horizontal(|ui| {
        let width = ui.available_width() - 88.0;
        let edit = TextEdit::singleline(&mut state.preset_name).hint_text("Name of a new preset").margin(6.0);
        let response = ui.add(edit.desired_width(width));
        widgets::labelled(&response, "Name of a new preset");
        let enter = response.lost_focus() && ui.input(|i| i.key_pressed(Key::Enter));
        let ready = !state.preset_name.trim().is_empty();
        let save = ui.add_enabled(ready, Button::new("Save").min_size(vec2(0.0, 28.0)));
        widgets::named(&save, "Save preset");
        let clicked = save.clicked();
        if ready && (clicked || enter) {
            out.push(Action::SavePreset(state.preset_name.clone()));
        }
    });
}

fn row(ui: &mut Ui, name: &str, renaming: &mut Option<(String, String)>, out: &mut Actions) {
    ui.horizontal(|ui| {
        let button = Button::new(name).truncate().min_size(vec2(ui.available_width() - 64.0, 28.0));
        let response = ui.add(button).on_hover_text("Begins a conversation with this preset.");
        if response.clicked() {
            out.push(Action::UsePreset(name.to_string()));
        }
        ui.spacing_mut().item_spacing.x = 0.0;
        if widgets::small_icon_button(ui, icons::EDIT, &format!("Rename {name}")).clicked() {
            *renaming = Some((name.to_string(), name.to_string()));
        }
        if widgets::small_icon_button(ui, icons::CLOSE, &format!("Delete {name}")).clicked() {
            out.push(Action::DeletePreset(name.to_string()));
        }
    });
}

fn rename(ui: &mut Ui, old: &str, new: &mut String, out: &mut Actions) {
    let response = ui.add(TextEdit::singleline(new).desired_width(f32::INFINITY).margin(6.0));
    widgets::labelled(&response, &format!("New name of {old}"));
    if response.lost_focus() {
        out.push(Action::RenamePreset(old.to_string(), new.clone()));
    } else {
        response.request_focus();
    }
}
