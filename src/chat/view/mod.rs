//! The views: functions of the state that return actions. They never wait, compute or touch files.

mod attach;
mod calls;
pub mod composer;
mod device;
mod dialogs;
pub mod format;
mod list;
mod message;
mod models;
mod offers;
mod presets;
mod settings;
mod tools;
mod top;
mod transcript;
mod widgets;
mod xray;

use egui::{Align2, Area, CentralPanel, Color32, Frame, Margin, Order, Ui, vec2};
use egui_commonmark::CommonMarkCache;

use super::state::{Action, Dialog, Panel, WindowState};
use super::theme;

pub use transcript::Heights;

/// The actions of a frame, in order.
type Actions = Vec<Action>;

/// The whole window.
pub fn show(
    ui: &mut Ui,
    state: &mut WindowState,
    markdown: &mut CommonMarkCache,
    heights: &mut Heights,
    out: &mut Actions,
) {
    state.narrow = ui.available_width() < theme::NARROW;
    let colours = theme::colours(ui);
    let side = Frame::new().fill(colours.side).inner_margin(Margin::same(12));
    // A narrow window shows one thing at a time.
    if state.narrow && state.drawer {
        CentralPanel::default().frame(side).show(ui, |ui| list::show(ui, state, out));
    } else if let (true, Some(panel)) = (state.narrow, state.panel) {
        CentralPanel::default().frame(side).show(ui, |ui| side_panel(ui, panel, state, out));
    } else {
        if state.list && !state.narrow {
            let left = egui::Panel::left("conversations").exact_size(theme::LIST).resizable(false);
            left.show_separator_line(false).frame(side).show(ui, |ui| list::show(ui, state, out));
        }
        if let (false, Some(panel)) = (state.narrow, state.panel) {
            let right = egui::Panel::right("panel").exact_size(theme::PANEL).resizable(false);
            right.show_separator_line(false).frame(side).show(ui, |ui| side_panel(ui, panel, state, out));
        }
        let fill = if state.cleared { Color32::TRANSPARENT } else { theme::back(ui.visuals()) };
        let back = Frame::new().fill(fill);
        CentralPanel::default().frame(back).show(ui, |ui| talk(ui, state, markdown, heights, out));
    }
    match state.dialog {
        Some(Dialog::Models) => models::show(ui, state, out),
        Some(Dialog::Help) => dialogs::help(ui, out),
        Some(Dialog::Rename(..)) => dialogs::rename(ui, state, out),
        Some(Dialog::Delete(..)) => dialogs::delete(ui, state, out),
        Some(Dialog::DeleteModel(..)) => dialogs::delete_model(ui, state, out),
        Some(Dialog::SaveAs(..)) => dialogs::save_as(ui, state, out),
        None => {}
    }
    focus_ring(ui);
    toast(ui, state);
    drop_hint(ui);
}

/// A ring around the button or field that the keyboard has reached. The composer has its cursor.
fn focus_ring(ui: &Ui) {
    let ctx = ui.ctx();
    let focused = ctx.memory(|m| m.focused()).filter(|id| *id != egui::Id::unique(composer::FIELD));
    let Some(response) = focused.and_then(|id| ctx.read_response(id)) else { return };
    let painter = ctx.layer_painter(response.layer_id).with_clip_rect(response.interact_rect.expand(3.0));
    let stroke = egui::Stroke::new(2.0, theme::colours(ui).accent);
    painter.rect_stroke(response.rect, theme::SMALL_RADIUS, stroke, egui::StrokeKind::Middle);
}

/// The conversation: top bar, messages, composer.
fn talk(
    ui: &mut Ui,
    state: &mut WindowState,
    markdown: &mut CommonMarkCache,
    heights: &mut Heights,
    out: &mut Actions,
) {
    let margin = Margin::symmetric(12, 10);
    let bar = egui::Panel::top("bar").show_separator_line(false).frame(Frame::new().inner_margin(margin));
    bar.show(ui, |ui| top::show(ui, state, out));
    let bottom = egui::Panel::bottom("composer").show_separator_line(false).resizable(false);
    let frame = Frame::new().inner_margin(Margin { left: 16, right: 16, top: 0, bottom: 14 });
    bottom.frame(frame).show(ui, |ui| widgets::column(ui, |ui| composer::show(ui, state, out)));
    CentralPanel::no_frame().show(ui, |ui| transcript::show(ui, state, markdown, heights, out));
}

fn side_panel(ui: &mut Ui, panel: Panel, state: &mut WindowState, out: &mut Actions) {
    let title = match panel {
        Panel::Settings => "Settings",
        Panel::Tools => "Tools",
        Panel::Device => "Device",
        Panel::XRay => "X-ray",
    };
    ui.horizontal(|ui| {
        widgets::title(ui, title);
        widgets::right(ui, |ui| {
            if widgets::icon_button(ui, super::icons::CLOSE, "Close panel").clicked() {
                out.push(Action::Panel(panel));
            }
        });
    });
    ui.add_space(theme::GAP);
    egui::ScrollArea::vertical().id_salt(title).auto_shrink(false).show(ui, |ui| {
        ui.set_max_width(ui.available_width());
        match panel {
            Panel::Settings => {
                settings::show(ui, state, out);
                presets::show(ui, state, out);
            }
            Panel::Tools => tools::show(ui, state, out),
            Panel::Device => device::show(ui, state, out),
            Panel::XRay => xray::show(ui, state, out),
        }
    });
}

fn toast(ui: &Ui, state: &WindowState) {
    let Some(toast) = &state.toast else { return };
    let colours = theme::colours(ui);
    let area = Area::new(egui::Id::unique("toast")).order(Order::Tooltip).anchor(Align2::CENTER_TOP, vec2(0.0, 16.0));
    area.interactable(false).show(ui.ctx(), |ui| {
        let frame = Frame::popup(ui.style()).inner_margin(Margin::symmetric(14, 8)).corner_radius(theme::RADIUS);
        frame.show(ui, |ui| {
            ui.horizontal(|ui| {
                let (icon, colour) = match toast.bad {
                    true => (super::icons::WARNING, colours.bad),
                    false => (super::icons::CHECK, colours.good),
                };
                ui.colored_label(colour, icon);
                ui.label(&toast.text);
            })
        });
    });
}

/// The overlay while a file is dragged over the window.
fn drop_hint(ui: &Ui) {
    if ui.ctx().input(|i| i.raw.hovered_files.is_empty()) {
        return;
    }
    let colours = theme::colours(ui);
    let area = Area::new(egui::Id::unique("drop")).order(Order::Tooltip).anchor(Align2::CENTER_CENTER, vec2(0.0, 0.0));
    area.interactable(false).show(ui.ctx(), |ui| {
        Frame::popup(ui.style()).inner_margin(28).stroke((2.0, colours.accent)).corner_radius(theme::RADIUS).show(
            ui,
            |ui| {
                ui.vertical_centered(|ui| {
                    ui.label(egui::RichText::new(super::icons::MODEL).size(34.0).color(colours.accent));
                    ui.label("Drop a GGUF file to open it, or text files to attach them");
                });
            },
        );
    });
}
