//! The list of messages. Only visible messages are laid out; the heights of others are remembered, or estimated until a
//! few per frame are measured.

use std::collections::HashMap;

use egui::style::ScrollAnimation;
use egui::{Align, Align2, Button, Id, Rect, RichText, ScrollArea, Sense, Ui, UiBuilder, pos2, vec2};
use egui_commonmark::CommonMarkCache;

use super::{Actions, message, widgets};
use crate::chat::protocol::Place;
use crate::chat::state::{Action, EngineState, Scroll, WindowState};
use crate::chat::{icons, theme};

/// Measured heights of messages.
#[derive(Default)]
pub struct Heights {
    width: f32,
    conversation: String,
    known: HashMap<usize, f32>,
    /// How much the messages above the view grew since their heights were estimated.
    shift: f32,
    /// The message at the top of the view, and the part of it that is above; `None` at the end of the conversation.
    top: Option<(usize, f32)>,
    /// The frames for which `top` is held, after a change of the width.
    held: u8,
}

/// The number of invisible messages measured per frame.
const MEASURED: usize = 2;
/// The frames in which the heights settle after a change of the width.
const SETTLING: u8 = 4;
/// The margin above and below the view that is laid out, too.
const AROUND: f32 = 200.0;

impl Heights {
    /// Clears the heights if the conversation or the width changed.
    fn renew(&mut self, conversation: &str, width: f32) {
        let top = self.top.filter(|_| self.conversation == conversation);
        if self.conversation != conversation || (self.width - width).abs() > 0.5 {
            let held = if top.is_some() { SETTLING } else { 0 };
            *self = Heights { width, conversation: conversation.to_string(), top, held, ..Default::default() };
        }
    }

    /// The scroll position at which the held message is where it was.
    fn held_offset(&mut self, path: &[usize], text: impl Fn(usize) -> String) -> Option<f32> {
        self.held = self.held.checked_sub(1)?;
        let (top, part) = self.top?;
        let before = path.iter().take_while(|node| **node != top);
        let above: f32 = before.map(|node| self.guess(*node, &text(*node)) + theme::MESSAGE_GAP).sum();
        Some(theme::WIDE_GAP + above + part * self.guess(top, &text(top)))
    }

    /// A message's height, or an estimate.
    fn guess(&self, node: usize, text: &str) -> f32 {
        let lines = text.lines().map(|l| 1.0 + (l.len() as f32 * 7.0 / self.width.max(1.0)).floor()).sum::<f32>();
        self.known.get(&node).copied().unwrap_or(lines * 23.0 + 60.0)
    }
}

/// The messages of the current conversation.
pub fn show(
    ui: &mut Ui,
    state: &mut WindowState,
    markdown: &mut CommonMarkCache,
    heights: &mut Heights,
    out: &mut Actions,
) {
    let path = state.conversation().map(|c| c.path()).unwrap_or_default();
    if path.is_empty() {
        return welcome(ui, state, out);
    }
    let id = Id::unique(("transcript", &state.current));
    let view = ui.max_rect();
    let mut area = ScrollArea::vertical().id_salt(id).auto_shrink(false).stick_to_bottom(true);
    let width = (ui.available_width() - 32.0).min(theme::COLUMN);
    heights.renew(&state.current, width);
    let text = |node: usize| state.conversation().and_then(|c| Some(c.nodes.get(node)?.text.clone()));
    let held = heights.held_offset(&path, |node| text(node).unwrap_or_default());
    let by = match state.scroll.take() {
        Some(Scroll::Pages(pages)) => pages * (view.height() - theme::SCROLL_OVERLAP),
        Some(Scroll::Points(points)) => points,
        Some(Scroll::Start) => -1e6,
        None => 0.0,
    };
    let shifted = last_offset(ui, id).filter(|_| heights.shift != 0.0).map(|old| old + heights.shift);
    if let Some(offset) = held.or(shifted) {
        area = area.vertical_scroll_offset(offset);
    }
    heights.shift = 0.0;
    let mut top = None;
    let output = area.show_viewport(ui, |ui, port| {
        if by != 0.0 {
            ui.scroll_with_delta_animation(vec2(0.0, -by), ScrollAnimation::none());
        }
        let origin = ui.max_rect().min;
        let left = origin.x + ((ui.available_width() - width) / 2.0).floor();
        let (mut y, mut spare) = (theme::WIDE_GAP, MEASURED);
        for (place, node) in path.iter().copied().enumerate() {
            let text = state.conversation().and_then(|c| c.nodes.get(node)).map_or("", |n| n.text.as_str());
            let guess = heights.guess(node, text);
            let near = y + guess >= port.min.y - AROUND && y <= port.max.y + AROUND;
            if state.reveal == Some(node) {
                let rect = Rect::from_min_size(pos2(origin.x, origin.y + y - theme::WIDE_GAP), vec2(1.0, guess));
                ui.scroll_to_rect_animation(rect, Some(Align::Min), ScrollAnimation::none());
                // Until its place is laid out, its place is an estimate.
                state.reveal.take_if(|_| near);
                ui.ctx().request_repaint();
            }
            let measured = heights.known.contains_key(&node);
            if near || (!measured && spare > 0) {
                spare -= usize::from(!near);
                let rect = Rect::from_min_size(pos2(left, origin.y + y), vec2(width, f32::INFINITY));
                let mut child = ui.new_child(UiBuilder::new().id_salt(("message", node)).max_rect(rect));
                message::show(&mut child, state, markdown, node, place + 1 == path.len(), out);
                let height = child.min_rect().height();
                if state.found == Some(node) {
                    let mark = Rect::from_min_size(rect.min - vec2(12.0, 0.0), vec2(3.0, height));
                    ui.painter().rect_filled(mark, 2.0, theme::colours(ui).accent);
                }
                if y + guess <= port.min.y {
                    heights.shift += height - guess;
                }
                heights.known.insert(node, height);
                if top.is_none() && y + height > port.min.y {
                    top = Some((node, (port.min.y - y) / height.max(1.0)));
                }
                y += height + theme::MESSAGE_GAP;
            } else {
                y += guess + theme::MESSAGE_GAP;
            }
        }
        if spare < MEASURED || heights.shift != 0.0 || heights.held > 0 {
            ui.ctx().request_repaint();
        }
        let whole = Rect::from_min_size(origin, vec2(ui.available_width(), y));
        ui.allocate_rect(whole, Sense::hover());
        if std::mem::take(&mut state.to_end) {
            let end = Rect::from_min_size(pos2(origin.x, whole.max.y - 1.0), vec2(1.0, 1.0));
            ui.scroll_to_rect_animation(end, Some(Align::Max), ScrollAnimation::none());
        }
        whole.max.y - view.max.y
    });
    if heights.held == 0 {
        heights.top = top.filter(|_| output.inner > 1.0);
    }
    keep_offset(ui, id, output.state.clamped_offset().y);
    if output.inner > 80.0 {
        to_end_button(ui, view, state);
    }
}

/// The scroll position between frames. egui keeps its own, but does not expose its id.
fn last_offset(ui: &Ui, id: Id) -> Option<f32> {
    ui.ctx().data(|d| d.get_temp::<f32>(id))
}

fn keep_offset(ui: &Ui, id: Id, offset: f32) {
    ui.ctx().data_mut(|d| d.insert_temp(id, offset));
}

fn to_end_button(ui: &mut Ui, view: Rect, state: &mut WindowState) {
    let rect = Align2::CENTER_BOTTOM.anchor_size(pos2(view.center().x, view.max.y - 10.0), vec2(34.0, 34.0));
    let colours = theme::colours(ui);
    let button = Button::new(RichText::new(icons::DOWN).size(16.0)).corner_radius(17).stroke((1.0, colours.line));
    let response = ui.put(rect, button.fill(ui.visuals().window_fill));
    widgets::named(&response, "To the end");
    if response.on_hover_text("To the end").clicked() {
        state.to_end = true;
    }
}

/// Suggested questions; for the built-in model, ones that it was trained on.
const SUGGESTIONS: [[&str; 4]; 2] = [
    [
        "What can you do?",
        "How do I run a bigger model?",
        "Tell me a story about a fox",
        "What is the capital of France?",
    ],
    [
        "What can you do?",
        "Explain how a language model writes a sentence",
        "Write a short poem about the sea",
        "Give me three ideas for a rainy afternoon",
    ],
];

/// The view of an empty conversation.
fn welcome(ui: &mut Ui, state: &WindowState, out: &mut Actions) {
    let colours = theme::colours(ui);
    let height = ui.available_height();
    ui.vertical_centered(|ui| {
        ui.add_space((height * 0.24).max(12.0));
        ui.label(RichText::new(icons::FLAME).size(52.0).color(colours.accent));
        ui.add_space(theme::GAP);
        let title = RichText::new("What would you like to know?").font(theme::strong(24.0));
        ui.set_max_width(ui.available_width() - 2.0 * theme::WIDE_GAP);
        ui.label(title.color(ui.visuals().strong_text_color()));
        let line = match &state.engine {
            EngineState::Ready(l) => format!("{} is ready, on {}.", l.facts.name, l.device.name),
            EngineState::Loading { place, .. } => format!("{place} is being loaded. You can already write."),
            EngineState::Failed(..) | EngineState::Empty => "Choose a model, or drop a GGUF file here.".to_string(),
        };
        ui.label(RichText::new(line).color(colours.quiet));
        ui.add_space(theme::WIDE_GAP);
        ui.set_max_width(ui.available_width().min(theme::COLUMN));
        let place = match &state.engine {
            EngineState::Ready(loaded) => Some(&loaded.place),
            EngineState::Loading { place, .. } => Some(place),
            EngineState::Failed(..) | EngineState::Empty => None,
        };
        for text in SUGGESTIONS[usize::from(place != Some(&Place::BuiltIn))] {
            let button = Button::new(text).stroke((1.0, colours.line)).corner_radius(16);
            let button = button.fill(ui.visuals().panel_fill).min_size(vec2(0.0, 32.0));
            if ui.add(button).clicked() {
                out.push(Action::Say(text.to_string()));
            }
        }
    });
}
