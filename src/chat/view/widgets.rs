//! Small widgets that several views share.

use egui::{Align, Button, Color32, Frame, Label, Layout, Margin, Response, RichText, Role, Sense, Stroke, Ui};
use egui::{WidgetInfo, vec2};

use crate::chat::theme;

/// A square icon button; `name` is its tooltip and accessible name.
pub fn icon_button(ui: &mut Ui, icon: &str, name: &str) -> Response {
    icon_button_of(ui, icon, name, 17.0, theme::ICON)
}

/// A small, subdued icon button for the row under a message.
pub fn small_icon_button(ui: &mut Ui, icon: &str, name: &str) -> Response {
    icon_button_of(ui, icon, name, 15.0, 24.0)
}

fn icon_button_of(ui: &mut Ui, icon: &str, name: &str, size: f32, side: f32) -> Response {
    let quiet = theme::colours(ui).quiet;
    ui.scope(|ui| {
        ui.spacing_mut().button_padding = vec2(0.0, 0.0);
        ui.visuals_mut().widgets.inactive.fg_stroke.color = quiet;
        let button = Button::new(RichText::new(icon).size(size)).frame_when_inactive(false);
        let response = ui.add(button.min_size(vec2(side, side))).on_hover_text(name);
        named(&response, name);
        response
    })
    .inner
}

/// An icon button that toggles.
pub fn icon_switch(ui: &mut Ui, on: bool, icon: &str, name: &str) -> Response {
    let colours = theme::colours(ui);
    ui.scope(|ui| {
        ui.spacing_mut().button_padding = vec2(0.0, 0.0);
        let colour = if on { colours.accent } else { colours.quiet };
        let text = RichText::new(icon).size(18.0).color(colour);
        let button = Button::new(text).selected(false).frame_when_inactive(on);
        let response = ui.add(button.min_size(vec2(theme::ICON, theme::ICON))).on_hover_text(name);
        response.widget_info(|| WidgetInfo::selected(Role::Button, true, on, name));
        response
    })
    .inner
}

/// Sets a button's accessible name.
pub fn named(response: &Response, name: &str) {
    response.widget_info(|| WidgetInfo::labeled(Role::Button, response.enabled(), name));
}

/// Sets a text field's accessible name.
pub fn labelled(response: &Response, name: &str) {
    response.widget_info(|| WidgetInfo::labeled(Role::TextInput, response.enabled(), name));
}

/// The primary button, in the accent colour.
pub fn main_button(ui: &mut Ui, text: &str) -> Response {
    let colours = theme::colours(ui);
    ui.add(Button::new(RichText::new(text).color(colours.on_accent)).fill(colours.accent).min_size(vec2(0.0, 30.0)))
}

/// Small secondary text.
pub fn quiet(ui: &mut Ui, text: impl Into<String>) -> Response {
    let colour = theme::colours(ui).quiet;
    ui.label(RichText::new(text).small().color(colour))
}

/// A panel's or dialog's title.
pub fn title(ui: &mut Ui, text: &str) -> Response {
    ui.label(RichText::new(text).font(theme::strong(16.0)).color(ui.visuals().strong_text_color()))
}

/// The heading of a section in a panel.
pub fn section(ui: &mut Ui, text: &str) {
    ui.add_space(theme::WIDE_GAP);
    let colour = ui.visuals().strong_text_color();
    ui.add(Label::new(RichText::new(text).font(theme::strong(13.5)).color(colour)).selectable(false));
    ui.add_space(2.0);
}

/// Content at the right end of a row.
pub fn right<R>(ui: &mut Ui, add: impl FnOnce(&mut Ui) -> R) -> R {
    ui.with_layout(Layout::right_to_left(Align::Center), add).inner
}

/// Centred content of the maximum text width.
pub fn column<R>(ui: &mut Ui, add: impl FnOnce(&mut Ui) -> R) -> R {
    let width = ui.available_width().min(theme::COLUMN);
    let space = ((ui.available_width() - width) / 2.0).floor();
    ui.horizontal_top(|ui| {
        ui.spacing_mut().item_spacing.x = 0.0;
        ui.add_space(space);
        ui.vertical(|ui| {
            ui.spacing_mut().item_spacing.x = theme::GAP;
            ui.set_width(width);
            add(ui)
        })
        .inner
    })
    .inner
}

/// A box with a message and actions.
pub fn notice<R>(ui: &mut Ui, icon: &str, colour: Color32, text: &str, add: impl FnOnce(&mut Ui) -> R) {
    let fill = colour.gamma_multiply(0.10);
    let frame = Frame::new().fill(fill).stroke(Stroke::new(1.0, colour.gamma_multiply(0.45)));
    frame.corner_radius(10).inner_margin(Margin::symmetric(14, 10)).show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.horizontal_top(|ui| {
            ui.label(RichText::new(icon).size(18.0).color(colour));
            ui.vertical(|ui| {
                ui.add(Label::new(text).wrap());
                ui.visuals_mut().widgets.inactive.bg_stroke = Stroke::new(1.0, colour.gamma_multiply(0.45));
                ui.horizontal_wrapped(add);
            });
        });
    });
}

/// Outlines radio buttons and check boxes in `ui`: their fill alone is too faint.
pub fn outlined(ui: &mut Ui) {
    let line = Stroke::new(1.0, theme::colours(ui).quiet);
    ui.visuals_mut().widgets.inactive.bg_stroke = line;
    ui.visuals_mut().widgets.hovered.bg_stroke = line;
}

/// An animation of three dots. It requests no extra frames.
pub fn working(ui: &mut Ui, now: f64) {
    let (rect, _) = ui.allocate_exact_size(vec2(22.0, 14.0), Sense::hover());
    let colour = theme::colours(ui).accent;
    for i in 0..3 {
        let light = (now * 4.0 - f64::from(i) * 0.9).sin() * 0.35 + 0.65;
        let centre = rect.left_center() + vec2(3.0 + 7.0 * i as f32, 0.0);
        ui.painter().circle_filled(centre, 2.5, colour.gamma_multiply(light as f32));
    }
}

/// A stacked bar; each part has a share of `total` and a colour.
pub fn bar(ui: &mut Ui, parts: &[(f64, Color32)], total: f64, height: f32) -> Response {
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), height), Sense::hover());
    let painter = ui.painter();
    painter.rect_filled(rect, height / 2.0, ui.visuals().extreme_bg_color);
    let clip = painter.with_clip_rect(rect);
    let mut left = rect.left();
    for (part, colour) in parts {
        let width = (part / total.max(1e-9)).clamp(0.0, 1.0) as f32 * rect.width();
        let piece = egui::Rect::from_min_size(egui::pos2(left, rect.top()), vec2(width, height));
        clip.rect_filled(piece, if parts.len() == 1 { height / 2.0 } else { 2.0 }, *colour);
        left += width;
    }
    response
}

/// A legend entry: a coloured dot, a name, and a value at the right.
pub fn legend(ui: &mut Ui, colour: Option<Color32>, name: &str, value: &str) {
    ui.spacing_mut().interact_size.y = 18.0;
    ui.horizontal(|ui| {
        if let Some(colour) = colour {
            let (rect, _) = ui.allocate_exact_size(vec2(10.0, 10.0), Sense::hover());
            ui.painter().circle_filled(rect.center(), 4.0, colour);
        }
        quiet(ui, name);
        right(ui, |ui| ui.label(RichText::new(value).small()));
    });
}
