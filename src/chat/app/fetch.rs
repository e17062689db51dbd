//! Downloads from the hub.

use egui::Context;

use super::App;
use crate::chat::platform::{self, Fetched};
use crate::chat::protocol::Place;
use crate::chat::state::{Action, Dialog, Fetching};

impl App {
    pub(super) fn fetch(&mut self, ctx: &Context, name: String) {
        let device = self.state.remembered.device.as_deref();
        self.fetch = Some(platform::fetch(ctx, &name, device, self.chosen.0.clone()));
        self.state.fetch_failed = None;
        self.state.fetching = Some(Fetching { wanted: name, step: None, since: self.state.now, before: 0 });
    }

    pub(super) fn fetching(&mut self, step: Fetched) {
        let now = self.state.now;
        // Ignore late events of a finished download.
        let Some(fetching) = &mut self.state.fetching else { return };
        if fetching.step.is_none() {
            (fetching.since, fetching.before) = (now, step.done);
        }
        fetching.step = Some(step);
    }

    /// Opens the downloaded model if the picker is still open; otherwise the user can select it later.
    pub(super) fn fetched(&mut self, done: Result<Place, String>, actions: &mut Vec<Action>) {
        if self.state.fetching.take().is_none() {
            return;
        }
        self.fetch = None;
        match done {
            Ok(place) => {
                self.state.wanted.clear();
                self.add_model(place.clone(), None);
                match self.state.dialog {
                    Some(Dialog::Models) => actions.push(Action::Load(place)),
                    _ => self.toast(format!("{place} is here: choose it among the models"), false),
                }
            }
            Err(why) if self.state.dialog == Some(Dialog::Models) => self.state.fetch_failed = Some(why),
            Err(why) => self.toast(format!("Not fetched: {why}"), true),
        }
    }
}
