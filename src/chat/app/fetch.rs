//! The picker: what the user types, searches and downloads, and models that go.

use egui::Context;

use super::App;
use crate::chat::catalogue::{self, FitAnswer, ModelOffer, Wanted};
use crate::chat::platform::{self, Fetched};
use crate::chat::protocol::Place;
use crate::chat::state::{Action, Dialog, Fetching};
use crate::chat::view::format;

impl App {
    /// Opens, downloads or searches what the user typed.
    pub(super) fn find(&mut self, ctx: &Context, text: &str, actions: &mut Vec<Action>) {
        self.state.fetch_failed = None;
        match catalogue::meaning(text) {
            Wanted::Open => match platform::typed(text) {
                Ok(place) => {
                    self.state.wanted.clear();
                    actions.push(Action::Load(place));
                }
                Err(why) => self.state.fetch_failed = Some(why.to_string()),
            },
            Wanted::Download => self.fetch(ctx, text.to_string()),
            Wanted::Search => {
                (self.state.searching, self.state.searched) = (true, Some(text.to_string()));
                platform::search(ctx, text, self.chosen.0.clone());
            }
        }
    }

    pub(super) fn end_search(&mut self) {
        (self.state.searching, self.state.searched, self.state.fetch_failed) = (false, None, None);
        self.state.offers = catalogue::good_models();
    }

    pub(super) fn found(&mut self, text: &str, found: Result<Vec<ModelOffer>, String>) {
        // Ignore the answer to an older search.
        if self.state.searched.as_deref() != Some(text) {
            return;
        }
        self.state.searching = false;
        match found {
            Ok(offers) => self.state.offers = offers,
            Err(why) => {
                self.end_search();
                self.state.fetch_failed = Some(why);
            }
        }
    }

    pub(super) fn ask_fit(&mut self, ctx: &Context, name: &str) {
        self.fit(name, FitAnswer::Asking);
        platform::ask_fit(ctx, name, self.state.remembered.device.as_deref(), self.chosen.0.clone());
    }

    pub(super) fn fit(&mut self, name: &str, answer: FitAnswer) {
        if let Some(offer) = self.state.offers.iter_mut().find(|offer| offer.wanted == name) {
            offer.answer = answer;
        }
    }

    /// Removes a model from the list, and from the recent models.
    pub(super) fn forget(&mut self, place: &Place) {
        self.state.models.retain(|entry| entry.place != *place);
        self.remember(|remembered| remembered.recent.retain(|recent| recent != place));
    }

    pub(super) fn delete_model(&mut self, place: &Place) {
        self.state.dialog = Some(Dialog::Models);
        match platform::delete(place) {
            Ok(freed) => {
                self.forget(place);
                self.toast(format!("Deleted {place}: {} are free", format::bytes(freed)), false);
            }
            Err(why) => self.toast(why.to_string(), true),
        }
    }

    /// Where no file dialog can be shown, the user types a path.
    pub(super) fn no_dialog(&mut self, save: Option<(String, String)>) {
        self.state.dialog = Some(match save {
            Some((path, text)) => Dialog::SaveAs(path, text),
            None => {
                let why =
                    "This system shows no file dialog (no desktop portal, no zenity). Type the path of a model above.";
                self.state.fetch_failed = Some(why.into());
                Dialog::Models
            }
        });
    }

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
                    _ => self.toast(format!("{place} is downloaded: choose it among the models"), false),
                }
            }
            Err(why) if self.state.dialog == Some(Dialog::Models) => self.state.fetch_failed = Some(why),
            Err(why) => self.toast(format!("Not downloaded: {why}"), true),
        }
    }
}
