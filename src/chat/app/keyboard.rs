//! The keyboard: shortcuts, which `view::dialogs` lists; keys that scroll; and typing, which goes to the composer.

use egui::{Context, Event, Id, Key, KeyboardShortcut, Modifiers};

use crate::chat::state::{Action, Dialog, Panel, Scroll, WindowState};
use crate::chat::store::Role;
use crate::chat::view::composer;
use crate::chat::{text, theme};

/// Reads this frame's keys.
pub fn read(ctx: &Context, state: &mut WindowState, actions: &mut Vec<Action>) {
    global(ctx, actions);
    if state.dialog.is_some() || state.editing.is_some() {
        return;
    }
    messages(ctx, state, actions);
    if state.busy_here() && pressed(ctx, Modifiers::NONE, Key::Escape) {
        actions.push(Action::Stop);
    }
    let focused = ctx.memory(|m| m.focused());
    let in_composer = focused == Some(Id::unique(composer::FIELD));
    scroll(ctx, state, focused.is_none() || in_composer && state.draft.is_empty());
    let typed = ctx.input(|i| i.events.iter().any(|e| matches!(e, Event::Text(_) | Event::Paste(_))));
    let asked = pressed(ctx, Modifiers::COMMAND, Key::L);
    state.focus |= asked || typed && focused.is_none();
}

fn pressed(ctx: &Context, modifiers: Modifiers, key: Key) -> bool {
    ctx.input_mut(|i| i.consume_shortcut(&KeyboardShortcut::new(modifiers, key)))
}

fn global(ctx: &Context, actions: &mut Vec<Action>) {
    let table = [
        (Modifiers::COMMAND, Key::N, Action::New),
        (Modifiers::COMMAND, Key::B, Action::List),
        (Modifiers::COMMAND, Key::F, Action::Search),
        (Modifiers::COMMAND, Key::M, Action::Dialog(Some(Dialog::Models))),
        (Modifiers::COMMAND, Key::Comma, Action::Panel(Panel::Settings)),
        (Modifiers::COMMAND, Key::D, Action::Panel(Panel::Device)),
        (Modifiers::COMMAND, Key::J, Action::Panel(Panel::XRay)),
        (Modifiers::COMMAND, Key::O, Action::Choose),
        (Modifiers::COMMAND, Key::S, Action::Export(false)),
        (Modifiers::ALT, Key::ArrowUp, Action::Neighbour(-1)),
        (Modifiers::ALT, Key::ArrowDown, Action::Neighbour(1)),
        (Modifiers::NONE, Key::F1, Action::Dialog(Some(Dialog::Help))),
    ];
    let wanted = table.into_iter().filter(|(modifiers, key, _)| pressed(ctx, *modifiers, *key));
    actions.extend(wanted.map(|(.., action)| action));
}

/// Shortcuts that concern the last messages.
fn messages(ctx: &Context, state: &WindowState, actions: &mut Vec<Action>) {
    let Some(conversation) = state.conversation() else { return };
    let path = conversation.path();
    let last = |role| path.iter().rev().copied().find(|node| conversation.nodes[*node].role == role);
    let answer = last(Role::Assistant);
    if let Some(answer) = answer
        && path.last() == Some(&answer)
        && pressed(ctx, Modifiers::COMMAND, Key::R)
    {
        actions.push(Action::Again(answer));
    }
    if let Some(answer) = answer
        && pressed(ctx, Modifiers::COMMAND | Modifiers::SHIFT, Key::C)
    {
        actions.push(Action::Copy(text::split(&conversation.nodes[answer].text, false).answer.to_string()));
    }
    if let Some(question) = last(Role::User)
        && pressed(ctx, Modifiers::COMMAND, Key::E)
    {
        actions.push(Action::BeginEdit(question));
    }
}

/// PageUp and PageDown always scroll; the keys that move a cursor do while there is nothing for it to move in.
fn scroll(ctx: &Context, state: &mut WindowState, free: bool) {
    let key = |key| pressed(ctx, Modifiers::NONE, key);
    let pages = |n| Some(Scroll::Pages(n));
    state.scroll = match () {
        _ if key(Key::PageUp) => pages(-1.0),
        _ if key(Key::PageDown) => pages(1.0),
        _ if free && key(Key::Home) => Some(Scroll::Start),
        _ if free && key(Key::ArrowUp) => Some(Scroll::Points(-theme::SCROLL_STEP)),
        _ if free && key(Key::ArrowDown) => Some(Scroll::Points(theme::SCROLL_STEP)),
        _ => state.scroll,
    };
    state.to_end |= free && key(Key::End);
}
