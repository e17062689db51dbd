//! The device panel: the adapter, its memory use, and the other adapters.

use egui::{RichText, Ui};

use super::{Actions, format, widgets};
use crate::chat::protocol::{Device, Loaded};
use crate::chat::state::{Action, WindowState};
use crate::chat::{icons, theme};

/// Selectable context sizes.
const CONTEXTS: [u32; 8] = [512, 1024, 2048, 4096, 8192, 16_384, 32_768, 131_072];

pub fn show(ui: &mut Ui, state: &WindowState, out: &mut Actions) {
    match state.engine.loaded() {
        Some(loaded) => open(ui, loaded),
        None => drop(widgets::quiet(ui, "No model is open.")),
    }
    adapters(ui, state, out);
    context(ui, state, out);
    if let Some(loaded) = state.engine.loaded().filter(|l| !l.notices.is_empty()) {
        widgets::section(ui, "Notices");
        loaded.notices.iter().for_each(|notice| drop(widgets::quiet(ui, notice.as_str())));
    }
}

fn open(ui: &mut Ui, loaded: &Loaded) {
    let colours = theme::colours(ui);
    let device = &loaded.device;
    ui.label(RichText::new(&device.name).font(theme::strong(14.5)));
    widgets::quiet(ui, facts(device));
    widgets::section(ui, "Memory");
    let m = &loaded.memory;
    let parts = [("Weights", m.weights), ("KV cache", m.kv), ("Activations", m.activations), ("Other", m.other)];
    let bar: Vec<_> = parts.iter().zip(colours.parts).map(|((_, bytes), colour)| (*bytes as f64, colour)).collect();
    let total = m.total();
    widgets::bar(ui, &bar, total as f64, 14.0).on_hover_text("The model's memory on the GPU");
    ui.add_space(2.0);
    for ((name, bytes), colour) in parts.into_iter().zip(colours.parts) {
        widgets::legend(ui, Some(colour), name, &format::bytes(bytes));
    }
    widgets::legend(ui, None, "Together", &format::bytes(total));
    widgets::legend(ui, None, "Context", &format!("{} positions", loaded.context));
}

fn facts(device: &Device) -> String {
    let tier = match device.why_not_higher.as_str() {
        "" => format!("{} tier, the highest", device.tier),
        why => format!("{} tier, not {why}", device.tier),
    };
    let driver = if device.driver.is_empty() { String::new() } else { format!(", {}", device.driver) };
    let binding = format::bytes(device.max_binding);
    format!("{}, {}{driver}\n{tier}\nOne binding holds at most {binding}", device.backend, device.kind)
}

fn adapters(ui: &mut Ui, state: &WindowState, out: &mut Actions) {
    widgets::section(ui, "Adapter");
    ui.scope(|ui| choices(ui, state, out));
    if state.devices.is_empty() {
        widgets::quiet(ui, "None found. Without a GPU, install a software driver (Debian: mesa-vulkan-drivers).");
    }
}

fn choices(ui: &mut Ui, state: &WindowState, out: &mut Actions) {
    widgets::outlined(ui);
    let chosen = &state.remembered.device;
    let mut choose = |ui: &mut Ui, on: bool, name: &str, usable: bool, to: Option<String>, why: &str| {
        let radio = ui.add_enabled(usable, egui::RadioButton::new(on, name)).on_hover_text(why);
        if radio.on_disabled_hover_text(why).clicked() && !on {
            out.push(Action::Reopen(to, state.remembered.context));
        }
    };
    choose(ui, chosen.is_none(), "The best", true, None, "Firelight chooses: real GPUs before software ones.");
    for (i, device) in state.devices.iter().enumerate() {
        let number = Some(i.to_string());
        let why = device.unusable.clone().map_or_else(|| facts(device), |why| format!("Cannot be used: {why}"));
        let name = format!("{} ({})", device.name, device.backend);
        choose(ui, *chosen == number, &name, device.unusable.is_none(), number.clone(), &why);
    }
}

fn context(ui: &mut Ui, state: &WindowState, out: &mut Actions) {
    widgets::section(ui, "Context");
    let chosen = state.remembered.context;
    let trained = state.engine.loaded().and_then(|l| l.facts.trained).unwrap_or(u32::MAX);
    let text = chosen.map_or("Automatic".to_string(), |n| n.to_string());
    let combo = egui::ComboBox::from_id_salt("context").selected_text(text).width(ui.available_width() - 12.0);
    let response = combo.show_ui(ui, |ui| {
        let mut options = vec![(None, "Automatic".to_string())];
        options.extend(CONTEXTS.iter().filter(|n| **n <= trained).map(|n| (Some(*n), n.to_string())));
        for (value, text) in options {
            if ui.selectable_label(chosen == value, text).clicked() && chosen != value {
                out.push(Action::Reopen(state.remembered.device.clone(), value));
            }
        }
    });
    response.response.on_hover_text("The maximum number of tokens in a conversation. More tokens need more memory.");
    widgets::quiet(ui, format!("{}  Changing these opens the model again.", icons::INFO));
}
