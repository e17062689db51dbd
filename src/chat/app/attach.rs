//! Files in the composer: read, counted against the context, sent, taken back.

use egui::Context;

use super::App;
use crate::chat::attach::AttachedFile;
use crate::chat::platform;
use crate::chat::protocol::Command;
use crate::chat::state::{Action, Attachment};

impl App {
    /// Opens a dropped model, or attaches dropped files.
    pub(super) fn take_dropped(&self, ctx: &Context, actions: &mut Vec<Action>) {
        let files = ctx.input(|i| i.raw.dropped_files.clone());
        match files.iter().find_map(platform::dropped) {
            Some(place) => actions.push(Action::Load(place)),
            None => files.iter().for_each(|file| platform::read_dropped(ctx, file, self.chosen.0.clone())),
        }
    }

    pub(super) fn attach(&mut self, file: Result<(String, Vec<u8>), String>) {
        match file.and_then(|(name, bytes)| AttachedFile::read(&name, bytes)) {
            Ok(file) => {
                self.counts += 1;
                self.link.send(Command::Count(self.counts, file.prompt()));
                let conversation = self.state.current.clone();
                self.state.attached.push(Attachment { file, conversation, id: self.counts, tokens: None });
                self.state.focus = true;
            }
            Err(why) => self.toast(why, true),
        }
    }

    /// Takes back a file that the context has no room for.
    pub(super) fn counted(&mut self, id: u64, tokens: Option<usize>) {
        let Some(context) = self.state.engine.loaded().map(|loaded| loaded.context) else { return };
        let Some(at) = self.state.attached.iter().position(|attachment| attachment.id == id) else { return };
        self.state.attached[at].tokens = tokens;
        let Attachment { conversation, file, .. } = self.state.attached[at].clone();
        let all = self.state.attached.iter().filter(|other| other.conversation == conversation);
        let all: usize = all.filter_map(|other| other.tokens).sum();
        if all >= context {
            self.state.attached.remove(at);
            self.toast(file.beyond_context(tokens.unwrap_or_default(), context), true);
        }
    }

    /// Takes the files out of the composer.
    pub(super) fn take_attached(&mut self) -> Vec<AttachedFile> {
        let current = &self.state.current;
        let taken = self.state.attached.extract_if(.., |attachment| attachment.conversation == *current);
        taken.map(|attachment| attachment.file).collect()
    }
}
