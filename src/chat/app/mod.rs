//! The window's app: drains the engine's events, draws the views, and performs their actions.

mod answers;
mod attach;
mod events;
mod fetch;
mod keyboard;
mod presets;
mod sharing;
mod tools;

use std::sync::mpsc;

use egui::{Context, Ui};
use egui_commonmark::CommonMarkCache;

use crate::chat::catalogue;
use crate::chat::platform::{self, Chosen, Link, Storage};
use crate::chat::protocol::{Command, Opening, Place};
use crate::chat::state::{Action, Dialog, EngineState, ModelEntry, Toast, ToolsState, WindowState, XRay};
use crate::chat::store::{self, Preferences, SavedConversation, Store};
use crate::chat::tools::{ToolCommand, ToolEvent};
use crate::chat::{theme, view};

/// How often an answer in progress is saved, in seconds: a crash loses no more than that.
const KEEP: f64 = 1.0;

/// The window. Natively `open` runs it; tests drive it with a fake engine.
pub struct App {
    /// The visible state.
    pub state: WindowState,
    link: Link,
    start: Box<dyn Fn(&Context) -> Link>,
    store: Store,
    markdown: CommonMarkCache,
    heights: view::Heights,
    chosen: (mpsc::Sender<Chosen>, mpsc::Receiver<Chosen>),
    fetch: Option<platform::FetchHandle>,
    answers: u64,
    seconds: Vec<f64>,
    /// See [`Preferences::window`].
    size: Option<(f32, f32, bool)>,
    /// The thread of MCP servers, once one was switched on.
    tools: Option<ToolLink>,
    start_tools: fn(&Context) -> ToolLink,
    calls: u64,
    counts: u64,
}

type ToolLink = Link<ToolCommand, ToolEvent>;

impl App {
    /// An app with the real engine. It opens `place`, or the model that was open last, or the built-in one.
    pub fn new(ctx: &Context, storage: Storage, place: Option<Place>) -> Self {
        Self::with_engine(ctx, storage, place, platform::start_engine)
    }

    /// An app with a custom engine, which `start` starts and restarts after a crash.
    pub fn with_engine(
        ctx: &Context,
        storage: Storage,
        place: Option<Place>,
        start: impl Fn(&Context) -> Link + 'static,
    ) -> Self {
        theme::install(ctx);
        let store = Store::new(storage);
        let remembered = store.remembered();
        let link = start(ctx);
        let mut app = App {
            state: WindowState {
                conversations: Vec::new(),
                current: String::new(),
                search: String::new(),
                draft: String::new(),
                drafts: Default::default(),
                attached: Vec::new(),
                editing: None,
                engine: EngineState::Empty,
                devices: Vec::new(),
                models: Vec::new(),
                wanted: String::new(),
                offers: catalogue::good_models(),
                searched: None,
                searching: false,
                fetching: None,
                fetch_failed: None,
                answering: None,
                waiting: Vec::new(),
                unreadable: Vec::new(),
                failed: None,
                list: true,
                narrow: false,
                drawer: false,
                panel: None,
                dialog: None,
                toast: None,
                xray: XRay::default(),
                presets: Vec::new(),
                preset_name: String::new(),
                renaming: None,
                tools: ToolsState::default(),
                remembered,
                now: 0.0,
                time: platform::now(),
                focus: true,
                focus_search: false,
                found: None,
                reveal: None,
                scroll: None,
                to_end: true,
                cleared: false,
            },
            link,
            start: Box::new(start),
            store,
            markdown: CommonMarkCache::default(),
            heights: view::Heights::default(),
            chosen: mpsc::channel(),
            fetch: None,
            answers: 0,
            seconds: Vec::new(),
            size: None,
            tools: None,
            start_tools: platform::start_tools,
            calls: 0,
            counts: 0,
        };
        app.set_dark(ctx, app.state.remembered.dark);
        app.look_for_changes();
        match app.state.conversations.first() {
            Some(last) => app.state.current = last.id.clone(),
            None => app.act(ctx, Action::New),
        }
        // The last model is opened even if it is gone, to say so; but a page cannot keep access to a file.
        let opens = |last: &&Place| cfg!(not(target_arch = "wasm32")) || platform::remains(last);
        let last = app.state.remembered.recent.first().filter(opens).cloned();
        let place = place.or(last).unwrap_or(Place::BuiltIn);
        app.state.remembered.recent.retain(|recent| *recent == place || platform::remains(recent));
        app.list_models();
        app.load(place);
        app.link.send(Command::Devices);
        app.link.send(Command::Find);
        app.state.presets = app.store.presets();
        app.start_servers(ctx);
        app
    }

    /// Replaces the thread of MCP servers: for tests.
    pub fn set_tools(&mut self, link: Link<ToolCommand, ToolEvent>) {
        self.tools = Some(link);
    }

    /// The app for eframe, which clears the window to [`theme::back`] before drawing.
    pub(super) fn for_window(cc: &eframe::CreationContext<'_>, storage: Storage, place: Option<Place>) -> Self {
        let mut app = Self::new(&cc.egui_ctx, storage, place);
        // With a linear colour format the clear colour would differ.
        app.state.cleared = cc.wgpu_render_state.as_ref().is_some_and(|r| !r.target_format.is_srgb());
        app
    }

    /// Draws the window.
    pub fn show(&mut self, ui: &mut Ui) {
        let ctx = ui.ctx().clone();
        self.state.now = ctx.input(|i| i.time);
        self.state.time = platform::now();
        self.drain(&ctx);
        self.drain_tools();
        let mut actions = Vec::new();
        self.take_dropped(&ctx, &mut actions);
        self.take_chosen(&mut actions);
        keyboard::read(&ctx, &mut self.state, &mut actions);
        self.size = match (window_size(&ctx), self.size) {
            (Some((.., true)), Some((width, height, _))) => Some((width, height, true)),
            (Some((.., true)), None) => self.state.remembered.window.map(|(width, height, _)| (width, height, true)),
            (now, before) => now.or(before),
        };
        view::show(ui, &mut self.state, &mut self.markdown, &mut self.heights, &mut actions);
        for action in actions {
            self.act(&ctx, action);
        }
        self.keep_up(&ctx);
    }

    /// Periodic work: expires toasts, saves answers in progress, updates timers.
    fn keep_up(&mut self, ctx: &Context) {
        let now = self.state.now;
        if let Some(failure) = self.store.failure() {
            self.toast(failure, true);
        }
        if ctx.input(|i| i.events.contains(&egui::Event::WindowFocused(true))) {
            self.look_for_changes();
        }
        if let Some(toast) = &self.state.toast {
            match toast.until > now {
                true => ctx.request_repaint_after_secs((toast.until - now) as f32),
                false => self.state.toast = None,
            }
        }
        // On a software rasterizer each frame takes time from the engine.
        let software = self.state.engine.loaded().is_some_and(|loaded| loaded.device.software);
        let pace = if software { 0.25 } else { 0.1 };
        if let Some(answering) = &mut self.state.answering {
            if now - answering.kept > KEEP {
                answering.kept = now;
                let id = answering.conversation.clone();
                self.keep(&id);
            }
            ctx.request_repaint_after_secs(pace);
        }
        if matches!(self.state.engine, EngineState::Loading { .. }) {
            ctx.request_repaint_after_secs(pace);
        }
    }

    /// Waits until everything is saved.
    pub fn flush(&self) {
        self.store.flush();
    }

    fn toast(&mut self, text: impl Into<String>, bad: bool) {
        let until = self.state.now + if bad { 8.0 } else { 2.5 };
        self.state.toast = Some(Toast { text: text.into(), bad, until });
    }

    /// Changes and saves the preferences. Adapter and context stay this window's until a model was opened with them.
    fn remember(&mut self, change: impl FnOnce(&mut Preferences)) {
        let mine = self.state.remembered.clone();
        let saved = self.store.remember(change);
        self.state.remembered = Preferences { device: mine.device, context: mine.context, ..saved };
    }

    fn keep(&self, id: &str) {
        if let Some(conversation) = self.state.conversations.iter().find(|c| c.id == id) {
            // Empty conversations are not saved.
            if !conversation.nodes.is_empty() {
                self.store.save(conversation);
            }
        }
    }

    fn save_current(&self) {
        self.keep(&self.state.current);
    }

    fn take_chosen(&mut self, actions: &mut Vec<Action>) {
        while let Ok(chosen) = self.chosen.1.try_recv() {
            match chosen {
                Chosen::Model(place) => actions.push(Action::Load(place)),
                Chosen::Attached(file) => self.attach(file),
                Chosen::Saved(Ok(name)) => self.toast(format!("Saved {name}"), false),
                Chosen::Saved(Err(why)) => self.toast(format!("Not saved: {why}"), true),
                Chosen::Fetching(step) => self.fetching(step),
                Chosen::Fetched(done) => self.fetched(done, actions),
                Chosen::Searched(text, found) => self.found(&text, found),
                Chosen::Fit(name, answer) => self.fit(&name, answer),
                Chosen::NoDialog(save) => self.no_dialog(save),
            }
        }
    }

    /// Performs an action.
    fn act(&mut self, ctx: &Context, action: Action) {
        match action {
            Action::New => self.new_conversation(),
            Action::Open(id) => self.open(id),
            Action::Rename(id, title) => self.rename(&id, title),
            Action::Delete(id) => self.delete(ctx, &id),
            Action::Send => {
                let text = self.state.draft.trim().to_string();
                if !text.is_empty() && !self.state.busy_here() {
                    self.state.draft.clear();
                    self.say(text);
                }
            }
            Action::Say(text) => self.say(text),
            Action::Stop => self.stop(),
            Action::StopLoading => self.link.send(Command::Stop),
            Action::Again(node) => {
                let parent = self.state.conversation().and_then(|c| c.nodes.get(node)?.parent);
                parent.into_iter().for_each(|parent| self.ask(parent));
            }
            Action::Resend(node) => self.ask(node),
            Action::Continue(node) => self.continue_answer(node),
            Action::Edit(node, text) => self.edit(node, text),
            Action::Show(node) => {
                if let Some(conversation) = self.state.conversation_mut() {
                    conversation.show(node);
                }
                self.save_current();
            }
            Action::Copy(text) => {
                ctx.copy_text(text);
                self.toast("Copied", false);
            }
            Action::Export(json) => self.export(ctx, json),
            Action::Settings(settings) => {
                if let Some(conversation) = self.state.conversation_mut() {
                    conversation.settings = *settings;
                }
                self.save_current();
            }
            Action::KeepSettings => {
                if let Some(settings) = self.state.conversation().map(|c| c.settings.clone()) {
                    self.remember(|remembered| remembered.settings = settings);
                }
                self.toast("New conversations will begin like this one", false);
            }
            Action::Load(place) => {
                self.state.dialog = None;
                self.load(place);
            }
            Action::Choose => platform::choose_model(ctx, self.chosen.0.clone()),
            Action::Find(text) => {
                let mut more = Vec::new();
                self.find(ctx, &text, &mut more);
                more.into_iter().for_each(|action| self.act(ctx, action));
            }
            Action::EndSearch => self.end_search(),
            Action::AskFit(name) => self.ask_fit(ctx, &name),
            Action::Forget(place) => self.forget(&place),
            Action::DeleteModel(place) => self.delete_model(&place),
            Action::SaveAs(path, text) => {
                self.state.dialog = None;
                let done = platform::save_at(&path, &text).map_err(|e| e.to_string());
                let _ = self.chosen.0.send(Chosen::Saved(done));
            }
            Action::Fetch(name) => self.fetch(ctx, name),
            Action::EndFetch => (self.fetch, self.state.fetching) = (None, None),
            Action::Reopen(device, context) => {
                (self.state.remembered.device, self.state.remembered.context) = (device, context);
                let place = match &self.state.engine {
                    EngineState::Ready(loaded) => loaded.place.clone(),
                    EngineState::Failed(Some(place), _) | EngineState::Loading { place, .. } => place.clone(),
                    _ => Place::BuiltIn,
                };
                self.load(place);
            }
            Action::Dialog(dialog) => self.dialog(dialog),
            Action::Panel(panel) => {
                self.state.panel = (self.state.panel != Some(panel)).then_some(panel);
            }
            Action::List if self.state.narrow => self.state.drawer = !self.state.drawer,
            Action::List => self.state.list = !self.state.list,
            Action::Measure => self.measure(),
            Action::Dark(dark) => {
                self.set_dark(ctx, dark);
                self.remember(|remembered| remembered.dark = dark);
            }
            Action::Dismiss => self.state.failed = None,
            Action::BeginEdit(node) => {
                let text = self.state.conversation().and_then(|c| c.nodes.get(node)).map(|n| n.text.clone());
                (self.state.editing, self.state.reveal) = (text.map(|text| (node, text)), Some(node));
            }
            Action::Search => {
                (self.state.list, self.state.drawer, self.state.focus_search) = (true, self.state.narrow, true);
            }
            Action::Neighbour(step) => self.neighbour(step),
            Action::SavePreset(name) => self.save_preset(&name),
            Action::UsePreset(name) => self.use_preset(ctx, &name),
            Action::RenamePreset(old, new) => self.rename_preset(&old, &new),
            Action::DeletePreset(name) => self.delete_preset(&name),
            Action::Attach => platform::choose_files(ctx, self.chosen.0.clone()),
            Action::Detach(id) => self.state.attached.retain(|attachment| attachment.id != id),
            Action::Consent(consent) => self.consent(consent),
            Action::AddServer => self.add_server(),
            Action::EditServer(name) => self.edit_server(&name),
            Action::RemoveServer(name) => self.remove_server(&name),
            Action::SwitchServer(name, on) => self.switch_server(ctx, &name, on),
            Action::SwitchTool(server, tool, on) => self.switch_tool(&server, &tool, on),
        }
    }

    fn set_dark(&self, ctx: &Context, dark: Option<bool>) {
        ctx.set_theme(match dark {
            None => egui::ThemePreference::System,
            Some(true) => egui::ThemePreference::Dark,
            Some(false) => egui::ThemePreference::Light,
        });
    }

    fn dialog(&mut self, dialog: Option<Dialog>) {
        if dialog == Some(Dialog::Models) {
            self.list_models();
            self.link.send(Command::Find);
        }
        self.state.focus |= dialog.is_none();
        self.state.dialog = dialog;
    }

    fn new_conversation(&mut self) {
        (self.state.focus, self.state.editing, self.state.drawer) = (true, None, false);
        // One empty conversation is enough.
        if let Some(empty) = self.state.conversations.iter().find(|c| c.nodes.is_empty()) {
            self.state.switch(empty.id.clone());
            return;
        }
        let now = platform::now();
        let id = format!("{now:x}-{:x}", platform::any_seed());
        let conversation = SavedConversation::new(id.clone(), now, self.state.remembered.settings.clone());
        self.state.conversations.insert(0, conversation);
        self.state.switch(id);
    }

    fn open(&mut self, id: String) {
        (self.state.focus, self.state.to_end, self.state.editing, self.state.drawer) = (true, true, None, false);
        self.state.switch(id);
        self.state.to_end = !self.state.find_next();
    }

    /// Shows the conversation that many rows below the current one in the list.
    fn neighbour(&mut self, step: isize) {
        let ids: Vec<String> = self.state.listed().iter().map(|c| c.id.clone()).collect();
        let at = ids.iter().position(|id| *id == self.state.current);
        if let Some(id) = at.and_then(|at| ids.get(at.checked_add_signed(step)?)) {
            self.open(id.clone());
        }
    }

    fn rename(&mut self, id: &str, title: String) {
        self.state.dialog = None;
        if let Some(conversation) = self.state.conversations.iter_mut().find(|c| c.id == id) {
            let title = title.trim();
            if !title.is_empty() {
                (conversation.title, conversation.named) = (title.to_string(), true);
            }
        }
        self.keep(id);
    }

    fn delete(&mut self, ctx: &Context, id: &str) {
        self.state.dialog = None;
        if self.state.answering.as_ref().is_some_and(|a| a.conversation == id) {
            self.link.send(Command::Stop);
            self.state.answering = None;
        }
        self.stop_calls(id);
        self.state.waiting.retain(|waiting| waiting.conversation != id);
        self.state.conversations.retain(|c| c.id != id);
        self.store.remove(id);
        if self.state.current == id {
            match self.state.conversations.first() {
                Some(next) => self.open(next.id.clone()),
                None => self.act(ctx, Action::New),
            }
        }
    }

    fn load(&mut self, place: Place) {
        // The open model is dropped immediately; its answer ends where it is.
        self.link.send(Command::Stop);
        let opening = Opening { device: self.state.remembered.device.clone(), context: self.state.remembered.context };
        self.state.engine = EngineState::Loading { place: place.clone(), done: 0, total: 0, since: self.state.now };
        self.link.send(Command::Load(place, opening));
    }

    fn measure(&mut self) {
        if self.state.engine.loaded().is_some() && !self.state.xray.measuring {
            self.state.xray.measuring = true;
            self.link.send(Command::Measure(self.state.xray.filled));
        }
    }

    fn export(&mut self, ctx: &Context, json: bool) {
        let Some(conversation) = self.state.conversation() else { return };
        let name: String = conversation.title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect();
        let (name, text) = match json {
            true => (format!("{}.json", name.trim()), serde_json::to_string_pretty(conversation).unwrap_or_default()),
            false => (format!("{}.md", name.trim()), store::markdown(conversation)),
        };
        platform::save_text(ctx, &name, text, self.chosen.0.clone());
    }

    /// The picker's list: built in, recent, found.
    fn list_models(&mut self) {
        let mut places = vec![(Place::BuiltIn, None)];
        places.extend(self.state.remembered.recent.iter().map(|p| (p.clone(), None)));
        for (place, bytes) in places {
            self.add_model(place, bytes);
        }
    }

    fn add_model(&mut self, place: Place, bytes: Option<u64>) {
        match self.state.models.iter_mut().find(|e| e.place == place) {
            Some(known) => known.bytes = known.bytes.or(bytes),
            None => {
                self.link.send(Command::Inspect(place.clone()));
                self.state.models.push(ModelEntry { place, bytes, facts: None });
            }
        }
    }
}

/// The window's size in points, and whether it is maximized. A maximized window keeps the size that it had before.
fn window_size(ctx: &Context) -> Option<(f32, f32, bool)> {
    ctx.input(|i| {
        let (viewport, size) = (i.viewport(), i.viewport().inner_rect?.size());
        let maximized = viewport.maximized.unwrap_or(false) || viewport.fullscreen.unwrap_or(false);
        Some((size.x, size.y, maximized))
    })
}

impl eframe::App for App {
    fn ui(&mut self, ui: &mut Ui, _frame: &mut eframe::Frame) {
        self.show(ui);
    }

    fn clear_color(&self, visuals: &egui::Visuals) -> [f32; 4] {
        theme::back(visuals).to_normalized_gamma_f32()
    }

    fn on_exit(&mut self) {
        self.link.send(Command::Stop);
        if let Some(answering) = &self.state.answering {
            self.keep(&answering.conversation);
        }
        if let Some(size) = self.size {
            self.remember(|remembered| remembered.window = Some(size));
        }
        self.flush();
    }

    #[cfg(target_arch = "wasm32")]
    fn as_any_mut(&mut self) -> Option<&mut dyn std::any::Any> {
        Some(self)
    }
}
