//! The bar above the conversation: list toggle, model button, panel toggles.

use egui::{Button, Label, RichText, Role, Ui, WidgetInfo, vec2};

use super::{Actions, format, widgets};
use crate::chat::state::{Action, Dialog, EngineState, Panel, WindowState};
use crate::chat::{icons, theme};

pub fn show(ui: &mut Ui, state: &mut WindowState, out: &mut Actions) {
    ui.spacing_mut().interact_size.y = theme::ICON;
    ui.horizontal(|ui| {
        if !state.list || state.narrow {
            if widgets::icon_button(ui, icons::SIDEBAR, "Show conversations").clicked() {
                out.push(Action::List);
            }
            if widgets::icon_button(ui, icons::NEW, "New conversation").clicked() {
                out.push(Action::New);
            }
        }
        model(ui, state, out);
        widgets::right(ui, |ui| {
            ui.spacing_mut().item_spacing.x = 2.0;
            menu(ui, state, out);
            let panels = [
                (Panel::XRay, icons::XRAY, "X-ray"),
                (Panel::Device, icons::DEVICE, "Device"),
                (Panel::Tools, icons::TOOL, "Tools"),
                (Panel::Settings, icons::SETTINGS, "Settings"),
            ];
            for (panel, icon, name) in panels {
                if widgets::icon_switch(ui, state.panel == Some(panel), icon, name).clicked() {
                    out.push(Action::Panel(panel));
                }
            }
        });
    });
}

/// The model's name or its loading progress; a click opens the picker.
fn model(ui: &mut Ui, state: &WindowState, out: &mut Actions) {
    let colours = theme::colours(ui);
    let (name, detail) = match &state.engine {
        EngineState::Empty => ("Choose a model".to_string(), String::new()),
        EngineState::Loading { place, done, total, since } => {
            (place.to_string(), loading(*done, *total, state.now - since))
        }
        EngineState::Ready(loaded) => (loaded.facts.name.clone(), loaded.facts.dtype.clone()),
        EngineState::Failed(Some(place), _) => (place.to_string(), "not open".to_string()),
        EngineState::Failed(None, _) => ("Choose a model".to_string(), String::new()),
    };
    let most = if state.narrow { 16 } else { 36 };
    let name = match name.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name,
    };
    let mut text = egui::text::LayoutJob::default();
    let strong = ui.visuals().strong_text_color();
    let format = |font, colour| egui::TextFormat { font_id: font, color: colour, ..Default::default() };
    text.append(&name, 0.0, format(theme::strong(14.5), strong));
    if !detail.is_empty() && !state.narrow {
        text.append(&detail, 8.0, format(egui::FontId::proportional(12.5), colours.quiet));
    }
    text.append(icons::DOWN, 6.0, format(egui::FontId::proportional(12.0), colours.quiet));
    let button = Button::new(text).frame_when_inactive(false).min_size(vec2(0.0, theme::ICON));
    let response = ui.add(button).on_hover_text("Choose a model");
    widgets::named(&response, &format!("Model: {name}"));
    if response.clicked() {
        out.push(Action::Dialog(Some(Dialog::Models)));
    }
    if let EngineState::Loading { done, total, .. } = &state.engine {
        let part = if *total > 0 { *done as f32 / *total as f32 } else { 0.0 };
        let width = if state.narrow { 48.0 } else { 110.0 };
        ui.add(egui::ProgressBar::new(part).desired_width(width).desired_height(5.0).fill(colours.accent));
        if widgets::small_icon_button(ui, icons::CLOSE, "Stop loading").clicked() {
            out.push(Action::StopLoading);
        }
    }
}

fn loading(done: u64, total: u64, seconds: f64) -> String {
    if total == 0 { "preparing…".into() } else { format::progress(done, total, 0, seconds) }
}

fn menu(ui: &mut Ui, state: &WindowState, out: &mut Actions) {
    let quiet = theme::colours(ui).quiet;
    ui.spacing_mut().button_padding = vec2(6.0, 0.0);
    let button = Button::new(RichText::new(icons::MORE).size(18.0).color(quiet)).frame_when_inactive(false);
    let button = button.min_size(vec2(theme::ICON, theme::ICON));
    let (response, _) = egui::containers::menu::MenuButton::from_button(button).ui(ui, |ui| {
        ui.set_min_width(210.0);
        let heading =
            |ui: &mut Ui, text: &str| drop(ui.add(Label::new(RichText::new(text).small().weak()).selectable(false)));
        heading(ui, "This conversation");
        for (text, action) in
            [("Export as Markdown…", Action::Export(false)), ("Export as JSON…", Action::Export(true))]
        {
            if ui.button(text).clicked() {
                out.push(action);
            }
        }
        ui.separator();
        heading(ui, "Appearance");
        for (text, dark) in [("Match the system", None), ("Light", Some(false)), ("Dark", Some(true))] {
            let mark = if state.remembered.dark == dark { icons::CHECK } else { "" };
            let button = Button::new(text).right_text(RichText::new(mark).color(theme::colours(ui).accent));
            let response = ui.add(button);
            let on = state.remembered.dark == dark;
            response.widget_info(|| WidgetInfo::selected(Role::RadioButton, true, on, text));
            if response.clicked() {
                out.push(Action::Dark(dark));
            }
        }
        ui.separator();
        if ui.button("Keyboard shortcuts").clicked() {
            out.push(Action::Dialog(Some(Dialog::Help)));
        }
    });
    widgets::named(&response, "More");
}
