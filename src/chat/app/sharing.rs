//! Other windows over the same conversations: what they saved is merged in when this window gets the focus.

use super::App;
use crate::chat::store::SavedConversation;

impl App {
    /// Merges what other windows saved. A deleted conversation stays while it is shown or answered.
    pub(super) fn look_for_changes(&mut self) {
        let changes = self.store.changes();
        for changed in changes.changed {
            match self.state.conversations.iter_mut().find(|c| c.id == changed.id) {
                Some(mine) => drop(mine.merge(&changed)),
                None => self.state.conversations.push(changed),
            }
        }
        let state = &mut self.state;
        let busy = |c: &SavedConversation| {
            c.id == state.current || state.answering.as_ref().is_some_and(|a| a.conversation == c.id)
        };
        let gone = |c: &SavedConversation| changes.deleted.contains(&c.id) && !busy(c);
        state.conversations.retain(|c| !gone(c));
        state.waiting.retain(|w| state.conversations.iter().any(|c| c.id == w.conversation));
        for name in changes.unreadable {
            if !state.unreadable.contains(&name) {
                state.unreadable.push(name);
            }
        }
    }
}
