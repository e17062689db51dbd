//! The list of conversations, with search, rename and delete.

use egui::{Button, Frame, Key, Label, Margin, RichText, ScrollArea, TextEdit, Ui, vec2};

use super::{Actions, format, widgets};
use crate::chat::state::{Action, Dialog, WindowState};
use crate::chat::store::SavedConversation;
use crate::chat::{icons, theme};

pub fn show(ui: &mut Ui, state: &mut WindowState, out: &mut Actions) {
    let colours = theme::colours(ui);
    ui.horizontal(|ui| {
        ui.label(RichText::new(icons::FLAME).size(20.0).color(colours.accent));
        ui.add(Label::new(RichText::new("Firelight").font(theme::strong(16.0))).selectable(false));
        widgets::right(ui, |ui| {
            if widgets::icon_button(ui, icons::SIDEBAR, "Hide conversations").clicked() {
                out.push(Action::List);
            }
        });
    });
    ui.add_space(theme::GAP);
    let new = Button::new(format!("{}  New conversation", icons::NEW)).right_text("");
    let new = new.fill(theme::raised(ui)).stroke((1.0, colours.line));
    let response = ui.add(new.min_size(vec2(ui.available_width(), 34.0)));
    widgets::named(&response, "New conversation");
    if response.clicked() {
        out.push(Action::New);
    }
    ui.add_space(4.0);
    let frame = Frame::new().fill(ui.visuals().text_edit_bg_color()).corner_radius(theme::SMALL_RADIUS);
    frame.inner_margin(Margin::symmetric(8, 4)).show(ui, |ui| {
        ui.horizontal(|ui| {
            ui.label(RichText::new(icons::SEARCH).color(colours.quiet));
            let search = TextEdit::singleline(&mut state.search).hint_text("Search").frame(Frame::NONE);
            let search = search.align(egui::Align2::LEFT_CENTER).margin(0.0);
            let response = ui.add(search.desired_width(f32::INFINITY));
            widgets::labelled(&response, "Search conversations");
            if std::mem::take(&mut state.focus_search) {
                response.request_focus();
            }
            if response.lost_focus() && ui.input(|i| i.key_pressed(Key::Enter)) {
                // The first match, then the next message of it.
                let listed = state.listed();
                let shown = listed.iter().find(|c| c.id == state.current).or(listed.first());
                out.extend(shown.map(|c| Action::Open(c.id.clone())));
                state.focus_search = true;
            }
        });
    });
    ui.add_space(theme::GAP);
    if !state.unreadable.is_empty() {
        let text = format!("{} cannot be read", format::plural(state.unreadable.len(), "conversation"));
        let text = RichText::new(format!("{}  {text}", icons::WARNING)).small().color(colours.warn);
        let files = state.unreadable.iter().map(|name| format!("\n{name}.json")).collect::<String>();
        ui.label(text).on_hover_text(format!("The files stay where they are:{files}"));
    }
    ScrollArea::vertical().id_salt("list").auto_shrink(false).show(ui, |ui| rows(ui, state, out));
}

fn rows(ui: &mut Ui, state: &WindowState, out: &mut Actions) {
    let all = state.listed();
    if all.is_empty() {
        widgets::quiet(ui, format!("No conversations match “{}”.", state.search.trim()));
    }
    let mut age = "";
    ui.spacing_mut().item_spacing.y = 1.0;
    for conversation in all {
        let its = format::age(state.time, conversation.changed);
        if its != age {
            ui.add_space(if age.is_empty() { 0.0 } else { 12.0 });
            let text = RichText::new(its).small().color(theme::colours(ui).quiet);
            ui.add(Label::new(text).selectable(false));
            ui.add_space(3.0);
            age = its;
        }
        row(ui, state, conversation, out);
    }
}

fn row(ui: &mut Ui, state: &WindowState, conversation: &SavedConversation, out: &mut Actions) {
    let colours = theme::colours(ui);
    let shown = conversation.id == state.current;
    let busy = state.answering.as_ref().is_some_and(|a| a.conversation == conversation.id);
    ui.push_id(&conversation.id, |ui| {
        let text = RichText::new(&conversation.title).size(14.0);
        let text = if shown { text.color(ui.visuals().strong_text_color()) } else { text };
        let mut button = Button::new(text).truncate().min_size(vec2(ui.available_width(), 30.0));
        let fill = ui.visuals().widgets.hovered.weak_bg_fill;
        button = if shown { button.fill(fill) } else { button.frame_when_inactive(false) };
        let mark = if busy { "●" } else { "" };
        button = button.right_text(RichText::new(mark).size(9.0).color(colours.accent));
        let response = ui.add(button);
        widgets::named(&response, &conversation.title);
        if response.clicked() {
            out.push(Action::Open(conversation.id.clone()));
        }
        if response.double_clicked() {
            rename(conversation, out);
        }
        response.context_menu(|ui| {
            if ui.button("Rename…").clicked() {
                rename(conversation, out);
            }
            if ui.button("Delete…").clicked() {
                out.push(Action::Dialog(Some(Dialog::Delete(conversation.id.clone()))));
            }
        });
        if shown {
            // A visible menu button, since users do not discover context menus.
            let end = egui::Rect::from_center_size(response.rect.right_center() - vec2(17.0, 0.0), vec2(26.0, 26.0));
            let mut child = ui.new_child(egui::UiBuilder::new().max_rect(end));
            child.spacing_mut().button_padding = vec2(4.0, 0.0);
            let more = Button::new(RichText::new(icons::MORE).size(16.0)).fill(fill).min_size(end.size());
            let (response, _) = egui::containers::menu::MenuButton::from_button(more).ui(&mut child, |ui| {
                if ui.button("Rename…").clicked() {
                    rename(conversation, out);
                }
                if ui.button("Delete…").clicked() {
                    out.push(Action::Dialog(Some(Dialog::Delete(conversation.id.clone()))));
                }
            });
            widgets::named(&response, "Conversation menu");
        }
    });
}

fn rename(conversation: &SavedConversation, out: &mut Actions) {
    out.push(Action::Dialog(Some(Dialog::Rename(conversation.id.clone(), conversation.title.clone()))));
}
