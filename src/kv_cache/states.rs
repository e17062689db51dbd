//! The state slots of recurrent layers ([`crate::graph::TensorKind::State`]): for each of a sequence's two slots, the
//! number of tokens that its state has seen. States are never copied.

use crate::ops::PAGE;

/// A sequence's two state slots. A state cannot be truncated to fewer tokens as keys and values can, so the one at the
/// checkpoint of the prompt is kept, and steps continue from it into the other slot.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StateSlots {
    /// The slot that steps write, 0 or 1.
    live: usize,
    /// Tokens that its state has seen; `None` if it holds none.
    live_at: Option<usize>,
    /// Tokens that the other slot's state has seen.
    kept_at: Option<usize>,
}

/// The slots of one step of a sequence, each 0 or 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateStep {
    /// The slot that is read; `None` at the beginning of the sequence.
    pub reads: Option<usize>,
    /// The slot that is written.
    pub writes: usize,
}

/// Tokens at a prompt's end that the next prompt may not have: those that a template adds after the last message.
const TAIL: usize = 8;

/// The length at which the state and window of a prompt of `len` tokens are kept: whole pages; 0 for a short prompt.
pub fn checkpoint(len: usize) -> usize {
    len.saturating_sub(1 + TAIL) / PAGE as usize * PAGE as usize
}

impl StateSlots {
    /// The longest prefix of at most `len` tokens whose state is there.
    pub fn resumable(&self, len: usize) -> usize {
        [self.live_at, self.kept_at].into_iter().flatten().filter(|at| *at <= len).max().unwrap_or(0)
    }

    /// Drops states that have seen more than `len` tokens.
    pub fn truncate(&mut self, len: usize) {
        for at in [&mut self.live_at, &mut self.kept_at] {
            *at = at.filter(|at| *at <= len);
        }
    }

    /// The slots of a step over the positions from `start` to `end`.
    pub fn step(&mut self, start: usize, end: usize) -> StateStep {
        let kept = self.kept_at == Some(start) && self.live_at != Some(start);
        let reads = if kept { 1 - self.live } else { self.live };
        self.live_at = Some(end);
        StateStep { reads: (start > 0).then_some(reads), writes: self.live }
    }

    /// Keeps the state that the last step wrote.
    pub fn keep(&mut self) {
        (self.live, self.kept_at, self.live_at) = (1 - self.live, self.live_at, None);
    }
}

#[cfg(test)]
mod tests {
    use super::super::CachedSequence;
    use super::super::pages::{PagePool, PagePools};
    use super::*;

    #[test]
    fn a_kept_state_is_resumed() {
        let mut sequence = CachedSequence { states: Some(StateSlots::default()), ..Default::default() };
        let step = |s: &mut CachedSequence, start, end| s.states.as_mut().map(|states| states.step(start, end));
        let slots = |reads, writes| Some(StateStep { reads, writes });
        assert_eq!([10, 41, 42, 73, 74].map(checkpoint), [0, 32, 32, 64, 64]);
        let mut pools = PagePools { full: PagePool::new(4), sliding: PagePool::new(0) };
        assert!(sequence.reserve(0..62, &mut pools).is_some());
        // A prompt of 42 tokens and an answer of 20.
        assert_eq!(step(&mut sequence, 0, 32), slots(None, 0));
        sequence.states.as_mut().expect("states").keep();
        assert_eq!(step(&mut sequence, 32, 42), slots(Some(0), 1));
        assert_eq!(step(&mut sequence, 42, 62), slots(Some(1), 1));
        (sequence.tokens, sequence.len) = (vec![7; 62], 62);
        // The next prompt begins with all of it, with less, with too little.
        assert_eq!([62, 61, 32, 31].map(|n| sequence.match_prefix(&[7; 62][..n])), [62, 32, 32, 0]);
        sequence.truncate(50, &mut pools);
        assert_eq!((sequence.len, sequence.tokens.len()), (32, 32));
        // Resumed twice, the kept state stays as it is.
        assert_eq!(step(&mut sequence, 32, 40), slots(Some(0), 1));
        (sequence.tokens, sequence.len) = (vec![7; 40], 40);
        sequence.truncate(39, &mut pools);
        assert_eq!(step(&mut sequence, 32, 64), slots(Some(0), 1));
        sequence.states.as_mut().expect("states").keep();
        assert_eq!(step(&mut sequence, 64, 65), slots(Some(1), 0));
    }
}
