//! The panel of MCP servers: a switch for each, its tools, and fields for a new one.

use egui::{CollapsingHeader, Frame, Key, Label, Margin, RichText, Stroke, TextEdit, Ui};

use super::{Actions, format, widgets};
use crate::chat::platform;
use crate::chat::state::{Action, WindowState};
use crate::chat::tools::{McpServer, McpTool, ServerState};
use crate::chat::{icons, theme};

pub fn show(ui: &mut Ui, state: &mut WindowState, out: &mut Actions) {
    if !platform::TOOLS {
        ui.label("Tools come from MCP servers, which run as programs on your machine. A page cannot start programs.");
        widgets::quiet(ui, "Use the desktop program for them: firelight chat.");
        return;
    }
    widgets::quiet(
        ui,
        "MCP servers give the model tools: files, a search, a database. A server runs with your rights; switch on only \
         those that you trust. You are asked before each call.",
    );
    ui.add_space(theme::GAP);
    for (name, server) in &state.tools.config.mcp_servers {
        card(ui, name, server, state.tools.servers.get(name), out);
        ui.add_space(theme::GAP);
    }
    form(ui, state, out);
}

fn card(ui: &mut Ui, name: &str, server: &McpServer, state: Option<&ServerState>, out: &mut Actions) {
    let colours = theme::colours(ui);
    let frame = Frame::new().fill(theme::raised(ui)).stroke(Stroke::new(1.0, colours.line)).corner_radius(10);
    frame.inner_margin(Margin::symmetric(12, 8)).show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.horizontal(|ui| {
            widgets::outlined(ui);
            let mut on = server.enabled;
            let label = RichText::new(name).font(theme::strong(14.0)).color(ui.visuals().strong_text_color());
            if ui.checkbox(&mut on, label).changed() {
                out.push(Action::SwitchServer(name.to_string(), on));
            }
            widgets::right(ui, |ui| {
                ui.spacing_mut().item_spacing.x = 0.0;
                if widgets::small_icon_button(ui, icons::CLOSE, &format!("Remove {name}")).clicked() {
                    out.push(Action::RemoveServer(name.to_string()));
                }
                if widgets::small_icon_button(ui, icons::EDIT, &format!("Edit {name}")).clicked() {
                    out.push(Action::EditServer(name.to_string()));
                }
            });
        });
        let summary = RichText::new(server.summary()).small().color(colours.quiet);
        ui.add(Label::new(summary).truncate());
        match state {
            None => {}
            Some(ServerState::Starting) => {
                widgets::quiet(ui, "Starting…");
            }
            Some(ServerState::Failed(why)) => {
                ui.add(Label::new(RichText::new(why).size(13.0).color(colours.bad)).wrap());
                widgets::outlined(ui);
                if ui.button("Try again").clicked() {
                    out.push(Action::SwitchServer(name.to_string(), true));
                }
            }
            Some(ServerState::Ready(all)) => tools(ui, name, server, all, out),
        }
    });
}

/// The tools of a running server, folded.
fn tools(ui: &mut Ui, name: &str, server: &McpServer, all: &[McpTool], out: &mut Actions) {
    let offered = all.iter().filter(|tool| server.offers(&tool.name)).count();
    let title = match offered == all.len() {
        true => format::plural(all.len(), "tool"),
        false => format!("{offered} of {}", format::plural(all.len(), "tool")),
    };
    CollapsingHeader::new(RichText::new(title).size(13.0)).id_salt(("tools", name)).show(ui, |ui| {
        widgets::outlined(ui);
        for tool in all {
            let mut on = server.offers(&tool.name);
            let response = ui.checkbox(&mut on, RichText::new(&tool.name).size(13.0));
            if response.on_hover_text(&tool.description).changed() {
                out.push(Action::SwitchTool(name.to_string(), tool.name.clone(), on));
            }
        }
    });
}

/// The fields for a new server.
fn form(ui: &mut Ui, state: &mut WindowState, out: &mut Actions) {
    let form = &mut state.tools.form;
    widgets::section(ui, "Add a server");
    let hint = "npx -y @modelcontextprotocol/server-filesystem /home/me/notes";
    let edit = TextEdit::multiline(&mut form.text).hint_text(hint).desired_rows(3).margin(8.0);
    let response = ui.add(edit.desired_width(f32::INFINITY).font(egui::TextStyle::Monospace));
    widgets::labelled(&response, "Command, address or JSON");
    if response.changed() {
        form.error = None;
    }
    widgets::quiet(
        ui,
        "A command with its arguments, an address (https://…), or the “mcpServers” JSON of another program.",
    );
    let json = form.text.trim_start().starts_with('{');
    let mut enter = false;
    if !json {
        let edit = TextEdit::singleline(&mut form.name).hint_text("Name (optional)").margin(8.0);
        let response = ui.add(edit.desired_width(f32::INFINITY));
        widgets::labelled(&response, "Name");
        enter = response.lost_focus() && ui.input(|i| i.key_pressed(Key::Enter));
    }
    if let Some(why) = &form.error {
        ui.add(Label::new(RichText::new(why).size(13.0).color(theme::colours(ui).bad)).wrap());
    }
    ui.add_space(2.0);
    let ready = !form.text.trim().is_empty();
    let clicked = ui.add_enabled_ui(ready, |ui| widgets::main_button(ui, "Add").clicked()).inner;
    if ready && (clicked || enter) {
        out.push(Action::AddServer);
    }
}
