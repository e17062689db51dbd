//! The model picker: available models, their sizes, and whether they fit.

use egui::containers::menu::MenuButton;
use egui::vec2;
use egui::{Align, Button, Color32, Frame, Label, Layout, Margin, Rect, RichText, ScrollArea, Sense, Ui, UiBuilder};

use super::{Actions, dialogs, format, offers, widgets};
use crate::chat::platform::{self, FETCHES};
use crate::chat::protocol::{Facts, Fit, Place};
use crate::chat::state::{Action, Dialog, EngineState, ModelEntry, WindowState};
use crate::chat::{icons, theme};

pub fn show(ui: &mut Ui, state: &mut WindowState, out: &mut Actions) {
    let size = ui.ctx().content_rect().size();
    let modal = dialogs::modal(ui, "models").show(ui.ctx(), |ui| {
        ui.set_width((size.x - 80.0).min(620.0));
        ui.horizontal(|ui| {
            widgets::title(ui, "Models");
            widgets::right(ui, |ui| {
                if widgets::icon_button(ui, icons::CLOSE, "Close").clicked() {
                    out.push(Action::Dialog(None));
                }
            });
        });
        ui.add_space(theme::GAP);
        match FETCHES {
            true => offers::field(ui, state, out),
            false => {
                widgets::quiet(ui, "Choose one, or drop a GGUF file anywhere on the window.");
                ui.add_space(theme::GAP);
                if widgets::main_button(ui, "Open a file…").clicked() {
                    out.push(Action::Choose);
                }
            }
        }
        ui.add_space(theme::GAP);
        let height = (size.y - 230.0).clamp(120.0, 520.0);
        ScrollArea::vertical().max_height(height).min_scrolled_height(height).auto_shrink([false, true]).show(
            ui,
            |ui| {
                if FETCHES && state.searched.is_some() {
                    return offers::list(ui, state, out);
                }
                if FETCHES {
                    heading(ui, "On this computer");
                }
                for entry in &state.models {
                    row(ui, state, entry, out);
                }
                if FETCHES {
                    ui.add_space(theme::GAP);
                    heading(ui, "To download");
                    offers::list(ui, state, out);
                }
            },
        );
    });
    if modal.should_close() {
        out.push(Action::Dialog(None));
    }
}

fn heading(ui: &mut Ui, text: &str) {
    let text = RichText::new(text).small().color(theme::colours(ui).quiet);
    ui.add(Label::new(text).selectable(false));
    ui.add_space(2.0);
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
                // The menu's place; all badges end in one line.
                ui.add_space(26.0);
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
    let lit = response.hovered() || response.has_focus();
    ui.ctx().data_mut(|d| d.insert_temp(id, lit));
    let idle = !matches!(&state.engine, EngineState::Loading { place, .. } if *place == entry.place);
    if response.clicked() && idle {
        out.push(Action::Load(entry.place.clone()));
    }
    if !open && entry.place != Place::BuiltIn {
        menu(ui, inner.response.rect, &entry.place, &name, out);
    }
    ui.add_space(2.0);
}

/// The menu at the right end of a model's row.
fn menu(ui: &mut Ui, row: Rect, place: &Place, name: &str, out: &mut Actions) {
    let end = Rect::from_center_size(row.right_center() - vec2(20.0, 0.0), vec2(26.0, 26.0));
    let mut child = ui.new_child(UiBuilder::new().id_salt(place).max_rect(end));
    child.spacing_mut().button_padding = vec2(4.0, 0.0);
    let more = Button::new(RichText::new(icons::MORE).size(16.0)).frame_when_inactive(false).min_size(end.size());
    let (response, _) = MenuButton::from_button(more).ui(&mut child, |ui| {
        if let Place::File(path) = place
            && ui.button("Copy path").clicked()
        {
            out.push(Action::Copy(path.clone()));
        }
        if platform::is_download(place) {
            if ui.button("Delete from this computer…").clicked() {
                out.push(Action::Dialog(Some(Dialog::DeleteModel(place.clone()))));
            }
        } else if ui.button("Remove from the list").clicked() {
            out.push(Action::Forget(place.clone()));
        }
    });
    widgets::named(&response, &format!("More about {name}"));
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
        f.title.clone(),
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
        Some(Err(why)) => (icons::UNFIT, colours.bad, "cannot be read".to_string(), why.clone()),
        Some(Ok(facts)) => verdict(&colours, &facts.fit),
    };
    pill(ui, icon, colour, &text, &why);
}

/// An icon, its colour, a word, and an explanation.
pub fn verdict(colours: &theme::Colours, fit: &Fit) -> (&'static str, Color32, String, String) {
    match fit {
        Fit::Fits(context, bytes) => {
            let why = format!("Needs {} with a context of {context} tokens.", format::bytes(*bytes));
            (icons::FITS, colours.good, "fits".into(), why)
        }
        Fit::Less(context, why) => (icons::WARNING, colours.warn, format!("context {context}"), why.clone()),
        Fit::No(why) => (icons::UNFIT, colours.bad, "does not fit".into(), why.clone()),
        Fit::Unknown => (icons::INFO, colours.quiet, "unknown".into(), "No GPU was found.".into()),
    }
}

/// A coloured word with an explanation.
pub fn pill(ui: &mut Ui, icon: &str, colour: Color32, text: &str, why: &str) {
    let text = RichText::new(format!("{icon}  {text}")).size(12.5).color(colour);
    let fill = colour.gamma_multiply(0.13);
    let button = Button::new(text).fill(fill).corner_radius(10).sense(Sense::hover()).min_size(vec2(0.0, 22.0));
    ui.add(button).on_hover_text(why);
}
