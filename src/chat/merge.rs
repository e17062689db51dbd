//! Joins two versions of a conversation that two windows changed, so that no message is lost.
//!
//! Messages are only ever added, and their text only grows: a message of both versions has the same parent, author and
//! time, and one text begins with the other.

use super::store::{MessageNode, Role, SavedConversation};

/// [`super::platform::Combine`] for conversations: ours, with the messages that only the saved version has.
pub fn texts(kept: &str, ours: String) -> String {
    let (Some(kept), Some(mut mine)) = (SavedConversation::parse(kept), SavedConversation::parse(&ours)) else {
        return ours;
    };
    match mine.merge(&kept) {
        true => serde_json::to_string(&mine).unwrap_or(ours),
        false => ours,
    }
}

impl SavedConversation {
    /// Adds the messages of another version. The visible path goes on to the other's end if it leads there. Returns
    /// whether anything changed.
    pub fn merge(&mut self, other: &SavedConversation) -> bool {
        let before = (self.leaf, self.nodes.len());
        let (mut grown, mut places) = (false, Vec::with_capacity(other.nodes.len()));
        for (i, node) in other.nodes.iter().enumerate() {
            let parent = match node.parent {
                // Its parent was left out.
                Some(parent) if places[parent] == usize::MAX => {
                    places.push(usize::MAX);
                    continue;
                }
                parent => parent.map(|parent| places[parent]),
            };
            match self.nodes.iter().position(|mine| mine.parent == parent && same(mine, node)) {
                Some(at) => {
                    grown |= self.grow(at, node);
                    places.push(at);
                }
                None if is_void(other, i) => places.push(usize::MAX),
                None => {
                    self.nodes.push(MessageNode { parent, ..node.clone() });
                    places.push(self.nodes.len() - 1);
                }
            }
        }
        let end = other.leaf.map(|leaf| places[leaf]).filter(|leaf| *leaf != usize::MAX);
        if let Some(end) = end
            && self.leaf.is_none_or(|leaf| self.ancestors(end).any(|node| node == leaf))
        {
            self.leaf = Some(end);
        }
        if other.changed > self.changed {
            (self.changed, self.named) = (other.changed, other.named);
            self.title.clone_from(&other.title);
            self.settings.clone_from(&other.settings);
            return true;
        }
        grown || before != (self.leaf, self.nodes.len())
    }

    /// Takes the longer text of two versions of a message, with its numbers.
    fn grow(&mut self, at: usize, node: &MessageNode) -> bool {
        let mine = &mut self.nodes[at];
        let ended = |node: &MessageNode| node.stats.as_ref().is_some_and(|stats| stats.finish.is_some());
        let longer = node.text.len() > mine.text.len() || node.text == mine.text && ended(node) && !ended(mine);
        if longer {
            mine.text.clone_from(&node.text);
            mine.stats.clone_from(&node.stats);
        }
        // Calls and their results are only added, too.
        let steps =
            |node: &MessageNode| node.calls.iter().map(|call| 1 + usize::from(call.result.is_some())).sum::<usize>();
        let called = steps(node) > steps(mine);
        if called {
            mine.calls.clone_from(&node.calls);
        }
        longer || called
    }

    /// A message and those before it, last to first.
    fn ancestors(&self, node: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(node), |node| self.nodes[*node].parent)
    }
}

fn same(a: &MessageNode, b: &MessageNode) -> bool {
    (a.role, a.time) == (b.role, b.time) && (a.text.starts_with(&b.text) || b.text.starts_with(&a.text))
}

/// Whether a message holds nothing: an answer that failed before its first token, and was taken back.
fn is_void(conversation: &SavedConversation, node: usize) -> bool {
    let message = &conversation.nodes[node];
    message.role == Role::Assistant
        && message.text.is_empty()
        && message.calls.is_empty()
        && conversation.nodes.iter().all(|other| other.parent != Some(node))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared() -> SavedConversation {
        let mut it = SavedConversation::new("1".into(), 1, Default::default());
        let question = it.add(None, Role::User, "Hello".into(), 1);
        it.add(Some(question), Role::Assistant, "Hi".into(), 2);
        it
    }

    fn say(it: &mut SavedConversation, text: &str, time: u64) -> usize {
        it.add(it.leaf, Role::User, text.into(), time)
    }

    fn shown(it: &SavedConversation) -> Vec<&str> {
        it.path().iter().map(|node| it.nodes[*node].text.as_str()).collect()
    }

    #[test]
    fn both_windows_messages_are_kept() {
        let (mut one, mut two) = (shared(), shared());
        say(&mut one, "France?", 10);
        let leaf = one.leaf;
        one.add(leaf, Role::Assistant, "Paris.".into(), 11);
        say(&mut two, "2+2?", 12);
        let mut merged = two.clone();
        assert!(merged.merge(&one));
        assert_eq!(merged.nodes.len(), 5);
        assert_eq!(shown(&merged), ["Hello", "Hi", "2+2?"]);
        // Merging again changes nothing, in either direction.
        let again = merged.clone();
        assert!(!merged.merge(&one) && merged == again);
        assert!(one.merge(&merged));
        assert_eq!(one.nodes.len(), 5);
        // A window that did nothing goes on to what the other one added.
        let mut three = shared();
        assert!(three.merge(&two));
        assert_eq!(shown(&three), ["Hello", "Hi", "2+2?"]);
    }

    #[test]
    fn a_growing_answer_is_one_message_and_an_abandoned_one_is_none() {
        let (mut one, mut two) = (shared(), shared());
        one.nodes[1].text = "Hi, how are you?".into();
        assert!(two.merge(&one));
        assert_eq!(shown(&two), ["Hello", "Hi, how are you?"]);
        two.merge(&shared());
        assert_eq!(shown(&two), ["Hello", "Hi, how are you?"]);
        one.add(Some(0), Role::Assistant, String::new(), 20);
        two.merge(&one);
        assert_eq!(two.nodes.len(), 2);
        let text = |it: &SavedConversation| serde_json::to_string(it).expect("JSON");
        assert_eq!(texts("broken", text(&two)), text(&two));
    }
}
