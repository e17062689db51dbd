//! Calls of tools: the question before one, and the folded record of it in an answer.

use egui::{CollapsingHeader, Frame, Label, Margin, RichText, ScrollArea, Stroke, TextStyle, Ui};
use serde_json::{Map, Value};

use super::{Actions, widgets};
use crate::chat::state::{Action, Consent, PendingCall, WindowState};
use crate::chat::tools::SavedToolCall;
use crate::chat::{icons, theme};

/// The greatest height of arguments and results, in points.
const HEIGHT: f32 = 200.0;

/// Asks whether the pending call of the current conversation may run.
pub fn question(ui: &mut Ui, state: &WindowState, out: &mut Actions) {
    let Some(call) = state.asking() else { return };
    let colours = theme::colours(ui);
    let frame = Frame::new().fill(colours.side).stroke(Stroke::new(1.0, colours.accent)).corner_radius(theme::RADIUS);
    frame.inner_margin(Margin::symmetric(16, 12)).show(ui, |ui| {
        ui.set_width(ui.available_width());
        heading(ui, call);
        ui.add_space(4.0);
        ScrollArea::vertical().id_salt("arguments").max_height(HEIGHT).show(ui, |ui| arguments(ui, &call.arguments));
        ui.add_space(theme::GAP);
        ui.horizontal_wrapped(|ui| {
            let mut button = |ui: &mut Ui, response: egui::Response, consent| {
                if response.clicked() {
                    out.push(Action::Consent(consent));
                }
                ui.add_space(2.0);
            };
            let once = widgets::main_button(ui, "Run once");
            button(ui, once, Consent::Once);
            ui.spacing_mut().interact_size.y = 30.0;
            let always = ui.button("Always in this conversation");
            let always = always.on_hover_text("Runs this tool without asking again, with any arguments.");
            button(ui, always, Consent::Always);
            let refuse = ui.button("Refuse");
            button(ui, refuse, Consent::Refuse);
        });
    });
    ui.add_space(theme::GAP);
}

/// Which tool of which server.
fn heading(ui: &mut Ui, call: &PendingCall) {
    let colours = theme::colours(ui);
    ui.horizontal_wrapped(|ui| {
        ui.label(RichText::new(icons::TOOL).size(17.0).color(colours.accent));
        let strong = ui.visuals().strong_text_color();
        ui.label(RichText::new(format!("Run “{}”?", call.tool)).font(theme::strong(15.0)).color(strong));
        widgets::quiet(ui, format!("A tool of the server “{}”", call.server));
    });
}

/// Names and values, one below the other; texts as they are, other values as JSON.
fn arguments(ui: &mut Ui, arguments: &Map<String, Value>) {
    if arguments.is_empty() {
        widgets::quiet(ui, "Without arguments.");
    }
    for (name, value) in arguments {
        widgets::quiet(ui, name);
        let text = match value {
            Value::String(text) => text.clone(),
            other => serde_json::to_string_pretty(other).unwrap_or_default(),
        };
        code(ui, &text);
    }
}

/// A text in a box, letter by letter: what would change its appearance is shown as an escape.
fn code(ui: &mut Ui, text: &str) {
    let fill = ui.visuals().code_bg_color;
    Frame::new().fill(fill).corner_radius(6).inner_margin(Margin::symmetric(8, 5)).show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.add(Label::new(RichText::new(visible(text)).text_style(TextStyle::Monospace)).wrap());
    });
}

/// Control characters and those that reorder or hide text, as escapes.
fn visible(text: &str) -> String {
    let hidden = |c: char| {
        (c.is_control() && c != '\n' && c != '\t')
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
    };
    text.chars().map(|c| if hidden(c) { c.escape_unicode().to_string() } else { c.to_string() }).collect()
}

/// The calls of an answer, folded; `running` is the index of the one that runs.
pub fn record(ui: &mut Ui, calls: &[SavedToolCall], node: usize, pending: Option<&PendingCall>) {
    let colours = theme::colours(ui);
    for (i, call) in calls.iter().enumerate() {
        let pending = pending.filter(|pending| pending.node == node && pending.call == i);
        let (state, colour) = match (&call.result, pending.map(|p| p.running.is_some())) {
            (Some(_), _) if call.failed => ("did not run, or failed", colours.bad),
            (Some(_), _) => ("ran", colours.quiet),
            (None, Some(true)) => ("running…", colours.accent),
            (None, Some(false)) => ("waits for your answer", colours.accent),
            (None, None) => ("has not run", colours.quiet),
        };
        let title = RichText::new(format!("{}  {} · {state}", icons::TOOL, call.name)).size(13.5).color(colour);
        CollapsingHeader::new(title).id_salt(("call", node, i)).show(ui, |ui| {
            widgets::quiet(ui, "Arguments");
            match serde_json::from_str::<Map<String, Value>>(&call.arguments) {
                Ok(read) => arguments(ui, &read),
                Err(_) => code(ui, &call.arguments),
            }
            if let Some(result) = &call.result {
                ui.add_space(4.0);
                widgets::quiet(ui, if call.failed { "What the model was told" } else { "Result" });
                let area = ScrollArea::vertical().id_salt(("result", node, i)).max_height(HEIGHT);
                area.show(ui, |ui| code(ui, result));
            }
        });
        ui.add_space(2.0);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn hidden_characters_are_shown() {
        assert_eq!(super::visible("a\u{202e}b\nc\u{7}"), "a\\u{202e}b\nc\\u{7}");
    }
}
