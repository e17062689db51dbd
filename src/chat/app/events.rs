//! Applies the engine's events to the state.

use egui::Context;

use super::App;
use crate::chat::protocol::{Command, EngineEvent, EngineFailure, Place, Remedy};
use crate::chat::state::{EngineState, Panel, PendingAnswer, TokenAlternatives, XRay};
use crate::chat::store;
use crate::chat::tools::SavedToolCall;
use crate::conversation::AnswerEvent;
use crate::session::{FinishReason, Timings};

/// The number of recent models that are saved.
const RECENT: usize = 8;
/// The number of tokens over which the speed is averaged.
const WINDOW: usize = 8;

impl App {
    pub(super) fn drain(&mut self, ctx: &Context) {
        while let Some(event) = self.link.poll() {
            self.take(ctx, event);
        }
        self.answer_next();
    }

    pub(super) fn take(&mut self, ctx: &Context, event: EngineEvent) {
        match event {
            EngineEvent::Devices(devices) => self.state.devices = devices,
            EngineEvent::Found(found) => {
                found.into_iter().for_each(|(place, bytes)| self.add_model(place, Some(bytes)))
            }
            EngineEvent::Inspected(place, facts) => {
                if let Some(entry) = self.state.models.iter_mut().find(|e| e.place == place) {
                    entry.facts = Some(facts);
                }
            }
            EngineEvent::Loading(at, done, total) => self.loading(at, done, total),
            EngineEvent::Loaded(loaded) => {
                let place = loaded.place.clone();
                let (device, context) = (self.state.remembered.device.clone(), self.state.remembered.context);
                self.remember(|remembered| {
                    (remembered.device, remembered.context) = (device, context);
                    remembered.recent.retain(|p| *p != place);
                    remembered.recent.insert(0, place);
                    remembered.recent.truncate(RECENT);
                });
                self.state.engine = EngineState::Ready(loaded);
                self.state.xray = XRay::default();
                self.list_models();
            }
            EngineEvent::LoadFailed(place, why) => {
                let current = matches!(&self.state.engine, EngineState::Loading { place: p, .. } if *p == place);
                if current {
                    self.state.engine = EngineState::Failed(Some(place), why);
                }
            }
            EngineEvent::Counted(id, tokens) => self.counted(id, tokens),
            EngineEvent::Started { id, prompt, thinking } => {
                if let Some(answering) = self.state.answering.as_mut().filter(|a| a.id == id) {
                    (answering.prompt, answering.opened) = (prompt, thinking);
                }
                // The template's opening marker belongs to the answer: later readers expect it there.
                if thinking {
                    self.append(id, "<think>\n");
                }
            }
            EngineEvent::Read(id, tokens) => {
                if let Some(answering) = self.state.answering.as_mut().filter(|a| a.id == id) {
                    answering.read = tokens;
                }
            }
            EngineEvent::Answer(id, event, seconds) => self.answer_event(id, event, seconds),
            EngineEvent::AnswerFailed(id, why) => self.answer_failed(id, why),
            EngineEvent::Measured(ops) => (self.state.xray.ops, self.state.xray.measuring) = (Some(Ok(ops)), false),
            EngineEvent::MeasureFailed(why) => {
                (self.state.xray.ops, self.state.xray.measuring) = (Some(Err(why)), false)
            }
            EngineEvent::Lost(why) => self.lost(why),
            EngineEvent::Crashed(why) => {
                let why = format!("The engine stopped: {why}");
                if let Some(answering) = &self.state.answering {
                    self.answer_failed(answering.id, EngineFailure::new(&why, Remedy::None));
                }
                self.lost(why);
                self.link = (self.start)(ctx);
                self.link.send(Command::Devices);
            }
        }
    }

    pub(super) fn loading(&mut self, at: Place, done: u64, total: u64) {
        let now = self.state.now;
        if let EngineState::Loading { place, done: old, total: of, since } = &mut self.state.engine
            && *place == at
        {
            if *of == 0 && total > 0 {
                *since = now;
            }
            (*old, *of) = (done, total);
        }
    }

    pub(super) fn lost(&mut self, why: String) {
        let place = self.state.engine.loaded().map(|l| l.place.clone());
        self.state.engine = EngineState::Failed(place, EngineFailure::new(why, Remedy::SmallerContext));
    }

    /// The message to which an answer's events belong.
    pub(super) fn node(&mut self, id: u64) -> Option<&mut store::MessageNode> {
        let answering = self.state.answering.as_ref().filter(|a| a.id == id)?;
        let conversation = self.state.conversations.iter_mut().find(|c| c.id == answering.conversation)?;
        conversation.nodes.get_mut(answering.node)
    }

    pub(super) fn append(&mut self, id: u64, text: &str) {
        let Some(node) = self.node(id) else { return };
        let thought = crate::chat::text::split(&node.text, false).thinking;
        node.text.push_str(text);
        let ended = thought && !crate::chat::text::split(&node.text, false).thinking;
        if let (true, Some(first)) = (ended, self.state.answering.as_ref().and_then(|a| a.first)) {
            let seconds = self.state.now - first;
            if let Some(stats) = self.node(id).and_then(|n| n.stats.as_mut()) {
                stats.thinking = Some(seconds);
            }
        }
    }

    fn answer_event(&mut self, id: u64, event: AnswerEvent, seconds: f64) {
        match event {
            AnswerEvent::Content(text) => self.append(id, &text),
            AnswerEvent::ToolCall { id: call, name } => {
                if let Some(node) = self.node(id) {
                    node.calls.push(SavedToolCall { id: call, name, ..SavedToolCall::default() });
                }
            }
            AnswerEvent::Arguments(text) => {
                if let Some(call) = self.node(id).and_then(|node| node.calls.last_mut()) {
                    call.arguments += &text;
                }
            }
            AnswerEvent::Token { token, top } => {
                self.token(id, TokenAlternatives::new(&token, top.as_deref(), seconds))
            }
            AnswerEvent::Finished(end) => self.finished(id, end.reason, end.timings),
            _ => {}
        }
    }

    pub(super) fn token(&mut self, id: u64, token: TokenAlternatives) {
        let now = self.state.now;
        let Some(answering) = self.state.answering.as_mut().filter(|a| a.id == id) else { return };
        answering.first.get_or_insert(now);
        answering.tokens += 1;
        self.state.xray.filled = answering.prompt + answering.tokens;
        self.seconds.push(token.seconds);
        if let Some(before) = self.seconds.len().checked_sub(WINDOW + 1) {
            let rate = WINDOW as f64 / (token.seconds - self.seconds[before]).max(1e-6);
            self.state.xray.rates.push([self.state.xray.filled as f64, rate]);
        }
        if !token.top.is_empty() {
            self.state.xray.tokens.push(token);
        }
    }

    pub(super) fn finished(&mut self, id: u64, reason: FinishReason, timings: Timings) {
        if let Some(stats) = self.node(id).and_then(|n| n.stats.as_mut()) {
            (stats.finish, stats.timings) = (Some(reason), timings);
        }
        let called = self.state.answering.clone().filter(|a| a.id == id);
        self.end_answer(id);
        if let Some(PendingAnswer { conversation, node, .. }) = called {
            self.run_tools(&conversation, node);
        }
        if self.state.panel == Some(Panel::XRay) {
            self.measure();
        }
    }

    pub(super) fn answer_failed(&mut self, id: u64, why: EngineFailure) {
        let Some(answering) = self.state.answering.clone().filter(|a| a.id == id) else { return };
        if let Some(node) = self.node(id) {
            let nothing = node.text.is_empty() && node.calls.is_empty();
            if let Some(stats) = &mut node.stats {
                stats.finish = Some(FinishReason::Cancelled);
            }
            let conversation = self.state.conversations.iter_mut().find(|c| c.id == answering.conversation);
            // An empty answer is removed: the user can ask for another one.
            if let (true, Some(conversation)) = (nothing, conversation)
                && answering.node + 1 == conversation.nodes.len()
            {
                conversation.leaf = conversation.nodes[answering.node].parent;
                conversation.nodes.pop();
            }
        }
        self.state.failed = Some((answering.conversation.clone(), why));
        self.end_answer(id);
    }

    pub(super) fn end_answer(&mut self, id: u64) {
        if let Some(answering) = self.state.answering.take_if(|a| a.id == id) {
            self.keep(&answering.conversation);
        }
    }
}
