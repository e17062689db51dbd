//! Turns a session's events into the events of an answer.

use super::{AnswerEnd, AnswerEvent, AnswerToken, OutputParser};
use crate::session::Event;
use crate::tokenizer::Tokenizer;

/// Reads the events of one request.
#[derive(Clone, Debug)]
pub struct AnswerReader {
    /// `None` after the end.
    parser: Option<OutputParser>,
    /// Tokens whose text has not been emitted.
    held_tokens: usize,
    reasoning_tokens: usize,
    tool_calls: bool,
}

impl AnswerReader {
    /// A reader whose answer `parser` parses.
    pub fn new(parser: OutputParser) -> Self {
        AnswerReader { parser: Some(parser), held_tokens: 0, reasoning_tokens: 0, tool_calls: false }
    }

    /// The events of the text that the template put at the end of the prompt. If that text opens a reasoning block,
    /// there are none: the parser already starts within the reasoning.
    pub fn prefill(&mut self, text: &str) -> Vec<AnswerEvent> {
        match &self.parser {
            Some(parser) if parser.is_reasoning() => Vec::new(),
            _ => self.text(text),
        }
    }

    /// The answer's events that result from an event of the session.
    pub fn read(&mut self, event: Event, tokenizer: &Tokenizer) -> Vec<AnswerEvent> {
        let named = |(id, logprob)| AnswerToken { id, bytes: tokenizer.bytes(id, true), logprob };
        match event {
            Event::Begun { reused_tokens } => vec![AnswerEvent::Started { reused_tokens }],
            Event::Text(text) => self.text(&text),
            Event::Token { id, logprobs } => {
                self.held_tokens += 1;
                let logprob = logprobs.as_ref().map_or(0.0, |logprobs| logprobs.logprob);
                let top = logprobs.map(|logprobs| logprobs.top.into_iter().map(named).collect());
                vec![AnswerEvent::Token { token: named((id, logprob)), top }]
            }
            Event::Finished { reason, timings } => {
                let rest = self.parser.take().map(OutputParser::finish).unwrap_or_default();
                let mut events = self.count(rest);
                let (reasoning_tokens, tool_calls) = (self.reasoning_tokens, self.tool_calls);
                events.push(AnswerEvent::Finished(AnswerEnd { reason, tool_calls, reasoning_tokens, timings }));
                events
            }
            _ => Vec::new(),
        }
    }

    fn text(&mut self, text: &str) -> Vec<AnswerEvent> {
        let events = self.parser.as_mut().map(|parser| parser.push(text)).unwrap_or_default();
        self.count(events)
    }

    /// Tokens count as reasoning if the text that they complete begins with reasoning.
    fn count(&mut self, events: Vec<AnswerEvent>) -> Vec<AnswerEvent> {
        if let Some(first) = events.first() {
            let tokens = std::mem::take(&mut self.held_tokens);
            self.reasoning_tokens += if matches!(first, AnswerEvent::Reasoning(_)) { tokens } else { 0 };
        }
        self.tool_calls |= events.contains(&AnswerEvent::ToolCallEnd { complete: true });
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversation::ToolFormat;

    /// The reasoning tokens of an answer whose tokens complete these pieces of text.
    fn reasoning_tokens(in_reasoning: bool, pieces: &[(&str, usize)]) -> usize {
        let mut reader = AnswerReader::new(OutputParser::new(ToolFormat::Chat, in_reasoning));
        for (text, tokens) in pieces {
            reader.held_tokens += tokens;
            reader.text(text);
        }
        let rest = reader.parser.take().map(OutputParser::finish).unwrap_or_default();
        reader.count(rest);
        reader.reasoning_tokens
    }

    #[test]
    fn reasoning_tokens_are_counted() {
        let answer = [("Hm, that", 30), (" is", 1), ("</think>", 1), ("Good", 2), (" day.", 1)];
        let counted = reasoning_tokens(true, &answer);
        assert!([31, 32].contains(&counted), "{counted}");
        let counted = reasoning_tokens(false, &[&[("<think>", 1)], &answer[..]].concat());
        assert!([31, 32, 33].contains(&counted), "{counted}");
        assert_eq!(reasoning_tokens(false, &[("Good", 2)]), 0);
    }
}
