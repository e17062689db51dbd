//! Messages and answers: send, edit, answer again, continue and stop. One conversation is answered at a time; others
//! wait for their turn.

use super::App;
use crate::chat::platform;
use crate::chat::protocol::{Ask, Command};
use crate::chat::state::{Panel, PendingAnswer, Waiting};
use crate::chat::store::{Role, Stats};
use crate::chat::tools::OfferedTool;
use crate::chat::view;

impl App {
    /// Adds the user's message and requests an answer.
    pub(super) fn say(&mut self, text: String) {
        let time = self.state.time;
        let files = self.take_attached();
        let Some(conversation) = self.state.conversation_mut() else { return };
        let node = conversation.add(conversation.leaf, Role::User, text, time);
        conversation.nodes[node].files = files;
        self.ask(node);
    }

    pub(super) fn edit(&mut self, node: usize, text: String) {
        self.state.editing = None;
        let time = self.state.time;
        let Some(conversation) = self.state.conversation_mut() else { return };
        let Some(old) = conversation.nodes.get(node) else { return };
        let (parent, role, stats, files) = (old.parent, old.role, old.stats.clone(), old.files.clone());
        let new = conversation.add(parent, role, text, time);
        (conversation.nodes[new].stats, conversation.nodes[new].files) = (stats, files);
        match role {
            Role::User => self.ask(new),
            Role::Assistant => self.save_current(),
        }
    }

    /// Continues an answer: its calls that have not run, or else its text.
    pub(super) fn continue_answer(&mut self, node: usize) {
        let Some(conversation) = self.state.conversation() else { return };
        let calls = conversation.nodes.get(node).map(|node| node.calls.as_slice()).unwrap_or_default();
        match calls.iter().any(|call| call.result.is_none()) {
            true => self.next_call(&conversation.id.clone(), node),
            false => self.ask(node),
        }
    }

    /// Queues the answer to a user's message of the current conversation, or the rest of an answer.
    pub(super) fn ask(&mut self, node: usize) {
        self.stop_calls(&self.state.current.clone());
        let Some(conversation) = self.state.conversation_mut().filter(|c| node < c.nodes.len()) else { return };
        conversation.leaf = Some(node);
        let waiting = Waiting { conversation: conversation.id.clone(), node };
        self.state.waiting.retain(|w| w.conversation != waiting.conversation);
        self.state.waiting.push(waiting);
        (self.state.to_end, self.state.failed) = (true, None);
        self.save_current();
        self.answer_next();
    }

    /// Starts the next answer that waits, if the engine is free.
    pub(super) fn answer_next(&mut self) {
        if self.state.answering.is_some() || self.state.waiting.is_empty() {
            return;
        }
        let Some(loaded) = self.state.engine.loaded() else { return };
        let stats = Stats { model: loaded.facts.name.clone(), context: loaded.context, ..Stats::default() };
        let Waiting { conversation: id, node } = self.state.waiting.remove(0);
        let time = self.state.time;
        let Some(conversation) = self.state.conversations.iter_mut().find(|c| c.id == id) else { return };
        let begun = &conversation.nodes[node];
        // What follows calls is a new message.
        if begun.role == Role::User || !begun.calls.is_empty() {
            let visible = conversation.leaf == Some(node);
            let (leaf, answer) =
                (conversation.leaf, conversation.add(Some(node), Role::Assistant, String::new(), time));
            if !visible {
                conversation.leaf = leaf;
            }
            conversation.nodes[answer].stats = Some(stats);
            self.request(&id, answer, String::new());
        } else {
            let begun = begun.text.clone();
            if let Some(stats) = &mut conversation.nodes[node].stats {
                stats.finish = None;
            }
            self.request(&id, node, begun);
        }
    }

    /// Sends the request whose answer goes to `node`.
    fn request(&mut self, id: &str, node: usize, begun: String) {
        let probabilities = self.state.panel == Some(Panel::XRay);
        let tools = self.offered_tools().iter().map(OfferedTool::function).collect();
        let Some(conversation) = self.state.conversations.iter_mut().find(|c| c.id == id) else { return };
        self.answers += 1;
        let settings = conversation.settings.clone();
        let mut sampling = settings.sampling;
        if !settings.fixed_seed {
            sampling.seed = platform::any_seed();
        }
        if let Some(stats) = &mut conversation.nodes[node].stats {
            stats.seed = sampling.seed;
        }
        let ask = Ask {
            id: self.answers,
            messages: conversation.messages(conversation.nodes[node].parent),
            tools,
            begun,
            sampling,
            max_tokens: (settings.max_tokens > 0).then_some(settings.max_tokens),
            probabilities,
            date: Some(view::format::date(conversation.changed)),
        };
        self.seconds.clear();
        (self.state.xray.rates, self.state.xray.tokens) = (Vec::new(), Vec::new());
        let now = self.state.now;
        self.state.answering = Some(PendingAnswer {
            id: self.answers,
            conversation: id.to_string(),
            node,
            since: now,
            first: None,
            prompt: 0,
            read: 0,
            tokens: 0,
            opened: false,
            stopping: false,
            kept: now,
        });
        self.link.send(Command::Answer(ask));
        self.keep(id);
    }

    /// Stops the answer in the current conversation, or takes back the message that waits for one.
    pub(super) fn stop(&mut self) {
        let current = &self.state.current;
        self.state.waiting.retain(|waiting| waiting.conversation != *current);
        if let Some(answering) = self.state.answering.as_mut().filter(|a| a.conversation == *current) {
            answering.stopping = true;
            self.link.send(Command::Stop);
        }
        self.stop_calls(&self.state.current.clone());
    }
}
