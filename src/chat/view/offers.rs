//! The picker's models that can be downloaded: the field for words, names and paths, the list, and the progress.

use egui::{Align, Button, Frame, Key, Label, Layout, Margin, ProgressBar, RichText, TextEdit, Ui, vec2};

use super::{Actions, format, models, widgets};
use crate::chat::catalogue::{FitAnswer, ModelOffer, Wanted, meaning};
use crate::chat::protocol::Place;
use crate::chat::state::{Action, Fetching, WindowState};
use crate::chat::{icons, theme};

/// The field, and the button to open a file; during a download its progress.
pub fn field(ui: &mut Ui, state: &mut WindowState, out: &mut Actions) {
    let colours = theme::colours(ui);
    if let Some(fetching) = &state.fetching {
        return self::fetching(ui, fetching, state.now, out);
    }
    ui.horizontal(|ui| {
        let text = state.wanted.trim().to_string();
        let edit =
            TextEdit::singleline(&mut state.wanted).hint_text("Search Hugging Face, or enter ORG/REPO or a path");
        let width = (ui.available_width() - 210.0).max(120.0);
        let response = ui.add(edit.desired_width(width).margin(Margin::symmetric(10, 7)));
        widgets::labelled(&response, "Search models");
        if ui.memory(|m| m.focused().is_none()) {
            response.request_focus();
        }
        let enter = response.lost_focus() && ui.input(|i| i.key_pressed(Key::Enter));
        let verb = match meaning(&text) {
            Wanted::Open => "Open",
            Wanted::Download if !text.is_empty() => "Download",
            _ => "Search",
        };
        let go = ui.add_enabled_ui(!text.is_empty(), |ui| widgets::main_button(ui, verb)).inner;
        if !text.is_empty() && (enter || go.clicked()) {
            out.push(Action::Find(text));
        }
        widgets::right(ui, |ui| {
            if ui.add(Button::new("Open a file…").min_size(vec2(0.0, 30.0))).clicked() {
                out.push(Action::Choose);
            }
        });
    });
    if let Some(why) = &state.fetch_failed {
        ui.label(RichText::new(why).small().color(colours.bad));
    }
}

fn fetching(ui: &mut Ui, fetching: &Fetching, now: f64, out: &mut Actions) {
    let colours = theme::colours(ui);
    let step = fetching.step.as_ref();
    let name = step.map_or(fetching.wanted.as_str(), |step| step.name.as_str());
    let (part, line) = match step {
        None => (0.0, "Looking it up…".to_string()),
        Some(step) => {
            let part = step.done as f32 / step.total.max(1) as f32;
            let line = match step.checking {
                true => "Checking…".to_string(),
                false => format::progress(step.done, step.total, fetching.before, now - fetching.since),
            };
            (part, line)
        }
    };
    ui.horizontal(|ui| {
        widgets::right(ui, |ui| {
            let cancel = "Cancel (the part already downloaded is kept)";
            if widgets::icon_button(ui, icons::CLOSE, cancel).clicked() {
                out.push(Action::EndFetch);
            }
            ui.with_layout(Layout::top_down(Align::Min), |ui| {
                ui.horizontal(|ui| {
                    ui.add(Label::new(RichText::new(name).font(theme::strong(13.5))).truncate());
                    widgets::right(ui, |ui| widgets::quiet(ui, line));
                });
                ui.add(ProgressBar::new(part).desired_height(5.0).fill(colours.accent));
            });
        });
    });
}

/// The short list, or what a search found.
pub fn list(ui: &mut Ui, state: &WindowState, out: &mut Actions) {
    if let Some(text) = &state.searched {
        ui.horizontal(|ui| {
            if ui.button("Back to the list").clicked() {
                out.push(Action::EndSearch);
            }
            match (state.searching, state.offers.is_empty()) {
                (true, _) => widgets::quiet(ui, format!("Searching for “{text}”…")),
                (false, true) => widgets::quiet(ui, format!("No model with GGUF files matches “{text}”.")),
                (false, false) => widgets::quiet(ui, format!("Models on Hugging Face that match “{text}”")),
            }
        });
        ui.add_space(theme::GAP);
        if state.searching {
            return;
        }
    }
    let kept = |offer: &&ModelOffer| state.models.iter().any(|entry| is_kept(offer, &entry.place));
    for offer in state.offers.iter().filter(|offer| state.searched.is_some() || !kept(offer)) {
        row(ui, offer, state.fetching.is_none(), out);
    }
}

/// Whether a model of the list is in the cache of downloads.
fn is_kept(offer: &ModelOffer, place: &Place) -> bool {
    let Place::File(path) = place else { return false };
    let (repo, quant) = offer.wanted.split_once(':').unwrap_or((&offer.wanted, ""));
    path.contains(&format!("models--{}", repo.replace('/', "--")))
        && path.to_uppercase().contains(&quant.to_uppercase())
}

fn row(ui: &mut Ui, offer: &ModelOffer, idle: bool, out: &mut Actions) {
    let colours = theme::colours(ui);
    let frame = Frame::new().inner_margin(Margin::symmetric(12, 9));
    frame.show(ui, |ui| {
        ui.set_width(ui.available_width());
        let size = vec2(ui.available_width(), 36.0);
        ui.allocate_ui_with_layout(size, Layout::right_to_left(Align::Center), |ui| {
            let download = ui.add_enabled_ui(idle, |ui| ui.button("Download")).inner;
            widgets::named(&download, &format!("Download {}", offer.name));
            if download.clicked() {
                out.push(Action::Fetch(offer.wanted.clone()));
            }
            answer(ui, offer, out);
            ui.with_layout(Layout::top_down(Align::Min), |ui| {
                ui.spacing_mut().item_spacing.y = 1.0;
                let title =
                    RichText::new(&offer.name).font(theme::strong(14.5)).color(ui.visuals().strong_text_color());
                ui.add(Label::new(title).truncate());
                let about = (!offer.about.is_empty()).then(|| offer.about.clone());
                let parts = [about, offer.bytes.map(format::bytes), offer.licence.clone()];
                let line = parts.into_iter().flatten().collect::<Vec<_>>().join(" · ");
                ui.add(Label::new(RichText::new(line).small().color(colours.quiet)).truncate());
                if let FitAnswer::Known(file, bytes, _) = &offer.answer {
                    let line = format!("{file} · {}", format::bytes(*bytes));
                    ui.add(Label::new(RichText::new(line).small().color(colours.quiet)).truncate());
                }
            });
        });
    });
}

/// Whether the model fits, or the button to find out: it reads the header on the hub.
fn answer(ui: &mut Ui, offer: &ModelOffer, out: &mut Actions) {
    let colours = theme::colours(ui);
    match &offer.answer {
        FitAnswer::Unasked => {
            let ask = ui.add(Button::new("Does it fit?").frame_when_inactive(false));
            widgets::named(&ask, &format!("Does {} fit?", offer.name));
            if ask.clicked() {
                out.push(Action::AskFit(offer.wanted.clone()));
            }
        }
        FitAnswer::Asking => drop(widgets::quiet(ui, "Reading the header…")),
        FitAnswer::Known(_, _, fit) => {
            let (icon, colour, text, why) = models::verdict(&colours, fit);
            models::pill(ui, icon, colour, &text, &why);
        }
        FitAnswer::Failed(why) => models::pill(ui, icons::WARNING, colours.bad, "cannot be read", why),
    }
}
