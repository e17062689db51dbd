//! Counts words of a conversation that its prompt lacks, because templates silently drop what they do not expect.

use std::collections::HashSet;

use serde_json::Value;

use super::TemplateInput;

/// The words of a conversation, without reasoning: templates drop that of earlier turns on purpose.
pub(super) struct ConversationWords(Vec<String>);

impl ConversationWords {
    pub fn of(input: &TemplateInput) -> Self {
        let mut words = Vec::new();
        for message in &input.messages {
            for text in texts_of(&message["content"]) {
                add(text.rsplit("</think>").next().unwrap_or_default(), &mut words);
            }
            for call in message["tool_calls"].as_array().into_iter().flatten() {
                texts(&call["function"], &mut |text| add(text, &mut words));
            }
        }
        for tool in input.tools.iter().flatten() {
            add(tool["function"]["name"].as_str().unwrap_or_default(), &mut words);
        }
        ConversationWords(words)
    }

    /// Number of words that a prompt lacks.
    pub fn lost(&self, prompt: &str) -> usize {
        // Escaped line ends in JSON are not letters of the next word.
        let prompt = ["\\n", "\\r", "\\t"].iter().fold(prompt.to_owned(), |prompt, end| prompt.replace(end, " "));
        let there: HashSet<&str> = split(&prompt).collect();
        let shown = |word: &str| there.contains(word) || prompt.contains(word);
        self.0.iter().filter(|word| !shown(word)).count()
    }
}

/// The text of a content, or the texts of its parts.
fn texts_of(content: &Value) -> Vec<&str> {
    let parts = content.as_array().into_iter().flatten().filter_map(|part| part["text"].as_str());
    content.as_str().into_iter().chain(parts).collect()
}

fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

fn add(text: &str, words: &mut Vec<String>) {
    // As in the prompt.
    let text = ["\\n", "\\r", "\\t"].iter().fold(text.to_owned(), |text, end| text.replace(end, " "));
    words.extend(split(&text).map(str::to_owned));
}

/// Visits all strings in a value, without keys.
fn texts(value: &Value, found: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => match serde_json::from_str(text) {
            // Arguments as text.
            Ok(inner @ Value::Object(_)) => texts(&inner, found),
            _ => found(text),
        },
        Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
        Value::Object(map) => map.values().for_each(|item| texts(item, found)),
        _ => {}
    }
}
