//! Chips of attached files, in the composer and in messages.

use egui::{Frame, Label, Margin, RichText, Stroke, Ui};

use super::{Actions, format, widgets};
use crate::chat::attach::AttachedFile;
use crate::chat::state::{Action, WindowState};
use crate::chat::{icons, theme};

/// The files in the composer, with a button that takes each back.
pub fn chips(ui: &mut Ui, state: &WindowState, out: &mut Actions) {
    if state.attached_here().next().is_none() {
        return;
    }
    ui.horizontal_wrapped(|ui| {
        for attachment in state.attached_here() {
            let tokens = attachment.tokens.map(|tokens| format!(" · {}", format::plural(tokens, "token")));
            let remove = chip(ui, &attachment.file, &tokens.unwrap_or_default(), true);
            if remove {
                out.push(Action::Detach(attachment.id));
            }
        }
    });
    ui.add_space(2.0);
}

/// One file: name and size. Returns whether it is to be removed.
pub fn chip(ui: &mut Ui, file: &AttachedFile, detail: &str, removable: bool) -> bool {
    let colours = theme::colours(ui);
    let frame =
        Frame::new().fill(colours.side).stroke(Stroke::new(1.0, colours.line)).corner_radius(theme::SMALL_RADIUS);
    let margin = Margin { left: 8, right: if removable { 2 } else { 8 }, top: 2, bottom: 2 };
    let shown = frame.inner_margin(margin).show(ui, |ui| {
        ui.set_min_height(24.0);
        ui.horizontal(|ui| {
            ui.spacing_mut().item_spacing.x = 6.0;
            let icon = |ui: &mut Ui| drop(ui.label(RichText::new(icons::ATTACH).size(14.0).color(colours.quiet)));
            let name = |ui: &mut Ui| {
                let name = Label::new(RichText::new(short(&file.name)).size(13.5)).selectable(false);
                ui.add(name).on_hover_text(&file.name);
            };
            let size = |ui: &mut Ui| {
                widgets::quiet(ui, format!("{}{detail}", format::bytes(file.text.len() as u64)));
            };
            let mut parts: [&dyn Fn(&mut Ui); 3] = [&icon, &name, &size];
            // A user's messages are laid out from the right.
            if ui.layout().prefer_right_to_left() {
                parts.reverse();
            }
            parts.iter().for_each(|part| part(ui));
            removable && widgets::small_icon_button(ui, icons::CLOSE, &format!("Remove {}", file.name)).clicked()
        })
        .inner
    });
    shown.inner
}

/// The longest name that is shown whole.
const LONGEST: usize = 32;

/// A long name without its middle: its ending tells what it is.
fn short(name: &str) -> String {
    let count = name.chars().count();
    if count <= LONGEST {
        return name.to_string();
    }
    let (begin, end) = (LONGEST * 2 / 3, LONGEST / 3);
    name.chars().take(begin).chain(['…']).chain(name.chars().skip(count - end)).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn long_names_keep_their_ends() {
        assert_eq!(super::short("notes.txt"), "notes.txt");
        assert_eq!(
            super::short(&format!("{}.txt", "a".repeat(60))),
            format!("{}…{}.txt", "a".repeat(21), "a".repeat(6))
        );
    }
}
