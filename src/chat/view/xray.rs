//! The X-ray panel: token alternatives, a step's time by op, and the use of the context.

use egui::{Align2, FontId, RichText, Sense, Ui, vec2};
use egui_plot::{AxisHints, HoverPosition, Line, Plot, PlotPoints};

use super::{Actions, format, widgets};
use crate::chat::protocol::{Loaded, OpTime};
use crate::chat::state::{Action, TokenAlternatives, WindowState};
use crate::chat::theme;

/// Positions per KV cache page.
const PAGE: usize = crate::ops::PAGE as usize;

pub fn show(ui: &mut Ui, state: &WindowState, out: &mut Actions) {
    let Some(loaded) = state.engine.loaded() else {
        widgets::quiet(ui, "Open a model, and ask something.");
        return;
    };
    widgets::section(ui, "Next token");
    match state.xray.tokens.last() {
        Some(token) => probabilities(ui, &state.xray.tokens, token),
        None => drop(widgets::quiet(ui, "While this panel is open, answers show what else could have come.")),
    }
    context(ui, state, loaded);
    speed(ui, state);
    times(ui, state, loaded, out);
}

/// The most likely tokens, with the chosen one in the accent colour.
fn probabilities(ui: &mut Ui, tokens: &[TokenAlternatives], token: &TokenAlternatives) {
    let before: String = tokens.iter().rev().skip(1).take(8).rev().map(|t| t.text.as_str()).collect();
    let shown = before.split_whitespace().collect::<Vec<_>>().join(" ");
    widgets::quiet(ui, format!("After “…{shown}”"));
    let mut rows: Vec<(&str, f32)> = token.top.iter().map(|(text, p)| (text.as_str(), *p)).collect();
    if let (Some(p), false) = (token.probability, rows.iter().any(|(text, _)| *text == token.text)) {
        rows.push((&token.text, p));
    }
    for (text, p) in rows {
        row(ui, &visible(text), p, text == token.text);
    }
}

/// Makes whitespace visible.
fn visible(text: &str) -> String {
    match text {
        "" => "∅".to_string(),
        text => text.replace(' ', "␣").replace('\n', "↵").replace('\t', "→"),
    }
}

fn row(ui: &mut Ui, name: &str, share: f32, chosen: bool) {
    let colours = theme::colours(ui);
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), 20.0), Sense::hover());
    let colour = if chosen { colours.accent } else { colours.parts[3] };
    let (label, value) = (rect.width() * 0.36, 52.0);
    let painter = ui.painter().with_clip_rect(rect);
    let ink = if chosen { ui.visuals().strong_text_color() } else { ui.visuals().text_color() };
    let names = painter.with_clip_rect(rect.with_max_x(rect.left() + label - 6.0));
    names.text(rect.left_center(), Align2::LEFT_CENTER, name, FontId::proportional(13.0), ink);
    let room = rect.with_min_x(rect.left() + label).with_max_x(rect.right() - value).shrink2(vec2(0.0, 5.0));
    painter.rect_filled(room, 3.0, ui.visuals().extreme_bg_color);
    painter.rect_filled(room.with_max_x(room.left() + room.width() * share.clamp(0.0, 1.0)), 3.0, colour);
    let percent = match share * 100.0 {
        percent if percent > 0.0 && percent < 0.1 => "< 0.1 %".to_string(),
        percent => format!("{percent:.1} %"),
    };
    painter.text(rect.right_center(), Align2::RIGHT_CENTER, &percent, FontId::proportional(12.0), ink);
    let mark = if chosen { ", chosen" } else { "" };
    response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Label, true, format!("{name}: {percent}{mark}")));
}

fn context(ui: &mut Ui, state: &WindowState, loaded: &Loaded) {
    widgets::section(ui, "Context");
    let (filled, all) = (state.xray.filled, loaded.context);
    let colours = theme::colours(ui);
    widgets::bar(ui, &[(filled as f64, colours.accent)], all as f64, 10.0);
    widgets::legend(ui, None, "Tokens", &format!("{filled} of {all}"));
    let pages = format!("{} of {}", filled.div_ceil(PAGE), all.div_ceil(PAGE));
    widgets::legend(ui, None, &format!("Pages of {PAGE} tokens"), &pages);
    let kv = loaded.memory.kv as f64 * filled.div_ceil(PAGE) as f64 / all.div_ceil(PAGE).max(1) as f64;
    let used = format!("{} of {}", format::bytes(kv as u64), format::bytes(loaded.memory.kv));
    widgets::legend(ui, None, "KV cache in use", &used);
}

fn speed(ui: &mut Ui, state: &WindowState) {
    widgets::section(ui, "Speed");
    ui.scope(|ui| plot(ui, state));
}

fn plot(ui: &mut Ui, state: &WindowState) {
    if state.xray.rates.len() < 2 {
        widgets::quiet(ui, "Tokens per second, by tokens in the context.");
        return;
    }
    let colours = theme::colours(ui);
    let points: PlotPoints<'_> = state.xray.rates.iter().copied().collect();
    let plot = Plot::new("speed").height(130.0).show_grid([false, true]).include_y(0.0).show_background(false);
    let (x, y) = (AxisHints::new_x().label_spacing(30.0..=44.0), AxisHints::new_y().label_spacing(11.0..=16.0));
    let plot = plot.custom_x_axes(vec![x]).custom_y_axes(vec![y]);
    let plot = plot.allow_drag(false).allow_zoom(false).allow_scroll(false).allow_boxed_zoom(false);
    let plot = plot.label_formatter(|at| match at {
        HoverPosition::NearDataPoint { position, .. } => {
            Some(format!("{:.1} tok/s after {:.0} tokens", position.y, position.x))
        }
        HoverPosition::Elsewhere { .. } => None,
    });
    ui.style_mut().text_styles.insert(egui::TextStyle::Body, FontId::proportional(11.0));
    plot.show(ui, |plot| plot.line(Line::new("tok/s", points).color(colours.accent).width(1.6)));
    widgets::quiet(ui, "Tokens per second, by tokens in the context");
}

fn times(ui: &mut Ui, state: &WindowState, loaded: &Loaded, out: &mut Actions) {
    widgets::section(ui, "One token");
    widgets::legend(ui, None, "Dispatches", &loaded.dispatches.to_string());
    match &state.xray.ops {
        Some(Ok(ops)) => ops_table(ui, ops),
        Some(Err(why)) => drop(widgets::quiet(ui, why.as_str())),
        None => drop(widgets::quiet(ui, "The time of each op in a step.")),
    }
    ui.add_space(4.0);
    let idle = state.answering.is_none() && !state.xray.measuring;
    let text = if state.xray.measuring { "Measuring…" } else { "Measure" };
    let response = ui.add_enabled(idle, egui::Button::new(text));
    let what = "Profiles one step. The next question prefills the conversation again.";
    if response.on_hover_text(what).clicked() {
        out.push(Action::Measure);
    }
}

fn ops_table(ui: &mut Ui, ops: &[OpTime]) {
    let total: f64 = ops.iter().map(|op| op.seconds).sum();
    for op in ops {
        let share = (op.seconds / total.max(1e-12)) as f32;
        let rate = op.bytes as f64 / op.seconds.max(1e-12) / 1e9;
        ui.scope(|ui| row(ui, &op.op, share, false)).response.on_hover_text(format!(
            "{} in {}, {rate:.1} GB/s",
            format::seconds(op.seconds),
            format::plural(op.count, "dispatch")
        ));
    }
    let text = RichText::new(format!("{} in all", format::seconds(total))).small();
    ui.label(text.color(theme::colours(ui).quiet));
}
