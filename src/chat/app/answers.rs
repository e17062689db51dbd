//! Messages and answers: send, edit, answer again, continue and stop.

use super::App;
use crate::chat::platform;
use crate::chat::protocol::{Ask, Command};
use crate::chat::state::{Panel, PendingAnswer};
use crate::chat::store::{Role, Stats};
use crate::chat::view;

impl App {
    /// Adds the user's message and requests an answer.
    pub(super) fn say(&mut self, text: String) {
        let time = self.state.time;
        let Some(conversation) = self.state.conversation_mut() else { return };
        let node = conversation.add(conversation.leaf, Role::User, text, time);
        self.ask(Some(node));
    }

    pub(super) fn edit(&mut self, node: usize, text: String) {
        self.state.editing = None;
        let time = self.state.time;
        let Some(conversation) = self.state.conversation_mut() else { return };
        let Some(old) = conversation.nodes.get(node) else { return };
        let (parent, role, stats) = (old.parent, old.role, old.stats.clone());
        let new = conversation.add(parent, role, text, time);
        conversation.nodes[new].stats = stats;
        match role {
            Role::User => self.ask(Some(new)),
            Role::Assistant => self.save_current(),
        }
    }

    /// Requests an answer to a user message.
    pub(super) fn ask(&mut self, parent: Option<usize>) {
        let Some(parent) = parent else { return };
        if self.state.answering.is_some() {
            return;
        }
        (self.state.to_end, self.state.failed) = (true, None);
        let current = self.state.current.clone();
        let Some(loaded) = self.state.engine.loaded() else {
            // It is answered once a model is loaded.
            if let Some(conversation) = self.state.conversation_mut() {
                conversation.show(parent);
                conversation.leaf = Some(parent);
            }
            self.state.waiting = Some(current);
            self.save_current();
            return;
        };
        let stats = Stats { model: loaded.facts.name.clone(), context: loaded.context, ..Stats::default() };
        let time = self.state.time;
        let Some(conversation) = self.state.conversation_mut() else { return };
        let node = conversation.add(Some(parent), Role::Assistant, String::new(), time);
        conversation.nodes[node].stats = Some(stats);
        self.request(node, String::new());
    }

    pub(super) fn continue_answer(&mut self, node: usize) {
        if self.state.answering.is_some() || self.state.engine.loaded().is_none() {
            return;
        }
        let Some(conversation) = self.state.conversation_mut() else { return };
        let begun = conversation.nodes[node].text.clone();
        if let Some(stats) = &mut conversation.nodes[node].stats {
            stats.finish = None;
        }
        self.state.failed = None;
        self.request(node, begun);
    }

    /// Sends the request whose answer goes to `node`.
    pub(super) fn request(&mut self, node: usize, begun: String) {
        self.answers += 1;
        let (id, probabilities) = (self.answers, self.state.panel == Some(Panel::XRay));
        let Some(conversation) = self.state.conversation_mut() else { return };
        let settings = conversation.settings.clone();
        let mut sampling = settings.sampling;
        if !settings.fixed_seed {
            sampling.seed = platform::any_seed();
        }
        if let Some(stats) = &mut conversation.nodes[node].stats {
            stats.seed = sampling.seed;
        }
        let ask = Ask {
            id,
            messages: conversation.messages(conversation.nodes[node].parent),
            begun,
            sampling,
            max_tokens: (settings.max_tokens > 0).then_some(settings.max_tokens),
            probabilities,
            date: Some(view::date(conversation.changed)),
        };
        let conversation = conversation.id.clone();
        self.seconds.clear();
        (self.state.xray.rates, self.state.xray.tokens) = (Vec::new(), Vec::new());
        let now = self.state.now;
        self.state.answering = Some(PendingAnswer {
            id,
            conversation,
            node,
            since: now,
            first: None,
            prompt: 0,
            tokens: 0,
            opened: false,
            stopping: false,
            kept: now,
        });
        self.link.send(Command::Answer(ask));
        self.save_current();
    }

    pub(super) fn stop(&mut self) {
        self.state.waiting = None;
        if let Some(answering) = &mut self.state.answering {
            answering.stopping = true;
        }
        self.link.send(Command::Stop);
    }
}
