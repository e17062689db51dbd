//! The model picker: available models, their sizes, and whether they fit.

use egui::{
    Align, Button, Color32, Frame, Key, Label, Layout, Margin, ProgressBar, RichText, ScrollArea, Sense, TextEdit,
};
use egui::{Ui, vec2};

use super::{Actions, dialogs, format, widgets};
use crate::chat::platform::FETCHES;
use crate::chat::protocol::{Facts, Fit, Place};
use crate::chat::state::{Action, EngineState, Fetching, ModelEntry, WindowState};
use crate::chat::{icons, theme};

pub fn show(ui: &mut Ui, state: &mut WindowState, out: &mut Actions) {
    let size = ui.ctx().content_rect().size();
    let modal = dialogs::modal(ui, "models").show(ui.ctx(), |ui| {
        ui.set_width((size.x - 80.0).min(600.0));
        ui.horizontal(|ui| {
            widgets::title(ui, "Models");
            widgets::right(ui, |ui| {
                if widgets::icon_button(ui, icons::CLOSE, "Close").clicked() {
                    out.push(Action::Dialog(None));
                }
            });
        });
        widgets::quiet(ui, "Choose one, or drop a GGUF file anywhere on the window.");
        ui.add_space(theme::GAP);
        let height = (size.y - if FETCHES { 330.0 } else { 260.0 }).clamp(120.0, 420.0);
        ScrollArea::vertical().max_height(height).min_scrolled_height(height).auto_shrink([false, true]).show(
            ui,
            |ui| {
                for entry in &state.models {
                    row(ui, state, entry, out);
                }
            },
        );
        ui.add_space(theme::GAP);
        if FETCHES {
            hub(ui, state, out);
        } else if widgets::main_button(ui, "Open a file…").clicked() {
            out.push(Action::Choose);
        }
    });
    if modal.should_close() {
        out.push(Action::Dialog(None));
    }
}

/// The field for a model's name on Hugging Face, the progress of a download, and the button to open a file.
fn hub(ui: &mut Ui, state: &mut WindowState, out: &mut Actions) {
    let colours = theme::colours(ui);
    if let Some(fetching) = &state.fetching {
        return self::fetching(ui, fetching, state.now, out);
    }
    ui.horizontal(|ui| {
        let name = state.wanted.trim().to_string();
        let edit = TextEdit::singleline(&mut state.wanted).hint_text("Hugging Face: ORG/REPO or ORG/REPO:QUANT");
        let width = ui.available_width() - 190.0;
        let response = ui.add(edit.desired_width(width).margin(Margin::symmetric(10, 7)));
        widgets::labelled(&response, "Model on Hugging Face");
        let enter = response.lost_focus() && ui.input(|i| i.key_pressed(Key::Enter));
        let fetch = ui.add_enabled_ui(!name.is_empty(), |ui| widgets::main_button(ui, "Fetch")).inner;
        let fetch = fetch.on_hover_text("Without a quantization, the largest file that fits your GPU is taken.");
        if !name.is_empty() && (enter || fetch.clicked()) {
            out.push(Action::Fetch(name));
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
        None => (0.0, "asking what there is…".to_string()),
        Some(step) => {
            let part = step.done as f32 / step.total.max(1) as f32;
            let line = match step.checking {
                true => "checking…".to_string(),
                false => format::progress(step.done, step.total, fetching.before, now - fetching.since),
            };
            (part, line)
        }
    };
    ui.horizontal(|ui| {
        widgets::right(ui, |ui| {
            if widgets::icon_button(ui, icons::CLOSE, "End the fetch; what came so far is kept").clicked() {
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

fn row(ui: &mut Ui, state: &WindowState, entry: &ModelEntry, out: &mut Actions) {
    let colours = theme::colours(ui);
    let open = state.engine.loaded().is_some_and(|l| l.place == entry.place);
    let facts = entry.facts.as_ref().and_then(|f| f.as_ref().ok());
    let name = facts.map_or_else(|| entry.place.to_string(), |f| f.name.clone());
    let id = ui.scope_id().with(&entry.place);
    let hovered = ui.ctx().data(|d| d.get_temp::<bool>(id)).unwrap_or(false);
    let fill = match (open, hovered) {
        (true, _) => colours.card,
        (false, true) => ui.visuals().widgets.hovered.weak_bg_fill,
        (false, false) => Color32::TRANSPARENT,
    };
    let frame = Frame::new().fill(fill).corner_radius(10).inner_margin(Margin::symmetric(12, 9));
    let inner = frame.show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.horizontal(|ui| {
            ui.label(RichText::new(icons::MODEL).size(20.0).color(if open { colours.accent } else { colours.quiet }));
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                badge(ui, entry, state.now);
                ui.with_layout(Layout::top_down(Align::Min), |ui| {
                    ui.spacing_mut().item_spacing.y = 1.0;
                    let strong = ui.visuals().strong_text_color();
                    let title = RichText::new(&name).font(theme::strong(14.5)).color(strong);
                    ui.add(Label::new(title).truncate().selectable(false));
                    let line = RichText::new(line(entry, facts)).small().color(colours.quiet);
                    ui.add(Label::new(line).truncate().selectable(false));
                });
            });
        });
    });
    let response = ui.interact(inner.response.rect, id, Sense::click());
    widgets::named(&response, &format!("Open {name}"));
    ui.ctx().data_mut(|d| d.insert_temp(id, response.hovered()));
    let response = match &entry.place {
        Place::File(path) => response.on_hover_text(path),
        Place::BuiltIn => response.on_hover_text("The small model that comes with Firelight"),
    };
    let idle = !matches!(&state.engine, EngineState::Loading { place, .. } if *place == entry.place);
    if response.clicked() && idle {
        out.push(Action::Load(entry.place.clone()));
    }
    ui.add_space(2.0);
}

/// Weight type, parameters, architecture, size, licence.
fn line(entry: &ModelEntry, facts: Option<&Facts>) -> String {
    let Some(f) = facts else {
        return match &entry.facts {
            Some(Err(why)) => why.clone(),
            _ => entry.bytes.map(format::bytes).unwrap_or_else(|| "…".into()),
        };
    };
    let licence = f.licence.clone().unwrap_or_else(|| "licence not stated".into());
    let built_in = (entry.place == Place::BuiltIn).then(|| "built in".to_string());
    let all = [
        built_in,
        Some(f.dtype.clone()),
        Some(format::count(f.parameters)),
        Some(f.architecture.clone()),
        Some(format::bytes(f.bytes)),
        Some(licence),
    ];
    all.into_iter().flatten().filter(|s| !s.is_empty()).collect::<Vec<_>>().join(" · ")
}

/// Whether the model fits, and if not, why.
fn badge(ui: &mut Ui, entry: &ModelEntry, now: f64) {
    let colours = theme::colours(ui);
    let (icon, colour, text, why) = match &entry.facts {
        None => return widgets::working(ui, now),
        Some(Err(why)) => (icons::UNFIT, colours.bad, "unreadable".to_string(), why.clone()),
        Some(Ok(facts)) => match &facts.fit {
            Fit::Fits(context, bytes) => {
                let why = format!("Needs {} with a context of {context}.", format::bytes(*bytes));
                (icons::FITS, colours.good, "fits".into(), why)
            }
            Fit::Less(context, why) => (icons::WARNING, colours.warn, format!("{context} positions"), why.clone()),
            Fit::No(why) => (icons::UNFIT, colours.bad, "does not fit".into(), why.clone()),
            Fit::Unknown => (icons::INFO, colours.quiet, "not known".into(), "No GPU was found to ask.".into()),
        },
    };
    let text = RichText::new(format!("{icon}  {text}")).size(12.5).color(colour);
    let fill = colour.gamma_multiply(0.13);
    let button = Button::new(text).fill(fill).corner_radius(10).sense(Sense::hover()).min_size(vec2(0.0, 22.0));
    ui.add(button).on_hover_text(why);
}
