//! Presets: settings with a name, for new conversations.

use egui::Context;

use super::App;
use crate::chat::state::Action;
use crate::chat::store::Preset;

impl App {
    /// Saves the conversation's settings, in place of a preset of the same name.
    pub(super) fn save_preset(&mut self, name: &str) {
        let Some(settings) = self.state.conversation().map(|c| c.settings.clone()) else { return };
        let name = name.trim().to_string();
        self.change_presets(|presets| {
            presets.retain(|preset| preset.name != name);
            presets.push(Preset { name: name.clone(), settings });
        });
        self.state.preset_name.clear();
        self.toast(format!("Saved “{name}”"), false);
    }

    /// Gives its settings to the current conversation if that is empty, otherwise to a new one.
    pub(super) fn use_preset(&mut self, ctx: &Context, name: &str) {
        let Some(preset) = self.state.presets.iter().find(|preset| preset.name == name).cloned() else { return };
        if self.state.conversation().is_some_and(|c| !c.nodes.is_empty()) {
            self.act(ctx, Action::New);
        }
        if let Some(conversation) = self.state.conversation_mut() {
            conversation.settings = preset.settings;
        }
    }

    /// Renames a preset, unless another one has the name.
    pub(super) fn rename_preset(&mut self, old: &str, new: &str) {
        let new = new.trim();
        self.state.renaming = None;
        if new == old || new.is_empty() {
            return;
        }
        if self.state.presets.iter().any(|preset| preset.name == new) {
            return self.toast(format!("There is another preset of the name “{new}”."), true);
        }
        self.change_presets(|presets| {
            presets.iter_mut().filter(|preset| preset.name == old).for_each(|preset| preset.name = new.to_string());
        });
    }

    pub(super) fn delete_preset(&mut self, name: &str) {
        self.change_presets(|presets| presets.retain(|preset| preset.name != name));
    }

    /// Changes the saved presets, which another window may have changed, too.
    fn change_presets(&mut self, change: impl FnOnce(&mut Vec<Preset>)) {
        self.store.flush();
        let mut presets = self.store.presets();
        change(&mut presets);
        presets.sort_by_key(|preset| preset.name.to_lowercase());
        self.store.save_presets(&presets);
        self.state.presets = presets;
    }
}
