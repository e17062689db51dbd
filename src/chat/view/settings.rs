//! The conversation's system prompt and sampling parameters, each with an explanation.

use egui::{Button, RichText, Slider, TextEdit, Ui};

use super::{Actions, widgets};
use crate::chat::state::{Action, WindowState};
use crate::chat::store::ConversationSettings;
use crate::chat::{icons, theme};
use crate::sampler::Sampling;

/// Presets: name, purpose, parameters.
fn presets() -> [(&'static str, &'static str, Sampling); 4] {
    let base = Sampling::default();
    [
        ("Balanced", "Natural answers that keep to the point.", base.clone()),
        (
            "Precise",
            "For facts, code and sums: likely words only.",
            Sampling { temperature: 0.3, top_p: 0.9, min_p: 0.1, ..base.clone() },
        ),
        (
            "Creative",
            "For stories and ideas: unlikely words have a chance.",
            Sampling { temperature: 1.1, top_k: 0, top_p: 0.98, min_p: 0.04, repetition_penalty: 1.05, ..base },
        ),
        ("Deterministic", "Always the most likely word: the same question gets the same answer.", Sampling::greedy()),
    ]
}

pub fn show(ui: &mut Ui, state: &WindowState, out: &mut Actions) {
    let Some(conversation) = state.conversation() else { return };
    let mut new = conversation.settings.clone();
    widgets::quiet(ui, "For this conversation.");
    system(ui, &mut new);
    widgets::section(ui, "Style");
    ui.horizontal_wrapped(|ui| {
        for (name, what, sampling) in presets() {
            let on = same(&sampling, &new.sampling);
            let response = ui.add(Button::selectable(on, name).frame_when_inactive(true)).on_hover_text(what);
            if response.clicked() {
                new.sampling = Sampling { seed: new.sampling.seed, ..sampling };
            }
        }
    });
    sampling(ui, &mut new.sampling);
    length(ui, &mut new);
    ui.add_space(theme::WIDE_GAP);
    let keep = ui.button("Use for new conversations");
    if keep.on_hover_text("New conversations begin with this system prompt and these settings.").clicked() {
        out.push(Action::KeepSettings);
    }
    if new != conversation.settings {
        out.push(Action::Settings(Box::new(new)));
    }
}

/// Whether two sampling parameters are equal apart from the seed.
fn same(a: &Sampling, b: &Sampling) -> bool {
    Sampling { seed: 0, ..a.clone() } == Sampling { seed: 0, ..b.clone() }
}

fn system(ui: &mut Ui, settings: &mut ConversationSettings) {
    widgets::section(ui, "System prompt");
    let edit = TextEdit::multiline(&mut settings.system).hint_text("You are a helpful assistant.").desired_rows(3);
    let response = ui.add(edit.desired_width(f32::INFINITY).margin(8.0));
    response.on_hover_text("Instructions before the conversation: who the model is, and how it should answer.");
}

fn sampling(ui: &mut Ui, s: &mut Sampling) {
    widgets::section(ui, "Sampling");
    let off = |value: f64, text: String| if value == 0.0 { "off".to_string() } else { text };
    slider(
        ui,
        "Temperature",
        "0 always takes the most likely word. Higher values are livelier and less reliable.",
        Slider::new(&mut s.temperature, 0.0..=2.0).step_by(0.05).fixed_decimals(2),
    );
    slider(
        ui,
        "Top-k",
        "Consider only this many of the most likely words. 0 considers all.",
        Slider::new(&mut s.top_k, 0..=200).custom_formatter(move |v, _| off(v, format!("{v:.0}"))),
    );
    slider(
        ui,
        "Top-p",
        "Consider only the most likely words that together reach this probability. 1 considers all.",
        Slider::new(&mut s.top_p, 0.05..=1.0).step_by(0.01).fixed_decimals(2),
    );
    slider(
        ui,
        "Min-p",
        "Consider only words at least this probable, relative to the most likely one. 0 considers all.",
        Slider::new(&mut s.min_p, 0.0..=0.5).step_by(0.01).fixed_decimals(2),
    );
    slider(
        ui,
        "Repetition",
        "Makes repeated words less likely. 1 is off; large values make answers odd.",
        Slider::new(&mut s.repetition_penalty, 1.0..=1.5).step_by(0.01).fixed_decimals(2),
    );
    slider(
        ui,
        "Frequency",
        "Makes a word less likely each time it was used. 0 is off.",
        Slider::new(&mut s.frequency_penalty, 0.0..=2.0).step_by(0.05).fixed_decimals(2),
    );
    slider(
        ui,
        "Presence",
        "Makes a word less likely once it was used: the model changes the subject sooner. 0 is off.",
        Slider::new(&mut s.presence_penalty, 0.0..=2.0).step_by(0.05).fixed_decimals(2),
    );
}

fn slider(ui: &mut Ui, name: &str, what: &str, slider: Slider<'_>) {
    let label = ui.label(RichText::new(name).size(13.5)).on_hover_text(what);
    ui.spacing_mut().slider_width = (ui.available_width() - 76.0).max(80.0);
    ui.add(slider.trailing_fill(true)).labelled_by(label.id).on_hover_text(what);
}

fn length(ui: &mut Ui, settings: &mut ConversationSettings) {
    widgets::section(ui, "Length and seed");
    let what = "The maximum number of tokens in an answer. 0: until the model stops or the context is full.";
    let most = Slider::new(&mut settings.max_tokens, 0..=8192).logarithmic(true).smallest_positive(8.0);
    let text = |v: f64, _: std::ops::RangeInclusive<usize>| match v {
        0.0 => "no limit".to_string(),
        v => format!("{v:.0}"),
    };
    slider(ui, "Longest answer", what, most.custom_formatter(text));
    ui.horizontal(|ui| {
        widgets::outlined(ui);
        let what = "The same seed, question and settings give the same answer, on the same GPU.";
        ui.checkbox(&mut settings.fixed_seed, "Fixed seed").on_hover_text(what);
        if settings.fixed_seed {
            ui.add(egui::DragValue::new(&mut settings.sampling.seed).speed(1.0));
            if widgets::small_icon_button(ui, icons::DICE, "Another seed").clicked() {
                settings.sampling.seed = crate::chat::platform::any_seed();
            }
        }
    });
}
