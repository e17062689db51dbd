//! One message: its text, collapsed reasoning, buttons, and a line of statistics.

use std::borrow::Cow;

use egui::{Align, CollapsingHeader, Frame, Key, KeyboardShortcut, Layout, Margin, Modifiers, RichText, TextEdit, Ui};
use egui_commonmark::{CommonMarkCache, CommonMarkViewer};

use super::{Actions, attach, calls, format, widgets};
use crate::chat::state::{Action, PendingAnswer, WindowState};
use crate::chat::store::{MessageNode, Role, SavedConversation, Stats};
use crate::chat::{bidi, icons, text, theme};
use crate::session::FinishReason;

/// Message `node` of the current conversation; `last` on the visible path.
pub fn show(
    ui: &mut Ui,
    state: &mut WindowState,
    markdown: &mut CommonMarkCache,
    node: usize,
    last: bool,
    out: &mut Actions,
) {
    let waits = waits(state, node);
    let WindowState { conversations, current, editing, answering, now, tools, .. } = state;
    let Some(conversation) = conversations.iter().find(|c| c.id == *current) else { return };
    let Some(message) = conversation.nodes.get(node) else { return };
    if let Some((edited, text)) = editing
        && *edited == node
    {
        if edit(ui, node, message.role, text, out) {
            *editing = None;
        }
        return;
    }
    let answering = answering.as_ref().filter(|a| a.conversation == *current && a.node == node);
    match message.role {
        Role::User => {
            if !message.files.is_empty() {
                ui.with_layout(Layout::right_to_left(Align::Min).with_main_wrap(true), |ui| {
                    for file in &message.files {
                        attach::chip(ui, file, "", false);
                    }
                });
                ui.add_space(2.0);
            }
            user(ui, message);
        }
        Role::Assistant => {
            answer(ui, markdown, message, node, answering, *now);
            let pending = tools.calls.iter().find(|call| call.conversation == *current);
            calls::record(ui, &message.calls, node, pending);
        }
    }
    if let Some(waits) = waits {
        widgets::quiet(ui, waits);
    }
    // The answer after the calls has the buttons.
    let waits_for_call = tools.calls.iter().any(|call| call.conversation == *current && call.node == node);
    let goes_on = waits_for_call || (!message.calls.is_empty() && !last);
    if answering.is_none() && !goes_on {
        ui.add_space(2.0);
        if let Some(begin) = actions(ui, conversation, node, last, out) {
            *editing = Some((node, begin));
        }
    }
}

/// What a message waits for, if it does.
fn waits(state: &WindowState, node: usize) -> Option<String> {
    state.waiting_here().filter(|waiting| waiting.node == node)?;
    let other = state.answering.as_ref().and_then(|a| state.conversations.iter().find(|c| c.id == a.conversation));
    Some(match other {
        Some(other) if other.id == state.current => "Waiting for the other answer to end…".to_string(),
        Some(other) => format!("Waiting for the answer in “{}” to end…", other.title),
        None => "Waiting for the model…".to_string(),
    })
}

/// A text in visual word order.
pub fn in_order<'a>(ui: &Ui, text: &'a str, width: f32, line_end: &str) -> Cow<'a, str> {
    let font = egui::TextStyle::Body.resolve(ui.style());
    let measure =
        |word: &str| ui.painter().layout_no_wrap(word.to_string(), font.clone(), egui::Color32::PLACEHOLDER).size().x;
    bidi::visual(text, width, line_end, &measure)
}

/// A user message: a bubble at the right.
fn user(ui: &mut Ui, message: &MessageNode) {
    let fill = theme::colours(ui).card;
    ui.with_layout(Layout::right_to_left(Align::Min), |ui| {
        let most = ui.available_width() * 0.85 - 28.0;
        let (font, ink) = (egui::TextStyle::Body.resolve(ui.style()), ui.visuals().text_color());
        let text = in_order(ui, &message.text, most, "\n").into_owned();
        let width = ui.painter().layout(text.clone(), font, ink, most).size().x.ceil() + 1.0;
        let side = if bidi::begins_right(&message.text) { Align::Max } else { Align::Min };
        let frame = Frame::new().fill(fill).corner_radius(theme::RADIUS).inner_margin(Margin::symmetric(14, 9));
        frame.show(ui, |ui| {
            ui.allocate_ui_with_layout(egui::vec2(width, 0.0), Layout::top_down(side), |ui| {
                ui.add(egui::Label::new(text).wrap().halign(side));
            });
        });
    });
}

fn answer(
    ui: &mut Ui,
    markdown: &mut CommonMarkCache,
    message: &MessageNode,
    node: usize,
    answering: Option<&PendingAnswer>,
    now: f64,
) {
    let opened = answering.is_some_and(|a| a.opened);
    let parts = text::split(&message.text, opened);
    if !parts.reasoning.is_empty() || parts.thinking {
        reasoning(ui, markdown, &parts, message.stats.as_ref(), node, answering, now);
    }
    if !parts.answer.is_empty() {
        say(ui, markdown, parts.answer);
    }
    if let Some(answering) = answering {
        progress(ui, answering, now, message.text.is_empty());
    }
}

/// Markdown.
fn say(ui: &mut Ui, cache: &mut CommonMarkCache, answer: &str) {
    let marked = text::prepare(answer);
    let marked = in_order(ui, &marked, ui.available_width(), "  \n");
    let math = |ui: &mut Ui, tex: &str, inline: bool| {
        let letters = RichText::new(text::latex(tex)).italics();
        match inline {
            true => ui.label(letters),
            false => ui.label(letters.size(17.0)),
        };
    };
    // Links show their target, and images are not loaded: a model's output opens no connection.
    CommonMarkViewer::new().render_math_fn(Some(&math)).show(ui, cache, &marked);
}

fn reasoning(
    ui: &mut Ui,
    markdown: &mut CommonMarkCache,
    parts: &text::AnswerParts,
    stats: Option<&Stats>,
    node: usize,
    answering: Option<&PendingAnswer>,
    now: f64,
) {
    let title = match (parts.thinking, answering, stats.and_then(|s| s.thinking)) {
        (true, Some(a), _) => format!("Thinking… {}", format::seconds(now - a.first.unwrap_or(now))),
        (_, _, Some(seconds)) => format!("Thought for {}", format::seconds(seconds)),
        _ => "Reasoning".to_string(),
    };
    let quiet = theme::colours(ui).quiet;
    let header = RichText::new(format!("{}  {title}", icons::THINKING)).size(13.5).color(quiet);
    CollapsingHeader::new(header).id_salt(("reasoning", node)).show(ui, |ui| {
        ui.visuals_mut().override_text_color = Some(quiet);
        say(ui, markdown, parts.reasoning);
    });
    ui.add_space(4.0);
}

/// The status line of an answer in progress.
fn progress(ui: &mut Ui, answering: &PendingAnswer, now: f64, silent: bool) {
    ui.horizontal(|ui| {
        widgets::working(ui, now);
        let waited = now - answering.since;
        widgets::quiet(
            ui,
            match (answering.stopping, answering.first) {
                (true, _) => "Stopping…".to_string(),
                (_, None) if answering.prompt > 0 => {
                    let all = format::plural(answering.prompt, "token");
                    let part = if answering.read > 0 { format!("{} of {all}", answering.read) } else { all };
                    format!("Reading {part} · {}", format::seconds(waited))
                }
                (_, None) => format!("Waiting · {}", format::seconds(waited)),
                (_, Some(_)) if silent => "Writing…".to_string(),
                (_, Some(first)) => {
                    let rate = format::rate(answering.tokens.saturating_sub(1), (now - first).max(0.05));
                    format!("{} · {rate}", format::plural(answering.tokens, "token"))
                }
            },
        );
    });
}

/// The buttons under a message. Returns the text to edit if the user asks for that.
fn actions(
    ui: &mut Ui,
    conversation: &SavedConversation,
    node: usize,
    last: bool,
    out: &mut Actions,
) -> Option<String> {
    let message = &conversation.nodes[node];
    let user = message.role == Role::User;
    let layout = if user { Layout::right_to_left(Align::Center) } else { Layout::left_to_right(Align::Center) };
    let mut begin = None;
    let size = egui::vec2(ui.available_width(), 24.0);
    ui.allocate_ui_with_layout(size, layout, |ui| {
        ui.spacing_mut().item_spacing.x = 2.0;
        // Align the icons, not their invisible frames, with the text.
        ui.add_space(-5.0);
        branches(ui, conversation, node, out);
        if widgets::small_icon_button(ui, icons::COPY, "Copy").clicked() {
            out.push(Action::Copy(text::split(&message.text, false).answer.to_string()));
        }
        if widgets::small_icon_button(ui, icons::EDIT, "Edit").clicked() {
            begin = Some(message.text.clone());
        }
        if !user {
            if widgets::small_icon_button(ui, icons::AGAIN, "Regenerate").clicked() {
                out.push(Action::Again(node));
            }
            let finish = message.stats.as_ref().and_then(|s| s.finish.as_ref());
            let complete = matches!(finish, Some(FinishReason::End | FinishReason::ContextFull));
            if last && (!complete || !message.calls.is_empty()) {
                let response = widgets::small_icon_button(ui, icons::CONTINUE, "Continue");
                if response.clicked() {
                    out.push(Action::Continue(node));
                }
            }
            if let Some(stats) = &message.stats {
                ui.add_space(6.0);
                numbers(ui, stats);
            }
        } else if last && widgets::small_icon_button(ui, icons::AGAIN, "Send again").clicked() {
            out.push(Action::Resend(node));
        }
    });
    begin
}

/// `‹ 2/3 ›` if the message has siblings.
fn branches(ui: &mut Ui, conversation: &SavedConversation, node: usize, out: &mut Actions) {
    let siblings = conversation.siblings(node);
    let Some(at) = siblings.iter().position(|s| *s == node).filter(|_| siblings.len() > 1) else { return };
    let turned = conversation.nodes[node].role == Role::User;
    let mut step = |ui: &mut Ui, icon: &str, name: &str, to: Option<&usize>| {
        let clicked = ui.add_enabled_ui(to.is_some(), |ui| widgets::small_icon_button(ui, icon, name).clicked()).inner;
        if let (true, Some(to)) = (clicked, to) {
            out.push(Action::Show(*to));
        }
    };
    let before = at.checked_sub(1).and_then(|i| siblings.get(i));
    let after = siblings.get(at + 1);
    let counter = format!("{}/{}", at + 1, siblings.len());
    // The row under a user message is laid out from the right.
    match turned {
        false => step(ui, icons::LEFT, "Previous version", before),
        true => step(ui, icons::RIGHT, "Next version", after),
    }
    widgets::quiet(ui, counter);
    match turned {
        false => step(ui, icons::RIGHT, "Next version", after),
        true => step(ui, icons::LEFT, "Previous version", before),
    }
}

/// The model, tokens, speed, time to first token, context.
fn numbers(ui: &mut Ui, stats: &Stats) {
    let t = &stats.timings;
    let mut parts = Vec::new();
    if !stats.model.is_empty() {
        parts.push(stats.model.clone());
    }
    if t.generated_tokens > 0 {
        parts.push(format::plural(t.generated_tokens, "token"));
    }
    if t.generated_tokens > 1 {
        parts.push(format::rate(t.generated_tokens - 1, t.decode_seconds));
    }
    if t.prompt_seconds > 0.0 {
        parts.push(format!("{} to first", format::seconds(t.prompt_seconds)));
    }
    if stats.context > 0 && t.prompt_tokens > 0 {
        let used = (t.prompt_tokens + t.generated_tokens) * 100 / stats.context;
        parts.push(format!("{used} % of context"));
    }
    match stats.finish {
        None => parts.push("interrupted".into()),
        Some(FinishReason::Cancelled) => parts.push("stopped".into()),
        Some(FinishReason::MaxTokens) => parts.push("limit reached".into()),
        Some(FinishReason::ContextFull) => parts.push("context full".into()),
        Some(FinishReason::End | FinishReason::StopString(_)) => {}
    }
    let reused = match t.reused_tokens {
        0 => String::new(),
        n => format!(", {n} of them from the cache"),
    };
    let more = format!(
        "Model: {}\nPrompt: {}{reused}\nSeed: {}",
        stats.model,
        format::plural(t.prompt_tokens, "token"),
        stats.seed
    );
    let colour = theme::colours(ui).quiet;
    let label = egui::Label::new(RichText::new(parts.join(" · ")).small().color(colour)).truncate();
    ui.add(label).on_hover_text(more);
}

/// The editor of a message. Returns whether editing has ended.
fn edit(ui: &mut Ui, node: usize, role: Role, text: &mut String, out: &mut Actions) -> bool {
    let colours = theme::colours(ui);
    let mut end = false;
    let frame = Frame::new().stroke((1.0, colours.accent)).corner_radius(theme::RADIUS).inner_margin(12);
    frame.show(ui, |ui| {
        let newline = KeyboardShortcut::new(Modifiers::SHIFT, Key::Enter);
        let edit = TextEdit::multiline(text).id_salt(("edit", node)).frame(Frame::NONE).desired_rows(1);
        let edit = if role == Role::User { edit.return_key(newline) } else { edit };
        let response = ui.add(edit.desired_width(f32::INFINITY));
        if !response.has_focus() && !response.lost_focus() && ui.memory(|m| m.focused().is_none()) {
            response.request_focus();
        }
        let enter =
            role == Role::User && response.has_focus() && ui.input(|i| i.key_pressed(Key::Enter) && !i.modifiers.shift);
        let escape = ui.input(|i| i.key_pressed(Key::Escape));
        ui.add_space(theme::GAP);
        ui.horizontal(|ui| {
            let save = if role == Role::User { "Send" } else { "Save" };
            if (widgets::main_button(ui, save).clicked() || enter) && !text.trim().is_empty() {
                out.push(Action::Edit(node, text.trim().to_string()));
                end = true;
            }
            if ui.button("Cancel").clicked() || escape {
                end = true;
            }
            widgets::quiet(ui, "The old version is kept.");
        });
    });
    end
}
